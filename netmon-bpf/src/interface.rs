//! Counting the packets of an interface in the kernel, per traffic class.
//!
//! An [`InterfaceCounter`] is one program attached at one place, and the guard of that attachment: dropping it detaches.
//! Any number of them, of this or other processes, count side by side at tcx and clsact; XDP has room for one.
//!
//! What each place sees:
//!
//! | place | kernel | sees | cost |
//! |---|---|---|---|
//! | tcx | 6.6 | socket buffers: after GRO on the way in, before segmentation on the way out | some ns a buffer, tens with tags or extension headers |
//! | clsact | 4.5 | the same | the same |
//! | XDP | 4.8 | frames, before the kernel makes buffers of them; on the way in only | slows some devices down, see [`InterfaceCounter::attach_xdp`] |
//!
//! At tcx ours goes first, so that it counts what other programs drop or end later; clsact runs after every tcx program.

use std::{
    io,
    mem::{MaybeUninit, offset_of, size_of},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use libbpf_rs::{
    MapCore as _, MapFlags, MapHandle, TC_EGRESS, TC_INGRESS, TcHook, TcHookBuilder,
    query::{LinkInfo, LinkTypeInfo},
    skel::{OpenSkel as _, SkelBuilder as _},
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::{
    error::{Error, Result},
    object,
};

object::include_skeleton!("iface");
use skeleton::{IfaceSkelBuilder, types};

/// The class of a frame: its network layer and transport, VLAN tags looked through.
///
/// The value is the index into [`InterfaceCounters::classes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum TrafficClass {
    /// Neither IP nor ARP, or too short to tell.
    Other = 0,
    /// ARP.
    Arp = 1,
    /// TCP over IPv4.
    Ipv4Tcp = 2,
    /// UDP over IPv4.
    Ipv4Udp = 3,
    /// ICMP over IPv4.
    Ipv4Icmp = 4,
    /// Any other protocol over IPv4.
    Ipv4Other = 5,
    /// TCP over IPv6.
    Ipv6Tcp = 6,
    /// UDP over IPv6.
    Ipv6Udp = 7,
    /// `ICMPv6`.
    Ipv6Icmp = 8,
    /// Any other protocol over IPv6.
    Ipv6Other = 9,
}

/// How many traffic classes there are.
pub const TRAFFIC_CLASSES: usize = 10;

/// What was counted of one traffic class since the attachment. The sum over all CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ClassCounters {
    /// Socket buffers; frames where XDP counted. A buffer may stand for many frames (GRO, GSO).
    pub packets: u64,
    /// Frames on the wire: each buffer's number of segments.
    pub wire_packets: u64,
    /// Bytes of the buffers, link-layer header included.
    pub bytes: u64,
    /// Bytes on the wire: `bytes`, and the headers that segmentation repeats. Frame check sequence and tags that the
    /// device adds are not in it.
    pub wire_bytes: u64,
}

impl ClassCounters {
    fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.wire_packets += other.wire_packets;
        self.bytes += other.bytes;
        self.wire_bytes += other.wire_bytes;
    }
}

/// What one program counted since it was attached, by [`TrafficClass`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// One element a class, indexed by [`TrafficClass`].
    pub classes: [ClassCounters; TRAFFIC_CLASSES],
}

impl InterfaceCounters {
    /// The counters of one class.
    pub fn class(&self, class: TrafficClass) -> ClassCounters {
        self.classes[class as usize]
    }

    /// The sum of all classes: every packet that the program saw.
    pub fn total(&self) -> ClassCounters {
        let mut total = ClassCounters::default();
        for class in &self.classes {
            total.add(class);
        }
        total
    }
}

