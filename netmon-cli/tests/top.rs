//! `top` as people use it: the real program on a pseudo-terminal, on the demo recording, live and through the daemon.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use support::Daemon;
use terminal::Terminal;
use test_tag::tag;

const CLI: &str = env!("CARGO_BIN_EXE_netmon-cli");
const DEMO: &str = concat!("replay:", env!("CARGO_MANIFEST_DIR"), "/../netmon-core/recordings/demo.jsonl");
const CTRL_C: &str = "\u{3}";
const ESCAPE: &str = "\u{1b}";

fn demo(columns: u16, rows: u16, arguments: &[&str]) -> Terminal {
    let arguments = [&["--source", DEMO, "top"], arguments].concat();
    Terminal::start(CLI, &arguments, columns, rows)
}

#[test]
fn it_steps_through_a_recording_and_stands_at_its_end() {
    let terminal = demo(100, 30, &["--interval", "0.5s"]);
    terminal.wait_for("12:30:01");
    terminal.wait_for("source: replay | lost: none | missing: none");
    let end = terminal.wait_for("the recording ends here; ");
    assert!(end.contains("ENDED") && end.contains("sync"), "{end}");
    terminal.press("q");
    let (status, _) = terminal.ended();
    assert!(status.success());
}

#[test]
fn keys_do_what_help_says() {
    let terminal = demo(100, 30, &[]);
    terminal.wait_for("[1 processes]");
    terminal.wait_for("nginx");
    terminal.press("?");
    terminal.wait_for("sort the other way round");
    terminal.press("?");
    terminal.wait_until("no help", |text| !text.contains("sort the other way round"));
    terminal.press("\t");
    terminal.wait_for("[2 connections]");
    terminal.press("3");
    terminal.wait_for("[3 destinations]");
    terminal.press("4");
    terminal.wait_for("PKTS IN/S");
    terminal.press("1<");
    terminal.wait_for("sort RETRANS |");
    terminal.press("r");
    terminal.wait_for("sort RETRANS, reversed |");
    terminal.press(" ");
    terminal.wait_for("PAUSED");
    terminal.press(" ");
    terminal.wait_until("no pause", |text| !text.contains("PAUSED"));
    terminal.press("d");
    terminal.wait_for("┌details");
    // Escape goes back before it quits.
    terminal.press(ESCAPE);
    terminal.wait_until("no details", |text| !text.contains("┌details"));
    terminal.press(ESCAPE);
    assert!(terminal.ended().0.success());
}

#[test]
fn a_filter_is_typed_and_mended() {
    let terminal = demo(80, 24, &[]);
    terminal.wait_for("sshd");
    terminal.press("/prt == 22\r");
    let wrong = terminal.wait_for("did you mean \"port\"");
    assert!(wrong.contains("filter: prt == 22\n        ^\n"), "{wrong}");
    // One character to the right of the beginning.
    terminal.press("\u{1b}[H\u{1b}[Co\r");
    let right = terminal.wait_for("filter port == 22");
    assert!(right.contains("sshd") && !right.contains("nginx"), "{right}");
    terminal.press(CTRL_C);
    assert!(terminal.ended().0.success());
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let terminal = demo(80, 24, &[]);
    terminal.wait_for("RETRANS");
    terminal.resize(40, 10);
    terminal.wait_until("a small screen", |text| text.contains("[1 processes]") && !text.contains("RETRANS"));
    terminal.resize(200, 60);
    terminal.wait_for("on demo");
    terminal.wait_for("RECENT");
    terminal.press("q");
    assert!(terminal.ended().0.success());
}

#[test]
fn the_terminal_is_given_back_after_signals() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let terminal = demo(80, 24, &[]);
        terminal.wait_for("nginx");
        assert!(terminal.has_own_screen());
        terminal.signal(signal);
        assert!(terminal.ended().0.success(), "{signal:?}");
    }
}

#[test]
fn the_terminal_is_given_back_when_enough_was_seen() {
    let terminal = demo(80, 24, &["--samples", "2"]);
    assert!(terminal.ended().0.success());
}

#[test]
fn what_cannot_be_asked_is_told_on_a_terminal_as_it_was() {
    let terminal = demo(80, 24, &["--filter", "prt == 443"]);
    let (status, text) = terminal.ended();
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(text.contains("error: no field is called \"prt\""), "{text}");
}

#[test]
fn without_colours_no_cell_has_one() {
    let terminal = demo(80, 24, &["--process", "nginx", "--color", "never"]);
    terminal.wait_for("only process \"nginx\"");
    assert!(terminal.colours().is_empty(), "{:?}", terminal.colours());
    terminal.press("q");
    assert!(terminal.ended().0.success());
}

#[test]
fn it_says_that_the_daemon_is_gone_and_goes_on_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sock");
    let mut daemon = Daemon::on(&socket, DEMO);
    let source = format!("unix:{}", socket.display());
    let terminal = Terminal::start(CLI, &["--source", &source, "top", "--interval", "0.2s"], 100, 30);
    terminal.wait_for("nginx");
    daemon.kill();
    let gone = terminal.wait_for("NO ANSWER");
    assert!(gone.contains("cannot reach netmond at"), "{gone}");
    let _daemon = Daemon::on(&socket, DEMO);
    terminal.wait_until("an answer", |text| !text.contains("NO ANSWER") && text.contains("nginx"));
    terminal.press("q");
    assert!(terminal.ended().0.success());
}

/// Sends something over a connection of this process again and again, until it is dropped.
fn chatter() -> (u16, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let kept = stream.try_clone().unwrap();
    thread::spawn(move || {
        while stream.write_all(&[7; 1000]).is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    thread::spawn(move || while matches!(accepted.read(&mut [0; 4096]), Ok(1..)) {});
    (port, kept)
}

#[tag(root)]
#[test]
fn live_rates_are_those_of_the_traffic() {
    let (port, stream) = chatter();
    let pid = std::process::id();
    let filter = format!("remote.port == {port}");
    let output = Command::new(CLI)
        .args(["--source", "live", "top", "--view", "connections", "--samples", "3", "--filter", &filter])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    stream.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(output.status.success());
    let rows: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|row| row["type"] == "connection")
        .collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    for row in &rows {
        assert_eq!(row["process"]["pid"], pid, "{row}");
        // A thousand bytes every ten milliseconds, or somewhat later.
        let sent = row["payload_bytes_per_second"]["sent"].as_f64().unwrap();
        assert!(sent > 1_000.0 && sent <= 110_000.0, "{row}");
    }
}

#[tag(root)]
#[test]
fn a_process_is_seen_live_with_its_connection_below_it() {
    let (port, stream) = chatter();
    let filter = format!("remote.port == {port}");
    let terminal = Terminal::start(
        CLI,
        &["--source", "live", "top", "--interval", "0.2s", "--filter", &filter],
        120,
        30,
    );
    terminal.wait_for("source: live");
    terminal.wait_for(&std::process::id().to_string());
    terminal.press("\r");
    terminal.wait_for(&format!("tcp -> 127.0.0.1:{port} open"));
    stream.shutdown(std::net::Shutdown::Both).unwrap();
    terminal.wait_for(&format!("tcp -> 127.0.0.1:{port} closed"));
    terminal.press("q");
    assert!(terminal.ended().0.success());
}
