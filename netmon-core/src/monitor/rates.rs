//! Packet and byte rates: differences of the kernel's counters over a window.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    answer::{Answer, Coverage, Header, MissingHook, Row, Window, add_new},
    clean::CleanText,
    control::Control,
    error::{Error, Result},
    fact::{ByProtocol, Direction, Hook, InterfaceFact, InterfaceSnapshot, Layer, TrafficCounters},
    request::{LONGEST_WINDOW, RateRequest, check_window},
    source::{Counting, InterfaceRef, Source},
    view::{Cell, Column, Table, Tone, units},
};

/// The rates of one or more interfaces over a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct RatesAnswer {
    /// Host, window and coverage.
    #[serde(flatten)]
    pub header: Header,
    /// How the interfaces were chosen.
    pub selection: Selection,
    /// One row for each interface and direction, in the order asked for, incoming before outgoing. An interface that was
    /// gone at the end of the window has none, and a warning in `coverage`.
    pub rates: Vec<Rate>,
}

/// How the interfaces of an answer were chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Selection {
    /// Their names when the measurement began.
    pub interfaces: Vec<CleanText>,
    /// By what.
    pub by: SelectedBy,
}

/// By what an interface was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SelectedBy {
    /// The caller named it.
    Request,
    /// The default route leaves by it.
    DefaultRoute,
    /// There is no default route; of those that are up it has counted the most packets since it was made.
    Busiest,
}

impl fmt::Display for SelectedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Request => "as asked",
            Self::DefaultRoute => "the default route's interface",
            Self::Busiest => "the busiest interface that is up, as there is no default route",
        })
    }
}

/// The traffic of one interface in one direction over a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Rate {
    /// The interface's name at the end of the window.
    pub interface: CleanText,
    /// Its index.
    pub index: u32,
    /// Which way.
    pub direction: Direction,
    /// Packets by the kernel's own counter (`ip -s link`); what one is, `layer` says.
    pub packets: u64,
    /// Frames on the wire, as BPF counted them; absent where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire_packets: Option<u64>,
    /// Bytes by the kernel's own counter: frames without their check sequence on most drivers.
    pub interface_bytes: u64,
    /// Bytes on the wire, as BPF counted them: with the headers that segmentation repeats; absent where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire_bytes: Option<u64>,
    /// `packets` a second.
    pub packets_per_second: f64,
    /// `wire_packets` a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire_packets_per_second: Option<f64>,
    /// `interface_bytes` a second.
    pub bytes_per_second: f64,
    /// What the driver counts as a packet: frames on the wire, or socket buffers that may stand for many.
    pub layer: Layer,
    /// Packets in error, by the kernel's own counter.
    pub errors: u64,
    /// Packets dropped or missed, by the kernel's own counter.
    pub drops: u64,
    /// The packets by network layer and transport, as BPF counted them; absent where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_protocol: Option<ByProtocol<ProtocolRate>>,
    /// What the hook behind `by_protocol` saw in all; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookTotals>,
    /// What happened to the interface in the window that a reader of these numbers should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<InterfaceChange>,
}

/// The traffic of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ProtocolRate {
    /// What was counted in the window.
    #[serde(flatten)]
    pub counted: TrafficCounters,
    /// `packets` a second.
    pub packets_per_second: f64,
    /// `interface_bytes` a second.
    pub bytes_per_second: f64,
}

/// What a hook saw in all, beside the kernel's own counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct HookTotals {
    /// The hook.
    pub hook: Hook,
    /// What it counts as a packet.
    pub layer: Layer,
    /// The sum of all classes.
    #[serde(flatten)]
    pub total: TrafficCounters,
    /// The sum less the kernel's own counter: 0 where both count the same at rest. Negative where packets were merged
    /// (GRO) or dropped before the hook, positive where packets that it saw were dropped later; and a few either way on a
    /// busy interface, since the two are not read at the same instant.
    pub packets_difference: i64,
}

/// Something that happened to an interface in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", tag = "change")]
#[non_exhaustive]
pub enum InterfaceChange {
    /// Its state at the end is another than at the start.
    State {
        /// At the start.
        from: crate::fact::InterfaceState,
        /// At the end.
        to: crate::fact::InterfaceState,
    },
    /// The carrier went away and came back, perhaps several times, between two samples that look alike.
    CarrierLost {
        /// How often it changed.
        changes: u32,
    },
    /// It was renamed.
    Renamed {
        /// Its name at the start.
        from: CleanText,
    },
    /// It was removed, and another made with its name. The numbers are the new one's, since it was made.
    Replaced,
    /// The driver set its counters back. The numbers are those since then, which is the least it can have been.
    CountersReset,
}

