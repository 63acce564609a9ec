//! `vcdist diff`: what a deployment would change in the cluster, or how the cluster differs from a revision.

use std::io;

use clap::Args;
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;
use vcterminal::{Exit, Output, Text};

use crate::cli::changes::describe;
use crate::cli::manifests::{self, ManifestArgs};
use crate::cli::release::OtherManifests;
use crate::cluster::{self, Cluster, ClusterArgs};
use crate::rollout::{self, Change, Difference};

/// Show what a deployment would change in the cluster, field by field.
///
/// The API server answers in dry runs; nothing is changed. Exit codes: 0 nothing differs, 1 the comparison failed, 3 something
/// differs.
#[derive(Debug, Args)]
pub(super) struct Diff {
    #[command(flatten)]
    manifests: ManifestArgs,

    #[command(flatten)]
    others: OtherManifests,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Compare with this revision instead
    ///
    /// Also shows what others added to its objects.
    #[arg(long, value_name = "N", conflicts_with_all = ["images", "given", "store", "tolerate", "vn_agent_metrics_port", "values", "settings", "manifests", "nodes",
        "selector", "exclude", "include_control_plane"])]
    revision: Option<i64>,

    /// Also show removed namespaces and definitions
    ///
    /// As `vcdist deploy --prune-definitions` removes them.
    #[arg(long)]
    prune_definitions: bool,

    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// Why nothing was compared.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifests(#[from] manifests::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Rollout(#[from] rollout::Error),

    #[error("printing the differences")]
    Print(#[from] io::Error),
}

/// `vcdist diff --output json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    namespace: &'a str,
    revision: Option<i64>,
    objects: Vec<Difference>,
    differs: bool,
}

impl Diff {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        let given = if self.revision.is_none() { Some(self.manifests.source(&self.others)?) } else { None };
        let cluster = Cluster::connect(&self.cluster).await?;
        let namespace = &self.manifests.namespace();
        let release = self.others.release(namespace);
        let objects = match (given, self.revision) {
            (None, Some(number)) => {
                let revisions = rollout::revisions(&cluster, &release).await?;
                let revision = rollout::find(&revisions, number, namespace.as_str())?;
                rollout::drift(&cluster, revision, self.prune_definitions).await?
            }
            (Some(given), _) => {
                let objects = given.objects(&cluster, &release).await?;
                rollout::differences(&cluster, objects, self.prune_definitions).await?
            }
            (None, None) => Vec::new(),
        };
        let differs = objects.iter().any(Difference::is_any);
        let document = Document { namespace: namespace.as_str(), revision: self.revision, objects, differs };
        self.output.print(&document, text)?;
        Ok(if differs { Exit::Difference } else { Exit::Done })
    }
}

fn text(document: &Document<'_>) -> Text {
    let mut text = Text::default();
    for object in &document.objects {
        let title = format!("{}/{}", object.kind.to_lowercase(), object.name);
        if object.change != Change::Unchanged {
            text.text(&describe(&title, &object.change));
        }
        for conflict in &object.conflicts {
            text.line(format_args!(
                "{title}: {} belongs to {:?}; --force-conflicts takes it over",
                conflict.field, conflict.manager
            ));
        }
        if let Some(why) = &object.kept {
            text.line(format_args!("{title} is in no current revision and stays: {why}"));
        }
    }
    let count = document.objects.iter().filter(|object| object.is_any()).count();
    let of =
        document.revision.map_or_else(|| "what would be deployed".to_owned(), |number| format!("revision {number}"));
    text.line(format_args!("{count} of {} objects differ from {of}", document.objects.len()));
    text
}
