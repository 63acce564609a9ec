//! The network access of vcbuild. No connection can be opened without a [`Permit`].
//!
//! - [`Network`] determines whether this run may use the network.
//! - [`http`] sends requests through the user's proxies, never to an address where a server must not direct its
//!   clients, and with a limit for every wait.
//! - [`download`] downloads blobs into a store: hashed as they arrive, and resumed after an interruption.

pub mod download;
pub mod http;
mod permit;

pub use permit::{Network, Offline, Permit, causes};
