//! The kubelet removes images when a disk fills up: those that were pushed stay.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use end_to_end::Operator;
use lab::Options;
use rigs::{Run, wait};

/// A name that nobody pushed.
const UNPINNED: &str = "example.org/unpinned:1";

/// How long the kubelet may take: it looks at the disk every ten seconds.
const WITHIN: Duration = Duration::from_secs(120);

#[test]
fn images_that_were_pushed_stay_when_the_kubelet_makes_room() {
    let options = Options { name: "e2e-kubelet".to_owned(), workers: 1, collect_images: true, ..Options::default() };
    let operator = Operator::with(&options);

    let built = operator.stage.images(&["--base", "scratch"]);
    let syncer = built["images"].as_array().unwrap().iter().find(|image| image["component"] == "syncer").unwrap();
    let mut import: Command = operator.lab.command("worker1", &ctr(&["import", "-"])).unwrap();
    Run::with_stdin(import.stdin(Stdio::from(File::open(syncer["archive"].as_str().unwrap()).unwrap()))).succeeded();
    let reference = syncer["reference"].as_str().unwrap();
    let _ = operator.on("worker1", &ctr(&["tag", reference, UNPINNED]));
    // What is pushed by that name is another image.
    operator.stage.change("syncer");
    let _ = operator.stage.images(&["--base", "scratch"]);
    let _ = operator.pushed();
    let names = || operator.on("worker1", &ctr(&["list", "--quiet"]));
    let pushed = || names().lines().filter(|name| name.contains("virtualcluster")).count();
    assert_eq!(pushed(), 6, "three images by two names each: {}", names());

    let gone = || !names().contains(UNPINNED);
    let describe = || format!("the kubelet removes it: {}", names());
    wait::until_every(Duration::from_millis(500), WITHIN, gone, describe);
    assert_eq!(pushed(), 6, "{}", names());
    let mut status = operator.vcdist("status");
    let status = Run::of(status.args(["--output", "json", "--ssh-config", operator.lab.ssh_config().as_str()])).json();
    let images = status["nodes"][0]["images"].as_array().unwrap();
    assert!(images.len() == 3 && images.iter().all(|image| image["pinned"] == true), "{status}");
}

fn ctr<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["ctr", "--namespace", "k8s.io", "images"], arguments].concat()
}
