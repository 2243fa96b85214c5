//! What a recorder has to say when it is done.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    answer::{Answer, Header, Row},
    clean::CleanText,
    view::{Table, units},
};

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct RecordAnswer {
    /// Host, window and coverage.
    #[serde(flatten)]
    pub header: Header,
    /// The file.
    pub path: CleanText,
    /// How many samples it holds.
    pub samples: u64,
    /// How many connections ended meanwhile, each in it with its owner. `None` where the source has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// How long it is.
    pub bytes: u64,
}

impl fmt::Display for RecordAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended =
            self.connections.map(|ended| format!(" and {} that ended", units::counted(ended, "connection")));
        write!(
            f,
            "Recorded {}{} over {} to {} ({})",
            units::counted(self.samples, "sample"),
            ended.unwrap_or_default(),
            units::seconds(Duration::from_secs_f64(self.header.window.seconds)),
            self.path,
            units::bytes(self.bytes as f64),
        )
    }
}

impl Answer for RecordAnswer {
    type Row = Self;

    fn header(&self) -> &Header {
        &self.header
    }

    fn rows(&self) -> &[Self] {
        std::slice::from_ref(self)
    }

    fn tables(&self) -> Vec<Table> {
        Vec::new()
    }
}

impl Row for RecordAnswer {
    const TYPE: &'static str = "recording";
    const CSV_COLUMNS: &'static [&'static str] = &["path", "samples", "bytes", "connections"];

    fn csv_fields(&self) -> Vec<String> {
        let connections = self.connections.map(|ended| ended.to_string()).unwrap_or_default();
        vec![self.path.to_string(), self.samples.to_string(), self.bytes.to_string(), connections]
    }
}
