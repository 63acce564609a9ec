//! Labs that come up for real: what a user of one may rely on, and that nothing stays of one that is gone.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails with the line that did")]

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Overlay, assert_nothing_left, name, pods_on_workers, run, said};
use lab::{CONTROL_PLANE, Containerd, DNS_ADDRESS, Lab, ORDINARY_USER, Options};
use rigs::{Daemon, wait};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_cluster_of_two_workers_runs_pods_and_has_no_way_out() {
    let forwarding = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let forwarding_before = forwarding();
    let lab = Lab::up(&Options { name: name("two"), ..Options::default() }).unwrap().scoped();
    assert_eq!(lab.workers().iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["worker1", "worker2"]);
    assert!(lab.daemons().iter().all(|daemon| daemon.process.is_alive()));
    assert_eq!(Lab::load(lab.name()).unwrap().dir(), lab.dir());

    let fields = "{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=='Ready')].status} \
                  {.spec.taints[*].key} {.status.nodeInfo.containerRuntimeVersion}{'\\n'}{end}";
    assert_eq!(
        lab.kubectl(&["get", "nodes", "-o", &format!("jsonpath={fields}").replace('\'', "\"")]).unwrap(),
        "control-plane True node-role.kubernetes.io/control-plane containerd://2.2.0\n\
         worker1 True  containerd://2.2.0\nworker2 True  containerd://2.2.0\n"
    );
    let labelled = lab.kubectl(&["get", "nodes", "-l", "node-role.kubernetes.io/control-plane", "-o", "name"]).unwrap();
    assert_eq!(labelled.trim(), format!("node/{CONTROL_PLANE}"));

    let pods = pods_on_workers(&lab);
    for (node, pid) in &pods {
        names_resolve(&lab, node, *pid);
    }
    let ssh = |options: &[&str], command: &str| {
        let config = lab.ssh_config();
        run(Command::new("ssh").args(["-F", config.as_str()]).args(options).args(["worker1", command]))
    };
    assert_eq!(
        said(&ssh(&[], "hostname && pwd && ls -d /run/containerd/containerd.sock")),
        "worker1\n/root\n/run/containerd/containerd.sock\n"
    );
    assert_eq!(said(&ssh(&["-l", ORDINARY_USER], "id -un && sudo -n id -un")), "operator\nroot\n");
    let stranger = ssh(&["-o", "UserKnownHostsFile=/dev/null"], "true");
    assert!(!stranger.status.success());
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("Host key verification failed"));

    no_way_out(&lab, &pods);
    assert_eq!(forwarding(), forwarding_before);

    let init = lab.workers()[0].init.unwrap();
    let (name, dir) = (lab.name().to_owned(), lab.dir().to_owned());
    drop(lab);
    assert!(!init.is_alive());
    assert_nothing_left(&name, &dir);
}

#[test]
fn debians_containerd_runs_pods_on_a_disk_of_its_own_size() {
    // Its folder is on an overlay, as it is where the whole test runs in a container.
    let (size, overlay) = (96 << 20, Overlay::new());
    let options = Options {
        name: name("old"),
        workers: 1,
        containerd: Containerd::V1_6,
        worker_disk: Some(size),
        dir: Some(overlay.path().join("lab")),
        ..Options::default()
    };
    let lab = Lab::up(&options).unwrap().scoped();
    let version = "jsonpath={.status.nodeInfo.containerRuntimeVersion}";
    let version = lab.kubectl(&["get", "node", "worker1", "-o", version]).unwrap();
    assert!(version.starts_with("containerd://1.6."), "{version}");
    assert_eq!(pods_on_workers(&lab).len(), 1);
    pods_of_one_node_reach_each_other_by_their_service(&lab);

    let fill = ["dd", "if=/dev/zero", "of=/var/lib/containerd/fill", "bs=1M", "count=97"];
    let filled = lab.exec("worker1", &fill, LIMIT).unwrap();
    assert!(filled.stderr.contains("No space left on device"), "{}", filled.stderr);
    let (name, dir) = (lab.name().to_owned(), lab.dir().to_owned());
    drop(lab);
    assert_nothing_left(&name, &dir);
}

