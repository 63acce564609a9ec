//! What the documents show is what happens: a reader follows each page in a fresh folder, and compares what is printed.

use std::time::{Duration, Instant};

use end_to_end::Reader;
use lab::{Lab, Options};
use pages::{items, page};
use rigs::Run;

/// How long images may be in use after their pods are gone.
const WITHIN: Duration = Duration::from_secs(90);
const TUTORIAL: &str = "docs/tutorial.md";
/// The folder of the lab that the tutorial makes.
const FOLDER: &str = "/var/lib/vclab/tutorial";

/// The pages whose reader has a cluster with nothing in it.
const OF_A_CLUSTER: [&str; 2] = ["README.md", "docs/how-to/virtualcluster.md"];

#[test]
fn pages_about_a_cluster_do_what_they_show() {
    let lab = Lab::up(&Options { name: "e2e-pages".to_owned(), ..Options::default() }).unwrap().scoped();
    let folder = lab.kubeconfig().parent().unwrap().to_owned();
    Reader::new().with(FOLDER, folder.as_str()).follow(&page(TUTORIAL));
    for (number, path) in OF_A_CLUSTER.iter().enumerate() {
        let reader = Reader::new().of(&lab);
        if number > 0 {
            // What the reader of the page before left.
            let _ = lab.kubectl(&["delete", "namespace", "vc-manager", "--wait", "--timeout=90s"]).unwrap();
            prune_all(&reader);
        }
        reader.follow(&page(path));
    }
}

/// Removes every image that was pushed. The nodes may still have containers of pods that are gone.
fn prune_all(reader: &Reader) {
    let deadline = Instant::now() + WITHIN;
    loop {
        let pruned = Run::of(&mut reader.shell("vcdist prune --all --output json")).json();
        let nodes = pruned["nodes"].as_array().unwrap().iter();
        let mut images = nodes.flat_map(|node| node["images"].as_array().unwrap());
        if images.all(|image| image["removed"] == true) {
            return;
        }
        assert!(Instant::now() < deadline, "images stay: {pruned}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn pages_without_a_cluster_do_what_they_show() {
    let pages = pages::pages();
    let others = pages.iter().filter(|page| page.path != TUTORIAL && !OF_A_CLUSTER.contains(&page.path.as_str()));
    let shown: Vec<_> = others.filter(|page| !items(page).is_empty()).collect();
    assert!(shown.len() > 4, "{} pages show commands", shown.len());
    for page in shown {
        Reader::new().follow(page);
    }
}
