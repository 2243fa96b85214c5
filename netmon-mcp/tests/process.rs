//! The real program as a process: how it starts, measures this host, and ends.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{AT_ONCE, Client, DEMO, SLACK, demo, program, program_at};

fn loopback(duration: f64) -> Value {
    json!({"operation": "both", "interface": "lo", "duration": duration})
}

/// Tools that observe for a while where nobody did, and need no privilege for it.
const TIMED: [&str; 5] =
    ["get_network_summary", "list_connections", "analyze_patterns", "diagnose", "ai_insights"];

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_live_call_measures_this_host_with_progress() {
    let mut client = Client::with_handshake(&mut program());
    let id = client.begin_measurement(loopback(0.5));
    let result = client.response(id)["result"].take();
    let answer = &result["structuredContent"];
    assert_eq!(answer["coverage"]["source"], "live", "{result}");
    assert_eq!(answer["rates"].as_array().unwrap().len(), 2);
    assert!(answer["window"]["seconds"].as_f64().unwrap() >= 0.5);
    assert_eq!(answer["command"], "netmon-cli pps --iface lo --direction both --window 0.5s");

    let progress: Vec<_> = client.notifications.iter().map(|message| &message["params"]).collect();
    assert!(progress.iter().all(|progress| progress["progressToken"] == "measuring"));
    let steps: Vec<_> = progress.iter().map(|progress| progress["progress"].as_f64().unwrap()).collect();
    assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    let last = progress.last().unwrap();
    assert_eq!(last["progress"], last["total"], "{steps:?}");
}

#[test]
fn capabilities_of_this_host_are_told() {
    let answer = Client::with_handshake(&mut program()).answer("capabilities", json!({}));
    assert_eq!(answer["features"][0]["feature"], "interface_rates");
    assert_eq!(answer["features"][0]["status"], "works");
    assert_eq!(answer["command"], "netmon-cli doctor");
}

#[test]
fn calls_at_once_do_not_wait_for_each_other() {
    let mut client = Client::with_handshake(&mut program());
    let long = client.begin_measurement(loopback(60.0));
    let first = client.begin_call("network-monitor", loopback(0.5));
    let second = client.begin_call("network-monitor", loopback(0.2));
    let third = client.begin_call("capabilities", json!({}));
    let mut answered = Vec::new();
    while answered.len() < 3 {
        let message = client.next();
        if let Some(id) = message["id"].as_u64() {
            assert_eq!(message["result"]["isError"], false, "{message}");
            answered.push(id);
        }
    }
    assert!(!answered.contains(&long), "{answered:?}");
    for id in [first, second, third] {
        assert!(answered.contains(&id), "{answered:?}");
    }
}

#[test]
fn a_cancelled_call_ends_at_once_and_detaches() {
    for mut client in [Client::with_handshake(&mut program()), Client::stateless(&mut program())] {
        let id = client.begin_measurement(loopback(60.0));
        let cancelled = json!({"requestId": id, "reason": "changed my mind"});
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled}));

        let deadline = Instant::now() + AT_ONCE;
        while attachments(&client) > 0 {
            assert!(Instant::now() < deadline, "still attached");
            std::thread::sleep(Duration::from_millis(10));
        }
        // Nothing more is said of that call, and the next one is answered.
        client.result("tools/list", json!({}));
        client.notifications.clear();
        let next = client.begin_call("network-monitor", loopback(0.5));
        assert_eq!(client.response(next)["result"]["isError"], false);
        assert!(client.notifications.is_empty(), "{:?}", client.notifications);
        client.close();
        assert_eq!(client.wait(AT_ONCE).code(), Some(0));
    }
}

/// The BPF objects that the server holds: none ever where it may not use BPF.
fn attachments(client: &Client) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", client.pid())).unwrap();
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().contains("bpf"))
        .count()
}

