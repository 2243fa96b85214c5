//! The command line.
#![allow(clippy::doc_markdown, reason = "this is the text of --help, which shows backticks as they are")]

use std::{ffi::OsString, num::NonZeroU64, path::PathBuf, sync::Arc, time::Duration};

use clap::{Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use netmon_core::{
    Monitor,
    monitor::top::TopView,
    request::{
        ConnectionsRequest, DiagnoseRequest, DiffRequest, DropsRequest, HookChoice, InsightsRequest,
        PatternsRequest, RateRequest, RunRequest, SocketsRequest, SummaryRequest, TopRequest, parse_duration,
    },
    source::SourceChoice,
};

use crate::{session::Session, tools::ToolArguments};

const EXIT_CODES: &str = "\
Exit status:
  0  answered
  1  diagnose found something, doctor something missing, or a connection matches what run --fail-on names
  2  a mistake on the command line
  3  not permitted, or the source cannot be read
  4  no such interface
run ends with the status of its command: 128 and the signal's number where one ended it, 126 where
it cannot be started, 127 where there is none of that name.";

const EXAMPLES: &str = "\
Examples:
  netmon-cli                                  the shell: questions one after the other
  netmon-cli connections                      who talks to whom, and which process does it
  netmon-cli connections --filter 'failed and port == 443'
  netmon-cli summary --process curl --since 60s
  netmon-cli diagnose                         what is wrong, by which numbers, and what to do next
  netmon-cli listeners                        who waits for connections
  netmon-cli top                              a live view of all of it
  netmon-cli pps --iface eth0 --watch         packets per second of eth0, again and again
  netmon-cli run -- make test                 what a command does on the network
  netmon-cli diff --since 5m                  what is new, gone or otherwise than before
  netmon-cli doctor                           what works here, and what would fix the rest
  netmon-cli record today.jsonl               write a recording, and ask it later:
  netmon-cli --source replay:today.jsonl connections -o json";

/// What is happening on this Linux host's network.
///
/// Asks the kernel itself: its own counters for everybody, and eBPF for those who may use it (root, or cap_bpf and
/// cap_net_admin). Every answer says what it was observed with and what is missing.
#[derive(Debug, Parser)]
#[command(name = "netmon-cli", version, max_term_width = 100, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(flatten)]
    pub(crate) tool: ToolArguments,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

impl Arguments {
    /// The grammar of the command line, of a line in the shell, and of manuals and completions.
    pub(crate) fn grammar() -> clap::Command {
        Self::command().mut_subcommands(with_words_of_netspy)
    }

    /// Reads words that begin with the name of the program.
    pub(crate) fn read<W: Into<std::ffi::OsString> + Clone>(
        words: impl IntoIterator<Item = W>,
    ) -> Result<Self, clap::Error> {
        let mut grammar = Self::grammar();
        let matches = grammar.try_get_matches_from_mut(words)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut grammar))
    }
}

/// netspy says `--duration` for how far back or how long, and `--max-events` for how many rows.
fn with_words_of_netspy(command: clap::Command) -> clap::Command {
    let has =
        |command: &clap::Command, id: &str| command.get_arguments().any(|argument| argument.get_id() == id);
    let time = ["duration", "since", "window"].into_iter().find(|id| has(&command, id));
    let command = match time {
        None | Some("duration") => command,
        Some(time) => command.mut_arg(time, |argument| argument.visible_alias("duration")),
    };
    if !has(&command, "limit") {
        return command;
    }
    command.mut_arg("limit", |limit| limit.visible_alias("max-events"))
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Whom to ask: auto (netmond if it runs, else live), live (this host), unix:PATH or http://HOST:PORT (netmond), replay:FILE (a recording), live:system-calls (the same, and the end of every system call is followed: exact owners on Linux before 6.3)
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
    /// What stays open between the lines of the shell.
    #[arg(skip)]
    pub(crate) session: Option<Arc<Session>>,
}

