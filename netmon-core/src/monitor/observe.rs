//! The time that an answer about connections is about, and what its header says of that.

use std::{cell::Cell, time::Duration};

use crate::{
    answer::{Coverage, Header, Window},
    clean::CleanText,
    control::{Cancel, Control},
    error::{Error, Result},
    fact::{ConnectionFact, ConnectionState, Moment, Observed, Process},
    filter::Filter,
    request::ConnectionFilter,
    source::{Observation, Source, SourceDescription, Span},
    view::units,
};

/// A span that was observed, and the guard that keeps what is needed to tell of it.
pub(super) struct Watched {
    pub(super) span: Span,
    /// Whether it is a moment, of which only what is open then can be told.
    pub(super) only_open: bool,
    /// What the reader should know of this span.
    pub(super) warnings: Vec<String>,
    observation: Option<Observation>,
}

impl Watched {
    /// A span that an earlier answer was about.
    pub(super) fn again(span: Span, warnings: Vec<String>) -> Self {
        let only_open = span.from.boot_ns == span.to.boot_ns;
        Self { span, only_open, warnings, observation: None }
    }

    /// Whether it was observed for this answer alone.
    pub(super) fn has_own_observation(&self) -> bool {
        self.observation.is_some()
    }

    /// How long it really was.
    pub(super) fn length(&self) -> Duration {
        self.span.to.since(&self.span.from)
    }
}

/// The time that was recorded already, else the window, which is waited for; for a window of 0 without a past, now.
pub(super) fn watch(
    source: &dyn Source,
    since: Option<Duration>,
    window: Duration,
    control: &Control<'_>,
) -> Result<Watched> {
    if since.is_none() && window.is_zero() {
        return Ok(Watched::again(at_once(now(source)?), Vec::new()));
    }
    watch_by(source, since, window, control, (source.observed(since)?, &|| source.observe()))
}

/// The same of dropped packets.
pub(super) fn watch_drops(
    source: &dyn Source,
    since: Option<Duration>,
    window: Duration,
    control: &Control<'_>,
) -> Result<Watched> {
    watch_by(source, since, window, control, (source.observed_drops(since)?, &|| source.observe_drops()))
}

/// Connections, and dropped packets beside them: where this has to be observed first, what counts those, or why nothing
/// does.
pub(super) fn watch_with_drops(
    source: &dyn Source,
    since: Option<Duration>,
    window: Duration,
    control: &Control<'_>,
) -> Result<(Watched, Option<Result<Observation>>)> {
    let counting = Cell::new(None);
    let observe = || {
        let all = source.observe_all()?;
        counting.set(Some(all.drops));
        Ok(all.connections)
    };
    let watched = watch_by(source, since, window, control, (source.observed(since)?, &observe))?;
    Ok((watched, counting.into_inner()))
}

/// What was observed, or how to observe.
type Observing<'a> = (Option<Span>, &'a dyn Fn() -> Result<Observation>);

fn watch_by(
    source: &dyn Source,
    since: Option<Duration>,
    window: Duration,
    control: &Control<'_>,
    (observed, observe): Observing<'_>,
) -> Result<Watched> {
    if let Some(span) = observed {
        return Ok(Watched {
            span,
            only_open: false,
            warnings: shorter_than_asked(&span, since).into_iter().collect(),
            observation: None,
        });
    }
    let without_past = |what: String| {
        since.map(|since| {
            format!(
                "asked for the last {}; {what}, since nothing was recording before; start netmond, or write a recording \
                 and ask that",
                units::seconds(since),
            )
        })
    };
    if window.is_zero() {
        let warning = without_past("these are open now".to_owned());
        return Ok(Watched::again(at_once(now(source)?), warning.into_iter().collect()));
    }
    let observation = observe()?;
    let from = observation.from;
    let to = source.wait(&from, window, control)?;
    let length = to.since(&from);
    let mut warnings: Vec<String> =
        without_past(format!("observed {}", units::seconds(whole_ms(length)))).into_iter().collect();
    if is_shorter(length, window) {
        warnings.push(format!(
            "{} were to be observed, but the source ends after {}",
            units::seconds(window),
            units::seconds(whole_ms(length)),
        ));
    }
    Ok(Watched { span: Span { from, to }, only_open: false, warnings, observation: Some(observation) })
}

