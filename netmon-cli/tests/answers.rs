//! Each command's JSON is what its checked-in schema says, and each question has the same answer however it is asked.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use netmon_core::{
    CapabilitiesAnswer, ConnectionsAnswer, Diagnosis, DiffAnswer, InterfacesAnswer, ListenersAnswer,
    PacketDrops, PatternsAnswer, RatesAnswer, RunAnswer, SocketsAnswer, SummaryAnswer,
    monitor::{InsightsAnswer, RecordAnswer},
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};
use support::{CLI, DEMO, Daemon};

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schemas");

fn schema_of<A: JsonSchema>(command: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<A>().to_value();
    schema["title"] = format!("netmon-cli {command} -o json").into();
    // The same bytes whatever features of serde_json another crate of the build asked for.
    schema.sort_all_objects();
    schema
}

/// The schema of what each command prints with `-o json`.
fn schemas() -> Vec<(&'static str, Value)> {
    fn of<A: JsonSchema>(command: &'static str) -> (&'static str, Value) {
        (command, schema_of::<A>(command))
    }
    vec![
        of::<ConnectionsAnswer>("connections"),
        of::<Diagnosis>("diagnose"),
        of::<DiffAnswer>("diff"),
        of::<CapabilitiesAnswer>("doctor"),
        of::<PacketDrops>("drops"),
        of::<InsightsAnswer>("insights"),
        of::<InterfacesAnswer>("interfaces"),
        of::<ListenersAnswer>("listeners"),
        of::<PatternsAnswer>("patterns"),
        of::<RatesAnswer>("pps"),
        of::<RecordAnswer>("record"),
        of::<RunAnswer>("run"),
        of::<SocketsAnswer>("sockets"),
        of::<SummaryAnswer>("summary"),
    ]
}

fn schema_file(command: &str) -> PathBuf {
    Path::new(SCHEMAS).join(format!("{command}.json"))
}

