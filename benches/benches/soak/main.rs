//! A long run of netmond under mixed load, and a verdict: whether its memory, descriptors, threads and BPF objects stay what
//! they were, every loss is counted, every question answered, and nothing left behind.
//!
//! Everything happens in network namespaces of its own. The table goes to stdout, and with `--table FILE` to a file; the
//! status is 1 where a check fails.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints its result")]

#[path = "../common/mod.rs"]
mod common;
mod load;
mod netmond;

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use common::BenchResult;
use load::{Burst, Load, Told};
use netmon_core::{
    ConnectionsRequest, Control, DropsRequest, Monitor, SummaryRequest, fact::Protocol,
    request::SocketsRequest,
};
use netmon_testkit::{
    LinkOptions, Netns, VethPair,
    soak::{BpfObjects, Check, Course, Ledger, Verdict, Vitals, at_rest, until_complete},
    workload,
};
use netmond::Netmond;

/// A long run of netmond under mixed load, with a verdict.
#[derive(Parser)]
struct Options {
    /// For how long there is load. The first fifth, of ten minutes at most, is for memory to fill.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// The netmond to observe; by default that of the release build.
    #[arg(long)]
    netmond: Option<PathBuf>,
    /// Where to write the table too.
    #[arg(long)]
    table: Option<PathBuf>,
    #[command(flatten)]
    cargo: common::CargoOptions,
}

const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Threads that wait for work end after ten seconds without.
const SETTLE: Duration = Duration::from_secs(15);
/// Over how many seconds it is looked at while nobody asks. Its own watchdog wakes a thread every ten.
const REST_SECONDS: u64 = 12;
const NAMESPACE_EVERY: Duration = Duration::from_secs(4);
const SIGHUP_EVERY: Duration = Duration::from_secs(15);
const FLAP_EVERY: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let options = Options::parse();
    let mut holds = true;
    let code = common::run(|| {
        let verdict = soak(&options)?;
        holds = verdict.holds();
        if let Some(path) = &options.table {
            fs::write(path, verdict.to_string())?;
        }
        print!("{verdict}");
        println!("\n{}", if holds { "The verdict: everything holds." } else { "The verdict: it FAILS." });
        Ok(())
    });
    if holds { code } else { ExitCode::FAILURE }
}

fn soak(options: &Options) -> BenchResult<Verdict> {
    let time = Duration::try_from_secs_f64(options.minutes * 60.0)?;
    let mut link = VethPair::create();
    let mut netmond = Netmond::start(&link.near.netns, options.netmond.as_deref())?;
    let pid = netmond.id();
    // What every kind of question takes for good, it takes before anything is compared.
    warm_up(&netmond)?;
    let before = at_rest(pid, REST_SECONDS)?;

    let ends_before = ends(&netmond)?;
    let load = Load::new(netmond.socket().to_owned(), &link.near.netns);
    let start = Instant::now();
    let (told, course) = thread::scope(|scope| {
        let running = load.start(scope);
        let course = disturb(&mut link, &netmond, &load, start, time);
        load.stop();
        let told = running.into_iter().map(|(name, thread)| {
            thread.join().unwrap_or_else(|_| Told::failed(format!("{name} panicked; stderr says how")))
        });
        (told.fold(Told::expecting(), Told::and), course)
    });
    let (course, by_netns) = course?;
    let told = told.and(by_netns);

    thread::sleep(SETTLE);
    let after = at_rest(pid, REST_SECONDS)?;
    let warm = (time / 5).min(Duration::from_secs(600));
    let mut checks = vec![
        Check::alone(told.ends(), ends(&netmond)?.saturating_sub(ends_before)),
        Check::memory(&course, warm),
        Check::steady("descriptors", &course, warm, |vitals| vitals.descriptors as u64),
        Check::steady("threads", &course, warm, |vitals| vitals.threads as u64),
        Check::steady("BPF objects", &course, warm, |vitals| vitals.objects.count() as u64),
    ];
    checks.extend(Check::restored(&before, &after));
    checks.extend(told.ledgers.iter().map(|(name, ledger)| {
        let are_ends = name.starts_with("connections");
        Check::accounted(name, ledger, if are_ends { Ledger::ONE_END } else { 0 })
    }));
    let agree = "the hook counts what the kernel counts";
    checks.push(Check::agree(agree, told.windows, told.packets, told.difference));
    checks.push(Check::answered(told.asked, &told.failures));
    checks.push(Check::new(
        "streams are opened, killed and cut off, settings read again, interfaces made to flap",
        format!("{} streams, {} SIGHUPs, {} flaps", told.streams, told.hangups, told.flaps),
        told.streams > 0 && told.hangups > 0 && told.flaps > 0,
    ));

    let held = after.objects.clone();
    let (status, took) = netmond.end()?;
    checks.push(Check::new(
        "SIGTERM ends it with status 0, and its socket is gone",
        format!("{status} after {:.1} s", took.as_secs_f64()),
        status.success() && !netmond.socket().exists(),
    ));
    // The kernel frees them a moment later.
    let left = until_complete(BpfObjects::in_kernel, |all| held.among(all).count() == 0);
    checks.push(Check::gone(&held, &left));
    checks.push(Check::quiet(&netmond.log()));
    Ok(Verdict(checks))
}

