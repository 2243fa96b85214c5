//! What holds for every host, whatever happens on it: pages, windows and sums, over a recorder as the live source has it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use netmon_core::{
    ConnectionsAnswer, ConnectionsRequest, Control, Filter, Monitor, PatternsRequest, Result, Source,
    SummaryAnswer, SummaryRequest,
    fact::{
        BootTime, ConnectionDirection, ConnectionFact, ConnectionId, ConnectionState, InterfaceSnapshot,
        Moment, Observed, Process, Protocol, Traffic,
    },
    monitor::TopWatch,
    request::{ConnectionSort, HookChoice, TopRequest},
    source::{Counting, InterfaceRef, Observation, Recorder, Sighting, SourceDescription, Span},
};
use proptest::{collection::vec, prelude::*};

const SECOND: u64 = 1_000_000_000;
const HOUR: Duration = Duration::from_secs(3_600);
/// When it is first observed.
const BEGAN: u64 = 1_000 * SECOND;

fn moment(ns: u64) -> Moment {
    let wall = jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap();
    Moment { boot_ns: ns, wall }
}

/// What can happen.
#[derive(Debug, Clone)]
enum Event {
    /// A process connects to, or is connected from, somewhere.
    Open { process: u32, peer: u8, inbound: bool },
    /// One of the open connections carries bytes.
    Send { which: usize, bytes: u64 },
    /// One of them ends.
    End { which: usize },
    /// One fails that never was open.
    Fail { process: u32, peer: u8 },
    /// Counters are read.
    Sample,
    /// Records are lost.
    Lose { count: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..4_u32, 0..6_u8, any::<bool>())
            .prop_map(|(process, peer, inbound)| Event::Open { process, peer, inbound }),
        3 => (any::<usize>(), 0..100_000_u64).prop_map(|(which, bytes)| Event::Send { which, bytes }),
        3 => any::<usize>().prop_map(|which| Event::End { which }),
        2 => (0..4_u32, 0..6_u8).prop_map(|(process, peer)| Event::Fail { process, peer }),
        1 => Just(Event::Sample),
        1 => (1..5_u64).prop_map(|count| Event::Lose { count }),
    ]
}

/// A host, and what was seen of it.
#[derive(Default)]
struct Host {
    recorder: Recorder,
    now: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Vec<ConnectionFact>,
    /// When each of them began or carried bytes last.
    active: BTreeMap<ConnectionId, u64>,
    /// All that ever ended.
    ended: Vec<ConnectionFact>,
    next: u64,
    lost: u64,
}

impl Host {
    fn begin(events: &[Event]) -> Arc<Self> {
        let host = Self { now: AtomicU64::new(BEGAN), ..Self::default() };
        host.recorder.sample(&moment(BEGAN), []);
        events.iter().for_each(|event| host.happen(event));
        Arc::new(host)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A tenth of a second later.
    fn happen(&self, event: &Event) {
        let now = self.now.fetch_add(SECOND / 10, Ordering::Relaxed) + SECOND / 10;
        let mut state = self.state();
        let state = &mut *state;
        let which = |which: usize| which % state.open.len().max(1);
        match *event {
            Event::Open { process, peer, inbound } => {
                let fact = fact(state.next, now, process, peer, inbound);
                state.next += 1;
                self.recorder.opened([fact.clone()]);
                state.active.insert(fact.id(), now);
                state.open.push(fact);
            }
            Event::Send { which: one, bytes } => {
                let one = which(one);
                if let Some(fact) = state.open.get_mut(one) {
                    let traffic = fact.traffic.as_mut().unwrap();
                    traffic.payload_bytes_sent += bytes;
                    traffic.payload_bytes_received += bytes / 2;
                    state.active.insert(fact.id(), now);
                }
            }
            Event::End { which: one } if !state.open.is_empty() => {
                let mut fact = state.open.remove(which(one));
                fact.state = ConnectionState::Closed;
                fact.closed = BootTime::from_ns(now);
                state.ended.push(fact.clone());
                self.recorder.ended([fact]);
            }
            Event::End { .. } => {}
            Event::Fail { process, peer } => {
                let mut fact = fact(state.next, now, process, peer, false);
                state.next += 1;
                fact.established = None;
                fact.state = ConnectionState::Failed;
                fact.closed = BootTime::from_ns(now);
                state.ended.push(fact.clone());
                self.recorder.ended([fact]);
            }
            Event::Sample => {
                let counters = state.open.iter().map(|fact| (fact.id(), fact.traffic.unwrap()));
                self.recorder.sample(&moment(now), counters);
            }
            Event::Lose { count } => {
                state.lost += count;
                self.recorder.lost(count, &moment(now));
            }
        }
    }
}

fn fact(cookie: u64, now: u64, process: u32, peer: u8, inbound: bool) -> ConnectionFact {
    let local = ([192, 0, 2, 1], 40_000 + u16::try_from(cookie % 20_000).unwrap());
    let mut fact = ConnectionFact::new(cookie + 1, Protocol::Tcp, ConnectionState::Open, local.into());
    fact.remote = Some(([198, 51, 100, peer], 443).into());
    fact.direction = if inbound { ConnectionDirection::Inbound } else { ConnectionDirection::Outbound };
    fact.opened = BootTime::from_ns(now);
    fact.established = fact.opened;
    fact.traffic = Some(Traffic::default());
    let name = format!("process-{process}");
    fact.process = (process > 0).then(|| Arc::new(Process::new(process, name.as_str())));
    fact
}

/// The host as a source.
struct Watched(Arc<Host>);

impl Source for Watched {
    fn describe(&self) -> SourceDescription {
        SourceDescription::new("live", "test", "none")
    }