#[test]
fn the_schemas_that_are_checked_in_are_those_of_the_answers() {
    let update = std::env::var_os("NETMON_UPDATE").is_some();
    let mut names = Vec::new();
    for (command, schema) in schemas() {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let file = schema_file(command);
        if update {
            fs::write(&file, &text).unwrap();
        }
        let there = fs::read_to_string(&file).unwrap_or_default();
        assert!(there == text, "{} is stale: run this test with NETMON_UPDATE=1", file.display());
        names.push(format!("{command}.json"));
    }
    let mut files: Vec<String> = fs::read_dir(SCHEMAS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
        .collect();
    files.sort();
    assert_eq!(files, names, "a schema is of no command");
}

/// The schema with nothing allowed that it does not name: what is printed and not described is a fault here, and a
/// later version's addition for readers.
fn strict(mut schema: Value) -> Value {
    fn close(schema: &mut Value) {
        match schema {
            Value::Object(object) => {
                object.values_mut().for_each(close);
                if object.get("properties").is_some_and(Value::is_object) {
                    object.entry("additionalProperties").or_insert(false.into());
                }
            }
            Value::Array(values) => values.iter_mut().for_each(close),
            _ => {}
        }
    }
    close(&mut schema);
    schema
}

#[track_caller]
fn assert_valid(command: &str, answer: &Value) {
    let text = fs::read_to_string(schema_file(command)).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    for schema in [schema.clone(), strict(schema)] {
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(answer)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{command}: {errors:#?}\n{answer:#}");
    }
}

/// The JSON that a command prints.
#[track_caller]
fn cli(source: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(CLI);
    let output = command.args(["--source", source, "-o", "json"]).args(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// A question in each of its forms.
struct Question {
    /// The command, whose name is that of its schema, and its arguments.
    cli: &'static [&'static str],
    /// The path below `/v1` and the request, where the daemon answers it.
    http: Option<(&'static str, Value)>,
    /// The tool and its arguments, where there is one.
    mcp: Option<(&'static str, Value)>,
    /// Places of the answer that have to be in all of them; what else is in two of them has to be equal as well.
    holds: &'static [&'static str],
}

fn questions() -> Vec<Question> {
    vec![
        Question {
            cli: &["connections", "--process", "curl", "--sort", "bytes"],
            http: Some(("connections", json!({"process": "curl", "sort": "bytes"}))),
            mcp: None,
            holds: &["/total", "/by_state/failed", "/connections/0/payload_bytes/received"],
        },
        Question {
            cli: &["connections", "--filter", "failed and port == 5432", "--limit", "3"],
            http: Some(("connections", json!({"filter": "failed and port == 5432", "limit": 3}))),
            mcp: None,
            holds: &["/total", "/next_cursor", "/connections/2/error/errno"],
        },
        Question {
            cli: &["summary", "--since", "20s"],
            http: Some(("summary", json!({"since": 20}))),
            mcp: None,
            holds: &["/total_attempts", "/failed", "/payload_bytes/sent", "/by_destination/0/attempts"],
        },
        Question {
            cli: &["summary", "--process", "curl", "--since", "20s"],
            http: Some(("summary", json!({"process": "curl", "since": 20}))),
            mcp: Some(("get_network_summary", json!({"process_name": "curl", "since": "20s"}))),
            holds: &["/total_attempts", "/failed", "/payload_bytes/sent", "/by_destination/0/attempts"],
        },
        Question {
            cli: &["patterns", "--process", "python3", "--since", "30s"],
            http: Some(("patterns", json!({"process": "python3", "since": 30}))),
            mcp: Some(("analyze_patterns", json!({"process_name": "python3", "since": "30s", "limit": 20}))),
            holds: &["/attempts", "/destinations/0/connections"],
        },
        Question {
            cli: &["connections", "--filter", "failed and port == 5432", "--since", "30s"],
            http: Some(("connections", json!({"filter": "failed and port == 5432", "since": 30}))),
            mcp: Some((
                "list_connections",
                json!({"filter": "failed and port == 5432", "since": "30s", "limit": 50}),
            )),
            holds: &["/total", "/connections/2/error/errno"],
        },
        Question {
            cli: &["drops", "--since", "20s"],
            http: Some(("drops", json!({"since": 20}))),
            mcp: Some(("list_packet_drops", json!({"since": "20s", "limit": 50}))),
            holds: &["/total", "/by_reason/0/packets", "/drops/0/local_port"],
        },
        Question {
            cli: &["diagnose"],
            http: Some(("diagnose", json!({}))),
            mcp: Some(("diagnose", json!({"limit": 50}))),
            holds: &["/total", "/findings/0/evidence/numbers/0/value", "/checked/0/outcome"],
        },
        Question {
            cli: &["insights"],
            http: None,
            mcp: Some(("ai_insights", json!({"response_format": "detailed"}))),
            holds: &["/total", "/findings/0/evidence/numbers/0/value", "/ai_hint"],
        },
        Question {
            cli: &["patterns"],
            http: Some(("patterns", json!({}))),
            mcp: None,
            holds: &["/attempts", "/failure_ratio", "/scans/0"],
        },
        Question {
            cli: &["sockets", "--port", "443"],
            http: Some(("sockets", json!({"port": 443}))),
            mcp: None,
            holds: &["/total", "/sockets/0/local/port"],
        },
        Question {
            cli: &["listeners"],
            http: Some(("listeners", json!({}))),
            mcp: None,
            holds: &["/total", "/listeners/0/local/port"],
        },
        Question {
            cli: &["interfaces", "--window", "2s"],
            http: Some(("interfaces", json!({"window": 2.0}))),
            mcp: None,
            holds: &["/window/seconds", "/interfaces/1/name"],
        },
        Question {
            cli: &["pps", "--iface", "eth0", "--direction", "in", "--window", "3s"],
            http: Some(("rates", json!({"interfaces": ["eth0"], "direction": "in", "window": 3.0}))),
            mcp: Some((
                "network-monitor",
                json!({"interface": "eth0", "operation": "incoming", "duration": 3}),
            )),
            holds: &[
                "/window/seconds",
                "/rates/0/packets",
                "/rates/0/bytes_per_second",
                "/rates/0/by_protocol",
            ],
        },
        Question {
            cli: &["doctor"],
            http: Some(("capabilities", json!({}))),
            mcp: Some(("capabilities", json!({}))),
            holds: &["/hooks/0/status", "/features/0/status"],
        },
        Question {
            cli: &["diff", "--since", "10s"],
            http: Some(("diff", json!({"since": 10}))),
            mcp: None,
            holds: &["/total", "/before/connections", "/differences/1/remotes/count"],
        },
    ]
}

/// What the daemon answers on its socket.
#[track_caller]
fn http(socket: &Path, path: &str, request: &Value) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    let body = request.to_string();
    let head = format!(
        "POST /v1/{path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.lines().next().unwrap().contains(" 200 "), "{reply}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {reply}"))
}

/// What the MCP server's tool answers, each in a session of its own.
#[track_caller]
fn mcp(tool: &str, arguments: &Value) -> Value {
    let mut server = Command::new(support::netmon_mcp())
        .args(["--source", DEMO])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut requests = server.stdin.take().unwrap();
    let client = json!({"name": "test", "version": "1"});
    let messages = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}),
    ];
    for message in messages {
        writeln!(requests, "{message}").unwrap();
    }
    let answers = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut answers = answers.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut answer = answers.find(|message| message["id"] == 2).unwrap();
    drop(requests);
    assert!(server.wait().unwrap().success());
    assert_eq!(answer["result"]["isError"], false, "{answer:#}");
    answer["result"]["structuredContent"].take()
}

/// Whatever both tell is the same: a front end may leave out what would be too long, and never tells another number.
fn assert_same(one: &Value, other: &Value, place: &str) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in one {
                if let Some(counterpart) = other.get(key) {
                    assert_same(value, counterpart, &format!("{place}/{key}"));
                }
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            assert_eq!(one.len(), other.len(), "{place}");
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                assert_same(one, other, &format!("{place}/{index}"));
            }
        }
        _ => assert_eq!(one, other, "{place}"),
    }
}

