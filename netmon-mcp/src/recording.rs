//! Keeping a live source recording between two questions, so that the second can be about the past.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use netmon_core::{Control, Monitor, source::Observations};

/// What is observed from the first question about connections on, and since when, until the server ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recording(Arc<Mutex<Option<(Instant, Observations)>>>);

impl Recording {
    fn kept(&self) -> MutexGuard<'_, Option<(Instant, Observations)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_as_old_as(&self, wanted: Duration) -> bool {
        self.kept().as_ref().is_some_and(|(since, _)| since.elapsed() >= wanted)
    }
}

/// Asks a question about connections when at least `window` of the time that it is about was observed. A call that is
/// cancelled or fails leaves nothing attached that was not before.
pub(crate) fn recorded<A>(
    monitor: &Monitor,
    recording: &Recording,
    since: Option<Duration>,
    window: Duration,
    control: &Control<'_>,
    question: impl FnOnce() -> netmon_core::Result<A>,
) -> netmon_core::Result<A> {
    let wanted = since.map_or(window, |since| since.min(window));
    // Asking a daemon whether it observes takes longer than its answer.
    if recording.is_as_old_as(wanted) {
        return question();
    }
    let source = monitor.source();
    if source.describe().kind.as_str() != "live" {
        // A recording is over.
        return question();
    }
    let observations = source.observe_all()?;
    let mut began = Instant::now();
    if let Some(span) = source.observed(Some(wanted))? {
        let seen = span.to.since(&span.from);
        let missing = wanted.saturating_sub(seen);
        if !missing.is_zero() {
            source.wait(&span.to, missing, control)?;
        }
        began = began.checked_sub(seen).unwrap_or(began);
    }
    let answer = question()?;
    // One of several is as good as all of them.
    recording.kept().get_or_insert((began, observations));
    Ok(answer)
}
