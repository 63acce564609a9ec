//! What crosses the wire, counted at the node's link; and a link that is cut for a while.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::rig::{NodeOptions, Rig, image, noise};

const MB: usize = 1_000_000;

/// What any push may take beside its blobs: the login, the inventory, the answers.
const TALK: u64 = 64 << 10;

fn rig() -> Rig {
    Rig::with(&NodeOptions { network: true, ..Default::default() })
}

#[test]
fn a_repeated_push_is_small_talk_and_a_changed_layer_is_little_more_than_itself() {
    let rig = rig();
    let names = [("manager", 2), ("syncer", 3), ("vn-agent", 4)];
    for (name, seed) in names {
        image(&rig.store(), name, &noise(1, 4 * MB), &noise(seed, 2 * MB));
    }
    rig.push(&[]).report(0);
    let carried = |push: &dyn Fn()| {
        let before = rig.network().carried();
        push();
        rig.network().carried() - before
    };
    let again = carried(&|| assert_eq!(rig.push(&[]).node()["result"], "up-to-date"));
    assert!(again < TALK, "a repeated push takes {again} bytes");

    image(&rig.store(), "manager", &noise(1, 4 * MB), &noise(9, 8 * MB));
    let blob = rig.store().image("manager").expect("an image").platforms[0].layers[1].size;
    let changed = carried(&|| assert_eq!(rig.push(&[]).node()["blobs"]["sent"], 3));
    assert!(changed < blob + blob * 3 / 100 + TALK, "a layer of {blob} bytes takes {changed}");
    assert!(changed > blob, "the link is the one that is counted: {changed}");
}

#[test]
fn a_link_that_is_down_for_a_while_holds_a_push_up_and_no_more() {
    let rig = rig();
    image(&rig.store(), "syncer", b"base", b"small");
    rig.push(&["syncer"]).report(0);
    image(&rig.store(), "manager", b"base", &noise(5, 12 * MB));
    let mut command = rig.command(&[&rig.address()], &["manager", "--limit-rate", "3M"]);
    let before = rig.network().carried();
    let mut push = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vcdist starts");
    while rig.network().carried() - before < 4 * MB as u64 {
        assert!(push.try_wait().expect("a child").is_none(), "it ends before it has sent much");
        sleep(Duration::from_millis(5));
    }
    rig.network().set(false);
    sleep(Duration::from_secs(5));
    rig.network().set(true);
    let pushed: crate::rig::PushOutput = push.wait_with_output().expect("it ends").into();
    let node = pushed.node();
    assert_eq!((&node["result"], &node["blobs"]["sent"]), (&"pushed".into(), &3.into()), "{node}");
    let total = node["bytes"]["total"].as_u64().expect("bytes");
    assert_eq!(node["bytes"]["sent"], total - base(&rig), "nothing is sent twice");
}

/// The bytes of the base layer, which was there.
fn base(rig: &Rig) -> u64 {
    rig.store().image("manager").expect("an image").platforms[0].layers[0].size
}
