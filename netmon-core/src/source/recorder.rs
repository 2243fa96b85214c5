//! What a source remembers of connections: those that ended, what changed, and what the open ones had counted when.
//!
//! A source feeds a [`Recorder`] while it observes, and answers from it; the recorder knows nothing of where facts come
//! from, and never looks at a clock.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{ChangeCursor, Changes, Sighting, Span};
use crate::{
    clean::CleanText,
    control::Cancel,
    error::{Error, Result},
    fact::{
        BootTime, ClosedBy, ConnectionFact, ConnectionId, ConnectionState, ConnectionTotals,
        EndedConnections, Moment, Process, Protocol, Traffic,
    },
    filter::Filter,
};

/// All samples of the last five minutes are kept, and a minute more, so that a window of five minutes does not lose its
/// beginning while it is being asked about.
const ALL_SAMPLES: Duration = Duration::from_secs(6 * 60);
/// How far apart those are that came before.
const SPARSE: Duration = Duration::from_secs(60);
/// How far back counters reach: an hour, and a minute more for the same reason.
const OLDEST_SAMPLE: Duration = Duration::from_secs(61 * 60);
/// An open connection is forgotten after so many samples without it: the record of its end was lost.
const SAMPLES_WITHOUT: u64 = 3;
/// Listing the open connections takes so long at most, so that one may end meanwhile and be in both lists or in none.
pub(super) const LISTING: Duration = Duration::from_secs(1);
/// How often a waiting reader of changes looks whether it was cancelled.
const CANCEL_CHECK: Duration = Duration::from_millis(50);
/// The most changes in one answer.
const PAGE: usize = 4096;
/// How many facts come between two looks at the memory limit.
const BATCH: usize = 1024;
/// How many facts share one allocation. Growing a single buffer would move all of them at once.
const CHUNK: usize = if cfg!(test) { 4 } else { 256 };
/// The most times that a tally tells apart.
const TALLY: usize = 4096;

/// Connections that ended, within a memory limit: what a source needs to tell of the past.
///
/// A source of your own feeds it ([`ended`](Self::ended), [`opened`](Self::opened), [`lost`](Self::lost),
/// [`sample`](Self::sample)) and answers from it ([`observed`](Self::observed), [`visit`](Self::visit),
/// [`changes`](Self::changes)). All methods may be called from several threads at once; visits do not wait for each other.
/// Iterators and visitors that are passed in must not call the recorder.
///
/// When memory is short, those that ended first are forgotten, some hundred at a time; then [`Recorded::forgotten`] says
/// how many a span lacks. Counters are kept for each sample of the last five minutes, then for one a minute up to an
/// hour, and not beyond; when they take more than half of the memory, for every other sample.
///
/// ```
/// use netmon_core::{Filter, fact::{BootTime, ConnectionFact, ConnectionState, Moment, Protocol}, source::Recorder};
///
/// let moment = |second: i64| Moment {
///     boot_ns: second.unsigned_abs() * 1_000_000_000,
///     wall: jiff::Timestamp::from_second(second).unwrap(),
/// };
/// let recorder = Recorder::default();
/// recorder.sample(&moment(10), []);
///
/// let local = "192.0.2.1:443".parse().unwrap();
/// let mut fact = ConnectionFact::new(7, Protocol::Tcp, ConnectionState::Closed, local);
/// fact.closed = BootTime::from_ns(moment(12).boot_ns);
/// recorder.ended([fact]);
///
/// let span = recorder.observed(None, &moment(15)).unwrap();
/// let mut cookies = Vec::new();
/// recorder.visit(&span, &Filter::everything(), &[], &mut |sighting| cookies.push(sighting.fact.cookie));
/// assert_eq!(cookies, [7]);
/// ```
pub struct Recorder {
    state: RwLock<State>,
    /// The number of the latest change, for those who wait for the next.
    latest: Mutex<u64>,
    changed: Condvar,
}

/// What is not in a visit, though it belongs to the span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// Records that were lost on their way in that time.
    pub lost: u64,
    /// Connections that ended in that time and were forgotten since. Their ends are remembered to a tenth of a second, or
    /// less precisely when that is long ago; those at the edge are counted.
    pub forgotten: u64,
}

impl Recorder {
    /// The memory limit of [`Recorder::default`]: 64 MiB, enough for some 250,000 connections.
    pub const DEFAULT_MEMORY_LIMIT: usize = 64 << 20;
    /// The least limit that is kept.
    pub const SMALLEST_MEMORY_LIMIT: usize = 1 << 20;

