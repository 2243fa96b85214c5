//! The packets that the kernel dropped in a window: why, whose, and at which port.

use std::{cmp::Reverse, collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    connection::{ConnectionProcess, Endpoint, wall},
    connections::observed_line,
    observe,
};
use crate::{
    answer::{Answer, Header, Row},
    clean::CleanText,
    control::Control,
    error::Result,
    fact::{AddressFamily, Attribution, Direction, DropCounts, DropFact, Moment, Protocol},
    request::DropsRequest,
    source::Source,
    view::{Cell, Column, Table, Tone, units},
};

/// The packets that the kernel dropped in a window. What a network card or an XDP program drops never came so far; the
/// counters of interfaces tell of that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PacketDrops {
    /// Host, window and coverage.
    #[serde(flatten)]
    pub header: Header,
    /// Of whose packets this tells, in words; absent for all.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How far back the question went. Absent where it named no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_seconds: Option<f64>,
    /// Packets dropped in the window, whatever is listed.
    pub total: u64,
    /// The packets that these are on the wire.
    pub total_wire_packets: u64,
    /// Their bytes, from the IP header on.
    pub total_l3_bytes: u64,
    /// `total` a second.
    pub packets_per_second: f64,
    /// All reasons, the most frequent first.
    pub by_reason: Vec<ReasonDrops>,
    /// How many rows there are.
    pub drops_total: u64,
    /// One row for each reason, protocol, direction, namespace, process and local port, the most packets first.
    pub drops: Vec<PacketDrop>,
}

/// The drops of one reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ReasonDrops {
    /// The kernel's name for it. Absent where the kernel does not say why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<CleanText>,
    /// What that means. Absent for reasons that seldom occur.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    /// Packets in the window.
    pub packets: u64,
    /// The packets that these are on the wire.
    pub wire_packets: u64,
    /// Bytes, from the IP header on.
    pub l3_bytes: u64,
    /// `packets` a second.
    pub packets_per_second: f64,
}

/// Dropped packets that have all but the other side in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PacketDrop {
    /// The kernel's name for why, as in `enum skb_drop_reason`. Absent where the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<CleanText>,
    /// What that means. Absent for reasons that seldom occur.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    /// Whether they came in (to be forwarded perhaps), or were about to be sent.
    pub direction: Direction,
    /// The protocol. Absent for others than these, and where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The version of IP. Absent for what is no IP packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<AddressFamily>,
    /// The process that owns the socket which they were for, or came from. Absent where there is no such socket, or
    /// nobody was seen with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ConnectionProcess>,
    /// How the process is known.
    pub attribution: Attribution,
    /// The port on this side: of what came in, the one that it went to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// The other side of one of them. Others may have come from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example_peer: Option<Endpoint>,
    /// The interface of one of them. Absent where it is another network namespace's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<CleanText>,
    /// Its index, in its own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_index: Option<u32>,
    /// The network namespace in which they were dropped, by inode number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// Packets in the window.
    pub packets: u64,
    /// The packets that these are on the wire.
    pub wire_packets: u64,
    /// Bytes, from the IP header on.
    pub l3_bytes: u64,
    /// `packets` a second.
    pub packets_per_second: f64,
    /// When the first was dropped since drops are counted, perhaps before the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen_at: Option<Timestamp>,
    /// When the last was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
}

impl PacketDrop {
    fn new(fact: &DropFact, within: &DropCounts, seconds: f64, at: &Moment) -> Self {
        let reason = fact.reason.clone();
        let process =
            fact.process.as_ref().map(|process| ConnectionProcess::new(process, None, fact.netns, at));
        Self {
            meaning: meaning(reason.as_ref()),
            reason,
            direction: fact.direction,
            protocol: fact.protocol,
            family: fact.family,
            process,
            attribution: fact.attribution,
            local_port: fact.local_port,
            example_peer: fact.peer.map(Endpoint::from),
            interface: fact.interface_name.clone(),
            interface_index: fact.interface,
            netns: (fact.netns != 0).then_some(fact.netns),
            packets: within.packets,
            wire_packets: within.wire_packets,
            l3_bytes: within.l3_bytes,
            packets_per_second: per_second(within.packets, seconds),
            first_seen_at: fact.first.map(|time| wall(at, time)),
            last_seen_at: fact.last.map(|time| wall(at, time)),
        }
    }
}

