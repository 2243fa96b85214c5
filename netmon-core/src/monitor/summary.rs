//! What the connections of a window come to: by process, by destination, by error.
//!
//! A window can hold a million of them, so each costs a few look-ups in small tables and no allocation: processes are told
//! apart by where they are in memory, and those that are equal are merged at the end.

use std::{
    cmp::Reverse,
    fmt,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use super::{
    connection::{BothWays, Endpoint},
    connections::observed_line,
    observe::{self, Scope},
};
use crate::{
    answer::{Answer, Header, Row},
    clean::CleanText,
    control::Control,
    error::Result,
    fact::{
        ConnectionDirection, ConnectionError, ConnectionFact, ConnectionId, ConnectionState, Process,
        Protocol, Traffic,
    },
    request::{ConnectionFilter, SummaryRequest},
    source::{Sighting, Source, Span},
    view::{Cell, Column, Table, Tone, units},
};

/// How many processes, destinations and errors are listed.
pub const LISTED: usize = 20;

/// What the connections of a window come to. Sums are over all of them, whatever is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct SummaryAnswer {
    /// Host, window and coverage.
    #[serde(flatten)]
    pub header: Header,
    /// Of what this is the summary, in words: `Process 'curl'`, `PID 123`, `All processes`.
    #[serde(deserialize_with = "crate::clean::sentences")]
    pub subject: String,
    /// How far back the question went. Absent where it named no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_seconds: Option<f64>,
    /// Outbound attempts that began in the window: TCP connections, and flows of UDP and ICMP.
    pub total_attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Connections that were open at some time in the window, attempts included.
    pub connections: u64,
    /// Those that began in the window, either way.
    pub opened: u64,
    /// Those that ended in the window after they were established.
    pub closed: u64,
    /// Those that were open, or opening, at its end.
    pub open: u64,
    /// Those that the other side began, whenever.
    pub inbound: u64,
    /// Those that this side began, whenever.
    pub outbound: u64,
    /// Bytes of applications in the window, of those connections of which it is known. Absent where it is of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<BothWays>,
    /// The same a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes_per_second: Option<BytesPerSecond>,
    /// Connections of which it is not known how much went over them in the window.
    pub unmeasured: u64,
    /// How many processes there are.
    pub by_process_total: u64,
    /// Those with the most attempts, twenty at most.
    pub by_process: Vec<ProcessSummary>,
    /// What all other processes come to. Absent where all are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_process_other: Option<OtherSummary>,
    /// How many destinations there are.
    pub by_destination_total: u64,
    /// Those with the most attempts, twenty at most.
    pub by_destination: Vec<DestinationSummary>,
    /// What all other destinations come to. Absent where all are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_destination_other: Option<OtherSummary>,
    /// How many errors there are.
    pub by_error_total: u64,
    /// The most frequent, twenty at most: of all connections that failed or were broken off in the window, whenever they
    /// began.
    pub by_error: Vec<ErrorSummary>,
}

/// Bytes a second of each way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BytesPerSecond {
    /// From this side.
    pub sent: f64,
    /// To this side.
    pub received: f64,
}

/// The connections of one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ProcessSummary {
    /// Its number. Absent for all connections of which the process is not known, which are one row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<CleanText>,
    /// The program file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<CleanText>,
    /// Its effective user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<CleanText>,
    /// The id of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<CleanText>,
    /// Outbound attempts that began in the window.
    pub attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// All its connections in the window, either way.
    pub connections: u64,
    /// Those that were open, or opening, at its end.
    pub open: u64,
    /// How many destinations its outbound connections have.
    pub destinations: u64,
    /// Bytes of applications in the window, as far as known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<BothWays>,
    /// The same a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes_per_second: Option<BytesPerSecond>,
}

/// What is not listed, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct OtherSummary {
    /// How many they are.
    pub count: u64,
    /// Their attempts that began in the window.
    pub attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Their connections in the window.
    pub connections: u64,
}