// The record's layout is C's: a moved or resized field fails the build here.
const _: () = {
    assert!(size_of::<ClassCounters>() == size_of::<types::nm_class_counters>());
    assert!(offset_of!(ClassCounters, packets) == offset_of!(types::nm_class_counters, packets));
    assert!(offset_of!(ClassCounters, wire_packets) == offset_of!(types::nm_class_counters, wire_packets));
    assert!(offset_of!(ClassCounters, bytes) == offset_of!(types::nm_class_counters, bytes));
    assert!(offset_of!(ClassCounters, wire_bytes) == offset_of!(types::nm_class_counters, wire_bytes));
};

/// The way of the packets, as traffic control calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Packets that the interface received.
    Ingress,
    /// Packets that the interface is about to send.
    Egress,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Whether frames of the interface start with an Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// They do (`ARPHRD_ETHER`, `ARPHRD_LOOPBACK`).
    Ethernet,
    /// They start with the network layer, or with a header that only the kernel knows (tun, `WireGuard`, PPP, GRE).
    /// Classes come from the kernel's own notion of where the network header is.
    Other,
}

/// One of the programs of `iface.bpf.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Skb(Framing),
    Xdp,
    XdpFrags,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Skb(_) => "nm_count_skb",
            Self::Xdp => "nm_count_xdp",
            Self::XdpFrags => "nm_count_xdp_frags",
        }
    }
}

/// A program in the kernel with its counters, attached to nothing. Plain descriptors: libbpf's object is closed again.
#[derive(Debug)]
pub(crate) struct LoadedProgram {
    pub(crate) program: OwnedFd,
    counters: MapHandle,
}

impl LoadedProgram {
    pub(crate) fn load(which: Program) -> Result<Self> {
        object::route_libbpf_messages();
        let action = || format!("load the program {}", which.name());
        let libbpf = |error| Error::from_libbpf(action(), error);

        let mut storage = MaybeUninit::uninit();
        let mut open = IfaceSkelBuilder::default().open(&mut storage).map_err(libbpf)?;
        open.progs.nm_count_skb.set_autoload(matches!(which, Program::Skb(_)));
        open.progs.nm_count_xdp.set_autoload(which == Program::Xdp);
        open.progs.nm_count_xdp_frags.set_autoload(which == Program::XdpFrags);
        if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
            rodata.nm_is_ethernet = u8::from(which != Program::Skb(Framing::Other));
        }
        let loaded = open.load().map_err(libbpf)?;

        let program = match which {
            Program::Skb(_) => loaded.progs.nm_count_skb.as_fd(),
            Program::Xdp => loaded.progs.nm_count_xdp.as_fd(),
            Program::XdpFrags => loaded.progs.nm_count_xdp_frags.as_fd(),
        };
        let program = program.try_clone_to_owned().map_err(|source| Error::from_io(action(), source))?;
        let counters = MapHandle::try_from(&loaded.maps.nm_counters).map_err(libbpf)?;
        Ok(Self { program, counters })
    }

    /// With fragments first: a driver with jumbo frames takes no other. Kernels before 5.18 do not have it.
    pub(crate) fn load_xdp() -> Result<Self> {
        Self::load(Program::XdpFrags).or_else(|error| match error {
            Error::NotPermitted { .. } => Err(error),
            _ => Self::load(Program::Xdp),
        })
    }

    pub(crate) fn read(&self) -> Result<InterfaceCounters> {
        let action = "read the packet counters";
        let malformed = || {
            let source = io::Error::other("the counters in the kernel do not have the expected size");
            Error::Kernel { action: action.to_owned(), source }
        };

        let mut sum = InterfaceCounters::default();
        for (class, total) in (0_u32..).zip(&mut sum.classes) {
            let per_cpu = self
                .counters
                .lookup_percpu(&class.to_ne_bytes(), MapFlags::ANY)
                .map_err(|error| Error::from_libbpf(action, error))?
                .ok_or_else(malformed)?;
            for bytes in &per_cpu {
                total.add(&ClassCounters::read_from_bytes(bytes).map_err(|_| malformed())?);
            }
        }
        Ok(sum)
    }
}

