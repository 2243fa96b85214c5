//! The sockets of a host, and those of them that listen.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    connection::{Connection, ConnectionProcess, Endpoint},
    connections::{AttributionCounts, StateCounts},
    observe::{self, Scope},
};
use crate::{
    answer::{Answer, Header, Row},
    clean::CleanText,
    control::Cancel,
    error::Result,
    fact::{Attribution, ConnectionState, Moment, Protocol, SocketFact},
    request::SocketsRequest,
    source::{Source, Span},
    view::{Cell, Column, Table, Tone, units},
};

/// All sockets at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct SocketsAnswer {
    /// Host, window and coverage; the window is a moment.
    #[serde(flatten)]
    pub header: Header,
    /// How many there are in all.
    pub total: u64,
    /// The same by state.
    pub by_state: StateCounts,
    /// The same by how the owner is known.
    pub by_attribution: AttributionCounts,
    /// One row a socket: by protocol, then by address and port on this side.
    pub sockets: Vec<Socket>,
}

/// A socket, and what it is connected to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Socket {
    /// Its connection, or that it listens.
    #[serde(flatten)]
    pub connection: Connection,
    /// Its inode number, as in `/proc/PID/fd`. Absent where no process holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// How many processes hold it. Absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders: Option<u64>,
    /// Their numbers, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holder_pids: Vec<u32>,
    /// Bytes that came and were not read yet. Absent for a TCP listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_queue_bytes: Option<u64>,
    /// Bytes that were written and not acknowledged yet. Absent for a TCP listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_queue_bytes: Option<u64>,
    /// What waits at a TCP listener to be accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Backlog>,
}

/// Connections that wait to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Backlog {
    /// How many wait.
    pub used: u64,
    /// How many may wait.
    pub limit: u64,
}

/// The sockets that wait for others to connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ListenersAnswer {
    /// Host, window and coverage; the window is a moment.
    #[serde(flatten)]
    pub header: Header,
    /// How many there are in all.
    pub total: u64,
    /// One row a socket: by protocol, then by port.
    pub listeners: Vec<Listener>,
}

/// A socket that waits for others to connect, or a UDP socket that is bound and has no peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Listener {
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it listens; `0.0.0.0` and `::` are all addresses.
    pub local: Endpoint,
    /// The process that owns it, with its unit and container. Absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ConnectionProcess>,
    /// How the process is known.
    pub attribution: Attribution,
    /// How many processes hold it. Absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders: Option<u64>,
    /// Their numbers, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holder_pids: Vec<u32>,
    /// The network namespace, by inode number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// What waits to be accepted. Absent for UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Backlog>,
    /// Bytes that came and were not read yet. Absent for TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_queue_bytes: Option<u64>,
    /// Its inode number, as in `/proc/PID/fd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

/// Answers a request; see [`Monitor::sockets`](crate::Monitor::sockets).
pub(super) fn sockets(
    source: &dyn Source,
    request: &SocketsRequest,
    cancel: &Cancel,
) -> Result<SocketsAnswer> {
    let (header, mut sockets) = list(source, request, &request.states, cancel)?;
    let mut by_state = StateCounts::default();
    let mut by_attribution = AttributionCounts::default();
    for socket in &sockets {
        by_state.count(socket.connection.state);
        by_attribution.count(socket.connection.attribution);
    }
    let total = sockets.len() as u64;
    let header = cut(header, &mut sockets, request.limit);
    Ok(SocketsAnswer { header, total, by_state, by_attribution, sockets })
}

/// Answers a request; see [`Monitor::listeners`](crate::Monitor::listeners).
pub(super) fn listeners(
    source: &dyn Source,
    request: &SocketsRequest,
    cancel: &Cancel,
) -> Result<ListenersAnswer> {
    let (header, sockets) = list(source, request, &[ConnectionState::Listening], cancel)?;
    let mut listeners: Vec<Listener> = sockets.into_iter().map(Listener::from).collect();
    listeners.sort_by_key(|listener| (listener.protocol, listener.local.port, listener.local.address));
    let total = listeners.len() as u64;
    let header = cut(header, &mut listeners, request.limit);
    Ok(ListenersAnswer { header, total, listeners })
}

