//! Revisions: what they hold, how the cluster differs from them, what goes with the next, and the way back.

use std::io::{Read, Write};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::rig::api::{Api, NEVER_RUNS};
use crate::rig::{Rig, image};

const NAMESPACE: &str = "/api/v1/namespaces/vc-manager";
const SYNCER: &str = "/apis/apps/v1/namespaces/vc-manager/deployments/vc-syncer";
const AGENT: &str = "/apis/apps/v1/namespaces/vc-manager/daemonsets/vn-agent";

fn output(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("vcdist runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

fn json(command: &mut Command, code: i32) -> Value {
    let (ended, out, said) = output(command.args(["--output", "json"]));
    assert_eq!(ended, code, "{command:?}: {out}{said}");
    serde_json::from_str(&out).expect("one JSON document")
}

fn digest(digit: &str) -> String {
    format!("sha256:{}", digit.repeat(64))
}

/// A command that takes the images of this digest.
fn with_images(api: &Api, command: &str, digest: &str) -> Command {
    let mut command = api.vcdist(&[command]);
    for component in ["manager", "syncer", "vn-agent"] {
        command.arg("--image").arg(format!("{component}=docker.io/a/{component}@{digest}"));
    }
    command
}

fn deploy(api: &Api, digit: &str) -> Value {
    json(&mut with_images(api, "deploy", &digest(digit)), 0)
}

fn rollback(api: &Api, arguments: &[&str]) -> Command {
    let mut command = api.vcdist(&["rollback", "--ignore-nodes"]);
    command.args(arguments);
    command
}

fn revision_path(number: i64) -> String {
    format!("/apis/apps/v1/namespaces/vc-manager/controllerrevisions/vcdist-{number}")
}

fn image_of(api: &Api, path: &str) -> String {
    let object = api.get(path).expect("an object");
    object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("an image").to_owned()
}

fn objects_of(revision: &Value) -> Vec<Value> {
    let compressed = BASE64.decode(revision["data"]["objects"].as_str().expect("objects")).expect("base64");
    let mut text = String::new();
    GzDecoder::new(compressed.as_slice()).read_to_string(&mut text).expect("gzip");
    serde_json::from_str(&text).expect("JSON")
}

/// Has a revision say that it had this object too, and puts the object where it is.
fn had_too(api: &Api, number: i64, path: &str, object: &Value) {
    let mut revision = api.get(&revision_path(number)).expect("a revision");
    let mut objects = objects_of(&revision);
    objects.push(object.clone());
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(Value::from(objects).to_string().as_bytes()).expect("gzip");
    revision["data"]["objects"] = json!(BASE64.encode(encoder.finish().expect("gzip")));
    api.put(&revision_path(number), revision);
    let mut object = object.clone();
    object["metadata"]["managedFields"] =
        json!([{ "manager": "vcdist", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {} }]);
    api.put(path, object);
}

fn account(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": "vc-manager",
        "labels": { "app.kubernetes.io/managed-by": "vcdist" } } })
}

