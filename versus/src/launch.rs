//! Running a tool as its users do: until Ctrl-C, on a terminal, or again and again.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use netmon_testkit::Netns;
use pty_process::{Size, blocking};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Result,
    process::{Handle, Meter},
    rivals::Place,
};

/// How a tool is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// It writes until Ctrl-C.
    Stream,
    /// It has only a terminal for an output; keys that are pressed when it is there, and then every second.
    Terminal { first: &'static str, each_second: &'static str },
    /// It lists and ends; run anew every second, as `watch` does.
    Repeated,
}

/// Columns and rows of the terminal.
const TERMINAL: (u16, u16) = (200, 60);
const REPEAT_EVERY: Duration = Duration::from_secs(1);
/// How long a tool may take to end when asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command line.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) style: Style,
    /// What it says when it is ready; other tools get time.
    pub(crate) ready: Option<&'static str>,
    /// Ours finds control groups by the /sys of the host; others want that of the namespace.
    pub(crate) own_sys: bool,
}

impl Launch {
    pub(crate) fn of(program: impl Into<PathBuf>, arguments: &str, style: Style) -> Self {
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        Self { program: program.into(), arguments, style, ready: None, own_sys: true }
    }

    /// As a person would type it.
    pub(crate) fn shown(&self) -> String {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy();
        let words = self.arguments.iter().map(|word| word.rsplit('/').next().unwrap_or(word));
        std::iter::once(&*name).chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Program and arguments that run it in a namespace, where tracefs is mounted, as it is wherever systemd runs.
    pub(crate) fn words(&self, netns: &Netns) -> Vec<OsString> {
        let mut words: Vec<OsString> = if self.own_sys {
            let mount = "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null";
            let run = format!("{mount}; exec \"$@\"");
            ["ip", "netns", "exec", netns.name(), "sh", "-c", &run, "sh"].map(OsString::from).into()
        } else {
            ["nsenter".to_owned(), format!("--net=/run/netns/{}", netns.name()), "--".to_owned()]
                .map(OsString::from)
                .into()
        };
        words.push(self.program.clone().into());
        words.extend(self.arguments.iter().map(OsString::from));
        words
    }

    fn command(&self, netns: &Netns, folder: &Path) -> Command {
        let words = self.words(netns);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(folder);
        command.envs(environment(folder));
        command
    }

    /// Runs it to its end, and returns what it printed and how long that took.
    pub(crate) fn once(&self, netns: &Netns, folder: &Path) -> Result<(String, Duration)> {
        let start = Instant::now();
        let output = self.command(netns, folder).stdin(Stdio::null()).output()?;
        let took = start.elapsed();
        if !output.status.success() && output.stdout.is_empty() {
            return Err(last_words(&String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), took))
    }
}

/// Files of its own, English, and no buffer before its output.
fn environment(folder: &Path) -> [(&'static str, OsString); 6] {
    [
        ("HOME", folder.into()),
        ("XDG_CACHE_HOME", folder.join("cache").into()),
        ("LC_ALL", "C.UTF-8".into()),
        ("TERM", "xterm-256color".into()),
        ("PYTHONUNBUFFERED", "1".into()),
        ("NO_COLOR", "1".into()),
    ]
}

/// What a tool wrote.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Where its other files are.
    pub(crate) folder: PathBuf,
}

/// A tool that runs.
pub(crate) struct Running {
    process: Process,
    handle: Handle,
    folder: PathBuf,
}

enum Process {
    Stream(Child),
    Terminal(Terminal),
    Repeated { stop: Arc<AtomicBool>, thread: Option<JoinHandle<()>> },
}

impl Running {
    /// Starts it, and waits until it is ready. The error is what it said itself.
    pub(crate) fn start(
        launch: &Launch,
        place: &Place<'_>,
        meter: &Meter,
        warm_up: Duration,
    ) -> Result<Self> {
        let (netns, folder) = (place.netns, place.folder);
        let (out, errors) = (File::create(folder.join("stdout"))?, File::create(folder.join("stderr"))?);
        let handle = meter.handle();
        let mut command = launch.command(netns, folder);
        let process = match launch.style {
            Style::Stream => {
                let child = command.stdin(Stdio::null()).stdout(out).stderr(errors).spawn()?;
                handle.started(child.id());
                Process::Stream(child)
            }
            Style::Terminal { first, each_second } => {
                let terminal = Terminal::start(&launch.words(netns), folder, out)?;
                handle.started(terminal.child.id());
                terminal.press_later(first, each_second);
                Process::Terminal(terminal)
            }
            Style::Repeated => repeat(command, out, errors, handle.clone()),
        };
        let mut running = Self { process, handle, folder: folder.to_owned() };
        running.warm_up(launch.ready, warm_up)?;
        Ok(running)
    }

