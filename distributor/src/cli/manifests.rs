//! The options that decide which objects an installation consists of. Deploy and diff take the same.

use camino::Utf8PathBuf;
use clap::Args;
use miette::Diagnostic;
use thiserror::Error;
use vcmanifests::{Component, ImageReference, NamespaceName, Object, Parameters, Toleration, Values};
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

    /// The port for vn-agent's metrics [default: 9100]
    ///
    /// On every worker. Choose another one if node-exporter uses it. The same as --set vnAgent.metricsPort=PORT.
    #[arg(long, value_name = "PORT")]
    vn_agent_metrics_port: Option<u16>,

    /// Read values from this YAML file
    ///
    /// Arguments, resources, replicas and others; `vcdist render --show-values` prints all with their defaults. Repeatable: a
    /// later file overrides an earlier one.
    #[arg(long, value_name = "FILE")]
    values: Vec<Utf8PathBuf>,

    /// Change one value, such as syncer.replicas=2
    ///
    /// VALUE is YAML. Repeatable; overrides the files.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,

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

    #[error(transparent)]
    #[diagnostic(transparent)]
    Values(#[from] vcmanifests::Error),

    #[error("reading the values of {path}")]
    #[diagnostic(help("give a YAML file that can be read with --values"))]
    Read { path: Utf8PathBuf, source: std::io::Error },
}

impl ManifestArgs {
    /// Every object, in dependency order.
    pub(super) fn objects(&self) -> Result<Vec<Object>, Error> {
        let store = self.store.clone().unwrap_or_else(Store::default_path);
        let (images, architectures) = images::resolve(&self.given, &self.images, &store)?;
        let mut parameters = Parameters {
            namespace: self.namespace.clone(),
            tolerations: self.tolerate.clone(),
            placement: self.choice.choice().placement()?,
            architectures,
            ..Parameters::new(images)
        };
        self.all_values()?.apply(&mut parameters)?;
        Ok(vcmanifests::objects(&parameters))
    }

    /// Every value of files and options, over the defaults.
    pub(super) fn all_values(&self) -> Result<Values, Error> {
        let mut values = Values::default();
        for path in &self.values {
            let text = vcstore::text::read(path);
            let text = text.map_err(|source| Error::Read { path: path.clone(), source })?;
            values = values.with_yaml(&text, path.as_str())?;
        }
        for setting in &self.settings {
            values = values.with_setting(setting)?;
        }
        if let Some(port) = self.vn_agent_metrics_port {
            values = values.with_setting(&format!("vnAgent.metricsPort={port}"))?;
        }
        Ok(values)
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
