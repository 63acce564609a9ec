//! Nodes where no helper runs: the `ctr` they have does the work.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rigs::wait;
use serde_json::json;

use crate::rig::{LinkFault, Login, NodeOptions, Rig, image, noise};

const MB: usize = 1_000_000;
const NEVER: [&str; 2] = ["--helper", "never"];

fn three(rig: &Rig) {
    for (name, seed) in [("manager", 2), ("syncer", 3), ("vn-agent", 4)] {
        image(&rig.store(), name, &noise(1, 4 * MB), &noise(seed, MB));
    }
}

fn lines(listing: &str) -> usize {
    listing.lines().filter(|line| line.starts_with("docker.io/virtualcluster/")).count()
}

fn rooted(rig: &Rig) -> bool {
    rig.ctr(&["content", "ls"]).contains("containerd.io/gc.root")
}

#[test]
fn ctr_takes_in_what_is_missing_and_nothing_twice() {
    for login in [Login::Root, Login::Sudo] {
        let rig = Rig::with(&NodeOptions { login, ..Default::default() });
        three(&rig);
        let plan = rig.push(&[&NEVER[..], &["--dry-run"]].concat()).report(0);
        assert_eq!(plan["nodes"][0]["images"][1]["blobs_needed"], 3, "the base goes once");
        let cold = rig.push(&NEVER).node();
        assert_eq!((&cold["result"], &cold["via"]), (&json!("pushed"), &json!("ctr")));
        assert_eq!(cold["blobs"], json!({"needed": 10, "sent": 10}));
        assert_eq!(cold["bytes"]["sent"], cold["bytes"]["total"]);
        assert!(rig.helpers().is_empty(), "no helper is placed");
        let checked = rig.ctr(&["images", "check"]);
        let whole = checked.lines().filter(|l| l.contains("complete (3/3)") && l.trim_end().ends_with("true"));
        assert!(lines(&checked) == 6 && whole.count() >= 6, "{checked}");
        let listed = rig.ctr(&["images", "ls"]);
        let pinned = listed.lines().filter(|l| l.starts_with("docker.io/virt") && l.contains("pinned=pinned")).count();
        assert_eq!(pinned, 6, "{listed}");

        rig.collect_garbage();
        let again = rig.push(&NEVER).node();
        assert_eq!((&again["result"], &again["bytes"]["sent"]), (&json!("up-to-date"), &json!(0)));
        assert_eq!(rig.push(&[]).node()["result"], "up-to-date", "the helper finds nothing to do either");

        image(&rig.store(), "manager", &noise(1, 4 * MB), &noise(9, MB));
        assert_eq!(rig.push(&NEVER).node()["blobs"], json!({"needed": 3, "sent": 3}));
        assert!(!rooted(&rig), "what was held is let go");
        rig.collect_garbage();
        assert_eq!(rig.push(&[]).node()["result"], "up-to-date");
    }
}

#[test]
fn a_node_that_runs_no_helper_is_served_through_ctr() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    rig.runs_no_helper();
    let node = rig.push(&["manager"]).node();
    assert_eq!((&node["result"], &node["via"]), (&json!("pushed"), &json!("ctr")));
}

#[test]
fn an_import_that_is_cut_leaves_no_name_and_sends_what_came_no_more() {
    let rig = Rig::up();
    three(&rig);
    image(&rig.store(), "manager", &noise(1, 4 * MB), &noise(2, 8 * MB));
    // What the link has carried and sshd has not yet passed on, two megabytes at most, is lost with the connection.
    let port = format!("Port={}", rig.link(LinkFault::Breaks(8_000_000)));
    let alias = format!("HostKeyAlias=[127.0.0.1]:{}", rig.port());
    let options = ["--ssh-option", &port, "--ssh-option", &alias, "--retries", "0"];
    // The probe passes through the link whole, and the import in part.
    let cut = rig.push(&[&NEVER[..], &options].concat());
    assert_eq!(cut.code(), 1, "{}", cut.stderr());
    let base = rig.store().image("manager").expect("an image").platforms[0].layers[0].digest.to_string();
    let came = || rig.ctr(&["content", "ls"]).lines().any(|line| line.starts_with(&base));
    let came_and_ended = || came() && !rig.script_runs();
    wait::until_within(wait::WITHIN, came_and_ended, || format!("the base came: {}", rig.ctr(&["content", "ls"])));
    assert_eq!(lines(&rig.ctr(&["images", "ls", "-q"])), 0, "a name is left");
    rig.collect_garbage();
    let resumed = rig.push(&NEVER).node();
    assert_eq!((&resumed["result"], &resumed["blobs"]["needed"]), (&json!("pushed"), &json!(9)), "but for the base");
    assert!(!rooted(&rig), "what was held is let go: {}", rig.ctr(&["content", "ls"]));
    rig.collect_garbage();
    assert_eq!(rig.push(&NEVER).node()["result"], "up-to-date");
}

