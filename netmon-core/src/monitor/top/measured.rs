//! One connection between two samples.

use std::{collections::HashMap, hash::BuildHasher, sync::Arc, time::Duration};

use super::{super::summary::BytesPerSecond, TopKey, group::process_key};
use crate::{
    fact::{BootTime, ConnectionFact, ConnectionId, ConnectionState, Moment, Traffic},
    source::Span,
};

/// What a sample remembers of a connection for the next.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The connection as it was last told, and what was measured then; a rate stands until counters are read again.
    last: Measured,
    counters: Counters,
    /// The latest sample that it was in.
    pub(super) sample: u64,
}

/// What a connection had counted, where that is known.
#[derive(Debug, Clone, Copy)]
struct Counters {
    traffic: Option<Traffic>,
    retransmits: Option<u32>,
    /// When these were read.
    read_ns: u64,
}

impl Known {
    pub(super) fn is_over(&self) -> bool {
        self.last.ended
    }

    /// The connection in a sample that leaves it out, since nothing came or went on it.
    pub(super) fn quiet(&mut self, counted: &Moment, sample: u64) -> Measured {
        self.sample = sample;
        self.counters.read_ns = counted.boot_ns;
        self.last.rate = self.counters.traffic.map(|_| BytesPerSecond { sent: 0.0, received: 0.0 });
        self.last.retransmits = self.counters.retransmits.map(|_| 0);
        self.last.began = false;
        self.last.clone()
    }
}

/// A connection, and what happened on it since the sample before.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) fact: Arc<ConnectionFact>,
    /// What sums are made of stands here too: facts lie far apart in memory, and to look at all of them takes longer than
    /// to add them up.
    pub(super) process: TopKey,
    pub(super) open: bool,
    pub(super) rtt_us: Option<u32>,
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
    let before = known.get(&fact.id());
    if before.is_some_and(Known::is_over) {
        return None;
    }
    // The end of a connection comes with its counters then.
    let read_ns = if over { fact.closed.map_or(span.to.boot_ns, BootTime::ns) } else { counted.boot_ns };
    let now = Counters { traffic: fact.traffic, retransmits: fact.tcp.map(|tcp| tcp.retransmits), read_ns };
    let (counters, rate, retransmits) = match before {
        Some(before) if !fresh && !over => (before.counters, before.last.rate, None),
        Some(Known { counters: before, .. }) => {
            let traffic = before.traffic.zip(now.traffic).map(|(before, now)| now.since(&before));
            let rate = traffic.and_then(|traffic| per_second(traffic, before.read_ns, read_ns, span));
            (now, rate, difference(before.retransmits, now.retransmits))
        }
        None if began && (fresh || over) => {
            let rate = now.traffic.and_then(|traffic| per_second(traffic, span.from.boot_ns, read_ns, span));
            (now, rate, now.retransmits)
        }
        // Nothing was counted on it when it began, and what it tells may be of later.
        None if began => {
            let opened_ns = fact.opened.map_or(span.to.boot_ns, BootTime::ns);
            let nothing =
                Counters { traffic: Some(Traffic::default()), retransmits: Some(0), read_ns: opened_ns };
            (nothing, None, None)
        }
        None => (Counters { read_ns: counted.boot_ns, ..now }, None, None),
    };
    let measured = Measured {
        fact: Arc::new(fact.clone()),
        process: process_key(fact),
        open: !over,
        rtt_us: fact.tcp.and_then(|tcp| tcp.rtt_us),
        rate,
        retransmits: retransmits.map(u64::from),
        began,
        ended: over,
        past: false,
    };
    known.insert(fact.id(), Known { last: measured.clone(), counters, sample });
    Some(measured)
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
