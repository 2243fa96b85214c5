//! A connection as answers show it: times on the wall clock, explicit units, what is not known left out.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{
    answer::Row,
    clean::CleanText,
    error::{Error, Result},
    fact::{
        Attribution, BootTime, ClosedBy, ConnectionDirection, ConnectionError, ConnectionFact, ConnectionId,
        ConnectionState, Moment, Process, Protocol, TcpFact, TcpState, Thread, Traffic,
    },
    view::{Cell, Column, Tone, units},
};

/// One connection, attempt or flow of datagrams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Connection {
    /// What tells it from all others until the host boots again, in every answer.
    pub id: ConnectionId,
    /// Its protocol.
    pub protocol: Protocol,
    /// Who began it: `none` for listeners, and where it is not known.
    pub direction: ConnectionDirection,
    /// How far it is.
    pub state: ConnectionState,
    /// The address on this side.
    pub local: Endpoint,
    /// The address on the other side. Absent for listeners, and where datagrams cannot be told apart by peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteEndpoint>,
    /// The process that connected or accepted. Absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ConnectionProcess>,
    /// How the process is known.
    pub attribution: Attribution,
    /// The process that did the last input or output, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_user: Option<ConnectionProcess>,
    /// The network namespace of the socket, by inode number; also where the process is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// When it began. Absent for what is older than the monitor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Timestamp>,
    /// When it ended or failed. Absent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// When a datagram was last sent or received. Absent for TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
    /// From its beginning to its end, or to the end of the answer's window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// From the attempt to the end of the handshake, as the connecting side saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_latency_seconds: Option<f64>,
    /// Why it failed or was broken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ConnectionFailure>,
    /// Which side ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<ClosedBy>,
    /// Bytes of applications since it began, each counted once however often it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<BothWays>,
    /// The same within the answer's window. Absent where nobody read the counters when the window began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_payload_bytes: Option<BothWays>,
    /// TCP segments or datagrams since it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<BothWays>,
    /// What only TCP has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<ConnectionTcp>,
    /// Community ID v1 with seed 0, by which other tools name the same connection, at both of its ends. Absent without a
    /// remote address.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub community_id: Option<String>,
}

/// An address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port; of a ping socket, the identifier of its echo requests.
    pub port: u16,
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { address: address.ip(), port: address.port() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// The other side of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct RemoteEndpoint {
    /// The address.
    pub address: IpAddr,
    /// The port; 0 for ICMP.
    pub port: u16,
    /// The name that was looked up for it. Absent where no look-up was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<CleanText>,
}

impl RemoteEndpoint {
    /// The address and the port.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address, port: self.port }
    }
}

/// A process, and the thread of it, that has to do with a connection. All names in it are chosen by others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ConnectionProcess {
    /// Its number: the thread group's, in the first pid namespace.
    pub pid: u32,
    /// The thread that connected or accepted, where it is not the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// The name of the process: its leader's.
    pub comm: CleanText,
    /// The name of that thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_comm: Option<CleanText>,
    /// The program file, as the process sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<CleanText>,
    /// Its arguments, with spaces between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<CleanText>,
    /// Its effective user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The number of the process that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_pid: Option<u32>,
    /// The path of its control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CleanText>,
    /// The id of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<CleanText>,
    /// Its systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<CleanText>,
    /// The network namespace of the socket, by inode number as in `/proc/PID/ns/net`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
}

impl ConnectionProcess {
    pub(super) fn new(process: &Process, thread: Option<&Thread>, netns: u32, at: &Moment) -> Self {
        Self {
            pid: process.pid,
            tid: thread.map(|thread| thread.tid),
            comm: process.comm.clone(),
            thread_comm: thread.map(|thread| thread.comm.clone()),
            exe: process.exe.clone(),
            cmdline: process.cmdline.clone(),
            uid: process.uid,
            parent_pid: process.parent_pid,
            cgroup: process.cgroup.clone(),
            container: process.container.clone(),
            unit: process.unit.clone(),
            netns: known_netns(netns),
            started_at: process.started.map(|time| wall(at, time)),
        }
    }
}

