//! `vcdist deploy`: makes the objects, writes them to files if asked, applies them and waits until they hold.

use std::io;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use clap::Args;
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;
use vcmanifests::{Component, ImageReference, NamespaceName, Object, Parameters, Toleration};
use vcstore::Store;
use vcterminal::{Exit, Output, Text, tell, tell_text};

use crate::cli::nodes::ChoiceArgs;
use crate::cli::values::{component_image, namespace, toleration};
use crate::cluster::{self, Cluster, ClusterArgs};
use crate::duration::parse_duration;
use crate::nodes::{self, Choice};
use crate::push::report;
use crate::rollout::{self, Change, Outcomes, Plan, Progress, Ready, Step, images, title};

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist deploy --dry-run
  vcdist deploy --nodes worker1,worker2
  vcdist deploy --no-apply --output-dir manifests";

/// Apply VirtualCluster's manifests, with images by digest, and wait until they run.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Deploy {
    /// Images of the store [default: manager, syncer, vn-agent]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,

    /// Show what would change, and change nothing
    ///
    /// vcdist asks the API server, which checks every object.
    #[arg(long)]
    dry_run: bool,

    /// The namespace to deploy to
    #[arg(short, long, value_name = "NAME", default_value_t, value_parser = namespace)]
    namespace: NamespaceName,

    /// Run this image, which the nodes have
    ///
    /// Instead of one of the store; repeatable, once for each component.
    #[arg(long = "image", value_name = "COMPONENT=NAME@DIGEST", value_parser = component_image)]
    given: Vec<(Component, ImageReference)>,

    /// Wait so long until everything runs
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    timeout: Duration,

    /// Take over fields that another manager set
    ///
    /// Such as kubectl, helm or a person.
    #[arg(long)]
    force_conflicts: bool,

    /// The port for vn-agent's metrics
    ///
    /// On every worker. Choose another one if node-exporter uses it.
    #[arg(long, value_name = "PORT", default_value_t = Parameters::METRICS_PORT)]
    vn_agent_metrics_port: u16,

    /// Also write the manifests to this folder
    ///
    /// namespace.yaml, clusterversion-crd.yaml, virtualcluster-crd.yaml and all-in-one.yaml.
    #[arg(long, value_name = "DIR")]
    output_dir: Option<Utf8PathBuf>,

    /// Only write the manifests; no cluster is needed
    #[arg(long, requires = "output_dir", conflicts_with_all = ["dry_run", "kubeconfig", "context", "force_conflicts"])]
    no_apply: bool,

    /// The store [default: ~/.cache/vcbuild/store]
    ///
    /// $VCBUILD_STORE overrides the default, $XDG_CACHE_HOME replaces ~/.cache.
    #[arg(long, value_name = "DIR")]
    store: Option<Utf8PathBuf>,

    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,

    #[command(flatten)]
    choice: ChoiceArgs,

    /// Also run on nodes with this taint: KEY[=VALUE][:EFFECT]
    ///
    /// Repeatable.
    #[arg(long, value_name = "TAINT", value_parser = toleration)]
    tolerate: Vec<Toleration>,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Why nothing was deployed, or not all.
#[derive(Debug, Error, Diagnostic)]
pub(crate) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Images(#[from] images::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Rollout(#[from] rollout::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Nodes(#[from] nodes::Error),

    #[error("writing the objects as YAML")]
    #[diagnostic(help("this is a defect: please report it"))]
    Yaml { source: Box<dyn std::error::Error + Send + Sync> },

    #[error("writing {path}")]
    #[diagnostic(help("give a folder that can be written to with --output-dir"))]
    Write { path: Utf8PathBuf, source: io::Error },

    #[error("printing the result")]
    Print(#[from] io::Error),
}

/// What `--output json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    namespace: &'a str,
    dry_run: bool,
    objects: Vec<ObjectEntry<'a>>,
    ready: &'a [Ready],
    restarted: &'a [String],
    revision: Option<i64>,
    files: &'a [Utf8PathBuf],
    elapsed_seconds: f64,
    error: Option<String>,
}

/// One object of the document.
#[derive(Debug, Serialize)]
struct ObjectEntry<'a> {
    kind: &'static str,
    name: &'a str,
    namespace: Option<&'a str>,
    #[serde(flatten)]
    change: &'a Change,
    applied: bool,
}

/// How far a deployment has come.
#[derive(Debug, Default)]
struct DeployProgress {
    files: Vec<Utf8PathBuf>,
    plan: Plan,
    outcomes: Outcomes,
}

impl Deploy {
    pub(crate) async fn run(self) -> Result<Exit, Error> {
        let started = Instant::now();
        let text = self.output == Output::Text;
        let mut done = DeployProgress::default();
        let result = self.deploy(&mut done, text).await;
        match self.output {
            Output::Text if result.is_ok() && !self.no_apply => {
                vcterminal::print(&summary(&done, self.dry_run, started.elapsed()))?;
            }
            Output::Text => {}
            // Also where it failed: what was applied is applied.
            Output::Json => vcterminal::print_json(&Document {
                namespace: self.namespace.as_str(),
                dry_run: self.dry_run,
                objects: done
                    .plan
                    .steps
                    .iter()
                    .enumerate()
                    .map(|(i, step)| entry(step, i < done.outcomes.applied))
                    .collect(),
                ready: &done.outcomes.ready,
                restarted: &done.outcomes.restarted,
                revision: done.outcomes.revision,
                files: &done.files,
                elapsed_seconds: started.elapsed().as_secs_f64(),
                error: result.as_ref().err().map(report::one_line),
            })?,
        }
        result.map(|()| Exit::Done)
    }

