//! How far a measurement is, for somebody who waits at a terminal.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use netmon_core::Progress;

/// A bar on stderr, where that is a terminal and the wait is worth one; it is gone when this is dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new(what: &str, window: Option<Duration>) -> Self {
        const WORTH_A_BAR: Duration = Duration::from_secs(1);

        let shown = io::stderr().is_terminal() && window.is_none_or(|window| window >= WORTH_A_BAR);
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let milliseconds = window.map(|window| u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
        let bar = ProgressBar::with_draw_target(milliseconds, target);
        let template =
            if window.is_some() { "{msg} {wide_bar} {percent} %" } else { "{msg} {spinner} {elapsed}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        bar.set_message(what.to_owned());
        if shown {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self(bar)
    }

    pub(crate) fn show(&self, progress: Progress) {
        self.0.set_position(u64::try_from(progress.elapsed.as_millis()).unwrap_or(u64::MAX));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
