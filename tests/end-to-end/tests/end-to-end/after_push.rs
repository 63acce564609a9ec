//! What comes after a push: nodes that join later get the images, and images that nothing needs any more go.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use end_to_end::Operator;
use lab::Containerd;
use rigs::Run;
use serde_json::Value;

/// How long anything here may take.
const WITHIN: Duration = Duration::from_secs(90);

#[test]
fn nodes_that_join_later_get_the_images_and_what_no_revision_needs_goes() {
    let operator = Operator::with_lab("e2e-after", Containerd::V2);
    let built = operator.stage.images(&["--base", "scratch"]);
    a_watched_push_serves_who_comes_and_who_loses_something(&operator);
    a_watched_push_serves_them_by_way_of_a_relay_too(&operator);
    images_go_when_neither_revision_nor_workload_names_them(&operator, &built);
    vn_agent_takes_nobody_for_a_tenant_whom_no_ca_of_that_tenant_signed(&operator);
    a_cluster_version_is_accepted_by_the_cluster_that_it_is_for(&operator);
}

fn a_watched_push_serves_who_comes_and_who_loses_something(operator: &Operator) {
    let node: Value = serde_json::from_str(&operator.kubectl(&["get", "node", "worker2", "-o", "json"])).unwrap();
    let _ = operator.kubectl(&["delete", "node", "worker2"]);
    let mut watched = WatchedPush::start(operator.push().args(["--watch", "--recheck", "5s"]));
    watched.wait_for("worker1: there; pushing");
    watched.wait_for("worker1: done: ");

    let _ = operator.lab.kubectl_with(&["create", "-f", "-"], &anew(node)).unwrap();
    watched.wait_for("worker2: done: ");
    assert_eq!(images(operator, "worker2").len(), 6, "three images by two names each");

    let lost = images(operator, "worker1").remove(0);
    let _ = operator.on("worker1", &["ctr", "--namespace", "k8s.io", "images", "rm", &lost]);
    watched.wait_for("worker1: done: 0 blobs");
    assert!(images(operator, "worker1").contains(&lost));

    let report = watched.interrupt();
    let names: Vec<&Value> = report["nodes"].as_array().unwrap().iter().map(|node| &node["name"]).collect();
    assert_eq!(names, ["worker1", "worker2"], "{report}");
    for worker in ["worker1", "worker2"] {
        assert_eq!(operator.on(worker, &["ctr", "--namespace", "k8s.io", "leases", "ls", "-q"]), "");
    }
}

fn a_watched_push_serves_them_by_way_of_a_relay_too(operator: &Operator) {
    let lab = &operator.lab;
    for name in images(operator, "worker1") {
        let _ = operator.on("worker1", &["ctr", "--namespace", "k8s.io", "images", "rm", "--sync", &name]);
    }
    let node: Value = serde_json::from_str(&operator.kubectl(&["get", "node", "worker2", "-o", "json"])).unwrap();
    let _ = operator.kubectl(&["delete", "node", "worker2"]);
    // The relay logs in to the others with what it has itself.
    for (name, file) in [("key", lab.ssh_key()), ("known_hosts", lab.known_hosts())] {
        let content = std::fs::read_to_string(file).unwrap();
        let line = format!("umask 077; mkdir -p /run/relay; printf '%s' '{content}' > /run/relay/{name}");
        let _ = operator.on(lab::CONTROL_PLANE, &["sh", "-c", &line]);
    }
    let mut command = operator.push();
    command.args(["--watch", "--recheck", "5s", "--via", lab::CONTROL_PLANE, "--relay-cache", "/run/relay/cache"]);
    command.arg("--relay-ssh-option=IdentityFile=/run/relay/key");
    command.arg("--relay-ssh-option=UserKnownHostsFile=/run/relay/known_hosts");
    let mut watched = WatchedPush::start(&mut command);
    watched.wait_for(&format!("{}: sending ", lab::CONTROL_PLANE));
    watched.wait_for("worker1: done: ");
    assert_eq!(images(operator, "worker1").len(), 6, "three images by two names each");

    let _ = lab.kubectl_with(&["create", "-f", "-"], &anew(node)).unwrap();
    watched.wait_for("worker2: has everything");
    let lost = images(operator, "worker2").remove(0);
    let _ = operator.on("worker2", &["ctr", "--namespace", "k8s.io", "images", "rm", &lost]);
    watched.wait_for("worker2: done: 0 blobs");
    assert!(images(operator, "worker2").contains(&lost));

    let said = watched.said.join("\n");
    assert_eq!(said.matches(&format!("{}: sending ", lab::CONTROL_PLANE)).count(), 1, "blobs go there once: {said}");
    let report = watched.interrupt();
    assert_eq!(report["relay"]["name"], lab::CONTROL_PLANE, "{report}");
    assert!(report["relay"]["bytes_sent"].as_u64().unwrap() > 0, "{report}");
    let failed = |node: &&Value| node["result"] == "failed";
    assert_eq!(report["nodes"].as_array().unwrap().iter().filter(failed).count(), 0, "{report}");
}

