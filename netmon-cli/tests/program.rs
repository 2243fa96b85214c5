//! The real program, started as users start it, mostly on the demo recording and without privilege.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

const DEMO: &str = concat!("replay:", env!("CARGO_MANIFEST_DIR"), "/../netmon-core/recordings/demo.jsonl");
const SLACK: Duration = Duration::from_secs(20);

fn netmon(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netmon-cli"));
    command.args(arguments).env_remove("NETMON_SOURCE").env_remove("NO_COLOR").env("TZ", "UTC");
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    netmon(arguments).output().unwrap()
}

/// On the demo recording.
fn demo(arguments: &[&str]) -> Output {
    netmon(&[&["--source", DEMO], arguments].concat()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Status, stdout and stderr in one text.
fn all(output: &Output) -> String {
    format!(
        "status: {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().map_or("signal".to_owned(), |code| code.to_string()),
        stdout(output),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", all(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn interrupt(child: &std::process::Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn every_command_prints_its_answer_as_text() {
    insta::assert_snapshot!("pps_text", all(&demo(&["pps"])));
    insta::assert_snapshot!(
        "pps_one_way_text",
        all(&demo(&["pps", "--iface", "lo", "--direction", "in", "--hook", "none"]))
    );
    insta::assert_snapshot!("pps_without_hook_text", all(&demo(&["pps", "--iface", "lo"])));
    insta::assert_snapshot!("pps_watch_text", all(&demo(&["pps", "--watch", "--window", "10s"])));
    insta::assert_snapshot!("interfaces_text", all(&demo(&["interfaces"])));
    insta::assert_snapshot!("interfaces_now_text", all(&demo(&["interfaces", "--now"])));
    insta::assert_snapshot!("doctor_text", all(&demo(&["doctor"])));
}

#[test]
fn every_command_prints_its_answer_for_machines() {
    for format in ["json", "jsonl", "csv"] {
        insta::assert_snapshot!(format!("pps_{format}"), all(&demo(&["pps", "-o", format])));
        insta::assert_snapshot!(format!("interfaces_{format}"), all(&demo(&["interfaces", "-o", format])));
        insta::assert_snapshot!(format!("doctor_{format}"), all(&demo(&["doctor", "-o", format])));
        insta::assert_snapshot!(
            format!("pps_watch_{format}"),
            all(&demo(&[
                "pps",
                "--watch",
                "--samples",
                "2",
                "--window",
                "1s",
                "-i",
                "lo",
                "-i",
                "eth0",
                "-o",
                format
            ]))
        );
    }
}

#[test]
fn help_is_stable_at_every_level() {
    insta::assert_snapshot!("help", all(&run(&["--help"])));
    for command in [
        "interfaces",
        "pps",
        "connections",
        "summary",
        "patterns",
        "sockets",
        "listeners",
        "doctor",
        "record",
        "completions",
        "man",
    ] {
        insta::assert_snapshot!(format!("help_{command}"), all(&run(&[command, "--help"])));
    }
}

#[test]
fn mistakes_get_one_clear_line_and_status_2() {
    let cases: &[&[&str]] = &[
        &["pps", "--window", "0"],
        &["pps", "--window", "-1s"],
        &["pps", "--window", "1h"],
        &["pps", "--window", "soon"],
        &["pps", "--watch", "--window", "2h"],
        &["pps", "--samples", "3"],
        &["pps", "--watch", "--samples", "0"],
        &["pps", "--direction", "sideways"],
        &["pps", "--hook", "kprobe"],
        &["pps", "--hook", "xdp", "--direction", "out"],
        &["pps", "--ifac", "eth0"],
        &["ppps"],
        &["-o", "xml", "pps"],
        &["--source", "bogus", "pps"],
        &["--source", "unix:/run/netmon/netmond.sock", "pps"],
        &["--server", "http://localhost:8080", "pps"],
        &["--source", "replay:", "pps"],
        &["interfaces", "--window", "0"],
        &["interfaces", "--now", "--window", "2s"],
        &["completions", "tcsh"],
        &["connections", "--filter", "prot == tcp"],
        &["connections", "--filter", "port == "],
        &["connections", "--remote", "300.1.1.1/8"],
        &["connections", "--user", "nobody-of-that-name"],
        &["connections", "--state", "opne"],
        &["connections", "--sort", "size"],
        &["connections", "--limit", "0"],
        &["connections", "--window", "2h"],
        &["connections", "--watch", "--since", "60s"],
        &["connections", "--watch", "-o", "csv"],
        &["summary", "--protocol", "sctp"],
        &["patterns", "--since", "0"],
        &["listeners", "--direction", "up"],
    ];
    let mut told = String::new();
    for arguments in cases {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", all(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        told.push_str(&format!("$ netmon-cli {}\n{stderr}\n", arguments.join(" ")));
    }
    insta::assert_snapshot!("mistakes", told);
}

#[test]
fn an_unknown_interface_is_status_4_and_names_the_ones_there_are() {
    let output = demo(&["pps", "--iface", "eth9"]);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: no interface named \"eth9\"; there are: lo, eth0, wg0, eth1\n"
    );
    // Hostile text is echoed clean.
    let output = demo(&["pps", "--iface", "\u{1b}[2J\u{202e}"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains(r#""\x1b[2J\u{202e}""#));
}

#[test]
fn a_source_that_cannot_be_read_is_status_3() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        format!("replay:{}", path.display())
    };
    let header = fs::read_to_string(&DEMO["replay:".len()..]).unwrap().lines().next().unwrap().to_owned();
    let cases = [
        (format!("replay:{}/none.jsonl", directory.path().display()), "cannot open it"),
        (file("empty", ""), "the file is empty"),
        (file("other", "root:x:0:0\n"), "line 1: this is not a netmon recording"),
        (file("later", &header.replace("\"version\":1", "\"version\":2")), "it has format version 2"),
        (file("header-only", &format!("{header}\n")), "it holds no sample"),
        (file("damaged", &format!("{header}\n{{\"type\":\"interfaces\"}}\n")), "line 2: missing field"),
    ];
    for (source, expected) in cases {
        let output = run(&["--source", &source, "pps"]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{source}: {stderr}");
        assert!(stderr.starts_with("error: recording ") && stderr.contains(expected), "{source}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn a_recording_cut_by_a_kill_answers_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.jsonl");
    let whole = fs::read(&DEMO["replay:".len()..]).unwrap();
    fs::write(&path, &whole[..whole.len() - 100]).unwrap();

    let answer = json(&run(&[
        "--source",
        &format!("replay:{}", path.display()),
        "pps",
        "--window",
        "60s",
        "-o",
        "json",
    ]));
    assert_eq!(answer["window"]["seconds"], 29.0);
    let warnings = answer["coverage"]["warnings"].to_string();
    assert!(warnings.contains("ends in the middle of a line"), "{warnings}");
    assert!(warnings.contains("60 s were asked for, but the recording ends after 29 s"), "{warnings}");
}

#[test]
fn lines_of_a_later_version_are_passed_over_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("later.jsonl");
    let mut text = fs::read_to_string(&DEMO["replay:".len()..]).unwrap();
    text.push_str("{\"type\":\"connections\",\"x\":1}\n");
    fs::write(&path, text).unwrap();

    let answer = json(&run(&["--source", &format!("replay:{}", path.display()), "pps", "-o", "json"]));
    assert_eq!(answer["rates"][0]["packets"], 5_000);
    assert!(answer["coverage"]["warnings"].to_string().contains("left out: 1 line of the recording"));
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let mut child = netmon(&["--source", DEMO, "pps", "--watch", "--window", "1s", "-o", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    assert!(output.stderr.is_empty(), "{}", all(&output));

    for arguments in [&["completions", "bash"][..], &["man"]] {
        let mut child = netmon(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", all(&output));
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = netmon(&["--source", DEMO, "interfaces"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(
        String::from_utf8_lossy(&output.stderr).starts_with("error: cannot write the answer: No space left")
    );
}

#[test]
fn colours_come_only_where_they_are_wanted() {
    let escape = "\u{1b}[";
    assert!(!stdout(&demo(&["interfaces"])).contains(escape), "a pipe is no terminal");
    assert!(stdout(&demo(&["--color", "always", "interfaces"])).contains(escape));
    assert!(!stdout(&demo(&["--color", "never", "interfaces"])).contains(escape));

    let output =
        netmon(&["--color", "auto", "--source", DEMO, "interfaces"]).env("NO_COLOR", "1").output().unwrap();
    assert!(!stdout(&output).contains(escape));
}

#[test]
fn the_source_can_come_from_the_environment() {
    let output = netmon(&["interfaces", "--now", "-o", "json"]).env("NETMON_SOURCE", DEMO).output().unwrap();
    assert_eq!(json(&output)["host"], "demo");
}

#[test]
fn live_rates_of_the_loopback_need_no_privilege_and_equal_the_kernels_window() {
    let answer = json(&run(&["pps", "--iface", "lo", "--window", "0.3", "--hook", "none", "-o", "json"]));
    assert_eq!(answer["coverage"]["source"], "live");
    assert_eq!(answer["rates"].as_array().unwrap().len(), 2);
    let seconds = answer["window"]["seconds"].as_f64().unwrap();
    assert!(seconds >= 0.3 && seconds < SLACK.as_secs_f64(), "{seconds}");
    for rate in answer["rates"].as_array().unwrap() {
        let expected = rate["packets"].as_f64().unwrap() / seconds;
        assert!((rate["packets_per_second"].as_f64().unwrap() - expected).abs() < 1e-6);
    }
}

#[test]
fn a_watch_writes_each_line_at_once_and_ctrl_c_ends_it_in_order() {
    let mut child =
        netmon(&["pps", "--iface", "lo", "--watch", "--window", "0.2", "--hook", "none", "-o", "jsonl"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["type"], "rate");

    interrupt(&child, rustix::process::Signal::INT);
    let rest: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let end = rest.last().unwrap();
    assert_eq!(end["type"], "end");
    assert_eq!(end["coverage"]["source"], "live");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn ctrl_c_and_sigterm_end_a_measurement_at_once() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let mut child = netmon(&["-vv", "pps", "--iface", "lo", "--window", "60s"])
            .env("RUST_LOG", "trace")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let start = Instant::now();
        interrupt(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(start.elapsed() < SLACK);
    }
}

#[test]
fn what_is_recorded_answers_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("live.jsonl");
    let path_text = path.to_str().unwrap();
    let record =
        ["record", path_text, "--iface", "lo", "--duration", "0.6", "--interval", "0.2", "-o", "json"];
    let recorded = json(&run(&record));
    let samples = recorded["samples"].as_u64().unwrap();
    assert!((2..=4).contains(&samples), "{recorded}");
    assert_eq!(recorded["bytes"], fs::metadata(&path).unwrap().len());

    let again = run(&record);
    assert_eq!(again.status.code(), Some(3));
    assert!(
        String::from_utf8_lossy(&again.stderr)
            .contains("the file exists; choose another name, or replace it with --force")
    );
    json(&run(&[&record[..], &["--force"]].concat()));

    let source = format!("replay:{path_text}");
    let answer = json(&run(&["--source", &source, "pps", "--iface", "lo", "--window", "0.4", "-o", "json"]));
    assert_eq!(answer["coverage"]["source"], "replay");
    assert_eq!(answer["rates"].as_array().unwrap().len(), 2);
}

#[test]
fn a_recorder_that_is_interrupted_leaves_a_whole_recording() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("live.jsonl");
    let mut child = netmon(&["record", path.to_str().unwrap(), "--iface", "lo", "--interval", "0.1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + SLACK;
    while fs::read_to_string(&path).unwrap_or_default().lines().count() < 4 {
        assert!(Instant::now() < deadline, "no samples after {SLACK:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    interrupt(&child, rustix::process::Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(fs::read_to_string(&path).unwrap().ends_with('\n'));
}

#[test]
fn completions_and_manual_pages_are_made_for_every_shell_and_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&run(&["completions", shell]));
        assert!(script.contains("interfaces") && script.contains("watch"), "{shell}");
    }
    assert!(stdout(&run(&["man"])).contains(".TH netmon-cli 1"));

    let directory = tempfile::tempdir().unwrap();
    let output = run(&["man", "--dir", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    let mut pages: Vec<PathBuf> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    let names: Vec<_> = pages.iter().map(|page| page.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "netmon-cli-completions.1",
            "netmon-cli-connections.1",
            "netmon-cli-doctor.1",
            "netmon-cli-interfaces.1",
            "netmon-cli-listeners.1",
            "netmon-cli-man.1",
            "netmon-cli-patterns.1",
            "netmon-cli-pps.1",
            "netmon-cli-record.1",
            "netmon-cli-sockets.1",
            "netmon-cli-summary.1",
            "netmon-cli.1"
        ]
    );
    assert!(fs::read_to_string(Path::new(&pages[7])).unwrap().contains(".TH netmon-cli-pps 1"));
}
