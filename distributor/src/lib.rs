//! vcdist distributes images to Kubernetes nodes over SSH, rolls the manifests out and verifies what runs.
//!
//! `cli` parses the command line. `nodes` finds the nodes, `push` serves them in parallel, `runtime` works on each
//! node's container runtime over a `transport`, and `agent` runs on a node. `rollout` applies the manifests,
//! `verify` checks them, and `uninstall` removes them. `validate` finds beforehand what would fail, `detect` the images of the
//! control plane, and `rights` lists what a user needs. Modules import each other in one direction only;
//! `xtask/src/circles.rs` tests this.

pub mod agent;
pub mod cli;
pub mod cluster;
pub mod detect;
mod duration;
#[cfg(any(test, fuzzing))]
pub mod hostile;
pub mod images;
pub mod lock;
pub mod manifests;
pub mod nodes;
mod protocol;
pub mod prune;
pub mod push;
pub mod relay;
pub mod rights;
pub mod rollout;
pub mod run;
pub mod runtime;
pub mod session;
pub mod status;
pub mod transport;
pub mod uninstall;
pub mod validate;
pub mod verify;
pub mod watch;
