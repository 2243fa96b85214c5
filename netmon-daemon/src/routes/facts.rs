//! The facts of a source, for [`netmon_core::source::remote::RemoteSource`]: one route a method.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
    routing::post,
};
use futures_util::stream;
use netmon_core::{
    Cancel, Control, Error,
    fact::Observed,
    source::{
        Counting, InterfaceRef, Sighting, Source,
        remote::wire::{
            AtRequest, ChangesRequest, CountReply, CountRequest, DropLine, LONGEST_PATIENCE, NDJSON,
            ObserveReply, ObservedRequest, PermitRequest, SightingLine, SightingsRequest, WaitReply,
            WaitRequest,
        },
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::{Asker, input::Json};
use crate::{
    daemon::Daemon,
    reply::{Refusal, json},
};

/// How often a client that reads nothing is felt for.
const HEARTBEAT: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/source", post(|d, j: Json<Nothing>| read(d, j, |source, _| Ok(source.describe()))))
        .route("/start", post(|d, j: Json<Nothing>| read(d, j, |source, _| source.start())))
        .route("/interfaces", post(|d, j: Json<AtRequest>| read(d, j, |source, r| source.interfaces(&r.at))))
        .route("/hooks", post(|d, j: Json<Nothing>| read(d, j, |source, _| source.hooks())))
        .route("/counted", post(|d, j: Json<AtRequest>| read(d, j, |source, r| source.counted(&r.at))))
        .route("/totals", post(|d, j: Json<Nothing>| read(d, j, |source, _| source.totals())))
        .route("/leftovers", post(|d, j: Json<Nothing>| read(d, j, |source, _| source.leftovers())))
        .route(
            "/observe",
            post(|d, j: Json<Nothing>| {
                read(d, j, |source, _| {
                    let observation = source.observe()?;
                    Ok(ObserveReply { from: observation.from, cursor: observation.cursor })
                })
            }),
        )
        .route(
            "/observed",
            post(|d, j: Json<ObservedRequest>| {
                read(d, j, |source, request| source.observed(request.since_ns.map(Duration::from_nanos)))
            }),
        )
        .route("/permit", post(|d, j: Json<PermitRequest>| read(d, j, |source, r| source.permit(&r.filter))))
        .route("/sockets", post(|d, j: Json<AtRequest>| read(d, j, |source, r| source.sockets(&r.at))))
        .route(
            "/protocol_counters",
            post(|d, j: Json<AtRequest>| read(d, j, |source, r| source.protocol_counters(&r.at))),
        )
        .route("/connections", post(connections))
        .route("/active_connections", post(active_connections))
        .route(
            "/observe_drops",
            post(|d, j: Json<Nothing>| {
                read(d, j, |source, _| {
                    let observation = source.observe_drops()?;
                    Ok(ObserveReply { from: observation.from, cursor: observation.cursor })
                })
            }),
        )
        .route(
            "/observed_drops",
            post(|d, j: Json<ObservedRequest>| {
                read(d, j, |source, request| {
                    source.observed_drops(request.since_ns.map(Duration::from_nanos))
                })
            }),
        )
        .route("/drops", post(drops))
        .route("/wait", post(wait))
        .route("/changes", post(changes))
        .route("/count", post(count))
}

/// A method that does not wait.
async fn read<R, T>(
    State(daemon): State<Arc<Daemon>>,
    Json(asker, request): Json<R>,
    method: fn(&dyn Source, &R) -> netmon_core::Result<T>,
) -> Result<Response, Refusal>
where
    R: Send + 'static,
    T: Serialize + Send + 'static,
{
    let source = daemon.source(asker.access);
    let (value, permit) = daemon.compute(&asker.caller, move |_| method(&*source, &request)).await?;
    json(&value, permit)
}

async fn wait(
    State(daemon): State<Arc<Daemon>>,
    Json(asker, request): Json<WaitRequest>,
) -> Result<Response, Refusal> {
    let source = daemon.source(asker.access);
    let patience = Duration::from_millis(request.patience_ms).min(LONGEST_PATIENCE);
    let work = move |cancel: &Cancel| {
        let (window, passed) =
            (Duration::from_nanos(request.window_ns), source.start()?.since(&request.from));
        let control = Control { cancel: cancel.clone(), ..Control::default() };
        // Who replays skips; a live source is not waited for longer than the client is patient.
        let is_recording = source.describe().kind == "replay";
        if !is_recording && window.saturating_sub(passed) > patience {
            source.wait(&source.start()?, patience, &control)?;
            return Ok(WaitReply { moment: None });
        }
        Ok(WaitReply { moment: Some(source.wait(&request.from, window, &control)?) })
    };
    let (reply, permit) = daemon.wait(&asker.caller, work).await?;
    json(&reply, permit)
}

async fn changes(
    State(daemon): State<Arc<Daemon>>,
    Json(asker, request): Json<ChangesRequest>,
) -> Result<Response, Refusal> {
    let source = daemon.source(asker.access);
    let patience = Duration::from_millis(request.patience_ms).min(LONGEST_PATIENCE);
    let work = move |cancel: &Cancel| source.changes(request.after, patience, cancel);
    let (reply, permit) = daemon.wait(&asker.caller, work).await?;
    json(&reply, permit)
}

async fn connections(
    State(daemon): State<Arc<Daemon>>,
    Json(asker, request): Json<SightingsRequest>,
) -> Result<Response, Refusal> {
    sightings(daemon, asker, request, |source, request, visit| {
        source.connections(&request.span, &request.filter, visit).map(Some)
    })
    .await
}

async fn active_connections(
    State(daemon): State<Arc<Daemon>>,
    Json(asker, request): Json<SightingsRequest>,
) -> Result<Response, Refusal> {
    sightings(daemon, asker, request, |source, request, visit| {
        source.active_connections(&request.span, &request.filter, visit)
    })
    .await
}

/// A method of the source that tells of connections.
type Telling =
    fn(&dyn Source, &SightingsRequest, &mut dyn FnMut(Sighting<'_>)) -> netmon_core::Result<Option<Observed>>;

async fn sightings(
    daemon: Arc<Daemon>,
    asker: Asker,
    request: SightingsRequest,
    tell: Telling,
) -> Result<Response, Refusal> {
    let source = daemon.source(asker.access);
    let work = move |_: &Cancel| {
        let mut lines = Vec::new();
        let mut written = Ok(());
        let observed = tell(&*source, &request, &mut |sighting| {
            let line =
                SightingLine::Connection { fact: Cow::Borrowed(sighting.fact), before: sighting.before };
            if written.is_ok() {
                written = append(&mut lines, &line);
            }
        })?;
        written?;
        let last = observed.map_or(SightingLine::AskForAll, |observed| SightingLine::End { observed });
        append(&mut lines, &last)?;
        Ok(lines)
    };
    let (lines, permit) = daemon.compute(&asker.caller, work).await?;
    Ok(sent(lines, permit))
}

async fn drops(
    State(daemon): State<Arc<Daemon>>,
    Json(asker, request): Json<SightingsRequest>,
) -> Result<Response, Refusal> {
    let source = daemon.source(asker.access);
    let work = move |_: &Cancel| {
        let mut lines = Vec::new();
        let mut written = Ok(());
        let observed = source.drops(&request.span, &request.filter, &mut |sighting| {
            let line = DropLine::Drop { fact: Box::new(sighting.fact.clone()), before: sighting.before };
            if written.is_ok() {
                written = append(&mut lines, &line);
            }
        })?;
        written?;
        append(&mut lines, &DropLine::End { observed })?;
        Ok(lines)
    };
    let (lines, permit) = daemon.compute(&asker.caller, work).await?;
    Ok(sent(lines, permit))
}

/// Lines of JSON, of which others may compute theirs when these are taken.
fn sent(lines: Vec<u8>, permit: OwnedSemaphorePermit) -> Response {
    let body = Body::from_stream(stream::once(async move {
        let _until_taken = permit;
        Ok::<_, std::convert::Infallible>(Bytes::from(lines))
    }));
    ([(header::CONTENT_TYPE, NDJSON)], body).into_response()
}

/// Appends a line of JSON. Facts always are.
fn append(lines: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Error> {
    serde_json::to_writer(&mut *lines, value)
        .map_err(|error| Error::Kernel { action: "write a fact as JSON", source: error.into() })?;
    lines.push(b'\n');
    Ok(())
}

/// Counts for as long as the client listens.
async fn count(
    State(daemon): State<Arc<Daemon>>,
    Json(asker, request): Json<CountRequest>,
) -> Result<Response, Refusal> {
    let permit = daemon.stream(&asker.caller)?;
    let source = daemon.source(asker.access);
    let work = move |_: &Cancel| {
        let interface =
            InterfaceRef { index: request.index, name: &request.name, ethernet: request.ethernet };
        source.count(interface, &request.directions, request.hook)
    };
    let (mut counting, _) = daemon.compute(&asker.caller, work).await?;
    let reply = CountReply {
        active: std::mem::take(&mut counting.active),
        missing: std::mem::take(&mut counting.missing),
        warnings: std::mem::take(&mut counting.warnings),
    };
    let mut first = Vec::new();
    append(&mut first, &reply)?;
    let state = Counted { daemon, _counting: counting, _permit: permit, first: Some(first) };
    let body = Body::from_stream(stream::unfold(state, |mut state| async move {
        let line = match state.first.take() {
            Some(first) => first,
            None => tokio::select! {
                () = tokio::time::sleep(HEARTBEAT) => b"\n".to_vec(),
                () = state.daemon.shutdown.cancelled() => return None,
            },
        };
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), state))
    }));
    Ok(([(header::CONTENT_TYPE, NDJSON)], body).into_response())
}

/// What is held while a client has an interface counted.
struct Counted {
    daemon: Arc<Daemon>,
    _counting: Counting,
    _permit: OwnedSemaphorePermit,
    first: Option<Vec<u8>>,
}
