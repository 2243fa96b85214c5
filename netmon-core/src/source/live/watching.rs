//! Observing connections while somebody asks: a recorder, and the thread that feeds it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

#[cfg(feature = "bpf")]
use super::{
    drops::Dropping,
    flow::{self, Following, Gaps, Ticks},
};
use super::{now, process::ProcessTable, protocol, sock_diag};
#[cfg(feature = "bpf")]
use crate::source::recorder::Tally;
use crate::{
    answer::MissingHook,
    control::Cancel,
    error::Result,
    fact::{
        BootTime, ClosedBy, ConnectionFact, ConnectionState, ConnectionTotals, Hook, Moment, Observed,
        Protocol, ProtocolSnapshot, SocketFact, SocketSnapshot,
    },
    filter::Filter,
    source::{ChangeCursor, Changes, Observation, Recorder, Sighting, Span, recorder::nanoseconds},
};

/// How often the counters of open connections are read while something is recorded, at most.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// Reading them may take one part in so many of the time.
const SAMPLE_SHARE: u32 = 500;
/// Who has not asked for changes for so long watches no more.
const UNWATCHED: Duration = Duration::from_secs(60);
/// How long records may wait in the ring while nobody asks, and while somebody watches.
const LAZY: Duration = Duration::from_millis(500);
const EAGER: Duration = Duration::from_millis(50);
/// Records are taken this often at most.
const BREATH: Duration = Duration::from_millis(10);
/// How often connections are looked for that ended unseen, where the kernel says of none that it passed over them.
#[cfg(feature = "bpf")]
const MAKE_UP_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How often flows are looked at for idleness.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Who observes, if anybody does.
#[derive(Debug, Default)]
pub(super) struct Watch {
    current: Mutex<Weak<Watching>>,
    #[cfg(feature = "bpf")]
    drops: Mutex<Weak<Dropping>>,
    pub(super) memory_limit: Option<usize>,
    pub(super) system_calls: bool,
    pub(super) datagram_idle: Option<Duration>,
}

