//! What fuzzing gives bytes to: for each place where something from outside is read, a function that may refuse it but not
//! panic, and that requires of the rest what ARCHITECTURE.md promises. Ordinary tests call them with the corpora.
//!
//! Not a part of this crate's interface.
#![allow(missing_docs, clippy::missing_errors_doc, reason = "for netmon's own fuzz targets alone")]

use std::{collections::HashSet, io, time::Duration};

use crate::{
    CleanProse, CleanText, Control, Filter, Monitor,
    answer::{Answer, Row as _},
    clean::must_be_escaped,
    error::Result,
    fact::ConnectionFact,
    filter::{DEEPEST_NESTING, LONGEST_EXPRESSION, did_you_mean},
    monitor::top::{TopHistory, TopInterval, TopQuery, TopView},
    request::{
        ConnectionSort, ConnectionsRequest, DiffRequest, RateRequest, SocketsRequest, SummaryRequest,
        TopRequest, parse_duration,
    },
    source::replay::ReplaySource,
};

/// Records of the BPF programs, as facts.
#[cfg(feature = "bpf")]
pub fn records(bytes: &[u8]) {
    for fact in crate::source::live::facts_of_records(bytes) {
        // What is told is told by a recording too.
        let line = serde_json::to_string(&fact).expect("a fact is JSON");
        let read: ConnectionFact = serde_json::from_str(&line).expect("a fact is read back");
        assert_eq!(read, fact, "{line}");
    }
}

/// Messages of netlink.
pub fn netlink(bytes: &[u8]) {
    crate::source::live::read_any_message(bytes);
}

/// Files of `/proc`.
pub fn proc(bytes: &[u8]) {
    crate::source::live::read_any_file(bytes);
}

/// Expressions of filters.
pub fn filter(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = did_you_mean(text, ["connections", "summary", "", "ä", text].into_iter());
    // What may be longer when it is printed than anybody may write.
    let is_long =
        text.len() > LONGEST_EXPRESSION / 8 || text.matches(['(', '!']).count() > DEEPEST_NESTING / 2;
    match Filter::parse(text) {
        Ok(filter) => {
            let printed = filter.to_string();
            assert!(!printed.chars().any(must_be_escaped) || text.chars().any(must_be_escaped), "{printed}");
            match Filter::parse(&printed) {
                Ok(again) => assert_eq!(again, filter, "{text:?} came out as {printed:?}"),
                Err(error) => assert!(is_long, "{text:?} came out as {printed:?}: {error}"),
            }
        }
        Err(error) => {
            assert!(error.column >= 1 && error.column <= text.chars().count() + 1, "{error:?}");
            let shown = error.to_string();
            assert!(!shown.chars().any(|one| one != '\n' && one.is_control()), "{shown:?}");
        }
    }
}

/// Names and prose of others.
pub fn clean(bytes: &[u8]) {
    let once = CleanText::from_bytes(bytes);
    assert_eq!(CleanText::from(once.as_str()), once);
    assert!(once.as_str().chars().count() <= CleanText::MAX_CHARS);
    assert!(!once.as_str().chars().any(must_be_escaped), "{once}");

    let prose = CleanProse::from(String::from_utf8_lossy(bytes).as_ref());
    assert_eq!(CleanProse::from(prose.as_str()), prose);
    assert!(prose.as_str().chars().count() <= CleanProse::MAX_CHARS);
    assert!(is_harmless(prose.as_str()), "{prose}");

    if let Ok(text) = str::from_utf8(bytes) {
        let _ = parse_duration(text);
    }
}

/// What a model's server answers, and the way of its words to whoever asked.
#[cfg(feature = "ai")]
pub fn model(bytes: &[u8]) {
    use crate::model::{Pseudonyms, read_any_answer};

    for answer in read_any_answer(bytes) {
        let (Ok(words) | Err(words)) = answer;
        let mut pseudonyms = Pseudonyms::default();
        pseudonyms.name("process", "nginx");
        let shown = CleanProse::from(pseudonyms.restore(&words).as_str());
        assert!(is_harmless(shown.as_str()), "{shown}");
        // What was replaced comes back.
        let hidden = pseudonyms.text(&words);
        pseudonyms.used_in(&hidden);
    }
}

/// Cursors of pages, but for their end, which follows from the rest.
pub fn cursor(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let text = crate::monitor::read_any_cursor(text);
    let request = ConnectionsRequest { cursor: Some(text), ..ConnectionsRequest::default() };
    thread_local!(static DEMO: Monitor =
        Monitor::replay(concat!(env!("CARGO_MANIFEST_DIR"), "/recordings/demo.jsonl")).expect("the demo"));
    DEMO.with(|demo| drop(demo.connections(&request, &Control::default())));
}

/// Recordings, and every answer about what they hold.
pub fn replay(bytes: &[u8]) {
    let source = match ReplaySource::read(io::Cursor::new(bytes), "fuzzed") {
        Ok(source) => source,
        Err(error) => {
            let said = error.with_cause().to_string();
            assert!(is_harmless(&said), "{said:?}");
            return;
        }
    };
    every_answer(&Monitor::new(source));
}

