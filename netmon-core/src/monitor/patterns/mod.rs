//! Where connections go, and what stands out in them. Each finding says by which numbers; [`thresholds`] has the limits.

mod answer;
mod bursts;
mod collect;
mod failures;
mod periodicity;
mod scans;
pub(in crate::monitor) mod statistics;
pub mod thresholds;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    time::Duration,
};

pub use answer::*;
pub(super) use collect::destination_of;
use collect::{Collected, NO_DESTINATION, Outcome, Seen};
use jiff::{SignedDuration, Timestamp};
use thresholds::{LEAST_BASELINE, LISTED, MOST_FINDINGS};

use super::observe::{self, Scope};
use crate::{
    answer::{Coverage, Header},
    control::Control,
    error::Result,
    fact::BootTime,
    request::PatternsRequest,
    source::{Sighting, Source, Span},
    view::units,
};

/// Answers a request; see [`Monitor::patterns`](crate::Monitor::patterns).
pub(super) fn patterns(
    source: &dyn Source,
    request: &PatternsRequest,
    control: &Control<'_>,
) -> Result<PatternsAnswer> {
    request.check()?;
    let description = source.describe();
    let scope = Scope::new(&request.filter, &[], source, &control.cancel)?;
    let watched = observe::watch(source, request.since, request.window, control)?;
    let span = watched.span;

    let mut finder = Finder::new(span);
    let observed = source.connections(&span, &scope.filter, &mut |sighting| {
        if scope.takes(sighting.fact) {
            finder.add(sighting);
        }
    })?;
    let earlier = earlier_destinations(source, &span, &scope)?;
    let header = observe::header(description, &watched, observed, false);
    Ok(finder.finish(header, earlier.as_ref()))
}

/// Finds patterns in the connections of a span that it is shown, for all answers that need them.
pub(super) struct Finder {
    span: Span,
    collected: Collected,
}

impl Finder {
    pub(super) fn new(span: Span) -> Self {
        Self { span, collected: Collected::new(span) }
    }

    pub(super) fn add(&mut self, sighting: Sighting<'_>) {
        self.collected.add(sighting);
    }

    /// What was found, and in the header what could not be looked at.
    pub(super) fn finish(
        self,
        mut header: Header,
        earlier: Option<&(Duration, HashSet<Destination>)>,
    ) -> PatternsAnswer {
        let collected = self.collected.finish();
        let coverage = &mut header.coverage;
        if collected.left_out() > 0 {
            coverage.truncated = true;
            coverage.warnings.push(format!(
                "{} beyond the first {} are in the protocols only, and were not looked at for anything else",
                units::counted(collected.left_out(), "connection"),
                units::count(collected.seen.len() as u64),
            ));
        }
        answer(header, &collected, &self.span, earlier)
    }
}

/// The destinations of as long a time before, and how long that was. `None` where it was not observed.
fn earlier_destinations(
    source: &dyn Source,
    span: &Span,
    scope: &Scope,
) -> Result<Option<(Duration, HashSet<Destination>)>> {
    let length = span.to.since(&span.from);
    let Some(twice) = source.observed(Some(length.saturating_mul(2)))? else { return Ok(None) };
    let before = Span { from: twice.from, to: span.from };
    let observed = before.to.since(&before.from);
    if length.is_zero() || observed.as_secs_f64() < LEAST_BASELINE * length.as_secs_f64() {
        return Ok(None);
    }
    let mut result = Ok(());
    let all = collect::destinations(|visit| {
        let mut taken = |sighting: Sighting<'_>| {
            if scope.takes(sighting.fact) {
                visit(sighting);
            }
        };
        result = source.connections(&before, &scope.filter, &mut taken).map(drop);
    });
    result.map(|()| Some((observed, all)))
}

/// The wall clock at a moment of a span.
fn wall(span: &Span, boot_ns: u64) -> Timestamp {
    let passed = boot_ns.saturating_sub(span.from.boot_ns);
    let passed = SignedDuration::from_nanos(i64::try_from(passed).unwrap_or(i64::MAX));
    span.from.wall.checked_add(passed).unwrap_or(span.to.wall)
}