/// After how long without a datagram a flow has ended, unless told otherwise.
const DATAGRAM_IDLE: Duration = Duration::from_secs(30);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Joins who observes, or begins.
    pub(super) fn observe(&self) -> Result<Observation> {
        let watching = self.watching()?;
        watching.shared.pump()?;
        // Differences are taken from this moment on.
        let from = watching.shared.sample()?;
        let cursor = watching.shared.recorder.cursor();
        Ok(Observation { from, cursor, guard: Box::new(watching) })
    }

    fn watching(&self) -> Result<Arc<Watching>> {
        let mut current = lock(&self.current);
        if let Some(watching) = current.upgrade() {
            return Ok(watching);
        }
        let watching = Watching::begin(self)?;
        *current = Arc::downgrade(&watching);
        Ok(watching)
    }

    /// Joins who counts drops, or begins.
    #[cfg(feature = "bpf")]
    pub(super) fn observe_drops(&self) -> Result<Observation> {
        let mut current = lock(&self.drops);
        let dropping = match current.upgrade() {
            Some(dropping) => dropping,
            None => {
                let watching = self.watching()?;
                // So that owners of sockets from before are known.
                watching.shared.sample()?;
                let dropping = Dropping::begin(watching, self.recorder_limit())?;
                *current = Arc::downgrade(&dropping);
                dropping
            }
        };
        drop(current);
        dropping.join()
    }

    #[cfg(feature = "bpf")]
    pub(super) fn observed_drops(&self, since: Option<Duration>) -> Option<Span> {
        let dropping = lock(&self.drops).upgrade()?;
        dropping.observed(since.unwrap_or(super::DEFAULT_PAST))
    }

    /// What was dropped in a span; nothing is known of it where nobody counts.
    #[cfg(feature = "bpf")]
    pub(super) fn drops(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(crate::source::DropSighting<'_>),
    ) -> Result<Option<Observed>> {
        let dropping = lock(&self.drops).upgrade();
        dropping.map(|dropping| dropping.drops(span, filter, visit)).transpose()
    }

    fn current(&self) -> Option<Arc<Watching>> {
        lock(&self.current).upgrade()
    }

    pub(super) fn observed(&self, since: Option<Duration>) -> Option<Span> {
        self.current()?.shared.recorder.observed(Some(since.unwrap_or(super::DEFAULT_PAST)), &now())
    }

    /// What ended since the observation began.
    pub(super) fn totals(&self) -> Result<ConnectionTotals> {
        let Some(watching) = self.current() else { return Ok(ConnectionTotals::default()) };
        watching.shared.pump()?;
        Ok(watching.shared.recorder.totals())
    }

    /// What was seen in a span; without an observer, what is open now.
    pub(super) fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        match self.current() {
            Some(watching) => watching.shared.connections(span, filter, visit),
            None => {
                let SocketSnapshot { at, sockets, observed } = self.list_once()?;
                for fact in connections_of(sockets, &at, self.idle()) {
                    if !fact.is_over() && filter.matches(&fact) {
                        visit(Sighting { fact: &fact, before: None });
                    }
                }
                Ok(observed)
            }
        }
    }

    /// The same without the quiet ones, where somebody observes and lists by the iterator, which can leave them out.
    #[cfg_attr(not(feature = "bpf"), allow(unused_variables, reason = "sock_diag lists all of them"))]
    pub(super) fn active_connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Option<Observed>> {
        match self.current() {
            #[cfg(feature = "bpf")]
            Some(watching) => watching.shared.active_connections(span, filter, visit),
            _ => Ok(None),
        }
    }

    pub(super) fn sockets(&self) -> Result<SocketSnapshot> {
        match self.current() {
            Some(watching) => {
                watching.shared.pump()?;
                watching.shared.list(Orphans::All)
            }
            None => self.list_once(),
        }
    }

    /// As they were then, if they were read since; else as they are now.
    pub(super) fn protocol_counters(&self, at: &Moment) -> Result<ProtocolSnapshot> {
        let read = self.current().and_then(|watching| lock(&watching.shared.protocols).at(at).cloned());
        read.map_or_else(protocol::read, Ok)
    }

    pub(super) fn changes(
        &self,
        after: ChangeCursor,
        patience: Duration,
        cancel: &Cancel,
    ) -> Result<Changes> {
        match self.current() {
            Some(watching) => watching.shared.changes(after, patience, cancel),
            // Nobody observes, so nothing changes.
            None => Ok(Changes { connections: Vec::new(), next: after, missed: 0, at: now() }),
        }
    }

    /// All sockets, by the iterators where they can be used, without recording anything.
    fn list_once(&self) -> Result<SocketSnapshot> {
        Backend::open(true, false, self.idle(), self.recorder_limit()).list(Orphans::All)
    }

    fn recorder_limit(&self) -> usize {
        self.memory_limit.unwrap_or(Recorder::DEFAULT_MEMORY_LIMIT)
    }

    fn idle(&self) -> Duration {
        self.datagram_idle.unwrap_or(DATAGRAM_IDLE)
    }
}

/// Which of the TCP sockets without a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Orphans {
    /// None of them: there may be very many that only wait for stray packets.
    None,
    /// Those of open connections.
    Open,
    /// Those too that only wait for stray packets.
    All,
}

/// Where connections are seen.
enum Backend {
    #[cfg(feature = "bpf")]
    Following(Box<Following>),
    /// The kernel's list of sockets and `/proc`, looked at from time to time.
    Looking(Box<Looking>),
}

/// What the kernel side had no room for, and when.
#[cfg(feature = "bpf")]
#[derive(Debug)]
struct GapHistory {
    owners: Tally,
    peers: Tally,
    processes: Tally,
    skipped: Tally,
    uncounted: Tally,
    unseen: Tally,
}

