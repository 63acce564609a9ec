//! Garbage collection: removes data that no image, root, recent action or running process references.
//!
//! First plans the removal and moves the data aside, with exclusive access to the store, then deletes it while other
//! processes continue. If it is killed at any point, the store remains consistent, because an action's record is
//! removed before its outputs.

mod plan;
mod reach;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use camino::Utf8Path;
use serde::Serialize;

use self::plan::Plan;
use crate::{Amount, Error, Store, remove, session};

/// The data that garbage collection keeps, in addition to named images, roots, and data that running processes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Keeps actions that were used within this time, with their outputs and those of their inputs that are in the
    /// store.
    pub used_within: Duration,
    /// The size limit in bytes. Beyond it, removes the least recently used actions; images and roots stay.
    pub max_size: Option<u64>,
    /// Whether compiler caches are collected like actions. Otherwise all caches stay, and do not count towards the
    /// limit.
    pub caches: bool,
}

/// The data that garbage collection removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Removed blobs.
    pub blobs: Amount,
    /// The number of removed action records.
    pub actions: u64,
    /// Removed compiler caches.
    pub caches: Vec<CollectedCache>,
    /// Leftovers of interrupted builds.
    pub temporary: Amount,
    /// Quarantined damaged blobs.
    pub quarantined: Amount,
    /// Remaining blobs.
    pub kept: Amount,
    /// Caches that were not removed because a process uses them.
    pub busy: Vec<Busy>,
}

/// A removed cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CollectedCache {
    /// The name of its folder.
    pub name: String,
    /// The number of its files.
    pub count: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// A cache in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Busy {
    /// The name of its folder.
    pub name: String,
    /// The IDs of the processes that use it.
    pub processes: BTreeSet<u32>,
}

impl Collected {
    /// Returns the number of freed bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let caches: u64 = self.caches.iter().map(|cache| cache.bytes).sum();
        self.blobs.bytes + caches + self.temporary.bytes + self.quarantined.bytes
    }

    /// Adds the result of a later collection.
    pub fn then(&mut self, later: Self) {
        self.blobs += later.blobs;
        self.actions += later.actions;
        self.caches.extend(later.caches);
        self.temporary += later.temporary;
        self.quarantined += later.quarantined;
        self.kept = later.kept;
        self.busy = later.busy;
    }
}

