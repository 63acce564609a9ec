//! `vcdist push` to a node of real parts: sshd, containerd, and this very program as the helper there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rigs::wait;
use serde_json::json;

use super::SSH;
use crate::rig::{LinkFault, Login, NodeOptions, Rig, image, noise};

const MB: usize = 1_000_000;

/// Three images on one base, as VirtualCluster's are.
fn three(rig: &Rig) -> Vec<String> {
    let (store, base) = (rig.store(), noise(1, 8 * MB));
    ["manager", "syncer", "vn-agent"]
        .iter()
        .zip(2..)
        .map(|(name, seed)| image(&store, name, &base, &noise(seed, 2 * MB)))
        .collect()
}

/// The lines about our images; the CRI adds records of its own.
fn ours(listing: &str) -> impl Iterator<Item = &str> {
    listing.lines().filter(|line| line.starts_with("docker.io/virtualcluster/"))
}

fn pinned(rig: &Rig) -> usize {
    ours(&rig.ctr(&["images", "ls"])).filter(|line| line.contains("io.cri-containerd.pinned=pinned")).count()
}

#[test]
fn a_node_gets_what_it_lacks_and_nothing_twice() {
    let rig = Rig::over(SSH);
    let names = three(&rig);

    let plan = rig.push(&["--dry-run"]).report(0);
    assert_eq!(plan["nodes"][0]["images"][0]["blobs_needed"], 4);
    assert_eq!(plan["nodes"][0]["images"][1]["blobs_needed"], 3, "the base goes once");
    assert_eq!(rig.ctr(&["images", "ls", "-q"]), "", "a dry run moves nothing");

    let cold = rig.push(&[]).node();
    assert_eq!(cold["result"], "pushed");
    assert_eq!(cold["blobs"], json!({"needed": 10, "sent": 10}));
    assert_eq!(cold["bytes"]["total"], cold["bytes"]["sent"]);

    let listed = rig.ctr(&["images", "ls", "-q"]);
    let digest = rig.store().image("manager").expect("an image").digest();
    for name in &names {
        assert!(listed.contains(name), "{listed}");
    }
    assert!(listed.contains(&format!("docker.io/virtualcluster/manager-amd64@{digest}")), "{listed}");
    let checked = rig.ctr(&["images", "check"]);
    let whole = |line: &&str| line.contains("complete (3/3)") && line.trim_end().ends_with("true");
    assert_eq!(ours(&checked).filter(whole).count(), 6, "{checked}");
    assert_eq!(pinned(&rig), 6);
    assert_eq!(rig.ctr(&["leases", "ls", "-q"]), "", "the lease is given back");
    assert!(!rig.helper_runs(), "the helper ends with the push");
    let [helper] = &rig.helpers()[..] else { panic!("one helper: {:?}", rig.helpers()) };
    assert_eq!(fs::metadata(helper).expect("a file").permissions().mode() & 0o777, 0o700);

    rig.collect_garbage();
    let again = rig.push(&[]).node();
    assert_eq!(again["result"], "up-to-date", "garbage collection takes nothing: {again}");
    assert_eq!(again["blobs"], json!({"needed": 0, "sent": 0}));
    assert_eq!(again["bytes"]["sent"], 0);

    image(&rig.store(), "manager", &noise(1, 8 * MB), &noise(9, 2 * MB));
    let changed = rig.push(&[]).node();
    assert_eq!(changed["blobs"], json!({"needed": 3, "sent": 3}), "layer, configuration, manifest");
    rig.collect_garbage();
    assert_eq!(rig.push(&[]).node()["result"], "up-to-date");
}

#[test]
fn a_repeated_push_costs_little_more_than_a_login() {
    let rig = Rig::over(SSH);
    three(&rig);
    rig.push(&[]).report(0);
    // The best of a few, in turns: other tests run at the same time, more of them now than then.
    let (mut login, mut push) = (Duration::MAX, Duration::MAX);
    for _ in 0..5 {
        login = login.min(rig.ssh_true());
        let begun = Instant::now();
        assert_eq!(rig.push(&[]).node()["result"], "up-to-date");
        push = push.min(begun.elapsed());
    }
    println!("ssh true {login:?}, push {push:?}");
    // The helper of a test is an unstripped debug build, which both ends hash; it takes its share here.
    assert!(push < login * 4, "{push:?} against {login:?}");
}

