//! Which processes come from one that was started here: by a control group of their own, which they cannot leave without
//! saying so, else by their descent, as far as /proc and the facts tell it.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};

use procfs::process::Process as ProcProcess;

use super::process::CgroupMount;
use crate::{
    clean::CleanText,
    fact::{BootTime, Process},
};

/// A control group of the unified hierarchy, made for one command and removed when this is dropped.
#[derive(Debug)]
pub(crate) struct OwnGroup {
    directory: PathBuf,
    /// The group that this process is in, to which what still lives goes at the end.
    home: PathBuf,
    name: String,
}

const PREFIX: &str = "netmon-run-";

impl OwnGroup {
    /// Makes one below the group of this process. What hinders that is said in words.
    pub(crate) fn create() -> Result<Self, String> {
        let mounts = fs::read("/proc/self/mountinfo").map_err(|error| error.to_string())?;
        let mount = CgroupMount::find(&mounts).ok_or("there is no unified hierarchy of control groups")?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::"));
        let own = own.ok_or("this process is in no control group of the unified hierarchy")?;
        let home = mount
            .place_of(own)
            .ok_or_else(|| format!("its own control group {own} is not below the one that is mounted"))?;
        remove_abandoned(&home);

        let name = format!("{PREFIX}{}-{:x}", std::process::id(), super::now().boot_ns);
        // Facts hold paths up to a length, and this name has to be in them.
        if own.len() + name.len() + 1 > CleanText::MAX_CHARS {
            return Err("the path of its own control group is too long".to_owned());
        }
        let directory = home.join(&name);
        fs::create_dir(&directory)
            .map_err(|error| format!("cannot make a control group in {}: {error}", home.display()))?;
        let group = Self { directory, home, name };
        // To be allowed to make one is not yet to be allowed to fill it.
        enter(&group.directory).and_then(|()| enter(&group.home)).map_err(|error| {
            format!("cannot enter the control group {}: {error}", group.directory.display())
        })?;
        Ok(group)
    }

    /// The expression that those match who are in it, wherever the hierarchy is seen from.
    pub(crate) fn expression(&self) -> String {
        format!("cgroup in (\"*/{name}\", \"*/{name}/*\")", name = self.name)
    }

    /// Starts a command in it: this process goes there for the time of a fork, since a child is born where its parent is.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<io::Result<Child>, String> {
        enter(&self.directory).map_err(|error| format!("cannot enter the control group: {error}"))?;
        let child = command.spawn();
        if let Err(error) = enter(&self.home) {
            tracing::warn!("this process stays in its control group {}: {error}", self.directory.display());
        }
        Ok(child)
    }

    /// How many processes are in it now.
    pub(crate) fn population(&self) -> u64 {
        let mut pending = vec![self.directory.clone()];
        let mut count = 0;
        while let Some(directory) = pending.pop() {
            let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            count += processes.lines().count() as u64;
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            pending.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
        count
    }
}

impl Drop for OwnGroup {
    fn drop(&mut self) {
        let living = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        for pid in living.lines() {
            // It may have ended meanwhile.
            let _ = fs::write(self.home.join("cgroup.procs"), pid);
        }
        if let Err(error) = fs::remove_dir(&self.directory) {
            tracing::warn!("the control group {} stays: {error}", self.directory.display());
        }
    }
}

/// Moves this process, all its threads.
fn enter(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), "0")
}