    /// An empty recorder that takes no more memory than this, or than [`Recorder::SMALLEST_MEMORY_LIMIT`]. Connections
    /// that are open are remembered even so, with 100 to 200 bytes each.
    pub fn new(memory_limit_bytes: usize) -> Self {
        Self::with(memory_limit_bytes.max(Self::SMALLEST_MEMORY_LIMIT), true)
    }

    /// A recorder that forgets nothing, for what is in memory anyway.
    pub(super) fn unlimited() -> Self {
        Self::with(usize::MAX, false)
    }

    fn with(limit: usize, forgetful: bool) -> Self {
        Self {
            state: RwLock::new(State::new(limit, forgetful)),
            latest: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    /// Remembers connections that ended or failed, each a change as well. They may come in any order; each takes its place
    /// by its `closed`, which is cheap for those that ended last (about 0.1 us each), and costs a move of 16 bytes for
    /// each that ended later. One without `closed` counts as ended when the latest did.
    pub fn ended(&self, facts: impl IntoIterator<Item = ConnectionFact>) {
        let mut state = self.write();
        let mut facts = facts.into_iter().peekable();
        while facts.peek().is_some() {
            state.push_ended(facts.by_ref().take(BATCH));
            state.shrink();
        }
        self.tell(state);
    }

    /// Remembers changes of connections that are open: opened, established. They are told by [`Recorder::changes`] alone,
    /// from an eighth of the memory.
    pub fn opened(&self, facts: impl IntoIterator<Item = ConnectionFact>) {
        let mut state = self.write();
        let mut facts = facts.into_iter().peekable();
        while facts.peek().is_some() {
            state.push_opened(facts.by_ref().take(BATCH));
            state.shrink();
        }
        self.tell(state);
    }

    /// Remembers that so many records were lost at about that time.
    pub fn lost(&self, count: u64, at: &Moment) {
        self.lost_since(at, count, at);
    }

    /// Remembers that so many records were lost at some time between two moments, the first not included: every span that
    /// has a part of that time may lack them, and says so.
    pub fn lost_since(&self, after: &Moment, count: u64, at: &Moment) {
        let mut state = self.write();
        state.sequence = state.sequence.saturating_add(count);
        state.lost.add_since(after.boot_ns, at.boot_ns, count);
        state.lost_ever = state.lost_ever.saturating_add(count);
        state.now_is(at);
        self.tell(state);
    }

    /// Remembers the counters of all open connections, as they were at that moment; only those that changed take memory.
    /// Samples must come in order of time; others are passed over. One that lacks in several samples is forgotten, since
    /// the record of its end must have been lost.
    ///
    /// The first sample is the beginning of what was observed. It may be empty.
    pub fn sample(&self, at: &Moment, open: impl IntoIterator<Item = (ConnectionId, Traffic)>) {
        let mut state = self.write();
        state.sample(at, open);
        state.shrink();
    }

    /// The last `since` of what was observed up to `now`, or all of it for `None`. It begins at a sample where there is
    /// one, the latest that is not later than asked for. `None` before the first sample, and at it.
    pub fn observed(&self, since: Option<Duration>, now: &Moment) -> Option<Span> {
        let state = self.read();
        let began = state.began.filter(|began| began.boot_ns < now.boot_ns)?;
        let Some(since) = since else { return Some(Span { from: began, to: *now }) };

        let target = now.boot_ns.saturating_sub(nanoseconds(since));
        let from = if target <= began.boot_ns {
            began
        } else {
            // Without a sample there are no counters from which differences could be taken, so no moment is better.
            state.sample_before(target).unwrap_or_else(|| moved(now, target))
        };
        Some(Span { from, to: *now })
    }

    /// Visits the connections that match the filter and were open at some time within the span: those that ended in it, in
    /// the order of their ends, then those of `open`: all that are open now, as listed at the end of the span. What ended
    /// while they were being listed is visited once, too. So is a flow that is listed as [`ClosedBy::Idle`]: nothing may
    /// tell of its end before the next datagram comes.
    ///
    /// [`Sighting::before`] is as of the last sample at or before the beginning of the span. About 10 ns for each that
    /// ended; recording goes on when the visit is over.
    pub fn visit(
        &self,
        span: &Span,
        filter: &Filter,
        open: &[ConnectionFact],
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Recorded {
        self.read().visit(span, filter, open, visit)
    }

    /// The changes after a cursor in the order of their coming, some thousand at most; waits up to `patience` for the
    /// first.
    ///
    /// [`Changes::at`] is the latest moment that the recorder was told of; a source with a clock should write its own.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn changes(&self, after: ChangeCursor, patience: Duration, cancel: &Cancel) -> Result<Changes> {
        let start = Instant::now();
        // A cursor of somewhere else must not keep its holder from what comes.
        let after = after.min(self.cursor());
        loop {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let left = patience.saturating_sub(start.elapsed());
            {
                let state = self.read();
                if state.sequence > after.0 || left.is_zero() {
                    return Ok(state.changes(after));
                }
            }
            let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever adds a change does so before it locks this.
            if *latest <= after.0 {
                drop(self.changed.wait_timeout(latest, left.min(CANCEL_CHECK)));
            }
        }
    }

    /// The place after the latest change.
    pub fn cursor(&self) -> ChangeCursor {
        ChangeCursor(self.read().sequence)
    }

    /// Sums over all that ended so far, what was forgotten included.
    pub fn totals(&self) -> ConnectionTotals {
        let state = self.read();
        ConnectionTotals {
            ended: state.totals.clone(),
            lost: state.lost_ever,
            forgotten: state.forgotten_ever,
            recorder_bytes: state.memory() as u64,
        }
    }

    /// Forgets everything, as when observing had stopped and starts again. Cursors stay good: what was forgotten is
    /// [missed](Changes::missed).
    pub fn clear(&self) {
        let mut state = self.write();
        let sequence = state.sequence;
        let (lost_ever, forgotten_ever) = (state.lost_ever, state.forgotten_ever);
        let totals = std::mem::take(&mut state.totals);
        let new = State::new(state.limit, state.forgetful);
        *state = State { sequence, totals, lost_ever, forgotten_ever, ..new };
    }

    /// The memory in use, in bytes: facts, the processes and threads that they share, samples. What the allocator adds is
    /// estimated.
    pub fn memory(&self) -> usize {
        self.read().memory()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: RwLockWriteGuard<'_, State>) {
        let sequence = state.sequence;
        drop(state);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = sequence.max(*latest);
        drop(latest);
        self.changed.notify_all();
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MEMORY_LIMIT)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.read();
        f.debug_struct("Recorder")
            .field("ended", &state.ended.len())
            .field("samples", &state.samples.len())
            .field("memory", &state.memory())
            .field("limit", &state.limit)
            .finish_non_exhaustive()
    }
}

struct State {
    limit: usize,
    /// Whether samples become sparse with age, and what lacks in them is dropped.
    forgetful: bool,
    /// In the order of their coming.
    ended: Log<Ended>,
    /// When each of these ended, and its number in the log, sorted.
    order: VecDeque<(u64, u64)>,
    /// The numbers of those that have a history.
    with_history: VecDeque<u64>,
    opened: Log<Opened>,
    /// The number of the latest change. Lost records have numbers too, so that a reader's gaps are what it missed.
    sequence: u64,
    began: Option<Moment>,
    samples: VecDeque<Moment>,
    sampled: u64,
    open: FxHashMap<ConnectionId, History>,
    history_bytes: usize,
    shared: Shared,
    lost: Tally,
    forgotten: Tally,
    /// Kinds are few, and the same one comes again and again.
    totals: Vec<EndedConnections>,
    lost_ever: u64,
    forgotten_ever: u64,
    /// The latest moment on both clocks, and the latest on one.
    now: Option<Moment>,
    latest_ns: u64,
}

struct Ended {
    sequence: u64,
    end_ns: u64,
    fact: ConnectionFact,
    /// What it had counted at samples, where it was open then.
    history: Box<[Point]>,
}

struct Opened {
    sequence: u64,
    fact: ConnectionFact,
}

/// The counters of a connection at the samples where they had changed.
#[derive(Default)]
struct History {
    points: Vec<Point>,
    /// The latest sample that it was in.
    sample: u64,
}

struct Point {
    at_ns: u64,
    traffic: Traffic,
}

impl State {
    fn new(limit: usize, forgetful: bool) -> Self {
        Self {
            limit,
            forgetful,
            ended: Log::default(),
            order: VecDeque::new(),
            with_history: VecDeque::new(),
            opened: Log::default(),
            sequence: 0,
            began: None,
            samples: VecDeque::new(),
            sampled: 0,
            open: FxHashMap::default(),
            history_bytes: 0,
            shared: Shared::default(),
            lost: Tally::with_grain(Duration::from_millis(1)),
            forgotten: Tally::with_grain(Duration::from_millis(100)),
            totals: Vec::new(),
            lost_ever: 0,
            forgotten_ever: 0,
            now: None,
            latest_ns: 0,
        }
    }

