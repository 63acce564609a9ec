//! `vcdist deploy`: makes the objects, writes them to files if asked, applies them and waits until they hold.

use std::io;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use clap::Args;
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use vcmanifests::Object;
use vcterminal::{Exit, Output, tell};

use crate::cli::changes::{self, Changes};
use crate::cli::interrupt::Interrupt;
use crate::cli::manifests::{self, Given, ManifestArgs};
use crate::cli::release::{self, OtherManifests};
use crate::cli::render;
use crate::cluster::{self, Cluster, ClusterArgs};
use crate::duration::parse_duration;
use crate::lock::{self, Lock, LockArgs};
use crate::manifests::NamedImage;
use crate::nodes;
use crate::push::report;
use crate::rollout::{self, Outcomes, Part, Permissions, Plan, Release, Rollout};

/// How long a request under way may take after a signal.
const LAST_REQUEST: Duration = Duration::from_secs(10);

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist deploy --dry-run
  vcdist deploy --atomic
  vcdist deploy --nodes worker1,worker2
  vcdist deploy --no-apply --output-dir manifests
  kubectl kustomize shop | vcdist deploy --manifests - --name shop --namespace shop";

/// Apply VirtualCluster's manifests, with images by digest, and wait until they run.
///
/// Each deployment is recorded as a revision (`vcdist history`, `vcdist rollback`). At its end, it removes objects that only
/// earlier revisions had.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Deploy {
    #[command(flatten)]
    manifests: ManifestArgs,

    #[command(flatten)]
    others: OtherManifests,

    /// Show what would change, and change nothing
    ///
    /// vcdist asks the API server, which checks every object.
    #[arg(long)]
    dry_run: bool,

    /// Wait so long until everything runs
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    timeout: Duration,

    /// Return to the last ready revision if it fails
    ///
    /// Also on Ctrl-C and SIGTERM; a second one ends the command at once.
    #[arg(long)]
    atomic: bool,

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

    /// Also remove old namespaces, definitions, volumes
    ///
    /// Those that only earlier revisions had, with all objects in them and of them.
    #[arg(long)]
    prune_definitions: bool,

    /// Also write the manifests to this folder
    ///
    /// namespace.yaml, clusterversion-crd.yaml, virtualcluster-crd.yaml and all-in-one.yaml.
    #[arg(long, value_name = "DIR", conflicts_with = "manifests")]
    output_dir: Option<Utf8PathBuf>,

    /// Only write the manifests; no cluster is needed
    #[arg(long, requires = "output_dir", conflicts_with_all = ["dry_run", "atomic", "prune_definitions", "recreate", "kubeconfig", "context", "force_conflicts"])]
    no_apply: bool,

    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,

    #[command(flatten)]
    cluster: ClusterArgs,

    #[command(flatten)]
    lock: LockArgs,
}

