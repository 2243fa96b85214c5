//! Where netmon's tables and its memory end: what does not fit is counted and said, and the rest stays right.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::HashMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use netmon_core::{
    Control, Filter, Source as _,
    fact::{Attribution, ConnectionDirection, ConnectionFact, Observed, Protocol},
    source::{Observation, Span, live::LiveSource},
};
use netmon_testkit::{
    Netns,
    child::{self, Child, Privileges},
    may_lack, own_number, workload,
};
use test_tag::tag;

/// What was seen of a network namespace since the observation began, open or over.
fn look(source: &LiveSource, observation: &Observation, netns: u32) -> (Vec<ConnectionFact>, Observed) {
    // The last ends come a moment after the last call returns.
    let to = source.wait(&source.start().unwrap(), Duration::from_millis(50), &Control::default()).unwrap();
    let span = Span { from: observation.from, to };
    let mut facts = Vec::new();
    let observed = source
        .connections(&span, &Filter::everything(), &mut |sighting| facts.push(sighting.fact.clone()))
        .unwrap();
    facts.retain(|fact| fact.netns == netns);
    (facts, observed)
}

#[tag(root)]
#[test]
fn datagrams_beyond_the_table_of_peers_are_counted_and_said_to_lack_their_peer() {
    // A few more than the table has room for.
    const PEERS: u32 = 67_000;
    Netns::create().enter(|| {
        let source = LiveSource::open().unwrap();
        let observation = source.observe().unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        for number in 0..PEERS {
            let [_, high, middle, low] = number.to_be_bytes();
            socket.send_to(b"x", (Ipv4Addr::new(127, 1 + high, middle, low), 9)).unwrap();
        }
        let (facts, observed) = look(&source, &observation, own_number());
        let sent = |known: bool| -> u64 {
            let flows = facts.iter().filter(|fact| fact.local.port() == port && fact.remote.is_some() == known);
            flows.map(|fact| fact.traffic.unwrap().packets_sent).sum()
        };
        let (known, unknown) = (sent(true), sent(false));
        assert_eq!(known + unknown, u64::from(PEERS), "{known} with their peer, {unknown} without");
        assert!(known > 60_000 && unknown > 1_000, "{known} with their peer, {unknown} without");
        let counted = netmon_core::view::units::count(unknown);
        let expected = format!(
            "{counted} datagrams counted without the peer, because there were more peers than the table has room for"
        );
        assert!(observed.warnings.contains(&expected), "{unknown}: {:?}", observed.warnings);

        // The rest works meanwhile, and with the socket its peers make room.
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.send_to(b"x", "127.0.0.1:9").unwrap();
        let (facts, _) = look(&source, &observation, own_number());
        let flow = facts.iter().find(|fact| fact.local.port() == other.local_addr().unwrap().port()).unwrap();
        assert_eq!(flow.remote, Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9))));
        drop(socket);
        let _ = look(&source, &observation, own_number());
        let again = source.observe().unwrap();
        for host in 1..=3 {
            other.send_to(b"x", (Ipv4Addr::new(127, 0, 0, host), 10)).unwrap();
        }
        let (facts, observed) = look(&source, &again, own_number());
        let of_other = |fact: &&ConnectionFact| fact.local.port() == other.local_addr().unwrap().port();
        assert_eq!(facts.iter().filter(of_other).filter(|fact| fact.remote.is_some()).count(), 4);
        assert!(!observed.warnings.iter().any(|warning| warning.contains("counted without the peer")));
    });
}

