//! The interfaces of a host.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::rates::{Rate, link_rates};
use crate::{
    answer::{Answer, Coverage, Header, Row, Window},
    clean::CleanText,
    control::Control,
    error::Result,
    fact::{Hook, InterfaceAddress, InterfaceFact, InterfaceSnapshot, InterfaceState, Layer, LinkCounters},
    request::{LONGEST_WINDOW, check_window},
    source::Source,
    view::{Cell, Column, Table, Tone, units},
};

/// All interfaces of a network namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct InterfacesAnswer {
    /// Host, window and coverage.
    #[serde(flatten)]
    pub header: Header,
    /// One row an interface, in the kernel's order.
    pub interfaces: Vec<Interface>,
}

/// An interface: what it is, and what it counted since it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Interface {
    /// Its name.
    pub name: CleanText,
    /// The kernel's number for it.
    pub index: u32,
    /// Its operational state.
    pub state: InterfaceState,
    /// Whether the default route leaves by it.
    pub default_route: bool,
    /// The kind of virtual device; absent for hardware and loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<CleanText>,
    /// What an administrator wrote beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<CleanText>,
    /// The link-layer address.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// The largest packet that it sends.
    pub mtu: u32,
    /// Its addresses, as `address/prefix length`.
    #[serde(deserialize_with = "crate::clean::sentences")]
    pub addresses: Vec<String>,
    /// What its driver counts as a packet.
    pub layer: Layer,
    /// What it received since it was made.
    pub incoming: LinkCounters,
    /// What it sent since it was made.
    pub outgoing: LinkCounters,
    /// Its rates over the answer's window, incoming then outgoing; empty in an answer about a moment, and for an
    /// interface that came after the window began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<Rate>,
}

pub(super) fn now(source: &dyn Source) -> Result<InterfacesAnswer> {
    let snapshot = source.interfaces(&source.start()?)?;
    Ok(answer(source, &snapshot, &snapshot))
}

pub(super) fn over(source: &dyn Source, window: Duration, control: &Control<'_>) -> Result<InterfacesAnswer> {
    check_window(window, LONGEST_WINDOW)?;
    let before = source.interfaces(&source.start()?)?;
    let at = source.wait(&before.at, window, control)?;
    let after = source.interfaces(&at)?;
    Ok(answer(source, &before, &after))
}

fn answer(source: &dyn Source, before: &InterfaceSnapshot, after: &InterfaceSnapshot) -> InterfacesAnswer {
    let description = source.describe();
    let coverage = Coverage {
        source: description.kind,
        active_hooks: vec![Hook::InterfaceCounters],
        warnings: description.warnings,
        ..Coverage::default()
    };
    let interfaces = after.interfaces.iter().map(|fact| interface(fact, before, after)).collect();
    InterfacesAnswer {
        header: Header::new(description.host, Window::between(&before.at, &after.at), coverage),
        interfaces,
    }
}

fn interface(fact: &InterfaceFact, before: &InterfaceSnapshot, after: &InterfaceSnapshot) -> Interface {
    let measured = after.at != before.at && before.by_index(fact.index).is_some();
    Interface {
        name: fact.name.clone(),
        index: fact.index,
        state: fact.state,
        default_route: after.default_route == Some(fact.index),
        kind: fact.kind.clone(),
        alias: fact.alias.clone(),
        mac_address: fact.mac_address.clone(),
        mtu: fact.mtu,
        addresses: fact.addresses.iter().map(InterfaceAddress::to_string).collect(),
        layer: fact.layer,
        incoming: fact.incoming,
        outgoing: fact.outgoing,
        rates: if measured { link_rates(before, after, fact.index) } else { Vec::new() },
    }
}

impl fmt::Display for InterfacesAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let up = self.interfaces.iter().filter(|interface| interface.state.is_usable()).count();
        write!(f, "{}, {up} up", units::counted(self.interfaces.len() as u64, "interface"))?;
        if let Some(default) = self.interfaces.iter().find(|interface| interface.default_route) {
            write!(f, "; the default route is by {}", default.name)?;
        }
        if self.header.window.seconds > 0.0 {
            let seconds = Duration::from_secs_f64(self.header.window.seconds);
            write!(f, "; rates over {}", units::seconds(seconds))?;
        }
        Ok(())
    }
}