#[cfg(feature = "bpf")]
impl Default for GapHistory {
    fn default() -> Self {
        let tally = || Tally::with_grain(Duration::from_millis(1));
        Self {
            owners: tally(),
            peers: tally(),
            processes: tally(),
            skipped: tally(),
            uncounted: tally(),
            unseen: tally(),
        }
    }
}

#[cfg(feature = "bpf")]
impl GapHistory {
    /// Adds what came about after one moment and until another.
    fn add(&mut self, after: &Moment, at: &Moment, gaps: Gaps) {
        let counts = [
            (&mut self.owners, gaps.owners),
            (&mut self.peers, gaps.peers),
            (&mut self.processes, gaps.processes),
            (&mut self.skipped, gaps.skipped),
            (&mut self.uncounted, gaps.uncounted),
            (&mut self.unseen, gaps.unseen),
        ];
        for (tally, count) in counts {
            tally.add_since(after.boot_ns, at.boot_ns, count);
        }
    }

    fn within(&self, span: &Span) -> Gaps {
        let within = |tally: &Tally| tally.within(span.from.boot_ns, span.to.boot_ns);
        Gaps {
            owners: within(&self.owners),
            peers: within(&self.peers),
            processes: within(&self.processes),
            skipped: within(&self.skipped),
            uncounted: within(&self.uncounted),
            unseen: within(&self.unseen),
        }
    }
}

struct Looking {
    table: ProcessTable,
    missing: MissingHook,
    /// The connections at the last look, by cookie.
    before: Mutex<HashMap<u64, ConnectionFact>>,
    looked: AtomicBool,
}

impl Backend {
    #[cfg(feature = "bpf")]
    fn open(
        only_iterators: bool,
        system_calls: bool,
        datagram_idle: Duration,
        recorder_limit: usize,
    ) -> Self {
        match Following::attach(only_iterators, system_calls, datagram_idle, recorder_limit) {
            Ok(following) if following.lists_sockets() || !only_iterators => {
                Self::Following(Box::new(following))
            }
            Ok(following) => {
                let mut missing = following.observed().missing_hooks.into_iter();
                let missing = missing.find(|missing| missing.hook == Hook::SocketIterator);
                Self::Looking(Box::new(Looking::new(missing.unwrap_or_else(Looking::without_reason))))
            }
            Err(error) if only_iterators => {
                Self::Looking(Box::new(Looking::new(flow::iterators_missing(&error))))
            }
            Err(error) => {
                tracing::warn!("connections are not followed by BPF: {error}");
                Self::Looking(Box::new(Looking::new(flow::all_missing(&error))))
            }
        }
    }

    #[cfg(not(feature = "bpf"))]
    fn open(_only_iterators: bool, _system_calls: bool, _idle: Duration, _recorder_limit: usize) -> Self {
        Self::Looking(Box::new(Looking::new(Looking::without_reason())))
    }

    /// All sockets; of those that no process holds those of `orphans`, and perhaps others.
    #[cfg_attr(not(feature = "bpf"), allow(unused_variables, reason = "sock_diag lists all of them"))]
    fn list(&self, orphans: Orphans) -> Result<SocketSnapshot> {
        match self {
            #[cfg(feature = "bpf")]
            Self::Following(following) if !following.lists_sockets() => following.list_without_iterator(),
            #[cfg(feature = "bpf")]
            Self::Following(following) => Self::list_by(following, orphans, None),
            Self::Looking(looking) => {
                let mut snapshot = sock_diag::snapshot(&looking.table)?;
                snapshot.observed.missing_hooks.insert(0, looking.missing.clone());
                Ok(snapshot)
            }
        }
    }
}

