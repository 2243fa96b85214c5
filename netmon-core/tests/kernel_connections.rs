//! Whose each connection is, how it ended and how much it carried, against what the test itself did.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::HashMap,
    env,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use netmon_core::{
    Cancel, ConnectionFilter, ConnectionsRequest, Control, Filter, Monitor, Source as _, SummaryRequest,
    fact::{
        Attribution, ClosedBy, ConnectionDirection, ConnectionError, ConnectionFact, ConnectionState,
        Protocol, TcpState,
    },
    request::ConnectionSort,
    source::{ChangeCursor, Sighting, Span, live::LiveSource},
};
use netmon_testkit::{
    Netns, kernel_is_since, own_number,
    workload::{self, Event},
};
use test_tag::tag;

const ROLE: &str = "NETMON_CONNECTIONS_ROLE";

/// Everything that happened in this network namespace while `traffic` ran (the programs see all of them); what it returns
/// is kept until all was read.
fn seen<T: 'static>(traffic: impl FnOnce() -> T) -> (Vec<ConnectionFact>, T, u64) {
    seen_by(&LiveSource::open().unwrap(), traffic)
}

fn seen_by<T: 'static>(source: &LiveSource, traffic: impl FnOnce() -> T) -> (Vec<ConnectionFact>, T, u64) {
    let observation = source.observe().unwrap();
    let held = traffic();
    // The last ends come a moment after the last call returns.
    let to = source.wait(&observation.from, Duration::from_millis(50), &Control::default()).unwrap();
    thread::sleep(Duration::from_millis(50));
    let span = Span {
        from: observation.from,
        to: source.wait(&to, Duration::from_millis(1), &Control::default()).unwrap(),
    };
    let mut facts = Vec::new();
    let observed = source
        .connections(&span, &Filter::everything(), &mut |sighting| facts.push(sighting.fact.clone()))
        .unwrap();
    let netns = own_number();
    facts.retain(|fact| fact.netns == netns);
    (facts, held, observed.lost_events)
}

fn pid(fact: &ConnectionFact) -> u32 {
    fact.process.as_ref().map_or(0, |process| process.pid)
}

/// This program once more, as a part of this test.
fn spawn(test: &str, role: &str, stdin: Stdio) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([test, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// One process a client, one a connection on the accepting side: a client sends its number, and is sent it back with that
/// of the process that serves it.
fn one_shot_clients(test: &str, count: usize) -> [Vec<(u16, u32)>; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut client = spawn(test, &format!("client {address}"), Stdio::null());
        let (connection, peer) = listener.accept().unwrap();
        let mut server = spawn(test, "serve", Stdio::from(OwnedFd::from(connection)));
        clients.push((peer.port(), client.id()));
        servers.push((peer.port(), server.id()));
        assert!(client.wait().unwrap().success() && server.wait().unwrap().success());
    }
    [clients, servers]
}

/// The part of a spawned process; true if this is one.
fn plays_a_part() -> bool {
    let Ok(role) = env::var(ROLE) else { return false };
    match role.split_once(' ') {
        Some(("client", address)) => {
            let mut connection = TcpStream::connect(address).unwrap();
            connection.write_all(b"12345").unwrap();
            connection.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer).unwrap();
            assert_eq!(answer.len(), 1000);
        }
        Some(("udp", rest)) => {
            let (address, count) = rest.split_once(' ').unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..count.parse::<usize>().unwrap() {
                socket.send_to(&[7; 123], address).unwrap();
            }
        }
        Some(("exec", address)) => {
            use std::os::unix::process::CommandExt as _;
            let connection = TcpStream::connect(address).unwrap();
            let mut shell = Command::new("sh");
            panic!("{}", shell.args(["-c", "printf hello >&0"]).stdin(OwnedFd::from(connection)).exec());
        }
        None if role == "send" => {
            // The connection is its standard input.
            let connection = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned().unwrap();
            TcpStream::from(connection).write_all(b"hello").unwrap();
        }
        _ => {
            let mut question = Vec::new();
            std::io::stdin().lock().read_to_end(&mut question).unwrap();
            assert_eq!(question, b"12345");
            let connection = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned().unwrap();
            TcpStream::from(connection).write_all(&[9; 1000]).unwrap();
        }
    }
    true
}

