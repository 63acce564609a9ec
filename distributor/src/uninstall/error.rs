//! Why an installation is not removed, or not all of it.

use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;
use vcterminal::duration;

use crate::{cluster, rollout};

/// A removal that was refused or not completed.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The cluster was not found, not reached, or said no.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    /// The revisions cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Rollout(#[from] rollout::Error),

    /// The installation is in another namespace.
    #[error(
        "removing the installation from the namespace {namespace}: VirtualCluster is installed in the namespace {other}"
    )]
    #[diagnostic(help("nothing was changed; give --namespace {other}"))]
    Elsewhere {
        /// Where it was looked for.
        namespace: String,
        /// Where it is.
        other: String,
    },

    /// There are tenants.
    #[error("removing the installation: it has tenants: {}", tenants.join(", "))]
    #[diagnostic(help("nothing was changed; delete the tenants first, or with the installation: --tenants delete"))]
    Tenants {
        /// VirtualClusters, and namespaces of tenants.
        tenants: Vec<String>,
    },

    /// Something does not go.
    #[error("waiting for {}: not gone after {}", remaining.join("; "), duration(*after))]
    #[diagnostic(help(
        "what was removed is gone; look at the objects with `kubectl get --output yaml`, and run the same command again: it goes \
         on where it ended. --timeout DURATION waits longer"
    ))]
    NotGone {
        /// What is still there, and what it waits for.
        remaining: Vec<String>,
        /// After how long.
        after: Duration,
    },
}
