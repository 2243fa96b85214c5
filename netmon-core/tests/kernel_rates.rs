//! Rates of real traffic whose every packet is known, against the kernel's own counters.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod kernel_support;

use std::{fs, net::SocketAddr, thread, time::Duration};

use kernel_support::{classes, here, measure, preferred, request, row};
use netmon_core::{
    Control, Error, Monitor, RatesAnswer,
    fact::{Direction::*, Hook, Layer},
    request::{Directions, HookChoice},
    source::recording::RecordRequest,
};
use netmon_testkit::{
    Datagrams, LinkOptions, Side, Tun, VethPair, frame, kernel_is_since, traffic, wait_until,
};
use test_tag::tag;

const ETHERNET: u64 = 14;
const IPV4_UDP: u64 = ETHERNET + 20 + 8;
const IPV6_UDP: u64 = ETHERNET + 40 + 8;

fn ipv4(side: &Side) -> SocketAddr {
    SocketAddr::from((side.ipv4, 9))
}

fn ipv6(side: &Side) -> SocketAddr {
    SocketAddr::from((side.ipv6, 9))
}

/// Measures while datagrams go from one side to the other.
fn measure_datagrams(
    link: &VethPair,
    hook: HookChoice,
    (from, to): (&Side, SocketAddr),
    datagrams: Datagrams,
) -> RatesAnswer {
    let receiver = if from.index == link.near.index { &link.far } else { &link.near };
    let _sink = traffic::bind_udp(&receiver.netns, to);
    measure(link, &request(hook), || traffic::send_datagrams(&from.netns, to, datagrams))
}

#[tag(root)]
#[test]
fn datagrams_are_counted_exactly_at_several_rates_and_sizes() {
    let link = VethPair::create();
    let cases = [
        (ipv4(&link.near), 200, 0, 1_000),
        (ipv4(&link.near), 2_000, 64, 50_000),
        (ipv4(&link.near), 500, 1_472, 5_000),
        (ipv6(&link.near), 200, 1, 1_000),
        (ipv6(&link.near), 500, 1_452, 5_000),
    ];
    for (to, count, payload, per_second) in cases {
        let (class, headers) = if to.is_ipv4() { ("ipv4_udp", IPV4_UDP) } else { ("ipv6_udp", IPV6_UDP) };
        let datagrams = Datagrams { count, payload, per_second };
        let answer = measure_datagrams(&link, HookChoice::Auto, (&link.far, to), datagrams);

        let packets = u64::from(count);
        let bytes = packets * (headers + payload as u64);
        let incoming = row(&answer, Incoming);
        assert_eq!((incoming.packets, incoming.interface_bytes), (packets, bytes), "{to} {datagrams:?}");
        assert_eq!(classes(&answer, Incoming), [(class, packets)]);
        assert_eq!((incoming.wire_packets, incoming.wire_bytes), (Some(packets), Some(bytes)));
        let hook = incoming.hook.unwrap();
        let ingress = if preferred() == HookChoice::Tcx { Hook::TcxIngress } else { Hook::ClsactIngress };
        assert_eq!((hook.hook, hook.layer), (ingress, Layer::Skb));
        assert_eq!((hook.total.packets, hook.total.interface_bytes), (packets, bytes));
        assert_eq!(row(&answer, Outgoing).packets, 0);
        assert_eq!(classes(&answer, Outgoing), []);
        assert_eq!(answer.header.coverage.missing_hooks, []);
    }
}

#[tag(root)]
#[test]
fn sent_datagrams_are_counted_as_outgoing() {
    let link = VethPair::create();
    for (to, class, each) in
        [(ipv4(&link.far), "ipv4_udp", IPV4_UDP + 100), (ipv6(&link.far), "ipv6_udp", IPV6_UDP + 100)]
    {
        let datagrams = Datagrams { count: 300, payload: 100, per_second: 10_000 };
        let answer = measure_datagrams(&link, HookChoice::Auto, (&link.near, to), datagrams);

        let outgoing = row(&answer, Outgoing);
        assert_eq!((outgoing.packets, outgoing.interface_bytes), (300, 300 * each));
        assert_eq!(classes(&answer, Outgoing), [(class, 300)]);
        assert_eq!(classes(&answer, Incoming), []);
    }
}