/// How many ends of TCP connections were told, whoever made them.
fn ends(netmond: &Netmond) -> BenchResult<u64> {
    let totals = netmond.monitor()?.source().totals()?;
    let tcp = totals.ended.iter().filter(|kind| kind.protocol == Protocol::Tcp);
    Ok(tcp.map(|kind| kind.connections).sum())
}

/// Asks each question once, and waits until the threads that answered are gone.
fn warm_up(netmond: &Netmond) -> BenchResult {
    let monitor = netmond.monitor()?;
    let control = Control::default();
    monitor.interfaces()?;
    monitor.connections(&ConnectionsRequest::default(), &control)?;
    monitor.summary(&SummaryRequest::default(), &control)?;
    monitor.sockets(&SocketsRequest::default())?;
    monitor.drops(&DropsRequest::default(), &control)?;
    thread::sleep(SETTLE);
    Ok(())
}

/// What only the main thread does, which owns the namespaces: reads the vitals, makes and removes namespaces with
/// connections in them, signals, and takes the link down and up and away and back.
fn disturb(
    link: &mut VethPair,
    netmond: &Netmond,
    load: &Load,
    start: Instant,
    time: Duration,
) -> BenchResult<(Course, Told)> {
    let mut course = Course::default();
    let mut told = Told::default();
    let monitor = netmond.monitor()?;
    let (mut namespace, mut hangup, mut flap) = (start, start, start);
    while start.elapsed() < time {
        course.push(start.elapsed(), Vitals::of(netmond.id())?);
        if namespace.elapsed() >= NAMESPACE_EVERY {
            namespace = Instant::now();
            told = told.and(short_namespace(&monitor));
        }
        if hangup.elapsed() >= SIGHUP_EVERY {
            hangup = Instant::now();
            netmond.hang_up();
            told.hangups += 1;
        }
        if flap.elapsed() >= FLAP_EVERY {
            flap = Instant::now();
            if told.flaps % 2 == 0 {
                link.near.netns.ip(&["link set veth0 down", "link set veth0 up"]);
            } else {
                link.near.netns.ip(&["link del veth0"]);
                link.connect(LinkOptions::default());
            }
            told.flaps += 1;
        }
        thread::sleep(SAMPLE_EVERY);
    }
    // The last measurements are of a link that is there.
    load.stop();
    Ok((course, told))
}

/// A namespace with a hundred connections, gone before anybody asks.
fn short_namespace(monitor: &Monitor) -> Told {
    let port = load::next_port();
    let netns = Netns::create();
    let burst = Burst::of(netns.number(), port);
    let made = load::storm(|command| workload::start(&netns, command), port, 100);
    drop(netns);
    let mut told = Told::default();
    load::compare(&mut told, monitor, load::NAMESPACES, &burst, made);
    told
}
