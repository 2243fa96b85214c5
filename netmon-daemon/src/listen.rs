//! Listening, and one connection from its first byte to its last.

use std::{
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixListener as StdUnixListener,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier},
};
use tower::ServiceExt as _;

use crate::{
    access::{Caller, Peer},
    config::{self, Tls},
    daemon::Daemon,
};

/// How long answers under way may take when the daemon ends.
pub(crate) const LONGEST_GOODBYE: Duration = Duration::from_millis(700);

/// A Unix socket that is removed when nobody listens on it any more.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    /// Where it is systemd's there is none.
    path: Option<PathBuf>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

impl Socket {
    /// Listens on a socket that is open already.
    pub(crate) fn inherited(listener: StdUnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, path: None })
    }

    /// Makes the socket. One that nobody listens on any more is replaced.
    pub(crate) async fn bind(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let failed = |error: io::Error| format!("cannot listen on {shown}: {error}");
        if let Some(directory) = path.parent()
            && !directory.exists()
        {
            fs::create_dir(directory)
                .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        }
        match fs::symlink_metadata(path) {
            Ok(file) if !file.file_type().is_socket() => {
                return Err(format!(
                    "{shown} is there and is no socket; remove it, or name another with --socket"
                ));
            }
            Ok(_) => match UnixStream::connect(path).await {
                Ok(other) => return Err(taken(&shown.to_string(), &other)),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = Self { listener, path: Some(path.to_owned()) };
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
        Ok(socket)
    }
}

/// Names who listens there already.
fn taken(path: &str, other: &UnixStream) -> String {
    let pid = other.peer_cred().ok().and_then(|peer| peer.pid());
    let who = match pid {
        Some(pid) => {
            let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{} (pid {pid})", netmon_core::CleanText::from_bytes(comm.trim_ascii()))
        }
        None => "another program".to_owned(),
    };
    format!("{who} listens on {path} already; end it, or name another socket with --socket")
}

/// Listens on TCP.
pub(crate) async fn bind_tcp(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))
}

/// TLS with these certificates.
pub(crate) fn tls(files: &Tls) -> Result<TlsAcceptor, String> {
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, String> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match read {
            Ok(list) if !list.is_empty() => Ok(list),
            Ok(_) => Err(format!("{} has no certificate", path.display())),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    };
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("cannot read {}: {error}", files.key.display()))?;
    let builder = match &files.client_ca {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            // Without a certificate a token serves as before.
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build();
            let verifier = verifier.map_err(|error| format!("{}: {error}", path.display()))?;
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("{} and {}: {error}", files.certificate.display(), files.key.display()))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// Serves until the daemon ends, and then what is under way for a moment longer.
pub(crate) async fn serve_unix(socket: Socket, daemon: Arc<Daemon>, router: Router) {
    let mut serving = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            Some(_) = serving.join_next() => continue,
            () = daemon.shutdown.cancelled() => break,
        };
        let Some((stream, _)) = usable(accepted).await else { continue };
        let Ok(peer) = stream.peer_cred() else { continue };
        let peer = Peer::Unix { uid: peer.uid() };
        serving.spawn(one(stream, peer, Arc::clone(&daemon), router.clone()));
    }
    drop(socket);
    farewell(serving).await;
}

/// As [`serve_unix`], on TCP.
pub(crate) async fn serve_tcp(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    daemon: Arc<Daemon>,
    router: Router,
) {
    let mut serving = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = serving.join_next() => continue,
            () = daemon.shutdown.cancelled() => break,
        };
        let Some((stream, remote)) = usable(accepted).await else { continue };
        let Ok(local) = stream.local_addr() else { continue };
        let _ = stream.set_nodelay(true);
        let (daemon, router, tls) = (Arc::clone(&daemon), router.clone(), tls.clone());
        serving.spawn(async move {
            let Some(tls) = tls else {
                return one(stream, Peer::Tcp { remote, local, certified: false }, daemon, router).await;
            };
            let patience = daemon.settings().limits.patience();
            match tokio::time::timeout(patience, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let certified = stream.get_ref().1.peer_certificates().is_some();
                    one(stream, Peer::Tcp { remote, local, certified }, daemon, router).await;
                }
                Ok(Err(error)) => tracing::debug!("no TLS with {remote}: {error}"),
                Err(_) => tracing::debug!("no TLS with {remote}: it took too long"),
            }
        });
    }
    farewell(serving).await;
}

/// A listener without descriptors left waits instead of asking again and again.
async fn usable<T>(accepted: io::Result<T>) -> Option<T> {
    match accepted {
        Ok(connection) => Some(connection),
        Err(error) => {
            tracing::warn!("cannot accept a connection: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn farewell(mut serving: JoinSet<()>) {
    let all = async { while serving.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LONGEST_GOODBYE, all).await;
}

/// One connection.
async fn one<S>(stream: S, peer: Peer, daemon: Arc<Daemon>, router: Router)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let settings = daemon.settings();
    let group = settings.access.group.clone();
    let Ok(caller) = tokio::task::spawn_blocking(move || Caller::identify(peer, &group)).await else {
        return;
    };
    let Some(_permit) = daemon.connect(caller.client) else {
        tracing::warn!("{:?} has as many connections as one client may; another was refused", caller.client);
        return;
    };
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(settings.limits.patience()));
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(caller);
        request.map(axum::body::Body::new)
    });
    let service = service.map_err(|error: Infallible| error);
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(settings.limits.patience()).max_buf_size(64 * 1024);
    let connection =
        builder.serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = daemon.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection of {:?} ended: {error}", caller.client);
    }
}

/// Whether anybody beyond this host can reach it.
pub(crate) fn is_open_to_others(address: &config::Address) -> bool {
    !address.0.ip().is_loopback()
}
