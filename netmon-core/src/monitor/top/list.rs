//! What one view of an interval shows: filtered, summed up, sorted, as cells.

use std::{cmp::Ordering, collections::HashSet, net::SocketAddr, time::Duration};

use super::{
    TopHistory, TopInterface, TopInterval, TopKey, TopLoad,
    group::{Group, Groups, destination_key, protocol_of},
    measured::Measured,
};
use crate::{
    clean::CleanText,
    fact::{BootTime, ConnectionDirection, ConnectionFact, ConnectionState, Protocol},
    filter::Filter,
    monitor::summary::BytesPerSecond,
    view::{Cell, Column, Tone, sparkline, units},
};

/// What the lines are about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum TopView {
    /// Processes, each of which can be expanded to its connections
    #[default]
    Processes,
    /// Connections
    Connections,
    /// Destinations: all outbound connections to one address and port
    Destinations,
    /// Interfaces
    Interfaces,
}

impl TopView {
    /// All of them, in the order of their keys on the keyboard.
    pub const ALL: [Self; 4] = [Self::Processes, Self::Connections, Self::Destinations, Self::Interfaces];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Connections => "connections",
            Self::Destinations => "destinations",
            Self::Interfaces => "interfaces",
        }
    }

    /// Its columns. Where there is no room, optional ones are left out from the right.
    pub fn columns(self) -> &'static [TopColumn] {
        use TopColumn::{
            Drops, Duration, Error, Errors, Failed, Interface, Local, New, Open, PacketsReceived,
            PacketsSent, Pid, Process, Protocol, Received, Recent, Remote, Retransmits, Rtt, Sent, State,
            Traffic, Unit, Way,
        };
        match self {
            Self::Processes => {
                &[Process, Pid, Received, Sent, Open, New, Failed, Rtt, Retransmits, Traffic, Recent, Unit]
            }
            Self::Connections => &[
                Process,
                Remote,
                Received,
                Sent,
                State,
                Pid,
                Rtt,
                Protocol,
                Way,
                Error,
                Retransmits,
                Duration,
                Traffic,
                Recent,
                Local,
            ],
            Self::Destinations => {
                &[Remote, Protocol, Received, Sent, Open, New, Failed, Rtt, Retransmits, Traffic, Recent]
            }
            Self::Interfaces => &[
                Interface,
                Received,
                Sent,
                State,
                PacketsReceived,
                PacketsSent,
                Errors,
                Drops,
                Traffic,
                Recent,
            ],
        }
    }
}

/// A column of a live view, by which it can be sorted too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TopColumn {
    /// The name of the process.
    Process,
    /// Its number.
    Pid,
    /// The address and port of the other side.
    Remote,
    /// The address and port of this side.
    Local,
    /// The protocol.
    Protocol,
    /// Who began it.
    Way,
    /// How far a connection is; whether an interface is up.
    State,
    /// How many connections are open.
    Open,
    /// How many began.
    New,
    /// How many failed.
    Failed,
    /// Bytes received a second.
    Received,
    /// Bytes sent a second.
    Sent,
    /// Bytes both ways a second.
    Traffic,
    /// The round-trip time, the mean of several connections.
    Rtt,
    /// Segments sent again in the interval.
    Retransmits,
    /// Why it failed or was broken off.
    Error,
    /// How long it has lasted.
    Duration,
    /// The systemd unit.
    Unit,
    /// The name of the interface.
    Interface,
    /// Packets received a second.
    PacketsReceived,
    /// Packets sent a second.
    PacketsSent,
    /// Packets in error.
    Errors,
    /// Packets dropped.
    Drops,
    /// The last traffic, as a line of blocks.
    Recent,
}

/// How many blocks a line of recent traffic has.
const RECENT: usize = 20;

