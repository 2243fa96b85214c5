//! What is told of patterns.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::limit;
use crate::{
    answer::{Answer, Header, Row},
    clean::CleanText,
    fact::{ConnectionDirection, Protocol},
    view::{Cell, Column, Table, Tone, units},
};

/// Where connections go, and what stands out in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PatternsAnswer {
    /// Host, window and coverage.
    #[serde(flatten)]
    pub header: Header,
    /// Connections that were open at some time in the window, and attempts at one, of both directions.
    pub connections: u64,
    /// Attempts of this side that began in the window. Bursts, periodicity and scans are looked for among these.
    pub attempts: u64,
    /// Connections that began before the window: those that live long.
    pub begun_before: u64,
    /// How many destinations there are.
    pub distinct_destinations: u64,
    /// The first of them, most connections first. What came in has no destination.
    pub destinations: Vec<TopDestination>,
    /// What all other destinations come to. Absent where all are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destinations_other: Option<OtherConnections>,
    /// Connections by protocol.
    pub protocols: Vec<ProtocolShare>,
    /// How many processes there are, short-lived ones of one program counted as one.
    pub distinct_processes: u64,
    /// The first of them, most connections first.
    pub processes: Vec<TopProcess>,
    /// What all other processes come to. Absent where all are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_other: Option<OtherConnections>,
    /// How many attempts failed, of all together.
    pub failure_ratio: FailureRatio,
    /// Processes and destinations of which many attempts fail, the surest first.
    pub failures: Vec<FrequentFailures>,
    /// Times with many more attempts than usual, in order.
    pub bursts: Vec<Burst>,
    /// How many series of attempts (of one process to one destination) were long enough to look for a period in.
    pub periodic_tested: u64,
    /// Those that come at regular intervals, the surest first.
    pub periodic: Vec<Periodicity>,
    /// Processes that try many ports of a host or many hosts.
    pub scans: Vec<Scan>,
    /// Destinations that were not there in as long a time before. Absent where that time was not observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_destinations: Option<NewDestinations>,
    /// Made of the fields above when first asked for.
    #[serde(skip)]
    pub(super) rows: Rows,
}

/// Rows that are made of other fields, and so never differ between equal answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows(OnceLock<Vec<Pattern>>);

impl PartialEq for Rows {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Where connections go: written `address:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Destination {
    /// The protocol.
    pub protocol: Protocol,
    /// The other side's address.
    pub address: IpAddr,
    /// The other side's port; 0 for ICMP.
    pub port: u16,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&SocketAddr::new(self.address, self.port), f)
    }
}

/// The process behind a finding, or several short-lived ones of one program. Written `comm (pid N)` or
/// `comm (N processes)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Owner {
    /// Its name.
    pub comm: CleanText,
    /// Its number. Absent where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How many processes of this name, user and container these are: several where each made only few attempts.
    pub processes: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{} (pid {pid})", self.comm),
            None => write!(f, "{} ({} processes)", self.comm, units::count(self.processes)),
        }
    }
}

/// Whether names that processes gave themselves stand in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Told,
    LeftOut,
}

impl Names {
    fn owner(self, owner: Option<&Owner>) -> String {
        match (self, owner) {
            (_, None) => "an unknown process".to_owned(),
            (Self::Told, Some(owner)) => owner.to_string(),
            (Self::LeftOut, Some(Owner { pid: Some(pid), .. })) => format!("pid {pid}"),
            (Self::LeftOut, Some(owner)) => {
                format!("{} processes of one name", units::count(owner.processes))
            }
        }
    }
}

/// A destination and how much goes there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct TopDestination {
    /// The destination.
    pub destination: Destination,
    /// Its connections and attempts in the window.
    pub connections: u64,
    /// Attempts that failed in the window.
    pub failed: u64,
    /// Bytes that applications sent there in the window, of those connections of which it is known; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes_sent: Option<u64>,
    /// Bytes that came from there for applications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes_received: Option<u64>,
}

/// A process and how much it connects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct TopProcess {
    /// The process. Absent for connections of which the owner is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Owner>,
    /// Its connections and attempts in the window, of both directions.
    pub connections: u64,
    /// Attempts that failed in the window.
    pub failed: u64,
    /// Bytes that it sent in the window, of those connections of which it is known; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes_sent: Option<u64>,
    /// Bytes that came for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes_received: Option<u64>,
}

