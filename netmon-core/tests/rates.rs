//! Rates from scripted snapshots: what happens to interfaces in a window, and what the answer says of it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use netmon_core::{
    Answer as _, Cancel, Control, Error, MissingHook, Monitor, RateRequest, Result, Source,
    fact::{
        ByProtocol, Direction, Hook, HookCounters, InterfaceFact, InterfaceSnapshot, InterfaceState, Layer,
        Moment, TrafficCounters,
    },
    monitor::{InterfaceChange, SelectedBy},
    request::{Directions, HookChoice},
    source::{Counting, InterfaceRef, SourceDescription},
};
use proptest::prelude::*;

/// Snapshots a second apart.
struct Script {
    snapshots: Vec<InterfaceSnapshot>,
    /// The hook that `count` claims to attach.
    hook: Option<Hook>,
}

fn moment(second: usize) -> Moment {
    let second = i64::try_from(second).unwrap();
    Moment {
        boot_ns: second.unsigned_abs() * 1_000_000_000,
        wall: jiff::Timestamp::from_second(second).unwrap(),
    }
}

impl Script {
    fn new(seconds: Vec<Vec<InterfaceFact>>) -> Self {
        let snapshots = seconds
            .into_iter()
            .enumerate()
            .map(|(second, interfaces)| InterfaceSnapshot::new(moment(second), interfaces, None))
            .collect();
        Self { snapshots, hook: None }
    }

    fn with_default_route(mut self, index: u32) -> Self {
        for snapshot in &mut self.snapshots {
            snapshot.default_route = Some(index);
        }
        self
    }
}

impl Source for Script {
    fn describe(&self) -> SourceDescription {
        SourceDescription::new("script", "test", "none")
    }

    fn start(&self) -> Result<Moment> {
        Ok(self.snapshots[0].at)
    }

    fn wait(&self, from: &Moment, window: Duration, control: &Control<'_>) -> Result<Moment> {
        if control.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let until = from.boot_ns + u64::try_from(window.as_nanos()).unwrap();
        let next = self.snapshots.iter().find(|snapshot| snapshot.at.boot_ns >= until);
        next.map(|snapshot| snapshot.at).ok_or(Error::RecordingEnded { at: from.wall })
    }

    fn interfaces(&self, at: &Moment) -> Result<InterfaceSnapshot> {
        Ok(self.snapshots.iter().find(|snapshot| snapshot.at == *at).unwrap().clone())
    }

    fn count(
        &self,
        interface: InterfaceRef<'_>,
        directions: &[Direction],
        choice: HookChoice,
    ) -> Result<Counting> {
        let mut counting = Counting::default();
        match self.hook {
            Some(hook) => counting.active.extend(directions.iter().map(|direction| (*direction, hook))),
            None if choice == HookChoice::None => {}
            None => counting.missing.push(MissingHook {
                hook: Hook::Tcx,
                reason: "it is a script".to_owned(),
                hides: format!("protocols on {}", interface.name),
                fix: None,
            }),
        }
        Ok(counting)
    }
}

fn interface(index: u32, name: &str, packets: u64) -> InterfaceFact {
    let mut fact = InterfaceFact::new(index, name);
    fact.incoming.packets = packets;
    fact.incoming.interface_bytes = packets * 100;
    fact
}

fn request(names: &[&str], seconds: u64) -> RateRequest {
    let mut request = RateRequest::default();
    request.interfaces = names.iter().map(|name| (*name).to_owned()).collect();
    request.direction = Directions::Incoming;
    request.window = Duration::from_secs(seconds);
    request
}

fn rates(script: Script, request: &RateRequest) -> Result<netmon_core::RatesAnswer> {
    Monitor::new(script).rates(request, &Control::default())
}

#[test]
fn a_rate_is_the_difference_over_the_time_really_observed() {
    let script = Script::new((0..5).map(|second| vec![interface(1, "a", 1_000 + 70 * second)]).collect());
    // Samples are a second apart, so 1.5 s become 2.
    let mut request = request(&["a"], 1);
    request.window = Duration::from_millis(1_500);
    let answer = rates(script, &request).unwrap();
    let rate = &answer.rates[0];
    assert_eq!(answer.header.window.seconds, 2.0);
    assert_eq!((rate.packets, rate.packets_per_second), (140, 70.0));
    assert_eq!((rate.interface_bytes, rate.bytes_per_second), (14_000, 7_000.0));
    assert_eq!(rate.changes, []);
}

