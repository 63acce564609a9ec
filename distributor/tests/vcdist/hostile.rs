//! Nodes and operators that are in each other's way, or not as they should be.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::scope;
use std::time::Duration;

use rigs::wait;
use vcstore::Store;

use crate::rig::{NodeOptions, PushOutput, Rig, image, noise};

const MB: usize = 1_000_000;

#[test]
fn a_user_who_is_not_there_is_said() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    let config = rig.path().join("ssh_config");
    let arguments = ["manager", "--ssh-config", config.as_str(), "--host", "nobody-knows-them@127.0.0.1"];
    let refused: PushOutput = rig.vcdist("push", &arguments).output().expect("vcdist runs").into();
    assert_eq!(refused.code(), 1);
    let said = refused.stderr();
    assert!(said.contains("nobody-knows-them@127.0.0.1 does not let us in: "), "{said}");
    assert!(said.contains("help: `ssh nobody-knows-them@127.0.0.1 true` must work"), "{said}");
}

#[test]
fn clocks_may_be_a_year_apart() {
    let rig = Rig::up();
    for (off, seed) in [("+1y", 3), ("-1y", 4)] {
        image(&rig.store(), "manager", b"base", &noise(seed, MB));
        let push = rig.command(&["127.0.0.1"], &["manager"]);
        // The operator's, with that of ssh: those of the node's programs are one in any case.
        let mut operator = Command::new("faketime");
        operator.args(["-f", off]).arg(push.get_program()).args(push.get_args()).env("NO_COLOR", "1");
        let pushed: PushOutput = operator.output().expect("faketime runs").into();
        assert_eq!((pushed.node()["result"].as_str(), pushed.stderr().as_str()), (Some("pushed"), ""), "{off}");
        rig.collect_garbage();
        assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date");
    }
}

#[test]
fn two_pushes_of_the_same_images_to_one_node_both_succeed() {
    let rig = Rig::with(&NodeOptions { network: true, ..Default::default() });
    image(&rig.store(), "vn-agent", b"base", b"small");
    rig.push(&["vn-agent"]).report(0);
    image(&rig.store(), "manager", &noise(1, 4 * MB), &noise(2, 8 * MB));
    image(&rig.store(), "syncer", &noise(1, 4 * MB), &noise(3, 4 * MB));
    let images = ["manager", "syncer"];
    let [first, second] = scope(|scope| {
        [(); 2].map(|()| scope.spawn(|| rig.push(&images))).map(|push| push.join().expect("a push").node())
    });
    for node in [first, second] {
        assert!(["pushed", "up-to-date"].iter().any(|result| node["result"] == *result), "{node}");
    }
    rig.collect_garbage();
    rig.assert_names_are_whole();
    rig.assert_leases_are_given_back();
    assert_eq!(rig.push(&images).node()["result"], "up-to-date");
}

#[test]
fn two_operators_with_images_of_their_own_do_not_disturb_each_other() {
    let rig = Rig::up();
    // They share a base, and one name.
    let other = Store::open(&rig.path().join("other")).expect("a store");
    for (store, name, seed) in [(&rig.store(), "manager", 2), (&other, "syncer", 3)] {
        image(store, name, &noise(1, 4 * MB), &noise(seed, 4 * MB));
        image(store, "vn-agent", &noise(1, 4 * MB), &noise(10 + seed, MB));
    }
    let pushes = [("store", "manager"), ("other", "syncer")].map(|(store, name)| {
        let mut command = rig.command(&["127.0.0.1"], &[name, "vn-agent"]);
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let at = arguments.iter().position(|argument| argument == "--store").expect("a store is named");
        let mut own = Command::new(command.get_program());
        own.args(&arguments[..at]).args(&arguments[at + 2..]).arg("--store").arg(rig.path().join(store));
        command = own;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vcdist starts")
    });
    for push in pushes {
        let pushed: PushOutput = push.wait_with_output().expect("it ends").into();
        // Whoever was overtaken at the name that both give is told so.
        assert!(pushed.code() == 0 || pushed.stderr().contains("something else changes images"), "{}", pushed.stderr());
    }
    rig.collect_garbage();
    rig.assert_names_are_whole();
    rig.assert_leases_are_given_back();
    let listed = rig.ctr(&["images", "ls", "-q"]);
    assert!(listed.contains("/manager-amd64:") && listed.contains("/syncer-amd64:"), "{listed}");
}

#[test]
fn images_that_are_collected_between_the_plan_and_the_transfer_are_sent_again() {
    let rig = Rig::up();
    let names: Vec<String> = (0..8).map(|number| format!("image{number}")).collect();
    for (name, seed) in names.iter().zip(10..) {
        image(&rig.store(), name, &noise(seed, 10_000), &noise(100 + seed, 10_000));
    }
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    // On a busy machine the helper may be stopped too late, when its lease has all that it counts on, or too early, when
    // something else was written.
    let sent = (0..6).map(|attempt| collected_under_way(&rig, &known, attempt)).find(|sent| *sent > 4);
    assert!(sent.is_some(), "the moment was never hit");
}

/// Has the images collected that the push of another one counts on; how many blobs it sent.
fn collected_under_way(rig: &Rig, known: &[&str], attempt: u64) -> u64 {
    rig.push(known).report(0);
    // What that push has containerd write is written by then.
    rig.collect_garbage();
    let records = rig.ctr(&["images", "ls", "-q"]);
    image(&rig.store(), "manager", &noise(200 + attempt, 10), &noise(300 + attempt, MB));

    let mut command = rig.command(&["127.0.0.1"], &[known, &["manager"]].concat());
    let push = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vcdist starts");
    // The first thing that it writes is its lease. It is stopped before it has put all that it counts on under it.
    let database = rig.path().join("root/io.containerd.metadata.v1.bolt/meta.db");
    let written = || fs::metadata(&database).and_then(|file| file.modified()).expect("containerd's database");
    let before = written();
    let taken = || written() != before;
    wait::until_every(Duration::from_micros(100), wait::WITHIN, taken, || "a lease is taken".to_owned());
    rig.signal_helpers("STOP");
    rig.ctr(&[&["images", "rm"], &records.lines().collect::<Vec<_>>()[..]].concat());
    rig.collect_garbage();
    rig.signal_helpers("CONT");
    let node = PushOutput::from(push.wait_with_output().expect("it ends")).node();
    assert_eq!(node["result"], "pushed");
    let count = |key: &str| node["blobs"][key].as_u64().expect("a number");
    let is_as_planned = count("needed") == 4;
    rig.collect_garbage();
    rig.assert_names_are_whole();
    assert_eq!(rig.push(&[known, &["manager"]].concat()).node()["result"], "up-to-date");
    if is_as_planned { count("sent") } else { 0 }
}
