//! Images: platforms, configurations and layers, as read from manifests.

use std::collections::BTreeSet;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::index::bare;
use crate::{Blob, Digest, Error, Platform, Store};

/// The maximum number of platforms of an image; valid images have fewer.
const PLATFORM_LIMIT: usize = 1_000;

/// The maximum nesting depth of indexes; valid images have fewer levels.
const DEPTH_LIMIT: usize = 8;

/// An image, with the platforms that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The full name, such as `docker.io/virtualcluster/manager-amd64:latest`.
    pub name: String,
    /// The target of the name: a manifest, or an image index.
    pub target: Descriptor,
    /// The platforms, in the order of the index; at least one.
    pub platforms: Vec<PlatformImage>,
}

/// An image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformImage {
    /// The platform.
    pub platform: Platform,
    /// The nested indexes between the image's target and the manifest, outermost first. Empty for most images.
    pub indexes: Vec<Descriptor>,
    /// The manifest.
    pub manifest: Descriptor,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
}

/// A layer: its blob, and its uncompressed content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layer {
    /// The digest of the blob.
    pub digest: Digest,
    /// The digest of the uncompressed tar file, which the configuration lists.
    pub diff_id: Digest,
    /// The size of the blob in bytes.
    pub size: u64,
    /// The media type of the blob.
    pub media_type: String,
}

impl PlatformImage {
    /// Returns the digest of the manifest.
    #[must_use]
    pub fn manifest_digest(&self) -> Digest {
        known(&self.manifest)
    }

    /// Returns the digest of the configuration.
    #[must_use]
    pub fn config_digest(&self) -> Digest {
        known(&self.config)
    }
}

impl Image {
    /// Reads the image that `target` describes. Omits platforms whose manifest the store lacks, because a pull may have
    /// fetched a single platform of an index. Also omits artifacts in an index, such as attestations. Follows nested
    /// indexes.
    ///
    /// # Errors
    /// When a document is missing or damaged, violates the specification or a limit, or no platform remains.
    pub fn open(store: &Store, name: &str, target: &Descriptor) -> Result<Self, Error> {
        let found = Self::find(&mut Budget::default(), store, name, target)?;
        found.map_err(|kind| bad(name, format!("it is an artifact ({kind}), not an image")))
    }

    /// Reads an image within a shared budget. Returns the inner error with the artifact type if `target` describes an
    /// artifact.
    pub(crate) fn find(
        budget: &mut Budget,
        store: &Store,
        name: &str,
        target: &Descriptor,
    ) -> Result<Result<Self, String>, Error> {
        let mut platforms = Vec::new();
        let mut artifact = None;
        let mut seen = BTreeSet::new();
        let mut todo = vec![(target.clone(), Vec::new())];
        while let Some((descriptor, above)) = todo.pop() {
            if is_index(descriptor.media_type()) {
                let index: ImageIndex = budget.document(store, name, &descriptor)?;
                let mut indexes: Vec<Descriptor> = above;
                if descriptor.digest() != target.digest() {
                    indexes.push(bare(&descriptor));
                }
                if indexes.len() >= DEPTH_LIMIT {
                    return Err(bad(name, format!("its image indexes are nested more than {DEPTH_LIMIT} levels deep")));
                }
                // The stack is last-in, first-out: push in reverse order.
                for one in index
                    .manifests()
                    .iter()
                    .rev()
                    .filter(|one| is_index(one.media_type()) || is_manifest(one.media_type()))
                {
                    // An index lists attestations as images for unknown/unknown.
                    let is_beside =
                        one.platform().as_ref().is_some_and(|platform| platform.os().to_string() == "unknown");
                    let digest = digest_of(one, name)?;
                    if !is_beside && store.contains(&digest) && seen.insert(digest) {
                        if seen.len() > PLATFORM_LIMIT {
                            return Err(bad(name, format!("its index has more than {PLATFORM_LIMIT} manifests")));
                        }
                        todo.push((one.clone(), indexes.clone()));
                    }
                }
            } else if is_manifest(descriptor.media_type()) {
                match PlatformImage::open(budget, store, name, &descriptor, above)? {
                    Ok(image) if image.platform.os == "unknown" => {}
                    Ok(image) => platforms.push(image),
                    Err(kind) => artifact = Some(kind),
                }
            } else {
                artifact = Some(descriptor.media_type().to_string());
            }
        }
        match (platforms.is_empty(), artifact) {
            (false, _) => Ok(Ok(Self { name: name.to_owned(), target: target.clone(), platforms })),
            (true, Some(kind)) => Ok(Err(kind)),
            (true, None) => Err(bad(name, "the store has none of the manifests that its image index lists".to_owned())),
        }
    }

