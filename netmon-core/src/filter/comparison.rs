//! One comparison of a field with values.

use std::{fmt, net::IpAddr, sync::Arc};

use super::{
    Field, Relation,
    field::FLAGS,
    value::{NumberRange, Values},
};
use crate::{
    clean::CleanText,
    fact::{
        BootTime, ClosedBy, ConnectionDirection, ConnectionFact, Direction, DropFact, Process, Protocol,
        Thread,
    },
};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Comparison {
    pub(super) field: Field,
    pub(super) relation: Relation,
    pub(super) values: Values,
}

impl Comparison {
    pub(super) fn holds(&self, fact: &ConnectionFact) -> bool {
        let relation = self.relation;
        match &self.values {
            Values::Numbers(ranges) => compare_numbers(relation, &numbers(self.field, fact), ranges),
            Values::Texts(patterns) => compare(relation, &texts_of_connection(self.field, fact), |text| {
                patterns.iter().any(|p| p.matches(text))
            }),
            Values::Users(users) => {
                let uid = fact.process.as_ref().and_then(|process| process.uid).map(u64::from);
                compare(relation, &[uid], |uid| users.iter().any(|user| user.range.contains(uid)))
            }
            Values::Names(names) => {
                compare(relation, &[name(self.field, fact)], |name| names.contains(&name))
            }
            Values::Addresses(patterns) => {
                let address = address(self.field, fact);
                compare(relation, &[address], |address| patterns.iter().any(|p| p.contains(address)))
            }
            Values::Errors(patterns) => {
                compare(relation, &[fact.error], |error| patterns.iter().any(|p| p.matches(error, relation)))
            }
            Values::Ids(ids) => compare(relation, &[Some(fact.id())], |id| ids.contains(&id)),
        }
    }

    /// Whether drops are told apart by what it asks for.
    pub(super) fn is_of_drops(&self) -> bool {
        matches!(
            self.field,
            Field::Pid
                | Field::Process
                | Field::Comm
                | Field::Exe
                | Field::Cmdline
                | Field::User
                | Field::Cgroup
                | Field::Container
                | Field::Unit
                | Field::Netns
                | Field::Protocol
                | Field::Direction
                | Field::Attribution
                | Field::LocalPort
                | Field::Port
        )
    }

    pub(super) fn holds_for_drop(&self, drop: &DropFact) -> bool {
        let relation = self.relation;
        let process = drop.process.as_deref();
        match &self.values {
            Values::Numbers(ranges) => {
                let value = match self.field {
                    Field::Pid => process.map(|process| process.pid.into()),
                    Field::Netns => (drop.netns != 0).then(|| drop.netns.into()),
                    Field::LocalPort | Field::Port => drop.local_port.map(u64::from),
                    _ => None,
                };
                compare_numbers(relation, &[value, None], ranges)
            }
            Values::Texts(patterns) => compare(relation, &texts(self.field, process, None, None), |text| {
                patterns.iter().any(|p| p.matches(text))
            }),
            Values::Users(users) => {
                let uid = process.and_then(|process| process.uid).map(u64::from);
                compare(relation, &[uid], |uid| users.iter().any(|user| user.range.contains(uid)))
            }
            Values::Names(names) => {
                let name = match self.field {
                    Field::Protocol => drop.protocol.map(Protocol::name),
                    Field::Direction => Some(match drop.direction {
                        Direction::Incoming => ConnectionDirection::Inbound.name(),
                        Direction::Outgoing => ConnectionDirection::Outbound.name(),
                    }),
                    Field::Attribution => Some(drop.attribution.name()),
                    _ => None,
                };
                compare(relation, &[name], |name| names.contains(&name))
            }
            Values::Addresses(_) | Values::Errors(_) | Values::Ids(_) => false,
        }
    }
}

/// Whether one of the values that are known is wanted, or for `!=` whether some are known and none is wanted.
fn compare<T: Copy>(relation: Relation, values: &[Option<T>], is_wanted: impl Fn(T) -> bool) -> bool {
    let mut known = values.iter().flatten().copied();
    if relation == Relation::NotEqual {
        return values.iter().any(Option::is_some) && !known.any(is_wanted);
    }
    known.any(is_wanted)
}

fn compare_numbers(relation: Relation, values: &[Option<u64>], ranges: &[NumberRange]) -> bool {
    // Where there is an order to compare with, the range is one number.
    let limit = |is_wanted: fn(u64, u64) -> bool| {
        compare(relation, values, |value| ranges.iter().any(|range| is_wanted(value, range.low)))
    };
    match relation {
        Relation::Less => limit(|value, limit| value < limit),
        Relation::LessOrEqual => limit(|value, limit| value <= limit),
        Relation::Greater => limit(|value, limit| value > limit),
        Relation::GreaterOrEqual => limit(|value, limit| value >= limit),
        Relation::Equal | Relation::NotEqual | Relation::In | Relation::Contains => {
            compare(relation, values, |value| ranges.iter().any(|range| range.contains(value)))
        }
    }
}

