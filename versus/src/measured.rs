//! Results as they are kept: JSON lines, the first of which tells of the run.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    sighting::{Owners, Unit},
    workload::Kind,
};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Line {
    Run(Run),
    Tool(Tool),
    Measured(Measured),
}

/// Where and how all was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) kernel: String,
    pub(crate) cpus: usize,
    pub(crate) cpu: String,
    pub(crate) rounds: u32,
    pub(crate) quick: bool,
    pub(crate) sockets: u32,
    /// How busy the CPUs were before it began, in percent of all: whether others used the machine.
    pub(crate) busy_before: u32,
}

/// One of the tools, and why it did not run, if it did not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) from: String,
    pub(crate) version: Option<String>,
    pub(crate) command: String,
    pub(crate) remark: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
}

/// What was measured of one tool with one workload in one round. What cannot be told is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) round: u32,
    /// Empty where nothing watched.
    pub(crate) tool: String,
    pub(crate) workload: Option<Kind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owners: Option<Owners>,
    /// Bytes that the tool told, as a part of those that there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<Unit>,
    /// Connections that the tool told, as a part of those that there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) told: Option<f64>,
    /// Of one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_percent: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resident_mb: Option<f64>,
    /// Speed as a part of that of the same traffic in the same round, just before or after, without a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) speed: Option<f64>,
    /// CPU time of the traffic itself, compared in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) traffic_cpu: Option<f64>,
    /// A second, while watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) per_second: Option<f64>,
    /// What it says that it lost, since its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lost: Option<u64>,
    /// To list all open sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<f64>,
}

/// All lines of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Writes lines as they come, so that an interrupted run leaves what it has measured.
pub(crate) struct Writer(File);

impl Writer {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(Self(File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))?))
    }

    pub(crate) fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        Ok(self.0.write_all(text.as_bytes())?)
    }
}
