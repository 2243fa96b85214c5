//! What crosses between a [`RemoteSource`](super::RemoteSource) and a daemon, besides requests, answers and facts.
//!
//! Every method of [`Source`](crate::Source) is `POST /v1/facts/{method}` with a JSON object, empty where nothing needs to
//! be said; every question of [`Question`](crate::source::Question) is `POST /v1/{question}` with its request. Errors are
//! [`Problem`]s.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    answer::MissingHook,
    clean::CleanText,
    error::{Error, ErrorKind},
    fact::{ConnectionFact, Direction, DropCounts, DropFact, Hook, Moment, Observed, Traffic},
    filter::Filter,
    request::HookChoice,
    source::{ChangeCursor, Span},
};

/// The type of the body of an error.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// The type of a body of one JSON value a line.
pub const NDJSON: &str = "application/x-ndjson";
/// What the `type` of a problem begins with; an [`ErrorKind`] follows.
pub const PROBLEM_TYPE: &str = "urn:netmon:problem:";
/// The longest that a daemon waits before it answers that nothing has come yet.
pub const LONGEST_PATIENCE: Duration = Duration::from_secs(30);

/// An error as HTTP tells it: RFC 9457.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Problem {
    /// `urn:netmon:problem:` and what it is about.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for everything of this type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time.
    pub detail: String,
    /// What the reader can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where a recording ends, if that is what is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl Problem {
    /// A problem of this kind, with the status that it has in HTTP.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        let (status, title) = status(kind);
        let name = serde_json::to_value(kind).ok();
        let name = name.as_ref().and_then(|name| name.as_str()).unwrap_or("other");
        Self {
            kind: format!("{PROBLEM_TYPE}{name}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            hint: None,
            at: None,
        }
    }

    /// The same, with what the reader can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// What it is about.
    pub fn error_kind(&self) -> ErrorKind {
        let name = self.kind.strip_prefix(PROBLEM_TYPE).unwrap_or_default();
        serde_json::from_value(name.into()).unwrap_or(ErrorKind::Other)
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let mut problem = Self::new(error.kind(), error.with_cause()).with_hint(error.hint());
        if let Error::RecordingEnded { at } = error {
            problem.at = Some(*at);
        }
        problem
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        match (problem.error_kind(), problem.at) {
            (ErrorKind::RecordingEnded, Some(at)) => Self::RecordingEnded { at },
            (ErrorKind::Cancelled, _) => Self::Cancelled,
            (kind, _) => Self::Told {
                kind,
                message: lines(&problem.detail),
                hint: problem.hint.as_deref().map(CleanText::from),
            },
        }
    }
}

/// A message, of which the lines of a pointed-at filter are kept apart.
fn lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| CleanText::from(line).to_string()).collect();
    lines.join("\n")
}

fn status(kind: ErrorKind) -> (u16, &'static str) {
    match kind {
        ErrorKind::WindowOutOfRange | ErrorKind::InvalidRequest | ErrorKind::Filter => {
            (400, "The question cannot be understood")
        }
        ErrorKind::Unauthorized => (401, "Nobody knows who asks"),
        ErrorKind::Forbidden => (403, "Not for you to see"),
        ErrorKind::UnknownInterface | ErrorKind::NoInterfaceUp => (404, "There is no such interface"),
        ErrorKind::NotFound => (404, "There is nothing here"),
        ErrorKind::InterfaceGone => (409, "The interface disappeared"),
        ErrorKind::HookUnavailable => (409, "The hook cannot be used"),
        ErrorKind::RecordingEnded => (409, "The recording has ended"),
        ErrorKind::NotInSource => (409, "The source has no such facts"),
        ErrorKind::Busy => (429, "Too much at once"),
        ErrorKind::Cancelled => (503, "The daemon is about to end"),
        ErrorKind::Unreachable => (502, "Another daemon does not answer"),
        _ => (500, "The daemon could not do it"),
    }
}

/// Asks for something at a moment.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtRequest {
    /// The moment.
    pub at: Moment,
}

/// Asks to wait.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// Since when.
    pub from: Moment,
    /// For how long after that.
    pub window_ns: u64,
    /// How long the daemon may take before it answers.
    pub patience_ms: u64,
}

/// The end of a wait.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct WaitReply {
    /// When it ended; `None` where it has not yet.
    pub moment: Option<Moment>,
}

/// Asks for an interface to be counted, as long as the reply is being read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountRequest {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: CleanText,
    /// Whether its frames start with an Ethernet header.
    pub ethernet: bool,
    /// Which ways.
    pub directions: Vec<Direction>,
    /// How.
    pub hook: HookChoice,
}