#[tag(root)]
#[test]
fn two_hundred_one_shot_clients_and_their_servers_are_all_known() {
    const CLIENTS: usize = 200;
    if plays_a_part() {
        return;
    }
    Netns::create().enter(|| {
        // A port may be given to another client again.
        let (facts, [mut clients, mut servers], lost) =
            seen(|| one_shot_clients("two_hundred_one_shot_clients", CLIENTS));
        assert_eq!(lost, 0);
        let program = CleanPath::own();
        let mut named = 0;
        for fact in facts.iter().filter(|fact| fact.protocol == Protocol::Tcp) {
            let (owners, port, expected) = match fact.direction {
                ConnectionDirection::Outbound => (&mut clients, fact.local.port(), (5, 1000)),
                _ => (&mut servers, fact.remote.unwrap().port(), (1000, 5)),
            };
            let owner = owners.iter().position(|owner| *owner == (port, pid(fact)));
            owners.swap_remove(owner.unwrap_or_else(|| panic!("{fact:?} is none of {owners:?}")));
            let traffic = fact.traffic.unwrap();
            assert_eq!((traffic.payload_bytes_sent, traffic.payload_bytes_received), expected, "{fact:?}");
            assert_eq!(
                (fact.state, fact.attribution),
                (ConnectionState::Closed, Attribution::Exact),
                "{fact:?}"
            );
            let process = fact.process.as_ref().unwrap();
            assert_eq!(process.uid, Some(0));
            // Before, who accepted shows when it closes, and one that ends at that is being torn down.
            let is_described = kernel_is_since(6, 3) || process.exe.is_some();
            assert!(process.cgroup.is_some() || !is_described, "{process:?}");
            assert_eq!(process.comm.as_str(), program.comm());
            named += usize::from(process.exe.as_ref().is_some_and(|exe| *exe == *program.0));
            if fact.direction == ConnectionDirection::Outbound {
                assert!(fact.connect_latency().is_some());
                // libtest runs a test in a thread of its own.
                assert_eq!(fact.thread.as_ref().unwrap().comm.as_str(), "two_hundred_one");
            }
        }
        assert_eq!((clients, servers), (Vec::new(), Vec::new()), "all are told");
        let expected = if kernel_is_since(6, 3) { 2 * CLIENTS } else { CLIENTS };
        assert!(named >= expected * 95 / 100, "{named} of {expected} program files known");
    });
}

/// This test's own program file, as answers name it.
struct CleanPath(String);

impl CleanPath {
    fn own() -> Self {
        Self(env::current_exe().unwrap().to_str().unwrap().to_owned())
    }

    fn comm(&self) -> &str {
        let name = self.0.rsplit('/').next().unwrap();
        &name[..name.len().min(15)]
    }
}

#[tag(root)]
#[test]
fn every_udp_sender_is_known_and_every_peer_of_one_socket_counted() {
    const SENDERS: usize = 60;
    if plays_a_part() {
        return;
    }
    Netns::create().enter(|| {
        let (facts, senders, lost) = seen(|| {
            let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = sink.local_addr().unwrap();
            let mut senders: HashMap<u32, u64> = HashMap::new();
            let mut start = |count: usize| {
                let mut sender =
                    spawn("every_udp_sender_is_known", &format!("udp {address} {count}"), Stdio::null());
                senders.insert(sender.id(), count as u64);
                assert!(sender.wait().unwrap().success());
                let mut buffer = [0; 200];
                for _ in 0..count {
                    assert_eq!(sink.recv_from(&mut buffer).unwrap().0, 123);
                }
            };
            for sender in 0..SENDERS {
                start(1 + sender % 3);
            }
            start(100);
            drop(sink);
            // Flows beyond a socket's first are told when somebody looks for those that ended.
            senders
        });
        assert_eq!(lost, 0);
        let outbound: Vec<_> =
            facts.iter().filter(|fact| fact.direction == ConnectionDirection::Outbound).collect();
        assert_eq!(outbound.len(), SENDERS + 1);
        for fact in &outbound {
            let count = senders[&pid(fact)];
            let traffic = fact.traffic.unwrap();
            assert_eq!((traffic.packets_sent, traffic.payload_bytes_sent), (count, 123 * count), "{fact:?}");
            assert_eq!((fact.protocol, fact.attribution), (Protocol::Udp, Attribution::Exact));
        }
        let inbound: Vec<_> =
            facts.iter().filter(|fact| fact.direction == ConnectionDirection::Inbound).collect();
        assert_eq!(inbound.len(), SENDERS + 1, "{inbound:?}");
        for fact in &inbound {
            assert_eq!(pid(fact), std::process::id());
            let peer = outbound.iter().find(|sent| sent.local.port() == fact.remote.unwrap().port()).unwrap();
            assert_eq!(
                fact.traffic.unwrap().payload_bytes_received,
                peer.traffic.unwrap().payload_bytes_sent,
                "{fact:?}"
            );
            assert_eq!(fact.state, ConnectionState::Closed);
        }
    });
}

