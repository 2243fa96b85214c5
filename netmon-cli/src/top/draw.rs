//! The screen: what goes where at which size.

mod table;

use netmon_core::{
    filter::FilterError,
    monitor::top::TopView,
    view::{Tone, mirrored_graph, sparkline, units},
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Wrap},
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{
    input::KEYS,
    state::{Flow, Prompt, State},
};

/// From how many lines and columns on there is a graph.
const GRAPH_FROM: (u16, u16) = (16, 60);
/// From how many columns on details stand beside the table and not below it.
const BESIDE_FROM: u16 = 120;
/// What the measures beside the graph take.
const GAUGES: u16 = 34;

pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let area = frame.area();
    let graph = graph_height(state, area);
    // Where there is next to no room, the table goes last.
    let sums = u16::from(area.height >= 6);
    let bottom = bottom_lines(state, area);
    let [title, sums, graph, table, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(sums),
        Constraint::Length(graph),
        Constraint::Min(0),
        Constraint::Length(u16::try_from(bottom.len()).unwrap_or(u16::MAX)),
    ])
    .areas(area);

    frame.render_widget(Paragraph::new(title_line(state, title.width)), title);
    frame.render_widget(Paragraph::new(sums_line(state, sums.width)), sums);
    draw_graph(frame, state, graph);
    let (table, details) = split_off_details(state, table);
    table::draw(frame, state, table);
    draw_details(frame, state, details);
    let prompt = state.prompt.as_ref().map(|prompt| (bottom.y, prompt_column(prompt, bottom.width)));
    draw_lines(frame, bottom, bottom_lines(state, area));
    if let Some((row, column)) = prompt {
        frame.set_cursor_position((column, row));
    }
    if state.help {
        draw_help(frame, state, area);
    }
}

/// Details need the room more.
fn graph_height(state: &State, area: Rect) -> u16 {
    let has_room = area.height >= GRAPH_FROM.0 && area.width >= GRAPH_FROM.1;
    match area.height {
        _ if !has_room => 0,
        0..30 if state.details && area.width < BESIDE_FROM => 0,
        0..40 => 6,
        _ => 10,
    }
}

fn draw_lines(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'static>>) {
    frame.render_widget(Paragraph::new(lines), area);
}

/// Colour stresses and never carries alone.
fn toned(state: &State, tone: Tone) -> Style {
    let colored = |color| if state.color { Style::new().fg(color) } else { Style::new() };
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => colored(Color::Green),
        Tone::Warning => colored(Color::Yellow),
        Tone::Bad => colored(Color::Red).add_modifier(Modifier::BOLD),
        Tone::Dim => Style::new().add_modifier(Modifier::DIM),
    }
}

/// Text that takes so many columns at most; what is cut ends in an ellipsis.
fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut fitted = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or_default();
        if used > width {
            break;
        }
        fitted.push(character);
    }
    if width > 0 {
        fitted.push('…');
    }
    fitted
}

fn title_line(state: &State, width: u16) -> Line<'static> {
    let narrow = width < GRAPH_FROM.1;
    let wide = width >= BESIDE_FROM;
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut spans = vec![Span::styled("netmon top ", bold)];
    if wide {
        spans.push(Span::raw(format!("on {}  ", fit(state.source.host.as_str(), 20))));
    }
    for (number, view) in (1..).zip(TopView::ALL) {
        if view == state.view {
            spans.push(Span::styled(format!("[{number} {}]", view.name()), bold));
        } else if !narrow {
            spans.push(Span::raw(format!(" {number} {} ", view.name())));
        }
    }
    let mark = match &state.flow {
        _ if state.is_paused() => "PAUSED".to_owned(),
        Flow::Gone(_) => "NO ANSWER".to_owned(),
        Flow::Ended => "ENDED".to_owned(),
        Flow::Running => clock(state),
    };
    let used: usize = spans.iter().map(Span::width).sum();
    let room = usize::from(width).saturating_sub(used);
    if room > mark.width() {
        spans.push(Span::raw(" ".repeat(room - mark.width())));
        spans.push(Span::styled(mark, bold));
    }
    Line::from(spans)
}

/// When the sample that is shown was taken.
fn clock(state: &State) -> String {
    state.interval().map(|interval| interval.clock()).unwrap_or_default()
}

