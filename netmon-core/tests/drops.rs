//! Dropped packets of the demo recording: the answer, what can be asked, and who may see what.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{sync::Arc, time::Duration};

use netmon_core::{
    Answer as _, CleanText, Control, DiagnoseRequest, DropsRequest, Error, Monitor, PacketDrops, RateRequest,
    Source as _,
    fact::{Attribution, Direction, Hook, Protocol},
    monitor::diagnose::Rule,
    source::{ScopedSource, recording::RecordRequest, replay::ReplaySource},
};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recordings/demo.jsonl");

fn demo() -> Monitor {
    Monitor::replay(DEMO).unwrap()
}

fn asking(set: impl FnOnce(&mut DropsRequest)) -> DropsRequest {
    let mut request = DropsRequest::default();
    set(&mut request);
    request
}

fn ask(set: impl FnOnce(&mut DropsRequest)) -> PacketDrops {
    demo().drops(&asking(set), &Control::default()).unwrap()
}

fn refused(set: impl FnOnce(&mut DropsRequest)) -> String {
    demo().drops(&asking(set), &Control::default()).unwrap_err().to_string()
}

/// Reasons, processes and packets of the rows.
fn rows(answer: &PacketDrops) -> Vec<(Option<&str>, Option<&str>, u64)> {
    let row = |row: &'_ netmon_core::monitor::PacketDrop| (row.packets, row.local_port);
    assert!(answer.drops.is_sorted_by(|a, b| row(a).0 >= row(b).0));
    answer
        .drops
        .iter()
        .map(|row| {
            let reason = row.reason.as_ref().map(CleanText::as_str);
            (reason, row.process.as_ref().map(|process| process.comm.as_str()), row.packets)
        })
        .collect()
}

#[test]
fn drops_are_summed_up_by_reason_and_listed_by_owner() {
    let answer = ask(|_| {});
    assert_eq!((answer.total, answer.drops_total, answer.header.window.seconds), (546, 4, 30.0));
    assert_eq!(answer.total_l3_bytes, 420 * 71 + 120 * 66 + 3 * 1_480 + 3 * 84);
    let reasons: Vec<_> = answer.by_reason.iter().map(|row| row.packets).collect();
    assert_eq!(reasons, [420, 120, 3, 3]);
    assert_eq!(
        rows(&answer),
        [
            (Some("NO_SOCKET"), None, 420),
            (Some("SOCKET_RCVBUFF"), Some("systemd-resolve"), 120),
            (None, None, 3),
            (Some("TCP_OLD_DATA"), Some("nginx"), 3),
        ]
    );
    let closed = &answer.drops[0];
    assert_eq!((closed.direction, closed.attribution), (Direction::Incoming, Attribution::Unknown));
    assert_eq!((closed.protocol, closed.local_port), (Some(Protocol::Udp), Some(53)));
    assert!((closed.packets_per_second - 14.0).abs() < 1e-9);
    assert_eq!(closed.first_seen_at.unwrap().to_string(), "2026-03-01T12:30:01.2Z");
    assert_eq!(answer.header.coverage.active_hooks[0], Hook::KfreeSkb);
    assert!(
        answer.to_string().starts_with("546 packets were dropped in 30 seconds: 18.2 a second"),
        "{answer}"
    );
}

#[test]
fn a_window_holds_what_came_in_it_and_begins_at_a_reading() {
    let answer = ask(|request| request.since = Some(Duration::from_secs(15)));
    assert_eq!(answer.header.window.seconds, 20.0);
    assert_eq!(
        rows(&answer),
        [(Some("NO_SOCKET"), None, 280), (None, None, 3), (Some("TCP_OLD_DATA"), Some("nginx"), 3)]
    );
    let longer = ask(|request| request.since = Some(Duration::from_secs(60)));
    assert_eq!(longer.total, 546);
    assert_eq!(longer.to_string().lines().nth(1), Some("Observed only 30 s of these 60 s"));
}

#[test]
fn drops_are_chosen_by_what_they_are_summed_up_by() {
    let total = |set: fn(&mut DropsRequest)| ask(set).total;
    assert_eq!(total(|request| request.filter.process = Some("nginx".to_owned())), 3);
    assert_eq!(total(|request| request.filter.pid = Some(640)), 120);
    assert_eq!(total(|request| request.filter.user = Some("101".to_owned())), 120);
    assert_eq!(total(|request| request.filter.protocol = Some(Protocol::Udp)), 540);
    assert_eq!(total(|request| request.filter.port = Some(443)), 3);
    assert_eq!(total(|request| request.reasons = vec!["no_socket".to_owned()]), 420);
    assert_eq!(total(|request| request.reasons = vec!["NOT_SPECIFIED".to_owned()]), 3);
    let filter = |text: &str| ask(|request| request.filter.filter = Some(text.to_owned())).total;
    assert_eq!(filter("inbound and not process == nginx"), 543);
    assert_eq!(filter("outbound"), 0);
    // Of what nobody owns, every comparison with an owner is false.
    assert_eq!(filter("process != nginx"), 120);
    assert_eq!(filter("local.port in 1..100 or unit == nginx.service"), 543);

    let page = ask(|request| request.limit = Some(1));
    assert_eq!((page.total, page.drops_total, page.drops.len()), (546, 4, 1));
    assert!(page.header.coverage.truncated);
    assert_eq!(page.notes(), ["the first 1 of 4 rows are listed; the sums are of all"]);
}

