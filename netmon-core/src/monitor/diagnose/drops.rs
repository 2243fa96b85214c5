//! Packets that the kernel dropped, by its reason.
//!
//! Healthy hosts drop packets all the time: duplicates, frames for others, what strangers try. So only reasons in [`CAUSES`]
//! are judged, each on its own: those that mean damage from few packets on, those that may mean it where a process of this
//! host owns the packets, and the others where they are many. What a counter of the namespace tells too is one finding, of
//! the rule about that counter.

use super::{
    Draft, Example, Number, Rule, Severity, Unit, Verdict,
    facts::{Drops, Facts, owner_of},
    limits, listeners, number_of,
    thresholds::{DROPPED_PER_SECOND, LEAST_DROPPED, LEAST_STRAY, STRAY_PER_SECOND},
};
use crate::{
    clean::CleanText,
    fact::{DropFact, Protocol},
    view::units,
};

pub(super) fn judge(facts: &Facts) -> Vec<(Rule, Verdict)> {
    vec![(Rule::PacketDrops, judge_drops(facts))]
}

/// Dropped packets that the namespace counts by itself, for another rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub(super) reason: &'static str,
    protocol: Protocol,
}

pub(super) const UNREAD_DATAGRAMS: Counted = Counted { reason: "SOCKET_RCVBUFF", protocol: Protocol::Udp };
pub(super) const LISTENER_FULL: Counted = Counted { reason: "TCP_LISTEN_OVERFLOW", protocol: Protocol::Tcp };
const HANDSHAKES_FULL: Counted = Counted { reason: "TCP_REQQFULLDROP", protocol: Protocol::Tcp };

impl Counted {
    /// Whether the namespace that was asked has counted them.
    fn has(self, row: &DropFact, facts: &Facts) -> bool {
        let Ok(counters) = facts.counters() else { return false };
        let reason = row.reason.as_ref().map(CleanText::as_str);
        (reason, row.protocol, row.netns) == (Some(self.reason), Some(self.protocol), counters.to.netns)
    }
}

/// Whose they are, with the most first; none where that was not observed.
pub(super) fn examples_of(facts: &Facts, counted: Counted) -> Vec<Example> {
    let Ok(drops) = facts.drops() else { return Vec::new() };
    let mut rows: Vec<&DropFact> = drops.rows.iter().filter(|row| counted.has(row, facts)).collect();
    sort(&mut rows);
    rows.into_iter().map(|row| example(row, counted.reason)).collect()
}

/// What dropped packets of a reason mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// A fault of this host, whoever sent them.
    Always,
    /// One where a process of this host owns them; of others', or of nobody's, what strangers do.
    Owned,
    /// What strangers do, or a busy network.
    Stray,
}

/// Reasons that have a cause in common.
#[derive(Debug)]
struct Cause {
    /// As in `enum skb_drop_reason`.
    reasons: &'static [&'static str],
    harm: Harm,
    /// Ends the sentence "so many packets were dropped: ".
    why: &'static str,
    likely: &'static str,
    next_step: &'static str,
}

