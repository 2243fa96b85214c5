//! What goes on, sample after sample: for a screen that a person looks at.
//!
//! A [`TopWatch`] holds the counters of the sample before and tells the differences as a [`TopInterval`]. A [`TopList`] is
//! what one view shows of that: filtered, summed up, sorted, as cells. A [`TopHistory`] is the recent past of both.
//! None of them has a thread.

mod details;
mod group;
mod history;
mod list;
mod measured;
mod row;

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

pub use history::{TopGauge, TopHistory, TopPast};
pub use list::{TopColumn, TopLine, TopList, TopQuery, TopView};
use measured::{Known, Measured};
pub use row::{TopAnswer, TopConnection, TopDestination, TopLoad, TopProcess};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{
    observe::{self, Scope, Watched},
    rates::{Rate, link_rates},
};
use crate::{
    answer::Header,
    control::{Cancel, Control},
    error::{Error, Result},
    fact::{ConnectionId, InterfaceFact, InterfaceSnapshot, Moment, Observed, Protocol},
    request::{LONGEST_WINDOW, TopRequest, check_window},
    source::{Observation, Sighting, Source, SourceDescription, Span},
    view::units,
};

/// How long what ended is still shown.
const LINGER: Duration = Duration::from_secs(5);
/// The most that is shown of what ended: in a storm nobody reads more.
const MOST_LINGERING: usize = 2_000;

/// How often all connections are asked for, and not only those that were active: what changed without traffic is seen then.
const ALL_EVERY: Duration = Duration::from_secs(60);

/// Taking samples may use one part in so many of a core: with very many connections they come less often.
const CPU_SHARE: u32 = 60;

/// The processor time that this thread has used.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    // It counts from the thread's beginning, so neither is negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Samples of what goes on, each compared with the one before. What is attached stays so while it lives.
///
/// A sample costs 1 to 3 us for each open socket of the host, and a third of that for an established TCP connection that is
/// quiet, if all connections are watched: then a change of owner without any traffic is seen within a minute. Where two
/// samples in a row take more than a sixtieth of a core, samples come less often than was asked for, and the header says so.
#[must_use = "nothing is observed when it is dropped"]
pub struct TopWatch {
    source: Arc<dyn Source>,
    scope: Scope,
    interval: Duration,
    /// `None` where the source tells of interfaces alone.
    observation: Option<Observation>,
    at: Moment,
    /// When the counters of the sample before were read.
    counted: Moment,
    /// Whether they are read from time to time, and not for each sample.
    coarse: bool,
    interfaces: InterfaceSnapshot,
    known: FxHashMap<ConnectionId, Known>,
    /// Those that ended lately, in the order of their ends.
    lingering: VecDeque<Measured>,
    samples: u64,
    /// When all connections were last asked for. `None` where something was lost since.
    all_at: Option<Moment>,
    /// The processor time that the last two samples took of this thread. The lesser counts: of quick samples one a minute
    /// asks for all.
    spent: [Duration; 2],
}

impl fmt::Debug for TopWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopWatch")
            .field("at", &self.at)
            .field("known", &self.known.len())
            .field("samples", &self.samples)
            .finish_non_exhaustive()
    }
}

impl TopWatch {
    pub(super) fn begin(source: Arc<dyn Source>, request: &TopRequest) -> Result<Self> {
        check_window(request.interval, LONGEST_WINDOW)?;
        let scope = Scope::new(&request.filter, &[], &*source, &Cancel::new())?;
        let observation = match source.observe() {
            Ok(observation) => Some(observation),
            Err(Error::NotInSource { .. }) => None,
            Err(error) => return Err(error),
        };
        let at = match &observation {
            Some(observation) => observation.from,
            None => source.start()?,
        };
        let interfaces = source.interfaces(&at)?;
        let mut watch = Self {
            source,
            scope,
            interval: request.interval,
            observation,
            at,
            counted: at,
            coarse: false,
            interfaces,
            known: FxHashMap::default(),
            lingering: VecDeque::new(),
            samples: 0,
            all_at: None,
            spent: [Duration::ZERO; 2],
        };
        watch.look(&Span { from: at, to: at })?;
        Ok(watch)
    }

    /// Where the facts come from.
    pub fn source(&self) -> SourceDescription {
        self.source.describe()
    }

    /// Waits until the interval has passed since the sample before, and takes the next.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::RecordingEnded`] after a recording's last sample; as [`Source::connections`]. The
    /// watch can be asked again after each.
    pub fn next_interval(&mut self, control: &Control<'_>) -> Result<TopInterval> {
        let is_recording = self.source.describe().kind == *"replay";
        let spent = self.spent[0].min(self.spent[1]);
        let pace = if is_recording { self.interval } else { self.interval.max(spent * CPU_SHARE) };
        let at = self.source.wait(&self.at, pace, control)?;
        let before = cpu_time();
        let interval = self.sample(at, pace);
        self.spent = [cpu_time().saturating_sub(before), self.spent[0]];
        interval
    }

