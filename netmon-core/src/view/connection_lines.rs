//! A watch's connections, a line a change.

use std::{fmt::Write as _, time::Duration};

use jiff::{Timestamp, tz::TimeZone};

use super::{Layout, units};
use crate::{
    fact::{ConnectionDirection, ConnectionState},
    monitor::Connection,
};

/// Turns the changes of a watch into lines: time, what happened, protocol, direction, process, the other side, and of what
/// ended the bytes, the duration and the reason.
#[derive(Debug)]
pub struct ConnectionLines {
    layout: Layout,
    started: bool,
}

impl ConnectionLines {
    /// Lines for this layout.
    pub fn new(layout: Layout) -> Self {
        Self { layout, started: false }
    }

    /// The lines of these changes, each ending in a line feed; before the first, a heading.
    pub fn next(&mut self, changes: &[Connection]) -> String {
        let mut text = String::new();
        if !self.started {
            self.started = true;
            let heading = line("TIME", "STATE", "PROTO", "DIR", "PROCESS", "REMOTE", "SENT", "RECEIVED", "");
            // Writing to a string cannot fail.
            let _ = match self.layout.color {
                true => writeln!(text, "\u{1b}[1m{heading}\u{1b}[0m"),
                false => writeln!(text, "{heading}"),
            };
        }
        for connection in changes {
            let _ = writeln!(text, "{}", self.change(connection));
        }
        text
    }

    fn change(&self, connection: &Connection) -> String {
        let at = connection.closed_at.or(connection.opened_at).unwrap_or_else(Timestamp::now);
        let time = at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string();
        let process = connection
            .process
            .as_ref()
            .map_or_else(|| "-".to_owned(), |process| format!("{}/{}", process.comm, process.pid));
        let remote = connection.remote.as_ref();
        let remote = remote.map_or_else(|| "-".to_owned(), |remote| remote.endpoint().to_string());
        let over = matches!(connection.state, ConnectionState::Closed | ConnectionState::Failed);
        let bytes = |of: fn(&crate::monitor::BothWays) -> u64| {
            let known = connection.payload_bytes.as_ref().filter(|_| over);
            known.map_or_else(String::new, |payload| units::bytes(of(payload) as f64))
        };
        let mut rest = Vec::new();
        if let Some(error) = &connection.error {
            rest.push(error.name.to_string());
        }
        if let Some(seconds) = connection.duration_seconds.filter(|_| over) {
            rest.push(format!("after {}", units::short(Duration::from_secs_f64(seconds.max(0.0)))));
        }
        let text = line(
            &time,
            connection.state.name(),
            connection.protocol.name(),
            match connection.direction {
                ConnectionDirection::Inbound => "in",
                ConnectionDirection::Outbound => "out",
                ConnectionDirection::None => "-",
            },
            &process,
            &remote,
            &bytes(|payload| payload.sent),
            &bytes(|payload| payload.received),
            &rest.join(" "),
        );
        match (connection.state, self.layout.color) {
            (ConnectionState::Failed, true) => format!("\u{1b}[31m{text}\u{1b}[0m"),
            (ConnectionState::Closed, true) => format!("\u{1b}[2m{text}\u{1b}[0m"),
            _ => text,
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "one a column")]
fn line(
    time: &str,
    state: &str,
    protocol: &str,
    direction: &str,
    process: &str,
    remote: &str,
    sent: &str,
    received: &str,
    rest: &str,
) -> String {
    let text = format!(
        "{time:<8}  {state:<7}  {protocol:<5}  {direction:<3}  {process:<22}  {remote:<24}  {sent:>8}  {received:>8}  {rest}"
    );
    text.trim_end().to_owned()
}