const CAUSES: &[Cause] = &[
    Cause {
        reasons: &["SOCKET_RCVBUFF", "SOCKET_BACKLOG", "TCP_OFO_QUEUE_PRUNE"],
        harm: Harm::Always,
        why: "sockets had no room for them",
        likely: "a process reads too slowly, or packets come in bursts larger than its buffer",
        next_step: "let the process read faster, or raise its buffer (SO_RCVBUF) and net.core.rmem_max",
    },
    Cause {
        reasons: &["TCP_LISTEN_OVERFLOW", "TCP_REQQFULLDROP"],
        harm: Harm::Always,
        why: "the queue of a listener was full",
        likely: "the server does not call accept() often enough, or its backlog is too small",
        next_step: "look at what the process does; then raise its backlog, and net.core.somaxconn where that is the limit",
    },
    Cause {
        reasons: &["PROTO_MEM", "NOMEM"],
        harm: Harm::Always,
        why: "there was no memory for them",
        likely: "sockets hold more than net.ipv4.tcp_mem or udp_mem allow, or the host is out of memory",
        next_step: "see who has most unread or unsent bytes before raising a limit",
    },
    Cause {
        reasons: &["CPU_BACKLOG"],
        harm: Harm::Always,
        why: "a processor did not take them in time",
        likely: "packets of one queue come faster than one processor handles them",
        next_step: "spread them over processors (RSS, RPS), or raise net.core.netdev_max_backlog",
    },
    Cause {
        reasons: &["TCP_CSUM", "UDP_CSUM", "IP_CSUM", "ICMP_CSUM", "SKB_CSUM"],
        harm: Harm::Always,
        why: "their checksums were wrong",
        likely: "packets are damaged on the way, or an offload of a network card or tunnel computes them wrongly",
        next_step: "see which interface they come by; then switch its offloads off to compare: ethtool -K INTERFACE rx off",
    },
    Cause {
        reasons: &["NEIGH_QUEUEFULL", "NEIGH_FAILED", "NEIGH_CREATEFAIL", "NEIGH_DEAD", "NEIGH_HH_FILLFAIL"],
        harm: Harm::Owned,
        why: "the next hop's link-layer address was not found",
        likely: "the other host or the gateway is down, or its address belongs to another network",
        next_step: "see whether the next hop answers: ip neigh; then ip route get ADDRESS",
    },
    Cause {
        reasons: &["IP_OUTNOROUTES", "IP_INNOROUTES"],
        harm: Harm::Owned,
        why: "there was no route",
        likely: "a route or an interface went away, or was never set up",
        next_step: "see which way they would take: ip route get ADDRESS",
    },
    Cause {
        reasons: &[
            "NETFILTER_DROP",
            "CGROUP_BPF_EGRESS",
            "BPF_CGROUP_EGRESS",
            "TC_INGRESS",
            "TC_EGRESS",
            "XFRM_POLICY",
        ],
        harm: Harm::Owned,
        why: "a rule or policy of this host forbids them",
        likely: "a firewall rule, a traffic-control rule or a policy of the control group does what it was set up for, \
                 perhaps to more than was meant",
        next_step: "find the rule by its counters: nft list ruleset, or tc -s filter show dev INTERFACE",
    },
    Cause {
        reasons: &[
            "QDISC_DROP",
            "QDISC_OVERLIMIT",
            "QDISC_CONGESTED",
            "FQ_FLOW_LIMIT",
            "FQ_BAND_LIMIT",
            "FULL_RING",
        ],
        harm: Harm::Stray,
        why: "the queue of an interface was full",
        likely: "more is sent than the link carries; senders of TCP slow down by it, datagrams are lost",
        next_step: "see who sends most, then the queue: tc -s qdisc show dev INTERFACE",
    },
    Cause {
        reasons: &["NO_SOCKET"],
        harm: Harm::Stray,
        why: "nobody listens at their port",
        likely: "a service that others still use is down or listens elsewhere; or strangers try ports",
        next_step: "see which ports and who sends; then whether something should listen there: netmon-cli listeners",
    },
    Cause {
        reasons: &["IP_RPFILTER"],
        harm: Harm::Stray,
        why: "their source is not reached by the interface that they came by",
        likely: "packets come and go by different interfaces, or a source address is forged",
        next_step: "see by which interface they come, and compare: ip route get ADDRESS",
    },
];

/// The cause of a reason, and its name as it is written here.
fn cause_of(fact: &DropFact) -> Option<(&'static str, &'static Cause)> {
    let name = fact.reason.as_ref()?.as_str();
    CAUSES.iter().find_map(|cause| Some((*cause.reasons.iter().find(|known| **known == name)?, cause)))
}

/// The dropped packets of one reason.
struct Dropped<'a> {
    reason: &'static str,
    cause: &'static Cause,
    rows: Vec<&'a DropFact>,
}

/// A reason for which more was dropped than a healthy host does.
struct Fault<'a> {
    severity: Severity,
    reason: &'static str,
    cause: &'static Cause,
    packets: u64,
    rows: Vec<&'a DropFact>,
}

impl<'a> Dropped<'a> {
    fn fault(self, seconds: f64) -> Option<Fault<'a>> {
        let Self { reason, cause, rows } = self;
        let passes = |packets: u64, least: u64, per_second: f64| {
            packets >= least && packets as f64 >= per_second * seconds
        };
        let harmful: Vec<&DropFact> = match cause.harm {
            Harm::Always => rows.clone(),
            Harm::Owned => rows.iter().copied().filter(|row| row.process.is_some()).collect(),
            Harm::Stray => Vec::new(),
        };
        let packets = packets_of(&harmful);
        if passes(packets, LEAST_DROPPED, DROPPED_PER_SECOND) {
            return Some(Fault { severity: Severity::Warning, reason, cause, packets, rows: harmful });
        }
        let packets = packets_of(&rows);
        let many = passes(packets, LEAST_STRAY, STRAY_PER_SECOND);
        many.then_some(Fault { severity: Severity::Info, reason, cause, packets, rows })
    }
}