impl TopColumn {
    /// Its heading, and whether it may be left out.
    pub fn column(self) -> Column {
        match self {
            Self::Process => Column::text("PROCESS"),
            Self::Pid => Column::number("PID").optional(),
            Self::Remote => Column::text("REMOTE"),
            Self::Local => Column::text("LOCAL").optional(),
            Self::Protocol => Column::text("PROTO").optional(),
            Self::Way => Column::text("DIR").optional(),
            Self::State => Column::text("STATE").optional(),
            Self::Open => Column::number("OPEN").optional(),
            Self::New => Column::number("NEW").optional(),
            Self::Failed => Column::number("FAILED").optional(),
            Self::Received => Column::number("RECV/S"),
            Self::Sent => Column::number("SENT/S"),
            Self::Traffic => Column::number("BYTES/S").optional(),
            Self::Rtt => Column::number("RTT").optional(),
            Self::Retransmits => Column::number("RETRANS").optional(),
            Self::Error => Column::text("ERROR").optional(),
            Self::Duration => Column::number("DURATION").optional(),
            Self::Unit => Column::text("UNIT").optional(),
            Self::Interface => Column::text("INTERFACE"),
            Self::PacketsReceived => Column::number("PKTS IN/S").optional(),
            Self::PacketsSent => Column::number("PKTS OUT/S").optional(),
            Self::Errors => Column::number("ERRORS").optional(),
            Self::Drops => Column::number("DROPS").optional(),
            Self::Recent => Column::text("RECENT").optional(),
        }
    }

    /// How wide it is, so that columns stand still while their content changes; one that has more takes more.
    pub fn usual_width(self) -> usize {
        match self {
            Self::Process => 15,
            Self::Pid => 7,
            Self::Remote => 20,
            Self::Local => 18,
            Self::State | Self::Traffic | Self::Rtt | Self::Received | Self::Sent => 7,
            Self::Open | Self::New => 5,
            Self::Error => 12,
            Self::Duration => 11,
            Self::Unit => 16,
            Self::Recent => RECENT,
            _ => self.column().title.len(),
        }
    }

    /// Whether lines can be sorted by it.
    pub fn sorts(self) -> bool {
        self != Self::Recent
    }
}

/// What a view shows, and in what order.
#[derive(Debug, Clone)]
pub struct TopQuery<'a> {
    /// What the lines are about.
    pub view: TopView,
    /// Which connections.
    pub filter: &'a Filter,
    /// By what they are sorted: numbers the largest first, text from A to Z. What is not known stands last.
    pub sort: TopColumn,
    /// The other way round.
    pub reverse: bool,
    /// The processes of which the connections are shown.
    pub expanded: &'a HashSet<TopKey>,
}

/// The lines of a view, in order.
#[derive(Debug)]
pub struct TopList {
    view: TopView,
    groups: Vec<Group>,
    lines: Vec<(TopKey, Place)>,
    now_ns: u64,
}

/// Where the content of a line is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Group(usize),
    Connection(usize),
    /// Below its process.
    Child(usize),
    Interface(usize),
}

/// A line of a view.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TopLine {
    /// What it is about.
    pub key: TopKey,
    /// One a column of the view.
    pub cells: Vec<Cell>,
    /// Whether it stands below the process that it belongs to.
    pub child: bool,
    /// How long ago it ended. `None` for what goes on.
    pub ended: Option<Duration>,
}

