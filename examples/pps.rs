//! How many packets a second the default interface receives, over two seconds. `cargo run --example pps [RECORDING]`
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::time::Duration;

use netmon_core::{Monitor, Result};

fn main() -> Result<()> {
    let monitor = match std::env::args().nth(1) {
        Some(recording) => Monitor::replay(recording)?,
        None => Monitor::live()?,
    };
    let answer = monitor.incoming_pps(None, Duration::from_secs(2))?;
    println!("{answer}");
    Ok(())
}