/// Why a connection failed or was broken off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ConnectionFailure {
    /// The kernel's number. Absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// Its name, such as `ECONNREFUSED`; `never_sent` for an attempt of which only that is known.
    pub name: CleanText,
    /// Whether it was worked out afterwards, not told by the kernel at that moment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inferred: bool,
}

impl From<ConnectionError> for ConnectionFailure {
    fn from(error: ConnectionError) -> Self {
        Self { errno: error.errno, name: error.name(), inferred: error.inferred }
    }
}

/// A count of each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BothWays {
    /// From this side.
    pub sent: u64,
    /// To this side.
    pub received: u64,
}

impl BothWays {
    pub(super) fn payload(traffic: &Traffic) -> Self {
        Self { sent: traffic.payload_bytes_sent, received: traffic.payload_bytes_received }
    }

    fn packets(traffic: &Traffic) -> Self {
        Self { sent: traffic.packets_sent, received: traffic.packets_received }
    }

    /// Both together.
    pub fn sum(self) -> u64 {
        self.sent.saturating_add(self.received)
    }
}

/// What only TCP has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ConnectionTcp {
    /// Its state in the protocol; of one that ended, the last before that.
    pub state: TcpState,
    /// The smoothed round-trip time. Absent before the first measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_seconds: Option<f64>,
    /// Segments that were sent again.
    pub retransmits: u64,
}

impl From<TcpFact> for ConnectionTcp {
    fn from(tcp: TcpFact) -> Self {
        Self {
            state: tcp.state,
            rtt_seconds: tcp.rtt_us.map(|us| f64::from(us) / 1e6),
            retransmits: tcp.retransmits.into(),
        }
    }
}

/// The wall clock at a time since boot, by a moment on both clocks. Where the wall clock was stepped in between, this is
/// what it would have shown.
pub(super) fn wall(at: &Moment, time: BootTime) -> Timestamp {
    let nanoseconds = i128::from(time.ns()) - i128::from(at.boot_ns);
    let passed = SignedDuration::from_nanos(i64::try_from(nanoseconds).unwrap_or(i64::MAX));
    at.wall.checked_add(passed).unwrap_or(at.wall)
}

fn known_netns(netns: u32) -> Option<u32> {
    (netns != 0).then_some(netns)
}

/// Community ID v1, seed 0: the same at both ends.
fn community_id(fact: &ConnectionFact) -> Option<String> {
    const ICMP_ECHO: u16 = 8;
    const ICMPV6_ECHO: u16 = 128;

    let remote = fact.remote?;
    // A ping socket sends echo requests and nothing else; type and code stand in for ports.
    let (number, source_port, destination_port) = match (fact.protocol, remote) {
        (Protocol::Tcp, _) => (6, fact.local.port(), remote.port()),
        (Protocol::Udp, _) => (17, fact.local.port(), remote.port()),
        (Protocol::Icmp, SocketAddr::V4(_)) => (1, ICMP_ECHO, 0),
        (Protocol::Icmp, SocketAddr::V6(_)) => (58, ICMPV6_ECHO, 0),
    };
    // It fails only for addresses of different families, between which there is no connection.
    community_id::calculate_community_id(
        0,
        fact.local.ip(),
        remote.ip(),
        Some(source_port),
        Some(destination_port),
        number,
        false,
    )
    .ok()
}

