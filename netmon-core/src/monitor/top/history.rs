//! The recent past of a live view: what the graphs show.

use std::{collections::VecDeque, time::Duration};

use rustc_hash::FxHashMap;

use super::{TopInterval, TopKey, TopLoad, TopTotals, group::destination_key};
use crate::{answer::Coverage, filter::Filter, monitor::summary::BytesPerSecond, view::units};

/// How many samples of the sums are kept.
const TOTALS: usize = 256;
/// How many of each line.
const LINE: usize = 64;
/// The most lines that have a past: 10 MB at the most.
const MOST_LINES: usize = 20_000;

/// What the last samples came to: all of it, and line by line for those that had traffic.
#[derive(Debug, Clone, Default)]
pub struct TopHistory {
    totals: VecDeque<TopTotals>,
    lines: FxHashMap<TopKey, Line>,
    samples: u64,
    lost: u64,
}

#[derive(Debug, Clone)]
struct Line {
    /// The latest last. Single precision is enough for eyes.
    rates: VecDeque<[f32; 2]>,
    /// The sample of the last of them.
    sample: u64,
    /// The last with traffic.
    busy: u64,
}

/// The past of something, the latest last.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct TopPast {
    /// Bytes received a second.
    pub received: Vec<f64>,
    /// Bytes sent a second.
    pub sent: Vec<f64>,
}

impl TopHistory {
    /// Adds a sample: the sums of what matches the filter, and every line.
    pub fn add(&mut self, interval: &TopInterval, filter: &Filter) {
        self.samples += 1;
        self.lost += interval.header.coverage.lost_events;
        if self.totals.len() >= TOTALS {
            self.totals.pop_front();
        }
        self.totals.push_back(interval.totals(filter));
        for one in interval.connections.iter().filter(|one| !one.past) {
            let Some(rate) = one.rate.filter(|rate| rate.sent + rate.received > 0.0) else { continue };
            self.line(TopKey::Connection(one.fact.id()), rate);
            self.line(one.process, rate);
            if let Some(key) = destination_key(&one.fact) {
                self.line(key, rate);
            }
        }
        for one in &interval.interfaces {
            let rate = BytesPerSecond {
                sent: one.outgoing.bytes_per_second,
                received: one.incoming.bytes_per_second,
            };
            self.line(TopKey::Interface(one.fact.index), rate);
        }
        let samples = self.samples;
        self.lines.retain(|_, line| line.busy + LINE as u64 > samples);
    }

    fn line(&mut self, key: TopKey, rate: BytesPerSecond) {
        if self.lines.len() >= MOST_LINES && !self.lines.contains_key(&key) {
            return;
        }
        let line = self.lines.entry(key).or_insert_with(|| Line {
            rates: VecDeque::new(),
            sample: self.samples - 1,
            busy: self.samples,
        });
        line.catch_up(self.samples);
        if let Some(last) = line.rates.back_mut() {
            last[0] += rate.received as f32;
            last[1] += rate.sent as f32;
        }
        if rate.received + rate.sent > 0.0 {
            line.busy = self.samples;
        }
    }

    /// The sums of the last samples, the latest last.
    pub fn totals(&self) -> impl DoubleEndedIterator<Item = &TopTotals> {
        self.totals.iter()
    }

    /// The past of all that matched.
    pub fn past(&self) -> TopPast {
        let rates = self.totals.iter().map(|totals| totals.load.payload_bytes_per_second);
        let rates: Vec<BytesPerSecond> =
            rates.map(|rate| rate.unwrap_or(BytesPerSecond { sent: 0.0, received: 0.0 })).collect();
        TopPast {
            received: rates.iter().map(|rate| rate.received).collect(),
            sent: rates.iter().map(|rate| rate.sent).collect(),
        }
    }

    /// The past of one line; empty where it had no traffic lately.
    pub fn past_of(&self, key: &TopKey) -> TopPast {
        let Some(line) = self.lines.get(key) else { return TopPast::default() };
        // It was idle since.
        let idle = usize::try_from(self.samples - line.sample).unwrap_or(usize::MAX).min(LINE);
        let series = |way: usize| {
            let rates = line.rates.iter().map(|rate| f64::from(rate[way]));
            rates.chain(std::iter::repeat_n(0.0, idle)).collect()
        };
        TopPast { received: series(0), sent: series(1) }
    }

    /// Forgets the sums, as when another filter is asked for from now on.
    pub fn begin_again(&mut self) {
        self.totals.clear();
    }

    /// Events that were lost on their way in all samples together.
    pub fn lost_events(&self) -> u64 {
        self.lost
    }
}

impl Line {
    /// Zeroes for the samples in which nothing went over it, and for the one that begins.
    fn catch_up(&mut self, samples: u64) {
        let missing = usize::try_from(samples - self.sample).unwrap_or(usize::MAX).min(LINE);
        for _ in 0..missing {
            if self.rates.len() >= LINE {
                self.rates.pop_front();
            }
            self.rates.push_back([0.0; 2]);
        }
        self.sample = samples;
    }
}

/// A measure of all that matched: what it is now, and what it was.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TopGauge {
    /// What is measured.
    pub title: &'static str,
    /// Its latest value, as people read it; a dash where it is not known.
    pub latest: String,
    /// The last values, the latest last; where one is not known, 0.
    pub past: Vec<f64>,
}

impl TopHistory {
    /// Round-trip time, segments sent again, failures and beginnings, for a line of blocks each.
    pub fn gauges(&self) -> Vec<TopGauge> {
        let gauge = |title, of: fn(&TopLoad) -> Option<f64>, text: fn(f64) -> String| {
            let latest = self.totals.back().and_then(|totals| of(&totals.load));
            TopGauge {
                title,
                latest: latest.map_or_else(|| "-".to_owned(), text),
                past: self.totals.iter().map(|totals| of(&totals.load).unwrap_or_default()).collect(),
            }
        };
        // Counts are small enough to be exact as floats.
        let count = |value: f64| units::count(value as u64);
        let time = |value: f64| Duration::try_from_secs_f64(value).map(units::short).unwrap_or_default();
        vec![
            gauge("RTT", |load| load.mean_rtt_seconds, time),
            gauge("RETRANS", |load| load.retransmits.map(|count| count as f64), count),
            gauge("FAILED", |load| Some(load.failed as f64), count),
            gauge("NEW", |load| Some(load.opened as f64), count),
        ]
    }
}

/// What a reader has to know of how this was observed, in one line that begins with what may not be cut.
fn coverage_line(coverage: &Coverage, lost: u64) -> String {
    let missing: Vec<&str> = coverage.missing_hooks.iter().map(|missing| missing.hook.name()).collect();
    let missing = if missing.is_empty() { "none".to_owned() } else { missing.join(", ") };
    let lost = if lost == 0 { "none".to_owned() } else { units::counted(lost, "event") };
    let notes = match coverage.notes().len() {
        0 => String::new(),
        notes => format!(" | {} (?)", units::counted(notes as u64, "note")),
    };
    format!("source: {} | lost: {lost} | missing: {missing}{notes}", coverage.source)
}

impl TopHistory {
    /// What a reader has to know of how this was observed, in one line: the source, which hooks are missing, and what was
    /// lost in all samples together.
    pub fn coverage(&self, interval: &TopInterval) -> String {
        coverage_line(&interval.header.coverage, self.lost)
    }
}