/// What is not listed, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct OtherConnections {
    /// How many they are.
    pub count: u64,
    /// Their connections and attempts in the window.
    pub connections: u64,
    /// Attempts that failed in the window.
    pub failed: u64,
}

impl OtherConnections {
    pub(super) fn add(other: &mut Option<Self>, connections: u64, failed: u64) {
        let other = other.get_or_insert_default();
        other.count += 1;
        other.connections += connections;
        other.failed += failed;
    }
}

/// A protocol and how much it is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ProtocolShare {
    /// The protocol.
    pub protocol: Protocol,
    /// Connections and attempts in the window.
    pub connections: u64,
    /// Bytes that applications sent in the window, of those connections of which it is known; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes_sent: Option<u64>,
    /// Bytes that came for applications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes_received: Option<u64>,
}

/// How many attempts of this side failed, of those that were decided in the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct FailureRatio {
    /// Attempts that succeeded or failed in the window, whenever they began.
    pub decided: u64,
    /// Those that failed.
    pub failed: u64,
    /// `failed` of `decided`. Absent where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// What the ratio is at least, by Wilson's interval of 95 %, wider where many subjects are compared: few attempts prove
    /// little.
    pub lower_bound: f64,
    /// The lower bound from which failures are frequent.
    pub threshold: f64,
    /// The errors, most frequent first; five at most.
    pub errors: Vec<ErrorCount>,
}

/// An error and how often it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ErrorCount {
    /// The kernel's number, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// Its name, such as `ECONNREFUSED`; `unknown` where it is not known.
    pub name: CleanText,
    /// How many attempts ended with it.
    pub connections: u64,
}

/// A process or a destination of which many attempts fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct FrequentFailures {
    /// The process, all of its destinations together. Absent where this is about a destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Owner>,
    /// The destination, all processes together. Absent where this is about a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// How many failed.
    #[serde(flatten)]
    pub ratio: FailureRatio,
}

/// A time with many more attempts than usual in this window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Burst {
    /// Whether this side or the other made them.
    pub direction: ConnectionDirection,
    /// The first attempt.
    pub at: Timestamp,
    /// How long it lasted, in whole steps of a second, or less in a short window.
    pub seconds: f64,
    /// How many there were.
    pub attempts: u64,
    /// The most in one step, a second.
    pub peak_per_second: f64,
    /// What is usual: the mean without the highest tenth of the steps, or the median if that is more.
    pub usual_per_second: f64,
    /// From how many a second on it is a burst.
    pub threshold_per_second: f64,
    /// The process with most of the attempts, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Owner>,
    /// How many of them it made.
    pub process_attempts: u64,
    /// The destination of most of the attempts. Absent for inbound ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// How many of them went there.
    pub destination_attempts: u64,
}

/// Attempts of a process at one destination that come at regular intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Periodicity {
    /// The process, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Owner>,
    /// The destination.
    pub destination: Destination,
    /// The time from one to the next: the median.
    pub interval_seconds: f64,
    /// The standard deviation of that time, as a share of it.
    pub jitter: f64,
    /// How many came when expected.
    pub beats: u64,
    /// How many did not come when expected.
    pub missed: u64,
    /// Attempts at this destination at other times.
    pub other_attempts: u64,
    /// The first.
    pub from: Timestamp,
    /// The last.
    pub to: Timestamp,
    /// How surely this is no chance: -log10 of the probability that one series of Poisson traffic, of whatever rate, looks
    /// as periodic. A bound, all periods that were tried paid for.
    pub score: f64,
    /// The score that was asked for: it grows with the number of series that were tested.
    pub threshold: f64,
}

/// Which way targets differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ScanShape {
    /// Many ports of one host.
    Vertical,
    /// One port of many hosts.
    Horizontal,
}