impl fmt::Display for InterfaceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { from, to } => write!(f, "went from {from} to {to}"),
            Self::CarrierLost { changes } => {
                write!(f, "lost its carrier and got it back ({changes} changes)")
            }
            Self::Renamed { from } => write!(f, "was called {from} before"),
            Self::Replaced => f.write_str("was removed and made again; counted since then"),
            Self::CountersReset => f.write_str("had its counters set back; counted since then"),
        }
    }
}

impl fmt::Display for RatesAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rate) in self.rates.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let way = match rate.direction {
                Direction::Incoming => "Incoming",
                Direction::Outgoing => "Outgoing",
            };
            write!(
                f,
                "{way} packets per second on {}: {:.2} ({}, {}/s, over {})",
                rate.interface,
                rate.packets_per_second,
                units::counted(rate.packets, "packet"),
                units::bytes(rate.bytes_per_second),
                units::seconds(Duration::from_secs_f64(self.header.window.seconds)),
            )?;
        }
        if self.selection.by != SelectedBy::Request {
            write!(f, "\nChosen: {}", self.selection.by)?;
        }
        Ok(())
    }
}

impl Answer for RatesAnswer {
    type Row = Rate;

    fn header(&self) -> &Header {
        &self.header
    }

    fn rows(&self) -> &[Rate] {
        &self.rates
    }

    fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.table()];
        tables.extend(self.protocol_table());
        tables
    }
}

impl RatesAnswer {
    fn table(&self) -> Table {
        let columns = vec![
            Column::text("INTERFACE"),
            Column::text("DIRECTION"),
            Column::number("PACKETS/S"),
            Column::number("WIRE/S"),
            Column::number("BYTES/S").optional(),
            Column::number("PACKETS").optional(),
            Column::number("ERRORS").optional(),
            Column::number("DROPS").optional(),
            Column::text("LAYER").optional(),
        ];
        let trouble = |value: u64, tone| {
            if value == 0 { Cell::from("0") } else { Cell::toned(units::count(value), tone) }
        };
        let rows = self.rates.iter().map(|rate| {
            vec![
                rate.interface.as_str().into(),
                rate.direction.to_string().into(),
                units::rate(rate.packets_per_second).into(),
                Cell::known(rate.wire_packets_per_second.map(units::rate)),
                units::bytes(rate.bytes_per_second).into(),
                units::count(rate.packets).into(),
                trouble(rate.errors, Tone::Bad),
                trouble(rate.drops, Tone::Warning),
                rate.layer.to_string().into(),
            ]
        });
        Table { columns, rows: rows.collect() }
    }

    /// The classes that had traffic, the busiest first; `None` where nothing was counted by protocol.
    fn protocol_table(&self) -> Option<Table> {
        const BAR_COLUMNS: f64 = 20.0;
        let mut rows = Vec::new();
        for rate in &self.rates {
            let (Some(by_protocol), Some(hook)) = (&rate.by_protocol, &rate.hook) else { continue };
            let mut classes: Vec<_> =
                by_protocol.iter().filter(|(_, class)| class.counted.packets > 0).collect();
            classes.sort_by_key(|(_, class)| std::cmp::Reverse(class.counted.packets));
            for (name, class) in classes {
                let share = class.counted.packets as f64 / hook.total.packets.max(1) as f64;
                // At least one block for what is there, at most the whole bar.
                let blocks = (share * BAR_COLUMNS).round().max(1.0) as usize;
                rows.push(vec![
                    rate.interface.as_str().into(),
                    rate.direction.to_string().into(),
                    protocol_title(name).into(),
                    units::rate(class.packets_per_second).into(),
                    units::bytes(class.bytes_per_second).into(),
                    format!("{:.1} %", share * 100.0).into(),
                    "█".repeat(blocks).into(),
                ]);
            }
        }
        let columns = vec![
            Column::text("INTERFACE"),
            Column::text("DIRECTION").secondary(),
            Column::text("PROTOCOL"),
            Column::number("PACKETS/S"),
            Column::number("BYTES/S").optional(),
            Column::number("SHARE"),
            Column::text("").optional(),
        ];
        (!rows.is_empty()).then_some(Table { columns, rows })
    }
}

fn protocol_title(class: &str) -> String {
    match class.split_once('_') {
        Some((family, transport)) => {
            let transport = if transport == "other" { "other".to_owned() } else { transport.to_uppercase() };
            format!("{transport} over {}", family.replace("ip", "IP"))
        }
        None if class == "arp" => "ARP".to_owned(),
        None => "other".to_owned(),
    }
}

