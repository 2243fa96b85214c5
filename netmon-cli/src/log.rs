//! Logs: to stderr, so that stdout is the answer and nothing else.

use std::sync::OnceLock;

use tracing_subscriber::filter::{EnvFilter, LevelFilter};

type ChangeLevel = Box<dyn Fn(u8) + Send + Sync>;
static CHANGE_LEVEL: OnceLock<ChangeLevel> = OnceLock::new();

pub(crate) fn start(verbose: u8) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(verbose))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // Where nobody reads the log any more, saying so would end whoever logs.
        .log_internal_errors(false)
        .with_filter_reloading();
    let handle = log.reload_handle();
    let change: ChangeLevel = Box::new(move |verbose| {
        // It fails where there is no log any more.
        let _ = handle.reload(filter(verbose));
    });
    log.init();
    let _ = CHANGE_LEVEL.set(change);
}

/// Each line of the shell has its own.
pub(crate) fn change_level(verbose: u8) {
    if let Some(change) = CHANGE_LEVEL.get() {
        change(verbose);
    }
}

fn filter(verbose: u8) -> EnvFilter {
    let level = match verbose {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    EnvFilter::builder().with_default_directive(level.into()).from_env_lossy()
}
