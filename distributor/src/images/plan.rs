//! What must go to a node: computed from what is wanted and what is there, before anything moves.
//! Pure data: `--dry-run` prints it, a push carries it out.

use std::collections::{BTreeMap, BTreeSet};

use miette::Diagnostic;
use thiserror::Error;
use vcstore::{Blob, Digest, Image, Platform};

use crate::images::desired_image::{DesiredImage, Part, may_be_noted};
use crate::images::inventory::{Disk, Inventory};
use crate::images::unpacked_size::{UnpackedSize, UnpackedSizes};

/// What a push does on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Every image, in the order they were asked for.
    pub images: Vec<ImagePlan>,
    /// Bytes of all blobs of all images, shared ones once.
    pub total_bytes: u64,
    /// Blobs the node counts on and need not be sent: to be held while the push lasts.
    pub kept: BTreeSet<Digest>,
    /// Snapshots likewise.
    pub kept_snapshots: BTreeSet<Digest>,
    /// Blobs that are damaged on the node: dropped there, and sent.
    pub damaged: BTreeSet<Digest>,
    /// What the layers that are yet to be unpacked take there.
    pub unpacks_to: UnpackedSize,
}

/// What a push does about one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlan {
    /// The image.
    pub wanted: DesiredImage,
    /// What has to be done.
    pub state: State,
    /// Blobs to send for it, children first. A blob that several images share goes with the first.
    pub send: Vec<Sending>,
    /// Blobs that are not on the node and need not be: their snapshots stand for them.
    pub absent: BTreeSet<Digest>,
}

/// How far an image is on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Whole: nothing to do.
    UpToDate,
    /// Every blob is there; names, labels or snapshots are not.
    Unfinished,
    /// Blobs are missing.
    Incomplete,
}

/// A blob to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    /// The blob.
    pub blob: Blob,
    /// How many bytes of it the node has from an earlier attempt.
    pub offset: u64,
}

/// Why a plan cannot be made or carried out.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The image is for other machines.
    #[error("{image} has nothing for {platform}, only {has}")]
    #[diagnostic(help("build it for {platform} (`vcbuild images --platform {platform}`), or leave the node out"))]
    Platform {
        /// The image.
        image: String,
        /// The node's platform.
        platform: String,
        /// The image's platforms.
        has: String,
    },
    /// The node's disk cannot take it.
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
        /// Bytes free.
        free: u64,
        /// Bytes to send.
        needed: u64,
        /// Bytes of the files they unpack to.
        unpacked: u64,
    },
    /// The node's file system has no room for more files.
    #[error("{path} has room for {free} more files and {needed} are needed")]
    #[diagnostic(help(
        "the file system is out of inodes: remove files on the node, then push again; nothing was sent"
    ))]
    InodesFull {
        /// A folder on the file system.
        path: String,
        /// Inodes free.
        free: u64,
        /// Files of blobs and layers.
        needed: u64,
    },
}

/// The layers of `images` that the node which `inventory` describes has yet to unpack, by their digests.
#[must_use]
pub fn layers_to_unpack(images: &[Image], inventory: &Inventory) -> BTreeSet<Digest> {
    let wanted = images.iter().filter_map(|image| DesiredImage::new(image, &inventory.platform));
    let layers = wanted.flat_map(|image| image.layers);
    layers.filter(|layer| !inventory.snapshots.contains(&layer.chain_id)).map(|layer| layer.digest).collect()
}

/// What of `images` has to go to the node that `inventory` describes. `unpacked_sizes` are those of the layers that it has yet
/// to unpack.
///
/// # Errors
/// When an image has nothing for the node's platform.
pub fn plan(images: &[Image], inventory: &Inventory, unpacked_sizes: &UnpackedSizes) -> Result<Plan, Error> {
    check_platform(images, &inventory.platform)?;
    let wanted = images.iter().filter_map(|image| DesiredImage::new(image, &inventory.platform));
    Ok(of(wanted.collect(), inventory, unpacked_sizes))
}

