//! Inspects images. This crate only reads a store: it builds, fetches and runs nothing.
//!
//! - [`image_fs`] reads the files of layers and images, and computes outlines.
//! - [`packages`] lists the Debian packages of an image.
//! - [`graph`] finds the actions that produced an image, from their records.
//! - [`compare`] reports the differences between two images, [`journal`] what builds did and when.
//! - [`report`] presents everything in an HTML page.

pub mod compare;
mod error;
pub mod graph;
pub mod image_fs;
pub mod journal;
pub mod packages;
pub mod report;

pub use error::Error;