#[tag(root)]
#[test]
fn rates_blocks_for_its_window_and_divides_by_the_time_observed() {
    let link = VethPair::create();
    let to = ipv4(&link.near);
    let _sink = traffic::bind_udp(&link.near.netns, to);
    let mut request = request(HookChoice::Auto);
    request.window = Duration::from_millis(1_500);
    let answer = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300)); // the programs are attached long since
            let datagrams = Datagrams { count: 250, payload: 10, per_second: 1_000 };
            traffic::send_datagrams(&link.far.netns, to, datagrams);
        });
        link.near.netns.enter(|| Monitor::live().unwrap().rates(&request, &Control::default()).unwrap())
    });

    let incoming = row(&answer, Incoming);
    assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 250)]);
    let seconds = answer.header.window.seconds;
    assert!((1.5..10.0).contains(&seconds), "{seconds}");
    assert!((incoming.packets_per_second * seconds - 250.0).abs() < 1e-6, "{incoming:?}");
    assert!((incoming.bytes_per_second * seconds - 250.0 * (IPV4_UDP + 10) as f64).abs() < 1e-3);
}

#[tag(root)]
#[test]
fn clsact_counts_what_tcx_counts() {
    let link = VethPair::create();
    let datagrams = Datagrams { count: 400, payload: 200, per_second: 10_000 };
    for (to, class, each) in
        [(ipv4(&link.near), "ipv4_udp", IPV4_UDP + 200), (ipv6(&link.near), "ipv6_udp", IPV6_UDP + 200)]
    {
        let answer = measure_datagrams(&link, HookChoice::Clsact, (&link.far, to), datagrams);
        let incoming = row(&answer, Incoming);
        assert_eq!((incoming.packets, incoming.interface_bytes), (400, 400 * each));
        assert_eq!(classes(&answer, Incoming), [(class, 400)]);
        let hook = incoming.hook.unwrap();
        assert_eq!((hook.hook, hook.layer), (Hook::ClsactIngress, Layer::Skb));
        assert_eq!(hook.total.interface_bytes, 400 * each);
    }
    let answer = measure_datagrams(&link, HookChoice::Clsact, (&link.near, ipv4(&link.far)), datagrams);
    assert_eq!(classes(&answer, Outgoing), [("ipv4_udp", 400)]);
    assert_eq!(row(&answer, Outgoing).hook.unwrap().hook, Hook::ClsactEgress);
    assert_eq!(
        answer.header.coverage.active_hooks,
        [Hook::InterfaceCounters, Hook::ClsactIngress, Hook::ClsactEgress]
    );
}

#[tag(root)]
#[test]
fn xdp_counts_incoming_frames_and_says_what_it_cannot_see() {
    let link = VethPair::create();
    let datagrams = Datagrams { count: 400, payload: 200, per_second: 10_000 };
    for (to, class, each) in
        [(ipv4(&link.near), "ipv4_udp", IPV4_UDP + 200), (ipv6(&link.near), "ipv6_udp", IPV6_UDP + 200)]
    {
        let answer = measure_datagrams(&link, HookChoice::Xdp, (&link.far, to), datagrams);
        let incoming = row(&answer, Incoming);
        assert_eq!(incoming.packets, 400);
        assert_eq!(classes(&answer, Incoming), [(class, 400)]);
        let hook = incoming.hook.unwrap();
        assert_eq!((hook.hook, hook.layer), (Hook::Xdp, Layer::Wire));
        assert_eq!(hook.total.interface_bytes, 400 * each);

        assert_eq!(row(&answer, Outgoing).hook, None);
        let coverage = &answer.header.coverage;
        assert_eq!(coverage.missing_hooks.len(), 1);
        assert_eq!(coverage.missing_hooks[0].hook, Hook::Xdp);
        assert_eq!(coverage.missing_hooks[0].reason, "it sees incoming packets only");
        assert!(coverage.missing_hooks[0].hides.contains("outgoing"), "{coverage:?}");
        assert!(coverage.warnings.iter().any(|warning| warning.starts_with("XDP counts")), "{coverage:?}");
    }

    let mut outgoing = request(HookChoice::Xdp);
    outgoing.direction = Directions::Outgoing;
    let error =
        link.near.netns.enter(|| Monitor::live().unwrap().rates(&outgoing, &Control::default()).unwrap_err());
    assert!(matches!(error, Error::InvalidRequest(_)), "{error}");
}