/// What a line is about.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    Group(&'a Group),
    Connection(&'a Measured),
    Interface(&'a TopInterface),
}

impl TopInterval {
    /// The lines of a view. About 1 us for each connection.
    pub fn list(&self, query: &TopQuery<'_>) -> TopList {
        let matching: Vec<usize> = match query.view {
            TopView::Interfaces => Vec::new(),
            _ => (0..self.connections.len())
                .filter(|&index| query.filter.matches(&self.connections[index].fact))
                .collect(),
        };
        let mut groups = Groups::default();
        for &index in &matching {
            let one = &self.connections[index];
            let key = match query.view {
                TopView::Processes => Some(one.process),
                TopView::Destinations => destination_key(&one.fact),
                _ => None,
            };
            if let Some(key) = key {
                groups.add(key, one);
            }
        }
        let mut list =
            TopList { view: query.view, groups: groups.all, lines: Vec::new(), now_ns: self.at.boot_ns };
        list.lines = match query.view {
            TopView::Connections => matching
                .iter()
                .map(|&at| (connection_key(&self.connections[at]), Place::Connection(at)))
                .collect(),
            TopView::Interfaces => (0..self.interfaces.len())
                .map(|at| (TopKey::Interface(self.interfaces[at].fact.index), Place::Interface(at)))
                .collect(),
            _ => list.groups.iter().enumerate().map(|(at, group)| (group.key, Place::Group(at))).collect(),
        };
        let mut lines = std::mem::take(&mut list.lines);
        list.sort(self, &mut lines, query);
        list.lines = if query.view == TopView::Processes && !query.expanded.is_empty() {
            list.expand(self, lines, &matching, query)
        } else {
            lines
        };
        list
    }
}

fn connection_key(one: &Measured) -> TopKey {
    TopKey::Connection(one.fact.id())
}

impl TopList {
    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What a line is about.
    pub fn key(&self, line: usize) -> Option<TopKey> {
        self.lines.get(line).map(|(key, _)| *key)
    }

    /// Which line is about this.
    pub fn position(&self, key: &TopKey) -> Option<usize> {
        self.lines.iter().position(|(known, _)| known == key)
    }

    /// A line, of the interval that the list was made of.
    pub fn line(&self, interval: &TopInterval, history: &TopHistory, line: usize) -> Option<TopLine> {
        let (key, place) = *self.lines.get(line)?;
        let item = self.item(interval, place)?;
        let child = matches!(place, Place::Child(_));
        let cell = |column: &TopColumn| match column {
            TopColumn::Recent => recent(history, &key),
            column => cell(*column, item, child, self.now_ns),
        };
        Some(TopLine {
            key,
            cells: self.view.columns().iter().map(cell).collect(),
            child,
            ended: self.ended(interval, item),
        })
    }

    fn item<'a>(&'a self, interval: &'a TopInterval, place: Place) -> Option<Item<'a>> {
        match place {
            Place::Group(at) => self.groups.get(at).map(Item::Group),
            Place::Connection(at) | Place::Child(at) => interval.connections.get(at).map(Item::Connection),
            Place::Interface(at) => interval.interfaces.get(at).map(Item::Interface),
        }
    }

    fn ended(&self, interval: &TopInterval, item: Item<'_>) -> Option<Duration> {
        let ago = |ns: u64| Duration::from_nanos(self.now_ns.saturating_sub(ns));
        match item {
            Item::Connection(one) if one.ended || one.past => Some(ago(one.ended_ns())),
            Item::Group(group) if group.is_past() => {
                let of_group = |one: &&Measured| match group.key {
                    TopKey::Destination { .. } => destination_key(&one.fact) == Some(group.key),
                    key => one.process == key,
                };
                interval.connections.iter().filter(of_group).map(Measured::ended_ns).max().map(ago)
            }
            _ => None,
        }
    }

    fn sort(&self, interval: &TopInterval, lines: &mut Vec<(TopKey, Place)>, query: &TopQuery<'_>) {
        let mut keyed: Vec<(Value<'_>, (TopKey, Place))> = lines
            .iter()
            .filter_map(|line| Some((value(query.sort, self.item(interval, line.1)?, self.now_ns), *line)))
            .collect();
        keyed.sort_by(|(one, (one_key, _)), (other, (other_key, _))| {
            one.compare(other, query.reverse).then_with(|| one_key.cmp(other_key))
        });
        let sorted = keyed.into_iter().map(|(_, line)| line).collect();
        *lines = sorted;
    }

    /// Puts the connections of expanded processes below them.
    fn expand(
        &self,
        interval: &TopInterval,
        lines: Vec<(TopKey, Place)>,
        matching: &[usize],
        query: &TopQuery<'_>,
    ) -> Vec<(TopKey, Place)> {
        let mut all = Vec::with_capacity(lines.len());
        for line in lines {
            all.push(line);
            if query.expanded.contains(&line.0) {
                let own = matching.iter().filter(|&&at| interval.connections[at].process == line.0);
                let mut children: Vec<(TopKey, Place)> =
                    own.map(|&at| (connection_key(&interval.connections[at]), Place::Child(at))).collect();
                self.sort(interval, &mut children, query);
                all.append(&mut children);
            }
        }
        all
    }
}

fn recent(history: &TopHistory, key: &TopKey) -> Cell {
    let past = history.past_of(key);
    if past.received.is_empty() {
        return Cell::default();
    }
    let both: Vec<f64> =
        past.received.iter().zip(&past.sent).map(|(received, sent)| received + sent).collect();
    sparkline(&both, RECENT).into()
}

/// What lines are sorted by. Of one column all are of the same variant, or not known.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Number(f64),
    Text(&'a str),
    Address(SocketAddr),
    Unknown,
}

impl Value<'_> {
    fn compare(&self, other: &Self, reverse: bool) -> Ordering {
        let order = match (self, other) {
            // The largest first.
            (Self::Number(one), Self::Number(other)) => other.total_cmp(one),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Address(one), Self::Address(other)) => one.cmp(other),
            (Self::Unknown, Self::Unknown) => Ordering::Equal,
            (Self::Unknown, _) => return Ordering::Greater,
            (_, Self::Unknown) => return Ordering::Less,
            _ => Ordering::Equal,
        };
        if reverse { order.reverse() } else { order }
    }
}

