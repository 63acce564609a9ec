//! What a push tells while it works on a node, and by which way.

use std::sync::Arc;
use std::time::Duration;

use super::transfer::Sent;

/// By which way a node was worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// The helper, on containerd's own interface.
    Helper,
    /// The node's `ctr`.
    Ctr,
    /// The node's `docker load`.
    Docker,
    /// The node's skopeo.
    Skopeo,
    /// The node's podman.
    Podman,
}

impl Via {
    /// Its name, as reports have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Helper => "helper",
            Self::Ctr => "ctr",
            Self::Docker => "docker load",
            Self::Skopeo => "skopeo",
            Self::Podman => "podman",
        }
    }
}

/// What happens on a node while it is pushed to.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Blobs begin to move.
    Sending {
        /// How many.
        blobs: usize,
        /// Their bytes.
        bytes: u64,
        /// The bytes of everything, there or not.
        total: u64,
        /// What of them has gone: counts on.
        sent: &'a Arc<Sent>,
    },
    /// No helper runs there; its `ctr` does the work.
    WithoutHelper {
        /// Why.
        why: &'a str,
    },
    /// The connection broke; the push goes on where it stopped after a pause.
    Retrying {
        /// What happened.
        why: &'a str,
        /// How long the pause is.
        pause: Duration,
    },
    /// An image is whole on the node, checked.
    Finished {
        /// Its name.
        image: &'a str,
        /// How many layers were unpacked.
        unpacked: u32,
    },
    /// Nothing more happens on the node.
    Ended {
        /// Whether the images are there.
        succeeded: bool,
    },
}

/// Who is told of events.
pub(crate) type OnEvent<'a> = &'a (dyn Fn(Event<'_>) + Sync);
