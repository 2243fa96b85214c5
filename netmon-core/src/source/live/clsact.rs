//! Counting through the clsact queueing discipline, on kernels without tcx: who made it, who uses it, who died in it.
//!
//! Neither the discipline nor a filter ends with its process. So each filter has a handle with our mark and a slot number,
//! and its process holds a socket with an abstract name made of interface, direction and slot. Abstract names belong to
//! the network namespace, as filters do, and vanish with the process: a filter whose name can be taken is a dead one's.
//! The handle also says whether netmon created the discipline, so that the last one removes it and nobody removes another
//! program's.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    thread,
    time::{Duration, Instant},
};

use netmon_bpf::interface::{Clsact, Direction, Framing, InterfaceCounter};

use super::netlink;
use crate::{
    error::Result,
    fact::{Hook, Leftover},
};

const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// The upper half of our handles: "nm".
const MARK: u32 = 0x6e6d_0000;
/// Set in the handle of a filter whose discipline was created by netmon.
const QDISC_IS_OURS: u32 = 0x8000;
/// Processes that can count in one direction of an interface at once.
const SLOTS: u32 = 256;

fn is_ours(filter: &netlink::Filter) -> bool {
    filter.priority == Clsact::PRIORITY && filter.handle & 0xffff_0000 == MARK
}

fn slot_of(handle: u32) -> u32 {
    handle & (QDISC_IS_OURS - 1)
}

fn take_name(name: &str) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

fn take_slot(ifindex: u32, direction: Direction, slot: u32) -> io::Result<UnixDatagram> {
    let way = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    take_name(&format!("netmon/clsact/{ifindex}/{way}/{slot}"))
}

/// Held while the discipline is created or removed, so that nobody removes it under another's new filter.
fn lock_qdisc(ifindex: u32) -> io::Result<UnixDatagram> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match take_name(&format!("netmon/clsact/{ifindex}/qdisc")) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            taken_or_failed => return taken_or_failed,
        }
    }
}

/// A counter attached by clsact. Dropping it removes the filter, and the discipline if it was ours and is empty.
#[derive(Debug)]
pub(super) struct ClsactCounter {
    /// `None` only while it is dropped, so that the filter goes before the discipline.
    counter: Option<InterfaceCounter>,
    ifindex: u32,
    direction: Direction,
    handle: u32,
    qdisc_is_ours: bool,
    /// Shows the others that this slot's process lives.
    _slot: UnixDatagram,
}

impl ClsactCounter {
    pub(super) fn attach(
        ifindex: u32,
        direction: Direction,
        framing: Framing,
    ) -> Result<Self, netmon_bpf::Error> {
        let failed = |action: &str| {
            let action = action.to_owned();
            move |source| netmon_bpf::Error::Kernel { action, source }
        };

        let _lock = lock_qdisc(ifindex).map_err(failed("reserve the clsact queueing discipline"))?;
        let inherited = sweep(ifindex).map_err(failed("look for filters that were left behind"))?;
        let created = Clsact::create_qdisc(ifindex)?;
        if !created {
            refuse_ingress_qdisc(ifindex)?;
        }
        let qdisc_is_ours = created || inherited;
        let (number, slot) = (0..SLOTS)
            .find_map(|number| Some((number, take_slot(ifindex, direction, number).ok()?)))
            .ok_or_else(|| io::Error::other(format!("all {SLOTS} places are taken")))
            .map_err(failed("reserve a place for a clsact filter"))?;

        let handle = MARK | if qdisc_is_ours { QDISC_IS_OURS } else { 0 } | number;
        match InterfaceCounter::attach_clsact(Clsact { ifindex, handle }, direction, framing) {
            Ok(counter) => {
                let counter = Some(counter);
                Ok(Self { counter, ifindex, direction, handle, qdisc_is_ours, _slot: slot })
            }
            Err(error) => {
                if qdisc_is_ours {
                    remove_empty_qdisc(ifindex);
                }
                Err(error)
            }
        }
    }

    /// Whether the filter is still there: it goes with an interface that is removed, and one that is made again under its
    /// number has none. What cannot be told counts as there.
    pub(super) fn is_attached(&self) -> bool {
        let is_it = |filter: &netlink::Filter| is_ours(filter) && filter.handle == self.handle;
        netlink::clsact_filters(self.ifindex, self.direction)
            .map_or(true, |filters| filters.iter().any(is_it))
    }

