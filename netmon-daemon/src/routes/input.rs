//! Reading requests: bodies within their limits of size and time, and queries.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{Method, header},
};
use http_body_util::{BodyExt as _, Limited};
use netmon_core::{CleanText, ErrorKind};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::Asker;
use crate::{daemon::Daemon, query, reply::Refusal};

/// Who asks.
pub(super) fn asker(request: &Request) -> Result<Asker, Refusal> {
    let asker = request.extensions().get::<Asker>().copied();
    asker.ok_or_else(|| Refusal::new(ErrorKind::Unauthorized, "nobody is known to ask"))
}

/// A JSON body.
pub(super) struct Json<T>(pub(super) Asker, pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Daemon>> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, daemon: &Arc<Daemon>) -> Result<Self, Refusal> {
        let asker = asker(&request)?;
        if request.uri().query().is_some_and(|query| !query.is_empty()) {
            return Err(Refusal::new(
                ErrorKind::InvalidRequest,
                "what is asked with POST is in the body, and not in the address",
            ));
        }
        let body = body(request, daemon).await?;
        Ok(Self(asker, parse(&body)?))
    }
}

/// A request in the query of GET, or the body of POST.
pub(super) struct Asked<T> {
    pub(super) asker: Asker,
    pub(super) request: T,
    /// Whether it was GET, as people and simple programs ask.
    pub(super) is_get: bool,
}

impl<T: DeserializeOwned + JsonSchema> FromRequest<Arc<Daemon>> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, daemon: &Arc<Daemon>) -> Result<Self, Refusal> {
        let asker = asker(&request)?;
        if request.method() == Method::POST {
            let Json(asker, request) = Json::from_request(request, daemon).await?;
            return Ok(Self { asker, request, is_get: false });
        }
        let request = query::read(request.uri().query().unwrap_or_default())?;
        Ok(Self { asker, request, is_get: true })
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    let wrong = |message: &str| {
        let message = CleanText::from(message);
        Refusal::new(
            ErrorKind::InvalidRequest,
            format!("the body is not the JSON of this question: {message}"),
        )
    };
    match body.trim_ascii() {
        [] => serde_json::from_slice(b"{}"),
        // A list would do too, for serde: its items as fields in their order.
        object @ [b'{', ..] => serde_json::from_slice(object),
        _ => return Err(wrong("it has to be an object")),
    }
    .map_err(|error| wrong(&error.to_string()))
}

/// The whole body.
pub(super) async fn body(request: Request, daemon: &Daemon) -> Result<Bytes, Refusal> {
    let limits = &daemon.settings().limits;
    let most = limits.body_kib * 1024;
    let too_large = || {
        let mut refusal = Refusal::new(
            ErrorKind::InvalidRequest,
            format!("the body is larger than {} KiB", limits.body_kib),
        );
        refusal.0.status = 413;
        refusal
    };
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let read = Limited::new(request.into_body(), most).collect();
    match tokio::time::timeout(limits.patience(), read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::new(ErrorKind::InvalidRequest, "the body ended too early")),
        Err(_) => {
            let mut refusal = Refusal::new(ErrorKind::InvalidRequest, "the body came too slowly");
            refusal.0.status = 408;
            Err(refusal)
        }
    }
}
