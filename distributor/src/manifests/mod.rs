//! Manifests of others, from files, folders and stdin, made ready for a rollout: images of the store by digest, objects placed as
//! the cluster serves their kinds.

mod kinds;
mod read;

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;
use vcmanifests::{Document, Object};
use vcstore::{Store, reference};

use crate::cluster::{self, Cluster};
use crate::rollout::Release;

/// Why manifests cannot be rolled out.
#[derive(Debug, Error, Diagnostic)]
pub enum Error {
    /// A file that cannot be read.
    #[error("reading the manifests of {path}")]
    #[diagnostic(help("give a file, a folder with .yaml, .yml or .json files, or - for stdin"))]
    Read {
        /// The file or folder.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// A folder that another tool has to render.
    #[error("the folder {path} has a {file}, so its files are not manifests yet")]
    #[diagnostic(help("render them first: `{command} | vcdist deploy --manifests -`"))]
    Unrendered {
        /// The folder.
        path: Utf8PathBuf,
        /// The file that says so.
        file: &'static str,
        /// What renders it.
        command: String,
    },

    /// No object at all: a rollout would remove all that there is.
    #[error("the manifests have no objects")]
    #[diagnostic(help(
        "nothing was changed; give at least one object. To remove a release, use `vcdist uninstall --name`"
    ))]
    Empty,

    /// The store cannot be read.
    #[error("looking for images in the store {path}")]
    #[diagnostic(help("give another store with --store DIR"))]
    Store {
        /// The store.
        path: Utf8PathBuf,
        /// Why.
        source: vcstore::Error,
    },

    /// Kinds whose objects cannot be placed without a cluster.
    #[error("whether objects of these kinds have a namespace is not known without a cluster: {kinds}")]
    #[diagnostic(help(
        "name a cluster that has them with --kubeconfig FILE or --context NAME, give their CustomResourceDefinitions with the \
         manifests, or write metadata.namespace into objects that have one"
    ))]
    UnknownScope {
        /// `KIND in APIVERSION (FILE)`, joined.
        kinds: String,
    },

    /// A manifest that cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifest(#[from] vcmanifests::Error),

    /// The cluster was not reached, or refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),
}

/// An image that manifests name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedImage {
    /// As the manifests name it.
    pub name: String,
    /// What the objects name instead, with the digest of the store's image; none where the store has no image of the name.
    pub replaced_by: Option<String>,
}

/// Manifests as they were read.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    documents: Vec<Document>,
    /// The images that they name, each once.
    pub images: Vec<NamedImage>,
    /// What was left out or is done in another way than Helm does it.
    pub notes: Vec<String>,
}

impl Manifests {
    /// Reads manifests; images that the store has get their digests.
    ///
    /// # Errors
    /// When a file or the store cannot be read, or something is not a Kubernetes object.
    pub fn read(paths: &[Utf8PathBuf], store: &Utf8Path) -> Result<Self, Error> {
        let mut manifests = Self::default();
        for document in read::documents(paths)? {
            let value = &document.value;
            let title = || format!("{}/{}", text(&value["kind"]).to_lowercase(), text(&value["metadata"]["name"]));
            match vcmanifests::hook(value) {
                Some(_) if vcmanifests::is_helm_test(value) => {
                    manifests.notes.push(format!("{} is left out: Helm runs it only as a test", title()));
                    continue;
                }
                Some(hook) => manifests.notes.push(format!(
                    "{} is a hook of Helm ({hook}); it is applied with the other objects, in their order",
                    title()
                )),
                None => {}
            }
            manifests.documents.push(document);
        }
        if manifests.documents.is_empty() {
            return Err(Error::Empty);
        }
        manifests.complete_images(store)?;
        Ok(manifests)
    }

    /// The objects as this cluster serves their kinds, in the order of a rollout.
    ///
    /// # Errors
    /// When the cluster does not say, lacks a kind, or an object is there twice.
    pub async fn objects(&self, cluster: &Cluster, release: &Release) -> Result<Vec<Object>, Error> {
        let mut kinds = kinds::served(cluster, &self.documents).await?;
        // A definition that is rolled out with its objects says more than the cluster does yet.
        kinds.extend(vcmanifests::defined_kinds(&self.documents));
        Ok(vcmanifests::placed(self.documents.clone(), &kinds, &release.namespace, &release.to_string())?)
    }

