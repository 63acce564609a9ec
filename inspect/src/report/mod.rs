//! A page about the images of a store: what is in each, what changed, and how the last build went. One file that opens
//! without a network.

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

/// What the page shows.
#[derive(Debug)]
pub struct Report {
    /// The images, by platform.
    pub images: Vec<ImageReport>,
    /// The builds that the store remembers, the oldest first.
    pub builds: Vec<Build>,
}

/// An image for one platform.
#[derive(Debug)]
pub struct ImageReport {
    /// The image.
    pub image: Image,
    /// The image for one platform.
    pub one: PlatformImage,
    /// What made each layer, as far as the store knows.
    pub layers: Vec<Option<String>>,
    /// Its files.
    pub files: Files,
    /// How many Debian packages it has.
    pub packages: usize,
    /// How it differs from the image of that name before.
    pub before: PreviousImage,
}

/// What the image was before it was what it is.
#[derive(Debug)]
pub enum PreviousImage {
    /// No build is remembered in which it was another.
    Nothing,
    /// It was another, whose content is no longer in the store.
    Gone(u64),
    /// It was another, and this is what changed; with when that was built, in milliseconds since 1970.
    Changed(u64, Box<ImageChanges>),
}

impl Report {
    /// Reads what the report shows of these images.
    ///
    /// # Errors
    /// When a blob of an image is missing or damaged.
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

/// What an image was in the last build that made another of it.
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
    // Garbage collection takes what no name leads to any more.
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