    fn warm_up(&mut self, ready: Option<&str>, otherwise: Duration) -> Result<()> {
        let start = Instant::now();
        // Time to open its interface or to compile its programs, for those that do not say when they are ready.
        let least = if ready.is_some() { Duration::ZERO } else { otherwise };
        loop {
            let told = self.told_so_far();
            let is_ready =
                ready.is_none_or(|ready| told.stdout.contains(ready) || told.stderr.contains(ready));
            if self.has_ended()? {
                return Err(last_words(&format!("{}\n{}", told.stdout, told.stderr)).into());
            }
            if is_ready && start.elapsed() >= least {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(60) {
                return Err("never ready".into());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn has_ended(&mut self) -> Result<bool> {
        Ok(match &mut self.process {
            Process::Stream(child) => child.try_wait()?.is_some(),
            Process::Terminal(terminal) => terminal.child.try_wait()?.is_some(),
            Process::Repeated { thread, .. } => thread.as_ref().is_none_or(JoinHandle::is_finished),
        })
    }

    fn told_so_far(&self) -> Told {
        let read = |name: &str| {
            let bytes = fs::read(self.folder.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Told { stdout: read("stdout"), stderr: read("stderr"), folder: self.folder.clone() }
    }

    /// Ends it as Ctrl-C does, and returns all that it wrote. The error is what it said where it had ended by itself.
    pub(crate) fn finish(mut self) -> Result<Told> {
        let had_ended = self.has_ended()?;
        self.end();
        let told = self.told_so_far();
        if had_ended {
            return Err(last_words(&format!("{}\n{}", told.stdout, told.stderr)).into());
        }
        Ok(told)
    }

    fn end(&mut self) {
        match &mut self.process {
            Process::Stream(child) => end(child, &self.handle),
            Process::Terminal(terminal) => {
                terminal.stop.store(true, Ordering::Relaxed);
                end(&mut terminal.child, &self.handle);
            }
            Process::Repeated { stop, thread } => {
                stop.store(true, Ordering::Relaxed);
                let _ = thread.take().map(JoinHandle::join);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn end(child: &mut Child, handle: &Handle) {
    if child.try_wait().is_ok_and(|status| status.is_some()) {
        return;
    }
    let _ = kill_process(Pid::from_child(child), Signal::INT);
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().is_ok_and(|status| status.is_none()) {
        if Instant::now() > deadline {
            let _ = child.kill();
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    handle.ended(child.id());
    let _ = child.wait();
}

fn repeat(mut command: Command, out: File, errors: File, handle: Handle) -> Process {
    let stop = Arc::<AtomicBool>::default();
    let stopping = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        while !stopping.load(Ordering::Relaxed) {
            let next = Instant::now() + REPEAT_EVERY;
            let (Ok(out), Ok(errors)) = (out.try_clone(), errors.try_clone()) else { return };
            let Ok(mut child) = command.stdin(Stdio::null()).stdout(out).stderr(errors).spawn() else {
                return;
            };
            handle.started(child.id());
            handle.ended(child.id());
            // Its messages are told by who finds that it has ended.
            if !child.wait().is_ok_and(|status| status.success()) {
                return;
            }
            while Instant::now() < next && !stopping.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(20));
            }
        }
    });
    Process::Repeated { stop, thread: Some(thread) }
}

/// A tool on a terminal of its own. What it draws goes to a file, so that it never waits.
struct Terminal {
    child: Child,
    pty: Arc<blocking::Pty>,
    /// Held open, so that the terminal outlives the tool.
    _pts: Mutex<blocking::Pts>,
    stop: Arc<AtomicBool>,
}

impl Terminal {
    fn start(words: &[OsString], folder: &Path, mut out: File) -> Result<Self> {
        let (pty, pts) = blocking::open()?;
        pty.resize(Size::new(TERMINAL.1, TERMINAL.0))?;
        let command = blocking::Command::new(&words[0]).args(&words[1..]).current_dir(folder);
        let child = command.envs(environment(folder)).spawn_borrowed(&pts)?;
        let pty = Arc::new(pty);
        let reading = Arc::clone(&pty);
        thread::spawn(move || {
            let mut bytes = [0; 1 << 16];
            while let Ok(count @ 1..) = (&*reading).read(&mut bytes) {
                let _ = out.write_all(&bytes[..count]);
            }
        });
        Ok(Self { child, pty, _pts: Mutex::new(pts), stop: Arc::default() })
    }

    fn press_later(&self, first: &'static str, each_second: &'static str) {
        let (pty, stop) = (Arc::clone(&self.pty), Arc::clone(&self.stop));
        thread::spawn(move || {
            let mut keys = first;
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_secs(1));
                let _ = (&*pty).write_all(keys.as_bytes());
                keys = each_second;
            }
        });
    }
}

/// The lines in which a tool says why it ended: the last ones, without control sequences.
pub(crate) fn last_words(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let telling = |line: &&&str| {
        let line = line.to_lowercase();
        ["error", "fail", "unable", "cannot", "not found", "fatal", "denied"]
            .iter()
            .any(|word| line.contains(word))
    };
    // Not the lines of its own source that Python shows.
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.starts_with("raise ")).collect();
    let mut words: Vec<&str> = lines.iter().filter(telling).copied().collect();
    if words.is_empty() {
        words.extend(lines.last());
    }
    words.dedup();
    words.drain(..words.len().saturating_sub(3));
    let text: String = words.join("; ").chars().filter(|letter| !letter.is_control()).take(600).collect();
    if text.is_empty() { "it ended at once and said nothing".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_those_that_say_why() {
        let said = "modprobe: FATAL: Module kheaders not found\nUnable to find kernel headers.\n  File \"x\"\n    b = BPF()\n";
        assert_eq!(
            last_words(said),
            "modprobe: FATAL: Module kheaders not found; Unable to find kernel headers."
        );
        assert_eq!(last_words("one\n\ntwo\n"), "two");
        assert_eq!(last_words(""), "it ended at once and said nothing");
    }
}
