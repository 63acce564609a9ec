//! An inexpensive description of a source's files: the names of all, and the hashes of those that Go reads to find
//! packages.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vcsandbox::plain::Plain;
use walkdir::WalkDir;

use super::ignored::is_source;
use crate::Error;

/// The extensions of files whose content determines the imports of a package, or whether it is built: those in `go help
/// packages`. Excludes tests, which images do not contain.
const CODE: [&str; 20] = [
    "c", "cc", "cpp", "cxx", "m", "h", "hh", "hpp", "hxx", "f", "F", "for", "f90", "s", "S", "sx", "swig", "swigcxx",
    "syso", "go",
];

/// The other files by which Go finds modules.
const MODULE: [&str; 5] = ["go.mod", "go.sum", "go.work", "go.work.sum", "modules.txt"];

/// The BLAKE3 hash of a file's content, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct FileHash(String);

/// The files below a set of folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    /// The files by absolute path, with hashes of those that Go reads to find packages.
    files: BTreeMap<Utf8PathBuf, Option<FileHash>>,
}

impl Tree {
    /// Reads the folders. Excludes version control metadata and anything below a path of `without`.
    ///
    /// # Errors
    /// When a folder or file cannot be read.
    pub(crate) fn read<'a>(
        folders: impl IntoIterator<Item = &'a Utf8Path>,
        without: &[Utf8PathBuf],
    ) -> Result<Self, Error> {
        let folders: Vec<&Utf8Path> = folders.into_iter().collect();
        let mut paths = Vec::new();
        for folder in &folders {
            let entries = WalkDir::new(folder).follow_links(true).into_iter();
            let keep = |entry: &walkdir::DirEntry| is_source(entry, without) && !leads_everywhere(entry, &folders);
            for entry in entries.filter_entry(keep) {
                // Go follows links to files, and to folders that are imported by name. It cannot follow dangling links
                // or cycles either.
                let entry = match entry {
                    Err(error) if error.depth() > 0 && leads_nowhere(&error) => continue,
                    entry => entry.map_err(|error| Error::io("reading", folder)(error.into()))?,
                };
                // Go source files have UTF-8 names, and Go embeds no other files.
                if let (true, Some(path)) = (entry.file_type().is_file(), Utf8Path::from_path(entry.path())) {
                    paths.push(path.to_owned());
                }
            }
        }
        let hashed = |path: Utf8PathBuf| {
            let hash = is_code(&path).then(|| hash_file(&path)).transpose()?;
            Ok((path, hash))
        };
        Ok(Self { files: paths.into_par_iter().map(hashed).collect::<Result<_, Error>>()? })
    }

    /// Returns a hash of all names, and of the content that Go reads to find packages. Uses paths relative to `top`, so
    /// that the hash does not depend on the location of the source.
    pub(crate) fn hash(&self, top: &Utf8Path) -> FileHash {
        let mut hasher = blake3::Hasher::new();
        for (path, hash) in &self.files {
            let path = path.strip_prefix(top).unwrap_or(path);
            hasher.update(path.as_str().as_bytes());
            hasher.update(&[0]);
            hasher.update(hash.as_ref().map_or("", |hash| &hash.0).as_bytes());
            hasher.update(&[0]);
        }
        FileHash(hasher.finalize().to_hex().to_string())
    }

    /// Returns whether the tree contains this file.
    pub(crate) fn has(&self, path: &Utf8Path) -> bool {
        self.files.contains_key(path)
    }

    /// Returns the hash of a file; computes it if the tree does not have it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn hash_of(&self, path: &Utf8Path) -> Result<FileHash, Error> {
        match self.files.get(path) {
            Some(Some(hash)) => Ok(hash.clone()),
            _ => hash_file(path),
        }
    }
}

impl FileHash {
    /// Returns the hash of this content.
    pub(crate) fn of(content: &[u8]) -> Self {
        Self(blake3::hash(content).to_hex().to_string())
    }
}

