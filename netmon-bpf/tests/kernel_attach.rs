//! Probing, attaching and detaching in a real kernel, with and without privileges.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use libbpf_rs::query::{LinkInfoIter, LinkTypeInfo};
use netmon_bpf::{
    Error,
    interface::{Clsact, Direction, Framing, InterfaceCounter, TrafficClass},
    probe::Hook,
};
use netmon_testkit::{Child, Privileges, Side, VethPair, child, frame, kernel_is_since, traffic, wait_until};
use test_tag::tag;

/// The BPF links to an interface, whichever process holds them.
fn links(link: &VethPair) -> Vec<&'static str> {
    let index = link.near.index;
    let mut found: Vec<_> = LinkInfoIter::default()
        .filter_map(|info| match info.info {
            LinkTypeInfo::Tcx(tcx) if tcx.ifindex == index => Some("tcx"),
            LinkTypeInfo::Xdp(xdp) if xdp.ifindex == index => Some("xdp"),
            _ => None,
        })
        .collect();
    found.sort_unstable();
    found
}

/// Such of these links as the kernel has.
fn linked<'a>(links: &[&'a str]) -> Vec<&'a str> {
    let has_tcx = hooks().contains(&Hook::Tcx);
    links.iter().copied().filter(|link| *link != "tcx" || has_tcx).collect()
}

fn attach(index: u32, hook: Hook, direction: Direction) -> Result<InterfaceCounter, Error> {
    match hook {
        Hook::Tcx => InterfaceCounter::attach_tcx(index, direction, Framing::Ethernet),
        Hook::Clsact => {
            let place = Clsact { ifindex: index, handle: 1 };
            InterfaceCounter::attach_clsact(place, direction, Framing::Ethernet)
        }
        Hook::Xdp => InterfaceCounter::attach_xdp(index),
    }
}

/// Those that the kernel has.
fn hooks() -> Vec<Hook> {
    Hook::ALL.into_iter().filter(|hook| *hook != Hook::Tcx || kernel_is_since(6, 6)).collect()
}

#[tag(root)]
#[test]
fn every_hook_of_the_kernel_can_be_used_as_root() {
    for hook in Hook::ALL {
        match hook.probe() {
            Ok(()) => assert!(hooks().contains(&hook), "{hook:?}"),
            Err(error) => {
                assert!(!hooks().contains(&hook), "{hook:?}: {error:?}");
                assert!(matches!(error, Error::Unsupported { .. }), "{hook:?}: {error:?}");
            }
        }
    }
}

#[tag(root)]
#[test]
fn probing_attaches_nothing() {
    let link = VethPair::create();
    link.near.netns.enter(|| hooks().into_iter().for_each(|hook| hook.probe().unwrap()));
    assert_eq!(links(&link), [""; 0]);
    assert!(!link.near.netns.run("tc qdisc show").contains("clsact"));
}

#[tag(root)]
#[test]
fn every_hook_says_that_it_is_not_permitted_without_capabilities() {
    if child::role().is_some() {
        for hook in Hook::ALL {
            let error = hook.probe().unwrap_err();
            assert!(matches!(error, Error::NotPermitted { .. }), "{hook:?}: {error:?}");
        }
        let error = Clsact::create_qdisc(1).unwrap_err();
        assert!(matches!(error, Error::NotPermitted { .. }), "{error:?}");
        child::ready();
        return;
    }
    let link = VethPair::create();
    let test = "every_hook_says_that_it_is_not_permitted";
    for capabilities in [&[][..], &["bpf"]] {
        let mut child = Child::spawn(&link.near.netns, Privileges::Nobody(capabilities), test, "probe");
        child.wait_ready();
        child.finish();
    }
}

#[tag(root)]
#[test]
fn the_verifier_takes_every_program_with_cap_bpf_and_cap_net_admin_alone() {
    if let Some(index) = child::role() {
        // Without CAP_PERFMON it is stricter: no speculative reads outside of bounds, no pointers shown.
        let index = index.parse().unwrap();
        for hook in hooks() {
            hook.probe().unwrap();
        }
        assert!(Clsact::create_qdisc(index).unwrap());
        for framing in [Framing::Ethernet, Framing::Other] {
            for direction in [Direction::Ingress, Direction::Egress] {
                let place = Clsact { ifindex: index, handle: 1 };
                if hooks().contains(&Hook::Tcx) {
                    InterfaceCounter::attach_tcx(index, direction, framing).unwrap();
                }
                InterfaceCounter::attach_clsact(place, direction, framing).unwrap();
            }
        }
        // The veth takes the program with fragments; probing has loaded the other.
        InterfaceCounter::attach_xdp(index).unwrap();
        Clsact::remove_qdisc(index).unwrap();
        child::ready();
        return;
    }
    let link = VethPair::create();
    let test = "the_verifier_takes_every_program";
    let index = link.near.index.to_string();
    // Before, it compares no pointers into packets without CAP_PERFMON.
    let capabilities: &[_] =
        if kernel_is_since(6, 1) { &["bpf", "net_admin"] } else { &["bpf", "net_admin", "perfmon"] };
    let mut child = Child::spawn(&link.near.netns, Privileges::Nobody(capabilities), test, &index);
    child.wait_ready();
    child.finish();
}

