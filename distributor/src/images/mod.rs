//! Images as data: what an image must be on a node, what the node has of it, and what a push must send.
//!
//! All modules are pure, except that `unpacked_size` reads layers of the store. They use the protocol's messages and
//! nothing else of this crate.

pub mod desired_image;
pub(crate) mod image_name;
pub mod inventory;
pub mod plan;
pub mod push_label;
pub mod unpacked_size;