fn loopback(v6: bool, port: u16) -> SocketAddr {
    let address = if v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::from([127, 0, 0, 1]) };
    SocketAddr::new(address, port)
}

/// A connected pair: the side that connected, and the side that accepted.
fn pair(v6: bool) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(loopback(v6, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn read_all(mut connection: &TcpStream) -> usize {
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).map_or(0, |_| bytes.len())
}

fn the_one(facts: &[ConnectionFact], direction: ConnectionDirection) -> &ConnectionFact {
    let mut matching =
        facts.iter().filter(|fact| fact.protocol == Protocol::Tcp && fact.direction == direction);
    let one = matching.next().unwrap_or_else(|| panic!("nothing {direction}: {facts:?}"));
    assert!(matching.next().is_none(), "several {direction}: {facts:?}");
    one
}

#[tag(root)]
#[test]
fn the_outcome_of_every_connection_is_told() {
    use ConnectionDirection::{Inbound, Outbound};
    Netns::create().enter(|| {
        for v6 in [false, true] {
            // In order, by the connecting side.
            let (facts, ..) = seen(|| {
                let (client, server) = pair(v6);
                (&client).write_all(&[1; 3000]).unwrap();
                drop(client);
                assert_eq!(read_all(&server), 3000);
            });
            let (client, server) = (the_one(&facts, Outbound), the_one(&facts, Inbound));
            assert_eq!(
                (client.state, client.closed_by, client.error),
                (ConnectionState::Closed, Some(ClosedBy::Local), None)
            );
            assert_eq!(
                (server.state, server.closed_by, server.error),
                (ConnectionState::Closed, Some(ClosedBy::Remote), None)
            );
            assert!(
                client.connect_latency().unwrap() < Duration::from_secs(5)
                    && server.connect_latency().is_none()
            );
            assert_eq!(client.local.is_ipv6(), v6);

            // Refused.
            let (facts, ..) = seen(|| TcpStream::connect(loopback(v6, 9)).unwrap_err().raw_os_error());
            let refused = the_one(&facts, Outbound);
            assert_eq!(
                (refused.state, refused.error),
                (ConnectionState::Failed, Some(ConnectionError::told(111)))
            );
            assert_eq!(refused.remote, Some(loopback(v6, 9)));

            // Half closed.
            let (facts, held, _) = seen(|| {
                let (client, server) = pair(v6);
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(read_all(&server), 0);
                (client, server)
            });
            let state = |direction| {
                let fact = the_one(&facts, direction);
                assert_eq!(fact.state, ConnectionState::Open);
                fact.tcp.unwrap().state.name()
            };
            assert_eq!((state(Outbound), state(Inbound)), ("fin_wait_2", "close_wait"));
            drop(held);

            // Broken off: unread data makes the closing side send a reset.
            let (facts, ..) = seen(|| {
                let (client, server) = pair(v6);
                (&client).write_all(&[1; 100]).unwrap();
                thread::sleep(Duration::from_millis(20));
                drop(server);
                assert_eq!(read_all(&client), 0);
            });
            let client = the_one(&facts, Outbound);
            assert_eq!((client.state, client.closed_by), (ConnectionState::Closed, Some(ClosedBy::Remote)));
            assert_eq!(client.error, Some(ConnectionError::told(104)));
            assert_eq!(the_one(&facts, Inbound).closed_by, Some(ClosedBy::Local));
        }

        // v4-mapped addresses are IPv4 on both sides.
        let (facts, ..) = seen(|| {
            let listener = TcpListener::bind("[::]:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{port}").parse().unwrap();
            let client = TcpStream::connect(mapped).unwrap();
            drop((client, listener.accept().unwrap()));
        });
        assert!(the_one(&facts, Outbound).remote.unwrap().is_ipv4());
        assert!(the_one(&facts, Inbound).local.is_ipv4());
    });
}

#[tag(root)]
#[test]
fn an_attempt_that_nobody_answers_times_out_and_is_still_its_processs() {
    let netns = Netns::create();
    // A neighbour that is not there: the SYN is sent, and nothing comes back.
    netns.ip(&[
        "link add quiet0 type veth peer name quiet1",
        "addr add 192.0.2.1/24 dev quiet0",
        "link set quiet0 up",
        "link set quiet1 up",
        "neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev quiet0 nud permanent",
    ]);
    netns.enter(|| {
        std::fs::write("/proc/sys/net/ipv4/tcp_syn_retries", "1").unwrap();
        let (facts, error, _) = seen(|| TcpStream::connect("192.0.2.9:80").unwrap_err().raw_os_error());
        assert_eq!(error, Some(110));
        let fact = the_one(&facts, ConnectionDirection::Outbound);
        assert_eq!((fact.state, fact.error), (ConnectionState::Failed, Some(ConnectionError::told(110))));
        assert_eq!((pid(fact), fact.attribution), (std::process::id(), Attribution::Exact));
        assert!(fact.tcp.unwrap().retransmits >= 1);
        assert!(fact.closed.unwrap().since(fact.opened.unwrap()) > Duration::from_secs(1));
    });
}

#[tag(root)]
#[test]
fn an_attempt_that_finds_no_local_port_has_failed_for_that() {
    let netns = Netns::create();
    netns.limit_local_ports(40_000..=40_003);
    netns.enter(|| {
        for (family, follows_calls) in [("v4", false), ("v6", false), ("mapped", false), ("v4", true)] {
            let source = LiveSource::open().unwrap();
            let source = if follows_calls { source.with_system_calls() } else { source };
            let (facts, truths, lost) =
                seen_by(&source, || workload::run(&netns, &format!("outcome no-local-port {family}")));
            assert_eq!(lost, 0);
            let truth = workload::only(&truths, Event::Done, "client");
            assert_eq!(truth.error.as_deref(), Some("EADDRNOTAVAIL"));
            let (failed, others): (Vec<_>, Vec<_>) = facts
                .iter()
                .filter(|fact| {
                    fact.protocol == Protocol::Tcp && fact.direction == ConnectionDirection::Outbound
                })
                .partition(|fact| fact.state == ConnectionState::Failed);
            assert_eq!(others.len() as u64, truth.connections, "{family} {follows_calls} {others:?}");
            let [failed] = failed[..] else { panic!("{facts:?}") };
            let error =
                if follows_calls { ConnectionError::told(99) } else { ConnectionError::inferred(Some(99)) };
            assert_eq!(failed.error, Some(error), "{failed:?}");
            assert_eq!((pid(failed), failed.attribution), (truth.pid, Attribution::Exact));
            let peer = truth.peer.unwrap();
            assert_eq!(failed.remote, Some((peer.ip().to_canonical(), peer.port()).into()));
            // It began in the process's call, and had no handshake.
            assert_eq!(failed.connect_latency(), None);
            let opened = failed.opened.unwrap();
            assert!((truth.start_ns..=truth.end_ns).contains(&opened.ns()), "{failed:?}");
            assert!(failed.closed.unwrap().since(opened) < Duration::from_secs(20), "{failed:?}");
        }
    });
}

#[tag(root)]
#[test]
fn bytes_are_the_applications_own_count() {
    Netns::create().enter(|| {
        let sizes: Vec<(usize, usize)> = (0..50).map(|n| (n * 3001 % 200_000, n * 7919 % 150_000)).collect();
        let (facts, ports, lost) = seen(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let mut ports = HashMap::new();
            for (index, (send, receive)) in sizes.iter().copied().enumerate() {
                let client = TcpStream::connect(address).unwrap();
                ports.insert(client.local_addr().unwrap().port(), (send as u64, receive as u64));
                let (server, _) = listener.accept().unwrap();
                let serving = thread::spawn(move || {
                    (&server).write_all(&vec![2; receive]).unwrap();
                    server.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(read_all(&server), send);
                });
                (&client).write_all(&vec![1; send]).unwrap();
                // Either side ends first.
                if index % 2 == 0 {
                    client.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(read_all(&client), receive);
                } else {
                    assert_eq!(read_all(&client), receive);
                    drop(client);
                }
                serving.join().unwrap();
            }
            ports
        });
        assert_eq!(lost, 0);
        let mut checked = 0;
        for fact in facts.iter().filter(|fact| fact.protocol == Protocol::Tcp) {
            let traffic = fact.traffic.unwrap();
            let (sent, received) = (traffic.payload_bytes_sent, traffic.payload_bytes_received);
            if fact.direction == ConnectionDirection::Outbound {
                assert_eq!((sent, received), ports[&fact.local.port()], "{fact:?}");
            } else {
                assert_eq!((received, sent), ports[&fact.remote.unwrap().port()], "{fact:?}");
            }
            checked += 1;
        }
        assert_eq!(checked, 100);
    });
}

