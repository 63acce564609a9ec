//! What Docker, or CRI-O's storage, holds: images by all their names, and the containers that were made from them.

use std::collections::BTreeMap;

use crate::protocol::proto::Container;

/// What a node's engine holds.
#[derive(Debug)]
pub(crate) struct Holding {
    /// How the program is called there.
    pub(super) call: String,
    /// Every image.
    pub(super) images: Vec<Held>,
    /// Every container: the engine removes no image that one was made from, whether it runs or has ended.
    pub(crate) containers: Vec<Container>,
    /// What the names and containers come to, and the script that defines the function `state` which says so.
    pub(super) state: String,
    pub(super) state_script: String,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// The digest of its configuration.
    pub(super) id: String,
    pub(super) names: Vec<String>,
    /// What its layers take, by what tells them from others.
    pub(super) layers: BTreeMap<String, u64>,
}

impl Held {
    /// Its id without the algorithm, as podman takes it.
    pub(super) fn hex(&self) -> &str {
        self.id.trim_start_matches("sha256:")
    }
}

/// A container that was made from the image of this id.
pub(super) fn container(id: &str, image: &str, pod: &str) -> Container {
    Container {
        id: id.to_owned(),
        config: image.to_owned(),
        pod: pod.to_owned(),
        // Whether it does is the same: its image cannot go.
        running: true,
        ..Container::default()
    }
}
