//! Records of BPF programs as facts: who each process is, what each change means.

use std::{
    collections::{VecDeque, hash_map::Entry},
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub(super) use netmon_bpf::flow::Ticks;
use netmon_bpf::{
    drops::DropMonitor,
    flow::{
        self, ConnectionRecord, Flow, FlowKey, FlowMonitor, FlowOptions, Listed, OwnerRecord, QuietRecord,
        Record, SocketRecord,
    },
};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use super::{
    obstacle::{self, Why},
    process::{Cgroup, CgroupNames, MEMORY_SHARE, ProcessTable},
    remembered::Remembered,
    sock_diag,
    watching::Orphans,
};
use crate::{
    answer::MissingHook,
    clean::CleanText,
    error::{Error, Result},
    fact::{
        Attribution, BootTime, ClosedBy, ConnectionDirection, ConnectionError, ConnectionFact,
        ConnectionState, Hook, HookStatus, Moment, Observed, Process, Protocol, SocketFact, SocketSnapshot,
        TcpFact, TcpState, Thread, Traffic,
    },
    source::recorder::{nanoseconds, process_bytes},
    view::units,
};

const TCP: u8 = 6;
const ECANCELED: i32 = 125;
const EADDRNOTAVAIL: i32 = 99;

/// How long before a moment nothing may have come or gone on a connection that is quiet since then: a process that reads
/// within this time what has come is told as its user.
const QUIET_BEFORE: Duration = Duration::from_secs(2);
/// How far apart the beginnings of lists are that are remembered, and how many.
const BEGINNING_GRAIN: Duration = Duration::from_millis(900);
const BEGINNINGS: usize = 128;

/// What came out of the ring.
#[derive(Debug, Default)]
pub(super) struct Drained {
    /// In order; whether each tells of an end.
    pub(super) changes: Vec<(bool, ConnectionFact)>,
    /// Records that were lost since the last time.
    pub(super) lost: u64,
    /// What else was lost since then.
    pub(super) gaps: Gaps,
}

/// What the kernel side had no room for, beside records of connections: these are told, and lack something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gaps {
    /// Owners that could not be written down.
    pub(super) owners: u64,
    /// Datagrams that were counted without their peer.
    pub(super) peers: u64,
    /// Records of what a process runs.
    pub(super) processes: u64,
    /// Changes of TCP connections at which the kernel left the program out.
    pub(super) skipped: u64,
    /// Datagrams that are in no sum, for the same reason.
    pub(super) uncounted: u64,
    /// TCP connections of which it was found only later that they had ended.
    pub(super) unseen: u64,
}

impl Gaps {
    fn of(lost: &flow::Losses) -> Self {
        Self {
            owners: lost.storage,
            peers: lost.flows,
            processes: lost.processes,
            skipped: lost.skipped,
            uncounted: lost.uncounted,
            unseen: 0,
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            owners: self.owners.saturating_sub(before.owners),
            peers: self.peers.saturating_sub(before.peers),
            processes: self.processes.saturating_sub(before.processes),
            skipped: self.skipped.saturating_sub(before.skipped),
            uncounted: self.uncounted.saturating_sub(before.uncounted),
            unseen: self.unseen.saturating_sub(before.unseen),
        }
    }

    /// What an answer says of them.
    pub(super) fn warnings(self) -> impl Iterator<Item = String> {
        let owners = (self.owners > 0).then(|| {
            format!(
                "owners of some connections are unknown: {} there was no room to write one down",
                units::counted(self.owners, "time")
            )
        });
        let peers = (self.peers > 0).then(|| {
            format!(
                "{} counted without the peer, because there were more peers than the table has room for",
                units::counted(self.peers, "datagram")
            )
        });
        let processes = (self.processes > 0).then(|| {
            format!(
                "program and arguments of some processes may be missing: {} of processes were lost",
                units::counted(self.processes, "record")
            )
        });
        let skipped = (self.skipped > 0).then(|| {
            format!(
                "the kernel passed over {} of TCP connections, as it runs no program twice at a time on a CPU: nearly all \
                 were made up for, but so many connections at most may be missing",
                units::counted(self.skipped, "change")
            )
        });
        let uncounted = (self.uncounted > 0).then(|| {
            format!(
                "up to {} not counted: the kernel runs no program twice at a time on a CPU",
                units::counted(self.uncounted, "datagram")
            )
        });
        let unseen = (self.unseen > 0).then(|| {
            format!(
                "{} ended unseen: when they ended at the latest is known, and not how, nor what they sent and received",
                units::counted(self.unseen, "connection")
            )
        });
        [owners, peers, processes, skipped, uncounted, unseen].into_iter().flatten()
    }
}

/// The programs, and what is known of those whom their records name.
#[derive(Debug)]
pub(super) struct Following {
    monitor: FlowMonitor,
    /// After how long without a datagram a flow has ended.
    datagram_idle: Duration,
    known: Mutex<Known>,
    /// Whether the iterator over TCP sockets tells of all: it showed that the one over files does not.
    lists_held: AtomicBool,
}

#[derive(Debug)]
struct Known {
    /// One that the kernel told of and that has ended since is known from here alone.
    processes: Remembered<ProcessKey, Arc<Process>>,
    table: ProcessTable,
    cgroups: CgroupNames,
    /// Ports that somebody listens on, by network namespace: tells which connections, older than the programs, came in.
    listeners: FxHashSet<(u32, u16)>,
    /// Datagram sockets with several peers: what their flows have in common.
    datagram_sockets: FxHashMap<u64, ConnectionFact>,
    /// Those of them that are closed.
    closed_sockets: FxHashMap<u64, BootTime>,
    /// How many sockets the last list of all had.
    listed: usize,
    /// When lists had begun at the latest, and that in the kernel's ticks.
    beginnings: VecDeque<(u64, Ticks)>,
    lost: u64,
    gaps: Gaps,
    own_netns: u32,
}

/// A process from one exec to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ProcessKey {
    pid: u32,
    exec_id: u32,
    start_ns: u64,
}

