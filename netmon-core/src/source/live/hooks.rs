//! Attaching the counting programs, and sharing them between callers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use netmon_bpf::{
    interface::{Direction as BpfDirection, Framing, InterfaceCounter, InterfaceCounters, TrafficClass},
    probe,
};

use super::{
    capabilities_fix,
    clsact::{self, ClsactCounter},
    hidden_without_hook,
    obstacle::told,
};
use crate::{
    answer::MissingHook,
    error::{Error, Result},
    fact::{ByProtocol, Direction, Hook, HookCounters, HookStatus, Layer, TrafficCounters},
    request::HookChoice,
    source::{Counting, InterfaceRef},
};

/// What XDP does to others.
const XDP_WARNING: &str = "XDP counts incoming packets before the kernel makes buffers of them; on some devices (veth, \
    tun) that slows traffic down and raises the number of packets that everybody counts";

/// The attachments of a source, alive as long as a caller holds one.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    attached: Mutex<HashMap<(u32, Hook), Weak<Attached>>>,
    /// Done when something is attached for the first time, and not again: a listing of filters for every interface.
    swept: OnceLock<()>,
}

/// One attached program.
#[derive(Debug)]
enum Attached {
    Link(InterfaceCounter),
    Clsact(ClsactCounter),
}

impl Attached {
    fn attach(interface: InterfaceRef<'_>, hook: Hook) -> Result<Self, netmon_bpf::Error> {
        let framing = if interface.ethernet { Framing::Ethernet } else { Framing::Other };
        let index = interface.index;
        match hook {
            Hook::TcxIngress => {
                InterfaceCounter::attach_tcx(index, BpfDirection::Ingress, framing).map(Self::Link)
            }
            Hook::TcxEgress => {
                InterfaceCounter::attach_tcx(index, BpfDirection::Egress, framing).map(Self::Link)
            }
            Hook::ClsactIngress => {
                ClsactCounter::attach(index, BpfDirection::Ingress, framing).map(Self::Clsact)
            }
            Hook::ClsactEgress => {
                ClsactCounter::attach(index, BpfDirection::Egress, framing).map(Self::Clsact)
            }
            _ => InterfaceCounter::attach_xdp(index).map(Self::Link),
        }
    }

    fn layer(&self) -> Layer {
        match self {
            Self::Link(counter) if counter.counts_frames() => Layer::Wire,
            Self::Link(_) | Self::Clsact(_) => Layer::Skb,
        }
    }

    /// Whether its interface is still the one that it was attached to, as far as that can be told.
    fn is_attached(&self) -> bool {
        match self {
            Self::Link(counter) => counter.is_attached(),
            Self::Clsact(counter) => counter.is_attached(),
        }
    }

    fn read(&self) -> Result<InterfaceCounters, netmon_bpf::Error> {
        match self {
            Self::Link(counter) => counter.read(),
            Self::Clsact(counter) => counter.read(),
        }
    }
}

impl Hooks {
    /// The counters of everything attached, by interface.
    pub(super) fn read(&self) -> HashMap<u32, Vec<HookCounters>> {
        // Upgraded first and read without the lock: the last guard may be dropped meanwhile, here.
        let attached: Vec<_> = {
            let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
            attached.retain(|_, counter| counter.strong_count() > 0);
            attached.iter().filter_map(|(key, counter)| Some((*key, counter.upgrade()?))).collect()
        };
        let mut counters: HashMap<u32, Vec<HookCounters>> = HashMap::new();
        // What counted an interface that was removed tells nothing of one that has its number now.
        for ((index, hook), counter) in attached.into_iter().filter(|(_, counter)| counter.is_attached()) {
            match counter.read() {
                Ok(read) => counters.entry(index).or_default().push(HookCounters {
                    hook,
                    layer: counter.layer(),
                    by_protocol: by_protocol(&read),
                }),
                Err(error) => tracing::warn!(index, %hook, "cannot read a counter: {error}"),
            }
        }
        for of_interface in counters.values_mut() {
            of_interface.sort_by_key(|counters| counters.hook.name());
        }
        counters
    }