#[test]
fn names_pins_and_labels_that_got_lost_are_put_back_without_sending() {
    let rig = Rig::over(SSH);
    let names = three(&rig);
    rig.push(&[]).report(0);
    rig.ctr(&["images", "rm", &names[0]]);
    rig.ctr(&["images", "label", &names[1], "io.cri-containerd.pinned=no"]);
    let repaired = rig.push(&[]).node();
    assert_eq!(repaired["result"], "pushed");
    assert_eq!(repaired["blobs"], json!({"needed": 0, "sent": 0}));
    assert_eq!(pinned(&rig), 6);
    assert_eq!(rig.push(&[]).node()["result"], "up-to-date");
}

#[test]
fn two_tags_of_one_image_are_both_as_they_were_pushed() {
    let rig = Rig::over(SSH);
    let name = image(&rig.store(), "manager", b"base", b"own");
    let target = rig.store().image("manager").expect("an image").target;
    rig.store().tag(&name.replace(":latest", ":v2"), &target).expect("another tag");
    let both = [name.as_str(), &name.replace(":latest", ":v2")];
    assert_eq!(rig.push(&both).node()["result"], "pushed");
    for one in [&both[..], &both[..1], &both[1..]] {
        assert_eq!(rig.push(one).node()["result"], "up-to-date", "{one:?}");
    }
}

#[test]
fn what_a_login_shell_prints_is_passed_over() {
    for noise in ["Welcome!\nLast login: today\n", "no newline at the end ", "\u{1b}[31mcolours\r\n\n\n"] {
        let rig = Rig::with(&NodeOptions { ssh: SSH, noise: Some(noise), ..Default::default() });
        image(&rig.store(), "manager", b"base", b"own");
        assert_eq!(rig.push(&["manager"]).node()["result"], "pushed");
        assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date");
    }
}

#[test]
fn an_ordinary_user_pushes_through_sudo() {
    let rig = Rig::with(&NodeOptions { ssh: SSH, login: Login::Sudo, ..Default::default() });
    three(&rig);
    assert_eq!(rig.push(&[]).node()["blobs"]["sent"], 10);
    assert_eq!(rig.push(&[]).node()["result"], "up-to-date");
    assert!(!rig.helper_runs(), "the helper ends with the push");
    let [helper] = &rig.helpers()[..] else { panic!("one helper: {:?}", rig.helpers()) };
    assert_eq!(fs::metadata(helper).expect("a file").permissions().mode() & 0o777, 0o700);
}

#[test]
fn sudo_that_wants_a_password_is_said() {
    let rig = Rig::with(&NodeOptions { ssh: SSH, login: Login::SudoWithPassword, ..Default::default() });
    image(&rig.store(), "manager", b"base", b"own");
    let refused = rig.push(&["manager"]);
    assert_eq!(refused.code(), 1);
    let said = refused.stderr();
    assert!(said.contains("sudo does not let the login user work as root: sudo: a password is required"), "{said}");
    assert!(said.contains("help: log in as root (--ssh-user root), or let the user run commands"), "{said}");
}

#[test]
fn a_host_key_that_is_unknown_or_changed_is_refused() {
    let rig = Rig::over(SSH);
    image(&rig.store(), "manager", b"base", b"own");
    rig.know_host(None);
    let unknown = rig.push(&["manager"]);
    let report = unknown.report(1);
    assert_eq!(report["nodes"][0]["result"], "failed");
    let said = unknown.stderr();
    assert!(said.starts_with("error: pushing to 127.0.0.1: the host key of 127.0.0.1 is not known: "), "{said}");
    assert!(said.contains("ssh-keyscan ") && said.contains("127.0.0.1 | ssh-keygen -lf -"), "{said}");

    let other = fs::read_to_string(rig.path().join("user_key.pub")).expect("another key");
    rig.know_host(Some(other.trim()));
    let changed = rig.push(&["manager"]);
    assert_eq!(changed.code(), 1);
    assert!(changed.stderr().contains("the host key of 127.0.0.1 has changed"), "{}", changed.stderr());
    assert_eq!(rig.ctr(&["images", "ls", "-q"]), "");
}