/// The values of a field of numbers, sizes (in bytes) or durations (in nanoseconds).
fn numbers(field: Field, fact: &ConnectionFact) -> [Option<u64>; 2] {
    let local_port = Some(u64::from(fact.local.port()));
    let remote_port = fact.remote.map(|remote| u64::from(remote.port()));
    let traffic = fact.traffic.as_ref();
    let only = |value| [value, None];
    match field {
        Field::Pid => {
            let pid = |process: &Option<Arc<Process>>| process.as_ref().map(|process| process.pid.into());
            [pid(&fact.process), pid(&fact.last_user)]
        }
        Field::Netns => only((fact.netns != 0).then(|| fact.netns.into())),
        Field::LocalPort => only(local_port),
        Field::RemotePort => only(remote_port),
        Field::Port => [local_port, remote_port],
        Field::Bytes => only(traffic.map(|t| t.payload_bytes_sent.saturating_add(t.payload_bytes_received))),
        Field::BytesSent => only(traffic.map(|t| t.payload_bytes_sent)),
        Field::BytesReceived => only(traffic.map(|t| t.payload_bytes_received)),
        Field::Packets => only(traffic.map(|t| t.packets_sent.saturating_add(t.packets_received))),
        Field::PacketsSent => only(traffic.map(|t| t.packets_sent)),
        Field::PacketsReceived => only(traffic.map(|t| t.packets_received)),
        Field::Rtt => only(fact.tcp.and_then(|tcp| tcp.rtt_us).map(|us| u64::from(us) * 1000)),
        Field::Retransmits => only(fact.tcp.map(|tcp| tcp.retransmits.into())),
        Field::Latency => only(match (fact.connect_latency(), fact.opened, fact.established) {
            (Some(_), Some(opened), Some(established)) => Some(nanoseconds(opened, established)),
            _ => None,
        }),
        Field::Duration => only(match (fact.opened, fact.closed) {
            (Some(opened), Some(closed)) => Some(nanoseconds(opened, closed)),
            _ => None,
        }),
        _ => [None, None],
    }
}

fn nanoseconds(from: BootTime, to: BootTime) -> u64 {
    to.ns().saturating_sub(from.ns())
}

fn texts_of_connection(field: Field, fact: &ConnectionFact) -> [Option<&str>; 4] {
    texts(field, fact.process.as_deref(), fact.thread.as_deref(), fact.last_user.as_deref())
}

/// The values of a field of text. What is empty is not known.
fn texts<'a>(
    field: Field,
    process: Option<&'a Process>,
    thread: Option<&'a Thread>,
    last_user: Option<&'a Process>,
) -> [Option<&'a str>; 4] {
    let of_process = |text: fn(&Process) -> Option<&CleanText>| {
        [known(process.and_then(text).map(CleanText::as_str)), None, None, None]
    };
    match field {
        Field::Process => [
            known(process.map(|process| process.comm.as_str())),
            known(thread.map(|thread| thread.comm.as_str())),
            known(process.and_then(|process| process.exe.as_ref()).map(|exe| base_name(exe.as_str()))),
            known(last_user.map(|process| process.comm.as_str())),
        ],
        Field::Comm => of_process(|process| Some(&process.comm)),
        Field::Exe => of_process(|process| process.exe.as_ref()),
        Field::Cmdline => of_process(|process| process.cmdline.as_ref()),
        Field::Cgroup => of_process(|process| process.cgroup.as_ref()),
        Field::Container => of_process(|process| process.container.as_ref()),
        Field::Unit => of_process(|process| process.unit.as_ref()),
        _ => [None; 4],
    }
}

fn known(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// The name of a program file, also of one that was replaced since.
fn base_name(exe: &str) -> &str {
    let path = exe.strip_suffix(" (deleted)").unwrap_or(exe);
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The value of a field that has one of some names.
fn name(field: Field, fact: &ConnectionFact) -> Option<&'static str> {
    match field {
        Field::Protocol => Some(fact.protocol.name()),
        Field::Direction => Some(fact.direction.name()),
        Field::State => Some(fact.state.name()),
        Field::Attribution => Some(fact.attribution.name()),
        Field::ClosedBy => fact.closed_by.map(ClosedBy::name),
        Field::TcpState => fact.tcp.map(|tcp| tcp.state.name()),
        _ => None,
    }
}

fn address(field: Field, fact: &ConnectionFact) -> Option<IpAddr> {
    match field {
        Field::Local => Some(fact.local.ip()),
        Field::Remote => fact.remote.map(|remote| remote.ip()),
        _ => None,
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Relation::Equal, Values::Names(names)) = (self.relation, &self.values) {
            let flag = FLAGS.iter().find(|(name, field)| *field == self.field && names == &[*name]);
            if let Some((name, _)) = flag {
                return f.write_str(name);
            }
        }
        let Self { field, relation, values } = self;
        let values = values.written(field.kind());
        match values.as_slice() {
            [value] => write!(f, "{} {relation} {value}", field.name()),
            values => write!(f, "{} {relation} ({})", field.name(), values.join(", ")),
        }
    }
}