fn both_ways(rate: Option<BytesPerSecond>) -> Option<f64> {
    rate.map(|rate| rate.sent + rate.received)
}

/// What an item comes to. `None` for interfaces.
fn load(item: Item<'_>) -> Option<TopLoad> {
    match item {
        Item::Group(group) => Some(group.load()),
        Item::Connection(one) => {
            let mut sums = super::group::Sums::default();
            sums.add(one);
            Some(sums.load())
        }
        Item::Interface(_) => None,
    }
}

/// Bytes a second of anything.
fn rate(item: Item<'_>) -> Option<BytesPerSecond> {
    match item {
        Item::Interface(one) => Some(BytesPerSecond {
            sent: one.outgoing.bytes_per_second,
            received: one.incoming.bytes_per_second,
        }),
        Item::Connection(one) => one.rate,
        Item::Group(group) => group.load().payload_bytes_per_second,
    }
}

fn value<'a>(column: TopColumn, item: Item<'a>, now_ns: u64) -> Value<'a> {
    let number = |value: Option<f64>| value.map_or(Value::Unknown, Value::Number);
    let text = |value: Option<&'a str>| value.map_or(Value::Unknown, Value::Text);
    let count = |of: fn(&TopLoad) -> u64| number(load(item).map(|load| of(&load) as f64));
    match column {
        TopColumn::Process => text(comm(item)),
        TopColumn::Pid => number(pid(item).map(f64::from)),
        TopColumn::Remote => remote(item).map_or(Value::Unknown, Value::Address),
        TopColumn::Local => fact(item).map_or(Value::Unknown, |fact| Value::Address(fact.local)),
        TopColumn::Protocol => text(protocol(item)),
        TopColumn::Way => text(way(item)),
        TopColumn::State => text(state(item).map(|(name, _)| name)),
        TopColumn::Open => count(|load| load.open),
        TopColumn::New => count(|load| load.opened),
        TopColumn::Failed => count(|load| load.failed),
        TopColumn::Received => number(rate(item).map(|rate| rate.received)),
        TopColumn::Sent => number(rate(item).map(|rate| rate.sent)),
        TopColumn::Traffic => number(both_ways(rate(item))),
        TopColumn::Rtt => number(load(item).and_then(|load| load.mean_rtt_seconds)),
        TopColumn::Retransmits => {
            number(load(item).and_then(|load| load.retransmits).map(|count| count as f64))
        }
        TopColumn::Error => match fact(item).and_then(|fact| fact.error) {
            // By number, as names are made when they are shown.
            Some(error) => Value::Number(f64::from(error.errno.unwrap_or_default())),
            None => Value::Unknown,
        },
        TopColumn::Duration => number(lasted(item, now_ns).map(|lasted| lasted.as_secs_f64())),
        TopColumn::Unit => {
            text(process(item).and_then(|process| process.unit.as_ref()).map(CleanText::as_str))
        }
        TopColumn::Interface => match item {
            Item::Interface(one) => Value::Text(one.fact.name.as_str()),
            _ => Value::Unknown,
        },
        TopColumn::PacketsReceived => number(interface(item).map(|one| one.incoming.packets_per_second)),
        TopColumn::PacketsSent => number(interface(item).map(|one| one.outgoing.packets_per_second)),
        TopColumn::Errors => number(interface(item).map(|one| errors(one) as f64)),
        TopColumn::Drops => number(interface(item).map(|one| drops(one) as f64)),
        TopColumn::Recent => Value::Unknown,
    }
}

