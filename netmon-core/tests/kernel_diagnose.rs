//! Faults that are made for real, each in a network namespace of its own, and that each is found with its numbers.
//!
//! Connections of the whole host are seen from every namespace, so each question is about those of its own, unless it is
//! about counters, which are the namespace's anyway.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use netmon_core::{
    Control, DiagnoseRequest, Diagnosis, DropsRequest, Monitor, Source as _,
    fact::{Hook, Protocol},
    monitor::diagnose::{CheckOutcome, Example, Finding, Rule, Severity},
    source::live::LiveSource,
};
use netmon_testkit::{
    Blackhole, Child, Datagrams, Netns, Privileges, Side, VethPair, child, kernel_is_since, own_number,
    traffic, wait_until,
};
use test_tag::tag;

fn all() -> DiagnoseRequest {
    let mut request = DiagnoseRequest::default();
    request.filter.include_own = true;
    request
}

fn here() -> DiagnoseRequest {
    let mut request = all();
    request.filter.filter = Some(format!("netns == {}", own_number()));
    request
}

/// What is found of the time in which `fault` ran, in this namespace; what it returns is held until then.
fn diagnose<T>(request: &DiagnoseRequest, fault: impl FnOnce() -> T) -> Diagnosis {
    let source = Arc::new(LiveSource::open().unwrap());
    let _observation = source.observe().unwrap();
    let held = fault();
    thread::sleep(Duration::from_millis(100));
    let diagnosis = Monitor::shared(source).diagnose(request, &Control::default()).unwrap();
    drop(held);
    diagnosis
}

/// How many findings there are besides that an old kernel lacks hooks.
fn of_faults(diagnosis: &Diagnosis) -> usize {
    let is_fault = |finding: &&Finding| kernel_is_since(6, 3) || finding.rule != Rule::MissingHooks;
    diagnosis.findings.iter().filter(is_fault).count()
}

#[track_caller]
fn found(diagnosis: &Diagnosis, rule: Rule) -> &Finding {
    diagnosis.finding(rule).unwrap_or_else(|| panic!("no {rule}: {diagnosis}\n{:?}", diagnosis.checked))
}

#[track_caller]
fn number(finding: &Finding, name: &str) -> f64 {
    let number = finding.evidence.numbers.iter().find(|number| number.name == name);
    number.unwrap_or_else(|| panic!("no {name}: {:?}", finding.evidence)).value
}

#[track_caller]
fn example_number(example: &Example, name: &str) -> f64 {
    let number = example.numbers.iter().find(|number| number.name == name);
    number.unwrap_or_else(|| panic!("no {name}: {example:?}")).value
}

