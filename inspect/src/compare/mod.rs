//! Compares two images: layers, configuration, packages and files.

pub mod bytes;
mod config;
pub mod elf;
mod files;

use std::collections::BTreeMap;

use serde::Serialize;
use vcstore::{Digest, Image, Layer, Platform, PlatformImage, Store};

pub use self::config::Setting;
pub use self::files::{Change, FileChange, FileChanges, Shape};
use crate::Error;
use crate::image_fs::Layers;
use crate::packages::{Package, packages};

/// An image and its store: compared images may be in different stores.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The store of the image.
    pub store: &'a Store,
    /// The image.
    pub image: &'a Image,
}

/// The differences between two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageChanges {
    /// The first image.
    pub before: ImageIdentity,
    /// The second image.
    pub after: ImageIdentity,
    /// Whether the images are identical, byte for byte.
    pub identical: bool,
    /// The differences by platform.
    pub platforms: Vec<PlatformChanges>,
}

/// The name and digest of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageIdentity {
    /// The name in the store.
    pub name: String,
    /// The digest of the manifest or index.
    pub digest: Digest,
}

/// The differences for a platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlatformChanges {
    /// The platform.
    pub platform: Platform,
    /// The total size of the layer blobs in bytes; `None` if the image does not have the platform.
    pub size: Pair<Option<u64>>,
    /// The layers of both images.
    pub layers: Vec<LayerChange>,
    /// The settings that differ.
    pub config: Vec<Setting>,
    /// The Debian packages that differ.
    pub packages: PackageChanges,
    /// The files that differ.
    pub files: FileChanges,
}

/// A value in the first and the second image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pair<T> {
    /// The value in the first image.
    pub before: T,
    /// The value in the second image.
    pub after: T,
}

/// A layer of one or both images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerChange {
    /// The images that have it.
    pub change: Presence,
    /// The digest of the uncompressed content.
    pub diff_id: Digest,
    /// The digests of the blobs; they differ if only the compression differs.
    pub digest: Pair<Option<Digest>>,
    /// The sizes of the blobs in bytes.
    pub size: Pair<Option<u64>>,
}

/// Which of two images contain an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Both images.
    Same,
    /// Only the first image.
    Removed,
    /// Only the second image.
    Added,
}

/// The Debian packages that differ between two images.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChanges {
    /// The packages only in the second image.
    pub added: Vec<Package>,
    /// The packages only in the first image.
    pub removed: Vec<Package>,
    /// The packages in both images with different versions.
    pub changed: Vec<PackageChange>,
}

/// A package with two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// The name of the package.
    pub name: String,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// The versions.
    pub version: Pair<String>,
}

/// Compares two images, platform by platform. Reads each layer once, and none if all layers are equal.
///
/// # Errors
/// When a blob is missing or damaged.
pub fn images(before: Side<'_>, after: Side<'_>, layers: &Layers) -> Result<ImageChanges, Error> {
    let named = |side: Side<'_>| ImageIdentity { name: side.image.name.clone(), digest: side.image.digest() };
    let identical = before.image.digest() == after.image.digest();
    let mut all: BTreeMap<&Platform, (Option<&PlatformImage>, Option<&PlatformImage>)> = BTreeMap::new();
    for one in &before.image.platforms {
        all.entry(&one.platform).or_default().0 = Some(one);
    }
    for one in &after.image.platforms {
        all.entry(&one.platform).or_default().1 = Some(one);
    }
    let compare = |(platform, (old, new))| platform_changes(platform, (before.store, old), (after.store, new), layers);
    let platforms = all.into_iter().map(compare).collect::<Result<_, _>>()?;
    Ok(ImageChanges { before: named(before), after: named(after), identical, platforms })
}

/// The image for a platform, if it has one.
type PlatformSide<'a> = (&'a Store, Option<&'a PlatformImage>);

fn platform_changes(
    platform: &Platform,
    before: PlatformSide<'_>,
    after: PlatformSide<'_>,
    layers: &Layers,
) -> Result<PlatformChanges, Error> {
    let list = |half: PlatformSide<'_>| half.1.map(|one| one.layers.clone()).unwrap_or_default();
    let size = |half: PlatformSide<'_>| half.1.map(|one| one.layers.iter().map(|layer| layer.size).sum());
    let (old, new) = (list(before), list(after));
    let same = old.iter().map(|layer| layer.diff_id).eq(new.iter().map(|layer| layer.diff_id));
    let (files, packages) = if same || before.1.is_none() || after.1.is_none() {
        // For a platform of only one image, every file would differ: its layers show the same.
        (FileChanges::default(), PackageChanges::default())
    } else {
        let files = files::compare(&layers.files(before.0, &old)?, &layers.files(after.0, &new)?);
        let packages = compare_packages(packages(before.0, &old)?, packages(after.0, &new)?);
        (files, packages)
    };
    let config = match (before.1, after.1) {
        (Some(old), Some(new)) => config::compare((before.0, old), (after.0, new))?,
        _ => Vec::new(),
    };
    Ok(PlatformChanges {
        platform: platform.clone(),
        size: Pair { before: size(before), after: size(after) },
        layers: compare_layers(&old, &new),
        config,
        packages,
        files,
    })
}

