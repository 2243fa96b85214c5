//! Connections that stay in a state at the end of their life.

use std::collections::HashMap;

use super::{
    Draft, Example, Number, Rule, Severity, Verdict,
    facts::{Facts, in_state, owner_of},
    limits::taken,
    number_of,
    thresholds::{CLOSE_WAIT_SHARE, LEAST_CLOSE_WAIT, TIME_WAIT_SHARE},
};
use crate::{
    fact::{ConnectionState, Protocol, SocketFact, TcpState},
    monitor::{
        Endpoint,
        patterns::{Destination, Owner},
    },
    view::units,
};

pub(super) fn judge(facts: &Facts) -> Vec<(Rule, Verdict)> {
    let sockets = match facts.sockets() {
        Ok(sockets) => sockets,
        Err(reason) => {
            let verdict = || Verdict::NotJudged(reason.clone());
            return vec![(Rule::CloseWait, verdict()), (Rule::TimeWait, verdict())];
        }
    };
    vec![
        (Rule::CloseWait, judge_close_wait(facts, sockets)),
        (Rule::TimeWait, judge_time_wait(facts, sockets)),
    ]
}

fn judge_close_wait(facts: &Facts, sockets: &[SocketFact]) -> Verdict {
    // Those in the state, and all that are open.
    let mut owners: HashMap<Option<Owner>, (u64, u64)> = HashMap::new();
    for socket in sockets {
        let fact = &socket.connection;
        if fact.protocol == Protocol::Tcp && fact.state == ConnectionState::Open {
            let (waiting, all) = owners.entry(fact.process.as_deref().map(owner_of)).or_default();
            *all += 1;
            *waiting += u64::from(fact.tcp.is_some_and(|tcp| tcp.state == TcpState::CloseWait));
        }
    }
    let share = |(waiting, all): (u64, u64)| waiting as f64 / all.max(1) as f64;
    let mut found: Vec<(Option<Owner>, (u64, u64))> = owners
        .into_iter()
        .filter(|(_, counts)| counts.0 >= LEAST_CLOSE_WAIT && share(*counts) >= CLOSE_WAIT_SHARE)
        .collect();
    found.sort_by_key(|(owner, (waiting, _))| {
        (std::cmp::Reverse(*waiting), owner.as_ref().map(|owner| (owner.comm.clone(), owner.pid)))
    });
    let Some((_, worst)) = found.first() else { return Verdict::Nothing };

    let total: u64 = found.iter().map(|(_, (waiting, _))| waiting).sum();
    let numbers = vec![
        Number::count("close_wait", total).at_least(LEAST_CLOSE_WAIT as f64),
        Number::count("processes", found.len() as u64),
        Number::share("share_of_open_connections_at_worst", share(*worst)).at_least(CLOSE_WAIT_SHARE),
    ];
    let pid = found.iter().find_map(|(owner, _)| owner.as_ref()?.pid);
    let examples = found.iter().map(|(owner, (waiting, all))| Example {
        process: owner.clone(),
        numbers: vec![Number::count("close_wait", *waiting), Number::count("open_connections", *all)],
        ..Example::default()
    });
    let of_pid = pid.map(|pid| format!(" --pid {pid}")).unwrap_or_default();
    let draft = Draft {
        severity: Severity::Warning,
        title: format!(
            "{} that the other side closed are kept open by {}",
            units::counted(total, "connection"),
            number_of(found.len(), "process", "processes"),
        ),
        window: facts.moment(),
        numbers,
        examples: examples.collect(),
        likely_cause: "the program does not close its sockets after the other side did: a leak, or a thread that hangs; it \
                       will run out of descriptors",
        next_step: "see with whom these connections are, then look for the missing close() in that part of the program",
        command: format!("netmon-cli sockets --filter 'tcp.state == close_wait'{of_pid}"),
    };
    draft.found(Rule::CloseWait)
}

fn judge_time_wait(facts: &Facts, sockets: &[SocketFact]) -> Verdict {
    let limits = match facts.limits() {
        Ok(limits) => limits,
        Err(reason) => return Verdict::NotJudged(reason),
    };
    let Some(ports) = limits.limits.local_ports() else {
        return Verdict::NotJudged("the kernel does not tell ip_local_port_range".to_owned());
    };
    let waiting: Vec<&SocketFact> = in_state(sockets, TcpState::TimeWait).collect();
    let towards = taken(waiting.iter().copied(), limits);
    let scarce = towards.values().map(|taken| taken.ports.len()).max().unwrap_or(0);
    let of_ports = scarce as f64 / ports.max(1) as f64;
    let most = limits.limits.tcp_time_wait.filter(|most| *most > 0);
    let of_all = most.map_or(0.0, |most| waiting.len() as f64 / most as f64);
    if of_ports < TIME_WAIT_SHARE && of_all < TIME_WAIT_SHARE {
        return Verdict::Nothing;
    }

    let mut numbers = vec![
        Number::count("time_wait", waiting.len() as u64),
        Number::share("share_of_local_ports_at_worst", of_ports).at_least(TIME_WAIT_SHARE),
    ];
    numbers.extend(most.map(|_| Number::share("share_of_limit", of_all).at_least(TIME_WAIT_SHARE)));
    let draft = Draft {
        severity: Severity::Warning,
        title: format!(
            "{} that are over still take their ports",
            units::counted(waiting.len() as u64, "connection")
        ),
        window: facts.moment(),
        numbers,
        examples: whose(facts, &waiting),
        likely_cause: "this side opens and closes a connection for every request; each takes its port for a minute more",
        next_step: "let the program that closes keep its connections, or let the other side close first",
        command: format!(
            "netmon-cli connections --filter 'closed_by == local' --sort closed {}",
            facts.times
        ),
    };
    draft.found(Rule::TimeWait)
}

/// By the process that was seen to close them and the destination, or else by the place where they were accepted.
fn whose(facts: &Facts, waiting: &[&SocketFact]) -> Vec<Example> {
    type Key = (Option<Owner>, Option<Destination>, Option<Endpoint>);
    let Ok(limits) = facts.limits() else { return Vec::new() };
    let range = limits.limits.first_local_port.unwrap_or(0)..=limits.limits.last_local_port.unwrap_or(0);
    let mut groups: HashMap<Key, u64> = HashMap::new();
    for socket in waiting {
        let fact = &socket.connection;
        let Some(remote) = fact.remote else { continue };
        let closer = facts.now.closers.get(&(fact.local, remote)).map(|process| owner_of(process));
        let key = if range.contains(&u64::from(fact.local.port())) {
            let destination =
                Destination { protocol: fact.protocol, address: remote.ip(), port: remote.port() };
            (closer, Some(destination), None)
        } else {
            (closer, None, Some(Endpoint::from(fact.local)))
        };
        *groups.entry(key).or_default() += 1;
    }
    let mut groups: Vec<(Key, u64)> = groups.into_iter().collect();
    groups.sort_by_key(|((owner, to, at), count)| {
        (std::cmp::Reverse(*count), *to, *at, owner.as_ref().map(|owner| (owner.comm.clone(), owner.pid)))
    });
    let example = |((process, destination, local), count): (Key, u64)| Example {
        process,
        destination,
        local,
        numbers: vec![Number::count("time_wait", count)],
        ..Example::default()
    };
    groups.into_iter().map(example).collect()
}