#[tag(root)]
#[test]
fn generic_xdp_says_that_it_counts_buffers() {
    let link = VethPair::create();
    let to = SocketAddr::from(([127, 0, 0, 1], 9));
    let _sink = traffic::bind_udp(&link.near.netns, to);
    let mut request = request(HookChoice::Xdp);
    request.interfaces = vec!["lo".to_owned()];
    let answer = link.near.netns.enter(|| {
        let mut watch = Monitor::live().unwrap().watch_rates(&request).unwrap();
        let datagrams = Datagrams { count: 50, payload: 10, per_second: 10_000 };
        traffic::send_datagrams(&link.near.netns, to, datagrams);
        watch.next_window(&Control::default()).unwrap()
    });
    assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 50)]);
    assert_eq!(row(&answer, Incoming).hook.unwrap().layer, Layer::Skb);
}

#[tag(root)]
#[test]
fn address_resolution_is_counted_beside_what_it_is_for() {
    let link = VethPair::create_with(LinkOptions { known_neighbours: false, ..LinkOptions::default() });
    let datagrams = Datagrams { count: 10, payload: 10, per_second: 1_000 };

    let answer = measure_datagrams(&link, HookChoice::Auto, (&link.far, ipv4(&link.near)), datagrams);
    assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 10), ("arp", 1)]);
    assert_eq!(classes(&answer, Outgoing), [("arp", 1)]);
    assert_eq!(row(&answer, Incoming).packets, 11);

    let answer = measure_datagrams(&link, HookChoice::Auto, (&link.far, ipv6(&link.near)), datagrams);
    assert_eq!(classes(&answer, Incoming), [("ipv6_udp", 10), ("ipv6_icmp", 1)]);
    assert_eq!(classes(&answer, Outgoing), [("ipv6_icmp", 1)]);
}

#[tag(root)]
#[test]
fn echo_requests_and_answers_are_icmp_of_their_family() {
    let link = VethPair::create();
    for hook in here([HookChoice::Tcx, HookChoice::Clsact]) {
        let answer =
            measure(&link, &request(hook), || traffic::ping(&link.far.netns, link.near.ipv4.into(), 5));
        for direction in [Incoming, Outgoing] {
            assert_eq!(classes(&answer, direction), [("ipv4_icmp", 5)]);
            assert_eq!(row(&answer, direction).interface_bytes, 5 * (ETHERNET + 20 + 8 + 56));
        }
        let answer =
            measure(&link, &request(hook), || traffic::ping(&link.far.netns, link.near.ipv6.into(), 5));
        for direction in [Incoming, Outgoing] {
            assert_eq!(classes(&answer, direction), [("ipv6_icmp", 5)]);
            assert_eq!(row(&answer, direction).interface_bytes, 5 * (ETHERNET + 40 + 8 + 56));
        }
    }
}

#[tag(root)]
#[test]
fn another_transport_is_other_of_its_family() {
    let link = VethPair::create();
    for (to, other, icmp) in [
        (link.near.ipv4.into(), "ipv4_other", "ipv4_icmp"),
        (link.near.ipv6.into(), "ipv6_other", "ipv6_icmp"),
    ] {
        let answer = measure(&link, &request(HookChoice::Auto), || {
            traffic::send_sctp(&link.far.netns, to, &[0; 32], 7);
        });
        assert_eq!(classes(&answer, Incoming), [(other, 7)]);
        // The near side has no SCTP, and says so.
        assert_eq!(classes(&answer, Outgoing), [(icmp, 7)]);
    }
}

