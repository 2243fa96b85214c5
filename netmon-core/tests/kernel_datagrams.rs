//! Flows of datagrams, which nothing ends but time: against what the test itself sent and received.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, UdpSocket},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    thread,
    time::Duration,
};

use netmon_core::{
    Control, Filter, Source as _,
    fact::{Attribution, ClosedBy, ConnectionFact, ConnectionState, Moment, Protocol},
    source::{Span, live::LiveSource},
};
use netmon_testkit::{
    Netns, kernel_is_since, own_number, wait_until,
    workload::{self, Event},
};
use rustix::net;
use test_tag::tag;

/// What was seen in this network namespace from a moment until now.
fn look(source: &LiveSource, from: Moment) -> Vec<ConnectionFact> {
    look_with_gaps(source, from).0
}

/// And how many datagrams at most are said to be in no sum, as the kernel passed over them.
fn look_with_gaps(source: &LiveSource, from: Moment) -> (Vec<ConnectionFact>, u64) {
    // The last ends come a moment after the last call returns.
    let to = source.wait(&source.start().unwrap(), Duration::from_millis(20), &Control::default()).unwrap();
    let span = Span { from, to };
    let mut facts = Vec::new();
    let observed = source
        .connections(&span, &Filter::everything(), &mut |sighting| facts.push(sighting.fact.clone()))
        .unwrap();
    assert_eq!(observed.lost_events, 0);
    facts.retain(|fact| fact.netns == own_number());
    let uncounted = observed.warnings.iter().find_map(|warning| {
        let count = warning.strip_prefix("up to ")?.strip_suffix(UNCOUNTED)?;
        Some(count.split(' ').next()?.replace(',', "").parse().unwrap())
    });
    (facts, uncounted.unwrap_or(0))
}

const UNCOUNTED: &str = " not counted: the kernel runs no program twice at a time on a CPU";

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

fn port(socket: &UdpSocket) -> u16 {
    socket.local_addr().unwrap().port()
}

fn pid(fact: &ConnectionFact) -> Option<u32> {
    fact.process.as_ref().map(|process| process.pid)
}

/// Whether packets are counted, as the kernel does not tell what programs send and receive.
fn counts_packets() -> bool {
    !kernel_is_since(6, 3)
}

/// Datagrams and bytes: sent, and received.
type Counts = ((u64, u64), (u64, u64));

fn counts(fact: &ConnectionFact) -> Counts {
    let traffic = fact.traffic.unwrap();
    (
        (traffic.packets_sent, traffic.payload_bytes_sent),
        (traffic.packets_received, traffic.payload_bytes_received),
    )
}

/// The flows of a socket: to which port, how they are, and what they counted; in the order of their beginning.
fn flows_of(facts: &[ConnectionFact], port: u16) -> Vec<&ConnectionFact> {
    let mut flows: Vec<_> = facts.iter().filter(|fact| fact.local.port() == port).collect();
    flows.sort_by_key(|fact| fact.opened);
    flows
}

