//! What the pods of all three components have in common.
//! Each runs as an ordinary user without capabilities, on a read-only root, and away from control-plane nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, EmptyDirVolumeSource, NodeAffinity, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecurityContext,
    TCPSocketAction, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::workloads::{labels, selector};
use crate::{Component, Parameters, Placement};

/// The labels that mark a control-plane node: today's, that before Kubernetes 1.24, and RKE's. A node with one of them is not a worker.
pub const CONTROL_PLANE_LABELS: [&str; 3] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master", "node-role.kubernetes.io/controlplane"];

/// The label of the nodes that RKE and RKE2 run etcd on. A node that has it and is not of the control plane runs nothing else.
pub const ETCD_LABEL: &str = "node-role.kubernetes.io/etcd";

/// The label of nodes without a machine, and its value: a virtual kubelet hands its pods to something else.
pub const VIRTUAL_NODE_LABEL: (&str, &str) = ("type", "virtual-kubelet");

/// The label in which kubelet names a node's operating system, as Go does: `linux`, `windows`.
pub const OS_LABEL: &str = "kubernetes.io/os";

/// The label in which kubelet names a node's processor, as Go does: `amd64`, `arm64`.
pub const ARCHITECTURE_LABEL: &str = "kubernetes.io/arch";

/// The user and group that the components run as; the number that distroless images call nonroot.
const USER: i64 = 65532;

/// A component's pods, before its own arguments, ports, probes and volumes are added to `container` and `spec`.
pub(super) fn template(
    parameters: &Parameters,
    component: Component,
    extra_labels: BTreeMap<String, String>,
    complete: impl FnOnce(&mut Container, &mut PodSpec),
) -> PodTemplateSpec {
    let mut container = Container {
        name: component.workload().to_owned(),
        image: Some(parameters.images.of(component).to_string()),
        // The reference is a digest: what the node has under it cannot be out of date.
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec![component.name().to_owned()]),
        resources: Some(parameters.budgets.of(component).requirements()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    let mut spec = PodSpec {
        affinity: Some(affinity(&parameters.placement, parameters.architectures.of(component))),
        service_account_name: Some(component.workload().to_owned()),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        tolerations: Some(tolerations(parameters)).filter(|all| !all.is_empty()),
        ..PodSpec::default()
    };
    complete(&mut container, &mut spec);
    spec.containers = vec![container];

    let mut labels = labels(Some(component));
    labels.extend(selector(component));
    labels.extend(extra_labels);
    PodTemplateSpec { metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }), spec: Some(spec) }
}

/// Replaces a Deployment's one pod without a second beside it: the old one goes first.
///
/// `Recreate` says the same in one word, but cannot be applied server-side over a Deployment that was rolling until
/// now, as upstream's is: the rolling values that the server filled in stay, and are refused beside it.
pub(super) fn one_at_a_time() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(0)),
            max_unavailable: Some(IntOrString::Int(1)),
        }),
    }
}

/// Tries to connect to `port`; ready or alive when something accepts.
pub(super) fn tcp_probe(port: i32, period_seconds: i32) -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction { port: IntOrString::Int(port), host: None }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(1),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

/// A small folder in memory for keys that the program generates: they never reach a disk.
pub(super) fn scratch(name: &str, path: &str) -> (Volume, VolumeMount) {
    let volume = Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity("1Mi".to_owned())),
        }),
        ..Volume::default()
    };
    let mount = VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() };
    (volume, mount)
}

/// The taints that are accepted: those that were named, and those of the roles whose nodes are meant.
fn tolerations(parameters: &Parameters) -> Vec<Toleration> {
    let placement = &parameters.placement;
    let control_plane = CONTROL_PLANE_LABELS.into_iter().filter(|_| placement.reaches_control_plane());
    let etcd = [ETCD_LABEL].into_iter().filter(|_| !placement.names.is_empty());
    let roles = control_plane.chain(etcd).map(|key| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    });
    parameters.tolerations.iter().map(Into::into).chain(roles).collect()
}

/// The nodes that have the images: by default the workers, as `vcdist push` takes them. vn-agent must not run on control-plane nodes
/// of its own accord, and the other two cannot where their images are not. Nodes that run Windows, are of another architecture than
/// the images, run etcd alone or are virtual have no use for them.
fn affinity(placement: &Placement, architectures: &[String]) -> Affinity {
    let require = |key: &str, operator: &str, values: &[&str]| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: Some(values.iter().map(|&value| value.to_owned()).collect())
            .filter(|values: &Vec<_>| !values.is_empty()),
    };
    let (virtual_label, virtual_value) = VIRTUAL_NODE_LABEL;
    let mut common = vec![require(OS_LABEL, "In", &["linux"])];
    if !architectures.is_empty() {
        let architectures: Vec<&str> = architectures.iter().map(String::as_str).collect();
        common.push(require(ARCHITECTURE_LABEL, "In", &architectures));
    }
    let worker = CONTROL_PLANE_LABELS.into_iter().chain([ETCD_LABEL]).map(|label| require(label, "DoesNotExist", &[]));
    let worker: Vec<_> = worker.chain([require(virtual_label, "NotIn", &[virtual_value])]).collect();
    let control_plane = CONTROL_PLANE_LABELS.map(|label| vec![require(label, "Exists", &[])]);
    let field = |operator: &str, name: &String| require("metadata.name", operator, &[name]);
    // Of several terms one must hold; of the requirements in a term, all.
    let roles: Vec<(Vec<NodeSelectorRequirement>, Vec<NodeSelectorRequirement>)> = if placement.names.is_empty() {
        let control_plane = control_plane.into_iter().filter(|_| placement.include_control_plane);
        [worker].into_iter().chain(control_plane).map(|labels| (labels, Vec::new())).collect()
    } else {
        placement.names.iter().map(|name| (Vec::new(), vec![field("In", name)])).collect()
    };
    let terms = roles.into_iter().map(|(labels, mut fields)| {
        fields.extend(placement.exclude.iter().map(|name| field("NotIn", name)));
        let labels = common.iter().cloned().chain(labels).chain(placement.requirements.iter().cloned());
        NodeSelectorTerm {
            match_expressions: Some(labels.collect()),
            match_fields: Some(fields).filter(|fields| !fields.is_empty()),
        }
    });
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: terms.collect(),
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}
