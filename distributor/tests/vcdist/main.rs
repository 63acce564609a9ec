//! `vcdist` on nodes of real parts: sshd, containerd, and this very program as the helper there.

#![expect(clippy::duplicate_mod, reason = "what must hold over every SSH is one text, compiled once for each")]

mod cluster;
mod clusterversion;
mod corrupt_blobs;
mod ctr;
mod embedded_ssh;
mod engine;
mod garbage_collection;
mod help_commands;
mod hostile;
mod interrupted_pushes;
mod lock;
mod manifests;
mod many_nodes;
mod matrix;
mod placement;
mod plan;
mod progress;
mod prune;
mod relay;
mod render;
mod revisions;
mod rig;
mod rights;
mod rollouts;
mod run;
mod slow_links;
mod status;
mod takeover;
mod traffic;
mod uninstall;
mod uninstall_release;
mod validate;
mod vars;
mod with_embedded_ssh;
mod with_system_ssh;
