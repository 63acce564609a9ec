//! The images of a command: from the store by name, or from archives, which are imported into the store first.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use miette::Diagnostic;
use oci_spec::distribution::{ParseError, Reference};
use thiserror::Error;
use vcstore::{Image, Store};

/// The images of VirtualCluster, which are the default.
const IMAGES: [&str; 3] = ["manager", "syncer", "vn-agent"];

/// Which images, of which store.
#[derive(Debug, Args)]
pub(super) struct Images {
    /// Images of the store, or archives [default: manager, syncer, vn-agent]
    ///
    /// Images by their full or short names. vcdist imports archives into the store first.
    #[arg(value_name = "IMAGE|ARCHIVE")]
    images: Vec<String>,

    /// The store [default: ~/.cache/vcbuild/store]
    ///
    /// A folder of images that vcbuild and vcdist share. $XDG_CACHE_HOME replaces ~/.cache.
    #[arg(long, value_name = "DIR", env = "VCBUILD_STORE", hide_env_values = true)]
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
    #[error("{name:?} is not a valid image name, and kubelet would not find it: {why}")]
    #[diagnostic(help("name the image as docker.io/virtualcluster/manager-amd64:latest where it is built"))]
    Invalid { name: String, why: String },
}

impl Error {
    /// Whether the images, or the store, are not there yet.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::NoStore { .. } | Self::Store(vcstore::Error::NoSuchImage { .. }))
    }
}

impl Images {
    /// The store's folder.
    pub(super) fn store_path(&self) -> Utf8PathBuf {
        self.store.clone().unwrap_or_else(Store::default_path)
    }

    /// Returns the store and the requested images.
    pub(super) fn find(&self) -> Result<(Store, Vec<Image>), Error> {
        let path = self.store_path();
        // Opening would create a missing store, which should happen only if something is imported into it.
        if !path.join("oci-layout").exists() && !self.images.iter().any(|name| is_archive(name)) {
            return Err(Error::NoStore { path });
        }
        let store = self.open(&path)?;
        let images = find_in(&store, &self.images)?;
        Ok((store, images))
    }

    /// Opens the store for writing if archives are imported, or else read-only.
    fn open(&self, path: &Utf8Path) -> Result<Store, vcstore::Error> {
        if self.images.iter().any(|name| is_archive(name)) { Store::open(path) } else { Store::open_to_give(path) }
    }

    /// Returns the requested images that the store has. It may lack some, because the caller may know of others.
    pub(super) fn known(&self) -> Result<Vec<Image>, Error> {
        let path = self.store_path();
        if !path.join("oci-layout").exists() && !self.images.iter().any(|name| is_archive(name)) {
            return Ok(Vec::new());
        }
        let store = self.open(&path)?;
        let defaults = IMAGES.map(str::to_owned);
        known_in(&store, if self.images.is_empty() { &defaults } else { &self.images })
    }

    /// Returns the requested names that match none of the `known` names, neither in full nor in short form.
    pub(super) fn unknown<'a>(&'a self, known: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let names = self.images.iter().map(String::as_str).filter(|name| !is_archive(name));
        names.filter(|name| !known.iter().any(|full| vcstore::is_short_for(full, name)))
    }

    /// Whether no image is named, so that all are meant.
    pub(super) fn are_all(&self) -> bool {
        self.images.is_empty()
    }

    /// Whether an image with this full name is requested.
    pub(super) fn mean(&self, full: &str) -> bool {
        self.images.is_empty() || self.images.iter().any(|name| vcstore::is_short_for(full, name))
    }
}

/// Returns the named images that the store has.
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

