//! Tests of the checks on states of a cluster: a healthy one, and one for each failure.

use std::time::Duration;

use serde_json::{Value, json};
use vcmanifests::Component;

use super::{Check, Report, Snapshot, verify};
use crate::nodes::Choice;
use crate::rollout::pods::tests::{pod, ready};

const IMAGE: &str = "docker.io/a/b@sha256:01";
const READY: &str = "2024-01-01T12:00:00Z";

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn template() -> Value {
    json!({ "spec": { "containers": [{ "name": "c", "image": IMAGE }] } })
}

/// Returns a healthy installation on two workers and a control plane.
fn healthy() -> Snapshot {
    let deployment = |component: Component| {
        object(json!({ "metadata": { "name": component.workload() },
            "spec": { "replicas": 1, "selector": {}, "template": template() },
            "status": { "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 } }))
    };
    let definition = |name: &str| {
        object(json!({ "metadata": { "name": name },
            "spec": { "group": "", "scope": "", "names": { "kind": "", "plural": "" },
                "versions": [{ "name": "v1alpha1", "served": true, "storage": true }] },
            "status": { "conditions": [{ "type": "Established", "status": "True" }] } }))
    };
    Snapshot {
        name: "vc-manager".to_owned(),
        namespace: Some(object(json!({ "status": { "phase": "Active" } }))),
        definitions: super::definitions::NAMES.map(definition).to_vec(),
        deployments: vec![deployment(Component::Manager), deployment(Component::Syncer)],
        daemonsets: vec![object(
            json!({ "metadata": { "name": "vn-agent" }, "spec": { "selector": {}, "template": template() },
            "status": { "currentNumberScheduled": 2, "desiredNumberScheduled": 2, "numberMisscheduled": 0,
                "numberReady": 2, "updatedNumberScheduled": 2, "numberAvailable": 2 } }),
        )],
        pods: vec![
            pod("vc-manager", "vc-manager-1", "w1", &ready(READY)),
            pod("vc-syncer", "vc-syncer-1", "w2", &ready(READY)),
            pod("vn-agent", "vn-agent-1", "w1", &ready(READY)),
            pod("vn-agent", "vn-agent-2", "w2", &ready(READY)),
        ],
        nodes: vec![
            object(json!({ "metadata": { "name": "cp", "labels": { "node-role.kubernetes.io/control-plane": "" } } })),
            object(json!({ "metadata": { "name": "w1" } })),
            object(json!({ "metadata": { "name": "w2" } })),
        ],
        warnings: vec![],
        now: "2024-01-01T12:05:00Z".parse().unwrap(),
    }
}

fn report(snapshot: &Snapshot) -> Report {
    verify(snapshot, Duration::from_secs(600), &Choice::default())
}

/// Returns the only check that fails.
fn failure(snapshot: &Snapshot) -> Check {
    let report = report(snapshot);
    let failed: Vec<Check> = report.checks.into_iter().filter(|check| !check.passed).collect();
    assert!(!report.passed);
    assert_eq!(failed.len(), 1, "{failed:?}");
    failed[0].clone()
}

fn warning(kind: &str, name: &str, seen: &str) -> k8s_openapi::api::core::v1::Event {
    object(json!({ "metadata": {}, "reason": "Unhealthy", "message": "connection refused", "lastTimestamp": seen,
        "involvedObject": { "kind": kind, "name": name, "uid": format!("uid-{name}") } }))
}

#[test]
fn a_healthy_installation_passes_with_evidence_for_each_answer() {
    insta::assert_snapshot!(report(&healthy()).text(), @r"
    ✓ namespace
        vc-manager is Active
    ✓ crds
        clusterversions.tenancy.x-k8s.io is Established, serving v1alpha1
        virtualclusters.tenancy.x-k8s.io is Established, serving v1alpha1
    ✓ pods
        deployment/vc-manager has 1/1 pods up to date and available
        vc-manager-1 on w1: Running and ready, image docker.io/a/b@sha256:01
        deployment/vc-syncer has 1/1 pods up to date and available
        vc-syncer-1 on w2: Running and ready, image docker.io/a/b@sha256:01
        daemonset/vn-agent has 2/2 pods up to date and available
        vn-agent-1 on w1: Running and ready, image docker.io/a/b@sha256:01
        vn-agent-2 on w2: Running and ready, image docker.io/a/b@sha256:01
    ✓ placement
        worker w1 has vn-agent-1
        worker w2 has vn-agent-2
        control-plane node cp has none
    ✓ events
        no Warning event of the last 10m is still of concern
    all 5 checks passed
    ");
}

#[test]
fn the_report_keeps_its_contract() {
    let json = serde_json::to_value(report(&healthy())).unwrap();
    assert_eq!(json["passed"], true);
    let names: Vec<&Value> = json["checks"].as_array().unwrap().iter().map(|check| &check["name"]).collect();
    assert_eq!(names, ["namespace", "crds", "pods", "placement", "events"]);
    for check in json["checks"].as_array().unwrap() {
        assert_eq!(check.as_object().unwrap().len(), 3);
        assert!(check["passed"].is_boolean() && !check["evidence"].as_array().unwrap().is_empty());
    }
}

#[test]
fn an_empty_cluster_fails_with_what_is_missing() {
    let empty = Snapshot {
        namespace: None,
        definitions: vec![],
        deployments: vec![],
        daemonsets: vec![],
        pods: vec![],
        ..healthy()
    };
    insta::assert_snapshot!(report(&empty).text(), @r"
    ✗ namespace
        vc-manager does not exist
    ✗ crds
        clusterversions.tenancy.x-k8s.io does not exist
        virtualclusters.tenancy.x-k8s.io does not exist
    ✗ pods
        deployment/vc-manager does not exist
        deployment/vc-syncer does not exist
        daemonset/vn-agent does not exist
    ✗ placement
        worker w1 has no vn-agent
        worker w2 has no vn-agent
        control-plane node cp has none
    ✓ events
        no Warning event of the last 10m is still of concern
    4 of 5 checks failed
    ");
}

#[test]
fn a_definition_that_is_not_established_fails() {
    let mut snapshot = healthy();
    snapshot.definitions[1].status = None;
    assert_eq!(failure(&snapshot).evidence[0], "virtualclusters.tenancy.x-k8s.io: it is not established yet");
}

#[test]
fn a_pod_that_is_not_ready_or_of_another_image_fails() {
    let mut snapshot = healthy();
    let starting = json!({ "phase": "Pending", "containerStatuses": [{ "name": "c", "image": "", "imageID": "",
        "ready": false, "restartCount": 0, "state": { "waiting": { "reason": "ContainerCreating" } } }] });
    snapshot.pods[0] = pod("vc-manager", "vc-manager-1", "w1", &starting);
    assert_eq!(failure(&snapshot).evidence[0], format!("vc-manager-1 on w1: ContainerCreating, image {IMAGE}"));

    let mut snapshot = healthy();
    snapshot.pods[1].spec.as_mut().unwrap().containers[0].image = Some("old".to_owned());
    let check = failure(&snapshot);
    assert!(check.evidence[0].ends_with(&format!("image old, and deployment/vc-syncer names {IMAGE}")), "{check:?}");
}

#[test]
fn a_workload_scaled_to_nothing_fails() {
    let mut snapshot = healthy();
    snapshot.deployments[0].spec.as_mut().unwrap().replicas = Some(0);
    snapshot.deployments[0].status = None;
    snapshot.pods.remove(0);
    assert_eq!(failure(&snapshot).evidence[0], "deployment/vc-manager wants no pods");
}

#[test]
fn an_evicted_pod_that_was_replaced_is_no_failure() {
    let mut snapshot = healthy();
    snapshot.pods.push(pod("vc-manager", "vc-manager-0", "w2", &json!({ "phase": "Failed", "reason": "Evicted" })));
    assert!(report(&snapshot).passed);
}

#[test]
fn vn_agent_must_be_on_every_worker_and_nowhere_else() {
    let mut missing = healthy();
    missing.nodes.push(object(json!({ "metadata": { "name": "w3" },
        "spec": { "taints": [{ "key": "gpu", "value": "a", "effect": "NoSchedule" }] } })));
    assert_eq!(
        failure(&missing).evidence[0],
        "worker w3 has no vn-agent; it is tainted gpu=a:NoSchedule: deploy with --tolerate to serve it"
    );

    let mut astray = healthy();
    astray.nodes.push(object(json!({ "metadata": { "name": "cp2" },
        "spec": { "taints": [{ "key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule" }] } })));
    astray.pods.push(pod("vn-agent", "vn-agent-3", "cp2", &ready(READY)));
    assert_eq!(failure(&astray).evidence[0], "control-plane node cp2 has vn-agent-3");
    assert!(failure(&astray).evidence[1].contains("--include-control-plane"));

    let mut twice = healthy();
    twice.pods.push(pod("vn-agent", "vn-agent-3", "w1", &ready(READY)));
    assert_eq!(failure(&twice).evidence[0], "worker w1 has 2 pods of vn-agent");
}

#[test]
fn a_cluster_without_workers_fails() {
    let mut snapshot = healthy();
    snapshot.nodes.truncate(1);
    snapshot.pods.truncate(2);
    assert!(failure(&snapshot).evidence[0].starts_with("the cluster has no worker"));
}

#[test]
fn warnings_of_a_rollout_that_ended_well_are_over() {
    let mut snapshot = healthy();
    snapshot.warnings = vec![
        warning("Pod", "vc-manager-1", "2024-01-01T11:59:58Z"),
        warning("Pod", "vc-manager-0", "2024-01-01T12:04:00Z"),
        warning("ReplicaSet", "vc-manager-abc", "2024-01-01T11:59:00Z"),
        warning("Pod", "vc-syncer-1", "2024-01-01T11:40:00Z"),
    ];
    let report = report(&snapshot);
    assert!(report.passed, "{report:?}");
    assert_eq!(report.checks[4].evidence.len(), 4, "too old an event is not even shown: {report:?}");
}

#[test]
fn a_warning_after_the_pod_got_ready_fails() {
    let mut snapshot = healthy();
    snapshot.warnings = vec![warning("Pod", "vc-manager-1", "2024-01-01T12:03:00Z")];
    assert_eq!(failure(&snapshot).evidence, ["2024-01-01T12:03:00Z Unhealthy of pod/vc-manager-1: connection refused"]);
    snapshot.warnings = vec![warning("DaemonSet", "vn-agent", "2024-01-01T12:03:00Z")];
    assert!(!failure(&snapshot).passed);
}

#[test]
fn a_pod_that_keeps_dying_between_moments_of_readiness_fails() {
    let mut snapshot = healthy();
    let mut status = ready(READY);
    status["containerStatuses"][0]["restartCount"] = json!(4);
    status["containerStatuses"][0]["lastState"] =
        json!({ "terminated": { "exitCode": 1, "finishedAt": "2024-01-01T11:59:30Z" } });
    snapshot.pods[0] = pod("vc-manager", "vc-manager-1", "w1", &status);
    snapshot.warnings = vec![warning("Pod", "vc-manager-1", "2024-01-01T11:59:40Z")];
    assert_eq!(failure(&snapshot).name, "events");
}

#[test]
fn a_node_that_runs_windows_needs_no_agent() {
    let mut mixed = healthy();
    mixed.nodes.push(object(json!({ "metadata": { "name": "win", "labels": { "kubernetes.io/os": "windows" } } })));
    let report = report(&mixed);
    let placement = report.checks.iter().find(|check| check.name == "placement").unwrap();
    assert!(report.passed && placement.evidence.contains(&"windows node win has none".to_owned()), "{placement:?}");
    mixed.pods.push(pod("vn-agent", "vn-agent-3", "win", &ready(READY)));
    assert_eq!(failure(&mixed).evidence[0], "windows node win has vn-agent-3");
}

#[test]
fn placement_takes_the_choice_of_nodes_that_deploy_took() {
    let placement = |snapshot: &Snapshot, choice: &Choice| {
        let report = verify(snapshot, Duration::from_secs(600), choice);
        report.checks.into_iter().find(|check| check.name == "placement").unwrap()
    };
    // A cluster of one node, which is its control plane.
    let mut single = healthy();
    single.nodes.truncate(1);
    single.pods.retain(|pod| pod.metadata.name.as_deref() != Some("vn-agent-2"));
    let agent = single.pods.iter_mut().find(|pod| pod.metadata.name.as_deref() == Some("vn-agent-1")).unwrap();
    agent.spec.as_mut().unwrap().node_name = Some("cp".to_owned());
    assert!(!placement(&single, &Choice::default()).passed);
    assert!(placement(&single, &Choice { include_control_plane: true, ..Choice::default() }).passed);

    let mut without = healthy();
    without.pods.retain(|pod| pod.metadata.name.as_deref() != Some("vn-agent-2"));
    assert!(!placement(&without, &Choice::default()).passed);
    for choice in [
        Choice { exclude: vec!["w2".to_owned()], ..Choice::default() },
        Choice { names: vec!["w1".to_owned()], ..Choice::default() },
    ] {
        assert!(placement(&without, &choice).passed, "{choice:?}");
    }
    assert!(!placement(&healthy(), &Choice { exclude: vec!["w2".to_owned()], ..Choice::default() }).passed);
}

#[test]
fn nodes_that_are_nobodys_workers_and_other_architectures_need_no_agent() {
    let mut mixed = healthy();
    let labels = [
        ("etcd1", json!({ "node-role.kubernetes.io/etcd": "true" })),
        ("virtual", json!({ "type": "virtual-kubelet" })),
        ("arm", json!({ "kubernetes.io/arch": "arm64" })),
    ];
    mixed.nodes.extend(labels.map(|(name, labels)| object(json!({ "metadata": { "name": name, "labels": labels } }))));
    let check = |snapshot: &Snapshot| verify(snapshot, Duration::from_secs(600), &Choice::default()).checks[3].clone();
    assert!(!check(&mixed).passed, "nothing says that the image is not for arm64");
    let terms = json!({ "nodeSelectorTerms": [{ "matchExpressions":
        [{ "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"] }] }] });
    let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } });
    let spec = mixed.daemonsets[0].spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.affinity = Some(object(affinity));
    let check = check(&mixed);
    assert!(check.passed, "{check:?}");
    assert!(
        check.evidence.contains(&"worker arm has none: it runs on arm64, and vn-agent's image is for amd64".to_owned())
    );
    assert!(check.evidence.contains(&"etcd node etcd1 has none".to_owned()));
}
