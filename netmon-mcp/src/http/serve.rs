//! A server of netmon-mcp's own, where no daemon serves the tools beside other things.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    HttpService,
    admission::{Admission, Headers, Refusal, user_over_loopback},
};
use crate::server::NetmonServer;

/// Where the protocol is spoken.
const PATH: &str = "/mcp";
/// How long answers under way may take when the server ends.
const LONGEST_GOODBYE: Duration = Duration::from_millis(700);
/// How long a client may take to send the head of a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// A client has one connection, or some; who wants more waits.
const MOST_CONNECTIONS: usize = 256;

/// Serves streamable HTTP at `/mcp` to those who are admitted, until `shutdown` ends; measurements under way are then
/// cancelled. Needs a tokio runtime with I/O and time.
///
/// Over loopback the user who runs this program is admitted, and root; everybody else needs the token.
pub async fn serve_http(
    server: NetmonServer,
    listener: TcpListener,
    admission: Admission,
    shutdown: impl Future<Output = ()>,
) {
    let stop = CancellationToken::new();
    let site = Arc::new(Site { service: HttpService::new(server, stop.child_token()), admission });
    let turns = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut serving = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = serving.join_next() => continue,
            accepted = accept(&listener, &turns) => accepted,
        };
        let Ok((stream, remote, turn)) = accepted else {
            // Without descriptors left, asking again at once would only take time from those who have one.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (site, stop) = (Arc::clone(&site), stop.clone());
        serving.spawn(async move {
            let _turn = turn;
            connection(stream, remote, site, stop).await;
        });
    }
    drop(listener);
    stop.cancel();
    let all = async { while serving.join_next().await.is_some() {} };
    let _ = timeout(LONGEST_GOODBYE, all).await;
}

async fn accept(
    listener: &TcpListener,
    turns: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let turn = Arc::clone(turns).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, remote) =
        listener.accept().await.inspect_err(|error| tracing::warn!("cannot accept a connection: {error}"))?;
    Ok((stream, remote, turn))
}

struct Site {
    service: HttpService,
    admission: Admission,
}

async fn connection(stream: TcpStream, remote: SocketAddr, site: Arc<Site>, stop: CancellationToken) {
    let Ok(local) = stream.local_addr() else { return };
    let _ = stream.set_nodelay(true);
    let user = spawn_blocking(move || user_over_loopback(remote, local)).await.ok().flatten();
    let own = rustix::process::geteuid().as_raw();
    let is_known = user.is_some_and(|user| user == own || user == 0);
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(request, is_known).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(64 * 1024);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection from {remote} ended: {error}");
    }
}

impl Site {
    async fn answer(
        &self,
        request: Request<Incoming>,
        is_known: bool,
    ) -> Response<BoxBody<Bytes, Infallible>> {
        let headers = Headers {
            host: one(&request, header::HOST)
                .or_else(|| request.uri().authority().map(http::uri::Authority::as_str)),
            origin: one(&request, header::ORIGIN),
            authorization: one(&request, header::AUTHORIZATION),
        };
        if [header::HOST, header::ORIGIN, header::AUTHORIZATION]
            .iter()
            .any(|name| request.headers().get_all(name).iter().nth(1).is_some())
        {
            return told(StatusCode::BAD_REQUEST, "a header that may be there once is there twice");
        }
        match self.admission.admits(&headers, is_known) {
            Ok(()) if request.uri().path() == PATH => self.service.answer(request).await,
            Ok(()) => told(StatusCode::NOT_FOUND, "the Model Context Protocol is spoken at /mcp"),
            Err(Refusal::Forbidden(why)) => told(StatusCode::FORBIDDEN, &why),
            Err(Refusal::Unauthorized(why)) => {
                let mut response = told(StatusCode::UNAUTHORIZED, &why);
                let scheme = HeaderValue::from_static("Bearer realm=\"netmon\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
                response
            }
        }
    }
}

/// What is no text stands for nothing that is known, and so for something wrong.
fn one(request: &Request<Incoming>, name: header::HeaderName) -> Option<&str> {
    request.headers().get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// A refusal in the form of the protocol's errors, which clients show.
fn told(status: StatusCode, why: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let body = serde_json::json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": why}});
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