    fn push_ended(&mut self, facts: impl Iterator<Item = ConnectionFact>) {
        let sorted = self.order.len();
        let mut latest = self.order.back().map_or(0, |(end, _)| *end);
        let mut earliest_late = None;
        for fact in facts {
            let end_ns = fact.closed.map_or(latest, BootTime::ns);
            if end_ns < latest {
                earliest_late = Some(earliest_late.map_or(end_ns, |earliest: u64| earliest.min(end_ns)));
            }
            latest = latest.max(end_ns);
            self.saw(&fact);
            self.sum_up(&fact);
            self.shared.hold(&fact);
            let history = self.open.remove(&fact.id()).unwrap_or_default();
            self.history_bytes -= bytes_of(&history.points);
            let history = history.points.into_boxed_slice();
            self.history_bytes += size_of_val(&*history);

            self.sequence = self.sequence.saturating_add(1);
            let number = self.ended.end();
            if !history.is_empty() {
                self.with_history.push_back(number);
            }
            self.order.push_back((end_ns, number));
            self.ended.push(Ended { sequence: self.sequence, end_ns, fact, history });
        }
        if let Some(earliest) = earliest_late {
            let displaced = self.order.partition_point_to(sorted, |(end, _)| *end <= earliest);
            let mut tail: Vec<_> = self.order.drain(displaced..).collect();
            // Two runs, or nearly so, which this merges without comparing all.
            tail.sort();
            self.order.extend(tail);
        }
    }

