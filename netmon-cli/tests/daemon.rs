//! The command line through a real daemon that serves the demo recording.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use support::{CLI, DEMO, Daemon};
use test_tag::tag;

fn run(source: &str, arguments: &[&str]) -> Output {
    Command::new(CLI).args(["--source", source]).args(arguments).env("COLUMNS", "120").output().unwrap()
}

#[test]
fn every_command_prints_through_the_daemon_what_it_prints_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sock");
    let _daemon = Daemon::on(&socket, DEMO);
    let commands: &[&[&str]] = &[
        &["connections"],
        &["connections", "--state", "failed", "--limit", "7", "-o", "json"],
        &["connections", "--watch", "-o", "jsonl"],
        &["connections", "-o", "csv", "--fields", "comm,remote,error"],
        &["summary"],
        &["summary", "--process", "nginx", "-o", "json"],
        &["patterns"],
        &["drops"],
        &["diagnose"],
        &["insights", "-o", "json"],
        &["sockets", "-o", "jsonl"],
        &["listeners"],
        &["pps", "-o", "json"],
        &["pps", "--watch", "--samples", "3"],
        &["interfaces"],
        &["doctor", "-o", "json"],
        &["connections", "--filter", "port == and"],
        &["connections", "--limit", "0"],
        &["pps", "--iface", "nonesuch"],
    ];
    for command in commands {
        let (far, near) = (run(&format!("unix:{}", socket.display()), command), run(DEMO, command));
        let text = |output: &Output| {
            let text = [output.stdout.as_slice(), &output.stderr].concat();
            // A page names the command for the next one, with the source that was asked.
            let text = String::from_utf8(text).unwrap();
            text.replace(&format!("unix:{}", socket.display()), "SOURCE").replace(DEMO, "SOURCE")
        };
        assert_eq!(text(&far), text(&near), "{command:?}");
        assert_eq!(far.status.code(), near.status.code(), "{command:?}");
    }
}

#[tag(root)]
#[test]
fn a_watch_says_that_the_daemon_is_gone_and_goes_on_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sock");
    let mut daemon = Daemon::on(&socket, "live");
    let mut watch = Command::new(CLI)
        .args(["--source", &format!("unix:{}", socket.display())])
        .args(["pps", "--iface", "lo", "--watch", "--window", "0.1s", "-o", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut rows = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut notes = BufReader::new(watch.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(rows.next().unwrap().contains("\"type\":\"rate\""));
    daemon.kill();
    let note = notes.next().unwrap();
    assert!(note.ends_with("waiting for it, Ctrl-C ends this"), "{note}");
    let before = jiff::Timestamp::now();
    let _next = Daemon::on(&socket, "live");
    assert_eq!(notes.next().unwrap(), "note: netmond answers again; what happened meanwhile is not shown");
    // What was printed before is read first.
    assert!(rows.any(|row| row.contains("\"type\":\"rate\"") && to(&row) > before));
    kill_process(Pid::from_child(&watch), Signal::INT).unwrap();
    assert!(rows.last().unwrap().contains("\"type\":\"end\""));
    assert!(watch.wait().unwrap().success());
}

/// The end of a row's window.
fn to(row: &str) -> jiff::Timestamp {
    let row: serde_json::Value = serde_json::from_str(row).unwrap();
    row["window"]["to"].as_str().unwrap().parse().unwrap()
}
