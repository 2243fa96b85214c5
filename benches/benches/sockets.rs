//! Listing all sockets with their owners, against the tools that do; summing up recorded connections; what an idle monitor
//! costs.
//!
//! Sockets are connections over loopback, held by processes of this program's own.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints its result")]

mod common;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use common::{BenchResult, Sample, Table, recorded::Recorded, resident, seconds};
use netmon_core::{Control, Monitor, Source as _, SummaryRequest, source::live::LiveSource};
use netmon_testkit::Netns;

/// Listing sockets, summing up connections, and idling.
#[derive(Parser)]
struct Options {
    /// How often each is done.
    #[arg(long, default_value_t = 10)]
    repeats: u32,
    /// Hold so many connections until stdin ends; what the benchmark starts itself with.
    #[arg(long, hide = true)]
    hold: Option<usize>,
    #[command(flatten)]
    cargo: common::CargoOptions,
}

fn main() -> ExitCode {
    let options = Options::parse();
    common::run(|| match options.hold {
        Some(count) => hold(count),
        None => measure(&options),
    })
}

fn measure(options: &Options) -> BenchResult {
    Netns::create().enter(|| listing(options))?;
    summing(options)?;
    Netns::create().enter(idling)
}

const CONNECTIONS_A_PROCESS: usize = 4_000;

fn hold(count: usize) -> BenchResult {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        held.push((TcpStream::connect(address)?, listener.accept()?));
    }
    println!("ready");
    std::io::stdout().flush()?;
    let _ = std::io::stdin().read_line(&mut String::new());
    Ok(())
}

/// Processes that hold so many sockets together; they end with their stdin.
fn holders(sockets: usize) -> BenchResult<Vec<Child>> {
    let mut children = Vec::new();
    let mut left = sockets / 2;
    while left > 0 {
        let count = left.min(CONNECTIONS_A_PROCESS);
        left -= count;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--hold", &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        if said.trim() != "ready" {
            return Err(format!("a holder of sockets said {said:?}").into());
        }
        children.push(child);
    }
    Ok(children)
}

/// The time of another program, or `None` where it is not installed.
fn rival(command: &[&str]) -> BenchResult<Option<f64>> {
    let start = Instant::now();
    let status =
        Command::new(command[0]).args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(_) => Ok(Some(start.elapsed().as_secs_f64())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn listing(options: &Options) -> BenchResult {
    println!(
        "All sockets with their owners, in ms: median of {} (others: of 3), and how often slower.\n",
        options.repeats
    );
    let mut table =
        Table::new(["sockets", "netmon, observing", "netmon, once", "RSS, MB", "ss -tunap", "lsof -nP -i"]);
    for count in [2_000, 20_000, 100_000] {
        let mut children = holders(count)?;
        let once = {
            let mut sample = Sample::default();
            for _ in 0..options.repeats {
                let source = LiveSource::open()?;
                sample.push(seconds(|| {
                    source.sockets(&source.start()?)?;
                    Ok(())
                })?);
            }
            sample
        };
        let source = LiveSource::open()?;
        let observation = source.observe()?;
        let mut observing = Sample::default();
        for _ in 0..options.repeats {
            observing.push(seconds(|| {
                let found = source.sockets(&source.start()?)?.sockets.len();
                if found < count { Err(format!("{found} of {count} sockets").into()) } else { Ok(()) }
            })?);
        }
        let memory = resident()?;
        drop(observation);
        let best = observing.median();
        let against = |time: Option<f64>| {
            time.map_or_else(
                || "not installed".to_owned(),
                |time| format!("{:.0} ({:.1}x)", time * 1e3, time / best),
            )
        };
        let of = |command: &[&str]| -> BenchResult<Option<f64>> {
            let mut sample = Sample::default();
            for _ in 0..3 {
                match rival(command)? {
                    Some(time) => sample.push(time),
                    None => return Ok(None),
                }
            }
            Ok(Some(sample.median()))
        };
        table.row([
            count.to_string(),
            format!("{:.1}", best * 1e3),
            format!("{:.1}", once.median() * 1e3),
            format!("{:.1}", memory as f64 / 1e6),
            against(of(&["ss", "-tunap"])?),
            against(of(&["lsof", "-nP", "-i"])?),
        ]);
        for child in &mut children {
            drop(child.stdin.take());
        }
        for mut child in children {
            child.wait()?;
        }
    }
    println!("{table}");
    Ok(())
}

fn summing(options: &Options) -> BenchResult {
    println!("summary() over recorded connections: median of {}, and what they take.\n", options.repeats);
    let mut table = Table::new(["connections", "ms", "bytes each, accounted", "bytes each, RSS"]);
    for count in [10_000, 100_000, 1_000_000] {
        let before = resident()?;
        let source = Recorded::of(count)?;
        let grown = resident()?.saturating_sub(before);
        let accounted = source.recorder().memory() as u64;
        let monitor = Monitor::new(source);
        let mut sample = Sample::default();
        for _ in 0..options.repeats {
            sample.push(seconds(|| {
                let answer = monitor.summary(&SummaryRequest::default(), &Control::default())?;
                if answer.total_attempts == count { Ok(()) } else { Err("not all were counted".into()) }
            })?);
        }
        table.row([
            count.to_string(),
            format!("{:.1}", sample.median() * 1e3),
            (accounted / count).to_string(),
            (grown / count).to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn idling() -> BenchResult {
    const TIME: Duration = Duration::from_secs(10);
    let source = LiveSource::open()?;
    let _observation = source.observe()?;
    let used = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
    };
    let before = used();
    thread::sleep(TIME);
    let share = (used() - before).as_secs_f64() / TIME.as_secs_f64();
    println!("Observing for {TIME:?} while nothing happens: {:.3} % of a CPU", share * 100.0);
    Ok(())
}
