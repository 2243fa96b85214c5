use std::{collections::BTreeMap, thread};

use proptest::{collection::vec, prelude::*};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn moment(ns: u64) -> Moment {
    Moment { boot_ns: ns, wall: Timestamp::from_nanosecond(i128::from(ns)).unwrap() }
}

fn second(second: u64) -> Moment {
    moment(second * SECOND)
}

fn bytes(sent: u64) -> Traffic {
    Traffic { payload_bytes_sent: sent, ..Traffic::default() }
}

fn open_fact(cookie: u64, opened_ns: u64) -> ConnectionFact {
    let local = "192.0.2.1:443".parse().unwrap();
    let mut fact = ConnectionFact::new(cookie, Protocol::Tcp, ConnectionState::Open, local);
    fact.opened = BootTime::from_ns(opened_ns);
    fact.established = fact.opened;
    fact
}

fn ended_fact(cookie: u64, opened_ns: u64, closed_ns: u64) -> ConnectionFact {
    let mut fact = open_fact(cookie, opened_ns);
    fact.state = ConnectionState::Closed;
    fact.closed = BootTime::from_ns(closed_ns);
    fact
}

fn visited(
    recorder: &Recorder,
    span: &Span,
    open: &[ConnectionFact],
) -> (Vec<(ConnectionFact, Option<Traffic>)>, Recorded) {
    let mut seen = Vec::new();
    let told = recorder.visit(span, &Filter::everything(), open, &mut |sighting| {
        seen.push((sighting.fact.clone(), sighting.before));
    });
    (seen, told)
}

fn cookies(seen: &[(ConnectionFact, Option<Traffic>)]) -> Vec<u64> {
    seen.iter().map(|(fact, _)| fact.cookie).collect()
}

fn page(recorder: &Recorder, after: ChangeCursor) -> Changes {
    recorder.changes(after, Duration::ZERO, &Cancel::new()).unwrap()
}

#[test]
fn nothing_is_observed_before_the_first_sample() {
    let recorder = Recorder::default();
    recorder.ended([ended_fact(1, SECOND, 2 * SECOND)]);
    assert_eq!(recorder.observed(None, &second(9)), None);
    recorder.sample(&second(10), []);
    assert_eq!(recorder.observed(None, &second(10)), None);
    assert_eq!(recorder.observed(None, &second(11)), Some(Span { from: second(10), to: second(11) }));
}

#[test]
fn a_span_begins_at_the_sample_before_what_was_asked_for() {
    let recorder = Recorder::default();
    for at in [10, 20, 30] {
        recorder.sample(&second(at), []);
    }
    let from = |since| recorder.observed(Some(Duration::from_secs(since)), &second(35)).unwrap().from;
    assert_eq!(from(5), second(30));
    assert_eq!(from(6), second(20));
    assert_eq!(from(15), second(20));
    assert_eq!(from(25), second(10));
    assert_eq!(from(1_000), second(10), "that is when it began");
}

#[test]
fn beyond_the_hour_of_samples_a_span_begins_when_it_was_asked_to() {
    let recorder = Recorder::default();
    for minute in 0..180 {
        recorder.sample(&second(60 * minute + 1), []);
    }
    let now = second(180 * 60);
    let from = |minutes: u64| recorder.observed(Some(Duration::from_secs(minutes * 60)), &now).unwrap().from;
    assert_eq!(from(30), second(149 * 60 + 1));
    assert_eq!(from(120), second(60 * 60));
    assert_eq!(from(500), second(1));
}

#[test]
fn what_was_open_at_the_beginning_has_its_counters_then() {
    let recorder = Recorder::default();
    let (long, other) = (open_fact(1, SECOND), open_fact(2, SECOND));
    recorder.sample(&second(10), [(long.id(), bytes(100)), (other.id(), bytes(7))]);
    recorder.sample(&second(20), [(long.id(), bytes(100)), (other.id(), bytes(9))]);
    let mut over = ended_fact(2, SECOND, 25 * SECOND);
    over.traffic = Some(bytes(11));
    recorder.ended([over, ended_fact(3, 21 * SECOND, 24 * SECOND)]);

    let span = Span { from: second(20), to: second(30) };
    let (seen, _) = visited(&recorder, &span, std::slice::from_ref(&long));
    assert_eq!(cookies(&seen), [3, 2, 1], "in the order of their ends, then the open");
    assert_eq!(
        seen.iter().map(|(_, before)| *before).collect::<Vec<_>>(),
        [None, Some(bytes(9)), Some(bytes(100))]
    );
}

