//! Answers about connections, from facts in memory: what is told, what is left out, and what is said of that.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use netmon_core::{
    Answer as _, Cancel, Connection, ConnectionsAnswer, ConnectionsRequest, Control, Error, Filter,
    MissingHook, Monitor, Result, SocketsRequest, Source, SummaryAnswer, SummaryRequest,
    answer::Row as _,
    fact::{
        Attribution, BootTime, ClosedBy, ConnectionDirection, ConnectionError, ConnectionFact,
        ConnectionState, Hook, Moment, Observed, Process, Protocol, SocketFact, SocketSnapshot, TcpFact,
        TcpState, Thread, Traffic,
    },
    monitor::{BothWays, ListenersAnswer, SocketsAnswer},
    request::ConnectionSort,
    source::{ChangeCursor, Changes, Observation, Sighting, SourceDescription, Span},
    view::Layout,
};
use proptest::prelude::*;

/// Facts that are known already, in a world that began at second 0 and is at second 1,000 now.
struct Memory {
    facts: Vec<(ConnectionFact, Option<Traffic>)>,
    sockets: Vec<SocketFact>,
    /// From which second on something recorded.
    recorded_from: Option<u64>,
    observed: Observed,
    changes: Vec<ConnectionFact>,
    warnings: Vec<String>,
}

const NOW: u64 = 1_000;
const OWN_PID: u32 = 9_999;

fn moment(second: u64) -> Moment {
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    Moment { boot_ns: second * 1_000_000_000, wall: start + Duration::from_secs(second) }
}

fn at(second: u64) -> Option<BootTime> {
    BootTime::from_ns(second * 1_000_000_000)
}

impl Memory {
    /// Recorded since second 0.
    fn recorded(facts: impl IntoIterator<Item = ConnectionFact>) -> Self {
        Self {
            facts: facts.into_iter().map(|fact| (fact, None)).collect(),
            sockets: Vec::new(),
            recorded_from: Some(0),
            observed: Observed::default(),
            changes: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Nobody recorded before now.
    fn one_shot(facts: impl IntoIterator<Item = ConnectionFact>) -> Self {
        Self { recorded_from: None, ..Self::recorded(facts) }
    }

    fn listening(sockets: impl IntoIterator<Item = SocketFact>) -> Self {
        Self { sockets: sockets.into_iter().collect(), ..Self::recorded([]) }
    }
}

impl Source for Memory {
    fn describe(&self) -> SourceDescription {
        let mut description = SourceDescription::new("memory", "test", "none");
        description.observer_pid = Some(OWN_PID);
        description.warnings = self.warnings.clone();
        description
    }

    fn start(&self) -> Result<Moment> {
        Ok(moment(NOW))
    }

    fn wait(&self, from: &Moment, window: Duration, control: &Control<'_>) -> Result<Moment> {
        if control.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(Moment {
            boot_ns: from.boot_ns + u64::try_from(window.as_nanos()).unwrap(),
            wall: from.wall + window,
        })
    }

    fn observe(&self) -> Result<Observation> {
        Ok(Observation { from: moment(NOW), cursor: ChangeCursor(0), guard: Box::new(()) })
    }

    fn observed(&self, since: Option<Duration>) -> Result<Option<Span>> {
        let Some(from) = self.recorded_from else { return Ok(None) };
        let earliest = since.map_or(0, |since| NOW.saturating_sub(since.as_secs()));
        Ok(Some(Span { from: moment(from.max(earliest)), to: moment(NOW) }))
    }

    fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        let within = |fact: &ConnectionFact| {
            fact.closed.is_none_or(|closed| closed.ns() > span.from.boot_ns)
                && fact.opened.is_none_or(|opened| opened.ns() <= span.to.boot_ns)
        };
        for ended in [true, false] {
            for (fact, before) in &self.facts {
                if fact.is_over() == ended && within(fact) && filter.matches(fact) {
                    visit(Sighting { fact, before: *before });
                }
            }
        }
        Ok(self.observed.clone())
    }

    fn sockets(&self, at: &Moment) -> Result<SocketSnapshot> {
        Ok(SocketSnapshot::new(*at, self.sockets.clone(), self.observed.clone()))
    }

    fn changes(&self, after: ChangeCursor, _patience: Duration, cancel: &Cancel) -> Result<Changes> {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let place = usize::try_from(after.0).unwrap();
        // Two at a time.
        let connections: Vec<_> = self.changes.iter().skip(place).take(2).cloned().collect();
        let next = ChangeCursor(after.0 + connections.len() as u64);
        Ok(Changes { missed: connections.len() as u64, connections, next, at: moment(NOW + 1) })
    }
}

fn process(pid: u32, comm: &str) -> Option<Arc<Process>> {
    Some(Arc::new(Process::new(pid, comm)))
}

fn traffic(sent: u64, received: u64) -> Option<Traffic> {
    Some(Traffic {
        payload_bytes_sent: sent,
        payload_bytes_received: received,
        packets_sent: sent / 100,
        packets_received: received / 100,
    })
}

fn measured(state: TcpState, rtt_us: Option<u32>, retransmits: u32) -> TcpFact {
    let mut tcp = TcpFact::new(state);
    (tcp.rtt_us, tcp.retransmits) = (rtt_us, retransmits);
    tcp
}

/// An outbound TCP connection of `curl` that began at a second and is open.
fn tcp(cookie: u64, opened: u64) -> ConnectionFact {
    let mut fact =
        ConnectionFact::new(cookie, Protocol::Tcp, ConnectionState::Open, "10.0.0.1:40000".parse().unwrap());
    fact.opened = at(opened);
    fact.direction = ConnectionDirection::Outbound;
    fact.remote = Some("192.0.2.7:443".parse().unwrap());
    fact.process = process(7, "curl");
    fact.attribution = Attribution::Exact;
    fact.netns = 4_026_531_840;
    fact
}

fn closed(mut fact: ConnectionFact, second: u64) -> ConnectionFact {
    fact.state = ConnectionState::Closed;
    fact.closed = at(second);
    fact.closed_by = Some(ClosedBy::Local);
    fact
}

fn failed(mut fact: ConnectionFact, second: u64, errno: i32) -> ConnectionFact {
    fact.state = ConnectionState::Failed;
    fact.closed = at(second);
    fact.error = Some(ConnectionError::told(errno));
    fact
}

fn last(seconds: u64) -> ConnectionsRequest {
    let mut request = ConnectionsRequest::default();
    request.since = Some(Duration::from_secs(seconds));
    request
}

fn ask(source: Memory, request: &ConnectionsRequest) -> ConnectionsAnswer {
    Monitor::new(source).connections(request, &Control::default()).unwrap()
}

fn sum_up(source: Memory, seconds: u64) -> SummaryAnswer {
    let mut request = SummaryRequest::default();
    request.since = Some(Duration::from_secs(seconds));
    Monitor::new(source).summary(&request, &Control::default()).unwrap()
}

fn cookies(answer: &ConnectionsAnswer) -> Vec<u64> {
    answer.connections.iter().map(|row| row.id.cookie).collect()
}

fn text(answer: &impl netmon_core::Answer, width: u16) -> String {
    answer.tables().iter().map(|table| table.render(Layout { width: Some(width), color: false })).collect()
}

#[test]
fn a_connection_is_told_with_times_on_the_wall_clock() {
    let mut fact = closed(tcp(0x1f, 950), 970);
    fact.established = BootTime::from_ns(950_250_000_000);
    fact.thread = Some(Arc::new(Thread { tid: 8, comm: "worker".into() }));
    fact.traffic = traffic(1_000, 2_500);
    fact.tcp = Some(measured(TcpState::LastAck, Some(1_500), 2));
    let answer = ask(Memory::recorded([fact]), &last(60));

    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(
        json["window"],
        serde_json::json!({"from": "2026-01-01T00:15:40Z", "to": "2026-01-01T00:16:40Z", "seconds": 60.0})
    );
    assert_eq!(
        json["connections"][0],
        serde_json::json!({
            "id": "1f-dd30699c00",
            "protocol": "tcp",
            "direction": "outbound",
            "state": "closed",
            "local": {"address": "10.0.0.1", "port": 40000},
            "remote": {"address": "192.0.2.7", "port": 443},
            "process": {"pid": 7, "tid": 8, "comm": "curl", "thread_comm": "worker", "netns": 4_026_531_840_u32},
            "attribution": "exact",
            "netns": 4_026_531_840_u32,
            "opened_at": "2026-01-01T00:15:50Z",
            "closed_at": "2026-01-01T00:16:10Z",
            "duration_seconds": 20.0,
            "connect_latency_seconds": 0.25,
            "closed_by": "local",
            "payload_bytes": {"sent": 1000, "received": 2500},
            "window_payload_bytes": {"sent": 1000, "received": 2500},
            "packets": {"sent": 10, "received": 25},
            "tcp": {"state": "last_ack", "rtt_seconds": 0.0015, "retransmits": 2},
            "community_id": "1:YoLkORb0qcQeOrBUXV1d6bXI/B0=",
        })
    );
    assert_eq!(
        (
            json["total"].as_u64(),
            json["by_state"]["closed"].as_u64(),
            json["by_attribution"]["exact"].as_u64()
        ),
        (Some(1), Some(1), Some(1))
    );
}

#[test]
fn what_is_not_known_is_absent() {
    let fact = ConnectionFact::new(5, Protocol::Udp, ConnectionState::Open, "0.0.0.0:53".parse().unwrap());
    let answer = ask(Memory::recorded([fact]), &last(60));
    let row = serde_json::to_value(&answer.connections[0]).unwrap();
    let keys: BTreeSet<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["id", "protocol", "direction", "state", "local", "attribution"]));
    let csv = answer.connections[0].csv_fields();
    assert_eq!(csv.len(), Connection::CSV_COLUMNS.len());
    assert_eq!(csv.iter().filter(|field| !field.is_empty()).count(), 7);
    assert_eq!(
        text(&answer, 80),
        "STATE  PROTO  DIR  PROCESS  PID  LOCAL       OWNER\nopen   udp    -    -          -  0.0.0.0:53  unknown\n"
    );
}

