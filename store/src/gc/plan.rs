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

/// What goes, and the account of it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What is moved aside, in this order.
    pub(super) paths: Vec<Utf8PathBuf>,
    /// Locks of actions that no process holds; held by this plan.
    pub(super) locks: Vec<(Utf8PathBuf, File)>,
    pub(super) collected: Collected,
}

/// Something that stays while it is new enough and there is room.
enum Item {
    Action(Remembered),
    Cache(Cache),
}

/// What stays: the blobs, and the size of all that counts.
struct Staying<'a> {
    sizes: &'a BTreeMap<Digest, u64>,
    blobs: BTreeSet<Digest>,
    bytes: u64,
    limit: Option<u64>,
    /// Whether something did not fit. What was of use before it goes as well, also where that would fit.
    full: bool,
}

impl Plan {
    /// The plan for a store that everybody is kept out of, but for the `living`.
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

    /// Adds a cache, unless it is in use.
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

    /// Adds the record of an action, unless it costs nothing because its outputs stay anyway.
    fn forget(&mut self, store: &Store, action: &Remembered, staying: &BTreeSet<Digest>) {
        if action.outputs.is_empty() || !action.outputs.values().all(|blob| staying.contains(&blob.digest)) {
            self.paths.push(store.action_path(&action.key));
            self.collected.actions += 1;
        }
    }

    /// Adds the blobs that do not stay, and whatever else lies among them.
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

    /// Adds unused temporary files and locks, and the quarantine.
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
            // The index's own is taken again and again; an action's goes with who took it, unless that was killed.
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

    /// Adds blobs that do not stay yet, if they fit.
    fn add_if_it_fits(&mut self, blobs: BTreeSet<Digest>) -> bool {
        let bytes = blobs.iter().filter_map(|digest| self.sizes.get(digest)).sum();
        // What adds nothing fits also where nothing fits any more.
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
