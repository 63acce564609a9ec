//! The errors of commands that push images to nodes or query nodes about them.

use std::io;

use miette::Diagnostic;
use thiserror::Error;

use super::images;
use crate::{cluster, nodes, relay, session};

/// Why there were no images, no nodes, or no result.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Images(#[from] images::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Nodes(#[from] nodes::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Helper(#[from] session::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),
    #[error("no cluster is named that could say which images it needs")]
    #[diagnostic(help(
        "name the nodes through the API (--kubeconfig, --nodes), or say --ignore-cluster: then images go that revisions \
         name, and only containers on the nodes keep them"
    ))]
    NoCluster,
    #[error(transparent)]
    #[diagnostic(transparent)]
    Relay(#[from] relay::Error),
    #[error("printing the report")]
    Print(#[source] io::Error),
}
