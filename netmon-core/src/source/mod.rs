//! Where facts come from: the one seam between observing and answering.

mod choice;
#[cfg_attr(not(feature = "bpf"), allow(dead_code, reason = "a recording needs no room in a table"))]
mod drop_history;
pub mod live;
mod question;
mod recorder;
pub mod recording;
#[cfg(feature = "remote")]
pub mod remote;
pub mod replay;
mod scoped;

use std::{any::Any, fmt, time::Duration};

pub use choice::SourceChoice;
pub use question::{Evaluated, Question};
pub use recorder::{Recorded, Recorder};
pub use scoped::ScopedSource;
use serde::{Deserialize, Serialize};

use crate::{
    answer::MissingHook,
    clean::CleanText,
    control::{Cancel, Control},
    error::{Error, Result},
    fact::{
        ConnectionFact, ConnectionTotals, Direction, DropCounts, DropFact, Hook, HookStatus,
        InterfaceSnapshot, Leftover, Moment, Observed, ProtocolSnapshot, SocketSnapshot, Traffic,
    },
    filter::Filter,
    request::HookChoice,
};

/// A source of facts. Everything that netmon answers is computed from these, so whoever implements it (a recording, a
/// simulator, another machine) has every answer.
///
/// Methods block and may be called from several threads at once. A source keeps no state of its callers: where in time a
/// question is asked is a [`Moment`] that the caller holds.
pub trait Source: Send + Sync {
    /// What this source is and which host it tells of. Cheap.
    fn describe(&self) -> SourceDescription;

    /// The moment from which a measurement can start: now, or a recording's first.
    ///
    /// # Errors
    /// None that a caller could mend.
    fn start(&self) -> Result<Moment>;

    /// Waits until `window` has passed since `from`, and returns the moment at which the next facts can be had. A recording
    /// skips instead of sleeping; where it ends earlier, the moment returned is its last.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::RecordingEnded`] where
    /// nothing comes after `from`.
    fn wait(&self, from: &Moment, window: Duration, control: &Control<'_>) -> Result<Moment>;

    /// All interfaces with their counters, at a moment that this source returned. A live source tells how they are now,
    /// whatever moment is asked for.
    ///
    /// # Errors
    /// [`Error::Kernel`]; [`Error::NotInSource`] where there are none to tell of.
    fn interfaces(&self, at: &Moment) -> Result<InterfaceSnapshot> {
        let _ = at;
        Err(self.without("interfaces"))
    }

    /// Counts an interface by protocol while the returned guard lives; its counters appear as
    /// [`InterfaceFact::hooks`](crate::fact::InterfaceFact::hooks). Attachments are shared between callers.
    ///
    /// With [`HookChoice::Auto`] nothing is an error: what cannot be counted is in [`Counting::missing`].
    ///
    /// # Errors
    /// [`Error::HookUnavailable`] for a hook that was asked for by name; [`Error::NotInSource`] where there are no
    /// interfaces.
    fn count(
        &self,
        interface: InterfaceRef<'_>,
        directions: &[Direction],
        choice: HookChoice,
    ) -> Result<Counting> {
        let _ = (interface, directions, choice);
        Err(self.without("interfaces"))
    }

    /// Which hooks can be used here, each tried for real; for a recording, those that it was made with; none for
    /// a source without hooks. A live source takes a fifth of a second to try them, and believes what it found for a minute.
    ///
    /// # Errors
    /// None that a caller could mend.
    fn hooks(&self) -> Result<Vec<HookStatus>> {
        Ok(Vec::new())
    }

    /// Observes connections while the returned guard lives, so that what ends in that time is remembered. Callers share
    /// what is attached. A recording was observed long ago.
    ///
    /// Nothing that is missing is an error: [`Source::connections`] says what could not be observed.
    ///
    /// # Errors
    /// [`Error::NotInSource`] where there are no connections to tell of.
    fn observe(&self) -> Result<Observation> {
        Err(self.without("connections"))
    }

    /// The time that was already observed, at most the last `since` of it, up to now or to the end of a recording; for
    /// `None` what is of use: the last minute of a live source, all of a recording. `None` where nobody observed yet, so that a caller has to [observe](Source::observe) and
    /// [wait](Source::wait).
    ///
    /// It may begin somewhat earlier than asked for: where counters were read, so that differences are exact.
    ///
    /// # Errors
    /// As [`Source::observe`].
    fn observed(&self, since: Option<Duration>) -> Result<Option<Span>> {
        let _ = since;
        Err(self.without("connections"))
    }

    /// Tells of every connection that matches the filter and was open at some time within the span, each once: those that
    /// ended in it in the order of their ends, then those that are open at its end, with their counters then. Listeners
    /// are not connections. About 1 us for each open socket of the host.
    ///
    /// # Errors
    /// As [`Source::observe`]; [`Error::Kernel`].
    fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        let _ = (span, filter, visit);
        Err(self.without("connections"))
    }

