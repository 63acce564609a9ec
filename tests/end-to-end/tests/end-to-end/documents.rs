//! What the documents show is what happens: a reader follows each page in a fresh folder, and compares what is printed.

use end_to_end::Reader;
use lab::{Lab, Options};
use pages::page;

/// The folder of the lab that the tutorial makes.
const FOLDER: &str = "/var/lib/vclab/tutorial";

#[test]
fn the_tutorial_does_what_it_shows() {
    let lab = Lab::up(&Options { name: "e2e-tutorial".to_owned(), ..Options::default() }).unwrap().scoped();
    let folder = lab.kubeconfig().parent().unwrap().to_owned();
    Reader::new().with(FOLDER, folder.as_str()).follow(&page("docs/tutorial.md"));
}

#[test]
fn the_pages_without_a_cluster_do_what_they_show() {
    let pages = pages::pages();
    let others = pages.iter().filter(|page| page.path != "docs/tutorial.md");
    let shown: Vec<_> = others.filter(|page| !pages::items(page).is_empty()).collect();
    assert!(shown.len() > 5, "{} pages show commands", shown.len());
    for page in shown {
        Reader::new().follow(page);
    }
}