/// Sends frames to the near side and from it, and requires each to be counted in this class.
#[track_caller]
fn expect_class(link: &VethPair, payload: &[u8], tags: &[(u16, u16)], ether_type: u16, class: &str) {
    const COUNT: usize = 3;
    let frame = frame::ethernet(link.near.mac, link.far.mac, tags, ether_type, payload);
    let frames = vec![frame; COUNT];
    for hook in [preferred(), HookChoice::Xdp] {
        let answer = measure(link, &request(hook), || {
            traffic::send_frames(&link.far.netns, Side::INTERFACE, &frames);
        });
        assert_eq!(classes(&answer, Incoming), [(class, COUNT as u64)], "{hook} {tags:x?} {ether_type:#x}");
    }
    // The same on the way out, to nobody, so that nobody answers.
    let frame = frame::ethernet([2; 6], link.near.mac, tags, ether_type, payload);
    let answer = measure(link, &request(preferred()), || {
        traffic::send_frames(&link.near.netns, Side::INTERFACE, &vec![frame; COUNT]);
    });
    assert_eq!(classes(&answer, Outgoing), [(class, COUNT as u64)], "{tags:x?} {ether_type:#x}");
}

#[tag(root)]
#[test]
fn extension_headers_are_followed_to_the_transport() {
    let link = VethPair::create();
    let next = |header: u8, length: u8, rest: &[u8]| [&[header, length], rest].concat();
    let padding = [1, 4, 0, 0, 0, 0]; // PadN
    let udp = frame::udp(9, 9, b"payload");
    // Hop-by-hop, destination options, and the first fragment of a datagram.
    let chain = [
        next(60, 0, &padding),
        next(44, 0, &padding),
        next(17, 0, &[0, 1, 0, 0, 0, 7]), // offset 0, more to come
        udp.clone(),
    ]
    .concat();
    let packet = frame::ipv6(link.far.ipv6, link.near.ipv6, 0, &chain);
    expect_class(&link, &packet, &[], 0x86dd, "ipv6_udp");

    // An authentication header, which counts its length in words less two: 24 bytes.
    let authenticated = [next(17, 4, &[0; 22]), udp].concat();
    let packet = frame::ipv6(link.far.ipv6, link.near.ipv6, 51, &authenticated);
    expect_class(&link, &packet, &[], 0x86dd, "ipv6_udp");

    // No next header.
    let packet = frame::ipv6(link.far.ipv6, link.near.ipv6, 59, &[]);
    expect_class(&link, &packet, &[], 0x86dd, "ipv6_other");
}

#[tag(root)]
#[test]
fn fragments_are_counted_with_their_datagram() {
    let link = VethPair::create();
    let datagrams = Datagrams { count: 20, payload: 4_000, per_second: 1_000 };
    for (to, class, headers) in
        [(ipv4(&link.near), "ipv4_udp", ETHERNET + 20), (ipv6(&link.near), "ipv6_udp", ETHERNET + 40 + 8)]
    {
        let answer = measure_datagrams(&link, HookChoice::Auto, (&link.far, to), datagrams);
        assert_eq!(classes(&answer, Incoming), [(class, 60)]);
        // Three fragments: their headers, and one of UDP.
        assert_eq!(row(&answer, Incoming).interface_bytes, 20 * (3 * headers + 8 + 4_000));
    }
}

#[tag(root)]
#[test]
fn frames_with_vlan_tags_are_looked_through() {
    let link = VethPair::create();
    let udp = frame::udp(9, 9, b"payload");
    let packet = frame::ipv4(link.far.ipv4, link.near.ipv4, 17, &udp);
    expect_class(&link, &packet, &[(0x8100, 7)], 0x0800, "ipv4_udp");
    expect_class(&link, &packet, &[(0x88a8, 7), (0x8100, 8)], 0x0800, "ipv4_udp");
    let tcp = frame::ipv6(link.far.ipv6, link.near.ipv6, 6, &[0; 20]);
    expect_class(&link, &tcp, &[(0x88a8, 7), (0x8100, 8)], 0x86dd, "ipv6_tcp");
    // Nobody stacks four.
    expect_class(&link, &packet, &[(0x8100, 1); 4], 0x0800, "other");
}

#[tag(root)]
#[test]
fn frames_too_short_to_tell_are_other() {
    let link = VethPair::create();
    expect_class(&link, &[], &[], 0x88cc, "other"); // LLDP, and nothing in it
    expect_class(&link, &[], &[], 0x0800, "ipv4_other");
    expect_class(&link, &[0x45, 0, 0], &[], 0x0800, "ipv4_other");
    expect_class(&link, &[0x60], &[], 0x86dd, "ipv6_other");
    expect_class(&link, &[], &[], 0x0806, "arp");
}

