//! Answers and problems as HTTP responses.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use netmon_core::{
    Error, ErrorKind,
    source::remote::wire::{PROBLEM_JSON, Problem},
};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::routes::compat::as_api_error;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Box<Problem>);

impl Refusal {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(kind, detail)))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(Box::new(Problem::from(&error)))
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&*self.0).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        let headers = response.headers_mut();
        match self.0.error_kind() {
            ErrorKind::Unauthorized => {
                headers
                    .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"netmond\""));
            }
            ErrorKind::Busy => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response.extensions_mut().insert(Told(Arc::new(*self.0)));
        response
    }
}

/// The problem that a response is about, for those to whom it is told in another way.
#[derive(Debug, Clone)]
struct Told(Arc<Problem>);

/// A JSON body. The permit under which it was computed is kept until it is sent, so that what waits for slow readers is
/// bounded.
pub(crate) fn json(value: &impl Serialize, permit: OwnedSemaphorePermit) -> Result<Response, Refusal> {
    let body = serde_json::to_vec(value)
        .map_err(|error| Refusal::new(ErrorKind::Other, format!("the answer is no JSON: {error}")))?;
    let body = http_body_util::Full::new(axum::body::Bytes::from(body));
    let body = Body::new(WithPermit { body, _permit: permit });
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// A body under which a permit is held.
pub(crate) struct WithPermit<B> {
    pub(crate) body: B,
    pub(crate) _permit: OwnedSemaphorePermit,
}

impl<B: hyper::body::Body + Unpin> hyper::body::Body for WithPermit<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<B::Data>, B::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// Makes a problem of every error that axum tells in plain text, and adds what every response has.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let mut response = next.run(request).await;
    let status = response.status();
    let is_problem =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().ends_with(b"json"));
    if (status.is_client_error() || status.is_server_error()) && !is_problem {
        let allowed = response.headers().get(header::ALLOW).cloned();
        let path = netmon_core::CleanText::from(path.as_str());
        let (kind, detail) = match status {
            StatusCode::NOT_FOUND => (ErrorKind::NotFound, format!("there is nothing at {path}")),
            StatusCode::METHOD_NOT_ALLOWED => {
                (ErrorKind::InvalidRequest, format!("{path} cannot be asked with {method}"))
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                (ErrorKind::InvalidRequest, "the body is larger than any question needs".to_owned())
            }
            _ => {
                let reason = status.canonical_reason().unwrap_or("an error");
                (ErrorKind::InvalidRequest, reason.to_lowercase())
            }
        };
        let mut problem = Problem::new(kind, detail).with_hint(Some("see /docs".to_owned()));
        problem.status = status.as_u16();
        response = Refusal::from(problem).into_response();
        if let Some(allowed) = allowed {
            response.headers_mut().insert(header::ALLOW, allowed);
        }
    }
    if path.starts_with("/api/")
        && let Some(Told(problem)) = response.extensions().get::<Told>().cloned()
    {
        let (mut parts, _) = response.into_parts();
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        parts.headers.remove(header::CONTENT_LENGTH);
        response = (parts, axum::Json(as_api_error(&problem)).into_response().into_body()).into_response();
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