#[tag(root)]
#[test]
fn a_flow_ends_when_it_was_idle_and_what_comes_later_is_another() {
    const IDLE: Duration = Duration::from_secs(2);
    Netns::create().enter(|| {
        let source = LiveSource::open().unwrap().with_datagram_idle(IDLE);
        let observation = source.observe().unwrap();
        let (sender, connected, closing) = (socket(), socket(), socket());
        let (first, second) = (socket(), socket());
        let mut buffer = [0; 200];

        let before = source.start().unwrap();
        for _ in 0..3 {
            sender.send_to(&[1; 100], first.local_addr().unwrap()).unwrap();
        }
        first.send_to(&[2; 30], sender.local_addr().unwrap()).unwrap();
        assert_eq!(sender.recv_from(&mut buffer).unwrap().0, 30);
        for _ in 0..2 {
            sender.send_to(&[3; 50], second.local_addr().unwrap()).unwrap();
        }
        connected.connect(first.local_addr().unwrap()).unwrap();
        connected.send(&[4; 5]).unwrap();
        closing.send_to(&[5; 10], second.local_addr().unwrap()).unwrap();
        let after = source.start().unwrap();

        let is_of_first_burst = |fact: &ConnectionFact| {
            let (opened, last_seen) = (fact.opened.unwrap().ns(), fact.last_seen.unwrap().ns());
            assert!(before.boot_ns < opened && opened <= last_seen, "{fact:?}");
            assert!(last_seen < after.boot_ns, "{fact:?}");
            assert_eq!((fact.protocol, fact.attribution), (Protocol::Udp, Attribution::Exact));
            assert_eq!(pid(fact), Some(std::process::id()));
        };
        let expected: Vec<(&UdpSocket, Vec<(&UdpSocket, Counts)>)> = vec![
            (&sender, vec![(&first, ((3, 300), (1, 30))), (&second, ((2, 100), (0, 0)))]),
            (&connected, vec![(&first, ((1, 5), (0, 0)))]),
            (&closing, vec![(&second, ((1, 10), (0, 0)))]),
        ];
        let is_as_sent = |facts: &[ConnectionFact], state: ConnectionState| {
            for (socket, flows) in &expected {
                let seen = flows_of(facts, port(socket));
                let seen: Vec<_> = seen.into_iter().filter(|fact| fact.state == state).collect();
                assert_eq!(seen.len(), flows.len(), "{facts:?}");
                for (fact, (peer, expected)) in seen.into_iter().zip(flows) {
                    is_of_first_burst(fact);
                    assert_eq!(fact.remote, Some(peer.local_addr().unwrap()));
                    assert_eq!(counts(fact), *expected, "{fact:?}");
                    let idle = state == ConnectionState::Closed;
                    assert_eq!(fact.closed, fact.last_seen.filter(|_| idle), "{fact:?}");
                    assert_eq!(fact.closed_by, idle.then_some(ClosedBy::Idle), "{fact:?}");
                }
            }
        };
        let is_over = |facts: &[ConnectionFact], sockets: &[&UdpSocket]| {
            let mut flows = facts.iter().filter(|fact| {
                let local = fact.local.port();
                sockets.iter().any(|socket| port(socket) == local)
            });
            flows.all(ConnectionFact::is_over)
        };

        let facts = look(&source, observation.from);
        // Where this machine stood still for as long, they have ended already.
        if source.start().unwrap().since(&before) < IDLE {
            is_as_sent(&facts, ConnectionState::Open);
        }
        wait_until("the flows are idle", || {
            let facts = look(&source, observation.from);
            is_over(&facts, &[&sender, &connected, &closing])
        });
        let facts = look(&source, observation.from);
        is_as_sent(&facts, ConnectionState::Closed);
        assert_eq!(flows_of(&facts, port(&sender)).len(), 2, "{facts:?}");

        let closed_port = port(&closing);
        let again = source.start().unwrap();
        sender.send_to(&[6; 70], first.local_addr().unwrap()).unwrap();
        sender.send_to(&[7; 40], second.local_addr().unwrap()).unwrap();
        connected.send(&[8; 6]).unwrap();
        let facts = look(&source, observation.from);
        is_as_sent(&facts, ConnectionState::Closed);
        // Where packets are counted, those too that nobody has read from the other sockets.
        let is_sent = |fact: &&ConnectionFact| [port(&sender), port(&connected)].contains(&fact.local.port());
        let later: Vec<_> = facts.iter().filter(|fact| fact.opened.unwrap().ns() > again.boot_ns).collect();
        let later: Vec<_> = later.into_iter().filter(is_sent).collect();
        assert_eq!(later.len(), 3, "{facts:?}");
        let of = |local: &UdpSocket, remote: &UdpSocket| {
            let mut matching = later.iter().filter(|fact| {
                fact.local.port() == port(local) && fact.remote == Some(remote.local_addr().unwrap())
            });
            let fact = matching.next().unwrap();
            assert_eq!(pid(fact), Some(std::process::id()));
            (fact.state, counts(fact))
        };
        let open = |bytes| (ConnectionState::Open, ((1, bytes), (0, 0)));
        if source.start().unwrap().since(&again) < IDLE {
            assert_eq!(of(&sender, &first), open(70));
            assert_eq!(of(&sender, &second), open(40));
            assert_eq!(of(&connected, &first), open(6));
        }

        // What ended before a window is not in it.
        let facts = look(&source, again);
        assert!(flows_of(&facts, closed_port).is_empty(), "{facts:?}");
        assert_eq!(flows_of(&facts, port(&sender)).len(), 2, "{facts:?}");

        // Nor is one that was idle and whose socket is closed now.
        drop(closing);
        assert!(flows_of(&look(&source, again), closed_port).is_empty());
        let facts = look(&source, observation.from);
        let closed = flows_of(&facts, closed_port);
        assert_eq!(closed.len(), 1, "{facts:?}");
        assert_eq!((closed[0].closed, closed[0].closed_by), (closed[0].last_seen, Some(ClosedBy::Idle)));
        assert_eq!(counts(closed[0]), ((1, 10), (0, 0)));
    });
}