#[cfg(feature = "bpf")]
impl Backend {
    /// The same without established TCP connections on which nothing came or went since a moment. `None` where they cannot
    /// be left out.
    fn list_active(&self, orphans: Orphans, since: &Moment) -> Result<Option<SocketSnapshot>> {
        match self {
            Self::Following(following) if following.lists_sockets() => match following.quiet_since(since) {
                Some(quiet_since) => Self::list_by(following, orphans, Some(quiet_since)).map(Some),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// By the iterators.
    fn list_by(
        following: &Following,
        orphans: Orphans,
        quiet_since: Option<Ticks>,
    ) -> Result<SocketSnapshot> {
        let before = now();
        let mut sockets = Vec::new();
        following.list(&mut sockets, orphans, quiet_since)?;
        if orphans != Orphans::None && !following.lists_orphans() {
            let unlisted = sock_diag::without_process()?;
            sockets.extend(unlisted.sockets);
        }
        Ok(SocketSnapshot::new(super::middle(before, now()), sockets, following.observed()))
    }
}

impl Looking {
    fn new(missing: MissingHook) -> Self {
        Self {
            table: ProcessTable::default(),
            missing,
            before: Mutex::default(),
            looked: AtomicBool::new(false),
        }
    }

    fn without_reason() -> MissingHook {
        MissingHook {
            hook: Hook::SetState,
            reason: "netmon was built without its feature `bpf`".to_owned(),
            hides: "connections that ended meanwhile, failures, exact owners and UDP peers".to_owned(),
            fix: Some("use a build with it".to_owned()),
        }
    }

    /// What came and went since the last look. When something ended or began is known only to the look.
    fn compare(&self, snapshot: SocketSnapshot) -> (Vec<ConnectionFact>, Vec<ConnectionFact>) {
        let at = BootTime::from_ns(snapshot.at.boot_ns);
        let first = !self.looked.swap(true, Ordering::Relaxed);
        let mut before = lock(&self.before);
        let mut open = HashMap::new();
        let mut opened = Vec::new();
        // These looks do not tell when a datagram came last, so no flow is idle in them.
        for mut fact in connections_of(snapshot.sockets, &snapshot.at, Duration::MAX) {
            match before.remove(&fact.cookie) {
                Some(known) => add_known(&mut fact, &known),
                None if first => {}
                None => {
                    fact.opened = at;
                    opened.push(fact.clone());
                }
            }
            open.insert(fact.cookie, fact);
        }
        let ended = std::mem::replace(&mut *before, open).into_values().map(|mut fact| {
            fact.state = ConnectionState::Closed;
            fact.closed = at;
            fact
        });
        (opened, ended.collect())
    }
}

/// What an earlier look knew: the beginning, and the owner of a socket that was closed and has more to say to its peer.
fn add_known(fact: &mut ConnectionFact, known: &ConnectionFact) {
    fact.opened = known.opened;
    if fact.process.is_none() {
        fact.process.clone_from(&known.process);
        fact.attribution = known.attribution;
    }
}

/// The connections among sockets: neither listeners nor sockets without a peer. A flow that was idle for long has ended.
fn connections_of(
    sockets: Vec<SocketFact>,
    at: &Moment,
    idle: Duration,
) -> impl Iterator<Item = ConnectionFact> {
    let (now_ns, idle_ns) = (at.boot_ns, nanoseconds(idle));
    sockets.into_iter().filter_map(move |socket| {
        let mut fact = socket.connection;
        if fact.state == ConnectionState::Listening {
            return None;
        }
        if fact.protocol == Protocol::Tcp {
            return (!fact.is_over()).then_some(fact);
        }
        if let Some(seen) = fact.last_seen.filter(|seen| now_ns.saturating_sub(seen.ns()) > idle_ns) {
            fact.state = ConnectionState::Closed;
            fact.closed = Some(seen);
            fact.closed_by = Some(ClosedBy::Idle);
        }
        Some(fact)
    })
}

/// An observation, shared by all who asked for one. It ends with the last of them.
pub(super) struct Watching {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// When connections were looked for that ended unseen, and how many changes the kernel had passed over by then.
#[cfg(feature = "bpf")]
struct MadeUp {
    at: Instant,
    skipped: u64,
}

struct Shared {
    recorder: Recorder,
    #[cfg(feature = "bpf")]
    gaps: Mutex<GapHistory>,
    /// The counters of protocols, read with those of connections.
    protocols: Mutex<protocol::History>,
    backend: Backend,
    datagram_idle: Duration,
    began: Moment,
    /// Held while records go from the ring to the recorder, so that they keep their order. When that was done last: what
    /// is then found to be lost was lost since.
    pumping: Mutex<Moment>,
    sampling: Mutex<()>,
    eager: AtomicBool,
    /// When somebody last asked for changes.
    watched: Mutex<Instant>,
    stop: Cancel,
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watching").field("began", &self.shared.began).finish_non_exhaustive()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        #[cfg(feature = "bpf")]
        if let Backend::Following(following) = &self.shared.backend {
            following.interrupt();
        }
        if let Some(thread) = self.thread.take() {
            // It may be itself that drops the last handle.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("the thread that records connections panicked");
            }
        }
    }
}

impl Watching {
    /// The programs, where they are what connections are seen by.
    #[cfg(feature = "bpf")]
    pub(super) fn following(&self) -> Option<&Following> {
        match &self.shared.backend {
            Backend::Following(following) => Some(following),
            Backend::Looking(_) => None,
        }
    }

    /// All sockets now.
    #[cfg(feature = "bpf")]
    pub(super) fn list_sockets(&self) -> Result<SocketSnapshot> {
        self.shared.backend.list(Orphans::None)
    }

    /// What takes part, and what does not.
    #[cfg(feature = "bpf")]
    pub(super) fn observed(&self) -> Observed {
        match &self.shared.backend {
            Backend::Following(following) => following.observed(),
            Backend::Looking(looking) => {
                Observed { missing_hooks: vec![looking.missing.clone()], ..Observed::default() }
            }
        }
    }

    fn begin(watch: &Watch) -> Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            recorder: Recorder::new(watch.recorder_limit()),
            #[cfg(feature = "bpf")]
            gaps: Mutex::default(),
            protocols: Mutex::default(),
            backend: Backend::open(false, watch.system_calls, watch.idle(), watch.recorder_limit()),
            datagram_idle: watch.idle(),
            began: now(),
            pumping: Mutex::new(now()),
            sampling: Mutex::new(()),
            eager: AtomicBool::new(false),
            watched: Mutex::new(Instant::now()),
            stop: Cancel::new(),
        });
        let feeding = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("netmon-record".to_owned())
            .spawn(move || feeding.feed())
            .map_err(super::kernel_error("start the thread that records connections"))?;
        Ok(Arc::new(Self { shared, thread: Some(thread) }))
    }
}

