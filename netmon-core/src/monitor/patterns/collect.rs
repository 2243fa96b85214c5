//! Connections in a small form, with numbers for their destinations and owners, so that a million of them can be sorted.

use std::collections::{HashMap, HashSet};

use super::{
    Destination, Owner,
    thresholds::{LEAST_ATTEMPTS_OF_A_PROCESS, MOST_CONNECTIONS},
};
use crate::{
    clean::CleanText,
    fact::{BootTime, ConnectionDirection, ConnectionFact, ConnectionState, Process, Protocol, Traffic},
    source::{Sighting, Span},
};

/// Stands for "none" among the numbers of destinations.
pub(super) const NO_DESTINATION: u32 = u32::MAX;

/// A connection of which only what patterns are made of is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Nanoseconds since boot when it began, if that was within the span.
    pub(super) begun: Option<BootTime>,
    /// What went over it within the span.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// The number of its destination, if it goes to one.
    pub(super) destination: u32,
    /// The number of its process, afterwards of its owner.
    pub(super) owner: u32,
    pub(super) errno: Option<i16>,
    pub(super) outcome: Outcome,
    pub(super) direction: ConnectionDirection,
    pub(super) bytes_known: bool,
    /// Nothing came of it, see [`super::thresholds::FRUITLESS_SHARE`].
    pub(super) fruitless: bool,
}

impl Seen {
    /// Whether it is an attempt of this side, made within the span.
    pub(super) fn is_attempt(&self) -> bool {
        self.begun.is_some() && self.direction == ConnectionDirection::Outbound
    }
}

/// What became of an attempt of this side within the span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was decided before, or is not yet.
    Undecided,
    Succeeded,
    Failed,
}

/// Counts of one protocol.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ProtocolCount {
    pub(super) connections: u64,
    pub(super) bytes: Option<Traffic>,
}

/// What the visits collect.
#[derive(Debug)]
pub(super) struct Collected {
    span: Span,
    pub(super) seen: Vec<Seen>,
    pub(super) destinations: Vec<Destination>,
    pub(super) owners: Vec<Option<Owner>>,
    pub(super) protocols: Vec<(Protocol, ProtocolCount)>,
    pub(super) connections: u64,
    pub(super) begun_before: u64,
    numbers: HashMap<Destination, u32>,
    processes: Processes,
}

impl Collected {
    pub(super) fn new(span: Span) -> Self {
        Self {
            span,
            seen: Vec::new(),
            destinations: Vec::new(),
            owners: Vec::new(),
            protocols: Vec::new(),
            connections: 0,
            begun_before: 0,
            numbers: HashMap::new(),
            processes: Processes::default(),
        }
    }

    /// Takes a connection in.
    pub(super) fn add(&mut self, sighting: Sighting<'_>) {
        let fact = sighting.fact;
        if fact.state == ConnectionState::Listening {
            return;
        }
        let traffic = sighting.traffic_within(&self.span);
        self.connections += 1;
        self.count_protocol(fact.protocol, traffic);
        if fact.opened.is_none_or(|opened| opened.ns() <= self.span.from.boot_ns) {
            self.begun_before += 1;
        }
        if self.seen.len() >= MOST_CONNECTIONS {
            return;
        }
        let outcome = self.outcome(fact);
        let destination = destination_of(fact).map_or(NO_DESTINATION, |destination| self.number(destination));
        let total = fact
            .traffic
            .map(|traffic| traffic.payload_bytes_sent.saturating_add(traffic.payload_bytes_received));
        self.seen.push(Seen {
            begun: fact.opened.filter(|opened| self.within(*opened)),
            sent: traffic.map_or(0, |traffic| traffic.payload_bytes_sent),
            received: traffic.map_or(0, |traffic| traffic.payload_bytes_received),
            destination,
            owner: self.processes.number(fact.process.as_deref()),
            errno: fact.error.and_then(|error| error.errno).and_then(|errno| i16::try_from(errno).ok()),
            outcome,
            direction: fact.direction,
            bytes_known: traffic.is_some(),
            fruitless: match fact.state {
                ConnectionState::Failed | ConnectionState::Opening => true,
                ConnectionState::Closed => total.is_some_and(|total| total <= super::thresholds::FEW_BYTES),
                _ => false,
            },
        });
    }

    /// How many connections were too many to be kept.
    pub(super) fn left_out(&self) -> u64 {
        self.connections - self.seen.len() as u64
    }

    /// Turns processes into owners, when all connections are in.
    pub(super) fn finish(mut self) -> Self {
        let (owners, owner_of) = self.processes.owners(&self.seen);
        for seen in &mut self.seen {
            seen.owner = owner_of[seen.owner as usize];
        }
        self.owners = owners;
        self.numbers = HashMap::new();
        self
    }

