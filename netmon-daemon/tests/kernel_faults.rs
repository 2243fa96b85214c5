//! The daemon when things go wrong around it: stopped, killed, without descriptors, with clients that vanish or do not read,
//! and with an interface taken away.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::net::UnixStream,
    process::Command,
    thread,
    time::Duration,
};

use netmon_core::{ConnectionsRequest, Control, Monitor, source::SourceChoice};
use netmon_testkit::{
    Netns, VethPair, may_lack,
    soak::{BpfObjects, Vitals},
    workload::{self, Event},
};
use rustix::process::Signal;
use support::{Daemon, wait_for};
use test_tag::tag;

fn live(netns: &Netns, settings: &str) -> Daemon {
    let daemon = Daemon::spawn(netns.command(env!("CARGO_BIN_EXE_netmond")), settings, &[]);
    daemon.wait_ready();
    daemon
}

fn remote(daemon: &Daemon) -> Monitor {
    Monitor::open(&SourceChoice::Unix(daemon.socket())).unwrap()
}

fn vitals(daemon: &Daemon) -> Vitals {
    Vitals::of(daemon.process.id()).unwrap()
}

/// A port that is free, as nothing else is in a new namespace.
fn free_port(netns: &Netns) -> u16 {
    netns.enter(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
}

#[tag(root)]
#[test]
fn what_happened_while_it_was_stopped_is_told_or_said_to_be_lost() {
    let netns = Netns::create();
    let daemon = live(&netns, "observe.memory_mib = 512");
    let monitor = remote(&daemon);
    let port = free_port(&netns);
    let storm = workload::start(&netns, &format!("storm --seconds 3 127.0.0.1:{port}"));
    thread::sleep(Duration::from_millis(500));
    daemon.signal(Signal::STOP);
    thread::sleep(Duration::from_secs(2));
    daemon.signal(Signal::CONT);
    let told = storm.wait();
    let client = workload::only(&told, Event::Done, "client");
    let made = client.connections + workload::only(&told, Event::Done, "acceptor").connections;
    assert_eq!(client.failures, 0, "it is in nobody's way");

    let mut request = ConnectionsRequest::default();
    request.filter.port = Some(port);
    request.since = Some(Duration::from_secs(60));
    request.limit = Some(1);
    let answer = monitor.connections(&request, &Control::default()).unwrap();
    let coverage = &answer.header.coverage;
    let seen = answer.total;
    assert!(seen > 0 && seen <= made, "{seen} of {made}");
    let said = coverage.lost_events + may_lack(&coverage.warnings, made);
    assert!(seen + said >= made, "{seen} told, {said} said to be lost of {made}: {coverage:?}");
    let metrics = daemon.get("/metrics").body;
    assert!(
        metrics.contains(&format!("netmon_events_lost_total{{stage=\"kernel\"}} {}", coverage.lost_events))
    );
}

#[tag(root)]
#[test]
fn killed_at_any_moment_under_load_it_leaves_nothing_and_the_next_one_starts() {
    let netns = Netns::create();
    let storm = workload::start(&netns, &format!("storm --seconds 15 127.0.0.1:{}", free_port(&netns)));
    for delay in [0, 30, 120, 400] {
        let mut daemon = live(&netns, "");
        let mut streams: Vec<UnixStream> = (0..4).map(|_| daemon.connect()).collect();
        for stream in &mut streams {
            stream.write_all(b"GET /v1/connections/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        }
        thread::sleep(Duration::from_millis(delay));
        let held = vitals(&daemon).objects;
        assert!(!held.programs.is_empty() && !held.maps.is_empty() && !held.links.is_empty(), "{held:?}");
        daemon.signal(Signal::KILL);
        daemon.ended();
        // The kernel frees them a moment later.
        wait_for(
            "the end of all BPF objects",
            || held.among(&BpfObjects::in_kernel()).count() == 0,
            || format!("{:?}", held.among(&BpfObjects::in_kernel())),
        );
        let mut rest = Vec::new();
        for mut stream in streams {
            let _ = stream.read_to_end(&mut rest);
        }
    }
    let told = storm.wait();
    assert_eq!(workload::only(&told, Event::Done, "client").failures, 0);
}

#[tag(root)]
#[test]
fn what_large_answers_took_is_given_back_whichever_threads_computed_them() {
    /// Beyond what it had when it had told of everything once.
    const MOST_KIB: u64 = 12 << 10;
    let netns = Netns::create();
    let daemon = live(&netns, "observe.memory_mib = 8\nlimits.patience_seconds = 60");
    let port = free_port(&netns);
    let storm = |connections: u32| {
        let command = format!("storm --seconds 20 --connections {connections} 127.0.0.1:{port}");
        workload::start(&netns, &command).wait();
    };
    storm(15_000);
    daemon.get("/v1/connections?limit=1");
    let before = vitals(&daemon).resident_kib;
    for _ in 0..4 {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let answer = daemon.get("/v1/connections?limit=15000");
                    assert!(answer.body.len() > 5_000_000, "{} is not much", answer.body.len());
                });
            }
            // What is remembered is taken over by those who answer.
            storm(4_000);
        });
    }
    wait_for(
        "memory to be given back",
        || vitals(&daemon).resident_kib <= before + MOST_KIB,
        || format!("{before} KiB before, {} after", vitals(&daemon).resident_kib),
    );
}

