//! What can go wrong between the objects as they are made and the cluster as it should be.

use std::fmt;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;
use vcterminal::duration;

use crate::cluster;

/// A rollout that was refused, stopped or not completed.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The cluster was not found, not reached, or refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    /// Other field managers own fields that would change.
    #[error("applying the objects: {}", fields(.0))]
    #[diagnostic(help(
        "that object was not changed; see what would change with --dry-run --force-conflicts, and take the fields over with \
         --force-conflicts"
    ))]
    Conflict(#[source] Conflicts),

    /// Another namespace has an installation, which the cluster's roles belong to.
    #[error("deploying to the namespace {namespace}: VirtualCluster is installed in the namespace {other}")]
    #[diagnostic(help(
        "nothing was changed. A cluster has one installation: {binding} would be taken from {other}, whose pods would lose their \
         rights. Update that one with --namespace {other}; to move it, delete the namespace {other} first"
    ))]
    Installed {
        /// Where it was to be deployed to.
        namespace: String,
        /// Where it is installed.
        other: String,
        /// What both would need.
        binding: String,
    },

    /// An object of another release.
    #[error("applying {object}: it belongs to {release}")]
    #[diagnostic(help(
        "nothing was changed; remove the object from one of the two, or give it another name or namespace. Each release removes \
         what it no longer has, so an object belongs to one"
    ))]
    OtherRelease {
        /// The object.
        object: String,
        /// Whose it is.
        release: String,
    },

    /// An object that another tool rolls out.
    #[error("applying {object}: {why}")]
    #[diagnostic(help(
        "nothing was changed; remove the object from one of the two, or take it over with --force-conflicts. Each tool removes or \
         restores what it rolls out, so an object belongs to one"
    ))]
    OtherTool {
        /// The object.
        object: String,
        /// Which tool.
        why: String,
    },

    /// A field would change that never can, of an object that is not deleted for that.
    #[error("applying {object}: {} cannot be changed once the object exists ({message})", fields.join(", "))]
    #[diagnostic(help(
        "vcdist does not delete the object by itself: {why}. If that is what you want, delete it with `{command}` and deploy \
         again"
    ))]
    Immutable {
        /// The object.
        object: String,
        /// The fields.
        fields: Vec<String>,
        /// Why it is not deleted.
        why: &'static str,
        /// What deletes it.
        command: String,
        /// The server's message.
        message: String,
    },

    /// Objects have to be deleted and made anew.
    #[error("{} would have to be deleted and created again", recreated(.0))]
    #[diagnostic(help("nothing was changed; see the fields with --dry-run, and allow it with --recreate"))]
    Recreate(#[source] Recreations),

    /// An object that was deleted does not go.
    #[error("waiting until {object} is gone: it is still there")]
    #[diagnostic(help(
        "its finalizers are [{finalizers}], which their controllers take away: see why they do not, then run the command again"
    ))]
    StillThere {
        /// The object.
        object: String,
        /// What holds it.
        finalizers: String,
    },

    /// Somebody ended it.
    #[error("the rollout was interrupted")]
    #[diagnostic(help("what was applied stays; run the command again to complete it"))]
    Interrupted,

    /// A new definition that living objects do not survive.
    #[error("changing {object}: {why}")]
    #[diagnostic(help("nothing was changed; {help}"))]
    Definition {
        /// The definition.
        object: String,
        /// Why it is refused.
        why: String,
        /// What to do.
        help: String,
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

    /// Nothing was ever rolled out here.
    #[error("no revision is recorded in the namespace {namespace}")]
    #[diagnostic(help("`vcdist deploy` records one; for another namespace give --namespace NAME"))]
    NoRevisions {
        /// The namespace.
        namespace: String,
    },

    /// A revision that is not recorded.
    #[error("there is no revision {number} in the namespace {namespace}")]
    #[diagnostic(help("the recorded revisions are {known}; `vcdist history` describes them"))]
    NoSuchRevision {
        /// Which was asked for.
        number: i64,
        /// The namespace.
        namespace: String,
        /// Those that are there.
        known: String,
    },

    /// Nothing to go back to.
    #[error("no earlier revision in the namespace {namespace} was ready and differs from the current one, {number}")]
    #[diagnostic(help("`vcdist history` lists the revisions; name one to apply it all the same: `vcdist rollback N`"))]
    NoEarlier {
        /// The current revision.
        number: i64,
        /// The namespace.
        namespace: String,
    },

    /// A revision whose objects cannot be used.
    #[error("reading the objects of revision {number}: {why}")]
    #[diagnostic(help("nothing was changed; {help}"))]
    NoObjects {
        /// The revision.
        number: i64,
        /// Why.
        why: String,
        /// What to do.
        help: String,
    },

    /// A revision that cannot be written.
    #[error("recording revision {number}: {why}")]
    #[diagnostic(help("no workload was changed; this is a defect: please report it"))]
    Record {
        /// The revision.
        number: i64,
        /// Why.
        why: String,
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
    /// The object, `deployment/vc-manager`.
    pub object: String,
    /// The other manager, as in `kubectl-client-side-apply`.
    pub manager: String,
    /// The field, as in `.spec.replicas`.
    pub field: String,
}

/// Every field of a rollout that other field managers own.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Conflicts(pub Vec<Conflict>);

/// An object that has to be deleted and made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recreation {
    /// The object, `deployment/vc-manager`.
    pub object: String,
    /// The fields that would change and never can.
    pub fields: Vec<String>,
    /// What that ends.
    pub ends: &'static str,
}

