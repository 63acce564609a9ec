//! The API group `tenancy.x-k8s.io/v1alpha1`: types of VirtualCluster and ClusterVersion, and their definitions. The
//! definitions accept every object that upstream's accept, so that they can replace them.

mod cluster_version;
mod virtual_cluster;

pub use cluster_version::{Bundle, ClusterVersion, ClusterVersionSpec, cluster_version_definition};
pub use virtual_cluster::{
    Condition, Phase, VirtualCluster, VirtualClusterSpec, VirtualClusterStatus, virtual_cluster_definition,
};

#[cfg(test)]
mod tests;
