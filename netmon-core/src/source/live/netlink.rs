//! What the kernel tells every user by rtnetlink: interfaces with 64-bit counters, addresses, the default route, filters.
//!
//! Framing, headers and statistics are read by the netlink-packet crates. Attributes are taken one by one here instead of
//! through those crates' message types: these refuse a whole message over one attribute that they cannot read, and an
//! interface whose name is not UTF-8 would then hide every other.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NlaBuffer, NlasIterator,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressHeader, AddressMessage},
    link::{LinkFlags, LinkHeader, LinkLayerType, LinkMessage, Stats64},
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::kernel_error;
use crate::{
    clean::CleanText,
    error::Result,
    fact::{InterfaceAddress, InterfaceFact, InterfaceState, Layer, LinkCounters},
};

const EINTR: i32 = 4;

/// A reply that is not read yet.
struct RawReply(Vec<u8>);

impl NetlinkDeserializable for RawReply {
    type Error = DecodeError;

    fn deserialize(_header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self(payload.to_vec()))
    }
}

pub(super) fn connect(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Whether rtnetlink can be used at all, which a sandbox may forbid.
pub(super) fn check() -> Result<()> {
    connect(NETLINK_ROUTE).map(drop).map_err(kernel_error("open a netlink socket"))
}

pub(super) fn malformed(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// Sends a request and gives every reply's payload to `read`.
fn ask(request: RouteNetlinkMessage, flags: u16, mut read: impl FnMut(&[u8])) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = 1;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let socket = connect(NETLINK_ROUTE)?;
    socket.send(&bytes, 0)?;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        if read_datagram(&datagram, flags & NLM_F_DUMP != 0, &mut read)? {
            return Ok(());
        }
    }
}

/// Gives every reply's payload to `read`; whether the last one was among them.
fn read_datagram(datagram: &[u8], is_list: bool, mut read: impl FnMut(&[u8])) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = NetlinkBuffer::new_checked(&rest).map_err(malformed)?.length() as usize;
        let reply = NetlinkMessage::<RawReply>::deserialize(rest).map_err(malformed)?;
        match reply.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => {
                return match error.code {
                    // Not its own `to_io`, which negates the smallest number too.
                    Some(code) => Err(io::Error::from_raw_os_error(code.get().saturating_neg())),
                    None => Ok(true),
                };
            }
            NetlinkPayload::InnerMessage(RawReply(payload)) => {
                read(&payload);
                if !is_list {
                    return Ok(true);
                }
            }
            _ => {}
        }
        // Messages are aligned to four bytes, the last of a datagram perhaps not.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Bytes as a datagram, and as the payload of each kind of message.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn read_any_message(bytes: &[u8]) {
    let read = |payload: &[u8]| {
        if let Some(link) = read_link(payload) {
            assert_eq!(CleanText::from(link.name.as_str()), link.name);
        }
        read_address(payload);
        read_default_route(payload);
    };
    // What is no message is refused.
    let _ = read_datagram(bytes, true, read);
    read(bytes);
}