    async fn deploy(&self, done: &mut DeployProgress, text: bool) -> Result<(), Error> {
        let objects = self.objects()?;
        done.files = self.write(&objects)?;
        for file in done.files.iter().filter(|_| text) {
            tell(format_args!("wrote {file}"));
        }
        if self.no_apply { Ok(()) } else { self.roll_out(objects, done, text).await }
    }

    fn objects(&self) -> Result<Vec<Object>, Error> {
        let store = self.store.clone().unwrap_or_else(Store::default_path);
        let (images, architectures) = images::resolve(&self.given, &self.images, &store)?;
        Ok(vcmanifests::objects(&Parameters {
            namespace: self.namespace.clone(),
            tolerations: self.tolerate.clone(),
            placement: self.choice.choice().placement()?,
            architectures,
            vn_agent_metrics_port: self.vn_agent_metrics_port,
            ..Parameters::new(images)
        }))
    }

    fn write(&self, objects: &[Object]) -> Result<Vec<Utf8PathBuf>, Error> {
        let Some(folder) = &self.output_dir else { return Ok(Vec::new()) };
        let files = vcmanifests::files(objects).map_err(|error| Error::Yaml { source: error.into() })?;
        std::fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
        let mut written = Vec::new();
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|source| Error::Write { path: path.clone(), source })?;
            written.push(path);
        }
        Ok(written)
    }

    async fn roll_out(&self, objects: Vec<Object>, done: &mut DeployProgress, text: bool) -> Result<(), Error> {
        let cluster = Cluster::connect(&self.cluster).await?;
        cluster.wait_until(Instant::now() + self.timeout);
        let choice = self.choice.choice();
        if choice != Choice::default() {
            // Refuses names that there are no nodes of, and a choice that leaves none.
            nodes::from_api(&cluster, &choice).await?;
        }
        done.plan = rollout::plan(&cluster, objects, self.force_conflicts).await?;
        let show = |progress: Progress<'_>| match progress {
            Progress::Applied(step) if text => tell_text(&describe(step)),
            Progress::Restarted(stuck) if text => tell(format_args!("pod restarted: {stuck}")),
            Progress::Woken(object) if text => tell(format_args!("{object}: its controller tries again now")),
            Progress::Held(object, why) => vcterminal::say(format_args!("waiting for {object}: {why}")),
            Progress::Applied(_) | Progress::Restarted(_) | Progress::Woken(_) => {}
        };
        if self.dry_run {
            done.plan.steps.iter().map(Progress::Applied).for_each(show);
            return Ok(());
        }
        let (plan, outcomes) = (&done.plan, &mut done.outcomes);
        Ok(rollout::run(&cluster, plan, self.force_conflicts, self.timeout, outcomes, show).await?)
    }
}

/// One line for the object, and one below it for every field that differs.
fn describe(step: &Step) -> Text {
    let title = title(&step.object);
    match &step.change {
        Change::Created => Text::of(format_args!("{title} created")),
        Change::Unchanged => Text::of(format_args!("{title} unchanged")),
        Change::Configured(fields) => {
            let mut text = Text::of(format_args!("{title} configured"));
            for field in fields {
                let [from, to] = [&field.from, &field.to].map(|value| short(value.as_deref().unwrap_or("(none)")));
                text.line(format_args!("    {}: {from} -> {to}", field.field));
            }
            text
        }
    }
}

/// A value on a terminal: whole rules and schemas would bury the lines around them. JSON has them in full.
fn short(value: &str) -> String {
    const WIDTH: usize = 120;
    match value.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

fn summary(DeployProgress { plan, outcomes, .. }: &DeployProgress, dry_run: bool, elapsed: Duration) -> Text {
    if dry_run {
        let changes = plan.steps.iter().filter(|step| step.change != Change::Unchanged).count();
        return Text::of(format_args!("{changes} of {} objects would change; nothing was", plan.steps.len()));
    }
    let mut text = Text::default();
    for ready in outcomes.ready.iter().filter(|ready| matches!(ready.kind, "Deployment" | "DaemonSet")) {
        text.line(format_args!("{}/{} is ready: {}", ready.kind.to_lowercase(), ready.name, ready.ready));
    }
    if let Some(revision) = outcomes.revision {
        text.line(format_args!("recorded as revision {revision}"));
    }
    text.line(format_args!("deployed in {}", vcterminal::duration(elapsed)));
    text
}

fn entry(step: &Step, applied: bool) -> ObjectEntry<'_> {
    let object = &step.object;
    ObjectEntry {
        kind: object.kind(),
        name: object.name(),
        namespace: object.namespace(),
        change: &step.change,
        applied,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;
    use vcmanifests::Object;

    use super::{Change, Deploy, Step, describe};
    use crate::rollout::FieldChange;

    fn step(change: Change) -> Step {
        let namespace = serde_json::from_value(json!({ "metadata": { "name": "vc-manager" } })).unwrap();
        Step { object: Object::Namespace(namespace), change, settled: false }
    }

    #[test]
    fn each_object_has_a_line_and_each_field_one_below_it() {
        let field = |to: &str| FieldChange { field: "a.b".to_owned(), from: None, to: Some(to.to_owned()) };
        assert_eq!(describe(&step(Change::Created)).as_str(), "namespace/vc-manager created\n");
        assert_eq!(describe(&step(Change::Unchanged)).as_str(), "namespace/vc-manager unchanged\n");
        assert_eq!(
            describe(&step(Change::Configured(vec![field("x"), field(&"ü".repeat(200))]))).to_string(),
            format!("namespace/vc-manager configured\n    a.b: (none) -> x\n    a.b: (none) -> {}…\n", "ü".repeat(120))
        );
    }

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
