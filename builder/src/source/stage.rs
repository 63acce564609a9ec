//! A copy of a source that holds what is source and nothing else, where edits are made.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use vcstore::Store;

use crate::Error;

/// A copied source; it goes when it is dropped. Folders lie in it as they lie on the machine, so that what one says of
/// another (`../lib`) holds.
#[derive(Debug)]
pub(super) struct Stage {
    path: Utf8PathBuf,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// An empty stage.
    pub(super) fn new(store: &Store) -> Result<Self, Error> {
        let folder = store.temp_dir()?;
        let path = super::utf8("reading", folder.path())?;
        Ok(Self { path, _folder: folder })
    }

    /// Where the folder `dir` (absolute) lies in it.
    pub(super) fn place(&self, dir: &Utf8Path) -> Utf8PathBuf {
        self.path.join(dir.strip_prefix("/").unwrap_or(dir))
    }

    /// Copies these files of the folder `dir`. Permissions are those that git knows, whoever made the files. What is
    /// tracked and was removed is not there to be copied.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub(super) fn copy(&self, dir: &Utf8Path, files: &BTreeSet<Utf8PathBuf>) -> Result<(), Error> {
        let to = self.place(dir);
        fs::create_dir_all(&to).map_err(Error::io("making", &to))?;
        let folders: BTreeSet<_> = files.iter().filter_map(|file| file.parent()).collect();
        for folder in folders {
            let folder = to.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io("making", &folder))?;
        }
        files.par_iter().try_for_each(|file| copy(&dir.join(file), &to.join(file)))
    }
}

fn copy(from: &Utf8Path, to: &Utf8Path) -> Result<(), Error> {
    let meta = match from.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(Error::io("reading", from)(error)),
    };
    if meta.is_symlink() {
        let target = fs::read_link(from).map_err(Error::io("reading", from))?;
        return symlink(target, to).map_err(Error::io("writing", to));
    }
    // A submodule that was not checked out is an empty folder.
    if !meta.is_file() {
        return Ok(());
    }
    fs::copy(from, to).map_err(Error::io("copying", from))?;
    let mode = if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
    fs::set_permissions(to, Permissions::from_mode(mode)).map_err(Error::io("writing", to))
}
