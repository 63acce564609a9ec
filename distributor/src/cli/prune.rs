//! `vcdist prune`: removes pushed images from the nodes that nothing needs any more.

use std::num::NonZeroUsize;

use clap::Args;
use vcterminal::{Exit, Output, Text};

use crate::cli::error::Error;
use crate::cli::nodes::{Containerd, Nodes, Ssh};
use crate::prune::{self, PruneReport};
use crate::rollout::ImagesInUse;
use crate::session::Binary;
use crate::transport;

/// Remove images from the nodes that were pushed there and that nothing uses any more.
///
/// An image stays that a revision names (each `vcdist deploy` records one), or a pod or workload of the cluster, or that a
/// container on the node runs; and what was pushed last by its name. Images that others brought are
/// never touched. Exit codes: 0 done, 1 no node could be served, 4 some could not.
#[derive(Debug, Args)]
pub(super) struct Prune {
    #[command(flatten)]
    nodes: Nodes,

    #[command(flatten)]
    ssh: Ssh,

    #[command(flatten)]
    containerd: Containerd,

    /// What was pushed last too, where nothing uses it.
    #[arg(long)]
    all: bool,

    /// Keep what the last N revisions name, and not what earlier ones do [default: all that are recorded].
    #[arg(long, value_name = "N")]
    revisions: Option<NonZeroUsize>,

    /// Do not ask the cluster what its revisions and workloads name: containers on the nodes alone keep images, also those
    /// that have ended.
    ///
    /// Needed with --host and --inventory, which know no cluster.
    #[arg(long, conflicts_with = "revisions")]
    ignore_cluster: bool,

    /// Say what would go, and change nothing.
    #[arg(long)]
    dry_run: bool,

    /// Nodes to work on at once.
    #[arg(short = 'j', long, value_name = "N", default_value = "32")]
    parallel: NonZeroUsize,

    /// How often to try again with a node whose connection broke.
    #[arg(long, value_name = "N", default_value_t = 3)]
    retries: u32,

    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Prune {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        let used = match (self.ignore_cluster, self.nodes.cluster().await?) {
            (true, _) => None,
            (false, Some(cluster)) => {
                Some(ImagesInUse::by(&cluster, self.revisions.map_or(usize::MAX, NonZeroUsize::get)).await?)
            }
            (false, None) => return Err(Error::NoCluster),
        };
        let nodes = self.nodes.find(&self.ssh).await?;
        let prune = prune::Prune {
            used,
            all: self.all,
            dry_run: self.dry_run,
            binary: Binary::this()?,
            settings: self.containerd.settings(&self.ssh),
            parallel: self.parallel.get(),
            retries: self.retries,
        };
        let ssh = self.ssh.options();
        let outcomes = prune.run(nodes, |node| transport::to_node(node, &ssh)).await;
        let report = PruneReport::new(&outcomes, self.dry_run);
        let printed = self.output.print(&report, |report| {
            let mut text = Text::from(&report.table());
            text.text(&report.freed().collect());
            text
        });
        for error in prune::errors(&outcomes) {
            vcterminal::report(&error);
        }
        printed.map_err(Error::Print)?;
        Ok(prune::exit(&outcomes))
    }
}
