//! What counting dropped packets costs in a flood of them: datagrams to a port where nobody listens, which the kernel
//! receives, drops, and (over loopback) answers by ICMP.
//!
//! Speed is of datagrams for each second of the senders' own processor time: over loopback all of it happens in their
//! system calls, and who else uses the processors meanwhile does not count.
//!
//! Each workload runs in turn with nothing attached, with connections followed (the control: drops are counted beside
//! them), and with drops counted too. Ratios are of neighbours in time. Every drop must be in the count.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints its result")]

mod common;

use std::{
    net::{SocketAddr, UdpSocket},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use common::{BenchResult, Sample, Table};
use netmon_core::{
    Filter, Source as _,
    source::{Span, live::LiveSource},
};
use netmon_testkit::Netns;
use rustix::time::{ClockId, clock_gettime};

/// What counting dropped packets costs in a flood of them.
#[derive(Parser)]
struct Options {
    /// How often each workload runs with and without.
    #[arg(long, default_value_t = 16)]
    pairs: u32,
    /// How long each run takes, in ms.
    #[arg(long, default_value_t = 400)]
    run_ms: u64,
    #[command(flatten)]
    cargo: common::CargoOptions,
}

fn main() -> ExitCode {
    common::run(|| Netns::create().enter(|| measure(&Options::parse())))
}

/// Senders, and to how many ports each sends in turn.
const WORKLOADS: [(&str, usize, u16); 3] = [
    ("one sender, one port", 1, 1),
    ("two senders, one port", 2, 1),
    ("one sender, 10,000 ports", 1, 10_000),
];

fn measure(options: &Options) -> BenchResult {
    let time = Duration::from_millis(options.run_ms);
    println!(
        "Datagrams to closed ports, as a part of those without: median of {} pairs, the interval of the median (95 %).\n",
        options.pairs
    );
    let mut table =
        Table::new(["workload", "a second", "connections", "and drops", "drops / connections", "ns a drop"]);
    for (name, senders, ports) in WORKLOADS {
        flood(senders, ports, time)?;
        let (mut speed, mut followed, mut counted, mut net, mut cost) =
            (Sample::default(), Sample::default(), Sample::default(), Sample::default(), Sample::default());
        for _ in 0..options.pairs {
            let without = flood(senders, ports, time)?.per_second;
            let with_control = {
                let source = LiveSource::open()?;
                let _observation = source.observe()?;
                flood(senders, ports, time)?.per_second
            };
            let with_drops = counting(senders, ports, time)?;
            speed.push(without);
            followed.push(with_control / without);
            counted.push(with_drops / without);
            net.push(with_drops / with_control);
            cost.push(1e9 / with_drops - 1e9 / with_control);
        }
        let ratio = |sample: &Sample| {
            let (low, high) = sample.median_interval();
            format!("{:.3} ({low:.3}..{high:.3})", sample.median())
        };
        let (low, high) = cost.median_interval();
        table.row([
            name.to_owned(),
            format!("{:.0}", speed.median()),
            ratio(&followed),
            ratio(&counted),
            ratio(&net),
            format!("{:.0} ({low:.0}..{high:.0})", cost.median()),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn counting(senders: usize, ports: u16, time: Duration) -> BenchResult<f64> {
    let source = LiveSource::open()?;
    let observation = source.observe_drops()?;
    let Flood { sent, per_second } = flood(senders, ports, time)?;
    let span = Span { from: observation.from, to: source.start()? };
    let mut told = 0;
    source.drops(&span, &Filter::everything(), &mut |sighting| {
        let is_closed = sighting.fact.reason.as_ref().is_some_and(|reason| reason.as_str() == "NO_SOCKET");
        if is_closed && sighting.fact.interface_name.as_ref().is_some_and(|name| name.as_str() == "lo") {
            told += sighting.within().packets;
        }
    })?;
    if told < sent {
        return Err(format!("{told} were counted of {sent}").into());
    }
    Ok(per_second)
}

/// How many were sent, and how many in a second of processor time.
struct Flood {
    sent: u64,
    per_second: f64,
}

/// What goes over loopback is dropped before the call returns.
fn flood(senders: usize, ports: u16, time: Duration) -> BenchResult<Flood> {
    thread::scope(|scope| {
        let sending: Vec<_> = (0..senders).map(|_| scope.spawn(move || send(ports, time))).collect();
        let (mut sent, mut seconds) = (0, 0.0);
        for sender in sending {
            let (datagrams, used) = sender.join().map_err(|_| "a sender panicked")??;
            sent += datagrams;
            seconds += used;
        }
        Ok(Flood { sent, per_second: sent as f64 / seconds })
    })
}

fn send(ports: u16, time: Duration) -> BenchResult<(u64, f64)> {
    const FIRST: u16 = 1_000;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let (start, used, mut sent) = (Instant::now(), processor_time(), 0_u64);
    while start.elapsed() < time {
        for _ in 0..32 {
            let port = FIRST + u16::try_from(sent % u64::from(ports))?;
            socket.send_to(&[7; 64], SocketAddr::from(([127, 0, 0, 1], port)))?;
            sent += 1;
        }
    }
    Ok((sent, processor_time() - used))
}

/// Seconds of this thread.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
