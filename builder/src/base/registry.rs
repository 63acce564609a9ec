//! A base from a registry, pinned by the digest of its manifest. All content is verified against the digests that name
//! it, so neither the registry nor a proxy needs to be trusted.

use std::collections::{BTreeSet, VecDeque};

use oci_spec::distribution::Reference;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use vcnetwork::Network;
use vcregistry::{Document, INDEXES, MANIFESTS, OLD_MANIFEST, Patience, Repository};
use vcstore::{Action, Blob, Digest, Outputs, Platform, Store};

use super::{Base, digest};
use crate::Error;
use crate::config::Config;
use crate::lock::Lock;
use crate::offline_inputs::InputsDir;
use crate::progress::Progress;

/// The maximum number of layers that are pulled in parallel.
const AT_ONCE: usize = 4;

/// The maximum number of documents that are fetched from below an index to find its platforms.
const ASKED_LIMIT: usize = 16;

/// Pulls the image into the store, unless the store has it: the pinned image, or else the current target of the
/// reference.
///
/// # Errors
/// When the registry cannot be reached, refuses, or has no such image.
pub(super) fn realise(
    reference: &Reference,
    platform: &Platform,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
) -> Result<Base, Error> {
    let name = reference.whole();
    let manifest = resolve(reference, platform, lock)?;
    let action = Action::new("base", format!("{name} {platform}")).input("manifest", manifest)?;
    let outputs = progress.realise(store, &action, || match InputsDir::of(lock.network()) {
        Some(folder) => take(reference, &manifest, folder, store),
        None => Image::at(reference, lock.network())?.pull(&manifest, store),
    })?;
    let (Some(blob), Some(media_type)) = (outputs.blob("manifest"), outputs.note("media type")) else {
        return Err(Error::Internal(format!("the base {name} was recorded without its manifest")));
    };
    let target = Descriptor::new(MediaType::from(media_type), blob.size, blob.digest);
    Base::open(store, &name, Some(name.clone()), &target, platform)
}

/// Returns the pinned manifest, or else the current target of the reference, which it pins in `lock`.
///
/// # Errors
/// When the registry cannot be reached, refuses, or has no such image.
pub(super) fn resolve(reference: &Reference, platform: &Platform, lock: &Lock) -> Result<Digest, Error> {
    let name = reference.whole();
    let manifest = match lock.manifest(&name, platform)? {
        Some(pinned) => pinned,
        None => Image::at(reference, lock.network())?.resolve(platform)?,
    };
    lock.pin_manifest(&name, platform, manifest);
    Ok(manifest)
}

/// An image in a registry, with the client that fetches it.
struct Image<'a> {
    reference: &'a Reference,
    repository: Repository,
    runtime: tokio::runtime::Runtime,
}

impl<'a> Image<'a> {
    fn at(reference: &'a Reference, network: &Network) -> Result<Self, Error> {
        let permit = network.permit(format!("pulling base {}", reference.whole()))?;
        let config = Config::of_user()?;
        let (registry, name) = (reference.registry(), reference.repository());
        let repository = Repository::to_read(registry, name, &config.registries, Patience::MUCH, permit);
        let repository = repository.map_err(failed(reference))?;
        Ok(Self { reference, repository, runtime: vcregistry::runtime().map_err(failed(reference))? })
    }

    /// Returns the digest of the manifest for `platform`.
    fn resolve(&self, platform: &Platform) -> Result<Digest, Error> {
        let digest_or_tag = self.reference.digest().or(self.reference.tag()).unwrap_or("latest");
        let top = self.document(digest_or_tag)?;
        if !INDEXES.contains(&top.media_type.as_str()) {
            blobs(self.reference, &top.bytes, &top.media_type)?;
            return Ok(Digest::of(&top.bytes));
        }
        let offered = self.offered(top, platform)?;
        let fits = offered.iter().filter_map(|(one, digest)| Some((one.distance(platform)?, digest)));
        // `min_by_key` returns the first of equal matches.
        if let Some((_, digest)) = fits.min_by_key(|(distance, _)| *distance) {
            return Ok(*digest);
        }
        let (base, platform) = (self.reference.whole(), platform.clone());
        let mut has: Vec<_> = offered.into_iter().map(|(one, _)| one.to_string()).collect();
        has.dedup();
        Err(Error::NoPlatform { base, platform, has })
    }

    /// Returns the images of an index, and those of nested indexes that may have one for `platform`.
    fn offered(&self, top: Document, platform: &Platform) -> Result<Vec<(Platform, Digest)>, Error> {
        let mut offered = Vec::new();
        let mut asked = BTreeSet::new();
        let mut indexes = VecDeque::from([top]);
        while let Some(Document { bytes, .. }) = indexes.pop_front() {
            let index: ImageIndex = serde_json::from_slice(&bytes).map_err(|why| self.bad(why.to_string()))?;
            for one in index.manifests().iter().filter(|one| one.artifact_type().is_none()) {
                let digest = digest(&self.reference.whole(), one)?;
                let kind = one.media_type().to_string();
                let its = one.platform().as_ref().map(of);
                let (is_index, is_manifest) = (INDEXES.contains(&kind.as_str()), MANIFESTS.contains(&kind.as_str()));
                match its {
                    // An index lists attestations as images for unknown/unknown.
                    Some(its) if its.os == "unknown" => {}
                    Some(its) if is_manifest => offered.push((its, digest)),
                    Some(its) if !its.serves(platform) => {}
                    _ if !is_index && !is_manifest => {}
                    its => {
                        if asked.len() == ASKED_LIMIT {
                            let why = "the image index of an image must not contain further image indexes, or manifests without a platform";
                            return Err(self.bad(format!("it refers to more than {ASKED_LIMIT} documents: {why}")));
                        }
                        if !asked.insert(digest) {
                            continue;
                        }
                        let document = self.document(&digest.to_string())?;
                        if is_index {
                            indexes.push_back(document);
                        } else if its.is_none() {
                            offered.extend(self.platform_of(&document)?.map(|its| (its, digest)));
                        }
                    }
                }
            }
        }
        Ok(offered)
    }

