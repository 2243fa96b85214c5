//! The format of recordings, and writing them.
//!
//! A recording is UTF-8 JSON lines. The first is a [`RecordingHeader`]; each other has a `type`, of which this version
//! knows `interfaces` (an [`InterfaceSnapshot`]). A reader passes over types that it does not know and says so, so new
//! kinds of facts do not need a new version; that grows when an old line changes its meaning.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Source, SourceDescription};
use crate::{
    answer::{Coverage, Header, MissingHook, Window},
    clean::CleanText,
    control::Control,
    error::{Error, Result},
    fact::{HookStatus, InterfaceSnapshot, Moment},
    monitor::{self, RecordAnswer},
    request::{RateRequest, check_window},
};

/// The value of `format` in the first line.
pub const FORMAT: &str = "netmon-recording";
/// The version that this library writes, and the newest that it reads.
pub const VERSION: u32 = 1;

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
}

/// Any other line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line {
    Interfaces(InterfaceSnapshot),
    /// Written by a later version.
    #[serde(other)]
    Unknown,
}

/// What to record. Protocol counts are recorded for the chosen interfaces; the kernel's own counters for all.
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

    let mut writer = Writer::create(&request.path, request.overwrite)?;
    let description = source.describe();
    writer.write(&RecordingHeader {
        format: FORMAT.to_owned(),
        version: VERSION,
        recorded_by: CleanText::from(concat!("netmon ", env!("CARGO_PKG_VERSION"))),
        source: description.clone(),
        hooks: source.hooks()?,
        missing_hooks: counting.missing.clone(),
    })?;

    let mut samples = 0_u64;
    let mut at = source.start()?;
    let start = at;
    let mut last: Moment;
    loop {
        let snapshot = source.interfaces(&at)?;
        last = snapshot.at;
        writer.write(&Line::Interfaces(snapshot))?;
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
    let bytes = writer.finish()?;

    let coverage = Coverage {
        source: description.kind,
        active_hooks: counting.active_hooks(),
        missing_hooks: counting.missing,
        warnings: counting.warnings,
        ..Coverage::default()
    };
    Ok(RecordAnswer {
        header: Header::new(description.host, Window::between(&start, &last), coverage),
        path: CleanText::from(request.path.to_string_lossy().as_ref()),
        samples,
        bytes,
    })
}

/// Writes lines; each is in the file when `write` returns, so that a killed recorder leaves all but its last.
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
            self.file.flush()?;
            Ok(bytes.len() as u64)
        });
        self.bytes += written.map_err(|source| self.failed(source))?;
        Ok(())
    }

    fn finish(mut self) -> Result<u64> {
        self.file.flush().map_err(|source| self.failed(source))?;
        Ok(self.bytes)
    }

    fn failed(&self, source: io::Error) -> Error {
        let reason = format!("cannot write to it after {} bytes: {source}", self.bytes);
        Error::Recording { path: self.path.clone(), reason, source: Some(source) }
    }
}
