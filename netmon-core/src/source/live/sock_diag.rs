//! All sockets of the Internet protocols in this network namespace, as the kernel tells every user: by netlink
//! (`sock_diag`), and by `/proc/net` what that does not list or where a sandbox forbids it.
//!
//! Messages are read by hand: `struct tcp_info` grows with every other kernel, and the message types of the
//! netlink-packet-sock-diag crate refuse a socket whose kernel tells less than they know.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::unix::fs::MetadataExt as _,
    sync::Arc,
};

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::{
    kernel_error, middle, netlink, now,
    process::{ProcessTable, SocketHolders},
};
use crate::{
    answer::MissingHook,
    error::Result,
    fact::{
        Attribution, ConnectionDirection, ConnectionFact, ConnectionState, Hook, Observed, Process, Protocol,
        SocketFact, SocketSnapshot, TcpFact, TcpState, Traffic,
    },
};

/// The TCP states that are asked for. A UDP or ping socket counts as established if it has a peer, else as closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StateMask(u32);

impl StateMask {
    /// All of [`TcpState`].
    pub(super) const ALL: Self = Self(0xffe);
    /// Those in which no process may hold the socket any more, or not yet.
    pub(super) const WITHOUT_PROCESS: Self = Self(
        1 << TcpState::SynReceived as u32
            | 1 << TcpState::FinWait1 as u32
            | 1 << TcpState::FinWait2 as u32
            | 1 << TcpState::TimeWait as u32
            | 1 << TcpState::LastAck as u32
            | 1 << TcpState::Closing as u32,
    );
    /// Those that tell which connections came from outside.
    const LISTENERS: Self = Self(1 << TcpState::Listen as u32 | 1 << TcpState::Close as u32);

    fn contains(self, state: TcpState) -> bool {
        self.0 & 1 << state as u32 != 0
    }
}

/// Sockets, and what the reader should know of the list.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Without owners; the network namespace and what the kernel told are filled in.
    pub(super) sockets: Vec<SocketFact>,
    /// The netlink list, where `/proc/net` stands in for it.
    pub(super) missing: Option<MissingHook>,
    /// Sentences for people.
    pub(super) warnings: Vec<String>,
}

/// The sockets in these states, of every process or none, in the network namespace of the calling thread. No privilege is
/// needed. Costs one to two microseconds a socket.
///
/// # Errors
/// [`Error::Kernel`](crate::Error::Kernel) where neither netlink nor `/proc/net` lists any.
pub(super) fn sockets(states: StateMask) -> Result<Listing> {
    list(states).map_err(kernel_error("list the sockets"))
}

/// The connections that no process holds: handshakes that wait to be accepted, and what the kernel still has to end after
/// the process closed it.
///
/// # Errors
/// As for [`sockets`].
pub(super) fn without_process() -> Result<Listing> {
    let mut listing = sockets(StateMask::WITHOUT_PROCESS)?;
    listing.sockets.retain(|socket| socket.inode == 0);
    Ok(listing)
}

/// All sockets of this network namespace with the processes that hold them, as far as this user may see those.
///
/// # Errors
/// As for [`sockets`].
pub(super) fn snapshot(table: &ProcessTable) -> Result<SocketSnapshot> {
    let before = now();
    let Listing { mut sockets, missing, warnings } = sockets(StateMask::ALL)?;
    let at = middle(before, now());

    let sock_diag = missing.is_none().then_some(Hook::SockDiag);
    let mut observed =
        Observed { warnings, missing_hooks: missing.into_iter().collect(), ..Observed::default() };
    observed.active_hooks.extend(sock_diag);
    match table.socket_holders() {
        Ok(holders) => {
            observed.active_hooks.push(Hook::Proc);
            attribute(&mut sockets, &holders, table);
            let unknown = sockets.iter().filter(|socket| is_unattributed(socket)).count();
            observed.warnings.extend(hidden_owners(unknown, &holders));
            observed.warnings.extend(hidden_namespaces(&holders));
        }
        Err(error) => observed.missing_hooks.push(MissingHook {
            hook: Hook::Proc,
            reason: format!("cannot list /proc: {error}"),
            hides: "the processes that own sockets".to_owned(),
            fix: Some("mount /proc".to_owned()),
        }),
    }
    Ok(SocketSnapshot::new(at, sockets, observed))
}

fn is_unattributed(socket: &SocketFact) -> bool {
    socket.inode != 0 && socket.connection.process.is_none()
}

fn attribute(sockets: &mut [SocketFact], holders: &SocketHolders, table: &ProcessTable) {
    let mut known: HashMap<u32, Option<Arc<Process>>> = HashMap::new();
    for socket in sockets {
        let Some(pids) = holders.by_inode.get(&socket.inode).filter(|_| socket.inode != 0) else { continue };
        let mut processes: Vec<Arc<Process>> = pids
            .iter()
            .filter_map(|pid| known.entry(*pid).or_insert_with(|| table.lookup(*pid)).clone())
            .collect();
        processes.sort_by_key(|process| (is_service_manager(process), process.started, process.pid));
        let Some(owner) = processes.first() else { continue };
        socket.connection.process = Some(Arc::clone(owner));
        socket.connection.attribution = Attribution::Snapshot;
        if processes.len() > 1 {
            socket.holders = processes;
        }
    }
}

/// Of several holders the oldest is the owner: the server before its workers, though their numbers may have started again
/// from the bottom. But systemd only keeps the sockets that it hands to services.
fn is_service_manager(process: &Process) -> bool {
    process.comm == "systemd"
}

fn hidden_owners(unknown: usize, holders: &SocketHolders) -> Option<String> {
    if unknown == 0 || (holders.unreadable == 0 && !holders.processes_hidden) {
        return None;
    }
    let sockets = counted(unknown, "socket has", "sockets have");
    Some(if holders.processes_hidden {
        format!("{sockets} no known owner: /proc hides the processes of other users")
    } else {
        let processes = counted(holders.unreadable, "process", "processes");
        format!("{sockets} no known owner: the files of {processes} of other users cannot be read")
    })
}