/// The example is about this process.
#[track_caller]
fn is_own(example: &Example) {
    assert_eq!(
        example.process.as_ref().and_then(|process| process.pid),
        Some(std::process::id()),
        "{example:?}"
    );
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A listener, and connections to it that were accepted.
fn connections(count: usize) -> (TcpListener, Vec<(TcpStream, TcpStream)>) {
    // Not of the ports that connections are given.
    let listener = TcpListener::bind(local(8_080)).unwrap();
    let to = listener.local_addr().unwrap();
    let pairs = (0..count).map(|_| (TcpStream::connect(to).unwrap(), listener.accept().unwrap().0)).collect();
    (listener, pairs)
}

#[tag(root)]
#[test]
fn a_port_at_which_nobody_listens_is_a_refused_destination() {
    Netns::create().enter(|| {
        let diagnosis = diagnose(&here(), || {
            for _ in 0..4 {
                TcpStream::connect(local(4_444)).unwrap_err();
            }
        });
        let finding = found(&diagnosis, Rule::RefusedDestination);
        assert_eq!(finding.title, "4 of 4 attempts at 1 destination were refused");
        let example = &finding.evidence.examples[0];
        is_own(example);
        assert_eq!(example.destination.unwrap().to_string(), "127.0.0.1:4444");
        assert_eq!(example_number(example, "refused_attempts"), 4.0);
        assert_eq!(of_faults(&diagnosis), 1, "{diagnosis}");
    });
}

#[tag(root)]
#[test]
fn a_host_that_never_answers_is_a_timed_out_destination() {
    let netns = Netns::create();
    netns.add_blackhole();
    netns.enter(|| {
        let to = SocketAddr::from((Blackhole::IPV4, 80));
        let diagnosis = diagnose(&here(), || {
            thread::scope(|scope| {
                for _ in 0..5 {
                    scope.spawn(|| {
                        // A thread of a namespace begins in it.
                        TcpStream::connect(to).unwrap_err();
                    });
                }
            });
        });
        let finding = found(&diagnosis, Rule::TimedOutDestination);
        // The kernel passes over a change where it runs the program already; then one is not told, or without its error.
        let timed_out = number(finding, "timed_out_attempts");
        assert!((4.0..=5.0).contains(&timed_out), "{timed_out}");
        assert_eq!(finding.evidence.examples[0].destination.unwrap().to_string(), "10.79.0.2:80");
        is_own(&finding.evidence.examples[0]);
    });
}

#[tag(root)]
#[test]
fn an_address_without_a_route_is_an_unreachable_destination() {
    Netns::create().enter(|| {
        let to = SocketAddr::from(([203, 0, 113, 9], 80));
        let diagnosis = diagnose(&here(), || {
            for _ in 0..3 {
                TcpStream::connect(to).unwrap_err();
            }
        });
        let finding = found(&diagnosis, Rule::UnreachableDestination);
        // The monitor is this process: where it asks for the route is a destination too.
        let examples = &finding.evidence.examples;
        let example = examples.iter().find(|example| example.destination.unwrap().protocol == Protocol::Tcp);
        assert_eq!(example.unwrap().destination.unwrap().to_string(), "203.0.113.9:80");
        assert_eq!(example_number(example.unwrap(), "unreachable_attempts"), 3.0);
    });
}

#[tag(root)]
#[test]
fn name_servers_that_refuse_or_keep_silent_are_found() {
    Netns::create().enter(|| {
        let ask = |server: [u8; 4]| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(SocketAddr::from((server, 53))).unwrap();
            socket.send(b"a question").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            assert!(socket.recv(&mut [0; 64]).is_err());
        };
        let silent = UdpSocket::bind("127.0.0.2:53").unwrap();
        let diagnosis = diagnose(&here(), || {
            for _ in 0..4 {
                ask([127, 0, 0, 1]);
                ask([127, 0, 0, 2]);
            }
        });
        drop(silent);
        let finding = found(&diagnosis, Rule::DnsFailures);
        assert_eq!(finding.severity, Severity::Critical, "no server answers");
        assert_eq!((number(finding, "failed_or_unanswered"), number(finding, "unanswered")), (8.0, 4.0));
        assert_eq!(finding.evidence.examples.len(), 2);
        finding.evidence.examples.iter().for_each(is_own);
        assert!(diagnosis.finding(Rule::RefusedDestination).is_none(), "told once");
    });
}

#[tag(root)]
#[test]
fn a_listener_that_does_not_accept_overflows() {
    Netns::create().enter(|| {
        let listener = TcpListener::bind(local(8_080)).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let diagnosis = diagnose(&all(), || {
            let clients: Vec<_> = (0..9)
                .filter_map(|_| TcpStream::connect_timeout(&local(8_080), Duration::from_millis(20)).ok())
                .collect();
            assert_eq!(clients.len(), 2, "the kernel lets one wait more than asked for");
            clients
        });
        let finding = found(&diagnosis, Rule::ListenOverflow);
        assert_eq!(finding.severity, Severity::Critical);
        assert!(number(finding, "listen_overflows") >= 7.0, "{finding:?}");
        let example = finding.evidence.examples.iter().find(|example| example.local.unwrap().port == 8_080);
        let example = example.unwrap();
        is_own(example);
        assert_eq!(
            (example_number(example, "waiting_connections"), example_number(example, "backlog")),
            (2.0, 1.0)
        );
    });
}

