//! The format of recordings, and writing them.
//!
//! A recording is UTF-8 JSON lines. The first is a [`RecordingHeader`]; each other has a `type`, of which this version
//! knows these. A reader passes over types that it does not know and says so, so new kinds of facts do not need a new
//! version; that grows when an old line changes its meaning.
//!
//! | `type` | what | how often |
//! |---|---|---|
//! | `interfaces` | an [`InterfaceSnapshot`] | every sample |
//! | `connection` | a [`ConnectionFact`] as it was after a change: opened, established, ended | once for each change |
//! | `sockets` | a [`SocketSnapshot`] | at the beginning, every ten seconds, at the end |
//! | `protocols` | a [`ProtocolSnapshot`] | at the beginning, every ten seconds, at the end |
//! | `drops` | a [`DropSnapshot`], with counts since it was recorded | at the beginning, every ten seconds, at the end |
//! | `lost` | `count` changes that were lost before `at` and after the line before | when there were any |
//!
//! `connection`, `sockets` and `lost` are there where the header has `observed`. A connection that is in no `sockets` line and has no change
//! was not there.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{ChangeCursor, Source, SourceDescription, Span};
use crate::{
    answer::{Coverage, Header, MissingHook, Window, add_new},
    clean::CleanText,
    control::{Cancel, Control},
    error::{Error, Result},
    fact::{
        BootTime, ConnectionFact, Direction, DropSnapshot, HookStatus, InterfaceSnapshot, Moment, Observed,
        ProtocolSnapshot, SocketSnapshot,
    },
    filter::Filter,
    monitor::{self, RecordAnswer},
    request::{RateRequest, check_window},
};

/// The value of `format` in the first line.
pub const FORMAT: &str = "netmon-recording";
/// The version that this library writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// How far apart lists of all sockets and drops, and readings of the protocols' counters, are.
const LISTS_EVERY: Duration = Duration::from_secs(10);

/// The first line of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordingHeader {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The program that wrote it.
    pub recorded_by: CleanText,
    /// What was recorded.
    pub source: SourceDescription,
    /// Which hooks could be used there and then.
    pub hooks: Vec<HookStatus>,
    /// What was asked for and could not be recorded.
    #[serde(default)]
    pub missing_hooks: Vec<MissingHook>,
    /// How connections were observed. `None` for a recording of interfaces alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
}

/// Any other line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line {
    Interfaces(InterfaceSnapshot),
    Connection(ConnectionFact),
    Sockets(SocketSnapshot),
    Protocols(Box<ProtocolSnapshot>),
    Drops(DropSnapshot),
    Lost(Loss),
    /// Written by a later version.
    #[serde(other)]
    Unknown,
}

/// Changes of connections that were lost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Loss {
    pub(super) at: Moment,
    pub(super) count: u64,
}

/// When a connection changed to what it is.
pub(super) fn changed_ns(fact: &ConnectionFact) -> u64 {
    fact.closed.or(fact.established.max(fact.opened)).map_or(0, BootTime::ns)
}

/// What to record. Connections are recorded, each with its owner, where the source has them. Protocol counts are recorded for the chosen interfaces; the kernel's own counters for all.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecordRequest {
    /// The file to write.
    pub path: PathBuf,
    /// Replace a file that exists.
    pub overwrite: bool,
    /// For how long; `None` until cancelled.
    pub duration: Option<Duration>,
    /// What to count: `window` is the time between two samples.
    pub rates: RateRequest,
}

impl RecordRequest {
    /// A recording of the default interface every second, until cancelled, to a new file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let rates = RateRequest { window: Duration::from_secs(1), ..RateRequest::default() };
        Self { path: path.into(), overwrite: false, duration: None, rates }
    }
}

