//! What is told of findings, in words.

use std::{collections::BTreeMap, fmt};

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
    /// The model's words, names put back. Absent where none was asked, or none answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insights: Option<CleanProse>,
    /// The same as it was written, with stand-ins for names. Absent where names were sent as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insights_without_names: Option<CleanProse>,
    /// What the stand-ins in it are for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, CleanText>,
    /// The model that was, or would be, asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<CleanText>,
    /// Why the model did not answer. The findings are whole without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ai_error: Option<String>,
    /// How a model is configured, where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ai_hint: Option<String>,
    /// In a dry run: what would have been sent, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Map<String, serde_json::Value>>,
}

impl InsightsAnswer {
    pub(super) fn new(diagnosis: Diagnosis) -> Self {
        Self {
            diagnosis,
            insights: None,
            insights_without_names: None,
            names: BTreeMap::new(),
            model: None,
            ai_error: None,
            ai_hint: None,
            payload: None,
        }
    }

    /// Lists at most so many findings, and keeps so many characters of the model's words.
    pub fn shorten(&mut self, most: usize, most_chars: usize) {
        self.diagnosis.shorten(most);
        for words in [&mut self.insights, &mut self.insights_without_names].into_iter().flatten() {
            self.diagnosis.header.coverage.truncated |= words.shorten(most_chars);
        }
    }
}

impl InsightsAnswer {
    /// The model's words, with or without names, before the findings.
    fn with_findings(&self, words: Option<&CleanProse>, findings: String) -> String {
        match (words, &self.model) {
            (Some(words), Some(model)) => {
                format!("{words}\n\n(by the model {model}, from these findings:)\n{findings}")
            }
            _ => findings,
        }
    }
}

/// The model's words and the findings; by `{:#}` without any name, which are data and in fields of their own.
impl fmt::Display for InsightsAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = if f.alternate() { &self.insights_without_names } else { &self.insights };
        f.write_str(&self.with_findings(words.as_ref(), self.diagnosis.to_string()))?;
        match self.as_it_is() {
            Some(payload) => write!(f, "\n\n{payload}"),
            None => Ok(()),
        }
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

    fn heading(&self) -> String {
        self.with_findings(self.insights.as_ref(), self.diagnosis.heading())
    }

    fn as_it_is(&self) -> Option<String> {
        let payload = serde_json::to_string_pretty(self.payload.as_ref()?).unwrap_or_default();
        Some(format!("A model would be sent this, and nothing was sent:\n{payload}"))
    }

    fn tables(&self) -> Vec<Table> {
        self.diagnosis.tables()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.diagnosis.notes();
        if let (Some(error), Some(model)) = (&self.ai_error, &self.model) {
            notes.push(format!("the model {model} explained nothing: {error}"));
        }
        notes.extend(self.ai_hint.clone());
        notes
    }
}
