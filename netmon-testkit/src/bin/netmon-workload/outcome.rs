//! `outcome`: a connection for each way in which one can end. The other side is a process of its own, role `peer`.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    thread,
    time::Duration,
};

use netmon_testkit::{
    Blackhole,
    workload::{Event, Protocol, Truth},
};

use crate::{
    Result,
    arguments::Arguments,
    helper::Helper,
    tcp::{self, Exchange, Options},
    tell::{ended, now_ns, tell, truth, with_socket, with_state},
    wait_until_told,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    /// An IPv6 socket to an IPv4 address.
    Mapped,
}

impl Family {
    fn of(self, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
        match self {
            Self::V4 => v4.into(),
            Self::V6 => v6.into(),
            Self::Mapped => v4.to_ipv6_mapped().into(),
        }
    }

    fn loopback(self) -> IpAddr {
        self.of(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
    }
}

/// What the command line asks for.
struct Asked {
    family: Family,
    to: Option<SocketAddr>,
    listen: Option<SocketAddr>,
    exchange: Exchange,
    options: Options,
    after: Duration,
}

impl Asked {
    /// Where nobody answers, unless told otherwise.
    fn target(&self, v4: Ipv4Addr, v6: Ipv6Addr) -> SocketAddr {
        self.to.unwrap_or_else(|| SocketAddr::from((self.family.of(v4, v6), 9)))
    }
}

pub(crate) fn outcome(mut arguments: Arguments) -> Result<()> {
    let exchange = Exchange {
        send: arguments.number("--send", 1000)?,
        receive: arguments.number("--receive", 2000)?,
        server_closes: false,
    };
    let mut asked = Asked {
        family: Family::V4,
        to: arguments.option("--to")?,
        listen: arguments.option("--listen")?,
        exchange,
        options: Options::of(&mut arguments)?,
        after: arguments.milliseconds("--after", 100)?,
    };
    let kind = arguments.word("a kind")?;
    asked.family = match arguments.word("a family")?.as_str() {
        "v4" => Family::V4,
        "v6" => Family::V6,
        "mapped" => Family::Mapped,
        other => return Err(format!("no family {other:?}").into()),
    };
    arguments.end()?;
    match kind.as_str() {
        "ok" | "closed-by-us" | "closed-by-peer" | "reset-by-us" | "reset-by-peer" | "close-wait"
        | "fin-wait" => with_peer(&asked, &kind),
        "refused" => refused(&asked),
        "timed-out" => attempt(asked.target(Blackhole::IPV4, Blackhole::IPV6), asked.options),
        // Of networks for documentation (RFC 5737, RFC 3849): without a default route there is no way to them.
        "unreachable" => attempt(
            asked.target(Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
            asked.options,
        ),
        "cancelled" => cancelled(&asked),
        "no-local-port" => no_local_port(&asked),
        _ => Err(format!("no outcome {kind:?}").into()),
    }
}

/// A connect that is to fail; what it does if not is told as well.
fn attempt(to: SocketAddr, options: Options) -> Result<()> {
    let Ok((stream, known)) = tcp::open("client", &to, options)? else { return Ok(()) };
    tcp::finish(stream, known, &Ok(()))
}

fn refused(asked: &Asked) -> Result<()> {
    let to = match asked.to {
        Some(to) => to,
        // A port that was free a moment ago.
        None => TcpListener::bind((asked.family.loopback(), 0))?.local_addr()?,
    };
    attempt(to, asked.options)
}

fn cancelled(asked: &Asked) -> Result<()> {
    let to = asked.target(Blackhole::IPV4, Blackhole::IPV6);
    let beginning = Truth { peer: Some(to), ..truth(Event::Done, "client", Protocol::Tcp) };
    let socket = tcp::unconnected(&to, Options { nonblocking: true, ..asked.options })?;
    let outcome = tcp::connect(&socket, &to);
    let known = with_state(beginning, &socket);
    tell(&ended(Truth { event: Event::Opened, ..known.clone() }, &outcome))?;
    thread::sleep(asked.after);
    drop(socket);
    tell(&ended(Truth { state: None, failures: 1, ..known }, &outcome))
}

fn with_peer(asked: &Asked, kind: &str) -> Result<()> {
    let (exchange, peers_kind) = (asked.exchange, kind.to_owned());
    let listen = asked.listen.unwrap_or_else(|| SocketAddr::from((asked.family.loopback(), 0)));
    // The peer receives what we send.
    let mirrored = Exchange { send: exchange.receive, receive: exchange.send, ..exchange };
    let peer = Helper::start(listen, move |listener, told| {
        let stream = tcp::stream(OwnedFd::from(listener.accept()?.0))?;
        let mut known = with_socket(truth(Event::Done, "peer", Protocol::Tcp), &stream);
        known.connections = 1;
        let outcome = mirrored
            .by_server(&stream, &mut known)
            .and_then(|()| peers_part(&peers_kind, &stream, &mut known, told));
        tcp::finish(stream, known, &outcome)
    })?;
    let Ok((stream, mut known)) = tcp::open("client", &peer.address, asked.options)? else {
        return Err("the peer could not be reached".into());
    };
    let outcome = exchange
        .by_client(&stream, &mut known)
        .and_then(|()| our_part(kind, &stream, &mut known, &peer.channel));
    tcp::finish(stream, known, &outcome)?;
    peer.end()
}

/// What the peer does when all is exchanged, before it closes.
fn peers_part(kind: &str, stream: &TcpStream, known: &mut Truth, told: &mut UnixStream) -> io::Result<()> {
    match kind {
        "closed-by-peer" => Ok(()),
        "reset-by-peer" => {
            // Not before the client has all: what is still on its way would be thrown away.
            told.read_exact(&mut [0])?;
            tcp::reset_on_close(stream)
        }
        "close-wait" => {
            stream.shutdown(Shutdown::Write)?;
            tcp::drain(stream, known)
        }
        "fin-wait" => {
            tcp::drain(stream, known)?;
            told.read_exact(&mut [0])
        }
        _ => tcp::drain(stream, known),
    }
}

/// What we do when all is exchanged, before we close.
fn our_part(kind: &str, stream: &TcpStream, known: &mut Truth, mut peer: &UnixStream) -> io::Result<()> {
    match kind {
        "closed-by-peer" => tcp::drain(stream, known),
        "reset-by-peer" => {
            peer.write_all(b"\n")?;
            tcp::drain(stream, known)
        }
        "reset-by-us" => tcp::reset_on_close(stream),
        "close-wait" => {
            tcp::drain(stream, known)?;
            hold(stream, known, "CLOSE_WAIT")
        }
        "fin-wait" => {
            stream.shutdown(Shutdown::Write)?;
            hold(stream, known, "FIN_WAIT2")
        }
        _ => Ok(()),
    }
}

/// Waits for the state, tells, and waits until told.
fn hold(stream: &TcpStream, known: &Truth, state: &str) -> io::Result<()> {
    let mut held = known.clone();
    for _ in 0..200 {
        held = Truth { event: Event::Ready, end_ns: now_ns(), ..with_state(held, stream) };
        if held.state.as_deref() == Some(state) {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    tell(&held).map_err(io::Error::other)?;
    wait_until_told();
    Ok(())
}

/// Connects until no local port is left: at most 64 connections, so the namespace's range has to be short.
fn no_local_port(asked: &Asked) -> Result<()> {
    const MOST: u64 = 64;
    // Outside of the range, which it would shorten. Nobody accepts: the connections wait in its queue.
    let address = asked.listen.unwrap_or_else(|| SocketAddr::from((asked.family.loopback(), 7777)));
    let listener = tcp::listen(&address)?;
    let mut open = Vec::new();
    for _ in 0..MOST {
        let beginning = Truth { peer: Some(address), ..truth(Event::Done, "client", Protocol::Tcp) };
        let socket = tcp::unconnected(&address, asked.options)?;
        let known = with_socket(beginning, &socket);
        let Err(error) = tcp::connect(&socket, &address) else {
            open.push(socket);
            continue;
        };
        drop(listener);
        let known = Truth { connections: open.len() as u64, failures: 1, ..known };
        return tell(&ended(known, &Err(error)));
    }
    Err(format!("{MOST} connections found a local port").into())
}