/// What all of it comes to, or that there is nothing yet.
fn sums_line(state: &State, width: u16) -> Line<'static> {
    let text = match (&state.flow, state.interval()) {
        (Flow::Gone(error), _) => format!("{error}; waiting for it"),
        (_, None) => "taking the first sample".to_owned(),
        (flow, Some(interval)) => {
            let mut text = interval.digest(state.filter());
            if !state.asked.is_empty() {
                text = format!("{text}; only {}", state.asked);
            }
            if *flow == Flow::Ended {
                text = format!("the recording ends here; {text}");
            }
            text
        }
    };
    Line::from(fit(&text, width.into()))
}

fn draw_graph(frame: &mut Frame<'_>, state: &State, area: Rect) {
    if area.height < 3 {
        return;
    }
    let [graph, gauges] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(GAUGES.min(area.width / 2))]).areas(area);
    let selected = state.selected().filter(|_| state.details || state.view == TopView::Interfaces);
    let past = selected.map_or_else(|| state.history().past(), |key| state.history().past_of(&key));
    let rows = usize::from(area.height - 2) / 2;
    // A blank column before the measures.
    let bars = mirrored_graph(&past.received, &past.sent, usize::from(graph.width) - 1, rows);

    let latest = |series: &[f64]| series.last().map_or_else(|| "-".to_owned(), |rate| units::bytes(*rate));
    let of = if selected.is_some() { "this line" } else { "all" };
    let caption = |text: String| Line::from(fit(&text, usize::from(graph.width) - 1));
    let top =
        format!("{of}: received {}/s (highest {}/s)", latest(&past.received), units::bytes(bars.highest));
    let (up, down) = (toned(state, Tone::Good), toned(state, Tone::Warning));
    let mut lines = vec![caption(top)];
    lines.extend(bars.above.into_iter().map(|row| Line::styled(row, up)));
    lines.extend(bars.below.into_iter().map(|row| Line::styled(row, down)));
    lines.push(caption(format!("{of}: sent {}/s", latest(&past.sent))));
    frame.render_widget(Paragraph::new(lines), graph);

    let room = usize::from(gauges.width);
    let gauges_lines = state.history().gauges().into_iter().map(|gauge| {
        let head = format!("{:<8}{:>9} ", gauge.title, gauge.latest);
        let blocks = sparkline(&gauge.past, room.saturating_sub(head.width()));
        Line::from(vec![Span::raw(head), Span::raw(blocks)])
    });
    frame.render_widget(Paragraph::new(gauges_lines.collect::<Vec<_>>()), gauges);
}

fn split_off_details(state: &State, area: Rect) -> (Rect, Rect) {
    if !state.details || area.height < 4 {
        return (area, Rect::ZERO);
    }
    let halves = [Constraint::Fill(3), Constraint::Fill(2)];
    let [table, details] = if area.width >= BESIDE_FROM {
        Layout::horizontal(halves).areas(area)
    } else {
        Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(area)
    };
    (table, details)
}

fn draw_details(frame: &mut Frame<'_>, state: &State, area: Rect) {
    if area.is_empty() {
        return;
    }
    let block = Block::bordered().title("details");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let (Some(key), Some(interval)) = (state.selected(), state.interval()) else { return };
    let details = interval.details(&key, state.filter());
    let names = details.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let as_column = details.len() <= usize::from(inner.height);
    let pairs = details.into_iter().map(|(name, cell)| {
        let name = if as_column { format!("{name:<names$}  ") } else { format!("{name} ") };
        [Span::styled(name, toned(state, Tone::Dim)), Span::styled(cell.text, toned(state, cell.tone))]
    });
    let lines = if as_column { pairs.map(Line::from_iter).collect() } else { flowing(pairs, inner.width) };
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), inner);
}