impl Row for Rate {
    const TYPE: &'static str = "rate";
    const CSV_COLUMNS: &'static [&'static str] = &[
        "interface",
        "direction",
        "packets",
        "wire_packets",
        "interface_bytes",
        "wire_bytes",
        "packets_per_second",
        "wire_packets_per_second",
        "bytes_per_second",
        "layer",
        "errors",
        "drops",
        "ipv4_tcp_packets",
        "ipv4_udp_packets",
        "ipv4_icmp_packets",
        "ipv4_other_packets",
        "ipv6_tcp_packets",
        "ipv6_udp_packets",
        "ipv6_icmp_packets",
        "ipv6_other_packets",
        "arp_packets",
        "other_packets",
    ];

    fn csv_fields(&self) -> Vec<String> {
        fn known<T: ToString>(value: Option<T>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        let mut fields = vec![
            self.interface.to_string(),
            self.direction.to_string(),
            self.packets.to_string(),
            known(self.wire_packets),
            self.interface_bytes.to_string(),
            known(self.wire_bytes),
            self.packets_per_second.to_string(),
            known(self.wire_packets_per_second),
            self.bytes_per_second.to_string(),
            self.layer.to_string(),
            self.errors.to_string(),
            self.drops.to_string(),
        ];
        match &self.by_protocol {
            Some(classes) => {
                fields.extend(classes.iter().map(|(_, class)| class.counted.packets.to_string()));
            }
            None => fields.resize(Self::CSV_COLUMNS.len(), String::new()),
        }
        fields
    }
}

/// An interface that was chosen for a measurement.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    interfaces: Vec<InterfaceFact>,
    by: SelectedBy,
}

/// The interfaces of these names, each once; without names the default one.
pub(crate) fn choose(snapshot: &InterfaceSnapshot, names: &[String]) -> Result<Chosen> {
    let available = || snapshot.interfaces.iter().map(|interface| interface.name.clone()).collect();
    if names.is_empty() {
        return choose_default(snapshot).ok_or_else(|| Error::NoInterfaceUp { available: available() });
    }
    let mut interfaces: Vec<InterfaceFact> = Vec::new();
    for name in names {
        let fact = snapshot.by_name(name).ok_or_else(|| Error::UnknownInterface {
            name: CleanText::from(name.as_str()),
            available: available(),
        })?;
        if interfaces.iter().all(|chosen| chosen.index != fact.index) {
            interfaces.push(fact.clone());
        }
    }
    Ok(Chosen { interfaces, by: SelectedBy::Request })
}

fn choose_default(snapshot: &InterfaceSnapshot) -> Option<Chosen> {
    let chosen = |fact: &InterfaceFact, by| Chosen { interfaces: vec![fact.clone()], by };
    if let Some(fact) = snapshot.default_route.and_then(|index| snapshot.by_index(index)) {
        return Some(chosen(fact, SelectedBy::DefaultRoute));
    }
    let packets = |fact: &InterfaceFact| fact.incoming.packets.saturating_add(fact.outgoing.packets);
    let usable = snapshot.interfaces.iter().filter(|fact| fact.state.is_usable());
    // The loopback only where nothing else is up; of equals the first.
    usable
        .min_by_key(|fact| (fact.loopback, std::cmp::Reverse(packets(fact))))
        .map(|fact| chosen(fact, SelectedBy::Busiest))
}

/// The guards of a measurement, and what they could not attach.
#[derive(Debug, Default)]
pub(crate) struct CountingAll {
    by_interface: Vec<(u32, Counting)>,
    pub(crate) missing: Vec<MissingHook>,
    pub(crate) warnings: Vec<String>,
}

impl CountingAll {
    fn hook(&self, index: u32, direction: Direction) -> Option<Hook> {
        self.by_interface
            .iter()
            .find(|(counted, _)| *counted == index)
            .and_then(|(_, counting)| counting.hook(direction))
    }

    /// The hooks in use, each once: the kernel's own counters, and what was attached.
    pub(crate) fn active_hooks(&self) -> Vec<Hook> {
        let mut hooks = vec![Hook::InterfaceCounters];
        for (_, hook) in self.by_interface.iter().flat_map(|(_, counting)| &counting.active) {
            add_new(&mut hooks, &[*hook]);
        }
        hooks
    }

    fn add(&mut self, source: &dyn Source, fact: &InterfaceFact, request: &RateRequest) -> Result<()> {
        let interface = InterfaceRef { index: fact.index, name: &fact.name, ethernet: fact.ethernet };
        let counting = source.count(interface, request.direction.directions(), request.hook)?;
        add_new(&mut self.missing, &counting.missing);
        add_new(&mut self.warnings, &counting.warnings);
        self.by_interface.push((fact.index, counting));
        Ok(())
    }
}

