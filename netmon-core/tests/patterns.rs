//! Patterns in made traffic: what is found, and what is not.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "two ignored tests are measurements")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use netmon_core::{
    Answer as _, Control, Error, Filter, Monitor, PatternsAnswer, PatternsRequest, Result, Source,
    answer::Row as _,
    fact::{
        BootTime, ConnectionDirection, ConnectionError, ConnectionFact, ConnectionState, Moment, Observed,
        Process, Protocol, Traffic,
    },
    monitor::patterns::{Pattern, PatternKind, ScanShape},
    source::{ChangeCursor, Observation, Sighting, SourceDescription, Span},
};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
/// The moment at which the window of most tests begins, in seconds since boot.
const START: u64 = 10_000;

/// Facts in memory.
struct Memory {
    facts: Vec<ConnectionFact>,
    /// Seconds since boot between which somebody observed; `None` where nobody did.
    observed: Option<(u64, u64)>,
}

fn moment(ns: u64) -> Moment {
    Moment { boot_ns: ns, wall: jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap() }
}

impl Source for Memory {
    fn describe(&self) -> SourceDescription {
        SourceDescription::new("memory", "test", "none")
    }

    fn start(&self) -> Result<Moment> {
        Ok(moment(START * SECOND))
    }

    fn wait(&self, from: &Moment, window: Duration, control: &Control<'_>) -> Result<Moment> {
        if control.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(moment(from.boot_ns + u64::try_from(window.as_nanos()).unwrap()))
    }

    fn observe(&self) -> Result<Observation> {
        Ok(Observation { from: self.start()?, cursor: ChangeCursor(0), guard: Box::new(()) })
    }

    fn observed(&self, since: Option<Duration>) -> Result<Option<Span>> {
        Ok(self.observed.map(|(from, to)| {
            let asked = since.map_or(0, |since| (to * SECOND).saturating_sub(since.as_nanos() as u64));
            Span { from: moment(asked.max(from * SECOND)), to: moment(to * SECOND) }
        }))
    }

    fn connections(&self, span: &Span, _: &Filter, visit: &mut dyn FnMut(Sighting<'_>)) -> Result<Observed> {
        for fact in &self.facts {
            let over = fact.closed.is_some_and(|closed| closed.ns() <= span.from.boot_ns);
            let later = fact.opened.is_some_and(|opened| opened.ns() > span.to.boot_ns);
            if !over && !later {
                visit(Sighting { fact, before: None });
            }
        }
        Ok(Observed::default())
    }
}

/// A small deterministic generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From `-1` to `1`.
    fn around(&mut self) -> f64 {
        self.unit() * 2.0 - 1.0
    }

    /// Times of Poisson traffic.
    fn poisson(&mut self, rate: f64, seconds: f64) -> Vec<f64> {
        let mut times = Vec::new();
        let mut at = 0.0;
        loop {
            at -= (1.0 - self.unit()).ln() / rate;
            if at >= seconds {
                return times;
            }
            times.push(at);
        }
    }

    /// Times that are an interval apart, give or take some share of it which adds up, without those that are missed.
    fn beacon(&mut self, interval: f64, jitter: f64, missed: f64, seconds: f64) -> Vec<f64> {
        let mut times = Vec::new();
        let mut at = self.unit() * interval;
        while at < seconds {
            if self.unit() >= missed {
                times.push(at);
            }
            at += interval * (1.0 + jitter * self.around());
        }
        times
    }
}

fn process(pid: u32, comm: &str) -> Arc<Process> {
    Arc::new(Process::new(pid, comm))
}

fn host(last: u64) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0xc633_6400 + u32::try_from(last).unwrap()))
}

/// A connection that begins so many seconds after the start, succeeds, and is over with some bytes after a tenth.
fn connection(at: f64, process: &Arc<Process>, address: IpAddr, port: u16) -> ConnectionFact {
    let local = SocketAddr::new(host(0), 40_000);
    let mut fact = ConnectionFact::new(1, Protocol::Tcp, ConnectionState::Closed, local);
    let begun = START * SECOND + (at * 1e9) as u64 + 1;
    fact.opened = BootTime::from_ns(begun);
    fact.established = BootTime::from_ns(begun + SECOND / 100);
    fact.closed = BootTime::from_ns(begun + SECOND / 10);
    fact.direction = ConnectionDirection::Outbound;
    fact.remote = Some(SocketAddr::new(address, port));
    fact.process = Some(Arc::clone(process));
    fact.traffic = Some(Traffic {
        payload_bytes_sent: 500,
        payload_bytes_received: 5_000,
        packets_sent: 6,
        packets_received: 8,
    });
    fact
}

