//! The plan of a push to one node: which blobs are sent, which are kept, and what is unpacked. It is computed from the
//! desired images and the node's inventory, before any transfer. `--dry-run` prints it, and a push carries it out.
//! Pure.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};

use miette::Diagnostic;
use thiserror::Error;
use vcstore::{Blob, Digest, Image, Platform};

use crate::images::desired_image::{DesiredImage, ImageBlob};
use crate::images::image_name::may_be_noted;
use crate::images::inventory::{Disk, Inventory};
use crate::images::unpacked_size::{UnpackedSize, UnpackedSizes};

/// What a push does on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Every image, in the order of the request.
    pub images: Vec<ImagePlan>,
    /// The size of all blobs of all images in bytes; a shared blob counts once.
    pub total_bytes: u64,
    /// Blobs that the plan relies on and does not send. They must be kept during the push.
    pub kept: BTreeSet<Digest>,
    /// Snapshots that the plan relies on, as above.
    pub kept_snapshots: BTreeSet<Digest>,
    /// Blobs that are damaged on the node: they are deleted there and sent again.
    pub damaged: BTreeSet<Digest>,
    /// The space on the node for the layers that are yet to be unpacked.
    pub unpacks_to: UnpackedSize,
}

/// The plan for one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlan {
    /// The image.
    pub desired: DesiredImage,
    /// What the node has of it.
    pub state: State,
    /// Blobs to send for it, children first. A blob that several images share is sent with the first.
    pub send: Vec<BlobTransfer>,
    /// Blobs that the node lacks and does not need, because their snapshots are present.
    pub absent: BTreeSet<Digest>,
}

/// What a node has of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Everything: nothing to do.
    UpToDate,
    /// Every blob is present; names, labels or snapshots are missing.
    Unfinished,
    /// Blobs are missing.
    Incomplete,
}

/// A blob to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobTransfer {
    /// The blob.
    pub blob: Blob,
    /// The number of bytes that the node has from an earlier attempt.
    pub offset: u64,
}

/// Why a plan cannot be made or carried out.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The image does not support the node's platform.
    #[error("{image} has nothing for {platform}, only {has}")]
    #[diagnostic(help("build it for {platform} (`vcbuild images --platform {platform}`), or leave the node out"))]
    Platform {
        /// The image.
        image: String,
        /// The node's platform.
        platform: String,
        /// The platforms that the image supports.
        has: String,
    },
    /// The node's disk has too little space.
    #[error(
        "{path} has {} free and {} have to be sent, which unpack to {}",
        vcterminal::bytes(*free),
        vcterminal::bytes(*needed),
        vcterminal::bytes(*unpacked)
    )]
    #[diagnostic(help("free space on the node, then push again; nothing was sent"))]
    DiskFull {
        /// A folder on the file system.
        path: String,
        /// The number of free bytes.
        free: u64,
        /// The number of bytes to send.
        needed: u64,
        /// The size in bytes of the files to which they unpack.
        unpacked: u64,
    },
    /// The node's file system has too few inodes.
    #[error("{path} has room for {free} more files and {needed} are needed")]
    #[diagnostic(help(
        "the file system is out of inodes: remove files on the node, then push again; nothing was sent"
    ))]
    InodesFull {
        /// A folder on the file system.
        path: String,
        /// The number of free inodes.
        free: u64,
        /// The number of files of blobs and layers.
        needed: u64,
    },
}

/// Returns the digests of the layers of `images` that the node of `inventory` has yet to unpack.
#[must_use]
pub fn layers_to_unpack(images: &[Image], inventory: &Inventory) -> BTreeSet<Digest> {
    let desired = images.iter().filter_map(|image| DesiredImage::new(image, &inventory.platform));
    let layers = desired.flat_map(|image| image.layers);
    layers.filter(|layer| !inventory.snapshots.contains(&layer.chain_id)).map(|layer| layer.digest).collect()
}

/// Returns the plan of what must be sent to the node of `inventory` for `images`. `unpacked_sizes` contains the sizes
/// of the layers that the node has yet to unpack.
///
/// # Errors
/// Returns an error if an image does not support the node's platform.
pub fn plan(images: &[Image], inventory: &Inventory, unpacked_sizes: &UnpackedSizes) -> Result<Plan, Error> {
    check_platform(images, &inventory.platform)?;
    let desired = images.iter().filter_map(|image| DesiredImage::new(image, &inventory.platform));
    Ok(of(desired.collect(), inventory, unpacked_sizes))
}

