//! Writes a folder of offline inputs. Fetches everything into a new store in the same way as a build, so that this
//! store contains exactly the inputs that such a build needs.

use std::fs::{self, File};
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use tempfile::TempDir;
use vcstore::Store;
use vcstore::utf8;
use walkdir::WalkDir;

use crate::build;
use crate::checkout::Commit;
use crate::error::InputsError;
use crate::go;
use crate::lock::Lock;
use crate::offline_inputs::{BLOBS, GIT, GO, MARK, Mark, VERSION, tree};
use crate::progress::Progress;
use crate::project::Kind;
use crate::request::Request;
use crate::source::SourceSpec;

/// The folder of Go's downloads, relative to the store's caches.
const DOWNLOADS: &str = "gomod/cache/download";

/// The number of files in a folder, and their size in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// A folder of offline inputs under construction: it is renamed when it is complete, and removed otherwise.
pub(crate) struct InputsDirWriter {
    to: Utf8PathBuf,
    new: Utf8PathBuf,
    /// The temporary store into which everything is fetched.
    pub(crate) store: Store,
    _folders: [TempDir; 2],
    /// The store that contains the temporary one: its session protects the folder from garbage collection.
    outer: Store,
}

impl InputsDirWriter {
    /// Starts to write the folder `to`, which must be new or empty. Creates the temporary store in `outer`.
    ///
    /// # Errors
    /// When the folder is not empty, or cannot be written.
    pub(crate) fn begin(to: &Utf8Path, outer: Store) -> Result<Self, crate::Error> {
        if to.read_dir_utf8().is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(InputsError::NotEmpty { to: to.to_owned() }.into());
        }
        let parent = to.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
        fs::create_dir_all(parent).map_err(crate::Error::io("making", parent))?;
        let folder = tempfile::Builder::new().prefix(".vcbuild-inputs-").tempdir_in(parent);
        let folder = folder.map_err(crate::Error::io("creating a folder in", parent))?;
        let new = utf8("using", folder.path())?.join("inputs");
        fs::create_dir(&new).map_err(crate::Error::io("making", &new))?;
        let scratch = outer.temp_dir()?;
        let store = Store::open(&utf8("using", scratch.path())?)?;
        Ok(Self { to: to.to_owned(), new, store, _folders: [folder, scratch], outer })
    }

    /// Adds the toolchain of a version of Go.
    ///
    /// # Errors
    /// When it is not available, or differs from the lock.
    pub(crate) fn toolchain(&self, version: &str, lock: &Lock, progress: &Progress) -> Result<(), crate::Error> {
        go::copy_toolchain(version, &self.new.join(GO), &self.store, lock, progress)
    }

    /// Adds all other inputs: the source's commit, bases, and Go modules.
    ///
    /// # Errors
    /// When an input is not available, differs from the lock, or cannot be copied.
    pub(crate) fn finish(
        self,
        asked: &SourceSpec,
        request: &Request<'_>,
        lock: &Lock,
        progress: &Progress,
    ) -> Result<Summary, crate::Error> {
        self.fill(asked, request, lock, progress).map_err(|error| self.with_log(error))
    }

    fn fill(
        &self,
        asked: &SourceSpec,
        request: &Request<'_>,
        lock: &Lock,
        progress: &Progress,
    ) -> Result<Summary, crate::Error> {
        if let Some(component) = request.components.iter().find(|one| matches!(one.kind, Kind::Cargo(_))) {
            return Err(InputsError::Cargo { component: component.name.clone() }.into());
        }
        build::pin(request, &self.store, lock, progress)?;
        for platform in &request.platforms {
            for digest in request.base.fetch(platform, &self.store, lock, progress)? {
                let to = self.new.join(BLOBS).join(digest.hex());
                let mut blob = self.store.reader(&digest)?;
                add(&to, &mut blob)?;
            }
        }
        if let Some(commit) = Commit::of(asked, &self.store, lock, progress)? {
            self.add_commit(&commit)?;
        }
        let downloads = self.store.cache_dir(DOWNLOADS)?;
        self.add_modules(&downloads)?;
        let mark = vcstore::canonical_json(&Mark { version: VERSION })?;
        add(&self.new.join(MARK), &mut mark.as_slice())?;
        let summary = Summary::of(&self.new)?;
        fs::rename(&self.new, &self.to).map_err(crate::Error::io("writing", &self.to))?;
        Ok(summary)
    }

    /// Copies the log of an error, which is in the temporary store, to the outer one.
    fn with_log(&self, error: crate::Error) -> crate::Error {
        let crate::Error::Action { error, shown, log } = error else { return error };
        let kept = self.outer.path().join("logs").join(log.file_name().unwrap_or_default());
        let folder = kept.parent().unwrap_or(&kept);
        match fs::create_dir_all(folder).and_then(|()| fs::copy(&log, &kept)) {
            Ok(_) => crate::Error::Action { error, shown, log: kept },
            Err(why) => {
                tracing::warn!("writing {kept}: {why}");
                *error
            }
        }
    }

    /// Adds the files in a folder of Go's downloads that a proxy serves; omits Go's internal files.
    fn add_modules(&self, downloads: &Utf8Path) -> Result<(), crate::Error> {
        for entry in WalkDir::new(downloads).sort_by_file_name() {
            let entry = entry.map_err(|error| crate::Error::io("reading", downloads)(error.into()))?;
            let from = utf8("reading", entry.path())?;
            let path = from.strip_prefix(downloads).unwrap_or(&from);
            if !matches!(path.extension(), Some("zip" | "mod")) || !entry.file_type().is_file() {
                continue;
            }
            let to = self.new.join(GO).join(path);
            let mut content = File::open(&from).map_err(crate::Error::io("opening", &from))?;
            add(&to, &mut content)?;
            if let (Some("mod"), Some(version)) = (path.extension(), path.file_stem()) {
                // Written, not copied, because proxies differ in the other fields.
                let info = format!("{{\"Version\":\"{}\"}}", unescaped(version));
                add(&to.with_extension("info"), &mut info.as_bytes())?;
            }
        }
        Ok(())
    }

    fn add_commit(&self, commit: &Commit) -> Result<(), crate::Error> {
        let Commit { url, pinned, files } = commit;
        let found = tree::hash(files, &pinned.commit)?;
        if let Some(tree) = pinned.tree.as_ref().filter(|tree| **tree != found) {
            let (url, commit, tree) = (url.clone(), pinned.commit.clone(), tree.clone());
            return Err(InputsError::Attributes { url, commit, tree, found }.into());
        }
        let to = self.new.join(GIT).join(&pinned.commit);
        for entry in WalkDir::new(files).sort_by_file_name() {
            let entry = entry.map_err(|error| crate::Error::io("reading", files)(error.into()))?;
            let from = utf8("reading", entry.path())?;
            let to = to.join(from.strip_prefix(files).unwrap_or(Utf8Path::new("")));
            if entry.file_type().is_dir() {
                fs::create_dir_all(&to).map_err(crate::Error::io("making", &to))?;
            } else if entry.file_type().is_symlink() {
                let target = fs::read_link(&from).map_err(crate::Error::io("reading the link", &from))?;
                std::os::unix::fs::symlink(target, &to).map_err(crate::Error::io("writing", &to))?;
            } else {
                // The copy keeps the permissions, which the tree hash covers.
                fs::copy(&from, &to).map_err(crate::Error::io("copying", &from))?;
            }
        }
        Ok(())
    }
}

