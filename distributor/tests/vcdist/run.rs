//! `vcdist run`: the steps, again and again, after a kill at any point, with the variables of the role.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::rig::api::Api;
use crate::rig::{Rig, image};

const COMPONENTS: [&str; 3] = ["manager", "syncer", "vn-agent"];
const MANAGER: &str = "/apis/apps/v1/namespaces/vc-manager/deployments/vc-manager";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/vcdist";

/// What the role needs to know in any case.
const BASE: &str = "ansible_user: ansible\nansible_home_dir: /home/ansible\nk8s_ctrlplane_endpoint: 192.0.2.1\n";

fn output(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("vcdist runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

fn json_of(command: &mut Command, code: i32) -> Value {
    let (ended, out, said) = output(command.args(["--output", "json"]));
    assert_eq!(ended, code, "{command:?}: {out}{said}");
    serde_json::from_str(&out).expect("one JSON document")
}

/// `vcdist run` of the steps that apply objects, with images that nodes have.
fn apply(api: &Api) -> Command {
    let mut command = api.vcdist(&["run", "--step", "namespace", "--step", "crds", "--step", "workloads"]);
    for component in COMPONENTS {
        command.arg("--image").arg(format!("{component}=docker.io/a/{component}@sha256:{}", "0".repeat(64)));
    }
    command
}

/// The result of each step.
fn results(document: &Value) -> Vec<(&str, &str)> {
    let steps = document["steps"].as_array().expect("steps");
    let text = |step: &'_ Value, key: &str| step[key].as_str().map(str::to_owned);
    assert!(
        steps.iter().all(|step| text(step, "detail").is_some() && step["elapsed_seconds"].is_number()),
        "{document}"
    );
    steps.iter().map(|step| (step["step"].as_str().unwrap_or("?"), step["result"].as_str().unwrap_or("?"))).collect()
}

#[test]
fn steps_that_apply_change_what_differs_and_nothing_when_they_are_repeated() {
    let api = Api::up();
    let planned = json_of(apply(&api).arg("--plan"), 0);
    let all = |result| [("namespace", result), ("crds", result), ("workloads", result)];
    assert_eq!(results(&planned), all("would-change"));
    assert_eq!((api.changes(), api.get(LEASE)), (Vec::new(), None), "a plan changes nothing");
    let first = json_of(&mut apply(&api), 0);
    assert_eq!((results(&first), &first["changed"]), (all("changed").into(), &json!(true)));
    let before = api.changes().len();
    let again = json_of(&mut apply(&api), 0);
    assert_eq!((results(&again), &again["changed"]), (all("unchanged").into(), &json!(false)));
    assert_eq!((api.changes().len(), api.get(LEASE)), (before, None));
    assert_eq!(results(&json_of(apply(&api).arg("--plan"), 0)), all("unchanged"));
    let revisions = json_of(&mut api.vcdist(&["history"]), 0)["revisions"].clone();
    assert_eq!(
        (revisions.as_array().map(Vec::len), revisions[0]["ready_at"].is_string()),
        (Some(1), true),
        "{revisions}"
    );

    let mut manager = api.get(MANAGER).expect("vc-manager");
    manager["spec"]["replicas"] = json!(3);
    api.put(MANAGER, manager);
    let (code, out, said) = output(&mut apply(&api));
    assert_eq!(code, 0, "{said}");
    assert!(
        out.contains("deployment/vc-manager configured") && out.contains("1 of 3 steps changed something"),
        "{out}"
    );
    assert_eq!(api.get(MANAGER).expect("vc-manager")["spec"]["replicas"], 1);
}

#[test]
fn a_run_that_is_killed_after_any_change_is_completed_by_the_next() {
    let api = Api::up();
    let begin = api.snapshot();
    let mut kills = 0;
    for count in 1.. {
        if !api.kill_after(count, &mut apply(&api)) {
            break;
        }
        kills += 1;
        let (code, _, said) = output(&mut apply(&api));
        assert_eq!(code, 0, "killed after {count} changes: {said}");
        let again = json_of(&mut apply(&api), 0);
        assert_eq!((&again["changed"], api.get(LEASE)), (&json!(false), None), "killed after {count} changes: {again}");
        let revisions = json_of(&mut api.vcdist(&["history"]), 0)["revisions"].clone();
        assert_eq!(revisions.as_array().map(Vec::len), Some(1), "killed after {count} changes: {revisions}");
        api.restore(&begin);
    }
    assert!(kills >= 20, "the lock, each object, the revision and its end: {kills}");
}

#[test]
fn a_manifest_of_the_roles_variables_takes_the_place_of_the_own_workloads() {
    let api = Api::up();
    let (file, vars) = (api.path().join("all-in-one.yaml"), api.path().join("vars.yml"));
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "own-manager" }, "spec": {
        "selector": { "matchLabels": { "app": "own" } }, "template": { "metadata": { "labels": { "app": "own" } },
        "spec": { "containers": [{ "name": "c", "image": format!("docker.io/a/b@sha256:{}", "0".repeat(64)) }] } } } });
    std::fs::write(&file, deployment.to_string()).expect("a file");
    let variables = format!("{BASE}virtualcluster_all_in_one_manifest_path: {file}\n");
    std::fs::write(&vars, variables + "k8s_virtualcluster_enabled: true\n").expect("a file");
    let run = |further: &[&str]| {
        let mut command = api.vcdist(&["run", "--step", "namespace", "--step", "crds", "--step", "workloads"]);
        command.args(["--vars", vars.as_str()]).args(further);
        command
    };
    let all = |result| vec![("namespace", result), ("crds", result), ("workloads", result)];
    assert_eq!(results(&json_of(&mut run(&["--plan"]), 0)), all("would-change"));
    assert_eq!(api.changes(), Vec::<String>::new(), "a plan changes nothing");
    assert_eq!(results(&json_of(&mut run(&[]), 0)), all("changed"));
    let own = "/apis/apps/v1/namespaces/vc-manager/deployments/own-manager";
    assert!(api.get(own).is_some() && api.get(MANAGER).is_none(), "{:?}", api.paths());
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/virtualclusters.tenancy.x-k8s.io";
    assert!(api.get(definition).is_some(), "{:?}", api.paths());
    assert_eq!(results(&json_of(&mut run(&[]), 0)), all("unchanged"));
    let history = ["history", "--name", "virtualcluster", "--namespace", "vc-manager"];
    let revisions = json_of(&mut api.vcdist(&history), 0)["revisions"].clone();
    assert_eq!(
        (revisions.as_array().map(Vec::len), revisions[0]["objects"].as_i64()),
        (Some(1), Some(1)),
        "{revisions}"
    );
    std::fs::remove_file(&file).expect("no file");
    let (code, _, said) = output(&mut run(&[]));
    assert_eq!((code, said.contains("all-in-one.yaml")), (1, true), "{said}");
}

