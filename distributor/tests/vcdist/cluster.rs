//! The cluster that a command works on: how its API server is found and asked, what is done while it is away, and what is never
//! done to it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rigs::proxy::ForwardProxy;
use serde_json::{Value, json};

use crate::rig::api::{Api, ApiFault};
use crate::rig::{Rig, image, noise};

/// Exit code of a verification that was made and found something wrong, as on a cluster with nothing on it.
const ASKED: Option<i32> = Some(3);

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("vcdist runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn a_request_that_fails_in_passing_is_made_again_and_that_is_said_once() {
    let api = Api::up();
    for faults in [
        vec![ApiFault::Status(503, ""); 3],
        vec![ApiFault::Status(429, "retry-after: 0\r\n"), ApiFault::Status(500, ""), ApiFault::Status(504, "")],
        vec![ApiFault::Hangs, ApiFault::Hangs],
        vec![ApiFault::Breaks],
    ] {
        api.fail(&faults);
        let (code, _, said) = output(&mut api.vcdist(&["verify"]));
        assert_eq!(code, ASKED, "{faults:?}: {said}");
        assert_eq!(said.matches("trying again").count(), 1, "{faults:?}: {said}");
    }
    api.fail(&[ApiFault::Status(503, "")]);
    let (code, _, said) = output(&mut api.vcdist(&["verify", "--api-timeout", "0s"]));
    assert_eq!((code, said.contains("trying again")), (Some(1), false), "{said}");
    api.fail(&[ApiFault::Status(403, "")]);
    let (code, _, said) = output(&mut api.vcdist(&["verify"]));
    assert_eq!((code, said.contains("trying again")), (Some(1), false), "a refusal does not pass: {said}");
}

#[test]
fn an_api_server_that_is_not_there_yet_is_waited_for() {
    for command in [vec!["verify"], vec!["prune", "--dry-run"], vec!["status"]] {
        let api = Api::away();
        let mut running =
            api.vcdist(&command).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("vcdist runs");
        let mut said = BufReader::new(running.stderr.take().expect("stderr"));
        let mut line = String::new();
        said.read_line(&mut line).expect("words");
        assert!(line.contains(&api.url()) && line.contains("refused") && line.contains("trying again"), "{line}");
        api.come();
        let mut rest = String::new();
        said.read_to_string(&mut rest).expect("words");
        let _ = running.wait().expect("its end");
        assert!(!api.requests().is_empty() && !rest.contains("cannot be reached"), "{command:?}: {rest}");
    }
}

#[test]
fn kubeconfigs_are_read_as_kubectl_reads_them() {
    let api = Api::up();
    let path = api.path();
    let whole = fs::read_to_string(api.kubeconfig()).expect("a kubeconfig");
    let write = |name: &str, text: &str| {
        fs::write(path.join(name), text).expect("a file");
        path.join(name).into_string()
    };
    write("token", "secret\n");
    let with_file = write("with-file", &whole.replace("\"token\":\"t\"", "\"tokenFile\":\"token\""));
    let bare = write("bare", &whole.replace("http://", ""));
    let first = write("first", "apiVersion: v1\nkind: Config\ncurrent-context: \"\"\n");
    let empty = write("empty", "");
    for config in [
        with_file,
        bare,
        format!("{first}:{}", api.kubeconfig()),
        format!(":{empty}:/nonexistent/x:{}:", api.kubeconfig()),
    ] {
        let (code, _, said) = output(api.vcdist(&["verify"]).env("KUBECONFIG", &config));
        assert_eq!(code, ASKED, "{config}: {said}");
    }
    assert!(api.requests()[0].ends_with(" Bearer secret"), "{:?}", api.requests()[0]);

    let refused = |text: &str| {
        let config = write("refused", text);
        let (code, _, said) = output(api.vcdist(&["verify"]).env("KUBECONFIG", config));
        assert_eq!(code, Some(1), "{said}");
        said
    };
    let dangling = refused(&whole.replace("\"user\":\"u\"", "\"user\":\"nobody\""));
    assert!(dangling.contains("its context \"a\" names the user \"nobody\", which is not there"), "{dangling}");
    let lost = refused(&whole.replace("\"cluster\":\"c\"", "\"cluster\":\"lost\""));
    assert!(lost.contains("names the cluster \"lost\""), "{lost}");
    let user = "{\"name\":\"u\",\"user\":{\"token\":\"t\"}}";
    let twice = refused(&whole.replace(user, &format!("{user},{user}")));
    assert!(twice.contains("two entries for the user \"u\""), "{twice}");
    let exec = "{\"exec\":{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"command\":\"no-such-login\",\"installHint\":\"get it\"}}";
    let plugin = refused(&whole.replace("{\"token\":\"t\"}", exec));
    assert!(plugin.contains("the program no-such-login") && plugin.contains("(get it)"), "{plugin}");
    let insecure = "\"insecure-skip-tls-verify\":true,\"certificate-authority\":\"ca.crt\",\"server\"";
    write("ca.crt", "");
    assert!(refused(&whole.replace("\"server\"", insecure)).contains("certificate-authority"));
    let missing = refused(&whole.replace("\"server\"", "\"certificate-authority\":\"gone.crt\",\"server\""));
    assert!(missing.contains(path.join("gone.crt").as_str()), "beside the kubeconfig: {missing}");
    let scheme = refused(&whole.replace("http://", "ftp://"));
    assert!(scheme.contains("https://HOST:PORT"), "{scheme}");
}

