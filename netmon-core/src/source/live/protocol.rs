//! The counters and limits of this network namespace's protocols, as `/proc` tells them to every user.
//!
//! All paths are the thread's own: `/proc/net` is that of the program's first thread, which may be in another namespace;
//! `/proc/sys/net` is the reader's. The files are read by one reader of ours, since `netstat`, which the procfs crate
//! lacks, has the form of `snmp`, of which procfs refuses all over one number that a sandbox leaves out.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    os::unix::fs::MetadataExt as _,
};

use super::{middle, netlink, now};
use crate::{
    error::Result,
    fact::{LinkReading, Moment, ProtocolLimits, ProtocolSnapshot, SocketCounts, TcpCounters, UdpCounters},
};

/// All readings of so long are remembered, before that the first of each minute, up to an hour: as counters of connections.
const ALL_READINGS_NS: u64 = 6 * 60 * SECOND_NS;
const SPARSE_NS: u64 = 60 * SECOND_NS;
const OLDEST_NS: u64 = 61 * 60 * SECOND_NS;
const SECOND_NS: u64 = 1_000_000_000;
/// How many readings of the last minutes are remembered at most, whoever asks for them how often.
const MOST_READINGS: usize = 128;

/// Reads all of them now.
///
/// # Errors
/// [`Error::Kernel`](crate::Error::Kernel) where rtnetlink cannot be used.
pub(super) fn read() -> Result<ProtocolSnapshot> {
    let before = now();
    let links = netlink::links()?;
    let counted = Counted::read();
    let mut snapshot = ProtocolSnapshot::new(middle(before, now()));
    snapshot.netns = own_netns();
    snapshot.tcp = counted.tcp();
    snapshot.udp = counted.udp();
    snapshot.sockets = counted.sockets();
    snapshot.limits = limits();
    snapshot.links = links
        .into_iter()
        .map(|link| LinkReading::new(link.index, link.name, link.incoming, link.outgoing))
        .collect();
    Ok(snapshot)
}

fn own_netns() -> u32 {
    let inode = fs::metadata("/proc/thread-self/ns/net").map(|file| file.ino());
    inode.ok().and_then(|inode| u32::try_from(inode).ok()).unwrap_or(0)
}

/// Numbers by name: `TcpOutSegs`, `TcpExtListenDrops`, `Udp6NoPorts`, `TCP tw`.
#[derive(Debug, Default)]
struct Counted(HashMap<String, u64>);

impl Counted {
    fn read() -> Self {
        let mut counted = Self::default();
        let file =
            |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
        for name in ["snmp", "netstat"] {
            counted.add_headed(&file(name));
        }
        counted.add_lines(&file("snmp6"));
        for name in ["sockstat", "sockstat6"] {
            counted.add_pairs(&file(name));
        }
        counted
    }

