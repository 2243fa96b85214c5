//! Each workload does what it says: what it tells is compared with what the kernel says, and with the other side's truth.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use netmon_testkit::{
    Blackhole, Netns, VethPair, wait_until,
    workload::{self, Event, Protocol, Truth},
};
use test_tag::tag;

/// A counter of `/proc/net/snmp`.
fn counter(netns: &Netns, group: &str, name: &str) -> u64 {
    let table = netns.enter(|| fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let prefix = format!("{group}: ");
    let mut lines = table.lines().filter_map(|line| line.strip_prefix(&prefix));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split_whitespace().position(|found| found == name).unwrap();
    values.split_whitespace().nth(at).unwrap().parse().unwrap()
}

/// Connections of a namespace that are established, listeners and others not.
fn established(netns: &Netns) -> usize {
    let table = netns.enter(|| fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
    table.lines().filter(|line| line.split_whitespace().nth(3) == Some("01")).count()
}

fn has_socket(pid: u32, inode: u64) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let link = format!("socket:[{inode}]");
    entries
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|found| found.as_os_str() == link.as_str())
}

/// Serves by a model while three clients connect, one after the other, and returns what both sides told.
fn served(model: &str) -> (Vec<Truth>, Vec<Truth>) {
    let netns = Netns::create();
    let mut server = workload::start(
        &netns,
        &format!("serve --model {model} --connections 3 --receive 70000 --send 200 127.0.0.1:0"),
    );
    let address = server.ready().address();
    let clients = workload::run(
        &netns,
        &format!("many 3 -- connect --comm client --send 70000 --receive 200 {address}"),
    );
    let served = server.wait();
    assert_eq!(counter(&netns, "Tcp", "ActiveOpens"), 3);
    assert_eq!(counter(&netns, "Tcp", "PassiveOpens"), 3);
    let clients: Vec<_> = workload::all(&clients, Event::Done, "client").into_iter().cloned().collect();
    assert_eq!(clients.len(), 3);
    (served, clients)
}

/// The handlers, each checked against its client.
fn handlers<'a>(served: &'a [Truth], clients: &[Truth], role: &str) -> Vec<&'a Truth> {
    let handlers = workload::all(served, Event::Done, role);
    assert_eq!(handlers.len(), 3, "{served:#?}");
    for client in clients {
        assert_eq!((client.sent, client.received, client.errno), (70_000, 200, 0));
        assert_eq!((client.process.as_str(), client.thread.as_str()), ("client", "client"));
        let handler = handlers.iter().find(|handler| handler.peer == client.local).unwrap();
        assert_eq!((handler.sent, handler.received, handler.errno), (200, 70_000, 0));
        assert_eq!(handler.local, client.peer);
        assert!(handler.end_ns > client.start_ns && client.end_ns > client.start_ns);
    }
    handlers
}

fn processes(truths: &[&Truth]) -> BTreeSet<u32> {
    truths.iter().map(|truth| truth.pid).collect()
}

#[tag(root)]
#[test]
fn a_forking_server_accepts_in_the_parent_and_handles_in_a_child_each() {
    for model in ["fork", "inetd"] {
        let (served, clients) = served(model);
        let handlers = processes(&handlers(&served, &clients, "handler"));
        let accepting = processes(&workload::all(&served, Event::Accepted, "acceptor"));
        assert_eq!((accepting.len(), handlers.len()), (1, 3), "{model}");
        assert!(accepting.is_disjoint(&handlers), "{model}");
    }
}

#[tag(root)]
#[test]
fn a_preforking_server_listens_in_one_process_and_accepts_in_others() {
    for model in ["prefork:3", "activated"] {
        let (served, clients) = served(model);
        let handlers = processes(&handlers(&served, &clients, "worker"));
        let accepting = processes(&workload::all(&served, Event::Accepted, "worker"));
        let listening = processes(&workload::all(&served, Event::Ready, "listener"));
        assert_eq!(accepting, handlers, "{model}");
        assert!(listening.is_disjoint(&handlers), "{model}");
    }
}