/// What of `images` has to go to a node that says only of whole images whether it `has` them: of one that it lacks, every
/// blob but those that its inventory names.
///
/// # Errors
/// When an image has nothing for the node's platform.
pub(crate) fn for_engine(
    images: &[Image],
    inventory: &Inventory,
    has: impl Fn(&DesiredImage) -> bool,
    unpacked_sizes: &UnpackedSizes,
) -> Result<Plan, Error> {
    check_platform(images, &inventory.platform)?;
    let wanted = images.iter().filter_map(|image| DesiredImage::new(image, &inventory.platform));
    let (there, lacking): (Vec<DesiredImage>, Vec<DesiredImage>) = wanted.partition(has);
    let blobs = there.iter().chain(&lacking).flat_map(|image| &image.blobs);
    let all: BTreeMap<Digest, u64> = blobs.map(|part| (part.blob.digest, part.blob.size)).collect();
    let done = there.into_iter().map(|wanted| ImagePlan {
        wanted,
        state: State::UpToDate,
        send: Vec::new(),
        absent: BTreeSet::new(),
    });
    let mut plan = of(lacking, inventory, unpacked_sizes);
    // Blobs that are there may still be lacking a name.
    plan.images.iter_mut().for_each(|image| image.state = image.state.max(State::Unfinished));
    plan.images.extend(done);
    let place = |image: &ImagePlan| images.iter().position(|one| one.name == image.wanted.name());
    plan.images.sort_by_key(place);
    plan.total_bytes = all.values().sum();
    Ok(plan)
}

/// The images that a node of this platform lacks.
pub(crate) fn lacking<'a>(
    images: &'a [Image],
    platform: &'a Platform,
    has: impl Fn(&DesiredImage) -> bool + 'a,
) -> impl Iterator<Item = &'a Image> {
    images.iter().filter(move |image| DesiredImage::new(image, platform).is_some_and(|wanted| !has(&wanted)))
}

/// Checks that every image has something for this platform.
///
/// # Errors
/// When one has not.
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
    pub fn sends(&self) -> impl Iterator<Item = &Sending> {
        self.images.iter().flat_map(|image| &image.send)
    }

    /// How many bytes are to be sent.
    #[must_use]
    pub fn bytes_to_send(&self) -> u64 {
        self.sends().map(|sending| sending.blob.size - sending.offset).sum()
    }

    /// Whether the node has everything.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.images.iter().all(|image| image.state == State::UpToDate)
    }

    /// Checks that what is to be sent fits, and what it unpacks to.
    ///
    /// # Errors
    /// When it does not.
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

