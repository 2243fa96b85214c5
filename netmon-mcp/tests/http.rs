//! The real program by HTTP, on the demo recording and on this host: who may ask, what it refuses, and how it ends.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{AT_ONCE, SLACK, demo, program};
use test_tag::tag;

/// The program as a server.
struct Server {
    child: Child,
    address: SocketAddr,
    /// What it said at its start.
    said: Vec<String>,
    _state: tempfile::TempDir,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut child = command
            .env("XDG_STATE_HOME", state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first.strip_prefix("listening on http://").and_then(|rest| rest.strip_suffix("/mcp"));
        let mut address: SocketAddr = address.unwrap_or_else(|| panic!("{first}")).parse().unwrap();
        let mut said = vec![first];
        if address.ip().is_unspecified() {
            address.set_ip([127, 0, 0, 1].into());
            said.extend(lines.by_ref().take(2).map(Result::unwrap));
        }
        // Nobody may stop it by not reading its log.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, said, _state: state }
    }

    fn demo() -> Self {
        Self::start(demo().args(["--http", "127.0.0.1:0"]))
    }

    /// Sends a request and returns its status and body.
    fn send(&self, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SLACK)).unwrap();
        // A server that refuses early need not read all of it.
        let _ = stream.write_all(request(head, body).as_bytes());
        let mut response = String::new();
        let _ = stream.read_to_string(&mut response);
        let status = response.split(' ').nth(1).unwrap_or_default().parse().unwrap_or(0);
        let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    /// A POST of the older generation, with these headers besides.
    fn post(&self, headers: &str, message: &Value) -> (u16, String) {
        let head = format!("POST /mcp HTTP/1.1\r\nHost: {}\r\n{headers}{}", self.address, ACCEPT);
        self.send(&head, &message.to_string())
    }

    fn begin(&self, message: &Value) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SLACK)).unwrap();
        let head = format!("POST /mcp HTTP/1.1\r\nHost: {}\r\n{}", self.address, ACCEPT);
        stream.write_all(request(&head, &message.to_string()).as_bytes()).unwrap();
        stream
    }

    fn wait(&mut self, within: Duration) -> Option<i32> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "still running after {within:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn attachments(&self) -> usize {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        targets.filter(|target| target.to_string_lossy().contains("bpf")).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ACCEPT: &str = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n";

fn request(head: &str, body: &str) -> String {
    format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn call(tool: &str, arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

/// A call of which progress is told, so that its answer is a stream.
fn measurement() -> Value {
    let mut call = call("network-monitor", &json!({"operation": "both", "interface": "lo", "duration": 60}));
    call["params"]["_meta"]["progressToken"] = json!("measuring");
    call
}

fn list() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
}

#[test]
fn both_generations_are_answered_at_one_address() {
    let server = Server::demo();
    let (status, body) = server.post("", &call("get_network_summary", &json!({})));
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("All processes made 76 outbound connection attempts"), "{body}");

    let mut modern = call("get_network_summary", &json!({}));
    modern["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let headers =
        "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: get_network_summary\r\n";
    let (status, body) = server.post(headers, &modern);
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"resultType\":\"complete\""), "{body}");
}

#[test]
fn the_go_programs_environment_is_understood() {
    let server = Server::start(demo().env("MCP_TRANSPORT", "http").env("MCP_PORT", "0"));
    assert!(server.address.ip().is_loopback(), "{}", server.address);
    assert_eq!(server.post("", &list()).0, 200);
}

#[test]
fn pages_of_the_web_and_strange_names_are_refused() {
    let server = Server::start(demo().args([
        "--http",
        "127.0.0.1:0",
        "--allow-host",
        "router.lan",
        "--allow-origin",
        "https://desk.example",
    ]));
    let post = |host: &str, headers: &str| {
        let head = format!("POST /mcp HTTP/1.1\r\nHost: {host}\r\n{headers}{ACCEPT}");
        server.send(&head, &list().to_string())
    };
    let port = server.address.port();
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), "router.lan".to_owned()] {
        assert_eq!(post(&host, "").0, 200, "{host}");
    }
    let (status, body) = post("evil.example", "");
    assert_eq!(status, 403);
    assert!(body.contains("this host is not called \\\"evil.example\\\" here"), "{body}");
    assert_eq!(post("localhost", "Origin: https://desk.example\r\n").0, 200);
    assert_eq!(post("localhost", "Origin: http://localhost\r\n").0, 200);
    for origin in ["http://evil.example", "null", "http://localhost.evil.example"] {
        assert_eq!(post("localhost", &format!("Origin: {origin}\r\n")).0, 403, "{origin}");
    }
    assert_eq!(post("localhost", "Host: localhost\r\n").0, 400);
}

