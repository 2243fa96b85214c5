//! `netmon-mcp`: serves one MCP client on stdin and stdout.
#![forbid(unsafe_code)]
#![allow(clippy::doc_markdown, reason = "this is the text of --help, which shows backticks as they are")]

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::Parser;
use netmon_core::source::SourceChoice;
use netmon_mcp::{NetmonServer, serve_stdio};
use tokio::signal::unix::{SignalKind, signal};

/// A mistake in how the program was started.
const USAGE: u8 = 2;
/// The source cannot be opened.
const UNREACHABLE: u8 = 3;

const CLIENTS: &str = "\
Clients:
  Claude Code       claude mcp add netmon -- netmon-mcp
  VS Code           code --add-mcp '{\"name\":\"netmon\",\"command\":\"netmon-mcp\"}'
  Codex             codex mcp add netmon -- netmon-mcp
  Claude Desktop, Cursor and others, in their settings:
                    {\"mcpServers\": {\"netmon\": {\"command\": \"netmon-mcp\"}}}

Totals need no privilege. For packets by protocol, once:
  sudo setcap cap_bpf,cap_net_admin,cap_perfmon+ep \"$(command -v netmon-mcp)\"

Logs go to stderr; RUST_LOG=debug shows more of them.

Exit status:
  0  the client closed stdin, or SIGTERM came
  1  the client does not speak MCP
  2  a mistake on the command line or in the environment
  3  the source cannot be opened";

/// What is happening on this Linux host's network, for AI assistants.
///
/// Speaks the Model Context Protocol on stdin and stdout, and is started by the program that asks: an MCP client. To ask
/// from a terminal use netmon-cli.
#[derive(Debug, Parser)]
#[command(name = "netmon-mcp", version, max_term_width = 100, after_help = CLIENTS)]
struct Options {
    /// Whom to ask: auto (netmond if it runs, else live), live (this host), unix:PATH or http://HOST:PORT (netmond), replay:FILE (a recording), live:system-calls (the same, and the end of every system call is followed: exact owners on Linux before 6.3)
    #[arg(long, env = "NETMON_SOURCE", default_value = "auto", value_name = "SOURCE")]
    source: SourceChoice,
    /// Only read. There is no other mode: no tool changes anything, with or without this
    #[arg(long)]
    read_only: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    start_log();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            say(&format!("error: {message}"));
            ExitCode::from(code)
        }
    }
}

fn run(options: &Options) -> Result<(), (u8, String)> {
    check_transport()?;
    let server = NetmonServer::open(&options.source).map_err(|error| (UNREACHABLE, with_cause(&error)))?;
    if io::stdin().is_terminal() {
        say(
            "netmon-mcp is started by MCP clients and waits for JSON-RPC on stdin; see --help, or use netmon-cli here",
        );
    }
    // Measurements block threads of their own; what is left is too little for more than one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (1, format!("cannot start: {error}")))?;
    let served = runtime.block_on(serve_stdio(server, told_to_stop()));
    // Not to wait for a thread that reads a stdin that nobody closes.
    runtime.shutdown_background();
    served.map_err(|error| (1, with_cause(&error)))
}

/// `MCP_TRANSPORT=http` is what users of the Go netmon-mcp have set; serving something else would leave them waiting.
fn check_transport() -> Result<(), (u8, String)> {
    let Some(transport) = std::env::var_os("MCP_TRANSPORT") else { return Ok(()) };
    if transport.is_empty() || transport == "stdio" {
        return Ok(());
    }
    let transport = netmon_core::CleanText::from(transport.to_string_lossy().as_ref());
    Err((USAGE, format!("MCP_TRANSPORT is \"{transport}\", and this version speaks stdio only; unset it")))
}

/// Nothing but the protocol may be on stdout.
fn start_log() {
    use tracing_subscriber::filter::{EnvFilter, LevelFilter};

    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        // A client that closes our stderr has no wish to hear of it.
        .log_internal_errors(false)
        .init();
}

async fn told_to_stop() {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => drop(signals.recv().await),
            // Then the default action stands, which ends the program too.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some messages have their cause already.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn say(line: &str) {
    // Where stderr is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}