    fn sum_up(&mut self, fact: &ConnectionFact) {
        let place = self.totals.iter().position(|kind| kind.is_like(fact)).unwrap_or_else(|| {
            self.totals.push(EndedConnections::none_like(fact));
            self.totals.len() - 1
        });
        self.totals[place].add(fact);
        // The next one is most likely of the same kind.
        self.totals.swap(0, place);
    }

    fn push_opened(&mut self, facts: impl Iterator<Item = ConnectionFact>) {
        for fact in facts {
            self.saw(&fact);
            self.shared.hold(&fact);
            self.sequence = self.sequence.saturating_add(1);
            self.opened.push(Opened { sequence: self.sequence, fact });
        }
    }

    fn saw(&mut self, fact: &ConnectionFact) {
        let latest = fact.opened.max(fact.established).max(fact.closed).max(fact.last_seen);
        self.latest_ns = self.latest_ns.max(latest.map_or(0, BootTime::ns));
    }

    fn now_is(&mut self, at: &Moment) {
        if self.now.is_none_or(|now| now.boot_ns < at.boot_ns) {
            self.now = Some(*at);
        }
        self.latest_ns = self.latest_ns.max(at.boot_ns);
    }

    fn sample(&mut self, at: &Moment, open: impl IntoIterator<Item = (ConnectionId, Traffic)>) {
        if self.samples.back().is_some_and(|last| at.boot_ns <= last.boot_ns) {
            return;
        }
        self.began.get_or_insert(*at);
        self.now_is(at);
        self.samples.push_back(*at);
        self.sampled += 1;
        for (id, traffic) in open {
            let history = self.open.entry(id).or_default();
            history.sample = self.sampled;
            if history.points.last().is_none_or(|last| last.traffic != traffic) {
                let before = bytes_of(&history.points);
                history.points.push(Point { at_ns: at.boot_ns, traffic });
                self.history_bytes = self.history_bytes - before + bytes_of(&history.points);
            }
        }
        if self.forgetful {
            self.drop_vanished();
            self.thin_by_age(at);
            self.thin_by_memory();
        }
    }

    fn drop_vanished(&mut self) {
        let sampled = self.sampled;
        let mut freed = 0;
        self.open.retain(|_, history| {
            let stays = sampled - history.sample < SAMPLES_WITHOUT;
            freed += if stays { 0 } else { bytes_of(&history.points) };
            stays
        });
        self.history_bytes -= freed;
    }

