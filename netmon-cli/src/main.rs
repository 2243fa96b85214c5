//! `netmon-cli`: asks netmon-core, prints the answer, and ends with a status that scripts can use.
#![forbid(unsafe_code)]

mod arguments;
mod command;
mod failure;
mod log;
mod names;
mod output;
mod progress;
mod session;
mod shell;
mod signals;
mod tools;
mod top;

use std::process::ExitCode;

use crate::{arguments::Arguments, failure::Failure};

fn main() -> ExitCode {
    run().unwrap_or_else(|failure| failure.report())
}

fn run() -> Result<ExitCode, Failure> {
    let arguments = Arguments::read(std::env::args_os())?;
    arguments.global.color.write_global();
    log::start(arguments.global.verbose);
    command::run(&arguments)
}
