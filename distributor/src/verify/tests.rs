//! Tests of the checks on states of a cluster: a healthy one, and one for each failure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use vcmanifests::Component;

use super::{Answer, Call, Check, Probe, Report, Snapshot, verify};
use crate::nodes::Choice;
use crate::rollout::pods::tests::{pod, ready};

const IMAGE: &str = "docker.io/a/b@sha256:01";
const READY: &str = "2024-01-01T12:00:00Z";

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn template() -> Value {
    let args = ["--enable-webhook=true"];
    json!({ "spec": { "containers": [{ "name": "c", "image": IMAGE, "args": args }] } })
}

fn lease(name: &str, holder: &str) -> k8s_openapi::api::coordination::v1::Lease {
    object(json!({ "metadata": { "name": name },
        "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2024-01-01T12:04:58.000000Z" } }))
}

fn log(pod: &str, lines: &[&str]) -> (String, super::PodLog) {
    (pod.to_owned(), Ok(super::logs::lines(&lines.join("\n"))))
}

fn probe(node: &str, answer: Answer) -> Probe {
    Probe { node: node.to_owned(), address: "192.0.2.1:10550".to_owned(), answer }
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
        leases: vec![
            lease("vc-manager-leaderelection-lock", "vc-manager-1_a"),
            lease("vc-syncer-leaderelection-lock", "vc-syncer-1_b"),
        ],
        webhook: Some(object(
            json!({ "webhooks": [{ "name": "w", "admissionReviewVersions": [], "sideEffects": "None",
            "clientConfig": { "caBundle": "AAAA" } }] }),
        )),
        webhook_call: Call::Answered,
        logs: BTreeMap::from([log("vc-syncer-1", &["2024-01-01T12:01:00Z started"])]),
        probes: vec![probe("w1", Answer::Refused("TLS alert BadCertificate".to_owned()))],
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
    ✓ webhook
        virtualcluster-validating-webhook-configuration answers over TLS with its CA
    ✓ leaders
        vc-manager: vc-manager-1 leads and renews lease vc-manager-leaderelection-lock
        vc-syncer: vc-syncer-1 leads and renews lease vc-syncer-leaderelection-lock
    ✓ logs
        no denied permission and no refused clusterIPs in the last 300 lines of 1 pods
    ✓ clients
        w1: vn-agent at 192.0.2.1:10550 refuses a self-signed client: TLS alert BadCertificate
    ✓ events
        no Warning event of the last 10m is still of concern
    all 9 checks passed
    ");
}