#[test]
fn a_flow_that_is_listed_as_idle_has_ended_when_it_was_last_seen() {
    let recorder = Recorder::default();
    recorder.sample(&second(10), []);
    let idle = |cookie, seconds: u64| ConnectionFact {
        closed_by: Some(ClosedBy::Idle),
        ..ended_fact(cookie, SECOND, seconds * SECOND)
    };
    // Of two the end is recorded too.
    recorder.ended([idle(2, 15), idle(4, 25)]);
    let listed = [idle(1, 15), idle(2, 15), idle(3, 10), idle(4, 25), idle(5, 25)];
    let span = Span { from: second(10), to: second(20) };
    let (seen, _) = visited(&recorder, &span, &listed);
    let states: Vec<_> = seen.iter().map(|(fact, _)| (fact.cookie, fact.state, fact.closed_by)).collect();
    let closed = |cookie| (cookie, ConnectionState::Closed, Some(ClosedBy::Idle));
    let still_open = |cookie| (cookie, ConnectionState::Open, None);
    assert_eq!(states[1..], [closed(1), still_open(4), still_open(5)], "the third ended before");
    assert_eq!(states[0].0, 2);
}

#[test]
fn what_ended_while_the_open_were_listed_is_visited_once() {
    let recorder = Recorder::default();
    recorder.sample(&second(10), []);
    let to = second(20);
    let listed = open_fact(1, SECOND);
    recorder.ended([
        ended_fact(1, SECOND, 20 * SECOND - 1_000), // listed just before
        ended_fact(2, SECOND, 20 * SECOND + 1_000), // not reached by the listing before it ended
        ended_fact(3, 20 * SECOND + 10, 20 * SECOND + 2_000), // not in the span at all
    ]);
    let (seen, _) = visited(
        &recorder,
        &Span { from: second(10), to },
        &[listed, open_fact(4, SECOND), open_fact(5, 20 * SECOND + 1)],
    );
    assert_eq!(cookies(&seen), [1, 2, 4]);
    assert_eq!(
        (seen[0].0.state, seen[1].0.state, seen[1].0.closed),
        (ConnectionState::Closed, ConnectionState::Open, None)
    );

    let (seen, _) = visited(&recorder, &Span { from: to, to: second(21) }, &[open_fact(4, SECOND)]);
    assert_eq!(cookies(&seen), [2, 3, 4], "and again in the next window, where it ended");
}

#[test]
fn listeners_are_not_connections() {
    let recorder = Recorder::default();
    let mut listener = open_fact(1, SECOND);
    listener.state = ConnectionState::Listening;
    let (seen, _) = visited(&recorder, &Span { from: second(1), to: second(2) }, &[listener]);
    assert!(seen.is_empty());
}

#[test]
fn losses_are_told_for_their_time() {
    let recorder = Recorder::default();
    recorder.lost(5, &second(10));
    recorder.lost(7, &second(20));
    let lost = |from, to| visited(&recorder, &Span { from: second(from), to: second(to) }, &[]).1.lost;
    assert_eq!((lost(5, 15), lost(10, 20), lost(5, 25), lost(20, 30)), (5, 7, 12, 0));
    // What is found to be lost may have been lost ever since somebody looked before.
    recorder.lost_since(&second(30), 11, &second(40));
    assert_eq!((lost(20, 30), lost(25, 31), lost(32, 35), lost(39, 50), lost(40, 50)), (0, 11, 11, 11, 0));
    let changes = page(&recorder, ChangeCursor(0));
    assert_eq!((changes.connections.len(), changes.missed, changes.next), (0, 23, recorder.cursor()));
    assert_eq!(changes.at, second(40));
}

#[test]
fn an_open_connection_whose_end_was_lost_leaves_no_history() {
    let recorder = Recorder::default();
    recorder.sample(&second(1), (0..1_000).map(|cookie| (open_fact(cookie, 1).id(), bytes(1))));
    for at in 2..8 {
        recorder.sample(&second(at), []);
    }
    let state = recorder.read();
    assert_eq!((state.open.len(), state.history_bytes), (0, 0));
}

#[test]
fn samples_become_sparse_with_age() {
    let recorder = Recorder::default();
    let id = open_fact(1, 1).id();
    for at in 1..=3 * 3_600 {
        recorder.sample(&second(at), [(id, bytes(at))]);
    }
    let state = recorder.read();
    let kept = state.samples.len();
    assert!((360 + 54..=360 + 120).contains(&kept), "{kept} samples");
    assert!(state.open[&id].points.len() <= kept + 60, "{} points", state.open[&id].points.len());
}

