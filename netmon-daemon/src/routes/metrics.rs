//! `/metrics`: what Prometheus asks for from time to time. Numbers are the source's own sums; no address, port or process
//! is a label.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::header,
    response::{IntoResponse as _, Response},
};
use netmon_core::{
    CleanText, Error, Filter,
    fact::{
        ConnectionState, ConnectionTotals, DropCounts, Hook, InterfaceSnapshot, InterfaceState, Observed,
    },
    source::{Source, Span},
};
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::input::asker;
use crate::{daemon::Daemon, reply::Refusal};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;

/// What was told at the scrape before: a sum that is partly of what is open now must not fall when a record is lost.
#[derive(Debug)]
pub(crate) struct Before {
    /// When the daemon was started.
    pub(crate) started: jiff::Timestamp,
    opened: Mutex<BTreeMap<Labels, u64>>,
}

impl Before {
    /// Nothing was told yet.
    pub(crate) fn begin(started: jiff::Timestamp) -> Self {
        Self { started, opened: Mutex::default() }
    }

    fn at_least(&self, labels: &Labels, value: u64) -> u64 {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let before = opened.entry(labels.clone()).or_default();
        *before = value.max(*before);
        *before
    }
}

pub(super) async fn metrics(
    State(daemon): State<Arc<Daemon>>,
    request: Request,
) -> Result<Response, Refusal> {
    let asker = asker(&request)?;
    let accepted = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let open_metrics = accepted.is_some_and(|accepted| accepted.contains("application/openmetrics-text"));
    // Sums, in which nobody's connections can be told apart.
    let source = daemon.source(crate::access::Access::All);
    let shared = Arc::clone(&daemon);
    let work = move |_: &netmon_core::Cancel| {
        let registry = Scrape::take(&*source)?.registry(&shared.before);
        let mut body = String::new();
        text::encode(&mut body, &registry).map_err(|error| Error::Kernel {
            action: "write metrics",
            source: std::io::Error::other(error),
        })?;
        Ok(body)
    };
    let (body, _) = daemon.compute(&asker.caller, work).await?;
    let reply = if open_metrics {
        ([(header::CONTENT_TYPE, OPEN_METRICS)], body)
    } else {
        ([(header::CONTENT_TYPE, TEXT)], in_text_format(&body))
    };
    Ok(reply.into_response())
}

/// The same in the format from before OpenMetrics, in which a family has the whole name of its samples, and no unit, end
/// or type `info`.
fn in_text_format(open_metrics: &str) -> String {
    let kinds: BTreeMap<&str, &str> =
        open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(family), Some(rest)) => {
                let (suffix, rest) = match (kinds.get(family), what) {
                    (Some(&"counter"), _) => ("_total", rest),
                    (Some(&"info"), "TYPE") => ("_info", "gauge"),
                    (Some(&"info"), _) => ("_info", rest),
                    _ => ("", rest),
                };
                text += &format!("# {what} {family}{suffix} {rest}\n");
            }
            (Some("#"), ..) => {}
            _ => {
                text += line;
                text.push('\n');
            }
        }
    }
    text
}

/// The facts of one scrape.
struct Scrape {
    interfaces: InterfaceSnapshot,
    /// Where the source has connections.
    connections: Option<Connections>,
    /// Where it counts dropped packets: by reason, which the kernel has some hundred of.
    drops: Option<BTreeMap<String, DropCounts>>,
    kernel: CleanText,
}

struct Connections {
    totals: ConnectionTotals,
    observed: Observed,
    /// Those that are open now, and how many of them were seen to begin.
    open: BTreeMap<Labels, (u64, u64)>,
}

impl Scrape {
    fn take(source: &dyn Source) -> netmon_core::Result<Self> {
        let interfaces = source.interfaces(&source.start()?)?;
        let drops = drops(source)?;
        let mut connections = match Connections::take(source) {
            Ok(connections) => Some(connections),
            Err(Error::NotInSource { .. }) => None,
            Err(error) => return Err(error),
        };
        if let (Some(connections), true) = (&mut connections, drops.is_some()) {
            connections.observed.active_hooks.push(Hook::KfreeSkb);
        }
        Ok(Self { interfaces, connections, drops, kernel: source.describe().kernel })
    }

