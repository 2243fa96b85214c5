//! Numbers as people read them. JSON and CSV have them raw.

use std::time::Duration;

/// A count with thousands separated: `1,234,567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `1 packet`, `1,234 packets`.
pub fn counted(value: u64, singular: &str) -> String {
    format!("{} {singular}{}", count(value), if value == 1 { "" } else { "s" })
}

/// A rate: `0`, `0.4`, `12.3`, `1,234`, `1.23 M`.
pub fn rate(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v < 999.95 => format!("{v:.1}"),
        // Whole and small enough for the conversion to be exact.
        v if v < 999_999.5 => count(v.round() as u64),
        v => scaled(v / 1e6, &["M", "G", "T", "P"]),
    }
}

/// Bytes in decimal units: `512 B`, `1.23 MB`.
pub fn bytes(value: f64) -> String {
    if value < 999.5 {
        return format!("{value:.0} B");
    }
    scaled(value / 1e3, &["kB", "MB", "GB", "TB", "PB"])
}

fn scaled(value: f64, units: &[&str]) -> String {
    let (mut value, mut units) = (value, units.iter());
    let mut unit = units.next().copied().unwrap_or_default();
    while value >= 999.5 {
        let Some(next) = units.next() else { break };
        value /= 1e3;
        unit = next;
    }
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// A duration: `0.1 s`, `5 s`, `5.02 s`, `1 h`.
pub fn seconds(duration: Duration) -> String {
    let whole = |seconds: u64| duration.subsec_nanos() == 0 && duration.as_secs().is_multiple_of(seconds);
    match duration.as_secs() {
        hours if hours >= 3600 && whole(3600) => format!("{} h", hours / 3600),
        minutes if minutes > 60 && whole(60) => format!("{} min", minutes / 60),
        _ => {
            let text = format!("{:.2}", duration.as_secs_f64());
            let text = text.trim_end_matches('0').trim_end_matches('.');
            // What is not nothing should not read as nothing.
            if text == "0" && !duration.is_zero() {
                return format!("{} s", duration.as_secs_f64());
            }
            format!("{text} s")
        }
    }
}

/// A duration of any size in a few characters: `85 us`, `1.23 ms`, `5.02 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`.
pub fn short(duration: Duration) -> String {
    let two = |value: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{value} {unit}"),
        rest => format!("{value} {unit} {rest} {small}"),
    };
    let micros = duration.as_micros();
    match duration.as_secs() {
        0 if micros == 0 => "0 s".to_owned(),
        0 if micros < 1_000 => format!("{micros} us"),
        // Fewer than a million microseconds are exact as a float.
        0 => scaled(micros as f64 / 1e3, &["ms", "s"]),
        secs if secs < 60 => scaled(duration.as_secs_f64(), &["s"]),
        secs if secs < 3_600 => two(secs / 60, "min", secs % 60, "s"),
        secs if secs < 86_400 => two(secs / 3_600, "h", secs % 3_600 / 60, "min"),
        secs => two(secs / 86_400, "d", secs % 86_400 / 3_600, "h"),
    }
}

/// Stands between a number and its unit while lines are broken.
#[cfg(feature = "table")]
pub(super) const BOND: &str = "\u{a0}";

/// Text in which numbers are bound to their units.
#[cfg(feature = "table")]
pub(super) fn bound(text: &str) -> String {
    const UNITS: [&str; 13] = ["%", "B", "kB", "MB", "GB", "TB", "PB", "us", "ms", "s", "min", "h", "d"];

    let is_unit = |word: &str| {
        let unit = word.split('/').next().unwrap_or_default();
        UNITS.contains(&unit.trim_end_matches([',', ';', '.', ':', ')']))
    };
    let mut bound = String::with_capacity(text.len());
    let mut after_number = false;
    for (place, word) in text.split(' ').enumerate() {
        if place > 0 {
            bound.push_str(if after_number && is_unit(word) { BOND } else { " " });
        }
        bound.push_str(word);
        after_number = word.ends_with(|character: char| character.is_ascii_digit());
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_durations_read_well_at_every_size() {
        let cases = [
            (0, "0 s"),
            (85_000, "85 us"),
            (1_234_000, "1.23 ms"),
            (45_600_000, "45.6 ms"),
            (999_900_000, "1.00 s"),
            (5_020_000_000, "5.02 s"),
            (59_990_000_000, "60.0 s"),
            (125_000_000_000, "2 min 5 s"),
            (12_000_000_000_000, "3 h 20 min"),
            (187_200_000_000_000, "2 d 4 h"),
        ];
        for (ns, expected) in cases {
            assert_eq!(short(Duration::from_nanos(ns)), expected);
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");

        assert_eq!(counted(0, "packet"), "0 packets");
        assert_eq!(counted(1, "packet"), "1 packet");
        assert_eq!(counted(1_000, "sample"), "1,000 samples");

        assert_eq!(rate(0.0), "0");
        assert_eq!(rate(0.25), "0.2");
        assert_eq!(rate(999.9), "999.9");
        assert_eq!(rate(999.99), "1,000");
        assert_eq!(rate(123_456.0), "123,456");
        assert_eq!(rate(999_999.9), "1.00 M");
        assert_eq!(rate(12_345_678.0), "12.3 M");

        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(999.6), "1.00 kB");
        assert_eq!(bytes(1_234_567.0), "1.23 MB");
        assert_eq!(bytes(9.9e9), "9.90 GB");
        assert_eq!(bytes(123e12), "123 TB");

        assert_eq!(seconds(Duration::from_millis(100)), "0.1 s");
        assert_eq!(seconds(Duration::from_secs(5)), "5 s");
        assert_eq!(seconds(Duration::from_millis(5024)), "5.02 s");
        assert_eq!(seconds(Duration::from_secs(60)), "60 s");
        assert_eq!(seconds(Duration::from_secs(120)), "2 min");
        assert_eq!(seconds(Duration::from_secs(3600)), "1 h");
        assert_eq!(seconds(Duration::ZERO), "0 s");
        assert_eq!(seconds(Duration::from_micros(100)), "0.0001 s");
    }
}
