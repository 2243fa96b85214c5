//! This host, now: the kernel's own counters by rtnetlink, and BPF programs where they are allowed.

#[cfg(feature = "bpf")]
mod clsact;
#[cfg(feature = "bpf")]
mod drops;
#[cfg(feature = "bpf")]
mod flow;
#[cfg(feature = "bpf")]
mod hooks;
mod netlink;
#[cfg(feature = "bpf")]
mod obstacle;
pub(crate) mod offspring;
#[cfg_attr(
    not(feature = "bpf"),
    allow(dead_code, reason = "half of it names those whom BPF records tell of")
)]
mod process;
mod protocol;
mod remembered;
#[cfg_attr(not(feature = "bpf"), allow(dead_code, reason = "the iterators leave a part of the list to it"))]
mod sock_diag;
mod watching;

use std::{io, time::Duration};

#[cfg(all(feature = "bpf", any(test, feature = "fuzz")))]
pub(crate) use flow::facts_of_records;
use jiff::Timestamp;
#[cfg(feature = "bpf")]
pub use netmon_bpf::allocator::{give_back, use_one_heap};
use rustix::time::{ClockId, clock_gettime};
pub use sock_diag::user_of_connection;

use super::{
    ChangeCursor, Changes, Counting, DropSighting, InterfaceRef, Observation, Sighting, Source,
    SourceDescription, Span,
};
#[cfg(not(feature = "bpf"))]
use crate::{answer::MissingHook, error::Error};
use crate::{
    clean::CleanText,
    control::{Cancel, Control},
    error::{self, Result},
    fact::{
        ConnectionTotals, Direction, Hook, HookStatus, InterfaceFact, InterfaceSnapshot, Leftover, Moment,
        Observed, ProtocolSnapshot, SocketSnapshot,
    },
    filter::Filter,
    request::HookChoice,
};

/// What to do where BPF is not permitted: both ways, naming this very program.
pub(crate) fn capabilities_fix() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "PROGRAM".into());
    let program = CleanText::from(program.to_string_lossy().as_ref());
    let grant = if rustix::process::geteuid().is_root() {
        // Root without capabilities: a container, most likely.
        "grant it the capabilities: docker run --cap-add=BPF --cap-add=NET_ADMIN --cap-add=PERFMON, or those of your \
         sandbox"
            .to_owned()
    } else {
        format!(
            "run it as root, or grant it the capabilities: sudo setcap cap_bpf,cap_net_admin,cap_perfmon+ep '{program}'"
        )
    };
    format!("{grant}; or start netmond, which answers for every user")
}

/// The live source: the network namespace of the calling thread.
///
/// Rates, states and addresses need no privilege. Counting by protocol needs `CAP_BPF` and `CAP_NET_ADMIN`, and the
/// default feature `bpf`. Nothing is attached until a question needs it, and nothing stays when the last caller is done.
///
/// Use one source for one network namespace: interfaces are told apart by index. A child that the program forks holds the
/// attachments until it calls `exec`, so that a detachment may come that much later.
#[derive(Debug)]
pub struct LiveSource {
    description: SourceDescription,
    watch: watching::Watch,
    #[cfg(feature = "bpf")]
    hooks: hooks::Hooks,
    #[cfg(feature = "bpf")]
    probed: hooks::Probed,
}

impl LiveSource {
    /// Opens this host. Cheap, and never fails for want of privilege.
    ///
    /// # Errors
    /// [`Error::Kernel`](crate::Error::Kernel) where rtnetlink cannot be used.
    pub fn open() -> Result<Self> {
        netlink::check()?;
        let mut description =
            SourceDescription::new("live", host_name(), read_sysctl("/proc/sys/kernel/osrelease"));
        description.observer_pid = Some(std::process::id());
        Ok(Self {
            description,
            watch: watching::Watch::default(),
            #[cfg(feature = "bpf")]
            hooks: hooks::Hooks::default(),
            #[cfg(feature = "bpf")]
            probed: hooks::Probed::default(),
        })
    }

    /// Remembers connections that ended in at most so much memory, instead of
    /// [`Recorder::DEFAULT_MEMORY_LIMIT`](super::Recorder::DEFAULT_MEMORY_LIMIT).
    #[must_use]
    pub fn with_memory_limit(mut self, bytes: usize) -> Self {
        self.watch.memory_limit = Some(bytes);
        self
    }

