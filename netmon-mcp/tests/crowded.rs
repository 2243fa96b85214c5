//! A host with a hundred thousand connections, of processes that call themselves whatever takes the most room: answers
//! stay short. Made facts, without a process: the server is asked in memory.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use netmon_core::{
    Control, Filter, MissingHook, Monitor, Result, Source,
    fact::{
        BootTime, ConnectionDirection, ConnectionError, ConnectionFact, ConnectionState, Direction, Hook,
        HookStatus, InterfaceSnapshot, Moment, Observed, Process, Protocol, SocketSnapshot, Traffic,
    },
    request::HookChoice,
    source::{Counting, InterfaceRef, Sighting, SourceDescription, Span},
};
use netmon_mcp::{NetmonServer, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

const CONNECTIONS: u64 = 100_000;
const SECOND: u64 = 1_000_000_000;
/// When the made time begins.
const BEGIN: u64 = 1_000 * SECOND;

struct Crowd {
    facts: Vec<ConnectionFact>,
}

fn at(second: u64) -> Moment {
    let wall = jiff::Timestamp::from_second(1_800_000_000 + i64::try_from(second).unwrap()).unwrap();
    Moment { boot_ns: BEGIN + second * SECOND, wall }
}

impl Crowd {
    fn new() -> Self {
        let processes: Vec<Arc<Process>> = (0..1_000)
            .map(|number| {
                let mut process =
                    Process::new(1_000 + number, format!("{number}{}", "\u{1b}\u{202e}網".repeat(60)));
                let long = || Some("網\"\\".repeat(200).into());
                process.exe = long();
                process.cmdline = long();
                process.cgroup = long();
                process.unit = long();
                process.container = long();
                Arc::new(process)
            })
            .collect();
        let fact = |number: u64| {
            let local = SocketAddr::from(([0x2001, 0xdb8, 1, 2, 3, 4, 5, 6], 40_000));
            let failed = number.is_multiple_of(3);
            let state = if failed { ConnectionState::Failed } else { ConnectionState::Open };
            let mut fact = ConnectionFact::new(number + 1, Protocol::Tcp, state, local);
            fact.direction = ConnectionDirection::Outbound;
            let host = u16::try_from(number % 5_000).unwrap();
            fact.remote =
                Some(SocketAddr::from(([0x2001, 0xdb8, 0xffff, 0xffff, 0xffff, 0xffff, 1, host], 65_535)));
            fact.process = Some(Arc::clone(&processes[usize::try_from(number % 1_000).unwrap()]));
            fact.last_user = Some(Arc::clone(&processes[0]));
            fact.opened = BootTime::from_ns(BEGIN + 1 + number * 60 * SECOND / CONNECTIONS);
            if failed {
                fact.closed = fact.opened;
                fact.error = Some(ConnectionError::told(111));
            }
            fact.traffic = Some(Traffic {
                payload_bytes_sent: u64::MAX / CONNECTIONS,
                payload_bytes_received: u64::MAX / CONNECTIONS,
                packets_sent: 1 << 40,
                packets_received: 1 << 40,
            });
            fact
        };
        Self { facts: (0..CONNECTIONS).map(fact).collect() }
    }
}

impl Source for Crowd {
    fn describe(&self) -> SourceDescription {
        SourceDescription::new("made", "h".repeat(300), "6.18.0")
    }

    fn start(&self) -> Result<Moment> {
        Ok(at(0))
    }

    fn wait(&self, _from: &Moment, _window: Duration, _control: &Control<'_>) -> Result<Moment> {
        Ok(at(60))
    }

    fn interfaces(&self, _at: &Moment) -> Result<InterfaceSnapshot> {
        Err(self.without("interfaces"))
    }

    fn count(&self, _: InterfaceRef<'_>, _: &[Direction], _: HookChoice) -> Result<Counting> {
        Ok(Counting::default())
    }

    fn hooks(&self) -> Result<Vec<HookStatus>> {
        Ok(Vec::new())
    }

    fn observed(&self, _since: Option<Duration>) -> Result<Option<Span>> {
        Ok(Some(Span { from: at(0), to: at(60) }))
    }

    fn connections(
        &self,
        _span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        let matching = self.facts.iter().filter(|fact| filter.matches(fact));
        matching.for_each(|fact| visit(Sighting { fact, before: None }));
        let mut observed = Observed::default();
        // As much is missing as on a host without privilege.
        observed.missing_hooks = [Hook::Connect, Hook::SetState, Hook::SockRelease, Hook::SendLength]
            .map(|hook| MissingHook {
                hook,
                reason: "not permitted".to_owned(),
                hides: "connections that were over before they were listed".to_owned(),
                fix: Some("start netmond, or give this binary cap_bpf,cap_net_admin".to_owned()),
            })
            .into();
        Ok(observed)
    }

    fn sockets(&self, _at: &Moment) -> Result<SocketSnapshot> {
        Err(self.without("sockets"))
    }
}

/// Asks in memory, and returns the results.
async fn ask(calls: Vec<(&str, Value)>) -> Vec<Value> {
    let (client, server) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(server);
    let serving = tokio::spawn(async move {
        serve(NetmonServer::new(Monitor::new(Crowd::new())), reader, writer, std::future::pending()).await
    });
    let (answers, mut requests) = tokio::io::split(client);
    let mut answers = BufReader::new(answers).lines();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut results = Vec::new();
    for (id, (tool, arguments)) in calls.into_iter().enumerate() {
        let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
        let request = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        requests.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        let line = answers.next_line().await.unwrap().unwrap();
        results.push(serde_json::from_str(&line).unwrap());
    }
    drop((requests, answers));
    serving.await.unwrap().unwrap();
    results
}

#[tokio::test]
async fn answers_stay_short_on_a_crowded_host() {
    const DEFAULT: usize = 8 * 1024;
    const MOST: usize = 20 * 1024;
    let calls = [
        ("list_connections", json!({}), DEFAULT),
        ("list_connections", json!({"limit": 200}), MOST),
        ("list_connections", json!({"limit": 200, "response_format": "detailed"}), MOST),
        ("get_network_summary", json!({}), DEFAULT),
        ("get_network_summary", json!({"limit": 200, "response_format": "detailed"}), MOST),
        ("analyze_patterns", json!({}), DEFAULT),
        ("analyze_patterns", json!({"limit": 200, "response_format": "detailed"}), MOST),
        ("get_network_summary", json!({"process_name": "nobody"}), MOST),
    ];
    let asked = calls.iter().map(|(tool, arguments, _)| (*tool, arguments.clone())).collect();
    for ((tool, arguments, most), answer) in calls.iter().zip(ask(asked).await) {
        let size = answer.to_string().len();
        assert!(size <= *most, "{tool} {arguments}: {size} bytes: {answer}");
        let structured = &answer["result"]["structuredContent"];
        if answer["result"]["isError"] == false {
            assert_eq!(structured["coverage"]["truncated"], true, "{tool} {arguments}");
            assert!(structured["hint"].is_string(), "{tool} {arguments}");
        }
    }
}

#[tokio::test]
async fn sums_are_over_all_of_them() {
    let answers = ask(vec![
        ("get_network_summary", json!({})),
        ("list_connections", json!({})),
        ("analyze_patterns", json!({})),
    ])
    .await;
    let of = |index: usize| &answers[index]["result"]["structuredContent"];
    assert_eq!(of(0)["total_attempts"], CONNECTIONS);
    assert_eq!(of(0)["failed"], 33_334);
    assert_eq!((&of(0)["by_process_total"], &of(0)["by_destination_total"]), (&json!(1_000), &json!(5_000)));
    let listed = of(0)["by_process"].as_array().unwrap();
    let attempts: u64 = listed.iter().map(|row| row["attempts"].as_u64().unwrap()).sum();
    let other = &of(0)["by_process_other"];
    assert_eq!(attempts + other["attempts"].as_u64().unwrap(), CONNECTIONS);
    assert_eq!(other["count"].as_u64().unwrap() + listed.len() as u64, 1_000);

    assert_eq!(of(1)["total"], CONNECTIONS);
    assert_eq!(
        of(1)["by_state"],
        json!({"opening": 0, "open": 66_666, "closed": 0, "failed": 33_334, "listening": 0})
    );
    assert!(of(1)["next_cursor"].is_string());

    assert_eq!(of(2)["connections"], CONNECTIONS);
    let listed = of(2)["destinations"].as_array().unwrap();
    let connections: u64 = listed.iter().map(|row| row["connections"].as_u64().unwrap()).sum();
    assert_eq!(connections + of(2)["destinations_other"]["connections"].as_u64().unwrap(), CONNECTIONS);
}
