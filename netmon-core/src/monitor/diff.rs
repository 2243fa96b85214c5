//! What differs between two times, or between two sources: who talks to whom, who listens, what fails, and how much.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{
    connection::{BothWays, Endpoint},
    observe::{self, Scope, Watched},
};
use crate::{
    answer::{Answer, Header, Row, Window, add_new},
    clean::CleanText,
    control::Control,
    error::{Error, Result},
    fact::{
        ConnectionDirection, ConnectionError, ConnectionFact, ConnectionId, ConnectionState, Moment,
        Observed, Protocol, Traffic,
    },
    request::DiffRequest,
    source::{Observation, Source, SourceDescription, Span},
    view::{Cell, Column, Table, Tone, units},
};

/// What differs between a time before and a time after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct DiffAnswer {
    /// Host and window of the time after, and the coverage of both.
    #[serde(flatten)]
    pub header: Header,
    /// What was compared: the time before.
    pub before: DiffSide,
    /// And the time after.
    pub after: DiffSide,
    /// Below which a change of a rate is not told.
    pub thresholds: DiffThresholds,
    /// How many differences there are, those included that a limit leaves out.
    pub total: u64,
    /// The same by kind, in the order of the rows.
    pub by_kind: Vec<DifferenceCount>,
    /// The differences: failures, then what is new and gone, then rates; the greatest first.
    pub differences: Vec<Difference>,
}

/// One of the two times that were compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct DiffSide {
    /// The name of the host.
    pub host: CleanText,
    /// Where its facts come from: `live`, `replay`.
    pub source: CleanText,
    /// The time that was really observed.
    pub window: Window,
    /// Connections that were open at some time in it, and attempts.
    pub connections: u64,
    /// Those that began in it, either way.
    pub opened: u64,
    /// Those that failed or were broken off in it.
    pub failures: u64,
    /// Bytes of applications in it, as far as known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_bytes: Option<BothWays>,
    /// How many listened at its end. Absent where that is not known: a live source knows no listeners of the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listeners: Option<u64>,
}

/// Below which a change of a rate is not told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffThresholds {
    /// By how much it has to grow or shrink.
    pub factor: f64,
    /// How many connections or failures there must be, before or after.
    pub least_connections: u64,
    /// How many bytes there must be, before or after.
    pub least_bytes: u64,
}

/// How many differences there are of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DifferenceCount {
    /// The kind.
    pub kind: DifferenceKind,
    /// How many.
    pub count: u64,
}

/// What a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// A process's connections to a destination fail in a way that they did not before. Amounts are failures.
    NewFailure,
    /// The rate of such failures changed.
    Failures,
    /// An address and port to which nobody connected before. Amounts are connections.
    NewDestination,
    /// One to which nobody connects any more.
    GoneDestination,
    /// An address and port at which nobody listened before.
    NewListener,
    /// One at which nobody listens any more.
    GoneListener,
    /// A process, by name, that had no connections before. Amounts are connections.
    NewProcess,
    /// One that has none any more.
    GoneProcess,
    /// Failures that come no more.
    GoneFailure,
    /// The rate at which connections begin changed, of a process or to a destination.
    Opened,
    /// The rate of bytes sent changed.
    BytesSent,
    /// The rate of bytes received changed.
    BytesReceived,
}

