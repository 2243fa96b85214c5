//! What all questions about connections share: their arguments, the time they are about, and what is said of a process
//! that nobody knows.

use std::time::Duration;

use netmon_core::{
    Answer, CleanText, ConnectionFilter, ConnectionsRequest, Control, Monitor, SocketsRequest,
    SummaryRequest,
    fact::ConnectionState,
    request::{ConnectionSort, DEFAULT_WINDOW, LONGEST_PAST, SHORTEST_WINDOW, check_window},
    source::SourceChoice,
    view::units,
};
use rmcp::{
    RoleServer,
    model::{CallToolResult, JsonObject},
    service::RequestContext,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{argument, command::Command};
use crate::{
    call::{Answered, Budget, Failure, ask, fitted},
    recording, schema,
    server::NetmonServer,
};

/// How far back netspy's tools look by themselves.
const DEFAULT_PAST: Duration = Duration::from_secs(60);
/// How many rows are asked for at once, at most; fewer where they would be too much to read.
const MOST_ROWS: u64 = 200;

/// The arguments of all tools about connections; each tool takes some of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Arguments {
    /// Only this process.
    #[serde(deserialize_with = "pid")]
    pid: Option<u32>,
    /// Only processes of this name; * is a wildcard.
    #[serde(deserialize_with = "process_name")]
    process_name: Option<String>,
    /// Seconds to look back.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "f64", extend("default" = 60))]
    duration: Option<Duration>,
    /// Look back 90s, 5m, 2h.
    #[serde(deserialize_with = "since")]
    #[schemars(with = "Option<String>")]
    since: Option<Duration>,
    /// Such as: failed and remote in 10.0.0.0/8 and not port == 443
    #[serde(deserialize_with = "filter")]
    filter: Option<String>,
    /// Listeners come only when asked for.
    #[serde(deserialize_with = "state")]
    state: Option<ConnectionState>,
    /// By default the newest first.
    #[serde(deserialize_with = "sort")]
    sort: Option<ConnectionSort>,
    /// The most rows, 200 at most.
    #[serde(deserialize_with = "limit")]
    limit: Option<u64>,
    /// Old name of `limit`.
    #[serde(deserialize_with = "max_events")]
    max_events: Option<u64>,
    /// `next_cursor` of an answer; all else as it was.
    #[serde(deserialize_with = "cursor")]
    cursor: Option<String>,
    /// Such as: why is it slow?
    #[serde(deserialize_with = "query")]
    query: Option<String>,
    /// A summary to explain beside the findings.
    #[serde(deserialize_with = "summary_text")]
    summary_text: Option<String>,
    /// detailed: all fields, up to 20 KB.
    #[serde(deserialize_with = "response_format")]
    #[schemars(with = "ResponseFormat", extend("default" = "concise"))]
    response_format: Option<ResponseFormat>,
}

/// How much of each row is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ResponseFormat {
    #[default]
    Concise,
    Detailed,
}

fn pid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    // netspy's 0 is nobody.
    let pid = argument::number(deserializer, "pid", "has to be the number of a process")?;
    Ok(pid.filter(|pid| *pid != 0))
}

fn process_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, "process_name", "has to be a name, such as \"curl\"")
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    argument::seconds(deserializer, "duration", "has to be a number of seconds, 0.1 to 604800")
}

fn since<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    argument::seconds(deserializer, "since", "has to be how far to look back, such as \"5m\" or \"90s\"")
}

fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, "filter", "has to be conditions, such as \"failed and port == 443\"")
}

fn state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ConnectionState>, D::Error> {
    let expected = "may be \"opening\", \"open\", \"closed\", \"failed\" or \"listening\"";
    argument::any(deserializer, "state", expected)
}

fn sort<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ConnectionSort>, D::Error> {
    let expected = "may be \"opened\", \"closed\", \"duration\", \"sent\", \"received\", \"bytes\", \"rtt\", \
                    \"retransmits\", \"latency\", \"process\", \"remote\" or \"state\"";
    argument::any(deserializer, "sort", expected)
}

fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    argument::number(deserializer, "limit", "has to be a number of rows, 1 to 200")
}

fn max_events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    argument::number(deserializer, "max_events", "has to be a number of rows, 1 to 200")
}

fn cursor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, "cursor", "has to be the `next_cursor` of an answer")
}

fn query<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, "query", "has to be a question in words")
}

fn summary_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, "summary_text", "has to be a text")
}

fn response_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ResponseFormat>, D::Error> {
    argument::any(deserializer, "response_format", "may be \"concise\" or \"detailed\"")
}