/// Asks for a list, once more where it changed under the kernel's feet and the kernel gave up on it.
fn dump<T>(request: &RouteNetlinkMessage, read: impl Fn(&[u8]) -> Option<T>) -> io::Result<Vec<T>> {
    const TRIES: usize = 5;
    let mut last = io::Error::from_raw_os_error(EINTR);
    for _ in 0..TRIES {
        let mut found = Vec::new();
        match ask(request.clone(), NLM_F_DUMP, |payload| found.extend(read(payload))) {
            Ok(()) => return Ok(found),
            Err(error) if error.raw_os_error() == Some(EINTR) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The attributes behind a header of this length; what is cut off in the middle ends the list.
pub(super) fn attributes(payload: &[u8], header: usize) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(payload.get(header..).unwrap_or_default()).map_while(std::result::Result::ok)
}

fn text(bytes: &[u8]) -> CleanText {
    // Strings end with a zero byte, mostly.
    CleanText::from_bytes(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// All interfaces of the calling thread's network namespace, without their addresses.
pub(super) fn links() -> Result<Vec<InterfaceFact>> {
    dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()), read_link)
        .map_err(kernel_error("list the network interfaces"))
}

fn read_link(payload: &[u8]) -> Option<InterfaceFact> {
    // include/uapi/linux/if_link.h
    const HEADER_LENGTH: usize = 16;
    const IFLA_ADDRESS: u16 = 1;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_MTU: u16 = 4;
    const IFLA_OPERSTATE: u16 = 16;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_IFALIAS: u16 = 20;
    const IFLA_STATS64: u16 = 23;
    const IFLA_CARRIER_CHANGES: u16 = 35;
    const IFLA_PARENT_DEV_BUS_NAME: u16 = 57;
    const IFLA_INFO_KIND: u16 = 1;

    let header = LinkHeader::parse(payload).ok()?;
    let loopback = header.flags.contains(LinkFlags::Loopback);
    let mut fact = InterfaceFact {
        state: InterfaceState::Unknown,
        loopback,
        ethernet: matches!(header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback),
        ..InterfaceFact::new(header.index, "")
    };
    let mut bus = None;
    for attribute in attributes(payload, HEADER_LENGTH) {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_IFNAME => fact.name = text(value),
            IFLA_ADDRESS if !loopback && !value.is_empty() => fact.mac_address = Some(link_address(value)),
            IFLA_MTU => fact.mtu = number(value).unwrap_or_default(),
            IFLA_OPERSTATE => fact.state = operational_state(value.first().copied()),
            IFLA_IFALIAS => fact.alias = Some(text(value)),
            IFLA_CARRIER_CHANGES => fact.carrier_changes = number(value),
            IFLA_PARENT_DEV_BUS_NAME => bus = Some(text(value)),
            IFLA_LINKINFO => {
                fact.kind = attributes(value, 0)
                    .find(|attribute| attribute.kind() == IFLA_INFO_KIND)
                    .map(|kind| text(kind.value()));
            }
            IFLA_STATS64 => {
                let stats = Stats64::parse(value).ok()?;
                fact.incoming = LinkCounters {
                    packets: stats.rx_packets,
                    interface_bytes: stats.rx_bytes,
                    errors: stats.rx_errors,
                    drops: stats.rx_dropped.saturating_add(stats.rx_missed_errors),
                };
                fact.outgoing = LinkCounters {
                    packets: stats.tx_packets,
                    interface_bytes: stats.tx_bytes,
                    errors: stats.tx_errors,
                    drops: stats.tx_dropped,
                };
            }
            _ => {}
        }
    }
    if !header.flags.contains(LinkFlags::Up) {
        fact.state = InterfaceState::AdminDown;
    }
    fact.layer = driver_layer(&fact, bus.as_ref());
    Some(fact)
}

/// What the driver of an interface counts. Hardware counts frames. Virtual devices are handed socket buffers, and so is
/// virtio, whose host passes on unsegmented packets.
fn driver_layer(fact: &InterfaceFact, bus: Option<&CleanText>) -> Layer {
    let virtio = bus.is_some_and(|bus| *bus == "virtio");
    if fact.loopback || fact.kind.is_some() || virtio { Layer::Skb } else { Layer::Wire }
}

fn link_address(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (index, byte) in bytes.iter().enumerate() {
        let separator = if index == 0 { "" } else { ":" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{byte:02x}");
    }
    text
}

fn operational_state(value: Option<u8>) -> InterfaceState {
    // include/uapi/linux/if.h
    match value {
        Some(1) => InterfaceState::NotPresent,
        Some(2) => InterfaceState::Down,
        Some(3) => InterfaceState::LowerLayerDown,
        Some(4) => InterfaceState::Testing,
        Some(5) => InterfaceState::Dormant,
        Some(6) => InterfaceState::Up,
        _ => InterfaceState::Unknown,
    }
}

/// The addresses of every interface, by its index.
pub(super) fn addresses() -> Result<HashMap<u32, Vec<InterfaceAddress>>> {
    let found = dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()), read_address)
        .map_err(kernel_error("list the interfaces' addresses"))?;
    let mut by_index: HashMap<u32, Vec<InterfaceAddress>> = HashMap::new();
    for (index, address) in found {
        by_index.entry(index).or_default().push(address);
    }
    Ok(by_index)
}

