//! Times with many more attempts than usual.

use std::collections::HashMap;

use super::{
    Burst,
    collect::{Collected, NO_DESTINATION, Seen},
    statistics::{ln_poisson_tail, median},
    thresholds::{BURST_DEVIATIONS, BURST_PROBABILITY, BURST_RATIO, LEAST_BURST, LEAST_STEPS},
};
use crate::{
    fact::{BootTime, ConnectionDirection},
    source::Span,
};

/// The bursts of attempts of this side, and of connections from the other, in order of time.
pub(super) fn find(collected: &Collected, span: &Span) -> Vec<Burst> {
    let ways = [ConnectionDirection::Outbound, ConnectionDirection::Inbound];
    ways.into_iter().flat_map(|direction| of_direction(collected, span, direction)).collect()
}

fn of_direction(collected: &Collected, span: &Span, direction: ConnectionDirection) -> Vec<Burst> {
    let mut begun: Vec<(BootTime, &Seen)> = collected
        .seen
        .iter()
        .filter(|seen| seen.direction == direction)
        .filter_map(|seen| Some((seen.begun?, seen)))
        .collect();
    if (begun.len() as u64) < LEAST_BURST {
        return Vec::new();
    }
    begun.sort_unstable_by_key(|(at, _)| *at);

    let steps = Steps::of(span);
    let mut counts = vec![0_u64; steps.number];
    for (at, _) in &begun {
        counts[steps.index(*at)] += 1;
    }
    let usual = usual(&counts);
    let mut bursts = Vec::new();
    let mut index = 0;
    while index < counts.len() {
        let start = index;
        while index < counts.len() && counts[index] >= usual.threshold {
            index += 1;
        }
        if index == start {
            index += 1;
            continue;
        }
        let first = begun.partition_point(|(at, _)| steps.index(*at) < start);
        let last = begun.partition_point(|(at, _)| steps.index(*at) < index);
        let inside = &begun[first..last];
        let process = most_frequent(inside.iter().map(|(_, seen)| seen.owner));
        let destination = most_frequent(
            inside.iter().map(|(_, seen)| seen.destination).filter(|number| *number != NO_DESTINATION),
        );
        let peak = counts[start..index].iter().copied().max().unwrap_or_default();
        let per_second = |count: f64| count / steps.seconds();
        bursts.push(Burst {
            direction,
            at: super::wall(span, inside.first().map_or(0, |(at, _)| at.ns())),
            seconds: (index - start) as f64 * steps.seconds(),
            attempts: inside.len() as u64,
            peak_per_second: per_second(peak as f64),
            usual_per_second: per_second(usual.mean),
            threshold_per_second: per_second(usual.threshold as f64),
            process: process.and_then(|(owner, _)| collected.owners[owner as usize].clone()),
            process_attempts: process.map_or(0, |(_, count)| count),
            destination: destination.map(|(number, _)| collected.destinations[number as usize]),
            destination_attempts: destination.map_or(0, |(_, count)| count),
        });
    }
    bursts
}

/// The window in equal steps.
struct Steps {
    from_ns: u64,
    step_ns: u64,
    number: usize,
}

impl Steps {
    fn of(span: &Span) -> Self {
        /// So that years of it fit; then steps are longer.
        const MOST: u64 = 1_000_000;
        const SECOND: u64 = 1_000_000_000;

        let length = span.to.boot_ns.saturating_sub(span.from.boot_ns).max(1);
        let step_ns = SECOND.min(length / u64::from(LEAST_STEPS)).max(length / MOST).max(1);
        let number = usize::try_from(length.div_ceil(step_ns)).unwrap_or(usize::MAX);
        Self { from_ns: span.from.boot_ns, step_ns, number }
    }

    /// The step of a time within the span.
    fn index(&self, at: BootTime) -> usize {
        let passed = at.ns().saturating_sub(self.from_ns).saturating_sub(1);
        usize::try_from(passed / self.step_ns).unwrap_or(usize::MAX).min(self.number - 1)
    }

    fn seconds(&self) -> f64 {
        self.step_ns as f64 / 1e9
    }
}

struct Usual {
    mean: f64,
    /// A step with so many attempts is a burst.
    threshold: u64,
}

/// What is usual in a window: the mean of all steps but the highest tenth, in which bursts would be.
fn usual(counts: &[u64]) -> Usual {
    let mut sorted: Vec<f64> = counts.iter().map(|count| *count as f64).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let kept = &sorted[..(sorted.len() * 9).div_ceil(10)];
    let trimmed = kept.iter().sum::<f64>() / kept.len().max(1) as f64;
    let middle = median(&mut sorted);
    let mut deviations: Vec<f64> = sorted.iter().map(|count| (count - middle).abs()).collect();
    // Scaled so that it is the standard deviation of a normal distribution.
    let deviation = 1.4826 * median(&mut deviations);

    let mean = trimmed.max(middle);
    let least = (LEAST_BURST as f64).max(BURST_RATIO * mean).max(middle + BURST_DEVIATIONS * deviation);
    let mut threshold = least.ceil();
    // At least one attempt a window, as no rate is known to be zero.
    let expected = mean.max(1.0 / counts.len().max(1) as f64);
    let ln_probability = (BURST_PROBABILITY / counts.len().max(1) as f64).ln();
    while ln_poisson_tail(threshold, expected) > ln_probability {
        threshold += (threshold / 100.0).floor().max(1.0);
    }
    // Not negative, and no more than a few times the number of connections.
    Usual { mean, threshold: threshold as u64 }
}

/// The most frequent of some numbers, and how often it is there.
fn most_frequent(numbers: impl Iterator<Item = u32>) -> Option<(u32, u64)> {
    let mut counts: HashMap<u32, u64> = HashMap::new();
    for number in numbers {
        *counts.entry(number).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(number, count)| (*count, std::cmp::Reverse(*number)))
}
