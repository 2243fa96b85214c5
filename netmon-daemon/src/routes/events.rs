//! Streams: server-sent events, which browsers and curl resume by their ids, or JSON lines.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{FromRequest, Request, State},
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::stream;
use netmon_core::{
    Answer as _, Cancel, ConnectionsRequest, Control, Error, ErrorKind, Monitor, RateRequest, Result,
    answer::{EndLine, Line},
    source::{
        ChangeCursor,
        remote::wire::{NDJSON, Problem},
    },
};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::DropGuard;

use super::input::Asked;
use crate::{
    daemon::{Daemon, is_end},
    reply::Refusal,
};

const EVENT_STREAM: &str = "text/event-stream";
/// How often a stream says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long one look for changes waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many events may wait for a slow client; then the source is not asked until there is room.
const BACKLOG: usize = 64;

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/connections/events", get(|daemon, asked| events(daemon, asked, connections)))
        .route("/rates/events", get(|daemon, asked| events(daemon, asked, rates)))
}

/// A stream that is asked for.
struct Subscription<R> {
    asked: Asked<R>,
    format: Format,
    /// The `Last-Event-ID` of a client that was cut off.
    last: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Events,
    Lines,
}

impl<R: DeserializeOwned + JsonSchema + Send> FromRequest<Arc<Daemon>> for Subscription<R> {
    type Rejection = Refusal;

    async fn from_request(request: Request, daemon: &Arc<Daemon>) -> std::result::Result<Self, Refusal> {
        let format = format(request.headers())?;
        let last = request.headers().get("last-event-id");
        let last = last.and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty()).map(str::to_owned);
        Ok(Self { asked: Asked::from_request(request, daemon).await?, format, last })
    }
}

fn format(headers: &HeaderMap) -> std::result::Result<Format, Refusal> {
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("*/*");
    let takes =
        |kind: &str| accepted.split(',').any(|one| one.split(';').next().map(str::trim) == Some(kind));
    if takes(EVENT_STREAM) || takes("*/*") || takes("text/*") {
        Ok(Format::Events)
    } else if takes(NDJSON) || takes("application/*") {
        Ok(Format::Lines)
    } else {
        let mut refusal = Refusal::new(
            ErrorKind::InvalidRequest,
            format!("a stream is {EVENT_STREAM} or {NDJSON}; accept one of them"),
        );
        refusal.0.status = 406;
        Err(refusal)
    }
}

/// One thing that a stream tells.
struct Event {
    name: &'static str,
    id: Option<String>,
    data: String,
}

impl Event {
    fn new(name: &'static str, data: &impl Serialize) -> Self {
        // What we tell is always JSON.
        Self { name, id: None, data: serde_json::to_string(data).unwrap_or_default() }
    }

    fn written(&self, format: Format) -> Bytes {
        match (format, &self.id) {
            (Format::Lines, _) => format!("{}\n", self.data),
            (Format::Events, Some(id)) => format!("id: {id}\nevent: {}\ndata: {}\n\n", self.name, self.data),
            (Format::Events, None) => format!("event: {}\ndata: {}\n\n", self.name, self.data),
        }
        .into()
    }
}

/// Where a stream's events go. False when nobody takes them any more.
struct Sink<'a> {
    events: mpsc::Sender<Event>,
    cancel: &'a Cancel,
}

impl Sink<'_> {
    fn tell(&self, event: Event) -> Result<()> {
        // Waits for a slow client; the source goes on, and counts what this stream misses.
        self.events.blocking_send(event).map_err(|_| Error::Cancelled)
    }
}

/// What a stream is made of.
struct From {
    /// This run of the daemon; ids of others mean nothing.
    instance: String,
    last: Option<String>,
}

