//! What goes wrong at a site, and what vcdist says of it: each error names what was attempted, why it failed and what to
//! do, and whoever is not concerned is served.

use std::fs;

use end_to_end::Operator;
use lab::{Containerd, Options};
use rigs::Run;

/// One lab serves all of these, one after the other: none of them leaves it changed.
#[test]
fn what_the_operator_got_wrong_is_said_and_nothing_is_half_done() {
    let operator = Operator::with_lab("e2e-refusals", Containerd::V2);
    let _ = operator.stage.images(&["--base", "scratch"]);
    unknown_host_key(&operator);
    unreachable_worker(&operator);
    kubeconfig_missing(&operator);
    kubeconfig_wrong(&operator);
    not_enough_rights(&operator);
    no_such_image(&operator);
}

fn unknown_host_key(operator: &Operator) {
    let empty = operator.stage.path().join("known_hosts");
    fs::write(&empty, "").unwrap();
    let ended = Run::of(operator.push().args(["--ssh-option", &format!("UserKnownHostsFile={empty}")]));
    ended.without_panic().refused(1, &["worker1", "host key", "help:"]);
    let names = operator.on("worker1", &["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"]);
    assert!(!names.contains("virtualcluster"), "{names}");
}

fn unreachable_worker(operator: &Operator) {
    let firewall = |change: &str| {
        let _ = operator.on("worker2", &["iptables", change, "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP"]);
    };
    firewall("-I");
    let ended = Run::of(operator.push().args(["--ssh-option", "ConnectTimeout=3"]));
    firewall("-D");
    assert!(ended.stderr.contains("worker2"), "{}", ended.stderr);
    let pushed = ended.json_and(4);
    let result = |i: usize| pushed["nodes"][i]["result"].as_str().unwrap().to_owned();
    assert_eq!((result(0), result(1)), ("pushed".to_owned(), "failed".to_owned()), "{pushed}");
    assert!(pushed["nodes"][1]["error"].as_str().is_some_and(|error| !error.is_empty()));
}

fn kubeconfig_missing(operator: &Operator) {
    for subcommand in ["push", "deploy", "verify"] {
        let ended = Run::of(operator.stage.vcdist().args([subcommand, "--kubeconfig", "/no/such/kubeconfig"]));
        ended.without_panic().refused(1, &["/no/such/kubeconfig", "help:"]);
    }
}

fn kubeconfig_wrong(operator: &Operator) {
    let path = operator.stage.path().join("kubeconfig");
    fs::write(&path, "this is: [no kubeconfig").unwrap();
    Run::of(operator.stage.vcdist().args(["verify", "--kubeconfig", path.as_str()]))
        .without_panic()
        .refused(1, &["kubeconfig", "help:"]);
    let right = fs::read_to_string(operator.lab.kubeconfig()).unwrap();
    fs::write(&path, right.replace(":6443", ":6444")).unwrap();
    let verify = ["verify", "--api-timeout", "0s", "--kubeconfig", path.as_str()];
    Run::of(operator.stage.vcdist().args(verify)).without_panic().refused(1, &[":6444", "help:"]);
}

fn not_enough_rights(operator: &Operator) {
    let _ = operator.kubectl(&["create", "serviceaccount", "nobody"]);
    let token = operator.kubectl(&["create", "token", "nobody"]);
    let path = operator.stage.path().join("nobody.kubeconfig");
    fs::copy(operator.lab.kubeconfig(), &path).unwrap();
    let config = format!("--kubeconfig={path}");
    let _ = operator.kubectl(&[&config, "config", "set-credentials", "nobody", &format!("--token={}", token.trim())]);
    let _ = operator.kubectl(&[&config, "config", "set-context", "--current", "--user=nobody"]);
    Run::of(operator.stage.vcdist().args(["push", "--kubeconfig", path.as_str()]))
        .without_panic()
        .refused(1, &["nodes", "list", "help:"]);
    let ended = Run::of(operator.stage.vcdist().args(["deploy", "--kubeconfig", path.as_str()]));
    ended.without_panic().refused(1, &["leases.coordination.k8s.io", "help:"]);
}

fn no_such_image(operator: &Operator) {
    Run::of(operator.push().arg("no-such-image")).without_panic().refused(1, &["no-such-image", "help:"]);
}

#[test]
fn a_full_disk_on_one_worker_is_said_before_a_byte_moves() {
    let options =
        Options { name: "e2e-full-disk".to_owned(), workers: 1, worker_disk: Some(16 << 20), ..Options::default() };
    let operator = Operator::with(&options);
    let _ = operator.stage.images(&["--base", "debian"]);
    let ended = Run::of(&mut operator.push());
    assert!(ended.stderr.contains("worker1") && ended.stderr.contains("space"), "{}", ended.stderr);
    let pushed = ended.json_and(1);
    assert_eq!((&pushed["nodes"][0]["result"], &pushed["bytes_sent"]), (&"failed".into(), &0.into()));
    let names = operator.on("worker1", &["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"]);
    assert!(!names.contains("virtualcluster"), "{names}");
}
