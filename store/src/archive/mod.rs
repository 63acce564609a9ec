//! Images in and out of single files.
//!
//! What [`write`] makes is an OCI image layout (image-layout.md) and a docker-archive (`docker save`) in one tar file, over
//! the same blobs: containerd, Docker, Podman and skopeo read it, each in its own way.

mod import;
mod write;

pub use import::import;
pub use write::{hash, write};
