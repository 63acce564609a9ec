//! A report about the images of a store: their content, their changes, and the last build. It is a single HTML file
//! that needs no network.

mod html;
mod page;
mod timeline;
mod treemap;

use oci_spec::image::Descriptor;
use vcstore::{Image, PlatformImage, Store};

pub use self::page::{is_page, page};
use crate::Error;
use crate::compare::{self, ImageChanges, Side};
use crate::graph::Records;
use crate::image_fs::{Files, Layers};
use crate::journal::{self, Build};
use crate::packages::packages;

/// The content of a report.
#[derive(Debug)]
pub struct Report {
    /// The images, for each platform.
    pub images: Vec<ImageReport>,
    /// The builds in the journal, oldest first.
    pub builds: Vec<Build>,
}

/// The report on an image for a platform.
#[derive(Debug)]
pub struct ImageReport {
    /// The image.
    pub image: Image,
    /// The image for one platform.
    pub one: PlatformImage,
    /// The action that produced each layer, if the store has its record.
    pub layers: Vec<Option<String>>,
    /// Its files.
    pub files: Files,
    /// The number of Debian packages.
    pub packages: usize,
    /// The comparison with the previous image of this name.
    pub before: PreviousImage,
}

/// The previous version of an image.
#[derive(Debug)]
pub enum PreviousImage {
    /// The journal has no build with another version.
    Nothing,
    /// A previous version whose content is no longer in the store, with the start time of its build in milliseconds
    /// since 1970.
    Gone(u64),
    /// A previous version, with the start time of its build in milliseconds since 1970, and the changes.
    Changed(u64, Box<ImageChanges>),
}

impl Report {
    /// Collects the content of a report on these images.
    ///
    /// # Errors
    /// When a blob of an image is missing or damaged, or the store cannot be read.
    pub fn of(store: &Store, images: &[Image]) -> Result<Self, Error> {
        let (records, layers, builds) = (Records::read(store)?, Layers::default(), journal::builds(store)?);
        let mut report = Self { images: Vec::new(), builds };
        for image in images {
            for one in &image.platforms {
                let made = one.layers.iter().map(|layer| {
                    records.maker(&layer.digest).map(|(_, record)| format!("{} {}", record.kind(), record.name()))
                });
                report.images.push(ImageReport {
                    image: image.clone(),
                    one: one.clone(),
                    layers: made.collect(),
                    files: layers.files(store, &one.layers)?,
                    packages: packages(store, &one.layers)?.len(),
                    before: before(store, image, one, &report.builds, &layers)?,
                });
            }
        }
        Ok(report)
    }
}

/// Compares an image with its version in the last build that produced another one.
fn before(
    store: &Store,
    image: &Image,
    one: &PlatformImage,
    builds: &[Build],
    layers: &Layers,
) -> Result<PreviousImage, Error> {
    let other = |build: &Build| -> Option<(u64, Descriptor)> {
        let target = build.images.get(&image.name)?;
        (target.digest() != image.target.digest()).then(|| (build.began, target.clone()))
    };
    let Some((began, target)) = builds.iter().rev().find_map(other) else { return Ok(PreviousImage::Nothing) };
    // Garbage collection removes images without names.
    let whole = |image: &Image| image.check_complete(store).is_ok() && image.platform(&one.platform).is_some();
    let Some(old) = Image::open(store, &image.name, &target).ok().filter(whole) else {
        return Ok(PreviousImage::Gone(began));
    };
    let only = |image: &Image| {
        let platforms = image.platforms.iter().filter(|known| known.platform == one.platform).cloned().collect();
        Image { platforms, ..image.clone() }
    };
    let (old, new) = (only(&old), only(image));
    let changes = compare::images(Side { store, image: &old }, Side { store, image: &new }, layers)?;
    Ok(PreviousImage::Changed(began, Box::new(changes)))
}
