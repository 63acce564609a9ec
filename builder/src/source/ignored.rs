//! Files in a folder that are not part of the source: those of version control systems, and those that vcbuild writes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use camino::{Utf8Path, Utf8PathBuf};
use vcinspect::report;
use vcstore::Store;

use crate::{lock, offline_inputs, provenance_header};

/// The metadata folders of version control systems. `.git` is a file in a submodule or a worktree.
const REPOSITORIES: [&str; 5] = [".git", ".hg", ".svn", ".jj", ".bzr"];

/// The default output folder for archives, which is not part of the source.
pub(crate) const OUT: &str = "out";

/// The number of bytes that identify a file that vcbuild wrote.
const BEGINNING: u64 = 512;

/// Returns whether an entry of a directory walk is part of the source: neither version control metadata, nor a file
/// that vcbuild writes, nor in `without`.
pub(crate) fn is_source(entry: &walkdir::DirEntry, without: &[Utf8PathBuf]) -> bool {
    let path = entry.path();
    what(path, entry.file_type().is_dir()).is_none() && !without.iter().any(|known| path == known.as_std_path())
}

/// Returns why `path` in the folder `place` is not part of any source, because of itself or a folder that contains it.
pub(crate) fn why_ignored(place: &Utf8Path, path: &Utf8Path, without: &[Utf8PathBuf]) -> Option<&'static str> {
    let between = path.ancestors().take_while(|above| *above != place && above.starts_with(place));
    between.into_iter().find_map(|path| {
        let written = || without.iter().any(|known| path == known).then_some("a file that vcbuild writes");
        what(path.as_std_path(), path.is_dir()).or_else(written)
    })
}

/// Finds archives with these names anywhere below `folder` that vcbuild wrote.
pub(super) fn archives(folder: &Utf8Path, names: &BTreeSet<String>, without: &[Utf8PathBuf]) -> Vec<Utf8PathBuf> {
    let walk = walkdir::WalkDir::new(folder).into_iter().filter_entry(|entry| is_source(entry, without));
    let found = walk.filter_map(Result::ok).filter(|entry| is_archive(entry, names));
    found.filter_map(|entry| Utf8PathBuf::from_path_buf(entry.into_path()).ok()).collect()
}

/// Returns whether an entry has one of these names and is an archive that vcbuild wrote.
pub(crate) fn is_archive(entry: &walkdir::DirEntry, names: &BTreeSet<String>) -> bool {
    let named = entry.file_name().to_str().is_some_and(|name| names.contains(name));
    named
        && beginning(entry.path()).starts_with(b"oci-layout\0")
        && Utf8Path::from_path(entry.path()).is_some_and(provenance_header::is_ours)
}

/// Returns why a file or folder is not part of any source.
fn what(path: &Path, folder: bool) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    if REPOSITORIES.contains(&name) {
        return Some("a folder of version control");
    }
    if folder {
        let path = Utf8Path::from_path(path)?;
        let inputs = || offline_inputs::is_inputs_dir(path).then_some("a folder of inputs that vcbuild wrote");
        return Store::is_at(path).then_some("a store of vcbuild").or_else(inputs);
    }
    if name == lock::FILE_NAME {
        return Some("a lock that vcbuild writes");
    }
    let report = name.ends_with(".html") && report::is_page(&beginning(path));
    report.then_some("a report that vcbuild wrote")
}

/// Returns the first bytes of a file; nothing if it cannot be read.
fn beginning(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        let _ = File::open(path).and_then(|file| file.take(BEGINNING).read_to_end(&mut bytes));
    }
    bytes
}