    /// As [`Source::connections`], for a caller who remembers what was told of a span that ended where this one begins: it
    /// may leave out connections that are open at the end and on which nothing came or went within the span, since their
    /// counters are as they were then. Ends are told as ever. What such a connection may have got meanwhile without any
    /// traffic, another owner or an end of which the record was lost, is told when all are asked for again.
    ///
    /// `None`, and nothing is told, where this would be no cheaper than to ask for all. About a third of what a connection
    /// that is told takes for each that is left out.
    ///
    /// # Errors
    /// As [`Source::connections`].
    fn active_connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Option<Observed>> {
        let _ = (span, filter, visit);
        Ok(None)
    }

    /// When the counters of open connections were last read that [`Source::connections`] tells of at this moment. A live
    /// source reads them when it is asked; a recording holds them from time to time.
    ///
    /// # Errors
    /// None that a caller could mend.
    fn counted(&self, at: &Moment) -> Result<Moment> {
        Ok(*at)
    }

    /// Sums over all connections that ended since somebody observes; zero where nobody does. Cheap.
    ///
    /// # Errors
    /// As [`Source::observe`].
    fn totals(&self) -> Result<ConnectionTotals> {
        Err(self.without("connections"))
    }

    /// All sockets with their owners, listeners included, at a moment that this source returned. A live source tells how
    /// they are now, whatever moment is asked for.
    ///
    /// # Errors
    /// As [`Source::connections`].
    fn sockets(&self, at: &Moment) -> Result<SocketSnapshot> {
        let _ = at;
        Err(self.without("sockets"))
    }

    /// The counters and limits of the observed network namespace's protocols, as they were last read at or before a moment
    /// that this source returned; where nobody read them by then, the first after it: so [`ProtocolSnapshot::at`] says when.
    /// Who observes reads them whenever it reads the counters of connections, so that the beginning of a
    /// [span](Source::observed) is such a moment; after its last reading a live source tells how they are now.
    ///
    /// # Errors
    /// [`Error::NotInSource`] where there are none; [`Error::Kernel`].
    fn protocol_counters(&self, at: &Moment) -> Result<ProtocolSnapshot> {
        let _ = at;
        Err(self.without("protocol counters"))
    }

    /// The connections that opened, were established, failed or ended after a cursor, in order; waits up to `patience`
    /// for the first. Between an [observation](Source::observe)'s cursor and its end nothing is left out without being
    /// counted in [`Changes::missed`].
    ///
    /// # Errors
    /// As [`Source::connections`]; [`Error::Cancelled`];
    /// [`Error::RecordingEnded`] after a recording's last change.
    fn changes(&self, after: ChangeCursor, patience: Duration, cancel: &Cancel) -> Result<Changes> {
        let _ = (after, patience, cancel);
        Err(self.without("connections"))
    }

    /// Counts dropped packets while the returned guard lives, with their owners: connections are
    /// [observed](Source::observe) too. Callers share what is attached. Its cursor is of no use.
    ///
    /// # Errors
    /// [`Error::HookMissing`] where they cannot be counted; [`Error::NotInSource`] where there are none to tell of.
    fn observe_drops(&self) -> Result<Observation> {
        Err(self.without("packet drops"))
    }

    /// Observes connections and dropped packets, which [`Monitor::diagnose`](crate::Monitor::diagnose) looks at, while the
    /// returned guards live. Packets that cannot be counted are no reason not to observe connections.
    ///
    /// # Errors
    /// As [`Source::observe`].
    fn observe_all(&self) -> Result<Observations> {
        // First, as counting drops has the same programs attached.
        let connections = self.observe()?;
        Ok(Observations { connections, drops: self.observe_drops() })
    }

    /// The time in which dropped packets were counted; otherwise as [`Source::observed`].
    ///
    /// # Errors
    /// As [`Source::observe_drops`].
    fn observed_drops(&self, since: Option<Duration>) -> Result<Option<Span>> {
        let _ = since;
        Err(self.without("packet drops"))
    }

    /// Tells of every kind of dropped packets that matches the filter, in no order, with its counts at the end of the span
    /// and at its beginning. [`Observed::lost_events`] are packets that are in no count.
    ///
    /// # Errors
    /// As [`Source::observe_drops`]; [`Error::Kernel`].
    fn drops(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(DropSighting<'_>),
    ) -> Result<Observed> {
        let _ = (span, filter, visit);
        Err(self.without("packet drops"))
    }

    /// Refuses a filter that demands what the reader of this source may not see. To others the answer is what is left.
    ///
    /// # Errors
    /// [`Error::Forbidden`].
    fn permit(&self, filter: &Filter) -> Result<()> {
        let _ = filter;
        Ok(())
    }

    /// Answers a whole question where the facts are, by what [`Monitor`](crate::Monitor) would do with them here; so a
    /// summary of a million connections crosses a network as a summary. `None` where the facts are here.
    ///
    /// # Errors
    /// As the method of [`Monitor`](crate::Monitor) for this question.
    fn evaluate(&self, question: Question<'_>, control: &Control<'_>) -> Result<Option<Evaluated>> {
        let _ = (question, control);
        Ok(None)
    }

    /// The error of a question that this source cannot answer at all.
    fn without(&self, what: &'static str) -> Error {
        Error::NotInSource { kind: self.describe().kind, what }
    }

    /// What killed processes left attached. Needs no privilege; empty where nothing was found.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    fn leftovers(&self) -> Result<Vec<Leftover>> {
        Ok(Vec::new())
    }
}