    fn sample(&mut self, at: Moment, pace: Duration) -> Result<TopInterval> {
        let interfaces = self.source.interfaces(&at)?;
        let span = Span { from: self.at, to: at };
        let (measured, observed) = self.look(&span)?;
        let before = std::mem::replace(&mut self.interfaces, interfaces);
        self.at = at;

        let mut warnings = Vec::new();
        if pace > self.interval {
            let every = Duration::from_millis(u64::try_from(pace.as_millis()).unwrap_or(u64::MAX));
            warnings.push(format!(
                "a sample is taken every {}, since reading so many connections takes its part of a core",
                units::seconds(every),
            ));
        }
        if self.observation.is_none() {
            warnings.push("this source tells of interfaces alone, not of connections".to_owned());
        } else if self.coarse {
            warnings.push(
                "the recording holds the counters of open connections from time to time; rates stand until the next"
                    .to_owned(),
            );
        }
        let header =
            observe::header(self.source.describe(), &Watched::again(span, warnings), observed, false);
        let interfaces = self.interfaces.interfaces.iter();
        Ok(TopInterval {
            header,
            at,
            interfaces: interfaces
                .filter_map(|fact| TopInterface::between(&before, &self.interfaces, fact))
                .collect(),
            connections: measured,
        })
    }

    /// Reads all connections and compares them with what is known.
    fn look(&mut self, span: &Span) -> Result<(Vec<Measured>, Observed)> {
        if self.observation.is_none() {
            return Ok((Vec::new(), Observed::default()));
        }
        let first = self.samples == 0;
        self.samples += 1;
        let counted = self.source.counted(&span.to)?;
        let fresh = first || counted.boot_ns > self.counted.boot_ns;
        let mut measured = Vec::with_capacity(self.known.len());
        let (known, samples, scope) = (&mut self.known, self.samples, &self.scope);
        let visit = &mut |sighting: Sighting<'_>| {
            if scope.takes(sighting.fact) {
                measured.extend(measured::measure(known, sighting.fact, span, &counted, fresh, samples));
            }
        };
        // What a filter takes may change with time alone.
        let all = !scope.filter.is_everything()
            || self.all_at.is_none_or(|all_at| span.to.since(&all_at) >= ALL_EVERY);
        let active = match all {
            true => None,
            false => self.source.active_connections(span, &scope.filter, visit)?,
        };
        let observed = match active {
            Some(observed) => {
                let left_out =
                    self.known.values_mut().filter(|known| known.sample != samples && !known.is_over());
                measured.extend(left_out.map(|known| known.quiet(&counted, samples)));
                observed
            }
            None => {
                let observed = self.source.connections(span, &scope.filter, visit)?;
                self.all_at = Some(span.to);
                observed
            }
        };
        if observed.lost_events > 0 {
            self.all_at = None;
        }
        self.counted = counted;
        self.coarse |= counted.boot_ns < span.to.boot_ns;
        // One that was not seen again has ended; one that ended may be told of in two spans that touch.
        self.known
            .retain(|_, known| known.sample == samples || known.is_over() && known.sample + 1 == samples);
        if first {
            return Ok((Vec::new(), observed));
        }

        let oldest = span.to.boot_ns.saturating_sub(u64::try_from(LINGER.as_nanos()).unwrap_or(u64::MAX));
        let ended: Vec<Measured> = measured.iter().filter(|one| one.ended).map(Measured::as_past).collect();
        measured.extend(self.lingering.iter().filter(|past| past.ended_ns() > oldest).cloned());
        self.lingering.extend(ended);
        let excess = self.lingering.len().saturating_sub(MOST_LINGERING);
        self.lingering.drain(..excess);
        self.lingering.retain(|past| past.ended_ns() > oldest);
        Ok((measured, observed))
    }
}

/// What went on between two samples.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopInterval {
    /// Host, window and coverage.
    pub header: Header,
    at: Moment,
    connections: Vec<Measured>,
    interfaces: Vec<TopInterface>,
}

/// An interface in an interval.
#[derive(Debug, Clone)]
pub(super) struct TopInterface {
    pub(super) fact: InterfaceFact,
    pub(super) incoming: Rate,
    pub(super) outgoing: Rate,
}

impl TopInterface {
    fn between(before: &InterfaceSnapshot, after: &InterfaceSnapshot, fact: &InterfaceFact) -> Option<Self> {
        let mut rates = link_rates(before, after, fact.index).into_iter();
        Some(Self { fact: fact.clone(), incoming: rates.next()?, outgoing: rates.next()? })
    }
}

/// What a line is about, the same in every interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TopKey {
    /// A process, by its number and its start in nanoseconds since boot; 0 where that is not known.
    Process {
        /// Its number.
        pid: u32,
        /// Its start.
        started_ns: u64,
    },
    /// All connections of which the process is not known.
    UnknownProcess,
    /// A connection.
    Connection(ConnectionId),
    /// All outbound connections to one address and port.
    Destination {
        /// The protocol.
        protocol: Protocol,
        /// The address and port.
        remote: std::net::SocketAddr,
    },
    /// An interface, by its index.
    Interface(u32),
}

/// The sums over all connections of an interval that match a filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct TopTotals {
    /// What they come to.
    #[serde(flatten)]
    pub load: TopLoad,
    /// How many processes they have.
    pub processes: u64,
}
