//! Distributes images to Kubernetes nodes over SSH, rolls the manifests out and verifies what runs.

pub mod cli;
pub mod cluster;
pub mod rollout;
pub mod verify;