/// Removes the groups of those who were killed, if nobody is in them.
fn remove_abandoned(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        if let Some((maker, _)) = maker
            && !Path::new("/proc").join(maker).exists()
        {
            // The kernel refuses while anybody is in it.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// A process, by its number and its start in the ticks of /proc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Life {
    pid: u32,
    started: u64,
}

/// The descendants of one process, as they were seen while they lived.
#[derive(Debug)]
pub(crate) struct Descent {
    root: Life,
    /// By number, with the starts of all who had it.
    known: HashMap<u32, Vec<u64>>,
    living: HashSet<Life>,
    /// Where this process takes in orphans, they are its children.
    takes_orphans: bool,
}

impl Descent {
    /// Those of a child of this process.
    pub(crate) fn of(child: u32) -> Self {
        // It has not been waited for, so that its number is its own.
        let root = Life { pid: child, started: read_life(child).map_or(0, |(life, _)| life.started) };
        let takes_orphans = rustix::process::child_subreaper().ok().flatten().is_some();
        let mut descent = Self { root, known: HashMap::new(), living: HashSet::new(), takes_orphans };
        descent.learn(root);
        descent
    }

    fn learn(&mut self, life: Life) -> bool {
        let starts = self.known.entry(life.pid).or_default();
        let new = !starts.contains(&life.started);
        if new {
            starts.push(life.started);
            self.living.insert(life);
        }
        new
    }

    /// Learns of those who live now. A file for each of them.
    pub(crate) fn look(&mut self) {
        let mut pending: Vec<u32> = Vec::new();
        let seen: Vec<Life> = self.living.iter().copied().collect();
        for life in seen {
            if read_life(life.pid).is_some_and(|(now, _)| now == life) {
                pending.push(life.pid);
            } else {
                self.living.remove(&life);
            }
        }
        if self.takes_orphans {
            pending.push(std::process::id());
        }
        while let Some(parent) = pending.pop() {
            for child in children(parent) {
                if let Some((life, _)) = read_life(child)
                    && life.started >= self.root.started
                    && self.learn(life)
                {
                    pending.push(child);
                }
            }
        }
    }

    /// How many of them live, as of the last look.
    pub(crate) fn population(&self) -> u64 {
        let lives = |life: &&Life| {
            ProcProcess::new(life.pid.cast_signed())
                .and_then(|process| process.stat())
                .is_ok_and(|stat| stat.starttime == life.started && stat.state != 'Z')
        };
        self.living.iter().filter(lives).count() as u64
    }

    /// Whether it can be one of them, by its start.
    pub(crate) fn is_young_enough(&self, process: &Process) -> bool {
        process.started.is_none_or(|started| ticks(started) >= self.root.started)
    }

    /// Learns of those among these whose parent is one of them. Returns whether there were any.
    pub(crate) fn learn_from(&mut self, processes: &[Arc<Process>]) {
        let own = std::process::id();
        loop {
            let mut grown = false;
            for process in processes {
                let Some(parent) = process.parent_pid else { continue };
                let started = process.started.map_or(self.root.started, ticks);
                let of_known = self
                    .known
                    .get(&parent)
                    .is_some_and(|starts| starts.iter().any(|start| *start <= started));
                let orphan = self.takes_orphans && parent == own;
                if (of_known || orphan) && !self.contains(process) && self.is_young_enough(process) {
                    grown |= self.learn(Life { pid: process.pid, started });
                }
            }
            if !grown {
                return;
            }
        }
    }

    /// Whether it is one of them.
    pub(crate) fn contains(&self, process: &Process) -> bool {
        self.known
            .get(&process.pid)
            .is_some_and(|starts| process.started.is_none_or(|started| starts.contains(&ticks(started))))
    }
}

/// Facts know a start to the nanosecond, /proc to a tick of 10 ms, rounded down.
fn ticks(started: BootTime) -> u64 {
    started.ns() / (1_000_000_000 / procfs::ticks_per_second())
}

/// A living process, or one that was not waited for, and its parent.
fn read_life(pid: u32) -> Option<(Life, i32)> {
    let stat = ProcProcess::new(pid.cast_signed()).and_then(|process| process.stat()).ok()?;
    Some((Life { pid, started: stat.starttime }, stat.ppid))
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = ProcProcess::new(pid.cast_signed()).and_then(|process| process.tasks());
    let tasks = tasks.into_iter().flatten().flatten();
    tasks.flat_map(|task| task.children().unwrap_or_default()).collect()
}

/// Whether processes have other numbers here than the kernel's programs tell of.
pub(crate) fn numbers_are_foreign() -> bool {
    use std::os::unix::fs::MetadataExt as _;

    // PROC_PID_INIT_INO of include/uapi/linux/nsfs.h.
    const FIRST: u64 = 0xEFFF_FFFC;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() != FIRST)
}

/// How often descent has to be looked at: what lives shorter is known by the facts alone.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_and_their_children_are_known_and_others_not() {
        let mut shell = Command::new("sh").args(["-c", "sleep 600 & sleep 600; wait"]).spawn().unwrap();
        let mut other = Command::new("sleep").arg("600").spawn().unwrap();
        let mut descent = Descent::of(shell.id());
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while descent.population() < 3 {
            assert!(std::time::Instant::now() < deadline, "{descent:?}");
            descent.look();
        }
        let kin: Vec<u32> = descent.known.keys().copied().collect();
        assert_eq!(kin.len(), 3);
        assert!(kin.contains(&shell.id()) && !kin.contains(&other.id()));
        for pid in kin.iter().chain([&other.id()]) {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
        other.wait().unwrap();
        // Nobody here waits for the grandchildren.
        while descent.population() > 0 {
            assert!(std::time::Instant::now() < deadline, "{descent:?}");
            descent.look();
        }
    }

    #[test]
    fn a_chain_of_parents_is_followed_through_the_facts() {
        let own = std::process::id();
        let started = read_life(own).unwrap().0.started;
        let ns = |ticks: u64| BootTime::from_ns(ticks * 10_000_000 + 123);
        let mut descent = Descent::of(own);
        descent.takes_orphans = false;
        let process = |pid: u32, parent: u32, ticks: u64| {
            let parent_pid = Some(parent);
            Arc::new(Process { parent_pid, started: ns(ticks), ..Process::new(pid, "x") })
        };
        let (grandchild, child) =
            (process(4_000_002, 4_000_001, started + 2), process(4_000_001, own, started + 1));
        let (stranger, older) = (process(4_000_003, 1, started + 5), process(4_000_004, own, started - 1));
        let all = [grandchild, child, stranger, older];
        descent.learn_from(&all);
        assert_eq!(all.map(|process| descent.contains(&process)), [true, true, false, false]);
        // The same number, later.
        assert!(!descent.contains(&process(4_000_001, own, started + 9)));
    }
}
