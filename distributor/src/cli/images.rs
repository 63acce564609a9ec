//! The images a command is about: of the store, by name, or from archives that are taken into it first.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use miette::Diagnostic;
use thiserror::Error;
use vcstore::{Image, Store};

/// The images of VirtualCluster, meant when none are named.
const IMAGES: [&str; 3] = ["manager", "syncer", "vn-agent"];

/// Which images, of which store.
#[derive(Debug, Args)]
pub(super) struct Images {
    /// Images of the store, by name or short name, or archives to take into it first [default: manager, syncer and
    /// vn-agent].
    #[arg(value_name = "IMAGE|ARCHIVE")]
    images: Vec<String>,

    /// The store that has the images [default: $XDG_CACHE_HOME/vcbuild/store].
    #[arg(long, value_name = "DIR", env = "VCBUILD_STORE")]
    store: Option<Utf8PathBuf>,
}

/// Why there are no images.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error("finding the images")]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),
    #[error("finding the images: there is no store at {path}")]
    #[diagnostic(help("build the images with `vcbuild images`, give --store DIR, or name an archive"))]
    NoStore { path: Utf8PathBuf },
    #[error("there is no image {}: the store has none of that name, and none was pushed", names.join(", "))]
    #[diagnostic(help(
        "`vcdist status` without names lists every image that was pushed; `vcbuild images` builds them"
    ))]
    Unknown { names: Vec<String> },
    #[error("{name:?} is no full image name, and kubelet would not find it")]
    #[diagnostic(help("name the image in full where it is built, as docker.io/virtualcluster/manager-amd64:latest"))]
    Unqualified { name: String },
}

impl Images {
    /// The store, and the images of it that are meant.
    pub(super) fn find(&self) -> Result<(Store, Vec<Image>), Error> {
        let path = self.store.clone().unwrap_or_else(Store::default_path);
        // Opening makes a store where there is none, and only what is put into it should.
        if !path.join("oci-layout").exists() && !self.images.iter().any(|name| is_archive(name)) {
            return Err(Error::NoStore { path });
        }
        let store = self.open(&path)?;
        let images = find_in(&store, &self.images)?;
        Ok((store, images))
    }

    /// The store, which archives are put into, and which is only read where none is named.
    fn open(&self, path: &Utf8Path) -> Result<Store, vcstore::Error> {
        if self.images.iter().any(|name| is_archive(name)) { Store::open(path) } else { Store::open_to_give(path) }
    }

    /// The images of the store that are meant, as far as there are any: others may know of the rest.
    pub(super) fn known(&self) -> Result<Vec<Image>, Error> {
        let path = self.store.clone().unwrap_or_else(Store::default_path);
        if !path.join("oci-layout").exists() && !self.images.iter().any(|name| is_archive(name)) {
            return Ok(Vec::new());
        }
        let store = self.open(&path)?;
        let defaults = IMAGES.map(str::to_owned);
        known_in(&store, if self.images.is_empty() { &defaults } else { &self.images })
    }

    /// Those named that stand for no image of this name, full or short.
    pub(super) fn unknown<'a>(&'a self, known: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let names = self.images.iter().map(String::as_str).filter(|name| !is_archive(name));
        names.filter(|name| !known.iter().any(|full| vcstore::is_short_for(full, name)))
    }

    /// Whether an image of this full name is meant.
    pub(super) fn mean(&self, full: &str) -> bool {
        self.images.is_empty() || self.images.iter().any(|name| vcstore::is_short_for(full, name))
    }
}

/// The images of the store that are named, as far as it has them; those that it lacks are passed over.
fn known_in(store: &Store, named: &[String]) -> Result<Vec<Image>, Error> {
    let mut images = Vec::new();
    for name in named {
        match find_in(store, std::slice::from_ref(name)) {
            Ok(found) => images.extend(found),
            Err(Error::Store(vcstore::Error::NoSuchImage { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(images)
}

/// The images named, each once, in the order of their names on the command line. What an archive brings is named in the
/// store as it is in the archive.
fn find_in(store: &Store, named: &[String]) -> Result<Vec<Image>, Error> {
    let mut images: Vec<Image> = Vec::new();
    let defaults = IMAGES.map(str::to_owned);
    let named = if named.is_empty() { &defaults[..] } else { named };
    for name in named {
        let found = if is_archive(name) {
            let brought = vcstore::archive::import(store, Utf8Path::new(name))?;
            brought
                .iter()
                .try_for_each(|image| is_full(image).and_then(|()| Ok(store.tag(&image.name, &image.target)?)))?;
            brought
        } else {
            vec![store.image(name)?]
        };
        for image in found {
            is_full(&image)?;
            if images.iter().all(|known| known.name != image.name) {
                images.push(image);
            }
        }
    }
    for image in &images {
        image.check_complete(store)?;
    }
    Ok(images)
}

/// Names begin with a registry's host, or the container runtime looks for another one.
fn is_full(image: &Image) -> Result<(), Error> {
    let full = |(host, _): (&str, &str)| host.contains(['.', ':']) || host == "localhost";
    match image.name.split_once('/').is_some_and(full) {
        true => Ok(()),
        false => Err(Error::Unqualified { name: image.name.clone() }),
    }
}

/// Whether an argument means a file: it looks like a path, or is one.
fn is_archive(name: &str) -> bool {
    let path = Utf8Path::new(name);
    // A plain word is an image, also where a folder or program of that name stands beside.
    name.starts_with(['.', '/']) || path.extension() == Some("tar") || (name.contains('/') && path.exists())
}