impl Global {
    /// Who answers.
    pub(crate) fn monitor(&self) -> netmon_core::Result<Monitor> {
        match &self.session {
            Some(session) => session.monitor(&self.source),
            None => Monitor::open(&self.source),
        }
    }
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
            Self::Auto => anstream::ColorChoice::Auto.write_global(),
            Self::Always => anstream::ColorChoice::Always.write_global(),
            Self::Never => anstream::ColorChoice::Never.write_global(),
        }
    }

    /// Whether stdout gets colours.
    pub(crate) fn wanted(self) -> bool {
        self.wanted_on(&std::io::stdout())
    }

    /// Whether this stream gets colours.
    pub(crate) fn wanted_on(self, stream: &impl anstream::stream::RawStream) -> bool {
        match self {
            Self::Auto => anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Only here is text a page.
fn most_rows_in_text(limit: Arg) -> Arg {
    limit.help("The most rows [default: in text as many as fit the screen, else all]")
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Connections with their processes, one row each
    ///
    /// TCP connections and UDP and ICMP flows that were open at some time in the window, those that failed included, with
    /// the process that connected or accepted. A recording answers about the past; otherwise connections are observed for
    /// the window. Text shows a page, and the command for the next one; other formats show all.
    #[command(
        visible_alias = "list",
        mut_arg("limit", most_rows_in_text),
        after_help = "\
Examples:
  netmon-cli connections                                     those of the next five seconds
  netmon-cli connections --window 0                          what is open now, at once
  netmon-cli connections --filter 'failed and port == 443'   those that failed
  netmon-cli connections --process nginx --direction in --sort bytes --limit 10
  netmon-cli connections --watch                             each change as it comes, until Ctrl-C
  netmon-cli connections -o csv --fields comm,remote,error,payload_bytes_sent"
    )]
    Connections(Box<ConnectionsArguments>),

    /// Connections summed up by process, destination and error
    #[command(after_help = "\
Examples:
  netmon-cli summary                                 over the next five seconds
  netmon-cli summary --process curl --since 60s      of curl, in the last minute
  netmon-cli summary --remote 10.0.0.0/8 --window 30s
  netmon-cli summary --user www-data -o json")]
    Summary(Box<SummaryRequest>),

    /// What stands out: frequent failures, bursts, periodic connections, scans, new destinations
    #[command(
        visible_alias = "analyze",
        after_help = "\
Examples:
  netmon-cli patterns --window 60s
  netmon-cli patterns --process python3 --window 30s
  netmon-cli --source replay:today.jsonl patterns --since 1h"
    )]
    Patterns(Box<PatternsRequest>),

    /// What is wrong: findings with their numbers, likely cause and next step
    ///
    /// Looks for failing destinations and name servers, listeners that lose connections, retransmits and slow round trips,
    /// ports and limits that run out, sockets that are not closed, floods, scans, beacons, and interfaces that lose
    /// packets. Says what was checked, and what could not be. Ends with status 1 where something was found.
    #[command(after_help = "\
Examples:
  netmon-cli diagnose                              the last five minutes, or the next five seconds
  netmon-cli diagnose --process nginx --since 1h
  netmon-cli diagnose -o json || echo 'look at this'
  netmon-cli --source replay:today.jsonl diagnose")]
    Diagnose(Box<DiagnoseRequest>),

    /// What findings mean, in words: a model's, where one is configured
    ///
    /// Without a model nothing leaves this host, and the answer is what `diagnose` finds. NETMON_AI_MODEL names one that
    /// speaks chat/completions; NETMON_AI_BASE_URL says where it is (https, or http on this host); its key is in
    /// OPENAI_API_KEY or the file NETMON_AI_KEY_FILE. It is sent numbers, ports, protocols and errors. Addresses and names
    /// are replaced before and put back after, unless NETMON_AI_REDACTION is off; arguments of processes are never sent.
    #[command(after_help = "\
