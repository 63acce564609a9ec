//! The common parts of the pods of all three components. Each runs as an unprivileged user without capabilities, with a
//! read-only root, and not on control-plane nodes.

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

/// The labels of control-plane nodes: the present one, the one before Kubernetes 1.24, and RKE's. A node with one of
/// them is not a worker.
pub const CONTROL_PLANE_LABELS: [&str; 3] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master", "node-role.kubernetes.io/controlplane"];

/// The label of the nodes on which RKE and RKE2 run etcd. A node with this label that is not a control-plane node runs
/// nothing else.
pub const ETCD_LABEL: &str = "node-role.kubernetes.io/etcd";

/// The label of virtual nodes and its value: a virtual kubelet hands its pods to another system.
pub const VIRTUAL_NODE_LABEL: (&str, &str) = ("type", "virtual-kubelet");

/// The label in which the kubelet reports a node's operating system, in Go's form: `linux`, `windows`.
pub const OS_LABEL: &str = "kubernetes.io/os";

/// The label in which the kubelet reports a node's architecture, in Go's form: `amd64`, `arm64`.
pub const ARCHITECTURE_LABEL: &str = "kubernetes.io/arch";

/// The user and group of the components, which distroless images call nonroot.
const USER: i64 = 65532;

/// Returns a component's pod template; `complete` adds its arguments, ports, probes and volumes.
pub(super) fn template(
    parameters: &Parameters,
    component: Component,
    extra_labels: BTreeMap<String, String>,
    complete: impl FnOnce(&mut Container, &mut PodSpec),
) -> PodTemplateSpec {
    let mut container = Container {
        name: component.workload().to_owned(),
        image: Some(parameters.images.of(component).to_string()),
        image_pull_policy: Some(parameters.pull_policy.as_str().to_owned()),
        command: Some(parameters.command_lines.command(component)),
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

/// Replaces a Deployment's only pod without a second one beside it: the old pod ends first.
///
/// `Recreate` is the simpler equivalent, but cannot be applied server-side to an existing rolling Deployment, such as
/// upstream's: the rolling parameters that the server has filled in remain, and are invalid together with it.
pub(super) fn one_at_a_time() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(0)),
            max_unavailable: Some(IntOrString::Int(1)),
        }),
    }
}

/// A probe that succeeds if `port` accepts a connection.
pub(super) fn tcp_probe(port: i32, period_seconds: i32) -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction { port: IntOrString::Int(port), host: None }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(1),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

/// A small in-memory volume for keys that the program generates, so that they are never written to a disk.
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

/// Returns the tolerations: the configured ones, and those for the roles of selected nodes.
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

/// Returns the affinity to the nodes that have the images: by default the workers, as in `vcdist push`. vn-agent must
/// not run on control-plane nodes by default, and the other two cannot run where their images are missing. Nodes that
/// run Windows, have another architecture than the images, run only etcd, or are virtual are excluded.
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
    // One of the terms must match; within a term, all requirements must.
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
