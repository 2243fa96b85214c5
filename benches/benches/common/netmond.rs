//! netmond as a process of the same build, in a network namespace of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use netmon_testkit::Netns;

use super::BenchResult;

/// A program of the same build.
pub(crate) fn built(name: &str) -> BenchResult<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.ancestors().nth(2).unwrap_or(Path::new(".")).join(name);
    if !path.exists() {
        return Err(format!("{} is missing: cargo build --release", path.display()).into());
    }
    Ok(path)
}

pub(crate) struct Daemon {
    process: Child,
    pub(crate) socket: PathBuf,
    pub(crate) netns: Netns,
}

impl Daemon {
    /// In a network namespace of its own, whose sockets all belong to processes.
    pub(crate) fn start(socket: &Path) -> BenchResult<Self> {
        let netns = Netns::create();
        let mut command = netns.command(built("netmond")?);
        let mut process = command.arg("--socket").arg(socket).stderr(Stdio::piped()).spawn()?;
        let log = process.stderr.take().ok_or("netmond has no log")?;
        let daemon = Self { process, socket: socket.to_owned(), netns };
        for line in BufReader::new(log).lines() {
            if line?.contains("ready") {
                return Ok(daemon);
            }
        }
        Err("netmond ended before it was ready".into())
    }

    pub(crate) fn resident_bytes(&self) -> BenchResult<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