/// Creates a BPF link at an interface. Closing the descriptor detaches, so a killed process leaves nothing.
pub(crate) fn create_link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: libbpf_sys::bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let target = i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(ENODEV))?;
    let options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags,
        ..Default::default()
    };
    // SAFETY: the program's descriptor is open for the call, and `options` is a valid structure that states its size;
    // libbpf reads both and keeps neither.
    let fd = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), target, attach_type, ptr::from_ref(&options))
    };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

/// `BPF_F_BEFORE` without a relative: in front of every program that is there.
const TCX_FIRST: u32 = 1 << 3;

/// What keeps a counting program attached.
#[derive(Debug)]
enum Attachment {
    /// A BPF link; its descriptor is only ever closed.
    Link(OwnedFd),
    Clsact(#[expect(dead_code, reason = "held for its Drop")] ClsactFilter),
}

/// One counting program, attached. Dropping it detaches.
#[derive(Debug)]
pub struct InterfaceCounter {
    loaded: LoadedProgram,
    attachment: Attachment,
    frames: bool,
}

impl InterfaceCounter {
    /// Attaches with a tcx link (kernel 6.6 and later), before all other programs there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on an older kernel, [`Error::NotPermitted`] without `CAP_BPF` and `CAP_NET_ADMIN`,
    /// [`Error::NoSuchInterface`].
    pub fn attach_tcx(ifindex: u32, direction: Direction, framing: Framing) -> Result<Self> {
        let loaded = LoadedProgram::load(Program::Skb(framing))?;
        let attach_type = match direction {
            Direction::Ingress => libbpf_sys::BPF_TCX_INGRESS,
            Direction::Egress => libbpf_sys::BPF_TCX_EGRESS,
        };
        let link =
            create_link(loaded.program.as_fd(), ifindex, attach_type, TCX_FIRST).map_err(|source| {
                let action = format!("attach to tcx {}", direction.name());
                match source.raw_os_error() {
                    // Before 6.6 the attach type is unknown. Ours being valid, EINVAL has no other meaning here.
                    Some(EINVAL) => Error::Unsupported { action, source },
                    _ => Error::from_io(action, source),
                }
            })?;
        Ok(Self { loaded, attachment: Attachment::Link(link), frames: false })
    }

    /// Attaches as a filter of the clsact queueing discipline, which must be there: see [`Clsact`].
    ///
    /// # Errors
    /// [`Error::Busy`] when the handle is taken or another kind of filter has our priority, [`Error::NotPermitted`],
    /// [`Error::NoSuchInterface`], [`Error::Unsupported`] without `cls_bpf`.
    pub fn attach_clsact(place: Clsact, direction: Direction, framing: Framing) -> Result<Self> {
        let loaded = LoadedProgram::load(Program::Skb(framing))?;
        let mut hook = place.hook(loaded.program.as_fd(), direction)?;
        hook.attach().map_err(|error| {
            match Error::from_libbpf(format!("attach to clsact {}", direction.name()), error) {
                // cls_api.c: the priority belongs to filters of another kind or protocol. Ours being valid, EINVAL has
                // no other meaning here.
                Error::Kernel { action, source } if source.raw_os_error() == Some(EINVAL) => {
                    Error::Busy { action, source }
                }
                error => error,
            }
        })?;
        let attachment = Attachment::Clsact(ClsactFilter { place, direction });
        Ok(Self { loaded, attachment, frames: false })
    }

