//! What works here, what does not, and what would fix it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    answer::{Answer, Coverage, Header, MissingHook, Row, Window, add_new},
    clean::CleanText,
    error::Result,
    fact::{Hook, HookStatus, Leftover, Status},
    source::Source,
    view::{Cell, Column, Table, Tone},
};

/// What works on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct CapabilitiesAnswer {
    /// Host, window and coverage.
    #[serde(flatten)]
    pub header: Header,
    /// The release of the host's kernel.
    pub kernel: CleanText,
    /// What can be asked for, and whether it can be answered.
    pub features: Vec<FeatureStatus>,
    /// The hooks behind the features.
    pub hooks: Vec<HookStatus>,
    /// What killed processes left attached. The next process that counts by protocol removes it.
    pub leftovers: Vec<Leftover>,
}

impl CapabilitiesAnswer {
    /// Whether every feature works, fully or by a fallback.
    pub fn is_complete(&self) -> bool {
        self.features.iter().all(|feature| feature.status != Status::Missing)
    }
}

/// Something that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Feature {
    /// Packet and byte rates, errors and drops of interfaces.
    InterfaceRates,
    /// The same by protocol, and packets on the wire.
    ProtocolBreakdown,
    /// Counting before the kernel makes socket buffers, on request.
    Xdp,
    /// Connections with their owners, those that ended meanwhile included.
    Connections,
    /// Which process uses a connection that was accepted, where it is not the one that listens.
    ExactOwnersOfAccepted,
    /// With whom UDP sockets without a peer of their own exchange datagrams.
    DatagramPeers,
    /// Bytes of UDP and ICMP flows.
    DatagramBytes,
    /// Why connections failed, of TCP and of datagrams.
    FailuresWithErrno,
    /// All sockets now, with the processes that hold them, in every network namespace.
    SocketSnapshot,
    /// Packets that the kernel dropped, by reason and owner.
    PacketDrops,
}

impl Feature {
    /// All of them.
    const ALL: [Self; 10] = [
        Self::InterfaceRates,
        Self::ProtocolBreakdown,
        Self::Xdp,
        Self::Connections,
        Self::ExactOwnersOfAccepted,
        Self::DatagramPeers,
        Self::DatagramBytes,
        Self::FailuresWithErrno,
        Self::SocketSnapshot,
        Self::PacketDrops,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::InterfaceRates => "interface_rates",
            Self::ProtocolBreakdown => "protocol_breakdown",
            Self::Xdp => "xdp",
            Self::Connections => "connections",
            Self::ExactOwnersOfAccepted => "exact_owners_of_accepted",
            Self::DatagramPeers => "datagram_peers",
            Self::DatagramBytes => "datagram_bytes",
            Self::FailuresWithErrno => "failures_with_errno",
            Self::SocketSnapshot => "socket_snapshot",
            Self::PacketDrops => "packet_drops",
        }
    }

    /// The hooks that give it together: the best set, and what is left where a hook of that is missing.
    fn means(self) -> &'static [&'static [Hook]] {
        match self {
            Self::InterfaceRates => &[&[Hook::InterfaceCounters]],
            Self::ProtocolBreakdown => &[&[Hook::Tcx], &[Hook::Clsact]],
            Self::Xdp => &[&[Hook::Xdp]],
            Self::Connections => &[&[Hook::SetState, Hook::Connect, Hook::SockRelease], &[Hook::SockDiag]],
            Self::ExactOwnersOfAccepted => &[&[Hook::SendLength, Hook::ReceiveLength], &[Hook::SetState]],
            Self::DatagramPeers => &[&[Hook::SendMessage, Hook::ReceiveMessage], &[Hook::Connect]],
            Self::DatagramBytes => &[&[Hook::SendLength, Hook::ReceiveLength], &[Hook::DatagramPackets]],
            Self::FailuresWithErrno => {
                &[&[Hook::SetState, Hook::Connect, Hook::ErrorReport], &[Hook::SetState]]
            }
            Self::SocketSnapshot => &[&[Hook::SocketIterator, Hook::TcpIterator], &[Hook::SockDiag]],
            Self::PacketDrops => &[&[Hook::KfreeSkb]],
        }
    }

    /// What cannot be known where it is missing.
    fn hides(self) -> &'static str {
        match self {
            Self::InterfaceRates => "packet and byte rates of interfaces",
            Self::ProtocolBreakdown => "packets by protocol and on the wire",
            Self::Xdp => "counting at the driver (--hook xdp)",
            Self::Connections => "connections",
            Self::ExactOwnersOfAccepted => "which process uses what another one accepted",
            Self::DatagramPeers => "with whom UDP sockets exchange datagrams",
            Self::DatagramBytes => "bytes of UDP and ICMP flows",
            Self::FailuresWithErrno => "why connections fail",
            Self::SocketSnapshot => "sockets",
            Self::PacketDrops => "dropped packets and why",
        }
    }

    /// What cannot be known where only the second set of hooks works.
    fn hides_degraded(self) -> &'static str {
        match self {
            Self::Connections => "connections that open and end between two lists, and exact owners",
            Self::ExactOwnersOfAccepted => {
                "which process uses what another one accepted: the listener's is told (inherited)"
            }
            Self::DatagramPeers => "the peers of UDP sockets that are not connected",
            Self::FailuresWithErrno => "why datagrams fail, and attempts that never left this host",
            Self::SocketSnapshot => {
                "sockets of other network namespaces and, without privilege, who owns those of other users"
            }
            // clsact tells as much as tcx, and packets of datagrams as much as their lengths but for headers.
            Self::InterfaceRates
            | Self::ProtocolBreakdown
            | Self::Xdp
            | Self::DatagramBytes
            | Self::PacketDrops => "",
        }
    }
}

