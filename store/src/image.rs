//! What an image is made of, read from its manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Blob, Digest, Error, Store};

/// More platforms than any image is for.
const PLATFORM_LIMIT: usize = 1_000;

/// An image and the platforms of it that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its full name, as `docker.io/virtualcluster/manager-amd64:latest`.
    pub name: String,
    /// What the name points at: a manifest, or an index of several.
    pub target: Descriptor,
    /// Its platforms, in the order of the index. At least one.
    pub platforms: Vec<PlatformImage>,
}

/// An image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformImage {
    /// What it runs on.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the base's first.
    pub layers: Vec<Layer>,
}

/// A layer, as stored and as unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layer {
    /// The digest of its blob.
    pub digest: Digest,
    /// The digest of its tar file uncompressed, which the configuration lists.
    pub diff_id: Digest,
    /// The size of its blob in bytes.
    pub size: u64,
    /// How its blob is encoded.
    pub media_type: String,
}

/// An operating system and a processor, as `linux/amd64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// As Go's GOOS.
    pub os: String,
    /// As Go's GOARCH.
    pub architecture: String,
    /// The variant of the processor, as `v7`.
    pub variant: Option<String>,
}

impl PlatformImage {
    /// The digest of its manifest.
    #[must_use]
    pub fn manifest_digest(&self) -> Digest {
        known(&self.manifest)
    }

    /// The digest of its configuration.
    #[must_use]
    pub fn config_digest(&self) -> Digest {
        known(&self.config)
    }
}

impl Platform {
    /// Linux on this architecture (as Go's GOARCH).
    #[must_use]
    pub fn linux(architecture: &str) -> Self {
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether what is for this platform is for the one wanted; a variant that was not asked for does not matter.
    #[must_use]
    pub fn serves(&self, wanted: &Self) -> bool {
        (&self.os, &self.architecture) == (&wanted.os, &wanted.architecture)
            && (wanted.variant.is_none() || self.variant == wanted.variant)
    }
}

impl Default for Platform {
    /// Linux on amd64, which VirtualCluster's own images are for.
    fn default() -> Self {
        Self::linux("amd64")
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = self.variant.as_deref().map(|variant| format!("/{variant}")).unwrap_or_default();
        f.pad(&format!("{}/{}{variant}", self.os, self.architecture))
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
        match parts.as_slice() {
            [os, architecture, variant @ ..] if variant.len() <= 1 && parts.iter().all(word) => Ok(Self {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: variant.first().map(|variant| (*variant).to_owned()),
            }),
            _ => Err(format!("{text:?} is no platform such as linux/amd64")),
        }
    }
}

impl Serialize for Platform {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Image {
    /// Reads the image that `target` describes. Platforms of an index whose manifest the store lacks are left out: an
    /// index stays whole when one platform of it was pulled.
    ///
    /// # Errors
    /// When a document is missing or damaged, breaks the specification, or is more than any image has, or no platform is left.
    pub fn open(store: &Store, name: &str, target: &Descriptor) -> Result<Self, Error> {
        Self::open_within(&mut Budget::default(), store, name, target)
    }

    /// The same, for images that share what may be read.
    pub(crate) fn open_within(
        budget: &mut Budget,
        store: &Store,
        name: &str,
        target: &Descriptor,
    ) -> Result<Self, Error> {
        let mut platforms = Vec::new();
        if is_index(target.media_type()) {
            let index: ImageIndex = budget.document(store, name, target)?;
            let mut seen = BTreeSet::new();
            for manifest in index.manifests() {
                let digest = digest_of(manifest, name)?;
                if is_manifest(manifest.media_type()) && store.contains(&digest) && seen.insert(digest) {
                    if seen.len() > PLATFORM_LIMIT {
                        return Err(bad(name, format!("its index has more than {PLATFORM_LIMIT} manifests")));
                    }
                    let image = PlatformImage::open(budget, store, name, manifest)?;
                    // Attestations stand in an index as images for unknown/unknown.
                    if image.platform.os != "unknown" {
                        platforms.push(image);
                    }
                }
            }
        } else if is_manifest(target.media_type()) {
            platforms.push(PlatformImage::open(budget, store, name, target)?);
        } else {
            return Err(bad(name, format!("{} is neither a manifest nor an index", target.media_type())));
        }
        if platforms.is_empty() {
            return Err(bad(name, "the store has none of the manifests of its index".to_owned()));
        }
        Ok(Self { name: name.to_owned(), target: target.clone(), platforms })
    }

