//! `vcdist` on nodes of real parts: sshd, containerd, and this very program as the helper there.

#![expect(clippy::duplicate_mod, reason = "what must hold over every SSH is one text, compiled once for each")]

mod advice;
mod cluster;
mod cuts;
mod damage;
mod embedded;
mod engine;
mod fallback;
mod garbage;
mod hostile;
mod many;
mod matrix;
mod over_embedded;
mod over_system;
mod placement;
mod plan;
mod prune;
mod relay;
mod rig;
mod slow;
mod status;
mod under_way;
mod wire;