impl OtherSummary {
    fn of<'a>(sums: impl Iterator<Item = &'a Sum>) -> Self {
        let mut all = Self::default();
        sums.for_each(|sum| all.add([sum.attempts, sum.failed, sum.connections]));
        all
    }

    fn add(&mut self, [attempts, failed, connections]: [u64; 3]) {
        self.count += 1;
        self.attempts += attempts;
        self.failed += failed;
        self.connections += connections;
    }

    /// What is left when these are listed.
    fn without(mut self, listed: impl Iterator<Item = [u64; 3]>) -> Option<Self> {
        for [attempts, failed, connections] in listed {
            self.count -= 1;
            self.attempts -= attempts;
            self.failed -= failed;
            self.connections -= connections;
        }
        (self.count > 0).then_some(self)
    }
}

/// The outbound connections to one address and port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct DestinationSummary {
    /// The protocol.
    pub protocol: Protocol,
    /// The address and port.
    pub remote: Endpoint,
    /// Attempts that began in the window.
    pub attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// All connections to it in the window.
    pub connections: u64,
    /// Bytes of applications in the window, as far as known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<BothWays>,
    /// How long it took to connect, on average over the attempts in the window that did. Absent for none, and for UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_connect_latency_seconds: Option<f64>,
    /// The longest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connect_latency_seconds: Option<f64>,
    /// TCP segments sent again, since the connections began. Absent where it is not known of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
}

/// Connections that ended with one error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ErrorSummary {
    /// The kernel's number. Absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// Its name, such as `ECONNREFUSED`; `never_sent` for attempts of which only that is known, `unknown` for failures
    /// without an error.
    pub name: CleanText,
    /// Connections that failed or were broken off with it in the window.
    pub count: u64,
    /// Those of them that are in `failed`: outbound attempts that began in the window.
    pub failed_attempts: u64,
    /// Those of them of which the number was worked out, not told by the kernel.
    pub inferred: u64,
    /// The first of them.
    pub example: ErrorExample,
}

/// A connection that ended with an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ErrorExample {
    /// Its identity, as in the list of connections.
    pub id: ConnectionId,
    /// Its protocol.
    pub protocol: Protocol,
    /// The number of its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The name of its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<CleanText>,
    /// The other side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Endpoint>,
}

/// Answers a request; see [`Monitor::summary`](crate::Monitor::summary).
pub(super) fn summary(
    source: &dyn Source,
    request: &SummaryRequest,
    control: &Control<'_>,
) -> Result<SummaryAnswer> {
    request.check()?;
    let description = source.describe();
    let scope = Scope::new(&request.filter, &[], source, &control.cancel)?;
    let watched = observe::watch(source, request.since, request.window, control)?;
    let mut sums = Sums::new(watched.span, watched.only_open);
    let observed = source.connections(&watched.span, &scope.filter, &mut |sighting| {
        if scope.takes(sighting.fact) {
            sums.add(sighting);
        }
    })?;
    let seconds = watched.length().as_secs_f64();
    let header = observe::header(description, &watched, observed, false);
    let requested_seconds = request.since.map(|since| since.as_secs_f64());
    Ok(sums.answer(header, subject(&request.filter), requested_seconds, seconds))
}

/// What was asked about: the process quoted as it was asked, then the other conditions.
fn subject(filter: &ConnectionFilter) -> String {
    let process = match (&filter.process, filter.pid) {
        (Some(name), Some(pid)) => format!("Process '{}' (PID {pid})", CleanText::from(name.as_str())),
        (Some(name), None) => format!("Process '{}'", CleanText::from(name.as_str())),
        (None, Some(pid)) => format!("PID {pid}"),
        (None, None) => "All processes".to_owned(),
    };
    let others = ConnectionFilter { pid: None, process: None, ..filter.clone() };
    if others.is_empty() { process } else { format!("{process} ({})", others.describe()) }
}

