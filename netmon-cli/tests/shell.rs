//! The shell: typed into on a pseudo-terminal, and as a script; and netspy's single commands.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    num::NonZeroU16,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    termios::{LocalModes, tcgetattr},
};
use tempfile::TempDir;
use test_tag::tag;

const CLI: &str = env!("CARGO_BIN_EXE_netmon-cli");
const DEMO: &str = concat!("replay:", env!("CARGO_MANIFEST_DIR"), "/../netmon-core/recordings/demo.jsonl");
const LINES: NonZeroU16 = NonZeroU16::new(50).unwrap();
const COLUMNS: NonZeroU16 = NonZeroU16::new(120).unwrap();
const SLACK: Duration = netmon_testkit::PATIENCE;

/// The program on a terminal, with a state directory of its own.
struct Terminal {
    input: File,
    screen: Arc<Mutex<vt100::Parser>>,
    terminal: File,
    child: Child,
    state: TempDir,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    fn start_in(state: TempDir, arguments: &[&str]) -> Self {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(pty_process::Size::new(LINES.get(), COLUMNS.get())).unwrap();
        let pty = std::os::fd::OwnedFd::from(pty);
        let child = pty_process::blocking::Command::new(CLI)
            .args(arguments)
            .env("TERM", "xterm")
            .env("TZ", "UTC")
            .env("XDG_STATE_HOME", state.path())
            .env_remove("NETMON_SOURCE")
            .spawn(pts)
            .unwrap();
        let input = File::from(pty.try_clone().unwrap());
        let terminal = File::from(pty.try_clone().unwrap());
        let screen = Arc::new(Mutex::new(vt100::Parser::new(LINES, COLUMNS, 0)));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut output = File::from(pty);
            let mut bytes = [0; 4096];
            // The end is an error: there is nobody on the other side.
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..length]);
            }
        });
        Self { input, screen, terminal, child, state }
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until the screen is as it should be.
    fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + SLACK;
        loop {
            let text = self.text();
            if is(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "not shown: {what}\n{text}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn shows(&self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    /// The prompt, with nothing or this after it, is the last line.
    fn prompt(&self, typed: &str) -> String {
        let line = format!("netmon> {typed}");
        self.until(&line, |screen| {
            screen.trim_end().lines().last().unwrap_or_default().trim_end() == line.trim_end()
        })
    }

    fn type_in(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).unwrap();
    }

    /// Types a line on an empty screen, and waits for this in its output and for the next prompt.
    fn run(&mut self, line: &str, expected: &str) {
        self.prompt("");
        // Ctrl-L
        self.type_in("\x0c");
        self.until("an empty screen", |screen| screen.trim_end() == "netmon>");
        self.type_in(&format!("{line}\r"));
        self.shows(expected);
        self.prompt("");
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SLACK;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on\n{}", self.text());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the terminal shows what is typed and takes whole lines, as it did at first.
    fn is_as_before(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    fn history(&self) -> String {
        fs::read_to_string(self.state.path().join("netmon/history")).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_bare_command_on_a_terminal_is_a_shell_until_ctrl_d() {
    let mut terminal = Terminal::start(&["--source", DEMO]);
    let first = terminal.prompt("");
    assert_eq!(
        first.lines().collect::<Vec<_>>()[..2],
        [
            concat!(
                "netmon ",
                env!("CARGO_PKG_VERSION"),
                ": help lists the commands, Tab completes, Ctrl-C cancels, Ctrl-D leaves"
            ),
            "demo: a recording",
        ]
    );
    terminal.run(
        "summary --process curl --duration 120",
        "Process 'curl' made 8 outbound connection attempts over the last 120 seconds",
    );
    terminal.run("pps --iface eth9", "error: no interface named \"eth9\"; there are: lo, eth0, wg0, eth1");
    terminal.run("sumary", "tip: a similar subcommand exists: 'summary'");
    terminal.type_in("\x04");
    assert_eq!(terminal.ended().code(), Some(0));
    assert!(terminal.is_as_before());
}

#[test]
fn every_word_of_netspys_prompt_works_as_its_manual_prints_it() {
    let mut terminal = Terminal::start(&["--source", DEMO, "shell"]);
    let cases = [
        ("summary --pid 1650 --duration 120", "PID 1650 made "),
        ("list --max-events 2", "Recent connection events (110 total):"),
        ("analyze --process probe", "Connection Analysis:"),
        ("tools", "get_network_summary  summary"),
        ("help", "Lines are quoted as in sh"),
        ("help summary", "netmon-cli summary --user www-data -o json"),
        ("netspy --tool get_network_summary --process curl --duration 60", "over the last 60 seconds"),
    ];
    for (line, expected) in cases {
        terminal.run(line, expected);
    }
    terminal.type_in("exit\r");
    assert_eq!(terminal.ended().code(), Some(0));
}

#[test]
fn tab_completes_commands_flags_values_and_names_of_the_source() {
    let mut terminal = Terminal::start(&["--source", DEMO]);
    terminal.prompt("");
    let cases = [
        ("summ\t", "summary"),
        ("--proc\t", "summary --process"),
        ("cu\t", "summary --process curl"),
        ("--dur\t", "summary --process curl --duration"),
        ("60 -o js\t", "summary --process curl --duration 60 -o json"),
    ];
    for (typed, line) in cases {
        terminal.type_in(typed);
        terminal.prompt(line);
    }
    // Several: all of them are listed.
    terminal.type_in("\t\t");
    terminal.shows("jsonl");
    // Ctrl-C gives the line up, and no command runs.
    terminal.type_in("\x03");
    terminal.prompt("");
    terminal.type_in("pps --iface eth\t\t");
    let listed =
        terminal.until("both interfaces", |screen| screen.contains("eth0") && screen.contains("eth1"));
    assert!(!listed.contains("Incoming packets"), "{listed}");
}

#[test]
fn ctrl_c_cancels_what_runs_and_not_the_shell() {
    let mut terminal = Terminal::start(&["--source", "live"]);
    for line in ["pps --iface lo --window 60s --hook none", "pps --iface lo --watch --window 30s --hook none"]
    {
        terminal.prompt("");
        assert!(!terminal.is_as_before());
        terminal.type_in(&format!("{line}\r"));
        terminal.shows("measuring");
        terminal.type_in("\x03");
        terminal.run("interfaces --now", "INTERFACE");
    }
    terminal.type_in("quit\r");
    assert_eq!(terminal.ended().code(), Some(0));
}

#[test]
fn what_is_typed_ahead_is_run_in_its_turn() {
    let mut terminal = Terminal::start(&["--source", DEMO]);
    terminal.prompt("");
    terminal.type_in("interfaces --now\rtools\rpps --iface eth9\rquit\r");
    assert_eq!(terminal.ended().code(), Some(0));
    let text = terminal.shows("netmon> quit");
    assert!(
        text.contains("4 interfaces") && text.contains("analyze_patterns") && text.contains("eth9\"; there")
    );
}

#[test]
fn sigterm_leaves_the_terminal_as_it_was_at_the_prompt_and_in_a_command() {
    for line in ["", "pps --iface lo --window 60s --hook none\r"] {
        let mut terminal = Terminal::start(&["--source", "live"]);
        terminal.prompt("");
        terminal.type_in(line);
        if !line.is_empty() {
            terminal.shows("measuring");
        }
        kill_process(Pid::from_child(&terminal.child), Signal::TERM).unwrap();
        assert_eq!(terminal.ended().code(), Some(143));
        assert!(terminal.is_as_before());
    }
}

#[test]
fn history_is_kept_for_the_user_alone_and_without_what_is_private() {
    let mut terminal = Terminal::start(&["--source", DEMO]);
    terminal.run("interfaces --now", "INTERFACE");
    terminal.run(" doctor", "socket_iterator");
    terminal.run("--tool ai_insights --summary-text 'a secret'", "findings in");
    terminal.type_in("exit\r");
    assert_eq!(terminal.ended().code(), Some(0));
    assert_eq!(terminal.history(), "interfaces --now\nexit\n");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = terminal.state.path().join("netmon");
    assert_eq!((mode(&directory), mode(&directory.join("history"))), (0o700, 0o600));

    // The next shell has it.
    let state = std::mem::replace(&mut terminal.state, tempfile::tempdir().unwrap());
    let mut next = Terminal::start_in(state, &["--source", DEMO]);
    next.prompt("");
    next.type_in("\x1b[A\x1b[A");
    next.prompt("interfaces --now");
}

#[test]
fn without_a_place_for_history_the_shell_works_all_the_same() {
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("netmon"), "in the way").unwrap();
    let mut terminal = Terminal::start_in(state, &["--source", DEMO]);
    assert!(!terminal.prompt("").contains("error"));
    terminal.run("listeners", "LOCAL");
    terminal.type_in("quit\r");
    assert_eq!(terminal.ended().code(), Some(0));
}

#[test]
fn a_live_shell_remembers_what_happened_since_it_began() {
    let mut terminal = Terminal::start(&["--source", "live"]);
    let text = terminal.prompt("");
    assert!(text.contains("connections are recorded from now on, and --since asks about them"), "{text}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let held = (std::net::TcpStream::connect(address).unwrap(), listener.accept().unwrap());
    // Without privilege connections are looked at from time to time.
    let deadline = Instant::now() + SLACK;
    let line = format!("list --since 60s --port {} --fields local,remote -o jsonl", address.port());
    while !terminal.text().contains("\"type\":\"connection\"") {
        assert!(Instant::now() < deadline, "{}", terminal.text());
        terminal.run(&line, "\"type\":\"end\"");
        thread::sleep(Duration::from_millis(100));
    }
    drop(held);
    assert!(terminal.text().contains("asked for the last 60 s; only the last"), "{}", terminal.text());
}

#[tag(root)]
#[test]
fn a_privileged_shell_remembers_connections_that_are_over() {
    let mut terminal = Terminal::start(&["--source", "live"]);
    terminal.prompt("");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop((std::net::TcpStream::connect(address).unwrap(), listener.accept().unwrap()));
    let line =
        format!("list --duration 60 --port {} --direction out --fields state,pid -o jsonl", address.port());
    let row = format!("\"pid\":{}", std::process::id());
    let deadline = Instant::now() + SLACK;
    while !(terminal.text().contains(&row) && terminal.text().contains("\"state\":\"closed\"")) {
        assert!(Instant::now() < deadline, "{}", terminal.text());
        terminal.run(&line, "\"type\":\"end\"");
    }
}

/// With these lines as its standard input.
fn script(arguments: &[&str], lines: &str) -> Output {
    let mut child = Command::new(CLI)
        .args(arguments)
        .env_remove("NETMON_SOURCE")
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    child.wait_with_output().unwrap()
}

fn all(output: &Output) -> String {
    format!(
        "status: {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().map_or("signal".to_owned(), |code| code.to_string()),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
    .replace(DEMO, "replay:demo.jsonl")
}

#[test]
fn lines_from_a_pipe_are_a_script_that_ends_at_the_first_failure() {
    let lines = "\
# Comments and blank lines count for nothing.

netmon-cli summary --process 'curl' --since 10s   # as help prints it
list --max-events 2 -o csv --fields comm,remote
quit
listeners
";
    insta::assert_snapshot!("script", all(&script(&["--source", DEMO], lines)));
    let failing = "interfaces --now -o csv\nsummary --proces curl\nlisteners\n";
    insta::assert_snapshot!("script_failing", all(&script(&["--source", DEMO, "shell"], failing)));
}

#[test]
fn a_script_ends_with_the_status_of_what_failed() {
    let cases = [
        ("pps --iface eth9\ninterfaces\n", 4),
        ("--source unix:/nonexistent/sock summary\ninterfaces\n", 3),
        ("summary --filter 'port >'\ninterfaces\n", 2),
        ("summary 'not closed\ninterfaces\n", 2),
        ("-o json\ninterfaces\n", 2),
        ("shell\ninterfaces\n", 2),
        ("--tool nothing\ninterfaces\n", 2),
    ];
    for (lines, status) in cases {
        let output = script(&["--source", DEMO], lines);
        assert_eq!(output.status.code(), Some(status), "{lines}{}", all(&output));
        assert!(output.stdout.is_empty(), "{lines}{}", all(&output));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.ends_with("note: the script ends at line 1, which failed\n"), "{stderr}");
    }
    // What doctor finds is no failure, and told at the end.
    let directory = tempfile::tempdir().unwrap();
    let lacking = lacking(directory.path());
    let output = script(&["--source", &lacking], "doctor\ntools\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("TOOL"), "{}", all(&output));
}

/// The demo recording, made where XDP could not be used.
fn lacking(directory: &Path) -> String {
    let path = directory.join("lacking.jsonl");
    let works = r#"{"hook":"xdp","status":"works"}"#;
    let missing = r#"{"hook":"xdp","status":"missing","reason":"not permitted"}"#;
    let demo = fs::read_to_string(&DEMO["replay:".len()..]).unwrap();
    assert!(demo.contains(works));
    fs::write(&path, demo.replacen(works, missing, 1)).unwrap();
    format!("replay:{}", path.display())
}

#[test]
fn without_any_line_a_bare_command_prints_its_help() {
    for lines in ["", "\n\n"] {
        let output = script(&["--source", DEMO], lines);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("Usage: netmon-cli [OPTIONS] [COMMAND]"), "{stderr}");
        assert_eq!(script(&["--source", DEMO, "shell"], lines).status.code(), Some(0));
    }
    assert_eq!(script(&["--source", DEMO], "# nothing but this\n").status.code(), Some(0));
}

#[test]
fn what_the_shell_was_started_with_holds_unless_a_line_says_otherwise() {
    let output = script(
        &["--source", DEMO, "-o", "jsonl"],
        "interfaces --now\nlist --max-events 1 --fields comm -o csv\nlist --max-events 1 --fields comm\n",
    );
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("{\"type\":\"interface\""), "{}", all(&output));
    assert!(lines[5..].starts_with(&["from,to,seconds,comm"]), "{}", all(&output));
    assert!(lines[7].starts_with("{\"type\":\"connection\""), "{}", all(&output));
    // The environment is what it was started with, too.
    let mut child = Command::new(CLI)
        .env("NETMON_SOURCE", "live")
        .args(["--source", DEMO])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"interfaces --now -o json\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"host\": \"demo\""), "{}", all(&output));
}

#[test]
fn every_line_of_the_shell_is_a_command_line_and_the_other_way_round() {
    let lines = [
        "summary --process curl --duration 120",
        "list --pid 1650 --max-events 3",
        "connections --since 10s --limit 3",
        "analyze --duration 10",
        "pps --iface eth0 --duration 5",
        "sockets --max-events 2",
        "tools",
        "doctor",
        "help summary",
        "summary --help",
        "--version",
        "--tool list_connections --pid 1650 --max-events 3",
        "--tool capabilities",
        "--tool zzz",
        "summary --proces curl",
        "pps --window 2h",
        "quit",
    ];
    for line in lines {
        let words = shlex::split(line).unwrap();
        let arguments: Vec<&str> =
            ["--source", DEMO].into_iter().chain(words.iter().map(String::as_str)).collect();
        let outside =
            Command::new(CLI).args(&arguments).env("TZ", "UTC").stdin(Stdio::null()).output().unwrap();
        let inside = script(&["--source", DEMO], &format!("{line}\n"));
        assert_eq!(inside.status.code(), outside.status.code(), "{line}: {}", all(&inside));
        // The next page is asked for in the words of either.
        let text = |output: &Output| {
            let text =
                String::from_utf8_lossy(&output.stdout).replace(&format!("netmon-cli --source {DEMO} "), "");
            text.replace("note: the next rows: netmon-cli ", "note: the next rows: ")
                .replace("Usage: netmon-cli ", "Usage: ")
        };
        assert_eq!(text(&inside), text(&outside), "{line}");
        assert_eq!(inside.stderr.is_empty(), outside.stderr.is_empty(), "{line}: {}", all(&inside));
    }
}

fn tool(arguments: &[&str]) -> Output {
    Command::new(CLI)
        .args(arguments)
        .env("NETMON_SOURCE", DEMO)
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn netspys_single_commands_answer_in_its_words() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["get_network_summary", "--process", "curl", "--duration", "120"],
            "Process 'curl' made 8 outbound connection attempts over the last 120 seconds\n",
        ),
        (
            &["get_network_summary", "--pid", "1650", "--verbose"],
            "PID 1650 made 6 outbound connection attempts over the last 60 seconds\n",
        ),
        (
            &["get_network_summary", "--process", "nonesuch"],
            "No network connections found for process 'nonesuch' in the last 60 seconds\n",
        ),
        (&["list_connections", "--max-events", "2"], "Recent connection events (110 total):\n"),
        (&["list_connections", "--pid", "4000000"], "No connection events found\n"),
        (
            &["analyze_patterns", "--process", "curl", "--duration", "60"],
            "Connection Analysis:\n  Top destinations:\n",
        ),
        (&["network-monitor", "--duration", "5"], "Incoming packets per second on eth0: 1000.00 "),
    ];
    for (arguments, first) in cases {
        let output = tool(&[&["--tool"], *arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", all(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(first), "{arguments:?}: {text}");
    }
    let directory = tempfile::tempdir().unwrap();
    let doctor = tool(&["--source", &lacking(directory.path()), "--tool", "capabilities"]);
    assert_eq!(doctor.status.code(), Some(1), "{}", all(&doctor));
    let rows = tool(&["--tool", "list_connections", "--process", "curl", "-o", "json"]);
    let rows: serde_json::Value = serde_json::from_slice(&rows.stdout).unwrap();
    assert_eq!(rows["total"], 8);
}

#[test]
fn the_next_page_of_a_tools_answer_is_a_command_that_works() {
    let arguments = ["--source", DEMO, "--tool", "list_connections", "--max-events=60", "--duration", "60"];
    let first = String::from_utf8(tool(&arguments).stdout).unwrap();
    let next = first.lines().find_map(|line| line.strip_prefix("note: the next rows: netmon-cli ")).unwrap();
    assert!(next.starts_with(&format!("--source {DEMO} connections --duration=60 --limit 60 ")), "{next}");
    let output = Command::new("sh").args(["-c", &format!("'{CLI}' {next}")]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("; 50 shown"), "{}", all(&output));

    // In the shell as it is typed there.
    let output = script(&["--source", DEMO], "list --max-events 60\n");
    let text = String::from_utf8_lossy(&output.stdout);
    let next = text.lines().find_map(|line| line.strip_prefix("note: the next rows: ")).unwrap();
    assert!(next.starts_with("list --limit 60 --cursor "), "{next}");
    let output = script(&["--source", DEMO], &format!("{next}\n"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("; 50 shown"), "{}", all(&output));
}

#[test]
fn a_tool_that_there_is_not_and_flags_that_it_does_not_take_are_named() {
    let cases: &[&[&str]] = &[
        &["--tool", "get_network_sumary"],
        &["--tool", "list-connections"],
        &["--tool", "zzz"],
        &["--tool", "get_network_summary", "--pid", "x"],
        &["--tool", "get_network_summary", "--duration", "-1"],
        &["--tool", "list_connections", "--max-events", "0"],
        &["--tool", "list_connections", "--query", "why"],
        &["--tool", "network-monitor", "--pid", "1"],
        &["--tool", "capabilities", "--process", "curl"],
        &["--tool", "get_network_summary", "summary"],
        &["--tool"],
        &["--pid", "1"],
        &["--pid", "1", "summary"],
    ];
    let mut told = String::new();
    for arguments in cases {
        let output = tool(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", all(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
        told +=
            &format!("$ netmon-cli {}\n{}\n", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    insta::assert_snapshot!("tool_mistakes", told);
    // What makes no other answer of it is no mistake.
    let output = tool(&["--tool", "get_network_summary", "--max-events", "3"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "note: get_network_summary has no use for --max-events\n"
    );
}

#[test]
fn tools_and_the_shells_help_are_stable() {
    for format in ["text", "json", "jsonl", "csv"] {
        insta::assert_snapshot!(format!("tools_{format}"), all(&tool(&["tools", "-o", format])));
    }
    insta::assert_snapshot!("shell_help", all(&script(&["--source", DEMO], "help\n")));
}

#[test]
fn a_process_name_that_none_has_is_answered_with_the_nearest() {
    for command in ["summary", "connections", "patterns", "sockets", "listeners"] {
        let output = tool(&[command, "--process", "ngnix"]);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        let note = "note: no process with connections is called \"ngnix\"; did you mean \"nginx\"?";
        assert!(text.lines().any(|line| line == note), "{command}: {text}");
    }
    assert!(
        !String::from_utf8_lossy(&tool(&["summary", "--process", "zzz"]).stdout).contains("did you mean")
    );
}
