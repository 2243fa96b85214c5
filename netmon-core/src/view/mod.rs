//! How answers look: one table that every front end prints, and one way to write numbers.

mod rate_lines;
mod sparkline;
pub mod units;

pub use rate_lines::RateLines;
pub use sparkline::sparkline;
use unicode_width::UnicodeWidthStr as _;

/// How a cell is meant, which colour may stress but never carries alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Ordinary.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Wrong.
    Bad,
    /// Less important.
    Dim,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
}

impl Cell {
    /// A cell with a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }

    /// A value, or a dim dash where it is not known.
    pub fn known(text: Option<String>) -> Self {
        text.map_or_else(|| Self::toned("-", Tone::Dim), Self::from)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: Tone::Plain }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Numbers stand at the right.
    pub right: bool,
}

impl Column {
    /// A column of text.
    pub const fn text(title: &'static str) -> Self {
        Self { title, right: false }
    }

    /// A column of numbers.
    pub const fn number(title: &'static str) -> Self {
        Self { title, right: true }
    }
}

/// Rows and columns, not laid out yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// The headings.
    pub columns: Vec<Column>,
    /// The cells, one a column.
    pub rows: Vec<Vec<Cell>>,
}

/// The room and the means there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Layout {
    /// The width of the terminal; `None` for as wide as needed.
    pub width: Option<u16>,
    /// Whether ANSI colours may be used.
    pub color: bool,
}

impl Table {
    /// The table as lines, each ending in a line feed; empty when it has no rows.
    ///
    /// Cells that do not fit the width are wrapped.
    #[cfg(feature = "table")]
    pub fn render(&self, layout: Layout) -> String {
        use comfy_table::{Attribute, CellAlignment, Color, ContentArrangement};

        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        match layout.width {
            Some(width) => table.set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        if layout.color {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };

        let align = |cell: comfy_table::Cell, column: &Column| {
            cell.set_alignment(if column.right { CellAlignment::Right } else { CellAlignment::Left })
        };
        table.set_header(self.columns.iter().map(|column| {
            align(comfy_table::Cell::new(column.title).add_attribute(Attribute::Bold), column)
        }));
        for row in &self.rows {
            table.add_row(row.iter().zip(&self.columns).map(|(cell, column)| {
                let shown = align(comfy_table::Cell::new(&cell.text), column);
                match cell.tone {
                    Tone::Plain => shown,
                    Tone::Good => shown.fg(Color::Green),
                    Tone::Warning => shown.fg(Color::Yellow),
                    Tone::Bad => shown.fg(Color::Red).add_attribute(Attribute::Bold),
                    Tone::Dim => shown.add_attribute(Attribute::Dim),
                }
            }));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A text padded with spaces to so many columns of a terminal.
pub fn pad(text: &str, columns: usize) -> String {
    let padding = columns.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(padding))
}
