//! A tool call: a question to netmon-core on a thread of its own, with progress on the way and an end when nobody wants
//! the answer any more.

use std::convert::Infallible;

use netmon_core::{Answer, Cancel, Control, Error, ErrorKind, Monitor, Progress, view::units};
use rmcp::{
    RoleServer,
    model::{CallToolResult, ContentBlock, ProgressNotificationParam},
    service::RequestContext,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::spawn_blocking,
};

use crate::server::NetmonServer;

/// The most text of a result. Answers stay far below; an error may have to list a thousand interfaces.
const MAX_TEXT: usize = 4_000;
/// What is in the lists of an answer at most, whatever is asked for.
const LONGEST_LIST: usize = 200;

/// Why a call has no answer, in words for whoever asked: what is wrong, what there is to choose from, what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) text: String,
    /// What there is to choose from, where its names were chosen by others: as JSON, in fields of their own.
    pub(crate) data: Option<Value>,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), data: None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.with_cause();
        match error.hint().or_else(|| next_step(&error).map(str::to_owned)) {
            // A filter is shown with the place where it is wrong.
            Some(hint) if text.contains('\n') => Self::new(format!("{text}\n{hint}")),
            Some(hint) => Self::new(format!("{text}. {hint}")),
            None => Self::new(text),
        }
    }
}

fn next_step(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::UnknownInterface => {
            Some("Name one of these, or leave `interface` out to measure the default route's.")
        }
        ErrorKind::InterfaceGone => Some("Call again, without `interface` to measure the default route's."),
        ErrorKind::Kernel | ErrorKind::NotInSource => Some("Call `capabilities` to see what works here."),
        ErrorKind::Filter => Some(
            "Write it like: failed and remote in 10.0.0.0/8 and not port == 443; or process == curl; or bytes > 1MB",
        ),
        _ => None,
    }
}

impl From<Failure> for CallToolResult {
    fn from(Failure { text, data }: Failure) -> Self {
        let mut content = vec![ContentBlock::text(bounded(text, MAX_TEXT))];
        content.extend(data.map(|data| ContentBlock::text(data.to_string())));
        Self::error(content)
    }
}

/// How long a result may be, as JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    whole: usize,
    /// What of it single rows may take.
    pub(crate) rows: u64,
}

impl Budget {
    /// About 2,000 tokens.
    pub(crate) const DEFAULT: Self = Self { whole: 8 * 1024, rows: 4_600 };
    /// Never more.
    pub(crate) const MOST: Self = Self { whole: 20_000, rows: 12_000 };
    /// The id, who answered, and the brackets around everything.
    const ENVELOPE: usize = 512;
}

/// An answer, how to get more, and how to get it without an assistant.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Answered<A> {
    #[serde(flatten)]
    pub(crate) answer: A,
    /// What comes first in the text.
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) text: String,
    /// The command line of netmon-cli that asks the same.
    pub(crate) command: String,
    /// What to ask next where rows were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// The schema of an answer as [`answered`] sends it.
pub(crate) fn output_schema<A: JsonSchema>() -> serde_json::Map<String, serde_json::Value> {
    crate::schema::of_output::<Answered<A>>()
}

/// The result that carries an answer: a digest as text, everything as structure.
pub(crate) fn answered<A: Answer>(answered: Answered<A>, budget: Budget) -> Result<CallToolResult, Failure> {
    let (result, _) = result(answered, budget)?;
    Ok(result)
}

/// The result with as many rows as the budget allows, up to so many.
pub(crate) fn fitted<A: Answer>(
    budget: Budget,
    most: u64,
    shortened: impl Fn(usize) -> Answered<A>,
) -> Result<CallToolResult, Failure> {
    let mut most = usize::try_from(most).unwrap_or(usize::MAX).min(LONGEST_LIST);
    loop {
        let (result, size) = result(shortened(most), budget)?;
        if size <= budget.whole || most <= 1 {
            return Ok(result);
        }
        most = (most * 3 / 4).max(1);
    }
}

