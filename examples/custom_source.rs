//! A source of your own: here an interface that exists only in this program, with every answer that a real one has.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it is a program")]

use std::time::Duration;

use netmon_core::{
    Control, Monitor, Result, Source,
    fact::{Direction, Hook, HookStatus, InterfaceFact, InterfaceSnapshot, Moment},
    request::HookChoice,
    source::{Counting, InterfaceRef, SourceDescription},
};

/// Its time starts at 0 and passes as fast as anybody asks.
struct Simulator;

const PACKETS_PER_SECOND: u64 = 1_000;

fn moment(since_start: Duration) -> Moment {
    let boot_ns = u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX);
    Moment { boot_ns, wall: jiff::Timestamp::UNIX_EPOCH + since_start }
}

impl Source for Simulator {
    fn describe(&self) -> SourceDescription {
        SourceDescription::new("simulator", "nowhere", "none")
    }

    fn start(&self) -> Result<Moment> {
        Ok(moment(Duration::ZERO))
    }

    fn wait(&self, from: &Moment, window: Duration, _control: &Control<'_>) -> Result<Moment> {
        Ok(moment(Duration::from_nanos(from.boot_ns) + window))
    }

    fn interfaces(&self, at: &Moment) -> Result<InterfaceSnapshot> {
        let mut interface = InterfaceFact::new(1, "sim0");
        interface.incoming.packets = PACKETS_PER_SECOND * at.boot_ns / 1_000_000_000;
        interface.incoming.interface_bytes = interface.incoming.packets * 64;
        Ok(InterfaceSnapshot::new(*at, vec![interface], None))
    }

    fn count(&self, _: InterfaceRef<'_>, _: &[Direction], _: HookChoice) -> Result<Counting> {
        Ok(Counting::default())
    }

    fn hooks(&self) -> Result<Vec<HookStatus>> {
        Ok(vec![HookStatus::works(Hook::InterfaceCounters)])
    }
}

fn main() -> Result<()> {
    let answer = Monitor::new(Simulator).incoming_pps(Some("sim0"), Duration::from_secs(10))?;
    println!("{answer}");
    assert_eq!(answer.rates[0].packets, 10_000);
    Ok(())
}
