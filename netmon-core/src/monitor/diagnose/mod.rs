//! What is wrong: rules over facts, each a pure function. [`thresholds`] has their limits.
//!
//! A file judges some rules that belong together; `GROUPS` lists them all. A further group is a file with one function, a
//! line there, and the names of its rules in [`Rule`].

mod answer;
mod destinations;
mod drops;
mod facts;
mod flood;
mod hooks;
mod interfaces;
mod limits;
mod listeners;
mod names;
mod path;
mod patterns;
mod states;
pub mod thresholds;

pub use answer::*;
use facts::Facts;
use thresholds::EXAMPLES;

use super::observe::{self, Scope, Watched};
use crate::{
    answer::Window,
    control::Control,
    error::Result,
    request::DiagnoseRequest,
    source::{Observation, Source},
    view::units,
};

/// What came of a rule.
enum Verdict {
    /// The facts show no fault.
    Nothing,
    /// They show this one.
    Found(Box<Finding>),
    /// They do not suffice, for this reason.
    NotJudged(String),
}

/// Judges the rules that belong together.
type Group = fn(&Facts) -> Vec<(Rule, Verdict)>;

const GROUPS: &[Group] = &[
    destinations::judge,
    names::judge,
    listeners::judge,
    path::judge,
    limits::judge,
    states::judge,
    flood::judge,
    patterns::judge,
    interfaces::judge,
    drops::judge,
    hooks::judge,
];

/// Answers a request; see [`Monitor::diagnose`](crate::Monitor::diagnose).
pub(super) fn diagnose(
    source: &dyn Source,
    request: &DiagnoseRequest,
    control: &Control<'_>,
) -> Result<Diagnosis> {
    request.check()?;
    // A filter that cannot be understood is told before anything is observed.
    let scope = Scope::new(&request.filter, &[], source, &control.cancel)?;
    let (watched, counting) = watch(source, request, control)?;
    let (header, facts) = Facts::gather(source, request, &scope, &watched, counting.as_ref())?;

    let mut diagnosis = Diagnosis { header, total: 0, findings: Vec::new(), checked: Vec::new() };
    for (rule, verdict) in GROUPS.iter().flat_map(|judge| judge(&facts)) {
        let (outcome, reason) = match verdict {
            Verdict::Nothing => (CheckOutcome::Nothing, None),
            Verdict::NotJudged(reason) => (CheckOutcome::NotJudged, Some(reason)),
            Verdict::Found(finding) => {
                diagnosis.findings.push(*finding);
                (CheckOutcome::Found, None)
            }
        };
        diagnosis.checked.push(Checked { rule, outcome, reason });
    }
    diagnosis.findings.sort_by_key(|finding| finding.severity);
    diagnosis.total = diagnosis.findings.len() as u64;
    if let Some(limit) = request.limit.and_then(|limit| usize::try_from(limit).ok())
        && diagnosis.findings.len() > limit
    {
        diagnosis.findings.truncate(limit);
        diagnosis.header.coverage.truncated = true;
    }
    Ok(diagnosis)
}

/// As for other answers about connections; where nobody said how far back, what there is of five minutes. What has to be
/// observed for this answer comes with the counting of dropped packets, or why there is none.
fn watch(
    source: &dyn Source,
    request: &DiagnoseRequest,
    control: &Control<'_>,
) -> Result<(Watched, Option<Result<Observation>>)> {
    let since = request.since.unwrap_or(DiagnoseRequest::DEFAULT_SINCE);
    if request.since.is_none()
        && let Some(span) = source.observed(Some(since))?
    {
        return Ok((Watched::again(span, Vec::new()), None));
    }
    observe::watch_with_drops(source, Some(since), request.window, control)
}

/// A finding, as a rule makes it.
struct Draft {
    severity: Severity,
    title: String,
    window: Window,
    numbers: Vec<Number>,
    /// The worst first; more than are shown.
    examples: Vec<Example>,
    likely_cause: &'static str,
    next_step: &'static str,
    command: String,
}

impl Draft {
    fn found(mut self, rule: Rule) -> Verdict {
        let more = self.examples.len().saturating_sub(EXAMPLES) as u64;
        self.examples.truncate(EXAMPLES);
        let evidence = Evidence { window: self.window, numbers: self.numbers, examples: self.examples, more };
        Verdict::Found(Box::new(Finding {
            rule,
            severity: self.severity,
            title: self.title,
            evidence,
            likely_cause: self.likely_cause.to_owned(),
            next_step: self.next_step.to_owned(),
            command: self.command,
        }))
    }
}

/// `1 host`, `3 hosts`.
fn places(count: usize, singular: &str) -> String {
    units::counted(count as u64, singular)
}

/// `1 process`, `3 processes`.
fn number_of(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", units::count(count as u64), if count == 1 { one } else { many })
}