/// Returns the named images, each once, in the order of the command line. The images of an archive keep their names in
/// the store.
pub(super) fn find_in(store: &Store, named: &[String]) -> Result<Vec<Image>, Error> {
    let mut images: Vec<Image> = Vec::new();
    let defaults = IMAGES.map(str::to_owned);
    let named = if named.is_empty() { &defaults[..] } else { named };
    for name in named {
        let found = if is_archive(name) {
            let brought = vcstore::archive::import(store, Utf8Path::new(name))?;
            let brought = brought.into_iter().map(completed).collect::<Result<Vec<_>, _>>()?;
            brought.iter().try_for_each(|image| store.tag(&image.name, &image.target))?;
            brought
        } else {
            vec![completed(store.image(name)?)?]
        };
        for image in found {
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

/// Completes the name of an image to the form under which the kubelet looks it up: with a tag or digest, and with the
/// `library/` prefix of Docker Hub's own images. A name must begin with a registry's host, because the container
/// runtime would otherwise look for another name.
fn completed(image: Image) -> Result<Image, Error> {
    let full = |(host, _): (&str, &str)| host.contains(['.', ':']) || host == "localhost";
    if !image.name.split_once('/').is_some_and(full) {
        return Err(Error::Unqualified { name: image.name });
    }
    let invalid = |why: String| Error::Invalid { name: image.name.clone(), why };
    let reference: Reference = image.name.parse().map_err(|why: ParseError| invalid(why.to_string()))?;
    let name = match reference.digest() {
        Some(digest) if digest != image.target.digest().to_string() => {
            return Err(invalid(format!("the image's own digest is {}", image.target.digest())));
        }
        // If a name has a digest, its tag is only informative.
        Some(digest) => format!("{}/{}@{digest}", reference.registry(), reference.repository()),
        None => reference.whole(),
    };
    Ok(Image { name, ..image })
}

/// The file extensions of archives.
const ARCHIVES: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.zstd"];

/// Whether an argument is a file: it looks like a path or an archive, or is one.
fn is_archive(name: &str) -> bool {
    // A plain word is an image, even if a folder or program of that name exists.
    name.starts_with(['.', '/'])
        || ARCHIVES.iter().any(|ending| name.ends_with(ending))
        || (name.contains('/') && Utf8Path::new(name).exists())
}

#[cfg(test)]
mod tests {
    use oci_spec::image::{Descriptor, MediaType};
    use vcstore::{Digest, Image};

    use super::{completed, is_archive};

    fn named(name: &str) -> Result<String, String> {
        let target = Descriptor::new(MediaType::ImageManifest, 1, Digest::of(b"x"));
        let image = Image { name: name.to_owned(), target, platforms: Vec::new() };
        completed(image).map(|image| image.name).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_completed_as_kubelet_does() {
        let digest = Digest::of(b"x").to_string();
        for (name, full) in [
            ("docker.io/a/b", "docker.io/a/b:latest"),
            ("docker.io/a/b:v1", "docker.io/a/b:v1"),
            ("docker.io/b:v1", "docker.io/library/b:v1"),
            ("index.docker.io/a/b:v1", "docker.io/a/b:v1"),
            ("localhost:5000/b", "localhost:5000/b:latest"),
            (&format!("r.example/a/b:v1@{digest}"), &format!("r.example/a/b@{digest}")),
        ] {
            assert_eq!(named(name).as_deref(), Ok(full), "{name}");
        }
    }

    #[test]
    fn names_that_kubelet_would_not_find_are_refused() {
        let other = format!("r.example/a/b@{}", Digest::of(b"y"));
        for name in
            ["b:v1", "a/b:v1", "docker.io/A/b:v1", "r.example/a b:v1", "r.example/a/b:v1:v2", "r.example/", &other]
        {
            let why = named(name).unwrap_err();
            assert!(why.contains("kubelet would not find it"), "{name}: {why}");
        }
    }

    #[test]
    fn archives_are_told_from_images() {
        for archive in ["x.tar", "x.tar.gz", "x.tgz", "x.tar.zst", "./x", "/x", "out/vc_manager-amd64.tar"] {
            assert!(is_archive(archive), "{archive}");
        }
        for image in ["manager", "docker.io/a/b:v1", "a/b", "targz", "b:1.0.gz"] {
            assert!(!is_archive(image), "{image}");
        }
    }
}
