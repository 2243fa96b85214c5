//! Connections and their owners: the programs that follow them, the ring that tells when they end, and the iterators that
//! list every socket.
//!
//! A [`FlowMonitor`] attaches whatever the running kernel and this process's privileges allow; every [`Hook`] is optional
//! on its own. Owners are written down in the kernel by the processes themselves, so that they are right for a process
//! that lives a millisecond; counters stay in the kernel until a connection ends.
//!
//! | hook | kernel | tells |
//! |---|---|---|
//! | [`Hook::SetState`] | 5.10 | the life of every TCP connection, its counters and errors |
//! | [`Hook::Connect`] | 5.10 | attempts, those that never leave the host too; connected datagram sockets |
//! | [`Hook::Release`] | 5.10 | the end of datagram flows |
//! | [`Hook::SendLength`], [`Hook::ReceiveLength`] | 6.3 | who accepted and who uses a socket; bytes of datagrams |
//! | [`Hook::SendMessage`], [`Hook::ReceiveMessage`] | 5.10 | peers of datagrams |
//! | [`Hook::SystemCalls`] | 5.10 | on request: who accepted, before anything is sent; the error of an attempt that never left |
//! | [`Hook::Packets`] | 5.10 | bytes of datagrams, packet by packet, where the two lengths are missing |
//! | [`Hook::ErrorReport`] | 5.14 | errors of datagrams |
//! | [`Hook::SocketIterator`] | 5.11 | all sockets that processes hold, in all network namespaces |
//! | [`Hook::TcpIterator`] | 5.11 | TCP sockets that no process holds, in this network namespace |

mod record;

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    mem::{self, MaybeUninit},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use libbpf_rs::{
    Iter, Link, MapCore as _, MapFlags, MapHandle, RingBuffer, RingBufferBuilder,
    btf::{Btf, BtfType},
    skel::{OpenSkel as _, Skel, SkelBuilder as _},
};
pub(crate) use record::address;
pub use record::{
    Attribution, Change, ConnectionRecord, Flow, FlowKey, Listed, OwnerRecord, Process, ProcessRecord,
    QuietRecord, Record, Role, SocketRecord, Ticks,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use zerocopy::IntoBytes as _;

use crate::{
    error::{Error, Result},
    object,
};

object::include_skeleton!("flow");
use skeleton::{FlowSkelBuilder, types};

/// The same programs for Linux 5.10 to 5.12, fewer of them; see `flow_old.bpf.c`.
mod old {
    crate::object::include_skeleton!("flow_old");
    pub(super) use skeleton::FlowOldSkelBuilder;
}

/// A place where connections can be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// The tracepoint `inet_sock_set_state`.
    SetState,
    /// The tracepoint `sock_send_length`.
    SendLength,
    /// The tracepoint `sock_recv_length`.
    ReceiveLength,
    /// The tracepoint `inet_sk_error_report`.
    ErrorReport,
    /// cgroup programs at `connect`.
    Connect,
    /// cgroup programs when a datagram is sent to an address.
    SendMessage,
    /// cgroup programs when a datagram was received.
    ReceiveMessage,
    /// cgroup programs when a socket is closed.
    Release,
    /// cgroup programs at every packet: only where [`Hook::SendLength`] or [`Hook::ReceiveLength`] is missing.
    Packets,
    /// The tracepoint `sys_exit`, for connect and accept; some ns for every system call of the host, so only on request.
    SystemCalls,
    /// The iterator over the files of all tasks.
    SocketIterator,
    /// The iterator over TCP sockets.
    TcpIterator,
}

/// The program that the iterator over the table of TCP sockets runs.
const UNSEEN: &str = "nm_list_unseen";

impl Hook {
    /// All of them, in the order in which they are attached: the hooks that take what others leave for them come first.
    pub const ALL: [Self; 12] = [
        Self::SendLength,
        Self::ReceiveLength,
        Self::SetState,
        Self::ErrorReport,
        Self::SendMessage,
        Self::ReceiveMessage,
        Self::Connect,
        Self::Release,
        Self::Packets,
        Self::SystemCalls,
        Self::SocketIterator,
        Self::TcpIterator,
    ];

