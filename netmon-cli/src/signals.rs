//! Ctrl-C and SIGTERM end what is being measured; the guards then detach and the program ends in order.

use std::{
    io::{self, Write as _},
    process::{ExitCode, exit},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
};

use netmon_core::Cancel;
use rustix::termios::{OptionalActions, Termios, tcsetattr};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// What a signal meets.
enum State {
    /// A command, which this cancels.
    Running(Cancel),
    /// A shell that waits for somebody to type; the terminal was like this before.
    Typing(Option<Termios>),
    /// A shell that waits for the next line of its script.
    Reading,
}

struct Signalled {
    state: State,
    /// The signal after which the shell ends.
    last: Option<i32>,
}

static SIGNALLED: Mutex<Option<Signalled>> = Mutex::new(None);

/// What signals cancel from now on: the command that runs.
pub(crate) fn cancelled_by_signals() -> Cancel {
    let mut signalled = lock();
    if let Some(Signalled { state: State::Running(cancel), .. }) = &*signalled {
        return cancel.clone();
    }
    let cancel = Cancel::new();
    enter(&mut signalled, State::Running(cancel.clone()));
    drop(signalled);
    handle();
    cancel
}

/// What cancels the command that runs; where none does, nobody cancels.
pub(crate) fn current() -> Cancel {
    match &*lock() {
        Some(Signalled { state: State::Running(cancel), .. }) => cancel.clone(),
        _ => Cancel::new(),
    }
}

/// The shell begins a command.
pub(crate) fn running() -> Cancel {
    let cancel = Cancel::new();
    enter(&mut lock(), State::Running(cancel.clone()));
    handle();
    cancel
}

/// The shell waits for the next line, from a terminal or a script, unless a signal has ended it: then the status that it
/// ends with.
pub(crate) fn waiting(terminal: bool) -> Option<ExitCode> {
    let state =
        if terminal { State::Typing(rustix::termios::tcgetattr(io::stdin()).ok()) } else { State::Reading };
    let mut signalled = lock();
    let last = enter(&mut signalled, state);
    drop(signalled);
    handle();
    last.map(|signal| ExitCode::from(status(signal)))
}

fn lock() -> MutexGuard<'static, Option<Signalled>> {
    SIGNALLED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn enter(signalled: &mut Option<Signalled>, state: State) -> Option<i32> {
    let last = signalled.as_ref().and_then(|signalled| signalled.last);
    *signalled = Some(Signalled { state, last });
    last
}

fn handle() {
    static HANDLED: Once = Once::new();
    HANDLED.call_once(|| {
        let begin = || {
            let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
            let name = "netmon-signals".to_owned();
            thread::Builder::new().name(name).spawn(move || signals.forever().for_each(received))
        };
        if let Err(error) = begin() {
            // Then the default action stands: the kernel detaches what is attached by links.
            tracing::warn!("cannot handle signals: {error}");
        }
    });
}

fn received(signal: i32) {
    let mut signalled = lock();
    let Some(signalled) = &mut *signalled else { return };
    if signal != SIGINT {
        signalled.last = Some(signal);
    }
    match &signalled.state {
        State::Running(cancel) => cancel.cancel(),
        // The line editor takes care of it.
        State::Typing(_) if signal == SIGINT => {}
        State::Typing(before) => {
            if let Some(before) = before {
                leave_terminal(before);
            }
            exit(status(signal).into());
        }
        State::Reading => exit(status(signal).into()),
    }
}

/// As shells count.
fn status(signal: i32) -> u8 {
    128 + u8::try_from(signal).unwrap_or_default()
}

/// The line editor's settings end with the line, which will have no end.
fn leave_terminal(before: &Termios) {
    const NO_BRACKETED_PASTE: &[u8] = b"\x1b[?2004l\r\n";

    // Where it fails the terminal is gone, and nobody is left to mind.
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
    let _ = io::stdout().write_all(NO_BRACKETED_PASTE);
    let _ = io::stdout().flush();
}
