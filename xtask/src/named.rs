//! Checks that every test that SECURITY.md, the threat model and the steps of the role mention exists.

use std::collections::BTreeSet;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};

use crate::command::root;

/// The documents that mention tests.
const DOCUMENTS: [&str; 3] = ["SECURITY.md", "docs/explanation/trust.md", "docs/reference/role-steps.md"];

/// Finds the Rust files of the repository.
fn sources(folder: &Utf8Path, found: &mut Vec<Utf8PathBuf>) {
    for entry in folder.read_dir_utf8().unwrap() {
        let path = entry.unwrap().into_path();
        if path.is_dir() && !matches!(path.file_name(), Some("target" | ".git" | "fuzz")) {
            sources(&path, found);
        } else if path.extension() == Some("rs") {
            found.push(path);
        }
    }
}

/// Returns the tests that a document mentions: Rust paths between backticks.
fn named(text: &str) -> BTreeSet<&str> {
    let word = |text: &&str| {
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_:".contains(&byte))
    };
    let quoted = text.split('`').skip(1).step_by(2);
    // A single word may be another term, such as `check` or `ssh_config`.
    quoted.filter(word).filter(|text| text.contains("::")).collect()
}

/// Whether a file contains the module or test with this path.
fn holds(path: &Utf8Path, content: &str, name: &str) -> bool {
    let parts: Vec<&str> = name.split("::").filter(|part| *part != "tests").collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    let in_module = path.components().any(|part| part.as_str().trim_end_matches(".rs") == *first);
    in_module && (parts.len() == 1 || content.contains(&format!("fn {last}(")))
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let files: Vec<_> = files.into_iter().map(|path| (fs::read_to_string(&path).unwrap(), path)).collect();
    let mut count = 0;
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for name in named(&text) {
            count += 1;
            assert!(files.iter().any(|(content, path)| holds(path, content, name)), "{document} names {name}");
        }
    }
    assert!(count > 40, "{count} tests are named");
}