impl ProcessKey {
    fn new(process: &flow::Process) -> Self {
        Self { pid: process.pid, exec_id: process.exec_id, start_ns: process.start_ns }
    }
}

impl Following {
    /// Attaches the programs, or only the iterators. What is remembered of processes is in proportion to what the recorder
    /// may take.
    pub(super) fn attach(
        only_iterators: bool,
        system_calls: bool,
        datagram_idle: Duration,
        recorder_limit: usize,
    ) -> netmon_bpf::Result<Self> {
        let mut options = FlowOptions::default();
        if system_calls {
            options.hooks.push(flow::Hook::SystemCalls);
        }
        options.idle = datagram_idle;
        if only_iterators {
            options.hooks = vec![flow::Hook::SocketIterator, flow::Hook::TcpIterator];
        }
        let monitor = FlowMonitor::attach(&options)?;
        let known = Known::within(recorder_limit, sock_diag::network_namespace());
        Ok(Self { monitor, datagram_idle, known: Mutex::new(known), lists_held: AtomicBool::new(false) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether sockets can be listed.
    pub(super) fn lists_sockets(&self) -> bool {
        self.monitor.has(flow::Hook::SocketIterator)
    }

    /// Whether those that nobody holds are among them.
    pub(super) fn lists_orphans(&self) -> bool {
        self.monitor.has(flow::Hook::TcpIterator)
    }

    /// What takes part, and what does not.
    pub(super) fn observed(&self) -> Observed {
        let mut observed = Observed::default();
        for (hook, result) in self.monitor.hooks() {
            match result {
                Ok(()) => observed.active_hooks.push(name(*hook)),
                Err(error) => observed.missing_hooks.push(missing(*hook, error)),
            }
        }
        observed
    }

    /// Attaches the program that counts dropped packets, which reads owners where these write them.
    pub(super) fn count_drops(&self) -> netmon_bpf::Result<DropMonitor> {
        DropMonitor::attach(Some(&self.monitor))
    }

    /// Who that is.
    pub(super) fn process(&self, identity: &flow::Process) -> Option<Arc<Process>> {
        self.known().process(identity)
    }

    /// Blocks until there is much to take, or for this long.
    pub(super) fn wait(&self, timeout: Duration) {
        if let Err(error) = self.monitor.wait(timeout) {
            tracing::warn!("cannot wait for records of connections: {error}");
            std::thread::sleep(timeout);
        }
    }

    /// Ends such a wait, now or the next one.
    pub(super) fn interrupt(&self) {
        self.monitor.interrupt();
    }

    /// Tells of beginnings too from now on.
    pub(super) fn tell_opened(&self, tell: bool) -> Result<()> {
        self.monitor.tell_opened(tell).map_err(kernel_error)
    }

    /// Takes what the ring holds.
    pub(super) fn drain(&self) -> Result<Drained> {
        // Before the ring is emptied, or what is lost while that is done would belong to what comes later.
        let lost = self.monitor.lost().map_err(kernel_error)?;
        let mut known = self.known();
        let records = self.monitor.take().map_err(kernel_error)?;
        let mut drained = Drained { changes: Vec::with_capacity(records.len()), ..Drained::default() };
        for record in &records {
            match record {
                Record::Process(record) => known.introduce(record),
                Record::Connection(record) => {
                    let ended = record.change() == flow::Change::Ended;
                    drained.changes.push((ended, known.changed(record)));
                }
            }
        }
        let total = lost.ended + lost.opened;
        drained.lost = total.saturating_sub(known.lost);
        known.lost = total;
        let gaps = Gaps::of(&lost);
        drained.gaps = gaps.since(known.gaps);
        known.gaps = gaps;
        Ok(drained)
    }

    /// The further flows of datagram sockets that have ended since, taken out of the kernel's table.
    pub(super) fn ended_flows(&self, now: BootTime) -> Result<Vec<ConnectionFact>> {
        let flows = self.monitor.flows().map_err(kernel_error)?;
        if flows.is_empty() {
            self.known().forget_closed_sockets();
            return Ok(Vec::new());
        }
        let idle_ns = nanoseconds(self.datagram_idle);
        let idle = |flow: &Flow| now.ns().saturating_sub(flow.last_seen_ns) > idle_ns;
        let unknown = {
            let known = self.known();
            let is_unknown = |key: &FlowKey| !known.datagram_sockets.contains_key(&key.cookie);
            flows.iter().any(|(key, flow)| idle(flow) && is_unknown(key))
        };
        if unknown {
            // Their sockets were not listed since they had several peers.
            self.list(&mut Vec::new(), Orphans::None, None)?;
        }
        let mut known = self.known();
        let mut ended = Vec::new();
        for (key, flow) in flows {
            let socket_closed = known.closed_sockets.get(&key.cookie).copied();
            if (socket_closed.is_some() || idle(&flow)) && self.monitor.remove_flow(&key) {
                let mut fact = known.further_flow(&key, &flow);
                fact.state = ConnectionState::Closed;
                match socket_closed {
                    Some(closed) if !idle(&flow) => {
                        fact.closed = Some(closed);
                        fact.closed_by = Some(ClosedBy::Local);
                    }
                    _ => {
                        fact.closed = fact.last_seen;
                        fact.closed_by = Some(ClosedBy::Idle);
                    }
                }
                ended.push(fact);
            }
        }
        known.forget_closed_sockets();
        Ok(ended)
    }

    /// How many changes of TCP connections the kernel had passed over when records were last taken.
    pub(super) fn skipped(&self) -> u64 {
        self.known().gaps.skipped
    }

    /// TCP connections that have ended though nothing told of it.
    pub(super) fn ended_unseen(&self) -> Result<Vec<ConnectionFact>> {
        if !self.lists_orphans() {
            return Ok(Vec::new());
        }
        let unseen = self.monitor.take_unseen().map_err(kernel_error)?;
        let mut known = self.known();
        Ok(unseen.iter().map(|record| known.ended_unseen(record)).collect())
    }

    /// All sockets by `sock_diag` and `/proc`, where there is no iterator. TCP's have the owners that were written down.
    pub(super) fn list_without_iterator(&self) -> Result<SocketSnapshot> {
        let mut snapshot = sock_diag::snapshot(&self.known().table)?;
        let written_down = self.monitor.written_down().map_err(kernel_error)?;
        let mut by_cookie = FxHashMap::default();
        let mut by_addresses = FxHashMap::default();
        for (cookie, record) in &written_down {
            match cookie {
                Some(cookie) => by_cookie.insert(*cookie, record),
                None => by_addresses.insert((record.netns, record.local(), record.remote()), record),
            };
        }
        let mut known = self.known();
        let tcp = snapshot.sockets.iter_mut().map(|socket| &mut socket.connection);
        for fact in tcp.filter(|fact| fact.protocol == Protocol::Tcp) {
            let accepted = || by_addresses.get(&(fact.netns, fact.local, fact.remote?));
            if let Some(record) = by_cookie.get(&fact.cookie).or_else(accepted) {
                known.add_written_down(fact, record);
            }
        }
        drop(known);
        let Observed { active_hooks, missing_hooks, warnings, .. } = self.observed();
        snapshot.observed.active_hooks.extend(active_hooks);
        snapshot.observed.missing_hooks.extend(missing_hooks);
        snapshot.observed.warnings.extend(warnings);
        Ok(snapshot)
    }

    /// From when on a connection must be quiet that is left out of what is active since a moment. `None` where that is not
    /// known in the kernel's ticks.
    pub(super) fn quiet_since(&self, active_since: &Moment) -> Option<Ticks> {
        self.known().ticks_before(active_since.boot_ns.saturating_sub(nanoseconds(QUIET_BEFORE)))
    }

    /// Appends every socket that processes hold, in all network namespaces, and of those that nobody holds, in this, which
    /// `orphans` says. Established TCP connections on which nothing came or went since `quiet_since` are left out.
    pub(super) fn list(
        &self,
        sockets: &mut Vec<SocketFact>,
        orphans: Orphans,
        quiet_since: Option<Ticks>,
    ) -> Result<()> {
        let flows = self.monitor.flows().map_err(kernel_error)?;
        let mut known = self.known();
        let known = &mut *known;
        known.datagram_sockets.retain(|_, fact| fact.is_over());
        // Some more than the last time, so that nothing is moved to a larger place again and again.
        let expected = known.listed + known.listed / 16;
        if quiet_since.is_none() {
            sockets.reserve(expected);
        }
        known.processes.tidy();

        let mut listing = Listing {
            known: &mut *known,
            sockets: &mut *sockets,
            rows: FxHashMap::with_capacity_and_hasher(expected, FxBuildHasher),
            unasked: Vec::new(),
            listeners: FxHashSet::default(),
            multipath: FxHashMap::default(),
            netns: sock_diag::network_namespace(),
            in_use: 0,
            handshakes: false,
        };
        let began = self.monitor.sockets(quiet_since, |listed| match listed {
            Listed::Whole(record) => listing.held(record),
            Listed::Quiet(record) => listing.quiet(record),
        });
        let began = began.map_err(kernel_error)?;
        let began_by = super::now().boot_ns;
        if orphans != Orphans::None && self.lists_orphans() && !listing.is_whole(orphans) {
            self.monitor.orphans(|record| listing.orphan(record)).map_err(kernel_error)?;
            // Some are held by no file of a process: Multipath TCP's, and those of processes that cannot be seen.
            if !listing.has_all_in_use() && !self.lists_held.swap(true, Ordering::Relaxed) {
                self.monitor.list_held(true).map_err(kernel_error)?;
                self.monitor.orphans(|record| listing.orphan(record)).map_err(kernel_error)?;
            }
        }
        listing.finish();
        if let Some(began) = began {
            known.list_began(began_by, began);
        }
        if quiet_since.is_none() {
            known.listed = sockets.len();
        }
        for (key, flow) in flows {
            if known.datagram_sockets.contains_key(&key.cookie) {
                sockets.push(SocketFact::new(known.further_flow(&key, &flow)));
            }
        }
        Ok(())
    }
}

/// A list of sockets while the iterators tell of them, one record after the other.
struct Listing<'a> {
    known: &'a mut Known,
    sockets: &'a mut Vec<SocketFact>,
    /// By socket and, as a datagram socket may have a row of its own for what could not be told apart, peer. `None` for what
    /// has none, as it is quiet.
    rows: FxHashMap<(u64, bool), Option<usize>>,
    /// Connections older than the programs: whether they came in shows when all listeners are known.
    unasked: Vec<usize>,
    listeners: FxHashSet<(u32, u16)>,
    /// Who holds Multipath TCP sockets, by inode.
    multipath: FxHashMap<u64, Vec<SocketRecord>>,
    /// This network namespace, and how many TCP sockets of it are in the kernel's tables as far as processes hold them.
    netns: u32,
    in_use: u64,
    /// Whether somebody is just connecting: what is in the tables then is counted nowhere.
    handshakes: bool,
}

impl Listing<'_> {
    /// Whether what processes hold is all that there is: the kernel counts the TCP sockets of a network namespace, and to
    /// list those without a process it walks a table that grows with the host's memory, however few there are.
    fn is_whole(&self, orphans: Orphans) -> bool {
        let Some(counted) = sock_diag::tcp_sockets() else { return false };
        let only_open = orphans == Orphans::Open || counted.time_wait == 0;
        self.in_use == counted.in_use && !self.handshakes && only_open
    }

    fn has_all_in_use(&self) -> bool {
        sock_diag::tcp_sockets().is_some_and(|counted| self.in_use >= counted.in_use)
    }

    fn held(&mut self, record: &SocketRecord) {
        if record.connection.multipath() {
            self.multipath.entry(record.inode).or_default().push(*record);
            return;
        }
        self.handshakes |= record.connection.handshakes();
        let key = (record.connection.cookie, record.connection.peer_unknown());
        let at = match self.rows.get(&key) {
            Some(Some(at)) => *at,
            // It was quiet when another process's descriptor of it was looked at, a moment ago.
            Some(None) | None => {
                self.push(record);
                self.rows.insert(key, Some(self.sockets.len() - 1));
                self.sockets.len() - 1
            }
        };
        self.known.add_holder(&mut self.sockets[at], record);
    }

    fn quiet(&mut self, record: &QuietRecord) {
        // Where another descriptor of it was told whole, its row stays.
        if let Entry::Vacant(place) = self.rows.entry((record.cookie, false)) {
            place.insert(None);
            self.in_use += u64::from(record.netns == self.netns);
        }
    }

    /// It may have been accepted, or given up, between the two lists.
    fn orphan(&mut self, record: &SocketRecord) {
        let key = (record.connection.cookie, false);
        if self.rows.contains_key(&key) {
            return;
        }
        let holders = self.multipath.get(&record.inode).cloned().unwrap_or_default();
        let of = |holder: &SocketRecord| SocketRecord { holder: holder.holder, ..*record };
        let record = holders.first().map_or(*record, of);
        self.push(&record);
        let at = self.sockets.len() - 1;
        if record.connection.cookie != 0 {
            self.rows.insert(key, Some(at));
        }
        for holder in &holders {
            self.known.add_holder(&mut self.sockets[at], &of(holder));
        }
    }

    fn push(&mut self, record: &SocketRecord) {
        let connection = &record.connection;
        if connection.protocol == TCP && connection.netns == self.netns && is_in_use(connection) {
            self.in_use += 1;
        }
        if connection.role() == flow::Role::Listener || connection.state == TcpState::Listen as u8 {
            self.listeners.insert((connection.netns, connection.local().port()));
        } else if connection.role() == flow::Role::Unknown {
            self.unasked.push(self.sockets.len());
        }
        self.sockets.push(self.known.socket(record));
    }

    fn finish(self) {
        self.known.listeners = self.listeners;
        for at in self.unasked {
            let fact = &mut self.sockets[at].connection;
            if fact.protocol == Protocol::Tcp && fact.remote.is_some() {
                fact.direction = self.known.direction_by_port(fact.netns, fact.local.port());
            }
        }
    }
}

/// Whether the kernel counts a TCP socket in this state.
fn is_in_use(record: &ConnectionRecord) -> bool {
    /// A handshake that is not finished has no socket of its own yet (`TCP_NEW_SYN_RECV`).
    const REQUEST: u8 = 12;
    !record.socket_closed() && ![TcpState::Close as u8, REQUEST].contains(&record.state)
}

impl Known {
    fn within(recorder_limit: usize, own_netns: u32) -> Self {
        // Enough for those who end while their last connections are still being closed, however little is remembered.
        const LEAST: usize = 512 << 10;
        let share = (recorder_limit / MEMORY_SHARE).max(LEAST);
        Self {
            processes: Remembered::within(2 * share, |process| Arc::strong_count(process) > 1),
            table: ProcessTable::within(share),
            cgroups: CgroupNames::within(share),
            listeners: FxHashSet::default(),
            datagram_sockets: FxHashMap::default(),
            closed_sockets: FxHashMap::default(),
            listed: 0,
            beginnings: VecDeque::new(),
            lost: 0,
            gaps: Gaps::default(),
            own_netns,
        }
    }

