//! What was pushed and nothing needs any more is removed from a node, and nothing else is.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::rig::{Rig, image, noise};

const MB: usize = 1_000_000;
const NAME: &str = "docker.io/virtualcluster/manager-amd64:latest";

fn command(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
    command.args(["prune", "--host", "127.0.0.1", "--ssh-user", "root", "--ssh-config"]);
    command.arg(rig.path().join("ssh_config")).arg("--containerd-address").arg(rig.path().join("containerd.sock"));
    command.args(arguments).env("NO_COLOR", "1");
    command
}

/// Prunes as these arguments have it, asking no cluster; the report.
fn prune(rig: &Rig, arguments: &[&str]) -> Value {
    let arguments = [&["--ignore-cluster", "--output", "json"], arguments].concat();
    let output: Output = command(rig, &arguments).output().expect("vcdist runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

/// Builds the manager with this content and pushes it; its digest.
fn pushed(rig: &Rig, own: &[u8]) -> String {
    image(&rig.store(), "manager", b"base", own);
    rig.push(&["manager"]).report(0);
    rig.store().image("manager").expect("an image").digest().to_string()
}

fn by_digest(digest: &str) -> String {
    format!("docker.io/virtualcluster/manager-amd64@{digest}")
}

#[test]
fn what_nothing_uses_goes_with_all_that_it_alone_kept() {
    for way in ["helper", "ctr"] {
        let rig = Rig::up();
        unused_goes(&rig, way);
    }
}

fn unused_goes(rig: &Rig, way: &str) {
    let old = pushed(rig, &noise(1, MB));
    let layer = rig.store().image("manager").expect("an image").platforms[0].layers[1].digest.to_string();
    let new = pushed(rig, &noise(2, MB));
    if way == "ctr" {
        rig.runs_no_helper();
    }
    rig.ctr(&["containers", "create", &by_digest(&old), "made", "/none"]);
    let used = prune(rig, &[])["nodes"][0].clone();
    rig.ctr(&["containers", "delete", "made"]);
    let of = |node: &Value, digest: &str| {
        let images = node["images"].as_array().expect("images").clone();
        images.into_iter().find(|image| image["digest"] == digest).expect("the image")
    };
    assert_eq!((&used["via"], &of(&used, &old)["kept_by"]), (&json!(way), &json!("container made")));
    assert_eq!((&used["blobs_freed"], &of(&used, &new)["kept_by"]), (&json!(0), &json!("the last push")));

    let before = rig.ctr(&["images", "ls"]);
    let dry = prune(rig, &["--dry-run"]);
    assert_eq!(rig.ctr(&["images", "ls"]), before, "a dry run changes nothing");
    let pruned = prune(rig, &[]);
    assert_eq!((&dry["nodes"], &dry["dry_run"]), (&pruned["nodes"], &json!(true)));
    let node = &pruned["nodes"][0];
    assert_eq!(of(node, &old)["records"], json!([by_digest(&old)]));
    assert_eq!((&of(node, &old)["removed"], &of(node, &new)["removed"]), (&json!(true), &json!(false)));
    assert_eq!(node["blobs_freed"], 3, "layer, configuration, manifest");
    let freed = |key: &str| node[key].as_u64().expect("a number");
    assert!(freed("blob_bytes_freed") > MB as u64 && freed("blob_bytes_freed") < MB as u64 + 10_000, "{node}");
    assert!(freed("unpacked_bytes_freed") > MB as u64, "{node}");
    assert_eq!(pruned["bytes_freed"], freed("blob_bytes_freed") + freed("unpacked_bytes_freed"));
    assert!(!rig.ctr(&["images", "ls"]).contains(&old) && !rig.ctr(&["content", "ls", "-q"]).contains(&layer));
    let checked = rig.ctr(&["images", "check"]);
    let stays = checked.lines().find(|line| line.starts_with(NAME)).expect("what was pushed last");
    assert!(stays.contains("complete (3/3)") && stays.trim_end().ends_with("true"), "{stays}");

    let all = command(rig, &["--ignore-cluster", "--all"]).output().expect("vcdist runs");
    let said = String::from_utf8(all.stdout).expect("UTF-8");
    let row: Vec<&str> = said.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row, ["127.0.0.1", NAME, &new["sha256:".len()..][..12], "removed", "-"]);
    assert!(said.contains("127.0.0.1: freed 1.00 MB of 4 blobs and "), "{said}");
    assert_eq!(rig.ctr(&["images", "ls", "-q"]), "", "the CRI's own names for it go too");
    assert_eq!(rig.ctr(&["content", "ls", "-q"]), "");
    assert_eq!(prune(rig, &[])["nodes"][0]["images"], json!([]));
}

#[test]
fn what_others_named_stays() {
    let rig = Rig::up();
    let digest = pushed(&rig, &noise(1, MB));
    // Somebody else's name for the same image, and somebody else's image.
    rig.ctr(&["images", "tag", NAME, "docker.io/others/theirs:v1"]);
    rig.ctr(&["images", "label", "docker.io/others/theirs:v1", "vcdist.name="]);
    let other = vcstore::Store::open(&rig.path().join("other")).expect("a store");
    image(&other, "syncer", b"base", b"theirs");
    let archive = rig.path().join("theirs.tar");
    vcstore::archive::write(&other, &[other.image("syncer").expect("an image")], &[], &archive).expect("an archive");
    rig.ctr(&["images", "import", archive.as_str()]);
    rig.runs_no_helper();
    let dry = prune(&rig, &["--all", "--dry-run"])["nodes"][0].clone();
    assert_eq!((&dry["via"], &dry["images"][0]["removed"]), (&json!("ctr"), &json!(true)));
    assert_eq!(dry["blobs_freed"], 0, "by ctr as by the helper");
    fs::remove_dir_all(rig.path().join("bin")).expect("the other architecture");
    let pruned = prune(&rig, &["--all"])["nodes"][0].clone();
    assert_eq!(pruned["via"], "helper");
    assert_eq!(pruned["images"].as_array().map(Vec::len), Some(1), "{pruned}");
    assert_eq!((&pruned["images"][0]["removed"], &pruned["blobs_freed"]), (&json!(true), &json!(0)));
    let left = rig.ctr(&["images", "check"]);
    for name in ["docker.io/others/theirs:v1", "docker.io/virtualcluster/syncer-amd64:latest"] {
        let line = left.lines().find(|line| line.starts_with(name)).expect(name);
        assert!(line.contains("complete (3/3)"), "{line}");
    }
    assert!(!left.contains(NAME) && !left.contains(&by_digest(&digest)), "{left}");
    assert!(left.lines().filter(|line| line.starts_with("sha256:")).count() >= 2, "the CRI knows both: {left}");
}

#[test]
fn a_prune_that_cannot_know_what_is_used_is_refused() {
    let rig = Rig::up();
    pushed(&rig, b"own");
    let refused = command(&rig, &[]).output().expect("vcdist runs");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("error: no cluster is named that could say which images it needs"), "{said}");
}
