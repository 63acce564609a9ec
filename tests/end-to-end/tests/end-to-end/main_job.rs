//! The main job on real clusters: build, push, deploy, verify; again with nothing to send; again with one changed line.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use end_to_end::Operator;
use lab::Containerd;
use rigs::Run;
use serde_json::Value;

#[test]
fn the_main_job_on_containerd_2_with_a_debian_base() {
    main_job(&Operator::with_lab("e2e-main-2", Containerd::V2), &["--base", "debian"]);
}

#[test]
fn the_main_job_on_debians_containerd_1_6() {
    main_job(&Operator::with_lab("e2e-main-16", Containerd::V1_6), &["--base", "scratch"]);
}

fn main_job(operator: &Operator, base: &[&str]) {
    let built = operator.stage.images(base);
    assert_contract(&built, &["images", "actions", "elapsed_seconds"]);
    let plan = Run::of(operator.push().arg("--dry-run")).json();
    assert!(plan.to_string().contains("worker1"), "{plan}");
    assert_eq!(image_names(operator, "worker1"), BTreeSet::new(), "a dry run moves nothing");

    let pushed = operator.pushed();
    assert_contract(&pushed, &["nodes", "bytes_sent", "elapsed_seconds"]);
    assert_eq!(names(&pushed), ["worker1", "worker2"], "control-plane nodes are left out");
    for node in pushed["nodes"].as_array().unwrap() {
        assert_contract(node, &["name", "result", "via", "blobs", "bytes", "elapsed_seconds", "error"]);
        assert_eq!((&node["result"], &node["error"]), (&Value::from("pushed"), &Value::Null));
        assert_eq!(node["blobs"]["sent"], node["blobs"]["needed"]);
        assert_eq!(node["blobs"]["sent"], distinct_blobs(&built));
        assert_eq!(node["bytes"]["sent"], node["bytes"]["total"]);
    }
    for worker in ["worker1", "worker2"] {
        let names = image_names(operator, worker);
        for image in built["images"].as_array().unwrap() {
            let (name, digest) = (image["reference"].as_str().unwrap(), image["digest"].as_str().unwrap());
            let repository = name.rsplit_once(':').unwrap().0;
            assert!(names.contains(name) && names.contains(&format!("{repository}@{digest}")), "{worker}: {names:?}");
        }
    }

    // Only now: namespaces share content, so what is imported into one need not be sent for another.
    archives_are_imported_by_ctr(operator, &built);

    operator.deploy();
    let verified = operator.verify(0);
    assert_contract(&verified, &["checks", "passed"]);
    assert_eq!((verified["checks"].as_array().unwrap().len(), &verified["passed"]), (9, &Value::Bool(true)));
    pods_run_by_digest(operator, &built);

    let again = operator.pushed();
    assert_eq!(again["bytes_sent"], 0);
    for node in again["nodes"].as_array().unwrap() {
        assert_eq!((&node["result"], &node["blobs"]["sent"]), (&Value::from("up-to-date"), &Value::from(0)));
    }

    operator.stage.change("syncer");
    let rebuilt = operator.stage.images(base);
    let run_kinds = rebuilt["actions"]["run"].as_u64().unwrap();
    assert!(run_kinds < built["actions"]["run"].as_u64().unwrap(), "{rebuilt}");
    for (old, new) in built["images"].as_array().unwrap().iter().zip(rebuilt["images"].as_array().unwrap()) {
        assert_eq!(old["digest"] == new["digest"], old["component"] != "syncer");
    }
    for node in operator.pushed()["nodes"].as_array().unwrap() {
        assert_eq!(node["blobs"]["sent"], 3, "its layer, configuration and manifest: {node}");
    }
    operator.deploy();
    assert_eq!(operator.verify(0)["passed"], true);
    pods_run_by_digest(operator, &rebuilt);

    let _ = operator.kubectl(&["-n", "vc-manager", "delete", "daemonset", "vn-agent", "--wait=true"]);
    let broken = operator.verify(3);
    assert_eq!(broken["passed"], false);
    let failed = broken["checks"].as_array().unwrap().iter().filter(|check| check["passed"] == false);
    assert!(
        failed.clone().count() > 0 && failed.clone().all(|check| !check["evidence"].as_array().unwrap().is_empty())
    );
}

/// `ctr images import` takes each archive into a namespace of its own, and finds it complete.
fn archives_are_imported_by_ctr(operator: &Operator, built: &Value) {
    for image in built["images"].as_array().unwrap() {
        let archive = std::fs::File::open(image["archive"].as_str().unwrap()).unwrap();
        let import = ["ctr", "--namespace", "archives", "images", "import", "-"];
        let mut command: Command = operator.lab.command("worker1", &import).unwrap();
        Run::with_stdin(command.stdin(Stdio::from(archive))).succeeded();
        let name = image["reference"].as_str().unwrap();
        let check =
            operator.on("worker1", &["ctr", "--namespace", "archives", "images", "check", &format!("name=={name}")]);
        assert!(check.contains("complete") && !check.contains("incomplete"), "{check}");
    }
}

fn image_names(operator: &Operator, worker: &str) -> BTreeSet<String> {
    let listed = operator.on(worker, &["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"]);
    listed.lines().filter(|name| name.contains("virtualcluster")).map(str::to_owned).collect()
}

fn pods_run_by_digest(operator: &Operator, built: &Value) {
    let pods: Value =
        serde_json::from_str(&operator.kubectl(&["-n", "vc-manager", "get", "pods", "-o", "json"])).unwrap();
    let running: BTreeSet<&str> = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| {
            assert_eq!(pod["status"]["phase"], "Running", "{pod}");
            pod["spec"]["containers"][0]["image"].as_str().unwrap()
        })
        .collect();
    for image in built["images"].as_array().unwrap() {
        let digest = image["digest"].as_str().unwrap();
        assert!(running.iter().any(|image| image.ends_with(digest)), "{digest} is not among {running:?}");
    }
}

/// How many blobs the images are made of, none counted twice.
fn distinct_blobs(built: &Value) -> usize {
    let mut blobs = BTreeSet::new();
    let mut configurations = 0;
    for image in built["images"].as_array().unwrap() {
        for platform in image["platforms"].as_array().unwrap() {
            configurations += 1;
            blobs.insert(platform["manifest"].as_str().unwrap());
            blobs.extend(platform["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].as_str().unwrap()));
        }
    }
    blobs.len() + configurations
}

fn names(pushed: &Value) -> Vec<&str> {
    pushed["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect()
}

/// The document has these keys and no others: what is documented is what there is.
fn assert_contract(document: &Value, keys: &[&str]) {
    let found: BTreeSet<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, keys.iter().copied().collect());
}
