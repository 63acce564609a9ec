use std::fs;

use camino::Utf8PathBuf;
use proptest::prelude::*;
use vcnetwork::Network;
use vcstore::{Digest, Platform};

use super::{Lock, PinnedCommit, PinnedCrate, PinnedGo, PinnedModule, PinnedVersion, Policy};
use crate::error::LockError;

const IMAGE: &str = "docker.io/library/debian:bookworm-slim";
const GIT: &str = "https://example.org/a.git";

fn scratch() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::try_from(folder.path().join("vcbuild.lock")).unwrap();
    (folder, path)
}

fn open(path: &Utf8PathBuf, policy: Policy) -> Lock {
    Lock::open(path, policy, Network::Open).unwrap()
}

fn refused(path: &Utf8PathBuf, policy: Policy) -> LockError {
    match Lock::open(path, policy, Network::Open).unwrap_err() {
        crate::Error::Lock(error) => error,
        other => panic!("{other}"),
    }
}

fn commit(digit: &str) -> PinnedCommit {
    PinnedCommit { commit: digit.repeat(40), tree: Some("e".repeat(40)) }
}

fn module(path: &str, version: &str, sum: &str) -> PinnedModule {
    PinnedModule { path: path.to_owned(), version: version.to_owned(), sum: format!("h1:{sum}=") }
}

/// Writes a lock with several kinds of inputs.
fn filled(path: &Utf8PathBuf) -> Lock {
    let lock = open(path, Policy::Fill);
    lock.pin_manifest(IMAGE, &Platform::linux("arm64"), Digest::of(b"2"));
    lock.pin_manifest(IMAGE, &Platform::linux("amd64"), Digest::of(b"1"));
    lock.pin_commit(GIT, "v1", commit("4"));
    let version = PinnedVersion { version: "v3.6.5".to_owned(), sum: "h1:a=".to_owned() };
    lock.pin_version("example.org/m", "latest", version);
    let sums = [(Platform::linux("amd64"), "h1:g=".to_owned())].into();
    lock.pin_go("1.26.x", PinnedGo { version: "1.26.3".to_owned(), sums });
    lock.pin_modules(
        "example.org/main",
        [module("b.example/b", "v1.0.0", "b"), module("a.example/a", "v0.1.0", "a")],
        false,
    )
    .unwrap();
    assert!(lock.save().unwrap());
    lock
}

