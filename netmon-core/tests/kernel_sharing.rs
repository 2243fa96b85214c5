//! Several measurements at once, other people's programs beside ours, and what stays when a process is killed.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod kernel_support;

use std::{fs, net::SocketAddr, thread};

use kernel_support::{classes, here, measure, preferred, request, row};
use netmon_core::{
    Cancel, Control, Error, Monitor,
    fact::{Direction::*, Hook},
    request::{Directions, HookChoice},
};
use netmon_testkit::{Child, Datagrams, Privileges, VethPair, child, traffic};
use test_tag::tag;

const DATAGRAMS: Datagrams = Datagrams { count: 200, payload: 100, per_second: 10_000 };

/// Sends 200 datagrams to the near side.
fn send(link: &VethPair) {
    let to = SocketAddr::from((link.near.ipv4, 9));
    let _sink = traffic::bind_udp(&link.near.netns, to);
    traffic::send_datagrams(&link.far.netns, to, DATAGRAMS);
    link.settle();
}

/// Everything that is attached to the near interface, as tc, ip and bpftool show it, and the BPF links to it that this
/// process holds. (bpftool lists tcx in its later versions only.)
fn attached(link: &VethPair) -> String {
    let netns = &link.near.netns;
    let mut shown: String = [
        "tc qdisc show dev veth0",
        "tc filter show dev veth0 ingress",
        "tc filter show dev veth0 egress",
        "ip -d link show dev veth0",
        "bpftool net show",
    ]
    .map(|command| format!("# {command}\n{}", netns.run(command)))
    .concat();
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        let info = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        let ours = info.lines().any(|line| {
            let number = line.strip_prefix("ifindex:").map(str::trim);
            number == Some(link.near.index.to_string().as_str())
        });
        if ours {
            shown.push_str(&info);
        }
    }
    shown
}

fn has_qdisc(link: &VethPair) -> bool {
    link.near.netns.run("tc qdisc show dev veth0").contains("clsact")
}

#[tag(root)]
#[test]
fn what_was_attached_is_seen_and_nothing_of_it_stays() {
    let link = VethPair::create();
    let before = attached(&link);
    for hook in here([HookChoice::Tcx, HookChoice::Clsact, HookChoice::Xdp]) {
        let sign = match hook {
            HookChoice::Tcx => "link_type:\ttcx",
            HookChoice::Clsact => "nm_count_skb",
            _ => "xdp",
        };
        link.near.netns.enter(|| {
            let watch = Monitor::live().unwrap().watch_rates(&request(hook)).unwrap();
            let during = attached(&link);
            assert_ne!(during, before, "{hook}");
            assert!(during.contains(sign), "{hook}: {during}");
            drop(watch);
        });
        assert_eq!(attached(&link), before, "{hook}");
    }
}

#[tag(root)]
#[test]
fn two_measurements_at_once_of_one_monitor_both_count_everything_since_they_began() {
    for hook in here([HookChoice::Tcx, HookChoice::Clsact, HookChoice::Xdp]) {
        let link = VethPair::create();
        let before = attached(&link);
        link.near.netns.enter(|| {
            let monitor = Monitor::live().unwrap();
            let mut early = monitor.watch_rates(&request(hook)).unwrap();
            send(&link);
            let mut late = monitor.watch_rates(&request(hook)).unwrap();
            send(&link);
            let late_answer = late.next_window(&Control::default()).unwrap();
            drop(late);
            let early_answer = early.next_window(&Control::default()).unwrap();
            assert_eq!(classes(&late_answer, Incoming), [("ipv4_udp", 200)], "{hook}");
            assert_eq!(classes(&early_answer, Incoming), [("ipv4_udp", 400)], "{hook}");

            // The second window begins where the first ended.
            send(&link);
            let answer = early.next_window(&Control::default()).unwrap();
            assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 200)], "{hook}");
            assert_eq!(row(&answer, Incoming).packets, 200);
        });
        assert_eq!(attached(&link), before, "{hook}");
    }
}

