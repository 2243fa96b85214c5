//! What manuals show works: every example of `--help`, every session of the manuals of netspy, completions and man pages.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    collections::HashSet,
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output, Stdio},
};

use support::{CLI, DEMO, Daemon};
use tempfile::TempDir;
use terminal::Terminal;

/// The commands that `--help` lists, without `help` itself.
fn commands() -> Vec<String> {
    let help = Command::new(CLI).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let names = names.filter_map(|line| line.split_whitespace().next().map(str::to_owned));
    names.filter(|name| name != "help").collect()
}

/// The examples of a help text, without what stands beside them.
fn examples(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let lines = lines.take_while(|line| line.starts_with("  ")).map(str::trim);
    lines.map(|line| line.split("  ").next().unwrap().to_owned()).collect()
}

/// A directory of a user who has recordings, a project, and programs for it.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let demo = fs::read(DEMO.strip_prefix("replay:").unwrap()).unwrap();
    for name in ["a.jsonl", "b.jsonl", "yesterday.jsonl"] {
        fs::write(home.path().join(name), &demo).unwrap();
    }
    fs::write(home.path().join("questions"), "interfaces --now\nsummary --process curl\n").unwrap();
    let programs = home.path().join("bin");
    fs::create_dir(&programs).unwrap();
    symlink(CLI, programs.join("netmon-cli")).unwrap();
    symlink(CLI, programs.join("netspy")).unwrap();
    for program in ["bin/curl", "bin/make", "bin/npm", "bin/man", "build"] {
        let path = home.path().join(program);
        fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for directory in [".config/fish/completions", "etc/bash_completion.d", "man1", "functions"] {
        fs::create_dir_all(home.path().join(directory)).unwrap();
    }
    home
}

/// A line of a manual, typed into a shell as it stands there, apart from places outside the user's own directory.
fn type_in(home: &Path, source: &str, line: &str) -> Output {
    // What is recorded by one example is asked by others.
    let today = home.join("today.jsonl");
    if line.contains(" record today.jsonl") && !line.contains("--force") {
        let _ = fs::remove_file(&today);
    } else {
        fs::copy(home.join("a.jsonl"), &today).unwrap();
    }
    let line = line.replace("/etc/", "etc/").replace("/usr/local/share/man/", "");
    // The recording has half a minute.
    let line = if line.contains(" diff ") {
        ["5m", "1h", "1m"]
            .iter()
            .fold(line, |line, since| line.replace(&format!("--since {since}"), "--since 10s"))
    } else {
        line
    };
    let path = format!("{}:{}", home.join("bin").display(), std::env::var("PATH").unwrap());
    Command::new("bash")
        .args(["-c", &format!("fpath=(unused functions); {line}")])
        .current_dir(home)
        .env("HOME", home)
        .env("PATH", path)
        .env("NETMON_SOURCE", source)
        .env("TZ", "UTC")
        .env_remove("NETMON_AI_MODEL")
        .stdin(fs::File::open(home.join("questions")).unwrap())
        .output()
        .unwrap()
}

fn all(output: &Output) -> String {
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    format!("{:?}\n{stdout}\n{stderr}", output.status.code())
}

/// All examples of the program.
fn all_examples() -> Vec<String> {
    let mut lines = Vec::new();
    for command in commands().iter().map(String::as_str).chain([""]) {
        let words: Vec<&str> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let help = String::from_utf8(Command::new(CLI).args(words).output().unwrap().stdout).unwrap();
        let examples = examples(&help);
        assert!(!examples.is_empty(), "no example of {command}");
        lines.extend(examples);
    }
    lines
}

/// The demo has something to diagnose.
fn finds(line: &str) -> bool {
    line.contains("netmon-cli diagnose") && !line.contains("||") && !line.contains("--process")
        || line.ends_with(" diagnose")
}

