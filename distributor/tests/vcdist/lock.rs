//! The lock on the cluster: who holds it is refused or taken over by name, and who loses it stops.

use std::process::{Child, Command, Output, Stdio};

use rigs::wait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::rig::api::{Api, SLOW};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/vcdist";
const AGENT: &str = "/apis/apps/v1/namespaces/vc-manager/daemonsets/vn-agent";

/// A Lease that somebody on another machine renewed last at this time. The server's clock begins at 2024.
fn lease(renewed: &str) -> Value {
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "uid": "theirs", "resourceVersion": "5",
            "annotations": { "vcdist.virtualcluster.io/process": "another-boot/pid:[1]/7/8" } },
        "spec": { "holderIdentity": "jane@elsewhere (pid 7, vcdist deploy)", "leaseDurationSeconds": 30,
            "acquireTime": "2023-12-31T23:58:00.000000Z", "renewTime": renewed, "leaseTransitions": 4 } })
}

const LIVE: &str = "2024-01-01T00:00:00.000000Z";
const EXPIRED: &str = "2023-12-31T23:58:00.000000Z";

fn deploy(api: &Api, arguments: &[&str]) -> Command {
    let mut command = api.vcdist(&["deploy"]);
    for component in ["manager", "syncer", "vn-agent"] {
        command.arg("--image").arg(format!("{component}=docker.io/a/{component}@sha256:{}", "0".repeat(64)));
    }
    command.args(arguments);
    command
}

fn output(command: &mut Command) -> (i32, String, String) {
    ended(command.output().expect("vcdist runs"))
}

fn ended(Output { status, stdout, stderr }: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A deployment that waits for a pod that does not get ready, and the server that it waits at.
fn waiting() -> (Api, Child) {
    let api = Api::up();
    api.put("/api/v1/namespaces/vc-manager", json!({ "metadata": {}, "status": { "phase": "Active" } }));
    api.put(AGENT, json!({ "metadata": { "annotations": { SLOW: "true" } } }));
    let mut command = deploy(&api, &["--timeout", "120s"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vcdist runs");
    wait::until("the deployment is applied", || {
        api.requests().iter().any(|request| request.contains("daemonsets") && request.contains("watch=true"))
    });
    (api, child)
}

#[test]
fn a_lock_that_is_held_is_refused_by_name_and_nothing_is_changed() {
    let api = Api::up();
    api.put(LEASE, lease(LIVE));
    let refused = |command: &mut Command| {
        let (code, out, said) = output(command);
        assert_eq!(code, 1, "{out}{said}");
        assert!(
            said.contains("jane@elsewhere (pid 7, vcdist deploy) holds the lock since 2023-12-31 23:58:00 UTC"),
            "{said}"
        );
        assert!(said.contains("expires by itself in 30 s") && said.contains("--wait-for-lock"), "{said}");
    };
    refused(&mut deploy(&api, &[]));
    refused(&mut api.vcdist(&["uninstall", "--yes"]));
    refused(&mut api.vcdist(&["rollback", "--ignore-nodes"]));
    assert_eq!((api.changes(), api.paths().len()), (Vec::new(), 1));
    // What changes nothing needs no lock.
    for command in [&mut deploy(&api, &["--dry-run"]), &mut api.vcdist(&["uninstall", "--dry-run"])] {
        let (code, _, said) = output(command);
        assert_eq!(code, 0, "{said}");
    }
    assert_eq!(api.get(LEASE).expect("their lock")["metadata"]["uid"], "theirs");
}

#[test]
fn a_lock_that_was_not_renewed_is_taken_over_by_name_and_given_back() {
    let api = Api::up();
    api.put(LEASE, lease(EXPIRED));
    let (code, _, said) = output(&mut deploy(&api, &[]));
    assert_eq!(code, 0, "{said}");
    let words =
        "the lock on the cluster is taken over from jane@elsewhere (pid 7, vcdist deploy): it was not renewed in time";
    assert!(said.contains(words), "{said}");
    assert!(api.get(LEASE).is_none(), "it is given back");
    let requests = api.requests();
    let at = |begin: &str| requests.iter().position(|request| request.starts_with(begin)).expect(begin);
    let first_change = requests.iter().position(|request| *request == api.changes()[0]).expect("a change");
    assert!(at(&format!("PUT {LEASE}")) < first_change, "it is taken before anything changes");
}

#[test]
fn one_can_wait_until_the_lock_is_given_back() {
    let api = Api::up();
    api.put(LEASE, lease(LIVE));
    let mut command = deploy(&api, &["--wait-for-lock", "2m"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("vcdist runs");
    let looks = || api.requests().iter().filter(|request| request.contains(LEASE)).count();
    wait::until("it looks at the lock again", || looks() >= 2);
    api.take(LEASE);
    let (code, _, said) = ended(child.wait_with_output().expect("its end"));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("waiting for jane@elsewhere (pid 7, vcdist deploy), which holds the lock"), "{said}");
}

#[test]
fn of_two_deployments_one_is_refused_and_the_other_stops_once_it_has_lost_its_lock() {
    let (api, first) = waiting();
    let before = api.changes().len();
    let (code, _, said) = output(&mut deploy(&api, &[]));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("(pid {}, vcdist deploy) holds the lock", first.id())), "{said}");

    api.put(LEASE, lease(LIVE));
    let (code, _, said) = ended(first.wait_with_output().expect("its end"));
    assert_eq!(code, 1, "{said}");
    let words = "lost its lock on the cluster and stopped: jane@elsewhere (pid 7, vcdist deploy) holds it now";
    assert!(said.contains(words), "{said}");
    assert_eq!(api.changes().len(), before, "it changed nothing after that");
    assert_eq!(
        api.get(LEASE),
        Some({
            let mut theirs = lease(LIVE);
            theirs["metadata"]["name"] = json!("vcdist");
            theirs["metadata"]["namespace"] = json!("kube-system");
            theirs
        }),
        "the lock of the other one stays"
    );
}

#[test]
fn a_deployment_that_is_stopped_gives_its_lock_back() {
    let (api, child) = waiting();
    assert!(api.get(LEASE).is_some());
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a number")).expect("a process");
    kill_process(pid, Signal::TERM).expect("a signal");
    let (code, _, said) = ended(child.wait_with_output().expect("its end"));
    assert_eq!(code, 143, "{said}");
    assert!(api.get(LEASE).is_none());
}
