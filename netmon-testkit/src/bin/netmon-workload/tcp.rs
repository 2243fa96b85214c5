//! Connections: how they are opened, what goes over them, and the one-shot client.

use std::{
    io::{self, Read as _, Write as _},
    iter,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
};

use netmon_testkit::{
    PATIENCE,
    workload::{Event, Protocol, Truth},
};
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, setsockopt,
    sockopt::{Linger, ReuseAddr, TcpUserTimeout},
};

use crate::{
    Result,
    arguments::Arguments,
    serve::in_threads,
    set_name,
    tell::{ended, now_ns, tell, truth, with_socket, with_state},
    wait_until_told,
};

/// What goes over a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) send: u64,
    pub(crate) receive: u64,
    /// The server closes when it has sent all, and does not wait for the client's end.
    pub(crate) server_closes: bool,
}

impl Exchange {
    pub(crate) fn of(arguments: &mut Arguments) -> Result<Self> {
        Ok(Self {
            send: arguments.number("--send", 0)?,
            receive: arguments.number("--receive", 0)?,
            server_closes: arguments.flag("--server-closes"),
        })
    }

    /// As words, for another process of this program.
    pub(crate) fn words(self) -> Vec<String> {
        let mut words =
            vec!["--send".into(), self.send.to_string(), "--receive".into(), self.receive.to_string()];
        words.extend(self.server_closes.then(|| "--server-closes".into()));
        words
    }

    /// Sends, then receives.
    pub(crate) fn by_client(self, stream: &TcpStream, truth: &mut Truth) -> io::Result<()> {
        send(stream, self.send, truth)?;
        receive(stream, self.receive, truth)
    }

    /// Receives, then sends.
    pub(crate) fn by_server(self, stream: &TcpStream, truth: &mut Truth) -> io::Result<()> {
        receive(stream, self.receive, truth)?;
        send(stream, self.send, truth)
    }
}

const CHUNK: u64 = 1 << 16;

fn send(mut stream: &TcpStream, bytes: u64, truth: &mut Truth) -> io::Result<()> {
    let chunk = [0x6e; CHUNK as usize];
    let mut left = bytes;
    while left > 0 {
        let sent = stream.write(&chunk[..left.min(CHUNK) as usize])? as u64;
        truth.sent += sent;
        left -= sent;
    }
    Ok(())
}

/// Receives that many bytes, or fewer if the other side sends no more.
pub(crate) fn receive(mut stream: &TcpStream, bytes: u64, truth: &mut Truth) -> io::Result<()> {
    let mut chunk = [0; CHUNK as usize];
    let mut left = bytes;
    while left > 0 {
        let received = stream.read(&mut chunk[..left.min(CHUNK) as usize])? as u64;
        if received == 0 {
            break;
        }
        truth.received += received;
        left -= received;
    }
    Ok(())
}

/// Receives until the other side sends no more.
pub(crate) fn drain(stream: &TcpStream, truth: &mut Truth) -> io::Result<()> {
    receive(stream, u64::MAX, truth)
}

/// What a client's socket is to be like.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) bind: Option<SocketAddr>,
    pub(crate) user_timeout: Option<u32>,
    pub(crate) nonblocking: bool,
}

impl Options {
    pub(crate) fn of(arguments: &mut Arguments) -> Result<Self> {
        Ok(Self {
            bind: arguments.option("--bind")?,
            user_timeout: arguments.option("--user-timeout")?,
            nonblocking: false,
        })
    }
}

pub(crate) fn family(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// A socket that is not connected yet.
pub(crate) fn unconnected(to: &SocketAddr, options: Options) -> io::Result<OwnedFd> {
    let mut flags = SockFlag::SOCK_CLOEXEC;
    flags.set(SockFlag::SOCK_NONBLOCK, options.nonblocking);
    let socket = socket::socket(family(to), SockType::Stream, flags, None)?;
    if let Some(timeout) = options.user_timeout {
        setsockopt(&socket, TcpUserTimeout, &timeout)?;
    }
    if let Some(address) = options.bind {
        setsockopt(&socket, ReuseAddr, &true)?;
        socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    }
    Ok(socket)
}

/// Connects; `std` would not tell the address of a socket that failed to.
pub(crate) fn connect(socket: &OwnedFd, to: &SocketAddr) -> io::Result<()> {
    socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(*to)).map_err(Into::into)
}