#[tag(root)]
#[test]
fn two_monitors_at_once_both_count_by_tcx_and_by_clsact() {
    for (first, second) in [
        (preferred(), preferred()),
        (HookChoice::Clsact, HookChoice::Clsact),
        (preferred(), HookChoice::Clsact),
        (HookChoice::Xdp, preferred()),
    ] {
        let link = VethPair::create();
        let before = attached(&link);
        link.near.netns.enter(|| {
            let mut watches = [first, second]
                .map(|hook| Monitor::live().unwrap().watch_rates(&request(hook)).unwrap())
                .into_iter();
            send(&link);
            // Whichever goes first leaves the other undisturbed.
            let mut one = watches.next().unwrap();
            assert_eq!(
                classes(&one.next_window(&Control::default()).unwrap(), Incoming),
                [("ipv4_udp", 200)]
            );
            drop(one);
            send(&link);
            let mut other = watches.next().unwrap();
            let answer = other.next_window(&Control::default()).unwrap();
            assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 400)], "{first} and {second}");
        });
        assert_eq!(attached(&link), before, "{first} and {second}");
    }
}

#[tag(root)]
#[test]
fn a_cancelled_measurement_ends_at_once_and_the_other_is_right() {
    for hook in here([HookChoice::Tcx, HookChoice::Clsact]) {
        let link = VethPair::create();
        let before = attached(&link);
        link.near.netns.enter(|| {
            let monitor = Monitor::live().unwrap();
            let mut staying = monitor.watch_rates(&request(hook)).unwrap();
            let control = Control { cancel: Cancel::new(), progress: None };
            thread::scope(|scope| {
                let cancelled = scope.spawn(|| {
                    link.near.netns.enter(|| {
                        let mut hour = request(hook);
                        hour.window = std::time::Duration::from_secs(3600);
                        monitor.rates(&hour, &control)
                    })
                });
                send(&link);
                control.cancel.cancel();
                assert!(matches!(cancelled.join().unwrap(), Err(Error::Cancelled)));
            });
            send(&link);
            let answer = staying.next_window(&Control::default()).unwrap();
            assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 400)], "{hook}");
        });
        assert_eq!(attached(&link), before, "{hook}");
    }
}

#[tag(root)]
#[test]
fn another_programs_clsact_filter_survives_and_its_discipline_too() {
    let link = VethPair::create();
    let netns = &link.near.netns;
    netns.run("tc qdisc add dev veth0 clsact");
    // Of a lower priority than ours, which must see packets first: it ends them.
    netns.run("tc filter add dev veth0 ingress prio 10 protocol all u32 match u32 0 0 flowid 1:1");
    let before = attached(&link);
    assert!(before.contains("u32"), "{before}");

    for hook in here([HookChoice::Clsact, HookChoice::Tcx, HookChoice::Xdp]) {
        let answer = measure(&link, &request(hook), || send(&link));
        assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 200)], "{hook}");
        assert_eq!(attached(&link), before, "{hook}");
    }
}

#[tag(root)]
#[test]
fn a_filter_that_another_program_added_to_our_discipline_stays_with_it() {
    let link = VethPair::create();
    let netns = &link.near.netns;
    netns.enter(|| {
        let _watch = Monitor::live().unwrap().watch_rates(&request(HookChoice::Clsact)).unwrap();
        netns.run("tc filter add dev veth0 egress prio 10 protocol all u32 match u32 0 0 flowid 1:1");
    });
    assert!(has_qdisc(&link));
    assert!(netns.run("tc filter show dev veth0 egress").contains("u32"));
    assert!(!netns.run("tc filter show dev veth0 egress").contains("nm_count"));
    assert_eq!(netns.run("tc filter show dev veth0 ingress"), "");
}

