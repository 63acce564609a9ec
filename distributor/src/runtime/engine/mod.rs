//! Docker and CRI-O, through the node's own programs: Docker loads archives (`docker load`); skopeo or podman write to
//! CRI-O's storage. These engines handle images only as a whole, and no helper runs. Uses the scripts of
//! `super::script`.

mod archive;
mod docker;
mod inventory;
mod node;
mod note;
mod removal;
mod storage;

use std::collections::BTreeSet;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;
use vcstore::{Digest, Image};

use super::script::{self, run};
use super::{ImageTarget, Load, Loaded, NodeRuntime, PushedImages, Survey, Via};
use crate::images::desired_image::DesiredImage;
use crate::images::inventory::Inventory;
use crate::images::plan::{self, Plan};
use crate::images::push_label::Time;
use crate::images::unpacked_size::UnpackedSizes;
use crate::transport::Transport;
use node::EngineNode;
use removal::EngineStore;

/// The time limit for a query.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// The time limit for loading all images.
const LOADED_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// The container engine that a kubelet uses instead of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Docker, through dockershim or cri-dockerd.
    Docker,
    /// CRI-O.
    CriO,
}

/// Why a push through a node's own programs failed.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The script on the node failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Script(#[from] script::Error),
    /// The node runs CRI-O, but has no program that writes to its storage.
    #[error("its container runtime is CRI-O, and the node has neither skopeo nor podman to take images in")]
    #[diagnostic(help("install skopeo on the node (its package is called so on every distribution), then push again"))]
    NoTool,
    /// The node runs CRI-O, but has no program that removes images from its storage.
    #[error("its container runtime is CRI-O, and the node has neither podman nor skopeo to remove images with")]
    #[diagnostic(help("install podman on the node, which removes single names too, or skopeo; then prune again"))]
    NoRemover,
    /// A name is still there that was removed.
    #[error("{} still on the node after the removal: {message}", names.join(", "))]
    #[diagnostic(help(
        "see what the node's runtime says of them (`docker images`, `crictl images`), then prune again"
    ))]
    Left {
        /// The names.
        names: Vec<String>,
        /// The program's output.
        message: String,
    },
    /// Docker does not answer.
    #[error("its container runtime is Docker, and its docker does not answer: {message}")]
    #[diagnostic(help("`docker version` must work on the node, for root or by `sudo -n`; then push again"))]
    NoDocker {
        /// Its output.
        message: String,
    },
    /// The images are not there afterwards.
    #[error("{} not on the node as pushed: {message}", names.join(", "))]
    #[diagnostic(help("see what the node's runtime says of them (`docker images`, `crictl images`), then push again"))]
    Incomplete {
        /// The names of the images.
        names: Vec<String>,
        /// The program's output.
        message: String,
    },
}

/// The program that loads images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Docker {
        /// Whether it reads layers that are compressed with zstd.
        zstd: bool,
    },
    Skopeo,
    Podman,
}

impl Engine {
    /// Returns the engine with this name in the status of a Kubernetes node.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "docker" => Some(Self::Docker),
            "cri-o" => Some(Self::CriO),
            _ => None,
        }
    }

    /// Finds the engine of a node that has no containerd and whose runtime the API does not report. Returns `None` if
    /// it has neither Docker nor CRI-O.
    pub(crate) async fn found(transport: &dyn Transport) -> Result<Option<Self>, Error> {
        let replies = run(transport, FIND, None, ANSWER_WITHIN).await?;
        let is_said = |word: &str| replies.iter().any(|reply| reply.label == word);
        Ok(match (is_said("cri-o"), is_said("docker")) {
            (true, _) => Some(Self::CriO),
            (false, true) => Some(Self::Docker),
            (false, false) => None,
        })
    }
}

/// The script that looks for CRI-O and Docker.
const FIND: &str = "for s in /run/crio/crio.sock /var/run/crio/crio.sock; do if $as test -S $s; then say cri-o; break; fi; done\n\
                    if command -v docker >/dev/null 2>&1 && $as docker version >/dev/null 2>&1; then say docker; fi";