impl Answer for InterfacesAnswer {
    type Row = Interface;

    fn header(&self) -> &Header {
        &self.header
    }

    fn rows(&self) -> &[Interface] {
        &self.interfaces
    }

    fn tables(&self) -> Vec<Table> {
        let columns = vec![
            Column::text("INTERFACE"),
            Column::text("STATE").secondary(),
            Column::text("KIND").optional(),
            Column::number("IN/S"),
            Column::number("OUT/S"),
            Column::number("IN BYTES/S").optional(),
            Column::number("OUT BYTES/S").optional(),
            Column::number("ERRORS").optional(),
            Column::number("DROPS").optional(),
            Column::text("ADDRESSES"),
        ];
        let rows = self.interfaces.iter().map(Interface::cells).collect();
        vec![Table { columns, rows }]
    }
}

impl Interface {
    fn cells(&self) -> Vec<Cell> {
        let packets = |index: usize| self.rates.get(index).map(|rate| units::rate(rate.packets_per_second));
        let bytes = |index: usize| self.rates.get(index).map(|rate| units::bytes(rate.bytes_per_second));
        let trouble = |incoming: u64, outgoing: u64, tone| {
            let sum = incoming.saturating_add(outgoing);
            Cell::toned(units::count(sum), if sum == 0 { Tone::Plain } else { tone })
        };
        let state = match self.state {
            InterfaceState::Up => Tone::Good,
            InterfaceState::Unknown => Tone::Plain,
            InterfaceState::AdminDown => Tone::Dim,
            _ => Tone::Bad,
        };
        let kind = match (&self.kind, self.name == "lo") {
            (Some(kind), _) => Cell::from(kind.as_str()),
            (None, true) => Cell::from("loopback"),
            (None, false) => Cell::known(None),
        };
        vec![
            self.name.as_str().into(),
            Cell::toned(self.state.to_string(), state),
            kind,
            Cell::known(packets(0)),
            Cell::known(packets(1)),
            Cell::known(bytes(0)),
            Cell::known(bytes(1)),
            trouble(self.incoming.errors, self.outgoing.errors, Tone::Bad),
            trouble(self.incoming.drops, self.outgoing.drops, Tone::Warning),
            Cell::known((!self.addresses.is_empty()).then(|| self.addresses.join(" "))),
        ]
    }
}

impl Row for Interface {
    const TYPE: &'static str = "interface";
    const CSV_COLUMNS: &'static [&'static str] = &[
        "name",
        "index",
        "state",
        "default_route",
        "kind",
        "mac_address",
        "mtu",
        "addresses",
        "layer",
        "incoming_packets",
        "outgoing_packets",
        "incoming_interface_bytes",
        "outgoing_interface_bytes",
        "incoming_errors",
        "outgoing_errors",
        "incoming_drops",
        "outgoing_drops",
        "incoming_packets_per_second",
        "outgoing_packets_per_second",
        "incoming_bytes_per_second",
        "outgoing_bytes_per_second",
    ];

    fn csv_fields(&self) -> Vec<String> {
        let packets = |index: usize| self.rates.get(index).map(|rate| rate.packets_per_second.to_string());
        let bytes = |index: usize| self.rates.get(index).map(|rate| rate.bytes_per_second.to_string());
        vec![
            self.name.to_string(),
            self.index.to_string(),
            self.state.name().to_owned(),
            self.default_route.to_string(),
            self.kind.as_ref().map(CleanText::to_string).unwrap_or_default(),
            self.mac_address.clone().unwrap_or_default(),
            self.mtu.to_string(),
            self.addresses.join(" "),
            self.layer.to_string(),
            self.incoming.packets.to_string(),
            self.outgoing.packets.to_string(),
            self.incoming.interface_bytes.to_string(),
            self.outgoing.interface_bytes.to_string(),
            self.incoming.errors.to_string(),
            self.outgoing.errors.to_string(),
            self.incoming.drops.to_string(),
            self.outgoing.drops.to_string(),
            packets(0).unwrap_or_default(),
            packets(1).unwrap_or_default(),
            bytes(0).unwrap_or_default(),
            bytes(1).unwrap_or_default(),
        ]
    }
}
