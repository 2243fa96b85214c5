//! Answers: computed from the facts of a [`Source`], here and nowhere else.

mod capabilities;
mod connection;
mod connections;
pub mod diagnose;
mod diff;
mod drops;
#[cfg(feature = "ai")]
mod insights;
mod interfaces;
mod observe;
mod page;
pub mod patterns;
mod rates;
mod record;
mod run;
mod sockets;
mod summary;
pub mod top;

use std::{path::Path, sync::Arc, time::Duration};

pub use capabilities::{CapabilitiesAnswer, Feature, FeatureStatus};
pub use connection::{
    BothWays, Connection, ConnectionFailure, ConnectionProcess, ConnectionTcp, Endpoint, RemoteEndpoint,
    SelectedFields,
};
pub use connections::{
    AttributionCounts, ConnectionWatch, ConnectionsAnswer, SelectedConnections, StateCounts,
};
pub use diagnose::Diagnosis;
pub use diff::{
    Amount, Destinations, DiffAnswer, DiffSide, DiffThresholds, Difference, DifferenceCount, DifferenceKind,
};
pub use drops::{PacketDrop, PacketDrops, ReasonDrops};
#[cfg(feature = "ai")]
pub use insights::InsightsAnswer;
pub use interfaces::{Interface, InterfacesAnswer};
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use page::read_any_cursor;
pub use patterns::PatternsAnswer;
pub use rates::{
    HookTotals, InterfaceChange, ProtocolRate, Rate, RateWatch, RatesAnswer, SelectedBy, Selection,
};
pub(crate) use rates::{choose, count_all};
pub use record::RecordAnswer;
pub use run::{ConnectLatency, Exit, FailOn, Membership, MembershipKind, RunAnswer, RunProfile, RunWatch};
pub use sockets::{Backlog, Listener, ListenersAnswer, Socket, SocketsAnswer};
pub use summary::{
    BytesPerSecond, DestinationSummary, ErrorExample, ErrorSummary, LISTED, OtherSummary, ProcessSummary,
    SummaryAnswer,
};
pub use top::TopWatch;

use crate::{
    control::{Cancel, Control},
    error::Result,
    request::{
        ConnectionsRequest, DiagnoseRequest, DiffRequest, Directions, DropsRequest, PatternsRequest,
        RateRequest, RunRequest, SocketsRequest, SummaryRequest, TopRequest,
    },
    source::{
        Evaluated, Question, Source,
        live::LiveSource,
        recording::{self, RecordRequest},
        replay::ReplaySource,
    },
};

/// Answers questions about a host's network from a [`Source`].
///
/// Methods block for the time they measure and may be called from several threads at once; clones share the source.
/// Without a [`Control`] a measurement cannot be ended early.
#[derive(Clone)]
pub struct Monitor {
    source: Arc<dyn Source>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("source", &self.source.describe()).finish()
    }
}

impl Monitor {
    /// Answers from a source of your own.
    pub fn new(source: impl Source + 'static) -> Self {
        Self { source: Arc::new(source) }
    }

    /// Answers from a source that others use too.
    pub fn shared(source: Arc<dyn Source>) -> Self {
        Self { source }
    }

    /// Answers from this host, now. Needs no privilege for what the kernel tells everybody; see [`LiveSource`].
    ///
    /// # Errors
    /// [`Error::Kernel`](crate::Error::Kernel) where rtnetlink cannot be used.
    pub fn live() -> Result<Self> {
        Ok(Self::new(LiveSource::open()?))
    }

