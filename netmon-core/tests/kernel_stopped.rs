//! A program that observes and is not scheduled for a while: what it does not see, it knows that it lost.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use netmon_core::{
    Control, Filter, Source as _,
    fact::Protocol,
    source::{Span, live::LiveSource},
};
use netmon_testkit::{
    Netns,
    child::{self, Child, Privileges},
    may_lack,
    workload::{self, Event},
};
use rustix::process::{Pid, Signal, kill_process};
use test_tag::tag;

/// The child's part: observes until told, and compares with the truth that it then finds in a file: a port, and how many
/// ends its connections have.
fn observe(truth: &str) {
    // None is to be forgotten.
    let source = LiveSource::open().unwrap().with_memory_limit(1 << 30);
    let observation = source.observe().unwrap();
    child::ready();
    let to = source.wait(&source.start().unwrap(), Duration::from_millis(100), &Control::default()).unwrap();
    let truth = fs::read_to_string(truth).unwrap();
    let (port, ends) = truth.split_once(' ').unwrap();
    let (port, ends): (u16, u64) = (port.parse().unwrap(), ends.parse().unwrap());
    let mut seen = 0;
    let span = Span { from: observation.from, to };
    let observed = source
        .connections(&span, &Filter::everything(), &mut |sighting| {
            let fact = sighting.fact;
            let is_on_port = |address: SocketAddr| address.port() == port;
            let is_counted = is_on_port(fact.local) || fact.remote.is_some_and(is_on_port);
            seen += u64::from(fact.protocol == Protocol::Tcp && is_counted && fact.is_over());
        })
        .unwrap();
    assert_eq!(observed.forgotten, 0);
    let told = seen + observed.lost_events;
    let all = told..=told + may_lack(&observed.warnings, ends);
    assert!(all.contains(&ends), "{seen} seen of {ends}: {observed:?}");
    // It was not stopped from the beginning.
    assert!(seen > 0);
}

#[tag(root)]
#[test]
fn what_happens_while_the_observer_is_stopped_is_seen_or_said_to_be_lost() {
    if let Some(truth) = child::role() {
        return observe(&truth);
    }
    let netns = Netns::create();
    let folder = tempfile::tempdir().unwrap();
    let truth = folder.path().join("truth");
    let test = "what_happens_while_the_observer_is_stopped";
    let mut observer = Child::spawn(&netns, Privileges::Root, test, truth.to_str().unwrap());
    observer.wait_ready();

    // A port that is free, as nothing else is here.
    let address = netns.enter(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let storm = workload::start(&netns, &format!("storm --seconds 4 {address}"));
    thread::sleep(Duration::from_secs(1));
    let pid = Pid::from_raw(i32::try_from(observer.id()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    thread::sleep(Duration::from_secs(2));
    kill_process(pid, Signal::CONT).unwrap();
    let told = storm.wait();
    let client = workload::only(&told, Event::Done, "client");
    let acceptor = workload::only(&told, Event::Done, "acceptor");
    assert_eq!((client.failures, client.connections), (0, acceptor.connections));

    fs::write(&truth, format!("{} {}", address.port(), client.connections + acceptor.connections)).unwrap();
    observer.finish();
}
