//! What the ebpf-server answered, for its clients of both generations: one body that has the keys of both, filled from the
//! same answers as everything else, and more keys, which those clients pass over.

use std::{collections::BTreeMap, fmt::Display, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};
use jiff::Timestamp;
use netmon_core::{
    Connection, ConnectionsAnswer, ConnectionsRequest, Control, Coverage, DropsRequest, Error, Monitor,
    PacketDrops, SummaryRequest,
    fact::{AddressFamily, ConnectionDirection, ConnectionState, Direction, Protocol},
    monitor::PacketDrop,
    request::parse_duration,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::input::Asked;
use crate::{
    access::{Access, Caller},
    daemon::Daemon,
    reply::{Refusal, json as reply},
};

/// How far back they ask by themselves.
const DEFAULT_SECONDS: u64 = 60;
const LONGEST_SECONDS: u64 = 3600;
const DEFAULT_ROWS: u64 = 100;
const MOST_ROWS: u64 = 1000;

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/connection-summary", get(connection_summary).post(connection_summary))
        .route("/list-connections", get(list_connections).post(list_connections))
        .route("/events", get(events))
        .route("/programs", get(programs))
        .route("/packet-drop-summary", get(drop_summary).post(drop_summary))
        .route("/list-packet-drops", get(list_drops).post(list_drops))
}

/// What both generations send, under the names of each.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SummaryParameters {
    pid: Option<u32>,
    command: Option<String>,
    process_name: Option<String>,
    duration: Option<u64>,
    duration_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ListParameters {
    pid: Option<u32>,
    command: Option<String>,
    process_name: Option<String>,
    limit: Option<u64>,
    since: Option<String>,
    duration_seconds: Option<u64>,
}

/// What they ask for, under whichever names.
struct Chosen {
    pid: Option<u32>,
    command: Option<String>,
    since: Duration,
    limit: u64,
}

impl SummaryParameters {
    fn chosen(self) -> Result<Chosen, Error> {
        let command = either(["command", "process_name"], self.command, self.process_name)?;
        let asked = either(["duration", "duration_seconds"], self.duration, self.duration_seconds)?;
        let since = Duration::from_secs(seconds(asked)?);
        let (pid, command) = target(self.pid, command);
        Ok(Chosen { pid, command, since, limit: DEFAULT_ROWS })
    }
}

