//! What is answered with fewer privileges, and what is said about the rest.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod kernel_support;

use std::net::SocketAddr;

use kernel_support::{classes, here, measure, preferred, request, row};
use netmon_core::{
    Control, Error, Monitor, RatesAnswer,
    fact::{Direction::*, Hook, Status},
    request::HookChoice,
};
use netmon_testkit::{Child, Datagrams, Privileges, VethPair, child, kernel_is_since, traffic};
use test_tag::tag;

/// Runs this test's child with these privileges, and sends it 200 datagrams when it is ready.
#[track_caller]
fn spawn_and_send(test: &str, capabilities: &'static [&'static str], role: &str) {
    let link = VethPair::create();
    let to = SocketAddr::from((link.near.ipv4, 9));
    let _sink = traffic::bind_udp(&link.near.netns, to);
    measure(&link, &request(preferred()), || {
        let mut child = Child::spawn(&link.near.netns, Privileges::Nobody(capabilities), test, role);
        child.wait_ready();
        let datagrams = Datagrams { count: 200, payload: 100, per_second: 10_000 };
        traffic::send_datagrams(&link.far.netns, to, datagrams);
        link.settle();
        child.finish();
    });
    assert_eq!(link.near.netns.run("tc qdisc show dev veth0").matches("clsact").count(), 0);
}

/// The child's part: measures until the parent has sent.
fn measure_in_child(hook: HookChoice) -> RatesAnswer {
    let mut watch = Monitor::live().unwrap().watch_rates(&request(hook)).unwrap();
    child::ready();
    let answer = watch.next_window(&Control::default()).unwrap();
    // Whatever is missing, the kernel's own counters are not.
    assert_eq!(row(&answer, Incoming).packets, 200);
    if hook != HookChoice::Xdp {
        // Under XDP a veth leaves the Ethernet header out.
        assert_eq!(row(&answer, Incoming).interface_bytes, 200 * 142);
    }
    answer
}

/// Without the right capabilities: the totals, and a note of what is missing, why, and what would help.
fn expect_missing(lacking: &str) {
    let answer = measure_in_child(HookChoice::Auto);
    let incoming = row(&answer, Incoming);
    assert_eq!((incoming.by_protocol, incoming.hook, incoming.wire_packets), (None, None, None));

    let coverage = &answer.header.coverage;
    assert_eq!(coverage.active_hooks, [Hook::InterfaceCounters]);
    assert_eq!(coverage.missing_hooks.len(), 1, "{coverage:?}");
    let missing = &coverage.missing_hooks[0];
    assert_eq!(missing.hook, Hook::Tcx);
    assert_eq!(missing.reason, format!("not permitted: this process lacks {lacking}"));
    assert_eq!(missing.hides, "packets by protocol and on the wire on veth0");
    assert!(missing.fix.as_ref().unwrap().contains("setcap cap_bpf,cap_net_admin"), "{missing:?}");

    let monitor = Monitor::live().unwrap();
    assert_eq!(monitor.interfaces().unwrap().interfaces.len(), 2);
    for hook in here([HookChoice::Tcx, HookChoice::Clsact, HookChoice::Xdp]) {
        let error = monitor.rates(&request(hook), &Control::default()).unwrap_err();
        assert!(matches!(error, Error::HookUnavailable { not_permitted: true, .. }), "{hook}: {error}");
        assert!(error.to_string().contains(lacking), "{error}");
    }

    let capabilities = monitor.capabilities().unwrap();
    let status = |hook| capabilities.hooks.iter().find(|status| status.hook == hook).unwrap().status;
    assert_eq!(status(Hook::InterfaceCounters), Status::Works);
    for hook in [Hook::Tcx, Hook::Clsact, Hook::Xdp] {
        assert_eq!(status(hook), Status::Missing, "{hook}");
    }
    assert!(!capabilities.is_complete());
}

#[tag(root)]
#[test]
fn without_capabilities_the_totals_are_answered_and_the_rest_explained() {
    if child::role().is_some() {
        return expect_missing("cap_net_admin and cap_bpf");
    }
    spawn_and_send("without_capabilities_the_totals", &[], "nothing");
}

#[tag(root)]
#[test]
fn the_one_capability_that_is_missing_is_named() {
    match child::role().as_deref() {
        Some("bpf") => return expect_missing("cap_net_admin"),
        Some(_) => return expect_missing("cap_bpf"),
        None => {}
    }
    spawn_and_send("the_one_capability_that_is_missing", &["bpf"], "bpf");
    spawn_and_send("the_one_capability_that_is_missing", &["net_admin"], "net_admin");
}

#[tag(root)]
#[test]
fn cap_bpf_and_cap_net_admin_suffice_for_counting_packets() {
    if let Some(role) = child::role() {
        let hook = match role.as_str() {
            "tcx" => HookChoice::Tcx,
            "clsact" => HookChoice::Clsact,
            "xdp" => HookChoice::Xdp,
            _ => HookChoice::Auto,
        };
        let answer = measure_in_child(hook);
        assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 200)]);
        let capabilities = Monitor::live().unwrap().capabilities().unwrap();
        let status = |hook| capabilities.hooks.iter().find(|status| status.hook == hook).unwrap();
        for hook in [Hook::Tcx, Hook::Clsact, Hook::Xdp] {
            let expected =
                if hook == Hook::Tcx && !kernel_is_since(6, 6) { Status::Missing } else { Status::Works };
            assert_eq!(status(hook).status, expected, "{hook}");
        }
        // Tracing reads the kernel's memory.
        let follows = status(Hook::SetState);
        assert_eq!(follows.reason.as_deref(), Some("not permitted: this process lacks cap_perfmon"));
        return;
    }
    let hooks = here([HookChoice::Auto, HookChoice::Tcx, HookChoice::Clsact, HookChoice::Xdp]);
    for role in hooks.iter().map(ToString::to_string) {
        spawn_and_send("cap_bpf_and_cap_net_admin_suffice", &["bpf", "net_admin"], &role);
    }
}

#[tag(root)]
#[test]
fn with_cap_perfmon_too_every_hook_works() {
    if child::role().is_some() {
        measure_in_child(HookChoice::Auto);
        let capabilities = Monitor::live().unwrap().capabilities().unwrap();
        for hook in &capabilities.hooks {
            // Old kernels do not have all.
            let reason = hook.reason.as_deref().unwrap_or_default();
            let is_absent = !kernel_is_since(6, 6) && reason.starts_with("this kernel ");
            assert!(hook.status == Status::Works || is_absent, "{hook:?}");
        }
        assert!(capabilities.is_complete());
        return;
    }
    spawn_and_send("with_cap_perfmon_too", &["bpf", "net_admin", "perfmon"], "all");
}

#[tag(root)]
#[test]
fn a_hook_that_lacks_a_capability_says_which_and_not_what_the_verifier_makes_of_it() {
    const TEST: &str = "a_hook_that_lacks_a_capability_says_which_and_not_what_the_verifier_makes_of_it";
    if child::role().is_none() {
        let netns = netmon_testkit::Netns::create();
        return Child::spawn(&netns, Privileges::Nobody(&["bpf", "net_admin"]), TEST, "two capabilities")
            .finish();
    }
    let hooks = Monitor::live().unwrap().capabilities().unwrap().hooks;
    let missing: Vec<_> = hooks.iter().filter(|hook| hook.status == Status::Missing).collect();
    assert!(missing.len() >= 10, "{hooks:?}");
    for hook in missing {
        let reason = hook.reason.as_deref().unwrap();
        assert!(reason.contains("lacks cap_perfmon") || reason.starts_with("this kernel "), "{hook:?}");
    }
}
