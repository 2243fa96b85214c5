//! Interfaces that damage or drop packets.

use std::collections::HashSet;

use super::{
    Draft, Example, Number, Rule, Severity, Unit, Verdict,
    facts::{Counters, Facts},
    places,
    thresholds::{
        INTERFACE_DROPS_PER_SECOND, INTERFACE_LOSS_SHARE, LEAST_INTERFACE_DROPS, LEAST_INTERFACE_ERRORS,
    },
};
use crate::{
    clean::CleanText,
    fact::{Direction, LinkCounters},
    view::units,
};

pub(super) fn judge(facts: &Facts) -> Vec<(Rule, Verdict)> {
    let lost = match facts.counters() {
        Ok(counters) if counters.to.links.is_empty() => Err("interfaces were not read".to_owned()),
        Ok(counters) => Ok((counters, lost(counters))),
        Err(reason) => Err(reason),
    };
    match lost {
        Ok((counters, lost)) => vec![
            (Rule::InterfaceErrors, judge_errors(counters, &lost)),
            (Rule::InterfaceDrops, judge_drops(counters, &lost)),
        ],
        Err(reason) => {
            let verdict = || Verdict::NotJudged(reason.clone());
            vec![(Rule::InterfaceErrors, verdict()), (Rule::InterfaceDrops, verdict())]
        }
    }
}

/// What an interface carried and lost in one direction.
struct Lost<'a> {
    name: &'a CleanText,
    direction: Direction,
    packets: u64,
    errors: u64,
    drops: u64,
}

impl Lost<'_> {
    /// Of all that should have gone through.
    fn share(&self, lost: u64) -> f64 {
        lost as f64 / self.packets.saturating_add(lost).max(1) as f64
    }
}

fn lost(counters: &Counters) -> Vec<Lost<'_>> {
    let mut all = Vec::new();
    for link in &counters.to.links {
        // One that came since began at 0; one of another name is another.
        let before =
            counters.from.links.iter().find(|known| known.index == link.index && known.name == link.name);
        let none = LinkCounters::default();
        let ways = [
            (Direction::Incoming, &link.incoming, before.map_or(&none, |before| &before.incoming)),
            (Direction::Outgoing, &link.outgoing, before.map_or(&none, |before| &before.outgoing)),
        ];
        for (direction, now, before) in ways {
            all.push(Lost {
                name: &link.name,
                direction,
                packets: now.packets.saturating_sub(before.packets),
                errors: now.errors.saturating_sub(before.errors),
                drops: now.drops.saturating_sub(before.drops),
            });
        }
    }
    all
}

fn judge_errors(counters: &Counters, lost: &[Lost<'_>]) -> Verdict {
    let mut bad: Vec<&Lost<'_>> = lost
        .iter()
        .filter(|lost| {
            lost.errors >= LEAST_INTERFACE_ERRORS && lost.share(lost.errors) >= INTERFACE_LOSS_SHARE
        })
        .collect();
    bad.sort_by_key(|lost| (std::cmp::Reverse(lost.errors), lost.name.clone()));
    let Some(worst) = bad.first() else { return Verdict::Nothing };
    let errors: u64 = bad.iter().fold(0, |sum, lost| sum.saturating_add(lost.errors));
    let draft = Draft {
        severity: Severity::Warning,
        title: format!("{} on {}", units::counted(errors, "error"), places(interfaces(&bad), "interface")),
        window: counters.window(),
        numbers: vec![
            Number::count("errors", errors).at_least(LEAST_INTERFACE_ERRORS as f64),
            Number::share("share_of_packets_at_worst", worst.share(worst.errors))
                .at_least(INTERFACE_LOSS_SHARE),
        ],
        examples: bad.iter().map(|lost| example(lost, "errors", lost.errors)).collect(),
        likely_cause: "a bad cable, plug or port, a duplex mismatch, or a faulty driver; of a tunnel, packets that do not \
                       fit or no route",
        next_step: "see whether the counters still grow; then look at the driver's own: ethtool -S INTERFACE",
        command: "netmon-cli interfaces --window 10s".to_owned(),
    };
    draft.found(Rule::InterfaceErrors)
}

fn judge_drops(counters: &Counters, lost: &[Lost<'_>]) -> Verdict {
    let per_second = |drops: u64| drops as f64 / counters.seconds().max(0.001);
    let mut bad: Vec<&Lost<'_>> = lost
        .iter()
        .filter(|lost| {
            lost.drops >= LEAST_INTERFACE_DROPS
                && per_second(lost.drops) >= INTERFACE_DROPS_PER_SECOND
                && lost.share(lost.drops) >= INTERFACE_LOSS_SHARE
        })
        .collect();
    bad.sort_by_key(|lost| (std::cmp::Reverse(lost.drops), lost.name.clone()));
    let Some(worst) = bad.first() else { return Verdict::Nothing };
    let drops: u64 = bad.iter().fold(0, |sum, lost| sum.saturating_add(lost.drops));
    let draft = Draft {
        severity: Severity::Warning,
        title: format!(
            "{} dropped on {}",
            units::counted(drops, "packet"),
            places(interfaces(&bad), "interface")
        ),
        window: counters.window(),
        numbers: vec![
            Number::count("drops", drops).at_least(LEAST_INTERFACE_DROPS as f64),
            Number::new("drops_per_second_at_worst", per_second(worst.drops), Unit::PerSecond)
                .at_least(INTERFACE_DROPS_PER_SECOND),
            Number::share("share_of_packets_at_worst", worst.share(worst.drops))
                .at_least(INTERFACE_LOSS_SHARE),
        ],
        examples: bad.iter().map(|lost| example(lost, "drops", lost.drops)).collect(),
        likely_cause: "incoming: the host takes packets too slowly, or frames of protocols that nobody takes; outgoing: the \
                       queue is full, as the link is slower than what is sent, or is down",
        next_step: "compare with the rates; then ethtool -S INTERFACE, or tc -s qdisc show dev INTERFACE",
        command: "netmon-cli interfaces --window 10s".to_owned(),
    };
    draft.found(Rule::InterfaceDrops)
}

/// How many interfaces these are, whose two directions count apart.
fn interfaces(bad: &[&Lost<'_>]) -> usize {
    bad.iter().map(|lost| lost.name).collect::<HashSet<_>>().len()
}

fn example(lost: &Lost<'_>, what: &str, count: u64) -> Example {
    Example {
        interface: Some(lost.name.clone()),
        direction: Some(lost.direction),
        numbers: vec![Number::count(what, count), Number::count("packets", lost.packets)],
        ..Example::default()
    }
}
