//! What tests of several crates run against: real parts on the loopback address (sshd, a registry, Docker), servers that can be
//! made to misbehave, and the processes, ports and waits that all of them need.
//!
//! Nothing of a rig outlives its test: processes end when their guards are dropped, within a bound, and are ended by their
//! numbers alone.

#![expect(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

pub mod docker;
pub mod files;
pub mod http;
pub mod layers;
#[cfg(feature = "debian")]
pub mod mirror;
pub mod port;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod run;
pub mod sshd;
pub mod tcp;
pub mod wait;

pub use files::folder;
pub use layers::{layer, store};
pub use process::Daemon;
pub use run::Run;
