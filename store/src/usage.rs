//! The content of a store, and the disk usage of its parts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::time::SystemTime;

use camino::Utf8PathBuf;
use oci_spec::image::Descriptor;
use rayon::prelude::*;

use crate::image::is_index;
use crate::{ActionKey, Amount, Blob, Digest, Error, Image, Record, Store, remove};

/// A recorded action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The key.
    pub key: ActionKey,
    /// The kind, such as `compile`.
    pub kind: String,
    /// The name for messages, such as that of the component.
    pub name: String,
    /// The time when the action last ran or its outputs were reused.
    pub used: SystemTime,
    /// The output blobs, by name.
    pub outputs: BTreeMap<String, Blob>,
    /// The digests in the inputs.
    pub inputs: BTreeSet<Digest>,
}

/// A compiler cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The name of its folder.
    pub name: String,
    /// The number and size of its files.
    pub amount: Amount,
    /// The time when a build last used it.
    pub used: SystemTime,
}

/// The disk usage of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// The full name.
    pub name: String,
    /// All its blobs.
    pub total: Amount,
    /// The blobs that no other named image has.
    pub own: Amount,
}

/// The disk usage of the parts of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The named images that can be read. Shared blobs count for each image.
    pub images: Vec<ImageUsage>,
    /// All blobs by type, each counted once: by their role in an image, or else by the action that produced them, or
    /// else as `other`.
    pub kinds: BTreeMap<String, Amount>,
    /// The compiler caches.
    pub caches: Vec<Cache>,
    /// Action records, the journal of builds, logs and roots.
    pub records: Amount,
    /// Files of running or interrupted builds.
    pub temporary: Amount,
    /// Quarantined damaged blobs.
    pub quarantined: Amount,
}

impl Usage {
    /// Returns the total of all blobs.
    #[must_use]
    pub fn blobs(&self) -> Amount {
        let mut all = Amount::default();
        self.kinds.values().for_each(|amount| all += *amount);
        all
    }

    /// Returns the total number of bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let caches: u64 = self.caches.iter().map(|cache| cache.amount.bytes).sum();
        self.blobs().bytes + caches + self.records.bytes + self.temporary.bytes + self.quarantined.bytes
    }
}