#[test]
fn bytes_in_the_window_are_differences() {
    let mut long = tcp(1, 10);
    long.traffic = traffic(10_000, 70_000);
    let mut source = Memory::recorded([long]);
    source.facts[0].1 = traffic(9_000, 65_000);
    let answer = ask(source, &last(60));
    let row = &answer.connections[0];
    assert_eq!(row.payload_bytes, Some(BothWays { sent: 10_000, received: 70_000 }));
    assert_eq!(row.window_payload_bytes, Some(BothWays { sent: 1_000, received: 5_000 }));
    assert_eq!(row.duration_seconds, Some(990.0));
}

#[test]
fn without_a_baseline_a_long_connection_has_its_totals_and_no_bytes_in_the_window() {
    let mut long = tcp(1, 10);
    long.traffic = traffic(10_000, 70_000);
    let mut new = tcp(2, 990);
    new.traffic = traffic(300, 200);
    let answer = ask(Memory::recorded([long.clone(), new.clone()]), &last(60));
    assert_eq!(cookies(&answer), [2, 1]);
    assert_eq!(answer.connections[0].window_payload_bytes, Some(BothWays { sent: 300, received: 200 }));
    assert_eq!(answer.connections[1].window_payload_bytes, None);
    assert_eq!(answer.connections[1].payload_bytes, Some(BothWays { sent: 10_000, received: 70_000 }));

    let summary = sum_up(Memory::recorded([long, new]), 60);
    assert_eq!(summary.payload_bytes, Some(BothWays { sent: 300, received: 200 }));
    assert_eq!(summary.unmeasured, 1);
    assert_eq!(summary.payload_bytes_per_second.unwrap().sent, 5.0);
}

#[test]
fn the_observers_own_connections_are_hidden() {
    let mut own = tcp(1, 950);
    own.process = process(OWN_PID, "netmon-cli");
    let mut listener = SocketFact::new(own.clone());
    listener.connection.state = ConnectionState::Listening;
    listener.inode = 3;
    let mut source = Memory::recorded([own.clone(), tcp(2, 950)]);
    source.sockets = vec![listener];
    let monitor = Monitor::new(source);
    let answer = monitor.connections(&last(60), &Control::default()).unwrap();
    assert_eq!((cookies(&answer), answer.total), (vec![2], 1));
    let summary = monitor.summary(&SummaryRequest::default(), &Control::default()).unwrap();
    assert_eq!((summary.connections, summary.by_process.len()), (1, 1));
    assert_eq!(monitor.sockets(&SocketsRequest::default()).unwrap().total, 0);
    assert_eq!(monitor.listeners(&SocketsRequest::default()).unwrap().total, 0);
}

#[test]
fn the_observers_own_connections_come_when_asked_for() {
    let mut own = tcp(1, 950);
    own.process = process(OWN_PID, "netmon-cli");
    let mut request = last(60);
    request.filter.include_own = true;
    assert_eq!(cookies(&ask(Memory::recorded([own, tcp(2, 950)]), &request)), [1, 2]);
}

