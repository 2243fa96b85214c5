//! Printing answers in every format. What they say and how numbers look is netmon-core's.

use std::io::{self, IsTerminal as _, Write};

use netmon_core::{
    Answer, Header,
    answer::{EndLine, Line, Row},
    view::{Layout, wrapped},
};
use serde::Serialize;

use crate::arguments::{Format, Global};

/// Writes answers to stdout.
pub(crate) struct Printer {
    format: Format,
    layout: Layout,
    /// The lines of the terminal, where it is one.
    height: Option<u16>,
    /// What a watch has printed so far, for its last line.
    seen: Option<Header>,
}

impl Printer {
    pub(crate) fn new(global: &Global) -> Self {
        let size = terminal_size::terminal_size_of(io::stdout());
        let layout = Layout { width: size.map(|(width, _)| width.0), color: global.color.wanted() };
        Self { format: global.output, layout, height: size.map(|(_, height)| height.0), seen: None }
    }

    /// A printer for programs, to which text is JSON lines.
    pub(crate) fn for_programs(global: &Global) -> Self {
        let printer = Self::new(global);
        let format = if printer.format == Format::Text { Format::Jsonl } else { printer.format };
        Self { format, ..printer }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn height(&self) -> Option<u16> {
        self.height
    }

    /// How many rows are shown where nobody said how many: in text those that fit the terminal, else all.
    pub(crate) fn page(&self) -> Option<u64> {
        const WITHOUT_TERMINAL: u64 = 50;
        // The first lines, the heading, the notes and the prompt.
        const AROUND: u16 = 12;
        const LEAST: u16 = 10;

        let on_terminal = |height: u16| u64::from(height.saturating_sub(AROUND).max(LEAST));
        (self.format == Format::Text).then(|| self.height.map_or(WITHOUT_TERMINAL, on_terminal))
    }

    /// A single answer.
    pub(crate) fn answer<A: Answer>(&mut self, answer: &A) -> io::Result<()> {
        self.answer_with(answer, None)
    }

    /// A single answer, with a note of ours below it in text.
    pub(crate) fn answer_with<A: Answer>(&mut self, answer: &A, note: Option<String>) -> io::Result<()> {
        whole(&mut io::stdout().lock(), self.format, answer, self.layout, note)
    }

    /// One answer of several to the same question, in a format for machines; each is out when this returns.
    pub(crate) fn next<A: Answer>(&mut self, answer: &A) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self.format {
            Format::Text => text(&mut out, answer, self.layout, None)?,
            Format::Json => json(&mut out, answer, serde_json::to_string)?,
            Format::Jsonl => lines(&mut out, answer)?,
            Format::Csv => csv(&mut out, answer, self.seen.is_none())?,
        }
        match &mut self.seen {
            Some(seen) => seen.extend(answer.header()),
            None => self.seen = Some(answer.header().clone()),
        }
        Ok(())
    }

    /// After the last of several answers.
    pub(crate) fn end(&self) -> io::Result<()> {
        match (&self.seen, self.format) {
            (Some(seen), Format::Jsonl) => {
                json(&mut io::stdout().lock(), &EndLine::new(seen), serde_json::to_string)
            }
            _ => Ok(()),
        }
    }
}

/// An answer that elsewhere than stdout is for people or machines.
pub(crate) fn report<A: Answer>(
    mut out: impl Write,
    global: &Global,
    layout: Layout,
    answer: &A,
) -> io::Result<()> {
    whole(&mut out, global.output, answer, layout, None)
}

/// An answer from its beginning to its end.
fn whole<A: Answer>(
    out: &mut impl Write,
    format: Format,
    answer: &A,
    layout: Layout,
    note: Option<String>,
) -> io::Result<()> {
    match format {
        Format::Text => text(out, answer, layout, note),
        Format::Json => json(out, answer, serde_json::to_string_pretty),
        Format::Jsonl => {
            lines(out, answer)?;
            json(out, &EndLine::new(answer.header()), serde_json::to_string)
        }
        Format::Csv => csv(out, answer, true),
    }
}

fn text<A: Answer>(out: &mut impl Write, answer: &A, layout: Layout, note: Option<String>) -> io::Result<()> {
    writeln!(out, "{}", wrapped(&answer.heading(), layout))?;
    for table in answer.tables() {
        let table = table.render(layout);
        if !table.is_empty() {
            write!(out, "\n{table}")?;
        }
    }
    if let Some(text) = answer.as_it_is() {
        writeln!(out, "\n{text}")?;
    }
    let mut notes: Vec<String> =
        answer.notes().iter().map(|note| wrapped(&format!("note: {note}"), layout)).collect();
    // Whole, as it may be a command to copy.
    notes.extend(note.map(|note| format!("note: {note}")));
    if !notes.is_empty() {
        writeln!(out)?;
    }
    for note in notes {
        writeln!(out, "{note}")?;
    }
    out.flush()
}

/// Says something beside the answer, on stderr.
pub(crate) fn note(text: &str) {
    // Where stderr is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "note: {text}");
}

fn lines<A: Answer>(out: &mut impl Write, answer: &A) -> io::Result<()> {
    answer
        .rows()
        .iter()
        .try_for_each(|row| json(out, &Line::new(answer.header(), row), serde_json::to_string))
}

fn json<T: Serialize>(
    out: &mut impl Write,
    value: &T,
    write: fn(&T) -> serde_json::Result<String>,
) -> io::Result<()> {
    writeln!(out, "{}", write(value)?)?;
    out.flush()
}

fn csv<A: Answer>(out: &mut impl Write, answer: &A, with_header: bool) -> io::Result<()> {
    const WINDOW_COLUMNS: [&str; 3] = ["from", "to", "seconds"];
    let window = &answer.header().window;
    let window = [window.from.to_string(), window.to.to_string(), window.seconds.to_string()];
    csv_records(out, |writer| {
        if with_header {
            writer.write_record(WINDOW_COLUMNS.iter().chain(&answer.csv_columns()))?;
        }
        for row in answer.rows() {
            writer.write_record(window.iter().cloned().chain(row.csv_fields()))?;
        }
        Ok(())
    })
}

/// Writes records, which are out when this returns.
fn csv_records<W: Write>(
    out: W,
    write: impl FnOnce(&mut csv::Writer<W>) -> csv::Result<()>,
) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    // As it is, and not wrapped, which would hide that a pipe was closed.
    write(&mut writer).map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    })?;
    writer.flush()
}

/// One line of JSON.
pub(crate) fn json_line(mut out: impl Write, value: &impl Serialize) -> io::Result<()> {
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    out.flush()
}

/// One line of CSV.
pub(crate) fn csv_line(
    out: impl Write,
    fields: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> io::Result<()> {
    csv_records(out, |writer| writer.write_record(fields))
}

/// Whether somebody watches what stdout shows.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}
