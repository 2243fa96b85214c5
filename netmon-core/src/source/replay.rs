//! A recording as a source: the same answers without the host, without privilege and without waiting.

mod connections;

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    time::Duration,
};

use connections::{Connections, Lines};

use super::{
    ChangeCursor, Changes, Counting, DropSighting, InterfaceRef, Observation, Sighting, Source,
    SourceDescription, Span,
    drop_history::{DropHistory, Lost},
    recording::{FORMAT, Line, RecordingHeader, VERSION},
};
use crate::{
    answer::{MissingHook, add_new},
    clean::CleanText,
    control::{Cancel, Control},
    error::{Error, Result},
    fact::{
        ConnectionTotals, Direction, DropSnapshot, Hook, HookStatus, InterfaceSnapshot, Moment, Observed,
        ProtocolSnapshot, SocketSnapshot,
    },
    filter::Filter,
    request::HookChoice,
    view::units,
};

/// A recording, read into memory (about 1 KB an interface and sample, 250 bytes a connection).
///
/// A measurement starts at the recording's first moment and skips to the sample at the end of its window. What was
/// observed of connections is all of it, from its first list of sockets to its end; a part of it begins at such a list.
#[derive(Debug)]
pub struct ReplaySource {
    header: RecordingHeader,
    description: SourceDescription,
    snapshots: Vec<InterfaceSnapshot>,
    /// In order of time; empty where they were not recorded.
    protocols: Vec<ProtocolSnapshot>,
    /// `None` where only interfaces were recorded.
    connections: Option<Connections>,
    /// `None` where drops were not recorded.
    drops: Option<Drops>,
}

/// What a recording tells of dropped packets.
#[derive(Debug)]
struct Drops {
    history: DropHistory,
    /// Of the last list.
    observed: Observed,
    began: Moment,
    end: Moment,
}

impl Drops {
    fn begin(at: Moment) -> Self {
        Self { history: DropHistory::default(), observed: Observed::default(), began: at, end: at }
    }

    fn add(&mut self, snapshot: DropSnapshot) {
        let DropSnapshot { at, drops, observed } = snapshot;
        self.history.record(at, drops, Lost { packets: observed.lost_events, details: 0 });
        self.observed = observed;
        self.end = at;
    }
}