#[test]
fn images_of_archives_reach_the_nodes_and_a_node_that_fails_ends_the_run_before_anything_is_applied() {
    let rig = Rig::up();
    let api = Api::up();
    api.set_clock();
    api.put_worker();
    let (config, socket, store) = (rig.path().join("ssh_config"), rig.path().join("containerd.sock"), rig.store());
    let mut vars = BASE.to_owned() + "k8s_virtualcluster_enabled: true\n";
    for component in COMPONENTS {
        let name = image(&store, component, b"base", b"first");
        let archive = rig.path().join(format!("{component}.tar"));
        vcstore::archive::write(&store, &[store.image(&name).expect("an image")], &[], &archive).expect("an archive");
        vars += &format!("virtualcluster_{}_image_tar_path: {archive}\n", component.replace('-', "_"));
    }
    let file = rig.path().join("vars.yml");
    std::fs::write(&file, &vars).expect("a file");
    let empty = rig.path().join("empty");
    let run = |arguments: &[&str]| {
        let ssh = ["--ssh-user", "root", "--ssh-config", config.as_str(), "--containerd-address", socket.as_str()];
        let mut command = api.vcdist(&["run", "--vars", file.as_str(), "--store", empty.as_str()]);
        command.args(ssh).args(arguments);
        command
    };
    let planned = json_of(&mut run(&["--plan"]), 0);
    let would = |document: &Value, step: &str| results(document).contains(&(step, "would-change"));
    assert!(["build", "distribute", "namespace", "workloads"].iter().all(|step| would(&planned, step)), "{planned}");
    let never = planned["never_done"].to_string();
    assert!(never.contains("virtualcluster_clean_build") && never.contains("deletes every tenant"), "{never}");
    assert_eq!((api.changes(), empty.exists()), (Vec::new(), false), "a plan changes nothing");

    let refused = json_of(
        &mut run(&["--from", "build", "--ssh-option", "Port=1", "--retries", "0", "--connect-timeout", "2s"]),
        1,
    );
    assert!(results(&refused).contains(&("distribute", "failed")), "{refused}");
    assert_eq!((api.changes(), api.get(LEASE)), (Vec::new(), None), "nothing was applied");

    let steps =
        ["--step", "validate", "--step", "build", "--step", "distribute", "--step", "workloads", "--step", "crds"];
    let first = json_of(&mut run(&[&steps[..], &["--step", "namespace"]].concat()), 0);
    assert!(results(&first).contains(&("distribute", "changed")), "{first}");
    let listed = rig.ctr(&["images", "list", "--quiet"]);
    assert!(
        COMPONENTS.iter().all(|component| listed.contains(&format!("virtualcluster/{component}-amd64:latest"))),
        "{listed}"
    );
    let again = json_of(&mut run(&[&steps[..], &["--step", "namespace"]].concat()), 0);
    assert_eq!(again["changed"], false, "{again}");
}

