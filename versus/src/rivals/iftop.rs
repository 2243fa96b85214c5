//! iftop: packets by pcap, summed up by pairs of addresses and ports. It knows no processes.

use std::collections::BTreeMap;

use netmon_testkit::workload::Protocol;

use super::{
    Report, Rival, Version, on_path,
    ss::{address_of, port_of},
};
use crate::{
    launch::{Launch, Style, Told},
    sighting::{Sighting, Unit},
};

pub(super) const RIVAL: Rival = Rival {
    name: "iftop",
    from: "Debian: iftop",
    version: Version::Debian("iftop"),
    launch: |place| {
        Launch::of(on_path("iftop"), &format!("-t -n -N -P -B -L 100 -i {}", place.interface), Style::Stream)
    },
    read,
    ask: None,
    list: None,
    unit: Some(Unit::Ip),
    tells_owners: false,
    remark: "knows no processes; prints three digits",
};

/// Two lines for each pair, `local => ... cumulative` and `remote <= ... cumulative`. It does not say which protocol.
fn read(told: &Told) -> Report {
    let mut found = BTreeMap::new();
    let mut local = None;
    for line in told.stdout.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, address, "=>", .., sent] => local = port_of(address).zip(bytes(sent)),
            [address, "<=", .., received] => {
                let (Some((port, sent)), Some(remote)) = (local.take(), address_of(address)) else {
                    continue;
                };
                found.insert((port, remote), (sent, bytes(received)));
            }
            _ => {}
        }
    }
    let of = |protocol| {
        found.iter().map(move |((port, remote), (sent, received))| Sighting {
            protocol: Some(protocol),
            local_port: Some(*port),
            remote: Some(*remote),
            sent: Some(*sent),
            received: *received,
            ..Sighting::default()
        })
    };
    Report { sightings: of(Protocol::Tcp).chain(of(Protocol::Udp)).collect(), ..Report::default() }
}

/// `1.75KB`; a kilobyte has 1024.
fn bytes(text: &str) -> Option<u64> {
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let power = match &text[number.len()..] {
        "B" => 0,
        "KB" => 1,
        "MB" => 2,
        "GB" => 3,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * 1024_f64.powi(power)) as u64)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn the_last_sums_of_a_pair_count() {
        let stdout = include_str!("../../samples/iftop.txt").to_owned();
        let report = read(&Told { stdout, ..Told::default() });
        assert_eq!(
            report.sightings[1],
            Sighting {
                protocol: Some(Protocol::Tcp),
                local_port: Some(45552),
                remote: Some(SocketAddr::from(([10, 77, 0, 2], 20001))),
                sent: Some(304 * 1024),
                received: Some(1720),
                ..Sighting::default()
            }
        );
        assert_eq!(report.sightings.len(), 4);
    }

    #[test]
    fn a_kilobyte_has_1024() {
        assert_eq!(
            (bytes("0B"), bytes("1.75KB"), bytes("2MB"), bytes("x")),
            (Some(0), Some(1792), Some(2 << 20), None)
        );
    }
}