#[test]
fn a_question_has_one_answer_by_command_line_http_and_mcp_and_it_is_as_its_schema_says() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sock");
    let _daemon = Daemon::on(&socket, DEMO);
    for question in questions() {
        let answer = cli(DEMO, question.cli);
        assert_valid(question.cli[0], &answer);
        let has_all = |answer: &Value, by: &str| {
            for place in question.holds {
                assert!(
                    answer.pointer(place).is_some(),
                    "{:?} by {by}: no {place} in {answer:#}",
                    question.cli
                );
            }
        };
        has_all(&answer, "command line");
        let through = cli(&format!("unix:{}", socket.display()), question.cli);
        assert_eq!(through, answer, "{:?} through the daemon", question.cli);
        if let Some((path, request)) = &question.http {
            assert_eq!(http(&socket, path, request), answer, "{:?} by HTTP", question.cli);
        }
        if let Some((tool, arguments)) = &question.mcp {
            let told = mcp(tool, arguments);
            has_all(&told, tool);
            assert_same(&answer, &told, tool);
        }
    }
}

#[test]
fn what_is_not_of_a_recording_is_as_its_schema_says_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("live.jsonl");
    let record = ["record", file.to_str().unwrap(), "--duration", "0.3", "--interval", "0.1"];
    assert_valid("record", &cli("live", &record));

    let profile = cli("live", &["run", "--fail-on", "remote.port == 1", "--", "true"]);
    assert_valid("run", &profile);
    assert_eq!(profile["exit"], json!({"status": 0}));
    assert_eq!(profile["fail_on"]["matched"], 0);
}

#[test]
fn commands_have_a_schema_each() {
    let help = Command::new(CLI).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What a line has no room for is below it, farther to the right.
    let commands = commands.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let names: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 10, "{help}");
    // These print no answer.
    let others = ["completions", "help", "man", "shell", "tools", "top"];
    for name in names.iter().filter(|name| !others.contains(name)) {
        assert!(schema_file(name).exists(), "no schema of {name}");
    }
}
