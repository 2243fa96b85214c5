//! What a command does on the network, from its start to its end, with all that it started.

use std::{
    fmt, io,
    process::{Child, Command, ExitStatus},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    connection::{BothWays, Connection},
    observe::{self, Watched},
    summary::{
        DestinationSummary, ErrorSummary, ProcessSummary, SummaryAnswer, Sums, destination_table,
        error_table, process_table,
    },
};
use crate::{
    answer::{Answer, Header},
    clean::CleanText,
    control::Cancel,
    error::{Error, Result},
    fact::{Attribution, ConnectionDirection, ConnectionFact, Hook, Observed, Process, Protocol, Traffic},
    filter::Filter,
    request::RunRequest,
    source::{
        ChangeCursor, Observation, Sighting, Source, SourceDescription, Span,
        live::{
            host_name,
            offspring::{Descent, LOOK_INTERVAL, OwnGroup, numbers_are_foreign},
        },
    },
    view::{Cell, Column, Table, units},
};

/// A connection, and its counters before the command.
type Seen = (ConnectionFact, Option<Traffic>);

/// How many of the connections that match the filter of a run are listed.
const MATCHES_LISTED: usize = 100;

/// What a command did on the network, with its children, theirs, and those that outlived their parents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct RunAnswer {
    /// Host, window and coverage. The window begins before the command and ends after it.
    #[serde(flatten)]
    pub header: Header,
    /// The command with its arguments.
    pub command: CleanText,
    /// The number of its process.
    pub pid: u32,
    /// How it ended.
    pub exit: Exit,
    /// How long it ran.
    pub duration_seconds: f64,
    /// How its processes are told from others.
    pub membership: Membership,
    /// What its connections come to. Sums are over all of them, whatever is listed.
    pub profile: RunProfile,
    /// What was asked not to happen, and whether it did. Absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_on: Option<FailOn>,
    /// Its connections, in the order in which they began; those of which that is not known are first.
    pub connections: Vec<Connection>,
}

/// How a command ended: one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    fn of(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Status(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }

    /// The status with which a shell would tell of it: 128 and the number of the signal.
    pub fn code(self) -> u8 {
        // A status is one byte, and signals are numbered to 64.
        match self {
            Self::Status(code) => u8::try_from(code).unwrap_or(u8::MAX),
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "ended with status {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

/// How the processes of a command are told from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Membership {
    /// By what.
    pub by: MembershipKind,
    /// What that cannot tell.
    pub misses: String,
    /// Processes of the command that had connections.
    pub processes: u64,
    /// Processes of the command that still ran after it: what they do later is not told.
    pub still_running: u64,
}

/// By what processes are told to belong to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MembershipKind {
    /// A control group that was made for it: exact, however short a process lives and whoever its parent is by then.
    ControlGroup,
    /// Parents, as facts and /proc tell them while the command runs.
    Descent,
}

/// What the connections of a command come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct RunProfile {
    /// Outbound attempts: TCP connections, and flows of UDP and ICMP.
    pub total_attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// All connections, attempts included.
    pub connections: u64,
    /// Those that were open, or opening, when the command ended.
    pub open: u64,
    /// Those that the other side began.
    pub inbound: u64,
    /// Those that this side began.
    pub outbound: u64,
    /// Bytes of applications, of those connections of which it is known. Absent where it is of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<BothWays>,
    /// Connections of which it is not known how much went over them.
    pub unmeasured: u64,
    /// How long it took to connect by TCP. Absent where nothing connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_latency: Option<ConnectLatency>,
    /// How many processes there are.
    pub by_process_total: u64,
    /// Those with the most attempts, twenty at most.
    pub by_process: Vec<ProcessSummary>,
    /// How many destinations there are.
    pub by_destination_total: u64,
    /// Those with the most attempts, twenty at most.
    pub by_destination: Vec<DestinationSummary>,
    /// How many errors there are.
    pub by_error_total: u64,
    /// The most frequent, twenty at most.
    pub by_error: Vec<ErrorSummary>,
}

impl RunProfile {
    fn new(summary: SummaryAnswer, connect_latency: Option<ConnectLatency>) -> Self {
        Self {
            total_attempts: summary.total_attempts,
            failed: summary.failed,
            connections: summary.connections,
            open: summary.open,
            inbound: summary.inbound,
            outbound: summary.outbound,
            payload_bytes: summary.payload_bytes,
            unmeasured: summary.unmeasured,
            connect_latency,
            by_process_total: summary.by_process_total,
            by_process: summary.by_process,
            by_destination_total: summary.by_destination_total,
            by_destination: summary.by_destination,
            by_error_total: summary.by_error_total,
            by_error: summary.by_error,
        }
    }
}

