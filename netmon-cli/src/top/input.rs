//! What each key does.

use netmon_core::monitor::top::TopView;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::state::{Prompt, State};

/// What help tells, in its order.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("1 2 3 4, Tab", "processes, connections, destinations, interfaces"),
    ("Up Down j k", "choose a line; PgUp PgDn Home End too"),
    ("Enter", "expand a process to its connections; else details"),
    ("d", "all that is known of the line"),
    ("/", "filter: port == 443 and (failed or rtt > 200ms)"),
    ("s > <", "sort by the next column, the one before"),
    ("r", "sort the other way round"),
    ("Space", "stand still, go on"),
    ("? F1", "this help"),
    ("q Esc Ctrl-C", "back, or quit"),
];

/// Does what an event asks for.
pub(super) fn take(state: &mut State, event: &Event) {
    let Event::Key(key) = event else { return };
    if key.kind == KeyEventKind::Release {
        return;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        if key.code == KeyCode::Char('c') {
            state.end();
        }
        return;
    }
    if state.prompt.is_some() {
        type_filter(state, *key);
    } else if state.help {
        state.help = false;
    } else {
        command(state, key.code);
    }
}

fn command(state: &mut State, code: KeyCode) {
    let line = state.look().line;
    match code {
        KeyCode::Char('q') => state.end(),
        KeyCode::Esc if state.details => state.details = false,
        KeyCode::Esc => state.end(),
        KeyCode::Char('?') | KeyCode::F(1) => state.help = true,
        KeyCode::Tab => state.show_next(1),
        KeyCode::BackTab => state.show_next(TopView::ALL.len() - 1),
        KeyCode::Char(digit @ '1'..='4') => {
            let view = digit.to_digit(10).and_then(|number| TopView::ALL.get(number as usize - 1));
            view.copied().into_iter().for_each(|view| state.show(view));
        }
        KeyCode::Up | KeyCode::Char('k') => state.select(line.saturating_sub(1)),
        KeyCode::Down | KeyCode::Char('j') => state.select(line + 1),
        KeyCode::PageUp => state.select(line.saturating_sub(state.page)),
        KeyCode::PageDown => state.select(line + state.page),
        KeyCode::Home => state.select(0),
        KeyCode::End => state.select(usize::MAX),
        KeyCode::Enter if !state.toggle_expanded() => {
            state.details = !state.details;
        }
        KeyCode::Char('d') => state.details = !state.details,
        KeyCode::Char('/') => state.begin_filter(),
        KeyCode::Char('s' | '>') => state.sort_next(1),
        KeyCode::Char('<') => state.sort_previous(),
        KeyCode::Char('r') => state.reverse(),
        KeyCode::Char(' ') => state.toggle_pause(),
        _ => {}
    }
}

fn type_filter(state: &mut State, key: KeyEvent) {
    let Some(prompt) = &mut state.prompt else { return };
    match key.code {
        KeyCode::Enter => state.end_filter(),
        KeyCode::Esc => state.prompt = None,
        KeyCode::Char(character) => {
            prompt.text.insert(byte(prompt), character);
            prompt.cursor += 1;
            prompt.error = None;
        }
        KeyCode::Backspace if prompt.cursor > 0 => {
            prompt.cursor -= 1;
            prompt.text.remove(byte(prompt));
            prompt.error = None;
        }
        KeyCode::Delete if byte(prompt) < prompt.text.len() => {
            prompt.text.remove(byte(prompt));
            prompt.error = None;
        }
        KeyCode::Left => prompt.cursor = prompt.cursor.saturating_sub(1),
        KeyCode::Right => prompt.cursor = (prompt.cursor + 1).min(prompt.text.chars().count()),
        KeyCode::Home => prompt.cursor = 0,
        KeyCode::End => prompt.cursor = prompt.text.chars().count(),
        _ => {}
    }
}

/// Where in the text the cursor is.
fn byte(prompt: &Prompt) -> usize {
    prompt.text.char_indices().nth(prompt.cursor).map_or(prompt.text.len(), |(byte, _)| byte)
}
