//! The tools: how each is run, which of its numbers are read, and how. Each is run as its own manual says for the question
//! "who talks to whom, and which process does it", without names being resolved.

mod bandwhich;
mod columns;
mod iftop;
mod lsof;
mod nethogs;
mod netmon;
mod netwatch;
mod rustnet;
mod ss;
mod tcpdump;

use std::{
    collections::HashSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use netmon_testkit::Netns;

use crate::{
    Result,
    launch::{Launch, Told},
    sighting::{Sighting, Unit},
    workload::Kind,
};

/// Where a tool is run, and by which files.
pub(crate) struct Place<'a> {
    pub(crate) netns: &'a Netns,
    pub(crate) interface: &'static str,
    /// Of its own, for all it writes.
    pub(crate) folder: &'a Path,
    pub(crate) programs: &'a Programs,
}

/// Where programs are.
pub(crate) struct Programs {
    /// Ours, of the same build.
    pub(crate) own: PathBuf,
    /// Those from crates.io.
    pub(crate) crates: PathBuf,
}

impl Programs {
    /// Beside this program.
    pub(crate) fn find() -> Result<Self> {
        let own = env::current_exe()?;
        let own = own.parent().ok_or("this program is in no folder")?.to_owned();
        let crates = own.join("../versus/rivals/bin");
        Ok(Self { own, crates })
    }

    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.own.join(name)
    }

    fn of_crate(&self, name: &str) -> PathBuf {
        self.crates.join(name)
    }
}

/// What a tool told, as far as it was understood.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) sightings: Vec<Sighting>,
    /// What it says that it lost; `None` where it says nothing of that.
    pub(crate) lost: Option<u64>,
    /// What it says of itself that a reader should know.
    pub(crate) note: Option<String>,
}

/// A question that ends with the answer, beside what runs or without.
pub(crate) type Question = fn(&Place<'_>, Kind) -> Launch;

/// A tool.
pub(crate) struct Rival {
    pub(crate) name: &'static str,
    /// From where it is installed.
    pub(crate) from: &'static str,
    /// Arguments that make it say its version, or the Debian package that has one.
    version: Version,
    pub(crate) launch: fn(&Place<'_>) -> Launch,
    pub(crate) read: fn(&Told) -> Report,
    /// For a tool that remembers and is asked; what it tells is then the answer, and not what it writes by itself.
    pub(crate) ask: Option<Question>,
    /// How it lists all open sockets at once.
    pub(crate) list: Option<Question>,
    /// The bytes that it counts.
    pub(crate) unit: Option<Unit>,
    /// Whether it can tell an owner at all.
    pub(crate) tells_owners: bool,
    /// What to know of its rows.
    pub(crate) remark: &'static str,
}

enum Version {
    Asked(fn(&Programs) -> PathBuf, &'static str),
    Debian(&'static str),
}

impl Rival {
    /// `None` where it is not installed.
    pub(crate) fn version(&self, programs: &Programs) -> Option<String> {
        let output = match &self.version {
            Version::Asked(program, argument) => {
                Command::new(program(programs)).arg(argument).stdin(Stdio::null()).output()
            }
            Version::Debian(package) => {
                Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output()
            }
        };
        let said = String::from_utf8(output.ok()?.stdout).ok()?;
        let word =
            said.split_whitespace().find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()))?;
        Some(word.to_owned())
    }

    /// How long a session may wait for it to notice what has just happened.
    pub(crate) fn settle(&self, otherwise: Duration) -> Duration {
        // What remembers need not be caught in the act.
        if self.ask.is_some() { Duration::from_millis(100) } else { otherwise }
    }
}

fn on_path(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.exists()).unwrap_or_else(|| name.into())
}

/// Files that a tool wrote, by the end of their names, in the order of their names.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Without repetitions, where a tool lists the same again and again.
fn distinct(sightings: Vec<Sighting>) -> Vec<Sighting> {
    let mut known = HashSet::new();
    sightings.into_iter().filter(|sighting| known.insert(sighting.clone())).collect()
}

/// All of them, ours first.
pub(crate) const ALL: &[Rival] = &[
    netmon::DAEMON,
    netmon::LIVE,
    bandwhich::RIVAL,
    rustnet::RIVAL,
    netwatch::RIVAL,
    nethogs::RIVAL,
    iftop::RIVAL,
    tcpdump::RIVAL,
    ss::RIVAL,
    lsof::RIVAL,
    columns::TCPLIFE_BPFCC,
    columns::TCPCONNECT_BPFCC,
    columns::TCPTRACER_BPFCC,
    columns::TCPLIFE_BT,
    columns::TCPLIFE_TRACEPOINT,
];