    fn start(&self) -> Result<Moment> {
        Ok(moment(self.0.now.load(Ordering::Relaxed)))
    }

    fn wait(&self, _: &Moment, _: Duration, _: &Control<'_>) -> Result<Moment> {
        self.start()
    }

    fn interfaces(&self, at: &Moment) -> Result<InterfaceSnapshot> {
        Ok(InterfaceSnapshot::new(*at, Vec::new(), None))
    }

    fn count(
        &self,
        _: InterfaceRef<'_>,
        _: &[netmon_core::fact::Direction],
        _: HookChoice,
    ) -> Result<Counting> {
        Ok(Counting::default())
    }

    fn observe(&self) -> Result<Observation> {
        Ok(Observation { from: self.start()?, cursor: self.0.recorder.cursor(), guard: Box::new(()) })
    }

    fn observed(&self, since: Option<Duration>) -> Result<Option<Span>> {
        Ok(self.0.recorder.observed(since, &self.start()?))
    }

    fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        let open = self.0.state().open.clone();
        self.0.tell(&open, span, filter, visit)
    }
}

impl Host {
    fn tell(
        &self,
        open: &[ConnectionFact],
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        let told = self.recorder.visit(span, filter, open, visit);
        let mut observed = Observed::default();
        (observed.lost_events, observed.forgotten) = (told.lost, told.forgotten);
        Ok(observed)
    }
}

/// The same as a source that can leave out what is quiet.
struct Quick(Watched);

impl Source for Quick {
    fn describe(&self) -> SourceDescription {
        self.0.describe()
    }

    fn start(&self) -> Result<Moment> {
        self.0.start()
    }

    fn wait(&self, from: &Moment, window: Duration, control: &Control<'_>) -> Result<Moment> {
        self.0.wait(from, window, control)
    }

    fn interfaces(&self, at: &Moment) -> Result<InterfaceSnapshot> {
        self.0.interfaces(at)
    }

    fn observe(&self) -> Result<Observation> {
        self.0.observe()
    }

    fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        self.0.connections(span, filter, visit)
    }

    fn active_connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Option<Observed>> {
        let host = &self.0.0;
        let active: Vec<ConnectionFact> = {
            let state = host.state();
            let is_active = |fact: &&ConnectionFact| state.active[&fact.id()] > span.from.boot_ns;
            state.open.iter().filter(is_active).cloned().collect()
        };
        host.tell(&active, span, filter, visit).map(Some)
    }
}

/// What one sample of `top` shows.
fn shown(watch: &mut TopWatch) -> (serde_json::Value, BTreeSet<String>) {
    let interval = watch.next_interval(&Control::default()).unwrap();
    let answer = interval.connections(&Filter::everything());
    let rows = answer.rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
    (serde_json::to_value(answer.totals).unwrap(), rows)
}

fn monitor(host: &Arc<Host>) -> Monitor {
    Monitor::new(Watched(Arc::clone(host)))
}