fn refused(at: f64, process: &Arc<Process>, address: IpAddr, port: u16) -> ConnectionFact {
    let mut fact = connection(at, process, address, port);
    fact.state = ConnectionState::Failed;
    fact.established = None;
    fact.error = Some(ConnectionError::told(111));
    fact.traffic = Some(Traffic::default());
    fact
}

/// The patterns of a window that somebody observed, and nothing before.
fn patterns(facts: Vec<ConnectionFact>, seconds: u64) -> PatternsAnswer {
    ask(facts, Some((START, START + seconds)), None)
}

fn ask(facts: Vec<ConnectionFact>, observed: Option<(u64, u64)>, since: Option<u64>) -> PatternsAnswer {
    let mut request = PatternsRequest::default();
    request.since = since.map(Duration::from_secs);
    Monitor::new(Memory { facts, observed }).patterns(&request, &Control::default()).unwrap()
}

fn series(times: &[f64], process: &Arc<Process>, address: IpAddr, port: u16) -> Vec<ConnectionFact> {
    times.iter().map(|at| connection(*at, process, address, port)).collect()
}

fn kinds(answer: &PatternsAnswer) -> Vec<PatternKind> {
    answer.findings().map(|pattern| pattern.kind).collect()
}

#[test]
fn the_text_begins_as_netspys_did() {
    let curl = process(7, "curl");
    let mut facts = series(&[1.0, 2.0, 3.5], &curl, host(1), 443);
    facts.extend(series(&[1.5], &curl, host(2), 80));
    let mut dns = connection(2.5, &curl, host(3), 53);
    dns.protocol = Protocol::Udp;
    facts.push(dns);
    let answer = patterns(facts, 5);
    assert_eq!(
        answer.to_string(),
        "Connection Analysis:
  Top destinations:
    198.51.100.1:443 (3 connections)
    198.51.100.2:80 (1 connections)
    198.51.100.3:53 (1 connections) udp
  Protocols: TCP (4), UDP (1)
  Observed: 5 s, 5 attempts of this side
  Failures: 0 of 5 attempts failed (0 %)
  Looked for and not found: frequent failures, scans, periodic connections, bursts"
    );
    assert_eq!(answer.destinations[0].payload_bytes_received, Some(15_000));
    assert_eq!(answer.protocols[0].payload_bytes_sent, Some(2_000));
    assert_eq!(answer.processes[0].process.as_ref().unwrap().to_string(), "curl (pid 7)");
    assert_eq!(
        answer.notes(),
        ["not looked for: new destinations, as the time before this window was not observed"]
    );
}

#[test]
fn where_nothing_was_it_says_so_and_what_it_looked_for() {
    let answer = patterns(Vec::new(), 60);
    assert_eq!(
        answer.to_string(),
        "Connection Analysis:
  No connections found in 60 s
  Looked for and not found: frequent failures, scans, periodic connections, bursts"
    );
    assert_eq!(answer.failure_ratio.ratio, None);
    assert_eq!(answer.rows(), []);
}

#[test]
fn a_window_is_waited_for_where_nobody_observed_and_a_shorter_past_is_said() {
    let answer = ask(Vec::new(), None, Some(60));
    assert_eq!(answer.header.window.seconds, 5.0);
    assert_eq!(
        answer.header.coverage.warnings,
        [
            "asked for the last 60 s; observed 5 s, since nothing was recording before; start netmond, or write a recording and ask that"
        ]
    );

    let answer = ask(Vec::new(), Some((START, START + 20)), Some(60));
    assert_eq!(answer.header.window.seconds, 20.0);
    assert_eq!(
        answer.header.coverage.warnings,
        ["asked for the last 60 s; only the last 20 s were recorded"]
    );

    let answer = ask(Vec::new(), Some((START, START + 100)), Some(60));
    assert_eq!((answer.header.window.seconds, answer.header.coverage.warnings.len()), (60.0, 0));
}