#[test]
fn every_example_of_every_help_runs() {
    let home = home();
    let lines = all_examples();
    assert!(lines.len() > 60, "{lines:#?}");
    for line in lines {
        // A command runs on this host.
        let live = line.contains("netmon-cli run ") || line.contains("--source live");
        let output = type_in(home.path(), if live { "live" } else { DEMO }, &line);
        let text = all(&output);
        let expected: &[i32] = if finds(&line) {
            &[1]
        } else if line.ends_with("live doctor") {
            // What is missing here is told.
            &[0, 1]
        } else {
            &[0]
        };
        assert!(output.status.code().is_some_and(|code| expected.contains(&code)), "{line}: {text}");
        assert!(!text.contains("error:"), "{line}: {text}");
        let writes = line.contains('>') && !line.contains("->") || line.contains("--dir");
        let silent = writes || line.contains("| man") || line.contains("netmon-cli run ");
        assert!(silent || !output.stdout.is_empty(), "{line}: {text}");
    }
    // They are where the examples put them.
    for file in ["etc/bash_completion.d/netmon-cli", "functions/_netmon-cli", "man1/netmon-cli-pps.1"] {
        assert!(home.path().join(file).exists(), "{file}");
    }
}

#[test]
fn every_example_runs_through_a_daemon_too() {
    let home = home();
    let socket = home.path().join("sock");
    let _daemon = Daemon::on(&socket, DEMO);
    let source = format!("unix:{}", socket.display());
    let own = ["--source", "netmon-cli run ", " man", "completions", "--before"];
    for line in all_examples().iter().filter(|line| !own.iter().any(|own| line.contains(own))) {
        let output = type_in(home.path(), &source, line);
        let expected = i32::from(finds(line));
        assert_eq!(output.status.code(), Some(expected), "{line}: {}", all(&output));
        assert!(!all(&output).contains("error:"), "{line}: {}", all(&output));
    }
}

/// Lines of the manuals of netspy, and what the answer begins with.
const OF_NETSPY: &[(&str, &str)] = &[
    ("summary", "All processes made 76 outbound connection attempts over the last 30 seconds"),
    ("summary --pid 1234", "No network connections found for PID 1234 in the last 30 seconds"),
    (
        "summary --pid 1234 --duration 120",
        "No network connections found for PID 1234 in the last 120 seconds",
    ),
    ("summary --process curl", "Process 'curl' made 8 outbound connection attempts over the last 30 seconds"),
    (
        "summary --process curl --duration 120",
        "Process 'curl' made 8 outbound connection attempts over the last 120 seconds",
    ),
    ("list", "Recent connection events (110 total):"),
    ("list --pid 1234", "No connection events found"),
    ("list --process nginx --max-events 10", "Recent connection events (31 total):"),
    ("list --max-events 20", "Recent connection events (110 total):"),
    ("analyze", "Connection Analysis:"),
    ("analyze --pid 1650 --duration 60", "Connection Analysis:"),
    ("analyze --process curl --duration 300", "Connection Analysis:"),
    (
        "insights \"Process 'curl' made 5 outbound connection attempts over the last 60 seconds\"",
        "4 findings in 30 s",
    ),
    ("insights", "4 findings in 30 s"),
    ("tools", ""),
    ("help", ""),
];

/// The same as single commands.
const SINGLE: &[(&str, &str)] = &[
    (
        "--tool get_network_summary --process curl",
        "Process 'curl' made 8 outbound connection attempts over the last 60 seconds",
    ),
    (
        "--tool get_network_summary --pid 1650 --duration 120",
        "PID 1650 made 6 outbound connection attempts over the last 120 seconds",
    ),
    ("--verbose --tool get_network_summary --process curl --duration 60", "Process 'curl' made 8 outbound"),
    ("--tool list_connections", "Recent connection events (110 total):"),
    ("--tool list_connections --process nginx --max-events 10", "Recent connection events (31 total):"),
    ("--tool analyze_patterns --pid 1650 --duration 60", "Connection Analysis:"),
    (
        "--tool ai_insights --summary-text \"Process 'curl' made 5 outbound connection attempts\"",
        "4 findings in 30 s",
    ),
    ("--tool get_packet_drop_summary --duration 60", "546 packets were dropped"),
    ("--tool list_packet_drops --max-events 5", "546 packets were dropped"),
    ("--tool contextual_analysis --query \"why does it fail?\"", "4 findings in 30 s"),
    ("--tool network-monitor --duration 5", "Incoming packets per second on eth0: 1000.00"),
];

