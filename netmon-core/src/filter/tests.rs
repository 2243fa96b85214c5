//! The grammar, field by field, and its errors as people see them.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::fact::{
    Attribution, BootTime, ClosedBy, ConnectionDirection, ConnectionError, ConnectionState, Process,
    Protocol, TcpFact, TcpState, Thread, Traffic,
};

fn at_ms(ms: u64) -> Option<BootTime> {
    BootTime::from_ns(ms * 1_000_000)
}

/// A connection of which everything is known.
fn fetch() -> ConnectionFact {
    let mut process = Process::new(1234, "curl");
    process.exe = Some("/usr/local/bin/curl-8.9".into());
    process.cmdline = Some("curl -s https://Example.org/?q=\"x y\"".into());
    process.uid = Some(0);
    process.cgroup = Some("/system.slice/fetch.service".into());
    process.container = Some("4f5a09c3aa".into());
    process.unit = Some("fetch.service".into());
    let mut tcp = TcpFact::new(TcpState::FinWait1);
    tcp.rtt_us = Some(12_500);
    tcp.retransmits = 3;

    let local = "192.0.2.7:40000".parse().unwrap();
    let mut fact = ConnectionFact::new(0x1f3, Protocol::Tcp, ConnectionState::Closed, local);
    fact.opened = at_ms(1000);
    fact.established = at_ms(1020);
    fact.closed = at_ms(6000);
    fact.direction = ConnectionDirection::Outbound;
    fact.remote = Some("10.1.2.3:443".parse().unwrap());
    fact.netns = 4_026_531_840;
    fact.process = Some(Arc::new(process));
    fact.thread = Some(Arc::new(Thread { tid: 1235, comm: "resolver".into() }));
    fact.attribution = Attribution::Exact;
    fact.last_user = Some(Arc::new(Process::new(99, "helper")));
    fact.error = Some(ConnectionError::told(104));
    fact.closed_by = Some(ClosedBy::Remote);
    fact.traffic = Some(Traffic {
        payload_bytes_sent: 1_000,
        payload_bytes_received: 9_240,
        packets_sent: 10,
        packets_received: 12,
    });
    fact.tcp = Some(tcp);
    fact
}

/// A connection of which nothing is known that can be absent.
fn unknown() -> ConnectionFact {
    ConnectionFact::new(0, Protocol::Udp, ConnectionState::Open, "[::1]:53".parse().unwrap())
}

fn matches(expression: &str, fact: &ConnectionFact) -> bool {
    Filter::parse(expression).unwrap_or_else(|error| panic!("{error}")).matches(fact)
}

/// The expressions of a table, with semicolons between them.
fn each(table: &str) -> impl Iterator<Item = &str> {
    table.split([';', '\n']).map(str::trim).filter(|expression| !expression.is_empty())
}

