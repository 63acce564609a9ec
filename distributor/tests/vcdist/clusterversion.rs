//! `vcdist detect` and `vcdist clusterversion`: the images of the cluster's control plane, and of tenants'.

use std::process::{Command, Output, Stdio};

use rigs::{Run, wait};
use serde_json::{Value, json};

use crate::rig::api::Api;

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";

const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusterversions.tenancy.x-k8s.io";

fn definition() -> Value {
    json!({ "kind": "CustomResourceDefinition",
        "spec": { "group": "tenancy.x-k8s.io", "versions": [{ "name": "v1alpha1", "served": true }] } })
}

/// A cluster of kubeadm, whose controller manager has no static pod.
fn cluster() -> Api {
    let api = Api::up();
    let version = json!({ "major": "1", "minor": "34", "gitVersion": "v1.34.4", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": "" });
    api.put("/version", version);
    for (name, label, image) in [
        ("etcd-cp", "etcd", "registry.example/etcd:3.6.4-0"),
        ("kube-apiserver-cp", "other", "registry.example/kube-apiserver:v1.34.4"),
    ] {
        let pod = json!({ "metadata": { "labels": { "component": label } },
            "spec": { "containers": [{ "name": "c", "image": image }] }, "status": { "phase": "Running" } });
        api.put(&format!("/api/v1/namespaces/kube-system/pods/{name}"), pod);
    }
    api
}

fn run(api: &Api, arguments: &[&str]) -> Run {
    let store = api.path().join("store");
    Run::of(api.vcdist(arguments).env("VCBUILD_STORE", store))
}

#[test]
fn tenants_get_the_images_of_the_cluster_unless_others_are_given() {
    let api = cluster();
    let detected = run(&api, &["detect", "--output", "json"]).json();
    let found: Vec<(&Value, &Value, &Value)> = detected["images"]
        .as_array()
        .expect("images")
        .iter()
        .map(|one| (&one["image"], &one["source"], &one["pod"]))
        .collect();
    let (label, name, version) = (json!("label"), json!("name"), json!("version"));
    let images = ["registry.example/etcd:3.6.4-0", "registry.example/kube-apiserver:v1.34.4"].map(Value::from);
    let published = json!("registry.k8s.io/kube-controller-manager:v1.34.4");
    let pods = ["kube-system/etcd-cp", "kube-system/kube-apiserver-cp"].map(Value::from);
    let expected =
        [(&images[0], &label, &pods[0]), (&images[1], &name, &pods[1]), (&published, &version, &Value::Null)];
    assert_eq!(found, expected);

    let written = run(&api, &["clusterversion"]);
    assert_eq!(written.code, Some(0), "{written:?}");
    for part in ["kind: ClusterVersion\n", "name: cv-v1.34.4\n", "image: registry.example/etcd:3.6.4-0\n"] {
        assert!(written.stdout.contains(part), "{part:?} is not in {}", written.stdout);
    }
    let etcd = format!("registry.example/tenant-etcd@{DIGEST}");
    let names = run(&api, &["clusterversion", "--etcd-image", &etcd, "--images"]);
    assert_eq!(
        names.stdout,
        format!("{etcd}\nregistry.example/kube-apiserver:v1.34.4\n{}\n", published.as_str().unwrap())
    );
}

#[test]
fn a_kind_that_is_not_served_yet_is_waited_for_and_one_that_never_is_names_what_installs_it() {
    let api = cluster();
    let mut command = api.vcdist(&["clusterversion", "mine", "--apply"]);
    run(&api, &["clusterversion", "mine", "--apply"]).failed(1, &["does not serve ClusterVersions", "vcdist deploy"]);
    let asked = || api.requests().iter().filter(|request| request.starts_with("PATCH")).count();
    let before = asked();
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vcdist runs");
    wait::until("the ClusterVersion was applied in vain", || asked() > before);
    api.put(DEFINITION, definition());
    let Output { status, stderr, .. } = running.wait_with_output().expect("its end");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    assert!(api.get("/apis/tenancy.x-k8s.io/v1alpha1/clusterversions/mine").is_some());
}

#[test]
fn a_cluster_version_is_applied_and_needs_no_cluster_to_be_printed() {
    let api = cluster();
    api.put(DEFINITION, definition());
    let applied =
        run(&api, &["clusterversion", "mine", "--etcd-storage", "2Gi", "--service-type", "clusterip", "--apply"]);
    assert_eq!((applied.code, applied.stdout.as_str()), (Some(0), "applied clusterversion/mine\n"), "{applied:?}");
    let object = api.get("/apis/tenancy.x-k8s.io/v1alpha1/clusterversions/mine").expect("the ClusterVersion");
    let claims = &object["spec"]["etcd"]["statefulset"]["spec"]["volumeClaimTemplates"];
    assert_eq!(claims[0]["spec"]["resources"]["requests"]["storage"], "2Gi");
    assert_eq!(object["spec"]["apiServer"]["service"]["spec"]["type"], "ClusterIP");

    let away = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
        Run::of(command.args(arguments).env("KUBECONFIG", "/nonexistent/config"))
    };
    let published = away(&["clusterversion", "--kubernetes", "v1.30.2"]);
    assert!(published.stdout.contains("image: registry.k8s.io/etcd:3.5.12-0\n"), "{published:?}");
    away(&["clusterversion", "Not_a_name", "--kubernetes", "v1.30.2"])
        .failed(1, &["\"Not_a_name\" is not a valid name"]);
    away(&["clusterversion", "--kubernetes", "1.30"]).failed(2, &["write a version such as v1.34.4"]);
}
