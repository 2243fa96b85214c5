//! Asking for connections, for their summary, and for sockets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(feature = "clap")]
use super::parse_duration;
use super::{ConnectionFilter, DEFAULT_WINDOW, LONGEST_PAST, LONGEST_WINDOW, SHORTEST_WINDOW, check_window};
use crate::{
    error::{Error, Result},
    fact::ConnectionState,
};

/// The connections to list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConnectionsRequest {
    /// Which connections
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub filter: ConnectionFilter,
    /// How far back, 0.1s to 7 days, where something recorded meanwhile [default: 60s; all of a recording]
    #[cfg_attr(feature = "clap", arg(long, value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::optional_seconds", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<f64>", range(min = 0.1, max = 604_800.0)))]
    pub since: Option<Duration>,
    /// How long to observe where nothing was recorded, 0.1s to 1h; 0 for what is open now
    #[cfg_attr(feature = "clap", arg(long, default_value = "5s", value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64", range(min = 0.0, max = 3600.0)))]
    pub window: Duration,
    /// Only those in this state; repeat for several. Listeners come only when asked for
    #[cfg_attr(feature = "clap", arg(long = "state", value_enum, value_name = "STATE"))]
    #[serde(alias = "state")]
    pub states: Vec<ConnectionState>,
    /// By what to sort
    #[cfg_attr(feature = "clap", arg(long, value_enum, default_value_t, value_name = "KEY"))]
    pub sort: ConnectionSort,
    /// The other way round
    #[cfg_attr(feature = "clap", arg(long))]
    pub reverse: bool,
    /// The most rows [default: all]
    #[cfg_attr(feature = "clap", arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub limit: Option<u64>,
    /// The rows after a former answer's `next_cursor`, everything else as it was asked then
    #[cfg_attr(feature = "clap", arg(long, value_name = "CURSOR"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl Default for ConnectionsRequest {
    fn default() -> Self {
        Self {
            filter: ConnectionFilter::default(),
            since: None,
            window: DEFAULT_WINDOW,
            states: Vec::new(),
            sort: ConnectionSort::default(),
            reverse: false,
            limit: None,
            cursor: None,
        }
    }
}

impl ConnectionsRequest {
    /// Refuses what cannot be asked.
    ///
    /// # Errors
    /// [`Error::WindowOutOfRange`], [`Error::InvalidRequest`].
    pub(crate) fn check(&self) -> Result<()> {
        check_times(self.since, self.window)?;
        check_limit(self.limit)
    }
}

/// By what connections are sorted. What is not known stands last, and the identity decides between equals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConnectionSort {
    /// When it began, the newest first
    #[default]
    Opened,
    /// When it ended, the last first
    Closed,
    /// How long it lasted, the longest first
    Duration,
    /// Payload bytes sent since it began, the most first
    Sent,
    /// Payload bytes received since it began, the most first
    Received,
    /// Payload bytes both ways, the most first
    Bytes,
    /// The round-trip time, the longest first
    Rtt,
    /// Segments sent again, the most first
    Retransmits,
    /// The time to connect, the longest first
    Latency,
    /// The name of the process
    Process,
    /// The address and port of the other side
    Remote,
    /// The state: opening, open, closed, failed, listening
    State,
}

impl ConnectionSort {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Opened,
        Self::Closed,
        Self::Duration,
        Self::Sent,
        Self::Received,
        Self::Bytes,
        Self::Rtt,
        Self::Retransmits,
        Self::Latency,
        Self::Process,
        Self::Remote,
        Self::State,
    ];

    /// Whether the greatest stands first, unless asked for the other way round.
    pub(crate) fn descends(self) -> bool {
        !matches!(self, Self::Process | Self::Remote | Self::State)
    }
}

/// The connections to sum up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SummaryRequest {
    /// Which connections
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub filter: ConnectionFilter,
    /// How far back, 0.1s to 7 days, where something recorded meanwhile [default: 60s; all of a recording]
    #[cfg_attr(feature = "clap", arg(long, value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::optional_seconds", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<f64>", range(min = 0.1, max = 604_800.0)))]
    pub since: Option<Duration>,
    /// How long to observe where nothing was recorded, 0.1s to 1h; 0 for what is open now
    #[cfg_attr(feature = "clap", arg(long, default_value = "5s", value_parser = parse_duration, value_name = "DURATION", allow_hyphen_values = true))]
    #[serde(with = "super::seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "f64", range(min = 0.0, max = 3600.0)))]
    pub window: Duration,
}

impl Default for SummaryRequest {
    fn default() -> Self {
        Self { filter: ConnectionFilter::default(), since: None, window: DEFAULT_WINDOW }
    }
}

impl SummaryRequest {
    /// As [`ConnectionsRequest::check`].
    pub(crate) fn check(&self) -> Result<()> {
        check_times(self.since, self.window)
    }
}