/// Where outbound connections go. Small, and quick to hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Destination {
    /// The address, v4 as v4-mapped, in two halves.
    address: [u64; 2],
    port: u16,
    protocol: Protocol,
}

impl Destination {
    fn new(protocol: Protocol, remote: &SocketAddr) -> Self {
        let bits = match remote.ip() {
            IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
            IpAddr::V6(address) => u128::from(address),
        };
        // Both halves are what is left after the cut.
        Self { address: [(bits >> 64) as u64, bits as u64], port: remote.port(), protocol }
    }

    fn endpoint(&self) -> Endpoint {
        let bits = u128::from(self.address[0]) << 64 | u128::from(self.address[1]);
        Endpoint { address: IpAddr::V6(bits.into()).to_canonical(), port: self.port }
    }
}

/// What a connection, a process or a destination comes to.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    attempts: u64,
    failed: u64,
    connections: u64,
    open: u64,
    /// Of how many connections it is known what went over them.
    measured: u64,
    bytes: BothWays,
    latencies: u64,
    latency_ns: u64,
    longest_latency_ns: u64,
    tcp: u64,
    retransmits: u64,
}

impl Sum {
    /// One connection.
    fn of(fact: &ConnectionFact, attempt: bool, within: Option<Traffic>) -> Self {
        let latency = fact.connect_latency().filter(|_| attempt && fact.protocol == Protocol::Tcp);
        let latency_ns = latency.map_or(0, |latency| u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        Self {
            attempts: attempt.into(),
            failed: (attempt && fact.state == ConnectionState::Failed).into(),
            connections: 1,
            open: (!fact.is_over()).into(),
            measured: within.is_some().into(),
            bytes: within.as_ref().map(BothWays::payload).unwrap_or_default(),
            latencies: latency.is_some().into(),
            latency_ns,
            longest_latency_ns: latency_ns,
            tcp: fact.tcp.is_some().into(),
            retransmits: fact.tcp.as_ref().map_or(0, |tcp| tcp.retransmits.into()),
        }
    }

    fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.failed += other.failed;
        self.connections += other.connections;
        self.open += other.open;
        self.measured += other.measured;
        self.bytes.sent = self.bytes.sent.saturating_add(other.bytes.sent);
        self.bytes.received = self.bytes.received.saturating_add(other.bytes.received);
        self.latencies += other.latencies;
        self.latency_ns = self.latency_ns.saturating_add(other.latency_ns);
        self.longest_latency_ns = self.longest_latency_ns.max(other.longest_latency_ns);
        self.tcp += other.tcp;
        self.retransmits += other.retransmits;
    }

    fn payload(&self) -> Option<BothWays> {
        (self.measured > 0).then_some(self.bytes)
    }

    /// The most attempts first, then connections, then bytes.
    fn rank(&self) -> Reverse<(u64, u64, u64)> {
        Reverse((self.attempts, self.connections, self.bytes.sum()))
    }
}

fn rate(bytes: Option<BothWays>, seconds: f64) -> Option<BytesPerSecond> {
    let bytes = bytes.filter(|_| seconds > 0.0)?;
    Some(BytesPerSecond { sent: bytes.sent as f64 / seconds, received: bytes.received as f64 / seconds })
}

pub(super) struct Sums {
    span: Span,
    only_open: bool,
    /// By where a process is in memory, 0 for none, its place in `processes`.
    places: FxHashMap<usize, u32>,
    /// The last one, since what a process does often comes in a row.
    last: Option<(usize, u32)>,
    /// Processes are held, so that no other gets their place in memory.
    processes: Vec<(Option<Arc<Process>>, Sum)>,
    destinations: Groups<Destination>,
    /// Which process has which destination, by their places.
    pairs: FxHashSet<(u32, u32)>,
    opened: u64,
    closed: u64,
    inbound: u64,
    outbound: u64,
    /// A handful, so a list is quicker than a map. `None` for failures without an error.
    errors: Vec<(Option<Option<i32>>, ErrorSummary)>,
}

