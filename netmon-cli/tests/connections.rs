//! Questions about connections, asked of the real program.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::BTreeSet,
    net::{TcpListener, TcpStream},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

const DEMO: &str = concat!("replay:", env!("CARGO_MANIFEST_DIR"), "/../netmon-core/recordings/demo.jsonl");

fn netmon(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netmon-cli"));
    command.args(arguments).env_remove("NETMON_SOURCE").env("TZ", "UTC").stdin(Stdio::null());
    command.output().unwrap()
}

/// On the demo recording.
fn demo(arguments: &[&str]) -> Output {
    netmon(&[&["--source", DEMO], arguments].concat())
}

fn all(output: &Output) -> String {
    format!(
        "status: {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        String::from_utf8(output.stdout.clone()).unwrap(),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", all(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_question_is_answered_as_text() {
    let cases: [(&str, &[&str]); 12] = [
        ("connections", &["connections"]),
        ("connections_failed", &["connections", "--state", "failed", "--filter", "not process == probe"]),
        ("connections_of_nobody", &["connections", "--process", "nobody"]),
        ("connections_fields", &["connections", "--fields", "process,pid,remote,error", "--limit", "3"]),
        ("connections_watch", &["connections", "--watch", "--limit", "20"]),
        ("summary", &["summary"]),
        ("summary_of_a_process", &["summary", "--process", "curl", "--since", "60s"]),
        ("summary_of_nobody", &["summary", "--pid", "4000000"]),
        ("patterns", &["patterns"]),
        ("analyze_a_process", &["analyze", "--process", "python3"]),
        ("sockets", &["sockets"]),
        ("listeners", &["listeners"]),
    ];
    for (name, arguments) in cases {
        insta::assert_snapshot!(format!("{name}_text"), all(&demo(arguments)));
    }
}

#[test]
fn every_question_is_answered_for_machines() {
    for format in ["json", "jsonl", "csv"] {
        for question in ["connections", "summary", "patterns", "sockets", "listeners"] {
            let few: &[&str] = match question {
                "connections" => &["--process", "python3"],
                "patterns" => &["--process", "restic"],
                "sockets" => &["--process", "nginx"],
                _ => &[],
            };
            let arguments = [&[question, "-o", format], few].concat();
            insta::assert_snapshot!(format!("{question}_{format}"), all(&demo(&arguments)));
        }
    }
    for format in ["json", "jsonl", "csv"] {
        let arguments = ["connections", "--fields", "id,comm,remote", "--limit", "2", "-o", format];
        insta::assert_snapshot!(format!("connections_fields_{format}"), all(&demo(&arguments)));
    }
}

#[test]
fn pages_by_cursor_hold_each_connection_once() {
    let whole = json(&demo(&["connections", "-o", "json", "--sort", "process"]));
    let ids = |answer: &Value| -> Vec<String> {
        let rows = answer["connections"].as_array().unwrap().iter();
        rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    let mut paged = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut arguments = vec!["connections", "-o", "json", "--sort", "process", "--limit", "7"];
        if let Some(cursor) = &cursor {
            arguments.extend(["--cursor", cursor]);
        }
        let page = json(&demo(&arguments));
        paged.extend(ids(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(paged, ids(&whole));
    assert_eq!(paged.iter().collect::<BTreeSet<_>>().len(), 110);
}

#[test]
fn a_watch_of_a_recording_tells_every_change_and_ends() {
    let output = demo(&["connections", "--watch", "-o", "jsonl"]);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    let rows = lines(&output);
    let (end, changes) = rows.split_last().unwrap();
    assert_eq!(end["type"], "end");
    assert_eq!(end["coverage"]["lost_events"], 0);
    assert_eq!(changes.len(), 129);
    assert!(changes.iter().all(|change| change["type"] == "connection"));
    let over = |change: &&Value| ["closed", "failed"].contains(&change["state"].as_str().unwrap());
    assert_eq!(changes.iter().filter(over).count(), 106);
}

#[test]
fn a_name_that_was_chosen_to_harm_does_none_in_any_format() {
    for format in ["text", "json", "jsonl", "csv"] {
        let output = demo(&["connections", "--pid", "6660", "-o", format]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("[2J"), "{format}: still recognisable: {text}");
        let harmful = |character: char| character == '\u{1b}' || character == '\u{202e}';
        assert!(!text.contains(harmful), "{format}: {text}");
    }
}

#[test]
fn whoever_has_no_privilege_sees_what_is_open_and_why_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let _accepted = listener.accept().unwrap();

    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", env!("CARGO_BIN_EXE_netmon-cli")]);
    command.args(["sockets", "--port", &port, "-o", "json"]).stdin(Stdio::null());
    let answer = json(&command.output().unwrap());
    let mut states: Vec<_> =
        answer["sockets"].as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap()).collect();
    states.sort_unstable();
    assert_eq!(states, ["listening", "open", "open"], "{answer}");
    for row in answer["sockets"].as_array().unwrap() {
        if rustix::process::geteuid().is_root() {
            // A process with capabilities keeps its files from one without.
            assert_eq!(row["attribution"], "unknown", "{row}");
        } else {
            assert_eq!(row["attribution"], "snapshot", "{row}");
            assert_eq!(row["process"]["pid"], std::process::id(), "{row}");
        }
    }
    if rustix::process::geteuid().is_root() {
        let warnings = answer["coverage"]["warnings"].to_string();
        assert!(warnings.contains("no known owner"), "{warnings}");
    }
    let missing = &answer["coverage"]["missing_hooks"][0];
    assert!(missing["fix"].as_str().unwrap().to_lowercase().contains("perfmon"), "{missing}");
}