#[test]
fn history_tells_each_revision_and_the_objects_of_one() {
    let api = Api::up();
    let (code, out, _) = output(&mut api.vcdist(&["history"]));
    assert_eq!((code, out.as_str()), (0, "no revision is recorded in the namespace vc-manager\n"));
    assert_eq!(deploy(&api, "a")["revision"], 1);
    assert_eq!(deploy(&api, "a")["revision"], 1, "the same objects are the same revision");
    assert_eq!(deploy(&api, "b")["revision"], 2);
    let history = json(&mut api.vcdist(&["history"]), 0);
    let revisions = history["revisions"].as_array().expect("revisions");
    let told: Vec<(&Value, &Value, bool)> = revisions
        .iter()
        .map(|one| (&one["revision"], &one["current"], one["ready_at"].is_string() && one["recorded_at"].is_string()))
        .collect();
    assert_eq!(told, [(&json!(2), &json!(true), true), (&json!(1), &json!(false), true)]);
    let newest = json!({ "component": "manager", "name": "docker.io/a/manager", "digest": digest("b") });
    assert_eq!(revisions[0]["images"][0], newest);
    assert_eq!(revisions[0]["version"], env!("CARGO_PKG_VERSION"));
    let (_, text, _) = output(&mut api.vcdist(&["history"]));
    assert!(text.contains("syncer docker.io/a/syncer@bbbbbbbbbbbb") && text.contains("current"), "{text}");

    let (code, yaml, _) = output(&mut api.vcdist(&["history", "1"]));
    assert_eq!(code, 0);
    assert!(yaml.contains(&digest("a")) && !yaml.contains(&digest("b")) && yaml.contains("kind: DaemonSet"), "{yaml}");
    let items = json(&mut api.vcdist(&["history", "1"]), 0)["items"].as_array().expect("items").len();
    assert_eq!(Some(&json!(items)), Some(&revisions[1]["objects"]));
    let (code, _, said) = output(&mut api.vcdist(&["history", "7"]));
    assert_eq!(code, 1);
    assert!(said.contains("there is no revision 7") && said.contains("1, 2"), "{said}");
}

#[test]
fn what_an_older_vcdist_recorded_is_read_and_an_older_vcdist_reads_the_images_of_ours() {
    let api = Api::up();
    let labels = json!({ "app.kubernetes.io/managed-by": "vcdist", "app.kubernetes.io/component": "revision" });
    let older = json!({ "kind": "ControllerRevision", "apiVersion": "apps/v1", "metadata": { "labels": labels },
        "revision": 1, "data": { "images": [format!("docker.io/a/manager@{}", digest("a"))] } });
    api.put(&revision_path(1), older);
    let (_, text, _) = output(&mut api.vcdist(&["history"]));
    assert!(text.contains("images only") && !text.contains("never ready"), "{text}");
    assert_eq!(deploy(&api, "b")["revision"], 2);
    let ours = api.get(&revision_path(2)).expect("a revision");
    let images: Vec<String> =
        ["manager", "syncer", "vn-agent"].map(|it| format!("docker.io/a/{it}@{}", digest("b"))).into();
    assert_eq!(ours["data"]["images"], json!(images));
    let before = api.changes().len();
    for arguments in [&[][..], &["1"]] {
        let (code, _, said) = output(&mut rollback(&api, arguments));
        assert_eq!(code, 1);
        assert!(said.contains("revision 1") && said.contains("only images") && said.contains("--image"), "{said}");
    }
    assert_eq!(api.changes().len(), before);
}

#[test]
fn what_only_an_earlier_revision_had_goes_if_it_is_still_ours() {
    let api = Api::up();
    let _ = deploy(&api, "a");
    let path = |name: &str| format!("{NAMESPACE}/serviceaccounts/{name}");
    for name in ["gone", "taken"] {
        had_too(&api, 1, &path(name), &account(name));
    }
    let mut taken = api.get(&path("taken")).expect("an account");
    taken["metadata"]["managedFields"] = json!([{ "manager": "helm", "operation": "Update" }]);
    api.put(&path("taken"), taken);
    api.put(&path("theirs"), account("theirs"));
    let definition = json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "olds.example.com", "labels": { "app.kubernetes.io/managed-by": "vcdist" } },
        "spec": { "group": "example.com", "names": { "kind": "Old", "plural": "olds" }, "scope": "Cluster", "versions": [] } });
    let definition_path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/olds.example.com";
    had_too(&api, 1, definition_path, &definition);

    let diff = json(&mut with_images(&api, "diff", &digest("a")), 3);
    let with = |change: &str| -> Vec<&str> {
        let objects = diff["objects"].as_array().expect("objects").iter();
        objects
            .filter(|one| one["change"] == change && one["kept"].is_null())
            .filter_map(|one| one["name"].as_str())
            .collect()
    };
    assert_eq!(with("removed"), ["gone"]);
    let (_, planned, _) = output(with_images(&api, "deploy", &digest("b")).arg("--dry-run"));
    assert!(planned.contains("serviceaccount/gone removed"), "{planned}");
    assert!(planned.contains("serviceaccount/taken is in no current revision and stays"), "{planned}");
    assert!(planned.contains("only with --prune-definitions"), "{planned}");
    assert!(api.get(&path("gone")).is_some());

    let deployed = deploy(&api, "b");
    assert!(
        deployed["objects"]
            .as_array()
            .expect("objects")
            .iter()
            .any(|one| one["name"] == "gone" && one["applied"] == true)
    );
    let left = |name: &str| api.get(&path(name)).is_some();
    assert_eq!(
        [left("gone"), left("taken"), left("theirs"), api.get(definition_path).is_some()],
        [false, true, true, true]
    );
    let removal = api.requests().into_iter().rposition(|request| request.starts_with("DELETE")).expect("a removal");
    let applied =
        api.requests().into_iter().rposition(|request| request.contains(SYNCER) && !request.contains("dryRun"));
    assert!(applied.expect("it was applied") < removal, "what is new is there before what is old goes");
    let _ = json(with_images(&api, "deploy", &digest("b")).arg("--prune-definitions"), 0);
    assert!(api.get(definition_path).is_none());
}