impl Sums {
    pub(super) fn new(span: Span, only_open: bool) -> Self {
        Self {
            span,
            only_open,
            places: FxHashMap::default(),
            last: None,
            processes: Vec::new(),
            destinations: Groups::default(),
            pairs: FxHashSet::default(),
            opened: 0,
            closed: 0,
            inbound: 0,
            outbound: 0,
            errors: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, sighting: Sighting<'_>) {
        let fact = sighting.fact;
        if fact.state == ConnectionState::Listening || self.only_open && fact.is_over() {
            return;
        }
        let began = fact.opened.is_some_and(|opened| {
            opened.ns() > self.span.from.boot_ns && opened.ns() <= self.span.to.boot_ns
        });
        let outbound = fact.direction == ConnectionDirection::Outbound;
        let attempt = began && outbound;
        let failed = fact.state == ConnectionState::Failed;
        self.opened += u64::from(began);
        self.closed += u64::from(fact.state == ConnectionState::Closed);
        self.inbound += u64::from(fact.direction == ConnectionDirection::Inbound);
        self.outbound += u64::from(outbound);
        if fact.is_over() && (failed || fact.error.is_some()) {
            self.add_error(fact, attempt && failed);
        }

        let within = if self.only_open { None } else { sighting.traffic_within(&self.span) };
        let sum = Sum::of(fact, attempt, within);
        let process = self.process(fact.process.as_ref());
        self.processes[process as usize].1.add(&sum);
        if let Some(remote) = fact.remote.as_ref().filter(|_| outbound) {
            let destination = self.destinations.number(Destination::new(fact.protocol, remote));
            self.destinations.sums[destination as usize].1.add(&sum);
            self.pairs.insert((process, destination));
        }
    }

    /// The place of a process in `processes`.
    fn process(&mut self, process: Option<&Arc<Process>>) -> u32 {
        let address = process.map_or(0, |process| Arc::as_ptr(process) as usize);
        if let Some((last, place)) = self.last
            && last == address
        {
            return place;
        }
        let place = *self.places.entry(address).or_insert_with(|| {
            self.processes.push((process.cloned(), Sum::default()));
            last_place(self.processes.len())
        });
        self.last = Some((address, place));
        place
    }

    fn add_error(&mut self, fact: &ConnectionFact, failed_attempt: bool) {
        let kind = fact.error.map(|error| error.errno);
        let index = self.errors.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
            self.errors.push((kind, ErrorSummary::first(fact)));
            self.errors.len() - 1
        });
        let error = &mut self.errors[index].1;
        error.count += 1;
        error.failed_attempts += u64::from(failed_attempt);
        error.inferred += u64::from(fact.error.is_some_and(|error| error.inferred));
    }

    pub(super) fn answer(
        self,
        mut header: Header,
        subject: String,
        requested_seconds: Option<f64>,
        seconds: f64,
    ) -> SummaryAnswer {
        let mut total = Sum::default();
        let mut processes: Groups<Option<Identity<'_>>> = Groups::default();
        let merged: Vec<u32> = self
            .processes
            .iter()
            .map(|(process, sum)| {
                total.add(sum);
                let place = processes.number(process.as_deref().map(Identity::of));
                processes.sums[place as usize].1.add(sum);
                place
            })
            .collect();
        let mut destinations_of = vec![0_u64; processes.sums.len()];
        if merged.len() == processes.sums.len() {
            // None are equal, so that each pair is told once.
            self.pairs.iter().for_each(|(process, _)| destinations_of[*process as usize] += 1);
        } else {
            let pairs: FxHashSet<(u32, u32)> = self
                .pairs
                .iter()
                .map(|(process, destination)| (merged[*process as usize], *destination))
                .collect();
            pairs.iter().for_each(|(process, _)| destinations_of[*process as usize] += 1);
        }
        let by_process_total = processes.sums.len() as u64;
        let all_processes = OtherSummary::of(processes.sums.iter().map(|(_, sum)| sum));
        let by_destination_total = self.destinations.sums.len() as u64;
        let counted: Vec<(Option<Identity<'_>>, (Sum, u64))> = processes
            .sums
            .into_iter()
            .zip(destinations_of)
            .map(|((process, sum), destinations)| (process, (sum, destinations)))
            .collect();
        let by_process: Vec<ProcessSummary> = first(counted, |(process, (sum, _))| (sum.rank(), *process))
            .into_iter()
            .map(|(process, (sum, destinations))| {
                ProcessSummary::new(process.map(|identity| identity.process), &sum, destinations, seconds)
            })
            .collect();
        let all_destinations = OtherSummary::of(self.destinations.sums.iter().map(|(_, sum)| sum));
        let by_destination: Vec<DestinationSummary> =
            first(self.destinations.sums, |(destination, sum)| (sum.rank(), *destination))
                .into_iter()
                .map(|(destination, sum)| DestinationSummary::new(&destination, &sum))
                .collect();
        let by_error_total = self.errors.len() as u64;
        let errors: Vec<ErrorSummary> = self.errors.into_iter().map(|(_, error)| error).collect();
        let by_error = first(errors, |error| (Reverse(error.count), error.errno));
        header.coverage.truncated = [by_process_total, by_destination_total, by_error_total]
            .iter()
            .any(|total| *total > LISTED as u64);
        SummaryAnswer {
            header,
            subject,
            requested_seconds,
            total_attempts: total.attempts,
            failed: total.failed,
            connections: total.connections,
            opened: self.opened,
            closed: self.closed,
            open: total.open,
            inbound: self.inbound,
            outbound: self.outbound,
            payload_bytes: total.payload(),
            payload_bytes_per_second: rate(total.payload(), seconds),
            unmeasured: total.connections - total.measured,
            by_process_total,
            by_process_other: all_processes.without(by_process.iter().map(ProcessSummary::counts)),
            by_process,
            by_destination_total,
            by_destination_other: all_destinations
                .without(by_destination.iter().map(DestinationSummary::counts)),
            by_destination,
            by_error_total,
            by_error,
        }
    }
}