    /// Its programs in `flow.bpf.c`.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::SetState => &["nm_follow_state", "nm_follow_destruction"],
            Self::SendLength => &["nm_follow_send"],
            Self::ReceiveLength => &["nm_follow_receive"],
            Self::ErrorReport => &["nm_follow_error"],
            Self::Connect => &["nm_connect4", "nm_connect6"],
            Self::SendMessage => &["nm_sendmsg4", "nm_sendmsg6"],
            Self::ReceiveMessage => &["nm_recvmsg4", "nm_recvmsg6"],
            Self::Release => &["nm_release"],
            Self::Packets => &["nm_packet_out", "nm_packet_in"],
            Self::SystemCalls => &["nm_follow_calls"],
            Self::SocketIterator => &["nm_list_sockets"],
            Self::TcpIterator => &["nm_list_orphans", UNSEEN],
        }
    }

    /// Whether it is attached to the root of the control groups (version 2).
    pub fn of_cgroup(self) -> bool {
        matches!(
            self,
            Self::Connect | Self::SendMessage | Self::ReceiveMessage | Self::Release | Self::Packets
        )
    }

    /// Whether Linux 5.10 to 5.12 have it.
    fn is_old(self) -> bool {
        self.of_cgroup() || matches!(self, Self::SetState | Self::SystemCalls)
    }

    /// What a kernel's types (BTF) have where it has the tracepoints and iterators of its programs.
    fn kernel_types(self) -> &'static [&'static str] {
        match self {
            Self::SetState => &["btf_trace_inet_sock_set_state", "btf_trace_tcp_destroy_sock"],
            Self::SendLength => &["btf_trace_sock_send_length"],
            Self::ReceiveLength => &["btf_trace_sock_recv_length"],
            Self::ErrorReport => &["btf_trace_inet_sk_error_report"],
            Self::SystemCalls => &["btf_trace_sys_exit"],
            Self::SocketIterator => &["bpf_iter_task_file"],
            Self::TcpIterator => &["bpf_iter_tcp", "bpf_iter_bpf_map_elem"],
            Self::Connect | Self::SendMessage | Self::ReceiveMessage | Self::Release | Self::Packets => &[],
        }
    }

    fn absent(self) -> Error {
        Error::Unsupported {
            action: format!("use the {self}"),
            source: io::Error::other("it came with a later version of Linux"),
        }
    }

    fn of_program(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.programs().contains(&name))
    }

    /// Whether each hook can be used here: the programs are loaded for real, and dropped again. Some 50 ms where the
    /// kernel loads all that it has, some 20 ms a hook otherwise. [`Hook::Packets`] is left out where it is not needed.
    pub fn probe_all() -> Vec<(Self, Result<()>)> {
        let options = FlowOptions { hooks: Self::ALL.to_vec(), ..FlowOptions::default() };
        let cgroup = cgroup_root();
        let mut choice = Choice::of(&options, &cgroup);
        let mut storages = [MaybeUninit::uninit(), MaybeUninit::uninit()];
        if choice.load(&mut storages, &options).is_err() {
            choice.leave_out(Self::probe);
        }
        choice.into_results()
    }

    /// Whether this hook can be used here, by itself.
    fn probe(self) -> Result<()> {
        if self.of_cgroup() {
            cgroup_root()?;
        }
        let mut storage = MaybeUninit::uninit();
        load(&mut storage, &[self], &FlowOptions::default()).map(drop)
    }
}

/// Which hooks are to be loaded, and why the others cannot be.
struct Choice<'a> {
    wanted: Vec<Hook>,
    failed: Vec<(Hook, Error)>,
    /// Whether packets may be counted instead of whole datagrams, which are better: until that is tried.
    may_count_packets: bool,
    cgroup: &'a Result<File>,
}

