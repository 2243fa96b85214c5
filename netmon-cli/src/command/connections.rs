//! Questions about connections and sockets.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use netmon_core::{
    Answer, ConnectionsRequest, Error, Header, Monitor, PatternsRequest, SocketsRequest, SummaryRequest,
    request::{LONGEST_CALL, check_window},
    view::ConnectionLines,
};

use super::{ask, cancelled_by_signals};
use crate::{
    arguments::{ConnectionsArguments, Format, Global},
    failure::Failure,
    output::{self, Printer},
};

/// As many rows as are shown where nobody said how many, and there is no terminal to fill.
const PAGE: u64 = 50;

pub(super) fn run(global: &Global, arguments: &ConnectionsArguments) -> Result<ExitCode, Failure> {
    if arguments.watch {
        return watch(global, arguments);
    }
    let mut request = arguments.connections.clone();
    // What people read is a page; what programs read is all of it.
    if global.output == Format::Text && request.limit.is_none() {
        request.limit = Some(page());
    }
    check_call(request.window)?;
    let monitor = Monitor::open(&global.source)?;
    let answer = ask("observing", request.window, |control| monitor.connections(&request, control))?;
    let mut printer = Printer::new(global);
    if arguments.fields.is_empty() {
        printer.answer(&answer)?;
    } else {
        printer.chosen(&answer, &arguments.fields)?;
    }
    if global.output == Format::Text
        && let Some(cursor) = &answer.next_cursor
    {
        more(answer.total, answer.connections.len(), cursor, &arguments.connections)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How to see what did not fit.
fn more(total: u64, shown: usize, cursor: &str, request: &ConnectionsRequest) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let left = total.saturating_sub(shown as u64);
    if request.cursor.is_some() || request.since.is_some() {
        writeln!(out, "note: {left} more; the same with --cursor {cursor} shows the next")
    } else {
        writeln!(
            out,
            "note: {left} more; --limit {total} shows all, and -o json, jsonl and csv have no limit"
        )
    }
}

/// The rows that fit the terminal beside what stands above and below the table.
fn page() -> u64 {
    const AROUND: u64 = 10;
    match terminal_size::terminal_size_of(io::stdout()) {
        Some((_, height)) => u64::from(height.0).saturating_sub(AROUND).max(10),
        None => PAGE,
    }
}

fn check_call(window: Duration) -> Result<(), Failure> {
    if window.is_zero() {
        return Ok(());
    }
    Ok(check_window(window, LONGEST_CALL)?)
}

fn watch(global: &Global, arguments: &ConnectionsArguments) -> Result<ExitCode, Failure> {
    /// How long to wait for the first of some changes, so that a Ctrl-C is not waited for long.
    const PATIENCE: Duration = Duration::from_millis(200);
    if global.output == Format::Csv {
        return Err(Failure::Usage("a watch is printed as text or jsonl; choose -o jsonl".to_owned()));
    }
    let mut request = arguments.connections.clone();
    let most = request.limit.take().unwrap_or(u64::MAX);
    let monitor = Monitor::open(&global.source)?;
    let cancel = cancelled_by_signals();
    let mut watch = monitor.watch_connections(&request)?;
    let mut printer = Printer::new(global);
    let mut lines = ConnectionLines::new(printer.layout());
    let header = watch.header()?;
    if global.output == Format::Text {
        begin(&header, &mut lines)?;
    }

    let (mut shown, mut missed) = (0, 0);
    while shown < most {
        let mut changes = match watch.next(PATIENCE, &cancel) {
            Ok(changes) => changes,
            Err(Error::Cancelled | Error::RecordingEnded { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        changes.truncate(usize::try_from(most - shown).unwrap_or(usize::MAX));
        shown += changes.len() as u64;
        match global.output {
            Format::Text => {
                let mut out = io::stdout().lock();
                write!(out, "{}", lines.next(&changes))?;
                if watch.missed() > missed {
                    missed = watch.missed();
                    writeln!(out, "note: {missed} changes were missed so far")?;
                }
                out.flush()?;
            }
            _ => printer.changes(&header, &changes)?,
        }
    }
    if global.output != Format::Text {
        printer.ended(&watch.header()?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is missing is said before the first line, and a person is told that it waits.
fn begin(header: &Header, lines: &mut ConnectionLines) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for missing in &header.coverage.missing_hooks {
        writeln!(out, "note: not shown: {} ({}: {})", missing.hides, missing.hook, missing.reason)?;
    }
    write!(out, "{}", lines.next(&[]))?;
    out.flush()?;
    if output::stdout_is_terminal() {
        writeln!(io::stderr(), "watching; Ctrl-C ends it")?;
    }
    Ok(())
}

pub(super) fn summary(global: &Global, request: &SummaryRequest) -> Result<ExitCode, Failure> {
    observed(global, request.window, |monitor, control| monitor.summary(request, control))
}

pub(super) fn patterns(global: &Global, request: &PatternsRequest) -> Result<ExitCode, Failure> {
    observed(global, request.window, |monitor, control| monitor.patterns(request, control))
}

/// Asks what takes a window, and prints the answer.
fn observed<A: Answer>(
    global: &Global,
    window: Duration,
    question: impl FnOnce(&Monitor, &netmon_core::Control<'_>) -> netmon_core::Result<A>,
) -> Result<ExitCode, Failure> {
    check_call(window)?;
    let monitor = Monitor::open(&global.source)?;
    let answer = ask("observing", window, |control| question(&monitor, control))?;
    Printer::new(global).answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sockets(global: &Global, request: &SocketsRequest) -> Result<ExitCode, Failure> {
    let answer = Monitor::open(&global.source)?.sockets(&paged(global, request))?;
    Printer::new(global).answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn listeners(global: &Global, request: &SocketsRequest) -> Result<ExitCode, Failure> {
    let answer = Monitor::open(&global.source)?.listeners(request)?;
    Printer::new(global).answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}

/// A page of them, for people who did not say how many.
fn paged(global: &Global, request: &SocketsRequest) -> SocketsRequest {
    let mut request = request.clone();
    if global.output == Format::Text && request.limit.is_none() {
        request.limit = Some(page());
    }
    request
}
