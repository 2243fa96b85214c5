//! Connections that come at regular intervals.
//!
//! Two tests, since each sees what the other does not; both ask how often Poisson traffic, of whatever rate, would look
//! like this.
//!
//! *Intervals*: of a few beats without anything between them, nearly all intervals are about the same. For exponential
//! intervals of any rate the chance to fall between `d` and `d` * 11/9 is at most 0.08, so many that do are unlikely; each
//! interval is tried as `d`. Jitter may add up from beat to beat.
//!
//! *Phases*: with other attempts between the beats hardly any interval is left whole. So time is cut into slots of a
//! candidate length, each slot votes for the direction in which its attempts lie on the circle, and the votes of ten slots
//! at a time, so that drift does no harm, are put to Rayleigh's test. A slot has one vote however much happened in it:
//! bursts do not add up. Candidates are a fixed grid relative to the rate, and each one tried is paid for.

use std::{f64::consts::TAU, sync::LazyLock};

use super::{
    collect::{Collected, NO_DESTINATION},
    statistics::{ln_binomial_tail, ln_gamma_tail, median},
    thresholds::{LEAST_BEATS, MOST_MISSED, PERIODIC_PROBABILITY, SAME_BEAT, SHORTEST_INTERVAL},
};

/// What is known of a series that is periodic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Beats {
    pub(super) interval: f64,
    pub(super) jitter: f64,
    pub(super) beats: usize,
    pub(super) missed: usize,
    pub(super) others: usize,
    /// Seconds after the start of the span.
    pub(super) first: f64,
    pub(super) last: f64,
    /// -log10 of the probability in Poisson traffic, all tries in this series paid for.
    pub(super) score: f64,
}

/// A periodic series: number of its owner and destination.
pub(super) struct Series {
    pub(super) owner: u32,
    pub(super) destination: u32,
    pub(super) beats: Beats,
}

/// All periodic series, how many were tested, and the score that was asked for.
pub(super) struct Found {
    pub(super) series: Vec<Series>,
    pub(super) tested: u64,
    pub(super) threshold: f64,
}

pub(super) fn find(collected: &Collected, from_ns: u64) -> Found {
    let mut attempts: Vec<(u32, u32, u64)> = collected
        .seen
        .iter()
        .filter(|seen| seen.is_attempt() && seen.destination != NO_DESTINATION)
        .filter_map(|seen| Some((seen.owner, seen.destination, seen.begun?.ns())))
        .collect();
    attempts.sort_unstable();

    let mut tested = 0_u64;
    let mut series = Vec::new();
    let mut times = Vec::new();
    for group in attempts.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        times.clear();
        times.extend(group.iter().map(|(_, _, at)| at.saturating_sub(from_ns) as f64 / 1e9));
        merge_same_beats(&mut times);
        if times.len() < LEAST_BEATS {
            continue;
        }
        tested += 1;
        if let Some(beats) = periodicity(&times) {
            series.push(Series { owner: group[0].0, destination: group[0].1, beats });
        }
    }
    // Of many series, one will look periodic by chance.
    let threshold = (tested.max(1) as f64 / PERIODIC_PROBABILITY).log10();
    series.retain(|series| series.beats.score >= threshold);
    series.sort_by(|a, b| b.beats.score.total_cmp(&a.beats.score));
    Found { series, tested, threshold }
}

/// Leaves the first of attempts that belong together. Times are sorted.
fn merge_same_beats(times: &mut Vec<f64>) {
    let mut last = f64::NEG_INFINITY;
    times.retain(|&at| {
        let apart = at - last >= SAME_BEAT.as_secs_f64();
        if apart {
            last = at;
        }
        apart
    });
}

/// The period of sorted times, if one test alone is passed by a score of 2 at least.
fn periodicity(times: &[f64]) -> Option<Beats> {
    let candidates = [by_intervals(times), by_phases(times)];
    candidates
        .into_iter()
        .flatten()
        .filter_map(|(period, ln_probability)| {
            // Two tests were made.
            let score = -(ln_probability + 2_f64.ln()) / 10_f64.ln();
            let beats = Beats { score, ..follow(times, period)? };
            (score >= -PERIODIC_PROBABILITY.log10()).then_some(beats)
        })
        .max_by(|a, b| a.score.total_cmp(&b.score))
}

