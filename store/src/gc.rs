//! Garbage collection: what no image, root or recent action leads to goes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::time::{Duration, SystemTime};

use camino::Utf8PathBuf;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Serialize;

use crate::image::{digest_of, is_index, is_manifest};
use crate::store::replace;
use crate::{Digest, Error, Record, Store};

/// What garbage collection keeps besides images with a name and roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Actions that were of use within this time, with their outputs.
    pub actions_used_within: Duration,
}

/// What garbage collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Actions forgotten.
    pub actions: u64,
}

impl Store {
    /// Keeps the blobs in `digests` and everything they lead to, under this name, until [`Store::unroot`].
    ///
    /// # Errors
    /// When the name is no file name, or the root cannot be written.
    pub fn root(&self, name: &str, targets: &[Descriptor]) -> Result<(), Error> {
        let path = self.root_path(name)?;
        replace(&self.tmp(), &path, &crate::canonical_json(targets)?)
    }

    /// Lets go of a root; whether it was there.
    ///
    /// # Errors
    /// When the name is no file name, or the root cannot be removed.
    pub fn unroot(&self, name: &str) -> Result<bool, Error> {
        let path = self.root_path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("removing", &path)(error)),
        }
    }

    /// Removes every blob that no named image, root or kept action leads to, and forgets the actions that are not kept or
    /// whose outputs are gone. `None` when somebody else uses the store now: nothing is removed then.
    ///
    /// # Errors
    /// When the store cannot be read or written. A document that cannot be read stops the collection: what it leads to is
    /// not known.
    pub fn gc(&self, keep: Keep) -> Result<Option<Collected>, Error> {
        let path = self.path().join("lock");
        // A lock of its own would wait for the shared one this very store holds.
        match self.lock().try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                self.lock().lock_shared().map_err(Error::io("locking", &path))?;
                return Ok(None);
            }
            Err(fs::TryLockError::Error(error)) => return Err(Error::io("locking", &path)(error)),
        }
        let collected = self.collect(keep);
        self.lock().lock_shared().map_err(Error::io("locking", &path))?;
        collected.map(Some)
    }

    fn collect(&self, keep: Keep) -> Result<Collected, Error> {
        let mut live = BTreeSet::new();
        for (name, target) in self.images()? {
            self.mark(&name, &target, &mut live)?;
        }
        for path in self.files("roots")? {
            let file = File::open(&path).map_err(Error::io("opening", &path))?;
            let targets: Vec<Descriptor> =
                serde_json::from_reader(file).map_err(|source| Error::Document { what: path.to_string(), source })?;
            for target in targets {
                self.mark(path.as_str(), &target, &mut live)?;
            }
        }
        let mut collected = Collected::default();
        let now = SystemTime::now();
        let mut actions = Vec::new();
        for path in self.files("actions")? {
            let bytes = fs::read(&path).map_err(Error::io("reading", &path))?;
            let used = fs::metadata(&path).and_then(|meta| meta.modified()).map_err(Error::io("reading", &path))?;
            let recent = now.duration_since(used).unwrap_or_default() <= keep.actions_used_within;
            let outputs: BTreeSet<Digest> = serde_json::from_slice::<Record>(&bytes)
                .map(|record| record.outputs().blobs().values().map(|blob| blob.digest).collect())
                .unwrap_or_default();
            if recent {
                live.extend(&outputs);
            }
            actions.push((path, recent, outputs));
        }
        for (path, recent, outputs) in actions {
            if !recent && !outputs.is_subset(&live) {
                fs::remove_file(&path).map_err(Error::io("removing", &path))?;
                collected.actions += 1;
            }
        }
        for path in self.files("blobs/sha256")? {
            let digest = path.file_name().and_then(|name| Digest::from_hex(name).ok());
            if digest.is_none_or(|digest| !live.contains(&digest)) {
                collected.bytes += fs::metadata(&path).map_err(Error::io("reading", &path))?.len();
                fs::remove_file(&path).map_err(Error::io("removing", &path))?;
                collected.blobs += 1;
            }
        }
        Ok(collected)
    }

    /// Marks a descriptor's blob and everything it leads to.
    fn mark(&self, name: &str, target: &Descriptor, live: &mut BTreeSet<Digest>) -> Result<(), Error> {
        let digest = digest_of(target, name)?;
        if !live.insert(digest) || !self.contains(&digest) {
            return Ok(());
        }
        if is_index(target.media_type()) {
            for manifest in self.document::<ImageIndex>(&digest)?.manifests() {
                self.mark(name, manifest, live)?;
            }
        } else if is_manifest(target.media_type()) {
            let manifest: ImageManifest = self.document(&digest)?;
            for blob in manifest.layers().iter().chain([manifest.config()]) {
                self.mark(name, blob, live)?;
            }
        }
        Ok(())
    }

    fn files(&self, folder: &str) -> Result<Vec<Utf8PathBuf>, Error> {
        let folder = self.path().join(folder);
        let entries = folder.read_dir_utf8().map_err(Error::io("listing", &folder))?;
        entries.map(|entry| entry.map(camino::Utf8DirEntry::into_path).map_err(Error::io("listing", &folder))).collect()
    }

    fn root_path(&self, name: &str) -> Result<Utf8PathBuf, Error> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(Error::BadPath { path: name.to_owned(), why: "a root's name is a plain file name".to_owned() });
        }
        Ok(self.path().join("roots").join(name))
    }
}

#[cfg(test)]
mod tests {
    use crate::image::tests::image;
    use crate::store::tests::scratch;
    use crate::{Compression, Keep, Store};

    #[test]
    fn garbage_collection_keeps_images_roots_and_what_is_in_use() {
        let (_folder, store) = scratch();
        let old = image(&store, Compression::Zstd, b"old");
        let new = image(&store, Compression::Zstd, b"new");
        store.put(b"stray").unwrap();
        store.root("release-1", std::slice::from_ref(&old.target)).unwrap();
        let keep = Keep { actions_used_within: std::time::Duration::ZERO };
        let beside = Store::open(store.path()).unwrap();
        assert_eq!(store.gc(keep).unwrap(), None, "somebody else uses the store");
        drop(beside);
        assert_eq!(store.gc(keep).unwrap().unwrap().blobs, 1, "the stray blob");
        assert!(store.unroot("release-1").unwrap());
        // The old image's own layer, configuration and manifest; the base layer is the new image's too.
        assert_eq!(store.gc(keep).unwrap().unwrap().blobs, 3);
        new.check_complete(&store).unwrap();
        assert!(old.check_complete(&store).is_err());
        assert!(store.root("../escape", &[]).is_err());
    }
}