impl ReplaySource {
    /// Reads a recording.
    ///
    /// A last line without its end, as a killed recorder leaves it, is passed over, and every answer says so.
    ///
    /// # Errors
    /// [`Error::Recording`]: no such file, not a recording, a later version, or damaged, with the line.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| Error::Recording {
            path: path.to_owned(),
            reason: format!("cannot open it: {source}"),
            source: Some(source),
        })?;
        Self::read(BufReader::new(file), path)
    }

    /// Reads a recording from memory or a pipe. `name` is for messages.
    ///
    /// # Errors
    /// As [`ReplaySource::open`].
    pub fn read(reader: impl BufRead, name: impl Into<PathBuf>) -> Result<Self> {
        let path = name.into();
        let damaged = |line: usize, reason: String| Error::Recording {
            path: path.clone(),
            // What is wrong with a value is told with the value.
            reason: format!("line {line}: {}", CleanText::from(reason)),
            source: None,
        };

        let mut header: Option<RecordingHeader> = None;
        let mut snapshots: Vec<InterfaceSnapshot> = Vec::new();
        let mut protocols: Vec<ProtocolSnapshot> = Vec::new();
        let mut lines = Lines::default();
        let mut drops: Option<Drops> = None;
        let (mut unknown, mut cut) = (0_u64, false);
        let mut reader = reader;
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let length = reader.read_until(b'\n', &mut bytes).map_err(|source| Error::Recording {
                path: path.clone(),
                reason: format!("cannot read line {number}: {source}"),
                source: Some(source),
            })?;
            if length == 0 {
                break;
            }
            let whole = bytes.ends_with(b"\n");
            if header.is_none() {
                header = Some(read_header(&bytes).map_err(|reason| damaged(number, reason))?);
                continue;
            }
            let is_before = |last: Option<&Moment>, at: &Moment| match last {
                Some(last) if at.boot_ns < last.boot_ns => {
                    Err(damaged(number, "its time is before that of the line above".to_owned()))
                }
                _ => Ok(()),
            };
            match serde_json::from_slice(&bytes) {
                Ok(Line::Interfaces(snapshot)) => {
                    is_before(snapshots.last().map(|last| &last.at), &snapshot.at)?;
                    snapshots.push(snapshot);
                }
                Ok(Line::Sockets(snapshot)) => {
                    is_before(lines.last_sockets(), &snapshot.at)?;
                    lines.sockets(snapshot);
                }
                Ok(Line::Protocols(snapshot)) => {
                    is_before(protocols.last().map(|last| &last.at), &snapshot.at)?;
                    protocols.push(*snapshot);
                }

                Ok(Line::Drops(snapshot)) => {
                    is_before(drops.as_ref().map(|drops| &drops.end), &snapshot.at)?;
                    drops.get_or_insert_with(|| Drops::begin(snapshot.at)).add(snapshot);
                }
                Ok(Line::Connection(fact)) => lines.change(fact),
                Ok(Line::Lost(loss)) => lines.loss(loss),
                Ok(Line::Unknown) => unknown += 1,
                Err(_) if !whole => cut = true,
                Err(error) => return Err(damaged(number, error.to_string())),
            }
        }

        let header = header.ok_or_else(|| damaged(1, "the file is empty".to_owned()))?;
        if snapshots.is_empty() {
            return Err(damaged(2, "it holds no sample".to_owned()));
        }
        let mut description = header.source.clone();
        description.kind = CleanText::from("replay");
        if cut {
            description.warnings.push(
                "the recording ends in the middle of a line, as when its writer was killed; that sample is left out"
                    .to_owned(),
            );
        }
        if unknown > 0 {
            description.warnings.push(format!(
                "left out: {} of the recording of a kind that this version does not know",
                units::counted(unknown, "line"),
            ));
        }
        let (first, last) = (snapshots[0].at, snapshots[snapshots.len() - 1].at);
        let connections = lines.finish(header.observed.clone(), first, last);
        if let Some(drops) = &mut drops
            && drops.end.boot_ns < last.boot_ns
        {
            drops.end = last;
        }
        Ok(Self { header, description, snapshots, protocols, connections, drops })
    }

    /// The recording's first line.
    pub fn header(&self) -> &RecordingHeader {
        &self.header
    }

    fn first(&self) -> &InterfaceSnapshot {
        &self.snapshots[0]
    }

    fn last(&self) -> &InterfaceSnapshot {
        &self.snapshots[self.snapshots.len() - 1]
    }

    fn recorded(&self) -> Result<&Connections> {
        self.connections.as_ref().ok_or_else(|| self.without("connections"))
    }

    fn recorded_drops(&self) -> Result<&Drops> {
        self.drops.as_ref().ok_or_else(|| self.without("packet drops"))
    }

    /// The first sample at or after a moment, else the last.
    fn at(&self, boot_ns: u64) -> &InterfaceSnapshot {
        let index = self.snapshots.partition_point(|snapshot| snapshot.at.boot_ns < boot_ns);
        self.snapshots.get(index).unwrap_or_else(|| self.last())
    }
}

fn read_header(line: &[u8]) -> Result<RecordingHeader, String> {
    let value: serde_json::Value =
        serde_json::from_slice(line).map_err(|_| "this is not a netmon recording".to_owned())?;
    if value.get("format").and_then(|format| format.as_str()) != Some(FORMAT) {
        return Err("this is not a netmon recording".to_owned());
    }
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    match version {
        Some(version) if version == u64::from(VERSION) => {
            serde_json::from_value(value).map_err(|error| format!("the header is damaged: {error}"))
        }
        Some(version) => Err(format!(
            "it has format version {version}, and this netmon reads version {VERSION}; use the netmon that wrote it, or a \
             later one"
        )),
        None => Err("the header does not say its version".to_owned()),
    }
}

impl Source for ReplaySource {
    fn describe(&self) -> SourceDescription {
        self.description.clone()
    }

    fn start(&self) -> Result<Moment> {
        Ok(self.first().at)
    }

    fn wait(&self, from: &Moment, window: Duration, control: &Control<'_>) -> Result<Moment> {
        if control.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let until = from.boot_ns.saturating_add(u64::try_from(window.as_nanos()).unwrap_or(u64::MAX));
        let after = self.snapshots.partition_point(|snapshot| snapshot.at.boot_ns <= from.boot_ns);
        // The nearest, since samples that were meant to be a second apart are some milliseconds more or less.
        let reached = self.snapshots[after..]
            .iter()
            .map(|snapshot| snapshot.at)
            .min_by_key(|at| at.boot_ns.abs_diff(until))
            .ok_or(Error::RecordingEnded { at: self.last().at.wall })?;
        control.report(Duration::ZERO, window);
        control.report(window, window);
        Ok(reached)
    }

    fn interfaces(&self, at: &Moment) -> Result<InterfaceSnapshot> {
        Ok(self.at(at.boot_ns).clone())
    }