/// A process that tries many targets and gets nothing from most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Scan {
    /// Which way targets differ.
    pub shape: ScanShape,
    /// The process, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Owner>,
    /// The protocol.
    pub protocol: Protocol,
    /// The host of a vertical scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The port of a horizontal scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How many ports or hosts were tried.
    pub targets: u64,
    /// From how many of them nothing came: each attempt failed, was not answered yet, or is over with hardly a byte.
    pub fruitless: u64,
    /// What the share of fruitless targets is at least, by Wilson's interval of 95 %.
    pub lower_bound: f64,
    /// The lower bound from which it is a scan.
    pub threshold: f64,
    /// All attempts at them.
    pub attempts: u64,
    /// Those that failed.
    pub failed: u64,
    /// The most targets that were first tried within a minute.
    pub most_targets_a_minute: u64,
    /// The first attempt.
    pub at: Timestamp,
    /// From the first target to the last.
    pub seconds: f64,
    /// How many more hosts (or ports) this process scanned in the same way with this protocol.
    pub similar: u64,
}

/// Destinations that were not there in as long a time before the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct NewDestinations {
    /// How long that time was.
    pub baseline_seconds: f64,
    /// How many are new.
    pub total: u64,
    /// The first of them, most connections first.
    pub destinations: Vec<NewDestination>,
}

/// A destination that was not there before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct NewDestination {
    /// The destination.
    pub destination: Destination,
    /// The first process that went there, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Owner>,
    /// When.
    pub first_seen: Timestamp,
    /// Connections and attempts since.
    pub connections: u64,
}

/// A row: something that stands out, or one of the most frequent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Pattern {
    /// What it is.
    pub kind: PatternKind,
    /// The same in words.
    #[serde(deserialize_with = "crate::clean::sentences")]
    pub message: String,
    /// The fields of what it is, as in the answer.
    #[serde(flatten)]
    pub detail: PatternDetail,
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PatternKind {
    /// A process or a destination of which many attempts fail.
    Failures,
    /// Many more attempts than usual.
    Burst,
    /// Attempts at regular intervals.
    Periodic,
    /// Many ports of a host.
    VerticalScan,
    /// A port of many hosts.
    HorizontalScan,
    /// A destination that was not there before.
    NewDestination,
    /// One of the destinations with most connections.
    TopDestination,
    /// A protocol.
    Protocol,
    /// One of the processes with most connections.
    TopProcess,
}

impl PatternKind {
    /// Its name in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Burst => "burst",
            Self::Periodic => "periodic",
            Self::VerticalScan => "vertical_scan",
            Self::HorizontalScan => "horizontal_scan",
            Self::NewDestination => "new_destination",
            Self::TopDestination => "top_destination",
            Self::Protocol => "protocol",
            Self::TopProcess => "top_process",
        }
    }
}

