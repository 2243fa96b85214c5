//! Listeners that lose connections.

use super::{
    Draft, Example, Number, Rule, Severity, Verdict,
    drops::{LISTENER_FULL, examples_of},
    facts::{Facts, owner_of},
    number_of,
    thresholds::LEAST_OVERFLOWS,
};
use crate::{
    fact::{ConnectionState, Protocol, SocketFact},
    monitor::Endpoint,
    view::units,
};

pub(super) fn judge(facts: &Facts) -> Vec<(Rule, Verdict)> {
    vec![(Rule::ListenOverflow, judge_accept_queue(facts)), (Rule::SynQueueOverflow, judge_syn_queue(facts))]
}

/// A listener whose queue has no room, and what is in it.
fn full(socket: &SocketFact) -> Option<(u64, u64)> {
    let fact = &socket.connection;
    if fact.protocol != Protocol::Tcp || fact.state != ConnectionState::Listening {
        return None;
    }
    let (used, limit) = (u64::from(socket.receive_queue?), u64::from(socket.send_queue?));
    (used > 0 && used >= limit).then_some((used, limit))
}

/// How many connections found the queue of their listener full.
fn overflows(facts: &Facts) -> Result<u64, String> {
    let overflows = facts.counters()?.counted(|read| read.tcp.listen_overflows);
    overflows.ok_or_else(|| "the kernel does not tell ListenOverflows".to_owned())
}

/// Whether they are enough for a finding.
pub(super) fn loses_connections(facts: &Facts) -> bool {
    overflows(facts).is_ok_and(|overflows| overflows >= LEAST_OVERFLOWS)
}

/// How many connections were lost is known of the whole namespace, how full a queue is of each listener.
fn judge_accept_queue(facts: &Facts) -> Verdict {
    let counted = overflows(facts).and_then(|overflows| Ok((facts.counters()?, overflows)));
    let listeners = facts.sockets();
    if let (Err(reason), Err(_)) = (&counted, &listeners) {
        return Verdict::NotJudged(reason.clone());
    }
    let mut waiting: Vec<(&SocketFact, u64, u64)> = listeners
        .unwrap_or_default()
        .iter()
        .filter_map(|socket| full(socket).map(|(used, limit)| (socket, used, limit)))
        .collect();
    waiting.sort_by_key(|(socket, used, _)| (std::cmp::Reverse(*used), socket.connection.local));
    let overflows = counted.as_ref().map_or(0, |(_, overflows)| *overflows);
    if overflows < LEAST_OVERFLOWS && waiting.is_empty() {
        return Verdict::Nothing;
    }

    let lost = units::counted(overflows, "connection");
    let (severity, title) = match (overflows >= LEAST_OVERFLOWS, waiting.len()) {
        (true, 0) => (Severity::Warning, format!("{lost} were lost because nobody accepted in time")),
        (true, listeners) => (
            Severity::Critical,
            format!(
                "{lost} were lost, and {} full now",
                number_of(listeners, "accept queue is", "accept queues are")
            ),
        ),
        (false, listeners) => (
            Severity::Warning,
            format!("{} full now", number_of(listeners, "accept queue is", "accept queues are")),
        ),
    };
    let mut numbers = Vec::new();
    let mut window = facts.moment();
    if let Ok((counters, overflows)) = &counted {
        window = counters.window();
        numbers.push(Number::count("listen_overflows", *overflows).at_least(LEAST_OVERFLOWS as f64));
        let drops = counters.counted(|read| read.tcp.listen_drops);
        numbers.extend(drops.map(|drops| Number::count("listen_drops", drops)));
    }
    numbers.push(Number::count("full_listeners", waiting.len() as u64).at_least(1.0));
    let examples = waiting.iter().map(|(socket, used, limit)| Example {
        process: socket.connection.process.as_deref().map(owner_of),
        local: Some(Endpoint::from(socket.connection.local)),
        numbers: vec![Number::count("waiting_connections", *used), Number::count("backlog", *limit)],
        ..Example::default()
    });
    let mut examples: Vec<Example> = examples.collect();
    if examples.is_empty() {
        examples = examples_of(facts, LISTENER_FULL);
    }
    let draft = Draft {
        severity,
        title,
        window,
        numbers,
        examples,
        likely_cause: "the server does not call accept() often enough: it is blocked, too busy or has too few workers; or \
                       the backlog it asks for is too small",
        next_step: "look at what the process does; then raise its backlog, and net.core.somaxconn where that is the limit",
        command: "netmon-cli listeners --protocol tcp".to_owned(),
    };
    draft.found(Rule::ListenOverflow)
}

/// SYNs that were dropped, and those that were answered with cookies, because too many handshakes were open.
fn refused_syns(facts: &Facts) -> Result<(u64, u64), String> {
    let counters = facts.counters()?;
    let drops = counters.counted(|read| read.tcp.request_queue_drops);
    let cookies = counters.counted(|read| read.tcp.request_queue_cookies);
    drops.zip(cookies).ok_or_else(|| "the kernel does not tell TCPReqQFullDrop".to_owned())
}

/// Whether they are enough for a finding.
pub(super) fn loses_handshakes(facts: &Facts) -> bool {
    refused_syns(facts).is_ok_and(|(drops, cookies)| drops.saturating_add(cookies) >= LEAST_OVERFLOWS)
}

fn judge_syn_queue(facts: &Facts) -> Verdict {
    let (counters, (drops, cookies)) = match (facts.counters(), refused_syns(facts)) {
        (Ok(counters), Ok(both)) => (counters, both),
        (Err(reason), _) | (_, Err(reason)) => return Verdict::NotJudged(reason),
    };
    let both = drops.saturating_add(cookies);
    if both < LEAST_OVERFLOWS {
        return Verdict::Nothing;
    }
    let mut numbers = vec![
        Number::count("syns_dropped_or_answered_with_cookies", both).at_least(LEAST_OVERFLOWS as f64),
        Number::count("syns_dropped", drops),
        Number::count("cookies_sent", cookies),
    ];
    numbers.extend(counters.to.limits.syn_backlog.map(|limit| Number::count("syn_backlog", limit)));
    let draft = Draft {
        severity: if drops > 0 { Severity::Critical } else { Severity::Warning },
        title: format!("{} found the queue of open handshakes full", units::counted(both, "SYN")),
        window: counters.window(),
        numbers,
        examples: Vec::new(),
        likely_cause: "a SYN flood, or clients whose answers get lost; or a listener whose backlog is too small",
        next_step: "see from where handshakes come that are not finished",
        command: "netmon-cli sockets --filter 'tcp.state == syn_received'".to_owned(),
    };
    draft.found(Rule::SynQueueOverflow)
}