/// What to say of a recorded span that is shorter than was asked for.
pub(super) fn shorter_than_asked(span: &Span, since: Option<Duration>) -> Option<String> {
    let length = span.to.since(&span.from);
    since.filter(|since| is_shorter(length, *since)).map(|since| {
        format!(
            "asked for the last {}; only the last {} were recorded",
            units::seconds(since),
            units::seconds(whole_ms(length)),
        )
    })
}

/// Clocks and samples are some milliseconds off, which is no news.
fn is_shorter(length: Duration, asked: Duration) -> bool {
    length.as_secs_f64() < asked.as_secs_f64() * 0.99
}

fn whole_ms(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn at_once(at: Moment) -> Span {
    Span { from: at, to: at }
}

/// The last moment that the source can tell of.
pub(super) fn now(source: &dyn Source) -> Result<Moment> {
    match source.observed(None) {
        Ok(Some(span)) => Ok(span.to),
        // A source may have sockets and no connections.
        Ok(None) | Err(Error::NotInSource { .. }) => source.start(),
        Err(error) => Err(error),
    }
}

/// Which connections an answer is about.
pub(super) struct Scope {
    pub(super) filter: Filter,
    /// Empty for all.
    states: Vec<ConnectionState>,
    own_pid: Option<u32>,
}

impl Scope {
    pub(super) fn new(
        filter: &ConnectionFilter,
        states: &[ConnectionState],
        source: &dyn Source,
        cancel: &Cancel,
    ) -> Result<Self> {
        let own_pid = source.describe().observer_pid.filter(|_| !filter.include_own);
        let filter = filter.compile_until(cancel)?;
        source.permit(&filter)?;
        Ok(Self { filter, states: states.to_vec(), own_pid })
    }

    /// Whether a connection that matches the filter belongs to the answer.
    pub(super) fn takes(&self, fact: &ConnectionFact) -> bool {
        !self.is_own(fact.process.as_deref()) && (self.states.is_empty() || self.states.contains(&fact.state))
    }

    /// Whether it is the observer, whose own are left out.
    pub(super) fn is_own(&self, process: Option<&Process>) -> bool {
        self.own_pid.is_some() && process.map(|process| process.pid) == self.own_pid
    }

    pub(super) fn asks_for(&self, state: ConnectionState) -> bool {
        self.states.contains(&state)
    }

    /// Whether nothing but listeners was asked for.
    pub(super) fn only_listeners(&self) -> bool {
        !self.states.is_empty() && self.states.iter().all(|state| *state == ConnectionState::Listening)
    }
}

/// What an answer about connections starts with.
pub(super) fn header(
    description: SourceDescription,
    watched: &Watched,
    observed: Observed,
    truncated: bool,
) -> Header {
    let mut warnings = description.warnings;
    warnings.extend(watched.warnings.iter().cloned());
    header_of(description.host, description.kind, &watched.span, observed, warnings, truncated)
}

/// The header of an answer about this span.
pub(super) fn header_of(
    host: CleanText,
    source: CleanText,
    span: &Span,
    observed: Observed,
    mut warnings: Vec<String>,
    truncated: bool,
) -> Header {
    warnings.extend(observed.warnings);
    if observed.forgotten > 0 {
        warnings.push(format!(
            "{} ended in this time and were forgotten since, because the recorder was full",
            units::counted(observed.forgotten, "connection"),
        ));
    }
    let coverage = Coverage {
        source,
        active_hooks: observed.active_hooks,
        missing_hooks: observed.missing_hooks,
        lost_events: observed.lost_events,
        truncated,
        warnings,
    };
    Header::new(host, Window::between(&span.from, &span.to), coverage)
}