/// What a source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceDescription {
    /// `live`, `replay`, or what a source of your own calls itself.
    pub kind: CleanText,
    /// The name of the host that its facts are about.
    pub host: CleanText,
    /// The release of that host's kernel, such as `6.12.9`.
    pub kernel: CleanText,
    /// The process that observes, whose own connections answers leave out unless asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer_pid: Option<u32>,
    /// What the reader of every answer should know of this source.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl SourceDescription {
    /// A source of this kind, about this host.
    pub fn new(kind: impl Into<CleanText>, host: impl Into<CleanText>, kernel: impl Into<CleanText>) -> Self {
        Self {
            kind: kind.into(),
            host: host.into(),
            kernel: kernel.into(),
            observer_pid: None,
            warnings: Vec::new(),
        }
    }
}

/// A stretch of time on the host's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its start, excluded.
    pub from: Moment,
    /// Its end, included.
    pub to: Moment,
}

/// A connection, as it was seen in a span.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// The connection, with its counters since it began.
    pub fact: &'a ConnectionFact,
    /// Its counters when the span began. `None` where it began later, or where nobody read them then.
    pub before: Option<Traffic>,
}

impl Sighting<'_> {
    /// What went over it within the span. `None` where that is not known: its counters are not, or not those at the
    /// beginning of the span.
    pub fn traffic_within(&self, span: &Span) -> Option<Traffic> {
        let total = self.fact.traffic?;
        match (self.before, self.fact.opened) {
            (Some(before), _) => Some(total.since(&before)),
            (None, Some(opened)) if opened.ns() > span.from.boot_ns => Some(total),
            (None, _) => None,
        }
    }
}

/// A kind of dropped packets, as it was seen in a span.
#[derive(Debug, Clone, Copy)]
pub struct DropSighting<'a> {
    /// The drops, with their counts since somebody counts them.
    pub fact: &'a DropFact,
    /// The counts when the span began.
    pub before: DropCounts,
}

impl DropSighting<'_> {
    /// How many there were within the span.
    pub fn within(&self) -> DropCounts {
        self.fact.counts.since(&self.before)
    }
}

/// The guard of an observation: what is attached stays so while it lives.
#[must_use = "nothing is observed when the guard is dropped"]
pub struct Observation {
    /// From when on nothing is missed.
    pub from: Moment,
    /// The place after which its first change comes.
    pub cursor: ChangeCursor,
    /// Whatever the source needs to hold.
    pub guard: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observation")
            .field("from", &self.from)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

/// The guards of all that can be observed.
#[derive(Debug)]
#[must_use = "nothing is observed when the guards are dropped"]
pub struct Observations {
    /// Of connections.
    pub connections: Observation,
    /// Of dropped packets, or why they are not counted.
    pub drops: Result<Observation>,
}

/// A place in a source's sequence of changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeCursor(pub u64);

/// Some changes of connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// Each connection as it was after a change; empty where none came in time.
    pub connections: Vec<ConnectionFact>,
    /// Where to go on.
    pub next: ChangeCursor,
    /// Changes after the cursor that are no longer, or never were, to be had: forgotten, or lost on their way.
    pub missed: u64,
    /// When these were all.
    pub at: Moment,
}

/// An interface to count on.
#[derive(Debug, Clone, Copy)]
pub struct InterfaceRef<'a> {
    /// Its index.
    pub index: u32,
    /// Its name, for messages.
    pub name: &'a CleanText,
    /// Whether its frames start with an Ethernet header.
    pub ethernet: bool,
}

/// The guard of a counting: hooks stay attached while it lives.
#[derive(Default)]
#[must_use = "hooks are detached when the guard is dropped"]
pub struct Counting {
    /// The hook that counts, for each direction that is counted.
    pub active: Vec<(Direction, Hook)>,
    /// What could not be attached.
    pub missing: Vec<MissingHook>,
    /// What the caller should know of what was attached.
    pub warnings: Vec<String>,
    /// Whatever the source needs to hold.
    pub guards: Vec<Box<dyn Any + Send + Sync>>,
}

impl Counting {
    /// The hook that counts this direction.
    pub fn hook(&self, direction: Direction) -> Option<Hook> {
        self.active.iter().find(|(way, _)| *way == direction).map(|(_, hook)| *hook)
    }
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counting")
            .field("active", &self.active)
            .field("missing", &self.missing)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}