fn hidden_namespaces(holders: &SocketHolders) -> Option<String> {
    if holders.other_namespaces > 0 {
        let namespaces =
            counted(holders.other_namespaces, "other network namespace", "other network namespaces");
        return Some(format!("the sockets of {namespaces} are not shown"));
    }
    (holders.unreadable > 0 || holders.processes_hidden)
        .then(|| "the sockets of other network namespaces, if there are any, are not shown".to_owned())
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The network namespace of the calling thread, by inode number; 0 where it cannot be told.
pub(super) fn network_namespace() -> u32 {
    let inode = fs::metadata("/proc/thread-self/ns/net").map_or(0, |namespace| namespace.ino());
    u32::try_from(inode).unwrap_or_default()
}

/// The kernel's counts of TCP sockets of the thread's network namespace.
#[cfg(feature = "bpf")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TcpSockets {
    /// Those in its tables: listeners, and connections that are not over.
    pub(super) in_use: u64,
    /// Those that only wait for stray packets.
    pub(super) time_wait: u64,
}

/// How many TCP sockets there are. About 20 us.
#[cfg(feature = "bpf")]
pub(super) fn tcp_sockets() -> Option<TcpSockets> {
    let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok();
    let count = |text: &str, line: &str, name: &str| {
        let mut words = text.lines().find_map(|text| text.strip_prefix(line))?.split(' ');
        words.find(|word| *word == name)?;
        words.next()?.parse::<u64>().ok()
    };
    let v4 = read("sockstat")?;
    // There is no such file where IPv6 is off.
    let v6 = read("sockstat6").unwrap_or_default();
    Some(TcpSockets {
        in_use: count(&v4, "TCP: ", "inuse")? + count(&v6, "TCP6: ", "inuse").unwrap_or(0),
        time_wait: count(&v4, "TCP: ", "tw")?,
    })
}

/// The families of addresses, with the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Family {
    V4 = 2,
    V6 = 10,
}

fn list(states: StateMask) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut found = Vec::new();
    let mut refused: Option<io::Error> = None;
    let asked = StateMask(states.0 | StateMask::LISTENERS.0);
    // A datagram socket is in no other state.
    let datagrams = [TcpState::Established, TcpState::Close].into_iter().any(|state| states.contains(state));
    let protocols: &[Protocol] =
        if datagrams { &[Protocol::Tcp, Protocol::Udp, Protocol::Icmp] } else { &[Protocol::Tcp] };

    for (protocol, family) in
        protocols.iter().flat_map(|protocol| [(*protocol, Family::V4), (*protocol, Family::V6)])
    {
        let told = match protocol {
            // Ping sockets are not in any netlink list.
            Protocol::Icmp => Err(None),
            _ => dump(protocol, family, asked).map_err(Some),
        };
        match told {
            Ok(dump) => {
                if dump.interrupted {
                    let warning = format!("the list of {protocol} sockets changed while it was read");
                    listing.warnings.push(warning);
                }
                found.extend(dump.sockets);
            }
            Err(error) => {
                match read_table(protocol, family) {
                    Ok(sockets) => found.extend(sockets),
                    // Without IPv6, or without the right to ping, there are no such tables and no such sockets.
                    Err(_) if family == Family::V6 || protocol == Protocol::Icmp => {}
                    Err(table_error) => return Err(error.unwrap_or(table_error)),
                }
                refused = refused.or(error);
            }
        }
    }
    listing.missing = refused.map(|error| MissingHook {
        hook: Hook::SockDiag,
        reason: format!("the kernel does not list sockets by netlink: {error}"),
        hides: "the cookies of these sockets, and bytes, packets and round-trip times of TCP connections"
            .to_owned(),
        fix: Some("load the modules tcp_diag and udp_diag, or allow netlink in your sandbox".to_owned()),
    });
    listing.sockets = facts(found, states);
    Ok(listing)
}

/// A socket as the kernel lists it.
#[derive(Debug, Clone, PartialEq)]
struct Listed {
    protocol: Protocol,
    /// The kernel's, which datagram sockets use too.
    state: TcpState,
    local: SocketAddr,
    remote: SocketAddr,
    /// An IPv6 socket that takes no IPv4.
    only_v6: bool,
    cookie: u64,
    inode: u64,
    receive_queue: u32,
    /// Not known of listeners in `/proc/net`.
    send_queue: Option<u32>,
    /// How often the last segment was sent again.
    retransmits: u8,
    info: Option<TcpInfo>,
}

impl Listed {
    fn is_listener(&self) -> bool {
        match self.protocol {
            Protocol::Tcp => self.state == TcpState::Listen,
            _ => self.state != TcpState::Established,
        }
    }
}

/// Where connections from outside can arrive.
struct Listeners(HashSet<(Protocol, IpAddr, u16)>);

impl Listeners {
    fn of(sockets: &[Listed]) -> Self {
        let mut places = HashSet::new();
        for socket in sockets.iter().filter(|socket| socket.is_listener()) {
            let port = socket.local.port();
            places.insert((socket.protocol, socket.local.ip(), port));
            if socket.local.ip() == Ipv6Addr::UNSPECIFIED && !socket.only_v6 {
                places.insert((socket.protocol, Ipv4Addr::UNSPECIFIED.into(), port));
            }
        }
        Self(places)
    }

    fn direction(&self, socket: &Listed) -> ConnectionDirection {
        if socket.is_listener() {
            return ConnectionDirection::None;
        }
        let (ip, port) = (socket.local.ip(), socket.local.port());
        let any: IpAddr = match ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let arrives = [ip, any].into_iter().any(|ip| self.0.contains(&(socket.protocol, ip, port)));
        if arrives { ConnectionDirection::Inbound } else { ConnectionDirection::Outbound }
    }
}