impl Shared {
    /// Feeds the recorder until the observation ends.
    fn feed(&self) {
        let mut swept = Instant::now();
        let mut sampled = Instant::now();
        let mut interval = SAMPLE_INTERVAL;
        #[cfg(feature = "bpf")]
        let mut made_up = MadeUp { at: Instant::now(), skipped: 0 };
        while self.stop.sleep_until(Instant::now() + BREATH) {
            let patience = if self.eager.load(Ordering::Relaxed) { EAGER } else { LAZY };
            match &self.backend {
                #[cfg(feature = "bpf")]
                Backend::Following(following) => following.wait(patience),
                Backend::Looking(_) => {
                    if !self.stop.sleep_until(Instant::now() + patience) {
                        return;
                    }
                }
            }
            let looks = matches!(self.backend, Backend::Looking(_));
            if (!looks || self.eager.load(Ordering::Relaxed))
                && let Err(error) = self.pump()
            {
                tracing::warn!("cannot take the records of connections: {error}");
            }
            if self.eager.load(Ordering::Relaxed) {
                self.end_telling();
            }
            if swept.elapsed() >= SWEEP_INTERVAL {
                swept = Instant::now();
                self.sweep();
            }
            if sampled.elapsed() >= interval {
                sampled = Instant::now();
                if let Err(error) = self.sample() {
                    tracing::warn!("cannot read the counters of open connections: {error}");
                }
                interval = SAMPLE_INTERVAL.max(sampled.elapsed() * SAMPLE_SHARE);
                #[cfg(feature = "bpf")]
                if let Err(error) = self.make_up(&mut made_up) {
                    tracing::warn!("cannot look for connections that ended unseen: {error}");
                }
                sampled = Instant::now();
            }
        }
    }

