//! The protocol over HTTP: for programs that serve it beside other things, and served by itself.

mod admission;
mod serve;

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

pub use admission::{Admission, Token, is_own_name, listen_address, user_over_loopback};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::combinators::BoxBody;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
pub use serve::serve_http;
use tokio_util::sync::CancellationToken;

use crate::server::NetmonServer;

/// The largest message.
const MOST_BYTES: usize = 64 * 1024;

/// netmon's tools over streamable HTTP, both generations of the protocol at one address. Cheap to clone.
///
/// No request depends on one before: there are no sessions to keep, to bound or to lose, whichever generation a client
/// speaks. A measurement ends when its client hangs up.
///
/// Whoever serves this decides who may ask: neither the caller nor `Host` nor `Origin` is looked at here.
#[derive(Clone)]
pub struct HttpService {
    inner: StreamableHttpService<NetmonServer, NeverSessionManager>,
}

impl fmt::Debug for HttpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpService").finish_non_exhaustive()
    }
}

impl HttpService {
    /// Serves this server's tools until `stop` is cancelled, which ends all that is under way.
    pub fn new(server: NetmonServer, stop: CancellationToken) -> Self {
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_sse_keep_alive(Some(Duration::from_secs(10)))
            .with_max_request_body_bytes(MOST_BYTES)
            .with_cancellation_token(stop)
            .disable_allowed_hosts()
            .disable_allowed_origins();
        let inner = StreamableHttpService::new(
            move || Ok(server.clone()),
            Arc::new(NeverSessionManager::default()),
            config,
        );
        Self { inner }
    }

    /// Answers one request. Needs a tokio runtime with time.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<BoxBody<Bytes, Infallible>>
    where
        B: Body + Send + 'static,
        B::Error: fmt::Display,
        B::Data: Send,
    {
        self.inner.handle(request).await
    }
}