    /// Ends the flows of datagrams after so long without one, instead of 30 seconds: what comes later on the same socket
    /// from the same peer is another flow. Flows end a second late at most.
    #[must_use]
    pub fn with_datagram_idle(mut self, idle: Duration) -> Self {
        self.watch.datagram_idle = Some(idle);
        self
    }

    /// Follows the ends of system calls too, where connections are followed. It tells the error of an attempt that never
    /// left this host where it is otherwise worked out, and on Linux before 6.3 who accepted a connection where otherwise
    /// the listener's owner is told. It costs some nanoseconds for every system call of the host.
    #[must_use]
    pub fn with_system_calls(mut self) -> Self {
        self.watch.system_calls = true;
        self
    }
}

/// What is told of the past where nobody says how much. Who observes for weeks is not asked about weeks.
const DEFAULT_PAST: Duration = Duration::from_secs(60);

/// The name of this host.
pub(crate) fn host_name() -> CleanText {
    read_sysctl("/proc/sys/kernel/hostname")
}

fn read_sysctl(path: &str) -> CleanText {
    match std::fs::read(path) {
        Ok(bytes) => CleanText::from_bytes(bytes.trim_ascii()),
        Err(_) => CleanText::from("unknown"),
    }
}

fn now() -> Moment {
    let boot = clock_gettime(ClockId::Boottime);
    // Neither is negative: the clock starts at boot.
    let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(boot.tv_nsec).unwrap_or_default();
    Moment { boot_ns: seconds * 1_000_000_000 + nanoseconds, wall: Timestamp::now() }
}

/// The middle of two moments close together.
fn middle(before: Moment, after: Moment) -> Moment {
    let half = after.since(&before) / 2;
    Moment {
        boot_ns: before.boot_ns + u64::try_from(half.as_nanos()).unwrap_or_default(),
        wall: before.wall.checked_add(half).unwrap_or(before.wall),
    }
}

impl Source for LiveSource {
    fn describe(&self) -> SourceDescription {
        self.description.clone()
    }

    fn start(&self) -> Result<Moment> {
        Ok(now())
    }

    fn wait(&self, from: &Moment, window: Duration, control: &Control<'_>) -> Result<Moment> {
        if control.sleep(now().since(from).min(window), window) {
            Ok(now())
        } else {
            Err(error::Error::Cancelled)
        }
    }

    fn interfaces(&self, _at: &Moment) -> Result<InterfaceSnapshot> {
        let before = now();
        let links = netlink::links()?;
        let at = middle(before, now());
        #[cfg(feature = "bpf")]
        let mut counted = self.hooks.read();

        let mut addresses = netlink::addresses()?;
        let interfaces = links
            .into_iter()
            .map(|link| InterfaceFact {
                addresses: addresses.remove(&link.index).unwrap_or_default(),
                #[cfg(feature = "bpf")]
                hooks: counted.remove(&link.index).unwrap_or_default(),
                ..link
            })
            .collect();
        Ok(InterfaceSnapshot { at, interfaces, default_route: netlink::default_route_interface() })
    }

    #[cfg(feature = "bpf")]
    fn count(
        &self,
        interface: InterfaceRef<'_>,
        directions: &[Direction],
        choice: HookChoice,
    ) -> Result<Counting> {
        self.hooks.count(interface, directions, choice)
    }

    #[cfg(not(feature = "bpf"))]
    fn count(
        &self,
        interface: InterfaceRef<'_>,
        _directions: &[Direction],
        choice: HookChoice,
    ) -> Result<Counting> {
        let (hook, reason) = (Hook::Tcx, "netmon was built without its feature `bpf`");
        match choice {
            HookChoice::None => Ok(Counting::default()),
            HookChoice::Auto => Ok(Counting {
                missing: vec![MissingHook {
                    hook,
                    reason: reason.to_owned(),
                    hides: hidden_without_hook(interface.name, None),
                    fix: Some("use a build with it".to_owned()),
                }],
                ..Counting::default()
            }),
            HookChoice::Tcx | HookChoice::Clsact | HookChoice::Xdp => Err(Error::HookUnavailable {
                hook,
                interface: interface.name.clone(),
                not_permitted: false,
                reason: reason.to_owned(),
            }),
        }
    }

    fn observe(&self) -> Result<Observation> {
        self.watch.observe()
    }