#[test]
fn questions_about_connections_observe_with_progress_and_then_know_the_past() {
    let mut client = Client::with_handshake(&mut program());
    // Longer than it takes to attach on a busy machine.
    let id = client.begin_timed("get_network_summary", json!({"duration": 4}));
    let result = client.response(id)["result"].take();
    assert_eq!(result["isError"], false, "{result}");
    let seconds = result["structuredContent"]["window"]["seconds"].as_f64().unwrap();
    assert!((3.9..30.0).contains(&seconds), "{seconds}");
    let steps: Vec<_> =
        client.notifications.iter().map(|message| message["params"]["progress"].as_f64().unwrap()).collect();
    assert!(steps.windows(2).all(|pair| pair[0] < pair[1]) && steps.len() >= 2, "{steps:?}");

    // It went on recording: the next one is about a past at least as long, and takes no time.
    for tool in ["list_connections", "analyze_patterns", "get_network_summary"] {
        let answer = client.answer(tool, json!({"since": "0.4s"}));
        assert!(answer["window"]["seconds"].as_f64().unwrap() >= 0.4, "{answer}");
        assert!(
            answer["command"].as_str().unwrap().ends_with(" --since 0.4s --window 0.4s")
                || tool == "list_connections"
        );
    }
}

#[test]
fn a_cancelled_question_about_connections_leaves_nothing_attached() {
    for mut client in [Client::with_handshake(&mut program()), Client::stateless(&mut program())] {
        for tool in TIMED {
            let id = client.begin_timed(tool, json!({"since": "60s"}));
            let cancelled = json!({"requestId": id});
            client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled}));
            let deadline = Instant::now() + AT_ONCE;
            while attachments(&client) > 0 {
                assert!(Instant::now() < deadline, "{tool} is still attached");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let next = client.begin_call("capabilities", json!({}));
        assert_eq!(client.response(next)["result"]["isError"], false);
    }
}

#[test]
fn twenty_calls_at_once_share_one_attachment() {
    const CALLS: usize = 20;
    for (tool, given) in
        [("network-monitor", loopback(60.0)), ("get_network_summary", json!({"duration": 60}))]
    {
        let mut client = Client::with_handshake(&mut program());
        client.begin_timed(tool, given.clone());
        let one = attachments(&client);
        let tokens: Vec<String> = (1..CALLS).map(|call| format!("call {call}")).collect();
        for token in &tokens {
            client.request(
                "tools/call",
                json!({"name": tool, "arguments": given, "_meta": {"progressToken": token}}),
            );
        }
        // All of them measure when each has told so.
        let mut begun = std::collections::BTreeSet::new();
        while begun.len() < tokens.len() {
            let message = client.next();
            assert_eq!(message["method"], "notifications/progress", "{message}");
            let token = message["params"]["progressToken"].as_str().unwrap().to_owned();
            if tokens.contains(&token) {
                begun.insert(token);
            }
        }
        assert_eq!(attachments(&client), one, "{tool}");
        client.close();
        assert_eq!(client.wait(AT_ONCE).code(), Some(0));
    }
}

#[test]
fn a_client_that_goes_ends_the_server_also_in_a_call() {
    for tool in TIMED {
        let mut client = Client::with_handshake(&mut program());
        client.begin_timed(tool, json!({}));
        client.close();
        assert_eq!(client.wait(AT_ONCE).code(), Some(0), "{tool}");
    }
    let mut by_sockets = Client::by_sockets(&mut program());
    by_sockets.initialize();
    for mut client in [Client::with_handshake(&mut program()), Client::stateless(&mut program()), by_sockets]
    {
        client.begin_measurement(loopback(60.0));
        client.close();
        assert_eq!(client.wait(AT_ONCE).code(), Some(0));
    }
}

#[test]
fn a_client_that_goes_without_a_word_is_no_failure() {
    let output = run(&mut program());
    assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(0), 0, 0));

    let mut client = Client::silent(&mut program());
    client.close();
    assert_eq!(client.wait(AT_ONCE).code(), Some(0));
}