fn per_second(packets: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { packets as f64 / seconds } else { 0.0 }
}

/// What a reason means, for those who have not read the kernel's sources.
fn meaning(reason: Option<&CleanText>) -> Option<String> {
    let Some(reason) = reason else { return Some("the kernel does not say why".to_owned()) };
    let words = match reason.as_str() {
        "NO_SOCKET" => "nobody listens at this port",
        "PKT_TOO_SMALL" => "too short for its headers",
        "TCP_CSUM" | "UDP_CSUM" | "IP_CSUM" | "ICMP_CSUM" | "SKB_CSUM" => "wrong checksum",
        "SOCKET_FILTER" => "a filter of the socket (BPF) refused it",
        "NETFILTER_DROP" => "a firewall rule dropped it",
        "OTHERHOST" => "addressed to another host's link-layer address",
        "UNICAST_IN_L2_MULTICAST" => "for one host, and sent to many",
        "IP_INHDR" => "wrong IP header",
        "IP_RPFILTER" => "its source is not reached by this interface (rp_filter)",
        "IP_NOPROTO" => "nothing here understands its protocol",
        "IP_INNOROUTES" | "IP_OUTNOROUTES" => "no route to its destination",
        "IP_INVALID_SOURCE" => "its source address cannot be",
        "IP_INVALID_DEST" | "IP_LOCALNET" => "its destination address cannot be",
        "XFRM_POLICY" => "an IPsec policy forbids it",
        "SOCKET_RCVBUFF" => "the process reads too slowly: its receive buffer is full",
        "SOCKET_BACKLOG" => "the process was busy with the socket, and its backlog is full",
        "PROTO_MEM" => "the protocol's memory is used up (tcp_mem, udp_mem)",
        "TCP_MD5NOTFOUND" | "TCP_MD5UNEXPECTED" | "TCP_MD5FAILURE" | "TCP_AUTH_HDR" => {
            "its signature is missing or wrong"
        }
        "TCP_FLAGS" => "its flags make no sense in this state",
        "TCP_ABORT_ON_DATA" => "data came for a connection that was given up",
        "TCP_ZEROWINDOW" => "the receiver had no room",
        "TCP_OLD_DATA" => "received before",
        "TCP_OVERWINDOW" => "beyond the receiver's window",
        "TCP_OFOMERGE" => "received before, out of order",
        "TCP_OFO_DROP" | "TCP_OFO_QUEUE_PRUNE" => "out of order, and no room to keep it",
        "TCP_RFC7323_PAWS" | "TCP_RFC7323_PAWS_ACK" => "its timestamp is too old",
        "TCP_OLD_SEQUENCE" | "TCP_INVALID_SEQUENCE" | "TCP_INVALID_END_SEQUENCE" => {
            "its sequence number is outside of the window"
        }
        "TCP_INVALID_ACK_SEQUENCE" | "TCP_TOO_OLD_ACK" | "TCP_ACK_UNSENT_DATA" | "TCP_OLD_ACK" => {
            "its acknowledgement makes no sense any more"
        }
        "TCP_RESET" => "a reset for a connection that did not want it",
        "TCP_INVALID_SYN" => "a SYN within a connection",
        "TCP_CLOSE" | "SOCKET_CLOSE" => "the socket was being closed",
        "TCP_FASTOPEN" => "TCP Fast Open refused it",
        "TCP_LISTEN_OVERFLOW" | "TCP_REQQFULLDROP" => "the queue of the listener is full",
        "TCP_MINTTL" | "IP_TTL" => "its time to live is too small",
        "CPU_BACKLOG" => "the processor's queue of packets is full (netdev_max_backlog)",
        "XDP" => "an XDP program dropped it",
        "TC_INGRESS" => "a traffic-control rule dropped it as it came in",
        "TC_EGRESS" => "a traffic-control rule dropped it as it went out",
        "QDISC_DROP" => "the queue of the interface is full, or its discipline dropped it",
        "QDISC_OVERLIMIT" | "QDISC_CONGESTED" | "FQ_FLOW_LIMIT" | "FQ_BAND_LIMIT" => {
            "the queue of the interface is full"
        }
        "CGROUP_BPF_EGRESS" | "BPF_CGROUP_EGRESS" => "a program of its control group forbids it",
        "UNHANDLED_PROTO" => "nothing here understands its kind",
        "DEV_READY" => "the interface is not up",
        "FULL_RING" => "the ring of the interface is full",
        "NOMEM" => "out of memory",
        "NEIGH_CREATEFAIL" | "NEIGH_FAILED" | "NEIGH_DEAD" | "NEIGH_HH_FILLFAIL" => {
            "the link-layer address of the next hop is not found"
        }
        "NEIGH_QUEUEFULL" => "too many wait for the link-layer address of the next hop",
        "DUP_FRAG" | "FRAG_REASM_TIMEOUT" | "FRAG_TOO_FAR" => "its fragments do not fit together in time",
        "PKT_TOO_BIG" => "larger than the way allows",
        "IPV6DISABLED" => "IPv6 is switched off here",
        "IPV6_NDISC_FRAG" | "IPV6_NDISC_HOP_LIMIT" | "IPV6_NDISC_BAD_CODE" | "IPV6_NDISC_BAD_OPTIONS" => {
            "wrong neighbour discovery"
        }
        "INVALID_PROTO" => "its protocol does not fit",
        "TAP_FILTER" | "TAP_TXFILTER" => "the filter of a tap interface refused it",
        "PACKET_SOCK_ERROR" => "a capture could not keep its copy",
        _ => return None,
    };
    Some(words.to_owned())
}