#[test]
fn every_field_is_compared() {
    let holds = r#"
        pid == 1234 ; pid = 99 ; pid != 1 ; pid < 100 ; pid >= 1234 ; pid in (1, 99) ; pid in 90..100
        process == curl ; process == resolver ; process == curl-8.9 ; process == helper ; process != nginx
        process == 'cu*' ; process == c?rl ; process ~ SOLV ; process in (nginx, curl)
        process in ('nginx*', 'help*') ; comm == curl ; comm != resolver ; comm ~ ''
        exe == /usr/local/bin/curl-8.9 ; exe == /usr/*/curl* ; program ~ LOCAL/ ; exe != /usr/bin/curl
        cmdline ~ example.org ; cmdline == 'curl *"x y"' ; command ~ """X Y""" ; user == root ; user == 0
        uid in 0..999 ; user in (1000, root) ; user != 1000 ; cgroup == /system.slice/* ; cgroup ~ fetch
        cgroup != / ; cgroup in /system.slice/fetch.service ; container == 4f5a ; container == 4f5a09c3aa
        container == *c3aa ; container != 5 ; container ~ A09C ; unit == fetch.service
        unit == '*.service' ; unit != x ; unit in (a, fetch.service) ; netns == 4026531840 ; namespace > 1
        netns != 1 ; protocol == tcp ; proto == TCP ; protocol != udp ; protocol in (udp, tcp) ; tcp
        direction == outbound ; direction == out ; direction != in ; direction in (in, out) ; outbound
        state == closed ; state != open ; state in (open, closed) ; closed ; attribution == exact
        attribution != unknown ; attribution in (exact, inherited) ; local == 192.0.2.7
        src == 192.0.2.0/24 ; local in 192.0.2.0/24 ; local != 10.0.0.0/8 ; remote == 10.1.2.3
        dst == 10.0.0.0/8 ; peer in (192.0.2.0/24, 10.1.2.3) ; remote in 10.1.2.1..10.1.2.3
        remote != 10.1.2.4 ; remote == ::ffff:10.1.2.3 ; remote in ::ffff:10.0.0.0/104
        remote in 10.9.9.9/8 ; remote in 0.0.0.0/0 ; local.port == 40000 ; local_port >= 40000
        sport in 32768..60999 ; remote.port == 443 ; remote_port <= 443 ; dport in (80, 443) ; port == 443
        port == 40000 ; port in 440..450 ; port > 39999 ; port != 80 ; error == ECONNRESET
        error == econnreset ; error == 104 ; errno == any ; error != EPERM ; error in (EPERM, ECONNRESET)
        error == 'errno 104' ; error != never_sent ; closed_by == remote ; closed_by != local
        closed_by in (idle, remote) ; tcp.state == fin_wait_1 ; tcp_state == FIN-WAIT-1
        tcp.state != listen ; tcp.state in (finwait1, estab) ; bytes == 10KiB ; bytes == 10240
        bytes > 10KB ; bytes <= 0.01024MB ; bytes in 1KB..1MB ; bytes.sent == 1kb ; sent < 1KiB
        bytes.received == 9240 ; received != 9241 ; packets == 22 ; packets.sent == 10
        packets.received == 12 ; packets >= 22 ; rtt == 12500us ; rtt >= 12ms ; tcp.rtt < 0.0126
        rtt in 10ms..15ms ; retransmits == 3 ; tcp.retransmits > 2 ; latency == 20ms
        connect_latency < 21ms ; duration == 5s ; duration == 5 ; duration > 4s999ms ; duration < 1m30s
        id == 1f3-3b9aca00 ; id in (1-1, 1F3-3b9aca00) ; id != 1-1
    "#;
    for expression in each(holds) {
        assert!(matches(expression, &fetch()), "{expression}");
    }
}

#[test]
fn what_differs_does_not_match() {
    let differs = r#"
        pid == 1 ; pid != 99 ; pid != 1234 ; pid > 1234 ; pid in (1, 2) ; pid in 100..1233
        process == Curl ; process == cur ; process != helper ; process == 'c?' ; process ~ nginx
        comm == resolver ; exe == curl ; exe == '*curl' ; cmdline == curl ; user == 1000
        user in 1..4294967295 ; cgroup == /system.slice ; container == 09c3 ; container == ''
        container != 4f ; unit ~ timer ; netns == 1 ; udp ; icmp ; protocol in (udp, icmp) ; inbound
        direction == none ; open ; failed ; opening ; listening ; attribution == snapshot
        local == 192.0.2.8 ; remote in 11.0.0.0/8 ; remote == ::1 ; remote in ::/0 ; remote != 10.0.0.0/8
        remote in 10.1.2.4..10.1.2.9 ; remote in ::1..::2 ; local.port == 443 ; remote.port == 40000
        port == 80 ; port != 443 ; port < 443 ; port in (1, 2..3) ; error == EPERM ; error == never_sent
        error != 104 ; closed_by == local ; tcp.state == established ; bytes > 10KiB ; bytes.sent != 1KB
        bytes.received < 9240 ; packets in 1..21 ; packets.sent > 10 ; rtt < 12500us ; rtt > 13ms
        retransmits < 3 ; latency > 20ms ; duration > 5s ; id == 1f3-0
    "#;
    for expression in each(differs) {
        assert!(!matches(expression, &fetch()), "{expression}");
    }
}

#[test]
fn what_is_not_known_matches_nothing_but_not() {
    let comparisons = r#"
        pid OP 1 ; process OP x ; comm OP x ; exe OP x ; cmdline OP x ; user OP 0 ; cgroup OP /
        container OP a ; unit OP x ; netns OP 0 ; remote OP 10.0.0.1 ; remote.port OP 443 ; error OP EPERM
        error OP never_sent ; closed_by OP local ; tcp.state OP listen ; bytes OP 0 ; bytes.sent OP 0
        bytes.received OP 0 ; packets OP 0 ; packets.sent OP 0 ; packets.received OP 0 ; rtt OP 0
        retransmits OP 0 ; latency OP 0 ; duration OP 0
    "#;
    for comparison in each(comparisons) {
        for operator in ["==", "!="] {
            let expression = comparison.replace("OP", operator);
            assert!(!matches(&expression, &unknown()), "{expression}");
            assert!(matches(&format!("not {expression}"), &unknown()), "not {expression}");
        }
    }
    for expression in ["rtt >= 0", "bytes < 1TB", "process ~ ''", "error == any", "process == '*'"] {
        assert!(!matches(expression, &unknown()), "{expression}");
    }
}

#[test]
fn an_error_without_a_number_is_never_sent_and_perhaps_any_number() {
    let mut fact = unknown();
    fact.error = Some(ConnectionError::inferred(None));
    assert!(matches("error == any and error == never_sent", &fact));
    assert!(!matches("error == EPERM or error != EPERM or error != never_sent", &fact));
}

#[test]
fn an_accepted_connection_has_no_connect_latency_and_an_open_one_no_duration() {
    let mut fact = fetch();
    fact.direction = ConnectionDirection::Inbound;
    fact.closed = None;
    assert!(!matches("latency >= 0 or duration >= 0", &fact));
}

#[test]
fn the_name_of_a_replaced_program_file_is_still_its_name() {
    let mut fact = unknown();
    let mut process = Process::new(1, "");
    process.exe = Some("/usr/sbin/nginx (deleted)".into());
    fact.process = Some(Arc::new(process));
    assert!(matches("process == nginx and process != ''", &fact));
    assert!(!matches("comm == '' or comm != nginx", &fact), "an empty name is not known");
}

#[test]
fn text_is_compared_as_it_is_printed() {
    let mut fact = unknown();
    fact.process = Some(Arc::new(Process::new(1, "\u{1b}[31mИван\u{202e}")));
    for expression in [
        "process == \"\u{1b}[31mИван\u{202e}\"",
        r#"process == "\x1b[31mИван\u{202e}""#,
        "process ~ ИВАН",
        r"process == \x1b*",
        "process == '*в?н*'",
    ] {
        assert!(matches(expression, &fact), "{expression}");
    }
}

#[test]
fn precedence_is_not_then_and_then_or() {
    let cases = [
        ("udp or tcp and failed", false),
        ("tcp or udp and failed", true),
        ("(tcp or udp) and failed", false),
        ("not tcp and failed", false),
        ("not (tcp and failed)", true),
        ("!tcp||!udp&&closed", true),
        ("NOT udp AND Tcp", true),
        ("not not tcp", true),
        ("  ", true),
    ];
    for (expression, expected) in cases {
        assert_eq!(matches(expression, &fetch()), expected, "{expression}");
    }
}

#[test]
fn there_is_one_way_of_printing() {
    let cases = [
        ("", ""),
        ("port=443&&!failed", "port == 443 and not failed"),
        ("((tcp))", "tcp"),
        ("(tcp and (udp and icmp)) or (open or closed)", "tcp and udp and icmp or open or closed"),
        ("!(tcp or udp)", "not (tcp or udp)"),
        ("(tcp or udp) and open", "(tcp or udp) and open"),
        ("state == failed", "failed"),
        ("direction == none", "direction == none"),
        ("DPORT in(80,  443,8000..8999)", "remote.port in (80, 443, 8000..8999)"),
        ("port in (80)", "port in 80"),
        ("process == 'a b' or process == \"it's\"", "process == \"a b\" or process == \"it's\""),
        ("process == 'say \"\"hi\"\"'", "process == \"say \"\"\"\"hi\"\"\"\"\""),
        ("process == 'and' or process == ''", "process == \"and\" or process == \"\""),
        ("process ~ \"\u{7}\"", r"process ~ \x07"),
        ("dst in 10.1.2.3/8", "remote in 10.0.0.0/8"),
        ("dst = 10.1.2.3/32", "remote == 10.1.2.3"),
        ("dst in [FE80::1]", "remote in fe80::1"),
        (
            "bytes > 2048 or bytes > 1500000 or bytes = 1001",
            "bytes > 2KiB or bytes > 1500KB or bytes == 1001",
        ),
        ("rtt > 1500ms or rtt > 0 or rtt > 2m", "rtt > 1500ms or rtt > 0s or rtt > 120s"),
        ("error == 111 or error == 200", "error == ECONNREFUSED or error == 200"),
        ("user == root", "user == root"),
        ("tcp.state == ESTAB", "tcp.state == established"),
        ("id == 00F-1", "id == f-1"),
    ];
    for (expression, expected) in cases {
        let filter = Filter::parse(expression).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(filter.to_string(), expected);
        assert_eq!(Filter::parse(expected).unwrap(), filter, "{expected}");
    }
}

#[test]
fn filters_are_joined_and_kept_as_text() {
    let either = Filter::parse("tcp or udp").unwrap();
    assert!(Filter::default().is_everything());
    assert!(Filter::everything().and(Filter::everything()).is_everything());
    assert_eq!(Filter::everything().and(either.clone()), either);
    let both = either.and(Filter::parse("port == 1 and open").unwrap());
    assert_eq!(both.to_string(), "(tcp or udp) and port == 1 and open");

    let json = serde_json::to_string(&both).unwrap();
    assert_eq!(json, r#""(tcp or udp) and port == 1 and open""#);
    assert_eq!(serde_json::from_str::<Filter>(&json).unwrap(), both);
    assert!(
        serde_json::from_str::<Filter>("\"port\"").unwrap_err().to_string().contains("comes an operator")
    );
}

/// The names that fields have in errors.
const FIELDS: &str = "there are pid, process, comm, exe (program), cmdline (command), user (uid), cgroup, container, unit, \
    netns (namespace), protocol (proto), direction, state, attribution, local (src), remote (dst, peer), \
    local.port (local_port, sport), remote.port (remote_port, dport), port, error (errno), closed_by, \
    tcp.state (tcp_state), bytes, bytes.sent (sent), bytes.received (received), packets, packets.sent, \
    packets.received, rtt (tcp.rtt), retransmits (tcp.retransmits), latency (connect_latency), duration, id; and alone: \
    opening, open, closed, failed, listening, inbound, outbound, tcp, udp, icmp";

#[track_caller]
fn check_error(expression: &str, expected: &str) {
    let error = Filter::parse(expression).unwrap_err();
    assert_eq!(error.to_string(), expected.replace("FIELDS", FIELDS));
}

#[test]
fn an_unknown_field_is_answered_with_those_there_are() {
    check_error(
        "prot == 443",
        "no field is called \"prot\"; did you mean \"port\" or \"protocol\"? (FIELDS)\n  prot == 443\n  ^",
    );
    check_error(
        "tcp and faild",
        "no field is called \"faild\"; did you mean \"failed\"? (FIELDS)\n  tcp and faild\n          ^",
    );
    check_error(
        "not bytessent > 1",
        "no field is called \"bytessent\"; did you mean \"bytes.sent\" or \"bytes\"? (FIELDS)\n  not bytessent > 1\n      ^",
    );
    check_error("443 == port", "no field is called \"443\" (FIELDS)\n  443 == port\n  ^");
}

#[test]
fn a_wrong_operator_is_answered_with_those_that_fit() {
    let cases = [
        (
            "port",
            "after \"port\" comes an operator: == != < <= > >= in
  port
      ^",
        ),
        (
            "port is 80",
            "\"is\" is no operator; did you mean \"==\"? (\"port\" has == != < <= > >= in)
  port is 80
       ^",
        ),
        (
            "process contians x",
            "\"contians\" is no operator (\"process\" has == != ~ in)
  process contians x
          ^",
        ),
        (
            "port === 80",
            "\"===\" is no operator; did you mean \"==\"? (there are == != < <= > >= ~ in && || !)
  port === 80
       ^",
        ),
        (
            "tcp & open",
            "\"&\" is no operator; did you mean \"&&\"? (there are == != < <= > >= ~ in && || !)
  tcp & open
      ^",
        ),
        (
            "process < x",
            "\"process\" cannot be compared with <; its operators are == != ~ in
  process < x
          ^",
        ),
        (
            "port not in (1)",
            "after \"port\" comes an operator: == != < <= > >= in; \"not\" belongs before the field, as in not port in (...)
  port not in (1)
       ^",
        ),
        (
            "failed == true",
            "\"failed\" is a condition by itself and cannot be compared; it is short for state == failed
  failed == true
         ^",
        ),
    ];
    for (expression, expected) in cases {
        check_error(expression, expected);
    }
}

#[test]
fn a_wrong_value_is_answered_with_what_is_possible() {
    let cases = [
        (
            "tcp and port == 70000",
            "\"port\" is compared with ports from 0 to 65535 such as 443 or 8000..8999, not with \"70000\"
  tcp and port == 70000
                  ^",
        ),
        (
            "pid in (1, +2)",
            "\"pid\" is compared with numbers such as 42 or 100..199, not with \"+2\"
  pid in (1, +2)
             ^",
        ),
        (
            "port in 9..1",
            "this range is empty: its first number is greater than its last
  port in 9..1
          ^",
        ),
        (
            "port < 1..2",
            "after < comes one value; ranges such as \"1..2\" come after in
  port < 1..2
         ^",
        ),
        (
            "bytes > 1XB",
            "\"bytes\" is compared with sizes such as 1500, 10KiB or 1MB..2MB, not with \"1XB\"
  bytes > 1XB
          ^",
        ),
        (
            "rtt > fast",
            "\"rtt\" is compared with durations such as 500ms, 5s or 1m30s..2m, not with \"fast\"
  rtt > fast
        ^",
        ),
        (
            "remote == 10.0.0.0/33",
            "\"remote\" is compared with IP addresses, networks such as 10.0.0.0/8 and ranges such as \
             10.0.0.1..10.0.0.9, not with \"10.0.0.0/33\"
  remote == 10.0.0.0/33
            ^",
        ),
        (
            "remote == [::1]:443",
            "\"remote\" is an address without a port; write remote == ::1 and remote.port == 443
  remote == [::1]:443
            ^",
        ),
        (
            "user == nobdy",
            "no user is called \"nobdy\" in /etc/passwd; a number such as 1000 works too
  user == nobdy
          ^",
        ),
        (
            "protocol == tpc",
            "\"tpc\" is no protocol; did you mean \"tcp\"? (there are tcp, udp, icmp)
  protocol == tpc
              ^",
        ),
        (
            "state == established",
            "\"established\" is no state; did you mean the field \"tcp.state\"? (there are opening, open, closed, failed, \
             listening)
  state == established
           ^",
        ),
        (
            "error != any",
            "nothing has an error that is not any; write not error == any
  error != any
           ^",
        ),
        (
            "id == 5",
            "\"id\" is compared with ids of connections such as 1f3-2a96c51d09e, not with \"5\"
  id == 5
        ^",
        ),
    ];
    for (expression, expected) in cases {
        check_error(expression, expected);
    }
    let error = Filter::parse("error == ECONREFUSED").unwrap_err();
    assert!(
        error.message.starts_with(
            "\"ECONREFUSED\" is no error; did you mean \"ECONNREFUSED\"? (there are EPERM, EINTR, EAGAIN, "
        ),
        "{error}"
    );
    assert!(error.message.ends_with(", EINPROGRESS, ECANCELED, never_sent, any, and numbers)"), "{error}");
}

#[test]
fn a_wrong_structure_is_shown_where_it_is() {
    let cases = [
        ("(tcp", "this parenthesis is not closed", 1),
        ("tcp)", "no parenthesis was opened that this one could close", 4),
        ("tcp and ()", "a condition belongs here, such as port == 443 or failed", 10),
        ("tcp or ", "a condition belongs here, such as port == 443 or failed", 8),
        ("!", "a condition belongs here, such as port == 443 or failed", 2),
        (
            "tcp failed",
            "between two conditions comes \"and\" or \"or\"; text with blanks in it goes in quotes",
            5,
        ),
        ("(tcp adn failed)", "between two conditions comes \"and\" or \"or\"; did you mean \"and\"?", 6),
        (
            "comm == Web Content",
            "between two conditions comes \"and\" or \"or\"; text with blanks in it goes in quotes",
            13,
        ),
        ("port in (80 443)", "between two values of a list comes a comma", 13),
        ("port in (80, 443", "this list is not closed by a parenthesis", 9),
        ("port in ()", "a value is missing here, as in (80, 443)", 10),
        ("port == (80)", "after == comes one value; a list in parentheses comes after in", 9),
        ("port ==", "a value is missing after ==; text with signs or blanks in it goes in quotes", 8),
        ("comm == or", "a value is missing after ==; the words and, or and not are values in quotes only", 9),
        ("comm == \"x", "the text that begins with this \" has no \" at its end", 9),
        (
            "'port' == 80",
            "a condition belongs here, such as port == 443 or failed; it begins with the name of a field, without quotes",
            1,
        ),
    ];
    for (expression, message, column) in cases {
        let error = Filter::parse(expression).unwrap_err();
        assert_eq!((error.message.as_str(), error.column), (message, column), "{expression}");
    }
}

#[test]
fn the_caret_stands_under_the_character_whatever_its_width() {
    let cases = [
        ("comm == \"日本語\" and tpc", "\n  comm == \"日本語\" and tpc\n                       ^", 19),
        (
            "comm == \"e\u{301}\u{1b}[2J\u{202e}\" and tpc",
            "\n  comm == \"e\u{301}\\x1b[2J\\u{202e}\" and tpc\n                                 ^",
            23,
        ),
    ];
    for (expression, place, column) in cases {
        let error = Filter::parse(expression).unwrap_err();
        assert_eq!(error.column, column);
        assert!(error.to_string().ends_with(place), "{error}");
    }
}

#[test]
fn of_a_long_expression_the_surroundings_are_shown() {
    let expression = format!("{}tpc{}", "port == 443 and ".repeat(20), " and open".repeat(20));
    let error = Filter::parse(&expression).unwrap_err();
    assert_eq!(error.column, 321);
    let shown = "
  … and port == 443 and port == 443 and tpc and open and open and open and op…
                                        ^";
    assert!(error.to_string().ends_with(shown), "{error}");
}

#[test]
fn length_and_nesting_have_limits() {
    let longest = format!("comm == x{}", " ".repeat(LONGEST_EXPRESSION - 9));
    assert!(Filter::parse(&longest).is_ok());
    let error = Filter::parse(&(longest + " ")).unwrap_err();
    assert_eq!(error.message, "the expression is too long: it may have 4096 characters");
    assert_eq!(error.column, 4097);

    for (open, close) in [("(", ")"), ("not ", ""), ("!", "")] {
        let nested = |depth| format!("{}tcp{}", open.repeat(depth), close.repeat(depth));
        assert!(Filter::parse(&nested(DEEPEST_NESTING)).is_ok());
        let error = Filter::parse(&nested(DEEPEST_NESTING + 1)).unwrap_err();
        assert_eq!(error.message, "parentheses and \"not\" may be nested 64 deep, and no deeper");
    }
    assert!(Filter::parse(&"(".repeat(4096)).is_err());

    assert!(Filter::parse(&format!("comm == {}", "x".repeat(256))).is_ok());
    let error = Filter::parse(&format!("comm == {}", "x".repeat(257))).unwrap_err();
    assert_eq!(error.message, "text to compare with may have 256 characters");
}

#[test]
fn hostile_values_are_refused_or_harmless() {
    let refused = r#"
        bytes > 99999999999999999999 ; bytes > 18446744073709551616 ; bytes > 18446744073709551615TiB
        bytes > 1. ; bytes > .5MB ; bytes > 1.0000000001MB ; bytes > 1.. ; bytes > ..1 ; bytes > 1e3
        bytes > -1 ; bytes > NaN ; rtt > 1e300 ; rtt > 9223372037 ; rtt > inf ; rtt > NaN ; rtt > -1s ; rtt > 18446744074
        pid == 4294967296 ; port == 65536 ; port == ٤٤٣ ; port == 0x50 ; port == '' ; remote == ''
        remote == 1.2.3 ; remote == 0300.0.0.1 ; remote == fe80::1%eth0 ; remote == ::ffff:1.2.3.4/129
        remote in ::1..1.2.3.4 ; user == '' ; user == 'root:x' ; user == -1 ; error == -111 ; error == ''
        id == - ; id == 1- ; protocol == '' ; error == 4294967407
    "#;
    for expression in each(refused).chain(["user == \"root\n\""]) {
        let error = Filter::parse(expression).unwrap_err();
        assert!(!error.message.contains('\n'), "{error}");
    }
    // The worst that a glob can be asked.
    let mut fact = unknown();
    let mut process = Process::new(1, "x");
    process.cmdline = Some("a".repeat(256).into());
    fact.process = Some(Arc::new(process));
    assert!(!matches(&format!("cmdline == '{}b'", "*a".repeat(127)), &fact));
}

#[test]
fn every_name_stands_for_one_thing() {
    use field::{FIELDS, FLAGS};

    let mut names = Vec::new();
    for (index, (field, name, others, _)) in FIELDS.iter().enumerate() {
        assert_eq!(*field as usize, index, "{name} is not where the variant is");
        names.push(*name);
        names.extend_from_slice(others);
    }
    names.extend(FLAGS.iter().map(|(name, _)| *name));
    names.extend(["and", "or", "not", "in"]);
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn the_names_of_values_are_those_of_facts() {
    use field::{ATTRIBUTIONS, CLOSERS, DIRECTIONS, PROTOCOLS, STATES, TCP_STATES};

    assert_eq!(PROTOCOLS, [Protocol::Tcp, Protocol::Udp, Protocol::Icmp].map(Protocol::name));
    let directions = [ConnectionDirection::Inbound, ConnectionDirection::Outbound, ConnectionDirection::None];
    assert_eq!(DIRECTIONS, directions.map(ConnectionDirection::name));
    let states = [
        ConnectionState::Opening,
        ConnectionState::Open,
        ConnectionState::Closed,
        ConnectionState::Failed,
        ConnectionState::Listening,
    ];
    assert_eq!(STATES, states.map(ConnectionState::name));
    let attributions =
        [Attribution::Exact, Attribution::Inherited, Attribution::Snapshot, Attribution::Unknown];
    assert_eq!(ATTRIBUTIONS, attributions.map(Attribution::name));
    let closers = [ClosedBy::Local, ClosedBy::Remote, ClosedBy::Timeout, ClosedBy::Idle];
    assert_eq!(CLOSERS, closers.map(ClosedBy::name));
    let tcp_states: Vec<_> = (1..=11).filter_map(TcpState::from_kernel).map(TcpState::name).collect();
    assert_eq!(TCP_STATES, tcp_states);
}

/// Values for fields of every kind.
fn comparison() -> impl Strategy<Value = String> {
    let relation = || prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let equality = || prop::sample::select(vec!["=", "!=", "in"]);
    let numbers = prop::sample::select(vec!["pid", "netns", "packets", "retransmits"]);
    let sizes = prop::sample::select(vec!["bytes", "sent", "bytes.received"]);
    let durations = prop::sample::select(vec!["rtt", "latency", "duration"]);
    let texts =
        || prop::sample::select(vec!["process", "comm", "exe", "cmdline", "cgroup", "container", "unit"]);
    let address = || {
        prop_oneof![
            any::<std::net::IpAddr>().prop_map(|address| address.to_string()),
            (any::<std::net::Ipv4Addr>(), 0..=32_u8)
                .prop_map(|(address, prefix)| format!("{address}/{prefix}")),
            (any::<std::net::Ipv6Addr>(), 0..=128_u8)
                .prop_map(|(address, prefix)| format!("{address}/{prefix}")),
            (any::<u16>(), 0..=128_u8).prop_map(|(low, prefix)| format!("::ffff:a00:{low:x}/{prefix}")),
        ]
    };
    let user = prop_oneof![Just("root".to_owned()), any::<u32>().prop_map(|uid| uid.to_string())];
    prop_oneof![
        (numbers, relation(), any::<u32>())
            .prop_map(|(field, relation, n)| format!("{field} {relation} {n}")),
        (any::<u16>(), any::<u16>()).prop_map(|(a, b)| format!("port in {}..{}", a.min(b), a.max(b))),
        (sizes, relation(), any::<u64>()).prop_map(|(field, relation, n)| format!("{field} {relation} {n}")),
        (0..1000_u32, 0..1000_u32).prop_map(|(whole, part)| format!("bytes > {whole}.{part}MiB")),
        (durations, relation(), 0..=i64::MAX)
            .prop_map(|(field, relation, n)| format!("{field} {relation} {n}ns")),
        (texts(), equality(), ".{0,20}")
            .prop_map(|(field, relation, text)| format!("{field} {relation} {}", doubled(&text))),
        (texts(), prop::collection::vec(".{0,5}", 1..4)).prop_map(|(field, texts)| {
            format!("{field} in ({})", texts.iter().map(|text| doubled(text)).collect::<Vec<_>>().join(","))
        }),
        (texts(), ".{0,20}").prop_map(|(field, text)| format!("{field} ~ {}", doubled(&text))),
        (equality(), user).prop_map(|(relation, user)| format!("user {relation} {user}")),
        (equality(), address()).prop_map(|(relation, address)| format!("remote {relation} {address}")),
        (equality(), 0..200_i32).prop_map(|(relation, errno)| format!("error {relation} {errno}")),
        (any::<u64>(), any::<u64>()).prop_map(|(a, b)| format!("id == {a:x}-{b:x}")),
        prop::sample::select(vec![
            "tcp",
            "failed",
            "inbound",
            "direction != in",
            "tcp.state in (listen, close)",
            "error == any"
        ])
        .prop_map(str::to_owned),
    ]
}

/// Text in quotation marks as it is, whatever is in it.
fn doubled(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn expression() -> impl Strategy<Value = String> {
    comparison().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|part| format!("!({part})")),
            inner.clone().prop_map(|part| format!("not {part}")),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("({})", parts.join(" && "))),
            prop::collection::vec(inner, 1..4).prop_map(|parts| format!("({})", parts.join(" or "))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back_as_the_same(expression in expression()) {
        let filter = Filter::parse(&expression);
        prop_assume!(expression.chars().count() <= LONGEST_EXPRESSION);
        let filter = filter.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let printed = filter.to_string();
        prop_assert_eq!(Filter::parse(&printed).map_err(|error| TestCaseError::fail(error.to_string()))?, filter.clone());
        prop_assert!(!printed.chars().any(char::is_control));
        filter.matches(&fetch());
        filter.matches(&unknown());
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        check_any(&text)?;
    }

    #[test]
    fn any_words_are_read_or_refused(
        words in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec![
                    "and", "or", "not", "in", "(", ")", ",", "==", "!=", "<", "~", "!", "&&", "||", "=", "port", "process",
                    "remote", "user", "rtt", "bytes", "error", "tcp", "failed", "80", "1..2", "'", "\"", "*", "10.0.0.0/8",
                    "5s", "1MB", "root", "any", "..", "/", "\u{202e}", "語",
                ]).prop_map(str::to_owned),
                ".{0,3}",
            ],
            0..20,
        ),
        separator in prop::sample::select(vec!["", " "]),
    ) {
        check_any(&words.join(separator))?;
    }

    #[test]
    fn globs_match_as_the_definition_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        fn defined(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern, text) {
                ([], text) => text.is_empty(),
                ([b'*', rest @ ..], text) => (0..=text.len()).any(|skipped| defined(rest, &text[skipped..])),
                ([wanted, pattern @ ..], [found, text @ ..]) => (*wanted == b'?' || wanted == found) && defined(pattern, text),
                _ => false,
            }
        }
        let mut fact = unknown();
        fact.process = Some(Arc::new(Process::new(1, text.as_str())));
        let expected = !text.is_empty() && defined(pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(matches(&format!("comm == '{pattern}'"), &fact), expected);
    }
}

/// That text does no harm, and comes back as the same if it is a filter.
fn check_any(text: &str) -> Result<(), TestCaseError> {
    match Filter::parse(text) {
        Ok(filter) => {
            let printed = filter.to_string();
            let again = Filter::parse(&printed).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(again, filter);
        }
        Err(error) => {
            prop_assert!(error.column >= 1 && error.column <= text.chars().count() + 1);
            prop_assert!(error.indent <= error.expression.as_str().width());
            let shown = error.to_string();
            let lines: Vec<_> = shown.lines().collect();
            prop_assert_eq!(lines.len(), 3);
            for line in lines {
                prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
            }
        }
    }
    Ok(())
}
