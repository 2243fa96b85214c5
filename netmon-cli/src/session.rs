//! What stays open between the lines of the shell: one source, and who observes there.

use std::sync::{Mutex, PoisonError};

use netmon_core::{
    Monitor, Result,
    source::{Observations, SourceChoice},
};

use crate::signals;

/// The source of a shell. It is opened once and stays open, so that the shell remembers what happened meanwhile.
#[derive(Debug)]
pub(crate) struct Session {
    source: SourceChoice,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    monitor: Monitor,
    observations: Option<Observations>,
}

impl Session {
    /// Of this source, which is opened when it is first asked.
    pub(crate) fn new(source: SourceChoice) -> Self {
        Self { source, open: Mutex::default() }
    }

    /// Who answers from this source: the one that stays open, or another for this question alone.
    pub(crate) fn monitor(&self, source: &SourceChoice) -> Result<Monitor> {
        if *source != self.source {
            return open_source(source);
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*open {
            return Ok(open.monitor.clone());
        }
        let monitor = open_source(source)?;
        *open = Some(Open { observations: observe(&monitor), monitor: monitor.clone() });
        Ok(monitor)
    }

    /// Whether it is this that records, from its beginning on.
    pub(crate) fn records(&self) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().is_some_and(|open| open.observations.is_some())
    }
}

/// A daemon may not answer, and Ctrl-C ends that.
fn open_source(source: &SourceChoice) -> Result<Monitor> {
    let source = source.clone();
    signals::current().wait_for(move || Monitor::open(&source))
}

/// Where nobody recorded so far, this does from now on.
fn observe(monitor: &Monitor) -> Option<Observations> {
    let source = monitor.source();
    match source.observed(None) {
        Ok(None) => {}
        Ok(Some(_)) | Err(_) => return None,
    }
    source
        .observe_all()
        .inspect_err(|error| tracing::warn!("connections are not recorded: {}", error.with_cause()))
        .ok()
}
