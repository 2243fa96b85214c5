//! What the kernel counts of its protocols, and the limits that it holds them to.

use serde::{Deserialize, Serialize};

use super::{LinkCounters, Moment};
use crate::clean::CleanText;

/// The counters and limits of a network namespace at one moment. Needs no privilege; reading them takes less than a
/// millisecond.
///
/// Source: `/proc/net/{snmp,netstat,snmp6,sockstat,sockstat6}`, `/proc/sys/net`, `/proc/sys/fs/file-nr`, and rtnetlink for
/// interfaces. Counters only grow, since the namespace was made: what happened in a time is a difference of two. What this
/// kernel or a sandbox does not tell is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProtocolSnapshot {
    /// When they were read.
    pub at: Moment,
    /// The network namespace, by inode number as in `/proc/PID/ns/net`; 0 where it is not known.
    #[serde(default)]
    pub netns: u32,
    /// TCP, both versions of IP together.
    #[serde(default)]
    pub tcp: TcpCounters,
    /// UDP, both versions of IP added.
    #[serde(default)]
    pub udp: UdpCounters,
    /// How many sockets there are.
    #[serde(default)]
    pub sockets: SocketCounts,
    /// What they are held to.
    #[serde(default)]
    pub limits: ProtocolLimits,
    /// The interfaces, each with its counters. Empty where they were not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkReading>,
}

impl ProtocolSnapshot {
    /// A snapshot that tells nothing yet; the rest is public to be set.
    pub fn new(at: Moment) -> Self {
        Self {
            at,
            netns: 0,
            tcp: TcpCounters::default(),
            udp: UdpCounters::default(),
            sockets: SocketCounts::default(),
            limits: ProtocolLimits::default(),
            links: Vec::new(),
        }
    }
}

/// What an interface has carried and lost since it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LinkReading {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: CleanText,
    /// What the driver received.
    pub incoming: LinkCounters,
    /// What the driver sent.
    pub outgoing: LinkCounters,
}

impl LinkReading {
    /// The counters of an interface.
    pub fn new(
        index: u32,
        name: impl Into<CleanText>,
        incoming: LinkCounters,
        outgoing: LinkCounters,
    ) -> Self {
        Self { index, name: name.into(), incoming, outgoing }
    }
}

/// Counters or sizes, each with the name that the kernel has for it.
macro_rules! numbers {
    (
        $(#[$attribute:meta])*
        $type:ident { $($(#[$document:meta])* $field:ident,)+ }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[non_exhaustive]
        pub struct $type {
            $(
                $(#[$document])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<u64>,
            )+
        }
    };
}

numbers! {
    /// What TCP counts. Segments are those of `snmp`, events.
    TcpCounters {
        /// Attempts of this side (`ActiveOpens`).
        active_opens,
        /// Handshakes that the other side began (`PassiveOpens`).
        passive_opens,
        /// Attempts of either side that were never established (`AttemptFails`).
        attempt_fails,
        /// Established connections that were reset (`EstabResets`).
        established_resets,
        /// Segments received (`InSegs`).
        segments_received,
        /// Segments sent, those that were sent again not among them (`OutSegs`).
        segments_sent,
        /// Segments that were sent again (`RetransSegs`).
        segments_retransmitted,
        /// SYNs and SYN-ACKs among them (`TCPSynRetrans`).
        syns_retransmitted,
        /// Segments received that were damaged (`InErrs`).
        in_errors,
        /// Times that nothing came back in time (`TCPTimeouts`).
        timeouts,
        /// Connections that a listener could not take, because its queue of those to accept was full (`ListenOverflows`).
        listen_overflows,
        /// Connections that a listener did not take for whatever reason, those included (`ListenDrops`).
        listen_drops,
        /// SYNs that were dropped because too many handshakes were open (`TCPReqQFullDrop`).
        request_queue_drops,
        /// SYNs that were answered with a cookie for that reason (`TCPReqQFullDoCookies`).
        request_queue_cookies,
        /// Segments that were dropped because a process held its socket too long and the queue behind it was full
        /// (`TCPBacklogDrop`).
        backlog_drops,
        /// Closed connections that were not kept in `TIME_WAIT` because there were too many (`TCPTimeWaitOverflow`).
        time_wait_overflows,
        /// Connections that were broken off for want of memory (`TCPAbortOnMemory`).
        aborts_on_memory,
    }
}

numbers! {
    /// What UDP counts.
    UdpCounters {
        /// Datagrams that came for a process (`InDatagrams`).
        datagrams_received,
        /// Datagrams sent (`OutDatagrams`).
        datagrams_sent,
        /// Datagrams for a port at which nobody was (`NoPorts`).
        no_ports,
        /// Datagrams that could not be delivered for another reason (`InErrors`).
        in_errors,
        /// Those among them for which the socket had no room (`RcvbufErrors`).
        receive_buffer_errors,
        /// Datagrams that were not sent for want of room (`SndbufErrors`).
        send_buffer_errors,
    }
}

numbers! {
    /// How many sockets there are.
    SocketCounts {
        /// TCP sockets in use, listeners included (`TCP: inuse` and `TCP6: inuse`).
        tcp_in_use,
        /// TCP connections in `TIME_WAIT` (`TCP: tw`).
        tcp_time_wait,
        /// TCP connections that no process holds any more; of the whole host (`TCP: orphan`).
        tcp_orphans,
        /// Pages of memory that TCP's buffers take; of the whole host (`TCP: mem`).
        tcp_memory_pages,
        /// UDP sockets in use (`UDP: inuse` and `UDP6: inuse`).
        udp_in_use,
        /// Connections that are tracked (`net.netfilter.nf_conntrack_count`).
        tracked_connections,
        /// Files that are open; of the whole host (`fs.file-nr`).
        open_files,
    }
}

numbers! {
    /// What sockets are held to. What is a setting of the whole host is `None` in other network namespaces.
    ProtocolLimits {
        /// The first port that the kernel chooses for connections (`net.ipv4.ip_local_port_range`).
        first_local_port,
        /// The last of them.
        last_local_port,
        /// The most connections that may wait to be accepted at a listener, whatever it asks for (`net.core.somaxconn`).
        listen_backlog,
        /// The most open handshakes of a listener (`net.ipv4.tcp_max_syn_backlog`).
        syn_backlog,
        /// The most connections in `TIME_WAIT` (`net.ipv4.tcp_max_tw_buckets`).
        tcp_time_wait,
        /// The most connections that no process holds (`net.ipv4.tcp_max_orphans`).
        tcp_orphans,
        /// The most pages of memory for TCP's buffers (the last of `net.ipv4.tcp_mem`).
        tcp_memory_pages,
        /// The most connections that are tracked (`net.netfilter.nf_conntrack_max`).
        tracked_connections,
        /// The most open files (`fs.file-max`).
        open_files,
    }
}

impl ProtocolLimits {
    /// How many ports the kernel has to choose from for connections to one destination.
    pub fn local_ports(&self) -> Option<u64> {
        Some(self.last_local_port?.saturating_add(1).saturating_sub(self.first_local_port?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_local_ports_has_both_ends() {
        let mut limits = ProtocolLimits::default();
        assert_eq!(limits.local_ports(), None);
        (limits.first_local_port, limits.last_local_port) = (Some(32_768), Some(60_999));
        assert_eq!(limits.local_ports(), Some(28_232));
    }
}