impl fmt::Display for PatternKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a row is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each says what its type says")]
pub enum PatternDetail {
    Failures(FrequentFailures),
    Burst(Burst),
    Periodic(Periodicity),
    Scan(Scan),
    NewDestination(NewDestination),
    TopDestination(TopDestination),
    Protocol(ProtocolShare),
    TopProcess(TopProcess),
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Intervals of seconds and minutes with three digits.
fn interval(seconds: f64) -> String {
    let decimals = match seconds {
        s if s < 9.995 => 2,
        s if s < 99.95 => 1,
        _ => 0,
    };
    format!("{seconds:.decimals$} s")
}

fn clock(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// `address:port/protocol`.
fn place(destination: &Destination) -> String {
    format!("{destination}/{}", destination.protocol)
}

impl FailureRatio {
    fn words(&self) -> String {
        let ratio = self.ratio.map(|ratio| format!(" ({})", percent(ratio))).unwrap_or_default();
        let errors: Vec<String> = self
            .errors
            .iter()
            .map(|error| format!("{} {}", units::count(error.connections), error.name))
            .collect();
        let errors = if errors.is_empty() { String::new() } else { format!(": {}", errors.join(", ")) };
        format!(
            "{} of {} failed{ratio}{errors}",
            units::count(self.failed),
            units::counted(self.decided, "attempt"),
        )
    }
}

impl PatternDetail {
    fn kind(&self) -> PatternKind {
        match self {
            Self::Failures(_) => PatternKind::Failures,
            Self::Burst(_) => PatternKind::Burst,
            Self::Periodic(_) => PatternKind::Periodic,
            Self::Scan(scan) if scan.shape == ScanShape::Vertical => PatternKind::VerticalScan,
            Self::Scan(_) => PatternKind::HorizontalScan,
            Self::NewDestination(_) => PatternKind::NewDestination,
            Self::TopDestination(_) => PatternKind::TopDestination,
            Self::Protocol(_) => PatternKind::Protocol,
            Self::TopProcess(_) => PatternKind::TopProcess,
        }
    }

    fn message(&self, names: Names) -> String {
        match self {
            Self::Failures(failures) => {
                let subject = match &failures.destination {
                    Some(destination) => format!("to {}", place(destination)),
                    None => format!("by {}", names.owner(failures.process.as_ref())),
                };
                format!("{subject}, {}", failures.ratio.words())
            }
            Self::Burst(burst) => {
                let mut text = format!(
                    "at {}, {} {} in {}, up to {} a second, usual are {}",
                    clock(burst.at),
                    burst.direction,
                    units::counted(burst.attempts, "connection"),
                    interval(burst.seconds),
                    units::rate(burst.peak_per_second),
                    units::rate(burst.usual_per_second),
                );
                if let Some(process) = &burst.process {
                    text += &format!(
                        "; {} by {}",
                        units::count(burst.process_attempts),
                        names.owner(Some(process))
                    );
                }
                if let Some(destination) = &burst.destination {
                    text +=
                        &format!("; {} to {}", units::count(burst.destination_attempts), place(destination));
                }
                text
            }
            Self::Periodic(periodic) => format!(
                "{} connects to {} every {} ({}, {} missed, jitter {})",
                names.owner(periodic.process.as_ref()),
                place(&periodic.destination),
                interval(periodic.interval_seconds),
                units::counted(periodic.beats, "time"),
                units::count(periodic.missed),
                percent(periodic.jitter),
            ),
            Self::Scan(scan) => {
                let subject = names.owner(scan.process.as_ref());
                let targets = units::count(scan.targets);
                let mut text = match (scan.address, scan.port) {
                    (Some(address), _) => {
                        format!("{subject} tried {targets} {} ports of {address}", scan.protocol)
                    }
                    (None, port) => format!(
                        "{subject} tried {} port {} of {targets} hosts",
                        scan.protocol,
                        port.unwrap_or_default()
                    ),
                };
                text += &format!(
                    " within {}, {} without success",
                    interval(scan.seconds),
                    units::count(scan.fruitless)
                );
                if scan.similar > 0 {
                    let what = if scan.shape == ScanShape::Vertical { "host" } else { "port" };
                    text += &format!("; {} more in the same way", units::counted(scan.similar, what));
                }
                text
            }
            Self::NewDestination(new) => format!(
                "{} first connected to {} at {} ({})",
                names.owner(new.process.as_ref()),
                place(&new.destination),
                clock(new.first_seen),
                units::counted(new.connections, "connection"),
            ),
            Self::TopDestination(top) => {
                format!("{}: {}", place(&top.destination), units::counted(top.connections, "connection"))
            }
            Self::Protocol(share) => {
                format!("{}: {}", share.protocol, units::counted(share.connections, "connection"))
            }
            Self::TopProcess(top) => {
                format!(
                    "{}: {}",
                    names.owner(top.process.as_ref()),
                    units::counted(top.connections, "connection")
                )
            }
        }
    }

    /// Process, destination and numbers, as CSV has them.
    fn columns(&self) -> Columns<'_> {
        let mut columns = Columns::default();
        match self {
            Self::Failures(failures) => {
                columns.process = failures.process.as_ref();
                columns.destination = failures.destination.as_ref().map(Destination::parts);
                columns.connections = Some(failures.ratio.decided);
                columns.failed = Some(failures.ratio.failed);
                columns.value = Some(("failure_ratio_lower_bound", failures.ratio.lower_bound));
                columns.threshold = Some(failures.ratio.threshold);
            }
            Self::Burst(burst) => {
                columns.process = burst.process.as_ref();
                columns.destination = burst.destination.as_ref().map(Destination::parts);
                columns.at = Some(burst.at);
                columns.seconds = Some(burst.seconds);
                columns.connections = Some(burst.attempts);
                columns.value = Some(("peak_per_second", burst.peak_per_second));
                columns.threshold = Some(burst.threshold_per_second);
            }
            Self::Periodic(periodic) => {
                columns.process = periodic.process.as_ref();
                columns.destination = Some(periodic.destination.parts());
                columns.at = Some(periodic.from);
                columns.seconds = Some(periodic.interval_seconds);
                columns.connections = Some(periodic.beats);
                columns.value = Some(("score", periodic.score));
                columns.threshold = Some(periodic.threshold);
            }
            Self::Scan(scan) => {
                columns.process = scan.process.as_ref();
                columns.destination = Some((scan.protocol, scan.address, scan.port));
                columns.at = Some(scan.at);
                columns.seconds = Some(scan.seconds);
                columns.connections = Some(scan.attempts);
                columns.failed = Some(scan.failed);
                columns.value = Some(("fruitless_share_lower_bound", scan.lower_bound));
                columns.threshold = Some(scan.threshold);
            }
            Self::NewDestination(new) => {
                columns.process = new.process.as_ref();
                columns.destination = Some(new.destination.parts());
                columns.at = Some(new.first_seen);
                columns.connections = Some(new.connections);
            }
            Self::TopDestination(top) => {
                columns.destination = Some(top.destination.parts());
                columns.connections = Some(top.connections);
                columns.failed = Some(top.failed);
                columns.bytes = [top.payload_bytes_sent, top.payload_bytes_received];
            }
            Self::Protocol(share) => {
                columns.destination = Some((share.protocol, None, None));
                columns.connections = Some(share.connections);
                columns.bytes = [share.payload_bytes_sent, share.payload_bytes_received];
            }
            Self::TopProcess(top) => {
                columns.process = top.process.as_ref();
                columns.connections = Some(top.connections);
                columns.failed = Some(top.failed);
                columns.bytes = [top.payload_bytes_sent, top.payload_bytes_received];
            }
        }
        columns
    }
}

impl Destination {
    fn parts(&self) -> (Protocol, Option<IpAddr>, Option<u16>) {
        (self.protocol, Some(self.address), Some(self.port))
    }
}

#[derive(Default)]
struct Columns<'a> {
    process: Option<&'a Owner>,
    destination: Option<(Protocol, Option<IpAddr>, Option<u16>)>,
    at: Option<Timestamp>,
    seconds: Option<f64>,
    connections: Option<u64>,
    failed: Option<u64>,
    bytes: [Option<u64>; 2],
    value: Option<(&'static str, f64)>,
    threshold: Option<f64>,
}

impl Row for Pattern {
    const TYPE: &'static str = "pattern";
    const CSV_COLUMNS: &'static [&'static str] = &[
        "kind",
        "comm",
        "pid",
        "protocol",
        "address",
        "port",
        "at",
        "seconds",
        "connections",
        "failed",
        "payload_bytes_sent",
        "payload_bytes_received",
        "measure",
        "value",
        "threshold",
        "message",
    ];