/// Answers a request; see [`Monitor::drops`](crate::Monitor::drops).
pub(super) fn drops(
    source: &dyn Source,
    request: &DropsRequest,
    control: &Control<'_>,
) -> Result<PacketDrops> {
    request.check()?;
    let description = source.describe();
    let filter = request.filter.compile_until(&control.cancel)?;
    filter.check_for_drops()?;
    source.permit(&filter)?;
    let own_pid = description.observer_pid.filter(|_| !request.filter.include_own);
    let is_own =
        |fact: &DropFact| own_pid.is_some() && fact.process.as_ref().map(|process| process.pid) == own_pid;
    let is_asked_for = |fact: &DropFact| {
        let name = fact.reason.as_ref().map_or(NOT_SPECIFIED, CleanText::as_str);
        request.reasons.is_empty() || request.reasons.iter().any(|asked| asked.eq_ignore_ascii_case(name))
    };

    let watched = observe::watch_drops(source, request.since, request.window, control)?;
    let (seconds, to) = (watched.length().as_secs_f64(), watched.span.to);
    let mut rows = Vec::new();
    let mut reasons: BTreeMap<Option<CleanText>, DropCounts> = BTreeMap::new();
    let observed = source.drops(&watched.span, &filter, &mut |sighting| {
        let (fact, within) = (sighting.fact, sighting.within());
        if within.packets == 0 || is_own(fact) || !is_asked_for(fact) {
            return;
        }
        let sum = reasons.entry(fact.reason.clone()).or_default();
        *sum = sum.plus(&within);
        rows.push(PacketDrop::new(fact, &within, seconds, &to));
    })?;
    rows.sort_by(|a, b| b.packets.cmp(&a.packets).then_with(|| identity(a).cmp(&identity(b))));

    let total = reasons.values().fold(DropCounts::default(), |sum, counts| sum.plus(counts));
    let mut by_reason: Vec<_> = reasons
        .into_iter()
        .map(|(reason, counts)| ReasonDrops {
            meaning: meaning(reason.as_ref()),
            reason,
            packets: counts.packets,
            wire_packets: counts.wire_packets,
            l3_bytes: counts.l3_bytes,
            packets_per_second: per_second(counts.packets, seconds),
        })
        .collect();
    by_reason.sort_by_key(|row| Reverse(row.packets));
    let drops_total = rows.len() as u64;
    let limit = request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let truncated = rows.len() > limit;
    rows.truncate(limit);
    Ok(PacketDrops {
        header: observe::header(description, &watched, observed, truncated),
        subject: subject(request),
        requested_seconds: request.since.map(|since| since.as_secs_f64()),
        total: total.packets,
        total_wire_packets: total.wire_packets,
        total_l3_bytes: total.l3_bytes,
        packets_per_second: per_second(total.packets, seconds),
        by_reason,
        drops_total,
        drops: rows,
    })
}