fn read_address(payload: &[u8]) -> Option<(u32, InterfaceAddress)> {
    // include/uapi/linux/if_addr.h
    const HEADER_LENGTH: usize = 8;
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;

    let header = AddressHeader::parse(payload).ok()?;
    let (mut address, mut local) = (None, None);
    for attribute in attributes(payload, HEADER_LENGTH) {
        match attribute.kind() {
            IFA_ADDRESS => address = ip_address(attribute.value()),
            // On a point-to-point link the other attribute is the peer's.
            IFA_LOCAL => local = ip_address(attribute.value()),
            _ => {}
        }
    }
    let address = local.or(address)?;
    Some((header.index, InterfaceAddress { address, prefix_length: header.prefix_len }))
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into())
}

/// The index of the interface that the default route leaves by, IPv4 before IPv6.
///
/// The kernel is asked which route it would take to an address that nobody has (RFC 5737, RFC 3849), instead of for all
/// routes: a router may have a million, and policy rules are honoured. That the answer is a default route, or the half of
/// one, shows in its prefix length.
pub(super) fn default_route_interface() -> Option<u32> {
    let documentation: [(AddressFamily, RouteAddress, u8); 2] = [
        (AddressFamily::Inet, RouteAddress::Inet(Ipv4Addr::new(192, 0, 2, 1)), 32),
        (AddressFamily::Inet6, RouteAddress::Inet6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 128),
    ];
    documentation.into_iter().find_map(|(family, destination, prefix_length)| {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        request.header.destination_prefix_length = prefix_length;
        request.header.flags = RouteFlags::FibMatch;
        request.attributes.push(RouteAttribute::Destination(destination));

        let mut interface = None;
        // No route is an error here (ENETUNREACH), and the ordinary answer on an isolated host.
        ask(RouteNetlinkMessage::GetRoute(request), 0, |payload| interface = read_default_route(payload))
            .ok()?;
        interface
    })
}

fn read_default_route(payload: &[u8]) -> Option<u32> {
    // include/uapi/linux/rtnetlink.h
    const HEADER_LENGTH: usize = 12;
    const RTA_OIF: u16 = 4;
    const RTA_MULTIPATH: u16 = 9;
    const NEXT_HOP_INTERFACE: std::ops::Range<usize> = 4..8;
    const DESTINATION_PREFIX_LENGTH: usize = 1;
    // VPNs put two halves (0.0.0.0/1 and 128.0.0.0/1) before the default route instead of replacing it.
    const LONGEST_DEFAULT_PREFIX: u8 = 1;

    if RouteHeader::parse(payload).is_err()
        || *payload.get(DESTINATION_PREFIX_LENGTH)? > LONGEST_DEFAULT_PREFIX
    {
        return None;
    }
    attributes(payload, HEADER_LENGTH).find_map(|attribute| match attribute.kind() {
        RTA_OIF => number(attribute.value()),
        // struct rtnexthop: of several, the first.
        RTA_MULTIPATH => number(attribute.value().get(NEXT_HOP_INTERFACE)?),
        _ => None,
    })
}

/// A traffic-control filter.
#[cfg(feature = "bpf")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) handle: u32,
    pub(super) priority: u32,
}