#[test]
fn a_filter_chooses_before_a_limit_cuts() {
    let mut facts: Vec<_> = (10..40).map(|cookie| tcp(cookie, 990)).collect();
    let mut quiet = tcp(1, 950);
    quiet.process = process(1, "quiet");
    facts.push(quiet);
    let mut request = last(60);
    request.filter.process = Some("quiet".to_owned());
    request.limit = Some(1);
    let answer = ask(Memory::recorded(facts), &request);
    assert_eq!((cookies(&answer), answer.total), (vec![1], 1));
}

#[test]
fn states_are_chosen_and_listeners_come_only_when_asked_for() {
    let mut listener = SocketFact::new(tcp(4, 1));
    listener.connection.state = ConnectionState::Listening;
    listener.connection.remote = None;
    let facts = || [tcp(1, 950), closed(tcp(2, 940), 960), failed(tcp(3, 930), 931, 111)];
    let chosen = |states: &[ConnectionState]| {
        let mut source = Memory::recorded(facts());
        source.sockets = vec![listener.clone()];
        let mut request = last(60);
        request.states = states.to_vec();
        let answer = ask(source, &request);
        (cookies(&answer), answer.total)
    };
    assert_eq!(chosen(&[]), (vec![1, 2], 2));
    assert_eq!(chosen(&[ConnectionState::Open]), (vec![1], 1));
    assert_eq!(chosen(&[ConnectionState::Closed, ConnectionState::Failed]), (vec![2], 1));
    assert_eq!(chosen(&[ConnectionState::Listening]), (vec![4], 1));
    assert_eq!(chosen(&[ConnectionState::Open, ConnectionState::Listening]), (vec![1, 4], 2));
}

#[test]
fn a_window_that_was_recorded_is_told_at_once_and_a_shorter_one_said_so() {
    let mut source = Memory::recorded([tcp(1, 995)]);
    source.recorded_from = Some(988);
    let answer = ask(source, &last(60));
    assert_eq!(answer.header.window.seconds, 12.0);
    assert_eq!(
        answer.header.coverage.warnings,
        ["asked for the last 60 s; only the last 12 s were recorded"]
    );
    assert_eq!(
        answer.to_string(),
        "Recent connection events (1 total):\nObserved only 12 s of these 60 s: 1 open; owners: 1 exact"
    );

    let answer = ask(Memory::recorded([tcp(1, 995)]), &last(60));
    assert_eq!(answer.header.coverage.warnings, Vec::<String>::new());
    assert_eq!(
        answer.to_string(),
        "Recent connection events (1 total):\nObserved over 60 s: 1 open; owners: 1 exact"
    );
}

#[test]
fn a_one_shot_observes_the_window_and_never_calls_it_more() {
    let facts = [closed(tcp(1, 1_001), 1_002), tcp(2, 400)];
    let answer = ask(Memory::one_shot(facts.clone()), &last(60));
    assert_eq!(answer.header.window.seconds, 5.0);
    assert_eq!(answer.header.window.to, moment(1_005).wall);
    assert_eq!(
        answer.header.coverage.warnings,
        [
            "asked for the last 60 s; observed 5 s, since nothing was recording before; start netmond, or write a recording and ask that"
        ]
    );
    assert_eq!(cookies(&answer), [1, 2]);

    // Nobody asked for more than the window.
    let answer = ask(Memory::one_shot(facts), &ConnectionsRequest::default());
    assert_eq!(answer.header.coverage.warnings, Vec::<String>::new());
    assert_eq!(answer.requested_seconds, None);
}

#[test]
fn a_window_of_nothing_is_what_is_open_now() {
    let facts = [tcp(1, 900), closed(tcp(2, 900), 1_000)];
    for source in [Memory::one_shot(facts.clone()), Memory::recorded(facts.clone())] {
        let mut request = ConnectionsRequest::default();
        request.window = Duration::ZERO;
        let answer = ask(source, &request);
        assert_eq!(cookies(&answer), [1]);
        assert_eq!(answer.header.window.seconds, 0.0);
        assert_eq!(
            answer.to_string(),
            "Recent connection events (1 total):\nAt this moment: 1 open; owners: 1 exact"
        );
    }
    let mut request = last(60);
    request.window = Duration::ZERO;
    let answer = ask(Memory::one_shot(facts), &request);
    assert_eq!(cookies(&answer), [1]);
    assert!(
        answer.header.coverage.warnings[0]
            .starts_with("asked for the last 60 s; these are open now, since nothing")
    );
}

#[test]
fn what_is_missing_lost_and_forgotten_is_in_the_coverage() {
    let mut source = Memory::recorded([]);
    source.warnings = vec!["of the source".to_owned()];
    source.observed.active_hooks = vec![Hook::SetState];
    source.observed.missing_hooks = vec![MissingHook {
        hook: Hook::Connect,
        reason: "no permission".to_owned(),
        hides: "attempts that fail at once".to_owned(),
        fix: None,
    }];
    source.observed.lost_events = 3;
    source.observed.forgotten = 12;
    source.observed.warnings = vec!["of the observing".to_owned()];
    let answer = ask(source, &last(60));
    assert_eq!(
        answer.notes(),
        [
            "of the source",
            "of the observing",
            "12 connections ended in this time and were forgotten since, because the recorder was full",
            "not shown: attempts that fail at once (connect: no permission)",
            "3 events were lost and are not in these numbers",
        ]
    );
    assert_eq!(answer.header.coverage.active_hooks, [Hook::SetState]);
    assert!(!answer.header.coverage.truncated);
}

#[test]
fn nothing_found_is_an_answer() {
    let answer = ask(Memory::recorded([]), &last(60));
    assert_eq!(answer.to_string(), "No connection events found\nObserved over 60 s");
    assert_eq!((answer.total, text(&answer, 80).as_str()), (0, ""));
    assert_eq!(
        sum_up(Memory::recorded([]), 60).to_string(),
        "No network connections found for any process in the last 60 seconds\nObserved over 60 s"
    );
    let monitor = Monitor::new(Memory::recorded([]));
    assert_eq!(monitor.sockets(&SocketsRequest::default()).unwrap().to_string(), "No sockets found");
    assert_eq!(monitor.listeners(&SocketsRequest::default()).unwrap().to_string(), "No listeners found");
}

