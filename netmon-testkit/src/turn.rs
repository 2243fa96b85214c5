//! One test at a time, whatever `--test-threads` says.
//!
//! Every program that a test starts has, between fork and exec, a copy of all descriptors of this process, those of other
//! tests' BPF links and sockets among them. What another test has just closed would then still be there.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    thread::{self, ThreadId},
};

/// The test's thread, and how many turns it has taken.
static HOLDER: Mutex<Option<(ThreadId, usize)>> = Mutex::new(None);
static FREE: Condvar = Condvar::new();

/// Held by the thread of one test, any number of times; other threads wait for all of them to be dropped.
#[derive(Debug)]
pub(crate) struct Turn(());

impl Turn {
    pub(crate) fn take() -> Self {
        let this = thread::current().id();
        let mut holder = HOLDER.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let turns = match *holder {
                None => 0,
                Some((thread, turns)) if thread == this => turns,
                Some(_) => {
                    holder = FREE.wait(holder).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            *holder = Some((this, turns + 1));
            return Self(());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut holder = HOLDER.lock().unwrap_or_else(PoisonError::into_inner);
        *holder = holder.filter(|(_, turns)| *turns > 1).map(|(thread, turns)| (thread, turns - 1));
        FREE.notify_one();
    }
}
