//! Plans a garbage collection: decides what to remove and what to keep, without changing the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::time::SystemTime;

use camino::Utf8PathBuf;

use super::reach::Reach;
use super::{Busy, Collected, CollectedCache, Keep};
use crate::session::{Living, Use, lock_if_free};
use crate::usage::{Cache, Remembered};
use crate::{Amount, Digest, Error, Store, remove};

/// The data to remove, and its summary.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The paths to move aside, in this order.
    pub(super) paths: Vec<Utf8PathBuf>,
    /// The locks of actions that no process holds; the plan holds them.
    pub(super) locks: Vec<(Utf8PathBuf, File)>,
    pub(super) collected: Collected,
}

/// An item that is kept while it is recent and within the size limit.
enum Item {
    Action(Remembered),
    Cache(Cache),
}

/// The data to keep: the blobs, and the total size that counts towards the limit.
struct Staying<'a> {
    sizes: &'a BTreeMap<Digest, u64>,
    blobs: BTreeSet<Digest>,
    bytes: u64,
    limit: Option<u64>,
    /// Whether an item exceeded the limit. Less recently used items are then removed too, even if they would fit.
    full: bool,
}

impl Plan {
    /// Creates the plan for a store to which the caller has exclusive access. Keeps what the `living` sessions use.
    pub(super) fn make(store: &Store, keep: &Keep, caches: Vec<Cache>, living: &[Living]) -> Result<Self, Error> {
        let mut plan = Self::default();
        let sizes = store.blob_sizes()?;
        let mut reach = Reach::new(store, &sizes);
        let uses: BTreeSet<&Use> = living.iter().flat_map(|session| &session.uses).collect();
        let mut staying =
            Staying { sizes: &sizes, blobs: BTreeSet::new(), bytes: 0, limit: keep.max_size, full: false };
        for (name, target) in store.images()? {
            staying.add(reach.target(&name, &target)?);
        }
        for (name, targets) in store.roots()? {
            for target in targets {
                staying.add(reach.target(&name, &target)?);
            }
        }
        let used = uses.iter().filter_map(|one| if let Use::Blob(digest) = one { Some(*digest) } else { None });
        let used = reach.beyond(used, &staying.blobs);
        staying.add(used);

        let actions = store.actions()?.into_iter().map(Item::Action);
        let mut items: Vec<Item> = actions.chain(caches.into_iter().map(Item::Cache)).collect();
        items.sort_by_key(|item| std::cmp::Reverse(item.used()));
        let now = SystemTime::now();
        let mut forgotten = Vec::new();
        for item in items {
            let recent = now.duration_since(item.used()).unwrap_or_default() <= keep.used_within;
            match item {
                Item::Action(action) => {
                    let outputs = || action.outputs.values().map(|blob| blob.digest);
                    let blobs = reach.beyond(outputs().chain(action.inputs.iter().copied()), &staying.blobs);
                    if uses.contains(&Use::Action(action.key)) {
                        staying.add(blobs);
                    } else if !recent || !reach.is_whole(outputs()) || !staying.add_if_it_fits(blobs) {
                        forgotten.push(action);
                    }
                }
                Item::Cache(cache) => {
                    if !recent || !staying.grow_if_it_fits(cache.amount.bytes) {
                        plan.cache(store, cache, living);
                    }
                }
            }
        }
        for action in &forgotten {
            plan.forget(store, action, &staying.blobs);
        }
        plan.blobs(store, &staying)?;
        plan.left_overs(store, living)?;
        Ok(plan)
    }

    /// Plans the removal of a cache, unless it is in use.
    fn cache(&mut self, store: &Store, cache: Cache, living: &[Living]) {
        let wanted = Use::Cache(cache.name.clone());
        let users = living.iter().filter(|session| session.uses.contains(&wanted));
        let processes: BTreeSet<u32> = users.map(|session| session.process).collect();
        if processes.is_empty() {
            self.paths.push(store.caches().join(&cache.name));
            let Amount { count, bytes } = cache.amount;
            self.collected.caches.push(CollectedCache { name: cache.name, count, bytes });
        } else {
            self.collected.busy.push(Busy { name: cache.name, processes });
        }
    }

    /// Plans the removal of an action's record, unless all its outputs are kept anyway, so that the record costs
    /// nothing.
    fn forget(&mut self, store: &Store, action: &Remembered, staying: &BTreeSet<Digest>) {
        if action.outputs.is_empty() || !action.outputs.values().all(|blob| staying.contains(&blob.digest)) {
            self.paths.push(store.action_path(&action.key));
            self.collected.actions += 1;
        }
    }

    /// Plans the removal of blobs that are not kept, and of all other entries in their folder.
    fn blobs(&mut self, store: &Store, staying: &Staying<'_>) -> Result<(), Error> {
        for path in store.files("blobs/sha256")? {
            let digest = path.file_name().and_then(|name| Digest::from_hex(name).ok());
            if let Some(digest) = digest.filter(|digest| staying.blobs.contains(digest)) {
                self.collected.kept.add(staying.sizes[&digest]);
            } else {
                self.collected.blobs += remove::measure(&path)?;
                self.paths.push(path);
            }
        }
        Ok(())
    }

    /// Plans the removal of unused temporary files and locks, and of the quarantine.
    fn left_overs(&mut self, store: &Store, living: &[Living]) -> Result<(), Error> {
        let locks = store.locks();
        for path in store.files("tmp")? {
            let name = path.file_name().unwrap_or_default();
            if path != locks && !living.iter().any(|session| session.owns(name)) {
                self.collected.temporary += remove::measure(&path)?;
                self.paths.push(path);
            }
        }
        for path in store.files("tmp/locks")? {
            // The lock of the index is reused; that of an action is removed by its process, unless that was killed.
            if path.file_name() != Some("index.lock")
                && let Some(lock) = lock_if_free(&path, File::options().append(true))?
            {
                self.locks.push((path, lock));
            }
        }
        let quarantined = store.quarantined();
        if quarantined.exists() {
            self.collected.quarantined = remove::measure(&quarantined)?;
            self.paths.push(quarantined);
        }
        Ok(())
    }
}

impl Item {
    fn used(&self) -> SystemTime {
        match self {
            Self::Action(action) => action.used,
            Self::Cache(cache) => cache.used,
        }
    }
}

impl Staying<'_> {
    fn add(&mut self, blobs: BTreeSet<Digest>) {
        for digest in blobs {
            if self.blobs.insert(digest) {
                self.bytes += self.sizes.get(&digest).copied().unwrap_or_default();
            }
        }
    }

    /// Keeps these blobs if they fit; returns whether they do.
    fn add_if_it_fits(&mut self, blobs: BTreeSet<Digest>) -> bool {
        let bytes = blobs.iter().filter_map(|digest| self.sizes.get(digest)).sum();
        // An addition of zero bytes fits even beyond the limit.
        let fits = bytes == 0 || self.grow_if_it_fits(bytes);
        if fits {
            self.blobs.extend(blobs);
        }
        fits
    }

    fn grow_if_it_fits(&mut self, bytes: u64) -> bool {
        self.full |= self.limit.is_some_and(|limit| self.bytes.saturating_add(bytes) > limit);
        if !self.full {
            self.bytes += bytes;
        }
        !self.full
    }
}