/// Why nothing was deployed, or not all.
#[derive(Debug, Error, Diagnostic)]
pub(crate) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifests(#[from] manifests::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Rollout(#[from] rollout::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] lock::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Nodes(#[from] nodes::Error),

    #[error("the deployment failed, and the cluster is back at revision {to}")]
    #[diagnostic(help("deploy again when the cause is removed"))]
    WentBack { to: i64, source: Box<rollout::Error> },

    #[error("the deployment failed ({failure}), and so did going back to revision {to}")]
    #[diagnostic(help("remove the cause and run `vcdist rollback {to}`"))]
    Stuck { to: i64, failure: String, source: Box<rollout::Error> },

    #[error("the deployment failed, and no earlier revision was ready that one could go back to")]
    #[diagnostic(help("what was applied stays; deploy again when the cause is removed"))]
    NothingBefore { source: Box<rollout::Error> },

    #[error("going back was interrupted")]
    #[diagnostic(help("what was applied stays; `vcdist rollback` goes on"))]
    NotBack,

    #[error("listening for signals")]
    #[diagnostic(help("nothing was changed"))]
    Listen(#[source] io::Error),

    #[error("writing the objects as YAML")]
    #[diagnostic(help("this is a defect: please report it"))]
    Yaml { source: Box<dyn std::error::Error + Send + Sync> },

    #[error(transparent)]
    #[diagnostic(transparent)]
    Write(#[from] render::WriteError),

    #[error("printing the result")]
    Print(#[from] io::Error),
}

/// What `--output json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    namespace: &'a str,
    release: Option<&'a str>,
    dry_run: bool,
    #[serde(flatten)]
    changes: Changes<'a>,
    images: &'a [NamedImage],
    rolled_back_to: Option<i64>,
    files: &'a [Utf8PathBuf],
    elapsed_seconds: f64,
    error: Option<String>,
}

/// How far a deployment has come.
#[derive(Debug, Default)]
struct DeployProgress {
    files: Vec<Utf8PathBuf>,
    images: Vec<NamedImage>,
    plan: Plan,
    outcomes: Outcomes,
    rolled_back_to: Option<i64>,
}

impl Deploy {
    pub(crate) async fn run(self) -> Result<Exit, Error> {
        let started = Instant::now();
        let text = self.output == Output::Text;
        let mut done = DeployProgress::default();
        let result = self.deploy(&mut done, text).await;
        match self.output {
            Output::Text if result.is_ok() && !self.no_apply => {
                let DeployProgress { plan, outcomes, .. } = &done;
                vcterminal::print(&changes::summary(plan, outcomes, self.dry_run, "deployed", started.elapsed()))?;
            }
            Output::Text => {}
            // Also where it failed: what was applied is applied.
            Output::Json => vcterminal::print_json(&Document {
                namespace: self.manifests.namespace().as_str(),
                release: self.others.name.as_deref(),
                dry_run: self.dry_run,
                changes: Changes::of(&done.plan, &done.outcomes),
                images: &done.images,
                rolled_back_to: done.rolled_back_to,
                files: &done.files,
                elapsed_seconds: started.elapsed().as_secs_f64(),
                error: result.as_ref().err().map(report::one_line),
            })?,
        }
        result.map(|()| Exit::Done)
    }

    async fn deploy(&self, done: &mut DeployProgress, text: bool) -> Result<(), Error> {
        let given = self.manifests.source(&self.others)?;
        match &given {
            Given::Installation(objects) => done.files = self.write(objects)?,
            Given::Others(manifests) => {
                if text {
                    release::notes(manifests).iter().for_each(tell);
                }
                done.images.clone_from(&manifests.images);
            }
        }
        for file in done.files.iter().filter(|_| text) {
            tell(format_args!("wrote {file}"));
        }
        if self.no_apply {
            return Ok(());
        }
        let cluster = Cluster::connect(&self.cluster).await?;
        if self.dry_run {
            return self.roll_out(&cluster, given, done, text).await;
        }
        let lock = Lock::acquire(&cluster, "deploy", &self.lock).await?;
        let work = self.roll_out(&cluster, given, done, text);
        // At a signal, an atomic deployment goes back before it ends.
        if self.atomic { lock.hold_to_the_end(work).await } else { lock.hold(work).await }
    }

    fn write(&self, objects: &[Object]) -> Result<Vec<Utf8PathBuf>, Error> {
        let Some(folder) = &self.output_dir else { return Ok(Vec::new()) };
        let files = vcmanifests::files(objects).map_err(|error| Error::Yaml { source: error.into() })?;
        Ok(render::write(&files, folder)?)
    }

    async fn roll_out(
        &self,
        cluster: &Cluster,
        given: Given,
        done: &mut DeployProgress,
        text: bool,
    ) -> Result<(), Error> {
        cluster.wait_until(Instant::now() + self.timeout);
        self.manifests.check_nodes(cluster).await?;
        let objects = given.objects(cluster, &self.release()).await?;
        let mut interrupt = match self.atomic && !self.dry_run {
            true => Some(Interrupt::listen().map_err(Error::Listen)?),
            false => None,
        };
        let plan = rollout::plan(cluster, objects, self.permissions());
        done.plan = match &mut interrupt {
            Some(interrupt) => tokio::select! {
                plan = plan => plan?,
                () = interrupt.next() => return Err(rollout::Error::Interrupted.into()),
            },
            None => plan.await?,
        };
        if text {
            changes::show_kept(&done.plan.kept);
        }
        if self.dry_run {
            changes::show_plan(&done.plan, text);
            return Ok(());
        }
        let (plan, outcomes) = (&done.plan, &mut done.outcomes);
        let show = |progress: rollout::Progress<'_>| changes::show(progress, text);
        let rollout = self.rollout(None);
        let run = rollout::run(cluster, plan, &rollout, outcomes, show);
        let Some(mut interrupt) = interrupt else {
            return Ok(run.await?);
        };
        let result = tokio::select! {
            result = run => result,
            () = end(&mut interrupt, &rollout.cancel) => Err(rollout::Error::Interrupted),
        };
        match result {
            Ok(()) => Ok(()),
            // What the first step deletes to make it anew is gone before the step counts; the revision is there before.
            Err(failure) if done.outcomes.applied > 0 || done.outcomes.revision.is_some() => {
                tokio::select! {
                    error = self.go_back(cluster, failure, done, text) => Err(error),
                    () = interrupt.next() => Err(Error::NotBack),
                }
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Goes back to the last revision that was ready. What became of it, with what had failed.
    async fn go_back(
        &self,
        cluster: &Cluster,
        failure: rollout::Error,
        done: &mut DeployProgress,
        text: bool,
    ) -> Error {
        // However much time the deployment took, the way back has as much again.
        cluster.wait_until(Instant::now() + self.timeout);
        let revisions = match rollout::revisions(cluster, &self.release()).await {
            Ok(revisions) => revisions,
            Err(source) => {
                tracing::warn!("looking for a revision to go back to: {}", report::one_line(&source));
                return failure.into();
            }
        };
        let Some(to) = rollout::last_ready(&revisions) else {
            return Error::NothingBefore { source: Box::new(failure) };
        };
        vcterminal::say(format_args!("the deployment failed: {failure}; going back to revision {}", to.number));
        let back = async {
            let plan = rollout::plan_back(cluster, to, self.permissions()).await?;
            let show = |progress: rollout::Progress<'_>| changes::show(progress, text);
            rollout::run(cluster, &plan, &self.rollout(Some(to.number)), &mut Outcomes::default(), show).await
        };
        match back.await {
            Ok(()) => {
                done.rolled_back_to = Some(to.number);
                Error::WentBack { to: to.number, source: Box::new(failure) }
            }
            Err(source) => {
                Error::Stuck { to: to.number, failure: report::one_line(&failure), source: Box::new(source) }
            }
        }
    }

    fn release(&self) -> Release {
        self.others.release(&self.manifests.namespace())
    }

    fn permissions(&self) -> Permissions {
        Permissions { force_conflicts: self.force_conflicts, prune_definitions: self.prune_definitions }
    }

    fn rollout(&self, rollback_to: Option<i64>) -> Rollout {
        Rollout {
            force_conflicts: self.force_conflicts,
            recreate: self.recreate,
            timeout: self.timeout,
            rollback_to,
            part: Part::All,
            cancel: CancellationToken::new(),
        }
    }
}

/// Ends a rollout at a signal: its request under way has some time to complete, so that it does not change anything later.
async fn end(interrupt: &mut Interrupt, cancel: &CancellationToken) {
    interrupt.next().await;
    cancel.cancel();
    tokio::time::sleep(LAST_REQUEST).await;
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Deploy;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        deploy: Deploy,
    }

    #[test]
    fn files_alone_need_a_folder_and_no_cluster() {
        let parse = |arguments: &[&str]| Command::try_parse_from([&["deploy"], arguments].concat());
        assert!(parse(&["--no-apply"]).is_err());
        assert!(parse(&["--no-apply", "--output-dir", "x", "--dry-run"]).is_err());
        assert!(parse(&["--no-apply", "--output-dir", "x"]).unwrap().deploy.no_apply);
    }
}
