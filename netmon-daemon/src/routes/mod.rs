//! What can be asked over HTTP, and by whom.

mod answers;
pub(crate) mod compat;
mod events;
mod facts;
mod input;
mod mcp;
pub(crate) mod metrics;
pub(crate) mod openapi;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, Uri, header},
    middleware::{self, Next},
    response::{Html, IntoResponse as _, Response},
    routing::{any, get},
};
use netmon_core::ErrorKind;
use netmon_mcp::http::is_own_name;

use crate::{
    access::{Access, Caller},
    daemon::Daemon,
    reply::{self, Refusal},
};

/// Somebody who may ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) caller: Caller,
    pub(crate) access: Access,
}

/// Everything that is served.
pub(crate) fn router(daemon: Arc<Daemon>) -> Router {
    let open = Router::new()
        .route("/docs", get(docs))
        .route("/openapi.json", get(document))
        .route("/health", get(compat::health));
    Router::new()
        .nest("/v1", answers::routes().merge(events::routes()).nest("/facts", facts::routes()))
        .nest("/api", compat::routes())
        .route("/metrics", get(metrics::metrics))
        .route("/mcp", any(mcp::mcp))
        .fallback(nothing)
        .layer(middleware::from_fn_with_state(Arc::clone(&daemon), admit))
        // What is no secret can be read without a token.
        .merge(open)
        .layer(middleware::from_fn_with_state(Arc::clone(&daemon), check_page))
        .layer(middleware::from_fn(reply::finish))
        .with_state(daemon)
}

async fn nothing(uri: Uri) -> Refusal {
    let path = netmon_core::CleanText::from(uri.path());
    Refusal::new(ErrorKind::NotFound, format!("there is nothing at {path}")).hint("see /docs")
}

async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::document()).into_response()
}

async fn docs() -> Html<String> {
    Html(openapi::page())
}

fn caller(request: &Request) -> Result<Caller, Refusal> {
    // Every connection has one.
    let caller = request.extensions().get::<Caller>().copied();
    caller.ok_or_else(|| Refusal::new(ErrorKind::Unauthorized, "nobody is known to ask"))
}

/// Refuses pages of the Web that the daemon was not told of: by TCP a browser of this host could be led here, by a name
/// that somebody else points at this host, or by a page of another origin.
async fn check_page(
    State(daemon): State<Arc<Daemon>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if caller(&request)?.is_tcp {
        let access = &daemon.settings().access;
        let host = one(request.headers(), &header::HOST)?;
        let uri_host = request.uri().authority().map(axum::http::uri::Authority::as_str);
        let host = host.or(uri_host).unwrap_or_default();
        if !is_own_name(host, &access.hosts) {
            let host = netmon_core::CleanText::from(host);
            return Err(Refusal::new(
                ErrorKind::Forbidden,
                format!("this host is not called \"{host}\" here"),
            )
            .hint("use its address or localhost, or add the name to access.hosts"));
        }
        if let Some(origin) = one(request.headers(), &header::ORIGIN)? {
            let same = [format!("http://{host}"), format!("https://{host}")];
            if !same.iter().chain(&access.origins).any(|known| known.eq_ignore_ascii_case(origin)) {
                let origin = netmon_core::CleanText::from(origin);
                return Err(Refusal::new(ErrorKind::Forbidden, format!("pages of \"{origin}\" may not ask"))
                    .hint("add the origin to access.origins"));
            }
        }
    }
    Ok(next.run(request).await)
}

/// A header that may be there once.
fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let wrong = || Refusal::new(ErrorKind::InvalidRequest, format!("the header {name} makes no sense"));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| wrong()),
        (Some(_), Some(_)) => Err(wrong()),
    }
}

/// Lets in who is known by the connection or presents the token.
async fn admit(
    State(daemon): State<Arc<Daemon>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let caller = caller(&request)?;
    let unauthorized = |detail: &str| {
        let hint = if daemon.has_token() {
            "present the token of access.token_file: Authorization: Bearer TOKEN"
        } else {
            "netmond has no token yet: it is made, in access.token_file, when an address beyond loopback is listened at"
        };
        Refusal::new(ErrorKind::Unauthorized, detail).hint(hint)
    };
    let access = match one(request.headers(), &header::AUTHORIZATION)? {
        Some(value) => {
            let token = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            match token {
                Some((_, token)) if daemon.knows(token.trim()) => Access::All,
                Some(_) => return Err(unauthorized("this is not the token")),
                None => return Err(unauthorized("only bearer tokens are understood")),
            }
        }
        None => caller.access.ok_or_else(|| unauthorized("nobody knows who asks"))?,
    };
    request.extensions_mut().insert(Asker { caller, access });
    Ok(next.run(request).await)
}