fn cell(column: TopColumn, item: Item<'_>, child: bool, now_ns: u64) -> Cell {
    let words = |text: Option<&str>| Cell::known(text.map(str::to_owned));
    let count = |of: fn(&TopLoad) -> u64| Cell::known(load(item).map(|load| units::count(of(&load))));
    let bytes = |value: Option<f64>| Cell::known(value.map(units::bytes));
    let trouble = |value: Option<u64>, tone: Tone| match value {
        None | Some(0) => Cell::known(value.map(units::count)),
        Some(value) => Cell::toned(units::count(value), tone),
    };
    match column {
        // Its process stands above.
        TopColumn::Process if child => child_cell(item),
        TopColumn::Process => Cell::known(comm(item).map(str::to_owned)),
        TopColumn::Pid if child => Cell::default(),
        TopColumn::Pid => Cell::known(pid(item).map(|pid| pid.to_string())),
        TopColumn::Remote => Cell::known(remote(item).map(|remote| remote.to_string())),
        TopColumn::Local => Cell::known(fact(item).map(|fact| fact.local.to_string())),
        TopColumn::Protocol => words(protocol(item)),
        TopColumn::Way => words(way(item)),
        TopColumn::State if interface(item).is_some() => interface(item).map_or_else(Cell::default, |one| {
            let tone = if one.fact.state.is_usable() { Tone::Good } else { Tone::Dim };
            Cell::toned(one.fact.state.to_string(), tone)
        }),
        TopColumn::State => {
            state(item).map_or_else(|| Cell::known(None), |(name, tone)| Cell::toned(name, tone))
        }
        TopColumn::Open => count(|load| load.open),
        TopColumn::New => count(|load| load.opened),
        TopColumn::Failed => trouble(load(item).map(|load| load.failed), Tone::Bad),
        TopColumn::Received => bytes(rate(item).map(|rate| rate.received)),
        TopColumn::Sent => bytes(rate(item).map(|rate| rate.sent)),
        TopColumn::Traffic => bytes(both_ways(rate(item))),
        TopColumn::Rtt => {
            let rtt = load(item).and_then(|load| load.mean_rtt_seconds);
            Cell::known(rtt.and_then(|rtt| Duration::try_from_secs_f64(rtt).ok()).map(units::short))
        }
        TopColumn::Retransmits => trouble(load(item).and_then(|load| load.retransmits), Tone::Warning),
        TopColumn::Error => fact(item)
            .and_then(|fact| fact.error)
            .map_or_else(|| Cell::known(None), |error| Cell::toned(error.name().as_str(), Tone::Bad)),
        TopColumn::Duration => Cell::known(lasted(item, now_ns).map(units::short)),
        TopColumn::Unit => {
            words(process(item).and_then(|process| process.unit.as_ref()).map(CleanText::as_str))
        }
        TopColumn::Interface => words(interface(item).map(|one| one.fact.name.as_str())),
        TopColumn::PacketsReceived => {
            Cell::known(interface(item).map(|one| units::rate(one.incoming.packets_per_second)))
        }
        TopColumn::PacketsSent => {
            Cell::known(interface(item).map(|one| units::rate(one.outgoing.packets_per_second)))
        }
        TopColumn::Errors => trouble(interface(item).map(errors), Tone::Bad),
        TopColumn::Drops => trouble(interface(item).map(drops), Tone::Warning),
        TopColumn::Recent => Cell::default(),
    }
}

