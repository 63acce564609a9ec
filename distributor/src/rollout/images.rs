//! Which image each component runs: named by hand, or looked up in the store by the name it was built under.
//! Either way a digest comes out, so that what runs is what was pushed.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use miette::Diagnostic;
use thiserror::Error;
use vcmanifests::{Architectures, Component, ImageReference, Images, NamespaceName, Parameters};
use vcstore::Store;

/// Why no image can be named for a component.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// There is no store to look in.
    #[error("looking for images: there is no store at {path}")]
    #[diagnostic(help(
        "build the images with `vcbuild images`, give --store DIR, or name what the nodes have: \
         --image COMPONENT=NAME@sha256:DIGEST for each of manager, syncer and vn-agent"
    ))]
    NoStore {
        /// Where a store was looked for.
        path: Utf8PathBuf,
    },

    /// The store lacks an image.
    #[error("looking for the {component}'s image in the store {path}")]
    #[diagnostic(help(
        "build it with `vcbuild images --components {component}`, or name what the nodes have: --image {component}=NAME@sha256:DIGEST"
    ))]
    Missing {
        /// The component.
        component: Component,
        /// The store.
        path: Utf8PathBuf,
        /// The store's message.
        source: vcstore::Error,
    },

    /// An image whose name says no component.
    #[error("the image {name} is none of manager, syncer and vn-agent")]
    #[diagnostic(help("say whose it is: --image COMPONENT={name}@{digest}"))]
    NoComponent {
        /// The image.
        name: String,
        /// Its digest.
        digest: String,
    },

    /// The store cannot be used.
    #[error("reading the image {name}")]
    #[diagnostic(help("{}", source.help().map_or_else(
        || "build or import the image again (`vcbuild images`)".to_owned(),
        |help| help.to_string()
    )))]
    Store {
        /// The image asked for.
        name: String,
        /// Why.
        source: vcstore::Error,
    },

    /// Two images for one component.
    #[error("two images are named for the {component}: {first} and {second}")]
    #[diagnostic(help("name one"))]
    Twice {
        /// The component.
        component: Component,
        /// One image.
        first: String,
        /// The other.
        second: String,
    },

    /// The store's image has a name that no node would find.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Name(#[from] vcmanifests::Error),
}

/// Parameters of an installation of which only the names and rights of objects are asked: its images are not known.
pub(crate) fn without_images(namespace: NamespaceName) -> Option<Parameters> {
    let digest = format!("sha256:{}", "0".repeat(64));
    let image = |component: Component| ImageReference::new(&format!("localhost/{component}:none"), &digest).ok();
    let images = Images {
        manager: image(Component::Manager)?,
        syncer: image(Component::Syncer)?,
        vn_agent: image(Component::VnAgent)?,
    };
    Some(Parameters { namespace, ..Parameters::new(images) })
}

/// The image of each component: from `given` first, then from the images in the store called `names`, then from the
/// store under the component's own name. The store is opened only when it is needed, and never made. Beside them stands which
/// processors each is for, where the store has them.
///
/// # Errors
/// When an image is missing, belongs to no component, or a component has two.
pub fn resolve(
    given: &[(Component, ImageReference)],
    names: &[String],
    store: &Utf8Path,
) -> Result<(Images, Architectures), Error> {
    resolve_as(given, names, &BTreeMap::new(), store)
}

/// As [`resolve()`], where the store has the images of some components under these names of their own.
///
/// # Errors
/// As [`resolve()`].
pub fn resolve_as(
    given: &[(Component, ImageReference)],
    names: &[String],
    own_names: &BTreeMap<Component, String>,
    store: &Utf8Path,
) -> Result<(Images, Architectures), Error> {
    let mut architectures: BTreeMap<Component, Vec<String>> = BTreeMap::new();
    let mut found: Vec<(Component, ImageReference)> = Vec::new();
    for (component, image) in given {
        add(&mut found, *component, image.clone())?;
    }
    for name in names {
        let failed = |source| Error::Store { name: name.clone(), source };
        let (full, digest, runs_on) = look_up(there(store)?, name).map_err(failed)?;
        let component = Component::of_image(&full)
            .ok_or_else(|| Error::NoComponent { name: full.clone(), digest: digest.clone() })?;
        add(&mut found, component, ImageReference::new(&full, &digest)?)?;
        architectures.insert(component, runs_on);
    }
    let mut of = |component: Component| -> Result<ImageReference, Error> {
        if let Some(at) = found.iter().position(|(other, _)| *other == component) {
            return Ok(found.swap_remove(at).1);
        }
        let missing = |source| Error::Missing { component, path: store.to_owned(), source };
        let (full, digest, runs_on) =
            look_up(there(store)?, own_names.get(&component).map_or(component.name(), String::as_str))
                .map_err(missing)?;
        architectures.insert(component, runs_on);
        Ok(ImageReference::new(&full, &digest)?)
    };
    let (manager, syncer, vn_agent) = (of(Component::Manager)?, of(Component::Syncer)?, of(Component::VnAgent)?);
    Ok((Images { manager, syncer, vn_agent }, architectures.into_iter().collect()))
}

