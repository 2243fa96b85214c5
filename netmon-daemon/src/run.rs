//! The daemon from its start to its end.

use std::{os::unix::net::UnixListener as StdUnixListener, sync::Arc, time::Duration};

use netmon_core::source::live::give_back;
use netmon_mcp::http::Token;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};

use crate::{
    config::Config,
    daemon::Daemon,
    listen::{self, Socket},
    privileges, routes,
};

/// Why the daemon does not run: a sentence, and the status to end with.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong, and what to do.
    pub message: String,
    /// 2 for a mistake in the settings, 3 where something is in the way, 1 for all else.
    pub status: u8,
}

fn mistake(message: String) -> Failure {
    Failure { message, status: 2 }
}

fn hindrance(message: impl Into<String>) -> Failure {
    Failure { message: message.into(), status: 3 }
}

/// The OpenAPI document of what a daemon of this version serves.
pub fn document() -> &'static str {
    routes::openapi::document()
}

/// Observes and answers until SIGTERM or SIGINT. `read` gives the settings, now and at each SIGHUP. Call it on the main
/// thread before there are others: it gives up what privileges it can.
///
/// # Errors
/// [`Failure`], before anything is attached or after everything was detached.
pub fn run(read: impl Fn() -> Result<Config, String>) -> Result<(), Failure> {
    let config = read().map_err(mistake)?;
    config.check().map_err(mistake)?;
    let inherited = inherited_socket().map_err(hindrance)?;
    let missing = privileges::drop_privileges()
        .map_err(|error| hindrance(format!("cannot drop privileges: {error}")))?;
    if !missing.is_empty() {
        tracing::warn!(
            "without {} only a part is observed; netmon-cli doctor says which",
            missing.join(", ")
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| hindrance(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(serve(config, inherited, &read));
    // Not to wait for questions that do not hear that they are cancelled.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

/// The socket that systemd opened, if it did.
fn inherited_socket() -> Result<Option<StdUnixListener>, String> {
    let mut sockets = listenfd::ListenFd::from_env();
    match sockets.len() {
        0 => Ok(None),
        1 => sockets.take_unix_listener(0).map_err(|error| {
            format!("the socket from systemd cannot be used: {error}; it has to be a Unix stream")
        }),
        more => Err(format!("systemd handed over {more} sockets; netmond.socket has to have one")),
    }
}

async fn serve(
    config: Config,
    inherited: Option<StdUnixListener>,
    read: &impl Fn() -> Result<Config, String>,
) -> Result<(), Failure> {
    let (socket, place) = match inherited {
        Some(listener) => {
            let socket = Socket::inherited(listener).map_err(|error| hindrance(error.to_string()))?;
            (socket, "the socket from systemd".to_owned())
        }
        None => {
            let path = &config.listen.socket;
            (Socket::bind(path).await.map_err(hindrance)?, path.display().to_string())
        }
    };
    let tls = config.tls.as_ref().map(listen::tls).transpose().map_err(hindrance)?;
    let needs_token = config.listen.addresses.iter().any(listen::is_open_to_others);
    let token = Token::load(&config.access.token_file, needs_token).map_err(hindrance)?;
    let mut tcp = Vec::new();
    for address in &config.listen.addresses {
        tcp.push((listen::bind_tcp(address.0).await.map_err(hindrance)?, listen::is_open_to_others(address)));
    }
    let mut signals =
        Signals::new().map_err(|error| hindrance(format!("cannot listen to signals: {error}")))?;

    let opened = tokio::task::spawn_blocking(move || Daemon::open(config, token)).await;
    let daemon = match opened {
        Ok(Ok(daemon)) => Arc::new(daemon),
        Ok(Err(error)) => return Err(hindrance(error.with_cause())),
        Err(error) => return Err(Failure { message: error.to_string(), status: 1 }),
    };
    let router = routes::router(Arc::clone(&daemon));
    let mut listeners = JoinSet::new();
    listeners.spawn(listen::serve_unix(socket, Arc::clone(&daemon), router.clone()));
    tracing::info!("listening on {place}");
    for (listener, open_to_others) in tcp {
        let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
        let scheme = if tls.is_some() { "https" } else { "http" };
        if open_to_others && tls.is_none() {
            tracing::warn!(
                "{scheme}://{address} can be reached from other hosts, and its token can be read on the way: \
                            configure tls"
            );
        }
        tracing::info!("listening on {scheme}://{address}");
        listeners.spawn(listen::serve_tcp(listener, tls.clone(), Arc::clone(&daemon), router.clone()));
    }
    notify(&[NotifyState::Ready, NotifyState::Status("observing")]);
    tracing::info!("ready");

    let mut watchdog =
        tokio::time::interval(sd_notify::watchdog_enabled().unwrap_or(Duration::from_secs(20)) / 2);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => reload(&daemon, read),
            _ = watchdog.tick() => if answers(&daemon).await {
                notify(&[NotifyState::Watchdog]);
            },
        }
    }
    tracing::info!("ending");
    notify(&[NotifyState::Stopping]);
    daemon.shutdown.cancel();
    let all = async { while listeners.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(listen::LONGEST_GOODBYE, all).await;
    Ok(())
}

/// Whether the source still tells something: a daemon that hangs is started anew by systemd.
async fn answers(daemon: &Arc<Daemon>) -> bool {
    let source = daemon.source(crate::access::Access::All);
    let asked = tokio::task::spawn_blocking(move || {
        // What was answered since the last time took memory.
        give_back();
        source.observed(Some(Duration::from_secs(1))).is_ok()
    });
    matches!(tokio::time::timeout(Duration::from_secs(5), asked).await, Ok(Ok(true)))
}

fn reload(daemon: &Daemon, read: &impl Fn() -> Result<Config, String>) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    let needs_token = daemon.settings().listen.addresses.iter().any(listen::is_open_to_others);
    let read = read().and_then(|new| {
        new.check()?;
        let token = Token::load(&new.access.token_file, needs_token)?;
        Ok((new, token))
    });
    match read {
        Ok((new, token)) => {
            let old = daemon.settings();
            if new.listen != old.listen || new.observe != old.observe || new.tls != old.tls {
                tracing::warn!("listen, tls and observe change at the next start");
            }
            daemon.reload(new, token);
            tracing::info!("settings read again");
        }
        Err(message) => tracing::error!("the settings stay as they are: {message}"),
    }
    notify(&[NotifyState::Ready]);
}

/// Tells systemd, where it asked to be told.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}
