//! The connections of a host, one row each.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize, Serializer};

use super::{
    connection::{Connection, SelectedFields},
    observe::{self, Scope, Watched},
    page::{self, Cursor, Page},
};
use crate::{
    answer::{Answer, Header, add_new},
    control::{Cancel, Control},
    error::{Error, Result},
    fact::{Attribution, ConnectionFact, ConnectionState, Moment, Observed},
    request::ConnectionsRequest,
    source::{ChangeCursor, Observation, Source, Span},
    view::{Cell, Column, Table, units},
};

/// Connections that were open at some time in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ConnectionsAnswer {
    /// Host, window and coverage.
    #[serde(flatten)]
    pub header: Header,
    /// How far back the question went. Absent where it named no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_seconds: Option<f64>,
    /// How many connections there are in all, those on other pages included.
    pub total: u64,
    /// The same by state.
    pub by_state: StateCounts,
    /// The same by how the owner is known.
    pub by_attribution: AttributionCounts,
    /// What to ask with for the rows after these. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// One row a connection, in the order asked for.
    pub connections: Vec<Connection>,
}

/// How many connections are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct StateCounts {
    /// Their handshake is not done.
    pub opening: u64,
    /// They carry data.
    pub open: u64,
    /// They ended in the window.
    pub closed: u64,
    /// They failed in the window.
    pub failed: u64,
    /// They wait for others to connect.
    pub listening: u64,
}

impl StateCounts {
    pub(super) fn count(&mut self, state: ConnectionState) {
        *match state {
            ConnectionState::Opening => &mut self.opening,
            ConnectionState::Open => &mut self.open,
            ConnectionState::Closed => &mut self.closed,
            ConnectionState::Failed => &mut self.failed,
            ConnectionState::Listening => &mut self.listening,
        } += 1;
    }

    /// Those that are not none, in words.
    pub(super) fn in_words(&self) -> String {
        words([
            (self.opening, "opening"),
            (self.open, "open"),
            (self.closed, "closed"),
            (self.failed, "failed"),
            (self.listening, "listening"),
        ])
    }
}

/// How the owners of connections are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct AttributionCounts {
    /// The process itself was seen with it.
    pub exact: u64,
    /// The listener's process accepted it, and nobody was seen to use it since.
    pub inherited: u64,
    /// The process held the socket when all were listed.
    pub snapshot: u64,
    /// Nobody was seen with it.
    pub unknown: u64,
}

impl AttributionCounts {
    pub(super) fn count(&mut self, attribution: Attribution) {
        *match attribution {
            Attribution::Exact => &mut self.exact,
            Attribution::Inherited => &mut self.inherited,
            Attribution::Snapshot => &mut self.snapshot,
            Attribution::Unknown => &mut self.unknown,
        } += 1;
    }

    /// Those that are not none, in words.
    pub(super) fn in_words(&self) -> String {
        words([
            (self.exact, "exact"),
            (self.inherited, "inherited"),
            (self.snapshot, "snapshot"),
            (self.unknown, "unknown"),
        ])
    }
}

fn words<const N: usize>(counts: [(u64, &str); N]) -> String {
    let some = counts.iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> = some.map(|(count, name)| format!("{} {name}", units::count(*count))).collect();
    words.join(", ")
}

/// Answers a request; see [`Monitor::connections`](crate::Monitor::connections).
pub(super) fn connections(
    source: &dyn Source,
    request: &ConnectionsRequest,
    control: &Control<'_>,
) -> Result<ConnectionsAnswer> {
    request.check()?;
    let cursor = page::cursor_of(request)?;
    let description = source.describe();
    let scope = Scope::new(&request.filter, &request.states, source, &control.cancel)?;
    let watched = match &cursor {
        Some(cursor) => watched_before(source, cursor, request.since)?,
        None => observe::watch(source, request.since, request.window, control)?,
    };

    let mut rows = Rows {
        page: Page::new(request, cursor.as_ref(), &watched.span),
        total: 0,
        by_state: StateCounts::default(),
        by_attribution: AttributionCounts::default(),
    };
    let observed = visit(source, &scope, &watched, &mut rows)?;
    let (connections, next_cursor) = rows.page.finish(request, &watched.span);
    Ok(ConnectionsAnswer {
        requested_seconds: request.since.map(|since| since.as_secs_f64()),
        total: rows.total,
        by_state: rows.by_state,
        by_attribution: rows.by_attribution,
        connections,
        header: observe::header(description, &watched, observed, next_cursor.is_some()),
        next_cursor,
    })
}

