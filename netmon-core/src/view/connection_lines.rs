//! A watch's connections, a line a change.

use unicode_width::UnicodeWidthStr as _;

use super::{Cell, Column, Layout, Tone};
use crate::{error::Result, monitor::Connection};

/// Turns the changes of connections into lines below a heading, which comes again before it has left the screen.
///
/// Columns are as wide as their usual content; what is wider widens them from then on, as far as there is room.
#[derive(Debug)]
pub struct ConnectionLines {
    layout: Layout,
    /// How many lines a screen has; `None` where nothing scrolls away.
    screen: Option<usize>,
    fields: Vec<String>,
    columns: Vec<Column>,
    /// Which of the columns have room.
    shown: Vec<usize>,
    widths: Vec<usize>,
    since_heading: usize,
}

/// Blanks between two columns.
const GAP: usize = 2;

impl ConnectionLines {
    /// Lines for this width and, on a terminal, this height; of these fields, or of the usual ones where there are none.
    ///
    /// # Errors
    /// As [`Connection::only`].
    pub fn new(layout: Layout, screen: Option<u16>, fields: &[impl AsRef<str>]) -> Result<Self> {
        let (columns, widths): (Vec<Column>, Vec<usize>) = if fields.is_empty() {
            Connection::change_columns().unzip()
        } else {
            Connection::columns_of(fields)?.into_iter().map(|column| (column, column.title.width())).unzip()
        };
        let mut lines = Self {
            layout,
            screen: screen.map(|lines| usize::from(lines).saturating_sub(1).max(2)),
            fields: fields.iter().map(|field| field.as_ref().to_owned()).collect(),
            shown: (0..columns.len()).collect(),
            columns,
            widths,
            since_heading: 0,
        };
        while let Some(room) = layout.width.map(usize::from)
            && lines.width() > room
            && let Some(last) = lines.shown.iter().rposition(|&index| lines.columns[index].optional)
        {
            lines.shown.remove(last);
        }
        lines.narrow();
        Ok(lines)
    }

    /// The line of a change, ending in a line feed; with the heading before it where that is due.
    ///
    /// # Errors
    /// None for the fields that [`ConnectionLines::new`] took.
    pub fn next(&mut self, row: &Connection) -> Result<String> {
        let cells = if self.fields.is_empty() { row.change_cells() } else { row.only(&self.fields)?.cells() };
        self.widen(&cells);
        let mut text = String::new();
        if self.screen.is_some_and(|screen| self.since_heading >= screen) {
            text = self.heading();
        }
        self.since_heading += 1;
        text.push_str(&self.line(&cells));
        Ok(text)
    }

    /// The heading, which stands before the first line, ending in a line feed.
    pub fn heading(&mut self) -> String {
        self.since_heading = 1;
        let titles: Vec<Cell> = self.columns.iter().map(|column| column.title.into()).collect();
        let line = self.line(&titles);
        if self.layout.color { format!("\u{1b}[1m{}\u{1b}[0m\n", line.trim_end()) } else { line }
    }

    /// A note between two lines takes room on the screen too.
    pub fn note(&mut self, note: &str) -> String {
        self.since_heading += 1;
        format!("note: {note}\n")
    }

    fn width(&self) -> usize {
        let columns: usize = self.shown.iter().map(|&index| self.widths[index]).sum();
        columns + GAP * self.shown.len().saturating_sub(1)
    }

    /// Takes what is too much from the widest column, which rarely needs all of it.
    fn narrow(&mut self) {
        let Some(room) = self.layout.width.map(usize::from) else { return };
        let excess = self.width().saturating_sub(room);
        if let Some(&widest) = self.shown.iter().max_by_key(|&&index| self.widths[index]) {
            let least = self.columns[widest].title.width();
            self.widths[widest] = self.widths[widest].saturating_sub(excess).max(least);
        }
    }

    fn widen(&mut self, cells: &[Cell]) {
        for &index in &self.shown {
            let more = cells[index].text.width().saturating_sub(self.widths[index]);
            let room = self.layout.width.map(|width| usize::from(width).saturating_sub(self.width()));
            if room.is_none_or(|room| more <= room) {
                self.widths[index] += more;
            }
        }
    }

    fn line(&self, cells: &[Cell]) -> String {
        let mut line = String::new();
        for (place, &index) in self.shown.iter().enumerate() {
            if place > 0 {
                line.push_str(&" ".repeat(GAP));
            }
            let cell = &cells[index];
            let padding = " ".repeat(self.widths[index].saturating_sub(cell.text.width()));
            let text = if self.layout.color { toned(cell) } else { cell.text.clone() };
            if self.columns[index].right {
                line.push_str(&padding);
                line.push_str(&text);
            } else {
                line.push_str(&text);
                line.push_str(&padding);
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

fn toned(cell: &Cell) -> String {
    let code = match cell.tone {
        Tone::Plain => return cell.text.clone(),
        Tone::Good => "32",
        Tone::Warning => "33",
        Tone::Bad => "1;31",
        Tone::Dim => "2",
    };
    format!("\u{1b}[{code}m{}\u{1b}[0m", cell.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{ConnectionFact, ConnectionState, Moment, Protocol};

    fn row(state: ConnectionState) -> Connection {
        let mut fact = ConnectionFact::new(1, Protocol::Tcp, state, "192.0.2.1:40000".parse().unwrap());
        fact.remote = Some("198.51.100.7:443".parse().unwrap());
        Connection::new(&fact, &Moment { boot_ns: 1, wall: jiff::Timestamp::UNIX_EPOCH }, None)
    }

    #[test]
    fn the_heading_comes_again_on_every_screen() {
        let layout = Layout { width: Some(80), color: false };
        let mut lines = ConnectionLines::new(layout, Some(4), &["state", "remote"]).unwrap();
        let mut text = lines.heading();
        for _ in 0..5 {
            text.push_str(&lines.next(&row(ConnectionState::Open)).unwrap());
        }
        let headings: Vec<usize> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.starts_with("state"))
            .map(|(number, _)| number)
            .collect();
        assert_eq!(headings, [0, 3, 6], "{text}");
        assert!(text.contains("\nopen   198.51.100.7:443\n"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_leaves_out_columns_but_never_the_error() {
        let heading = |width| {
            let layout = Layout { width, color: false };
            ConnectionLines::new(layout, None, &[] as &[&str]).unwrap().heading()
        };
        assert!(heading(None).contains("DURATION"));
        let narrow = heading(Some(80));
        assert!(narrow.contains("ERROR") && !narrow.contains("SENT"), "{narrow}");
        assert!(narrow.len() <= 81, "{narrow}");
    }

    #[test]
    fn a_field_that_is_none_is_refused() {
        assert!(ConnectionLines::new(Layout::default(), None, &["nonesuch"]).is_err());
    }
}