    fn csv_fields(&self) -> Vec<String> {
        fn text<T: ToString>(value: Option<T>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }

        let columns = self.detail.columns();
        let (protocol, address, port) = match columns.destination {
            Some((protocol, address, port)) => (Some(protocol), address, port),
            None => (None, None, None),
        };
        vec![
            self.kind.to_string(),
            text(columns.process.map(|process| &process.comm)),
            text(columns.process.and_then(|process| process.pid)),
            text(protocol),
            text(address),
            text(port),
            text(columns.at),
            text(columns.seconds),
            text(columns.connections),
            text(columns.failed),
            text(columns.bytes[0]),
            text(columns.bytes[1]),
            text(columns.value.map(|(measure, _)| measure)),
            text(columns.value.map(|(_, value)| value)),
            text(columns.threshold),
            self.message.clone(),
        ]
    }
}

impl PatternsAnswer {
    /// Lists at most so many destinations, processes and findings of a kind. What other destinations and processes come to
    /// is kept, and a warning counts the findings that are left out.
    pub fn shorten(&mut self, most: usize) {
        for top in self.destinations.drain(most.min(self.destinations.len())..) {
            OtherConnections::add(&mut self.destinations_other, top.connections, top.failed);
        }
        for top in self.processes.drain(most.min(self.processes.len())..) {
            OtherConnections::add(&mut self.processes_other, top.connections, top.failed);
        }
        let coverage = &mut self.header.coverage;
        coverage.truncated |= self.destinations_other.is_some() || self.processes_other.is_some();
        limit(coverage, &mut self.failures, "frequent failures", most);
        limit(coverage, &mut self.scans, "scans", most);
        limit(coverage, &mut self.periodic, "periodic series", most);
        limit(coverage, &mut self.bursts, "bursts", most);
        if let Some(new) = &mut self.new_destinations {
            coverage.truncated |= new.destinations.len() > most;
            new.destinations.truncate(most);
        }
        self.rows = Rows::default();
    }

