//! Traffic of known number and size, bounded in both and in time.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, setsockopt, sockopt::UdpGsoSegment,
};

use crate::{PATIENCE, frame, netns::Netns};

/// UDP datagrams to send.
#[derive(Debug, Clone, Copy)]
pub struct Datagrams {
    /// How many.
    pub count: u32,
    /// The bytes in each, headers not counted.
    pub payload: usize,
    /// How fast, at most.
    pub per_second: u32,
}

/// A socket that datagrams can be sent to, so that the kernel does not answer that nobody is there. It need not be read.
///
/// # Panics
/// Where the address is not to be had.
#[track_caller]
pub fn bind_udp(netns: &Netns, address: SocketAddr) -> UdpSocket {
    let socket = netns.enter(|| UdpSocket::bind(address));
    socket.unwrap_or_else(|error| panic!("cannot bind {address}: {error}"))
}

fn any_address(like: IpAddr) -> SocketAddr {
    match like {
        IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
    }
}

/// Sends datagrams and returns when the last is on its way.
///
/// # Panics
/// Where one cannot be sent.
#[track_caller]
pub fn send_datagrams(netns: &Netns, to: SocketAddr, datagrams: Datagrams) {
    let socket = bind_udp(netns, any_address(to.ip()));
    let payload = vec![0x6e; datagrams.payload];
    let start = Instant::now();
    for number in 0..datagrams.count {
        let due = Duration::from_secs(u64::from(number)) / datagrams.per_second;
        // Bursts of a millisecond, smaller than any queue on the way.
        if due.saturating_sub(start.elapsed()) > Duration::from_millis(1) {
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
        let sent =
            socket.send_to(&payload, to).unwrap_or_else(|error| panic!("cannot send to {to}: {error}"));
        assert_eq!(sent, datagrams.payload);
    }
}

/// Sends datagrams that the kernel is to cut into segments of `segment` bytes (UDP segmentation offload), each a single
/// buffer on a link that need not cut them.
///
/// # Panics
/// Where one cannot be sent.
#[track_caller]
pub fn send_segmented_datagrams(netns: &Netns, to: SocketAddr, count: u32, payload: usize, segment: u16) {
    let socket = bind_udp(netns, any_address(to.ip()));
    setsockopt(&socket, UdpGsoSegment, &i32::from(segment))
        .unwrap_or_else(|error| panic!("cannot ask for UDP segmentation: {error}"));
    for _ in 0..count {
        let sent = socket.send_to(&vec![0x6e; payload], to);
        assert_eq!(sent.unwrap_or_else(|error| panic!("cannot send to {to}: {error}")), payload);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sends this many bytes over one TCP connection and waits until the receiver has them all.
///
/// # Panics
/// Where they do not arrive.
#[track_caller]
pub fn transfer_tcp(from: &Netns, to: &Netns, address: SocketAddr, bytes: usize) {
    let listener = to.enter(|| TcpListener::bind(address));
    let listener = listener.unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
    let received = thread::scope(|scope| {
        let receiver = scope.spawn(move || -> std::io::Result<usize> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let (mut buffer, mut received) = (vec![0; 1 << 18], 0);
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(received),
                    length => received += length,
                }
            }
        });
        from.enter(|| -> std::io::Result<()> {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let (chunk, mut left) = (vec![0x6e; 1 << 17], bytes);
            while left > 0 {
                let length = left.min(chunk.len());
                stream.write_all(&chunk[..length])?;
                left -= length;
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("cannot send to {address}: {error}"));
        receiver.join().unwrap_or_else(|_| panic!("the receiver panicked"))
    });
    assert_eq!(received.unwrap_or_else(|error| panic!("{address} received nothing: {error}")), bytes);
}

/// A raw or packet socket in a namespace.
#[track_caller]
fn open_socket(
    netns: &Netns,
    family: AddressFamily,
    kind: SockType,
    protocol: Option<SockProtocol>,
) -> OwnedFd {
    let socket = netns.enter(|| socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol));
    socket.unwrap_or_else(|error| panic!("cannot open a {kind:?} socket: {error}"))
}

/// Sends echo requests of 56 bytes and waits for each answer.
///
/// # Panics
/// Where one is not answered.
#[track_caller]
pub fn ping(netns: &Netns, to: IpAddr, count: u16) {
    let (family, protocol, kind) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
    };
    // A ping socket; the kernel writes checksum and identifier.
    let socket = UdpSocket::from(open_socket(netns, family, SockType::Datagram, Some(protocol)));
    let failed = |error: std::io::Error| -> ! { panic!("no answer from {to}: {error}") };
    socket.set_read_timeout(Some(PATIENCE)).unwrap_or_else(|error| failed(error));
    for sequence in 0..count {
        let mut request = vec![kind, 0, 0, 0, 0, 0];
        request.extend(sequence.to_be_bytes());
        request.resize(8 + 56, 0x6e);
        socket.send_to(&request, SocketAddr::from((to, 0))).unwrap_or_else(|error| failed(error));
        socket.recv(&mut [0; 128]).unwrap_or_else(|error| failed(error));
    }
}

/// Sends IP packets of a transport protocol that no socket type has; only SCTP so far.
///
/// # Panics
/// Where one cannot be sent.
#[track_caller]
pub fn send_sctp(netns: &Netns, to: IpAddr, payload: &[u8], count: u32) {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = UdpSocket::from(open_socket(netns, family, SockType::Raw, Some(SockProtocol::Sctp)));
    for _ in 0..count {
        let sent = socket.send_to(payload, SocketAddr::from((to, 0)));
        assert_eq!(sent.unwrap_or_else(|error| panic!("cannot send to {to}: {error}")), payload.len());
    }
}

/// Sends frames as they are.
///
/// # Panics
/// Where one cannot be sent.
#[track_caller]
pub fn send_frames(netns: &Netns, interface: &str, frames: &[Vec<u8>]) {
    // Protocol 0: it receives nothing.
    let socket = open_socket(netns, AddressFamily::Packet, SockType::Raw, None);
    let sent = netns.enter(|| -> nix::Result<()> {
        // The one safe way to an address of this family: that of the interface itself, which has its index.
        let address = nix::ifaddrs::getifaddrs()?
            .filter(|found| found.interface_name == interface)
            .find_map(|found| found.address?.as_link_addr().copied())
            .ok_or(nix::Error::ENODEV)?;
        socket::bind(socket.as_raw_fd(), &address)?;
        for frame in frames {
            assert_eq!(socket::send(socket.as_raw_fd(), frame, MsgFlags::empty())?, frame.len());
        }
        Ok(())
    });
    sent.unwrap_or_else(|error| panic!("cannot send a frame by {interface}: {error}"));
}

/// An ICMP echo request as it is in an IPv4 packet, for frames.
pub fn echo_request(payload: &[u8]) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0x6e, 0x6d, 0, 1];
    message.extend(payload);
    let sum = frame::checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}
