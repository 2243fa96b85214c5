//! What netmon's kernel tests share: network namespaces, links between them, traffic whose every packet is known, the
//! kernel's own counters to compare with, a program whose every connection is known, children to kill or to run with fewer
//! privileges, and what long runs are judged by.
//!
//! Everything needs root and is removed again in `Drop`. Nothing here returns an error: what fails, fails the test, with
//! a message that says what was tried.
//!
//! ```no_run
//! use std::net::SocketAddr;
//! use netmon_testkit::{Datagrams, VethPair, traffic};
//!
//! let link = VethPair::create();
//! let to = SocketAddr::from((link.near.ipv4, 9));
//! let _sink = traffic::bind_udp(&link.near.netns, to);
//! let before = link.near.counters();
//! traffic::send_datagrams(&link.far.netns, to, Datagrams { count: 100, payload: 64, per_second: 1000 });
//! link.settle();
//! assert_eq!(link.near.counters().rx_packets - before.rx_packets, 100);
//! ```
#![forbid(unsafe_code)]

pub mod child;
mod counters;
pub mod frame;
pub mod fuzz;
mod link;
mod netns;
pub mod soak;
pub mod traffic;
mod tun;
mod turn;
pub mod workload;

pub use child::{Child, Privileges};
pub use counters::{Counters, TcpSegments};
pub use link::{LinkOptions, Side, VethPair};
pub use netns::{Blackhole, Netns, own_number};
pub use traffic::Datagrams;
pub use tun::Tun;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// How long anything may take before the test fails. Generous, as for an emulated machine: it is reached only where
/// something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
///
/// # Panics
/// After [`PATIENCE`], saying what was waited for.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the running kernel is of this version or a later one: tests of what came with it can say what there is before.
///
/// # Panics
/// Where the kernel does not tell its version.
pub fn kernel_is_since(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(is)), Some(Ok(sub))) => (is, sub) >= (major, minor),
        _ => panic!("what version is {release:?}?"),
    }
}

/// How many of so many connections an answer with these warnings may lack: those that it says the kernel passed over, and
/// one in a hundred, as some kernels run no tracing program in the context of some threads, and count that nowhere.
pub fn may_lack<'a>(warnings: impl IntoIterator<Item = &'a String>, of: u64) -> u64 {
    let passed_over = warnings.into_iter().find_map(|warning| {
        let count = warning.strip_prefix("the kernel passed over ")?.split(' ').next()?;
        count.replace(',', "").parse::<u64>().ok()
    });
    passed_over.unwrap_or(0) + of / 100
}