impl Connection {
    /// A fact as it was known at a moment: its times are put on the wall clock by the clocks of that moment, and one that is
    /// open has lasted until then. `window_traffic` is what went over it in the window that the reader is told of.
    pub fn new(fact: &ConnectionFact, at: &Moment, window_traffic: Option<Traffic>) -> Self {
        let until = fact.closed.or_else(|| if fact.is_over() { None } else { BootTime::from_ns(at.boot_ns) });
        let duration = fact.opened.zip(until).map(|(opened, until)| until.since(opened).as_secs_f64());
        Self {
            id: fact.id(),
            protocol: fact.protocol,
            direction: fact.direction,
            state: fact.state,
            local: fact.local.into(),
            remote: fact.remote.map(|remote| RemoteEndpoint {
                address: remote.ip(),
                port: remote.port(),
                name: None,
            }),
            process: fact
                .process
                .as_ref()
                .map(|process| ConnectionProcess::new(process, fact.thread.as_deref(), fact.netns, at)),
            attribution: fact.attribution,
            last_user: fact
                .last_user
                .as_ref()
                .map(|process| ConnectionProcess::new(process, None, fact.netns, at)),
            netns: known_netns(fact.netns),
            opened_at: fact.opened.map(|time| wall(at, time)),
            closed_at: fact.closed.map(|time| wall(at, time)),
            last_seen_at: fact.last_seen.map(|time| wall(at, time)),
            duration_seconds: duration,
            connect_latency_seconds: fact.connect_latency().map(|latency| latency.as_secs_f64()),
            error: fact.error.map(ConnectionFailure::from),
            closed_by: fact.closed_by,
            payload_bytes: fact.traffic.as_ref().map(BothWays::payload),
            window_payload_bytes: window_traffic.as_ref().map(BothWays::payload),
            packets: fact.traffic.as_ref().map(BothWays::packets),
            tcp: fact.tcp.map(ConnectionTcp::from),
            community_id: community_id(fact),
        }
    }

    /// The same without what is seldom asked for: program file, arguments, control group, namespaces, who used it last, and
    /// ids for other tools.
    pub fn brief(self) -> Self {
        let process = self.process.map(|process| ConnectionProcess {
            exe: None,
            cmdline: None,
            parent_pid: None,
            cgroup: None,
            netns: None,
            started_at: None,
            ..process
        });
        Self {
            process,
            last_user: None,
            netns: None,
            last_seen_at: None,
            packets: None,
            // Of one that began in the window it is the same.
            window_payload_bytes: self
                .window_payload_bytes
                .filter(|_| self.window_payload_bytes != self.payload_bytes),
            community_id: None,
            ..self
        }
    }

