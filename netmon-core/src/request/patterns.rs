//! Asking for patterns in connections.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(feature = "clap")]
use super::parse_duration;
use super::{ConnectionFilter, DEFAULT_WINDOW, LONGEST_PAST, LONGEST_WINDOW, check_window};
use crate::error::Result;

/// The connections to look for patterns in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PatternsRequest {
    /// Which connections
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub filter: ConnectionFilter,
    /// How far back, 0.1s to 7 days, where something recorded meanwhile [default: 60s; all of a recording]
    #[cfg_attr(feature = "clap", arg(long, value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::optional_seconds", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<f64>", range(min = 0.1, max = 604_800.0)))]
    pub since: Option<Duration>,
    /// How long to observe where nothing was recorded, 0.1s to 1h
    #[cfg_attr(feature = "clap", arg(long, default_value = "5s", value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64", range(min = 0.1, max = 3600.0)))]
    pub window: Duration,
}

impl Default for PatternsRequest {
    fn default() -> Self {
        Self { filter: ConnectionFilter::default(), since: None, window: DEFAULT_WINDOW }
    }
}

impl PatternsRequest {
    /// Refuses what cannot be asked.
    ///
    /// # Errors
    /// [`Error::WindowOutOfRange`](crate::Error::WindowOutOfRange).
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(since) = self.since {
            check_window(since, LONGEST_PAST)?;
        }
        check_window(self.window, LONGEST_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_flat_and_a_typo_in_it_is_refused() {
        let request: PatternsRequest =
            serde_json::from_str(r#"{"pid": 7, "since": 60, "window": 0.5}"#).unwrap();
        assert_eq!(request.filter.pid, Some(7));
        assert_eq!(request.since, Some(Duration::from_secs(60)));
        assert_eq!(request.window, Duration::from_millis(500));
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<PatternsRequest>(&json).unwrap(), request);

        let error = serde_json::from_str::<PatternsRequest>(r#"{"sinse": 60}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `sinse`"), "{error}");
        assert!(serde_json::from_str::<PatternsRequest>(r#"{"since": -1}"#).is_err());
        assert_eq!(serde_json::from_str::<PatternsRequest>("{}").unwrap(), PatternsRequest::default());
    }

    #[cfg(feature = "clap")]
    #[test]
    fn it_is_read_from_arguments() {
        #[derive(clap::Parser)]
        struct Program {
            #[command(flatten)]
            request: PatternsRequest,
        }
        let program =
            <Program as clap::Parser>::try_parse_from(["x", "--pid", "7", "--since", "1m"]).unwrap();
        assert_eq!(program.request.filter.pid, Some(7));
        assert_eq!(program.request.since, Some(Duration::from_secs(60)));
        assert_eq!(program.request.window, DEFAULT_WINDOW);
    }

    #[cfg(feature = "schema")]
    #[test]
    fn its_schema_is_flat() {
        let schema = schemars::schema_for!(PatternsRequest).to_value();
        for name in ["pid", "process", "since", "window"] {
            assert!(schema["properties"].get(name).is_some(), "{name}: {schema}");
        }
        assert!(schema.get("required").is_none(), "{schema}");
    }
}