impl FileHash {
    /// Returns the hash of a file; follows symbolic links.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn of_file(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = Plain::follow(path)?;
        Ok(Self(blake3::Hasher::new().update_reader(file.content())?.finalize().to_hex().to_string()))
    }
}

impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hashes a file piece by piece. If files were mapped into memory, a single compiler would exceed all other memory use.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn hash_file(path: &Utf8Path) -> Result<FileHash, Error> {
    FileHash::of_file(path).map_err(Error::io("reading", path))
}

pub(super) fn is_code(path: &Utf8Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let code = path.extension().is_some_and(|extension| CODE.contains(&extension)) && !name.ends_with("_test.go");
    code || MODULE.contains(&name)
}

/// Resolves the links in a path of a file or folder that need not exist.
///
/// # Errors
/// When the current folder cannot be determined.
pub(crate) fn real_path(path: &Utf8Path) -> Result<Utf8PathBuf, Error> {
    let path = camino::absolute_utf8(path).map_err(Error::io("finding", path))?;
    let real = path.parent().and_then(|folder| folder.canonicalize_utf8().ok()).zip(path.file_name());
    Ok(path.canonicalize_utf8().ok().or(real.map(|(folder, name)| folder.join(name))).unwrap_or(path))
}

/// Returns whether an error is due to a symbolic link that is dangling, cyclic or unreadable.
pub(crate) fn leads_nowhere(error: &walkdir::Error) -> bool {
    let is_link = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    error.loop_ancestor().is_some() || error.path().is_some_and(is_link)
}

/// Returns whether a link points to a folder that contains the source, such as `/`, or to a kernel file system: these
/// contain no packages, and endless files.
fn leads_everywhere(entry: &walkdir::DirEntry, folders: &[&Utf8Path]) -> bool {
    if !(entry.path_is_symlink() && entry.file_type().is_dir()) {
        return false;
    }
    let Ok(real) = entry.path().canonicalize() else { return true };
    let kernel = ["/proc", "/sys", "/dev"].iter().any(|folder| real.starts_with(folder));
    kernel || folders.iter().any(|folder| folder.as_std_path().starts_with(&real))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use camino::{Utf8Path, Utf8PathBuf};

    use super::{FileHash, Tree};

    fn write(top: &Utf8Path, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = top.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    fn hash(top: &Utf8Path) -> FileHash {
        Tree::read([top], &[top.join("out")]).unwrap().hash(top)
    }

    #[test]
    fn names_and_code_count_and_nothing_else_does() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, two] = [0, 1].map(|i| Utf8PathBuf::try_from(folders[i].path().to_owned()).unwrap());
        let files =
            [("go.mod", "module m"), ("a/a.go", "package a"), ("a/a.txt", "text"), ("a/a_test.go", "package a")];
        write(&one, &files);
        write(&two, &files);
        let first = hash(&one);
        assert_eq!(first, hash(&two), "where the source is does not count");
        write(&one, &[("a/a.txt", "other"), ("a/a_test.go", "other"), (".git/HEAD", "x"), ("out/a.go", "package out")]);
        assert_eq!(first, hash(&one), "nor do data, tests, git's files and outputs");
        write(&one, &[("a/b.txt", "")]);
        assert_ne!(first, hash(&one), "a new name counts: it may be embedded");
        write(&two, &[("a/a.go", "package a // changed")]);
        assert_ne!(first, hash(&two), "and so does changed code");
    }

    #[test]
    fn large_files_hash_as_small_ones_do() {
        let folder = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        let content = "x".repeat(1 << 20);
        write(&top, &[("large.go", &content), ("link.txt", "")]);
        let tree = Tree::read([top.as_path()], &[]).unwrap();
        assert_eq!(tree.hash_of(&top.join("large.go")).unwrap(), FileHash::of(content.as_bytes()));
        assert_eq!(tree.hash_of(&top.join("link.txt")).unwrap(), FileHash::of(b""));
    }
}