/// Returns the plan for a node that reports only for whole images whether it `has` them. For an image that it lacks,
/// every blob is sent that its inventory does not contain.
///
/// # Errors
/// Returns an error if an image does not support the node's platform.
pub(crate) fn for_engine(
    images: &[Image],
    inventory: &Inventory,
    has: impl Fn(&DesiredImage) -> bool,
    unpacked_sizes: &UnpackedSizes,
) -> Result<Plan, Error> {
    check_platform(images, &inventory.platform)?;
    let desired = images.iter().filter_map(|image| DesiredImage::new(image, &inventory.platform));
    let (there, lacking): (Vec<DesiredImage>, Vec<DesiredImage>) = desired.partition(has);
    let blobs = there.iter().chain(&lacking).flat_map(|image| &image.blobs);
    let all: BTreeMap<Digest, u64> = blobs.map(|part| (part.blob.digest, part.blob.size)).collect();
    let done = there.into_iter().map(|desired| ImagePlan {
        desired,
        state: State::UpToDate,
        send: Vec::new(),
        absent: BTreeSet::new(),
    });
    let mut plan = of(lacking, inventory, unpacked_sizes);
    // An image whose blobs are all present may still lack a name.
    plan.images.iter_mut().for_each(|image| image.state = image.state.max(State::Unfinished));
    plan.images.extend(done);
    let place = |image: &ImagePlan| images.iter().position(|one| one.name == image.desired.name());
    plan.images.sort_by_key(place);
    plan.total_bytes = all.values().sum();
    Ok(plan)
}

/// Returns the images that a node of this platform lacks.
pub(crate) fn lacking<'a>(
    images: &'a [Image],
    platform: &'a Platform,
    has: impl Fn(&DesiredImage) -> bool + 'a,
) -> impl Iterator<Item = &'a Image> {
    images.iter().filter(move |image| DesiredImage::new(image, platform).is_some_and(|desired| !has(&desired)))
}

/// Checks that every image supports this platform.
///
/// # Errors
/// Returns an error if an image does not.
pub fn check_platform(images: &[Image], platform: &Platform) -> Result<(), Error> {
    let lacking = images.iter().find(|image| image.platform(platform).is_none());
    lacking.map_or(Ok(()), |image| {
        Err(Error::Platform {
            image: image.name.clone(),
            platform: platform.to_string(),
            has: image.platforms.iter().map(|has| has.platform.to_string()).collect::<Vec<_>>().join(", "),
        })
    })
}

impl Plan {
    /// Everything to send, in order.
    pub fn sends(&self) -> impl Iterator<Item = &BlobTransfer> {
        self.images.iter().flat_map(|image| &image.send)
    }

    /// The number of bytes to send.
    #[must_use]
    pub fn bytes_to_send(&self) -> u64 {
        self.sends().map(|transfer| transfer.blob.size - transfer.offset).sum()
    }

    /// Whether the node has everything.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.images.iter().all(|image| image.state == State::UpToDate)
    }

    /// Checks that the node has space for the blobs to send and for the files to which they unpack.
    ///
    /// # Errors
    /// Returns an error if it does not.
    pub fn check_disk(&self, inventory: &Inventory) -> Result<(), Error> {
        let (sent, blobs, unpacked) = (self.bytes_to_send(), self.sends().count() as u64, self.unpacks_to);
        let fits = |disk: &Disk, sent: u64, unpacked: u64, files: u64| {
            let (path, free) = (disk.path.clone(), disk.free_bytes);
            if sent.saturating_add(unpacked) > free {
                return Err(Error::DiskFull { path, free, needed: sent, unpacked });
            }
            if files > disk.free_inodes {
                return Err(Error::InodesFull { path, free: disk.free_inodes, needed: files });
            }
            Ok(())
        };
        match (&inventory.disk, &inventory.snapshot_disk) {
            (Some(disk), None) => fits(disk, sent, unpacked.bytes, blobs + unpacked.files),
            (Some(disk), Some(snapshots)) => {
                fits(disk, sent, 0, blobs).and_then(|()| fits(snapshots, 0, unpacked.bytes, unpacked.files))
            }
            (None, _) => Ok(()),
        }
    }
}

