//! What is told of findings, in words.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    CleanProse,
    answer::{Answer, Header},
    clean::CleanText,
    monitor::diagnose::{Diagnosis, Finding},
    view::Table,
};

/// What findings mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct InsightsAnswer {
    /// Host, window, coverage, and what was found and checked, by netmon's own rules.
    #[serde(flatten)]
    pub diagnosis: Diagnosis,
    /// The model's words. Absent where none was asked, or none answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insights: Option<CleanProse>,
    /// The model that was, or would be, asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<CleanText>,
    /// Why the model did not answer. The findings are whole without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ai_error: Option<String>,
    /// How a model is configured, where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// In a dry run: what would have been sent, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
}

impl InsightsAnswer {
    pub(super) fn new(diagnosis: Diagnosis) -> Self {
        Self { diagnosis, insights: None, model: None, ai_error: None, hint: None, payload: None }
    }
}

impl fmt::Display for InsightsAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.insights, &self.model) {
            (Some(words), Some(model)) => {
                write!(f, "{words}\n\n(by the model {model}, from these findings:)\n{}", self.diagnosis)?;
            }
            _ => write!(f, "{}", self.diagnosis)?,
        }
        if let Some(payload) = &self.payload {
            write!(f, "\n\nA model would be sent this, and nothing was sent:\n{payload:#}")?;
        }
        Ok(())
    }
}

impl Answer for InsightsAnswer {
    type Row = Finding;

    fn header(&self) -> &Header {
        &self.diagnosis.header
    }

    fn rows(&self) -> &[Finding] {
        &self.diagnosis.findings
    }

    fn tables(&self) -> Vec<Table> {
        self.diagnosis.tables()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.diagnosis.notes();
        if let (Some(error), Some(model)) = (&self.ai_error, &self.model) {
            notes.push(format!("the model {model} explained nothing: {error}"));
        }
        notes.extend(self.hint.clone());
        notes
    }
}
