//! Who serves a connection, whatever way a server has to share its work.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use netmon_core::{
    Control, Filter, Source as _,
    fact::{Attribution, ConnectionDirection, ConnectionFact, Protocol},
    source::{Span, live::LiveSource},
};
use netmon_testkit::{
    Netns,
    workload::{self, Event, Truth},
};
use test_tag::tag;

/// What is seen of clients, one process each, and of the server that they talk to; and what both say of themselves.
fn talk(model: &str, clients: usize) -> (Vec<ConnectionFact>, Vec<Truth>, Vec<Truth>) {
    let netns = Netns::create();
    netns.enter(|| {
        let source = LiveSource::open().unwrap();
        let observation = source.observe().unwrap();
        let mut server = workload::start(
            &netns,
            &format!("serve --model {model} --connections {clients} --receive 10 --send 20 127.0.0.1:0"),
        );
        let address = server.ready().address();
        let told = workload::run(
            &netns,
            &format!("many {clients} --parallel 4 -- connect --send 10 --receive 20 {address}"),
        );
        let served = server.wait();
        let to = source.wait(&observation.from, Duration::from_millis(50), &Control::default()).unwrap();
        let span = Span { from: observation.from, to };
        let mut facts = Vec::new();
        let observed = source
            .connections(&span, &Filter::everything(), &mut |sighting| facts.push(sighting.fact.clone()))
            .unwrap();
        assert_eq!(observed.lost_events, 0);
        facts.retain(|fact| {
            let port = address.port();
            fact.protocol == Protocol::Tcp
                && (fact.local.port() == port || fact.remote.is_some_and(|remote| remote.port() == port))
        });
        (facts, told, served)
    })
}

/// Every connection is the client's on one side, and on the other that of the process that served it.
#[track_caller]
fn everybody_is_known(model: &str, role: &str, clients: usize) {
    let (facts, told, served) = talk(model, clients);
    // A client may be given a port that one before it had.
    let by_port = |truths: &[Truth], role: &str, port: fn(&Truth) -> u16| {
        let truths = workload::all(truths, Event::Done, role);
        truths.into_iter().map(|truth| (port(truth), truth.pid)).collect::<Vec<_>>()
    };
    let mut client_of = by_port(&told, "client", |truth| truth.local.unwrap().port());
    let mut server_of = by_port(&served, role, |truth| truth.peer.unwrap().port());
    assert_eq!((client_of.len(), server_of.len()), (clients, clients), "{model}: {served:?}");
    for fact in &facts {
        let pid = fact.process.as_ref().map_or(0, |process| process.pid);
        let (expected, seen) = match fact.direction {
            ConnectionDirection::Outbound => (&mut client_of, (fact.local.port(), pid)),
            _ => (&mut server_of, (fact.remote.unwrap().port(), pid)),
        };
        let at = expected.iter().position(|truth| *truth == seen);
        expected.swap_remove(at.unwrap_or_else(|| panic!("{model}: {fact:?} is none of {expected:?}")));
        assert_eq!(fact.attribution, Attribution::Exact, "{model}: {fact:?}");
    }
    assert_eq!((client_of, server_of), (Vec::new(), Vec::new()), "{model}: all are told");
}

#[tag(root)]
#[test]
fn a_child_that_is_forked_for_each_connection_is_known() {
    everybody_is_known("fork", "handler", 200);
}

#[tag(root)]
#[test]
fn children_that_accept_from_their_parents_listener_are_known() {
    everybody_is_known("prefork:4", "worker", 200);
}

#[tag(root)]
#[test]
fn threads_are_known_by_their_process() {
    everybody_is_known("threads:4", "worker", 100);
}
