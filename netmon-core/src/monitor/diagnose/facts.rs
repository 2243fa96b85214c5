//! What the rules look at, gathered once.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::thresholds::MOST_DESTINATIONS;
use crate::{
    answer::{Header, Window, add_new},
    clean::CleanText,
    error::{Error, Result},
    fact::{
        BootTime, ClosedBy, ConnectionDirection, ConnectionFact, ConnectionState, DropFact, Hook, Moment,
        Observed, Process, Protocol, ProtocolSnapshot, SocketFact, TcpState,
    },
    monitor::{
        PatternsAnswer,
        observe::{self, Scope, Watched},
        patterns::{
            Destination, Finder, Owner, destination_of,
            thresholds::{FEW_BYTES, LEAST_BASELINE},
        },
    },
    request::DiagnoseRequest,
    source::{Observation, Sighting, Source, Span},
    view::units,
};

/// Everything that rules judge.
pub(super) struct Facts {
    pub(super) span: Span,
    /// Whether connections of some kind only were asked for.
    filtered: bool,
    /// The options of a command that asks about the same time.
    pub(super) times: String,
    pub(super) observed: Observed,
    pub(super) now: Seen,
    /// The same of as long a time before. `None` where that was not observed.
    pub(super) earlier: Option<Seen>,
    pub(super) patterns: PatternsAnswer,
    /// Those that were asked for; or why there are none.
    sockets: Result<Vec<SocketFact>, String>,
    counters: Result<Counters, String>,
    /// The counters of as long a time before.
    pub(super) earlier_counters: Option<Counters>,
    drops: Result<Drops, String>,
}

