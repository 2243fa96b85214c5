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
    /// Connections that opened and ended, with owners and counters; degraded: those that are open now.
    Connections,
    /// Attempts that failed, those that never left the host too; degraded: without those.
    FailedAttempts,
    /// Who accepted a connection, exactly; degraded: only where system calls are followed, which is done on request.
    AcceptedOwners,
    /// UDP and ICMP flows with their bytes; degraded: counted packet by packet.
    Datagrams,
    /// All sockets with owners, in all network namespaces; degraded: in this one, as far as this user may see.
    Sockets,
}

impl Feature {
    fn name(self) -> &'static str {
        match self {
            Self::InterfaceRates => "interface_rates",
            Self::ProtocolBreakdown => "protocol_breakdown",
            Self::Xdp => "xdp",
            Self::Connections => "connections",
            Self::FailedAttempts => "failed_attempts",
            Self::AcceptedOwners => "accepted_owners",
            Self::Datagrams => "datagrams",
            Self::Sockets => "sockets",
        }
    }

    const ALL: [Self; 8] = [
        Self::InterfaceRates,
        Self::ProtocolBreakdown,
        Self::Xdp,
        Self::Connections,
        Self::FailedAttempts,
        Self::AcceptedOwners,
        Self::Datagrams,
        Self::Sockets,
    ];

    /// The hooks that give it, the best first.
    fn hooks(self) -> &'static [Hook] {
        match self {
            Self::InterfaceRates => &[Hook::InterfaceCounters],
            Self::ProtocolBreakdown => &[Hook::Tcx, Hook::Clsact],
            Self::Xdp => &[Hook::Xdp],
            Self::Connections => &[Hook::SetState, Hook::SockDiag],
            Self::FailedAttempts => &[Hook::Connect, Hook::SetState],
            Self::AcceptedOwners => &[Hook::ReceiveLength, Hook::SysExit],
            Self::Datagrams => &[Hook::SendLength, Hook::DatagramPackets],
            Self::Sockets => &[Hook::SocketIterator, Hook::SockDiag],
        }
    }

    fn hides(self) -> &'static str {
        match self {
            Self::InterfaceRates => "packet and byte rates of interfaces",
            Self::ProtocolBreakdown => "packets by protocol and on the wire",
            Self::Xdp => "counting at the driver (--hook xdp)",
            Self::Connections => "connections that ended",
            Self::FailedAttempts => "attempts that failed",
            Self::AcceptedOwners => "which process accepted a connection",
            Self::Datagrams => "bytes and peers of datagrams",
            Self::Sockets => "sockets and their owners",
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
    /// The hook that gives it; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// Why it does not work, or not by the best hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What would fix it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

pub(super) fn capabilities(source: &dyn Source) -> Result<CapabilitiesAnswer> {
    let description = source.describe();
    let mut hooks = source.hooks()?;
    // Of what a source does not speak at all (a recording of an earlier version, say) nothing can be said.
    let is_told = |feature: &Feature| {
        let known = |hook: &Hook| hooks.iter().any(|status| status.hook == *hook);
        *feature == Feature::InterfaceRates || feature.hooks().iter().any(known)
    };
    let features: Vec<_> =
        Feature::ALL.into_iter().filter(is_told).map(|feature| feature_status(feature, &hooks)).collect();
    // What helps is told once for each feature, not for each of many hooks again.
    for hook in &mut hooks {
        if features.iter().any(|feature| feature.fix == hook.fix) {
            hook.fix = None;
        }
    }
    let missing = features.iter().filter(|feature| feature.status == Status::Missing);
    let coverage = Coverage {
        source: description.kind,
        active_hooks: Vec::new(),
        missing_hooks: missing
            .map(|feature| MissingHook {
                hook: feature.feature.hooks()[0],
                reason: feature.reason.clone().unwrap_or_default(),
                hides: feature.feature.hides().to_owned(),
                fix: feature.fix.clone(),
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

/// A feature is as good as the best of its hooks.
fn feature_status(feature: Feature, hooks: &[HookStatus]) -> FeatureStatus {
    let status_of = |hook: &Hook| hooks.iter().find(|status| status.hook == *hook);
    let best = feature.hooks()[0];
    let reason = status_of(&best).and_then(|status| status.reason.clone());
    let fix = status_of(&best).and_then(|status| status.fix.clone());
    let working = feature
        .hooks()
        .iter()
        .find(|hook| status_of(hook).is_some_and(|status| status.status == Status::Works));
    match working {
        Some(hook) if *hook == best => {
            FeatureStatus { feature, status: Status::Works, hook: Some(best), reason: None, fix: None }
        }
        Some(hook) => FeatureStatus { feature, status: Status::Degraded, hook: Some(*hook), reason, fix },
        None => FeatureStatus { feature, status: Status::Missing, hook: None, reason, fix },
    }
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
        for feature in self.features.iter().filter(|feature| feature.status != Status::Works) {
            let reason = feature.reason.as_deref().unwrap_or("unknown");
            write!(f, "\n{} is {}: {reason}", feature.feature.name(), feature.status)?;
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
        let features = Table {
            columns: vec![
                Column::text("FEATURE"),
                Column::text("STATUS"),
                Column::text("BY"),
                Column::text("WHY NOT"),
            ],
            rows: self
                .features
                .iter()
                .map(|row| {
                    vec![
                        row.feature.name().into(),
                        Cell::toned(row.status.to_string(), tone(row.status)),
                        Cell::known(row.hook.map(|hook| hook.to_string())),
                        row.reason.clone().unwrap_or_default().into(),
                    ]
                })
                .collect(),
        };
        let hooks = Table {
            columns: vec![Column::text("HOOK"), Column::text("STATUS"), Column::text("WHY NOT")],
            rows: self
                .hooks
                .iter()
                .map(|row| {
                    vec![
                        row.hook.name().into(),
                        Cell::toned(row.status.to_string(), tone(row.status)),
                        row.reason.clone().unwrap_or_default().into(),
                    ]
                })
                .collect(),
        };
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
    const CSV_COLUMNS: &'static [&'static str] = &["feature", "status", "hook", "reason", "fix"];

    fn csv_fields(&self) -> Vec<String> {
        vec![
            self.feature.name().to_owned(),
            self.status.to_string(),
            self.hook.map(|hook| hook.to_string()).unwrap_or_default(),
            self.reason.clone().unwrap_or_default(),
            self.fix.clone().unwrap_or_default(),
        ]
    }
}