    pub(super) fn count(
        &self,
        interface: InterfaceRef<'_>,
        directions: &[Direction],
        choice: HookChoice,
    ) -> Result<Counting> {
        if choice != HookChoice::None {
            self.swept.get_or_init(clsact::sweep_all);
        }
        match choice {
            HookChoice::None => Ok(Counting::default()),
            HookChoice::Auto => Ok(self.count_by_any(interface, directions)),
            HookChoice::Tcx => self.count_by(interface, directions, Hook::Tcx),
            HookChoice::Clsact => self.count_by(interface, directions, Hook::Clsact),
            HookChoice::Xdp => self.count_by(interface, directions, Hook::Xdp),
        }
    }

    /// By the hook that was asked for, or not at all.
    fn count_by(
        &self,
        interface: InterfaceRef<'_>,
        directions: &[Direction],
        kind: Hook,
    ) -> Result<Counting> {
        let mut counting = Counting::default();
        for direction in directions {
            let Some(hook) = kind.place(*direction) else {
                counting.missing.push(MissingHook {
                    hook: kind,
                    reason: "it sees incoming packets only".to_owned(),
                    hides: hidden_without_hook(interface.name, Some(*direction)),
                    fix: None,
                });
                continue;
            };
            let guard = self.attach(interface, hook).map_err(|error| unavailable(interface, kind, &error))?;
            counting.active.push((*direction, hook));
            counting.guards.push(Box::new(guard));
        }
        if counting.active.is_empty() {
            return Err(Error::InvalidRequest(format!(
                "{kind} sees incoming packets only; ask for the direction incoming or both, or for another hook"
            )));
        }
        if kind == Hook::Xdp {
            counting.warnings.push(XDP_WARNING.to_owned());
        }
        Ok(counting)
    }

    /// By the first hook that works, or by none, and then saying so.
    fn count_by_any(&self, interface: InterfaceRef<'_>, directions: &[Direction]) -> Counting {
        let by_tcx = match self.count_by(interface, directions, Hook::Tcx) {
            Ok(counting) => return counting,
            Err(error) => error,
        };
        // Whoever may not use tcx may not use clsact either.
        let not_permitted = matches!(by_tcx, Error::HookUnavailable { not_permitted: true, .. });
        let last = if not_permitted {
            by_tcx
        } else {
            match self.count_by(interface, directions, Hook::Clsact) {
                Ok(counting) => return counting,
                Err(error) => error,
            }
        };
        let (hook, reason) = match last {
            Error::HookUnavailable { hook, reason, .. } => (hook, reason),
            other => (Hook::Tcx, other.to_string()),
        };
        let fix = not_permitted.then(capabilities_fix);
        let hides = hidden_without_hook(interface.name, None);
        Counting { missing: vec![MissingHook { hook, reason, hides, fix }], ..Counting::default() }
    }

    fn attach(&self, interface: InterfaceRef<'_>, hook: Hook) -> Result<Arc<Attached>, netmon_bpf::Error> {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = attached.get(&(interface.index, hook)).and_then(Weak::upgrade);
        if let Some(shared) = shared.filter(|shared| shared.is_attached()) {
            return Ok(shared);
        }
        let fresh = Arc::new(Attached::attach(interface, hook)?);
        attached.insert((interface.index, hook), Arc::downgrade(&fresh));
        Ok(fresh)
    }
}

fn by_protocol(counters: &InterfaceCounters) -> ByProtocol<TrafficCounters> {
    let class = |class| {
        let counted = counters.class(class);
        TrafficCounters {
            packets: counted.packets,
            wire_packets: counted.wire_packets,
            interface_bytes: counted.bytes,
            wire_bytes: counted.wire_bytes,
        }
    };
    ByProtocol {
        ipv4_tcp: class(TrafficClass::Ipv4Tcp),
        ipv4_udp: class(TrafficClass::Ipv4Udp),
        ipv4_icmp: class(TrafficClass::Ipv4Icmp),
        ipv4_other: class(TrafficClass::Ipv4Other),
        ipv6_tcp: class(TrafficClass::Ipv6Tcp),
        ipv6_udp: class(TrafficClass::Ipv6Udp),
        ipv6_icmp: class(TrafficClass::Ipv6Icmp),
        ipv6_other: class(TrafficClass::Ipv6Other),
        arp: class(TrafficClass::Arp),
        other: class(TrafficClass::Other),
    }
}

fn unavailable(interface: InterfaceRef<'_>, hook: Hook, error: &netmon_bpf::Error) -> Error {
    Error::HookUnavailable {
        hook,
        interface: interface.name.clone(),
        not_permitted: matches!(error, netmon_bpf::Error::NotPermitted { .. }),
        reason: reason(hook, error),
    }
}

