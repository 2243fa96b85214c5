//! The tools: one file each, with its description, its arguments and its call.

mod ai_insights;
mod analyze_patterns;
mod argument;
mod capabilities;
mod command;
mod diagnose;
mod get_network_summary;
mod list_connections;
mod list_packet_drops;
mod network_monitor;
mod question;

pub(crate) use capabilities::shorten as shorten_capabilities;

use std::{
    pin::Pin,
    sync::{Arc, LazyLock},
};

use netmon_core::CleanText;
use rmcp::{
    ErrorData, RoleServer,
    model::{CallToolRequestParams, CallToolResult, JsonObject, Tool, ToolAnnotations},
    service::RequestContext,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{
    call::{Failure, output_schema},
    server::NetmonServer,
};

/// A tool: its file makes one, and [`TOOLS`] names it.
struct Entry {
    name: &'static str,
    /// Old names that are understood, and not listed.
    aliases: &'static [&'static str],
    tool: fn() -> Tool,
    call: Call,
}

type Call = for<'a> fn(
    &'a NetmonServer,
    JsonObject,
    &'a RequestContext<RoleServer>,
) -> Pin<Box<dyn Future<Output = Result<CallToolResult, Failure>> + Send + 'a>>;

const TOOLS: &[Entry] = &[
    ai_insights::ENTRY,
    analyze_patterns::ENTRY,
    capabilities::ENTRY,
    diagnose::ENTRY,
    get_network_summary::ENTRY,
    list_connections::ENTRY,
    list_packet_drops::ENTRY,
    network_monitor::ENTRY,
];

/// All tools, by name. Made once, so that every list is the same.
pub(crate) fn all() -> &'static [Tool] {
    static LISTED: LazyLock<Vec<Tool>> = LazyLock::new(|| {
        let mut tools: Vec<Tool> = TOOLS.iter().map(|entry| (entry.tool)()).collect();
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        tools
    });
    &LISTED
}

fn named(name: &str) -> Option<&'static Entry> {
    TOOLS.iter().find(|entry| entry.name == name || entry.aliases.contains(&name))
}

/// Calls a tool. What goes wrong in it is a result that its caller can read; only a tool that does not exist is an error
/// of the protocol.
pub(crate) async fn call(
    server: &NetmonServer,
    request: CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, ErrorData> {
    let entry = named(&request.name).ok_or_else(|| no_such_tool(&request.name))?;
    let result = (entry.call)(server, request.arguments.unwrap_or_default(), context).await;
    Ok(result.unwrap_or_else(CallToolResult::from))
}

fn no_such_tool(name: &str) -> ErrorData {
    let names: Vec<&str> = all().iter().map(|tool| &*tool.name).collect();
    let message = format!("no tool is named \"{}\"; there are: {}", CleanText::from(name), names.join(", "));
    ErrorData::invalid_params(message, None)
}

/// A tool that reads this host and nothing else.
fn read_only<Answer: JsonSchema>(
    name: &'static str,
    title: &'static str,
    description: &'static str,
    arguments: JsonObject,
) -> Tool {
    Tool::new(name, description, arguments)
        .with_title(title)
        .with_raw_output_schema(Arc::new(output_schema::<Answer>()))
        .with_annotations(about_this_host())
}

fn about_this_host() -> ToolAnnotations {
    ToolAnnotations::new().read_only(true).destructive(false).idempotent(true).open_world(false)
}

/// Its answers tell of what others do, and hold text that they chose.
fn about_peers() -> ToolAnnotations {
    about_this_host().open_world(true)
}

/// What a tool was called with, as the type that it takes.
fn arguments<T: DeserializeOwned>(tool: &str, arguments: JsonObject) -> Result<T, Failure> {
    serde_json::from_value(arguments.into()).map_err(|error| {
        // In the words of a caller, who gives arguments. It may quote what it was given.
        let text = error.to_string().replacen("unknown field", "unknown argument", 1);
        let text = text.replace("there are no fields", "it takes none");
        Failure::new(format!("{tool}: {}", CleanText::from(text)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_one_tool() {
        let names: Vec<&str> = TOOLS
            .iter()
            .flat_map(|entry| std::iter::once(&entry.name).chain(entry.aliases))
            .copied()
            .collect();
        for name in &names {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
            assert!(named(name).is_some(), "{name}");
        }
        assert!(named("no_such_tool").is_none());
    }

    #[test]
    fn a_tool_is_listed_under_its_own_name() {
        for entry in TOOLS {
            assert_eq!((entry.tool)().name, entry.name);
            assert!(all().iter().all(|tool| !entry.aliases.contains(&&*tool.name)));
        }
    }
}
