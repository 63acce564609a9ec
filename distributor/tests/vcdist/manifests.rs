//! `vcdist deploy --manifests`: anybody's objects as a release with revisions of its own. The shapes are those of common
//! applications: a web shop, a database with a volume, an operator with a definition and a webhook.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::rig::api::{Api, NEVER_RUNS};

const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
const INGRESS: &str = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web";

/// A namespace, a Service, a Deployment and an Ingress, not in the order that they need.
fn shop(image: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: web }}
spec: {{ rules: [{{ host: shop.example.com }}] }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web }}
spec:
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec: {{ containers: [{{ name: web, image: {image} }}] }}
---
apiVersion: v1
kind: List
items:
- {{ apiVersion: v1, kind: Service, metadata: {{ name: web }}, spec: {{ selector: {{ app: web }}, ports: [{{ port: 80 }}] }} }}
- {{ apiVersion: v1, kind: Namespace, metadata: {{ name: shop }} }}
"
    )
}

fn without_ingress(manifests: &str) -> String {
    manifests.split_once("---\n").expect("two documents").1.to_owned()
}

fn release(api: &Api, command: &str, name: &str) -> Command {
    api.vcdist(&[command, "--namespace", "shop", "--name", name])
}

/// Runs a command on manifests from stdin.
fn run(command: &mut Command, manifests: &str) -> (i32, String, String) {
    let command =
        command.args(["--manifests", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("vcdist runs");
    // It may refuse its arguments before it reads.
    let _ = child.stdin.take().expect("its stdin").write_all(manifests.as_bytes());
    told(child.wait_with_output().expect("vcdist ends"))
}

fn told(Output { status, stdout, stderr }: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

fn deploy(api: &Api, name: &str, manifests: &str, code: i32) -> Value {
    let (ended, out, said) = run(release(api, "deploy", name).args(["--output", "json"]), manifests);
    assert_eq!(ended, code, "{out}{said}");
    serde_json::from_str(&out).expect("one JSON document")
}

fn refused(api: &Api, manifests: &str) -> String {
    let (code, out, said) = run(&mut release(api, "deploy", "shop"), manifests);
    assert_eq!(code, 1, "{out}{said}");
    said
}

fn changed(document: &Value) -> Vec<String> {
    let objects = document["objects"].as_array().expect("objects");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let text = |object: &Value| format!("{} {}", text(&object["kind"]), text(&object["change"]));
    objects.iter().map(text).collect()
}

fn image(api: &Api) -> Value {
    api.get(WEB).expect("a Deployment")["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

#[test]
fn a_shop_is_rolled_out_compared_upgraded_pruned_and_rolled_back() {
    let api = Api::up();
    let first = deploy(&api, "shop", &shop("shop/web:1"), 0);
    assert_eq!(changed(&first), ["Namespace created", "Ingress created", "Service created", "Deployment created"]);
    assert_eq!((&first["revision"], &first["release"]), (&json!(1), &json!("shop")));
    assert_eq!(first["images"], json!([{ "name": "shop/web:1", "replaced_by": null }]));
    let mark = &api.get(INGRESS).expect("an Ingress")["metadata"]["annotations"];
    assert_eq!(mark["vcdist.virtualcluster.io/release"], "shop/shop");
    assert!(api.get("/apis/apps/v1/namespaces/shop/controllerrevisions/vcdist-shop-1").is_some());
    assert_eq!(run(&mut release(&api, "diff", "shop"), &shop("shop/web:1")).0, 0);

    let second = without_ingress(&shop("shop/web:2"));
    let (code, differs, _) = run(&mut release(&api, "diff", "shop"), &second);
    assert!(
        code == 3 && differs.contains("shop/web:1 -> shop/web:2") && differs.contains("ingress/web removed"),
        "{differs}"
    );
    let upgraded = deploy(&api, "shop", &second, 0);
    assert!(changed(&upgraded).contains(&"Ingress removed".to_owned()), "{upgraded}");
    assert_eq!((api.get(INGRESS), image(&api)), (None, json!("shop/web:2")));

    let failed = deploy(&api, "shop", &shop(&format!("shop/web@{NEVER_RUNS}")), 1);
    assert!(failed["error"].as_str().expect("an error").contains("deployment/web"), "{failed}");
    let back = told(release(&api, "rollback", "shop").args(["1", "--ignore-nodes"]).output().expect("vcdist runs"));
    assert_eq!(back.0, 0, "{back:?}");
    assert_eq!((api.get(INGRESS).is_some(), image(&api)), (true, json!("shop/web:1")));
    let (_, history, _) = told(release(&api, "history", "shop").output().expect("vcdist runs"));
    assert_eq!(history.lines().filter(|line| line.contains("shop/web")).count(), 4, "{history}");
    let printed = told(release(&api, "history", "shop").arg("1").output().expect("vcdist runs")).1;
    assert!(printed.contains("kind: Ingress") && !printed.contains("plural"), "{printed}");
}

#[test]
fn an_atomic_deployment_of_a_release_goes_back_to_its_own_last_revision() {
    let api = Api::up();
    deploy(&api, "shop", &shop("shop/web:1"), 0);
    let bad = shop(&format!("shop/web@{NEVER_RUNS}"));
    let (code, _, said) = run(release(&api, "deploy", "shop").arg("--atomic"), &bad);
    assert!(code == 1 && said.contains("back at revision 1"), "{said}");
    assert_eq!(image(&api), "shop/web:1");
}

#[test]
fn releases_keep_out_of_each_other() {
    let api = Api::up();
    deploy(&api, "shop", &shop("shop/web:1"), 0);
    let config = "{apiVersion: v1, kind: ConfigMap, metadata: {name: words}, data: {a: b}}\n";
    let other = deploy(&api, "words", config, 0);
    assert_eq!((changed(&other), &other["revision"]), (vec!["ConfigMap created".to_owned()], &json!(1)));
    assert!(api.get(INGRESS).is_some(), "another release's");
    let said = refused(&api, config);
    assert!(said.contains("configmap/words") && said.contains("shop/words"), "{said}");
    let (_, history, _) = told(api.vcdist(&["history", "--namespace", "shop"]).output().expect("vcdist runs"));
    assert!(history.contains("no revision is recorded"), "{history}");
}

#[test]
fn a_databases_volume_outlives_what_names_it() {
    let api = Api::up();
    let claim = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: backup}, spec: {accessModes: [ReadWriteOnce]}}\n";
    let set = "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {serviceName: db, replicas: 1, \
         selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: db, image: db:1}]}}, \
         volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce]}}]}}\n";
    let space = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n";
    deploy(&api, "db", &format!("{set}---\n{claim}---\n{space}"), 0);
    assert!(api.get("/apis/apps/v1/namespaces/shop/statefulsets/db").is_some());
    let without = format!("{set}---\n{space}");
    let kept = deploy(&api, "db", &without, 0);
    assert_eq!(kept["kept"][0]["kind"], "PersistentVolumeClaim", "{kept}");
    let path = "/api/v1/namespaces/shop/persistentvolumeclaims/backup";
    assert!(api.get(path).is_some());
    let (code, ..) = run(release(&api, "deploy", "db").arg("--prune-definitions"), &without);
    assert_eq!((code, api.get(path)), (0, None));
}

/// A definition, its operator, an object of it and a webhook.
fn operator(field: &str) -> String {
    format!(
        "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{ name: caches }}
webhooks: [{{ name: caches.example.org, clientConfig: {{ url: 'https://10.0.0.1/check' }} }}]
---
{{ apiVersion: example.org/v1, kind: Cache, metadata: {{ name: main }}, spec: {{ {field}: 1 }} }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: operator }}
spec: {{ selector: {{}}, template: {{ spec: {{ containers: [{{ name: o, image: o:1 }}] }} }} }}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{ name: caches.example.org }}
spec:
  group: example.org
  scope: Namespaced
  names: {{ kind: Cache, plural: caches }}
  versions: [{{ name: v1, served: true, storage: true, schema: {{ openAPIV3Schema: {{ type: object, properties: {{ spec: {{ type: object, properties: {{ {field}: {{ type: integer }} }} }} }} }} }} }}]
---
{{ apiVersion: v1, kind: Namespace, metadata: {{ name: shop }} }}
"
    )
}

#[test]
fn definitions_come_before_their_operator_and_that_before_objects_and_webhooks() {
    let api = Api::up();
    let (code, _, said) = run(&mut release(&api, "diff", "cache"), &operator("size"));
    assert_eq!(code, 3, "nothing is there yet: {said}");
    let first = deploy(&api, "cache", &operator("size"), 0);
    let expected = [
        "Namespace created",
        "CustomResourceDefinition created",
        "Deployment created",
        "Cache created",
        "ValidatingWebhookConfiguration created",
    ];
    assert_eq!(changed(&first), expected);
    let cache = "/apis/example.org/v1/namespaces/shop/caches/main";
    assert_eq!(api.get(cache).expect("a Cache")["spec"]["size"], 1);
    assert_eq!(run(&mut release(&api, "diff", "cache"), &operator("size")).0, 0);
    deploy(&api, "cache", &operator("limit"), 0);
    assert_eq!(api.get(cache).expect("a Cache")["spec"], json!({ "limit": 1 }));
    let alone = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n";
    let rest = deploy(&api, "cache", alone, 0);
    assert_eq!(rest["kept"][0]["kind"], "CustomResourceDefinition", "{rest}");
    assert!(api.paths().iter().all(|path| !path.contains("/caches/main") && !path.contains("webhook")));
}

#[test]
fn objects_of_a_kind_that_is_defined_with_them_can_go_to_a_namespace_that_is_there() {
    let api = Api::up();
    let space = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n";
    deploy(&api, "space", space, 0);
    let manifests = operator("size");
    let (manifests, _) = manifests.rsplit_once("---\n").expect("several documents");
    let (code, _, said) = run(&mut release(&api, "diff", "cache"), manifests);
    assert_eq!(code, 3, "{said}");
    let first = deploy(&api, "cache", manifests, 0);
    assert!(changed(&first).contains(&"Cache created".to_owned()), "{first}");
}

#[test]
fn secrets_with_values_outlive_every_way_back() {
    let api = Api::up();
    let secret = "/api/v1/namespaces/shop/secrets/password";
    let with = |image: &str| {
        format!(
            "{}---\n{{apiVersion: v1, kind: Secret, metadata: {{name: password}}, stringData: {{word: first}}}}\n",
            shop(image)
        )
    };
    deploy(&api, "shop", &with("shop/web:1"), 0);
    let drift = told(release(&api, "diff", "shop").args(["--revision", "1"]).output().expect("vcdist runs"));
    assert_eq!(drift.0, 0, "{drift:?}");
    deploy(&api, "shop", &with("shop/web:2"), 0);
    let fails = || run(release(&api, "deploy", "shop").arg("--atomic"), &with(&format!("shop/web@{NEVER_RUNS}")));
    let (code, out, said) = fails();
    assert!(
        code == 1 && said.contains("back at revision 2") && !out.contains("secret/password removed"),
        "{out}{said}"
    );
    assert!(api.get(secret).is_some(), "a way back leaves them as they are");
    let back = told(release(&api, "rollback", "shop").args(["1", "--ignore-nodes"]).output().expect("vcdist runs"));
    assert!(back.0 == 0 && api.get(secret).is_some(), "{back:?}");
    let (_, _, said) = fails();
    assert!(
        said.contains("back at revision") && api.get(secret).is_some(),
        "a revision that went back has them too: {said}"
    );
    deploy(&api, "shop", &shop("shop/web:3"), 0);
    assert!(api.get(secret).is_none(), "a version without it removes it");
}

#[test]
fn what_cannot_be_rolled_out_is_refused_before_any_change() {
    let api = Api::up();
    for (manifests, why) in [
        ("", "no objects"),
        ("a: [", "stdin"),
        ("{apiVersion: v1, kind: ConfigMap, metadata: {generateName: a-}}", "generateName"),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}",
            "twice",
        ),
        ("{apiVersion: example.net/v1, kind: Thing, metadata: {name: a}}", "no kind Thing"),
    ] {
        let said = refused(&api, manifests);
        assert!(said.contains(why), "{why}: {said}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("kustomization.yaml"), "resources: []\n").expect("a file");
    let path = folder.path().to_str().expect("UTF-8");
    let (code, _, said) =
        told(release(&api, "deploy", "shop").args(["--manifests", path]).output().expect("vcdist runs"));
    assert!(code == 1 && said.contains("kubectl kustomize"), "{said}");
    assert!(api.paths().iter().all(|path| path.contains("leases")), "{:?}", api.paths());
    for arguments in [
        &["deploy", "--manifests", "-"] as &[&str],
        &["deploy", "--manifests", "-", "--name", "a"],
        &["deploy", "--manifests", "-", "--name", "a", "--namespace", "b", "--set", "a=b"],
        &["history", "--name", "a"],
        &["history", "--name", "A", "--namespace", "b"],
    ] {
        assert_eq!(told(api.vcdist(arguments).output().expect("vcdist runs")).0, 2, "{arguments:?}");
    }
    let alone = told(release(&api, "deploy", "shop").output().expect("vcdist runs"));
    assert!(alone.0 == 1 && alone.2.contains("--manifests"), "{alone:?}");
}

#[test]
fn hooks_of_helm_are_applied_and_its_tests_are_left_out() {
    let api = Api::up();
    let hooked = |name: &str, hook: &str| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, annotations: {{helm.sh/hook: {hook}}}}}}}\n"
        )
    };
    let manifests = format!("{}---\n{}", hooked("before", "pre-install"), hooked("check", "test"));
    let (code, out, said) = run(&mut release(&api, "deploy", "shop"), &manifests);
    assert_eq!(code, 0, "{said}");
    assert!(out.contains("configmap/before is a hook of Helm (pre-install)"), "{out}");
    assert!(out.contains("configmap/check is left out") && out.contains("configmap/before created"), "{out}");
    assert!(api.get("/api/v1/namespaces/shop/configmaps/check").is_none());
}
