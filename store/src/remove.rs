//! Removes files and folders, including folders that a compiler made read-only, and measures them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use camino::Utf8Path;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::Error;
use crate::amount::Amount;

/// Removes the entry at `path`. Removes symbolic links without following them, even if another user creates one
/// meanwhile. A missing entry is not an error.
///
/// # Errors
/// When an entry cannot be removed.
pub fn tree(path: &Utf8Path) -> Result<(), Error> {
    match remove(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path).and_then(|()| remove(path)).map_err(Error::io("removing", path))
        }
        result => result.map_err(Error::io("removing", path)),
    }
}

/// Returns the number and size of the files at and below `path`. A symbolic link counts with its own size.
pub(crate) fn measure(path: &Utf8Path) -> Result<Amount, Error> {
    let mut amount = Amount::default();
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            // Compilers may change their caches meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("reading", &path)(error)),
        };
        if meta.is_dir() {
            let entries = match path.read_dir_utf8() {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("listing", &path)(error)),
            };
            for entry in entries {
                todo.push(entry.map_err(Error::io("listing", &path))?.into_path());
            }
        } else {
            amount.add(meta.len());
        }
    }
    Ok(amount)
}

fn remove(path: &Utf8Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Makes all folders at and below `path` writable for the owner. Opens each relative to its parent, and changes the
/// opened folder, so that no link can be substituted.
fn make_writable(path: &Utf8Path) -> io::Result<()> {
    let Some((folder, name)) = path.parent().zip(path.file_name()) else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, folder.as_std_path(), flags, Mode::empty())?;
    open_up(&folder, OsStr::new(name))
}

fn open_up(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let place =
        openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let place = match place {
        // Not a folder, or removed meanwhile.
        Err(Errno::NOTDIR | Errno::NOENT | Errno::LOOP) => return Ok(()),
        place => place?,
    };
    let mode = rustix::fs::fstat(&place)?.st_mode;
    // Change the opened folder, whatever entry has its name now. It may not be readable yet.
    let itself = format!("/proc/self/fd/{}", place.as_raw_fd());
    rustix::fs::chmod(itself.as_str(), Mode::from_raw_mode(mode & 0o7777 | 0o700))?;
    let place = openat(&place, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in Dir::read_from(&place)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." && matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
            open_up(&place, name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use camino::Utf8PathBuf;

    use super::{make_writable, tree};

    fn mode(path: &Utf8PathBuf) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn folders_that_nobody_may_enter_go_and_nothing_behind_a_link_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        let (inside, outside) = (top.join("inside"), top.join("outside"));
        fs::create_dir_all(inside.join("a/b/c")).unwrap();
        fs::create_dir_all(outside.join("d")).unwrap();
        fs::write(inside.join("a/b/c/file"), "x").unwrap();
        symlink(&outside, inside.join("a/link")).unwrap();
        symlink(&outside, top.join("link")).unwrap();
        let close = |path: &Utf8PathBuf| fs::set_permissions(path, Permissions::from_mode(0o0)).unwrap();
        for path in [outside.join("d"), outside.clone(), inside.join("a/b/c"), inside.join("a/b"), inside.join("a")] {
            close(&path);
        }
        make_writable(&inside).unwrap();
        assert_eq!([mode(&inside.join("a")), mode(&inside.join("a/b/c")), mode(&outside)], [0o700, 0o700, 0]);
        make_writable(&top.join("link")).unwrap();
        assert_eq!(mode(&outside), 0);
        close(&inside.join("a/b"));
        tree(&inside).unwrap();
        tree(&inside).unwrap();
        tree(&top.join("link")).unwrap();
        assert!(!inside.exists() && outside.exists());
        fs::set_permissions(&outside, Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(outside.join("d"), Permissions::from_mode(0o700)).unwrap();
    }
}
