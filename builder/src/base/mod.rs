//! Bases: the images on which the layers of components are stacked.

mod archive;
mod from_packages;
mod registry;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use camino::{Utf8Path, Utf8PathBuf};
use oci_spec::distribution::Reference;
use oci_spec::image::{Arch, Descriptor, ImageConfiguration, Os};
use vcdebian::{Options, Selection};
use vcinspect::image_fs::outline;
use vcstore::reference;
use vcstore::{Action, Compression, Digest, Image, Layer, Outputs, Platform, PlatformImage, Store};

use self::from_packages::FromPackages;
use crate::lock::Lock;
use crate::progress::Progress;
use crate::{Error, manifest};

/// The reference of [`Spec::Registry`] if none is given, and the base of a build that does not specify one.
pub(crate) const DEFAULT_REFERENCE: &str = "docker.io/library/debian:bookworm-slim";

/// The version of the outline's content. Increment it when that changes; it is part of every action key.
const OUTLINE: u32 = 1;

/// A base as `--base` specifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spec {
    /// `debian`: packages of a Debian mirror.
    Debian(Box<Options>),
    /// `static`: the files of Debian packages that a static program needs.
    Static(Box<Options>),
    /// `registry` or a reference: an image in a registry.
    Registry(Reference),
    /// `oci:PATH`: an OCI image layout, a folder or a tar file.
    Oci(Utf8PathBuf),
    /// `docker-archive:PATH`: a `docker save` archive.
    DockerArchive(Utf8PathBuf),
    /// `scratch`: an empty base.
    Scratch,
}

/// A base in the store.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    /// The reference, if the base has a public one.
    pub(crate) reference: Option<String>,
    /// The manifest, layers and platform.
    pub(crate) image: PlatformImage,
    /// The image configuration.
    pub(crate) config: ImageConfiguration,
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: String| Error::BadBase { base: text.to_owned(), why };
        let path = |path: &str| match path {
            "" => Err(bad("it names no file".to_owned())),
            path => Ok(Utf8PathBuf::from(path)),
        };
        let reference = |text: &str| reference::parse(text).map(Self::Registry).map_err(bad);
        match (text, text.split_once(':')) {
            ("debian", _) => Ok(Self::Debian(Box::default())),
            ("static", _) => Ok(Self::Static(Box::default())),
            ("scratch", _) => Ok(Self::Scratch),
            ("registry", _) => reference(DEFAULT_REFERENCE),
            (_, Some(("oci", file))) => path(file).map(Self::Oci),
            (_, Some(("docker-archive", file))) => path(file).map(Self::DockerArchive),
            _ => reference(text),
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian(_) => f.write_str("debian"),
            Self::Static(_) => f.write_str("static"),
            Self::Registry(reference) => f.write_str(&reference.whole()),
            Self::Oci(path) => write!(f, "oci:{path}"),
            Self::DockerArchive(path) => write!(f, "docker-archive:{path}"),
            Self::Scratch => f.write_str("scratch"),
        }
    }
}

impl Spec {
    /// Returns whether the base is built from Debian packages.
    pub(crate) fn is_of_packages(&self) -> bool {
        matches!(self, Self::Debian(_) | Self::Static(_))
    }

    /// Returns the file or folder of this machine that holds the base, if it is one.
    pub(crate) fn host_path(&self) -> Option<&Utf8Path> {
        match self {
            Self::Oci(path) | Self::DockerArchive(path) => Some(path),
            Self::Debian(_) | Self::Static(_) | Self::Registry(_) | Self::Scratch => None,
        }
    }

    /// Applies the options for Debian packages to a base that is built from them; returns other bases unchanged.
    ///
    /// # Errors
    /// When an option does not apply to this base.
    pub(crate) fn with_debian(self, options: Options) -> Result<Self, Error> {
        match self {
            Self::Debian(_) => Ok(Self::Debian(Box::new(options))),
            Self::Static(_) if !options.packages.is_empty() => {
                let why = "the base static contains a fixed set of packages: remove `packages`, or use the base debian";
                Err(Error::Usage(why.to_owned()))
            }
            Self::Static(_) => Ok(Self::Static(Box::new(options))),
            other => Ok(other),
        }
    }

    /// Gets the base into the store: the image that `lock` pins, or else the current one, which it then pins.
    /// `compression` applies to bases that vcbuild assembles; other bases keep their layers unchanged.
    ///
    /// # Errors
    /// When the base cannot be fetched or read, differs from the pin, or does not exist for the platform.
    pub(crate) fn realise(
        &self,
        platform: &Platform,
        compression: Compression,
        store: &Store,
        lock: &Lock,
        progress: &Progress,
    ) -> Result<Base, Error> {
        match self {
            Self::Debian(options) => system(options, platform).realise(compression, store, lock, progress),
            Self::Static(options) => files(options, platform).realise(compression, store, lock, progress),
            Self::Registry(reference) => registry::realise(reference, platform, store, lock, progress),
            Self::Oci(path) | Self::DockerArchive(path) => {
                archive::realise(&self.to_string(), path, platform, store, lock, progress)
            }
            Self::Scratch => scratch(platform, store),
        }
    }
}

/// Pulls an image from a registry into the store.
///
/// # Errors
/// When the registry cannot be reached, or has no such image for the platform.
pub(crate) fn pull(
    reference: &Reference,
    platform: &Platform,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
) -> Result<PlatformImage, Error> {
    registry::realise(reference, platform, store, lock, progress).map(|base| base.image)
}

