//! Distributes images to Kubernetes nodes over SSH, rolls the manifests out and verifies what runs.
//!
//! A push goes [`nodes`] → [`session`] (over a [`transport`]) → [`inventory`] → [`plan`] → transfer (over several lines where
//! that pays), and on the node's side [`helper`] answers it. Then [`rollout`] applies the manifests, and [`verify`] asks whether they hold.

mod assembly;
pub mod cli;
pub mod cluster;
pub mod engine;
pub mod fallback;
pub mod footprint;
mod graph;
pub mod helper;
#[cfg(any(test, fuzzing))]
pub mod hostile;
pub mod interrupt;
pub mod inventory;
mod lines;
pub mod nodes;
pub mod plan;
mod protocol;
pub mod prune;
pub mod push;
pub mod pushed;
pub mod rate;
pub mod relay;
mod removal;
pub mod report;
pub mod rollout;
pub mod session;
pub mod status;
mod transfer;
pub mod transport;
pub mod verify;
pub mod wanted;
pub mod watch;
