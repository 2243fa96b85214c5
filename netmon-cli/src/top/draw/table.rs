//! The lines of a view.

use std::time::Duration;

use netmon_core::{
    monitor::top::{TopColumn, TopKey, TopLine},
    view::Tone,
};
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};
use unicode_width::UnicodeWidthStr as _;

use super::{super::state::State, fit, toned};

/// Blanks between two columns.
const GAP: usize = 2;
/// What stands before the first column: which line is chosen, whether it can be expanded, whether it has ended.
const MARKS: usize = 2;
/// What a line below another takes at most: an address of IPv6 with a port, and how far it is.
const LONGEST_CHILD: usize = 46;
/// From when on what has ended is about to go.
const FADED: Duration = Duration::from_secs(2);

pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State, area: Rect) {
    if area.is_empty() {
        return;
    }
    let page = usize::from(area.height.saturating_sub(1)).max(1);
    state.page = page;
    let count = state.list().map_or(0, netmon_core::monitor::top::TopList::len);
    let look = state.look_mut();
    // The chosen line is always on the screen, and no blank line below the last.
    look.offset = look.offset.clamp((look.line + 1).saturating_sub(page), look.line);
    look.offset = look.offset.min(count.saturating_sub(page));
    let (offset, chosen) = (look.offset, look.line);

    let shown: Vec<TopLine> = match (state.list(), state.interval()) {
        (Some(list), Some(interval)) => (offset..count.min(offset + page))
            .filter_map(|line| list.line(interval, state.history(), line))
            .collect(),
        _ => Vec::new(),
    };
    let columns = state.view.columns();
    let widths = widths(columns, &shown, usize::from(area.width).saturating_sub(MARKS));

    let mut lines = vec![heading(state, columns, &widths)];
    lines.extend(
        shown.iter().enumerate().map(|(at, line)| row(state, columns, &widths, line, offset + at == chosen)),
    );
    if count == 0 && state.interval().is_some() {
        lines.push(Line::from(fit("  nothing matches", area.width.into())));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// How wide each column is; `None` for those that have no room. Optional ones go from the right, then what is wide is cut.
fn widths(columns: &[TopColumn], lines: &[TopLine], room: usize) -> Vec<Option<usize>> {
    let beside = columns.get(1).map_or(0, |column| column.usual_width() + GAP);
    let wanted = |index: usize| {
        let needed = |line: &TopLine| match (line.child, index) {
            // It has the room of the column beside it too.
            (true, 0) => (line.cells[0].text.width() + 1).min(LONGEST_CHILD).saturating_sub(beside),
            _ => line.cells[index].text.width(),
        };
        let widest = lines.iter().map(needed).max().unwrap_or_default();
        widest.max(columns[index].usual_width()).max(columns[index].column().title.len())
    };
    let mut widths: Vec<Option<usize>> = (0..columns.len()).map(|index| Some(wanted(index))).collect();
    let total = |widths: &[Option<usize>]| -> usize {
        let shown = widths.iter().flatten().count();
        widths.iter().flatten().sum::<usize>() + GAP * shown.saturating_sub(1)
    };
    while total(&widths) > room {
        let optional = |index: &usize| widths[*index].is_some() && columns[*index].column().optional;
        let Some(last) = (0..columns.len()).rev().find(optional) else { break };
        widths[last] = None;
    }
    // The text columns share what is missing.
    while total(&widths) > room {
        let widest =
            (0..columns.len()).filter(|&index| widths[index].is_some()).max_by_key(|&index| widths[index]);
        match widest.and_then(|index| widths[index].as_mut()) {
            Some(width) if *width > 4 => *width -= 1,
            _ => break,
        }
    }
    widths
}

fn heading(state: &State, columns: &[TopColumn], widths: &[Option<usize>]) -> Line<'static> {
    let look = state.look();
    let mut spans = vec![Span::raw(" ".repeat(MARKS))];
    for (index, (column, width)) in columns.iter().zip(widths).enumerate() {
        let Some(width) = *width else { continue };
        let title = column.column().title;
        let mut style = Style::new().add_modifier(Modifier::BOLD);
        if *column == look.sort {
            style = style.add_modifier(Modifier::UNDERLINED);
        }
        push_cell(&mut spans, index, title, width, column.column().right, style);
    }
    Line::from(spans)
}

fn row(
    state: &State,
    columns: &[TopColumn],
    widths: &[Option<usize>],
    line: &TopLine,
    chosen: bool,
) -> Line<'static> {
    let mark = match line.key {
        _ if line.ended.is_some() => 'x',
        TopKey::Process { .. } | TopKey::UnknownProcess if state.is_expanded(&line.key) => '-',
        TopKey::Process { .. } | TopKey::UnknownProcess => '+',
        _ => ' ',
    };
    let mut spans = vec![Span::raw(format!("{}{mark}", if chosen { '>' } else { ' ' }))];
    for (index, (cell, width)) in line.cells.iter().zip(widths).enumerate() {
        let Some(mut width) = *width else { continue };
        let text = if index == 0 && line.child { format!(" {}", cell.text) } else { cell.text.clone() };
        // What is below another has the room of the column beside it too, where it says nothing.
        match (line.child, index) {
            (true, 0) => width += widths[1].map_or(0, |more| more + GAP),
            (true, 1) => continue,
            _ => {}
        }
        let style = if line.ended.is_some() { Style::new() } else { toned(state, cell.tone) };
        push_cell(&mut spans, index, &text, width, columns[index].column().right, style);
    }
    let line_style = match line.ended {
        Some(ago) if ago >= FADED && state.color => {
            Style::new().fg(Color::DarkGray).add_modifier(Modifier::DIM)
        }
        Some(_) => toned(state, Tone::Dim),
        None => Style::new(),
    };
    let style = if chosen { line_style.add_modifier(Modifier::REVERSED) } else { line_style };
    Line::from(spans).style(style)
}

fn push_cell(
    spans: &mut Vec<Span<'static>>,
    index: usize,
    text: &str,
    width: usize,
    right: bool,
    style: Style,
) {
    if index > 0 {
        spans.push(Span::raw(" ".repeat(GAP)));
    }
    let text = fit(text, width);
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    // Underlining and the like are for the words alone.
    let cell = Span::styled(text, style);
    spans.extend(if right { [Span::raw(blanks), cell] } else { [cell, Span::raw(blanks)] });
}