    /// Reads the platform of a manifest from its configuration, for an index that does not state it. Returns `None` for
    /// an artifact.
    fn platform_of(&self, document: &Document) -> Result<Option<Platform>, Error> {
        let manifest: ImageManifest =
            serde_json::from_slice(&document.bytes).map_err(|why| self.bad(why.to_string()))?;
        if vcstore::artifact_kind(&manifest).is_some() {
            return Ok(None);
        }
        let config = digest(&self.reference.whole(), manifest.config())?;
        let bytes = self.runtime.block_on(self.repository.small_blob(&config)).map_err(failed(self.reference))?;
        let config: ImageConfiguration = serde_json::from_slice(&bytes).map_err(|why| self.bad(why.to_string()))?;
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        Ok(Some(Platform { os, architecture, variant: config.variant().clone() }))
    }

    /// Pulls a manifest and all blobs that it references.
    fn pull(&self, manifest: &Digest, store: &Store) -> Result<Outputs, Error> {
        let Document { bytes, media_type } = self.document(&manifest.to_string())?;
        let blobs = blobs(self.reference, &bytes, &media_type)?;
        let pulls = blobs.iter().map(|blob| self.repository.pull_blob(*blob, store));
        self.runtime.block_on(vcregistry::several(AT_ONCE, pulls)).map_err(failed(self.reference))?;
        outputs(&bytes, media_type, blobs, store)
    }

    fn document(&self, digest_or_tag: &str) -> Result<Document, Error> {
        self.runtime.block_on(self.repository.document(digest_or_tag)).map_err(failed(self.reference))
    }

    fn bad(&self, why: String) -> Error {
        bad(self.reference, why)
    }
}

/// Imports a manifest and all blobs that it references from a folder of offline inputs.
fn take(reference: &Reference, manifest: &Digest, folder: InputsDir<'_>, store: &Store) -> Result<Outputs, Error> {
    let attempt = format!("taking base {}", reference.whole());
    let bytes = folder.read(manifest, vcregistry::DOCUMENT_LIMIT, &attempt)?;
    let media_type = vcregistry::media_type(&bytes).map_err(|why| bad(reference, why.to_string()))?;
    let blobs = blobs(reference, &bytes, &media_type)?;
    blobs.iter().try_for_each(|blob| folder.take(&blob.digest, store, &attempt))?;
    outputs(&bytes, media_type, blobs, store)
}

/// Returns the blobs that a manifest references.
fn blobs(reference: &Reference, manifest: &[u8], media_type: &str) -> Result<Vec<Blob>, Error> {
    let not_an_image = |kind: &str| Error::NotAnImage { base: reference.whole(), kind: kind.to_owned() };
    if media_type == OLD_MANIFEST {
        return Err(Error::OldManifest { base: reference.whole() });
    }
    if !MANIFESTS.contains(&media_type) {
        return Err(not_an_image(media_type));
    }
    let parsed: ImageManifest = serde_json::from_slice(manifest).map_err(|why| bad(reference, why.to_string()))?;
    // If the media type of the configuration is unknown, the layers decide whether the manifest is an image.
    let kinds = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
    let is_layer = |one: &Descriptor| kinds.iter().any(|kind| one.media_type().as_ref().starts_with(kind));
    if let Some(kind) = vcstore::artifact_kind(&parsed)
        && (parsed.artifact_type().is_some() || !parsed.layers().iter().all(is_layer) || parsed.layers().is_empty())
    {
        return Err(not_an_image(&kind));
    }
    let blob = |blob: &Descriptor| Ok(Blob { digest: digest(&reference.whole(), blob)?, size: blob.size() });
    parsed.layers().iter().chain([parsed.config()]).map(blob).collect()
}

fn of(platform: &oci_spec::image::Platform) -> Platform {
    Platform {
        os: platform.os().to_string(),
        architecture: platform.architecture().to_string(),
        variant: platform.variant().clone(),
    }
}

/// Describes an image whose blobs are in the store, for the record of its action.
fn outputs(manifest: &[u8], media_type: String, blobs: Vec<Blob>, store: &Store) -> Result<Outputs, Error> {
    let mut outputs = Outputs::new().with_note("media type", media_type);
    for (number, blob) in blobs.into_iter().enumerate() {
        outputs = outputs.with_blob(&format!("blob {number}"), blob);
    }
    Ok(outputs.with_blob("manifest", store.put(manifest)?))
}

fn bad(reference: &Reference, why: String) -> Error {
    Error::BaseImage { base: reference.whole(), why }
}

fn failed(reference: &Reference) -> impl Fn(vcregistry::Error) -> Error {
    let (reference, registry) = (reference.whole(), reference.registry().to_owned());
    move |error| Error::Pull { reference: reference.clone(), registry: registry.clone(), source: Box::new(error) }
}
