//! Datagrams, by each of the system calls that send and receive them.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
    time::Duration,
};

use netmon_testkit::{
    PATIENCE,
    workload::{Event, Protocol, Truth},
};
use nix::{
    sys::socket::{
        self, AddressFamily, ControlMessage, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType,
        SockaddrStorage, setsockopt, sockopt::UdpGsoSegment,
    },
    unistd,
};

use crate::{
    Result,
    arguments::Arguments,
    serve::in_threads,
    set_name,
    tell::{ended, internet, tell, truth, with_socket},
    wait_until_told,
};

fn any_address(like: &SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
    }
}

pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// How many `sendmmsg` and `recvmmsg` take at once.
const BATCH: u64 = 16;

/// Sends up to `count` datagrams by one call, and returns how many. Without an address the socket is connected.
fn send_some(
    socket: &UdpSocket,
    method: &str,
    payload: &[u8],
    to: Option<SocketAddr>,
    count: u64,
) -> Result<u64> {
    let (raw, flags) = (socket.as_raw_fd(), MsgFlags::empty());
    let address = to.map(SockaddrStorage::from);
    let slices = [IoSlice::new(payload)];
    let none: [ControlMessage<'_>; 0] = [];
    let sent = match (method, &address) {
        ("sendto", Some(address)) => socket::sendto(raw, payload, address, flags)?,
        ("send" | "sendto", None) => socket::send(raw, payload, flags)?,
        ("sendmsg", address) => socket::sendmsg(raw, &slices, &none, flags, address.as_ref())?,
        ("sendmmsg", address) => {
            let count = count.min(BATCH) as usize;
            let (all, addresses) = (vec![slices; count], vec![*address; count]);
            let mut headers = MultiHeaders::preallocate(count, None);
            return Ok(socket::sendmmsg(raw, &mut headers, &all, &addresses, none, flags)?.count() as u64);
        }
        ("write", None) => unistd::write(socket, payload)?,
        ("send" | "write", Some(_)) => return Err(format!("{method} needs --connected").into()),
        _ => return Err(format!("no method {method:?} to send").into()),
    };
    if sent == payload.len() { Ok(1) } else { Err(format!("{sent} bytes were sent").into()) }
}

/// What is to be sent to each peer.
struct Sending {
    datagrams: u64,
    size: u64,
    segment: Option<u16>,
    interval: Duration,
    connected: bool,
    echo: bool,
    method: String,
}

impl Sending {
    /// Datagrams on the wire that one call makes.
    fn in_one(&self) -> u64 {
        self.segment.map_or(1, |segment| self.size.div_ceil(u64::from(segment.max(1))))
    }

    /// By the calling thread; one round sends to each peer, so that the peers take turns.
    fn run(&self, socket: &UdpSocket, peers: &[SocketAddr]) -> Result<()> {
        let beginning = with_socket(truth(Event::Done, "sender", Protocol::Udp), socket);
        let mut known: Vec<Truth> =
            peers.iter().map(|peer| Truth { peer: Some(*peer), ..beginning.clone() }).collect();
        let mut left = self.datagrams;
        let payload = vec![0x6e; self.size as usize];
        let mut outcome = Ok(());
        while left > 0 && outcome.is_ok() {
            let mut most = 1;
            for known in &mut known {
                let to = known.peer.filter(|_| !self.connected);
                let wanted = if peers.len() == 1 { left } else { 1 };
                match send_some(socket, &self.method, &payload, to, wanted) {
                    Ok(sent) => {
                        known.sent += sent * self.size;
                        known.datagrams_sent += sent * self.in_one();
                        most = most.max(sent);
                    }
                    Err(error) => {
                        outcome = Err(as_io(error)?);
                        break;
                    }
                }
            }
            if self.echo && outcome.is_ok() {
                outcome = (0..most * peers.len() as u64).try_for_each(|_| take_echo(socket, &mut known));
            }
            left -= most;
            thread::sleep(self.interval);
        }
        // The port was chosen by the first datagram, if not before.
        known.into_iter().try_for_each(|known| {
            let peer = known.peer;
            tell(&Truth { peer, ..ended(with_socket(known, socket), &outcome) })
        })
    }
}

/// The failure of a system call; any other is this program's.
fn as_io(error: Box<dyn std::error::Error + Send + Sync>) -> Result<io::Error> {
    error.downcast::<nix::Error>().map(|errno| io::Error::from(*errno))
}

fn take_echo(socket: &UdpSocket, known: &mut [Truth]) -> io::Result<()> {
    let (length, from) = socket.recv_from(&mut [0; 1 << 16])?;
    if let Some(known) = known.iter_mut().find(|known| known.peer == Some(from)) {
        known.received += length as u64;
        known.datagrams_received += 1;
    }
    Ok(())
}

pub(crate) fn send(mut arguments: Arguments) -> Result<()> {
    set_name(arguments.option("--comm")?)?;
    let mut sending = Sending {
        datagrams: arguments.number("--datagrams", 1)?,
        size: arguments.number("--size", 100)?,
        segment: arguments.option("--segment")?,
        interval: Duration::from_micros(arguments.number("--interval-us", 0)?),
        connected: arguments.flag("--connected"),
        echo: arguments.flag("--echo"),
        method: arguments.option("--method")?.unwrap_or_else(|| "sendto".to_owned()),
    };
    let threads = arguments.number("--threads", 1)?;
    let hold = arguments.flag("--hold");
    let bound: Option<SocketAddr> = arguments.option("--bind")?;
    let peers = arguments.addresses()?;
    arguments.end()?;
    if sending.method == "sendmmsg" && peers.len() > 1 {
        return Err("sendmmsg sends to one address only".into());
    }
    let socket = bind(bound.unwrap_or_else(|| any_address(&peers[0])))?;
    if let Some(segment) = sending.segment {
        setsockopt(&socket, UdpGsoSegment, &i32::from(segment))?;
    }
    if sending.connected {
        let [peer] = peers[..] else { return Err("--connected takes one address".into()) };
        socket.connect(peer)?;
    }
    if threads == 1 {
        sending.run(&socket, &peers)?;
    } else {
        // Which thread takes an answer is not known.
        sending.echo = false;
        in_threads((1..=threads).map(|number| format!("sender-{number}")), || sending.run(&socket, &peers))?;
    }
    if hold {
        tell(&with_socket(truth(Event::Ready, "holder", Protocol::Udp), &socket))?;
        wait_until_told();
    }
    Ok(())
}

fn tell_ready(socket: &UdpSocket) -> Result<()> {
    tell(&with_socket(truth(Event::Ready, "receiver", Protocol::Udp), socket))
}

pub(crate) fn echo(mut arguments: Arguments) -> Result<()> {
    let count = arguments.number("--count", 1)?;
    let socket = bind(arguments.address()?)?;
    arguments.end()?;
    tell_ready(&socket)?;
    let beginning = with_socket(truth(Event::Done, "echo", Protocol::Udp), &socket);
    let mut peers: BTreeMap<SocketAddr, Truth> = BTreeMap::new();
    let mut payload = vec![0; 1 << 16];
    for _ in 0..count {
        let (length, from) = socket.recv_from(&mut payload)?;
        let known = peers.entry(from).or_insert_with(|| Truth { peer: Some(from), ..beginning.clone() });
        known.received += length as u64;
        known.datagrams_received += 1;
        known.sent += socket.send_to(&payload[..length], from)? as u64;
        known.datagrams_sent += 1;
    }
    drop(socket);
    peers.into_values().try_for_each(|known| tell(&ended(known, &Ok(()))))
}

/// Receives up to `count` datagrams by one call: the bytes of each, and who sent it where the call tells.
fn receive_some(
    socket: &UdpSocket,
    method: &str,
    buffers: &mut [Vec<u8>],
    count: u64,
) -> Result<Vec<(usize, Option<SocketAddr>)>> {
    let raw = socket.as_raw_fd();
    if method == "recvmmsg" {
        let count = count.min(BATCH) as usize;
        let mut slices: Vec<_> =
            buffers[..count].iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(count, None);
        let received =
            socket::recvmmsg(raw, &mut headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None)?;
        return Ok(received.map(|one| (one.bytes, one.address.as_ref().and_then(internet))).collect());
    }
    let buffer = &mut buffers[0];
    let one = match method {
        "recvfrom" => {
            let (length, from) = socket::recvfrom::<SockaddrStorage>(raw, buffer)?;
            (length, from.as_ref().and_then(internet))
        }
        "recv" => (socket::recv(raw, buffer, MsgFlags::empty())?, None),
        "recvmsg" => {
            let mut slices = [IoSliceMut::new(buffer)];
            let one = socket::recvmsg::<SockaddrStorage>(raw, &mut slices, None, MsgFlags::empty())?;
            (one.bytes, one.address.as_ref().and_then(internet))
        }
        "read" => (unistd::read(socket, buffer)?, None),
        _ => return Err(format!("no method {method:?} to receive").into()),
    };
    Ok(vec![one])
}

pub(crate) fn receive(mut arguments: Arguments) -> Result<()> {
    let method: String = arguments.option("--method")?.unwrap_or_else(|| "recvfrom".to_owned());
    let mut left = arguments.number("--count", 1)?;
    let socket = bind(arguments.address()?)?;
    arguments.end()?;
    tell_ready(&socket)?;
    let beginning = with_socket(truth(Event::Done, "receiver", Protocol::Udp), &socket);
    let mut peers: BTreeMap<Option<SocketAddr>, Truth> = BTreeMap::new();
    let mut buffers = vec![vec![0; 1 << 16]; BATCH as usize];
    while left > 0 {
        let received = receive_some(&socket, &method, &mut buffers, left)?;
        left -= received.len() as u64;
        for (length, from) in received {
            let known = peers.entry(from).or_insert_with(|| Truth { peer: from, ..beginning.clone() });
            known.received += length as u64;
            known.datagrams_received += 1;
        }
    }
    drop(socket);
    peers.into_values().try_for_each(|known| tell(&ended(known, &Ok(()))))
}

/// `udp-connect` and `udp-connect-send`.
pub(crate) fn connect(mut arguments: Arguments, sends: bool) -> Result<()> {
    let size = arguments.number("--size", 100)?;
    let answer = arguments.flag("--answer");
    let to = arguments.address()?;
    arguments.end()?;
    let mut known = truth(Event::Done, "client", Protocol::Udp);
    let socket = bind(any_address(&to))?;
    let outcome = socket.connect(to).and_then(|()| {
        known = with_socket(std::mem::take(&mut known), &socket);
        if sends {
            known.sent = socket.send(&vec![0x6e; size as usize])? as u64;
            known.datagrams_sent = 1;
        }
        if answer {
            known.received = socket.recv(&mut [0; 1 << 16])? as u64;
            known.datagrams_received = 1;
        }
        Ok(())
    });
    drop(socket);
    tell(&ended(known, &outcome))
}

/// Echo requests by a ping socket; the kernel writes checksum and identifier.
pub(crate) fn ping(mut arguments: Arguments) -> Result<()> {
    let (count, size) = (arguments.number("--count", 1)?, arguments.number("--size", 56)?);
    let to: IpAddr = arguments.word("an address")?.parse()?;
    arguments.end()?;
    let (family, protocol, kind) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
    };
    let mut known = truth(Event::Done, "pinger", Protocol::Icmp);
    let socket =
        UdpSocket::from(socket::socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?);
    socket.set_read_timeout(Some(PATIENCE))?;
    let outcome = (0..count).try_for_each(|sequence| {
        let mut request = vec![kind, 0, 0, 0, 0, 0];
        request.extend((sequence as u16).to_be_bytes());
        request.resize(8 + size as usize, 0x6e);
        known.sent += socket.send_to(&request, SocketAddr::from((to, 0)))? as u64;
        known.datagrams_sent += 1;
        known.received += socket.recv(&mut [0; 1 << 16])? as u64;
        known.datagrams_received += 1;
        Ok(())
    });
    known = with_socket(known, &socket);
    known.peer = Some(SocketAddr::from((to, 0)));
    drop(socket);
    tell(&ended(known, &outcome))
}