#[test]
fn a_source_without_connections_says_so() {
    struct None;
    impl Source for None {
        fn describe(&self) -> SourceDescription {
            SourceDescription::new("none", "test", "none")
        }
        fn start(&self) -> Result<Moment> {
            Ok(moment(0))
        }
        fn wait(&self, _: &Moment, _: Duration, _: &Control<'_>) -> Result<Moment> {
            Ok(moment(0))
        }
    }
    let monitor = Monitor::new(None);
    let error = monitor.connections(&last(60), &Control::default()).unwrap_err();
    assert_eq!(error.to_string(), "there are no connections in the source \"none\"");
    let error = monitor.sockets(&SocketsRequest::default()).unwrap_err();
    assert_eq!(error.to_string(), "there are no sockets in the source \"none\"");
}

#[test]
fn cancelling_ends_a_one_shot() {
    let control = Control::default();
    control.cancel.cancel();
    let error = Monitor::new(Memory::one_shot([])).connections(&last(60), &control).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
}

#[test]
fn rows_are_sorted_as_asked_and_the_unknown_stand_last() {
    let mut facts = vec![tcp(1, 910), tcp(2, 920), tcp(3, 930)];
    facts[0].opened = None;
    facts[1].traffic = traffic(10, 900);
    facts[2].traffic = traffic(20, 100);
    facts[0].process = process(1, "zsh");
    facts[1].process = None;
    facts[0].remote = Some("[2001:db8::1]:1".parse().unwrap());
    facts[1].remote = Some("192.0.2.7:80".parse().unwrap());
    facts[0].tcp = Some(measured(TcpState::Established, Some(5), 0));
    facts[1].tcp = Some(measured(TcpState::Established, Some(7), 4));
    facts[2].established = BootTime::from_ns(930_000_000_500);
    facts[2].state = ConnectionState::Opening;
    let sorted = |sort: ConnectionSort, reverse: bool| {
        let mut request = last(500);
        (request.sort, request.reverse) = (sort, reverse);
        cookies(&ask(Memory::recorded(facts.clone()), &request))
    };
    assert_eq!(sorted(ConnectionSort::Opened, false), [3, 2, 1]);
    assert_eq!(sorted(ConnectionSort::Opened, true), [2, 3, 1]);
    assert_eq!(sorted(ConnectionSort::Duration, false), [2, 3, 1]);
    assert_eq!(sorted(ConnectionSort::Sent, false), [3, 2, 1]);
    assert_eq!(sorted(ConnectionSort::Received, false), [2, 3, 1]);
    assert_eq!(sorted(ConnectionSort::Bytes, true), [3, 2, 1]);
    assert_eq!(sorted(ConnectionSort::Rtt, false), [2, 1, 3]);
    assert_eq!(sorted(ConnectionSort::Retransmits, true), [1, 2, 3]);
    assert_eq!(sorted(ConnectionSort::Latency, false), [3, 1, 2]);
    assert_eq!(sorted(ConnectionSort::Process, false), [3, 1, 2]);
    assert_eq!(sorted(ConnectionSort::Remote, false), [2, 3, 1]);
    assert_eq!(sorted(ConnectionSort::State, false), [3, 1, 2]);
}

#[test]
fn a_limit_says_that_it_cut_and_how_to_go_on() {
    let facts: Vec<_> = (1..=5).map(|cookie| tcp(cookie, 900 + cookie)).collect();
    let monitor = Monitor::new(Memory::recorded(facts));
    let mut request = last(500);
    request.limit = Some(2);
    let mut pages = Vec::new();
    loop {
        let answer = monitor.connections(&request, &Control::default()).unwrap();
        assert_eq!(answer.total, 5);
        assert_eq!(answer.header.coverage.truncated, answer.next_cursor.is_some());
        pages.push(cookies(&answer));
        if pages.len() == 1 {
            assert!(answer.to_string().ends_with("5 open; owners: 5 exact; 2 shown"), "{answer}");
            assert!(
                answer.event_lines(10).ends_with("  ... and 3 more events\n"),
                "{}",
                answer.event_lines(10)
            );
        }
        request.cursor = answer.next_cursor;
        if request.cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec![5, 4], vec![3, 2], vec![1]]);
}

#[test]
fn a_cursor_fits_its_own_question_only() {
    let facts: Vec<_> = (1..=5).map(|cookie| tcp(cookie, 900 + cookie)).collect();
    let monitor = Monitor::new(Memory::recorded(facts.clone()));
    let mut request = last(500);
    request.limit = Some(2);
    let first = monitor.connections(&request, &Control::default()).unwrap();
    request.cursor = first.next_cursor;
    request.sort = ConnectionSort::Remote;
    let error = monitor.connections(&request, &Control::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this cursor belongs to another question; only the limit may change from page to page"
    );
    request.sort = ConnectionSort::Opened;
    // Another page size is fine, and the window stays the first page's.
    request.limit = None;
    let rest = monitor.connections(&request, &Control::default()).unwrap();
    assert_eq!(cookies(&rest), [3, 2, 1]);
    assert_eq!(rest.header.window, first.header.window);

    request.cursor = Some("nonsense".to_owned());
    assert!(matches!(monitor.connections(&request, &Control::default()), Err(Error::InvalidRequest(_))));
}

#[test]
fn a_second_page_without_a_recorder_says_what_it_cannot_know() {
    let facts: Vec<_> = (1..=3).map(|cookie| tcp(cookie, 900 + cookie)).collect();
    let monitor = Monitor::new(Memory::one_shot(facts));
    let mut request = ConnectionsRequest::default();
    request.limit = Some(2);
    request.cursor = monitor.connections(&request, &Control::default()).unwrap().next_cursor;
    let answer = monitor.connections(&request, &Control::default()).unwrap();
    assert_eq!(cookies(&answer), [1]);
    assert_eq!(answer.header.window.seconds, 5.0);
    assert_eq!(
        answer.header.coverage.warnings,
        ["nothing is recording, so what ended since the page before is not on this one"]
    );
}

