//! Who owns what, as netmon says and as the workload programs themselves do.

use std::fmt;

use netmon_core::{Connection, fact::Attribution};
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

    /// Of the connections that a role tells to have had, each told from all others by its socket.
    pub fn of(role: &str, truths: &[Truth], rows: &[Connection]) -> Self {
        let mut owners = Self::default();
        for truth in workload::all(truths, Event::Done, role) {
            let row = rows.iter().find(|row| Some(row.id.cookie) == truth.cookie);
            let named = row.and_then(|row| row.process.as_ref()).map(|process| process.pid);
            let count = match named {
                None => &mut owners.unknown,
                Some(pid) if pid == truth.pid => &mut owners.right,
                Some(_) if row.is_some_and(|row| row.attribution == Attribution::Inherited) => {
                    &mut owners.inherited
                }
                Some(_) => &mut owners.wrong,
            };
            *count += 1;
        }
        owners
    }

    /// Whether these are worse than those: fewer are right, or more are wrong.
    pub fn worse_than(&self, other: &Self) -> bool {
        self.right < other.right
            || self.wrong > other.wrong
            || self.inherited + self.right < other.inherited + other.right
    }
}

impl fmt::Display for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.right, self.total())?;
        for (count, what) in [(self.inherited, "inherited"), (self.unknown, "unknown"), (self.wrong, "wrong")]
        {
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

    fn row(cookie: u64, pid: Option<u32>, attribution: &str) -> Connection {
        let process = pid.map_or(serde_json::Value::Null, |pid| serde_json::json!({"pid": pid, "comm": "c"}));
        serde_json::from_value(serde_json::json!({
            "id": format!("{cookie:x}-1"), "protocol": "tcp", "direction": "none", "state": "closed",
            "local": {"address": "127.0.0.1", "port": 80}, "process": process, "attribution": attribution,
        }))
        .unwrap_or_else(|error| panic!("{error}"))
    }

    fn truth(role: &str, cookie: u64, pid: u32) -> Truth {
        Truth { role: role.to_owned(), pid, cookie: Some(cookie), ..Truth::default() }
    }

    #[test]
    fn both_sides_of_a_connection_are_judged_by_their_own_truth() {
        let of_number = |n| [truth("client", n, 1), truth("worker", 100 + n, 2)];
        let truths: Vec<_> = (1..=4).flat_map(of_number).collect();
        let rows = [
            row(1, Some(1), "exact"),
            row(2, Some(9), "exact"),
            row(3, None, "unknown"),
            row(101, Some(2), "exact"),
            row(102, Some(9), "inherited"),
        ];
        let clients = Owners::of("client", &truths, &rows);
        assert_eq!(clients, Owners { right: 1, inherited: 0, unknown: 2, wrong: 1 });
        let workers = Owners::of("worker", &truths, &rows);
        assert_eq!(workers, Owners { right: 1, inherited: 1, unknown: 2, wrong: 0 });
        assert_eq!(
            (clients.to_string(), workers.to_string()),
            ("1/4, 2 unknown, 1 wrong".to_owned(), "1/4, 1 inherited, 2 unknown".to_owned())
        );
        assert!(clients.worse_than(&workers) && !workers.worse_than(&clients));
    }
}
