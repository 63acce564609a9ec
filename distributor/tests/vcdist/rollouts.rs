//! What a rollout refuses before it changes anything, what it tells while it waits, and how it ends when it is interrupted.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rigs::wait;
use serde_json::{Value, json};

use crate::rig::api::{Api, ApiFault, NEVER_READY};

const NAMESPACE: &str = "/api/v1/namespaces/vc-manager";
const SYNCER: &str = "/apis/apps/v1/namespaces/vc-manager/deployments/vc-syncer";
const BINDING: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/vc-syncer-rolebinding";
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/virtualclusters.tenancy.x-k8s.io";
const TENANT: &str = "/apis/tenancy.x-k8s.io/v1alpha1/namespaces/team/virtualclusters/one";

fn deploy(api: &Api, digest: &str, arguments: &[&str]) -> Command {
    let mut command = api.vcdist(&["deploy"]);
    for component in ["manager", "syncer", "vn-agent"] {
        command.arg("--image").arg(format!("{component}=docker.io/a/{component}@{digest}"));
    }
    command.args(arguments);
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("vcdist runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

fn digest(digit: &str) -> String {
    format!("sha256:{}", digit.repeat(64))
}

#[test]
fn changes_that_are_throttled_are_made_again_after_the_time_that_the_server_asks_for() {
    let api = Api::up();
    api.fail_changes(&[ApiFault::Status(429, "retry-after: 1\r\n"), ApiFault::Status(429, "retry-after: 2\r\n")]);
    let begun = Instant::now();
    let (code, _, said) = output(&mut deploy(&api, &digest("a"), &[]));
    assert_eq!(code, Some(0), "{said}");
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(said.matches("trying again").count(), 1, "{said}");
    // The server goes away in the middle of a deployment, and comes back.
    api.fail_changes(&[ApiFault::Hangs, ApiFault::Breaks, ApiFault::Status(503, "")]);
    let (code, _, said) = output(&mut deploy(&api, &digest("b"), &[]));
    assert_eq!(code, Some(0), "{said}");
    let (code, out, _) = output(&mut deploy(&api, &digest("b"), &["--dry-run"]));
    assert_eq!((code, out.contains("0 of ")), (Some(0), true), "{out}");
}

#[test]
fn what_can_never_change_is_made_anew_only_when_allowed() {
    let api = Api::up();
    let (code, _, said) = output(&mut deploy(&api, &digest("a"), &[]));
    assert_eq!(code, Some(0), "{said}");
    let mut binding = api.get(BINDING).expect("a binding");
    binding["roleRef"]["name"] = json!("other");
    let uid = binding["metadata"]["uid"].clone();
    api.put(BINDING, binding);
    let before = api.changes().len();
    let (code, out, said) = output(&mut deploy(&api, &digest("b"), &["--dry-run"]));
    let line = "clusterrolebinding/vc-syncer-rolebinding recreated (deleted, then created)\n    roleRef: {";
    assert_eq!((code, said.contains(line) || out.contains(line)), (Some(0), true), "{out}{said}");
    let (code, _, said) = output(&mut deploy(&api, &digest("b"), &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("vc-syncer-rolebinding would have to be deleted and created again"), "{said}");
    assert!(said.contains("roleRef cannot be changed once it exists") && said.contains("--recreate"), "{said}");
    assert_eq!(api.changes().len(), before, "nothing was changed");

    let begin = api.snapshot();
    let mut kills = 0;
    for count in 1.. {
        if !api.kill_after(count, &mut deploy(&api, &digest("b"), &["--recreate"])) {
            break;
        }
        kills += 1;
        let (code, _, said) = output(&mut deploy(&api, &digest("b"), &["--recreate"]));
        assert_eq!(code, Some(0), "killed after {count} changes: {said}");
        let again = api.get(BINDING).expect("a binding");
        assert_eq!(again["roleRef"]["name"], "vc-syncer-role", "killed after {count} changes");
        assert_ne!(again["metadata"]["uid"], uid, "killed after {count} changes");
        api.restore(&begin);
    }
    assert!(kills >= 4, "{kills}");
    assert_eq!(api.get(BINDING).expect("a binding")["roleRef"]["name"], "vc-syncer-role");
}

#[test]
fn a_definition_that_living_objects_do_not_survive_is_refused_before_anything_changes() {
    let api = Api::up();
    let (code, _, said) = output(&mut deploy(&api, &digest("a"), &[]));
    assert_eq!(code, Some(0), "{said}");
    let ours = api.get(DEFINITION).expect("a definition");
    let before = api.changes().len();
    let refused = |words: &[&str]| {
        for further in [&[][..], &["--dry-run"], &["--force-conflicts", "--recreate"]] {
            let (code, _, said) = output(&mut deploy(&api, &digest("b"), further));
            assert_eq!(code, Some(1), "{further:?}: {said}");
            assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
        }
        assert_eq!(api.changes().len(), before, "nothing was changed");
    };
    // A definition that took anything, as an earlier one might.
    let mut loose = ours.clone();
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = open.clone();
    api.put(DEFINITION, loose.clone());
    let tenant = |spec: Value| json!({ "apiVersion": "tenancy.x-k8s.io/v1alpha1", "kind": "VirtualCluster", "metadata": {}, "spec": spec });
    api.put(TENANT, tenant(json!({ "clusterVersionName": 5 })));
    refused(&["virtualclusters.tenancy.x-k8s.io", "team/one: spec.clusterVersionName: 5 is not of the type string"]);
    api.put(TENANT, tenant(json!({ "clusterVersionName": "cv" })));
    let (code, _, said) = output(&mut deploy(&api, &digest("a"), &["--dry-run"]));
    assert_eq!(code, Some(0), "one that fits is no obstacle: {said}");

    let mut served = ours.clone();
    served["spec"]["versions"].as_array_mut().expect("versions").push(json!({ "name": "v0", "served": true,
        "storage": false, "schema": { "openAPIV3Schema": open } }));
    api.put(DEFINITION, served.clone());
    let older = TENANT.replace("v1alpha1", "v0");
    api.put(&older, tenant(json!({})));
    let (code, _, said) = output(&mut deploy(&api, &digest("a"), &["--dry-run"]));
    assert_eq!(code, Some(0), "what is served in v1alpha1 too is no obstacle: {said}");
    let mut alone = served.clone();
    alone["spec"]["versions"].as_array_mut().expect("versions").retain(|version| version["name"] == "v0");
    api.put(DEFINITION, alone);
    refused(&["does not serve the version v0 any more, and team/one exists"]);
    served["status"]["storedVersions"] = json!(["v0", "v1alpha1"]);
    api.put(DEFINITION, served);
    refused(&["objects are stored in the version v0", "storedVersions"]);
}

#[test]
fn why_something_does_not_come_up_is_named_within_ten_seconds() {
    let api = Api::up();
    let pod = |name: &str, app: &str, status: Value| {
        let spec = json!({ "nodeName": "w1", "containers": [{ "name": "c", "image": "docker.io/a/b" }] });
        api.put(
            &format!("{NAMESPACE}/pods/{name}"),
            json!({ "kind": "Pod", "metadata": { "labels": { "app": app }, "uid": name }, "spec": spec, "status": status }),
        );
    };
    let condition = json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports." }]);
    pod("vc-syncer-1", "vc-syncer", json!({ "phase": "Pending", "conditions": condition }));
    let ended = json!({ "exitCode": 1, "message": "no such flag" });
    let crashed = json!([{ "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 1,
        "state": { "terminated": ended } }]);
    pod("vc-manager-1", "vc-manager", json!({ "phase": "Running", "containerStatuses": crashed }));
    let event = |name: &str, kind: &str, about: &str, reason: &str, message: &str| {
        api.put(
            &format!("{NAMESPACE}/events/{name}"),
            json!({ "kind": "Event", "metadata": {}, "type": "Warning", "reason": reason, "message": message,
                "lastTimestamp": "2030-01-01T00:00:00Z",
                "involvedObject": { "kind": kind, "name": about, "uid": about, "namespace": "vc-manager" } }),
        );
    };
    event("1", "ReplicaSet", "vc-syncer-5d", "FailedCreate", "pods \"x\" is forbidden: exceeded quota: small");
    event("2", "Pod", "vc-syncer-1", "FailedMount", "MountVolume.SetUp failed: secret \"x\" not found");
    event("3", "Pod", "somebody-elses", "FailedMount", "not ours");
    let begun = Instant::now();
    let mut command = deploy(&api, NEVER_READY, &["--timeout", "60s"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("vcdist runs");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let mut missing = vec![
        "deployment/vc-syncer is not ready: vc-syncer-1 on w1: Unschedulable: 0/1 nodes are available: 1 node(s) didn't have \
         free ports",
        "deployment/vc-syncer is not ready: FailedCreate of replicaset/vc-syncer-5d: pods \"x\" is forbidden: exceeded quota",
        "deployment/vc-syncer is not ready: FailedMount of pod/vc-syncer-1: MountVolume.SetUp failed: secret",
        "deployment/vc-manager is not ready: vc-manager-1 on w1: ended with exit code 1: no such flag",
    ];
    let mut said = Vec::new();
    while !missing.is_empty() {
        let line = lines.next().unwrap_or_else(|| panic!("{missing:?} are told: {said:?}")).expect("UTF-8");
        missing.retain(|wanted| !line.starts_with(wanted));
        said.push(line);
    }
    // A moment more than what is promised: this machine may be busy.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!said.iter().any(|line| line.contains("not ours")), "{said:?}");
    child.kill().expect("a kill");
    let _ = child.wait();
}

#[test]
fn an_atomic_deployment_that_is_interrupted_goes_back() {
    for signal in ["-INT", "-TERM"] {
        let api = Api::up();
        let (code, _, said) = output(&mut deploy(&api, &digest("a"), &[]));
        assert_eq!(code, Some(0), "{said}");
        let mut command = deploy(&api, NEVER_READY, &["--atomic", "--output", "json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vcdist runs");
        let is_applied = || api.get(SYNCER).expect("a Deployment")["spec"].to_string().contains(NEVER_READY);
        wait::until("the new image is applied", is_applied);
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
        let Output { status, stdout, stderr } = child.wait_with_output().expect("its end");
        let (report, said) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert_eq!(status.code(), Some(1), "{signal}: {report}{said}");
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(report["rolled_back_to"], 1, "{signal}: {report}{said}");
        assert!(said.contains("the rollout was interrupted") && said.contains("is back at revision 1"), "{said}");
        assert!(!is_applied(), "{signal}");
    }
}