/// Starts counting on all chosen interfaces.
pub(crate) fn count_all(source: &dyn Source, chosen: &Chosen, request: &RateRequest) -> Result<CountingAll> {
    let mut all = CountingAll::default();
    for fact in &chosen.interfaces {
        all.add(source, fact, request)?;
    }
    Ok(all)
}

/// Rates, window after window without a gap. Hooks are detached when it is dropped.
pub struct RateWatch {
    source: Arc<dyn Source>,
    request: RateRequest,
    by: SelectedBy,
    counting: CountingAll,
    before: InterfaceSnapshot,
    /// The interfaces that are followed, in the order asked for.
    followed: Vec<InterfaceFact>,
}

impl fmt::Debug for RateWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateWatch")
            .field("request", &self.request)
            .field("counting", &self.counting)
            .finish_non_exhaustive()
    }
}

impl RateWatch {
    pub(crate) fn begin(source: Arc<dyn Source>, request: &RateRequest) -> Result<Self> {
        check_window(request.window, LONGEST_WINDOW)?;
        let start = source.start()?;
        let chosen = choose(&source.interfaces(&start)?, &request.interfaces)?;
        let counting = count_all(&*source, &chosen, request)?;
        // Once more, since attaching takes longer than a counter stands still.
        let before = source.interfaces(&source.start()?)?;
        Ok(Self {
            source,
            request: request.clone(),
            by: chosen.by,
            counting,
            before,
            followed: chosen.interfaces,
        })
    }

    /// Waits for the end of the next window and tells its rates. The first begins with the watch, each other where the one
    /// before ended.
    ///
    /// An interface that is gone has no row and a warning; when one of its name is there again, it is followed again.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::InterfaceGone`] when none of the interfaces is there any more;
    /// [`Error::RecordingEnded`]. The watch can be asked again after each.
    pub fn next_window(&mut self, control: &Control<'_>) -> Result<RatesAnswer> {
        let at = self.source.wait(&self.before.at, self.request.window, control)?;
        let after = self.source.interfaces(&at)?;
        let answer = self.answer(&after);
        self.follow(&after);
        self.before = after;
        answer
    }

    fn answer(&self, after: &InterfaceSnapshot) -> Result<RatesAnswer> {
        let window = Window::between(&self.before.at, &after.at);
        let (mut rates, mut gone) = (Vec::new(), Vec::new());
        for followed in &self.followed {
            let Some(end) = after.by_index(followed.index).or_else(|| after.by_name(followed.name.as_str()))
            else {
                gone.push(followed.name.clone());
                continue;
            };
            let begin = self.before.by_index(end.index);
            for direction in self.request.direction.directions() {
                let hook = self.counting.hook(end.index, *direction);
                rates.push(rate(begin, end, *direction, hook, window.seconds));
            }
        }
        if let (true, Some(name)) = (rates.is_empty(), gone.first()) {
            return Err(Error::InterfaceGone { name: name.clone() });
        }

        let description = self.source.describe();
        let mut warnings = description.warnings;
        warnings.extend(self.counting.warnings.iter().cloned());
        warnings.extend(gone.iter().map(|name| format!("interface {name} disappeared; it has no row")));
        for changed in rates.iter().filter(|rate| rate.direction == self.request.direction.directions()[0]) {
            warnings.extend(
                changed.changes.iter().map(|change| format!("interface {} {change}", changed.interface)),
            );
        }
        if window.seconds < self.request.window.as_secs_f64() * 0.9 {
            warnings.push(format!(
                "{} were asked for, but the recording ends after {}",
                units::seconds(self.request.window),
                units::seconds(Duration::from_secs_f64(window.seconds)),
            ));
        }
        let coverage = Coverage {
            source: description.kind,
            active_hooks: self.counting.active_hooks(),
            missing_hooks: self.counting.missing.clone(),
            warnings,
            ..Coverage::default()
        };
        let selection = Selection {
            interfaces: self.followed.iter().map(|fact| fact.name.clone()).collect(),
            by: self.by,
        };
        Ok(RatesAnswer { header: Header::new(description.host, window, coverage), selection, rates })
    }

    /// Whether an interface that has the number of before may be another one: it has counted less, or its hook is gone.
    fn was_made_again(&self, same: &InterfaceFact) -> bool {
        let Some(before) = self.before.by_index(same.index) else { return false };
        self.request.direction.directions().iter().any(|direction| {
            let (begin, end) = (before.counters(*direction), same.counters(*direction));
            let counted_less = end.packets < begin.packets || end.interface_bytes < begin.interface_bytes;
            let is_there = |hook| same.hooks.iter().any(|counters| counters.hook == hook);
            counted_less || self.counting.hook(same.index, *direction).is_some_and(|hook| !is_there(hook))
        })
    }

