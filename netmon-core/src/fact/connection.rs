//! Connections and sockets, with the processes that own them.

use std::{fmt, net::SocketAddr, num::NonZeroU64, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Moment;
use crate::{answer::MissingHook, clean::CleanText, fact::Hook};

/// A moment in nanoseconds since boot (`CLOCK_BOOTTIME`), never 0; half the size of a [`Moment`], as there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(NonZeroU64);

impl BootTime {
    /// The moment so many nanoseconds after boot; `None` for 0, with which the kernel side says "not known".
    pub fn from_ns(ns: u64) -> Option<Self> {
        NonZeroU64::new(ns).map(Self)
    }

    /// Nanoseconds since boot.
    pub fn ns(self) -> u64 {
        self.0.get()
    }

    /// The time from an earlier moment to this one; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.ns().saturating_sub(earlier.ns()))
    }
}

/// One connection: a TCP connection or an attempt at one, or a UDP or ICMP flow between a socket and a peer. It is told
/// of when it ended, and as it is now while it is open.
///
/// Source: `sock_create`, `connect`, `inet_sock_set_state` and the other hooks of [`Hook`]; socket iterators for those
/// that are open; `sock_diag` and `/proc` without privilege. What a source could not see is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConnectionFact {
    /// The kernel's number for its socket, not used again until the next boot; 0 where it has none.
    pub cookie: u64,
    /// When it was first seen to begin: the attempt, the arrival, the first datagram. `None` for what is older than the
    /// monitor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<BootTime>,
    /// When the handshake was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established: Option<BootTime>,
    /// When it ended or failed. `None` while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<BootTime>,
    /// When a datagram was last sent or received. `None` for TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<BootTime>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Who began it.
    pub direction: ConnectionDirection,
    /// How far it is.
    pub state: ConnectionState,
    /// The address on this side. v4-mapped addresses are IPv4.
    pub local: SocketAddr,
    /// The address on the other side. `None` for listeners, and where datagrams cannot be told apart by peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<SocketAddr>,
    /// The network namespace of the socket, by inode number as in `/proc/PID/ns/net`; 0 where it is not known.
    pub netns: u32,
    /// The process that connected or accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Arc<Process>>,
    /// The thread of it that did, where it is not the leader of its thread group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<Arc<Thread>>,
    /// How the process is known.
    pub attribution: Attribution,
    /// The process that did the last input or output, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_user: Option<Arc<Process>>,
    /// Why it failed or was broken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ConnectionError>,
    /// Which side ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<ClosedBy>,
    /// What went over it since it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// What only TCP has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpFact>,
}

impl ConnectionFact {
    /// A connection of which nothing else is known; the rest is public to be set.
    pub fn new(cookie: u64, protocol: Protocol, state: ConnectionState, local: SocketAddr) -> Self {
        Self {
            cookie,
            opened: None,
            established: None,
            closed: None,
            last_seen: None,
            protocol,
            direction: ConnectionDirection::None,
            state,
            local,
            remote: None,
            netns: 0,
            process: None,
            thread: None,
            attribution: Attribution::Unknown,
            last_user: None,
            error: None,
            closed_by: None,
            traffic: None,
            tcp: None,
        }
    }

    /// What tells it from all others of this boot, while it is open and afterwards.
    pub fn id(&self) -> ConnectionId {
        ConnectionId { cookie: self.cookie, opened_ns: self.opened.map_or(0, BootTime::ns) }
    }

    /// The time from the attempt to the end of the handshake, as the connecting side saw it. `None` for what was
    /// accepted, and for UDP.
    pub fn connect_latency(&self) -> Option<Duration> {
        match (self.direction, self.opened, self.established) {
            (ConnectionDirection::Outbound, Some(opened), Some(established)) => {
                Some(established.since(opened))
            }
            _ => None,
        }
    }

    /// Whether it has ended or failed.
    pub fn is_over(&self) -> bool {
        matches!(self.state, ConnectionState::Closed | ConnectionState::Failed)
    }
}

