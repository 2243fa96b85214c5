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
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::spawn_blocking,
};

use crate::server::NetmonServer;

/// The most text of a result. Answers stay far below; an error may have to list a thousand interfaces.
const MAX_TEXT: usize = 4_000;

/// Why a call has no answer, in words for whoever asked: what is wrong, what there is to choose from, what to do next.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.with_cause();
        match error.hint().or_else(|| next_step(&error).map(str::to_owned)) {
            Some(hint) => Self(format!("{text}. {hint}")),
            None => Self(text),
        }
    }
}

fn next_step(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::UnknownInterface => {
            Some("Name one of these, or leave `interface` out to measure the default route's.")
        }
        ErrorKind::InterfaceGone => Some("Call again, without `interface` to measure the default route's."),
        ErrorKind::Kernel => Some("Call `capabilities` to see what works here."),
        _ => None,
    }
}

impl From<Failure> for CallToolResult {
    fn from(Failure(text): Failure) -> Self {
        Self::error(vec![ContentBlock::text(bounded(text))])
    }
}

/// An answer, and how to get it without an assistant.
#[derive(Debug, Serialize, JsonSchema)]
struct Answered<A> {
    #[serde(flatten)]
    answer: A,
    /// The command line that asks the same, quoted for a shell.
    command: String,
}

/// The schema of an answer as [`answered`] sends it.
pub(crate) fn output_schema<A: JsonSchema>() -> serde_json::Map<String, serde_json::Value> {
    crate::schema::of_output::<Answered<A>>()
}

/// The result that carries an answer: a digest as text, everything as structure.
pub(crate) fn answered<A: Answer>(answer: A, command: String) -> Result<CallToolResult, Failure> {
    let mut text = answer.to_string();
    for note in answer.notes() {
        text.push_str("\nnote: ");
        text.push_str(&note);
    }
    let structured = serde_json::to_value(Answered { answer, command })
        .map_err(|error| Failure(format!("the answer cannot be written as JSON: {error}")))?;
    let mut result = CallToolResult::success(vec![ContentBlock::text(bounded(text))]);
    result.structured_content = Some(structured);
    Ok(result)
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
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
            Err(error) => Err(Failure(format!("netmon failed, which is a fault in it: {error}"))),
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
            .with_message(format!(
                "measured {} of {}",
                units::seconds(progress.elapsed),
                units::seconds(progress.window)
            ));
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
        let text = bounded("ü".repeat(MAX_TEXT));
        assert_eq!(text.chars().count(), MAX_TEXT / 2 + 1);
        assert!(text.ends_with("ü…"));
        assert_eq!(bounded("short".to_owned()), "short");
    }
}
