//! What was dropped until when: the counts of a source, read from time to time.
//!
//! Counts only grow, so a window is the difference of two readings. Of each kind only the readings that changed it are
//! kept; beyond a limit the oldest are forgotten, and what can be asked about begins later.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{DropSighting, Span, recorder::nanoseconds};
use crate::{
    clean::CleanText,
    fact::{AddressFamily, BootTime, Direction, DropCounts, DropFact, Moment, Protocol},
    filter::Filter,
};

/// How many changes are kept, unless there is a limit of memory that allows fewer: some megabytes.
const MOST_CHANGES: usize = 100_000;
const LEAST_CHANGES: usize = 25_000;
/// Each may take one part of such a limit out of so many bytes.
const CHANGE_SHARE: usize = 640;
/// How many readings are: a week of one every ten seconds.
const MOST_READINGS: usize = 60_480;

/// What drops are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    reason: Option<CleanText>,
    direction: Direction,
    protocol: Option<Protocol>,
    family: Option<AddressFamily>,
    netns: u32,
    /// What else is known of a process may change.
    process: Option<(u32, Option<BootTime>)>,
    local_port: Option<u16>,
}

impl Kind {
    fn of(fact: &DropFact) -> Self {
        Self {
            reason: fact.reason.clone(),
            direction: fact.direction,
            protocol: fact.protocol,
            family: fact.family,
            netns: fact.netns,
            process: fact.process.as_ref().map(|process| (process.pid, process.started)),
            local_port: fact.local_port,
        }
    }

    /// Those of all processes and ports.
    fn without_details(&self) -> Self {
        Self { process: None, local_port: None, ..self.clone() }
    }
}

/// The drops of one kind.
#[derive(Debug)]
struct Series {
    /// As it was read last.
    fact: DropFact,
    /// What is counted elsewhere by now, and belongs to it.
    carried: DropCounts,
    /// The counts after each reading that changed them, by its time.
    changes: VecDeque<(u64, DropCounts)>,
}

impl Series {
    fn begin(fact: DropFact) -> Self {
        Self { fact, carried: DropCounts::default(), changes: VecDeque::new() }
    }

    fn at(&self, ns: u64) -> DropCounts {
        let after = self.changes.partition_point(|(at, _)| *at <= ns);
        after.checked_sub(1).map(|index| self.changes[index].1).unwrap_or_default()
    }

    fn latest(&self) -> DropCounts {
        self.changes.back().map(|(_, counts)| *counts).unwrap_or_default()
    }

    /// Adds another's counts to this one's, at all times.
    fn merge(&mut self, other: &Self) {
        let mut times: Vec<u64> = self.changes.iter().chain(&other.changes).map(|(at, _)| *at).collect();
        times.sort_unstable();
        times.dedup();
        self.changes = times.into_iter().map(|at| (at, self.at(at).plus(&other.at(at)))).collect();
        self.carried = self.carried.plus(&other.latest());
        self.fact.first = self.fact.first.min(other.fact.first).or(other.fact.first);
        if other.fact.last > self.fact.last {
            self.fact.last = other.fact.last;
            self.fact.peer = other.fact.peer;
        }
    }
}

/// What was lost until a reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Packets that are in no count.
    pub(super) packets: u64,
    /// Packets that are counted without process and port.
    pub(super) details: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct DropHistory {
    series: HashMap<Kind, Series>,
    readings: VecDeque<Moment>,
    changes: usize,
    most_changes: usize,
    lost: VecDeque<(u64, Lost)>,
}

impl Default for DropHistory {
    fn default() -> Self {
        Self::within(usize::MAX)
    }
}

impl DropHistory {
    /// One that takes memory in proportion to what the recorder may take.
    pub(super) fn within(recorder_limit: usize) -> Self {
        Self {
            series: HashMap::new(),
            readings: VecDeque::new(),
            changes: 0,
            most_changes: (recorder_limit / CHANGE_SHARE).clamp(LEAST_CHANGES, MOST_CHANGES),
            lost: VecDeque::new(),
        }
    }

    /// Takes a reading of all kinds. Those that are equal here though not where they were counted are one.
    pub(super) fn record(&mut self, at: Moment, drops: impl IntoIterator<Item = DropFact>, lost: Lost) {
        let mut read: HashMap<Kind, DropFact> = HashMap::new();
        for drop in drops {
            match read.get_mut(&Kind::of(&drop)) {
                None => {
                    read.insert(Kind::of(&drop), drop);
                }
                Some(known) => {
                    let counts = known.counts.plus(&drop.counts);
                    let first = known.first.min(drop.first);
                    if drop.last > known.last {
                        *known = drop;
                    }
                    (known.counts, known.first) = (counts, first);
                }
            }
        }
        for (kind, fact) in read {
            let series = self.series.entry(kind).or_insert_with(|| Series::begin(fact.clone()));
            let first = series.fact.first.filter(|first| fact.first.is_none_or(|newer| *first < newer));
            let counts = fact.counts.plus(&series.carried);
            series.fact = fact;
            series.fact.first = first.or(series.fact.first);
            if counts != series.latest() {
                series.changes.push_back((at.boot_ns, counts));
                self.changes += 1;
            }
        }
        if self.lost.back().is_none_or(|(_, before)| *before != lost) {
            self.lost.push_back((at.boot_ns, lost));
        }
        self.readings.push_back(at);
        self.forget();
    }