#[tag(root)]
#[test]
fn a_storm_is_seen_or_said_to_be_lost() {
    Netns::create().enter(|| {
        let (facts, count, lost) = seen(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let mut count = 0_u64;
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_secs(2) {
                let client = TcpStream::connect(address).unwrap();
                drop((client, listener.accept().unwrap()));
                count += 1;
            }
            count
        });
        let tcp = facts.iter().filter(|fact| fact.protocol == Protocol::Tcp).count() as u64;
        assert_eq!(tcp + lost, 2 * count, "{tcp} seen, {lost} lost");
        assert!(facts.iter().all(|fact| pid(fact) == std::process::id()));
    });
}

#[tag(root)]
#[test]
fn a_thousand_connections_are_summed_up_and_paged_exactly() {
    const COUNT: usize = 1000;
    const PAGE: u64 = 100;
    Netns::create().enter(|| {
        let monitor = Monitor::live().unwrap();
        let observation = monitor.source().observe().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sizes = |number: usize| (number * 7 % 1009, number * 31 % 4001);
        let mut ports = HashMap::new();
        let mut open = Vec::new();
        for number in 0..COUNT {
            let (send, receive) = sizes(number);
            let client = TcpStream::connect(address).unwrap();
            ports.insert(client.local_addr().unwrap().port(), (send as u64, receive as u64));
            let (server, _) = listener.accept().unwrap();
            (&client).write_all(&vec![1; send]).unwrap();
            (&server).read_exact(&mut vec![0; send]).unwrap();
            (&server).write_all(&vec![2; receive]).unwrap();
            (&client).read_exact(&mut vec![0; receive]).unwrap();
            // Some stay open, so that rows come from records and from the list.
            if number % 3 == 0 {
                open.push((client, server));
            }
        }
        assert_eq!(ports.len(), COUNT, "a port was used twice");
        thread::sleep(Duration::from_millis(50));

        let mut filter = ConnectionFilter::default();
        filter.pid = Some(std::process::id());
        filter.include_own = true;
        filter.filter = Some(format!("netns == {} and remote.port == {}", own_number(), address.port()));
        let sum = |of: fn(&(u64, u64)) -> u64| ports.values().map(of).sum::<u64>();
        let (sent, received) = (sum(|size| size.0), sum(|size| size.1));

        let mut request = SummaryRequest::default();
        request.filter = filter.clone();
        let summary = monitor.summary(&request, &Control::default()).unwrap();
        assert_eq!(summary.header.coverage.lost_events, 0);
        assert_eq!((summary.total_attempts, summary.failed, summary.connections), (1000, 0, 1000));
        assert_eq!((summary.open, summary.closed), (334, 666));
        let bytes = summary.payload_bytes.unwrap();
        assert_eq!((bytes.sent, bytes.received), (sent, received));
        let [process] = &summary.by_process[..] else { panic!("{:?}", summary.by_process) };
        assert_eq!((process.pid, process.attempts), (Some(std::process::id()), 1000));

        for (sort, goes_on) in [(ConnectionSort::Bytes, false), (ConnectionSort::Opened, true)] {
            let mut request = ConnectionsRequest::default();
            request.filter = filter.clone();
            request.sort = sort;
            request.limit = Some(PAGE);
            let (mut pages, mut told) = (0, HashMap::new());
            loop {
                let page = monitor.connections(&request, &Control::default()).unwrap();
                assert_eq!((page.total, page.connections.len() as u64), (1000, PAGE), "by {sort:?}");
                pages += 1;
                for row in page.connections {
                    let traffic = row.payload_bytes.unwrap();
                    let before = told.insert(row.local.port, (traffic.sent, traffic.received));
                    assert_eq!(before, None, "{} is told twice", row.local.port);
                }
                request.cursor = page.next_cursor;
                if request.cursor.is_none() {
                    break;
                }
                // What is new meanwhile is in no page.
                if goes_on {
                    drop((TcpStream::connect(address).unwrap(), listener.accept().unwrap()));
                }
            }
            assert_eq!(pages, 10);
            assert_eq!(told, ports);
        }
        drop(observation);
    });
}

