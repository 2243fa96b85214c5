//! What a program takes: CPU time and resident memory, of a process and all that it started.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Ticks a second of the times in /proc, which the kernel's interface fixes.
const TICKS: u64 = 100;
const PAGE: u64 = 4096;
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) resident_bytes: u64,
}

/// Processes that are watched while they run. CPU time of those that ended is kept.
#[derive(Debug, Default)]
struct Watched {
    running: BTreeSet<u32>,
    ended: Duration,
    highest_resident_bytes: u64,
}

impl Watched {
    fn usage(&self) -> Usage {
        self.running.iter().fold(Usage { cpu: self.ended, resident_bytes: 0 }, |sum, pid| {
            let usage = of_tree(*pid);
            Usage { cpu: sum.cpu + usage.cpu, resident_bytes: sum.resident_bytes + usage.resident_bytes }
        })
    }
}

/// Watches processes by a thread of its own, until it is dropped.
#[derive(Debug)]
pub(crate) struct Meter {
    watched: Arc<Mutex<Watched>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Meter {
    pub(crate) fn start() -> Self {
        let (watched, stop) = (Arc::<Mutex<Watched>>::default(), Arc::<AtomicBool>::default());
        let (watching, stopping) = (Arc::clone(&watched), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let mut watched = watching.lock().unwrap_or_else(PoisonError::into_inner);
                watched.highest_resident_bytes =
                    watched.highest_resident_bytes.max(watched.usage().resident_bytes);
                drop(watched);
                thread::sleep(LOOK_EVERY);
            }
        });
        Self { watched, stop, thread: Some(thread) }
    }

    /// What ends these processes has to be [`Handle::ended`], before it waits for them.
    pub(crate) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.watched))
    }

    /// CPU time since the start.
    pub(crate) fn cpu(&self) -> Duration {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).usage().cpu
    }

    /// The most memory since the last call.
    pub(crate) fn take_highest_resident_bytes(&self) -> u64 {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let now = watched.usage().resident_bytes;
        std::mem::take(&mut watched.highest_resident_bytes).max(now)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Tells a [`Meter`] which processes there are.
#[derive(Debug, Clone)]
pub(crate) struct Handle(Arc<Mutex<Watched>>);

impl Handle {
    pub(crate) fn started(&self, pid: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).running.insert(pid);
    }

    /// Waits for its end, and takes what it used before its number may be given anew. The caller reaps it.
    pub(crate) fn ended(&self, pid: u32) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        }
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.ended += of_tree(pid).cpu;
        watched.running.remove(&pid);
    }
}

/// What a process and those it started take; nothing where it is gone.
pub(crate) fn of_tree(pid: u32) -> Usage {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut usage = of_stat(&read(&format!("/proc/{pid}/stat"))).unwrap_or_default();
    let mut running = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let task = task.path();
        running += of_schedstat(&read(&task.join("schedstat").to_string_lossy())).unwrap_or_default();
        let children = read(&task.join("children").to_string_lossy());
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            let child = of_tree(child);
            usage.cpu += child.cpu;
            usage.resident_bytes += child.resident_bytes;
        }
    }
    // One knows threads that have ended, the other what is less than a tick.
    usage.cpu = usage.cpu.max(running);
    usage
}

/// `/proc/PID/task/TID/schedstat`: nanoseconds on a CPU come first.
fn of_schedstat(line: &str) -> Option<Duration> {
    Some(Duration::from_nanos(line.split_whitespace().next()?.parse().ok()?))
}

/// `/proc/PID/stat`: its own time and that of the children that it has waited for.
fn of_stat(line: &str) -> Option<Usage> {
    // The name, in brackets, may have any character.
    let (_, fields) = line.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = number(14)? + number(15)? + number(16)? + number(17)?;
    Some(Usage { cpu: Duration::from_millis(ticks * 1000 / TICKS), resident_bytes: number(24)? * PAGE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_waited_children_count_and_names_may_have_brackets() {
        let line = "77 (a) (b) S 1 77 77 0 -1 4194560 900 10 0 0 11 22 3 4 20 0 1 0 7000 9000000 250 18446744073709551615 1 1";
        assert_eq!(of_stat(line), Some(Usage { cpu: Duration::from_millis(400), resident_bytes: 1_024_000 }));
    }

    #[test]
    fn what_ended_still_counts() {
        let meter = Meter::start();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"])
            .spawn()
            .unwrap_or_else(|error| panic!("{error}"));
        meter.handle().started(child.id());
        meter.handle().ended(child.id());
        assert!(child.wait().is_ok_and(|status| status.success()));
        assert!(meter.cpu() > Duration::ZERO);
    }
}