fn text<'de, D: Deserializer<'de>>(
    deserializer: D,
    name: &str,
    expected: &str,
) -> Result<Option<String>, D::Error> {
    let text = argument::any::<_, String>(deserializer, name, expected)?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// The schema of those of the arguments that a tool takes.
pub(super) fn schema(taken: &[&str]) -> JsonObject {
    let mut schema = schema::of_input::<Arguments>();
    if let Some(serde_json::Value::Object(properties)) = schema.get_mut("properties") {
        properties.retain(|name, _| taken.contains(&name.as_str()));
        for property in properties.values_mut().filter_map(serde_json::Value::as_object_mut) {
            property.remove("minimum");
        }
    }
    schema.insert("additionalProperties".to_owned(), false.into());
    schema
}

/// The same of a tool that looks back so many seconds by itself.
pub(super) fn schema_of_past(taken: &[&str], seconds: u64) -> JsonObject {
    let mut schema = schema(taken);
    if let Some(default) = schema.get_mut("properties").and_then(|all| all.pointer_mut("/duration/default")) {
        *default = seconds.into();
    }
    schema
}

/// A question as a tool was asked it.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) filter: ConnectionFilter,
    /// How far back; `None` for what the source tells by itself.
    pub(super) since: Option<Duration>,
    /// How long to observe where nobody did before.
    pub(super) window: Duration,
    pub(super) state: Option<ConnectionState>,
    pub(super) sort: ConnectionSort,
    pub(super) limit: Option<u64>,
    pub(super) cursor: Option<String>,
    pub(super) format: ResponseFormat,
    pub(super) query: Option<String>,
    pub(super) summary_text: Option<String>,
}

impl Question {
    /// Reads what a tool was called with. `taken` are the arguments that its schema has; those under `also` are taken too.
    pub(super) fn read(
        tool: &str,
        given: JsonObject,
        taken: &[&str],
        also: &[&str],
        past: Option<Duration>,
    ) -> Result<Self, Failure> {
        if let Some(unknown) =
            given.keys().find(|name| !taken.contains(&name.as_str()) && !also.contains(&name.as_str()))
        {
            return Err(Failure::new(format!(
                "{tool}: unknown argument `{}`, expected one of: {}",
                CleanText::from(unknown.as_str()),
                taken.join(", ")
            )));
        }
        let arguments: Arguments = super::arguments(tool, given)?;
        let wrong = |text: String| Failure::new(format!("{tool}: {text}"));
        let since =
            either(["since", "duration"], arguments.since, arguments.duration).map_err(wrong)?.or(past);
        if let Some(since) = since {
            check_window(since, LONGEST_PAST).map_err(|_| {
                wrong(format!("`since` and `duration` may be 0.1 s to 7 days, not {}", units::seconds(since)))
            })?;
        }
        let limit = either(["limit", "max_events"], arguments.limit, arguments.max_events).map_err(wrong)?;
        if limit == Some(0) {
            return Err(wrong("`limit` of 0 rows leaves nothing to show; it may be 1 to 200".to_owned()));
        }
        let mut filter = ConnectionFilter::default();
        filter.pid = arguments.pid;
        filter.process = arguments.process_name;
        filter.filter = arguments.filter;
        Ok(Self {
            filter,
            since,
            window: since.unwrap_or(DEFAULT_WINDOW).clamp(SHORTEST_WINDOW, DEFAULT_WINDOW),
            state: arguments.state,
            sort: arguments.sort.unwrap_or_default(),
            limit: limit.map(|limit| limit.min(MOST_ROWS)),
            cursor: arguments.cursor,
            format: arguments.response_format.unwrap_or_default(),
            query: arguments.query,
            summary_text: arguments.summary_text,
        })
    }

    /// As [`Question::read`], for the tools that look back a minute by themselves.
    pub(super) fn of_a_time(tool: &str, given: JsonObject, taken: &[&str]) -> Result<Self, Failure> {
        Self::read(tool, given, taken, &["max_events"], Some(DEFAULT_PAST))
    }

    /// How long its answer may be.
    pub(super) fn budget(&self) -> Budget {
        match (self.format, self.limit) {
            (ResponseFormat::Concise, None) => Budget::DEFAULT,
            _ => Budget::MOST,
        }
    }

    pub(super) fn is_brief(&self) -> bool {
        self.format == ResponseFormat::Concise
    }

    /// The command line that asks the same.
    pub(super) fn command(&self, command: &str, source: &SourceChoice) -> Command {
        let filter = &self.filter;
        let seconds = |duration: Duration| format!("{}s", duration.as_secs_f64());
        let options = [
            ("--pid", filter.pid.map(|pid| pid.to_string())),
            ("--process", filter.process.clone()),
            ("--filter", filter.filter.clone()),
            ("--since", self.since.map(seconds)),
            ("--window", Some(self.window).filter(|window| *window != DEFAULT_WINDOW).map(seconds)),
        ];
        let given = options.into_iter().filter_map(|(name, value)| Some((name, value?)));
        given.fold(Command::new(command, source), |line, (name, value)| line.option(name, &value))
    }

    /// Whom it is about, how far back, and how long to observe where nobody did before: what every request has.
    pub(super) fn scope(&self) -> (ConnectionFilter, Option<Duration>, Duration) {
        (self.filter.clone(), self.since, self.window)
    }

