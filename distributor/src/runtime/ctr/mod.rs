//! containerd through the node's own `ctr`, for nodes where no helper can run. `ctr` gives fewer guarantees: there is no lease, so
//! content is rooted by labels while a push lasts, and a name whose image is not whole is removed again. Uses the scripts of
//! `super::script`, and the helper's pure rules (`crate::agent`).

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

/// The label that keeps an image from kubelet's garbage collection, as `ctr` takes it.
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// The label that keeps a blob from containerd's garbage collection by itself.
const ROOT: &str = "containerd.io/gc.root";

/// The label by which a blob keeps another.
const REFERENCE: &str = "containerd.io/gc.ref.content";

/// How long a node may take to say what it has.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// How long an import may take in all.
const IMPORT_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// Why work through a node's `ctr` failed.
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
        /// Their names.
        names: Vec<String>,
        /// ctr's output.
        message: String,
    },
    /// A name is still there that was removed.
    #[error("{} still on the node after the removal: {message}", list(names))]
    #[diagnostic(help("see containerd's log on the node (`journalctl -u containerd`), then prune again"))]
    Left {
        /// Their names.
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

/// What `ctr` tells of a node, and how it is called there.
#[derive(Debug)]
struct CtrNode<'a> {
    transport: &'a dyn Transport,
    call: String,
    inventory: Inventory,
    /// Every image record, whoever made it.
    images: Vec<ImageRecord>,
    /// Everything there is, and what of it keeps what.
    refs: GcRefs,
    pushes: Vec<PushedImage>,
}

/// That, and the node's containers.
struct CtrPushes<'a> {
    node: CtrNode<'a>,
    containers: Containers,
}

impl<'a> CtrNode<'a> {
    /// Asks the node what it has of `images`.
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

/// Reads what a node answers through `ctr`.
#[cfg(any(test, fuzzing))]
pub fn hostile(bytes: &[u8]) {
    let _ = probe::read(&script::parse_replies(bytes), []);
}