#[tag(root)]
#[test]
fn what_is_counted_without_a_peer_ends_when_it_was_idle_too() {
    Netns::create().enter(|| {
        let source = LiveSource::open().unwrap().with_datagram_idle(Duration::from_secs(2));
        let observation = source.observe().unwrap();
        let (family, kind) = (net::AddressFamily::INET, net::SocketType::DGRAM);
        let pinger = UdpSocket::from(net::socket(family, kind, Some(net::ipproto::ICMP)).unwrap());
        pinger.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // An echo request; the kernel writes checksum and identifier.
        let ping = || {
            pinger.send_to(&[8, 0, 0, 0, 0, 0, 0, 1, 1, 1], "127.0.0.1:0").unwrap();
            assert_eq!(pinger.recv(&mut [0; 100]).unwrap(), 10);
        };
        let rows = || {
            let mut facts = look(&source, observation.from);
            facts.sort_by_key(|fact| fact.opened);
            let has_no_peer = |fact: &ConnectionFact| fact.remote.is_none() || counts_packets();
            assert!(facts.iter().all(|fact| fact.protocol == Protocol::Icmp && has_no_peer(fact)));
            facts.iter().map(|fact| (fact.closed_by, counts(fact))).collect::<Vec<_>>()
        };
        let (two, one) = (((2, 20), (2, 20)), ((1, 10), (1, 10)));
        ping();
        ping();
        wait_until("the flow is idle", || rows() == [(Some(ClosedBy::Idle), two)]);
        ping();
        let seen = rows();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!((seen[0], seen[1].1), ((Some(ClosedBy::Idle), two), one));
        drop(pinger);
        assert_eq!(rows().len(), 2);
    });
}

/// What one socket sent to each peer, of whom each answers every datagram; several threads do both at once.
fn share(threads: usize, rounds: usize) {
    const PEERS: usize = 5;
    let sent_size = |peer: usize| 100 + peer;
    let answer_size = |peer: usize| 200 + peer;
    let source = LiveSource::open().unwrap();
    let observation = source.observe().unwrap();
    let shared = socket();
    let peers: Vec<_> = (0..PEERS).map(|_| socket()).collect();
    let addresses: Vec<_> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
    thread::scope(|scope| {
        for (number, peer) in peers.iter().enumerate() {
            scope.spawn(move || {
                let mut buffer = [0; 300];
                for _ in 0..threads * rounds {
                    let (length, from) = peer.recv_from(&mut buffer).unwrap();
                    assert_eq!(length, sent_size(number));
                    peer.send_to(&buffer[..answer_size(number)], from).unwrap();
                }
            });
        }
        for _ in 0..threads {
            scope.spawn(|| {
                let mut buffer = [0; 300];
                for _ in 0..rounds {
                    for (number, address) in addresses.iter().enumerate() {
                        shared.send_to(&buffer[..sent_size(number)], address).unwrap();
                    }
                    // Whoever's they are: as many come for all threads as they sent.
                    for _ in 0..PEERS {
                        shared.recv_from(&mut buffer).unwrap();
                    }
                }
            });
        }
    });

    let each = (threads * rounds) as u64;
    let bytes = |size: &dyn Fn(usize) -> usize| (0..PEERS).map(|peer| each * size(peer) as u64).sum::<u64>();
    let truth = ((each * PEERS as u64, bytes(&sent_size)), (each * PEERS as u64, bytes(&answer_size)));
    let shared_port = port(&shared);
    let is_right = |(facts, uncounted): (Vec<ConnectionFact>, u64), state: ConnectionState| {
        let facts = &facts[..];
        // Where the kernel passed over none, as nearly always, all are counted.
        let is_all = |counted: Counts, all: Counts| match uncounted {
            0 => assert_eq!(counted, all, "{facts:?}"),
            _ => {
                let packets = |of: Counts| of.0.0 + of.1.0;
                assert!(packets(counted) <= packets(all), "{counted:?} of {all:?}");
                assert!(packets(all) <= packets(counted) + uncounted, "{counted:?} of {all:?}, {uncounted}");
            }
        };
        let mut sum = ((0, 0), (0, 0));
        let mut by_peer: HashMap<SocketAddr, Counts> = HashMap::new();
        let add = |to: &mut Counts, of: Counts| {
            to.0 = (to.0.0 + of.0.0, to.0.1 + of.0.1);
            to.1 = (to.1.0 + of.1.0, to.1.1 + of.1.1);
        };
        for fact in flows_of(facts, shared_port) {
            assert_eq!(
                (fact.protocol, fact.state, pid(fact)),
                (Protocol::Udp, state, Some(std::process::id()))
            );
            add(&mut sum, counts(fact));
            if let Some(peer) = fact.remote {
                add(by_peer.entry(peer).or_default(), counts(fact));
            }
        }
        is_all(sum, truth);
        assert!(by_peer.keys().all(|peer| addresses.contains(peer)), "{by_peer:?}");
        for (number, address) in addresses.iter().enumerate() {
            let (sent, received) = by_peer[address];
            assert!(sent.0 <= each && received.0 <= each, "{address}: {by_peer:?}");
            // Every one that is counted with a peer has the size of that peer's.
            let sizes = (sent_size(number) as u64, answer_size(number) as u64);
            assert_eq!((sent.1, received.1), (sent.0 * sizes.0, received.0 * sizes.1), "{by_peer:?}");
            // The peers have one thread each.
            let [peers_own] = flows_of(facts, address.port())[..] else { panic!("{address}: {facts:?}") };
            is_all(counts(peers_own), ((each, each * sizes.1), (each, each * sizes.0)));
        }
    };
    is_right(look_with_gaps(&source, observation.from), ConnectionState::Open);
    drop((shared, peers));
    is_right(look_with_gaps(&source, observation.from), ConnectionState::Closed);
}

