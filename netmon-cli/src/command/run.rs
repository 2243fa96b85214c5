//! `run`: a command, and what it did on the network.

use std::{
    fs::File,
    io::{self, IsTerminal as _},
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    path::Path,
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
};

use netmon_core::{CleanText, RunAnswer, RunWatch, view::Layout};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    iterator::Signals,
};

use crate::{
    arguments::{Format, Global, RunArguments},
    failure::{self, Failure},
    output,
};

/// As shells end where a command cannot be started, and where there is none.
const NOT_STARTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

pub(super) fn run(global: &Global, arguments: &RunArguments) -> Result<ExitCode, Failure> {
    let monitor = global.monitor()?;
    let mut watch = monitor.watch_run(&arguments.request)?;
    // What cannot be written is told before anything is done.
    let file = arguments.report.as_deref().map(create).transpose()?;
    if !watch.has_control_group() {
        take_in_orphans();
    }
    let [program, words @ ..] = arguments.command.as_slice() else {
        return Err(Failure::Usage("there is no command".to_owned()));
    };
    let mut command = Command::new(program);
    command.args(words);
    if file.is_none() && global.output != Format::Text {
        command.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?));
    }
    let target = Target::begin();
    let child = match watch.start(&mut command) {
        Ok(child) => child,
        Err(error) => return Ok(not_started(program, &error)),
    };
    target.is(Pid::from_child(&child));
    let status = wait(Pid::from_child(&child), &mut watch)?;
    target.ended();

    let report = watch.finish(status).map_err(Failure::from).and_then(|answer| {
        print(global, file, &answer)?;
        Ok(answer)
    });
    match report {
        Ok(answer) if answer.fail_on.as_ref().is_some_and(|fail_on| fail_on.matched > 0) => {
            Ok(ExitCode::FAILURE)
        }
        Ok(answer) => Ok(ExitCode::from(answer.exit.code())),
        Err(failure) if status.success() => Err(failure),
        // The command has failed for a reason of its own, of which its status tells.
        Err(failure) => {
            failure.report();
            Ok(ExitCode::from(status.code().unwrap_or(128 + status.signal().unwrap_or_default()) as u8))
        }
    }
}

/// The file of the report, before the command begins.
fn create(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|error| {
        let path = CleanText::from(path.to_string_lossy().as_ref());
        Failure::Usage(format!("cannot write {path}: {error}; name a file in a directory that exists"))
    })
}

fn print(global: &Global, file: Option<File>, answer: &RunAnswer) -> io::Result<()> {
    if let Some(file) = file {
        return output::report(file, global, Layout { width: None, color: false }, answer);
    }
    if global.output != Format::Text {
        return output::report(io::stdout().lock(), global, Layout { width: None, color: false }, answer);
    }
    let color = global.color.wanted_on(&io::stderr());
    let width = terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| width.0);
    output::report(io::stderr().lock(), global, Layout { width, color }, answer)
}

/// Those whose parents end become children of this process, and stay known.
fn take_in_orphans() {
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        tracing::warn!("orphans of the command will not be known: {error}");
    }
}

fn not_started(program: &std::ffi::OsStr, error: &io::Error) -> ExitCode {
    let program = CleanText::from(program.to_string_lossy().as_ref());
    failure::line_of_error(&format!("cannot run \"{program}\": {error}"));
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTABLE })
}

/// Waits for the command, and for orphans, which nobody else would wait for.
fn wait(command: Pid, watch: &mut RunWatch) -> Result<ExitStatus, Failure> {
    let (sender, ended) = mpsc::channel();
    thread::Builder::new().name("netmon-wait".to_owned()).spawn(move || {
        loop {
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid == command => {
                    // Who waits for this may be gone.
                    let _ = sender.send(Ok(ExitStatus::from_raw(status.as_raw())));
                    return;
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    let _ = sender.send(Err(io::Error::from(error)));
                    return;
                }
            }
        }
    })?;
    let mut failed = false;
    loop {
        match ended.recv_timeout(RunWatch::LOOK_INTERVAL) {
            Ok(status) => return Ok(status?),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Output(io::Error::other("the thread that waits is gone")));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        // The command goes on whatever becomes of its profile; the end says what is missing.
        if !failed && let Err(error) = watch.look() {
            failed = true;
            output::note(&error.with_cause());
        }
    }
}

/// To whom signals go.
#[derive(Debug, Default)]
enum Recipient {
    /// The command is not started yet; these came.
    #[default]
    Nobody,
    Early(Vec<i32>),
    Command(rustix::fd::OwnedFd),
    /// The command has ended, and this process is to end too.
    Self_,
}

/// Signals go where a shell would send them: what a terminal sends has come to the command already, all others are
/// passed on.
struct Target(Arc<Mutex<Recipient>>);

impl Target {
    fn begin() -> Self {
        let recipient = Arc::new(Mutex::new(Recipient::Nobody));
        let target = Self(Arc::clone(&recipient));
        match Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP]) {
            Ok(mut signals) => {
                thread::spawn(move || signals.forever().for_each(|signal| pass(&recipient, signal)));
            }
            // Then the default action stands.
            Err(error) => tracing::warn!("cannot handle signals: {error}"),
        }
        target
    }

    fn is(&self, command: Pid) {
        let mut recipient = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let early = match std::mem::take(&mut *recipient) {
            Recipient::Early(signals) => signals,
            _ => Vec::new(),
        };
        match rustix::process::pidfd_open(command, PidfdFlags::empty()) {
            Ok(command) => {
                early.iter().for_each(|signal| send(&command, *signal));
                *recipient = Recipient::Command(command);
            }
            Err(error) => tracing::warn!("signals are not passed on: {error}"),
        }
    }

    fn ended(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Recipient::Self_;
    }
}

fn pass(recipient: &Mutex<Recipient>, signal: i32) {
    let from_terminal = matches!(signal, SIGINT | SIGQUIT) && in_foreground();
    let mut recipient = recipient.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *recipient {
        Recipient::Self_ => std::process::exit(128 + signal),
        Recipient::Command(command) if !from_terminal => send(command, signal),
        Recipient::Command(_) => {}
        Recipient::Early(signals) => signals.push(signal),
        Recipient::Nobody => *recipient = Recipient::Early(vec![signal]),
    }
}

fn send(command: &rustix::fd::OwnedFd, signal: i32) {
    if let Some(signal) = Signal::from_named_raw(signal) {
        // It may have ended meanwhile.
        let _ = rustix::process::pidfd_send_signal(command, signal);
    }
}

/// Whether what is typed at the terminal comes to this process, and so to the command.
fn in_foreground() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    terminal.is_terminal()
        && rustix::termios::tcgetpgrp(&terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}