    /// The digest that the name points at.
    #[must_use]
    pub fn digest(&self) -> Digest {
        known(&self.target)
    }

    /// The image for `platform`; a variant that was not asked for does not matter.
    #[must_use]
    pub fn platform(&self, platform: &Platform) -> Option<&PlatformImage> {
        self.platforms.iter().find(|image| image.platform.serves(platform))
    }

    /// Every blob of the image, none twice, each after those it names: layers and configuration, manifest, index.
    #[must_use]
    pub fn blobs(&self) -> Vec<Descriptor> {
        let mut seen = BTreeSet::new();
        let parts = self.platforms.iter().flat_map(PlatformImage::blobs);
        parts.chain([self.target.clone()]).filter(|blob| seen.insert(blob.digest().to_string())).collect()
    }

    /// Checks that every blob is there, in the size its descriptor says.
    ///
    /// # Errors
    /// When one is missing or has another size.
    pub fn check_complete(&self, store: &Store) -> Result<(), Error> {
        for blob in self.blobs() {
            let digest = digest_of(&blob, &self.name)?;
            match store.size(&digest) {
                None => return Err(Error::Missing { digest }),
                Some(size) if size != blob.size() => {
                    let why = format!("{digest} has {size} bytes, and its descriptor says {}", blob.size());
                    return Err(bad(&self.name, why));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl PlatformImage {
    fn open(budget: &mut Budget, store: &Store, name: &str, descriptor: &Descriptor) -> Result<Self, Error> {
        let manifest: ImageManifest = budget.document(store, name, descriptor)?;
        let config_digest = digest_of(manifest.config(), name)?;
        let config: ImageConfiguration = store.document(&config_digest)?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            let (listed, has) = (diff_ids.len(), manifest.layers().len());
            return Err(bad(name, format!("its configuration lists {listed} layers, and its manifest {has}")));
        }
        let layers = manifest
            .layers()
            .iter()
            .zip(diff_ids)
            .map(|(layer, diff_id)| {
                let diff_id = diff_id.parse().map_err(|_| bad(name, format!("{diff_id:?} is no SHA-256 digest")))?;
                let digest = digest_of(layer, name)?;
                Ok(Layer { digest, diff_id, size: layer.size(), media_type: layer.media_type().to_string() })
            })
            .collect::<Result<_, Error>>()?;
        let platform = Platform {
            os: config.os().to_string(),
            architecture: config.architecture().to_string(),
            variant: config.variant().clone(),
        };
        Ok(Self { platform, manifest: descriptor.clone(), config: manifest.config().clone(), layers })
    }

    /// Every blob, each after those it names.
    pub fn blobs(&self) -> impl Iterator<Item = Descriptor> {
        let layers = self.layers.iter().map(Layer::descriptor);
        layers.chain([self.config.clone(), self.manifest.clone()])
    }
}

impl Layer {
    /// The layer as a manifest lists it.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        descriptor(&self.media_type, Blob { digest: self.digest, size: self.size })
    }
}

/// How many bytes of indexes and manifests may yet be read, of one image or of all of an archive: what they say stays in
/// memory, and a small archive can name a large manifest many times.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: u64,
}

impl Default for Budget {
    /// A thousand times what an image has that is for ten platforms.
    fn default() -> Self {
        Self { limit: 64 << 20, used: 0 }
    }
}

impl Budget {
    fn document<T: DeserializeOwned>(&mut self, store: &Store, name: &str, what: &Descriptor) -> Result<T, Error> {
        let digest = digest_of(what, name)?;
        self.used = self.used.saturating_add(store.size(&digest).unwrap_or_default());
        if self.used > self.limit {
            return Err(bad(name, format!("its manifests are larger than {} bytes together", self.limit)));
        }
        store.document(&digest)
    }
}

/// A descriptor of `blob`.
pub(crate) fn descriptor(media_type: &str, blob: Blob) -> Descriptor {
    Descriptor::new(MediaType::from(media_type), blob.size, blob.digest)
}

/// The digest a descriptor names; only SHA-256 is used here, as everywhere.
pub(crate) fn digest_of(descriptor: &Descriptor, image: &str) -> Result<Digest, Error> {
    Digest::try_from(descriptor.digest()).map_err(|error| bad(image, error.to_string()))
}

/// The digest of a descriptor that [`Image::open`] has read through.
fn known(descriptor: &Descriptor) -> Digest {
    Digest::try_from(descriptor.digest()).unwrap_or_else(|_| unreachable!("the image was opened by this digest"))
}

pub(crate) fn bad(image: &str, why: String) -> Error {
    Error::BadImage { image: image.to_owned(), why }
}

/// Whether a media type is that of an index, in the OCI's or Docker's words.
pub(crate) fn is_index(media_type: &MediaType) -> bool {
    let docker = "application/vnd.docker.distribution.manifest.list.v2+json";
    *media_type == MediaType::ImageIndex || media_type.as_ref() == docker
}

/// Whether a media type is that of a manifest, in the OCI's or Docker's words.
pub(crate) fn is_manifest(media_type: &MediaType) -> bool {
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    *media_type == MediaType::ImageManifest || media_type.as_ref() == docker
}

impl Store {
    /// The image of this name: its full name, the name without registry or tag, or the last word of it ("manager" for
    /// `docker.io/virtualcluster/manager-amd64:latest`).
    ///
    /// # Errors
    /// When no image or several have the name, or the image cannot be read.
    pub fn image(&self, name: &str) -> Result<Image, Error> {
        let images = self.images()?;
        let full = find(&images, name)?;
        Image::open(self, full, &images[full])
    }

    /// The full name of the image of this name, which need not be readable.
    ///
    /// # Errors
    /// When no image or several have the name.
    pub fn full_name(&self, name: &str) -> Result<String, Error> {
        find(&self.images()?, name).map(ToOwned::to_owned)
    }
}

fn find<'a>(images: &'a BTreeMap<String, Descriptor>, name: &str) -> Result<&'a str, Error> {
    if let Some((full, _)) = images.get_key_value(name) {
        return Ok(full);
    }
    let fits: Vec<&String> = images.keys().filter(|full| shortens(full, name)).collect();
    let names = |names: Vec<&String>| names.into_iter().cloned().collect();
    match fits.as_slice() {
        [one] => Ok(one),
        [] => Err(Error::NoSuchImage { name: name.to_owned(), known: names(images.keys().collect()) }),
        _ => Err(Error::AmbiguousImage { name: name.to_owned(), fits: names(fits) }),
    }
}

/// Whether `name` stands for the image of this full name, as [`Store::image`] takes it.
#[must_use]
pub fn is_short_for(full: &str, name: &str) -> bool {
    full == name || shortens(full, name)
}

/// Whether `name` is a shorter form of the full name.
fn shortens(full: &str, name: &str) -> bool {
    let repository = match full.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => full,
    };
    [full, repository, repository.rsplit_once('-').map_or(repository, |(stem, _)| stem)]
        .iter()
        .any(|long| long.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('/')))
}

