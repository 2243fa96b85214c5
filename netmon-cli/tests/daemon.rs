//! The command line through a real daemon that serves the demo recording.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    process::{Command, Output, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use support::{CLI, DEMO, Daemon};
use terminal::Terminal;
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

/// Answers what it is, refuses to tell facts, and never answers a question.
fn never_answer(mut stream: UnixStream) {
    let mut asked = Vec::new();
    let mut byte = [0];
    loop {
        asked.clear();
        while !asked.ends_with(b"\r\n\r\n") {
            if !matches!(stream.read(&mut byte), Ok(1)) {
                return;
            }
            asked.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&asked).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).unwrap();
        let (status, reply) = match head.split_whitespace().nth(1).unwrap() {
            "/v1/facts/source" => ("200 OK", r#"{"kind":"live","host":"far","kernel":"6.12.0"}"#),
            path if path.starts_with("/v1/facts/") => ("500 Internal Server Error", "{}"),
            _ => {
                let _ = stream.read(&mut byte);
                return;
            }
        };
        let length = reply.len();
        let reply = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{reply}"
        );
        stream.write_all(reply.as_bytes()).unwrap();
    }
}

#[test]
fn ctrl_c_ends_a_question_that_a_daemon_does_not_answer_and_not_the_shell() {
    const CTRL_C: &str = "\u{3}";
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sock");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        listener.incoming().for_each(|stream| drop(thread::spawn(|| never_answer(stream.unwrap()))));
    });
    let source = format!("unix:{}", socket.display());
    let terminal = Terminal::start(CLI, &["--source", &source, "shell"], 100, 60);
    terminal.wait_for("netmon>");
    let lines = [
        "sockets",
        "listeners",
        "doctor",
        "summary",
        "connections",
        "drops",
        "diagnose",
        "sockets --process x",
    ];
    for (line, prompts) in lines.into_iter().zip(2..) {
        terminal.press(&format!("{line}\r"));
        // It is given the time to ask; before that Ctrl-C would only clear the line.
        terminal.wait_until(line, |text| text.trim_end().ends_with(&format!("netmon> {line}")));
        thread::sleep(std::time::Duration::from_millis(300));
        terminal.press(CTRL_C);
        let text = terminal.wait_until("a prompt", |text| text.matches("netmon>").count() == prompts);
        assert!(text.trim_end().ends_with("netmon>") && !text.contains("error:"), "{text}");
    }
    terminal.press("quit\r");
    assert!(terminal.ended().0.success());
}

#[test]
fn a_shell_outlives_the_daemon_that_it_asks() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sock");
    let mut daemon = Daemon::on(&socket, DEMO);
    let source = format!("unix:{}", socket.display());
    let terminal = Terminal::start(CLI, &["--source", &source, "shell"], 120, 60);
    terminal.press("listeners\r");
    terminal.wait_for("4 listeners");
    daemon.kill();
    terminal.press("listeners\r");
    terminal.wait_for("error: cannot reach netmond at unix:");
    let _daemon = Daemon::on(&socket, DEMO);
    terminal.press("summary --process curl\r");
    terminal.wait_for("Process 'curl' made 8 outbound connection attempts");
    terminal.press("quit\r");
    assert!(terminal.ended().0.success());
}