/// What makes a process the same in two facts that do not share it.
#[derive(Debug, Clone, Copy)]
struct Identity<'a> {
    process: &'a Process,
}

impl<'a> Identity<'a> {
    fn of(process: &'a Process) -> Self {
        Self { process }
    }

    /// The number and start, and the name and file, which an `exec` changes.
    fn parts(&self) -> impl Ord + Hash + use<'a> {
        let Process { pid, started, comm, exe, .. } = self.process;
        (*pid, *started, comm, exe.as_ref())
    }
}

impl PartialEq for Identity<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Identity<'_> {}

impl PartialOrd for Identity<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Identity<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl Hash for Identity<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// Sums of things, each with a number.
struct Groups<T> {
    numbers: FxHashMap<T, u32>,
    sums: Vec<(T, Sum)>,
}

impl<T> Default for Groups<T> {
    fn default() -> Self {
        Self { numbers: FxHashMap::default(), sums: Vec::new() }
    }
}

impl<T: Copy + Eq + Hash> Groups<T> {
    fn number(&mut self, item: T) -> u32 {
        *self.numbers.entry(item).or_insert_with(|| {
            self.sums.push((item, Sum::default()));
            last_place(self.sums.len())
        })
    }
}

/// The place of what was just added to a list, of which there are never so many: each takes more than a hundred bytes.
fn last_place(length: usize) -> u32 {
    u32::try_from(length - 1).unwrap_or(u32::MAX)
}

