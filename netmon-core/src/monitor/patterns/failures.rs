//! How many attempts fail, and where that is much.

use std::collections::HashMap;

use super::{
    ErrorCount, FailureRatio, FrequentFailures,
    collect::{Collected, NO_DESTINATION, Outcome, Seen},
    statistics::{normal_quantile, wilson_lower},
    thresholds::{BOUND_PROBABILITY, FREQUENT_FAILURES, LEAST_DECIDED},
};
use crate::fact::ConnectionError;

/// How many errors are told of one subject.
const ERRORS: usize = 5;

/// The ratio of all attempts, with their errors.
pub(super) fn overall(collected: &Collected) -> FailureRatio {
    ratio(collected.seen.iter(), normal_quantile(BOUND_PROBABILITY))
}

/// The destinations and owners of which many attempts fail, worst first.
pub(super) fn frequent(collected: &Collected) -> Vec<FrequentFailures> {
    let decided = |seen: &&Seen| seen.outcome != Outcome::Undecided;
    let mut found = Vec::new();

    let mut seen: Vec<&Seen> = collected.seen.iter().filter(decided).collect();
    seen.sort_unstable_by_key(|seen| seen.owner);
    let same = |a: &&Seen, b: &&Seen| a.owner == b.owner;
    for (first, ratio) in too_often(&seen, same) {
        if let Some(process) = &collected.owners[first.owner as usize] {
            found.push(FrequentFailures { process: Some(process.clone()), destination: None, ratio });
        }
    }
    seen.retain(|seen| seen.destination != NO_DESTINATION);
    seen.sort_unstable_by_key(|seen| seen.destination);
    let same = |a: &&Seen, b: &&Seen| a.destination == b.destination;
    for (first, ratio) in too_often(&seen, same) {
        let destination = Some(collected.destinations[first.destination as usize]);
        found.push(FrequentFailures { process: None, destination, ratio });
    }
    found.sort_by(|a, b| {
        (b.ratio.lower_bound.total_cmp(&a.ratio.lower_bound)).then(b.ratio.failed.cmp(&a.ratio.failed))
    });
    found
}

/// The groups of which too many failed: one connection of each, and the ratio.
fn too_often<'a>(
    sorted: &[&'a Seen],
    same: impl Fn(&&'a Seen, &&'a Seen) -> bool + Copy,
) -> Vec<(&'a Seen, FailureRatio)> {
    let groups = || sorted.chunk_by(same).filter(|group| group.len() as u64 >= LEAST_DECIDED);
    // Of many that are compared, some are above their true ratio by chance.
    let z = normal_quantile(BOUND_PROBABILITY / groups().count().max(1) as f64);
    groups()
        .map(|group| (group[0], ratio(group.iter().copied(), z)))
        .filter(|(_, ratio)| ratio.lower_bound >= FREQUENT_FAILURES)
        .collect()
}

fn ratio<'a>(seen: impl Iterator<Item = &'a Seen>, z: f64) -> FailureRatio {
    let (mut decided, mut failed) = (0, 0);
    let mut by_errno: HashMap<Option<i16>, u64> = HashMap::new();
    for seen in seen {
        match seen.outcome {
            Outcome::Undecided => continue,
            Outcome::Succeeded => {}
            Outcome::Failed => {
                failed += 1;
                *by_errno.entry(seen.errno).or_default() += 1;
            }
        }
        decided += 1;
    }
    let mut errors: Vec<_> = by_errno.into_iter().collect();
    errors.sort_by_key(|(errno, count)| (std::cmp::Reverse(*count), *errno));
    errors.truncate(ERRORS);
    let errors = errors.into_iter().map(|(errno, connections)| {
        let error = errno.map(|errno| ConnectionError::told(i32::from(errno)));
        ErrorCount {
            errno: errno.map(i32::from),
            name: error.map_or_else(|| "unknown".into(), ConnectionError::name),
            connections,
        }
    });
    FailureRatio {
        decided,
        failed,
        ratio: (decided > 0).then(|| failed as f64 / decided as f64),
        lower_bound: wilson_lower(failed, decided, z),
        threshold: FREQUENT_FAILURES,
        errors: errors.collect(),
    }
}
