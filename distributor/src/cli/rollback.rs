//! `vcdist rollback`: applies the objects of an earlier revision again, once every node has its images.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use clap::Args;
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use vcmanifests::NamespaceName;
use vcterminal::{Exit, Output, tell};

use crate::cli::changes::{self, Changes};
use crate::cli::node_images::{self, NodeImages};
use crate::cli::nodes::{Containerd, Nodes, Ssh};
use crate::cli::release::ReleaseName;
use crate::cli::values::namespace;
use crate::cluster::{self, Cluster};
use crate::duration::parse_duration;
use crate::lock::{self, Lock, LockArgs};
use crate::push::report;
use crate::rollout::{self, Outcomes, Part, Permissions, Plan};

/// Return to an earlier revision, and wait until it runs.
///
/// vcdist first asks each node whether it has the images of the revision. Then it applies the objects of the revision, removes
/// later ones, and records the rollback as a new revision. An interrupted rollback goes on when it is run again.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The revision [default: the last that was ready and differs]
    #[arg(value_name = "REVISION")]
    revision: Option<i64>,

    /// The namespace of the installation
    #[arg(short, long, value_name = "NAME", default_value_t, value_parser = namespace)]
    namespace: NamespaceName,

    #[command(flatten)]
    release: ReleaseName,

    /// Push the images that nodes lack, if the store has them
    #[arg(long, conflicts_with_all = ["dry_run", "ignore_nodes"])]
    push: bool,

    /// The store to push from [default: ~/.cache/vcbuild/store]
    ///
    /// $VCBUILD_STORE overrides the default, $XDG_CACHE_HOME replaces ~/.cache.
    #[arg(long, value_name = "DIR", requires = "push")]
    store: Option<Utf8PathBuf>,

    /// Do not ask the nodes for the images
    ///
    /// For nodes that fetch them from a registry.
    #[arg(long)]
    ignore_nodes: bool,

    /// Take over fields that another manager set
    ///
    /// Such as kubectl, helm or a person.
    #[arg(long)]
    force_conflicts: bool,

    /// Delete and create again what cannot change
    ///
    /// Objects of which a field would change that never can, such as a selector. Without this, the command refuses them
    /// before it changes anything. Never namespaces, definitions and volumes.
    #[arg(long)]
    recreate: bool,

    /// Also remove later namespaces and definitions
    ///
    /// Those that the revision lacks, with all objects in them and of them.
    #[arg(long)]
    prune_definitions: bool,

    /// Wait so long until everything runs
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    timeout: Duration,

    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    nodes: Nodes,

    #[command(flatten)]
    ssh: Ssh,

    #[command(flatten)]
    containerd: Containerd,

    #[command(flatten)]
    lock: LockArgs,

    /// Work on so many nodes at once
    #[arg(
        short = 'j',
        long,
        help_heading = "Speed",
        value_name = "N",
        default_value = "32",
        conflicts_with = "ignore_nodes"
    )]
    parallel: NonZeroUsize,

    /// Retry so often after a connection broke
    #[arg(long, help_heading = "SSH", value_name = "N", default_value_t = 3, conflicts_with = "ignore_nodes")]
    retries: u32,

    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// Why nothing was rolled back, or not all.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] lock::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Rollout(#[from] rollout::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Images(#[from] node_images::Error),

    #[error("printing the result")]
    Print(#[from] io::Error),
}

/// `vcdist rollback --output json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    namespace: &'a str,
    dry_run: bool,
    from: Option<i64>,
    to: Option<i64>,
    pushed: &'a BTreeMap<String, Vec<String>>,
    #[serde(flatten)]
    changes: Changes<'a>,
    elapsed_seconds: f64,
    error: Option<String>,
}

/// How far a rollback has come.
#[derive(Debug, Default)]
struct RollbackProgress {
    from: Option<i64>,
    to: Option<i64>,
    pushed: BTreeMap<String, Vec<String>>,
    plan: Plan,
    outcomes: Outcomes,
}

impl Rollback {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        let started = Instant::now();
        let mut done = RollbackProgress::default();
        let result = self.locked(&mut done).await;
        match self.output {
            Output::Text if result.is_ok() => {
                let RollbackProgress { plan, outcomes, .. } = &done;
                vcterminal::print(&changes::summary(plan, outcomes, self.dry_run, "rolled back", started.elapsed()))?;
            }
            Output::Text => {}
            Output::Json => vcterminal::print_json(&Document {
                namespace: self.namespace.as_str(),
                dry_run: self.dry_run,
                from: done.from,
                to: done.to,
                pushed: &done.pushed,
                changes: Changes::of(&done.plan, &done.outcomes),
                elapsed_seconds: started.elapsed().as_secs_f64(),
                error: result.as_ref().err().map(report::one_line),
            })?,
        }
        result.map(|()| Exit::Done)
    }

    async fn locked(&self, done: &mut RollbackProgress) -> Result<(), Error> {
        let cluster = self.nodes.any_cluster().await?;
        if self.dry_run {
            return self.roll_back(&cluster, done).await;
        }
        let lock = Lock::acquire(&cluster, "rollback", &self.lock).await?;
        lock.hold(self.roll_back(&cluster, done)).await
    }

    async fn roll_back(&self, cluster: &Cluster, done: &mut RollbackProgress) -> Result<(), Error> {
        let text = self.output == Output::Text;
        let revisions = rollout::revisions(cluster, &self.release.release(&self.namespace)).await?;
        let target = rollout::rollback_target(&revisions, self.revision, self.namespace.as_str())?;
        (done.from, done.to) = (revisions.last().map(|current| current.number), Some(target.origin()));
        if text {
            tell(format_args!("going back to revision {}", target.origin()));
        }
        let permissions =
            Permissions { force_conflicts: self.force_conflicts, prune_definitions: self.prune_definitions };
        done.plan = rollout::plan_back(cluster, target, permissions).await?;
        if text {
            changes::show_kept(&done.plan.kept);
        }
        if !self.recreate && !self.dry_run {
            done.plan.refuse_recreation()?;
        }
        if !self.ignore_nodes {
            let mut wanted = target.images.clone();
            if self.release.name.is_some() {
                // Nodes fetch the others from a registry.
                wanted.retain(|image| image.contains('@'));
            }
            let images = NodeImages {
                images: &wanted,
                nodes: &self.nodes,
                ssh: &self.ssh,
                containerd: &self.containerd,
                parallel: self.parallel.get(),
                retries: self.retries,
            };
            let store = self.push.then(|| self.store.clone().unwrap_or_else(vcstore::Store::default_path));
            done.pushed = images.ensure(store.as_deref(), self.output).await?;
        }
        if self.dry_run {
            changes::show_plan(&done.plan, text);
            return Ok(());
        }
        cluster.wait_until(Instant::now() + self.timeout);
        let rollout = rollout::Rollout {
            force_conflicts: self.force_conflicts,
            recreate: self.recreate,
            timeout: self.timeout,
            rollback_to: Some(target.origin()),
            part: Part::All,
            cancel: CancellationToken::new(),
        };
        let show = |progress: rollout::Progress<'_>| changes::show(progress, text);
        rollout::run(cluster, &done.plan, &rollout, &mut done.outcomes, show).await?;
        Ok(())
    }
}
