//! Facts: what the kernel told us, with its own time. A [`Source`](crate::Source) delivers them; answers are computed
//! from them.

mod connection;
mod drops;
pub(crate) mod errno;
mod interface;
mod protocol;

use std::{fmt, time::Duration};

pub use connection::*;
pub use drops::*;
pub use interface::*;
use jiff::Timestamp;
pub use protocol::*;
use serde::{Deserialize, Serialize};

/// A moment on the host's two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Moment {
    /// Nanoseconds since boot, suspended time included (`CLOCK_BOOTTIME`). Durations are differences of this.
    pub boot_ns: u64,
    /// The wall clock at that moment, which may be stepped.
    pub wall: Timestamp,
}

impl Moment {
    /// The time from an earlier moment to this one; zero if it is not earlier.
    pub fn since(&self, earlier: &Self) -> Duration {
        Duration::from_nanos(self.boot_ns.saturating_sub(earlier.boot_ns))
    }
}

/// A way of observing, each usable or missing on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Hook {
    /// The kernel's own interface counters, by rtnetlink.
    InterfaceCounters,
    /// tcx links in both directions, as a whole.
    Tcx,
    /// A tcx link on received packets.
    TcxIngress,
    /// A tcx link on packets about to be sent.
    TcxEgress,
    /// Filters of the clsact queueing discipline in both directions, as a whole.
    Clsact,
    /// A clsact filter on received packets.
    ClsactIngress,
    /// A clsact filter on packets about to be sent.
    ClsactEgress,
    /// An XDP link, on received packets.
    Xdp,
    /// cgroup programs when a process connects, to IPv4 or IPv6: the attempt.
    Connect,
    /// cgroup programs when a process sends a datagram to an address: its peer.
    SendMessage,
    /// cgroup programs when a process receives a datagram: its peer.
    ReceiveMessage,
    /// cgroup programs when a process closes a socket.
    SockRelease,
    /// cgroup programs at every packet: bytes of datagrams on kernels without `sock_send_length`.
    DatagramPackets,
    /// The tracepoint `inet_sock_set_state`: the life of every TCP connection.
    SetState,
    /// The tracepoint `sock_send_length`: who uses a socket, and the bytes of datagrams.
    SendLength,
    /// The tracepoint `sock_recv_length`: the same, received.
    ReceiveLength,
    /// The tracepoint `inet_sk_error_report`: errors of datagrams.
    ErrorReport,
    /// The tracepoint `sys_exit`, filtered to accept and connect; only on request.
    SysExit,
    /// The iterator over the files of all processes: every socket that a process holds, in every network namespace.
    SocketIterator,
    /// The iterator over TCP sockets: those that no process holds, in this network namespace.
    TcpIterator,
    /// The kernel's list of sockets by netlink (`sock_diag`), in this network namespace.
    SockDiag,
    /// The files of processes in `/proc`, as far as this user may read them.
    Proc,
    /// The tracepoint `kfree_skb`: packets that the kernel dropped, and why.
    KfreeSkb,
    /// One that a later version of netmon knows.
    #[serde(other)]
    Other,
}

impl Hook {
    /// Its name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::InterfaceCounters => "interface_counters",
            Self::Tcx => "tcx",
            Self::TcxIngress => "tcx_ingress",
            Self::TcxEgress => "tcx_egress",
            Self::Clsact => "clsact",
            Self::ClsactIngress => "clsact_ingress",
            Self::ClsactEgress => "clsact_egress",
            Self::Xdp => "xdp",
            Self::Connect => "connect",
            Self::SendMessage => "send_message",
            Self::ReceiveMessage => "receive_message",
            Self::SockRelease => "sock_release",
            Self::DatagramPackets => "datagram_packets",
            Self::SetState => "set_state",
            Self::SendLength => "send_length",
            Self::ReceiveLength => "receive_length",
            Self::ErrorReport => "error_report",
            Self::SysExit => "sys_exit",
            Self::SocketIterator => "socket_iterator",
            Self::TcpIterator => "tcp_iterator",
            Self::SockDiag => "sock_diag",
            Self::Proc => "proc",
            Self::KfreeSkb => "kfree_skb",
            Self::Other => "other",
        }
    }

    /// Where a kind of hook (`Tcx`, `Clsact`, `Xdp`) counts one direction; `None` where it has no place for that.
    pub(crate) fn place(self, direction: Direction) -> Option<Self> {
        match (self, direction) {
            (Self::Tcx, Direction::Incoming) => Some(Self::TcxIngress),
            (Self::Tcx, Direction::Outgoing) => Some(Self::TcxEgress),
            (Self::Clsact, Direction::Incoming) => Some(Self::ClsactIngress),
            (Self::Clsact, Direction::Outgoing) => Some(Self::ClsactEgress),
            (Self::Xdp, Direction::Incoming) => Some(Self::Xdp),
            _ => None,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whether a hook can be used on this host by this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct HookStatus {
    /// The hook.
    pub hook: Hook,
    /// Whether it works.
    pub status: Status,
    /// Why not.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What would make it work.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl HookStatus {
    /// A hook that works.
    pub fn works(hook: Hook) -> Self {
        Self { hook, status: Status::Works, reason: None, fix: None }
    }

    /// A hook that does not, and why.
    pub fn missing(hook: Hook, reason: impl Into<String>, fix: Option<String>) -> Self {
        Self { hook, status: Status::Missing, reason: Some(reason.into()), fix }
    }
}

/// Whether something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Fully.
    Works,
    /// By a fallback, with less.
    Degraded,
    /// Not at all.
    Missing,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Works => "works",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        })
    }
}