/// How long connections took to be established.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ConnectLatency {
    /// How many did.
    pub connections: u64,
    /// On average.
    pub mean_seconds: f64,
    /// Half of them took no longer.
    pub median_seconds: f64,
    /// The longest.
    pub max_seconds: f64,
}

impl ConnectLatency {
    fn of(mut latencies: Vec<Duration>) -> Option<Self> {
        latencies.sort_unstable();
        let max = latencies.last()?;
        let sum: Duration = latencies.iter().sum();
        Some(Self {
            connections: latencies.len() as u64,
            mean_seconds: sum.as_secs_f64() / latencies.len() as f64,
            median_seconds: latencies[(latencies.len() - 1) / 2].as_secs_f64(),
            max_seconds: max.as_secs_f64(),
        })
    }
}

/// What was asked not to happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct FailOn {
    /// The condition.
    pub filter: String,
    /// How many connections match it.
    pub matched: u64,
    /// The first of them, a hundred at most.
    pub connections: Vec<Connection>,
}

/// A command under observation: first what is needed for that is attached, then the command is [started](Self::start), then
/// somebody [looks](Self::look) until it ends, and it is [summed up](Self::finish).
#[must_use = "nothing is observed when it is dropped"]
pub struct RunWatch {
    source: Arc<dyn Source>,
    description: SourceDescription,
    request: RunRequest,
    fail_on: Option<Filter>,
    observation: Observation,
    group: Result<OwnGroup, String>,
    descent: Option<Descent>,
    command: CleanText,
    pid: u32,
    began: Instant,
    /// Whether connections are seen only by who looks.
    only_looks: bool,
    looked: Option<Instant>,
    cursor: ChangeCursor,
}

