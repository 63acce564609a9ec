//! The flow of an installation from the check of the cluster to the check of what runs: its steps, where the images come from, and
//! the report. The steps themselves are those of the other commands. Uses [`crate::nodes`].

pub mod source;
pub mod vcbuild;
pub mod workers;

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use vcterminal::Table;

/// A step of the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Check the cluster and the workers, as vcdist validate
    Validate,
    /// Find the images of the cluster's own control plane
    Detect,
    /// Build the images, or import their archives
    Build,
    /// Push the images to the workers
    Distribute,
    /// Apply the namespace
    Namespace,
    /// Apply the custom resource definitions
    Crds,
    /// Apply accounts, roles and workloads
    Workloads,
    /// Check what runs
    Verify,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Validate,
        Self::Detect,
        Self::Build,
        Self::Distribute,
        Self::Namespace,
        Self::Crds,
        Self::Workloads,
        Self::Verify,
    ];

    /// Whether it may change the cluster or its nodes.
    #[must_use]
    pub fn changes_cluster(self) -> bool {
        matches!(self, Self::Distribute | Self::Namespace | Self::Crds | Self::Workloads)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Validate => "validate",
            Self::Detect => "detect",
            Self::Build => "build",
            Self::Distribute => "distribute",
            Self::Namespace => "namespace",
            Self::Crds => "crds",
            Self::Workloads => "workloads",
            Self::Verify => "verify",
        })
    }
}

/// The steps to take: those that are named, or all from one on, or all.
#[must_use]
pub fn selected(named: &[Step], from: Option<Step>) -> Vec<Step> {
    let is_meant = |step: &Step| {
        if named.is_empty() { from.is_none_or(|from| *step >= from) } else { named.contains(step) }
    };
    Step::ALL.into_iter().filter(is_meant).collect()
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It was taken and changed something.
    Changed(String),
    /// It was taken, and everything was as it should be.
    Unchanged(String),
    /// It was not taken, for this reason.
    Skipped(String),
    /// It would change something; in a plan.
    WouldChange(String),
    /// It failed.
    Failed(String),
}

/// A step in the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// The step.
    pub step: Step,
    /// `changed`, `unchanged`, `skipped`, `would-change` or `failed`.
    pub result: &'static str,
    /// What was done or found, or why nothing was.
    pub detail: String,
    /// How long it took.
    pub elapsed_seconds: f64,
}

impl StepReport {
    /// Makes the report of a step.
    #[must_use]
    pub fn new(step: Step, ending: Ending, elapsed: Duration) -> Self {
        let (result, detail) = match ending {
            Ending::Changed(detail) => ("changed", detail),
            Ending::Unchanged(detail) => ("unchanged", detail),
            Ending::Skipped(detail) => ("skipped", detail),
            Ending::WouldChange(detail) => ("would-change", detail),
            Ending::Failed(detail) => ("failed", detail),
        };
        Self { step, result, detail, elapsed_seconds: elapsed.as_secs_f64() }
    }

    /// Whether it changed something.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.result == "changed"
    }
}

/// The table for people.
#[must_use]
pub fn table(steps: &[StepReport]) -> Table {
    let mut table = Table::new(["step", "result", "time", "detail"]);
    for report in steps {
        let time = vcterminal::duration(Duration::from_secs_f64(report.elapsed_seconds.max(0.0)));
        table.row([report.step.to_string(), report.result.replace('-', " "), time, report.detail.clone()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{Step, selected};

    #[test]
    fn steps_are_selected_by_name_or_from_one_on() {
        assert_eq!(selected(&[], None), Step::ALL);
        assert_eq!(selected(&[], Some(Step::Workloads)), [Step::Workloads, Step::Verify]);
        assert_eq!(selected(&[Step::Verify, Step::Validate], None), [Step::Validate, Step::Verify]);
        assert!(Step::ALL.is_sorted());
    }
}