#[tag(root)]
#[test]
fn a_threaded_server_is_one_process_whose_threads_have_other_names() {
    for model in ["threads:2", "handoff:2"] {
        let (served, clients) = served(model);
        for handler in handlers(&served, &clients, "worker") {
            assert_eq!(handler.process, "mainproc");
            assert!(handler.thread.starts_with("worker-"), "{handler:?}");
            assert_ne!(handler.pid, handler.tid);
        }
    }
}

#[tag(root)]
#[test]
fn a_socket_that_changes_hands_is_used_by_another_process_than_opened_it() {
    for (command, user) in
        [("pass-fd", "receiver"), ("exec-after-connect --comm reborn", "reborn"), ("inherit", "heir")]
    {
        let netns = Netns::create();
        let mut server = workload::start(&netns, "serve --receive 10 --send 20 [::1]:0");
        let address = server.ready().address();
        let told = workload::run(&netns, &format!("{command} --send 10 --receive 20 {address}"));
        let served = server.wait();
        let opened = workload::only(&told, Event::Opened, "opener");
        let used = workload::only(&told, Event::Done, "user");
        assert_eq!((used.process.as_str(), used.sent, used.received, used.errno), (user, 10, 20, 0));
        // The socket is the same all the time.
        assert!(opened.cookie.is_some());
        assert_eq!((opened.cookie, opened.inode, opened.local), (used.cookie, used.inode, used.local));
        assert_eq!(opened.pid == used.pid, command.starts_with("exec"), "{command}");
        assert_eq!(workload::only(&served, Event::Done, "server").peer, used.local);
    }
}

#[tag(root)]
#[test]
fn an_accepted_socket_is_passed_on_too() {
    let netns = Netns::create();
    let mut passing = workload::start(&netns, "pass-fd --side accept --receive 10 --send 20 127.0.0.1:0");
    let address = passing.ready().address();
    workload::run(&netns, &format!("connect --send 10 --receive 20 {address}"));
    let told = passing.wait();
    let used = workload::only(&told, Event::Done, "user");
    assert_eq!((used.received, used.sent), (10, 20));
    assert_ne!(workload::only(&told, Event::Accepted, "opener").pid, used.pid);
    assert_eq!(workload::only(&told, Event::Handed, "opener").cookie, used.cookie);
}

#[tag(root)]
#[test]
fn connections_end_as_they_are_told_to() {
    let netns = Netns::create();
    for family in ["v4", "v6", "mapped"] {
        for (kind, ours, peers) in [
            ("ok", None, None),
            ("closed-by-peer", None, None),
            ("reset-by-us", None, Some("ECONNRESET")),
            ("reset-by-peer", Some("ECONNRESET"), None),
        ] {
            let told = workload::run(&netns, &format!("outcome {kind} {family} --send 5 --receive 6"));
            let client = workload::only(&told, Event::Done, "client");
            let peer = workload::only(&told, Event::Done, "peer");
            assert_eq!((client.error.as_deref(), peer.error.as_deref()), (ours, peers), "{kind} {family}");
            assert_eq!((client.sent, client.received, peer.sent, peer.received), (5, 6, 6, 5));
            assert_eq!((client.local, client.peer), (peer.peer, peer.local));
            assert_ne!(client.pid, peer.pid);
        }
    }
    let resets = counter(&netns, "Tcp", "EstabResets");
    assert_eq!(resets, 12, "both ends of a reset connection count it");
}

#[tag(root)]
#[test]
fn connects_fail_as_they_are_told_to() {
    let netns = Netns::create();
    netns.add_blackhole();
    netns.limit_local_ports(40_000..=40_003);
    for family in ["v4", "v6", "mapped"] {
        for (kind, error) in [
            ("refused", "ECONNREFUSED"),
            ("unreachable", "ENETUNREACH"),
            ("cancelled", "EINPROGRESS"),
            ("timed-out --user-timeout 300", "ETIMEDOUT"),
            ("no-local-port", "EADDRNOTAVAIL"),
        ] {
            let told = workload::run(&netns, &format!("outcome {kind} {family}"));
            let client = workload::only(&told, Event::Done, "client");
            assert_eq!(client.error.as_deref(), Some(error), "{kind} {family}");
            assert_eq!(client.failures, 1);
            assert_eq!(client.connections, if kind == "no-local-port" { 4 } else { 0 });
        }
    }
}

