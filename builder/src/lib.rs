//! Builds OCI images reproducibly, without a daemon.
