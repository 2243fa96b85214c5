//! Recordings that end anywhere, and such of other versions: an error that names the file, or what there is with a warning.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, path::Path, time::Duration};

use netmon_core::{
    ConnectionsRequest, Control, Monitor, RateRequest, SummaryRequest, source::replay::ReplaySource,
};

const DEMO: &str = include_str!("../recordings/demo.jsonl");

/// What is said where it cannot be read, else the warnings of its answers.
fn answer(path: &Path) -> Result<Vec<String>, String> {
    let source = ReplaySource::open(path).map_err(|error| error.with_cause())?;
    let monitor = Monitor::new(source);
    let control = Control::default();
    let mut warnings = Vec::new();
    let mut connections = ConnectionsRequest::default();
    connections.since = Some(Duration::from_secs(60));
    let mut rates = RateRequest::default();
    rates.window = Duration::from_secs(1);
    let headers = [
        monitor.connections(&connections, &control).map(|answer| answer.header),
        monitor.summary(&SummaryRequest::default(), &control).map(|answer| answer.header),
        monitor.rates(&rates, &control).map(|answer| answer.header),
    ];
    for header in headers {
        match header {
            Ok(header) => warnings.extend(header.coverage.warnings),
            Err(error) => warnings.push(error.to_string()),
        }
    }
    Ok(warnings)
}

#[test]
fn a_recording_that_is_cut_anywhere_is_an_error_that_names_it_or_what_there_is_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.jsonl");
    // The first lines, and one of each kind: some ten thousand bytes.
    let mut kinds = std::collections::HashSet::new();
    let lines = DEMO.lines().enumerate().filter(|(number, line)| {
        let kind = line.find("\"type\":\"").map(|at| line[at..].chars().take(16).collect::<String>());
        kinds.insert(kind) || *number < 20
    });
    let whole: String = lines.map(|(_, line)| format!("{line}\n")).collect();
    fs::write(&path, &whole).unwrap();
    let is_cut = |warning: &String| warning.contains("ends in the middle of a line");
    assert!(!answer(&path).unwrap().iter().any(is_cut));

    let header = whole.find('\n').unwrap();
    let (mut errors, mut partial) = (0, 0);
    // All of the header and of the line behind it, then every seventh byte, which is at any place of a line sooner or later.
    let lengths = (0..header + 200).chain((header + 200..whole.len()).step_by(7));
    for length in lengths {
        fs::write(&path, &whole[..length]).unwrap();
        let at_end = whole.as_bytes()[..length].ends_with(b"\n");
        match answer(&path) {
            Err(told) => {
                assert!(told.contains("cut.jsonl"), "{length}: {told}");
                errors += 1;
            }
            Ok(warnings) => {
                assert!(length >= header, "{length}: read without a whole header");
                // With all but its last line's end, the line is whole.
                let whole_line = whole.as_bytes()[length] == b'\n';
                let empty = |warning: &String| warning.contains("before anything could be measured");
                let said = warnings.iter().any(|warning| is_cut(warning) || empty(warning));
                assert!(at_end || whole_line || said, "{length}: {warnings:?}");
                partial += 1;
            }
        }
    }
    assert!(errors >= header && partial > 1000, "{errors} errors, {partial} in part");
}

#[test]
fn a_recording_of_a_newer_version_is_refused_by_its_name_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new.jsonl");
    fs::write(&path, DEMO.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
    let told = answer(&path).unwrap_err();
    assert!(told.contains("new.jsonl") && told.contains("format version 2"), "{told}");
    assert!(told.contains("use the netmon that wrote it"), "{told}");
}
