//! Asking what differs between two times, or two sources.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(feature = "clap")]
use super::parse_duration;
use super::{
    ConnectionFilter, DEFAULT_WINDOW, LONGEST_PAST, LONGEST_WINDOW, check_window, listings::check_limit,
};
use crate::error::{Error, Result};

/// What to compare, and what is too small a difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DiffRequest {
    /// Which connections and listeners
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub filter: ConnectionFilter,
    /// Compare this last time with as long a time before it, 0.1s to 3.5 days, where something recorded meanwhile; of two
    /// sources, the last time of each [default of recordings: all of each]
    #[cfg_attr(feature = "clap", arg(long, value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::optional_seconds", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<f64>", range(min = 0.1, max = 302_400.0)))]
    pub since: Option<Duration>,
    /// Without --since, compare the next window of this length with the one after it, 0.1s to 1h
    #[cfg_attr(feature = "clap", arg(long, default_value = "5s", value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64", range(min = 0.1, max = 3600.0)))]
    pub window: Duration,
    /// Tell of rates that grew or shrank at least by this factor
    #[cfg_attr(feature = "clap", arg(long, default_value_t = DEFAULT_FACTOR, value_name = "N"))]
    #[cfg_attr(feature = "schema", schemars(range(min = 1.0)))]
    pub factor: f64,
    /// Tell of rates of connections and failures where there were at least so many, before or after
    #[cfg_attr(feature = "clap", arg(long, default_value_t = DEFAULT_LEAST_CONNECTIONS, value_name = "N"))]
    pub least_connections: u64,
    /// Tell of rates of bytes where there were at least so many, before or after
    #[cfg_attr(feature = "clap", arg(long, default_value_t = DEFAULT_LEAST_BYTES, value_name = "BYTES"))]
    pub least_bytes: u64,
    /// The most rows [default: all]
    #[cfg_attr(feature = "clap", arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub limit: Option<u64>,
}

const DEFAULT_FACTOR: f64 = 2.0;
const DEFAULT_LEAST_CONNECTIONS: u64 = 10;
const DEFAULT_LEAST_BYTES: u64 = 1_000_000;

impl Default for DiffRequest {
    fn default() -> Self {
        Self {
            filter: ConnectionFilter::default(),
            since: None,
            window: DEFAULT_WINDOW,
            factor: DEFAULT_FACTOR,
            least_connections: DEFAULT_LEAST_CONNECTIONS,
            least_bytes: DEFAULT_LEAST_BYTES,
            limit: None,
        }
    }
}

impl DiffRequest {
    /// Refuses what cannot be asked.
    ///
    /// # Errors
    /// [`Error::WindowOutOfRange`], [`Error::InvalidRequest`].
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(since) = self.since {
            check_window(since, LONGEST_PAST / 2)?;
        }
        check_window(self.window, LONGEST_WINDOW)?;
        if !(self.factor.is_finite() && self.factor >= 1.0) {
            return Err(Error::InvalidRequest(format!(
                "a factor of {} is out of range: it may be 1 or more",
                self.factor
            )));
        }
        check_limit(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let refused = |change: fn(&mut DiffRequest)| {
            let mut request = DiffRequest::default();
            change(&mut request);
            request.check().unwrap_err().to_string()
        };
        assert_eq!(
            refused(|request| request.factor = 0.5),
            "a factor of 0.5 is out of range: it may be 1 or more"
        );
        assert_eq!(
            refused(|request| request.factor = f64::NAN),
            "a factor of NaN is out of range: it may be 1 or more"
        );
        assert_eq!(refused(|request| request.limit = Some(0)), "a limit of 0 rows leaves nothing to show");
        assert!(
            refused(|request| request.window = Duration::ZERO).starts_with("a window of 0 s is out of range")
        );
        assert!(refused(|request| request.since = Some(LONGEST_PAST)).ends_with("it may be 0.1 s to 84 h"));
        DiffRequest::default().check().unwrap();
    }
}
