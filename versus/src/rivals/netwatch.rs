//! netwatch: a terminal program; `e` on its second tab writes the list of connections to a file.

use std::fs;

use serde::Deserialize;

use super::{
    Report, Rival, Version, distinct, files,
    ss::{address_of, port_of, protocol_of},
};
use crate::{
    launch::{Launch, Style, Told},
    sighting::Sighting,
};

pub(super) const RIVAL: Rival = Rival {
    name: "netwatch",
    from: "crates.io: netwatch-tui",
    version: Version::Asked(|programs| programs.of_crate("netwatch"), "--version"),
    launch: |place| {
        let style = Style::Terminal { first: "2", each_second: "e" };
        Launch::of(place.programs.of_crate("netwatch"), "", style)
    },
    read,
    ask: None,
    list: None,
    unit: None,
    tells_owners: true,
    remark: "on a terminal of 200 by 60; its list of connections is exported every second by the key `e`, and has no bytes",
};

#[derive(Deserialize)]
struct Row {
    process: String,
    pid: Option<u32>,
    protocol: String,
    local_address: String,
    remote_address: String,
}

fn read(told: &Told) -> Report {
    let mut sightings = Vec::new();
    let exports = files(&told.folder, ".json");
    let note = exports.is_empty().then(|| "it exported nothing".to_owned());
    for file in exports {
        let text = fs::read_to_string(file).unwrap_or_default();
        sightings.extend(exported(&text));
    }
    Report { sightings: distinct(sightings), note, ..Report::default() }
}

fn exported(text: &str) -> Vec<Sighting> {
    let rows: Vec<Row> = serde_json::from_str(text).unwrap_or_default();
    let of = |row: Row| {
        Some(Sighting {
            protocol: Some(protocol_of(&row.protocol)?),
            local_port: Some(port_of(&row.local_address)?),
            remote: address_of(&row.remote_address),
            pid: row.pid,
            name: (row.process != "—").then_some(row.process),
            ..Sighting::default()
        })
    };
    rows.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use netmon_testkit::workload::Protocol;

    use super::*;

    #[test]
    fn a_dash_is_no_process() {
        let text = r#"[{"process":"curl","pid":7,"protocol":"TCP","state":"ESTABLISHED","local_address":"10.77.0.1:40000","remote_address":"10.77.0.2:20001"},
            {"process":"—","pid":null,"protocol":"UDP","state":"","local_address":"0.0.0.0:9","remote_address":"0.0.0.0:*"}]"#;
        let seen = exported(text);
        assert_eq!(
            seen[0],
            Sighting {
                protocol: Some(Protocol::Tcp),
                local_port: Some(40000),
                remote: Some(SocketAddr::from(([10, 77, 0, 2], 20001))),
                pid: Some(7),
                name: Some("curl".to_owned()),
                ..Sighting::default()
            }
        );
        assert_eq!(
            seen[1],
            Sighting { protocol: Some(Protocol::Udp), local_port: Some(9), ..Sighting::default() }
        );
    }
}
