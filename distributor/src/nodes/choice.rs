//! Which nodes are selected: by name, label selector and role. Pure functions of the nodes in the API.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Node as ApiNode;
use vcmanifests::Placement;
use vcmanifests::workloads::{CONTROL_PLANE_LABELS, ETCD_LABEL, OS_LABEL, VIRTUAL_NODE_LABEL};

use super::{Error, selector};

/// The taint of virtual kubelets.
const VIRTUAL_NODE_TAINT: &str = "virtual-kubelet.io/provider";

/// The operating system that the images are for.
const LINUX: &str = "linux";

/// A selection of nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Only these names, regardless of role; if empty, all workers.
    pub names: Vec<String>,
    /// The excluded names.
    pub exclude: Vec<String>,
    /// A Kubernetes label selector.
    pub selector: Option<String>,
    /// Whether to include control-plane nodes.
    pub include_control_plane: bool,
    /// Whether host keys are looked up by node name instead of by address.
    pub keys_by_name: bool,
}

impl Choice {
    /// Returns the names in the choice that are not in `known`.
    pub(super) fn missing(&self, known: &BTreeSet<String>) -> Vec<String> {
        let named = self.names.iter().chain(&self.exclude);
        named.filter(|name| !known.contains(*name)).cloned().collect()
    }

    /// Whether the choice selects a node of the API, by its name, role and labels. The selector must be valid.
    pub(crate) fn covers(&self, node: &ApiNode) -> bool {
        let (role, labels) = (role(node), node.metadata.labels.clone().unwrap_or_default());
        let required =
            self.selector.as_deref().map(selector::requirements).transpose().ok().flatten().unwrap_or_default();
        role.obstacle().is_none()
            && !self.exclude.contains(&name(node))
            && means(self, node, &role)
            && required.iter().all(|one| selector::meets(&labels, one))
    }

    /// Checks the choice against all nodes of a cluster.
    ///
    /// # Errors
    /// Returns an error if its selector is not valid, or if it names a node that does not exist.
    pub(crate) fn check(&self, all: &[ApiNode]) -> Result<(), Error> {
        self.placement()?;
        check_names(&all.iter().map(name).collect(), self)
    }

    /// Returns the same choice for the rolled-out workloads.
    ///
    /// # Errors
    /// Returns an error if its selector is not valid.
    pub(crate) fn placement(&self) -> Result<Placement, Error> {
        let read = |selector: &String| {
            selector::requirements(selector).map_err(|why| Error::Selector { selector: selector.clone(), why })
        };
        Ok(Placement {
            names: self.names.clone(),
            exclude: self.exclude.clone(),
            requirements: self.selector.as_ref().map(read).transpose()?.unwrap_or_default(),
            include_control_plane: self.include_control_plane,
        })
    }

    /// Whether it selects a host of which only the name is known.
    pub(super) fn means(&self, name: &str) -> bool {
        let is = |one: &String| one == name;
        (self.names.is_empty() || self.names.iter().any(is)) && !self.exclude.iter().any(is)
    }
}

/// The role of a node for VirtualCluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// A node for the images and workloads.
    Worker,
    /// A node that is marked as control plane.
    ControlPlane,
    /// A node that runs only etcd, like the dedicated etcd nodes of RKE and RKE2.
    Etcd,
    /// A virtual kubelet without a machine, which hands its pods to another system.
    Virtual,
    /// A node with this operating system, for which there are no images.
    Foreign(String),
}

impl Role {
    /// Returns why the images cannot run on a node of this role, if they cannot.
    pub(super) fn obstacle(&self) -> Option<String> {
        match self {
            Self::Worker | Self::ControlPlane | Self::Etcd => None,
            Self::Virtual => Some("is a virtual node, behind which there is no machine".to_owned()),
            Self::Foreign(os) => Some(format!("runs {os}, and the images are for linux")),
        }
    }
}

/// Returns the role of a node, from its labels, its taints (present ones and those before Kubernetes 1.24) and its
/// operating system.
pub(crate) fn role(node: &ApiNode) -> Role {
    let label = node.metadata.labels.iter().flatten().find(|(key, _)| *key == OS_LABEL).map(|(_, os)| os.as_str());
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    let os = label.or(info.map(|info| info.operating_system.as_str())).filter(|os| !os.is_empty());
    if let Some(os) = os.filter(|os| *os != LINUX) {
        return Role::Foreign(os.to_owned());
    }
    let labels = node.metadata.labels.iter().flatten();
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).map(|taint| taint.key.as_str());
    let marks: BTreeSet<&str> = labels.clone().map(|(key, _)| key.as_str()).chain(taints).collect();
    let (label, value) = VIRTUAL_NODE_LABEL;
    if labels.into_iter().any(|(key, has)| key == label && has == value) || marks.contains(VIRTUAL_NODE_TAINT) {
        Role::Virtual
    } else if CONTROL_PLANE_LABELS.iter().any(|mark| marks.contains(mark)) {
        Role::ControlPlane
    } else if marks.contains(ETCD_LABEL) {
        Role::Etcd
    } else {
        Role::Worker
    }
}

/// Whether the choice selects a node by name or, without names, by role.
pub(super) fn means(choice: &Choice, node: &ApiNode, role: &Role) -> bool {
    if choice.names.is_empty() {
        *role == Role::Worker || (*role == Role::ControlPlane && choice.include_control_plane)
    } else {
        choice.names.contains(&name(node))
    }
}

pub(super) fn check_names(known: &BTreeSet<String>, choice: &Choice) -> Result<(), Error> {
    let missing = choice.missing(known);
    if missing.is_empty() { Ok(()) } else { Err(Error::Missing { missing, known: known.iter().cloned().collect() }) }
}

pub(super) fn name(node: &ApiNode) -> String {
    node.metadata.name.clone().unwrap_or_default()
}
