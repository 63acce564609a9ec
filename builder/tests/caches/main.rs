//! Caches, registries and build hosts, with real ones: folders, web servers, an sshd and a registry on the loopback address.

#![expect(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

#[path = "../vcbuild/bench.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod bench;
mod between;
mod build_host;
mod gate;
mod kinds;
mod liars;
mod misleading;
mod refusals;
mod registries;
mod server;
mod site;
mod sshd;