/// Docker or CRI-O on a node.
pub(super) struct EngineRuntime<'a> {
    pub(super) transport: &'a dyn Transport,
    pub(super) engine: Engine,
}

#[tonic::async_trait(?Send)]
impl NodeRuntime for EngineRuntime<'_> {
    async fn inspect<'s>(&'s self, images: &[Image]) -> Result<Box<dyn ImageTarget + 's>, super::Error> {
        Ok(Box::new(EngineNode::probe(self.transport, self.engine, images).await?))
    }

    async fn survey(&self, images: &[Image]) -> Result<Survey, super::Error> {
        let node = EngineNode::probe(self.transport, self.engine, images).await?;
        plan::check_platform(images, &node.inventory.platform)?;
        let held = EngineStore::ask(self.transport, self.engine).await?.inventory;
        let desired = images.iter().filter_map(|image| DesiredImage::new(image, &node.inventory.platform));
        let id = |desired: DesiredImage| Some((desired.name().to_owned(), node.id(&desired)?.to_owned()));
        Ok(Survey {
            via: node.tool_via(),
            whole_images: Some(desired.filter_map(id).collect()),
            pushed: held.pushes(),
            containers: held.running(),
            inventory: node.inventory,
        })
    }

    async fn pushed<'s>(&'s self) -> Result<Box<dyn PushedImages + 's>, super::Error> {
        Ok(Box::new(EngineStore::ask(self.transport, self.engine).await?))
    }
}

#[tonic::async_trait(?Send)]
impl ImageTarget for EngineNode<'_> {
    fn via(&self) -> Via {
        self.tool_via()
    }

    fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    fn layers_to_unpack(&self, images: &[Image]) -> BTreeSet<Digest> {
        let has = |desired: &DesiredImage| self.has(desired);
        let lacking: Vec<Image> = plan::lacking(images, &self.inventory.platform, has).cloned().collect();
        plan::layers_to_unpack(&lacking, &self.inventory)
    }

    fn plan(&self, images: &[Image], unpacked_sizes: &UnpackedSizes) -> Result<Plan, plan::Error> {
        plan::for_engine(images, &self.inventory, |desired| self.has(desired), unpacked_sizes)
    }

    async fn load(&self, load: &Load<'_>) -> Result<Loaded, super::Error> {
        self.load_images(load).await?;
        Ok(Loaded::Whole)
    }

    async fn note(&self, images: &[Image], at: Time) -> Result<(), super::Error> {
        Ok(self.note_push(images, at).await?)
    }
}

impl Tool {
    /// Returns the names that the engine can give the image. Docker knows a digest only for images that it has pulled.
    fn names(self, desired: &DesiredImage) -> impl Iterator<Item = &String> {
        desired.names.iter().take(if matches!(self, Self::Docker { .. }) { 1 } else { usize::MAX })
    }
}

/// A shell command that sets `c` to the first of these programs that exists. Absolute paths are tested as files,
/// because shells differ in how `command -v` treats paths.
fn first(programs: &str) -> String {
    format!(
        "has() {{ case $1 in /*) [ -f \"$1\" ] && [ -x \"$1\" ];; *) command -v \"$1\" >/dev/null 2>&1;; esac; }}\n\
         c=; for p in {programs}; do if has \"$p\"; then c=$p; break; fi; done"
    )
}

/// Quotes a name for a shell.
fn quoted(name: &str) -> String {
    shlex::try_quote(name).unwrap_or_default().into_owned()
}

/// Parses what a node replies about Docker, and about CRI-O's storage.
#[cfg(any(test, fuzzing))]
pub fn hostile(bytes: &[u8]) {
    let replies = crate::runtime::script::parse_replies(bytes);
    for inventory in [docker::read_inventory(&replies), storage::read_inventory(&replies)].into_iter().flatten() {
        let _ = (inventory.pushes(), inventory.running());
    }
}
