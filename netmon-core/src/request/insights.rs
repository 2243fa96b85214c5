//! Asking what findings mean.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(feature = "clap")]
use super::parse_duration;
use super::{ConnectionFilter, DEFAULT_WINDOW, DiagnoseRequest};
use crate::error::{Error, Result};

/// What to explain, and what of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct InsightsRequest {
    /// What a model is asked, where one is configured, such as "why is it slow?"; up to 2000 characters
    #[cfg_attr(feature = "clap", arg(value_name = "QUESTION"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// A summary that a model is to explain beside the findings; up to 16000 characters
    #[cfg_attr(feature = "clap", arg(long, value_name = "TEXT"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_text: Option<String>,
    /// Which connections and sockets
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
    /// Show exactly what the model would be sent, and send nothing
    #[cfg_attr(feature = "clap", arg(long = "ai-dry-run"))]
    pub dry_run: bool,
}

impl Default for InsightsRequest {
    fn default() -> Self {
        Self {
            question: None,
            summary_text: None,
            filter: ConnectionFilter::default(),
            since: None,
            window: DEFAULT_WINDOW,
            dry_run: false,
        }
    }
}

impl InsightsRequest {
    /// The most characters of a question.
    pub const LONGEST_QUESTION: usize = 2_000;
    /// The most characters of a summary.
    pub const LONGEST_SUMMARY: usize = 16_000;

    /// The findings that are to be explained.
    pub(crate) fn diagnosis(&self) -> DiagnoseRequest {
        DiagnoseRequest {
            filter: self.filter.clone(),
            since: self.since,
            window: self.window,
            ..DiagnoseRequest::default()
        }
    }

    /// Refuses what cannot be asked.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a text that is too long; as for [`DiagnoseRequest`].
    pub(crate) fn check(&self) -> Result<()> {
        for (what, text, most) in [
            ("question", &self.question, Self::LONGEST_QUESTION),
            ("summary_text", &self.summary_text, Self::LONGEST_SUMMARY),
        ] {
            let length = text.as_deref().unwrap_or_default().chars().count();
            if length > most {
                return Err(Error::InvalidRequest(format!(
                    "{what} has {length} characters; it may have up to {most}"
                )));
            }
        }
        self.diagnosis().check()
    }
}
