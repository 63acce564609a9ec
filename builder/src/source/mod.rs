//! Where code comes from: a folder, or a git repository.

mod git;
mod tree;

use camino::{Utf8Path, Utf8PathBuf};
use vcstore::Store;

pub(crate) use self::tree::{FileHash, Tree, hash_file};
use crate::lock::Lock;
use crate::progress::Progress;
use crate::project::SourceTable;
use crate::{Error, process};

/// A source that is there to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The folder with the code; absolute.
    pub(crate) dir: Utf8PathBuf,
    /// The same as its user names it.
    named: Utf8PathBuf,
    /// The revision it was cloned at.
    pub(crate) revision: Option<Revision>,
}

/// What was cloned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    /// The branch, tag or commit that was asked for.
    pub(crate) version: String,
    /// The commit, 40 hexadecimal digits.
    pub(crate) commit: String,
}

impl Source {
    /// Opens the source that `asked` says: the current folder when it says nothing. A repository is cloned into the
    /// store's care, at the commit that `lock` pins or that the version is now.
    ///
    /// # Errors
    /// When the folder is not there, or git fails.
    pub(crate) fn open(asked: &SourceTable, store: &Store, lock: &Lock, progress: &Progress) -> Result<Self, Error> {
        let (top, revision) = match &asked.repo {
            None => (asked.dir.clone().unwrap_or_else(|| Utf8PathBuf::from(".")), None),
            Some(url) if has_secret(url) => return Err(Error::SecretInAddress),
            Some(url) => {
                let version = asked.version.as_deref().unwrap_or("HEAD");
                let pinned = lock.commit(url, version)?;
                let (folder, found) = git::clone(url, version, pinned.as_ref(), lock.network(), store, progress)?;
                lock.pin_commit(url, version, found.clone());
                (folder, Some(Revision { version: version.to_owned(), commit: found.commit }))
            }
        };
        let named = asked.subdir.as_ref().map_or_else(|| top.clone(), |subdir| top.join(subdir));
        let dir = named.canonicalize_utf8().map_err(|source| Error::NoSource { path: named.clone(), source })?;
        if let Some(subdir) = &asked.subdir
            && !dir.starts_with(top.canonicalize_utf8().map_err(Error::io("finding", &top))?)
        {
            return Err(Error::SubdirOutside { subdir: subdir.clone(), top });
        }
        Ok(Self { dir, named, revision })
    }

    /// Checks that the source's folder has this file, by which its kind is known.
    ///
    /// # Errors
    /// When it has not; the message has the folders below it that do.
    pub(crate) fn must_have(&self, file: &'static str) -> Result<(), Error> {
        if self.dir.join(file).is_file() {
            return Ok(());
        }
        Err(Error::NotThere { path: self.named.clone(), file, folders: folders_with(file, &self.dir) })
    }
}

/// Whether an address has a password or token in it: the lock, which is committed, and messages would carry it on.
fn has_secret(url: &str) -> bool {
    let address = url.split_once("://").filter(|(scheme, _)| scheme.starts_with("http")).map(|(_, address)| address);
    address.is_some_and(|address| address.split('/').next().is_some_and(|host| host.contains('@')))
}

/// The folders at most two levels below `dir` that have this file: what the user may have meant.
fn folders_with(file: &str, dir: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut found: Vec<_> = walkdir::WalkDir::new(dir)
        .min_depth(2)
        .max_depth(3)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() == file)
        .filter_map(|entry| Some(Utf8Path::from_path(entry.path())?.parent()?.strip_prefix(dir).ok()?.to_owned()))
        .collect();
    found.sort();
    found
}
