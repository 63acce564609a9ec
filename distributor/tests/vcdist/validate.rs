//! What `vcdist validate` finds, each thing on an API server or a node that has just that fault.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::rig::api::Api;
use crate::rig::{Login, NodeOptions, Rig, image, noise};

const NAMESPACE: &str = "/api/v1/namespaces/vc-manager";
const WEBHOOK: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/policy";
const ENDPOINTS: &str = "/apis/discovery.k8s.io/v1/namespaces/policy/endpointslices/policy-1";
const LEVEL: &str = "pod-security.kubernetes.io/enforce";

/// A server on which an installation succeeds, with one worker.
fn healthy() -> Api {
    let api = Api::up();
    api.set_clock();
    api.put("/version", version("1", "34"));
    api.put_worker();
    api
}

fn version(major: &str, minor: &str) -> Value {
    json!({ "major": major, "minor": minor, "gitVersion": format!("v{major}.{minor}.0"), "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": "" })
}

fn report(command: &mut Command, code: i32) -> Value {
    let Output { status, stdout, stderr } = command.args(["--output", "json"]).output().expect("vcdist runs");
    let said = String::from_utf8_lossy(&stderr);
    let report = serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(status.code(), Some(code), "{report:#}\n{said}");
    report
}

fn without_ssh(api: &Api, code: i32) -> Value {
    report(&mut api.vcdist(&["validate", "--no-ssh", "--api-timeout", "0s"]), code)
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
}