#[test]
fn sessions_of_netspys_manual_can_be_typed_in_as_printed() {
    let home = home();
    let script: String = OF_NETSPY.iter().map(|(line, _)| format!("{line}\n")).collect();
    fs::write(home.path().join("questions"), script + "quit\nnever --reached\n").unwrap();
    let session = type_in(home.path(), DEMO, "netspy");
    assert_eq!(session.status.code(), Some(0), "{}", all(&session));
    let mut told = String::from_utf8(session.stdout).unwrap();
    for (line, begin) in OF_NETSPY {
        let at = told.find(begin).unwrap_or_else(|| panic!("{line}: no {begin:?} in what follows:\n{told}"));
        told.drain(..at + begin.len());
        // As a command of its own, too.
        let output = type_in(home.path(), DEMO, &format!("netspy {line}"));
        assert_eq!(output.status.code(), Some(0), "{line}: {}", all(&output));
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(begin), "{line}: {}", all(&output));
    }
}

#[test]
fn single_commands_of_netspys_manual_ask_the_server_that_they_name() {
    let home = home();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _daemon = Daemon::with(&home.path().join("sock"), DEMO, &["--http", "--port", &port.to_string()]);
    for (line, begin) in SINGLE {
        for server in [format!("--server http://127.0.0.1:{port} "), String::new()] {
            let output = type_in(home.path(), DEMO, &format!("netspy {server}{line}"));
            assert_eq!(output.status.code(), Some(0), "{server}{line}: {}", all(&output));
            assert!(String::from_utf8_lossy(&output.stdout).starts_with(begin), "{line}: {}", all(&output));
        }
    }
}

