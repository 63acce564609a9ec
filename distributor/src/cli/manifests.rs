//! The options that decide which objects an installation consists of. Deploy and diff take the same.

use camino::Utf8PathBuf;
use clap::Args;
use miette::Diagnostic;
use thiserror::Error;
use vcmanifests::{
    Architectures, Component, ImageReference, Images, NamespaceName, Object, Parameters, Toleration, Values,
};
use vcstore::Store;

use crate::cli::nodes::ChoiceArgs;
use crate::cli::release::OtherManifests;
use crate::cli::values::{component_image, namespace, toleration};
use crate::cluster::Cluster;
use crate::manifests::Manifests;
use crate::nodes::{self, Choice};
use crate::rollout::{Release, images};

/// Which images, in which namespace, on which nodes.
#[derive(Debug, Args)]
pub(super) struct ManifestArgs {
    /// Images of the store [default: manager, syncer, vn-agent]
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,

    /// The namespace to deploy to [default: vc-manager]
    #[arg(short, long, value_name = "NAME", value_parser = namespace)]
    namespace: Option<NamespaceName>,

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

/// What is rolled out.
#[derive(Debug)]
pub(super) enum Given {
    /// The installation of VirtualCluster.
    Installation(Vec<Object>),
    /// Manifests of others.
    Others(Manifests),
}

impl Given {
    /// The objects, in dependency order.
    pub(super) async fn objects(self, cluster: &Cluster, release: &Release) -> Result<Vec<Object>, Error> {
        match self {
            Self::Installation(objects) => Ok(objects),
            Self::Others(manifests) => Ok(manifests.objects(cluster, release).await?),
        }
    }
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

    #[error(transparent)]
    #[diagnostic(transparent)]
    Others(#[from] crate::manifests::Error),

    #[error("a release has a name only with --manifests")]
    #[diagnostic(help(
        "the installation of VirtualCluster is named by its namespace alone: leave --name out, or give --manifests"
    ))]
    NameAlone,

    #[error("reading the values of {path}")]
    #[diagnostic(help("give a YAML file that can be read with --values"))]
    Read { path: Utf8PathBuf, source: std::io::Error },
}

impl ManifestArgs {
    /// What the options say is rolled out.
    pub(super) fn source(&self, others: &OtherManifests) -> Result<Given, Error> {
        if others.manifests.is_empty() {
            others.refuse_name_alone()?;
            return Ok(Given::Installation(self.objects()?));
        }
        let store = self.store.clone().unwrap_or_else(Store::default_path);
        Ok(Given::Others(Manifests::read(&others.manifests, &store)?))
    }

    /// Every object of the installation, in dependency order.
    pub(super) fn objects(&self) -> Result<Vec<Object>, Error> {
        let (images, architectures) = images::resolve(&self.given, &self.images, &self.store())?;
        Ok(vcmanifests::objects(&self.parameters(images, architectures, &Values::default())?))
    }

    /// What the objects are made from, with these images, and these values where files and options say nothing else.
    pub(super) fn parameters(
        &self,
        images: Images,
        architectures: Architectures,
        base: &Values,
    ) -> Result<Parameters, Error> {
        let mut parameters = Parameters {
            namespace: self.namespace(),
            tolerations: self.tolerate.clone(),
            placement: self.choice.choice().placement()?,
            architectures,
            ..Parameters::new(images)
        };
        self.values_over(base.clone())?.apply(&mut parameters)?;
        Ok(parameters)
    }

    /// Every value of files and options, over the defaults.
    pub(super) fn all_values(&self) -> Result<Values, Error> {
        self.values_over(Values::default())
    }

    fn values_over(&self, mut values: Values) -> Result<Values, Error> {
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

    /// The namespace of the installation.
    pub(super) fn namespace(&self) -> NamespaceName {
        self.named_namespace().cloned().unwrap_or_default()
    }

    /// The namespace, if an option names it.
    pub(super) fn named_namespace(&self) -> Option<&NamespaceName> {
        self.namespace.as_ref()
    }

    /// The store.
    pub(super) fn store(&self) -> Utf8PathBuf {
        self.store.clone().unwrap_or_else(Store::default_path)
    }

    /// The images that nodes have, by name and digest.
    pub(super) fn given(&self) -> &[(Component, ImageReference)] {
        &self.given
    }

    /// The images of the store that are named.
    pub(super) fn named(&self) -> &[String] {
        &self.images
    }

    /// The choice of nodes.
    pub(super) fn choice(&self) -> Choice {
        self.choice.choice()
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
