//! The manifest of a source: all its files with their hashes, and copies of it that contain only these files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use serde::Serialize;
use vcsandbox::Sandbox;
use vcsandbox::plain::Plain;
use vcstore::lossy;
use walkdir::WalkDir;

use crate::Error;
use crate::source::{FileHash, is_source};

/// The permissions of a staged folder, here and on a build host: the output of a command may depend on them.
pub(crate) const FOLDER_MODE: u32 = 0o755;

/// The files below a folder.
#[derive(Debug)]
pub(crate) struct FileManifest {
    top: Utf8PathBuf,
    /// The files by their paths relative to `top`, which need not be UTF-8.
    entries: BTreeMap<PathBuf, Entry>,
}

/// A file or a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Entry {
    File { hash: FileHash, executable: bool },
    Link(PathBuf),
}

impl FileManifest {
    /// Reads the files of a source at `top`, except the files that git keeps and anything below a path of `without`.
    /// Skips sockets, pipes, devices and empty folders, which a clone would not contain either.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn of_source(top: &Utf8Path, without: &[Utf8PathBuf]) -> Result<Self, Error> {
        Self::read(top, |entry| is_source(entry, without))
    }

    /// Reads all files below `top`.
    ///
    /// # Errors
    /// As [`FileManifest::of_source`].
    pub(crate) fn all(top: &Utf8Path) -> Result<Self, Error> {
        Self::read(top, |_| true)
    }

    fn read(top: &Utf8Path, keep: impl FnMut(&walkdir::DirEntry) -> bool) -> Result<Self, Error> {
        let mut paths = Vec::new();
        for entry in WalkDir::new(top).into_iter().filter_entry(keep) {
            let entry = entry.map_err(|error| Error::io("reading", top)(error.into()))?;
            if entry.file_type().is_file() || entry.file_type().is_symlink() {
                paths.push(entry.into_path());
            }
        }
        let read = |path: PathBuf| {
            let entry = Entry::read(&path)?;
            Ok((path.strip_prefix(top).unwrap_or(&path).to_owned(), entry))
        };
        Ok(Self { top: top.to_owned(), entries: paths.into_par_iter().map(read).collect::<Result<_, Error>>()? })
    }

    /// Returns a manifest of the files whose paths `keep` accepts.
    pub(crate) fn only(&self, keep: impl Fn(&Utf8Path) -> bool) -> Self {
        let entries = self.entries.iter().filter(|(path, _)| keep(&lossy(path)));
        Self { top: self.top.clone(), entries: entries.map(|(path, entry)| (path.clone(), entry.clone())).collect() }
    }

    /// Returns the relative paths of the files that are UTF-8.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Utf8Path> {
        self.entries.keys().filter_map(|path| Utf8Path::from_path(path))
    }

    /// Returns the path of a file in the file system.
    pub(crate) fn place(&self, path: &Utf8Path) -> Utf8PathBuf {
        self.top.join(path)
    }

    /// Returns a hash of all names, contents, links and executable bits, which does not depend on the folder's
    /// location.
    pub(crate) fn hash(&self) -> FileHash {
        let mut text = Vec::new();
        for (path, entry) in &self.entries {
            text.extend_from_slice(path.as_os_str().as_bytes());
            text.push(0);
            match entry {
                // JSON cannot represent a path that is not UTF-8.
                Entry::Link(target) if target.to_str().is_none() => {
                    text.extend_from_slice(target.as_os_str().as_bytes());
                }
                // The serialisation of a hash or a UTF-8 path cannot fail.
                entry => text.extend(serde_json::to_vec(entry).unwrap_or_default()),
            }
            text.push(0);
        }
        FileHash::of(&text)
    }

    /// Makes `to` contain exactly these files. Keeps files that are unchanged, so that tools that compare file times
    /// see no change.
    ///
    /// # Errors
    /// When a file has changed since it was listed, or cannot be copied.
    pub(crate) fn sync_to(&self, to: &Utf8Path, sandbox: &Sandbox) -> Result<(), Error> {
        fs::create_dir_all(to).map_err(Error::io("making", to))?;
        self.remove_others(to)?;
        let missing: Vec<_> = sandbox
            .ordered(&self.entries)
            .filter(|(path, entry)| Entry::read(&to.as_std_path().join(path)).ok().as_ref() != Some(*entry))
            .collect();
        for (path, entry) in missing {
            self.copy(path, entry, to)?;
        }
        self.open_folders(to)
    }

    /// Gives every folder the same permissions, independent of the umask.
    fn open_folders(&self, to: &Utf8Path) -> Result<(), Error> {
        let to = to.as_std_path();
        let folders: BTreeSet<&Path> = self.entries.keys().flat_map(|path| path.ancestors().skip(1)).collect();
        for folder in folders.into_iter().map(|folder| to.join(folder)).chain([to.to_owned()]) {
            let meta = fs::symlink_metadata(&folder).map_err(failed("reading", &folder))?;
            if meta.permissions().mode() & 0o7777 != FOLDER_MODE {
                let mode = Permissions::from_mode(FOLDER_MODE);
                fs::set_permissions(&folder, mode).map_err(failed("writing", &folder))?;
            }
        }
        Ok(())
    }

    /// Removes everything from `to` that is not part of the source, such as renamed files or build output.
    fn remove_others(&self, to: &Utf8Path) -> Result<(), Error> {
        for entry in WalkDir::new(to).min_depth(1).contents_first(true) {
            let entry = entry.map_err(|error| Error::io("reading", to)(error.into()))?;
            let is_dir = entry.file_type().is_dir();
            let path = entry.path();
            let known = self.entries.contains_key(path.strip_prefix(to).unwrap_or(path));
            match (is_dir, known) {
                // Removal fails for a folder that contains files of the source, so the folder stays.
                (true, false) => drop(fs::remove_dir(path)),
                (true, true) => fs::remove_dir_all(path).map_err(failed("removing", path))?,
                (false, false) => fs::remove_file(path).map_err(failed("removing", path))?,
                (false, true) => {}
            }
        }
        Ok(())
    }

    fn copy(&self, path: &Path, entry: &Entry, to: &Utf8Path) -> Result<(), Error> {
        let (from, to) = (self.top.as_std_path().join(path), to.as_std_path().join(path));
        let parent = to.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(failed("making", parent))?;
        match fs::remove_file(&to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("removing", &to)(error)),
            _ => {}
        }
        match entry {
            Entry::Link(target) => symlink(target, &to).map_err(failed("creating the link", &to)),
            Entry::File { hash, executable } => {
                let content = Plain::open(&from).map_err(|why| failed("reading", &from)(why.into()))?;
                let copy = File::options().write(true).create_new(true).open(&to);
                let mut copy = copy.map_err(failed("writing", &to))?;
                io::copy(&mut content.content(), &mut copy).map_err(failed("writing", &to))?;
                // Ignore the umask, and all permissions of the file except the executable bit.
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&to, Permissions::from_mode(mode)).map_err(failed("writing", &to))?;
                if content_hash(&to)? == *hash { Ok(()) } else { Err(Error::source_changed(lossy(&from))) }
            }
        }
    }
}