#[test]
fn histories_of_many_busy_connections_keep_within_the_memory() {
    let recorder = Recorder::new(Recorder::SMALLEST_MEMORY_LIMIT);
    for at in 1..200 {
        let open = (0..1_000).map(|cookie| (open_fact(cookie, 1).id(), bytes(at * 10 + cookie)));
        recorder.sample(&second(at), open);
    }
    assert!(recorder.memory() <= Recorder::SMALLEST_MEMORY_LIMIT, "{}", recorder.memory());
    let span = recorder.observed(None, &second(200)).unwrap();
    let (seen, _) = visited(&recorder, &span, &[open_fact(5, 1)]);
    assert_eq!((span.from, seen[0].1), (second(1), Some(bytes(15))));
}

#[test]
fn memory_counts_what_facts_share_once() {
    let mut process = Process::new(1, "curl");
    process.cmdline = Some("x".repeat(200).into());
    let shared = Arc::new(process.clone());
    let with = |process: &mut dyn FnMut() -> Arc<Process>| {
        let recorder = Recorder::default();
        recorder.ended((0..1_000).map(|cookie| {
            let mut fact = ended_fact(cookie, 1, 2 + cookie);
            fact.process = Some(process());
            fact
        }));
        recorder.memory()
    };
    let one = with(&mut || Arc::clone(&shared));
    let each = with(&mut || Arc::new(process.clone()));
    assert!(each - one > 1_000 * 350, "{one} {each}");
}

#[test]
fn a_cleared_recorder_begins_anew_and_cursors_stay_good() {
    let recorder = Recorder::default();
    recorder.sample(&second(1), []);
    recorder.ended([ended_fact(1, 1, 2)]);
    recorder.clear();
    assert_eq!(recorder.observed(None, &second(9)), None);
    recorder.ended([ended_fact(2, 1, 3)]);
    let changes = page(&recorder, ChangeCursor(0));
    assert_eq!((changes.connections.len(), changes.missed), (1, 1));
}

#[test]
fn a_waiting_reader_hears_of_the_next_change_at_once() {
    let recorder = Arc::new(Recorder::default());
    let writer = Arc::clone(&recorder);
    let start = Instant::now();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        writer.opened([open_fact(1, SECOND)]);
    });
    let changes = recorder.changes(ChangeCursor(0), Duration::from_secs(60), &Cancel::new()).unwrap();
    assert_eq!(changes.connections.len(), 1);
    assert!(start.elapsed() < Duration::from_secs(30));
    thread.join().unwrap();
}

#[test]
fn a_waiting_reader_can_be_cancelled_and_has_patience() {
    let recorder = Recorder::default();
    let nothing = recorder.changes(ChangeCursor(99), Duration::from_millis(20), &Cancel::new()).unwrap();
    assert_eq!((nothing.connections.len(), nothing.missed, nothing.next), (0, 0, ChangeCursor(0)));

    let cancel = Cancel::new();
    let canceller = cancel.clone();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        canceller.cancel();
    });
    let patience = Duration::from_secs(60);
    assert!(matches!(recorder.changes(ChangeCursor(0), patience, &cancel), Err(Error::Cancelled)));
    thread.join().unwrap();
}

#[test]
fn a_long_ago_tally_becomes_coarse_and_loses_nothing() {
    let mut tally = Tally::with_grain(Duration::from_secs(1));
    for at in 1..=2 * TALLY as u64 {
        tally.add(at * SECOND, 3);
    }
    assert_eq!(tally.within(0, u64::MAX), 6 * TALLY as u64);
    assert!(tally.counts.len() <= TALLY);
    assert_eq!(tally.within((2 * TALLY as u64 - 5) * SECOND, u64::MAX), 15);
}

#[derive(Debug, Clone)]
enum Step {
    Open(u64),
    Send(u64, u64),
    End(u64),
    Sample,
    Deliver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..6_u64).prop_map(Step::Open),
        3 => (0..6_u64, 1..100_u64).prop_map(|(cookie, sent)| Step::Send(cookie, sent)),
        3 => (0..6_u64).prop_map(Step::End),
        2 => Just(Step::Sample),
        1 => Just(Step::Deliver),
    ]
}

