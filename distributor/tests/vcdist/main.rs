//! `vcdist` on nodes of real parts: sshd, containerd, and this very program as the helper there.

mod cuts;
mod damage;
mod engine;
mod fallback;
mod garbage;
mod hostile;
mod many;
mod matrix;
mod plan;
mod prune;
mod push;
mod reach;
mod rig;
mod status;
mod under_way;
mod wire;