impl DifferenceKind {
    /// Its name in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Self::NewFailure => "new_failure",
            Self::Failures => "failures",
            Self::NewDestination => "new_destination",
            Self::GoneDestination => "gone_destination",
            Self::NewListener => "new_listener",
            Self::GoneListener => "gone_listener",
            Self::NewProcess => "new_process",
            Self::GoneProcess => "gone_process",
            Self::GoneFailure => "gone_failure",
            Self::Opened => "opened",
            Self::BytesSent => "bytes_sent",
            Self::BytesReceived => "bytes_received",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::NewFailure => "new failure",
            Self::Failures => "failures changed",
            Self::NewDestination => "new destination",
            Self::GoneDestination => "gone destination",
            Self::NewListener => "new listener",
            Self::GoneListener => "gone listener",
            Self::NewProcess => "new process",
            Self::GoneProcess => "gone process",
            Self::GoneFailure => "gone failure",
            Self::Opened => "connections",
            Self::BytesSent => "bytes sent",
            Self::BytesReceived => "bytes received",
        }
    }

    /// So many of them.
    fn counted(self, count: u64) -> String {
        let plural = match self {
            Self::NewFailure => "new failures",
            Self::Failures => "changes of failures",
            Self::NewDestination => "new destinations",
            Self::GoneDestination => "gone destinations",
            Self::NewListener => "new listeners",
            Self::GoneListener => "gone listeners",
            Self::NewProcess => "new processes",
            Self::GoneProcess => "gone processes",
            Self::GoneFailure => "gone failures",
            Self::Opened => "rates of connections",
            Self::BytesSent => "rates of bytes sent",
            Self::BytesReceived => "rates of bytes received",
        };
        let singular = match self {
            Self::Failures => "change of failures",
            Self::Opened => "rate of connections",
            Self::BytesSent => "rate of bytes sent",
            Self::BytesReceived => "rate of bytes received",
            _ => self.in_words(),
        };
        format!("{} {}", units::count(count), if count == 1 { singular } else { plural })
    }

    fn is_of_bytes(self) -> bool {
        matches!(self, Self::BytesSent | Self::BytesReceived)
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Difference {
    /// What it is.
    pub kind: DifferenceKind,
    /// The protocol, of a destination or listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Endpoint>,
    /// The destinations, where one row stands for many of the same processes and error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remotes: Option<Destinations>,
    /// The address that is listened at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Endpoint>,
    /// The names of the processes: the one that the difference is about, or all that use the destination or listener.
    /// Processes are compared by name, since their numbers change with every start. Empty where none is known.
    pub processes: Vec<CleanText>,
    /// The name of the error, of failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CleanText>,
    /// How much it was before. Absent where it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Amount>,
    /// How much it is after. Absent where it is not there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Amount>,
    /// By what the rate has to be multiplied to get from before to after. Absent where one of them is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
}

/// Many destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Destinations {
    /// How many they are.
    pub count: u64,
    /// The address of all of them, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The port of all of them, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl Destinations {
    fn of(remotes: &[Endpoint]) -> Option<Self> {
        let first = remotes.first()?;
        Some(Self {
            count: remotes.len() as u64,
            address: remotes.iter().all(|remote| remote.address == first.address).then_some(first.address),
            port: remotes.iter().all(|remote| remote.port == first.port).then_some(first.port),
        })
    }
}

impl fmt::Display for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = units::count(self.count);
        match (self.address, self.port) {
            (Some(address), _) => write!(f, "{count} ports of {address}"),
            (None, Some(port)) => write!(f, "port {port} of {count} addresses"),
            (None, None) => write!(f, "{count} destinations"),
        }
    }
}

/// How much there was in a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Amount {
    /// Connections, failures or bytes, as the difference's kind says.
    pub count: u64,
    /// The same a second.
    pub per_second: f64,
}

impl Amount {
    fn of(count: u64, seconds: f64) -> Self {
        Self { count, per_second: if seconds > 0.0 { count as f64 / seconds } else { 0.0 } }
    }
}

/// Two times of one source; see [`Monitor::diff`](crate::Monitor::diff).
pub(super) fn of_one(
    source: &dyn Source,
    request: &DiffRequest,
    control: &Control<'_>,
) -> Result<DiffAnswer> {
    request.check()?;
    let description = source.describe();
    let scope = Scope::new(&request.filter, &[], source, &control.cancel)?;
    let times = Times::choose(source, &scope, request, control)?;
    let (mut before, mut after) = (Facts::new(times.first), Facts::new(times.second));
    let observed = collect_both(source, &scope, &mut before, &mut after)?;
    before.listeners = match times.listeners {
        Some(listeners) => Some(listeners),
        None => listeners(source, &scope, &times.first.to)?,
    };
    after.listeners = listeners(source, &scope, &times.second.to)?;
    let (kind, host) = (description.kind.clone(), description.host.clone());
    let watched = Watched::again(times.second, times.warnings);
    let header = observe::header(description, &watched, observed, false);
    let names = (kind.clone(), host.clone());
    Ok(answer(header, (&before, names), (&after, (kind, host)), request))
}

