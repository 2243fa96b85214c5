//! What tools say of connections, and how it compares with the truth.

use std::{collections::HashMap, net::SocketAddr};

use netmon_testkit::workload::{Protocol, Truth};
use serde::{Deserialize, Serialize};

/// One thing that a tool tells of: a connection, a socket, or with neither address all that a process did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sighting {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) local_port: Option<u16>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) pid: Option<u32>,
    pub(crate) name: Option<String>,
    /// Bytes in the tool's own unit, from the beginning on.
    pub(crate) sent: Option<u64>,
    pub(crate) received: Option<u64>,
}

impl Sighting {
    fn names_somebody(&self) -> bool {
        self.pid.is_some() || self.name.is_some()
    }

    /// By its number, where the tool tells one; else by its name.
    fn names(&self, owner: &Owned) -> bool {
        match (self.pid, &self.name) {
            (Some(pid), _) => pid == owner.pid,
            (None, Some(name)) => *name == owner.name,
            (None, None) => false,
        }
    }
}

/// Which bytes a tool counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// What applications sent and received.
    Payload,
    /// With the headers of TCP or UDP.
    Transport,
    /// With those of IP too.
    Ip,
    /// With those of the link too, as on the wire but for what it adds.
    Frame,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Transport => "segments and datagrams",
            Self::Ip => "IP packets",
            Self::Frame => "frames",
        }
    }
}

/// A socket of the observed side whose owner is known for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) protocol: Protocol,
    pub(crate) local_port: u16,
    pub(crate) remote: SocketAddr,
    pub(crate) pid: u32,
    pub(crate) name: String,
}

impl Owned {
    fn key(&self) -> Key {
        (self.protocol, self.local_port, Some(self.remote))
    }

    pub(crate) fn of(truth: &Truth) -> Option<Self> {
        Some(Self {
            protocol: truth.protocol,
            local_port: truth.local?.port(),
            remote: truth.peer?,
            pid: truth.pid,
            name: truth.process.clone(),
        })
    }
}

/// How many owners a tool told rightly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owners {
    pub(crate) right: u64,
    /// It told of the connection, but of no owner.
    pub(crate) unknown: u64,
    pub(crate) wrong: u64,
    /// It told nothing of the connection.
    pub(crate) unseen: u64,
}

impl Owners {
    pub(crate) fn total(self) -> u64 {
        self.right + self.unknown + self.wrong + self.unseen
    }
}

type Key = (Protocol, u16, Option<SocketAddr>);

/// A tool's sightings by connection and by process.
pub(crate) struct Sightings<'a> {
    of_connections: HashMap<Key, Vec<&'a Sighting>>,
    of_processes: Vec<&'a Sighting>,
}

impl<'a> Sightings<'a> {
    pub(crate) fn new(all: &'a [Sighting]) -> Self {
        let mut sightings = Self { of_connections: HashMap::new(), of_processes: Vec::new() };
        for sighting in all {
            match (sighting.protocol, sighting.local_port) {
                (Some(protocol), Some(port)) => {
                    sightings
                        .of_connections
                        .entry((protocol, port, sighting.remote))
                        .or_default()
                        .push(sighting);
                }
                _ => sightings.of_processes.push(sighting),
            }
        }
        sightings
    }

    /// What was told of one. A datagram socket without a peer is told by its own port alone.
    fn of(&self, owned: &Owned) -> &[&'a Sighting] {
        let key = |remote| (owned.protocol, owned.local_port, remote);
        let without_peer = || match owned.protocol {
            // Of TCP that is the listener, which is somebody else's connections too.
            Protocol::Tcp => None,
            _ => self.of_connections.get(&key(None)),
        };
        self.of_connections.get(&key(Some(owned.remote))).or_else(without_peer).map_or(&[], Vec::as_slice)
    }

    /// Whether it tells of connections at all, or of processes only.
    fn tells_connections(&self) -> bool {
        !self.of_connections.is_empty()
    }

    pub(crate) fn owners(&self, truth: &[Owned]) -> Owners {
        let mut with_these_ports = HashMap::new();
        for owned in truth {
            *with_these_ports.entry(owned.key()).or_insert(0) += 1;
        }
        let mut owners = Owners::default();
        for owned in truth {
            let seen = self.of(owned);
            let mut named = seen.iter().rev().filter(|sighting| sighting.names_somebody());
            // A tool may learn the owner later, or correct itself: its last word counts. Only where the kernel gave two of
            // them the same ports, one after the other, each word may be about either.
            let told = match with_these_ports[&owned.key()] {
                1 => named.next(),
                _ => named.clone().find(|sighting| sighting.names(owned)).or_else(|| named.next()),
            };
            match told {
                Some(sighting) if sighting.names(owned) => owners.right += 1,
                Some(_) => owners.wrong += 1,
                None if !seen.is_empty() => owners.unknown += 1,
                None if !self.tells_connections() && self.of_processes.iter().any(|one| one.names(owned)) => {
                    owners.right += 1;
                }
                None => owners.unseen += 1,
            }
        }
        owners
    }