#[tag(root)]
#[test]
fn what_is_older_than_the_monitor_is_listed_with_its_holder() {
    Netns::create().enter(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        (&client).write_all(&[1; 1000]).unwrap();
        server.read_exact(&mut [0; 1000]).unwrap();

        let source = LiveSource::open().unwrap();
        let observation = source.observe().unwrap();
        (&client).write_all(&[1; 700]).unwrap();
        server.read_exact(&mut [0; 700]).unwrap();
        let to = source.wait(&observation.from, Duration::from_millis(1), &Control::default()).unwrap();
        let span = Span { from: observation.from, to };
        let mut sightings = Vec::new();
        let mut visit = |sighting: Sighting<'_>| {
            sightings.push((sighting.fact.clone(), sighting.traffic_within(&span).unwrap_or_default()));
        };
        source.connections(&span, &Filter::everything(), &mut visit).unwrap();
        let netns = own_number();
        sightings.retain(|(fact, _)| fact.netns == netns);
        assert_eq!(sightings.len(), 2, "{sightings:?}");
        for (fact, within) in &sightings {
            assert_eq!((pid(fact), fact.opened), (std::process::id(), None));
            let traffic = fact.traffic.unwrap();
            if fact.local.port() == client.local_addr().unwrap().port() {
                assert_eq!(fact.direction, ConnectionDirection::Outbound);
                assert_eq!((traffic.payload_bytes_sent, within.payload_bytes_sent), (1700, 700));
            } else {
                assert_eq!(fact.direction, ConnectionDirection::Inbound);
                assert_eq!((traffic.payload_bytes_received, within.payload_bytes_received), (1700, 700));
            }
            assert_eq!(fact.attribution, Attribution::Snapshot);
        }
    });
}