/// The window of an earlier page.
fn watched_before(source: &dyn Source, cursor: &Cursor, since: Option<Duration>) -> Result<Watched> {
    let (span, warnings) = match source.observed(None)? {
        Some(recorded) if recorded.to.boot_ns < cursor.to.boot_ns => {
            return Err(Error::InvalidRequest(
                "this cursor is about a time that the source does not know; ask anew without it".to_owned(),
            ));
        }
        Some(_) => {
            let warning = observe::shorter_than_asked(&cursor.span(), since);
            (cursor.span(), warning.into_iter().collect())
        }
        None => {
            let warning = "nothing is recording, so what ended since the page before is not on this one";
            (cursor.span(), vec![warning.to_owned()])
        }
    };
    Ok(Watched::again(span, warnings))
}

struct Rows {
    page: Page,
    total: u64,
    by_state: StateCounts,
    by_attribution: AttributionCounts,
}

impl Rows {
    fn add(&mut self, fact: &ConnectionFact, within: Option<crate::fact::Traffic>) {
        self.total += 1;
        self.by_state.count(fact.state);
        self.by_attribution.count(fact.attribution);
        self.page.add(fact, within);
    }
}

fn visit(source: &dyn Source, scope: &Scope, watched: &Watched, rows: &mut Rows) -> Result<Observed> {
    let span = &watched.span;
    let mut observed = Observed::default();
    if !scope.only_listeners() {
        observed = source.connections(span, &scope.filter, &mut |sighting| {
            let ended = sighting.fact.is_over();
            if scope.takes(sighting.fact) && !(watched.only_open && ended) {
                // Nothing goes over a connection within a moment.
                let within = if watched.only_open { None } else { sighting.traffic_within(span) };
                rows.add(sighting.fact, within);
            }
        })?;
    }
    if scope.asks_for(ConnectionState::Listening) {
        let snapshot = source.sockets(&span.to)?;
        let listeners =
            snapshot.sockets.iter().filter(|socket| socket.connection.state == ConnectionState::Listening);
        for listener in listeners.filter(|socket| scope.filter.matches(&socket.connection)) {
            if scope.takes(&listener.connection) {
                rows.add(&listener.connection, None);
            }
        }
        add_new(&mut observed.active_hooks, &snapshot.observed.active_hooks);
        add_new(&mut observed.missing_hooks, &snapshot.observed.missing_hooks);
        add_new(&mut observed.warnings, &snapshot.observed.warnings);
    }
    Ok(observed)
}

impl ConnectionsAnswer {
    /// The same answer with chosen fields of its rows alone, see [`Connection::FIELDS`].
    ///
    /// # Errors
    /// As [`Connection::only`].
    pub fn only(&self, fields: &[impl AsRef<str>]) -> Result<SelectedConnections<'_>> {
        Ok(SelectedConnections {
            answer: self,
            columns: Connection::columns_of(fields)?,
            rows: self.connections.iter().map(|row| row.only(fields)).collect::<Result<_>>()?,
        })
    }

    /// The rows as lines of `time | address | protocol | process`, at most so many, and how many more there are: the form
    /// that netspy prints below the first line. Each ends in a line feed.
    pub fn event_lines(&self, most: usize) -> String {
        self.lines(most, |row| row.process.as_ref().map(|process| process.comm.to_string()))
    }

    /// The same with the number of the process instead of its name, which others chose.
    pub fn event_lines_by_number(&self, most: usize) -> String {
        self.lines(most, |row| row.process.as_ref().map(|process| format!("pid {}", process.pid)))
    }

    fn lines(&self, most: usize, process: impl Fn(&Connection) -> Option<String>) -> String {
        let mut text = String::new();
        for row in self.connections.iter().take(most) {
            let time = row.opened_at.or(row.closed_at).map_or_else(
                || "--:--:--".to_owned(),
                |at| at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string(),
            );
            let address = row.remote.as_ref().map_or(row.local, super::connection::RemoteEndpoint::endpoint);
            let process = process(row).unwrap_or_else(|| "unknown".to_owned());
            let protocol = row.protocol.name().to_uppercase();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {time} | {address} | {protocol} | {process}");
        }
        let more = self.total.saturating_sub(self.connections.len().min(most) as u64);
        if more > 0 && !text.is_empty() {
            let _ = writeln!(text, "  ... and {more} more events");
        }
        text
    }
}