/// `vcdist run --vars` with these variables.
fn with_vars(api: &Api, vars: &str, arguments: &[&str]) -> Command {
    let file = api.path().join("vars.yml");
    std::fs::write(&file, BASE.to_owned() + vars).expect("a file");
    let store = api.path().join("store");
    let mut command = api.vcdist(&["run", "--vars", file.as_str(), "--store", store.as_str()]);
    command.args(arguments);
    command
}

#[test]
fn a_host_that_is_not_enabled_is_left_alone() {
    let api = Api::up();
    let (code, out, _) = output(&mut with_vars(&api, "", &[]));
    assert_eq!(
        (code, out.as_str()),
        (0, "disabled for localhost: k8s_virtualcluster_enabled is false, so nothing is done\n")
    );
    let document = json_of(&mut with_vars(&api, "", &[]), 0);
    assert_eq!((&document["enabled"], &document["steps"]), (&json!(false), &json!([])));
    assert_eq!(api.requests(), Vec::<String>::new(), "nobody was asked");
    let (code, _, said) = output(&mut with_vars(&api, "k8s_virtualcluster_enabled: maybe\n", &[]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("vars.yml:4"), "{said}");
}

#[test]
fn archives_in_part_and_images_that_are_nowhere_are_errors_that_name_them() {
    let api = Api::up();
    let run = |vars: &str| {
        let (code, out, said) = output(&mut with_vars(&api, &format!("k8s_virtualcluster_enabled: true\n{vars}"), &[]));
        assert_eq!(code, 1, "{out}{said}");
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let said = run("virtualcluster_manager_image_tar_path: /nowhere/m.tar\n");
    assert!(said.contains("virtualcluster_syncer_image_tar_path names none"), "{said}");
    assert!(said.contains("virtualcluster_manager_image_tar_path: there is no file /nowhere/m.tar"), "{said}");
    let said = run("virtualcluster_build_from_source: false\nvirtualcluster_image_cache_dir: /nowhere\n");
    for looked in [
        "no archive is named",
        "/nowhere/latest/images/manager-amd64.tar",
        "docker.io/virtualcluster/syncer-amd64:latest",
    ] {
        assert!(said.contains(looked), "{said}");
    }
    assert_eq!(api.changes(), Vec::<String>::new());
}

#[test]
fn variables_become_options_of_vcbuild_and_options_have_precedence() {
    let api = Api::up();
    let vars = "k8s_virtualcluster_enabled: true\nvirtualcluster_image_cache_dir: /nowhere\nvirtualcluster_namespace: ours\n\
                virtualcluster_source_repo: https://example.com/x.git\nvirtualcluster_source_version: v7\n\
                virtualcluster_build_host: builder\n";
    let build = |arguments: &[&str]| {
        let planned = json_of(&mut with_vars(&api, vars, &[&["--plan", "--step", "build"], arguments].concat()), 0);
        planned["steps"][0]["detail"].as_str().expect("a detail").to_owned()
    };
    assert_eq!(
        build(&[]),
        "would run vcbuild images --source-repo https://example.com/x.git --source-version v7 --source-subdir virtualcluster \
         --components 'manager,syncer,vn-agent' --build-host ssh://builder"
    );
    let mut planned = with_vars(&api, vars, &["--plan", "--step", "build", "--output", "json"]);
    let (_, out, _) = output(planned.args(["--", "--source-dir", "here", "--components=syncer"]));
    assert!(
        out.contains("would run vcbuild images --build-host ssh://builder --source-dir here '--components=syncer'"),
        "{out}"
    );

    let apply = |arguments: &[&str]| {
        let mut command = with_vars(&api, vars, &["--step", "namespace"]);
        for component in COMPONENTS {
            command.arg("--image").arg(format!("{component}=docker.io/a/{component}@sha256:{}", "0".repeat(64)));
        }
        let _ = json_of(command.args(arguments), 0);
    };
    apply(&[]);
    apply(&["--namespace", "theirs"]);
    assert!(["ours", "theirs"].iter().all(|name| api.get(&format!("/api/v1/namespaces/{name}")).is_some()));
}

#[test]
fn variables_become_what_runs_and_options_have_precedence() {
    let api = Api::up();
    let vars = "k8s_virtualcluster_enabled: true\nvirtualcluster_syncer_feature_gates: [A=true, B=false]\n\
                virtualcluster_manager_resource_limits: {cpu: 3}\nvirtualcluster_vn_agent_cert_dir: /certificates\n\
                virtualcluster_persistent_volumes: [{name: pv, capacity: 1Gi, host_path: /data, node_name: w, mode: '0700'}]\n";
    let run = |vars: &str, arguments: &[&str]| {
        let mut command = with_vars(&api, vars, &["--from", "namespace", "--plan", "--output", "json"]);
        for component in COMPONENTS {
            command.arg("--image").arg(format!("{component}=docker.io/a/{component}@sha256:{}", "0".repeat(64)));
        }
        command.args(arguments);
        command
    };
    let mut command = with_vars(&api, vars, &["--step", "namespace", "--step", "crds", "--step", "workloads"]);
    for component in COMPONENTS {
        command.arg("--image").arg(format!("{component}=docker.io/a/{component}@sha256:{}", "0".repeat(64)));
    }
    let (code, _, said) = output(command.args(["--vn-agent-metrics-port", "9200"]));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the volume pv needs the folder /data on w, mode 0700"), "{said}");
    let container =
        |path: &str| api.get(path).expect("a workload")["spec"]["template"]["spec"]["containers"][0].clone();
    let manager = container(MANAGER);
    assert_eq!(
        manager["resources"],
        json!({ "limits": { "cpu": "3" }, "requests": { "cpu": "500m", "memory": "512Mi" } })
    );
    assert_eq!(manager["imagePullPolicy"], "Never");
    let environment = manager["env"].to_string();
    assert!(environment.contains("VIRTUALCLUSTER_ETCD_SCHEME") && environment.contains("https"), "{manager}");
    let syncer = "/apis/apps/v1/namespaces/vc-manager/deployments/vc-syncer";
    assert!(container(syncer)["args"].to_string().contains("--feature-gates=A=true,B=false"), "{}", container(syncer));
    assert_eq!(container(syncer)["resources"]["requests"], Value::Null);
    let agent = container("/apis/apps/v1/namespaces/vc-manager/daemonsets/vn-agent")["args"].to_string();
    assert!(agent.contains("--metrics-addr=:9200") && agent.contains("--cert-dir=/certificates"), "{agent}");
    assert!(api.get("/api/v1/persistentvolumes/pv").is_some(), "{:?}", api.paths());

    for (vars, words) in [
        ("k8s_virtualcluster_vc_etcd_scheme: http\n", "speak https to their etcd"),
        ("virtualcluster_syncer_feature_gates: [A]\n", "is not a feature gate"),
    ] {
        let (code, _, said) = output(&mut run(&format!("k8s_virtualcluster_enabled: true\n{vars}"), &[]));
        assert_eq!((code, said.contains(words)), (1, true), "{said}");
    }
}
