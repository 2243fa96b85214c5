//! What following system calls adds, where it is asked for.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use netmon_core::{
    Filter, Source as _,
    fact::{Attribution, ConnectionDirection, ConnectionError, ConnectionFact, ConnectionState, Protocol},
    source::{Span, live::LiveSource},
};
use netmon_testkit::Netns;
use test_tag::tag;

/// The connections that are seen while `traffic` runs, and after.
fn seen(source: &LiveSource, traffic: impl FnOnce() -> Box<dyn std::any::Any>) -> Vec<ConnectionFact> {
    let observation = source.observe().unwrap();
    let held = traffic();
    let to =
        source.wait(&observation.from, Duration::from_millis(10), &netmon_core::Control::default()).unwrap();
    let span = Span { from: observation.from, to };
    let mut facts = Vec::new();
    source
        .connections(&span, &Filter::everything(), &mut |sighting| facts.push(sighting.fact.clone()))
        .unwrap();
    drop(held);
    facts.retain(|fact| fact.process.as_ref().is_some_and(|process| process.pid == std::process::id()));
    facts
}

fn accept_without_a_word() -> Box<dyn std::any::Any> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    Box::new((listener, client, accepted))
}

fn connect_without_a_route() -> Box<dyn std::any::Any> {
    let nowhere = SocketAddr::from(([203, 0, 113, 9], 80));
    let error = TcpStream::connect(nowhere).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(101), "{error}");
    Box::new(())
}

#[tag(root)]
#[test]
fn a_connection_is_its_acceptors_before_anything_is_sent() {
    Netns::create().enter(|| {
        let attribution = |source: &LiveSource| {
            let facts = seen(source, accept_without_a_word);
            let inbound = facts.iter().find(|fact| fact.direction == ConnectionDirection::Inbound).unwrap();
            assert_eq!(inbound.state, ConnectionState::Open);
            inbound.attribution
        };
        assert_eq!(attribution(&LiveSource::open().unwrap()), Attribution::Inherited);
        assert_eq!(attribution(&LiveSource::open().unwrap().with_system_calls()), Attribution::Exact);
    });
}

#[tag(root)]
#[test]
fn the_error_of_an_attempt_that_never_left_is_told_instead_of_worked_out() {
    Netns::create().enter(|| {
        let error = |source: &LiveSource| {
            let mut facts = seen(source, connect_without_a_route);
            // To work it out the monitor asks for the route with a UDP socket of its own, which is a flow as well.
            facts.retain(|fact| fact.protocol == Protocol::Tcp);
            assert_eq!(facts.len(), 1, "{facts:?}");
            assert_eq!(facts[0].state, ConnectionState::Failed);
            facts[0].error.unwrap()
        };
        assert_eq!(error(&LiveSource::open().unwrap()), ConnectionError::inferred(Some(101)));
        assert_eq!(error(&LiveSource::open().unwrap().with_system_calls()), ConnectionError::told(101));
    });
}