    fn list_began(&mut self, by_ns: u64, ticks: Ticks) {
        let last = self.beginnings.back().map_or(0, |(by_ns, _)| *by_ns);
        if by_ns.saturating_sub(last) < nanoseconds(BEGINNING_GRAIN) {
            return;
        }
        if self.beginnings.len() >= BEGINNINGS {
            self.beginnings.pop_front();
        }
        self.beginnings.push_back((by_ns, ticks));
    }

    /// A time in the kernel's ticks that is not later than this, as far as lists have shown what its ticks were.
    fn ticks_before(&self, ns: u64) -> Option<Ticks> {
        let later = self.beginnings.partition_point(|(by_ns, _)| *by_ns <= ns);
        Some(self.beginnings.get(later.checked_sub(1)?)?.1)
    }

    /// When all their flows are taken out of the kernel's table, nobody asks for them any more.
    fn forget_closed_sockets(&mut self) {
        for (cookie, _) in self.closed_sockets.drain() {
            self.datagram_sockets.remove(&cookie);
        }
    }

    /// Remembers what a process record tells.
    fn introduce(&mut self, record: &flow::ProcessRecord) {
        let mut process = from_identity(&record.process);
        let text = |bytes: Vec<u8>| (!bytes.is_empty()).then(|| CleanText::from_bytes(&bytes));
        process.exe = text(record.exe());
        process.cmdline = text(record.arguments());
        process.parent_pid = Some(record.parent_pid);
        let cgroup = record.cgroup();
        // At the root there is no group, or the host keeps its groups in the hierarchies of before.
        if cgroup != b"/" {
            Cgroup::new(&cgroup).describe(&mut process);
        }
        self.table.enrich(&mut process);
        if process.cgroup.is_none() {
            Cgroup::new(&cgroup).describe(&mut process);
        }
        self.remember(ProcessKey::new(&record.process), Arc::new(process));
    }

