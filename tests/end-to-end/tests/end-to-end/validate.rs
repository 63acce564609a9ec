//! What `vcdist validate` finds on a real cluster, and that the rights that `vcdist rbac` prints are enough for everything.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use camino::Utf8PathBuf;
use end_to_end::Operator;
use lab::Containerd;
use rigs::Run;
use serde_json::{Value, json};

#[test]
fn a_healthy_cluster_has_no_findings_and_the_printed_rights_suffice_for_everything() {
    let operator = Operator::with_lab("e2e-valid", Containerd::V2);
    let _ = operator.stage.images(&["--base", "scratch"]);
    let admin = operator.lab.kubeconfig();
    assert_eq!(problems(&validate(&operator, &admin, 0)), [""; 0]);
    a_port_that_is_taken_on_a_worker_is_found(&operator, &admin);

    let viewer = account(&operator, "viewer", &["--for", "verify,validate"]);
    let report = validate(&operator, &viewer, 3);
    let found = problems(&report).join("\n");
    assert!(found.contains("create deployments.apps/vc-manager in vc-manager: this user lacks the right"), "{found}");
    assert!(found.contains("clusterrole/vc-syncer-role: it grants rights that this user lacks"), "{found}");
    Run::of(&mut with(&operator, &viewer, "deploy")).failed(1, &["may not"]);

    let deployer = account(&operator, "deployer", &[]);
    assert_eq!(problems(&validate(&operator, &deployer, 0)), [""; 0]);
    everything_works(&operator, &deployer);
}

/// `vcdist SUBCOMMAND` as the user of a kubeconfig.
fn with(operator: &Operator, kubeconfig: &Utf8PathBuf, subcommand: &str) -> Command {
    let mut command = operator.stage.vcdist();
    command.args([subcommand, "--kubeconfig", kubeconfig.as_str()]);
    command
}

fn over_ssh(operator: &Operator, kubeconfig: &Utf8PathBuf, subcommand: &str) -> Command {
    let mut command = with(operator, kubeconfig, subcommand);
    command.args(["--output", "json", "--ssh-config", operator.lab.ssh_config().as_str()]);
    command
}

/// The report of a validation in which every check is made.
fn validate(operator: &Operator, kubeconfig: &Utf8PathBuf, code: i32) -> Value {
    let report = Run::of(&mut over_ssh(operator, kubeconfig, "validate")).json_and(code);
    let skipped = report["checks"].as_array().unwrap().iter().filter(|check| check["status"] == "skipped");
    assert_eq!(skipped.count(), 0, "{report:#}");
    report
}

fn problems(report: &Value) -> Vec<String> {
    let findings = report["checks"].as_array().unwrap().iter().flat_map(|check| check["findings"].as_array().unwrap());
    let text =
        |finding: &Value| format!("{}: {}", finding["object"].as_str().unwrap(), finding["problem"].as_str().unwrap());
    findings.map(text).collect()
}

fn a_port_that_is_taken_on_a_worker_is_found(operator: &Operator, admin: &Utf8PathBuf) {
    let listen = "use IO::Socket::INET; $| = 1; my $s = IO::Socket::INET->new(LocalPort => 10550, Listen => 1) or die; \
                  print \"listens\\n\"; <STDIN>";
    let mut command = operator.lab.command("worker1", &["perl", "-e", listen]).unwrap();
    let mut child: Child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "listens\n");
    let found = problems(&validate(operator, admin, 3));
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(
        found.len() == 1 && found[0].starts_with("worker1: TCP port 10550 is taken by perl (process "),
        "{found:?}"
    );
}

/// A kubeconfig of a new service account with the rights that `vcdist rbac ARGUMENTS` prints, and no others.
fn account(operator: &Operator, name: &str, arguments: &[&str]) -> Utf8PathBuf {
    let namespace = format!("ci-{name}");
    let _ = operator.kubectl(&["create", "namespace", &namespace]);
    let _ = operator.kubectl(&["-n", &namespace, "create", "serviceaccount", name]);
    let subject = format!("serviceaccount:{namespace}:{name}");
    let roles = Run::of(operator.stage.vcdist().args(["rbac", "--to", &subject]).args(arguments)).printed();
    operator.lab.kubectl_with(&["apply", "-f", "-"], &roles).unwrap();
    let token = operator.kubectl(&["-n", &namespace, "create", "token", name]);
    let mut config: Value =
        serde_json::from_str(&operator.kubectl(&["config", "view", "--raw", "--output", "json"])).unwrap();
    config["users"][0]["user"] = json!({ "token": token.trim() });
    let path = operator.lab.dir().join(format!("kubeconfig-{name}"));
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

fn everything_works(operator: &Operator, user: &Utf8PathBuf) {
    let run = |command: &mut Command| drop(Run::of(command).printed());
    run(&mut over_ssh(operator, user, "push"));
    run(with(operator, user, "deploy").args(["--timeout", "120s"]));
    assert_eq!(Run::of(with(operator, user, "verify").args(["--output", "json"])).json()["passed"], true);
    assert_eq!(problems(&validate(operator, user, 0)), [""; 0], "the ports are held by vn-agent");
    run(&mut with(operator, user, "diff"));
    run(with(operator, user, "deploy").args(["--timeout", "120s", "--tolerate", "gpu"]));
    run(&mut with(operator, user, "history"));
    run(over_ssh(operator, user, "rollback").args(["--timeout", "120s"]));
    run(&mut over_ssh(operator, user, "status"));
    run(&mut over_ssh(operator, user, "run"));
    run(&mut with(operator, user, "detect"));
    run(with(operator, user, "clusterversion").arg("--apply"));
    let done =
        over_ssh(operator, user, "uninstall").args(["--yes", "--tenants", "delete", "--images"]).output().unwrap();
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done["error"], Value::Null, "{done:#}");
    // The administrator's roles are in the namespace, and keep it.
    let kept = done["kept"].as_array().unwrap();
    assert!(kept.len() == 1 && kept[0]["why"].as_str().unwrap().contains("role/vcdist"), "{done:#}");
    assert!(!operator.kubectl(&["get", "crds,clusterroles", "-o", "name"]).contains("/vc-"));
}