#[tag(root)]
#[test]
fn handshakes_that_nobody_finishes_fill_the_queue_of_a_listener() {
    let link = VethPair::create();
    // Answers to this address go astray.
    link.far.netns.ip(&["addr add 10.77.0.99/24 dev veth0"]);
    link.near.netns.ip(&["neigh replace 10.77.0.99 lladdr 02:00:00:79:ff:ff dev veth0 nud permanent"]);
    let to = SocketAddr::from((link.near.ipv4, 8_080));
    link.near.netns.enter(|| {
        let listener = TcpListener::bind(to).unwrap();
        rustix::net::listen(&listener, 4).unwrap();
        let diagnosis = diagnose(&all(), || {
            link.far.netns.enter(|| {
                use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
                let clients: Vec<_> = (0..20)
                    .map(|_| {
                        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                        let client =
                            socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
                        bind(&client, &SocketAddr::from(([10, 77, 0, 99], 0))).unwrap();
                        assert_eq!(connect(&client, &to).unwrap_err(), rustix::io::Errno::INPROGRESS);
                        client
                    })
                    .collect();
                thread::sleep(Duration::from_millis(50));
                clients
            })
        });
        let finding = found(&diagnosis, Rule::SynQueueOverflow);
        assert!(number(finding, "syns_dropped_or_answered_with_cookies") >= 10.0, "{finding:?}");
    });
}

/// Loss is made by a slow link with a short queue (tbf): not every kernel has netem.
#[tag(root)]
#[test]
fn segments_that_a_queue_drops_are_retransmitted() {
    let link = VethPair::create();
    link.near.netns.run("tc qdisc add dev veth0 root tbf rate 100mbit burst 10kb limit 40000");
    let to = SocketAddr::from((link.far.ipv4, 5_001));
    link.near.netns.enter(|| {
        let diagnosis = diagnose(&all(), || {
            traffic::transfer_tcp(&link.near.netns, &link.far.netns, to, 8_000_000);
        });
        let finding = found(&diagnosis, Rule::Retransmits);
        assert!(number(finding, "retransmitted_segments") >= 30.0);
        let share = number(finding, "share_of_sent_segments");
        assert!(share >= 0.02, "{finding:?}");
        let example = finding.evidence.examples.iter().find(|example| example.address == Some(to.ip()));
        assert!(example_number(example.unwrap(), "retransmitted_segments") >= 30.0, "{finding:?}");
    });
}

