//! The command line.
#![allow(clippy::doc_markdown, reason = "this is the text of --help, which shows backticks as they are")]

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use netmon_core::{
    request::{
        ConnectionsRequest, HookChoice, PatternsRequest, RateRequest, SocketsRequest, SummaryRequest,
        parse_duration,
    },
    source::SourceChoice,
};

const EXIT_CODES: &str = "\
Exit status:
  0  answered
  1  doctor found something missing
  2  a mistake on the command line
  3  not permitted, or the source cannot be read
  4  no such interface";

const EXAMPLES: &str = "\
Examples:
  netmon-cli connections                      who talks to whom: owners, outcomes and bytes
  netmon-cli summary --process curl           attempts, failures and bytes by process and destination
  netmon-cli listeners                        who waits for connections
  netmon-cli pps                              packets per second of the default interface
  netmon-cli pps --iface eth0 --watch         the same for eth0, again and again
  netmon-cli interfaces -o json               all interfaces with their rates, for scripts
  netmon-cli doctor                           what works here, and what would fix the rest
  netmon-cli record today.jsonl               write a recording, and ask it later:
  netmon-cli --source replay:today.jsonl pps";

/// What is happening on this Linux host's network.
///
/// Asks the kernel itself: its own counters for everybody, and eBPF for those who may use it (root, or cap_bpf and
/// cap_net_admin). Every answer says what it was observed with and what is missing.
#[derive(Debug, Parser)]
#[command(name = "netmon-cli", version, max_term_width = 100, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Whom to ask: auto, live (this host) or replay:FILE (a recording)
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        visible_alias = "server",
        env = "NETMON_SOURCE",
        default_value = "auto",
        value_name = "SOURCE"
    )]
    pub(crate) source: SourceChoice,
    /// How to print the answer
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Global options",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub(crate) output: Format,
    /// Whether to use colours; auto is on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_enum,
        default_value_t,
        value_name = "WHEN"
    )]
    pub(crate) color: Color,
    /// Log what is done, to stderr; twice for more
    #[arg(short, long, global = true, help_heading = "Global options", action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
    /// One JSON object a row, and a last one of type `end`
    Jsonl,
    /// For spreadsheets
    Csv,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// Decides for error messages; tables ask [`Color::wanted`].
    pub(crate) fn write_global(self) {
        match self {
            Self::Auto => {}
            Self::Always => anstream::ColorChoice::Always.write_global(),
            Self::Never => anstream::ColorChoice::Never.write_global(),
        }
    }

    /// Whether stdout gets colours.
    pub(crate) fn wanted(self) -> bool {
        match self {
            Self::Auto => anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Interfaces with state, addresses, counters and rates
    #[command(after_help = "\
Examples:
  netmon-cli interfaces                  rates over one second
  netmon-cli interfaces --window 10s     rates over ten
  netmon-cli interfaces --now -o json    without rates, at once")]
    Interfaces(InterfacesArguments),

    /// Packet and byte rates of interfaces, by protocol
    ///
    /// Packets and bytes are the kernel's own counters, as `ip -s link` shows them. By protocol, and on the wire, packets
    /// are counted by eBPF where that is permitted.
    #[command(after_help = "\
Examples:
  netmon-cli pps                                      the default interface, over five seconds
  netmon-cli pps --iface eth0 --direction in --window 1s
  netmon-cli pps --watch --window 1s                  until Ctrl-C
  netmon-cli pps --watch --samples 60 -o jsonl        a minute, one JSON line a row")]
    Pps(PpsArguments),

    /// Connections with their owners, outcomes and bytes
    ///
    /// Those that are open with their totals, and those that began, failed or ended while it observes (five seconds, see
    /// --window). The process is the one that connected or accepted, however short it lived.
    #[command(after_help = "\
Examples:
  netmon-cli connections                                    everything for five seconds
  netmon-cli connections --window 0                         only what is open now
  netmon-cli connections --process curl --state failed
  netmon-cli connections --filter 'port == 443 and bytes > 1MB' --sort bytes --limit 10
  netmon-cli connections --fields process,pid,remote,error -o csv
  netmon-cli connections --watch --direction outbound       a line a change, until Ctrl-C
  netmon-cli --source replay:today.jsonl connections --since 60s")]
    Connections(ConnectionsArguments),

    /// Attempts, failures by error and bytes, by process and destination
    #[command(after_help = "\
Examples:
  netmon-cli summary
  netmon-cli summary --process curl --window 30s
  netmon-cli --source replay:today.jsonl summary --since 60s -o json")]
    Summary(SummaryRequest),

    /// What stands out: top destinations, failures, bursts, beacons, scans, new destinations
    #[command(
        visible_alias = "analyze",
        after_help = "\
Examples:
  netmon-cli patterns --window 60s
  netmon-cli --source replay:today.jsonl patterns
  netmon-cli analyze --process python3 -o json"
    )]
    Patterns(PatternsRequest),

    /// All sockets now, with their owners
    #[command(after_help = "\
