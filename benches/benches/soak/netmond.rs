//! The daemon that is observed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use netmon_core::{Monitor, source::remote::RemoteSource};
use netmon_testkit::Netns;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::BenchResult;

/// Memory that fills in the first seconds, so that the rest shows what grows. Who reads nothing for two seconds is cut off.
const SETTINGS: &str = "observe.memory_mib = 8\nlimits.patience_seconds = 2\n";

pub(crate) struct Netmond {
    process: Child,
    directory: PathBuf,
    socket: PathBuf,
}

impl Netmond {
    /// This one, or that of the same build as this program, in a network namespace.
    pub(crate) fn start(netns: &Netns, program: Option<&Path>) -> BenchResult<Self> {
        let own = std::env::current_exe()?;
        let built = own.ancestors().nth(2).unwrap_or(Path::new(".")).join("netmond");
        let program = program.unwrap_or(&built);
        if !program.exists() {
            return Err(
                format!("{} is missing: cargo build --release -p netmon-daemon", program.display()).into()
            );
        }
        let directory = std::env::temp_dir().join(format!("netmon-soak-{}", std::process::id()));
        fs::create_dir(&directory)?;
        let socket = directory.join("socket");
        let settings = directory.join("netmond.toml");
        let token = directory.join("token");
        fs::write(&settings, format!("{SETTINGS}access.token_file = '{}'\n", token.display()))?;
        // nsenter becomes what it starts, so the process is netmond's.
        let mut command: Command = netns.command(program);
        command.arg("--socket").arg(&socket).arg("--config").arg(&settings);
        let process = command.stderr(File::create(directory.join("log"))?).env_remove("RUST_LOG").spawn()?;
        let netmond = Self { process, directory, socket };
        let start = Instant::now();
        while !netmond.log().contains("ready") {
            if start.elapsed() > Duration::from_secs(30) {
                return Err(format!("netmond is not ready:\n{}", netmond.log()).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(netmond)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn monitor(&self) -> BenchResult<Monitor> {
        Ok(Monitor::new(RemoteSource::unix(&self.socket)?))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    pub(crate) fn hang_up(&self) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::HUP);
    }

    /// Ends it, and says how and after what time.
    pub(crate) fn end(&mut self) -> BenchResult<(ExitStatus, Duration)> {
        let start = Instant::now();
        kill_process(Pid::from_child(&self.process), Signal::TERM)?;
        while start.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.process.try_wait()? {
                return Ok((status, start.elapsed()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.process.kill()?;
        Ok((self.process.wait()?, start.elapsed()))
    }
}

impl Drop for Netmond {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