impl<'a> Choice<'a> {
    /// What is asked for, but for what wants control groups where there are none.
    fn of(options: &FlowOptions, cgroup: &'a Result<File>) -> Self {
        let mut choice = Self {
            wanted: Vec::new(),
            failed: Vec::new(),
            may_count_packets: options.hooks.contains(&Hook::Packets),
            cgroup,
        };
        for hook in options.hooks.iter().filter(|hook| **hook != Hook::Packets) {
            choice.take(*hook, &|_| Ok(()));
        }
        choice
    }

    fn take(&mut self, hook: Hook, can: &impl Fn(Hook) -> Result<()>) {
        let outcome = match self.cgroup {
            Err(error) if hook.of_cgroup() => Err(error.again()),
            _ => can(hook),
        };
        match outcome {
            Ok(()) => self.wanted.push(hook),
            Err(error) => self.failed.push((hook, error)),
        }
    }

    /// Leaves out what cannot be used; and takes packets instead of whole datagrams where these are left out.
    fn leave_out(&mut self, can: impl Fn(Hook) -> Result<()>) {
        const LENGTHS: [Hook; 2] = [Hook::SendLength, Hook::ReceiveLength];
        for hook in mem::take(&mut self.wanted) {
            self.take(hook, &can);
        }
        if !LENGTHS.iter().all(|hook| self.wanted.contains(hook)) && mem::take(&mut self.may_count_packets) {
            self.wanted.retain(|hook| !LENGTHS.contains(hook));
            self.take(Hook::Packets, &can);
        }
    }

    /// Leaves out what the kernel does not have at all, which its types tell without loading anything. Whether there was
    /// anything.
    fn leave_out_absent(&mut self) -> bool {
        let before = self.failed.len();
        let is_old = kernel_is_before(5, 13);
        let kernel = Btf::from_vmlinux().ok();
        let has =
            |name: &&str| kernel.as_ref().is_none_or(|it| it.type_by_name::<BtfType<'_>>(name).is_some());
        self.leave_out(|hook| {
            let is_there = (hook.is_old() || !is_old) && hook.kernel_types().iter().all(has);
            if is_there { Ok(()) } else { Err(hook.absent()) }
        });
        self.failed.len() > before
    }

    /// Loads what is wanted. One program that cannot be loaded fails its whole object: mostly it is one that the kernel does
    /// not have, and once more is tried without those.
    fn load<'object>(
        &mut self,
        [first, second]: &'object mut [MaybeUninit<libbpf_rs::OpenObject>; 2],
        options: &FlowOptions,
    ) -> Result<Box<dyn Skel<'object> + 'object>> {
        let loaded = load(first, &self.wanted, options);
        if loaded.is_ok() || !self.leave_out_absent() || self.wanted.is_empty() {
            return loaded;
        }
        load(second, &self.wanted, options)
    }

    /// Why nothing can be used: what is not permitted says more than what an old kernel does not have.
    fn why_none(self, first: Error) -> Error {
        let mut refused = self.failed.into_iter().map(|(_, error)| error);
        refused.find(|error| matches!(error, Error::NotPermitted { .. })).unwrap_or(first)
    }

    fn into_results(self) -> Vec<(Hook, Result<()>)> {
        let usable = self.wanted.into_iter().map(|hook| (hook, Ok(())));
        usable.chain(self.failed.into_iter().map(|(hook, error)| (hook, Err(error)))).collect()
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SetState => "tracepoint inet_sock_set_state",
            Self::SendLength => "tracepoint sock_send_length",
            Self::ReceiveLength => "tracepoint sock_recv_length",
            Self::ErrorReport => "tracepoint inet_sk_error_report",
            Self::Connect => "cgroup connect",
            Self::SendMessage => "cgroup sendmsg",
            Self::ReceiveMessage => "cgroup recvmsg",
            Self::Release => "cgroup sock_release",
            Self::Packets => "cgroup_skb",
            Self::SystemCalls => "tracepoint sys_exit",
            Self::SocketIterator => "iterator task_file",
            Self::TcpIterator => "iterator tcp",
        })
    }
}

