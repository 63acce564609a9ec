//! Removing a release of other manifests: the order, what stays, what belongs to others, finalizers and interruptions.

use std::process::Command;

use serde_json::{Value, json};

use crate::rig::api::Api;

const SPACE: &str = "/api/v1/namespaces/shop";
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/caches.example.org";
const WEBHOOK: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/caches";
const CACHE: &str = "/apis/example.org/v1/namespaces/shop/caches/main";
const OPERATOR: &str = "/apis/apps/v1/namespaces/shop/deployments/operator";
const SETTINGS: &str = "/api/v1/namespaces/shop/configmaps/settings";
const CLAIM: &str = "/api/v1/namespaces/shop/persistentvolumeclaims/data";
const REVISION: &str = "/apis/apps/v1/namespaces/shop/controllerrevisions/vcdist-cache-1";

/// An operator with all that a release may have.
const CACHES: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: caches.example.org}
spec: {group: example.org, scope: Namespaced, names: {kind: Cache, plural: caches}, versions: [{name: v1, served: true, storage: true,
  schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: b}}
---
{apiVersion: v1, kind: Secret, metadata: {name: password}, stringData: {a: b}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: {accessModes: [ReadWriteOnce]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: operator}, spec: {selector: {}, template: {spec: {containers: [{name: o, image: 'o:1'}]}}}}
---
{apiVersion: example.org/v1, kind: Cache, metadata: {name: main}, spec: {size: 1}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: caches}
webhooks: [{name: caches.example.org, clientConfig: {url: 'https://10.0.0.1/check'}}]
";

const WORDS: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: words}, data: {a: b}}";