#[tag(root)]
#[test]
fn where_another_program_has_the_place_of_clsact_it_is_said_and_nothing_is_attached() {
    for setup in [
        // The older discipline: it takes filters for both directions, and runs them all on received packets.
        &["tc qdisc add dev veth0 ingress"][..],
        &[
            "tc qdisc add dev veth0 clsact",
            "tc filter add dev veth0 egress prio 1 protocol ip u32 match u32 0 0 flowid 1:1",
        ],
        &[
            "tc qdisc add dev veth0 clsact",
            "tc filter add dev veth0 ingress prio 1 protocol all u32 match u32 0 0 flowid 1:1",
        ],
    ] {
        let link = VethPair::create();
        for command in setup {
            link.near.netns.run(command);
        }
        let before = attached(&link);
        let watch = |hook| link.near.netns.enter(|| Monitor::live().unwrap().watch_rates(&request(hook)));
        let error = watch(HookChoice::Clsact).unwrap_err();
        assert!(matches!(error, Error::HookUnavailable { hook: Hook::Clsact, .. }), "{error}");
        assert!(error.to_string().contains("another program has the place"), "{error}");
        assert_eq!(attached(&link), before);

        let other = here([HookChoice::Tcx, HookChoice::Xdp])[0];
        let answer = measure(&link, &request(other), || send(&link));
        assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 200)]);
        assert_eq!(attached(&link), before);
    }
}

#[tag(root)]
#[test]
fn a_second_xdp_program_is_refused_with_its_reason_and_nothing_is_attached() {
    let link = VethPair::create();
    link.near.netns.enter(|| {
        let mut first = Monitor::live().unwrap().watch_rates(&request(HookChoice::Xdp)).unwrap();
        let before = attached(&link);
        let error = Monitor::live().unwrap().watch_rates(&request(HookChoice::Xdp)).unwrap_err();
        assert_eq!(attached(&link), before);
        let message = error.to_string();
        assert!(
            matches!(error, Error::HookUnavailable { hook: Hook::Xdp, not_permitted: false, .. }),
            "{message}"
        );
        assert!(message.contains("another XDP program is attached"), "{message}");
        assert!(message.contains("veth0"), "{message}");
        assert!(message.contains("tcx instead"), "{message}");

        // The first is not disturbed.
        send(&link);
        let answer = first.next_window(&Control::default()).unwrap();
        assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 200)]);
    });
}

/// What a child does: it counts until it is let go or killed.
fn count_until_let_go(hook: HookChoice) {
    let mut request = request(hook);
    if hook == HookChoice::Xdp {
        request.direction = Directions::Incoming;
    }
    let _watch = Monitor::live().unwrap().watch_rates(&request).unwrap();
    child::ready();
}

fn leftovers(link: &VethPair) -> Vec<(String, Hook)> {
    let answer = link.near.netns.enter(|| Monitor::live().unwrap().capabilities().unwrap());
    answer.leftovers.iter().map(|leftover| (leftover.interface.to_string(), leftover.hook)).collect()
}

#[tag(root)]
#[test]
fn filters_of_a_killed_process_are_named_and_removed_by_the_next_measurement() {
    if child::role().is_some() {
        return count_until_let_go(HookChoice::Clsact);
    }
    let test = "filters_of_a_killed_process_are_named";
    for (hook, interface) in [(HookChoice::Clsact, "veth0"), (HookChoice::Clsact, "lo"), (preferred(), "lo")]
    {
        let link = VethPair::create();
        let before = attached(&link);
        let mut child = Child::spawn(&link.near.netns, Privileges::Root, test, "count");
        child.wait_ready();

        // While it lives, its filters are nobody's leftovers, and another measurement leaves them.
        assert_eq!(leftovers(&link), []);
        let during = attached(&link);
        assert_eq!(during.matches("direct-action").count(), 2, "{during}");
        let answer = measure(&link, &request(HookChoice::Clsact), || send(&link));
        assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 200)]);
        assert_eq!(attached(&link), during);

        child.kill();
        assert_eq!(attached(&link), during);
        let left = [("veth0".to_owned(), Hook::ClsactIngress), ("veth0".to_owned(), Hook::ClsactEgress)];
        assert_eq!(leftovers(&link), left);
        assert_eq!(leftovers(&link), left); // asking removes nothing

        let mut next = request(hook);
        next.interfaces = vec![interface.to_owned()];
        let mut watch = link.near.netns.enter(|| Monitor::live().unwrap().watch_rates(&next).unwrap());
        assert_eq!(leftovers(&link), []);
        send(&link);
        let answer = link.near.netns.enter(|| watch.next_window(&Control::default()).unwrap());
        if interface == "veth0" {
            assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 200)]);
        }
        link.near.netns.enter(|| drop(watch));
        assert_eq!(attached(&link), before, "{hook} on {interface}");
    }
}

