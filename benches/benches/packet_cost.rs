//! What one packet costs in each counting program, run by the kernel on a made-up packet (`BPF_PROG_TEST_RUN`).
//!
//! On one CPU: the least of several rounds, in which all programs take turns, since a disturbance can only make a round
//! longer. On two CPUs at once: the median, since there the least is a round in which the two hardly met.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints its result")]

mod common;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    process::ExitCode,
    sync::Barrier,
    thread,
};

use clap::Parser;
use common::{BenchResult, Sample, Table};
use netmon_bpf::cost::{Specimen, Subject};
use netmon_testkit::frame;
use rustix::{
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

/// What one packet costs in each counting program.
#[derive(Parser)]
struct Options {
    /// How many rounds to take the least or the median of.
    #[arg(long, default_value_t = 40)]
    rounds: u32,
    /// How often each program runs on each packet in a round.
    #[arg(long, default_value_t = 100_000)]
    repeats: u32,
    #[command(flatten)]
    cargo: common::CargoOptions,
}

/// Each program, and the index of the empty one of its kind.
const PROGRAMS: [(Subject, &str, usize); 6] = [
    (Subject::PassSkb, "tc: empty", 0),
    (Subject::CountSkb, "tc: netmon", 0),
    (Subject::PassXdp, "XDP: empty", 2),
    (Subject::CountXdp, "XDP: netmon", 2),
    (Subject::SharedArray, "XDP: shared array", 2),
    (Subject::SharedHash, "XDP: shared hash", 2),
];

fn main() -> ExitCode {
    common::run(|| measure(&Options::parse()))
}

fn measure(options: &Options) -> BenchResult {
    let specimens: Vec<_> =
        PROGRAMS.iter().map(|(subject, ..)| Specimen::load(*subject)).collect::<Result<_, _>>()?;
    one_cpu(options, &specimens)?;
    println!();
    two_cpus(options, &specimens)
}

fn one_cpu(options: &Options, specimens: &[Specimen]) -> BenchResult {
    let packets = packets();
    let mut samples = vec![vec![Sample::default(); packets.len()]; specimens.len()];
    // Rounds outermost, so that a slow moment of the machine is everybody's.
    for _ in 0..options.rounds {
        for (packet, (_, frame)) in packets.iter().enumerate() {
            for (program, specimen) in specimens.iter().enumerate() {
                samples[program][packet].push(nanoseconds_a_packet(specimen, frame, options.repeats)?);
            }
        }
    }
    check_counts(specimens, u64::from(options.rounds) * packets.len() as u64 * u64::from(options.repeats))?;

    println!(
        "One CPU: ns a packet, the least of {} rounds of {} packets, less that of the empty program of its kind.",
        options.rounds, options.repeats
    );
    println!("In brackets: how far the median round was above the least.\n");
    let mut table = Table::new(["packet"].iter().chain(PROGRAMS.iter().map(|(_, name, _)| name)).copied());
    for (packet, (name, _)) in packets.iter().enumerate() {
        let mut cells = vec![(*name).to_owned()];
        for (program, (_, _, empty)) in PROGRAMS.iter().enumerate() {
            let sample = &samples[program][packet];
            let base = if *empty == program { 0.0 } else { samples[*empty][packet].least() };
            let spread = sample.median() - sample.least();
            cells.push(format!("{:.1} (+{spread:.1})", sample.least() - base));
        }
        table.row(cells);
    }
    print!("{table}");
    Ok(())
}

fn two_cpus(options: &Options, specimens: &[Specimen]) -> BenchResult {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let (Some(first), Some(second)) = (cpus.next(), cpus.next()) else {
        println!("Two CPUs at once: not measured, this process may use one only.");
        return Ok(());
    };
    let (name, frame) = &packets()[0];

    let mut alone = vec![Sample::default(); specimens.len()];
    let mut together = vec![Sample::default(); specimens.len()];
    for _ in 0..options.rounds {
        for (program, specimen) in specimens.iter().enumerate() {
            let run = |cpu, barrier: &Barrier| -> BenchResult<f64> {
                let mut only = CpuSet::new();
                only.set(cpu);
                sched_setaffinity(None, &only)?;
                barrier.wait();
                Ok(nanoseconds_a_packet(specimen, frame, options.repeats)?)
            };
            let barrier = Barrier::new(1);
            alone[program].push(thread::scope(|scope| join(scope.spawn(|| run(first, &barrier))))?);

            let barrier = Barrier::new(2);
            let both = thread::scope(|scope| {
                [first, second]
                    .map(|cpu| {
                        scope.spawn({
                            let (run, barrier) = (&run, &barrier);
                            move || run(cpu, barrier)
                        })
                    })
                    .map(join)
            });
            for nanoseconds in both {
                together[program].push(nanoseconds?);
            }
        }
    }

    println!(
        "Two CPUs counting at once: ns a packet on each, {name}, the median of {} rounds of {} packets.",
        options.rounds, options.repeats
    );
    println!("In brackets: the quartiles. Nothing is subtracted.\n");
    let mut table = Table::new(["program", "one CPU", "two CPUs"]);
    for (program, (_, name, _)) in PROGRAMS.iter().enumerate() {
        table.row([(*name).to_owned(), quartiles(&alone[program]), quartiles(&together[program])]);
    }
    print!("{table}");
    Ok(())
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, BenchResult<T>>) -> BenchResult<T> {
    thread.join().unwrap_or_else(|_| Err("a thread of the benchmark panicked".into()))
}

fn quartiles(sample: &Sample) -> String {
    format!("{:.1} ({:.1}..{:.1})", sample.median(), sample.quantile(0.25), sample.quantile(0.75))
}

/// By the thread's CPU time: what else the machine does meanwhile is not the program's cost.
fn nanoseconds_a_packet(specimen: &Specimen, frame: &[u8], repeats: u32) -> netmon_bpf::Result<f64> {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    let start = now();
    specimen.run(frame, repeats)?;
    Ok((now() - start) / f64::from(repeats))
}

/// A program that was skipped or did not count would look cheap.
fn check_counts(specimens: &[Specimen], expected: u64) -> BenchResult {
    for ((_, name, _), specimen) in PROGRAMS.iter().zip(specimens) {
        if let Some(counted) = specimen.packets()?
            && counted != expected
        {
            return Err(format!("{name} counted {counted} packets where it was given {expected}").into());
        }
    }
    Ok(())
}

const TCP: u8 = 6;
const UDP: u8 = 17;

const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86DD;
const ARP: u16 = 0x0806;

/// The packets, each with its name. Addresses are those set aside for documentation.
fn packets() -> [(&'static str, Vec<u8>); 7] {
    let (from, to) = ([0x02, 0, 0, 0, 0, 1], [0x02, 0, 0, 0, 0, 2]);
    let frame = |tags: &[(u16, u16)], ether_type, payload: &[u8]| {
        frame::ethernet(to, from, tags, ether_type, payload)
    };
    let ipv4 = |protocol, length: usize| {
        let (from, to) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        frame::ipv4(from, to, protocol, &vec![0; length - 14 - 20])
    };
    let ipv6 = |next_header, payload: &[u8]| {
        let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        frame::ipv6(address(1), address(2), next_header, payload)
    };
    // Each is eight bytes: next header, further words of eight, and an option that fills the rest.
    let extensions = [[DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0], [TCP, 0, 1, 4, 0, 0, 0, 0]].concat();
    [
        ("TCP/IPv4, 64 B", frame(&[], IPV4, &ipv4(TCP, 64))),
        ("UDP/IPv4, 64 B", frame(&[], IPV4, &ipv4(UDP, 64))),
        ("TCP/IPv4, 1514 B", frame(&[], IPV4, &ipv4(TCP, 1514))),
        ("TCP/IPv6, 74 B", frame(&[], IPV6, &ipv6(TCP, &[0; 20]))),
        (
            "TCP/IPv6, 2 extension headers",
            frame(&[], IPV6, &ipv6(HOP_BY_HOP, &[&extensions[..], &[0; 20]].concat())),
        ),
        ("TCP/IPv4, VLAN tag", frame(&[(0x8100, 7)], IPV4, &ipv4(TCP, 64))),
        ("ARP, 60 B", frame(&[], ARP, &[0; 46])),
    ]
}