impl Summary {
    fn of(folder: &Utf8Path) -> Result<Self, crate::Error> {
        let mut summary = Self::default();
        for entry in WalkDir::new(folder) {
            let meta = entry.and_then(|entry| entry.metadata());
            let meta = meta.map_err(|error| crate::Error::io("reading", folder)(error.into()))?;
            if !meta.is_dir() {
                summary.files += 1;
                summary.bytes += meta.len();
            }
        }
        Ok(summary)
    }
}

/// Writes a file and its parent folders, unless another input already added it.
fn add(to: &Utf8Path, content: &mut impl io::Read) -> Result<(), crate::Error> {
    if to.exists() {
        return Ok(());
    }
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(crate::Error::io("making", parent))?;
    let mut file = File::create(to).map_err(crate::Error::io("making", to))?;
    io::copy(content, &mut file).map(drop).map_err(crate::Error::io("writing", to))
}

/// Decodes a version in a path of a proxy, where `!r` stands for `R`.
fn unescaped(name: &str) -> String {
    let mut escaped = false;
    let letter = |letter: char| {
        let upper = std::mem::replace(&mut escaped, letter == '!');
        (letter != '!').then_some(if upper { letter.to_ascii_uppercase() } else { letter })
    };
    name.chars().filter_map(letter).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_written_as_they_are() {
        assert_eq!(super::unescaped("v1.0.0-!r!c.1"), "v1.0.0-RC.1");
        assert_eq!(super::unescaped("v1.2.3+incompatible"), "v1.2.3+incompatible");
    }
}
