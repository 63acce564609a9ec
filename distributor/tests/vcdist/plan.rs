//! What a push would do, said before a byte moves.

use std::process::Command;

use serde_json::{Value, json};

use crate::rig::{Rig, image, noise};

const MB: usize = 1_000_000;

fn over_ssh(rig: &Rig, subcommand: &str, arguments: &[&str]) -> Command {
    let mut command = rig.vcdist(subcommand, arguments);
    command.arg("--ssh-config").arg(rig.path().join("ssh_config"));
    command.args(["--ssh-user", "root", "--host", "127.0.0.1"]);
    command
}

#[test]
fn a_plan_says_what_is_there_what_must_go_and_what_room_is_left() {
    let rig = Rig::up();
    image(&rig.store(), "manager", &noise(1, 4 * MB), &noise(2, MB));
    rig.push(&["manager"]).report(0);
    image(&rig.store(), "syncer", &noise(1, 4 * MB), &noise(3, 2 * MB));
    let images = ["manager", "syncer"];
    let output = over_ssh(&rig, "plan", &images).args(["--output", "json"]).output().expect("vcdist runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let node = &plan["nodes"][0];
    assert_eq!((&node["via"], &node["ready"], &node["error"]), (&json!("helper"), &Value::Null, &Value::Null));
    assert_eq!(node["images"][0]["state"], "up-to-date");
    assert_eq!(node["images"][1]["blobs_needed"], 3);
    // One file of two million bytes in blocks, and the folders above it.
    assert_eq!(node["bytes_unpacked"], (2 * MB as u64).next_multiple_of(4096));
    let number = |value: &Value| value.as_u64().expect("a number");
    let taken = number(&plan["bytes_needed"]) + number(&node["bytes_unpacked"]);
    assert_eq!(number(&node["free_bytes"]) - number(&node["free_bytes_after"]), taken);
    assert_eq!(plan["bytes_needed"], node["images"][1]["bytes_needed"]);
    assert_eq!(rig.push(&["manager", "syncer", "--dry-run"]).report(0)["bytes_needed"], plan["bytes_needed"]);

    let table = over_ssh(&rig, "plan", &images).output().expect("vcdist runs");
    let table = String::from_utf8(table.stdout).expect("UTF-8");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NODE", "IMAGE", "STATE", "HAVE", "NEED", "BYTES", "DISK", "FREE", "AFTER"]);
    let name = |short: &str| format!("docker.io/virtualcluster/{short}-amd64:latest");
    assert_eq!(rows[1][..7], ["127.0.0.1", &name("manager"), "up-to-date", "4", "0", "0", "B"]);
    assert_eq!(rows[2][..5], ["127.0.0.1", &name("syncer"), "incomplete", "1", "3"]);
    assert!(!rig.ctr(&["images", "ls", "-q"]).contains("syncer"), "nothing moves");
}
