//! Which image each component runs: named by hand, or looked up in the store by the name it was built under.
//! Either way a digest comes out, so that what runs is what was pushed.

use camino::{Utf8Path, Utf8PathBuf};
use miette::Diagnostic;
use thiserror::Error;
use vcmanifests::{Component, ImageReference, Images};
use vcstore::Store;

/// Why no image can be named for a component.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// There is no store to look in.
    #[error("looking for the {component}'s image: there is no store at {path}")]
    #[diagnostic(help(
        "build the images with `vcbuild images`, give --store DIR, or name what the nodes have: --image {component}=NAME@sha256:DIGEST"
    ))]
    NoStore {
        /// The component.
        component: Component,
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
        /// The store's words.
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
    #[diagnostic(help("`vcbuild store verify` finds what is damaged"))]
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

/// The image of each component: from `given` first, then from the images in the store called `names`, then from the
/// store under the component's own name. The store is opened only when it is needed, and never made.
///
/// # Errors
/// When an image is missing, belongs to no component, or a component has two.
pub fn resolve(given: &[(Component, ImageReference)], names: &[String], store: &Utf8Path) -> Result<Images, Error> {
    let mut found: Vec<(Component, ImageReference)> = Vec::new();
    for (component, image) in given {
        add(&mut found, *component, image.clone())?;
    }
    for name in names {
        let (full, digest) = look_up(store, name).map_err(|source| Error::Store { name: name.clone(), source })?;
        let component = Component::of_image(&full)
            .ok_or_else(|| Error::NoComponent { name: full.clone(), digest: digest.clone() })?;
        add(&mut found, component, ImageReference::new(&full, &digest)?)?;
    }
    let mut of = |component: Component| {
        if let Some(at) = found.iter().position(|(other, _)| *other == component) {
            return Ok(found.swap_remove(at).1);
        }
        if !store.join("oci-layout").exists() {
            return Err(Error::NoStore { component, path: store.to_owned() });
        }
        let missing = |source| Error::Missing { component, path: store.to_owned(), source };
        let (full, digest) = look_up(store, component.name()).map_err(missing)?;
        Ok(ImageReference::new(&full, &digest)?)
    };
    Ok(Images { manager: of(Component::Manager)?, syncer: of(Component::Syncer)?, vn_agent: of(Component::VnAgent)? })
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

/// The full name and digest of an image in the store.
fn look_up(store: &Utf8Path, name: &str) -> Result<(String, String), vcstore::Error> {
    let image = Store::open(store)?.image(name)?;
    let digest = image.digest().to_string();
    Ok((image.name, digest))
}