    fn remember(&mut self, key: ProcessKey, process: Arc<Process>) {
        let bytes = process_bytes(&process);
        self.processes.insert(key, process, bytes);
    }

    /// Who that is; one allocation for all its connections.
    fn process(&mut self, identity: &flow::Process) -> Option<Arc<Process>> {
        if !identity.is_known() {
            return None;
        }
        let key = ProcessKey::new(identity);
        let named_anew = match self.processes.get(&key) {
            Some(known) if is_named(known, identity.comm()) => {
                return Some(Arc::clone(known));
            }
            // It calls itself otherwise now.
            Some(known) => Some(Process {
                comm: CleanText::from_bytes(identity.comm()),
                uid: Some(identity.uid),
                ..(**known).clone()
            }),
            None => None,
        };
        let process = Arc::new(named_anew.unwrap_or_else(|| {
            let mut process = from_identity(identity);
            if let Some(cgroup) = self.cgroups.find(identity.cgroup_id).filter(|cgroup| cgroup.path != "/") {
                cgroup.describe(&mut process);
            }
            self.table.enrich(&mut process);
            process
        }));
        self.remember(key, Arc::clone(&process));
        Some(process)
    }

    /// The connection of a record, as far as every kind of record tells.
    fn connection(&mut self, record: &ConnectionRecord) -> ConnectionFact {
        let (protocol, tcp_state) = match record.protocol {
            TCP => (Protocol::Tcp, TcpState::from_kernel(record.state)),
            17 => (Protocol::Udp, None),
            _ => (Protocol::Icmp, None),
        };
        let mut fact = ConnectionFact::new(record.cookie, protocol, ConnectionState::Open, record.local());
        fact.opened = BootTime::from_ns(record.opened_ns);
        fact.established = BootTime::from_ns(record.established_ns);
        fact.last_seen = BootTime::from_ns(record.last_seen_ns);
        fact.netns = record.netns;
        self.own(&mut fact, &record.owner, &record.last_user);
        fact.attribution = attribution(record.attribution());
        let remote = record.remote();
        let has_peer = !record.peer_unknown() && (remote.port() != 0 || !remote.ip().is_unspecified());
        fact.remote = has_peer.then_some(remote);
        fact.direction = match record.role() {
            flow::Role::Client => ConnectionDirection::Outbound,
            flow::Role::Server => ConnectionDirection::Inbound,
            flow::Role::Unknown if has_peer && protocol == Protocol::Tcp => {
                self.direction_by_port(record.netns, record.local().port())
            }
            flow::Role::Unknown | flow::Role::Listener => ConnectionDirection::None,
        };
        fact.traffic = Some(Traffic {
            payload_bytes_sent: record.bytes_sent,
            payload_bytes_received: record.bytes_received,
            packets_sent: record.packets_sent,
            packets_received: record.packets_received,
        });
        fact.tcp = tcp_state.map(|state| {
            let mut tcp = TcpFact::new(state);
            tcp.rtt_us = (record.rtt_us != 0).then_some(record.rtt_us);
            tcp.retransmits = record.retransmits;
            tcp
        });
        fact
    }

