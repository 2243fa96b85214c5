//! What cannot be known: hooks that are missing, and records that were lost.

use super::{Draft, Example, Number, Rule, Severity, Verdict, facts::Facts, number_of};
use crate::{clean::CleanText, view::units};

pub(super) fn judge(facts: &Facts) -> Vec<(Rule, Verdict)> {
    vec![(Rule::MissingHooks, judge_hooks(facts)), (Rule::LostEvents, judge_lost(facts))]
}

fn judge_hooks(facts: &Facts) -> Verdict {
    let missing = &facts.observed.missing_hooks;
    if missing.is_empty() {
        return Verdict::Nothing;
    }
    let examples = missing.iter().map(|missing| Example {
        hook: Some(missing.hook),
        hides: Some(CleanText::from(missing.hides.as_str())),
        ..Example::default()
    });
    let draft = Draft {
        severity: Severity::Info,
        title: format!(
            "{} missing, so that not all can be known",
            number_of(missing.len(), "hook is", "hooks are")
        ),
        window: facts.window(),
        numbers: vec![Number::count("missing_hooks", missing.len() as u64).at_least(1.0)],
        examples: examples.collect(),
        likely_cause: "this process may not use BPF, or the kernel is older than the hook",
        next_step: "start netmond, which observes for every user, or give this program the capabilities; what the kernel \
                    lacks comes with a later one",
        command: "netmon-cli doctor".to_owned(),
    };
    draft.found(Rule::MissingHooks)
}

fn judge_lost(facts: &Facts) -> Verdict {
    let (lost, forgotten) = (facts.observed.lost_events, facts.observed.forgotten);
    if lost == 0 && forgotten == 0 {
        return Verdict::Nothing;
    }
    let draft = Draft {
        severity: Severity::Info,
        title: format!(
            "{} of this time are not known any more",
            units::counted(lost.saturating_add(forgotten), "connection")
        ),
        window: facts.window(),
        numbers: vec![
            Number::count("lost_events", lost).at_least(1.0),
            Number::count("forgotten_connections", forgotten).at_least(1.0),
        ],
        examples: Vec::new(),
        likely_cause: "more connections ended than the ring or the recorder's memory holds",
        next_step: "ask about a shorter time, or give netmond more memory",
        command: "netmon-cli diagnose --since 60s".to_owned(),
    };
    draft.found(Rule::LostEvents)
}