#[test]
fn frequent_failures_need_evidence_and_name_their_errors() {
    let (good, bad) = (process(1, "good"), process(2, "bad"));
    let mut facts = series(&[1.0, 2.0, 4.5, 7.0, 7.3, 9.0], &good, host(1), 443);
    facts.extend([3.0, 5.0].map(|at| refused(at, &good, host(2), 443)));
    facts.extend([1.0, 3.0, 3.9, 5.0, 7.7, 8.8].map(|at| refused(at, &bad, host(9), 80)));
    let answer = patterns(facts, 10);

    assert_eq!((answer.failure_ratio.decided, answer.failure_ratio.failed), (14, 8));
    let messages: Vec<_> = answer.findings().map(|pattern| pattern.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "by bad (pid 2), 6 of 6 attempts failed (100 %): 6 ECONNREFUSED",
            "to 198.51.100.9:80/tcp, 6 of 6 attempts failed (100 %): 6 ECONNREFUSED",
        ]
    );
    let bound = answer.failures[0].ratio.lower_bound;
    assert!((0.54..0.55).contains(&bound), "{bound}");
}

#[test]
fn a_slow_failure_counts_when_it_fails_and_a_pending_attempt_not_at_all() {
    let slow = process(1, "slow");
    let mut before = refused(1.0, &slow, host(1), 80);
    before.opened = BootTime::from_ns((START - 100) * SECOND);
    let mut pending = connection(2.0, &slow, host(1), 80);
    pending.state = ConnectionState::Opening;
    (pending.established, pending.closed) = (None, None);
    let answer = patterns(vec![before, pending], 10);
    assert_eq!((answer.failure_ratio.decided, answer.failure_ratio.failed), (1, 1));
    assert_eq!((answer.connections, answer.attempts, answer.begun_before), (2, 1, 1));
}

#[test]
fn a_burst_stands_out_of_steady_traffic_and_steady_traffic_has_none() {
    let mut random = Random(1);
    let client = process(5, "client");
    let mut times = random.poisson(5.0, 120.0);
    for seed in 2..100 {
        let calm = patterns(series(&Random(seed).poisson(5.0, 120.0), &client, host(1), 443), 120);
        assert_eq!(calm.bursts, [], "seed {seed}");
    }
    times.extend((0..200).map(|index| 60.2 + f64::from(index) * 0.005));
    let answer = patterns(series(&times, &client, host(1), 443), 120);
    assert_eq!(answer.bursts.len(), 1);
    let burst = &answer.bursts[0];
    assert!((200..230).contains(&burst.attempts), "{burst:?}");
    assert_eq!(burst.seconds, 2.0);
    assert!((4.0..6.0).contains(&burst.usual_per_second), "{burst:?}");
    assert!(burst.peak_per_second >= burst.threshold_per_second);
    assert_eq!(burst.at.as_second(), 10_060);
    assert_eq!(burst.process.as_ref().unwrap().pid, Some(5));
}

/// Traffic of other processes and to other destinations.
fn noise(random: &mut Random, seconds: f64) -> Vec<ConnectionFact> {
    let browser = process(100, "browser");
    let mut facts = Vec::new();
    for at in random.poisson(2.0, seconds) {
        facts.push(connection(at, &browser, host(50 + random.next() % 40), 443));
    }
    facts
}

/// How many of so many beacons among other traffic are found, with the right interval.
fn found_beacons(number: u64, jitter: f64, missed: f64, extra_rate: f64, seconds: u64) -> usize {
    (0..number)
        .filter(|seed| {
            let mut random = Random(1_000 + seed);
            let agent = process(9, "agent");
            let length = seconds as f64;
            let mut facts = noise(&mut random, length);
            let mut times = random.beacon(10.0, jitter, missed, length);
            if extra_rate > 0.0 {
                times.extend(random.poisson(extra_rate, length));
            }
            facts.extend(series(&times, &agent, host(7), 443));
            facts.extend(series(&random.poisson(0.2, length), &agent, host(8), 443));
            let answer = patterns(facts, seconds);
            answer.periodic.iter().any(|found| {
                found.destination.address == host(7) && (9.0..=11.0).contains(&found.interval_seconds)
            })
        })
        .count()
}

#[test]
fn a_beacon_of_ten_seconds_is_found_with_jitter_and_missed_beats() {
    let found = found_beacons(200, 0.05, 0.1, 0.0, 300);
    assert!(found >= 198, "{found} of 200");
}

#[test]
fn a_beacon_is_found_among_other_attempts_at_the_same_destination() {
    // One other attempt for three beats, and as many others as beats.
    let found = found_beacons(100, 0.05, 0.1, 0.03, 600);
    assert!(found >= 97, "{found} of 100");
    let found = found_beacons(100, 0.05, 0.1, 0.1, 600);
    assert!(found >= 70, "{found} of 100");
}

