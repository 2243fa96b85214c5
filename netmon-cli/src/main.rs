//! `netmon-cli`: asks netmon-core, prints the answer, and ends with a status that scripts can use.
#![forbid(unsafe_code)]

mod arguments;
mod command;
mod failure;
mod output;
mod progress;
mod top;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    arguments.global.color.write_global();
    start_log(arguments.global.verbose);
    match command::run(&arguments) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Logs go to stderr, so that stdout is the answer and nothing else.
fn start_log(verbose: u8) {
    use tracing_subscriber::filter::{EnvFilter, LevelFilter};

    let level = match verbose {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
