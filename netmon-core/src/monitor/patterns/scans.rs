//! One process that tries many ports of a host, or one port of many hosts, and gets nothing from them.

use super::{
    Destination, Scan, ScanShape,
    collect::{Collected, NO_DESTINATION, Outcome},
    statistics::{normal_quantile, wilson_lower},
    thresholds::{BOUND_PROBABILITY, FRUITLESS_SHARE, LEAST_TARGETS, MOST_TRIES, SCAN_TIME},
};
use crate::{fact::BootTime, source::Span};

/// What one owner did to one destination.
#[derive(Debug, Clone, Copy)]
struct Target {
    owner: u32,
    destination: Destination,
    first: BootTime,
    attempts: u64,
    failed: u64,
    fruitless: bool,
}

/// Scans, the one with most targets first. Of an owner that scans several hosts (or ports) in the same way, one is told
/// and the others are counted.
pub(super) fn find(collected: &Collected, span: &Span) -> Vec<Scan> {
    let mut targets = targets(collected);
    let mut scans = Vec::new();

    targets.sort_unstable_by_key(|target| {
        (target.owner, target.destination.protocol, target.destination.address, target.first)
    });
    let vertical = targets
        .chunk_by(|a, b| {
            (a.owner, a.destination.protocol, a.destination.address)
                == (b.owner, b.destination.protocol, b.destination.address)
        })
        .filter_map(|group| scan(collected, span, group, ScanShape::Vertical));
    add(&mut scans, vertical);

    targets.sort_unstable_by_key(|target| {
        (target.owner, target.destination.protocol, target.destination.port, target.first)
    });
    let horizontal = targets
        .chunk_by(|a, b| {
            (a.owner, a.destination.protocol, a.destination.port)
                == (b.owner, b.destination.protocol, b.destination.port)
        })
        .filter_map(|group| scan(collected, span, group, ScanShape::Horizontal));
    add(&mut scans, horizontal);

    let mut scans: Vec<Scan> = scans.into_iter().map(|(_, scan)| scan).collect();
    scans.sort_by_key(|scan| std::cmp::Reverse(scan.targets));
    scans
}

/// Adds scans, which come owner by owner, the largest of each owner and protocol only.
fn add(scans: &mut Vec<(u32, Scan)>, more: impl Iterator<Item = (u32, Scan)>) {
    for (owner, scan) in more {
        match scans.last_mut() {
            Some((last, known))
                if *last == owner && known.shape == scan.shape && known.protocol == scan.protocol =>
            {
                let similar = known.similar + 1;
                if scan.targets > known.targets {
                    *known = scan;
                }
                known.similar = similar;
            }
            _ => scans.push((owner, scan)),
        }
    }
}

fn targets(collected: &Collected) -> Vec<Target> {
    let mut attempts: Vec<_> = collected
        .seen
        .iter()
        .filter(|seen| seen.is_attempt() && seen.destination != NO_DESTINATION)
        .filter(|seen| !seen.errno.is_some_and(never_left))
        .collect();
    attempts.sort_unstable_by_key(|seen| (seen.owner, seen.destination, seen.begun));
    attempts
        .chunk_by(|a, b| (a.owner, a.destination) == (b.owner, b.destination))
        .filter_map(|group| {
            Some(Target {
                owner: group[0].owner,
                destination: collected.destinations[group[0].destination as usize],
                first: group[0].begun?,
                attempts: group.len() as u64,
                failed: group.iter().filter(|seen| seen.outcome == Outcome::Failed).count() as u64,
                fruitless: group.iter().all(|seen| seen.fruitless),
            })
        })
        .collect()
}

/// Whether an error says that nothing was sent: no route, no address, not permitted. A host without a network tries much
/// and scans nothing.
fn never_left(errno: i16) -> bool {
    // EPERM, EACCES, EINVAL, EAFNOSUPPORT, EADDRNOTAVAIL, ENETDOWN, ENETUNREACH, ENOBUFS
    matches!(errno, 1 | 13 | 22 | 97 | 99 | 100 | 101 | 105)
}

/// The scan that a group of targets is, if it is one. They are in the order of their first attempts.
fn scan(collected: &Collected, span: &Span, group: &[Target], shape: ScanShape) -> Option<(u32, Scan)> {
    if group.len() < LEAST_TARGETS {
        return None;
    }
    let targets = group.len() as u64;
    let fruitless = group.iter().filter(|target| target.fruitless).count() as u64;
    let attempts = group.iter().map(|target| target.attempts).sum::<u64>();
    let lower_bound = wilson_lower(fruitless, targets, normal_quantile(BOUND_PROBABILITY));
    let densest = densest(group);
    let is_scan = densest >= LEAST_TARGETS
        && lower_bound >= FRUITLESS_SHARE
        && attempts as f64 <= MOST_TRIES * targets as f64;
    if !is_scan {
        return None;
    }
    let (first, last) = (&group[0], &group[group.len() - 1]);
    let vertical = shape == ScanShape::Vertical;
    let scan = Scan {
        shape,
        process: collected.owners[first.owner as usize].clone(),
        protocol: first.destination.protocol,
        address: vertical.then_some(first.destination.address),
        port: (!vertical).then_some(first.destination.port),
        targets,
        fruitless,
        lower_bound,
        threshold: FRUITLESS_SHARE,
        attempts,
        failed: group.iter().map(|target| target.failed).sum(),
        most_targets_a_minute: densest as u64,
        at: super::wall(span, first.first.ns()),
        seconds: last.first.since(first.first).as_secs_f64(),
        similar: 0,
    };
    Some((first.owner, scan))
}

/// The most targets that were first tried within [`SCAN_TIME`].
fn densest(group: &[Target]) -> usize {
    let mut start = 0;
    let mut most = 0;
    for (end, target) in group.iter().enumerate() {
        while target.first.since(group[start].first) > SCAN_TIME {
            start += 1;
        }
        most = most.max(end + 1 - start);
    }
    most
}
