//! Builds OCI images reproducibly from pinned inputs, without a daemon.
//!
//! Data flows in one direction: a `project` defines what to build from which `source`; the builder of each component's
//! kind, such as `go`, builds its files from exactly the inputs that they need; the files become a layer on a `base`,
//! and base and layers an `image`. Every step is an action of the store, so that nothing is built twice. `build` runs
//! the whole build, `cli` has the commands.

mod allowed;
mod base;
mod build;
mod build_context;
mod cargo;
mod check;
mod checkout;
pub mod cli;
mod command;
mod config;
mod display;
mod error;
mod failure_log;
mod file_manifest;
mod files;
mod go;
mod go_names;
mod host_inputs;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod image;
mod layer;
mod lock;
mod lower_layers;
mod manifest;
mod offline_inputs;
mod offline_inputs_writer;
mod platform;
mod prebuilt;
mod progress;
mod project;
mod provenance;
mod provenance_header;
mod request;
mod source;

pub(crate) use error::Error;
