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

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist prune --dry-run                       # what would go, and what keeps the rest
  vcdist prune --revisions 3
  vcdist prune --host root@10.0.0.11 --ignore-cluster";

/// Remove images from nodes that vcdist pushed and nothing uses any more.
///
/// vcdist keeps an image if a revision names it (each `vcdist deploy` records one), if a pod or workload of the cluster names
/// it, if a container on the node runs it, or if it was pushed last under its name. It never removes images that others
/// brought. Exit codes: 0 done, 1 no node could be served, 4 some could not.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Prune {
    /// Show what would be removed, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Keep what the last N revisions name [default: all revisions]
    ///
    /// Each `vcdist deploy` records a revision.
    #[arg(long, value_name = "N")]
    revisions: Option<NonZeroUsize>,

    /// Also remove what was pushed last, if nothing uses it
    #[arg(long)]
    all: bool,

    /// Do not ask the cluster: only containers on the nodes keep images
    ///
    /// Also containers that have ended. Required with --host and --inventory, which know no cluster.
    #[arg(long, conflicts_with = "revisions")]
    ignore_cluster: bool,

    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,

    #[command(flatten)]
    nodes: Nodes,

    #[command(flatten)]
    ssh: Ssh,

    /// Retry so often after a connection broke
    #[arg(long, help_heading = "SSH", value_name = "N", default_value_t = 3)]
    retries: u32,

    /// Work on so many nodes at once
    #[arg(short = 'j', long, help_heading = "SSH", value_name = "N", default_value = "32")]
    parallel: NonZeroUsize,

    #[command(flatten)]
    containerd: Containerd,
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
