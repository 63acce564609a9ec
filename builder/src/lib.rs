//! Builds OCI images reproducibly from pinned inputs, without a daemon.

pub mod base;
pub mod cli;
