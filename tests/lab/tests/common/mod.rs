//! What the tests of labs share: pods to look at, and the search for anything that a lab left behind.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use lab::{Lab, PAUSE_IMAGE};
use rigs::wait;

/// A lab's name that no other run of these tests uses.
pub(crate) fn name(purpose: &str) -> String {
    format!("t{}-{purpose}", std::process::id())
}

/// An overlay, as a container's root file system is one, in a temporary folder.
pub(crate) struct Overlay(tempfile::TempDir);

impl Overlay {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script =
            "mkdir upper work all && mount -t overlay -o lowerdir=/etc,upperdir=upper,workdir=work overlay all";
        said(&run(Command::new("sh").args(["-c", script]).current_dir(folder.path())));
        Self(folder)
    }

    pub(crate) fn path(&self) -> Utf8PathBuf {
        Utf8Path::from_path(self.0.path()).unwrap().join("all")
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

pub(crate) fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// What a program that succeeded wrote on stdout.
pub(crate) fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs one pod on every worker by the image that the lab brings, and returns the workers with the number of the pod's
/// process there.
pub(crate) fn pods_on_workers(lab: &Lab) -> Vec<(String, i32)> {
    let labels = serde_json::json!({"app": "waits"});
    let container = serde_json::json!({"name": "waits", "image": PAUSE_IMAGE, "imagePullPolicy": "Never"});
    let set = serde_json::json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "waits"},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [container]}}},
    });
    lab.kubectl_with(&["create", "-f", "-"], &set.to_string()).unwrap();
    let rolled_out = lab.kubectl(&["rollout", "status", "daemonset/waits", "--timeout=50s"]);
    let pods = || lab.kubectl(&["describe", "pods"]).unwrap();
    rolled_out.unwrap_or_else(|error| panic!("{error}\n{}", pods()));
    let nodes = lab.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"]).unwrap();
    let mut nodes: Vec<&str> = nodes.split_whitespace().collect();
    nodes.sort_unstable();
    assert_eq!(nodes, lab.workers().iter().map(|node| node.name.as_str()).collect::<Vec<_>>());
    let pid = |node: &str| {
        let found = lab.exec(node, &["pgrep", "-n", "-f", "^/pause$"], Duration::from_secs(20)).unwrap();
        found.success("finding the pod's process").unwrap().trim().parse().unwrap()
    };
    nodes.into_iter().map(|node| (node.to_owned(), pid(node))).collect()
}

/// Sends SIGKILL to everything in the lab's cgroups, which this test's own lab has filled.
pub(crate) fn kill_all_processes(name: &str) {
    let pids = || -> Vec<String> { cgroup_files(name).iter().flat_map(|path| lines(path)).collect() };
    wait::until("the end of all processes", || {
        let pids = pids();
        for pid in &pids {
            let _ = Command::new("kill").args(["-9", pid]).output();
        }
        pids.is_empty()
    });
}

/// Looks for anything of a lab: namespaces, links, mounts, cgroups, processes, records and files.
pub(crate) fn assert_nothing_left(name: &str, dir: &Utf8PathBuf) {
    let word = format!("vclab-{name}");
    let namespaces = said(&run(Command::new("ip").args(["netns", "list"])));
    assert!(!namespaces.contains(&word), "{namespaces}");
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&word) && !mounts.contains(dir.as_str()), "{mounts}");
    assert_eq!(cgroup_files(name), Vec::<Utf8PathBuf>::new());
    assert!(!dir.exists(), "{dir}");
    let records = Utf8Path::new("/run/vclab").read_dir_utf8().unwrap();
    let records: Vec<String> = records.map(|entry| entry.unwrap().file_name().to_owned()).collect();
    assert!(!records.iter().any(|record| record.starts_with(name)), "{records:?}");
    for entry in Utf8Path::new("/proc").read_dir_utf8().unwrap().flatten() {
        if entry.file_name().parse::<i32>().is_ok() && entry.file_name() != std::process::id().to_string() {
            let of = |what: &str| fs::read_to_string(entry.path().join(what)).unwrap_or_default();
            assert!(!of("cgroup").contains(&word), "process {}: {}", entry.file_name(), of("cmdline"));
        }
    }
}

/// The `cgroup.procs` of every cgroup of a lab.
fn cgroup_files(name: &str) -> Vec<Utf8PathBuf> {
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-path", &format!("*/vclab-{name}/*"), "-name", "cgroup.procs"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&found.stdout).lines().map(Utf8PathBuf::from).collect()
}

fn lines(path: &Utf8Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
