//! Starts a planned lab: files, network, nodes, control plane, kubelets; each step is parallelized as far as possible.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use serde_json::Value;

use crate::binaries::Binaries;
use crate::cgroups::Cgroups;
use crate::components::{self, Component};
use crate::error::{Error, file};
use crate::plan::{CONTROL_PLANE, Node};
use crate::process::{Finished, Process, TICK, patience, run, start, tail};
use crate::state::{Daemon, State};
use crate::teardown::MARKER;
use crate::{network, node, pause, pki, ssh};

/// The time limit of a single command.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// A lab that is starting.
pub(crate) struct Bringup<'a> {
    pub(crate) state: State,
    pub(crate) children: Vec<Child>,
    cgroups: Cgroups,
    binaries: &'a Binaries,
    /// Whether kube-proxy's rules apply to packets between two pods of a node.
    bridged: bool,
}

impl<'a> Bringup<'a> {
    pub(crate) fn new(state: State, binaries: &'a Binaries) -> Result<Self, Error> {
        Ok(Self {
            state,
            children: Vec::new(),
            cgroups: Cgroups::detect()?,
            binaries,
            bridged: network::load_modules(),
        })
    }

    /// Writes all files that are needed before anything runs, and creates the network.
    pub(crate) fn prepare(&mut self) -> Result<(), Error> {
        let plan = &self.state.plan;
        create_folder(&plan.dir)?;
        for node in &plan.nodes {
            node::create_folders(node, self.binaries)?;
            components::write(plan, node)?;
        }
        thread::scope(|scope| {
            let network = scope.spawn(|| network::create(plan));
            let keys = scope.spawn(|| ssh::write(plan));
            pki::write(plan)?;
            joined(keys)?;
            joined(network)
        })
    }

    /// Starts the nodes, each with sshd and containerd, and etcd and the API server: everything that does not need the
    /// API.
    pub(crate) fn boot(&mut self) -> Result<(), Error> {
        let (plan, cgroups, binaries) = (self.state.plan.clone(), &self.cgroups, self.binaries);
        let booted: Vec<Result<Child, Error>> = thread::scope(|scope| {
            let nodes = self.state.plan.nodes.iter_mut();
            let boots: Vec<_> = nodes.map(|node| scope.spawn(|| node::boot(&plan, node, binaries, cgroups))).collect();
            boots.into_iter().map(joined).collect()
        });
        for child in booted {
            self.children.push(child?);
        }
        self.start(0, &components::etcd())?;
        self.start(0, &components::api_server(&self.state.plan.nodes[0]))?;
        for index in 0..self.state.plan.nodes.len() {
            self.start(index, &components::sshd())?;
            self.start(index, &components::containerd())?;
        }
        self.state.write()
    }

    /// Waits for every containerd and imports the pause image.
    pub(crate) fn load_images(&mut self) -> Result<(), Error> {
        let image = pause::archive(&self.binaries.path("pause"))?;
        for index in 0..self.state.plan.nodes.len() {
            let name = self.state.plan.nodes[index].name.clone();
            let version = ["ctr", "version"];
            self.wait(index, "containerd", &format!("an answer of containerd on {name}"), 30, |this| {
                Ok(this.exec(index, &version, b"")?.success("asking containerd").err().map(|error| error.to_string()))
            })?;
        }
        let this = &*self;
        thread::scope(|scope| {
            let image = &image;
            let import = ["ctr", "-n", "k8s.io", "images", "import", "-"];
            let nodes = 0..this.state.plan.nodes.len();
            let imports = nodes.map(|index| {
                scope.spawn(move || this.exec(index, &import, image)?.success("importing the pause image").map(drop))
            });
            imports.collect::<Vec<_>>().into_iter().try_for_each(joined)
        })
    }