#[test]
fn what_bpf_did_not_count_is_absent_and_stated() {
    let script = Script::new(vec![vec![interface(1, "a", 0)], vec![interface(1, "a", 5)]]);
    let answer = rates(script, &request(&["a"], 1)).unwrap();
    let rate = &answer.rates[0];
    assert_eq!((rate.wire_packets, rate.wire_bytes, rate.hook), (None, None, None));
    assert!(rate.by_protocol.is_none());
    assert_eq!(answer.header.coverage.missing_hooks[0].hides, "protocols on a");
    assert_eq!(answer.header.coverage.active_hooks, [Hook::InterfaceCounters]);
    assert_eq!(answer.notes(), ["not shown: protocols on a (tcx: it is a script)"]);

    let json = serde_json::to_value(rate).unwrap();
    assert!(json.get("wire_packets").is_none() && json.get("by_protocol").is_none());
}

#[test]
fn a_hook_adds_protocols_and_shows_its_difference_from_the_kernels_counter() {
    let counted = |second: u64| {
        let udp = TrafficCounters {
            packets: 60 * second,
            wire_packets: 90 * second,
            interface_bytes: 6_000 * second,
            wire_bytes: 9_000 * second,
        };
        let arp = TrafficCounters {
            packets: second,
            wire_packets: second,
            interface_bytes: 42 * second,
            wire_bytes: 42 * second,
        };
        let mut fact = interface(1, "a", 65 * second);
        let classes = ByProtocol { ipv4_udp: udp, arp, ..ByProtocol::default() };
        fact.hooks = vec![HookCounters::new(Hook::TcxIngress, Layer::Skb, classes)];
        vec![fact]
    };
    let mut script = Script::new((1..=3).map(counted).collect());
    script.hook = Some(Hook::TcxIngress);
    let answer = rates(script, &request(&["a"], 2)).unwrap();
    let rate = &answer.rates[0];
    assert_eq!((rate.packets, rate.wire_packets, rate.wire_bytes), (130, Some(182), Some(18_084)));
    let by_protocol = rate.by_protocol.unwrap();
    assert_eq!(by_protocol.ipv4_udp.counted.packets, 120);
    assert_eq!(by_protocol.ipv4_udp.packets_per_second, 60.0);
    assert_eq!(by_protocol.arp.counted.packets, 2);
    assert_eq!(by_protocol.ipv6_tcp.counted.packets, 0);
    let hook = rate.hook.unwrap();
    assert_eq!((hook.hook, hook.total.packets, hook.packets_difference), (Hook::TcxIngress, 122, -8));
    assert_eq!(answer.header.coverage.active_hooks, [Hook::InterfaceCounters, Hook::TcxIngress]);
}

#[test]
fn counters_that_were_set_back_count_from_there_and_say_so() {
    let script = Script::new(vec![vec![interface(1, "a", 1_000)], vec![interface(1, "a", 30)]]);
    let answer = rates(script, &request(&["a"], 1)).unwrap();
    assert_eq!(answer.rates[0].packets, 30);
    assert_eq!(answer.rates[0].changes, [InterfaceChange::CountersReset]);
    assert_eq!(
        answer.header.coverage.warnings,
        ["interface a had its counters set back; counted since then"]
    );
}

#[test]
fn an_interface_made_again_counts_from_there_and_says_so() {
    let script = Script::new(vec![vec![interface(1, "a", 1_000)], vec![interface(7, "a", 30)]]);
    let answer = rates(script, &request(&["a"], 1)).unwrap();
    assert_eq!((answer.rates[0].packets, answer.rates[0].index), (30, 7));
    assert_eq!(answer.rates[0].changes, [InterfaceChange::Replaced]);
}

#[test]
fn a_renamed_interface_is_followed_by_its_index() {
    let script = Script::new(vec![vec![interface(1, "a", 10)], vec![interface(1, "b", 30)]]);
    let answer = rates(script, &request(&["a"], 1)).unwrap();
    assert_eq!((answer.rates[0].interface.as_str(), answer.rates[0].packets), ("b", 20));
    assert_eq!(answer.rates[0].changes, [InterfaceChange::Renamed { from: "a".into() }]);
}

#[test]
fn going_down_and_a_carrier_that_flapped_are_told() {
    let mut down = interface(1, "a", 0);
    down.state = InterfaceState::Down;
    let answer =
        rates(Script::new(vec![vec![interface(1, "a", 0)], vec![down]]), &request(&["a"], 1)).unwrap();
    let state = InterfaceChange::State { from: InterfaceState::Up, to: InterfaceState::Down };
    assert_eq!(answer.rates[0].changes, [state]);

    let carrier = |changes| {
        let mut fact = interface(1, "a", 0);
        fact.carrier_changes = Some(changes);
        vec![fact]
    };
    let answer = rates(Script::new(vec![carrier(1), carrier(3)]), &request(&["a"], 1)).unwrap();
    assert_eq!(answer.rates[0].changes, [InterfaceChange::CarrierLost { changes: 2 }]);
}