    /// Two lines a protocol: `Tcp: OutSegs RetransSegs` and `Tcp: 12 1`.
    fn add_headed(&mut self, text: &str) {
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let (Some((protocol, names)), Some((_, values))) =
                (names.split_once(':'), values.split_once(':'))
            else {
                return;
            };
            for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                // `MaxConn` is -1.
                if let Ok(value) = value.parse() {
                    self.0.insert(format!("{protocol}{name}"), value);
                }
            }
        }
    }

    /// A name and a number a line.
    fn add_lines(&mut self, text: &str) {
        for line in text.lines() {
            if let Some((name, value)) = line.split_once(char::is_whitespace)
                && let Ok(value) = value.trim().parse()
            {
                self.0.insert(name.to_owned(), value);
            }
        }
    }

    /// A line a protocol: `TCP: inuse 2 orphan 0`.
    fn add_pairs(&mut self, text: &str) {
        for line in text.lines() {
            let Some((protocol, rest)) = line.split_once(':') else { continue };
            let mut words = rest.split_whitespace();
            while let (Some(name), Some(value)) = (words.next(), words.next()) {
                if let Ok(value) = value.parse() {
                    self.0.insert(format!("{protocol} {name}"), value);
                }
            }
        }
    }

    fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Of both versions of IP, as far as they are told.
    fn both(&self, v4: &str, v6: &str) -> Option<u64> {
        match (self.get(v4), self.get(v6)) {
            (None, None) => None,
            (v4, v6) => Some(v4.unwrap_or(0).saturating_add(v6.unwrap_or(0))),
        }
    }

    fn tcp(&self) -> TcpCounters {
        TcpCounters {
            active_opens: self.get("TcpActiveOpens"),
            passive_opens: self.get("TcpPassiveOpens"),
            attempt_fails: self.get("TcpAttemptFails"),
            established_resets: self.get("TcpEstabResets"),
            segments_received: self.get("TcpInSegs"),
            segments_sent: self.get("TcpOutSegs"),
            segments_retransmitted: self.get("TcpRetransSegs"),
            syns_retransmitted: self.get("TcpExtTCPSynRetrans"),
            in_errors: self.get("TcpInErrs"),
            timeouts: self.get("TcpExtTCPTimeouts"),
            listen_overflows: self.get("TcpExtListenOverflows"),
            listen_drops: self.get("TcpExtListenDrops"),
            request_queue_drops: self.get("TcpExtTCPReqQFullDrop"),
            request_queue_cookies: self.get("TcpExtTCPReqQFullDoCookies"),
            backlog_drops: self.get("TcpExtTCPBacklogDrop"),
            time_wait_overflows: self.get("TcpExtTCPTimeWaitOverflow"),
            aborts_on_memory: self.get("TcpExtTCPAbortOnMemory"),
        }
    }

    fn udp(&self) -> UdpCounters {
        let both = |name: &str| self.both(&format!("Udp{name}"), &format!("Udp6{name}"));
        UdpCounters {
            datagrams_received: both("InDatagrams"),
            datagrams_sent: both("OutDatagrams"),
            no_ports: both("NoPorts"),
            in_errors: both("InErrors"),
            receive_buffer_errors: both("RcvbufErrors"),
            send_buffer_errors: both("SndbufErrors"),
        }
    }

    fn sockets(&self) -> SocketCounts {
        SocketCounts {
            tcp_in_use: self.both("TCP inuse", "TCP6 inuse"),
            tcp_time_wait: self.get("TCP tw"),
            tcp_orphans: self.get("TCP orphan"),
            tcp_memory_pages: self.get("TCP mem"),
            udp_in_use: self.both("UDP inuse", "UDP6 inuse"),
            tracked_connections: setting("net/netfilter/nf_conntrack_count", 0),
            open_files: setting("fs/file-nr", 0),
        }
    }
}

fn limits() -> ProtocolLimits {
    ProtocolLimits {
        first_local_port: setting("net/ipv4/ip_local_port_range", 0),
        last_local_port: setting("net/ipv4/ip_local_port_range", 1),
        listen_backlog: setting("net/core/somaxconn", 0),
        syn_backlog: setting("net/ipv4/tcp_max_syn_backlog", 0),
        tcp_time_wait: setting("net/ipv4/tcp_max_tw_buckets", 0),
        tcp_orphans: setting("net/ipv4/tcp_max_orphans", 0),
        tcp_memory_pages: setting("net/ipv4/tcp_mem", 2),
        tracked_connections: setting("net/netfilter/nf_conntrack_max", 0),
        open_files: setting("fs/file-max", 0),
    }
}

/// A number of a setting of this thread's namespace.
fn setting(path: &str, place: usize) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
    text.split_whitespace().nth(place)?.parse().ok()
}

/// Bytes as any of the files of counters.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn read_any_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut counted = Counted::default();
    counted.add_headed(&text);
    counted.add_lines(&text);
    counted.add_pairs(&text);
    counted.tcp();
    counted.udp();
    counted.sockets();
}

/// Readings of the past, each for a moment at which a span may begin; older ones get sparse.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<(u64, ProtocolSnapshot)>);

impl History {
    /// Adds what was read for a moment.
    pub(super) fn push(&mut self, at: &Moment, snapshot: ProtocolSnapshot) {
        if self.0.back().is_some_and(|(last, _)| at.boot_ns <= *last) {
            return;
        }
        self.0.push_back((at.boot_ns, snapshot));
        self.thin(at.boot_ns);
    }