#[test]
fn a_node_that_fails_stops_no_other() {
    let rig = Rig::over(SSH);
    image(&rig.store(), "manager", b"base", b"own");
    // Nothing listens at the second address.
    let pushed = rig.push_to(&["127.0.0.1", "127.0.0.2"], &["manager", "--retries", "0"]);
    let report = pushed.report(4);
    assert_eq!(report["nodes"][0]["result"], "pushed");
    assert_eq!(report["nodes"][1]["result"], "failed");
    let why = report["nodes"][1]["error"].as_str().expect("why");
    assert!(why.starts_with("127.0.0.2 refuses the connection: "), "{why}");
    let wrong_user = rig.push(&["manager", "--ssh-option", "IdentityFile=/dev/null"]);
    // ssh tries every key it is given: the configured one still lets us in.
    assert_eq!(wrong_user.node()["result"], "up-to-date");
}

#[test]
fn a_login_that_is_denied_is_said() {
    let rig = Rig::over(SSH);
    image(&rig.store(), "manager", b"base", b"own");
    fs::write(rig.path().join("authorized_keys"), "").expect("no keys");
    let denied = rig.push(&["manager"]);
    assert_eq!(denied.code(), 1);
    assert!(denied.stderr().contains("root@127.0.0.1 does not let us in"), "{}", denied.stderr());
}

#[test]
fn a_corrupt_blob_is_refused_before_a_name_appears() {
    let rig = Rig::over(SSH);
    image(&rig.store(), "manager", &noise(1, MB), &noise(2, MB));
    let layer = rig.store().image("manager").expect("an image").platforms[0].layers[1].clone();
    rig.damage_in_store(&layer.digest);
    let refused = rig.push(&["manager"]);
    assert_eq!(refused.code(), 1);
    let said = refused.stderr();
    assert!(said.contains(&format!("reading blob {} of the store", layer.digest)), "{said}");
    assert!(said.contains("is damaged"), "{said}");
    assert_eq!(rig.ctr(&["images", "ls", "-q"]), "");
    let active = rig.ctr(&["content", "active"]);
    assert!(!active.contains(&layer.digest.to_string()), "nothing of it is left: {active}");
    rig.assert_leases_are_given_back();

    image(&rig.store(), "manager", &noise(1, MB), &noise(2, MB));
    assert_eq!(rig.push(&["manager"]).node()["result"], "pushed", "a rebuilt blob is sent");
}

#[test]
fn a_push_that_was_cut_goes_on_where_it_stopped() {
    let rig = Rig::over(SSH);
    image(&rig.store(), "manager", b"base", &noise(3, 64 * MB));
    let layer = rig.store().image("manager").expect("an image").platforms[0].layers[1].clone();
    let begun = || {
        let active = rig.ctr(&["content", "active"]);
        let line = active.lines().find(|line| line.contains(&layer.digest.to_string())).map(str::to_owned);
        line.is_some_and(|line| !line.contains(" 0 B") && !line.contains("\t0 B"))
    };
    image(&rig.store(), "syncer", b"base", b"small");
    rig.push(&["syncer"]).report(0);
    // A link that carries so many bytes and breaks, while the layer is on its way: more than the streams' windows and the
    // sockets can have in flight, which containerd has not seen yet and which is rightly sent again.
    let port = format!("Port={}", rig.link(LinkFault::Breaks(40_000_000)));
    let alias = format!("HostKeyAlias=[127.0.0.1]:{}", rig.port());
    let cut = rig.push(&["manager", "--ssh-option", &port, "--ssh-option", &alias, "--retries", "0"]);
    assert_eq!(cut.code(), 1);
    assert!(cut.stderr().contains("the connection to 127.0.0.1 was lost"), "{}", cut.stderr());
    wait::until("the helper must end with its connection", || !rig.helper_runs());
    rig.assert_leases_are_given_back();
    assert!(!rig.ctr(&["images", "ls", "-q"]).contains("manager"), "no name without its image");
    assert!(begun(), "what came is kept: {}", rig.ctr(&["content", "active"]));
    rig.collect_garbage();
    let resumed = rig.push(&["manager"]).node();
    let (total, sent) = (resumed["bytes"]["total"].as_u64(), resumed["bytes"]["sent"].as_u64());
    assert!(sent < total.map(|total| total - 10_000_000), "only the rest is sent: {resumed}");
    assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date");
}

