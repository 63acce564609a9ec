//! Tests of plans, and the inventory of an empty node, from which other tests start.

use super::*;
use crate::images::desired_image::tests::image;
use crate::images::inventory::{Disk, Record, StoredBlob};
use crate::images::push_label::Time;
use proptest::prelude::*;

/// Returns the inventory of an empty node.
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

/// Returns the node's inventory after the plan was carried out.
fn carry_out(plan: &Plan, inventory: &Inventory) -> Inventory {
    let mut after = inventory.clone();
    for image in &plan.images {
        for transfer in &image.send {
            after.partial.remove(&transfer.blob.digest);
            after.blobs.insert(transfer.blob.digest, StoredBlob { size: transfer.blob.size, ..Default::default() });
        }
        for part in &image.desired.blobs {
            if let Some(present) = after.blobs.get_mut(&part.blob.digest) {
                present.keeps.extend(part.keeps());
            }
        }
        after.snapshots.extend(image.desired.layers.iter().map(|layer| layer.chain_id));
        if let Some(config) = after.blobs.get_mut(&image.desired.config) {
            config.keeps.extend(image.desired.top());
        }
        for name in &image.desired.names {
            let target = Some(image.desired.target.blob.digest);
            let pushed = Some(image.desired.pushed(Time::now()));
            after.records.insert(name.clone(), Record { target, pinned: true, pushed });
        }
    }
    after
}

#[test]
fn an_empty_node_gets_everything_and_shared_layers_once() {
    let plan = plan(&two(), &empty(), &UnpackedSizes::new()).expect("a plan");
    let digests: BTreeSet<_> = plan.sends().map(|transfer| transfer.blob.digest).collect();
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
    let desired = DesiredImage::new(&two()[0], &Platform::default()).expect("its platform");
    for layer in &desired.layers {
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
    assert_eq!(plan.sends().map(|transfer| transfer.blob.digest).collect::<Vec<_>>(), [Digest::of(b"base")]);
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

/// A node with any part of these images, intact or not.
fn any_node(images: &[Image]) -> impl Strategy<Value = Inventory> + use<> {
    let whole = carry_out(&of(all_desired(images), &empty(), &UnpackedSizes::new()), &empty());
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

fn all_desired(images: &[Image]) -> Vec<DesiredImage> {
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
        let sent: Vec<Digest> = this.sends().map(|transfer| transfer.blob.digest).collect();
        let unique: BTreeSet<Digest> = sent.iter().copied().collect();
        prop_assert_eq!(sent.len(), unique.len());
        prop_assert!(this.kept.is_disjoint(&unique));
        prop_assert!(this.bytes_to_send() <= this.total_bytes);
        for transfer in this.sends() {
            prop_assert!(transfer.offset <= transfer.blob.size);
        }
        for image in &this.images {
            for part in &image.desired.blobs {
                let digest = part.blob.digest;
                let accounted = [this.kept.contains(&digest), unique.contains(&digest), image.absent.contains(&digest)];
                prop_assert!(accounted.contains(&true));
            }
        }
        let after = carry_out(&this, &node);
        prop_assert!(plan(&images, &after, &UnpackedSizes::new()).expect("a plan").is_done());
    }
}
