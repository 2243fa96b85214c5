//! Requests: what can be asked, declared once for the library, the command line, HTTP and MCP.

mod connections;
mod diagnose;
mod diff;
mod drops;
#[cfg(feature = "ai")]
mod insights;
mod listings;
mod patterns;
mod run;
mod top;

use std::{fmt, str::FromStr, time::Duration};

pub use connections::{ConnectionFilter, DirectionChoice};
pub use diagnose::DiagnoseRequest;
pub use diff::DiffRequest;
pub use drops::DropsRequest;
#[cfg(feature = "ai")]
pub use insights::InsightsRequest;
pub use listings::{ConnectionSort, ConnectionsRequest, SocketsRequest, SummaryRequest};
pub use patterns::PatternsRequest;
pub use run::RunRequest;
use serde::{Deserialize, Serialize};
pub use top::TopRequest;

use crate::{
    error::{Error, Result},
    fact::Direction,
};

/// The shortest window of a rate.
pub const SHORTEST_WINDOW: Duration = Duration::from_millis(100);
/// The longest window of a rate.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(3600);
/// The longest window that an interactive front end should measure in one call, without showing anything meanwhile.
pub const LONGEST_CALL: Duration = Duration::from_secs(60);
/// The longest past that can be asked about.
pub const LONGEST_PAST: Duration = Duration::from_secs(7 * 24 * 3600);
/// The window that is measured unless another is asked for.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(5);

/// Refuses a window outside of `SHORTEST_WINDOW` and `longest`.
///
/// # Errors
/// [`Error::WindowOutOfRange`].
pub fn check_window(window: Duration, longest: Duration) -> Result<()> {
    if (SHORTEST_WINDOW..=longest).contains(&window) {
        return Ok(());
    }
    Err(Error::WindowOutOfRange { window, shortest: SHORTEST_WINDOW, longest })
}

/// A duration as people write it: `5s`, `500ms`, `1m30s`, or a number of seconds.
///
/// # Errors
/// Says what is wrong with the text, in words for its writer. Negative durations are refused here, since a
/// [`Duration`] cannot hold them.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let examples = "write it like 5s, 500ms, 1m30s or 2.5";
    let negative = || format!("{text:?} is negative; {examples}");
    if let Ok(seconds) = f64::from_str(text) {
        if seconds < 0.0 {
            return Err(negative());
        }
        return duration_of_seconds(seconds)
            .ok_or_else(|| format!("{text:?} is not a duration that can be measured; {examples}"));
    }
    let duration = jiff::SignedDuration::from_str(text)
        .map_err(|_| format!("{text:?} is not a duration; {examples}"))?;
    Duration::try_from(duration).map_err(|_| negative())
}

/// A number of seconds as a duration, on the same side of every limit: what is a trillionth beyond one is not rounded back.
/// `None` for what is none.
pub fn duration_of_seconds(seconds: f64) -> Option<Duration> {
    const LEAST: Duration = Duration::from_nanos(1);
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    let rounded = duration.as_secs_f64();
    Some(match rounded.total_cmp(&seconds) {
        _ if rounded == seconds => duration,
        std::cmp::Ordering::Less => duration.saturating_add(LEAST),
        _ => duration.saturating_sub(LEAST),
    })
}

/// The rates to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RateRequest {
    /// An interface to measure; repeat for several [default: that of the default route, else the busiest that is up]
    #[cfg_attr(
        feature = "clap",
        arg(long = "iface", visible_alias = "interface", short = 'i', value_name = "NAME")
    )]
    pub interfaces: Vec<String>,
    /// Which way
    #[cfg_attr(feature = "clap", arg(long, value_enum, default_value_t, value_name = "WAY"))]
    pub direction: Directions,
    /// How long to measure, 0.1s to 1h
    #[cfg_attr(feature = "clap", arg(long, default_value = "5s", value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64", range(min = 0.1, max = 3600.0)))]
    pub window: Duration,
    /// How to count by protocol; the totals always come from the kernel's own counters
    #[cfg_attr(feature = "clap", arg(long, value_enum, default_value_t, value_name = "HOOK"))]
    pub hook: HookChoice,
}