/// Whether something can be asked for here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct FeatureStatus {
    /// What.
    pub feature: Feature,
    /// Whether it works; `degraded` by a fallback.
    pub status: Status,
    /// The hook that gives it, the first of several; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// Why it does not work, or not by the best hook.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What would fix it.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// What cannot be known, where it is missing or degraded.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub hides: Option<String>,
}

pub(super) fn capabilities(source: &dyn Source) -> Result<CapabilitiesAnswer> {
    let description = source.describe();
    let hooks = source.hooks()?;
    let features: Vec<_> =
        Feature::ALL.into_iter().filter_map(|feature| feature_status(feature, &hooks)).collect();
    let missing: Vec<&FeatureStatus> =
        features.iter().filter(|feature| feature.status == Status::Missing).collect();
    let why = grouped(&missing, |feature| (feature.reason.clone(), feature.fix.clone()));
    let coverage = Coverage {
        source: description.kind,
        active_hooks: Vec::new(),
        // What has one reason and one remedy is one hook that is missing: the first.
        missing_hooks: why
            .into_iter()
            .map(|((reason, fix), features)| MissingHook {
                hook: features[0].feature.means()[0][0],
                reason: reason.unwrap_or_default(),
                hides: features.iter().map(|row| row.feature.hides()).collect::<Vec<_>>().join("; "),
                fix,
            })
            .collect(),
        warnings: description.warnings,
        ..Coverage::default()
    };
    let now = source.start()?;
    Ok(CapabilitiesAnswer {
        header: Header::new(description.host, Window::between(&now, &now), coverage),
        kernel: description.kernel,
        features,
        hooks,
        leftovers: source.leftovers()?,
    })
}

