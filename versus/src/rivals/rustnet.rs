//! rustnet: packets by pcap, owners by eBPF where it can and /proc; without a screen, and with its log of connections.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr},
};

use netmon_testkit::workload::Protocol;
use serde::Deserialize;

use super::{Report, Rival, Version, ss::protocol_of};
use crate::{
    launch::{Launch, Style, Told},
    sighting::{Sighting, Unit},
};

pub(super) const RIVAL: Rival = Rival {
    name: "rustnet",
    from: "crates.io: rustnet-monitor",
    version: Version::Asked(|programs| programs.of_crate("rustnet"), "--version"),
    launch: |place| {
        let log = place.folder.join(LOG);
        let arguments = format!(
            "--headless --no-uid-drop --no-resolve-dns --no-geoip --refresh-interval 1000 --interface {} --json-log {}",
            place.interface,
            log.display()
        );
        Launch::of(place.programs.of_crate("rustnet"), &arguments, Style::Stream)
    },
    read,
    ask: None,
    list: None,
    unit: Some(Unit::Frame),
    tells_owners: true,
    remark: "without a screen; its log of connections and its snapshots are read together; root all the time, as its manual \
             says for who relies on /proc",
};

const LOG: &str = "connections.log";

/// A line of `--json-log`.
#[derive(Deserialize)]
struct Logged {
    protocol: String,
    source_port: u16,
    destination_ip: IpAddr,
    destination_port: u16,
    pid: Option<u32>,
    process_name: Option<String>,
    bytes_sent: Option<u64>,
    bytes_received: Option<u64>,
}

type Connections = HashMap<(Protocol, u16, SocketAddr), Sighting>;

fn read(told: &Told) -> Report {
    let log = fs::read_to_string(told.folder.join(LOG)).unwrap_or_default();
    let (mut found, mut report) = (Connections::new(), Report::default());
    logged(&log, &mut found);
    snapshots(&told.stdout, &mut found, &mut report);
    report.sightings = found.into_values().collect();
    report
}

fn logged(log: &str, found: &mut Connections) {
    for line in log.lines().filter_map(|line| serde_json::from_str::<Logged>(line).ok()) {
        let Some(protocol) = protocol_of(&line.protocol) else { continue };
        let remote = SocketAddr::new(line.destination_ip, line.destination_port);
        merge(
            found,
            Sighting {
                protocol: Some(protocol),
                local_port: Some(line.source_port),
                remote: Some(remote),
                pid: line.pid,
                name: line.process_name,
                sent: line.bytes_sent,
                received: line.bytes_received,
            },
        );
    }
}

/// What there is in a line of `--headless`.
#[derive(Deserialize)]
struct Snapshot {
    runtime: Runtime,
    stats: Stats,
    connections: Vec<Connection>,
}

#[derive(Deserialize)]
struct Runtime {
    process_detection: Detection,
}

#[derive(Deserialize)]
struct Detection {
    method: String,
    degradation_reason: Option<String>,
}

/// Packets that it lost, before it read them and after.
#[derive(Deserialize)]
struct Stats {
    packets_dropped: u64,
    capture_packets_dropped: u64,
}

#[derive(Deserialize)]
struct Connection {
    protocol: String,
    local: Endpoint,
    remote: Endpoint,
    process: Option<Process>,
    traffic: Traffic,
}

#[derive(Deserialize)]
struct Endpoint {
    ip: IpAddr,
    port: u16,
}

#[derive(Deserialize)]
struct Process {
    pid: Option<u32>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Traffic {
    bytes_sent: u64,
    bytes_received: u64,
}

fn snapshots(stdout: &str, found: &mut Connections, report: &mut Report) {
    for snapshot in stdout.lines().filter_map(|line| serde_json::from_str::<Snapshot>(line).ok()) {
        report.lost = Some(snapshot.stats.packets_dropped + snapshot.stats.capture_packets_dropped);
        let detection = snapshot.runtime.process_detection;
        let reason = detection.degradation_reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        report.note = Some(format!("it finds owners by {}{reason}", detection.method));
        for row in snapshot.connections {
            let Some(protocol) = protocol_of(&row.protocol) else { continue };
            let (pid, name) = row.process.map_or((None, None), |process| (process.pid, process.name));
            merge(
                found,
                Sighting {
                    protocol: Some(protocol),
                    local_port: Some(row.local.port),
                    remote: Some(SocketAddr::new(row.remote.ip, row.remote.port)),
                    pid,
                    name,
                    sent: Some(row.traffic.bytes_sent),
                    received: Some(row.traffic.bytes_received),
                },
            );
        }
    }
}

/// What is told later adds to what was told before.
fn merge(found: &mut Connections, seen: Sighting) {
    let (Some(protocol), Some(port), Some(remote)) = (seen.protocol, seen.local_port, seen.remote) else {
        return;
    };
    let known = found.entry((protocol, port, remote)).or_insert_with(|| seen.clone());
    known.pid = seen.pid.or(known.pid);
    known.name = seen.name.or_else(|| known.name.take());
    known.sent = seen.sent.max(known.sent);
    known.received = seen.received.max(known.received);
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTE: ([u8; 4], u16) = ([10, 77, 0, 2], 20001);

    #[test]
    fn the_log_tells_what_the_snapshots_missed() {
        let mut found = Connections::new();
        logged(include_str!("../../samples/rustnet.log"), &mut found);
        let mut report = Report::default();
        snapshots(include_str!("../../samples/rustnet.jsonl"), &mut found, &mut report);
        let key = (Protocol::Tcp, 40000, SocketAddr::from(REMOTE));
        let seen = &found[&key];
        assert_eq!((seen.pid, seen.name.as_deref(), seen.sent), (Some(7), Some("curl"), Some(2048)));
        assert_eq!(report.lost, Some(5));
        assert_eq!(report.note.as_deref(), Some("it finds owners by procfs (no kprobes)"));
    }
}
