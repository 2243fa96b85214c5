//! Interfaces, and what was counted on them.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{Hook, Moment};
use crate::clean::CleanText;

/// The state of all interfaces of a network namespace at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InterfaceSnapshot {
    /// When the counters were read: the middle of the kernel's answer.
    pub at: Moment,
    /// Every interface, in the kernel's order (by index). Empty only where the namespace has none.
    pub interfaces: Vec<InterfaceFact>,
    /// The index of the interface that the default route leaves by, IPv4 before IPv6. `None` without a default route.
    pub default_route: Option<u32>,
}

impl InterfaceSnapshot {
    /// A snapshot of these interfaces.
    pub fn new(at: Moment, interfaces: Vec<InterfaceFact>, default_route: Option<u32>) -> Self {
        Self { at, interfaces, default_route }
    }

    /// The interface of this name.
    pub fn by_name(&self, name: &str) -> Option<&InterfaceFact> {
        self.interfaces.iter().find(|interface| interface.name == *name)
    }

    /// The interface of this index.
    pub fn by_index(&self, index: u32) -> Option<&InterfaceFact> {
        self.interfaces.iter().find(|interface| interface.index == index)
    }
}

/// One interface at one moment. Source: rtnetlink (`RTM_GETLINK`, `RTM_GETADDR`); no privilege needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InterfaceFact {
    /// The kernel's number for it, not used again in this namespace while it lives.
    pub index: u32,
    /// Its name. It can be changed while the interface is in use.
    pub name: CleanText,
    /// The kind of virtual device (`veth`, `bridge`, `wireguard`); `None` for hardware and loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<CleanText>,
    /// What an administrator wrote beside it (`ifalias`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<CleanText>,
    /// The link-layer address, as `aa:bb:cc:dd:ee:ff`; `None` where the link has none.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// The largest packet that it sends, link-layer header not counted.
    pub mtu: u32,
    /// Its operational state.
    pub state: InterfaceState,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// Whether frames start with an Ethernet header.
    pub ethernet: bool,
    /// Where its driver counts.
    pub layer: Layer,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// How often the carrier came or went since the interface was made; `None` where the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier_changes: Option<u32>,
    /// What the driver received.
    pub incoming: LinkCounters,
    /// What the driver sent.
    pub outgoing: LinkCounters,
    /// What our own programs counted there, for each that is attached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookCounters>,
}

impl InterfaceFact {
    /// An interface with nothing counted yet; the rest is public to be set.
    pub fn new(index: u32, name: impl Into<CleanText>) -> Self {
        Self {
            index,
            name: name.into(),
            kind: None,
            alias: None,
            mac_address: None,
            mtu: 1500,
            state: InterfaceState::Up,
            loopback: false,
            ethernet: true,
            layer: Layer::Skb,
            addresses: Vec::new(),
            carrier_changes: None,
            incoming: LinkCounters::default(),
            outgoing: LinkCounters::default(),
            hooks: Vec::new(),
        }
    }

    /// The driver's counters of one direction.
    pub fn counters(&self, direction: Direction) -> &LinkCounters {
        match direction {
            Direction::Incoming => &self.incoming,
            Direction::Outgoing => &self.outgoing,
        }
    }

    /// What a hook of ours counted there.
    pub fn hook(&self, hook: Hook) -> Option<&HookCounters> {
        self.hooks.iter().find(|counters| counters.hook == hook)
    }
}

/// The operational state of an interface (RFC 2863, `IF_OPER_*`), and `AdminDown` where it is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum InterfaceState {
    /// Passes packets.
    Up,
    /// Switched on, but something below is down: no carrier, no peer.
    Down,
    /// Switched off by the administrator.
    AdminDown,
    /// Waits for an outside event, such as an 802.1X login.
    Dormant,
    /// In a test mode.
    Testing,
    /// A device that it stands on is down.
    LowerLayerDown,
    /// Hardware is missing.
    NotPresent,
    /// The driver does not tell; it is switched on. Loopback and tun devices say so while they work.
    Unknown,
}

impl InterfaceState {
    /// Whether it may pass packets: up, or switched on without a driver that tells.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Up | Self::Unknown)
    }
}

impl InterfaceState {
    /// Its name in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::AdminDown => "admin_down",
            Self::Dormant => "dormant",
            Self::Testing => "testing",
            Self::LowerLayerDown => "lower_layer_down",
            Self::NotPresent => "not_present",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for InterfaceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name().replace('_', " "))
    }
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// The length of its network's prefix, in bits.
    pub prefix_length: u8,
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

/// Where packets were counted, which decides what one packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layer {
    /// Frames as they are on the wire: hardware drivers count so, and native XDP.
    Wire,
    /// Socket buffers: virtual devices count so. A buffer may stand for many frames (GSO, GRO); `wire_packets` says how
    /// many.
    Skb,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Wire => "wire",
            Self::Skb => "skb",
        })
    }
}

