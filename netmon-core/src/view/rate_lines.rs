//! A watch's rates, a line a row, with the recent past beside them.

use std::{collections::HashMap, fmt::Write as _};

use unicode_width::UnicodeWidthStr as _;

use super::{Layout, sparkline, units};
use crate::{
    fact::Direction,
    monitor::{Rate, RatesAnswer},
};

/// Turns the answers of a watch into lines: time, interface, direction, rates, and on a terminal a sparkline of the
/// recent packets a second.
#[derive(Debug)]
pub struct RateLines {
    layout: Layout,
    sparklines: bool,
    history: HashMap<(u32, Direction), Vec<f64>>,
    /// As wide as the longest name in the first answer.
    name_width: usize,
    started: bool,
}

impl RateLines {
    /// Lines for this width; sparklines are for eyes only.
    pub fn new(layout: Layout, sparklines: bool) -> Self {
        Self { layout, sparklines, history: HashMap::new(), name_width: 0, started: false }
    }

    /// The lines of the next answer, each ending in a line feed; before the first, a heading.
    pub fn next(&mut self, answer: &RatesAnswer) -> String {
        let mut text = String::new();
        if !self.started {
            self.started = true;
            let longest = answer.rates.iter().map(|rate| rate.interface.as_str().width()).max();
            self.name_width = longest.unwrap_or_default().max("INTERFACE".len());
            let (bold, plain) = if self.layout.color { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
            let heading = self.line(["TIME", "INTERFACE", "DIRECTION", "PACKETS/S", "WIRE/S", "BYTES/S"]);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{bold}{heading}{plain}");
        }
        // The end of the window, on the reader's clock.
        let time =
            answer.header.window.to.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string();
        for rate in &answer.rates {
            let line = self.line([
                &time,
                rate.interface.as_str(),
                &rate.direction.to_string(),
                &units::rate(rate.packets_per_second),
                &rate.wire_packets_per_second.map_or_else(|| "-".to_owned(), units::rate),
                &units::bytes(rate.bytes_per_second),
            ]);
            let past = self.past(rate, line.width());
            let _ = writeln!(text, "{}", format!("{line}  {past}").trim_end());
        }
        text
    }

    fn line(&self, [time, interface, direction, packets, wire, bytes]: [&str; 6]) -> String {
        // A name that is wider than its characters count is padded by what it shows.
        let padding = " ".repeat(self.name_width.saturating_sub(interface.width()));
        format!("{time:<8}  {interface}{padding}  {direction:<9}  {packets:>9}  {wire:>9}  {bytes:>9}")
    }

    /// The sparkline in what is left of the width.
    fn past(&mut self, rate: &Rate, used: usize) -> String {
        const SHORTEST: usize = 4;
        const LONGEST: usize = 40;

        let history = self.history.entry((rate.index, rate.direction)).or_default();
        history.push(rate.packets_per_second);
        if history.len() > LONGEST {
            history.remove(0);
        }
        let room = usize::from(self.layout.width.unwrap_or(80)).saturating_sub(used + 2).min(LONGEST);
        if !self.sparklines || room < SHORTEST {
            return String::new();
        }
        sparkline(history, room)
    }
}
