//! VirtualCluster's API types and workloads as typed Kubernetes objects. Pure: turns [`Parameters`] into [`Object`]s in
//! dependency order.

mod any;
pub mod api;
mod arguments;
mod budget;
mod built_in;
mod chart;
mod command_line;
mod component;
mod control_plane;
mod documents;
mod error;
mod image;
mod names;
mod object;
mod parameters;
mod stage;
mod values;
mod volume;
pub mod workloads;
mod yaml;

pub use any::AnyObject;
pub use budget::{Budget, Budgets};
pub use built_in::known_kinds;
pub use chart::{Chart, installation_chart, is_unchanged_chart, release_chart};
pub use command_line::{CommandLine, CommandLines};
pub use component::Component;
pub use control_plane::{ControlPlane, Storage, cluster_version};
pub use documents::{
    Document, RELEASE, ServedKind, ServedKinds, complete_images, defined_kinds, documents, hook, is_helm_test, placed,
};
pub use error::Error;
pub use image::ImageReference;
pub use names::NamespaceName;
pub use object::Object;
pub use parameters::{
    Architectures, EtcdScheme, Images, Parameters, Placement, PullPolicy, Toleration, VnAgentFolders,
};
pub use stage::Stage;
pub use values::Values;
pub use volume::LocalVolume;
pub use yaml::{YamlError, files, to_yaml, yaml};

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
    objects.extend(workloads::surroundings(parameters));
    objects.push(Object::deployment(workloads::manager(parameters)));
    objects.push(Object::deployment(workloads::syncer(parameters)));
    objects.push(Object::daemon_set(workloads::vn_agent(parameters)));
    objects.sort_by_key(Object::stage);
    objects
}

#[cfg(test)]
mod tests;