    /// Once a minute, as it looks at all histories.
    fn thin_by_age(&mut self, now: &Moment) {
        let minute = |moment: &Moment| moment.boot_ns / nanoseconds(SPARSE);
        let previous = self.samples.len().checked_sub(2).map(|index| minute(&self.samples[index]));
        if previous.is_none_or(|previous| previous == minute(now)) {
            return;
        }
        let mut last_kept = None;
        self.samples.retain(|sample| {
            let first_of_minute = last_kept != Some(minute(sample));
            let stays = now.since(sample) <= ALL_SAMPLES || first_of_minute;
            if stays {
                last_kept = Some(minute(sample));
            }
            stays
        });
        // One that is older stays, as a window of an hour begins at it.
        while self.samples.get(1).is_some_and(|second| now.since(second) > OLDEST_SAMPLE) {
            self.samples.pop_front();
        }
        self.compact();
    }

    fn thin_by_memory(&mut self) {
        while self.history_bytes > self.limit / 2 && self.samples.len() > 2 {
            let last = self.samples.len() - 1;
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                (index - 1) % 2 == 0 || index - 1 == last
            });
            self.compact();
        }
    }

    /// Drops the points that are the last before no sample.
    fn compact(&mut self) {
        let samples: Vec<u64> = self.samples.iter().map(|sample| sample.boot_ns).collect();
        let mut bytes = 0;
        for history in self.open.values_mut() {
            compact(&mut history.points, &samples, u64::MAX);
            bytes += bytes_of(&history.points);
        }
        let ended = &mut self.ended;
        self.with_history.retain(|number| {
            let Some(entry) = ended.get_mut(*number) else { return false };
            let mut points = std::mem::take(&mut entry.history).into_vec();
            compact(&mut points, &samples, entry.end_ns);
            entry.history = points.into_boxed_slice();
            bytes += size_of_val(&*entry.history);
            !entry.history.is_empty()
        });
        self.history_bytes = bytes;
    }

    fn memory(&self) -> usize {
        self.ended.memory()
            + self.opened.memory()
            + self.order.capacity() * size_of::<(u64, u64)>()
            + self.with_history.capacity() * size_of::<u64>()
            + self.samples.capacity() * size_of::<Moment>()
            + self.open.capacity() * (size_of::<(ConnectionId, History)>() + 1)
            + self.history_bytes
            + self.shared.memory()
    }

    fn shrink(&mut self) {
        while self.opened.memory() > self.limit / 8 {
            self.forget_opened();
        }
        while self.memory() > self.limit {
            if !self.forget_ended() && !self.forget_opened() {
                break;
            }
        }
    }

    fn forget_opened(&mut self) -> bool {
        let Some(first) = self.opened.pop() else { return false };
        self.shared.release(&first.fact);
        true
    }

    fn forget_ended(&mut self) -> bool {
        let number = self.ended.base;
        let Some(first) = self.ended.pop() else { return false };
        // At the front but for those that came late.
        if let Ok(place) = self.order.binary_search(&(first.end_ns, number)) {
            self.order.remove(place);
        }
        if self.with_history.front() == Some(&number) {
            self.with_history.pop_front();
        }
        self.history_bytes -= size_of_val(&*first.history);
        self.shared.release(&first.fact);
        self.forgotten.add(first.end_ns, 1);
        self.forgotten_ever += 1;
        true
    }

    fn sample_before(&self, ns: u64) -> Option<Moment> {
        let after = self.samples.partition_point(|sample| sample.boot_ns <= ns);
        after.checked_sub(1).map(|index| self.samples[index])
    }

    fn visit(
        &self,
        span: &Span,
        filter: &Filter,
        open: &[ConnectionFact],
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Recorded {
        let (from, to) = (span.from.boot_ns, span.to.boot_ns);
        let baseline = self.sample_before(from).map_or(0, |sample| sample.boot_ns);
        let first = self.order.partition_point(|(end, _)| *end <= from);
        let after = self.order.partition_point(|(end, _)| *end <= to).max(first);
        let during_listing = to.saturating_sub(nanoseconds(LISTING));
        let listing = self.order.partition_point(|(end, _)| *end <= during_listing).clamp(first, after);

        let mut see = |fact: &ConnectionFact, history: &[Point]| {
            if filter.matches(fact) {
                visit(Sighting { fact, before: at(history, baseline) });
            }
        };
        for (_, number) in self.order.range(first..listing) {
            if let Some(entry) = self.ended.get(*number) {
                see(&entry.fact, &entry.history);
            }
        }

        // From here on one may be in the list of the open ones as well.
        let near_end = listing < self.order.len();
        let listed: FxHashSet<ConnectionId> =
            if near_end { open.iter().map(ConnectionFact::id).collect() } else { FxHashSet::default() };
        let mut over: FxHashSet<ConnectionId> = FxHashSet::default();
        for (_, number) in self.order.range(listing..after) {
            if let Some(entry) = self.ended.get(*number) {
                if listed.contains(&entry.fact.id()) {
                    over.insert(entry.fact.id());
                }
                see(&entry.fact, &entry.history);
            }
        }

        let mut ended_since: FxHashMap<ConnectionId, &Ended> = FxHashMap::default();
        for (_, number) in self.order.range(after..) {
            let Some(entry) = self.ended.get(*number) else { continue };
            if entry.fact.opened.is_some_and(|opened| opened.ns() > to) {
                continue;
            }
            if listed.contains(&entry.fact.id()) {
                ended_since.insert(entry.fact.id(), entry);
            } else {
                see(&open_at(entry, to), &entry.history);
            }
        }
        for fact in open {
            let id = fact.id();
            let later = id.opened_ns > to;
            let idle = fact.closed.filter(|_| fact.closed_by == Some(ClosedBy::Idle)).map(BootTime::ns);
            let as_it_was;
            let (fact, counts) = match idle {
                Some(end_ns) if end_ns > to => {
                    as_it_was = ConnectionFact {
                        state: ConnectionState::Open,
                        closed: None,
                        closed_by: None,
                        ..fact.clone()
                    };
                    (&as_it_was, true)
                }
                Some(end_ns) => (fact, end_ns > from && !self.has_ended(&id, end_ns)),
                None => (fact, fact.state != ConnectionState::Listening && !fact.is_over()),
            };
            if later || !counts || over.contains(&id) {
                continue;
            }
            let history = match ended_since.get(&id) {
                Some(entry) => &*entry.history,
                None => self.open.get(&id).map_or(&[][..], |history| &history.points),
            };
            see(fact, history);
        }
        Recorded { lost: self.lost.within(from, to), forgotten: self.forgotten.within(from, to) }
    }

    /// Whether the end of this connection at this time was recorded.
    fn has_ended(&self, id: &ConnectionId, end_ns: u64) -> bool {
        let first = self.order.partition_point(|(end, _)| *end < end_ns);
        let then = self.order.range(first..).take_while(|(end, _)| *end == end_ns);
        then.filter_map(|(_, number)| self.ended.get(*number)).any(|entry| entry.fact.id() == *id)
    }

    fn changes(&self, after: ChangeCursor) -> Changes {
        let mut connections = Vec::new();
        let mut next = after.0;
        let mut ended = self.ended.after(|entry| entry.sequence <= after.0).peekable();
        let mut opened = self.opened.after(|entry| entry.sequence <= after.0).peekable();
        while connections.len() < PAGE {
            let ended_is_next = match (ended.peek(), opened.peek()) {
                (None, None) => break,
                (Some(end), Some(open)) => end.sequence < open.sequence,
                (end, _) => end.is_some(),
            };
            let change = if ended_is_next {
                ended.next().map(|entry| (entry.sequence, &entry.fact))
            } else {
                opened.next().map(|entry| (entry.sequence, &entry.fact))
            };
            let Some((sequence, fact)) = change else { break };
            next = sequence;
            connections.push(fact.clone());
        }
        if connections.len() < PAGE {
            next = self.sequence;
        }
        let missed = (next - after.0).saturating_sub(connections.len() as u64);
        Changes { connections, next: ChangeCursor(next), missed, at: self.latest_moment() }
    }

    fn latest_moment(&self) -> Moment {
        let now = self.now.unwrap_or_else(|| Moment { boot_ns: self.latest_ns, wall: Timestamp::now() });
        moved(&now, self.latest_ns)
    }
}

