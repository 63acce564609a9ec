//! `vcdist detect`: the images of the cluster's control plane.

use std::io;

use clap::Args;
use miette::Diagnostic;
use thiserror::Error;
use vcterminal::{Exit, Output};

use crate::cluster::{self, Cluster, ClusterArgs};
use crate::detect::{Detected, detect};

/// Show the images of etcd, the API server and the controller manager.
///
/// From the pods of kube-system, by label and then by name, else from the version of the API server. `vcdist clusterversion`
/// uses the same images for tenants.
#[derive(Debug, Args)]
pub(crate) struct Detect {
    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Why nothing was found out.
#[derive(Debug, Error, Diagnostic)]
pub(crate) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    #[error("printing the images")]
    Print(#[from] io::Error),
}

impl Detect {
    pub(crate) async fn run(self) -> Result<Exit, Error> {
        let cluster = Cluster::connect(&self.cluster).await?;
        self.output.print(&detect(&cluster).await?, Detected::text)?;
        Ok(Exit::Done)
    }
}