/// The first of many in an order, without sorting the others.
fn first<T, K: Ord>(mut items: Vec<T>, order: impl Fn(&T) -> K) -> Vec<T> {
    if items.len() > LISTED {
        items.select_nth_unstable_by(LISTED, |one, other| order(one).cmp(&order(other)));
        items.truncate(LISTED);
    }
    items.sort_by_key(order);
    items
}

impl ProcessSummary {
    fn counts(&self) -> [u64; 3] {
        [self.attempts, self.failed, self.connections]
    }

    fn new(process: Option<&Process>, sum: &Sum, destinations: u64, seconds: f64) -> Self {
        Self {
            pid: process.map(|process| process.pid),
            comm: process.map(|process| process.comm.clone()),
            exe: process.and_then(|process| process.exe.clone()),
            uid: process.and_then(|process| process.uid),
            unit: process.and_then(|process| process.unit.clone()),
            container: process.and_then(|process| process.container.clone()),
            attempts: sum.attempts,
            failed: sum.failed,
            connections: sum.connections,
            open: sum.open,
            destinations,
            payload_bytes: sum.payload(),
            payload_bytes_per_second: rate(sum.payload(), seconds),
        }
    }
}

impl DestinationSummary {
    fn counts(&self) -> [u64; 3] {
        [self.attempts, self.failed, self.connections]
    }

    fn new(destination: &Destination, sum: &Sum) -> Self {
        // Nanoseconds of centuries are exact enough as a float.
        let seconds = |ns: u64| ns as f64 / 1e9;
        Self {
            protocol: destination.protocol,
            remote: destination.endpoint(),
            attempts: sum.attempts,
            failed: sum.failed,
            connections: sum.connections,
            payload_bytes: sum.payload(),
            mean_connect_latency_seconds: sum.latency_ns.checked_div(sum.latencies).map(seconds),
            max_connect_latency_seconds: (sum.latencies > 0).then(|| seconds(sum.longest_latency_ns)),
            retransmits: (sum.tcp > 0).then_some(sum.retransmits),
        }
    }
}

impl ErrorSummary {
    /// Of this error none yet, with an example.
    fn first(fact: &ConnectionFact) -> Self {
        Self {
            errno: fact.error.and_then(|error| error.errno),
            name: fact.error.map_or_else(|| CleanText::from("unknown"), ConnectionError::name),
            count: 0,
            failed_attempts: 0,
            inferred: 0,
            example: ErrorExample {
                id: fact.id(),
                protocol: fact.protocol,
                pid: fact.process.as_ref().map(|process| process.pid),
                comm: fact.process.as_ref().map(|process| process.comm.clone()),
                remote: fact.remote.map(Endpoint::from),
            },
        }
    }
}

impl fmt::Display for SummaryAnswer {
    /// The first line is netspy's, plurals included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, total_attempts, connections, .. } = self;
        let seconds = self.requested_seconds.unwrap_or(self.header.window.seconds);
        let seconds = (seconds * 100.0).round() / 100.0;
        let observed = observed_line(&self.header, self.requested_seconds);
        if *connections == 0 {
            let subject = match (subject.strip_prefix("All processes"), subject.strip_prefix("Process ")) {
                (Some(conditions), _) => format!("any process{conditions}"),
                (_, Some(name)) => format!("process {name}"),
                (None, None) => subject.clone(),
            };
            return write!(
                f,
                "No network connections found for {subject} in the last {seconds} seconds\n{observed}"
            );
        }
        write!(
            f,
            "{subject} made {total_attempts} outbound connection attempts over the last {seconds} seconds\n{observed}: {}, \
             {} of them open at its end; {} outbound, {} inbound",
            units::counted(*connections, "connection"),
            units::count(self.open),
            units::count(self.outbound),
            units::count(self.inbound),
        )?;
        match (&self.payload_bytes, &self.payload_bytes_per_second) {
            (Some(bytes), Some(rate)) => write!(
                f,
                "\nSent {} ({}/s), received {} ({}/s)",
                units::bytes(bytes.sent as f64),
                units::bytes(rate.sent),
                units::bytes(bytes.received as f64),
                units::bytes(rate.received),
            )?,
            _ => f.write_str("\nBytes in this time are not known")?,
        }
        if self.payload_bytes.is_some() && self.unmeasured > 0 {
            write!(f, ", without {}", units::counted(self.unmeasured, "connection"))?;
            f.write_str(" begun earlier or not measured")?;
        }
        write!(f, "\n{} failed", units::counted(self.failed, "attempt"))?;
        let listed = |count: fn(&ErrorSummary) -> u64| {
            let some = self.by_error.iter().filter(|error| count(error) > 0);
            let words: Vec<String> =
                some.map(|error| format!("{} {}", units::count(count(error)), error.name)).collect();
            words.join(", ")
        };
        let attempts = listed(|error| error.failed_attempts);
        if !attempts.is_empty() {
            write!(f, ": {attempts}")?;
        }
        let others = listed(|error| error.count - error.failed_attempts);
        if !others.is_empty() {
            write!(f, "\nBegun before and failed, or broken off: {others}")?;
        }
        Ok(())
    }
}

