//! Asking what a command does on the network.

use serde::{Deserialize, Serialize};

use super::listings::check_limit;
use crate::{error::Result, filter::Filter};

/// What to tell of a command that is run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RunRequest {
    /// End with status 1 if a connection of the command matches this expression, such as 'failed' or 'not remote in
    /// 10.0.0.0/8', and list those that do
    #[cfg_attr(feature = "clap", arg(long, value_name = "EXPRESSION"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_on: Option<String>,
    /// The most connections to list; sums are over all of them [default: all]
    #[cfg_attr(feature = "clap", arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub limit: Option<u64>,
}

impl RunRequest {
    /// Refuses what cannot be asked, and reads the filter.
    ///
    /// # Errors
    /// [`Error::Filter`](crate::Error::Filter), [`Error::InvalidRequest`](crate::Error::InvalidRequest).
    pub(crate) fn check(&self) -> Result<Option<Filter>> {
        check_limit(self.limit)?;
        Ok(self.fail_on.as_deref().map(Filter::parse).transpose()?)
    }
}
