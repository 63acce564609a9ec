//! `vcdist verify`: runs nine checks of an installation and prints the results with their evidence.

use std::io;
use std::time::Duration;

use clap::Args;
use miette::Diagnostic;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
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
/// Nine checks: the namespace, the definitions, the pods, vn-agent on every worker, the webhook, the leaders, the logs, vn-agent
/// refuses a self-signed client, no Warning events. Exit code 3 if one fails.
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

    /// Check again and again until interrupted, and print what changes
    ///
    /// Prints all checks, and then each check whose result changes. The exit code is that of the last round.
    #[arg(long)]
    watch: bool,

    /// The pause between two rounds of --watch
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration, requires = "watch")]
    every: Duration,

    /// What to print
    ///
    /// With --watch, json is one document for each round in which something changes.
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
        let report = self.once(&cluster).await?;
        self.output.print(&report, Report::text)?;
        let last = if self.watch { self.keep_watching(&cluster, report).await? } else { report };
        Ok(if last.passed { Exit::Done } else { Exit::Difference })
    }

    async fn once(&self, cluster: &Cluster) -> Result<Report, Error> {
        let (snapshot, choice) = (fetch(cluster, &self.namespace).await?, self.choice.choice());
        choice.check(&snapshot.nodes)?;
        Ok(verify(&snapshot, self.since, &choice))
    }

    /// Checks until SIGINT or SIGTERM; returns the last report.
    async fn keep_watching(&self, cluster: &Cluster, first: Report) -> Result<Report, Error> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut last = first;
        loop {
            let next = async {
                tokio::time::sleep(self.every).await;
                self.once(cluster).await
            };
            let report = tokio::select! {
                report = next => report?,
                _ = interrupt.recv() => return Ok(last),
                _ = terminate.recv() => return Ok(last),
            };
            let changed = report.since(&last);
            if !changed.checks.is_empty() {
                match self.output {
                    Output::Text => self.output.print(&changed, Report::changes)?,
                    Output::Json => self.output.print(&report, Report::text)?,
                }
            }
            last = report;
        }
    }
}