    /// Notes new names, and follows an interface that was made again under the old name.
    fn follow(&mut self, after: &InterfaceSnapshot) {
        for index in 0..self.followed.len() {
            let old = self.followed[index].clone();
            let same = after.by_index(old.index);
            if let Some(same) = same {
                self.followed[index] = same.clone();
                if !self.was_made_again(same) {
                    continue;
                }
            }
            self.counting.by_interface.retain(|(counted, _)| *counted != old.index);
            let Some(new) = same.or_else(|| after.by_name(old.name.as_str())) else { continue };
            self.followed[index] = new.clone();
            // It is followed with the kernel's counters alone where its hooks cannot be attached again.
            if let Err(error) = self.counting.add(&*self.source, new, &self.request) {
                self.counting.warnings.push(error.to_string());
            }
        }
    }
}

/// The traffic of an interface between two samples. Without the first, it was made in between, and all it counted is new.
fn rate(
    before: Option<&InterfaceFact>,
    after: &InterfaceFact,
    direction: Direction,
    hook: Option<Hook>,
    seconds: f64,
) -> Rate {
    let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    let mut changes = Vec::new();
    let end = after.counters(direction);
    let begin = match before {
        Some(before) => {
            changes.extend(changes_between(before, after));
            let begin = *before.counters(direction);
            if end.packets < begin.packets || end.interface_bytes < begin.interface_bytes {
                changes.push(InterfaceChange::CountersReset);
                Default::default()
            } else {
                begin
            }
        }
        None => {
            changes.push(InterfaceChange::Replaced);
            Default::default()
        }
    };

    let packets = end.packets - begin.packets;
    let interface_bytes = end.interface_bytes - begin.interface_bytes;
    let counted = hook.and_then(|hook| {
        let end = after.hook(hook)?;
        // Attached right after that sample, to an interface that was made again: all it counted is of this window.
        let begin = before?.hook(hook).map(|counters| counters.by_protocol).unwrap_or_default();
        Some((hook, end.layer, end.by_protocol.zip_with(&begin, TrafficCounters::since)))
    });
    let totals = counted.map(|(hook, layer, by_protocol)| {
        let total = by_protocol.total();
        let packets_difference = i64::try_from(i128::from(total.packets) - i128::from(packets));
        HookTotals { hook, layer, total, packets_difference: packets_difference.unwrap_or(i64::MAX) }
    });
    Rate {
        interface: after.name.clone(),
        index: after.index,
        direction,
        packets,
        wire_packets: totals.map(|totals| totals.total.wire_packets),
        interface_bytes,
        wire_bytes: totals.map(|totals| totals.total.wire_bytes),
        packets_per_second: per_second(packets),
        wire_packets_per_second: totals.map(|totals| per_second(totals.total.wire_packets)),
        bytes_per_second: per_second(interface_bytes),
        layer: after.layer,
        errors: end.errors.saturating_sub(begin.errors),
        drops: end.drops.saturating_sub(begin.drops),
        by_protocol: counted.map(|(_, _, by_protocol)| {
            by_protocol.zip_with(&by_protocol, |counted, _| ProtocolRate {
                counted: *counted,
                packets_per_second: per_second(counted.packets),
                bytes_per_second: per_second(counted.interface_bytes),
            })
        }),
        hook: totals,
        changes,
    }
}

fn changes_between(before: &InterfaceFact, after: &InterfaceFact) -> Vec<InterfaceChange> {
    let mut changes = Vec::new();
    if before.name != after.name {
        changes.push(InterfaceChange::Renamed { from: before.name.clone() });
    }
    if before.state != after.state {
        changes.push(InterfaceChange::State { from: before.state, to: after.state });
    } else if let (Some(then), Some(now)) = (before.carrier_changes, after.carrier_changes)
        && now > then
    {
        changes.push(InterfaceChange::CarrierLost { changes: now - then });
    }
    changes
}

/// The rates of one interface between two snapshots, from the kernel's counters alone.
pub(super) fn link_rates(before: &InterfaceSnapshot, after: &InterfaceSnapshot, index: u32) -> Vec<Rate> {
    let Some(end) = after.by_index(index) else { return Vec::new() };
    let seconds = after.at.since(&before.at).as_secs_f64();
    [Direction::Incoming, Direction::Outgoing]
        .map(|direction| rate(before.by_index(index), end, direction, None, seconds))
        .into()
}