    /// What stands out, without what is only frequent.
    pub fn findings(&self) -> impl Iterator<Item = &Pattern> {
        self.rows().iter().filter(|row| {
            !matches!(row.kind, PatternKind::TopDestination | PatternKind::Protocol | PatternKind::TopProcess)
        })
    }

    fn details(&self) -> impl Iterator<Item = PatternDetail> {
        use PatternDetail as Detail;

        let new = self.new_destinations.iter().flat_map(|new| &new.destinations);
        (self.failures.iter().cloned().map(Detail::Failures))
            .chain(self.scans.iter().cloned().map(Detail::Scan))
            .chain(self.periodic.iter().cloned().map(Detail::Periodic))
            .chain(self.bursts.iter().cloned().map(Detail::Burst))
            .chain(new.cloned().map(Detail::NewDestination))
            .chain(self.destinations.iter().cloned().map(Detail::TopDestination))
            .chain(self.protocols.iter().cloned().map(Detail::Protocol))
            .chain(self.processes.iter().cloned().map(Detail::TopProcess))
    }

    fn destination_table(&self) -> Table {
        let columns = vec![
            Column::text("DESTINATION"),
            Column::text("PROTOCOL").secondary(),
            Column::number("CONNECTIONS"),
            Column::number("FAILED"),
            Column::number("SENT").optional(),
            Column::number("RECEIVED").optional(),
        ];
        let rows = self.destinations.iter().map(|top| {
            let mut cells = vec![top.destination.to_string().into(), top.destination.protocol.name().into()];
            cells.extend(counts(
                top.connections,
                top.failed,
                [top.payload_bytes_sent, top.payload_bytes_received],
            ));
            cells
        });
        Table { columns, rows: rows.collect() }
    }

    fn process_table(&self) -> Table {
        let columns = vec![
            Column::text("PROCESS"),
            Column::number("CONNECTIONS"),
            Column::number("FAILED"),
            Column::number("SENT").optional(),
            Column::number("RECEIVED").optional(),
        ];
        let rows = self.processes.iter().map(|top| {
            let mut cells = vec![Cell::known(top.process.as_ref().map(Owner::to_string))];
            cells.extend(counts(
                top.connections,
                top.failed,
                [top.payload_bytes_sent, top.payload_bytes_received],
            ));
            cells
        });
        Table { columns, rows: rows.collect() }
    }

    fn finding_table(&self) -> Table {
        let columns = vec![
            Column::text("KIND"),
            Column::text("FINDING"),
            Column::number("VALUE").optional(),
            Column::number("THRESHOLD").optional(),
        ];
        let number = |value: Option<f64>| Cell::known(value.map(|value| format!("{value:.2}")));
        let rows = self.findings().map(|row| {
            let columns = row.detail.columns();
            let tone = if row.kind == PatternKind::NewDestination { Tone::Plain } else { Tone::Warning };
            vec![
                Cell::toned(row.kind.name(), tone),
                row.message.as_str().into(),
                number(columns.value.map(|(_, value)| value)),
                number(columns.threshold),
            ]
        });
        Table { columns, rows: rows.collect() }
    }

    fn protocol(&self, protocol: Protocol) -> u64 {
        let share = self.protocols.iter().find(|share| share.protocol == protocol);
        share.map_or(0, |share| share.connections)
    }

    /// What was looked for and not found.
    fn absent(&self) -> Vec<&'static str> {
        let new = self.new_destinations.as_ref();
        let sections = [
            (self.failures.is_empty(), "frequent failures"),
            (self.scans.is_empty(), "scans"),
            (self.periodic.is_empty(), "periodic connections"),
            (self.bursts.is_empty(), "bursts"),
            (new.is_some_and(|new| new.total == 0), "new destinations"),
        ];
        sections.into_iter().filter(|(absent, _)| *absent).map(|(_, name)| name).collect()
    }
}

/// The cells that destinations and processes share.
fn counts(connections: u64, failed: u64, bytes: [Option<u64>; 2]) -> [Cell; 4] {
    let [sent, received] = bytes.map(|bytes| Cell::known(bytes.map(|bytes| units::bytes(bytes as f64))));
    let tone = if failed == 0 { Tone::Plain } else { Tone::Bad };
    [units::count(connections).into(), Cell::toned(units::count(failed), tone), sent, received]
}

