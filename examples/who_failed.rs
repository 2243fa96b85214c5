//! Whose connections failed, where to, and why: of the next seconds, or of a recording.
//! `cargo run --example who_failed [RECORDING]`
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::{collections::BTreeMap, error::Error};

use netmon_core::{ConnectionsRequest, Control, Monitor, fact::ConnectionState};

fn main() -> Result<(), Box<dyn Error>> {
    let monitor = match std::env::args().nth(1) {
        Some(recording) => Monitor::replay(recording)?,
        None => Monitor::live()?,
    };
    let mut request = ConnectionsRequest::default();
    request.states = vec![ConnectionState::Failed];
    let answer = monitor.connections(&request, &Control::default())?;

    let mut failures: BTreeMap<(String, String, String), u32> = BTreeMap::new();
    for connection in &answer.connections {
        let who = connection.process.as_ref();
        let who =
            who.map_or_else(|| "unknown".to_owned(), |process| format!("{}/{}", process.comm, process.pid));
        let whom = connection.remote.as_ref();
        let whom = whom.map_or_else(|| "unknown".to_owned(), |remote| remote.endpoint().to_string());
        let why =
            connection.error.as_ref().map_or_else(|| "unknown".to_owned(), |error| error.name.to_string());
        *failures.entry((who, whom, why)).or_default() += 1;
    }
    println!("{} connections failed within {:.1} s", answer.total, answer.header.window.seconds);
    for ((who, whom, why), count) in failures {
        println!("{count:>5}  {why:<14}  {whom:<28}  {who}");
    }
    for note in netmon_core::Answer::notes(&answer) {
        println!("note: {note}");
    }
    Ok(())
}