#[test]
fn signals_end_the_server_at_once_in_every_state() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut idle = Client::with_handshake(&mut program());
        let mut busy = Client::with_handshake(&mut program());
        busy.begin_measurement(loopback(60.0));
        // Only its own thread reads such a stdin, and blocks in it.
        let mut by_sockets = Client::by_sockets(&mut program());
        by_sockets.initialize();
        let mut silent = Client::silent(&mut program());
        // The handler is there when the first answer is; a ping is allowed before the handshake.
        assert!(silent.result("ping", json!({})).is_object());

        for client in [&mut idle, &mut busy, &mut by_sockets, &mut silent] {
            client.signal(signal);
            assert_eq!(client.wait(AT_ONCE).code(), Some(0), "{signal:?}");
        }
    }
}

#[test]
fn requests_from_a_shell_are_answered_though_it_closes_the_pipe() {
    let mut child = demo().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let requests = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "shell", "version": "1"}}}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
        json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "network-monitor", "arguments": {"operation": "in"}, "_meta": {"progressToken": 1}}}),
    ];
    let text: String = requests.iter().map(|request| format!("{request}\n")).collect();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();

    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 5, "three answers, two notes of progress: {lines:?}");
    assert_eq!(lines[4]["result"]["structuredContent"]["rates"][0]["packets"], 5_000);
}

#[test]
fn stdout_is_nothing_but_the_protocol_however_much_is_logged() {
    let mut command = program();
    let mut client = Client::with_handshake(command.env("RUST_LOG", "trace"));
    client.answer("network-monitor", loopback(0.1));
    client.answer("capabilities", json!({}));
    for tool in TIMED {
        client.answer(tool, json!({"since": 0.2}));
    }
    client.result("resources/read", json!({"uri": "netmon://interfaces"}));
    client.result("prompts/get", json!({"name": "what_changed"}));
    let log = client.finish();
    assert!(log.contains("TRACE"), "{log}");
    assert!(!log.contains('\u{1b}'), "colours in the log");
}

#[test]
fn without_privilege_totals_are_answered_and_the_rest_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let mut client = Client::with_handshake(unprivileged(directory.path()).env("RUST_LOG", "trace"));
    let result = client.call("network-monitor", loopback(0.1));
    assert_eq!(result["isError"], false, "{result}");
    let answer = &result["structuredContent"];
    assert_eq!(answer["rates"].as_array().unwrap().len(), 2);
    assert!(answer["rates"][0].get("by_protocol").is_none());
    let missing = answer["coverage"]["missing_hooks"].as_array().unwrap();
    assert!(!missing.is_empty(), "{result}");
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("\nnote: not shown: "), "{text}");
    assert!(client.call("capabilities", json!({})).to_string().len() < 8 * 1024);
    for tool in TIMED {
        let result = client.call(tool, json!({"since": 0.2}));
        assert_eq!(result["isError"], false, "{result}");
        assert!(
            !result["structuredContent"]["coverage"]["missing_hooks"].as_array().unwrap().is_empty(),
            "{result}"
        );
        let size = result.to_string().len();
        assert!(size < 8 * 1024, "{tool}: {size} bytes");
    }
    client.finish();
}

#[test]
fn while_a_model_writes_it_is_told_how_much() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let model = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            let mut some = [0; 4096];
            let length = client.read(&mut some).unwrap();
            request.extend_from_slice(&some[..length]);
        }
        client
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            .unwrap();
        for words in ["One refuses.", " So it is down."] {
            let part = json!({"choices": [{"delta": {"content": words}}]});
            client.write_all(format!("data: {part}\n\n").as_bytes()).unwrap();
            // Longer than progress is told in.
            std::thread::sleep(Duration::from_millis(1_500));
        }
        client.write_all(b"data: [DONE]\n\n").unwrap();
    });
    let mut command = demo();
    command.env("NETMON_AI_MODEL", "small").env("NETMON_AI_BASE_URL", url);
    let mut client = Client::with_handshake(&mut command);
    let given = json!({"name": "ai_insights", "arguments": {}, "_meta": {"progressToken": "writing"}});
    let result = client.result("tools/call", given);
    model.join().unwrap();
    assert_eq!(result["structuredContent"]["insights"], "One refuses. So it is down.", "{result}");
    assert!(result["content"][0]["text"].as_str().unwrap().starts_with("One refuses. So it is down.\n"));

    let told: Vec<_> = client.notifications.iter().map(|message| &message["params"]).collect();
    let steps: Vec<_> = told.iter().map(|told| told["progress"].as_f64().unwrap()).collect();
    assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    let said = |text: &str| told.iter().any(|told| told["message"] == text);
    assert!(said("the model has written 12 characters"), "{told:?}");
    assert!(said("the model has written 27 characters"), "{told:?}");
}