    pub(super) fn read(&self) -> Result<netmon_bpf::interface::InterfaceCounters, netmon_bpf::Error> {
        match &self.counter {
            Some(counter) => counter.read(),
            None => Ok(netmon_bpf::interface::InterfaceCounters::default()),
        }
    }
}

impl Drop for ClsactCounter {
    fn drop(&mut self) {
        let lock = lock_qdisc(self.ifindex);
        self.counter = None;
        // Without the lock somebody may be about to attach; then the discipline is theirs to remove.
        if lock.is_ok() && self.qdisc_is_ours {
            remove_empty_qdisc(self.ifindex);
        }
    }
}

/// The older `ingress` discipline has the same place and takes filters for both directions, but calls them all for
/// received packets.
fn refuse_ingress_qdisc(ifindex: u32) -> Result<(), netmon_bpf::Error> {
    const EEXIST: i32 = 17;
    match netlink::ingress_qdisc_kind(ifindex) {
        Ok(Some(kind)) if kind != "clsact" => Err(netmon_bpf::Error::Busy {
            action: "create the clsact queueing discipline".to_owned(),
            source: io::Error::from_raw_os_error(EEXIST),
        }),
        // Where it cannot be told, attaching will say what is wrong.
        _ => Ok(()),
    }
}

/// Removes the discipline unless a filter is in it, whoever's. To be called with the lock held.
fn remove_empty_qdisc(ifindex: u32) {
    let empty = BOTH.iter().all(|direction| {
        netlink::clsact_filters(ifindex, *direction).is_ok_and(|filters| filters.is_empty())
    });
    if empty && let Err(error) = Clsact::remove_qdisc(ifindex) {
        tracing::warn!(ifindex, "the clsact queueing discipline stays behind: {error}");
    }
}

/// Removes the filters that killed processes left on an interface. True when the discipline was created by netmon,
/// whether by one of those or by one that lives. To be called with the lock held.
fn sweep(ifindex: u32) -> io::Result<bool> {
    let mut qdisc_is_ours = false;
    for direction in BOTH {
        for filter in netlink::clsact_filters(ifindex, direction)?.iter().filter(|filter| is_ours(filter)) {
            qdisc_is_ours |= filter.handle & QDISC_IS_OURS != 0;
            let Ok(_dead) = take_slot(ifindex, direction, slot_of(filter.handle)) else { continue };
            tracing::info!(ifindex, handle = filter.handle, "removing a filter that a killed netmon left");
            let place = Clsact { ifindex, handle: filter.handle };
            place.remove_filter(direction).map_err(io::Error::other)?;
        }
    }
    Ok(qdisc_is_ours)
}

/// Removes what killed processes left on every interface, as far as this process may; what it may not stays listed.
pub(super) fn sweep_all() {
    let leftovers = match find_leftovers() {
        Ok(leftovers) => leftovers,
        Err(error) => return tracing::debug!("cannot look for leftovers: {error}"),
    };
    let mut interfaces: Vec<u32> = leftovers.iter().map(|(index, _)| *index).collect();
    interfaces.dedup();
    for index in interfaces {
        let swept = lock_qdisc(index).and_then(|_lock| {
            if sweep(index)? {
                remove_empty_qdisc(index);
            }
            Ok(())
        });
        if let Err(error) = swept {
            tracing::debug!(index, "cannot remove what a killed netmon left: {error}");
        }
    }
}

/// The filters that killed processes left on any interface.
pub(super) fn leftovers() -> Result<Vec<Leftover>> {
    Ok(find_leftovers()?.into_iter().map(|(_, leftover)| leftover).collect())
}

/// With the interface's index, in its order.
fn find_leftovers() -> Result<Vec<(u32, Leftover)>> {
    let mut found = Vec::new();
    for link in netlink::links()? {
        for direction in BOTH {
            let filters = netlink::clsact_filters(link.index, direction)
                .map_err(super::kernel_error("list the traffic-control filters"))?;
            for filter in filters.iter().filter(|filter| is_ours(filter)) {
                if take_slot(link.index, direction, slot_of(filter.handle)).is_err() {
                    continue;
                }
                let hook = match direction {
                    Direction::Ingress => Hook::ClsactIngress,
                    Direction::Egress => Hook::ClsactEgress,
                };
                let handle = format!("{:#x}", filter.handle);
                found.push((link.index, Leftover { interface: link.name.clone(), hook, handle }));
            }
        }
    }
    Ok(found)
}
