//! Asking again and again, for a screen.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConnectionFilter;
#[cfg(feature = "clap")]
use super::parse_duration;

/// What a live view is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TopRequest {
    /// Which connections
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub filter: ConnectionFilter,
    /// Time between two samples, 0.1s to 1h
    #[cfg_attr(feature = "clap", arg(long, default_value = "1s", value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64", range(min = 0.1, max = 3600.0)))]
    pub interval: Duration,
}

impl Default for TopRequest {
    fn default() -> Self {
        Self { filter: ConnectionFilter::default(), interval: Duration::from_secs(1) }
    }
}
