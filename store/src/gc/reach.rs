//! The references between blobs: from an image index to its manifests, and from a manifest to its layers and
//! configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use oci_spec::image::Descriptor;
use serde::Deserialize;

use crate::image::{bad, digest_of, is_index, is_manifest};
use crate::json::DOCUMENT_LIMIT;
use crate::{BlobReader, Digest, Error, Store};

/// Resolves references; reads each document once.
pub(super) struct Reach<'a> {
    store: &'a Store,
    sizes: &'a BTreeMap<Digest, u64>,
    /// The references of each examined blob; `None` if the blob is not a document.
    known: BTreeMap<Digest, Option<References>>,
}

/// The blobs that a document references.
struct References {
    /// The layers and configuration of a manifest.
    parts: Vec<Digest>,
    /// The manifests of an index, which may be incomplete: a pull may have fetched a single platform.
    choices: Vec<Digest>,
}

/// The fields of OCI and Docker manifests and indexes that reference other blobs.
#[derive(Deserialize)]
struct Links {
    #[serde(default)]
    manifests: Vec<Link>,
    #[serde(default)]
    layers: Vec<Link>,
    config: Option<Link>,
}

#[derive(Deserialize)]
struct Link {
    digest: Option<String>,
}

impl References {
    fn all(&self) -> impl Iterator<Item = Digest> {
        self.parts.iter().chain(&self.choices).copied()
    }
}

impl<'a> Reach<'a> {
    pub(super) fn new(store: &'a Store, sizes: &'a BTreeMap<Digest, u64>) -> Self {
        Self { store, sizes, known: BTreeMap::new() }
    }

    /// Returns all blobs that are reachable from the target of an image or root, including the target.
    ///
    /// # Errors
    /// When an existing document cannot be read, because its references are then unknown.
    pub(super) fn target(&mut self, name: &str, target: &Descriptor) -> Result<BTreeSet<Digest>, Error> {
        let digest = digest_of(target, name)?;
        let document = is_index(target.media_type()) || is_manifest(target.media_type());
        if document && self.sizes.contains_key(&digest) && self.named(&digest)?.is_none() {
            return Err(bad(name, format!("{digest} is not a valid {}", target.media_type())));
        }
        let mut found = BTreeSet::new();
        let mut todo = vec![digest];
        // Not recursive, because the indexes of a foreign archive may be nested to any depth.
        while let Some(digest) = todo.pop() {
            if self.sizes.contains_key(&digest) && found.insert(digest) {
                todo.extend(self.named(&digest)?.into_iter().flat_map(References::all));
            }
        }
        Ok(found)
    }

    /// Returns all blobs that are reachable from these, including them, without the `known` ones. Ignores the
    /// references of damaged documents.
    pub(super) fn beyond(
        &mut self,
        from: impl IntoIterator<Item = Digest>,
        known: &BTreeSet<Digest>,
    ) -> BTreeSet<Digest> {
        let mut found = BTreeSet::new();
        let mut todo: Vec<Digest> = from.into_iter().collect();
        while let Some(digest) = todo.pop() {
            if self.sizes.contains_key(&digest) && !known.contains(&digest) && found.insert(digest) {
                todo.extend(self.named(&digest).ok().flatten().into_iter().flat_map(References::all));
            }
        }
        found
    }

    /// Returns whether these blobs, and all parts that they reference, exist and can be read.
    pub(super) fn is_whole(&mut self, from: impl IntoIterator<Item = Digest>) -> bool {
        let mut seen = BTreeSet::new();
        let mut todo: Vec<Digest> = from.into_iter().collect();
        while let Some(digest) = todo.pop() {
            if seen.insert(digest) {
                if !self.sizes.contains_key(&digest) {
                    return false;
                }
                match self.named(&digest) {
                    Ok(Some(named)) => todo.extend(&named.parts),
                    Ok(None) => {}
                    Err(_) => return false,
                }
            }
        }
        true
    }

    fn named(&mut self, digest: &Digest) -> Result<Option<&References>, Error> {
        if !self.known.contains_key(digest) {
            let named = self.read(digest)?;
            self.known.insert(*digest, named);
        }
        Ok(self.known.get(digest).and_then(Option::as_ref))
    }

    fn read(&self, digest: &Digest) -> Result<Option<References>, Error> {
        if self.sizes.get(digest).is_none_or(|size| *size > DOCUMENT_LIMIT) {
            return Ok(None);
        }
        let mut reader = BlobReader::open_now(self.store, digest)?.without_quarantine();
        let failed = |error| Error::io("reading", self.store.blob_path(digest))(error);
        let mut bytes = vec![0];
        if reader.read(&mut bytes).map_err(failed)? == 0 || bytes != b"{" {
            return Ok(None);
        }
        reader.read_to_end(&mut bytes).map_err(failed)?;
        Ok(serde_json::from_slice::<Links>(&bytes).ok().map(|links| References {
            parts: links.layers.into_iter().chain(links.config).filter_map(Link::digest).collect(),
            choices: links.manifests.into_iter().filter_map(Link::digest).collect(),
        }))
    }
}

impl Link {
    /// Returns the digest if it is valid and SHA-256.
    fn digest(self) -> Option<Digest> {
        self.digest?.parse().ok()
    }
}
