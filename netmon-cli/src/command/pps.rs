//! `pps`: once, or window after window.

use std::{
    io::{self, Write as _},
    num::NonZeroU64,
    process::ExitCode,
};

use netmon_core::{
    Answer as _, Control, Error, RatesAnswer,
    monitor::RateWatch,
    request::{LONGEST_CALL, check_window},
    view::RateLines,
};

use super::{ask, cancelled_by_signals, reconnect};
use crate::{
    arguments::{Format, Global, PpsArguments},
    failure::Failure,
    output::{self, Printer},
    progress::Bar,
};

pub(super) fn run(global: &Global, arguments: &PpsArguments) -> Result<ExitCode, Failure> {
    if arguments.watch {
        return watch(global, arguments);
    }
    check_window(arguments.rates.window, LONGEST_CALL)
        .map_err(|error| Failure::Usage(format!("{error}, or up to 1 h with --watch")))?;
    let monitor = global.monitor()?;
    let answer =
        ask("measuring", arguments.rates.window, |control| monitor.rates(&arguments.rates, control))?;
    Printer::new(global).answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}

fn watch(global: &Global, arguments: &PpsArguments) -> Result<ExitCode, Failure> {
    let monitor = global.monitor()?;
    let mut watch = monitor.watch_rates(&arguments.rates)?;
    let mut shown = Shown::new(Printer::new(global));
    let cancel = cancelled_by_signals();
    let samples = arguments.samples.map_or(u64::MAX, NonZeroU64::get);

    for sample in 0..samples {
        match next(&mut watch, arguments, &cancel) {
            Ok(answer) => shown.next(&answer)?,
            // Both are how a watch ends; but one that showed nothing has failed.
            Err(Error::Cancelled) => break,
            Err(Error::RecordingEnded { .. }) if sample > 0 => break,
            // A watch outlives its interface: it goes on when there is one of that name again.
            Err(error @ Error::InterfaceGone { .. }) if arguments.samples.is_none() => {
                output::note(&format!("{error}; waiting for it"));
            }
            Err(error) if reconnect::is_gone(&error) => {
                match reconnect::begin_again(&error, &cancel, || monitor.watch_rates(&arguments.rates)) {
                    Ok(next) => watch = next,
                    Err(Error::Cancelled) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    shown.end()?;
    Ok(ExitCode::SUCCESS)
}

fn next(
    watch: &mut RateWatch,
    arguments: &PpsArguments,
    cancel: &netmon_core::Cancel,
) -> netmon_core::Result<RatesAnswer> {
    let bar = Bar::new("measuring; Ctrl-C ends it", Some(arguments.rates.window));
    let show = |progress| bar.show(progress);
    watch.next_window(&Control { cancel: cancel.clone(), progress: Some(&show) })
}

/// What a watch has shown so far.
struct Shown {
    printer: Printer,
    lines: RateLines,
    notes: Vec<String>,
}

impl Shown {
    fn new(printer: Printer) -> Self {
        let lines = RateLines::new(printer.layout(), output::stdout_is_terminal());
        Self { printer, lines, notes: Vec::new() }
    }

    fn next(&mut self, answer: &RatesAnswer) -> io::Result<()> {
        if self.printer.format() != Format::Text {
            return self.printer.next(answer);
        }
        let mut out = io::stdout().lock();
        write!(out, "{}", self.lines.next(answer))?;
        for note in answer.notes() {
            // Each once: the same hook is missing in every window.
            if !self.notes.contains(&note) {
                writeln!(out, "note: {note}")?;
                self.notes.push(note);
            }
        }
        out.flush()
    }

    fn end(&self) -> io::Result<()> {
        self.printer.end()
    }
}
