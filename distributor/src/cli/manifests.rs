//! The options that decide which objects an installation consists of. Deploy and diff take the same.

use camino::Utf8PathBuf;
use clap::Args;
use miette::Diagnostic;
use thiserror::Error;
use vcmanifests::{Component, ImageReference, NamespaceName, Object, Parameters, Toleration};
use vcstore::Store;

use crate::cli::nodes::ChoiceArgs;
use crate::cli::values::{component_image, namespace, toleration};
use crate::cluster::Cluster;
use crate::nodes::{self, Choice};
use crate::rollout::images;

/// Which images, in which namespace, on which nodes.
#[derive(Debug, Args)]
pub(super) struct ManifestArgs {
    /// Images of the store [default: manager, syncer, vn-agent]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,

    /// The namespace to deploy to
    #[arg(short, long, value_name = "NAME", default_value_t, value_parser = namespace)]
    pub(super) namespace: NamespaceName,

    /// Run this image, which the nodes have
    ///
    /// Instead of one of the store; repeatable, once for each component.
    #[arg(long = "image", value_name = "COMPONENT=NAME@DIGEST", value_parser = component_image)]
    given: Vec<(Component, ImageReference)>,

    /// The port for vn-agent's metrics
    ///
    /// On every worker. Choose another one if node-exporter uses it.
    #[arg(long, value_name = "PORT", default_value_t = Parameters::METRICS_PORT)]
    vn_agent_metrics_port: u16,

    /// The store [default: ~/.cache/vcbuild/store]
    ///
    /// $VCBUILD_STORE overrides the default, $XDG_CACHE_HOME replaces ~/.cache.
    #[arg(long, value_name = "DIR")]
    store: Option<Utf8PathBuf>,

    #[command(flatten)]
    choice: ChoiceArgs,

    /// Also run on nodes with this taint: KEY[=VALUE][:EFFECT]
    ///
    /// Repeatable.
    #[arg(long, value_name = "TAINT", value_parser = toleration)]
    tolerate: Vec<Toleration>,
}

/// Why there are no objects.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Images(#[from] images::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Nodes(#[from] nodes::Error),
}

impl ManifestArgs {
    /// Every object, in dependency order.
    pub(super) fn objects(&self) -> Result<Vec<Object>, Error> {
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

    /// Refuses names that there are no nodes of, and a choice that leaves none.
    pub(super) async fn check_nodes(&self, cluster: &Cluster) -> Result<(), nodes::Error> {
        let choice = self.choice.choice();
        if choice != Choice::default() {
            nodes::from_api(cluster, &choice).await?;
        }
        Ok(())
    }
}