#[test]
fn an_import_whose_connection_breaks_goes_on_by_itself() {
    let rig = Rig::up();
    image(&rig.store(), "manager", &noise(1, 4 * MB), &noise(2, 4 * MB));
    let port = format!("Port={}", rig.link(LinkFault::BreaksOnce(6_000_000)));
    let alias = format!("HostKeyAlias=[127.0.0.1]:{}", rig.port());
    // The probe ends its connection whole; the import's breaks.
    let options = ["--ssh-option", &port, "--ssh-option", &alias];
    let node = rig.push(&[&NEVER[..], &options, &["manager"]].concat()).node();
    assert_eq!(node["result"], "pushed");
    let [total, sent] = ["total", "sent"].map(|key| node["bytes"][key].as_u64().expect("bytes"));
    assert!(sent > total && sent < total + 5 * MB as u64, "a part of one layer goes twice: {node}");
}

#[test]
fn a_login_user_who_may_not_be_root_is_said() {
    let rig = Rig::with(&NodeOptions { login: Login::SudoWithPassword, ..Default::default() });
    image(&rig.store(), "manager", b"base", b"own");
    let refused = rig.push(&[&NEVER[..], &["manager"]].concat());
    assert_eq!(refused.code(), 1);
    let said = refused.stderr();
    assert!(said.contains("sudo does not let the login user work as root: sudo: a password is required"), "{said}");
    assert!(
        said.contains("help: log in as root (--ssh-user root), or let the user run commands without a password"),
        "{said}"
    );
}

#[test]
fn a_name_that_stands_for_a_whole_image_is_not_taken_away_by_a_push_that_fails() {
    let rig = Rig::up();
    image(&rig.store(), "manager", &noise(1, MB), &noise(2, MB));
    rig.push(&[&NEVER[..], &["manager"]].concat()).report(0);
    let old = rig.ctr(&["images", "ls", "-q"]);
    image(&rig.store(), "manager", &noise(1, MB), &noise(3, MB));
    let layer = rig.store().image("manager").expect("an image").platforms[0].layers[1].digest;
    rig.damage_in_store(&layer);
    assert_eq!(rig.push(&[&NEVER[..], &["manager"]].concat()).code(), 1);
    wait::until("it ends with its connection", || !rig.script_runs());
    assert_eq!(rig.ctr(&["images", "ls", "-q"]), old);
    let checked = rig.ctr(&["images", "check"]);
    let whole = checked.lines().filter(|l| l.starts_with("docker.io/virt") && l.contains("complete (3/3)")).count();
    assert_eq!(whole, 2, "{checked}");
    assert!(!rig.ctr(&["content", "ls", "-q"]).contains(&layer.to_string()));
}

#[test]
fn snapshots_that_stand_for_layers_are_held_while_others_come() {
    let rig = Rig::up();
    image(&rig.store(), "manager", &noise(1, MB), &noise(2, MB));
    rig.push(&[&NEVER[..], &["manager"]].concat()).report(0);
    let base = rig.store().image("manager").expect("an image").platforms[0].layers[0].diff_id.to_string();
    image(&rig.store(), "manager", &noise(1, MB), &noise(3, 4 * MB));
    let mut push = rig.command(&["127.0.0.1"], &["manager", "--helper", "never", "--limit-rate", "1M"]);
    let mut push = push.stdout(std::process::Stdio::null()).spawn().expect("vcdist starts");
    let info = || rig.ctr(&["snapshots", "info", &base]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !info().contains("gc.root") && push.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < deadline, "it is not held");
    }
    assert!(push.try_wait().expect("a child").is_none(), "it was held while blobs came");
    assert!(push.wait().expect("it ends").success());
    assert!(!info().contains("gc.root"), "{}", info());
}

#[test]
fn a_corrupt_blob_leaves_no_name() {
    let rig = Rig::up();
    image(&rig.store(), "manager", &noise(1, MB), &noise(2, MB));
    let layer = rig.store().image("manager").expect("an image").platforms[0].layers[1].clone();
    rig.damage_in_store(&layer.digest);
    let refused = rig.push(&[&NEVER[..], &["manager"]].concat());
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr().contains("reading the images from the store"), "{}", refused.stderr());
    assert!(refused.stderr().contains("is damaged"), "{}", refused.stderr());
    sleep(Duration::from_secs(1));
    assert_eq!(lines(&rig.ctr(&["images", "ls", "-q"])), 0);
}

#[test]
fn a_node_without_containerd_is_said() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    let nowhere = rig.path().join("nowhere.sock");
    fs::rename(rig.path().join("containerd.sock"), &nowhere).expect("it moves");
    let refused = rig.push(&[&NEVER[..], &["manager"]].concat());
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr().contains("no containerd on this node: no socket at "), "{}", refused.stderr());
}