    fn within(&self, at: BootTime) -> bool {
        at.ns() > self.span.from.boot_ns && at.ns() <= self.span.to.boot_ns
    }

    /// What became of it within the span. An attempt that took long counts when it was decided, so that slow failures are
    /// not set against quick successes of another time.
    fn outcome(&self, fact: &ConnectionFact) -> Outcome {
        if fact.direction != ConnectionDirection::Outbound {
            return Outcome::Undecided;
        }
        let (at, outcome) = match fact.state {
            ConnectionState::Failed => (fact.closed.or(fact.opened), Outcome::Failed),
            ConnectionState::Open | ConnectionState::Closed => {
                (fact.established.or(fact.opened), Outcome::Succeeded)
            }
            _ => (None, Outcome::Undecided),
        };
        if at.is_some_and(|at| self.within(at)) { outcome } else { Outcome::Undecided }
    }

    fn count_protocol(&mut self, protocol: Protocol, traffic: Option<Traffic>) {
        let index = self.protocols.iter().position(|(known, _)| *known == protocol).unwrap_or_else(|| {
            self.protocols.push((protocol, ProtocolCount::default()));
            self.protocols.len() - 1
        });
        let count = &mut self.protocols[index].1;
        count.connections += 1;
        if let Some(traffic) = traffic {
            count.bytes.get_or_insert_default().add(&traffic);
        }
    }

    fn number(&mut self, destination: Destination) -> u32 {
        *self.numbers.entry(destination).or_insert_with(|| {
            self.destinations.push(destination);
            // There are at most MOST_CONNECTIONS.
            u32::try_from(self.destinations.len() - 1).unwrap_or(NO_DESTINATION)
        })
    }
}

/// Where a connection goes: of one that came in, the other side is no destination.
pub(in crate::monitor) fn destination_of(fact: &ConnectionFact) -> Option<Destination> {
    if fact.direction == ConnectionDirection::Inbound {
        return None;
    }
    let remote = fact.remote?;
    Some(Destination { protocol: fact.protocol, address: remote.ip(), port: remote.port() })
}

/// Processes by number. What tells two apart is their number, start and name: a name that changes is another program.
#[derive(Debug, Default)]
struct Processes {
    numbers: HashMap<Option<(u32, Option<BootTime>)>, Vec<u32>>,
    known: Vec<Option<Process>>,
}

impl Processes {
    fn number(&mut self, process: Option<&Process>) -> u32 {
        let key = process.map(|process| (process.pid, process.started));
        let numbers = self.numbers.entry(key).or_default();
        let name = process.map(|process| &process.comm);
        let same = |number: &&u32| self.known[**number as usize].as_ref().map(|known| &known.comm) == name;
        if let Some(number) = numbers.iter().find(same) {
            return *number;
        }
        let number = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        self.known.push(process.map(|process| Process {
            uid: process.uid,
            container: process.container.clone(),
            ..Process::new(process.pid, process.comm.clone())
        }));
        numbers.push(number);
        number
    }

    /// The owners, and the number of the owner of each process.
    fn owners(&self, seen: &[Seen]) -> (Vec<Option<Owner>>, Vec<u32>) {
        let mut attempts = vec![0_usize; self.known.len()];
        for seen in seen.iter().filter(|seen| seen.is_attempt()) {
            attempts[seen.owner as usize] += 1;
        }
        let mut owners: Vec<Option<Owner>> = Vec::new();
        let mut pools: HashMap<(&CleanText, Option<u32>, Option<&CleanText>), u32> = HashMap::new();
        let mut owner_of = Vec::with_capacity(self.known.len());
        for (process, attempts) in self.known.iter().zip(attempts) {
            let next = u32::try_from(owners.len()).unwrap_or(u32::MAX);
            let owner = match process {
                Some(process) if attempts < LEAST_ATTEMPTS_OF_A_PROCESS => {
                    let pool = (&process.comm, process.uid, process.container.as_ref());
                    *pools.entry(pool).or_insert(next)
                }
                _ => next,
            };
            if owner == next {
                owners.push(process.as_ref().map(|process| Owner {
                    comm: process.comm.clone(),
                    pid: Some(process.pid),
                    processes: 1,
                }));
            } else if let Some(Some(pool)) = owners.get_mut(owner as usize) {
                pool.pid = None;
                pool.processes += 1;
            }
            owner_of.push(owner);
        }
        (owners, owner_of)
    }
}

/// The destinations of an earlier time.
pub(super) fn destinations(visit: impl FnOnce(&mut dyn FnMut(Sighting<'_>))) -> HashSet<Destination> {
    let mut all = HashSet::new();
    visit(&mut |sighting| {
        if let Some(destination) = destination_of(sighting.fact)
            && all.len() < MOST_CONNECTIONS
        {
            all.insert(destination);
        }
    });
    all
}
