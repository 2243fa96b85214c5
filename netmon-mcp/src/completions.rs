//! Completions: the names that there are on this host, for arguments of prompts and resources.

use std::{collections::BTreeSet, time::Duration};

use netmon_core::{
    ConnectionsRequest, Control, Error, Monitor, SocketsRequest,
    request::{ConnectionSort, LONGEST_PAST},
};
use rmcp::{
    ErrorData, RoleServer,
    model::{CompleteRequestParams, CompleteResult, CompletionInfo, Reference},
    service::RequestContext,
};

use crate::{call::ask, prompts, resources, server::NetmonServer};

/// What can be completed.
enum What {
    Process,
    Interface,
    Connection,
}

pub(crate) async fn complete(
    server: &NetmonServer,
    request: CompleteRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CompleteResult, ErrorData> {
    let what = match &request.r#ref {
        Reference::Prompt(prompt) if !prompts::exists(&prompt.name) => {
            return Err(prompts::no_such_prompt(&prompt.name));
        }
        Reference::Prompt(_) => match request.argument.name.as_str() {
            "process" => Some(What::Process),
            "interface" => Some(What::Interface),
            _ => None,
        },
        Reference::Resource(resource) if resource.uri == resources::CONNECTION => Some(What::Connection),
        _ => None,
    };
    let Some(what) = what else { return Ok(CompleteResult::default()) };
    let begun = request.argument.value;
    let found = ask(server, context, move |monitor, control| {
        let names = match what {
            What::Process => processes(monitor, control),
            What::Interface => interfaces(monitor),
            What::Connection => return resources::ids(monitor, &begun, control).or_else(nothing),
        };
        Ok(matching(names.or_else(nothing)?, &begun))
    });
    let mut values = found.await.map_err(|failure| ErrorData::internal_error(failure.text, None))?;
    let total = u32::try_from(values.len()).ok();
    let more = values.len() > CompletionInfo::MAX_VALUES;
    values.truncate(CompletionInfo::MAX_VALUES);
    let completion = CompletionInfo::with_pagination(values, total, more);
    completion.map(CompleteResult::new).map_err(|error| ErrorData::internal_error(error, None))
}

/// A source that has none of these completes nothing.
fn nothing<T: Default>(error: Error) -> netmon_core::Result<T> {
    match error {
        Error::NotInSource { .. } => Ok(T::default()),
        error => Err(error),
    }
}

/// Those that begin like this, in any case, before those that have it further on.
fn matching(names: BTreeSet<String>, begun: &str) -> Vec<String> {
    let begun = begun.to_lowercase();
    let (mut first, others): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| name.to_lowercase().starts_with(&begun));
    first.extend(others.into_iter().filter(|name| name.to_lowercase().contains(&begun)));
    first
}

fn processes(monitor: &Monitor, control: &Control<'_>) -> netmon_core::Result<BTreeSet<String>> {
    const LOOKED_AT: u64 = 10_000;
    let mut request = ConnectionsRequest::default();
    request.since = Some(LONGEST_PAST);
    request.window = Duration::ZERO;
    request.sort = ConnectionSort::Process;
    request.limit = Some(LOOKED_AT);
    request.brief = true;
    let connections = monitor.connections(&request, control)?.connections;
    let mut names: BTreeSet<String> =
        connections.into_iter().filter_map(|row| Some(row.process?.comm.to_string())).collect();
    let mut request = SocketsRequest::default();
    request.limit = Some(LOOKED_AT);
    let listeners = monitor.listeners(&request)?.listeners;
    names.extend(listeners.into_iter().filter_map(|row| Some(row.process?.comm.to_string())));
    Ok(names)
}

fn interfaces(monitor: &Monitor) -> netmon_core::Result<BTreeSet<String>> {
    Ok(monitor.interfaces()?.interfaces.into_iter().map(|interface| interface.name.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_so_comes_first() {
        let names = ["nginx", "Ngrok", "ping", "curl"].map(str::to_owned).into();
        assert_eq!(matching(names, "ng"), ["Ngrok", "nginx", "ping"]);
    }
}
