//! Interfaces that come, go and change while they are measured, and the choice of one.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod kernel_support;

use std::{ffi::OsStr, net::SocketAddr, os::unix::ffi::OsStrExt as _, thread, time::Duration};

use kernel_support::{classes, here, measure, request, row};
use netmon_core::{
    Control, Error, Monitor, RateRequest, RatesAnswer,
    fact::{Direction::*, InterfaceState},
    monitor::{InterfaceChange, RateWatch, SelectedBy},
    request::HookChoice,
};
use netmon_testkit::{Datagrams, LinkOptions, Netns, Side, VethPair, frame, traffic, wait_until};
use test_tag::tag;

fn watch(request: &RateRequest) -> RateWatch {
    Monitor::live().unwrap().watch_rates(request).unwrap()
}

fn next(watch: &mut RateWatch) -> Result<RatesAnswer, Error> {
    watch.next_window(&Control::default())
}

fn named(interfaces: &[&str]) -> RateRequest {
    let mut request = request(HookChoice::Auto);
    request.interfaces = interfaces.iter().map(|name| (*name).to_owned()).collect();
    request
}

/// Sends frames to the near side that nobody answers, and waits until its interface, of whatever name, has them.
fn send_frames(link: &VethPair, interface: &str, count: u64) {
    let before = link.near.counters_of(interface);
    let frame = frame::ethernet(link.near.mac, link.far.mac, &[], 0x88cc, &[0; 46]);
    traffic::send_frames(&link.far.netns, Side::INTERFACE, &vec![frame; usize::try_from(count).unwrap()]);
    wait_until("the frames have arrived", || {
        link.near.counters_of(interface).since(&before).rx_packets >= count
    });
}

/// How many of those were counted. What the far side's kernel sent of its own when the link came back is in other classes.
#[track_caller]
fn frames(answer: &RatesAnswer) -> u64 {
    let incoming = row(answer, Incoming);
    let by_protocol = incoming.by_protocol.as_ref();
    by_protocol.unwrap_or_else(|| panic!("not counted by protocol: {answer:?}")).other.counted.packets
}

#[tag(root)]
#[test]
fn an_interface_removed_in_the_window_is_an_error_that_names_it() {
    for hook in here([HookChoice::Tcx, HookChoice::Clsact, HookChoice::Xdp]) {
        let link = VethPair::create();
        link.near.netns.enter(|| {
            let mut watch = watch(&request(hook));
            link.near.netns.ip(&["link del veth0"]);
            let error = next(&mut watch).unwrap_err();
            assert!(matches!(&error, Error::InterfaceGone { name } if *name == "veth0"), "{error}");
        });
    }
}

#[tag(root)]
#[test]
fn an_interface_removed_while_rates_blocks_is_told_at_the_end_of_the_window() {
    let link = VethPair::create();
    let mut request = request(HookChoice::Auto);
    request.window = Duration::from_millis(600);
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            link.near.netns.ip(&["link del veth0"]);
        });
        link.near.netns.enter(|| Monitor::live().unwrap().rates(&request, &Control::default()))
    });
    assert!(matches!(result, Err(Error::InterfaceGone { .. })), "{result:?}");
}

#[tag(root)]
#[test]
fn of_two_interfaces_the_one_that_stays_has_its_rows_and_the_other_a_warning() {
    let link = VethPair::create();
    let to = SocketAddr::from(([127, 0, 0, 1], 9));
    let _sink = traffic::bind_udp(&link.near.netns, to);
    let answer = link.near.netns.enter(|| {
        let mut watch = watch(&named(&["veth0", "lo"]));
        traffic::send_datagrams(
            &link.near.netns,
            to,
            Datagrams { count: 20, payload: 10, per_second: 10_000 },
        );
        link.near.netns.ip(&["link del veth0"]);
        next(&mut watch).unwrap()
    });
    assert!(answer.rates.iter().all(|rate| rate.interface == "lo"), "{answer:?}");
    assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 20)]);
    assert_eq!(classes(&answer, Outgoing), [("ipv4_udp", 20)]);
    let warnings = &answer.header.coverage.warnings;
    assert_eq!(*warnings, ["interface veth0 disappeared; it has no row"]);
}