#[cfg(test)]
pub(crate) mod tests {
    use oci_spec::image::Descriptor;
    use serde_json::json;

    use super::{Budget, Platform, descriptor, shortens};
    use crate::store::tests::scratch;
    use crate::{Compression, Content, Image, Store, Tree, layer};

    pub(crate) const NAME: &str = "docker.io/virtualcluster/manager-amd64:latest";

    /// An image of two layers, one of them of these bytes, named in the store.
    pub(crate) fn image(store: &Store, compression: Compression, content: &[u8]) -> Image {
        let mut layers = Vec::new();
        for bytes in [b"base", content] {
            let mut tree = Tree::new();
            tree.file("usr/local/bin/manager", 0o755, Content::Bytes(bytes.to_vec())).unwrap();
            layers.push(layer::write(store, &tree, compression, 0).unwrap());
        }
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = store.put_document(&config).unwrap();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": layers.iter().map(crate::Layer::descriptor).collect::<Vec<Descriptor>>(),
        });
        let manifest = store.put_document(&manifest).unwrap();
        store.tag(NAME, &descriptor("application/vnd.oci.image.manifest.v1+json", manifest)).unwrap();
        store.image("manager").unwrap()
    }

    #[test]
    fn a_platform_is_written_and_read() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?} must be refused");
        }
    }

    /// An index that names each of these manifests so many times.
    fn index(store: &Store, manifests: &[Descriptor], times: usize) -> Descriptor {
        let named: Vec<_> = manifests.iter().flat_map(|manifest| std::iter::repeat_n(manifest, times)).collect();
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": named});
        descriptor(media_type, store.put_document(&index).unwrap())
    }

    /// Manifests of one image that differ in an annotation alone.
    fn manifests(store: &Store, image: &Image, count: usize) -> Vec<Descriptor> {
        let manifest: serde_json::Value = store.document(&image.digest()).unwrap();
        let another = |number: usize| {
            let mut manifest = manifest.clone();
            manifest["annotations"] = json!({"number": number.to_string()});
            descriptor("application/vnd.oci.image.manifest.v1+json", store.put_document(&manifest).unwrap())
        };
        (0..count).map(another).collect()
    }

    #[test]
    fn a_manifest_that_an_index_names_many_times_is_one_platform() {
        let (_folder, store) = scratch();
        let image = image(&store, Compression::Gzip, b"x");
        let index = index(&store, &manifests(&store, &image, 2), 5_000);
        assert_eq!(Image::open(&store, "x", &index).unwrap().platforms.len(), 2);
    }

    #[test]
    fn more_manifests_than_any_image_has_are_refused() {
        let (_folder, store) = scratch();
        let image = image(&store, Compression::Gzip, b"x");
        let many = index(&store, &manifests(&store, &image, 1_001), 1);
        let said = Image::open(&store, "x", &many).unwrap_err().to_string();
        assert_eq!(said, "reading image x: its index has more than 1000 manifests");

        let few = index(&store, &manifests(&store, &image, 10), 1);
        let mut budget = Budget { limit: 20_000, used: 0 };
        let mut open = || Image::open_within(&mut budget, &store, "x", &few).map(|image| image.platforms.len());
        assert_eq!(open().unwrap(), 10);
        let said = (0..10).find_map(|_| open().err()).unwrap().to_string();
        assert_eq!(said, "reading image x: its manifests are larger than 20000 bytes together");
    }

    #[test]
    fn short_names_stand_for_whole_words() {
        let full = "docker.io/virtualcluster/manager-amd64:latest";
        for name in [full, "virtualcluster/manager-amd64", "manager-amd64:latest", "manager-amd64", "manager"] {
            assert!(shortens(full, name), "{name}");
        }
        for name in ["", "anager", "amd64", "latest", "virtualcluster", "manager:latest"] {
            assert!(!shortens(full, name), "{name}");
        }
        assert!(shortens("localhost:5000/vn-agent-amd64:v1", "vn-agent"));
        assert!(!shortens("localhost:5000/vn-agent-amd64:v1", "agent"));
    }
}
