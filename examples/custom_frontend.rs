//! A front end of your own: print any answer in any way, without knowing what it is about.
//! `cargo run --example custom_frontend [RECORDING]`
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;

use netmon_core::{Answer, Monitor, RateRequest, answer::Line, view::Layout};

/// Its digest, its tables, what is missing, and its rows as JSON lines.
fn show(answer: &impl Answer) -> Result<(), Box<dyn Error>> {
    println!("== {answer}");
    for table in answer.tables() {
        println!("{}", table.render(Layout { width: Some(120), color: false }));
    }
    for note in answer.notes() {
        println!("! {note}");
    }
    for row in answer.rows() {
        println!("{}", serde_json::to_string(&Line::new(answer.header(), row))?);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let monitor = match std::env::args().nth(1) {
        Some(recording) => Monitor::replay(recording)?,
        None => Monitor::live()?,
    };
    show(&monitor.interfaces()?)?;
    show(&monitor.capabilities()?)?;
    show(&monitor.rates(&RateRequest::default(), &Default::default())?)
}