#[tag(root)]
#[test]
fn an_interface_that_goes_down_and_up_again_says_so_and_is_counted_on() {
    let link = VethPair::create();
    link.near.netns.enter(|| {
        let mut watch = watch(&request(HookChoice::Auto));
        link.near.netns.ip(&["link set veth0 down"]);
        link.near.netns.ip(&["link set veth0 up"]);
        link.near.wait_for_state("veth0", "UP");
        link.far.wait_for_state("veth0", "UP");
        send_frames(&link, "veth0", 5);
        let answer = next(&mut watch).unwrap();
        let changes = &row(&answer, Incoming).changes;
        assert!(matches!(changes[..], [InterfaceChange::CarrierLost { changes: 2.. }]), "{changes:?}");
        assert_eq!(frames(&answer), 5);

        // Down when the window ends, by its own switch and by the other end's.
        link.near.netns.ip(&["link set veth0 down"]);
        let answer = next(&mut watch).unwrap();
        let down = InterfaceChange::State { from: InterfaceState::Up, to: InterfaceState::AdminDown };
        assert_eq!(row(&answer, Incoming).changes, [down]);

        link.near.netns.ip(&["link set veth0 up"]);
        link.near.wait_for_state("veth0", "UP");
        next(&mut watch).unwrap();
        link.far.netns.ip(&["link set veth0 down"]);
        wait_until("the near side is down too", || {
            !link.near.netns.run("ip -o link show dev veth0").contains("state UP ")
        });
        let answer = next(&mut watch).unwrap();
        // Kernels differ in whether a peer in another namespace is the layer below.
        let changes = &row(&answer, Incoming).changes;
        let to = match changes[..] {
            [InterfaceChange::State { from: InterfaceState::Up, to }] => to,
            _ => panic!("{changes:?}"),
        };
        assert!(matches!(to, InterfaceState::Down | InterfaceState::LowerLayerDown), "{to}");
        let warnings = &answer.header.coverage.warnings;
        assert_eq!(*warnings, [format!("interface veth0 went from up to {to}")]);
    });
}

#[tag(root)]
#[test]
fn a_renamed_interface_has_its_new_name_and_is_counted_on() {
    let link = VethPair::create();
    link.near.netns.enter(|| {
        let mut watch = watch(&request(HookChoice::Auto));
        // Kernels before 6.2 rename no interface that is up. Another takes the old name, to be mistaken for it.
        link.near.netns.ip(&[
            "link set veth0 down",
            "link set veth0 name other0",
            "link set other0 up",
            "link add veth0 type bridge",
        ]);
        link.near.wait_for_state("other0", "UP");
        link.far.wait_for_state("veth0", "UP");
        send_frames(&link, "other0", 5);
        let answer = next(&mut watch).unwrap();
        for rate in &answer.rates {
            assert_eq!((rate.interface.as_str(), rate.index), ("other0", link.near.index));
            assert!(rate.changes.contains(&InterfaceChange::Renamed { from: "veth0".into() }), "{rate:?}");
        }
        assert_eq!(frames(&answer), 5);
        assert_eq!(answer.selection.interfaces, ["veth0"]);

        // It is followed under the new name.
        send_frames(&link, "other0", 7);
        let answer = next(&mut watch).unwrap();
        assert_eq!(frames(&answer), 7);
        assert_eq!(row(&answer, Incoming).changes, []);
        assert_eq!(answer.selection.interfaces, ["other0"]);
    });
}

#[tag(root)]
#[test]
fn an_interface_made_again_under_its_name_is_followed_and_counted_by_protocol_again() {
    for hook in here([HookChoice::Tcx, HookChoice::Clsact, HookChoice::Xdp]) {
        let mut link = VethPair::create();
        let mut watch = link.near.netns.enter(|| watch(&request(hook)));
        let mut next = |link: &VethPair| link.near.netns.enter(|| next(&mut watch));

        // Removed and made again in the same window.
        send_frames(&link, "veth0", 3);
        link.near.netns.ip(&["link del veth0"]);
        link.connect(LinkOptions::default());
        let before = link.near.counters();
        send_frames(&link, "veth0", 5);
        let answer = next(&link).unwrap();
        let incoming = row(&answer, Incoming);
        assert_eq!(incoming.changes, [InterfaceChange::Replaced]);
        assert_eq!((incoming.index, incoming.packets), (link.near.index, before.rx_packets + 5), "{hook}");
        assert_eq!(incoming.by_protocol, None);

        send_frames(&link, "veth0", 7);
        let answer = next(&link).unwrap();
        assert_eq!(row(&answer, Incoming).changes, []);
        assert_eq!(frames(&answer), 7, "{hook}");

        // Gone for a whole window.
        link.near.netns.ip(&["link del veth0"]);
        let error = next(&link).unwrap_err();
        assert!(matches!(error, Error::InterfaceGone { .. }), "{error}");
        link.connect(LinkOptions::default());
        assert_eq!(row(&next(&link).unwrap(), Incoming).changes, [InterfaceChange::Replaced]);
        send_frames(&link, "veth0", 9);
        let answer = next(&link).unwrap();
        assert_eq!(frames(&answer), 9, "{hook}");

        link.near.netns.enter(|| drop(watch));
        assert_eq!(link.near.netns.run("tc filter show dev veth0 ingress"), "", "{hook}");
        assert!(!link.near.netns.run("ip -d link show dev veth0").contains("xdp"), "{hook}");
    }
}

