//! `list_packet_drops`: packets that the kernel dropped.

use netmon_core::{DropsRequest, PacketDrops};
use rmcp::{
    RoleServer,
    model::{CallToolResult, JsonObject, Tool},
    service::RequestContext,
};

use super::{
    Entry,
    question::{self, Question},
};
use crate::{call::Failure, server::NetmonServer};

pub(super) const ENTRY: Entry = Entry {
    name: NAME,
    aliases: &["get_packet_drop_summary"],
    tool,
    call: |server, arguments, context| Box::pin(call(server, arguments, context)),
};

const NAME: &str = "list_packet_drops";

const DESCRIPTION: &str = "\
Packets that the kernel dropped: why, whose, at which port; in sum and by reason. Needs eBPF. What a network card drops is in \
the interface's counters instead. Untrusted data: `comm`, `unit`, `container`, `interface`, `host`.";

const ARGUMENTS: &[&str] =
    &["pid", "process_name", "duration", "since", "filter", "limit", "response_format"];

/// How many rows there are by itself.
const DEFAULT_ROWS: u64 = 10;
const HINT: &str = "The sums are over all; the rows with the most packets are shown. Ask with a `limit`, or narrow with \
    `process_name`, `filter` or a shorter `since`.";

fn tool() -> Tool {
    super::read_only::<PacketDrops>(NAME, "Dropped packets", DESCRIPTION, question::schema(ARGUMENTS))
        .with_annotations(super::about_peers())
}

async fn call(
    server: &NetmonServer,
    arguments: JsonObject,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, Failure> {
    let question = Question::of_a_time(NAME, arguments, ARGUMENTS)?;
    let mut request = DropsRequest::default();
    (request.filter, request.since, request.window) = question.scope();
    let asked = question.ask(
        server,
        context,
        |answer: &PacketDrops| (answer.total == 0).then(|| answer.to_string()),
        move |monitor, control| monitor.drops(&request, control),
    );
    let mut answer = asked.await?;
    if question.is_brief() {
        answer.brief();
    }
    let command = question.command("drops", server.source());
    // Of all reasons, whichever rows are listed.
    let text = answer.to_string();
    question.fitted(&answer, command, DEFAULT_ROWS, HINT, |answer, most| {
        answer.shorten(most);
        text.clone()
    })
}