    /// Stops telling these apart by process and port, because where they are counted there is no room for all of them.
    pub(super) fn merge(&mut self, drops: impl IntoIterator<Item = DropFact>) {
        for drop in drops {
            let kind = Kind::of(&drop);
            let rest = kind.without_details();
            if kind == rest {
                continue;
            }
            let Some(merged) = self.series.remove(&kind) else { continue };
            let series = self.series.entry(rest).or_insert_with(|| {
                Series::begin(DropFact { process: None, local_port: None, ..merged.fact.clone() })
            });
            self.changes -= merged.changes.len() + series.changes.len();
            series.merge(&merged);
            self.changes += series.changes.len();
        }
    }

    fn forget(&mut self) {
        let mut first = self.readings.len().saturating_sub(MOST_READINGS);
        if self.changes > self.most_changes {
            first = first.max(self.readings.len() / 4);
        }
        self.readings.drain(..first);
        let Some(begin) = self.readings.front().filter(|_| first > 0) else { return };
        for series in self.series.values_mut() {
            // The last at or before the beginning stays, for differences from it.
            let before = series.changes.partition_point(|(at, _)| *at <= begin.boot_ns);
            series.changes.drain(..before.saturating_sub(1));
        }
        self.changes = self.series.values().map(|series| series.changes.len()).sum();
        let before = self.lost.partition_point(|(at, _)| *at <= begin.boot_ns);
        self.lost.drain(..before.saturating_sub(1));
    }

    /// When it was read last.
    pub(super) fn last_reading(&self) -> Option<Moment> {
        self.readings.back().copied()
    }

    /// The time up to `now` of which differences are known, at most the last `since` of it and what leads to a reading.
    pub(super) fn observed(&self, since: Option<Duration>, now: &Moment) -> Option<Span> {
        let wanted = since.map_or(0, |since| now.boot_ns.saturating_sub(nanoseconds(since)));
        let after = self.readings.partition_point(|reading| reading.boot_ns <= wanted);
        let from = *self.readings.get(after.saturating_sub(1))?;
        Some(Span { from, to: *now })
    }