    /// Brings what is known to the recorder.
    fn pump(&self) -> Result<()> {
        let mut pumped = lock(&self.pumping);
        #[cfg_attr(not(feature = "bpf"), allow(unused_variables, reason = "looking loses no records"))]
        let after = std::mem::replace(&mut *pumped, now());
        match &self.backend {
            #[cfg(feature = "bpf")]
            Backend::Following(following) => {
                let drained = following.drain()?;
                let at = now();
                if drained.lost > 0 {
                    self.recorder.lost_since(&after, drained.lost, &at);
                }
                lock(&self.gaps).add(&after, &at, drained.gaps);
                self.record(drained.changes);
            }
            Backend::Looking(looking) => {
                let (opened, ended) = looking.compare(self.backend.list(Orphans::Open)?);
                self.recorder.ended(ended);
                self.recorder.opened(opened);
            }
        }
        Ok(())
    }

    /// Hands changes on in their order, as many of one kind at once as follow each other: nearly always all of them.
    #[cfg(feature = "bpf")]
    fn record(&self, changes: Vec<(bool, ConnectionFact)>) {
        let mut changes = changes.into_iter().peekable();
        while let Some((ended, first)) = changes.next() {
            let alike =
                std::iter::from_fn(|| changes.next_if(|(kind, _)| *kind == ended).map(|(_, fact)| fact));
            let run = std::iter::once(first).chain(alike);
            if ended {
                self.recorder.ended(run);
            } else {
                self.recorder.opened(run);
            }
        }
    }

    fn sweep(&self) {
        // Flows of a socket that closes meanwhile would be taken as they were before their last datagrams; and who looks
        // for records meanwhile would find these flows nowhere.
        #[cfg(feature = "bpf")]
        let _order = lock(&self.pumping);
        #[cfg(feature = "bpf")]
        if let Backend::Following(following) = &self.backend
            && let Some(at) = BootTime::from_ns(now().boot_ns)
        {
            match following.ended_flows(at) {
                Ok(ended) if ended.is_empty() => {}
                Ok(ended) => self.recorder.ended(ended),
                Err(error) => tracing::warn!("cannot read the flows of datagrams: {error}"),
            }
        }
    }

    fn list(&self, orphans: Orphans) -> Result<SocketSnapshot> {
        self.backend.list(orphans)
    }

    /// Reads the counters of all open connections.
    fn sample(&self) -> Result<Moment> {
        let _order = lock(&self.sampling);
        let SocketSnapshot { at, sockets, .. } = self.backend.list(Orphans::None)?;
        let open = connections_of(sockets, &at, self.datagram_idle)
            .filter_map(|fact| Some((self.known_id(&fact), fact.traffic?)));
        self.recorder.sample(&at, open);
        self.read_protocols(&at);
        Ok(at)
    }

    /// Tells of the connections whose end nothing told of. The whole table is walked for that, some 25 ms, so that who asks
    /// does not wait for it.
    #[cfg(feature = "bpf")]
    fn make_up(&self, last: &mut MadeUp) -> Result<()> {
        let Backend::Following(following) = &self.backend else { return Ok(()) };
        let skipped = following.skipped();
        if last.skipped == skipped && last.at.elapsed() < MAKE_UP_INTERVAL {
            return Ok(());
        }
        *last = MadeUp { at: Instant::now(), skipped };
        let after = now();
        let ended = following.ended_unseen()?;
        if !ended.is_empty() {
            let gaps = Gaps { unseen: ended.len() as u64, ..Gaps::default() };
            lock(&self.gaps).add(&after, &now(), gaps);
            self.recorder.ended(ended);
        }
        Ok(())
    }

