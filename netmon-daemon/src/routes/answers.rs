//! The answers of a monitor.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{MethodRouter, get},
};
use netmon_core::{
    ConnectionsRequest, Control, DiagnoseRequest, DropsRequest, Monitor, PatternsRequest, RateRequest,
    SocketsRequest, SummaryRequest,
    request::{LONGEST_CALL, check_window, duration_of_seconds},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::input::Asked;
use crate::{
    daemon::Daemon,
    reply::{Refusal, json},
};

/// How many rows GET answers with where nobody says how many: `next_cursor` leads to the others.
pub(super) const ROWS: u64 = 1000;

/// A question without arguments.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// The interfaces to list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct InterfacesRequest {
    /// How long to measure rates, 0.1s to 60s; without it there are none
    #[schemars(range(min = 0.1, max = 60.0))]
    pub(super) window: Option<f64>,
}

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route(
            "/connections",
            question(Monitor::connections, |request: &mut ConnectionsRequest| {
                request.limit.get_or_insert(ROWS);
            }),
        )
        .route("/summary", question(Monitor::summary, |_: &mut SummaryRequest| {}))
        .route("/patterns", question(Monitor::patterns, |_: &mut PatternsRequest| {}))
        .route("/diagnose", question(Monitor::diagnose, |_: &mut DiagnoseRequest| {}))
        .route(
            "/drops",
            question(Monitor::drops, |request: &mut DropsRequest| {
                request.limit.get_or_insert(ROWS);
            }),
        )
        .route(
            "/sockets",
            question(
                |monitor, request, _| monitor.sockets(request),
                |request: &mut SocketsRequest| {
                    request.limit.get_or_insert(ROWS);
                },
            ),
        )
        .route(
            "/listeners",
            question(
                |monitor, request, _| monitor.listeners(request),
                |request: &mut SocketsRequest| {
                    request.limit.get_or_insert(ROWS);
                },
            ),
        )
        .route("/capabilities", question(|monitor, _, _| monitor.capabilities(), |_: &mut Nothing| {}))
        .route("/diff", measurement(Monitor::diff))
        .route("/interfaces", measurement(interfaces))
        .route(
            "/rates",
            measurement(|monitor, request: &RateRequest, control| {
                check_window(request.window, LONGEST_CALL)?;
                monitor.rates(request, control)
            }),
        )
}

fn interfaces(
    monitor: &Monitor,
    request: &InterfacesRequest,
    control: &Control<'_>,
) -> netmon_core::Result<netmon_core::InterfacesAnswer> {
    match request.window {
        None => monitor.interfaces(),
        Some(seconds) => {
            let window = duration_of_seconds(seconds).unwrap_or_default();
            check_window(window, LONGEST_CALL)?;
            monitor.interfaces_over(window, control)
        }
    }
}

type Evaluate<R, A> = fn(&Monitor, &R, &Control<'_>) -> netmon_core::Result<A>;

/// A question that is computed at once: GET with a query, for which `prepare` adds what its kind of client needs, or POST
/// with the request as the library has it.
fn question<R, A>(evaluate: Evaluate<R, A>, prepare: fn(&mut R)) -> MethodRouter<Arc<Daemon>>
where
    R: DeserializeOwned + JsonSchema + Send + Sync + 'static,
    A: Serialize + Send + 'static,
{
    let handler = move |State(daemon): State<Arc<Daemon>>, mut asked: Asked<R>| async move {
        if asked.is_get {
            prepare(&mut asked.request);
        }
        let monitor = daemon.monitor(asked.asker.access);
        let work = move |cancel: &netmon_core::Cancel| {
            let control = Control { cancel: cancel.clone(), ..Control::default() };
            evaluate(&monitor, &asked.request, &control)
        };
        let (answer, permit) = daemon.compute(&asked.asker.caller, work).await?;
        json(&answer, permit)
    };
    get(handler).post(handler)
}

/// A question that takes its time.
fn measurement<R, A>(evaluate: Evaluate<R, A>) -> MethodRouter<Arc<Daemon>>
where
    R: DeserializeOwned + JsonSchema + Send + Sync + 'static,
    A: Serialize + Send + 'static,
{
    let handler = move |State(daemon): State<Arc<Daemon>>, asked: Asked<R>| async move {
        let monitor = daemon.monitor(asked.asker.access);
        let work = move |cancel: &netmon_core::Cancel| {
            let control = Control { cancel: cancel.clone(), ..Control::default() };
            evaluate(&monitor, &asked.request, &control)
        };
        let (answer, permit) = daemon.wait(&asked.asker.caller, work).await?;
        json(&answer, permit) as Result<Response, Refusal>
    };
    get(handler).post(handler)
}
