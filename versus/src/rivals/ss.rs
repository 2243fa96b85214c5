//! ss: all sockets with their processes, once a second.

use std::net::SocketAddr;

use netmon_testkit::workload::Protocol;

use super::{Report, Rival, Version, distinct, on_path};
use crate::{
    launch::{Launch, Style, Told},
    sighting::Sighting,
};

pub(super) const RIVAL: Rival = Rival {
    name: "ss",
    from: "Debian: iproute2",
    version: Version::Debian("iproute2"),
    launch: |_| Launch::of(on_path("ss"), "-tunapH", Style::Repeated),
    read,
    ask: None,
    list: Some(|_, _| Launch::of(on_path("ss"), "-tunapH", Style::Stream)),
    unit: None,
    tells_owners: true,
    remark: "run once a second",
};

/// `tcp ESTAB 0 0 10.77.0.1:40000 10.77.0.2:20001 users:(("curl",pid=7,fd=3))`
fn read(told: &Told) -> Report {
    Report { sightings: distinct(told.stdout.lines().filter_map(socket).collect()), ..Report::default() }
}

fn socket(line: &str) -> Option<Sighting> {
    let mut words = line.split_whitespace();
    let protocol = protocol_of(words.next()?)?;
    let mut words = words.skip(3);
    let local = words.next()?;
    let remote = words.next()?;
    let users = words.next().and_then(|users| users.strip_prefix("users:((\""));
    let name = users.and_then(|users| users.split_once('"')).map(|(name, _)| name.to_owned());
    let pid = users
        .and_then(|users| users.split_once(",pid="))
        .and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
    Some(Sighting {
        protocol: Some(protocol),
        local_port: Some(port_of(local)?),
        remote: address_of(remote),
        pid,
        name,
        sent: None,
        received: None,
    })
}

pub(super) fn protocol_of(word: &str) -> Option<Protocol> {
    match word.to_ascii_lowercase().as_str() {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}

/// The port of `10.77.0.1:80`, `[::1]:80`, `*:80` and `0.0.0.0%lo:80`.
pub(super) fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

/// `None` for an address that stands for any.
pub(super) fn address_of(word: &str) -> Option<SocketAddr> {
    word.parse::<SocketAddr>().ok().filter(|address| address.port() != 0 && !address.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_have_the_first_of_their_users() {
        let stdout = include_str!("../../samples/ss.txt").to_owned();
        let report = read(&Told { stdout, ..Told::default() });
        assert_eq!(
            report.sightings,
            [
                Sighting {
                    protocol: Some(Protocol::Udp),
                    local_port: Some(44747),
                    pid: Some(19208),
                    name: Some("python3".to_owned()),
                    ..Sighting::default()
                },
                Sighting {
                    protocol: Some(Protocol::Tcp),
                    local_port: Some(45552),
                    remote: Some(SocketAddr::from(([10, 77, 0, 2], 20001))),
                    pid: Some(19208),
                    name: Some("python3".to_owned()),
                    ..Sighting::default()
                },
                Sighting {
                    protocol: Some(Protocol::Tcp),
                    local_port: Some(45550),
                    remote: Some(SocketAddr::from(([10, 77, 0, 2], 20001))),
                    ..Sighting::default()
                },
            ]
        );
    }
}
