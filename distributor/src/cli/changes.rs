//! What commands that roll out say of changes: a line for each object, one below it for each field, and the same as JSON.

use std::time::Duration;

use serde::Serialize;
use vcmanifests::Object;
use vcterminal::{Text, tell, tell_text};

use crate::rollout::{Change, FieldChange, Kept, Outcomes, Plan, Progress, Ready, Step, title};

/// What a document says of a rollout, complete or not.
#[derive(Debug, Serialize)]
pub(super) struct Changes<'a> {
    objects: Vec<ObjectEntry<'a>>,
    kept: &'a [Kept],
    ready: &'a [Ready],
    restarted: &'a [String],
    revision: Option<i64>,
}

impl<'a> Changes<'a> {
    /// The changes that a plan makes, as far as they were made.
    pub(super) fn of(plan: &'a Plan, outcomes: &'a Outcomes) -> Self {
        Self {
            objects: entries(plan, outcomes),
            kept: &plan.kept,
            ready: &outcomes.ready,
            restarted: &outcomes.restarted,
            revision: outcomes.revision,
        }
    }
}

/// One object of a document.
#[derive(Debug, Serialize)]
struct ObjectEntry<'a> {
    kind: &'a str,
    name: &'a str,
    namespace: Option<&'a str>,
    #[serde(flatten)]
    change: &'a Change,
    applied: bool,
    taken_over: bool,
}

/// Every object of a plan, and whether what is to be done about it was done.
fn entries<'a>(plan: &'a Plan, outcomes: &Outcomes) -> Vec<ObjectEntry<'a>> {
    let entry = |object: &'a Object, change: &'a Change, applied: bool, taken_over: bool| ObjectEntry {
        kind: object.kind(),
        name: object.name(),
        namespace: object.namespace(),
        change,
        applied,
        taken_over,
    };
    let steps = plan.steps.iter().enumerate();
    let steps = steps.map(|(i, step)| entry(&step.object, &step.change, i < outcomes.applied, step.taken_over));
    let removals = plan.removals.iter().enumerate();
    let removals = removals.map(|(i, removal)| entry(&removal.object, &Change::Removed, i < outcomes.removed, false));
    steps.chain(removals).collect()
}

/// Tells what a rollout does; of what people must hear also where programs read the rest.
pub(super) fn show(progress: Progress<'_>, text: bool) {
    match progress {
        Progress::Held(object, why) => vcterminal::say(format_args!("waiting for {object}: {why}")),
        Progress::Cause(object, why) => vcterminal::say(format_args!("{object} is not ready: {why}")),
        Progress::Applied(step) if text => tell_text(&describe_step(step)),
        Progress::Restarted(stuck) if text => tell(format_args!("pod restarted: {stuck}")),
        Progress::Woken(object) if text => tell(format_args!("{object}: its controller tries again now")),
        Progress::Removed(removal) if text => tell_text(&describe(&title(&removal.object), &Change::Removed)),
        Progress::Applied(_) | Progress::Restarted(_) | Progress::Woken(_) | Progress::Removed(_) => {}
    }
}

/// What a plan would do, as a rollout would tell it.
pub(super) fn show_plan(plan: &Plan, text: bool) {
    plan.steps.iter().for_each(|step| show(Progress::Applied(step), text));
    plan.removals.iter().for_each(|removal| show(Progress::Removed(removal), text));
}

/// Tells what earlier revisions had, this one lacks, and stays.
pub(super) fn show_kept(kept: &[Kept]) {
    for one in kept {
        let title = format!("{}/{}", one.kind.to_lowercase(), one.name);
        tell(format_args!("{title} is in no current revision and stays: {}", one.why));
    }
}

/// As [`describe()`], and whether `kubectl apply` made the object.
fn describe_step(step: &Step) -> Text {
    let from = if step.taken_over { " (taken over from kubectl apply)" } else { "" };
    describe(&format!("{}{from}", title(&step.object)), &step.change)
}

/// One line for an object, and one below it for every field that differs.
pub(super) fn describe(title: &str, change: &Change) -> Text {
    let (word, fields) = match change {
        Change::Created => ("created", &[][..]),
        Change::Unchanged => ("unchanged", &[][..]),
        Change::Removed => ("removed", &[][..]),
        Change::Configured(fields) => ("configured", &fields[..]),
        Change::Recreated(fields) => ("recreated (deleted, then created)", &fields[..]),
    };
    let mut text = Text::of(format_args!("{title} {word}"));
    text.text(&describe_fields(fields));
    text
}

/// One line for every field that differs.
pub(super) fn describe_fields(fields: &[FieldChange]) -> Text {
    let mut text = Text::default();
    for field in fields {
        let [from, to] = [&field.from, &field.to].map(|value| short(value.as_deref().unwrap_or("(none)")));
        text.line(format_args!("    {}: {from} -> {to}", field.field));
    }
    text
}

/// A value on a terminal: whole rules and schemas would bury the lines around them. JSON has them in full.
fn short(value: &str) -> String {
    const WIDTH: usize = 120;
    match value.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// What a rollout came to; `word` says what was done, as in "deployed".
pub(super) fn summary(plan: &Plan, outcomes: &Outcomes, dry_run: bool, word: &str, elapsed: Duration) -> Text {
    if dry_run {
        let steps = plan.steps.iter().filter(|step| step.change != Change::Unchanged).count();
        let (changes, all) = (steps + plan.removals.len(), plan.steps.len() + plan.removals.len());
        return Text::of(format_args!("{changes} of {all} objects would change; nothing was"));
    }
    let mut text = Text::default();
    for ready in workloads(&outcomes.ready) {
        text.line(format_args!("{}/{} is ready: {}", ready.kind.to_lowercase(), ready.name, ready.ready));
    }
    if let Some(revision) = outcomes.revision {
        text.line(format_args!("recorded as revision {revision}"));
    }
    text.line(format_args!("{word} in {}", vcterminal::duration(elapsed)));
    text
}

fn workloads(ready: &[Ready]) -> impl Iterator<Item = &Ready> {
    ready.iter().filter(|ready| !matches!(ready.kind.as_str(), "Namespace" | "CustomResourceDefinition"))
}

#[cfg(test)]
mod tests {
    use super::{Change, describe};
    use crate::rollout::FieldChange;

    #[test]
    fn each_object_has_a_line_and_each_field_one_below_it() {
        let field = |to: &str| FieldChange { field: "a.b".to_owned(), from: None, to: Some(to.to_owned()) };
        let describe = |change: &Change| describe("namespace/vc-manager", change);
        assert_eq!(describe(&Change::Created).as_str(), "namespace/vc-manager created\n");
        assert_eq!(describe(&Change::Unchanged).as_str(), "namespace/vc-manager unchanged\n");
        assert_eq!(describe(&Change::Removed).as_str(), "namespace/vc-manager removed\n");
        assert_eq!(
            describe(&Change::Recreated(vec![field("x")])).as_str(),
            "namespace/vc-manager recreated (deleted, then created)\n    a.b: (none) -> x\n"
        );
        assert_eq!(
            describe(&Change::Configured(vec![field("x"), field(&"ü".repeat(200))])).to_string(),
            format!("namespace/vc-manager configured\n    a.b: (none) -> x\n    a.b: (none) -> {}…\n", "ü".repeat(120))
        );
    }
}
