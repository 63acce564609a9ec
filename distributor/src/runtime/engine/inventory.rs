//! What Docker, or CRI-O's storage, holds: images by all their names, and the containers that were made from them.

use std::collections::BTreeMap;

use super::note;
use crate::images::image_name::by_digest;
use crate::images::push_label::{self, PushLabel, PushedImage, Time};
use crate::protocol::proto::Container;

/// What a node's engine holds.
#[derive(Debug)]
pub(crate) struct EngineInventory {
    /// How the program is called there.
    pub(super) call: String,
    /// Every image.
    pub(super) images: Vec<EngineImage>,
    /// Every container: the engine removes no image that one was made from, whether it runs or has ended.
    pub(crate) containers: Vec<Container>,
    /// Whether it is known which containers run. CRI-O's storage does not tell.
    pub(crate) tells_what_runs: bool,
    /// What the names and containers come to, and the script that defines the function `state` which says so.
    pub(super) state: String,
    pub(super) state_script: String,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineImage {
    /// The digest of its configuration.
    pub(super) id: String,
    pub(super) names: Vec<String>,
    /// What its layers take, by what tells them from others.
    pub(super) layers: BTreeMap<String, u64>,
}

impl EngineImage {
    /// Its id without the algorithm, as podman takes it.
    pub(super) fn hex(&self) -> &str {
        self.id.trim_start_matches("sha256:")
    }
}

impl EngineInventory {
    /// The pushes that are noted on an image, each with the name that notes it.
    pub(super) fn notes(image: &EngineImage) -> impl Iterator<Item = (&String, PushLabel)> {
        image.names.iter().filter_map(|name| Some((name, note::read(name)?)))
    }

    /// The containers, each by a name of its image: that of a push where one is noted. Nothing where it is not known which
    /// of them run.
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

    /// Every push of which something is there. The engines have images whole, and pin none.
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