impl Entry {
    fn read(path: &Path) -> Result<Self, Error> {
        let meta = fs::symlink_metadata(path).map_err(failed("reading", path))?;
        if meta.is_symlink() {
            return Ok(Self::Link(fs::read_link(path).map_err(failed("reading", path))?));
        }
        if !meta.is_file() {
            return Err(failed("reading", path)(io::Error::other("it is not a file, folder or symbolic link")));
        }
        Ok(Self::File { hash: content_hash(path)?, executable: meta.permissions().mode() & 0o100 != 0 })
    }
}

fn content_hash(path: &Path) -> Result<FileHash, Error> {
    FileHash::of_file(path).map_err(failed("reading", path))
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    Error::io(attempt, lossy(path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use camino::{Utf8Path, Utf8PathBuf};

    use super::FileManifest;
    use crate::Error;
    use vcsandbox::{Limits, Mode, Sandbox};

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        (folder, path)
    }

    fn write(top: &Utf8Path, path: &str, content: &str) {
        fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
        fs::write(top.join(path), content).unwrap();
    }

    #[test]
    fn a_copy_holds_the_same_and_keeps_the_times_of_what_is_the_same() {
        let (_one, from) = folder();
        let (_two, to) = folder();
        let sandbox = Sandbox::find(Mode::Off, Limits::default());
        write(&from, "a", "a");
        write(&from, "d/run", "#!/bin/sh\n");
        fs::set_permissions(from.join("d/run"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("../a", from.join("d/link")).unwrap();
        write(&from, ".git/HEAD", "x");
        write(&from, "out/x", "x");
        let list = |top: &Utf8Path| FileManifest::of_source(top, &[top.join("out")]).unwrap();
        list(&from).sync_to(&to, &sandbox).unwrap();
        assert_eq!(list(&from).hash(), list(&to).hash());
        assert!(!to.join(".git").exists() && !to.join("out").exists());
        assert_eq!(fs::metadata(to.join("d/run")).unwrap().mode() & 0o777, 0o755);

        fs::set_permissions(to.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        list(&from).sync_to(&to, &sandbox).unwrap();
        assert_eq!(fs::metadata(to.join("d")).unwrap().mode() & 0o7777, 0o755);

        let before = fs::metadata(to.join("a")).unwrap().ino();
        write(&from, "d/run", "#!/bin/bash\n");
        write(&to, "d/left/behind", "x");
        fs::remove_file(from.join("d/link")).unwrap();
        write(&from, "d/link/now/a/folder", "x");
        let changed = list(&from);
        assert_ne!(changed.hash(), list(&to).hash());
        changed.sync_to(&to, &sandbox).unwrap();
        assert_eq!(changed.hash(), list(&to).hash());
        assert_eq!(fs::metadata(to.join("a")).unwrap().ino(), before, "what is the same stays");
        assert!(!to.join("d/left").exists());

        write(&from, "a", "changed meanwhile");
        fs::remove_file(to.join("a")).unwrap();
        assert!(matches!(changed.sync_to(&to, &sandbox), Err(Error::Sandbox(vcsandbox::Error::SourceChanged { .. }))));
    }
}