    /// Answers from a recording.
    ///
    /// # Errors
    /// As [`ReplaySource::open`].
    pub fn replay(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::new(ReplaySource::open(path)?))
    }

    /// Where the facts come from.
    pub fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// The packets that an interface receives a second, over `window` (0.1 s to 1 h). `None` chooses the interface of the
    /// default route, else the busiest that is up; the answer says which and why.
    ///
    /// Totals are the kernel's own counters; packets by protocol and on the wire come from BPF where that is permitted,
    /// and are in the answer's `missing_hooks` where not.
    ///
    /// # Errors
    /// [`Error::UnknownInterface`](crate::Error::UnknownInterface),
    /// [`Error::WindowOutOfRange`](crate::Error::WindowOutOfRange),
    /// [`Error::InterfaceGone`](crate::Error::InterfaceGone).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use netmon_core::Monitor;
    /// let monitor = Monitor::replay("recordings/demo.jsonl")?; // Monitor::live()? for this host
    /// let answer = monitor.incoming_pps(Some("eth0"), Duration::from_secs(5))?;
    /// println!("{answer}");
    /// assert_eq!(answer.rates[0].packets, 5_000);
    /// # Ok::<(), netmon_core::Error>(())
    /// ```
    pub fn incoming_pps(&self, interface: Option<&str>, window: Duration) -> Result<RatesAnswer> {
        self.pps(interface, window, Directions::Incoming)
    }

    /// The packets that an interface sends a second; otherwise as [`Monitor::incoming_pps`].
    ///
    /// # Errors
    /// As [`Monitor::incoming_pps`].
    pub fn outgoing_pps(&self, interface: Option<&str>, window: Duration) -> Result<RatesAnswer> {
        self.pps(interface, window, Directions::Outgoing)
    }

    fn pps(&self, interface: Option<&str>, window: Duration, direction: Directions) -> Result<RatesAnswer> {
        let interfaces = interface.map(str::to_owned).into_iter().collect();
        self.rates(
            &RateRequest { interfaces, direction, window, ..RateRequest::default() },
            &Control::default(),
        )
    }

    /// Packet and byte rates of interfaces, by protocol. Blocks for the window.
    ///
    /// # Errors
    /// As [`Monitor::incoming_pps`], and [`Error::Cancelled`](crate::Error::Cancelled),
    /// [`Error::HookUnavailable`](crate::Error::HookUnavailable) for a hook that was asked for by name.
    pub fn rates(&self, request: &RateRequest, control: &Control<'_>) -> Result<RatesAnswer> {
        self.watch_rates(request)?.next_window(control)
    }

    /// The same, window after window without a gap. Hooks stay attached while the returned watch lives.
    ///
    /// # Errors
    /// As [`Monitor::rates`].
    pub fn watch_rates(&self, request: &RateRequest) -> Result<RateWatch> {
        RateWatch::begin(Arc::clone(&self.source), request)
    }

    /// All interfaces with their state, addresses and counters, now; without rates. Blocks for less than a millisecond on
    /// an ordinary host.
    ///
    /// # Errors
    /// [`Error::Kernel`](crate::Error::Kernel).
    pub fn interfaces(&self) -> Result<InterfacesAnswer> {
        interfaces::now(&*self.source)
    }

    /// All interfaces with their rates over a window. Attaches nothing; blocks for the window.
    ///
    /// # Errors
    /// [`Error::WindowOutOfRange`](crate::Error::WindowOutOfRange), [`Error::Cancelled`](crate::Error::Cancelled),
    /// [`Error::Kernel`](crate::Error::Kernel).
    pub fn interfaces_over(&self, window: Duration, control: &Control<'_>) -> Result<InterfacesAnswer> {
        interfaces::over(&*self.source, window, control)
    }

    /// Where connections go, and what stands out in them: frequent failures, bursts, periodic connections, scans, and
    /// destinations that are new. Answers at once where somebody observed already, else blocks for the window.
    ///
    /// Facts are read once, in O(n log n): one to three seconds for a million connections.
    ///
    /// # Errors
    /// [`Error::NotInSource`](crate::Error::NotInSource), [`Error::Filter`](crate::Error::Filter),
    /// [`Error::WindowOutOfRange`](crate::Error::WindowOutOfRange), [`Error::Cancelled`](crate::Error::Cancelled),
    /// [`Error::Kernel`](crate::Error::Kernel).
    pub fn patterns(&self, request: &PatternsRequest, control: &Control<'_>) -> Result<PatternsAnswer> {
        match self.source.evaluate(Question::Patterns(request), control)? {
            Some(Evaluated::Patterns(answer)) => Ok(*answer),
            _ => patterns::patterns(&*self.source, request, control),
        }
    }

    /// What is wrong: findings with their numbers, the likely cause and the next step, and what was checked without a
    /// finding or could not be. The same facts have always the same findings. Answers at once where somebody observed
    /// already, else blocks for the window; about two to four seconds more for a million connections.
    ///
    /// Most rules look at the connections and sockets that the request asks for. Some look at counters of the whole network
    /// namespace, and are not judged where the request has a condition. Dropped packets are judged where somebody counted
    /// them already, or where this blocks, which counts them meanwhile.
    ///
    /// # Errors
    /// As [`Monitor::patterns`], and [`Error::InvalidRequest`](crate::Error::InvalidRequest) for a limit of 0.
    ///
    /// ```
    /// # use netmon_core::{Control, DiagnoseRequest, Monitor, monitor::diagnose::Rule};
    /// let monitor = Monitor::replay("recordings/demo.jsonl")?; // Monitor::live()? for this host
    /// let diagnosis = monitor.diagnose(&DiagnoseRequest::default(), &Control::default())?;
    /// for finding in &diagnosis.findings {
    ///     println!("{}: {} ({})", finding.severity, finding.title, finding.next_step);
    /// }
    /// assert!(diagnosis.finding(Rule::RefusedDestination).is_some());
    /// # Ok::<(), netmon_core::Error>(())
    /// ```
    pub fn diagnose(&self, request: &DiagnoseRequest, control: &Control<'_>) -> Result<Diagnosis> {
        match self.source.evaluate(Question::Diagnose(request), control)? {
            Some(Evaluated::Diagnosis(diagnosis)) => Ok(*diagnosis),
            _ => diagnose::diagnose(&*self.source, request, control),
        }
    }

    /// Connections that were open at some time in a window, with their owners, and why they failed.
    ///
    /// Answers at once where something recorded already (see [`Source::observed`]), about at most
    /// the last `since` of it; else observes for `window`, and says so where more was asked for. A window of 0 without
    /// `since` tells of what is open now. The observer's own connections are left out unless the filter includes them.
    ///
    /// Pages neither repeat nor skip a row where the rows do not change meanwhile: in a recording; elsewhere when sorted by
    /// `opened`, `process` or `remote`. Where nothing records, a second page knows only what is still open.
    ///
    /// # Errors
    /// [`Error::NotInSource`](crate::Error::NotInSource), [`Error::Filter`](crate::Error::Filter),
    /// [`Error::WindowOutOfRange`](crate::Error::WindowOutOfRange),
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest) for a limit of 0 or a cursor of another question,
    /// [`Error::Cancelled`](crate::Error::Cancelled), [`Error::Kernel`](crate::Error::Kernel).
    pub fn connections(
        &self,
        request: &ConnectionsRequest,
        control: &Control<'_>,
    ) -> Result<ConnectionsAnswer> {
        match self.source.evaluate(Question::Connections(request), control)? {
            Some(Evaluated::Connections(answer)) => Ok(*answer),
            _ => connections::connections(&*self.source, request, control),
        }
    }

    /// Changes of connections as they come, from now on; of the request the filter and the states count. Does not block,
    /// and has no thread: see [`ConnectionWatch::next`].
    ///
    /// # Errors
    /// [`Error::NotInSource`](crate::Error::NotInSource), [`Error::Filter`](crate::Error::Filter),
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest).
    pub fn watch_connections(&self, request: &ConnectionsRequest) -> Result<ConnectionWatch> {
        ConnectionWatch::begin(Arc::clone(&self.source), request)
    }

    /// What goes on, sample after sample, for a live view. Observes while the returned watch lives; see
    /// [`TopWatch::next_interval`].
    ///
    /// # Errors
    /// [`Error::WindowOutOfRange`](crate::Error::WindowOutOfRange), [`Error::Filter`](crate::Error::Filter),
    /// [`Error::Kernel`](crate::Error::Kernel).
    pub fn watch_top(&self, request: &TopRequest) -> Result<TopWatch> {
        TopWatch::begin(Arc::clone(&self.source), request)
    }

    /// What the connections of a window come to, by process, destination and error; about which time, as for
    /// [`Monitor::connections`].
    ///
    /// # Errors
    /// As [`Monitor::connections`].
    pub fn summary(&self, request: &SummaryRequest, control: &Control<'_>) -> Result<SummaryAnswer> {
        match self.source.evaluate(Question::Summary(request), control)? {
            Some(Evaluated::Summary(answer)) => Ok(*answer),
            _ => summary::summary(&*self.source, request, control),
        }
    }

    /// Observes a command that the caller starts by the returned watch: its connections, and those of all that it starts,
    /// however short they live and whoever their parent is by then. See [`RunWatch`] for the order of calls.
    ///
    /// Where this process may make control groups the command gets one of its own; elsewhere descent tells who belongs
    /// to it, and coverage says what that can miss.
    ///
    /// ```no_run
    /// # use std::process::Command;
    /// # use netmon_core::{Monitor, RunRequest};
    /// let monitor = Monitor::live()?;
    /// let mut watch = monitor.watch_run(&RunRequest::default())?;
    /// let mut child = watch.start(Command::new("curl").arg("https://example.com")).expect("curl");
    /// let status = child.wait().expect("its status");
    /// println!("{}", watch.finish(status)?);
    /// # Ok::<(), netmon_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest) for a recording, [`Error::Filter`](crate::Error::Filter),
    /// and as [`Monitor::connections`].
    pub fn watch_run(&self, request: &RunRequest) -> Result<RunWatch> {
        RunWatch::begin(Arc::clone(&self.source), request)
    }

    /// What differs between two times: the last `since` and as long before it, where something recorded; else the next
    /// `window` and the one after it, for which this blocks. New and gone destinations, listeners, processes and failures,
    /// and rates that changed by more than the request's thresholds.
    ///
    /// # Errors
    /// As [`Monitor::connections`]; [`Error::InvalidRequest`](crate::Error::InvalidRequest) where `since` is asked for and
    /// nothing was recorded before.
    ///
    /// ```
    /// # use netmon_core::{Control, DiffRequest, Monitor};
    /// let monitor = Monitor::replay("recordings/demo.jsonl")?;
    /// let mut request = DiffRequest::default();
    /// request.since = Some(std::time::Duration::from_secs(10));
    /// let answer = monitor.diff(&request, &Control::default())?;
    /// println!("{answer}");
    /// assert_eq!(answer.total as usize, answer.differences.len());
    /// # Ok::<(), netmon_core::Error>(())
    /// ```
    pub fn diff(&self, request: &DiffRequest, control: &Control<'_>) -> Result<DiffAnswer> {
        diff::of_one(&*self.source, request, control)
    }

    /// The same of two sources, such as two recordings: what this one tells, compared with what `before` does.
    ///
    /// # Errors
    /// As [`Monitor::connections`].
    pub fn diff_from(
        &self,
        before: &Self,
        request: &DiffRequest,
        control: &Control<'_>,
    ) -> Result<DiffAnswer> {
        diff::of_two(&*before.source, &*self.source, request, control)
    }

    /// All sockets of the Internet protocols now, with the processes that hold them.
    ///
    /// # Errors
    /// [`Error::NotInSource`](crate::Error::NotInSource), [`Error::Filter`](crate::Error::Filter),
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest) for a limit of 0, [`Error::Kernel`](crate::Error::Kernel).
    pub fn sockets(&self, request: &SocketsRequest) -> Result<SocketsAnswer> {
        self.sockets_with(request, &Control::default())
    }

    /// The same, which can be ended early.
    ///
    /// # Errors
    /// As [`Monitor::sockets`]; [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn sockets_with(&self, request: &SocketsRequest, control: &Control<'_>) -> Result<SocketsAnswer> {
        if let Some(Evaluated::Sockets(answer)) = self.source.evaluate(Question::Sockets(request), control)? {
            return Ok(*answer);
        }
        let (source, request, cancel) = self.for_another_thread(request, control);
        control.cancel.wait_for(move || sockets::sockets(&*source, &request, &cancel))
    }

    /// The sockets that wait for others to connect, and UDP sockets without a peer; whatever states the request names.
    ///
    /// # Errors
    /// As [`Monitor::sockets`].
    pub fn listeners(&self, request: &SocketsRequest) -> Result<ListenersAnswer> {
        self.listeners_with(request, &Control::default())
    }

    /// The same, which can be ended early.
    ///
    /// # Errors
    /// As [`Monitor::sockets_with`].
    pub fn listeners_with(&self, request: &SocketsRequest, control: &Control<'_>) -> Result<ListenersAnswer> {
        if let Some(Evaluated::Listeners(answer)) =
            self.source.evaluate(Question::Listeners(request), control)?
        {
            return Ok(*answer);
        }
        let (source, request, cancel) = self.for_another_thread(request, control);
        control.cancel.wait_for(move || sockets::listeners(&*source, &request, &cancel))
    }

    /// What cannot be interrupted needs, so that it can be left alone.
    fn for_another_thread<R: Clone>(
        &self,
        request: &R,
        control: &Control<'_>,
    ) -> (Arc<dyn Source>, R, Cancel) {
        (Arc::clone(&self.source), request.clone(), control.cancel.clone())
    }

    /// What the findings of [`Monitor::diagnose`] mean, in words: those of a model, where one is given, and what went wrong
    /// with that where it did. Without one nothing leaves the host, and the answer is the findings.
    ///
    /// A model is sent numbers, ports, protocols and errors; addresses and names are replaced before and put back after,
    /// unless its `redact` is off. Arguments of processes are never sent. It may take a minute; progress covers that.
    ///
    /// # Errors
    /// As [`Monitor::diagnose`]; [`Error::InvalidRequest`](crate::Error::InvalidRequest) for a text that is too long.
    #[cfg(feature = "ai")]
    pub fn insights(
        &self,
        request: &crate::request::InsightsRequest,
        model: Option<&crate::model::Model>,
        control: &Control<'_>,
    ) -> Result<InsightsAnswer> {
        insights::insights(self, request, model, control)
    }

    /// The packets that the kernel dropped in a window, by reason, owner and port; about which time, as for
    /// [`Monitor::connections`]. Drops can be chosen by what they are summed up by, and so not by the other side.
    ///
    /// # Errors
    /// [`Error::HookMissing`](crate::Error::HookMissing) where they cannot be counted;
    /// [`Error::NotInSource`](crate::Error::NotInSource), [`Error::Filter`](crate::Error::Filter),
    /// [`Error::WindowOutOfRange`](crate::Error::WindowOutOfRange),
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest), [`Error::Cancelled`](crate::Error::Cancelled),
    /// [`Error::Kernel`](crate::Error::Kernel).
    ///
    /// ```
    /// # use netmon_core::{Control, DropsRequest, Monitor};
    /// let monitor = Monitor::replay("recordings/demo.jsonl")?; // Monitor::live()? for this host
    /// let answer = monitor.drops(&DropsRequest::default(), &Control::default())?;
    /// println!("{answer}");
    /// assert_eq!(answer.by_reason[0].reason.as_ref().map(|reason| reason.as_str()), Some("NO_SOCKET"));
    /// # Ok::<(), netmon_core::Error>(())
    /// ```
    pub fn drops(&self, request: &DropsRequest, control: &Control<'_>) -> Result<PacketDrops> {
        match self.source.evaluate(Question::Drops(request), control)? {
            Some(Evaluated::Drops(answer)) => Ok(*answer),
            _ => drops::drops(&*self.source, request, control),
        }
    }

    /// What works on this kernel with these privileges, what does not, and what would fix it. Every hook is tried for
    /// real, without attaching it; a few ms, more with hundreds of interfaces.
    ///
    /// # Errors
    /// [`Error::Kernel`](crate::Error::Kernel).
    pub fn capabilities(&self) -> Result<CapabilitiesAnswer> {
        self.capabilities_with(&Control::default())
    }

    /// The same, which can be ended early.
    ///
    /// # Errors
    /// As [`Monitor::capabilities`]; [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn capabilities_with(&self, control: &Control<'_>) -> Result<CapabilitiesAnswer> {
        if let Some(Evaluated::Capabilities(answer)) =
            self.source.evaluate(Question::Capabilities, control)?
        {
            return Ok(*answer);
        }
        let source = Arc::clone(&self.source);
        control.cancel.wait_for(move || capabilities::capabilities(&*source))
    }

    /// Writes what this source tells to a file, from which [`Monitor::replay`] answers later. Ends after the duration or
    /// when cancelled; both are a success.
    ///
    /// # Errors
    /// [`Error::Recording`](crate::Error::Recording) for a file that exists or cannot be written; as [`Monitor::rates`].
    pub fn record(&self, request: &RecordRequest, control: &Control<'_>) -> Result<RecordAnswer> {
        recording::record(&*self.source, request, control)
    }
}
