//! Rows of a live view as data, for programs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    TopInterval, TopKey, TopTotals,
    group::{Groups, destination_key, protocol_of},
    measured::Measured,
};
use crate::{
    answer::{Answer, Header, Row},
    clean::CleanText,
    fact::Protocol,
    filter::Filter,
    monitor::{Connection, Endpoint, Rate, summary::BytesPerSecond},
    view::{Table, units},
};

/// What some connections come to in an interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct TopLoad {
    /// How many they are: those that were open at some time in the interval.
    pub connections: u64,
    /// Those that are open, or opening, at its end.
    pub open: u64,
    /// Those that began in it.
    pub opened: u64,
    /// Those that failed in it.
    pub failed: u64,
    /// Bytes of applications a second, of those of which it is known. Absent where it is of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes_per_second: Option<BytesPerSecond>,
    /// Those of which it is not known.
    pub unmeasured: u64,
    /// The mean of their smoothed round-trip times. Absent where none has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_rtt_seconds: Option<f64>,
    /// TCP segments sent again in it. Absent where it is not known of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
}

/// A process in an interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct TopProcess {
    /// Its number. Absent for all connections of which the process is not known, which are one row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<CleanText>,
    /// Its effective user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<CleanText>,
    /// The id of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<CleanText>,
    /// What its connections come to.
    #[serde(flatten)]
    pub load: TopLoad,
}

/// A destination in an interval: all outbound connections to one address and port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct TopDestination {
    /// The protocol.
    pub protocol: Protocol,
    /// The address and port.
    pub remote: Endpoint,
    /// What the connections come to.
    #[serde(flatten)]
    pub load: TopLoad,
}

/// A connection in an interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct TopConnection {
    /// It, as it was at the end of the interval.
    #[serde(flatten)]
    pub connection: Connection,
    /// Bytes of applications a second. Absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes_per_second: Option<BytesPerSecond>,
    /// TCP segments sent again in the interval. Absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_retransmits: Option<u64>,
}

/// The rows of one view of an interval, and the sums over all that match.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TopAnswer<'a, R> {
    /// Host, window and coverage.
    #[serde(flatten)]
    pub header: &'a Header,
    /// The sums over all connections.
    pub totals: TopTotals,
    /// The rows, in no particular order.
    pub rows: Vec<R>,
}

impl<R> fmt::Display for TopAnswer<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = &self.totals.load;
        write!(
            f,
            "{} of {}, {} opened, {} failed",
            units::counted(load.connections, "connection"),
            processes_in_words(self.totals.processes),
            units::count(load.opened),
            units::count(load.failed),
        )
    }
}

impl<R: Row> Answer for TopAnswer<'_, R> {
    type Row = R;

    fn header(&self) -> &Header {
        self.header
    }

    fn rows(&self) -> &[R] {
        &self.rows
    }

    /// On a screen they are a [`TopList`](super::TopList).
    fn tables(&self) -> Vec<Table> {
        Vec::new()
    }
}

impl TopInterval {
    /// The processes that have connections which match.
    pub fn processes(&self, filter: &Filter) -> TopAnswer<'_, TopProcess> {
        let groups = self.groups(filter, |one| Some(one.process));
        let rows = groups.all.iter().map(|group| {
            let process = group.process.as_deref();
            TopProcess {
                pid: process.map(|process| process.pid),
                comm: process.map(|process| process.comm.clone()),
                uid: process.and_then(|process| process.uid),
                unit: process.and_then(|process| process.unit.clone()),
                container: process.and_then(|process| process.container.clone()),
                load: group.load(),
            }
        });
        self.answer(filter, rows.collect())
    }

    /// The destinations of connections that match.
    pub fn destinations(&self, filter: &Filter) -> TopAnswer<'_, TopDestination> {
        let groups = self.groups(filter, |one| destination_key(&one.fact));
        let row = |key: &TopKey, load| match key {
            TopKey::Destination { remote, .. } => {
                protocol_of(key).map(|protocol| TopDestination { protocol, remote: (*remote).into(), load })
            }
            _ => None,
        };
        let rows = groups.all.iter().filter_map(|group| row(&group.key, group.load()));
        self.answer(filter, rows.collect())
    }

    /// The connections that match.
    pub fn connections(&self, filter: &Filter) -> TopAnswer<'_, TopConnection> {
        let rows = self.current(filter).map(|one| TopConnection {
            connection: Connection::new(&one.fact, &self.at, None),
            payload_bytes_per_second: one.rate,
            window_retransmits: one.retransmits,
        });
        self.answer(filter, rows.collect())
    }

    /// The interfaces, each with one row a direction; the filter is of no concern to them.
    pub fn interfaces(&self, filter: &Filter) -> TopAnswer<'_, Rate> {
        let rows = self.interfaces.iter().flat_map(|one| [one.incoming.clone(), one.outgoing.clone()]);
        self.answer(filter, rows.collect())
    }

    /// The sums over all connections that match.
    pub fn totals(&self, filter: &Filter) -> TopTotals {
        let mut sums = super::group::Sums::default();
        let mut processes = rustc_hash::FxHashSet::default();
        let mut last = None;
        for one in self.current(filter) {
            sums.add(one);
            let key = one.process;
            if last != Some(key) && key != TopKey::UnknownProcess {
                processes.insert(key);
            }
            last = Some(key);
        }
        TopTotals { load: sums.load(), processes: processes.len() as u64 }
    }

    fn answer<R>(&self, filter: &Filter, rows: Vec<R>) -> TopAnswer<'_, R> {
        TopAnswer { header: &self.header, totals: self.totals(filter), rows }
    }

    fn current(&self, filter: &Filter) -> impl Iterator<Item = &Measured> {
        self.connections.iter().filter(|one| !one.past && filter.matches(&one.fact))
    }

    fn groups(&self, filter: &Filter, key: impl Fn(&Measured) -> Option<TopKey>) -> Groups {
        let mut groups = Groups::default();
        for one in self.current(filter) {
            if let Some(key) = key(one) {
                groups.add(key, one);
            }
        }
        groups
    }
}