Examples:
  netmon-cli insights
  NETMON_AI_MODEL=llama3.2 NETMON_AI_BASE_URL=http://localhost:11434/v1 netmon-cli insights
  netmon-cli insights 'what fails?' --process nginx --ai-dry-run     what would be sent")]
    Insights(Box<InsightsArguments>),
    /// Packets that the kernel dropped: why, whose, and at which port
    ///
    /// Drops are summed up in the kernel by reason, protocol, local port and the process that owns the socket; the other
    /// side is an example. Needs eBPF. What a network card drops is in the counters of `interfaces`.
    #[command(
        mut_arg("limit", most_rows_in_text),
        after_help = "\
Examples:
  netmon-cli drops                                   over the next five seconds
  netmon-cli drops --since 60s                       in the last minute, where netmond runs
  netmon-cli drops --process nginx --window 30s
  netmon-cli drops --reason NO_SOCKET -o json"
    )]
    Drops(Box<DropsRequest>),

    /// All sockets now, with the processes that hold them
    #[command(
        mut_arg("limit", most_rows_in_text),
        after_help = "\
Examples:
  netmon-cli sockets
  netmon-cli sockets --state open --remote 10.0.0.0/8
  netmon-cli sockets --pid 1234 -o json"
    )]
    Sockets(Box<SocketsRequest>),

    /// Who waits for connections: TCP listeners, and UDP sockets without a peer
    #[command(
        mut_arg("states", |states| states.hide(true)),
        after_help = "\
Examples:
  netmon-cli listeners
  netmon-cli listeners --port 443
  netmon-cli listeners --protocol tcp -o csv"
    )]
    Listeners(Box<SocketsRequest>),

    /// Run a command, and end with what it did on the network
    ///
    /// Its destinations, bytes, failures and times to connect, with those of all processes that it starts: also of those
    /// that live a millisecond, or outlive their parents. As root the command gets a control group of its own, which tells
    /// exactly; otherwise its processes are told by their descent, and the report says what that can miss.
    ///
    /// The command has this terminal, and its status is the status of netmon-cli. The report in text goes to stderr, so
    /// that stdout is the command's. A report as json, jsonl or csv is stdout, and what the command writes to its stdout
    /// goes to stderr then. With --report it goes to the file, and both are the command's.
    #[command(after_help = "\
Examples:
  netmon-cli run -- curl -s https://example.com
  netmon-cli run --fail-on failed -- make test    status 1 if a connection failed
  netmon-cli run --fail-on 'not remote in 127.0.0.0/8' -- ./build    or if it left this host
  netmon-cli run -o json --report network.json -- npm install")]
    Run(Box<RunArguments>),

    /// What differs between two times, or two recordings
    ///
    /// New and gone destinations, listeners, processes and failures, and rates that changed by a factor. Where something
    /// recorded, --since compares the last time with as long a time before it; otherwise two windows are observed, one
    /// after the other. Processes are compared by name.
    #[command(
        mut_arg("limit", most_rows_in_text),
        after_help = "\
Examples:
  netmon-cli diff --since 5m      the last five minutes with the five before
  netmon-cli diff --window 10s    the next ten seconds with the ten after
  netmon-cli diff --before replay:a.jsonl --after replay:b.jsonl
  netmon-cli diff --before replay:yesterday.jsonl --since 1h    the last hour of each
  netmon-cli diff --since 1m --factor 1.5 --least-bytes 100000"
    )]
    Diff(Box<DiffArguments>),

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

    /// A live view of processes, connections, destinations and interfaces
    ///
    /// Rates are differences between two samples. Keys: 1 to 4 or Tab choose what the lines are about, Enter expands a
    /// process to its connections, / filters with the expressions of --filter, < and > choose what is sorted by, r turns
    /// that round, space stands still, d shows all of a line, ? tells the rest, q ends it. The last line but one tells what
    /// was observed with, what is missing, and what was lost.
    ///
    /// Where stdout is no terminal, or another format than text is asked for, it prints the rows of --view after each
    /// interval instead: JSON lines, unless asked for otherwise.
    #[command(after_help = "\
