//! A watch outlives the daemon that it asks.

use std::time::{Duration, Instant};

use netmon_core::{Cancel, Error, ErrorKind, Result};

use crate::output;

pub(crate) const EVERY: Duration = Duration::from_millis(500);

/// Whether this error means that the daemon is gone, and may come back.
pub(crate) fn is_gone(error: &Error) -> bool {
    error.kind() == ErrorKind::Unreachable
}

/// Says that the daemon is gone, and begins anew when it is back.
///
/// # Errors
/// [`Error::Cancelled`], and whatever the daemon says when it is back.
pub(crate) fn begin_again<T>(gone: &Error, cancel: &Cancel, begin: impl Fn() -> Result<T>) -> Result<T> {
    output::note(&format!("{gone}; waiting for it, Ctrl-C ends this"));
    loop {
        if !cancel.sleep_until(Instant::now() + EVERY) {
            return Err(Error::Cancelled);
        }
        match begin() {
            Err(error) if is_gone(&error) => {}
            Ok(begun) => {
                output::note("netmond answers again; what happened meanwhile is not shown");
                return Ok(begun);
            }
            Err(error) => return Err(error),
        }
    }
}