#[test]
fn a_killed_push_leaves_no_helper_and_no_name() {
    let rig = Rig::over(SSH);
    image(&rig.store(), "manager", b"base", &noise(3, 64 * MB));
    let mut push = rig.command(&["127.0.0.1"], &["manager"]).spawn().expect("vcdist starts");
    wait::until("something is written", || {
        rig.ctr(&["content", "active"]).lines().count() >= 2 || push.try_wait().expect("a child").is_some()
    });
    push.kill().expect("it runs");
    push.wait().expect("it ends");
    wait::until("the helper must end with its operator", || !rig.helper_runs());
    let listed = rig.ctr(&["images", "ls", "-q"]);
    assert_eq!(listed, "", "no name without its image");
    assert_eq!(rig.push(&["manager"]).node()["result"], "pushed");
}

#[test]
fn a_full_disk_is_said_before_a_byte_moves() {
    let rig = Rig::with(&NodeOptions { ssh: SSH, disk: Some(24_000_000), ..Default::default() });
    image(&rig.store(), "manager", b"base", &noise(3, 32 * MB));
    let full = rig.push(&["manager"]);
    assert_eq!(full.report(1)["bytes_sent"], 0);
    assert!(full.stderr().contains("free and 32.0 MB have to be sent, which unpack to 32.0 MB"), "{}", full.stderr());

    // The blob fits and what it unpacks to does not.
    image(&rig.store(), "manager", b"base", &noise(3, 14 * MB));
    let full = rig.push(&["manager"]);
    assert_eq!(full.report(1)["bytes_sent"], 0);
    assert!(full.stderr().contains("free and 14.0 MB have to be sent, which unpack to 14.0 MB"), "{}", full.stderr());
    assert_eq!(rig.ctr(&["images", "ls", "-q"]), "", "no name without its image");
    assert_eq!(rig.ctr(&["leases", "ls", "-q"]), "");
}

#[test]
fn containerd_that_does_not_answer_is_said() {
    let rig = Rig::over(SSH);
    image(&rig.store(), "manager", b"base", b"own");
    let nowhere = rig.path().join("nowhere.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
    command.args(["push", "manager", "--host", "127.0.0.1", "--ssh-user", "root", "--ssh-config"]);
    command.arg(rig.path().join("ssh_config")).arg("--containerd-address").arg(&nowhere);
    command.arg("--store").arg(rig.path().join("store"));
    let output = command.output().expect("vcdist runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("connecting to containerd at {nowhere}: No such file or directory")), "{said}");
    assert!(said.contains("help: check that containerd runs there"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("failed"));
}

#[test]
fn looking_for_an_image_makes_no_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
    let output = command.args(["push", "manager", "--host", "127.0.0.1", "--store", "nowhere"]).current_dir(&folder);
    let output = output.output().expect("vcdist runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("error: finding the images: there is no store at nowhere"), "{said}");
    assert!(!folder.path().join("nowhere").exists());
}

#[test]
fn an_archive_is_taken_into_the_store_and_pushed() {
    let rig = Rig::over(SSH);
    let other = vcstore::Store::open(&rig.path().join("other")).expect("a store");
    let name = image(&other, "manager", b"base", b"own");
    let archive = rig.path().join("vc_manager-amd64.tar");
    vcstore::archive::write(&other, &[other.image("manager").expect("an image")], &[], &archive).expect("an archive");
    assert_eq!(rig.push(&[archive.as_str()]).node()["result"], "pushed");
    assert!(rig.ctr(&["images", "ls", "-q"]).contains(&name));
    let missing = rig.push(&["syncer"]);
    assert_eq!(missing.code(), 1);
    assert!(missing.stderr().contains("virtualcluster/manager-amd64"), "what there is: {}", missing.stderr());

    let nameless = rig.path().join("nameless.tar");
    let anonymous = vcstore::Image { name: "nameless".into(), ..other.image("manager").expect("an image") };
    vcstore::archive::write(&other, &[anonymous], &[], &nameless).expect("an archive");
    let refused = rig.push(&[nameless.as_str()]);
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr().contains("is no full image name"), "{}", refused.stderr());
}
