//! Verification: five checks of an installation. Each is a function of the API server's state and returns evidence. The
//! names of the checks and the shape of the report are a documented contract. Uses [`crate::cluster`], [`crate::nodes`]
//! and the rules of [`crate::rollout`].

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

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name: `namespace`, `crds`, `pods`, `placement` or `events`.
    pub name: &'static str,
    /// Whether it passed.
    pub passed: bool,
    /// The evidence, one line each. If the check fails, the failures come first.
    pub evidence: Vec<String>,
}

/// The results of all checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The checks, in the order in which one depends on another.
    pub checks: Vec<Check>,
    /// Whether all passed.
    pub passed: bool,
}

/// Runs all checks on `snapshot`; vn-agent should run on the nodes that `choice` selects. Warning events count if they
/// were last seen within `since`.
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
    /// Builds a check that passes if `wrong` is empty. The evidence lists `wrong` before `found`.
    fn of(name: &'static str, wrong: Vec<String>, found: Vec<String>) -> Self {
        Self { name, passed: wrong.is_empty(), evidence: wrong.into_iter().chain(found).collect() }
    }
}

impl Report {
    /// Formats the results for people.
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
