//! Builds beside each other, and garbage collection beside builds.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rigs::Run;

use crate::bench::{Actions, Bench, digests};
use crate::stamped_build::{Build, is_sound, warm};

#[test]
fn ten_builds_at_once_do_each_action_once_and_agree() {
    let bench = Bench::with_hello();
    let runs: Vec<Run> = thread::scope(|scope| {
        let start = |number: u32| {
            let bench = &bench;
            scope.spawn(move || Run::of(&mut Build { stamp: 1, epoch: 1 }.command(bench, &format!("out-{number}"))))
        };
        let started: Vec<_> = (0..10).map(start).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let images: BTreeSet<_> = runs.iter().map(|run| digests(&run.json())).collect();
    assert_eq!(images.len(), 1, "{images:?}");
    for kind in ["scan", "layer", "image"] {
        let ran: usize = runs.iter().map(|run| run.ran(kind)).sum();
        assert_eq!(ran, if kind == "scan" { 1 } else { 2 }, "{kind}");
    }
    is_sound(&bench, "after ten builds at once");
}

#[test]
fn garbage_collection_in_a_loop_takes_nothing_from_builds_beside_it() {
    let (bench, undisturbed) = (warm(), warm());
    let (done, collections) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let collect = || {
            while !done.load(Ordering::SeqCst) {
                bench.json(&["gc", "--older-than", "0s", "--max-size", "0B"]);
                collections.fetch_add(1, Ordering::SeqCst);
            }
        };
        let build_many = |number: u32| {
            for turn in 1..=12 {
                // Every third links its programs again.
                let build = Build { stamp: number + turn / 3, epoch: turn };
                build.is_as_undisturbed(&bench, &undisturbed, &format!("out-{number}"));
            }
        };
        let collector = scope.spawn(collect);
        let builders = [1, 101].map(|number| scope.spawn(move || build_many(number)));
        let built: Vec<_> = builders.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        collector.join().unwrap();
        for result in built {
            result.unwrap();
        }
    });
    assert!(collections.load(Ordering::SeqCst) >= 24, "there was garbage collection during every build");
    is_sound(&bench, "after collections beside builds");
}
