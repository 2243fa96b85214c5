//! The daemon on this host: what it keeps of its privileges, what each user is told, its end.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    thread,
    time::{Duration, Instant},
};

use netmon_core::{
    Cancel, Connection, ConnectionsRequest, Control, Coverage, Error, ErrorKind, Filter, Monitor,
    PatternsRequest, SocketsRequest, Source as _, SummaryRequest,
    fact::{ConnectionFact, ConnectionState, Hook},
    source::{
        ChangeCursor, Sighting, SourceChoice, Span,
        live::LiveSource,
        remote::{Address, RemoteOptions, RemoteSource},
    },
};
use netmon_testkit::{Child, Netns, Privileges, VethPair, child, kernel_is_since};
use rustix::process::Signal;
use support::{Daemon, wait_for};
use test_tag::tag;

const NOBODY: u32 = 65534;

/// A daemon in a network namespace.
fn live(netns: &Netns, arguments: &[&str]) -> Daemon {
    let daemon = Daemon::spawn(netns.command(env!("CARGO_BIN_EXE_netmond")), "", arguments);
    daemon.wait_ready();
    daemon
}

fn remote(daemon: &Daemon) -> Monitor {
    Monitor::open(&SourceChoice::Unix(daemon.socket())).unwrap()
}

/// One connection over loopback in which so many bytes are sent, within the namespace of this thread.
fn converse(bytes: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(&vec![0; bytes]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), bytes);
    client.local_addr().unwrap().port()
}

fn of_port(port: u16) -> ConnectionsRequest {
    let mut request = ConnectionsRequest::default();
    request.filter.port = Some(port);
    request.since = Some(Duration::from_secs(600));
    request.filter.include_own = true;
    request
}

fn ask(monitor: &Monitor, request: &ConnectionsRequest) -> Vec<Connection> {
    monitor.connections(request, &Control::default()).unwrap().connections
}

/// All hooks take part that the kernel has.
#[track_caller]
fn expect_all_of_the_kernel(coverage: &Coverage) {
    for missing in &coverage.missing_hooks {
        assert!(!kernel_is_since(6, 3), "{missing:?}");
        assert!(missing.reason.starts_with("this kernel does not have it"), "{missing:?}");
    }
}

#[tag(root)]
#[test]
fn it_keeps_three_capabilities_and_observes_with_all_hooks() {
    let netns = Netns::create();
    let daemon = live(&netns, &[]);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.process.id())).unwrap();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{status}")).trim()
    };
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        let held = u64::from_str_radix(field(set), 16).unwrap();
        // net_admin, perfmon, bpf; and sys_ptrace and dac_read_search where they were given.
        let allowed = 1 << 12 | 1 << 38 | 1 << 39 | 1 << 19 | 1 << 2;
        assert_eq!(held & !allowed, 0, "{set} {held:x}");
    }
    assert_eq!((field("CapAmb:"), field("NoNewPrivs:")), ("0000000000000000", "1"));

    let port = netns.enter(|| converse(1234));
    let answer = remote(&daemon).connections(&of_port(port), &Control::default()).unwrap();
    expect_all_of_the_kernel(&answer.header.coverage);
    assert_eq!(answer.total, 2);
    let pid = std::process::id();
    assert!(answer.connections.iter().all(|row| row.process.as_ref().is_some_and(|p| p.pid == pid)));
}

#[tag(root)]
#[test]
fn as_an_ordinary_user_with_three_capabilities_it_observes_the_same() {
    let netns = Netns::create();
    let program = readable_copy();
    let mut command = netns.command("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"])
        .args(["--inh-caps=-all,+bpf,+net_admin,+perfmon", "--ambient-caps=-all,+bpf,+net_admin,+perfmon"])
        .arg(program.path().join("netmond"));
    let sockets = tempfile::tempdir().unwrap();
    fs::set_permissions(sockets.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let socket = sockets.path().join("sock");
    let mut process = command.args(["--socket", support::path(&socket)]).spawn().unwrap();
    let choice = SourceChoice::Unix(socket);
    wait_for("the daemon", || Monitor::open(&choice).is_ok(), String::new);
    let port = netns.enter(|| converse(10));
    let answer = Monitor::open(&choice).unwrap().connections(&of_port(port), &Control::default()).unwrap();
    let _ = process.kill();
    process.wait().unwrap();
    expect_all_of_the_kernel(&answer.header.coverage);
    assert_eq!(answer.total, 2);
}