fn list(
    source: &dyn Source,
    request: &SocketsRequest,
    states: &[ConnectionState],
    cancel: &Cancel,
) -> Result<(Header, Vec<Socket>)> {
    request.check()?;
    let description = source.describe();
    let scope = Scope::new(&request.filter, states, source, cancel)?;
    let snapshot = source.sockets(&observe::now(source)?)?;
    let at = snapshot.at;
    let wanted = snapshot
        .sockets
        .iter()
        .filter(|socket| scope.filter.matches(&socket.connection) && scope.takes(&socket.connection));
    let mut facts: Vec<&SocketFact> = wanted.collect();
    facts.sort_by_key(|socket| {
        let connection = &socket.connection;
        (connection.protocol, connection.local, connection.remote, connection.cookie, socket.inode)
    });
    let sockets = facts.into_iter().map(|socket| Socket::new(socket, &at)).collect();
    let span = Span { from: at, to: at };
    let header = observe::header_of(
        description.host,
        description.kind,
        &span,
        snapshot.observed,
        description.warnings,
        false,
    );
    Ok((header, sockets))
}

fn cut<T>(mut header: Header, rows: &mut Vec<T>, limit: Option<u64>) -> Header {
    if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok())
        && rows.len() > limit
    {
        rows.truncate(limit);
        header.coverage.truncated = true;
    }
    header
}

impl Socket {
    fn new(socket: &SocketFact, at: &Moment) -> Self {
        let fact = &socket.connection;
        let accepts = fact.protocol == Protocol::Tcp && fact.state == ConnectionState::Listening;
        let [received, to_send] = [socket.receive_queue, socket.send_queue].map(|queue| queue.map(u64::from));
        let backlog = received.zip(to_send).map(|(used, limit)| Backlog { used, limit });
        let holders = match (socket.inode, socket.holders.len() as u64) {
            (0, _) => Some(0),
            (_, 0) => fact.process.as_ref().map(|_| 1),
            (_, several) => Some(several),
        };
        Self {
            connection: Connection::new(fact, at, None),
            inode: (socket.inode != 0).then_some(socket.inode),
            holders,
            holder_pids: socket.holders.iter().map(|process| process.pid).collect(),
            receive_queue_bytes: received.filter(|_| !accepts),
            send_queue_bytes: to_send.filter(|_| !accepts),
            backlog: backlog.filter(|_| accepts),
        }
    }
}

impl From<Socket> for Listener {
    fn from(socket: Socket) -> Self {
        Self {
            protocol: socket.connection.protocol,
            local: socket.connection.local,
            process: socket.connection.process,
            attribution: socket.connection.attribution,
            holders: socket.holders,
            holder_pids: socket.holder_pids,
            netns: socket.connection.netns,
            backlog: socket.backlog,
            receive_queue_bytes: socket.receive_queue_bytes,
            inode: socket.inode,
        }
    }
}

impl fmt::Display for SocketsAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total == 0 {
            return f.write_str("No sockets found");
        }
        write!(
            f,
            "{}: {}; owners: {}",
            units::counted(self.total, "socket"),
            self.by_state.in_words(),
            self.by_attribution.in_words(),
        )?;
        shown(f, self.sockets.len(), self.total)
    }
}

impl fmt::Display for ListenersAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total == 0 {
            return f.write_str("No listeners found");
        }
        f.write_str(&units::counted(self.total, "listener"))?;
        shown(f, self.listeners.len(), self.total)
    }
}

fn shown(f: &mut fmt::Formatter<'_>, shown: usize, total: u64) -> fmt::Result {
    let shown = shown as u64;
    if shown < total { write!(f, "; {} shown", units::count(shown)) } else { Ok(()) }
}

impl Answer for SocketsAnswer {
    type Row = Socket;

    fn header(&self) -> &Header {
        &self.header
    }

    fn rows(&self) -> &[Socket] {
        &self.sockets
    }

    fn tables(&self) -> Vec<Table> {
        let queue = |index: usize, queue: fn(&Socket) -> Option<u64>| {
            Cell::known(self.sockets.get(index).and_then(queue).map(|bytes| units::bytes(bytes as f64)))
        };
        let receive = |index: usize| queue(index, |socket| socket.receive_queue_bytes);
        let send = |index: usize| queue(index, |socket| socket.send_queue_bytes);
        let holders = |index: usize| {
            Cell::known(self.sockets.get(index).and_then(|socket| socket.holders).map(units::count))
        };
        vec![Connection::table(
            self.sockets.iter().map(|socket| &socket.connection),
            &[
                (Column::number("RECV-Q").optional(), &receive),
                (Column::number("SEND-Q").optional(), &send),
                (Column::number("HOLDERS").optional(), &holders),
            ],
        )]
    }
}

impl Answer for ListenersAnswer {
    type Row = Listener;

    fn header(&self) -> &Header {
        &self.header
    }

    fn rows(&self) -> &[Listener] {
        &self.listeners
    }

