//! `vcdist` on nodes of real parts: sshd, containerd, and this very program as the helper there.

mod damage;
mod engine;
mod fallback;
mod plan;
mod prune;
mod push;
mod reach;
mod rig;
mod status;
mod under_way;
mod wire;
