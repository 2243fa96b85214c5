//! Ports, sockets and memory that run out.

use std::collections::{HashMap, HashSet};

use super::{
    Draft, Example, Number, Rule, Severity, Verdict,
    drops::{UNREAD_DATAGRAMS, examples_of},
    facts::{Facts, Failure, Owners, owner_of},
    number_of,
    thresholds::{
        LEAST_UDP_OVERFLOWS, LEAST_WITHOUT_PORT, LIMIT_SHARE, LOCAL_PORT_SHARE, UDP_OVERFLOW_SHARE,
    },
};
use crate::{
    fact::{ConnectionDirection, ConnectionState, Protocol, ProtocolSnapshot, SocketFact},
    monitor::{Endpoint, patterns::Destination},
    view::units,
};

pub(super) fn judge(facts: &Facts) -> Vec<(Rule, Verdict)> {
    vec![
        (Rule::EphemeralPorts, judge_ports(facts)),
        (Rule::SocketLimits, judge_limits(facts)),
        (Rule::UdpBufferOverflow, judge_udp(facts)),
    ]
}

/// The local ports that are taken towards one destination.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) ports: HashSet<u16>,
    pub(super) owners: Owners,
}

/// By destination, of the namespace whose range of ports is known; what waits in `TIME_WAIT` takes its port too.
pub(super) fn taken<'a>(
    sockets: impl Iterator<Item = &'a SocketFact>,
    limits: &ProtocolSnapshot,
) -> HashMap<Destination, Taken> {
    let (first, last) = (limits.limits.first_local_port, limits.limits.last_local_port);
    let (Some(first), Some(last)) = (first, last) else { return HashMap::new() };
    let mut taken: HashMap<Destination, Taken> = HashMap::new();
    for socket in sockets {
        let fact = &socket.connection;
        let Some(remote) = fact.remote else { continue };
        let outbound = fact.direction != ConnectionDirection::Inbound
            && fact.state != ConnectionState::Listening
            && (first..=last).contains(&u64::from(fact.local.port()));
        let here = limits.netns == 0 || fact.netns == 0 || fact.netns == limits.netns;
        if fact.protocol == Protocol::Tcp && outbound && here {
            let destination =
                Destination { protocol: fact.protocol, address: remote.ip(), port: remote.port() };
            let taken = taken.entry(destination).or_default();
            taken.ports.insert(fact.local.port());
            taken.owners.add(fact.process.as_deref());
        }
    }
    taken
}