#[test]
fn a_beacon_is_found_over_an_hour_though_its_jitter_adds_up() {
    let found = found_beacons(20, 0.05, 0.1, 0.03, 3600);
    assert!(found >= 19, "{found} of 20");
}

#[test]
fn what_is_told_of_a_beacon_is_right() {
    let agent = process(9, "agent");
    let times: Vec<f64> =
        (0..30).filter(|beat| beat % 10 != 4).map(|beat| 2.0 + 10.0 * f64::from(beat)).collect();
    let answer = patterns(series(&times, &agent, host(7), 443), 300);
    assert_eq!(kinds(&answer), [PatternKind::Periodic]);
    let found = &answer.periodic[0];
    assert_eq!((found.beats, found.missed, found.other_attempts), (27, 3, 0));
    assert!((found.interval_seconds - 10.0).abs() < 1e-6 && found.jitter < 1e-6, "{found:?}");
    assert!(found.score > found.threshold && found.threshold == 2.0, "{found:?}");
    assert_eq!((found.from.as_second(), found.to.as_second()), (10_002, 10_292));
    assert_eq!(
        answer.findings().next().unwrap().message,
        "agent (pid 9) connects to 198.51.100.7:443/tcp every 10.0 s (27 times, 3 missed, jitter 0 %)"
    );
}

#[test]
fn six_beats_alone_are_enough() {
    let agent = process(9, "agent");
    let answer = patterns(series(&[1.0, 11.2, 20.9, 31.0, 41.1, 50.8], &agent, host(7), 443), 60);
    assert_eq!(answer.periodic.len(), 1);
    assert_eq!(answer.periodic[0].beats, 6);
    let answer = patterns(series(&[1.0, 11.2, 20.9, 31.0, 41.1], &agent, host(7), 443), 60);
    assert_eq!((answer.periodic.len(), answer.periodic_tested), (0, 0));
}

#[test]
fn a_program_that_is_started_for_each_beat_is_one_program() {
    let facts: Vec<_> = (0..12)
        .map(|beat| connection(5.0 + 10.0 * f64::from(beat), &process(500 + beat, "curl"), host(7), 443))
        .collect();
    let answer = patterns(facts, 130);
    assert_eq!(answer.periodic.len(), 1);
    assert_eq!(answer.periodic[0].process.as_ref().unwrap().to_string(), "curl (12 processes)");
    assert_eq!(answer.distinct_processes, 1);
}

#[test]
fn poisson_traffic_is_not_periodic() {
    let client = process(5, "client");
    for (rate, seconds) in [(0.2, 60), (0.1, 300), (0.5, 300), (2.0, 300), (0.1, 3600), (10.0, 60)] {
        let mut found = 0;
        let mut tested = 0;
        for seed in 0..300 {
            let times = Random(seed).poisson(rate, f64::from(seconds));
            let answer = patterns(series(&times, &client, host(1), 443), u64::try_from(seconds).unwrap());
            found += answer.periodic.len() as u64;
            tested += answer.periodic_tested;
        }
        assert!(found * 100 <= tested, "{rate}/s over {seconds} s: {found} of {tested}");
    }
}

#[test]
fn sessions_are_not_periodic() {
    // Somebody reads a page now and then: bursts of connections at random times.
    let client = process(5, "client");
    let found: usize = (0..500)
        .map(|seed| {
            let mut random = Random(seed);
            let mut times = Vec::new();
            for page in random.poisson(0.05, 600.0) {
                times.extend((0..random.next() % 8 + 1).map(|_| page + random.unit() * 3.0));
            }
            patterns(series(&times, &client, host(1), 443), 600).periodic.len()
        })
        .sum();
    assert!(found <= 5, "{found} of 500");
}

#[test]
fn a_scan_of_fifty_ports_is_found() {
    let nmap = process(66, "nmap");
    let facts: Vec<_> =
        (0..50).map(|port| refused(f64::from(port) * 0.05, &nmap, host(3), 1_000 + port)).collect();
    let answer = patterns(facts, 60);
    assert_eq!(answer.scans.len(), 1);
    let scan = &answer.scans[0];
    assert_eq!((scan.shape, scan.targets, scan.fruitless, scan.failed), (ScanShape::Vertical, 50, 50, 50));
    assert_eq!(scan.address, Some(host(3)));
    assert!(answer.to_string().contains(
        "\n  Scan: nmap (pid 66) tried 50 tcp ports of 198.51.100.3 within 2.45 s, 50 without success"
    ));
    // For readers who may take a name for an instruction.
    let text = format!("{answer:#}");
    assert!(text.contains("\n  Scan: pid 66 tried 50 tcp ports") && !text.contains("nmap"), "{text}");
}

