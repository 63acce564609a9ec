//! `vcdist run`: the whole flow from the check of the cluster to the check of what runs, in one command that can be repeated.

mod deployment;
mod steps;
mod wishes;

use std::io;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use clap::Args;
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;
use vcterminal::{Exit, Output, Text};
use vcvariables::Report;
use vcvariables::settings::RoleSettings;
use vcvariables::table::Effect;

use crate::cli::images;
use crate::cli::manifests::{self, ManifestArgs};
use crate::cli::nodes::{Containerd, Ssh};
use crate::cli::role::RoleArgs;
use crate::cluster::{self, Cluster, ClusterArgs};
use crate::duration::parse_duration;
use crate::lock::{self, Lock, LockArgs};
use crate::push::report;
use crate::run::{self, Ending, Step, StepReport, source, vcbuild, workers};
use crate::{nodes, rollout, session};
use steps::Flow;
use wishes::Wishes;

/// The age of events that verify counts.
const SINCE: Duration = Duration::from_secs(600);

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist run --vars ~/ansible-linux-setup --plan      # what the role's variables come to
  vcdist run --vars ~/ansible-linux-setup
  vcdist run -- --source-dir virtualcluster --base debian
  vcdist run --from distribute                        # the images of the store";

/// Do everything from the check of the cluster to running pods.
///
/// The flow of the Ansible role: validate, detect, build, distribute, namespace, crds, workloads, verify. It can be repeated: each
/// step does what is left to do, also after an interruption. Exit codes: 0 done, 1 failed, 2 a variable cannot be used, 3 validate
/// or verify found something, 4 some nodes could not be served.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Run {
    /// Only this step, such as verify; repeatable
    #[arg(long, value_enum, value_name = "STEP", conflicts_with = "from", hide_possible_values = true)]
    step: Vec<Step>,

    /// This step and those after it
    #[arg(long, value_enum, value_name = "STEP", hide_possible_values = true)]
    from: Option<Step>,

    /// Show what would be done, and change nothing
    ///
    /// Also what the role would delete. vcdist never deletes that.
    #[arg(long)]
    plan: bool,

    #[command(flatten)]
    role: RoleArgs,

    #[command(flatten)]
    manifests: ManifestArgs,

    /// Import this archive instead of building; repeatable
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vcbuild", "images"])]
    archive: Vec<Utf8PathBuf>,

    /// Arguments for `vcbuild images`, after --
    #[arg(last = true, value_name = "VCBUILD-ARGUMENT")]
    vcbuild: Vec<String>,

    /// Wait so long until all workers are Ready, else fail
    ///
    /// By default as the variables say, else not at all.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait_for_workers: Option<Duration>,

    /// Wait so long until everything runs
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    timeout: Duration,

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

    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,

    #[command(flatten)]
    cluster: ClusterArgs,

    #[command(flatten)]
    lock: LockArgs,

    #[command(flatten)]
    ssh: Ssh,

    /// Retry so often after a connection broke [default: 3]
    #[arg(long, help_heading = "SSH", value_name = "N")]
    retries: Option<u32>,

    #[command(flatten)]
    containerd: Containerd,

    /// Work on so many nodes at once
    #[arg(short = 'j', long, help_heading = "Speed", value_name = "N", default_value = "32")]
    parallel: NonZeroUsize,
}

/// Why a run ended before its end.
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
    Source(#[from] source::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Vcbuild(#[from] vcbuild::Error),
    #[error("finding the images")]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Images(#[from] images::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Components(#[from] rollout::images::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Values(#[from] vcmanifests::Error),
    #[error("k8s_virtualcluster_vc_etcd_scheme is http: the tenants' API servers speak https to their etcd")]
    #[diagnostic(help("set it to https, the role's default"))]
    EtcdScheme,
    #[error("virtualcluster_syncer_feature_gates: {gate:?} is not a feature gate")]
    #[diagnostic(help("write NAME=true or NAME=false"))]
    FeatureGate { gate: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    OwnManifest(#[from] crate::manifests::Error),
    #[error("importing {archive}: it has {count} images, and one component's is expected")]
    #[diagnostic(help("name an archive with one image for each component"))]
    NotOne { archive: Utf8PathBuf, count: usize },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Workers(#[from] workers::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Nodes(#[from] nodes::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Helper(#[from] session::Error),
    #[error("pushing the images: {failed} of {all} nodes could not be served")]
    #[diagnostic(help(
        "see above; nothing was applied. Correct the nodes, or leave them out with --exclude, and run again"
    ))]
    Push { failed: usize, all: usize, exit: Exit },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifests(#[from] manifests::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Rollout(#[from] rollout::Error),
    #[error("validating the cluster: an installation would fail")]
    #[diagnostic(help("see above; nothing was changed. `vcdist validate` checks again"))]
    Validate,
    #[error("verifying the installation: {} failed", checks.join(", "))]
    #[diagnostic(help("see above; `vcdist verify` checks again"))]
    Verify { checks: Vec<&'static str> },
    #[error("printing the report")]
    Print(#[from] io::Error),
}

impl Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Push { exit, .. } => *exit,
            Self::Validate | Self::Verify { .. } => Exit::Difference,
            _ => Exit::Failed,
        }
    }
}