/// The program where everybody may read it.
fn readable_copy() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_netmond"), directory.path().join("netmond")).unwrap();
    directory
}

#[tag(root)]
#[test]
fn answers_about_this_host_are_those_of_the_library() {
    let netns = Netns::create();
    let daemon = live(&netns, &[]);
    let local = netns.enter(|| Monitor::new(LiveSource::open().unwrap()));
    let _observing = local.source().observe().unwrap();
    let ports: Vec<u16> = netns.enter(|| (0..20).map(|n| converse(n * 100)).collect());
    let remote = remote(&daemon);
    for port in ports {
        let [far, near] = [&remote, &local].map(|monitor| {
            let mut request = of_port(port);
            request.states = vec![ConnectionState::Closed];
            ask(monitor, &request)
        });
        assert_eq!(far.len(), 2);
        for (far, near) in far.iter().zip(&near) {
            // Each monitor reads the clock itself, a microsecond apart.
            let owner = |row: &Connection| row.process.clone().map(|p| (p.pid, p.tid, p.comm, p.exe, p.uid));
            assert_eq!(
                (far.id.cookie, owner(far), far.attribution),
                (near.id.cookie, owner(near), near.attribution)
            );
            let course = |row: &Connection| (row.payload_bytes, row.closed_by, row.community_id.clone());
            assert_eq!(course(far), course(near));
        }
    }
}

#[tag(root)]
#[test]
fn an_ordinary_user_sees_its_own_and_no_way_leads_to_the_rest() {
    const TEST: &str = "an_ordinary_user_sees_its_own_and_no_way_leads_to_the_rest";
    if child::role().is_some() {
        return as_nobody();
    }
    let netns = Netns::create();
    let daemon = live(&netns, &["--addr", "127.0.0.1:0"]);
    netns.enter(|| converse(4711));
    let listener = netns.enter(|| TcpListener::bind("127.0.0.1:0").unwrap());
    // Root's cursor leads on to root's rows, for root.
    let mut request = ConnectionsRequest::default();
    request.limit = Some(1);
    let cursor = remote(&daemon).connections(&request, &Control::default()).unwrap().next_cursor.unwrap();

    let settings = [
        ("NETMON_TEST_SOCKET", support::path(&daemon.socket()).to_owned()),
        ("NETMON_TEST_URL", format!("http://{}", daemon.address(0))),
        ("NETMON_TEST_CURSOR", cursor),
        ("NETMON_TEST_PID", std::process::id().to_string()),
        ("NETMON_TEST_LISTENER", listener.local_addr().unwrap().to_string()),
    ];
    let child = Child::spawn_with(&netns, Privileges::Nobody(&[]), TEST, "nobody", &settings);
    child.finish();
}

fn variable(name: &str) -> String {
    env::var(format!("NETMON_TEST_{name}")).unwrap()
}

/// Of what is active: the other end of that connection, which is root's, is not told.
fn active_as_nobody(source: &RemoteSource, mut own: &TcpStream) {
    // The daemon made its first list when it began, and tells what was active only for times long enough after that.
    thread::sleep(Duration::from_secs(3));
    let from = source.start().unwrap();
    own.write_all(b"x").unwrap();
    let span = Span { from, to: source.start().unwrap() };
    let mut told = Vec::new();
    let visit = &mut |sighting: Sighting<'_>| told.push(sighting.fact.clone());
    let observed = source.active_connections(&span, &Filter::everything(), visit).unwrap();
    let Some(observed) = observed else {
        // Only an iterator can leave out what was quiet.
        let all = source.connections(&span, &Filter::everything(), &mut |_| {}).unwrap();
        return assert!(
            all.missing_hooks.iter().any(|missing| missing.hook == Hook::SocketIterator),
            "{all:?}"
        );
    };
    assert!(observed.warnings.iter().any(|warning| warning.contains("of your own")), "{observed:?}");
    let is_own = |fact: &ConnectionFact| fact.process.as_ref().is_some_and(|owner| owner.uid == Some(NOBODY));
    assert!(told.iter().all(is_own), "{told:?}");
    assert!(told.iter().any(|fact| fact.local == own.local_addr().unwrap()), "{told:?}");
}

