//! containerd through the node's own `ctr`, for nodes where no helper can run. `ctr` gives fewer guarantees: it has no
//! leases, so labels root the content during a push, and the name of an incomplete image is removed again. Uses the
//! scripts of `super::script` and the pure rules of the helper (`crate::agent`).

mod archive;
mod containers;
mod import;
mod probe;
mod removal;

use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;
use vcstore::Image;

use super::{ImageTarget, Load, Loaded, NodeRuntime, PushedImages, PushedRecord, Removal, Survey, Via, script};
use crate::agent::gc_refs::GcRefs;
use crate::agent::removal_plan::ImageRecord;
use crate::images::desired_image::DesiredImage;
use crate::images::inventory::Inventory;
use crate::images::push_label::PushedImage;
use crate::protocol::proto::{Container, RemoveResponse};
use crate::session::Settings;
use crate::transport::Transport;
use probe::Probe;
use removal::Containers;

/// The label that protects an image from the kubelet's garbage collection, in the syntax of `ctr`.
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// The label that makes a blob a root for containerd's garbage collection.
const ROOT: &str = "containerd.io/gc.root";

/// The prefix of the labels by which a blob refers to another.
const REFERENCE: &str = "containerd.io/gc.ref.content";

/// The time limit for a query.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// The time limit for an import.
const IMPORT_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// Why an operation through a node's `ctr` failed.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// A script failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Script(#[from] script::Error),
    /// An image is not whole after the import.
    #[error("{} not whole on the node after the import, and got no name: {message}", list(names))]
    #[diagnostic(help("see containerd's log on the node (`journalctl -u containerd`), then push again"))]
    Incomplete {
        /// The names of the images.
        names: Vec<String>,
        /// ctr's output.
        message: String,
    },
    /// A name is still there that was removed.
    #[error("{} still on the node after the removal: {message}", list(names))]
    #[diagnostic(help("see containerd's log on the node (`journalctl -u containerd`), then prune again"))]
    Left {
        /// The names.
        names: Vec<String>,
        /// ctr's output.
        message: String,
    },
}

/// A node's containerd, through the node's `ctr`.
pub(super) struct Ctr<'a> {
    pub(super) transport: &'a dyn Transport,
    /// How containerd is found.
    pub(super) settings: &'a Settings,
}

/// What `ctr` reports about a node, and the command that runs it.
#[derive(Debug)]
struct CtrNode<'a> {
    transport: &'a dyn Transport,
    call: String,
    inventory: Inventory,
    /// All image records, no matter which client created them.
    images: Vec<ImageRecord>,
    /// All blobs and snapshots, and the references between them.
    refs: GcRefs,
    pushes: Vec<PushedImage>,
}

/// A node and its containers.
struct CtrPushes<'a> {
    node: CtrNode<'a>,
    containers: Containers,
}

impl<'a> CtrNode<'a> {
    /// Queries what the node has of `images`.
    async fn probe(transport: &'a dyn Transport, images: &[Image], settings: &Settings) -> Result<Self, Error> {
        let replies = script::run(transport, &probe::script(settings), None, ANSWER_WITHIN).await?;
        let desired = DesiredImage::on_any_platform(images);
        let probe = probe::read(&replies, &desired).ok_or(script::Error::Answers)?;
        let Probe { ctr, inventory, images, refs, pushes } = probe;
        Ok(Self { transport, call: ctr, inventory, images, refs, pushes })
    }
}

#[tonic::async_trait(?Send)]
impl NodeRuntime for Ctr<'_> {
    async fn inspect<'s>(&'s self, images: &[Image]) -> Result<Box<dyn ImageTarget + 's>, super::Error> {
        Ok(Box::new(CtrNode::probe(self.transport, images, self.settings).await?))
    }

    async fn survey(&self, images: &[Image]) -> Result<Survey, super::Error> {
        let node = CtrNode::probe(self.transport, images, self.settings).await?;
        let containers = Some(node.containers().await?.all);
        let CtrNode { inventory, pushes, .. } = node;
        Ok(Survey { via: Via::Ctr, inventory, whole_images: None, pushed: pushes, containers })
    }

    async fn pushed<'s>(&'s self) -> Result<Box<dyn PushedImages + 's>, super::Error> {
        let node = CtrNode::probe(self.transport, &[], self.settings).await?;
        let containers = node.containers().await?;
        Ok(Box::new(CtrPushes { node, containers }))
    }
}

#[tonic::async_trait(?Send)]
impl ImageTarget for CtrNode<'_> {
    fn via(&self) -> Via {
        Via::Ctr
    }

    fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    async fn load(&self, load: &Load<'_>) -> Result<Loaded, super::Error> {
        Ok(self.import(load).await?)
    }
}

#[tonic::async_trait(?Send)]
impl PushedImages for CtrPushes<'_> {
    fn via(&self) -> Via {
        Via::Ctr
    }

    fn records(&self) -> Vec<PushedRecord> {
        self.node.pushes.iter().map(PushedRecord::from).collect()
    }

    fn containers(&self) -> &[Container] {
        &self.containers.all
    }

    async fn remove(
        &self,
        names: &[String],
        Removal { dry_run, running_only }: Removal,
    ) -> Result<Option<RemoveResponse>, super::Error> {
        Ok(self.node.remove(names, &self.containers, running_only, dry_run).await?)
    }
}

fn list(names: &[String]) -> String {
    let are = if names.len() == 1 { "is" } else { "are" };
    format!("{} {are}", names.join(", "))
}

/// Parses what a node replies through `ctr`.
#[cfg(any(test, fuzzing))]
pub fn hostile(bytes: &[u8]) {
    let _ = probe::read(&script::parse_replies(bytes), []);
}