#[tag(root)]
#[test]
fn what_threads_send_by_one_socket_is_counted_with_its_peer_or_with_none() {
    Netns::create().enter(|| {
        share(2, 2000);
        // More threads than peers can wait for their lengths.
        share(9, 300);
    });
}

#[tag(root)]
#[test]
fn pings_are_counted_with_who_pings() {
    let netns = Netns::create();
    netns.enter(|| {
        let source = LiveSource::open().unwrap();
        let observation = source.observe().unwrap();
        for address in ["127.0.0.1", "::1"] {
            let truths = workload::run(&netns, &format!("ping --count 7 --size 56 {address}"));
            let truth = workload::only(&truths, Event::Done, "pinger");
            assert_eq!((truth.datagrams_sent, truth.datagrams_received), (7, 7));
            let facts = look(&source, observation.from);
            let [fact] = facts.iter().filter(|fact| pid(fact) == Some(truth.pid)).collect::<Vec<_>>()[..]
            else {
                panic!("{facts:?}")
            };
            assert_eq!((fact.protocol, fact.state), (Protocol::Icmp, ConnectionState::Closed));
            assert_eq!((fact.attribution, fact.closed_by), (Attribution::Exact, Some(ClosedBy::Local)));
            assert_eq!(fact.process.as_ref().unwrap().comm.as_str(), "netmon-workload");
            assert_eq!(counts(fact), ((7, truth.sent), (7, truth.received)), "{fact:?}");
            // To whom is not known, as sendto tells nobody of it for these sockets; a packet tells.
            let peer = fact.remote.map(|remote| remote.ip().to_string());
            assert_eq!(peer.as_deref(), counts_packets().then_some(address));
            assert!(fact.opened.unwrap().ns() >= truth.start_ns && fact.closed.unwrap().ns() <= truth.end_ns);
        }
        assert_eq!(look(&source, observation.from).len(), 2);
    });
}

#[tag(root)]
#[test]
fn unix_sockets_make_no_rows() {
    Netns::create().enter(|| {
        let source = LiveSource::open().unwrap();
        let observation = source.observe().unwrap();
        let folder = tempfile::tempdir().unwrap();
        // A pair, a named stream with a connect that is refused after, and datagrams to a name.
        let (mut left, mut right) = UnixStream::pair().unwrap();
        left.write_all(&[1; 1000]).unwrap();
        right.read_exact(&mut [0; 1000]).unwrap();
        let name = folder.path().join("stream");
        let listener = UnixListener::bind(&name).unwrap();
        let mut client = UnixStream::connect(&name).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&[2; 1000]).unwrap();
        server.read_exact(&mut [0; 1000]).unwrap();
        drop(listener);
        assert_eq!(UnixStream::connect(&name).unwrap_err().raw_os_error(), Some(111));
        let name = folder.path().join("datagram");
        let receiver = UnixDatagram::bind(&name).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(&[3; 100], &name).unwrap();
        sender.connect(&name).unwrap();
        sender.send(&[4; 100]).unwrap();
        assert_eq!(receiver.recv(&mut [0; 200]).unwrap(), 100);
        // The one row that there is to be, so that none is missed for another reason.
        let internet = socket();
        internet.send_to(&[5; 10], internet.local_addr().unwrap()).unwrap();
        let port = port(&internet);
        let rows = |facts: &[ConnectionFact]| {
            assert!(facts.iter().all(|fact| fact.local.port() == port), "{facts:?}");
            assert_eq!(facts.len(), 1, "{facts:?}");
        };
        rows(&look(&source, observation.from));
        drop((left, right, client, server, sender, receiver, internet));
        rows(&look(&source, observation.from));
    });
}
