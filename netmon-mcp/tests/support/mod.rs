//! The real program, as an MCP client starts it. Every line that it writes is checked to be JSON-RPC.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

pub const DEMO: &str =
    concat!("replay:", env!("CARGO_MANIFEST_DIR"), "/../netmon-core/recordings/demo.jsonl");
/// For what takes no time; a loaded machine takes its time.
pub const SLACK: Duration = netmon_testkit::PATIENCE;
/// For what has to end at once. rmcp alone would take 5 s.
pub const AT_ONCE: Duration = Duration::from_secs(2);

/// The program, in an environment without wishes of its own.
pub fn program() -> Command {
    program_at(env!("CARGO_BIN_EXE_netmon-mcp"))
}

pub fn program_at(path: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(path);
    command.env("TZ", "UTC");
    for variable in ["NETMON_SOURCE", "NETMON_MCP_TOKEN_FILE", "MCP_TRANSPORT", "MCP_PORT", "RUST_LOG"] {
        command.env_remove(variable);
    }
    // Nobody else's model is asked.
    for variable in ["NETMON_AI_MODEL", "NETMON_AI_BASE_URL", "OPENAI_BASE_URL", "NETMON_AI_REDACTION"] {
        command.env_remove(variable);
    }
    command
}

/// On the demo recording.
pub fn demo() -> Command {
    let mut command = program();
    command.args(["--source", DEMO]);
    command
}

/// A client and the server that it started.
pub struct Client {
    child: Child,
    requests: Option<Box<dyn Write + Send>>,
    messages: Receiver<Value>,
    stderr: Option<JoinHandle<String>>,
    next_id: u64,
    meta: Option<Value>,
    /// What came while something else was waited for.
    pub notifications: Vec<Value>,
}

impl Client {
    /// Of the generation before 2026, with the handshake done.
    pub fn with_handshake(command: &mut Command) -> Self {
        let mut client = Self::silent(command);
        client.initialize();
        client
    }

    /// Of the generation of 2026-07-28, which has no handshake.
    pub fn stateless(command: &mut Command) -> Self {
        let mut client = Self::silent(command);
        client.meta = Some(json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }));
        client
    }

    /// One that has not said a word.
    pub fn silent(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self::by_pipes(child.unwrap())
    }

    /// One that reads no log.
    pub fn without_log(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        drop(child.stderr.take());
        Self::by_pipes(child)
    }

    fn by_pipes(mut child: Child) -> Self {
        let requests = child.stdin.take().unwrap();
        let answers = child.stdout.take().unwrap();
        Self::new(child, requests, answers)
    }

    /// One that talks by sockets, as programs on Node.js do.
    pub fn by_sockets(command: &mut Command) -> Self {
        let (requests, stdin) = UnixStream::pair().unwrap();
        let (answers, stdout) = UnixStream::pair().unwrap();
        command.stdin(OwnedFd::from(stdin)).stdout(OwnedFd::from(stdout)).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        // The command holds the server's ends, which have to close with the server.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self::new(child, requests, answers)
    }

    fn new(
        mut child: Child,
        requests: impl Write + Send + 'static,
        answers: impl std::io::Read + Send + 'static,
    ) -> Self {
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(answers).lines() {
                let Ok(line) = line else { return };
                let message = serde_json::from_str::<Value>(&line)
                    .ok()
                    .filter(|message| message["jsonrpc"] == "2.0")
                    .unwrap_or_else(|| Value::from(format!("not JSON-RPC: {line}")));
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let stderr = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                let _ = stderr.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        Self {
            child,
            requests: Some(Box::new(requests)),
            messages,
            stderr,
            next_id: 0,
            meta: None,
            notifications: Vec::new(),
        }
    }

    pub fn initialize(&mut self) -> Value {
        let result = self.result(
            "initialize",
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}),
        );
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        result
    }

    /// Goes on as the older generation.
    pub fn forget_generation(&mut self) {
        self.meta = None;
    }

    pub fn send(&mut self, message: &Value) {
        self.send_line(message.to_string().as_bytes());
    }

    /// Sends what need not be a message.
    pub fn send_line(&mut self, line: &[u8]) {
        let requests = self.requests.as_mut().expect("stdin is open");
        requests.write_all(line).unwrap();
        requests.write_all(b"\n").unwrap();
        requests.flush().unwrap();
    }

    /// Sends a request and returns its id.
    pub fn request(&mut self, method: &str, mut params: Value) -> u64 {
        self.next_id += 1;
        if let Some(Value::Object(meta)) = &self.meta {
            for (key, value) in meta {
                params["_meta"][key] = value.clone();
            }
        }
        self.send(&json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params}));
        self.next_id
    }

    /// The next message of any kind.
    pub fn next(&mut self) -> Value {
        let message = self.messages.recv_timeout(SLACK).expect("a message");
        assert!(message.is_object(), "{message}");
        message
    }

    /// The response to a request; what comes before is kept in `notifications`, and may be no other response.
    pub fn response(&mut self, id: u64) -> Value {
        loop {
            let message = self.next();
            if message["id"] == id {
                return message;
            }
            assert!(message.get("id").is_none(), "expected {id}, not {message}");
            self.notifications.push(message);
        }
    }

    pub fn result(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params);
        let mut response = self.response(id);
        assert!(response.get("error").is_none(), "{response}");
        response["result"].take()
    }

    pub fn begin_call(&mut self, tool: &str, arguments: Value) -> u64 {
        self.request("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// Calls with a progress token, and waits for the first of its notifications: then it measures.
    pub fn begin_measurement(&mut self, arguments: Value) -> u64 {
        self.begin_timed("network-monitor", arguments)
    }

    /// The same with any tool that takes its time.
    pub fn begin_timed(&mut self, tool: &str, arguments: Value) -> u64 {
        let id = self.request(
            "tools/call",
            json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": "measuring"}}),
        );
        let message = self.next();
        assert_eq!(message["method"], "notifications/progress", "{message}");
        id
    }

    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.result("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// The structure of an answer.
    pub fn answer(&mut self, tool: &str, arguments: Value) -> Value {
        let mut result = self.call(tool, arguments);
        assert_eq!(result["isError"], false, "{result}");
        result["structuredContent"].take()
    }

    /// The text of a failure.
    pub fn failure(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{result}");
        assert!(result.get("structuredContent").is_none(), "{result}");
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Closes the server's stdin.
    pub fn close(&mut self) {
        self.requests = None;
    }

    /// Waits for the server's end, which has to come within the time.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {within:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Closes stdin and returns what the server wrote to stderr.
    pub fn finish(mut self) -> String {
        self.close();
        assert_eq!(self.wait(SLACK).code(), Some(0));
        for message in &self.messages {
            assert!(message.is_object(), "{message}");
        }
        self.stderr.take().unwrap().join().unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
