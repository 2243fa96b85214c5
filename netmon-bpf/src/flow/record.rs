//! The records of `flow.h`, mirrored.

use std::{
    mem::{offset_of, size_of},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::skeleton::types;

/// A process from one `exec` to the next, and the thread of it that was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Process {
    /// When its leader started, in nanoseconds since boot.
    pub start_ns: u64,
    /// The number of its control group in the version 2 hierarchy: the inode of its directory.
    pub cgroup_id: u64,
    /// The thread group. 0: nobody.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The effective user.
    pub uid: u32,
    /// Grows with each `exec` of the process.
    pub exec_id: u32,
    comm: [u8; 16],
    thread_comm: [u8; 16],
}

impl Process {
    /// The name of the leader: bytes that the process chose.
    pub fn comm(&self) -> &[u8] {
        until_nul(&self.comm)
    }

    /// The name of the thread.
    pub fn thread_comm(&self) -> &[u8] {
        until_nul(&self.thread_comm)
    }

    /// Whether there is a process at all.
    pub fn is_known(&self) -> bool {
        self.pid != 0
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

const PATH_SIZE: usize = 512;
const NAME_SIZE: usize = 256;

/// What else is known of a process when it first uses the network after an `exec`.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ProcessRecord {
    kind: u32,
    /// The process that started it.
    pub parent_pid: u32,
    /// Which process.
    pub process: Process,
    exe_length: u32,
    cgroup_length: u32,
    arguments_length: u32,
    reserved: u32,
    exe: [u8; PATH_SIZE + NAME_SIZE],
    cgroup: [u8; PATH_SIZE + NAME_SIZE],
    arguments: [u8; PATH_SIZE],
}

impl ProcessRecord {
    /// The path of its program file, from the root of the file system that it sees. Empty where it has none any more.
    pub fn exe(&self) -> Vec<u8> {
        path(&self.exe, self.exe_length)
    }

    /// The path of its control group in the version 2 hierarchy.
    pub fn cgroup(&self) -> Vec<u8> {
        let path = path(&self.cgroup, self.cgroup_length);
        if path.is_empty() { b"/".to_vec() } else { path }
    }

    /// Its arguments, with spaces between them; the first 512 bytes.
    pub fn arguments(&self) -> Vec<u8> {
        let length = usize::try_from(self.arguments_length).unwrap_or(PATH_SIZE).min(PATH_SIZE);
        let mut arguments = self.arguments[..length].to_vec();
        while arguments.last() == Some(&0) {
            arguments.pop();
        }
        for byte in &mut arguments {
            if *byte == 0 {
                *byte = b' ';
            }
        }
        arguments
    }
}

/// Names from the end of a path to its root, each ending in NUL, as a path.
fn path(names: &[u8], length: u32) -> Vec<u8> {
    let length = usize::try_from(length).unwrap_or(names.len()).min(names.len());
    let mut path = Vec::with_capacity(length + 1);
    for name in names[..length].split(|byte| *byte == 0).rev() {
        if !name.is_empty() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
    }
    path
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it is as it was found.
    None,
    /// An attempt, or the first datagram.
    Opened,
    /// The end of the handshake.
    Established,
    /// The end, or the failure.
    Ended,
}

/// How the owner is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribution {
    /// Nobody was seen.
    Unknown,
    /// Seen to connect, listen, accept or use.
    Exact,
    /// The owner of the listener that accepted it.
    Inherited,
    /// Held it when all sockets were listed.
    Snapshot,
}

impl Attribution {
    pub(crate) fn from_kernel(attribution: u8) -> Self {
        match types::nm_attribution(attribution.into()) {
            types::nm_attribution::NM_ATTRIBUTION_EXACT => Self::Exact,
            types::nm_attribution::NM_ATTRIBUTION_INHERITED => Self::Inherited,
            types::nm_attribution::NM_ATTRIBUTION_SNAPSHOT => Self::Snapshot,
            _ => Self::Unknown,
        }
    }
}

/// Who began a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Not seen.
    Unknown,
    /// This side.
    Client,
    /// The other side.
    Server,
    /// It listens.
    Listener,
}

impl Role {
    fn from_kernel(role: u32) -> Self {
        match types::nm_role(role) {
            types::nm_role::NM_ROLE_CLIENT => Self::Client,
            types::nm_role::NM_ROLE_SERVER => Self::Server,
            types::nm_role::NM_ROLE_LISTENER => Self::Listener,
            _ => Self::Unknown,
        }
    }
}

