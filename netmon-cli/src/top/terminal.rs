//! The terminal, and leaving it as it was found: at the end, after an error, and in a panic.

use std::{
    io::{self, Stdout},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

use super::{draw, state::State};

/// Whether the terminal is ours, and has to be given back.
static OURS: AtomicBool = AtomicBool::new(false);

/// The screen of `top`. The terminal is as before when this is dropped.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        restore_in_panics();
        OURS.store(true, Ordering::SeqCst);
        enable_raw_mode()?;
        Self::open().inspect_err(|_| restore())
    }

    fn open() -> io::Result<Self> {
        // It is blank. `Terminal::clear` would ask the terminal where its cursor is, which some never answer.
        execute!(io::stdout(), EnterAlternateScreen)?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))? })
    }

    pub(super) fn draw(&mut self, state: &mut State) -> io::Result<()> {
        self.terminal.draw(|frame| draw::draw(frame, state))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Where the terminal is gone there is nothing to restore, and nobody to tell.
fn restore() {
    if !OURS.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
}

/// So that the message of a panic, in any thread, is seen on a terminal that works.
fn restore_in_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            report(info);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::{super::pseudo_terminal::Terminal, *};

    #[test]
    fn a_panic_gives_the_terminal_back_and_is_seen_there() {
        let program = std::env::current_exe().unwrap();
        let name = "top::terminal::tests::panics_on_its_screen";
        let arguments = ["--ignored", "--exact", name, "--nocapture"];
        let (status, text) = Terminal::start(program.to_str().unwrap(), &arguments, 120, 40).ended();
        assert!(!status.success(), "{text}");
        assert!(text.contains("it went wrong on purpose"), "{text}");
    }

    #[test]
    #[ignore = "the test above starts it on a terminal"]
    fn panics_on_its_screen() {
        let _screen = Screen::enter().unwrap();
        panic!("it went wrong on purpose");
    }
}