impl Store {
    /// Removes all blobs that no named image, root, kept action or open [`Store`] references, the records of actions
    /// that are not kept or lack an output, and leftovers. Other processes may use the store meanwhile. With `dry_run`,
    /// removes nothing.
    ///
    /// # Errors
    /// When the store cannot be read or written. An unreadable document of an image or root stops the collection,
    /// because its references are unknown.
    pub fn gc(&self, keep: &Keep, dry_run: bool) -> Result<Collected, Error> {
        // Caches have many files: measure them while other processes can continue.
        let caches = if keep.caches { self.cache_folders()? } else { Vec::new() };
        let excluded = session::exclude(self.path())?;
        let living = session::living(self.path(), &excluded)?;
        let plan = Plan::make(self, keep, caches, &living)?;
        if dry_run {
            return Ok(plan.collected);
        }
        let trash = self.temp_dir()?;
        let folder = Utf8Path::from_path(trash.path()).unwrap_or(self.path());
        for (number, path) in plan.paths.iter().enumerate() {
            fs::rename(path, folder.join(number.to_string())).map_err(Error::io("removing", path))?;
        }
        for (path, _lock) in &plan.locks {
            fs::remove_file(path).map_err(Error::io("removing", path))?;
        }
        drop(excluded);
        remove::tree(folder)?;
        Ok(plan.collected)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use camino::Utf8Path;
    use serde_json::json;

    use crate::image::descriptor;
    use crate::image::tests::image;
    use crate::store::tests::scratch;
    use crate::{Action, Blob, Compression, Error, Keep, Outputs, Store};

    const NOTHING: Keep = Keep { used_within: Duration::ZERO, max_size: None, caches: false };
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// Returns the action of this name.
    fn action(name: &str) -> Action {
        Action::new("compile", name).input("source", name).unwrap()
    }

    fn run(store: &Store, name: &str, size: usize) -> Blob {
        let content = name.bytes().cycle().take(size).collect::<Vec<u8>>();
        let run = || Ok::<_, Error>(Outputs::new().with_blob("binary", store.put(&content)?));
        store.realise(&action(name), run).unwrap().outputs.blob("binary").unwrap()
    }

    /// Sets the last use of an action to this long ago.
    fn age(store: &Store, name: &str, age: Duration) {
        let path = store.action_path(&action(name).key().unwrap());
        File::options().append(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }

    fn names(store: &Store) -> Vec<String> {
        store.actions().unwrap().into_iter().map(|action| action.name).collect()
    }

    fn reopened(path: &Utf8Path) -> Store {
        Store::open(path).unwrap()
    }

    #[test]
    fn images_and_roots_stay_and_what_they_lead_to() {
        let (_folder, store) = scratch();
        let old = image(&store, Compression::Zstd, b"old");
        let new = image(&store, Compression::Zstd, b"new");
        store.put(b"stray").unwrap();
        store.root("release-1", std::slice::from_ref(&old.target)).unwrap();
        let path = store.path().to_owned();
        drop(store);
        let store = reopened(&path);
        assert_eq!(store.gc(&NOTHING, true).unwrap().blobs.count, 1);
        let collected = store.gc(&NOTHING, false).unwrap();
        assert_eq!((collected.blobs.count, collected.blobs.bytes, collected.kept.count), (1, 5, 7), "the stray blob");
        assert!(store.unroot("release-1").unwrap());
        // The old image's own layer, configuration and manifest; the new image shares the base layer.
        assert_eq!(store.gc(&NOTHING, false).unwrap().blobs.count, 3);
        new.check_complete(&store).unwrap();
        assert!(old.check_complete(&store).is_err());
    }

    #[test]
    fn what_somebody_has_written_or_found_stays_until_they_are_done() {
        let (_folder, store) = scratch();
        let written = store.put(b"not recorded yet").unwrap();
        let found = run(&store, "manager", 10);
        let other = reopened(store.path());
        let temporary = store.temp_dir().unwrap();
        drop(store.recall(&action("manager").key().unwrap()).unwrap());
        assert_eq!(other.gc(&NOTHING, false).unwrap(), crate::Collected { kept: two(10 + 16), ..Default::default() });
        assert!(temporary.path().exists() && store.contains(&written.digest) && store.contains(&found.digest));
        drop((temporary, store));
        let collected = other.gc(&NOTHING, false).unwrap();
        assert_eq!((collected.blobs, collected.actions), (two(26), 1));
    }

    fn two(bytes: u64) -> crate::Amount {
        crate::Amount { count: 2, bytes }
    }

    #[test]
    fn an_image_in_use_keeps_its_layers_though_nobody_has_looked_at_them() {
        let (_folder, store) = scratch();
        let image = image(&store, Compression::Zstd, b"manager");
        let path = store.path().to_owned();
        drop(store);
        let (user, collector) = (reopened(&path), reopened(&path));
        assert!(user.contains(&image.digest()));
        user.untag(&image.name).unwrap();
        assert_eq!(collector.gc(&NOTHING, false).unwrap().blobs.count, 0);
        image.check_complete(&user).unwrap();
    }

    #[test]
    fn actions_go_by_age_and_take_inputs_and_outputs_with_them() {
        let (_folder, store) = scratch();
        let input = store.put(b"a package").unwrap();
        let made_of = Action::new("base", "debian").input("pin", json!({"sha256": input.digest})).unwrap();
        let run_it = || Ok::<_, Error>(Outputs::new().with_blob("layer", store.put(b"layer")?));
        store.realise(&made_of, run_it).unwrap();
        run(&store, "old", 100);
        age(&store, "old", 3 * DAY);
        let path = store.path().to_owned();
        drop(store);
        let store = reopened(&path);
        let collected = store.gc(&Keep { used_within: 2 * DAY, ..NOTHING }, false).unwrap();
        assert_eq!((collected.blobs.bytes, collected.actions, names(&store)), (100, 1, vec!["debian".to_owned()]));
        assert!(store.size_now(&input.digest).is_some(), "an input of a kept action stays");
        assert_eq!(store.gc(&NOTHING, false).unwrap().blobs, two(9 + 5));
    }

    #[test]
    fn beyond_a_size_the_least_recently_used_actions_go_first() {
        let (_folder, store) = scratch();
        let image = image(&store, Compression::None, b"manager");
        let stays: u64 = image.blobs().iter().map(oci_spec::image::Descriptor::size).sum();
        for (number, name) in (1u32..).zip(["new", "middle", "old", "small"]) {
            run(&store, name, if name == "small" { 1 } else { 1000 });
            age(&store, name, number * DAY);
        }
        let path = store.path().to_owned();
        drop(store);
        let store = reopened(&path);
        let keep = |max_size| Keep { used_within: 30 * DAY, max_size: Some(max_size), caches: false };
        assert_eq!(store.gc(&keep(stays + 3001), true).unwrap().actions, 0);
        assert_eq!(store.gc(&keep(stays + 2500), false).unwrap().actions, 2, "also the small one, which would fit");
        assert_eq!(names(&store), ["new", "middle"]);
        let collected = store.gc(&keep(0), false).unwrap();
        assert_eq!((collected.actions, collected.kept.bytes), (2, stays), "images stay whatever the limit");
    }

    #[test]
    fn an_action_whose_output_lost_a_part_is_forgotten_and_runs_again() {
        let (_folder, store) = scratch();
        let image = image(&store, Compression::None, b"manager");
        let assemble = Action::new("image", "manager").input("of", "layers").unwrap();
        let manifest = Blob { digest: image.digest(), size: image.target.size() };
        store.realise(&assemble, || Ok::<_, Error>(Outputs::new().with_blob("manifest", manifest))).unwrap();
        store.untag(&image.name).unwrap();
        fs::remove_file(store.blob_path(&image.platforms[0].layers[1].digest)).unwrap();
        let path = store.path().to_owned();
        drop(store);
        let store = reopened(&path);
        assert_eq!(store.gc(&Keep { used_within: DAY, ..NOTHING }, false).unwrap().actions, 1);
        assert_eq!(store.recall(&assemble.key().unwrap()).unwrap(), None);
    }

    #[test]
    fn caches_go_when_asked_and_unused() {
        let (_folder, store) = scratch();
        let cache = store.cache_dir("go-build/1.26").unwrap();
        fs::write(cache.join("a"), "12345").unwrap();
        let mut permissions = fs::metadata(&cache).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&cache, permissions).unwrap();
        let other = reopened(store.path());
        assert!(other.gc(&NOTHING, false).unwrap().caches.is_empty() && cache.exists());
        let caches = Keep { caches: true, ..NOTHING };
        let busy = other.gc(&caches, false).unwrap().busy;
        assert_eq!((busy.len(), busy[0].processes.first()), (1, Some(&std::process::id())));
        assert!(cache.exists());
        drop(store);
        assert!(other.gc(&Keep { used_within: DAY, ..caches }, false).unwrap().caches.is_empty());
        let collected = other.gc(&caches, false).unwrap();
        assert_eq!((collected.caches[0].name.as_str(), collected.bytes()), ("go-build", 5));
        assert!(!cache.exists());
    }

    #[test]
    fn what_was_left_behind_is_cleared() {
        let (_folder, store) = scratch();
        let tmp = store.path().join("tmp");
        // The leftovers of a killed process: a file without a lock, a folder, a lock of an action.
        fs::write(tmp.join("4194305-abcdef.uses"), "sha256:").unwrap();
        fs::create_dir(tmp.join("4194305-abcdef.d")).unwrap();
        fs::write(tmp.join("4194305-abcdef.d/half a blob"), "half").unwrap();
        fs::write(tmp.join(".tmpX"), "a stray").unwrap();
        fs::write(store.locks().join("0123.lock"), "").unwrap();
        let blob = store.put(b"sound").unwrap();
        fs::write(store.blob_path(&blob.digest), b"found").unwrap();
        assert!(!store.verify().unwrap().passed());
        let collected = store.gc(&NOTHING, false).unwrap();
        assert_eq!((collected.temporary.bytes, collected.quarantined.bytes), (7 + 4 + 7, 5));
        let left: Vec<_> = tmp.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
        assert_eq!(left.len(), 3, "the locks, and this very session: {left:?}");
        assert_eq!(fs::read_dir(store.locks()).unwrap().count(), 0);
        assert!(!store.quarantined().exists());
    }

    #[test]
    fn opening_a_store_clears_what_killed_processes_left() {
        let (_folder, store) = scratch();
        let tmp = store.path().join("tmp");
        fs::write(tmp.join("4194305-abcdef.uses"), "").unwrap();
        fs::create_dir_all(tmp.join("4194305-abcdef.d/home")).unwrap();
        drop(reopened(store.path()));
        assert_eq!(fs::read_dir(tmp).unwrap().count(), 3, "the locks, and the first session");
    }

    #[test]
    fn links_and_pipes_that_another_user_put_into_a_store_are_removed_and_never_followed() {
        let (folder, store) = scratch();
        let outside = camino::Utf8PathBuf::try_from(folder.path().join("outside")).unwrap();
        fs::create_dir_all(outside.join("kept")).unwrap();
        fs::write(outside.join("kept/file"), "another's").unwrap();
        let pipe = |path: camino::Utf8PathBuf| {
            rustix::fs::mkfifoat(rustix::fs::CWD, path.as_std_path(), rustix::fs::Mode::RUSR).unwrap();
        };
        let (tmp, blobs, caches) = (store.path().join("tmp"), store.path().join("blobs/sha256"), store.caches());
        fs::create_dir_all(&caches).unwrap();
        // At the paths of sessions, their folders, locks, blobs and caches.
        pipe(tmp.join("4194305-aaaaaa.uses"));
        pipe(store.locks().join("0123.lock"));
        let link = |path: camino::Utf8PathBuf| std::os::unix::fs::symlink(&outside, path).unwrap();
        link(tmp.join("4194306-bbbbbb.d"));
        link(tmp.join(".tmpX"));
        link(blobs.join("00".repeat(32)));
        link(caches.join("cargo"));
        link(store.locks().join("4567.lock"));
        link(store.path().join("quarantine"));
        std::os::unix::fs::symlink("/dev/zero", tmp.join("4194306-bbbbbb.uses")).unwrap();
        let collected = store.gc(&Keep { caches: true, ..NOTHING }, false).unwrap();
        assert_eq!(collected.caches.len(), 1);
        assert_eq!(fs::read_to_string(outside.join("kept/file")).unwrap(), "another's");
        for path in [tmp.join(".tmpX"), tmp.join("4194306-bbbbbb.d"), blobs.join("00".repeat(32)), caches.join("cargo")]
        {
            assert!(path.symlink_metadata().is_err(), "{path}");
        }
        drop(reopened(store.path()));
    }

    #[test]
    fn indexes_of_indexes_to_any_depth_are_followed() {
        let (_folder, store) = scratch();
        let media_type = "application/vnd.oci.image.index.v1+json";
        let mut inner = descriptor("application/octet-stream", store.put(b"the innermost").unwrap());
        for _ in 0..3_000 {
            let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [inner]});
            let path = store.path().join("tmp/deep");
            let bytes = crate::canonical_json(&index).unwrap();
            let blob = Blob { digest: crate::Digest::of(&bytes), size: bytes.len() as u64 };
            // Bypass the store, which syncs every blob to disk: slow for this many.
            fs::write(&path, bytes).unwrap();
            fs::rename(&path, store.blob_path(&blob.digest)).unwrap();
            inner = descriptor(media_type, blob);
        }
        store.tag("docker.io/a/deep:v1", &inner).unwrap();
        assert_eq!(store.gc(&NOTHING, false).unwrap().kept.count, 3_001);
    }
}