/// A connection below its process: where to, and how far it is.
fn child_cell(item: Item<'_>) -> Cell {
    let Some(fact) = fact(item) else { return Cell::default() };
    let (name, tone) = (fact.state.name(), tone_of(fact.state));
    let way = match fact.direction {
        ConnectionDirection::Inbound => "<-",
        ConnectionDirection::Outbound => "->",
        ConnectionDirection::None => "--",
    };
    let remote = fact.remote.map_or_else(|| fact.local.to_string(), |remote| remote.to_string());
    let error = fact.error.map(|error| format!(" {}", error.name())).unwrap_or_default();
    Cell::toned(format!("{} {way} {remote} {name}{error}", fact.protocol), tone)
}

fn tone_of(state: ConnectionState) -> Tone {
    match state {
        ConnectionState::Failed => Tone::Bad,
        ConnectionState::Opening => Tone::Warning,
        _ => Tone::Plain,
    }
}

fn process(item: Item<'_>) -> Option<&crate::fact::Process> {
    match item {
        Item::Group(group) if !matches!(group.key, TopKey::Destination { .. }) => group.process.as_deref(),
        Item::Connection(one) => one.fact.process.as_deref(),
        _ => None,
    }
}

fn comm(item: Item<'_>) -> Option<&str> {
    process(item).map(|process| process.comm.as_str())
}

fn pid(item: Item<'_>) -> Option<u32> {
    process(item).map(|process| process.pid)
}

fn fact(item: Item<'_>) -> Option<&ConnectionFact> {
    match item {
        Item::Connection(one) => Some(&one.fact),
        _ => None,
    }
}

fn interface(item: Item<'_>) -> Option<&TopInterface> {
    match item {
        Item::Interface(one) => Some(one),
        _ => None,
    }
}

fn remote(item: Item<'_>) -> Option<SocketAddr> {
    match item {
        Item::Connection(one) => one.fact.remote,
        Item::Group(Group { key: TopKey::Destination { remote, .. }, .. }) => Some(*remote),
        _ => None,
    }
}

fn protocol(item: Item<'_>) -> Option<&'static str> {
    match item {
        Item::Connection(one) => Some(one.fact.protocol.name()),
        Item::Group(group) => protocol_of(&group.key).map(Protocol::name),
        Item::Interface(_) => None,
    }
}

fn way(item: Item<'_>) -> Option<&'static str> {
    match fact(item)?.direction {
        ConnectionDirection::Inbound => Some("in"),
        ConnectionDirection::Outbound => Some("out"),
        ConnectionDirection::None => None,
    }
}

fn state(item: Item<'_>) -> Option<(&'static str, Tone)> {
    match item {
        Item::Connection(one) => Some((one.fact.state.name(), tone_of(one.fact.state))),
        Item::Interface(one) => Some((one.fact.state.name(), Tone::Plain)),
        Item::Group(_) => None,
    }
}

fn lasted(item: Item<'_>, now_ns: u64) -> Option<Duration> {
    let fact = fact(item)?;
    let until = match fact.closed {
        Some(closed) => closed.ns(),
        None if fact.is_over() => return None,
        None => now_ns,
    };
    fact.opened.map(|opened| Duration::from_nanos(until.saturating_sub(BootTime::ns(opened))))
}

fn errors(one: &TopInterface) -> u64 {
    one.incoming.errors.saturating_add(one.outgoing.errors)
}

fn drops(one: &TopInterface) -> u64 {
    one.incoming.drops.saturating_add(one.outgoing.drops)
}
