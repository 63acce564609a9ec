//! Verification: five checks of an installation. Each is a function of what the API server answers, and gives evidence. The names
//! of the checks and the shape of the report are a documented contract. Uses [`crate::cluster`], [`crate::nodes`] and the rules
//! of [`crate::rollout`].

mod definitions;
mod namespace;
mod placement;
mod pods;
mod snapshot;
mod warnings;

use std::time::Duration;

use serde::Serialize;
use vcterminal::Text;

use crate::nodes::Choice;

pub use snapshot::{Snapshot, fetch};

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was asked: `namespace`, `crds`, `pods`, `placement` or `events`.
    pub name: &'static str,
    /// Whether the answer is good.
    pub passed: bool,
    /// What the answer rests on, one line each. Where a check fails, what is wrong comes first.
    pub evidence: Vec<String>,
}

/// The answers to all questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The checks, in the order in which one depends on another.
    pub checks: Vec<Check>,
    /// Whether all passed.
    pub passed: bool,
}

/// Asks all questions about `snapshot`, of which the nodes of `choice` are to be served. Warning events count when they were last
/// seen within `since`.
#[must_use]
pub fn verify(snapshot: &Snapshot, since: Duration, choice: &Choice) -> Report {
    let checks = vec![
        namespace::check(snapshot),
        definitions::check(snapshot),
        pods::check(snapshot),
        placement::check(snapshot, choice),
        warnings::check(snapshot, since),
    ];
    let passed = checks.iter().all(|check| check.passed);
    Report { checks, passed }
}

impl Check {
    /// A check that passes when nothing is wrong. What is wrong comes before what was found.
    fn of(name: &'static str, wrong: Vec<String>, found: Vec<String>) -> Self {
        Self { name, passed: wrong.is_empty(), evidence: wrong.into_iter().chain(found).collect() }
    }
}

impl Report {
    /// The answers for people.
    #[must_use]
    pub fn text(&self) -> Text {
        let mut text = Text::default();
        for check in &self.checks {
            text.line(format_args!("{} {}", if check.passed { '✓' } else { '✗' }, check.name));
            for line in &check.evidence {
                text.line(format_args!("    {line}"));
            }
        }
        let failed = self.checks.iter().filter(|check| !check.passed).count();
        match failed {
            0 => text.line(format_args!("all {} checks passed", self.checks.len())),
            _ => text.line(format_args!("{failed} of {} checks failed", self.checks.len())),
        };
        text
    }
}

#[cfg(test)]
mod tests;