    /// Says whose connection it is.
    fn own(&mut self, fact: &mut ConnectionFact, owner: &flow::Process, last_user: &flow::Process) {
        fact.process = self.process(owner);
        if fact.process.is_some() && owner.tid != owner.pid && owner.tid != 0 {
            let comm = CleanText::from_bytes(owner.thread_comm());
            fact.thread = Some(Arc::new(Thread { tid: owner.tid, comm }));
        }
        fact.last_user = self.process(last_user);
    }

    /// Adds what is written down of a TCP socket to what another list tells of it: its end will be told with that, and is
    /// to be known for the end of the same connection.
    fn add_written_down(&mut self, fact: &mut ConnectionFact, record: &OwnerRecord) {
        fact.opened = BootTime::from_ns(record.opened_ns);
        fact.established = BootTime::from_ns(record.established_ns);
        if record.owner.is_known() {
            self.own(fact, &record.owner, &record.last_user);
            fact.attribution = attribution(record.attribution());
        }
        match record.role() {
            flow::Role::Client => fact.direction = ConnectionDirection::Outbound,
            flow::Role::Server => fact.direction = ConnectionDirection::Inbound,
            flow::Role::Unknown | flow::Role::Listener => {}
        }
    }

    /// Who began a connection that is older than the programs: it came in if somebody listens on its port.
    fn direction_by_port(&self, netns: u32, port: u16) -> ConnectionDirection {
        if self.listeners.contains(&(netns, port)) {
            ConnectionDirection::Inbound
        } else {
            ConnectionDirection::Outbound
        }
    }

    /// The connection of a record of the ring.
    fn changed(&mut self, record: &ConnectionRecord) -> ConnectionFact {
        let mut fact = self.connection(record);
        if record.change() != flow::Change::Ended {
            if fact.protocol == Protocol::Tcp {
                let established = record.change() == flow::Change::Established;
                fact.state = if established { ConnectionState::Open } else { ConnectionState::Opening };
                let state = if established { TcpState::Established } else { TcpState::SynSent };
                fact.tcp = fact.tcp.map(|tcp| TcpFact { state, ..tcp });
            }
            return fact;
        }
        fact.closed = BootTime::from_ns(record.at_ns);
        match fact.protocol {
            Protocol::Tcp => self.ended_tcp(record, &mut fact),
            _ => self.ended_flow(record, &mut fact),
        }
        fact
    }

    /// A connection of whose end nothing told: it was over at the latest when that was found.
    fn ended_unseen(&mut self, record: &ConnectionRecord) -> ConnectionFact {
        let mut fact = self.changed(record);
        fact.traffic = None;
        fact.tcp = None;
        fact
    }

    fn ended_tcp(&self, record: &ConnectionRecord, fact: &mut ConnectionFact) {
        let told = (record.error != 0).then(|| ConnectionError::told(record.error));
        let was = TcpState::from_kernel(record.state).unwrap_or(TcpState::Close);
        if record.never_sent() {
            fact.state = ConnectionState::Failed;
            fact.error = told.or_else(|| Some(ConnectionError::inferred(self.why_never_sent(fact))));
            fact.tcp = None;
            return;
        }
        match was {
            TcpState::SynSent | TcpState::SynReceived => {
                fact.state = ConnectionState::Failed;
                // Without an error of the kernel's the process itself gave it up.
                fact.error = told.or_else(|| Some(ConnectionError::inferred(Some(ECANCELED))));
            }
            // Its last change was passed over, and only seen that it is gone. What a process was told of a failure is not
            // in the socket any more; where a round trip was measured there was a handshake.
            TcpState::Close => {
                let outbound = record.role() == flow::Role::Client && record.opened_ns != 0;
                let failed = outbound && record.established_ns == 0 && record.rtt_us == 0;
                fact.state = if failed { ConnectionState::Failed } else { ConnectionState::Closed };
                fact.error = told.or_else(|| failed.then(|| ConnectionError::inferred(None)));
            }
            _ => {
                fact.state = ConnectionState::Closed;
                fact.error = told;
                fact.closed_by = Some(closed_by(was, record.error));
            }
        }
    }