    fn registry(&self, before: &Before) -> Registry {
        let mut registry = Registry::with_prefix("netmon");
        let build =
            vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("kernel", self.kernel.to_string())];
        registry.register("build", "The daemon, and the kernel that it observes", Info::new(build));
        self.add_interfaces(&mut registry);
        if let Some(connections) = &self.connections {
            connections.add(&mut registry, before);
        }
        if let Some(drops) = &self.drops {
            add_drops(&mut registry, drops);
        }
        add_own_cost(&mut registry, before.started);
        registry
    }

    fn add_interfaces(&self, registry: &mut Registry) {
        let [packets, bytes, errors, drops] = [(); 4].map(|()| Counters::default());
        let up = Gauges::default();
        for interface in &self.interfaces.interfaces {
            let name = interface.name.to_string();
            for (direction, counters) in [("incoming", interface.incoming), ("outgoing", interface.outgoing)]
            {
                let labels = vec![("interface", name.clone()), ("direction", direction.to_owned())];
                for (family, value) in [
                    (&packets, counters.packets),
                    (&bytes, counters.interface_bytes),
                    (&errors, counters.errors),
                    (&drops, counters.drops),
                ] {
                    family.get_or_create(&labels).inc_by(value);
                }
            }
            // Loopback and tunnels have no other state while they are up.
            let is_up = matches!(interface.state, InterfaceState::Up | InterfaceState::Unknown);
            up.get_or_create(&vec![("interface", name)]).set(i64::from(is_up));
        }
        registry.register("interface_packets", "Packets, by the kernel's own counters", packets);
        registry.register_with_unit(
            "interface",
            "Bytes of frames, by the kernel's own counters",
            Unit::Bytes,
            bytes,
        );
        registry.register("interface_errors", "Packets with errors, by the kernel's own counters", errors);
        registry.register("interface_drops", "Packets that the interface dropped", drops);
        registry.register("interface_up", "Whether the interface is up", up);
    }
}

impl Connections {
    fn take(source: &dyn Source) -> netmon_core::Result<Self> {
        let totals = source.totals()?;
        let now = match source.observed(Some(Duration::from_secs(1)))? {
            Some(span) => span.to,
            None => source.start()?,
        };
        let mut open = BTreeMap::new();
        let moment = Span { from: now, to: now };
        let observed = source.connections(&moment, &Filter::everything(), &mut |sighting| {
            let fact = sighting.fact;
            if matches!(fact.state, ConnectionState::Open | ConnectionState::Opening) {
                let (all, began) = open.entry(kind(fact.protocol, fact.direction)).or_default();
                *all += 1;
                *began += u64::from(fact.opened.is_some());
            }
        })?;
        Ok(Self { totals, observed, open })
    }

    fn add(&self, registry: &mut Registry, before: &Before) {
        let (opened, closed, failed, broken) =
            (Counters::default(), Counters::default(), Counters::default(), Counters::default());
        let (bytes, segments, retransmits) = (Counters::default(), Counters::default(), Counters::default());
        let open = Gauges::default();
        let mut began: BTreeMap<Labels, u64> = BTreeMap::new();
        for ended in &self.totals.ended {
            let kind = kind(ended.protocol, ended.direction);
            *began.entry(kind.clone()).or_default() += ended.began;
            let error = ended.error.map(|error| error.name().to_string());
            match (ended.failed, error) {
                (true, error) => {
                    let mut labels = kind.clone();
                    labels.push(("error", error.unwrap_or_else(|| "unknown".to_owned())));
                    failed.get_or_create(&labels).inc_by(ended.connections);
                }
                (false, error) => {
                    closed.get_or_create(&kind).inc_by(ended.connections);
                    if let Some(error) = error {
                        let mut labels = kind.clone();
                        labels.push(("error", error));
                        broken.get_or_create(&labels).inc_by(ended.connections);
                    }
                }
            }
            let traffic = &ended.traffic;
            for (way, payload, packets) in [
                ("sent", traffic.payload_bytes_sent, traffic.packets_sent),
                ("received", traffic.payload_bytes_received, traffic.packets_received),
            ] {
                let labels = vec![("protocol", ended.protocol.to_string()), ("way", way.to_owned())];
                bytes.get_or_create(&labels).inc_by(payload);
                segments.get_or_create(&labels).inc_by(packets);
            }
            retransmits
                .get_or_create(&vec![("protocol", ended.protocol.to_string())])
                .inc_by(ended.retransmits);
        }
        for (kind, (all, seen)) in &self.open {
            open.get_or_create(kind).set(i64::try_from(*all).unwrap_or(i64::MAX));
            *began.entry(kind.clone()).or_default() += seen;
        }
        for (kind, count) in began {
            let count = before.at_least(&kind, count);
            opened.get_or_create(&kind).inc_by(count);
        }
        registry.register("connections_opened", "Connections and attempts that were seen to begin", opened);
        registry.register("connections_closed", "Connections that ended after they were established", closed);
        registry.register("connections_failed", "Attempts that failed, by error", failed);
        registry.register("connections_broken", "Of those closed, the ones that an error ended", broken);
        registry.register("connections_open", "Connections that are open or opening now", open);
        registry.register_with_unit(
            "connections_payload",
            "Bytes of applications over connections that ended",
            Unit::Bytes,
            bytes,
        );
        registry.register("connections_packets", "Segments or datagrams of connections that ended", segments);
        registry.register(
            "connections_retransmits",
            "Segments sent again, of connections that ended",
            retransmits,
        );

        let hooks = Gauges::default();
        for hook in &self.observed.active_hooks {
            hooks.get_or_create(&vec![("hook", hook.name().to_owned())]).set(1);
        }
        for missing in &self.observed.missing_hooks {
            hooks.get_or_create(&vec![("hook", missing.hook.name().to_owned())]).set(0);
        }
        registry.register("hook_active", "Whether the hook takes part", hooks);
        let lost = Counters::default();
        for (stage, count) in [("kernel", self.totals.lost), ("recorder", self.totals.forgotten)] {
            lost.get_or_create(&vec![("stage", stage.to_owned())]).inc_by(count);
        }
        registry.register(
            "events_lost",
            "Ends of connections that were lost on their way (kernel) or forgotten for want of memory (recorder)",
            lost,
        );
        let memory: Gauge = Gauge::default();
        memory.set(i64::try_from(self.totals.recorder_bytes).unwrap_or(i64::MAX));
        registry.register_with_unit("recorder", "Memory of connections that ended", Unit::Bytes, memory);
    }
}