/// The only finding of a report, which is of this check.
fn only(report: &Value, of: &str) -> Value {
    let checks = report["checks"].as_array().expect("checks");
    let failed: Vec<&Value> = checks.iter().filter(|check| check["status"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{report:#}");
    assert_eq!(failed[0]["name"], of, "{report:#}");
    let findings = failed[0]["findings"].as_array().expect("findings");
    assert_eq!(findings.len(), 1, "{report:#}");
    for key in ["object", "problem", "effect", "remedy"] {
        assert!(findings[0][key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {report:#}");
    }
    findings[0].clone()
}

fn text<'a>(finding: &'a Value, key: &str) -> &'a str {
    finding[key].as_str().expect("text")
}

#[test]
fn a_cluster_on_which_an_installation_succeeds_has_no_findings_and_is_not_changed() {
    let api = healthy();
    let before = api.paths();
    let report = without_ssh(&api, 0);
    assert_eq!(report["passed"], true, "{report:#}");
    let statuses: Vec<(&str, &str)> = report["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .map(|check| (text(check, "name"), text(check, "status")))
        .collect();
    let passed =
        ["api", "version", "clock", "rights", "pod-security", "webhooks", "workers"].map(|name| (name, "passed"));
    let skipped = ["ssh", "sudo", "runtime", "disk", "ports", "node-clocks"].map(|name| (name, "skipped"));
    assert_eq!(statuses, [&passed[..], &skipped[..]].concat());
    assert_eq!(api.paths(), before, "nothing was created");
    let output = api.vcdist(&["validate", "--no-ssh"]).output().expect("vcdist runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("✓ version: Kubernetes v1.34.0\n"), "{said}");
    assert!(said.ends_with("0 errors, 0 warnings, 6 checks not made\n"), "{said}");
}

#[test]
fn an_api_server_that_is_away_old_or_lives_at_another_time_is_found() {
    let away = Api::away();
    let finding = only(&without_ssh(&away, 3), "api");
    assert!(text(&finding, "problem").contains("cannot be reached") && finding["severity"] == "error", "{finding}");

    let old = healthy();
    old.put("/version", version("1", "21+"));
    assert_eq!(only(&without_ssh(&old, 3), "version")["problem"], "its version is v1.21+.0");

    // The clock of a server that nobody has set stands at the beginning of 2024.
    let late = Api::up();
    late.put("/version", version("1", "34"));
    late.put_worker();
    assert!(text(&only(&without_ssh(&late, 3), "clock"), "problem").contains("s behind this machine's"));
}

#[test]
fn a_server_that_comes_later_is_waited_for() {
    let api = Api::away();
    api.set_clock();
    api.put("/version", version("1", "34"));
    api.put_worker();
    let mut child = api.vcdist(&["validate", "--no-ssh", "--api-timeout", "60s"]).spawn().expect("vcdist runs");
    api.come();
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}

#[test]
fn each_right_that_the_user_lacks_is_named() {
    let api = healthy();
    api.deny(&["create daemonsets.apps"]);
    let finding = only(&without_ssh(&api, 3), "rights");
    assert_eq!(finding["object"], "create daemonsets.apps/vn-agent in vc-manager");
    assert!(text(&finding, "remedy").contains("vcdist rbac"), "{finding}");

    // Whoever holds what a role grants needs no right to grant more.
    api.deny(&["escalate clusterroles.rbac.authorization.k8s.io", "escalate roles.rbac.authorization.k8s.io"]);
    without_ssh(&api, 0);
    let escalate = "escalate clusterroles.rbac.authorization.k8s.io";
    api.deny(&[escalate, "deletecollection pods", "list events"]);
    let report = without_ssh(&api, 3);
    let findings = check(&report, "rights")["findings"].as_array().expect("findings");
    let objects: Vec<&str> = findings.iter().map(|finding| text(finding, "object")).collect();
    let roles = ["clusterrole/vc-manager-role", "clusterrole/vc-syncer-role"];
    assert_eq!(objects, [&["list events in vc-manager"], &roles[..]].concat(), "{report:#}");
    let problem = text(&findings[2], "problem");
    assert!(problem.contains("deletecollection pods") && problem.contains("list events"), "{problem}");
}

#[test]
fn a_namespace_that_would_not_admit_the_pods_is_found() {
    let api = healthy();
    let namespace = |level: &str| json!({ "kind": "Namespace", "metadata": { "labels": { LEVEL: level } } });
    api.put(NAMESPACE, namespace("restricted"));
    let finding = only(&without_ssh(&api, 3), "pod-security");
    assert!(text(&finding, "problem").contains("to restricted"), "{finding}");
    assert!(text(&finding, "remedy").contains("kubectl label namespace vc-manager"), "{finding}");

    api.put(NAMESPACE, namespace("privileged"));
    let report = without_ssh(&api, 0);
    assert_eq!(check(&report, "pod-security")["detail"], "level privileged; admission accepts the 3 pods");

    api.refuse_pods("pods \"vn-agent\" is forbidden: exceeded quota: few");
    let report = without_ssh(&api, 3);
    let findings = check(&report, "pod-security")["findings"].as_array().expect("findings");
    assert_eq!(findings.len(), 3, "{report:#}");
    assert!(text(&findings[2], "problem").contains("exceeded quota: few"), "{report:#}");
    assert_eq!(findings[2]["object"], "the pods of daemonset/vn-agent");

    let mut leaving = namespace("privileged");
    leaving["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
    api.put(NAMESPACE, leaving);
    assert_eq!(only(&without_ssh(&api, 3), "pod-security")["problem"], "it is being deleted");
}

#[test]
fn a_webhook_that_fails_closed_and_that_nobody_answers_for_is_found() {
    let api = healthy();
    let webhook = |policy: &str, resource: &str| {
        let rule =
            json!({ "apiGroups": ["*"], "apiVersions": ["*"], "resources": [resource], "operations": ["CREATE"] });
        json!({ "kind": "ValidatingWebhookConfiguration", "webhooks": [{ "name": "p.example.com", "failurePolicy": policy,
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "rules": [rule],
            "clientConfig": { "service": { "namespace": "policy", "name": "policy" } } }] })
    };
    api.put(WEBHOOK, webhook("Fail", "pods"));
    let finding = only(&without_ssh(&api, 3), "webhooks");
    assert_eq!(finding["object"], "validatingwebhookconfiguration/policy");
    assert!(text(&finding, "problem").contains("service/policy in policy has no ready endpoint"), "{finding}");
    assert!(text(&finding, "effect").contains("the pods of deployment/vc-manager and 2 more objects"), "{finding}");
    let mutating = |resource: &str| {
        let mut webhook = webhook("Fail", resource);
        webhook["kind"] = json!("MutatingWebhookConfiguration");
        api.put(&WEBHOOK.replace("validating", "mutating"), webhook);
    };
    mutating("daemonsets");
    api.put(WEBHOOK, webhook("Ignore", "pods"));
    assert_eq!(only(&without_ssh(&api, 3), "webhooks")["object"], "mutatingwebhookconfiguration/policy");
    mutating("ingresses");
    without_ssh(&api, 0);

    api.put(WEBHOOK, webhook("Fail", "pods"));
    let slice = |ready: bool| {
        json!({ "kind": "EndpointSlice", "addressType": "IPv4", "metadata": { "labels": { "kubernetes.io/service-name": "policy" } },
            "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": ready } }] })
    };
    api.put(ENDPOINTS, slice(false));
    without_ssh(&api, 3);
    api.put(ENDPOINTS, slice(true));
    without_ssh(&api, 0);
}

#[test]
fn workers_that_cannot_take_an_installation_are_found() {
    let api = Api::up();
    api.set_clock();
    api.put("/version", version("1", "34"));
    assert!(text(&only(&without_ssh(&api, 3), "workers"), "problem").contains("none of its 0 nodes"));
    let node = |ready: &str, pressure: &str, runtime: &str| {
        let condition =
            |kind: &str, status: &str| json!({ "type": kind, "status": status, "message": "kubelet stopped" });
        json!({ "kind": "Node", "metadata": { "labels": { "kubernetes.io/os": "linux" } },
            "status": { "conditions": [condition("Ready", ready), condition("DiskPressure", pressure)],
                "nodeInfo": { "containerRuntimeVersion": runtime, "architecture": "amd64", "bootID": "", "kernelVersion": "",
                    "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux", "osImage": "",
                    "systemUUID": "" } } })
    };
    let path = "/api/v1/nodes/worker1";
    api.put(path, node("False", "False", "containerd://2.2.0"));
    assert_eq!(only(&without_ssh(&api, 3), "workers")["problem"], "it is not Ready: kubelet stopped");
    api.put(path, node("True", "True", "containerd://2.2.0"));
    let warning = only(&without_ssh(&api, 0), "workers");
    assert_eq!(
        (&warning["severity"], &warning["problem"]),
        (&json!("warning"), &json!("its condition DiskPressure is true"))
    );
    api.put(path, node("True", "False", "rkt://1.0"));
    assert_eq!(only(&without_ssh(&api, 3), "workers")["problem"], "its container runtime is rkt://1.0");
    api.put(path, node("True", "False", "cri-o://1.34.0"));
    without_ssh(&api, 0);
}

/// `vcdist validate` of a node that is this rig, with a port for vn-agent's metrics that is free; the others are not, perhaps.
fn on_rig(rig: &Rig, user: &str, arguments: &[&str], code: i32) -> Value {
    let api = healthy();
    let mut command = rig.vcdist("validate", arguments);
    command.arg("--ssh-config").arg(rig.path().join("ssh_config")).args(["--ssh-user", user, "--retries", "0"]);
    report(command.env("KUBECONFIG", api.kubeconfig()), code)
}

/// The findings of a check.
fn findings<'a>(report: &'a Value, name: &str) -> &'a [Value] {
    check(report, name)["findings"].as_array().expect("findings")
}

#[test]
fn a_port_that_another_process_holds_is_found_with_the_process() {
    let rig = Rig::up();
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let report = on_rig(&rig, "root", &["--vn-agent-metrics-port", &port], 3);
    for name in ["ssh", "sudo", "runtime", "node-clocks"] {
        assert_eq!(check(&report, name)["status"], "passed", "{report:#}");
    }
    assert_eq!(check(&report, "disk")["detail"], "the store does not have the images yet");
    let problem = format!("TCP port {port} is taken by ");
    let found = findings(&report, "ports").iter().find(|finding| text(finding, "problem").starts_with(&problem));
    let found = found.unwrap_or_else(|| panic!("{report:#}"));
    assert!(text(found, "problem").ends_with(&format!("(process {})", std::process::id())), "{found}");
    assert_eq!((&found["object"], &found["severity"]), (&json!("worker"), &json!("error")));
}

#[test]
fn a_node_whose_clock_is_off_is_found() {
    let rig = Rig::up();
    let bin = rig.path().join("bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    let date = bin.join("date");
    std::fs::write(&date, "#!/bin/sh\necho $(($(/bin/date +%s) + 3600))\n").expect("a program");
    std::fs::set_permissions(&date, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    rig.prefer_programs_in(&bin);
    let report = on_rig(&rig, "root", &[], 3);
    let problem = text(&findings(&report, "node-clocks")[0], "problem");
    let seconds: i64 = problem.split(' ').find_map(|word| word.parse().ok()).expect("seconds");
    assert!((3500..=3600).contains(&seconds) && problem.ends_with("ahead of this machine's"), "{problem}");
}

#[test]
fn a_login_that_fails_and_one_without_root_are_found() {
    let rig = Rig::with(&NodeOptions { login: Login::SudoWithPassword, ..NodeOptions::default() });
    let report = on_rig(&rig, "operator", &[], 3);
    assert_eq!(check(&report, "ssh")["status"], "passed", "{report:#}");
    let finding = &findings(&report, "sudo")[0];
    assert!(text(finding, "problem").contains("password") && text(finding, "remedy").contains("NOPASSWD"), "{finding}");
    assert_eq!(check(&report, "ports")["status"], "skipped", "{report:#}");

    let report = on_rig(&rig, "stranger", &[], 3);
    let finding = &findings(&report, "ssh")[0];
    assert!(text(finding, "problem").contains("does not let us in"), "{finding}");
    for name in ["sudo", "runtime", "disk", "ports", "node-clocks"] {
        assert_eq!(check(&report, name)["status"], "skipped", "{report:#}");
    }
}

#[test]
fn a_disk_without_room_for_the_images_is_found() {
    let rig = Rig::with(&NodeOptions { disk: Some(3 << 20), ..NodeOptions::default() });
    let store = rig.store();
    for component in ["manager", "syncer", "vn-agent"] {
        image(&store, component, &noise(1, 8 << 20), component.as_bytes());
    }
    let report = on_rig(&rig, "root", &[], 3);
    let finding = &findings(&report, "disk")[0];
    assert!(text(finding, "problem").contains("free") && finding["object"] == "worker", "{finding}");
    assert_eq!(check(&report, "runtime")["status"], "passed", "{report:#}");
}

#[test]
fn a_node_without_a_runtime_is_found() {
    let rig = Rig::up();
    let api = healthy();
    let mut command =
        api.vcdist(&["validate", "--containerd-address", "/nowhere/containerd.sock", "--ssh-user", "root"]);
    command.args(["--retries", "0", "--ssh-config", rig.path().join("ssh_config").as_str()]);
    let report = report(command.env("VCBUILD_STORE", rig.path().join("store")), 3);
    let finding = &findings(&report, "runtime")[0];
    assert!(text(finding, "problem").contains("/nowhere/containerd.sock"), "{finding}");
}
