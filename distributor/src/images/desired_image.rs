//! An image as it should be on a node of one platform: its names, its blobs with the labels that link them, and its
//! layers with the snapshots to which they unpack.

use std::collections::BTreeMap;

use oci_spec::image::Descriptor;
use vcstore::{Blob, Digest, Image, Platform, PlatformImage};

use super::image_name::by_digest;
use crate::images::push_label::{PushLabel, Time};
use crate::protocol::proto;

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredImage {
    /// Its names, by tag and by digest. An image without a tag has one name.
    pub names: Vec<String>,
    /// The blob that the names refer to: an index or a manifest.
    pub target: ImageBlob,
    /// All blobs of the image, each once, children before parents.
    pub blobs: Vec<ImageBlob>,
    /// The digest of the image configuration.
    pub config: Digest,
    /// Its layers, bottom first.
    pub layers: Vec<DesiredLayer>,
}

/// A blob and its role in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageBlob {
    /// The blob.
    pub blob: Blob,
    /// Its media type.
    pub media_type: String,
    /// The labels that containerd needs: references to its children, or the diff ID of a layer.
    pub labels: Labels,
}

/// A layer and its position in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DesiredLayer {
    /// The digest of its blob.
    pub digest: Digest,
    /// The digest of its uncompressed content.
    pub diff_id: Digest,
    /// The digest of the layer applied on top of all layers below it (OCI image specification, config.md, "Layer
    /// ChainID").
    pub chain_id: Digest,
}

impl DesiredImage {
    /// Returns these images as they should be on nodes, for every platform that they support.
    #[must_use]
    pub fn on_any_platform(images: &[Image]) -> Vec<Self> {
        let every = |image: &Image| -> Vec<Self> {
            image.platforms.iter().filter_map(|this| Self::new(image, &this.platform)).collect()
        };
        images.iter().flat_map(every).collect()
    }

    /// Returns `image` as it should be on a node of `platform`, or `None` if the image does not support the platform.
    #[must_use]
    pub fn new(image: &Image, platform: &Platform) -> Option<Self> {
        let this = image.platform(platform)?;
        let layers = chain(this);
        let mut blobs: Vec<ImageBlob> = Vec::new();
        for layer in &this.layers {
            let labels = [("containerd.io/uncompressed".to_owned(), layer.diff_id.to_string())].into();
            blobs.push(ImageBlob { labels, ..ImageBlob::of(&layer.descriptor())? });
        }
        let config = ImageBlob::of(&this.config)?;
        let children = this.layers.iter().enumerate().map(|(index, layer)| (format!("l.{index}"), layer.digest));
        let manifest =
            ImageBlob::of(&this.manifest)?.keeping(children.chain([("config".to_owned(), config.blob.digest)]));
        let (config_digest, manifest_digest) = (config.blob.digest, manifest.blob.digest);
        blobs.extend([config, manifest]);
        let mut below = manifest_digest;
        for index in this.indexes.iter().rev() {
            let index = ImageBlob::of(index)?.keeping([("m.0".to_owned(), below)]);
            below = index.blob.digest;
            blobs.push(index);
        }
        let target = ImageBlob::of(&image.target)?;
        let target = if target.blob.digest == manifest_digest {
            target
        } else {
            let target = target.keeping([("m.0".to_owned(), below)]);
            blobs.push(target.clone());
            target
        };
        // An image may contain the same layer twice, for example the empty layer.
        let mut seen = std::collections::BTreeSet::new();
        blobs.retain(|part| seen.insert(part.blob.digest));
        let mut names = vec![image.name.clone(), by_digest(&image.name, &target.blob.digest)];
        names.dedup();
        Some(Self { names, target, blobs, config: config_digest, layers })
    }

    /// The name that users know.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The chain id of the whole image, or `None` if it has no layers.
    #[must_use]
    pub fn top(&self) -> Option<Digest> {
        self.layers.last().map(|layer| layer.chain_id)
    }

    /// Returns the labels for the image records of a push that began at the time `at`.
    pub(crate) fn pushed(&self, at: Time) -> PushLabel {
        PushLabel { name: self.name().to_owned(), digest: self.target.blob.digest, at }
    }

    /// Builds the request to finish this image, for a push that began at the time `at`. Leaves out blobs for which
    /// `absent` returns true.
    pub(crate) fn finish(&self, at: Time, absent: impl Fn(&Digest) -> bool) -> proto::FinishRequest {
        let media_types: BTreeMap<Digest, &ImageBlob> =
            self.blobs.iter().map(|part| (part.blob.digest, part)).collect();
        let blobs = self.blobs.iter().filter(|part| !absent(&part.blob.digest));
        proto::FinishRequest {
            names: self.names.clone(),
            target: Some(self.target.descriptor()),
            blobs: blobs
                .map(|part| proto::Blob {
                    digest: part.blob.digest.to_string(),
                    size: part.blob.size,
                    labels: part.labels.clone().into_iter().collect(),
                })
                .collect(),
            config: self.config.to_string(),
            pushed: Some(self.pushed(at).wire()),
            layers: self
                .layers
                .iter()
                .map(|layer| proto::Layer {
                    descriptor: media_types.get(&layer.digest).map(|part| part.descriptor()),
                    diff_id: layer.diff_id.to_string(),
                    chain_id: layer.chain_id.to_string(),
                })
                .collect(),
        }
    }
}

impl ImageBlob {
    /// The digests that it keeps from garbage collection.
    pub(crate) fn keeps(&self) -> impl Iterator<Item = Digest> {
        let references = self.labels.iter().filter(|(key, _)| key.starts_with(GC_REF));
        references.filter_map(|(_, digest)| digest.parse().ok())
    }

