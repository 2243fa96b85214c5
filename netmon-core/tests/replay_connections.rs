//! The connections of a recording: of the demo, of damaged and hostile ones, and of a recording of a recording.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use netmon_core::{
    Cancel, Control, DiagnoseRequest, Error, Filter, Monitor, Result, Source,
    fact::{
        Attribution, BootTime, ConnectionDirection, ConnectionFact, ConnectionState, Direction, Hook,
        InterfaceFact, InterfaceSnapshot, Moment, Observed, Protocol, SocketFact, SocketSnapshot, Traffic,
    },
    request::HookChoice,
    source::{
        ChangeCursor, Changes, Counting, InterfaceRef, Observation, Recorder, Sighting, SourceDescription,
        Span, recording::RecordRequest, replay::ReplaySource,
    },
};

const DEMO: &str = include_str!("../recordings/demo.jsonl");

fn replay(text: &str) -> ReplaySource {
    ReplaySource::read(text.as_bytes(), "test.jsonl").unwrap()
}

fn error(text: &str) -> String {
    ReplaySource::read(text.as_bytes(), "test.jsonl").unwrap_err().to_string()
}

fn second(second: u64) -> Moment {
    let start: jiff::Timestamp = "2026-03-01T12:30:00Z".parse().unwrap();
    Moment { boot_ns: (100_000 + second) * 1_000_000_000, wall: start + Duration::from_secs(second) }
}

fn span(from: u64, to: u64) -> Span {
    Span { from: second(from), to: second(to) }
}

struct Seen {
    connections: Vec<(ConnectionFact, Option<Traffic>)>,
    observed: Observed,
}

impl Seen {
    fn of(source: &ReplaySource, span: &Span) -> Self {
        let mut connections = Vec::new();
        let observed = source.connections(span, &Filter::everything(), &mut |sighting| {
            connections.push((sighting.fact.clone(), sighting.traffic_within(span)));
        });
        Self { connections, observed: observed.unwrap() }
    }

    fn count(&self, state: ConnectionState) -> usize {
        self.connections.iter().filter(|(fact, _)| fact.state == state).count()
    }

    fn by(&self, comm: &str) -> Vec<&(ConnectionFact, Option<Traffic>)> {
        let is = |fact: &ConnectionFact| fact.process.as_ref().is_some_and(|process| process.comm == *comm);
        self.connections.iter().filter(|(fact, _)| is(fact)).collect()
    }
}

/// What matters of all connections in a span, to compare two recordings.
fn facts(source: &ReplaySource, span: &Span) -> Vec<String> {
    let seen = Seen::of(source, span);
    let mut facts: Vec<_> = seen.connections.iter().map(|seen| format!("{seen:?}")).collect();
    facts.sort();
    facts
}

#[test]
fn a_recording_was_observed_from_its_first_sockets_to_its_end() {
    let demo = replay(DEMO);
    assert_eq!(demo.observed(None).unwrap(), Some(span(0, 30)));
    assert_eq!(demo.observed(Some(Duration::from_secs(600))).unwrap(), Some(span(0, 30)));
    let last = |seconds| demo.observed(Some(Duration::from_secs(seconds))).unwrap();
    assert_eq!(last(10), Some(span(20, 30)));
    assert_eq!(last(15), Some(span(10, 30)), "it begins where counters were read");

    let observation = demo.observe().unwrap();
    assert_eq!((observation.from, observation.cursor), (second(0), ChangeCursor(0)));
}