    fn count(
        &self,
        interface: InterfaceRef<'_>,
        directions: &[Direction],
        choice: HookChoice,
    ) -> Result<Counting> {
        const KINDS: [Hook; 3] = [Hook::Tcx, Hook::Clsact, Hook::Xdp];
        let named = match choice {
            HookChoice::None => return Ok(Counting::default()),
            HookChoice::Auto => None,
            HookChoice::Tcx => Some(Hook::Tcx),
            HookChoice::Clsact => Some(Hook::Clsact),
            HookChoice::Xdp => Some(Hook::Xdp),
        };
        let mut recorded: Vec<Hook> = Vec::new();
        for fact in self.snapshots.iter().filter_map(|snapshot| snapshot.by_index(interface.index)) {
            for counters in &fact.hooks {
                add_new(&mut recorded, &[counters.hook]);
            }
        }

        let mut counting = Counting::default();
        for direction in directions {
            let places: Vec<Hook> = KINDS
                .iter()
                .filter(|kind| named.is_none_or(|named| named == **kind))
                .filter_map(|kind| kind.place(*direction))
                .collect();
            if let Some(hook) = recorded.iter().find(|hook| places.contains(hook)) {
                counting.active.push((*direction, *hook));
            }
        }
        let hook = named.unwrap_or(Hook::Tcx);
        if counting.active.is_empty() && named.is_some() {
            return Err(Error::HookUnavailable {
                hook,
                interface: interface.name.clone(),
                not_permitted: false,
                reason: "the recording was made without it".to_owned(),
            });
        }
        let uncounted: Vec<Direction> =
            directions.iter().copied().filter(|direction| counting.hook(*direction).is_none()).collect();
        if !uncounted.is_empty() {
            // All that was asked for, or the one way that this hook does not see.
            let only = if counting.active.is_empty() { None } else { uncounted.first().copied() };
            let recorded_reason = self.header.missing_hooks.iter().find(|missing| {
                // Made while it was recorded, for this interface.
                missing.hides.contains(interface.name.as_str())
            });
            counting.missing.push(MissingHook {
                hook,
                reason: match recorded_reason {
                    Some(missing) => format!("when this was recorded: {}", missing.reason),
                    None => "the recording was made without it".to_owned(),
                },
                hides: super::live::hidden_without_hook(interface.name, only),
                fix: Some(format!("record with --iface {}", interface.name)),
            });
        }
        Ok(counting)
    }

    fn hooks(&self) -> Result<Vec<HookStatus>> {
        Ok(self.header.hooks.clone())
    }

    fn observe(&self) -> Result<Observation> {
        let from = self.recorded()?.began();
        Ok(Observation { from, cursor: ChangeCursor(0), guard: Box::new(()) })
    }

    fn observed(&self, since: Option<Duration>) -> Result<Option<Span>> {
        Ok(self.recorded()?.observed(since))
    }

    fn counted(&self, at: &Moment) -> Result<Moment> {
        Ok(self
            .connections
            .as_ref()
            .and_then(|recorded| recorded.counted(at))
            .unwrap_or_else(|| self.first().at))
    }

    fn totals(&self) -> Result<ConnectionTotals> {
        Ok(self.recorded()?.totals())
    }

    fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        Ok(self.recorded()?.visit(span, filter, visit))
    }

    fn observe_drops(&self) -> Result<Observation> {
        let from = self.recorded_drops()?.began;
        Ok(Observation { from, cursor: ChangeCursor(0), guard: Box::new(()) })
    }

    fn observed_drops(&self, since: Option<Duration>) -> Result<Option<Span>> {
        let drops = self.recorded_drops()?;
        Ok(drops.history.observed(since, &drops.end))
    }

    fn drops(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(DropSighting<'_>),
    ) -> Result<Observed> {
        let drops = self.recorded_drops()?;
        let lost = drops.history.visit(span, filter, visit);
        Ok(Observed { lost_events: lost.packets, ..drops.observed.clone() })
    }

    /// The last list of sockets at or before the moment, else the first.
    fn sockets(&self, at: &Moment) -> Result<SocketSnapshot> {
        let connections = self.connections.as_ref();
        connections.and_then(|recorded| recorded.sockets(at)).cloned().ok_or_else(|| self.without("sockets"))
    }

    fn protocol_counters(&self, at: &Moment) -> Result<ProtocolSnapshot> {
        let after = self.protocols.partition_point(|snapshot| snapshot.at.boot_ns <= at.boot_ns);
        let read = self.protocols.get(after.saturating_sub(1));
        read.cloned().ok_or_else(|| self.without("protocol counters"))
    }

    fn changes(&self, after: ChangeCursor, _patience: Duration, cancel: &Cancel) -> Result<Changes> {
        self.recorded()?.changes(after, cancel)
    }
}
