//! Counting dropped packets while somebody asks: the program's table, read from time to time.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use netmon_bpf::{
    drops::{CAPACITY, DropCount, DropKey, DropMonitor},
    flow,
};

use super::{
    flow as following, netlink, now,
    obstacle::{self, Why, kernel_error},
    sock_diag,
    watching::Watching,
};
use crate::{
    clean::CleanText,
    control::Cancel,
    error::{Error, Result},
    fact::{
        AddressFamily, Attribution, BootTime, Direction, DropCounts, DropFact, Hook, HookStatus, Moment,
        Observed, Process, Protocol,
    },
    filter::Filter,
    source::{
        DropSighting, Observation, Span,
        drop_history::{DropHistory, Lost},
    },
    view::units,
};

/// How often the table is read while it is counted.
const READ_INTERVAL: Duration = Duration::from_secs(10);
/// Reading it may take one part in so many of the time.
const READ_SHARE: u32 = 500;
/// When the table is this full, room is made in it; and when there is more than one kind for so many bytes that the recorder
/// may take, as each takes one to two kilobytes here.
const CROWDED: usize = CAPACITY / 2;
const KIND_SHARE: usize = 8 << 10;
const LEAST_CROWDED: usize = 256;
/// What was not dropped for so long is put together with others where there is no room.
const IDLE_NS: u64 = 60_000_000_000;

/// Drops being counted, shared by all who asked for them. It ends with the last of them.
pub(super) struct Dropping {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    monitor: DropMonitor,
    /// Who owns which socket is found out beside connections, which are followed as long as this lives.
    watching: Arc<Watching>,
    state: Mutex<State>,
    crowded: usize,
    own_netns: u32,
    stop: Cancel,
}

struct State {
    history: DropHistory,
    /// The owners that were looked for, once, where the program knew of none.
    looked_up: HashMap<DropKey, Option<Arc<Process>>>,
}

impl std::fmt::Debug for Dropping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dropping").field("monitor", &self.shared.monitor).finish_non_exhaustive()
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // It may be itself that drops the last handle.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("the thread that reads dropped packets panicked");
            }
        }
    }
}

impl Dropping {
    /// What is remembered is in proportion to what the recorder may take.
    pub(super) fn begin(watching: Arc<Watching>, recorder_limit: usize) -> Result<Arc<Self>> {
        let monitor = watching.count_drops().map_err(|error| Error::HookMissing {
            what: "dropped packets",
            hook: Hook::KfreeSkb,
            not_permitted: obstacle::is_refused(&error),
            reason: Why::of(&error, false).reason(&error),
        })?;
        let shared = Arc::new(Shared {
            monitor,
            watching,
            state: Mutex::new(State {
                history: DropHistory::within(recorder_limit),
                looked_up: HashMap::new(),
            }),
            crowded: crowded(recorder_limit),
            own_netns: sock_diag::network_namespace(),
            stop: Cancel::new(),
        });
        shared.read(now())?;
        let reading = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("netmon-drops".to_owned())
            .spawn(move || reading.read_on())
            .map_err(super::kernel_error("start the thread that reads dropped packets"))?;
        Ok(Arc::new(Self { shared, thread: Some(thread) }))
    }

    /// From now on all are counted.
    pub(super) fn join(self: Arc<Self>) -> Result<Observation> {
        let from = now();
        self.shared.read(from)?;
        Ok(Observation { from, cursor: crate::source::ChangeCursor::default(), guard: Box::new(self) })
    }

    pub(super) fn observed(&self, since: Duration) -> Option<Span> {
        self.shared.state().history.observed(Some(since), &now())
    }