#[test]
fn a_proxy_is_asked_where_it_is_named_and_the_api_server_on_loopback_never_through_it() {
    let api = Api::up();
    let (code, _, said) = output(api.vcdist(&["verify"]).env("HTTP_PROXY", "http://proxy.invalid:3128"));
    assert_eq!(code, ASKED, "{said}");
    let verify = |proxy: &str| {
        let whole = fs::read_to_string(api.kubeconfig()).expect("a kubeconfig");
        let config = api.path().join("through");
        let proxy = format!("\"proxy-url\":\"{proxy}\",\"server\"");
        fs::write(&config, whole.replace("\"server\"", &proxy)).expect("a kubeconfig");
        output(api.vcdist(&["verify", "--api-timeout", "0s"]).env("KUBECONFIG", config).env("NO_PROXY", "*"))
    };
    let proxies = ForwardProxy::start();
    for scheme in ["http", "socks5"] {
        let url = format!("{scheme}://{}", proxies.address);
        let before = proxies.carried();
        let (code, _, said) = verify(&url);
        assert_eq!(code, ASKED, "{url}: {said}");
        assert!(proxies.carried() > before, "{url}");
    }
    let (code, _, said) = verify("http://u:secret@127.0.0.1:1");
    assert_eq!(code, Some(1));
    assert!(said.contains("through the proxy http://127.0.0.1:1 (proxy-url)") && !said.contains("secret"), "{said}");
    let (code, _, said) = verify("127.0.0.1:1");
    assert_eq!(code, Some(1));
    assert!(said.contains("proxy-url is not the address of a proxy"), "{said}");
}

const IMAGES: [&str; 3] = ["manager", "syncer", "vn-agent"];

/// `vcdist deploy` of some images.
fn deploy(api: &Api, arguments: &[&str]) -> Command {
    let mut command = api.vcdist(&["deploy"]);
    for component in IMAGES {
        command.arg("--image").arg(format!("{component}=docker.io/a/{component}@sha256:{}", "0".repeat(64)));
    }
    command.args(arguments);
    command
}

