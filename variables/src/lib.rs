//! vcvariables reads the variables of the Ansible role `k8s-virtual-cluster` and its siblings as people have them today.
//!
//! `yaml` and `inventory` read files; `layers` puts what they say of a host in Ansible's order of precedence; `template` and
//! `resolve` work out values as Ansible would. It opens no connection and starts no process.

mod error;
#[cfg(any(test, fuzzing))]
pub mod hostile;
pub mod inventory;
mod layers;
mod report;
mod repository;
mod resolve;
pub mod settings;
pub mod source;
pub mod table;
mod template;
pub mod value;
pub mod yaml;

pub use error::Error;
pub use layers::{Definition, Layers, Level};
pub use report::{Explained, Report};
pub use repository::{CONTROL_PLANE, Given, Repository};
pub use resolve::Resolver;

#[cfg(test)]
mod tests;