/// The counters of the last point at or before a sample.
fn at(history: &[Point], sample_ns: u64) -> Option<Traffic> {
    let after = history.partition_point(|point| point.at_ns <= sample_ns);
    after.checked_sub(1).map(|index| history[index].traffic)
}

/// Drops the points that are the last before no sample, but for the very last; and what is of no use because all samples
/// are after the end.
fn compact(points: &mut Vec<Point>, samples: &[u64], end_ns: u64) {
    if samples.first().is_none_or(|first| *first >= end_ns) {
        *points = Vec::new();
        return;
    }
    let mut kept = 0;
    for index in 0..points.len() {
        let superseded = points.get(index + 1).is_some_and(|next| {
            let sample = samples.partition_point(|sample| *sample < points[index].at_ns);
            samples.get(sample).is_none_or(|sample| *sample >= next.at_ns)
        });
        if !superseded {
            points.swap(kept, index);
            kept += 1;
        }
    }
    points.truncate(kept);
    if points.capacity() > 2 * kept + 4 {
        points.shrink_to(kept + kept / 2);
    }
}

/// A connection as it was before its end.
fn open_at(ended: &Ended, to_ns: u64) -> ConnectionFact {
    let mut fact = ended.fact.clone();
    let established = fact.established.is_some_and(|established| established.ns() <= to_ns);
    let opening = fact.protocol == Protocol::Tcp && fact.opened.is_some() && !established;
    fact.state = if opening { ConnectionState::Opening } else { ConnectionState::Open };
    fact.established = fact.established.filter(|_| established);
    (fact.closed, fact.closed_by, fact.error) = (None, None, None);
    if ended.end_ns - to_ns > nanoseconds(LISTING) {
        // Those are of long after.
        fact.traffic = None;
    }
    fact
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The moment with this time on the clock that is never stepped.
pub(super) fn moved(moment: &Moment, boot_ns: u64) -> Moment {
    let wall = if boot_ns >= moment.boot_ns {
        moment.wall.checked_add(Duration::from_nanos(boot_ns - moment.boot_ns))
    } else {
        moment.wall.checked_sub(Duration::from_nanos(moment.boot_ns - boot_ns))
    };
    Moment { boot_ns, wall: wall.unwrap_or(moment.wall) }
}

fn bytes_of<T>(points: &Vec<T>) -> usize {
    points.capacity() * size_of::<T>()
}

trait PartitionPoint<T> {
    /// As `partition_point`, of the first `length`.
    fn partition_point_to(&self, length: usize, before: impl Fn(&T) -> bool) -> usize;
}

impl<T> PartitionPoint<T> for VecDeque<T> {
    fn partition_point_to(&self, length: usize, before: impl Fn(&T) -> bool) -> usize {
        partition_point(length, |index| before(&self[index]))
    }
}

fn partition_point(length: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, length);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// A queue with numbered entries, in pieces of equal size.
struct Log<T> {
    /// All but the first and the last are full.
    chunks: VecDeque<VecDeque<T>>,
    /// The number of the first entry.
    base: u64,
    length: usize,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), base: 0, length: 0 }
    }
}