fn answer(
    mut header: Header,
    collected: &Collected,
    span: &Span,
    earlier: Option<&(Duration, HashSet<Destination>)>,
) -> PatternsAnswer {
    let periodicity = periodicity::find(collected, span.from.boot_ns);
    let seconds_in = |seconds: f64| {
        let passed = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_nanos();
        wall(span, span.from.boot_ns.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    };
    let mut periodic: Vec<Periodicity> = periodicity
        .series
        .iter()
        .map(|series| Periodicity {
            process: collected.owners[series.owner as usize].clone(),
            destination: collected.destinations[series.destination as usize],
            interval_seconds: series.beats.interval,
            jitter: series.beats.jitter,
            beats: series.beats.beats as u64,
            missed: series.beats.missed as u64,
            other_attempts: series.beats.others as u64,
            from: seconds_in(series.beats.first),
            to: seconds_in(series.beats.last),
            score: series.beats.score,
            threshold: periodicity.threshold,
        })
        .collect();
    let mut failures = failures::frequent(collected);
    let mut bursts = bursts::find(collected, span);
    let mut scans = scans::find(collected, span);
    bursts.sort_by_key(|burst| Reverse(burst.attempts));
    limit(&mut header.coverage, &mut failures, "frequent failures", MOST_FINDINGS);
    limit(&mut header.coverage, &mut bursts, "bursts", MOST_FINDINGS);
    limit(&mut header.coverage, &mut scans, "scans", MOST_FINDINGS);
    limit(&mut header.coverage, &mut periodic, "periodic series", MOST_FINDINGS);
    bursts.sort_by_key(|burst| burst.at);

    let Top { distinct: distinct_destinations, first: destinations, other: destinations_other } =
        top_destinations(collected);
    let Top { distinct: distinct_processes, first: processes, other: processes_other } =
        top_processes(collected);
    PatternsAnswer {
        header,
        connections: collected.connections,
        attempts: collected.seen.iter().filter(|seen| seen.is_attempt()).count() as u64,
        begun_before: collected.begun_before,
        distinct_destinations,
        destinations,
        destinations_other,
        protocols: protocols(collected),
        distinct_processes,
        processes,
        processes_other,
        failure_ratio: failures::overall(collected),
        failures,
        bursts,
        periodic_tested: periodicity.tested,
        periodic,
        scans,
        new_destinations: earlier.map(|(length, known)| new_destinations(collected, span, *length, known)),
        rows: Rows::default(),
    }
}

/// Keeps as many findings as are told, and says how many others there are.
fn limit<T>(coverage: &mut Coverage, findings: &mut Vec<T>, what: &str, most: usize) {
    let others = findings.len().saturating_sub(most);
    if others > 0 {
        findings.truncate(most);
        coverage.truncated = true;
        coverage.warnings.push(format!("{} more {what} are not shown", units::count(others as u64)));
    }
}

/// Counts of some connections.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    connections: u64,
    failed: u64,
    bytes: Option<(u64, u64)>,
}

impl Sum {
    fn of<'a>(seen: impl Iterator<Item = &'a Seen>) -> Self {
        let mut sum = Self::default();
        for seen in seen {
            sum.connections += 1;
            sum.failed += u64::from(seen.outcome == Outcome::Failed);
            if seen.bytes_known {
                let (sent, received) = sum.bytes.get_or_insert_default();
                *sent = sent.saturating_add(seen.sent);
                *received = received.saturating_add(seen.received);
            }
        }
        sum
    }

    /// Most connections first, then most bytes.
    fn order(&self) -> Reverse<(u64, u64)> {
        let bytes = self.bytes.map_or(0, |(sent, received)| sent.saturating_add(received));
        Reverse((self.connections, bytes))
    }
}

/// How many there are, the first of them, and what the others come to.
struct Top<T> {
    distinct: u64,
    first: Vec<T>,
    other: Option<OtherConnections>,
}