#[test]
fn diff_tells_what_differs_by_field_and_with_a_revision_what_others_changed() {
    let api = Api::up();
    let empty = json(&mut with_images(&api, "diff", &digest("a")), 3);
    assert!(empty["objects"].as_array().expect("objects").iter().all(|one| one["change"] == "created"), "{empty}");
    let before = api.changes().len();
    assert_eq!(before, 0, "nothing was changed");
    let _ = deploy(&api, "a");
    let (code, text, said) = output(&mut with_images(&api, "diff", &digest("a")));
    assert_eq!(code, 0, "{text}{said}");
    assert!(text.contains("0 of ") && text.contains("differ from what would be deployed"), "{text}");
    let (code, text, _) = output(&mut with_images(&api, "diff", &digest("b")));
    let line = format!(
        "spec.template.spec.containers[vc-syncer].image: docker.io/a/syncer@{} -> docker.io/a/syncer@{}",
        digest("a"),
        digest("b")
    );
    assert_eq!((code, text.contains(&line)), (3, true), "{text}");

    assert_eq!(json(&mut api.vcdist(&["diff", "--revision", "1"]), 0)["differs"], false);
    for option in [["--exclude", "w1"], ["--tolerate", "gpu"]] {
        let (code, _, said) = output(api.vcdist(&["diff", "--revision", "1"]).args(option));
        assert_eq!(code, 2, "a revision says by itself what it consists of: {said}");
    }
    let mut edited = api.get(SYNCER).expect("a Deployment");
    edited["spec"]["paused"] = json!(false);
    edited["spec"]["replicas"] = json!(3);
    edited["metadata"]["managedFields"].as_array_mut().expect("managers").push(json!({ "manager": "kubectl-edit",
        "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:paused": {} } } }));
    api.put(SYNCER, edited);
    let drift = json(&mut api.vcdist(&["diff", "--revision", "1"]), 3);
    let syncer = drift["objects"]
        .as_array()
        .expect("objects")
        .iter()
        .find(|one| one["name"] == "vc-syncer" && one["kind"] == "Deployment");
    let fields: Vec<&Value> =
        syncer.expect("it")["fields"].as_array().expect("fields").iter().map(|one| &one["field"]).collect();
    assert_eq!(fields, ["spec.replicas", "spec.paused"], "{drift}");

    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/vc-syncer-rolebinding";
    let mut binding = api.get(path).expect("a binding");
    binding["roleRef"]["name"] = json!("other");
    api.put(path, binding);
    let (code, text, _) = output(&mut with_images(&api, "diff", &digest("a")));
    assert_eq!(code, 3);
    assert!(
        text.contains("clusterrolebinding/vc-syncer-rolebinding recreated (deleted, then created)\n    roleRef: {"),
        "{text}"
    );
    assert!(text.contains("\"other\"") && text.contains("\"vc-syncer-role\""), "{text}");
}