/// One time of each of two sources; see [`Monitor::diff_from`](crate::Monitor::diff_from).
pub(super) fn of_two(
    before: &dyn Source,
    after: &dyn Source,
    request: &DiffRequest,
    control: &Control<'_>,
) -> Result<DiffAnswer> {
    request.check()?;
    let side = |source: &dyn Source| -> Result<(Facts, SourceDescription, Watched, Observed)> {
        let scope = Scope::new(&request.filter, &[], source, &control.cancel)?;
        let watched = observe::watch(source, request.since, request.window, control)?;
        let mut facts = Facts::new(watched.span);
        let observed = source.connections(&watched.span, &scope.filter, &mut |sighting| {
            if scope.takes(sighting.fact) {
                facts.add(sighting.fact, sighting.traffic_within(&watched.span));
            }
        })?;
        facts.listeners = listeners(source, &scope, &watched.span.to)?;
        Ok((facts, source.describe(), watched, observed))
    };
    let (before, of_before, watched_before, observed_before) = side(before)?;
    let (after, of_after, watched_after, observed_after) = side(after)?;
    let earlier = observe::header(of_before.clone(), &watched_before, observed_before, false);
    let mut header = observe::header(of_after.clone(), &watched_after, observed_after, false);
    let coverage = &mut header.coverage;
    add_new(&mut coverage.missing_hooks, &earlier.coverage.missing_hooks);
    let earlier_warnings: Vec<_> =
        earlier.coverage.warnings.iter().map(|warning| format!("before: {warning}")).collect();
    add_new(&mut coverage.warnings, &earlier_warnings);
    coverage.lost_events += earlier.coverage.lost_events;
    let names = (of_before.kind, of_before.host);
    Ok(answer(header, (&before, names), (&after, (of_after.kind, of_after.host)), request))
}

/// The two times of one source that are compared.
struct Times {
    first: Span,
    second: Span,
    /// Who listened at the end of the first, where that was asked in time.
    listeners: Option<Listeners>,
    warnings: Vec<String>,
    _observations: Vec<Observation>,
}

impl Times {
    fn choose(
        source: &dyn Source,
        scope: &Scope,
        request: &DiffRequest,
        control: &Control<'_>,
    ) -> Result<Self> {
        match request.since {
            Some(since) => Self::past(source, since),
            None => Self::coming(source, scope, request.window, control),
        }
    }

    fn past(source: &dyn Source, since: Duration) -> Result<Self> {
        let length = |span: &Span| span.to.since(&span.from);
        let (Some(whole), Some(last)) = (source.observed(Some(since * 2))?, source.observed(Some(since))?)
        else {
            return Err(Error::InvalidRequest(
                "nothing was recording, so that no past can be compared; start netmond, compare two recordings with \
                 --before and --after, or the next times with --window"
                    .to_owned(),
            ));
        };
        let (first, second) =
            (Span { from: whole.from, to: last.from }, Span { from: last.from, to: last.to });
        if length(&first).is_zero() {
            return Err(Error::InvalidRequest(format!(
                "only the last {} were recorded, so that nothing is known of before the last {}; ask for less",
                units::short(length(&second)),
                units::seconds(since),
            )));
        }
        let warnings = (length(&first).as_secs_f64() < since.as_secs_f64() * 0.99).then(|| {
            format!(
                "asked for {} before; only {} of it were recorded, in which less is seen",
                units::seconds(since),
                units::short(length(&first)),
            )
        });
        Ok(Self {
            first,
            second,
            listeners: None,
            warnings: warnings.into_iter().collect(),
            _observations: Vec::new(),
        })
    }

    fn coming(source: &dyn Source, scope: &Scope, window: Duration, control: &Control<'_>) -> Result<Self> {
        let begun = source.observe()?;
        let waited = source.wait(&begun.from, window, control)?;
        let listeners = listeners(source, scope, &waited)?;
        // Has counters read, from which the second time's differences are taken. A recording begins where it began.
        let again = source.observe()?;
        let middle = if again.from.boot_ns > waited.boot_ns { again.from } else { waited };
        let end = source.wait(&middle, window, control)?;
        Ok(Self {
            first: Span { from: begun.from, to: middle },
            second: Span { from: middle, to: end },
            listeners,
            warnings: Vec::new(),
            _observations: vec![begun, again],
        })
    }
}

