//! Distributes images to Kubernetes nodes over SSH, rolls the manifests out and verifies what runs.
//!
//! A push goes [`nodes`] → [`session`] (over a [`transport`]) → [`images::inventory`] → [`images::plan`] → [`runtime`], and on the
//! node's side [`agent`] answers it. Then [`rollout`] applies the manifests, and [`verify`] asks whether they hold.

pub mod agent;
pub mod cli;
pub mod cluster;
#[cfg(any(test, fuzzing))]
pub mod hostile;
pub mod images;
pub mod nodes;
mod protocol;
pub mod prune;
pub mod push;
pub mod relay;
pub mod rollout;
pub mod runtime;
pub mod session;
pub mod status;
pub mod transport;
pub mod verify;
pub mod watch;