    /// What the kernel says to another attempt to reach the same peer, without sending anything: connecting a datagram
    /// socket looks for the route alone.
    fn why_never_sent(&self, fact: &ConnectionFact) -> Option<i32> {
        let remote = fact.remote.filter(|_| fact.netns == self.own_netns)?;
        let any: SocketAddr = match remote {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        match UdpSocket::bind(any).ok()?.connect(remote) {
            Err(error) => error.raw_os_error(),
            // There is a way, and still no port was taken on this side: there was none.
            Ok(()) => (fact.local.port() == 0).then_some(EADDRNOTAVAIL),
        }
    }

    fn ended_flow(&mut self, record: &ConnectionRecord, fact: &mut ConnectionFact) {
        fact.error = (record.error != 0).then(|| ConnectionError::told(record.error));
        let nothing_went = record.packets_sent == 0 && record.packets_received == 0;
        fact.state = if nothing_went && (fact.error.is_some() || !record.connected()) {
            ConnectionState::Failed
        } else {
            ConnectionState::Closed
        };
        if fact.state == ConnectionState::Failed {
            let inferred = || ConnectionError::inferred(self.why_never_sent(fact));
            fact.error = Some(fact.error.unwrap_or_else(inferred));
        } else if record.idle() {
            fact.closed = fact.last_seen;
            fact.closed_by = Some(ClosedBy::Idle);
        } else {
            fact.closed_by = Some(ClosedBy::Local);
        }
        if record.socket_closed() && record.more_peers() && !record.peer_unknown() {
            if let Some(closed) = BootTime::from_ns(record.at_ns) {
                self.closed_sockets.insert(record.cookie, closed);
            }
            self.datagram_sockets.insert(record.cookie, fact.clone());
        }
    }

    /// A flow with a peer beyond the first of its socket.
    fn further_flow(&self, key: &FlowKey, flow: &Flow) -> ConnectionFact {
        let mut fact = match self.datagram_sockets.get(&key.cookie) {
            Some(socket) => socket.clone(),
            None => {
                let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
                ConnectionFact::new(key.cookie, Protocol::Udp, ConnectionState::Open, unspecified)
            }
        };
        fact.state = ConnectionState::Open;
        fact.remote = Some(key.remote());
        fact.opened = BootTime::from_ns(flow.opened_ns);
        fact.last_seen = BootTime::from_ns(flow.last_seen_ns);
        fact.closed = None;
        fact.closed_by = None;
        fact.direction = match flow.role() {
            flow::Role::Server => ConnectionDirection::Inbound,
            _ => ConnectionDirection::Outbound,
        };
        fact.error = (flow.error != 0).then(|| ConnectionError::told(flow.error));
        fact.traffic = Some(Traffic {
            payload_bytes_sent: flow.bytes_sent,
            payload_bytes_received: flow.bytes_received,
            packets_sent: flow.packets_sent,
            packets_received: flow.packets_received,
        });
        fact
    }

    /// A socket that an iterator found.
    fn socket(&mut self, record: &SocketRecord) -> SocketFact {
        let mut fact = self.connection(&record.connection);
        let connection = &record.connection;
        if fact.process.is_none() && record.holder.is_known() {
            fact.process = self.process(&record.holder);
            fact.attribution = Attribution::Snapshot;
        }
        fact.state = match fact.protocol {
            Protocol::Tcp if connection.never_sent() => {
                fact.error = Some(ConnectionError::inferred(None));
                fact.tcp = None;
                ConnectionState::Failed
            }
            Protocol::Tcp if connection.socket_closed() => {
                fact.traffic = None;
                ConnectionState::Closed
            }
            Protocol::Tcp => fact.tcp.map_or(ConnectionState::Closed, |tcp| tcp.state.connection_state()),
            _ if fact.remote.is_none() && fact.opened.is_none() => ConnectionState::Listening,
            _ => {
                fact.error = (connection.error != 0).then(|| ConnectionError::told(connection.error));
                ConnectionState::Open
            }
        };
        if fact.state == ConnectionState::Listening {
            fact.direction = ConnectionDirection::None;
            fact.traffic = None;
        }
        if connection.more_peers() {
            self.datagram_sockets.insert(connection.cookie, fact.clone());
        }
        let mut socket = SocketFact::new(fact);
        socket.inode = record.inode;
        if socket.connection.protocol == Protocol::Tcp && !record.connection.socket_closed() {
            socket.receive_queue = Some(record.receive_queue);
            socket.send_queue = Some(record.send_queue);
        }
        socket
    }

    /// Adds the process whose descriptor this is, where it is not the owner alone.
    fn add_holder(&mut self, socket: &mut SocketFact, record: &SocketRecord) {
        let owner = &record.connection.owner;
        if ProcessKey::new(owner) == ProcessKey::new(&record.holder) && socket.holders.is_empty() {
            return;
        }
        let Some(holder) = self.process(&record.holder) else { return };
        if !socket.holders.iter().any(|known| Arc::ptr_eq(known, &holder)) {
            socket.holders.push(holder);
        }
    }
}

/// What the records in these bytes tell, as if they had come from the ring, the iterators and the maps: each is behind a
/// byte that says which it is.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn facts_of_records(bytes: &[u8]) -> Vec<ConnectionFact> {
    use netmon_bpf::drops::{DropCount, DropKey};

    use crate::source::Recorder;

