//! What a host's traffic loses while the monitor counts it.
//!
//! Two network namespaces joined by a veth pair; the receiving end is the monitored host. In a round, every setting takes
//! its turn on the same running flow, in an order that rotates from round to round. A setting's result is the median, over
//! the rounds, of its speed divided by the control's in the same round. The control attaches programs that do nothing to
//! the places where tcx counting attaches its own.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints its result")]

mod common;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use clap::Parser;
use common::{BenchResult, Sample, Table};
use netmon_bpf::{cost::EmptyProgram, interface::Direction};
use netmon_core::{Control, Monitor, RateRequest, request::HookChoice};
use netmon_testkit::{Side, VethPair};

/// What traffic loses while the monitor counts it.
#[derive(Parser)]
struct Options {
    /// How many rounds, each with one pair of every setting and the control.
    #[arg(long, default_value_t = 20)]
    pairs: usize,
    /// How many seconds each setting is measured in a round.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    #[command(flatten)]
    cargo: common::CargoOptions,
}

/// How the receiving end is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    Nothing,
    EmptyPrograms,
    Monitor(HookChoice),
}

const CONTROL: usize = 1;
const TCX: usize = 2;
const SETTINGS: [(Setting, &str); 6] = [
    (Setting::Nothing, "nothing"),
    (Setting::EmptyPrograms, "empty programs at tcx (control)"),
    (Setting::Monitor(HookChoice::Tcx), "netmon, tcx"),
    (Setting::Monitor(HookChoice::Clsact), "netmon, clsact"),
    (Setting::Monitor(HookChoice::Xdp), "netmon, XDP (incoming only)"),
    (Setting::Monitor(HookChoice::None), "netmon, no hook"),
];

/// How long a flow runs with a setting before it is measured: attaching XDP resets a veth's queues, and TCP recovers.
const SETTLE: Duration = Duration::from_millis(300);
/// How often the monitor takes a sample: twice as often as a watch of one second.
const SAMPLE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    common::run(|| measure(&Options::parse()))
}

fn measure(options: &Options) -> BenchResult {
    let link = VethPair::create();
    println!(
        "Traffic between two network namespaces, {} rounds, {} s for each setting in a round.",
        options.pairs, options.seconds
    );
    println!("Ratio: speed against the control's in the same round; median, and its 95 % interval.\n");
    let tcx = compare(options, &link, "bulk TCP", ("Gb/s", 8e-9), &bulk_tcp)?;
    compare(options, &link, "UDP flood, 200 B", ("k packets/s", 1e-3), &udp_flood)?;
    let verdict = if tcx >= 0.97 { "met" } else { "missed" };
    println!(
        "Goal: bulk TCP with tcx counting at 0.97 of the control or more: {verdict} by the median, {tcx:.3}."
    );
    Ok(())
}

/// The table of one kind of traffic. Returns the ratio with tcx counting.
fn compare(
    options: &Options,
    link: &VethPair,
    name: &str,
    (unit, scale): (&str, f64),
    start: &(dyn Fn(&VethPair) -> BenchResult<Flow> + Sync),
) -> BenchResult<f64> {
    let mut speeds: [Sample; SETTINGS.len()] = Default::default();
    let mut ratios: [Sample; SETTINGS.len()] = Default::default();
    for round in 0..options.pairs {
        let flow = start(link)?;
        let mut of_round = [0.0; SETTINGS.len()];
        for turn in 0..SETTINGS.len() {
            let setting = (round + turn) % SETTINGS.len();
            let measure = || speed(SETTINGS[setting].0, &link.near, &flow, options.seconds);
            of_round[setting] = link.near.netns.enter(measure)?;
        }
        for (setting, speed) in of_round.iter().enumerate() {
            speeds[setting].push(speed * scale);
            ratios[setting].push(speed / of_round[CONTROL]);
        }
    }

    let mut table = Table::new([name, unit, "ratio", "95 % interval"]);
    for (setting, (_, name)) in SETTINGS.iter().enumerate() {
        let (low, high) = ratios[setting].median_interval();
        table.row([
            (*name).to_owned(),
            format!("{:.2}", speeds[setting].median()),
            format!("{:.3}", ratios[setting].median()),
            if setting == CONTROL { "-".to_owned() } else { format!("{low:.3} .. {high:.3}") },
        ]);
    }
    println!("{table}");
    Ok(ratios[TCX].median())
}

