//! Blobs that went bad on a node's disk: found, dropped and sent again.

use std::fs::{self, OpenOptions};

use serde_json::json;
use vcstore::Digest;

use crate::rig::{Rig, image, noise};

const MB: usize = 1_000_000;

fn flip(rig: &Rig, digest: &Digest) {
    let path = rig.blob_file(digest);
    let mut bytes = fs::read(&path).expect("a blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    fs::write(&path, bytes).expect("damage");
}

fn is_sound(rig: &Rig, digest: &Digest) -> bool {
    Digest::of(&fs::read(rig.blob_file(digest)).expect("a blob")) == *digest
}

#[test]
fn what_went_bad_on_a_node_is_sent_again() {
    let rig = Rig::up();
    image(&rig.store(), "manager", &noise(1, 2 * MB), &noise(2, MB));
    rig.push(&["manager"]).report(0);
    let this = rig.store().image("manager").expect("an image").platforms[0].clone();
    let digest = |descriptor: &oci_spec::image::Descriptor| Digest::try_from(descriptor.digest()).expect("a digest");
    let (manifest, config, layer) = (digest(&this.manifest), digest(&this.config), this.layers[1].digest);

    let shorten = OpenOptions::new().write(true).open(rig.blob_file(&layer)).expect("a blob");
    shorten.set_len(1000).expect("damage");
    flip(&rig, &config);
    flip(&rig, &manifest);
    let repaired = rig.push(&["manager"]).node();
    assert_eq!((&repaired["result"], &repaired["blobs"]), (&json!("pushed"), &json!({"needed": 3, "sent": 3})));
    assert!([manifest, config, layer].iter().all(|digest| is_sound(&rig, digest)));
    assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date");
    assert_eq!(rig.ctr(&["leases", "ls", "-q"]), "");
}

#[test]
fn folders_that_a_killed_containerd_left_are_not_in_the_way() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    rig.push(&["manager"]).report(0);
    let snapshots = rig.path().join("root/io.containerd.snapshotter.v1.overlayfs/snapshots");
    let numbers = fs::read_dir(&snapshots).expect("snapshots").flatten();
    let last = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max().expect("a snapshot");
    // It names folders by the next number, and a number is free again when what was under way is undone.
    (1..=4)
        .for_each(|next| fs::create_dir_all(snapshots.join((last + next).to_string()).join("fs")).expect("a folder"));
    image(&rig.store(), "manager", b"base", b"another");
    assert_eq!(rig.push(&["manager"]).node()["result"], "pushed");
}

#[test]
fn a_layer_that_does_not_unpack_for_it_went_bad_is_sent_again() {
    let rig = Rig::up();
    image(&rig.store(), "manager", &noise(1, 2 * MB), &noise(2, MB));
    rig.push(&["manager"]).report(0);
    let layers = rig.store().image("manager").expect("an image").platforms[0].layers.clone();
    let config = rig.store().image("manager").expect("an image").platforms[0].config.digest().to_string();
    let snapshots = rig.ctr(&["snapshots", "ls"]);
    let base = layers[0].diff_id.to_string();
    let chains: Vec<&str> = snapshots.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let top = chains.iter().find(|chain| chain.starts_with("sha256:") && **chain != base).expect("a snapshot");
    rig.ctr(&["content", "label", &config, "containerd.io/gc.ref.snapshot.overlayfs="]);
    rig.ctr(&["snapshots", "rm", top]);
    flip(&rig, &layers[1].digest);
    let repaired = rig.push(&["manager"]);
    assert_eq!(repaired.node()["result"], "pushed", "{}", repaired.stderr());
    assert!(repaired.stderr().contains(&format!("layer {} was damaged on the node", layers[1].digest)));
    assert!(is_sound(&rig, &layers[1].digest));
    assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date");
}