/// Sends and receives a byte, so that round trips are measured, and closes.
fn exchange(to: SocketAddr) {
    let mut client = TcpStream::connect(to).unwrap();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

/// Answers so many clients.
fn answer(listener: &TcpListener, clients: usize) {
    for _ in 0..clients {
        let (mut client, _) = listener.accept().unwrap();
        client.read_exact(&mut [0]).unwrap();
        client.write_all(b"y").unwrap();
    }
}

/// A delay is made by a slow link (tbf) with much room, which datagrams fill.
#[tag(root)]
#[test]
fn round_trips_over_a_link_that_became_full_are_slow() {
    const CLIENTS: usize = 8;
    let link = VethPair::create();
    let to = SocketAddr::from((link.far.ipv4, 5_001));
    let sink = SocketAddr::from((link.far.ipv4, 9));
    let _sink = traffic::bind_udp(&link.far.netns, sink);
    let listener = link.far.netns.enter(|| TcpListener::bind(to).unwrap());
    thread::scope(|scope| {
        scope.spawn(|| answer(&listener, 2 * CLIENTS));
        link.near.netns.enter(|| {
            let source = Arc::new(LiveSource::open().unwrap());
            let _observation = source.observe().unwrap();
            let began = Instant::now();
            (0..CLIENTS).for_each(|_| exchange(to));
            // The time before has to be as long as the window.
            thread::sleep(Duration::from_secs(4).saturating_sub(began.elapsed()));

            // A window can begin here.
            let _second = source.observe().unwrap();
            let began = Instant::now();
            link.near.netns.run("tc qdisc add dev veth0 root tbf rate 4mbit burst 10kb limit 100000");
            thread::scope(|scope| {
                scope.spawn(|| {
                    let flood = Datagrams { count: 1_000, payload: 1_000, per_second: 600 };
                    traffic::send_datagrams(&link.near.netns, sink, flood);
                });
                thread::sleep(Duration::from_millis(300));
                (0..CLIENTS).for_each(|_| exchange(to));
                let mut request = here();
                request.since = Some(began.elapsed());
                let diagnosis = Monitor::shared(Arc::clone(&source) as Arc<dyn netmon_core::Source>)
                    .diagnose(&request, &Control::default())
                    .unwrap();
                let finding = found(&diagnosis, Rule::SlowRoundTrips);
                let worst = number(finding, "worst_median_round_trip");
                assert!(worst > 0.02, "{finding:?}");
                assert_eq!(finding.evidence.examples[0].address, Some(to.ip()));
            });
        });
    });
}

#[tag(root)]
#[test]
fn a_range_of_local_ports_that_is_used_up_is_found() {
    let netns = Netns::create();
    netns.limit_local_ports(40_000..=40_009);
    netns.enter(|| {
        let diagnosis = diagnose(&here(), || {
            let held = connections(10);
            let to = held.0.local_addr().unwrap();
            for _ in 0..4 {
                assert_eq!(TcpStream::connect(to).unwrap_err().raw_os_error(), Some(99));
            }
            held
        });
        let finding = found(&diagnosis, Rule::EphemeralPorts);
        assert_eq!(finding.severity, Severity::Critical);
        assert_eq!(number(finding, "attempts_without_local_port"), 4.0);
        assert_eq!(number(finding, "local_ports"), 10.0);
        assert_eq!(number(finding, "share_of_ports_taken_at_worst"), 1.0);
        is_own(&finding.evidence.examples[0]);
    });
}

#[tag(root)]
#[test]
fn connections_that_only_the_other_side_closed_build_up_in_close_wait() {
    Netns::create().enter(|| {
        let diagnosis = diagnose(&here(), || {
            let (listener, pairs) = connections(25);
            let kept: Vec<TcpStream> = pairs.into_iter().map(|(client, _)| client).collect();
            (listener, kept)
        });
        let finding = found(&diagnosis, Rule::CloseWait);
        assert_eq!(number(finding, "close_wait"), 25.0);
        is_own(&finding.evidence.examples[0]);
        assert!(finding.command.ends_with(&format!("--pid {}", std::process::id())), "{}", finding.command);
    });
}

#[tag(root)]
#[test]
fn connections_in_time_wait_are_of_who_was_seen_to_close_them() {
    let netns = Netns::create();
    netns.limit_local_ports(40_000..=40_019);
    netns.enter(|| {
        let diagnosis = diagnose(&here(), || {
            let (listener, pairs) = connections(12);
            for (client, server) in pairs {
                drop(client);
                drop(server);
            }
            listener
        });
        let finding = found(&diagnosis, Rule::TimeWait);
        assert_eq!(number(finding, "time_wait"), 12.0);
        assert_eq!(number(finding, "share_of_local_ports_at_worst"), 0.6);
        let example = &finding.evidence.examples[0];
        is_own(example);
        assert_eq!(example_number(example, "time_wait"), 12.0);
    });
}

#[tag(root)]
#[test]
fn a_limit_of_time_wait_that_is_passed_is_a_limit() {
    let netns = Netns::create();
    netns.sysctl("net/ipv4/tcp_max_tw_buckets", "4");
    netns.enter(|| {
        let diagnosis = diagnose(&all(), || drop(connections(12)));
        let finding = found(&diagnosis, Rule::SocketLimits);
        assert!(number(finding, "time_wait_overflows") >= 1.0, "{finding:?}");
    });
}

#[tag(root)]
#[test]
fn datagrams_that_nobody_reads_overflow_their_socket() {
    Netns::create().enter(|| {
        let socket = UdpSocket::bind(local(9_999)).unwrap();
        let source = Arc::new(LiveSource::open().unwrap());
        let _observation = (source.observe().unwrap(), source.observe_drops().unwrap());
        let sender = UdpSocket::bind(local(0)).unwrap();
        for _ in 0..2_000 {
            sender.send_to(&[0; 1_000], local(9_999)).unwrap();
        }
        let diagnosis = Monitor::shared(source).diagnose(&all(), &Control::default()).unwrap();
        let finding = found(&diagnosis, Rule::UdpBufferOverflow);
        let lost = number(finding, "receive_buffer_errors");
        assert!(lost > 1_000.0, "{finding:?}");
        let example = &finding.evidence.examples[0];
        is_own(example);
        assert_eq!(example.local_port, Some(9_999));
        assert_eq!(example_number(example, "socket_rcvbuff_packets"), lost);
        // The same packets are no second finding.
        let again = diagnosis.finding(Rule::PacketDrops).map(|drops| &drops.evidence);
        let again = again.into_iter().flat_map(|drops| &drops.examples);
        assert!(again.into_iter().all(|other| other.local_port != Some(9_999)), "{diagnosis}");
        drop(socket);
    });
}

#[tag(root)]
#[test]
fn a_loop_that_tries_again_without_waiting_floods() {
    Netns::create().enter(|| {
        let diagnosis = diagnose(&here(), || {
            for _ in 0..1_500 {
                TcpStream::connect(local(4_444)).unwrap_err();
            }
        });
        let finding = found(&diagnosis, Rule::Flood);
        assert_eq!(number(finding, "attempts"), 1_500.0);
        assert_eq!(number(finding, "share_of_all_attempts"), 1.0);
        is_own(&finding.evidence.examples[0]);
    });
}

#[tag(root)]
#[test]
fn a_program_that_tries_many_ports_scans() {
    Netns::create().enter(|| {
        let diagnosis = diagnose(&here(), || {
            for port in 2_000..2_040 {
                TcpStream::connect(local(port)).unwrap_err();
            }
        });
        let finding = found(&diagnosis, Rule::Scan);
        assert_eq!(number(finding, "targets_of_the_largest"), 40.0);
        is_own(&finding.evidence.examples[0]);
        assert!(
            diagnosis.finding(Rule::RefusedDestination).is_none(),
            "once each is no destination that refuses"
        );
    });
}

#[tag(root)]
#[test]
fn a_public_address_that_is_connected_to_regularly_is_a_beacon() {
    let netns = Netns::create();
    let address: IpAddr = "198.51.100.7".parse().unwrap();
    netns.add_addresses(&[address]);
    netns.enter(|| {
        let listener = TcpListener::bind((address, 443)).unwrap();
        let to = listener.local_addr().unwrap();
        let diagnosis = diagnose(&here(), || {
            let began = Instant::now();
            for beat in 1..=9 {
                drop(TcpStream::connect(to).unwrap());
                thread::sleep((beat * Duration::from_millis(600)).saturating_sub(began.elapsed()));
            }
        });
        let finding = found(&diagnosis, Rule::Beacon);
        assert_eq!(finding.severity, Severity::Info);
        let example = &finding.evidence.examples[0];
        is_own(example);
        assert_eq!(example.destination.unwrap().to_string(), "198.51.100.7:443");
        assert!((example_number(example, "interval") - 0.6).abs() < 0.1, "{example:?}");
    });
}

#[tag(root)]
#[test]
fn packets_that_a_tunnel_cannot_send_are_errors_of_its_interface() {
    let netns = Netns::create();
    // Nothing leads to its other end.
    netns.ip(&[
        "link add tunnel0 type vxlan id 7 remote 198.51.100.9 dstport 4789",
        "addr add 10.88.0.1/24 dev tunnel0",
        "link set tunnel0 up",
        "neigh add 10.88.0.2 lladdr 02:00:00:00:00:02 dev tunnel0",
    ]);
    netns.enter(|| {
        let diagnosis = diagnose(&all(), || {
            let sender = UdpSocket::bind("10.88.0.1:0").unwrap();
            for _ in 0..50 {
                sender.send_to(b"lost", "10.88.0.2:9").unwrap();
            }
        });
        let finding = found(&diagnosis, Rule::InterfaceErrors);
        assert!(number(finding, "errors") >= 50.0, "{finding:?}");
        let example = &finding.evidence.examples[0];
        assert_eq!(example.interface.as_ref().unwrap(), &"tunnel0");
        assert!(example.to_string().starts_with("tunnel0 outgoing: errors "), "{example}");
    });
}

#[tag(root)]
#[test]
fn packets_that_do_not_fit_the_other_end_are_dropped_by_the_interface() {
    let link = VethPair::create();
    link.far.netns.ip(&["link set veth0 mtu 600"]);
    link.near.netns.enter(|| {
        let diagnosis = diagnose(&all(), || {
            let sender = UdpSocket::bind((link.near.ipv4, 0)).unwrap();
            for _ in 0..200 {
                sender.send_to(&[0; 1_200], (link.far.ipv4, 9)).unwrap();
            }
        });
        let finding = found(&diagnosis, Rule::InterfaceDrops);
        assert_eq!(number(finding, "drops"), 200.0);
        let example = &finding.evidence.examples[0];
        assert_eq!(example.interface.as_ref().unwrap(), &Side::INTERFACE);
        assert_eq!(example.to_string(), "veth0 outgoing: drops 200, packets 0");
    });
}

/// What is found of a window that is observed for this answer alone, and of the packets that are sent in it.
fn diagnose_once(mut sending: impl FnMut() + Send, monitor: &Monitor) -> Diagnosis {
    let mut request = here();
    request.window = Duration::from_millis(1_500);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // A thread of a namespace begins in it.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                sending();
                thread::sleep(Duration::from_millis(20));
            }
        });
        let diagnosis = monitor.diagnose(&request, &Control::default());
        over.store(true, Ordering::Relaxed);
        diagnosis.unwrap()
    })
}