/// A feature is as good as the best set of hooks that all work. `None` where the source tells of none of them.
fn feature_status(feature: Feature, hooks: &[HookStatus]) -> Option<FeatureStatus> {
    let status_of = |hook: &Hook| hooks.iter().find(|status| status.hook == *hook);
    let works = |hook: &Hook| status_of(hook).is_some_and(|status| status.status == Status::Works);
    let means = feature.means();
    // An older recording tells of fewer hooks, and not whether the others would have worked.
    means[0].iter().find_map(status_of)?;

    let working = means.iter().position(|set| set.iter().all(works));
    let (status, hides) = match working {
        Some(0) => (Status::Works, ""),
        Some(_) => (Status::Degraded, feature.hides_degraded()),
        None => (Status::Missing, feature.hides()),
    };
    let lacking = means[0].iter().find(|hook| !works(hook)).and_then(status_of);
    Some(FeatureStatus {
        feature,
        status,
        hook: working.map(|set| means[set][0]),
        reason: lacking.and_then(|hook| hook.reason.clone()),
        fix: lacking.and_then(|hook| hook.fix.clone()),
        hides: (!hides.is_empty()).then(|| hides.to_owned()),
    })
}

/// Items in groups that share something, in the order of their first.
fn grouped<'a, T, K: PartialEq>(items: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<(K, Vec<&'a T>)> {
    let mut groups: Vec<(K, Vec<&'a T>)> = Vec::new();
    for item in items {
        let key = key(item);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(item),
            None => groups.push((key, vec![item])),
        }
    }
    groups
}

/// Names with commas between them, as lines of a column.
fn lines<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    const WIDTH: usize = 40;
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut() {
            Some(line) if line.len() + name.len() + 2 < WIDTH => {
                line.push_str(", ");
                line.push_str(name);
            }
            line => {
                if let Some(line) = line {
                    line.push(',');
                }
                lines.push(name.to_owned());
            }
        }
    }
    lines
}

impl fmt::Display for CapabilitiesAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let works = self.features.iter().filter(|feature| feature.status != Status::Missing).count();
        write!(
            f,
            "{works} of {} features work on {} (Linux {})",
            self.features.len(),
            self.header.host,
            self.kernel
        )?;
        for ((status, reason), features) in grouped(&self.features, |row| (row.status, row.reason.as_deref()))
        {
            if status == Status::Works {
                continue;
            }
            let names: Vec<&str> = features.iter().map(|row| row.feature.name()).collect();
            let are = if names.len() == 1 { "is" } else { "are" };
            write!(f, "\n{} {are} {status}: {}", names.join(", "), reason.unwrap_or("unknown"))?;
        }
        for leftover in &self.leftovers {
            write!(
                f,
                "\nLeft behind by a killed process: {} filter {} on {}; the next measurement with \
                 privileges removes it",
                leftover.hook, leftover.handle, leftover.interface
            )?;
        }
        Ok(())
    }
}

impl Answer for CapabilitiesAnswer {
    type Row = FeatureStatus;

    fn header(&self) -> &Header {
        &self.header
    }

    fn rows(&self) -> &[FeatureStatus] {
        &self.features
    }

    fn tables(&self) -> Vec<Table> {
        let tone = |status: Status| match status {
            Status::Works => Tone::Good,
            Status::Degraded => Tone::Warning,
            Status::Missing => Tone::Bad,
        };
        let mut features = Table {
            columns: vec![Column::text("FEATURE"), Column::text("STATUS"), Column::text("BY").secondary()],
            rows: self
                .features
                .iter()
                .map(|row| {
                    vec![
                        row.feature.name().into(),
                        Cell::toned(row.status.to_string(), tone(row.status)),
                        Cell::known(row.hook.map(|hook| hook.to_string())),
                    ]
                })
                .collect(),
        };
        if self.features.iter().any(|row| row.hides.is_some()) {
            features.columns.push(Column::text("NOT KNOWN"));
            for (cells, row) in features.rows.iter_mut().zip(&self.features) {
                cells.push(row.hides.clone().unwrap_or_default().into());
            }
        }
        let groups = grouped(&self.hooks, |row| (row.status, row.reason.as_deref(), row.fix.as_deref()));
        let mut hooks = Table {
            columns: vec![Column::text("HOOKS"), Column::text("STATUS"), Column::text("WHY NOT")],
            rows: Vec::new(),
        };
        for ((status, reason, _), group) in groups {
            for (number, names) in lines(group.iter().map(|row| row.hook.name())).into_iter().enumerate() {
                hooks.rows.push(match number {
                    0 => vec![
                        names.into(),
                        Cell::toned(status.to_string(), tone(status)),
                        reason.unwrap_or_default().into(),
                    ],
                    _ => vec![names.into(), Cell::default(), Cell::default()],
                });
            }
        }
        vec![features, hooks]
    }