#[tag(root)]
#[test]
fn of_more_listeners_than_the_table_holds_connections_are_their_users_and_it_is_said() {
    // The table has room for 16,384.
    const LISTENERS: u16 = 17_000;
    const CHILD: &str = "of_more_listeners_than_the_table_holds";
    if child::role().is_some() {
        let listeners: Vec<TcpListener> =
            (0..LISTENERS).map(|number| TcpListener::bind(("127.0.0.1", 10_000 + number)).unwrap()).collect();
        child::ready();
        return drop(listeners);
    }
    let netns = Netns::create();
    netns.enter(|| {
        let source = LiveSource::open().unwrap();
        let observation = source.observe().unwrap();
        let mut holder = Child::spawn(&netns, Privileges::Root, CHILD, "listen");
        holder.wait_ready();
        // Of the first its listener was written down, of the last not; neither is accepted.
        let clients =
            [10_000, 9_999 + LISTENERS].map(|port| TcpStream::connect(("127.0.0.1", port)).unwrap());
        let (facts, observed) = look(&source, &observation, own_number());
        let accepted = |port| {
            let is_it = |fact: &&ConnectionFact| fact.local.port() == port && fact.remote.is_some();
            facts
                .iter()
                .find(is_it)
                .unwrap_or_else(|| panic!("no connection to {port} in {} facts", facts.len()))
        };
        assert_eq!(accepted(10_000).process.as_ref().unwrap().pid, holder.id());
        assert_eq!(accepted(10_000).attribution, Attribution::Inherited);
        let last = accepted(9_999 + LISTENERS);
        assert_eq!((last.attribution, last.direction), (Attribution::Unknown, ConnectionDirection::Inbound));
        assert_eq!(last.process, None);
        let said = observed
            .warnings
            .iter()
            .any(|warning| warning.starts_with("owners of some connections are unknown"));
        assert!(said, "{:?}", observed.warnings);
        drop(clients);
        holder.kill();
    });
}

/// Threads that rename themselves, and now and then their process, and connect once each. What they did goes to a file:
/// port, thread and name.
fn rename_and_connect(truth: &str) {
    const AT_ONCE: usize = 64;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    child::ready();
    let accepting = thread::spawn(move || {
        for _ in 0..THREADS {
            drop(listener.accept().unwrap());
        }
    });
    let done = Arc::new(Mutex::new(String::new()));
    let next = Arc::new(AtomicUsize::new(0));
    let spawners: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (done, next) = (Arc::clone(&done), Arc::clone(&next));
            thread::spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= THREADS {
                        return;
                    }
                    let done = Arc::clone(&done);
                    let one = thread::Builder::new().stack_size(128 << 10);
                    one.spawn(move || connect_as(number, address, &done)).unwrap().join().unwrap();
                }
            })
        })
        .collect();
    for spawner in spawners {
        spawner.join().unwrap();
    }
    accepting.join().unwrap();
    fs::write(truth, done.lock().unwrap().as_str()).unwrap();
    child::ready();
}

fn connect_as(number: usize, address: SocketAddr, done: &Mutex<String>) {
    let name = format!("w{number}");
    fs::write("/proc/thread-self/comm", &name).unwrap();
    if number.is_multiple_of(10) {
        fs::write("/proc/self/comm", format!("p{number}")).unwrap();
    }
    let connection = TcpStream::connect(address).unwrap();
    let path = fs::read_link("/proc/thread-self").unwrap();
    let tid = path.file_name().unwrap().to_str().unwrap();
    let line = format!("{} {tid} {name}\n", connection.local_addr().unwrap().port());
    done.lock().unwrap().push_str(&line);
}

const THREADS: usize = 10_000;

