//! What the ebpf-server's clients and Prometheus find, on the demo recording and live.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::{TcpListener, TcpStream, UdpSocket},
    process::{Command, Stdio},
};

use netmon_testkit::{Netns, kernel_is_since};
use serde_json::{Value, json};
use support::{Daemon, Reply};
use test_tag::tag;

/// The keys that a client reads, with their values.
fn only(value: &Value, keys: &[&str]) -> Value {
    keys.iter().map(|key| ((*key).to_owned(), value[*key].clone())).collect()
}

#[test]
fn both_generations_find_their_keys_in_the_summary() {
    let daemon = Daemon::replaying(&[]);
    let first = daemon.post("/api/connection-summary", r#"{"pid": 0, "command": "curl", "duration": 20}"#);
    let keys = ["count", "total_attempts", "duration", "duration_seconds", "pid", "command", "message"];
    let expected = json!({
        "count": 5, "total_attempts": 5, "duration": 20, "duration_seconds": 20, "pid": 0, "command": "curl",
        "message": "Process 'curl' made 5 outbound connection attempts over the last 20 seconds",
    });
    assert_eq!(only(&first.json(), &keys), expected);
    assert!(first.json()["query_time"].is_string());
    let second = daemon.get("/api/connection-summary?process_name=curl&duration_seconds=20");
    assert_eq!(only(&second.json(), &keys), expected);

    let by_pid = daemon.get("/api/connection-summary?pid=1650").json();
    assert_eq!(by_pid["message"], "PID 1650 made 6 outbound connection attempts over the last 60 seconds");
    let nobody = daemon.get("/api/connection-summary?process_name=nobody").json();
    assert_eq!(nobody["count"], 0);
    assert_eq!(nobody["message"], "No network connections found for process 'nobody' in the last 60 seconds");
}

#[test]
fn both_generations_find_their_rows_in_the_list() {
    let daemon = Daemon::replaying(&[]);
    let list = daemon.get("/api/list-connections?pid=1650&limit=4").json();
    assert_eq!(
        only(&list, &["total_pids", "total_events", "truncated", "returned_events"]),
        json!({ "total_pids": 1, "total_events": 6, "truncated": true, "returned_events": 4 })
    );
    assert_eq!(
        list["connections"]["1650"][0],
        json!({ "pid": 1650, "command": "python3", "destination": "10.0.0.5:5432", "protocol": "TCP",
                "return_code": 111, "timestamp": "2026-03-01T12:30:25.7Z", "direction": "outbound" })
    );
    let event = &list["events_by_pid"]["1650"][0];
    assert_eq!(
        only(
            event,
            &[
                "type",
                "pid",
                "command",
                "timestamp",
                "time",
                "return_code",
                "destination_ip",
                "destination_port",
                "destination",
                "address_family",
                "protocol",
                "socket_type"
            ]
        ),
        json!({ "type": "connection", "pid": 1650, "command": "python3", "timestamp": 1_772_368_225_700_000_000_u64,
                "time": "2026-03-01T12:30:25.7Z", "return_code": 111, "destination_ip": "10.0.0.5",
                "destination_port": 5432, "destination": "10.0.0.5:5432", "address_family": 2, "protocol": "TCP",
                "socket_type": "STREAM" })
    );
    // A quiet process beside a noisy one is found: filters come before the limit.
    let quiet = daemon.get("/api/list-connections?command=restic&limit=1").json();
    assert_eq!(quiet["total_events"], 1);
    let udp = daemon.get("/api/events?command=sync").json();
    assert_eq!(
        only(&udp["events"][0], &["protocol", "socket_type"]),
        json!({ "protocol": "UDP", "socket_type": "DGRAM" })
    );
    let until = daemon.get("/api/events?pid=1650&until=2026-03-01T12:30:10Z").json();
    assert_eq!(
        only(&until, &["count", "total_events", "truncated"]),
        json!({ "count": 2, "total_events": 2, "truncated": false })
    );
}

#[test]
fn both_generations_find_dropped_packets() {
    let daemon = Daemon::replaying(&[]);
    let summary = daemon.get("/api/packet-drop-summary").json();
    assert_eq!(
        only(
            &summary,
            &["count", "total_drops", "duration", "duration_seconds", "pid", "command", "message"]
        ),
        json!({ "count": 546, "total_drops": 546, "duration": 60, "duration_seconds": 60, "pid": 0, "command": "",
                "message": "546 packets were dropped in 30 seconds: 18.2 a second, 42.4 kB" })
    );
    assert_eq!(summary["by_reason"][0]["reason"], "NO_SOCKET");
    let of_one = daemon.post("/api/packet-drop-summary", r#"{"command": "nginx", "duration": 20}"#).json();
    assert_eq!(only(&of_one, &["count", "command"]), json!({ "count": 3, "command": "nginx" }));

    let list = daemon.post("/api/list-packet-drops", r#"{"pid": 640}"#).json();
    assert_eq!(
        only(&list, &["total_pids", "total_drops", "total_events", "truncated"]),
        json!({ "total_pids": 1, "total_drops": 120, "total_events": 1, "truncated": false })
    );
    let expected = json!({ "type": "packet_drop", "pid": 640, "command": "systemd-resolve",
        "timestamp": 1_772_368_207_450_000_000_u64, "time": "2026-03-01T12:30:07.45Z",
        "drop_reason": "SOCKET_RCVBUFF", "skb_length": 66, "packets": 120, "protocol": "UDP", "local_port": 53 });
    let keys: Vec<&str> = expected.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(only(&list["drops"]["640"][0], &keys), expected);
    assert_eq!(list["events_by_pid"], list["drops"]);
    // What nobody owns is listed under 0, and not under who sent it.
    let all = daemon.get("/api/list-packet-drops?limit=1").json();
    assert_eq!(all["drops"]["0"][0]["drop_reason"], "NO_SOCKET");
    assert_eq!(only(&all, &["total_events", "truncated"]), json!({ "total_events": 4, "truncated": true }));
    let events = daemon.get("/api/events?type=packet_drop&command=nginx").json();
    assert_eq!(only(&events, &["count", "total_events"]), json!({ "count": 1, "total_events": 1 }));
    assert_eq!(
        only(&events["events"][0], &["reason", "pid"]),
        json!({ "reason": "TCP_OLD_DATA", "pid": 814 })
    );
}

#[test]
fn wrong_parameters_are_named_and_never_passed_over() {
    let daemon = Daemon::replaying(&[]);
    let large = format!("{{\"command\": \"{}\"}}", "x".repeat(70_000));
    let cases = [
        (daemon.get("/api/connection-summary?duration=0"), 400, "\"duration\" is 1 to 3600 seconds, not 0"),
        (daemon.get("/api/connection-summary?duration=3601"), 400, "not 3601"),
        (daemon.get("/api/connection-summary?duration=5&duration_seconds=6"), 400, "differ here"),
        (daemon.get("/api/connection-summary?pid=abc"), 400, "\"pid\" is a whole number, not \"abc\""),
        (daemon.get("/api/connection-summary?proces_name=x"), 400, "did you mean \"process_name\"?"),
        (daemon.get("/api/list-connections?limit=1001"), 400, "\"limit\" is 1 to 1000, not 1001"),
        (daemon.get("/api/list-connections?since=yesterday"), 400, "\"since\" is a time such as"),
        (daemon.get("/api/events?type=nonesuch"), 400, "\"type\" is connection or packet_drop"),
        (daemon.post("/api/connection-summary", "[1]"), 400, "it has to be an object"),
        (daemon.post("/api/connection-summary", &large), 413, "larger than 64 KiB"),
        (daemon.get("/api/nonesuch"), 404, "nothing at /api/nonesuch"),
        (daemon.post("/api/programs", "{}"), 405, "/api/programs cannot be asked with POST"),
        (daemon.get("/api/packet-drop-summary?duration=0"), 400, "\"duration\" is 1 to 3600 seconds, not 0"),
        (daemon.post("/api/list-packet-drops", r#"{"limit": 0}"#), 400, "\"limit\" is 1 to 1000, not 0"),
        (daemon.get("/api/events?type=packet_drop&until=5s"), 400, "\"until\" cannot choose"),
    ];
    for (reply, status, message) in cases {
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.headers["content-type"], "application/json");
        let body = reply.json();
        assert!(body["error"].as_str().is_some_and(|error| !error.is_empty()), "{reply:?}");
        assert!(body["message"].as_str().unwrap().contains(message), "{reply:?}");
    }
}

#[test]
fn health_and_programs_say_what_takes_part() {
    let daemon = Daemon::replaying(&[]);
    let health = daemon.get("/health");
    assert_eq!(health.status, 200);
    let health = health.json();
    assert_eq!(
        only(&health, &["status", "source", "lost_events"]),
        json!({ "status": "healthy", "source": "replay", "lost_events": 0 })
    );
    assert_eq!(health["active_hooks"].as_array().unwrap().len(), 10);
    let programs = daemon.get("/api/programs").json();
    assert_eq!(programs["total"], 10);
    assert_eq!(
        only(&programs["programs"][0], &["name", "attached"]),
        json!({ "name": "connect", "attached": true })
    );
}

/// The samples of an exposition, which is checked line by line.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let (mut described, mut family) = (BTreeSet::new(), String::new());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.last(), Some(&"# EOF"));
    for line in &lines[..lines.len() - 1] {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name) = (words.next().unwrap(), words.next().unwrap());
            assert!(["HELP", "TYPE", "UNIT"].contains(&kind), "{line}");
            if kind == "HELP" {
                assert!(described.insert(name.to_owned()), "{name} is described twice");
                name.clone_into(&mut family);
            }
            assert_eq!(name, family, "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert!(name.starts_with("netmon_") && name.starts_with(&family), "{line} is below {family}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
        if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            let labels = labels.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
            for label in labels.split("\",") {
                let (key, value) = label.split_once("=\"").unwrap();
                assert!(!["pid", "port", "address", "remote", "local", "uid"].contains(&key), "{line}");
                assert!(!value.contains('\n'), "{line}");
            }
        }
        assert!(
            samples.insert(series.to_owned(), value.parse().unwrap()).is_none(),
            "{series} is there twice"
        );
    }
    samples
}

/// As Prometheus asks.
fn scrape(daemon: &Daemon) -> Reply {
    daemon.ask(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n",
    )
}

#[test]
fn prometheus_reads_every_line() {
    let daemon = Daemon::replaying(&[]);
    let reply = scrape(&daemon);
    assert_eq!(reply.status, 200);
    assert!(reply.headers["content-type"].starts_with("application/openmetrics-text"), "{reply:?}");
    let samples = samples(&reply.body);
    let of =
        |series: &str| samples.get(series).copied().unwrap_or_else(|| panic!("{series}: {}", reply.body));
    assert_eq!(
        of("netmon_connections_failed_total{protocol=\"tcp\",direction=\"outbound\",error=\"ECONNREFUSED\"}"),
        55.0
    );
    assert_eq!(
        of("netmon_connections_failed_total{protocol=\"tcp\",direction=\"outbound\",error=\"ETIMEDOUT\"}"),
        1.0
    );
    assert_eq!(of("netmon_connections_open{protocol=\"tcp\",direction=\"inbound\"}"), 2.0);
    assert_eq!(of("netmon_packet_drops_total{reason=\"NO_SOCKET\"}"), 420.0);
    assert_eq!(of("netmon_packet_drops_total{reason=\"NOT_SPECIFIED\"}"), 3.0);
    assert_eq!(of("netmon_packet_drops_bytes_total{reason=\"SOCKET_RCVBUFF\"}"), 7_920.0);
    assert_eq!(of("netmon_hook_active{hook=\"set_state\"}"), 1.0);
    assert_eq!(of("netmon_events_lost_total{stage=\"kernel\"}"), 0.0);
    assert!(of("netmon_interface_packets_total{interface=\"eth0\",direction=\"incoming\"}") > 0.0);
    assert!(of("netmon_process_resident_memory_bytes") > 1e6);
}

#[test]
fn scrapers_from_before_openmetrics_are_told_the_same() {
    let daemon = Daemon::replaying(&[]);
    let reply = daemon.get("/metrics");
    assert!(reply.headers["content-type"].starts_with("text/plain; version=0.0.4"), "{reply:?}");
    let comments: Vec<&str> = reply.body.lines().filter(|line| line.starts_with('#')).collect();
    for line in &comments {
        assert!(line.starts_with("# HELP ") || line.starts_with("# TYPE "), "{line}");
    }
    for comment in [
        "# HELP netmon_build_info The daemon, and the kernel that it observes.",
        "# TYPE netmon_build_info gauge",
        "# TYPE netmon_connections_failed_total counter",
        "# TYPE netmon_connections_open gauge",
    ] {
        assert!(comments.contains(&comment), "{comment}: {}", reply.body);
    }
    // Debian's prometheus has a checker of its own. Status 3 is its opinion of names alone.
    if let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        promtool.stdin.take().unwrap().write_all(reply.body.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let opinion = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{opinion}");
    }
}

#[tag(root)]
#[test]
fn counters_rise_by_what_happens() {
    let netns = Netns::create();
    let daemon = Daemon::spawn(netns.command(env!("CARGO_BIN_EXE_netmond")), "", &[]);
    daemon.wait_ready();
    let before = samples(&scrape(&daemon).body);
    netns.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..20 {
            let client = TcpStream::connect(address).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            server.write_all(&[0; 100]).unwrap();
            drop(server);
            drop(client);
        }
        drop(listener);
        for _ in 0..5 {
            TcpStream::connect(address).unwrap_err();
        }
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..30 {
            sender.send_to(&[0; 100], address).unwrap();
        }
    });
    let after = samples(&scrape(&daemon).body);
    let rise = |series: &str| after.get(series).unwrap_or(&0.0) - before.get(series).unwrap_or(&0.0);
    let outbound = "{protocol=\"tcp\",direction=\"outbound\"}";
    assert!(rise(&format!("netmon_connections_opened_total{outbound}")) >= 25.0, "{after:?}");
    assert!(rise(&format!("netmon_connections_closed_total{outbound}")) >= 20.0, "{after:?}");
    let refused =
        "netmon_connections_failed_total{protocol=\"tcp\",direction=\"outbound\",error=\"ECONNREFUSED\"}";
    assert!(rise(refused) >= 5.0, "{after:?}");
    assert!(
        rise("netmon_connections_payload_bytes_total{protocol=\"tcp\",way=\"sent\"}") >= 2000.0,
        "{after:?}"
    );
    // Kernels give reasons since 5.17.
    let reason = if kernel_is_since(5, 17) { "NO_SOCKET" } else { "NOT_SPECIFIED" };
    assert!(rise(&format!("netmon_packet_drops_total{{reason=\"{reason}\"}}")) >= 35.0, "{after:?}");
    assert_eq!(daemon.get("/health").json()["status"], "healthy");
}