    /// Starts the rest of the control plane, once the API server answers, and each node's kubelet and kube-proxy.
    pub(crate) fn start_cluster(&mut self) -> Result<(), Error> {
        self.wait(0, "kube-apiserver", "readiness of the API server", 60, |this| {
            let ready = this.kubectl(&["get", "--raw", "/readyz"], b"")?;
            Ok(ready.success("asking the API server").err().map(|error| error.to_string()))
        })?;
        self.start(0, &components::controller_manager())?;
        self.start(0, &components::scheduler())?;
        for index in 0..self.state.plan.nodes.len() {
            self.start(index, &components::kubelet(self.state.plan.kubernetes, &self.state.plan.nodes[index]))?;
            self.start(index, &components::kube_proxy(&self.state.plan.nodes[index], self.bridged))?;
        }
        self.start(0, &components::coredns())?;
        let objects = components::dns_objects(self.state.plan.control_plane()).to_string();
        self.kubectl(&["create", "-f", "-"], objects.as_bytes())?.success("making the DNS Service").map(drop)?;
        self.state.write()
    }

    /// Waits until pods can be created and scheduled, and names can be resolved.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        self.wait(0, "kubelet", "registration of the control-plane node", 60, |this| {
            let label = ["label", "--overwrite", "node", CONTROL_PLANE, "node-role.kubernetes.io/control-plane="];
            Ok(this.kubectl(&label, b"")?.success("labelling").err().map(|error| error.to_string()))
        })?;
        for index in (0..self.state.plan.nodes.len()).rev() {
            let node = self.state.plan.nodes[index].name.clone();
            self.wait(index, "kubelet", &format!("readiness of node {node}"), 60, |this| {
                let got = this.kubectl(&["get", "node", &node, "-o", "json"], b"")?.success("asking for the node");
                Ok(match got {
                    Ok(json) => not_ready(&serde_json::from_str(&json).unwrap_or_default()),
                    Err(error) => Some(error.to_string()),
                })
            })?;
        }
        self.wait(0, "kube-controller-manager", "the service account of pods", 30, |this| {
            let got = this.kubectl(&["get", "serviceaccount", "default"], b"")?;
            Ok(got.success("asking for the service account").err().map(|error| error.to_string()))
        })?;
        let address = self.state.plan.control_plane().address;
        self.wait(0, "coredns", "readiness of CoreDNS", 30, |_| {
            Ok(answers_ok(SocketAddr::from((address, 8181))).err().map(|error| error.to_string()))
        })
    }

    fn start(&mut self, index: usize, component: &Component) -> Result<(), Error> {
        let (child, daemon) = start_daemon(&self.state.plan.nodes[index], &self.cgroups, component)?;
        self.children.push(child);
        self.state.daemons.push(daemon);
        Ok(())
    }

    fn exec(&self, index: usize, program: &[&str], input: &[u8]) -> Result<Finished, Error> {
        run(&mut node::enter(&self.state.plan.nodes[index], &self.cgroups, false, program), input, COMMAND_LIMIT)
    }

    fn kubectl(&self, arguments: &[&str], input: &[u8]) -> Result<Finished, Error> {
        kubectl(&self.state, arguments, input)
    }

    /// Repeats `probe` until it returns `None`, at most for `seconds`. Returns early if a daemon of the lab ends.
    fn wait(
        &mut self,
        index: usize,
        component: &str,
        what: &str,
        seconds: u64,
        mut probe: impl FnMut(&Self) -> Result<Option<String>, Error>,
    ) -> Result<(), Error> {
        let waited = patience(seconds);
        let deadline = Instant::now() + waited;
        let mut pause = TICK;
        while let Some(detail) = probe(self)? {
            if let Some(ended) = self.state.daemons.iter().find(|daemon| !daemon.process.is_alive()) {
                let Daemon { component, node, log, .. } = ended.clone();
                return Err(Error::Ended { component, node, tail: tail(&log) });
            }
            if Instant::now() > deadline {
                let (what, seconds) = (what.to_owned(), waited.as_secs());
                let (component, tail) = (component.to_owned(), tail(&self.state.plan.nodes[index].log(component)));
                return Err(Error::Timeout { what, seconds, detail, component, tail });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(TICK * 8);
        }
        Ok(())
    }
}

