//! How far a measurement is, for somebody who waits at a terminal.

use std::{
    io::{self, IsTerminal as _},
    sync::Once,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use netmon_core::Progress;

/// A bar on stderr, where that is a terminal and the wait is worth one; it is gone when this is dropped. It comes with the
/// first progress: an answer about what was recorded needs no wait.
pub(crate) struct Bar {
    bar: ProgressBar,
    wanted: bool,
    begin: Once,
}

impl Bar {
    pub(crate) fn new(what: &str, window: Option<Duration>) -> Self {
        const WORTH_A_BAR: Duration = Duration::from_secs(1);

        let wanted = io::stderr().is_terminal() && window.is_none_or(|window| window >= WORTH_A_BAR);
        let milliseconds = window.map(|window| u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
        let bar = ProgressBar::with_draw_target(milliseconds, ProgressDrawTarget::hidden());
        let template =
            if window.is_some() { "{msg} {wide_bar} {percent} %" } else { "{msg} {spinner} {elapsed}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        bar.set_message(what.to_owned());
        Self { bar, wanted, begin: Once::new() }
    }

    pub(crate) fn show(&self, progress: Progress) {
        if self.wanted {
            self.begin.call_once(|| {
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
                self.bar.enable_steady_tick(Duration::from_millis(200));
            });
        }
        self.bar.set_position(u64::try_from(progress.elapsed.as_millis()).unwrap_or(u64::MAX));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