fn facts(found: Vec<Listed>, states: StateMask) -> Vec<SocketFact> {
    let listeners = Listeners::of(&found);
    let netns = network_namespace();
    // One that changes its place in the kernel's table meanwhile can come twice.
    let mut cookies = HashSet::with_capacity(found.len());
    found
        .into_iter()
        .filter(|socket| states.contains(socket.state))
        .filter(|socket| socket.cookie == 0 || cookies.insert(socket.cookie))
        .map(|socket| fact(&socket, listeners.direction(&socket), netns))
        .collect()
}

fn fact(socket: &Listed, direction: ConnectionDirection, netns: u32) -> SocketFact {
    let state = match (socket.protocol, socket.is_listener()) {
        // Its process has closed it, and the other side knows.
        (Protocol::Tcp, _) if socket.state == TcpState::FinWait2 && socket.inode == 0 => {
            ConnectionState::Closed
        }
        (Protocol::Tcp, _) => socket.state.connection_state(),
        (_, true) => ConnectionState::Listening,
        (_, false) => ConnectionState::Open,
    };
    let mut connection = ConnectionFact::new(socket.cookie, socket.protocol, state, socket.local);
    connection.direction = direction;
    connection.remote = (!socket.is_listener()).then_some(socket.remote);
    connection.netns = netns;
    if socket.protocol == Protocol::Tcp {
        let info = socket.info.as_ref();
        connection.tcp = Some(TcpFact {
            rtt_us: info.map(|info| info.rtt_us).filter(|rtt| *rtt != 0),
            retransmits: info.map_or(socket.retransmits.into(), |info| info.retransmits),
            ..TcpFact::new(socket.state)
        });
        if !socket.is_listener() {
            connection.traffic = info.and_then(|info| info.traffic(socket.state, direction));
        }
    }
    // What waits for its end, or for the end of its handshake, has no queues.
    let queues = !matches!(socket.state, TcpState::TimeWait | TcpState::SynReceived);
    SocketFact {
        inode: socket.inode,
        receive_queue: queues.then_some(socket.receive_queue),
        send_queue: socket.send_queue.filter(|_| queues),
        ..SocketFact::new(connection)
    }
}

/// What is used of `struct tcp_info`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TcpInfo {
    rtt_us: u32,
    retransmits: u32,
    bytes_acknowledged: Option<u64>,
    bytes_received: Option<u64>,
    segments_sent: Option<u32>,
    segments_received: Option<u32>,
    bytes_sent: Option<u64>,
    bytes_sent_again: Option<u64>,
}

impl TcpInfo {
    fn parse(info: &[u8]) -> Option<Self> {
        // include/uapi/linux/tcp.h; what this kernel does not have yet is behind the end. Linux 4.1 added the bytes, 4.2
        // the segments, 4.19 the bytes sent.
        Some(Self {
            rtt_us: number(info, 68)?,
            retransmits: number(info, 100)?,
            bytes_acknowledged: long_number(info, 120),
            bytes_received: long_number(info, 128),
            segments_sent: number(info, 136),
            segments_received: number(info, 140),
            bytes_sent: long_number(info, 200),
            bytes_sent_again: long_number(info, 208),
        })
    }

