//! Caches, registries and build hosts, with real ones: folders, web servers, an sshd and a registry on the loopback address.

#![expect(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

#[path = "../vcbuild/bench.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod bench;
mod build_host;
mod cache_server;
mod fault_proxy;
mod faulty_caches;
mod fixture;
mod malicious_servers;
mod proxies;
mod registries;
mod registry_errors;
mod transports;