/// `vcdist run --output json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    host: Option<&'a str>,
    enabled: bool,
    plan: bool,
    steps: &'a [StepReport],
    changed: bool,
    never_done: Vec<NeverDone>,
    elapsed_seconds: f64,
    error: Option<String>,
}

/// Something that the role would delete.
#[derive(Debug, Serialize)]
struct NeverDone {
    variable: &'static str,
    what: &'static str,
}

impl Run {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        let begun = Instant::now();
        let report = match self.role.is_given().then(|| self.role.report(None)).transpose() {
            Ok(report) => report,
            Err(error) => {
                vcterminal::report(&error);
                return Ok(Exit::Usage);
            }
        };
        if let Some(report) = &report {
            report.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            if !report.errors.is_empty() {
                report.errors.iter().for_each(|error| vcterminal::report(error));
                return Ok(Exit::Usage);
            }
        }
        let role = report.as_ref().and_then(|report| report.settings.as_ref());
        let enabled = role.is_none_or(|role| role.switches.enabled);
        let mut steps = Vec::new();
        let result = if enabled { self.flow(role, &mut steps).await } else { Ok(()) };
        let host = report.as_ref().map(|report| report.host.as_str());
        let never_done = report.as_ref().map(never_done).unwrap_or_default();
        match self.output {
            Output::Text if !enabled => {
                let host = host.unwrap_or_default();
                let words = "k8s_virtualcluster_enabled is false, so nothing is done";
                vcterminal::print(&Text::of(format_args!("disabled for {host}: {words}")))?;
            }
            Output::Text => vcterminal::print(&text(&steps, &never_done, self.plan, begun.elapsed()))?,
            Output::Json => vcterminal::print_json(&Document {
                host,
                enabled,
                plan: self.plan,
                steps: &steps,
                changed: steps.iter().any(StepReport::changed),
                never_done,
                elapsed_seconds: begun.elapsed().as_secs_f64(),
                error: result.as_ref().err().map(report::one_line),
            })?,
        }
        match result {
            Ok(()) => Ok(Exit::Done),
            Err(error) => {
                vcterminal::report(&error);
                Ok(error.exit())
            }
        }
    }

    /// Takes the steps: those that change the cluster, and what is between them, under its lock.
    async fn flow(&self, role: Option<&RoleSettings>, done: &mut Vec<StepReport>) -> Result<(), Error> {
        let wishes = Wishes::of(self, role)?;
        if let Some(role) = role {
            deployment::folders(role).for_each(|folder| tracing::warn!("{folder}"));
        }
        let cluster = Cluster::connect(&wishes.cluster).await?;
        let user = role.and_then(|role| role.distribution.ssh_user.clone());
        let connect_timeout = role.map(|role| role.register_image.connect_timeout);
        let ssh = self.ssh.clone().or(user, connect_timeout);
        let mut flow = Flow::new(self, &wishes, &cluster, &ssh);
        let selected = run::selected(&self.step, self.from);
        let needs_lock = !self.plan && selected.iter().any(|step| step.changes_cluster());
        let before = if needs_lock { Step::Build } else { Step::Validate };
        let (unlocked, rest): (Vec<Step>, Vec<Step>) = selected.into_iter().partition(|step| *step < before);
        self.take(&mut flow, &unlocked, done).await?;
        if !needs_lock {
            return self.take(&mut flow, &rest, done).await;
        }
        let lock = Lock::acquire(&cluster, "run", &self.lock).await?;
        lock.hold(self.take(&mut flow, &rest, done)).await
    }

    async fn take(&self, flow: &mut Flow<'_>, steps: &[Step], done: &mut Vec<StepReport>) -> Result<(), Error> {
        for step in steps {
            let begun = Instant::now();
            if self.output == Output::Text {
                vcterminal::say(format_args!("{step} …"));
            }
            let ended = flow.step(*step).await;
            let (ending, error) = match ended {
                Ok(ending) => (ending, None),
                Err(error) => (Ending::Failed(report::one_line(&error)), Some(error)),
            };
            done.push(StepReport::new(*step, ending, begun.elapsed()));
            if let Some(error) = error {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// What the role would delete with these variables.
fn never_done(report: &Report) -> Vec<NeverDone> {
    let destroys = report.variables.iter().filter_map(|variable| match variable.row?.effect {
        Effect::Destroys(what) if variable.value.as_ref()?.is_true() => {
            Some(NeverDone { variable: variable.row?.name, what })
        }
        _ => None,
    });
    destroys.collect()
}

fn text(steps: &[StepReport], never_done: &[NeverDone], plan: bool, elapsed: Duration) -> Text {
    let mut text = Text::default();
    if !steps.is_empty() {
        text.table(&run::table(steps));
    }
    for NeverDone { variable, what } in never_done.iter().filter(|_| plan) {
        text.line(format_args!("never done, with {variable}: {what}"));
    }
    let time = vcterminal::duration(elapsed);
    let changed = steps.iter().filter(|step| step.changed()).count();
    match plan {
        true => text.line(format_args!("planned in {time}; nothing was changed")),
        false => text.line(format_args!("{changed} of {} steps changed something, {time}", steps.len())),
    };
    text
}