type Produce<R> = fn(&Monitor, &R, &From, &Sink<'_>) -> Result<()>;

async fn events<R>(
    State(daemon): State<Arc<Daemon>>,
    subscription: Subscription<R>,
    produce: Produce<R>,
) -> std::result::Result<Response, Refusal>
where
    R: Send + Sync + 'static,
{
    let Subscription { asked, format, last } = subscription;
    let permit = daemon.stream(&asked.asker.caller)?;
    let monitor = daemon.monitor(asked.asker.access);
    let from = From { instance: daemon.instance.clone(), last };
    let (cancel, unwanted) = daemon.cancel();
    let (sender, mut receiver) = mpsc::channel(BACKLOG);
    tokio::task::spawn_blocking(move || {
        let sink = Sink { events: sender, cancel: &cancel };
        let ended = produce(&monitor, &asked.request, &from, &sink);
        if let Err(error) = ended
            && !is_end(&error)
        {
            let _ = sink.tell(Event::new("problem", &Problem::from(&error)));
        }
    });
    // What is wrong with the question is told as an error, before anything is streamed.
    let first = tokio::time::timeout(Duration::from_secs(5), receiver.recv()).await.ok().flatten();
    if let Some(event) = &first
        && event.name == "problem"
        && let Ok(problem) = serde_json::from_str::<Problem>(&event.data)
    {
        return Err(problem.into());
    }
    let state = Streaming { receiver, first, format, _unwanted: unwanted, _permit: permit };
    let body = Body::from_stream(stream::unfold(state, |mut state| async move {
        let bytes = state.next().await?;
        Some((Ok::<_, Infallible>(bytes), state))
    }));
    let kind = if format == Format::Events { EVENT_STREAM } else { NDJSON };
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

struct Streaming {
    receiver: mpsc::Receiver<Event>,
    first: Option<Event>,
    format: Format,
    /// Ends the producer with the stream.
    _unwanted: DropGuard,
    _permit: OwnedSemaphorePermit,
}

impl Streaming {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(event) = self.first.take() {
            return Some(event.written(self.format));
        }
        match tokio::time::timeout(HEARTBEAT, self.receiver.recv()).await {
            Ok(event) => event.map(|event| event.written(self.format)),
            // Neither a comment nor an empty line is an event.
            Err(_) => Some(Bytes::from_static(if self.format == Format::Events { b":\n\n" } else { b"\n" })),
        }
    }
}

/// Each connection when it opens, is established, fails or ends.
fn connections(monitor: &Monitor, request: &ConnectionsRequest, from: &From, sink: &Sink<'_>) -> Result<()> {
    let mut watch = monitor.watch_connections(request)?;
    let id = |cursor: ChangeCursor| format!("{}-{:x}", from.instance, cursor.0);
    let resumed = from.last.as_ref().map(|last| {
        let (instance, cursor) = last.rsplit_once('-').unwrap_or_default();
        u64::from_str_radix(cursor, 16).ok().filter(|_| instance == from.instance).map(ChangeCursor)
    });
    let resumes = matches!(resumed, Some(Some(_)));
    if let Some(Some(cursor)) = resumed {
        watch = watch.from_cursor(cursor);
    }
    let mut begin = Event::new(
        "begin",
        &json!({
            "type": "begin",
            "resumed": resumes,
            // The daemon was started anew meanwhile: how much was missed cannot be known.
            "gap": from.last.is_some() && !resumes,
        }),
    );
    begin.id = Some(id(watch.cursor()));
    sink.tell(begin)?;

    let mut missed = 0;
    loop {
        let rows = match watch.next(PATIENCE, sink.cancel) {
            Ok(rows) => rows,
            Err(error) => {
                if is_end(&error) {
                    let header = watch.header()?;
                    let _ = sink.tell(Event::new("end", &EndLine::new(&header)));
                }
                return Err(error);
            }
        };
        if watch.missed() > missed {
            let event =
                json!({ "type": "missed", "count": watch.missed() - missed, "total": watch.missed() });
            missed = watch.missed();
            sink.tell(Event::new("missed", &event))?;
        }
        let last = rows.len();
        for (index, row) in rows.iter().enumerate() {
            let mut event = Event::new("connection", &Line::of_watch(row));
            // Who is cut off in the middle of a batch has the rest of it again rather than not at all.
            event.id = (index + 1 == last).then(|| id(watch.cursor()));
            sink.tell(event)?;
        }
        if sink.events.is_closed() {
            return Ok(());
        }
    }
}

/// Rates, window after window.
fn rates(monitor: &Monitor, request: &RateRequest, _: &From, sink: &Sink<'_>) -> Result<()> {
    let mut watch = monitor.watch_rates(request)?;
    let control = Control { cancel: sink.cancel.clone(), ..Control::default() };
    sink.tell(Event::new("begin", &json!({ "type": "begin" })))?;
    loop {
        let answer = watch.next_window(&control)?;
        for row in answer.rows() {
            sink.tell(Event::new("rate", &Line::new(answer.header(), row)))?;
        }
    }
}
