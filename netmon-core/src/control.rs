//! Ending a measurement early, and hearing how far it is.

use std::{
    fmt,
    panic::resume_unwind,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{TryRecvError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::error::{Error, Result};

/// Cancels the measurements that hold a clone of it. Cheap to clone; cancelling is final and wakes them at once.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Cancel {
    /// A token that nobody has cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every wait on this token with [`Error::Cancelled`](crate::Error::Cancelled), now and later.
    pub fn cancel(&self) {
        let (cancelled, changed) = &*self.shared;
        *cancelled.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for what cannot be interrupted itself, such as the system's resolver, and for no longer than until somebody
    /// cancels: then it is left to a thread of its own, and what comes of it is forgotten.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; those of `work`.
    pub fn wait_for<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = sync_channel(1);
        let wake = Wake(self.clone());
        let worker = thread::Builder::new()
            .name("netmon-wait".to_owned())
            .spawn(move || {
                // Dropped last, also by a panic.
                let _wake = wake;
                let sender = sender;
                // Where nobody waits any more it is forgotten.
                let _ = sender.send(work());
            })
            .map_err(|source| Error::Kernel { action: "start a thread", source })?;
        let (cancelled, changed) = &*self.shared;
        let mut guard = cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match receiver.try_recv() {
                Ok(result) => return result,
                Err(_) if *guard => return Err(Error::Cancelled),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => break,
            }
            guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        match worker.join() {
            Err(panic) => resume_unwind(panic),
            Ok(()) => Err(Error::Cancelled),
        }
    }

    /// Blocks the thread until the deadline. True when that was reached, false when cancelled.
    pub fn sleep_until(&self, deadline: Instant) -> bool {
        let (cancelled, changed) = &*self.shared;
        let mut guard = cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if *guard {
                return false;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            guard = changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Wakes whoever waits on this, when it is dropped.
struct Wake(Cancel);

impl Drop for Wake {
    fn drop(&mut self) {
        let (cancelled, changed) = &*self.0.shared;
        // Held, so that nobody is between looking and waiting.
        let _guard = cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        changed.notify_all();
    }
}

/// How far a measurement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Time observed so far, never more than `window`.
    pub elapsed: Duration,
    /// Time that will have been observed.
    pub window: Duration,
    /// How many characters a language model has written of its answer. `None` while none was asked.
    pub written: Option<u64>,
}

/// What a caller says to a running measurement and hears of it. The default says and hears nothing.
#[derive(Clone, Default)]
pub struct Control<'a> {
    /// Ends the measurement early.
    pub cancel: Cancel,
    /// Called on the measuring thread: at the start, about ten times a window (not more often than every 100 ms), and at
    /// its end. It should return soon.
    pub progress: Option<&'a (dyn Fn(Progress) + Sync)>,
}

impl Control<'_> {
    pub(crate) fn report(&self, elapsed: Duration, window: Duration) {
        self.tell(elapsed, window, None);
    }

    /// The same while a model writes.
    #[cfg(feature = "ai")]
    pub(crate) fn report_written(&self, elapsed: Duration, window: Duration, written: u64) {
        self.tell(elapsed, window, Some(written));
    }

    fn tell(&self, elapsed: Duration, window: Duration, written: Option<u64>) {
        let Some(progress) = self.progress else { return };
        // Nobody wants to read of microseconds, but the end is the window exactly.
        let whole_ms = Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        progress(Progress { elapsed: if elapsed >= window { window } else { whole_ms }, window, written });
    }

    /// Sleeps for what is left of a window of which some has passed, reporting progress. False when cancelled.
    pub(crate) fn sleep(&self, passed: Duration, window: Duration) -> bool {
        const SHORTEST_STEP: Duration = Duration::from_millis(100);
        let start = Instant::now();
        let step = (window / 10).max(SHORTEST_STEP);

        loop {
            let elapsed = passed + start.elapsed();
            self.report(elapsed, window);
            if elapsed >= window {
                return true;
            }
            let next = window.min(elapsed + step) - passed;
            if !self.cancel.sleep_until(start + next) {
                return false;
            }
        }
    }
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("cancel", &self.cancel)
            .field("progress", &self.progress.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn cancel_wakes_a_sleeper_at_once() {
        let control = Control::default();
        let cancel = control.cancel.clone();
        let start = Instant::now();
        let canceller = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            cancel.cancel();
        });

        assert!(!control.sleep(Duration::ZERO, Duration::from_secs(60)));
        assert!(start.elapsed() < Duration::from_secs(30));
        canceller.join().unwrap();
    }

    #[test]
    fn what_cannot_be_interrupted_is_left_to_itself() {
        let cancel = Cancel::new();
        assert_eq!(cancel.wait_for(|| Ok(7)).unwrap(), 7);
        let failed = cancel.wait_for::<()>(|| Err(Error::InvalidRequest("no".to_owned())));
        assert!(matches!(failed, Err(Error::InvalidRequest(_))));

        let (begun, begins) = sync_channel(1);
        let (_never, forever) = sync_channel::<()>(0);
        let canceller = thread::spawn({
            let cancel = cancel.clone();
            move || {
                begins.recv().unwrap();
                cancel.cancel();
            }
        });
        let left = cancel.wait_for(move || {
            begun.send(()).unwrap();
            let _ = forever.recv();
            Ok(())
        });
        assert!(matches!(left, Err(Error::Cancelled)));
        canceller.join().unwrap();
    }

    #[test]
    #[should_panic(expected = "as it was")]
    fn a_panic_is_whose_it_would_have_been() {
        let _ = Cancel::new().wait_for::<()>(|| panic!("as it was"));
    }

    #[test]
    fn progress_rises_to_the_whole_window() {
        let seen = Mutex::new(Vec::new());
        let progress = |progress: Progress| seen.lock().unwrap().push(progress.elapsed);
        let control = Control { progress: Some(&progress), ..Control::default() };

        assert!(control.sleep(Duration::from_millis(50), Duration::from_millis(250)));
        let seen = seen.into_inner().unwrap();
        assert!(seen.is_sorted() && seen.len() >= 3, "{seen:?}");
        assert!(seen[0] >= Duration::from_millis(50));
        assert_eq!(seen.last(), Some(&Duration::from_millis(250)));
    }
}