Examples:
  netmon-cli top                                       live, or through netmond where it runs
  netmon-cli top --process nginx --interval 2s
  netmon-cli top --view connections --filter 'port == 443'
  netmon-cli --source replay:today.jsonl top           step through a recording
  netmon-cli top --samples 60 -o jsonl > minute.jsonl  a minute, one JSON line a process and second")]
    Top(Box<TopArguments>),

    /// What works on this kernel with these privileges, and what would fix the rest
    ///
    /// Every hook is tried for real, without attaching it. Ends with status 1 where something is missing.
    #[command(after_help = "\
Examples:
  netmon-cli doctor
  netmon-cli doctor -o json
  netmon-cli --source live doctor    this host, whether netmond runs or not")]
    Doctor,

    /// Write a recording, from which `--source replay:FILE` answers later
    ///
    /// Holds the counters of all interfaces, sockets, and every connection with its process; where that is not permitted,
    /// what may be known without.
    #[command(after_help = "\
Examples:
  netmon-cli record today.jsonl --duration 60s
  netmon-cli record today.jsonl --iface eth0 --interval 100ms --force
  netmon-cli --source replay:today.jsonl pps --window 60s
  netmon-cli --source replay:today.jsonl connections --sort bytes")]
    Record(RecordArguments),

    /// The shell: questions one after the other, with history and completion
    ///
    /// Its lines are the arguments of netmon-cli, quoted as in sh, and everything that works here works there. What is
    /// given before `shell` holds for all lines. On a terminal Tab completes, Ctrl-C cancels what runs, and Ctrl-D leaves;
    /// from elsewhere lines are read as a script, which ends at the first command that fails, with its status. # begins a
    /// comment.
    ///
    /// The source stays open. Where netmond does not run, connections are recorded while the shell is open, so that --since
    /// asks about that time.
    ///
    /// Lines are kept in $XDG_STATE_HOME/netmon/history (~/.local/state), about a thousand of them, for the user alone; not
    /// those with a text for a model, nor those that begin with a blank.
    #[command(after_help = "\
Examples:
  netmon-cli shell                                a bare netmon-cli on a terminal does the same
  netmon-cli --source replay:today.jsonl shell
  netmon-cli -o json shell < questions")]
    Shell,

    /// The tools of MCP clients and of netspy, and the command that each one is
    #[command(after_help = "\
Examples:
  netmon-cli tools
  netmon-cli --tool get_network_summary --process curl --duration 60
  netmon-cli --tool list_connections --pid 1234 --max-events 20")]
    Tools,

    /// Leave the shell
    #[command(hide = true, visible_alias = "exit")]
    Quit,

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
pub(crate) struct TopArguments {
    #[command(flatten)]
    pub(crate) request: TopRequest,
    /// What the lines are about
    #[arg(long, value_enum, default_value_t, value_name = "VIEW")]
    pub(crate) view: TopView,
    /// End after so many samples
    #[arg(long, value_name = "N")]
    pub(crate) samples: Option<NonZeroU64>,
}

#[derive(Debug, Args)]
pub(crate) struct InsightsArguments {
    #[command(flatten)]
    pub(crate) request: InsightsRequest,
    /// The question, as netspy asks it
    #[arg(long, value_name = "QUESTION", conflicts_with = "question")]
    pub(crate) query: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectionsArguments {
    #[command(flatten)]
    pub(crate) request: ConnectionsRequest,
    /// Only these columns or keys, with commas between them; a wrong name lists all that there are
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) fields: Vec<String>,
    /// Print a row whenever a connection opens, is established, fails or ends, until Ctrl-C or --limit; json is then the
    /// same as jsonl
    #[arg(long, short, conflicts_with_all = ["since", "window", "sort", "reverse", "cursor"])]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) request: RunRequest,
    /// Write the report to this file, which is replaced if it exists
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    #[command(flatten)]
    pub(crate) request: DiffRequest,
    /// The source of the time before, written as for --source [default: the same source]
    #[arg(long, value_name = "SOURCE")]
    pub(crate) before: Option<SourceChoice>,
    /// The source of the time after [default: that of --source]
    #[arg(long, value_name = "SOURCE", requires = "before")]
    pub(crate) after: Option<SourceChoice>,
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
