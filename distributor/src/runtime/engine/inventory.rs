//! The contents of Docker, or of CRI-O's storage: images with all their names, and the containers that were created
//! from them.

use std::collections::BTreeMap;

use super::note;
use crate::images::image_name::by_digest;
use crate::images::push_label::{self, PushLabel, PushedImage, Time};
use crate::protocol::proto::Container;

/// The images and containers of a node's engine.
#[derive(Debug)]
pub(crate) struct EngineInventory {
    /// The command that runs the program on the node.
    pub(super) call: String,
    /// All images.
    pub(super) images: Vec<EngineImage>,
    /// All containers. The engine removes no image that has a container, running or not.
    pub(crate) containers: Vec<Container>,
    /// Whether the engine reports which containers run. CRI-O's storage does not.
    pub(crate) tells_what_runs: bool,
    /// A hash over the names and containers, and the script that defines the shell function `state`, which prints this
    /// hash.
    pub(super) state: String,
    pub(super) state_script: String,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineImage {
    /// The digest of its configuration.
    pub(super) id: String,
    pub(super) names: Vec<String>,
    /// The size of each layer in bytes, by a key that identifies the layer.
    pub(super) layers: BTreeMap<String, u64>,
}

impl EngineImage {
    /// The id without the algorithm, as podman expects it.
    pub(super) fn hex(&self) -> &str {
        self.id.trim_start_matches("sha256:")
    }
}

impl EngineInventory {
    /// Returns the pushes that are recorded on an image, each with the name that records it.
    pub(super) fn notes(image: &EngineImage) -> impl Iterator<Item = (&String, PushLabel)> {
        image.names.iter().filter_map(|name| Some((name, note::read(name)?)))
    }

    /// Returns the containers, each with a name of its image: the pushed name, if a push is recorded. Returns `None` if
    /// the engine does not report which containers run.
    pub(crate) fn running(&self) -> Option<Vec<Container>> {
        let name = |image: &EngineImage| {
            let noted = Self::notes(image).next().map(|(_, pushed)| pushed.name);
            noted.or_else(|| image.names.first().cloned())
        };
        let names: BTreeMap<&str, String> =
            self.images.iter().filter_map(|image| Some((image.id.as_str(), name(image)?))).collect();
        let named = |container: &Container| {
            let image = names.get(container.config.as_str()).cloned().unwrap_or_default();
            Container { image, ..container.clone() }
        };
        self.tells_what_runs.then(|| self.containers.iter().map(named).collect())
    }

    /// Returns every push whose image is still present. The engines store images as a whole and pin none.
    pub(crate) fn pushes(&self) -> Vec<PushedImage> {
        let of = |image: &EngineImage| -> Vec<PushedImage> {
            let notes: Vec<PushLabel> = Self::notes(image).map(|(_, pushed)| pushed).collect();
            let standing = |pushed: &PushLabel| {
                let by_digest = by_digest(&pushed.name, &pushed.digest);
                let name = Some(&pushed.name).filter(|name| image.names.contains(name)).unwrap_or(&by_digest).clone();
                PushedImage {
                    name,
                    pushed: pushed.clone(),
                    target: Some(pushed.digest),
                    pinned: false,
                    complete: true,
                    unpacked: true,
                    config: image.id.clone(),
                    chain: String::new(),
                }
            };
            push_label::last(&notes, Time::now()).into_values().map(standing).collect()
        };
        self.images.iter().flat_map(of).collect()
    }
}