#[tag(root)]
#[test]
fn datagrams_that_a_process_does_not_read_are_dropped_packets_of_its() {
    Netns::create().enter(|| {
        let socket = UdpSocket::bind(local(9_999)).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 2_304).unwrap();
        let sender = UdpSocket::bind(local(0)).unwrap();
        let send = || {
            for _ in 0..20 {
                sender.send_to(&[0; 1_000], local(9_999)).unwrap();
            }
        };
        let diagnosis = diagnose_once(send, &Monitor::live().unwrap());
        let finding = found(&diagnosis, Rule::PacketDrops);
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.title.ends_with("were dropped: sockets had no room for them"), "{}", finding.title);
        let lost = number(finding, "socket_rcvbuff_packets");
        assert!(lost >= 100.0, "{finding:?}");
        let [example] = &finding.evidence.examples[..] else { panic!("{finding:?}") };
        is_own(example);
        assert_eq!(example_number(example, "socket_rcvbuff_packets"), lost);
        assert_eq!((example.local_port, example.interface.as_ref().unwrap().as_str()), (Some(9_999), "lo"));
        // Of the second that is asked for, what is left when the hook is attached.
        assert!(finding.evidence.window.seconds > 0.5 && finding.evidence.window.seconds < 60.0);
        assert!(diagnosis.header.coverage.active_hooks.contains(&Hook::KfreeSkb));
    });
}