#[test]
fn a_lab_that_cannot_come_up_says_why_and_leaves_nothing() {
    let options = Options { name: name("full"), workers: 1, worker_disk: Some(1 << 20), ..Options::default() };
    let error = Lab::up(&options).unwrap_err().to_string();
    assert!(error.contains("no space left on device"), "{error}");
    assert_nothing_left(&options.name, &format!("/var/lib/vclab/{}", options.name).into());
    assert!(matches!(Lab::load(&options.name), Err(lab::Error::NoSuchLab { .. })));
}

/// Whatever moment the process that brings a lab up is killed at, and whether or not the lab's own processes are killed
/// too: the next one comes up, and its end leaves nothing of either.
#[test]
fn what_a_crash_leaves_is_removed() {
    let name = name("crash");
    for milliseconds in [60, 700, 2500] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "brings_a_lab_up_to_be_killed", "--ignored", "--quiet"]);
        command.env("VCLAB_TEST_NAME", &name).stdout(Stdio::null()).stderr(Stdio::null());
        let mut victim = Daemon::start(&mut command);
        wait::until("a record of the lab", || Lab::names().unwrap().contains(&name));
        std::thread::sleep(Duration::from_millis(milliseconds));
        victim.kill();
        assert!(matches!(Lab::load(&name), Err(lab::Error::NoSuchLab { .. })), "it was killed before it was complete");
    }
    common::kill_all_processes(&name);
    let lab = Lab::up(&Options { name: name.clone(), workers: 1, ..Options::default() }).unwrap();
    let dir = lab.dir().to_owned();
    assert_eq!(lab.kubectl(&["get", "nodes", "-o", "name"]).unwrap().lines().count(), 2);

    // Everything ends at once, as with an out-of-memory kill; the operator takes the rest down from another process.
    common::kill_all_processes(&name);
    assert!(lab.daemons().iter().all(|daemon| !daemon.process.is_alive()));
    assert!(Lab::down_by_name(&name).unwrap());
    assert_nothing_left(&name, &dir);
    assert!(!Lab::down_by_name(&name).unwrap(), "down again finds nothing");
}

#[test]
#[ignore = "run by what_a_crash_leaves_is_removed, in a process of its own"]
fn brings_a_lab_up_to_be_killed() {
    let name = std::env::var("VCLAB_TEST_NAME").unwrap();
    Lab::up(&Options { name, workers: 1, ..Options::default() }).unwrap();
}

/// Asks for a Service by its short name as a process in the pod would: in its network, with its `resolv.conf`.
fn names_resolve(lab: &Lab, node: &str, pod: i32) {
    let script = format!(
        "cat /proc/{pod}/root/etc/resolv.conf > /tmp/resolv.conf && mount --bind /tmp/resolv.conf /etc/resolv.conf && \
         cat /etc/resolv.conf && getent hosts kubernetes kube-dns.kube-system && \
         exec 3<>/dev/tcp/kubernetes.default.svc.cluster.local/443 && echo connected"
    );
    let target = format!("--target={pod}");
    let inside = ["nsenter", &target, "--net", "unshare", "--mount", "bash", "-c", &script];
    let answer = lab.exec(node, &inside, LIMIT).unwrap().success("asking for a Service").unwrap();
    assert!(answer.contains(&format!("nameserver {DNS_ADDRESS}")), "{answer}");
    assert!(answer.contains("10.96.0.1       kubernetes.default.svc.cluster.local"), "{answer}");
    assert!(answer.contains("10.96.0.10      kube-dns.kube-system.svc.cluster.local"), "{answer}");
    assert!(answer.ends_with("connected\n"), "{answer}");
}