#[test]
fn an_interface_that_is_gone_is_an_error_alone_and_a_warning_among_others() {
    let gone =
        || Script::new(vec![vec![interface(1, "a", 0), interface(2, "b", 0)], vec![interface(2, "b", 9)]]);
    let error = rates(gone(), &request(&["a"], 1)).unwrap_err();
    assert_eq!(error.to_string(), "interface \"a\" disappeared during the measurement");

    let answer = rates(gone(), &request(&["a", "b"], 1)).unwrap();
    assert_eq!(answer.rates.len(), 1);
    assert_eq!(answer.rates[0].packets, 9);
    assert_eq!(answer.header.coverage.warnings, ["interface a disappeared; it has no row"]);
}

#[test]
fn a_watch_has_no_gaps_and_outlives_its_interface() {
    let script = Script::new(vec![
        vec![interface(1, "a", 0)],
        vec![interface(1, "a", 10)],
        vec![],
        vec![interface(9, "a", 5)],
        vec![interface(9, "a", 25)],
    ]);
    let monitor = Monitor::new(script);
    let mut watch = monitor.watch_rates(&request(&["a"], 1)).unwrap();
    let mut next = || watch.next_window(&Control::default());

    assert_eq!(next().unwrap().rates[0].packets, 10);
    assert!(matches!(next(), Err(Error::InterfaceGone { .. })));
    let again = next().unwrap();
    assert_eq!((again.rates[0].packets, &again.rates[0].changes[..]), (5, &[InterfaceChange::Replaced][..]));
    assert_eq!(again.header.coverage.missing_hooks.len(), 1, "what is missing is told once");
    let after = next().unwrap();
    assert_eq!((after.rates[0].packets, &after.rates[0].changes[..]), (20, &[][..]));
    assert_eq!(after.header.coverage.missing_hooks.len(), 1, "also after it was counted again");
    assert!(matches!(next(), Err(Error::RecordingEnded { .. })));
}

#[test]
fn the_default_interface_is_the_default_routes_else_the_busiest_that_is_up() {
    let facts = || {
        let mut lo = interface(1, "lo", 1_000_000);
        lo.loopback = true;
        let mut down = interface(4, "down", 900_000);
        down.state = InterfaceState::AdminDown;
        vec![lo, interface(2, "quiet", 10), interface(3, "busy", 500), down]
    };
    let chosen = |script: Script| {
        let answer = rates(script, &request(&[], 1)).unwrap();
        (answer.selection.interfaces[0].to_string(), answer.selection.by, answer.to_string())
    };

    let (name, by, digest) = chosen(Script::new(vec![facts(), facts()]));
    assert_eq!((name.as_str(), by), ("busy", SelectedBy::Busiest));
    assert!(
        digest.ends_with("Chosen: the busiest interface that is up, as there is no default route"),
        "{digest}"
    );

    let (name, by, _) = chosen(Script::new(vec![facts(), facts()]).with_default_route(2));
    assert_eq!((name.as_str(), by), ("quiet", SelectedBy::DefaultRoute));

    let only_lo = || facts().into_iter().take(1).collect::<Vec<_>>();
    assert_eq!(chosen(Script::new(vec![only_lo(), only_lo()])).0, "lo");

    let none_up = || facts().into_iter().skip(3).collect::<Vec<_>>();
    let error = rates(Script::new(vec![none_up(), none_up()]), &request(&[], 1)).unwrap_err();
    assert_eq!(error.to_string(), "no interface is up, so there is none to choose; name one of: down");
}

#[test]
fn an_interface_named_twice_is_measured_once() {
    let script = Script::new(vec![vec![interface(1, "a", 0)], vec![interface(1, "a", 5)]]);
    assert_eq!(rates(script, &request(&["a", "a"], 1)).unwrap().rates.len(), 1);
}

#[test]
fn bad_requests_are_refused_before_anything_is_measured() {
    let script = || Script::new(vec![vec![interface(1, "a", 0)]]);
    let error = rates(script(), &request(&["b"], 1)).unwrap_err();
    assert_eq!(error.to_string(), "no interface named \"b\"; there are: a");

    let mut zero = request(&["a"], 1);
    zero.window = Duration::ZERO;
    assert!(matches!(rates(script(), &zero), Err(Error::WindowOutOfRange { .. })));
}

