//! Dropped packets: against the kernel's own counters of the protocols, and blamed on nobody who did not do it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
};

use netmon_core::{
    CleanText, Control, DropsRequest, Filter, Monitor, Source,
    fact::{AddressFamily, Attribution, Direction, DropCounts, DropFact, Hook, Observed, Protocol},
    source::{Observation, Span, live::LiveSource},
};
use netmon_testkit::{Netns, Side, VethPair, kernel_is_since, own_number, wait_until};
use test_tag::tag;

/// A counter of this namespace, by the names of /proc/net/snmp.
fn counter(protocol: &str, name: &str) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&format!("{protocol}: ")));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|known| known == name).unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// What was dropped in a namespace since the observation began, with the counts of that time.
fn look(source: &dyn Source, observation: &Observation, netns: u32) -> (Vec<DropFact>, Observed) {
    let span = Span { from: observation.from, to: source.start().unwrap() };
    let mut drops = Vec::new();
    let observed = source
        .drops(&span, &Filter::everything(), &mut |sighting| {
            let counts = sighting.within();
            if sighting.fact.netns == netns && counts.packets > 0 {
                let mut fact = sighting.fact.clone();
                fact.counts = counts;
                drops.push(fact);
            }
        })
        .unwrap();
    (drops, observed)
}

/// Whether the kernel says why it drops packets.
fn has_reasons() -> bool {
    kernel_is_since(5, 17)
}

/// Of the kernels without reasons whatever was dropped.
fn of_reason<'a>(drops: &'a [DropFact], reason: &str) -> Vec<&'a DropFact> {
    let told = has_reasons().then_some(reason);
    drops.iter().filter(|drop| drop.reason.as_ref().map(CleanText::as_str) == told).collect()
}

fn counts(packets: u64, bytes_each: u64) -> DropCounts {
    DropCounts { packets, wire_packets: packets, l3_bytes: packets * bytes_each }
}

#[tag(root)]
#[test]
fn datagrams_to_a_closed_port_are_nobodys_and_as_many_as_the_kernel_counts() {
    Netns::create().enter(|| {
        let source = LiveSource::open().unwrap();
        assert_eq!(source.observed_drops(None).unwrap(), None);
        let observation = source.observe_drops().unwrap();
        let before = counter("Udp", "NoPorts");
        let [ipv4, ipv6] = ["127.0.0.1:0", "[::1]:0"].map(|local| UdpSocket::bind(local).unwrap());
        for _ in 0..25 {
            ipv4.send_to(&[1; 100], "127.0.0.1:9").unwrap();
        }
        for _ in 0..7 {
            ipv6.send_to(&[1; 50], "[::1]:9").unwrap();
        }
        let refused = TcpStream::connect("127.0.0.1:9").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        // IPv6 has counters of its own.
        assert_eq!(counter("Udp", "NoPorts") - before, 25);

        let (drops, observed) = look(&source, &observation, own_number());
        let mut closed = of_reason(&drops, "NO_SOCKET");
        closed.sort_by_key(|drop| (drop.protocol, drop.family));
        let [tcp, udp4, udp6] = closed[..] else { panic!("{drops:?}") };
        assert_eq!((tcp.protocol, tcp.counts.packets), (Some(Protocol::Tcp), 1));
        assert_eq!((udp4.protocol, udp4.family), (Some(Protocol::Udp), Some(AddressFamily::Ipv4)));
        assert_eq!(udp4.counts, counts(25, 128));
        assert_eq!((udp6.protocol, udp6.family), (Some(Protocol::Udp), Some(AddressFamily::Ipv6)));
        assert_eq!(udp6.counts, counts(7, 98));
        assert_eq!(udp4.peer, Some(ipv4.local_addr().unwrap()));
        assert_eq!(udp6.peer, Some(ipv6.local_addr().unwrap()));
        for drop in [tcp, udp4, udp6] {
            assert_eq!((drop.direction, drop.local_port), (Direction::Incoming, Some(9)));
            assert_eq!((&drop.process, drop.attribution), (&None, Attribution::Unknown));
            assert_eq!(drop.interface_name.as_ref().map(CleanText::as_str), Some("lo"));
            assert!(drop.first.unwrap().ns() > observation.from.boot_ns && drop.first <= drop.last);
        }
        assert_eq!(observed.active_hooks[0], Hook::KfreeSkb);
        assert_eq!((observed.lost_events, observed.warnings.is_empty()), (0, has_reasons()), "{observed:?}");
    });
}