/// What happened, without any cleverness.
#[derive(Default)]
struct Model {
    now: u64,
    open: BTreeMap<u64, ConnectionFact>,
    over: Vec<ConnectionFact>,
    pending: Vec<ConnectionFact>,
    samples: Vec<(u64, BTreeMap<ConnectionId, Traffic>)>,
}

impl Model {
    fn step(&mut self, step: &Step, recorder: &Recorder) {
        self.now += SECOND / 4;
        match step {
            Step::Open(cookie) => {
                let mut fact = open_fact(*cookie, self.now);
                fact.traffic = Some(Traffic::default());
                self.open.entry(*cookie).or_insert(fact);
            }
            Step::Send(cookie, sent) => {
                if let Some(fact) = self.open.get_mut(cookie) {
                    fact.traffic.as_mut().unwrap().add(&bytes(*sent));
                }
            }
            Step::End(cookie) => {
                if let Some(mut fact) = self.open.remove(cookie) {
                    fact.closed = BootTime::from_ns(self.now);
                    fact.state = ConnectionState::Closed;
                    // Reversed, so that they come out of order.
                    self.pending.insert(0, fact.clone());
                    self.over.push(fact);
                }
            }
            Step::Sample => {
                let counters: BTreeMap<_, _> =
                    self.open.values().map(|fact| (fact.id(), fact.traffic.unwrap())).collect();
                recorder.sample(&moment(self.now), counters.clone());
                self.samples.push((self.now, counters));
                if self.samples.len().is_multiple_of(2) {
                    recorder.ended(self.pending.drain(..));
                }
            }
            // One by one, so that batches overlap.
            Step::Deliver => recorder.ended(self.pending.pop()),
        }
    }
}

