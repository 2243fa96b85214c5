//! One client on a pair of streams: from its first message until it goes, or until the program is told to stop.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use rmcp::{ServiceExt as _, service::ServerInitializeError, transport::io::stdio_pipes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinError,
    time::timeout,
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::server::NetmonServer;

/// How long a client that has gone, or a program that was told to stop, is waited for. Calls in flight end much sooner;
/// only a client that does not read its answers takes longer.
const LONGEST_GOODBYE: Duration = Duration::from_secs(1);

/// How long calls under way may go on when their client has said its last word: enough for those that take no time, as
/// when a shell pipes its requests in and closes the pipe.
const GRACE: Duration = Duration::from_millis(200);

/// How long a request that was just read may take until its call is under way.
const START: Duration = Duration::from_millis(1);

/// Why serving ended other than by the client's or the caller's wish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The client began with something that is no way to begin, or its end broke while it did.
    #[error("the client did not begin as MCP clients do: {0}")]
    Handshake(#[source] Box<ServerInitializeError>),
    /// A fault in the server itself.
    #[error("the server failed")]
    Failed(#[source] JoinError),
}

/// Serves one client on stdin and stdout, where nothing else may be written. Needs a tokio runtime with I/O and time.
///
/// Ends when the client closes stdin, or when `shutdown` does; measurements under way are then cancelled and what they
/// attached is detached. Where stdin is no pipe, a thread of the runtime may still wait for input afterwards: end such a
/// runtime with `shutdown_background`.
///
/// # Errors
/// [`ServeError`]. A client that goes without a word is none.
pub async fn serve_stdio(server: NetmonServer, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    let (reader, writer) = stdio_pipes();
    serve(server, reader, writer, shutdown).await
}

/// Serves one client on any pair of streams; otherwise as [`serve_stdio`].
///
/// # Errors
/// As [`serve_stdio`].
pub async fn serve<R, W>(
    server: NetmonServer,
    reader: R,
    writer: W,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let (client, stop) = (Client::default(), CancellationToken::new());
    let server = server.for_client(client.clone());
    let reader = UntilGone { reader, client: client.clone(), goodbye: None, gone: false };
    let mut serving = pin!(serve_until(server, reader, writer, stop.clone()));

    tokio::select! {
        ended = &mut serving => return ended,
        () = shutdown => stop.cancel(),
        () = client.closed.cancelled() => {}
    }
    timeout(LONGEST_GOODBYE, serving).await.unwrap_or(Ok(()))
}

async fn serve_until<R, W>(
    server: NetmonServer,
    reader: UntilGone<R>,
    writer: W,
    stop: CancellationToken,
) -> Result<(), ServeError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    match server.serve_with_ct((reader, writer), stop).await {
        Ok(running) => running.waiting().await.map(|_reason| ()).map_err(ServeError::Failed),
        // Before a word was said.
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => Ok(()),
        Err(error) => Err(ServeError::Handshake(Box::new(error))),
    }
}

/// What a call has to know of its client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    calls: TaskTracker,
    closed: CancellationToken,
    unwanted: CancellationToken,
}

impl Client {
    /// To be held by a call while it is under way.
    pub(crate) fn call(&self) -> TaskTrackerToken {
        self.calls.token()
    }

    /// Returns when the client is gone, and calls should end.
    pub(crate) async fn gone(&self) {
        self.unwanted.cancelled().await;
    }

    /// From the client's last word until it may be taken for gone.
    async fn goodbye(self) {
        self.closed.cancel();
        tokio::time::sleep(START).await;
        self.calls.close();
        tokio::select! {
            () = self.calls.wait() => {}
            () = tokio::time::sleep(GRACE) => self.unwanted.cancel(),
        }
    }
}

/// Keeps the end of the client's requests from rmcp until calls under way are done or cancelled: rmcp would send no more
/// progress, and would wait 5 s for calls without telling them.
struct UntilGone<R> {
    reader: R,
    client: Client,
    goodbye: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    gone: bool,
}

impl<R: AsyncRead + Unpin> AsyncRead for UntilGone<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { reader, client, goodbye, gone } = self.get_mut();
        if *gone {
            return Poll::Ready(Ok(()));
        }
        if goodbye.is_none() {
            let before = buffer.filled().len();
            match Pin::new(reader).poll_read(context, buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if buffer.filled().len() > before => return Poll::Ready(Ok(())),
                // The end, or as good as: nothing can be read any more.
                Poll::Ready(_) => {}
            }
        }
        let goodbye = goodbye.get_or_insert_with(|| Box::pin(client.clone().goodbye()));
        *gone = goodbye.as_mut().poll(context).is_ready();
        if *gone { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}
