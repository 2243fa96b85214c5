//! Two namespaces with a veth between them.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    PATIENCE,
    counters::{Counters, TcpSegments},
    netns::Netns,
    wait_until,
};

/// What a link should be like.
#[derive(Debug, Clone, Copy)]
pub struct LinkOptions {
    /// The MTU of both ends.
    pub mtu: u32,
    /// Both sides know the other's link-layer address, so that nobody asks for it, and nothing is sent but by the test.
    pub known_neighbours: bool,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self { mtu: 1500, known_neighbours: true }
    }
}

/// One end of a link, in a namespace of its own.
#[derive(Debug)]
pub struct Side {
    /// Where it is.
    pub netns: Netns,
    /// The interface's index; no other interface made by this process has it.
    pub index: u32,
    /// Its link-layer address.
    pub mac: [u8; 6],
    /// Its IPv4 address, of a network of 24 bits.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address, of a network of 64 bits.
    pub ipv6: Ipv6Addr,
}

impl Side {
    /// The name of the interface, the same on both sides.
    pub const INTERFACE: &'static str = "veth0";

    /// The kernel's own counters of the interface.
    ///
    /// # Panics
    /// Where it is gone.
    #[track_caller]
    pub fn counters(&self) -> Counters {
        self.counters_of(Self::INTERFACE)
    }

    /// The same of another interface in this namespace.
    ///
    /// # Panics
    /// Where there is none of this name.
    #[track_caller]
    pub fn counters_of(&self, interface: &str) -> Counters {
        let counters = self.netns.enter(|| Counters::of(interface));
        counters.unwrap_or_else(|| panic!("{} has no interface {interface}", self.netns.name()))
    }

    /// Waits until an interface has this state, as `ip link` writes it. The kernel tells it a while after it is so.
    ///
    /// # Panics
    /// Where it never has.
    #[track_caller]
    pub fn wait_for_state(&self, interface: &str, state: &str) {
        wait_until(&format!("{interface} is {state}"), || {
            self.netns.run(&format!("ip -o link show dev {interface}")).contains(&format!("state {state} "))
        });
    }

    /// What TCP sent in this namespace.
    ///
    /// # Panics
    /// Where /proc cannot be read.
    #[track_caller]
    pub fn tcp_segments(&self) -> TcpSegments {
        self.netns
            .enter(TcpSegments::of_this_namespace)
            .unwrap_or_else(|| panic!("cannot read /proc/net/snmp"))
    }
}

/// Two namespaces, `near` and `far`, joined by a veth. Tests measure on the near side.
#[derive(Debug)]
pub struct VethPair {
    /// 10.77.0.1 and `fd77::1`.
    pub near: Side,
    /// 10.77.0.2 and `fd77::2`.
    pub far: Side,
}

/// Unique, so that a hook found in the kernel tells which test it belongs to: far from the numbers that namespaces hand
/// out themselves, and from those of other processes' tests.
fn next_index() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    100_000 + (std::process::id() % 10_000) * 1_000 + NEXT.fetch_add(1, Ordering::Relaxed)
}

fn side(host: u8) -> Side {
    Side {
        netns: Netns::create(),
        index: 0,
        mac: [2, 0, 0, 0x77, 0, host],
        ipv4: Ipv4Addr::new(10, 77, 0, host),
        ipv6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(host)),
    }
}

pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl VethPair {
    /// A link of MTU 1500 whose sides know each other.
    #[track_caller]
    pub fn create() -> Self {
        Self::create_with(LinkOptions::default())
    }

    /// A link as asked for; both ends are up and quiet.
    #[track_caller]
    pub fn create_with(options: LinkOptions) -> Self {
        let mut pair = Self { near: side(1), far: side(2) };
        pair.connect(options);
        pair
    }

    /// Makes the interfaces, also anew after they were removed: with the same names and other indices.
    #[track_caller]
    pub fn connect(&mut self, options: LinkOptions) {
        (self.near.index, self.far.index) = (next_index(), next_index());
        let (near, far) = (&self.near, &self.far);
        let name = Side::INTERFACE;
        near.netns.ip(&[format!(
            "link add name {name} index {} address {} mtu {mtu} type veth \
             peer name {name} index {} address {} mtu {mtu} netns {}",
            near.index,
            mac_text(near.mac),
            far.index,
            mac_text(far.mac),
            far.netns.name(),
            mtu = options.mtu,
        )]);
        for (own, other) in [(near, far), (far, near)] {
            let mut lines = Vec::new();
            if options.known_neighbours {
                // Nor does IPv6 then join and report the groups by which it would be asked.
                lines.push(format!("link set {name} arp off"));
            }
            lines.extend([
                format!("addr add {}/24 dev {name}", own.ipv4),
                format!("addr add {}/64 dev {name} nodad", own.ipv6),
                format!("link set {name} up"),
            ]);
            if options.known_neighbours {
                for address in [other.ipv4.to_string(), other.ipv6.to_string()] {
                    let mac = mac_text(other.mac);
                    lines.push(format!("neigh replace {address} lladdr {mac} dev {name} nud permanent"));
                }
            }
            own.netns.ip(&lines);
        }
        for side in [near, far] {
            side.wait_for_state(name, "UP");
        }
        // Reports of multicast groups may come late.
        self.quiet_for(Duration::from_millis(if options.known_neighbours { 10 } else { 500 }));
    }

    /// Adds a VLAN on both ends: an interface `veth0.ID` with the addresses 10.77.ID.1 and .2.
    #[track_caller]
    pub fn add_vlan(&self, id: u8) -> (Ipv4Addr, Ipv4Addr) {
        let name = Side::INTERFACE;
        let address = |host| Ipv4Addr::new(10, 77, id, host);
        for (own, host, other, other_host) in [(&self.near, 1, &self.far, 2), (&self.far, 2, &self.near, 1)] {
            own.netns.ip(&[
                format!("link add link {name} name {name}.{id} type vlan id {id}"),
                format!("addr add {}/24 dev {name}.{id}", address(host)),
                format!("link set {name}.{id} up"),
                format!(
                    "neigh replace {} lladdr {} dev {name}.{id} nud permanent",
                    address(other_host),
                    mac_text(other.mac)
                ),
            ]);
        }
        self.settle();
        (address(1), address(2))
    }

    /// Waits until nothing has been counted for a while on either side.
    ///
    /// # Panics
    /// Where it never becomes quiet.
    #[track_caller]
    pub fn settle(&self) {
        self.quiet_for(Duration::from_millis(60));
    }

    #[track_caller]
    fn quiet_for(&self, quiet: Duration) {
        let deadline = Instant::now() + PATIENCE;
        let read = || (self.near.counters(), self.far.counters());
        let (mut last, mut since) = (read(), Instant::now());
        while since.elapsed() < quiet {
            assert!(Instant::now() < deadline, "the link never became quiet: {last:?}");
            thread::sleep(Duration::from_millis(10));
            let now = read();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }
}
