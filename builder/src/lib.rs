//! Builds OCI images reproducibly from pinned inputs, without a daemon.

pub mod cli;