/// Returns the layers of both images in the order of the new one. A removed layer precedes the next layer that both
/// images have, or comes last.
fn compare_layers(old: &[Layer], new: &[Layer]) -> Vec<LayerChange> {
    let mut changes = Vec::new();
    let mut rest = old;
    for layer in new {
        match rest.iter().position(|known| known.diff_id == layer.diff_id) {
            Some(place) => {
                changes.extend(rest[..place].iter().map(removed));
                changes.push(change(Presence::Same, Some(&rest[place]), Some(layer), layer.diff_id));
                rest = &rest[place + 1..];
            }
            None => changes.push(change(Presence::Added, None, Some(layer), layer.diff_id)),
        }
    }
    changes.extend(rest.iter().map(removed));
    changes
}

fn removed(layer: &Layer) -> LayerChange {
    change(Presence::Removed, Some(layer), None, layer.diff_id)
}

fn change(change: Presence, old: Option<&Layer>, new: Option<&Layer>, diff_id: Digest) -> LayerChange {
    LayerChange {
        change,
        diff_id,
        digest: Pair { before: old.map(|layer| layer.digest), after: new.map(|layer| layer.digest) },
        size: Pair { before: old.map(|layer| layer.size), after: new.map(|layer| layer.size) },
    }
}

fn compare_packages(old: Vec<Package>, new: Vec<Package>) -> PackageChanges {
    let by_name = |packages: Vec<Package>| -> BTreeMap<(String, String), String> {
        packages.into_iter().map(|one| ((one.name, one.architecture), one.version)).collect()
    };
    let (old, mut new) = (by_name(old), by_name(new));
    let mut changes = PackageChanges::default();
    for ((name, architecture), before) in old {
        match new.remove(&(name.clone(), architecture.clone())) {
            None => changes.removed.push(Package { name, version: before, architecture }),
            Some(after) if after != before => {
                changes.changed.push(PackageChange { name, architecture, version: Pair { before, after } });
            }
            Some(_) => {}
        }
    }
    let added = new.into_iter().map(|((name, architecture), version)| Package { name, version, architecture });
    changes.added = added.collect();
    changes
}

impl PackageChanges {
    /// Returns whether no package differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use vcstore::{Digest, Layer};

    use super::{Presence, compare_layers, compare_packages};
    use crate::packages::Package;

    fn layers(names: &str) -> Vec<Layer> {
        let layer = |name: char| {
            let digest = Digest::of(name.to_string().as_bytes());
            Layer { digest, diff_id: digest, size: 1, media_type: String::new() }
        };
        names.chars().map(layer).collect()
    }

    #[test]
    fn layers_are_listed_in_order_and_those_of_both_once() {
        let shown = |old: &str, new: &str| {
            let names = ["a", "b", "c", "x"].map(|name| (Digest::of(name.as_bytes()), name));
            let name = |digest| names.iter().find(|(known, _)| *known == digest).unwrap().1;
            let sign = |change| match change {
                Presence::Same => "=",
                Presence::Removed => "-",
                Presence::Added => "+",
            };
            let changes = compare_layers(&layers(old), &layers(new));
            changes.iter().map(|one| format!("{}{}", sign(one.change), name(one.diff_id))).collect::<String>()
        };
        assert_eq!(shown("abc", "abc"), "=a=b=c");
        assert_eq!(shown("abc", "abx"), "=a=b+x-c");
        assert_eq!(shown("abc", "c"), "-a-b=c");
        assert_eq!(shown("ab", "ba"), "-a=b+a");
        assert_eq!(shown("", "aa"), "+a+a");
    }

    #[test]
    fn packages_come_go_and_move() {
        let package = |text: &str| {
            let (name, version) = text.split_once(' ').unwrap();
            Package { name: name.to_owned(), version: version.to_owned(), architecture: "amd64".to_owned() }
        };
        let list = |lines: &[&str]| lines.iter().map(|line| package(line)).collect::<Vec<_>>();
        let changes = compare_packages(list(&["bash 5", "dash 1", "tar 1"]), list(&["bash 5", "gzip 1", "tar 2"]));
        assert_eq!((changes.removed, changes.added), (list(&["dash 1"]), list(&["gzip 1"])));
        let [one] = changes.changed.as_slice() else { panic!() };
        assert_eq!((one.name.as_str(), one.version.before.as_str(), one.version.after.as_str()), ("tar", "1", "2"));
    }
}