    /// The names of its single values, as CSV has them and `--fields` takes them. `--fields` also takes `local`, `remote`
    /// and `process`.
    pub const FIELDS: &'static [&'static str] = &[
        "id",
        "protocol",
        "direction",
        "state",
        "local_address",
        "local_port",
        "remote_address",
        "remote_port",
        "remote_name",
        "pid",
        "tid",
        "comm",
        "thread_comm",
        "exe",
        "cmdline",
        "uid",
        "parent_pid",
        "cgroup",
        "container",
        "unit",
        "netns",
        "process_started_at",
        "attribution",
        "last_user_pid",
        "last_user_comm",
        "opened_at",
        "closed_at",
        "last_seen_at",
        "duration_seconds",
        "connect_latency_seconds",
        "errno",
        "error",
        "error_inferred",
        "closed_by",
        "payload_bytes_sent",
        "payload_bytes_received",
        "window_payload_bytes_sent",
        "window_payload_bytes_received",
        "packets_sent",
        "packets_received",
        "tcp_state",
        "rtt_seconds",
        "retransmits",
        "community_id",
    ];

    /// The value of a field; `Null` where it is not known.
    fn value(&self, field: &str) -> Value {
        let process = self.process.as_ref();
        let remote = self.remote.as_ref();
        match field {
            "id" => self.id.to_string().into(),
            "protocol" => self.protocol.name().into(),
            "direction" => self.direction.name().into(),
            "state" => self.state.name().into(),
            "local" => json(&self.local),
            "local_address" => self.local.address.to_string().into(),
            "local_port" => self.local.port.into(),
            "remote" => json(&self.remote),
            "remote_address" => remote.map(|remote| remote.address.to_string()).into(),
            "remote_port" => remote.map(|remote| remote.port).into(),
            "remote_name" => text(remote.and_then(|remote| remote.name.as_ref())),
            "process" => json(&self.process),
            "pid" => process.map(|process| process.pid).into(),
            "tid" => process.and_then(|process| process.tid).into(),
            "comm" => text(process.map(|process| &process.comm)),
            "thread_comm" => text(process.and_then(|process| process.thread_comm.as_ref())),
            "exe" => text(process.and_then(|process| process.exe.as_ref())),
            "cmdline" => text(process.and_then(|process| process.cmdline.as_ref())),
            "uid" => process.and_then(|process| process.uid).into(),
            "parent_pid" => process.and_then(|process| process.parent_pid).into(),
            "cgroup" => text(process.and_then(|process| process.cgroup.as_ref())),
            "container" => text(process.and_then(|process| process.container.as_ref())),
            "unit" => text(process.and_then(|process| process.unit.as_ref())),
            "netns" => self.netns.into(),
            "process_started_at" => time(process.and_then(|process| process.started_at)),
            "attribution" => self.attribution.name().into(),
            "last_user_pid" => self.last_user.as_ref().map(|process| process.pid).into(),
            "last_user_comm" => text(self.last_user.as_ref().map(|process| &process.comm)),
            "opened_at" => time(self.opened_at),
            "closed_at" => time(self.closed_at),
            "last_seen_at" => time(self.last_seen_at),
            "duration_seconds" => self.duration_seconds.into(),
            "connect_latency_seconds" => self.connect_latency_seconds.into(),
            "errno" => self.error.as_ref().and_then(|error| error.errno).into(),
            "error" => text(self.error.as_ref().map(|error| &error.name)),
            "error_inferred" => self.error.as_ref().map(|error| error.inferred).into(),
            "closed_by" => self.closed_by.map(ClosedBy::name).into(),
            "payload_bytes_sent" => self.payload_bytes.map(|bytes| bytes.sent).into(),
            "payload_bytes_received" => self.payload_bytes.map(|bytes| bytes.received).into(),
            "window_payload_bytes_sent" => self.window_payload_bytes.map(|bytes| bytes.sent).into(),
            "window_payload_bytes_received" => self.window_payload_bytes.map(|bytes| bytes.received).into(),
            "packets_sent" => self.packets.map(|packets| packets.sent).into(),
            "packets_received" => self.packets.map(|packets| packets.received).into(),
            "tcp_state" => self.tcp.map(|tcp| tcp.state.name()).into(),
            "rtt_seconds" => self.tcp.and_then(|tcp| tcp.rtt_seconds).into(),
            "retransmits" => self.tcp.map(|tcp| tcp.retransmits).into(),
            "community_id" => self.community_id.clone().into(),
            _ => Value::Null,
        }
    }

    /// The chosen fields alone, in the order asked for.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a name that is none, with the nearest and all that there are.
    pub fn only(&self, fields: &[impl AsRef<str>]) -> Result<SelectedFields> {
        let names = field_names(fields)?;
        Ok(SelectedFields { fields: names.into_iter().map(|name| (name, self.value(name))).collect() })
    }

    /// The headings of a table of chosen fields.
    ///
    /// # Errors
    /// As [`Connection::only`].
    pub fn columns_of(fields: &[impl AsRef<str>]) -> Result<Vec<Column>> {
        let column =
            |name: &'static str| if is_number(name) { Column::number(name) } else { Column::text(name) };
        Ok(field_names(fields)?.into_iter().map(column).collect())
    }

    /// The columns of a watch's lines, and how wide each is at first.
    pub(crate) fn change_columns() -> impl Iterator<Item = (Column, usize)> {
        CHANGE.iter().map(|change| (change.column, change.width))
    }

    /// The cells of a watch's line.
    pub(crate) fn change_cells(&self) -> Vec<Cell> {
        CHANGE.iter().map(|change| (change.cell)(self)).collect()
    }

    /// When its last change was, as far as is known: that it ended, was established, or began.
    fn changed_at(&self) -> Option<Timestamp> {
        let established = || {
            let latency = Duration::try_from_secs_f64(self.connect_latency_seconds?).ok()?;
            self.opened_at?.checked_add(latency).ok()
        };
        self.closed_at.or_else(established).or(self.opened_at)
    }

    /// The columns of a table of connections; those that say nothing in any of its rows are left out.
    pub(super) fn table<'a>(
        rows: impl Iterator<Item = &'a Self> + Clone,
        more: &[(Column, &dyn Fn(usize) -> Cell)],
    ) -> crate::view::Table {
        // What listens has no other side, so that the own one is what tells rows apart.
        let listens = rows.clone().any(|row| row.state == ConnectionState::Listening);
        let local_first = [TABLE_LOCAL];
        let (before, after) = TABLE.split_at(TABLE_REMOTE);
        let shown: Vec<&TableColumn> = before
            .iter()
            .chain(local_first.iter().filter(|_| listens))
            .chain(
                after.iter().filter(|column| !(listens && column.column.title == TABLE_LOCAL.column.title)),
            )
            .filter(|column| !column.only_where_told || rows.clone().any(|row| (column.told)(row)))
            .collect();
        let columns =
            shown.iter().map(|column| column.column).chain(more.iter().map(|(column, _)| *column)).collect();
        let rows = rows
            .enumerate()
            .map(|(index, row)| {
                let cells = shown.iter().map(|column| (column.cell)(row));
                cells.chain(more.iter().map(|(_, cell)| cell(index))).collect()
            })
            .collect();
        crate::view::Table { columns, rows }
    }
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn text(text: Option<&CleanText>) -> Value {
    text.map(CleanText::as_str).into()
}

