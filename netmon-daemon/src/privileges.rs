//! What the daemon gives up before it listens to anybody.

use capctl::caps::{self, Cap, CapSet, CapState};

/// What attaching and reading take, now and for every question; nothing else is kept.
const NEEDED: [Cap; 3] = [Cap::BPF, Cap::NET_ADMIN, Cap::PERFMON];
/// What is kept where it is given: to see which files belong to whom where iterators cannot be used.
const USEFUL: [Cap; 2] = [Cap::SYS_PTRACE, Cap::DAC_READ_SEARCH];

/// Drops every capability that is not needed, of this thread and all that it starts, for good: none can be had again by
/// starting a program. Call it before there are other threads.
///
/// Returns the capabilities that are needed and are not there.
pub(crate) fn drop_privileges() -> capctl::Result<Vec<String>> {
    let keep: CapSet = NEEDED.into_iter().chain(USEFUL).collect();
    let mut state = CapState::get_current()?;
    let missing = NEEDED.iter().filter(|cap| !state.permitted.has(**cap)).map(ToString::to_string).collect();
    if state.effective.has(Cap::SETPCAP) {
        for cap in Cap::iter().filter(|cap| !keep.has(*cap)) {
            // Not every kernel knows every capability.
            let _ = caps::bounding::drop(cap);
        }
    }
    caps::ambient::clear()?;
    state.permitted &= keep;
    state.effective = state.permitted;
    state.inheritable = CapSet::empty();
    state.set_current()?;
    capctl::prctl::set_no_new_privs()?;
    capctl::prctl::set_dumpable(false)?;
    Ok(missing)
}
