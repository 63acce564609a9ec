//! `vcdist run` with the variables of the Ansible role: from an empty cluster to a verified installation, again with nothing to do,
//! with one changed component, and after kills.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use camino::Utf8PathBuf;
use end_to_end::Operator;
use lab::Containerd;
use rigs::Run;
use serde_json::Value;

/// A host's variables.
const HOST_VARS: &str = "k8s_virtualcluster_enabled: yes
ansible_home_dir: '/home/{{ ansible_user }}'
k8s_ctrlplane_endpoint: '{{prefix}}.1'
virtualcluster_image_cache_dir: /nonexistent/cache
virtualcluster_wait_for_worker_ready_timeout: 60
";

#[test]
fn the_flow_of_the_role_ends_with_a_verified_installation_and_can_be_repeated() {
    let operator = Operator::with_lab("e2e-run", Containerd::V2);
    let repository = operator.stage.path().join("playbooks");
    for (path, text) in [
        ("inventory/hosts", "[k8s_ctrl_plane]\ncontrol.example\n"),
        ("group_vars/all.yml", "ansible_user: ansible\nprefix: 192.0.2\n"),
        ("host_vars/control.example", HOST_VARS),
    ] {
        let path = repository.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let run = || run(&operator, &repository);

    let planned = Run::of(run().args(["--plan", "--output", "json"]).args(building(&operator))).json();
    assert!(planned["never_done"].to_string().contains("virtualcluster_clean_build"), "{planned}");
    assert!(!operator.kubectl(&["get", "namespaces", "-o", "name"]).contains("vc-manager"), "a plan changes nothing");

    let first = Run::of(run().args(["--output", "json"]).args(building(&operator))).json();
    let changing = ["build", "distribute", "namespace", "crds", "workloads"];
    assert_eq!(
        (changed(&first), &first["host"]),
        (changing.map(str::to_owned).into(), &Value::from("control.example"))
    );
    assert_eq!(operator.verify(0)["passed"], true);

    let before = state(&operator);
    let again = Run::of(run().args(["--output", "json"]).args(building(&operator))).json();
    assert_eq!((changed(&again), state(&operator)), (Vec::new(), before.clone()), "{again}");

    operator.stage.change("syncer");
    let third = Run::of(run().args(["--output", "json"]).args(building(&operator))).json();
    assert_eq!(changed(&third), ["build", "distribute", "workloads"], "{third}");
    let after = state(&operator);
    for (workload, was) in &before {
        assert_eq!(after[workload] == *was, workload != "vc-syncer", "{workload}: {was:?}, then {:?}", after[workload]);
    }

    // Killed at the begin of each step that changes something, and once more while it waits for pods.
    operator.stage.change("manager");
    for step in ["build", "distribute", "namespace", "crds", "workloads"] {
        killed_at(run().args(building(&operator)), step);
    }
    let completed = Run::of(run().args(["--output", "json"]).args(building(&operator))).json();
    assert!(completed["error"].is_null(), "{completed}");
    assert_eq!(operator.verify(0)["passed"], true);
    let settled = Run::of(run().args(["--output", "json"]).args(building(&operator))).json();
    assert_eq!(changed(&settled), [""; 0], "{settled}");
    assert!(
        !operator
            .kubectl(&["-n", "kube-system", "get", "leases", "-o", "name"])
            .contains("lease.coordination.k8s.io/vcdist")
    );
}

fn run(operator: &Operator, repository: &Utf8PathBuf) -> Command {
    let mut command = operator.vcdist("run");
    command.args([
        "--vars",
        repository.as_str(),
        "--timeout",
        "120s",
        "--ssh-config",
        operator.lab.ssh_config().as_str(),
    ]);
    // vcdist starts the vcbuild of this test, wherever it is.
    if let Some(folder) =
        std::env::var("VCBUILD").ok().and_then(|path| Some(Utf8PathBuf::from(path).parent()?.to_owned()))
    {
        command.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap_or_default()));
    }
    command
}

/// The arguments for vcbuild.
fn building(operator: &Operator) -> Vec<String> {
    let (source, out) = (operator.stage.source(), operator.stage.out());
    ["--", "--source-dir", source.as_str(), "--base", "scratch", "--out", out.as_str()].map(str::to_owned).into()
}

/// The steps that changed something.
fn changed(document: &Value) -> Vec<String> {
    let steps = document["steps"].as_array().unwrap();
    assert_eq!((steps.len(), &document["error"]), (8, &Value::Null), "{document}");
    let changed = steps.iter().filter(|step| step["result"] == "changed");
    changed.map(|step| step["step"].as_str().unwrap().to_owned()).collect()
}

/// The generation of each workload, and the pods of it that run.
fn state(operator: &Operator) -> BTreeMap<String, (Value, Vec<String>)> {
    let get = |kinds: &str| -> Value {
        serde_json::from_str(&operator.kubectl(&["-n", "vc-manager", "get", kinds, "-o", "json"])).unwrap()
    };
    let pods = get("pods");
    let of = |workload: &str| {
        let pods = pods["items"].as_array().unwrap().iter();
        let ours = pods.filter(|pod| {
            pod["metadata"]["labels"]["app"] == workload && pod["metadata"]["deletionTimestamp"].is_null()
        });
        let mut uids: Vec<String> = ours.map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect();
        uids.sort();
        uids
    };
    let workloads = get("deployments,daemonsets");
    let named = workloads["items"].as_array().unwrap().iter().map(|workload| {
        let name = workload["metadata"]["name"].as_str().unwrap().to_owned();
        let state = (workload["metadata"]["generation"].clone(), of(&name));
        (name, state)
    });
    named.collect()
}

/// Runs a command and kills it as soon as it says that it begins this step.
fn killed_at(command: &mut Command, step: &str) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let begins = format!("{step} …");
    let mut said = Vec::new();
    let is_there = lines.map_while(Result::ok).any(|line| {
        said.push(line.clone());
        line == begins
    });
    child.kill().unwrap();
    let _ = child.wait();
    assert!(is_there, "{step} begins: {said:#?}");
}