fn known<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

impl TopLoad {
    fn csv_fields(&self) -> impl Iterator<Item = String> {
        let rate = self.payload_bytes_per_second;
        [
            self.connections.to_string(),
            self.open.to_string(),
            self.opened.to_string(),
            self.failed.to_string(),
            known(rate.map(|rate| rate.sent)),
            known(rate.map(|rate| rate.received)),
            self.unmeasured.to_string(),
            known(self.mean_rtt_seconds),
            known(self.retransmits),
        ]
        .into_iter()
    }
}

impl Row for TopProcess {
    const TYPE: &'static str = "process";
    const CSV_COLUMNS: &'static [&'static str] = &[
        "pid",
        "comm",
        "uid",
        "unit",
        "container",
        "connections",
        "open",
        "opened",
        "failed",
        "payload_bytes_per_second_sent",
        "payload_bytes_per_second_received",
        "unmeasured",
        "mean_rtt_seconds",
        "retransmits",
    ];

    fn csv_fields(&self) -> Vec<String> {
        let own = [
            known(self.pid),
            known(self.comm.as_ref()),
            known(self.uid),
            known(self.unit.as_ref()),
            known(self.container.as_ref()),
        ];
        own.into_iter().chain(self.load.csv_fields()).collect()
    }
}

impl Row for TopDestination {
    const TYPE: &'static str = "destination";
    const CSV_COLUMNS: &'static [&'static str] = &[
        "protocol",
        "remote_address",
        "remote_port",
        "connections",
        "open",
        "opened",
        "failed",
        "payload_bytes_per_second_sent",
        "payload_bytes_per_second_received",
        "unmeasured",
        "mean_rtt_seconds",
        "retransmits",
    ];

    fn csv_fields(&self) -> Vec<String> {
        let own = [self.protocol.to_string(), self.remote.address.to_string(), self.remote.port.to_string()];
        own.into_iter().chain(self.load.csv_fields()).collect()
    }
}

impl Row for TopConnection {
    const TYPE: &'static str = "connection";
    const CSV_COLUMNS: &'static [&'static str] = &[
        "id",
        "protocol",
        "direction",
        "state",
        "local",
        "remote",
        "pid",
        "comm",
        "error",
        "payload_bytes_per_second_sent",
        "payload_bytes_per_second_received",
        "rtt_seconds",
        "window_retransmits",
    ];

    fn csv_fields(&self) -> Vec<String> {
        let Self { connection, payload_bytes_per_second: rate, window_retransmits } = self;
        let process = connection.process.as_ref();
        vec![
            connection.id.to_string(),
            connection.protocol.to_string(),
            connection.direction.to_string(),
            connection.state.to_string(),
            connection.local.to_string(),
            known(connection.remote.as_ref().map(crate::monitor::RemoteEndpoint::endpoint)),
            known(process.map(|process| process.pid)),
            known(process.map(|process| &process.comm)),
            known(connection.error.as_ref().map(|error| &error.name)),
            known(rate.map(|rate| rate.sent)),
            known(rate.map(|rate| rate.received)),
            known(connection.tcp.and_then(|tcp| tcp.rtt_seconds)),
            known(*window_retransmits),
        ]
    }
}

fn processes_in_words(count: u64) -> String {
    // Not a plural that `units::counted` can form.
    if count == 1 { "1 process".to_owned() } else { format!("{} processes", units::count(count)) }
}

impl TopInterval {
    /// What all connections that match come to, in a line.
    pub fn digest(&self, filter: &Filter) -> String {
        self.answer::<TopProcess>(filter, Vec::new()).to_string()
    }

    /// The time of day at its end, on the reader's clock.
    pub fn clock(&self) -> String {
        self.at.wall.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
    }
}