fn ask(monitor: &Monitor, request: &ConnectionsRequest) -> ConnectionsAnswer {
    monitor.connections(request, &Control::default()).unwrap()
}

fn ids(answer: &ConnectionsAnswer) -> Vec<ConnectionId> {
    answer.connections.iter().map(|row| row.id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Though others come, and some of those listed go, between two pages.
    #[test]
    fn pages_neither_repeat_nor_skip_while_the_host_goes_on(
        before in vec(event(), 2..60),
        between in vec(vec(event(), 0..6), 1..8),
        limit in 1..9_u64,
        reverse in any::<bool>(),
    ) {
        for sort in [ConnectionSort::Opened, ConnectionSort::Process, ConnectionSort::Remote] {
            let host = Host::begin(&before);
            let monitor = monitor(&host);
            let mut request = ConnectionsRequest::default();
            (request.sort, request.reverse, request.since) = (sort, reverse, Some(Duration::from_secs(3)));
            let whole = ids(&ask(&monitor, &request));
            request.limit = Some(limit);
            let mut paged = Vec::new();
            for events in between.iter().cycle() {
                let page = ask(&monitor, &request);
                prop_assert!(page.connections.len() as u64 <= limit);
                paged.extend(ids(&page));
                prop_assert!(paged.len() <= whole.len(), "a row came twice, or one that came later");
                request.cursor = page.next_cursor;
                if request.cursor.is_none() {
                    break;
                }
                events.iter().for_each(|event| host.happen(event));
            }
            prop_assert_eq!(&paged, &whole, "by {:?}", sort);
        }
    }

    /// What the recorder was told is told again, once, or counted as lost; and its sums are those of what it was told.
    #[test]
    fn all_that_ended_is_told_once_and_is_in_the_sums(events in vec(event(), 1..120)) {
        let host = Host::begin(&events);
        let mut request = ConnectionsRequest::default();
        request.since = Some(HOUR);
        let answer = ask(&monitor(&host), &request);
        let state = host.state();
        let told: BTreeSet<ConnectionId> = ids(&answer).into_iter().collect();
        let happened: BTreeSet<_> = state.ended.iter().chain(&state.open).map(ConnectionFact::id).collect();
        prop_assert_eq!(answer.connections.len(), told.len());
        prop_assert_eq!(&told, &happened);
        prop_assert_eq!(answer.total, happened.len() as u64);
        prop_assert_eq!(answer.header.coverage.lost_events, state.lost);

        let totals = host.recorder.totals();
        prop_assert_eq!((totals.lost, totals.forgotten), (state.lost, 0));
        let sums = totals.ended.iter().map(|kind| (kind.connections, kind.traffic.payload_bytes_sent));
        let sums = sums.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        let sent = |fact: &ConnectionFact| fact.traffic.unwrap().payload_bytes_sent;
        prop_assert_eq!(sums, (state.ended.len() as u64, state.ended.iter().map(sent).sum::<u64>()));
    }

    /// Two windows that touch have what the one over both has: every end once, and every byte.
    #[test]
    fn windows_that_touch_add_up(
        before in vec(event(), 1..40),
        first in vec(event(), 1..40),
        second in vec(event(), 1..40),
    ) {
        let host = Host::begin(&before);
        let source = Watched(Arc::clone(&host));
        let mut places = vec![];
        for events in [&first, &second] {
            host.happen(&Event::Sample);
            places.push(source.start().unwrap());
            events.iter().for_each(|event| host.happen(event));
        }
        host.happen(&Event::Sample);
        places.push(source.start().unwrap());

        // Only what is open at the end of a span may be listed with it: bytes of the first are the differences of samples.
        let bytes = |from: usize, to: usize| {
            let mut sent = BTreeMap::new();
            let span = Span { from: places[from], to: places[to] };
            source
                .connections(&span, &Filter::everything(), &mut |sighting| {
                    let within = sighting.traffic_within(&span).map(|traffic| traffic.payload_bytes_sent);
                    sent.insert(sighting.fact.id(), (sighting.fact.closed, within));
                })
                .unwrap();
            sent
        };
        let (both, last) = (bytes(0, 2), bytes(1, 2));
        for (id, (closed, within)) in &both {
            prop_assert!(within.is_some(), "{id} was sampled");
            if let Some((again, later)) = last.get(id) {
                prop_assert_eq!(again, closed);
                prop_assert!(later <= within, "{} of {:?}", id, within);
            }
        }
        let ended = |sent: &BTreeMap<ConnectionId, (Option<BootTime>, Option<u64>)>| {
            sent.values().filter(|(closed, _)| closed.is_some()).count()
        };
        let in_first = bytes(0, 1).values().filter(|(closed, _)| closed.is_some_and(|at| at.ns() <= places[1].boot_ns)).count();
        prop_assert_eq!(in_first + ended(&last), ended(&both));
        let total: u64 = both.values().filter_map(|(_, within)| *within).sum();
        let events = first.iter().chain(&second);
        let at_most: u64 = events.map(|event| if let Event::Send { bytes, .. } = event { *bytes } else { 0 }).sum();
        prop_assert!(total <= at_most, "{total} of {at_most}");
    }

    /// A sample shows the same, whether or not the source leaves out what is quiet.
    #[test]
    fn top_shows_what_is_quiet_though_it_is_left_out(
        before in vec(event(), 0..40),
        samples in vec(vec(event(), 1..12), 1..8),
    ) {
        let host = Host::begin(&before);
        let mut all = monitor(&host).watch_top(&TopRequest::default()).unwrap();
        let mut quick = Monitor::new(Quick(Watched(Arc::clone(&host)))).watch_top(&TopRequest::default()).unwrap();
        for events in &samples {
            events.iter().for_each(|event| host.happen(event));
            prop_assert_eq!(shown(&mut quick), shown(&mut all));
        }
    }

    /// What is listed and what is left out are the whole, however short it gets and however often it is shortened.
    #[test]
    fn what_is_listed_and_what_is_left_out_are_the_whole(
        events in vec(event(), 1..120),
        most in vec(0..6_usize, 1..3),
    ) {
        let monitor = monitor(&Host::begin(&events));
        let (mut of_summary, mut of_patterns) = (SummaryRequest::default(), PatternsRequest::default());
        (of_summary.since, of_patterns.since) = (Some(HOUR), Some(HOUR));
        let mut summary = monitor.summary(&of_summary, &Control::default()).unwrap();
        let mut patterns = monitor.patterns(&of_patterns, &Control::default()).unwrap();
        let listed = |patterns: &netmon_core::PatternsAnswer| {
            let sums = |listed: u64, other: Option<u64>| listed + other.unwrap_or(0);
            let destinations = patterns.destinations.iter().map(|top| top.connections).sum();
            let processes = patterns.processes.iter().map(|top| top.connections).sum();
            [
                sums(destinations, patterns.destinations_other.as_ref().map(|other| other.connections)),
                sums(processes, patterns.processes_other.as_ref().map(|other| other.connections)),
            ]
        };
        let (whole, of_patterns) = (whole(&summary), listed(&patterns));
        prop_assert_eq!(whole[0], [summary.total_attempts, summary.failed, summary.connections]);
        for most in most {
            summary.shorten(most);
            patterns.shorten(most);
            prop_assert_eq!(self::whole(&summary), whole);
            prop_assert_eq!(listed(&patterns), of_patterns);
            prop_assert!(summary.by_process.len() <= most && patterns.destinations.len() <= most);
            let left_out = summary.by_process_total - summary.by_process.len() as u64;
            prop_assert_eq!(summary.by_process_other.as_ref().map_or(0, |other| other.count), left_out);
        }
    }
}

/// Attempts, failures and connections by process and by destination, those of others included.
fn whole(summary: &SummaryAnswer) -> [[u64; 3]; 2] {
    let processes = summary.by_process.iter().map(|row| [row.attempts, row.failed, row.connections]);
    let destinations = summary.by_destination.iter().map(|row| [row.attempts, row.failed, row.connections]);
    let other = |other: &Option<netmon_core::monitor::OtherSummary>| {
        other.as_ref().map(|other| [other.attempts, other.failed, other.connections])
    };
    let sum = |all: [u64; 3], one: [u64; 3]| [all[0] + one[0], all[1] + one[1], all[2] + one[2]];
    [
        processes.chain(other(&summary.by_process_other)).fold([0; 3], sum),
        destinations.chain(other(&summary.by_destination_other)).fold([0; 3], sum),
    ]
}
