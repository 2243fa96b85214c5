//! The traffic that all tools watch, in two namespaces joined by a veth: tools watch the near side.

use std::{net::SocketAddr, thread, time::Duration};

use clap::ValueEnum;
use netmon_testkit::{
    Counters, VethPair,
    workload::{self, Event, Truth},
};
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    sighting::{Owned, Unit},
};

/// Traffic of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// 200 processes that each open one connection, and end
    OneShot,
    /// 200 connections from elsewhere to one process, which closes after the client
    Accepted,
    /// 200 connections from elsewhere to a server whose workers accept, and close first
    Prefork,
    /// 61 processes that each send five datagrams
    UdpSenders,
    /// 50,000 datagrams a second
    Packets,
    /// One connection as fast as it goes
    Bulk,
    /// Connects and closes as fast as they go
    Storm,
    /// 100,000 open sockets
    Sockets,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::OneShot,
        Self::Accepted,
        Self::Prefork,
        Self::UdpSenders,
        Self::Packets,
        Self::Bulk,
        Self::Storm,
        Self::Sockets,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneShot => "one-shot",
            Self::Accepted => "accepted",
            Self::Prefork => "prefork",
            Self::UdpSenders => "udp-senders",
            Self::Packets => "packets",
            Self::Bulk => "bulk",
            Self::Storm => "storm",
            Self::Sockets => "sockets",
        }
    }

    /// Whose speed or CPU time is compared with that of the same traffic unwatched.
    pub(crate) fn is_load(self) -> bool {
        matches!(self, Self::Packets | Self::Bulk | Self::Storm)
    }

    pub(crate) fn port(self) -> u16 {
        20_001 + self as u16
    }

    pub(crate) const PER_SECOND: u32 = 50_000;
}

/// How long and how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Connections and processes of those workloads that are about owners.
    pub(crate) connections: u32,
    pub(crate) senders: u32,
    /// For tools that do not say when they are ready.
    pub(crate) warm_up: Duration,
    pub(crate) packets: Duration,
    pub(crate) bulk: Duration,
    pub(crate) storm: Duration,
    /// For the same without a tool.
    pub(crate) unwatched_packets: Duration,
    /// For tools that look only now and then.
    pub(crate) settle: Duration,
    pub(crate) sockets: u32,
    /// How long tools are watched beside the open sockets.
    pub(crate) beside_sockets: Duration,
}

impl Size {
    pub(crate) const FULL: Self = Self {
        connections: 200,
        senders: 61,
        warm_up: Duration::from_millis(2500),
        packets: Duration::from_millis(3000),
        bulk: Duration::from_millis(1000),
        storm: Duration::from_millis(800),
        unwatched_packets: Duration::from_millis(1000),
        settle: Duration::from_millis(1100),
        sockets: 100_000,
        beside_sockets: Duration::from_millis(2500),
    };
    pub(crate) const QUICK: Self = Self {
        connections: 40,
        senders: 13,
        warm_up: Duration::from_millis(1000),
        packets: Duration::from_millis(600),
        bulk: Duration::from_millis(300),
        storm: Duration::from_millis(300),
        unwatched_packets: Duration::from_millis(200),
        settle: Duration::from_millis(300),
        sockets: 4_000,
        beside_sockets: Duration::from_millis(500),
    };

    fn duration(self, kind: Kind) -> Duration {
        match kind {
            Kind::Packets => self.packets,
            Kind::Bulk => self.bulk,
            _ => self.storm,
        }
    }

    /// The same without a tool, to compare with: at a fixed rate less will do.
    pub(crate) fn unwatched(self) -> Self {
        Self { packets: self.unwatched_packets, ..self }
    }
}

