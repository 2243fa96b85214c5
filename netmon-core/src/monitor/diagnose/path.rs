//! The way to other hosts: segments that get lost, and round trips that take long.

use std::net::IpAddr;

use super::{
    Draft, Example, Number, Rule, Severity, Unit, Verdict,
    facts::{Counters, Facts, Path},
    places,
    thresholds::{
        GROWN_RETRANSMIT_SHARE, LEAST_RETRANSMITS, LEAST_ROUND_TRIPS, RETRANSMIT_GROWTH, RETRANSMIT_SHARE,
        ROUND_TRIP_GROWTH, ROUND_TRIP_INCREASE,
    },
};
use crate::{answer::Window, monitor::patterns::statistics::median, view::units};

pub(super) fn judge(facts: &Facts) -> Vec<(Rule, Verdict)> {
    vec![(Rule::Retransmits, judge_retransmits(facts)), (Rule::SlowRoundTrips, judge_round_trips(facts))]
}

/// Segments sent again, and sent.
#[derive(Clone, Copy)]
struct Sent {
    again: u64,
    segments: u64,
}

impl Sent {
    /// Of the whole namespace; SYNs are sent again where nobody answers, which is not loss.
    fn counted(counters: &Counters) -> Option<Self> {
        let again = counters.counted(|read| read.tcp.segments_retransmitted)?;
        let syns = counters.counted(|read| read.tcp.syns_retransmitted).unwrap_or(0);
        let segments = counters.counted(|read| read.tcp.segments_sent)?;
        Some(Self { again: again.saturating_sub(syns), segments })
    }

    /// Of connections that began in the time; they count what was sent again among what was sent.
    fn of<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        paths.fold(Self { again: 0, segments: 0 }, |sum, path| Self {
            again: sum.again.saturating_add(path.retransmits),
            segments: sum.segments.saturating_add(path.sent_once()),
        })
    }

    fn share(self) -> f64 {
        if self.segments == 0 { 0.0 } else { self.again as f64 / self.segments as f64 }
    }
}

/// The counters of the namespace where all of it was asked for, else the connections that were.
fn judge_retransmits(facts: &Facts) -> Verdict {
    let counters = facts.counters().ok().and_then(|counters| Some((counters, Sent::counted(counters)?)));
    let (window, now, earlier): (Window, Sent, Option<Sent>) = match counters {
        Some((counters, sent)) => {
            (counters.window(), sent, facts.earlier_counters.as_ref().and_then(Sent::counted))
        }
        None => {
            let of = |seen: &super::facts::Seen| Sent::of(seen.paths.values());
            (facts.window(), of(&facts.now), facts.earlier.as_ref().map(of))
        }
    };
    let share = now.share();
    let before = earlier.filter(|sent| sent.segments > 0).map(Sent::share);
    let grown = before.is_some_and(|before| share >= RETRANSMIT_GROWTH * before);
    let threshold = if grown { GROWN_RETRANSMIT_SHARE } else { RETRANSMIT_SHARE };
    if now.again < LEAST_RETRANSMITS || share < threshold {
        return Verdict::Nothing;
    }
    let mut worst: Vec<(&IpAddr, &Path)> =
        facts.now.paths.iter().filter(|(_, path)| path.retransmits > 0).collect();
    worst.sort_by_key(|(address, path)| (std::cmp::Reverse(path.retransmits), **address));
    let examples = worst.iter().map(|(address, path)| Example {
        process: path.owners.first(),
        address: Some(**address),
        numbers: vec![
            Number::count("retransmitted_segments", path.retransmits),
            Number::count("sent_segments", path.sent_once()),
        ],
        ..Example::default()
    });
    let draft = Draft {
        severity: Severity::Warning,
        title: format!(
            "{} of {} were sent again",
            units::count(now.again),
            units::counted(now.segments, "TCP segment")
        ),
        window,
        numbers: vec![
            Number::count("retransmitted_segments", now.again).at_least(LEAST_RETRANSMITS as f64),
            Number::share("share_of_sent_segments", share).at_least(threshold).after(before),
        ],
        examples: examples.collect(),
        likely_cause: "packets get lost on the way: a link is overloaded or broken, a queue or a rate limit drops, or a \
                       receiver cannot keep up",
        next_step: "see which connections it concerns: one host, or all behind one link",
        command: format!("netmon-cli connections --filter 'retransmits > 0' {}", facts.times),
    };
    draft.found(Rule::Retransmits)
}

/// The value below which a share of them is. They are sorted, and some.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() - 1) as f64 * share;
    // Not negative, and smaller than the length.
    sorted[place.round() as usize]
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

fn judge_round_trips(facts: &Facts) -> Verdict {
    let Some(earlier) = &facts.earlier else {
        return Verdict::NotJudged("as long a time before this window was not observed".to_owned());
    };
    let mut slow: Vec<(IpAddr, f64, f64, usize)> = Vec::new();
    for (address, path) in &facts.now.paths {
        let Some(before) = earlier.paths.get(address) else { continue };
        if path.round_trips.len().min(before.round_trips.len()) < LEAST_ROUND_TRIPS {
            continue;
        }
        let (now, before) = (sorted(&path.round_trips), sorted(&before.round_trips));
        let medians = (median(&mut now.clone()), median(&mut before.clone()));
        let slower = medians.0 >= ROUND_TRIP_GROWTH * medians.1
            && medians.0 - medians.1 >= ROUND_TRIP_INCREASE.as_secs_f64();
        if slower && quantile(&now, 0.25) > quantile(&before, 0.75) {
            slow.push((*address, medians.0, medians.1, now.len()));
        }
    }
    slow.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let Some(&(_, now, before, _)) = slow.first() else { return Verdict::Nothing };

    let time = |name: &str, seconds: f64| Number::new(name, seconds, Unit::Seconds);
    let examples = slow.iter().map(|(address, now, before, connections)| Example {
        address: Some(*address),
        numbers: vec![
            time("median_round_trip", *now).after(Some(*before)),
            Number::count("connections", *connections as u64),
        ],
        ..Example::default()
    });
    let draft = Draft {
        severity: Severity::Warning,
        title: format!(
            "round trips to {} take {:.1} times as long as before at worst",
            places(slow.len(), "host"),
            now / before.max(1e-6),
        ),
        window: facts.window(),
        numbers: vec![
            time("worst_median_round_trip", now)
                .at_least((ROUND_TRIP_GROWTH * before).max(before + ROUND_TRIP_INCREASE.as_secs_f64()))
                .after(Some(before)),
            Number::count("hosts", slow.len() as u64),
        ],
        examples: examples.collect(),
        likely_cause: "a queue on the way is full (an overloaded link), the route became longer, or the host is overloaded",
        next_step: "see whether it concerns one host or all of them, and what else uses the link: netmon-cli pps",
        command: format!("netmon-cli connections --protocol tcp --sort rtt {}", facts.times),
    };
    draft.found(Rule::SlowRoundTrips)
}
