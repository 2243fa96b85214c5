//! tcpdump: headers of all packets to a file, which is then summed up. It knows no processes.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use netmon_testkit::workload::Protocol;

use super::{Report, Rival, Version, files, on_path};
use crate::{
    launch::{Launch, Style, Told},
    sighting::{Sighting, Unit},
};

pub(super) const RIVAL: Rival = Rival {
    name: "tcpdump",
    from: "Debian: tcpdump",
    version: Version::Debian("tcpdump"),
    launch: |place| {
        let file = place.folder.join("packets.pcap");
        let arguments = format!("-n -s 96 -i {} -Z root -w {}", place.interface, file.display());
        Launch::of(on_path("tcpdump"), &arguments, Style::Stream)
    },
    read,
    ask: None,
    list: None,
    unit: Some(Unit::Frame),
    tells_owners: false,
    remark: "knows no processes; writes the headers of all packets to a file, which is summed up afterwards",
};

fn read(told: &Told) -> Report {
    let mut sightings = Vec::new();
    for file in files(&told.folder, ".pcap") {
        sightings.extend(conversations(&fs::read(&file).unwrap_or_default()));
        // It may be large.
        let _ = fs::remove_file(file);
    }
    Report { sightings, lost: dropped(&told.stderr), ..Report::default() }
}

/// `12 packets dropped by kernel`
fn dropped(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("dropped by kernel"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The bytes of frames in each direction, of IPv4 on Ethernet; each pair of addresses once from either side.
fn conversations(file: &[u8]) -> Vec<Sighting> {
    let mut sent: BTreeMap<(u8, SocketAddr, SocketAddr), u64> = BTreeMap::new();
    let mut rest = file.get(24..).unwrap_or_default();
    while let (Some(header), Some(after)) = (rest.get(..16), rest.get(16..)) {
        let number =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (captured, length) = (number(8) as usize, u64::from(number(12)));
        let Some(frame) = after.get(..captured) else { break };
        rest = &after[captured..];
        if let Some(key) = parties(frame) {
            *sent.entry(key).or_default() += length;
        }
    }
    let of = |((protocol, from, to), bytes): (&(u8, SocketAddr, SocketAddr), &u64)| Sighting {
        protocol: Some(if *protocol == TCP { Protocol::Tcp } else { Protocol::Udp }),
        local_port: Some(from.port()),
        remote: Some(*to),
        sent: Some(*bytes),
        received: Some(sent.get(&(*protocol, *to, *from)).copied().unwrap_or(0)),
        ..Sighting::default()
    };
    sent.iter().map(of).collect()
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Protocol, sender and receiver of a frame.
fn parties(frame: &[u8]) -> Option<(u8, SocketAddr, SocketAddr)> {
    let packet = frame.get(14..).filter(|_| frame[12..14] == [8, 0])?;
    let protocol = *packet.get(9)?;
    let ports = packet.get(usize::from(packet[0] & 15) * 4..)?.get(..4)?;
    let address = |at: usize, port: [u8; 2]| {
        let octets = packet.get(at..at + 4)?;
        let address = Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]);
        Some(SocketAddr::from((address, u16::from_be_bytes(port))))
    };
    let (from, to) = (address(12, [ports[0], ports[1]])?, address(16, [ports[2], ports[3]])?);
    matches!(protocol, TCP | UDP).then_some((protocol, from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_summed_up_by_direction_at_their_full_length() {
        let mut file = vec![0; 24];
        for (from, to, length) in [(1, 2, 1000_u32), (2, 1, 60), (1, 2, 500)] {
            let mut frame = vec![0; 12];
            frame.extend([8, 0, 0x45]);
            frame.extend([0; 8]);
            frame.extend([TCP, 0, 0, 10, 77, 0, from, 10, 77, 0, to, 0, from, 0, to]);
            file.extend([0; 8]);
            file.extend((frame.len() as u32).to_ne_bytes());
            file.extend(length.to_ne_bytes());
            file.extend(frame);
        }
        let remote = SocketAddr::from(([10, 77, 0, 2], 2));
        let seen = conversations(&file);
        let one = seen.iter().find(|one| one.remote == Some(remote)).cloned();
        assert_eq!(
            one,
            Some(Sighting {
                protocol: Some(Protocol::Tcp),
                local_port: Some(1),
                remote: Some(remote),
                sent: Some(1500),
                received: Some(60),
                ..Sighting::default()
            })
        );
    }

    #[test]
    fn what_the_kernel_dropped_is_in_its_last_lines() {
        let said = "144 packets captured\n174 packets received by filter\n7 packets dropped by kernel\n";
        assert_eq!(dropped(said), Some(7));
    }
}
