//! Charts of `vcdist render --helm`, in the hands of Helm itself.

use std::collections::BTreeMap;
use std::process::Command;

use camino::Utf8Path;
use end_to_end::{Operator, Stage};
use rigs::Run;
use serde_json::{Value, json};

/// An application with most of what a chart treats in a way of its own.
const SHOP: &str = include_str!("helm_shop.yaml");

#[test]
fn helm_finds_no_fault_and_makes_the_objects_that_render_prints() {
    let stage = Stage::new();
    let digest = "a".repeat(64);
    let images = ["manager", "syncer", "vn-agent"]
        .map(|component| format!("--image={component}=docker.io/a/{component}@sha256:{digest}"));
    for (number, settings) in [
        &[][..],
        &["--set=syncer.replicas=2", "--set=networkPolicy.enabled=true", "--set=serviceMonitor.enabled=true"],
        &[
            "--set=vnAgent.args=['--v=4', '--x={{ y }}']",
            "--set=vnAgent.resources.limits=null",
            "--tolerate=gpu",
            "--namespace=123",
        ],
        &["--set=persistentVolumes=[{name: a, capacity: 1Gi, path: /mnt/a, node: worker1}]", "--set=syncer.replicas=0"],
    ]
    .into_iter()
    .enumerate()
    {
        let options: Vec<&str> = images.iter().map(String::as_str).chain(settings.iter().copied()).collect();
        let namespace = if settings.contains(&"--namespace=123") { "123" } else { "vc-manager" };
        same_objects(&stage, &options, namespace, &format!("chart-{number}"));
    }

    let shop = stage.path().join("shop.yaml");
    std::fs::write(&shop, SHOP).unwrap();
    same_objects(&stage, &["--manifests", shop.as_str(), "--name", "shop", "--namespace", "shop"], "shop", "shop");
    let chart = stage.path().join("shop");
    let template =
        |arguments: &[&str]| Run::of(helm(&stage).args(["template", "shop", chart.as_str()]).args(arguments));
    template(&["--namespace", "other"]).refused(1, &["use --namespace shop"]);
    template(&["--namespace", "shop", "--set", "workloads.web.replica=2"]).refused(1, &["replica"]);
    let changed = template(&[
        "--namespace=shop",
        "--set=imageRegistry=mirror.example.com",
        "--set=workloads.web.replicas=5",
        "--set=workloads.web.containers.web.args={--more=1}",
        "--set=workloads.web.initContainers.set-up.image.tag=2",
        "--set=workloads.nightly.nodeSelector.disk=ssd",
        "--set=imagePullSecrets[0].name=all",
    ]);
    let changed = by_name(&changed.printed());
    let web = &changed["Deployment/web"]["spec"];
    let pod = &web["template"]["spec"];
    assert_eq!(
        (&web["replicas"], &pod["imagePullSecrets"]),
        (&json!(5), &json!([{ "name": "own" }, { "name": "all" }]))
    );
    let container = &pod["containers"][0];
    assert_eq!(container["image"], format!("mirror.example.com/shop/web@sha256:{digest}"));
    assert_eq!(container["args"], json!(["--serve", "--text={{ .x }}", "--more=1"]));
    assert_eq!(pod["initContainers"][0]["image"], "mirror.example.com/set-up:2");
    let nightly = &changed["CronJob/nightly"]["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert_eq!(nightly["nodeSelector"], json!({ "disk": "ssd" }));
}

/// Everything that a chart of VirtualCluster is for, on a cluster with the images and without an installation.
pub(crate) fn the_chart_is_installed_upgraded_and_removed(operator: &Operator) {
    let stage = &operator.stage;
    let chart = stage.path().join("chart");
    Run::of(stage.vcdist().args(["render", "--helm", chart.as_str()])).succeeded();
    let helm = |arguments: &[&str]| {
        let mut command = helm(stage);
        command.args(["--kubeconfig", operator.lab.kubeconfig().as_str(), "--namespace", "vc-manager"]);
        Run::of(command.args(arguments)).printed()
    };
    let upgrade =
        |action: &[&str]| helm(&[action, &["virtualcluster", chart.as_str(), "--wait", "--timeout", "120s"]].concat());
    let said = upgrade(&["install", "--create-namespace"]);
    assert!(said.contains("vcdist verify --namespace vc-manager"), "{said}");
    until_rolled_out(operator);
    assert_eq!(operator.verify(0)["passed"], true);
    let before = pods(operator);
    assert_eq!(before.len(), 4);

    let secret =
        ["-n", "vc-manager", "patch", "secret", "empty-kubelet-client", "--patch", r#"{"data":{"client.crt":"eA=="}}"#];
    let _ = operator.kubectl(&secret);
    upgrade(&["upgrade", "--set", "syncer.resources.requests.cpu=90m"]);
    until_rolled_out(operator);
    let after = pods(operator);
    for (component, pods) in &before {
        assert_eq!(after.get(component) == Some(pods), !component.starts_with("vc-syncer"), "{before:?} {after:?}");
    }
    let data = "jsonpath={.data}";
    let data = operator.kubectl(&["-n", "vc-manager", "get", "secret", "empty-kubelet-client", "-o", data]);
    assert_eq!(data, r#"{"client.crt":"eA==","client.key":""}"#, "what somebody filled in stays");
    assert_eq!(operator.verify(0)["passed"], true);

    helm(&["uninstall", "virtualcluster", "--wait", "--timeout", "120s"]);
    let left = operator.kubectl(&["get", "crds,clusterroles,clusterrolebindings", "-o", "name"]);
    let ours = |line: &&str| ["/vc-", "/vn-agent", "tenancy.x-k8s.io"].iter().any(|word| line.contains(word));
    let left: Vec<&str> = left.lines().filter(ours).collect();
    assert_eq!(left.len(), 2, "the definitions stay, and nothing else: {left:?}");
    assert_eq!(operator.kubectl(&["-n", "vc-manager", "get", "deployments,daemonsets,secrets", "-o", "name"]), "");
}

/// Waits until every pod runs: `helm --wait` takes a Deployment for ready whose strategy lets its only pod be away.
fn until_rolled_out(operator: &Operator) {
    for workload in ["deployment/vc-manager", "deployment/vc-syncer", "daemonset/vn-agent"] {
        let _ = operator.kubectl(&["-n", "vc-manager", "rollout", "status", workload, "--timeout=120s"]);
    }
}

/// The names of the pods by their workload and node.
fn pods(operator: &Operator) -> BTreeMap<String, String> {
    let pods = operator.kubectl(&["-n", "vc-manager", "get", "pods", "-o", "json"]);
    let pods: Value = serde_json::from_str(&pods).unwrap();
    let running = pods["items"].as_array().unwrap().iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    running
        .map(|pod| {
            let app = text(&pod["metadata"]["labels"]["app"]);
            let node = if app == "vn-agent" { text(&pod["spec"]["nodeName"]) } else { String::new() };
            (format!("{app} {node}"), text(&pod["metadata"]["name"]))
        })
        .collect()
}

/// Helm finds no fault with the chart that vcdist renders with these options, and makes of it what `vcdist render` prints: but for
/// the namespace, which Helm makes itself, and for the marks by which either of the two knows its objects.
fn same_objects(stage: &Stage, options: &[&str], namespace: &str, name: &str) {
    let chart = stage.path().join(name);
    let render = |more: &[&str]| Run::of(stage.vcdist().arg("render").args(options).args(more));
    render(&["--helm", chart.as_str()]).succeeded();
    let lint = Run::of(helm(stage).args(["lint", "--strict", "--namespace", namespace, chart.as_str()]));
    assert_eq!(lint.code, Some(0), "{}\n{}", lint.stdout, lint.stderr);
    let template = ["template", "any", chart.as_str(), "--include-crds", "--namespace", namespace];
    let mut made = by_name(&Run::of(helm(stage).args(template)).printed());
    let mut expected = by_name(&render(&[]).printed());
    expected.remove(&format!("Namespace/{namespace}"));
    for object in made.values_mut().chain(expected.values_mut()) {
        let metadata = object["metadata"].as_object_mut().unwrap();
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("helm.sh/resource-policy");
            annotations.remove("vcdist.virtualcluster.io/release");
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    let keys = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&made), keys(&expected), "{options:?}");
    for (key, object) in &expected {
        assert_eq!(made[key], *object, "{key} with {options:?}");
    }
    let again = render(&["--helm", chart.as_str()]);
    assert!(again.stdout.contains("has this chart already"), "the same input gives the same bytes: {}", again.stdout);
}

fn by_name(yaml: &str) -> BTreeMap<String, Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let objects = objects.into_iter().filter(|object| !object.is_null());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    objects.map(|object| (format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"])), object)).collect()
}

/// Helm, with folders of the stage's own.
fn helm(stage: &Stage) -> Command {
    let program = lab::helm().unwrap_or_else(|error| panic!("compiling Helm: {error:?}"));
    let mut command = Command::new(program);
    let home: &Utf8Path = stage.path();
    for name in ["HOME", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "KUBECACHEDIR"] {
        command.env(name, home.join("helm"));
    }
    command.env_remove("KUBECONFIG").current_dir(home);
    command
}
