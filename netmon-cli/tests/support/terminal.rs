//! A program on a pseudo-terminal, and what a person sees there.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    io::{Read as _, Write as _},
    num::NonZeroU16,
    os::fd::AsFd as _,
    process::{Child, ExitStatus},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use pty_process::{
    Size,
    blocking::{Command, Pts, Pty, open},
};
use rustix::{
    process::{Pid, Signal, kill_process},
    termios::{Termios, tcgetattr},
};

const PATIENCE: Duration = netmon_testkit::PATIENCE;

/// A terminal, the program on it, and a thread that reads what it writes.
pub(crate) struct Terminal {
    child: Child,
    pty: Arc<Pty>,
    /// Held open, so that the terminal outlives the program.
    _pts: Pts,
    shown: Arc<Mutex<vt100::Parser>>,
    before: Termios,
}

impl Terminal {
    /// Starts a program with these arguments on a terminal of this size.
    pub(crate) fn start(program: &str, arguments: &[&str], columns: u16, rows: u16) -> Self {
        let (pty, pts) = open().unwrap();
        pty.resize(Size::new(rows, columns)).unwrap();
        let before = tcgetattr(pty.as_fd()).unwrap();
        let mut command =
            Command::new(program).args(arguments).env("TERM", "xterm-256color").env("TZ", "UTC");
        for name in ["NETMON_SOURCE", "NETMON_AI_MODEL", "NO_COLOR", "COLUMNS", "LINES", "RUST_BACKTRACE"] {
            command = command.env_remove(name);
        }
        let child = command.spawn_borrowed(&pts).unwrap();
        let shown = Arc::new(Mutex::new(vt100::Parser::new(size(rows), size(columns), 0)));
        let pty = Arc::new(pty);
        let (reading, writing) = (Arc::clone(&pty), Arc::clone(&shown));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = (&*reading).read(&mut bytes) {
                writing.lock().unwrap().process(&bytes[..count]);
            }
        });
        Self { child, pty, _pts: pts, shown, before }
    }

    fn parser(&self) -> MutexGuard<'_, vt100::Parser> {
        self.shown.lock().unwrap()
    }

    /// What is on the screen now.
    pub(crate) fn text(&self) -> String {
        let text = self.parser().screen().contents();
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// Whether the program has a screen of its own.
    pub(crate) fn has_own_screen(&self) -> bool {
        self.parser().screen().alternate_screen()
    }

    /// The colours on the screen, other than the terminal's own.
    pub(crate) fn colours(&self) -> Vec<vt100::Color> {
        let parser = self.parser();
        let (rows, columns) = parser.screen().size();
        let cells = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        let cells = cells.filter_map(|(row, column)| parser.screen().cell(row, column));
        let colours = cells.flat_map(|cell| [cell.fgcolor(), cell.bgcolor()]);
        colours.filter(|colour| *colour != vt100::Color::Default).collect()
    }

    /// The screen, as soon as this holds of it.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let text = self.text();
            if holds(&text) {
                return text;
            }
            assert!(start.elapsed() < PATIENCE, "never on the screen: {what}\n{text}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The screen, as soon as it shows this.
    pub(crate) fn wait_for(&self, what: &str) -> String {
        self.wait_until(what, |text| text.contains(what))
    }

    pub(crate) fn press(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.parser().screen_mut().set_size(size(rows), size(columns));
        self.pty.resize(Size::new(rows, columns)).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end of the program, and requires that the terminal is as it was.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end\n{}", self.text());
            thread::sleep(Duration::from_millis(20));
        };
        // What it wrote last may still be on its way.
        self.wait_until("the screen as it was", |_| !self.has_own_screen());
        assert!(!self.parser().screen().hide_cursor());
        let after = tcgetattr(self.pty.as_fd()).unwrap();
        let modes =
            |modes: &Termios| (modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes);
        assert_eq!(modes(&after), modes(&self.before));
        thread::sleep(Duration::from_millis(100));
        let text = self.text();
        (status, text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(lines: u16) -> NonZeroU16 {
    NonZeroU16::new(lines).unwrap()
}
