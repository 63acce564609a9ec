//! What images are made of. Everything here reads a store: nothing is built, fetched or run.
//!
//! - [`image_fs`] reads the files of layers and of images, and outlines them.
//! - [`packages`] reads which Debian packages an image has.
//! - [`graph`] reads which actions led to an image, from their records.
//! - [`compare`] says how two images differ; [`journal`] what builds did and when.
//! - [`report`] shows all of it on an HTML page.

pub mod compare;
mod error;
pub mod graph;
pub mod image_fs;
pub mod journal;
pub mod packages;
pub mod report;

pub use error::Error;