    fn notes(&self) -> Vec<String> {
        let mut fixes: Vec<String> = Vec::new();
        for fix in self.features.iter().filter_map(|feature| feature.fix.as_ref()) {
            add_new(&mut fixes, &[format!("to fix it: {fix}")]);
        }
        fixes.extend(self.header.coverage.warnings.iter().cloned());
        fixes
    }
}

impl Row for FeatureStatus {
    const TYPE: &'static str = "feature";
    const CSV_COLUMNS: &'static [&'static str] = &["feature", "status", "hook", "reason", "fix", "hides"];

    fn csv_fields(&self) -> Vec<String> {
        vec![
            self.feature.name().to_owned(),
            self.status.to_string(),
            self.hook.map(|hook| hook.to_string()).unwrap_or_default(),
            self.reason.clone().unwrap_or_default(),
            self.fix.clone().unwrap_or_default(),
            self.hides.clone().unwrap_or_default(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(feature: Feature, works: &[Hook], missing: &[Hook]) -> Option<FeatureStatus> {
        let works = works.iter().map(|hook| HookStatus::works(*hook));
        let missing = missing
            .iter()
            .map(|hook| HookStatus::missing(*hook, format!("no {hook}"), Some("newer kernel".to_owned())));
        feature_status(feature, &works.chain(missing).collect::<Vec<_>>())
    }

    #[test]
    fn a_feature_needs_all_hooks_of_a_set() {
        let all = [Hook::SetState, Hook::Connect, Hook::SockRelease, Hook::SockDiag];
        let status = feature(Feature::Connections, &all, &[]).unwrap();
        assert_eq!((status.status, status.hook, status.hides), (Status::Works, Some(Hook::SetState), None));

        let [state, connect, release, list] = all;
        let status = feature(Feature::Connections, &[state, connect, list], &[release]).unwrap();
        assert_eq!((status.status, status.hook), (Status::Degraded, Some(Hook::SockDiag)));
        assert_eq!(status.reason.as_deref(), Some("no sock_release"));
        assert!(status.hides.unwrap().contains("between two lists"));

        let status = feature(Feature::Connections, &[], &all).unwrap();
        assert_eq!((status.status, status.hook), (Status::Missing, None));
        assert_eq!(status.fix.as_deref(), Some("newer kernel"));
    }

    #[test]
    fn owners_of_what_was_accepted_are_inherited_without_the_hooks_of_its_use() {
        let lengths = [Hook::SendLength, Hook::ReceiveLength];
        let status = feature(Feature::ExactOwnersOfAccepted, &[Hook::SetState], &lengths).unwrap();
        assert_eq!(status.status, Status::Degraded);
        assert!(status.hides.unwrap().contains("inherited"));
        let status = feature(Feature::DatagramBytes, &[Hook::DatagramPackets], &lengths).unwrap();
        assert_eq!((status.status, status.hides), (Status::Degraded, None));
    }

    #[test]
    fn of_a_feature_whose_hooks_nobody_tried_nothing_is_said() {
        assert_eq!(feature(Feature::SocketSnapshot, &[Hook::InterfaceCounters], &[]), None);
    }

    #[test]
    fn hooks_stand_in_short_lines() {
        let names = ["interface_counters", "sock_diag", "socket_iterator", "tcp_iterator"];
        assert_eq!(
            lines(names.into_iter()),
            ["interface_counters, sock_diag,", "socket_iterator, tcp_iterator"]
        );
    }
}
