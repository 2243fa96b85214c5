//! What this process knows to be true, gathered and printed.

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd as _},
    time::Duration,
};

use netmon_testkit::workload::{Event, Protocol, Truth};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockaddrLike as _, SockaddrStorage, getpeername, getsockname},
    time::{ClockId, clock_gettime},
    unistd,
};

use crate::Result;

/// Nanoseconds since the machine was started, sleep included; BPF's `bpf_ktime_get_boot_ns`.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or_else(|_| Duration::default(), Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// The calling thread, as it is now, at something it begins now.
pub(crate) fn truth(event: Event, role: &str, protocol: Protocol) -> Truth {
    let name = |path: &str| fs::read_to_string(path).unwrap_or_default().trim_end().to_owned();
    Truth {
        event,
        role: role.to_owned(),
        pid: unistd::getpid().as_raw().unsigned_abs(),
        tid: unistd::gettid().as_raw().unsigned_abs(),
        process: name("/proc/self/comm"),
        thread: name("/proc/thread-self/comm"),
        protocol,
        start_ns: now_ns(),
        ..Truth::default()
    }
}

/// Adds what the kernel says of a socket.
pub(crate) fn with_socket(mut truth: Truth, socket: &impl AsFd) -> Truth {
    let raw = socket.as_fd().as_raw_fd();
    truth.local =
        getsockname::<SockaddrStorage>(raw).ok().and_then(|address| internet(&address)).or(truth.local);
    truth.peer =
        getpeername::<SockaddrStorage>(raw).ok().and_then(|address| internet(&address)).or(truth.peer);
    truth.cookie = rustix::net::sockopt::socket_cookie(socket).ok();
    truth.inode = inode(socket);
    truth
}

/// Adds the state of a connection as well. The kernel walks its whole table for that, some milliseconds, so this is for
/// single connections.
pub(crate) fn with_state(truth: Truth, socket: &impl AsFd) -> Truth {
    let truth = with_socket(truth, socket);
    Truth { state: truth.inode.and_then(tcp_state), ..truth }
}

/// An internet address; `None` for others.
pub(crate) fn internet(address: &SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        AddressFamily::Inet => Some((*address.as_sockaddr_in()?).into()),
        AddressFamily::Inet6 => Some((*address.as_sockaddr_in6()?).into()),
        _ => None,
    }
}

fn inode(socket: &impl AsFd) -> Option<u64> {
    let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd())).ok()?;
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The kernel's own word for a connection's state.
fn tcp_state(inode: u64) -> Option<String> {
    const STATES: [&str; 12] = [
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "NEW_SYN_RECV",
    ];
    let inode = inode.to_string();
    ["tcp", "tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        let line = table.lines().find(|line| line.split_whitespace().nth(9) == Some(inode.as_str()))?;
        let number = usize::from_str_radix(line.split_whitespace().nth(3)?, 16).ok()?;
        STATES.get(number.checked_sub(1)?).map(|&state| state.to_owned())
    })
}

/// The error number of a failed call; an error of no number, which std's own are, counts as EIO.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::EIO as i32)
}

/// Adds how it ended.
pub(crate) fn ended(mut truth: Truth, outcome: &io::Result<()>) -> Truth {
    if let Err(error) = outcome {
        truth.errno = errno(error);
        truth.error = Some(format!("{:?}", Errno::from_raw(truth.errno)));
    }
    truth.end_ns = now_ns();
    let time =
        clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or_else(|_| Duration::default(), Duration::from);
    truth.cpu_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    truth
}

/// Prints it, by one write, so that the lines of several processes do not mix.
pub(crate) fn tell(truth: &Truth) -> Result<()> {
    let mut line = serde_json::to_vec(truth)?;
    line.push(b'\n');
    unistd::write(io::stdout(), &line)?;
    Ok(())
}