#[tag(root)]
#[test]
fn what_does_not_fit_a_receive_buffer_is_its_readers_and_not_its_senders() {
    let netns = Netns::create();
    netns.enter(|| {
        let source = LiveSource::open().unwrap();
        let observation = source.observe_drops().unwrap();
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&receiver, 2304).unwrap();
        let port = receiver.local_addr().unwrap().port();
        let before = counter("Udp", "RcvbufErrors");
        let sending = format!("for i in {{1..40}}; do echo -n {{1..9}} > /dev/udp/127.0.0.1/{port}; done");
        let status = netns.command("bash").args(["-c", &sending]).status().unwrap();
        assert!(status.success());
        let lost = counter("Udp", "RcvbufErrors") - before;
        assert!((1..40).contains(&lost), "{lost}");

        let is_own = |drop: &DropFact, attribution| {
            assert_eq!(drop.process.as_ref().unwrap().pid, std::process::id(), "{drop:?}");
            assert_eq!((drop.attribution, drop.local_port), (attribution, Some(port)));
            assert_eq!(drop.direction, Direction::Incoming);
        };
        // Nobody has read from the socket yet, so who holds it is its owner.
        let (drops, _) = look(&source, &observation, own_number());
        let [full] = of_reason(&drops, "SOCKET_RCVBUFF")[..] else { panic!("{drops:?}") };
        is_own(full, Attribution::Snapshot);
        assert_eq!(full.counts, counts(lost, 28 + 17));

        // And then it is written down.
        let mut buffer = [0; 100];
        while receiver.set_nonblocking(true).is_ok() && receiver.recv(&mut buffer).is_ok() {}
        let status = netns.command("bash").args(["-c", &sending]).status().unwrap();
        assert!(status.success());
        let lost = counter("Udp", "RcvbufErrors") - before;
        let (drops, _) = look(&source, &observation, own_number());
        let full = of_reason(&drops, "SOCKET_RCVBUFF");
        assert_eq!(full.iter().map(|drop| drop.counts.packets).sum::<u64>(), lost);
        for drop in full {
            assert_eq!(drop.process.as_ref().unwrap().pid, std::process::id(), "{drop:?}");
        }
    });
}

#[tag(root)]
#[test]
fn another_namespaces_drops_are_told_there_and_not_blamed_on_the_sender() {
    let link = VethPair::create();
    // Frames for another host's link-layer address are dropped while they still have their sender's socket.
    let elsewhere = Ipv4Addr::new(10, 77, 0, 9);
    let neighbour =
        format!("neigh replace {elsewhere} lladdr 02:00:00:79:ff:ff dev {} nud permanent", Side::INTERFACE);
    link.far.netns.ip(&[neighbour]);
    let (source, observation) = link.far.netns.enter(|| {
        let source = LiveSource::open().unwrap();
        let observation = source.observe_drops().unwrap();
        (source, observation)
    });
    let [near, far] = [&link.near, &link.far].map(|side| side.netns.enter(own_number));
    let before = link.near.netns.enter(|| counter("Udp", "NoPorts"));
    let from = link.far.netns.enter(|| {
        let sender = UdpSocket::bind((link.far.ipv4, 0)).unwrap();
        for (address, port) in [(link.near.ipv4, 9), (elsewhere, 7)] {
            for _ in 0..12 {
                sender.send_to(&[1; 20], (address, port)).unwrap();
            }
        }
        sender.local_addr().unwrap()
    });
    let told = |reason: &str| {
        let (drops, _) = look(&source, &observation, near);
        of_reason(&drops, reason).into_iter().find(|drop| drop.protocol == Some(Protocol::Udp)).cloned()
    };
    for (reason, port) in [("NO_SOCKET", 9), ("OTHERHOST", 7)] {
        wait_until("the datagrams arrived", || told(reason).is_some_and(|drop| drop.counts.packets >= 12));
        let drop = told(reason).unwrap();
        assert_eq!((drop.direction, drop.local_port), (Direction::Incoming, Some(port)), "{drop:?}");
        assert_eq!((&drop.process, drop.attribution), (&None, Attribution::Unknown));
        assert_eq!(drop.counts, counts(12, 48));
        assert_eq!(drop.peer, Some(from));
        assert_eq!(drop.interface, Some(link.near.index));
        // The name in another namespace is not the source's to tell.
        assert_eq!(drop.interface_name, None);
    }
    assert_eq!(link.near.netns.enter(|| counter("Udp", "NoPorts")) - before, 12);
    let (sent, _) = look(&source, &observation, far);
    assert!(of_reason(&sent, "NO_SOCKET").is_empty() && of_reason(&sent, "OTHERHOST").is_empty(), "{sent:?}");
}

