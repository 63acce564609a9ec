//! The options that say what is rolled out instead of VirtualCluster, and which release a command is about.

use camino::Utf8PathBuf;
use clap::Args;
use vcmanifests::NamespaceName;

use crate::cli::manifests;
use crate::cli::values::release_name;
use crate::manifests::{Manifests, NamedImage};
use crate::rollout::Release;

/// Manifests of others, and the name of their release.
#[derive(Debug, Args)]
pub(super) struct OtherManifests {
    /// Roll out these manifests, not VirtualCluster's
    ///
    /// YAML or JSON: files, folders, or - for stdin; repeatable. Needs --name and --namespace. Images that the store has are named
    /// by their digests.
    #[arg(
        long = "manifests",
        value_name = "FILE|DIR|-",
        requires_all = ["release", "namespace"],
        conflicts_with_all = ["images", "given", "vn_agent_metrics_port", "values", "settings", "tolerate", "nodes", "selector",
            "exclude", "include_control_plane"]
    )]
    pub(super) manifests: Vec<Utf8PathBuf>,

    /// The name of the release of --manifests
    ///
    /// A release has revisions of its own, and removes what only its earlier ones had.
    #[arg(id = "release", long = "name", value_name = "NAME", value_parser = release_name, requires = "namespace")]
    pub(super) name: Option<String>,
}

impl OtherManifests {
    /// Refuses a name where there are no manifests that it could name.
    pub(super) fn refuse_name_alone(&self) -> Result<(), manifests::Error> {
        if self.manifests.is_empty() && self.name.is_some() { Err(manifests::Error::NameAlone) } else { Ok(()) }
    }

    pub(super) fn release(&self, namespace: &NamespaceName) -> Release {
        Release::new(namespace, self.name.as_deref())
    }
}

/// The release that a command is about, other than the installation of VirtualCluster.
#[derive(Debug, Args)]
pub(super) struct ReleaseName {
    /// A release of `vcdist deploy --manifests`
    ///
    /// Needs --namespace.
    #[arg(id = "release", long = "name", value_name = "NAME", value_parser = release_name, requires = "namespace")]
    pub(super) name: Option<String>,
}

impl ReleaseName {
    pub(super) fn release(&self, namespace: &NamespaceName) -> Release {
        Release::new(namespace, self.name.as_deref())
    }
}

/// What is done with the images and hooks of manifests.
pub(super) fn notes(manifests: &Manifests) -> Vec<String> {
    let image = |image: &NamedImage| match &image.replaced_by {
        Some(complete) => Some(format!("image {} is {complete}", image.name)),
        None if image.name.contains('@') => None,
        None => Some(format!("image {} stays as it is named: the store has no image of this name", image.name)),
    };
    manifests.notes.iter().cloned().chain(manifests.images.iter().filter_map(image)).collect()
}