    /// Of a network namespace that is nobody's, so that no route is looked up in this one.
    const NOWHERE: u32 = u32::MAX;
    let mut known = Known::within(Recorder::SMALLEST_MEMORY_LIMIT, NOWHERE);
    let (mut facts, mut held, mut orphans) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = bytes;
    while let Some((kind, record)) = rest.split_first() {
        let length = match kind % 5 {
            0 => match Record::parse(record) {
                Some(Record::Process(process)) => {
                    known.introduce(&process);
                    size_of::<flow::ProcessRecord>()
                }
                Some(Record::Connection(connection)) => {
                    if connection.netns != NOWHERE {
                        facts.push(known.changed(&connection));
                    }
                    size_of::<ConnectionRecord>()
                }
                None => 0,
            },
            listed @ 1..=2 => {
                let list = if listed == 1 { &mut held } else { &mut orphans };
                list.extend(SocketRecord::parse(record));
                size_of::<SocketRecord>()
            }
            3 => {
                let key = FlowKey::parse(record);
                let flow = record.get(size_of::<FlowKey>()..).and_then(Flow::parse);
                if let (Some(key), Some(flow)) = (key, flow) {
                    facts.push(known.further_flow(&key, &flow));
                }
                size_of::<FlowKey>() + size_of::<Flow>()
            }
            _ => {
                let key = DropKey::parse(record);
                let count = record.get(size_of::<DropKey>()..).and_then(DropCount::parse);
                if let (Some(key), Some(count)) = (key, count) {
                    key.is_received();
                    count.peer();
                    attribution(count.attribution());
                    known.process(&count.owner);
                }
                size_of::<DropKey>() + size_of::<DropCount>()
            }
        };
        rest = record.get(length..).unwrap_or_default();
    }
    let mut sockets = Vec::new();
    let mut listing = Listing {
        known: &mut known,
        sockets: &mut sockets,
        rows: FxHashMap::default(),
        unasked: Vec::new(),
        listeners: FxHashSet::default(),
        multipath: FxHashMap::default(),
        netns: 0,
        in_use: 0,
        handshakes: false,
    };
    held.iter().for_each(|record| listing.held(record));
    orphans.iter().for_each(|record| listing.orphan(record));
    listing.finish();
    facts.extend(sockets.into_iter().map(|socket| socket.connection));
    facts
}

/// Whether this is still its name. Most names are clean as they are.
fn is_named(process: &Process, comm: &[u8]) -> bool {
    process.comm.as_str().as_bytes() == comm || process.comm == CleanText::from_bytes(comm)
}

fn from_identity(identity: &flow::Process) -> Process {
    let mut process = Process::new(identity.pid, CleanText::from_bytes(identity.comm()));
    process.started = BootTime::from_ns(identity.start_ns);
    process.uid = Some(identity.uid);
    process
}

/// Who ended a connection that was established, by its last state before.
fn closed_by(was: TcpState, errno: i32) -> ClosedBy {
    const EPIPE: i32 = 32;
    const ECONNRESET: i32 = 104;
    const ETIMEDOUT: i32 = 110;
    const EHOSTUNREACH: i32 = 113;
    match (was, errno) {
        (_, ETIMEDOUT | EHOSTUNREACH) => ClosedBy::Timeout,
        // This side ended first; that the other one answered by a reset changes nothing.
        (TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::TimeWait, _) => {
            ClosedBy::Local
        }
        (TcpState::CloseWait | TcpState::LastAck, _) | (_, ECONNRESET | EPIPE) => ClosedBy::Remote,
        _ => ClosedBy::Local,
    }
}

fn kernel_error(error: netmon_bpf::Error) -> Error {
    obstacle::kernel_error("read what the programs tell of connections")(error)
}

pub(super) fn attribution(attribution: flow::Attribution) -> Attribution {
    match attribution {
        flow::Attribution::Exact => Attribution::Exact,
        flow::Attribution::Inherited => Attribution::Inherited,
        flow::Attribution::Snapshot => Attribution::Snapshot,
        flow::Attribution::Unknown => Attribution::Unknown,
    }
}

/// The hook's name in answers.
fn name(hook: flow::Hook) -> Hook {
    match hook {
        flow::Hook::SetState => Hook::SetState,
        flow::Hook::SendLength => Hook::SendLength,
        flow::Hook::ReceiveLength => Hook::ReceiveLength,
        flow::Hook::ErrorReport => Hook::ErrorReport,
        flow::Hook::Connect => Hook::Connect,
        flow::Hook::SendMessage => Hook::SendMessage,
        flow::Hook::ReceiveMessage => Hook::ReceiveMessage,
        flow::Hook::Release => Hook::SockRelease,
        flow::Hook::Packets => Hook::DatagramPackets,
        flow::Hook::SystemCalls => Hook::SysExit,
        flow::Hook::SocketIterator => Hook::SocketIterator,
        flow::Hook::TcpIterator => Hook::TcpIterator,
    }
}

/// What cannot be known without a hook.
fn hides(hook: flow::Hook) -> &'static str {
    match hook {
        flow::Hook::SetState => "how TCP connections ended, and those that ended meanwhile",
        flow::Hook::SendLength | flow::Hook::ReceiveLength => {
            "which process uses what another one accepted, and the bytes of datagrams"
        }
        flow::Hook::Packets => "bytes of datagrams",
        flow::Hook::SystemCalls => {
            "who accepted what was not used yet, and why attempts never left this host"
        }
        flow::Hook::ErrorReport => "errors of datagrams",
        flow::Hook::Connect => "attempts that never left this host, and who connected UDP sockets",
        flow::Hook::SendMessage => "to whom unconnected UDP sockets send",
        flow::Hook::ReceiveMessage => "from whom unconnected UDP sockets receive",
        flow::Hook::Release => "UDP and ICMP flows that ended meanwhile",
        flow::Hook::SocketIterator => "who owns what is older than the monitor, and other network namespaces",
        flow::Hook::TcpIterator => "TCP sockets that no process holds",
    }
}

fn missing(hook: flow::Hook, error: &netmon_bpf::Error) -> MissingHook {
    MissingHook {
        hook: name(hook),
        reason: reason(hook, error),
        hides: hides(hook).to_owned(),
        fix: fix(hook, error),
    }
}

/// Both iterators as missing for one reason.
pub(super) fn iterators_missing(error: &netmon_bpf::Error) -> MissingHook {
    missing(flow::Hook::SocketIterator, error)
}

/// All hooks as missing for one reason.
pub(super) fn all_missing(error: &netmon_bpf::Error) -> MissingHook {
    MissingHook {
        hook: Hook::SetState,
        reason: reason(flow::Hook::SetState, error),
        hides:
            "connections that ended meanwhile, failures, exact owners, UDP peers and other network namespaces"
                .to_owned(),
        fix: fix(flow::Hook::SetState, error),
    }
}