/// A cluster with two revisions: the second has other images and a toleration more, and the first an account more.
fn two_revisions() -> Api {
    let api = Api::up();
    let _ = deploy(&api, "a");
    had_too(&api, 1, &format!("{NAMESPACE}/serviceaccounts/old"), &account("old"));
    let _ = json(with_images(&api, "deploy", &digest("b")).args(["--tolerate", "gpu"]), 0);
    had_too(&api, 2, &format!("{NAMESPACE}/serviceaccounts/new"), &account("new"));
    api
}

/// Whether the cluster is as the first revision had it.
fn is_back(api: &Api) -> bool {
    let tolerations = api.get(AGENT).expect("vn-agent")["spec"]["template"]["spec"]["tolerations"].to_string();
    let account = |name: &str| api.get(&format!("{NAMESPACE}/serviceaccounts/{name}")).is_some();
    image_of(api, SYNCER).ends_with(&digest("a")) && !tolerations.contains("gpu") && account("old") && !account("new")
}

#[test]
fn a_rollback_brings_images_fields_and_objects_back_and_is_a_revision_of_its_own() {
    let api = two_revisions();
    let before = api.changes().len();
    let planned = json(&mut rollback(&api, &["--dry-run"]), 0);
    assert_eq!((&planned["from"], &planned["to"], api.changes().len()), (&json!(2), &json!(1), before));
    let done = json(&mut rollback(&api, &[]), 0);
    assert_eq!((&done["to"], &done["revision"]), (&json!(1), &json!(3)));
    assert!(is_back(&api));
    let history = json(&mut api.vcdist(&["history"]), 0);
    assert_eq!(
        (&history["revisions"][0]["rollback_to"], &history["revisions"][0]["current"]),
        (&json!(1), &json!(true))
    );
    let (_, text, _) = output(&mut api.vcdist(&["history"]));
    assert!(text.contains("current, rollback to 1"), "{text}");
    let again = json(&mut rollback(&api, &["1"]), 0);
    assert_eq!(again["revision"], 3, "the same objects are the same revision");
    let forth = json(&mut rollback(&api, &[]), 0);
    assert_eq!((&forth["to"], &forth["revision"]), (&json!(2), &json!(4)));
    assert!(!is_back(&api));
    let (code, _, said) = output(&mut rollback(&api, &["9"]));
    assert_eq!((code, said.contains("the recorded revisions are 1, 2, 3, 4")), (1, true), "{said}");
}

#[test]
fn a_rollback_that_is_killed_after_any_change_ends_where_it_would_have_when_it_is_run_again() {
    let api = two_revisions();
    let begin = api.snapshot();
    let mut kills = 0;
    for count in 1.. {
        if !api.kill_after(count, &mut rollback(&api, &[])) {
            break;
        }
        kills += 1;
        let marked = api.get(&revision_path(3)).is_some_and(|it| it["metadata"]["annotations"].is_object());
        // Killed after its very last change, it is done; once more would be the way forth again.
        let done = if marked { Value::Null } else { json(&mut rollback(&api, &[]), 0) };
        assert!(is_back(&api), "killed after {count} changes: {done}");
        assert_eq!(json(&mut api.vcdist(&["diff", "--revision", "1"]), 0)["differs"], false, "after {count} changes");
        let history = json(&mut api.vcdist(&["history"]), 0);
        assert_eq!(history["revisions"].as_array().map(Vec::len), Some(3), "after {count} changes: {history}");
        assert!(history["revisions"][0]["ready_at"].is_string());
        api.restore(&begin);
    }
    assert!(kills >= 6, "namespace, revision, workloads, removal, ready: {kills}");
}

