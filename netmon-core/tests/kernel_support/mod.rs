//! What the kernel tests of this crate share: a measurement between two readings of the kernel's own counters.

use std::time::Duration;

use netmon_core::{Control, Monitor, Rate, RateRequest, RatesAnswer, fact::Direction, request::HookChoice};
use netmon_testkit::{Side, VethPair, kernel_is_since};

/// What counts packets unless another hook is asked for: tcx, or clsact before Linux 6.6.
#[allow(dead_code, reason = "not in every program of tests")]
pub(crate) fn preferred() -> HookChoice {
    here([HookChoice::Tcx, HookChoice::Clsact])[0]
}

/// Those of these hooks that the kernel has.
#[allow(dead_code, reason = "not in every program of tests")]
pub(crate) fn here(hooks: impl IntoIterator<Item = HookChoice>) -> Vec<HookChoice> {
    hooks.into_iter().filter(|hook| *hook != HookChoice::Tcx || kernel_is_since(6, 6)).collect()
}

/// The shortest window on the near side's interface, in both directions. What is sent in it may take longer: the window
/// ends after that.
pub(crate) fn request(hook: HookChoice) -> RateRequest {
    let mut request = RateRequest::default();
    request.interfaces = vec![Side::INTERFACE.to_owned()];
    request.window = Duration::from_millis(100);
    request.hook = hook;
    request
}

/// Measures the near side while `traffic` runs. The link is quiet before and after, so every row must equal the kernel's
/// own counters to the packet and the byte, the hook must have seen exactly as many packets, and its classes must add up.
#[track_caller]
pub(crate) fn measure(link: &VethPair, request: &RateRequest, traffic: impl FnOnce() + Send) -> RatesAnswer {
    link.settle();
    let before = link.near.counters();
    let answer = link.near.netns.enter(|| {
        let monitor = Monitor::live().unwrap();
        let mut watch = monitor.watch_rates(request).unwrap();
        traffic();
        link.settle();
        watch.next_window(&Control::default()).unwrap()
    });
    let kernel = link.near.counters().since(&before);
    for rate in &answer.rates {
        let expected = match rate.direction {
            Direction::Incoming => (kernel.rx_packets, kernel.rx_bytes),
            Direction::Outgoing => (kernel.tx_packets, kernel.tx_bytes),
        };
        assert_eq!((rate.packets, rate.interface_bytes), expected, "{rate:?}");
        if let (Some(hook), Some(classes)) = (&rate.hook, &rate.by_protocol) {
            assert_eq!(hook.packets_difference, 0, "{rate:?}");
            let sum: u64 = classes.iter().map(|(_, class)| class.counted.packets).sum();
            assert_eq!(sum, hook.total.packets, "{rate:?}");
        }
    }
    answer
}

/// The row of a direction.
#[track_caller]
pub(crate) fn row(answer: &RatesAnswer, direction: Direction) -> &Rate {
    let row = answer.rates.iter().find(|rate| rate.direction == direction);
    row.unwrap_or_else(|| panic!("no row of what is {direction}: {answer:?}"))
}

/// The classes that had packets, and how many.
#[track_caller]
pub(crate) fn classes(answer: &RatesAnswer, direction: Direction) -> Vec<(&'static str, u64)> {
    let rate = row(answer, direction);
    let classes = rate.by_protocol.as_ref();
    let classes = classes.unwrap_or_else(|| panic!("not counted by protocol: {:?}", answer.header.coverage));
    let seen = classes.iter().map(|(name, class)| (name, class.counted.packets));
    seen.filter(|(_, packets)| *packets > 0).collect()
}
