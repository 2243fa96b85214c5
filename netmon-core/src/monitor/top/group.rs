//! What connections come to, by process and by destination.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{TopKey, TopLoad, measured::Measured};
use crate::{
    fact::{BootTime, ConnectionDirection, ConnectionFact, Process, Protocol},
    monitor::summary::BytesPerSecond,
};

/// What some connections come to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) connections: u64,
    open: u64,
    began: u64,
    failed: u64,
    measured: u64,
    sent: f64,
    received: f64,
    rtts: u64,
    rtt_us: u64,
    tcp: u64,
    retransmits: u64,
}

impl Sums {
    pub(super) fn add(&mut self, one: &Measured) {
        self.connections += 1;
        self.open += u64::from(one.open);
        self.began += u64::from(one.began);
        self.failed += u64::from(one.failed());
        if let Some(rate) = one.rate {
            self.measured += 1;
            self.sent += rate.sent;
            self.received += rate.received;
        }
        if let Some(rtt_us) = one.rtt_us {
            self.rtts += 1;
            self.rtt_us += u64::from(rtt_us);
        }
        if let Some(retransmits) = one.retransmits {
            self.tcp += 1;
            self.retransmits += retransmits;
        }
    }

    pub(super) fn load(&self) -> TopLoad {
        TopLoad {
            connections: self.connections,
            open: self.open,
            opened: self.began,
            failed: self.failed,
            payload_bytes_per_second: (self.measured > 0)
                .then_some(BytesPerSecond { sent: self.sent, received: self.received }),
            unmeasured: self.connections - self.measured,
            mean_rtt_seconds: (self.rtts > 0).then(|| self.rtt_us as f64 / self.rtts as f64 / 1e6),
            retransmits: (self.tcp > 0).then_some(self.retransmits),
        }
    }
}

/// The connections of one process, or to one destination.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) key: TopKey,
    pub(super) process: Option<Arc<Process>>,
    now: Sums,
    /// Those that ended earlier, which are shown for a while.
    past: Sums,
}

impl Group {
    /// What it comes to; where all has ended, what it came to.
    pub(super) fn load(&self) -> TopLoad {
        if self.is_past() { self.past.load() } else { self.now.load() }
    }

    /// Whether all of it has ended in an earlier interval.
    pub(super) fn is_past(&self) -> bool {
        self.now.connections == 0
    }
}

/// Groups in the order of their first connections.
#[derive(Debug, Default)]
pub(super) struct Groups {
    places: FxHashMap<TopKey, usize>,
    /// Where the last one was, since what a process does often comes in a row.
    last: Option<(TopKey, usize)>,
    pub(super) all: Vec<Group>,
}

impl Groups {
    pub(super) fn add(&mut self, key: TopKey, one: &Measured) {
        let place = match self.last {
            Some((last, place)) if last == key => place,
            _ => *self.places.entry(key).or_insert_with(|| {
                let process = one.fact.process.clone();
                self.all.push(Group { key, process, now: Sums::default(), past: Sums::default() });
                self.all.len() - 1
            }),
        };
        self.last = Some((key, place));
        let group = &mut self.all[place];
        if one.past { group.past.add(one) } else { group.now.add(one) }
    }
}

/// The process that a connection belongs to.
pub(super) fn process_key(fact: &ConnectionFact) -> TopKey {
    fact.process.as_ref().map_or(TopKey::UnknownProcess, |process| TopKey::Process {
        pid: process.pid,
        started_ns: process.started.map_or(0, BootTime::ns),
    })
}

/// The destination that a connection goes to. `None` for what the other side began.
pub(super) fn destination_key(fact: &ConnectionFact) -> Option<TopKey> {
    let outbound = fact.direction == ConnectionDirection::Outbound;
    let remote = fact.remote.filter(|_| outbound)?;
    // The scope of an IPv6 address is of the way there, not of the place.
    let remote = std::net::SocketAddr::new(remote.ip(), remote.port());
    Some(TopKey::Destination { protocol: fact.protocol, remote })
}

/// The protocol of a destination.
pub(super) fn protocol_of(key: &TopKey) -> Option<Protocol> {
    match key {
        TopKey::Destination { protocol, .. } => Some(*protocol),
        _ => None,
    }
}
