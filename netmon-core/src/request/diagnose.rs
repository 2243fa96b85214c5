//! Asking what is wrong.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(feature = "clap")]
use super::parse_duration;
use super::{
    ConnectionFilter, DEFAULT_WINDOW, LONGEST_PAST, LONGEST_WINDOW, check_window, listings::check_limit,
};
use crate::error::Result;

/// What to look for faults in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DiagnoseRequest {
    /// Which connections and sockets; with a condition, what only counters of the whole host tell is left out
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub filter: ConnectionFilter,
    /// How far back, 0.1s to 7 days, where something recorded meanwhile [default: 5m, or what there is of it]
    #[cfg_attr(feature = "clap", arg(long, value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::optional_seconds", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<f64>", range(min = 0.1, max = 604_800.0)))]
    pub since: Option<Duration>,
    /// How long to observe where nothing was recorded, 0.1s to 1h
    #[cfg_attr(feature = "clap", arg(long, default_value = "5s", value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64", range(min = 0.1, max = 3600.0)))]
    pub window: Duration,
    /// The most findings, gravest first [default: all]
    #[cfg_attr(feature = "clap", arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub limit: Option<u64>,
}

impl Default for DiagnoseRequest {
    fn default() -> Self {
        Self { filter: ConnectionFilter::default(), since: None, window: DEFAULT_WINDOW, limit: None }
    }
}

impl DiagnoseRequest {
    /// How far back is looked unless another time is asked for.
    pub const DEFAULT_SINCE: Duration = Duration::from_secs(300);

    /// Refuses what cannot be asked.
    ///
    /// # Errors
    /// [`Error::WindowOutOfRange`](crate::Error::WindowOutOfRange);
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest) for a limit of 0.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(since) = self.since {
            check_window(since, LONGEST_PAST)?;
        }
        check_limit(self.limit)?;
        check_window(self.window, LONGEST_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_flat_and_what_cannot_be_asked_is_refused() {
        let request: DiagnoseRequest =
            serde_json::from_str(r#"{"pid": 7, "since": 60, "window": 0.5, "limit": 3}"#).unwrap();
        assert_eq!((request.filter.pid, request.limit), (Some(7), Some(3)));
        assert_eq!(
            (request.since, request.window),
            (Some(Duration::from_secs(60)), Duration::from_millis(500))
        );
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<DiagnoseRequest>(&json).unwrap(), request);
        assert_eq!(serde_json::from_str::<DiagnoseRequest>("{}").unwrap(), DiagnoseRequest::default());
        assert!(serde_json::from_str::<DiagnoseRequest>(r#"{"sinse": 60}"#).is_err());

        assert!(DiagnoseRequest::default().check().is_ok());
        for wrong in [r#"{"limit": 0}"#, r#"{"since": 0}"#, r#"{"window": 7200}"#] {
            assert!(serde_json::from_str::<DiagnoseRequest>(wrong).unwrap().check().is_err(), "{wrong}");
        }
    }

    #[cfg(feature = "clap")]
    #[test]
    fn it_is_read_from_arguments() {
        #[derive(clap::Parser)]
        struct Program {
            #[command(flatten)]
            request: DiagnoseRequest,
        }
        let line = ["x", "--process", "curl", "--since", "5m", "--limit", "2"];
        let request = <Program as clap::Parser>::try_parse_from(line).unwrap().request;
        assert_eq!(request.filter.process.as_deref(), Some("curl"));
        assert_eq!((request.since, request.limit), (Some(Duration::from_secs(300)), Some(2)));
    }
}