#[test]
fn fields_are_chosen_and_a_typo_is_told_the_nearest() {
    let mut fact = failed(tcp(1, 950), 951, 111);
    fact.traffic = traffic(1_500, 0);
    let answer = ask(Memory::recorded([fact]), &last(60));
    let fields = ["comm", "remote", "error", "payload_bytes_sent", "duration_seconds", "rtt_seconds"];
    let chosen = answer.connections[0].only(&fields).unwrap();
    assert_eq!(
        serde_json::to_value(&chosen).unwrap(),
        serde_json::json!({
            "comm": "curl",
            "remote": {"address": "192.0.2.7", "port": 443},
            "error": "ECONNREFUSED",
            "payload_bytes_sent": 1500,
            "duration_seconds": 1.0,
        })
    );
    assert_eq!(chosen.csv_fields(), ["curl", "192.0.2.7:443", "ECONNREFUSED", "1500", "1", ""]);
    assert_eq!(
        answer.only(&fields).unwrap().tables()[0].render(Layout { width: None, color: false }),
        "comm  remote         error         payload_bytes_sent  duration_seconds  rtt_seconds\n\
         curl  192.0.2.7:443  ECONNREFUSED             1.50 kB            1.00 s            -\n"
    );
    let error = answer.connections[0].only(&["durration_seconds"]).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "connections have no field \"durration_seconds\"; the nearest is \"duration_seconds\", and there are: id, "
        ),
        "{error}"
    );
}

#[test]
fn a_hostile_name_is_harmless_and_recognisable_everywhere() {
    let mut fact = tcp(1, 950);
    fact.process = process(7, "\u{1b}[2Jx\u{202e},\"\n");
    let source = || Memory::recorded([failed(fact.clone(), 951, 111)]);
    let shown = r#"\x1b[2Jx\u{202e},"\x0a"#;

    let answer = ask(source(), &last(60));
    assert!(text(&answer, 200).contains(shown), "{}", text(&answer, 200));
    assert!(answer.event_lines(5).contains(shown), "{}", answer.event_lines(5));
    assert!(answer.connections[0].csv_fields().contains(&shown.to_owned()));
    assert_eq!(serde_json::to_value(&answer).unwrap()["connections"][0]["process"]["comm"], shown);

    let summary = sum_up(source(), 60);
    assert!(text(&summary, 200).contains(shown), "{}", text(&summary, 200));
    for text in [answer.to_string(), summary.to_string(), text(&answer, 80), text(&summary, 80)] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    }
}

#[test]
fn the_table_reads_well_in_80_columns_and_drops_what_has_no_room() {
    let mut fact = tcp(1, 950);
    fact.traffic = traffic(1_234_567, 89);
    fact.tcp = Some(measured(TcpState::Established, Some(12_345), 0));
    let mut inbound = tcp(2, 999);
    inbound.direction = ConnectionDirection::Inbound;
    inbound.process = process(1_234, "nginx");
    inbound.attribution = Attribution::Inherited;
    let source = || Memory::recorded([fact.clone(), inbound.clone()]);
    assert_eq!(
        text(&ask(source(), &last(60)), 80),
        "STATE  PROTO  DIR  PROCESS   PID  REMOTE            SENT  RECEIVED  DURATION\n\
         open   tcp    in   nginx    1234  192.0.2.7:443        -         -    1.00 s\n\
         open   tcp    out  curl        7  192.0.2.7:443  1.23 MB      89 B    50.0 s\n"
    );
    assert_eq!(
        text(&ask(source(), &last(60)), 200),
        "STATE  PROTO  DIR  PROCESS   PID  REMOTE            SENT  RECEIVED  DURATION      RTT  LOCAL           OWNER\n\
         open   tcp    in   nginx    1234  192.0.2.7:443        -         -    1.00 s        -  10.0.0.1:40000  inherited\n\
         open   tcp    out  curl        7  192.0.2.7:443  1.23 MB      89 B    50.0 s  12.3 ms  10.0.0.1:40000  exact\n"
    );
}

#[test]
fn the_table_of_listeners_has_where_they_listen() {
    let mut listener = SocketFact::new(tcp(2, 10));
    listener.connection.state = ConnectionState::Listening;
    listener.connection.remote = None;
    listener.connection.direction = ConnectionDirection::None;
    let monitor = Monitor::new(Memory::listening([listener, SocketFact::new(tcp(1, 900))]));
    assert_eq!(
        text(&monitor.sockets(&SocketsRequest::default()).unwrap(), 80),
        "STATE      PROTO  DIR  PROCESS  PID  LOCAL           REMOTE            DURATION\n\
         listening  tcp    -    curl       7  10.0.0.1:40000  -              16 min 30 s\n\
         open       tcp    out  curl       7  10.0.0.1:40000  192.0.2.7:443   1 min 40 s\n"
    );
}

#[test]
fn a_later_page_of_a_shorter_time_says_so_too() {
    let mut source = Memory::recorded((1..=3).map(|cookie| tcp(cookie, 995)));
    source.recorded_from = Some(988);
    let monitor = Monitor::new(source);
    let mut request = last(60);
    request.limit = Some(2);
    let first = monitor.connections(&request, &Control::default()).unwrap();
    request.cursor = first.next_cursor.clone();
    let second = monitor.connections(&request, &Control::default()).unwrap();
    assert_eq!(
        second.header.coverage.warnings,
        ["asked for the last 60 s; only the last 12 s were recorded"]
    );
    assert_eq!((cookies(&first), cookies(&second)), (vec![1, 2], vec![3]));
}

