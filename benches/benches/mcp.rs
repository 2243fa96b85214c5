//! What netmon-mcp adds to the time of an assistant: until it has answered the handshake, and until a call is answered,
//! beside a server that can do nothing, made with the same library.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints its result")]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::Instant,
};

use clap::Parser;
use common::{
    BenchResult, Sample, Table,
    netmond::{Daemon, built},
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt as _,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities,
        ServerConfig,
    },
    service::RequestContext,
    transport::io::stdio_pipes,
};
use serde_json::{Value, json};

/// The handshake with netmon-mcp and its calls, beside a server that does nothing.
#[derive(Parser)]
struct Options {
    /// How often each server is started, in turns.
    #[arg(long, default_value_t = 100)]
    starts: u32,
    /// How often each tool is called, in turns.
    #[arg(long, default_value_t = 500)]
    calls: u32,
    /// Be the server that does nothing; what the benchmark starts itself with.
    #[arg(long, hide = true)]
    nothing: bool,
    #[command(flatten)]
    cargo: common::CargoOptions,
}

fn main() -> ExitCode {
    let options = Options::parse();
    common::run(|| if options.nothing { serve_nothing() } else { measure(&options) })
}

/// A server with one tool, which says nothing.
struct Nothing;

impl ServerHandler for Nothing {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text("nothing")]).into())
    }
}

fn serve_nothing() -> BenchResult {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        Nothing.serve(stdio_pipes()).await?.waiting().await?;
        Ok(())
    })
}

fn measure(options: &Options) -> BenchResult {
    let directory = std::env::temp_dir().join(format!("netmon-bench-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let result = Daemon::start(&directory.join("socket")).and_then(|daemon| {
        let servers = Servers::new(&daemon.socket)?;
        starts(options, &servers)?;
        calls(options, &servers)
    });
    fs::remove_dir_all(&directory)?;
    result
}

/// A program and its arguments.
type CommandLine = Vec<String>;