#[test]
fn what_drops_cannot_be_chosen_by_is_refused_and_not_answered_with_none() {
    let message = refused(|request| request.filter.remote = Some("198.51.100.23".to_owned()));
    assert_eq!(
        message,
        "drops cannot be chosen by \"remote\": they are summed up by process, user, control group, network namespace, \
         protocol, direction and local port"
    );
    for field in ["remote.port == 1", "not failed", "bytes > 1", "tcp or error == any", "local == 10.0.0.1"] {
        let message = refused(|request| request.filter.filter = Some(field.to_owned()));
        assert!(message.starts_with("drops cannot be chosen by "), "{field}: {message}");
    }
    assert_eq!(
        refused(|request| request.window = Duration::ZERO),
        "a window of 0 s is out of range: it may be 0.1 s to 1 h"
    );
}

#[test]
fn a_user_sees_what_was_dropped_of_his_processes_and_nothing_of_others() {
    let inner = Arc::new(ReplaySource::open(DEMO).unwrap());
    let own = Monitor::new(ScopedSource::new(inner, 101, "netmon"));
    let answer = own.drops(&DropsRequest::default(), &Control::default()).unwrap();
    assert_eq!(rows(&answer), [(Some("SOCKET_RCVBUFF"), Some("systemd-resolve"), 120)]);
    assert_eq!((answer.total, answer.by_reason.len()), (120, 1));
    assert_eq!(
        answer.header.coverage.warnings,
        [
            "only packets of your own processes are counted (user 101), and none without an owner; root and members of the \
             group netmon see all"
        ]
    );
    // No filter tells of the others by what it leaves out.
    let others = asking(|request| request.filter.filter = Some("not process == systemd-resolve".to_owned()));
    assert_eq!(own.drops(&others, &Control::default()).unwrap().total, 0);
    let root = asking(|request| request.filter.user = Some("0".to_owned()));
    assert!(matches!(own.drops(&root, &Control::default()), Err(Error::Forbidden { .. })));

    // Nor does a diagnosis: the stranger's at a closed port are in none of its numbers.
    let diagnosis = own.diagnose(&DiagnoseRequest::default(), &Control::default()).unwrap();
    let finding = diagnosis.finding(Rule::PacketDrops).unwrap();
    assert_eq!(finding.title, "120 packets were dropped: sockets had no room for them");
    assert_eq!((finding.evidence.numbers.len(), finding.evidence.examples.len()), (2, 1));
    let warnings = diagnosis.header.coverage.warnings.join("\n");
    assert!(warnings.contains("only packets of your own processes are counted"), "{warnings}");
}

#[test]
fn what_is_recorded_again_answers_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("again.jsonl");
    let mut request = RecordRequest::new(&path);
    request.rates = RateRequest::default();
    request.rates.window = Duration::from_secs(1);
    demo().record(&request, &Control::default()).unwrap();
    let again = Monitor::replay(&path).unwrap();
    for since in [None, Some(Duration::from_secs(15))] {
        let request = asking(|request| request.since = since);
        let answers =
            [demo(), again.clone()].map(|monitor| monitor.drops(&request, &Control::default()).unwrap());
        assert_eq!(answers[0].total, answers[1].total);
        assert_eq!(answers[0].drops, answers[1].drops);
    }
}

#[test]
fn a_recording_without_drops_says_so() {
    let text = std::fs::read_to_string(DEMO).unwrap();
    let text: String = text
        .lines()
        .filter(|line| !line.contains("\"type\":\"drops\""))
        .flat_map(|line| [line, "\n"])
        .collect();
    let source = ReplaySource::read(text.as_bytes(), "old.jsonl").unwrap();
    assert!(matches!(source.observe_drops(), Err(Error::NotInSource { .. })));
    let error = Monitor::new(source).drops(&DropsRequest::default(), &Control::default()).unwrap_err();
    assert_eq!(error.to_string(), "there are no packet drops in the source \"replay\"");
}
