//! The recording that documentation, doctests and snapshots use. `NETMON_UPDATE=1 cargo test` writes it anew.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fmt::Write as _, fs, net::IpAddr};

use netmon_core::{
    fact::{
        ByProtocol, Hook, HookCounters, HookStatus, InterfaceAddress, InterfaceFact, InterfaceSnapshot,
        InterfaceState, Layer, LinkCounters, Moment, TrafficCounters,
    },
    source::{SourceDescription, recording},
};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recordings/demo.jsonl");
const SAMPLES: u64 = 31;

/// So many packets of one size, each so many segments with 66 bytes of headers.
fn traffic(packets: u64, bytes_each: u64, segments: u64) -> TrafficCounters {
    TrafficCounters {
        packets,
        wire_packets: packets * segments,
        interface_bytes: packets * bytes_each,
        wire_bytes: packets * (bytes_each + (segments - 1) * 66),
    }
}

fn link(classes: &ByProtocol<TrafficCounters>, base: u64, errors: u64, drops: u64) -> LinkCounters {
    let total = classes.total();
    let mut counters = LinkCounters::default();
    counters.packets = base + total.packets;
    counters.interface_bytes = base * 500 + total.interface_bytes;
    counters.errors = errors;
    counters.drops = drops;
    counters
}

fn address(text: &str, prefix_length: u8) -> InterfaceAddress {
    InterfaceAddress { address: text.parse::<IpAddr>().unwrap(), prefix_length }
}

/// A small web server for half a minute: 1,000 packets in and 800 out a second, one drop every ten seconds.
fn snapshot(second: u64) -> InterfaceSnapshot {
    let incoming = ByProtocol {
        ipv4_tcp: traffic(620 * second, 1514, 1),
        ipv4_udp: traffic(130 * second, 240, 1),
        ipv4_icmp: traffic(second, 98, 1),
        ipv6_tcp: traffic(200 * second, 1514, 1),
        ipv6_udp: traffic(40 * second, 180, 1),
        ipv6_icmp: traffic(6 * second, 86, 1),
        arp: traffic(2 * second, 42, 1),
        other: traffic(second, 60, 1),
        ..ByProtocol::default()
    };
    let outgoing = ByProtocol {
        ipv4_tcp: traffic(500 * second, 4410, 3),
        ipv4_udp: traffic(100 * second, 120, 1),
        ipv6_tcp: traffic(198 * second, 4410, 3),
        arp: traffic(2 * second, 42, 1),
        ..ByProtocol::default()
    };

    let mut lo = InterfaceFact::new(1, "lo");
    lo.state = InterfaceState::Unknown;
    lo.loopback = true;
    lo.mtu = 65_536;
    lo.addresses = vec![address("127.0.0.1", 8), address("::1", 128)];
    lo.incoming =
        link(&ByProtocol { ipv4_tcp: traffic(20 * second, 400, 1), ..ByProtocol::default() }, 4_000, 0, 0);
    lo.outgoing = lo.incoming;

    let mut eth0 = InterfaceFact::new(2, "eth0");
    eth0.layer = Layer::Wire;
    eth0.mac_address = Some("02:00:5e:10:00:01".to_owned());
    eth0.addresses = vec![address("192.0.2.10", 24), address("2001:db8::10", 64)];
    eth0.carrier_changes = Some(1);
    eth0.incoming = link(&incoming, 1_000_000, 0, 3 + second / 10);
    eth0.outgoing = link(&outgoing, 700_000, 0, 0);
    eth0.hooks = vec![
        HookCounters::new(Hook::TcxEgress, Layer::Skb, outgoing),
        HookCounters::new(Hook::TcxIngress, Layer::Skb, incoming),
    ];

    let mut wg0 = InterfaceFact::new(3, "wg0");
    wg0.kind = Some("wireguard".into());
    wg0.alias = Some("site-to-site".into());
    wg0.ethernet = false;
    wg0.mtu = 1420;
    wg0.state = InterfaceState::Unknown;
    wg0.addresses = vec![address("10.8.0.1", 24)];

    let mut eth1 = InterfaceFact::new(4, "eth1");
    eth1.layer = Layer::Wire;
    eth1.mac_address = Some("02:00:5e:10:00:02".to_owned());
    eth1.state = InterfaceState::AdminDown;

    // Half past noon, a day and some after boot.
    let start: jiff::Timestamp = "2026-03-01T12:30:00Z".parse().unwrap();
    let at = Moment {
        boot_ns: (100_000 + second) * 1_000_000_000,
        wall: start + jiff::SignedDuration::from_secs(i64::try_from(second).unwrap()),
    };
    InterfaceSnapshot::new(at, vec![lo, eth0, wg0, eth1], Some(2))
}

fn recording() -> String {
    let header = serde_json::json!({
        "format": recording::FORMAT,
        "version": recording::VERSION,
        "recorded_by": "netmon demo",
        "source": SourceDescription::new("live", "demo", "6.12.0"),
        "hooks": [
            HookStatus::works(Hook::InterfaceCounters),
            HookStatus::works(Hook::Tcx),
            HookStatus::works(Hook::Clsact),
            HookStatus::works(Hook::Xdp),
        ],
    });
    let mut text = format!("{header}\n");
    for second in 0..SAMPLES {
        let mut line = serde_json::to_value(snapshot(second)).unwrap();
        line["type"] = "interfaces".into();
        writeln!(text, "{line}").unwrap();
    }
    text
}

#[test]
fn the_demo_recording_is_as_this_version_writes_it() {
    if std::env::var_os("NETMON_UPDATE").is_some() {
        fs::write(PATH, recording()).unwrap();
    }
    let stored = fs::read_to_string(PATH).unwrap();
    assert!(
        stored == recording(),
        "recordings/demo.jsonl is stale: run `NETMON_UPDATE=1 cargo test -p netmon-core`"
    );
}