/// What is being counted: the first line of the reply. Empty lines follow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CountReply {
    /// The hook that counts, for each direction that is counted.
    pub active: Vec<(Direction, Hook)>,
    /// What could not be attached.
    pub missing: Vec<MissingHook>,
    /// What the caller should know of what was attached.
    #[serde(deserialize_with = "crate::clean::sentences")]
    pub warnings: Vec<String>,
}

/// From when on nothing is missed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ObserveReply {
    /// The moment.
    pub from: Moment,
    /// The place after which its first change comes.
    pub cursor: ChangeCursor,
}

/// Asks what was observed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedRequest {
    /// How far back.
    #[serde(default)]
    pub since_ns: Option<u64>,
}

/// Asks for connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SightingsRequest {
    /// Of which time.
    pub span: Span,
    /// Which.
    #[serde(default)]
    pub filter: Filter,
}

/// A line of the reply to a [`SightingsRequest`]; the last is not a connection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", try_from = "AnyLine")]
pub enum SightingLine<'a> {
    /// One connection.
    Connection {
        /// It.
        fact: Cow<'a, ConnectionFact>,
        /// Its counters when the span began.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<Traffic>,
    },
    /// These were all.
    End {
        /// What they were observed with.
        observed: Observed,
    },
    /// There would have been more.
    Failed {
        /// Why they are not there.
        problem: Problem,
    },
    /// Those alone that were active would be no cheaper to tell: all should be asked for.
    AskForAll,
}

/// The same as it is read: by its type, a line would be kept as a whole until that is known, which takes longer than the
/// rest of reading it.
#[derive(Deserialize)]
struct AnyLine {
    #[serde(rename = "type")]
    kind: LineKind,
    fact: Option<ConnectionFact>,
    before: Option<Traffic>,
    observed: Option<Observed>,
    problem: Option<Problem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineKind {
    Connection,
    End,
    Failed,
    AskForAll,
}

impl TryFrom<AnyLine> for SightingLine<'_> {
    type Error = &'static str;

    fn try_from(line: AnyLine) -> Result<Self, Self::Error> {
        let AnyLine { kind, fact, before, observed, problem } = line;
        let line = match kind {
            LineKind::Connection => fact.map(|fact| Self::Connection { fact: Cow::Owned(fact), before }),
            LineKind::End => observed.map(|observed| Self::End { observed }),
            LineKind::Failed => problem.map(|problem| Self::Failed { problem }),
            LineKind::AskForAll => Some(Self::AskForAll),
        };
        line.ok_or("a line lacks what it is about")
    }
}

/// A line of the reply to a [`SightingsRequest`] for dropped packets; the last is not a drop.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DropLine {
    /// Drops of one kind.
    Drop {
        /// They.
        fact: Box<DropFact>,
        /// Their counts when the span began.
        before: DropCounts,
    },
    /// These were all.
    End {
        /// What they were observed with.
        observed: Observed,
    },
}

/// Asks for changes of connections.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangesRequest {
    /// After which place.
    pub after: ChangeCursor,
    /// How long to wait for the first.
    pub patience_ms: u64,
}

/// Asks whether a filter may be used.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermitRequest {
    /// The filter.
    pub filter: Filter,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{ConnectionState, Protocol};

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let local = ([10, 0, 0, 1], 443).into();
        let fact = ConnectionFact::new(7, Protocol::Tcp, ConnectionState::Open, local);
        let before = Some(Traffic { payload_bytes_sent: 5, ..Traffic::default() });
        let line = SightingLine::Connection { fact: Cow::Borrowed(&fact), before };
        let written = serde_json::to_string(&line).unwrap();
        assert!(written.starts_with(r#"{"type":"connection","fact":{"cookie":7,"#), "{written}");
        match serde_json::from_str(&written).unwrap() {
            SightingLine::Connection { fact: read, before: then } => {
                assert_eq!((&*read, then), (&fact, before));
            }
            other => panic!("{other:?}"),
        }
        let end = SightingLine::End { observed: Observed::default() };
        let written = serde_json::to_string(&end).unwrap();
        assert!(matches!(serde_json::from_str(&written).unwrap(), SightingLine::End { .. }), "{written}");
        let problem = Problem::new(ErrorKind::Busy, "later");
        let written = serde_json::to_string(&SightingLine::Failed { problem: problem.clone() }).unwrap();
        match serde_json::from_str(&written).unwrap() {
            SightingLine::Failed { problem: read } => assert_eq!(read, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_without_its_content_is_refused() {
        for line in
            [r#"{"type":"connection"}"#, r#"{"type":"end","problem":null}"#, r#"{"type":"more"}"#, "{}"]
        {
            assert!(serde_json::from_str::<SightingLine<'_>>(line).is_err(), "{line}");
        }
    }
}
