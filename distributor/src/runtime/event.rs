//! Events of a push to a node, and the ways to work on one.

use std::sync::Arc;
use std::time::Duration;

use super::transfer::SentCounter;

/// The way by which a node was worked on.
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
    /// The name that reports print.
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

/// An event of a push to a node.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Blobs begin to move.
    Sending {
        /// The number of blobs.
        blobs: usize,
        /// Their size in bytes.
        bytes: u64,
        /// The size of all images in bytes, present blobs included.
        total: u64,
        /// Counts the bytes that have been sent; continues to count during the transfer.
        sent: &'a Arc<SentCounter>,
    },
    /// No helper can run on the node; its `ctr` does the work.
    WithoutHelper {
        /// The reason.
        why: &'a str,
    },
    /// The connection broke. The push continues after a pause.
    Retrying {
        /// The cause.
        why: &'a str,
        /// The length of the pause.
        pause: Duration,
    },
    /// An image is complete on the node and was checked.
    Finished {
        /// Its name.
        image: &'a str,
        /// How many layers were unpacked.
        unpacked: u32,
    },
    /// Work on the node has ended.
    Ended {
        /// Whether the images are complete on the node.
        succeeded: bool,
    },
}

/// Receives events.
pub(crate) type OnEvent<'a> = &'a (dyn Fn(Event<'_>) + Sync);
