//! The BPF programs of netmon: hand-written C, loaded through libbpf skeletons, behind plain owned Rust types.
//!
//! Most users want [`netmon-core`](https://docs.rs/netmon-core), which turns what is counted here into answers. This
//! crate is its lowest layer and the only one with `unsafe` or libbpf in it: it loads a program, attaches it to an
//! interface, hands out its counters, and detaches it when the guard is dropped.
//!
//! - [`interface`]: count the packets of an interface per traffic class, by tcx, clsact or XDP.
//! - [`flow`]: follow connections with their owners, and list all sockets.
//! - [`drops`]: count dropped packets by reason and owner.
//! - [`census`]: which BPF objects the kernel has.
//! - [`allocator`]: one heap for all threads, which is no BPF, but not safe either.
//! - [`probe`]: which of these hooks the running kernel and this process's privileges allow, and why not.
//!
//! Loading needs `CAP_BPF` and `CAP_NET_ADMIN` (kernels before 5.8: `CAP_SYS_ADMIN`; 5.10, and XDP before 5.18:
//! `CAP_PERFMON` too). Link-based attachments (tcx, XDP) end with the process however it ends; see [`interface::Clsact`]
//! for the one that does not.
//!
//! ```no_run
//! use netmon_bpf::interface::{Direction, Framing, InterfaceCounter};
//!
//! let counter = InterfaceCounter::attach_tcx(2, Direction::Ingress, Framing::Ethernet)?;
//! std::thread::sleep(std::time::Duration::from_secs(1));
//! println!("{} packets", counter.read()?.total().packets);
//! # Ok::<(), netmon_bpf::Error>(())
//! ```

pub mod allocator;
pub mod census;
#[cfg(feature = "cost")]
pub mod cost;
pub mod drops;
mod error;
pub mod flow;
pub mod interface;
mod object;
pub mod probe;

pub use error::{Error, Result};
