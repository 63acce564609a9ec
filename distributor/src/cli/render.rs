//! `vcdist render`: the objects of a deployment as plain YAML or as a chart for Helm, without a cluster.

use std::collections::BTreeMap;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use miette::Diagnostic;
use thiserror::Error;
use vcmanifests::{Chart, Object, Values, YamlError};
use vcterminal::{Exit, Text, tell};

use crate::cli::chart::{self, Written};
use crate::cli::manifests::{self, ManifestArgs};
use crate::cli::release::{self, OtherManifests};
use crate::cluster::{self, Cluster, ClusterArgs};
use crate::manifests::Manifests;
use crate::rollout::images;

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist render
  vcdist render --set syncer.replicas=2 --output-dir manifests
  vcdist render --helm chart
  vcdist render --manifests shop --name shop --namespace shop
  vcdist render --show-values";

/// Print the objects of a deployment as YAML.
///
/// The objects are in the order in which `vcdist deploy` applies them, and the same input gives the same bytes. No cluster is
/// needed; for --manifests, one that --kubeconfig or --context names says which kinds have namespaces.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Render {
    #[command(flatten)]
    manifests: ManifestArgs,

    #[command(flatten)]
    others: OtherManifests,

    /// Write files to this folder instead
    ///
    /// namespace.yaml, clusterversion-crd.yaml, virtualcluster-crd.yaml and all-in-one.yaml.
    #[arg(long, value_name = "DIR", conflicts_with = "manifests")]
    output_dir: Option<Utf8PathBuf>,

    /// Write a Helm chart to this folder instead
    ///
    /// With its default values, Helm installs the same objects, but for the namespace. Replaces a chart that this command wrote, and
    /// refuses a folder with other or changed files.
    #[arg(long, value_name = "DIR", conflicts_with = "output_dir")]
    helm: Option<Utf8PathBuf>,

    /// Print the values instead of the objects
    ///
    /// Each value that --values and --set change, with its default where nothing else is given.
    #[arg(long, conflicts_with_all = ["output_dir", "helm", "manifests"])]
    show_values: bool,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Why nothing was rendered.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifests(#[from] manifests::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Images(#[from] images::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Others(#[from] crate::manifests::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Chart(#[from] chart::Error),

    #[error("a cluster is asked only for --manifests")]
    #[diagnostic(help("leave --kubeconfig, --context and --api-timeout out, or give --manifests"))]
    NoCluster,

    #[error("writing the objects as YAML")]
    #[diagnostic(help("this is a defect: please report it"))]
    Yaml { source: Box<dyn std::error::Error + Send + Sync> },

    #[error(transparent)]
    #[diagnostic(transparent)]
    Write(#[from] WriteError),

    #[error("printing the objects")]
    Print(#[from] io::Error),
}

/// A file that was not written.
#[derive(Debug, Error, Diagnostic)]
#[error("writing {path}")]
#[diagnostic(help("give a folder that can be written to with --output-dir"))]
pub(crate) struct WriteError {
    path: Utf8PathBuf,
    source: io::Error,
}

impl Render {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        if self.others.manifests.is_empty() && self.names_cluster() {
            return Err(Error::NoCluster);
        }
        if self.show_values {
            let values = self.manifests.all_values()?;
            vcterminal::print(Text::default().program(&vcmanifests::to_yaml(&values).map_err(yaml)?))?;
        } else if let Some(folder) = &self.helm {
            let chart = self.chart().await?;
            let written = chart::write(&chart, folder)?;
            for note in &chart.notes {
                tell(format_args!("{note}"));
            }
            match written {
                Written::New => tell(format_args!("wrote the chart {} to {folder}", chart.name)),
                Written::Same => tell(format_args!("{folder} has this chart already")),
            }
        } else if let Some(folder) = &self.output_dir {
            for path in write(&vcmanifests::files(&self.objects().await?).map_err(yaml)?, folder)? {
                tell(format_args!("wrote {path}"));
            }
        } else {
            vcterminal::print(Text::default().program(&vcmanifests::yaml(&self.objects().await?).map_err(yaml)?))?;
        }
        Ok(Exit::Done)
    }

    async fn chart(&self) -> Result<Chart, Error> {
        if let (Some(name), false) = (&self.others.name, self.others.manifests.is_empty()) {
            let objects = self.objects().await?;
            return vcmanifests::release_chart(name, self.manifests.namespace().as_str(), &objects).map_err(yaml);
        }
        self.others.refuse_name_alone()?;
        let (images, architectures) =
            images::resolve(self.manifests.given(), self.manifests.named(), &self.manifests.store())?;
        let parameters = self.manifests.parameters(images, architectures, &Values::default())?;
        vcmanifests::installation_chart(&parameters).map_err(yaml)
    }

    async fn objects(&self) -> Result<Vec<Object>, Error> {
        match self.manifests.source(&self.others)? {
            manifests::Given::Installation(objects) => Ok(objects),
            manifests::Given::Others(manifests) => self.others_objects(&manifests).await,
        }
    }

    async fn others_objects(&self, manifests: &Manifests) -> Result<Vec<Object>, Error> {
        // Not among the objects.
        release::notes(manifests).iter().for_each(vcterminal::say);
        let release = self.others.release(&self.manifests.namespace());
        if self.names_cluster() {
            let cluster = Cluster::connect(&self.cluster).await?;
            return Ok(manifests.objects(&cluster, &release).await?);
        }
        Ok(manifests.objects_without_cluster(&release)?)
    }

    fn names_cluster(&self) -> bool {
        let ClusterArgs { kubeconfig, context, api_timeout } = &self.cluster;
        kubeconfig.is_some() || context.is_some() || api_timeout.is_some()
    }
}

fn yaml(error: YamlError) -> Error {
    Error::Yaml { source: error.into() }
}

/// Writes files into a folder, which is made where there is none. Their paths.
pub(super) fn write(files: &BTreeMap<String, String>, folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>, WriteError> {
    let mut written = Vec::new();
    for (name, text) in files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|source| WriteError { path: parent.to_owned(), source })?;
        std::fs::write(&path, text).map_err(|source| WriteError { path: path.clone(), source })?;
        written.push(path);
    }
    Ok(written)
}