impl Answer for SummaryAnswer {
    type Row = ProcessSummary;

    fn header(&self) -> &Header {
        &self.header
    }

    /// Its processes; destinations and errors are in the answer as a whole.
    fn rows(&self) -> &[ProcessSummary] {
        &self.by_process
    }

    fn tables(&self) -> Vec<Table> {
        let tables = [
            process_table(&self.by_process),
            destination_table(&self.by_destination),
            error_table(&self.by_error),
        ];
        tables.into_iter().filter(|table| !table.rows.is_empty()).collect()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.header.coverage.notes();
        for (listed, total, what) in [
            (self.by_process.len(), self.by_process_total, "processes"),
            (self.by_destination.len(), self.by_destination_total, "destinations"),
            (self.by_error.len(), self.by_error_total, "errors"),
        ] {
            if total > listed as u64 {
                notes.push(format!("the first {listed} of {} {what} are listed", units::count(total)));
            }
        }
        notes
    }
}

fn bytes_cell(bytes: Option<BothWays>, way: fn(BothWays) -> u64) -> Cell {
    Cell::known(bytes.map(|bytes| units::bytes(way(bytes) as f64)))
}

fn failed_cell(failed: u64) -> Cell {
    Cell::toned(units::count(failed), if failed == 0 { Tone::Plain } else { Tone::Bad })
}

impl SummaryAnswer {
    /// Lists at most so many processes, destinations and errors; what the others come to is kept.
    pub fn shorten(&mut self, most: usize) {
        for process in self.by_process.drain(most.min(self.by_process.len())..) {
            self.by_process_other.get_or_insert_default().add(process.counts());
        }
        for destination in self.by_destination.drain(most.min(self.by_destination.len())..) {
            self.by_destination_other.get_or_insert_default().add(destination.counts());
        }
        self.by_error.truncate(most);
        self.header.coverage.truncated |= self.by_process_total > self.by_process.len() as u64
            || self.by_destination_total > self.by_destination.len() as u64
            || self.by_error_total > self.by_error.len() as u64;
    }

    /// Rows without what is seldom asked for: program files and bytes a second.
    pub fn brief(&mut self) {
        for process in &mut self.by_process {
            process.exe = None;
            process.payload_bytes_per_second = None;
        }
    }
}