/// Every object of a rollout that has to be made anew.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Recreations(pub Vec<Recreation>);

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
            Self::TimedOut(after) => write!(f, "not ready after {}", duration(*after)),
            Self::GaveUp(after) => {
                write!(f, "given up after {}, for it will not get ready by itself", duration(*after))
            }
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.0.iter().map(|one| format!("{}: {} belongs to {:?}", one.object, one.field, one.manager));
        f.write_str(&each.collect::<Vec<_>>().join("\n"))
    }
}

impl fmt::Display for Recreations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |one: &Recreation| {
            format!("{}: {} cannot be changed once it exists; {}", one.object, one.fields.join(", "), one.ends)
        };
        f.write_str(&self.0.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}

fn recreated(recreations: &Recreations) -> String {
    match &recreations.0[..] {
        [one] => one.object.clone(),
        all => format!("{} objects", all.len()),
    }
}

fn fields(conflicts: &Conflicts) -> String {
    match conflicts.0.len() {
        1 => "a field would change that belongs to another manager".to_owned(),
        n => format!("{n} fields would change that belong to other managers"),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::time::Duration;

    use super::{Conflict, Conflicts, Error, Outcome, Recreation, Recreations};

    #[test]
    fn a_conflict_names_object_field_and_owner() {
        let conflict = |field: &str| Conflict {
            object: "deployment/vc-manager".to_owned(),
            manager: "kubectl".to_owned(),
            field: field.to_owned(),
        };
        let error = Error::Conflict(Conflicts(vec![conflict(".spec.replicas"), conflict(".spec.paused")]));
        assert_eq!(error.to_string(), "applying the objects: 2 fields would change that belong to other managers");
        assert_eq!(
            error.source().unwrap().to_string(),
            "deployment/vc-manager: .spec.replicas belongs to \"kubectl\"\n\
             deployment/vc-manager: .spec.paused belongs to \"kubectl\""
        );
    }

    #[test]
    fn what_would_be_made_anew_names_object_fields_and_what_that_ends() {
        let one = Recreation {
            object: "deployment/vc-manager".to_owned(),
            fields: vec!["spec.selector".to_owned()],
            ends: "its pods end, and others are made",
        };
        let error = Error::Recreate(Recreations(vec![one]));
        assert_eq!(error.to_string(), "deployment/vc-manager would have to be deleted and created again");
        assert_eq!(
            error.source().unwrap().to_string(),
            "deployment/vc-manager: spec.selector cannot be changed once it exists; its pods end, and others are made"
        );
    }

    #[test]
    fn an_outcome_says_how_long_was_waited() {
        assert_eq!(Outcome::TimedOut(Duration::from_secs(300)).to_string(), "not ready after 5 min");
    }
}