#[test]
fn a_summary_counts_attempts_failures_and_bytes() {
    let mut quick = closed(tcp(1, 950), 951);
    quick.established = BootTime::from_ns(950_010_000_000);
    quick.traffic = traffic(600, 6_000);
    quick.tcp = Some(measured(TcpState::LastAck, None, 3));
    let mut slow = tcp(2, 960);
    slow.established = BootTime::from_ns(960_030_000_000);
    slow.traffic = traffic(0, 60);
    let mut refused = failed(tcp(3, 970), 970, 111);
    refused.remote = Some("192.0.2.8:80".parse().unwrap());
    let mut timed_out = failed(tcp(4, 900), 980, 110);
    timed_out.error = Some(ConnectionError::inferred(Some(110)));
    let mut dns = tcp(5, 990);
    (dns.protocol, dns.process) = (Protocol::Udp, process(8, "resolver"));
    let mut inbound = closed(tcp(6, 945), 946);
    (inbound.direction, inbound.process) = (ConnectionDirection::Inbound, None);
    inbound.error = Some(ConnectionError::told(104));
    let answer = sum_up(Memory::recorded([quick, slow, refused, timed_out, dns, inbound]), 60);

    assert_eq!((answer.total_attempts, answer.failed), (4, 1));
    assert_eq!((answer.connections, answer.opened, answer.closed, answer.open), (6, 5, 2, 2));
    assert_eq!((answer.inbound, answer.outbound), (1, 5));
    assert_eq!(answer.payload_bytes, Some(BothWays { sent: 600, received: 6_060 }));

    // Each fact has a process of its own in memory; equal ones are one.
    let processes: Vec<_> = answer
        .by_process
        .iter()
        .map(|row| (row.pid, row.attempts, row.failed, row.connections, row.open, row.destinations))
        .collect();
    assert_eq!(processes, [(Some(7), 3, 1, 4, 1, 2), (Some(8), 1, 0, 1, 1, 1), (None, 0, 0, 1, 0, 0)]);
    assert_eq!(answer.by_process_total, 3);

    let destination = &answer.by_destination[0];
    assert_eq!(
        (destination.protocol, destination.remote.to_string()),
        (Protocol::Tcp, "192.0.2.7:443".to_owned())
    );
    assert_eq!((destination.attempts, destination.connections, destination.retransmits), (2, 3, Some(3)));
    assert_eq!(destination.mean_connect_latency_seconds, Some(0.02));
    assert_eq!(destination.max_connect_latency_seconds, Some(0.03));
    assert_eq!(answer.by_destination_total, 3);

    let errors: Vec<_> = answer
        .by_error
        .iter()
        .map(|error| (error.name.as_str(), error.errno, error.count, error.failed_attempts, error.inferred))
        .collect();
    assert_eq!(
        errors,
        [
            ("ECONNRESET", Some(104), 1, 0, 0),
            ("ETIMEDOUT", Some(110), 1, 0, 1),
            ("ECONNREFUSED", Some(111), 1, 1, 0),
        ]
    );
    assert_eq!(answer.by_error[2].example.remote.unwrap().to_string(), "192.0.2.8:80");
    assert_eq!(
        answer.to_string(),
        "All processes made 4 outbound connection attempts over the last 60 seconds\n\
         Observed over 60 s: 6 connections, 2 of them open at its end; 5 outbound, 1 inbound\n\
         Sent 600 B (10 B/s), received 6.06 kB (101 B/s), without 4 connections begun earlier or not measured\n\
         1 attempt failed: 1 ECONNREFUSED\n\
         Begun before and failed, or broken off: 1 ECONNRESET, 1 ETIMEDOUT"
    );
    let json = serde_json::to_string(&answer).unwrap();
    assert_eq!(serde_json::from_str::<SummaryAnswer>(&json).unwrap(), answer);
}

#[test]
fn a_summary_names_whom_it_was_asked_about_as_netspy_does() {
    let first_line = |pid: Option<u32>, name: Option<&str>, facts: Vec<ConnectionFact>| {
        let mut request = SummaryRequest::default();
        request.since = Some(Duration::from_secs(60));
        request.filter.pid = pid;
        request.filter.process = name.map(str::to_owned);
        let answer = Monitor::new(Memory::recorded(facts)).summary(&request, &Control::default()).unwrap();
        answer.to_string().lines().next().unwrap().to_owned()
    };
    let facts: Vec<_> = (1..=5).map(|cookie| tcp(cookie, 990)).collect();
    assert_eq!(
        first_line(None, Some("curl"), facts.clone()),
        "Process 'curl' made 5 outbound connection attempts over the last 60 seconds"
    );
    assert_eq!(
        first_line(Some(7), None, facts),
        "PID 7 made 5 outbound connection attempts over the last 60 seconds"
    );
    assert_eq!(
        first_line(Some(123), None, Vec::new()),
        "No network connections found for PID 123 in the last 60 seconds"
    );
    assert_eq!(
        first_line(None, Some("no\u{1b}such"), Vec::new()),
        r"No network connections found for process 'no\x1bsuch' in the last 60 seconds"
    );
}

#[test]
fn a_summary_names_the_other_conditions_too() {
    let mut request = SummaryRequest::default();
    request.since = Some(Duration::from_secs(60));
    request.filter.include_own = true;
    let first_line = |request: &SummaryRequest, facts: Vec<ConnectionFact>| {
        let answer = Monitor::new(Memory::recorded(facts)).summary(request, &Control::default()).unwrap();
        answer.to_string().lines().next().unwrap().to_owned()
    };
    assert_eq!(
        first_line(&request, vec![tcp(1, 990)]),
        "All processes made 1 outbound connection attempts over the last 60 seconds"
    );
    request.filter.port = Some(443);
    assert_eq!(
        first_line(&request, vec![tcp(1, 990)]),
        "All processes (port 443) made 1 outbound connection attempts over the last 60 seconds"
    );
    assert_eq!(
        first_line(&request, Vec::new()),
        "No network connections found for any process (port 443) in the last 60 seconds"
    );
    request.filter.process = Some("curl".to_owned());
    assert_eq!(
        first_line(&request, vec![tcp(1, 990)]),
        "Process 'curl' (port 443) made 1 outbound connection attempts over the last 60 seconds"
    );
}

#[test]
fn a_summary_of_a_shorter_time_says_so_in_its_second_line() {
    let mut source = Memory::recorded([tcp(1, 995)]);
    source.recorded_from = Some(988);
    let answer = sum_up(source, 60);
    let text = answer.to_string();
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("All processes made 1 outbound connection attempts over the last 60 seconds")
    );
    assert!(lines.next().unwrap().starts_with("Observed only 12 s of these 60 s: "), "{text}");
}

#[test]
fn sums_are_over_everything_though_twenty_are_listed() {
    let facts = (1..=100_u16).map(|number| {
        let mut fact = tcp(number.into(), 990);
        fact.process = process(number.into(), "many");
        fact.remote = Some(std::net::SocketAddr::from(([192, 0, 2, 1], number)));
        fact
    });
    let answer = sum_up(Memory::recorded(facts), 60);
    assert_eq!(answer.total_attempts, 100);
    assert_eq!((answer.by_process_total, answer.by_process.len()), (100, 20));
    assert_eq!((answer.by_destination_total, answer.by_destination.len()), (100, 20));
    assert_eq!(answer.by_process[0].pid, Some(1));
    assert_eq!(answer.by_destination[19].remote.port, 20);
    assert!(answer.header.coverage.truncated);
    assert_eq!(
        answer.notes(),
        ["the first 20 of 100 processes are listed", "the first 20 of 100 destinations are listed"]
    );
}

