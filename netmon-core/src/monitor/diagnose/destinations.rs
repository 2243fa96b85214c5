//! Destinations that refuse, do not answer, or cannot be reached.

use super::{
    Draft, Example, Number, Rule, Severity, Verdict,
    facts::{Facts, Failure},
    places,
    thresholds::{FAILED_SHARE, LEAST_REFUSED, LEAST_TIMED_OUT},
};
use crate::{
    fact::Protocol,
    monitor::patterns::{
        Destination,
        statistics::{normal_quantile, wilson_lower},
        thresholds::BOUND_PROBABILITY,
    },
    view::units,
};

/// What is told of one kind of failure.
struct Kind {
    rule: Rule,
    failure: Failure,
    least: u64,
    verb: &'static str,
    name: &'static str,
    filter: &'static str,
    likely_cause: &'static str,
    next_step: &'static str,
}

const KINDS: &[Kind] = &[
    Kind {
        rule: Rule::RefusedDestination,
        failure: Failure::Refused,
        least: LEAST_REFUSED,
        verb: "were refused",
        name: "refused_attempts",
        filter: "error == ECONNREFUSED",
        likely_cause: "nobody listens at that port: the service is down, restarts or is configured elsewhere; or a \
                       firewall rejects",
        next_step: "see who tries, then whether the service runs there: on this host, netmon-cli listeners",
    },
    Kind {
        rule: Rule::TimedOutDestination,
        failure: Failure::TimedOut,
        least: LEAST_TIMED_OUT,
        verb: "got no answer",
        name: "timed_out_attempts",
        filter: "error == ETIMEDOUT",
        likely_cause: "a firewall or a security group drops the packets, the host is down, or a route leads nowhere",
        next_step: "see who tries and since when; then follow the route to the address",
    },
    Kind {
        rule: Rule::UnreachableDestination,
        failure: Failure::Unreachable,
        least: LEAST_REFUSED,
        verb: "could not be sent on their way",
        name: "unreachable_attempts",
        filter: "error in (ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH)",
        likely_cause: "there is no route, the interface is down, or the neighbour does not answer; for IPv6 addresses, \
                       often a host without IPv6",
        next_step: "see which addresses, then compare with the routes: ip route get ADDRESS",
    },
];

pub(super) fn judge(facts: &Facts) -> Vec<(Rule, Verdict)> {
    KINDS.iter().map(|kind| (kind.rule, judge_kind(facts, kind))).collect()
}

/// Look-ups of names have a rule of their own.
pub(super) fn is_of_names(destination: &Destination) -> bool {
    matches!(destination.port, 53 | 853) && destination.protocol != Protocol::Icmp
}

fn judge_kind(facts: &Facts, kind: &Kind) -> Verdict {
    if let Some(reason) = facts.blind() {
        return Verdict::NotJudged(reason);
    }
    let candidates = || {
        let all = facts.now.attempts.iter().filter(|(destination, _)| !is_of_names(destination));
        all.filter(|(_, attempts)| attempts.decided >= kind.least)
    };
    // Of many that are compared, some fail by chance.
    let z = normal_quantile(BOUND_PROBABILITY / candidates().count().max(1) as f64);
    let mut found: Vec<_> = candidates()
        .map(|(destination, attempts)| {
            let failed = attempts.failed(kind.failure);
            (destination, attempts, failed, wilson_lower(failed, attempts.decided, z))
        })
        .filter(|(_, _, failed, bound)| *failed >= kind.least && *bound >= FAILED_SHARE)
        .collect();
    found.sort_by_key(|(destination, _, failed, _)| (std::cmp::Reverse(*failed), **destination));
    let Some((_, _, _, worst)) = found.first() else { return Verdict::Nothing };

    let failed: u64 = found.iter().map(|(_, _, failed, _)| failed).sum();
    let decided: u64 = found.iter().map(|(_, attempts, _, _)| attempts.decided).sum();
    let title = format!(
        "{} of {} at {} {}",
        units::count(failed),
        units::counted(decided, "attempt"),
        places(found.len(), "destination"),
        kind.verb,
    );
    let numbers = vec![
        Number::count(kind.name, failed).at_least(kind.least as f64),
        Number::count("decided_attempts", decided),
        Number::count("destinations", found.len() as u64),
        Number::share("lower_bound_of_share_at_worst", *worst).at_least(FAILED_SHARE),
    ];
    let examples = found.iter().map(|(destination, attempts, failed, _)| Example {
        process: attempts.owners(kind.failure).first(),
        destination: Some(**destination),
        numbers: vec![Number::count(kind.name, *failed), Number::count("decided_attempts", attempts.decided)],
        ..Example::default()
    });
    let draft = Draft {
        severity: Severity::Warning,
        title,
        window: facts.window(),
        numbers,
        examples: examples.collect(),
        likely_cause: kind.likely_cause,
        next_step: kind.next_step,
        command: format!("netmon-cli connections --filter 'failed and {}' {}", kind.filter, facts.times),
    };
    draft.found(kind.rule)
}