Examples:
  netmon-cli sockets
  netmon-cli sockets --filter 'tcp.state == close_wait'
  netmon-cli sockets --process nginx -o csv")]
    Sockets(SocketsRequest),

    /// Who waits for connections, and where
    #[command(after_help = "\
Examples:
  netmon-cli listeners
  netmon-cli listeners --port 443
  netmon-cli listeners --protocol tcp -o json")]
    Listeners(SocketsRequest),

    /// What works on this kernel with these privileges, and what would fix the rest
    ///
    /// Every hook is tried for real, without attaching it. Ends with status 1 where something is missing.
    Doctor,

    /// Write a recording, from which `--source replay:FILE` answers later
    #[command(after_help = "\
Examples:
  netmon-cli record today.jsonl --duration 60s
  netmon-cli record today.jsonl --iface eth0 --interval 100ms --force
  netmon-cli --source replay:today.jsonl pps --window 60s")]
    Record(RecordArguments),

    /// Completions for a shell
    #[command(after_help = "\
Examples:
  netmon-cli completions bash > /etc/bash_completion.d/netmon-cli
  netmon-cli completions zsh > \"${fpath[1]}/_netmon-cli\"
  netmon-cli completions fish > ~/.config/fish/completions/netmon-cli.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },

    /// The manual: one page, or all of them into a directory
    #[command(after_help = "\
Examples:
  netmon-cli man | man -l -
  netmon-cli man --dir /usr/local/share/man/man1")]
    Man {
        /// Write the page of each command here
        #[arg(long, value_name = "DIRECTORY")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InterfacesArguments {
    /// How long to measure the rates, 0.1s to 60s
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true)]
    pub(crate) window: Duration,
    /// Do not measure rates
    #[arg(long, conflicts_with = "window")]
    pub(crate) now: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PpsArguments {
    #[command(flatten)]
    pub(crate) rates: RateRequest,
    /// Go on, window after window, until Ctrl-C
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// End the watch after so many windows
    #[arg(long, requires = "watch", value_name = "N")]
    pub(crate) samples: Option<NonZeroU64>,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectionsArguments {
    #[command(flatten)]
    pub(crate) connections: ConnectionsRequest,
    /// The fields to show, in this order: process, pid, remote, error and so on
    #[arg(long, value_delimiter = ',', value_name = "FIELD,...")]
    pub(crate) fields: Vec<String>,
    /// Go on, a line a change, until Ctrl-C; with --limit until so many lines
    #[arg(long, conflicts_with_all = ["since", "window", "sort", "reverse", "cursor"])]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecordArguments {
    /// The file to write
    pub(crate) file: PathBuf,
    /// For how long [default: until Ctrl-C]
    #[arg(long, value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true)]
    pub(crate) duration: Option<Duration>,
    /// Time between two samples, 0.1s to 1h
    #[arg(long, default_value = "1s", value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true)]
    pub(crate) interval: Duration,
    /// An interface to count by protocol; repeat for several [default: as for pps]. The kernel's own counters are recorded
    /// for all
    #[arg(long = "iface", visible_alias = "interface", short = 'i', value_name = "NAME")]
    pub(crate) interfaces: Vec<String>,
    /// How to count by protocol
    #[arg(long, value_enum, default_value_t, value_name = "HOOK")]
    pub(crate) hook: HookChoice,
    /// Replace the file if it exists
    #[arg(long)]
    pub(crate) force: bool,
}