/// The identity of a connection: the cookie of its socket, and when it began on that (a socket can connect again after a
/// failure, and a UDP socket has many peers).
///
/// Written `cookie-opened` in hexadecimal. Unique on a host until it boots again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The socket's cookie.
    pub cookie: u64,
    /// Nanoseconds since boot; 0 where it began before it was watched.
    pub opened_ns: u64,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.cookie, self.opened_ns)
    }
}

impl FromStr for ConnectionId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        text.split_once('-')
            .and_then(|(cookie, opened)| Some(Self { cookie: number(cookie)?, opened_ns: number(opened)? }))
            .ok_or_else(|| {
                format!("{text:?} is not the id of a connection, which looks like 1f3-2a96c51d09e")
            })
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConnectionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ConnectionId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ConnectionId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]+-[0-9a-f]+$" })
    }
}

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// ICMP for IPv4 or IPv6, by ping sockets
    Icmp,
}

/// Who began a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConnectionDirection {
    /// The other side.
    Inbound,
    /// This side.
    Outbound,
    /// Nobody: it listens. Also where it is not known.
    None,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConnectionState {
    /// The handshake is not done
    Opening,
    /// It carries data, or one side may still send
    Open,
    /// It ended; for UDP, nothing came for the idle time, or the socket was closed
    Closed,
    /// It was never established
    Failed,
    /// It waits for others to connect; a UDP socket that is bound and has no peer
    Listening,
}

/// How the owner of a connection is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Attribution {
    /// The process itself was seen to connect, to accept, or to use what it accepted.
    Exact,
    /// It was accepted by a listener of this process, and nobody was seen to use it since.
    Inherited,
    /// This process held the socket when all were listed: it may have got it from another.
    Snapshot,
    /// Nobody was seen with it.
    Unknown,
}

/// Which side ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClosedBy {
    /// This side, in order or by a reset.
    Local,
    /// The other side, in order or by a reset.
    Remote,
    /// The kernel gave it up: nothing came back.
    Timeout,
    /// Nothing was sent or received for the idle time (UDP).
    Idle,
}

macro_rules! names {
    ($type:ty { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// Its name in JSON, filters and tables.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

names!(Protocol { Tcp => "tcp", Udp => "udp", Icmp => "icmp" });
names!(ConnectionDirection { Inbound => "inbound", Outbound => "outbound", None => "none" });
names!(ConnectionState {
    Opening => "opening",
    Open => "open",
    Closed => "closed",
    Failed => "failed",
    Listening => "listening",
});
names!(Attribution { Exact => "exact", Inherited => "inherited", Snapshot => "snapshot", Unknown => "unknown" });
names!(ClosedBy { Local => "local", Remote => "remote", Timeout => "timeout", Idle => "idle" });
names!(TcpState {
    Established => "established",
    SynSent => "syn_sent",
    SynReceived => "syn_received",
    FinWait1 => "fin_wait_1",
    FinWait2 => "fin_wait_2",
    TimeWait => "time_wait",
    Close => "close",
    CloseWait => "close_wait",
    LastAck => "last_ack",
    Listen => "listen",
    Closing => "closing",
});

/// Why a connection failed or was broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ConnectionError {
    /// The kernel's error number. `None` where no hook told it and it could not be worked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// Whether the number was worked out afterwards, not told by the kernel at that moment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inferred: bool,
}

impl ConnectionError {
    /// An error that the kernel told.
    pub fn told(errno: i32) -> Self {
        Self { errno: Some(errno), inferred: false }
    }

    /// An error that was worked out; `None` where all that is known is that nothing was ever sent.
    pub fn inferred(errno: Option<i32>) -> Self {
        Self { errno, inferred: true }
    }

    /// Its name, such as `ECONNREFUSED`; `errno 200` for a number without one; `never_sent` for an attempt of which only
    /// that is known.
    pub fn name(self) -> CleanText {
        match self.errno {
            Some(errno) => {
                super::errno::name(errno).map_or_else(|| format!("errno {errno}").into(), CleanText::from)
            }
            None => CleanText::from("never_sent"),
        }
    }
}

/// What went over a connection, or over a window of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Traffic {
    /// Bytes that applications sent, each counted once however often it was sent again.
    pub payload_bytes_sent: u64,
    /// Bytes that came for applications.
    pub payload_bytes_received: u64,
    /// TCP segments, or datagrams.
    pub packets_sent: u64,
    /// TCP segments, or datagrams.
    pub packets_received: u64,
}

impl Traffic {
    /// What came since an earlier reading of the same counters; saturates at zero.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            payload_bytes_sent: self.payload_bytes_sent.saturating_sub(earlier.payload_bytes_sent),
            payload_bytes_received: self
                .payload_bytes_received
                .saturating_sub(earlier.payload_bytes_received),
            packets_sent: self.packets_sent.saturating_sub(earlier.packets_sent),
            packets_received: self.packets_received.saturating_sub(earlier.packets_received),
        }
    }

    /// Adds to a sum; saturates.
    pub fn add(&mut self, other: &Self) {
        self.payload_bytes_sent = self.payload_bytes_sent.saturating_add(other.payload_bytes_sent);
        self.payload_bytes_received =
            self.payload_bytes_received.saturating_add(other.payload_bytes_received);
        self.packets_sent = self.packets_sent.saturating_add(other.packets_sent);
        self.packets_received = self.packets_received.saturating_add(other.packets_received);
    }
}

