//! Layers as another program reads them: whatever is in a tree comes out of GNU tar as it went in.

#![expect(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use camino::Utf8PathBuf;
use proptest::prelude::*;
use vcstore::{Compression, Content, Decoder, Entry, Kind, Store, Tree, layer};

/// A part of a path: everything that a file may be called.
fn part() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "[^/\0]{1,40}", "[a-z]{90,250}", "\\PC{1,60}"]
        .prop_filter("a name", |name| name != "." && name != ".." && !name.contains('/') && name.len() <= 255)
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        Just(Kind::Directory),
        proptest::collection::vec(any::<u8>(), 0..2000).prop_map(|bytes| Kind::File(Content::Bytes(bytes))),
        "[^\0]{1,300}".prop_map(Kind::Symlink),
    ];
    // Beyond 7 octal digits an owner stands in a record of its own; the last number means "nobody" to the kernel.
    let owner = || prop_oneof![0..100_000u64, 2_097_150..2_097_154u64, 4_000_000_000..4_294_967_295u64];
    (kind, 0..=0o7777u32, owner(), owner()).prop_map(|(kind, mode, uid, gid)| Entry { kind, mode, uid, gid })
}

/// Trees with hard links to some of their files.
fn tree() -> impl Strategy<Value = Tree> {
    let path = || proptest::collection::vec(part(), 1..6);
    let entries = proptest::collection::vec((path(), entry()), 1..16);
    let links = proptest::collection::vec((path(), any::<prop::sample::Index>()), 0..4);
    (entries, links).prop_map(|(entries, links)| {
        let mut tree = Tree::new();
        for (path, entry) in entries {
            // A path through a file is refused, which other tests hold.
            let _ = tree.insert(&path.join("/"), entry);
        }
        let is_file = |entry: &Entry| matches!(entry.kind, Kind::File(_));
        let files: Vec<_> = tree.iter().filter(|(_, entry)| is_file(entry)).map(|(path, _)| path.to_owned()).collect();
        for (path, of) in links {
            let path = path.join("/");
            if !files.is_empty() && tree.get(&path).is_none() {
                let _ = tree.hard_link(&path, &files[of.index(files.len())]);
            }
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn gnu_tar_unpacks_any_tree_as_it_is(tree in tree(), mtime in prop_oneof![Just(0u64), 1..4_000_000_000u64]) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Utf8PathBuf::try_from(folder.path().join(name)).unwrap();
        let store = Store::open(&path("store")).unwrap();
        let layer = layer::write(&store, &tree, Compression::Gzip, mtime).unwrap();
        let unpacked = path("unpacked");
        fs::create_dir(&unpacked).unwrap();
        let mut command = Command::new("tar");
        command.args(["--extract", "--numeric-owner", "--same-owner", "--same-permissions", "--delay-directory-restore"]);
        command.arg("--warning=no-timestamp").arg("--directory").arg(&unpacked).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut content = Decoder::new(store.reader(&layer.digest).unwrap()).unwrap();
        std::io::copy(&mut content, &mut child.stdin.take().unwrap()).unwrap();
        prop_assert!(child.wait().unwrap().success());
        for (path, entry) in tree.iter() {
            let entry = match &entry.kind {
                Kind::HardLink(to) => tree.get(to).unwrap(),
                _ => entry,
            };
            check(unpacked.as_std_path(), path, entry, mtime)?;
        }
        let entries = walk(unpacked.as_std_path());
        prop_assert_eq!(entries, tree.len());
    }
}

fn check(unpacked: &Path, path: &str, entry: &Entry, mtime: u64) -> Result<(), TestCaseError> {
    let file = unpacked.join(path);
    let meta = fs::symlink_metadata(&file).map_err(|why| TestCaseError::fail(format!("{path:?}: {why}")))?;
    match &entry.kind {
        Kind::Directory => prop_assert!(meta.is_dir(), "{:?}", path),
        Kind::Symlink(target) => prop_assert_eq!(fs::read_link(&file).unwrap(), Path::new(target)),
        Kind::File(Content::Bytes(bytes)) => prop_assert_eq!(&fs::read(&file).unwrap(), bytes),
        other => panic!("not made here: {other:?}"),
    }
    prop_assert_eq!(u64::try_from(meta.mtime()), Ok(mtime), "{:?}", path);
    if !matches!(entry.kind, Kind::Symlink(_)) {
        prop_assert_eq!(meta.permissions().mode() & 0o7777, entry.mode, "{:?}", path);
    }
    // Only root may give files away.
    if rustix::process::geteuid().is_root() {
        prop_assert_eq!((u64::from(meta.uid()), u64::from(meta.gid())), (entry.uid, entry.gid), "{:?}", path);
    }
    Ok(())
}

fn walk(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| 1 + if entry.file_type().unwrap().is_dir() { walk(&entry.path()) } else { 0 }).sum()
}