#[tag(root)]
#[test]
fn a_frame_cut_in_its_tag_shows_as_the_difference_to_the_kernels_counter() {
    let link = VethPair::create();
    let cut = frame::ethernet(link.near.mac, link.far.mac, &[], 0x8100, &[0, 1]);
    let send = |netns| traffic::send_frames(netns, Side::INTERFACE, &vec![cut.clone(); 3]);

    // The driver counts it, and the kernel drops it before tcx: it cannot take the tag off.
    let answer = link.near.netns.enter(|| {
        let mut watch = Monitor::live().unwrap().watch_rates(&request(preferred())).unwrap();
        send(&link.far.netns);
        link.settle();
        watch.next_window(&Control::default()).unwrap()
    });
    let incoming = row(&answer, Incoming);
    assert_eq!((incoming.packets, incoming.hook.unwrap().packets_difference), (3, -3));
    assert_eq!(classes(&answer, Incoming), []);

    // XDP comes before that.
    let answer = measure(&link, &request(HookChoice::Xdp), || send(&link.far.netns));
    assert_eq!(classes(&answer, Incoming), [("other", 3)]);
    let answer = measure(&link, &request(preferred()), || send(&link.near.netns));
    assert_eq!(classes(&answer, Outgoing), [("other", 3)]);
}

#[tag(root)]
#[test]
#[ignore = "needs a kernel with CONFIG_VLAN_8021Q"]
fn traffic_of_a_vlan_is_counted_on_the_interface_below_it() {
    let link = VethPair::create();
    let (near, _far) = link.add_vlan(5);
    let to = SocketAddr::from((near, 9));
    let datagrams = Datagrams { count: 50, payload: 100, per_second: 10_000 };
    for hook in here([HookChoice::Tcx, HookChoice::Clsact]) {
        let answer = measure_datagrams(&link, hook, (&link.far, to), datagrams);
        assert_eq!(classes(&answer, Incoming), [("ipv4_udp", 50)]);
        assert_eq!(row(&answer, Incoming).interface_bytes, 50 * (IPV4_UDP + 100));
    }

    // And on the VLAN itself, measured in the same window.
    let mut both = request(HookChoice::Auto);
    both.interfaces.push("veth0.5".to_owned());
    both.direction = Directions::Incoming;
    let _sink = traffic::bind_udp(&link.near.netns, to);
    let answer = link.near.netns.enter(|| {
        let mut watch = Monitor::live().unwrap().watch_rates(&both).unwrap();
        traffic::send_datagrams(&link.far.netns, to, datagrams);
        link.settle();
        watch.next_window(&Control::default()).unwrap()
    });
    assert_eq!(answer.rates.len(), 2);
    for rate in &answer.rates {
        assert_eq!((rate.packets, rate.hook.unwrap().total.packets), (50, 50), "{rate:?}");
        assert_eq!(rate.by_protocol.unwrap().ipv4_udp.counted.packets, 50);
    }
}

#[tag(root)]
#[test]
fn jumbo_frames_are_counted_exactly_by_every_hook() {
    let link = VethPair::create_with(LinkOptions { mtu: 9_000, ..LinkOptions::default() });
    let mut hooks = here([HookChoice::Tcx, HookChoice::Clsact, HookChoice::Xdp]);
    // XDP takes frames in several buffers since then.
    hooks.retain(|hook| *hook != HookChoice::Xdp || kernel_is_since(5, 18));
    for hook in hooks {
        for (to, class, payload) in
            [(ipv4(&link.near), "ipv4_udp", 8_972), (ipv6(&link.near), "ipv6_udp", 8_952)]
        {
            let datagrams = Datagrams { count: 100, payload, per_second: 5_000 };
            let answer = measure_datagrams(&link, hook, (&link.far, to), datagrams);
            assert_eq!(classes(&answer, Incoming), [(class, 100)], "{hook}");
            assert_eq!(row(&answer, Incoming).wire_bytes, Some(100 * 9_014), "{hook}");
        }
    }
}