/// What only a TCP connection has. Source: `struct tcp_sock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TcpFact {
    /// Its state in the protocol; of one that ended, the last before that.
    pub state: TcpState,
    /// The smoothed round-trip time in microseconds. `None` before the first measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u32>,
    /// Segments that were sent again.
    pub retransmits: u32,
}

impl TcpFact {
    /// A connection in this state, with nothing measured.
    pub fn new(state: TcpState) -> Self {
        Self { state, rtt_us: None, retransmits: 0 }
    }
}

/// The state of a TCP connection, with the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum TcpState {
    /// Both sides may send.
    Established = 1,
    /// This side asked to connect.
    SynSent = 2,
    /// The other side asked to connect, and was answered.
    SynReceived = 3,
    /// This side has ended sending; the other does not know yet.
    #[serde(rename = "fin_wait_1")]
    FinWait1 = 4,
    /// This side has ended sending; the other has not.
    #[serde(rename = "fin_wait_2")]
    FinWait2 = 5,
    /// Over; kept for stray packets.
    TimeWait = 6,
    /// Not connected.
    Close = 7,
    /// The other side has ended sending; this one has not.
    CloseWait = 8,
    /// Both have ended; the other does not know yet.
    LastAck = 9,
    /// Waits for others to connect.
    Listen = 10,
    /// Both ended at once.
    Closing = 11,
}

impl TcpState {
    /// The state of this number in the kernel (`include/net/tcp_states.h`); a request that waits for the end of the
    /// handshake (12) has received a SYN.
    pub fn from_kernel(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 | 12 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => return None,
        })
    }

    /// The state of a connection that is in this one.
    pub fn connection_state(self) -> ConnectionState {
        match self {
            Self::SynSent | Self::SynReceived => ConnectionState::Opening,
            Self::Established | Self::FinWait1 | Self::FinWait2 | Self::CloseWait => ConnectionState::Open,
            Self::TimeWait | Self::Close | Self::LastAck | Self::Closing => ConnectionState::Closed,
            Self::Listen => ConnectionState::Listening,
        }
    }
}

/// A process, from one `exec` to the next. Its number is used again after its end; with its start time it is unique.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Process {
    /// Its number: the thread group's, in the first pid namespace.
    pub pid: u32,
    /// When its leader started. `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<BootTime>,
    /// The name of its leader, which the process chooses itself.
    pub comm: CleanText,
    /// The program file, as the process sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<CleanText>,
    /// Its arguments, which the process chooses itself, with spaces between them; cut after some hundred characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<CleanText>,
    /// Its effective user when it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The number of the process that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_pid: Option<u32>,
    /// The path of its control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CleanText>,
    /// The id of its container: the runtime's name for the control group, 64 hexadecimal digits for most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<CleanText>,
    /// Its systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<CleanText>,
}

impl Process {
    /// A process of which nothing else is known; the rest is public to be set.
    pub fn new(pid: u32, comm: impl Into<CleanText>) -> Self {
        Self { pid, comm: comm.into(), ..Self::default() }
    }
}