impl Fault<'_> {
    fn examples(&self) -> impl Iterator<Item = Example> {
        self.rows.iter().map(|row| example(row, self.reason))
    }
}

fn example(row: &DropFact, reason: &str) -> Example {
    Example {
        process: row.process.as_deref().map(owner_of),
        local_port: row.local_port,
        interface: row.interface_name.clone(),
        direction: Some(row.direction),
        numbers: vec![count(reason, row.counts.packets)],
        ..Example::default()
    }
}

fn count(reason: &str, packets: u64) -> Number {
    Number::count(&format!("{}_packets", reason.to_ascii_lowercase()), packets)
}

fn sort(rows: &mut [&DropFact]) {
    rows.sort_by_key(|row| (std::cmp::Reverse(row.counts.packets), row.local_port));
}

fn packets_of(rows: &[&DropFact]) -> u64 {
    rows.iter().fold(0, |sum, row| sum.saturating_add(row.counts.packets))
}

/// The faults, the gravest first, without those that are findings of other rules.
fn faults<'a>(drops: &'a Drops, facts: &Facts) -> Vec<Fault<'a>> {
    let elsewhere = [
        (UNREAD_DATAGRAMS, matches!(limits::overflow(facts), Ok(Some(_)))),
        (LISTENER_FULL, listeners::loses_connections(facts)),
        (HANDSHAKES_FULL, listeners::loses_handshakes(facts)),
    ];
    let mut by_reason: Vec<Dropped<'_>> = Vec::new();
    for row in &drops.rows {
        if elsewhere.iter().any(|(counted, is_found)| *is_found && counted.has(row, facts)) {
            continue;
        }
        let Some((reason, cause)) = cause_of(row) else { continue };
        match by_reason.iter_mut().find(|known| known.reason == reason) {
            Some(known) => known.rows.push(row),
            None => by_reason.push(Dropped { reason, cause, rows: vec![row] }),
        }
    }
    let seconds = drops.seconds();
    let mut faults: Vec<_> = by_reason.into_iter().filter_map(|dropped| dropped.fault(seconds)).collect();
    faults.sort_by_key(|fault| (fault.severity, std::cmp::Reverse(fault.packets), fault.reason));
    for fault in &mut faults {
        sort(&mut fault.rows);
    }
    faults
}

fn judge_drops(facts: &Facts) -> Verdict {
    let drops = match facts.drops() {
        Ok(drops) => drops,
        Err(reason) => return Verdict::NotJudged(reason),
    };
    let all = drops.rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.counts.packets));
    if all >= LEAST_DROPPED && drops.rows.iter().all(|row| row.reason.is_none()) {
        return Verdict::NotJudged("the kernel did not say why it dropped packets".to_owned());
    }
    let faults = faults(drops, facts);
    let Some(worst) = faults.first() else { return Verdict::Nothing };
    let per_second = worst.packets as f64 / drops.seconds().max(0.001);
    let mut numbers: Vec<Number> = faults
        .iter()
        .map(|fault| count(fault.reason, fault.packets).at_least(least(fault.severity).0 as f64))
        .collect();
    // Of the one that the title is about.
    numbers.insert(
        1,
        Number::new("packets_per_second", per_second, Unit::PerSecond).at_least(least(worst.severity).1),
    );
    let others = faults.len() - 1;
    let more = match others {
        0 => String::new(),
        _ => format!("; more for {}", number_of(others, "other reason", "other reasons")),
    };
    let reasons: Vec<String> = faults.iter().map(|fault| format!("--reason {}", fault.reason)).collect();
    let draft = Draft {
        severity: worst.severity,
        title: format!(
            "{} {} dropped: {}{more}",
            units::counted(worst.packets, "packet"),
            if worst.packets == 1 { "was" } else { "were" },
            worst.cause.why,
        ),
        window: drops.window(),
        numbers,
        examples: faults.iter().flat_map(Fault::examples).collect(),
        likely_cause: worst.cause.likely,
        next_step: worst.cause.next_step,
        command: format!("netmon-cli drops {} {}", reasons.join(" "), facts.times),
    };
    draft.found(Rule::PacketDrops)
}

/// How many packets, and how many a second, make a finding of this severity.
fn least(severity: Severity) -> (u64, f64) {
    match severity {
        Severity::Critical | Severity::Warning => (LEAST_DROPPED, DROPPED_PER_SECOND),
        Severity::Info => (LEAST_STRAY, STRAY_PER_SECOND),
    }
}
