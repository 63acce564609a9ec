//! What can go wrong between the objects as they are made and the cluster as it should be.

use std::fmt;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;
use vcterminal::seconds;

use crate::cluster;

/// A rollout that was refused, stopped or not completed.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The cluster was not found, not reached, or said no.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    /// Other field managers own fields that would change.
    #[error("applying {object}: {}", list(conflicts))]
    #[diagnostic(help("nothing was changed; if these fields are yours to set, take them over with --force-conflicts"))]
    Conflict {
        /// The object, `deployment/vc-manager`.
        object: String,
        /// Who owns what.
        conflicts: Vec<Conflict>,
    },

    /// The namespace or a definition is on its way out.
    #[error("{object} cannot be used: {why}")]
    #[diagnostic(help("wait until it is gone (`kubectl get {object} --watch`), then try again"))]
    Unusable {
        /// The object.
        object: String,
        /// Why.
        why: String,
    },

    /// An object that is not a Kubernetes object, which no object made here is.
    #[error("preparing {object}")]
    #[diagnostic(help("this is a defect: please report it"))]
    Prepare {
        /// The object.
        object: String,
        /// Why.
        source: serde_json::Error,
    },

    /// Something was applied and does not get ready.
    #[error("waiting for {}: {outcome}", objects.join(", "))]
    #[diagnostic(help("{help}"))]
    NotReady {
        /// The objects that are not ready.
        objects: Vec<String>,
        /// How the wait ended.
        outcome: Outcome,
        /// What to do.
        help: String,
        /// What the cluster says about it.
        source: Evidence,
    },
}

/// A field that another field manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager, as in `kubectl-client-side-apply`.
    pub manager: String,
    /// The field, as in `.spec.replicas`.
    pub field: String,
}

/// How a wait ended without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Time ran out.
    TimedOut(Duration),
    /// More time would not have helped.
    GaveUp(Duration),
}

/// What was found about objects that are not ready: one line each, indented lines below what they belong to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Error)]
pub struct Evidence(pub Vec<String>);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(after) => write!(f, "not ready after {}", seconds(*after)),
            Self::GaveUp(after) => write!(f, "given up after {}, for it will not get ready by itself", seconds(*after)),
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

fn list(conflicts: &[Conflict]) -> String {
    let each = conflicts.iter().map(|conflict| format!("{} belongs to {:?}", conflict.field, conflict.manager));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Conflict, Error, Outcome};

    #[test]
    fn a_conflict_names_field_and_owner() {
        let error = Error::Conflict {
            object: "deployment/vc-manager".to_owned(),
            conflicts: vec![Conflict { manager: "kubectl".to_owned(), field: ".spec.replicas".to_owned() }],
        };
        assert_eq!(error.to_string(), "applying deployment/vc-manager: .spec.replicas belongs to \"kubectl\"");
    }

    #[test]
    fn an_outcome_says_how_long_was_waited() {
        assert_eq!(Outcome::TimedOut(Duration::from_secs(300)).to_string(), "not ready after 300.00 s");
    }
}