/// How many of each list the digest shows.
const IN_DIGEST: usize = 5;

/// With `{:#}` without names that processes gave themselves: findings tell of them by number.
impl fmt::Display for PatternsAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_sums(f)?;
        self.write_findings(f, if f.alternate() { Names::LeftOut } else { Names::Told })?;
        self.write_absent(f)
    }
}

impl PatternsAnswer {
    fn write_sums(&self, f: &mut impl fmt::Write) -> fmt::Result {
        write!(f, "Connection Analysis:")?;
        let window = units::seconds(Duration::from_millis((self.header.window.seconds * 1e3).round() as u64));
        if self.connections == 0 {
            write!(f, "\n  No connections found in {window}")?;
        }
        if !self.destinations.is_empty() {
            write!(f, "\n  Top destinations:")?;
        }
        for top in self.destinations.iter().take(IN_DIGEST) {
            // These words are those of netspy, the plural of one too.
            write!(f, "\n    {} ({} connections)", top.destination, top.connections)?;
            if top.destination.protocol != Protocol::Tcp {
                write!(f, " {}", top.destination.protocol)?;
            }
        }
        let more = self.distinct_destinations.saturating_sub(IN_DIGEST as u64);
        if more > 0 {
            write!(f, "\n    ... and {} more", units::count(more))?;
        }
        if self.connections > 0 {
            let (tcp, udp) = (self.protocol(Protocol::Tcp), self.protocol(Protocol::Udp));
            write!(f, "\n  Protocols: TCP ({tcp}), UDP ({udp})")?;
            let icmp = self.protocol(Protocol::Icmp);
            if icmp > 0 {
                write!(f, ", ICMP ({icmp})")?;
            }
            write!(f, "\n  Observed: {window}, {} of this side", units::counted(self.attempts, "attempt"))?;
            if self.begun_before > 0 {
                write!(f, "; {} began before", units::counted(self.begun_before, "connection"))?;
            }
        }
        if self.failure_ratio.decided > 0 {
            write!(f, "\n  Failures: {}", self.failure_ratio.words())?;
        }
        Ok(())
    }

    fn write_findings(&self, f: &mut impl fmt::Write, names: Names) -> fmt::Result {
        let mut section = None;
        let mut shown = 0;
        for row in self.findings() {
            shown = if section == Some(row.kind) { shown + 1 } else { 0 };
            section = Some(row.kind);
            let title = match row.kind {
                PatternKind::Failures => "Frequent failures",
                PatternKind::Burst => "Burst",
                PatternKind::Periodic => "Periodic",
                PatternKind::VerticalScan | PatternKind::HorizontalScan => "Scan",
                _ => "New destination",
            };
            if shown < IN_DIGEST {
                write!(f, "\n  {title}: {}", row.detail.message(names))?;
            } else if shown == IN_DIGEST {
                write!(f, "\n  {title}: ... more of these are in the table")?;
            }
        }
        Ok(())
    }

    fn write_absent(&self, f: &mut impl fmt::Write) -> fmt::Result {
        let absent = self.absent();
        if !absent.is_empty() {
            write!(f, "\n  Looked for and not found: {}", absent.join(", "))?;
        }
        Ok(())
    }
}

impl Answer for PatternsAnswer {
    type Row = Pattern;

    fn header(&self) -> &Header {
        &self.header
    }

    fn rows(&self) -> &[Pattern] {
        self.rows.0.get_or_init(|| {
            self.details()
                .map(|detail| Pattern { kind: detail.kind(), message: detail.message(Names::Told), detail })
                .collect()
        })
    }

    /// What stands out has a table.
    fn heading(&self) -> String {
        let mut heading = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_sums(&mut heading).and_then(|()| self.write_absent(&mut heading));
        heading
    }

    fn tables(&self) -> Vec<Table> {
        vec![self.destination_table(), self.process_table(), self.finding_table()]
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.header.coverage.notes();
        if self.new_destinations.is_none() {
            notes.push(
                "not looked for: new destinations, as the time before this window was not observed"
                    .to_owned(),
            );
        }
        notes
    }
}