#[test]
fn the_report_keeps_its_contract() {
    let json = serde_json::to_value(report(&healthy())).unwrap();
    assert_eq!(json["passed"], true);
    let names: Vec<&Value> = json["checks"].as_array().unwrap().iter().map(|check| &check["name"]).collect();
    let expected = ["namespace", "crds", "pods", "placement", "webhook", "leaders", "logs", "clients", "events"];
    assert_eq!(names, expected);
    for check in json["checks"].as_array().unwrap() {
        assert_eq!(check.as_object().unwrap().len(), 4);
        assert_eq!(check["remedy"], Value::Null);
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
        leases: vec![],
        webhook: None,
        webhook_call: Call::None,
        logs: BTreeMap::new(),
        probes: vec![],
        ..healthy()
    };
    insta::assert_snapshot!(report(&empty).text(), @r"
    ✗ namespace
        vc-manager does not exist
        to do: run `vcdist deploy`; a namespace that stays Terminating is removed by `vcdist uninstall`
    ✗ crds
        clusterversions.tenancy.x-k8s.io does not exist
        virtualclusters.tenancy.x-k8s.io does not exist
        to do: run `vcdist deploy`, which applies the definitions
    ✗ pods
        deployment/vc-manager does not exist
        deployment/vc-syncer does not exist
        daemonset/vn-agent does not exist
        to do: `vcdist status` shows whether the nodes have the images, `vcdist deploy` rolls out again and says what is in the way
    ✗ placement
        worker w1 has no vn-agent
        worker w2 has no vn-agent
        control-plane node cp has none
        to do: run `vcdist deploy` with the options for nodes (--nodes, --exclude, --selector, --tolerate) that are meant
    ✓ webhook
        no vc-manager runs with --enable-webhook
    ✓ leaders
        vc-manager has no pod that could lead
        vc-syncer has no pod that could lead
    ✓ logs
        no denied permission and no refused clusterIPs in the last 300 lines of 0 pods
    ✓ clients
        no vn-agent is ready
    ✓ events
        no Warning event of the last 10m is still of concern
    4 of 9 checks failed
    ");
}

#[test]
fn a_vn_agent_that_accepts_a_client_nobody_vouches_for_fails() {
    let mut open = healthy();
    open.probes.push(probe("w2", Answer::Accepted(404)));
    let check = failure(&open);
    assert_eq!(check.name, "clients");
    assert_eq!(
        check.evidence[0],
        "w2: vn-agent at 192.0.2.1:10550 accepts a self-signed client with the common name \"kube\" (HTTP 404): whoever \
         reaches it can run commands in pods of every namespace"
    );
    assert!(check.remedy.unwrap().contains("vn-agent-client-certificate"), "{check:?}");
    let mut far = healthy();
    far.probes = vec![probe("w2", Answer::Unreachable("timed out".to_owned()))];
    let said = "w2: vn-agent at 192.0.2.1:10550 was not asked, because it cannot be reached from here: timed out";
    assert!(report(&far).passed && report(&far).checks[7].evidence == [said]);
}

#[test]
fn a_component_without_a_leader_fails() {
    let mut snapshot = healthy();
    snapshot.leases[0] = lease("vc-manager-leaderelection-lock", "vc-manager-0_a");
    assert_eq!(
        failure(&snapshot).evidence[0],
        "vc-manager has no leader: lease vc-manager-leaderelection-lock is held by vc-manager-0, which does not run"
    );
    snapshot.leases[0] = lease("vc-manager-leaderelection-lock", "");
    assert!(failure(&snapshot).evidence[0].ends_with("lease vc-manager-leaderelection-lock has no holder"));
    snapshot.leases.remove(0);
    assert_eq!(failure(&snapshot).evidence[0], "vc-manager has no leader: no pod of it holds a lease");
    assert!(super::leaders::is_pending(&snapshot));
    let mut off = snapshot.clone();
    let spec = off.deployments[0].spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.containers[0].args.as_mut().unwrap().push("--leader-election=false".to_owned());
    assert!(report(&off).passed && !super::leaders::is_pending(&off));

    let mut late = healthy();
    late.now = "2024-01-01T12:05:58Z".parse().unwrap();
    assert_eq!(
        failure(&late).evidence[0],
        "vc-manager: vc-manager-1 holds lease vc-manager-leaderelection-lock, but renewed it last 1m ago"
    );
}

#[test]
fn denied_permissions_and_refused_addresses_in_logs_fail() {
    let denied =
        "2024-01-01T12:04:00Z E1 pods is forbidden: User \"system:serviceaccount:a:b\" cannot list resource \"pods\"";
    let addresses = "2024-01-01T12:04:30Z Service \"x\" is invalid: spec.clusterIPs[0]: Invalid value";
    let mut snapshot = healthy();
    snapshot.logs = BTreeMap::from([log("vc-syncer-1", &[denied, addresses]), log("vc-manager-1", &[addresses])]);
    let check = failure(&snapshot);
    assert_eq!((check.name, check.evidence.len()), ("logs", 2), "the manager may speak of clusterIPs: {check:?}");
    assert!(check.evidence[0].starts_with("2024-01-01T12:04:00Z vc-syncer-1: E1 pods is forbidden"), "{check:?}");
    let early = verify(&snapshot, Duration::from_secs(10), &Choice::default());
    assert!(early.passed, "what is older than the window does not count: {early:?}");
    snapshot.logs = BTreeMap::from([("vn-agent-1".to_owned(), Err("no route".to_owned()))]);
    assert_eq!(failure(&snapshot).evidence[0], "the log of vn-agent-1 cannot be read: no route");
}

#[test]
fn a_webhook_that_does_not_answer_fails() {
    let mut snapshot = healthy();
    snapshot.webhook_call = Call::Failed("failed calling webhook: x509".to_owned());
    let said = "the API server cannot call the webhook: failed calling webhook: x509";
    assert_eq!(failure(&snapshot).evidence[0], said);
    snapshot.webhook = None;
    assert!(failure(&snapshot).evidence[0].ends_with("webhook-configuration does not exist"));
    let spec = snapshot.deployments[0].spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.containers[0].args = None;
    assert!(report(&snapshot).passed, "a manager without a webhook needs none");
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
fn a_pod_that_runs_another_digest_than_its_image_names_fails() {
    let runs = |names: &[&str]| {
        let mut snapshot = healthy();
        let mut status = ready(READY);
        status["containerStatuses"][0]["name"] = json!("vc-syncer");
        status["containerStatuses"][0]["imageID"] = json!("docker.io/a/b@sha256:02");
        snapshot.pods[1] = pod("vc-syncer", "vc-syncer-1", "w2", &status);
        snapshot.nodes[2].status = Some(object(json!({ "images": [{ "names": ["c:1"] }, { "names": names }] })));
        snapshot
    };
    let other = failure(&runs(&["docker.io/a/b@sha256:02", "docker.io/a/b:latest"]));
    assert_eq!(
        other.evidence[0],
        format!("vc-syncer-1 on w2: Running and ready, image {IMAGE}, and docker.io/a/b@sha256:02 runs")
    );
    // One image with two manifests; an image that may have more names; one that the node does not list.
    assert!(report(&runs(&["docker.io/a/b@sha256:02", IMAGE])).passed);
    assert!(report(&runs(&["docker.io/a/b@sha256:02", "a:1", "a:2", "a:3", "a:4"])).passed);
    assert!(report(&runs(&[])).passed);
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
    assert_eq!(report.checks[8].evidence.len(), 4, "too old an event is not even shown: {report:?}");
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