/// Both times by two visits: the first tells the counters at the end of the one, which are those at the beginning of the
/// other, of each connection that was open then.
fn collect_both(
    source: &dyn Source,
    scope: &Scope,
    before: &mut Facts,
    after: &mut Facts,
) -> Result<Observed> {
    let (first, second) = (before.span, after.span);
    let mut lasting: HashMap<ConnectionId, Option<Traffic>> = HashMap::new();
    let observed = source.connections(&second, &scope.filter, &mut |sighting| {
        if scope.takes(sighting.fact) {
            after.add(sighting.fact, sighting.traffic_within(&second));
            if !began_after(sighting.fact, &second.from) {
                lasting.insert(sighting.fact.id(), sighting.before);
            }
        }
    })?;
    let whole = Span { from: first.from, to: second.to };
    let mut earlier = source.connections(&whole, &scope.filter, &mut |sighting| {
        if !scope.takes(sighting.fact) || began_after(sighting.fact, &first.to) {
            return;
        }
        match lasting.get(&sighting.fact.id()) {
            Some(middle) => {
                let lasted = ConnectionFact {
                    state: ConnectionState::Open,
                    closed: None,
                    error: None,
                    ..sighting.fact.clone()
                };
                let begun = sighting
                    .before
                    .or_else(|| began_after(sighting.fact, &first.from).then(Traffic::default));
                before.add(&lasted, middle.zip(begun).map(|(middle, begun)| middle.since(&begun)));
            }
            None => before.add(sighting.fact, sighting.traffic_within(&first)),
        }
    })?;
    add_new(&mut earlier.warnings, &observed.warnings);
    Ok(earlier)
}

fn began_after(fact: &ConnectionFact, moment: &Moment) -> bool {
    fact.opened.is_some_and(|opened| opened.ns() > moment.boot_ns)
}

type Listeners = BTreeMap<(Protocol, SocketAddr), BTreeSet<CleanText>>;

/// Who listens at a moment; `None` where the source does not know that of this moment. Sockets of UDP on ports that the
/// kernel gives are left out: they are clients that have no peer yet.
fn listeners(source: &dyn Source, scope: &Scope, at: &Moment) -> Result<Option<Listeners>> {
    const TIME_TO_LIST: Duration = Duration::from_secs(2);
    const GIVEN_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

    let snapshot = match source.sockets(at) {
        Err(Error::NotInSource { .. }) => return Ok(None),
        other => other?,
    };
    if snapshot.at.since(at) > TIME_TO_LIST {
        return Ok(None);
    }
    let mut listeners = Listeners::new();
    for socket in &snapshot.sockets {
        let fact = &socket.connection;
        let is_client = fact.protocol == Protocol::Udp && GIVEN_PORTS.contains(&fact.local.port());
        if fact.state == ConnectionState::Listening
            && !is_client
            && scope.filter.matches(fact)
            && scope.takes(fact)
        {
            let processes = listeners.entry((fact.protocol, fact.local)).or_default();
            processes.extend(fact.process.as_ref().map(|process| process.comm.clone()));
        }
    }
    Ok(Some(listeners))
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    connections: u64,
    opened: u64,
    measured: u64,
    bytes: BothWays,
}

impl Tally {
    fn add(&mut self, opened: bool, within: Option<Traffic>) {
        self.connections += 1;
        self.opened += u64::from(opened);
        if let Some(within) = within {
            let payload = BothWays::payload(&within);
            self.measured += 1;
            self.bytes.sent = self.bytes.sent.saturating_add(payload.sent);
            self.bytes.received = self.bytes.received.saturating_add(payload.received);
        }
    }
}

/// By name; `None` for all of which the process is not known.
type ProcessName = Option<CleanText>;
type Place = (Protocol, SocketAddr);

/// What is compared of one time.
#[derive(Debug)]
pub(super) struct Facts {
    span: Span,
    all: Tally,
    processes: BTreeMap<ProcessName, (Tally, BTreeSet<Place>)>,
    destinations: BTreeMap<Place, (Tally, BTreeSet<CleanText>)>,
    failures: BTreeMap<(ProcessName, Option<Place>, CleanText), u64>,
    listeners: Option<Listeners>,
}

impl Facts {
    pub(super) fn new(span: Span) -> Self {
        Self {
            span,
            all: Tally::default(),
            processes: BTreeMap::new(),
            destinations: BTreeMap::new(),
            failures: BTreeMap::new(),
            listeners: None,
        }
    }

