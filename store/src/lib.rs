//! The content-addressed store that vcbuild and vcdist share: a valid OCI image layout, with the actions that made its
//! blobs beside it. No network and no processes here.
//!
//! - [`Store`] holds blobs by SHA-256; they appear whole or not at all, and are hashed on the way out.
//! - [`Action`] names a step by all its inputs; [`Store::realise`] runs it once and remembers its outputs.
//! - [`Tree`] and [`layer`] turn files into layers, [`Image`] reads what an image is made of.
//! - [`archive`] moves images in and out of tar files.
//! - [`Store::verify`] and [`Store::gc`] keep a store sound and small, beside others who use it; [`Store::usage`] says
//!   what takes how much.

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
