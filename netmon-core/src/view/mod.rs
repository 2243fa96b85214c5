//! How answers look: one table that every front end prints, and one way to write numbers.

mod connection_lines;
mod graph;
mod rate_lines;
mod sparkline;
pub mod units;

pub use connection_lines::ConnectionLines;
pub use graph::{MirroredGraph, mirrored_graph};
pub use rate_lines::RateLines;
pub use sparkline::sparkline;

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
    /// Left out where there is no room for it.
    pub optional: bool,
    /// Left out where there is no room even without the optional ones.
    pub secondary: bool,
}

impl Column {
    /// A column of text.
    pub const fn text(title: &'static str) -> Self {
        Self { title, right: false, optional: false, secondary: false }
    }

    /// A column of numbers.
    pub const fn number(title: &'static str) -> Self {
        Self { title, right: true, optional: false, secondary: false }
    }
}

impl Column {
    /// The same column, left out where there is no room for it.
    pub const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// The same column, left out where there is no room even without the optional ones.
    pub const fn secondary(self) -> Self {
        Self { secondary: true, ..self }
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
    /// Where it does not fit the width, optional columns are left out from the right, then secondary ones. Cells wrap
    /// between words, and where there is no room for that either, anywhere.
    #[cfg(feature = "table")]
    pub fn render(&self, layout: Layout) -> String {
        use comfy_table::{
            Attribute, CellAlignment, ColumnConstraint, ContentArrangement, Width, presets::NOTHING,
        };

        if self.rows.is_empty() {
            return String::new();
        }
        let shown = self.columns_that_fit(layout.width);
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING);
        match layout.width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        if layout.color {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };

        let cell = |text: &str, index: usize| {
            let right = self.columns[index].right;
            comfy_table::Cell::new(text).set_alignment(if right {
                CellAlignment::Right
            } else {
                CellAlignment::Left
            })
        };
        table.set_header(
            shown.iter().map(|&index| cell(self.columns[index].title, index).add_attribute(Attribute::Bold)),
        );
        for row in &self.rows {
            table.add_row(shown.iter().map(|&index| toned(cell(&row[index].text, index), row[index].tone)));
        }
        let fits = layout.width.is_none_or(|width| self.needed(&shown) <= usize::from(width));
        let last = shown.last().copied();
        for (column, &index) in table.column_iter_mut().zip(&shown) {
            let gap = if Some(index) == last { 0 } else { GAP };
            column.set_padding((0, gap));
            if fits {
                let least = u16::try_from(self.least_width(index)).unwrap_or(u16::MAX);
                column
                    .set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least.saturating_add(gap))));
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The indexes of the columns that have room.
    #[cfg(feature = "table")]
    fn columns_that_fit(&self, width: Option<u16>) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let Some(width) = width else { return shown };
        while self.needed(&shown) > usize::from(width) {
            let last =
                |may_go: fn(&Column) -> bool| shown.iter().rposition(|&index| may_go(&self.columns[index]));
            let Some(last) = last(|column| column.optional).or_else(|| last(|column| column.secondary))
            else {
                break;
            };
            shown.remove(last);
        }
        shown
    }

    /// The width that these columns need at least.
    #[cfg(feature = "table")]
    fn needed(&self, shown: &[usize]) -> usize {
        let columns: usize = shown.iter().map(|&index| self.least_width(index)).sum();
        columns + usize::from(GAP) * shown.len().saturating_sub(1)
    }

    /// The width that a column needs at least: numbers and short texts are not wrapped, long ones are between words.
    #[cfg(feature = "table")]
    fn least_width(&self, index: usize) -> usize {
        use unicode_width::UnicodeWidthStr as _;

        /// Two lines of one or two words each would be no easier to read.
        const SHORT: usize = 14;

        let column = &self.columns[index];
        let of_cell = |text: &str| {
            if column.right || text.width() <= SHORT {
                text.width()
            } else {
                text.split(' ').map(str::width).max().unwrap_or_default()
            }
        };
        let cells = self.rows.iter().map(|row| of_cell(&row[index].text)).max().unwrap_or_default();
        cells.max(column.title.width())
    }
}

