//! One program that does most of everything.

use super::{
    Draft, Example, Number, Rule, Severity, Unit, Verdict,
    facts::{Facts, Seen, Volume, owner},
    thresholds::{
        FLOOD_BYTES_PER_SECOND, FLOOD_FRUITLESS, FLOOD_GROWTH, FLOOD_PER_SECOND, FLOOD_SHARE, LEAST_FLOOD,
    },
};
use crate::{
    clean::CleanText,
    monitor::patterns::{
        statistics::{normal_quantile, wilson_lower},
        thresholds::BOUND_PROBABILITY,
    },
    view::units,
};

pub(super) fn judge(facts: &Facts) -> Vec<(Rule, Verdict)> {
    vec![(Rule::Flood, judge_flood(facts))]
}

fn judge_flood(facts: &Facts) -> Verdict {
    let most =
        |of: fn(&Volume) -> u64| facts.now.volumes.iter().max_by(|a, b| (of(a.1), b.0).cmp(&(of(b.1), a.0)));
    let attempts = most(|volume| volume.attempts).and_then(|(comm, volume)| by_attempts(facts, comm, volume));
    let bytes = || most(|volume| volume.bytes).and_then(|(comm, volume)| by_bytes(facts, comm, volume));
    attempts.or_else(bytes).map_or(Verdict::Nothing, |draft| draft.found(Rule::Flood))
}

fn share(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

/// What it did before, a second.
fn earlier(facts: &Facts, comm: &CleanText, of: fn(&Volume) -> u64) -> Option<f64> {
    let seen: &Seen = facts.earlier.as_ref()?;
    Some(seen.volumes.get(comm).map_or(0, of) as f64 / seen.seconds().max(0.001))
}

fn by_attempts(facts: &Facts, comm: &CleanText, volume: &Volume) -> Option<Draft> {
    let per_second = volume.attempts as f64 / facts.now.seconds().max(0.001);
    let share = share(volume.attempts, facts.now.all_attempts);
    if volume.attempts < LEAST_FLOOD || per_second < FLOOD_PER_SECOND || share < FLOOD_SHARE {
        return None;
    }
    let fruitless = wilson_lower(volume.fruitless, volume.attempts, normal_quantile(BOUND_PROBABILITY));
    let before = earlier(facts, comm, |volume| volume.attempts);
    let grown = before.is_some_and(|before| per_second >= FLOOD_GROWTH * before);
    if fruitless < FLOOD_FRUITLESS && !grown {
        return None;
    }
    let numbers = vec![
        Number::count("attempts", volume.attempts).at_least(LEAST_FLOOD as f64),
        Number::new("attempts_per_second", per_second, Unit::PerSecond)
            .at_least(FLOOD_PER_SECOND)
            .after(before),
        Number::share("share_of_all_attempts", share).at_least(FLOOD_SHARE),
        Number::share("lower_bound_of_fruitless_share", fruitless).at_least(FLOOD_FRUITLESS),
    ];
    Some(Draft {
        severity: Severity::Warning,
        title: format!(
            "one program made {:.0} % of all attempts, {} a second",
            share * 100.0,
            units::rate(per_second),
        ),
        window: facts.window(),
        numbers,
        examples: vec![Example {
            process: Some(owner(comm, &volume.pids)),
            numbers: vec![
                Number::count("attempts", volume.attempts),
                Number::count("fruitless_attempts", volume.fruitless),
            ],
            ..Example::default()
        }],
        likely_cause: "a loop that tries again without waiting, a test or an attack that runs here, or a job that just began",
        next_step: "see where it connects to and what comes of it",
        command: command(volume, &facts.times),
    })
}

fn by_bytes(facts: &Facts, comm: &CleanText, volume: &Volume) -> Option<Draft> {
    let per_second = volume.bytes as f64 / facts.now.seconds().max(0.001);
    let share = share(volume.bytes, facts.now.all_bytes);
    let before = earlier(facts, comm, |volume| volume.bytes)?;
    let floods =
        per_second >= FLOOD_BYTES_PER_SECOND && share >= FLOOD_SHARE && per_second >= FLOOD_GROWTH * before;
    if !floods {
        return None;
    }
    Some(Draft {
        severity: Severity::Info,
        title: format!(
            "one program carries {:.0} % of all bytes, {} a second",
            share * 100.0,
            units::bytes(per_second),
        ),
        window: facts.window(),
        numbers: vec![
            Number::new("payload_bytes_per_second", per_second, Unit::BytesPerSecond)
                .at_least(FLOOD_BYTES_PER_SECOND)
                .after(Some(before)),
            Number::share("share_of_all_bytes", share).at_least(FLOOD_SHARE),
        ],
        examples: vec![Example {
            process: Some(owner(comm, &volume.pids)),
            numbers: vec![Number::count("payload_bytes", volume.bytes)],
            ..Example::default()
        }],
        likely_cause: "a transfer, a backup or an update that just began",
        next_step: "see with whom it exchanges them",
        command: command(volume, &facts.times),
    })
}

fn command(volume: &Volume, times: &str) -> String {
    let mut pids = volume.pids.iter();
    match (pids.next(), pids.next()) {
        (Some(pid), None) => format!("netmon-cli summary --pid {pid} {times}"),
        _ => format!("netmon-cli summary {times}"),
    }
}