/// The sockets to list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SocketsRequest {
    /// Which sockets
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(flatten)]
    pub filter: ConnectionFilter,
    /// Only those in this state; repeat for several
    #[cfg_attr(feature = "clap", arg(long = "state", value_enum, value_name = "STATE"))]
    #[serde(alias = "state")]
    pub states: Vec<ConnectionState>,
    /// The most rows [default: all]
    #[cfg_attr(feature = "clap", arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub limit: Option<u64>,
}

impl SocketsRequest {
    /// As [`ConnectionsRequest::check`].
    pub(crate) fn check(&self) -> Result<()> {
        check_limit(self.limit)
    }
}

pub(super) fn check_times(since: Option<Duration>, window: Duration) -> Result<()> {
    if let Some(since) = since {
        check_window(since, LONGEST_PAST)?;
    }
    if window.is_zero() {
        return Ok(());
    }
    check_window(window, LONGEST_WINDOW)
}

pub(super) fn check_limit(limit: Option<u64>) -> Result<()> {
    match limit {
        Some(0) => Err(Error::InvalidRequest("a limit of 0 rows leaves nothing to show".to_owned())),
        _ => Ok(()),
    }
}

const _: () = assert!(SHORTEST_WINDOW.as_millis() == 100, "the texts and schemas above say so");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_flat_and_a_typo_in_it_is_refused() {
        let request: ConnectionsRequest = serde_json::from_str(
            r#"{"pid": 7, "since": 60, "window": 0.5, "states": ["open", "failed"], "sort": "rtt", "limit": 3}"#,
        )
        .unwrap();
        assert_eq!(request.filter.pid, Some(7));
        assert_eq!(request.since, Some(Duration::from_secs(60)));
        assert_eq!(request.window, Duration::from_millis(500));
        assert_eq!(request.states, [ConnectionState::Open, ConnectionState::Failed]);
        assert_eq!((request.sort, request.limit), (ConnectionSort::Rtt, Some(3)));
        let json = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<ConnectionsRequest>(&json).unwrap(), request);

        let error = serde_json::from_str::<ConnectionsRequest>(r#"{"sinse": 60}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `sinse`"), "{error}");
        assert!(serde_json::from_str::<SummaryRequest>(r#"{"since": -1}"#).is_err());
        assert_eq!(serde_json::from_str::<SummaryRequest>("{}").unwrap(), SummaryRequest::default());
        assert_eq!(serde_json::from_str::<SocketsRequest>("{}").unwrap(), SocketsRequest::default());
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let refused = |change: fn(&mut ConnectionsRequest)| {
            let mut request = ConnectionsRequest::default();
            change(&mut request);
            request.check().unwrap_err().to_string()
        };
        assert_eq!(
            refused(|request| request.since = Some(Duration::ZERO)),
            "a window of 0 s is out of range: it may be 0.1 s to 168 h"
        );
        assert_eq!(
            refused(|request| request.window = Duration::from_secs(3601)),
            "a window of 3601 s is out of range: it may be 0.1 s to 1 h"
        );
        assert_eq!(refused(|request| request.limit = Some(0)), "a limit of 0 rows leaves nothing to show");

        let longest = ConnectionsRequest {
            window: Duration::ZERO,
            since: Some(LONGEST_PAST),
            ..ConnectionsRequest::default()
        };
        longest.check().unwrap();
    }

    #[cfg(feature = "clap")]
    #[test]
    fn requests_are_command_line_arguments() {
        use clap::Parser;

        #[derive(Parser)]
        struct Connections {
            #[command(flatten)]
            request: ConnectionsRequest,
        }
        #[derive(Parser)]
        struct Summary {
            #[command(flatten)]
            request: SummaryRequest,
        }
        let line = "netmon --pid 7 --since 60s --state open --state failed --sort rtt --reverse --limit 3";
        let Connections { request } = Connections::parse_from(line.split(' '));
        let expected = ConnectionsRequest {
            since: Some(Duration::from_secs(60)),
            states: vec![ConnectionState::Open, ConnectionState::Failed],
            sort: ConnectionSort::Rtt,
            reverse: true,
            limit: Some(3),
            filter: request.filter.clone(),
            ..ConnectionsRequest::default()
        };
        assert_eq!(request, expected);
        assert_eq!(request.filter.pid, Some(7));
        assert_eq!(Connections::parse_from(["netmon"]).request, ConnectionsRequest::default());
        assert_eq!(Summary::parse_from(["netmon"]).request, SummaryRequest::default());
        assert!(Connections::try_parse_from(["netmon", "--limit", "0"]).is_err());
    }

    #[cfg(feature = "schema")]
    #[test]
    fn schemas_state_names_and_limits() {
        let schema = serde_json::to_value(schemars::schema_for!(ConnectionsRequest)).unwrap();
        let properties = &schema["properties"];
        assert_eq!(properties["since"]["maximum"], 604_800.0);
        assert_eq!(properties["window"]["minimum"], 0.0);
        assert!(properties.get("states").is_some() && properties.get("pid").is_some(), "{schema}");
    }
}
