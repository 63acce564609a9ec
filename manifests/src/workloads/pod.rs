//! What the pods of all three components have in common.
//! Each runs as an ordinary user without capabilities, on a read-only root, and away from control-plane nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, EmptyDirVolumeSource, NodeAffinity, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecurityContext,
    TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::workloads::{labels, selector};
use crate::{Component, Parameters};

/// The labels that mark a control-plane node; a node with either is no worker. The second is the older name.
pub const CONTROL_PLANE_LABELS: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// The label in which kubelet names a node's operating system, as Go does: `linux`, `windows`.
pub const OS_LABEL: &str = "kubernetes.io/os";

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
        affinity: Some(workers_only()),
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
        tolerations: (!parameters.tolerations.is_empty())
            .then(|| parameters.tolerations.iter().map(Into::into).collect()),
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

/// vn-agent must not run on control-plane nodes, and the other two cannot: images are sent to workers. Those that run
/// Windows have no use for our images, which are for Linux.
fn workers_only() -> Affinity {
    let absent = |label: &str| NodeSelectorRequirement {
        key: label.to_owned(),
        operator: "DoesNotExist".to_owned(),
        values: None,
    };
    let linux = NodeSelectorRequirement {
        key: OS_LABEL.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec!["linux".to_owned()]),
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![NodeSelectorTerm {
                    match_expressions: Some([linux].into_iter().chain(CONTROL_PLANE_LABELS.map(absent)).collect()),
                    match_fields: None,
                }],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}
