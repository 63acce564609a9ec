//! `vcdist uninstall`: removes an installation, with its tenants and images if asked.

use std::io;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;
use vcmanifests::NamespaceName;
use vcterminal::{Exit, Output, Text, tell};

use crate::cli::nodes::{Containerd, Nodes, Ssh};
use crate::cli::release::ReleaseName;
use crate::cli::values::namespace;
use crate::cluster::{self, Cluster};
use crate::duration::parse_duration;
use crate::lock::{self, Lock, LockArgs};
use crate::prune::{self, PruneReport};
use crate::push::report;
use crate::rollout::{ImagesInUse, Kept};
use crate::session::Binary;
use crate::uninstall::{self, Item, Outcomes, Plan, Progress};
use crate::{nodes, session, transport};

/// How long containers may take to end whose pods are gone.
const CONTAINERS_END_WITHIN: Duration = Duration::from_secs(60);

/// How long until the nodes are asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Remove VirtualCluster from the cluster, in order, or a release.
///
/// Only objects go that vcdist applied and still manages; what stays is listed with the reason. With --name, a release of
/// `vcdist deploy --manifests` goes, and nothing else. Run it again after an
/// interruption: it goes on where it ended. Exit codes: 0 nothing is left to remove, 1 it failed or was refused, 4 the images of
/// some nodes stay.
#[derive(Debug, Args)]
pub(super) struct Uninstall {
    /// The namespace of the installation
    #[arg(short, long, value_name = "NAME", default_value_t, value_parser = namespace)]
    namespace: NamespaceName,

    #[command(flatten)]
    release: ReleaseName,

    /// Also remove the release's namespaces, definitions and volumes
    ///
    /// Needs --name. With a definition, all objects of its kind go; a namespace with objects of others stays, and so do the volumes
    /// that a StatefulSet has made.
    #[arg(long, requires = "release")]
    prune_definitions: bool,

    /// If there are tenants
    ///
    /// That is, VirtualClusters or namespaces of theirs.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t, conflicts_with = "release")]
    tenants: Tenants,

    /// Do it; without this, only the plan is printed
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,

    /// Show what would be removed, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Also remove unused pushed images from the nodes
    #[arg(long)]
    images: bool,

    /// Wait so long until everything is gone
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    timeout: Duration,

    #[command(flatten)]
    nodes: Nodes,

    #[command(flatten)]
    ssh: Ssh,

    #[command(flatten)]
    containerd: Containerd,

    #[command(flatten)]
    lock: LockArgs,

    /// Work on so many nodes at once
    #[arg(short = 'j', long, help_heading = "Speed", value_name = "N", default_value = "32", requires = "images")]
    parallel: NonZeroUsize,

    /// Retry so often after a connection broke
    #[arg(long, help_heading = "SSH", value_name = "N", default_value_t = 3, requires = "images")]
    retries: u32,

    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// What becomes of tenants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Tenants {
    /// Change nothing while there are any.
    #[default]
    Refuse,
    /// Delete them, with all that they have in this cluster.
    Delete,
}

/// Why not everything was removed.
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
    Uninstall(#[from] uninstall::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Nodes(#[from] nodes::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Helper(#[from] session::Error),

    #[error("removing what is printed: nobody has confirmed it")]
    #[diagnostic(help("nothing was changed; if the printed objects are to be removed, give --yes"))]
    Unconfirmed,

    #[error("printing the result")]
    Print(#[from] io::Error),
}

/// `vcdist uninstall --output json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    namespace: &'a str,
    release: Option<&'a str>,
    dry_run: bool,
    planned: &'a [Item],
    removed: &'a [Item],
    kept: &'a [Kept],
    stripped: Vec<StrippedEntry<'a>>,
    images: Option<&'a PruneReport>,
    elapsed_seconds: f64,
    error: Option<String>,
}

/// A finalizer that was taken from an object.
#[derive(Debug, Serialize)]
struct StrippedEntry<'a> {
    object: &'a str,
    finalizer: &'a str,
}

