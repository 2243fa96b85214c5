//! Many connections or datagrams: as fast as possible, at the same time, or each by a process of its own.

use std::{
    env,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use netmon_testkit::{
    PATIENCE,
    workload::{Event, Protocol, Truth},
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        socket::{setsockopt, sockopt::RcvBufForce},
        wait::{WaitStatus, wait},
    },
};

use crate::{
    Result,
    arguments::Arguments,
    fork::{forked, wait_for},
    helper::{Helper, Place},
    tcp,
    tell::{ended, errno, tell, truth, with_socket},
    wait_until_told,
};

/// The acceptor says by one byte that it has accepted so many more. Full queues would make the kernel drop SYNs, which are
/// sent again only after a second.
const BLOCK: u64 = 256;
/// How many blocks may wait in the queue (net.core.somaxconn is 4096).
const BLOCKS_AHEAD: u64 = 8;

/// What the connecting side knows of the acceptor.
struct Pace<'a> {
    acceptor: &'a UnixStream,
    confirmed: u64,
}

impl Pace<'_> {
    /// Waits as long as the acceptor is too far behind.
    fn keep(&mut self, connections: u64) -> io::Result<()> {
        while connections / BLOCK >= self.confirmed + BLOCKS_AHEAD {
            self.confirm()?;
        }
        Ok(())
    }

    fn confirm(&mut self) -> io::Result<()> {
        self.acceptor.read_exact(&mut [0])?;
        self.confirmed += 1;
        Ok(())
    }
}

