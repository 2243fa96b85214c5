//! `netmon-kernels`: boots kernels, and compares. `./x kernels` builds what it needs and runs it.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program; what it prints is what it is for")]

use std::{fs, path::PathBuf};

use clap::Parser;
use netmon_kernels::{Result, job::{self, Programs, SITUATIONS, Tests}, packages::{self, Kernel}, report::{Report, Suite}};

#[derive(Debug, Parser)]
struct Options {
    #[arg(long)]
    programs: PathBuf,
    #[arg(long)]
    workload: PathBuf,
    #[arg(long)]
    tests: Option<PathBuf>,
    #[arg(long, default_value = "")]
    filter: String,
    #[arg(long, value_delimiter = ',')]
    situations: Vec<String>,
    #[arg(long)]
    out: Option<PathBuf>,
    kernels: Vec<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    for name in &options.kernels {
        let kernel = Kernel::of_name(name).ok_or("no such kernel")?;
        let fetched = packages::fetch(kernel)?;
        eprintln!("{name}: {}", fetched.release);
        let names: Vec<&str> = match options.situations.as_slice() {
            [] => SITUATIONS.to_vec(),
            [one] if one == "none" => vec![],
            some => some.iter().map(String::as_str).collect(),
        };
        let mut report = Report { release: fetched.release.clone(), ..Report::default() };
        if !names.is_empty() {
            let programs = Programs { folder: options.programs.clone(), workload: options.workload.clone() };
            let (situations, complaints) = job::situations(&fetched, &programs, &names)?;
            report.situations = situations;
            eprintln!("complaints: {complaints}");
        }
        if let Some(tests) = &options.tests {
            let tests = Tests::of_messages(&fs::read_to_string(tests)?);
            let (suite, complaints): (Suite, String) = job::suite(&fetched, &tests, &options.filter)?;
            report.suite = suite;
            eprintln!("complaints: {complaints}");
        }
        let text = serde_json::to_string_pretty(&report)?;
        match &options.out {
            Some(out) => fs::write(out, text)?,
            None => println!("{text}"),
        }
    }
    Ok(())
}
