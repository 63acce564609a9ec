//! The content of a store, and the disk usage of each part.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::time::SystemTime;

use camino::Utf8PathBuf;
use oci_spec::image::Descriptor;
use rayon::prelude::*;

use crate::image::is_index;
use crate::{ActionKey, Amount, Blob, Digest, Error, Image, Record, Store, remove};

/// An action that the store remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// What names it.
    pub key: ActionKey,
    /// Its kind, as `compile`.
    pub kind: String,
    /// Its name for people, as the component's.
    pub name: String,
    /// When it last ran or its outputs were of use.
    pub used: SystemTime,
    /// The blobs it yielded, by name.
    pub outputs: BTreeMap<String, Blob>,
    /// The blobs that its inputs name.
    pub inputs: BTreeSet<Digest>,
}

/// A compiler's own cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The name of its folder.
    pub name: String,
    /// Its files.
    pub amount: Amount,
    /// When a build last asked for it.
    pub used: SystemTime,
}

/// How much of the disk an image takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// Its full name.
    pub name: String,
    /// All its blobs.
    pub total: Amount,
    /// Those of them that no other named image has.
    pub own: Amount,
}

/// How much of the disk each part of a store takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Each named image that can be read. Shared blobs count for every image that has them.
    pub images: Vec<ImageUsage>,
    /// All blobs by what they are; each counts once. What no image has is called by the action that made it, and what
    /// neither has, `other`.
    pub kinds: BTreeMap<String, Amount>,
    /// Compilers' own caches.
    pub caches: Vec<Cache>,
    /// Records of actions, the journal of builds and logs.
    pub records: Amount,
    /// Files of builds that run now, or were cut off.
    pub temporary: Amount,
    /// Damaged blobs that were put aside.
    pub quarantined: Amount,
}

impl Usage {
    /// All blobs.
    #[must_use]
    pub fn blobs(&self) -> Amount {
        let mut all = Amount::default();
        self.kinds.values().for_each(|amount| all += *amount);
        all
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let caches: u64 = self.caches.iter().map(|cache| cache.amount.bytes).sum();
        self.blobs().bytes + caches + self.records.bytes + self.temporary.bytes + self.quarantined.bytes
    }
}

impl Store {
    /// The actions that the store remembers, those that were of use last first. Records that cannot be read are left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn actions(&self) -> Result<Vec<Remembered>, Error> {
        let read = |path: Utf8PathBuf| {
            let Some(key) = path.file_name().and_then(|name| name.parse().ok()) else { return Ok(None) };
            let (bytes, meta) = match fs::read(&path).and_then(|bytes| Ok((bytes, fs::metadata(&path)?))) {
                Ok(read) => read,
                // Garbage collection works meanwhile.
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

    /// How much of the disk each part of the store takes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self) -> Result<Usage, Error> {
        let sizes = self.blob_sizes()?;
        let mut kinds: BTreeMap<Digest, String> = BTreeMap::new();
        let mut images: Vec<(String, BTreeSet<Digest>)> = Vec::new();
        for (name, target) in self.images()? {
            // One that lacks a blob is what verification tells of.
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

    /// Compilers' own caches, those that were of use last first.
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

    /// The size of every blob that is there now.
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

    /// The files and folders in a folder of the store.
    pub(crate) fn files(&self, folder: &str) -> Result<Vec<Utf8PathBuf>, Error> {
        let folder = self.path().join(folder);
        let entries = folder.read_dir_utf8().map_err(Error::io("listing", &folder))?;
        entries.map(|entry| entry.map(camino::Utf8DirEntry::into_path).map_err(Error::io("listing", &folder))).collect()
    }
}

/// What a blob is in an image.
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
