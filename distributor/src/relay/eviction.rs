//! Limits the size of a relay's cache: above the limit, the images that were pushed longest ago are evicted first, but
//! no image of a running push.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use vcstore::{Digest, Image, Store};

use super::cache::{Cache, Error};

/// Locks on the images of a push: while this value exists, none of them is evicted.
#[derive(Debug)]
pub(super) struct HeldImages {
    _locks: Vec<File>,
}

/// An item that may be evicted.
#[derive(Debug)]
struct Candidate {
    /// The time when it was last pushed.
    used: SystemTime,
    kind: CandidateKind,
    /// The sizes of its files, by path, because images share blobs.
    files: BTreeMap<Utf8PathBuf, u64>,
}

#[derive(Debug)]
enum CandidateKind {
    Image(String),
    /// A partially received blob.
    Part,
}

impl Candidate {
    /// Whether it is a part of one of these blobs.
    fn is_of(&self, blobs: &BTreeSet<Digest>) -> bool {
        let is_named =
            |path: &Utf8PathBuf| path.file_name().is_some_and(|name| blobs.iter().any(|blob| blob.hex() == name));
        matches!(self.kind, CandidateKind::Part) && self.files.keys().any(is_named)
    }
}

impl Cache {
    /// Records that these images are being pushed now, and locks them.
    pub(super) fn hold(&self, names: &[String]) -> Result<HeldImages, Error> {
        let failed = |source| Error::Io { path: self.used.clone(), source };
        let hold = |name: &String| -> io::Result<File> {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(self.used(name))?;
            file.lock_shared()?;
            file.set_modified(SystemTime::now())?;
            Ok(file)
        };
        names.iter().map(hold).collect::<io::Result<_>>().map(|locks| HeldImages { _locks: locks }).map_err(failed)
    }

    /// Evicts the items that were pushed longest ago until the cache, including the `incoming` bytes, has at most
    /// `limit` bytes, or until all remaining items are locked. Keeps parts of the blobs in `coming`, because the rest
    /// of them is about to arrive.
    pub(super) fn make_room(&self, limit: u64, incoming: u64, coming: &BTreeSet<Digest>) -> Result<(), Error> {
        let failed = |source| Error::Io { path: self.partial.clone(), source };
        let candidates = self.candidates()?;
        let mut counts: BTreeMap<&Utf8Path, usize> = BTreeMap::new();
        let mut total = incoming;
        for (path, size) in candidates.iter().flat_map(|candidate| &candidate.files) {
            let count = counts.entry(path).or_default();
            total += if *count == 0 { *size } else { 0 };
            *count += 1;
        }
        let mut went = false;
        for candidate in &candidates {
            if total <= limit {
                break;
            }
            if candidate.is_of(coming) || !self.evict(candidate).map_err(failed)? {
                continue;
            }
            went = true;
            for (path, size) in &candidate.files {
                let count = counts.entry(path).or_default();
                *count = count.saturating_sub(1);
                total -= if *count == 0 { *size } else { 0 };
            }
        }
        if went { self.clear() } else { Ok(()) }
    }

    /// Evicts an item, unless it is locked. Returns whether it did.
    fn evict(&self, candidate: &Candidate) -> io::Result<bool> {
        let (path, image) = match (&candidate.kind, candidate.files.keys().next()) {
            (CandidateKind::Image(name), _) => (self.used(name), Some(name)),
            (CandidateKind::Part, Some(path)) => (path.clone(), None),
            (CandidateKind::Part, None) => return Ok(true),
        };
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => return Ok(false),
            Err(fs::TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        if let Some(name) = image {
            self.store.untag(name).map_err(io::Error::other)?;
        }
        fs::remove_file(&path).map(|()| true)
    }

    /// Returns all items, the one that was pushed longest ago first.
    fn candidates(&self) -> Result<Vec<Candidate>, Error> {
        let failed = |source| Error::Io { path: self.partial.clone(), source };
        // A store keeps the images that it has opened. This separate instance is dropped before content is collected.
        let store = Store::open(self.store.path())?;
        let mut candidates = Vec::new();
        for (name, target) in store.images()? {
            // An image with missing documents counts as size zero.
            let image = Image::open(&store, &name, &target).ok();
            let blobs = image.map(|image| image.blobs()).unwrap_or_default();
            let digests: BTreeSet<Digest> =
                blobs.iter().filter_map(|blob| Digest::try_from(blob.digest()).ok()).collect();
            let path = |digest: &Digest| self.store.blob_path(digest);
            let file = |path: Utf8PathBuf| fs::metadata(&path).ok().map(|data| (path, data.len()));
            let used = fs::metadata(self.used(&name)).and_then(|data| data.modified());
            candidates.push(Candidate {
                used: used.unwrap_or(SystemTime::UNIX_EPOCH),
                files: digests.iter().map(path).filter_map(file).collect(),
                kind: CandidateKind::Image(name),
            });
        }
        for entry in self.partial.read_dir_utf8().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let data = entry.metadata().map_err(failed)?;
            let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            candidates.push(Candidate {
                used,
                kind: CandidateKind::Part,
                files: [(entry.into_path(), data.len())].into(),
            });
        }
        candidates.sort_by_key(|candidate| candidate.used);
        Ok(candidates)
    }

