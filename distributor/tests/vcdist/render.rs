//! `vcdist render`, and the values that it shares with deploy and diff.

use std::fs;
use std::process::{Command, Output};

use crate::rig::api::Api;

/// An object of a kind that only a cluster knows, and one of a built-in kind.
const MANIFESTS: &str = "{apiVersion: example.org/v1, kind: Cache, metadata: {name: main}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: a, uid: x}}
";

fn render(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
    command.arg("render").env("NO_COLOR", "1").env_remove("RUST_LOG");
    for component in ["manager", "syncer", "vn-agent"] {
        command.arg("--image").arg(format!("{component}=docker.io/a/{component}@sha256:{}", "a".repeat(64)));
    }
    let Output { status, stdout, stderr } = command.args(arguments).output().expect("vcdist runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

#[test]
fn the_same_input_renders_the_same_objects_to_stdout_and_to_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("made").into_os_string().into_string().expect("UTF-8");
    let (code, out, _) = render(&["--namespace", "tenants"]);
    assert_eq!((code, &out), (0, &render(&["--namespace", "tenants"]).1));
    assert!(out.starts_with("apiVersion: v1\nkind: Namespace\n") && out.contains("\n---\n"));
    let (code, told, _) = render(&["--namespace", "tenants", "--output-dir", &path]);
    assert_eq!((code, told.matches("wrote ").count()), (0, 4), "{told}");
    assert_eq!(std::fs::read_to_string(folder.path().join("made/all-in-one.yaml")).expect("a file"), out);
}

#[test]
fn files_of_values_and_settings_change_the_objects() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.into_os_string().into_string().expect("UTF-8")
    };
    let first = file("a.yaml", "syncer: { replicas: 3, args: [--v=4] }\nnetworkPolicy: { enabled: true }\n");
    let second = file("b.yaml", "syncer: { replicas: 4 }\n");
    let (code, out, _) = render(&["--values", &first, "--values", &second, "--set", "vnAgent.metricsPort=9200"]);
    assert_eq!(code, 0);
    for part in
        ["replicas: 4\n", "- --v=4\n", "kind: NetworkPolicy\n", "kind: PodDisruptionBudget\n", "hostPort: 9200\n"]
    {
        assert!(out.contains(part), "{part}");
    }
    let (_, values, _) = render(&["--values", &first, "--vn-agent-metrics-port", "9300", "--show-values"]);
    assert!(values.contains("replicas: 3\n") && values.contains("metricsPort: 9300\n"), "{values}");
    for (setting, why) in [
        ("syncer.replica=2", "unknown field"),
        ("manager.replicas=2", "webhook's certificate"),
        ("vnAgent.args=[--port=1]", "10550"),
    ] {
        let (code, out, said) = render(&["--set", setting]);
        assert!(code == 1 && out.is_empty() && said.contains(why), "{setting}: {said}");
    }
    let (code, _, said) = render(&["--values", "/nowhere/values.yaml"]);
    assert!(code == 1 && said.contains("/nowhere/values.yaml"), "{said}");
}

#[test]
fn manifests_of_others_are_rendered_as_deploy_would_apply_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.yaml").into_os_string().into_string().expect("UTF-8");
    let options = ["--manifests", &path, "--name", "cache", "--namespace", "shop"];
    let run = |more: &[&str]| {
        let command = Command::new(env!("CARGO_BIN_EXE_vcdist")).arg("render").args(options).args(more).output();
        let Output { status, stdout, stderr } = command.expect("vcdist runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    };
    fs::write(&path, MANIFESTS).expect("a file");
    let (code, out, said) = run(&[]);
    assert!(
        code == 1 && out.is_empty() && said.contains("Cache in example.org/v1") && said.contains("--kubeconfig"),
        "{said}"
    );

    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  annotations:\n    vcdist.virtualcluster.io/release: shop/cache\n  \
         name: a\n  namespace: shop\n";
    let cache = "apiVersion: example.org/v1\nkind: Cache\nmetadata:\n  annotations:\n    vcdist.virtualcluster.io/release: \
         shop/cache\n  name: main\n  namespace: shop\n";
    fs::write(&path, MANIFESTS.replace("name: main", "name: main, namespace: shop")).expect("a file");
    assert_eq!(run(&[]), (0, format!("{config}---\n{cache}"), String::new()));
    let definition = "---\n{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: caches.example.org}, \
         spec: {group: example.org, scope: Cluster, names: {kind: Cache, plural: caches}, versions: [{name: v1}]}}\n";
    fs::write(&path, format!("{MANIFESTS}{definition}")).expect("a file");
    let (code, out, said) = run(&[]);
    assert!(code == 0 && out.starts_with("apiVersion: apiextensions.k8s.io/v1\n"), "{said}");
    assert!(out.ends_with(cache.strip_suffix("  namespace: shop\n").expect("its end")), "{out}");

    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: 'none:1'}]}}";
    fs::write(&path, pod).expect("a file");
    let (code, out, said) = run(&[]);
    assert!(code == 0 && out.starts_with("apiVersion: v1\nkind: Pod\n") && !out.contains("stays"), "{out}");
    assert!(said.contains("image none:1 stays as it is named"), "{said}");

    let api = Api::up();
    fs::write(&path, MANIFESTS.rsplit_once("---").expect("two documents").1).expect("a file");
    assert_eq!(run(&["--kubeconfig", api.kubeconfig().as_str()]), (0, config.to_owned(), String::new()));
    assert!(render(&["--context", "other"]).2.contains("only for --manifests"));
}

#[test]
fn a_chart_is_written_once_and_never_over_what_somebody_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let chart = folder.path().join("chart");
    let path = chart.clone().into_os_string().into_string().expect("UTF-8");
    let (code, out, said) = render(&["--helm", &path]);
    assert!(code == 0 && out.contains("wrote the chart virtualcluster"), "{said}");
    assert!(render(&["--helm", &path]).1.contains("has this chart already"));
    let values = || fs::read_to_string(chart.join("values.yaml")).expect("values");
    assert!(values().contains("replicas: 1\n"));
    assert_eq!(render(&["--helm", &path, "--set", "syncer.replicas=2"]).0, 0);
    assert!(values().contains("replicas: 2\n"));
    fs::write(chart.join("values.yaml"), "mine: 1\n").expect("a file");
    let (code, _, said) = render(&["--helm", &path]);
    assert!(code == 1 && said.contains("changed since") && values() == "mine: 1\n", "{said}");
    let (code, _, said) = render(&["--helm", &path, "--name", "shop", "--namespace", "shop"]);
    assert!(code == 1 && said.contains("only with --manifests"), "{said}");
}