#[test]
fn sockets_have_holders_and_queues_and_listeners_a_backlog() {
    let mut open = SocketFact::new(tcp(1, 900));
    (open.inode, open.receive_queue, open.send_queue) = (11, Some(100), Some(0));
    open.holders = vec![process(7, "curl").unwrap(), process(8, "child").unwrap()];
    let mut web = SocketFact::new(tcp(2, 10));
    web.connection.state = ConnectionState::Listening;
    web.connection.remote = None;
    web.connection.local = "[::]:80".parse().unwrap();
    web.connection.direction = ConnectionDirection::None;
    (web.inode, web.receive_queue, web.send_queue) = (12, Some(128), Some(128));
    let mut nginx = Process::new(80, "nginx");
    nginx.unit = Some("nginx.service".into());
    web.connection.process = Some(Arc::new(nginx));
    let mut dead = SocketFact::new(closed(tcp(3, 10), 20));
    (dead.connection.process, dead.connection.attribution) = (None, Attribution::Unknown);
    let monitor = Monitor::new(Memory::listening([open, dead, web]));

    let answer = monitor.sockets(&SocketsRequest::default()).unwrap();
    assert_eq!(answer.to_string(), "3 sockets: 1 open, 1 closed, 1 listening; owners: 2 exact, 1 unknown");
    let rows: Vec<_> = answer
        .sockets
        .iter()
        .map(|row| {
            (row.connection.id.cookie, row.holders, row.receive_queue_bytes, row.backlog.is_some(), row.inode)
        })
        .collect();
    assert_eq!(
        rows,
        [
            (1, Some(2), Some(100), false, Some(11)),
            (3, Some(0), None, false, None),
            (2, Some(1), None, true, Some(12))
        ]
    );
    assert_eq!(answer.sockets[0].holder_pids, [7, 8]);
    assert_eq!(answer.sockets[0].csv_fields().len(), netmon_core::monitor::Socket::CSV_COLUMNS.len());
    let json = serde_json::to_string(&answer).unwrap();
    assert_eq!(serde_json::from_str::<SocketsAnswer>(&json).unwrap(), answer);

    let answer = monitor.listeners(&SocketsRequest::default()).unwrap();
    assert_eq!(answer.to_string(), "1 listener");
    let backlog = answer.listeners[0].backlog.unwrap();
    assert_eq!((backlog.used, backlog.limit), (128, 128));
    assert_eq!(
        text(&answer, 80),
        "PROTO  LOCAL    PROCESS  PID       BACKLOG  UNIT OR CONTAINER  HOLDERS\n\
         tcp    [::]:80  nginx     80  128/128 full  nginx.service            1\n"
    );
    assert_eq!(answer.listeners[0].csv_fields().len(), netmon_core::monitor::Listener::CSV_COLUMNS.len());
    let json = serde_json::to_string(&answer).unwrap();
    assert_eq!(serde_json::from_str::<ListenersAnswer>(&json).unwrap(), answer);

    let mut request = SocketsRequest::default();
    request.limit = Some(1);
    let answer = monitor.sockets(&request).unwrap();
    assert_eq!((answer.total, answer.sockets.len(), answer.header.coverage.truncated), (3, 1, true));
    assert!(answer.to_string().ends_with("; 1 shown"), "{answer}");
}

#[test]
fn a_watch_tells_what_changed_since_the_last_call() {
    let mut own = tcp(2, 1_000);
    own.process = process(OWN_PID, "netmon-cli");
    let mut source = Memory::recorded([]);
    source.changes = vec![tcp(1, 1_000), own.clone(), own.clone(), own, closed(tcp(1, 1_000), 1_001)];
    let mut watch = Monitor::new(source).watch_connections(&ConnectionsRequest::default()).unwrap();
    let cancel = Cancel::new();
    let mut next = |timeout| {
        let rows = watch.next(timeout, &cancel).unwrap();
        (rows.iter().map(|row| (row.id.cookie, row.state)).collect::<Vec<_>>(), watch.missed())
    };
    assert_eq!(next(Duration::ZERO), (vec![(1, ConnectionState::Open)], 2));
    // Nothing that was asked for, and no time to wait for more.
    assert_eq!(next(Duration::ZERO), (vec![], 4));
    assert_eq!(next(Duration::from_secs(9)), (vec![(1, ConnectionState::Closed)], 5));
    assert_eq!(next(Duration::from_secs(9)), (vec![], 5));
    let header = watch.header().unwrap();
    assert_eq!((header.window.seconds, header.coverage.lost_events), (1.0, 5));
    cancel.cancel();
    assert!(matches!(watch.next(Duration::ZERO, &cancel), Err(Error::Cancelled)));
}

#[test]
fn a_watch_takes_no_cursor() {
    let mut request = ConnectionsRequest::default();
    request.cursor = Some("1".to_owned());
    let error = Monitor::new(Memory::recorded([])).watch_connections(&request).unwrap_err();
    assert!(matches!(error, Error::InvalidRequest(_)), "{error}");
}

#[test]
fn an_answer_is_read_as_it_was_written() {
    let mut fact = failed(tcp(1, 950), 951, 111);
    fact.last_user = process(9, "other");
    fact.traffic = traffic(5, 6);
    let answer = ask(Memory::recorded([fact, tcp(2, 960)]), &last(60));
    let json = serde_json::to_string(&answer).unwrap();
    assert_eq!(serde_json::from_str::<ConnectionsAnswer>(&json).unwrap(), answer);
}

