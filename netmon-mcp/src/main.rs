//! `netmon-mcp`: serves one MCP client on stdin and stdout, or several by HTTP.
#![forbid(unsafe_code)]
#![allow(clippy::doc_markdown, reason = "this is the text of --help, which shows backticks as they are")]

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};
#[cfg(feature = "http")]
use std::{net::SocketAddr, path::PathBuf};

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

By HTTP, for several clients or another machine, at /mcp: netmon-mcp --http 127.0.0.1:8080. Over loopback your own user
and root may ask; everybody else, and whoever comes from elsewhere, needs the token of --token-file.

Logs go to stderr; RUST_LOG=debug shows more of them.

Exit status:
  0  the client closed stdin, or SIGTERM came
  1  the client does not speak MCP
  2  a mistake on the command line or in the environment
  3  the source cannot be opened, or the address not be listened at";

/// What is happening on this Linux host's network, for AI assistants.
///
/// Speaks the Model Context Protocol on stdin and stdout, and is started by the program that asks: an MCP client. With
/// --http it waits for clients instead. To ask from a terminal use netmon-cli.
#[derive(Debug, Parser)]
#[command(name = "netmon-mcp", version, max_term_width = 100, after_help = CLIENTS)]
struct Options {
    /// Whom to ask: auto (netmond if it runs, else live), live (this host), unix:PATH or http://HOST:PORT (netmond), replay:FILE (a recording), live:system-calls (the same, and the end of every system call is followed: exact owners on Linux before 6.3)
    #[arg(long, env = "NETMON_SOURCE", default_value = "auto", value_name = "SOURCE")]
    source: SourceChoice,
    /// Serve streamable HTTP at this address instead of stdin and stdout: HOST:PORT, or a port on 127.0.0.1. MCP_TRANSPORT=http with MCP_PORT does the same
    #[cfg(feature = "http")]
    #[arg(long, value_name = "ADDRESS", value_parser = netmon_mcp::http::listen_address)]
    http: Option<SocketAddr>,
    /// The bearer token for --http; written, readable by this user alone, where it is needed and not there [default: ~/.local/state/netmon/mcp-token]
    #[cfg(feature = "http")]
    #[arg(long, env = "NETMON_MCP_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A name by which clients of --http may call this host, besides its addresses and localhost; repeat for several
    #[cfg(feature = "http")]
    #[arg(long = "allow-host", value_name = "NAME")]
    hosts: Vec<String>,
    /// An origin such as https://desk.example whose pages may ask; repeat for several
    #[cfg(feature = "http")]
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    origins: Vec<String>,
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
    let address = address(options)?;
    let server = NetmonServer::open(&options.source).map_err(|error| (UNREACHABLE, with_cause(&error)))?;
    #[cfg(feature = "http")]
    if let Some(address) = address {
        return http(options, server, address);
    }
    #[cfg(not(feature = "http"))]
    let () = address;
    if io::stdin().is_terminal() {
        say(
            "netmon-mcp is started by MCP clients and waits for JSON-RPC on stdin; see --help, or use netmon-cli here",
        );
    }
    let runtime = runtime()?;
    let served = runtime.block_on(serve_stdio(server, told_to_stop()));
    // Not to wait for a thread that reads a stdin that nobody closes.
    runtime.shutdown_background();
    served.map_err(|error| (1, with_cause(&error)))
}

/// Measurements block threads of their own; what is left is too little for more than one.
fn runtime() -> Result<tokio::runtime::Runtime, (u8, String)> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (1, format!("cannot start: {error}")))
}

/// What `MCP_TRANSPORT` asks for, as users of the Go netmon-mcp have set it: whether it is HTTP.
fn transport_is_http() -> Result<bool, (u8, String)> {
    let Some(transport) = std::env::var_os("MCP_TRANSPORT") else { return Ok(false) };
    match transport.to_str() {
        Some("" | "stdio") => Ok(false),
        Some("http") => Ok(true),
        _ => {
            let transport = netmon_core::CleanText::from(transport.to_string_lossy().as_ref());
            Err((USAGE, format!("MCP_TRANSPORT is \"{transport}\"; it may be stdio or http")))
        }
    }
}

#[cfg(not(feature = "http"))]
fn address(_: &Options) -> Result<(), (u8, String)> {
    if transport_is_http()? {
        return Err((
            USAGE,
            "MCP_TRANSPORT is \"http\", and netmon-mcp was built without its feature `http`".to_owned(),
        ));
    }
    Ok(())
}

/// Where to listen, if anywhere.
#[cfg(feature = "http")]
fn address(options: &Options) -> Result<Option<SocketAddr>, (u8, String)> {
    const DEFAULT_PORT: &str = "8080";

    let wanted = transport_is_http()?;
    if options.http.is_some() || !wanted {
        return Ok(options.http);
    }
    let port = std::env::var("MCP_PORT").ok().filter(|port| !port.is_empty());
    let address = netmon_mcp::http::listen_address(port.as_deref().unwrap_or(DEFAULT_PORT));
    address.map(Some).map_err(|wrong| (USAGE, format!("MCP_PORT: {wrong}")))
}

#[cfg(feature = "http")]
fn http(options: &Options, server: NetmonServer, address: SocketAddr) -> Result<(), (u8, String)> {
    use netmon_mcp::http::{Admission, Token, serve_http};

    let is_open_to_others = !address.ip().is_loopback();
    let path = options.token_file.clone().or_else(default_token_file);
    let token = match &path {
        Some(path) => Token::load(path, is_open_to_others || options.token_file.is_some())
            .map_err(|message| (UNREACHABLE, message))?,
        None if is_open_to_others => {
            return Err((
                USAGE,
                "there is no home directory for a token; name a file with --token-file".to_owned(),
            ));
        }
        None => None,
    };
    let has_token = token.is_some();
    let admission = Admission { token, hosts: options.hosts.clone(), origins: options.origins.clone() };
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let failed = |error| (UNREACHABLE, format!("cannot listen on {address}: {error}"));
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        say(&format!("listening on http://{address}/mcp"));
        if let Some(path) = path.filter(|_| has_token) {
            say(&format!("the token is in {}", path.display()));
        }
        if is_open_to_others {
            say("what is asked and answered can be read on the way; beyond a network of your own use SSH or a proxy with TLS");
        }
        serve_http(server, listener, admission, told_to_stop()).await;
        Ok(())
    });
    runtime.shutdown_background();
    served
}

#[cfg(feature = "http")]
fn default_token_file() -> Option<PathBuf> {
    let directory = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")))?;
    Some(state.join("netmon/mcp-token"))
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