    fn tables(&self) -> Vec<Table> {
        let columns = vec![
            Column::text("PROTO").secondary(),
            Column::text("LOCAL"),
            Column::text("PROCESS"),
            Column::number("PID").secondary(),
            Column::number("BACKLOG"),
            Column::text("UNIT OR CONTAINER").optional(),
            Column::number("HOLDERS").optional(),
            Column::number("NETNS").optional(),
        ];
        let rows = self.listeners.iter().map(Listener::cells).collect();
        vec![Table { columns, rows }]
    }
}

impl Listener {
    fn cells(&self) -> Vec<Cell> {
        let process = self.process.as_ref();
        let full = self.backlog.is_some_and(|backlog| backlog.used >= backlog.limit && backlog.limit > 0);
        let backlog = self
            .backlog
            .map(|backlog| format!("{}/{}", units::count(backlog.used), units::count(backlog.limit)));
        vec![
            self.protocol.name().into(),
            self.local.to_string().into(),
            Cell::known(process.map(|process| process.comm.to_string())),
            Cell::known(process.map(|process| process.pid.to_string())),
            match backlog {
                Some(text) if full => Cell::toned(format!("{text} full"), Tone::Bad),
                text => Cell::known(text),
            },
            Cell::known(process.and_then(belongs_to)),
            Cell::known(self.holders.map(units::count)),
            Cell::known(self.netns.map(|netns| netns.to_string())),
        ]
    }
}

/// Its unit, else its container as its tools print it: the first twelve characters.
fn belongs_to(process: &ConnectionProcess) -> Option<String> {
    let container = || process.container.as_ref().map(|id| id.as_str().chars().take(12).collect());
    process.unit.as_ref().map(CleanText::to_string).or_else(container)
}

fn known<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn pids(pids: &[u32]) -> String {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    pids.join(" ")
}

impl Row for Socket {
    const TYPE: &'static str = "socket";
    const CSV_COLUMNS: &'static [&'static str] = &[
        "protocol",
        "state",
        "tcp_state",
        "local_address",
        "local_port",
        "remote_address",
        "remote_port",
        "pid",
        "comm",
        "uid",
        "attribution",
        "holders",
        "holder_pids",
        "receive_queue_bytes",
        "send_queue_bytes",
        "backlog_used",
        "backlog_limit",
        "inode",
        "netns",
        "id",
    ];

    fn csv_fields(&self) -> Vec<String> {
        let row = &self.connection;
        let (process, remote) = (row.process.as_ref(), row.remote.as_ref());
        vec![
            row.protocol.to_string(),
            row.state.to_string(),
            known(row.tcp.map(|tcp| tcp.state)),
            row.local.address.to_string(),
            row.local.port.to_string(),
            known(remote.map(|remote| remote.address)),
            known(remote.map(|remote| remote.port)),
            known(process.map(|process| process.pid)),
            known(process.map(|process| &process.comm)),
            known(process.and_then(|process| process.uid)),
            row.attribution.to_string(),
            known(self.holders),
            pids(&self.holder_pids),
            known(self.receive_queue_bytes),
            known(self.send_queue_bytes),
            known(self.backlog.map(|backlog| backlog.used)),
            known(self.backlog.map(|backlog| backlog.limit)),
            known(self.inode),
            known(row.netns),
            row.id.to_string(),
        ]
    }
}

impl Row for Listener {
    const TYPE: &'static str = "listener";
    const CSV_COLUMNS: &'static [&'static str] = &[
        "protocol",
        "local_address",
        "local_port",
        "pid",
        "comm",
        "exe",
        "uid",
        "unit",
        "container",
        "attribution",
        "holders",
        "holder_pids",
        "backlog_used",
        "backlog_limit",
        "receive_queue_bytes",
        "netns",
        "inode",
    ];

    fn csv_fields(&self) -> Vec<String> {
        let process = self.process.as_ref();
        vec![
            self.protocol.to_string(),
            self.local.address.to_string(),
            self.local.port.to_string(),
            known(process.map(|process| process.pid)),
            known(process.map(|process| &process.comm)),
            known(process.and_then(|process| process.exe.as_ref())),
            known(process.and_then(|process| process.uid)),
            known(process.and_then(|process| process.unit.as_ref())),
            known(process.and_then(|process| process.container.as_ref())),
            self.attribution.to_string(),
            known(self.holders),
            pids(&self.holder_pids),
            known(self.backlog.map(|backlog| backlog.used)),
            known(self.backlog.map(|backlog| backlog.limit)),
            known(self.receive_queue_bytes),
            known(self.netns),
            known(self.inode),
        ]
    }
}