fn judge_ports(facts: &Facts) -> Verdict {
    let blind = facts.blind();
    let without_port: Vec<_> = {
        let failed = |(_, attempts): &(_, &super::facts::Attempts)| attempts.failed(Failure::WithoutPort) > 0;
        let mut all: Vec<_> = facts.now.attempts.iter().filter(failed).collect();
        all.sort_by_key(|(to, attempts)| (std::cmp::Reverse(attempts.failed(Failure::WithoutPort)), **to));
        all
    };
    let failures: u64 = without_port.iter().map(|(_, attempts)| attempts.failed(Failure::WithoutPort)).sum();

    let limits = facts.limits();
    let ports = limits.as_ref().ok().and_then(|limits| limits.limits.local_ports());
    let used = match (&limits, facts.sockets()) {
        (Ok(limits), Ok(sockets)) => taken(sockets.iter(), limits),
        _ => HashMap::new(),
    };
    let share = |taken: &Taken| ports.map_or(0.0, |ports| taken.ports.len() as f64 / ports.max(1) as f64);
    let mut scarce: Vec<_> = used.iter().filter(|(_, taken)| share(taken) >= LOCAL_PORT_SHARE).collect();
    scarce.sort_by_key(|(to, taken)| (std::cmp::Reverse(taken.ports.len()), **to));
    if scarce.is_empty() && failures < LEAST_WITHOUT_PORT {
        return match (blind, ports) {
            (Some(reason), None) => Verdict::NotJudged(reason),
            _ => Verdict::Nothing,
        };
    }

    let worst = scarce.first().map(|(_, taken)| share(taken));
    let mut numbers =
        vec![Number::count("attempts_without_local_port", failures).at_least(LEAST_WITHOUT_PORT as f64)];
    numbers.extend(ports.map(|ports| Number::count("local_ports", ports)));
    numbers.extend(
        worst.map(|worst| Number::share("share_of_ports_taken_at_worst", worst).at_least(LOCAL_PORT_SHARE)),
    );
    let mut examples: Vec<Example> = Vec::new();
    for (to, taken) in &scarce {
        let failed = facts.now.attempts.get(to).map_or(0, |attempts| attempts.failed(Failure::WithoutPort));
        examples.push(Example {
            process: taken.owners.first(),
            destination: Some(**to),
            numbers: vec![
                Number::count("ports_taken", taken.ports.len() as u64),
                Number::count("attempts_without_local_port", failed),
            ],
            ..Example::default()
        });
    }
    for (to, attempts) in without_port.iter().filter(|(to, _)| !scarce.iter().any(|(known, _)| known == to)) {
        examples.push(Example {
            process: attempts.owners(Failure::WithoutPort).first(),
            destination: Some(**to),
            numbers: vec![Number::count(
                "attempts_without_local_port",
                attempts.failed(Failure::WithoutPort),
            )],
            ..Example::default()
        });
    }
    let title = match worst {
        Some(worst) if failures > 0 => format!(
            "{} found no local port; {:.0} % of them are taken towards one destination",
            units::counted(failures, "attempt"),
            worst * 100.0,
        ),
        Some(worst) => format!("{:.0} % of the local ports are taken towards one destination", worst * 100.0),
        None => {
            format!("{} found no local port or address (EADDRNOTAVAIL)", units::counted(failures, "attempt"))
        }
    };
    let draft = Draft {
        severity: if failures > 0 { Severity::Critical } else { Severity::Warning },
        title,
        window: facts.window(),
        numbers,
        examples,
        likely_cause: "a program opens a connection for every request instead of keeping some, or never closes them; a \
                       closed one takes its port for another minute",
        next_step: "let the program reuse connections; else widen net.ipv4.ip_local_port_range or add addresses",
        command: format!("netmon-cli summary --direction out {}", facts.times),
    };
    draft.found(Rule::EphemeralPorts)
}

/// What is used of a limit.
struct Used {
    name: &'static str,
    used: fn(&ProtocolSnapshot) -> Option<u64>,
    limit: fn(&ProtocolSnapshot) -> Option<u64>,
}

const LIMITS: &[Used] = &[
    Used {
        name: "time_wait",
        used: |read| read.sockets.tcp_time_wait,
        limit: |read| read.limits.tcp_time_wait,
    },
    Used { name: "orphans", used: |read| read.sockets.tcp_orphans, limit: |read| read.limits.tcp_orphans },
    Used {
        name: "tcp_memory_pages",
        used: |read| read.sockets.tcp_memory_pages,
        limit: |read| read.limits.tcp_memory_pages,
    },
    Used {
        name: "tracked_connections",
        used: |read| read.sockets.tracked_connections,
        limit: |read| read.limits.tracked_connections,
    },
    Used { name: "open_files", used: |read| read.sockets.open_files, limit: |read| read.limits.open_files },
];