#[tag(root)]
#[test]
fn packets_for_a_host_that_does_not_answer_are_dropped_packets_of_their_sender() {
    let link = VethPair::create();
    link.far.netns.ip(&[format!("link set {} arp on", Side::INTERFACE)]);
    link.far.netns.sysctl(&format!("net/ipv4/neigh/{}/unres_qlen_bytes", Side::INTERFACE), "8192");
    link.far.netns.enter(|| {
        let source = Arc::new(LiveSource::open().unwrap());
        let _counting = source.observe_drops().unwrap();
        let sender = UdpSocket::bind((link.far.ipv4, 0)).unwrap();
        for _ in 0..400 {
            sender.send_to(&[1; 1_400], "10.77.0.99:53").unwrap();
        }
        let diagnosis = Monitor::shared(source).diagnose(&here(), &Control::default()).unwrap();
        let finding = found(&diagnosis, Rule::PacketDrops);
        assert_eq!(finding.severity, Severity::Warning);
        assert!(number(finding, "neigh_queuefull_packets") >= 100.0, "{finding:?}");
        let example = &finding.evidence.examples[0];
        is_own(example);
        assert_eq!(example.local_port, Some(sender.local_addr().unwrap().port()));
        assert_eq!(example.interface.as_ref().unwrap(), &Side::INTERFACE);
    });
}

