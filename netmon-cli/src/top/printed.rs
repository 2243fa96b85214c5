//! `top` for programs: the rows of a view after each interval.

use std::process::ExitCode;

use netmon_core::{
    Cancel, Control, Error, Filter, Monitor,
    monitor::{
        TopWatch,
        top::{TopInterval, TopView},
    },
};

use crate::{
    arguments::{Global, TopArguments},
    command::reconnect,
    failure::Failure,
    output::Printer,
};

pub(super) fn run(
    global: &Global,
    arguments: &TopArguments,
    monitor: &Monitor,
    mut watch: TopWatch,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let mut printer = Printer::for_programs(global);
    let control = Control { cancel: cancel.clone(), progress: None };
    let mut sample = 0;
    while sample < arguments.samples.map_or(u64::MAX, Into::into) {
        match watch.next_interval(&control) {
            Ok(interval) => print(&mut printer, &interval, arguments.view)?,
            // Both are how a watch ends; but one that showed nothing has failed.
            Err(Error::Cancelled) => break,
            Err(Error::RecordingEnded { .. }) if sample > 0 => break,
            Err(error) if reconnect::is_gone(&error) => {
                match reconnect::begin_again(&error, cancel, || monitor.watch_top(&arguments.request)) {
                    Ok(again) => watch = again,
                    Err(Error::Cancelled) => break,
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        sample += 1;
    }
    printer.end()?;
    Ok(ExitCode::SUCCESS)
}

fn print(printer: &mut Printer, interval: &TopInterval, view: TopView) -> std::io::Result<()> {
    // The conditions of the command line were applied below.
    let all = Filter::everything();
    match view {
        TopView::Connections => printer.next(&interval.connections(&all)),
        TopView::Destinations => printer.next(&interval.destinations(&all)),
        TopView::Interfaces => printer.next(&interval.interfaces(&all)),
        _ => printer.next(&interval.processes(&all)),
    }
}