#[tag(root)]
#[test]
fn a_counter_counts_from_its_attachment_and_detaches_when_dropped() {
    let link = VethPair::create();
    let index = link.near.index;
    let frame = frame::ethernet(link.near.mac, link.far.mac, &[], 0x0806, &[0; 46]);
    let send = |count: usize| {
        let before = link.near.counters();
        traffic::send_frames(&link.far.netns, Side::INTERFACE, &vec![frame.clone(); count]);
        wait_until("the frames have arrived", || {
            link.near.counters().since(&before).rx_packets == count as u64
        });
    };
    send(2);
    link.near.netns.enter(|| {
        assert!(Clsact::create_qdisc(index).unwrap());
        assert!(!Clsact::create_qdisc(index).unwrap());
        let counters: Vec<_> =
            hooks().into_iter().map(|hook| attach(index, hook, Direction::Ingress).unwrap()).collect();
        assert_eq!(links(&link), linked(&["tcx", "xdp"]));
        send(5);
        for counter in &counters {
            let total = counter.read().unwrap();
            assert_eq!(total.class(TrafficClass::Arp).packets, 5);
            assert_eq!(total.total().bytes, 5 * 60);
        }
        let frames: Vec<_> = counters.iter().map(InterfaceCounter::counts_frames).collect();
        assert_eq!(frames, hooks().iter().map(|hook| *hook == Hook::Xdp).collect::<Vec<_>>());
        drop(counters);
        assert_eq!(links(&link), [""; 0]);
        assert_eq!(link.near.netns.run("tc filter show dev veth0 ingress"), "");
        Clsact::remove_qdisc(index).unwrap();
        Clsact::remove_qdisc(index).unwrap();
    });
}

#[tag(root)]
#[test]
fn what_is_in_the_way_is_told_apart() {
    let link = VethPair::create();
    let index = link.near.index;
    link.near.netns.enter(|| {
        const NO_INTERFACE: u32 = 99_999;
        for hook in hooks().into_iter().filter(|hook| *hook != Hook::Clsact) {
            let error = attach(NO_INTERFACE, hook, Direction::Ingress).unwrap_err();
            assert!(matches!(error, Error::NoSuchInterface { .. }), "{hook:?}: {error:?}");
        }
        let error = Clsact::create_qdisc(NO_INTERFACE).unwrap_err();
        assert!(matches!(error, Error::NoSuchInterface { .. }), "{error:?}");

        Clsact::create_qdisc(index).unwrap();
        for hook in [Hook::Clsact, Hook::Xdp] {
            let _first = attach(index, hook, Direction::Ingress).unwrap();
            let error = attach(index, hook, Direction::Ingress).unwrap_err();
            assert!(matches!(error, Error::Busy { .. }), "{hook:?}: {error:?}");
        }
        if hooks().contains(&Hook::Tcx) {
            let tcx = [0; 3].map(|_| attach(index, Hook::Tcx, Direction::Egress).unwrap());
            assert_eq!(links(&link), ["tcx"; 3]);
            drop(tcx);
        }

        link.near
            .netns
            .run("tc filter add dev veth0 ingress prio 1 protocol ip u32 match u32 0 0 flowid 1:1");
        let error = attach(index, Hook::Clsact, Direction::Ingress).unwrap_err();
        assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    });
}

/// What detaches with its process: tcx both ways, where the kernel has it, and XDP.
fn both_ways() -> Vec<(Hook, Direction)> {
    [(Hook::Tcx, Direction::Ingress), (Hook::Tcx, Direction::Egress), (Hook::Xdp, Direction::Ingress)]
        .into_iter()
        .filter(|(hook, _)| hooks().contains(hook))
        .collect()
}

#[tag(root)]
#[test]
fn links_of_a_killed_process_are_gone_from_the_kernel() {
    if let Some(index) = child::role() {
        let index = index.parse().unwrap();
        let _counters: Vec<_> = both_ways()
            .into_iter()
            .map(|(hook, direction)| attach(index, hook, direction).unwrap())
            .collect();
        child::ready();
        return;
    }
    let link = VethPair::create();
    let test = "links_of_a_killed_process";
    let mut child = Child::spawn(&link.near.netns, Privileges::Root, test, &link.near.index.to_string());
    child.wait_ready();
    assert_eq!(links(&link), linked(&["tcx", "tcx", "xdp"]));
    child.kill();
    assert_eq!(links(&link), [""; 0]);
}

#[tag(root)]
#[test]
fn counters_of_a_removed_interface_stand_still() {
    let link = VethPair::create();
    let index = link.near.index;
    link.near.netns.enter(|| {
        let sending = if hooks().contains(&Hook::Tcx) { Hook::Tcx } else { Hook::Clsact };
        if sending == Hook::Clsact {
            Clsact::create_qdisc(index).unwrap();
        }
        let counters = [
            attach(index, sending, Direction::Egress).unwrap(),
            attach(index, Hook::Xdp, Direction::Ingress).unwrap(),
        ];
        let frame = frame::ethernet(link.far.mac, link.near.mac, &[], 0x0806, &[0; 46]);
        traffic::send_frames(&link.near.netns, Side::INTERFACE, &vec![frame; 5]);
        link.near.netns.ip(&["link del veth0"]);
        assert_eq!(counters[0].read().unwrap().class(TrafficClass::Arp).packets, 5);
        assert_eq!(counters[1].read().unwrap().total().packets, 0);
    });
}