/// The size of the ring unless another is asked for: some 7,500 records. None was lost of 65,000 a second on two busy cores.
pub const DEFAULT_RING_BYTES: u32 = 2 << 20;

/// How many TCP sockets have a known owner at the same time unless asked for otherwise.
pub const DEFAULT_SOCKETS: u32 = 1 << 20;

/// How to follow connections.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FlowOptions {
    /// The hooks to attach, where they can be.
    pub hooks: Vec<Hook>,
    /// The size of the ring: a power of two, at least a page.
    pub ring_bytes: u32,
    /// How many TCP sockets can have a known owner at the same time; memory is taken for those that there are.
    pub sockets: u32,
    /// After how long without a datagram a flow has ended.
    pub idle: Duration,
}

impl Default for FlowOptions {
    /// All hooks but [`Hook::SystemCalls`], [`DEFAULT_RING_BYTES`], [`DEFAULT_SOCKETS`], 30 s.
    fn default() -> Self {
        let hooks = Hook::ALL.into_iter().filter(|hook| *hook != Hook::SystemCalls).collect();
        Self {
            hooks,
            ring_bytes: DEFAULT_RING_BYTES,
            sockets: DEFAULT_SOCKETS,
            idle: Duration::from_secs(30),
        }
    }
}

/// What was lost in the kernel since the programs were attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Losses {
    /// Ends of connections for which the ring had no room.
    pub ended: u64,
    /// Beginnings, told only while somebody asks for them.
    pub opened: u64,
    /// Details of processes.
    pub processes: u64,
    /// How often there was no room to write down who has a socket or listens somewhere. Who uses it later is written down
    /// then, if there is room again.
    pub storage: u64,
    /// Datagrams counted without their peer, because the table of flows was full.
    pub flows: u64,
    /// Changes of TCP sockets at which the kernel left the program out, as it runs none twice at a time on a CPU (6.2 and
    /// later). Most of what was left out is told even so, at the latest when the socket is destroyed; so many connections
    /// at most are not.
    pub skipped: u64,
    /// Datagrams, or calls of TCP, that were left out for the same reason: those datagrams are in no sum.
    pub uncounted: u64,
}

/// The programs that follow connections, attached. Dropping it detaches; so does the end of the process.
pub struct FlowMonitor {
    // The ring reads through callbacks that push here.
    records: Arc<Mutex<Vec<Record>>>,
    ring: Mutex<RingBuffer<'static>>,
    /// The ring's own descriptor, to wait on without holding the ring.
    wake: MapHandle,
    interrupt: OwnedFd,
    lost: MapHandle,
    flows: MapHandle,
    /// Owners, for the programs of other objects: of TCP sockets by cookie, of datagram sockets.
    connections: MapHandle,
    datagram_sockets: MapHandle,
    settings: MapHandle,
    /// When a list began. The programs for old kernels have none.
    list_began: Option<MapHandle>,
    current: Mutex<record::Settings>,
    links: Vec<Link>,
    /// Those that a tracepoint runs.
    programs: Vec<(Hook, OwnedFd)>,
    sockets: Option<Link>,
    orphans: Option<Link>,
    unseen: Option<Link>,
    hooks: Vec<(Hook, Result<()>)>,
}

impl fmt::Debug for FlowMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowMonitor").field("hooks", &self.hooks).finish_non_exhaustive()
    }
}