    /// The objects, in the order of a rollout, without asking a cluster.
    ///
    /// # Errors
    /// When only a cluster knows a kind, or an object is there twice.
    pub fn objects_without_cluster(&self, release: &Release) -> Result<Vec<Object>, Error> {
        let mut kinds = vcmanifests::known_kinds(&self.documents);
        kinds.extend(vcmanifests::defined_kinds(&self.documents));
        let mut unknown = BTreeMap::new();
        for Document { value, origin } in &self.documents {
            let key = (text(&value["apiVersion"]).to_owned(), text(&value["kind"]).to_owned());
            if !kinds.contains_key(&key) {
                unknown.entry(key).or_insert(origin.as_str());
            }
        }
        if !unknown.is_empty() {
            let told = unknown.into_iter().map(|((version, kind), origin)| format!("{kind} in {version} ({origin})"));
            return Err(Error::UnknownScope { kinds: told.collect::<Vec<_>>().join(", ") });
        }
        Ok(vcmanifests::placed(self.documents.clone(), &kinds, &release.namespace, &release.to_string())?)
    }

    fn complete_images(&mut self, store: &Utf8Path) -> Result<(), Error> {
        let failed = |source| Error::Store { path: store.to_owned(), source };
        // Opening a store would make one.
        let known = if store.join("oci-layout").exists() {
            Store::open_to_give(store).and_then(|store| store.images()).map_err(failed)?
        } else {
            BTreeMap::new()
        };
        let mut named: BTreeMap<String, Option<String>> = BTreeMap::new();
        let mut digest = |name: &str| {
            let full = reference::full(name).ok();
            let found = full.as_ref().and_then(|full| known.get_key_value(full));
            let complete = found.map(|(full, image)| format!("{}@{}", without_tag(full), image.digest()));
            named.insert(name.to_owned(), complete.clone());
            complete
        };
        for document in &mut self.documents {
            vcmanifests::complete_images(&mut document.value, &mut digest);
        }
        self.images = named.into_iter().map(|(name, replaced_by)| NamedImage { name, replaced_by }).collect();
        Ok(())
    }
}

/// A full name without its tag: the colon after the last slash.
fn without_tag(full: &str) -> &str {
    let path = full.rfind('/').map_or(0, |slash| slash + 1);
    full[path..].find(':').map_or(full, |colon| &full[..path + colon])
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;
    use oci_spec::image::{Descriptor, MediaType};
    use serde_json::json;
    use vcstore::Store;

    use super::Manifests;

    const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{image: shop/web:1}, \
        {image: docker.io/shop/web:2}, {image: \"busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000\"}]}}\n";

    #[test]
    fn images_that_the_store_has_are_named_by_digest_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let (store, file) = (path.join("store"), path.join("pod.yaml"));
        std::fs::write(&file, POD).unwrap();
        let nothing = Manifests::read(std::slice::from_ref(&file), &store).unwrap();
        assert!(nothing.images.iter().all(|image| image.replaced_by.is_none()) && !store.exists());

        let opened = Store::open(&store).unwrap();
        let manifest = opened.put_document(&json!({ "schemaVersion": 2 })).unwrap();
        let digest = manifest.digest.to_string();
        let image = Descriptor::new(MediaType::ImageManifest, manifest.size, manifest.digest);
        opened.tag("docker.io/shop/web:1", &image).unwrap();
        let manifests = Manifests::read(&[file], &store).unwrap();
        let containers = &manifests.documents[0].value["spec"]["containers"];
        assert_eq!(containers[0]["image"], format!("docker.io/shop/web@{digest}"));
        assert_eq!(containers[1]["image"], "docker.io/shop/web:2");
        let named: Vec<bool> = manifests.images.iter().map(|image| image.replaced_by.is_some()).collect();
        assert_eq!(named.iter().filter(|is_replaced| **is_replaced).count(), 1, "{:?}", manifests.images);
    }
}
