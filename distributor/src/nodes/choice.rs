//! Which nodes are meant: by name, label selector and role. Pure functions of what the API says of a node.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Node as ApiNode;
use vcmanifests::Placement;
use vcmanifests::workloads::{CONTROL_PLANE_LABELS, ETCD_LABEL, OS_LABEL, VIRTUAL_NODE_LABEL};

use super::{Error, selector};

/// The taint of virtual kubelets.
const VIRTUAL_NODE_TAINT: &str = "virtual-kubelet.io/provider";

/// The operating system our images are for.
const LINUX: &str = "linux";

/// Which of the nodes are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// These only, whatever their role; all workers when empty.
    pub names: Vec<String>,
    /// Not these.
    pub exclude: Vec<String>,
    /// Those a label selector of Kubernetes picks.
    pub selector: Option<String>,
    /// The control plane's nodes too.
    pub include_control_plane: bool,
    /// Host keys are known by the nodes' names, and not by their addresses.
    pub keys_by_name: bool,
}

impl Choice {
    /// The names in it that no node has.
    pub(super) fn missing(&self, known: &BTreeSet<String>) -> Vec<String> {
        let named = self.names.iter().chain(&self.exclude);
        named.filter(|name| !known.contains(*name)).cloned().collect()
    }

    /// Whether a node of the API is meant, by its name, role and labels; its selector is a valid one.
    pub(crate) fn covers(&self, node: &ApiNode) -> bool {
        let (role, labels) = (role(node), node.metadata.labels.clone().unwrap_or_default());
        let required =
            self.selector.as_deref().map(selector::requirements).transpose().ok().flatten().unwrap_or_default();
        role.obstacle().is_none()
            && !self.exclude.contains(&name(node))
            && means(self, node, &role)
            && required.iter().all(|one| selector::meets(&labels, one))
    }

    /// Checks it against all nodes of a cluster.
    ///
    /// # Errors
    /// When its selector is not valid, or it names a node that there is not.
    pub(crate) fn check(&self, all: &[ApiNode]) -> Result<(), Error> {
        self.placement()?;
        check_names(&all.iter().map(name).collect(), self)
    }

    /// The same choice for what is rolled out.
    ///
    /// # Errors
    /// When its selector is none.
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

    /// Whether it selects a host, by its name alone.
    pub(super) fn means(&self, name: &str) -> bool {
        let is = |one: &String| one == name;
        (self.names.is_empty() || self.names.iter().any(is)) && !self.exclude.iter().any(is)
    }
}

/// What a node is to VirtualCluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// Our images and workloads go there.
    Worker,
    /// Marked as one of the control plane.
    ControlPlane,
    /// It runs etcd and nothing else, as RKE's and RKE2's dedicated nodes do.
    Etcd,
    /// There is no machine behind it: a virtual kubelet hands its pods to something else.
    Virtual,
    /// It runs this operating system, for which there are no images of ours.
    Foreign(String),
}

impl Role {
    /// Why our images have no place on a node of this role, if they have none.
    pub(super) fn obstacle(&self) -> Option<String> {
        match self {
            Self::Worker | Self::ControlPlane | Self::Etcd => None,
            Self::Virtual => Some("is a virtual node, behind which there is no machine".to_owned()),
            Self::Foreign(os) => Some(format!("runs {os}, and the images are for linux")),
        }
    }
}

/// What a node is to us, by its labels, its taints (today's, or those before Kubernetes 1.24) and its operating system.
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

/// Whether a node for our images is one of those that are named, or else of the role that is meant.
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
