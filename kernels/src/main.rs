//! `netmon-kernels`: tries netmon on kernels, and compares with what is expected. `./x kernels` builds what it needs and
//! runs it.
#![forbid(unsafe_code)]
#![allow(clippy::doc_markdown, reason = "this is the text of --help, which shows backticks as they are")]
#![allow(clippy::print_stdout, reason = "a program; what it prints is what it is for")]

use std::{env, fs, path::PathBuf, process::ExitCode};

use clap::Parser;
use netmon_kernels::{
    Result, document,
    job::{self, CLIENTS, Programs, SITUATIONS, Tests},
    packages::{self, Kernel},
    report::{Differences, Expectation, Report},
};

/// Boots stock kernels of Debian in virtual machines, tries netmon on each, and compares with kernels/expected.json.
/// With NETMON_UPDATE=1 it writes that and docs/kernels.md anew instead.
///
/// Exit status: 0 all is as expected or better, 1 something is worse, or could not be tried.
#[derive(Debug, Parser)]
#[command(name = "./x kernels", max_term_width = 100)]
struct Options {
    /// The kernels: 5.10, 6.1, 6.12, newest [default: all of them]
    #[arg(value_parser = kernel)]
    kernels: Vec<Kernel>,
    /// Only these situations, with commas between them; `none` for none [default: all of them]
    #[arg(long, value_delimiter = ',', value_parser = situation)]
    situations: Vec<String>,
    /// Leave the project's own kernel tests out, half an hour for a kernel
    #[arg(long)]
    without_tests: bool,
    /// Only kernel tests with one of these in their names, with commas between them; their number is then not compared
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    filter: Vec<String>,
    /// Fetch the kernels, and end
    #[arg(long)]
    fetch_only: bool,
    /// Where netmon-cli, netmond and netmon-mcp are
    #[arg(long, value_name = "FOLDER", default_value = "target/release")]
    programs: PathBuf,
    /// netmon-workload
    #[arg(long, value_name = "FILE", default_value = "target/debug/netmon-workload")]
    workload: PathBuf,
    /// What `cargo test --no-run --message-format=json` printed
    #[arg(long, value_name = "FILE")]
    tests: Option<PathBuf>,
}

fn kernel(name: &str) -> Result<Kernel> {
    Ok(Kernel::of_name(name).ok_or("there are 5.10, 6.1, 6.12 and newest")?)
}

fn situation(name: &str) -> Result<String> {
    if name != "none" && !SITUATIONS.contains(&name) {
        return Err(format!("there are {} and none", SITUATIONS.join(", ")).into());
    }
    Ok(name.to_owned())
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.kernels.is_empty() {
        options.kernels = Kernel::ALL.to_vec();
    }
    if options.fetch_only {
        return fetch(&options.kernels);
    }
    let mut as_expected = true;
    for kernel in &options.kernels {
        match try_kernel(*kernel, &options) {
            Ok(is_as_expected) => as_expected &= is_as_expected,
            Err(error) => {
                println!("{}: {error}", kernel.name());
                as_expected = false;
            }
        }
    }
    if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fetch(kernels: &[Kernel]) -> ExitCode {
    for kernel in kernels {
        match packages::fetch(*kernel) {
            Ok(fetched) => println!("{}: {}", kernel.name(), fetched.release),
            Err(error) => {
                println!("{}: {error}", kernel.name());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Whether all is as expected on a kernel, or has been written down as what is.
fn try_kernel(kernel: Kernel, options: &Options) -> Result<bool> {
    let fetched = packages::fetch(kernel)?;
    println!("{}: Linux {}", kernel.name(), fetched.release);
    let mut found = Report { release: fetched.release.clone(), ..Report::default() };
    let mut complaints = Vec::new();
    let situations: Vec<&str> = SITUATIONS
        .into_iter()
        .filter(|name| {
            options.situations.is_empty() || options.situations.iter().any(|chosen| chosen == name)
        })
        .collect();
    if !situations.is_empty() {
        let programs = Programs { folder: options.programs.clone(), workload: options.workload.clone() };
        let (findings, complained) = job::situations(&fetched, &programs, &situations, CLIENTS)?;
        found.situations = findings;
        complaints.push(complained);
    }
    let tests = options.tests.as_ref().filter(|_| !options.without_tests);
    if let Some(messages) = tests {
        let tests = Tests::of_messages(&fs::read_to_string(messages)?);
        let (suite, complained) = job::suite(&fetched, &tests, &options.filter)?;
        found.suite = suite;
        complaints.push(complained);
    }
    complaints.retain(|complaint| !complaint.is_empty());

    let mut expectation = document::read()?;
    let expected = expectation.kernels.get(kernel.name()).cloned().unwrap_or_default();
    let mut differences = Differences::between(&expected, &found);
    if tests.is_some() {
        if options.filter.is_empty() {
            differences.add_suite(&expected.suite, &found.suite);
        } else {
            differences.add_part_of_suite(&expected.suite, &found.suite);
        }
        println!("  {} tests passed, {} did not", found.suite.passed, found.suite.not_here.len());
        for (test, why) in &found.suite.not_here {
            println!("  not here  {test}: {why}");
        }
    }
    print!("{differences}");
    for complaint in &complaints {
        println!("  the kernel complained:\n{complaint}");
    }
    if env::var_os("NETMON_UPDATE").is_some() && complaints.is_empty() {
        update(&mut expectation, kernel, found, tests.is_some() && options.filter.is_empty());
        document::write(&expectation)?;
        return Ok(true);
    }
    Ok(differences.worse.is_empty() && complaints.is_empty())
}

/// What was found becomes what is expected; why a test cannot pass is kept where somebody has written it down.
fn update(expectation: &mut Expectation, kernel: Kernel, found: Report, with_tests: bool) {
    let expected = expectation.kernels.entry(kernel.name().to_owned()).or_default();
    expected.release = found.release;
    expected.situations.extend(found.situations);
    if with_tests {
        let mut suite = found.suite;
        for (test, why) in &mut suite.not_here {
            if let Some(known) = expected.suite.not_here.get(test) {
                why.clone_from(known);
            }
        }
        expected.suite = suite;
    }
}