#[test]
fn what_is_no_request_of_the_protocol_is_refused() {
    let server = Server::demo();
    let host = format!("Host: {}\r\n", server.address);
    assert_eq!(server.send(&format!("GET / HTTP/1.1\r\n{host}"), "").0, 404);
    assert_eq!(server.send(&format!("GET /mcp HTTP/1.1\r\n{host}{ACCEPT}"), "").0, 405);
    assert_eq!(server.send(&format!("POST /mcp HTTP/1.1\r\n{host}{ACCEPT}"), "junk").0 / 100, 4);
    let large = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{}\"}}", "x".repeat(100_000));
    assert_eq!(server.send(&format!("POST /mcp HTTP/1.1\r\n{host}{ACCEPT}"), &large).0, 413);
    assert_eq!(server.post("", &list()).0, 200);
}

#[test]
fn a_token_is_made_where_others_can_reach_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("netmon/token");
    let start = || Server::start(demo().args(["--http", "0.0.0.0:0", "--token-file"]).arg(&file));
    let server = start();
    assert_eq!(server.said[1], format!("the token is in {}", file.display()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = fs::read_to_string(&file).unwrap();
    assert_eq!(server.post(&format!("Authorization: Bearer {}\r\n", token.trim()), &list()).0, 200);
    let (status, body) = server.post("Authorization: Bearer 0123456789abcdef\r\n", &list());
    assert_eq!(status, 401);
    assert!(body.contains("this is not the token"), "{body}");
    // The same one the next time.
    drop(start());
    assert_eq!(fs::read_to_string(&file).unwrap(), token);
}

#[tag(root)]
#[test]
fn another_user_of_this_host_needs_the_token() {
    let server = Server::demo();
    let script =
        format!("exec 3<>/dev/tcp/127.0.0.1/{}; printf '%s' \"$1\" >&3; cat <&3", server.address.port());
    let head = format!("POST /mcp HTTP/1.1\r\nHost: {}\r\n{}", server.address, ACCEPT);
    let ask = |user: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(user).args(["bash", "-c", &script, "ask"]).arg(request(&head, &list().to_string()));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let stranger = ask(&["--reuid=65534", "--regid=65534", "--clear-groups"]);
    assert!(stranger.starts_with("HTTP/1.1 401 "), "{stranger}");
    assert!(stranger.contains("www-authenticate: Bearer"), "{stranger}");
    assert!(stranger.contains("start it with --token-file"), "{stranger}");
    let root = ask(&["--reuid=0"]);
    assert!(root.starts_with("HTTP/1.1 200 "), "{root}");
}

#[test]
fn a_client_that_hangs_up_ends_its_measurement() {
    let server = Server::start(program().args(["--http", "127.0.0.1:0", "--source", "live"]));
    let mut stream = server.begin(&measurement());
    let mut first = [0; 64];
    stream.read_exact(&mut first).unwrap();
    drop(stream);
    let deadline = Instant::now() + AT_ONCE;
    while server.attachments() > 0 {
        assert!(Instant::now() < deadline, "still attached");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.post("", &list()).0, 200);
}

#[test]
fn signals_end_the_server_at_once_also_in_a_call() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut idle = Server::demo();
        let mut busy = Server::start(program().args(["--http", "127.0.0.1:0", "--source", "live"]));
        let mut stream = busy.begin(&measurement());
        let mut first = [0; 64];
        stream.read_exact(&mut first).unwrap();
        // One that never says a word.
        let _silent = TcpStream::connect(idle.address).unwrap();
        for server in [&mut idle, &mut busy] {
            kill_process(Pid::from_child(&server.child), signal).unwrap();
            assert_eq!(server.wait(AT_ONCE), Some(0), "{signal:?}");
        }
    }
}

#[test]
fn an_address_that_is_taken_is_told() {
    let server = Server::demo();
    let output = demo().args(["--http", &server.address.to_string()]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with(&format!("error: cannot listen on {}: ", server.address)), "{message}");
}