/// As people and requests call what has no name.
const NOT_SPECIFIED: &str = "NOT_SPECIFIED";

fn subject(request: &DropsRequest) -> Option<String> {
    let mut words = request.filter.describe();
    if !request.reasons.is_empty() {
        let reasons: Vec<CleanText> =
            request.reasons.iter().map(|reason| CleanText::from(reason.as_str())).collect();
        let reasons: Vec<&str> = reasons.iter().map(CleanText::as_str).collect();
        words += if words.is_empty() { "reason " } else { ", reason " };
        words += &reasons.join(" or ");
    }
    (!words.is_empty()).then_some(words)
}

/// Decides the order of rows with equal counts.
fn identity(row: &PacketDrop) -> impl Ord {
    (
        row.reason.clone(),
        row.process.as_ref().map(|process| process.pid),
        row.local_port,
        row.protocol,
        row.family,
        row.netns,
        row.direction == Direction::Outgoing,
    )
}

/// The reason as tables and digests have it.
fn name(reason: Option<&CleanText>) -> String {
    reason.map_or_else(|| "not specified".to_owned(), CleanText::to_string)
}

impl PacketDrops {
    /// Lists at most so many rows and reasons; the sums stay those of all.
    pub fn shorten(&mut self, most: usize) {
        self.header.coverage.truncated |= self.drops.len() > most || self.by_reason.len() > most;
        self.drops.truncate(most);
        self.by_reason.truncate(most);
    }

    /// Rows without what is seldom asked for: program files, arguments and control groups.
    pub fn brief(&mut self) {
        for process in self.drops.iter_mut().filter_map(|row| row.process.as_mut()) {
            process.exe = None;
            process.cmdline = None;
            process.cgroup = None;
        }
    }
}

impl fmt::Display for PacketDrops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The others are in the table.
        const NAMED: usize = 4;
        let subject = self.subject.as_ref().map(|subject| format!(" ({subject})")).unwrap_or_default();
        // Of the time that was really counted, which may be somewhat longer than what was asked for.
        let seconds = (self.header.window.seconds * 100.0).round() / 100.0;
        if self.total == 0 {
            write!(f, "No packets were dropped{subject} in {seconds} seconds")?;
        } else {
            write!(
                f,
                "{} {} dropped{subject} in {seconds} seconds: {} a second, {}",
                units::counted(self.total, "packet"),
                if self.total == 1 { "was" } else { "were" },
                units::rate(self.packets_per_second),
                units::bytes(self.total_l3_bytes as f64),
            )?;
        }
        if self.requested_seconds.is_some_and(|requested| self.header.window.seconds < requested * 0.99) {
            write!(f, "\n{}", observed_line(&self.header, self.requested_seconds))?;
        }
        for row in self.by_reason.iter().take(NAMED) {
            write!(f, "\n{} {}", units::count(row.packets), name(row.reason.as_ref()))?;
            if let Some(meaning) = &row.meaning {
                write!(f, ": {meaning}")?;
            }
        }
        match self.by_reason.len().saturating_sub(NAMED) {
            0 => Ok(()),
            others => write!(f, "\nand {}", units::counted(others as u64, "other reason")),
        }
    }
}