#[test]
fn what_is_cut_from_patterns_is_counted_as_others() {
    let facts = (0..30_u16).flat_map(|port| {
        (0..6).map(move |attempt| {
            refused(f64::from(attempt), &process(u32::from(port) + 1, "many"), host(3), port)
        })
    });
    let mut answer = patterns(facts.collect(), 60);
    assert_eq!((answer.destinations.len(), answer.distinct_destinations), (20, 30));
    let other = answer.destinations_other.unwrap();
    assert_eq!((other.count, other.connections, other.failed), (10, 60, 60));
    answer.shorten(4);
    let other = answer.processes_other.unwrap();
    assert_eq!((answer.processes.len(), other.count, other.connections), (4, 26, 156));
    assert_eq!(answer.failures.len(), 4);
    assert!(answer.header.coverage.truncated);
    assert!(
        answer
            .header
            .coverage
            .warnings
            .iter()
            .any(|text| text.ends_with("more frequent failures are not shown"))
    );
}

#[test]
fn a_sweep_over_hosts_is_found_also_where_some_answer() {
    let masscan = process(66, "masscan");
    let facts: Vec<_> = (0..100)
        .map(|number| {
            let at = number as f64 * 0.1;
            if number % 5 == 0 {
                let mut open = connection(at, &masscan, host(number), 22);
                open.traffic = Some(Traffic { payload_bytes_received: 40, ..Traffic::default() });
                open
            } else if number % 5 == 1 {
                let mut silent = connection(at, &masscan, host(number), 22);
                silent.state = ConnectionState::Opening;
                (silent.established, silent.closed) = (None, None);
                silent
            } else {
                refused(at, &masscan, host(number), 22)
            }
        })
        .collect();
    let answer = patterns(facts, 60);
    assert_eq!(answer.scans.len(), 1);
    let scan = &answer.scans[0];
    assert_eq!((scan.shape, scan.port, scan.targets), (ScanShape::Horizontal, Some(22), 100));
    assert_eq!((scan.fruitless, scan.failed), (100, 60));
}

#[test]
fn a_busy_web_client_does_not_scan() {
    let crawler = process(8, "crawler");
    let mut random = Random(4);
    let mut facts = Vec::new();
    for (number, at) in random.poisson(50.0, 60.0).into_iter().enumerate() {
        let port = if number % 2 == 0 { 443 } else { 80 };
        let address = host(random.next() % 200);
        // One in ten fails, as it does on the web.
        facts.push(if number % 10 == 0 {
            refused(at, &crawler, address, port)
        } else {
            connection(at, &crawler, address, port)
        });
    }
    let answer = patterns(facts, 60);
    assert_eq!(kinds(&answer), []);
}

#[test]
fn a_host_without_a_network_and_a_health_check_do_not_scan() {
    let browser = process(8, "browser");
    let mut facts: Vec<_> = (0..100)
        .map(|number| {
            let mut fact = refused(number as f64 * 0.2, &browser, host(number), 443);
            fact.error = Some(ConnectionError::told(101));
            fact
        })
        .collect();
    let balancer = process(9, "balancer");
    for round in 0..10 {
        for backend in 0..40 {
            let at = f64::from(round) * 5.0 + backend as f64 * 0.01;
            let mut check = connection(at, &balancer, host(200 - backend), 8080);
            check.traffic = Some(Traffic::default());
            facts.push(check);
        }
    }
    assert_eq!(patterns(facts, 60).scans, []);
}

#[test]
fn many_scans_of_one_process_are_one_finding() {
    let nmap = process(66, "nmap");
    let mut facts = Vec::new();
    for address in 1..=4 {
        for port in 0..30 {
            facts.push(refused(f64::from(port) * 0.1, &nmap, host(address), 1_000 + port));
        }
    }
    let answer = patterns(facts, 60);
    assert_eq!(answer.scans.len(), 1);
    assert_eq!((answer.scans[0].targets, answer.scans[0].similar), (30, 3));
}