    fn of(descriptor: &Descriptor) -> Option<Self> {
        let digest = Digest::try_from(descriptor.digest()).ok()?;
        let blob = Blob { digest, size: descriptor.size() };
        Some(Self { blob, media_type: descriptor.media_type().to_string(), labels: Labels::new() })
    }

    fn keeping(mut self, children: impl IntoIterator<Item = (String, Digest)>) -> Self {
        self.labels.extend(children.into_iter().map(|(key, child)| (format!("{GC_REF}{key}"), child.to_string())));
        self
    }

    fn descriptor(&self) -> proto::Descriptor {
        proto::Descriptor {
            media_type: self.media_type.clone(),
            digest: self.blob.digest.to_string(),
            size: self.blob.size,
        }
    }
}

/// The prefix of labels that keep other content from garbage collection.
const GC_REF: &str = "containerd.io/gc.ref.content.";

fn chain(image: &PlatformImage) -> Vec<DesiredLayer> {
    let mut below: Option<Digest> = None;
    image
        .layers
        .iter()
        .map(|layer| {
            let chain_id = match below {
                Some(below) => Digest::of(format!("{below} {}", layer.diff_id).as_bytes()),
                None => layer.diff_id,
            };
            below = Some(chain_id);
            DesiredLayer { digest: layer.digest, diff_id: layer.diff_id, chain_id }
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use oci_spec::image::MediaType;
    use vcstore::{Layer, PlatformImage};

    use super::*;

    /// Returns an image of layers with these contents, for `platforms`; an index if there are several platforms.
    pub(crate) fn image(name: &str, layers: &[&str], platforms: &[&str]) -> Image {
        let blob = |what: &str| Blob { digest: Digest::of(what.as_bytes()), size: what.len() as u64 };
        let descriptor = |kind: MediaType, what: &str| Descriptor::new(kind, blob(what).size, blob(what).digest);
        let platforms: Vec<PlatformImage> = platforms
            .iter()
            .map(|platform| PlatformImage {
                platform: Platform::linux(platform),
                indexes: Vec::new(),
                manifest: descriptor(MediaType::ImageManifest, &format!("manifest {name} {layers:?} {platform}")),
                config: descriptor(MediaType::ImageConfig, &format!("config {layers:?} {platform}")),
                layers: layers
                    .iter()
                    .map(|layer| Layer {
                        digest: blob(layer).digest,
                        diff_id: blob(&format!("tar of {layer}")).digest,
                        size: blob(layer).size,
                        media_type: MediaType::ImageLayerZstd.to_string(),
                    })
                    .collect(),
            })
            .collect();
        let target = match platforms.as_slice() {
            [one] => one.manifest.clone(),
            _ => descriptor(MediaType::ImageIndex, &format!("index {name} {layers:?}")),
        };
        Image { name: name.into(), target, platforms }
    }

    const NAME: &str = "docker.io/virtualcluster/manager-amd64:latest";

    #[test]
    fn an_image_is_wanted_by_tag_and_by_digest_children_first() {
        let image = image(NAME, &["base", "manager"], &["amd64"]);
        let desired = DesiredImage::new(&image, &Platform::default()).expect("its platform");
        let digest = Digest::try_from(image.target.digest()).expect("digest");
        assert_eq!(desired.names, [NAME.to_owned(), format!("docker.io/virtualcluster/manager-amd64@{digest}")]);
        let kinds: Vec<_> = desired.blobs.iter().map(|part| part.media_type.rsplit('.').next().unwrap_or("")).collect();
        assert_eq!(kinds, ["tar+zstd", "tar+zstd", "v1+json", "v1+json"]);
        let manifest = &desired.blobs[3];
        let keys: Vec<_> = manifest.labels.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "containerd.io/gc.ref.content.config",
                "containerd.io/gc.ref.content.l.0",
                "containerd.io/gc.ref.content.l.1"
            ]
        );
        assert_eq!(manifest.keeps().count(), 3);
    }

    #[test]
    fn chain_ids_follow_the_image_specification() {
        let image = image(NAME, &["a", "b", "c"], &["amd64"]);
        let layers = DesiredImage::new(&image, &Platform::default()).expect("its platform").layers;
        assert_eq!(layers[0].chain_id, layers[0].diff_id);
        let second = Digest::of(format!("{} {}", layers[0].diff_id, layers[1].diff_id).as_bytes());
        assert_eq!(layers[1].chain_id, second);
        assert_eq!(layers[2].chain_id, Digest::of(format!("{second} {}", layers[2].diff_id).as_bytes()));
    }

    #[test]
    fn of_an_index_only_the_nodes_platform_is_wanted() {
        let image = image(NAME, &["base"], &["amd64", "arm64"]);
        let desired = DesiredImage::new(&image, &Platform::linux("arm64")).expect("its platform");
        assert_eq!(desired.blobs.len(), 4, "layer, config, manifest, index");
        let manifest = Digest::try_from(image.platforms[1].manifest.digest()).expect("digest");
        assert_eq!(desired.target.keeps().collect::<Vec<_>>(), [manifest]);
        assert_eq!(DesiredImage::new(&image, &Platform::linux("s390x")), None);
    }

    #[test]
    fn a_layer_that_occurs_twice_is_one_blob_and_two_snapshots() {
        let image = image(NAME, &["empty", "app", "empty"], &["amd64"]);
        let desired = DesiredImage::new(&image, &Platform::default()).expect("its platform");
        assert_eq!((desired.blobs.len(), desired.layers.len()), (4, 3));
        let request = desired.finish(Time::now(), |_| false);
        assert_eq!((request.blobs.len(), request.layers.len()), (4, 3));
        assert!(request.layers.iter().all(|layer| layer.descriptor.is_some()));
    }
}
