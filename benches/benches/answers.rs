//! How long answers take on hosts with few and with many interfaces.
//!
//! Hosts are network namespaces with veth pairs, each end up and with an address.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints its result")]

mod common;

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use common::{BenchResult, Sample, Table};
use netmon_core::{Monitor, RateRequest};
use netmon_testkit::Netns;

/// How long answers take on hosts with few and with many interfaces.
#[derive(Parser)]
struct Options {
    /// How often each answer is asked for.
    #[arg(long, default_value_t = 30)]
    repeats: u32,
    #[command(flatten)]
    cargo: common::CargoOptions,
}

const INTERFACES: [usize; 3] = [2, 200, 1000];

fn main() -> ExitCode {
    common::run(|| measure(&Options::parse()))
}

fn measure(options: &Options) -> BenchResult {
    println!("Time of an answer: median of {}, and quartiles, in ms.\n", options.repeats);
    let mut table = Table::new([
        "interfaces",
        "interfaces()",
        "a sample",
        "begin rates",
        "a sample, BPF",
        "capabilities()",
    ]);
    for count in INTERFACES {
        let host = host_with(count);
        let samples = host.enter(|| answers(options.repeats))?;
        let cells = samples.iter().map(|sample| {
            let quartiles = (sample.quantile(0.25), sample.quantile(0.75));
            format!("{:.2} ({:.2}..{:.2})", sample.median(), quartiles.0, quartiles.1)
        });
        table.row([count.to_string()].into_iter().chain(cells));
    }
    print!("{table}");
    println!("\nA sample is what a watch takes every window, without and with BPF counting one interface.");
    println!("To begin rates is to choose the interface and to attach at tcx both ways.");
    Ok(())
}

fn host_with(interfaces: usize) -> Netns {
    let host = Netns::create();
    let pairs = (0..interfaces)
        .step_by(2)
        .map(|index| format!("link add bench{index} type veth peer name bench{}", index + 1));
    let settings = (0..interfaces).flat_map(|index| {
        let (high, low) = (index / 256, index % 256);
        [format!("address add 10.99.{high}.{low}/32 dev bench{index}"), format!("link set bench{index} up")]
    });
    host.ip(&pairs.chain(settings).collect::<Vec<_>>());
    host
}

/// In the order of the table's columns.
fn answers(repeats: u32) -> BenchResult<[Sample; 5]> {
    let monitor = Monitor::live()?;
    let mut samples: [Sample; 5] = Default::default();
    for _ in 0..repeats {
        let source = monitor.source();
        let sample = || source.interfaces(&source.start()?);
        samples[0].push(milliseconds(|| monitor.interfaces())?);
        samples[1].push(milliseconds(sample)?);

        let mut request = RateRequest::default();
        request.interfaces = vec!["bench0".to_owned()];
        let mut watch = None;
        samples[2].push(milliseconds(|| monitor.watch_rates(&request).map(|begun| watch = Some(begun)))?);
        samples[3].push(milliseconds(sample)?);
        drop(watch);
        samples[4].push(milliseconds(|| monitor.capabilities())?);
    }
    Ok(samples)
}

fn milliseconds<T>(action: impl FnOnce() -> netmon_core::Result<T>) -> netmon_core::Result<f64> {
    let start = Instant::now();
    action()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
