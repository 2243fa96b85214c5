//! How the cost of answers grows: with connections that ended and such that are open, with conditions, with clients of
//! netmond, and with readers of one recorder while it is fed.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints its result")]

mod common;

use std::{
    fs,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use common::{BenchResult, Sample, Table, netmond::Daemon, recorded::Recorded, resident, seconds};
use netmon_core::{
    ConnectionsRequest, Control, Monitor, SummaryRequest,
    request::ConnectionSort,
    source::{live::LiveSource, remote::RemoteSource},
};
use netmon_testkit::{Netns, workload};

/// How the cost of answers grows.
#[derive(Parser)]
struct Options {
    /// How often each question is asked.
    #[arg(long, default_value_t = 10)]
    repeats: u32,
    /// How long clients and readers ask, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Only these.
    #[arg(value_enum)]
    parts: Vec<Part>,
    #[command(flatten)]
    cargo: common::CargoOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Connections that ended
    Ended,
    /// Conditions
    Filters,
    /// Open connections
    Open,
    /// Clients of netmond
    Clients,
    /// Readers of one recorder
    Readers,
}

fn main() -> ExitCode {
    common::run(|| measure(&Options::parse()))
}

fn measure(options: &Options) -> BenchResult {
    println!("Medians and quartiles. Connections of one host: an open one is two sockets.\n");
    let parts = if options.parts.is_empty() { Part::value_variants() } else { &options.parts };
    for part in parts {
        match part {
            Part::Ended => ended(options)?,
            Part::Filters => filters(options)?,
            Part::Open => Netns::create().enter(|| open(options))?,
            Part::Clients => clients(options)?,
            Part::Readers => readers(options)?,
        }
    }
    Ok(())
}

fn page(filter: Option<String>) -> ConnectionsRequest {
    let mut request = ConnectionsRequest::default();
    request.limit = Some(20);
    request.filter.filter = filter;
    request
}

/// How many connections a summary is about.
fn summary(monitor: &Monitor) -> BenchResult<u64> {
    Ok(monitor.summary(&SummaryRequest::default(), &Control::default())?.total_attempts)
}

/// How many connections there are beside the 20 that are told.
fn connections(monitor: &Monitor, request: &ConnectionsRequest) -> BenchResult<u64> {
    Ok(monitor.connections(request, &Control::default())?.total)
}

/// The times of a question in ms, each answer with as many connections as are expected at least.
fn times(repeats: u32, least: u64, mut question: impl FnMut() -> BenchResult<u64>) -> BenchResult<String> {
    let mut sample = Sample::default();
    for _ in 0..repeats {
        sample.push(seconds(|| match question()? {
            found if found < least => Err(format!("{found} connections instead of {least}").into()),
            _ => Ok(()),
        })?);
    }
    Ok(sample.quartiles(1e3))
}

fn ended(options: &Options) -> BenchResult {
    println!("Connections that ended, in ms; the filter leaves one in a thousand.\n");
    let mut table = Table::new([
        "connections",
        "summary",
        "20 connections",
        "20 by bytes",
        "20 with a filter",
        "bytes each, accounted",
        "bytes each, RSS",
    ]);
    for count in [1_000, 10_000, 100_000, 1_000_000] {
        let before = resident()?;
        let source = Recorded::of(count)?;
        let grown = resident()?.saturating_sub(before);
        let accounted = source.recorder().memory() as u64;
        let monitor = Monitor::new(source);
        let (all, few) = (page(None), page(Some("process == process7".to_owned())));
        let mut by_bytes = page(None);
        by_bytes.sort = ConnectionSort::Bytes;
        table.row([
            count.to_string(),
            times(options.repeats, count, || summary(&monitor))?,
            times(options.repeats, count, || connections(&monitor, &all))?,
            times(options.repeats, count, || connections(&monitor, &by_bytes))?,
            times(options.repeats, count / 1_000, || connections(&monitor, &few))?,
            (accounted / count).to_string(),
            (grown / count).to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn filters(options: &Options) -> BenchResult {
    const COUNT: u64 = 100_000;
    println!("20 of {COUNT} connections that ended, by conditions that all of them meet, in ms.\n");
    let mut table = Table::new(["comparisons", "time"]);
    let monitor = Monitor::new(Recorded::of(COUNT)?);
    for comparisons in [0, 1, 4, 16] {
        let terms: Vec<_> = (1..=comparisons).map(|port| format!("port != {port}")).collect();
        let request = page((comparisons > 0).then(|| terms.join(" and ")));
        let time = times(options.repeats, COUNT, || connections(&monitor, &request))?;
        table.row([comparisons.to_string(), time]);
    }
    println!("{table}");
    Ok(())
}

fn open(options: &Options) -> BenchResult {
    println!(
        "Open connections, in ms, asked in process; bytes that each takes here and in the kernel's tables.\n"
    );
    let mut table = Table::new([
        "connections",
        "sockets()",
        "a sample",
        "summary",
        "20 connections",
        "bytes each, RSS",
        "bytes each, kernel",
    ]);
    for count in [1_000, 10_000, 100_000] {
        let monitor = Monitor::new(LiveSource::open()?);
        let source = monitor.source();
        let _observation = source.observe()?;
        let (memory, tables) = (resident()?, kernel_tables()?);
        let mut held = workload::start_here(&format!("hold --connections {count} 127.0.0.1:0"));
        held.ready();
        let request = page(None);
        let (sockets, repeats) = (2 * count, options.repeats);
        let cells = [
            times(repeats, sockets, || Ok(source.sockets(&source.start()?)?.sockets.len() as u64))?,
            // Who joins an observation begins with one.
            times(repeats, 0, || Ok(source.observe().map(|_| 0)?))?,
            times(repeats, count, || summary(&monitor))?,
            times(repeats, sockets, || connections(&monitor, &request))?,
            (resident()?.saturating_sub(memory) / count).to_string(),
            (kernel_tables()?.saturating_sub(tables) / count).to_string(),
        ];
        table.row([count.to_string()].into_iter().chain(cells));
        held.wait();
    }
    println!("{table}");
    Ok(())
}

/// What the BPF maps of this process take, as the kernel says (6.4 and later; before, what they take when full).
fn kernel_tables() -> BenchResult<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // The directory itself is closed by the time it is looked at.
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        let field = |name| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        if field("map_type:").is_some() {
            bytes += field("memlock:").unwrap_or_default();
        }
    }
    Ok(bytes)
}

fn clients(options: &Options) -> BenchResult {
    const OPEN: u64 = 1_000;
    println!("netmond with {OPEN} open connections, asked by clients that ask again at once, in ms.\n");
    let directory = std::env::temp_dir().join(format!("netmon-bench-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let result = Daemon::start(&directory.join("socket")).and_then(|daemon| {
        let mut held = workload::start(&daemon.netns, &format!("hold --connections {OPEN} 127.0.0.1:0"));
        held.ready();
        let mut table = Table::new(["clients", "summary", "20 connections", "answers a second"]);
        for clients in [1, 4, 16] {
            let work = || {
                let monitor = Monitor::new(RemoteSource::unix(&daemon.socket)?);
                let request = page(None);
                ask_until(
                    options.seconds,
                    &mut [&mut || summary(&monitor), &mut || connections(&monitor, &request)],
                )
            };
            let asked = at_once(clients, work)?;
            let questions = (0..2).map(|question| {
                let mut all = Sample::default();
                asked.iter().flat_map(|client| &client[question]).for_each(|time| all.push(*time));
                all.quartiles(1e3)
            });
            let answers: usize = asked.iter().flatten().map(Vec::len).sum();
            let per_second = format!("{:.0}", answers as f64 / options.seconds);
            table.row([clients.to_string()].into_iter().chain(questions).chain([per_second]));
        }
        println!("{table}");
        held.wait();
        Ok(())
    });
    fs::remove_dir_all(&directory)?;
    result
}

/// Does the same on so many threads.
fn at_once<T: Send>(count: usize, work: impl Fn() -> BenchResult<T> + Sync) -> BenchResult<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(&work)).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?).collect()
    })
}

