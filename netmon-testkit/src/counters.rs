//! The kernel's own counters, read by another way than netmon's: from /proc, in the namespace of the calling thread.

use std::fs;

/// What an interface counted since it was made, by `/proc/net/dev`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Received packets.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Sent packets.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
}

impl Counters {
    /// The counters of an interface of the calling thread's namespace; `None` where there is none of this name.
    pub(crate) fn of(interface: &str) -> Option<Self> {
        // Not /proc/net, which is the namespace of the process's first thread.
        let table = fs::read("/proc/thread-self/net/dev").ok()?;
        let table = String::from_utf8_lossy(&table);
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{interface}:")))?;
        let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        Some(Self {
            rx_bytes: *fields.first()?,
            rx_packets: *fields.get(1)?,
            tx_bytes: *fields.get(8)?,
            tx_packets: *fields.get(9)?,
        })
    }

    /// What came since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            rx_packets: self.rx_packets - earlier.rx_packets,
            rx_bytes: self.rx_bytes - earlier.rx_bytes,
            tx_packets: self.tx_packets - earlier.tx_packets,
            tx_bytes: self.tx_bytes - earlier.tx_bytes,
        }
    }
}

/// What the TCP of a namespace sent, by `/proc/net/snmp`: in segments as they are on the wire, IPv4 and IPv6 together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpSegments {
    /// Segments sent, without those sent again.
    pub sent: u64,
    /// Segments sent again.
    pub sent_again: u64,
}

impl TcpSegments {
    pub(crate) fn of_this_namespace() -> Option<Self> {
        let table = fs::read_to_string("/proc/thread-self/net/snmp").ok()?;
        let mut lines = table.lines().filter_map(|line| line.strip_prefix("Tcp:"));
        let (names, values) = (lines.next()?, lines.next()?);
        let value = |name: &str| {
            let mut pairs = names.split_whitespace().zip(values.split_whitespace());
            pairs.find(|(found, _)| *found == name)?.1.parse().ok()
        };
        Some(Self { sent: value("OutSegs")?, sent_again: value("RetransSegs")? })
    }

    /// What came since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self { sent: self.sent - earlier.sent, sent_again: self.sent_again - earlier.sent_again }
    }
}