/// The packets that were dropped since they are counted.
fn drops(source: &dyn Source) -> netmon_core::Result<Option<BTreeMap<String, DropCounts>>> {
    let now = match source.observed_drops(Some(Duration::from_secs(1))) {
        Ok(Some(span)) => span.to,
        Ok(None) | Err(Error::NotInSource { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut drops: BTreeMap<String, DropCounts> = BTreeMap::new();
    source.drops(&Span { from: now, to: now }, &Filter::everything(), &mut |sighting| {
        let reason = sighting.fact.reason.as_ref();
        let reason = reason.map_or_else(|| "NOT_SPECIFIED".to_owned(), ToString::to_string);
        let sum = drops.entry(reason).or_default();
        *sum = sum.plus(&sighting.fact.counts);
    })?;
    Ok(Some(drops))
}

fn add_drops(registry: &mut Registry, drops: &BTreeMap<String, DropCounts>) {
    let (packets, bytes) = (Counters::default(), Counters::default());
    for (reason, counts) in drops {
        let labels = vec![("reason", reason.clone())];
        packets.get_or_create(&labels).inc_by(counts.packets);
        bytes.get_or_create(&labels).inc_by(counts.l3_bytes);
    }
    registry.register("packet_drops", "Packets that the kernel dropped, by its reason", packets);
    registry.register_with_unit("packet_drops", "Bytes of them, from the IP header on", Unit::Bytes, bytes);
}

fn kind(protocol: netmon_core::fact::Protocol, direction: netmon_core::fact::ConnectionDirection) -> Labels {
    vec![("protocol", protocol.to_string()), ("direction", direction.to_string())]
}

/// What the daemon itself takes, under the names that Prometheus' own libraries use.
fn add_own_cost(registry: &mut Registry, started: jiff::Timestamp) {
    use std::sync::atomic::AtomicU64;

    use procfs::WithCurrentSystemInfo as _;

    let Ok(process) = procfs::process::Process::myself() else { return };
    let Ok(stat) = process.stat() else { return };
    let registry = registry.sub_registry_with_prefix("process");
    let seconds = Counter::<f64, AtomicU64>::default();
    #[allow(clippy::cast_precision_loss, reason = "a century of clock ticks fits")]
    seconds.inc_by((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64);
    registry.register_with_unit("cpu", "CPU time of the daemon", Unit::Seconds, seconds);
    let resident: Gauge = Gauge::default();
    resident.set(i64::try_from(stat.rss_bytes().get()).unwrap_or(i64::MAX));
    registry.register_with_unit("resident_memory", "Memory of the daemon", Unit::Bytes, resident);
    if let Ok(open) = process.fd_count() {
        let descriptors: Gauge = Gauge::default();
        descriptors.set(i64::try_from(open).unwrap_or(i64::MAX));
        registry.register("open_fds", "Files that the daemon has open", descriptors);
    }
    let start: Gauge = Gauge::default();
    start.set(started.as_second());
    registry.register_with_unit("start_time", "When the daemon was started", Unit::Seconds, start);
}