/// What is written down of a TCP socket from its connecting or accepting to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct OwnerRecord {
    /// The process that connected, listens or accepted.
    pub owner: Process,
    /// The process that used it last, where it is another one.
    pub last_user: Process,
    address: u64,
    /// When it began, in nanoseconds since boot; 0 where nobody watched then.
    pub opened_ns: u64,
    /// When the handshake was done; 0 where it was not, or nobody watched.
    pub established_ns: u64,
    attribution: u8,
    role: u8,
    reserved: [u8; 2],
    remote_port: u16,
    reserved2: u16,
    remote: [u8; 16],
    local: [u8; 16],
    /// The network namespace's inode number; 0 until the handshake is done.
    pub netns: u32,
    local_port: u16,
    reserved3: u16,
}

impl OwnerRecord {
    /// How the owner is known.
    pub fn attribution(&self) -> Attribution {
        Attribution::from_kernel(self.attribution)
    }

    /// Who began it.
    pub fn role(&self) -> Role {
        Role::from_kernel(self.role.into())
    }

    /// The address on this side, once the handshake is done.
    pub fn local(&self) -> SocketAddr {
        address(self.local, self.local_port)
    }

    /// The address on the other side, once the handshake is done.
    pub fn remote(&self) -> SocketAddr {
        address(self.remote, self.remote_port)
    }
}

/// A connection, as it is or as it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ConnectionRecord {
    kind: u32,
    change: u8,
    /// `IPPROTO_TCP`, `IPPROTO_UDP`, `IPPROTO_ICMP` or `IPPROTO_ICMPV6`.
    pub protocol: u8,
    attribution: u8,
    role: u8,
    /// The state in the TCP protocol, before the change where there was one (`include/net/tcp_states.h`).
    pub state: u8,
    flags: u8,
    local_port: u16,
    remote_port: u16,
    reserved: u16,
    /// The error number; 0 where there is none.
    pub error: i32,
    /// When this was, in nanoseconds since boot.
    pub at_ns: u64,
    /// The socket's number, not used again before the next boot.
    pub cookie: u64,
    /// When it began; 0 where nobody watched then.
    pub opened_ns: u64,
    /// When the handshake was done; 0 where it was not, or nobody watched.
    pub established_ns: u64,
    /// When the last datagram went or came; 0 for TCP.
    pub last_seen_ns: u64,
    /// Payload, what was sent again not counted again.
    pub bytes_sent: u64,
    /// Payload.
    pub bytes_received: u64,
    /// TCP segments, or datagrams.
    pub packets_sent: u64,
    /// TCP segments, or datagrams.
    pub packets_received: u64,
    /// TCP segments sent again.
    pub retransmits: u32,
    /// The smoothed round-trip time in microseconds; 0 where it was not measured.
    pub rtt_us: u32,
    /// The network namespace's inode number.
    pub netns: u32,
    reserved2: u32,
    local: [u8; 16],
    remote: [u8; 16],
    /// The process that connected, listens or accepted.
    pub owner: Process,
    /// The process that used it last, where it is another one.
    pub last_user: Process,
}

impl ConnectionRecord {
    /// What happened.
    pub fn change(&self) -> Change {
        match types::nm_change(self.change.into()) {
            types::nm_change::NM_CHANGE_OPENED => Change::Opened,
            types::nm_change::NM_CHANGE_ESTABLISHED => Change::Established,
            types::nm_change::NM_CHANGE_ENDED => Change::Ended,
            _ => Change::None,
        }
    }

    /// How the owner is known.
    pub fn attribution(&self) -> Attribution {
        Attribution::from_kernel(self.attribution)
    }

    /// Who began it.
    pub fn role(&self) -> Role {
        Role::from_kernel(self.role.into())
    }

    /// The address on this side; v4-mapped addresses are IPv4.
    pub fn local(&self) -> SocketAddr {
        address(self.local, self.local_port)
    }

    /// The address on the other side; unspecified with port 0 where there is none.
    pub fn remote(&self) -> SocketAddr {
        address(self.remote, self.remote_port)
    }

    fn has(&self, flag: types::nm_connection_flags) -> bool {
        u32::from(self.flags) & flag.0 != 0
    }

