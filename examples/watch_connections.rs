//! A loop of your own that is told of connections as they open, fail and end, between the other things it does.
//! `cargo run --example watch_connections [SECONDS] [RECORDING]`
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::{
    error::Error,
    thread,
    time::{Duration, Instant},
};

use netmon_core::{Cancel, ConnectionsRequest, Monitor};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(10), |seconds| seconds.parse())?;
    let monitor = match arguments.next() {
        Some(recording) => Monitor::replay(recording)?,
        None => Monitor::live()?,
    };

    let mut watch = monitor.watch_connections(&ConnectionsRequest::default())?;
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        // Nothing here waits: it takes what there is.
        let changes = match watch.next(Duration::ZERO, &Cancel::new()) {
            Ok(changes) => changes,
            Err(netmon_core::Error::RecordingEnded { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        for connection in changes {
            let who =
                connection.process.map_or_else(|| "somebody".to_owned(), |process| process.comm.to_string());
            let whom =
                connection.remote.map_or_else(|| "?".to_owned(), |remote| remote.endpoint().to_string());
            println!(
                "{:<8} {} {who} {} {whom}",
                connection.state.name(),
                connection.protocol,
                connection.direction
            );
        }
        // Your own work.
        thread::sleep(Duration::from_millis(50));
    }
    if watch.missed() > 0 {
        println!("{} changes were missed", watch.missed());
    }
    Ok(())
}
