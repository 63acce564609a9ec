//! After the first deployment: what changed, the way back, and the end, on a real API server with real controllers.

use std::process::Command;

use end_to_end::Operator;
use lab::{Containerd, Kubernetes};
use rigs::Run;
use serde_json::{Value, json};

#[test]
fn an_installation_is_compared_rolled_back_and_removed_and_installed_again() {
    let operator = Operator::with_lab("e2e-life", Containerd::V2);
    let _ = operator.stage.images(&["--base", "scratch"]);
    let _ = operator.pushed();
    assert_eq!(differing(&mut operator.vcdist("diff"), 3), [("created".to_owned(), 18)]);
    operator.deploy();
    assert_eq!(differing(&mut operator.vcdist("diff"), 0), []);

    what_somebody_edits_is_found(&operator);
    let first = image(&operator);
    a_new_version_is_rolled_back(&operator, &first);
    everything_goes_and_comes_again(&operator);
    let config = operator.lab.ssh_config();
    let uninstall = ["--ssh-config", config.as_str(), "--timeout", "120s", "--yes"];
    Run::of(operator.vcdist("uninstall").args(uninstall)).succeeded();
    crate::helm::the_chart_is_installed_upgraded_and_removed(&operator);
}

/// How many objects differ in each way.
fn differing(command: &mut Command, code: i32) -> Vec<(String, usize)> {
    let document = Run::of(command.args(["--output", "json"])).json_and(code);
    let mut counts = std::collections::BTreeMap::new();
    for object in document["objects"].as_array().unwrap() {
        if object["change"] != "unchanged" {
            *counts.entry(object["change"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
    }
    counts.into_iter().collect()
}

fn image(operator: &Operator) -> String {
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    operator.kubectl(&["-n", "vc-manager", "get", "deployment", "vc-syncer", "-o", path])
}

fn what_somebody_edits_is_found(operator: &Operator) {
    let kubectl = |arguments: &[&str]| operator.kubectl(&[&["-n", "vc-manager"], arguments].concat());
    let drift = || Run::of(operator.vcdist("diff").args(["--revision", "1", "--output", "json"]));
    assert_eq!(drift().json()["differs"], false, "controllers' own fields are no drift");
    let _ = kubectl(&["set", "env", "deployment/vc-syncer", "DEBUG=1"]);
    let _ = kubectl(&[
        "patch",
        "clusterrole",
        "vn-agent-role",
        "--type=json",
        "--patch",
        r#"[{"op":"remove","path":"/rules/0"}]"#,
    ]);
    let found = drift().json_and(3);
    let of = |kind: &str, name: &str| {
        let objects = found["objects"].as_array().unwrap();
        objects.iter().find(|one| one["kind"] == kind && one["name"] == name).unwrap().clone()
    };
    let fields = of("Deployment", "vc-syncer")["fields"].to_string();
    assert!(fields.contains("env") && fields.contains("DEBUG"), "{fields}");
    let role = of("ClusterRole", "vn-agent-role");
    assert!(role["change"] == "configured" && role["conflicts"].to_string().contains("kubectl"), "{role}");
    let _ = kubectl(&["set", "env", "deployment/vc-syncer", "DEBUG-"]);
    Run::of(operator.vcdist("deploy").args(["--timeout", "120s", "--force-conflicts"])).succeeded();
    assert_eq!(drift().json()["differs"], false);
}

fn a_new_version_is_rolled_back(operator: &Operator, first: &str) {
    operator.stage.change("syncer");
    let _ = operator.stage.images(&["--base", "scratch"]);
    let _ = operator.pushed();
    Run::of(operator.vcdist("deploy").args(["--timeout", "120s", "--tolerate", "gpu"])).succeeded();
    assert_ne!(image(operator), first);
    let config = operator.lab.ssh_config();
    let ssh = ["--ssh-config", config.as_str(), "--output", "json"];
    let back = Run::of(operator.vcdist("rollback").args(["--timeout", "120s"]).args(ssh)).json();
    assert_eq!((&back["from"], &back["to"], &back["revision"]), (&json!(2), &json!(1), &json!(3)), "{back}");
    assert_eq!(image(operator), first);
    let agent = operator.kubectl(&["-n", "vc-manager", "get", "daemonset", "vn-agent", "-o", "json"]);
    assert!(!agent.contains("\"gpu\""), "an added field goes: {agent}");
    assert_eq!(Run::of(operator.vcdist("diff").args(["--revision", "1", "--output", "json"])).json()["differs"], false);
    let history = Run::of(operator.vcdist("history").args(["--output", "json"])).json();
    let revisions = history["revisions"].as_array().unwrap();
    assert_eq!((revisions.len(), &revisions[0]["rollback_to"]), (3, &json!(1)));
    // API servers before 1.28 do not tell a user its name.
    let is_told = operator.lab.kubernetes() > Kubernetes::V1_24;
    let complete = |one: &Value| one["ready_at"].is_string() && one["user"].is_string() == is_told;
    assert!(revisions.iter().all(complete), "{history}");
}

fn everything_goes_and_comes_again(operator: &Operator) {
    let _ = operator.kubectl(&["create", "namespace", "tenants"]);
    let tenant = json!({ "apiVersion": "tenancy.x-k8s.io/v1alpha1", "kind": "VirtualCluster",
        "metadata": { "name": "a", "namespace": "tenants", "finalizers": ["virtualcluster.finalizer.native"] },
        "spec": { "clusterVersionName": "none" } });
    let _ = operator.kubectl(&["-n", "vc-manager", "scale", "deployment/vc-manager", "--replicas=0"]);
    let _ = operator.kubectl(&[
        "-n",
        "vc-manager",
        "wait",
        "pods",
        "-l",
        "app=vc-manager",
        "--for=delete",
        "--timeout=60s",
    ]);
    let created = operator.lab.kubectl_with(&["create", "-f", "-"], &tenant.to_string());
    let uninstall = |arguments: &[&str], code: i32| -> Value {
        let config = operator.lab.ssh_config();
        let ssh = ["--ssh-config", config.as_str(), "--output", "json", "--timeout", "120s"];
        Run::of(operator.vcdist("uninstall").args(ssh).args(arguments)).json_and(code)
    };
    // A webhook that nobody answers for may refuse it.
    if created.is_ok() {
        assert!(uninstall(&["--yes"], 1)["error"].as_str().unwrap().contains("virtualcluster/a in tenants"));
    }
    let done = uninstall(&["--yes", "--tenants", "delete", "--images"], 0);
    assert_eq!(done["kept"], json!([]), "{done}");
    assert_eq!(done["stripped"].as_array().unwrap().len(), usize::from(created.is_ok()), "{done}");
    let all = ["crds,clusterroles,clusterrolebindings,validatingwebhookconfigurations", "-o", "name"];
    let left = operator.kubectl(&[&["get"], &all[..]].concat());
    let is_ours = |line: &&str| {
        ["/vc-", "/vn-agent", "virtualcluster", "tenancy.x-k8s.io"].iter().any(|word| line.contains(word))
    };
    assert_eq!(left.lines().filter(is_ours).collect::<Vec<_>>(), [""; 0]);
    assert!(!operator.kubectl(&["get", "namespaces", "-o", "name"]).contains("vc-manager"));
    for worker in ["worker1", "worker2"] {
        let images = operator.on(worker, &["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"]);
        assert!(!images.contains("virtualcluster"), "{worker}: {images}");
    }
    assert_eq!(uninstall(&["--yes"], 0)["removed"], json!([]));
    let _ = operator.pushed();
    operator.deploy();
    assert_eq!(operator.verify(0)["passed"], true);
}