/// Writes snapshots of a source to a file until the duration is over or the caller cancels, which is a success here.
pub(crate) fn record(
    source: &dyn Source,
    request: &RecordRequest,
    control: &Control<'_>,
) -> Result<RecordAnswer> {
    check_window(request.rates.window, crate::request::LONGEST_WINDOW)?;
    let first = source.start()?;
    let snapshot = source.interfaces(&first)?;
    let chosen = monitor::choose(&snapshot, &request.rates.interfaces)?;
    let counting = monitor::count_all(source, &chosen, &request.rates)?;
    let mut connections = Connections::observe(source)?;
    let mut drops = Drops::observe(source)?;

    let mut protocols = Protocols { source, read: None };

    let mut writer = Writer::create(&request.path, request.overwrite)?;
    let description = source.describe();
    writer.write(&RecordingHeader {
        format: FORMAT.to_owned(),
        version: VERSION,
        recorded_by: CleanText::from(concat!("netmon ", env!("CARGO_PKG_VERSION"))),
        source: description.clone(),
        hooks: source.hooks()?,
        missing_hooks: counting.missing.clone(),
        observed: connections.as_ref().map(|connections| connections.observed.clone()),
    })?;

    let mut samples = 0_u64;
    let mut at = source.start()?;
    let start = at;
    let mut last: Moment;
    let due = LISTS_EVERY - request.rates.window.min(LISTS_EVERY) / 2;
    loop {
        if let Some(connections) = &mut connections {
            connections.write_changes(&mut writer, &at)?;
            connections.write_sockets(&mut writer, &at, due)?;
        }
        protocols.write(&mut writer, &at, due)?;
        if let Some(drops) = &mut drops {
            drops.write(&mut writer, &at, due)?;
        }
        let snapshot = source.interfaces(&at)?;
        last = snapshot.at;
        writer.write(&Line::Interfaces(snapshot))?;
        writer.flush()?;
        samples += 1;
        let elapsed = last.since(&start);
        let left = request.duration.map_or(Duration::MAX, |duration| duration.saturating_sub(elapsed));
        control.report(elapsed, request.duration.unwrap_or(elapsed));
        if left < request.rates.window / 2 {
            break;
        }
        let quiet = Control { cancel: control.cancel.clone(), progress: None };
        at = match source.wait(&last, request.rates.window.min(left), &quiet) {
            Ok(at) => at,
            Err(Error::Cancelled | Error::RecordingEnded { .. }) => break,
            Err(error) => return Err(error),
        };
    }
    if let Some(connections) = &mut connections {
        connections.write_sockets(&mut writer, &last, Duration::ZERO)?;
        let end = connections.listed.filter(|listed| listed.boot_ns > last.boot_ns).unwrap_or(last);
        connections.write_last_changes(&mut writer, &end)?;
    }
    protocols.write(&mut writer, &last, Duration::ZERO)?;
    if let Some(drops) = &mut drops {
        drops.write(&mut writer, &last, Duration::ZERO)?;
    }
    let bytes = writer.finish()?;

    let mut coverage = Coverage {
        source: description.kind,
        active_hooks: counting.active_hooks(),
        missing_hooks: counting.missing,
        warnings: counting.warnings,
        ..Coverage::default()
    };
    if let Some(connections) = &connections {
        add_new(&mut coverage.active_hooks, &connections.observed.active_hooks);
        add_new(&mut coverage.missing_hooks, &connections.observed.missing_hooks);
        add_new(&mut coverage.warnings, &connections.observed.warnings);
        coverage.lost_events = connections.lost;
    }
    Ok(RecordAnswer {
        header: Header::new(description.host, Window::between(&start, &last), coverage),
        path: CleanText::from(request.path.to_string_lossy().as_ref()),
        samples,
        connections: connections.map(|connections| connections.ended),
        bytes,
    })
}

/// What is being written of the protocols' counters.
struct Protocols<'a> {
    source: &'a dyn Source,
    /// When they were last read.
    read: Option<Moment>,
}

