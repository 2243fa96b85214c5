//! nethogs: packets by pcap, sockets by /proc, summed up by process.

use std::collections::BTreeMap;

use super::{Report, Rival, Version, on_path};
use crate::{
    launch::{Launch, Style, Told},
    sighting::{Sighting, Unit},
};

pub(super) const RIVAL: Rival = Rival {
    name: "nethogs",
    from: "Debian: nethogs",
    version: Version::Debian("nethogs"),
    launch: |place| {
        Launch::of(on_path("nethogs"), &format!("-t -C -v 2 -d 1 {}", place.interface), Style::Stream)
    },
    read,
    ask: None,
    list: None,
    unit: Some(Unit::Frame),
    tells_owners: true,
    remark: "tells processes, not connections: right is an owner that is listed at all, and wrong cannot be told",
};

/// `/usr/bin/python3/19208/0<tab>sent<tab>received`: program, process, user, and bytes since the beginning.
fn read(told: &Told) -> Report {
    let mut found = BTreeMap::new();
    for line in told.stdout.lines() {
        let mut columns = line.split('\t');
        let (Some(who), Some(sent), Some(received)) = (columns.next(), columns.next(), columns.next()) else {
            continue;
        };
        let mut parts = who.rsplit('/');
        let (_user, pid) = (parts.next(), parts.next().and_then(|pid| pid.parse::<u32>().ok()));
        // 0 is what it could not attribute.
        let Some(pid) = pid.filter(|pid| *pid != 0) else { continue };
        let name = parts.next().map(str::to_owned);
        let bytes = |text: &str| text.parse::<f64>().ok().map(|bytes| bytes as u64);
        let seen = Sighting {
            pid: Some(pid),
            name,
            sent: bytes(sent),
            received: bytes(received),
            ..Sighting::default()
        };
        found.insert(pid, seen);
    }
    Report { sightings: found.into_values().collect(), ..Report::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_total_of_a_process_counts_and_unknown_is_nobody() {
        let stdout = include_str!("../../samples/nethogs.txt").to_owned();
        let report = read(&Told { stdout, ..Told::default() });
        assert_eq!(
            report.sightings,
            [Sighting {
                pid: Some(19208),
                name: Some("python3".to_owned()),
                sent: Some(422_978),
                received: Some(2912),
                ..Sighting::default()
            }]
        );
    }
}
