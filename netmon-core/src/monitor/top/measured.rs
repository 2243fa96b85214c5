//! One connection between two samples.

use std::{collections::HashMap, hash::BuildHasher, time::Duration};

use super::super::summary::BytesPerSecond;
use crate::{
    fact::{BootTime, ConnectionFact, ConnectionId, ConnectionState, Moment, Traffic},
    source::Span,
};

/// What a sample remembers of a connection for the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    traffic: Option<Traffic>,
    retransmits: Option<u32>,
    /// When these counters were read.
    read_ns: u64,
    /// What was last measured; it stands until the counters are read again.
    rate: Option<BytesPerSecond>,
    pub(super) over: bool,
    /// The latest sample that it was in.
    pub(super) sample: u64,
}

/// A connection, and what happened on it since the sample before.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) fact: ConnectionFact,
    /// `None` where its counters are not known, or not those at the beginning.
    pub(super) rate: Option<BytesPerSecond>,
    /// Segments sent again since the sample before.
    pub(super) retransmits: Option<u64>,
    /// It began since the sample before.
    pub(super) began: bool,
    /// It ended since the sample before.
    pub(super) ended: bool,
    /// It ended before that, and is shown for a while.
    pub(super) past: bool,
}

impl Measured {
    pub(super) fn as_past(&self) -> Self {
        Self { past: true, ..self.clone() }
    }

    pub(super) fn ended_ns(&self) -> u64 {
        self.fact.closed.map_or(0, BootTime::ns)
    }

    pub(super) fn failed(&self) -> bool {
        self.ended && self.fact.state == ConnectionState::Failed
    }
}

/// Compares a connection with what the sample before knew of it. `fresh`: whether the counters of open connections were
/// read since. `None` for an end that the sample before told of already.
pub(super) fn measure<S: BuildHasher>(
    known: &mut HashMap<ConnectionId, Known, S>,
    fact: &ConnectionFact,
    span: &Span,
    counted: &Moment,
    fresh: bool,
    sample: u64,
) -> Option<Measured> {
    let over = fact.is_over();
    let began =
        fact.opened.is_some_and(|opened| opened.ns() > span.from.boot_ns && opened.ns() <= span.to.boot_ns);
    let before = known.get(&fact.id()).copied();
    if before.is_some_and(|before| before.over) {
        return None;
    }
    let retransmits_now = fact.tcp.map(|tcp| tcp.retransmits);
    // The end of a connection comes with its counters then.
    let read_ns = if over { fact.closed.map_or(span.to.boot_ns, BootTime::ns) } else { counted.boot_ns };
    let now = |rate, read_ns| Known {
        traffic: fact.traffic,
        retransmits: retransmits_now,
        read_ns,
        rate,
        over,
        sample,
    };
    let (next, retransmits) = match before {
        Some(before) if !fresh && !over => (Known { sample, ..before }, None),
        Some(before) => {
            let traffic = before.traffic.zip(fact.traffic).map(|(before, now)| now.since(&before));
            let rate = traffic.and_then(|traffic| per_second(traffic, before.read_ns, read_ns, span));
            (now(rate, read_ns), difference(before.retransmits, retransmits_now))
        }
        None if began && (fresh || over) => {
            let rate = fact.traffic.and_then(|traffic| per_second(traffic, span.from.boot_ns, read_ns, span));
            (now(rate, read_ns), retransmits_now)
        }
        // Nothing was counted on it when it began, and what it tells may be of later.
        None if began => {
            let opened_ns = fact.opened.map_or(span.to.boot_ns, BootTime::ns);
            let nothing =
                Known { traffic: Some(Traffic::default()), retransmits: Some(0), ..now(None, opened_ns) };
            (nothing, None)
        }
        None => (now(None, counted.boot_ns), None),
    };
    known.insert(fact.id(), next);
    Some(Measured {
        fact: fact.clone(),
        rate: next.rate,
        retransmits: retransmits.map(u64::from),
        began,
        ended: over,
        past: false,
    })
}

/// What went over it a second: since its counters were read before, and not less than over the interval, of which it may
/// have lasted a part.
fn per_second(traffic: Traffic, from_ns: u64, to_ns: u64, span: &Span) -> Option<BytesPerSecond> {
    let interval = span.to.since(&span.from);
    let seconds = Duration::from_nanos(to_ns.saturating_sub(from_ns)).max(interval).as_secs_f64();
    (seconds > 0.0).then(|| BytesPerSecond {
        sent: traffic.payload_bytes_sent as f64 / seconds,
        received: traffic.payload_bytes_received as f64 / seconds,
    })
}

fn difference(before: Option<u32>, now: Option<u32>) -> Option<u32> {
    Some(now?.saturating_sub(before?))
}
