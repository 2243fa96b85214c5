//! The records of `drops.h`, mirrored.

use std::{
    mem::{offset_of, size_of},
    net::SocketAddr,
};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::skeleton::types;
use crate::flow::{self, Attribution, Process};

/// What drops are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DropKey {
    /// When the owner's leader started, in nanoseconds since boot.
    pub owner_start_ns: u64,
    /// The owner's thread group. 0: nobody's, or not known whose.
    pub owner_pid: u32,
    /// Which of its programs.
    pub owner_exec_id: u32,
    /// The kernel's number of the reason; see [`DropMonitor::reason`](super::DropMonitor::reason).
    pub reason: u32,
    /// The network namespace's inode number; 0 where it is not known.
    pub netns: u32,
    /// The port on this side: of what came in the one that it went to. 0 where there is none.
    pub local_port: u16,
    /// `IPPROTO_*`; 0 where it is not known.
    pub protocol: u8,
    /// `AF_INET` or `AF_INET6`; 0 for what is no IP packet, or has no header yet.
    pub family: u8,
    side: u8,
    reserved: [u8; 3],
}

impl DropKey {
    #[doc(hidden)]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self::read_from_prefix(bytes).ok()?.0)
    }

    /// Whether the packets came in, and were not about to be sent.
    pub fn is_received(&self) -> bool {
        types::nm_drop_side(self.side.into()) == types::nm_drop_side::NM_SIDE_RECEIVED
    }
}

/// How many packets were dropped, since the program was attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DropCount {
    /// Packets, as the kernel handled them.
    pub packets: u64,
    /// The segments that they stand for.
    pub wire_packets: u64,
    /// Bytes from the IP header on, or from wherever what is no IP packet began.
    pub bytes: u64,
    /// When the first was dropped, in nanoseconds since boot.
    pub first_ns: u64,
    /// When the last was.
    pub last_ns: u64,
    peer_ns: u64,
    /// The socket's number, where that is known and its owner is not; else 0.
    pub cookie: u64,
    peer: [u8; 16],
    peer_port: u16,
    attribution: u8,
    reserved: u8,
    /// The index of an interface, in its own namespace; 0 where it is not known.
    pub interface: u32,
    /// The process that owns the socket.
    pub owner: Process,
}

impl DropCount {
    #[doc(hidden)]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self::read_from_prefix(bytes).ok()?.0)
    }

    /// The other side of one of the packets, not more than a second older than the last.
    pub fn peer(&self) -> SocketAddr {
        flow::address(self.peer, self.peer_port)
    }

    /// How the owner is known.
    pub fn attribution(&self) -> Attribution {
        Attribution::from_kernel(self.attribution)
    }
}

macro_rules! pin {
    ($mirror:ty = $record:ident { $($field:ident),+ $(,)? }) => {
        const _: () = {
            assert!(size_of::<$mirror>() == size_of::<types::$record>());
            $(assert!(offset_of!($mirror, $field) == offset_of!(types::$record, $field));)+
        };
    };
}

// The layouts are C's: a moved or resized field fails the build here.
pin!(
    DropKey = nm_drop_key {
        owner_start_ns,
        owner_pid,
        owner_exec_id,
        reason,
        netns,
        local_port,
        protocol,
        family,
        side,
    }
);
pin!(
    DropCount = nm_drop {
        packets,
        wire_packets,
        bytes,
        first_ns,
        last_ns,
        peer_ns,
        cookie,
        peer,
        peer_port,
        attribution,
        interface,
        owner,
    }
);