impl FlowMonitor {
    /// Loads and attaches what can be. Some tens of ms.
    ///
    /// # Errors
    /// Where no hook can be used: why not.
    pub fn attach(options: &FlowOptions) -> Result<Self> {
        let cgroup = cgroup_root();
        let mut choice = Choice::of(options, &cgroup);
        let mut storages = [MaybeUninit::uninit(), MaybeUninit::uninit()];
        let mut last_storage = MaybeUninit::uninit();
        let skeleton = match choice.load(&mut storages, options) {
            Ok(skeleton) => skeleton,
            Err(error @ Error::NotPermitted { .. }) if Hook::SetState.probe().is_err() => return Err(error),
            // Only now each is tried by itself.
            Err(error) => {
                choice.leave_out(Hook::probe);
                if choice.wanted.is_empty() {
                    return Err(choice.why_none(error));
                }
                load(&mut last_storage, &choice.wanted, options)?
            }
        };
        let Choice { wanted, failed, .. } = choice;

        let records = Arc::new(Mutex::new(Vec::new()));
        let ring = open_ring(skeleton.object(), &records)?;
        let handle = |name| {
            MapHandle::try_from(&map(skeleton.object(), name)?)
                .map_err(|error| Error::from_libbpf("keep a map", error))
        };
        let wake = handle("nm_records")?;
        let interrupt = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::from_io("make an eventfd", errno.into()))?;
        let lost = handle("nm_lost")?;
        let flows = handle("nm_flows")?;
        let connections = handle("nm_connections")?;
        let datagram_sockets = handle("nm_datagram_sockets")?;
        let settings = handle("nm_settings")?;
        let list_began = handle("nm_list_began").ok();
        let current = record::Settings {
            idle_ns: u64::try_from(options.idle.as_nanos()).unwrap_or(u64::MAX),
            tell_opened: 0,
            list_held: 0,
            quiet: 0,
            quiet_since: 0,
        };
        write_settings(&settings, &current)?;