/// Lets two pods answer (each has an sshd in its network) and asks them by their Service often enough that each has asked
/// the other: that answer is rewritten on the bridge or not at all.
fn pods_of_one_node_reach_each_other_by_their_service(lab: &Lab) {
    let selector = serde_json::json!({"app": "answers"});
    let container = serde_json::json!({"name": "answers", "image": lab::PAUSE_IMAGE, "args": ["answers"]});
    let objects = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "answers"},
         "spec": {"clusterIP": "10.96.0.77", "selector": selector, "ports": [{"port": 80, "targetPort": 22}]}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "answers"},
         "spec": {"replicas": 2, "selector": {"matchLabels": selector}, "template": {
            "metadata": {"labels": selector}, "spec": {"containers": [container]}}}},
    ]});
    lab.kubectl_with(&["create", "-f", "-"], &objects.to_string()).unwrap();
    lab.kubectl(&["rollout", "status", "deployment/answers", "--timeout=50s"]).unwrap();
    let script = "for pod in $(pgrep -f '^/pause answers$'); do \
                      nsenter --target=$pod --net /usr/sbin/sshd -f /etc/ssh/sshd_config -o PidFile=/run/$pod.pid; done; \
                  until [ \"$(iptables-save -t nat | grep -c '10.96.0.77/32.*dport 80')\" -gt 0 ]; do sleep 0.1; done; \
                  for pod in $(pgrep -f '^/pause answers$'); do for time in 1 2 3 4 5 6 7 8; do \
                      timeout 10 nsenter --target=$pod --net bash -c 'exec 3<>/dev/tcp/10.96.0.77/80; head -c 4 <&3; echo'; \
                  done; done";
    let asked = lab.exec("worker1", &["bash", "-c", script], LIMIT).unwrap();
    assert_eq!(asked.stdout, "SSH-\n".repeat(16), "{}", asked.stderr);
}

/// From every namespace of the lab: no default route but to the control-plane node, where it is unreachable, and a
/// connection to a public address (192.0.2.0/24 is for documentation, so nobody is there) fails at once.
fn no_way_out(lab: &Lab, pods: &[(String, i32)]) {
    let nodes = lab.nodes().iter().map(|node| (node.name.clone(), vec![]));
    let pods = pods
        .iter()
        .map(|(node, pid)| (node.clone(), vec!["nsenter".into(), format!("--target={pid}"), "--net".into()]));
    let control_plane = lab.control_plane().address.to_string();
    for (node, prefix) in nodes.chain(pods) {
        let inside = |script: &str| {
            let mut program: Vec<&str> = prefix.iter().map(String::as_str).collect();
            program.extend(["bash", "-c", script]);
            lab.exec(&node, &program, LIMIT).unwrap()
        };
        let gateway = match (prefix.is_empty(), node == CONTROL_PLANE) {
            (true, true) => "unreachable default".to_owned(),
            (true, false) => format!("default via {control_plane} "),
            (false, _) => format!("default via 10.244.{}.1 ", node.trim_start_matches("worker")),
        };
        let routes = inside("ip -4 route show default").stdout;
        assert!(routes.lines().count() == 1 && routes.starts_with(&gateway), "{node}: {routes}");
        assert_eq!(inside("ip -6 route show default").stdout, "", "{node}");
        for address in ["192.0.2.1", "10.96.77.77"] {
            let start = Instant::now();
            let tried = inside(&format!("exec 3<>/dev/tcp/{address}/80"));
            let refused = ["No route to host", "Network is unreachable"].iter().any(|why| tried.stderr.contains(why));
            assert!(!tried.status.success() && refused, "{node} {address}: {}", tried.stderr);
            assert!(start.elapsed() < Duration::from_secs(10), "{node} {address}: {:?}", start.elapsed());
        }
    }
    // This machine itself knows the lab's own subnet and nothing of its pods and Services.
    let routes = run(Command::new("ip").args(["-4", "route", "show", "table", "all"]));
    let routes = said(&routes);
    assert!(!routes.contains("10.96.") && !routes.contains("10.244."), "{routes}");
}