impl Facts {
    pub(super) fn gather(
        source: &dyn Source,
        request: &DiagnoseRequest,
        scope: &Scope,
        watched: &Watched,
        counting: Option<&Result<Observation>>,
    ) -> Result<(Header, Self)> {
        let description = source.describe();
        let span = watched.span;

        let mut now = Seen::new(span);
        let mut finder = Finder::new(span);
        let observed = source.connections(&span, &scope.filter, &mut |sighting| {
            if scope.takes(sighting.fact) {
                now.add(sighting);
                finder.add(sighting);
            }
        })?;
        let earlier = earlier_span(source, &span)?.map(|before| -> Result<Seen> {
            let mut seen = Seen::new(before);
            source.connections(&before, &scope.filter, &mut |sighting| {
                if scope.takes(sighting.fact) {
                    seen.add(sighting);
                }
            })?;
            Ok(seen)
        });
        let earlier = earlier.transpose()?;

        let sockets = match source.sockets(&span.to) {
            Ok(snapshot) => {
                let mut sockets = snapshot.sockets;
                sockets.retain(|socket| {
                    scope.filter.matches(&socket.connection) && scope.takes(&socket.connection)
                });
                Ok(sockets)
            }
            Err(error @ Error::NotInSource { .. }) => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        let counters = counters(source, &span.from, &span.to)?;
        let before = moment_before(&span.from, watched.length());
        let earlier_counters = counters_or_none(source, &before, &span.from)?;
        let drops = Drops::gather(source, scope, watched, counting);

        let header = observe::header(description, watched, observed.clone(), false);
        let patterns = finder.finish(header, None);
        let mut header = patterns.header.clone();
        if now.left_out > 0 {
            header.coverage.truncated = true;
            header.coverage.warnings.push(format!(
                "{} beyond the first {} are in no finding about destinations",
                units::counted(now.left_out, "destination"),
                units::count(MOST_DESTINATIONS as u64),
            ));
        }
        if let Ok(drops) = &drops {
            let Observed { active_hooks, lost_events, warnings, .. } = &drops.observed;
            add_new(&mut header.coverage.active_hooks, active_hooks);
            add_new(&mut header.coverage.warnings, warnings);
            if *lost_events > 0 {
                let lost = units::counted(*lost_events, "dropped packet");
                header.coverage.warnings.push(format!("{lost} could not be counted"));
            }
        }
        let facts = Self {
            span,
            filtered: !request.filter.is_empty(),
            times: times(request, watched),
            observed,
            now,
            earlier,
            patterns,
            sockets,
            counters,
            earlier_counters,
            drops,
        };
        Ok((header, facts))
    }

    /// The time of what connections tell.
    pub(super) fn window(&self) -> Window {
        Window::between(&self.span.from, &self.span.to)
    }

    /// The moment of what sockets tell.
    pub(super) fn moment(&self) -> Window {
        Window::between(&self.span.to, &self.span.to)
    }

    pub(super) fn sockets(&self) -> Result<&[SocketFact], String> {
        self.sockets.as_deref().map_err(Clone::clone)
    }

    /// The counters of the whole network namespace, for rules that nothing else decides.
    pub(super) fn counters(&self) -> Result<&Counters, String> {
        if self.filtered {
            return Err("counters of the whole host do not tell of some connections only".to_owned());
        }
        self.counters.as_ref().map_err(Clone::clone)
    }

    /// The dropped packets that were asked for; or why they are not known.
    pub(super) fn drops(&self) -> Result<&Drops, String> {
        self.drops.as_ref().map_err(Clone::clone)
    }

    /// The limits of the namespace, which hold for the connections that were asked for too; and which one it is.
    pub(super) fn limits(&self) -> Result<&ProtocolSnapshot, String> {
        self.counters.as_ref().map(|counters| &counters.to).map_err(Clone::clone)
    }

    /// Why failures cannot be seen, if so: without this hook connections are looked at from time to time only.
    pub(super) fn blind(&self) -> Option<String> {
        let mut missing = self.observed.missing_hooks.iter();
        missing
            .any(|missing| missing.hook == Hook::SetState)
            .then(|| "failures are not seen without the hook set_state".to_owned())
    }
}

/// The packets that the kernel dropped.
pub(super) struct Drops {
    span: Span,
    /// With their counts within the span.
    pub(super) rows: Vec<DropFact>,
    observed: Observed,
}

impl Drops {
    /// Of the time that was observed for this answer alone, where it was; else of what was counted anyway. Nothing that is
    /// missing fails the answer, to which drops are one group of facts among others.
    fn gather(
        source: &dyn Source,
        scope: &Scope,
        watched: &Watched,
        counting: Option<&Result<Observation>>,
    ) -> Result<Self, String> {
        scope.filter.check_for_drops().map_err(|error| error.to_string())?;
        let told = |error: &Error| error.to_string();
        let span = match counting {
            Some(Ok(observation)) => Span { from: observation.from, to: watched.span.to },
            Some(Err(error)) => return Err(told(error)),
            None => source.observed_drops(Some(watched.length())).map_err(|error| told(&error))?.ok_or(
                "dropped packets were not counted in this time; netmond counts them always, netmon-cli drops for a window",
            )?,
        };
        let mut rows = Vec::new();
        let observed = source.drops(&span, &scope.filter, &mut |sighting| {
            let (fact, counts) = (sighting.fact, sighting.within());
            if counts.packets > 0 && !scope.is_own(fact.process.as_deref()) {
                rows.push(DropFact { counts, ..fact.clone() });
            }
        });
        Ok(Self { span, rows, observed: observed.map_err(|error| told(&error))? })
    }

    pub(super) fn window(&self) -> Window {
        Window::between(&self.span.from, &self.span.to)
    }

    pub(super) fn seconds(&self) -> f64 {
        self.span.to.since(&self.span.from).as_secs_f64()
    }
}

/// Two readings of the same counters.
pub(super) struct Counters {
    pub(super) from: ProtocolSnapshot,
    pub(super) to: ProtocolSnapshot,
}

impl Counters {
    /// What was counted between them. `None` where one of them does not tell.
    pub(super) fn counted(&self, read: impl Fn(&ProtocolSnapshot) -> Option<u64>) -> Option<u64> {
        Some(read(&self.to)?.saturating_sub(read(&self.from)?))
    }