fn add(found: &mut Vec<(Component, ImageReference)>, component: Component, image: ImageReference) -> Result<(), Error> {
    match found.iter().find(|(other, _)| *other == component) {
        Some((_, first)) => Err(Error::Twice { component, first: first.to_string(), second: image.to_string() }),
        None => {
            found.push((component, image));
            Ok(())
        }
    }
}

/// The store's folder, where there is a store: opening it would make one, and only a build should.
fn there(store: &Utf8Path) -> Result<&Utf8Path, Error> {
    if store.join("oci-layout").exists() { Ok(store) } else { Err(Error::NoStore { path: store.to_owned() }) }
}

/// The full name and digest of an image in the store, and the processors it is for.
fn look_up(store: &Utf8Path, name: &str) -> Result<(String, String, Vec<String>), vcstore::Error> {
    let image = Store::open_to_give(store)?.image(name)?;
    let digest = image.digest().to_string();
    let architectures: BTreeSet<_> = image.platforms.iter().map(|one| one.platform.architecture.clone()).collect();
    Ok((image.name, digest, architectures.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;
    use miette::Diagnostic;
    use oci_spec::image::{Descriptor, MediaType};
    use serde_json::json;
    use vcmanifests::{Component, ImageReference};
    use vcstore::Store;

    use super::{Error, resolve};

    /// A store with an image without layers under each name.
    fn store(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(path(&folder)).unwrap();
        let config = store
            .put_document(
                &json!({ "os": "linux", "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": [] } }),
            )
            .unwrap();
        let manifest = store
            .put_document(&json!({ "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "layers": [],
                "config": Descriptor::new(MediaType::ImageConfig, config.size, config.digest) }))
            .unwrap();
        for name in names {
            store.tag(name, &Descriptor::new(MediaType::ImageManifest, manifest.size, manifest.digest)).unwrap();
        }
        folder
    }

    fn path(folder: &tempfile::TempDir) -> &Utf8Path {
        Utf8Path::from_path(folder.path()).unwrap()
    }

    fn given(component: Component) -> (Component, ImageReference) {
        (component, format!("docker.io/elsewhere/x@sha256:{}", "0".repeat(64)).parse().unwrap())
    }

    fn help(error: &Error) -> String {
        error.help().map(|help| help.to_string()).unwrap_or_default()
    }

    const MANAGER: &str = "docker.io/virtualcluster/manager-amd64:latest";
    const SYNCER: &str = "docker.io/virtualcluster/syncer-amd64:latest";
    const VN_AGENT: &str = "docker.io/virtualcluster/vn-agent-amd64:latest";

    #[test]
    fn what_is_named_by_hand_comes_before_the_store() {
        let folder = store(&[MANAGER, SYNCER, VN_AGENT]);
        let (images, architectures) = resolve(&[given(Component::Syncer)], &[], path(&folder)).unwrap();
        assert_eq!(architectures.of(Component::Manager), ["amd64"]);
        assert!(
            architectures.of(Component::Syncer).is_empty(),
            "nothing tells what an image is for that is named by hand"
        );
        assert_eq!(images.syncer.repository(), "docker.io/elsewhere/x");
        assert_eq!(images.manager.repository(), "docker.io/virtualcluster/manager-amd64");
        let digest = Store::open(path(&folder)).unwrap().image(MANAGER).unwrap().digest().to_string();
        assert_eq!(images.manager.digest(), digest);
        assert_eq!(resolve(&[given(Component::Syncer)], &["manager".to_owned()], path(&folder)).unwrap().0, images);
    }

    #[test]
    fn with_every_image_named_no_store_is_needed_and_none_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = path(&folder).join("store");
        assert!(resolve(&Component::ALL.map(given), &[], &nowhere).is_ok());
        for names in [vec![], vec![MANAGER.to_owned()]] {
            let error = resolve(&[], &names, &nowhere).unwrap_err();
            assert_eq!(error.to_string(), format!("looking for images: there is no store at {nowhere}"));
            assert!(help(&error).contains("vcbuild images"));
        }
        assert!(!nowhere.exists());
    }

    #[test]
    fn a_component_that_was_not_built_is_named_with_the_command_that_builds_it() {
        let folder = store(&[MANAGER, VN_AGENT]);
        let error = resolve(&[], &[], path(&folder)).unwrap_err();
        assert_eq!(error.to_string(), format!("looking for the syncer's image in the store {}", path(&folder)));
        assert!(help(&error).contains("vcbuild images --components syncer"));
    }

    #[test]
    fn an_image_of_no_component_and_two_of_one_are_refused() {
        let folder = store(&[MANAGER, SYNCER, VN_AGENT, "docker.io/library/etcd:3"]);
        let error = resolve(&[], &["etcd:3".to_owned()], path(&folder)).unwrap_err();
        assert_eq!(error.to_string(), "the image docker.io/library/etcd:3 is none of manager, syncer and vn-agent");
        let error = resolve(&[given(Component::Manager)], &[MANAGER.to_owned()], path(&folder)).unwrap_err();
        assert!(error.to_string().starts_with("two images are named for the manager: docker.io/elsewhere/x@"));
    }
}