    /// A connection that was open at some time in the span, and what went over it in that.
    pub(super) fn add(&mut self, fact: &ConnectionFact, within: Option<Traffic>) {
        if fact.state == ConnectionState::Listening {
            return;
        }
        let opened = began_after(fact, &self.span.from);
        let name = fact.process.as_ref().map(|process| process.comm.clone());
        let place = fact
            .remote
            .filter(|_| fact.direction == ConnectionDirection::Outbound)
            .map(|remote| (fact.protocol, remote));
        self.all.add(opened, within);
        let (tally, places) = self.processes.entry(name.clone()).or_default();
        tally.add(opened, within);
        places.extend(place);
        if let Some(place) = place {
            let (tally, processes) = self.destinations.entry(place).or_default();
            tally.add(opened, within);
            processes.extend(name.clone());
        }
        let failed = fact.state == ConnectionState::Failed;
        if fact.is_over() && (failed || fact.error.is_some()) {
            let error = fact.error.map_or_else(|| CleanText::from("unknown"), ConnectionError::name);
            *self.failures.entry((name, place, error)).or_default() += 1;
        }
    }

    fn seconds(&self) -> f64 {
        self.span.to.since(&self.span.from).as_secs_f64()
    }

    fn side(&self, (source, host): (CleanText, CleanText)) -> DiffSide {
        DiffSide {
            host,
            source,
            window: Window::between(&self.span.from, &self.span.to),
            connections: self.all.connections,
            opened: self.all.opened,
            failures: self.failures.values().sum(),
            payload_bytes: (self.all.measured > 0).then_some(self.all.bytes),
            listeners: self.listeners.as_ref().map(|listeners| listeners.len() as u64),
        }
    }
}

fn answer(
    mut header: Header,
    (before, of_before): (&Facts, (CleanText, CleanText)),
    (after, of_after): (&Facts, (CleanText, CleanText)),
    request: &DiffRequest,
) -> DiffAnswer {
    let thresholds = DiffThresholds {
        factor: request.factor,
        least_connections: request.least_connections,
        least_bytes: request.least_bytes,
    };
    if before.listeners.is_some() != after.listeners.is_some() {
        header.coverage.warnings.push(
            "listeners are not compared: who listened in the past is known of recordings only; with --window they are"
                .to_owned(),
        );
    }
    let mut differences = compare(before, after, &thresholds);
    let total = differences.len() as u64;
    let mut by_kind: BTreeMap<DifferenceKind, u64> = BTreeMap::new();
    differences.iter().for_each(|difference| *by_kind.entry(difference.kind).or_default() += 1);
    if let Some(limit) = request.limit.and_then(|limit| usize::try_from(limit).ok()) {
        header.coverage.truncated |= differences.len() > limit;
        differences.truncate(limit);
    }
    DiffAnswer {
        header,
        before: before.side(of_before),
        after: after.side(of_after),
        thresholds,
        total,
        by_kind: by_kind.into_iter().map(|(kind, count)| DifferenceCount { kind, count }).collect(),
        differences,
    }
}

/// All differences between two times, in their order.
pub(super) fn compare(before: &Facts, after: &Facts, thresholds: &DiffThresholds) -> Vec<Difference> {
    let comparison = Comparison { seconds: (before.seconds(), after.seconds()), thresholds };
    let mut all = comparison.failures(&before.failures, &after.failures);
    all.extend(comparison.destinations(before, after));
    if let (Some(before), Some(after)) = (&before.listeners, &after.listeners) {
        all.extend(comparison.listeners(before, after));
    }
    all.extend(comparison.processes(before, after));
    let mut all = comparison.gathered(all);
    // What has no factor changed from or to nothing.
    let size = |difference: &Difference| {
        let factor = difference.factor.map_or(f64::INFINITY, |factor| factor.max(1.0 / factor));
        let count = [difference.before, difference.after].into_iter().flatten().map(|amount| amount.count);
        (factor, count.max().unwrap_or_default())
    };
    all.sort_by(|one, other| {
        let (one_size, other_size) = (size(one), size(other));
        one.kind
            .cmp(&other.kind)
            .then(other_size.0.total_cmp(&one_size.0))
            .then(other_size.1.cmp(&one_size.1))
            .then_with(|| one.order().cmp(&other.order()))
    });
    all
}

struct Comparison<'a> {
    seconds: (f64, f64),
    thresholds: &'a DiffThresholds,
}

