//! Who owns what, as netmon says and as the workload programs themselves do.

use std::fmt;

use netmon_core::{
    fact::{Attribution, ConnectionDirection, Protocol},
    monitor::Connection,
};
use netmon_testkit::workload::{self, Event, Truth};
use serde::{Deserialize, Serialize};

/// Of how many connections or flows the owner is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    /// The process that did it.
    pub right: u64,
    /// Its listener's owner, and said to be no more than that.
    pub inherited: u64,
    /// Not known, or the whole connection is not.
    pub unknown: u64,
    /// Another process.
    pub wrong: u64,
}

impl Owners {
    /// Connections in all.
    pub fn total(&self) -> u64 {
        self.right + self.inherited + self.unknown + self.wrong
    }

    fn of<'a>(truths: &[&Truth], row: impl Fn(&Truth) -> Option<&'a Connection>) -> Self {
        let mut owners = Self::default();
        for truth in truths {
            let row = row(truth);
            let named = row.and_then(|row| row.process.as_ref()).map(|process| process.pid);
            let count = match named {
                None => &mut owners.unknown,
                Some(pid) if pid == truth.pid => &mut owners.right,
                Some(_) if row.is_some_and(|row| row.attribution == Attribution::Inherited) => &mut owners.inherited,
                Some(_) => &mut owners.wrong,
            };
            *count += 1;
        }
        owners
    }

    /// Of clients, by what they told.
    pub fn of_clients(truths: &[Truth], rows: &[Connection]) -> Self {
        let clients = workload::all(truths, Event::Done, "client");
        Self::of(&clients, |truth| {
            rows.iter().find(|row| {
                row.protocol == Protocol::Tcp
                    && row.direction == ConnectionDirection::Outbound
                    && Some(row.local.port) == truth.local.map(|local| local.port())
                    && row.remote.as_ref().map(|remote| remote.port) == truth.peer.map(|peer| peer.port())
            })
        })
    }

    /// Of the children of a server, by what they told.
    pub fn of_workers(truths: &[Truth], rows: &[Connection]) -> Self {
        let workers = workload::all(truths, Event::Done, "worker");
        Self::of(&workers, |truth| {
            rows.iter().find(|row| {
                row.protocol == Protocol::Tcp
                    && row.direction == ConnectionDirection::Inbound
                    && Some(row.local.port) == truth.local.map(|local| local.port())
                    && row.remote.as_ref().map(|remote| remote.port) == truth.peer.map(|peer| peer.port())
            })
        })
    }

    /// Of those that send datagrams, by what they told.
    pub fn of_senders(truths: &[Truth], rows: &[Connection]) -> Self {
        let senders = workload::all(truths, Event::Done, "sender");
        Self::of(&senders, |truth| {
            let mut rows = rows.iter();
            rows.find(|row| row.protocol == Protocol::Udp && Some(row.local.port) == truth.local.map(|local| local.port()))
        })
    }

    /// Whether these are worse than those: fewer are right, or more are wrong.
    pub fn worse_than(&self, other: &Self) -> bool {
        self.right < other.right || self.wrong > other.wrong || self.inherited + self.right < other.inherited + other.right
    }
}

impl fmt::Display for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.right, self.total())?;
        for (count, what) in [(self.inherited, "inherited"), (self.unknown, "unknown"), (self.wrong, "wrong")] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(direction: &str, local: u16, remote: u16, pid: Option<u32>, attribution: &str) -> Connection {
        let process = pid.map_or(serde_json::Value::Null, |pid| serde_json::json!({"pid": pid, "comm": "c"}));
        serde_json::from_value(serde_json::json!({
            "id": format!("{local}-{remote}"), "protocol": "tcp", "direction": direction, "state": "closed",
            "local": {"address": "127.0.0.1", "port": local}, "remote": {"address": "127.0.0.1", "port": remote},
            "process": process, "attribution": attribution,
        }))
        .unwrap_or_else(|error| panic!("{error}"))
    }

    fn truth(role: &str, local: u16, peer: u16, pid: u32) -> Truth {
        let address = |port| Some(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        Truth { role: role.to_owned(), pid, local: address(local), peer: address(peer), ..Truth::default() }
    }

    #[test]
    fn both_sides_of_a_connection_are_judged_by_their_own_truth() {
        let truths: Vec<_> = (1..=4)
            .flat_map(|n| [truth("client", n, 80, u32::from(n)), truth("worker", 80, n, 100 + u32::from(n))])
            .collect();
        let rows = [
            row("outbound", 1, 80, Some(1), "exact"),
            row("outbound", 2, 80, Some(9), "exact"),
            row("outbound", 3, 80, None, "unknown"),
            row("inbound", 80, 1, Some(101), "exact"),
            row("inbound", 80, 2, Some(100), "inherited"),
        ];
        let clients = Owners::of_clients(&truths, &rows);
        assert_eq!(clients, Owners { right: 1, inherited: 0, unknown: 2, wrong: 1 });
        let workers = Owners::of_workers(&truths, &rows);
        assert_eq!(workers, Owners { right: 1, inherited: 1, unknown: 2, wrong: 0 });
        assert_eq!((clients.to_string(), workers.to_string()), ("1/4, 2 unknown, 1 wrong".to_owned(), "1/4, 1 inherited, 2 unknown".to_owned()));
        assert!(clients.worse_than(&workers) && !workers.worse_than(&clients));
    }
}