pub(super) fn process_table(processes: &[ProcessSummary]) -> Table {
    let columns = vec![
        Column::text("PROCESS"),
        Column::number("PID").secondary(),
        Column::number("ATTEMPTS"),
        Column::number("FAILED"),
        Column::number("OPEN").secondary(),
        Column::number("SENT").secondary(),
        Column::number("RECEIVED").secondary(),
        Column::number("DESTINATIONS").optional(),
        Column::number("CONNECTIONS").optional(),
    ];
    let row = |process: &ProcessSummary| {
        vec![
            Cell::known(process.comm.as_ref().map(CleanText::to_string)),
            Cell::known(process.pid.map(|pid| pid.to_string())),
            units::count(process.attempts).into(),
            failed_cell(process.failed),
            units::count(process.open).into(),
            bytes_cell(process.payload_bytes, |bytes| bytes.sent),
            bytes_cell(process.payload_bytes, |bytes| bytes.received),
            units::count(process.destinations).into(),
            units::count(process.connections).into(),
        ]
    };
    Table { columns, rows: processes.iter().map(row).collect() }
}

pub(super) fn destination_table(destinations: &[DestinationSummary]) -> Table {
    let columns = vec![
        Column::text("DESTINATION"),
        Column::text("PROTO").secondary(),
        Column::number("ATTEMPTS"),
        Column::number("FAILED"),
        Column::number("SENT").secondary(),
        Column::number("RECEIVED").secondary(),
        Column::number("CONNECT").optional(),
        Column::number("SLOWEST").optional(),
        Column::number("RETRANSMITS").optional(),
    ];
    let duration = |seconds: Option<f64>| {
        let duration = seconds.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
        Cell::known(duration.map(units::short))
    };
    let row = |destination: &DestinationSummary| {
        vec![
            destination.remote.to_string().into(),
            destination.protocol.name().into(),
            units::count(destination.attempts).into(),
            failed_cell(destination.failed),
            bytes_cell(destination.payload_bytes, |bytes| bytes.sent),
            bytes_cell(destination.payload_bytes, |bytes| bytes.received),
            duration(destination.mean_connect_latency_seconds),
            duration(destination.max_connect_latency_seconds),
            Cell::known(destination.retransmits.map(units::count)),
        ]
    };
    Table { columns, rows: destinations.iter().map(row).collect() }
}

pub(super) fn error_table(errors: &[ErrorSummary]) -> Table {
    let columns = vec![
        Column::text("ERROR"),
        Column::number("COUNT"),
        Column::text("FOR EXAMPLE"),
        Column::text("TO").optional(),
    ];
    let row = |error: &ErrorSummary| {
        let process = match (&error.example.comm, error.example.pid) {
            (Some(comm), Some(pid)) => Some(format!("{comm} (pid {pid})")),
            _ => None,
        };
        vec![
            Cell::toned(error.name.as_str(), Tone::Bad),
            units::count(error.count).into(),
            Cell::known(process),
            Cell::known(error.example.remote.map(|remote| remote.to_string())),
        ]
    };
    Table { columns, rows: errors.iter().map(row).collect() }
}

impl Row for ProcessSummary {
    const TYPE: &'static str = "process";
    const CSV_COLUMNS: &'static [&'static str] = &[
        "pid",
        "comm",
        "exe",
        "uid",
        "unit",
        "container",
        "attempts",
        "failed",
        "connections",
        "open",
        "destinations",
        "payload_bytes_sent",
        "payload_bytes_received",
        "payload_bytes_sent_per_second",
        "payload_bytes_received_per_second",
    ];

    fn csv_fields(&self) -> Vec<String> {
        fn known<T: ToString>(value: Option<T>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        vec![
            known(self.pid),
            known(self.comm.as_ref()),
            known(self.exe.as_ref()),
            known(self.uid),
            known(self.unit.as_ref()),
            known(self.container.as_ref()),
            self.attempts.to_string(),
            self.failed.to_string(),
            self.connections.to_string(),
            self.open.to_string(),
            self.destinations.to_string(),
            known(self.payload_bytes.map(|bytes| bytes.sent)),
            known(self.payload_bytes.map(|bytes| bytes.received)),
            known(self.payload_bytes_per_second.map(|rate| rate.sent)),
            known(self.payload_bytes_per_second.map(|rate| rate.received)),
        ]
    }
}