    /// Tells of every kind, with its counts at the first reading at or after the end of a span, and those at its
    /// beginning. Returns what was lost in between.
    pub(super) fn visit(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(DropSighting<'_>),
    ) -> Lost {
        let end = self.readings.partition_point(|reading| reading.boot_ns < span.to.boot_ns);
        let end = self.readings.get(end).map_or(span.to.boot_ns, |reading| reading.boot_ns);
        for series in self.series.values().filter(|series| filter.matches_drop(&series.fact)) {
            let counts = series.at(end);
            if counts.packets > 0 {
                let fact = DropFact { counts, ..series.fact.clone() };
                visit(DropSighting { fact: &fact, before: series.at(span.from.boot_ns) });
            }
        }
        let lost_at = |ns| {
            let after = self.lost.partition_point(|(at, _)| *at <= ns);
            after.checked_sub(1).map(|index| self.lost[index].1).unwrap_or_default()
        };
        let (before, after) = (lost_at(span.from.boot_ns), lost_at(end));
        Lost {
            packets: after.packets.saturating_sub(before.packets),
            details: after.details.saturating_sub(before.details),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn moment(second: u64) -> Moment {
        Moment { boot_ns: second * 1_000_000_000, wall: jiff::Timestamp::UNIX_EPOCH }
    }

    fn drop(port: u16, packets: u64) -> DropFact {
        let counts = DropCounts { packets, wire_packets: packets, l3_bytes: packets * 100 };
        let mut fact = DropFact::new(Direction::Incoming, counts);
        fact.reason = Some("NO_SOCKET".into());
        fact.local_port = Some(port);
        fact.last = BootTime::from_ns(packets);
        fact
    }

    /// Ports, and the packets within a span.
    fn within(history: &DropHistory, from: u64, to: u64) -> Vec<(Option<u16>, u64)> {
        let mut rows = Vec::new();
        let span = Span { from: moment(from), to: moment(to) };
        history.visit(&span, &Filter::everything(), &mut |sighting| {
            rows.push((sighting.fact.local_port, sighting.within().packets));
        });
        rows.sort_unstable();
        rows
    }

    #[test]
    fn what_is_within_a_window_is_the_difference_of_two_readings() {
        let mut history = DropHistory::default();
        assert_eq!(history.observed(None, &moment(1)), None);
        history.record(moment(10), [drop(7, 3)], Lost::default());
        history.record(moment(20), [drop(7, 3), drop(9, 1)], Lost::default());
        history.record(moment(30), [drop(7, 10), drop(9, 1)], Lost { packets: 2, details: 5 });

        assert_eq!(within(&history, 10, 30), [(Some(7), 7), (Some(9), 1)]);
        assert_eq!(within(&history, 20, 30), [(Some(7), 7), (Some(9), 0)]);
        // Until the reading after its end, as what came between two cannot be told apart.
        assert_eq!(within(&history, 10, 15), [(Some(7), 0), (Some(9), 1)]);
        assert_eq!(within(&history, 30, 35), [(Some(7), 0), (Some(9), 0)]);

        let span = |since| history.observed(since, &moment(31)).unwrap().from.boot_ns / 1_000_000_000;
        assert_eq!(span(Some(Duration::from_secs(11))), 20);
        assert_eq!(span(Some(Duration::from_secs(5))), 20);
        assert_eq!(span(Some(Duration::from_secs(60))), 10);
        assert_eq!(span(None), 10);

        let lost = |from, to| {
            history.visit(&Span { from: moment(from), to: moment(to) }, &Filter::everything(), &mut |_| {})
        };
        assert_eq!(lost(10, 30), Lost { packets: 2, details: 5 });
        assert_eq!(lost(10, 20), Lost::default());
    }

    #[test]
    fn equal_kinds_are_one_row() {
        let mut history = DropHistory::default();
        history.record(moment(1), [], Lost::default());
        history.record(moment(2), [drop(7, 3), drop(7, 4)], Lost::default());
        assert_eq!(within(&history, 1, 2), [(Some(7), 7)]);
    }

    #[test]
    fn merging_changes_no_sum_at_any_time() {
        let mut history = DropHistory::default();
        history.record(moment(10), [drop(7, 3), drop(8, 1)], Lost::default());
        history.record(moment(20), [drop(7, 5), drop(8, 1), drop(9, 6)], Lost::default());
        history.merge([drop(7, 5), drop(8, 1)]);
        assert_eq!(within(&history, 10, 20), [(None, 2), (Some(9), 6)]);
        assert_eq!(within(&history, 0, 20), [(None, 6), (Some(9), 6)]);

        // What is counted anew begins at nothing; what is counted without details adds to what was merged.
        let mut rest = drop(0, 4);
        rest.local_port = None;
        history.record(moment(30), [drop(7, 2), rest], Lost::default());
        assert_eq!(within(&history, 20, 30), [(None, 4), (Some(7), 2), (Some(9), 0)]);
        assert_eq!(within(&history, 0, 30), [(None, 10), (Some(7), 2), (Some(9), 6)]);
    }

    #[test]
    fn beyond_its_limit_the_oldest_is_forgotten_and_the_counts_stay_right() {
        let mut history = DropHistory::within(0);
        let readings = u64::try_from(LEAST_CHANGES).unwrap() / 4 + 10;
        for second in 1..=readings {
            history.record(moment(second), (1..=4).map(|port| drop(port, second)), Lost::default());
        }
        assert!(history.changes <= LEAST_CHANGES, "{}", history.changes);
        let span = history.observed(None, &moment(readings)).unwrap();
        let from = span.from.boot_ns / 1_000_000_000;
        assert!(from > 1, "{from}");
        assert_eq!(within(&history, from, readings)[0], (Some(1), readings - from));
    }

    proptest! {
        /// Of three kinds, some of which lose their details meanwhile and are counted from nothing again: windows that touch
        /// add up, and a window over all has all.
        #[test]
        fn windows_add_up_whatever_is_put_together(
            steps in vec((vec(0..100_u64, 3), proptest::option::weighted(0.2, 1..4_u16), 0..3_u64), 1..40),
            middle in 0..40_u64,
        ) {
            let mut history = DropHistory::default();
            history.record(moment(0), [], Lost::default());
            let (mut table, mut dropped, mut lost, mut first_half) = ([0; 3], 0, Lost::default(), 0);
            let middle = middle % (steps.len() as u64 + 1);
            for ((more, merged, gone), second) in steps.iter().zip(1..) {
                for (count, more) in table.iter_mut().zip(more) {
                    *count += more;
                    dropped += more;
                }
                lost.packets += gone;
                // An entry that was never counted is not in the table.
                let read = table.iter().zip(1..).filter(|(count, _)| **count > 0);
                history.record(moment(second), read.map(|(count, port)| drop(port, *count)), lost);
                if second == middle {
                    first_half = dropped;
                }
                if let Some(port) = merged {
                    let count = &mut table[usize::from(*port) - 1];
                    history.merge([drop(*port, *count)]);
                    *count = 0;
                }
            }
            let last = steps.len() as u64;
            let sum = |from, to| within(&history, from, to).iter().map(|(_, packets)| packets).sum::<u64>();
            prop_assert_eq!(sum(0, last), dropped);
            prop_assert_eq!((sum(0, middle), sum(middle, last)), (first_half, dropped - first_half));
            let span = Span { from: moment(0), to: moment(last) };
            prop_assert_eq!(history.visit(&span, &Filter::everything(), &mut |_| {}), lost);
            prop_assert_eq!(history.changes, history.series.values().map(|series| series.changes.len()).sum::<usize>());
        }
    }
}
