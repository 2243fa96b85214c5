//! The real program, and a client that says exactly what it is told to.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// The recording that the library's documentation uses.
pub(crate) const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../netmon-core/recordings/demo.jsonl");
/// Longer than anything here takes on a busy machine, or an emulated one.
pub(crate) const SOON: Duration = netmon_testkit::PATIENCE;

/// A running daemon, killed when dropped.
pub(crate) struct Daemon {
    pub(crate) process: Child,
    pub(crate) directory: tempfile::TempDir,
}

impl Daemon {
    /// A daemon that serves the demo recording, with more arguments.
    pub(crate) fn replaying(arguments: &[&str]) -> Self {
        let source = format!("replay:{DEMO}");
        Self::start(&[&["--source", &source], arguments].concat())
    }

    /// The same with settings.
    pub(crate) fn configured(settings: &str, arguments: &[&str]) -> Self {
        let source = format!("replay:{DEMO}");
        let arguments = [&["--source", &source], arguments].concat();
        let daemon = Self::spawn(Command::new(env!("CARGO_BIN_EXE_netmond")), settings, &arguments);
        daemon.wait_ready();
        daemon
    }

    /// A daemon on a socket of its own that answers already.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let daemon = Self::spawn(Command::new(env!("CARGO_BIN_EXE_netmond")), "", arguments);
        daemon.wait_ready();
        daemon
    }

    /// The same by a command that may begin with another program.
    pub(crate) fn spawn(mut command: Command, settings: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let config = directory.path().join("netmond.toml");
        let token = format!(
            "access.token_file = '{}/token'
",
            directory.path().display()
        );
        fs::write(&config, token + settings).unwrap();
        let process = command
            .args(["--socket", path(&directory.path().join("sock")), "--config", path(&config)])
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process, directory }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    /// Changes the settings; a signal makes the daemon read them.
    pub(crate) fn set(&self, settings: &str) {
        fs::write(self.directory.path().join("netmond.toml"), settings).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        wait_for("the daemon", || self.log().contains("ready"), || self.log());
    }

    /// The address of the nth TCP listener.
    pub(crate) fn address(&self, nth: usize) -> String {
        let log = self.log();
        let mut addresses = log.lines().filter_map(|line| line.split("listening on http").nth(1));
        let address = addresses.nth(nth).unwrap_or_else(|| panic!("{log}"));
        address.trim_start_matches('s').trim_start_matches("://").to_owned()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Its end, which has to come soon.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < SOON, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    /// Asks with GET on the socket.
    pub(crate) fn get(&self, target: &str) -> Reply {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// Asks with POST on the socket.
    pub(crate) fn post(&self, target: &str, body: &str) -> Reply {
        self.ask(&format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Says something on the socket, and reads what comes until it is closed.
    pub(crate) fn ask(&self, request: &str) -> Reply {
        Reply::read(self.connect(), request.as_bytes())
    }
}

impl Drop for Daemon {
    #[allow(clippy::print_stderr, reason = "for who reads why a test failed")]
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool, more: impl Fn() -> String) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < SOON, "{what} does not come: {}", more());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Reply {
    /// Says something over TCP.
    pub(crate) fn over_tcp(address: &str, request: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self::read(stream, request.as_bytes())
    }

    fn read(mut stream: impl Read + Write, request: &[u8]) -> Self {
        // Who is refused early closes early.
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Self::parse(&bytes)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HashMap<_, _> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
        let body = if chunked { unchunked(body) } else { body.to_owned() };
        Self { status, headers, body }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of an error, which every error has.
    #[track_caller]
    pub(crate) fn problem(&self) -> Value {
        assert!(self.status >= 400, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert!(problem["type"].as_str().unwrap().starts_with("urn:netmon:problem:"), "{self:?}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{self:?}");
        problem
    }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    body
}
