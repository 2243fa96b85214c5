//! bandwhich: packets by pcap, sockets by /proc, once a second.

use std::collections::HashMap;

use super::{Report, Rival, Version};
use crate::{
    launch::{Launch, Style, Told},
    rivals::ss::address_of,
    sighting::{Sighting, Unit},
};

pub(super) const RIVAL: Rival = Rival {
    name: "bandwhich",
    from: "crates.io: bandwhich",
    version: Version::Asked(|programs| programs.of_crate("bandwhich"), "--version"),
    launch: |place| {
        let arguments = format!("--raw --total-utilization --no-resolve --interface {}", place.interface);
        Launch::of(place.programs.of_crate("bandwhich"), &arguments, Style::Stream)
    },
    read,
    ask: None,
    list: None,
    unit: Some(Unit::Transport),
    tells_owners: true,
    remark: "tells processes by name, without their numbers, so that workers of one name are all the same to it",
};

/// `connection: <1700000000> <veth0>:40000 => 10.77.0.2:20001 (tcp) up/down Bps: 1/2 process: "curl"`: with
/// `--total-utilization` bytes since the beginning, whatever it calls them.
fn read(told: &Told) -> Report {
    let mut found: HashMap<(bool, u16, &str), Sighting> = HashMap::new();
    for line in told.stdout.lines() {
        let Some((key, mut seen)) = connection(line) else { continue };
        let former = found.remove(&key).unwrap_or_default();
        seen.sent = seen.sent.max(former.sent);
        seen.received = seen.received.max(former.received);
        seen.name = seen.name.or(former.name);
        found.insert(key, seen);
    }
    Report { sightings: found.into_values().collect(), ..Report::default() }
}

fn connection(line: &str) -> Option<((bool, u16, &str), Sighting)> {
    let rest = line.strip_prefix("connection: <")?.split_once("> <")?.1;
    let (_, rest) = rest.split_once(">:")?;
    let (port, rest) = rest.split_once(" => ")?;
    let (remote, rest) = rest.split_once(" (")?;
    let (protocol, rest) = rest.split_once(") up/down Bps: ")?;
    let (bytes, process) = rest.split_once(" process: ")?;
    let (up, down) = bytes.split_once('/')?;
    let name = process.trim().trim_matches('"');
    let port = port.parse().ok()?;
    let is_tcp = protocol == "tcp";
    let seen = Sighting {
        protocol: super::ss::protocol_of(protocol),
        local_port: Some(port),
        remote: address_of(remote),
        pid: None,
        name: (name != "<UNKNOWN>").then(|| name.to_owned()),
        sent: up.parse().ok(),
        received: down.parse().ok(),
    };
    Some(((is_tcp, port, remote), seen))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use netmon_testkit::workload::Protocol;

    use super::*;

    #[test]
    fn the_most_that_was_told_counts_and_a_name_stays() {
        let stdout = include_str!("../../samples/bandwhich.txt").to_owned();
        let report = read(&Told { stdout, ..Told::default() });
        let bulk = report
            .sightings
            .iter()
            .find(|one| one.protocol == Some(Protocol::Tcp))
            .map(|one| (one.remote, one.name.as_deref(), one.sent));
        assert_eq!(
            bulk,
            Some((Some(SocketAddr::from(([10, 77, 0, 2], 20001))), Some("python3"), Some(30_196)))
        );
        let udp = report
            .sightings
            .iter()
            .find(|one| one.protocol == Some(Protocol::Udp))
            .map(|one| (&one.name, one.sent));
        assert_eq!(udp, Some((&None, Some(108))));
    }
}
