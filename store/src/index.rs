//! `index.json`: the images of the store, by name.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};

use oci_spec::image::{Descriptor, ImageIndex};

use crate::store::replace;
use crate::{Error, Store, canonical_json};

/// The annotation from which containerd and Docker read the full name of an image.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The annotation of the OCI image specification (annotations.md) by which skopeo and other tools select an image.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

impl Store {
    /// Gives an image its full name. A name has one target: a previous image loses the name.
    ///
    /// # Errors
    /// When `index.json` cannot be read or written.
    pub fn tag(&self, name: &str, target: &Descriptor) -> Result<(), Error> {
        self.change_index(|images| {
            images.insert(name.to_owned(), target.clone());
        })
    }

    /// Removes a name; returns whether it existed.
    ///
    /// # Errors
    /// When `index.json` cannot be read or written.
    pub fn untag(&self, name: &str) -> Result<bool, Error> {
        self.change_index(|images| images.remove(name).is_some())
    }

    /// Returns the targets of all full names.
    ///
    /// # Errors
    /// When `index.json` cannot be read.
    pub fn images(&self) -> Result<BTreeMap<String, Descriptor>, Error> {
        let path = self.path().join("index.json");
        let bytes = fs::read(&path).map_err(Error::io("reading", &path))?;
        let index: ImageIndex =
            serde_json::from_slice(&bytes).map_err(|source| Error::Document { what: path.into_string(), source })?;
        Ok(index.manifests().iter().filter_map(|target| Some((name_of(target)?, bare(target)))).collect())
    }

    fn change_index<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Descriptor>) -> T) -> Result<T, Error> {
        let lock_path = self.locks().join("index.lock");
        let lock =
            File::options().create(true).append(true).open(&lock_path).map_err(Error::io("opening", &lock_path))?;
        lock.lock().map_err(Error::io("locking", &lock_path))?;
        let before = self.images()?;
        let mut images = before.clone();
        let result = change(&mut images);
        if images != before {
            let index = index_of(images.iter().map(|(name, target)| named(target, name, name)));
            replace(&self.tmp(), &self.path().join("index.json"), &canonical_json(&index)?)?;
        }
        Ok(result)
    }
}

/// Creates an index of these manifests.
pub(crate) fn index_of(manifests: impl IntoIterator<Item = Descriptor>) -> ImageIndex {
    let mut index = ImageIndex::default();
    index.set_schema_version(2);
    index.set_media_type(Some(oci_spec::image::MediaType::ImageIndex));
    index.set_manifests(manifests.into_iter().collect());
    index
}

/// Returns `target` with annotations for its full name and its reference name.
pub(crate) fn named(target: &Descriptor, name: &str, reference: &str) -> Descriptor {
    let mut target = bare(target);
    let names = [(CONTAINERD_NAME.to_owned(), name.to_owned()), (REF_NAME.to_owned(), reference.to_owned())];
    target.set_annotations(Some(HashMap::from(names)));
    target
}

/// Returns the full name of a descriptor in `index.json`.
pub(crate) fn name_of(target: &Descriptor) -> Option<String> {
    let annotations = target.annotations().as_ref()?;
    annotations.get(CONTAINERD_NAME).or_else(|| annotations.get(REF_NAME)).cloned()
}

/// Returns `target` without annotations, because names are kept separately.
pub(crate) fn bare(target: &Descriptor) -> Descriptor {
    let mut target = target.clone();
    target.set_annotations(None);
    target
}

#[cfg(test)]
mod tests {
    use crate::image::descriptor;
    use crate::store::tests::scratch;

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    #[test]
    fn a_name_points_at_the_last_image_it_was_given_to() {
        let (_folder, store) = scratch();
        let [one, two] = [b"1", b"2"].map(|content| descriptor(MANIFEST, store.put(content).unwrap()));
        store.tag("docker.io/a/b:latest", &one).unwrap();
        store.tag("docker.io/a/b:latest", &two).unwrap();
        store.tag("docker.io/a/c:latest", &one).unwrap();
        let images = store.images().unwrap();
        assert_eq!(images.len(), 2);
        assert_eq!(images["docker.io/a/b:latest"], two);
        assert!(store.untag("docker.io/a/b:latest").unwrap());
        assert!(!store.untag("docker.io/a/b:latest").unwrap());
    }

    #[test]
    fn names_given_at_once_are_all_kept_and_the_order_does_not_show() {
        let stores = [scratch(), scratch()];
        for (turn, (_folder, store)) in stores.iter().enumerate() {
            let target = descriptor(MANIFEST, store.put(b"x").unwrap());
            std::thread::scope(|scope| {
                for i in 0..12 {
                    let (store, target) = (store, &target);
                    let number = if turn == 0 { i } else { 11 - i };
                    scope.spawn(move || store.tag(&format!("docker.io/a/{number}:latest"), target).unwrap());
                }
            });
            assert_eq!(store.images().unwrap().len(), 12);
        }
        let [first, second] = stores.map(|(_folder, store)| std::fs::read(store.path().join("index.json")).unwrap());
        assert_eq!(first, second);
    }
}