fn images_go_when_neither_revision_nor_workload_names_them(operator: &Operator, built: &Value) {
    assert_eq!(deployed(operator)["revision"], 1);
    assert_eq!(deployed(operator)["revision"], 1, "the same images are the same revision");
    operator.stage.change("syncer");
    let _ = operator.stage.images(&["--base", "scratch"]);
    let _ = operator.pushed();
    let of = |report: &Value, component: &str| {
        let is = |image: &&Value| image["component"] == component;
        let digest = &built["images"].as_array().unwrap().iter().find(is).unwrap()["digest"];
        let images = report["nodes"][0]["images"].as_array().unwrap();
        images.iter().find(|image| image["digest"] == *digest).cloned().unwrap_or_default()
    };
    let before = prune(operator, &[]);
    assert_eq!(of(&before, "syncer")["removed"], false, "its pods run: {before}");
    assert_eq!(deployed(operator)["revision"], 2);

    // Its pod, and the container on the node, take a moment to go.
    let deadline = Instant::now() + WITHIN;
    let kept_by = loop {
        let kept_by = of(&prune(operator, &["--dry-run"]), "syncer")["kept_by"].as_str().unwrap().to_owned();
        if kept_by.starts_with("revision") || Instant::now() > deadline {
            break kept_by;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    assert_eq!(kept_by, "revision 1 in vc-manager");
    let pruned = prune(operator, &["--revisions", "1"]);
    assert_eq!((&of(&pruned, "syncer")["removed"], &of(&pruned, "manager")["removed"]), (&true.into(), &false.into()));
    assert!(pruned["bytes_freed"].as_u64().unwrap() > 0, "{pruned}");
    assert_eq!(of(&prune(operator, &[]), "syncer"), Value::Null, "it is gone");
    assert_eq!(operator.verify(0)["passed"], true);

    // An operator who has no store sees what was pushed last.
    let status = |code: i32| {
        let mut command = operator.vcdist("status");
        command.args(["--store", "nowhere", "--output", "json", "--ssh-config", operator.lab.ssh_config().as_str()]);
        Run::of(&mut command).json_and(code)
    };
    let fine = status(0);
    let running = fine["nodes"].as_array().unwrap().iter().flat_map(|node| node["images"].as_array().unwrap());
    assert!(running.clone().count() == 6 && running.clone().any(|image| image["running"] != Value::Array(vec![])));
    let lost = images(operator, "worker2").remove(0);
    let _ = operator.on("worker2", &["ctr", "--namespace", "k8s.io", "images", "rm", &lost]);
    assert_eq!(status(3)["drift"], true);
}

fn vn_agent_takes_nobody_for_a_tenant_whom_no_ca_of_that_tenant_signed(operator: &Operator) {
    let roll_out = |arguments: &[&str]| {
        let _ = operator.stage.images(&[&["--base", "scratch"], arguments].concat());
        let _ = operator.pushed();
        operator.deploy();
    };
    let failed = |report: &Value| {
        let checks = report["checks"].as_array().unwrap().iter().filter(|check| check["passed"] == false);
        checks.cloned().collect::<Vec<Value>>()
    };
    let node = operator.kubectl(&["get", "node", "worker1", "-o", "jsonpath={.status.addresses[0].address}"]);
    let url = format!("https://{node}:10550/pods");
    let folder = operator.stage.path().join("tenants");
    std::fs::create_dir_all(&folder).unwrap();
    let shell = |script: &str| {
        let run = Run::of(Command::new("sh").args(["-euc", script]).current_dir(&folder));
        run.stdout
    };
    // Two tenants, and a namespace of somebody who may create Secrets there.
    for name in ["tenant-a", "tenant-b", "other"] {
        shell(&format!(
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=kubernetes -keyout {name}.key -out {name}.crt"
        ));
        let _ = operator.kubectl(&["create", "namespace", name]);
        if name != "other" {
            let _ = operator.kubectl(&["annotate", "namespace", name, "tenancy.x-k8s.io/vcrootns=true"]);
        }
        let file = |kind: &str| {
            format!("--{}={}", if kind == "crt" { "cert" } else { "key" }, folder.join(format!("{name}.{kind}")))
        };
        let _ = operator.kubectl(&["-n", name, "create", "secret", "tls", "root-ca", &file("crt"), &file("key")]);
    }
    // What a client with the name of one tenant, signed by the CA of another, gets.
    let answer = |name: &str, authority: &str| {
        shell(&format!(
            "openssl req -new -newkey rsa:2048 -nodes -subj /CN={name} -keyout c.key -out c.csr\n\
             printf 'extendedKeyUsage=clientAuth' > c.ext\n\
             openssl x509 -req -days 2 -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -in c.csr -extfile c.ext -out c.crt\n\
             curl --silent --insecure --max-time 20 --cert c.crt --key c.key {url} || echo refused"
        ))
    };

    roll_out(&["--without-edit", "vn-agent-client-certificate"]);
    let open = operator.verify(3);
    let [clients] = &failed(&open)[..] else { panic!("{open}") };
    assert_eq!(clients["name"], "clients");
    let said = clients["evidence"].to_string();
    assert!(
        said.contains("worker1: ") && said.contains("worker2: ") && said.contains("accepts a self-signed"),
        "{said}"
    );
    assert!(answer("tenant-a", "tenant-b").contains("requests of tenant \"tenant-a\""), "upstream's hole");

    roll_out(&[]);
    assert_eq!(operator.verify(0)["passed"], true);
    assert!(answer("tenant-a", "tenant-a").contains("requests of tenant \"tenant-a\""));
    for (name, authority) in [("tenant-a", "tenant-b"), ("other", "other"), ("kube", "tenant-a"), ("..", "tenant-a")] {
        assert_eq!(answer(name, authority), "refused\n", "{name} of {authority}");
    }
}

fn a_cluster_version_is_accepted_by_the_cluster_that_it_is_for(operator: &Operator) {
    // The lab's control plane runs outside of pods, as one that somebody else manages.
    let detected = Run::of(operator.vcdist("detect").args(["--output", "json"])).json();
    let version = detected["server_version"].as_str().unwrap();
    assert_eq!((&detected["images"][1]["source"], &detected["images"][1]["pod"]), (&"version".into(), &Value::Null));
    assert_eq!(detected["images"][1]["image"], format!("registry.k8s.io/kube-apiserver:{version}"));
    Run::of(operator.vcdist("clusterversion").args(["lab", "--apply"])).succeeded();
    let image = "jsonpath={.spec.apiServer.statefulset.spec.template.spec.containers[0].image}";
    let applied = operator.kubectl(&["get", "clusterversion", "lab", "-o", image]);
    assert_eq!(applied, format!("registry.k8s.io/kube-apiserver:{version}"));
    // The API server takes the objects in it too, as vc-manager will apply them.
    let object: Value =
        serde_json::from_str(&operator.kubectl(&["get", "clusterversion", "lab", "-o", "json"])).unwrap();
    for (part, kind) in [
        ("etcd", "statefulset"),
        ("etcd", "service"),
        ("apiServer", "statefulset"),
        ("apiServer", "service"),
        ("controllerManager", "statefulset"),
    ] {
        // Strict from kubectl 1.25 on; those before compare with the schema themselves.
        let created = ["-n", "tenant-a", "create", "--dry-run=server", "--validate=true", "-f", "-"];
        let said = operator.lab.kubectl_with(&created, &object["spec"][part][kind].to_string());
        assert!(said.is_ok(), "{part} {kind}: {said:?}");
    }
    // The programs know each of their flags: an unknown one fails before --help is reached.
    for part in ["etcd", "apiServer", "controllerManager"] {
        let container = &object["spec"][part]["statefulset"]["spec"]["template"]["spec"]["containers"][0];
        let words = [&container["command"], &container["args"]].into_iter().flat_map(|list| list.as_array().unwrap());
        let mut command: Vec<&str> = words.map(|word| word.as_str().unwrap()).collect();
        command.push("--help");
        let _ = operator.on(lab::CONTROL_PLANE, &command);
    }
}

fn deployed(operator: &Operator) -> Value {
    Run::of(operator.vcdist("deploy").args(["--timeout", "120s", "--output", "json"])).json()
}

fn prune(operator: &Operator, arguments: &[&str]) -> Value {
    let mut command = operator.vcdist("prune");
    command.args(["--output", "json", "--ssh-config", operator.lab.ssh_config().as_str()]).args(arguments);
    Run::of(&mut command).json()
}

fn images(operator: &Operator, worker: &str) -> Vec<String> {
    let listed = operator.on(worker, &["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"]);
    listed.lines().filter(|name| name.contains("virtualcluster")).map(str::to_owned).collect()
}

/// A node as one that registers itself: without what the API server gave it.
fn anew(mut node: Value) -> String {
    for key in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        node["metadata"].as_object_mut().unwrap().remove(key);
    }
    node.to_string()
}

/// A push under way.
struct WatchedPush {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl WatchedPush {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, said: Vec::new() }
    }

    /// Waits until it says this, anew.
    fn wait_for(&mut self, words: &str) {
        let deadline = Instant::now() + WITHIN;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(words) => return self.said.push(line),
                Ok(line) => self.said.push(line),
                Err(_) => panic!("it does not say {words:?}: {:#?}", self.said),
            }
        }
    }

    /// Ctrl-C; what it prints at its end.
    fn interrupt(self) -> Value {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let output = self.child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{:#?}", self.said);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