#[test]
fn what_is_pinned_is_written_for_people_and_read_back() {
    let (_folder, path) = scratch();
    filled(&path);
    insta::assert_snapshot!(fs::read_to_string(&path).unwrap(), @r#"
    # What the inputs of this project's images were resolved to. vcbuild writes this file and builds from what it pins:
    # commit it. `vcbuild lock --update` resolves inputs anew and says what changed.
    version = 2

    [source."example.org/m".latest]
    version = "v3.6.5"
    sum = "h1:a="

    [source."https://example.org/a.git".v1]
    commit = "4444444444444444444444444444444444444444"
    tree = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

    [go."1.26.x"]
    version = "1.26.3"

    [go."1.26.x".sums]
    "linux/amd64" = "h1:g="

    [modules]
    "example.org/main" = [
        "a.example/a v0.1.0 h1:a=",
        "b.example/b v1.0.0 h1:b=",
    ]

    [image."docker.io/library/debian:bookworm-slim"."linux/amd64"]
    manifest = "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"

    [image."docker.io/library/debian:bookworm-slim"."linux/arm64"]
    manifest = "sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35"
    "#);
    let read = open(&path, Policy::Locked);
    assert_eq!(read.manifest(IMAGE, &Platform::linux("amd64")).unwrap(), Some(Digest::of(b"1")));
    assert_eq!(read.commit(GIT, "v1").unwrap(), Some(commit("4")));
    assert_eq!(read.version("example.org/m", "latest").unwrap().unwrap().version, "v3.6.5");
    assert_eq!(read.go("1.26.x").unwrap().unwrap().version, "1.26.3");
    let module = module("a.example/a", "v0.1.0", "a");
    read.pin_modules("example.org/main", [module], false).unwrap();
    assert!(!read.save().unwrap(), "a part of what is pinned is nothing new");
}

#[test]
fn a_lock_of_version_1_is_read() {
    let (_folder, path) = scratch();
    let digits = "4".repeat(40);
    fs::write(&path, format!("version = 1\n\n[source.\"{GIT}\".v1]\ncommit = \"{digits}\"\n")).unwrap();
    let lock = open(&path, Policy::Fill);
    assert_eq!(lock.commit(GIT, "v1").unwrap(), Some(PinnedCommit { commit: digits, tree: None }));
    assert!(!lock.save().unwrap(), "it is not written anew for its version alone");
    lock.pin_commit(GIT, "v1", commit("4"));
    assert!(lock.save().unwrap());
    assert!(fs::read_to_string(&path).unwrap().contains("version = 2\n"));
}

#[test]
fn a_lock_without_news_is_not_written() {
    let (_folder, path) = scratch();
    assert!(!open(&path, Policy::Fill).save().unwrap());
    assert!(!path.exists(), "nothing pinned, nothing written");
    filled(&path);
    let lock = open(&path, Policy::Update);
    assert_eq!(lock.commit(GIT, "v1").unwrap(), None, "it is to be resolved anew");
    lock.pin_commit(GIT, "v1", commit("4"));
    assert_eq!(lock.commit(GIT, "v1").unwrap(), Some(commit("4")), "and once is enough");
    assert!(!lock.save().unwrap());
}

#[test]
fn only_what_is_named_is_resolved_anew() {
    let (_folder, path) = scratch();
    filled(&path);
    for (name, moved) in [(GIT, true), ("source", true), (IMAGE, false), ("go", false)] {
        let lock = open(&path, Policy::UpdateNamed([name.to_owned()].into()));
        assert_eq!(lock.commit(GIT, "v1").unwrap().is_none(), moved, "{name}");
    }
    let error = refused(&path, Policy::UpdateNamed(["debain".to_owned()].into()));
    insta::assert_snapshot!(help(&error), @r#"
    updating lock file vcbuild.lock: it has no input debain
    it has 1.26.x, docker.io/library/debian:bookworm-slim, example.org/m, go, https://example.org/a.git, image, source
    "#);
    let error = refused(&path, Policy::UpdateNamed(["a.example/a".to_owned()].into()));
    insta::assert_snapshot!(help(&error), @r#"
    updating lock file vcbuild.lock: the source's go.mod determines the version of Go module a.example/a
    change it in go.mod (`go get a.example/a@VERSION`), and run `vcbuild lock` to update the lock file
    "#);
}

#[test]
fn a_locked_lock_gives_what_it_has_and_takes_nothing() {
    let (_folder, path) = scratch();
    filled(&path);
    let lock = open(&path, Policy::Locked);
    let missing = lock.commit(GIT, "v2").unwrap_err();
    assert_eq!(missing.to_string(), format!("using lock file {path}: it does not pin source {GIT} v2"));
    lock.pin_commit(GIT, "v1", commit("5"));
    lock.pin_modules("example.org/main", [module("a.example/a", "v0.2.0", "c")], true).unwrap();
    let drift = lock.save().unwrap_err();
    assert_eq!(drift.exit(), vcterminal::Exit::Usage);
    let said = drift.to_string().replace(path.as_str(), "vcbuild.lock");
    insta::assert_snapshot!(said, @r#"
    using lock file vcbuild.lock: it does not match the current inputs
    source https://example.org/a.git v1
      commit 4444444444444444444444444444444444444444 -> 5555555555555555555555555555555555555555
    modules of example.org/main
      a.example/a v0.1.0 -> v0.2.0
      - b.example/b v1.0.0
    "#);
    assert!(fs::read_to_string(&path).unwrap().contains(&"4".repeat(40)), "the file is as it was");
}

#[test]
fn one_version_of_a_module_has_one_checksum() {
    let (_folder, path) = scratch();
    let lock = filled(&path);
    let error = lock.pin_modules("example.org/main", [module("a.example/a", "v0.1.0", "x")], false).unwrap_err();
    assert_eq!(error.exit(), vcterminal::Exit::Failed);
    assert!(error.to_string().ends_with("it pins Go module a.example/a v0.1.0 to h1:a=, but found h1:x="));
}

#[test]
fn what_is_used_no_more_is_left_out_when_the_lock_is_tidied() {
    let (_folder, path) = scratch();
    filled(&path);
    let lock = open(&path, Policy::Fill);
    lock.manifest(IMAGE, &Platform::linux("amd64")).unwrap();
    lock.tidy();
    insta::assert_snapshot!(lock.changes().text(), @r#"
    source example.org/m latest
      - version v3.6.5
    source https://example.org/a.git v1
      - commit 4444444444444444444444444444444444444444
      - tree eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee
    go 1.26.x
      - linux/amd64 1.26.3
    modules of example.org/main
      - a.example/a v0.1.0
      - b.example/b v1.0.0
    image docker.io/library/debian:bookworm-slim linux/arm64
      - manifest sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35
    "#);
    assert_eq!(serde_json::to_value(lock.changes()).unwrap()[0]["to"], serde_json::Value::Null);
    lock.save().unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains("arm64"));
}

#[test]
fn a_lock_that_is_not_understood_is_refused() {
    let (_folder, path) = scratch();
    fs::write(&path, "version = 9\nnew = 1\n").unwrap();
    assert!(matches!(refused(&path, Policy::Fill), LockError::Version { found: 9, .. }));
    for bad in ["new = 1", "modules.m = [\"a v1\"]", "source.a.b.tree = \"x\""] {
        fs::write(&path, format!("version = 2\n{bad}\n")).unwrap();
        assert!(matches!(refused(&path, Policy::Fill), LockError::Syntax { .. }), "{bad}");
    }
}

proptest! {
    #[test]
    fn whatever_is_pinned_is_read_back(
        names in proptest::collection::vec("[ -~]{1,20}", 1..8),
        commits in proptest::collection::vec("[0-9a-f]{40}", 8),
    ) {
        let (_folder, path) = scratch();
        let lock = open(&path, Policy::Fill);
        for (name, digits) in names.iter().zip(&commits) {
            lock.pin_commit(name, name, PinnedCommit { commit: digits.clone(), tree: Some(digits.clone()) });
        }
        lock.save().unwrap();
        let read = open(&path, Policy::Locked);
        for name in &names {
            prop_assert_eq!(read.commit(name, name).unwrap(), lock.commit(name, name).unwrap());
        }
    }
}

/// Returns the message and its advice, with a fixed path of the lock.
fn help(error: &LockError) -> String {
    let help = miette::Diagnostic::help(error).map(|help| help.to_string()).unwrap_or_default();
    let text = format!("{error}\n{help}");
    match text.split_once("lock file /") {
        Some((before, after)) => {
            format!("{before}lock file vcbuild.lock:{}", after.split_once(':').map_or("", |(_, rest)| rest))
        }
        None => text,
    }
}

#[test]
fn one_version_of_a_crate_is_one_content() {
    let (_folder, path) = scratch();
    let lock = open(&path, Policy::Fill);
    let crates = |content: &str| {
        let [name, version] = ["a", "1.0.0"].map(str::to_owned);
        [PinnedCrate { name, version, content: content.to_owned() }].into()
    };
    lock.pin_crates(crates("sha256:1")).unwrap();
    assert!(lock.save().unwrap());
    assert!(fs::read_to_string(&path).unwrap().contains("crates = [\"a 1.0.0 sha256:1\"]"));
    let again = open(&path, Policy::Locked);
    again.pin_crates(crates("sha256:1")).unwrap();
    assert!(!again.save().unwrap());
    let error = again.pin_crates(crates("sha256:2")).unwrap_err().to_string();
    assert!(error.ends_with("it pins crate a 1.0.0 to sha256:1, but found sha256:2"), "{error}");
    for bad in ["crates = [\"a 1\"]", "crates = [\"a 1 sha256:1 x\"]"] {
        fs::write(&path, format!("version = 2\n{bad}\n")).unwrap();
        assert!(Lock::open(&path, Policy::Fill, Network::Open).is_err(), "{bad}");
    }
}