/// The kernel's own counters of an interface in one direction, since it was made (`struct rtnl_link_stats64`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct LinkCounters {
    /// `rx_packets` or `tx_packets`.
    pub packets: u64,
    /// `rx_bytes` or `tx_bytes`: frames without the check sequence on most drivers.
    pub interface_bytes: u64,
    /// `rx_errors` or `tx_errors`.
    pub errors: u64,
    /// `rx_dropped` and `rx_missed_errors`, or `tx_dropped`: lost for want of room or of somebody to take them.
    pub drops: u64,
}

/// The way of packets through an interface, as its host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Received.
    Incoming,
    /// Sent.
    Outgoing,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
        })
    }
}

/// What one attached program of ours counted since it was attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HookCounters {
    /// Where it is attached.
    pub hook: Hook,
    /// What it counts.
    pub layer: Layer,
    /// Its counters, by traffic class.
    pub by_protocol: ByProtocol<TrafficCounters>,
}

impl HookCounters {
    /// The counters of a hook.
    pub fn new(hook: Hook, layer: Layer, by_protocol: ByProtocol<TrafficCounters>) -> Self {
        Self { hook, layer, by_protocol }
    }
}

/// What a BPF program counted of one traffic class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrafficCounters {
    /// Socket buffers, or frames under native XDP.
    pub packets: u64,
    /// Frames on the wire: the sum of each buffer's segments.
    pub wire_packets: u64,
    /// Bytes of the buffers, link-layer header included.
    pub interface_bytes: u64,
    /// Bytes on the wire: those, and the headers that segmentation repeats.
    pub wire_bytes: u64,
}

impl TrafficCounters {
    /// What came since an earlier reading of the same counters; saturates at zero.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            wire_packets: self.wire_packets.saturating_sub(earlier.wire_packets),
            interface_bytes: self.interface_bytes.saturating_sub(earlier.interface_bytes),
            wire_bytes: self.wire_bytes.saturating_sub(earlier.wire_bytes),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.wire_packets = self.wire_packets.saturating_add(other.wire_packets);
        self.interface_bytes = self.interface_bytes.saturating_add(other.interface_bytes);
        self.wire_bytes = self.wire_bytes.saturating_add(other.wire_bytes);
    }
}

/// One value for each traffic class: network layer and transport, VLAN tags looked through. Every frame is in exactly one
/// class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ByProtocol<T> {
    /// TCP over IPv4.
    pub ipv4_tcp: T,
    /// UDP over IPv4.
    pub ipv4_udp: T,
    /// ICMP over IPv4.
    pub ipv4_icmp: T,
    /// Any other protocol over IPv4.
    pub ipv4_other: T,
    /// TCP over IPv6.
    pub ipv6_tcp: T,
    /// UDP over IPv6.
    pub ipv6_udp: T,
    /// `ICMPv6`.
    pub ipv6_icmp: T,
    /// Any other protocol over IPv6.
    pub ipv6_other: T,
    /// ARP.
    pub arp: T,
    /// Neither IP nor ARP, or too short to tell.
    pub other: T,
}

impl<T> ByProtocol<T> {
    /// The classes with their names, in the order of the fields.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &T)> {
        [
            ("ipv4_tcp", &self.ipv4_tcp),
            ("ipv4_udp", &self.ipv4_udp),
            ("ipv4_icmp", &self.ipv4_icmp),
            ("ipv4_other", &self.ipv4_other),
            ("ipv6_tcp", &self.ipv6_tcp),
            ("ipv6_udp", &self.ipv6_udp),
            ("ipv6_icmp", &self.ipv6_icmp),
            ("ipv6_other", &self.ipv6_other),
            ("arp", &self.arp),
            ("other", &self.other),
        ]
        .into_iter()
    }

    /// The same classes with other values, computed from two of the same kind.
    pub(crate) fn zip_with<U, V>(&self, other: &ByProtocol<U>, f: impl Fn(&T, &U) -> V) -> ByProtocol<V> {
        ByProtocol {
            ipv4_tcp: f(&self.ipv4_tcp, &other.ipv4_tcp),
            ipv4_udp: f(&self.ipv4_udp, &other.ipv4_udp),
            ipv4_icmp: f(&self.ipv4_icmp, &other.ipv4_icmp),
            ipv4_other: f(&self.ipv4_other, &other.ipv4_other),
            ipv6_tcp: f(&self.ipv6_tcp, &other.ipv6_tcp),
            ipv6_udp: f(&self.ipv6_udp, &other.ipv6_udp),
            ipv6_icmp: f(&self.ipv6_icmp, &other.ipv6_icmp),
            ipv6_other: f(&self.ipv6_other, &other.ipv6_other),
            arp: f(&self.arp, &other.arp),
            other: f(&self.other, &other.other),
        }
    }
}

impl ByProtocol<TrafficCounters> {
    /// The sum of all classes: every packet that the program saw.
    pub fn total(&self) -> TrafficCounters {
        let mut total = TrafficCounters::default();
        for (_, counters) in self.iter() {
            total.add(counters);
        }
        total
    }
}

/// Something that an earlier, killed process left in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Leftover {
    /// The interface that it is attached to.
    pub interface: CleanText,
    /// Where.
    pub hook: Hook,
    /// The handle of the filter, as `tc filter show` prints it.
    #[serde(deserialize_with = "crate::clean::sentences")]
    pub handle: String,
}