#[test]
fn a_second_namespace_does_not_take_the_first_installations_roles() {
    let api = Api::up();
    let (code, _, said) = output(&mut deploy(&api, &[]));
    assert_eq!(code, Some(0), "{said}");
    let before = api.changes().len();
    for arguments in [&["-n", "second"][..], &["-n", "second", "--force-conflicts"], &["-n", "second", "--dry-run"]] {
        let (code, _, said) = output(&mut deploy(&api, arguments));
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("deploying to the namespace second: VirtualCluster is installed in the namespace vc-manager"),
            "{said}"
        );
        assert!(said.contains("clusterrolebinding/vc-manager-rolebinding"), "{said}");
    }
    assert_eq!(api.changes().len(), before, "nothing was changed");
    let (code, _, said) = output(&mut deploy(&api, &[]));
    assert_eq!(code, Some(0), "the first is deployed again: {said}");

    // What is left of an installation whose namespace is gone is taken over.
    let left = Api::up();
    for component in ["vc-manager", "vc-syncer", "vn-agent"] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{component}-rolebinding");
        let subjects = json!([{ "kind": "ServiceAccount", "namespace": "gone", "name": component }]);
        left.put(&path, json!({ "metadata": {}, "subjects": subjects }));
    }
    let (code, _, said) = output(&mut deploy(&left, &["-n", "second"]));
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_deployment_that_failed_or_waits_for_a_hand_says_how_far_it_is() {
    let api = Api::up();
    let document = |out: &str| -> Value { serde_json::from_str(out).expect("one JSON document") };
    api.put(
        "/apis/apps/v1/namespaces/vc-manager/deployments/vc-syncer",
        json!({ "metadata": {}, "spec": { "paused": true } }),
    );
    api.put("/api/v1/namespaces/vc-manager", json!({ "metadata": {}, "status": { "phase": "Active" } }));
    let begun = Instant::now();
    // Of this server's objects, whatever is applied stays beside what was there.
    let (code, out, said) = output(&mut deploy(&api, &["--output", "json", "--timeout", "120s"]));
    let report = document(&out);
    if code == Some(0) {
        panic!("a paused Deployment is not rolled out: {report}");
    }
    assert!(said.contains("waiting for deployment/vc-syncer: it is paused"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(60), "it is not waited for");
    assert!(report["error"].as_str().is_some_and(|error| error.contains("kubectl rollout resume")), "{report}");
    assert!(report["objects"].as_array().is_some_and(|objects| objects.iter().all(|object| object["applied"] == true)));
    assert_eq!(report["revision"], 1);

    let (code, out, _) = output(&mut deploy(&api, &["--output", "json", "--kubeconfig", "/nonexistent/x"]));
    let report = document(&out);
    assert_eq!((code, &report["objects"]), (Some(1), &json!([])));
    assert!(report["error"].as_str().is_some_and(|error| error.contains("/nonexistent/x")), "{report}");
}

#[test]
fn a_real_certificate_is_never_taken_away() {
    let api = Api::up();
    let path = "/api/v1/namespaces/vc-manager/secrets/empty-kubelet-client";
    api.put("/api/v1/namespaces/vc-manager", json!({ "metadata": {}, "status": { "phase": "Active" } }));
    api.put(path, json!({ "metadata": {}, "kind": "Secret", "data": { "client.crt": "eA==", "client.key": "eQ==" } }));
    let (code, _, said) = output(&mut deploy(&api, &["--force-conflicts"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(api.changes().iter().all(|request| !request.contains("empty-kubelet-client")), "{:?}", api.changes());
}

#[test]
fn prune_keeps_what_any_object_of_the_cluster_names_and_needs_no_definitions() {
    let rig = Rig::up();
    let api = Api::up();
    let pushed = |own: &[u8]| {
        image(&rig.store(), "manager", b"base", own);
        rig.push(&["manager"]).report(0);
        rig.store().image("manager").expect("an image").digest().to_string()
    };
    let digests: Vec<String> = (1..=5).map(|seed| pushed(&noise(seed, 1000))).collect();
    let reference = |at: usize| format!("docker.io/virtualcluster/manager-amd64@{}", digests[at]);
    api.put_worker();
    let volume = json!({ "name": "v", "image": { "reference": reference(0), "pullPolicy": "Never" } });
    api.put(
        "/api/v1/namespaces/a/pods/p",
        json!({ "metadata": {}, "spec": { "containers": [], "volumes": [volume] } }),
    );
    let template = json!({ "spec": { "initContainers": [{ "image": reference(1) }], "containers": [] } });
    let owner =
        json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "1", "controller": true }]);
    api.put(
        "/apis/apps/v1/namespaces/a/replicasets/web-1",
        json!({ "metadata": { "ownerReferences": owner }, "spec": { "replicas": 0, "template": template } }),
    );
    api.put(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/foos.example.com",
        json!({ "metadata": {}, "spec": {
        "group": "example.com", "names": { "kind": "Foo", "plural": "foos" },
        "versions": [{ "name": "v1", "served": true, "storage": true }] } }),
    );
    api.put(
        "/apis/example.com/v1/namespaces/a/foos/f",
        json!({ "metadata": {}, "spec": { "agent": { "proxyImage": reference(2) } } }),
    );

    let config = rig.path().join("ssh_config");
    let socket = rig.path().join("containerd.sock");
    let mut command = api.vcdist(&["prune", "--ssh-user", "root", "--ssh-config", config.as_str(), "--output", "json"]);
    let (code, out, said) = output(command.args(["--containerd-address", socket.as_str()]));
    assert_eq!(code, Some(0), "{said}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let images = report["nodes"][0]["images"].as_array().expect("images");
    let kept_by = |at: usize| {
        let image = images.iter().find(|image| image["digest"] == digests[at]).expect("the image");
        image["kept_by"].as_str().unwrap_or("nothing").to_owned()
    };
    let kept: Vec<String> = (0..5).map(kept_by).collect();
    assert_eq!(kept, ["pod a/p", "replicaset a/web-1", "foo a/f", "nothing", "the last push"]);
}

/// A worker at this machine's loopback address, which the API says is this machine.
fn worker(api: &Api, name: &str, machine_id: &str, boot_id: &str) {
    api.put(
        &format!("/api/v1/nodes/{name}"),
        json!({
            "kind": "Node",
            "metadata": { "labels": { "kubernetes.io/os": "linux" } },
            "status": {
                "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
                "conditions": [{ "type": "Ready", "status": "True" }],
                "nodeInfo": {
                    "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "bootID": boot_id, "containerRuntimeVersion": "containerd://2.0.0",
                    "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": machine_id,
                    "operatingSystem": "linux", "osImage": "", "systemUUID": "",
                },
            },
        }),
    );
}

#[test]
fn a_choice_of_nodes_that_there_are_not_is_refused_before_anything_is_applied() {
    let api = Api::up();
    worker(&api, "w1", "", "");
    for (choice, words) in [
        (["--nodes", "w1,w9"], "there is no node w9"),
        (["--exclude", "w9"], "there is no node w9"),
        (["--selector", "a like (b)"], "reading the selector"),
    ] {
        for command in [&mut deploy(&api, &choice), api.vcdist(&["verify"]).args(choice)] {
            let (code, _, said) = output(command);
            assert_eq!(code, Some(1), "{choice:?}: {said}");
            assert!(said.contains(words), "{choice:?}: {said}");
        }
    }
    let (code, _, said) = output(&mut deploy(&api, &["--exclude", "w1"]));
    assert_eq!((code, said.contains("no worker is left")), (Some(1), true), "{said}");
    assert_eq!(api.changes(), Vec::<String>::new());
    let (code, _, said) = output(&mut deploy(&api, &["--nodes", "w1"]));
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_machine_that_is_not_the_node_is_left_alone() {
    let rig = Rig::up();
    let api = Api::up();
    image(&rig.store(), "manager", b"base", b"own");
    let run = |command: &str, further: &[&str]| {
        let config = rig.path().join("ssh_config");
        let mut run = match command {
            // It needs no store, and takes none.
            "prune" => api.vcdist(&[&[command], further].concat()),
            _ => rig.vcdist(command, further),
        };
        run.env("KUBECONFIG", api.kubeconfig()).args(["--ssh-user", "root", "--ssh-config", config.as_str()]);
        output(&mut run)
    };
    let (one, two) = ("0a".repeat(16), "0b".repeat(16));
    let ours = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    // Where this machine has no ID, nothing tells it from another.
    if ours.trim().len() == 32 {
        worker(&api, "w1", &one, &two);
        for (command, further) in [
            ("push", &["manager"][..]),
            ("push", &["manager", "--helper", "never"]),
            ("plan", &["manager"]),
            ("status", &[]),
            ("prune", &["--ignore-cluster"]),
        ] {
            let (code, out, said) = run(command, further);
            assert_ne!(code, Some(0), "{command} {further:?}: {said}");
            let words =
                format!("is not the node w1: its machine ID is {}, and the API has {one} for the node", ours.trim());
            assert!(format!("{out}{said}").contains(&words), "{command} {further:?}: {out}{said}");
        }
        assert!(rig.helpers().is_empty() && !rig.ctr(&["images", "ls"]).contains("manager"), "nothing was left there");
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
    for (machine, boot) in [(ours.trim(), two.as_str()), (&one, boot.trim()), ("", two.as_str()), (&one, "")] {
        worker(&api, "w1", machine, boot);
        let (code, _, said) = run("push", &["manager"]);
        assert_eq!(code, Some(0), "{machine:?} {boot:?}: {said}");
    }
}