#[tag(root)]
#[test]
fn clients_that_vanish_or_do_not_read_leave_nothing_in_it() {
    let link = VethPair::create();
    let netns = &link.near.netns;
    let daemon = live(netns, "limits.patience_seconds = 1");
    let before = vitals(&daemon);
    let storm = workload::start(netns, &format!("storm --seconds 60 127.0.0.1:{}", free_port(netns)));
    let targets = [
        "/v1/connections/events",
        "/v1/rates/events?interfaces=veth0",
        "/v1/rates?window=20s&interfaces=veth0",
    ];
    let open = |target: &str| {
        let mut stream = daemon.connect();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        stream
    };
    let mut vanishing: Vec<UnixStream> = targets.iter().cycle().take(15).map(|target| open(target)).collect();
    let silent: Vec<UnixStream> = (0..5).map(|_| open(targets[0])).collect();
    vanishing[0].read_exact(&mut [0; 64]).unwrap();
    wait_for("counting", || vitals(&daemon).objects.count() > before.objects.count(), String::new);
    assert_eq!(daemon.get("/v1/summary").status, 200);
    drop(vanishing);
    // Who reads nothing is cut off when its buffers are full; what it has not read by then is all that it had cost.
    let is_as_before = || {
        let now = vitals(&daemon);
        now.descriptors <= before.descriptors && now.objects.count() <= before.objects.count()
    };
    wait_for("the end of streams", is_as_before, || format!("{before:?} {:?}", vitals(&daemon)));
    drop((storm, silent));
    assert_eq!(daemon.get("/v1/summary").status, 200);
}

#[tag(root)]
#[test]
fn without_descriptors_it_says_so_and_goes_on_when_there_are_some_again() {
    let netns = Netns::create();
    let daemon = live(&netns, "");
    let monitor = remote(&daemon);
    let limit = |count: usize| {
        let pid = format!("--pid={}", daemon.process.id());
        let nofile = format!("--nofile={count}:20000");
        assert!(Command::new("prlimit").args([pid, nofile]).status().unwrap().success());
    };
    let mut warm = daemon.connect();
    let question = b"GET /v1/sockets HTTP/1.1\r\nHost: x\r\n\r\n";
    warm.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    warm.read_exact(&mut [0; 12]).unwrap();

    // Not one more, whatever was closed meanwhile: neither for a client, nor for the list of sockets.
    limit(3);
    warm.write_all(question).unwrap();
    let mut answer = Vec::new();
    wait_for(
        "an answer without descriptors",
        || {
            let mut buffer = [0; 65536];
            let count = warm.read(&mut buffer).unwrap();
            answer.extend_from_slice(&buffer[..count]);
            String::from_utf8_lossy(&answer).contains("Too many open files")
        },
        String::new,
    );
    let waiting: Vec<UnixStream> = (0..20).map(|_| daemon.connect()).collect();
    wait_for(
        "the log",
        || daemon.log().contains("cannot accept a connection: Too many open files"),
        || daemon.log(),
    );
    drop(waiting);

    limit(1024);
    wait_for("answers", || monitor.source().start().is_ok(), String::new);
    assert_eq!(daemon.get("/v1/sockets").status, 200);
    let warnings = daemon.log().matches("cannot accept").count();
    assert!(warnings < 200, "{warnings} lines of the same");
}

#[tag(root)]
#[test]
fn an_interface_that_is_taken_away_ends_its_measurement_and_nothing_else() {
    let link = VethPair::create();
    let daemon = live(&link.near.netns, "");
    let before = vitals(&daemon);
    let mut measuring = daemon.connect();
    measuring
        .write_all(
            b"GET /v1/rates?window=2s&interfaces=veth0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
    let mut streaming = daemon.connect();
    streaming
        .write_all(b"GET /v1/rates/events?window=1s&interfaces=veth0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    wait_for("counting", || vitals(&daemon).objects.count() > before.objects.count(), String::new);
    link.near.netns.ip(&["link del veth0"]);
    for mut stream in [measuring, streaming] {
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        assert!(told.contains("veth0") && told.contains("gone"), "{told}");
    }
    wait_for(
        "the end of counting",
        || vitals(&daemon).objects.count() <= before.objects.count(),
        || format!("{:?}", vitals(&daemon)),
    );
    assert_eq!(daemon.get("/v1/rates?window=0.1s&interfaces=lo").status, 200);
}