impl fmt::Debug for RunWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunWatch")
            .field("request", &self.request)
            .field("observation", &self.observation)
            .field("group", &self.group)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl RunWatch {
    pub(super) fn begin(source: Arc<dyn Source>, request: &RunRequest) -> Result<Self> {
        let fail_on = request.check()?;
        let description = source.describe();
        if description.kind == "replay" {
            return Err(Error::InvalidRequest(
                "a recording tells of what happened, and cannot watch a command; choose --source live, or netmond"
                    .to_owned(),
            ));
        }
        let observation = source.observe()?;
        let at = observation.from;
        let observed = source.connections(&Span { from: at, to: at }, &Filter::everything(), &mut |_| {})?;
        Ok(Self {
            description,
            request: request.clone(),
            fail_on,
            cursor: observation.cursor,
            observation,
            group: OwnGroup::create(),
            descent: None,
            command: CleanText::default(),
            pid: 0,
            began: Instant::now(),
            only_looks: !observed.active_hooks.contains(&Hook::SetState),
            looked: None,
            source,
        })
    }

    /// Whether the command gets a control group of its own. Where not, this process should take in orphans
    /// (`PR_SET_CHILD_SUBREAPER`, and wait for them) before it starts the command, so that it knows them.
    pub fn has_control_group(&self) -> bool {
        self.group.is_ok()
    }

    /// Starts the command. To be called once.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn start(&mut self, command: &mut Command) -> io::Result<Child> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        self.command = words.join(" ").into();
        self.began = Instant::now();
        let child = match self.group.as_ref().map(|group| group.spawn(command)) {
            Ok(Ok(child)) => child?,
            Ok(Err(reason)) => {
                self.group = Err(reason);
                command.spawn()?
            }
            Err(_) => command.spawn()?,
        };
        self.pid = child.id();
        if self.group.is_err() {
            self.descent = Some(Descent::of(child.id()));
        }
        Ok(child)
    }

    /// Learns what cannot be learned later; to be called every [`RunWatch::LOOK_INTERVAL`] until the command ends. Costs
    /// nothing where the command has a control group and its connections are followed.
    ///
    /// # Errors
    /// As [`Source::changes`].
    pub fn look(&mut self) -> Result<()> {
        const CHANGES_INTERVAL: Duration = Duration::from_millis(50);

        if let Some(descent) = &mut self.descent {
            descent.look();
        }
        // Who asks for changes has sockets looked at more often, and hears of processes while their parents live.
        let due = self.looked.is_none_or(|looked| looked.elapsed() >= CHANGES_INTERVAL);
        if due && (self.only_looks || self.descent.is_some()) {
            let changes = self.source.changes(self.cursor, Duration::ZERO, &Cancel::new())?;
            self.cursor = changes.next;
            if let Some(descent) = &mut self.descent {
                let processes: Vec<_> =
                    changes.connections.into_iter().filter_map(|fact| fact.process).collect();
                descent.learn_from(&processes);
            }
            self.looked = Some(Instant::now());
        }
        Ok(())
    }

    /// How often to look.
    pub const LOOK_INTERVAL: Duration = LOOK_INTERVAL;

    /// What the command did, now that it ended so.
    ///
    /// # Errors
    /// As [`Source::connections`].
    pub fn finish(mut self, status: ExitStatus) -> Result<RunAnswer> {
        let duration = self.began.elapsed();
        self.look()?;
        let still_running = match (&self.group, &self.descent) {
            (Ok(group), _) => group.population(),
            (Err(_), Some(descent)) => descent.population(),
            (Err(_), None) => 0,
        };
        let span = Span { from: self.observation.from, to: observe::now(&*self.source)? };
        let (mut seen, mut observed) = self.seen(&span)?;
        let unowned = seen.iter().filter(|(fact, _)| fact.process.is_none()).count() as u64;
        self.keep_own(&mut seen);
        seen.sort_by_key(|(fact, _)| (fact.opened, fact.id()));
        self.warn(&mut observed, unowned);

        let mut sums = Sums::new(span, false);
        let mut latencies = Vec::new();
        for (fact, before) in &seen {
            sums.add(Sighting { fact, before: *before });
            latencies.extend(fact.connect_latency().filter(|_| fact.protocol == Protocol::Tcp));
        }
        let rows = |wanted: &dyn Fn(&ConnectionFact) -> bool, most: usize| -> Vec<Connection> {
            let row = |(fact, before): &Seen| {
                Connection::new(fact, &span.to, Sighting { fact, before: *before }.traffic_within(&span))
            };
            seen.iter().filter(|(fact, _)| wanted(fact)).take(most).map(row).collect()
        };
        let most =
            self.request.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let connections = rows(&|_| true, most);
        let fail_on = self.fail_on.as_ref().map(|filter| FailOn {
            filter: filter.to_string(),
            matched: seen.iter().filter(|(fact, _)| filter.matches(fact)).count() as u64,
            connections: rows(&|fact| filter.matches(fact), MATCHES_LISTED),
        });
        let watched = Watched::again(span, Vec::new());
        let truncated = connections.len() < seen.len();
        let header = observe::header(self.description.clone(), &watched, observed, truncated);
        let mut summary = sums.answer(header, String::new(), None, watched.length().as_secs_f64());
        summary.header.coverage.truncated |= truncated;
        Ok(RunAnswer {
            header: summary.header.clone(),
            command: self.command.clone(),
            pid: self.pid,
            exit: Exit::of(status),
            duration_seconds: duration.as_secs_f64(),
            membership: self.membership(&summary, still_running),
            profile: RunProfile::new(summary, ConnectLatency::of(latencies)),
            fail_on,
            connections,
        })
    }

    /// Whatever may be the command's, and what has no owner.
    fn seen(&self, span: &Span) -> Result<(Vec<Seen>, Observed)> {
        let filter = match &self.group {
            Ok(group) => Filter::parse(&format!("{} or attribution == unknown", group.expression()))?,
            Err(_) => Filter::everything(),
        };
        let began_ns = self.observation.from.boot_ns;
        let mut seen = Vec::new();
        let observed = self.source.connections(span, &filter, &mut |Sighting { fact, before }| {
            let wanted = match (&fact.process, &self.descent) {
                (Some(process), Some(descent)) => descent.is_young_enough(process),
                (Some(_), None) => true,
                (None, _) => {
                    fact.attribution == Attribution::Unknown
                        && fact.direction == ConnectionDirection::Outbound
                        && fact.opened.is_some_and(|opened| opened.ns() > began_ns)
                }
            };
            if wanted {
                seen.push((fact.clone(), before));
            }
        })?;
        Ok((seen, observed))
    }

    fn keep_own(&mut self, seen: &mut Vec<Seen>) {
        let own = std::process::id();
        if let Some(descent) = &mut self.descent {
            let mut processes: Vec<_> = seen.iter().filter_map(|(fact, _)| fact.process.clone()).collect();
            processes.dedup_by(|one, other| Arc::ptr_eq(one, other));
            descent.learn_from(&processes);
        }
        let is_own = |process: &Arc<Process>| {
            process.pid != own && self.descent.as_ref().is_none_or(|descent| descent.contains(process))
        };
        seen.retain(|(fact, _)| fact.process.as_ref().is_some_and(is_own));
    }

    /// Says what the profile may lack.
    fn warn(&self, observed: &mut Observed, unowned: u64) {
        let warnings = &mut observed.warnings;
        if let Err(reason) = &self.group {
            warnings.push(format!(
                "processes of the command are told by their descent, since {reason}; {}",
                MembershipKind::Descent.misses()
            ));
            if !self.only_looks && numbers_are_foreign() {
                warnings.push(
                    "in this pid namespace processes have other numbers than the kernel's programs tell, so that \
                     connections of the command may be missing"
                        .to_owned(),
                );
            }
        }
        let here = host_name();
        if here != self.description.host {
            warnings.push(format!(
                "the source observes the host {}, and the command ran on {here}: of another kernel nothing is seen",
                self.description.host,
            ));
        }
        if unowned > 0 {
            warnings.push(format!(
                "{} began in this time without a known owner, and may be the command's",
                units::counted(unowned, "connection")
            ));
        }
        if self.fail_on.is_some() && self.only_looks {
            warnings.push(
                "the condition was held against what was seen: failures and short connections were not, so that no match \
                 proves nothing"
                    .to_owned(),
            );
        }
    }

    fn membership(&self, summary: &SummaryAnswer, still_running: u64) -> Membership {
        let by = if self.group.is_ok() { MembershipKind::ControlGroup } else { MembershipKind::Descent };
        Membership { by, misses: by.misses().to_owned(), processes: summary.by_process_total, still_running }
    }
}