#[test]
fn destinations_are_new_against_as_long_a_time_before() {
    let client = process(5, "client");
    let mut facts = series(&[10.0, 70.0], &client, host(1), 443);
    facts.extend(series(&[80.0, 90.0], &client, host(2), 443));
    let answer = ask(facts.clone(), Some((START, START + 120)), Some(60));
    let new = answer.new_destinations.as_ref().unwrap();
    assert_eq!((new.baseline_seconds, new.total), (60.0, 1));
    assert_eq!(new.destinations[0].destination.to_string(), "198.51.100.2:443");
    assert_eq!(new.destinations[0].first_seen.as_second(), 10_080);
    assert_eq!(kinds(&answer), [PatternKind::NewDestination]);

    let answer = ask(facts, Some((START + 30, START + 120)), Some(60));
    assert_eq!(answer.new_destinations, None);
    assert!(answer.notes()[0].starts_with("not looked for: new destinations"));
}

#[test]
#[cfg(feature = "table")]
fn tables_are_for_destinations_processes_and_findings() {
    let nmap = process(66, "nmap");
    let mut facts: Vec<_> =
        (0..30).map(|port| refused(f64::from(port) * 0.1, &nmap, host(3), 1_000 + port)).collect();
    facts.extend(series(&[1.0, 2.0], &process(7, "curl"), host(1), 443));
    let answer = patterns(facts, 60);
    let layout = netmon_core::view::Layout { width: Some(120), color: false };
    let tables: Vec<String> = answer.tables().iter().map(|table| table.render(layout)).collect();
    assert!(
        tables[0].starts_with(
            "DESTINATION        PROTOCOL  CONNECTIONS  FAILED     SENT  RECEIVED\n\
         198.51.100.1:443   tcp                 2       0  1.00 kB   10.0 kB\n"
        ),
        "{}",
        tables[0]
    );
    assert_eq!(
        tables[1],
        "PROCESS        CONNECTIONS  FAILED     SENT  RECEIVED\n\
         nmap (pid 66)           30      30      0 B       0 B\n\
         curl (pid 7)             2       0  1.00 kB   10.0 kB\n"
    );
    let lines: Vec<&str> = tables[2].lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(lines, ["KIND", "failures", "vertical_scan"]);
    assert!(tables[2].lines().nth(2).unwrap().ends_with("30 without success   0.89       0.50"));
}

#[test]
fn rows_carry_kind_subject_message_and_numbers() {
    let nmap = process(66, "nmap");
    let facts: Vec<_> =
        (0..50).map(|port| refused(f64::from(port) * 0.05, &nmap, host(3), 1_000 + port)).collect();
    let answer = patterns(facts, 60);
    let scan = answer.rows().iter().find(|row| row.kind == PatternKind::VerticalScan).unwrap();
    let json = serde_json::to_value(scan).unwrap();
    assert_eq!(json["kind"], "vertical_scan");
    assert_eq!(json["process"]["comm"], "nmap");
    assert_eq!(json["address"], "198.51.100.3");
    assert_eq!(json["targets"], 50);
    for row in answer.rows() {
        assert_eq!(row.csv_fields().len(), Pattern::CSV_COLUMNS.len());
    }
    assert_eq!(scan.csv_fields()[..6], ["vertical_scan", "nmap", "66", "tcp", "198.51.100.3", ""]);
}

#[test]
fn an_answer_survives_json_with_its_rows() {
    let answer = patterns(noise(&mut Random(3), 60.0), 60);
    let again: PatternsAnswer = serde_json::from_str(&serde_json::to_string(&answer).unwrap()).unwrap();
    assert_eq!(again.rows(), answer.rows());
    assert_eq!(again, answer);
    assert!(serde_json::to_value(&answer).unwrap().get("rows").is_none());
}