    /// Attaches with an XDP link, in the driver where it can and in the generic stack elsewhere; incoming packets only.
    ///
    /// On request only: it may slow the device's traffic (a veth loses segmentation offload, and with it half its
    /// throughput) and raises the number of packets that everybody else counts there. VLAN tags that the device takes
    /// off are not seen, and packets that an application takes by `AF_XDP` are not either.
    ///
    /// # Errors
    /// [`Error::Busy`] when another XDP program is there, [`Error::NotPermitted`], [`Error::NoSuchInterface`], and
    /// [`Error::Kernel`] when the driver refuses (an MTU too large for it).
    pub fn attach_xdp(ifindex: u32) -> Result<Self> {
        let loaded = LoadedProgram::load_xdp()?;
        let link =
            create_link(loaded.program.as_fd(), ifindex, libbpf_sys::BPF_XDP, 0).map_err(|source| {
                let action = "attach to XDP";
                match source.raw_os_error() {
                    // dev_get_by_index() failing is EINVAL here, unlike at tcx.
                    Some(EINVAL) if !exists(ifindex) => {
                        Error::NoSuchInterface { action: action.to_owned(), source }
                    }
                    _ => Error::from_io(action, source),
                }
            })?;
        // include/uapi/linux/if_link.h: XDP_ATTACHED_SKB. Unknown counts as native, which is what was asked for.
        const GENERIC: u8 = 2;
        let frames = xdp_attach_mode(ifindex).map_or(true, |mode| mode != GENERIC);
        Ok(Self { loaded, attachment: Attachment::Link(link), frames })
    }

    /// What was counted since the attachment, summed over the CPUs. A system call for each class; some
    /// ten microseconds. Packets that come meanwhile may be in one class and not yet in another.
    ///
    /// After the interface is gone the counters stay readable and stand still.
    ///
    /// # Errors
    /// [`Error::Kernel`], which means a fault of this crate.
    pub fn read(&self) -> Result<InterfaceCounters> {
        self.loaded.read()
    }

    /// Whether a link is still that of an interface: one that was removed may have come back, under its number even, and
    /// the link does not. Of a filter of clsact only its discipline can tell, so that it says always yes.
    pub fn is_attached(&self) -> bool {
        let Attachment::Link(link) = &self.attachment else { return true };
        match LinkInfo::from_fd(link.as_fd()).map(|link| link.info) {
            Ok(LinkTypeInfo::Tcx(tcx)) => tcx.ifindex != 0,
            Ok(LinkTypeInfo::Xdp(xdp)) => xdp.ifindex != 0,
            _ => true,
        }
    }

    /// Whether frames are counted (XDP in the driver) and not socket buffers.
    pub fn counts_frames(&self) -> bool {
        self.frames
    }
}

/// Whether there is an interface with this index; where that cannot be told, yes.
fn exists(ifindex: u32) -> bool {
    use rustix::{
        io::Errno,
        net::{AddressFamily, SocketFlags, SocketType, netdevice::index_to_name_inlined, socket_with},
    };

    let name = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| index_to_name_inlined(&socket, ifindex));
    !matches!(name, Err(Errno::NODEV | Errno::NXIO))
}

/// Where the XDP program of an interface runs, `XDP_ATTACHED_NONE` without one. libbpf asks by netlink, as any user may.
fn xdp_attach_mode(ifindex: u32) -> io::Result<u8> {
    let ifindex = i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(ENODEV))?;
    let mut options = libbpf_sys::bpf_xdp_query_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_query_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    // SAFETY: `options` is a valid structure that states its size; libbpf writes into it and does not keep it.
    let status = unsafe { libbpf_sys::bpf_xdp_query(ifindex, 0, &raw mut options) };
    if status == 0 { Ok(options.attach_mode) } else { Err(io::Error::from_raw_os_error(-status)) }
}

/// A place for a filter in the clsact queueing discipline of an interface.
///
/// For kernels without tcx. Unlike a link, neither discipline nor filter ends with the process: whoever uses this must
/// look for what a killed process left behind, and remove it by its handle. netmon-core does so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Clsact {
    /// The interface.
    pub ifindex: u32,
    /// The filter's handle; unique for the interface, the direction and [`Clsact::PRIORITY`].
    pub handle: u32,
}

impl Clsact {
    /// The priority of our filters: the first, so that no other filter ends a packet before it is counted.
    pub const PRIORITY: u32 = 1;