#[tag(root)]
#[test]
fn own_traffic_is_left_out_unless_asked_for() {
    Netns::create().enter(|| {
        let (_client, _server) = pair(false);
        let monitor = Monitor::live().unwrap();
        let mut request = ConnectionsRequest::default();
        request.window = Duration::ZERO;
        request.filter.filter = Some(format!("netns == {}", own_number()));
        assert_eq!(monitor.connections(&request, &Control::default()).unwrap().total, 0);
        request.filter.include_own = true;
        assert_eq!(monitor.connections(&request, &Control::default()).unwrap().total, 2);
    });
}

#[tag(root)]
#[test]
fn a_name_that_was_chosen_to_harm_is_clean_and_recognisable() {
    Netns::create().enter(|| {
        let (facts, ..) = seen(|| {
            // The thread's name, as a process may write whatever it likes there.
            std::fs::write("/proc/thread-self/comm", "\u{1b}[2Jignore pre").unwrap();
            TcpStream::connect(loopback(false, 9)).unwrap_err().kind()
        });
        let fact = the_one(&facts, ConnectionDirection::Outbound);
        assert_eq!(fact.thread.as_ref().unwrap().comm.as_str(), r"\x1b[2Jignore pre");
    });
}

#[tag(root)]
#[test]
fn changes_come_in_order_while_somebody_watches() {
    Netns::create().enter(|| {
        let netns = own_number();
        let source = LiveSource::open().unwrap();
        let observation = source.observe().unwrap();
        let cancel = Cancel::new();
        let first = source.changes(observation.cursor, Duration::ZERO, &cancel).unwrap();
        drop(pair(false));
        let mut states = Vec::new();
        let mut cursor: ChangeCursor = first.next;
        netmon_testkit::wait_until("both sides have ended", || {
            let changes = source.changes(cursor, Duration::from_millis(100), &cancel).unwrap();
            assert_eq!(changes.missed, 0);
            cursor = changes.next;
            states.extend(
                changes
                    .connections
                    .iter()
                    .filter(|fact| fact.netns == netns && fact.direction == ConnectionDirection::Outbound)
                    .map(|fact| fact.state.name()),
            );
            states.len() >= 3
        });
        assert_eq!(states, ["opening", "open", "closed"]);
    });
}

#[tag(root)]
#[test]
fn who_connected_and_who_sent_are_told_apart() {
    if plays_a_part() {
        return;
    }
    const TEST: &str = "who_connected_and_who_sent";
    // By the hooks at sending and receiving.
    let tells_uses = kernel_is_since(6, 3);
    Netns::create().enter(|| {
        // A descriptor that is passed on.
        let (facts, sender, _) = seen(|| {
            let (client, server) = pair(false);
            let mut sender = spawn(TEST, "send", Stdio::from(OwnedFd::from(client)));
            assert_eq!(read_all(&server), 5);
            assert!(sender.wait().unwrap().success());
            sender.id()
        });
        let fact = the_one(&facts, ConnectionDirection::Outbound);
        assert_eq!((pid(fact), fact.attribution), (std::process::id(), Attribution::Exact));
        let last_user = fact.last_user.as_ref().map(|process| process.pid);
        assert_eq!(last_user, tells_uses.then_some(sender));

        // The same process after exec is another program.
        let (facts, connector, _) = seen(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let mut connector = spawn(TEST, &format!("exec {address}"), Stdio::null());
            assert_eq!(read_all(&listener.accept().unwrap().0), 5);
            assert!(connector.wait().unwrap().success());
            connector.id()
        });
        let fact = the_one(&facts, ConnectionDirection::Outbound);
        let connected = fact.process.as_ref().unwrap();
        assert_eq!(connected.pid, connector);
        assert_eq!(connected.comm.as_str(), CleanPath::own().comm());
        assert_eq!(fact.last_user.is_some(), tells_uses);
        let Some(sent) = &fact.last_user else { return };
        assert_eq!(sent.pid, connector);
        assert!(sent.cmdline.as_ref().unwrap().as_str().contains("printf hello"), "{sent:?}");
    });
}