#[tag(root)]
#[test]
fn segments_of_bulk_tcp_are_counted_as_they_are_on_the_wire() {
    const BYTES: usize = 20_000_000;
    let link = VethPair::create();
    // Headers with the timestamp option; a SYN has 8 bytes of options more.
    for (to, class, headers) in
        [(ipv4(&link.far), "ipv4_tcp", ETHERNET + 20 + 32), (ipv6(&link.far), "ipv6_tcp", ETHERNET + 40 + 32)]
    {
        for hook in here([HookChoice::Tcx, HookChoice::Clsact]) {
            let before = (link.near.tcp_segments(), link.far.tcp_segments());
            let mut far = None;
            let near = measure(&link, &request(hook), || {
                far = Some(measure_far(&link, hook, || {
                    traffic::transfer_tcp(&link.near.netns, &link.far.netns, to, BYTES);
                }));
            });
            let far = far.unwrap();
            let sent = link.near.tcp_segments().since(&before.0);
            let answered = link.far.tcp_segments().since(&before.1);

            let outgoing = row(&near, Outgoing);
            let wire_packets = outgoing.wire_packets.unwrap();
            // What TCP itself says that it sent. The payload needs so many, and a few more where a write ended.
            assert_eq!(wire_packets, sent.sent + sent.sent_again, "{sent:?}");
            let needed = (BYTES as u64).div_ceil(1_514 - headers);
            assert!((needed..=needed + needed / 20).contains(&wire_packets), "{wire_packets} for {needed}");
            assert!(outgoing.packets * 4 < wire_packets, "no segmentation offload here: {outgoing:?}");
            if sent.sent_again == 0 {
                let expected = BYTES as u64 + wire_packets * headers + 8;
                assert_eq!(outgoing.wire_bytes, Some(expected), "{hook} {class}");
            }
            assert_eq!(classes(&near, Outgoing), [(class, outgoing.packets)]);

            // The other end of the link sees the same.
            let received = row(&far, Incoming);
            assert_eq!(received.wire_packets, outgoing.wire_packets);
            assert_eq!(received.wire_bytes, outgoing.wire_bytes);
            assert_eq!(row(&near, Incoming).wire_packets, Some(answered.sent + answered.sent_again));
            assert_eq!(row(&far, Outgoing).wire_bytes, row(&near, Incoming).wire_bytes);
        }
    }
}

/// Measures the far side while a measurement of the near side runs.
fn measure_far(link: &VethPair, hook: HookChoice, traffic: impl FnOnce() + Send) -> RatesAnswer {
    link.far.netns.enter(|| {
        let mut watch = Monitor::live().unwrap().watch_rates(&request(hook)).unwrap();
        traffic();
        link.settle();
        watch.next_window(&Control::default()).unwrap()
    })
}

#[tag(root)]
#[test]
fn xdp_counts_every_frame_of_bulk_tcp() {
    const BYTES: usize = 5_000_000;
    let link = VethPair::create();
    let answer = measure(&link, &request(HookChoice::Xdp), || {
        traffic::transfer_tcp(&link.far.netns, &link.near.netns, ipv4(&link.near), BYTES);
    });
    let incoming = row(&answer, Incoming);
    let hook = incoming.hook.unwrap();
    assert_eq!(classes(&answer, Incoming), [("ipv4_tcp", incoming.packets)]);
    let needed = (BYTES as u64).div_ceil(1_448);
    assert!((needed..=needed + needed / 50).contains(&hook.total.packets), "{hook:?} for {needed}");
    assert_eq!(hook.total.packets, hook.total.wire_packets);
    assert_eq!(hook.total.wire_bytes, hook.total.interface_bytes);
}

#[tag(root)]
#[test]
fn segments_of_udp_offload_are_counted_exactly() {
    let link = VethPair::create();
    for (to, class, headers) in
        [(ipv4(&link.far), "ipv4_udp", IPV4_UDP), (ipv6(&link.far), "ipv6_udp", IPV6_UDP)]
    {
        let _sink = traffic::bind_udp(&link.far.netns, to);
        let answer = measure(&link, &request(HookChoice::Auto), || {
            // Ten segments of 1,000 bytes and one of 500.
            traffic::send_segmented_datagrams(&link.near.netns, to, 20, 10_500, 1_000);
        });
        let outgoing = row(&answer, Outgoing);
        assert_eq!(classes(&answer, Outgoing), [(class, 20)]);
        assert_eq!((outgoing.packets, outgoing.wire_packets), (20, Some(220)));
        assert_eq!(outgoing.interface_bytes, 20 * (headers + 10_500));
        assert_eq!(outgoing.wire_bytes, Some(20 * (11 * headers + 10_500)));
    }
}