#[tag(root)]
#[test]
fn a_connect_into_the_blackhole_gives_up_after_three_seconds() {
    let netns = Netns::create();
    netns.add_blackhole();
    let mut running = workload::start(&netns, "outcome timed-out v4");
    wait_until("the SYN is sent again", || counter(&netns, "Tcp", "RetransSegs") == 1);
    let told = running.wait_for(Event::Done);
    assert_eq!(told.error.as_deref(), Some("ETIMEDOUT"));
    assert_eq!(told.peer, Some(SocketAddr::from((Blackhole::IPV4, 9))));
    let seconds = told.duration().as_secs_f64();
    assert!((2.5..15.0).contains(&seconds), "{seconds}");
    assert_eq!(counter(&netns, "Tcp", "OutSegs"), 1);
}

#[tag(root)]
#[test]
fn a_connection_stays_half_closed_until_told() {
    let netns = Netns::create();
    for (kind, state, number) in [("close-wait", "CLOSE_WAIT", "08"), ("fin-wait", "FIN_WAIT2", "05")] {
        let mut running = workload::start(&netns, &format!("outcome {kind} v4"));
        let held = running.ready();
        assert_eq!(held.state.as_deref(), Some(state));
        let table = netns.enter(|| fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
        let port = format!(":{:04X}", held.address().port());
        let line = table.lines().find(|line| line.split_whitespace().nth(1).unwrap().ends_with(&port));
        assert_eq!(line.unwrap().split_whitespace().nth(3), Some(number));
        assert!(has_socket(held.pid, held.inode.unwrap()));
        let told = running.wait();
        assert_eq!(workload::only(&told, Event::Done, "client").errno, 0);
        assert_eq!(workload::only(&told, Event::Done, "peer").errno, 0);
    }
}

#[tag(root)]
#[test]
fn a_thread_connects_under_another_name_than_its_process() {
    let netns = Netns::create();
    let told = workload::run(&netns, "connect --comm mainproc --thread worker 127.0.0.1:53");
    let client = workload::only(&told, Event::Done, "client");
    assert_eq!((client.process.as_str(), client.thread.as_str()), ("mainproc", "worker"));
    assert_ne!(client.pid, client.tid);
    assert_eq!(client.error.as_deref(), Some("ECONNREFUSED"));
}

#[tag(root)]
#[test]
fn a_mapped_address_is_reached_by_an_ipv6_socket() {
    let netns = Netns::create();
    let mut server = workload::start(&netns, "serve --receive 10 127.0.0.1:0");
    let address = server.ready().address();
    let told = workload::run(&netns, &format!("v4-mapped --send 10 {address}"));
    let client = workload::only(&told, Event::Done, "client");
    let mapped = IpAddr::from(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    assert_eq!(client.peer, Some(SocketAddr::from((mapped, address.port()))));
    let served = server.wait();
    let peer = workload::only(&served, Event::Done, "server").peer.unwrap();
    assert_eq!(peer, SocketAddr::from((Ipv4Addr::LOCALHOST, client.address().port())));
}

#[tag(root)]
#[test]
fn datagrams_arrive_by_every_call_that_sends_and_receives_them() {
    let netns = Netns::create();
    for (sending, receiving) in [
        ("sendto", "recvfrom"),
        ("sendmsg", "recvmsg"),
        ("sendmmsg", "recvmmsg"),
        ("send --connected", "recv"),
        ("write --connected", "read"),
        ("sendmsg --connected", "recvfrom"),
        ("sendmmsg --connected", "recvmmsg"),
    ] {
        let before = (counter(&netns, "Udp", "OutDatagrams"), counter(&netns, "Udp", "InDatagrams"));
        let mut receiver =
            workload::start(&netns, &format!("udp-receive --count 40 --method {receiving} 127.0.0.1:0"));
        let address = receiver.ready().address();
        let sent =
            workload::run(&netns, &format!("udp-send --datagrams 40 --size 30 --method {sending} {address}"));
        let received = receiver.wait();
        let sent = workload::only(&sent, Event::Done, "sender");
        let received = workload::only(&received, Event::Done, "receiver");
        assert_eq!((sent.datagrams_sent, sent.sent, sent.errno), (40, 1200, 0), "{sending}");
        assert_eq!((received.datagrams_received, received.received), (40, 1200), "{receiving}");
        let sender = received.peer.map(|peer| peer.port());
        assert_eq!(sender.is_none(), matches!(receiving, "recv" | "read"));
        assert!(sender.is_none_or(|port| port == sent.address().port()));
        let after = (counter(&netns, "Udp", "OutDatagrams"), counter(&netns, "Udp", "InDatagrams"));
        assert_eq!((after.0 - before.0, after.1 - before.1), (40, 40), "{sending} {receiving}");
    }
}

#[tag(root)]
#[test]
fn one_socket_sends_to_several_peers_and_by_several_threads() {
    let netns = Netns::create();
    netns.add_addresses(&[
        "127.9.9.9".parse().unwrap(),
        "10.1.1.1".parse().unwrap(),
        "fd00::1".parse().unwrap(),
    ]);
    let mut echoes = ["127.9.9.9:0", "10.1.1.1:0"]
        .map(|address| workload::start(&netns, &format!("udp-echo --count 5 {address}")));
    let [first, second] = echoes.each_mut().map(|echo| echo.ready().address());
    let told = workload::run(&netns, &format!("udp-send --datagrams 5 --size 9 --echo {first} {second}"));
    let sent = workload::all(&told, Event::Done, "sender");
    assert_eq!(sent.iter().map(|truth| truth.peer.unwrap()).collect::<Vec<_>>(), [first, second]);
    assert!(sent.iter().all(|truth| (truth.sent, truth.received, truth.datagrams_received) == (45, 45, 5)));
    assert_eq!(sent[0].cookie, sent[1].cookie);
    for echo in echoes {
        let told = echo.wait();
        let echo = workload::only(&told, Event::Done, "echo");
        assert_eq!((echo.sent, echo.received, echo.peer.unwrap().port()), (45, 45, sent[0].address().port()));
    }

    let mut receiver = workload::start(&netns, "udp-receive --count 10 [fd00::1]:0");
    let address = receiver.ready().address();
    let told = workload::run(&netns, &format!("udp-send --threads 2 --datagrams 5 {address}"));
    let sent = workload::all(&told, Event::Done, "sender");
    assert_eq!(sent.iter().map(|truth| truth.tid).collect::<BTreeSet<_>>().len(), 2);
    assert_eq!((sent[0].pid, sent[0].cookie), (sent[1].pid, sent[1].cookie));
    let received = receiver.wait();
    assert_eq!(workload::only(&received, Event::Done, "receiver").datagrams_received, 10);
}

#[tag(root)]
#[test]
fn segmentation_makes_several_datagrams_of_one_call() {
    let netns = Netns::create();
    let mut receiver = workload::start(&netns, "udp-receive --count 6 127.0.0.1:0");
    let address = receiver.ready().address();
    let told = workload::run(&netns, &format!("udp-send --datagrams 2 --size 2500 --segment 1000 {address}"));
    let sent = workload::only(&told, Event::Done, "sender");
    assert_eq!((sent.datagrams_sent, sent.sent), (6, 5000));
    let received = receiver.wait();
    assert_eq!(workload::only(&received, Event::Done, "receiver").received, 5000);
}

#[tag(root)]
#[test]
fn what_is_no_traffic_sends_nothing() {
    let netns = Netns::create();
    let sent = |netns: &Netns| (counter(netns, "Ip", "OutRequests"), counter(netns, "Udp", "OutDatagrams"));
    let before = sent(&netns);
    let told = workload::run(&netns, "udp-connect 127.0.0.1:443");
    assert_eq!(workload::only(&told, Event::Done, "client").protocol, Protocol::Udp);
    for path in ["@netmon-workload-test", "/tmp/netmon-workload-test"] {
        let told = workload::run(&netns, &format!("unix-connect --send 50 {path}"));
        assert_eq!(workload::only(&told, Event::Done, "client").protocol, Protocol::Unix);
        assert_eq!(workload::only(&told, Event::Done, "server").received, 50);
    }
    assert_eq!(sent(&netns), before);

    let told = workload::run(&netns, "udp-connect-send --answer 127.0.0.1:443");
    let client = workload::only(&told, Event::Done, "client");
    assert_eq!((client.datagrams_sent, client.error.as_deref()), (1, Some("ECONNREFUSED")));
    assert_eq!(sent(&netns).1 - before.1, 1);
}

#[tag(root)]
#[test]
fn echo_requests_are_answered() {
    let netns = Netns::create();
    for address in ["127.0.0.1", "::1"] {
        let told = workload::run(&netns, &format!("ping --count 3 --size 100 {address}"));
        let pinger = workload::only(&told, Event::Done, "pinger");
        assert_eq!((pinger.datagrams_sent, pinger.datagrams_received), (3, 3));
        assert_eq!((pinger.sent, pinger.received, pinger.errno), (324, 324, 0));
    }
    assert_eq!(counter(&netns, "Icmp", "InEchos"), 3);
}

#[tag(root)]
#[test]
fn a_storm_counts_as_many_connections_as_the_kernel() {
    let netns = Netns::create();
    let mut seen = 0;
    for close in ["reset", "fin"] {
        let told = workload::run(
            &netns,
            &format!("storm --seconds 0.5 --connections 5000 --close {close} 127.0.0.1:0"),
        );
        let client = workload::only(&told, Event::Done, "client");
        let acceptor = workload::only(&told, Event::Done, "acceptor");
        assert!(client.connections > 0 && client.connections_per_second() > 0.0, "{client:?}");
        assert_eq!((client.connections, client.failures), (acceptor.connections, 0));
        seen += client.connections;
        assert_eq!(counter(&netns, "Tcp", "ActiveOpens"), seen);
    }
}

#[tag(root)]
#[test]
fn a_flood_counts_as_many_datagrams_as_the_kernel() {
    let netns = Netns::create();
    let told = workload::run(&netns, "flood --seconds 0.3 --datagrams 20000 --size 200 127.0.0.1:0");
    let sender = workload::only(&told, Event::Done, "sender");
    let receiver = workload::only(&told, Event::Done, "receiver");
    assert_eq!(counter(&netns, "Udp", "OutDatagrams"), sender.datagrams_sent);
    assert_eq!(counter(&netns, "Udp", "InDatagrams"), receiver.datagrams_received);
    assert_eq!(sender.sent, sender.datagrams_sent * 200);
}

#[tag(root)]
#[test]
fn a_flood_keeps_to_its_rate_and_bulk_arrives_in_another_namespace() {
    let link = VethPair::create();
    let to = |port: u16| {
        let netns = link.far.netns.name();
        format!("--netns /run/netns/{netns} {}", SocketAddr::from((link.far.ipv4, port)))
    };
    let flood = format!("flood --seconds 60 --per-second 10000 --datagrams 2000 {}", to(9));
    let told = workload::run(&link.near.netns, &flood);
    let sender = workload::only(&told, Event::Done, "sender");
    // The last is due after 199.9 ms, less the millisecond of a burst; however slow the machine is, never earlier.
    assert!(sender.duration() > Duration::from_millis(190), "{sender:?}");
    assert_eq!(counter(&link.near.netns, "Udp", "OutDatagrams"), 2000);
    assert!(counter(&link.far.netns, "Udp", "InDatagrams") > 0);

    let told = workload::run(&link.near.netns, &format!("bulk --seconds 0.1 {}", to(10)));
    let (sender, receiver) =
        (workload::only(&told, Event::Done, "sender"), workload::only(&told, Event::Done, "receiver"));
    assert!(sender.sent > 0 && sender.cpu_ns > 0 && receiver.cpu_ns > 0, "{told:#?}");
    assert_eq!((sender.sent, sender.local, sender.errno), (receiver.received, receiver.peer, 0));
    assert_eq!(counter(&link.far.netns, "Tcp", "PassiveOpens"), 1);
}

#[tag(root)]
#[test]
fn a_server_closes_first_where_told_to() {
    let netns = Netns::create();
    let mut server = workload::start(&netns, "serve --server-closes --receive 10 --send 20 127.0.0.1:0");
    let address = server.ready().address();
    let connect = format!("connect --comm shot-{{}} --send 10 --receive 20 --close-delay 300 {address}");
    let client = workload::run(&netns, &format!("many 1 -- {connect}"));
    let client = workload::only(&client, Event::Done, "client");
    let served = server.wait();
    assert_eq!(client.process, "shot-1");
    assert!(workload::only(&served, Event::Done, "server").end_ns < client.end_ns);
}

#[tag(root)]
#[test]
fn an_open_socket_stays_with_its_process_until_told() {
    let netns = Netns::create();
    let mut server = workload::start(&netns, "serve --receive 30 --send 40 127.0.0.1:0");
    let address = server.ready().address();
    let mut sink = workload::start(&netns, "udp-receive --count 1 127.0.0.1:0");
    let sink_address = sink.ready().address();
    for command in [
        format!("connect --hold --send 30 --receive 40 {address}"),
        format!("udp-send --hold {sink_address}"),
    ] {
        let mut running = workload::start(&netns, &command);
        let held = running.ready();
        assert!(has_socket(held.pid, held.inode.unwrap()), "{command}");
        assert_eq!(held.pid, running.id());
        running.wait();
        assert!(!has_socket(held.pid, held.inode.unwrap()), "{command}");
    }
    assert_eq!(workload::only(&server.wait(), Event::Done, "server").received, 30);
}

#[tag(root)]
#[test]
fn connections_are_held_until_told() {
    let netns = Netns::create();
    let mut running = workload::start(&netns, "hold --connections 3000 127.0.0.1:0");
    assert_eq!(running.ready().connections, 3000);
    assert_eq!(established(&netns), 6000);
    running.wait();
    assert_eq!(established(&netns), 0);
}

#[tag(root)]
#[test]
fn what_is_dropped_is_gone_with_all_its_processes() {
    let netns = Netns::create();
    let mut running = workload::start(&netns, "hold --connections 10 127.0.0.1:0");
    running.ready();
    let processes: BTreeSet<u32> = running.lines().iter().map(|truth| truth.pid).collect();
    assert_eq!(processes.len(), 3);
    drop(running);
    for process in processes {
        wait_until("the process has ended", || !has_workload(process));
    }
}

fn has_workload(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.starts_with("Name:\tnetmon-workload") && !status.contains("State:\tZ")
}

#[tag(root)]
#[test]
fn one_shot_processes_run_side_by_side() {
    let netns = Netns::create();
    let mut server =
        workload::start(&netns, "serve --model threads:4 --connections 20 --receive 10 127.0.0.1:0");
    let address = server.ready().address();
    let told = workload::run(
        &netns,
        &format!("many 20 --parallel 4 -- connect --send 10 --close-delay 5 {address}"),
    );
    let clients = workload::all(&told, Event::Done, "client");
    assert_eq!(processes(&clients).len(), 20);
    assert!(clients.iter().all(|client| client.sent == 10 && client.duration() > Duration::from_millis(5)));
    assert_eq!(workload::only(&told, Event::Done, "launcher").connections, 20);
    assert_eq!(workload::all(&server.wait(), Event::Done, "worker").len(), 20);
}