/// A stream that does not wait for ever.
pub(crate) fn stream(socket: OwnedFd) -> io::Result<TcpStream> {
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Opens a connection and tells so. `Ok(Err(..))`: it could not be opened, which has been told too.
pub(crate) fn open(
    role: &str,
    to: &SocketAddr,
    options: Options,
) -> Result<std::result::Result<(TcpStream, Truth), Truth>> {
    let mut beginning = truth(Event::Done, role, Protocol::Tcp);
    beginning.peer = Some(*to);
    let socket = match unconnected(to, options) {
        Ok(socket) => socket,
        Err(error) => return failed(beginning, error),
    };
    // Before and after: a failed connect forgets the addresses.
    let beginning = with_socket(beginning, &socket);
    match connect(&socket, to) {
        Ok(()) => {
            let mut opened = with_socket(beginning, &socket);
            opened.connections = 1;
            opened.end_ns = now_ns();
            tell(&Truth { event: Event::Opened, ..opened.clone() })?;
            Ok(Ok((stream(socket)?, opened)))
        }
        Err(error) => failed(beginning, error),
    }
}

fn failed(beginning: Truth, error: io::Error) -> Result<std::result::Result<(TcpStream, Truth), Truth>> {
    let mut ended = ended(beginning, &Err(error));
    ended.failures = 1;
    tell(&ended)?;
    Ok(Err(ended))
}

/// So that closing it resets the connection.
pub(crate) fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    setsockopt(stream, Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).map_err(Into::into)
}

/// Closes it, and tells how all of it went.
pub(crate) fn finish(stream: TcpStream, known: Truth, outcome: &io::Result<()>) -> Result<()> {
    drop(stream);
    tell(&ended(Truth { event: Event::Done, ..known }, outcome))
}

/// A listening socket with a queue as long as the machine allows.
pub(crate) fn listen(address: &SocketAddr) -> io::Result<TcpListener> {
    let socket = socket::socket(family(address), SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(*address))?;
    socket::listen(&socket, Backlog::MAXALLOWABLE)?;
    Ok(TcpListener::from(socket))
}

/// `connect`: opens a connection, exchanges, closes.
pub(crate) fn client(mut arguments: Arguments, mapped: bool) -> Result<()> {
    set_name(arguments.option("--comm")?)?;
    let thread: Option<String> = arguments.option("--thread")?;
    let exchange = Exchange::of(&mut arguments)?;
    let options = Options::of(&mut arguments)?;
    let [half_close, hold, reset] = ["--half-close", "--hold", "--reset"].map(|flag| arguments.flag(flag));
    let delay = arguments.milliseconds("--close-delay", 0)?;
    let mut to = arguments.address()?;
    arguments.end()?;
    if let (SocketAddr::V4(address), true) = (to, mapped) {
        to = SocketAddr::from((address.ip().to_ipv6_mapped(), address.port()));
    }

    let part = || {
        let Ok((stream, mut known)) = open("client", &to, options)? else { return Ok(()) };
        let mut outcome = exchange.by_client(&stream, &mut known);
        if hold && outcome.is_ok() {
            tell(&Truth { event: Event::Ready, end_ns: now_ns(), ..with_state(known.clone(), &stream) })?;
            wait_until_told();
        }
        outcome = outcome.and_then(|()| {
            if half_close {
                stream.shutdown(Shutdown::Write)?;
                drain(&stream, &mut known)?;
            }
            thread::sleep(delay);
            if reset { reset_on_close(&stream) } else { Ok(()) }
        });
        finish(stream, known, &outcome)
    };
    match thread {
        Some(name) => in_threads(iter::once(name), part),
        None => part(),
    }
}
