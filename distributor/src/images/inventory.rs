//! What a node has of the images of a push: blobs, partial blobs, snapshots, image records.

use std::collections::{BTreeMap, BTreeSet};

use vcstore::{Digest, Platform};

use crate::images::desired_image::DesiredImage;
use crate::images::push_label::PushLabel;
use crate::protocol::proto::{HelloResponse, InventoryRequest, InventoryResponse};

/// The contents of a node at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The node's platform.
    pub platform: Platform,
    /// The snapshotter that its pods use.
    pub snapshotter: String,
    /// Free space in containerd's content folder, if it is known.
    pub disk: Option<Disk>,
    /// Free space in the snapshotter's folder, if it is known and on another file system.
    pub snapshot_disk: Option<Disk>,
    /// Committed blobs.
    pub blobs: BTreeMap<Digest, StoredBlob>,
    /// Partially written blobs, with the number of bytes present.
    pub partial: BTreeMap<Digest, u64>,
    /// Chain ids of committed snapshots.
    pub snapshots: BTreeSet<Digest>,
    /// Image records by full name.
    pub records: BTreeMap<String, Record>,
}

/// A blob on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its size in bytes.
    pub size: u64,
    /// The digests and chain ids its labels keep from garbage collection.
    pub keeps: BTreeSet<Digest>,
    /// Whether the blob's file differs from what containerd has recorded.
    pub damaged: bool,
}

/// The image record of a name on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The digest that it refers to, or `None` if that is not a SHA-256 digest.
    pub target: Option<Digest>,
    /// Whether the kubelet's garbage collection skips it.
    pub pinned: bool,
    /// The labels of the push that created it, or `None` if no push did.
    pub pushed: Option<PushLabel>,
}

impl Record {
    /// Converts the helper's message.
    pub(crate) fn read(wire: &crate::protocol::proto::Record) -> Self {
        let pushed = wire.pushed.as_ref().and_then(PushLabel::read);
        Self { target: wire.target.parse().ok(), pinned: wire.pinned, pushed }
    }
}

/// A file system that containerd writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// A path on it.
    pub path: String,
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// The number of files that can still be created.
    pub free_inodes: u64,
}

impl Inventory {
    /// Builds the request for an inventory of these images.
    pub(crate) fn question<'a>(desired: impl IntoIterator<Item = &'a DesiredImage>) -> InventoryRequest {
        let (mut digests, mut chains, mut names) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for image in desired {
            digests.extend(image.blobs.iter().map(|part| part.blob.digest));
            chains.extend(image.layers.iter().map(|layer| layer.chain_id));
            names.extend(image.names.iter().cloned());
        }
        let text = |digests: BTreeSet<Digest>| digests.iter().map(ToString::to_string).collect();
        InventoryRequest { digests: text(digests), chain_ids: text(chains), names: names.into_iter().collect() }
    }

    /// Reads the helper's responses. Ignores digests other than SHA-256, because a push creates none.
    pub(crate) fn read(hello: &HelloResponse, answer: InventoryResponse) -> Self {
        let read = |disk: &crate::protocol::proto::Disk| Disk {
            path: disk.path.clone(),
            free_bytes: disk.free_bytes,
            free_inodes: disk.free_inodes,
        };
        let (content, snapshots) = (hello.content_disk.as_ref(), hello.snapshot_disk.as_ref());
        let device = content.map(|disk| disk.device);
        let snapshot_disk = snapshots.filter(|disk| Some(disk.device) != device).map(read);
        let disk = content.map(read);
        let present = |blob: crate::protocol::proto::PresentBlob| {
            let keeps = blob.keeps.iter().filter_map(|digest| digest.parse().ok()).collect();
            Some((blob.digest.parse().ok()?, StoredBlob { size: blob.size, keeps, damaged: blob.damaged }))
        };
        Self {
            platform: Platform::linux(&hello.architecture),
            snapshotter: hello.snapshotter.clone(),
            disk,
            snapshot_disk,
            blobs: answer.blobs.into_iter().filter_map(present).collect(),
            partial: answer.partial.iter().filter_map(|part| Some((part.digest.parse().ok()?, part.offset))).collect(),
            snapshots: answer.snapshots.iter().filter_map(|chain| chain.parse().ok()).collect(),
            records: answer.records.into_iter().map(|record| (record.name.clone(), Record::read(&record))).collect(),
        }
    }
}