#[test]
fn an_atomic_deployment_that_fails_goes_back_to_what_was_ready_last() {
    let api = Api::up();
    let first = json(with_images(&api, "deploy", NEVER_RUNS).arg("--atomic"), 1);
    assert!(first["error"].as_str().expect("an error").contains("no earlier revision was ready"), "{first}");
    let _ = deploy(&api, "a");
    let mut failing = with_images(&api, "deploy", NEVER_RUNS);
    let (code, out, said) = output(failing.args(["--atomic", "--tolerate", "gpu", "--output", "json"]));
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &report["rolled_back_to"]), (1, &json!(2)), "{report}{said}");
    assert!(report["error"].as_str().expect("an error").contains("it does not start"), "{report}");
    assert!(said.contains("going back to revision 2") && said.contains("is back at revision 2"), "{said}");
    assert!(image_of(&api, SYNCER).ends_with(&digest("a")));
    assert!(!api.get(AGENT).expect("vn-agent").to_string().contains("gpu"));
    let history = json(&mut api.vcdist(&["history"]), 0);
    let numbers: Vec<(&Value, bool)> = history["revisions"]
        .as_array()
        .expect("revisions")
        .iter()
        .map(|one| (&one["rollback_to"], one["ready_at"].is_string()))
        .collect();
    assert_eq!(numbers, [(&json!(2), true), (&Value::Null, false), (&Value::Null, true), (&Value::Null, false)]);
}

#[test]
fn a_node_without_the_revisions_images_gets_them_or_the_rollback_is_refused() {
    let rig = Rig::up();
    let api = Api::up();
    api.put_worker();
    let (config, socket, store) = (rig.path().join("ssh_config"), rig.path().join("containerd.sock"), rig.store());
    let ssh = ["--ssh-user", "root", "--ssh-config", config.as_str(), "--containerd-address", socket.as_str()];
    let deploy = |generation: &[u8], push: bool| -> Vec<String> {
        let components = ["manager", "syncer", "vn-agent"];
        let made: Vec<String> = components
            .map(|component| {
                image(&store, component, b"base", generation);
                let image = store.image(component).expect("an image");
                format!("{component}={}@{}", image.name.split_once(':').expect("a tag").0, image.digest())
            })
            .into();
        if push {
            rig.push(&components).report(0);
        }
        let mut command = api.vcdist(&["deploy"]);
        for image in &made {
            command.args(["--image", image]);
        }
        let _ = json(&mut command, 0);
        made
    };
    let first = deploy(b"first", false);
    let _ = deploy(b"second", true);
    let before = api.changes().len();
    let (code, _, said) = output(api.vcdist(&["rollback"]).args(ssh));
    let missing = first[1].split_once('=').expect("an image").1;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("worker lacks") && said.contains(missing) && said.contains("--push"), "{said}");
    let nowhere = rig.path().join("nowhere");
    vcstore::Store::open(&nowhere).expect("an empty store");
    let (code, _, said) = output(api.vcdist(&["rollback", "--push", "--store", nowhere.as_str()]).args(ssh));
    assert_eq!((code, said.contains("does not have") && said.contains(missing)), (1, true), "{said}");
    let (code, _, said) =
        output(api.vcdist(&["rollback", "--ssh-config", "/dev/null", "--ssh-user", "nobody"]).args([
            "--connect-timeout",
            "2s",
            "--retries",
            "0",
        ]));
    assert_eq!((code, said.contains("asking the nodes") && said.contains("worker")), (1, true), "{said}");
    assert_eq!(api.changes().len(), before, "nothing was changed in the cluster");

    let path = store.path().to_owned();
    let done = json(api.vcdist(&["rollback", "--push", "--store", path.as_str()]).args(ssh), 0);
    assert_eq!(done["pushed"]["worker"].as_array().map(Vec::len), Some(3), "{done}");
    assert!(image_of(&api, SYNCER).ends_with(missing.split_once('@').expect("a digest").1));
    // What was pushed for the second is there still.
    let forth = json(api.vcdist(&["rollback"]).args(ssh), 0);
    assert_eq!((&forth["to"], &forth["pushed"]), (&json!(2), &json!({})));
}