/// Which time was really observed, in words.
pub(super) fn observed_line(header: &Header, requested_seconds: Option<f64>) -> String {
    let observed = header.window.seconds;
    let length = |seconds: f64| {
        let duration = Duration::try_from_secs_f64((seconds * 1e3).round() / 1e3).unwrap_or_default();
        units::seconds(duration)
    };
    match requested_seconds {
        _ if observed <= 0.0 => "At this moment".to_owned(),
        Some(requested) if observed < requested * 0.99 => {
            format!("Observed only {} of these {}", length(observed), length(requested))
        }
        _ => format!("Observed over {}", length(observed)),
    }
}

impl fmt::Display for ConnectionsAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let observed = observed_line(&self.header, self.requested_seconds);
        if self.total == 0 {
            return write!(f, "No connection events found\n{observed}");
        }
        write!(
            f,
            "Recent connection events ({} total):\n{observed}: {}; owners: {}",
            self.total,
            self.by_state.in_words(),
            self.by_attribution.in_words(),
        )?;
        if (self.connections.len() as u64) < self.total {
            write!(f, "; {} shown", units::count(self.connections.len() as u64))?;
        }
        Ok(())
    }
}

impl Answer for ConnectionsAnswer {
    type Row = Connection;

    fn header(&self) -> &Header {
        &self.header
    }

    fn rows(&self) -> &[Connection] {
        &self.connections
    }

    fn tables(&self) -> Vec<Table> {
        let none: &[(Column, &dyn Fn(usize) -> Cell)] = &[];
        vec![Connection::table(self.connections.iter(), none)]
    }
}

/// An answer with chosen fields of its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectedConnections<'a> {
    answer: &'a ConnectionsAnswer,
    columns: Vec<Column>,
    rows: Vec<SelectedFields>,
}

impl fmt::Display for SelectedConnections<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.answer.fmt(f)
    }
}

impl Serialize for SelectedConnections<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Selected<'a> {
            #[serde(flatten)]
            header: &'a Header,
            #[serde(skip_serializing_if = "Option::is_none")]
            requested_seconds: Option<f64>,
            total: u64,
            by_state: StateCounts,
            by_attribution: AttributionCounts,
            #[serde(skip_serializing_if = "Option::is_none")]
            next_cursor: Option<&'a str>,
            connections: &'a [SelectedFields],
        }
        let ConnectionsAnswer {
            header,
            requested_seconds,
            total,
            by_state,
            by_attribution,
            next_cursor,
            connections: _,
        } = self.answer;
        Selected {
            header,
            requested_seconds: *requested_seconds,
            total: *total,
            by_state: *by_state,
            by_attribution: *by_attribution,
            next_cursor: next_cursor.as_deref(),
            connections: &self.rows,
        }
        .serialize(serializer)
    }
}

impl Answer for SelectedConnections<'_> {
    type Row = SelectedFields;

    fn header(&self) -> &Header {
        &self.answer.header
    }

    fn rows(&self) -> &[SelectedFields] {
        &self.rows
    }

    fn csv_columns(&self) -> Vec<&'static str> {
        self.columns.iter().map(|column| column.title).collect()
    }

    fn tables(&self) -> Vec<Table> {
        let rows = self.rows.iter().map(SelectedFields::cells).collect();
        vec![Table { columns: self.columns.clone(), rows }]
    }
}

