//! `vcdist history`: the revisions that deployments were recorded as, and the objects of one.

use std::io;

use clap::Args;
use miette::Diagnostic;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;
use vcmanifests::{Component, NamespaceName};
use vcterminal::{Exit, Output, Table, Text};

use crate::cli::release::ReleaseName;
use crate::cli::values::namespace;
use crate::cluster::{self, Cluster, ClusterArgs};
use crate::rollout::{self, Revision};

/// List the recorded deployments and rollbacks, or print one.
///
/// A revision is printed as YAML. Values of Secrets are not recorded: of a Secret with values, only the metadata and a digest
/// of the values are.
#[derive(Debug, Args)]
pub(super) struct History {
    /// Print the objects of this revision
    #[arg(value_name = "REVISION")]
    revision: Option<i64>,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// The namespace of the installation
    #[arg(short, long, value_name = "NAME", default_value_t, value_parser = namespace)]
    namespace: NamespaceName,

    #[command(flatten)]
    release: ReleaseName,

    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// Why there is no history to print.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Rollout(#[from] rollout::Error),

    #[error("writing the objects as YAML")]
    #[diagnostic(help("this is a defect: please report it"))]
    Yaml { source: Box<dyn std::error::Error + Send + Sync> },

    #[error("printing the history")]
    Print(#[from] io::Error),
}

/// `vcdist history --output json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    namespace: &'a str,
    revisions: Vec<Entry<'a>>,
}

/// `vcdist history REVISION --output json`.
#[derive(Debug, Serialize)]
struct OneDocument<'a> {
    namespace: &'a str,
    #[serde(flatten)]
    entry: Entry<'a>,
    items: Vec<&'a Value>,
}

/// One revision.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    revision: i64,
    current: bool,
    recorded_at: Option<String>,
    ready_at: Option<String>,
    user: Option<&'a str>,
    version: Option<&'a str>,
    rollback_to: Option<i64>,
    images: Vec<ImageEntry<'a>>,
    /// How many; null where there are none to be read.
    objects: Option<usize>,
    /// Why the objects cannot be read.
    unreadable: Option<&'a str>,
}

/// One image of a revision.
#[derive(Debug, Serialize)]
struct ImageEntry<'a> {
    component: Option<&'static str>,
    name: &'a str,
    digest: Option<&'a str>,
}

impl History {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        let cluster = Cluster::connect(&self.cluster).await?;
        let revisions = rollout::revisions(&cluster, &self.release.release(&self.namespace)).await?;
        let namespace = self.namespace.as_str();
        let current = revisions.last().map(|revision| revision.number);
        if let Some(number) = self.revision {
            let revision = rollout::find(&revisions, number, namespace)?;
            // What cannot be applied cannot be printed either.
            let objects = revision.objects_as_recorded()?;
            match self.output {
                Output::Text => vcterminal::print(Text::default().program(&yaml(revision)?))?,
                Output::Json => vcterminal::print_json(&OneDocument {
                    namespace,
                    entry: entry(revision, current),
                    items: objects.iter().map(rollout::RecordedObject::value).collect(),
                })?,
            }
            return Ok(Exit::Done);
        }
        let revisions = revisions.iter().rev().map(|revision| entry(revision, current)).collect();
        self.output.print(&Document { namespace, revisions }, text)?;
        Ok(Exit::Done)
    }
}

fn entry(revision: &Revision, current: Option<i64>) -> Entry<'_> {
    let time = |time: k8s_openapi::jiff::Timestamp| time.to_string();
    Entry {
        revision: revision.number,
        current: Some(revision.number) == current,
        recorded_at: revision.recorded_at.map(time),
        ready_at: revision.ready_at.map(time),
        user: revision.user.as_deref(),
        version: revision.version.as_deref(),
        rollback_to: revision.rollback_to,
        images: revision.images.iter().map(|image| of_image(image)).collect(),
        objects: revision.objects.as_ref().ok().map(Vec::len),
        unreadable: revision.objects.as_ref().err().map(String::as_str),
    }
}

fn of_image(reference: &str) -> ImageEntry<'_> {
    let (name, digest) = reference.split_once('@').map_or((reference, None), |(name, digest)| (name, Some(digest)));
    ImageEntry { component: Component::of_image(name).map(Component::name), name, digest }
}

fn text(document: &Document<'_>) -> Text {
    if document.revisions.is_empty() {
        return Text::of(format_args!("no revision is recorded in the namespace {}", document.namespace));
    }
    let mut table = Table::new(["revision", "recorded", "state", "by", "vcdist", "images"]);
    for one in &document.revisions {
        let state = [
            one.current.then(|| "current".to_owned()),
            (one.version.is_some() && one.ready_at.is_none()).then(|| "never ready".to_owned()),
            one.rollback_to.map(|to| format!("rollback to {to}")),
            one.objects.is_none().then(|| "images only".to_owned()),
        ];
        let images = one.images.iter().map(|image| {
            let digest = image.digest.map(|digest| format!("@{}", short(digest))).unwrap_or_default();
            format!("{} {}{digest}", image.component.unwrap_or("-"), image.name)
        });
        let unknown = || "-".to_owned();
        table.row([
            one.revision.to_string(),
            one.recorded_at.clone().unwrap_or_else(unknown),
            state.into_iter().flatten().collect::<Vec<_>>().join(", "),
            one.user.map_or_else(unknown, str::to_owned),
            one.version.map_or_else(unknown, str::to_owned),
            images.collect::<Vec<_>>().join(", "),
        ]);
    }
    Text::from(&table)
}

/// A digest as far as people compare it.
fn short(digest: &str) -> &str {
    let hash = digest.strip_prefix("sha256:").unwrap_or(digest);
    hash.get(..12).unwrap_or(hash)
}

fn yaml(revision: &Revision) -> Result<String, Error> {
    let mut text = String::new();
    for recorded in revision.objects_as_recorded()? {
        if let Some(digest) = recorded.withheld() {
            text += &format!("# The values of {} are not recorded; their digest is {digest}.\n", recorded.title());
        }
    }
    let objects = revision.known_objects()?;
    text += &vcmanifests::yaml(&objects).map_err(|error| Error::Yaml { source: error.into() })?;
    Ok(text)
}