/// The most frequent interval, and the logarithm of the probability that one is as frequent.
fn by_intervals(times: &[f64]) -> Option<(f64, f64)> {
    /// Intervals within 10 % of their middle are alike.
    const WIDTH: f64 = 1.1 / 0.9;
    /// The most that e^-y - e^-1.22y can be is 0.074. As attempts are merged up to a tenth of the shortest interval, which
    /// makes intervals a little more regular, it is e^0.1y times that at most.
    const CHANCE: f64 = 0.0811;

    let mut intervals: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    intervals.sort_unstable_by(f64::total_cmp);
    let mut best = 0..0;
    let mut end = 0;
    for start in 0..intervals.len() {
        while end < intervals.len() && intervals[end] <= intervals[start] * WIDTH {
            end += 1;
        }
        if intervals[start] >= SHORTEST_INTERVAL.as_secs_f64() && end - start > best.len() {
            best = start..end;
        }
    }
    if best.len() + 1 < LEAST_BEATS / 2 {
        return None;
    }
    let tries = intervals.len() as f64;
    let ln_probability = tries.ln() + ln_binomial_tail(tries - 1.0, best.len() as f64 - 1.0, CHANCE);
    Some((median(&mut intervals[best]), ln_probability))
}

/// The period in which attempts have the steadiest phase, and the logarithm of the probability that one is as steady.
fn by_phases(times: &[f64]) -> Option<(f64, f64)> {
    /// Candidates are 2 % apart: over ten slots, a quarter of a turn from end to end for the worst.
    const STEP: f64 = 1.02;
    /// Fewer attempts a slot leave too many empty; of more, one beat does not stand out.
    const ATTEMPTS_A_SLOT: (f64, f64) = (0.6, 4.0);
    const LEAST_SLOTS: f64 = 5.0;

    let duration = times[times.len() - 1] - times[0];
    if duration <= 0.0 {
        return None;
    }
    let rate = (times.len() - 1) as f64 / duration;
    let shortest = (ATTEMPTS_A_SLOT.0 / rate).max(SHORTEST_INTERVAL.as_secs_f64());
    let longest = (ATTEMPTS_A_SLOT.1 / rate).min(duration / LEAST_SLOTS);
    if longest < shortest {
        return None;
    }
    let tries = ((longest / shortest).ln() / STEP.ln()).floor() + 1.0;
    let mut best: Option<(f64, f64)> = None;
    let mut period = shortest;
    while period <= longest {
        let ln_probability = steadiness(times, period) + tries.ln();
        if best.is_none_or(|(_, least)| ln_probability < least) {
            best = Some((period, ln_probability));
        }
        period *= STEP;
    }
    best
}

/// Cosine and sine of phases in 1/256 of a turn, as a million times a hundred are looked up.
static CIRCLE: LazyLock<[(f64, f64); 256]> = LazyLock::new(|| {
    std::array::from_fn(|index| {
        let (sin, cos) = ((index as f64 + 0.5) / 256.0 * TAU).sin_cos();
        (cos, sin)
    })
});