impl Comparison<'_> {
    fn amounts(&self, before: u64, after: u64) -> (Option<Amount>, Option<Amount>) {
        let amount = |count, seconds| (count > 0).then(|| Amount::of(count, seconds));
        (amount(before, self.seconds.0), amount(after, self.seconds.1))
    }

    /// A difference of this kind, of nothing in particular yet.
    fn difference(&self, kind: DifferenceKind, before: u64, after: u64) -> Difference {
        let (before, after) = self.amounts(before, after);
        let factor = before.zip(after).map(|(before, after)| after.per_second / before.per_second);
        Difference {
            kind,
            protocol: None,
            remote: None,
            remotes: None,
            local: None,
            processes: Vec::new(),
            error: None,
            before,
            after,
            factor: factor.filter(|factor| factor.is_finite()),
        }
    }

    /// The same, if the rate changed by enough.
    fn change(&self, kind: DifferenceKind, before: u64, after: u64) -> Option<Difference> {
        let DiffThresholds { factor, least_connections, least_bytes } = *self.thresholds;
        let least = if kind.is_of_bytes() { least_bytes } else { least_connections };
        let difference = self.difference(kind, before, after);
        let changed = match difference.factor {
            Some(by) => by >= factor || by <= 1.0 / factor,
            None => before != after,
        };
        (changed && before.max(after) >= least.max(1)).then_some(difference)
    }

    /// With one row for what the same processes newly do, or do no more, at many destinations: a scan is one difference.
    fn gathered(&self, all: Vec<Difference>) -> Vec<Difference> {
        const MOST_APART: usize = 5;

        let mut gathered = Vec::new();
        let mut groups: BTreeMap<_, Vec<Difference>> = BTreeMap::new();
        for difference in all {
            let one_sided = difference.before.is_some() != difference.after.is_some();
            if one_sided && difference.remote.is_some() {
                let key = (
                    difference.kind,
                    difference.protocol,
                    difference.processes.clone(),
                    difference.error.clone(),
                );
                groups.entry(key).or_default().push(difference);
            } else {
                gathered.push(difference);
            }
        }
        for ((kind, protocol, processes, error), group) in groups {
            if group.len() <= MOST_APART {
                gathered.extend(group);
                continue;
            }
            let sum = |amount: fn(&Difference) -> Option<Amount>| {
                group.iter().filter_map(amount).map(|amount| amount.count).sum()
            };
            let remotes: Vec<_> = group.iter().filter_map(|difference| difference.remote).collect();
            gathered.push(Difference {
                protocol,
                remotes: Destinations::of(&remotes),
                processes,
                error,
                ..self.difference(
                    kind,
                    sum(|difference| difference.before),
                    sum(|difference| difference.after),
                )
            });
        }
        gathered
    }

    fn rates(&self, before: &Tally, after: &Tally) -> impl Iterator<Item = Difference> + use<> {
        let bytes = before.measured > 0 && after.measured > 0;
        [
            self.change(DifferenceKind::Opened, before.opened, after.opened),
            self.change(DifferenceKind::BytesSent, before.bytes.sent, after.bytes.sent).filter(|_| bytes),
            self.change(DifferenceKind::BytesReceived, before.bytes.received, after.bytes.received)
                .filter(|_| bytes),
        ]
        .into_iter()
        .flatten()
    }

    fn failures(
        &self,
        before: &BTreeMap<(ProcessName, Option<Place>, CleanText), u64>,
        after: &BTreeMap<(ProcessName, Option<Place>, CleanText), u64>,
    ) -> Vec<Difference> {
        let mut differences = Vec::new();
        for key in before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))) {
            let counts = [before, after].map(|failures| failures.get(key).copied().unwrap_or_default());
            let difference = match counts {
                [0, now] => Some(self.difference(DifferenceKind::NewFailure, 0, now)),
                [then, 0] => Some(self.difference(DifferenceKind::GoneFailure, then, 0)),
                [then, now] => self.change(DifferenceKind::Failures, then, now),
            };
            let (process, place, error) = key;
            differences.extend(difference.map(|difference| Difference {
                protocol: place.map(|(protocol, _)| protocol),
                remote: place.map(|(_, remote)| remote.into()),
                processes: process.iter().cloned().collect(),
                error: Some(error.clone()),
                ..difference
            }));
        }
        differences
    }

    fn destinations(&self, before: &Facts, after: &Facts) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut push = |place: &Place, names: &BTreeSet<CleanText>, difference: Difference| {
            differences.push(Difference {
                protocol: Some(place.0),
                remote: Some(place.1.into()),
                processes: names.iter().cloned().collect(),
                ..difference
            });
        };
        for (place, (now, names)) in &after.destinations {
            match before.destinations.get(place) {
                None => {
                    push(place, names, self.difference(DifferenceKind::NewDestination, 0, now.connections));
                }
                // What is all of one process's is told of the process.
                Some((_, then_names)) if is_all_of_one(before, then_names) && is_all_of_one(after, names) => {
                }
                Some((then, then_names)) => {
                    let names = names | then_names;
                    self.rates(then, now).for_each(|difference| push(place, &names, difference));
                }
            }
        }
        for (place, (then, names)) in &before.destinations {
            if !after.destinations.contains_key(place) {
                push(place, names, self.difference(DifferenceKind::GoneDestination, then.connections, 0));
            }
        }
        differences
    }

    fn listeners(&self, before: &Listeners, after: &Listeners) -> Vec<Difference> {
        let only = |kind, these: &Listeners, those: &Listeners| -> Vec<Difference> {
            let missing = these.iter().filter(|(place, _)| !those.contains_key(place));
            let difference = |((protocol, local), processes): (&Place, &BTreeSet<CleanText>)| Difference {
                protocol: Some(*protocol),
                local: Some((*local).into()),
                processes: processes.iter().cloned().collect(),
                ..self.difference(kind, 0, 0)
            };
            missing.map(difference).collect()
        };
        let mut differences = only(DifferenceKind::NewListener, after, before);
        differences.extend(only(DifferenceKind::GoneListener, before, after));
        differences
    }

    fn processes(&self, before: &Facts, after: &Facts) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut push = |name: &CleanText, difference: Difference| {
            differences.push(Difference { processes: vec![name.clone()], ..difference });
        };
        for (name, (now, _)) in &after.processes {
            let Some(name) = name else { continue };
            match before.processes.get(&Some(name.clone())) {
                None => push(name, self.difference(DifferenceKind::NewProcess, 0, now.connections)),
                Some((then, _)) => self.rates(then, now).for_each(|difference| push(name, difference)),
            }
        }
        for (name, (then, _)) in &before.processes {
            if let Some(known) = name
                && !after.processes.contains_key(name)
            {
                push(known, self.difference(DifferenceKind::GoneProcess, then.connections, 0));
            }
        }
        differences
    }
}

