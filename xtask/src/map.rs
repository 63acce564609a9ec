//! Checks that every path in ARCHITECTURE.md exists, that it describes every crate and module, and that its glossary is sorted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use camino::Utf8Path;

use crate::circles;
use crate::command::root;

/// The path of the document.
const DOCUMENT: &str = "ARCHITECTURE.md";

/// The top-level folders of the paths in the document.
const FOLDERS: [&str; 18] = [
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
    "variables",
    "xtask",
];

/// The entries of a crate's `src` that need no row: the crate itself, its tests, and their expected results.
const NO_MODULES: [&str; 6] = ["lib.rs", "main.rs", "tests.rs", "hostile.rs", "snapshots", "testdata"];

/// Returns the paths in a text: words between backticks that begin in one of the folders, and the targets of links.
fn paths(text: &str) -> BTreeSet<&str> {
    let words = text.split('`').skip(1).step_by(2).flat_map(str::split_whitespace);
    let quoted = words.filter(|word| word.split_once('/').is_some_and(|(folder, _)| FOLDERS.contains(&folder)));
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    let linked = files.map(|target| target.split('#').next().unwrap_or(target));
    quoted.chain(linked).map(|path| path.trim_end_matches('/')).collect()
}

/// Returns the paths that do not exist.
fn missing<'a>(paths: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let root = root();
    paths.iter().copied().filter(|path| !root.join(path).exists()).collect()
}

/// Returns the folders of the workspace's crates.
fn members(root: &Utf8Path) -> Vec<String> {
    let workspace = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, rest) = workspace.split_once("members = [").unwrap();
    let (members, _) = rest.split_once(']').unwrap();
    members.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the crates of the workspace as rows of the document's table: name, folder, and the other crates that it
/// uses outside of its tests.
fn crates(root: &Utf8Path) -> BTreeSet<String> {
    let members = members(root);
    let manifest = |member: &String| fs::read_to_string(root.join(member).join("Cargo.toml")).unwrap();
    let name = |text: &str| text.split("name = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let names: BTreeSet<String> = members.iter().map(|member| name(&manifest(member))).collect();
    let row = |member: &String| {
        let text = manifest(member);
        let dependencies = text.split("\n[dependencies]\n").nth(1).unwrap_or_default();
        let lines = dependencies.lines().take_while(|line| !line.starts_with('['));
        let keys = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
        let used: BTreeSet<&str> = keys.filter(|key| names.contains(*key)).collect();
        let used = if used.is_empty() { "none".to_owned() } else { used.into_iter().collect::<Vec<_>>().join(", ") };
        format!("| {} | `{member}/` | {used} |", name(&text))
    };
    members.iter().map(row).collect()
}

/// Returns the terms of the document's glossary, in its order.
fn terms(text: &str) -> Vec<String> {
    let (_, rest) = text.split_once("\n## 6. Glossary\n").unwrap();
    let rows = rest.lines().take_while(|line| !line.starts_with("## ")).filter_map(|line| line.strip_prefix("| "));
    let cells = rows.skip(2).filter_map(|row| row.split(" | ").next());
    cells.map(|term| term.replace('`', "").to_lowercase()).collect()
}

/// Returns the top-level modules of the workspace's crates, as paths.
fn modules(root: &Utf8Path) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for member in members(root) {
        for entry in root.join(&member).join("src").read_dir_utf8().unwrap() {
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

/// Returns the modules in the document's tables that have a "uses" column, with the contents of that column.
fn uses(text: &str) -> Vec<(&str, &str)> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix('|'));
    let columns = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    let three = columns.filter(|columns| columns.len() == 3);
    let modules = three.filter_map(|columns| Some((columns[0].strip_suffix('`')?, columns[2].trim())));
    modules.filter(|(path, _)| path.split('/').nth(1) == Some("src")).collect()
}

#[test]
fn every_column_of_uses_is_what_the_module_imports() {
    let text = fs::read_to_string(root().join(DOCUMENT)).unwrap();
    let (mut checked, mut wrong, mut crates) = (0, Vec::new(), BTreeMap::new());
    for (path, said) in uses(&text) {
        let (member, module) = path.split_once("/src/").unwrap();
        let name = module.trim_end_matches('/').trim_end_matches(".rs");
        let imports = crates.entry(member).or_insert_with(|| circles::imports(&root().join(member).join("src")));
        let mut used = imports.remove(name).unwrap();
        used.remove("error");
        let used = used.into_iter().collect::<Vec<_>>().join(", ");
        if said != used && said != "most modules" {
            wrong.push(format!("{path} | {used}"));
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{DOCUMENT} should say:\n{}", wrong.join("\n"));
    assert!(checked > 50, "{checked} modules have a column of uses");
}

#[test]
fn the_table_of_crates_is_what_they_depend_on() {
    let text = fs::read_to_string(root().join(DOCUMENT)).unwrap();
    let crates = crates(&root());
    let missing: Vec<_> = crates.iter().filter(|row| !text.lines().any(|line| line == row.as_str())).collect();
    assert!(missing.is_empty(), "{DOCUMENT} should say:\n{missing:#?}");
    assert!(crates.iter().filter(|row| !row.ends_with("| none |")).count() > 5, "{crates:?}");
}

#[test]
fn the_glossary_is_sorted_and_has_each_term_once() {
    let terms = terms(&fs::read_to_string(root().join(DOCUMENT)).unwrap());
    let misplaced: Vec<_> = terms.windows(2).filter(|pair| pair[0] >= pair[1]).collect();
    assert!(misplaced.is_empty(), "{misplaced:?}");
    assert!(terms.len() > 40, "{} terms", terms.len());
}

#[test]
fn every_function_that_the_document_names_is_there() {
    let text = fs::read_to_string(root().join(DOCUMENT)).unwrap();
    let words = text.split('`').skip(1).step_by(2);
    let names: BTreeSet<_> = words.filter_map(|word| word.strip_suffix("()")?.rsplit(['.', ':', ' ']).next()).collect();
    let mut sources = String::new();
    for entry in FOLDERS.iter().flat_map(|folder| walkdir::WalkDir::new(root().join(folder))) {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().ends_with(".rs") {
            sources += &fs::read_to_string(entry.path()).unwrap();
        }
    }
    let is_there = |name: &str| ["(", "<"].iter().any(|next| sources.contains(&format!("fn {name}{next}")));
    let missing: Vec<_> = names.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "{DOCUMENT} names functions that are not there: {missing:?}");
    assert!(names.len() > 50, "{} functions are named", names.len());
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
                [two](docs/reference/caches.md), [three](https://example.org/none) and [four](#part); `xtask/none/` too.";
    assert_eq!(missing(&paths(text)), ["docs/none.md", "store/src/none.rs", "xtask/none"]);
}