#[tag(root)]
#[test]
fn what_other_tools_tell_wrong_is_told_right() {
    Netns::create().enter(|| {
        let (facts, port, _) = seen(|| {
            // QUIC is UDP, and DNS may be TCP.
            let quic = UdpSocket::bind("127.0.0.1:0").unwrap();
            quic.connect("127.0.0.1:443").unwrap();
            assert!(TcpStream::connect("127.0.0.1:53").is_err());
            // Without connect there is traffic too.
            let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
            let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
            plain.send_to(&[0; 77], sink.local_addr().unwrap()).unwrap();
            // Looking is not receiving.
            assert_eq!(sink.peek_from(&mut [0; 100]).unwrap().0, 77);
            assert_eq!(sink.recv_from(&mut [0; 100]).unwrap().0, 77);
            // This is not the network.
            let (left, mut right) = std::os::unix::net::UnixStream::pair().unwrap();
            (&left).write_all(b"local").unwrap();
            right.read_exact(&mut [0; 5]).unwrap();
            sink.local_addr().unwrap().port()
        });
        let to = |port: u16| {
            let mut there =
                facts.iter().filter(|fact| fact.remote.is_some_and(|remote| remote.port() == port));
            let one = there.next().unwrap_or_else(|| panic!("nothing to port {port}: {facts:?}"));
            assert!(there.next().is_none(), "{facts:?}");
            one
        };
        assert_eq!((to(443).protocol, to(443).traffic.unwrap().packets_sent), (Protocol::Udp, 0));
        assert_eq!((to(53).protocol, to(53).error), (Protocol::Tcp, Some(ConnectionError::told(111))));
        assert_eq!((to(port).protocol, to(port).traffic.unwrap().payload_bytes_sent), (Protocol::Udp, 77));
        let received: Vec<_> = facts.iter().filter(|fact| fact.local.port() == port).collect();
        assert_eq!(received.len(), 1);
        assert_eq!(received[0].direction, ConnectionDirection::Inbound);
        let traffic = received[0].traffic.unwrap();
        assert_eq!((traffic.packets_received, traffic.payload_bytes_received), (1, 77));
        assert_eq!(facts.len(), 4, "{facts:?}");
    });
}