/// As many to a line as have room.
fn flowing(pairs: impl Iterator<Item = [Span<'static>; 2]>, width: u16) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = Vec::new();
    for pair in pairs {
        let needed: usize = pair.iter().map(Span::width).sum();
        match lines.last_mut() {
            Some(line) if line.width() + 3 + needed <= usize::from(width) => {
                line.push_span(Span::raw("   "));
                pair.into_iter().for_each(|span| line.push_span(span));
            }
            _ => lines.push(Line::from_iter(pair)),
        }
    }
    lines
}

/// What is typed and what is wrong with it; what was observed with; the keys.
fn bottom_lines(state: &State, area: Rect) -> Vec<Line<'static>> {
    let width = usize::from(area.width);
    let mut lines = Vec::new();
    if let Some(prompt) = &state.prompt {
        lines.push(Line::from(prompt_text(prompt, area.width)));
        if let Some(error) = &prompt.error {
            lines.extend(
                error_lines(prompt, error, area.width)
                    .map(|line| Line::styled(line, toned(state, Tone::Bad))),
            );
        }
        // The rest must stay visible.
        lines.truncate(usize::from(area.height / 2).max(1));
    }
    let coverage = state.interval().map_or_else(
        || format!("source: {}", state.source.kind),
        |interval| state.history().coverage(interval),
    );
    let lost = if state.history().lost_events() > 0 { Tone::Bad } else { Tone::Plain };
    lines.push(Line::styled(fit(&coverage, width), toned(state, lost)));
    if state.prompt.is_none() && area.height >= 8 {
        lines.push(keys_line(state, width));
    }
    lines
}

fn keys_line(state: &State, width: usize) -> Line<'static> {
    let look = state.look();
    let order = if look.reverse { ", reversed" } else { "" };
    let mut text = format!("sort {}{order}", look.sort.column().title);
    if !state.filter_text.is_empty() {
        text = format!("{text} | filter {}", state.filter_text);
    }
    let keys = "? help  / filter  s sort  space pause  enter expand  d details  q quit";
    Line::styled(fit(&format!("{text} | {keys}"), width), toned(state, Tone::Dim))
}

/// The end of what is typed, where not all has room.
fn prompt_text(prompt: &Prompt, width: u16) -> String {
    format!("filter: {}", prompt.text.chars().skip(prompt_skip(prompt, width)).collect::<String>())
}

const PROMPT: u16 = 8;

/// How many characters stand left of the screen, so that the cursor is on it.
fn prompt_skip(prompt: &Prompt, width: u16) -> usize {
    let room = usize::from(width.saturating_sub(PROMPT + 1)).max(1);
    let before: Vec<usize> = prompt
        .text
        .chars()
        .take(prompt.cursor)
        .map(|character| character.width().unwrap_or_default())
        .collect();
    let mut used: usize = before.iter().sum();
    let mut skip = 0;
    while used > room {
        used -= before[skip];
        skip += 1;
    }
    skip
}

fn prompt_column(prompt: &Prompt, width: u16) -> u16 {
    let skip = prompt_skip(prompt, width);
    let before = prompt.text.chars().take(prompt.cursor).skip(skip);
    let columns: usize = before.map(|character| character.width().unwrap_or_default()).sum();
    PROMPT.saturating_add(u16::try_from(columns).unwrap_or(u16::MAX)).min(width.saturating_sub(1))
}

/// A caret below the place that is wrong, and what is wrong there.
fn error_lines<'a>(
    prompt: &Prompt,
    error: &'a FilterError,
    width: u16,
) -> impl Iterator<Item = String> + use<'a> {
    let place = Prompt { cursor: error.column.saturating_sub(1), ..prompt.clone() };
    let skipped = prompt_skip(prompt, width);
    let before = place.text.chars().take(place.cursor).skip(skipped);
    let columns: usize = before.map(|character| character.width().unwrap_or_default()).sum();
    let caret = format!("{}^", " ".repeat(usize::from(PROMPT) + columns));
    std::iter::once(fit(&caret, width.into())).chain(wrapped(&error.message, width.into()))
}

/// Lines of words that have room.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split([' ', '\n']) {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| fit(line, width)).collect()
}

fn draw_help(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let names = KEYS.iter().map(|(keys, _)| keys.len()).max().unwrap_or_default();
    let mut lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(keys, what)| {
            Line::from(vec![
                Span::styled(format!("{keys:<names$}  "), Style::new().add_modifier(Modifier::BOLD)),
                Span::raw(*what),
            ])
        })
        .collect();
    lines.push(Line::default());
    if let Some(interval) = state.interval() {
        // All of what the line at the bottom has no room for.
        lines.extend(interval.header.coverage.notes().into_iter().map(Line::from));
    }
    let width = area.width.min(78);
    let height = area.height.min(u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).max(area.height * 2 / 3));
    let place = area.centered(Constraint::Length(width), Constraint::Length(height));
    frame.render_widget(Clear, place);
    let block = Block::bordered().title("keys, and what is missing");
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), place);
}
