//! `vcdist verify`: runs five checks of an installation and prints the results with their evidence.

use std::io;
use std::time::Duration;

use clap::Args;
use miette::Diagnostic;
use thiserror::Error;
use vcmanifests::NamespaceName;
use vcterminal::{Exit, Output};

use crate::cli::nodes::ChoiceArgs;
use crate::cli::values::namespace;
use crate::cluster::{self, Cluster, ClusterArgs};
use crate::duration::parse_duration;
use crate::nodes;
use crate::verify::{Report, fetch, verify};

/// Check what runs, and print the evidence.
///
/// Five checks: the namespace, the definitions, the pods, vn-agent on every worker, no Warning events. Exit code 3 if one
/// fails.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The namespace of the installation
    #[arg(short, long, value_name = "NAME", default_value_t, value_parser = namespace)]
    namespace: NamespaceName,

    /// Count Warning events of this time
    ///
    /// Events of a pod that has been ready ever since do not count.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    since: Duration,

    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,

    #[command(flatten)]
    choice: ChoiceArgs,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Why nothing could be checked.
#[derive(Debug, Error, Diagnostic)]
pub(crate) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Nodes(#[from] nodes::Error),

    #[error("printing the report")]
    Print(#[from] io::Error),
}

impl Verify {
    pub(crate) async fn run(self) -> Result<Exit, Error> {
        let cluster = Cluster::connect(&self.cluster).await?;
        let (snapshot, choice) = (fetch(&cluster, &self.namespace).await?, self.choice.choice());
        choice.check(&snapshot.nodes)?;
        let report = verify(&snapshot, self.since, &choice);
        self.output.print(&report, Report::text)?;
        Ok(if report.passed { Exit::Done } else { Exit::Difference })
    }
}
