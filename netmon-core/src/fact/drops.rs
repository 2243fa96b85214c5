//! Packets that the kernel dropped.

use std::{fmt, net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Attribution, BootTime, Direction, Moment, Observed, Process, Protocol};
use crate::clean::CleanText;

/// Dropped packets of one kind, summed up since somebody counts them: those that have reason, protocol, namespace, owner
/// and port in common.
///
/// Source: the tracepoint `kfree_skb`. It tells what the kernel's network stack freed without delivering it; what a network
/// card or an XDP program drops never came so far, and is in the counters of interfaces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DropFact {
    /// The kernel's name for why, such as `NO_SOCKET`. `None` where the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<CleanText>,
    /// Whether they came in (to be forwarded perhaps), or were about to be sent.
    pub direction: Direction,
    /// Their protocol. `None` for others, and where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The version of IP. `None` for what is no IP packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<AddressFamily>,
    /// The network namespace in which they were dropped, by inode number; 0 where it is not known.
    pub netns: u32,
    /// The process that owns the socket which they were for, or came from. `None` where there is no socket, or nobody was
    /// seen with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Arc<Process>>,
    /// How the process is known.
    pub attribution: Attribution,
    /// The port on this side: of what came in, the one that it went to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// The other side of one of the last of them, as an example; port 0 where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// The index of the interface of the last, in its own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<u32>,
    /// Its name, where the namespace is the source's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<CleanText>,
    /// When the first was dropped since they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<BootTime>,
    /// When the last was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<BootTime>,
    /// How many.
    pub counts: DropCounts,
}

impl DropFact {
    /// Drops of which nothing else is known; the rest is public to be set.
    pub fn new(direction: Direction, counts: DropCounts) -> Self {
        Self {
            reason: None,
            direction,
            protocol: None,
            family: None,
            netns: 0,
            process: None,
            attribution: Attribution::Unknown,
            local_port: None,
            peer: None,
            interface: None,
            interface_name: None,
            first: None,
            last: None,
            counts,
        }
    }
}

/// How many packets were dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DropCounts {
    /// Packets, as the kernel handled them.
    pub packets: u64,
    /// The packets that these are on the wire: one may stand for many segments.
    pub wire_packets: u64,
    /// Bytes from the IP header on.
    pub l3_bytes: u64,
}

impl DropCounts {
    /// What came since an earlier count.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            wire_packets: self.wire_packets.saturating_sub(earlier.wire_packets),
            l3_bytes: self.l3_bytes.saturating_sub(earlier.l3_bytes),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            packets: self.packets.saturating_add(other.packets),
            wire_packets: self.wire_packets.saturating_add(other.wire_packets),
            l3_bytes: self.l3_bytes.saturating_add(other.l3_bytes),
        }
    }
}

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AddressFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl AddressFamily {
    /// Its name in JSON and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

impl fmt::Display for AddressFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// All kinds of drops with their counts, at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DropSnapshot {
    /// When they were read.
    pub at: Moment,
    /// The drops, in no order.
    pub drops: Vec<DropFact>,
    /// What they were counted with, and what is missing or was lost until then.
    pub observed: Observed,
}

impl DropSnapshot {
    /// A snapshot of these drops.
    pub fn new(at: Moment, drops: Vec<DropFact>, observed: Observed) -> Self {
        Self { at, drops, observed }
    }
}