    /// What went over a connection in this state. The kernel counts SYN and FIN as a byte each, except among the bytes
    /// sent.
    fn traffic(&self, state: TcpState, direction: ConnectionDirection) -> Option<Traffic> {
        let fin_received = matches!(state, TcpState::CloseWait | TcpState::LastAck | TcpState::Closing);
        let syn_acknowledged = direction == ConnectionDirection::Outbound && state != TcpState::SynSent;
        let fin_acknowledged = state == TcpState::FinWait2;
        let acknowledged = || {
            let bytes = self.bytes_acknowledged?;
            Some(bytes.saturating_sub(u64::from(syn_acknowledged) + u64::from(fin_acknowledged)))
        };
        let sent = match (self.bytes_sent, self.bytes_sent_again) {
            (Some(sent), Some(again)) => sent.saturating_sub(again),
            _ => acknowledged()?,
        };
        Some(Traffic {
            payload_bytes_sent: sent,
            payload_bytes_received: self.bytes_received?.saturating_sub(u64::from(fin_received)),
            packets_sent: self.segments_sent?.into(),
            packets_received: self.segments_received?.into(),
        })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long_number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

struct Dump {
    sockets: Vec<Listed>,
    /// The list changed while the kernel wrote it, so that something may be missing.
    interrupted: bool,
}

fn dump(protocol: Protocol, family: Family, states: StateMask) -> io::Result<Dump> {
    let request = request(protocol, family, states);
    steady(|| {
        let mut sockets = Vec::new();
        let interrupted = ask(&request, |payload| sockets.extend(read_socket(protocol, payload)))?;
        Ok(Dump { sockets, interrupted })
    })
}

/// Takes a list, once more where it changed meanwhile.
fn steady(mut take: impl FnMut() -> io::Result<Dump>) -> io::Result<Dump> {
    take().and_then(|dump| if dump.interrupted { take() } else { Ok(dump) })
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(protocol: Protocol, family: Family, states: StateMask) -> Vec<u8> {
    // include/uapi/linux/sock_diag.h, inet_diag.h, netlink.h
    const NLM_F_DUMP: u16 = 0x300;
    const INFO: u8 = 1 << (INET_DIAG_INFO - 1);
    const ANY_SOCKET: [u8; 48] = [0; 48];

    let kernel_protocol = match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Icmp => 1,
    };
    message(NLM_F_DUMP, [family as u8, kernel_protocol, INFO, 0], states, &ANY_SOCKET)
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn message(flags: u16, kind: [u8; 4], states: StateMask, id: &[u8; 48]) -> Vec<u8> {
    // include/uapi/linux/sock_diag.h, inet_diag.h, netlink.h
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 0x1;
    const LENGTH: u32 = 72;
    const SEQUENCE: u32 = 1;

    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend(SEQUENCE.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(kind);
    bytes.extend(states.0.to_ne_bytes());
    bytes.extend(id);
    bytes
}

/// The user who made the TCP socket between these two places of this network namespace, which the kernel tells everybody.
/// A server on loopback learns so who asks it. `None` where there is no such socket, or no longer.
///
/// # Errors
/// [`Error::Kernel`](crate::Error::Kernel) where the kernel does not list sockets by netlink.
pub fn user_of_connection(local: SocketAddr, remote: SocketAddr) -> Result<Option<u32>> {
    const NLM_F_ACK: u16 = 0x4;
    const TCP: u8 = 6;
    const NO_SUCH_FILE: i32 = 2;
    /// Where `struct inet_diag_msg` has the user.
    const UID: usize = 64;

    let family = if local.is_ipv4() { Family::V4 } else { Family::V6 };
    let mut id = [0; 48];
    id[0..2].copy_from_slice(&local.port().to_be_bytes());
    id[2..4].copy_from_slice(&remote.port().to_be_bytes());
    for (at, address) in [(4, local.ip()), (20, remote.ip())] {
        match address {
            IpAddr::V4(address) => id[at..at + 4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => id[at..at + 16].copy_from_slice(&address.octets()),
        }
    }
    // Whatever cookie it has.
    id[40..48].fill(0xff);

    let request = message(NLM_F_ACK, [family as u8, TCP, 0, 0], StateMask::ALL, &id);
    let mut user = None;
    let asked = ask(&request, |payload| {
        user = payload.get(UID..).and_then(<[u8]>::first_chunk).map(|uid| u32::from_ne_bytes(*uid));
    });
    match asked {
        Ok(_) => Ok(user),
        Err(error) if error.raw_os_error() == Some(NO_SUCH_FILE) => Ok(None),
        Err(error) => Err(kernel_error("look up a socket")(error)),
    }
}

/// Sends a request for a list and gives every reply's payload to `read`. Returns whether the list is perhaps incomplete.
fn ask(request: &[u8], mut read: impl FnMut(&[u8])) -> io::Result<bool> {
    // The kernel writes at most 32 KiB at once.
    const BUFFER: usize = 64 * 1024;

    let socket = netlink::connect(NETLINK_SOCK_DIAG)?;
    socket.send(request, 0)?;
    let mut interrupted = false;
    let mut datagram = Vec::with_capacity(BUFFER);
    loop {
        datagram.clear();
        if socket.recv(&mut datagram, 0)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if read_datagram(&datagram, &mut interrupted, &mut read)? {
            return Ok(interrupted);
        }
    }
}

/// Gives every reply's payload to `read`; whether the last one was among them.
fn read_datagram(datagram: &[u8], interrupted: &mut bool, mut read: impl FnMut(&[u8])) -> io::Result<bool> {
    const NLMSG_ERROR: u16 = 2;
    const NLMSG_DONE: u16 = 3;
    const NLM_F_DUMP_INTR: u16 = 0x10;

    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(netlink::malformed)?;
        *interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
        let payload = message.payload();
        // Both begin with an error number, negative or 0.
        let error = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        match message.message_type() {
            NLMSG_ERROR | NLMSG_DONE if error < 0 => {
                return Err(io::Error::from_raw_os_error(error.saturating_neg()));
            }
            NLMSG_ERROR | NLMSG_DONE => return Ok(true),
            _ => read(payload),
        }
        // Messages are aligned to four bytes, the last of a datagram perhaps not.
        rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Bytes as a datagram, and as the message of a socket of each protocol.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn read_any_message(bytes: &[u8]) {
    let mut found = Vec::new();
    let mut read = |payload: &[u8]| {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            found.extend(read_socket(protocol, payload));
        }
    };
    // What is no message is refused.
    let _ = read_datagram(bytes, &mut false, &mut read);
    read(bytes);
    facts(found, StateMask::ALL);
}

/// Bytes as the tables of sockets in `/proc/net`.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn read_any_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut found = Vec::new();
    for family in [Family::V4, Family::V6] {
        found.extend(text.lines().filter_map(|line| read_row(Protocol::Tcp, family, line)));
    }
    facts(found, StateMask::ALL);
}

const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_SKV6ONLY: u16 = 11;

/// `struct inet_diag_msg` and its attributes.
fn read_socket(protocol: Protocol, payload: &[u8]) -> Option<Listed> {
    const LENGTH: usize = 72;
    const SOURCE: usize = 8;
    const DESTINATION: usize = 24;

    let message: &[u8; LENGTH] = payload.first_chunk()?;
    let word = |at| number(message, at);
    let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let interface = word(40)?;
    let mut listed = Listed {
        protocol,
        state: TcpState::from_kernel(message[1])?,
        local: address(message[0], &message[SOURCE..], port(4), interface)?,
        remote: address(message[0], &message[DESTINATION..], port(6), interface)?,
        only_v6: false,
        cookie: u64::from(word(44)?) | u64::from(word(48)?) << 32,
        inode: word(68)?.into(),
        receive_queue: word(56)?,
        send_queue: word(60),
        retransmits: message[3],
        info: None,
    };
    for attribute in netlink::attributes(payload, LENGTH) {
        match attribute.kind() {
            INET_DIAG_INFO => listed.info = TcpInfo::parse(attribute.value()),
            INET_DIAG_SKV6ONLY => listed.only_v6 = attribute.value().first().is_some_and(|only| *only != 0),
            _ => {}
        }
    }
    Some(listed)
}

/// An address of one of the families; v4-mapped ones as IPv4, link-local ones with their interface.
fn address(family: u8, bytes: &[u8], port: u16, interface: u32) -> Option<SocketAddr> {
    if family == Family::V4 as u8 {
        return Some(SocketAddr::new(Ipv4Addr::from(*bytes.first_chunk()?).into(), port));
    }
    if family != Family::V6 as u8 {
        return None;
    }
    let ip = Ipv6Addr::from(*bytes.first_chunk::<16>()?);
    if let Some(ip) = ip.to_ipv4_mapped() {
        return Some(SocketAddr::new(ip.into(), port));
    }
    let scope = if ip.is_unicast_link_local() { interface } else { 0 };
    Some(SocketAddrV6::new(ip, port, 0, scope).into())
}

/// The sockets in a table of `/proc/net`, which tells less: no cookies, no traffic, and it takes longer.
fn read_table(protocol: Protocol, family: Family) -> io::Result<Vec<Listed>> {
    let version = match family {
        Family::V4 => "",
        Family::V6 => "6",
    };
    let table = fs::read_to_string(format!("/proc/thread-self/net/{protocol}{version}"))?;
    // The first line is a heading.
    Ok(table.lines().skip(1).filter_map(|line| read_row(protocol, family, line)).collect())
}

fn read_row(protocol: Protocol, family: Family, line: &str) -> Option<Listed> {
    let hexadecimal = |text: &str| u32::from_str_radix(text, 16).ok();
    // sl local remote state tx_queue:rx_queue timer:when retransmits uid timeout inode ...
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = table_address(family, fields.next()?)?;
    let remote = table_address(family, fields.next()?)?;
    let state = TcpState::from_kernel(u8::try_from(hexadecimal(fields.next()?)?).ok()?)?;
    let (send_queue, receive_queue) = fields.next()?.split_once(':')?;
    let retransmits = hexadecimal(fields.nth(1)?)?;
    let inode = fields.nth(2)?.parse().ok()?;
    Some(Listed {
        protocol,
        state,
        local,
        remote,
        only_v6: false,
        cookie: 0,
        inode,
        receive_queue: hexadecimal(receive_queue)?,
        send_queue: if state == TcpState::Listen { None } else { hexadecimal(send_queue) },
        retransmits: u8::try_from(retransmits).unwrap_or(u8::MAX),
        info: None,
    })
}

/// `0100007F:1F90`: the bytes of an address in groups of four as the host's numbers, and the port.
fn table_address(family: Family, text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..words.len()).step_by(8) {
        let word = u32::from_str_radix(words.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    address(family as u8, &bytes, u16::from_str_radix(port, 16).ok()?, 0)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream, UdpSocket},
        process::{Command, Stdio},
        time::Duration,
    };

    use rustix::net::{AddressFamily, SocketType};

    use super::*;

    /// Our own socket with this local address in a snapshot.
    fn find(
        snapshot: &SocketSnapshot,
        protocol: Protocol,
        local: SocketAddr,
        remote: Option<SocketAddr>,
    ) -> &SocketFact {
        let found: Vec<&SocketFact> = snapshot
            .sockets
            .iter()
            .filter(|socket| {
                let connection = &socket.connection;
                (connection.protocol, connection.local, connection.remote) == (protocol, local, remote)
            })
            .collect();
        assert_eq!(found.len(), 1, "{local} {remote:?}");
        found[0]
    }

    fn take() -> SocketSnapshot {
        snapshot(&ProcessTable::default()).unwrap()
    }

    /// The connection of ours that is, or soon will be, in this state.
    fn wait_for_any(ours: impl Fn(&ConnectionFact) -> bool, state: TcpState) -> SocketFact {
        let begun = std::time::Instant::now();
        loop {
            let wanted = |connection: &ConnectionFact| {
                ours(connection) && connection.tcp.is_some_and(|tcp| tcp.state == state)
            };
            let listing = sockets(StateMask::ALL).unwrap();
            if let Some(found) = listing.sockets.into_iter().find(|socket| wanted(&socket.connection)) {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "it never came to {state}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_for(local: SocketAddr, remote: SocketAddr, state: TcpState) -> SocketFact {
        wait_for_any(|connection| connection.local == local && connection.remote == Some(remote), state)
    }

    fn assert_ours(socket: &SocketFact) {
        let connection = &socket.connection;
        assert_eq!(connection.attribution, Attribution::Snapshot);
        assert_eq!(connection.netns, network_namespace());
        let pids: Vec<u32> = match socket.holders.as_slice() {
            [] => connection.process.iter().map(|process| process.pid).collect(),
            // A child of another test holds all for a moment, until it calls exec.
            holders => holders.iter().map(|process| process.pid).collect(),
        };
        assert_eq!(connection.process.as_ref().unwrap().pid, pids[0]);
        assert!(pids.contains(&std::process::id()), "{pids:?}");
        assert_ne!(socket.inode, 0);
        assert_ne!(connection.cookie, 0);
    }

    /// Sends so many bytes one way and one the other way over a connection, and requires both ends as they are.
    fn connection_over(listener: &TcpListener, connect_to: SocketAddr, bytes: usize) {
        let port = listener.local_addr().unwrap().port();
        let mut client = TcpStream::connect(connect_to).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&vec![7; bytes]).unwrap();
        server.read_exact(&mut vec![0; bytes]).unwrap();
        server.write_all(b"1").unwrap();
        // Not read, so that it stays in the queue.
        client.peek(&mut [0]).unwrap();

        let snapshot = take();
        let near = client.local_addr().unwrap();
        let far = SocketAddr::new(connect_to.ip().to_canonical(), port);
        let (out, back) = (
            find(&snapshot, Protocol::Tcp, near, Some(far)),
            find(&snapshot, Protocol::Tcp, far, Some(near)),
        );
        for (socket, direction, sent, received) in [
            (out, ConnectionDirection::Outbound, bytes as u64, 1),
            (back, ConnectionDirection::Inbound, 1, bytes as u64),
        ] {
            assert_ours(socket);
            let connection = &socket.connection;
            assert_eq!(connection.direction, direction);
            assert_eq!(connection.state, ConnectionState::Open);
            let traffic = connection.traffic.unwrap();
            assert_eq!((traffic.payload_bytes_sent, traffic.payload_bytes_received), (sent, received));
            assert!(traffic.packets_sent >= 2 && traffic.packets_received >= 2, "{traffic:?}");
            let tcp = connection.tcp.unwrap();
            assert_eq!(tcp.state, TcpState::Established);
            assert!(tcp.rtt_us.is_some());
        }
        assert_eq!((out.receive_queue, back.receive_queue), (Some(1), Some(0)));
        assert_ne!(out.connection.cookie, back.connection.cookie);
    }

    #[test]
    fn both_ends_of_a_connection_are_found_with_what_was_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        connection_over(&listener, listener.local_addr().unwrap(), 100_000);
    }

    #[test]
    fn both_ends_over_ipv6_are_found() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        connection_over(&listener, listener.local_addr().unwrap(), 1);
    }

    #[test]
    fn ipv4_that_comes_to_an_ipv6_listener_is_inbound_ipv4() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        connection_over(&listener, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), 1000);
        // From an IPv6 socket too, which is what some programs do.
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        let client = TcpStream::connect((mapped, port)).unwrap();
        let near = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), client.local_addr().unwrap().port());
        let far = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        assert_ours(find(&take(), Protocol::Tcp, near, Some(far)));
    }

    #[test]
    fn a_listener_tells_who_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let clients = [TcpStream::connect(local).unwrap(), TcpStream::connect(local).unwrap()];
        let snapshot = take();
        let socket = find(&snapshot, Protocol::Tcp, local, None);
        assert_ours(socket);
        assert_eq!(socket.connection.state, ConnectionState::Listening);
        assert_eq!(socket.connection.direction, ConnectionDirection::None);
        assert_eq!(socket.connection.tcp.unwrap().state, TcpState::Listen);
        assert_eq!(socket.connection.traffic, None);
        assert_eq!(socket.receive_queue, Some(2));
        assert!(socket.send_queue.unwrap() >= 128, "the limit that std sets, or somaxconn");

        // Established, and nobody has accepted it.
        let near = clients[0].local_addr().unwrap();
        let waiting = find(&snapshot, Protocol::Tcp, local, Some(near));
        assert_eq!((waiting.inode, waiting.connection.process.as_ref()), (0, None));
        assert_eq!(waiting.connection.attribution, Attribution::Unknown);
        assert_eq!(waiting.connection.direction, ConnectionDirection::Inbound);
    }

    #[test]
    fn a_udp_socket_listens_until_it_has_a_peer() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("[::]:0").unwrap();
        let local = socket.local_addr().unwrap();
        let snapshot = take();
        let found = find(&snapshot, Protocol::Udp, local, None);
        assert_ours(found);
        assert_eq!(found.connection.state, ConnectionState::Listening);
        assert_eq!(found.connection.direction, ConnectionDirection::None);
        assert_eq!((found.receive_queue, found.connection.tcp), (Some(0), None));

        let far = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), peer.local_addr().unwrap().port());
        socket.connect(far).unwrap();
        peer.send_to(b"x", local).unwrap();
        socket.peek(&mut [0]).unwrap();
        let snapshot = take();
        let found = find(&snapshot, Protocol::Udp, local, Some(far));
        assert_ours(found);
        assert_eq!(found.connection.state, ConnectionState::Open);
        assert_eq!(found.connection.direction, ConnectionDirection::Outbound);
        assert!(found.receive_queue.unwrap() > 0);
    }

    #[test]
    fn what_one_side_closed_is_in_its_last_states() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(local).unwrap();
        let near = client.local_addr().unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"12345").unwrap();
        drop(client);
        server.read_to_end(&mut Vec::new()).unwrap();

        let waits = wait_for(local, near, TcpState::CloseWait);
        assert_eq!(waits.connection.state, ConnectionState::Open);
        let traffic = waits.connection.traffic.unwrap();
        assert_eq!((traffic.payload_bytes_sent, traffic.payload_bytes_received), (0, 5), "without the FIN");
        // Its acknowledgement may be delayed.
        let orphan = wait_for(near, local, TcpState::FinWait2);
        assert_eq!((orphan.inode, orphan.connection.state), (0, ConnectionState::Closed));
        // The socket that is left of it knows no traffic.
        assert!(orphan.connection.traffic.is_none_or(|traffic| traffic.payload_bytes_sent == 5));

        drop(server);
        let over = wait_for(near, local, TcpState::TimeWait);
        assert_eq!(over.connection.state, ConnectionState::Closed);
        assert_eq!(over.connection.direction, ConnectionDirection::Outbound);
        assert_eq!((over.receive_queue, over.send_queue), (None, None));
        let listing = without_process().unwrap();
        assert!(listing.sockets.iter().all(|socket| socket.inode == 0));
        assert!(listing.sockets.iter().any(|socket| socket.connection.local == near));
    }

    #[test]
    fn an_attempt_that_nobody_answers_is_opening() {
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&listener, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let local = SocketAddr::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
        // The one place is taken, so the next is left without an answer.
        let _accepted = TcpStream::connect(local).unwrap();
        let waiting = std::thread::spawn(move || TcpStream::connect_timeout(&local, Duration::from_secs(2)));
        let found = wait_for_any(|connection| connection.remote == Some(local), TcpState::SynSent);
        assert_eq!(found.connection.state, ConnectionState::Opening);
        assert_eq!(found.connection.direction, ConnectionDirection::Outbound);
        assert_eq!(found.connection.traffic.unwrap().payload_bytes_sent, 0);
        drop(listener);
        assert!(waiting.join().unwrap().is_err());
    }

    #[test]
    fn a_socket_that_a_child_inherits_has_several_holders_and_then_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let inherited = std::os::fd::OwnedFd::from(listener.try_clone().unwrap());
        let mut child = Command::new("sleep").arg("100").stdin(Stdio::from(inherited)).spawn().unwrap();
        let snapshot = take();
        let socket = find(&snapshot, Protocol::Tcp, local, None);
        assert_ours(socket);
        let holders: Vec<u32> = socket.holders.iter().map(|process| process.pid).collect();
        assert!(holders.contains(&child.id()) && holders.contains(&std::process::id()), "{holders:?}");
        assert_eq!(socket.connection.process.as_ref().unwrap().pid, std::process::id(), "the older");

        child.kill().unwrap();
        child.wait().unwrap();
        let snapshot = take();
        let socket = find(&snapshot, Protocol::Tcp, local, None);
        assert_ours(socket);
        assert!(socket.holders.iter().all(|process| process.pid != child.id()));
    }

    #[test]
    fn proc_net_tells_of_the_same_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dual = TcpListener::bind("[::]:0").unwrap();
        let datagrams = UdpSocket::bind("[::1]:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let cases = [
            (Protocol::Tcp, Family::V4, listener.local_addr().unwrap()),
            (Protocol::Tcp, Family::V4, client.local_addr().unwrap()),
            (Protocol::Tcp, Family::V6, dual.local_addr().unwrap()),
            (Protocol::Udp, Family::V6, datagrams.local_addr().unwrap()),
        ];
        for (protocol, family, local) in cases {
            let by_netlink = dump(protocol, family, StateMask::ALL).unwrap().sockets;
            let by_table = read_table(protocol, family).unwrap();
            let ours = |list: Vec<Listed>| {
                list.into_iter().find(|socket| socket.local == local && socket.inode != 0).unwrap()
            };
            let (netlink, table) = (ours(by_netlink), ours(by_table));
            let expected = Listed {
                cookie: 0,
                info: None,
                only_v6: false,
                send_queue: netlink.send_queue.filter(|_| netlink.state != TcpState::Listen),
                ..netlink
            };
            assert_eq!(table, expected);
        }
    }

    #[test]
    fn rows_of_proc_net_are_read() {
        let row = "   0: 0100007F:14E9 0200007F:0035 01 00000010:00000203 00:00000000 00000003  1000        0 44018 2 0 0";
        let socket = read_row(Protocol::Udp, Family::V4, row).unwrap();
        assert_eq!(socket.local, "127.0.0.1:5353".parse().unwrap());
        assert_eq!(socket.remote, "127.0.0.2:53".parse().unwrap());
        assert_eq!((socket.send_queue, socket.receive_queue), (Some(16), 515));
        assert_eq!((socket.inode, socket.retransmits), (44018, 3));

        let row = "1: 0000000000000000FFFF00000100007F:0016 00000000000000000000000000000000:0000 0A 00000000:00000001 00:00000000 00000000 0 0 7";
        let socket = read_row(Protocol::Tcp, Family::V6, row).unwrap();
        assert_eq!(socket.local, "127.0.0.1:22".parse().unwrap());
        assert_eq!((socket.send_queue, socket.receive_queue), (None, 1));
        assert!(socket.is_listener());

        let row = "2: 00000000:0007 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 9 2 0 0";
        let socket = read_row(Protocol::Icmp, Family::V4, row).unwrap();
        let fact = fact(&socket, ConnectionDirection::None, 1);
        assert_eq!(fact.connection.state, ConnectionState::Listening);
        assert_eq!((fact.connection.remote, fact.inode), (None, 9));

        for line in ["", "1:", "1: 0100007F:14E9", "1: xx:1 yy:2 zz", "1: ü0000000:1 00000000:1 01"] {
            assert_eq!(read_row(Protocol::Udp, Family::V4, line), None, "{line}");
        }
    }

    /// A message of the kernel, with 232 bytes of `struct tcp_info` as from Linux 5.4.
    fn message(info_length: usize) -> Vec<u8> {
        let mut bytes = vec![10, 1, 0, 2];
        bytes.extend(443_u16.to_be_bytes());
        bytes.extend(50_000_u16.to_be_bytes());
        bytes.extend("::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend("fe80::2".parse::<Ipv6Addr>().unwrap().octets());
        for word in [3_u32, 0x55, 0x1, 0, 11, 12, 1000, 4711] {
            bytes.extend(word.to_ne_bytes());
        }
        let mut info = vec![0; 232];
        for (at, word) in [(68, 1500_u32), (100, 9), (136, 70), (140, 80)] {
            info[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        for (at, word) in [(120, 1001_u64), (128, 2000), (200, 1300), (208, 200)] {
            info[at..at + 8].copy_from_slice(&word.to_ne_bytes());
        }
        let unknown: [(u16, &[u8]); 3] =
            [(4000, &[1]), (INET_DIAG_SKV6ONLY, &[1]), (INET_DIAG_INFO, &info[..info_length])];
        for (kind, value) in unknown {
            bytes.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn a_message_is_read_past_attributes_that_are_not_known() {
        let socket = read_socket(Protocol::Tcp, &message(232)).unwrap();
        assert_eq!(socket.local, "10.0.0.1:443".parse().unwrap());
        assert_eq!(socket.remote, "[fe80::2%3]:50000".parse().unwrap());
        assert_eq!(socket.cookie, 0x1_0000_0055);
        assert_eq!((socket.receive_queue, socket.send_queue), (11, Some(12)));
        assert_eq!((socket.inode, socket.retransmits, socket.only_v6), (4711, 2, true));

        let connection = fact(&socket, ConnectionDirection::Outbound, 7).connection;
        assert_eq!(connection.netns, 7);
        let tcp = TcpFact { rtt_us: Some(1500), retransmits: 9, ..TcpFact::new(TcpState::Established) };
        assert_eq!(connection.tcp, Some(tcp));
        let traffic = Traffic {
            payload_bytes_sent: 1100,
            payload_bytes_received: 2000,
            packets_sent: 70,
            packets_received: 80,
        };
        assert_eq!(connection.traffic, Some(traffic));
    }

    #[test]
    fn an_older_kernel_tells_less() {
        let traffic = |length, state, direction| {
            let socket = read_socket(Protocol::Tcp, &message(length)).unwrap();
            let traffic = socket.info?.traffic(state, direction)?;
            Some((traffic.payload_bytes_sent, traffic.payload_bytes_received))
        };
        use ConnectionDirection::{Inbound, Outbound};
        // Before 4.19: what was acknowledged, without SYN and FIN.
        assert_eq!(traffic(192, TcpState::Established, Outbound), Some((1000, 2000)));
        assert_eq!(traffic(192, TcpState::Established, Inbound), Some((1001, 2000)));
        assert_eq!(traffic(192, TcpState::FinWait2, Outbound), Some((999, 2000)));
        assert_eq!(traffic(192, TcpState::CloseWait, Inbound), Some((1001, 1999)));
        // Before 4.2.
        assert_eq!(traffic(136, TcpState::Established, Outbound), None);
        let socket = read_socket(Protocol::Tcp, &message(104)).unwrap();
        assert_eq!(socket.info.unwrap().retransmits, 9);
        assert_eq!(read_socket(Protocol::Tcp, &message(100)).unwrap().info, None);
    }

    #[test]
    fn a_cut_message_is_read_as_far_as_it_goes() {
        let whole = message(232);
        for length in 0..whole.len() {
            assert_eq!(read_socket(Protocol::Tcp, &whole[..length]).is_some(), length >= 72, "{length}");
        }
    }

    #[test]
    fn a_connection_is_inbound_where_somebody_listens() {
        let socket = |state, local: &str| Listed {
            protocol: Protocol::Tcp,
            state,
            local: local.parse().unwrap(),
            remote: "192.0.2.1:9".parse().unwrap(),
            only_v6: local.starts_with("[::]:81"),
            cookie: 0,
            inode: 0,
            receive_queue: 0,
            send_queue: None,
            retransmits: 0,
            info: None,
        };
        let listeners = Listeners::of(&[
            socket(TcpState::Listen, "10.0.0.1:80"),
            socket(TcpState::Listen, "[::]:81"),
            socket(TcpState::Listen, "[::]:82"),
            socket(TcpState::Listen, "0.0.0.0:83"),
            Listed { protocol: Protocol::Udp, ..socket(TcpState::Close, "0.0.0.0:84") },
        ]);
        let cases = [
            ("10.0.0.1:80", true),
            ("10.0.0.2:80", false),
            ("10.0.0.1:81", false),
            ("[2001:db8::1]:81", true),
            ("10.0.0.1:82", true),
            ("[2001:db8::1]:82", true),
            ("10.0.0.1:83", true),
            ("[2001:db8::1]:83", false),
            ("10.0.0.1:84", false),
        ];
        for (local, inbound) in cases {
            let direction = listeners.direction(&socket(TcpState::TimeWait, local));
            assert_eq!(direction == ConnectionDirection::Inbound, inbound, "{local}");
        }
        assert_eq!(listeners.direction(&socket(TcpState::Listen, "10.0.0.1:80")), ConnectionDirection::None);
    }

    #[test]
    fn what_is_hidden_is_said() {
        let holders = |unreadable, processes_hidden, other_namespaces| SocketHolders {
            unreadable,
            processes_hidden,
            other_namespaces,
            ..SocketHolders::default()
        };
        let all = holders(0, false, 0);
        assert_eq!((hidden_owners(3, &all), hidden_namespaces(&all)), (None, None));
        assert_eq!(hidden_owners(0, &holders(9, false, 0)), None);
        assert_eq!(
            hidden_owners(1, &holders(40, false, 0)).unwrap(),
            "1 socket has no known owner: the files of 40 processes of other users cannot be read"
        );
        assert_eq!(
            hidden_owners(2, &holders(0, true, 0)).unwrap(),
            "2 sockets have no known owner: /proc hides the processes of other users"
        );
        assert_eq!(
            hidden_namespaces(&holders(0, false, 2)).unwrap(),
            "the sockets of 2 other network namespaces are not shown"
        );
        assert_eq!(
            hidden_namespaces(&holders(1, false, 0)).unwrap(),
            "the sockets of other network namespaces, if there are any, are not shown"
        );
    }

    #[test]
    fn a_list_that_changed_is_taken_once_more() {
        for (interrupted, times, warns) in
            [([false, false], 1, false), ([true, false], 2, false), ([true, true], 2, true)]
        {
            let mut taken = 0;
            let dump = steady(|| {
                taken += 1;
                Ok(Dump { sockets: Vec::new(), interrupted: interrupted[taken - 1] })
            });
            assert_eq!((taken, dump.unwrap().interrupted), (times, warns));
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_an_error() {
        let mut request = request(Protocol::Tcp, Family::V4, StateMask::ALL);
        request[16] = 255;
        assert!(ask(&request, |_| {}).is_err());
        // Ping sockets are in no list, which is why /proc/net is read.
        assert!(dump(Protocol::Icmp, Family::V4, StateMask::ALL).is_err());
    }

    #[test]
    fn the_oldest_holder_owns_a_socket_but_not_systemd() {
        let process = |pid, comm, started| Process {
            started: crate::fact::BootTime::from_ns(started),
            ..Process::new(pid, comm)
        };
        let mut holders = [process(9, "worker", 30), process(1, "systemd", 1), process(900, "nginx", 20)];
        holders.sort_by_key(|process| (is_service_manager(process), process.started, process.pid));
        assert_eq!(holders.map(|process| process.pid), [900, 9, 1]);
    }

    #[test]
    fn the_user_of_a_connection_is_known_from_both_its_ends() {
        for listener in [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("[::1]:0").unwrap()] {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let (local, own) = (server.local_addr().unwrap(), rustix::process::geteuid().as_raw());
            assert_eq!(client.local_addr().unwrap(), peer);
            assert_eq!(user_of_connection(peer, local).unwrap(), Some(own));
            assert_eq!(user_of_connection(local, peer).unwrap(), Some(own));
            let nobody = SocketAddr::new(peer.ip(), peer.port() ^ 1);
            assert_eq!(user_of_connection(nobody, local).unwrap(), None);
        }
    }
}
