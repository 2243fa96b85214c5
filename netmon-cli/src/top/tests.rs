//! Screens of the demo recording.

use std::{num::NonZeroU64, sync::Arc};

use netmon_core::{Control, Error, Monitor, monitor::top::TopView, request::TopRequest};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers},
    style::{Color, Modifier},
};

use super::{draw, input, sampler::Message, state::State};
use crate::arguments::TopArguments;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../netmon-core/recordings/demo.jsonl");

fn arguments() -> TopArguments {
    let samples = NonZeroU64::new(1);
    TopArguments { request: TopRequest::default(), view: TopView::Processes, samples }
}

/// `top` on the demo recording after so many of its seconds.
fn after(samples: usize) -> State {
    let arguments = arguments();
    let mut watch = Monitor::replay(DEMO).unwrap().watch_top(&arguments.request).unwrap();
    let mut state = State::new(watch.source(), &arguments, true);
    for _ in 0..samples {
        state.take(match watch.next_interval(&Control::default()) {
            Ok(interval) => Message::Sample(Arc::new(interval)),
            Err(Error::RecordingEnded { .. }) => Message::RecordingEnded,
            Err(error) => panic!("{error}"),
        });
    }
    state
}

fn press(state: &mut State, keys: &str) {
    for key in keys.chars() {
        code(
            state,
            match key {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\u{1b}' => KeyCode::Esc,
                key => KeyCode::Char(key),
            },
        );
    }
}

fn code(state: &mut State, code: KeyCode) {
    input::take(state, &Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
}

fn terminal(state: &mut State, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, state)).unwrap();
    terminal
}

/// What is on the screen, without the time of day, which is the reader's.
fn screen(state: &mut State, width: u16, height: u16) -> String {
    let text = terminal(state, width, height).backend().to_string();
    let lines = text.lines().map(|line| line.trim_matches('"').trim_end());
    let text = lines.collect::<Vec<_>>().join("\n");
    let clock = state.interval().unwrap().clock();
    text.replacen(&clock, "HH:MM:SS", 1)
}

#[test]
fn processes_at_80x24() {
    insta::assert_snapshot!(screen(&mut after(20), 80, 24));
}

#[test]
fn processes_at_200x60() {
    insta::assert_snapshot!(screen(&mut after(29), 200, 60));
}

#[test]
fn processes_at_40x10() {
    insta::assert_snapshot!(screen(&mut after(20), 40, 10));
}

#[test]
fn connections_at_80x24() {
    let mut state = after(20);
    press(&mut state, "2");
    insta::assert_snapshot!(screen(&mut state, 80, 24));
}

#[test]
fn connections_at_200x60() {
    let mut state = after(16);
    press(&mut state, "2");
    insta::assert_snapshot!(screen(&mut state, 200, 60));
}

#[test]
fn connections_at_40x10() {
    let mut state = after(20);
    press(&mut state, "2");
    insta::assert_snapshot!(screen(&mut state, 40, 10));
}

#[test]
fn destinations_at_80x24() {
    let mut state = after(20);
    press(&mut state, "\t\t");
    insta::assert_snapshot!(screen(&mut state, 80, 24));
}

#[test]
fn interfaces_at_80x24() {
    let mut state = after(20);
    press(&mut state, "4");
    insta::assert_snapshot!(screen(&mut state, 80, 24));
}

#[test]
fn a_process_is_expanded_to_its_connections() {
    let mut state = after(20);
    press(&mut state, "jj\n");
    insta::assert_snapshot!(screen(&mut state, 80, 24));
}

#[test]
fn details_stand_below_the_table_or_beside_it() {
    let mut state = after(20);
    press(&mut state, "2d");
    insta::assert_snapshot!("details_below", screen(&mut state, 80, 24));
    insta::assert_snapshot!("details_beside", screen(&mut state, 160, 40));
}

#[test]
fn help_tells_the_keys_and_what_is_missing() {
    let mut state = after(20);
    press(&mut state, "?");
    insta::assert_snapshot!(screen(&mut state, 80, 24));
    press(&mut state, "?");
    assert!(!screen(&mut state, 80, 24).contains("this help"));
}

#[test]
fn a_wrong_filter_is_pointed_at_below_what_was_typed() {
    let mut state = after(20);
    press(&mut state, "/prt == 443\n");
    insta::assert_snapshot!(screen(&mut state, 80, 24));

    code(&mut state, KeyCode::Home);
    code(&mut state, KeyCode::Right);
    press(&mut state, "o\n");
    let text = screen(&mut state, 80, 24);
    assert!(text.contains("filter port == 443"), "{text}");
    assert!(text.contains("curl") && !text.contains("sshd"), "{text}");
}

#[test]
fn the_recording_ends_and_says_so() {
    let mut state = after(31);
    let text = screen(&mut state, 80, 24);
    assert!(text.lines().next().unwrap().ends_with("ENDED"), "{text}");
    assert!(text.contains("the recording ends here; "), "{text}");
    // Its last sample stands.
    assert!(text.contains("sync"), "{text}");
}