impl<T> Log<T> {
    fn len(&self) -> usize {
        self.length
    }

    /// The number of the next entry.
    fn end(&self) -> u64 {
        self.base + self.length as u64
    }

    fn push(&mut self, entry: T) {
        match self.chunks.back_mut() {
            Some(last) if last.len() < CHUNK => last.push_back(entry),
            _ => {
                let mut chunk = VecDeque::with_capacity(CHUNK);
                chunk.push_back(entry);
                self.chunks.push_back(chunk);
            }
        }
        self.length += 1;
    }

    fn pop(&mut self) -> Option<T> {
        let chunk = self.chunks.front_mut()?;
        let entry = chunk.pop_front()?;
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        self.base += 1;
        self.length -= 1;
        Some(entry)
    }

    fn place(&self, number: u64) -> Option<(usize, usize)> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        let first = self.chunks.front()?.len();
        Some(match index.checked_sub(first) {
            None => (0, index),
            Some(rest) => (1 + rest / CHUNK, rest % CHUNK),
        })
    }

    fn get(&self, number: u64) -> Option<&T> {
        let (chunk, index) = self.place(number)?;
        self.chunks.get(chunk)?.get(index)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (chunk, index) = self.place(number)?;
        self.chunks.get_mut(chunk)?.get_mut(index)
    }

    /// The entries from the first for which `before` is false.
    fn after(&self, before: impl Fn(&T) -> bool) -> impl Iterator<Item = &T> {
        let first =
            partition_point(self.length, |index| self.get(self.base + index as u64).is_some_and(&before));
        (first..self.length).filter_map(|index| self.get(self.base + index as u64))
    }

    fn memory(&self) -> usize {
        self.chunks.len() * (CHUNK * size_of::<T>() + size_of::<VecDeque<T>>())
    }
}