/// The times of questions, asked in turns for so long.
fn ask_until(
    time: f64,
    questions: &mut [&mut dyn FnMut() -> BenchResult<u64>],
) -> BenchResult<Vec<Vec<f64>>> {
    let mut times = vec![Vec::new(); questions.len()];
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < time {
        for (question, times) in questions.iter_mut().zip(&mut times) {
            times.push(seconds(|| question().map(drop))?);
        }
    }
    Ok(times)
}

fn readers(options: &Options) -> BenchResult {
    /// Room for some 90,000 connections, so that what comes displaces what was there.
    const MEMORY: usize = 24 << 20;
    const FILLED: u64 = 120_000;
    const BATCH: u64 = 200;
    const BREATH: Duration = Duration::from_millis(10);
    println!(
        "summary() of a full recorder of {} MiB, in ms; fed with {BATCH} connections every {BREATH:?}.\n",
        MEMORY >> 20
    );
    let mut table =
        Table::new(["readers", "fed", "summary", "summaries a second", "a batch", "the slowest batch"]);
    for (count, fed) in [(1, false), (2, false), (1, true), (2, true)] {
        let recorded = Recorded::empty(MEMORY, 1 << 40)?;
        recorded.add(0..FILLED);
        let monitor = Monitor::new(recorded.clone());
        let done = AtomicBool::new(!fed);
        let (asked, batches) = thread::scope(|scope| {
            let feeding = scope.spawn(|| {
                let (mut batches, mut next) = (Sample::default(), FILLED);
                while !done.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    recorded.add(next..next + BATCH);
                    batches.push(start.elapsed().as_secs_f64());
                    next += BATCH;
                    thread::sleep(BREATH);
                }
                batches
            });
            let asked = at_once(count, || ask_until(options.seconds, &mut [&mut || summary(&monitor)]));
            done.store(true, Ordering::Relaxed);
            let batches = feeding.join().map_err(|_| "the feeder panicked")?;
            BenchResult::Ok((asked?, batches))
        })?;
        let mut all = Sample::default();
        asked.iter().flatten().flatten().for_each(|time| all.push(*time));
        let answers: usize = asked.iter().flatten().map(Vec::len).sum();
        let (batch, slowest) = match fed {
            true => (batches.quartiles(1e3), format!("{:.1}", batches.quantile(1.0) * 1e3)),
            false => ("-".to_owned(), "-".to_owned()),
        };
        let fed = if fed { "yes" } else { "no" }.to_owned();
        let per_second = format!("{:.0}", answers as f64 / options.seconds);
        table.row([count.to_string(), fed, all.quartiles(1e3), per_second, batch, slowest]);
    }
    println!("{table}");
    Ok(())
}
