//! Processes made by fork alone, as pre-forking servers make them. The one `unsafe` of this program.
#![allow(unsafe_code, reason = "fork without exec has no safe wrapper")]

use std::fs;

use nix::{
    sys::{
        prctl,
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};

use crate::{Result, limit_lifetime};

/// Runs `part` in a copy of this process, which ends with it, and at the latest with this one. What `part` has taken
/// along is closed here.
pub(crate) fn forked(part: impl FnOnce() -> Result<()>) -> Result<Pid> {
    let tasks = fs::read_dir("/proc/self/task")?.count();
    assert_eq!(tasks, 1, "only a process of one thread may be forked");
    // SAFETY: this is the only thread, so the copy finds no lock taken and may do what any program may.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let kept = prctl::set_pdeathsig(Signal::SIGKILL);
            limit_lifetime();
            std::process::exit(crate::report(kept.map_err(Into::into).and_then(|()| part())))
        }
    }
}

/// Waits for the end of a copy.
pub(crate) fn wait_for(process: Pid) -> Result<()> {
    match waitpid(process, None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        status => Err(format!("process {process} did not end well: {status:?}").into()),
    }
}