impl Store {
    /// Returns the recorded actions, most recently used first. Omits unreadable records.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn actions(&self) -> Result<Vec<Remembered>, Error> {
        let read = |path: Utf8PathBuf| {
            let Some(key) = path.file_name().and_then(|name| name.parse().ok()) else { return Ok(None) };
            let (bytes, meta) = match fs::read(&path).and_then(|bytes| Ok((bytes, fs::metadata(&path)?))) {
                Ok(read) => read,
                // Garbage collection may run meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(Error::io("reading", &path)(error)),
            };
            let used = meta.modified().map_err(Error::io("reading", &path))?;
            Ok(serde_json::from_slice::<Record>(&bytes).ok().map(|record| Remembered {
                key,
                used,
                kind: record.kind().to_owned(),
                name: record.name().to_owned(),
                inputs: record.input_digests().collect(),
                outputs: record.outputs().blobs().clone(),
            }))
        };
        let read: Vec<_> = self.files("actions")?.into_par_iter().map(read).collect::<Result<_, Error>>()?;
        let mut actions: Vec<_> = read.into_iter().flatten().collect();
        actions.sort_by(|one, other| other.used.cmp(&one.used).then_with(|| one.key.cmp(&other.key)));
        Ok(actions)
    }

    /// Returns the disk usage of the parts of the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self) -> Result<Usage, Error> {
        let sizes = self.blob_sizes()?;
        let mut kinds: BTreeMap<Digest, String> = BTreeMap::new();
        let mut images: Vec<(String, BTreeSet<Digest>)> = Vec::new();
        for (name, target) in self.images()? {
            // Verification reports images that lack a blob.
            let Ok(image) = Image::open(self, &name, &target) else { continue };
            let parts: Vec<_> = image.blobs().into_iter().filter_map(|blob| Some((digest(&blob)?, blob))).collect();
            kinds.extend(parts.iter().map(|(digest, blob)| (*digest, part(blob).to_owned())));
            images.push((name, parts.into_iter().map(|(digest, _)| digest).collect()));
        }
        for action in self.actions()? {
            for blob in action.outputs.values() {
                kinds.entry(blob.digest).or_insert_with(|| format!("{} output", action.kind));
            }
        }
        let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
        for digest in images.iter().flat_map(|(_, parts)| parts) {
            *users.entry(*digest).or_default() += 1;
        }
        let mut usage = Usage {
            images: Vec::new(),
            kinds: BTreeMap::new(),
            caches: self.cache_folders()?,
            records: Amount::default(),
            temporary: remove::measure(&self.path().join("tmp"))?,
            quarantined: remove::measure(&self.quarantined())?,
        };
        for folder in ["actions", "builds", "logs", "roots"] {
            usage.records += remove::measure(&self.path().join(folder))?;
        }
        for (name, parts) in images {
            let size = |digest: &Digest| sizes.get(digest).copied();
            let own = parts.iter().filter(|digest| users.get(digest) == Some(&1)).filter_map(size).collect();
            usage.images.push(ImageUsage { name, total: parts.iter().filter_map(size).collect(), own });
        }
        for (digest, size) in sizes {
            let kind = kinds.remove(&digest).unwrap_or_else(|| "other".to_owned());
            usage.kinds.entry(kind).or_default().add(size);
        }
        Ok(usage)
    }

    /// Returns the compiler caches, most recently used first.
    pub(crate) fn cache_folders(&self) -> Result<Vec<Cache>, Error> {
        let folders = match self.files("cache") {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            folders => folders?,
        };
        let read = |path: Utf8PathBuf| {
            let used = match fs::metadata(&path).and_then(|meta| meta.modified()) {
                Ok(used) => used,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(Error::io("reading", &path)(error)),
            };
            let name = path.file_name().unwrap_or_default().to_owned();
            Ok(Some(Cache { name, amount: remove::measure(&path)?, used }))
        };
        let read: Vec<_> = folders.into_par_iter().map(read).collect::<Result<_, Error>>()?;
        let mut caches: Vec<_> = read.into_iter().flatten().collect();
        caches.sort_by(|one, other| other.used.cmp(&one.used).then_with(|| one.name.cmp(&other.name)));
        Ok(caches)
    }

    /// Returns the sizes of all current blobs.
    pub(crate) fn blob_sizes(&self) -> Result<BTreeMap<Digest, u64>, Error> {
        let sizes = self.files("blobs/sha256")?.into_iter().filter_map(|path| {
            let digest = Digest::from_hex(path.file_name()?).ok()?;
            match fs::metadata(&path) {
                Ok(meta) => Some(Ok((digest, meta.len()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => Some(Err(Error::io("reading", &path)(error))),
            }
        });
        sizes.collect()
    }

    /// Returns the files and folders in a folder of the store.
    pub(crate) fn files(&self, folder: &str) -> Result<Vec<Utf8PathBuf>, Error> {
        let folder = self.path().join(folder);
        let entries = folder.read_dir_utf8().map_err(Error::io("listing", &folder))?;
        entries.map(|entry| entry.map(camino::Utf8DirEntry::into_path).map_err(Error::io("listing", &folder))).collect()
    }
}

/// Returns the role of a blob in an image.
fn part(blob: &Descriptor) -> &'static str {
    let media_type = blob.media_type();
    if is_index(media_type) {
        "index"
    } else if crate::image::is_manifest(media_type) {
        "manifest"
    } else if media_type.as_ref().contains("config") || media_type.as_ref().contains("container.image.v1+json") {
        "configuration"
    } else {
        "layer"
    }
}

fn digest(blob: &Descriptor) -> Option<Digest> {
    Digest::try_from(blob.digest()).ok()
}

#[cfg(test)]
mod tests {
    use crate::image::tests::image;
    use crate::store::tests::scratch;
    use crate::{Action, Amount, Compression, Error, Outputs};

    #[test]
    fn every_blob_counts_once_by_kind_and_for_every_image_that_has_it() {
        let (_folder, store) = scratch();
        let first = image(&store, Compression::Zstd, b"manager");
        store.tag("docker.io/a/b:v1", &first.target).unwrap();
        let second = image(&store, Compression::Zstd, b"another manager");
        let stray = store.put(b"stray").unwrap();
        let input = store.put(b"input").unwrap();
        let action = Action::new("compile", "manager").input("of", ["x", &input.digest.to_string()]).unwrap();
        let run = || Ok::<_, Error>(Outputs::new().with_blob("binary", store.put(b"binary")?));
        store.realise(&action, run).unwrap();
        std::fs::write(store.cache_dir("go-build/00").unwrap().join("a"), "12345").unwrap();

        let usage = store.usage().unwrap();
        let counts: Vec<_> = usage.kinds.iter().map(|(kind, amount)| (kind.as_str(), amount.count)).collect();
        let expected = [("compile output", 1), ("configuration", 2), ("layer", 3), ("manifest", 2), ("other", 2)];
        assert_eq!(counts, expected);
        assert_eq!(usage.kinds["other"].bytes, stray.size + input.size);
        let names = usage.images.iter().map(|image| (image.name.as_str(), image.total.count, image.own.count));
        assert_eq!(names.collect::<Vec<_>>(), [("docker.io/a/b:v1", 4, 3), (&second.name, 4, 3)]);
        let base = second.platforms[0].layers[0].size;
        assert_eq!(usage.images[1].total.bytes - usage.images[1].own.bytes, base);
        assert_eq!(
            (usage.caches[0].name.as_str(), usage.caches[0].amount),
            ("go-build", Amount { count: 1, bytes: 5 })
        );
        let actions = store.actions().unwrap();
        assert_eq!((actions.len(), actions[0].inputs.first()), (1, Some(&input.digest)));
    }
}
