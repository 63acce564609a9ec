//! Garbage collection that never rests: whatever it may take, it takes at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use crate::rig::{Rig, image, noise};

const MB: usize = 1_000_000;

fn three(rig: &Rig, version: u64) {
    for (name, number) in [("manager", 1), ("syncer", 2), ("vn-agent", 3)] {
        image(&rig.store(), name, &noise(1, 3 * MB), &noise(3 * version + number, 2 * MB));
    }
}

/// Collects garbage while `work` is done, over and over; how often.
fn collecting<T: Send>(rig: &Rig, work: impl FnOnce() -> T + Send) -> (T, u32) {
    let rounds = AtomicU32::new(0);
    let done = scope(|scope| {
        let work = scope.spawn(work);
        while !work.is_finished() {
            rig.collect_garbage();
            rounds.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(10));
        }
        work.join().expect("the work")
    });
    (done, rounds.into_inner())
}

#[test]
fn collection_in_a_loop_takes_nothing_from_a_push() {
    for way in ["auto", "never"] {
        let rig = Rig::up();
        for version in 1..=3 {
            three(&rig, version);
            let (node, rounds) = collecting(&rig, || rig.push(&["--helper", way, "--limit-rate", "8M"]).node());
            assert_eq!(node["result"], "pushed");
            assert_eq!(node["blobs"]["sent"], node["blobs"]["needed"], "nothing is sent twice: {node}");
            assert!(rounds > 2, "only {rounds} collections");
            rig.assert_names_are_whole();
            assert_eq!(rig.missing(), 0);
            assert_eq!(rig.push(&["--helper", way]).node()["result"], "up-to-date");
        }
    }
}
