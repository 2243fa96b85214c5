//! Traffic whose owner, bytes and outcome are known exactly, by a program of its own: `netmon-workload`, whose usage (run
//! it without arguments) lists what it can do.
//!
//! A test of who owns a connection needs an owner that is not the test: another process, another thread's name, a process
//! that forked, passed the socket on or became another program. The program tells what it did as [`Truth`]s, taken from
//! its own system calls.
//!
//! ```no_run
//! use netmon_testkit::{Netns, workload::{self, Event}};
//!
//! let netns = Netns::create();
//! let mut server = workload::start(&netns, "serve --model fork --receive 100 --send 3000 127.0.0.1:0");
//! let address = server.ready().address();
//! let client = workload::run(&netns, &format!("connect --comm curl --send 100 --receive 3000 {address}"));
//! let served = server.wait();
//! assert_eq!(workload::only(&client, Event::Done, "client").process, "curl");
//! assert_eq!(workload::only(&served, Event::Done, "handler").sent, 3000);
//! ```

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, SystemTime},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{PATIENCE, netns::Netns};

/// What a line tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It listens, or holds what it is to hold; the test may go on.
    Ready,
    /// This task opened a connection: its connect succeeded.
    Opened,
    /// This task took a connection from a listening socket.
    Accepted,
    /// This process passed its socket to another, and has closed its own descriptor.
    Handed,
    /// This task is done with the socket, and has closed it; how much went over it, and how it ended.
    #[default]
    Done,
}

/// What a socket speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they say it")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Icmp,
    Unix,
}

/// One line: what one task did with one socket, or for `udp-send` and its receivers with one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Truth {
    /// What it tells of.
    pub event: Event,
    /// The task's part: `client`, `server`, `acceptor`, `handler`, `worker`, `peer`, `opener`, `user`, `sender`, ...
    pub role: String,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The process's name (its first thread's).
    pub process: String,
    /// The thread's name.
    pub thread: String,
    /// What the socket speaks.
    pub protocol: Protocol,
    /// The socket's own address.
    pub local: Option<SocketAddr>,
    /// The other side's.
    pub peer: Option<SocketAddr>,
    /// The socket's inode, as in /proc/net.
    pub inode: Option<u64>,
    /// The socket's cookie, as `bpf_get_socket_cookie` has it.
    pub cookie: Option<u64>,
    /// The state that the kernel has for a connection that is held (`CLOSE_WAIT`) or not open yet (`SYN_SENT`).
    pub state: Option<String>,
    /// Connections that were opened or accepted.
    pub connections: u64,
    /// Those, or datagrams, that failed.
    pub failures: u64,
    /// Payload bytes that the kernel took.
    pub sent: u64,
    /// Payload bytes that came.
    pub received: u64,
    /// Datagrams that the kernel took.
    pub datagrams_sent: u64,
    /// Datagrams that came.
    pub datagrams_received: u64,
    /// The error number of the call that ended it; 0 if it ended well.
    pub errno: i32,
    /// The name of that error, as `ECONNREFUSED`.
    pub error: Option<String>,
    /// The time before the first call (nanoseconds of `CLOCK_BOOTTIME`).
    pub start_ns: u64,
    /// The time after the last; for [`Event::Done`] after close.
    pub end_ns: u64,
    /// Nanoseconds of CPU that the process had taken by then; 0 where that was not read.
    pub cpu_ns: u64,
}

impl Truth {
    /// The socket's own address.
    ///
    /// # Panics
    /// Where it has none.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.local.unwrap_or_else(|| panic!("no address in {self:?}"))
    }

    /// From the first call to the last.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.end_ns.saturating_sub(self.start_ns))
    }

    /// Connections per second, over [`duration`](Self::duration).
    pub fn connections_per_second(&self) -> f64 {
        self.connections as f64 / self.duration().as_secs_f64()
    }
}

/// Those of an event and a role.
pub fn all<'a>(truths: &'a [Truth], event: Event, role: &str) -> Vec<&'a Truth> {
    truths.iter().filter(|truth| truth.event == event && truth.role == role).collect()
}

/// The only one of an event and a role.
///
/// # Panics
/// Where there is none, or more than one.
#[track_caller]
pub fn only<'a>(truths: &'a [Truth], event: Event, role: &str) -> &'a Truth {
    match all(truths, event, role)[..] {
        [truth] => truth,
        _ => panic!("not exactly one {event:?} of a {role} in {truths:#?}"),
    }
}

/// Runs a command of the workload program in a namespace, its words separated by spaces.
///
/// # Panics
/// Where the program cannot be started.
#[track_caller]
pub fn start(netns: &Netns, command_line: &str) -> Running {
    Running::of(netns.command(program()), command_line)
}

/// The same for one that may live longer than the two minutes after which the program ends by itself.
///
/// # Panics
/// Where the program cannot be started.
#[track_caller]
pub fn start_living(netns: &Netns, lifetime: Duration, command_line: &str) -> Running {
    let mut command = netns.command(program());
    command.env("NETMON_WORKLOAD_SECONDS", lifetime.as_secs().to_string());
    Running::of(command, command_line)
}

/// The same in the namespace of the caller.
///
/// # Panics
/// Where the program cannot be started.
#[track_caller]
pub fn start_here(command_line: &str) -> Running {
    Running::of(Command::new(program()), command_line)
}

/// The same by a command that may begin with another program, to which the words are passed on.
///
/// # Panics
/// Where the program cannot be started.
#[track_caller]
pub fn start_by(command: Command, command_line: &str) -> Running {
    Running::of(command, command_line)
}