impl MembershipKind {
    fn misses(self) -> &'static str {
        match self {
            Self::ControlGroup => {
                "processes that moved to another control group (su, systemd-run), and work that others do for the command"
            }
            Self::Descent => {
                "missing are processes whose parent lived only some milliseconds, had no connection, and was gone when \
                 they were first seen"
            }
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::ControlGroup => "told by a control group of their own",
            Self::Descent => "told by their descent",
        }
    }
}

impl fmt::Display for RunAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let duration = |seconds: f64| units::short(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        let Self { command, exit, membership, profile, .. } = self;
        write!(f, "'{command}' {exit} after {}", duration(self.duration_seconds))?;
        if profile.connections == 0 {
            write!(f, "\nNo connections of its processes, {}", membership.by.in_words())?;
        } else {
            write!(
                f,
                "\n{} of {}, {}: {} outbound, {} inbound; {} open at its end",
                units::counted(profile.connections, "connection"),
                match membership.processes {
                    1 => "1 process".to_owned(),
                    many => format!("{} processes", units::count(many)),
                },
                membership.by.in_words(),
                units::count(profile.outbound),
                units::count(profile.inbound),
                units::count(profile.open),
            )?;
            match &profile.payload_bytes {
                Some(bytes) => write!(
                    f,
                    "\nSent {}, received {}",
                    units::bytes(bytes.sent as f64),
                    units::bytes(bytes.received as f64)
                )?,
                None => f.write_str("\nBytes are not known")?,
            }
            if profile.payload_bytes.is_some() && profile.unmeasured > 0 {
                write!(f, ", without {} not measured", units::counted(profile.unmeasured, "connection"))?;
            }
            if let Some(latency) = &profile.connect_latency {
                write!(
                    f,
                    "; connected in {}, at most {}",
                    duration(latency.median_seconds),
                    duration(latency.max_seconds)
                )?;
            }
            write!(
                f,
                "\n{}, {} failed",
                units::counted(profile.total_attempts, "attempt"),
                units::count(profile.failed)
            )?;
            let errors: Vec<String> = profile
                .by_error
                .iter()
                .map(|error| format!("{} {}", units::count(error.count), error.name))
                .collect();
            if !errors.is_empty() {
                write!(f, "; failed or broken off: {}", errors.join(", "))?;
            }
        }
        match &self.fail_on {
            Some(FailOn { filter, matched: 0, .. }) => write!(f, "\nNo connection matches {filter:?}"),
            Some(FailOn { filter, matched, .. }) => {
                write!(f, "\n{} of them match {filter:?}", units::count(*matched))
            }
            None => Ok(()),
        }
    }
}

impl Answer for RunAnswer {
    type Row = Connection;

    fn header(&self) -> &Header {
        &self.header
    }

    fn rows(&self) -> &[Connection] {
        &self.connections
    }

    /// What its connections come to, and those that match; the others are rows for machines.
    fn tables(&self) -> Vec<Table> {
        let none: &[(Column, &dyn Fn(usize) -> Cell)] = &[];
        let matches = self.fail_on.iter().map(|fail_on| Connection::table(fail_on.connections.iter(), none));
        [
            process_table(&self.profile.by_process),
            destination_table(&self.profile.by_destination),
            error_table(&self.profile.by_error),
        ]
        .into_iter()
        .chain(matches)
        .filter(|table| !table.rows.is_empty())
        .collect()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.header.coverage.notes();
        if self.membership.still_running > 0 {
            notes.push(format!(
                "{} of the command still ran after it; what they do from then on is not told",
                match self.membership.still_running {
                    1 => "1 process".to_owned(),
                    many => format!("{} processes", units::count(many)),
                }
            ));
        }
        if let Some(fail_on) = self.fail_on.as_ref().filter(|fail_on| fail_on.matched > MATCHES_LISTED as u64)
        {
            notes.push(format!(
                "the first {MATCHES_LISTED} of {} that match are listed",
                units::count(fail_on.matched)
            ));
        }
        notes
    }
}