    pub(super) fn window(&self) -> Window {
        Window::between(&self.from.at, &self.to.at)
    }

    pub(super) fn seconds(&self) -> f64 {
        self.to.at.since(&self.from.at).as_secs_f64()
    }
}

fn counters(source: &dyn Source, from: &Moment, to: &Moment) -> Result<Result<Counters, String>> {
    let both =
        source.protocol_counters(from).and_then(|earlier| Ok((earlier, source.protocol_counters(to)?)));
    match both {
        Ok((from, to)) if from.at.boot_ns < to.at.boot_ns && from.netns == to.netns => {
            Ok(Ok(Counters { from, to }))
        }
        Ok(_) => Ok(Err("the counters of protocols were read only once in this time".to_owned())),
        Err(error @ Error::NotInSource { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// The counters of an earlier time, where both ends of it were read.
fn counters_or_none(source: &dyn Source, from: &Moment, to: &Moment) -> Result<Option<Counters>> {
    let counters = counters(source, from, to)?.ok();
    Ok(counters.filter(|counters| counters.from.at.boot_ns <= from.boot_ns))
}

fn moment_before(at: &Moment, length: Duration) -> Moment {
    let nanoseconds = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
    Moment {
        boot_ns: at.boot_ns.saturating_sub(nanoseconds),
        wall: at.wall.checked_sub(length).unwrap_or(at.wall),
    }
}

/// As long a time before, where it was observed.
fn earlier_span(source: &dyn Source, span: &Span) -> Result<Option<Span>> {
    let length = span.to.since(&span.from);
    let Some(twice) = source.observed(Some(length.saturating_mul(2)))? else { return Ok(None) };
    let before = Span { from: twice.from, to: span.from };
    let observed = before.to.since(&before.from).as_secs_f64();
    let long_enough = !length.is_zero() && observed >= LEAST_BASELINE * length.as_secs_f64();
    Ok(long_enough.then_some(before))
}

/// Where something records, how far back; else how long to observe.
fn times(request: &DiagnoseRequest, watched: &Watched) -> String {
    if watched.has_own_observation() {
        format!("--window {}s", request.window.as_secs_f64())
    } else {
        let since = request.since.unwrap_or(DiagnoseRequest::DEFAULT_SINCE);
        format!("--since {}s", since.as_secs_f64())
    }
}

/// Whose connections: programs are told apart by name, so that one that starts anew for each of its connections is one.
#[derive(Debug, Clone, Default)]
pub(super) struct Owners(HashMap<CleanText, (HashSet<u32>, u64)>);

impl Owners {
    pub(super) fn add(&mut self, process: Option<&Process>) {
        if let Some(process) = process {
            let (pids, count) = self.0.entry(process.comm.clone()).or_default();
            pids.insert(process.pid);
            *count += 1;
        }
    }

    /// The one with most of them.
    pub(super) fn first(&self) -> Option<Owner> {
        let most = self.0.iter().max_by(|a, b| (a.1.1, b.0).cmp(&(b.1.1, a.0)));
        most.map(|(comm, (pids, _))| owner(comm, pids))
    }
}

/// A single process.
pub(super) fn owner_of(process: &Process) -> Owner {
    Owner { comm: process.comm.clone(), pid: Some(process.pid), processes: 1 }
}

pub(super) fn owner(comm: &CleanText, pids: &HashSet<u32>) -> Owner {
    let pid = if pids.len() == 1 { pids.iter().next().copied() } else { None };
    Owner { comm: comm.clone(), pid, processes: pids.len() as u64 }
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Refused,
    TimedOut,
    Unreachable,
    WithoutPort,
    Other,
}

impl Failure {
    /// How many there are.
    pub(super) const KINDS: usize = 5;

    fn of(fact: &ConnectionFact) -> Self {
        match fact.error.and_then(|error| error.errno) {
            Some(111) => Self::Refused,                       // ECONNREFUSED
            Some(110) => Self::TimedOut,                      // ETIMEDOUT
            Some(100 | 101 | 112 | 113) => Self::Unreachable, // ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH
            Some(99) => Self::WithoutPort,                    // EADDRNOTAVAIL
            _ => Self::Other,
        }
    }
}

/// The attempts at one destination that were decided in the window.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts {
    pub(super) decided: u64,
    pub(super) failed: [u64; Failure::KINDS],
    /// Datagrams that nobody answered, of flows that are over.
    pub(super) unanswered: u64,
    owners: [Owners; Failure::KINDS],
    pub(super) without_answer: Owners,
}

impl Attempts {
    pub(super) fn failed(&self, failure: Failure) -> u64 {
        self.failed[failure as usize]
    }

    pub(super) fn owners(&self, failure: Failure) -> &Owners {
        &self.owners[failure as usize]
    }
}

/// What TCP connections with one host showed, of those that began in the window.
#[derive(Debug, Clone, Default)]
pub(super) struct Path {
    pub(super) round_trips: Vec<f64>,
    pub(super) retransmits: u64,
    packets_sent: u64,
    pub(super) owners: Owners,
}

impl Path {
    /// Segments that were not sent again.
    pub(super) fn sent_once(&self) -> u64 {
        self.packets_sent.saturating_sub(self.retransmits)
    }
}

/// What a program did.
#[derive(Debug, Clone, Default)]
pub(super) struct Volume {
    pub(super) pids: HashSet<u32>,
    pub(super) attempts: u64,
    pub(super) fruitless: u64,
    pub(super) bytes: u64,
}

/// The connections of a time.
pub(super) struct Seen {
    span: Span,
    pub(super) attempts: HashMap<Destination, Attempts>,
    left_out: u64,
    pub(super) paths: HashMap<IpAddr, Path>,
    pub(super) volumes: HashMap<CleanText, Volume>,
    /// Of programs that are not known, too.
    pub(super) all_attempts: u64,
    pub(super) all_bytes: u64,
    /// Who closed a connection first, by its two ends.
    pub(super) closers: HashMap<(SocketAddr, SocketAddr), Arc<Process>>,
}

/// How many round trips of one host are kept.
const MOST_ROUND_TRIPS: usize = 1_000;

impl Seen {
    fn new(span: Span) -> Self {
        Self {
            span,
            attempts: HashMap::new(),
            left_out: 0,
            paths: HashMap::new(),
            volumes: HashMap::new(),
            all_attempts: 0,
            all_bytes: 0,
            closers: HashMap::new(),
        }
    }

    pub(super) fn seconds(&self) -> f64 {
        self.span.to.since(&self.span.from).as_secs_f64()
    }

    fn within(&self, at: BootTime) -> bool {
        at.ns() > self.span.from.boot_ns && at.ns() <= self.span.to.boot_ns
    }

    fn add(&mut self, sighting: Sighting<'_>) {
        let fact = sighting.fact;
        if fact.state == ConnectionState::Listening {
            return;
        }
        self.add_attempt(fact);
        self.add_volume(sighting);
        if fact.protocol == Protocol::Tcp {
            self.add_path(fact);
            if let (Some(ClosedBy::Local), Some(remote), Some(process)) =
                (fact.closed_by, fact.remote, &fact.process)
            {
                self.closers.insert((fact.local, remote), Arc::clone(process));
            }
        }
    }

    /// When an attempt of this side was decided, and how; a slow failure counts when it fails.
    fn decided(fact: &ConnectionFact) -> Option<(BootTime, bool)> {
        // Of datagrams nothing tells of success but an answer.
        if fact.protocol != Protocol::Tcp && fact.error.is_some() {
            return Some((fact.closed.or(fact.last_seen).or(fact.opened)?, false));
        }
        match fact.state {
            ConnectionState::Failed => Some((fact.closed.or(fact.opened)?, false)),
            ConnectionState::Open | ConnectionState::Closed => {
                Some((fact.established.or(fact.opened)?, true))
            }
            _ => None,
        }
    }

    fn add_attempt(&mut self, fact: &ConnectionFact) {
        if fact.direction != ConnectionDirection::Outbound {
            return;
        }
        let (Some(destination), Some((at, succeeded))) = (destination_of(fact), Self::decided(fact)) else {
            return;
        };
        if !self.within(at) {
            return;
        }
        if self.attempts.len() >= MOST_DESTINATIONS && !self.attempts.contains_key(&destination) {
            self.left_out += 1;
            return;
        }
        let attempts = self.attempts.entry(destination).or_default();
        attempts.decided += 1;
        let process = fact.process.as_deref();
        if !succeeded {
            let failure = Failure::of(fact);
            attempts.failed[failure as usize] += 1;
            attempts.owners[failure as usize].add(process);
            return;
        }
        let unanswered = fact.protocol == Protocol::Udp
            && fact.is_over()
            && fact.traffic.is_some_and(|traffic| traffic.packets_sent > 0 && traffic.packets_received == 0);
        if unanswered {
            attempts.unanswered += 1;
            attempts.without_answer.add(process);
        }
    }

    fn add_volume(&mut self, sighting: Sighting<'_>) {
        let fact = sighting.fact;
        let bytes = sighting
            .traffic_within(&self.span)
            .map_or(0, |traffic| traffic.payload_bytes_sent.saturating_add(traffic.payload_bytes_received));
        let is_attempt = fact.direction == ConnectionDirection::Outbound
            && fact.opened.is_some_and(|opened| self.within(opened));
        let total = fact
            .traffic
            .map(|traffic| traffic.payload_bytes_sent.saturating_add(traffic.payload_bytes_received));
        let fruitless = match fact.state {
            ConnectionState::Failed | ConnectionState::Opening => true,
            ConnectionState::Closed => total.is_some_and(|total| total <= FEW_BYTES),
            _ => false,
        };
        self.all_attempts += u64::from(is_attempt);
        self.all_bytes = self.all_bytes.saturating_add(bytes);
        let Some(process) = &fact.process else { return };
        let volume = match self.volumes.get_mut(&process.comm) {
            Some(volume) => volume,
            None => self.volumes.entry(process.comm.clone()).or_default(),
        };
        volume.pids.insert(process.pid);
        volume.attempts += u64::from(is_attempt);
        volume.fruitless += u64::from(is_attempt && fruitless);
        volume.bytes = volume.bytes.saturating_add(bytes);
    }

    /// Of those that began in the time, so that their life's totals are within it. SYNs that were sent again are not told
    /// apart, so what was never established does not count.
    fn add_path(&mut self, fact: &ConnectionFact) {
        let (Some(remote), Some(tcp)) = (fact.remote, fact.tcp) else { return };
        let began = fact.opened.is_some_and(|opened| self.within(opened));
        if !began || !matches!(fact.state, ConnectionState::Open | ConnectionState::Closed) {
            return;
        }
        let path = self.paths.entry(remote.ip()).or_default();
        if let Some(rtt) = tcp.rtt_us
            && path.round_trips.len() < MOST_ROUND_TRIPS
        {
            path.round_trips.push(f64::from(rtt) / 1e6);
        }
        if let Some(traffic) = fact.traffic {
            path.packets_sent = path.packets_sent.saturating_add(traffic.packets_sent);
            path.retransmits += u64::from(tcp.retransmits);
        }
        if tcp.retransmits > 0 {
            path.owners.add(fact.process.as_deref());
        }
    }
}

/// The sockets in a state of TCP.
pub(super) fn in_state(sockets: &[SocketFact], state: TcpState) -> impl Iterator<Item = &SocketFact> {
    sockets.iter().filter(move |socket| socket.connection.tcp.is_some_and(|tcp| tcp.state == state))
}