/// How far it has come.
#[derive(Debug, Default)]
struct UninstallProgress {
    plan: Plan,
    outcomes: Outcomes,
    images: Option<PruneReport>,
}

impl Uninstall {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        let started = Instant::now();
        let mut done = UninstallProgress::default();
        let result = self.uninstall(&mut done).await;
        let dry_run = !self.yes;
        match self.output {
            Output::Text if result.is_ok() => vcterminal::print(&summary(&done, dry_run, started.elapsed()))?,
            Output::Text => {}
            Output::Json => vcterminal::print_json(&Document {
                namespace: self.namespace.as_str(),
                release: self.release.name.as_deref(),
                dry_run,
                planned: &done.plan.items,
                removed: &done.outcomes.removed,
                kept: if dry_run { &done.plan.kept } else { &done.outcomes.kept },
                stripped: done
                    .outcomes
                    .stripped
                    .iter()
                    .map(|(object, finalizer)| StrippedEntry { object, finalizer })
                    .collect(),
                images: done.images.as_ref(),
                elapsed_seconds: started.elapsed().as_secs_f64(),
                error: result.as_ref().err().map(report::one_line),
            })?,
        }
        result
    }

    async fn uninstall(&self, done: &mut UninstallProgress) -> Result<Exit, Error> {
        let text = self.output == Output::Text;
        let cluster = self.nodes.any_cluster().await?;
        let uninstall = uninstall::Uninstall {
            namespace: self.namespace.clone(),
            release: self.release.name.clone(),
            definitions: self.prune_definitions,
            tenants: self.tenants == Tenants::Delete,
            timeout: self.timeout,
        };
        done.plan = uninstall.plan(&cluster).await?;
        if !self.yes {
            if text {
                done.plan.items.iter().for_each(|item| tell(format_args!("{} would be removed", item.title())));
                show_kept(&done.plan.kept);
            }
            let is_asked_for = self.dry_run || (done.plan.items.is_empty() && !self.images);
            return if is_asked_for { Ok(Exit::Done) } else { Err(Error::Unconfirmed) };
        }
        let lock = Lock::acquire(&cluster, "uninstall", &self.lock).await?;
        lock.hold(self.remove(&uninstall, &cluster, done)).await
    }

    async fn remove(
        &self,
        uninstall: &uninstall::Uninstall,
        cluster: &Cluster,
        done: &mut UninstallProgress,
    ) -> Result<Exit, Error> {
        let text = self.output == Output::Text;
        let show = |progress: Progress<'_>| match progress {
            Progress::Removed(item) if text => tell(format_args!("{} removed", item.title())),
            Progress::Removed(_) => {}
            Progress::Stripped(object, finalizer) => {
                let why = "for vc-manager does not run";
                vcterminal::say(format_args!("{object}: finalizer {finalizer} taken away, {why}"));
            }
            Progress::Waiting(object) => vcterminal::say(format_args!("waiting for {object}")),
        };
        uninstall.run(cluster, &mut done.outcomes, show).await?;
        if text {
            show_kept(&done.outcomes.kept);
        }
        if self.images { self.prune(cluster, done).await } else { Ok(Exit::Done) }
    }

    /// Removes every pushed image from the nodes that nothing in the cluster uses by now. Containers of pods that are gone from
    /// the API take a moment to end on their nodes, and keep their images until then.
    async fn prune(&self, cluster: &Cluster, done: &mut UninstallProgress) -> Result<Exit, Error> {
        let ssh = self.ssh.options();
        let nodes = self.nodes.find(&self.ssh).await?;
        let is_namespace_kept = done.outcomes.kept.iter().any(|one| one.kind == "Namespace");
        let deadline = Instant::now() + self.timeout.min(CONTAINERS_END_WITHIN);
        loop {
            let prune = prune::Prune {
                used: Some(ImagesInUse::by(cluster, usize::MAX).await?),
                all: true,
                dry_run: false,
                binary: Binary::this()?,
                settings: self.containerd.settings(&self.ssh),
                parallel: self.parallel.get(),
                retries: self.retries,
            };
            let outcomes = prune.run(nodes.clone(), |node| transport::to_node(node, &ssh)).await;
            let report = merged(done.images.take(), PruneReport::new(&outcomes, false));
            let is_over = is_namespace_kept || !has_ending(&report, &self.namespace) || Instant::now() > deadline;
            done.images = Some(report);
            if is_over {
                for error in prune::errors(&outcomes) {
                    vcterminal::report(&error);
                }
                return Ok(prune::exit(&outcomes));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether an image stays on a node for a container of the namespace that is gone.
fn has_ending(report: &PruneReport, namespace: &NamespaceName) -> bool {
    let ours = format!("pod {namespace}/");
    let kept = report.nodes.iter().flat_map(|node| &node.images).filter_map(|image| image.kept_by.as_deref());
    kept.into_iter().any(|by| by.starts_with(&ours))
}

/// A later report with what an earlier one says was removed.
fn merged(earlier: Option<PruneReport>, mut later: PruneReport) -> PruneReport {
    let Some(earlier) = earlier else { return later };
    later.bytes_freed += earlier.bytes_freed;
    for (before, now) in earlier.nodes.into_iter().zip(&mut later.nodes) {
        now.images.splice(0..0, before.images.into_iter().filter(|image| image.removed));
        now.blobs_freed += before.blobs_freed;
        now.blob_bytes_freed += before.blob_bytes_freed;
        now.unpacked_bytes_freed += before.unpacked_bytes_freed;
    }
    later
}

fn show_kept(kept: &[Kept]) {
    for one in kept {
        tell(format_args!("{}/{} stays: {}", one.kind.to_lowercase(), one.name, one.why));
    }
}

fn summary(done: &UninstallProgress, dry_run: bool, elapsed: Duration) -> Text {
    if dry_run {
        return Text::of(format_args!("{} objects would be removed; nothing was", done.plan.items.len()));
    }
    let mut text = Text::default();
    if let Some(report) = &done.images {
        text.text(&Text::from(&report.table())).text(&report.freed().collect());
    }
    text.line(format_args!("{} objects removed in {}", done.outcomes.removed.len(), vcterminal::duration(elapsed)));
    text
}

#[cfg(test)]
mod tests {
    use super::{has_ending, merged};
    use crate::prune::{Decision, NodePruned, PruneReport};

    fn report(images: &[(&str, Option<&str>)]) -> PruneReport {
        let decision = |(name, kept_by): &(&str, Option<&str>)| Decision {
            name: (*name).to_owned(),
            digest: String::new(),
            records: Vec::new(),
            removed: kept_by.is_none(),
            kept_by: kept_by.map(str::to_owned),
        };
        let node = NodePruned {
            name: "worker".to_owned(),
            via: None,
            images: images.iter().map(decision).collect(),
            blobs_freed: 1,
            blob_bytes_freed: 10,
            unpacked_bytes_freed: 100,
            error: None,
        };
        PruneReport { nodes: vec![node], dry_run: false, bytes_freed: 10 }
    }

    #[test]
    fn containers_of_the_namespace_are_waited_for_and_no_others() {
        let namespace = "vc-manager".parse().unwrap();
        assert!(has_ending(&report(&[("a", None), ("b", Some("pod vc-manager/vc-syncer-1"))]), &namespace));
        for by in ["pod vc-manager-2/x", "pod other/x", "container 1", "deployment vc-manager/x"] {
            assert!(!has_ending(&report(&[("a", Some(by))]), &namespace), "{by}");
        }
    }

    #[test]
    fn what_was_removed_at_first_is_in_the_report_too() {
        let first = report(&[("a", None), ("b", Some("pod vc-manager/x"))]);
        let all = merged(Some(first), report(&[("b", None)]));
        let node = &all.nodes[0];
        let names: Vec<&str> = node.images.iter().map(|image| image.name.as_str()).collect();
        assert_eq!((names, node.blobs_freed, all.bytes_freed), (vec!["a", "b"], 2, 20));
        assert_eq!(merged(None, report(&[])), report(&[]));
    }
}
