//! Asking for dropped packets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(feature = "clap")]
use super::parse_duration;
use super::{ConnectionFilter, DEFAULT_WINDOW, LONGEST_PAST, LONGEST_WINDOW, check_window};
use crate::{
    error::{Error, Result},
    filter::quote,
};

/// The dropped packets to count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DropsRequest {
    /// Whose packets: by process, user, control group, network namespace, protocol, direction or local port
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub filter: ConnectionFilter,
    /// How far back, 0.1s to 7 days, where something recorded meanwhile [default: 60s; all of a recording]
    #[cfg_attr(feature = "clap", arg(long, value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::optional_seconds", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<f64>", range(min = 0.1, max = 604_800.0)))]
    pub since: Option<Duration>,
    /// How long to count where nothing was recorded, 0.1s to 1h
    #[cfg_attr(feature = "clap", arg(long, default_value = "5s", value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64", range(min = 0.1, max = 3600.0)))]
    pub window: Duration,
    /// Only those dropped for this reason, by the kernel's name for it; repeat for several
    #[cfg_attr(feature = "clap", arg(long = "reason", value_name = "REASON"))]
    #[serde(alias = "reason")]
    pub reasons: Vec<String>,
    /// The most rows [default: all]
    #[cfg_attr(feature = "clap", arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub limit: Option<u64>,
}

impl Default for DropsRequest {
    fn default() -> Self {
        Self {
            filter: ConnectionFilter::default(),
            since: None,
            window: DEFAULT_WINDOW,
            reasons: Vec::new(),
            limit: None,
        }
    }
}

impl DropsRequest {
    /// Refuses what cannot be asked.
    ///
    /// # Errors
    /// [`Error::WindowOutOfRange`], [`Error::InvalidRequest`].
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(since) = self.since {
            check_window(since, LONGEST_PAST)?;
        }
        if self.limit == Some(0) {
            return Err(Error::InvalidRequest("a limit of 0 rows leaves nothing to show".to_owned()));
        }
        if let Some(reason) = self.reasons.iter().find(|reason| !is_reason(reason)) {
            return Err(Error::InvalidRequest(format!(
                "a reason is a word of the kernel's such as NO_SOCKET; {} is none",
                quote(reason)
            )));
        }
        check_window(self.window, LONGEST_WINDOW)
    }
}

/// Whether a kernel may call a reason so. Which there are differs from version to version.
fn is_reason(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_flat_and_a_typo_in_it_is_refused() {
        let request: DropsRequest =
            serde_json::from_str(r#"{"pid": 7, "since": 60, "reasons": ["NO_SOCKET"], "limit": 3}"#).unwrap();
        assert_eq!(request.filter.pid, Some(7));
        assert_eq!(request.since, Some(Duration::from_secs(60)));
        assert_eq!(request.reasons, ["NO_SOCKET"]);
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<DropsRequest>(&json).unwrap(), request);

        let error = serde_json::from_str::<DropsRequest>(r#"{"sinse": 60}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `sinse`"), "{error}");
        assert_eq!(serde_json::from_str::<DropsRequest>("{}").unwrap(), DropsRequest::default());
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let refused = |request: DropsRequest| request.check().unwrap_err().to_string();
        let of = DropsRequest::default;
        assert_eq!(
            refused(DropsRequest { window: Duration::ZERO, ..of() }),
            "a window of 0 s is out of range: it may be 0.1 s to 1 h"
        );
        assert_eq!(
            refused(DropsRequest { limit: Some(0), ..of() }),
            "a limit of 0 rows leaves nothing to show"
        );
        of().check().unwrap();
    }
}