/// A thread that is not the leader of its group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Thread {
    /// Its number.
    pub tid: u32,
    /// Its name, which it chooses itself.
    pub comm: CleanText,
}

/// A socket as it is at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SocketFact {
    /// What it is connected to, or that it listens.
    pub connection: ConnectionFact,
    /// Its inode number, as in `/proc/PID/fd`; 0 for one that no process holds.
    pub inode: u64,
    /// All processes that hold it, where they are more than the owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Arc<Process>>,
    /// Bytes that came and were not read yet; of a listener, connections that were not accepted yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_queue: Option<u32>,
    /// Bytes that were written and not acknowledged yet; of a listener, how many connections may wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_queue: Option<u32>,
}

impl SocketFact {
    /// A socket with this connection; the rest is public to be set.
    pub fn new(connection: ConnectionFact) -> Self {
        Self { connection, inode: 0, holders: Vec::new(), receive_queue: None, send_queue: None }
    }
}

/// All sockets of the Internet protocols at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SocketSnapshot {
    /// When they were listed: the middle of the reading.
    pub at: Moment,
    /// The sockets, in no order.
    pub sockets: Vec<SocketFact>,
    /// What they were listed with, and what is missing.
    pub observed: Observed,
}

impl SocketSnapshot {
    /// A snapshot of these sockets.
    pub fn new(at: Moment, sockets: Vec<SocketFact>, observed: Observed) -> Self {
        Self { at, sockets, observed }
    }
}

/// Sums over all connections that ended since they were observed, which only grow: for those who look at them from time to
/// time and want differences.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConnectionTotals {
    /// One for each protocol, direction, outcome and error that there was; some dozens at most.
    pub ended: Vec<EndedConnections>,
    /// Records of ends that were lost on their way; those connections are in no sum.
    pub lost: u64,
    /// Connections that are in the sums and were forgotten since, because the recorder was full.
    pub forgotten: u64,
    /// The memory that the others take, in bytes.
    pub recorder_bytes: u64,
}

/// Connections of one kind that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndedConnections {
    /// Their protocol.
    pub protocol: Protocol,
    /// Who began them.
    pub direction: ConnectionDirection,
    /// Whether they were never established.
    pub failed: bool,
    /// Why they failed or were broken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ConnectionError>,
    /// How many they are.
    pub connections: u64,
    /// How many of them were seen to begin, and are not older than the monitor.
    pub began: u64,
    /// What went over them, where that is known.
    pub traffic: Traffic,
    /// TCP segments that were sent again.
    pub retransmits: u64,
}

impl EndedConnections {
    /// None yet of the kind of this one.
    pub(crate) fn none_like(fact: &ConnectionFact) -> Self {
        Self {
            protocol: fact.protocol,
            direction: fact.direction,
            failed: fact.state == ConnectionState::Failed,
            error: fact.error,
            connections: 0,
            began: 0,
            traffic: Traffic::default(),
            retransmits: 0,
        }
    }

    /// Whether one is of their kind.
    pub(crate) fn is_like(&self, fact: &ConnectionFact) -> bool {
        self.protocol == fact.protocol
            && self.direction == fact.direction
            && self.failed == (fact.state == ConnectionState::Failed)
            && self.error == fact.error
    }

    pub(crate) fn add(&mut self, fact: &ConnectionFact) {
        self.connections += 1;
        self.began += u64::from(fact.opened.is_some());
        if let Some(traffic) = &fact.traffic {
            self.traffic.add(traffic);
        }
        self.retransmits += fact.tcp.map_or(0, |tcp| u64::from(tcp.retransmits));
    }
}

/// What connections were observed with, and what is missing or lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Observed {
    /// The hooks that took part.
    pub active_hooks: Vec<Hook>,
    /// Those that did not, with what that hides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_hooks: Vec<MissingHook>,
    /// Connections of which the record was lost, because nobody took it in time.
    #[serde(default)]
    pub lost_events: u64,
    /// Connections that ended in the window and were forgotten since, because the recorder was full.
    #[serde(default)]
    pub forgotten: u64,
    /// What else the reader should know.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