    pub(super) fn drops(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(DropSighting<'_>),
    ) -> Result<Observed> {
        let is_known = |last: Option<Moment>| last.is_some_and(|last| last.boot_ns >= span.to.boot_ns);
        let last = self.shared.state().history.last_reading();
        if !is_known(last) {
            self.shared.read(now())?;
        }
        let lost = self.shared.state().history.visit(span, filter, visit);
        Ok(self.shared.observed(lost))
    }
}

/// How many kinds of drops are told apart before those that are quiet are put together.
fn crowded(recorder_limit: usize) -> usize {
    (recorder_limit / KIND_SHARE).clamp(LEAST_CROWDED, CROWDED)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until nobody asks any more.
    fn read_on(&self) {
        let mut interval = READ_INTERVAL;
        while self.stop.sleep_until(Instant::now() + interval) {
            let began = Instant::now();
            if let Err(error) = self.read(now()) {
                tracing::warn!("cannot read the table of dropped packets: {}", error.with_cause());
            }
            interval = READ_INTERVAL.max(began.elapsed() * READ_SHARE);
        }
    }

    /// Reads the table, as what was dropped until a moment that is about to be over.
    fn read(&self, at: Moment) -> Result<()> {
        let mut state = self.state();
        if state.history.last_reading().is_some_and(|last| last.boot_ns >= at.boot_ns) {
            return Ok(());
        }
        let failed = kernel_error("read the table of dropped packets");
        let read = self.monitor.read().map_err(&failed)?;
        let lost = self.monitor.lost().map_err(&failed)?;
        self.look_up_owners(&mut state, &read);
        let names = if read.is_empty() { HashMap::new() } else { self.interface_names() };
        let facts = read.iter().map(|(key, count)| self.fact(&state, &names, key, count));
        let facts: Vec<DropFact> = facts.collect();
        state.history.record(at, facts, Lost { packets: lost.packets, details: lost.details });
        if read.len() > self.crowded {
            self.make_room(&mut state, &read, at);
        }
        Ok(())
    }

    /// The program knows no owner where the socket is older than everything, was not used yet, or is not told on this
    /// kernel: then who holds it now owns it. Asked once for each.
    fn look_up_owners(&self, state: &mut State, read: &[(DropKey, DropCount)]) {
        let wanted = |(key, count): &&(DropKey, DropCount)| {
            key.owner_pid == 0
                && key.local_port != 0
                && !state.looked_up.contains_key(key)
                && (count.cookie != 0 || self.is_for_socket(key))
        };
        let wanted: Vec<_> = read.iter().filter(wanted).collect();
        if wanted.is_empty() {
            return;
        }
        let sockets = match self.watching.list_sockets() {
            Ok(snapshot) => snapshot.sockets,
            Err(error) => {
                tracing::debug!("owners of dropped packets stay unknown: {}", error.with_cause());
                Vec::new()
            }
        };
        let mut by_cookie = HashMap::new();
        // A port of several processes is nobody's.
        let mut by_port: HashMap<(u32, Option<Protocol>, u16), Option<Arc<Process>>> = HashMap::new();
        for socket in sockets {
            let fact = socket.connection;
            let Some(process) = fact.process else { continue };
            let place = (fact.netns, Some(fact.protocol), fact.local.port());
            by_port
                .entry(place)
                .and_modify(|known| {
                    if known.as_ref().is_some_and(|known| known.pid != process.pid) {
                        *known = None;
                    }
                })
                .or_insert_with(|| Some(Arc::clone(&process)));
            by_cookie.insert(fact.cookie, process);
        }
        for (key, count) in wanted {
            let process = if count.cookie != 0 {
                by_cookie.get(&count.cookie).cloned()
            } else {
                by_port.get(&(key.netns, protocol(key), key.local_port)).cloned().flatten()
            };
            state.looked_up.insert(*key, process);
        }
    }

    /// Whether it was dropped at a socket that this kernel does not tell of.
    fn is_for_socket(&self, key: &DropKey) -> bool {
        let at_sockets = ["SOCKET_", "PROTO_MEM", "TCP_"];
        key.is_received()
            && !self.monitor.has_receivers()
            && self
                .monitor
                .reason(key.reason)
                .is_some_and(|reason| at_sockets.iter().any(|prefix| reason.starts_with(prefix)))
    }

    fn interface_names(&self) -> HashMap<u32, CleanText> {
        let links = netlink::links().unwrap_or_default();
        links.into_iter().map(|link| (link.index, link.name)).collect()
    }

    fn fact(
        &self,
        state: &State,
        names: &HashMap<u32, CleanText>,
        key: &DropKey,
        count: &DropCount,
    ) -> DropFact {
        let direction = if key.is_received() { Direction::Incoming } else { Direction::Outgoing };
        let counts =
            DropCounts { packets: count.packets, wire_packets: count.wire_packets, l3_bytes: count.bytes };
        let mut fact = DropFact::new(direction, counts);
        fact.reason = self.monitor.reason(key.reason).map(|name| CleanText::from(name.as_str()));
        fact.protocol = protocol(key);
        fact.family = match key.family {
            2 => Some(AddressFamily::Ipv4),
            10 => Some(AddressFamily::Ipv6),
            _ => None,
        };
        fact.netns = key.netns;
        if key.owner_pid != 0 {
            fact.process = self.watching.process(&count.owner);
            fact.attribution = following::attribution(count.attribution());
        } else if let Some(Some(process)) = state.looked_up.get(key) {
            fact.process = Some(Arc::clone(process));
            fact.attribution = Attribution::Snapshot;
        }
        fact.local_port = (key.local_port != 0).then_some(key.local_port);
        fact.peer = fact.family.map(|_| count.peer());
        fact.interface = (count.interface != 0).then_some(count.interface);
        fact.interface_name = fact
            .interface
            .filter(|_| key.netns == self.own_netns)
            .and_then(|index| names.get(&index).cloned());
        fact.first = BootTime::from_ns(count.first_ns);
        fact.last = BootTime::from_ns(count.last_ns);
        fact
    }

    /// Puts together what is quiet, most of it ports that somebody tried, so that there is room for what comes.
    fn make_room(&self, state: &mut State, read: &[(DropKey, DropCount)], at: Moment) {
        let quiet = read.iter().filter(|(_, count)| at.boot_ns.saturating_sub(count.last_ns) > IDLE_NS);
        let mut merged = Vec::new();
        let mut taken = HashSet::new();
        for (key, before) in quiet {
            // What has no port is what others are put together to.
            if key.local_port == 0 && key.owner_pid == 0 {
                continue;
            }
            if let Some(count) = self.monitor.take(key) {
                if count.packets != before.packets {
                    tracing::debug!("a drop was counted while room was made for others");
                }
                merged.push(self.fact(state, &HashMap::new(), key, &count));
                taken.insert(*key);
            }
        }
        state.looked_up.retain(|key, _| !taken.contains(key));
        state.history.merge(merged);
    }

    fn observed(&self, lost: Lost) -> Observed {
        let connections = self.watching.observed();
        let mut observed = Observed { lost_events: lost.packets, ..Observed::default() };
        observed.active_hooks.push(Hook::KfreeSkb);
        observed.active_hooks.extend(connections.active_hooks);
        observed.missing_hooks = connections.missing_hooks;
        if !self.monitor.has_reasons() {
            observed
                .warnings
                .push("this kernel does not say why it drops packets; Linux 5.17 and later do".to_owned());
        }
        if !self.monitor.knows_owners() {
            observed.warnings.push("owners are those who held the port when the drops were read".to_owned());
        }
        if lost.details > 0 {
            observed.warnings.push(format!(
                "{} counted without process and port, because there were more kinds of drops than the table has room for",
                units::counted(lost.details, "packet"),
            ));
        }
        observed
    }
}

fn protocol(key: &DropKey) -> Option<Protocol> {
    match key.protocol {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        1 | 58 => Some(Protocol::Icmp),
        _ => None,
    }
}

/// The hook tried for real.
pub(super) fn probe() -> HookStatus {
    match DropMonitor::probe() {
        Ok(()) => HookStatus::works(Hook::KfreeSkb),
        Err(error) => {
            let why = Why::of(&error, false);
            HookStatus::missing(Hook::KfreeSkb, why.reason(&error), why.fix())
        }
    }
}

impl Watching {
    /// Attaches the program that counts drops, beside those that know owners.
    fn count_drops(&self) -> netmon_bpf::Result<DropMonitor> {
        match self.following() {
            Some(following) => following.count_drops(),
            None => DropMonitor::attach(None),
        }
    }

    fn process(&self, identity: &flow::Process) -> Option<Arc<Process>> {
        self.following().and_then(|following| following.process(identity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Recorder;

    #[test]
    fn what_is_remembered_of_drops_is_in_proportion_to_the_recorder() {
        assert_eq!(crowded(Recorder::DEFAULT_MEMORY_LIMIT), CROWDED);
        assert_eq!(crowded(8 << 20), 1024);
        assert_eq!(crowded(Recorder::SMALLEST_MEMORY_LIMIT), LEAST_CROWDED);
    }
}