#[tag(root)]
#[test]
fn what_is_dropped_on_its_way_out_is_its_senders() {
    let link = VethPair::create();
    // Nobody answers for this address, and only a few packets may wait until somebody does.
    link.far.netns.ip(&[format!("link set {} arp on", Side::INTERFACE)]);
    link.far.netns.sysctl(&format!("net/ipv4/neigh/{}/unres_qlen_bytes", Side::INTERFACE), "8192");
    link.far.netns.enter(|| {
        let source = LiveSource::open().unwrap();
        let observation = source.observe_drops().unwrap();
        let sender = UdpSocket::bind((link.far.ipv4, 0)).unwrap();
        let nobody = SocketAddr::from(([10, 77, 0, 99], 53));
        for _ in 0..400 {
            sender.send_to(&[1; 1400], nobody).unwrap();
        }
        let (drops, _) = look(&source, &observation, own_number());
        let [full] = of_reason(&drops, "NEIGH_QUEUEFULL")[..] else { panic!("{drops:?}") };
        assert!((1..400).contains(&full.counts.packets), "{full:?}");
        assert_eq!(full.counts, counts(full.counts.packets, 1428));
        assert_eq!((full.direction, full.protocol), (Direction::Outgoing, Some(Protocol::Udp)));
        assert_eq!(full.local_port, Some(sender.local_addr().unwrap().port()));
        assert_eq!(full.peer, Some(nobody));
        assert_eq!(full.process.as_ref().map(|process| process.pid), Some(std::process::id()));
        assert_eq!(full.attribution, Attribution::Exact);
        assert_eq!(full.interface_name.as_ref().map(CleanText::as_str), Some(Side::INTERFACE));
    });
}

#[tag(root)]
#[test]
fn a_flood_of_ports_fills_the_table_and_loses_no_packet() {
    const PORTS: u16 = 20_000;
    Netns::create().enter(|| {
        let source = LiveSource::open().unwrap();
        let observation = source.observe_drops().unwrap();
        let before = counter("Udp", "NoPorts");
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in 1..=PORTS {
            if port != sender.local_addr().unwrap().port() {
                sender.send_to(&[1; 10], SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
            }
        }
        let no_ports = counter("Udp", "NoPorts") - before;
        assert!(no_ports >= u64::from(PORTS) - 1, "{no_ports}");

        let (drops, observed) = look(&source, &observation, own_number());
        let closed = of_reason(&drops, "NO_SOCKET");
        assert_eq!(closed.iter().map(|drop| drop.counts.packets).sum::<u64>(), no_ports);
        assert_eq!(observed.lost_events, 0);
        let rest: Vec<_> = closed.iter().filter(|drop| drop.local_port.is_none()).collect();
        assert_eq!(rest.len(), 1, "{rest:?}");
        let warning = observed.warnings.iter().find(|warning| warning.contains("without process and port"));
        assert!(warning.is_some_and(|warning| warning.contains("packets counted")), "{observed:?}");
    });
}

#[tag(root)]
#[test]
fn a_first_question_counts_for_its_window_and_a_second_knows_the_past() {
    Netns::create().enter(|| {
        let source = Arc::new(LiveSource::open().unwrap());
        let monitor = Monitor::shared(Arc::clone(&source) as Arc<dyn Source>);
        let observation = source.observe_drops().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..5 {
            sender.send_to(&[1; 100], "127.0.0.1:9").unwrap();
        }
        let mut request = DropsRequest::default();
        request.filter.filter = Some(format!("netns == {}", own_number()));
        request.filter.port = Some(9);
        let answer = monitor.drops(&request, &Control::default()).unwrap();
        assert_eq!((answer.total, answer.total_l3_bytes, answer.drops.len()), (5, 640, 1), "{answer:?}");
        let meaning =
            if has_reasons() { "nobody listens at this port" } else { "the kernel does not say why" };
        assert_eq!(answer.drops[0].meaning.as_deref(), Some(meaning));

        request.filter.remote = Some("127.0.0.1".to_owned());
        let error = monitor.drops(&request, &Control::default()).unwrap_err().to_string();
        assert!(error.starts_with("drops cannot be chosen by \"remote\""), "{error}");

        drop(observation);
        assert_eq!(source.observed_drops(None).unwrap(), None);
        request.filter.remote = None;
        request.window = std::time::Duration::from_millis(100);
        let answer = monitor.drops(&request, &Control::default()).unwrap();
        assert_eq!(answer.total, 0, "what was dropped before is not in the window: {answer:?}");
        assert!(answer.header.window.seconds >= 0.1);
    });
}
