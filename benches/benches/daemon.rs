//! What a question to a running netmond takes, and what netmond takes while nobody asks.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints its result")]

mod common;

use std::{
    fs,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use clap::Parser;
use common::{
    BenchResult, Sample, Table,
    netmond::{Daemon, built},
};
use netmon_core::{ConnectionsRequest, Control, Monitor, SummaryRequest, source::remote::RemoteSource};

/// What a question to a running netmond takes, and what netmond takes while nobody asks.
#[derive(Parser)]
struct Options {
    /// How often each question is asked.
    #[arg(long, default_value_t = 500)]
    repeats: u32,
    #[command(flatten)]
    cargo: common::CargoOptions,
}

fn main() -> ExitCode {
    common::run(|| measure(&Options::parse()))
}

fn measure(options: &Options) -> BenchResult {
    let directory = std::env::temp_dir().join(format!("netmon-bench-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let result = Daemon::start(&directory.join("socket")).and_then(|daemon| ask(options, &daemon));
    fs::remove_dir_all(&directory)?;
    result
}

fn ask(options: &Options, daemon: &Daemon) -> BenchResult {
    println!("netmond, idle: {:.1} MB of memory.\n", daemon.resident_bytes()? / 1e6);
    println!("Time of a question on its socket: median of {}, and quartiles, in ms.\n", options.repeats);
    let monitor = Monitor::new(RemoteSource::unix(&daemon.socket)?);
    let mut page = ConnectionsRequest::default();
    page.limit = Some(20);
    let mut table = Table::new(["question", "time"]);
    let mut row = |question: &str, action: &mut dyn FnMut() -> BenchResult<bool>| -> BenchResult {
        let mut sample = Sample::default();
        for _ in 0..options.repeats {
            let start = Instant::now();
            if !action()? {
                return Err(format!("{question}: no answer").into());
            }
            sample.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let (median, low, high) = (sample.median(), sample.quantile(0.25), sample.quantile(0.75));
        table.row([question.to_owned(), format!("{median:.2} ({low:.2}..{high:.2})")]);
        Ok(())
    };
    row("interfaces", &mut || Ok(!monitor.interfaces()?.interfaces.is_empty()))?;
    row("summary", &mut || {
        Ok(monitor.summary(&SummaryRequest::default(), &Control::default())?.header.coverage.lost_events == 0)
    })?;
    row("20 connections", &mut || {
        Ok(monitor.connections(&page, &Control::default())?.header.coverage.lost_events == 0)
    })?;
    let program = built("netmon-cli")?;
    row("netmon-cli summary, a process each", &mut || {
        let mut command = Command::new(&program);
        command.arg("--source").arg(format!("unix:{}", daemon.socket.display())).arg("summary");
        Ok(command.stdout(Stdio::null()).status()?.success())
    })?;
    print!("{table}");
    Ok(())
}