    fn observed(&self, since: Option<Duration>) -> Result<Option<Span>> {
        Ok(self.watch.observed(since))
    }

    fn totals(&self) -> Result<ConnectionTotals> {
        self.watch.totals()
    }

    fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        self.watch.connections(span, filter, visit)
    }

    fn active_connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Option<Observed>> {
        self.watch.active_connections(span, filter, visit)
    }

    fn sockets(&self, _at: &Moment) -> Result<SocketSnapshot> {
        self.watch.sockets()
    }

    fn protocol_counters(&self, at: &Moment) -> Result<ProtocolSnapshot> {
        self.watch.protocol_counters(at)
    }

    fn changes(&self, after: ChangeCursor, patience: Duration, cancel: &Cancel) -> Result<Changes> {
        self.watch.changes(after, patience, cancel)
    }

    #[cfg(feature = "bpf")]
    fn observe_drops(&self) -> Result<Observation> {
        self.watch.observe_drops()
    }

    #[cfg(not(feature = "bpf"))]
    fn observe_drops(&self) -> Result<Observation> {
        Err(no_drops("netmon was built without its feature `bpf`"))
    }

    #[cfg(feature = "bpf")]
    fn observed_drops(&self, since: Option<Duration>) -> Result<Option<Span>> {
        Ok(self.watch.observed_drops(since))
    }

    #[cfg(not(feature = "bpf"))]
    fn observed_drops(&self, _since: Option<Duration>) -> Result<Option<Span>> {
        Ok(None)
    }

    #[cfg(feature = "bpf")]
    fn drops(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(DropSighting<'_>),
    ) -> Result<Observed> {
        self.watch.drops(span, filter, visit)?.ok_or_else(|| no_drops("it is not attached"))
    }

    #[cfg(not(feature = "bpf"))]
    fn drops(
        &self,
        _span: &Span,
        _filter: &Filter,
        _visit: &mut dyn FnMut(DropSighting<'_>),
    ) -> Result<Observed> {
        Err(no_drops("netmon was built without its feature `bpf`"))
    }

    #[cfg(feature = "bpf")]
    fn hooks(&self) -> Result<Vec<HookStatus>> {
        Ok(self.probed.get(|| {
            let mut hooks = hooks::probe();
            hooks.extend(flow::probe());
            hooks.push(drops::probe());
            hooks.push(HookStatus::works(Hook::SockDiag));
            hooks
        }))
    }

    #[cfg(not(feature = "bpf"))]
    fn hooks(&self) -> Result<Vec<HookStatus>> {
        let missing = |hook| HookStatus::missing(hook, "netmon was built without its feature `bpf`", None);
        Ok(vec![
            HookStatus::works(Hook::InterfaceCounters),
            missing(Hook::Tcx),
            missing(Hook::Clsact),
            missing(Hook::Xdp),
            missing(Hook::KfreeSkb),
            HookStatus::works(Hook::SockDiag),
        ])
    }

    #[cfg(feature = "bpf")]
    fn leftovers(&self) -> Result<Vec<Leftover>> {
        clsact::leftovers()
    }

    #[cfg(not(feature = "bpf"))]
    fn leftovers(&self) -> Result<Vec<Leftover>> {
        Ok(Vec::new())
    }
}

fn no_drops(reason: &str) -> error::Error {
    error::Error::HookMissing {
        what: "dropped packets",
        hook: Hook::KfreeSkb,
        not_permitted: false,
        reason: reason.to_owned(),
    }
}

/// What an answer lacks without a counting hook.
pub(super) fn hidden_without_hook(interface: &CleanText, direction: Option<Direction>) -> String {
    let way = direction.map(|direction| format!("{direction} ")).unwrap_or_default();
    format!("{way}packets by protocol and on the wire on {interface}")
}

/// Bytes as what netlink may send.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn read_any_message(bytes: &[u8]) {
    netlink::read_any_message(bytes);
    sock_diag::read_any_message(bytes);
}

/// Bytes as any file of `/proc` that is read here.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn read_any_file(bytes: &[u8]) {
    sock_diag::read_any_file(bytes);
    process::read_any_file(bytes);
    protocol::read_any_file(bytes);
}

fn kernel_error(action: &'static str) -> impl Fn(io::Error) -> error::Error {
    move |source| error::Error::Kernel { action, source }
}
