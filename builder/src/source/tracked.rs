//! Lists the source files of a folder: the tracked files in a git repository, otherwise all files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::process;
use super::program::Git;
use crate::Error;

const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Returns the relative paths of the files below `folder` that git tracks, including those of submodules; `None` if git
/// tracks none. Their content is that of the folder, committed or not.
///
/// # Errors
/// When the folder is in a repository and git fails.
pub(super) fn tracked(git: &Git, folder: &Utf8Path) -> Result<Option<BTreeSet<PathBuf>>, Error> {
    if !folder.ancestors().any(|above| above.join(".git").exists()) {
        return Ok(None);
    }
    // Reads only the index. The repository may be another user's, so git must run nothing that it configures.
    let mut git = git.isolated();
    git.args(["-C", folder.as_str(), "ls-files", "-z", "--cached", "--recurse-submodules"]);
    let attempt = || format!("listing the files that git tracks in {folder}");
    let listed = match process::run(&mut git, LIMIT) {
        Ok(listed) => listed,
        Err(failure) if failure.is_missing_program() => return Err(Error::NoGit { attempt: attempt() }),
        Err(failure) if failure.stderr().is_some_and(|stderr| stderr.contains("not a git repository")) => {
            return Ok(None);
        }
        Err(failure) => return Err(Error::Git { attempt: attempt(), source: Box::new(failure) }),
    };
    let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let paths: BTreeSet<_> = names.map(|name| PathBuf::from(OsStr::from_bytes(name))).collect();
    Ok((!paths.is_empty()).then_some(paths))
}

/// Returns the relative paths of all source files below `folder`, except those in `without`. Includes symbolic links,
/// but not sockets, pipes and devices.
///
/// # Errors
/// When a folder cannot be read.
pub(super) fn files(folder: &Utf8Path, without: &[Utf8PathBuf]) -> Result<BTreeSet<PathBuf>, Error> {
    let mut found = BTreeSet::new();
    for entry in walkdir::WalkDir::new(folder).into_iter().filter_entry(|entry| super::is_source(entry, without)) {
        let entry = entry.map_err(|error| Error::io("reading", folder)(error.into()))?;
        if entry.file_type().is_file() || entry.file_type().is_symlink() {
            found.extend(entry.path().strip_prefix(folder).ok().map(Path::to_owned));
        }
    }
    Ok(found)
}