fn ended(command: &mut Command) -> (i32, String, String) {
    let output = command.output().expect("vcdist runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn of(api: &Api, command: &str, name: &str) -> Command {
    api.vcdist(&[command, "--namespace", "shop", "--name", name])
}

fn deploy(api: &Api, name: &str, manifests: &str) {
    let file = api.path().join(format!("{name}.yaml"));
    std::fs::write(&file, manifests).expect("a file");
    let (code, out, said) = ended(of(api, "deploy", name).args(["--manifests", file.as_str()]));
    assert_eq!(code, 0, "{out}{said}");
}

fn uninstall(api: &Api, name: &str, arguments: &[&str], code: i32) -> Value {
    let (found, out, said) = ended(of(api, "uninstall", name).args(["--output", "json"]).args(arguments));
    assert_eq!(found, code, "{out}{said}");
    serde_json::from_str(&out).expect("one JSON document")
}

/// The release `cache`, and beside it the release `words`.
fn deployed() -> Api {
    let api = Api::up();
    deploy(&api, "cache", CACHES);
    deploy(&api, "words", WORDS);
    api
}

fn kept(document: &Value) -> Vec<String> {
    let kept = document["kept"].as_array().expect("what stays");
    kept.iter().map(|one| format!("{}: {}", one["name"].as_str().unwrap_or("?"), one["why"])).collect()
}

#[test]
fn a_release_goes_in_reverse_order_with_its_revisions_last_and_others_stay() {
    let api = deployed();
    let before = api.changes().len();
    let planned = uninstall(&api, "cache", &["--dry-run"], 0);
    assert_eq!(planned["release"], "cache");
    let refused = uninstall(&api, "cache", &[], 1);
    assert!(refused["error"].as_str().expect("an error").contains("nobody has confirmed it"), "{refused}");
    assert_eq!(api.changes().len(), before, "nothing was changed");

    let done = uninstall(&api, "cache", &["--yes"], 0);
    assert_eq!(done["removed"].as_array().map(Vec::len), planned["planned"].as_array().map(Vec::len), "{done}");
    let stays = kept(&done);
    for name in ["shop", "caches.example.org", "data"] {
        let why = format!("{name}: \"namespaces, definitions and volumes are removed only with --prune-definitions\"");
        assert!(stays.contains(&why), "{name}: {stays:?}");
    }
    assert_eq!(stays.len(), 3, "{stays:?}");
    let requests = api.changes();
    let at = |path: &str| {
        let found = requests.iter().position(|request| request.starts_with(&format!("DELETE {path}")));
        found.unwrap_or_else(|| panic!("{path} was removed: {requests:#?}"))
    };
    let order = [WEBHOOK, CACHE, OPERATOR, SETTINGS, REVISION].map(at);
    assert!(order.is_sorted(), "{order:?}");
    for path in [SPACE, DEFINITION, CLAIM, "/api/v1/namespaces/shop/configmaps/words"] {
        assert!(api.get(path).is_some(), "{path}");
    }
    assert!(api.get("/apis/apps/v1/namespaces/shop/controllerrevisions/vcdist-words-1").is_some());
    assert_eq!(uninstall(&api, "cache", &["--yes"], 0)["removed"], json!([]));
    deploy(&api, "cache", CACHES);
    assert!(api.get(CACHE).is_some(), "it is deployed again");
}

#[test]
fn definitions_volumes_and_a_namespace_that_nobody_uses_go_when_it_is_said() {
    let api = deployed();
    let done = uninstall(&api, "cache", &["--yes", "--prune-definitions"], 0);
    let stays = kept(&done);
    assert!(stays.len() == 1 && stays[0].contains("configmap/words"), "{stays:?}");
    assert!(stays[0].contains("controllerrevision/vcdist-words-1"), "{stays:?}");
    for path in [DEFINITION, CLAIM, REVISION] {
        assert!(api.get(path).is_none(), "{path}");
    }
    let order = [DEFINITION, OPERATOR, CLAIM].map(|path| {
        api.changes().iter().position(|request| request.starts_with(&format!("DELETE {path}"))).expect("a removal")
    });
    assert!(order.is_sorted(), "objects of a kind go while their operator runs: {order:?}");
    uninstall(&api, "words", &["--yes", "--prune-definitions"], 0);
    assert!(api.get(SPACE).is_some(), "another release's");
    // Its revisions are gone, and its mark tells whose it is.
    uninstall(&api, "cache", &["--yes", "--prune-definitions"], 0);
    assert_eq!(api.paths(), [""; 0]);
}

#[test]
fn what_is_no_longer_the_releases_stays_and_what_a_controller_holds_is_named() {
    let api = deployed();
    let mut settings = api.get(SETTINGS).expect("settings");
    settings["metadata"]["managedFields"] = json!([{ "manager": "helm", "operation": "Update" }]);
    api.put(SETTINGS, settings);
    let mut cache = api.get(CACHE).expect("a Cache");
    cache["metadata"]["finalizers"] = json!(["example.org/flush"]);
    api.put(CACHE, cache.clone());
    let waited = uninstall(&api, "cache", &["--yes", "--timeout", "1s"], 1);
    let error = waited["error"].as_str().expect("an error");
    assert!(error.contains("cache/main in shop (finalizers example.org/flush): not gone after 1"), "{error}");
    assert!(api.get(OPERATOR).is_some() && api.get(REVISION).is_some(), "what takes it apart still runs");

    cache["metadata"]["finalizers"] = json!([]);
    cache["metadata"]["deletionTimestamp"] = Value::Null;
    api.put(CACHE, cache);
    let done = uninstall(&api, "cache", &["--yes"], 0);
    assert!(kept(&done).iter().any(|one| one.starts_with("settings: ") && one.contains("helm")), "{done}");
    assert!(api.get(SETTINGS).is_some() && api.get(CACHE).is_none());
}

#[test]
fn volumes_that_a_statefulset_made_stay_and_are_named() {
    let api = Api::up();
    let set = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n---\n\
        {apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {serviceName: db, replicas: 1, \
         selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: db, image: 'db:1'}]}}, \
         volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce]}}]}}\n";
    deploy(&api, "db", set);
    let path = "/api/v1/namespaces/shop/persistentvolumeclaims/data-db-0";
    api.put(path, json!({ "kind": "PersistentVolumeClaim", "metadata": { "uid": "p" } }));
    let done = uninstall(&api, "db", &["--yes", "--prune-definitions"], 0);
    let stays = kept(&done);
    assert!(stays.iter().any(|one| one.starts_with("data-db-0: ") && one.contains("statefulset/db")), "{stays:?}");
    assert!(
        stays.iter().any(|one| one.contains("persistentvolumeclaim/data-db-0")),
        "so the namespace stays: {stays:?}"
    );
    assert!(api.get(path).is_some() && api.get(SPACE).is_some());
}

#[test]
fn a_removal_that_is_killed_after_any_change_ends_where_it_would_have_when_it_is_run_again() {
    let api = Api::up();
    deploy(&api, "cache", CACHES);
    let begin = api.snapshot();
    let arguments = ["--yes", "--prune-definitions"];
    let mut kills = 0;
    for count in 1.. {
        if !api.kill_after(count, of(&api, "uninstall", "cache").args(arguments)) {
            break;
        }
        kills += 1;
        let (code, _, said) = ended(of(&api, "uninstall", "cache").args(arguments));
        assert_eq!(code, 0, "killed after {count} changes: {said}");
        assert_eq!(api.paths(), [""; 0], "killed after {count} changes");
        api.restore(&begin);
    }
    assert!(kills >= 8, "{kills}");
}

#[test]
fn a_release_has_no_tenants_and_needs_its_namespace() {
    let api = Api::up();
    for arguments in [
        &["uninstall", "--name", "cache"] as &[&str],
        &["uninstall", "--prune-definitions"],
        &["uninstall", "--name", "cache", "--namespace", "shop", "--tenants", "delete"],
    ] {
        assert_eq!(ended(&mut api.vcdist(arguments)).0, 2, "{arguments:?}");
    }
}