/// Whether a destination is used by one process alone, which has no other.
fn is_all_of_one(facts: &Facts, names: &BTreeSet<CleanText>) -> bool {
    let mut names = names.iter();
    let (Some(name), None) = (names.next(), names.next()) else { return false };
    facts.processes.get(&Some(name.clone())).is_some_and(|(_, places)| places.len() == 1)
}

impl Difference {
    /// What tells two of a kind apart.
    fn order(&self) -> impl Ord + '_ {
        let gathered = self.remotes.map(|remotes| (remotes.count, remotes.address));
        (self.remote, gathered, self.local, self.protocol, &self.processes, &self.error)
    }
}

impl fmt::Display for DiffAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after, thresholds, total, .. } = self;
        writeln!(f, "Compared {} with {}", before.in_words(), after.in_words())?;
        let DiffThresholds { factor, least_connections, least_bytes } = thresholds;
        if *total == 0 {
            write!(
                f,
                "No differences: nothing is new or gone, and no rate of at least {} or {} changed by a factor of {factor}",
                units::counted(*least_connections, "connection"),
                units::bytes(*least_bytes as f64),
            )?;
        } else {
            let words: Vec<String> =
                self.by_kind.iter().map(|DifferenceCount { kind, count }| kind.counted(*count)).collect();
            write!(f, "{}: {}", units::counted(*total, "difference"), words.join(", "))?;
            if (self.differences.len() as u64) < *total {
                write!(f, "; {} shown", units::count(self.differences.len() as u64))?;
            }
        }
        for (name, side) in [("Before", before), ("After", after)] {
            write!(
                f,
                "\n{name}: {}, {} of them begun in this time; {}",
                units::counted(side.connections, "connection"),
                units::count(side.opened),
                units::counted(side.failures, "failure"),
            )?;
            if let Some(bytes) = side.payload_bytes {
                write!(
                    f,
                    "; sent {}, received {}",
                    units::bytes(bytes.sent as f64),
                    units::bytes(bytes.received as f64)
                )?;
            }
        }
        Ok(())
    }
}

