//! Look-ups of names: failures at the ports of DNS (53) and of DNS over TLS (853).

use super::{
    Draft, Example, Number, Rule, Severity, Verdict,
    destinations::is_of_names,
    facts::{Attempts, Facts, Owners},
    thresholds::{FAILED_SHARE, LEAST_REFUSED},
};
use crate::{
    monitor::patterns::{
        statistics::{normal_quantile, wilson_lower},
        thresholds::BOUND_PROBABILITY,
    },
    view::units,
};

pub(super) fn judge(facts: &Facts) -> Vec<(Rule, Verdict)> {
    vec![(Rule::DnsFailures, judge_look_ups(facts))]
}

fn failed(attempts: &Attempts) -> u64 {
    attempts.failed.iter().sum::<u64>() + attempts.unanswered
}

fn judge_look_ups(facts: &Facts) -> Verdict {
    if let Some(reason) = facts.blind() {
        return Verdict::NotJudged(reason);
    }
    let servers: Vec<_> =
        facts.now.attempts.iter().filter(|(destination, _)| is_of_names(destination)).collect();
    let z = normal_quantile(BOUND_PROBABILITY / servers.len().max(1) as f64);
    let bound = |attempts: &Attempts| wilson_lower(failed(attempts), attempts.decided, z);
    let mut bad: Vec<_> = servers
        .iter()
        .filter(|(_, attempts)| failed(attempts) >= LEAST_REFUSED && bound(attempts) >= FAILED_SHARE)
        .collect();
    bad.sort_by_key(|(destination, attempts)| (std::cmp::Reverse(failed(attempts)), **destination));
    let Some((_, worst)) = bad.first() else { return Verdict::Nothing };

    let failures: u64 = bad.iter().map(|(_, attempts)| failed(attempts)).sum();
    let decided: u64 = bad.iter().map(|(_, attempts)| attempts.decided).sum();
    let unanswered: u64 = bad.iter().map(|(_, attempts)| attempts.unanswered).sum();
    let working = servers.iter().any(|(_, attempts)| attempts.decided > failed(attempts));
    let examples = bad.iter().map(|(destination, attempts)| Example {
        process: first_owner(attempts),
        destination: Some(**destination),
        numbers: vec![
            Number::count("failed", failed(attempts) - attempts.unanswered),
            Number::count("unanswered", attempts.unanswered),
            Number::count("flows", attempts.decided),
        ],
        ..Example::default()
    });
    let draft = Draft {
        severity: if working { Severity::Warning } else { Severity::Critical },
        title: format!(
            "{} of {} to name servers failed or were not answered",
            units::count(failures),
            units::counted(decided, "flow"),
        ),
        window: facts.window(),
        numbers: vec![
            Number::count("failed_or_unanswered", failures).at_least(LEAST_REFUSED as f64),
            Number::count("unanswered", unanswered),
            Number::count("flows", decided),
            Number::share("lower_bound_of_share_at_worst", bound(worst)).at_least(FAILED_SHARE),
        ],
        examples: examples.collect(),
        likely_cause: "the name server is down or out of reach, or a firewall drops port 53; programs then wait some \
                       seconds for every name",
        next_step: "compare the addresses with /etc/resolv.conf, and ask one of them by hand",
        command: format!("netmon-cli connections --filter 'remote.port in (53, 853)' {}", facts.times),
    };
    draft.found(Rule::DnsFailures)
}

fn first_owner(attempts: &Attempts) -> Option<crate::monitor::patterns::Owner> {
    use super::facts::Failure;
    let kinds = [Failure::Refused, Failure::TimedOut, Failure::Unreachable, Failure::Other];
    let failed = kinds.iter().find_map(|kind| attempts.owners(*kind).first());
    let unanswered: &Owners = &attempts.without_answer;
    failed.or_else(|| unanswered.first())
}