fn of(desired: Vec<DesiredImage>, inventory: &Inventory, unpacked_sizes: &UnpackedSizes) -> Plan {
    let all: BTreeMap<Digest, u64> =
        desired.iter().flat_map(|image| &image.blobs).map(|part| (part.blob.digest, part.blob.size)).collect();
    let mut sent = BTreeSet::new();
    let images: Vec<ImagePlan> = desired.into_iter().map(|image| of_image(image, inventory, &mut sent)).collect();
    let kept = all.iter().filter(|(digest, size)| has_blob(inventory, digest, **size)).map(|(digest, _)| *digest);
    let damaged =
        all.keys().filter(|digest| inventory.blobs.contains_key(digest) && !has_blob(inventory, digest, all[digest]));
    let layers = || images.iter().flat_map(|image| &image.desired.layers);
    let chains = layers().map(|layer| layer.chain_id);
    let missing: BTreeMap<Digest, Digest> = layers()
        .filter(|layer| !inventory.snapshots.contains(&layer.chain_id))
        .map(|layer| (layer.chain_id, layer.digest))
        .collect();
    Plan {
        damaged: damaged.copied().collect(),
        unpacks_to: missing.values().filter_map(|digest| unpacked_sizes.get(digest)).sum(),
        kept: kept.collect(),
        kept_snapshots: chains.filter(|chain| inventory.snapshots.contains(chain)).collect(),
        total_bytes: all.values().sum(),
        images,
    }
}

fn of_image(desired: DesiredImage, inventory: &Inventory, sent: &mut BTreeSet<Digest>) -> ImagePlan {
    let missing: Vec<&ImageBlob> =
        desired.blobs.iter().filter(|part| !has_blob(inventory, &part.blob.digest, part.blob.size)).collect();
    // Some distributions discard layers after they are unpacked: if the name refers to the image and the snapshot is
    // present, a missing layer is not needed.
    let recorded = desired.names.iter().any(|name| points_at(inventory, name, &desired.target.blob.digest));
    let unpacked = desired.top().is_none_or(|top| inventory.snapshots.contains(&top));
    let layers: BTreeSet<Digest> = desired.layers.iter().map(|layer| layer.digest).collect();
    let stands_for = |part: &&ImageBlob| {
        let dropped = layers.contains(&part.blob.digest) && !inventory.blobs.contains_key(&part.blob.digest);
        recorded && unpacked && dropped
    };
    let absent: BTreeSet<Digest> =
        missing.iter().filter(|part| stands_for(part)).map(|part| part.blob.digest).collect();
    let needed: Vec<Blob> =
        missing.iter().map(|part| part.blob).filter(|blob| !absent.contains(&blob.digest)).collect();
    let state = if !needed.is_empty() {
        State::Incomplete
    } else if is_finished(&desired, inventory, unpacked, &absent) {
        State::UpToDate
    } else {
        State::Unfinished
    };
    let first = needed.into_iter().filter(|blob| sent.insert(blob.digest));
    let send = first
        .map(|blob| {
            let offset = inventory.partial.get(&blob.digest).copied().unwrap_or(0);
            BlobTransfer { blob, offset: offset.min(blob.size) }
        })
        .collect();
    ImagePlan { send, state, absent, desired }
}

/// Whether names, labels and snapshots are correct for an image whose blobs are all present.
fn is_finished(desired: &DesiredImage, inventory: &Inventory, unpacked: bool, absent: &BTreeSet<Digest>) -> bool {
    let target = desired.target.blob.digest;
    let named = desired.names.iter().all(|name| {
        inventory.records.get(name).is_some_and(|record| {
            let noted = record.pushed.as_ref().is_some_and(|it| it.digest == target && may_be_noted(name, &it.name));
            record.pinned && noted && record.target == Some(target)
        })
    });
    let keeps = |digest: &Digest, child: &Digest| {
        inventory.blobs.get(digest).is_some_and(|blob| blob.keeps.contains(child)) || absent.contains(child)
    };
    let labelled = desired.blobs.iter().all(|part| part.keeps().all(|child| keeps(&part.blob.digest, &child)));
    let held = desired.top().is_none_or(|top| keeps(&desired.config, &top));
    named && unpacked && labelled && held
}

fn has_blob(inventory: &Inventory, digest: &Digest, size: u64) -> bool {
    inventory.blobs.get(digest).is_some_and(|blob| blob.size == size && !blob.damaged)
}

fn points_at(inventory: &Inventory, name: &str, target: &Digest) -> bool {
    inventory.records.get(name).is_some_and(|record| record.target.as_ref() == Some(target))
}
