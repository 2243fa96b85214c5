//! The real program, started as users start it, mostly on the demo recording and without privilege.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, process::CommandExt as _},
    },
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

/// Status, stdout and stderr in one text, wherever the demo recording is.
fn all(output: &Output) -> String {
    format!(
        "status: {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().map_or("signal".to_owned(), |code| code.to_string()),
        stdout(output),
        String::from_utf8_lossy(&output.stderr)
    )
    .replace(DEMO, "replay:demo.jsonl")
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", all(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The lines of an answer of JSON lines.
fn json_lines(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{}", all(output));
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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
    for command in ["connections", "summary", "patterns", "diagnose", "sockets", "listeners"] {
        insta::assert_snapshot!(format!("{command}_text"), all(&demo(&[command])));
    }
    for command in ["connections", "summary", "patterns", "drops", "sockets", "listeners"] {
        insta::assert_snapshot!(format!("{command}_text"), all(&demo(&[command])));
    }
    insta::assert_snapshot!("diff_text", all(&demo(&["diff", "--since", "10s"])));
    insta::assert_snapshot!("diff_same_text", all(&demo(&["diff", "--before", DEMO])));
    let some = ["connections", "--process", "curl", "--since", "15s", "--sort", "received"];
    insta::assert_snapshot!("connections_filtered_text", all(&demo(&some)));
    insta::assert_snapshot!(
        "summary_filtered_text",
        all(&demo(&["summary", "--process", "curl", "--since", "60s"]))
    );
    insta::assert_snapshot!(
        "connections_watch_text",
        all(&demo(&["connections", "--watch", "--limit", "12"]))
    );
}

#[test]
fn every_command_prints_its_answer_for_machines() {
    for format in ["json", "jsonl", "csv"] {
        insta::assert_snapshot!(format!("pps_{format}"), all(&demo(&["pps", "-o", format])));
        insta::assert_snapshot!(format!("interfaces_{format}"), all(&demo(&["interfaces", "-o", format])));
        insta::assert_snapshot!(format!("doctor_{format}"), all(&demo(&["doctor", "-o", format])));
        let failed = ["connections", "--filter", "failed and port == 5432", "--limit", "2", "-o", format];
        insta::assert_snapshot!(format!("connections_{format}"), all(&demo(&failed)));
        let fields = ["--limit", "3", "--fields", "comm,remote,rtt_seconds,error", "-o", format];
        insta::assert_snapshot!(
            format!("connections_fields_{format}"),
            all(&demo(&[&["connections"], &fields[..]].concat()))
        );
        insta::assert_snapshot!(
            format!("connections_watch_fields_{format}"),
            all(&demo(&[&["connections", "--watch"], &fields[..]].concat()))
        );
        let summary = ["summary", "--process", "curl", "--since", "10s", "-o", format];
        insta::assert_snapshot!(format!("summary_{format}"), all(&demo(&summary)));
        let drops = ["drops", "--protocol", "udp", "--since", "15s", "-o", format];
        insta::assert_snapshot!(format!("drops_{format}"), all(&demo(&drops)));
        let patterns = ["analyze", "--process", "probe", "-o", format];
        insta::assert_snapshot!(format!("patterns_{format}"), all(&demo(&patterns)));
        let diagnose = ["diagnose", "--process", "python3", "-o", format];
        insta::assert_snapshot!(format!("diagnose_{format}"), all(&demo(&diagnose)));
        let diff = ["diff", "--window", "10s", "--filter", "remote == 192.0.2.77", "-o", format];
        insta::assert_snapshot!(format!("diff_{format}"), all(&demo(&diff)));
        insta::assert_snapshot!(
            format!("sockets_{format}"),
            all(&demo(&["sockets", "--port", "443", "--limit", "2", "-o", format]))
        );
        insta::assert_snapshot!(
            format!("listeners_{format}"),
            all(&demo(&["listeners", "--port", "22", "-o", format]))
        );
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
    let commands = [
        "connections",
        "summary",
        "patterns",
        "diagnose",
        "insights",
        "drops",
        "sockets",
        "listeners",
        "run",
        "diff",
        "interfaces",
        "pps",
        "top",
        "doctor",
        "record",
        "shell",
        "tools",
        "completions",
        "man",
    ];
    for command in commands {
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
        &["--source", "unix:", "pps"],
        &["--server", "http://secret@localhost:8080", "pps"],
        &["--server", "http://", "pps"],
        &["--source", "replay:", "pps"],
        &["interfaces", "--window", "0"],
        &["interfaces", "--now", "--window", "2s"],
        &["completions", "tcsh"],
        &["--source", DEMO, "connections", "--filter", "failed and prot == 443"],
        &["--source", DEMO, "summary", "--filter", "port >"],
        &["--source", DEMO, "patterns", "--remote", "10.0.0.0/33"],
        &["--source", DEMO, "sockets", "--process", ""],
        &["--source", DEMO, "connections", "--user", "no such user"],
        &["--source", DEMO, "connections", "--fields", "remot,state"],
        &["--source", DEMO, "connections", "--watch", "--fields", "nonesuch"],
        &["--source", DEMO, "connections", "--cursor", "nonsense"],
        &["connections", "--port", "65536"],
        &["connections", "--pid", "-1"],
        &["connections", "--protocol", "sctp"],
        &["connections", "--state", "established"],
        &["connections", "--sort", "size"],
        &["connections", "--limit", "0"],
        &["connections", "--since", "-5s"],
        &["--source", DEMO, "connections", "--since", "0"],
        &["--source", DEMO, "connections", "--window", "2h"],
        &["--source", DEMO, "patterns", "--window", "0"],
        &["--source", DEMO, "patterns", "--since", "0"],
        &["--source", DEMO, "diagnose", "--since", "200h"],
        &["diagnose", "--limit", "0"],
        &["connections", "--watch", "--since", "60s"],
        &["connections", "--watch", "--cursor", "x"],
        &["listeners", "--sort", "pid"],
        &["--source", DEMO, "drops", "--remote", "198.51.100.23"],
        &["--source", DEMO, "drops", "--window", "0"],
        &["run"],
        &["run", "--fail-on", "faild", "--", "true"],
        &["run", "--limit", "0", "--", "true"],
        &["--source", DEMO, "run", "--", "true"],
        &["--source", DEMO, "diff", "--factor", "0.5"],
        &["--source", DEMO, "diff", "--factor", "much"],
        &["--source", DEMO, "diff", "--since", "1h"],
        &["--source", DEMO, "diff", "--window", "0"],
        &["diff", "--after", DEMO],
        &["diff", "--before", "bogus"],
    ];
    let mut told = String::new();
    for arguments in cases {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", all(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = format!("$ netmon-cli {}\n{stderr}\n", arguments.join(" "));
        told.push_str(&line.replace(DEMO, "replay:demo.jsonl"));
    }
    insta::assert_snapshot!("mistakes", told);
}

#[test]
fn a_daemon_that_is_not_there_is_named_with_what_to_do() {
    let output = run(&["--source", "unix:/nonexistent/netmond.sock", "summary"]);
    assert_eq!(output.status.code(), Some(3), "{}", all(&output));
    let told = "error: cannot reach netmond at unix:/nonexistent/netmond.sock: there is no such socket: it is not running\n\
        hint: start it (sudo systemctl start netmond), or ask this host without it: --source live\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), told);
}

#[test]
fn a_process_that_is_not_there_is_an_empty_answer() {
    for filter in [&["--process", "nonesuch"], &["--pid", "4000000"]] {
        for command in ["connections", "summary", "patterns", "sockets", "listeners"] {
            let output = demo(&[&[command], &filter[..]].concat());
            assert_eq!(output.status.code(), Some(0), "{}", all(&output));
            assert!(stdout(&output).contains("o connections found") || stdout(&output).contains("No "));
        }
        let answer = json(&demo(&[&["connections", "-o", "json"], &filter[..]].concat()));
        assert_eq!((answer["total"].as_u64(), answer["connections"].as_array().unwrap().len()), (Some(0), 0));
    }
}

#[test]
fn a_diagnosis_ends_with_status_1_where_something_is_wrong_and_0_where_nothing_is() {
    let sick = demo(&["diagnose", "--limit", "1"]);
    assert_eq!(sick.status.code(), Some(1), "{}", all(&sick));
    assert!(stdout(&sick).starts_with("4 findings in 30 s"), "{}", all(&sick));

    let well = demo(&["diagnose", "--process", "nginx"]);
    assert_eq!(well.status.code(), Some(0), "{}", all(&well));
    assert!(stdout(&well).starts_with("Nothing found in 30 s"), "{}", all(&well));
    assert!(
        stdout(&well).contains("note: looked for and not found: refused_destination, "),
        "{}",
        all(&well)
    );
    assert_eq!(
        json(&demo(&["diagnose", "--process", "nonesuch", "-o", "json"]))["findings"],
        serde_json::json!([])
    );
}

#[test]
fn pages_hold_each_connection_once_whatever_they_are_sorted_by() {
    for sort in ["opened", "bytes", "process", "remote", "latency"] {
        for reverse in [&[][..], &["--reverse"]] {
            let question = [&["connections", "-o", "json", "--sort", sort][..], reverse].concat();
            let ids = |answer: &Value| -> Vec<String> {
                let rows = answer["connections"].as_array().unwrap();
                rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
            };
            let whole = ids(&json(&demo(&question)));
            assert_eq!(whole.len(), 110);

            let mut paged = Vec::new();
            let mut cursor: Option<String> = None;
            loop {
                let page = [&question[..], &["--limit", "37"]].concat();
                let next = cursor.iter().flat_map(|cursor| ["--cursor", cursor]).collect::<Vec<_>>();
                let answer = json(&demo(&[page, next].concat()));
                paged.extend(ids(&answer));
                assert_eq!(answer["coverage"]["truncated"], answer["next_cursor"].is_string());
                match answer["next_cursor"].as_str() {
                    Some(next) => cursor = Some(next.to_owned()),
                    None => break,
                }
            }
            assert_eq!(paged, whole, "{sort} {reverse:?}");
        }
    }
}

#[test]
fn a_page_of_text_ends_with_the_command_for_the_next_one() {
    let mut output = demo(&["connections", "--filter", "not process == \"it's\"", "--limit=60"]);
    let mut rows = 0;
    let mut pages = 0;
    loop {
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{}", all(&output));
        rows += text
            .lines()
            .filter(|line| ["open ", "closed ", "failed "].iter().any(|state| line.starts_with(state)))
            .count();
        pages += 1;
        let Some(next) = text.lines().find_map(|line| line.strip_prefix("note: the next rows: netmon-cli "))
        else {
            break;
        };
        let line = format!("'{}' {next}", env!("CARGO_BIN_EXE_netmon-cli"));
        output = Command::new("sh").args(["-c", &line]).output().unwrap();
    }
    assert_eq!((pages, rows), (2, 110));
}

#[test]
fn a_watch_of_a_recording_tells_every_change_and_ends_with_its_coverage() {
    let lines = json_lines(&demo(&["connections", "--watch", "-o", "jsonl"]));
    let (end, rows) = lines.split_last().unwrap();
    assert_eq!((&end["type"], &end["window"]["seconds"]), (&"end".into(), &30.0.into()));
    assert_eq!(end["coverage"]["lost_events"], 0);
    assert!(rows.iter().all(|row| row["type"] == "connection"));

    // The last row of each connection is as the list has it.
    let last = |id: &Value| rows.iter().rev().find(|row| row["id"] == *id);
    let listed = json(&demo(&["connections", "-o", "json"]));
    for connection in listed["connections"].as_array().unwrap() {
        if let Some(row) = last(&connection["id"]) {
            assert_eq!(row["state"], connection["state"], "{row}");
            assert_eq!(row["process"]["pid"], connection["process"]["pid"], "{row}");
        }
    }
    let failed = json_lines(&demo(&["connections", "--watch", "--state", "failed", "-o", "jsonl"]));
    assert!(failed.len() > 50 && failed[..failed.len() - 1].iter().all(|row| row["state"] == "failed"));

    let three = json_lines(&demo(&["connections", "--watch", "--limit", "3", "-o", "jsonl"]));
    assert_eq!(three.len(), 4);
}

#[test]
fn a_live_watch_tells_of_a_connection_and_ctrl_c_ends_it_in_order() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut child = netmon(&["--source", "live", "connections", "--watch", "--port", &port, "-o", "csv"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let heading = lines.next().unwrap().unwrap();
    assert!(heading.starts_with("id,protocol,direction,state,"), "{heading}");

    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains(&port), "{line}");
    drop(stream);
    interrupt(&child, rustix::process::Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Runs as nobody where this is root, from a place where nobody may.
fn without_privilege(directory: &Path, program: &str) -> Command {
    let place = directory.join(Path::new(program).file_name().unwrap());
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    if !place.exists() {
        fs::copy(program, &place).unwrap();
    }
    let mut command = Command::new(place);
    command.env_remove("NETMON_SOURCE").env("TZ", "UTC");
    if rustix::process::geteuid().is_root() {
        const NOBODY: u32 = 65_534;
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

#[test]
fn without_privilege_own_connections_are_listed_with_their_process() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let near = stream.local_addr().unwrap().port();
    // A process of the same user holds it.
    let mut holder = without_privilege(directory.path(), "/bin/sleep")
        .arg("600")
        .stdin(Stdio::from(OwnedFd::from(stream)))
        .spawn()
        .unwrap();
    let ask = |arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_netmon-cli");
        without_privilege(directory.path(), program)
            .args(["--source", "live"])
            .args(arguments)
            .args(["--port", &port, "-o", "json"])
            .output()
            .unwrap()
    };
    let listed = json(&ask(&["connections", "--window", "0"]));
    let observed = json(&ask(&["connections", "--window", "0.3", "--since", "60s"]));
    let summary = json(&ask(&["summary", "--window", "0.3"]));
    holder.kill().unwrap();
    holder.wait().unwrap();

    for answer in [&listed, &observed] {
        let rows = answer["connections"].as_array().unwrap();
        let row = rows.iter().find(|row| row["local"]["port"] == near).unwrap();
        assert_eq!(row["process"]["pid"], holder.id());
        assert_eq!(row["state"], "open");
        if rustix::process::geteuid().is_root() {
            assert_eq!(row["attribution"], "snapshot");
            assert_ne!(answer["coverage"]["missing_hooks"], serde_json::json!([]));
        }
    }
    assert!(observed["window"]["seconds"].as_f64().unwrap() < 60.0);
    let warnings = observed["coverage"]["warnings"].to_string();
    assert!(warnings.contains("asked for the last 60 s; observed"), "{warnings}");
    assert!(summary["connections"].as_u64().unwrap() >= 1);
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

    let cases: &[&[&str]] = &[
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["--version"],
        &["tools"],
        &["connections", "--watch"],
        &["connections", "-o", "csv"],
        &["summary", "-o", "json"],
        &["patterns"],
        &["insights"],
        &["insights", "--ai-dry-run"],
        &["drops"],
        &["sockets", "-o", "jsonl"],
        &["listeners"],
        &["interfaces"],
        &["pps"],
        &["diff", "--since", "10s"],
        &["top"],
        &["doctor"],
    ];
    for arguments in cases {
        let arguments = [&["--source", DEMO], *arguments].concat();
        let mut child = netmon(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
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
fn a_run_ends_as_its_command_ends() {
    let code = |arguments: &[&str]| {
        let output = run(&[&["--source", "live", "run"], arguments].concat());
        (output.status.code().unwrap(), stdout(&output), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, told, report) = code(&["--", "sh", "-c", "echo said; exit 7"]);
    assert_eq!((status, told.as_str()), (7, "said\n"));
    assert!(report.starts_with("'sh -c echo said; exit 7' ended with status 7 after "), "{report}");
    assert!(report.contains("\nNo connections of its processes, told by "), "{report}");

    let (status, _, report) = code(&["sh", "-c", "kill -TERM $$"]);
    assert_eq!(status, 143);
    assert!(report.contains("was ended by signal 15 after"), "{report}");

    let (status, _, report) = code(&["--", "/nonexistent/command", "--fail-on"]);
    assert_eq!(status, 127);
    assert!(report.starts_with("error: cannot run \"/nonexistent/command\": No such file"), "{report}");
    assert_eq!(code(&["--", "/etc/passwd"]).0, 126);

    let (status, _, report) = code(&["--fail-on", "remote == 192.0.2.1", "--", "true"]);
    assert_eq!(status, 0);
    assert!(report.contains("No connection matches \"remote == 192.0.2.1\""), "{report}");
}

#[test]
fn a_report_for_machines_is_never_mixed_with_what_the_command_says() {
    let output =
        run(&["--source", "live", "-o", "json", "run", "--", "sh", "-c", "echo said; echo wrong >&2"]);
    let profile = json(&output);
    assert_eq!(
        (&profile["command"], &profile["exit"]["status"]),
        (&"sh -c echo said; echo wrong >&2".into(), &0.into())
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "said\nwrong\n");

    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.jsonl");
    let file = report.to_str().unwrap();
    let output = run(&["--source", "live", "run", "-o", "jsonl", "--report", file, "--", "echo", "said"]);
    assert_eq!((stdout(&output).as_str(), output.stderr.as_slice()), ("said\n", &b""[..]));
    let end: Value =
        serde_json::from_str(fs::read_to_string(&report).unwrap().lines().last().unwrap()).unwrap();
    assert_eq!(end["type"], "end");

    let output = run(&["--source", "live", "run", "--report", "/nonexistent/report", "--", "echo", "said"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""), "{}", all(&output));
}

#[test]
fn a_signal_that_comes_to_netmon_alone_goes_to_the_command() {
    for (signal, name) in [(rustix::process::Signal::TERM, "TERM"), (rustix::process::Signal::INT, "INT")] {
        let script = format!("trap 'exit 9' {name}; echo ready; while :; do sleep 0.05; done");
        let mut child = netmon(&["--source", "live", "run", "--", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Where a terminal is, what is typed there goes to the foreground alone.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        interrupt(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(9), "{name}");
    }
}

#[test]
fn without_privilege_a_run_tells_what_it_can_miss() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Long enough to be seen, by a process whose parent is gone.
    let script = format!(
        "(setsid bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; echo $BASHPID; sleep 1; exec 3>&-' &); sleep 1.2"
    );
    let output = without_privilege(directory.path(), env!("CARGO_BIN_EXE_netmon-cli"))
        .args(["--source", "live", "run", "-o", "json", "--fail-on", "failed", "--", "sh", "-c", &script])
        .output()
        .unwrap();
    let profile = json(&output);
    let rows = profile["connections"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{profile:#}");
    assert_eq!(rows[0]["remote"]["port"], port);
    if rustix::process::geteuid().is_root() {
        assert_eq!(profile["membership"]["by"], "descent");
        let warnings = profile["coverage"]["warnings"].to_string();
        assert!(warnings.contains("told by their descent, since cannot make a control group"), "{warnings}");
        assert!(warnings.contains("no match proves nothing"), "{warnings}");
    }
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
            "netmon-cli-diagnose.1",
            "netmon-cli-diff.1",
            "netmon-cli-doctor.1",
            "netmon-cli-drops.1",
            "netmon-cli-insights.1",
            "netmon-cli-interfaces.1",
            "netmon-cli-listeners.1",
            "netmon-cli-man.1",
            "netmon-cli-patterns.1",
            "netmon-cli-pps.1",
            "netmon-cli-record.1",
            "netmon-cli-run.1",
            "netmon-cli-shell.1",
            "netmon-cli-sockets.1",
            "netmon-cli-summary.1",
            "netmon-cli-tools.1",
            "netmon-cli-top.1",
            "netmon-cli.1"
        ]
    );
    let rates = pages.iter().find(|page| page.ends_with("netmon-cli-pps.1")).unwrap();
    assert!(fs::read_to_string(rates).unwrap().contains(".TH netmon-cli-pps 1"));
}
