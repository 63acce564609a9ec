//! Every containerd, by every way, over every SSH, for every login: all of it cold, again with nothing to do, again with one new layer; and
//! what came is run.

use std::fs;

use lab::Containerd;
use serde_json::json;

use crate::rig::{Login, NodeOptions, Rig, image, noise, program};

const MB: usize = 1_000_000;

const NAMES: [&str; 3] = ["manager", "syncer", "vn-agent"];

#[test]
fn containerd_1_6() {
    serves(Containerd::V1_6);
}

#[test]
fn containerd_1_7() {
    serves(Containerd::V1_7);
}

#[test]
fn containerd_2() {
    serves(Containerd::V2);
}

fn serves(containerd: Containerd) {
    let folder = containerd.folder().expect("its programs");
    for login in [Login::Root, Login::Sudo] {
        let rig = Rig::with(&NodeOptions { containerd: folder.clone(), login, ..Default::default() });
        let ways = [("auto", "helper"), ("never", "ctr")];
        for (ssh, (way, via)) in ["system", "embedded"].into_iter().flat_map(|ssh| ways.map(|way| (ssh, way))) {
            let push = || rig.push(&["--ssh", ssh, "--helper", way]).node();
            for name in NAMES {
                image(&rig.store(), name, &noise(1, 2 * MB), &program(&format!("{name} by {via} over {ssh}")));
            }
            let cold = push();
            assert_eq!((&cold["result"], &cold["via"]), (&json!("pushed"), &json!(via)));
            assert_eq!(cold["blobs"], json!({"needed": 10, "sent": 10}));
            for name in NAMES {
                assert_eq!(run(&rig, name), format!("{name} by {via} over {ssh}"));
            }
            let again = push();
            assert_eq!((&again["result"], &again["bytes"]["sent"]), (&json!("up-to-date"), &json!(0)));

            image(&rig.store(), "manager", &noise(1, 2 * MB), &program("a new one"));
            assert_eq!(push()["blobs"], json!({"needed": 3, "sent": 3}));
            assert_eq!(run(&rig, "manager"), "a new one");
            rig.assert_names_are_whole();
            wipe(&rig);
        }
    }
}

/// What an image's program prints in a container of its own.
fn run(rig: &Rig, name: &str) -> String {
    let full = format!("docker.io/virtualcluster/{name}-amd64:latest");
    // Containers of all rigs share runc's folder of states.
    let id = format!("{name}-{}", rig.port());
    // Into a file: ctr gives up pipes when the program has ended, read or not.
    let printed = rig.path().join("printed");
    fs::write(&printed, "").expect("a file");
    let log = format!("file://{printed}");
    rig.ctr(&["run", "--rm", "--log-uri", &log, &full, &id, &format!("/usr/local/bin/{name}")]);
    fs::read_to_string(printed).expect("what it printed")
}

/// Leaves the node without any image.
fn wipe(rig: &Rig) {
    let names = rig.ctr(&["images", "ls", "-q"]);
    rig.ctr(&[&["images", "rm"], &names.lines().collect::<Vec<_>>()[..]].concat());
    rig.collect_garbage();
}