fn reason(hook: flow::Hook, error: &netmon_bpf::Error) -> String {
    match (Why::of(error, hook.of_cgroup()), error) {
        (Why::Error, netmon_bpf::Error::Unsupported { .. }) => {
            format!("this kernel does not have it; Linux {} and later do", since(hook))
        }
        (why, _) => why.reason(error),
    }
}

fn fix(hook: flow::Hook, error: &netmon_bpf::Error) -> Option<String> {
    match (Why::of(error, hook.of_cgroup()), error, hook) {
        (
            Why::Error,
            netmon_bpf::Error::Unsupported { .. },
            flow::Hook::SendLength | flow::Hook::ReceiveLength,
        ) => Some("who accepted is told with --source live:system-calls".to_owned()),
        (why, ..) => why.fix(),
    }
}

/// The first kernel that has it in the form that is used.
fn since(hook: flow::Hook) -> &'static str {
    match hook {
        flow::Hook::SendLength | flow::Hook::ReceiveLength => "6.3",
        flow::Hook::ErrorReport => "5.14",
        flow::Hook::SocketIterator | flow::Hook::TcpIterator => "5.13",
        _ => "5.10",
    }
}

/// Each hook tried for real.
pub(super) fn probe() -> Vec<HookStatus> {
    flow::Hook::probe_all()
        .into_iter()
        .map(|(hook, result)| match result {
            Ok(()) => HookStatus::works(name(hook)),
            Err(error) => HookStatus::missing(name(hook), reason(hook, &error), fix(hook, &error)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Recorder;

    /// The end of a connection of a client, seen too late to tell of its state.
    fn unseen_end() -> ConnectionRecord {
        const CONNECTION: u8 = 2;
        const ENDED: u8 = 3;
        const CLIENT: u8 = 1;
        let mut bytes = vec![0; size_of::<ConnectionRecord>()];
        bytes[0] = CONNECTION;
        bytes[4] = ENDED;
        bytes[5] = TCP;
        bytes[7] = CLIENT;
        bytes[8] = TcpState::Close as u8;
        let Some(Record::Connection(mut record)) = Record::parse(&bytes) else { panic!("it is a record") };
        (record.cookie, record.opened_ns, record.at_ns) = (9, 1_000, 2_000);
        (record.bytes_sent, record.netns) = (5, u32::MAX);
        record
    }

    #[test]
    fn of_an_end_that_nobody_saw_nothing_is_told_but_that_it_came() {
        let mut known = Known::within(Recorder::SMALLEST_MEMORY_LIMIT, 0);
        let mut established = unseen_end();
        established.established_ns = 1_500;
        let closed = known.ended_unseen(&established);
        assert_eq!((closed.state, closed.closed), (ConnectionState::Closed, BootTime::from_ns(2_000)));
        assert_eq!((closed.error, closed.closed_by, closed.traffic, closed.tcp), (None, None, None, None));

        let failed = known.ended_unseen(&unseen_end());
        assert_eq!(failed.state, ConnectionState::Failed);
        assert_eq!(failed.error, Some(ConnectionError::inferred(None)));
        assert_eq!((failed.traffic, failed.tcp), (None, None));
    }

    /// What the kernel tells of the process with this number when it begins to use the network.
    fn introduction(pid: u32) -> flow::ProcessRecord {
        const KIND: u32 = 1;
        let exe = format!("program-{pid}\0");
        let mut bytes = vec![0; size_of::<flow::ProcessRecord>()];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &KIND.to_ne_bytes());
        put(8, &(1_000_000_000 + u64::from(pid)).to_ne_bytes());
        put(24, &pid.to_ne_bytes());
        put(40, b"program");
        put(72, &u32::try_from(exe.len()).unwrap().to_ne_bytes());
        put(88, exe.as_bytes());
        match Record::parse(&bytes) {
            Some(Record::Process(record)) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_remembered_of_processes_is_in_proportion_to_the_recorder() {
        // More than ever live at a time, so that /proc tells nothing of them.
        const FIRST: u32 = 1 << 30;
        let exe = |process: Option<Arc<Process>>| process.unwrap().exe.clone();
        for limit in [Recorder::SMALLEST_MEMORY_LIMIT, 64 << 20] {
            let mut known = Known::within(limit, 0);
            let first = introduction(FIRST);
            known.introduce(&first);
            // A fact, as far as this is concerned.
            let named = known.process(&first.process).unwrap();
            for number in 1..100_000 {
                let record = introduction(FIRST + number);
                known.introduce(&record);
                if number % 1000 == 0 {
                    let memory = known.processes.memory();
                    assert!(memory <= (limit / 8).max(1 << 20) + 2000, "{memory} of {limit}");
                    // Its connection ended when others had been started since.
                    let recent = introduction(FIRST + number - 500);
                    let expected = format!("/program-{}", FIRST + number - 500);
                    assert_eq!(exe(known.process(&recent.process)), Some(expected.as_str().into()));
                    assert!(Arc::ptr_eq(&known.process(&first.process).unwrap(), &named));
                }
            }
            assert_eq!(exe(known.process(&introduction(FIRST + 1).process)), None, "it is long gone");
        }
    }

    #[test]
    fn a_closed_socket_whose_flows_are_gone_is_forgotten() {
        let mut known = Known::within(Recorder::SMALLEST_MEMORY_LIMIT, 0);
        let local = SocketAddr::from(([127, 0, 0, 1], 9));
        for cookie in 1..=3 {
            let fact = ConnectionFact::new(cookie, Protocol::Udp, ConnectionState::Closed, local);
            known.datagram_sockets.insert(cookie, fact);
        }
        known.closed_sockets.extend(BootTime::from_ns(1).map(|closed| (2, closed)));
        known.forget_closed_sockets();
        assert!(known.closed_sockets.is_empty());
        let mut left: Vec<u64> = known.datagram_sockets.keys().copied().collect();
        left.sort_unstable();
        assert_eq!(left, [1, 3]);
    }
}