/// The flow's progress a second under a setting. To be called in the monitored namespace.
fn speed(setting: Setting, side: &Side, flow: &Flow, seconds: f64) -> BenchResult<f64> {
    let window = Duration::from_secs_f64(seconds);
    match setting {
        Setting::Nothing => flow.speed(window, sleep),
        Setting::EmptyPrograms => {
            let _ingress = EmptyProgram::attach_tcx(side.index, Direction::Ingress)?;
            let _egress = EmptyProgram::attach_tcx(side.index, Direction::Egress)?;
            flow.speed(window, sleep)
        }
        Setting::Monitor(hook) => {
            let mut request = RateRequest::default();
            request.interfaces = vec![Side::INTERFACE.to_owned()];
            request.window = SAMPLE;
            request.hook = hook;
            let mut watch = Monitor::live()?.watch_rates(&request)?;
            let mut counted = 0;
            let speed = flow.speed(window, |time| {
                let end = Instant::now() + time;
                while Instant::now() < end {
                    let answer = watch.next_window(&Control::default())?;
                    counted += answer.rates[0].hook.map_or(0, |hook| hook.total.packets);
                }
                Ok(())
            })?;
            // A hook that saw nothing would look cheap.
            if counted == 0 && hook != HookChoice::None {
                Err(format!("{hook:?} counted nothing").into())
            } else {
                Ok(speed)
            }
        }
    }
}

fn sleep(time: Duration) -> BenchResult {
    thread::sleep(time);
    Ok(())
}

/// Traffic that runs until it is dropped.
struct Flow {
    /// Bytes received, or packets sent.
    progress: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flow {
    fn start() -> Self {
        Self { progress: Arc::default(), stop: Arc::default(), threads: Vec::new() }
    }

    /// Calls `step` again and again on a thread of its own, and counts what it returns.
    fn run(&mut self, counted: bool, mut step: impl FnMut() -> u64 + Send + 'static) {
        let (progress, stop) = (Arc::clone(&self.progress), Arc::clone(&self.stop));
        self.threads.push(thread::spawn(move || {
            while !stop.load(Relaxed) {
                let done = step();
                if counted {
                    progress.fetch_add(done, Relaxed);
                }
            }
        }));
    }

    fn speed(&self, window: Duration, mut wait: impl FnMut(Duration) -> BenchResult) -> BenchResult<f64> {
        wait(SETTLE)?;
        let (start, before) = (Instant::now(), self.progress.load(Relaxed));
        wait(window)?;
        let progress = self.progress.load(Relaxed) - before;
        if progress == 0 {
            return Err("the traffic stands still".into());
        }
        Ok(progress as f64 / start.elapsed().as_secs_f64())
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// How long a thread of a flow may stay in a system call after its end.
const TIMEOUT: Option<Duration> = Some(Duration::from_millis(200));

/// One connection, as fast as it goes. Counted are the bytes that were received.
fn bulk_tcp(link: &VethPair) -> BenchResult<Flow> {
    let listener = link.near.netns.enter(|| TcpListener::bind((link.near.ipv4, 0)))?;
    let address = listener.local_addr()?;
    let mut sender = link.far.netns.enter(|| TcpStream::connect(address))?;
    let (mut receiver, _) = listener.accept()?;
    sender.set_write_timeout(TIMEOUT)?;
    receiver.set_read_timeout(TIMEOUT)?;

    let mut flow = Flow::start();
    let block = vec![0; 128 << 10];
    flow.run(false, move || sender.write(&block).unwrap_or_default() as u64);
    let mut buffer = vec![0; 256 << 10];
    flow.run(true, move || receiver.read(&mut buffer).unwrap_or_default() as u64);
    Ok(flow)
}

/// Datagrams of 200 bytes, as fast as one thread sends them. Counted are those that were sent: over a veth pair that
/// includes their way up to the receiving socket. Another thread empties that, and misses what it is too slow for.
fn udp_flood(link: &VethPair) -> BenchResult<Flow> {
    let receiver = link.near.netns.enter(|| UdpSocket::bind((link.near.ipv4, 0)))?;
    let address = receiver.local_addr()?;
    let sender = link.far.netns.enter(|| UdpSocket::bind(SocketAddr::from((link.far.ipv4, 0))))?;
    sender.connect(address)?;
    receiver.set_read_timeout(TIMEOUT)?;

    let mut flow = Flow::start();
    flow.run(true, move || u64::from(sender.send(&[0; 200]).is_ok()));
    let mut buffer = [0; 256];
    flow.run(false, move || match receiver.recv(&mut buffer) {
        Ok(_) => 1,
        Err(_) => 0,
    });
    Ok(flow)
}
