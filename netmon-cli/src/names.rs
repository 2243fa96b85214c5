//! The names that a source knows: for those who mistype one, and for completion.

use std::{collections::BTreeSet, time::Duration};

use netmon_core::{
    CleanText, ConnectionFilter, Control, Monitor, SocketsRequest, SummaryRequest, filter::did_you_mean,
    request::LONGEST_PAST,
};

use crate::signals::cancelled_by_signals;

/// The names of processes that have sockets or, as far as somebody recorded, had connections. Does not observe.
pub(crate) fn of_processes(monitor: &Monitor) -> BTreeSet<String> {
    of_processes_with(monitor, &Control::default())
}

fn of_processes_with(monitor: &Monitor, control: &Control<'_>) -> BTreeSet<String> {
    let mut summary = SummaryRequest::default();
    summary.since = Some(LONGEST_PAST);
    summary.window = Duration::ZERO;
    let mut names = BTreeSet::new();
    // What cannot be had is one source of names less.
    if let Ok(sockets) = monitor.sockets_with(&SocketsRequest::default(), control) {
        let processes = sockets.sockets.iter().filter_map(|socket| socket.connection.process.as_ref());
        names.extend(processes.map(|process| process.comm.to_string()));
    }
    if let Ok(summary) = monitor.summary(&summary, control) {
        names
            .extend(summary.by_process.iter().filter_map(|process| Some(process.comm.as_ref()?.to_string())));
    }
    names
}

/// The names of all interfaces.
pub(crate) fn of_interfaces(monitor: &Monitor) -> BTreeSet<String> {
    let Ok(answer) = monitor.interfaces() else { return BTreeSet::new() };
    answer.interfaces.iter().map(|interface| interface.name.to_string()).collect()
}

/// For an answer without rows: the process that may have been meant by a name that none has.
pub(crate) fn meant(monitor: &Monitor, filter: &ConnectionFilter, without_rows: bool) -> Option<String> {
    let asked = filter.process.as_deref().filter(|name| without_rows && !name.contains(['*', '?']))?;
    let control = Control { cancel: cancelled_by_signals(), ..Control::default() };
    let names = of_processes_with(monitor, &control);
    if names.contains(asked) {
        return None;
    }
    let near = did_you_mean(asked, names.iter().map(String::as_str))?;
    Some(format!("no process with connections is called \"{}\"; {near}", CleanText::from(asked)))
}