/// What is compared, by name; the first does nothing.
struct Servers(Vec<(&'static str, CommandLine)>);

impl Servers {
    fn new(socket: &Path) -> BenchResult<Self> {
        let own = std::env::current_exe()?.display().to_string();
        let netmon = built("netmon-mcp")?.display().to_string();
        let of_daemon = format!("unix:{}", socket.display());
        Ok(Self(vec![
            ("a server that does nothing", vec![own, "--nothing".to_owned()]),
            ("netmon-mcp, live", vec![netmon.clone(), "--source".to_owned(), "live".to_owned()]),
            ("netmon-mcp, netmond", vec![netmon, "--source".to_owned(), of_daemon]),
        ]))
    }
}

fn starts(options: &Options, servers: &Servers) -> BenchResult {
    let mut times = vec![Sample::default(); servers.0.len()];
    let mut ratios = times.clone();
    for round in 0..options.starts as usize {
        let mut of_round = vec![0.0; servers.0.len()];
        for turn in 0..servers.0.len() {
            let turn = (turn + round) % servers.0.len();
            let start = Instant::now();
            let mut session = Session::start(&servers.0[turn].1)?;
            session.handshake()?;
            of_round[turn] = start.elapsed().as_secs_f64() * 1e3;
            session.end()?;
        }
        for (server, time) in of_round.iter().enumerate() {
            times[server].push(*time);
            ratios[server].push(time / of_round[0]);
        }
    }
    println!(
        "From the start of the program to its answer to `initialize`: median of {}, and quartiles, in ms; times that of \
         the server that does nothing, median and interval.\n",
        options.starts
    );
    let mut table = Table::new(["server", "time", "ratio"]);
    for ((name, _), (times, ratios)) in servers.0.iter().zip(times.iter().zip(&ratios)) {
        table.row([(*name).to_owned(), milliseconds(times), ratio(ratios)]);
    }
    println!("{table}");
    Ok(())
}

fn calls(options: &Options, servers: &Servers) -> BenchResult {
    let [(_, nothing), _, (_, netmon)] = &servers.0[..] else { return Err("three servers".into()) };
    let (mut nothing, mut netmon) = (Session::start(nothing)?, Session::start(netmon)?);
    nothing.handshake()?;
    netmon.handshake()?;
    let tools = [
        ("get_network_summary", json!({})),
        ("list_connections", json!({})),
        ("analyze_patterns", json!({})),
        ("diagnose", json!({})),
        ("list_packet_drops", json!({})),
        ("capabilities", json!({})),
    ];
    let mut empty = Sample::default();
    let mut times = vec![Sample::default(); tools.len()];
    let mut ratios = times.clone();
    for _ in 0..options.calls {
        for (tool, (name, arguments)) in tools.iter().enumerate() {
            let least = nothing.call("nothing", &json!({}))?;
            let time = netmon.call(name, arguments)?;
            empty.push(least);
            times[tool].push(time);
            ratios[tool].push(time / least);
        }
    }
    println!(
        "A call, with netmond behind it: median of {}, and quartiles, in ms; ratio as above.\n",
        options.calls
    );
    let mut table = Table::new(["tool", "time", "ratio"]);
    table.row(["nothing".to_owned(), milliseconds(&empty), "1.00".to_owned()]);
    for ((name, _), (times, ratios)) in tools.iter().zip(times.iter().zip(&ratios)) {
        table.row([(*name).to_owned(), milliseconds(times), ratio(ratios)]);
    }
    print!("{table}");
    nothing.end()?;
    netmon.end()
}

fn milliseconds(times: &Sample) -> String {
    format!("{:.2} ({:.2}..{:.2})", times.median(), times.quantile(0.25), times.quantile(0.75))
}

fn ratio(ratios: &Sample) -> String {
    let (low, high) = ratios.median_interval();
    format!("{:.2} ({low:.2}..{high:.2})", ratios.median())
}

/// A server on pipes.
struct Session {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    last: u64,
}

impl Session {
    fn start(command: &CommandLine) -> BenchResult<Self> {
        let [program, arguments @ ..] = &command[..] else { return Err("no program".into()) };
        let mut process =
            Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let requests = process.stdin.take().ok_or("no stdin")?;
        let answers = BufReader::new(process.stdout.take().ok_or("no stdout")?);
        Ok(Self { process, requests, answers, last: 0 })
    }

    fn send(&mut self, message: &Value) -> BenchResult {
        Ok(self.requests.write_all(format!("{message}\n").as_bytes())?)
    }

    /// Asks, and returns the result, and the milliseconds until it was there.
    fn ask(&mut self, method: &str, params: &Value) -> BenchResult<(Value, f64)> {
        self.last += 1;
        let start = Instant::now();
        self.send(&json!({"jsonrpc": "2.0", "id": self.last, "method": method, "params": params}))?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let time = start.elapsed().as_secs_f64() * 1e3;
        let mut answer: Value = serde_json::from_str(&line)?;
        if answer["id"] != self.last || !answer["result"].is_object() {
            return Err(format!("{method}: {line}").into());
        }
        Ok((answer["result"].take(), time))
    }

    fn handshake(&mut self) -> BenchResult {
        let client = json!({"name": "bench", "version": "1"});
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
        self.ask("initialize", &params)?;
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
    }

    /// Calls a tool, and returns the milliseconds that it took.
    fn call(&mut self, tool: &str, arguments: &Value) -> BenchResult<f64> {
        let (result, time) = self.ask("tools/call", &json!({"name": tool, "arguments": arguments}))?;
        if result["isError"] == true {
            return Err(format!("{tool}: {result}").into());
        }
        Ok(time)
    }

    fn end(self) -> BenchResult {
        let Self { mut process, requests, answers, .. } = self;
        drop((requests, answers));
        process.wait()?;
        Ok(())
    }
}