impl ListParameters {
    fn chosen(self) -> Result<Chosen, Error> {
        let command = either(["command", "process_name"], self.command, self.process_name)?;
        let limit = rows(self.limit)?;
        let since = match self.since {
            Some(text) => back_to(moment("since", &text)?),
            None => Duration::from_secs(seconds(self.duration_seconds.or(Some(LONGEST_SECONDS)))?),
        };
        let (pid, command) = target(self.pid, command);
        Ok(Chosen { pid, command, since, limit })
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct EventParameters {
    r#type: Option<String>,
    pid: Option<u32>,
    command: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct NoParameters {}

fn bad(message: impl Into<String>) -> Error {
    Error::InvalidRequest(message.into())
}

/// One value of two names.
fn either<T: PartialEq>(names: [&str; 2], first: Option<T>, second: Option<T>) -> Result<Option<T>, Error> {
    match (first, second) {
        (Some(first), Some(second)) if first != second => {
            let [first, second] = names;
            Err(bad(format!("{first:?} and {second:?} are the same, and differ here; give one of them")))
        }
        (first, second) => Ok(first.or(second)),
    }
}

fn seconds(asked: Option<u64>) -> Result<u64, Error> {
    match asked.unwrap_or(DEFAULT_SECONDS) {
        seconds @ 1..=LONGEST_SECONDS => Ok(seconds),
        other => Err(bad(format!("\"duration\" is 1 to {LONGEST_SECONDS} seconds, not {other}"))),
    }
}

fn rows(asked: Option<u64>) -> Result<u64, Error> {
    match asked.unwrap_or(DEFAULT_ROWS) {
        rows @ 1..=MOST_ROWS => Ok(rows),
        other => Err(bad(format!("\"limit\" is 1 to {MOST_ROWS}, not {other}"))),
    }
}

/// A time as either generation has it: RFC 3339, or how long ago.
fn moment(name: &str, text: &str) -> Result<Timestamp, Error> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let ago = parse_duration(text).map_err(|_| {
        bad(format!(
            "{name:?} is a time such as 2026-01-01T12:00:00Z or a duration such as 60s, not {text:?}"
        ))
    })?;
    Timestamp::now().checked_sub(ago).map_err(|_| bad(format!("{name:?} is too long ago")))
}

/// How far back a moment is; a moment to come is now.
fn back_to(moment: Timestamp) -> Duration {
    let ago = Timestamp::now().duration_since(moment);
    Duration::try_from(ago).unwrap_or_default().max(Duration::from_millis(100))
}

async fn compute<T: Serialize + Send + 'static>(
    daemon: &Daemon,
    caller: &Caller,
    access: Access,
    work: impl FnOnce(&Monitor, &Control<'_>) -> netmon_core::Result<T> + Send + 'static,
) -> Result<Response, Refusal> {
    let monitor = daemon.monitor(access);
    let work = move |cancel: &netmon_core::Cancel| {
        work(&monitor, &Control { cancel: cancel.clone(), ..Control::default() })
    };
    let (answer, permit) = daemon.compute(caller, work).await?;
    reply(&answer, permit)
}

#[derive(Serialize)]
struct Summary<A> {
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_drops: Option<u64>,
    duration: u64,
    duration_seconds: u64,
    pid: u32,
    command: String,
    message: String,
    query_time: Timestamp,
    /// All that is ours; of connections `total_attempts` too.
    #[serde(flatten)]
    answer: A,
}

impl<A: Display> Summary<A> {
    fn new(chosen: Chosen, count: u64, answer: A) -> Self {
        let seconds = chosen.since.as_secs();
        Self {
            count,
            total_drops: None,
            duration: seconds,
            duration_seconds: seconds,
            pid: chosen.pid.unwrap_or_default(),
            command: chosen.command.unwrap_or_default(),
            message: answer.to_string().lines().next().unwrap_or_default().to_owned(),
            query_time: Timestamp::now(),
            answer,
        }
    }
}

async fn connection_summary(
    State(daemon): State<Arc<Daemon>>,
    asked: Asked<SummaryParameters>,
) -> Result<Response, Refusal> {
    let chosen = asked.request.chosen()?;
    compute(&daemon, &asked.asker.caller, asked.asker.access, move |monitor, control| {
        let mut request = SummaryRequest::default();
        request.filter.pid = chosen.pid;
        request.filter.process.clone_from(&chosen.command);
        request.since = Some(chosen.since);
        let answer = monitor.summary(&request, control)?;
        Ok(Summary::new(chosen, answer.total_attempts, answer))
    })
    .await
}

/// Both clients send 0 and an empty name for "any".
fn target(pid: Option<u32>, command: Option<String>) -> (Option<u32>, Option<String>) {
    (pid.filter(|pid| *pid != 0), command.filter(|command| !command.is_empty()))
}

/// A connection as the first generation lists it.
#[derive(Serialize)]
struct Listed {
    pid: u32,
    command: String,
    destination: String,
    protocol: String,
    return_code: i32,
    timestamp: Timestamp,
    direction: ConnectionDirection,
}

/// The same as the second generation does.
#[derive(Serialize)]
struct Event {
    id: String,
    r#type: &'static str,
    pid: u32,
    command: String,
    /// Nanoseconds since 1970.
    timestamp: i128,
    time: Timestamp,
    return_code: i32,
    destination_ip: String,
    destination_port: u16,
    destination: String,
    /// As the kernel numbers them: 2 or 10.
    address_family: u8,
    protocol: String,
    socket_type: &'static str,
    direction: ConnectionDirection,
    state: ConnectionState,
}

impl Event {
    /// What began before it was watched, and is open, has the time of the answer's end.
    fn new(row: &Connection, end: Timestamp) -> Self {
        let remote = row.remote.as_ref().map_or(row.local, netmon_core::monitor::RemoteEndpoint::endpoint);
        let time = row.opened_at.or(row.closed_at).unwrap_or(end);
        Self {
            id: row.id.to_string(),
            r#type: "connection",
            pid: row.process.as_ref().map_or(0, |process| process.pid),
            command: row
                .process
                .as_ref()
                .map_or_else(|| "unknown".to_owned(), |process| process.comm.to_string()),
            timestamp: time.as_nanosecond(),
            time,
            return_code: row.error.as_ref().and_then(|error| error.errno).unwrap_or(0),
            destination_ip: remote.address.to_string(),
            destination_port: remote.port,
            destination: std::net::SocketAddr::new(remote.address, remote.port).to_string(),
            address_family: if remote.address.is_ipv4() { 2 } else { 10 },
            protocol: row.protocol.name().to_uppercase(),
            socket_type: match row.protocol {
                Protocol::Tcp => "STREAM",
                _ => "DGRAM",
            },
            direction: row.direction,
            state: row.state,
        }
    }

    fn listed(&self) -> Listed {
        Listed {
            pid: self.pid,
            command: self.command.clone(),
            destination: self.destination.clone(),
            protocol: self.protocol.clone(),
            return_code: self.return_code,
            timestamp: self.time,
            direction: self.direction,
        }
    }
}

#[derive(Serialize)]
struct List {
    total_pids: usize,
    connections: BTreeMap<u32, Vec<Listed>>,
    events_by_pid: BTreeMap<u32, Vec<Event>>,
    total_events: u64,
    returned_events: usize,
    truncated: bool,
    query_time: Timestamp,
    coverage: Coverage,
}

impl List {
    fn new(answer: ConnectionsAnswer) -> Self {
        let end = answer.header.window.to;
        let mut list = Self {
            total_pids: 0,
            connections: BTreeMap::new(),
            events_by_pid: BTreeMap::new(),
            total_events: answer.total,
            returned_events: answer.connections.len(),
            truncated: answer.header.coverage.truncated,
            query_time: Timestamp::now(),
            coverage: answer.header.coverage,
        };
        for row in &answer.connections {
            let event = Event::new(row, end);
            list.connections.entry(event.pid).or_default().push(event.listed());
            list.events_by_pid.entry(event.pid).or_default().push(event);
        }
        list.total_pids = list.connections.len();
        list
    }
}

async fn list_connections(
    State(daemon): State<Arc<Daemon>>,
    asked: Asked<ListParameters>,
) -> Result<Response, Refusal> {
    let chosen = asked.request.chosen()?;
    compute(&daemon, &asked.asker.caller, asked.asker.access, move |monitor, control| {
        let mut request = ConnectionsRequest::default();
        request.filter.pid = chosen.pid;
        request.filter.process = chosen.command;
        request.since = Some(chosen.since);
        request.limit = Some(chosen.limit);
        Ok(List::new(monitor.connections(&request, control)?))
    })
    .await
}

#[derive(Serialize)]
struct Events {
    events: Vec<Event>,
    count: usize,
    total_events: usize,
    truncated: bool,
    query_time: Timestamp,
    coverage: Coverage,
}

async fn events(
    State(daemon): State<Arc<Daemon>>,
    asked: Asked<EventParameters>,
) -> Result<Response, Refusal> {
    let EventParameters { r#type, pid, command, since, until, limit } = asked.request;
    match r#type.as_deref() {
        None | Some("" | "connection") => {}
        Some("packet_drop") => {
            let parameters =
                ListParameters { pid, command, process_name: None, limit, since, duration_seconds: None };
            if until.is_some() {
                return Err(bad("drops are summed up, so \"until\" cannot choose among them").into());
            }
            return drop_events(&daemon, &asked.asker, parameters).await;
        }
        Some(other) => {
            let other = netmon_core::CleanText::from(other);
            return Err(bad(format!("\"type\" is connection or packet_drop, not \"{other}\"")).into());
        }
    }
    let limit = usize::try_from(rows(limit)?).unwrap_or(usize::MAX);
    let since = since.map(|text| moment("since", &text)).transpose()?.map(back_to);
    let until = until.map(|text| moment("until", &text)).transpose()?;
    let (pid, command) = target(pid, command);
    compute(&daemon, &asked.asker.caller, asked.asker.access, move |monitor, control| {
        let mut request = ConnectionsRequest::default();
        request.filter.pid = pid;
        request.filter.process = command;
        request.since = Some(since.unwrap_or(Duration::from_secs(LONGEST_SECONDS)));
        let answer = monitor.connections(&request, control)?;
        let end = answer.header.window.to;
        let events = answer.connections.iter().map(|row| Event::new(row, end));
        let mut events: Vec<Event> =
            events.filter(|event| until.is_none_or(|until| event.time <= until)).collect();
        let total_events = events.len();
        events.truncate(limit);
        Ok(Events {
            count: events.len(),
            truncated: events.len() < total_events,
            total_events,
            events,
            query_time: Timestamp::now(),
            coverage: answer.header.coverage,
        })
    })
    .await
}

async fn programs(
    State(daemon): State<Arc<Daemon>>,
    asked: Asked<NoParameters>,
) -> Result<Response, Refusal> {
    compute(&daemon, &asked.asker.caller, asked.asker.access, |monitor, _| {
        let coverage = coverage(monitor)?;
        let works = coverage
            .active_hooks
            .iter()
            .map(|hook| json!({ "name": hook.name(), "type": "connection", "attached": true, "status": "running" }));
        let missing = coverage.missing_hooks.iter().map(|missing| {
            json!({ "name": missing.hook.name(), "type": "connection", "attached": false, "status": "missing",
                    "reason": missing.reason, "hides": missing.hides, "fix": missing.fix })
        });
        let programs: Vec<Value> = works.chain(missing).collect();
        Ok(json!({ "total": programs.len(), "programs": programs, "query_time": Timestamp::now() }))
    })
    .await
}

/// What takes part now.
fn coverage(monitor: &Monitor) -> netmon_core::Result<Coverage> {
    let mut request = SummaryRequest::default();
    request.since = Some(Duration::from_millis(100));
    request.filter.pid = Some(0);
    Ok(monitor.summary(&request, &Control::default())?.header.coverage)
}

async fn drop_summary(
    State(daemon): State<Arc<Daemon>>,
    asked: Asked<SummaryParameters>,
) -> Result<Response, Refusal> {
    let chosen = asked.request.chosen()?;
    compute(&daemon, &asked.asker.caller, asked.asker.access, move |monitor, control| {
        let answer = drops(monitor, control, &chosen)?;
        let total = answer.total;
        Ok(Summary { total_drops: Some(total), ..Summary::new(chosen, total, answer) })
    })
    .await
}

fn drops(monitor: &Monitor, control: &Control<'_>, chosen: &Chosen) -> netmon_core::Result<PacketDrops> {
    let mut request = DropsRequest::default();
    request.filter.pid = chosen.pid;
    request.filter.process.clone_from(&chosen.command);
    request.since = Some(chosen.since);
    request.limit = Some(chosen.limit);
    monitor.drops(&request, control)
}

/// Drops of one kind as both generations list a drop: the last of them, and how many there were.
#[derive(Clone, Serialize)]
struct DropEvent {
    id: String,
    r#type: &'static str,
    pid: u32,
    command: String,
    /// Nanoseconds since 1970.
    timestamp: i128,
    time: Timestamp,
    drop_reason: String,
    reason: String,
    /// Of one of them, on average.
    skb_length: u64,
    packets: u64,
    bytes: u64,
    protocol: String,
    /// As the kernel numbers them: 2 or 10; 0 for what is no IP packet.
    address_family: u8,
    local_port: u16,
    source_ip: String,
    direction: Direction,
}

impl DropEvent {
    fn new(row: &PacketDrop, end: Timestamp) -> Self {
        let time = row.last_seen_at.unwrap_or(end);
        let reason = row.reason.as_ref().map_or_else(|| "NOT_SPECIFIED".to_owned(), ToString::to_string);
        let pid = row.process.as_ref().map_or(0, |process| process.pid);
        let port = row.local_port.unwrap_or_default();
        Self {
            id: format!("{reason}-{pid}-{port}-{}", row.netns.unwrap_or_default()),
            r#type: "packet_drop",
            pid,
            command: row
                .process
                .as_ref()
                .map_or_else(|| "unknown".to_owned(), |process| process.comm.to_string()),
            timestamp: time.as_nanosecond(),
            time,
            drop_reason: reason.clone(),
            reason,
            skb_length: row.l3_bytes.checked_div(row.packets).unwrap_or_default(),
            packets: row.packets,
            bytes: row.l3_bytes,
            protocol: row.protocol.map(|protocol| protocol.name().to_uppercase()).unwrap_or_default(),
            address_family: match row.family {
                Some(AddressFamily::Ipv4) => 2,
                Some(AddressFamily::Ipv6) => 10,
                None => 0,
            },
            local_port: port,
            source_ip: row.example_peer.map(|peer| peer.address.to_string()).unwrap_or_default(),
            direction: row.direction,
        }
    }
}

#[derive(Serialize)]
struct DropList {
    total_pids: usize,
    drops: BTreeMap<u32, Vec<DropEvent>>,
    events_by_pid: BTreeMap<u32, Vec<DropEvent>>,
    /// Packets.
    total_drops: u64,
    /// Rows.
    total_events: u64,
    returned_events: usize,
    truncated: bool,
    query_time: Timestamp,
    coverage: Coverage,
}

impl DropList {
    fn new(answer: PacketDrops) -> Self {
        let end = answer.header.window.to;
        let mut drops: BTreeMap<u32, Vec<DropEvent>> = BTreeMap::new();
        for row in &answer.drops {
            let event = DropEvent::new(row, end);
            drops.entry(event.pid).or_default().push(event);
        }
        Self {
            total_pids: drops.len(),
            events_by_pid: drops.clone(),
            drops,
            total_drops: answer.total,
            total_events: answer.drops_total,
            returned_events: answer.drops.len(),
            truncated: answer.header.coverage.truncated,
            query_time: Timestamp::now(),
            coverage: answer.header.coverage,
        }
    }
}

async fn list_drops(
    State(daemon): State<Arc<Daemon>>,
    asked: Asked<ListParameters>,
) -> Result<Response, Refusal> {
    let chosen = asked.request.chosen()?;
    compute(&daemon, &asked.asker.caller, asked.asker.access, move |monitor, control| {
        Ok(DropList::new(drops(monitor, control, &chosen)?))
    })
    .await
}

async fn drop_events(
    daemon: &Daemon,
    asker: &super::Asker,
    parameters: ListParameters,
) -> Result<Response, Refusal> {
    let chosen = parameters.chosen()?;
    compute(daemon, &asker.caller, asker.access, move |monitor, control| {
        let answer = drops(monitor, control, &chosen)?;
        let end = answer.header.window.to;
        let events: Vec<DropEvent> = answer.drops.iter().map(|row| DropEvent::new(row, end)).collect();
        Ok(json!({
            "count": events.len(),
            "total_events": answer.drops_total,
            "truncated": answer.header.coverage.truncated,
            "events": events,
            "query_time": Timestamp::now(),
            "coverage": answer.header.coverage,
        }))
    })
    .await
}

/// Whether the daemon does what it is there for. Known to everybody who reaches it.
pub(super) async fn health(State(daemon): State<Arc<Daemon>>, request: Request) -> Result<Response, Refusal> {
    let caller = super::caller(&request)?;
    let source = daemon.source(Access::All);
    let work = move |_: &netmon_core::Cancel| {
        let coverage = coverage(&Monitor::shared(Arc::clone(&source)))?;
        let lost = source.totals()?;
        Ok((source.describe(), coverage, lost))
    };
    let ((description, coverage, lost), _) = daemon.compute(&caller, work).await?;
    let observes = description.kind == "replay" || !coverage.active_hooks.is_empty();
    let status = if observes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let uptime = Timestamp::now().duration_since(daemon.before.started);
    let body = json!({
        "status": if observes { "healthy" } else { "unhealthy" },
        "version": env!("CARGO_PKG_VERSION"),
        "source": description.kind,
        "host": description.host,
        "uptime_seconds": uptime.as_secs(),
        "active_hooks": coverage.active_hooks,
        "missing_hooks": coverage.missing_hooks,
        "lost_events": lost.lost,
        "time": Timestamp::now(),
    });
    Ok((status, axum::Json(body)).into_response())
}

/// An error as clients of `/api` know it, with the keys of ours beside theirs.
pub(crate) fn as_api_error(problem: &netmon_core::source::remote::wire::Problem) -> Value {
    let mut body = serde_json::to_value(problem).unwrap_or_default();
    body["error"] = problem.title.to_lowercase().into();
    body["message"] = match &problem.hint {
        Some(hint) => format!("{}; {hint}", problem.detail).into(),
        None => problem.detail.clone().into(),
    };
    body
}
