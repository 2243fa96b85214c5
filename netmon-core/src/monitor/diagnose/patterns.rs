//! Scans and beacons, as [patterns](crate::monitor::patterns) find them.

use std::net::{IpAddr, Ipv6Addr};

use super::{Draft, Example, Number, Rule, Severity, Unit, Verdict, facts::Facts, number_of};
use crate::{
    fact::Protocol,
    monitor::patterns::{
        Destination, Periodicity, Scan,
        thresholds::{FRUITLESS_SHARE, LEAST_BEATS, LEAST_TARGETS},
    },
    view::units,
};

pub(super) fn judge(facts: &Facts) -> Vec<(Rule, Verdict)> {
    vec![(Rule::Scan, judge_scan(facts)), (Rule::Beacon, judge_beacon(facts))]
}

fn judge_scan(facts: &Facts) -> Verdict {
    let scans = &facts.patterns.scans;
    let Some(worst) = scans.iter().max_by_key(|scan| scan.targets) else {
        return facts.blind().map_or(Verdict::Nothing, Verdict::NotJudged);
    };
    let numbers = vec![
        Number::count("targets_of_the_largest", worst.targets).at_least(LEAST_TARGETS as f64),
        Number::share("lower_bound_of_fruitless_share", worst.lower_bound).at_least(FRUITLESS_SHARE),
        Number::count("scans", scans.len() as u64),
    ];
    let example = |scan: &Scan| Example {
        process: scan.process.clone(),
        address: scan.address,
        port: scan.port,
        numbers: vec![
            Number::count("targets", scan.targets),
            Number::count("fruitless_targets", scan.fruitless),
            Number::new("over", scan.seconds, Unit::Seconds),
        ],
        ..Example::default()
    };
    let pid = worst.process.as_ref().and_then(|process| process.pid);
    let of_pid = pid.map(|pid| format!(" --pid {pid}")).unwrap_or_default();
    let draft = Draft {
        severity: Severity::Warning,
        title: format!(
            "one program tried {} ports or hosts, mostly in vain{}",
            units::count(worst.targets),
            match scans.len() - 1 {
                0 => String::new(),
                more => format!("; {}", number_of(more, "more scan", "more scans")),
            },
        ),
        window: facts.window(),
        numbers,
        examples: scans.iter().map(example).collect(),
        likely_cause: "a port scanner or a discovery tool; on a server that runs none, perhaps an intruder",
        next_step: "see which program it is, who started it and what it found",
        command: format!("netmon-cli connections{of_pid} --direction out {}", facts.times),
    };
    draft.found(Rule::Scan)
}

/// Whether an address is somewhere in the Internet: what is regular within a site is mostly its own monitoring.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64; // RFC 6598
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_unspecified()
                || shared)
        }
        IpAddr::V6(v6) => !(is_local_v6(v6) || v6.is_loopback() || v6.is_multicast() || v6.is_unspecified()),
    }
}

fn is_local_v6(v6: Ipv6Addr) -> bool {
    let first = v6.segments()[0];
    first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
}

/// Time servers are asked regularly, and name servers are asked whenever something else is done.
fn is_expected(destination: &Destination) -> bool {
    destination.protocol == Protocol::Icmp || matches!(destination.port, 53 | 123 | 853)
}

fn judge_beacon(facts: &Facts) -> Verdict {
    let beacons: Vec<&Periodicity> = facts
        .patterns
        .periodic
        .iter()
        .filter(|series| is_public(series.destination.address) && !is_expected(&series.destination))
        .collect();
    let Some(surest) = beacons.first() else {
        return facts.blind().map_or(Verdict::Nothing, Verdict::NotJudged);
    };
    let numbers = vec![
        Number::count("beats_of_the_surest", surest.beats).at_least(LEAST_BEATS as f64),
        Number::new("interval_of_the_surest", surest.interval_seconds, Unit::Seconds),
        Number::share("jitter_of_the_surest", surest.jitter),
        Number::count("series", beacons.len() as u64),
        Number::count("series_tested", facts.patterns.periodic_tested),
    ];
    let examples = beacons.iter().map(|series| Example {
        process: series.process.clone(),
        destination: Some(series.destination),
        numbers: vec![
            Number::count("beats", series.beats),
            Number::new("interval", series.interval_seconds, Unit::Seconds),
            Number::share("jitter", series.jitter),
        ],
        ..Example::default()
    });
    let draft = Draft {
        severity: Severity::Info,
        title: format!(
            "public addresses are connected to at regular intervals in {}",
            number_of(beacons.len(), "series", "series"),
        ),
        window: facts.window(),
        numbers,
        examples: examples.collect(),
        likely_cause: "a health check, an agent or a poller; or malware that reports to its owner",
        next_step: "see whether the program and the address are known to you",
        command: format!("netmon-cli patterns {}", facts.times),
    };
    draft.found(Rule::Beacon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for address in ["8.8.8.8", "100.128.0.1", "2a00::1", "172.32.0.1"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["10.1.2.3", "172.31.0.1", "127.0.0.1", "169.254.1.1", "100.64.0.1", "::1", "fd00::1"]
        {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }
}
