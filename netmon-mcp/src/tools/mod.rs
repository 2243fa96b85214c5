//! The tools: one file each, with its description, its arguments and its call.

mod capabilities;
mod command;
mod network_monitor;

use std::{
    borrow::Cow,
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
    schema,
    server::NetmonServer,
};

/// All tools, by name. Made once, so that every list is the same.
pub(crate) fn all() -> &'static [Tool] {
    static TOOLS: LazyLock<Vec<Tool>> = LazyLock::new(|| {
        let mut tools = vec![capabilities::tool(), network_monitor::tool()];
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        tools
    });
    &TOOLS
}

/// Calls a tool. What goes wrong in it is a result that its caller can read; only a tool that does not exist is an error
/// of the protocol.
pub(crate) async fn call(
    server: &NetmonServer,
    request: CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, ErrorData> {
    let arguments = request.arguments.unwrap_or_default();
    let result = match &*request.name {
        capabilities::NAME => capabilities::call(server, arguments, context).await,
        network_monitor::NAME => network_monitor::call(server, arguments, context).await,
        unknown => return Err(no_such_tool(unknown)),
    };
    Ok(result.unwrap_or_else(CallToolResult::from))
}

fn no_such_tool(name: &str) -> ErrorData {
    let names: Vec<Cow<'static, str>> = all().iter().map(|tool| tool.name.clone()).collect();
    let message = format!("no tool is named \"{}\"; there are: {}", CleanText::from(name), names.join(", "));
    ErrorData::invalid_params(message, None)
}

/// A tool that reads this host and nothing else.
fn read_only<Arguments: JsonSchema, Answer: JsonSchema>(
    name: &'static str,
    title: &'static str,
    description: &'static str,
) -> Tool {
    Tool::new(name, description, schema::of_input::<Arguments>())
        .with_title(title)
        .with_raw_output_schema(Arc::new(output_schema::<Answer>()))
        .with_annotations(
            ToolAnnotations::new().read_only(true).destructive(false).idempotent(true).open_world(false),
        )
}

/// What a tool was called with, as the type that it takes.
fn arguments<T: DeserializeOwned>(tool: &str, arguments: JsonObject) -> Result<T, Failure> {
    serde_json::from_value(arguments.into()).map_err(|error| {
        // In the words of a caller, who gives arguments. It may quote what it was given.
        let text = error.to_string().replacen("unknown field", "unknown argument", 1);
        let text = text.replace("there are no fields", "it takes none");
        Failure(format!("{tool}: {}", CleanText::from(text)))
    })
}