/// Changes of connections as they come, for callers with a loop of their own: it has no thread and does nothing between
/// two calls. Hooks stay attached while it lives.
#[must_use = "nothing is observed when it is dropped"]
pub struct ConnectionWatch {
    source: Arc<dyn Source>,
    scope: Scope,
    observation: Observation,
    cursor: ChangeCursor,
    at: Moment,
    missed: u64,
}

impl fmt::Debug for ConnectionWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionWatch")
            .field("observation", &self.observation)
            .field("cursor", &self.cursor)
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}

impl ConnectionWatch {
    pub(super) fn begin(source: Arc<dyn Source>, request: &ConnectionsRequest) -> Result<Self> {
        request.check()?;
        if request.cursor.is_some() {
            return Err(Error::InvalidRequest(
                "a watch tells of what is to come, so it takes no cursor".to_owned(),
            ));
        }
        let scope = Scope::new(&request.filter, &request.states, &*source, &Cancel::new())?;
        let observation = source.observe()?;
        let (cursor, at) = (observation.cursor, observation.from);
        Ok(Self { source, scope, observation, cursor, at, missed: 0 })
    }

    /// The connections that opened, were established, failed or ended since the last call, in order, each as it was then;
    /// waits for the first of them up to `timeout`. Empty when none came; with [`Duration::ZERO`] it returns at once.
    ///
    /// A connection comes again with each of its changes, under the same `id`. What went over it in a window is not told, nor
    /// how long it has lasted before its end.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::RecordingEnded`] after a recording's last change.
    pub fn next(&mut self, timeout: Duration, cancel: &Cancel) -> Result<Vec<Connection>> {
        let start = Instant::now();
        loop {
            let patience = timeout.saturating_sub(start.elapsed());
            let changes = self.source.changes(self.cursor, patience, cancel)?;
            self.cursor = changes.next;
            self.at = changes.at;
            self.missed = self.missed.saturating_add(changes.missed);
            let wanted = changes
                .connections
                .iter()
                .filter(|fact| self.scope.filter.matches(fact) && self.scope.takes(fact));
            let row_of = |fact: &ConnectionFact| {
                let row = Connection::new(fact, &changes.at, None);
                // It lasts on, and the moment of this call says nothing of it.
                let lasted = row.duration_seconds.filter(|_| fact.is_over());
                Connection { duration_seconds: lasted, ..row }
            };
            let rows: Vec<Connection> = wanted.map(row_of).collect();
            // Where changes came but none that was asked for, there may be time for another.
            if !rows.is_empty() || changes.connections.is_empty() || start.elapsed() >= timeout {
                return Ok(rows);
            }
        }
    }

    /// The place in the source's sequence of changes that the last call reached.
    pub fn cursor(&self) -> ChangeCursor {
        self.cursor
    }

    /// The same watch from a place that an earlier one of this source reached. What the source no longer knows of the time
    /// between is counted in [`ConnectionWatch::missed`].
    pub fn from_cursor(mut self, cursor: ChangeCursor) -> Self {
        self.cursor = cursor;
        self
    }

    /// How many changes were not told, of any connection: they came faster than this was called, or were lost.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Host, coverage, and the window from the beginning of the watch to the last call. About 1 us for each open socket of
    /// the host.
    ///
    /// # Errors
    /// As [`Source::connections`].
    pub fn header(&self) -> Result<Header> {
        let span = Span { from: self.observation.from, to: self.at };
        let mut observed =
            self.source.connections(&Span { from: self.at, to: self.at }, &self.scope.filter, &mut |_| {})?;
        // Those of that moment; the others are counted here.
        observed.forgotten = 0;
        observed.lost_events = observed.lost_events.max(self.missed);
        Ok(observe::header(self.source.describe(), &Watched::again(span, Vec::new()), observed, false))
    }
}