/// Processes and threads that facts share, each counted once.
#[derive(Default)]
struct Shared {
    /// By address, with how many facts hold each and how long it is.
    held: FxHashMap<usize, (u32, u32)>,
    bytes: usize,
}

impl Shared {
    fn hold(&mut self, fact: &ConnectionFact) {
        each_shared(fact, |address, size| {
            let entry = self.held.entry(address).or_insert_with(|| {
                let size = u32::try_from(size()).unwrap_or(u32::MAX);
                self.bytes += size as usize;
                (0, size)
            });
            entry.0 += 1;
        });
    }

    fn release(&mut self, fact: &ConnectionFact) {
        each_shared(fact, |address, _| {
            let Some(entry) = self.held.get_mut(&address) else { return };
            entry.0 -= 1;
            if entry.0 == 0 {
                self.bytes -= entry.1 as usize;
                self.held.remove(&address);
            }
        });
    }

    fn memory(&self) -> usize {
        self.bytes + self.held.capacity() * (size_of::<(usize, (u32, u32))>() + 1)
    }
}

/// What an allocation takes beside its content: the allocator's header and rounding; of an `Arc`, its two counts.
pub(super) const ALLOCATION: usize = 16;

fn each_shared(fact: &ConnectionFact, mut each: impl FnMut(usize, &dyn Fn() -> usize)) {
    for process in [&fact.process, &fact.last_user].into_iter().flatten() {
        each(Arc::as_ptr(process).addr(), &|| process_bytes(process));
    }
    if let Some(thread) = &fact.thread {
        let bytes = || 3 * ALLOCATION + size_of_val(&**thread) + thread.comm.as_str().len();
        each(Arc::as_ptr(thread).addr(), &bytes);
    }
}

/// The memory of a process that facts share.
pub(super) fn process_bytes(process: &Process) -> usize {
    let Process { comm, exe, cmdline, cgroup, container, unit, .. } = process;
    let texts =
        [Some(comm), exe.as_ref(), cmdline.as_ref(), cgroup.as_ref(), container.as_ref(), unit.as_ref()];
    let text_bytes = |text: &CleanText| ALLOCATION + text.as_str().len();
    2 * ALLOCATION + size_of::<Process>() + texts.into_iter().flatten().map(text_bytes).sum::<usize>()
}

/// How many things happened when, to a grain that becomes coarser for what is long ago.
#[derive(Debug)]
pub(super) struct Tally {
    grain_ns: u64,
    /// By the end of the grain.
    counts: BTreeMap<u64, Tallied>,
}

#[derive(Debug, Clone, Copy)]
struct Tallied {
    count: u64,
    /// When the first of them may have happened.
    since_ns: u64,
}

impl Tally {
    pub(super) fn with_grain(grain: Duration) -> Self {
        Self { grain_ns: nanoseconds(grain), counts: BTreeMap::new() }
    }

    fn add(&mut self, at_ns: u64, count: u64) {
        self.add_since(at_ns, at_ns, count);
    }

    /// Adds what happened at some time after the first moment, and until the second.
    pub(super) fn add_since(&mut self, after_ns: u64, at_ns: u64, count: u64) {
        if count == 0 {
            return;
        }
        let new = Tallied { count: 0, since_ns: after_ns };
        let grain = self.counts.entry(at_ns.div_ceil(self.grain_ns)).or_insert(new);
        grain.count = grain.count.saturating_add(count);
        grain.since_ns = grain.since_ns.min(after_ns);
        if self.counts.len() > TALLY
            && let Some((_, oldest)) = self.counts.pop_first()
            && let Some(mut next) = self.counts.first_entry()
        {
            let next = next.get_mut();
            next.count = next.count.saturating_add(oldest.count);
            next.since_ns = next.since_ns.min(oldest.since_ns);
        }
    }

    /// All of which some may have happened in this time.
    pub(super) fn within(&self, from_ns: u64, to_ns: u64) -> u64 {
        let (first, last) = (from_ns / self.grain_ns + 1, to_ns.div_ceil(self.grain_ns));
        if first > last {
            return 0;
        }
        let whole = self.counts.range(first..=last);
        // What was found out later may have begun before the end.
        let begun = self.counts.range(last + 1..).take(1).filter(|(_, tallied)| tallied.since_ns < to_ns);
        whole.chain(begun).fold(0, |sum: u64, (_, tallied)| sum.saturating_add(tallied.count))
    }
}

#[cfg(test)]
mod tests;