/// Starts a daemon on a node.
pub(crate) fn start_daemon(node: &Node, cgroups: &Cgroups, component: &Component) -> Result<(Child, Daemon), Error> {
    let log = node.log(component.name);
    let mut command = node::enter(node, cgroups, true, &component.command);
    let child = start(command.current_dir("/"), &log)?;
    let process = i32::try_from(child.id()).ok().and_then(Process::of);
    let (component, node) = (component.name.to_owned(), node.name.clone());
    match process {
        Some(process) => Ok((child, Daemon { component, node, process, log })),
        None => Err(Error::Ended { component, node, tail: tail(&log) }),
    }
}

/// Runs kubectl as the lab's administrator.
pub(crate) fn kubectl(state: &State, arguments: &[&str], input: &[u8]) -> Result<Finished, Error> {
    let mut command = Command::new(&state.kubectl);
    command.arg("--kubeconfig").arg(state.plan.dir.join("kubeconfig")).args(arguments);
    // Caches discovery in the lab's folder, because another lab at the same address is another cluster.
    run(command.env("KUBECACHEDIR", state.plan.dir.join("kubectl-cache")), input, COMMAND_LIMIT)
}

/// Creates the lab's folder, or uses an empty one.
fn create_folder(folder: &Utf8Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(file("creating", folder))?;
    let mut entries = folder.read_dir_utf8().map_err(file("reading", folder))?;
    if entries.next().is_some() {
        return Err(Error::ForeignFolder { path: folder.to_owned() });
    }
    let marker = folder.join(MARKER);
    fs::write(&marker, "The folder of a lab: `cargo xtask lab down` removes it.\n").map_err(file("writing", marker))
}

/// Returns why a node cannot run pods yet.
fn not_ready(node: &Value) -> Option<String> {
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    match ready {
        None => return Some("the kubelet has not reported yet".to_owned()),
        Some(ready) if ready["status"] != "True" => {
            return Some(ready["message"].as_str().unwrap_or("not ready").to_owned());
        }
        Some(_) => {}
    }
    let taints = node["spec"]["taints"].as_array();
    let taint = taints.into_iter().flatten().find(|taint| taint["key"] == "node.kubernetes.io/not-ready");
    taint.map(|_| "still tainted as not ready".to_owned())
}

/// Queries CoreDNS's readiness endpoint, which returns 200 once CoreDNS has the cluster's Services.
fn answers_ok(address: SocketAddr) -> std::io::Result<()> {
    let limit = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(1024).read_to_string(&mut answer)?;
    let status = answer.lines().next().unwrap_or("no answer").to_owned();
    if status.contains(" 200 ") { Ok(()) } else { Err(std::io::Error::other(status)) }
}

/// Returns the result of a thread; propagates its panic.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_ready_when_it_says_so_and_its_taint_is_gone() {
        let node = |status: &str, taints: Value| {
            json!({"spec": {"taints": taints}, "status": {"conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": status, "message": "no network"}]}})
        };
        assert_eq!(not_ready(&json!({})).unwrap(), "the kubelet has not reported yet");
        assert_eq!(not_ready(&node("False", Value::Null)).unwrap(), "no network");
        let tainted = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
        assert_eq!(not_ready(&node("True", tainted)).unwrap(), "still tainted as not ready");
        assert_eq!(not_ready(&node("True", json!([{"key": "node-role.kubernetes.io/control-plane"}]))), None);
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        fs::write(path.join("mine"), "").unwrap();
        assert!(matches!(create_folder(path), Err(Error::ForeignFolder { .. })));
        assert!(!path.join(MARKER).exists());
    }
}
