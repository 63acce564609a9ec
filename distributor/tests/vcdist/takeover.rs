//! An installation that an Ansible role made by `kubectl apply` becomes one of vcdist: its fields, its cluster-wide roles, and what of
//! them stays.

use std::process::{Command, Output};

use serde_json::{Map, Value, json};

use crate::rig::api::Api;

const SYNCER: &str = "/apis/apps/v1/namespaces/vc-manager/deployments/vc-syncer";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn deploy(api: &Api, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let mut command: Command = api.vcdist(&["deploy", "--output", "json"]);
    for component in ["manager", "syncer", "vn-agent"] {
        command.arg("--image").arg(format!("{component}=docker.io/a/{component}@sha256:{}", "a".repeat(64)));
    }
    let Output { status, stdout, stderr } = command.args(arguments).output().expect("vcdist runs");
    let report = serde_json::from_slice(&stdout).unwrap_or_default();
    (status.code(), report, String::from_utf8_lossy(&stderr).into_owned())
}

/// Managed fields, as a server writes them.
fn fields(object: &Value) -> Value {
    let each = |(key, value): (&String, &Value)| (format!("f:{key}"), fields(value));
    Value::Object(object.as_object().map(|object| object.iter().map(each).collect::<Map<_, _>>()).unwrap_or_default())
}

/// Puts an object as `kubectl apply` does.
fn kubectl_apply(api: &Api, path: &str, object: &Value) {
    let mut object = object.clone();
    let text = object.to_string();
    object["metadata"]["annotations"][LAST_APPLIED] = json!(text);
    let managed = fields(&object);
    object["metadata"]["uid"] = json!(format!("uid-of{path}"));
    object["metadata"]["managedFields"] = json!([{ "manager": "kubectl-client-side-apply", "operation": "Update",
        "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": managed }]);
    api.put(path, object);
}

fn binding(name: &str, account: &str, namespace: &str) -> Value {
    json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "labels": {} },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace }] })
}

fn role() -> Value {
    json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "labels": {} },
        "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] })
}

/// What the role leaves: the namespace, a Deployment with a field that vcdist does not set, and roles of its own names.
fn installation() -> Api {
    let api = Api::up();
    api.put(
        "/api/v1/namespaces/vc-manager",
        json!({ "kind": "Namespace", "metadata": {}, "status": { "phase": "Active" } }),
    );
    let template = json!({ "metadata": { "labels": { "app": "vc-syncer" } },
        "spec": { "containers": [{ "name": "vc-syncer", "image": "virtualcluster/syncer-amd64:latest" }] } });
    let syncer = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "labels": { "app": "vc-syncer" } },
        "spec": { "replicas": 1, "minReadySeconds": 7, "selector": { "matchLabels": { "app": "vc-syncer" } }, "template": template } });
    kubectl_apply(&api, SYNCER, &syncer);
    for name in ["vc-manager", "vc-syncer", "vn-agent"] {
        kubectl_apply(&api, &format!("{ROLES}/{name}"), &role());
        kubectl_apply(&api, &format!("{BINDINGS}/{name}"), &binding(name, name, "vc-manager"));
    }
    api
}

#[test]
fn what_kubectl_applied_becomes_ours_and_what_it_alone_had_goes() {
    let api = installation();
    let requests = || api.changes().len();
    let before = requests();
    let (code, plan, said) = deploy(&api, &["--dry-run"]);
    assert_eq!((code, requests()), (Some(0), before), "{said}");
    let of = |report: &Value, kind: &str, name: &str| -> Value {
        let mut objects = report["objects"].as_array().expect("objects").iter();
        objects.rfind(|one| one["kind"] == kind && one["name"] == name).cloned().expect("it")
    };
    let syncer = of(&plan, "Deployment", "vc-syncer");
    let dropped = json!({ "field": "spec.minReadySeconds", "from": "7", "to": null });
    assert!(syncer["fields"].as_array().expect("fields").contains(&dropped), "{syncer}");
    assert_eq!(syncer["taken_over"], true);
    assert_eq!(of(&plan, "ClusterRole", "vn-agent")["change"], "removed");

    let (code, _, said) = deploy(&api, &[]);
    assert_eq!(code, Some(0), "{said}");
    let syncer = api.get(SYNCER).expect("it");
    assert_eq!(
        (&syncer["spec"]["minReadySeconds"], &syncer["metadata"]["annotations"][LAST_APPLIED]),
        (&Value::Null, &Value::Null)
    );
    let managers: Vec<&Value> =
        syncer["metadata"]["managedFields"].as_array().expect("managers").iter().map(|one| &one["manager"]).collect();
    assert_eq!(managers, ["vcdist"]);
    for name in ["vc-manager", "vc-syncer", "vn-agent"] {
        assert!(api.get(&format!("{ROLES}/{name}")).is_none(), "{name}");
        assert!(api.get(&format!("{BINDINGS}/{name}")).is_none(), "{name}");
        assert!(api.get(&format!("{BINDINGS}/{name}-rolebinding")).is_some(), "{name}");
    }
    let after = requests();
    let (code, again, said) = deploy(&api, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(again["objects"].as_array().expect("objects").iter().all(|one| one["change"] == "unchanged"), "{again}");
    assert_eq!(requests(), after, "the second run changes nothing");
}

#[test]
fn roles_that_others_use_or_made_stay() {
    let api = installation();
    // Another account has rights by this role.
    kubectl_apply(&api, &format!("{BINDINGS}/audit"), &binding("vn-agent", "auditor", "audit"));
    // The same name in another namespace, and one that nobody applied with kubectl.
    kubectl_apply(&api, &format!("{BINDINGS}/vc-syncer"), &binding("vc-syncer", "vc-syncer", "elsewhere"));
    api.put(&format!("{ROLES}/vc-manager"), role());
    let (code, _, said) = deploy(&api, &[]);
    assert_eq!(code, Some(0), "{said}");
    let there = |path: &str, name: &str| api.get(&format!("{path}/{name}")).is_some();
    assert_eq!([there(ROLES, "vn-agent"), there(BINDINGS, "vn-agent")], [true, false]);
    assert_eq!([there(ROLES, "vc-syncer"), there(BINDINGS, "vc-syncer")], [true, true]);
    assert_eq!([there(ROLES, "vc-manager"), there(BINDINGS, "vc-manager")], [true, false]);
}

#[test]
fn fields_that_a_third_has_set_are_listed_and_not_taken_over() {
    let api = installation();
    let mut syncer = api.get(SYNCER).expect("it");
    syncer["spec"]["replicas"] = json!(3);
    syncer["metadata"]["managedFields"].as_array_mut().expect("managers").push(json!({ "manager": "autoscaler",
        "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:replicas": {} } } }));
    api.put(SYNCER, syncer);
    let (code, _, said) = deploy(&api, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("deployment/vc-syncer: .spec.replicas belongs to \"autoscaler\""), "{said}");
    assert!(!said.contains("kubectl-client-side-apply"), "{said}");
    assert_eq!(api.get(SYNCER).expect("it")["spec"]["replicas"], 3, "nothing was changed");
    assert!(api.get(&format!("{ROLES}/vn-agent")).is_some());
    let (code, _, said) = deploy(&api, &["--force-conflicts"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(api.get(SYNCER).expect("it")["spec"]["replicas"], 1);
}