/// Accepts until told, and lets `keep` decide what becomes of each.
fn accept_all(
    listener: &TcpListener,
    channel: &mut UnixStream,
    mut keep: impl FnMut(TcpStream),
) -> Result<u64> {
    listener.set_nonblocking(true)?;
    let mut accepted = 0_u64;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                keep(stream);
                accepted += 1;
                if accepted.is_multiple_of(BLOCK) {
                    channel.write_all(&[0])?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut ready = [&listener.as_fd(), &channel.as_fd()]
                    .map(|descriptor| PollFd::new(*descriptor, PollFlags::POLLIN));
                poll(&mut ready, PollTimeout::NONE)?;
                // All that connected before we were told is in the queue, and goes first.
                if ready[0].any() != Some(true) && ready[1].any() == Some(true) {
                    return Ok(accepted);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// How long, once the other process is there.
fn seconds(arguments: &mut Arguments) -> Result<Duration> {
    let seconds: f64 = arguments.option("--seconds")?.unwrap_or(1.0);
    Ok(Duration::try_from_secs_f64(seconds)?)
}

/// The last of the arguments: where the other process is.
fn place(mut arguments: Arguments) -> Result<Place> {
    let netns = arguments.option("--netns")?;
    let address = arguments.address()?;
    arguments.end()?;
    Ok(Place { address, netns })
}

pub(crate) fn storm(mut arguments: Arguments) -> Result<()> {
    let close: String = arguments.option("--close")?.unwrap_or_else(|| "reset".to_owned());
    let most = arguments.number("--connections", u64::MAX)?;
    let time = seconds(&mut arguments)?;
    let place = place(arguments)?;
    if !matches!(close.as_str(), "reset" | "fin") {
        return Err(format!("no way to close {close:?}").into());
    }

    let acceptor = Helper::start(place, |listener, channel| {
        let mut known = with_socket(truth(Event::Done, "acceptor", Protocol::Tcp), &listener);
        known.connections = accept_all(&listener, channel, drop)?;
        tell(&ended(known, &Ok(())))
    })?;
    let mut known = Truth { peer: Some(acceptor.address), ..truth(Event::Done, "client", Protocol::Tcp) };
    let mut pace = Pace { acceptor: &acceptor.channel, confirmed: 0 };
    let mut first_failure = Ok(());
    let until = Instant::now() + time;
    while known.connections < most && Instant::now() < until {
        match TcpStream::connect(acceptor.address) {
            Ok(stream) => {
                known.connections += 1;
                if close == "reset" {
                    // Neither side keeps a port in TIME_WAIT, so the ports never run out.
                    tcp::reset_on_close(&stream)?;
                }
            }
            Err(error) => {
                known.failures += 1;
                first_failure = first_failure.and(Err(error));
                thread::sleep(Duration::from_millis(1));
            }
        }
        pace.keep(known.connections)?;
    }
    tell(&ended(known, &first_failure))?;
    acceptor.end()
}

pub(crate) fn flood(mut arguments: Arguments) -> Result<()> {
    let size = arguments.number("--size", 100)?;
    let most = arguments.number("--datagrams", u64::MAX)?;
    let per_second: Option<u32> = arguments.option("--per-second")?;
    let time = seconds(&mut arguments)?;
    let place = place(arguments)?;

    let receiver = Helper::start_udp(place, |socket, channel| {
        let _ = setsockopt(&socket, RcvBufForce, &(64 << 20));
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        channel.set_nonblocking(true)?;
        let mut known = with_socket(truth(Event::Done, "receiver", Protocol::Udp), &socket);
        let mut buffer = vec![0; 1 << 16];
        loop {
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    known.received += length as u64;
                    known.datagrams_received += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if channel.read(&mut [0]).is_ok() {
                        return tell(&ended(known, &Ok(())));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    })?;
    let beginning = truth(Event::Done, "sender", Protocol::Udp);
    let any = if receiver.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = crate::udp::bind(any.parse()?)?;
    socket.connect(receiver.address)?;
    let mut known = with_socket(beginning, &socket);
    let payload = vec![0x6e; size as usize];
    let mut first_failure = Ok(());
    let start = Instant::now();
    while known.datagrams_sent < most && start.elapsed() < time {
        if let Some(per_second) = per_second {
            keep_to(start, known.datagrams_sent, per_second);
        }
        match socket.send(&payload) {
            Ok(length) => {
                known.sent += length as u64;
                known.datagrams_sent += 1;
            }
            Err(error) => {
                known.failures += 1;
                first_failure = first_failure.and(Err(error));
            }
        }
    }
    tell(&ended(known, &first_failure))?;
    receiver.end()
}

/// Waits until as many datagrams are due, in bursts of a millisecond.
fn keep_to(start: Instant, sent: u64, per_second: u32) {
    let due = Duration::from_secs_f64(sent as f64 / f64::from(per_second));
    let early = due.saturating_sub(start.elapsed());
    if early > Duration::from_millis(1) {
        thread::sleep(early);
    }
}

pub(crate) fn bulk(mut arguments: Arguments) -> Result<()> {
    let time = seconds(&mut arguments)?;
    let receiver = Helper::start(place(arguments)?, |listener, _| {
        let stream = tcp::stream(OwnedFd::from(listener.accept()?.0))?;
        let mut known = with_socket(truth(Event::Done, "receiver", Protocol::Tcp), &stream);
        known.connections = 1;
        let outcome = tcp::drain(&stream, &mut known);
        tcp::finish(stream, known, &outcome)
    })?;
    let Ok((mut stream, mut known)) = tcp::open("sender", &receiver.address, tcp::Options::default())? else {
        return Err("the receiver could not be reached".into());
    };
    let block = vec![0x6e; 1 << 16];
    let mut outcome = Ok(());
    let until = Instant::now() + time;
    while outcome.is_ok() && Instant::now() < until {
        outcome = stream.write(&block).map(|sent| known.sent += sent as u64);
    }
    tcp::finish(stream, known, &outcome)?;
    receiver.end()
}

/// Connections between one pair of processes, which all go to one address: well below the 28,232 local ports that there are
/// by default, as the kernel searches longer the fewer are left.
const MOST_OF_A_PAIR: u64 = 12_000;
/// Descriptors for other things.
const SPARE: u64 = 64;

/// Allows so many descriptors, or as many as it may, and returns how many.
fn allow_descriptors(wanted: u64) -> Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = wanted.max(soft);
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted.max(hard)).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

pub(crate) fn hold(mut arguments: Arguments) -> Result<()> {
    let connections = arguments.number("--connections", 1)?;
    let address: SocketAddr = arguments.address()?;
    arguments.end()?;
    let limit = allow_descriptors(MOST_OF_A_PAIR + SPARE)?;
    let of_a_pair = MOST_OF_A_PAIR.min(limit.saturating_sub(SPARE)).max(1);

    let mut pairs = Vec::new();
    let mut left = connections;
    while left > 0 {
        let count = left.min(of_a_pair);
        left -= count;
        let mut own = address;
        if address.port() != 0 {
            own.set_port(address.port() + u16::try_from(pairs.len())?);
        }
        pairs.push(Pair::start(own, count)?);
    }
    let mut known = truth(Event::Ready, "holder", Protocol::Tcp);
    for pair in &mut pairs {
        // The end of the channel would be a failure, of which its stderr tells.
        pair.channel.read_exact(&mut [0])?;
    }
    known.connections = connections;
    tell(&ended(known, &Ok(())))?;
    wait_until_told();
    pairs.into_iter().try_for_each(Pair::end)
}

/// Two processes that hold connections with each other.
struct Pair {
    acceptor: Helper,
    client: nix::unistd::Pid,
    channel: UnixStream,
}

impl Pair {
    fn start(address: SocketAddr, count: u64) -> Result<Self> {
        let acceptor = Helper::start(address, move |listener, channel| {
            let beginning = truth(Event::Accepted, "acceptor", Protocol::Tcp);
            let mut held = Vec::new();
            while (held.len() as u64) < count {
                held.push(listener.accept()?.0);
                if (held.len() as u64).is_multiple_of(BLOCK) {
                    channel.write_all(&[0])?;
                }
            }
            let local = Some(listener.local_addr()?);
            tell(&ended(Truth { connections: count, local, ..beginning }, &Ok(())))?;
            channel.write_all(&[0])?;
            Ok(channel.read_exact(&mut [0])?)
        })?;
        let (channel, mut others) = UnixStream::pair()?;
        let client = forked(|| {
            let mut known = truth(Event::Opened, "client", Protocol::Tcp);
            known.peer = Some(acceptor.address);
            let mut pace = Pace { acceptor: &acceptor.channel, confirmed: 0 };
            let mut held = Vec::new();
            for number in 1..=count {
                held.push(TcpStream::connect(acceptor.address)?);
                pace.keep(number)?;
            }
            while pace.confirmed <= count / BLOCK {
                pace.confirm()?;
            }
            known.connections = count;
            tell(&ended(known.clone(), &Ok(())))?;
            others.write_all(&[0])?;
            others.read_exact(&mut [0])?;
            drop(held);
            tell(&ended(Truth { event: Event::Done, ..known }, &Ok(())))
        })?;
        channel.set_read_timeout(Some(PATIENCE * 4))?;
        Ok(Self { acceptor, client, channel })
    }

    fn end(self) -> Result<()> {
        (&self.channel).write_all(&[0])?;
        wait_for(self.client)?;
        self.acceptor.end()
    }
}

pub(crate) fn many(mut arguments: Arguments) -> Result<()> {
    let words = arguments.after_dashes();
    let parallel = arguments.number("--parallel", 1)?;
    let count: u64 = arguments.word("a number")?.parse()?;
    arguments.end()?;
    let program = env::current_exe()?;
    let mut known = truth(Event::Done, "launcher", Protocol::default());
    let (mut started, mut running) = (0, 0);
    let mut first_failure = Ok(());
    while started < count || running > 0 {
        if started < count && running < parallel.max(1) {
            // Not waited for by its own handle: `wait` below takes whichever ends.
            started += 1;
            let words = words.iter().map(|word| word.replace("{}", &started.to_string()));
            Command::new(&program).args(words).stdin(Stdio::null()).spawn()?;
            running += 1;
            continue;
        }
        running -= 1;
        if !matches!(wait()?, WaitStatus::Exited(_, 0)) {
            known.failures += 1;
            first_failure = Err(io::Error::from_raw_os_error(Errno::ECHILD as i32));
        }
    }
    known.connections = count - known.failures;
    tell(&ended(known, &first_failure))?;
    match first_failure {
        Ok(()) => Ok(()),
        Err(error) => Err(format!("some did not end well ({})", errno(&error)).into()),
    }
}