/// The filters in one direction of the clsact queueing discipline of an interface; none where it has no such discipline.
#[cfg(feature = "bpf")]
pub(super) fn clsact_filters(
    ifindex: u32,
    direction: netmon_bpf::interface::Direction,
) -> io::Result<Vec<Filter>> {
    use netlink_packet_route::tc::{TcHeader, TcMessage};
    use netmon_bpf::interface::Direction;

    // include/uapi/linux/pkt_sched.h: TC_H_CLSACT with TC_H_MIN_INGRESS or TC_H_MIN_EGRESS
    const CLSACT_INGRESS: u32 = 0xffff_fff2;
    const CLSACT_EGRESS: u32 = 0xffff_fff3;
    const EINVAL: i32 = 22;

    let mut request = TcMessage::default();
    request.header.index = i32::try_from(ifindex).map_err(malformed)?;
    request.header.parent = match direction {
        Direction::Ingress => CLSACT_INGRESS.into(),
        Direction::Egress => CLSACT_EGRESS.into(),
    };
    let filters = dump(&RouteNetlinkMessage::GetTrafficFilter(request), |payload| {
        let header = TcHeader::parse(payload).ok()?;
        let handle = u32::from(header.handle);
        // Each classifier is listed once by itself, with handle 0, before its filters.
        (handle != 0).then_some(Filter { handle, priority: header.info >> 16 })
    });
    match filters {
        Err(error) if error.raw_os_error() == Some(EINVAL) => Ok(Vec::new()),
        other => other,
    }
}

/// The kind of the queueing discipline in the one place for `clsact` and `ingress`; `None` where neither is.
#[cfg(feature = "bpf")]
pub(super) fn ingress_qdisc_kind(ifindex: u32) -> io::Result<Option<CleanText>> {
    use netlink_packet_route::tc::{TcHeader, TcMessage};

    // include/uapi/linux/pkt_sched.h: TC_H_CLSACT, which is TC_H_INGRESS; rtnetlink.h
    const TC_H_INGRESS: u32 = 0xffff_fff1;
    const HEADER_LENGTH: usize = 20;
    const TCA_KIND: u16 = 1;

    let index = i32::try_from(ifindex).map_err(malformed)?;
    // The kernel lists those of every interface, whichever is asked for.
    let kinds = dump(&RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()), |payload| {
        let header = TcHeader::parse(payload).ok()?;
        if header.index != index || u32::from(header.parent) != TC_H_INGRESS {
            return None;
        }
        let kind = attributes(payload, HEADER_LENGTH).find(|attribute| attribute.kind() == TCA_KIND)?;
        Some(text(kind.value()))
    })?;
    Ok(kinds.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(attributes: &[Vec<u8>]) -> Vec<u8> {
        let header = LinkHeader {
            index: 7,
            flags: LinkFlags::Up,
            link_layer_type: LinkLayerType::Ether,
            ..LinkHeader::default()
        };
        let mut bytes = vec![0; 16];
        netlink_packet_core::Emitable::emit(&header, &mut bytes);
        bytes.extend(attributes.iter().flatten());
        bytes
    }

    #[test]
    fn a_name_that_is_not_utf8_is_shown_escaped_and_hides_nothing() {
        let fact =
            read_link(&link(&[attribute(3, b"ev\xffil\x1b\0"), attribute(4, &9000_u32.to_ne_bytes())]));
        let fact = fact.unwrap();
        assert_eq!(fact.name.as_str(), r"ev\xffil\x1b");
        assert_eq!((fact.index, fact.mtu), (7, 9000));
    }

    #[test]
    fn a_cut_message_is_read_as_far_as_it_goes() {
        let whole = link(&[attribute(3, b"eth0\0"), attribute(4, &1500_u32.to_ne_bytes())]);
        for length in 0..whole.len() {
            if let Some(fact) = read_link(&whole[..length]) {
                assert!(fact.name == "eth0" || fact.name == "", "{length}: {:?}", fact.name);
            }
        }
    }

    #[test]
    fn this_namespace_has_a_loopback() {
        let links = links().unwrap();
        let loopback = links.iter().find(|link| link.loopback).unwrap();
        assert_eq!(loopback.layer, Layer::Skb);
        assert!(loopback.mac_address.is_none());
    }
}
