//! The stage: a copy of a source that contains only source files, to which edits are applied.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use vcstore::Store;

use crate::Error;

/// Returns whether compilers accept a path: Go refuses control characters.
pub(super) fn is_plain(path: &Utf8Path) -> bool {
    !path.as_str().contains(char::is_control)
}

/// Creates a temporary folder whose path compilers accept: in the store, unless the store's path has unsupported
/// characters, such as a colon, at which Go splits lists of folders.
///
/// # Errors
/// When the folder cannot be created.
pub(crate) fn plain_temp_dir(store: &Store) -> Result<tempfile::TempDir, Error> {
    if is_plain(store.path()) && !store.path().as_str().contains(':') {
        return Ok(store.temp_dir()?);
    }
    tempfile::tempdir().map_err(Error::io("making a folder in", vcstore::lossy(&std::env::temp_dir())))
}

/// A temporary copy of a source, removed on drop. It preserves the layout of the source's folders, so that relative
/// references such as `../lib` remain valid.
#[derive(Debug)]
pub(super) struct Stage {
    path: Utf8PathBuf,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Creates an empty stage.
    pub(super) fn new(store: &Store) -> Result<Self, Error> {
        let folder = plain_temp_dir(store)?;
        let path = vcstore::utf8("reading", folder.path())?;
        Ok(Self { path, _folder: folder })
    }

    /// Returns the path in the stage for the absolute path `dir`, without unsupported characters.
    pub(super) fn place(&self, dir: &Utf8Path) -> Utf8PathBuf {
        let dir = dir.strip_prefix("/").unwrap_or(dir);
        self.path.join(dir.as_str().replace(char::is_control, "_"))
    }

    /// Copies these files of the folder `dir`. Sets the permissions that git records, independent of the originals.
    /// Skips tracked files that do not exist.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub(super) fn copy(&self, dir: &Utf8Path, files: &BTreeSet<PathBuf>) -> Result<(), Error> {
        let to = self.place(dir);
        fs::create_dir_all(&to).map_err(Error::io("making", &to))?;
        let folders: BTreeSet<_> = files.iter().filter_map(|file| file.parent()).collect();
        for folder in folders {
            let folder = to.as_std_path().join(folder);
            fs::create_dir_all(&folder).map_err(failed("making", &folder))?;
        }
        files.par_iter().try_for_each(|file| copy(&dir.as_std_path().join(file), &to.as_std_path().join(file)))
    }

    /// Preserves the targets of relative links that point outside all `folders`, so that the copy behaves like the
    /// original.
    ///
    /// # Errors
    /// When the stage cannot be written.
    pub(super) fn keep_links(
        &self,
        dir: &Utf8Path,
        files: &BTreeSet<PathBuf>,
        folders: &[Utf8PathBuf],
    ) -> Result<(), Error> {
        for file in files {
            let link = dir.as_std_path().join(file);
            // Absolute links have the same target everywhere.
            let Some(target) = fs::read_link(&link).ok().filter(|target| target.is_relative()) else { continue };
            let real = link.parent().and_then(|folder| normal(&folder.join(target)));
            let Some(real) = real.as_deref().and_then(Utf8Path::from_path) else { continue };
            if !real.exists() || folders.iter().any(|folder| real.starts_with(folder) || folder.starts_with(real)) {
                continue;
            }
            let place = self.place(real);
            let is_link = |path: &Utf8Path| path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
            let leads_on = place.ancestors().take_while(|above| *above != self.path).any(is_link);
            if !leads_on && place.symlink_metadata().is_err() {
                let parent = place.parent().unwrap_or(&self.path);
                fs::create_dir_all(parent).map_err(Error::io("making", parent))?;
                symlink(real, &place).map_err(Error::io("writing", &place))?;
            }
        }
        Ok(())
    }
}

/// Returns the path without `.` and `..`; `None` if it has more `..` than folders.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => normal.pop().then_some(())?,
            part => normal.push(part),
        }
    }
    Some(normal)
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    Error::io(attempt, vcstore::lossy(path))
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let meta = match from.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(failed("reading", from)(error)),
    };
    if meta.is_symlink() {
        let target = fs::read_link(from).map_err(failed("reading", from))?;
        return symlink(target, to).map_err(failed("writing", to));
    }
    // A submodule that is not checked out is an empty folder.
    if !meta.is_file() {
        return Ok(());
    }
    fs::copy(from, to).map_err(failed("copying", from))?;
    let mode = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
    fs::set_permissions(to, Permissions::from_mode(mode)).map_err(failed("writing", to))
}