impl Spec {
    /// Pins the base in `lock`, if it is not pinned, without fetching it. Only a base from a file is read, to compute
    /// its digest.
    ///
    /// # Errors
    /// As [`Spec::realise`].
    pub(crate) fn resolve(
        &self,
        platform: &Platform,
        store: &Store,
        lock: &Lock,
        progress: &Progress,
    ) -> Result<(), Error> {
        match self {
            Self::Debian(options) => system(options, platform).resolve(store, lock).map(|_| ()),
            Self::Static(options) => files(options, platform).resolve(store, lock).map(|_| ()),
            Self::Registry(reference) => registry::resolve(reference, platform, lock).map(|_| ()),
            Self::Oci(path) | Self::DockerArchive(path) => {
                archive::realise(&self.to_string(), path, platform, store, lock, progress).map(|_| ())
            }
            Self::Scratch => Ok(()),
        }
    }
}

impl Spec {
    /// Fetches the contents of the base, pinned as by [`Spec::resolve`], without building it. Returns the blobs that
    /// were fetched over a network.
    ///
    /// # Errors
    /// As [`Spec::realise`].
    pub(crate) fn fetch(
        &self,
        platform: &Platform,
        store: &Store,
        lock: &Lock,
        progress: &Progress,
    ) -> Result<Vec<Digest>, Error> {
        match self {
            Self::Debian(options) => system(options, platform).fetch(store, lock),
            Self::Static(options) => files(options, platform).fetch(store, lock),
            Self::Registry(reference) => {
                let base = registry::realise(reference, platform, store, lock, progress)?;
                let image = &base.image;
                let layers = image.layers.iter().map(|layer| layer.digest);
                Ok(layers.chain([base.digest()?, digest(&reference.whole(), &image.config)?]).collect())
            }
            Self::Oci(_) | Self::DockerArchive(_) | Self::Scratch => Ok(Vec::new()),
        }
    }
}

impl Base {
    /// Opens the manifest `target`, which is in the store with all blobs that it references.
    fn open(
        store: &Store,
        name: &str,
        reference: Option<String>,
        target: &Descriptor,
        platform: &Platform,
    ) -> Result<Self, Error> {
        let image = Image::open(store, name, target)?;
        let has = || image.platforms.iter().map(|one| one.platform.to_string()).collect();
        let one = image.platform(platform).ok_or_else(|| Error::NoPlatform {
            base: name.to_owned(),
            platform: platform.clone(),
            has: has(),
        })?;
        let config = digest(name, &one.config)?;
        Ok(Self { reference, image: one.clone(), config: store.document(&config)? })
    }

    /// Returns the digest of the manifest.
    ///
    /// # Errors
    /// When the digest is not SHA-256.
    pub(crate) fn digest(&self) -> Result<Digest, Error> {
        digest("the base", &self.image.manifest)
    }

    /// Returns the outline of the file system, a blob in the store, or `None` if the base has no layers. Reads the
    /// layers if the store has no outline of them.
    ///
    /// # Errors
    /// When a layer is missing or damaged, or the store cannot be written.
    pub(crate) fn outline(&self, name: &str, store: &Store, progress: &Progress) -> Result<Option<Digest>, Error> {
        if self.layers().is_empty() {
            return Ok(None);
        }
        let layers: Vec<_> = self.layers().iter().map(|layer| layer.diff_id).collect();
        let action = Action::new("outline", name).input("recipe", OUTLINE)?.input("layers", layers)?;
        let outputs = progress.realise(store, &action, || {
            Ok(Outputs::new().with_blob("outline", outline::write(store, self.layers())?))
        })?;
        let outline = outputs.blob("outline").map(|blob| blob.digest);
        outline.map(Some).ok_or_else(|| Error::Internal(format!("the base {name} was recorded without its outline")))
    }

    /// The layers, lowest first.
    pub(crate) fn layers(&self) -> &[Layer] {
        &self.image.layers
    }
}

fn system<'a>(options: &'a Options, platform: &'a Platform) -> FromPackages<'a> {
    FromPackages { options, selection: Selection::System, platform }
}

fn files<'a>(options: &'a Options, platform: &'a Platform) -> FromPackages<'a> {
    FromPackages { options, selection: Selection::Static, platform }
}

/// Returns the digest of a descriptor.
fn digest(name: &str, descriptor: &Descriptor) -> Result<Digest, Error> {
    Digest::try_from(descriptor.digest())
        .map_err(|why| Error::BaseImage { base: name.to_owned(), why: why.to_string() })
}

/// Creates an image without layers.
fn scratch(platform: &Platform, store: &Store) -> Result<Base, Error> {
    let mut config = ImageConfiguration::default();
    config
        .set_os(Os::from(platform.os.as_str()))
        .set_architecture(Arch::from(platform.architecture.as_str()))
        .set_variant(platform.variant.clone());
    let target = manifest::of(&manifest::put(store, &config, [], HashMap::new())?)?;
    Base::open(store, "scratch", None, &target, platform)
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT_REFERENCE, Spec};

    #[test]
    fn a_base_is_named_in_one_of_seven_ways() {
        let cases = [
            ("debian", "debian"),
            ("static", "static"),
            ("registry", DEFAULT_REFERENCE),
            ("debian:bookworm-slim", DEFAULT_REFERENCE),
            ("alpine:3", "docker.io/library/alpine:3"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("oci:a/b.tar", "oci:a/b.tar"),
            ("docker-archive:/b.tar", "docker-archive:/b.tar"),
            ("scratch", "scratch"),
        ];
        for (text, full) in cases {
            assert_eq!(text.parse::<Spec>().unwrap().to_string(), full);
        }
        assert!(
            "registry.example/app:a/b"
                .parse::<Spec>()
                .unwrap_err()
                .to_string()
                .contains("the tag \"a/b\" contains '/'")
        );
        for bad in ["", "oci:", "docker-archive:", "A B"] {
            assert!(bad.parse::<Spec>().is_err(), "{bad:?} must be refused");
        }
    }
}