/// What happened, by the programs that did it and by the kernel's counters.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Sockets of the near side.
    pub(crate) owned: Vec<Owned>,
    /// Where connections of a storm went, and how many.
    pub(crate) storm: Option<(SocketAddr, u64)>,
    /// Payload bytes that the near side sent.
    pub(crate) payload_sent: u64,
    /// What left the near side by the kernel's counters: frames and their bytes.
    pub(crate) frames: Counters,
    /// Bytes or connections a second.
    pub(crate) speed: Option<f64>,
    /// CPU time of the traffic itself for each datagram, byte or connection: what a tool makes the kernel do is in it.
    pub(crate) cpu_each: Option<f64>,
}

const ETHERNET_HEADER: u64 = 14;
/// Of IPv4, which has no options here.
const IP_HEADER: u64 = 20;

impl Outcome {
    /// What the near side sent, in a unit.
    pub(crate) fn sent_in(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Payload => self.payload_sent,
            Unit::Transport => self.without_headers(ETHERNET_HEADER + IP_HEADER),
            Unit::Ip => self.without_headers(ETHERNET_HEADER),
            Unit::Frame => self.frames.tx_bytes,
        }
    }

    fn without_headers(&self, header: u64) -> u64 {
        self.frames.tx_bytes.saturating_sub(header * self.frames.tx_packets)
    }
}

/// Runs it once.
pub(crate) fn run(kind: Kind, link: &VethPair, size: Size) -> Result<Outcome> {
    let before = link.near.counters();
    let mut outcome = match kind {
        Kind::OneShot => one_shot(link, size.connections),
        Kind::Accepted => served(link, kind, "single", size.connections),
        Kind::Prefork => served(link, kind, "prefork:4", size.connections),
        Kind::UdpSenders => udp_senders(link, size.senders),
        Kind::Packets => loaded(link, kind, size.duration(kind), "sender"),
        Kind::Bulk => loaded(link, kind, size.duration(kind), "sender"),
        Kind::Storm => loaded(link, kind, size.duration(kind), "client"),
        Kind::Sockets => return Err("open sockets are no traffic".into()),
    };
    outcome.frames = link.near.counters().since(&before);
    Ok(outcome)
}

fn owned<'a>(truths: impl IntoIterator<Item = &'a Truth>) -> Vec<Owned> {
    truths.into_iter().filter_map(Owned::of).collect()
}

fn one_shot(link: &VethPair, count: u32) -> Outcome {
    let to = SocketAddr::from((link.far.ipv4, Kind::OneShot.port()));
    let serve = format!("serve --connections {count} --receive 500 --send 1500 {to}");
    let mut server = workload::start(&link.far.netns, &serve);
    server.ready();
    let connect = format!("connect --comm shot-{{}} --send 500 --receive 1500 {to}");
    let told = workload::run(&link.near.netns, &format!("many {count} -- {connect}"));
    server.wait();
    Outcome { owned: owned(workload::all(&told, Event::Done, "client")), ..Outcome::default() }
}

fn served(link: &VethPair, kind: Kind, model: &str, count: u32) -> Outcome {
    let to = SocketAddr::from((link.near.ipv4, kind.port()));
    // Who closes first decides what some tools can know.
    let (closes, many, waits) = match kind {
        Kind::Prefork => ("--server-closes", format!("many {count} --parallel 4"), "--close-delay 5"),
        _ => ("", format!("many {count}"), ""),
    };
    let name = kind.name();
    let mut server = workload::start(
        &link.near.netns,
        &format!(
            "serve --model {model} --comm {name} {closes} --connections {count} --receive 500 --send 1500 {to}"
        ),
    );
    server.ready();
    let connect = format!("connect --comm from-afar --send 500 --receive 1500 {waits} {to}");
    workload::run(&link.far.netns, &format!("{many} -- {connect}"));
    let role = if model == "single" { "server" } else { "worker" };
    Outcome { owned: owned(workload::all(&server.wait(), Event::Done, role)), ..Outcome::default() }
}