fn of(wanted: Vec<DesiredImage>, inventory: &Inventory, unpacked_sizes: &UnpackedSizes) -> Plan {
    let all: BTreeMap<Digest, u64> =
        wanted.iter().flat_map(|image| &image.blobs).map(|part| (part.blob.digest, part.blob.size)).collect();
    let mut sent = BTreeSet::new();
    let images: Vec<ImagePlan> = wanted.into_iter().map(|image| of_image(image, inventory, &mut sent)).collect();
    let kept = all.iter().filter(|(digest, size)| has_blob(inventory, digest, **size)).map(|(digest, _)| *digest);
    let damaged =
        all.keys().filter(|digest| inventory.blobs.contains_key(digest) && !has_blob(inventory, digest, all[digest]));
    let layers = || images.iter().flat_map(|image| &image.wanted.layers);
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

fn of_image(wanted: DesiredImage, inventory: &Inventory, sent: &mut BTreeSet<Digest>) -> ImagePlan {
    let missing: Vec<&Part> =
        wanted.blobs.iter().filter(|part| !has_blob(inventory, &part.blob.digest, part.blob.size)).collect();
    // Some distributions drop layers once they are unpacked: where the name stands and the snapshot is there, a missing
    // layer is not missed.
    let recorded = wanted.names.iter().any(|name| points_at(inventory, name, &wanted.target.blob.digest));
    let unpacked = wanted.top().is_none_or(|top| inventory.snapshots.contains(&top));
    let layers: BTreeSet<Digest> = wanted.layers.iter().map(|layer| layer.digest).collect();
    let stands_for = |part: &&Part| {
        let dropped = layers.contains(&part.blob.digest) && !inventory.blobs.contains_key(&part.blob.digest);
        recorded && unpacked && dropped
    };
    let absent: BTreeSet<Digest> =
        missing.iter().filter(|part| stands_for(part)).map(|part| part.blob.digest).collect();
    let needed: Vec<Blob> =
        missing.iter().map(|part| part.blob).filter(|blob| !absent.contains(&blob.digest)).collect();
    let state = if !needed.is_empty() {
        State::Incomplete
    } else if is_finished(&wanted, inventory, unpacked, &absent) {
        State::UpToDate
    } else {
        State::Unfinished
    };
    let first = needed.into_iter().filter(|blob| sent.insert(blob.digest));
    let send = first
        .map(|blob| {
            let offset = inventory.partial.get(&blob.digest).copied().unwrap_or(0);
            Sending { blob, offset: offset.min(blob.size) }
        })
        .collect();
    ImagePlan { send, state, absent, wanted }
}

/// Whether names, labels and snapshots of an image whose blobs are there are as they should be.
fn is_finished(wanted: &DesiredImage, inventory: &Inventory, unpacked: bool, absent: &BTreeSet<Digest>) -> bool {
    let target = wanted.target.blob.digest;
    let named = wanted.names.iter().all(|name| {
        inventory.records.get(name).is_some_and(|record| {
            let noted = record.pushed.as_ref().is_some_and(|it| it.digest == target && may_be_noted(name, &it.name));
            record.pinned && noted && record.target == Some(target)
        })
    });
    let keeps = |digest: &Digest, child: &Digest| {
        inventory.blobs.get(digest).is_some_and(|blob| blob.keeps.contains(child)) || absent.contains(child)
    };
    let labelled = wanted.blobs.iter().all(|part| part.keeps().all(|child| keeps(&part.blob.digest, &child)));
    let held = wanted.top().is_none_or(|top| keeps(&wanted.config, &top));
    named && unpacked && labelled && held
}

fn has_blob(inventory: &Inventory, digest: &Digest, size: u64) -> bool {
    inventory.blobs.get(digest).is_some_and(|blob| blob.size == size && !blob.damaged)
}

fn points_at(inventory: &Inventory, name: &str, target: &Digest) -> bool {
    inventory.records.get(name).is_some_and(|record| record.target.as_ref() == Some(target))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::images::desired_image::tests::image;
    use crate::images::inventory::{Disk, Present, Record};
    use crate::images::push_label::Time;
    use proptest::prelude::*;

    /// What a node without images has.
    pub(crate) fn empty() -> Inventory {
        Inventory {
            platform: Platform::default(),
            snapshotter: "overlayfs".into(),
            disk: None,
            snapshot_disk: None,
            blobs: BTreeMap::new(),
            partial: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            records: BTreeMap::new(),
        }
    }

    fn two() -> Vec<Image> {
        vec![
            image("docker.io/vc/manager:v1", &["base", "manager"], &["amd64"]),
            image("docker.io/vc/syncer:v1", &["base", "syncer"], &["amd64"]),
        ]
    }

    /// The node after the plan was carried out.
    fn carry_out(plan: &Plan, inventory: &Inventory) -> Inventory {
        let mut after = inventory.clone();
        for image in &plan.images {
            for sending in &image.send {
                after.partial.remove(&sending.blob.digest);
                after.blobs.insert(sending.blob.digest, Present { size: sending.blob.size, ..Default::default() });
            }
            for part in &image.wanted.blobs {
                if let Some(present) = after.blobs.get_mut(&part.blob.digest) {
                    present.keeps.extend(part.keeps());
                }
            }
            after.snapshots.extend(image.wanted.layers.iter().map(|layer| layer.chain_id));
            if let Some(config) = after.blobs.get_mut(&image.wanted.config) {
                config.keeps.extend(image.wanted.top());
            }
            for name in &image.wanted.names {
                let target = Some(image.wanted.target.blob.digest);
                let pushed = Some(image.wanted.pushed(Time::now()));
                after.records.insert(name.clone(), Record { target, pinned: true, pushed });
            }
        }
        after
    }

    #[test]
    fn an_empty_node_gets_everything_and_shared_layers_once() {
        let plan = plan(&two(), &empty(), &UnpackedSizes::new()).expect("a plan");
        let digests: BTreeSet<_> = plan.sends().map(|sending| sending.blob.digest).collect();
        assert_eq!(plan.sends().count(), 7, "base, 2 layers, 2 configs, 2 manifests");
        assert_eq!(digests.len(), 7);
        assert_eq!(plan.bytes_to_send(), plan.total_bytes);
        assert_eq!(plan.images[1].send.len(), 3, "the base goes with the first image");
    }

    #[test]
    fn a_full_node_gets_nothing() {
        let before = empty();
        let first = plan(&two(), &before, &UnpackedSizes::new()).expect("a plan");
        let again = plan(&two(), &carry_out(&first, &before), &UnpackedSizes::new()).expect("a plan");
        assert!(again.is_done());
        assert_eq!((again.sends().count(), again.bytes_to_send()), (0, 0));
    }

    #[test]
    fn one_changed_layer_sends_that_layer_its_config_and_its_manifest() {
        let before = empty();
        let after = carry_out(&plan(&two(), &before, &UnpackedSizes::new()).expect("a plan"), &before);
        let mut images = two();
        images[0] = image("docker.io/vc/manager:v1", &["base", "manager 2"], &["amd64"]);
        let changed = plan(&images, &after, &UnpackedSizes::new()).expect("a plan");
        assert_eq!(changed.sends().count(), 3);
        assert_eq!(changed.images[1].state, State::UpToDate);
        assert_eq!(changed.kept_snapshots.len(), 2, "the base's snapshot and the syncer's");
    }

    #[test]
    fn what_is_there_but_not_finished_is_finished_without_sending() {
        let before = empty();
        let whole = carry_out(&plan(&two(), &before, &UnpackedSizes::new()).expect("a plan"), &before);
        let unfinished = |change: &dyn Fn(&mut Inventory)| {
            let mut node = whole.clone();
            change(&mut node);
            let plan = plan(&two(), &node, &UnpackedSizes::new()).expect("a plan");
            assert_eq!(plan.sends().count(), 0);
            assert_eq!(plan.images[0].state, State::Unfinished);
        };
        let name = "docker.io/vc/manager:v1";
        let config = DesiredImage::new(&two()[0], &Platform::default()).expect("its platform").config;
        unfinished(&|node| assert!(node.records.remove(name).is_some()));
        unfinished(&|node| node.records.get_mut(name).expect("a record").pinned = false);
        unfinished(&|node| node.records.get_mut(name).expect("a record").target = None);
        unfinished(&|node| node.blobs.get_mut(&config).expect("config").keeps.clear());
        unfinished(&|node| node.snapshots.clear());
    }

    #[test]
    fn layers_dropped_after_unpacking_are_not_missed_where_the_image_is_recorded() {
        let before = empty();
        let mut node = carry_out(&plan(&two(), &before, &UnpackedSizes::new()).expect("a plan"), &before);
        let wanted = DesiredImage::new(&two()[0], &Platform::default()).expect("its platform");
        for layer in &wanted.layers {
            node.blobs.remove(&layer.digest);
        }
        let done = plan(&two()[..1], &node, &UnpackedSizes::new()).expect("a plan");
        assert!(done.is_done());
        assert_eq!(done.images[0].absent.len(), 2);
        node.records.clear();
        let again = plan(&two()[..1], &node, &UnpackedSizes::new()).expect("a plan");
        assert_eq!(again.sends().count(), 2, "without a record nothing says that the image was whole");
    }

    #[test]
    fn a_blob_of_another_size_is_sent_again() {
        let before = empty();
        let mut node = carry_out(&plan(&two(), &before, &UnpackedSizes::new()).expect("a plan"), &before);
        node.blobs.get_mut(&Digest::of(b"base")).expect("base").size = 1;
        let plan = plan(&two(), &node, &UnpackedSizes::new()).expect("a plan");
        assert_eq!(plan.sends().map(|sending| sending.blob.digest).collect::<Vec<_>>(), [Digest::of(b"base")]);
    }

    #[test]
    fn a_full_disk_and_a_wrong_platform_are_said_before_anything_moves() {
        let mut node = empty();
        node.disk = Some(Disk { path: "/var/lib/containerd".into(), free_bytes: 10, free_inodes: 1_000 });
        let images = two();
        let unpacked = layers_to_unpack(&images, &node);
        let one = UnpackedSize { bytes: 4096, files: 5 };
        let unpacked_sizes: UnpackedSizes = unpacked.iter().map(|layer| (*layer, one)).collect();
        let this = plan(&images, &node, &unpacked_sizes).expect("a plan");
        // The base, which both have, and a layer of each.
        assert_eq!(this.unpacks_to, UnpackedSize { bytes: 3 * 4096, files: 15 });
        let sent = this.bytes_to_send();
        let said = |node: &Inventory| this.check_disk(node).expect_err("no room").to_string();
        let words = format!("10 B free and {sent} B have to be sent, which unpack to 12.3 kB");
        assert_eq!(said(&node), format!("/var/lib/containerd has {words}"));
        let disk = |free_bytes, free_inodes| Some(Disk { path: "/var/lib/containerd".into(), free_bytes, free_inodes });
        node.disk = disk(sent + 3 * 4096, 21);
        assert_eq!(said(&node), "/var/lib/containerd has room for 21 more files and 22 are needed");
        node.disk = disk(sent + 3 * 4096, 22);
        assert!(this.check_disk(&node).is_ok(), "just enough");
        node.disk = disk(sent, 7);
        node.snapshot_disk = Some(Disk { path: "/snapshots".into(), free_bytes: 3 * 4096, free_inodes: 15 });
        assert!(this.check_disk(&node).is_ok(), "each on a file system of its own");
        node.snapshot_disk = Some(Disk { path: "/snapshots".into(), free_bytes: 4096, free_inodes: 15 });
        assert_eq!(said(&node), "/snapshots has 4.10 kB free and 0 B have to be sent, which unpack to 12.3 kB");
        node.platform = Platform::linux("arm64");
        let error = plan(&images, &node, &UnpackedSizes::new()).expect_err("another platform").to_string();
        assert_eq!(error, "docker.io/vc/manager:v1 has nothing for linux/arm64, only linux/amd64");
    }

    fn any_images() -> impl Strategy<Value = Vec<Image>> {
        let layers = prop::collection::vec(prop::sample::select(vec!["a", "bb", "ccc", "dddd", "eeeee"]), 0..5);
        prop::collection::vec(layers, 1..5).prop_map(|images| {
            let name = |index: usize| format!("docker.io/vc/image{index}:v1");
            images.iter().enumerate().map(|(index, layers)| image(&name(index), layers, &["amd64"])).collect()
        })
    }

    /// A node that has any part of these images, right or wrong.
    fn any_node(images: &[Image]) -> impl Strategy<Value = Inventory> + use<> {
        let whole = carry_out(&of(all_wanted(images), &empty(), &UnpackedSizes::new()), &empty());
        let picks = prop::collection::vec(any::<u8>(), 64);
        picks.prop_map(move |picks| {
            let mut picks = picks.into_iter().cycle();
            let mut pick = || picks.next().unwrap_or(0);
            let mut node = whole.clone();
            node.blobs.retain(|_, _| pick() % 3 > 0);
            node.blobs.values_mut().for_each(|blob| {
                if pick() % 4 == 0 {
                    blob.keeps.clear();
                }
                blob.size += u64::from(pick() % 8 == 0);
            });
            node.snapshots.retain(|_| pick() % 2 > 0);
            node.records.retain(|_, _| pick() % 2 > 0);
            for digest in whole.blobs.keys() {
                if pick() % 4 == 0 {
                    node.partial.insert(*digest, u64::from(pick()));
                }
            }
            node
        })
    }

    fn all_wanted(images: &[Image]) -> Vec<DesiredImage> {
        images.iter().filter_map(|image| DesiredImage::new(image, &Platform::default())).collect()
    }

    proptest! {
        #[test]
        fn a_plan_sends_each_missing_blob_once_and_then_nothing_is_left_to_do(
            (images, node) in any_images().prop_flat_map(|images| {
                let node = any_node(&images);
                (Just(images), node)
            })
        ) {
            let this = plan(&images, &node, &UnpackedSizes::new()).expect("a plan");
            let sent: Vec<Digest> = this.sends().map(|sending| sending.blob.digest).collect();
            let unique: BTreeSet<Digest> = sent.iter().copied().collect();
            prop_assert_eq!(sent.len(), unique.len());
            prop_assert!(this.kept.is_disjoint(&unique));
            prop_assert!(this.bytes_to_send() <= this.total_bytes);
            for sending in this.sends() {
                prop_assert!(sending.offset <= sending.blob.size);
            }
            for image in &this.images {
                for part in &image.wanted.blobs {
                    let digest = part.blob.digest;
                    let accounted = [this.kept.contains(&digest), unique.contains(&digest), image.absent.contains(&digest)];
                    prop_assert!(accounted.contains(&true));
                }
            }
            let after = carry_out(&this, &node);
            prop_assert!(plan(&images, &after, &UnpackedSizes::new()).expect("a plan").is_done());
        }
    }
}