    /// Returns the file whose modification time records when an image was last pushed. Running pushes of the image lock
    /// it.
    fn used(&self, name: &str) -> Utf8PathBuf {
        self.used.join(Digest::of(name.as_bytes()).hex())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const MB: usize = 1_000_000;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Utf8PathBuf::try_from(folder.path().join("cache")).expect("UTF-8");
        (folder, Cache::open(Some(path)).expect("a cache"))
    }

    /// Adds an image with one layer of this size that was pushed this many days ago.
    fn image(cache: &Cache, name: &str, bytes: usize, days: u64) {
        let brings = Store::open(cache.store.path()).expect("a store");
        let content: Vec<u8> = name.bytes().cycle().take(bytes).collect();
        let layer = brings.put(&content).expect("a layer");
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer.digest]}});
        let config = brings.put_document(&config).expect("a configuration");
        let described = |media: &str, blob: vcstore::Blob| json!({"mediaType": format!("application/vnd.oci.image.{media}"), "digest": blob.digest, "size": blob.size});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": described("config.v1+json", config), "layers": [described("layer.v1.tar", layer)],
        });
        let manifest = brings.put_document(&manifest).expect("a manifest");
        let target = serde_json::from_value(described("manifest.v1+json", manifest)).expect("a descriptor");
        brings.tag(name, &target).expect("a name");
        drop(cache.hold(&[name.to_owned()]).expect("noted"));
        let used = OpenOptions::new().append(true).open(cache.used(name)).expect("its file");
        used.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 3600)).expect("a time");
    }

    fn names(cache: &Cache) -> Vec<String> {
        cache.store.images().expect("images").into_keys().collect()
    }

    fn used_bytes(cache: &Cache) -> u64 {
        let files = cache.store.path().join("blobs/sha256").read_dir_utf8().expect("blobs");
        files.map(|file| file.expect("a file").metadata().expect("a size").len()).sum()
    }

    #[test]
    fn what_was_pushed_longest_ago_goes_first_and_only_as_much_as_must() {
        let (_folder, cache) = cache();
        for (name, days) in [("new", 1), ("old", 3), ("middle", 2)] {
            image(&cache, name, MB, days);
        }
        let limit = 3 * MB as u64 + 10_000;
        cache.make_room(limit, 0, &BTreeSet::new()).expect("room");
        assert_eq!(names(&cache), ["middle", "new", "old"], "there is room for all");
        cache.make_room(limit, 900_000, &BTreeSet::new()).expect("room");
        assert_eq!(names(&cache), ["middle", "new"]);
        assert!(used_bytes(&cache) < 2 * MB as u64 + 10_000);
        cache.make_room(0, 0, &BTreeSet::new()).expect("room");
        assert_eq!((names(&cache).len(), used_bytes(&cache)), (0, 0));
        assert_eq!(cache.used.read_dir_utf8().expect("a folder").count(), 0, "nothing is noted of what is gone");
    }

    #[test]
    fn what_a_push_is_about_stays_however_long_ago_the_last_one_was() {
        let (_folder, cache) = cache();
        image(&cache, "old", MB, 3);
        image(&cache, "new", MB, 1);
        let held = cache.hold(&["old".to_owned()]).expect("held");
        cache.make_room(0, 0, &BTreeSet::new()).expect("room");
        assert_eq!(names(&cache), ["old"]);
        drop(held);
        cache.make_room(0, 0, &BTreeSet::new()).expect("room");
        assert!(names(&cache).is_empty());
    }

    #[test]
    fn blobs_that_came_in_part_go_too_unless_they_are_on_their_way() {
        let (_folder, cache) = cache();
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let mut cut = cache.part_from(one, 1000, 0).expect("a part");
        cut.add(&[1; 500]).expect("bytes");
        drop(cut);
        let mut comes = cache.part_from(other, 1000, 0).expect("a part");
        comes.add(&[1; 500]).expect("bytes");
        cache.make_room(100, 0, &BTreeSet::new()).expect("room");
        assert_eq!((cache.lacks(&one), cache.lacks(&other)), (Some(0), Some(500)));

        drop(comes);
        cache.make_room(100, 500, &[other].into()).expect("room");
        assert_eq!(cache.lacks(&other), Some(500), "its push goes on with it");
    }
}
