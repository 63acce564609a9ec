//! The network as vcbuild uses it. Nothing opens a connection without a [`Permit`].
//!
//! - [`Network`] says whether this run may use the network.
//! - [`http`] makes requests: through the user's proxies, never to where a server must not send its clients, with an end to
//!   every wait.
//! - [`download`] brings blobs into a store: hashed as they come, resumed where they were cut.

pub mod download;
pub mod http;
mod permit;

pub use permit::{Network, Offline, Permit, causes};
