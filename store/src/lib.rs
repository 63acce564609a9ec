//! The content-addressed store that vcbuild and vcdist share: a valid OCI image layout, with records of the actions
//! that produced its blobs. This crate uses no network and starts no processes.
//!
//! - [`Store`] contains blobs by SHA-256; writes are atomic, and reads verify the digest.
//! - [`Action`] identifies a step by all its inputs; [`Store::realise`] runs it once and records its outputs.
//! - [`Tree`] and [`layer`] convert files to layers, [`Image`] reads the structure of an image.
//! - [`archive`] writes images to tar files and imports them.
//! - [`Store::verify`] and [`Store::gc`] check a store and limit its size while other processes use it;
//!   [`Store::usage`] reports the size of its parts.

mod action;
mod amount;
pub mod archive;
pub mod atomic;
mod blob;
mod bounded;
mod closure;
mod compression;
mod digest;
mod error;
mod gc;
mod image;
mod index;
mod json;
pub mod layer;
mod names;
mod owner;
mod paths;
mod platform;
mod realise;
mod record;
mod records;
pub mod reference;
mod remove;
mod roots;
mod session;
mod store;
mod tarball;
pub mod text;
mod tree;
mod usage;
mod verify;

pub use action::{Action, Outputs};
pub use amount::Amount;
pub use blob::{BlobReader, BlobWriter};
pub use bounded::{Bounded, Headers};
pub use closure::Closure;
pub use compression::{Compression, Decoder};
pub use digest::{ActionKey, Blob, Digest, Hasher, ParseDigestError};
pub use error::{Error, FULL_DISK, FileError, is_full_disk};
pub use gc::{Busy, Collected, CollectedCache, Keep};
pub use image::{Image, Layer, PlatformImage, artifact_kind};
pub use json::canonical_json;
pub use names::is_short_for;
pub use paths::{config_folder, lossy, path_variable, utf8};
pub use platform::Platform;
pub use realise::{Origin, Realised};
pub use record::Record;
pub use remove::tree as remove_tree;
pub use store::{Store, Substituter};
pub use tarball::Writer as TarWriter;
pub use tree::{Content, Entry, Kind, Tree};
pub use usage::{Cache, ImageUsage, Remembered, Usage};
pub use verify::Verified;