/// What user 65534 finds, by every way there is.
fn as_nobody() {
    let unix = RemoteOptions::new(Address::Unix(variable("SOCKET").into()));
    let http = RemoteOptions::new(Address::Http(variable("URL")));
    let own = TcpStream::connect(variable("LISTENER").parse::<SocketAddr>().unwrap()).unwrap();
    let own_port = own.local_addr().unwrap().port();
    active_as_nobody(&RemoteSource::open(unix.clone()).unwrap(), &own);
    for options in [unix, http] {
        let monitor = Monitor::new(RemoteSource::open(options).unwrap());
        let control = Control::default();
        let all = monitor.connections(&ConnectionsRequest::default(), &control).unwrap();
        assert_own(&all.connections);
        let of_client = |row: &&Connection| row.local.port == own_port;
        let row = all.connections.iter().find(of_client).unwrap();
        assert_eq!(row.process.as_ref().unwrap().pid, std::process::id());
        let told = all.header.coverage.warnings.iter().any(|warning| {
            warning == "only connections of your own processes are shown (user 65534); root and members of the group netmon see all"
        });
        assert!(told, "{:?}", all.header.coverage);

        // Filters, states, cursors, sorts.
        for filter in ["user == root", "uid in (0, 1)", &format!("pid == {}", variable("PID"))] {
            let mut request = ConnectionsRequest::default();
            request.filter.filter = Some(filter.to_owned());
            let error = monitor.connections(&request, &control).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Forbidden, "{filter}: {error}");
            assert!(error.to_string().contains("members of the group \"netmon\" see all"), "{error}");
            assert!(monitor.watch_connections(&request).is_err());
        }
        for filter in
            ["not user == 65534", "user != 65534", "user == root or pid > 0", "bytes > 4000", "process == *"]
        {
            let mut request = ConnectionsRequest::default();
            request.filter.filter = Some(filter.to_owned());
            request.since = Some(Duration::from_secs(3600));
            request.filter.include_own = true;
            assert_own(&monitor.connections(&request, &control).unwrap().connections);
            let mut summary = SummaryRequest::default();
            summary.filter = request.filter.clone();
            let sums = monitor.summary(&summary, &control).unwrap();
            assert!(sums.by_process.iter().all(|process| process.uid == Some(NOBODY)), "{sums:?}");
            assert!(sums.payload_bytes.is_none_or(|bytes| bytes.sent < 4711), "{sums:?}");
        }
        let mut request = ConnectionsRequest::default();
        request.limit = Some(1);
        request.cursor = Some(variable("CURSOR"));
        if let Ok(page) = monitor.connections(&request, &control) {
            assert_own(&page.connections);
        }
        let patterns = monitor.patterns(&PatternsRequest::default(), &control).unwrap();
        let patterns = serde_json::to_string(&patterns).unwrap();
        assert!(!patterns.contains(&format!("\"pid\":{}", variable("PID"))), "{patterns}");

        // Sockets, of which root has a listener.
        let sockets = monitor.sockets(&SocketsRequest::default()).unwrap().sockets;
        assert!(sockets.iter().any(|socket| socket.connection.local.port == own_port));
        assert!(sockets.iter().all(|socket| uid(&socket.connection) == Some(NOBODY)), "{sockets:?}");
        assert_eq!(monitor.listeners(&SocketsRequest::default()).unwrap().listeners, []);

        // Facts and streams.
        let source = monitor.source();
        let whole = source.observed(Some(Duration::from_secs(3600))).unwrap().unwrap();
        let mut seen = 0;
        source
            .connections(&Span { ..whole }, &Filter::everything(), &mut |sighting| {
                seen += 1;
                assert_eq!(sighting.fact.process.as_ref().unwrap().uid, Some(NOBODY));
            })
            .unwrap();
        assert!(seen > 0);
        let changes = source.changes(ChangeCursor(0), Duration::ZERO, &Cancel::new()).unwrap();
        assert!(changes.connections.iter().all(|fact| fact.process.as_ref().unwrap().uid == Some(NOBODY)));

        // Everybody sees interfaces and their rates.
        let rates = monitor.incoming_pps(Some("lo"), Duration::from_millis(200)).unwrap();
        assert_eq!(rates.rates[0].interface, "lo");
        assert!(monitor.capabilities().is_ok());
    }
    drop(own);
}

