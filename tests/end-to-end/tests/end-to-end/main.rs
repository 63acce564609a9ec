//! The two commands on real parts, from source to a cluster that runs what was built.

#![expect(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

mod after_push;
mod ansible;
mod archives;
mod documents;
mod helm;
mod kubelet;
mod life_cycle;
mod main_job;
mod nix;
mod refusals;
mod releases;
mod run;
mod takeover;
mod validate;
