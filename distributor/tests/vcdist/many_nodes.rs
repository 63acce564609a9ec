//! Many nodes at once: sixteen take little longer than two, and little memory.

use crate::rig::{Fleet, image, noise};

const MB: usize = 1_000_000;

/// The most memory that a push to sixteen nodes may take, in bytes.
const MEMORY: u64 = 96 << 20;

fn three(fleet: &Fleet, version: u64) {
    for (name, number) in [("manager", 1), ("syncer", 2), ("vn-agent", 3)] {
        image(&fleet.store(), name, &noise(1, 2 * MB), &noise(3 * version + number, MB));
    }
}

#[test]
fn sixteen_nodes_take_less_than_three_times_as_long_as_two() {
    let fleet = Fleet::of(16);
    three(&fleet, 1);
    // Helper and base go first: what is measured is a new version.
    let first = fleet.push(16, &[]);
    first.pushed.report(0);
    // Each node has a link of its own, which is slower than this machine. The processors are not sixteen times two.
    let slowly = ["--limit-rate-per-node", "750k"];
    three(&fleet, 2);
    let two = fleet.push(2, &slowly);
    two.pushed.report(0);
    three(&fleet, 3);
    let sixteen = fleet.push(16, &slowly);
    let report = sixteen.pushed.report(0);
    let nodes = report["nodes"].as_array().expect("nodes");
    assert!(nodes.len() == 16 && nodes.iter().all(|node| node["result"] == "pushed"), "{report}");
    println!(
        "two {:?}, sixteen {:?}, {} and {} bytes",
        two.elapsed, sixteen.elapsed, two.peak_memory, first.peak_memory
    );
    assert!(sixteen.elapsed < two.elapsed * 3, "{:?} against {:?}", sixteen.elapsed, two.elapsed);
    for peak in [first.peak_memory, sixteen.peak_memory] {
        assert!(0 < peak && peak < MEMORY, "{peak} bytes");
    }
}
