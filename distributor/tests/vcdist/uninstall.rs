//! Removing an installation: the order, the objects that stay, finalizers of a controller that does not run, and
//! interruptions.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::rig::api::Api;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WEBHOOK: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/\
                       virtualcluster-validating-webhook-configuration";
const SERVICE: &str = "/api/v1/namespaces/vc-manager/services/virtualcluster-webhook-service";
const MANAGER: &str = "/apis/apps/v1/namespaces/vc-manager/deployments/vc-manager";
const TENANT: &str = "/apis/tenancy.x-k8s.io/v1alpha1/namespaces/tenants/virtualclusters/a";
const VERSION: &str = "/apis/tenancy.x-k8s.io/v1alpha1/clusterversions/v1";

fn output(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("vcdist runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// `vcdist uninstall` with these arguments, as JSON; it must end with this code.
fn uninstall(api: &Api, arguments: &[&str], code: i32) -> Value {
    let (ended, out, said) = output(api.vcdist(&["uninstall", "--output", "json"]).args(arguments));
    assert_eq!(ended, code, "{out}{said}");
    serde_json::from_str(&out).expect("one JSON document")
}

fn deploy(api: &Api) {
    let mut command = api.vcdist(&["deploy"]);
    for component in ["manager", "syncer", "vn-agent"] {
        command.arg("--image").arg(format!("{component}=docker.io/a/{component}@sha256:{}", "0".repeat(64)));
    }
    let (code, _, said) = output(&mut command);
    assert_eq!(code, 0, "{said}");
}

/// An installation, what vc-manager makes at its start, and some things of others.
fn installed() -> Api {
    let api = Api::up();
    for namespace in ["tenants", "theirs"] {
        api.put(
            &format!("/api/v1/namespaces/{namespace}"),
            json!({ "kind": "Namespace", "metadata": { "uid": namespace } }),
        );
    }
    api.put("/apis/rbac.authorization.k8s.io/v1/clusterroles/theirs", json!({ "kind": "ClusterRole", "metadata": {} }));
    deploy(&api);
    let client = json!({ "service": { "namespace": "vc-manager", "name": "virtualcluster-webhook-service" } });
    api.put(
        WEBHOOK,
        json!({ "kind": "ValidatingWebhookConfiguration", "metadata": { "uid": "w" },
        "webhooks": [{ "name": "w", "clientConfig": client }] }),
    );
    api.put(SERVICE, json!({ "kind": "Service", "metadata": { "uid": "s" }, "spec": { "selector": { "virtualcluster-webhook": "true" } } }));
    api
}

/// A tenant with two namespaces, and its version; both wait for their controller.
fn with_tenant(api: &Api) {
    api.put(
        VERSION,
        json!({ "kind": "ClusterVersion", "apiVersion": "tenancy.x-k8s.io/v1alpha1",
        "metadata": { "uid": "v", "finalizers": ["clusterVersion.finalizers"] } }),
    );
    api.put(
        TENANT,
        json!({ "kind": "VirtualCluster", "apiVersion": "tenancy.x-k8s.io/v1alpha1",
        "metadata": { "uid": "t", "finalizers": ["virtualcluster.finalizer.native"] } }),
    );
    for namespace in ["tenants-1-a", "tenants-1-a-default"] {
        let annotations = json!({ "tenancy.x-k8s.io/vcuid": "t", "tenancy.x-k8s.io/vcname": "a" });
        api.put(
            &format!("/api/v1/namespaces/{namespace}"),
            json!({ "kind": "Namespace", "metadata": { "uid": namespace, "annotations": annotations } }),
        );
        api.put(
            &format!("/api/v1/namespaces/{namespace}/configmaps/c"),
            json!({ "kind": "ConfigMap", "metadata": {} }),
        );
    }
}

/// What is left where only others have anything.
fn is_theirs_alone(api: &Api) -> bool {
    let mut paths = api.paths();
    paths.retain(|path| path != "/api/v1/namespaces/tenants" && path != "/api/v1/namespaces/theirs");
    paths == ["/apis/rbac.authorization.k8s.io/v1/clusterroles/theirs"]
}

#[test]
fn everything_of_ours_goes_in_order_and_nothing_of_others_and_it_can_be_installed_again() {
    let api = installed();
    let before = api.changes().len();
    let planned = uninstall(&api, &["--dry-run"], 0);
    let all = planned["planned"].as_array().expect("objects").len();
    let refused = uninstall(&api, &[], 1);
    assert!(refused["error"].as_str().expect("an error").contains("nobody has confirmed it"), "{refused}");
    let (_, said, _) = output(&mut api.vcdist(&["uninstall"]));
    assert!(said.contains("daemonset/vn-agent in vc-manager would be removed"), "{said}");
    assert_eq!(api.changes().len(), before, "nothing was changed");

    let done = uninstall(&api, &["--yes"], 0);
    assert_eq!(done["removed"].as_array().map(Vec::len), Some(all), "{done}");
    assert!(is_theirs_alone(&api), "{:?}", api.paths());
    let requests = api.changes();
    let at = |path: &str| {
        let found = requests.iter().position(|request| request.starts_with(&format!("DELETE {path}")));
        found.unwrap_or_else(|| panic!("{path} was removed: {requests:#?}"))
    };
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/vc-manager-role";
    let revision = "/apis/apps/v1/namespaces/vc-manager/controllerrevisions/vcdist-1";
    let order =
        [at(WEBHOOK), at(MANAGER), at(role), at(DEFINITIONS), at(revision), at("/api/v1/namespaces/vc-manager?")];
    assert!(order.is_sorted(), "{order:?}");

    let again = uninstall(&api, &["--yes"], 0);
    assert_eq!((&again["removed"], &again["kept"]), (&json!([]), &json!([])));
    assert_eq!(uninstall(&api, &[], 0)["planned"], json!([]), "nothing has to be confirmed");
    deploy(&api);
    assert!(api.get(MANAGER).is_some(), "it is installed again");

    // As an older vcdist has left it, which recorded only images.
    let path = "/apis/apps/v1/namespaces/vc-manager/controllerrevisions/vcdist-1";
    let mut revision = api.get(path).expect("a revision");
    revision["data"] = json!({ "images": revision["data"]["images"] });
    api.put(path, revision);
    let done = uninstall(&api, &["--yes"], 0);
    assert!(is_theirs_alone(&api), "{done}");
}

#[test]
fn tenants_stay_unless_it_is_said_and_a_controller_that_does_not_run_is_not_waited_for() {
    let api = installed();
    with_tenant(&api);
    let before = api.changes().len();
    let refused = uninstall(&api, &["--yes"], 1);
    let error = refused["error"].as_str().expect("an error");
    assert!(error.contains("virtualcluster/a in tenants") && error.contains("namespace/tenants-1-a"), "{error}");
    assert_eq!(api.changes().len(), before, "nothing was changed");

    // It runs, and does not do its work.
    let waited = uninstall(&api, &["--yes", "--tenants", "delete", "--timeout", "1s"], 1);
    let error = waited["error"].as_str().expect("an error");
    assert!(error.contains("virtualcluster/a in tenants (finalizers virtualcluster.finalizer.native)"), "{error}");
    assert_eq!(waited["stripped"], json!([]), "a controller that runs is waited for");
    assert!(api.get(MANAGER).is_some() && api.get("/api/v1/namespaces/tenants-1-a").is_some());

    let mut manager = api.get(MANAGER).expect("vc-manager");
    manager["spec"]["replicas"] = json!(0);
    api.put(MANAGER, manager);
    let (code, out, said) = output(&mut api.vcdist(&["uninstall", "--yes", "--tenants", "delete"]));
    assert_eq!(code, 0, "{said}");
    let words = "virtualcluster/a in tenants: finalizer virtualcluster.finalizer.native taken away, for vc-manager does not run";
    assert!(
        said.contains(words) && said.contains("clusterversion/v1: finalizer clusterVersion.finalizers"),
        "{out}{said}"
    );
    assert!(is_theirs_alone(&api), "{:?}", api.paths());
}

#[test]
fn a_finalizer_of_somebody_else_is_never_taken_and_is_named_when_time_is_over() {
    let api = installed();
    with_tenant(&api);
    let mut tenant = api.get(TENANT).expect("a tenant");
    tenant["metadata"]["finalizers"] = json!(["virtualcluster.finalizer.native", "example.com/backup"]);
    api.put(TENANT, tenant);
    let mut manager = api.get(MANAGER).expect("vc-manager");
    manager["spec"]["replicas"] = json!(0);
    api.put(MANAGER, manager);
    let done = uninstall(&api, &["--yes", "--tenants", "delete", "--timeout", "2s"], 1);
    let error = done["error"].as_str().expect("an error");
    assert!(error.contains("virtualcluster/a in tenants (finalizers example.com/backup): not gone after 2"), "{error}");
    assert_eq!(done["stripped"][0]["finalizer"], "virtualcluster.finalizer.native");
    assert_eq!(api.get(TENANT).expect("a tenant")["metadata"]["finalizers"], json!(["example.com/backup"]));
}

#[test]
fn what_others_have_taken_over_or_put_beside_stays_and_is_said() {
    let api = installed();
    api.put("/api/v1/namespaces/vc-manager/configmaps/notes", json!({ "kind": "ConfigMap", "metadata": {} }));
    let definition = format!("{DEFINITIONS}/virtualclusters.tenancy.x-k8s.io");
    let mut theirs = api.get(&definition).expect("a definition");
    theirs["metadata"]["managedFields"] = json!([{ "manager": "helm", "operation": "Update" }]);
    api.put(&definition, theirs);
    let mut webhook = api.get(WEBHOOK).expect("a webhook");
    webhook["webhooks"][0]["clientConfig"]["service"]["namespace"] = json!("elsewhere");
    api.put(WEBHOOK, webhook);
    api.put(TENANT, json!({ "kind": "VirtualCluster", "metadata": { "uid": "t" } }));
    let done = uninstall(&api, &["--yes", "--tenants", "delete"], 0);
    let kept = done["kept"].as_array().expect("kept");
    let why = |name: &str| {
        let found = kept.iter().find(|one| one["name"] == name).and_then(|one| one["why"].as_str());
        found.unwrap_or_else(|| panic!("{name} stays: {done}")).to_owned()
    };
    assert!(why("virtualclusters.tenancy.x-k8s.io").contains("helm does"));
    assert!(why("virtualcluster-validating-webhook-configuration").contains("the namespace elsewhere"));
    assert!(why("vc-manager").contains("configmap/notes"), "{done}");
    for path in [TENANT, &definition, WEBHOOK, "/api/v1/namespaces/vc-manager/configmaps/notes"] {
        assert!(api.get(path).is_some(), "{path}");
    }
    assert!(api.get(MANAGER).is_none());

    let other = installed();
    let refused = uninstall(&other, &["--yes", "--namespace", "theirs"], 1);
    assert!(
        refused["error"].as_str().expect("an error").contains("is installed in the namespace vc-manager"),
        "{refused}"
    );
}

#[test]
fn a_removal_that_is_killed_after_any_change_ends_where_it_would_have_when_it_is_run_again() {
    let api = installed();
    with_tenant(&api);
    let mut manager = api.get(MANAGER).expect("vc-manager");
    manager["spec"]["replicas"] = json!(0);
    api.put(MANAGER, manager);
    let begin = api.snapshot();
    let arguments = ["uninstall", "--yes", "--tenants", "delete"];
    let mut kills = 0;
    for count in 1.. {
        if !api.kill_after(count, &mut api.vcdist(&arguments)) {
            break;
        }
        kills += 1;
        let (code, _, said) = output(&mut api.vcdist(&arguments));
        assert_eq!(code, 0, "killed after {count} changes: {said}");
        assert!(is_theirs_alone(&api), "killed after {count} changes: {:?}", api.paths());
        api.restore(&begin);
    }
    assert!(kills >= 20, "tenants, webhooks, workloads, roles, definitions, namespace: {kills}");
}
