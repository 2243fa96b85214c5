//! A watch's rates, a line a row, with the recent past beside them.

use std::{collections::HashMap, fmt::Write as _};

use super::{Layout, pad, sparkline, units};
use crate::{fact::Direction, monitor::RatesAnswer};

/// Turns the answers of a watch into lines: time, interface, direction, rates, and on a terminal a sparkline of the
/// recent packets a second.
#[derive(Debug)]
pub struct RateLines {
    layout: Layout,
    sparklines: bool,
    history: HashMap<(u32, Direction), Vec<f64>>,
    started: bool,
}

impl RateLines {
    /// Lines for this width; sparklines are for eyes only.
    pub fn new(layout: Layout, sparklines: bool) -> Self {
        Self { layout, sparklines, history: HashMap::new(), started: false }
    }

    /// The lines of the next answer, each ending in a line feed; before the first, a heading.
    pub fn next(&mut self, answer: &RatesAnswer) -> String {
        const FIXED_COLUMNS: usize = 70;
        const LONGEST_SPARKLINE: usize = 40;

        let room = usize::from(self.layout.width.unwrap_or(80)).saturating_sub(FIXED_COLUMNS);
        let spark_width = if self.sparklines { room.min(LONGEST_SPARKLINE) } else { 0 };
        let mut text = String::new();
        if !self.started {
            self.started = true;
            self.heading(&mut text);
        }
        // The end of the window, on the reader's clock.
        let time = answer.header.window.to.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S");
        for rate in &answer.rates {
            let line = format!(
                "{time}  {}  {:<9}  {:>10}  {:>10}  {:>13}",
                pad(rate.interface.as_str(), 15),
                rate.direction,
                units::rate(rate.packets_per_second),
                rate.wire_packets_per_second.map_or_else(|| "-".to_owned(), units::rate),
                format!("{}/s", units::bytes(rate.bytes_per_second)),
            );
            let history = self.history.entry((rate.index, rate.direction)).or_default();
            history.push(rate.packets_per_second);
            if history.len() > LONGEST_SPARKLINE {
                history.remove(0);
            }
            let spark = sparkline(history, spark_width);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", format!("{line}  {spark}").trim_end());
        }
        text
    }

    fn heading(&self, text: &mut String) {
        let (bold, plain) = if self.layout.color { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        let _ = writeln!(
            text,
            "{bold}{:<8}  {:<15}  {:<9}  {:>10}  {:>10}  {:>13}{plain}",
            "TIME", "INTERFACE", "DIRECTION", "PACKETS/S", "WIRE/S", "BYTES"
        );
    }
}