#[test]
fn the_demo_has_a_web_server_its_clients_and_a_suspect() {
    let seen = Seen::of(&replay(DEMO), &span(0, 30));
    assert_eq!(seen.connections.len(), 110);
    assert_eq!((seen.count(ConnectionState::Failed), seen.count(ConnectionState::Closed)), (56, 50));
    assert_eq!(seen.count(ConnectionState::Open), 4);
    assert!(seen.observed.active_hooks.contains(&Hook::SetState));
    assert_eq!((seen.observed.lost_events, seen.observed.forgotten), (0, 0));

    let errors = seen.connections.iter().filter_map(|(fact, _)| fact.error);
    let mut by_error: BTreeMap<String, usize> = BTreeMap::new();
    for error in errors {
        *by_error.entry(error.name().to_string()).or_default() += 1;
    }
    assert_eq!(format!("{by_error:?}"), r#"{"ECONNREFUSED": 55, "ECONNRESET": 1, "ETIMEDOUT": 1}"#);
    assert_eq!(seen.by("python3").len(), 6);
    assert_eq!(seen.by("curl").len(), 8);
    assert_eq!(seen.by("probe").len(), 50);
    assert_eq!(seen.by("systemd-resolve").len(), 8);
    let workers: Vec<_> =
        seen.by("nginx").iter().map(|(fact, _)| fact.process.as_ref().unwrap().pid).collect();
    assert!(workers.contains(&814) && workers.contains(&815) && !workers.contains(&812));
    assert!(seen.by("nginx").iter().all(|(fact, _)| fact.direction == ConnectionDirection::Inbound));
    assert_eq!(seen.by("mainproc")[0].0.thread.as_ref().unwrap().comm, "worker");
    assert!(seen.by("node")[0].0.process.as_ref().unwrap().container.is_some());
    assert_eq!(seen.by(r"\x1b[2J\u{202e}ignore").len(), 1);
    assert!(seen.connections.iter().any(|(fact, _)| fact.local.is_ipv6()));
    let quic = seen.by("sync")[0];
    assert_eq!((quic.0.protocol, quic.0.remote.unwrap().port()), (Protocol::Udp, 443));
}

#[test]
fn a_window_has_what_went_over_a_long_connection_within_it() {
    let demo = replay(DEMO);
    let ssh = |from, to| {
        let seen = Seen::of(&demo, &span(from, to));
        let (fact, within) = seen.by("sshd")[0].clone();
        assert_eq!((fact.attribution, fact.opened), (Attribution::Snapshot, None));
        (fact.traffic.unwrap().payload_bytes_sent, within.unwrap().payload_bytes_sent)
    };
    assert_eq!(ssh(0, 30), (84_000, 36_000));
    assert_eq!(ssh(20, 30), (84_000, 12_000));
    assert_eq!(ssh(0, 10), (60_000, 12_000));

    // Those that ended in the window, too; and what began in it is all within it.
    let seen = Seen::of(&demo, &span(10, 30));
    let (fact, within) = seen.by("node")[0];
    let total = fact.traffic.unwrap().payload_bytes_sent;
    assert_eq!((total, within.unwrap().payload_bytes_sent), (90_000 + 9 * 18_600, 9 * 8_600));
    let (fact, within) = seen.by("curl")[0];
    assert_eq!(fact.traffic, *within);
}

#[test]
fn windows_side_by_side_have_each_end_once() {
    let demo = replay(DEMO);
    let ended = |from, to| {
        let seen = Seen::of(&demo, &span(from, to));
        let over = seen.connections.iter().filter(|(fact, _)| fact.is_over());
        over.map(|(fact, _)| fact.id()).collect::<Vec<_>>()
    };
    let parts: Vec<_> = (0..30).flat_map(|from| ended(from, from + 1)).collect();
    assert_eq!(parts, ended(0, 30));
    assert_eq!(parts.len(), 106);
}

#[test]
fn a_window_that_ends_early_has_what_was_open_then() {
    let demo = replay(DEMO);
    let seen = Seen::of(&demo, &span(0, 12));
    let (fact, _) = seen.by(r"\x1b[2J\u{202e}ignore")[0];
    assert_eq!((fact.state, fact.closed), (ConnectionState::Open, None), "it ended a second later");
    let (fact, _) = seen.by("restic")[0];
    assert_eq!((fact.state, fact.error), (ConnectionState::Opening, None), "it had not given up yet");
    assert_eq!(seen.by("probe").len(), 0);
}

#[test]
fn sockets_are_as_they_were_last_listed() {
    let demo = replay(DEMO);
    let at = |at| {
        let snapshot = demo.sockets(&second(at)).unwrap();
        let listening = |state| state == ConnectionState::Listening;
        let listeners = snapshot.sockets.iter().filter(|socket| listening(socket.connection.state)).count();
        (snapshot.at, listeners, snapshot.sockets.len())
    };
    assert_eq!(at(0), (second(0), 4, 8));
    assert_eq!(at(19), (second(10), 4, 11));
    assert_eq!(at(30), (second(30), 4, 8));
    let snapshot = demo.sockets(&second(0)).unwrap();
    let nginx = snapshot.sockets.iter().find(|socket| socket.holders.len() > 1).unwrap();
    assert_eq!(nginx.holders[1].pid, 814);
}

#[test]
fn changes_come_in_order_and_end_with_the_recording() {
    let demo = replay(DEMO);
    let cancel = Cancel::new();
    let all = demo.changes(ChangeCursor(0), Duration::ZERO, &cancel).unwrap();
    assert_eq!((all.connections.len(), all.missed, all.at), (129, 0, second(30)));
    let changed = |fact: &ConnectionFact| fact.closed.or(fact.established.max(fact.opened));
    assert!(all.connections.is_sorted_by_key(changed));
    assert_eq!(all.connections.iter().filter(|fact| fact.is_over()).count(), 106);

    let later = demo.changes(ChangeCursor(100), Duration::from_secs(60), &cancel).unwrap();
    assert_eq!(later.connections[..], all.connections[100..]);
    let patience = Duration::from_secs(60);
    let end = demo.changes(later.next, patience, &cancel).unwrap_err();
    assert_eq!(
        end.to_string(),
        "the recording ends at 2026-03-01T12:30:30Z, before anything could be measured"
    );
    cancel.cancel();
    assert!(matches!(demo.changes(later.next, patience, &cancel), Err(Error::Cancelled)));
    assert!(matches!(demo.changes(ChangeCursor(0), patience, &cancel), Err(Error::Cancelled)));
}

#[test]
fn a_recording_of_interfaces_alone_has_no_connections() {
    let header = DEMO.lines().next().unwrap();
    let mut header: serde_json::Value = serde_json::from_str(header).unwrap();
    header.as_object_mut().unwrap().remove("observed");
    let interfaces = DEMO.lines().filter(|line| line.contains(r#""type":"interfaces""#));
    let text: Vec<_> = std::iter::once(header.to_string()).chain(interfaces.map(str::to_owned)).collect();
    let old = replay(&text.join("\n"));

    let told = "there are no connections in the source \"replay\"";
    assert_eq!(old.observe().unwrap_err().to_string(), told);
    assert_eq!(old.observed(None).unwrap_err().to_string(), told);
    assert!(matches!(
        old.connections(&span(0, 30), &Filter::everything(), &mut |_| {}),
        Err(Error::NotInSource { what: "connections", .. })
    ));
    assert!(old.changes(ChangeCursor(0), Duration::ZERO, &Cancel::new()).is_err());
    assert!(matches!(old.sockets(&second(0)), Err(Error::NotInSource { what: "sockets", .. })));
    assert_eq!(Monitor::new(old).interfaces().unwrap().interfaces.len(), 4);
}

#[test]
fn a_recording_that_lost_something_says_so_for_that_time() {
    let (at, other) =
        (serde_json::to_string(&second(12)).unwrap(), serde_json::to_string(&second(25)).unwrap());
    let demo = replay(&format!(
        "{DEMO}{{\"type\":\"lost\",\"at\":{at},\"count\":5}}\n{{\"type\":\"lost\",\"at\":{other},\"count\":2}}\n"
    ));
    assert_eq!(Seen::of(&demo, &span(0, 30)).observed.lost_events, 7);
    assert_eq!(Seen::of(&demo, &span(20, 30)).observed.lost_events, 2);
    assert_eq!(demo.changes(ChangeCursor(0), Duration::ZERO, &Cancel::new()).unwrap().missed, 7);
}

#[test]
fn damaged_lines_are_named() {
    let insert = |line: &str| {
        let (header, rest) = DEMO.split_once('\n').unwrap();
        error(&format!("{header}\n{line}\n{rest}"))
    };
    let told = insert(r#"{"type":"connection","cookie":1}"#);
    assert!(told.starts_with("recording test.jsonl: line 2: missing field"), "{told}");
    let told = insert(r#"{"type":"lost","at":5,"count":1}"#);
    assert!(told.starts_with("recording test.jsonl: line 2: "), "{told}");
    let told = error(&DEMO.replacen(r#""status":"works""#, r#""status":"w\u007frks""#, 1));
    assert!(told.contains(r"line 1: the header is damaged: unknown variant `w\x7frks`"), "{told}");

    let sockets: Vec<_> = DEMO.lines().filter(|line| line.contains(r#""type":"sockets""#)).collect();
    let told = insert(sockets[1]);
    let place = told.strip_prefix("recording test.jsonl: line ").unwrap();
    assert!(place.ends_with(": its time is before that of the line above"), "{told}");
}

#[test]
fn extreme_numbers_of_a_made_up_recording_do_no_harm() {
    let fact = DEMO.lines().find(|line| line.contains(r#""state":"closed""#)).unwrap();
    let mut fact: serde_json::Value = serde_json::from_str(fact).unwrap();
    let mut text = DEMO.to_owned();
    for number in [1, u64::MAX] {
        for key in ["cookie", "opened", "established", "closed"] {
            fact[key] = number.into();
        }
        text.push_str(&format!("{fact}\n"));
        let at = serde_json::to_string(&Moment { boot_ns: number, wall: jiff::Timestamp::MAX }).unwrap();
        text.push_str(&format!("{{\"type\":\"lost\",\"at\":{at},\"count\":{}}}\n", u64::MAX));
    }
    text.push_str(&format!("{fact}\n"));
    let demo = replay(&text);
    let whole = Span { from: second(0), to: Moment { boot_ns: u64::MAX, wall: jiff::Timestamp::MAX } };
    assert!(Seen::of(&demo, &whole).connections.len() > 100);
    let mut cursor = ChangeCursor(0);
    while let Ok(changes) = demo.changes(cursor, Duration::ZERO, &Cancel::new()) {
        assert!(changes.next > cursor);
        cursor = changes.next;
    }
}

#[test]
fn the_counters_of_protocols_are_as_they_were_last_read() {
    let demo = replay(DEMO);
    let read = |at| demo.protocol_counters(&second(at)).unwrap();
    assert_eq!((read(0).at, read(29).at, read(30).at), (second(0), second(0), second(30)));
    assert_eq!((read(0).tcp.listen_overflows, read(30).tcp.listen_overflows), (Some(7), Some(22)));
    assert_eq!(read(30).links.len(), 4);

    let without: Vec<&str> = DEMO.lines().filter(|line| !line.contains(r#""type":"protocols""#)).collect();
    let without = replay(&format!("{}\n", without.join("\n")));
    let error = without.protocol_counters(&second(0)).unwrap_err();
    assert!(matches!(error, Error::NotInSource { .. }), "{error}");
}

#[test]
fn extreme_counters_of_a_made_up_recording_can_be_diagnosed() {
    fn exaggerate(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Number(number) => *number = u64::MAX.into(),
            serde_json::Value::Object(fields) => fields.values_mut().for_each(exaggerate),
            _ => {}
        }
    }
    let mut text = String::new();
    for line in DEMO.lines() {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        let at = line["at"]["boot_ns"].as_u64();
        if line["type"] == "protocols" && at == Some(second(30).boot_ns) {
            for part in ["tcp", "udp", "sockets", "limits"] {
                exaggerate(&mut line[part]);
            }
            for link in line["links"].as_array_mut().unwrap() {
                exaggerate(&mut link["incoming"]);
            }
        }
        text.push_str(&format!("{line}\n"));
    }
    let diagnosis = Monitor::new(replay(&text)).diagnose(&DiagnoseRequest::default(), &Control::default());
    let diagnosis = diagnosis.unwrap();
    assert!(diagnosis.findings.len() > 5, "{diagnosis}");
}

#[test]
fn hostile_text_is_cleaned_when_it_is_read() {
    let raw = DEMO
        .replace(r#""comm":"probe""#, "\"comm\":\"\\u001b[2J\u{202e}evil\"")
        .replace(r#""missing_hooks":[]"#, "")
        .replacen(r#""lost_events":0"#, "\"lost_events\":0,\"warnings\":[\"all is\\u001b[8m well\"]", 1);
    let seen = Seen::of(&replay(&raw), &span(0, 30));
    assert_eq!(seen.by(r"\x1b[2J\u{202e}evil").len(), 50);
    assert_eq!(seen.observed.warnings, [r"all is\x1b[8m well"]);
}

#[test]
fn hostile_sentences_are_cleaned_wherever_they_stand() {
    let hook = r#"{"hook":"xdp","status":"missing","reason":"no\u001b[2J","fix":"sudo\u202e rm"},"#;
    let missing = r#""version":1,"missing_hooks":[{"hook":"xdp","reason":"a\u001b]0;b","hides":"c\u200b"}]"#;
    let mut lines = DEMO.lines();
    let first = lines.next().unwrap().replacen(r#""hooks":["#, &format!(r#""hooks":[{hook}"#), 1);
    let first = first
        .replace(r#""version":1"#, missing)
        .replace(r#""kind":"live""#, r#""kind":"live","warnings":["say\u001b[31m it"]"#);
    let rest: Vec<&str> = lines.collect();
    let rest = rest.join("\n").replacen(r#""mac_address":""#, r#""mac_address":"\u001b[1m"#, 1);
    let source = replay(&format!("{first}\n{rest}\n"));
    assert_eq!(source.header().missing_hooks[0].reason, r"a\x1b]0;b");
    assert_eq!(source.header().missing_hooks[0].hides, r"c\u{200b}");
    let monitor = Monitor::new(source);
    assert_eq!(monitor.interfaces().unwrap().header.coverage.warnings, [r"say\x1b[31m it"]);
    let interfaces = serde_json::to_string(&monitor.interfaces().unwrap()).unwrap();
    assert!(interfaces.contains(r#""mac_address":"\\x1b[1m"#), "{interfaces}");
    let hooks = monitor.source().hooks().unwrap();
    assert_eq!(hooks[0].reason.as_deref(), Some(r"no\x1b[2J"));
    assert_eq!(hooks[0].fix.as_deref(), Some(r"sudo\u{202e} rm"));
}

#[test]
fn processes_are_shared_between_their_connections() {
    let seen = Seen::of(&replay(DEMO), &span(0, 30));
    let probes = seen.by("probe");
    let process = |index: usize| probes[index].0.process.as_ref().unwrap();
    assert!(std::sync::Arc::ptr_eq(process(0), process(49)));
}

fn record(
    source: ReplaySource,
    path: &Path,
    duration: Option<Duration>,
) -> netmon_core::monitor::RecordAnswer {
    let mut request = RecordRequest::new(path);
    request.duration = duration;
    Monitor::new(source).record(&request, &Control::default()).unwrap()
}

#[test]
fn a_recording_of_a_recording_tells_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("again.jsonl");
    let answer = record(replay(DEMO), &path, None);
    assert_eq!((answer.samples, answer.connections), (31, Some(106)));
    assert!(
        answer.to_string().starts_with("Recorded 31 samples and 106 connections that ended over 30 s to "),
        "{answer}"
    );
    assert!(answer.header.coverage.active_hooks.contains(&Hook::SetState));

    let (first, again) = (replay(DEMO), ReplaySource::open(&path).unwrap());
    for (from, to) in [(0, 30), (10, 20), (20, 30)] {
        assert_eq!(facts(&again, &span(from, to)), facts(&first, &span(from, to)));
    }
    assert_eq!(again.observed(None).unwrap(), first.observed(None).unwrap());
    assert_eq!(again.sockets(&second(15)).unwrap(), first.sockets(&second(15)).unwrap());
    for at in [0, 15, 30] {
        let counters = |source: &ReplaySource| source.protocol_counters(&second(at)).unwrap();
        assert_eq!(counters(&again), counters(&first));
    }
    let changes = |source: &ReplaySource| source.changes(ChangeCursor(0), Duration::ZERO, &Cancel::new());
    assert_eq!(changes(&again).unwrap(), changes(&first).unwrap());
}

#[test]
fn a_recording_ends_with_its_duration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("part.jsonl");
    let answer = record(replay(DEMO), &path, Some(Duration::from_secs(16)));
    let part = ReplaySource::open(&path).unwrap();
    assert_eq!(part.observed(None).unwrap(), Some(span(0, 16)));
    let seen = Seen::of(&part, &span(0, 16));
    let over = seen.connections.iter().filter(|(fact, _)| fact.is_over()).count();
    assert_eq!(Some(over as u64), answer.connections);
    let demo = replay(DEMO);
    let whole = Seen::of(&demo, &span(0, 16));
    assert_eq!(whole.connections.len(), seen.connections.len());
}

#[test]
fn a_recording_of_interfaces_alone_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("interfaces.jsonl");
    let lines =
        DEMO.lines().filter(|line| line.contains("format") || line.contains(r#""type":"interfaces""#));
    let text = lines.collect::<Vec<_>>().join("\n");
    let (header, rest) = text.split_once('\n').unwrap();
    let mut header: serde_json::Value = serde_json::from_str(header).unwrap();
    header.as_object_mut().unwrap().remove("observed");
    let answer = record(replay(&format!("{header}\n{rest}\n")), &path, None);
    assert_eq!(answer.connections, None);
    assert!(answer.to_string().starts_with("Recorded 31 samples over 30 s"), "{answer}");
    assert!(ReplaySource::open(&path).unwrap().observe().is_err());
}

/// A source of one's own: a recorder, and a clock that jumps.
struct Own {
    recorder: Recorder,
    second: AtomicU64,
}

impl Own {
    fn fact(cookie: u64, opened: u64, state: ConnectionState) -> ConnectionFact {
        let mut fact = ConnectionFact::new(cookie, Protocol::Tcp, state, "192.0.2.1:4000".parse().unwrap());
        fact.opened = BootTime::from_ns(second(opened).boot_ns);
        fact.closed = if fact.is_over() { BootTime::from_ns(second(opened).boot_ns + 1_000) } else { None };
        fact.traffic = Some(Traffic { packets_sent: opened, ..Traffic::default() });
        fact
    }

    fn now(&self) -> Moment {
        second(self.second.load(Ordering::Relaxed))
    }
}

impl Source for Own {
    fn describe(&self) -> SourceDescription {
        SourceDescription::new("own", "test", "none")
    }

    fn start(&self) -> Result<Moment> {
        Ok(self.now())
    }

    /// One connection a second ends, one stays open, and in the third second some are lost.
    fn wait(&self, _: &Moment, _: Duration, control: &Control<'_>) -> Result<Moment> {
        let now = self.second.fetch_add(1, Ordering::Relaxed) + 1;
        self.recorder.ended([Self::fact(100 + now, now - 1, ConnectionState::Closed)]);
        self.recorder.opened([Self::fact(200 + now, now - 1, ConnectionState::Open)]);
        if now == 3 {
            self.recorder.lost(7, &second(3));
        }
        if now == 5 {
            control.cancel.cancel();
            return Err(Error::Cancelled);
        }
        Ok(second(now))
    }

    fn interfaces(&self, _: &Moment) -> Result<InterfaceSnapshot> {
        Ok(InterfaceSnapshot::new(self.now(), vec![InterfaceFact::new(1, "lo")], None))
    }

    fn count(&self, _: InterfaceRef<'_>, _: &[Direction], _: HookChoice) -> Result<Counting> {
        Ok(Counting::default())
    }

    fn observe(&self) -> Result<Observation> {
        self.recorder.sample(&self.now(), []);
        Ok(Observation { from: self.now(), cursor: self.recorder.cursor(), guard: Box::new(()) })
    }

    fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        let told = self.recorder.visit(span, filter, &[], visit);
        let mut observed = Observed::default();
        observed.active_hooks = vec![Hook::SetState];
        (observed.lost_events, observed.forgotten) = (told.lost, told.forgotten);
        Ok(observed)
    }

    fn sockets(&self, _: &Moment) -> Result<SocketSnapshot> {
        let now = self.second.load(Ordering::Relaxed);
        let open = (1..=now).map(|opened| Self::fact(200 + opened, opened - 1, ConnectionState::Open));
        Ok(SocketSnapshot::new(second(now), open.map(SocketFact::new).collect(), Observed::default()))
    }

    fn changes(&self, after: ChangeCursor, patience: Duration, cancel: &Cancel) -> Result<Changes> {
        self.recorder.changes(after, patience, cancel)
    }
}

#[test]
fn a_source_of_ones_own_is_recorded_to_the_moment_of_cancelling() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("own.jsonl");
    let own = Own { recorder: Recorder::default(), second: AtomicU64::new(0) };
    let answer = Monitor::new(own).record(&RecordRequest::new(&path), &Control::default()).unwrap();
    assert_eq!((answer.samples, answer.connections, answer.header.coverage.lost_events), (5, Some(5), 7));
    assert_eq!(answer.header.coverage.active_hooks[1..], [Hook::SetState]);

    let again = ReplaySource::open(&path).unwrap();
    let whole = again.observed(None).unwrap().unwrap();
    assert_eq!(whole, span(0, 5));
    let seen = Seen::of(&again, &whole);
    let cookies: Vec<_> = seen.connections.iter().map(|(fact, _)| fact.cookie).collect();
    assert_eq!(cookies, [101, 102, 103, 104, 105, 201, 202, 203, 204, 205]);
    assert_eq!((seen.observed.lost_events, &seen.observed.active_hooks[..]), (7, &[Hook::SetState][..]));
    // Between the lists of sockets, what opened is known by its change.
    assert_eq!(Seen::of(&again, &span(0, 2)).count(ConnectionState::Open), 3);
}
