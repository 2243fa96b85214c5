//! `/mcp`: the Model Context Protocol over streamable HTTP, each caller with the tools over what it may see.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http_body_util::Full;

use super::input::{asker, body};
use crate::{
    daemon::Daemon,
    reply::{Refusal, WithPermit},
};

pub(super) async fn mcp(State(daemon): State<Arc<Daemon>>, request: Request) -> Result<Response, Refusal> {
    let asker = asker(&request)?;
    // A call may measure, and its stream is open as long as it does.
    let permit = daemon.stream(&asker.caller)?;
    let service = daemon.mcp(asker.access);
    let (parts, rest) = request.into_parts();
    let bytes = body(Request::new(rest), &daemon).await?;
    let request = axum::http::Request::from_parts(parts, Full::new(bytes));
    let answer = service.answer(request).await;
    Ok(answer.map(|body| Body::new(WithPermit { body, _permit: permit })).into_response())
}