    /// How many bytes were told of what this socket sent.
    pub(crate) fn sent(&self, owned: &Owned) -> Option<u64> {
        let of_connection = self.of(owned).iter().filter_map(|sighting| sighting.sent).max();
        let of_process = || {
            let all = self.of_processes.iter().filter(|sighting| sighting.names(owned));
            all.filter_map(|sighting| sighting.sent).max()
        };
        of_connection.or_else(of_process)
    }

    /// How many connections to an address were told.
    pub(crate) fn count_to(&self, remote: SocketAddr) -> u64 {
        let to = self.of_connections.iter().filter(|((_, _, peer), _)| *peer == Some(remote));
        to.map(|(_, seen)| seen.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> SocketAddr {
        SocketAddr::from(([10, 77, 0, 2], 20001))
    }

    fn owned(local_port: u16, pid: u32) -> Owned {
        Owned { protocol: Protocol::Tcp, local_port, remote: remote(), pid, name: format!("shot-{pid}") }
    }

    fn sighting(local_port: u16, pid: Option<u32>, name: Option<&str>) -> Sighting {
        Sighting {
            protocol: Some(Protocol::Tcp),
            local_port: Some(local_port),
            remote: Some(remote()),
            pid,
            name: name.map(str::to_owned),
            sent: Some(u64::from(local_port)),
            received: None,
        }
    }

    #[test]
    fn a_number_tells_more_than_a_name_and_the_last_word_counts() {
        let told = [
            sighting(1, None, None),
            sighting(1, Some(101), Some("other")),
            sighting(2, None, Some("shot-102")),
            sighting(3, Some(999), Some("shot-103")),
            sighting(4, None, None),
        ];
        let truth = [owned(1, 101), owned(2, 102), owned(3, 103), owned(4, 104), owned(5, 105)];
        let owners = Sightings::new(&told).owners(&truth);
        assert_eq!(owners, Owners { right: 2, unknown: 1, wrong: 1, unseen: 1 });
        assert_eq!(owners.total(), 5);
    }

    #[test]
    fn a_tool_of_processes_is_right_where_it_lists_the_process() {
        let told = [Sighting { pid: Some(101), sent: Some(7), ..Sighting::default() }];
        let sightings = Sightings::new(&told);
        let owners = sightings.owners(&[owned(1, 101), owned(2, 102)]);
        assert_eq!(owners, Owners { right: 1, unseen: 1, ..Owners::default() });
        assert_eq!((sightings.sent(&owned(1, 101)), sightings.sent(&owned(2, 102))), (Some(7), None));
    }

    #[test]
    fn a_datagram_socket_without_a_peer_is_found_by_its_port() {
        let told = [Sighting {
            protocol: Some(Protocol::Udp),
            local_port: Some(9),
            pid: Some(1),
            ..Sighting::default()
        }];
        let truth = Owned { protocol: Protocol::Udp, ..owned(9, 1) };
        assert_eq!(Sightings::new(&told).owners(&[truth]).right, 1);
    }

    #[test]
    fn two_that_had_the_same_ports_are_both_right() {
        let told = [sighting(1, Some(101), None), sighting(1, Some(102), None)];
        let owners = Sightings::new(&told).owners(&[owned(1, 101), owned(1, 102), owned(1, 103)]);
        assert_eq!(owners, Owners { right: 2, wrong: 1, ..Owners::default() });
    }

    #[test]
    fn a_listener_is_not_what_it_accepted() {
        let listener = Sighting {
            protocol: Some(Protocol::Tcp),
            local_port: Some(9),
            pid: Some(1),
            ..Sighting::default()
        };
        assert_eq!(Sightings::new(&[listener]).owners(&[owned(9, 1)]).unseen, 1);
    }

    #[test]
    fn connections_to_an_address_are_counted_each() {
        let told = [sighting(1, None, None), sighting(1, None, None), sighting(2, None, None)];
        assert_eq!(Sightings::new(&told).count_to(remote()), 3);
    }
}
