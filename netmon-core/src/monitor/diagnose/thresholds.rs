//! The numbers that decide what is a finding. They are the same for everybody, and every finding has those that it passed.
//! Scans and beacons have theirs in [`patterns::thresholds`](crate::monitor::patterns::thresholds).

use std::time::Duration;

/// How many rows a finding has as examples; more are counted in it.
pub const EXAMPLES: usize = 5;
/// How many destinations are told apart; attempts at further ones are in no finding, and a warning says so.
pub const MOST_DESTINATIONS: usize = 200_000;

/// A destination refuses connections, or look-ups fail, where it did so at least so many times ...
pub const LEAST_REFUSED: u64 = 3;
/// ... or let so many time out, each of which takes a minute or two, ...
pub const LEAST_TIMED_OUT: u64 = 2;
/// ... and the lower bound of the share of such attempts is at least this: Wilson's interval of 95 %, wider where many
/// destinations are compared, so that a crawler's few dead hosts are none.
pub const FAILED_SHARE: f64 = 0.2;

/// A listener lost so many connections because its queue was full. One or two may be a burst.
pub const LEAST_OVERFLOWS: u64 = 5;

/// Segments are lost where so many were sent again, SYNs not counted, ...
pub const LEAST_RETRANSMITS: u64 = 30;
/// ... and they are this share of those sent, ...
pub const RETRANSMIT_SHARE: f64 = 0.02;
/// ... or this share, where it is at least [`RETRANSMIT_GROWTH`] times that of as long a time before.
pub const GROWN_RETRANSMIT_SHARE: f64 = 0.01;
/// See [`GROWN_RETRANSMIT_SHARE`].
pub const RETRANSMIT_GROWTH: f64 = 3.0;

/// Round trips to a host are slow where at least so many connections began in the window, and in as long a time before,
/// ...
pub const LEAST_ROUND_TRIPS: usize = 5;
/// ... their median is so many times what it was, ...
pub const ROUND_TRIP_GROWTH: f64 = 3.0;
/// ... and so much longer; three quarters of them took longer than three quarters of the earlier ones did.
pub const ROUND_TRIP_INCREASE: Duration = Duration::from_millis(20);

/// Local ports run out where this share of those that the kernel chooses from is taken towards one destination.
pub const LOCAL_PORT_SHARE: f64 = 0.8;
/// Or where so many attempts found none (`EADDRNOTAVAIL`).
pub const LEAST_WITHOUT_PORT: u64 = 3;
/// A limit is near where this share of it is used.
pub const LIMIT_SHARE: f64 = 0.9;
/// Datagrams are lost where so many found no room at a socket ...
pub const LEAST_UDP_OVERFLOWS: u64 = 10;
/// ... and they are this share of those that came.
pub const UDP_OVERFLOW_SHARE: f64 = 0.001;

/// A program forgets to close where it has at least so many connections that the other side has closed ...
pub const LEAST_CLOSE_WAIT: u64 = 20;
/// ... and they are this share of its connections.
pub const CLOSE_WAIT_SHARE: f64 = 0.25;
/// Connections in `TIME_WAIT` are many where they take this share of the local ports towards one destination, or of all
/// that may be in it.
pub const TIME_WAIT_SHARE: f64 = 0.5;

/// A program floods where it made at least so many attempts in the window, ...
pub const LEAST_FLOOD: u64 = 1_000;
/// ... so many a second, ...
pub const FLOOD_PER_SECOND: f64 = 50.0;
/// ... this share of all attempts, ...
pub const FLOOD_SHARE: f64 = 0.8;
/// ... and got nothing from this share of them (Wilson's lower bound), or makes so many times as many as in as long a time
/// before.
pub const FLOOD_FRUITLESS: f64 = 0.5;
/// See [`FLOOD_FRUITLESS`]; the same of bytes.
pub const FLOOD_GROWTH: f64 = 5.0;
/// A program floods where it sends and receives so many bytes a second, [`FLOOD_SHARE`] of all, [`FLOOD_GROWTH`] times what
/// it did before.
pub const FLOOD_BYTES_PER_SECOND: f64 = 10e6;

/// An interface damages packets where it counted so many errors.
pub const LEAST_INTERFACE_ERRORS: u64 = 10;
/// It drops packets where it counted so many drops, ...
pub const LEAST_INTERFACE_DROPS: u64 = 50;
/// ... so many a second, as frames of protocols that nobody takes (of switches, a few a second) are counted too, ...
pub const INTERFACE_DROPS_PER_SECOND: f64 = 5.0;
/// ... and errors or drops are this share of its packets.
pub const INTERFACE_LOSS_SHARE: f64 = 0.001;

/// The kernel drops packets to this host's harm where it dropped so many for one such reason: at a socket that is full,
/// damaged, or a process's own for want of a route, of a next hop, or of permission; ...
pub const LEAST_DROPPED: u64 = 10;
/// ... and so many a second, as a few in an hour are none.
pub const DROPPED_PER_SECOND: f64 = 0.1;
/// What strangers or a busy network do is told where so many were dropped for one reason ...
pub const LEAST_STRAY: u64 = 100;
/// ... and so many a second, as hosts on the Internet are tried about once a second.
pub const STRAY_PER_SECOND: f64 = 10.0;
