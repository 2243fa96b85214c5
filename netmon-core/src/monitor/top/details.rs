//! All that is known of one line.

use std::time::Duration;

use super::{
    TopInterval, TopKey,
    group::{Groups, destination_key},
    measured::Measured,
};
use crate::{
    fact::{InterfaceAddress, Process},
    filter::Filter,
    monitor::{Connection, Rate},
    view::{Cell, Tone, units},
};

impl TopInterval {
    /// All that is known of a line, name by name. Empty where it is no longer there.
    pub fn details(&self, key: &TopKey, filter: &Filter) -> Vec<(&'static str, Cell)> {
        match key {
            TopKey::Connection(id) => {
                self.connections.iter().rev().find(|one| one.fact.id() == *id).map(|one| self.connection(one))
            }
            TopKey::Interface(index) => self
                .interfaces
                .iter()
                .find(|one| one.fact.index == *index)
                .map(|one| interface(&one.fact, &one.incoming, &one.outgoing)),
            key => self.group(key, filter),
        }
        .unwrap_or_default()
    }

    fn connection(&self, one: &Measured) -> Vec<(&'static str, Cell)> {
        let row = Connection::new(&one.fact, &self.at, None);
        let mut lines: Vec<(&'static str, Cell)> = Vec::new();
        for name in Connection::FIELDS {
            // Those that are known, as `--fields` shows them.
            let Ok(selected) = row.only(&[name]) else { continue };
            let cell = selected.cells().pop().unwrap_or_default();
            if cell.tone != Tone::Dim && !cell.text.is_empty() {
                lines.push((name, cell));
            }
        }
        lines
    }

    fn group(&self, key: &TopKey, filter: &Filter) -> Option<Vec<(&'static str, Cell)>> {
        let mut groups = Groups::default();
        let key_of = |one: &Measured| match key {
            TopKey::Destination { .. } => destination_key(&one.fact),
            _ => Some(one.process),
        };
        for one in self.connections.iter().filter(|one| key_of(one) == Some(*key)) {
            if filter.matches(&one.fact) {
                groups.add(*key, one);
            }
        }
        let group = groups.all.pop()?;
        let load = group.load();
        let mut lines = match key {
            TopKey::Destination { protocol, remote } => {
                vec![("remote", remote.to_string().into()), ("protocol", protocol.name().into())]
            }
            _ => group.process.as_deref().map(process).unwrap_or_default(),
        };
        lines.push(("connections", units::count(load.connections).into()));
        lines.push(("open", units::count(load.open).into()));
        lines.push(("opened", units::count(load.opened).into()));
        let tone = if load.failed > 0 { Tone::Bad } else { Tone::Plain };
        lines.push(("failed", Cell::toned(units::count(load.failed), tone)));
        if let Some(rate) = load.payload_bytes_per_second {
            lines.push(("received a second", units::bytes(rate.received).into()));
            lines.push(("sent a second", units::bytes(rate.sent).into()));
        }
        if load.unmeasured > 0 {
            let text = units::counted(load.unmeasured, "connection");
            lines.push(("rate not known of", text.into()));
        }
        if let Some(rtt) = load.mean_rtt_seconds.and_then(|rtt| Duration::try_from_secs_f64(rtt).ok()) {
            lines.push(("mean round-trip time", units::short(rtt).into()));
        }
        if let Some(retransmits) = load.retransmits {
            lines.push(("sent again", units::counted(retransmits, "segment").into()));
        }
        Some(lines)
    }
}

fn process(process: &Process) -> Vec<(&'static str, Cell)> {
    let mut lines = vec![("comm", process.comm.as_str().into()), ("pid", process.pid.to_string().into())];
    let known = [
        ("exe", process.exe.as_ref().map(ToString::to_string)),
        ("cmdline", process.cmdline.as_ref().map(ToString::to_string)),
        ("uid", process.uid.map(|uid| uid.to_string())),
        ("parent_pid", process.parent_pid.map(|pid| pid.to_string())),
        ("unit", process.unit.as_ref().map(ToString::to_string)),
        ("container", process.container.as_ref().map(ToString::to_string)),
        ("cgroup", process.cgroup.as_ref().map(ToString::to_string)),
    ];
    lines.extend(known.into_iter().filter_map(|(name, text)| Some((name, Cell::from(text?)))));
    lines
}

fn interface(
    fact: &crate::fact::InterfaceFact,
    incoming: &Rate,
    outgoing: &Rate,
) -> Vec<(&'static str, Cell)> {
    let addresses: Vec<String> = fact.addresses.iter().map(InterfaceAddress::to_string).collect();
    let mut lines = vec![
        ("interface", Cell::from(fact.name.as_str())),
        ("index", fact.index.to_string().into()),
        ("state", fact.state.to_string().into()),
        ("mtu", fact.mtu.to_string().into()),
        ("addresses", addresses.join(" ").into()),
        ("layer", fact.layer.to_string().into()),
    ];
    if let Some(kind) = &fact.kind {
        lines.push(("kind", kind.as_str().into()));
    }
    for (name, rate) in [("incoming", incoming), ("outgoing", outgoing)] {
        let text = format!(
            "{} packets/s, {}/s, {}, {}",
            units::rate(rate.packets_per_second),
            units::bytes(rate.bytes_per_second),
            units::counted(rate.errors, "error"),
            units::counted(rate.drops, "drop"),
        );
        lines.push((name, text.into()));
        for change in &rate.changes {
            lines.push(("change", Cell::toned(change.to_string(), Tone::Warning)));
        }
    }
    lines
}