/// A connection with values that few others differ in.
fn tied() -> impl Strategy<Value = ConnectionFact> {
    let few = 0_u64..3;
    (
        (few.clone(), few.clone(), few.clone(), few.clone(), few.clone()),
        (0_u8..4, 0_u8..4, 0_u16..3, proptest::bool::ANY),
    )
        .prop_map(|((cookie, opened, ended, sent, rtt), (state, name, port, v6))| {
            let mut fact = tcp(cookie, 900);
            fact.opened = at(opened * 10).filter(|_| opened > 0);
            fact.established = fact.opened.and_then(|opened| BootTime::from_ns(opened.ns() + rtt));
            match state {
                0 => fact = closed(fact, 990 + ended),
                1 => fact = failed(fact, 990 + ended, 111),
                2 => fact.state = ConnectionState::Opening,
                _ => {}
            }
            fact.traffic = if sent == 0 { None } else { traffic(sent, 3 - sent) };
            fact.tcp = (rtt > 0).then(|| {
                let mut tcp = TcpFact::new(TcpState::Established);
                (tcp.rtt_us, tcp.retransmits) = (Some(u32::try_from(rtt).unwrap()), 1);
                tcp
            });
            fact.process = if name == 0 {
                None
            } else {
                process(name.into(), ["", "a", "b", "b.c-d"][usize::from(name)])
            };
            let address = if v6 { "[::1]:0" } else { "127.0.0.1:0" };
            let mut remote: std::net::SocketAddr = address.parse().unwrap();
            remote.set_port(port);
            fact.remote = (port > 0).then_some(remote);
            fact
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the order and the page size, and however many rows are alike in it.
    #[test]
    fn pages_are_the_whole_answer_in_parts(
        facts in proptest::collection::vec(tied(), 0..24),
        reverse in proptest::bool::ANY,
    ) {
        // Where everything is equal that an order can see, rows cannot be told apart; each gets an address of its own.
        let facts: Vec<ConnectionFact> = facts
            .into_iter()
            .zip(1_u16..)
            .map(|(mut fact, port)| {
                fact.local.set_port(port);
                fact
            })
            .collect();
        let number = facts.len() as u64;
        let monitor = Monitor::new(Memory::recorded(facts));
        for sort in ConnectionSort::ALL {
            let mut request = last(1_000);
            (request.sort, request.reverse) = (sort, reverse);
            let whole = monitor.connections(&request, &Control::default()).unwrap();
            prop_assert_eq!((whole.total, whole.connections.len() as u64), (number, number));
            for limit in 1..=number + 1 {
                request.limit = Some(limit);
                request.cursor = None;
                let mut paged = Vec::new();
                loop {
                    let page = monitor.connections(&request, &Control::default()).unwrap();
                    prop_assert_eq!(page.total, number);
                    prop_assert!(page.connections.len() as u64 <= limit);
                    paged.extend(page.connections);
                    request.cursor = page.next_cursor;
                    if request.cursor.is_none() {
                        break;
                    }
                }
                prop_assert_eq!(&paged, &whole.connections);
            }
        }
    }
}

/// Not a test of the result: how long a summary of a million connections takes. In release:
/// `cargo test --release -p netmon-core --test connections -- --ignored --nocapture million`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr, reason = "its result is for who runs it")]
fn a_summary_of_a_million_connections_is_quick() {
    let summary_of = |name: &str, destinations: u32, processes: u32| {
        let processes: Vec<_> = (1..=processes).map(|pid| process(pid, "worker")).collect();
        let facts = (0..1_000_000_u32).map(|number| {
            let mut fact = closed(tcp(number.into(), 990), 991);
            fact.established = fact.opened;
            fact.process = processes[number as usize % processes.len()].clone();
            let destination = number.wrapping_mul(2_654_435_761) % destinations;
            let [_, a, b, c] = destination.to_be_bytes();
            fact.remote = Some(std::net::SocketAddr::from(([10, a, b, c], 443)));
            if number.is_multiple_of(2) {
                fact.direction = ConnectionDirection::Inbound;
            }
            if number.is_multiple_of(10) {
                fact = failed(fact, 991, 111);
            }
            fact.traffic = traffic(number.into(), 1_000);
            fact.tcp = Some(TcpFact::new(TcpState::LastAck));
            fact
        });
        let monitor = Monitor::new(Memory::recorded(facts));
        let mut request = SummaryRequest::default();
        request.since = Some(Duration::from_secs(60));
        let times = Mutex::new(Vec::new());
        for _ in 0..11 {
            let start = std::time::Instant::now();
            let answer = monitor.summary(&request, &Control::default()).unwrap();
            times.lock().unwrap().push(start.elapsed());
            assert_eq!(answer.connections, 1_000_000);
        }
        let mut times = times.into_inner().unwrap();
        times.sort();
        eprintln!("{name}: median {:?}, {:?} to {:?}", times[5], times[0], times[10]);
        let start = std::time::Instant::now();
        let mut page = last(60);
        page.limit = Some(100);
        let answer = monitor.connections(&page, &Control::default()).unwrap();
        assert_eq!(answer.total, 1_000_000);
        eprintln!("{name}: first page of 100 in {:?}", start.elapsed());
    };
    summary_of("100 processes, 1,000 destinations", 1_000, 100);
    summary_of("1,000 processes, 10,000 destinations", 10_000, 1_000);
    summary_of("1,000 processes, 1,000,000 destinations", 1_000_000, 1_000);
}

#[test]
fn a_page_is_as_long_as_its_bytes_and_the_next_goes_on() {
    let facts = || (0..30).map(|number| tcp(number + 1, 950 + number));
    let mut request = last(60);
    request.most_bytes = Some(2_000);
    let mut seen = Vec::new();
    loop {
        let answer = ask(Memory::recorded(facts()), &request);
        let size = serde_json::to_string(&answer.connections).unwrap().len();
        assert!(size <= 2_001 && answer.total == 30, "{size} bytes of {}", answer.total);
        assert_eq!(answer.header.coverage.truncated, answer.next_cursor.is_some());
        seen.extend(cookies(&answer));
        request.cursor = answer.next_cursor;
        if request.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=30).rev().collect::<Vec<u64>>());

    // One row comes however long it is, and how much of it is told may change from page to page.
    request.most_bytes = Some(1);
    let first = ask(Memory::recorded(facts()), &request);
    assert_eq!(cookies(&first), [30]);
    request.cursor = first.next_cursor;
    request.brief = true;
    let second = ask(Memory::recorded(facts()), &request);
    assert_eq!(cookies(&second), [29]);
    assert!(second.connections[0].community_id.is_none() && second.connections[0].process.is_some());
}

#[test]
fn what_is_cut_from_a_summary_is_counted_as_others() {
    let facts = (0..30).map(|number| {
        let mut fact = failed(tcp(u64::from(number) + 1, 950), 951, 111);
        fact.process = process(number + 1, "many");
        fact.remote =
            Some(std::net::SocketAddr::from(([192, 0, 2, 1], 1_000 + u16::try_from(number).unwrap())));
        fact
    });
    let mut answer = sum_up(Memory::recorded(facts), 60);
    let other =
        |count| serde_json::json!({"count": count, "attempts": count, "failed": count, "connections": count});
    assert_eq!(serde_json::to_value(answer.by_process_other).unwrap(), other(10));
    answer.shorten(4);
    assert_eq!((answer.by_process.len(), answer.by_destination.len()), (4, 4));
    assert_eq!(serde_json::to_value(answer.by_process_other).unwrap(), other(26));
    assert_eq!(serde_json::to_value(answer.by_destination_other).unwrap(), other(26));
    assert!(answer.header.coverage.truncated);
    assert_eq!(answer.total_attempts, 30);
}

#[test]
fn a_summary_that_is_short_enough_is_left_as_it_is() {
    let mut answer = sum_up(Memory::recorded([tcp(1, 950)]), 60);
    let before = answer.clone();
    answer.shorten(1);
    assert_eq!(answer, before);
    assert!(before.by_process_other.is_none() && !before.header.coverage.truncated);
}
