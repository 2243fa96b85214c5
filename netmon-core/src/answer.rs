//! What every answer has: when and where it was observed, by what, and what is missing.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    clean::CleanText,
    fact::{Hook, Moment},
    view::Table,
};

/// The version of the JSON of answers. It grows when a field changes its meaning; new fields do not change it.
pub const SCHEMA_VERSION: u32 = 1;

/// What every answer starts with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Header {
    /// The version of this JSON: 1.
    pub schema_version: u32,
    /// The name of the host that was observed.
    pub host: CleanText,
    /// The time that was really observed.
    pub window: Window,
    /// What was observed with, and what is missing or lost.
    pub coverage: Coverage,
}

impl Header {
    pub(crate) fn new(host: CleanText, window: Window, coverage: Coverage) -> Self {
        Self { schema_version: SCHEMA_VERSION, host, window, coverage }
    }

    /// Adds what a later answer to the same question observed, so that this is about both.
    pub fn extend(&mut self, later: &Self) {
        self.window.to = later.window.to;
        self.window.seconds += later.window.seconds;
        let (coverage, more) = (&mut self.coverage, &later.coverage);
        add_new(&mut coverage.active_hooks, &more.active_hooks);
        add_new(&mut coverage.missing_hooks, &more.missing_hooks);
        add_new(&mut coverage.warnings, &more.warnings);
        coverage.lost_events += more.lost_events;
        coverage.truncated |= more.truncated;
    }
}

/// Adds what is not there yet, in order.
pub(crate) fn add_new<T: Clone + PartialEq>(all: &mut Vec<T>, more: &[T]) {
    for item in more {
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
}

/// The time that an answer is about, as it was really observed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Window {
    /// Its start, on the host's wall clock.
    pub from: Timestamp,
    /// Its end. Where the wall clock was stepped meanwhile, `seconds` is right and `to - from` is not.
    pub to: Timestamp,
    /// Its length in seconds, on a clock that is never stepped. 0 for an answer about a moment.
    pub seconds: f64,
}

impl Window {
    pub(crate) fn between(from: &Moment, to: &Moment) -> Self {
        Self { from: from.wall, to: to.wall, seconds: to.since(from).as_secs_f64() }
    }
}

/// What an answer was observed with, and what is missing or lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Coverage {
    /// Where the facts come from: `live`, or `replay` for a recording.
    pub source: CleanText,
    /// The hooks that took part.
    pub active_hooks: Vec<Hook>,
    /// The hooks that did not though they would have added something, with what that hides.
    pub missing_hooks: Vec<MissingHook>,
    /// Events that were lost on their way, as far as is known. Counters lose none.
    pub lost_events: u64,
    /// Whether rows were left out of this answer.
    pub truncated: bool,
    /// What else the reader should know of how this was observed.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Coverage {
    /// What is missing and what would help, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.warnings.clone();
        for missing in &self.missing_hooks {
            let fix = missing.fix.as_ref().map(|fix| format!("; {fix}")).unwrap_or_default();
            notes.push(format!("not shown: {} ({}: {}){fix}", missing.hides, missing.hook, missing.reason));
        }
        if self.lost_events > 0 {
            notes.push(format!("{} events were lost and are not in these numbers", self.lost_events));
        }
        notes
    }
}

/// A hook that took no part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MissingHook {
    /// The hook.
    pub hook: Hook,
    /// Why it took no part.
    #[serde(deserialize_with = "crate::clean::sentences")]
    pub reason: String,
    /// What cannot be known without it.
    #[serde(deserialize_with = "crate::clean::sentences")]
    pub hides: String,
    /// What would make it work, where something would.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// An answer: data with a digest ([`Display`](fmt::Display), one to a few lines), rows, and tables for people.
///
/// Front ends need nothing else to print one in every format.
pub trait Answer: Serialize + fmt::Display {
    /// One row.
    type Row: Row;

    /// Window, coverage and host.
    fn header(&self) -> &Header;

    /// The rows, in the answer's order.
    fn rows(&self) -> &[Self::Row];

    /// The columns of CSV.
    fn csv_columns(&self) -> Vec<&'static str> {
        Self::Row::CSV_COLUMNS.to_vec()
    }

    /// What stands above the tables: the digest, or as much of it as they do not say better.
    fn heading(&self) -> String {
        self.to_string()
    }

    /// The rows and what belongs to them, laid out for people.
    fn tables(&self) -> Vec<Table>;

    /// What people are shown without a change, below the tables.
    fn as_it_is(&self) -> Option<String> {
        None
    }

    /// What is missing and what would help, a sentence each, for people.
    fn notes(&self) -> Vec<String> {
        self.header().coverage.notes()
    }
}

/// A row of an answer, for formats of one row a line.
pub trait Row: Serialize {
    /// The value of `type` in JSON lines.
    const TYPE: &'static str;
    /// The columns of CSV. Numbers in them are raw, times RFC 3339.
    const CSV_COLUMNS: &'static [&'static str];

    /// The fields of CSV, one a column; empty where a value is not known.
    fn csv_fields(&self) -> Vec<String>;
}

/// A row as a line of JSON has it: with its type, and the window that it is about where that is known already.
#[derive(Debug, Serialize)]
pub struct Line<'a, R> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<&'a Window>,
    #[serde(flatten)]
    row: &'a R,
}

impl<'a, R: Row> Line<'a, R> {
    /// The line of a row of this answer.
    pub fn new(header: &'a Header, row: &'a R) -> Self {
        Self { kind: R::TYPE, window: Some(&header.window), row }
    }

    /// The line of a row that a watch tells of, whose window has not ended.
    pub fn of_watch(row: &'a R) -> Self {
        Self { kind: R::TYPE, window: None, row }
    }
}

/// The last of an answer's JSON lines, which says what the lines before are worth.
#[derive(Debug, Serialize)]
pub struct EndLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    header: &'a Header,
}

impl<'a> EndLine<'a> {
    /// The end of an answer with this header.
    pub fn new(header: &'a Header) -> Self {
        Self { kind: "end", header }
    }
}
