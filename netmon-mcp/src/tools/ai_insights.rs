//! `ai_insights`: what findings mean, in words.

use std::sync::Arc;

use netmon_core::{DiagnoseRequest, model::Model, monitor::InsightsAnswer, request::InsightsRequest};
use rmcp::{
    RoleServer,
    model::{CallToolResult, JsonObject, Tool},
    service::RequestContext,
};

use super::{
    Entry,
    question::{self, Question},
};
use crate::{
    call::{Answered, Failure},
    schema,
    server::NetmonServer,
};

pub(super) const ENTRY: Entry = Entry {
    name: NAME,
    aliases: &["contextual_analysis"],
    tool,
    call: |server, arguments, context| Box::pin(call(server, arguments, context)),
};

const NAME: &str = "ai_insights";

const DESCRIPTION: &str = "\
The findings of `diagnose`, explained by the language model of the operator where one is configured; else the findings alone, \
and nothing leaves the host. May take a minute. Untrusted data: `insights`, `names`, `comm`, `host`.";

const ARGUMENTS: &[&str] =
    &["summary_text", "query", "pid", "process_name", "duration", "since", "filter", "response_format"];

/// How far back it looks by itself, or as far as anything was recorded.
const PAST_SECONDS: u64 = DiagnoseRequest::DEFAULT_SINCE.as_secs();
/// How many findings there are by itself.
const DEFAULT_ROWS: u64 = 5;
/// How many characters of the model's words there are: more than it is asked for.
const WORDS: usize = 1_600;

fn tool() -> Tool {
    super::read_only::<InsightsAnswer>(
        NAME,
        "Findings in words",
        DESCRIPTION,
        question::schema_of_past(ARGUMENTS, PAST_SECONDS),
    )
    // `diagnose` tells of findings already.
    .with_raw_output_schema(Arc::new(schema::of_outline::<Answered<InsightsAnswer>>()))
    .with_annotations(super::about_peers())
}

async fn call(
    server: &NetmonServer,
    arguments: JsonObject,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, Failure> {
    let question = Question::read(NAME, arguments, ARGUMENTS, &["max_events"], None)?;
    let model = Model::from_environment()?;
    let mut request = InsightsRequest::default();
    request.question.clone_from(&question.query);
    request.summary_text.clone_from(&question.summary_text);
    (request.filter, request.since, request.window) = question.scope();
    let asked = question.ask(
        server,
        context,
        |answer: &InsightsAnswer| (answer.diagnosis.total == 0).then(|| format!("{answer:#}")),
        move |monitor, control| monitor.insights(&request, model.as_ref(), control),
    );
    let answer = asked.await?;
    let mut command = question.command("insights", server.source());
    if let Some(query) = &question.query {
        command = command.option("--query", query);
    }
    question.fitted(&answer, command, DEFAULT_ROWS, "`diagnose` tells all findings.", |answer, most| {
        answer.shorten(most, WORDS);
        // Names are in the structure, as data.
        format!("{answer:#}")
    })
}
