//! Checks that every path in ARCHITECTURE.md exists, and that it describes every module.

use std::collections::BTreeSet;
use std::fs;

use camino::Utf8Path;

use crate::command::root;

/// The document.
const DOCUMENT: &str = "ARCHITECTURE.md";

/// The folders of the repository in which the paths begin that the document names.
const FOLDERS: [&str; 17] = [
    "builder",
    "debian",
    "distributor",
    "docs",
    "fixtures",
    "fuzz",
    "inspect",
    "manifests",
    "network",
    "nix",
    "registry",
    "remote",
    "sandbox",
    "store",
    "terminal",
    "tests",
    "xtask",
];

/// What in a crate's `src` needs no line: the crate itself, its tests, and what tests expect.
const NO_MODULES: [&str; 6] = ["lib.rs", "main.rs", "tests.rs", "hostile.rs", "snapshots", "testdata"];

/// The paths that a text names: the words between backticks that begin in one of the folders, and the targets of links.
fn paths(text: &str) -> BTreeSet<&str> {
    let words = text.split('`').skip(1).step_by(2).flat_map(str::split_whitespace);
    let quoted = words.filter(|word| word.split_once('/').is_some_and(|(folder, _)| FOLDERS.contains(&folder)));
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    let linked = files.map(|target| target.split('#').next().unwrap_or(target));
    quoted.chain(linked).map(|path| path.trim_end_matches('/')).collect()
}

/// Those of the paths that are not there.
fn missing<'a>(paths: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let root = root();
    paths.iter().copied().filter(|path| !root.join(path).exists()).collect()
}

/// The modules at the top of the workspace's crates, as paths.
fn modules(root: &Utf8Path) -> BTreeSet<String> {
    let workspace = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, rest) = workspace.split_once("members = [").unwrap();
    let (members, _) = rest.split_once(']').unwrap();
    let mut modules = BTreeSet::new();
    for member in members.split('"').skip(1).step_by(2) {
        for entry in root.join(member).join("src").read_dir_utf8().unwrap() {
            let path = entry.unwrap().into_path();
            let name = path.file_name().unwrap();
            let is_module = path.is_dir() || path.extension() == Some("rs");
            if is_module && !NO_MODULES.contains(&name) {
                modules.insert(format!("{member}/src/{name}"));
            }
        }
    }
    modules
}

#[test]
fn every_path_that_the_document_names_is_there() {
    let text = fs::read_to_string(root().join(DOCUMENT)).unwrap();
    let paths = paths(&text);
    let missing = missing(&paths);
    assert!(missing.is_empty(), "{DOCUMENT} names what is not there: {missing:?}");
    assert!(paths.len() > 150, "{} paths are named", paths.len());
}

#[test]
fn every_module_is_named_in_the_document() {
    let text = fs::read_to_string(root().join(DOCUMENT)).unwrap();
    let paths = paths(&text);
    let modules = modules(&root());
    assert!(modules.len() > 100, "{} modules are there", modules.len());
    let unnamed: Vec<_> = modules.iter().filter(|module| !paths.contains(module.as_str())).collect();
    assert!(unnamed.is_empty(), "{DOCUMENT} has no line for {unnamed:?}");
}

#[test]
fn a_path_that_is_not_there_is_found() {
    let text = "Of `store/src/lib.rs`, `store/src/none.rs run()` and `blobs/sha256/HEX`, see [one](docs/none.md#part), \
                [two](docs/caches.md), [three](https://example.org/none) and [four](#part); `xtask/none/` too.";
    assert_eq!(missing(&paths(text)), ["docs/none.md", "store/src/none.rs", "xtask/none"]);
}