fn udp_senders(link: &VethPair, count: u32) -> Outcome {
    let to = SocketAddr::from((link.far.ipv4, Kind::UdpSenders.port()));
    let _sink = netmon_testkit::traffic::bind_udp(&link.far.netns, to);
    let send = format!("udp-send --comm sender-{{}} --datagrams 5 --size 100 {to}");
    let told = workload::run(&link.near.netns, &format!("many {count} -- {send}"));
    let all = workload::all(&told, Event::Done, "sender");
    let payload_sent = all.iter().map(|truth| truth.sent).sum();
    Outcome { owned: owned(all), payload_sent, ..Outcome::default() }
}

/// `flood`, `bulk` or `storm`, from near to far.
fn loaded(link: &VethPair, kind: Kind, duration: Duration, role: &str) -> Outcome {
    let to = SocketAddr::from((link.far.ipv4, kind.port()));
    let seconds = duration.as_secs_f64();
    let options = match kind {
        Kind::Packets => format!("flood --per-second {} --size 100", Kind::PER_SECOND),
        Kind::Bulk => "bulk".to_owned(),
        _ => "storm".to_owned(),
    };
    let netns = format!("/run/netns/{}", link.far.netns.name());
    let told =
        workload::run(&link.near.netns, &format!("{options} --seconds {seconds} --netns {netns} {to}"));
    let own = workload::only(&told, Event::Done, role);
    let other = told.iter().find(|truth| truth.event == Event::Done && truth.role != role);
    let count = match kind {
        Kind::Packets => own.datagrams_sent,
        Kind::Bulk => own.sent,
        _ => own.connections,
    };
    let cpu = own.cpu_ns + other.map_or(0, |truth| truth.cpu_ns);
    let is_storm = kind == Kind::Storm;
    Outcome {
        owned: if is_storm { Vec::new() } else { Owned::of(own).into_iter().collect() },
        storm: is_storm.then_some((to, own.connections)),
        payload_sent: own.sent,
        speed: Some(count as f64 / own.duration().as_secs_f64()),
        cpu_each: (count > 0).then(|| cpu as f64 / count as f64),
        frames: Counters::default(),
    }
}

/// For all tools, one after the other: some take a quarter of a minute to list that many sockets.
const LIFETIME: Duration = Duration::from_secs(900);

/// Connections on the loopback of the near side, as long as it lives; both ends of each are there.
pub(crate) struct OpenSockets {
    running: workload::Running,
    /// Which process holds which side: the local port of an acceptor, and the address that a client connected to.
    acceptors: Vec<(SocketAddr, u32)>,
    clients: Vec<(SocketAddr, u32)>,
    count: u64,
}

impl OpenSockets {
    pub(crate) fn open(link: &VethPair, sockets: u32) -> Self {
        let connections = sockets / 2;
        let hold = format!("hold --connections {connections} 127.0.0.1:0");
        let mut running = workload::start_living(&link.near.netns, LIFETIME, &hold);
        running.ready();
        let (mut acceptors, mut clients) = (Vec::new(), Vec::new());
        for truth in running.lines() {
            match (truth.event, truth.role.as_str()) {
                (Event::Accepted, "acceptor") => {
                    acceptors.extend(truth.local.map(|local| (local, truth.pid)));
                }
                (Event::Opened, "client") => clients.extend(truth.peer.map(|peer| (peer, truth.pid))),
                _ => {}
            }
        }
        // So that what started them is over.
        thread::sleep(Duration::from_millis(200));
        Self { running, acceptors, clients, count: u64::from(connections) * 2 }
    }

    /// The process that has to be told for a socket.
    pub(crate) fn owner(&self, local_port: u16, remote: SocketAddr) -> Option<u32> {
        let accepted = self.acceptors.iter().find(|(local, _)| local.port() == local_port);
        accepted.or_else(|| self.clients.iter().find(|(peer, _)| *peer == remote)).map(|(_, pid)| *pid)
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn close(self) {
        self.running.wait();
    }
}
