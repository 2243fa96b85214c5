//! A source of nothing but connections that ended, made up: what an answer costs beside the kernel's part of it.

use std::{ops::Range, sync::Arc, time::Duration};

use netmon_core::{
    Cancel, Control, Filter, Result, Source,
    fact::{
        BootTime, ConnectionDirection, ConnectionFact, ConnectionState, Moment, Observed, Process, Protocol,
        SocketSnapshot, Traffic,
    },
    source::{ChangeCursor, Changes, Observation, Recorder, Sighting, SourceDescription, Span},
};

use super::BenchResult;

const BEGIN_NS: u64 = 1_000_000_000;

/// Connections of 1,000 processes to ten destinations each, one a microsecond. A clone shares them.
#[derive(Clone)]
pub(crate) struct Recorded {
    recorder: Arc<Recorder>,
    processes: Arc<[Arc<Process>]>,
    span: Span,
}

fn moment(boot_ns: u64) -> BenchResult<Moment> {
    Ok(Moment { boot_ns, wall: "2026-01-01T00:00:00Z".parse()? })
}

impl Recorded {
    /// So many, all of them kept.
    pub(crate) fn of(count: u64) -> BenchResult<Self> {
        let recorded = Self::empty(1 << 30, count)?;
        recorded.add(0..count);
        Ok(recorded)
    }

    /// None yet, of a time that the first so many belong to.
    pub(crate) fn empty(memory_limit: usize, most: u64) -> BenchResult<Self> {
        let span = Span { from: moment(BEGIN_NS)?, to: moment(BEGIN_NS + 1_000 + most * 1_000)? };
        let recorder = Recorder::new(memory_limit);
        recorder.sample(&span.from, []);
        let process = |pid: u32| Arc::new(Process::new(1 + pid, format!("process{pid}")));
        Ok(Self { recorder: Arc::new(recorder), processes: (0..1_000).map(process).collect(), span })
    }

    pub(crate) fn add(&self, numbers: Range<u64>) {
        self.recorder.ended(numbers.map(|number| self.fact(number)));
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    fn fact(&self, number: u64) -> ConnectionFact {
        let local = ([10, 0, 0, 1], 40_000).into();
        let mut fact = ConnectionFact::new(number + 1, Protocol::Tcp, ConnectionState::Closed, local);
        let (process, place) = (number % 1_000, number / 1_000 % 10);
        let address = [192, place as u8, (process / 250) as u8, (process % 250) as u8];
        fact.remote = Some((address, 443).into());
        fact.direction = ConnectionDirection::Outbound;
        fact.process = Some(Arc::clone(&self.processes[process as usize]));
        fact.opened = BootTime::from_ns(BEGIN_NS + 1 + number * 1_000);
        fact.closed = BootTime::from_ns(BEGIN_NS + 2 + number * 1_000);
        fact.traffic =
            Some(Traffic { payload_bytes_sent: 100, payload_bytes_received: 1_000, ..Traffic::default() });
        fact
    }
}

impl Source for Recorded {
    fn describe(&self) -> SourceDescription {
        SourceDescription::new("benchmark", "nowhere", "0")
    }

    fn start(&self) -> Result<Moment> {
        Ok(self.span.to)
    }

    fn wait(&self, from: &Moment, _window: Duration, _control: &Control<'_>) -> Result<Moment> {
        Ok(*from)
    }

    fn observe(&self) -> Result<Observation> {
        Ok(Observation { from: self.span.from, cursor: ChangeCursor(0), guard: Box::new(()) })
    }

    fn observed(&self, _since: Option<Duration>) -> Result<Option<Span>> {
        Ok(Some(self.span))
    }

    fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        self.recorder.visit(span, filter, &[], visit);
        Ok(Observed::default())
    }

    fn sockets(&self, at: &Moment) -> Result<SocketSnapshot> {
        Ok(SocketSnapshot::new(*at, Vec::new(), Observed::default()))
    }

    fn changes(&self, after: ChangeCursor, patience: Duration, cancel: &Cancel) -> Result<Changes> {
        self.recorder.changes(after, patience, cancel)
    }
}