/// The program as somebody who may do nothing. As root that takes a user without name, and a copy that he can reach.
fn unprivileged(directory: &std::path::Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return program();
    }
    let copy = directory.join("netmon-mcp");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    // By another process: a program started meanwhile by another test would inherit the file as open for writing, and
    // such a file cannot be run.
    let installed =
        Command::new("install").args(["-m", "755", env!("CARGO_BIN_EXE_netmon-mcp")]).arg(&copy).status();
    assert!(installed.unwrap().success());
    let mut command = program_at("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]).arg(copy);
    command
}

#[test]
fn a_log_that_nobody_reads_does_not_end_the_server() {
    let mut command = demo();
    command.env("RUST_LOG", "trace");
    let mut client = Client::without_log(&mut command);
    client.initialize();
    assert_eq!(client.answer("network-monitor", json!({"operation": "in"}))["rates"][0]["packets"], 5_000);
    client.close();
    assert_eq!(client.wait(SLACK).code(), Some(0));
}

#[test]
fn the_source_can_come_from_the_environment() {
    let mut client = Client::with_handshake(program().env("NETMON_SOURCE", DEMO));
    assert_eq!(client.answer("capabilities", json!({}))["host"], "demo");
}

#[test]
fn the_only_mode_can_be_asked_for() {
    let mut client = Client::with_handshake(demo().arg("--read-only"));
    assert_eq!(client.answer("capabilities", json!({}))["host"], "demo");
}

#[test]
fn the_old_name_of_the_transport_is_understood_where_it_is_stdio() {
    for transport in ["", "stdio"] {
        assert_eq!(run(demo().env("MCP_TRANSPORT", transport)).status.code(), Some(0));
    }
}

#[test]
fn what_keeps_it_from_starting_is_one_line_on_stderr() {
    let told = |command: &mut Command| {
        let output = run(command);
        assert!(output.stdout.is_empty());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(
        told(program().args(["--source", "replay:/nowhere/x.jsonl"])),
        (
            Some(3),
            "error: recording /nowhere/x.jsonl: cannot open it: No such file or directory (os error 2)\n"
                .to_owned()
        )
    );
    assert_eq!(
        told(program().env("MCP_TRANSPORT", "sse")),
        (Some(2), "error: MCP_TRANSPORT is \"sse\"; it may be stdio or http\n".to_owned())
    );
    let (code, message) = told(program().env("MCP_TRANSPORT", "http").env("MCP_PORT", "http"));
    assert_eq!(code, Some(2));
    assert!(message.starts_with("error: MCP_PORT: \"http\" is no address to listen at"), "{message}");
    let (code, message) = told(program().args(["--http", "0.0.0.0"]));
    assert_eq!(code, Some(2));
    assert!(message.contains("write it like 127.0.0.1:7070"), "{message}");
    let (code, message) = told(program().arg("--http"));
    assert_eq!(code, Some(2), "{message}");
    let (code, message) = told(program().args(["--source", "nonsense"]));
    assert_eq!(code, Some(2));
    assert!(message.contains("http://HOST:PORT or replay:FILE"), "{message}");
}

#[test]
fn a_client_of_another_protocol_is_told_so() {
    let mut client = Client::silent(&mut program());
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    assert_eq!(client.wait(SLACK).code(), Some(1));
}

#[test]
fn help_shows_how_clients_start_it() {
    for (flag, name) in [("-h", "help_short"), ("--help", "help")] {
        let output = run(program().arg(flag));
        assert_eq!(output.status.code(), Some(0));
        insta::assert_snapshot!(name, String::from_utf8(output.stdout).unwrap());
    }
    let version = run(program().arg("--version")).stdout;
    assert_eq!(String::from_utf8(version).unwrap(), concat!("netmon-mcp ", env!("CARGO_PKG_VERSION"), "\n"));
}