/// Why a hook cannot be used, in one line that names what is missing.
fn reason(hook: Hook, error: &netmon_bpf::Error) -> String {
    match error {
        netmon_bpf::Error::NotPermitted { .. } => missing_privilege(false),
        netmon_bpf::Error::Busy { .. } if hook == Hook::Xdp => {
            "another XDP program is attached there, and an interface has room for one; count with the hook tcx instead"
                .to_owned()
        }
        netmon_bpf::Error::Busy { .. } if hook == Hook::Clsact => {
            "another program has the place: an ingress queueing discipline, or a filter of priority 1 and another kind \
             (see `tc qdisc show` and `tc filter show`)"
                .to_owned()
        }
        netmon_bpf::Error::Unsupported { .. } if hook == Hook::Tcx => {
            "this kernel has no tcx, which came with Linux 6.6".to_owned()
        }
        _ => told(error),
    }
}

const CAP_PERFMON: u32 = 38;

/// The capabilities of this process, a bit each.
fn effective_capabilities() -> u64 {
    procfs::process::Process::myself()
        .and_then(|process| process.status())
        .map(|status| status.capeff)
        .unwrap_or_default()
}

/// Whether this process lacks what programs need that read the kernel's structures.
pub(super) fn lacks_perfmon() -> bool {
    effective_capabilities() & (1 << CAP_PERFMON) == 0
}

pub(super) fn missing_privilege(tracing: bool) -> String {
    const NEEDED: [(u32, &str); 3] = [(12, "cap_net_admin"), (39, "cap_bpf"), (CAP_PERFMON, "cap_perfmon")];
    let needed = if tracing { &NEEDED[..] } else { &NEEDED[..2] };
    let effective = effective_capabilities();
    let missing: Vec<_> =
        needed.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name).collect();
    if missing.is_empty() && effective & (1 << CAP_PERFMON) == 0 {
        return "not permitted: this process lacks cap_perfmon, which older kernels need too".to_owned();
    }
    if missing.is_empty() {
        return "not permitted, though this process has the capabilities: its user namespace, a container's seccomp \
                filter or kernel lockdown forbids it"
            .to_owned();
    }
    format!("not permitted: this process lacks {}", missing.join(" and "))
}

/// What trying every hook showed. The kernel's verifier reads all programs for that, a fifth of a second, and hardly ever
/// says something else the next time: it is believed for a minute, while the process has the same capabilities.
#[derive(Debug, Default)]
pub(super) struct Probed {
    last: Mutex<Option<(Instant, u64, Vec<HookStatus>)>>,
}

impl Probed {
    const BELIEVED: Duration = Duration::from_secs(60);

    /// What was found lately, or what is found now. Who asks meanwhile waits, and tries nothing again.
    pub(super) fn get(&self, probe: impl FnOnce() -> Vec<HookStatus>) -> Vec<HookStatus> {
        let capabilities = effective_capabilities();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, with, found)) = &*last
            && at.elapsed() < Self::BELIEVED
            && *with == capabilities
        {
            return found.clone();
        }
        let found = probe();
        *last = Some((Instant::now(), capabilities, found.clone()));
        found
    }
}

/// Tries every hook for real.
pub(super) fn probe() -> Vec<HookStatus> {
    let mut statuses = vec![HookStatus::works(Hook::InterfaceCounters)];
    for hook in probe::Hook::ALL {
        let name = match hook {
            probe::Hook::Tcx => Hook::Tcx,
            probe::Hook::Clsact => Hook::Clsact,
            probe::Hook::Xdp => Hook::Xdp,
        };
        statuses.push(match hook.probe() {
            Ok(()) => HookStatus::works(name),
            Err(error) => {
                let fix = matches!(error, netmon_bpf::Error::NotPermitted { .. });
                HookStatus::missing(name, reason(name, &error), fix.then(capabilities_fix))
            }
        });
    }
    statuses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_tried_once_and_then_believed() {
        let probed = Probed::default();
        let found = vec![HookStatus::works(Hook::Tcx)];
        assert_eq!(probed.get(|| found.clone()), found);
        assert_eq!(probed.get(|| panic!("they were tried a moment ago")), found);

        // With other capabilities other hooks work.
        if let Some((_, capabilities, _)) = &mut *probed.last.lock().unwrap() {
            *capabilities ^= 1 << CAP_PERFMON;
        }
        assert_eq!(probed.get(Vec::new), []);
    }
}