impl Answer for PacketDrops {
    type Row = PacketDrop;

    fn header(&self) -> &Header {
        &self.header
    }

    fn rows(&self) -> &[PacketDrop] {
        &self.drops
    }

    fn tables(&self) -> Vec<Table> {
        if self.drops.is_empty() {
            return Vec::new();
        }
        let columns = vec![
            Column::text("REASON"),
            Column::text("PROTO").secondary(),
            Column::text("WAY").optional(),
            Column::number("PORT"),
            Column::text("PROCESS"),
            Column::number("PID").secondary(),
            Column::number("PACKETS"),
            Column::number("PER SECOND").secondary(),
            Column::text("FOR EXAMPLE").optional(),
            Column::text("INTERFACE").optional(),
            Column::number("BYTES").optional(),
        ];
        let row = |row: &PacketDrop| {
            vec![
                Cell::toned(name(row.reason.as_ref()), Tone::Bad),
                Cell::known(row.protocol.map(|protocol| protocol.to_string())),
                match row.direction {
                    Direction::Incoming => "in".into(),
                    Direction::Outgoing => "out".into(),
                },
                Cell::known(row.local_port.map(|port| port.to_string())),
                Cell::known(row.process.as_ref().map(|process| process.comm.to_string())),
                Cell::known(row.process.as_ref().map(|process| process.pid.to_string())),
                units::count(row.packets).into(),
                units::rate(row.packets_per_second).into(),
                Cell::known(row.example_peer.map(|peer| shown(&peer))),
                Cell::known(row.interface.as_ref().map(CleanText::to_string)),
                units::bytes(row.l3_bytes as f64).into(),
            ]
        };
        vec![Table { columns, rows: self.drops.iter().map(row).collect() }]
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.header.coverage.notes();
        if self.header.coverage.truncated {
            notes.push(format!(
                "the first {} of {} rows are listed; the sums are of all",
                units::count(self.drops.len() as u64),
                units::count(self.drops_total),
            ));
        }
        notes
    }
}

/// What has no port is shown without.
fn shown(peer: &Endpoint) -> String {
    if peer.port == 0 { peer.address.to_string() } else { peer.to_string() }
}

impl Row for PacketDrop {
    const TYPE: &'static str = "drop";
    const CSV_COLUMNS: &'static [&'static str] = &[
        "reason",
        "direction",
        "protocol",
        "family",
        "pid",
        "comm",
        "uid",
        "attribution",
        "local_port",
        "example_peer",
        "interface",
        "netns",
        "packets",
        "wire_packets",
        "l3_bytes",
        "packets_per_second",
        "first_seen_at",
        "last_seen_at",
    ];

    fn csv_fields(&self) -> Vec<String> {
        fn known<T: ToString>(value: Option<T>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        let process = self.process.as_ref();
        vec![
            known(self.reason.as_ref()),
            self.direction.to_string(),
            known(self.protocol),
            known(self.family),
            known(process.map(|process| process.pid)),
            known(process.map(|process| &process.comm)),
            known(process.and_then(|process| process.uid)),
            self.attribution.to_string(),
            known(self.local_port),
            known(self.example_peer.as_ref().map(shown)),
            known(self.interface.as_ref()),
            known(self.netns),
            self.packets.to_string(),
            self.wire_packets.to_string(),
            self.l3_bytes.to_string(),
            self.packets_per_second.to_string(),
            known(self.first_seen_at),
            known(self.last_seen_at),
        ]
    }
}