impl Protocols<'_> {
    /// Writes the counters, unless that was done less than `every` ago or the source has none.
    fn write(&mut self, writer: &mut Writer, at: &Moment, every: Duration) -> Result<()> {
        if self.read.is_some_and(|read| at.since(&read) < every) {
            return Ok(());
        }
        let snapshot = match self.source.protocol_counters(at) {
            Ok(snapshot) => snapshot,
            Err(Error::NotInSource { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        // A recording that is recorded may have none since.
        if self.read.is_some_and(|read| snapshot.at.boot_ns <= read.boot_ns) {
            return Ok(());
        }
        self.read = Some(snapshot.at);
        writer.write(&Line::Protocols(Box::new(snapshot)))?;
        writer.flush()
    }
}

/// What is being written of connections.
struct Connections<'a> {
    source: &'a dyn Source,
    /// Keeps the hooks attached.
    _guard: Box<dyn std::any::Any + Send + Sync>,
    observed: Observed,
    cursor: ChangeCursor,
    /// Changes that the source told of before their time, as a recording does.
    early: VecDeque<ConnectionFact>,
    /// When all sockets were last listed.
    listed: Option<Moment>,
    ended: u64,
    lost: u64,
}

impl<'a> Connections<'a> {
    /// `None` where the source has none.
    fn observe(source: &'a dyn Source) -> Result<Option<Self>> {
        let observation = match source.observe() {
            Ok(observation) => observation,
            Err(Error::NotInSource { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        // An empty span, for what it is observed with.
        let span = Span { from: observation.from, to: observation.from };
        let observed = source.connections(&span, &Filter::everything(), &mut |_| {})?;
        Ok(Some(Self {
            source,
            _guard: observation.guard,
            observed: Observed { lost_events: 0, forgotten: 0, ..observed },
            cursor: observation.cursor,
            early: VecDeque::new(),
            listed: None,
            ended: 0,
            lost: 0,
        }))
    }

    /// Writes the changes up to a moment.
    fn write_changes(&mut self, writer: &mut Writer, until: &Moment) -> Result<()> {
        loop {
            while let Some(fact) = self.early.pop_front() {
                if changed_ns(&fact) > until.boot_ns {
                    self.early.push_front(fact);
                    return writer.flush();
                }
                self.write_change(writer, fact)?;
            }
            if !self.fetch(writer)? {
                return writer.flush();
            }
        }
    }

    /// Writes the changes up to the last moment, those too that come behind later ones.
    fn write_last_changes(&mut self, writer: &mut Writer, until: &Moment) -> Result<()> {
        loop {
            let (due, late): (Vec<_>, Vec<_>) =
                self.early.drain(..).partition(|fact| changed_ns(fact) <= until.boot_ns);
            let all_late = due.is_empty() && !late.is_empty();
            for fact in due {
                self.write_change(writer, fact)?;
            }
            if all_late || !self.fetch(writer)? {
                return writer.flush();
            }
        }
    }

    fn write_change(&mut self, writer: &mut Writer, fact: ConnectionFact) -> Result<()> {
        self.ended += u64::from(fact.is_over());
        writer.write(&Line::Connection(fact))
    }

    /// Takes the next changes from the source. False when there are none.
    fn fetch(&mut self, writer: &mut Writer) -> Result<bool> {
        // A token of its own, so that what came before a cancelled wait is written.
        let changes = match self.source.changes(self.cursor, Duration::ZERO, &Cancel::new()) {
            Ok(changes) => changes,
            Err(Error::RecordingEnded { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        self.cursor = changes.next;
        if changes.missed > 0 {
            self.lost = self.lost.saturating_add(changes.missed);
            writer.write(&Line::Lost(Loss { at: changes.at, count: changes.missed }))?;
        }
        let some = !changes.connections.is_empty();
        self.early.extend(changes.connections);
        Ok(some)
    }

    /// Writes all sockets, unless that was done less than `every` ago.
    fn write_sockets(&mut self, writer: &mut Writer, at: &Moment, every: Duration) -> Result<()> {
        if self.listed.is_some_and(|listed| at.since(&listed) < every) {
            return Ok(());
        }
        let snapshot = match self.source.sockets(at) {
            Ok(snapshot) => snapshot,
            Err(Error::NotInSource { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        // A recording that is recorded may have none since.
        if self.listed.is_some_and(|listed| snapshot.at.boot_ns <= listed.boot_ns) {
            return Ok(());
        }
        self.listed = Some(snapshot.at);
        writer.write(&Line::Sockets(snapshot))?;
        writer.flush()
    }
}

/// What is being written of dropped packets.
struct Drops<'a> {
    source: &'a dyn Source,
    observation: super::Observation,
    /// When they were last written.
    written: Option<Moment>,
}

impl<'a> Drops<'a> {
    /// `None` where the source cannot tell of any: its hooks say why.
    fn observe(source: &'a dyn Source) -> Result<Option<Self>> {
        match source.observe_drops() {
            Ok(observation) => Ok(Some(Self { source, observation, written: None })),
            Err(Error::NotInSource { .. } | Error::HookMissing { .. } | Error::Told { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes all kinds, unless that was done less than `every` ago.
    fn write(&mut self, writer: &mut Writer, at: &Moment, every: Duration) -> Result<()> {
        if self.written.is_some_and(|written| at.since(&written) < every || at.boot_ns <= written.boot_ns) {
            return Ok(());
        }
        let span = Span { from: self.observation.from, to: *at };
        let mut facts = Vec::new();
        let observed = self.source.drops(&span, &Filter::everything(), &mut |sighting| {
            facts.push(sighting.fact.clone());
        })?;
        // The same facts make the same line.
        facts.sort_by_cached_key(|fact| {
            let owner = fact.process.as_ref().map(|process| (process.pid, process.started));
            let way = fact.direction == Direction::Outgoing;
            (fact.reason.clone(), fact.local_port, owner, fact.protocol, fact.family, fact.netns, way)
        });
        self.written = Some(*at);
        writer.write(&Line::Drops(DropSnapshot::new(*at, facts, observed)))?;
        writer.flush()
    }
}

/// Writes lines; all are in the file when `flush` returns, so that a killed recorder leaves all but the last.
struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl Writer {
    fn create(path: &Path, overwrite: bool) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true);
        if overwrite {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        match options.open(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file: BufWriter::new(file), bytes: 0 }),
            Err(source) => {
                let reason = match source.kind() {
                    io::ErrorKind::AlreadyExists => {
                        "the file exists; choose another name, or replace it with --force".to_owned()
                    }
                    _ => format!("cannot create it: {source}"),
                };
                Err(Error::Recording { path: path.to_owned(), reason, source: Some(source) })
            }
        }
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let written = serde_json::to_vec(line).map_err(io::Error::other).and_then(|mut bytes| {
            bytes.push(b'\n');
            self.file.write_all(&bytes)?;
            Ok(bytes.len() as u64)
        });
        self.bytes += written.map_err(|source| self.failed(source))?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|source| self.failed(source))
    }

    fn finish(mut self) -> Result<u64> {
        self.flush()?;
        Ok(self.bytes)
    }

    fn failed(&self, source: io::Error) -> Error {
        let reason = format!("cannot write to it after {} bytes: {source}", self.bytes);
        Error::Recording { path: self.path.clone(), reason, source: Some(source) }
    }
}