        let mut monitor = Self {
            records,
            ring: Mutex::new(ring),
            wake,
            interrupt,
            lost,
            flows,
            connections,
            datagram_sockets,
            settings,
            list_began,
            current: Mutex::new(current),
            links: Vec::new(),
            programs: Vec::new(),
            sockets: None,
            orphans: None,
            unseen: None,
            hooks: Vec::new(),
        };
        for hook in Hook::ALL {
            if wanted.contains(&hook) {
                let attached = monitor.attach_hook(skeleton.object(), hook, cgroup.as_ref().ok());
                monitor.hooks.push((hook, attached));
            }
        }
        monitor.hooks.extend(failed.into_iter().map(|(hook, error)| (hook, Err(error))));
        Ok(monitor)
    }

    fn attach_hook(&mut self, object: &libbpf_rs::Object, hook: Hook, cgroup: Option<&File>) -> Result<()> {
        let mut links = Vec::new();
        for program in object.progs_mut() {
            let name = program.name().to_string_lossy();
            if !hook.programs().contains(&&*name) {
                continue;
            }
            let link = match cgroup {
                Some(cgroup) if hook.of_cgroup() => program.attach_cgroup(cgroup.as_raw_fd()),
                _ if name == UNSEEN => program.attach_iter(self.connections.as_fd()),
                _ => program.attach(),
            };
            links.push(link.map_err(|error| Error::from_libbpf(format!("attach {hook}"), error))?);
            if !hook.of_cgroup() {
                let descriptor = program.as_fd().try_clone_to_owned();
                self.programs
                    .push((hook, descriptor.map_err(|error| Error::from_io("keep a program", error))?));
            }
        }
        match hook {
            Hook::SocketIterator => self.sockets = links.pop(),
            Hook::TcpIterator => (self.unseen, self.orphans) = (links.pop(), links.pop()),
            _ => self.links.extend(links),
        }
        Ok(())
    }

    /// Each hook that was asked for, and why it is missing where it is.
    pub fn hooks(&self) -> &[(Hook, Result<()>)] {
        &self.hooks
    }

    /// Whether a hook is attached.
    pub fn has(&self, hook: Hook) -> bool {
        self.hooks.iter().any(|(known, result)| *known == hook && result.is_ok())
    }

    /// Takes the records that wait in the ring, in order, without blocking.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn take(&self) -> Result<Vec<Record>> {
        // Who holds the ring also takes its records, so that two callers do not mix up their order.
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.consume().map_err(|error| Error::from_libbpf("read the ring of records", error))?;
        Ok(std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Blocks until there is something to take, or the time is over, or [`FlowMonitor::interrupt`] is called; true for the
    /// first. While it blocks the kernel wakes it only when a quarter of the ring is full, so
    /// [take](Self::take) what there is after it in any case.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let mut polled =
            [PollFd::new(&self.wake, PollFlags::IN), PollFd::new(&self.interrupt, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) => Ok(polled[0].revents().contains(PollFlags::IN)),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(Error::from_io("wait for records", errno.into())),
        }
    }

    /// Ends every wait, that of another thread and those to come.
    pub fn interrupt(&self) {
        // It is never read, so it can only be full because it was written to before.
        if let Err(errno) = rustix::io::write(&self.interrupt, &1_u64.to_ne_bytes()) {
            tracing::debug!("a wait was ended already: {errno}");
        }
    }

    /// Whether to tell of beginnings too: one or two more records a connection.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn tell_opened(&self, tell: bool) -> Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.tell_opened = u32::from(tell);
        write_settings(&self.settings, &current)
    }

    /// Whether [`FlowMonitor::orphans`] tells of sockets too that processes hold: of such that are not among the files of
    /// any process that can be seen, or belong to Multipath TCP.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn list_held(&self, list: bool) -> Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.list_held = u32::from(list);
        write_settings(&self.settings, &current)
    }

    /// What was lost so far.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn lost(&self) -> Result<Losses> {
        let read = |types::nm_loss(kind)| object::read_counter(&self.lost, kind, "read what was lost");
        Ok(Losses {
            ended: read(types::nm_loss::NM_LOST_ENDED)?,
            opened: read(types::nm_loss::NM_LOST_OPENED)?,
            processes: read(types::nm_loss::NM_LOST_PROCESS)?,
            storage: read(types::nm_loss::NM_LOST_STORAGE)?,
            flows: read(types::nm_loss::NM_LOST_FLOWS)?,
            skipped: self.skipped(Hook::SetState)?,
            uncounted: self.skipped(Hook::SendLength)?.saturating_add(self.skipped(Hook::ReceiveLength)?),
        })
    }

    /// How often the programs of a hook were left out.
    fn skipped(&self, hook: Hook) -> Result<u64> {
        let programs = self.programs.iter().filter(|(of, _)| *of == hook);
        programs.map(|(_, program)| object::skipped(program)).sum()
    }

    /// Tells of every socket that a process holds, in all network namespaces, once for each descriptor. What has no owner
    /// yet gets the process that is told here. About 1 us each.
    ///
    /// Of an established TCP connection on which nothing came or went since `quiet_since`, no more is told than that it is
    /// there; this takes half of the time. Returned is when the list began, where the kernel told: what comes or goes from
    /// then on is not quiet in a list that is asked for with it.
    ///
    /// Lists are made one after the other.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without [`Hook::SocketIterator`]; [`Error::Kernel`].
    pub fn sockets(
        &self,
        quiet_since: Option<Ticks>,
        visit: impl FnMut(Listed<'_>),
    ) -> Result<Option<Ticks>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = record::Settings {
            quiet: u32::from(quiet_since.is_some()),
            quiet_since: quiet_since.map_or(0, |since| since.0),
            ..*current
        };
        if (current.quiet, current.quiet_since) != (quiet.quiet, quiet.quiet_since) {
            *current = quiet;
            write_settings(&self.settings, &current)?;
        }
        // Held until the list is made, as it is made by these settings.
        iterate(self.sockets.as_ref(), Hook::SocketIterator, visit)?;
        let Some(map) = &self.list_began else { return Ok(None) };
        let began = map
            .lookup(&0_u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| Error::from_libbpf("read when a list began", error))?;
        Ok(began.and_then(|bytes| bytes.try_into().ok()).map(|bytes| Ticks(u32::from_ne_bytes(bytes))))
    }

    /// Tells of every TCP socket that no process holds, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without [`Hook::TcpIterator`]; [`Error::Kernel`].
    pub fn orphans(&self, visit: impl FnMut(&SocketRecord)) -> Result<()> {
        iterate_whole(self.orphans.as_ref(), Hook::TcpIterator, visit)
    }

    /// Takes out of the table of owners the TCP sockets that are gone though nothing told of their end, and tells of them:
    /// who, from where to where and since when, but not what they counted, nor when they ended. Some 25 ms, as the whole
    /// table is walked.
    ///
    /// The kernel passes over a change where it runs the program already; without this such sockets would be kept for ever.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without [`Hook::TcpIterator`]; [`Error::Kernel`].
    pub fn take_unseen(&self) -> Result<Vec<ConnectionRecord>> {
        let mut unseen = Vec::new();
        iterate_whole(self.unseen.as_ref(), Hook::TcpIterator, |record| unseen.push(record.connection))?;
        // What was told of meanwhile is not in the table any more.
        unseen.retain(|record| self.connections.delete(&record.cookie.to_ne_bytes()).is_ok());
        // A listener is no connection, and what is older than the programs may have been written down just after its end
        // was told.
        unseen.retain(|record| record.role() != Role::Listener && record.opened_ns != 0);
        Ok(unseen)
    }

    /// What is written down of TCP sockets, each with its cookie: for lists of sockets that the iterators do not make.
    /// Before Linux 5.12 a socket that was accepted has no cookie until somebody lists it; it has `None` here then, and
    /// its addresses tell which it is. What is older than the programs and was not used since is not among them. As large
    /// as the table is, this takes some 25 ms.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn written_down(&self) -> Result<Vec<(Option<u64>, OwnerRecord)>> {
        let read: Vec<(u64, OwnerRecord)> = object::read_hash(&self.connections, "read who owns sockets")?;
        // The address of the socket stands in for a cookie: those of the kernel have their highest bit set.
        let cookie = |key: u64| (key >> 63 == 0).then_some(key);
        Ok(read.into_iter().map(|(key, record)| (cookie(key), record)).collect())
    }

    /// The maps of `owners.h`.
    pub(crate) fn owners(&self) -> (&MapHandle, &MapHandle) {
        (&self.connections, &self.datagram_sockets)
    }

    /// The peers of datagram sockets beyond the first of each.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn flows(&self) -> Result<Vec<(FlowKey, Flow)>> {
        object::read_hash(&self.flows, "read the flows")
    }

    /// Forgets a flow that has ended. False where it was not there any more.
    pub fn remove_flow(&self, key: &FlowKey) -> bool {
        self.flows.delete(key.as_bytes()).is_ok()
    }
}