    fn read_protocols(&self, at: &Moment) {
        match protocol::read() {
            Ok(snapshot) => lock(&self.protocols).push(at, snapshot),
            Err(error) => tracing::warn!("cannot read the counters of protocols: {error}"),
        }
    }

    /// The identity of a connection that looking gives a beginning.
    fn known_id(&self, fact: &ConnectionFact) -> crate::fact::ConnectionId {
        self.remembered(fact).map_or_else(|| fact.id(), |known| known.id())
    }

    fn remembered(&self, fact: &ConnectionFact) -> Option<ConnectionFact> {
        match &self.backend {
            #[cfg(feature = "bpf")]
            Backend::Following(_) => None,
            Backend::Looking(looking) => lock(&looking.before).get(&fact.cookie).cloned(),
        }
    }

    fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        // Before the list, so that those who own what is listed were introduced, also where they are gone by now.
        self.pump()?;
        let snapshot = self.list(Orphans::Open)?;
        self.visit(snapshot, span, filter, visit)
    }

    #[cfg(feature = "bpf")]
    fn active_connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Option<Observed>> {
        self.pump()?;
        let snapshot = self.backend.list_active(Orphans::Open, &span.from)?;
        snapshot.map(|snapshot| self.visit(snapshot, span, filter, visit)).transpose()
    }

    /// Tells of what was just listed, and of what ended.
    fn visit(
        &self,
        snapshot: SocketSnapshot,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        let SocketSnapshot { at, sockets, mut observed } = snapshot;
        // After the list: what ended meanwhile is then in both, and told once, as ended.
        self.pump()?;
        self.sweep();
        let mut open: Vec<ConnectionFact> = connections_of(sockets, &at, self.datagram_idle).collect();
        if matches!(self.backend, Backend::Looking(_)) {
            for fact in &mut open {
                if let Some(known) = self.remembered(fact) {
                    add_known(fact, &known);
                }
            }
            observed.warnings.push(
                "connections that began and ended between two looks at the kernel's list were not seen, and failures \
                 cannot be told from ends"
                    .to_owned(),
            );
        }
        let recorded = self.recorder.visit(span, filter, &open, visit);
        observed.lost_events = recorded.lost;
        observed.forgotten = recorded.forgotten;
        #[cfg(feature = "bpf")]
        observed.warnings.extend(lock(&self.gaps).within(span).warnings());
        Ok(observed)
    }

    fn changes(&self, after: ChangeCursor, patience: Duration, cancel: &Cancel) -> Result<Changes> {
        let begins = {
            let mut watched = lock(&self.watched);
            *watched = Instant::now();
            !self.eager.swap(true, Ordering::Relaxed)
        };
        if begins {
            self.begin_telling()?;
        }
        self.pump()?;
        let changes = self.recorder.changes(after, patience, cancel)?;
        Ok(Changes { at: now(), ..changes })
    }

    /// Beginnings are records too, which a host that nobody watches any more need not write.
    fn end_telling(&self) {
        let watched = lock(&self.watched);
        if watched.elapsed() < UNWATCHED {
            return;
        }
        self.eager.store(false, Ordering::Relaxed);
        #[cfg(feature = "bpf")]
        if let Backend::Following(following) = &self.backend
            && let Err(error) = following.tell_opened(false)
        {
            tracing::debug!("beginnings are still told: {}", error.with_cause());
        }
    }

    /// From now on beginnings are told as they come; those since the observation began, and still open, at once.
    fn begin_telling(&self) -> Result<()> {
        #[cfg(feature = "bpf")]
        if let Backend::Following(following) = &self.backend {
            following.tell_opened(true)?;
            let SocketSnapshot { at, sockets, .. } = self.list(Orphans::Open)?;
            let began = self.began.boot_ns;
            let missed = connections_of(sockets, &at, self.datagram_idle)
                .filter(|fact| fact.opened.is_some_and(|opened| opened.ns() > began) && !fact.is_over());
            self.recorder.opened(missed);
        }
        Ok(())
    }
}