#[tag(root)]
#[test]
fn a_killed_process_in_another_programs_discipline_leaves_that_in_place() {
    if child::role().is_some() {
        return count_until_let_go(HookChoice::Clsact);
    }
    let link = VethPair::create();
    link.near.netns.run("tc qdisc add dev veth0 clsact");
    let before = attached(&link);
    let test = "a_killed_process_in_another_programs_discipline";
    let mut child = Child::spawn(&link.near.netns, Privileges::Root, test, "count");
    child.wait_ready();
    child.kill();
    assert_eq!(leftovers(&link).len(), 2);
    measure(&link, &request(HookChoice::Clsact), || send(&link));
    assert_eq!(leftovers(&link), []);
    assert_eq!(attached(&link), before);
}

#[tag(root)]
#[test]
fn the_discipline_goes_with_the_last_of_several_that_use_it() {
    if child::role().is_some() {
        return count_until_let_go(HookChoice::Clsact);
    }
    let link = VethPair::create();
    let before = attached(&link);
    let test = "the_discipline_goes_with_the_last";
    let mut child = Child::spawn(&link.near.netns, Privileges::Root, test, "count");
    child.wait_ready();
    link.near.netns.enter(|| {
        let mut watch = Monitor::live().unwrap().watch_rates(&request(HookChoice::Clsact)).unwrap();
        // The one that made it ends first, in good order.
        child.finish();
        assert!(has_qdisc(&link));
        send(&link);
        let answer = watch.next_window(&Control::default()).unwrap();
        assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 200)]);
    });
    assert_eq!(attached(&link), before);
}

#[tag(root)]
#[test]
fn links_of_a_killed_process_are_gone() {
    match child::role().as_deref() {
        Some("tcx") => return count_until_let_go(HookChoice::Tcx),
        Some(_) => return count_until_let_go(HookChoice::Xdp),
        None => {}
    }
    let link = VethPair::create();
    let before = attached(&link);
    for hook in here([HookChoice::Tcx, HookChoice::Xdp]) {
        let role = &hook.to_string();
        let mut child = Child::spawn(&link.near.netns, Privileges::Root, "links_of_a_killed_process", role);
        child.wait_ready();
        child.kill();
        assert_eq!(leftovers(&link), []);
        assert_eq!(attached(&link), before, "{role}");
    }
    // An interface has room for one XDP program, so this shows that there is none.
    let answer = measure(&link, &request(HookChoice::Xdp), || send(&link));
    assert_eq!(row(&answer, Incoming).hook.unwrap().hook, Hook::Xdp);
}

#[tag(root)]
#[test]
fn many_threads_that_count_by_clsact_at_once_leave_nothing() {
    let link = VethPair::create();
    let before = attached(&link);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                link.near.netns.enter(|| {
                    for _ in 0..5 {
                        // A monitor each: nothing is shared but the interface.
                        let monitor = Monitor::live().unwrap();
                        monitor.rates(&request(HookChoice::Clsact), &Control::default()).unwrap();
                    }
                });
            });
        }
    });
    assert_eq!(leftovers(&link), []);
    assert_eq!(attached(&link), before);
}