fn write_settings(map: &MapHandle, settings: &record::Settings) -> Result<()> {
    map.update(&0_u32.to_ne_bytes(), settings.as_bytes(), MapFlags::ANY)
        .map_err(|error| Error::from_libbpf("set how connections are followed", error))
}

fn open_ring(object: &libbpf_rs::Object, records: &Arc<Mutex<Vec<Record>>>) -> Result<RingBuffer<'static>> {
    let failed = |error| Error::from_libbpf("open the ring of records", error);
    let ring = map(object, "nm_records")?;
    let records = Arc::clone(records);
    let mut builder = RingBufferBuilder::new();
    builder
        .add(&ring, move |bytes| {
            if let Some(record) = Record::parse(bytes) {
                records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
            }
            0
        })
        .map_err(failed)?;
    builder.build().map_err(failed)
}

/// Loads the programs of these hooks, with tables as large as the options say; whatever kernel it is, the rest of this module sees a loaded object.
fn load<'object>(
    storage: &'object mut MaybeUninit<libbpf_rs::OpenObject>,
    hooks: &[Hook],
    options: &FlowOptions,
) -> Result<Box<dyn Skel<'object> + 'object>> {
    object::route_libbpf_messages();
    let ring_bytes = options.ring_bytes;
    let failed = |error| Error::from_libbpf("load the programs that follow connections", error);
    macro_rules! load {
        ($builder:expr) => {{
            let mut open = $builder.open(storage).map_err(failed)?;
            for mut program in open.open_object_mut().progs_mut() {
                let hook = Hook::of_program(&program.name().to_string_lossy());
                program.set_autoload(hook.is_some_and(|hook| hooks.contains(&hook)));
            }
            open.maps.nm_records.set_max_entries(ring_bytes).map_err(failed)?;
            open.maps.nm_connections.set_max_entries(options.sockets).map_err(failed)?;
            if let Some(data) = open.maps.rodata_data.as_deref_mut() {
                data.nm_wake_bytes = u64::from(ring_bytes / 4);
                data.nm_has_lengths = u8::from(!hooks.contains(&Hook::Packets));
                data.nm_follows = u8::from(hooks.contains(&Hook::SetState) || hooks.contains(&Hook::Connect));
            }
            Ok(Box::new(open.load().map_err(failed)?))
        }};
    }
    if kernel_is_before(5, 13) {
        if let Some(hook) = hooks.iter().find(|hook| !hook.is_old()) {
            return Err(hook.absent());
        }
        load!(old::FlowOldSkelBuilder::default())
    } else {
        load!(FlowSkelBuilder::default())
    }
}