#[test]
#[ignore = "a measurement; run with --release --nocapture"]
fn how_often_beacons_and_chance_are_found() {
    for (jitter, missed, extra, seconds) in [
        (0.05, 0.0, 0.0, 60),
        (0.05, 0.1, 0.0, 120),
        (0.05, 0.1, 0.0, 300),
        (0.05, 0.3, 0.0, 300),
        (0.2, 0.1, 0.0, 300),
        (0.05, 0.1, 0.03, 300),
        (0.05, 0.1, 0.05, 300),
        (0.05, 0.1, 0.03, 600),
        (0.05, 0.1, 0.05, 600),
        (0.05, 0.1, 0.1, 600),
        (0.05, 0.1, 0.1, 3600),
    ] {
        let found = found_beacons(500, jitter, missed, extra, seconds);
        println!("jitter {jitter}, missed {missed}, others {extra}/s, {seconds} s: {found} of 500");
    }
    let client = process(5, "client");
    for (rate, seconds) in
        [(0.2, 60), (0.1, 300), (0.5, 300), (2.0, 300), (4.0, 300), (0.1, 3600), (1.0, 3600)]
    {
        let (mut found, mut tested) = (0, 0);
        for seed in 0..20_000 {
            let times = Random(seed).poisson(rate, f64::from(seconds));
            let answer = patterns(series(&times, &client, host(1), 443), u64::try_from(seconds).unwrap());
            found += answer.periodic.len() as u64;
            tested += answer.periodic_tested;
        }
        println!("Poisson, {rate}/s over {seconds} s: {found} of {tested}");
    }
}

#[test]
#[ignore = "a measurement; run with --release --nocapture"]
fn a_million_connections() {
    for (what, hosts, ports) in [("few destinations", 200, 1), ("many destinations", 1_000_000, 50_000)] {
        let mut random = Random(1);
        let processes: Vec<_> = (0..50).map(|pid| process(pid, "worker")).collect();
        let facts: Vec<_> = random
            .poisson(1_000_000.0 / 3_600.0, 3_600.0)
            .into_iter()
            .map(|at| {
                let process = &processes[(random.next() % 50) as usize];
                connection(at, process, host(random.next() % hosts), 443 + (random.next() % ports) as u16)
            })
            .collect();
        let monitor = Monitor::new(Memory { facts, observed: Some((START, START + 3_600)) });
        let start = std::time::Instant::now();
        let answer = monitor.patterns(&PatternsRequest::default(), &Control::default()).unwrap();
        println!(
            "{what}: {} in {:?}, {} series",
            answer.connections,
            start.elapsed(),
            answer.periodic_tested
        );
    }
}

prop_compose! {
    fn any_fact()(
        times in proptest::collection::vec(proptest::option::of(any::<u64>()), 4),
        near in any::<bool>(),
        protocol in 0_usize..3,
        state in 0_usize..5,
        direction in 0_usize..3,
        remote in proptest::option::of((any::<u8>(), any::<u16>())),
        owner in proptest::option::of((0_u32..4, ".{0,20}")),
        error in proptest::option::of(any::<i32>()),
        traffic in proptest::option::of((any::<u64>(), any::<u64>())),
    ) -> ConnectionFact {
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp][protocol];
        let state = [
            ConnectionState::Opening,
            ConnectionState::Open,
            ConnectionState::Closed,
            ConnectionState::Failed,
            ConnectionState::Listening,
        ][state];
        let mut fact = ConnectionFact::new(1, protocol, state, SocketAddr::new(host(0), 1));
        let time = |ns: Option<u64>| {
            let ns = ns?;
            BootTime::from_ns(if near { START * SECOND + ns % (60 * SECOND) } else { ns })
        };
        fact.opened = time(times[0]);
        fact.established = time(times[1]);
        fact.closed = time(times[2]);
        fact.last_seen = time(times[3]);
        fact.direction =
            [ConnectionDirection::Inbound, ConnectionDirection::Outbound, ConnectionDirection::None][direction];
        fact.remote = remote.map(|(last, port)| SocketAddr::new(host(u64::from(last)), port % 8));
        fact.process = owner.map(|(pid, comm)| process(pid, &comm));
        fact.error = error.map(ConnectionError::told);
        fact.traffic = traffic.map(|(sent, received)| Traffic {
            payload_bytes_sent: sent,
            payload_bytes_received: received,
            ..Traffic::default()
        });
        fact
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_facts_are_there_is_an_answer(
        facts in proptest::collection::vec(any_fact(), 0..150),
        seconds in 0_u64..100,
    ) {
        let answer = patterns(facts, seconds);
        let json = serde_json::to_string(&answer).unwrap();
        let again: PatternsAnswer = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(answer.rows().len(), again.rows().len());
        prop_assert!(answer.to_string().starts_with("Connection Analysis:"));
        prop_assert_eq!(answer.tables().len(), 3);
        for row in answer.rows() {
            prop_assert_eq!(row.csv_fields().len(), Pattern::CSV_COLUMNS.len());
        }
    }
}