#[test]
fn what_stands_still_does_so_until_it_is_let_go() {
    let mut state = after(15);
    press(&mut state, " ");
    let before = screen(&mut state, 80, 24);
    assert!(before.contains("PAUSED"), "{before}");
    let mut watch = Monitor::replay(DEMO).unwrap().watch_top(&TopRequest::default()).unwrap();
    state.take(Message::Sample(Arc::new(watch.next_interval(&Control::default()).unwrap())));
    assert_eq!(screen(&mut state, 80, 24), before);
    press(&mut state, " ");
    assert_ne!(screen(&mut state, 80, 24), before);
}

#[test]
fn the_chosen_line_is_followed_wherever_it_is_sorted_to() {
    let mut state = after(20);
    press(&mut state, "2jjj");
    let key = state.selected().unwrap();
    press(&mut state, "r");
    assert_eq!(state.selected(), Some(key));
    press(&mut state, "<");
    assert_eq!(state.selected(), Some(key));
    // What is chosen is on the screen, and told apart without colour.
    let text = screen(&mut state, 80, 12);
    assert!(text.lines().any(|line| line.starts_with('>')), "{text}");
}

#[test]
fn every_column_sorts_both_ways() {
    let mut state = after(20);
    for view in ["1", "2", "3", "4"] {
        press(&mut state, view);
        for _ in 0..state.view.columns().len() {
            press(&mut state, "s");
            let title = state.look().sort.column().title;
            let down = screen(&mut state, 200, 60);
            assert!(down.contains(&format!("sort {title} |")), "{down}");
            press(&mut state, "r");
            assert!(screen(&mut state, 200, 60).contains(&format!("sort {title}, reversed")));
            press(&mut state, "r");
            assert_eq!(screen(&mut state, 200, 60), down);
        }
    }
}

#[test]
fn what_has_ended_is_marked_and_fades_and_goes() {
    let marked = |samples| {
        let mut state = after(samples);
        press(&mut state, "2");
        let text = screen(&mut state, 200, 60);
        text.lines().find(|line| line.contains("198.51.100.66:4444")).map(str::to_owned)
    };
    // It ended at 13.3 s.
    assert!(marked(13).unwrap().starts_with("  "), "{:?}", marked(13));
    assert!(marked(14).unwrap().starts_with(" x"), "{:?}", marked(14));
    assert!(marked(18).unwrap().contains("closed"), "{:?}", marked(18));
    assert_eq!(marked(19), None);
}

#[test]
fn without_colours_there_are_none_and_with_them_only_the_sixteen() {
    for (color, view) in [(true, "1"), (true, "2"), (true, "4"), (false, "1"), (false, "2"), (false, "4")] {
        let mut state = after(16);
        state.color = color;
        press(&mut state, view);
        let terminal = terminal(&mut state, 200, 60);
        for cell in &terminal.backend().buffer().content {
            assert_eq!(cell.bg, Color::Reset);
            let named = !matches!(cell.fg, Color::Rgb(..) | Color::Indexed(_) | Color::White | Color::Black);
            assert!(if color { named } else { cell.fg == Color::Reset }, "{cell:?}");
        }
    }
}

#[test]
fn what_others_chose_is_clean_on_the_screen() {
    let mut state = after(13);
    let text = screen(&mut state, 200, 60);
    assert!(text.contains(r"\x1b[2J\u{202e}ignore"), "{text}");
}

#[test]
fn no_size_is_too_small() {
    let mut state = after(16);
    press(&mut state, "d");
    for (width, height) in [(1, 1), (2, 3), (10, 4), (20, 5), (40, 10), (61, 16), (119, 17), (300, 100)] {
        for keys in ["1", "2", "3", "4", "/pid == ", "\n", "\u{1b}", "?", "?"] {
            press(&mut state, keys);
            terminal(&mut state, width, height);
        }
        press(&mut state, "\u{1b}d");
    }
    assert!(state.interval().is_some());
}

#[test]
fn chosen_lines_are_reversed_and_headings_bold() {
    let mut state = after(20);
    let terminal = terminal(&mut state, 80, 24);
    let buffer = terminal.backend().buffer();
    let reversed = (0..24).filter(|row| buffer[(4, *row)].modifier.contains(Modifier::REVERSED)).count();
    assert_eq!(reversed, 1);
}

#[test]
fn a_daemon_that_is_gone_is_told_and_its_return_too() {
    let mut state = after(16);
    state.take(Message::Gone("cannot reach netmond at unix:/run/x: it is not running".to_owned()));
    let text = screen(&mut state, 80, 24);
    assert!(text.contains("NO ANSWER"), "{text}");
    assert!(
        text.contains("cannot reach netmond at unix:/run/x: it is not running; waiting for it"),
        "{text}"
    );
    state.take(Message::Back);
    assert!(!screen(&mut state, 80, 24).contains("NO ANSWER"));
}