#[tag(root)]
#[test]
fn a_few_datagrams_to_closed_ports_are_dropped_and_no_finding() {
    Netns::create().enter(|| {
        let source = Arc::new(LiveSource::open().unwrap());
        let _counting = source.observe_drops().unwrap();
        let monitor = Monitor::shared(source);
        let stranger = UdpSocket::bind(local(0)).unwrap();
        for port in 1..=40 {
            stranger.send_to(b"x", local(port)).unwrap();
        }
        let mut request = DropsRequest::default();
        let (reason, outcome) = if kernel_is_since(5, 17) {
            ("NO_SOCKET", CheckOutcome::Nothing)
        } else {
            ("NOT_SPECIFIED", CheckOutcome::NotJudged)
        };
        (request.filter, request.reasons) = (here().filter, vec![reason.to_owned()]);
        assert_eq!(monitor.drops(&request, &Control::default()).unwrap().total, 40);
        let diagnosis = monitor.diagnose(&here(), &Control::default()).unwrap();
        let drops = diagnosis.checked.iter().find(|checked| checked.rule == Rule::PacketDrops).unwrap();
        assert_eq!(drops.outcome, outcome, "{drops:?} {diagnosis}");
    });
}

#[tag(root)]
#[test]
fn without_privilege_the_missing_hooks_and_what_cannot_be_judged_are_told() {
    if child::role().is_some() {
        let mut request = all();
        request.window = Duration::from_millis(200);
        let monitor = Monitor::live().unwrap();
        let diagnosis = monitor.diagnose(&request, &Control::default()).unwrap();
        let finding = found(&diagnosis, Rule::MissingHooks);
        assert!(finding.evidence.examples.iter().any(|example| example.hides.is_some()), "{finding:?}");
        let refused =
            diagnosis.checked.iter().find(|checked| checked.rule == Rule::RefusedDestination).unwrap();
        assert_eq!(refused.outcome, CheckOutcome::NotJudged, "{refused:?}");
        let drops = diagnosis.checked.iter().find(|checked| checked.rule == Rule::PacketDrops).unwrap();
        assert_eq!(drops.outcome, CheckOutcome::NotJudged, "{drops:?}");
        let reason = drops.reason.as_ref().unwrap();
        assert!(reason.starts_with("dropped packets are told by kfree_skb alone: "), "{reason}");
        // Counters are for everybody.
        let lost = diagnosis.checked.iter().find(|checked| checked.rule == Rule::ListenOverflow).unwrap();
        assert_eq!(lost.outcome, CheckOutcome::Nothing, "{lost:?}");
        let warnings = diagnosis.header.coverage.warnings.join("\n");
        assert!(warnings.contains("asked for the last 5 min; observed 0."), "{warnings}");
        return;
    }
    let netns = Netns::create();
    let test = "without_privilege_the_missing_hooks_and_what_cannot_be_judged_are_told";
    Child::spawn(&netns, Privileges::Nobody(&[]), test, "ask").finish();
}

#[tag(root)]
#[test]
fn connections_that_a_small_memory_forgot_are_told() {
    Netns::create().enter(|| {
        let source = Arc::new(LiveSource::open().unwrap().with_memory_limit(64 << 10));
        let _observation = source.observe().unwrap();
        let (listener, _held) = connections(0);
        for _ in 0..1_500 {
            drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            drop(listener.accept().unwrap());
        }
        thread::sleep(Duration::from_millis(100));
        let diagnosis = Monitor::shared(source).diagnose(&all(), &Control::default()).unwrap();
        let finding = found(&diagnosis, Rule::LostEvents);
        assert!(number(finding, "forgotten_connections") >= 100.0, "{finding:?}");
        assert_eq!(number(finding, "lost_events"), 0.0);
    });
}

