//! netmon itself: the daemon, asked by netmon-cli, and netmon-cli alone.

use std::{collections::HashMap, net::SocketAddr};

use netmon_testkit::workload::Protocol;
use serde::Deserialize;

use super::{Place, Report, Rival, Version};
use crate::{
    launch::{Launch, Style, Told},
    sighting::{Sighting, Unit},
    workload::Kind,
};

pub(super) const DAEMON: Rival = Rival {
    name: "netmond",
    from: "this repository",
    version: Version::Asked(|programs| programs.own("netmond"), "--version"),
    launch: |place| Launch {
        ready: Some("ready"),
        own_sys: false,
        ..Launch::of(place.programs.own("netmond"), &format!("--socket {}", socket(place)), Style::Stream)
    },
    read,
    ask: Some(|place, kind| cli(place, &format!("--source unix:{} {}", socket(place), question(kind)))),
    list: Some(|place, _| cli(place, &format!("--source unix:{} sockets -o jsonl", socket(place)))),
    unit: Some(Unit::Payload),
    tells_owners: true,
    remark: "asked by `netmon-cli connections` after each workload; sees all network namespaces, both ends of each connection here",
};

pub(super) const LIVE: Rival = Rival {
    name: "netmon-cli",
    from: "this repository",
    version: Version::Asked(|programs| programs.own("netmon-cli"), "--version"),
    launch: |place| cli(place, "--source live connections --watch -o jsonl"),
    read,
    ask: None,
    list: Some(|place, _| cli(place, "--source live sockets -o jsonl")),
    unit: Some(Unit::Payload),
    tells_owners: true,
    remark: "prints each change as it happens; sees all network namespaces",
};

fn socket(place: &Place<'_>) -> String {
    place.folder.join("netmond.sock").display().to_string()
}

fn cli(place: &Place<'_>, arguments: &str) -> Launch {
    Launch { own_sys: false, ..Launch::of(place.programs.own("netmon-cli"), arguments, Style::Stream) }
}

fn question(kind: Kind) -> String {
    format!("connections --since 60s --port {} -o jsonl", kind.port())
}

/// The part of a row that is read; `type` is `end` in the last one.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    protocol: Option<String>,
    #[serde(default)]
    local: Option<Endpoint>,
    #[serde(default)]
    remote: Option<Endpoint>,
    #[serde(default)]
    process: Option<Process>,
    #[serde(default)]
    payload_bytes: Option<Bytes>,
    #[serde(default)]
    coverage: Option<Coverage>,
}

#[derive(Deserialize)]
struct Endpoint {
    address: std::net::IpAddr,
    port: u16,
}

#[derive(Deserialize)]
struct Process {
    pid: u32,
    comm: String,
}

#[derive(Deserialize)]
struct Bytes {
    sent: u64,
    received: u64,
}

#[derive(Deserialize)]
struct Coverage {
    lost_events: u64,
}

/// `-o jsonl`. Of a connection that is told several times, the last row stands.
fn read(told: &Told) -> Report {
    let (mut report, mut rows) = (Report::default(), HashMap::new());
    for line in told.stdout.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        if let Some(coverage) = line.coverage {
            report.lost = Some(coverage.lost_events);
        }
        let Some(local) = line.local else { continue };
        let sighting = Sighting {
            protocol: match line.protocol.as_deref() {
                Some("tcp") => Some(Protocol::Tcp),
                Some("udp") => Some(Protocol::Udp),
                _ => None,
            },
            local_port: Some(local.port),
            remote: line.remote.map(|remote| SocketAddr::new(remote.address, remote.port)),
            pid: line.process.as_ref().map(|process| process.pid),
            name: line.process.map(|process| process.comm),
            sent: line.payload_bytes.as_ref().map(|bytes| bytes.sent),
            received: line.payload_bytes.map(|bytes| bytes.received),
        };
        let next = report.sightings.len();
        let place = line.id.map_or(next, |id| *rows.entry(id).or_insert(next));
        match report.sightings.get_mut(place) {
            Some(former) => *former = sighting,
            None => report.sightings.push(sighting),
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_of_a_connection_stands() {
        let row = |id, sent| {
            format!(
                r#"{{"type":"connection","id":"{id}","protocol":"tcp","local":{{"address":"::1","port":1}},"payload_bytes":{{"sent":{sent},"received":0}}}}"#
            )
        };
        let stdout = [row("a", 1), row("b", 2), row("a", 3)].join("\n");
        let report = read(&Told { stdout, ..Told::default() });
        let sent: Vec<_> = report.sightings.iter().filter_map(|sighting| sighting.sent).collect();
        assert_eq!(sent, [3, 2]);
    }

    #[test]
    fn rows_have_owners_and_bytes_and_the_last_line_what_was_lost() {
        let stdout = r#"{"type":"connection","protocol":"tcp","local":{"address":"10.77.0.1","port":40000},"remote":{"address":"10.77.0.2","port":20001},"process":{"pid":7,"comm":"shot-1"},"payload_bytes":{"sent":500,"received":1500}}
{"type":"socket","protocol":"udp","local":{"address":"0.0.0.0","port":53},"process":{"pid":9,"comm":"named"}}
{"type":"end","coverage":{"lost_events":3}}
"#;
        let report = read(&Told { stdout: stdout.to_owned(), ..Told::default() });
        assert_eq!(report.lost, Some(3));
        assert_eq!(
            report.sightings[0],
            Sighting {
                protocol: Some(Protocol::Tcp),
                local_port: Some(40000),
                remote: Some(SocketAddr::from(([10, 77, 0, 2], 20001))),
                pid: Some(7),
                name: Some("shot-1".to_owned()),
                sent: Some(500),
                received: Some(1500),
            }
        );
        assert_eq!((report.sightings[1].pid, report.sightings[1].remote), (Some(9), None));
    }
}