#[tag(root)]
#[test]
fn sockets_of_multipath_tcp_are_listed_with_their_holders() {
    use rustix::net::{AddressFamily, SocketType, ipproto, socket};

    let netns = Netns::create();
    netns.enter(|| {
        let open = || socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP));
        let listener: TcpListener = match open() {
            Ok(listener) => listener.into(),
            Err(rustix::io::Errno::PROTONOSUPPORT) => {
                // Then there is nothing to list.
                let log = std::fs::read_to_string("/proc/net/protocols").unwrap();
                assert!(!log.contains("MPTCP"), "{log}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        rustix::net::bind(&listener, &loopback(false, 0)).unwrap();
        rustix::net::listen(&listener, 8).unwrap();
        let address = listener.local_addr().unwrap();
        let client: TcpStream = open().unwrap().into();
        rustix::net::connect(&client, &address).unwrap();
        let (server, _) = listener.accept().unwrap();
        (&client).write_all(&[0; 10]).unwrap();
        (&server).read_exact(&mut [0; 10]).unwrap();

        let listed = |source: &LiveSource| {
            let snapshot = source.sockets(&source.start().unwrap()).unwrap();
            let mut rows: Vec<(bool, Option<u32>, Option<u64>)> = snapshot
                .sockets
                .iter()
                .map(|socket| &socket.connection)
                .filter(|fact| fact.local.port() == address.port() || fact.remote == Some(address))
                .map(|fact| {
                    let received = fact.traffic.map(|traffic| traffic.payload_bytes_received);
                    (fact.remote.is_none(), fact.process.as_ref().map(|process| process.pid), received)
                })
                .collect();
            rows.sort();
            rows
        };
        let own = Some(std::process::id());
        let expected = [(false, own, Some(0)), (false, own, Some(10)), (true, own, None)];
        let source = LiveSource::open().unwrap();
        assert_eq!(listed(&source), expected, "by a look");
        let _observation = source.observe().unwrap();
        assert_eq!(listed(&source), expected, "while it observes");
        assert_eq!(listed(&source), expected, "and again");
    });
}

#[tag(root)]
#[test]
fn what_no_process_holds_is_listed_though_the_kernels_count_is_looked_at_first() {
    use TcpState::{CloseWait, Established, FinWait2, Listen, TimeWait};

    let netns = Netns::create();
    netns.enter(|| {
        let source = LiveSource::open().unwrap();
        let _observation = source.observe().unwrap();
        // State, whether it is over, and whether its bytes are known.
        let states = |port: u16| {
            let snapshot = source.sockets(&source.start().unwrap()).unwrap();
            let of_port = |fact: &&ConnectionFact| {
                fact.local.port() == port || fact.remote.is_some_and(|remote| remote.port() == port)
            };
            let facts = snapshot.sockets.iter().map(|socket| &socket.connection).filter(of_port);
            let mut states: Vec<_> =
                facts.map(|fact| (fact.tcp.unwrap().state, fact.is_over(), fact.traffic.is_some())).collect();
            states.sort_by_key(|(state, ..)| *state as u8);
            states
        };
        let listens = (Listen, false, false);
        let established = (Established, false, true);
        let listener = TcpListener::bind(loopback(false, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(states(port), [listens]);
        // Established, and nobody has accepted it.
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(states(port), [established, established, listens]);
        let (server, _) = listener.accept().unwrap();
        // Closed by its process, and the other side has not closed.
        drop(client);
        netmon_testkit::wait_until("one side is closed", || {
            states(port) == [(FinWait2, true, false), (CloseWait, false, true), listens]
        });
        // Whoever else lists files at this moment holds it a little longer.
        drop(server);
        netmon_testkit::wait_until("both are", || states(port) == [(TimeWait, true, false), listens]);
    });
}

#[tag(root)]
#[test]
fn what_is_quiet_is_left_out_of_what_is_active_and_nothing_else_is() {
    let netns = Netns::create();
    netns.enter(|| {
        let source = LiveSource::open().unwrap();
        let observation = source.observe().unwrap();
        let mut pairs: Vec<_> = (0..12).map(|_| pair(false)).collect();
        for (client, server) in &mut pairs {
            client.write_all(&[0; 100]).unwrap();
            server.read_exact(&mut [0; 100]).unwrap();
        }
        let own = own_number();
        // The port of the side that connected, and what it sent: which tells one pair from another.
        let told = |span: &Span, only_active: bool| {
            let mut told = Vec::new();
            let visit = &mut |sighting: Sighting<'_>| {
                let fact = sighting.fact;
                if fact.netns == own && fact.direction == ConnectionDirection::Outbound {
                    let sent = fact.traffic.unwrap().payload_bytes_sent;
                    told.push((fact.local.port(), fact.is_over(), sent));
                }
            };
            let everything = Filter::everything();
            if only_active {
                source.active_connections(span, &everything, visit).unwrap().expect("a list was made before");
            } else {
                source.connections(span, &everything, visit).unwrap();
            }
            told.sort_unstable();
            told
        };
        let port = |client: &TcpStream| client.local_addr().unwrap().port();
        let now = || source.start().unwrap();
        let first = now();
        assert!(
            source
                .active_connections(
                    &Span { from: observation.from, to: first },
                    &Filter::everything(),
                    &mut |_| {}
                )
                .unwrap()
                .is_none(),
            "no list is so old that it tells what was quiet for so long"
        );
        if !kernel_is_since(5, 13) {
            // The iterators are what tells; without them all connections are always asked for.
            return;
        }
        // The last acknowledgements are over, and lists a second apart are remembered.
        thread::sleep(Duration::from_secs(1));
        assert_eq!(told(&Span { from: observation.from, to: now() }, false).len(), 12);
        thread::sleep(Duration::from_secs(3));

        let from = now();
        let (sender, sent_to) = &mut pairs[3];
        sender.write_all(&[0; 11]).unwrap();
        sent_to.read_exact(&mut [0; 11]).unwrap();
        // The other side sends: then this one receives.
        let (receiver, received_from) = &mut pairs[4];
        received_from.write_all(&[0; 7]).unwrap();
        receiver.read_exact(&mut [0; 7]).unwrap();
        let ended = pairs.remove(8);
        let ended_port = port(&ended.0);
        drop(ended);
        let begun = pair(false);
        // An acknowledgement may come late.
        thread::sleep(Duration::from_millis(100));
        let span = Span { from, to: now() };
        let mut expected = vec![
            (port(&pairs[3].0), false, 111),
            (port(&pairs[4].0), false, 100),
            (ended_port, true, 100),
            (port(&begun.0), false, 0),
        ];
        expected.sort_unstable();
        assert_eq!(told(&span, true), expected);
        let all = told(&span, false);
        assert_eq!(all.len(), 13);
        assert!(expected.iter().all(|row| all.contains(row)), "{all:?}");
    });
}