fn judge_limits(facts: &Facts) -> Verdict {
    let counters = match facts.counters() {
        Ok(counters) => counters,
        Err(reason) => return Verdict::NotJudged(reason),
    };
    let read = &counters.to;
    let mut near: Vec<(&'static str, u64, u64)> = Vec::new();
    for used in LIMITS {
        if let (Some(count), Some(limit)) = ((used.used)(read), (used.limit)(read))
            && limit > 0
            && count as f64 >= LIMIT_SHARE * limit as f64
        {
            near.push((used.name, count, limit));
        }
    }
    let time_wait = counters.counted(|read| read.tcp.time_wait_overflows).unwrap_or(0);
    let aborted = counters.counted(|read| read.tcp.aborts_on_memory).unwrap_or(0);
    if near.is_empty() && time_wait == 0 && aborted == 0 {
        return Verdict::Nothing;
    }
    let mut numbers: Vec<Number> = Vec::new();
    for (name, count, limit) in &near {
        numbers.push(Number::count(name, *count));
        numbers.push(Number::count(&format!("{name}_limit"), *limit));
        numbers.push(
            Number::share(&format!("{name}_share"), *count as f64 / *limit as f64).at_least(LIMIT_SHARE),
        );
    }
    numbers.push(Number::count("time_wait_overflows", time_wait).at_least(1.0));
    numbers.push(Number::count("aborts_on_memory", aborted).at_least(1.0));
    let full = near.iter().any(|(_, count, limit)| count >= limit) || aborted > 0;
    let draft = Draft {
        severity: if full { Severity::Critical } else { Severity::Warning },
        title: match near.len() {
            0 => "a limit of the kernel's sockets was reached".to_owned(),
            near => format!(
                "{} nearly used up",
                number_of(near, "limit of the kernel's sockets is", "limits of the kernel's sockets are")
            ),
        },
        window: counters.window(),
        numbers,
        examples: Vec::new(),
        likely_cause: "more connections than this host is set up for, a program that leaks sockets, or a flood of clients",
        next_step: "see which program has most sockets before raising the setting",
        command: "netmon-cli sockets -o csv".to_owned(),
    };
    draft.found(Rule::SocketLimits)
}

/// How many datagrams found no room at their socket, and which share of those that came; `None` where they are too few to
/// be a finding.
pub(super) fn overflow(facts: &Facts) -> Result<Option<(u64, f64)>, String> {
    let counters = facts.counters()?;
    let lost = counters
        .counted(|read| read.udp.receive_buffer_errors)
        .ok_or_else(|| "the kernel does not tell RcvbufErrors".to_owned())?;
    let received = counters.counted(|read| read.udp.datagrams_received).unwrap_or(0);
    let share = lost as f64 / lost.saturating_add(received).max(1) as f64;
    Ok((lost >= LEAST_UDP_OVERFLOWS && share >= UDP_OVERFLOW_SHARE).then_some((lost, share)))
}

fn judge_udp(facts: &Facts) -> Verdict {
    let (counters, lost, share) = match (facts.counters(), overflow(facts)) {
        (Ok(counters), Ok(Some((lost, share)))) => (counters, lost, share),
        (Ok(_), Ok(None)) => return Verdict::Nothing,
        (Err(reason), _) | (_, Err(reason)) => return Verdict::NotJudged(reason),
    };
    let dropped = examples_of(facts, UNREAD_DATAGRAMS);
    let command = if dropped.is_empty() {
        "netmon-cli sockets --protocol udp".to_owned()
    } else {
        format!("netmon-cli drops --reason {} {}", UNREAD_DATAGRAMS.reason, facts.times)
    };
    let draft = Draft {
        severity: Severity::Warning,
        title: format!("{} found no room at the socket", units::counted(lost, "datagram")),
        window: counters.window(),
        numbers: vec![
            Number::count("receive_buffer_errors", lost).at_least(LEAST_UDP_OVERFLOWS as f64),
            Number::share("share_of_datagrams", share).at_least(UDP_OVERFLOW_SHARE),
        ],
        examples: if dropped.is_empty() { unread(facts) } else { dropped },
        likely_cause: "a process reads its datagrams too slowly, or in bursts larger than its buffer",
        next_step: "see whose they are; then let it read faster, or raise its buffer (SO_RCVBUF) and net.core.rmem_max",
        command,
    };
    draft.found(Rule::UdpBufferOverflow)
}

/// Who has unread datagrams now, where nothing tells whose were dropped.
fn unread(facts: &Facts) -> Vec<Example> {
    let mut queues: Vec<&SocketFact> = facts
        .sockets()
        .unwrap_or_default()
        .iter()
        .filter(|socket| socket.connection.protocol == Protocol::Udp && socket.receive_queue > Some(0))
        .collect();
    queues.sort_by_key(|socket| (std::cmp::Reverse(socket.receive_queue), socket.connection.local));
    let example = |socket: &SocketFact| Example {
        process: socket.connection.process.as_deref().map(owner_of),
        local: Some(Endpoint::from(socket.connection.local)),
        numbers: vec![Number::count("unread_bytes", u64::from(socket.receive_queue.unwrap_or(0)))],
        ..Example::default()
    };
    queues.into_iter().map(example).collect()
}