impl DiffSide {
    fn in_words(&self) -> String {
        let length = Duration::try_from_secs_f64(self.window.seconds).unwrap_or_default();
        let from = self.window.from.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string();
        format!("{} from {from} ({}, {})", units::short(length), self.host, self.source)
    }
}

impl Answer for DiffAnswer {
    type Row = Difference;

    fn header(&self) -> &Header {
        &self.header
    }

    fn rows(&self) -> &[Difference] {
        &self.differences
    }

    fn tables(&self) -> Vec<Table> {
        if self.differences.is_empty() {
            return Vec::new();
        }
        let columns = vec![
            Column::text("CHANGE"),
            Column::text("WHERE"),
            Column::text("PROTO").optional(),
            Column::text("PROCESS"),
            Column::text("ERROR").secondary(),
            Column::number("BEFORE"),
            Column::number("AFTER"),
            Column::number("FACTOR").secondary(),
        ];
        let row = |difference: &Difference| {
            let place = difference.remote.or(difference.local).map(|place| place.to_string());
            let place = place.or_else(|| difference.remotes.map(|remotes| remotes.to_string()));
            let names: Vec<_> = difference.processes.iter().map(CleanText::as_str).collect();
            vec![
                Cell::toned(difference.kind.in_words(), difference.tone()),
                Cell::known(place),
                Cell::known(difference.protocol.map(|protocol| protocol.name().to_owned())),
                Cell::known((!names.is_empty()).then(|| names.join(", "))),
                Cell::known(difference.error.as_ref().map(CleanText::to_string)),
                Cell::known(difference.before.map(|amount| amount.in_words(difference.kind))),
                Cell::known(difference.after.map(|amount| amount.in_words(difference.kind))),
                Cell::known(difference.factor.map(|factor| format!("x{factor:.2}"))),
            ]
        };
        vec![Table { columns, rows: self.differences.iter().map(row).collect() }]
    }
}

impl Amount {
    fn in_words(self, kind: DifferenceKind) -> String {
        if kind.is_of_bytes() {
            format!("{}/s", units::bytes(self.per_second))
        } else {
            format!("{} ({}/s)", units::count(self.count), units::rate(self.per_second))
        }
    }
}

impl Difference {
    fn tone(&self) -> Tone {
        match self.kind {
            DifferenceKind::NewFailure => Tone::Bad,
            DifferenceKind::Failures if self.factor.is_none_or(|factor| factor > 1.0) => Tone::Bad,
            _ => Tone::Plain,
        }
    }
}

impl Row for Difference {
    const TYPE: &'static str = "difference";
    const CSV_COLUMNS: &'static [&'static str] = &[
        "kind",
        "protocol",
        "remote_address",
        "remote_port",
        "destinations",
        "local_address",
        "local_port",
        "processes",
        "error",
        "before",
        "after",
        "before_per_second",
        "after_per_second",
        "factor",
    ];

    fn csv_fields(&self) -> Vec<String> {
        fn known<T: ToString>(value: Option<T>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        let names: Vec<_> = self.processes.iter().map(CleanText::as_str).collect();
        vec![
            self.kind.name().to_owned(),
            known(self.protocol),
            known(
                self.remote
                    .map(|remote| remote.address)
                    .or_else(|| self.remotes.and_then(|remotes| remotes.address)),
            ),
            known(
                self.remote
                    .map(|remote| remote.port)
                    .or_else(|| self.remotes.and_then(|remotes| remotes.port)),
            ),
            known(self.remotes.map_or(self.remote.map(|_| 1), |remotes| Some(remotes.count))),
            known(self.local.map(|local| local.address)),
            known(self.local.map(|local| local.port)),
            names.join(" "),
            known(self.error.as_ref()),
            known(self.before.map(|amount| amount.count)),
            known(self.after.map(|amount| amount.count)),
            known(self.before.map(|amount| amount.per_second)),
            known(self.after.map(|amount| amount.per_second)),
            known(self.factor),
        ]
    }
}
