//! `vcdist` on nodes of real parts: sshd, containerd, and this very program as the helper there.

mod fallback;
mod push;
mod reach;
mod rig;
