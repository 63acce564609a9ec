//! The references of blobs: from an image index to its manifests, from a manifest to its layers and configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use oci_spec::image::Descriptor;
use serde::Deserialize;

use crate::image::{bad, digest_of, is_index, is_manifest};
use crate::json::DOCUMENT_LIMIT;
use crate::{BlobReader, Digest, Error, Store};

/// Reads each document once.
pub(super) struct Reach<'a> {
    store: &'a Store,
    sizes: &'a BTreeMap<Digest, u64>,
    /// What each blob that was looked into names; `None` for one that is no document.
    known: BTreeMap<Digest, Option<References>>,
}

/// The blobs that a document references.
struct References {
    /// A manifest's layers and configuration.
    parts: Vec<Digest>,
    /// An index's manifests: it stays whole when only one platform of it was pulled.
    choices: Vec<Digest>,
}

/// The part of manifests and indexes, in whosever words, that names other blobs.
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

    /// What an image's or a root's target leads to, itself with it.
    ///
    /// # Errors
    /// When a document on the way is there and cannot be read: what it leads to is not known then.
    pub(super) fn target(&mut self, name: &str, target: &Descriptor) -> Result<BTreeSet<Digest>, Error> {
        let digest = digest_of(target, name)?;
        let document = is_index(target.media_type()) || is_manifest(target.media_type());
        if document && self.sizes.contains_key(&digest) && self.named(&digest)?.is_none() {
            return Err(bad(name, format!("{digest} is not a valid {}", target.media_type())));
        }
        let mut found = BTreeSet::new();
        let mut todo = vec![digest];
        // Not by recursion: an archive from elsewhere may have indexes of indexes to any depth.
        while let Some(digest) = todo.pop() {
            if self.sizes.contains_key(&digest) && found.insert(digest) {
                todo.extend(self.named(&digest)?.into_iter().flat_map(References::all));
            }
        }
        Ok(found)
    }

    /// What these lead to, themselves with it, beyond what is `known` to be led to. A damaged document leads nowhere.
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

    /// Whether blobs and everything they lead to are there and can be read.
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
    /// The digest, if it is one of those that blobs here have.
    fn digest(self) -> Option<Digest> {
        self.digest?.parse().ok()
    }
}
