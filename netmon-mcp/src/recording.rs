//! Keeping a live source recording between two questions, so that the second can be about the past.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use netmon_core::{Control, Monitor, source::Observations};

/// What is observed from the first question about connections on, until the server ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recording(Arc<Mutex<Option<Observations>>>);

impl Recording {
    fn keep(&self, observations: Observations) {
        // One of several is as good as all of them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(observations);
    }
}

/// Asks a question about connections when at least `window` of the time that it is about was observed. A call that is
/// cancelled or fails leaves nothing attached that was not before.
pub(crate) fn recorded<A>(
    monitor: &Monitor,
    kept: &Recording,
    since: Option<Duration>,
    window: Duration,
    control: &Control<'_>,
    question: impl FnOnce() -> netmon_core::Result<A>,
) -> netmon_core::Result<A> {
    let source = monitor.source();
    if source.describe().kind.as_str() != "live" {
        // A recording is over, and a daemon records by itself.
        return question();
    }
    let observations = source.observe_all()?;
    let wanted = since.map_or(window, |since| since.min(window));
    if let Some(span) = source.observed(Some(wanted))? {
        let missing = wanted.saturating_sub(span.to.since(&span.from));
        if !missing.is_zero() {
            source.wait(&span.to, missing, control)?;
        }
    }
    let answer = question()?;
    kept.keep(observations);
    Ok(answer)
}
