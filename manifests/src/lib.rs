//! VirtualCluster's API types and workloads as typed Kubernetes objects. Pure: turns [`Parameters`] into [`Object`]s in
//! dependency order.

pub mod api;
mod component;
mod error;
mod image;
mod names;
mod object;
mod parameters;
pub mod workloads;
mod yaml;

pub use component::Component;
pub use error::Error;
pub use image::ImageReference;
pub use names::NamespaceName;
pub use object::{Object, Stage};
pub use parameters::{Architectures, Budget, Budgets, Images, Parameters, Placement, Toleration};
pub use yaml::{files, yaml};

/// Returns every object of a VirtualCluster installation, in dependency order: namespace, definitions, access,
/// workloads.
#[must_use]
pub fn objects(parameters: &Parameters) -> Vec<Object> {
    let mut objects = vec![
        Object::Namespace(workloads::namespace(parameters)),
        Object::definition(api::cluster_version_definition()),
        Object::definition(api::virtual_cluster_definition()),
    ];
    objects.extend(workloads::access(parameters));
    objects.push(Object::Secret(workloads::kubelet_client_secret(parameters)));
    objects.push(Object::deployment(workloads::manager(parameters)));
    objects.push(Object::deployment(workloads::syncer(parameters)));
    objects.push(Object::daemon_set(workloads::vn_agent(parameters)));
    objects
}

#[cfg(test)]
mod tests;