/// Sentences for a terminal: lines that are too long are broken between words, and go on further in. Words that are too
/// long themselves stay whole, so that a command or an address can be copied.
#[cfg(feature = "table")]
pub fn wrapped(text: &str, layout: Layout) -> String {
    use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

    /// A column less would only make the text longer.
    const LEAST: usize = 20;

    let Some(width) = layout.width else { return text.to_owned() };
    let line = |line: &str| {
        let words = line.trim_start_matches(' ');
        let indent = " ".repeat(line.len() - words.len());
        let further = format!("{indent}    ");
        let options = Options::new(usize::from(width).max(LEAST))
            .initial_indent(&indent)
            .subsequent_indent(&further)
            .break_words(false)
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit);
        textwrap::fill(&units::bound(words), options).replace(units::BOND, " ")
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Blanks between two columns.
#[cfg(feature = "table")]
const GAP: u16 = 2;

#[cfg(feature = "table")]
fn toned(cell: comfy_table::Cell, tone: Tone) -> comfy_table::Cell {
    use comfy_table::{Attribute, Color};

    match tone {
        Tone::Plain => cell,
        // The bright ones, of which these are the dark, are hard to see on white.
        Tone::Good => cell.fg(Color::DarkGreen),
        Tone::Warning => cell.fg(Color::DarkYellow),
        Tone::Bad => cell.fg(Color::DarkRed).add_attribute(Attribute::Bold),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
    }
}

#[cfg(all(test, feature = "table"))]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_table_leaves_out_what_it_may_and_wraps_the_rest_between_words() {
        let table = Table {
            columns: vec![
                Column::text("NAME"),
                Column::number("RATE").optional(),
                Column::number("ERRORS").optional(),
                Column::text("ADDRESSES"),
            ],
            rows: vec![vec![
                "eth0".into(),
                "1,000".into(),
                "0".into(),
                "192.0.2.10/24 2001:db8::10/64".into(),
            ]],
        };
        let at = |width| table.render(Layout { width: Some(width), color: false });
        assert_eq!(
            at(80),
            "NAME   RATE  ERRORS  ADDRESSES\neth0  1,000       0  192.0.2.10/24 2001:db8::10/64\n"
        );
        assert_eq!(
            at(40),
            "NAME   RATE  ERRORS  ADDRESSES\neth0  1,000       0  192.0.2.10/24\n                     2001:db8::10/64\n"
        );
        assert_eq!(
            at(30),
            "NAME   RATE  ADDRESSES\neth0  1,000  192.0.2.10/24\n             2001:db8::10/64\n"
        );
        assert_eq!(at(24), "NAME  ADDRESSES\neth0  192.0.2.10/24\n      2001:db8::10/64\n");
    }

    #[test]
    fn a_very_narrow_table_leaves_out_more_and_then_breaks_words() {
        let table = Table {
            columns: vec![
                Column::text("PROCESS"),
                Column::number("PID").secondary(),
                Column::text("REMOTE"),
                Column::number("RTT").optional(),
            ],
            rows: vec![vec!["systemd-resolve".into(), "640".into(), "192.0.2.53:53".into(), "1 ms".into()]],
        };
        let at = |width| table.render(Layout { width: Some(width), color: true });
        assert!(at(40).contains("PID") && !at(40).contains("RTT"));
        assert!(!at(34).contains("PID"));
        for width in [10, 20, 30, 34, 40, 60] {
            let plain = table.render(Layout { width: Some(width), color: false });
            let longest = plain.lines().map(str::len).max();
            assert!(longest <= Some(usize::from(width)), "{width}: {plain}");
        }
    }

    #[test]
    fn sentences_are_broken_between_words_and_commands_are_not() {
        let layout = Layout { width: Some(30), color: false };
        assert_eq!(
            wrapped(
                "first line\n  Burst: at 12:30:15 there were 53 connections --cursor=0123456789abcdef0123456789",
                layout
            ),
            "first line\n  Burst: at 12:30:15 there\n      were 53 connections\n      --cursor=0123456789abcdef0123456789"
        );
        assert_eq!(wrapped("a\n\nb", layout), "a\n\nb");
        assert_eq!(
            wrapped("it was received in full: 3.42 MB (114 kB/s)", layout),
            "it was received in full:\n    3.42 MB (114 kB/s)"
        );
        assert_eq!(wrapped(&"word ".repeat(50), Layout::default()), "word ".repeat(50));
    }
}
