//! Removes files and folders, also folders that a compiler made read-only, and says how much they held.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use camino::Utf8Path;

use crate::Error;
use crate::usage::Amount;

/// Removes what is at `path`; links are removed, never followed. That nothing is there is as good.
pub(crate) fn tree(path: &Utf8Path) -> Result<(), Error> {
    match remove(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path).and_then(|()| remove(path)).map_err(Error::io("removing", path))
        }
        result => result.map_err(Error::io("removing", path)),
    }
}

/// How many files there are at and below `path`, and their size. Links count as the little they are themselves.
pub(crate) fn measure(path: &Utf8Path) -> Result<Amount, Error> {
    let mut amount = Amount::default();
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            // Compilers come and go in their caches meanwhile.
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

/// Lets the owner write in every folder at and below `path`.
fn make_writable(path: &Utf8Path) -> io::Result<()> {
    let mut todo = vec![path.to_owned()];
    while let Some(folder) = todo.pop() {
        let meta = fs::symlink_metadata(&folder)?;
        if meta.is_dir() {
            fs::set_permissions(&folder, fs::Permissions::from_mode(meta.permissions().mode() | 0o700))?;
            for entry in folder.read_dir_utf8()? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    todo.push(entry.into_path());
                }
            }
        }
    }
    Ok(())
}
