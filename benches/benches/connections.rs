//! What following connections costs those who make them, and what it loses.
//!
//! Each workload runs in turn with nothing attached, with an empty program attached (the control: an iterator costs nothing
//! until it is read), and with everything that netmon attaches and its recorder. Ratios are of neighbours in time.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints its result")]

mod common;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use common::{BenchResult, Sample, Table};
use netmon_bpf::flow::{FlowMonitor, FlowOptions, Hook};
use netmon_core::{
    Control, Filter, Source as _,
    fact::Protocol,
    source::{Span, live::LiveSource},
};
use netmon_testkit::Netns;

/// What following connections costs those who make them.
#[derive(Parser)]
struct Options {
    /// How often each workload runs with and without.
    #[arg(long, default_value_t = 12)]
    pairs: u32,
    /// How long each run takes, in ms.
    #[arg(long, default_value_t = 700)]
    run_ms: u64,
    #[command(flatten)]
    cargo: common::CargoOptions,
}

fn main() -> ExitCode {
    common::run(|| Netns::create().enter(|| measure(&Options::parse())))
}

/// So many of something in a time, and how many connections that made on both sides together.
struct Run {
    per_second: f64,
    connections: u64,
}

type Workload = fn(Duration) -> BenchResult<Run>;

const WORKLOADS: [(&str, Workload); 3] =
    [("connect, accept, close", storm), ("UDP, 200 B", datagrams), ("TCP in bulk, 64 KiB writes", bulk)];

fn measure(options: &Options) -> BenchResult {
    let time = Duration::from_millis(options.run_ms);
    println!(
        "Speed with the monitor as a part of that without: median of {} pairs, the interval of the median (95 %).\n",
        options.pairs
    );
    let mut table =
        Table::new(["workload", "a second", "control", "monitor", "monitor / control", "seen", "lost"]);
    for (name, workload) in WORKLOADS {
        workload(time)?;
        let (mut speed, mut control, mut monitor, mut net) =
            (Sample::default(), Sample::default(), Sample::default(), Sample::default());
        let (mut seen, mut lost) = (0, 0);
        for _ in 0..options.pairs {
            let without = workload(time)?.per_second;
            let with_control = controlled(workload, time)?;
            let (run, told, not_told) = monitored(workload, time)?;
            if run.connections > 0 && told + not_told != run.connections {
                return Err(format!("{told} seen and {not_told} lost of {}", run.connections).into());
            }
            speed.push(without);
            control.push(with_control / without);
            monitor.push(run.per_second / without);
            net.push(run.per_second / with_control);
            seen += told;
            lost += not_told;
        }
        let ratio = |sample: &Sample| {
            let (low, high) = sample.median_interval();
            format!("{:.3} ({low:.3}..{high:.3})", sample.median())
        };
        table.row([
            name.to_owned(),
            format!("{:.0}", speed.median()),
            ratio(&control),
            ratio(&monitor),
            ratio(&net),
            seen.to_string(),
            lost.to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn controlled(workload: Workload, time: Duration) -> BenchResult<f64> {
    let mut options = FlowOptions::default();
    options.hooks = vec![Hook::SocketIterator];
    let _attached = FlowMonitor::attach(&options)?;
    Ok(workload(time)?.per_second)
}

fn monitored(workload: Workload, time: Duration) -> BenchResult<(Run, u64, u64)> {
    let source = LiveSource::open()?.with_memory_limit(512 << 20);
    let observation = source.observe()?;
    let run = workload(time)?;
    let to = source.wait(&observation.from, Duration::from_millis(1), &Control::default())?;
    let span = Span { from: observation.from, to };
    let own = source.describe().observer_pid;
    let mut seen = 0;
    let observed = source.connections(&span, &Filter::everything(), &mut |sighting| {
        let pid = sighting.fact.process.as_ref().map(|process| process.pid);
        seen += u64::from(sighting.fact.protocol == Protocol::Tcp && pid == own);
    })?;
    Ok((run, seen, observed.lost_events))
}

fn storm(time: Duration) -> BenchResult<Run> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < time {
        let client = TcpStream::connect(address)?;
        drop((client, listener.accept()?));
        count += 1;
    }
    Ok(Run { per_second: count as f64 / start.elapsed().as_secs_f64(), connections: 2 * count })
}

fn datagrams(time: Duration) -> BenchResult<Run> {
    let sink = UdpSocket::bind("127.0.0.1:0")?;
    let address = sink.local_addr()?;
    sink.set_read_timeout(Some(Duration::from_millis(100)))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            let (mut count, mut buffer) = (0_u64, [0; 256]);
            while !done.load(Ordering::Relaxed) {
                count += u64::from(sink.recv_from(&mut buffer).is_ok());
            }
            count
        });
        let source = UdpSocket::bind("127.0.0.1:0")?;
        let start = Instant::now();
        let mut sent = 0_u64;
        while start.elapsed() < time {
            for _ in 0..32 {
                source.send_to(&[7; 200], address)?;
                sent += 1;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        let received = received.join().map_err(|_| "the receiver panicked")?;
        if received == 0 {
            return Err("nothing was received".into());
        }
        Ok(Run { per_second: sent as f64 / seconds, connections: 0 })
    })
}

fn bulk(time: Duration) -> BenchResult<Run> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while server.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    let buffer = vec![0; 64 << 10];
    let (start, mut bytes) = (Instant::now(), 0_u64);
    while start.elapsed() < time {
        client.write_all(&buffer)?;
        bytes += buffer.len() as u64;
    }
    let per_second = bytes as f64 / start.elapsed().as_secs_f64();
    drop(client);
    reader.join().map_err(|_| "the reader panicked")?;
    Ok(Run { per_second, connections: 0 })
}
