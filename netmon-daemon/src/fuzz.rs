//! What fuzzing gives bytes to: requests over HTTP, through all that a request goes through but the socket, and settings.
//!
//! Not a part of this crate's interface.
#![allow(missing_docs, reason = "for netmon's own fuzz targets alone")]

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, Uri, header},
    response::Response,
};
use http_body_util::BodyExt as _;
use netmon_core::source::{SourceChoice, remote::wire::PROBLEM_JSON};
use tokio::runtime::{self, Runtime};
use tower::Service as _;

use crate::{
    access::{Access, Caller, Client},
    config::{Config, Observe},
    daemon::Daemon,
    routes,
};

/// As long as anything that ends may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a stream, which need not end, is listened to.
const LISTENED: Duration = Duration::from_millis(20);

/// Settings: what is read and right can be written, and is then read as the same.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(config) = Config::parse(text) else { return };
    if config.check().is_ok() {
        let written = toml::to_string(&config).expect("settings can be written");
        assert_eq!(Config::parse(&written).as_ref(), Ok(&config), "{written}");
    }
}

/// A request: `METHOD PATH` on a line, headers on lines of their own, an empty line, the body. `as: UID` among the headers
/// is who asks; without it somebody who may see all.
pub fn http(bytes: &[u8]) {
    let Some((request, caller)) = request(bytes) else { return };
    let about = format!("{} {}", request.method(), request.uri());
    let head = request.method() == Method::HEAD;
    let (runtime, router) = daemon();
    runtime.block_on(async {
        let mut request = request;
        request.extensions_mut().insert(caller);
        let mut router = router.clone();
        let answered = tokio::time::timeout(PATIENCE, router.call(request)).await;
        let response = answered.unwrap_or_else(|_| panic!("no answer to {about}")).expect("it cannot fail");
        check(&about, response, head).await;
    });
}

async fn check(about: &str, response: Response, head: bool) {
    let status = response.status();
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{about}");
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let mut body = response.into_body();
    if kind.starts_with("text/event-stream") || kind.contains("ndjson") {
        while let Ok(Some(frame)) = tokio::time::timeout(LISTENED, body.frame()).await {
            frame.expect("a stream that goes on or ends");
        }
        return;
    }
    let body = tokio::time::timeout(PATIENCE, body.collect()).await;
    let body = body.unwrap_or_else(|_| panic!("no end of {about}")).expect("a body").to_bytes();
    let is_ours = !about.contains("/mcp") && !about.contains("/api/");
    if is_ours && (status.is_client_error() || status.is_server_error()) {
        assert_eq!(kind, PROBLEM_JSON, "{about}: {status}");
    }
    if kind.contains("json") && !head && !body.is_empty() {
        let parsed = serde_json::from_slice::<serde_json::Value>(&body);
        assert!(parsed.is_ok(), "{about}: {}", body.escape_ascii());
    }
}

/// A daemon on the demo recording.
fn daemon() -> &'static (Runtime, Router) {
    static DAEMON: OnceLock<(Runtime, Router)> = OnceLock::new();
    DAEMON.get_or_init(|| {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../netmon-core/recordings/demo.jsonl");
        let observe = Observe { source: SourceChoice::Replay(demo.into()), ..Observe::default() };
        let config = Config { observe, ..Config::default() };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let daemon = Daemon::open(config, None).expect("the demo recording");
        (runtime, routes::router(Arc::new(daemon)))
    })
}

/// `None` for what is no request of HTTP.
fn request(bytes: &[u8]) -> Option<(Request<Body>, Caller)> {
    let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let body = bytes.get(end + 2..).unwrap_or_default().to_vec();
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    let first = str::from_utf8(lines.next()?).ok()?;
    let (method, target) = first.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(target.parse::<Uri>().ok()?);
    let mut access = Access::All;
    for line in lines {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        let value = value[1..].trim_ascii();
        if name == b"as" {
            access = Access::Own(str::from_utf8(value).ok()?.parse().ok()?);
        } else {
            request = request.header(name, value);
        }
    }
    let uid = if let Access::Own(uid) = access { uid } else { 0 };
    let caller = Caller { client: Client::User(uid), access: Some(access), is_tcp: false };
    Some((request.body(Body::from(body)).ok()?, caller))
}

#[cfg(test)]
mod tests {
    use netmon_testkit::fuzz::try_inputs;

    #[test]
    fn every_request_is_answered_and_no_fault_of_the_daemon() {
        try_inputs("http", super::http);
    }

    #[test]
    fn settings_are_read_or_refused() {
        try_inputs("config", super::config);
    }
}
