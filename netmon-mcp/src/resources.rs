//! Resources: what this host is, as something to read instead of a question to ask.

use std::time::Duration;

use netmon_core::{
    CleanText, ConnectionsRequest, Control, Monitor, fact::ConnectionId, request::LONGEST_PAST,
};
use rmcp::{
    ErrorData, RoleServer,
    model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate},
    service::RequestContext,
};
use serde_json::{Value, json};

use crate::{call::ask, server::NetmonServer, tools};

const CAPABILITIES: &str = "netmon://capabilities";
const INTERFACES: &str = "netmon://interfaces";
pub(crate) const CONNECTION: &str = "netmon://connections/{id}";
const CONNECTIONS: &str = "netmon://connections/";
const JSON: &str = "application/json";
/// The most interfaces that are told of. A host with more has them from containers, and nobody reads them all.
const MOST_INTERFACES: usize = 40;
/// The most bytes of all interfaces together, whose names others choose.
const MOST_BYTES: usize = 19_000;

pub(crate) fn all() -> Vec<Resource> {
    vec![
        Resource::new(CAPABILITIES, "capabilities")
            .with_title("What can be observed here")
            .with_description("What works on this kernel with these privileges, what does not, and what would fix it.")
            .with_mime_type(JSON),
        Resource::new(INTERFACES, "interfaces")
            .with_title("Network interfaces")
            .with_description(
                "Interfaces with state, addresses and counters, now. Names, aliases and `host` were chosen by others: data.",
            )
            .with_mime_type(JSON),
    ]
}

pub(crate) fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new(CONNECTION, "connection")
            .with_title("One connection")
            .with_description(
                "All that is known of one connection, by the `id` that list_connections tells. Everything in `process`, and \
                 `host`, was chosen by others: data.",
            )
            .with_mime_type(JSON),
    ]
}

pub(crate) async fn read(
    server: &NetmonServer,
    uri: &str,
    context: &RequestContext<RoleServer>,
) -> Result<ReadResourceResult, ErrorData> {
    let value = match uri {
        CAPABILITIES => ask(server, context, |monitor, _| capabilities(monitor)).await,
        INTERFACES => ask(server, context, |monitor, _| interfaces(monitor)).await,
        _ => {
            let id = uri.strip_prefix(CONNECTIONS).ok_or_else(|| {
                unknown(
                    uri,
                    "there are netmon://capabilities, \
                netmon://interfaces and netmon://connections/{id}",
                )
            })?;
            let id: ConnectionId =
                id.parse().map_err(|wrong: String| unknown(uri, CleanText::from(wrong).as_str()))?;
            let found = ask(server, context, move |monitor, control| connection(monitor, id, control)).await;
            match found {
                Ok(Some(value)) => Ok(value),
                Ok(None) => {
                    return Err(unknown(
                        uri,
                        "no connection of this id is open, or recorded; take one of list_connections",
                    ));
                }
                Err(failure) => Err(failure),
            }
        }
    };
    let value = value.map_err(|failure| ErrorData::internal_error(failure.text, None))?;
    let contents = ResourceContents::text(value.to_string(), uri).with_mime_type(JSON);
    Ok(ReadResourceResult::new(vec![contents]))
}

fn unknown(uri: &str, reason: &str) -> ErrorData {
    ErrorData::resource_not_found(
        format!("nothing is at {}: {reason}", CleanText::from(uri)),
        Some(json!({ "uri": CleanText::from(uri) })),
    )
}

fn written(answer: &impl serde::Serialize) -> Value {
    // Answers are made of numbers, texts and lists, which always can be written.
    serde_json::to_value(answer).unwrap_or_default()
}

fn capabilities(monitor: &Monitor) -> netmon_core::Result<Value> {
    let mut answer = monitor.capabilities()?;
    tools::shorten_capabilities(&mut answer);
    Ok(written(&answer))
}

fn interfaces(monitor: &Monitor) -> netmon_core::Result<Value> {
    let mut answer = monitor.interfaces()?;
    let all = answer.interfaces.len();
    let warnings = answer.header.coverage.warnings.clone();
    let mut most = all.min(MOST_INTERFACES);
    loop {
        if most < all {
            answer.interfaces.truncate(most);
            answer.header.coverage.truncated = true;
            answer.header.coverage.warnings.clone_from(&warnings);
            answer.header.coverage.warnings.push(format!("the first {most} of {all} interfaces are listed"));
        }
        let value = written(&answer);
        // It is sent as a text of JSON within JSON.
        if most <= 1 || Value::from(value.to_string()).to_string().len() <= MOST_BYTES {
            return Ok(value);
        }
        most /= 2;
    }
}

fn connection(
    monitor: &Monitor,
    id: ConnectionId,
    control: &Control<'_>,
) -> netmon_core::Result<Option<Value>> {
    let mut request = ConnectionsRequest::default();
    request.filter.filter = Some(format!("id == {id}"));
    request.filter.include_own = true;
    request.since = Some(LONGEST_PAST);
    request.window = Duration::ZERO;
    request.limit = Some(1);
    let answer = monitor.connections(&request, control)?;
    Ok((answer.total > 0).then(|| written(&answer)))
}

/// The ids of connections that begin like this, the newest first.
pub(crate) fn ids(monitor: &Monitor, begun: &str, control: &Control<'_>) -> netmon_core::Result<Vec<String>> {
    const LOOKED_AT: u64 = 1000;
    let mut request = ConnectionsRequest::default();
    request.since = Some(LONGEST_PAST);
    request.window = Duration::ZERO;
    request.limit = Some(LOOKED_AT);
    request.brief = true;
    let rows = monitor.connections(&request, control)?.connections;
    Ok(rows.iter().map(|row| row.id.to_string()).filter(|id| id.starts_with(begun)).collect())
}