fn uid(row: &Connection) -> Option<u32> {
    row.process.as_ref().and_then(|process| process.uid)
}

#[track_caller]
fn assert_own(rows: &[Connection]) {
    assert!(rows.iter().all(|row| uid(row) == Some(NOBODY)), "{rows:?}");
    assert!(rows.iter().all(|row| row.last_user.is_none()), "{rows:?}");
}

#[tag(root)]
#[test]
fn from_other_hosts_a_token_is_needed_and_is_made() {
    let link = VethPair::create();
    let address = format!("{}:7070", link.near.ipv4);
    let daemon = live(&link.near.netns, &["--addr", &address]);
    assert!(daemon.log().contains("configure tls"), "{}", daemon.log());
    let token = fs::read_to_string(daemon.directory.path().join("token")).unwrap();
    let file = fs::metadata(daemon.directory.path().join("token")).unwrap();
    assert_eq!(file.mode() & 0o777, 0o600);

    let mut options = RemoteOptions::new(Address::Http(format!("http://{address}")));
    let open = |options: &RemoteOptions| link.far.netns.enter(|| RemoteSource::open(options.clone()));
    let refused = open(&options).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthorized);
    assert_eq!(refused.to_string(), "nobody knows who asks");
    options.token = Some("0".repeat(64));
    assert_eq!(open(&options).unwrap_err().to_string(), "this is not the token");
    options.token = Some(token.trim().to_owned());
    let monitor = Monitor::new(open(&options).unwrap());
    let answer = link.far.netns.enter(|| monitor.interfaces().unwrap());
    assert!(answer.interfaces.iter().any(|interface| interface.name == "veth0"));
    let log = daemon.log();
    assert!(!log.contains(token.trim()), "{log}");
}

#[tag(root)]
#[test]
fn sigterm_ends_streams_measurements_and_counting_within_a_second() {
    let link = VethPair::create();
    let mut daemon = live(&link.near.netns, &[]);
    let mut stream = daemon.connect();
    stream.write_all(b"GET /v1/connections/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    let mut measuring = daemon.connect();
    measuring.write_all(b"GET /v1/rates?window=50s&interfaces=veth0 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let shown = || {
        link.near.netns.run("tc filter show dev veth0 ingress")
            + &link.near.netns.run("ip -d link show veth0")
    };
    let before = shown();
    let monitor = remote(&daemon);
    let watch = monitor.watch_rates(&netmon_core::RateRequest::default()).unwrap();
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("event: end"), "{rest}");
    assert_eq!(shown(), before);
    drop(watch);
}

#[tag(root)]
#[test]
fn killed_it_leaves_nothing_behind_and_a_watch_goes_on_with_the_next() {
    let netns = Netns::create();
    let mut daemon = live(&netns, &[]);
    let monitor = remote(&daemon);
    let mut watch = monitor.watch_connections(&ConnectionsRequest::default()).unwrap();
    daemon.signal(Signal::KILL);
    daemon.ended();
    let error = watch.next(Duration::from_secs(1), &Cancel::new()).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");

    let mut next = netns
        .command(env!("CARGO_BIN_EXE_netmond"))
        .args(["--socket", support::path(&daemon.socket())])
        .spawn()
        .unwrap();
    wait_for("the next", || monitor.source().start().is_ok(), String::new);
    let mut watch = monitor.watch_connections(&ConnectionsRequest::default()).unwrap();
    let port = netns.enter(|| converse(1));
    let mut seen = Vec::new();
    wait_for(
        "the connection",
        || {
            seen.extend(watch.next(Duration::from_millis(100), &Cancel::new()).unwrap());
            seen.iter().any(|row: &Connection| row.local.port == port && row.state == ConnectionState::Closed)
        },
        String::new,
    );
    let answer = ask(&monitor, &of_port(port));
    assert_eq!(answer.len(), 2);
    next.kill().unwrap();
    next.wait().unwrap();
}
