//! Verification: nine checks of an installation. Each is a function of the API server's state and returns evidence. The
//! names of the checks and the shape of the report are a documented contract. Uses [`crate::cluster`], [`crate::nodes`]
//! and the rules of [`crate::rollout`].

mod clients;
mod definitions;
mod leaders;
mod logs;
mod namespace;
mod placement;
mod pods;
mod probe;
mod snapshot;
mod warnings;
mod webhook;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use vcterminal::Text;

use crate::nodes::Choice;

pub use logs::PodLog;
pub use probe::{Answer, Probe};
pub use snapshot::{Snapshot, fetch};
pub(crate) use webhook::CONFIGURATION as WEBHOOK;
pub use webhook::Call;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name: `namespace`, `crds`, `pods`, `placement`, `webhook`, `leaders`, `logs`, `clients` or `events`.
    pub name: &'static str,
    /// Whether it passed.
    pub passed: bool,
    /// The evidence, one line each. If the check fails, the failures come first.
    pub evidence: Vec<String>,
    /// What to do, if the check fails.
    pub remedy: Option<&'static str>,
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
        webhook::check(snapshot),
        leaders::check(snapshot),
        logs::check(snapshot, since),
        clients::check(snapshot),
        warnings::check(snapshot, since),
    ];
    let passed = checks.iter().all(|check| check.passed);
    Report { checks, passed }
}

impl Check {
    /// Builds a check that passes if `wrong` is empty. The evidence lists `wrong` before `found`.
    fn of(name: &'static str, wrong: Vec<String>, found: Vec<String>, remedy: &'static str) -> Self {
        let passed = wrong.is_empty();
        let remedy = (!passed).then_some(remedy);
        Self { name, passed, evidence: wrong.into_iter().chain(found).collect(), remedy }
    }

    /// Adds the result to a text for people.
    fn add_to(&self, text: &mut Text) {
        text.line(format_args!("{} {}", if self.passed { '✓' } else { '✗' }, self.name));
        for line in &self.evidence {
            text.line(format_args!("    {line}"));
        }
        if let Some(remedy) = self.remedy {
            text.line(format_args!("    to do: {remedy}"));
        }
    }
}

impl Report {
    /// Returns the checks whose result differs from that in `earlier`: passed or not, and if not, why.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let differs = |check: &&Check| {
            let before = earlier.checks.iter().find(|one| one.name == check.name);
            before.is_none_or(|one| {
                one.passed != check.passed || (!check.passed && one.evidence.first() != check.evidence.first())
            })
        };
        Self { checks: self.checks.iter().filter(differs).cloned().collect(), passed: self.passed }
    }

    /// Formats checks that changed, with the time.
    #[must_use]
    pub fn changes(&self) -> Text {
        let mut text = Text::of(format_args!("{:.0}", Timestamp::now()));
        for check in &self.checks {
            check.add_to(&mut text);
        }
        text
    }

    /// Formats the results for people.
    #[must_use]
    pub fn text(&self) -> Text {
        let mut text = Text::default();
        for check in &self.checks {
            check.add_to(&mut text);
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