/// What bash offers for a line that somebody has begun to type.
fn offered_by_bash(script: &Path, words: &[&str]) -> Vec<String> {
    let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let previous = words.len().checked_sub(2).map_or("", |place| words[place]);
    let program = format!(
        "source '{}'; COMP_WORDS=({line}); COMP_CWORD={}; _netmon__cli netmon-cli '{}' '{previous}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.len() - 1,
        words.last().unwrap(),
    );
    let output = Command::new("bash").args(["-c", &program]).output().unwrap();
    assert!(output.status.success(), "{}", all(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn completions_load_and_complete() {
    let directory = tempfile::tempdir().unwrap();
    let mut checked = Vec::new();
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = directory.path().join(shell);
        fs::write(&script, Command::new(CLI).args(["completions", shell]).output().unwrap().stdout).unwrap();
        match Command::new(shell).arg(check).arg(&script).output() {
            Ok(output) => {
                assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {}", all(&output));
                checked.push(shell);
            }
            // Whoever has no such shell needs no completions for it.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{shell}"),
        }
    }
    assert!(checked.contains(&"bash"));
    let script = directory.path().join("bash");
    let offers = |words: &[&str], wanted: &[&str]| {
        let offered = offered_by_bash(&script, words);
        for wanted in wanted {
            assert!(
                offered.iter().any(|offered| offered == wanted),
                "{words:?}: {wanted} is not in {offered:?}"
            );
        }
    };
    let commands = commands();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    offers(&["netmon-cli", ""], &commands);
    offers(&["netmon-cli", "su"], &["summary"]);
    offers(&["netmon-cli", "summary", "--proc"], &["--process"]);
    offers(&["netmon-cli", "list", "--so"], &["--sort"]);
    offers(&["netmon-cli", "summary", "--output", ""], &["text", "json", "jsonl", "csv"]);
}

/// Whether there is such a shell here. Whoever has none needs no completions for it, and cannot see whether they work.
#[allow(clippy::print_stderr, reason = "a test that did not look says so")]
fn has(shell: &str) -> bool {
    let found = Command::new(shell).arg("--version").output();
    if let Err(error) = &found {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{shell}: {error}");
        eprintln!("skipped: {shell} is not installed, and its completions were not loaded");
    }
    found.is_ok()
}

/// A script for a shell, where the shell looks for it.
fn script(shell: &str, place: &Path) {
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(place, Command::new(CLI).args(["completions", shell]).output().unwrap().stdout).unwrap();
}

#[test]
fn fish_completes_subcommands_flags_and_values() {
    if !has("fish") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    script("fish", &home.path().join(".config/fish/completions/netmon-cli.fish"));
    let directory = Path::new(CLI).parent().unwrap().display();
    let path = format!("{directory}:{}", std::env::var("PATH").unwrap());
    // Each word with what it means behind a tab.
    let offered = |line: &str| -> Vec<String> {
        let output = Command::new("fish")
            .args(["-c", &format!("complete --do-complete '{line}'")])
            .env_clear()
            .env("HOME", home.path())
            .env("PATH", &path)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {}", all(&output));
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    };
    let all = offered("netmon-cli ");
    for command in commands() {
        assert!(all.contains(&command), "{command} is not in {all:?}");
    }
    assert_eq!(offered("netmon-cli summ"), ["summary"]);
    assert_eq!(offered("netmon-cli summary --proc"), ["--process"]);
    assert_eq!(offered("netmon-cli summary --output js"), ["json", "jsonl"]);
    assert_eq!(offered("netmon-cli summary --output=c"), ["--output=csv"]);
}

#[test]
fn zsh_completes_subcommands_flags_and_values() {
    if !has("zsh") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    script("zsh", &directory.path().join("functions/_netmon-cli"));
    let terminal = Terminal::start("zsh", &["-f", "-i"], 160, 40);
    // Without what the host's own start files and cache add.
    terminal.press(&format!(
        "PS1='ready> ' fpath=({}/functions $fpath); autoload -U compinit && compinit -u -D; clear\n",
        directory.path().display()
    ));
    terminal.wait_until("a prompt alone", |text| text.trim() == "ready>");
    for (begun, whole) in [
        ("netmon-cli summ", "netmon-cli summary "),
        ("netmon-cli summary --proc", "netmon-cli summary --process="),
        ("netmon-cli summary --output js", "netmon-cli summary --output json"),
        ("netmon-cli completions z", "netmon-cli completions zsh "),
    ] {
        terminal.press(begun);
        terminal.press("\t");
        // What is typed next shows where a word is whole.
        terminal.press("END");
        terminal.wait_for(&format!("ready> {whole}END"));
        terminal.press("\u{15}");
        terminal.wait_until("an empty line", |text| text.trim_end().ends_with("ready>"));
    }
}

#[test]
fn man_pages_are_well_formed() {
    let directory = tempfile::tempdir().unwrap();
    let pages = Command::new(CLI).args(["man", "--dir"]).arg(directory.path()).output().unwrap();
    assert!(pages.status.success());
    for page in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.contains(".SH NAME") && text.contains("Examples:"), "{}", page.display());
        match Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&page).output() {
            Ok(output) => assert!(output.status.success() && output.stderr.is_empty(), "{}", all(&output)),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}

/// Bad values of a flag; a flag that takes one and is not here fails the test.
fn bad_values(command: &str, flag: &str) -> &'static [&'static str] {
    match (command, flag) {
        ("run", "--report") => &["/nonexistent/report.json"],
        ("man", "--dir") => &["/nonexistent/pages", ""],
        // Any text is a question.
        ("insights", "--summary-text" | "--query") => &[],
        (_, "--pid" | "--port" | "--least-connections" | "--least-bytes") => {
            &["x", "-1", "99999999999999999999"]
        }
        (_, "--limit" | "--samples" | "--max-events") => &["0", "-1", "many"],
        (_, "--process" | "--user" | "--cgroup") => &[""],
        (_, "--protocol" | "--direction" | "--state" | "--sort" | "--hook" | "--view") => &["zzz", ""],
        (_, "--remote") => &["", "10.0.0.0/33", "1.2.3.4:80", "no such host"],
        (_, "--filter" | "--fail-on") => &["prot == 443", "port >", "("],
        (_, "--since" | "--interval") => &["0", "-5s", "soon", "9000000h", ""],
        // A window of 0 is a moment to most.
        (_, "--window" | "--duration") => &["-5s", "soon", ""],
        (_, "--factor") => &["0.5", "much", "nan", "-2"],
        (_, "--cursor") => &["nonsense", ""],
        (_, "--fields") => &["remot", ""],
        (_, "--reason") => &["", "no such"],
        // Whether there is one of that name is another question, with another status.
        (_, "--iface") => &[],
        (_, "--source" | "--before" | "--after") => &["bogus", "unix:", "replay:", "http://", ""],
        (_, "--output") => &["xml", ""],
        (_, "--color") => &["sometimes"],
        _ => panic!("no bad values of {command} {flag}"),
    }
}

/// The long names of the flags of a command that take a value.
fn flags(command: &str) -> Vec<String> {
    let help =
        String::from_utf8(Command::new(CLI).args([command, "--help"]).output().unwrap().stdout).unwrap();
    let lines = help.lines().filter_map(|line| line.trim_start().strip_prefix('-').map(|_| line.trim()));
    let with_value = lines.filter(|line| line.ends_with('>'));
    let long = with_value.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
    long.map(str::to_owned).collect()
}

