//! Following connections in a real kernel: what the ring has no room for is counted, and what the kernel left out is known.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use netmon_bpf::flow::{Change, FlowMonitor, FlowOptions, Hook, Record, Role};
use netmon_testkit::{Netns, wait_until};
use test_tag::tag;

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
        assert_eq!(record.owner.pid, std::process::id());
        assert!(record.opened_ns > 0 && record.at_ns > record.opened_ns);
        assert_eq!(take(), []);
        drop(staying);
    });
}