/// The result, and how long it is as JSON.
fn result<A: Answer>(answered: Answered<A>, budget: Budget) -> Result<(CallToolResult, usize), Failure> {
    let unwritable = |error| Failure::new(format!("the answer cannot be written as JSON: {error}"));
    let mut text = bounded(answered.text.clone(), MAX_TEXT);
    if let Some(hint) = &answered.hint {
        text.push_str("\nnext: ");
        text.push_str(hint);
    }
    let notes = answered.answer.notes();
    let structured = serde_json::to_value(&answered).map_err(unwritable)?;
    // All of them are in the structure too.
    for (index, note) in notes.iter().enumerate() {
        if index > 0 && text.len() + note.len() > budget.whole / 6 {
            let left = notes.len() - index;
            text.push_str(&format!("\nnote: {left} more in `coverage`"));
            break;
        }
        text.push_str("\nnote: ");
        text.push_str(&bounded(note.clone(), MAX_TEXT));
    }
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(structured);
    let size = serde_json::to_string(&result).map_err(unwritable)?.len() + Budget::ENVELOPE;
    Ok((result, size))
}

fn bounded(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Asks a question that blocks. Returns when the question has: also a cancelled one has detached what it attached.
pub(crate) async fn ask<A: Send + 'static>(
    server: &NetmonServer,
    context: &RequestContext<RoleServer>,
    question: impl FnOnce(&Monitor, &Control<'_>) -> netmon_core::Result<A> + Send + 'static,
) -> Result<A, Failure> {
    let _under_way = server.client().call();
    let cancel = CancelOnDrop(Cancel::new());
    let (reports, heard) = unbounded_channel();
    let control_cancel = cancel.0.clone();
    let monitor = server.monitor().clone();
    let asked = spawn_blocking(move || {
        // Nobody hears where no progress was asked for.
        let report = |progress| {
            let _ = reports.send(progress);
        };
        question(&monitor, &Control { cancel: control_cancel, progress: Some(&report) })
    });

    // The reports end with the question, so that all of them are told before the answer.
    let both = async { tokio::join!(asked, tell(heard, server, context)).0 };
    tokio::select! {
        answer = both => match answer {
            Ok(answer) => Ok(answer?),
            Err(error) => Err(Failure::new(format!("netmon failed, which is a fault in it: {error}"))),
        },
        never = cancel_when_unwanted(server, context, &cancel.0) => match never {},
    }
}

/// Ends the measurement also where the call itself is dropped.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

async fn cancel_when_unwanted(
    server: &NetmonServer,
    context: &RequestContext<RoleServer>,
    cancel: &Cancel,
) -> Infallible {
    tokio::select! {
        () = context.ct.cancelled() => {}
        () = server.client().gone() => {}
    }
    cancel.cancel();
    std::future::pending().await
}

/// Tells the client how far its call is, if it gave a token to tell it by.
async fn tell(
    mut heard: UnboundedReceiver<Progress>,
    server: &NetmonServer,
    context: &RequestContext<RoleServer>,
) {
    let Some(token) = context.meta.get_progress_token() else { return };
    let mut told = None;
    while let Some(progress) = heard.recv().await {
        // The protocol wants it to rise.
        if told.is_some_and(|told| progress.elapsed <= told) {
            continue;
        }
        told = Some(progress.elapsed);
        let notification = ProgressNotificationParam::new(token.clone(), progress.elapsed.as_secs_f64())
            .with_total(progress.window.as_secs_f64())
            .with_message(match progress.written {
                None => format!(
                    "measured {} of {}",
                    units::seconds(progress.elapsed),
                    units::seconds(progress.window)
                ),
                Some(0) => "the model was asked".to_owned(),
                Some(written) => format!("the model has written {}", units::counted(written, "character")),
            });
        tokio::select! {
            told = context.peer.notify_progress(notification) => if told.is_err() { return },
            // Then rmcp sends no more of them, and would never say so.
            () = server.client().gone() => return,
            () = context.ct.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        let text = bounded("ü".repeat(MAX_TEXT), MAX_TEXT);
        assert_eq!(text.chars().count(), MAX_TEXT / 2 + 1);
        assert!(text.ends_with("ü…"));
        assert_eq!(bounded("short".to_owned(), MAX_TEXT), "short");
    }
}