fn top<T>(seen: &[Seen], key: impl Fn(&Seen) -> Option<u32>, item: impl Fn(u32, Sum) -> T) -> Top<T> {
    let mut keyed: Vec<(u32, &Seen)> = seen.iter().filter_map(|seen| Some((key(seen)?, seen))).collect();
    keyed.sort_unstable_by_key(|(key, _)| *key);
    let mut sums: Vec<(u32, Sum)> = keyed
        .chunk_by(|a, b| a.0 == b.0)
        .map(|group| (group[0].0, Sum::of(group.iter().map(|(_, seen)| *seen))))
        .collect();
    // Numbers are in the order of being seen, so that equal ones stay in it.
    sums.sort_by_key(|(key, sum)| (sum.order(), *key));
    let mut other = None;
    for (_, sum) in sums.iter().skip(LISTED) {
        OtherConnections::add(&mut other, sum.connections, sum.failed);
    }
    let distinct = sums.len() as u64;
    Top { distinct, first: sums.into_iter().take(LISTED).map(|(key, sum)| item(key, sum)).collect(), other }
}

fn top_destinations(collected: &Collected) -> Top<TopDestination> {
    top(
        &collected.seen,
        |seen| (seen.destination != NO_DESTINATION).then_some(seen.destination),
        |number, sum| TopDestination {
            destination: collected.destinations[number as usize],
            connections: sum.connections,
            failed: sum.failed,
            payload_bytes_sent: sum.bytes.map(|(sent, _)| sent),
            payload_bytes_received: sum.bytes.map(|(_, received)| received),
        },
    )
}

fn top_processes(collected: &Collected) -> Top<TopProcess> {
    top(
        &collected.seen,
        |seen| Some(seen.owner),
        |number, sum| TopProcess {
            process: collected.owners[number as usize].clone(),
            connections: sum.connections,
            failed: sum.failed,
            payload_bytes_sent: sum.bytes.map(|(sent, _)| sent),
            payload_bytes_received: sum.bytes.map(|(_, received)| received),
        },
    )
}

fn protocols(collected: &Collected) -> Vec<ProtocolShare> {
    let mut protocols: Vec<ProtocolShare> = collected
        .protocols
        .iter()
        .map(|(protocol, count)| ProtocolShare {
            protocol: *protocol,
            connections: count.connections,
            payload_bytes_sent: count.bytes.map(|bytes| bytes.payload_bytes_sent),
            payload_bytes_received: count.bytes.map(|bytes| bytes.payload_bytes_received),
        })
        .collect();
    protocols.sort_by_key(|share| share.protocol);
    protocols
}

fn new_destinations(
    collected: &Collected,
    span: &Span,
    baseline: Duration,
    known: &HashSet<Destination>,
) -> NewDestinations {
    struct First {
        at: BootTime,
        owner: u32,
        connections: u64,
    }
    let mut firsts: HashMap<u32, First> = HashMap::new();
    for seen in &collected.seen {
        let Some(at) = seen.begun.filter(|_| seen.destination != NO_DESTINATION) else { continue };
        if known.contains(&collected.destinations[seen.destination as usize]) {
            continue;
        }
        let first = firsts.entry(seen.destination).or_insert(First { at, owner: seen.owner, connections: 0 });
        first.connections += 1;
        if at < first.at {
            (first.at, first.owner) = (at, seen.owner);
        }
    }
    let total = firsts.len() as u64;
    let mut firsts: Vec<(u32, First)> = firsts.into_iter().collect();
    firsts.sort_by_key(|(number, first)| (Reverse(first.connections), first.at, *number));
    let destinations = firsts.into_iter().take(LISTED).map(|(number, first)| NewDestination {
        destination: collected.destinations[number as usize],
        process: collected.owners[first.owner as usize].clone(),
        first_seen: wall(span, first.at.ns()),
        connections: first.connections,
    });
    NewDestinations { baseline_seconds: baseline.as_secs_f64(), total, destinations: destinations.collect() }
}