#[test]
fn every_bad_value_of_every_flag_is_one_clear_line_with_status_2() {
    let mut told = String::new();
    let mut seen = HashSet::new();
    for command in commands() {
        for flag in flags(&command) {
            let values = bad_values(&command, &flag);
            // All of them with the first command that has the flag, which is the same flag elsewhere.
            let several = if seen.insert(flag.clone()) { values.len() } else { 1 };
            for value in values.iter().take(several) {
                told += &refused(&command, &flag, value);
            }
        }
    }
    insta::assert_snapshot!("bad_values", told);
}

/// What is said of a bad value.
fn refused(command: &str, flag: &str, value: &str) -> String {
    let value = format!("{flag}={value}");
    let beside: &[&str] = match (command, flag) {
        ("pps", "--samples") => &["--watch"],
        (_, "--after") => &["--before", DEMO],
        _ => &[],
    };
    let last: &[&str] = match command {
        "run" => &["--", "true"],
        "record" => &["/nonexistent/today.jsonl"],
        "completions" => &["bash"],
        _ => &[],
    };
    let line = [&[command], beside, &[&value], last].concat();
    let output = Command::new(CLI)
        .args(&line)
        .env("NETMON_SOURCE", if command == "run" || flag == "--source" { "live" } else { DEMO })
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let line = line.join(" ").replace(DEMO, "replay:demo.jsonl");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{line}: {}", all(&output));
    assert!(output.stdout.is_empty() && stderr.starts_with("error: "), "{line}: {}", all(&output));
    // What is wrong; the values there are; what to do next.
    let mistakes = stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert!(mistakes == 1 && stderr.lines().count() <= 7, "{line}: {stderr}");
    format!("$ netmon-cli {line}\n{stderr}\n")
}

#[test]
fn text_fits_the_terminal() {
    let commands: &[&[&str]] = &[
        &["summary"],
        &["patterns"],
        &["diagnose"],
        &["connections", "--limit", "6"],
        &["sockets"],
        &["listeners"],
        &["drops"],
        &["interfaces"],
        &["pps"],
        &["doctor"],
        &["diff", "--since", "10s"],
        &["tools"],
    ];
    // Those go on, line by line, and need some room.
    let watches: &[&[&str]] =
        &[&["connections", "--watch", "--limit", "5"], &["pps", "--watch", "--samples", "2"]];
    for columns in [40, 80, 120, 200] {
        let commands = if columns < 80 { commands.to_vec() } else { [commands, watches].concat() };
        let shown = on_terminal(columns, &["--color", "never"], &commands).ended().1;
        let wide = shown.lines().filter(|line| line.chars().count() > usize::from(columns));
        // A command to copy is not broken.
        let wide: Vec<&str> = wide.filter(|line| !line.starts_with("note: the next rows: ")).collect();
        assert!(wide.is_empty(), "at {columns}: {wide:#?}");
        insta::assert_snapshot!(format!("text_at_{columns}"), shown.replace(DEMO, "replay:demo.jsonl"));
    }
}

/// Commands one after the other on a terminal, each below its name.
fn on_terminal(columns: u16, options: &[&str], commands: &[&[&str]]) -> Terminal {
    let mut script = String::new();
    for command in commands {
        let words: Vec<&str> = [&["--source", DEMO], options, *command].concat();
        script.push_str(&format!("echo '$ {0}'; '{CLI}' {1}; echo; ", command.join(" "), words.join(" ")));
    }
    Terminal::start("sh", &["-c", &(script + "echo '$ end'")], columns, 1_000)
}

#[test]
fn colour_is_never_alone_and_no_color_wins() {
    let commands: &[&[&str]] =
        &[&["summary"], &["connections"], &["diagnose"], &["doctor"], &["interfaces"], &["patterns"]];
    let shown = |options: &[&str]| {
        let terminal = on_terminal(120, options, commands);
        terminal.wait_for("$ end");
        (terminal.colours(), terminal.ended().1)
    };
    let (colours, coloured) = shown(&[]);
    let (none, plain) = shown(&["--color", "never"]);
    assert_eq!(coloured, plain.replace("--color never ", ""));
    assert!(none.is_empty(), "{none:?}");
    // Black, white and their like are not seen on one terminal or another.
    assert!(!colours.is_empty());
    for colour in colours {
        assert!(matches!(colour, vt100::Color::Idx(1..=6)), "{colour:?}");
    }
}