#[tag(root)]
#[test]
fn an_interface_made_again_with_its_number_too_is_counted_by_protocol_again_and_never_as_zero() {
    for hook in here([HookChoice::Tcx, HookChoice::Clsact, HookChoice::Xdp]) {
        let link = VethPair::create();
        let mut watch = link.near.netns.enter(|| watch(&request(hook)));
        let mut next = |link: &VethPair| link.near.netns.enter(|| next(&mut watch));
        send_frames(&link, "veth0", 30);
        assert_eq!(frames(&next(&link).unwrap()), 30, "{hook}");

        let (index, far) = (link.near.index, link.far.netns.name());
        link.near.netns.ip(&[
            "link del veth0".to_owned(),
            format!("link add name veth0 index {index} type veth peer name veth0 netns {far}"),
            "link set veth0 up".to_owned(),
        ]);
        link.far.netns.ip(&["link set veth0 up"]);
        link.near.wait_for_state("veth0", "UP");
        send_frames(&link, "veth0", 5);
        let answer = next(&link).unwrap();
        let incoming = row(&answer, Incoming);
        assert_eq!(
            (incoming.changes.as_slice(), incoming.packets),
            (&[InterfaceChange::CountersReset][..], 5)
        );
        assert_eq!((&incoming.by_protocol, &incoming.hook), (&None, &None), "what saw nothing knows nothing");

        send_frames(&link, "veth0", 7);
        let answer = next(&link).unwrap();
        assert_eq!(row(&answer, Incoming).changes, []);
        assert_eq!(frames(&answer), 7, "{hook}");
    }
}

/// Which interface is measured when none is named, and why.
fn default_choice(netns: &Netns) -> Result<(String, SelectedBy), Error> {
    let mut request = RateRequest::default();
    request.window = Duration::from_millis(100);
    let answer = netns.enter(|| Monitor::live()?.rates(&request, &Control::default()))?;
    Ok((answer.rates[0].interface.to_string(), answer.selection.by))
}

/// A second link: `other0` with 10.79.0.1/24 and `fd79::1/64` in the near namespace, and its end in the far one.
fn add_other(link: &VethPair) {
    link.near.netns.ip(&[
        format!("link add other0 type veth peer name other1 netns {}", link.far.netns.name()),
        "addr add 10.79.0.1/24 dev other0".to_owned(),
        "addr add fd79::1/64 dev other0 nodad".to_owned(),
        "link set other0 up".to_owned(),
    ]);
    link.far.netns.ip(&["link set other1 up"]);
    link.near.wait_for_state("other0", "UP");
}

#[tag(root)]
#[test]
fn the_default_routes_interface_is_chosen_however_the_route_is_written() {
    let by_route = |name: &str| (name.to_owned(), SelectedBy::DefaultRoute);
    for (routes, expected) in [
        (&["route add default via 10.79.0.2 dev other0"][..], "other0"),
        (&["route add default dev other0 scope link"], "other0"),
        (&["route add default via fd79::2 dev other0"], "other0"),
        // IPv4 before IPv6, and the lower metric.
        (&["route add default via fd79::2 dev other0", "route add default via 10.77.0.2"], "veth0"),
        (
            &["route add default via 10.77.0.2 metric 10", "route add default via 10.79.0.2 metric 5"],
            "other0",
        ),
        // Of several next hops the first.
        (
            &[
                "route add default nexthop via 10.79.0.2 dev other0 weight 1 nexthop via 10.77.0.2 dev veth0 weight 9",
            ],
            "other0",
        ),
        (&["nexthop add id 7 via 10.79.0.2 dev other0", "route add default nhid 7"], "other0"),
        // By a policy rule, in another table.
        (&["route add default via 10.79.0.2 table 100", "rule add pref 100 lookup 100"], "other0"),
    ] {
        let link = VethPair::create();
        add_other(&link);
        link.near.netns.ip(routes);
        assert_eq!(default_choice(&link.near.netns).unwrap(), by_route(expected), "{routes:?}");
        let interfaces = link.near.netns.enter(|| Monitor::live().unwrap().interfaces().unwrap());
        for interface in interfaces.interfaces {
            assert_eq!(interface.default_route, interface.name == expected, "{routes:?}");
        }
    }
}