    fn thin(&mut self, now: u64) {
        let age = |read: u64| now.saturating_sub(read);
        // One that is older stays, as a window of an hour begins at it.
        while self.0.get(1).is_some_and(|(read, _)| age(*read) > OLDEST_NS) {
            self.0.pop_front();
        }
        let recent = self.0.iter().filter(|(read, _)| age(*read) <= ALL_READINGS_NS).count();
        let mut last_kept = None;
        let mut index = 0;
        self.0.retain(|(read, _)| {
            let stays = if age(*read) <= ALL_READINGS_NS {
                index += 1;
                recent <= MOST_READINGS || index == recent || index % 2 == 1
            } else {
                last_kept != Some(read / SPARSE_NS)
            };
            if stays {
                last_kept = Some(read / SPARSE_NS);
            }
            stays
        });
    }

    /// What was read last at or before a moment, else what was read first; `None` for a moment after all readings.
    pub(super) fn at(&self, at: &Moment) -> Option<&ProtocolSnapshot> {
        if self.0.back().is_none_or(|(last, _)| at.boot_ns > *last) {
            return None;
        }
        let after = self.0.partition_point(|(read, _)| *read <= at.boot_ns);
        self.0.get(after.saturating_sub(1)).map(|(_, snapshot)| snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(second: u64) -> Moment {
        Moment { boot_ns: second * 1_000_000_000, wall: jiff::Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn numbers_are_found_in_every_form_and_what_is_not_there_is_not_known() {
        let mut counted = Counted::default();
        counted.add_headed(
            "Tcp: MaxConn OutSegs RetransSegs\nTcp: -1 900 7\nUdp: InDatagrams NoPorts\nUdp: 5 2\n\
             TcpExt: ListenOverflows TCPTimeouts\nTcpExt: 3 4\n",
        );
        counted.add_lines("Udp6InDatagrams                 \t6\nUdp6RcvbufErrors\t1\nbroken\n");
        counted.add_pairs("sockets: used 18\nTCP: inuse 2 orphan 0 tw 9 alloc 2 mem 48\nTCP6: inuse 4\n");
        let (tcp, udp, sockets) = (counted.tcp(), counted.udp(), counted.sockets());
        assert_eq!((tcp.segments_sent, tcp.segments_retransmitted), (Some(900), Some(7)));
        assert_eq!((tcp.listen_overflows, tcp.timeouts, tcp.active_opens), (Some(3), Some(4), None));
        assert_eq!((udp.datagrams_received, udp.no_ports), (Some(11), Some(2)));
        assert_eq!((udp.receive_buffer_errors, udp.datagrams_sent), (Some(1), None));
        assert_eq!((sockets.tcp_in_use, sockets.tcp_time_wait, sockets.udp_in_use), (Some(6), Some(9), None));

        // A count below zero as a container's kernel may tell it, without a sign.
        counted.add_pairs("TCP: inuse 18446744073709551615\n");
        assert_eq!(counted.sockets().tcp_in_use, Some(u64::MAX));
    }

    #[test]
    fn a_reading_is_found_by_its_moment_and_old_ones_get_sparse() {
        let mut history = History::default();
        assert_eq!(history.at(&moment(5)), None);
        for second in (10..=7_200).step_by(10) {
            history.push(&moment(second), ProtocolSnapshot::new(moment(second)));
        }
        let at = |second| history.at(&moment(second)).map(|snapshot| snapshot.at.boot_ns / SECOND_NS);
        assert_eq!(
            (at(7_199), at(7_200), at(7_201)),
            (Some(7_190), Some(7_200), None),
            "now is after the last"
        );
        assert_eq!((at(6_905), at(5_400), at(5_450)), (Some(6_900), Some(5_400), Some(5_400)));
        assert_eq!(at(0), Some(3_480), "a little more than an hour before, and no further");
        assert_eq!(history.0.len(), 37 + 56);

        for second in 7_201..7_200 + 300 {
            history.push(&moment(second), ProtocolSnapshot::new(moment(second)));
        }
        assert!(history.0.len() <= MOST_READINGS + 60, "{}", history.0.len());
    }
}