/// By its release. What cannot be read is taken for new.
fn kernel_is_before(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    matches!((next(), next()), (Some(is), Some(sub)) if (is, sub) < (major, minor))
}

/// A map of a loaded object.
fn map<'a>(object: &'a libbpf_rs::Object, name: &str) -> Result<libbpf_rs::Map<'a>> {
    object.maps().find(|map| map.name() == name).ok_or_else(|| Error::Kernel {
        action: format!("find the map {name}"),
        source: io::Error::other("the object does not have it"),
    })
}

/// Of an iterator that never leaves anything out.
fn iterate_whole(link: Option<&Link>, hook: Hook, mut visit: impl FnMut(&SocketRecord)) -> Result<()> {
    iterate(link, hook, |listed| {
        if let Listed::Whole(record) = listed {
            visit(record);
        }
    })
}

fn iterate(link: Option<&Link>, hook: Hook, mut visit: impl FnMut(Listed<'_>)) -> Result<()> {
    let action = "list sockets";
    let link = link.ok_or_else(|| Error::Unsupported {
        action: action.to_owned(),
        source: io::Error::other(format!("{hook} is not attached")),
    })?;
    let mut iterator = Iter::new(link).map_err(|error| Error::from_libbpf(action, error))?;
    // Of words, as records are looked at where they lie.
    let mut words = vec![0_u64; 8 * 1024];
    let buffer = words.as_mut_bytes();
    let mut filled = 0;
    loop {
        let read = match iterator.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::from_io(action, error)),
        };
        filled += read;
        let mut parsed = 0;
        while let Some((listed, length)) = Listed::parse(&buffer[parsed..filled]) {
            visit(listed);
            parsed += length;
        }
        buffer.copy_within(parsed..filled, 0);
        filled -= parsed;
    }
}

/// The root of the version 2 hierarchy, as this process sees it: programs there see every process below.
fn cgroup_root() -> Result<File> {
    let action = "open the root of the control groups (version 2)";
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|source| Error::from_io(action, source))?;
    let path = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(path.replace("\\040", " ")))
        })
        .next()
        .ok_or_else(|| Error::Unsupported {
            action: action.to_owned(),
            source: io::Error::other("no cgroup2 file system is mounted"),
        })?;
    File::open(&path).map_err(|source| Error::from_io(action, source))
}