fn time(time: Option<Timestamp>) -> Value {
    time.map(|time| time.to_string()).into()
}

/// What `--fields` takes beside single values.
const GROUPS: [&str; 3] = ["local", "remote", "process"];

fn field_names(fields: &[impl AsRef<str>]) -> Result<Vec<&'static str>> {
    let known = || Connection::FIELDS.iter().chain(&GROUPS).copied();
    fields
        .iter()
        .map(|asked| {
            let asked = asked.as_ref().trim();
            known().find(|name| *name == asked).ok_or_else(|| {
                let nearest = known().min_by_key(|name| distance(name, asked)).unwrap_or_default();
                let all: Vec<&str> = known().collect();
                Error::InvalidRequest(format!(
                    "connections have no field \"{}\"; the nearest is \"{nearest}\", and there are: {}",
                    CleanText::from(asked),
                    all.join(", "),
                ))
            })
        })
        .collect()
}

/// How many letters have to be changed, added or left out to make one of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=one.chars().count()).collect();
    for (line, letter) in other.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (index, own) in one.chars().enumerate() {
            let changed = diagonal + usize::from(own != letter);
            diagonal = row[index + 1];
            row[index + 1] = changed.min(row[index] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

fn is_number(field: &str) -> bool {
    ["_bytes_sent", "_bytes_received", "packets_sent", "packets_received", "_seconds", "_port", "pid", "tid"]
        .iter()
        .any(|end| field.ends_with(end))
        || matches!(field, "uid" | "netns" | "errno" | "retransmits")
}

/// Some fields of a connection. As JSON an object with those that are known.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectedFields {
    fields: Vec<(&'static str, Value)>,
}

impl SelectedFields {
    /// The cells of a table, for [`Connection::columns_of`].
    pub fn cells(&self) -> Vec<Cell> {
        self.fields.iter().map(|(name, value)| Cell::known(for_people(name, value))).collect()
    }
}

impl Serialize for SelectedFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = || self.fields.iter().filter(|(_, value)| !value.is_null());
        let mut map = serializer.serialize_map(Some(known().count()))?;
        for (name, value) in known() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn raw(name: &str, value: &Value) -> String {
    match (name, value) {
        (_, Value::Null) => String::new(),
        (_, Value::String(text)) => text.clone(),
        (_, Value::Number(number)) if number.is_f64() => number.as_f64().unwrap_or_default().to_string(),
        ("process", Value::Object(process)) => {
            process.get("comm").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        (_, Value::Object(_)) => serde_json::from_value::<RemoteEndpoint>(value.clone())
            .map(|remote| remote.endpoint().to_string())
            .unwrap_or_default(),
        _ => value.to_string(),
    }
}

fn for_people(name: &str, value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    let text = match value {
        Value::Number(number) if name.ends_with("_seconds") => {
            number.as_f64().map(|seconds| seconds_text(Some(seconds)).unwrap_or_default())
        }
        Value::Number(number) if name.contains("payload_bytes") => number.as_f64().map(units::bytes),
        Value::Number(number) if name.starts_with("packets_") => number.as_u64().map(units::count),
        _ => None,
    };
    Some(text.unwrap_or_else(|| raw(name, value)))
}

fn seconds_text(seconds: Option<f64>) -> Option<String> {
    Duration::try_from_secs_f64(seconds?).ok().map(units::short)
}

/// A column of the table for people.
struct TableColumn {
    column: Column,
    cell: fn(&Connection) -> Cell,
    only_where_told: bool,
    told: fn(&Connection) -> bool,
}

const fn always(column: Column, cell: fn(&Connection) -> Cell) -> TableColumn {
    TableColumn { column, cell, only_where_told: false, told: |_| true }
}

const fn where_told(
    column: Column,
    cell: fn(&Connection) -> Cell,
    told: fn(&Connection) -> bool,
) -> TableColumn {
    TableColumn { column, cell, only_where_told: true, told }
}

fn state_cell(row: &Connection) -> Cell {
    Cell::toned(row.state.name(), tone_of(row.state))
}

fn protocol_cell(row: &Connection) -> Cell {
    row.protocol.name().into()
}

fn direction_cell(row: &Connection) -> Cell {
    Cell::known(match row.direction {
        ConnectionDirection::Inbound => Some("in".to_owned()),
        ConnectionDirection::Outbound => Some("out".to_owned()),
        ConnectionDirection::None => None,
    })
}

fn process_cell(row: &Connection) -> Cell {
    Cell::known(row.process.as_ref().map(|process| process.comm.to_string()))
}

fn pid_cell(row: &Connection) -> Cell {
    Cell::known(row.process.as_ref().map(|process| process.pid.to_string()))
}

fn remote_cell(row: &Connection) -> Cell {
    Cell::known(row.remote.as_ref().map(|remote| remote.endpoint().to_string()))
}

fn error_cell(row: &Connection) -> Cell {
    row.error.as_ref().map_or_else(|| Cell::known(None), |error| Cell::toned(error.name.as_str(), Tone::Bad))
}

fn sent_cell(row: &Connection) -> Cell {
    Cell::known(row.payload_bytes.map(|bytes| units::bytes(bytes.sent as f64)))
}

fn received_cell(row: &Connection) -> Cell {
    Cell::known(row.payload_bytes.map(|bytes| units::bytes(bytes.received as f64)))
}

fn duration_cell(row: &Connection) -> Cell {
    Cell::known(seconds_text(row.duration_seconds))
}

fn local_cell(row: &Connection) -> Cell {
    row.local.to_string().into()
}

/// The place of the column REMOTE.
const TABLE_REMOTE: usize = 5;
/// The column before it, where something listens.
const TABLE_LOCAL: TableColumn = always(Column::text("LOCAL"), local_cell);

/// Where there is no room, optional columns go from the right.
const TABLE: &[TableColumn] = &[
    always(Column::text("STATE").secondary(), state_cell),
    always(Column::text("PROTO").secondary(), protocol_cell),
    always(Column::text("DIR").optional(), direction_cell),
    always(Column::text("PROCESS"), process_cell),
    always(Column::number("PID").secondary(), pid_cell),
    where_told(Column::text("REMOTE"), remote_cell, |row| row.remote.is_some()),
    where_told(Column::text("ERROR"), error_cell, |row| row.error.is_some()),
    where_told(Column::number("SENT").optional(), sent_cell, |row| row.payload_bytes.is_some()),
    where_told(Column::number("RECEIVED").optional(), received_cell, |row| row.payload_bytes.is_some()),
    where_told(Column::number("DURATION").optional(), duration_cell, |row| row.duration_seconds.is_some()),
    where_told(
        Column::number("RTT").optional(),
        |row| Cell::known(seconds_text(row.tcp.and_then(|tcp| tcp.rtt_seconds))),
        |row| row.tcp.is_some_and(|tcp| tcp.rtt_seconds.is_some()),
    ),
    always(Column::text("LOCAL").optional(), local_cell),
    where_told(
        Column::text("OWNER").optional(),
        |row| {
            let exact = row.attribution == Attribution::Exact;
            Cell::toned(row.attribution.name(), if exact { Tone::Plain } else { Tone::Dim })
        },
        |row| row.attribution != Attribution::Exact,
    ),
];

/// A column of a watch's lines, with the width of what it usually holds.
struct ChangeColumn {
    column: Column,
    width: usize,
    cell: fn(&Connection) -> Cell,
}

const fn change(column: Column, width: usize, cell: fn(&Connection) -> Cell) -> ChangeColumn {
    ChangeColumn { column, width, cell }
}

const CHANGE: &[ChangeColumn] = &[
    change(Column::text("TIME"), 8, |row| {
        let clock = |at: Timestamp| at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string();
        Cell::known(row.changed_at().map(clock))
    }),
    change(Column::text("STATE"), 7, state_cell),
    change(Column::text("PROTO"), 5, protocol_cell),
    change(Column::text("DIR"), 3, direction_cell),
    change(Column::text("PROCESS"), 15, process_cell),
    change(Column::number("PID").optional(), 7, pid_cell),
    change(Column::text("REMOTE"), 21, remote_cell),
    change(Column::text("ERROR"), 12, error_cell),
    change(Column::number("SENT").optional(), 7, sent_cell),
    change(Column::number("RECEIVED").optional(), 8, received_cell),
    change(Column::number("DURATION").optional(), 8, duration_cell),
];

fn tone_of(state: ConnectionState) -> Tone {
    match state {
        ConnectionState::Open => Tone::Good,
        ConnectionState::Opening => Tone::Warning,
        ConnectionState::Failed => Tone::Bad,
        ConnectionState::Closed => Tone::Dim,
        ConnectionState::Listening => Tone::Plain,
    }
}

/// Its columns are those that were asked for, see [`SelectedConnections`](super::SelectedConnections).
impl Row for SelectedFields {
    const TYPE: &'static str = "connection";
    const CSV_COLUMNS: &'static [&'static str] = &[];

    fn csv_fields(&self) -> Vec<String> {
        self.fields.iter().map(|(name, value)| raw(name, value)).collect()
    }
}

impl Row for Connection {
    const TYPE: &'static str = "connection";
    const CSV_COLUMNS: &'static [&'static str] = Self::FIELDS;

    fn csv_fields(&self) -> Vec<String> {
        Self::FIELDS.iter().map(|name| raw(name, &self.value(name))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(protocol: Protocol, local: &str, remote: &str) -> ConnectionFact {
        let mut fact = ConnectionFact::new(1, protocol, ConnectionState::Open, local.parse().unwrap());
        fact.remote = Some(remote.parse().unwrap());
        fact
    }

    /// From the specification's baseline, seed 0 (<https://github.com/corelight/community-id-spec/tree/master/baseline>).
    #[test]
    fn community_ids_are_those_of_the_specification_at_both_ends() {
        let cases = [
            (Protocol::Tcp, "128.232.110.120:34855", "66.35.250.204:80", "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            (Protocol::Udp, "192.168.1.52:54585", "8.8.8.8:53", "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            (
                Protocol::Tcp,
                "[2001:470:e5bf:dead:4957:2174:e82c:4887]:63943",
                "[2607:f8b0:400c:c03::1a]:25",
                "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
            ),
        ];
        for (protocol, local, remote, expected) in cases {
            assert_eq!(community_id(&fact(protocol, local, remote)).as_deref(), Some(expected));
            assert_eq!(community_id(&fact(protocol, remote, local)).as_deref(), Some(expected));
        }
        // Echo requests: 192.168.0.89 pings 192.168.0.1 in the specification's icmp.pcap.
        let ping = fact(Protocol::Icmp, "192.168.0.89:7", "192.168.0.1:0");
        assert_eq!(community_id(&ping).as_deref(), Some("1:X0snYXpgwiv9TZtqg64sgzUn6Dk="));

        let mut alone = fact(Protocol::Udp, "0.0.0.0:53", "8.8.8.8:53");
        alone.remote = None;
        assert_eq!(community_id(&alone), None);
        assert_eq!(community_id(&fact(Protocol::Tcp, "1.2.3.4:1", "[::1]:2")), None);
    }

    #[test]
    fn boot_times_become_wall_times_before_and_after_the_moment() {
        let at = Moment { boot_ns: 10_000_000_000, wall: "2026-01-01T00:00:10Z".parse().unwrap() };
        let at_ns = |ns| wall(&at, BootTime::from_ns(ns).unwrap()).to_string();
        assert_eq!(at_ns(1), "2026-01-01T00:00:00.000000001Z");
        assert_eq!(at_ns(10_000_000_000), "2026-01-01T00:00:10Z");
        assert_eq!(at_ns(11_500_000_000), "2026-01-01T00:00:11.5Z");
        // Nonsense stays within what a clock can show.
        assert!(!at_ns(u64::MAX).is_empty());
    }

    #[test]
    fn every_field_has_a_value_somewhere() {
        let mut fact = fact(Protocol::Tcp, "127.0.0.1:1", "127.0.0.2:2");
        let time = BootTime::from_ns(5);
        (fact.opened, fact.established, fact.closed, fact.last_seen) = (time, time, time, time);
        fact.direction = ConnectionDirection::Outbound;
        fact.netns = 7;
        let process = Process {
            started: time,
            exe: Some("e".into()),
            cmdline: Some("l".into()),
            uid: Some(1),
            parent_pid: Some(1),
            cgroup: Some("g".into()),
            container: Some("c".into()),
            unit: Some("u".into()),
            ..Process::new(9, "p")
        };
        fact.process = Some(process.into());
        fact.thread = Some(Thread { tid: 10, comm: "t".into() }.into());
        fact.last_user = Some(Process::new(11, "other").into());
        fact.error = Some(ConnectionError::told(104));
        fact.closed_by = Some(ClosedBy::Remote);
        fact.traffic = Some(Traffic::default());
        fact.tcp = Some(TcpFact { rtt_us: Some(1), ..TcpFact::new(TcpState::Established) });
        let at = Moment { boot_ns: 10, wall: Timestamp::UNIX_EPOCH };
        let mut row = Connection::new(&fact, &at, Some(Traffic::default()));
        row.remote.as_mut().unwrap().name = Some("name".into());

        for field in Connection::FIELDS.iter().chain(&GROUPS) {
            assert!(!row.value(field).is_null(), "{field}");
        }
        let json = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<Connection>(&json).unwrap(), row);
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        let error = field_names(&["comn"]).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "connections have no field \"comn\"; the nearest is \"comm\", and there are: id, "
            )
        );
    }
}