    /// The other side ended sending.
    pub fn fin_received(&self) -> bool {
        self.has(types::nm_connection_flags::NM_FLAG_FIN_RECEIVED)
    }

    /// The attempt never left this host: no route, no port, or a rule forbade it.
    pub fn never_sent(&self) -> bool {
        self.has(types::nm_connection_flags::NM_FLAG_NEVER_SENT)
    }

    /// The socket has further peers, which [`FlowMonitor::flows`](super::FlowMonitor::flows) tells.
    pub fn more_peers(&self) -> bool {
        self.has(types::nm_connection_flags::NM_FLAG_MORE_PEERS)
    }

    /// It ended because nothing went over it for the idle time.
    pub fn idle(&self) -> bool {
        self.has(types::nm_connection_flags::NM_FLAG_IDLE)
    }

    /// A datagram socket with a peer of its own.
    pub fn connected(&self) -> bool {
        self.has(types::nm_connection_flags::NM_FLAG_CONNECTED)
    }

    /// Datagrams whose peers could not be told apart.
    pub fn peer_unknown(&self) -> bool {
        self.has(types::nm_connection_flags::NM_FLAG_PEER_UNKNOWN)
    }

    /// A listener to which others are just connecting: there are sockets that no process holds yet.
    pub fn handshakes(&self) -> bool {
        self.has(types::nm_connection_flags::NM_FLAG_HANDSHAKES)
    }

    /// No connection, but a process that holds a Multipath TCP socket: its TCP sockets have the same inode.
    pub fn multipath(&self) -> bool {
        self.kind == types::nm_record_type::NM_RECORD_HOLDER.0
    }

    /// The socket was closed.
    pub fn socket_closed(&self) -> bool {
        self.has(types::nm_connection_flags::NM_FLAG_SOCKET_CLOSED)
    }
}

pub(crate) fn address(address: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(address)).to_canonical(), port)
}

/// A socket: one file descriptor of a process, or a socket that no process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SocketRecord {
    /// Its connection.
    pub connection: ConnectionRecord,
    /// Its inode number; 0 where it has no file.
    pub inode: u64,
    /// Bytes not read yet; of a listener, connections not accepted yet.
    pub receive_queue: u32,
    /// Bytes not acknowledged yet; of a listener, how many connections may wait.
    pub send_queue: u32,
    /// The process that holds it.
    pub holder: Process,
}

impl SocketRecord {
    #[doc(hidden)]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self::read_from_prefix(bytes).ok()?.0)
    }
}

/// In the place of a socket's record: an established TCP connection on which nothing was sent, received or acknowledged for
/// as long as was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct QuietRecord {
    kind: u32,
    /// The network namespace's inode number.
    pub netns: u32,
    /// The socket's number.
    pub cookie: u64,
}

/// What the iterator over sockets tells of one.
#[derive(Debug, Clone, Copy)]
pub enum Listed<'a> {
    /// All of it.
    Whole(&'a SocketRecord),
    /// That it is still there as it was.
    Quiet(&'a QuietRecord),
}

impl<'a> Listed<'a> {
    /// The first of the records in these bytes, and how long it is. `None` where it is not whole.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let kind = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
        if kind == types::nm_record_type::NM_RECORD_QUIET.0 {
            let (record, _) = QuietRecord::ref_from_prefix(bytes).ok()?;
            Some((Self::Quiet(record), size_of::<QuietRecord>()))
        } else {
            let (record, _) = SocketRecord::ref_from_prefix(bytes).ok()?;
            Some((Self::Whole(record), size_of::<SocketRecord>()))
        }
    }
}

/// A time in the kernel's ticks, of which there are 100 to 1000 a second; they begin anew after some weeks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks(pub(super) u32);

/// A peer of a datagram socket beyond its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FlowKey {
    /// The socket.
    pub cookie: u64,
    remote: [u8; 16],
    remote_port: u16,
    reserved: [u16; 3],
}

impl FlowKey {
    #[doc(hidden)]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self::read_from_prefix(bytes).ok()?.0)
    }

    /// The peer.
    pub fn remote(&self) -> SocketAddr {
        address(self.remote, self.remote_port)
    }
}