#[tag(root)]
#[test]
fn packets_without_an_ethernet_header_are_classified() {
    let link = VethPair::create();
    let mut tun = Tun::create(&link.near.netns, "tun0");
    let (own, peer) = ([10, 78, 0, 1].into(), [10, 78, 0, 2].into());
    let sink = traffic::bind_udp(&link.near.netns, SocketAddr::from((own, 9)));
    for hook in here([HookChoice::Tcx, HookChoice::Clsact]) {
        let mut request = request(hook);
        request.interfaces = vec!["tun0".to_owned()];
        let before = link.near.counters_of("tun0");
        let answer = link.near.netns.enter(|| {
            let mut watch = Monitor::live().unwrap().watch_rates(&request).unwrap();
            for _ in 0..4 {
                tun.receive(&frame::ipv4(peer, own, 17, &frame::udp(9, 9, &[0; 32])));
            }
            tun.receive(&frame::ipv4(peer, own, 1, &traffic::echo_request(&[0; 32])));
            let tcp = frame::ipv6(link.far.ipv6, link.near.ipv6, 6, &[0; 20]);
            tun.receive(&tcp);
            tun.receive(&tcp);
            for _ in 0..3 {
                sink.send_to(&[0; 10], SocketAddr::from((peer, 9))).unwrap();
            }
            wait_until("the last packet was read", || {
                link.near.counters_of("tun0").since(&before).tx_packets == 4
            });
            watch.next_window(&Control::default()).unwrap()
        });
        assert_eq!(
            classes(&answer, Incoming),
            [("ipv4_udp", 4), ("ipv4_icmp", 1), ("ipv6_tcp", 2)],
            "{hook}"
        );
        let incoming = row(&answer, Incoming);
        assert_eq!(incoming.interface_bytes, 4 * (20 + 8 + 32) + (20 + 8 + 32) + 2 * (40 + 20));
        assert_eq!(incoming.hook.unwrap().total.interface_bytes, incoming.interface_bytes);
        // The answer to the echo request, and the datagrams.
        assert_eq!(classes(&answer, Outgoing), [("ipv4_udp", 3), ("ipv4_icmp", 1)], "{hook}");
        let outgoing = row(&answer, Outgoing);
        assert_eq!(outgoing.hook.unwrap().packets_difference, 0);
        assert_eq!(outgoing.interface_bytes, 3 * (20 + 8 + 10) + (20 + 8 + 32));
    }
}

#[tag(root)]
#[test]
fn a_recording_of_real_traffic_replays_to_the_same_numbers() {
    let link = VethPair::create();
    let to = ipv4(&link.near);
    let _sink = traffic::bind_udp(&link.near.netns, to);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traffic.jsonl");
    let mut recording = RecordRequest::new(&path);
    recording.rates = request(HookChoice::Auto);
    recording.duration = Some(Duration::from_secs(3));

    let before = link.near.counters();
    let recorded = thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("the recording has begun", || {
                fs::read_to_string(&path).is_ok_and(|lines| lines.contains(r#""type":"interfaces""#))
            });
            let datagrams = Datagrams { count: 321, payload: 58, per_second: 1_000 };
            traffic::send_datagrams(&link.far.netns, to, datagrams);
        });
        link.near.netns.enter(|| Monitor::live().unwrap().record(&recording, &Control::default()).unwrap())
    });
    let kernel = link.near.counters().since(&before);
    assert!(recorded.samples >= 3, "{recorded:?}");

    let monitor = Monitor::replay(&path).unwrap();
    let mut whole = request(HookChoice::Auto);
    whole.window = Duration::from_millis(2_900);
    let replayed = monitor.rates(&whole, &Control::default()).unwrap();
    let incoming = row(&replayed, Incoming);
    assert_eq!((incoming.packets, incoming.interface_bytes), (kernel.rx_packets, kernel.rx_bytes));
    assert_eq!((incoming.packets, incoming.interface_bytes), (321, 321 * 100));
    assert_eq!(classes(&replayed, Incoming), [("ipv4_udp", 321)]);
    assert_eq!(incoming.hook.unwrap().packets_difference, 0);
    assert_eq!(replayed.header.coverage.source, "replay");
}