proptest! {
    /// Every window between two samples has each connection that was open in it once, with the counters of its start.
    #[test]
    fn windows_are_as_a_naive_model_has_them(steps in vec(step(), 1..120)) {
        let recorder = Recorder::default();
        let mut model = Model::default();
        for step in &steps {
            model.step(step, &recorder);
        }
        recorder.ended(model.pending.drain(..));
        model.now += 1;
        let open: Vec<_> = model.open.values().cloned().collect();

        let ends: Vec<u64> = model.samples.iter().map(|(at, _)| *at).chain([model.now]).collect();
        for (from, counters) in &model.samples {
            for to in ends.iter().filter(|to| *to > from) {
                let (seen, told) = visited(&recorder, &Span { from: moment(*from), to: moment(*to) }, &open);
                prop_assert_eq!(told, Recorded::default());

                let closed = |fact: &ConnectionFact| fact.closed.map(BootTime::ns);
                let over: Vec<_> = model.over.iter().filter(|fact| {
                    closed(fact).is_some_and(|closed| closed > *from && closed <= *to)
                }).cloned().collect();
                let told_over: Vec<_> = seen.iter().map(|(fact, _)| fact.clone()).take(over.len()).collect();
                prop_assert_eq!(&told_over, &over);

                let mut still: Vec<_> = model.over.iter().chain(&open).filter(|fact| {
                    fact.opened.unwrap().ns() <= *to && closed(fact).is_none_or(|closed| closed > *to)
                }).map(ConnectionFact::id).collect();
                let mut told_still: Vec<_> = seen[over.len()..].iter().map(|(fact, _)| fact.id()).collect();
                still.sort();
                told_still.sort();
                prop_assert_eq!(told_still, still);

                for (fact, before) in &seen {
                    prop_assert_eq!(*before, counters.get(&fact.id()).copied());
                    prop_assert_eq!(fact.is_over(), fact.closed.is_some());
                }
            }
        }
    }

    /// However samples were thinned, the span that is given has the counters of its beginning.
    #[test]
    fn thinned_samples_still_tell_the_truth(
        gaps in vec((1..400_u64, vec(0..3_u64, 4)), 2..300),
        since in vec(0..9_000_u64, 1..20),
        limit in prop_oneof![Just(usize::MAX), 3_000..12_000_usize],
    ) {
        let recorder = Recorder::with(limit, true);
        let ids: Vec<_> = (0..4).map(|cookie| open_fact(cookie, 1)).collect();
        let mut sent = vec![0; 4];
        let mut now = 1;
        let mut model = BTreeMap::new();
        for (gap, more) in &gaps {
            now += gap;
            for (sent, more) in sent.iter_mut().zip(more) {
                *sent += more;
            }
            recorder.sample(&second(now), ids.iter().zip(&sent).map(|(fact, sent)| (fact.id(), bytes(*sent))));
            model.insert(now * SECOND, sent.clone());
        }
        for since in since {
            let span = recorder.observed(Some(Duration::from_secs(since)), &second(now + 1)).unwrap();
            let target = second((now + 1).saturating_sub(since)).boot_ns;
            prop_assert!(span.from.boot_ns <= target || span.from == recorder.read().began.unwrap());
            let (seen, _) = visited(&recorder, &span, &ids);
            for ((_, before), index) in seen.iter().zip(0..) {
                match model.get(&span.from.boot_ns) {
                    Some(counters) if before.is_some() => prop_assert_eq!(*before, Some(bytes(counters[index]))),
                    _ => prop_assert!(before.is_none() && since > 3_600, "{since} {before:?}"),
                }
            }
        }
    }

    /// Whatever is forgotten, and in whatever order it came: all that ended is visited or counted.
    #[test]
    fn what_ended_is_visited_or_counted_as_forgotten(
        batches in vec(vec((0..5_000_u64, 0..3_u64), 0..40), 1..20),
        limit in 6_000..60_000_usize,
    ) {
        let recorder = Recorder::with(limit, true);
        let mut all = 0;
        let mut base = 10 * SECOND;
        for batch in &batches {
            base += SECOND;
            recorder.ended(batch.iter().zip(all..).map(|((offset, process), cookie)| {
                let mut fact = ended_fact(cookie, 1, base - offset * 1_000_000);
                fact.process = (*process > 0).then(|| Arc::new(Process::new(*process as u32, "p")));
                fact
            }));
            all += batch.len() as u64;
            prop_assert!(recorder.memory() <= limit, "{} of {limit}", recorder.memory());

            let whole = Span { from: moment(0), to: moment(base) };
            let (seen, told) = visited(&recorder, &whole, &[]);
            prop_assert_eq!(seen.len() as u64 + told.forgotten, all);
            prop_assert!(seen.is_sorted_by_key(|(fact, _)| fact.closed));
            let mut numbers = cookies(&seen);
            numbers.sort_unstable();
            numbers.dedup();
            prop_assert_eq!(numbers.len(), seen.len());
        }
        // A window tells at least what it lacks.
        let from = base - 2 * SECOND;
        let (seen, told) = visited(&recorder, &Span { from: moment(from), to: moment(base) }, &[]);
        let mut ended = 0;
        for (batch, index) in batches.iter().zip(1..) {
            let base = (10 + index) * SECOND;
            ended += batch.iter().filter(|(offset, _)| base - offset * 1_000_000 > from).count() as u64;
        }
        prop_assert!(seen.len() as u64 + told.forgotten >= ended);
        let state = recorder.read();
        prop_assert_eq!(state.order.len(), state.ended.len());
        let held: u32 = state.shared.held.values().map(|(count, _)| count).sum();
        let holding = (0..state.ended.len() as u64)
            .filter(|index| state.ended.get(state.ended.base + index).unwrap().fact.process.is_some());
        prop_assert_eq!(held as usize, holding.count());
    }

    /// Readers at any pace get every change once and in order, or a count of those they missed.
    #[test]
    fn changes_are_read_in_order_or_counted_as_missed(
        steps in vec((0..4_u8, 1..9_u64), 1..150),
        limit in prop_oneof![Just(usize::MAX), 6_000..40_000_usize],
    ) {
        let recorder = Recorder::with(limit, true);
        let (mut next, mut cursor, mut received, mut missed) = (1, ChangeCursor(0), Vec::new(), 0);
        let mut read = |received: &mut Vec<u64>| {
            let changes = page(&recorder, cursor);
            missed += changes.missed;
            cursor = changes.next;
            received.extend(changes.connections.iter().map(|fact| fact.cookie));
        };
        for (kind, count) in steps {
            // A cookie is the number of its change.
            let numbers = next..next + count;
            match kind {
                0 => recorder.ended(numbers.map(|number| ended_fact(number, 1, 1_000_000 - number))),
                1 => recorder.opened(numbers.map(|number| open_fact(number, number))),
                2 => recorder.lost(count, &moment(next)),
                _ => {
                    read(&mut received);
                    continue;
                }
            }
            next += count;
        }
        read(&mut received);
        prop_assert!(received.is_sorted_by(|one, other| one < other), "{received:?}");
        prop_assert_eq!(received.len() as u64 + missed, next - 1);
        prop_assert_eq!(cursor, recorder.cursor());
    }
}
