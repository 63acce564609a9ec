//! A base from a file: an OCI image layout or a `docker save` archive.

use camino::Utf8Path;
use oci_spec::image::{Descriptor, MediaType};
use vcstore::{Action, Blob, Image, Outputs, Platform, Store};

use super::{Base, digest};
use crate::lock::Lock;
use crate::progress::Progress;
use crate::source::hash_file;
use crate::{Error, base};

/// Imports the only image of the file into the store, unless the store has it.
///
/// # Errors
/// When the file is damaged, holds several images, or differs from the image that the lock pins.
pub(super) fn realise(
    name: &str,
    path: &Utf8Path,
    platform: &Platform,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
) -> Result<Base, Error> {
    // The index of a layout names all its other content by digest.
    let content = if path.is_dir() { path.join("index.json") } else { path.to_owned() };
    let action = Action::new("base", name).input("file", hash_file(&content)?)?;
    let outputs = progress.realise(store, &action, || {
        let images = vcstore::archive::import(store, path)?;
        let image = one(name, &images)?;
        let mut outputs = Outputs::new().with_note("media type", image.target.media_type().to_string());
        for (number, blob) in image.blobs().iter().enumerate() {
            let blob = Blob { digest: digest(name, blob)?, size: blob.size() };
            outputs = outputs.with_blob(&format!("blob {number}"), blob);
        }
        let target = Blob { digest: image.digest(), size: image.target.size() };
        Ok(outputs.with_blob("target", target))
    })?;
    let (Some(target), Some(media_type)) = (outputs.blob("target"), outputs.note("media type")) else {
        return Err(Error::Internal(format!("the base {name} was recorded without its manifest")));
    };
    let target = Descriptor::new(MediaType::from(media_type), target.size, target.digest);
    let base = base::Base::open(store, name, None, &target, platform)?;
    let found = base.digest()?;
    match lock.manifest(name, platform)? {
        Some(pinned) if pinned != found => Err(Error::BaseDrift {
            base: name.to_owned(),
            platform: platform.to_string(),
            lock: lock.path().to_owned(),
            pinned: pinned.to_string(),
            found: found.to_string(),
        }),
        _ => {
            lock.pin_manifest(name, platform, found);
            Ok(base)
        }
    }
}

/// Returns the image of a file. The file may give one image several names.
fn one<'a>(name: &str, images: &'a [Image]) -> Result<&'a Image, Error> {
    match images {
        [first, others @ ..] if others.iter().all(|other| other.target == first.target) => Ok(first),
        _ => {
            let names = images.iter().map(|image| image.name.clone()).collect();
            Err(Error::ManyImages { base: name.to_owned(), names })
        }
    }
}