#[test]
fn a_cancelled_measurement_has_no_answer() {
    let script = Script::new(vec![vec![interface(1, "a", 0)], vec![interface(1, "a", 5)]]);
    let control = Control { cancel: Cancel::new(), progress: None };
    control.cancel.cancel();
    let answer = Monitor::new(script).rates(&request(&["a"], 1), &control);
    assert!(matches!(answer, Err(Error::Cancelled)));
}

#[test]
fn a_recording_by_xdp_lacks_only_what_xdp_does_not_see() {
    let demo = include_str!("../recordings/demo.jsonl").replace("tcx_ingress", "xdp");
    let source = netmon_core::source::replay::ReplaySource::read(demo.as_bytes(), "xdp.jsonl").unwrap();
    let mut request = RateRequest::default();
    request.hook = HookChoice::Xdp;
    let answer = Monitor::new(source).rates(&request, &Control::default()).unwrap();
    assert!(answer.rates[0].by_protocol.is_some() && answer.rates[1].by_protocol.is_none());
    let missing = &answer.header.coverage.missing_hooks;
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].hides, "outgoing packets by protocol and on the wire on eth0");
}

#[test]
fn every_answer_survives_json() {
    let monitor = Monitor::replay(concat!(env!("CARGO_MANIFEST_DIR"), "/recordings/demo.jsonl")).unwrap();
    let rates = monitor.rates(&RateRequest::default(), &Control::default()).unwrap();
    let interfaces = monitor.interfaces_over(Duration::from_secs(2), &Control::default()).unwrap();
    let capabilities = monitor.capabilities().unwrap();
    assert_eq!(
        serde_json::from_str::<netmon_core::RatesAnswer>(&serde_json::to_string(&rates).unwrap()).unwrap(),
        rates
    );
    assert_eq!(
        serde_json::from_str::<netmon_core::InterfacesAnswer>(&serde_json::to_string(&interfaces).unwrap())
            .unwrap(),
        interfaces
    );
    assert_eq!(
        serde_json::from_str::<netmon_core::CapabilitiesAnswer>(
            &serde_json::to_string(&capabilities).unwrap()
        )
        .unwrap(),
        capabilities
    );
}

proptest! {
    /// Whatever the counters do, windows of a watch add up to the whole, unless they were set back.
    #[test]
    fn windows_add_up(steps in proptest::collection::vec(0_u64..10_000, 2..20)) {
        let mut packets = 0;
        let mut seconds = vec![vec![interface(1, "a", 0)]];
        for step in &steps {
            packets += step;
            seconds.push(vec![interface(1, "a", packets)]);
        }
        let monitor = Monitor::new(Script::new(seconds));
        let mut watch = monitor.watch_rates(&request(&["a"], 1)).unwrap();
        let mut sum = 0;
        for step in &steps {
            let answer = watch.next_window(&Control::default()).unwrap();
            prop_assert_eq!(answer.rates[0].packets, *step);
            sum += answer.rates[0].packets;
        }
        prop_assert_eq!(sum, packets);
    }

    /// A counter that is set back, as by a driver that starts anew: never a rate of billions, and every window after it is
    /// right again.
    #[test]
    fn a_counter_that_is_set_back_spoils_one_window_alone(
        steps in proptest::collection::vec((0_u64..10_000, proptest::bool::weighted(0.2)), 2..20),
        window in 1_u64..4,
    ) {
        let mut packets = 5_000;
        let mut seconds = vec![vec![interface(1, "a", packets)]];
        for (step, is_reset) in &steps {
            packets = if *is_reset { *step } else { packets + step };
            seconds.push(vec![interface(1, "a", packets)]);
        }
        let monitor = Monitor::new(Script::new(seconds));
        let mut watch = monitor.watch_rates(&request(&["a"], window)).unwrap();
        for part in steps.chunks_exact(usize::try_from(window).unwrap()) {
            let answer = watch.next_window(&Control::default()).unwrap();
            let row = answer.rates.first();
            let whole: u64 = part.iter().map(|(step, _)| step).sum();
            if !part.iter().any(|(_, is_reset)| *is_reset) {
                prop_assert_eq!(row.unwrap().packets, whole);
                prop_assert_eq!(row.unwrap().packets_per_second, whole as f64 / window as f64);
            } else if let Some(row) = row {
                prop_assert!(row.packets <= whole, "{} of {whole}", row.packets);
            }
            prop_assert_eq!(answer.header.window.seconds, window as f64);
        }
    }
}
