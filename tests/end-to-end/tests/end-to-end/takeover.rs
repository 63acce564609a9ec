//! An installation that an Ansible role made by `kubectl apply` becomes one of vcdist, on a real API server with real controllers.

use end_to_end::Operator;
use lab::Containerd;
use rigs::Run;
use serde_json::{Value, json};

/// What the role applies, but for the definitions.
const INSTALLATION: &str = include_str!("takeover.yaml");

/// Its definitions.
const DEFINITIONS: &str = include_str!("takeover_definitions.yaml");

#[test]
fn an_installation_of_kubectl_apply_is_taken_over_and_nothing_else_is_touched() {
    let operator = Operator::with_lab("e2e-takeover", Containerd::V2);
    let _ = operator.stage.images(&["--base", "scratch"]);
    let _ = operator.pushed();
    let apply = |text: &str| {
        let _ = operator.lab.kubectl_with(&["apply", "-f", "-"], text).unwrap_or_else(|error| panic!("{error:?}"));
    };
    apply(DEFINITIONS);
    let _ = operator.kubectl(&["wait", "crd", "--all", "--for=condition=Established", "--timeout=60s"]);
    let tenant = json!({ "apiVersion": "tenancy.x-k8s.io/v1alpha1", "kind": "VirtualCluster",
        "metadata": { "name": "a", "namespace": "default" }, "spec": { "clusterVersionName": "none" } });
    apply(&tenant.to_string());
    apply(&INSTALLATION.replace("PAUSE", lab::PAUSE_IMAGE));
    let _ = operator.kubectl(&["rollout", "status", "deployment/tenant", "--timeout=60s"]);
    let tenants = tenant_pods(&operator);
    assert_eq!(tenants.len(), 2);

    somebodys_field_is_listed(&operator);
    let plan = document(&operator, &["--dry-run"], 0);
    assert_eq!(object(&plan, "ClusterRole", "vc-syncer")["change"], "removed", "{plan}");
    let syncer = object(&plan, "Deployment", "vc-syncer");
    assert!(syncer["taken_over"] == true && syncer["fields"].to_string().contains("spec.minReadySeconds"), "{syncer}");
    assert!(!syncer["fields"].to_string().contains("terminationMessagePath"), "defaults stay: {syncer}");
    let _ = document(&operator, &[], 0);

    let syncer = get(&operator, &["-n", "vc-manager", "deployment", "vc-syncer"]);
    assert_eq!(syncer["spec"].get("minReadySeconds"), None, "a field that vcdist does not set goes");
    let manager = get(&operator, &["-n", "vc-manager", "deployment", "vc-manager"]);
    assert!(!manager["spec"].to_string().contains("VIRTUALCLUSTER_ETCD_SCHEME"), "{manager}");
    for one in [&syncer, &manager] {
        let text = one["metadata"].to_string();
        assert!(!text.contains("kubectl-client-side-apply") && !text.contains("last-applied"), "{text}");
    }
    let roles = operator.kubectl(&["get", "clusterroles,clusterrolebindings", "-o", "name"]);
    for name in ["vc-manager", "vc-syncer", "vn-agent"] {
        let old = format!("/{name}");
        assert!(!roles.lines().any(|line| line.ends_with(&old)), "{roles}");
        assert!(roles.contains(&format!("/{name}-rolebinding")), "{roles}");
    }
    assert_eq!(get(&operator, &["virtualcluster", "a"])["spec"]["clusterVersionName"], "none");
    assert_eq!(tenant_pods(&operator), tenants, "no pod of a tenant was restarted or replaced");

    let again = document(&operator, &[], 0);
    assert!(again["objects"].as_array().unwrap().iter().all(|one| one["change"] == "unchanged"), "{again}");
    assert_eq!(operator.verify(0)["passed"], true);
    assert_eq!(tenant_pods(&operator), tenants);
}

/// A field that a third has set is listed with its owner, and nothing is changed.
fn somebodys_field_is_listed(operator: &Operator) {
    let scale = |replicas: &str| {
        let patch = format!(r#"{{"spec":{{"replicas":{replicas}}}}}"#);
        let arguments = ["-n", "vc-manager", "patch", "deployment", "vc-syncer", "--field-manager", "autoscaler"];
        let _ = operator.kubectl(&[&arguments[..], &["--type=merge", "--patch", &patch]].concat());
    };
    scale("2");
    let ended = Run::of(operator.vcdist("deploy").args(["--timeout", "120s"]));
    ended.without_panic().refused(1, &["deployment/vc-syncer: .spec.replicas belongs to \"autoscaler\"", "help:"]);
    scale("1");
}

fn document(operator: &Operator, arguments: &[&str], code: i32) -> Value {
    let mut command = operator.vcdist("deploy");
    Run::of(command.args(["--timeout", "120s", "--output", "json"]).args(arguments)).json_and(code)
}

fn object(document: &Value, kind: &str, name: &str) -> Value {
    let mut objects = document["objects"].as_array().unwrap().iter();
    objects.find(|one| one["kind"] == kind && one["name"] == name).cloned().unwrap_or_default()
}

fn get(operator: &Operator, arguments: &[&str]) -> Value {
    let text = operator.kubectl(&[&["get", "--show-managed-fields", "-o", "json"], arguments].concat());
    serde_json::from_str(&text).unwrap()
}

/// The pods of tenants, with how often each was restarted.
fn tenant_pods(operator: &Operator) -> Vec<(String, String)> {
    let pods = get(operator, &["pods", "-l", "app=tenant"]);
    let text = |value: &Value| value.to_string();
    let pod =
        |pod: &Value| (text(&pod["metadata"]["uid"]), text(&pod["status"]["containerStatuses"][0]["restartCount"]));
    let mut pods: Vec<_> = pods["items"].as_array().unwrap().iter().map(pod).collect();
    pods.sort();
    pods
}