    /// Asks it. A live source records from now on, so that the next question can be about the past; it is observed for
    /// the window where it was not before.
    ///
    /// `of_nothing` tells what an answer with nothing in it says: nothing is known then of the process that was asked
    /// about, or only nothing to this question.
    pub(super) async fn ask<A: Send + 'static>(
        &self,
        server: &NetmonServer,
        context: &RequestContext<RoleServer>,
        of_nothing: impl Fn(&A) -> Option<String> + Send + 'static,
        question: impl FnOnce(&Monitor, &Control<'_>) -> netmon_core::Result<A> + Send + 'static,
    ) -> Result<A, Failure> {
        let (filter, since, window) = self.scope();
        let kept = server.recording().clone();
        ask(server, context, move |monitor, control| {
            recording::recorded(monitor, &kept, since, window, control, || {
                let answer = question(monitor, control)?;
                match of_nothing(&answer) {
                    Some(digest)
                        if (filter.pid.is_some() || filter.process.is_some())
                            && !is_known(monitor, &filter, control)? =>
                    {
                        Ok(Err(unknown_process(&digest, &filter, &known_processes(monitor, control)?)))
                    }
                    _ => Ok(Ok(answer)),
                }
            })
        })
        .await?
    }

    /// The result with as many rows as there is room for: `shorten` leaves so many and gives the text, `hint` says what to
    /// ask where rows were left out. Without a `limit` there are `rows` at most.
    pub(super) fn fitted<A: Answer + Clone>(
        &self,
        answer: &A,
        command: Command,
        rows: u64,
        hint: &str,
        shorten: impl Fn(&mut A, usize) -> String,
    ) -> Result<CallToolResult, Failure> {
        let command = command.to_string();
        fitted(self.budget(), self.limit.unwrap_or(rows), |most| {
            let mut answer = answer.clone();
            let text = shorten(&mut answer, most);
            let hint = answer.header().coverage.truncated.then(|| hint.to_owned());
            Answered { answer, text, command: command.clone(), hint }
        })
    }
}

fn either<T: PartialEq>(names: [&str; 2], first: Option<T>, second: Option<T>) -> Result<Option<T>, String> {
    match (first, second) {
        (Some(first), Some(second)) if first != second => {
            let [first, second] = names;
            Err(format!("`{first}` and `{second}` mean the same and differ; give one of them"))
        }
        (first, second) => Ok(first.or(second)),
    }
}

/// A process that has connections, for whoever asked for one that has none. A name is data here, in a field of its own.
#[derive(Debug, Serialize)]
struct KnownProcess {
    comm: CleanText,
    pid: u32,
}

/// Whether a process of this number and name has a socket now, or had a connection as far back as anything is known.
fn is_known(
    monitor: &Monitor,
    process: &ConnectionFilter,
    control: &Control<'_>,
) -> netmon_core::Result<bool> {
    let mut filter = ConnectionFilter::default();
    filter.pid = process.pid;
    filter.process.clone_from(&process.process);
    filter.include_own = true;
    let mut sockets = SocketsRequest::default();
    sockets.filter = filter.clone();
    sockets.limit = Some(1);
    if monitor.sockets(&sockets).is_ok_and(|answer| answer.total > 0) {
        return Ok(true);
    }
    let mut connections = ConnectionsRequest::default();
    connections.filter = filter;
    connections.since = Some(LONGEST_PAST);
    connections.window = Duration::ZERO;
    connections.limit = Some(1);
    Ok(monitor.connections(&connections, control)?.total > 0)
}

/// Those with the most connections.
fn known_processes(monitor: &Monitor, control: &Control<'_>) -> netmon_core::Result<Vec<KnownProcess>> {
    let mut request = SummaryRequest::default();
    request.since = Some(LONGEST_PAST);
    request.window = Duration::ZERO;
    let summary = monitor.summary(&request, control)?;
    let rows = summary.by_process.into_iter();
    Ok(rows.filter_map(|row| Some(KnownProcess { comm: row.comm?, pid: row.pid? })).collect())
}

/// What is said where nothing is known of the process that was asked about.
fn unknown_process(digest: &str, filter: &ConnectionFilter, known: &[KnownProcess]) -> Failure {
    let first = digest.lines().next().unwrap_or_default();
    let what = match (filter.pid, filter.process.as_deref()) {
        (Some(pid), None) => format!("no process with the number {pid}"),
        (_, name) => format!("no process named \"{}\"", CleanText::from(name.unwrap_or_default())),
    };
    let text = format!(
        "{first}\n{what} has a socket now, or had a connection as far back as anything was recorded. A name is that of the \
         program or its thread, 15 characters at most, and * stands for any characters. Call again with one of the \
         processes below, or without `process_name` and `pid` for all."
    );
    let data = serde_json::json!({ "processes_with_connections": known });
    Failure { text, data: Some(data) }
}
