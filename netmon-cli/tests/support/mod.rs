//! The other programs, as users start them beside the command line.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) const CLI: &str = env!("CARGO_BIN_EXE_netmon-cli");
pub(crate) const DEMO: &str =
    concat!("replay:", env!("CARGO_MANIFEST_DIR"), "/../netmon-core/recordings/demo.jsonl");

/// A program of another package, built where this one was.
fn built(package: &str, program: &str) -> PathBuf {
    let directory = Path::new(CLI).parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", package, "--target-dir"]);
    build.arg(directory.parent().unwrap());
    if directory.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success());
    directory.join(program)
}

fn netmond() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("netmon-daemon", "netmond"))
}

/// The MCP server's program.
pub(crate) fn netmon_mcp() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| built("netmon-mcp", "netmon-mcp"))
}

/// A running daemon, killed when dropped.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// A daemon that listens on this socket already.
    pub(crate) fn on(socket: &Path, source: &str) -> Self {
        Self::with(socket, source, &[])
    }

    /// The same with more on its command line.
    pub(crate) fn with(socket: &Path, source: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new(netmond())
            .arg("--socket")
            .arg(socket)
            .args(["--source", source])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("ready")));
        Self(process)
    }

    pub(crate) fn kill(&mut self) {
        kill_process(Pid::from_child(&self.0), Signal::KILL).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