/// The logarithm of the probability that votes of slots of this length agree so well.
fn steadiness(times: &[f64], period: f64) -> f64 {
    const SLOTS_A_GROUP: usize = 10;

    let (start, frequency) = (times[0], 1.0 / period);
    // Whole slots only: in them, phases of Poisson traffic are uniform. Far less than 2^52 of them.
    let slots = ((times[times.len() - 1] - start) * frequency) as usize;
    let groups = (slots / SLOTS_A_GROUP).max(1);
    let mut sum = Sum::default();
    let mut slot = 0;
    let (mut group, mut cosines, mut sines, mut votes) = (0, 0.0, 0.0, 0.0);
    let mut filled = 0;

    let mut vote = |slot: usize, sum: &Sum, total: &mut f64| {
        let length = sum.cosine.hypot(sum.sine);
        if length <= 1e-9 {
            return;
        }
        let of = slot * groups / slots.max(1);
        if of != group {
            *total += squared(cosines, sines, votes);
            (group, cosines, sines, votes) = (of, 0.0, 0.0, 0.0);
        }
        cosines += sum.cosine / length;
        sines += sum.sine / length;
        votes += 1.0;
        filled += 1;
    };
    let mut total = 0.0;
    for at in times {
        // Not negative, as times are sorted, so that cutting off is rounding down.
        let turns = (at - start) * frequency;
        let this = turns as usize;
        let index = ((turns - this as f64) * 256.0) as usize;
        if this >= slots {
            break;
        }
        if this != slot {
            vote(slot, &sum, &mut total);
            (slot, sum) = (this, Sum::default());
        }
        let (cosine, sine) = CIRCLE[index.min(255)];
        sum.cosine += cosine;
        sum.sine += sine;
    }
    vote(slot, &sum, &mut total);
    total += squared(cosines, sines, votes);
    if (filled as f64) < (1.0 - MOST_MISSED) * slots as f64 {
        return 0.0;
    }
    ln_gamma_tail(groups, total)
}

#[derive(Default)]
struct Sum {
    cosine: f64,
    sine: f64,
}

/// Rayleigh's statistic: n R^2, exponential with mean 1 for votes of no common direction.
fn squared(cosines: f64, sines: f64, votes: f64) -> f64 {
    if votes == 0.0 { 0.0 } else { (cosines * cosines + sines * sines) / votes }
}

/// Follows the beats from one to the next, as far as they go. `None` where they do not go far enough.
fn follow(times: &[f64], period: f64) -> Option<Beats> {
    let rough = longest_chain(times, period)?;
    // Once more with what the beats themselves say.
    let chain = longest_chain(times, rough.interval).unwrap_or(rough);
    let missed = chain.missed as f64;
    let enough = chain.beats >= LEAST_BEATS
        && chain.interval >= SHORTEST_INTERVAL.as_secs_f64()
        && missed <= MOST_MISSED * (missed + chain.beats as f64);
    enough.then_some(chain)
}

fn longest_chain(times: &[f64], period: f64) -> Option<Beats> {
    /// The first attempts may be others than beats.
    const STARTS: usize = 8;
    (0..times.len().min(STARTS))
        .map(|start| chain(times, start, period))
        .filter(|chain| chain.beats > 1)
        .max_by_key(|chain| chain.beats)
}

fn chain(times: &[f64], start: usize, period: f64) -> Beats {
    /// How far a beat may be from where it is expected, in periods.
    const TOLERANCE: f64 = 0.2;
    /// After so many missed in a row the series has ended.
    const MOST_IN_A_ROW: usize = 5;

    let mut intervals = Vec::new();
    let (mut at, mut index) = (times[start], start + 1);
    let (mut beats, mut missed) = (1, 0);
    'beats: loop {
        for step in 1..=MOST_IN_A_ROW + 1 {
            let expected = at + period * step as f64;
            let (from, to) = (expected - period * TOLERANCE, expected + period * TOLERANCE);
            let first = index + times[index..].partition_point(|time| *time < from);
            let found = times[first..]
                .iter()
                .take_while(|time| **time <= to)
                .enumerate()
                .min_by(|a, b| (a.1 - expected).abs().total_cmp(&(b.1 - expected).abs()));
            let Some((offset, found)) = found else { continue };
            if step == 1 {
                intervals.push(found - at);
            }
            missed += step - 1;
            beats += 1;
            (at, index) = (*found, first + offset + 1);
            continue 'beats;
        }
        break;
    }
    let interval = if intervals.is_empty() { period } else { median(&mut intervals) };
    let variance =
        intervals.iter().map(|each| (each - interval).powi(2)).sum::<f64>() / (intervals.len().max(1) as f64);
    Beats {
        interval,
        jitter: variance.sqrt() / interval.max(f64::MIN_POSITIVE),
        beats,
        missed,
        others: times.len() - beats,
        first: times[start],
        last: at,
        score: 0.0,
    }
}
