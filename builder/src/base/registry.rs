//! A base from a registry. Pinned by the digest of its manifest; every byte is checked against the digest that names it, so
//! that no registry and no proxy on the way has to be believed.

use oci_spec::distribution::Reference;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use vcstore::{Action, Blob, Digest, Outputs, Platform, Store};

use super::{Base, digest};
use crate::Error;
use crate::carry::Folder;
use crate::config::Config;
use crate::lock::Lock;
use crate::network::Network;
use crate::progress::Progress;
use crate::registry::{self, Document, INDEXES, MANIFESTS, Patience, Repository};

/// How many layers are pulled at once.
const AT_ONCE: usize = 4;

/// Pulls the image into the store, unless the store has it: the one that is pinned, else the one the reference names now.
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
    let outputs = progress.realise(store, &action, || match lock.network().folder() {
        Some(folder) => take(reference, &manifest, folder, store),
        None => Image::at(reference, lock.network())?.pull(&manifest, store),
    })?;
    let (Some(blob), Some(media_type)) = (outputs.blob("manifest"), outputs.note("media type")) else {
        return Err(Error::Internal(format!("the base {name} was recorded without its manifest")));
    };
    let target = Descriptor::new(MediaType::from(media_type), blob.size, blob.digest);
    Base::open(store, &name, Some(name.clone()), &target, platform)
}

/// The manifest that is pinned, or that the reference names now and that `lock` then pins.
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

/// The image of a registry that is asked for.
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
        let repository = Repository::to_read(registry, name, &config, Patience::MUCH, permit);
        let repository = repository.map_err(failed(reference))?;
        Ok(Self { reference, repository, runtime: registry::runtime().map_err(failed(reference))? })
    }

    /// The digest of the manifest for `platform`.
    fn resolve(&self, platform: &Platform) -> Result<Digest, Error> {
        let digest_or_tag = self.reference.digest().or(self.reference.tag()).unwrap_or("latest");
        let Document { bytes, media_type } = self.document(digest_or_tag)?;
        if !INDEXES.contains(&media_type.as_str()) {
            return Ok(Digest::of(&bytes));
        }
        let index: ImageIndex = serde_json::from_slice(&bytes).map_err(|why| self.bad(why.to_string()))?;
        let of = |manifest: &Descriptor| {
            manifest.platform().as_ref().map(|one| Platform {
                os: one.os().to_string(),
                architecture: one.architecture().to_string(),
                variant: one.variant().clone(),
            })
        };
        let fits = |manifest: &&Descriptor| of(manifest).is_some_and(|one| one.serves(platform));
        let Some(found) = index.manifests().iter().find(fits) else {
            // Attestations stand in an index as images for unknown/unknown.
            let has = index.manifests().iter().filter_map(of).filter(|one| one.os != "unknown");
            let (base, platform) = (self.reference.whole(), platform.clone());
            return Err(Error::NoPlatform { base, platform, has: has.map(|one| one.to_string()).collect() });
        };
        digest(&self.reference.whole(), found)
    }

    /// Pulls a manifest and everything it names.
    fn pull(&self, manifest: &Digest, store: &Store) -> Result<Outputs, Error> {
        let Document { bytes, media_type } = self.document(&manifest.to_string())?;
        let blobs = blobs(self.reference, &bytes, &media_type)?;
        let pulls = blobs.iter().map(|blob| self.repository.pull_blob(*blob, store));
        self.runtime.block_on(registry::several(AT_ONCE, pulls)).map_err(failed(self.reference))?;
        outputs(&bytes, media_type, blobs, store)
    }

    fn document(&self, digest_or_tag: &str) -> Result<Document, Error> {
        self.runtime.block_on(self.repository.document(digest_or_tag)).map_err(failed(self.reference))
    }

    fn bad(&self, why: String) -> Error {
        bad(self.reference, why)
    }
}

/// Takes a manifest and everything it names from a folder of inputs.
fn take(reference: &Reference, manifest: &Digest, folder: Folder<'_>, store: &Store) -> Result<Outputs, Error> {
    let attempt = format!("taking base {}", reference.whole());
    let bytes = folder.read(manifest, registry::DOCUMENT_LIMIT, &attempt)?;
    let media_type = registry::media_type(&bytes).map_err(|why| bad(reference, why.to_string()))?;
    let blobs = blobs(reference, &bytes, &media_type)?;
    blobs.iter().try_for_each(|blob| folder.take(&blob.digest, store, &attempt))?;
    outputs(&bytes, media_type, blobs, store)
}

/// The blobs that a manifest names.
fn blobs(reference: &Reference, manifest: &[u8], media_type: &str) -> Result<Vec<Blob>, Error> {
    if !MANIFESTS.contains(&media_type) {
        return Err(bad(reference, format!("{} is {media_type}, and no image", Digest::of(manifest))));
    }
    let parsed: ImageManifest = serde_json::from_slice(manifest).map_err(|why| bad(reference, why.to_string()))?;
    let blob = |blob: &Descriptor| Ok(Blob { digest: digest(&reference.whole(), blob)?, size: blob.size() });
    parsed.layers().iter().chain([parsed.config()]).map(blob).collect()
}

/// What is recorded of an image whose blobs are in the store.
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

fn failed(reference: &Reference) -> impl Fn(registry::Error) -> Error {
    let (reference, registry) = (reference.whole(), reference.registry().to_owned());
    move |error| Error::Pull { reference: reference.clone(), registry: registry.clone(), source: Box::new(error) }
}