/// Asks all there is, and looks at each answer in every form.
fn every_answer(monitor: &Monitor) {
    let control = Control::default();
    let second = Duration::from_secs(1);
    let rates = RateRequest { window: second, ..RateRequest::default() };
    if let Ok(mut watch) = monitor.watch_rates(&rates) {
        for _ in 0..4 {
            look_at(&watch.next_window(&control));
        }
    }
    look_at(&monitor.interfaces());
    look_at(&monitor.interfaces_over(second, &control));
    look_at(&monitor.capabilities());
    look_at(&monitor.sockets(&SocketsRequest::default()));
    look_at(&monitor.listeners(&SocketsRequest::default()));
    look_at(&monitor.diff(&DiffRequest::default(), &control));

    for since in [None, Some(Duration::from_secs(2))] {
        let asked = SummaryRequest { since, ..SummaryRequest::default() };
        let mut summary = monitor.summary(&asked, &control);
        look_at(&summary);
        summary.iter_mut().for_each(|summary| summary.shorten(1));
        look_at(&summary);
    }
    let mut patterns = monitor.patterns(&Default::default(), &control);
    look_at(&patterns);
    patterns.iter_mut().for_each(|patterns| patterns.shorten(1));
    look_at(&patterns);
    let mut drops = monitor.drops(&Default::default(), &control);
    look_at(&drops);
    drops.iter_mut().for_each(|drops| drops.shorten(1));
    look_at(&drops);
    let mut diagnosis = monitor.diagnose(&Default::default(), &control);
    look_at(&diagnosis);
    diagnosis.iter_mut().for_each(|diagnosis| diagnosis.shorten(1));
    look_at(&diagnosis);

    pages(monitor, &control);
    if let Ok(mut watch) = monitor.watch_connections(&ConnectionsRequest::default()) {
        while let Ok(rows) = watch.next(Duration::ZERO, &control.cancel) {
            for row in &rows {
                let shown = serde_json::to_string(row).expect("a row is JSON");
                assert!(is_harmless(&shown), "{shown:?}");
            }
        }
        drop(watch.header());
    }
    if let Ok(mut watch) = monitor.watch_top(&TopRequest::default()) {
        let (mut history, filter) = (TopHistory::default(), Filter::everything());
        while let Ok(interval) = watch.next_interval(&control) {
            history.add(&interval, &filter);
            for view in TopView::ALL {
                look_at_view(view, &interval, &history, &filter);
            }
        }
    }
}

/// The lines of a live view by each of its columns, all that can be expanded being so.
fn look_at_view(view: TopView, interval: &TopInterval, history: &TopHistory, filter: &Filter) {
    let mut expanded = HashSet::new();
    for &sort in view.columns() {
        let list = interval.list(&TopQuery { view, filter, sort, reverse: false, expanded: &expanded });
        for line in 0..list.len() {
            let line = list.line(interval, history, line).expect("a line that is there");
            expanded.insert(line.key);
            for cell in &line.cells {
                assert!(is_harmless(&cell.text), "{:?}", cell.text);
            }
        }
    }
}

/// Through all connections, by each order: every row once.
fn pages(monitor: &Monitor, control: &Control<'_>) {
    for sort in ConnectionSort::ALL {
        let mut request = ConnectionsRequest { sort, ..ConnectionsRequest::default() };
        let whole = monitor.connections(&request, control);
        look_at(&whole);
        let Ok(whole) = whole else { return };
        request.limit = Some((whole.total / 3).max(1));
        let mut rows = Vec::new();
        loop {
            let page = monitor.connections(&request, control).expect("a page of what was told whole");
            rows.extend(page.connections);
            assert!(rows.len() as u64 <= whole.total, "more rows in pages than there are");
            match page.next_cursor {
                Some(cursor) => request.cursor = Some(cursor),
                None => break,
            }
        }
        assert_eq!(rows, whole.connections, "by {sort:?}");
    }
}

/// The answer as text, tables, JSON and rows.
fn look_at<A: Answer>(answer: &Result<A>) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let said = error.with_cause().to_string();
            assert!(is_harmless(&said), "{said:?}");
            return;
        }
    };
    let mut shown = answer.to_string();
    for note in answer.notes() {
        shown.push_str(&note);
    }
    for table in answer.tables() {
        for cell in table.rows.iter().flatten() {
            shown.push_str(&cell.text);
        }
        #[cfg(feature = "table")]
        for width in [None, Some(20), Some(80)] {
            shown.push_str(&table.render(crate::view::Layout { width, color: false }));
        }
    }
    assert!(is_harmless(&shown), "{shown:?}");
    let json = serde_json::to_string(answer).expect("an answer is JSON");
    assert!(is_harmless(&json), "{json:?}");
    let columns = answer.csv_columns().len();
    for row in answer.rows() {
        assert_eq!(row.csv_fields().len(), columns);
    }
}

/// Whether nothing in it moves a cursor, turns text around or hides.
fn is_harmless(text: &str) -> bool {
    !text.chars().any(|one| one != '\n' && must_be_escaped(one))
}

#[cfg(test)]
mod tests {
    use netmon_testkit::fuzz::try_inputs;

    #[test]
    #[cfg(feature = "bpf")]
    fn records_become_facts_whatever_is_in_them() {
        try_inputs("records", super::records);
    }

    #[test]
    fn messages_of_netlink_are_read_as_far_as_they_go() {
        try_inputs("netlink", super::netlink);
    }

    #[test]
    fn files_of_proc_are_read_as_far_as_they_make_sense() {
        try_inputs("proc", super::proc);
    }

    #[test]
    fn expressions_are_read_or_refused() {
        try_inputs("filter", super::filter);
    }

    #[test]
    fn text_from_outside_is_clean() {
        try_inputs("clean", super::clean);
    }

    #[test]
    #[cfg(feature = "ai")]
    fn a_model_can_say_what_it_likes() {
        try_inputs("model", super::model);
    }

    #[test]
    fn cursors_are_read_or_refused() {
        try_inputs("cursor", super::cursor);
    }

    #[test]
    fn recordings_are_answered_from_or_refused() {
        try_inputs("replay", super::replay);
    }
}
