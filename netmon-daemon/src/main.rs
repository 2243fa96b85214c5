//! `netmond`: observes this host's network, and answers.
#![forbid(unsafe_code)]
#![allow(clippy::doc_markdown, reason = "this is the text of --help, which shows backticks as they are")]

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser};
use netmon_core::source::{SourceChoice, live::use_one_heap};
use netmon_daemon::{
    Failure,
    config::{Address, Config, DEFAULT_FILE, LogFormat},
};
use tracing_subscriber::filter::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  sudo netmond                                 observe, and answer on /run/netmon/netmond.sock
  netmon-cli summary                           what a user then asks, without privilege
  sudo netmond --addr :7070                    also HTTP on 127.0.0.1:7070
  curl http://127.0.0.1:7070/v1/summary
  netmond --openapi > openapi.json             the document of the API

SIGHUP reads the settings again; SIGTERM ends and detaches everything.

Exit status:
  0  ended by SIGTERM or SIGINT
  1  a fault in the daemon
  2  a mistake on the command line or in the settings
  3  something is in the way: another daemon, an address in use, a file that cannot be read";

/// Observes this host's network all the time, and answers: each user what that user may see.
///
/// Root and members of the group netmon see all connections; other users those of their own processes, and everybody the
/// rates of interfaces. Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and drops every other capability.
#[derive(Debug, Parser)]
#[command(name = "netmond", version, max_term_width = 100, after_help = EXAMPLES)]
struct Options {
    /// The Unix socket to listen on [default: /run/netmon/netmond.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Listen on TCP too: HOST:PORT, or :PORT for 127.0.0.1; repeat for several
    #[arg(long = "addr", value_name = "HOST:PORT")]
    addresses: Vec<Address>,
    /// Listen on TCP too, on 127.0.0.1 and the port of --port, as the ebpf-server's manual has it
    #[arg(long)]
    http: bool,
    /// The port of --http
    #[arg(long, value_name = "N", default_value_t = 8080, requires = "http")]
    port: u16,
    /// The file with the settings [default: /etc/netmon/netmond.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to observe: live, live:system-calls, or replay:FILE to serve a recording
    #[arg(long, env = "NETMOND_SOURCE", value_name = "SOURCE")]
    source: Option<SourceChoice>,
    /// Read the settings, say whether they are right, and end
    #[arg(long)]
    check: bool,
    /// Print the OpenAPI document, and end
    #[arg(long)]
    openapi: bool,
    /// Print completions for a shell, and end
    #[arg(long, value_name = "SHELL")]
    completions: Option<clap_complete::Shell>,
    /// Print the manual page, and end
    #[arg(long)]
    man: bool,
}

impl Options {
    /// The settings: what holds by itself, then the file, then flags.
    fn settings(&self) -> Result<Config, String> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None if Path::new(DEFAULT_FILE).exists() => Config::read(Path::new(DEFAULT_FILE))?,
            None => Config::default(),
        };
        if let Some(socket) = &self.socket {
            config.listen.socket.clone_from(socket);
        }
        config.listen.addresses.extend(&self.addresses);
        if self.http {
            config.listen.addresses.push(Address(([127, 0, 0, 1], self.port).into()));
        }
        if let Some(source) = &self.source {
            config.observe.source.clone_from(source);
        }
        config.check()?;
        Ok(config)
    }
}

fn main() -> ExitCode {
    use_one_heap();
    let options = Options::parse();
    match start(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, status }) => {
            let _ = writeln!(io::stderr(), "error: {message}");
            ExitCode::from(status)
        }
    }
}

fn start(options: &Options) -> Result<(), Failure> {
    if options.openapi {
        return print(netmon_daemon::document().as_bytes());
    }
    if let Some(shell) = options.completions {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Options::command(), "netmond", &mut text);
        return print(&text);
    }
    if options.man {
        let mut text = Vec::new();
        let page = clap_mangen::Man::new(Options::command()).section("8");
        page.render(&mut text).map_err(unwritable)?;
        return print(&text);
    }
    let config = options.settings().map_err(|message| Failure { message, status: 2 })?;
    if options.check {
        return print(b"the settings are right\n");
    }
    log(&config)?;
    netmon_daemon::run(|| options.settings())
}

fn print(text: &[u8]) -> Result<(), Failure> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritable(error)),
        _ => Ok(()),
    }
}

fn unwritable(error: io::Error) -> Failure {
    Failure { message: format!("cannot write: {error}"), status: 3 }
}

fn log(config: &Config) -> Result<(), Failure> {
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| config.log.level.clone());
    let filter = EnvFilter::try_new(&level).map_err(|error| Failure {
        message: format!(
            "{level:?} is no level of the log: {error}; write it like info, or warn,netmon_daemon=debug"
        ),
        status: 2,
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        // Where nobody reads the log any more, saying so would end whoever logs.
        .log_internal_errors(false);
    match config.log.format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