    /// Returns the digest of the target.
    #[must_use]
    pub fn digest(&self) -> Digest {
        known(&self.target)
    }

    /// Returns the best match for `platform`; the first of equal matches.
    #[must_use]
    pub fn platform(&self, platform: &Platform) -> Option<&PlatformImage> {
        let fits = self.platforms.iter().filter_map(|image| Some((image.platform.distance(platform)?, image)));
        fits.min_by_key(|(distance, _)| *distance).map(|(_, image)| image)
    }

    /// Returns all blobs of the image without duplicates, each after the blobs that it references: layers and
    /// configuration, manifest, index.
    #[must_use]
    pub fn blobs(&self) -> Vec<Descriptor> {
        let mut seen = BTreeSet::new();
        let parts = self.platforms.iter().flat_map(PlatformImage::blobs);
        parts.chain([self.target.clone()]).filter(|blob| seen.insert(blob.digest().to_string())).collect()
    }

    /// Checks that all blobs exist and have the sizes in their descriptors.
    ///
    /// # Errors
    /// When a blob is missing or has another size.
    pub fn check_complete(&self, store: &Store) -> Result<(), Error> {
        for blob in self.blobs() {
            let digest = digest_of(&blob, &self.name)?;
            match store.size(&digest) {
                None => return Err(Error::Missing { digest }),
                Some(size) if size != blob.size() => {
                    let why = format!("{digest} has {size} bytes, but its descriptor says {}", blob.size());
                    return Err(bad(&self.name, why));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl PlatformImage {
    /// Reads a manifest. Returns the inner error with the artifact type if it is that of an artifact.
    fn open(
        budget: &mut Budget,
        store: &Store,
        name: &str,
        descriptor: &Descriptor,
        indexes: Vec<Descriptor>,
    ) -> Result<Result<Self, String>, Error> {
        let manifest: ImageManifest = budget.document(store, name, descriptor)?;
        let config_digest = digest_of(manifest.config(), name)?;
        let config: ImageConfiguration = match (store.document(&config_digest), artifact_kind(&manifest)) {
            (Err(_), Some(kind)) => return Ok(Err(kind)),
            (config, _) => config?,
        };
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            let (listed, has) = (diff_ids.len(), manifest.layers().len());
            return Err(bad(name, format!("its configuration lists {listed} layers, but its manifest {has}")));
        }
        let layers = manifest
            .layers()
            .iter()
            .zip(diff_ids)
            .map(|(layer, diff_id)| {
                let diff_id = diff_id.parse().map_err(|_| bad(name, format!("{diff_id:?} is not a SHA-256 digest")))?;
                let digest = digest_of(layer, name)?;
                Ok(Layer { digest, diff_id, size: layer.size(), media_type: layer.media_type().to_string() })
            })
            .collect::<Result<_, Error>>()?;
        let platform = Platform {
            os: config.os().to_string(),
            architecture: config.architecture().to_string(),
            variant: config.variant().clone(),
        };
        let (manifest, config) = (descriptor.clone(), manifest.config().clone());
        Ok(Ok(Self { platform, indexes, manifest, config, layers }))
    }

    /// Returns all blobs, each after the blobs that it references.
    pub fn blobs(&self) -> impl Iterator<Item = Descriptor> {
        let layers = self.layers.iter().map(Layer::descriptor);
        let documents = [self.config.clone(), self.manifest.clone()];
        layers.chain(documents).chain(self.indexes.iter().rev().cloned())
    }
}

impl Layer {
    /// Returns the layer's descriptor for a manifest.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        descriptor(&self.media_type, Blob { digest: self.digest, size: self.size })
    }
}

/// Returns the artifact type if a manifest does not declare an image (image specification, "Guidelines for Artifact
/// Usage"). Only the content of its configuration is conclusive.
#[must_use]
pub fn artifact_kind(manifest: &ImageManifest) -> Option<String> {
    let config = manifest.config().media_type();
    let docker = "application/vnd.docker.container.image.v1+json";
    if *config == MediaType::ImageConfig || config.as_ref() == docker {
        return None;
    }
    Some(manifest.artifact_type().as_ref().unwrap_or(config).to_string())
}

/// The remaining number of bytes of indexes and manifests that may be read, for one image or all images of an archive:
/// their content stays in memory, and a small archive can reference a large manifest many times.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: u64,
}

impl Default for Budget {
    /// Returns a budget of a thousand times the size of an image with ten platforms.
    fn default() -> Self {
        Self { limit: 64 << 20, used: 0 }
    }
}

impl Budget {
    fn document<T: DeserializeOwned>(&mut self, store: &Store, name: &str, what: &Descriptor) -> Result<T, Error> {
        let digest = digest_of(what, name)?;
        self.used = self.used.saturating_add(store.size(&digest).unwrap_or_default());
        if self.used > self.limit {
            return Err(bad(name, format!("the total size of its manifests exceeds {} bytes", self.limit)));
        }
        store.document(&digest)
    }
}

/// Creates a descriptor of `blob`.
pub(crate) fn descriptor(media_type: &str, blob: Blob) -> Descriptor {
    Descriptor::new(MediaType::from(media_type), blob.size, blob.digest)
}

/// Returns the digest of a descriptor; only SHA-256 is supported.
pub(crate) fn digest_of(descriptor: &Descriptor, image: &str) -> Result<Digest, Error> {
    Digest::try_from(descriptor.digest()).map_err(|error| bad(image, error.to_string()))
}

/// Returns the digest of a descriptor that [`Image::open`] has validated.
fn known(descriptor: &Descriptor) -> Digest {
    Digest::try_from(descriptor.digest()).unwrap_or_else(|_| unreachable!("the image was opened by this digest"))
}

pub(crate) fn bad(image: &str, why: String) -> Error {
    Error::BadImage { image: image.to_owned(), why }
}

/// Returns whether a media type is that of an index, OCI's or Docker's.
pub(crate) fn is_index(media_type: &MediaType) -> bool {
    let docker = "application/vnd.docker.distribution.manifest.list.v2+json";
    *media_type == MediaType::ImageIndex || media_type.as_ref() == docker
}

/// Returns whether a media type is that of a manifest, OCI's or Docker's.
pub(crate) fn is_manifest(media_type: &MediaType) -> bool {
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    *media_type == MediaType::ImageManifest || media_type.as_ref() == docker
}

#[cfg(test)]
pub(crate) mod tests {
    use oci_spec::image::Descriptor;
    use serde_json::json;

    use super::{Budget, descriptor};
    use crate::store::tests::scratch;
    use crate::{Compression, Content, Image, Store, Tree, layer};

    pub(crate) const NAME: &str = "docker.io/virtualcluster/manager-amd64:latest";

    /// Writes and tags an image with two layers, one of which contains these bytes.
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

    /// Writes a modified manifest of `image`.
    fn changed(store: &Store, image: &Image, change: impl FnOnce(&mut serde_json::Value)) -> Descriptor {
        let mut manifest: serde_json::Value = store.document(&image.digest()).unwrap();
        change(&mut manifest);
        descriptor("application/vnd.oci.image.manifest.v1+json", store.put_document(&manifest).unwrap())
    }

    /// Writes a manifest of `image` whose configuration has another variant.
    fn variant(store: &Store, image: &Image, variant: &str) -> Descriptor {
        let mut config: serde_json::Value = store.document(&image.platforms[0].config_digest()).unwrap();
        config["variant"] = json!(variant);
        let config = store.put_document(&config).unwrap();
        changed(store, image, |manifest| {
            manifest["config"]["digest"] = json!(config.digest);
            manifest["config"]["size"] = json!(config.size);
        })
    }

    #[test]
    fn the_best_variant_of_an_index_is_taken_wherever_it_stands() {
        let (_folder, store) = scratch();
        let image = image(&store, Compression::Gzip, b"x");
        let [v3, v2] = ["v3", "v2"].map(|name| variant(&store, &image, name));
        let index = index(&store, &[v3, image.target.clone(), v2], 1);
        let opened = Image::open(&store, "x", &index).unwrap();
        let best = |wanted: &str| opened.platform(&wanted.parse().unwrap()).map(|one| one.platform.to_string());
        assert_eq!(best("linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(best("linux/amd64/v2").as_deref(), Some("linux/amd64/v2"));
        assert_eq!(best("linux/amd64/v4").as_deref(), Some("linux/amd64/v3"));
    }

    #[test]
    fn artifacts_beside_images_are_passed_over_and_named_where_they_are_alone() {
        let (_folder, store) = scratch();
        let image = image(&store, Compression::Gzip, b"x");
        let empty = store.put(b"{}").unwrap();
        let artifact = changed(&store, &image, |manifest| {
            manifest["artifactType"] = json!("application/vnd.example.sbom");
            manifest["config"] =
                json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty.digest, "size": 2});
        });
        // The configuration may be stored elsewhere, or nowhere.
        let absent = changed(&store, &image, |manifest| {
            let digest = crate::Digest::of(b"absent");
            manifest["config"] =
                json!({"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": digest, "size": 6});
        });
        let other = descriptor("application/vnd.oci.artifact.manifest.v1+json", store.put(b"{ }").unwrap());
        for beside in [&artifact, &absent, &other] {
            let index = index(&store, &[beside.clone(), image.target.clone()], 1);
            assert_eq!(Image::open(&store, "x", &index).unwrap().platforms, image.platforms);
        }
        let said = Image::open(&store, "x", &artifact).unwrap_err().to_string();
        assert_eq!(said, "reading image x: it is an artifact (application/vnd.example.sbom), not an image");
        let alone = index(&store, &[absent], 1);
        assert!(Image::open(&store, "x", &alone).unwrap_err().to_string().contains("vnd.cncf.helm.config"));
        // A manifest with an unknown media type of its configuration is an image if the configuration is valid.
        let odd =
            changed(&store, &image, |manifest| manifest["config"]["mediaType"] = json!("application/octet-stream"));
        assert_eq!(Image::open(&store, "x", &odd).unwrap().platforms[0].layers, image.platforms[0].layers);
    }

    #[test]
    fn indexes_in_an_index_are_followed_and_kept() {
        let (_folder, store) = scratch();
        let image = image(&store, Compression::Gzip, b"x");
        let mut target = index(&store, std::slice::from_ref(&image.target), 1);
        let mut deep = vec![target.clone()];
        for _ in 0..7 {
            target = index(&store, &[target], 1);
            deep.insert(0, target.clone());
        }
        let opened = Image::open(&store, "x", &target).unwrap();
        assert_eq!(opened.platforms[0].indexes, deep[1..]);
        assert_eq!(opened.platforms[0].layers, image.platforms[0].layers);
        let blobs = opened.blobs();
        assert!(deep.iter().all(|one| blobs.iter().any(|blob| blob.digest() == one.digest())), "{blobs:?}");
        assert_eq!(blobs.last().unwrap().digest(), target.digest());
        opened.check_complete(&store).unwrap();
        let said = Image::open(&store, "x", &index(&store, &[target], 1)).unwrap_err().to_string();
        assert_eq!(said, "reading image x: its image indexes are nested more than 8 levels deep");
    }

    /// Writes an index that lists each of these manifests this many times.
    fn index(store: &Store, manifests: &[Descriptor], times: usize) -> Descriptor {
        let named: Vec<_> = manifests.iter().flat_map(|manifest| std::iter::repeat_n(manifest, times)).collect();
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": named});
        descriptor(media_type, store.put_document(&index).unwrap())
    }

    /// Writes manifests of one image that differ only in an annotation.
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
        let mut open = || Image::find(&mut budget, &store, "x", &few).map(|found| found.unwrap().platforms.len());
        assert_eq!(open().unwrap(), 10);
        let said = (0..10).find_map(|_| open().err()).unwrap().to_string();
        assert_eq!(said, "reading image x: the total size of its manifests exceeds 20000 bytes");
    }
}
