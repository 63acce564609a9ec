//! The container runtimes of nodes, behind one interface: `NodeRuntime`.
//!
//! `Access::work_on` chooses the implementation: `containerd` with the agent, containerd with the node's own `ctr`, or
//! Docker and CRI-O (`engine`) with the node's own programs. `transfer` carries blobs. Uses `crate::images`,
//! `crate::agent`, `crate::session` and their dependencies; does not depend on pushes to several nodes, reports or the
//! command line.

mod access;
mod chunks;
mod containerd;
pub mod ctr;
pub mod engine;
mod error;
mod event;
mod facts;
mod retry;
pub(crate) mod script;
pub(crate) mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vcstore::{Digest, Image, Store};

use crate::images::inventory::Inventory;
use crate::images::plan::{self, Plan};
use crate::images::push_label::{PushedImage, Time};
use crate::images::unpacked_size::UnpackedSizes;
use crate::protocol::proto::{Container, RemoveResponse};
pub use access::UseHelper;
pub(crate) use access::{Access, check_supported};
pub use error::{Error, RetryHint};
pub(crate) use event::OnEvent;
pub use event::{Event, Via};
pub(crate) use retry::{pause, until_cancelled, with_retries};
pub use transfer::{Rate, SentCounter};

/// How many times a plan or a removal is attempted if the node changes meanwhile.
pub(crate) const ATTEMPTS: usize = 3;

/// A container runtime on one node. Each method queries the node again.
#[tonic::async_trait(?Send)]
pub(crate) trait NodeRuntime {
    /// Queries what the node has of `images`, for a push.
    async fn inspect<'s>(&'s self, images: &[Image]) -> Result<Box<dyn ImageTarget + 's>, Error>;

    /// Queries what the node has of `images`, what was pushed to it, and what runs there, for a status.
    async fn survey(&self, images: &[Image]) -> Result<Survey, Error>;

    /// Queries what was pushed to the node, and its containers, for a removal.
    async fn pushed<'s>(&'s self) -> Result<Box<dyn PushedImages + 's>, Error>;
}

/// A node as [`NodeRuntime::inspect`] found it, ready to load images.
#[tonic::async_trait(?Send)]
pub(crate) trait ImageTarget {
    /// The way by which images are loaded.
    fn via(&self) -> Via;

    /// The contents of the node at the time of the query.
    fn inventory(&self) -> &Inventory;

    /// Returns the layers of `images` that the node has yet to unpack.
    fn layers_to_unpack(&self, images: &[Image]) -> BTreeSet<Digest> {
        plan::layers_to_unpack(images, self.inventory())
    }

    /// Returns the plan of what must be sent to the node for `images`.
    fn plan(&self, images: &[Image], unpacked_sizes: &UnpackedSizes) -> Result<Plan, plan::Error> {
        plan::plan(images, self.inventory(), unpacked_sizes)
    }

    /// Sends the blobs of the plan; the node then completes and checks the images.
    async fn load(&self, load: &Load<'_>) -> Result<Loaded, Error>;

    /// Records a push that began at the time `at` on those of `images` that were already present. Only runtimes that
    /// store images as a whole need this; for the others, a missing label is part of the plan.
    async fn note(&self, _images: &[Image], _at: Time) -> Result<(), Error> {
        Ok(())
    }
}

/// The parameters of [`ImageTarget::load`].
pub(crate) struct Load<'a> {
    /// Contains the blobs.
    pub(crate) store: &'a Store,
    pub(crate) plan: &'a Plan,
    /// When the push began.
    pub(crate) at: Time,
    /// Counts the bytes that are sent.
    pub(crate) sent: &'a Arc<SentCounter>,
    pub(crate) on_event: OnEvent<'a>,
}

impl Load<'_> {
    /// Reports that the transfer begins.
    fn begin(&self) {
        let (blobs, bytes) = (self.plan.sends().count(), self.plan.bytes_to_send());
        (self.on_event)(Event::Sending { blobs, bytes, total: self.plan.total_bytes, sent: self.sent });
    }
}

/// The result of [`ImageTarget::load`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// Every image is complete on the node.
    Whole,
    /// Content that the plan relies on is gone. A new plan is needed.
    NodeChanged,
}

/// What a status needs to know about a node.
pub(crate) struct Survey {
    /// The way by which the node was queried.
    pub(crate) via: Via,
    pub(crate) inventory: Inventory,
    /// For a runtime that stores images as a whole: the ids of the images that it has, by name. The inventory then
    /// lists no images.
    pub(crate) whole_images: Option<BTreeMap<String, String>>,
    /// Every image that was pushed to the node.
    pub(crate) pushed: Vec<PushedImage>,
    /// The node's containers, if it is known which of them run.
    pub(crate) containers: Option<Vec<Container>>,
}

/// What was pushed to a node, as [`NodeRuntime::pushed`] found it, ready for a removal.
#[tonic::async_trait(?Send)]
pub(crate) trait PushedImages {
    /// The way by which images are removed.
    fn via(&self) -> Via;

    /// Every name of a pushed image.
    fn records(&self) -> Vec<PushedRecord>;

    /// Every container.
    fn containers(&self) -> &[Container];

    /// Whether a container that has ended keeps its image, whatever the cluster reports of its pod.
    fn ended_containers_keep(&self) -> bool {
        false
    }

    /// Returns why the image with the names `records` cannot be removed, if it cannot. `going` contains all names that
    /// are to be removed.
    fn kept_by(&self, _going: &[String], _records: &[String]) -> Option<String> {
        None
    }

    /// Removes these names and the content that only they keep; in a dry run, computes what would be freed. Returns
    /// `None` if the node has changed since the query.
    async fn remove(&self, names: &[String], removal: Removal) -> Result<Option<RemoveResponse>, Error>;
}

/// How images are removed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Removal {
    /// Whether this is a dry run, which changes nothing.
    pub(crate) dry_run: bool,
    /// Whether only running containers keep images.
    pub(crate) running_only: bool,
}

/// A name of a pushed image on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PushedRecord {
    /// The name.
    pub(crate) name: String,
    /// The name under which the image was pushed.
    pub(crate) pushed: String,
    /// The digest that the name refers to.
    pub(crate) target: Option<Digest>,
    /// The digest of the image's configuration, if it is known.
    pub(crate) config: String,
    /// The chain id of its layers, if it is known.
    pub(crate) chain: String,
}

impl From<&PushedImage> for PushedRecord {
    fn from(image: &PushedImage) -> Self {
        Self {
            name: image.name.clone(),
            pushed: image.pushed.name.clone(),
            target: image.target,
            config: image.config.clone(),
            chain: image.chain.clone(),
        }
    }
}