/// Every rule is judged here, and none finds a fault.
#[tag(root)]
#[test]
fn a_busy_server_and_its_clients_are_no_finding() {
    Netns::create().enter(|| {
        let listener = TcpListener::bind(local(8_081)).unwrap();
        let serve = || {
            thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..1_500 {
                        let (mut client, _) = listener.accept().unwrap();
                        client.read_exact(&mut [0; 100]).unwrap();
                        client.write_all(&[0; 2_000]).unwrap();
                    }
                });
                for _ in 0..1_500 {
                    let mut client = TcpStream::connect(local(8_081)).unwrap();
                    client.write_all(&[0; 100]).unwrap();
                    client.read_exact(&mut [0; 2_000]).unwrap();
                }
            });
        };
        let source = Arc::new(LiveSource::open().unwrap());
        let _observation = (source.observe().unwrap(), source.observe_drops().unwrap());
        // What went before is what it is compared with; a window begins at a sample, and those come every ten seconds.
        let before = Instant::now();
        for _ in 0..3 {
            serve();
        }
        thread::sleep(Duration::from_millis(11_000).saturating_sub(before.elapsed()));
        let began = Instant::now();
        serve();
        thread::sleep(Duration::from_millis(100));
        let monitor = Monitor::shared(source);
        let mut request = here();
        request.since = Some(began.elapsed());
        let diagnosis = monitor.diagnose(&request, &Control::default()).unwrap();
        assert_eq!(of_faults(&diagnosis), 0, "{diagnosis}");
        let says_nothing = diagnosis.to_string().starts_with("Nothing found in ");
        assert_eq!(says_nothing, diagnosis.total == 0, "{diagnosis}");

        // Counters are the namespace's; connections without a filter would be those of the whole host.
        const OF_COUNTERS: [Rule; 7] = [
            Rule::ListenOverflow,
            Rule::SynQueueOverflow,
            Rule::Retransmits,
            Rule::SocketLimits,
            Rule::UdpBufferOverflow,
            Rule::InterfaceErrors,
            Rule::InterfaceDrops,
        ];
        let of_counters = monitor.diagnose(&all(), &Control::default()).unwrap();
        let of_counters =
            of_counters.checked.into_iter().filter(|checked| OF_COUNTERS.contains(&checked.rule));
        let of_connections =
            diagnosis.checked.into_iter().filter(|checked| !OF_COUNTERS.contains(&checked.rule));
        let judged: Vec<_> = of_counters.chain(of_connections).collect();
        assert_eq!(judged.len(), 21);
        for checked in judged {
            let lacks_hooks = checked.rule == Rule::MissingHooks && !kernel_is_since(6, 3);
            let expected = if lacks_hooks { CheckOutcome::Found } else { CheckOutcome::Nothing };
            assert_eq!(checked.outcome, expected, "{checked:?}");
        }
    });
}

#[tag(root)]
#[test]
fn the_protocols_counters_are_those_of_the_namespace() {
    let netns = Netns::create();
    netns.limit_local_ports(40_000..=40_099);
    netns.enter(|| {
        let source = LiveSource::open().unwrap();
        let read = || source.protocol_counters(&source.start().unwrap()).unwrap();
        let before = read();
        assert_eq!(before.netns, own_number());
        assert_eq!((before.limits.local_ports(), before.limits.first_local_port), (Some(100), Some(40_000)));
        assert_eq!(before.tcp.active_opens, Some(0), "a new namespace");
        assert_eq!(before.links.len(), 1);

        for _ in 0..3 {
            TcpStream::connect(local(4_444)).unwrap_err();
        }
        let _held = connections(2);
        let nobody = UdpSocket::bind(local(0)).unwrap();
        nobody.send_to(b"x", local(9)).unwrap();
        wait_until("the datagram was refused", || read().udp.no_ports == Some(1));
        let after = read();
        assert_eq!((after.tcp.active_opens, after.tcp.passive_opens), (Some(5), Some(2)));
        assert_eq!((after.tcp.attempt_fails, after.udp.datagrams_sent), (Some(3), Some(1)));
        assert_eq!(after.sockets.tcp_in_use, Some(5), "a listener and two connections, both ends");
        // As the kernel itself says.
        let snmp = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let values = snmp.lines().filter(|line| line.starts_with("Tcp: ")).nth(1).unwrap();
        assert_eq!(
            values.split(' ').nth(11),
            after.tcp.segments_sent.map(|sent| sent.to_string()).as_deref()
        );
    });
}
