//! Image manifests: writes them to the store with their configuration, and finds them in the outputs of an action.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};
use serde::Serialize;
use vcstore::{Layer, Outputs, Store};

use crate::Error;

/// Writes the configuration and the manifest of an image with these layers to the store.
///
/// # Errors
/// When the store cannot be written.
pub(crate) fn put<'a>(
    store: &Store,
    config: &impl Serialize,
    layers: impl IntoIterator<Item = &'a Layer>,
    annotations: HashMap<String, String>,
) -> Result<Outputs, Error> {
    let config = store.put_document(config)?;
    let layers = layers.into_iter().map(|layer| {
        let media_type = MediaType::from(oci_media_type(&layer.media_type));
        Descriptor::new(media_type, layer.size, layer.digest)
    });
    let mut manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(Descriptor::new(MediaType::ImageConfig, config.size, config.digest))
        .layers(layers.collect::<Vec<_>>())
        .build()
        .map_err(|why| Error::Internal(format!("making a manifest: {why}")))?;
    manifest.set_annotations((!annotations.is_empty()).then_some(annotations));
    Ok(Outputs::new().with_blob("config", config).with_blob("manifest", store.put_document(&manifest)?))
}

/// Returns the manifest in an image's outputs.
///
/// # Errors
/// When the outputs contain no manifest.
pub(crate) fn of(outputs: &Outputs) -> Result<Descriptor, Error> {
    let manifest = outputs.blob("manifest");
    let manifest = manifest.ok_or_else(|| Error::Internal("an image without a manifest".to_owned()))?;
    Ok(Descriptor::new(MediaType::ImageManifest, manifest.size, manifest.digest))
}

/// Returns the OCI media type of a layer: Docker's layers have the same format, and a manifest must not mix both sets
/// of types.
fn oci_media_type(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar" => "application/vnd.oci.image.layer.v1.tar",
        other => other,
    }
}