#[tag(root)]
#[test]
fn without_a_default_route_the_busiest_interface_that_is_up_is_chosen() {
    let link = VethPair::create();
    let netns = &link.near.netns;
    add_other(&link);
    // A route that leads nowhere is none.
    netns.ip(&["route add blackhole default"]);
    let busiest = |name: &str| (name.to_owned(), SelectedBy::Busiest);

    let frame = frame::ethernet([2; 6], link.near.mac, &[], 0x88cc, &[0; 46]);
    traffic::send_frames(netns, "veth0", &vec![frame.clone(); 200]);
    assert_eq!(default_choice(netns).unwrap(), busiest("veth0"));
    traffic::send_frames(netns, "other0", &vec![frame.clone(); 400]);
    assert_eq!(default_choice(netns).unwrap(), busiest("other0"));
    // However much the loopback has counted.
    traffic::send_frames(netns, "lo", &vec![frame; 800]);
    assert_eq!(default_choice(netns).unwrap(), busiest("other0"));
    netns.ip(&["link set other0 down"]);
    assert_eq!(default_choice(netns).unwrap(), busiest("veth0"));
}

#[tag(root)]
#[test]
fn a_namespace_with_nothing_but_its_loopback_has_one_to_choose_only_while_that_is_up() {
    let netns = Netns::create();
    assert_eq!(default_choice(&netns).unwrap(), ("lo".to_owned(), SelectedBy::Busiest));
    netns.ip(&["link set lo down"]);
    let error = default_choice(&netns).unwrap_err();
    assert!(matches!(error, Error::NoInterfaceUp { .. }), "{error}");
    assert!(error.to_string().contains("lo"), "{error}");
}

#[tag(root)]
#[test]
fn an_unknown_name_is_an_error_that_lists_the_known() {
    let link = VethPair::create();
    let error = link.near.netns.enter(|| {
        Monitor::live().unwrap().rates(&named(&["veth0", "vteh0"]), &Control::default()).unwrap_err()
    });
    assert_eq!(error.to_string(), r#"no interface named "vteh0"; there are: lo, veth0"#);
}

#[tag(root)]
#[test]
fn a_name_of_strange_bytes_is_shown_cleaned_and_can_be_measured() {
    let link = VethPair::create();
    let netns = &link.near.netns;
    let name = OsStr::from_bytes(b"ev\xffil\x1b[2J");
    let status = netns.command("ip").args(["link", "set", "veth0", "down"]).status().unwrap();
    assert!(status.success());
    let status = netns.command("ip").args(["link", "set", "veth0", "name"]).arg(name).status().unwrap();
    assert!(status.success());
    let status = netns.command("ip").args(["link", "set"]).arg(name).arg("up").status().unwrap();
    assert!(status.success());

    let shown = r"ev\xffil\x1b[2J";
    let interfaces = netns.enter(|| Monitor::live().unwrap().interfaces().unwrap());
    let names: Vec<_> = interfaces.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    assert_eq!(names, ["lo", shown]);

    link.far.wait_for_state("veth0", "UP");
    let answer = netns.enter(|| {
        let mut watch = watch(&named(&[shown]));
        let frame = frame::ethernet(link.near.mac, link.far.mac, &[], 0x88cc, &[0; 46]);
        traffic::send_frames(&link.far.netns, "veth0", &vec![frame; 5]);
        thread::sleep(Duration::from_millis(100));
        next(&mut watch).unwrap()
    });
    assert_eq!(answer.rates[0].interface, shown);
    assert_eq!(frames(&answer), 5);
}

#[tag(root)]
#[test]
fn addresses_kind_and_state_are_as_the_kernel_has_them() {
    let link = VethPair::create_with(LinkOptions { mtu: 1_400, ..LinkOptions::default() });
    link.near.netns.ip(&["link set veth0 alias uplink"]);
    let answer = link.near.netns.enter(|| Monitor::live().unwrap().interfaces().unwrap());
    let veth = answer.interfaces.iter().find(|interface| interface.name == "veth0").unwrap();
    assert_eq!((veth.index, veth.mtu, veth.state), (link.near.index, 1_400, InterfaceState::Up));
    assert_eq!(veth.kind.as_ref().unwrap(), "veth");
    assert_eq!(veth.alias.as_ref().unwrap(), "uplink");
    assert_eq!(veth.mac_address.as_deref(), Some("02:00:00:77:00:01"));
    assert_eq!(veth.addresses, ["10.77.0.1/24", "fd77::1/64"]);
    let kernel = link.near.counters();
    assert_eq!((veth.incoming.packets, veth.outgoing.packets), (kernel.rx_packets, kernel.tx_packets));

    // Rates of every interface, without attaching anything.
    let mut nothing = request(HookChoice::None);
    nothing.interfaces.clear();
    let answer = measure(&link, &nothing, || send_frames(&link, "veth0", 4));
    assert_eq!((row(&answer, Incoming).packets, row(&answer, Incoming).hook), (4, None));
    assert_eq!(answer.header.coverage.missing_hooks, []);
}
