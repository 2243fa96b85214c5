//! The daemon on a recording, without privilege: equal answers, streams, problems, its life.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixListener,
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use netmon_core::{
    ConnectionsRequest, Control, DiagnoseRequest, DropsRequest, Error, ErrorKind, Filter, Monitor,
    PatternsRequest, RateRequest, SocketsRequest, Source as _, SummaryRequest,
    fact::Moment,
    source::{
        SourceChoice, Span,
        recording::RecordRequest,
        remote::{Address, RemoteOptions, RemoteSource, wire::Problem},
    },
};
use rustix::process::Signal;
use support::{DEMO, Daemon, Reply, path, wait_for};

/// A monitor that asks this daemon, and one that asks the recording itself.
fn both(daemon: &Daemon) -> (Monitor, Monitor) {
    let remote = Monitor::open(&SourceChoice::Unix(daemon.socket())).unwrap();
    (remote, Monitor::replay(DEMO).unwrap())
}

fn asking(set: impl FnOnce(&mut ConnectionsRequest)) -> ConnectionsRequest {
    let mut request = ConnectionsRequest::default();
    set(&mut request);
    request
}

/// A daemon that was not started anew since its clients were: it knows what it is, and not this question.
#[test]
fn of_a_daemon_from_before_all_connections_should_be_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let problem = Problem::new(ErrorKind::NotFound, "there is nothing at this path");
    let problem = serde_json::to_string(&problem).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut first = String::new();
            stream.read_line(&mut first).unwrap();
            let mut length = 0;
            for line in stream.by_ref().lines() {
                let line = line.unwrap().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            stream.read_exact(&mut vec![0; length]).unwrap();
            let (status, kind, body) = if first.starts_with("POST /v1/facts/source ") {
                ("200 OK", "application/json", r#"{"kind":"live","host":"old","kernel":"6.1"}"#)
            } else {
                ("404 Not Found", "application/problem+json", &*problem)
            };
            let length = body.len();
            write!(
                stream.get_mut(),
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    let source = RemoteSource::open(RemoteOptions::new(Address::Unix(path))).unwrap();
    let at = Moment { boot_ns: 1, wall: "2026-01-01T00:00:00Z".parse().unwrap() };
    let (span, everything) = (Span { from: at, to: at }, Filter::everything());
    assert_eq!(source.active_connections(&span, &everything, &mut |_| {}).unwrap(), None);
    let error = source.connections(&span, &everything, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "what every daemon knows is still asked of it: {error}");
}

/// A recording has nothing to gain from leaving out what was quiet, and says so.
#[test]
fn of_a_recording_all_connections_should_be_asked_for() {
    let daemon = Daemon::replaying(&[]);
    let source = RemoteSource::open(RemoteOptions::new(Address::Unix(daemon.socket()))).unwrap();
    let span = source.observed(None).unwrap().unwrap();
    let active = source.active_connections(&span, &Filter::everything(), &mut |_| panic!("nothing is told"));
    assert_eq!(active.unwrap(), None);
    let mut told = 0;
    source.connections(&span, &Filter::everything(), &mut |_| told += 1).unwrap();
    assert!(told > 0);
}

#[test]
fn answers_through_the_daemon_equal_answers_in_process() {
    let daemon = Daemon::replaying(&[]);
    let (remote, local) = both(&daemon);
    let control = Control::default();
    assert_eq!(remote.source().describe(), local.source().describe());

    for filter in ["", "failed", "process == nginx and port == 443", "bytes > 10KB or udp"] {
        let mut request = ConnectionsRequest::default();
        request.filter.filter = Some(filter.to_owned());
        assert_eq!(
            remote.connections(&request, &control).unwrap(),
            local.connections(&request, &control).unwrap()
        );
        let mut summary = SummaryRequest::default();
        summary.filter.filter = Some(filter.to_owned());
        assert_eq!(remote.summary(&summary, &control).unwrap(), local.summary(&summary, &control).unwrap());
        let mut patterns = PatternsRequest::default();
        patterns.filter.filter = Some(filter.to_owned());
        assert_eq!(
            remote.patterns(&patterns, &control).unwrap(),
            local.patterns(&patterns, &control).unwrap()
        );
        let mut diagnose = DiagnoseRequest::default();
        diagnose.filter.filter = Some(filter.to_owned());
        assert_eq!(
            remote.diagnose(&diagnose, &control).unwrap(),
            local.diagnose(&diagnose, &control).unwrap()
        );
        let mut sockets = SocketsRequest::default();
        sockets.filter.filter = Some(filter.to_owned());
        assert_eq!(remote.sockets(&sockets).unwrap(), local.sockets(&sockets).unwrap());
        assert_eq!(remote.listeners(&sockets).unwrap(), local.listeners(&sockets).unwrap());
    }
    for (filter, reasons) in [("", vec![]), ("udp or pid == 814", vec![]), ("", vec!["NO_SOCKET".to_owned()])]
    {
        let mut drops = DropsRequest::default();
        drops.filter.filter = Some(filter.to_owned());
        drops.reasons = reasons;
        assert_eq!(remote.drops(&drops, &control).unwrap(), local.drops(&drops, &control).unwrap());
    }
    // By its facts too, of which a client may compute what it likes.
    let span = remote.source().observed_drops(Some(Duration::from_secs(15))).unwrap().unwrap();
    assert_eq!(Some(span), local.source().observed_drops(Some(Duration::from_secs(15))).unwrap());
    let facts = |monitor: &Monitor| {
        let mut facts = Vec::new();
        let observed = monitor.source().drops(&span, &"udp".parse().unwrap(), &mut |sighting| {
            facts.push((sighting.fact.clone(), sighting.before));
        });
        facts.sort_by_key(|(fact, _)| fact.counts.packets);
        (facts, observed.unwrap())
    };
    assert_eq!(facts(&remote), facts(&local));
    assert_eq!(facts(&remote).0.len(), 2);
    assert_eq!(remote.interfaces().unwrap(), local.interfaces().unwrap());
    assert_eq!(remote.capabilities().unwrap(), local.capabilities().unwrap());
    let at = local.source().start().unwrap();
    assert_eq!(
        remote.source().protocol_counters(&at).unwrap(),
        local.source().protocol_counters(&at).unwrap()
    );
    let rates = RateRequest::default();
    assert_eq!(remote.rates(&rates, &control).unwrap(), local.rates(&rates, &control).unwrap());
    let seconds = Duration::from_secs(3);
    assert_eq!(
        remote.interfaces_over(seconds, &control).unwrap(),
        local.interfaces_over(seconds, &control).unwrap()
    );
}

#[test]
fn pages_through_the_daemon_neither_repeat_nor_skip() {
    let daemon = Daemon::replaying(&[]);
    let (remote, local) = both(&daemon);
    let all = local.connections(&ConnectionsRequest::default(), &Control::default()).unwrap();
    let mut request = asking(|request| request.limit = Some(7));
    let mut rows = Vec::new();
    loop {
        let page = remote.connections(&request, &Control::default()).unwrap();
        assert_eq!(page.total, all.total);
        rows.extend(page.connections);
        match page.next_cursor {
            Some(cursor) => request.cursor = Some(cursor),
            None => break,
        }
    }
    assert_eq!(rows, all.connections);
}

#[test]
fn a_watch_and_a_recording_through_the_daemon_are_whole() {
    let daemon = Daemon::replaying(&[]);
    let (remote, local) = both(&daemon);
    let changes = |monitor: &Monitor| {
        let mut watch = monitor.watch_connections(&ConnectionsRequest::default()).unwrap();
        let mut rows = Vec::new();
        loop {
            match watch.next(Duration::from_secs(1), &netmon_core::Cancel::new()) {
                Ok(more) => rows.extend(more),
                Err(Error::RecordingEnded { .. }) => return rows,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let (seen, expected) = (changes(&remote), changes(&local));
    assert!(!expected.is_empty());
    assert_eq!(seen, expected);

    let directory = tempfile::tempdir().unwrap();
    let files = ["remote", "local"].map(|name| directory.path().join(name));
    for (monitor, file) in [(&remote, &files[0]), (&local, &files[1])] {
        monitor.record(&RecordRequest::new(file), &Control::default()).unwrap();
    }
    let [of_remote, of_local] = files.map(|file| fs::read_to_string(file).unwrap());
    assert!(of_remote.lines().count() > 100);
    assert_eq!(of_remote, of_local);
}

#[test]
fn a_mistake_is_the_same_error_through_the_daemon() {
    let daemon = Daemon::replaying(&[]);
    let (remote, local) = both(&daemon);
    let check = |request: &ConnectionsRequest| {
        let [far, near] =
            [&remote, &local].map(|monitor| monitor.connections(request, &Control::default()).unwrap_err());
        assert_eq!(far.kind(), near.kind());
        assert_eq!((far.with_cause(), far.hint()), (near.with_cause(), near.hint()));
    };
    let mut request = ConnectionsRequest::default();
    request.filter.filter = Some("port == and".to_owned());
    check(&request);
    check(&asking(|request| request.limit = Some(0)));
    check(&asking(|request| request.cursor = Some("x".to_owned())));
    check(&asking(|request| request.since = Some(Duration::ZERO)));
    let error = remote.incoming_pps(Some("nonesuch"), Duration::from_secs(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownInterface);
}

#[test]
fn curl_gets_answers_by_query_and_by_body() {
    let daemon = Daemon::replaying(&[]);
    let reply = daemon.get("/v1/connections?state=failed&limit=3&sort=opened&process=probe");
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(reply.headers["cache-control"], "no-store");
    let answer = reply.json();
    assert_eq!(answer["connections"].as_array().unwrap().len(), 3);
    assert_eq!((answer["total"].as_u64(), answer["coverage"]["truncated"].as_bool()), (Some(49), Some(true)));
    let cursor = answer["next_cursor"].as_str().unwrap();
    let next = daemon
        .get(&format!("/v1/connections?state=failed&limit=3&sort=opened&process=probe&cursor={cursor}"));
    assert_ne!(next.json()["connections"][0], answer["connections"][0]);

    let by_body = daemon.post(
        "/v1/connections",
        r#"{"states": ["failed"], "limit": 3, "sort": "opened", "process": "probe"}"#,
    );
    assert_eq!(by_body.json(), answer);
    assert_eq!(daemon.post("/v1/summary", "").json(), daemon.get("/v1/summary").json());
    assert_eq!(daemon.post("/v1/drops", "").json(), daemon.get("/v1/drops").json());
    assert_eq!(daemon.get("/v1/drops?reason=NO_SOCKET&protocol=udp&since=15s").json()["total"], 280);
    assert_eq!(daemon.post("/v1/diff", r#"{"since": 10}"#).json(), daemon.get("/v1/diff?since=10s").json());
    let rates = daemon.get("/v1/rates?interfaces=eth0&window=5s&direction=in").json();
    assert_eq!(rates["rates"][0]["packets"], 5000);
    assert_eq!(daemon.get("/v1/interfaces").json()["interfaces"].as_array().unwrap().len(), 4);
    assert_eq!(daemon.get("/openapi.json").json()["openapi"], "3.1.0");
    assert!(daemon.get("/docs").body.contains("/v1/summary"));
}

#[test]
fn every_error_is_a_problem() {
    let daemon = Daemon::replaying(&["--addr", "127.0.0.1:0"]);
    let large = format!("{{\"process\": \"{}\"}}", "x".repeat(70_000));
    let cases = [
        (daemon.get("/v1/nonesuch"), 404, "there is nothing at /v1/nonesuch"),
        (daemon.get("/v1/../../etc/passwd"), 404, "there is nothing at /v1/../../etc/passwd"),
        (daemon.get("/%2e%2e/%00"), 404, "there is nothing at /%2e%2e/%00"),
        (
            daemon.ask("DELETE /v1/summary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            405,
            "cannot be asked",
        ),
        (daemon.get("/v1/connections?limit=1e9"), 400, "\"limit\" is a whole number"),
        (daemon.get("/v1/connections?limit=0"), 400, "limit"),
        (daemon.get("/v1/connections?cursor=%00%ff"), 400, "percent-encoded"),
        (daemon.get("/v1/connections?filter=port+%3D%3D+x"), 400, "\"port\" is compared with ports"),
        (daemon.get("/v1/drops?remote=10.0.0.1"), 400, "drops cannot be chosen by"),
        (daemon.get("/v1/rates?window=90s&interfaces=eth0"), 400, "out of range"),
        (daemon.get("/v1/rates?interfaces=nonesuch"), 404, "no interface named \"nonesuch\""),
        (daemon.get("/v1/connections/events?filter=nonesuch"), 400, "nonesuch"),
        (daemon.post("/v1/summary", "{"), 400, "not the JSON of this question"),
        (daemon.post("/v1/summary", "[]"), 400, "not the JSON of this question"),
        (daemon.post("/v1/summary", r#"{"sinse": 5}"#), 400, "unknown field `sinse`"),
        (daemon.post("/v1/summary", r#"{"since": "5"}"#), 400, "not the JSON of this question"),
        (daemon.post("/v1/summary?pid=1", "{}"), 400, "in the body, and not in the address"),
        (daemon.post("/v1/summary", &large), 413, "larger than 64 KiB"),
        (daemon.post("/v1/facts/nonesuch", "{}"), 404, "there is nothing"),
        (daemon.post("/v1/facts/connections", "{}"), 400, "missing field `span`"),
        (daemon.post("/v1/facts/active_connections", "{}"), 400, "missing field `span`"),
    ];
    for (reply, status, detail) in cases {
        let problem = reply.problem();
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{reply:?}");
    }
    assert_eq!(daemon.get("/v1/summary").status, 200);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

#[test]
fn noise_is_answered_and_disturbs_nobody() {
    let mut daemon = Daemon::replaying(&[]);
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..60 {
        let mut bytes = Vec::new();
        for _ in 0..round * 7 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            bytes.extend(noise.to_le_bytes());
        }
        let mut stream = daemon.connect();
        let begins: [&[u8]; 4] = [
            b"",
            b"GET ",
            b"POST /v1/summary HTTP/1.1\r\n",
            b"POST /v1/summary HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n",
        ];
        // What is closed in our face is answered.
        let _ = stream.write_all(begins[round % 4]).and_then(|()| stream.write_all(&bytes));
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // A body that is announced as a gigabyte is not waited for.
    let reply = daemon.ask("POST /v1/summary HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n{}");
    assert_eq!(reply.status, 413);
    assert_eq!(daemon.get("/v1/summary").status, 200);
    assert!(daemon.process.try_wait().unwrap().is_none());
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

#[test]
fn who_sends_slowly_or_does_not_read_is_cut_off() {
    let daemon = Daemon::configured("limits.patience_seconds = 1", &[]);

    let mut slow_head = daemon.connect();
    slow_head.write_all(b"GET /v1/summary HTTP/1.1\r\nHost").unwrap();
    let mut slow_body = daemon.connect();
    slow_body.write_all(b"POST /v1/summary HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    assert_eq!(daemon.get("/v1/summary").status, 200);

    let mut told = String::new();
    let _ = slow_head.read_to_string(&mut told);
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 408"), "{told}");
    let mut told = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = slow_body.read(&mut buffer) {
        told.extend_from_slice(&buffer[..count]);
        if told.ends_with(b"}") {
            break;
        }
    }
    assert_eq!(Reply::parse(&told).status, 408);
}

#[test]
fn streams_tell_each_change_once_and_end_with_the_recording() {
    let daemon = Daemon::replaying(&[]);
    let lines = |accept: &str, more: &str| {
        let reply = daemon.ask(&format!(
            "GET /v1/connections/events HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n{more}Connection: close\r\n\r\n"
        ));
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.headers["content-type"], accept);
        reply.body
    };
    let events = lines("text/event-stream", "");
    let count = |text: &str, what: &str| text.matches(what).count();
    let rows = lines("application/x-ndjson", "");
    let changes = count(&rows, "\"type\":\"connection\"");
    assert!(changes > 100, "{changes}");
    assert_eq!(count(&events, "event: connection\n"), changes);
    assert!(rows.lines().last().unwrap().starts_with("{\"type\":\"end\""), "{rows}");
    for line in rows.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }

    // Who was cut off goes on after the last id it has.
    let ids: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    let resumed = lines("text/event-stream", &format!("Last-Event-ID: {}\r\n", ids[ids.len() / 2]));
    assert!(resumed.contains("\"resumed\":true"), "{resumed}");
    let rest = events.split_once(&format!("id: {}\n", ids[ids.len() / 2])).unwrap().1;
    let rest = rest.split_once("\n\n").unwrap().1;
    let strip = |text: &str| {
        let events = text.split("\n\n").filter(|event| event.contains("event: connection"));
        events.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(strip(&resumed), strip(rest));

    // An id of another daemon says nothing here.
    let foreign = lines("text/event-stream", "Last-Event-ID: 1234-5\r\n");
    assert!(foreign.contains("\"gap\":true") && foreign.contains("\"resumed\":false"), "{foreign}");

    let reply = daemon.ask(
        "GET /v1/connections/events HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(reply.problem()["status"], 406);
}

#[test]
fn over_tcp_pages_of_the_web_may_not_ask_and_other_names_are_not_ours() {
    let daemon = Daemon::replaying(&["--addr", "127.0.0.1:0"]);
    let address = daemon.address(0);
    let ask = |headers: &str| {
        Reply::over_tcp(&address, &format!("GET /v1/summary HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"))
    };
    assert_eq!(ask(&format!("Host: {address}\r\n")).status, 200);
    assert_eq!(ask("Host: localhost\r\n").status, 200);
    assert_eq!(ask(&format!("Host: {address}\r\nOrigin: http://{address}\r\n")).status, 200);
    assert_eq!(ask("Host: evil.example\r\n").problem()["status"], 403);
    assert_eq!(ask("Host: localhost\r\nHost: evil.example\r\n").problem()["status"], 400);
    assert_eq!(ask("Host: localhost\r\nOrigin: https://evil.example\r\n").problem()["status"], 403);
    assert_eq!(ask("Host: localhost\r\nOrigin: null\r\n").problem()["status"], 403);
    // No token was made, so none is right; and a wrong one is not forgiven because the caller is known.
    let wrong = ask("Host: localhost\r\nAuthorization: Bearer guess\r\n");
    assert_eq!(wrong.problem()["status"], 401);
    assert!(wrong.headers["www-authenticate"].starts_with("Bearer"));
    assert!(!daemon.directory.path().join("token").exists());
}

/// A message of MCP by POST, and the first JSON that comes back.
fn mcp(daemon: &Daemon, headers: &str, message: &str) -> (Reply, serde_json::Value) {
    let reply = daemon.ask(&format!(
        "POST /mcp HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{headers}Content-Length: {}\r\n\r\n{message}",
        message.len()
    ));
    let last =
        reply.body.lines().filter_map(|line| line.strip_prefix("data: ")).rfind(|data| data.starts_with('{'));
    let json = serde_json::from_str(last.unwrap_or(&reply.body)).unwrap_or_default();
    (reply, json)
}

#[test]
fn assistants_are_answered_in_both_generations_of_their_protocol() {
    let daemon = Daemon::replaying(&[]);
    let old = "MCP-Protocol-Version: 2025-06-18\r\n";
    let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",
        "capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;
    let (_, welcome) = mcp(&daemon, "", hello);
    assert_eq!(welcome["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(welcome["result"]["serverInfo"]["name"], "netmon-mcp");
    let (reply, _) = mcp(&daemon, old, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!(reply.status, 202);
    let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"network-monitor",
        "arguments":{"operation":"incoming","duration":5},"_meta":{"progressToken":"x"}}}"#;
    let (reply, answer) = mcp(&daemon, old, call);
    assert_eq!(answer["result"]["structuredContent"]["rates"][0]["packets"], 5000, "{reply:?}");
    assert!(reply.body.contains("notifications/progress"), "{reply:?}");

    let new = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\n";
    let list = r#"{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{"_meta":{
        "io.modelcontextprotocol/protocolVersion":"2026-07-28",
        "io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},
        "io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let (_, tools) = mcp(&daemon, new, list);
    let names: Vec<_> =
        tools["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(
        names,
        [
            "ai_insights",
            "analyze_patterns",
            "capabilities",
            "diagnose",
            "get_network_summary",
            "list_connections",
            "list_packet_drops",
            "network-monitor"
        ]
    );

    let (reply, _) = mcp(&daemon, old, &"x".repeat(70_000));
    assert_eq!(reply.problem()["status"], 413);
    assert!((400..500).contains(&mcp(&daemon, old, "no json").0.status));
    assert_eq!(daemon.get("/mcp").status, 405);
    assert_eq!(daemon.get("/v1/summary").status, 200);
}

/// A certificate for loopback, signed by an authority, and both with their keys as files.
struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    fn create() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(directory.path().join(name), text).unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        write("ca.crt", authority.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(authority, key);
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
            let params = CertificateParams::new(names).unwrap();
            write(&format!("{name}.crt"), params.signed_by(&key, &issuer).unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }
}

#[test]
fn over_tls_a_certificate_or_a_token_is_enough_and_neither_is_not() {
    let files = Certificates::create();
    let settings = format!(
        "[tls]\ncertificate = '{}'\nkey = '{}'\nclient_ca = '{}'\n",
        files.path("server.crt").display(),
        files.path("server.key").display(),
        files.path("ca.crt").display()
    );
    // Loopback would know the caller; every address of this host is not loopback alone.
    let daemon = Daemon::configured(&settings, &["--addr", "0.0.0.0:0"]);
    let token = fs::read_to_string(daemon.directory.path().join("token")).unwrap();
    let port = daemon.address(0).rsplit_once(':').unwrap().1.to_owned();
    let mut options = RemoteOptions::new(Address::Http(format!("https://127.0.0.1:{port}")));

    let error = RemoteSource::open(options.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    options.trusted = Some(files.path("ca.crt"));
    RemoteSource::open(options.clone()).unwrap();
    options.token = Some("wrong".to_owned());
    assert_eq!(RemoteSource::open(options.clone()).unwrap_err().kind(), ErrorKind::Unauthorized);
    options.token = Some(token.trim().to_owned());
    let with_token = Monitor::new(RemoteSource::open(options.clone()).unwrap());
    assert_eq!(with_token.interfaces().unwrap(), Monitor::replay(DEMO).unwrap().interfaces().unwrap());
    options.token = None;
    options.certificate = Some((files.path("client.crt"), files.path("client.key")));
    assert!(RemoteSource::open(options.clone()).is_ok());
    options.certificate = Some((files.path("client.crt"), files.path("server.key")));
    let error = RemoteSource::open(options.clone()).unwrap_err();
    assert!(error.to_string().contains("KeyMismatch"), "{error}");

    // Who speaks HTTP there is told nothing, and disturbs nobody.
    let mut plain = std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    plain.write_all(b"GET /v1/summary HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut told = Vec::new();
    let _ = plain.read_to_end(&mut told);
    assert!(!told.starts_with(b"HTTP"), "{told:?}");
    assert_eq!(daemon.get("/v1/summary").status, 200);
}

#[test]
fn another_daemon_on_the_same_socket_is_refused_and_the_first_is_named() {
    let first = Daemon::replaying(&[]);
    let output = Command::new(env!("CARGO_BIN_EXE_netmond"))
        .args(["--socket", path(&first.socket()), "--source", &format!("replay:{DEMO}")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("netmond (pid {}) listens on", first.process.id())), "{told}");
    assert_eq!(first.get("/v1/summary").status, 200);
}

#[test]
fn a_socket_that_was_left_behind_is_replaced_and_nothing_else() {
    let mut first = Daemon::replaying(&[]);
    first.signal(Signal::KILL);
    first.ended();
    assert!(first.socket().exists());
    let source = format!("replay:{DEMO}");
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_netmond"))
            .args(["--socket", path(&first.socket()), "--source", &source])
            .spawn()
            .unwrap()
    };
    let mut second = start();
    wait_for("the second", || Monitor::open(&SourceChoice::Unix(first.socket())).is_ok(), String::new);
    rustix::process::kill_process(rustix::process::Pid::from_child(&second), Signal::TERM).unwrap();
    assert!(second.wait().unwrap().success());
    assert!(!first.socket().exists());

    fs::write(first.socket(), "precious").unwrap();
    assert_eq!(start().wait().unwrap().code(), Some(3));
    assert_eq!(fs::read_to_string(first.socket()).unwrap(), "precious");
}

#[test]
fn sigterm_ends_streams_and_waits_within_a_second() {
    let mut daemon = Daemon::replaying(&[]);
    // On the recording a wait would be over at once; a stream of a live host would not, so a slow body has to do.
    let mut slow = daemon.connect();
    slow.write_all(b"POST /v1/summary HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    let mut idle = daemon.connect();
    idle.write_all(b"GET /v1/summary HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(idle.try_clone().unwrap()).read_line(&mut line).unwrap();
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(!daemon.socket().exists());
}

#[test]
fn systemd_is_told_of_readiness_life_and_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind(directory.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(support::SOON)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_netmond"));
    command.env("NOTIFY_SOCKET", directory.path().join("notify")).env("WATCHDOG_USEC", "400000");
    let source = format!("replay:{DEMO}");
    let mut daemon = Daemon::spawn(command, "", &["--source", &source]);
    let told = |wanted: &str| {
        let mut buffer = [0; 512];
        loop {
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line.starts_with(wanted)) {
                return text;
            }
        }
    };
    assert!(told("READY=1").contains("STATUS=observing"));
    told("WATCHDOG=1");
    told("WATCHDOG=1");
    daemon.signal(Signal::HUP);
    assert!(told("RELOADING=1").contains("MONOTONIC_USEC="));
    told("READY=1");
    daemon.signal(Signal::TERM);
    told("STOPPING=1");
    assert_eq!(daemon.ended().code(), Some(0));
}

#[test]
fn sighup_reads_the_settings_again_and_keeps_the_old_where_they_are_wrong() {
    let daemon = Daemon::replaying(&["--addr", "127.0.0.1:0"]);
    let address = daemon.address(0);
    let ask = |host: &str| {
        Reply::over_tcp(
            &address,
            &format!("GET /v1/summary HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        )
    };
    assert_eq!(ask("monitor.example").status, 403);
    daemon.set(
        "[access]
hosts = [\"monitor.example\"]
",
    );
    daemon.signal(Signal::HUP);
    wait_for("the new setting", || ask("monitor.example").status == 200, || daemon.log());

    daemon.set("[acess]\n");
    daemon.signal(Signal::HUP);
    wait_for("the refusal", || daemon.log().contains("did you mean access?"), || daemon.log());
    assert_eq!(ask("monitor.example").status, 200);
}

#[test]
fn where_nobody_reads_its_log_it_answers_on() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sock");
    let (log, stderr) = std::io::pipe().unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_netmond"))
        .args(["--socket", path(&socket), "--source", &format!("replay:{DEMO}")])
        .stderr(stderr)
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&process);
    let is_there = || Monitor::open(&SourceChoice::Unix(socket.clone())).is_ok();
    wait_for("the daemon", is_there, String::new);
    drop(log);
    // It logs that it reads its settings again.
    for _ in 0..3 {
        rustix::process::kill_process(pid, Signal::HUP).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(is_there());
    }
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert!(process.wait().unwrap().success());
}

#[test]
fn clients_say_that_the_daemon_is_gone_and_go_on_with_the_next() {
    let mut daemon = Daemon::replaying(&[]);
    let monitor = Monitor::open(&SourceChoice::Unix(daemon.socket())).unwrap();
    monitor.interfaces().unwrap();
    daemon.signal(Signal::KILL);
    daemon.ended();
    let error = monitor.interfaces().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("nobody listens there"), "{error}");

    let source = format!("replay:{DEMO}");
    let next = Command::new(env!("CARGO_BIN_EXE_netmond"))
        .args(["--socket", path(&daemon.socket()), "--source", &source])
        .spawn()
        .unwrap();
    let next = Mutex::new(next);
    wait_for("the next", || monitor.interfaces().is_ok(), String::new);
    let mut next = next.into_inner().unwrap();
    next.kill().unwrap();
    next.wait().unwrap();
}

#[test]
fn mistakes_of_the_operator_are_named() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_netmond")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    fs::write(&config, "[listen]\nsoket = 1\n").unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--config", path(&config)], 2, "did you mean listen.socket?"),
        (&["--config", "/nonexistent/x.toml"], 2, "cannot read /nonexistent/x.toml"),
        (&["--addr", "nowhere"], 2, "no address to listen at"),
        (&["--source", "auto"], 2, "a daemon observes live"),
        (&["--source", "replay:/nonexistent"], 3, "/nonexistent"),
        (&["--port", "80"], 2, "--http"),
        (&["--socket", "/proc/nonexistent/x"], 3, "cannot make /proc/nonexistent"),
    ];
    for (arguments, status, expected) in cases {
        let socket = directory.path().join("sock");
        let arguments = match arguments[0] {
            "--socket" => arguments.to_vec(),
            _ => [&["--socket", path(&socket)], *arguments].concat(),
        };
        let (code, told) = run(&arguments);
        assert_eq!(code, Some(*status), "{arguments:?}: {told}");
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
}

/// A process that is killed when dropped.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs root, sshd and ssh: cargo test -p netmon-daemon -- --ignored ssh"]
fn another_host_is_asked_through_ssh_without_any_listener() {
    let daemon = Daemon::replaying(&[]);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    for key in ["host", "user"] {
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file(key)).status();
        assert!(made.unwrap().success());
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
         PermitRootLogin prohibit-password\nAllowStreamLocalForwarding yes\n",
        file("host").display(),
        file("user.pub").display()
    );
    fs::write(file("sshd_config"), settings).unwrap();
    let sshd = Command::new("/usr/sbin/sshd").arg("-D").arg("-f").arg(file("sshd_config")).spawn().unwrap();
    let _sshd = Running(sshd);
    wait_for("sshd", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), String::new);
    let forward = format!("{}:{}", file("far.sock").display(), daemon.socket().display());
    let ssh = Command::new("ssh")
        .args(["-nNT", "-F", "none", "-L", &forward, "-p", &port.to_string()])
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
            "-i",
        ])
        .arg(file("user"))
        .arg("127.0.0.1")
        .spawn()
        .unwrap();
    let _ssh = Running(ssh);
    let choice = SourceChoice::Unix(file("far.sock"));
    wait_for("the forwarded socket", || Monitor::open(&choice).is_ok(), String::new);
    let request = SummaryRequest::default();
    let far = Monitor::open(&choice).unwrap().summary(&request, &Control::default()).unwrap();
    assert_eq!(far, Monitor::replay(DEMO).unwrap().summary(&request, &Control::default()).unwrap());
}
