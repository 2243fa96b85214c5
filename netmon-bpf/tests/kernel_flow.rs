//! Following connections in a real kernel: what the ring and the table of owners have no room for is counted, and the rest
//! stays right.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    net::{TcpListener, TcpStream},
    process, thread,
    time::Duration,
};

use netmon_bpf::flow::{Attribution, Change, ConnectionRecord, FlowMonitor, FlowOptions, Hook, Record, Role};
use netmon_testkit::{
    Netns,
    child::{self, Child, Privileges},
    may_lack, wait_until,
};
use test_tag::tag;

/// The ends that wait in the ring.
fn ends(monitor: &FlowMonitor) -> Vec<ConnectionRecord> {
    // The last ends come a moment after the last call returns.
    thread::sleep(Duration::from_millis(50));
    let records = monitor.take().unwrap().into_iter().filter_map(|record| match record {
        Record::Connection(record) if record.change() == Change::Ended => Some(record),
        _ => None,
    });
    records.collect()
}

#[tag(root)]
#[test]
fn ends_for_which_the_ring_has_no_room_are_counted() {
    Netns::create().enter(|| {
        let mut options = FlowOptions::default();
        options.ring_bytes = 64 << 10;
        let monitor = FlowMonitor::attach(&options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (mut seen, mut ends) = (0, 0);
        let mut take = || {
            for record in monitor.take().unwrap() {
                let Record::Connection(record) = record else { continue };
                let is_ours = record.local() == address || record.remote() == address;
                seen += u64::from(record.change() == Change::Ended && is_ours);
            }
        };
        // Nobody takes records meanwhile; when somebody does, there is room again.
        for _ in 0..3 {
            for _ in 0..1000 {
                let client = TcpStream::connect(address).unwrap();
                drop((client, listener.accept().unwrap()));
                ends += 2;
            }
            // The last ends come a moment after the last call returns.
            thread::sleep(Duration::from_millis(50));
            take();
        }
        let lost = monitor.lost().unwrap();
        assert_eq!(lost.opened, 0);
        assert_eq!(seen + lost.ended, ends, "{seen} seen, {lost:?}");
        // Of a ring of this size some hundred are seen each time.
        assert!(seen > 300 && lost.ended > 3000, "{seen} seen, {lost:?}");
    });
}

#[tag(root)]
#[test]
fn what_ended_though_nothing_told_of_it_is_found_and_taken_out() {
    Netns::create().enter(|| {
        let mut options = FlowOptions::default();
        // Beginnings are seen and ends are not, as where the kernel passes over them.
        options.hooks = vec![Hook::Connect, Hook::TcpIterator];
        let monitor = FlowMonitor::attach(&options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let staying = TcpStream::connect(address).unwrap();
        let gone = TcpStream::connect(address).unwrap();
        // Of the whole host, as everywhere.
        let take = || {
            let mut unseen = monitor.take_unseen().unwrap();
            unseen.retain(|record| record.remote() == address);
            unseen
        };
        assert_eq!(take(), [], "both are there");

        drop(gone);
        let mut unseen = Vec::new();
        wait_until("another socket is where the one that is gone was", || {
            // Not by connecting, which is seen.
            let _others: Vec<_> = (0..64).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            unseen.extend(take());
            !unseen.is_empty()
        });
        let [record] = &unseen[..] else { panic!("{unseen:?}") };
        assert_eq!((record.change(), record.role(), record.remote()), (Change::Ended, Role::Client, address));
        assert_eq!(record.owner.pid, process::id());
        assert!(record.opened_ns > 0 && record.at_ns > record.opened_ns);
        assert_eq!(take(), []);
        drop(staying);
    });
}

#[tag(root)]
#[test]
fn an_attempt_that_left_is_not_told_as_one_that_never_did_though_no_change_of_it_was_seen() {
    Netns::create().enter(|| {
        let mut options = FlowOptions::default();
        // As where the kernel passes over all changes of a connection.
        options.hooks = vec![Hook::Connect, Hook::Release];
        let monitor = FlowMonitor::attach(&options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop((TcpStream::connect(address).unwrap(), listener.accept().unwrap()));
        // There is no way to it.
        let nowhere = "198.51.100.1:9".parse().unwrap();
        assert!(TcpStream::connect(nowhere).is_err());
        let told: Vec<_> = ends(&monitor)
            .into_iter()
            .filter(|record| [address, nowhere].contains(&record.remote()))
            .map(|record| (record.remote(), record.never_sent()))
            .collect();
        assert_eq!(told, [(nowhere, true)]);
    });
}

#[tag(root)]
#[test]
fn of_more_sockets_than_the_table_of_owners_holds_ends_are_told_and_no_owner_is_wrong() {
    const CONNECTIONS: usize = 200;
    const PORT: u16 = 9000;
    const CHILD: &str = "of_more_sockets_than_the_table_of_owners_holds";
    if child::role().is_some() {
        let listener = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
        child::ready();
        let accepted: Vec<_> = (0..CONNECTIONS).map(|_| listener.accept().unwrap()).collect();
        child::ready();
        return drop(accepted);
    }
    let netns = Netns::create();
    netns.enter(|| {
        let mut options = FlowOptions::default();
        options.sockets = 64;
        let monitor = FlowMonitor::attach(&options).unwrap();
        let mut server = Child::spawn(&netns, Privileges::Root, CHILD, "accept");
        server.wait_ready();
        server.go_on();
        let clients: Vec<_> =
            (0..CONNECTIONS).map(|_| TcpStream::connect(("127.0.0.1", PORT)).unwrap()).collect();
        server.wait_ready();
        let (client_pid, server_pid) = (process::id(), server.id());
        drop(clients);
        server.finish();

        let (mut told, mut owned) = ([0, 0], 0);
        for end in ends(&monitor) {
            let accepted = end.local().port() == PORT;
            if !accepted && end.remote().port() != PORT {
                continue;
            }
            told[usize::from(accepted)] += 1;
            if end.owner.is_known() {
                owned += 1;
                let right = if accepted { server_pid } else { client_pid };
                assert_eq!(end.owner.pid, right, "{end:?}");
            } else {
                assert_eq!(end.attribution(), Attribution::Unknown, "{end:?}");
            }
        }
        let lost = monitor.lost().unwrap();
        let lacking = may_lack([], CONNECTIONS as u64) + lost.skipped;
        let all = CONNECTIONS as u64 - lacking..=CONNECTIONS as u64;
        assert!(told.iter().all(|told| all.contains(told)), "{told:?} told, {lost:?}");
        assert_eq!((lost.ended, lost.processes), (0, 0));
        // The listener has a place too.
        assert!((1..64).contains(&owned), "{owned} with an owner");
        let unowned = told.iter().sum::<u64>() - owned;
        assert!(lost.storage >= unowned, "{unowned} without owner, {lost:?}");

        // What ended made room.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop((TcpStream::connect(address).unwrap(), listener.accept().unwrap()));
        let later = ends(&monitor);
        let later: Vec<_> =
            later.iter().filter(|end| end.local() == address || end.remote() == address).collect();
        assert_eq!(later.len(), 2);
        assert!(later.iter().all(|end| end.owner.pid == client_pid), "{later:?}");
        assert_eq!(monitor.lost().unwrap().storage, lost.storage);
    });
}