/// Runs a command in a namespace to its end, and returns all that it told.
///
/// # Panics
/// Where it fails, which the outcome of a connection is not.
#[track_caller]
pub fn run(netns: &Netns, command_line: &str) -> Vec<Truth> {
    start(netns, command_line).wait()
}

/// A workload that runs. Dropping it kills it and all processes that it started.
#[derive(Debug)]
pub struct Running {
    command_line: String,
    process: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    told: Vec<Truth>,
    ended: bool,
}

impl Running {
    #[track_caller]
    fn of(mut command: Command, command_line: &str) -> Self {
        let mut process = command
            .args(command_line.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().unwrap_or_else(|| panic!("the workload has no stdout"));
        let (sender, lines) = mpsc::channel();
        // By a thread, so that a test can give up waiting for a line. It ends with the last of the processes.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { command_line: command_line.to_owned(), process, stdin, lines, told: Vec::new(), ended: false }
    }

    /// The process that was started; others come from it.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next line; `None` when there will be no more.
    ///
    /// # Panics
    /// Where none comes for long, or it cannot be read.
    #[track_caller]
    pub fn next_truth(&mut self) -> Option<Truth> {
        // Longer than the program itself waits for anything, so that its own message comes first.
        let line = match self.lines.recv_timeout(PATIENCE * 2) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("{} told nothing for {:?}, after {:#?}", self.command_line, PATIENCE * 2, self.told)
            }
        };
        let truth: Truth =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?} is no truth: {error}"));
        self.told.push(truth.clone());
        Some(truth)
    }

    /// Waits for a line of this event, and returns it.
    ///
    /// # Panics
    /// Where the program ends before.
    #[track_caller]
    pub fn wait_for(&mut self, event: Event) -> Truth {
        loop {
            match self.next_truth() {
                Some(truth) if truth.event == event => return truth,
                Some(_) => {}
                None => panic!("{} ended without {event:?}, and told {:#?}", self.command_line, self.told),
            }
        }
    }

    /// Waits until it listens, or holds what it is to hold.
    ///
    /// # Panics
    /// Where it never does.
    #[track_caller]
    pub fn ready(&mut self) -> Truth {
        self.wait_for(Event::Ready)
    }

    /// All that it has told so far, as far as it was waited for.
    pub fn lines(&self) -> &[Truth] {
        &self.told
    }

    /// Tells it to go on, where it holds something.
    pub fn release(&mut self) {
        self.stdin = None;
    }

    /// Tells it to go on, waits for its end, and returns all that it told.
    ///
    /// # Panics
    /// Where it fails, which the outcome of a connection is not; its stderr says why.
    #[track_caller]
    pub fn wait(mut self) -> Vec<Truth> {
        self.release();
        while self.next_truth().is_some() {}
        // None of its processes is left, as all of them have the same stdout.
        let status = self.process.wait();
        self.ended = true;
        assert!(
            status.as_ref().is_ok_and(std::process::ExitStatus::success),
            "{} failed ({status:?}), and told {:#?}",
            self.command_line,
            self.told
        );
        std::mem::take(&mut self.told)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The group has the number of its first process, which is not given anew before that one has been waited for.
        if let Ok(group) = i32::try_from(self.process.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.process.wait();
    }
}

const NAME: &str = "netmon-workload";

/// Where the workload program is: in the target folder of the running test. Built first if it is not there or older than
/// its sources.
///
/// Cargo tells the tests of a package where the package's own programs are, not those of another package; and it builds
/// these only when all packages are tested.
///
/// # Panics
/// Where it is not there and cannot be built.
#[track_caller]
pub fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(find_or_build).clone()
}

fn find_or_build() -> PathBuf {
    let own = env::current_exe().unwrap_or_else(|error| panic!("where is this program? {error}"));
    let folder = own
        .ancestors()
        .skip(1)
        .find(|folder| !["deps", "examples"].iter().any(|name| folder.ends_with(name)))
        .unwrap_or_else(|| panic!("{} is in no target folder", own.display()));
    let program = folder.join(NAME);
    if !is_current(&program) {
        build(folder);
        assert!(program.exists(), "{NAME} was built, but is not at {}", program.display());
    }
    program
}

/// Whether it is there, and younger than all it is made of in this package.
fn is_current(program: &Path) -> bool {
    let Some(built) = modified(program) else { return false };
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if modified(&path).is_some_and(|changed| changed > built) {
                return false;
            }
        }
    }
    true
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// Builds it into a folder as `target/debug` or `target/TRIPLE/release`.
fn build(folder: &Path) {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_os_string();
    let mut target = folder.parent().unwrap_or(folder);
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["build", "--quiet", "--locked", "-p", env!("CARGO_PKG_NAME"), "--bin", NAME]);
    // The folder of the profile `dev` is called debug.
    match name(folder) {
        profile if profile == "debug" => command.arg("--profile=dev"),
        profile => command.arg("--profile").arg(profile),
    };
    // Of a build for another machine, the target folder is one level up, where cargo keeps what it knows of rustc. (It
    // has a CACHEDIR.TAG only if cargo itself made it.)
    let knows_rustc = |folder: &&Path| folder.join(".rustc_info.json").exists();
    if let (false, Some(parent)) = (knows_rustc(&target), target.parent().filter(knows_rustc)) {
        command.arg("--target").arg(name(target));
        target = parent;
    }
    command.arg("--target-dir").arg(target);
    let status = command.status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "{NAME} could not be built ({status:?}): as who builds, run `cargo build -p {} --bin {NAME}`, with \
         the profile of the tests",
        env!("CARGO_PKG_NAME"),
    );
}
