//! `connections`, `summary`, `patterns`, `diff`, `drops`, `diagnose`, `insights`, `sockets`, `listeners`: who talks to whom, and
//! what is wrong there.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use netmon_core::{
    Connection, ConnectionWatch, ConnectionsAnswer, DiagnoseRequest, DropsRequest, Error, Header, Monitor,
    PatternsRequest, SocketsRequest, SummaryRequest,
    answer::{EndLine, Line, Row as _},
    model::Model,
    view::ConnectionLines,
};

use super::{again, ask, ask_now, cancelled_by_signals, reconnect};
use crate::{
    arguments::{ConnectionsArguments, DiffArguments, Format, Global, InsightsArguments},
    failure::Failure,
    names,
    output::{self, Printer},
};

pub(super) fn run(global: &Global, arguments: &ConnectionsArguments) -> Result<ExitCode, Failure> {
    // A wrong name is told before anything is observed.
    Connection::columns_of(&arguments.fields)?;
    if arguments.watch {
        return watch(global, arguments);
    }
    let monitor = global.monitor()?;
    let mut printer = Printer::new(global);
    let mut request = arguments.request.clone();
    request.limit = request.limit.or(printer.page());
    let answer = ask("observing", request.window, |control| monitor.connections(&request, control))?;

    let meant = || names::meant(&monitor, &request.filter, answer.total == 0);
    let rest = rest_of(&answer, request.limit).or_else(meant);
    if arguments.fields.is_empty() {
        printer.answer_with(&answer, rest)?;
    } else {
        printer.answer_with(&answer.only(&arguments.fields)?, rest)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The command for the next page.
fn rest_of(answer: &ConnectionsAnswer, limit: Option<u64>) -> Option<String> {
    let cursor = answer.next_cursor.as_deref()?;
    let limit = limit?.to_string();
    Some(format!("the next rows: {}", again::with(&[("--limit", &limit), ("--cursor", cursor)])))
}

pub(super) fn summary(global: &Global, request: &SummaryRequest) -> Result<ExitCode, Failure> {
    let monitor = global.monitor()?;
    let answer = ask("observing", request.window, |control| monitor.summary(request, control))?;
    let meant = names::meant(&monitor, &request.filter, answer.connections == 0);
    Printer::new(global).answer_with(&answer, meant)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn patterns(global: &Global, request: &PatternsRequest) -> Result<ExitCode, Failure> {
    let monitor = global.monitor()?;
    let answer = ask("observing", request.window, |control| monitor.patterns(request, control))?;
    let meant = names::meant(&monitor, &request.filter, answer.connections == 0);
    Printer::new(global).answer_with(&answer, meant)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn diagnose(global: &Global, request: &DiagnoseRequest) -> Result<ExitCode, Failure> {
    let monitor = global.monitor()?;
    let diagnosis = ask("observing", request.window, |control| monitor.diagnose(request, control))?;
    Printer::new(global).answer(&diagnosis)?;
    Ok(if diagnosis.total == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn insights(global: &Global, arguments: &InsightsArguments) -> Result<ExitCode, Failure> {
    let mut request = arguments.request.clone();
    request.question = request.question.or_else(|| arguments.query.clone());
    let model = Model::from_environment()?;
    let monitor = global.monitor()?;
    let insights =
        ask("observing", request.window, |control| monitor.insights(&request, model.as_ref(), control))?;
    Printer::new(global).answer(&insights)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn drops(global: &Global, request: &DropsRequest) -> Result<ExitCode, Failure> {
    let monitor = global.monitor()?;
    let mut printer = Printer::new(global);
    let mut page = request.clone();
    page.limit = page.limit.or(printer.page());
    let answer = ask("counting drops", request.window, |control| monitor.drops(&page, control))?;
    let rest = (request.limit.is_none() && answer.header.coverage.truncated)
        .then(|| format!("all of them: {}", again::with(&[("--limit", &answer.drops_total.to_string())])));
    printer.answer_with(&answer, rest)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sockets(global: &Global, request: &SocketsRequest) -> Result<ExitCode, Failure> {
    let mut printer = Printer::new(global);
    let mut page = request.clone();
    page.limit = page.limit.or(printer.page());
    let monitor = global.monitor()?;
    let answer = ask_now(|control| monitor.sockets_with(&page, control))?;
    let rest = (request.limit.is_none() && answer.header.coverage.truncated)
        .then(|| format!("all of them: {}", again::with(&[("--limit", &answer.total.to_string())])))
        .or_else(|| names::meant(&monitor, &request.filter, answer.total == 0));
    printer.answer_with(&answer, rest)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn listeners(global: &Global, request: &SocketsRequest) -> Result<ExitCode, Failure> {
    let monitor = global.monitor()?;
    let answer = ask_now(|control| monitor.listeners_with(request, control))?;
    let meant = names::meant(&monitor, &request.filter, answer.total == 0);
    Printer::new(global).answer_with(&answer, meant)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn diff(global: &Global, arguments: &DiffArguments) -> Result<ExitCode, Failure> {
    let mut printer = Printer::new(global);
    let mut request = arguments.request.clone();
    request.limit = request.limit.or(printer.page());
    let after = arguments.after.as_ref().map_or_else(|| global.monitor(), Monitor::open)?;
    let before = arguments.before.as_ref().map(Monitor::open).transpose()?;
    let answer = ask("observing", request.window, |control| match &before {
        Some(before) => after.diff_from(before, &request, control),
        None => after.diff(&request, control),
    })?;
    let rest = (arguments.request.limit.is_none() && answer.header.coverage.truncated)
        .then(|| format!("all of them: {}", again::with(&[("--limit", &answer.total.to_string())])));
    printer.answer_with(&answer, rest)?;
    Ok(ExitCode::SUCCESS)
}

fn watch(global: &Global, arguments: &ConnectionsArguments) -> Result<ExitCode, Failure> {
    const PATIENCE: Duration = Duration::from_secs(1);

    let monitor = global.monitor()?;
    let cancel = cancelled_by_signals();
    let mut watch = {
        let (monitor, request) = (monitor.clone(), arguments.request.clone());
        // It may have a name to look up.
        cancel.wait_for(move || monitor.watch_connections(&request))?
    };
    let mut changes = Changes::new(global, &arguments.fields)?;
    let mut header = watch.header()?;
    changes.begin(&header)?;
    let mut left = arguments.request.limit.unwrap_or(u64::MAX);
    let mut truncated = false;
    while left > 0 {
        match watch.next(PATIENCE, &cancel) {
            Ok(rows) => {
                let most = usize::try_from(left).unwrap_or(usize::MAX);
                truncated = rows.len() > most;
                let rows = &rows[..rows.len().min(most)];
                changes.print(rows, &watch)?;
                left -= rows.len() as u64;
            }
            // Both are how a watch ends.
            Err(Error::Cancelled | Error::RecordingEnded { .. }) => break,
            Err(error) if reconnect::is_gone(&error) => {
                let begin = || monitor.watch_connections(&arguments.request);
                match reconnect::begin_again(&error, &cancel, begin) {
                    Ok(next) => watch = next,
                    Err(Error::Cancelled) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    match watch.header() {
        Ok(end) => header = end,
        // Then it ends with what was known at its beginning.
        Err(error) if reconnect::is_gone(&error) => output::note(&error.to_string()),
        Err(error) => return Err(error.into()),
    }
    header.coverage.truncated |= truncated;
    changes.end(&header)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the changes of a watch as they come.
struct Changes<'a> {
    format: Format,
    fields: &'a [String],
    lines: ConnectionLines,
    notes: Vec<String>,
    missed: u64,
}

impl<'a> Changes<'a> {
    fn new(global: &Global, fields: &'a [String]) -> Result<Self, Failure> {
        let printer = Printer::new(global);
        Ok(Self {
            format: printer.format(),
            fields,
            lines: ConnectionLines::new(printer.layout(), printer.height(), fields)?,
            notes: Vec::new(),
            missed: 0,
        })
    }

    fn begin(&mut self, header: &Header) -> io::Result<()> {
        match self.format {
            Format::Text => {
                self.new_notes(header)?;
                let mut out = io::stdout().lock();
                write!(out, "{}", self.lines.heading())?;
                out.flush()
            }
            Format::Csv if self.fields.is_empty() => {
                output::csv_line(io::stdout().lock(), Connection::CSV_COLUMNS)
            }
            Format::Csv => output::csv_line(io::stdout().lock(), self.fields),
            Format::Json | Format::Jsonl => Ok(()),
        }
    }

    /// All rows at once: in a storm a write for each would be what changes are missed for.
    fn print(&mut self, rows: &[Connection], watch: &ConnectionWatch) -> Result<(), Failure> {
        let mut out = Vec::new();
        for row in rows {
            self.row(&mut out, row)?;
        }
        if self.format == Format::Text && watch.missed() > self.missed {
            let note = format!("{} changes were missed so far", watch.missed());
            self.missed = watch.missed();
            out.extend(self.lines.note(&note).bytes());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&out)?;
        Ok(stdout.flush()?)
    }

    fn row(&mut self, out: &mut Vec<u8>, row: &Connection) -> Result<(), Failure> {
        let selected = if self.fields.is_empty() { None } else { Some(row.only(self.fields)?) };
        match (self.format, selected) {
            (Format::Text, _) => out.extend(self.lines.next(row)?.bytes()),
            (Format::Json | Format::Jsonl, None) => output::json_line(out, &Line::of_watch(row))?,
            (Format::Json | Format::Jsonl, Some(selected)) => {
                output::json_line(out, &Line::of_watch(&selected))?;
            }
            (Format::Csv, None) => output::csv_line(out, row.csv_fields())?,
            (Format::Csv, Some(selected)) => output::csv_line(out, selected.csv_fields())?,
        }
        Ok(())
    }

    fn end(&mut self, header: &Header) -> io::Result<()> {
        match self.format {
            Format::Text => self.new_notes(header),
            Format::Json | Format::Jsonl => output::json_line(io::stdout().lock(), &EndLine::new(header)),
            // CSV has no place for it.
            Format::Csv if header.coverage.lost_events > 0 => {
                writeln!(io::stderr(), "note: {} changes were missed", header.coverage.lost_events)
            }
            Format::Csv => Ok(()),
        }
    }

    /// Each once: the same hook is missing at the beginning and at the end.
    fn new_notes(&mut self, header: &Header) -> io::Result<()> {
        for note in header.coverage.notes() {
            if !self.notes.contains(&note) {
                write!(io::stdout(), "{}", self.lines.note(&note))?;
                self.notes.push(note);
            }
        }
        Ok(())
    }
}
