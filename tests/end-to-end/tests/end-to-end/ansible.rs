//! The Ansible role of this repository, run by Ansible against a lab: what it says that it changes is what changes.

use std::process::Command;

use end_to_end::{Operator, repository};
use lab::Containerd;
use rigs::Run;
use serde_json::{Value, json};

#[test]
fn the_role_installs_once_says_so_and_changes_nothing_the_second_time() {
    let operator = Operator::with_lab("e2e-role", Containerd::V2);
    let check = Run::of(&mut playbook(&operator, &["--check"]));
    assert_eq!(changed(&check), 1, "{}", check.stdout);
    assert!(check.stdout.contains("The images are not built yet"), "{}", check.stdout);
    assert!(!operator.kubectl(&["get", "namespaces", "-o", "name"]).contains("vc-manager"));

    let first = Run::of(&mut playbook(&operator, &[]));
    assert_eq!(changed(&first), 3, "images, push, deploy: {}", first.stdout);
    assert_eq!(operator.verify(0)["passed"], true);
    let second = Run::of(&mut playbook(&operator, &[]));
    assert_eq!(changed(&second), 0, "{}", second.stdout);

    let _ = operator.kubectl(&["-n", "vc-manager", "delete", "secret", "empty-kubelet-client"]);
    let check = Run::of(&mut playbook(&operator, &["--check", "--diff"]));
    assert_eq!(changed(&check), 1, "{}", check.stdout);
    assert!(check.stdout.contains("+secret/empty-kubelet-client"), "{}", check.stdout);
    assert!(!operator.kubectl(&["-n", "vc-manager", "get", "secrets", "-o", "name"]).contains("empty-kubelet-client"));

    let wrong = json!({ "virtualcluster_deploy_args": ["--image", "manager=docker.io/a/b:latest"] }).to_string();
    let failed = playbook(&operator, &["--extra-vars", &wrong]).output().unwrap();
    let said = String::from_utf8(failed.stdout).unwrap();
    assert!(!failed.status.success() && said.contains("has no digest"), "{said}");
}

/// `ansible-playbook` with the role on this machine, and these arguments.
fn playbook(operator: &Operator, arguments: &[&str]) -> Command {
    let stage = &operator.stage;
    let program = |name: &str| std::env::var(name).unwrap();
    let variables = json!({
        "ansible_python_interpreter": "/usr/bin/python3",
        "k8s_virtualcluster_enabled": true,
        "virtualcluster_supercluster_kubeconfig_path": operator.lab.kubeconfig(),
        "virtualcluster_local_source_dir": stage.source(),
        "virtualcluster_store": stage.path().join("store"),
        "virtualcluster_vcbuild": program("VCBUILD"),
        "virtualcluster_vcdist": program("VCDIST"),
        "virtualcluster_vcbuild_args": ["--base", "scratch", "--out", stage.out()],
        "virtualcluster_ssh_args": ["--ssh-config", operator.lab.ssh_config()],
        "virtualcluster_deploy_args": ["--timeout", "120s"],
    });
    let play: Value = json!([{ "hosts": "localhost", "connection": "local", "gather_facts": false, "vars": variables,
        "roles": ["k8s_virtual_cluster"] }]);
    let path = stage.path().join("playbook.yml");
    std::fs::write(&path, play.to_string()).unwrap();
    let mut command = Command::new("ansible-playbook");
    command.args(["--inventory", "localhost,", path.as_str()]).args(arguments).current_dir(stage.path());
    command.env("ANSIBLE_ROLES_PATH", repository().join("ansible/roles")).env("ANSIBLE_NOCOLOR", "1");
    for name in ["ANSIBLE_HOME", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP"] {
        command.env(name, stage.path().join("ansible"));
    }
    command.env("LC_ALL", "C.UTF-8").env("PYTHONDONTWRITEBYTECODE", "1").env_remove("KUBECONFIG");
    command
}

/// How many tasks changed something, as the recap of a play that succeeded says.
fn changed(run: &Run) -> u32 {
    run.succeeded();
    let recap = run.stdout.lines().find(|line| line.starts_with("localhost ") && line.contains("unreachable=0"));
    let word = recap.and_then(|line| line.split_whitespace().find_map(|word| word.strip_prefix("changed=")));
    word.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{}", run.stdout))
}
