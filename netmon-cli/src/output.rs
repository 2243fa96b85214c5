//! Printing answers in every format. What they say and how numbers look is netmon-core's.

use std::io::{self, IsTerminal as _, StdoutLock, Write};

use netmon_core::{
    Answer, Connection, ConnectionsAnswer, Header,
    answer::{EndLine, Line, Row},
    view::{Layout, Table},
};
use serde::Serialize;

use crate::{
    arguments::{Format, Global},
    failure::Failure,
};

/// Writes answers to stdout.
pub(crate) struct Printer {
    format: Format,
    layout: Layout,
    /// What a watch has printed so far, for its last line.
    seen: Option<Header>,
}

impl Printer {
    pub(crate) fn new(global: &Global) -> Self {
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
        let layout = Layout { width, color: global.color.wanted() };
        Self { format: global.output, layout, seen: None }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// A single answer.
    pub(crate) fn answer<A: Answer>(&mut self, answer: &A) -> io::Result<()> {
        match self.format {
            Format::Text => text(answer, self.layout),
            Format::Json => json(answer, serde_json::to_string_pretty),
            Format::Jsonl | Format::Csv => {
                self.next(answer)?;
                self.end()
            }
        }
    }

    /// One answer of several to the same question, in a format for machines; each is out when this returns.
    pub(crate) fn next<A: Answer>(&mut self, answer: &A) -> io::Result<()> {
        match self.format {
            Format::Text => text(answer, self.layout)?,
            Format::Json => json(answer, serde_json::to_string)?,
            Format::Jsonl => {
                for row in answer.rows() {
                    json(&Line::new(answer.header(), row), serde_json::to_string)?;
                }
            }
            Format::Csv => csv(answer, self.seen.is_none())?,
        }
        match &mut self.seen {
            Some(seen) => seen.extend(answer.header()),
            None => self.seen = Some(answer.header().clone()),
        }
        Ok(())
    }

    /// An answer of which only some fields are wanted.
    pub(crate) fn chosen(&mut self, answer: &ConnectionsAnswer, fields: &[String]) -> Result<(), Failure> {
        let columns = Connection::columns_of(fields)?;
        let rows: Vec<_> =
            answer.connections.iter().map(|row| row.only(fields)).collect::<netmon_core::Result<_>>()?;
        match self.format {
            Format::Text => text_with(answer, &[answer.table_of(fields)?], self.layout)?,
            Format::Json => {
                let mut whole = serde_json::to_value(answer).map_err(io::Error::from)?;
                whole["connections"] = serde_json::to_value(&rows).map_err(io::Error::from)?;
                json(&whole, serde_json::to_string_pretty)?;
            }
            Format::Jsonl => {
                for row in &rows {
                    json(&Chosen { kind: Connection::TYPE, row }, serde_json::to_string)?;
                }
                json(&EndLine::new(answer.header()), serde_json::to_string)?;
            }
            Format::Csv => csv_records(|writer| {
                writer.write_record(
                    columns.iter().map(|column| column.title.to_lowercase().replace(' ', "_")),
                )?;
                rows.iter().try_for_each(|row| writer.write_record(row.csv_fields()))
            })?,
        }
        Ok(())
    }

    /// Changes of connections as they come, in a format for machines.
    pub(crate) fn changes(&mut self, header: &Header, changes: &[Connection]) -> io::Result<()> {
        for row in changes {
            json(&Line::new(header, row), serde_json::to_string)?;
        }
        Ok(())
    }

    /// The end of a watch.
    pub(crate) fn ended(&self, header: &Header) -> io::Result<()> {
        json(&EndLine::new(header), serde_json::to_string)
    }

    /// After the last of several answers.
    pub(crate) fn end(&self) -> io::Result<()> {
        match (&self.seen, self.format) {
            (Some(seen), Format::Jsonl) => json(&EndLine::new(seen), serde_json::to_string),
            _ => Ok(()),
        }
    }
}

/// A row of chosen fields, with its type.
#[derive(Serialize)]
struct Chosen<'a, R> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    row: &'a R,
}

fn text<A: Answer>(answer: &A, layout: Layout) -> io::Result<()> {
    text_with(answer, &answer.tables(), layout)
}

/// The digest, these tables, and what is missing.
fn text_with<A: Answer>(answer: &A, tables: &[Table], layout: Layout) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{answer}")?;
    for table in tables {
        let table = table.render(layout);
        if !table.is_empty() {
            write!(out, "\n{table}")?;
        }
    }
    notes(&mut out, &answer.notes())?;
    out.flush()
}

/// What is missing and what would help.
pub(crate) fn notes(out: &mut impl Write, notes: &[String]) -> io::Result<()> {
    if !notes.is_empty() {
        writeln!(out)?;
    }
    for note in notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}

fn json<T: Serialize>(value: &T, write: fn(&T) -> serde_json::Result<String>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", write(value)?)?;
    out.flush()
}

fn csv<A: Answer>(answer: &A, with_header: bool) -> io::Result<()> {
    const WINDOW_COLUMNS: [&str; 3] = ["from", "to", "seconds"];
    let window = &answer.header().window;
    let window = [window.from.to_string(), window.to.to_string(), window.seconds.to_string()];
    csv_records(|writer| {
        if with_header {
            writer.write_record(WINDOW_COLUMNS.iter().chain(A::Row::CSV_COLUMNS))?;
        }
        for row in answer.rows() {
            writer.write_record(window.iter().cloned().chain(row.csv_fields()))?;
        }
        Ok(())
    })
}

/// Writes records to stdout, which are out when this returns.
fn csv_records(write: impl FnOnce(&mut csv::Writer<StdoutLock<'_>>) -> csv::Result<()>) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(io::stdout().lock());
    // As it is, and not wrapped, which would hide that a pipe was closed.
    write(&mut writer).map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    })?;
    writer.flush()
}

/// Whether somebody watches what stdout shows.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}
