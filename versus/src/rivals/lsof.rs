//! lsof: all files that are sockets, by its own repeat mode.

use super::{
    Report, Rival, Version, distinct, on_path,
    ss::{address_of, port_of, protocol_of},
};
use crate::{
    launch::{Launch, Style, Told},
    sighting::Sighting,
};

pub(super) const RIVAL: Rival = Rival {
    name: "lsof",
    from: "Debian: lsof",
    version: Version::Debian("lsof"),
    launch: |_| Launch::of(on_path("lsof"), "-nP -i -F pcPn -r 1", Style::Stream),
    read,
    ask: None,
    list: Some(|_, _| Launch::of(on_path("lsof"), "-nP -i -F pcPn", Style::Stream)),
    unit: None,
    tells_owners: true,
    remark: "repeats every second",
};

/// Lines of one field each: `p` and `c` for a process, then `P` and `n` for each of its sockets.
fn read(told: &Told) -> Report {
    let (mut pid, mut name, mut protocol) = (None, None, None);
    let mut report = Report::default();
    for line in told.stdout.lines() {
        let Some((field, value)) = line.split_at_checked(1) else { continue };
        match field {
            "p" => (pid, name, protocol) = (value.parse().ok(), None, None),
            "c" => name = Some(value.to_owned()),
            "P" => protocol = protocol_of(value),
            "n" => {
                let (local, remote) =
                    value.split_once("->").map_or((value, None), |(local, remote)| (local, Some(remote)));
                let Some(local_port) = port_of(local) else { continue };
                report.sightings.push(Sighting {
                    protocol,
                    local_port: Some(local_port),
                    remote: remote.and_then(address_of),
                    pid,
                    name: name.clone(),
                    ..Sighting::default()
                });
            }
            _ => {}
        }
    }
    report.sightings = distinct(report.sightings);
    report
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use netmon_testkit::workload::Protocol;

    use super::*;

    #[test]
    fn sockets_belong_to_the_process_above_them() {
        let stdout = include_str!("../../samples/lsof.txt").to_owned();
        let report = read(&Told { stdout, ..Told::default() });
        let tcp = Sighting {
            protocol: Some(Protocol::Tcp),
            local_port: Some(45552),
            remote: Some(SocketAddr::from(([10, 77, 0, 2], 20001))),
            pid: Some(19208),
            name: Some("python3".to_owned()),
            ..Sighting::default()
        };
        let udp =
            Sighting { protocol: Some(Protocol::Udp), local_port: Some(44747), remote: None, ..tcp.clone() };
        assert_eq!(report.sightings, [tcp, udp]);
    }
}