impl Default for RateRequest {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            direction: Directions::default(),
            window: DEFAULT_WINDOW,
            hook: HookChoice::default(),
        }
    }
}

/// Which way packets go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Directions {
    /// Received packets
    #[cfg_attr(feature = "clap", value(alias = "in"))]
    #[serde(alias = "in")]
    Incoming,
    /// Sent packets
    #[cfg_attr(feature = "clap", value(alias = "out"))]
    #[serde(alias = "out")]
    Outgoing,
    /// Both
    #[default]
    Both,
}

impl Directions {
    /// The directions it stands for, incoming first.
    pub fn directions(self) -> &'static [Direction] {
        match self {
            Self::Incoming => &[Direction::Incoming],
            Self::Outgoing => &[Direction::Outgoing],
            Self::Both => &[Direction::Incoming, Direction::Outgoing],
        }
    }
}

/// How packets are counted by protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HookChoice {
    /// tcx, else clsact, else not at all
    #[default]
    Auto,
    /// tcx links (Linux 6.6 and later), or an error
    Tcx,
    /// Filters of the clsact queueing discipline, or an error
    Clsact,
    /// XDP, or an error: incoming packets only, and it may slow traffic down
    Xdp,
    /// Not at all: only the kernel's own totals
    None,
}

impl fmt::Display for HookChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::Xdp => "xdp",
            Self::None => "none",
        })
    }
}

/// Durations as a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        super::duration_of_seconds(seconds).ok_or_else(|| {
            D::Error::custom(format_args!("{seconds} is not a duration; give a positive number of seconds"))
        })
    }
}

/// Durations that need not be there, as a number of seconds.
mod optional_seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Seconds(#[serde(with = "super::seconds")] Duration);

    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(Seconds).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Seconds>::deserialize(deserializer)?.map(|seconds| seconds.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases = [
            ("5s", Duration::from_secs(5)),
            ("500ms", Duration::from_millis(500)),
            ("1m30s", Duration::from_secs(90)),
            ("1h", Duration::from_secs(3600)),
            ("5", Duration::from_secs(5)),
            ("2.5", Duration::from_millis(2500)),
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_in_words() {
        for text in ["", "abc", "5 parsecs", "-1s", "-1", "NaN", "inf", "1e300", "5s5"] {
            let message = parse_duration(text).unwrap_err();
            assert!(message.contains("5s, 500ms"), "{text}: {message}");
        }
        assert!(parse_duration("-1s").unwrap_err().contains("negative"));
    }

    #[test]
    fn seconds_stay_on_their_side_of_a_limit() {
        for seconds in [0.0, 0.1, 0.3, 2.5, 60.0, 604_800.0] {
            assert_eq!(duration_of_seconds(seconds), Some(Duration::from_secs_f64(seconds)));
        }
        assert!(duration_of_seconds(60.000_000_000_000_01) > Some(Duration::from_secs(60)));
        assert!(duration_of_seconds(0.099_999_999_999_999_99) < Some(Duration::from_millis(100)));
        assert_eq!(duration_of_seconds(-0.1), None);
        assert_eq!(duration_of_seconds(f64::NAN), None);
    }

    #[test]
    fn windows_outside_the_range_are_refused() {
        for window in [Duration::ZERO, Duration::from_millis(99), Duration::from_secs(3601)] {
            let error = check_window(window, LONGEST_WINDOW).unwrap_err();
            assert!(error.to_string().ends_with("is out of range: it may be 0.1 s to 1 h"), "{error}");
        }
        check_window(SHORTEST_WINDOW, LONGEST_CALL).unwrap();
        check_window(LONGEST_CALL, LONGEST_CALL).unwrap();
    }

    #[test]
    fn a_request_with_a_typo_is_refused() {
        let error = serde_json::from_str::<RateRequest>(r#"{"windw": 5}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `windw`"), "{error}");
        let request: RateRequest = serde_json::from_str(r#"{"direction": "in", "window": 0.5}"#).unwrap();
        assert_eq!(request.direction, Directions::Incoming);
        assert_eq!(request.window, Duration::from_millis(500));
    }
}