#[tag(root)]
#[test]
fn ten_thousand_threads_that_rename_themselves_are_known_each_in_bounded_memory() {
    if let Some(truth) = child::role() {
        return rename_and_connect(&truth);
    }
    let netns = Netns::create();
    let folder = tempfile::tempdir().unwrap();
    let truth = folder.path().join("truth");
    netns.enter(|| {
        let test = "ten_thousand_threads_that_rename_themselves";
        let mut threads = Child::spawn(&netns, Privileges::Root, test, truth.to_str().unwrap());
        threads.wait_ready();
        let (source, small) =
            (LiveSource::open().unwrap(), LiveSource::open().unwrap().with_memory_limit(1 << 20));
        let (observation, of_small) = (source.observe().unwrap(), small.observe().unwrap());
        let pid = threads.id();
        threads.go_on();
        threads.wait_ready();
        let truth = fs::read_to_string(&truth).unwrap();

        let (facts, observed) = look(&source, &observation, own_number());
        assert_eq!((observed.lost_events, observed.forgotten), (0, 0));
        let lacking = |observed: &Observed| may_lack(&observed.warnings, THREADS as u64) as usize;
        let tcp = facts.iter().filter(|fact| fact.protocol == Protocol::Tcp).count();
        assert!(
            tcp <= 2 * THREADS && 2 * THREADS <= tcp + lacking(&observed),
            "{tcp}: {:?}",
            observed.warnings
        );
        // A port may come again, and a thread's number too, but not both.
        let clients: HashMap<(u16, u32), &ConnectionFact> = facts
            .iter()
            .filter(|fact| fact.direction == ConnectionDirection::Outbound)
            .map(|fact| ((fact.local.port(), fact.thread.as_ref().unwrap().tid), fact))
            .collect();
        assert!(THREADS <= clients.len() + lacking(&observed), "{}", clients.len());
        let mut known = 0;
        for line in truth.lines() {
            let [port, tid, name] = *line.split(' ').collect::<Vec<_>>() else { panic!("{line:?}") };
            let Some(fact) = clients.get(&(port.parse().unwrap(), tid.parse().unwrap())) else { continue };
            assert_eq!(fact.process.as_ref().unwrap().pid, pid);
            assert_eq!(fact.thread.as_ref().unwrap().comm.as_str(), name);
            assert_eq!(fact.attribution, Attribution::Exact);
            known += 1;
        }
        assert_eq!(known, clients.len());
        let names: std::collections::HashSet<_> =
            clients.values().map(|fact| fact.process.as_ref().unwrap().comm.as_str()).collect();
        assert!(names.len() > 500, "the process changed its name {} times only", names.len());

        // What has no room is forgotten, and counted: nothing is missing from the sum.
        let (facts, observed) = look(&small, &of_small, own_number());
        let kept = facts.len();
        let told = kept + usize::try_from(observed.forgotten + observed.lost_events).unwrap();
        let all = told..=told + lacking(&observed);
        assert!(all.contains(&(2 * THREADS)), "{told} told of: {observed:?}");
        assert!(kept < THREADS, "{kept} connections with their names have no room in 1 MiB");
        threads.finish();
    });
}

#[tag(root)]
#[test]
fn connections_of_a_namespace_that_is_deleted_are_told_to_their_end() {
    const HELD: usize = 50;
    let elsewhere = Netns::create();
    let watcher = Netns::create();
    watcher.enter(|| {
        let source = LiveSource::open().unwrap();
        let observation = source.observe().unwrap();
        let netns = elsewhere.enter(own_number);
        let mut held = workload::start(&elsewhere, &format!("hold --connections {HELD} 127.0.0.1:0"));
        held.ready();
        // The name is gone; the namespace lives as long as the processes in it.
        drop(elsewhere);
        let (facts, observed) = look(&source, &observation, netns);
        let open = |facts: &[ConnectionFact]| {
            facts.iter().filter(|fact| fact.remote.is_some() && !fact.is_over()).count()
        };
        assert_eq!((open(&facts), observed.lost_events), (2 * HELD, 0));
        // All of them are killed, and with the last the namespace goes.
        drop(held);
        netmon_testkit::wait_until("all are told to be over", || {
            let (facts, _) = look(&source, &observation, netns);
            facts.iter().filter(|fact| fact.is_over()).count() == 2 * HELD && open(&facts) == 0
        });
        let (facts, observed) = look(&source, &observation, netns);
        assert_eq!(observed.lost_events, 0);
        assert!(facts.iter().all(|fact| fact.process.is_some()), "{facts:?}");
    });
}