    /// Creates the queueing discipline if it is not there. True when it was not.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] without `CAP_NET_ADMIN`, [`Error::NoSuchInterface`], [`Error::Unsupported`] without
    /// `sch_ingress`.
    pub fn create_qdisc(ifindex: u32) -> Result<bool> {
        object::route_libbpf_messages();
        let mut hook = both_directions(ifindex)?;
        // SAFETY: `hook` is a valid structure that states its size; libbpf reads it.
        let status = unsafe { libbpf_sys::bpf_tc_hook_create(&raw mut hook) };
        match -status {
            0 => Ok(true),
            EEXIST => Ok(false),
            errno => {
                let action = "create the clsact queueing discipline";
                let source = io::Error::from_raw_os_error(errno);
                // The kernel says ENOENT when it has no such discipline and no module for it.
                if errno == ENOENT {
                    return Err(Error::Unsupported { action: action.to_owned(), source });
                }
                Err(Error::from_io(action, source))
            }
        }
    }

    /// Removes the queueing discipline with every filter in it, whoever's they are. Removing what is not there is fine.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] without `CAP_NET_ADMIN`.
    pub fn remove_qdisc(ifindex: u32) -> Result<()> {
        object::route_libbpf_messages();
        let mut hook = both_directions(ifindex)?;
        // SAFETY: as in `create_qdisc`.
        let status = unsafe { libbpf_sys::bpf_tc_hook_destroy(&raw mut hook) };
        match -status {
            0 | ENOENT | EINVAL | ENODEV => Ok(()),
            errno => Err(Error::from_io(
                "remove the clsact queueing discipline",
                io::Error::from_raw_os_error(errno),
            )),
        }
    }

    /// Removes the filter at this place. Removing what is not there is fine.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] without `CAP_NET_ADMIN`.
    pub fn remove_filter(self, direction: Direction) -> Result<()> {
        object::route_libbpf_messages();
        // Detaching goes by handle and priority; the descriptor is not looked at, but the builder wants one.
        let stdin = io::stdin();
        match self.hook(stdin.as_fd(), direction)?.detach() {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = Error::from_libbpf("remove a clsact filter", error);
                match error.errno() {
                    Some(ENOENT | EINVAL | ENODEV) => Ok(()),
                    _ => Err(error),
                }
            }
        }
    }

    fn hook(self, program: BorrowedFd<'_>, direction: Direction) -> Result<TcHook> {
        Ok(TcHookBuilder::new(program)
            .ifindex(tc_ifindex(self.ifindex)?)
            .replace(false)
            .handle(self.handle)
            .priority(Self::PRIORITY)
            .hook(match direction {
                Direction::Ingress => TC_INGRESS,
                Direction::Egress => TC_EGRESS,
            }))
    }
}

fn tc_ifindex(ifindex: u32) -> Result<i32> {
    i32::try_from(ifindex)
        .map_err(|_| Error::from_io("use traffic control", io::Error::from_raw_os_error(ENODEV)))
}

fn both_directions(ifindex: u32) -> Result<libbpf_sys::bpf_tc_hook> {
    Ok(libbpf_sys::bpf_tc_hook {
        sz: size_of::<libbpf_sys::bpf_tc_hook>() as libbpf_sys::size_t,
        ifindex: tc_ifindex(ifindex)?,
        attach_point: libbpf_sys::BPF_TC_INGRESS | libbpf_sys::BPF_TC_EGRESS,
        ..Default::default()
    })
}

/// Removes its filter when dropped. The queueing discipline is its creator's business.
#[derive(Debug)]
struct ClsactFilter {
    place: Clsact,
    direction: Direction,
}

impl Drop for ClsactFilter {
    fn drop(&mut self) {
        if let Err(error) = self.place.remove_filter(self.direction) {
            tracing::warn!(
                ifindex = self.place.ifindex,
                handle = self.place.handle,
                "a clsact filter stays behind: {error}"
            );
        }
    }
}