/// What went between a datagram socket and a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Flow {
    /// When it began.
    pub opened_ns: u64,
    /// When the last datagram went or came.
    pub last_seen_ns: u64,
    /// Payload.
    pub bytes_sent: u64,
    /// Payload.
    pub bytes_received: u64,
    /// Datagrams.
    pub packets_sent: u64,
    /// Datagrams.
    pub packets_received: u64,
    role: u32,
    /// The error number; 0 where there was none.
    pub error: i32,
}

impl Flow {
    #[doc(hidden)]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self::read_from_prefix(bytes).ok()?.0)
    }

    /// Who sent the first datagram.
    pub fn role(&self) -> Role {
        Role::from_kernel(self.role)
    }
}

/// What the programs read at run time.
#[derive(Debug, Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Settings {
    pub(super) idle_ns: u64,
    pub(super) tell_opened: u32,
    pub(super) list_held: u32,
    pub(super) quiet: u32,
    pub(super) quiet_since: u32,
}

/// A record of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are connections, and an allocation of its own each costs more"
)]
pub enum Record {
    /// A process used the network for the first time since its last `exec`.
    Process(Box<ProcessRecord>),
    /// Something happened to a connection.
    Connection(ConnectionRecord),
}

impl Record {
    /// The record in these bytes; `None` for a kind that is not known.
    #[doc(hidden)] // Public for fuzzing alone, as are the others that read bytes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match types::nm_record_type(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)) {
            types::nm_record_type::NM_RECORD_PROCESS => {
                Some(Self::Process(Box::new(ProcessRecord::read_from_prefix(bytes).ok()?.0)))
            }
            types::nm_record_type::NM_RECORD_CONNECTION => {
                Some(Self::Connection(ConnectionRecord::read_from_prefix(bytes).ok()?.0))
            }
            _ => None,
        }
    }
}

macro_rules! pin {
    ($mirror:ty = $record:ident { $($field:ident => $name:ident),+ $(,)? }) => {
        const _: () = {
            assert!(size_of::<$mirror>() == size_of::<types::$record>());
            $(assert!(offset_of!($mirror, $field) == offset_of!(types::$record, $name));)+
        };
    };
}

// The layouts are C's: a moved or resized field fails the build here.
pin!(Process = nm_process {
    start_ns => start_ns, cgroup_id => cgroup_id, pid => pid, tid => tid, uid => uid, exec_id => exec_id, comm => comm,
    thread_comm => thread_comm,
});
pin!(ProcessRecord = nm_process_record {
    kind => r#type, parent_pid => parent_pid, process => process, exe_length => exe_length,
    cgroup_length => cgroup_length, arguments_length => arguments_length, exe => exe, cgroup => cgroup,
    arguments => arguments,
});
pin!(ConnectionRecord = nm_connection_record {
    kind => r#type, change => change, protocol => protocol, attribution => attribution, role => role, state => state,
    flags => flags, local_port => local_port, remote_port => remote_port, error => error, at_ns => at_ns,
    cookie => cookie, opened_ns => opened_ns, established_ns => established_ns, last_seen_ns => last_seen_ns,
    bytes_sent => bytes_sent, bytes_received => bytes_received, packets_sent => packets_sent,
    packets_received => packets_received, retransmits => retransmits, rtt_us => rtt_us, netns => netns, local => local,
    remote => remote, owner => owner, last_user => last_user,
});
pin!(SocketRecord = nm_socket_record {
    connection => connection, inode => inode, receive_queue => receive_queue, send_queue => send_queue, holder => holder,
});
pin!(OwnerRecord = nm_socket {
    owner => owner, last_user => last_user, address => address, opened_ns => opened_ns,
    established_ns => established_ns, attribution => attribution, role => role, remote_port => remote_port,
    remote => remote, local => local, netns => netns, local_port => local_port,
});
pin!(QuietRecord = nm_quiet_record { kind => r#type, netns => netns, cookie => cookie });
pin!(FlowKey = nm_flow_key { cookie => cookie, remote => remote, remote_port => remote_port });
pin!(Flow = nm_flow {
    opened_ns => opened_ns, last_seen_ns => last_seen_ns, bytes_sent => bytes_sent, bytes_received => bytes_received,
    packets_sent => packets_sent, packets_received => packets_received, role => role, error => error,
});
pin!(Settings = nm_settings { idle_ns => idle_ns, tell_opened => tell_opened, list_held => list_held });
