//! The public interface of a lab: start, load, use, remove.

use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;

use crate::binaries::{Binaries, Containerd, Kubernetes};
use crate::bringup::{self, Bringup};
use crate::cgroups::Cgroups;
use crate::components;
use crate::error::Error;
use crate::node;
use crate::packages;
use crate::plan::{Node, Options, check_name};
use crate::process::{Finished, TICK, patience, run};
use crate::state::{self, Daemon, Lock, State};
use crate::teardown;

/// A running cluster.
#[derive(Debug)]
pub struct Lab {
    state: State,
    cgroups: Cgroups,
    /// The daemons that this process started, for which it must wait.
    children: Vec<Child>,
}

impl Lab {
    /// Starts a lab: nodes are Ready, pods can be scheduled, and names resolve. First removes the remains of an earlier
    /// lab with the same name. Removes everything again if it fails.
    ///
    /// # Errors
    /// Returns an error if the process is not root, packages are missing, programs do not compile, or a component ends
    /// or does not answer in time; the error then contains the end of its log.
    pub fn up(options: &Options) -> Result<Self, Error> {
        Self::up_telling(options, &mut |_, _| ())
    }

    /// Like [`Lab::up`], but reports each completed step with its duration.
    ///
    /// # Errors
    /// Returns an error like [`Lab::up`].
    pub fn up_telling(options: &Options, tell: &mut dyn FnMut(&str, Duration)) -> Result<Self, Error> {
        options.check()?;
        root_only()?;
        let mut clock = Instant::now();
        let mut told = |step: &str| tell(step, std::mem::replace(&mut clock, Instant::now()).elapsed());
        packages::ensure(&packages::for_lab(options.containerd))?;
        let binaries = Binaries::ensure(options.kubernetes, options.containerd)?;
        told("packages and programs");
        let lock = Lock::of_lab(&options.name)?;
        if teardown::remove(&options.name)? {
            told("removed what an earlier lab left");
        }
        let state = State::allocate(options, binaries.path("kubectl"))?;
        let mut bringup = Bringup::new(state, &binaries)?;
        match bring_up(&mut bringup, &mut told) {
            Ok(()) => {
                let Bringup { state, children, .. } = bringup;
                Ok(Self { state, cgroups: Cgroups::detect()?, children })
            }
            Err(error) => {
                // The original error explains why the lab is not running; the next start or removal will report what
                // prevents this removal.
                let _ = teardown::remove(&options.name).map(|_| bury(&mut bringup.children));
                let _ = lock.remove();
                Err(error)
            }
        }
    }

    /// Loads the lab with this name, which this or another process started.
    ///
    /// # Errors
    /// Returns [`Error::NoSuchLab`] if there is none, or if it was not started completely.
    pub fn load(name: &str) -> Result<Self, Error> {
        check_name(name)?;
        match State::read(name)?.filter(|state| state.complete) {
            Some(state) => Ok(Self { state, cgroups: Cgroups::detect()?, children: Vec::new() }),
            None => Err(Error::NoSuchLab { name: name.to_owned() }),
        }
    }

    /// Returns the names of the labs recorded on this machine, complete or not.
    ///
    /// # Errors
    /// Returns an error if the folder of records cannot be read.
    pub fn names() -> Result<Vec<String>, Error> {
        state::names()
    }

    /// Removes the lab: afterwards, none of its processes, namespaces, mounts, cgroups and files exist.
    ///
    /// # Errors
    /// Returns [`Error::Leftover`] with the parts that could not be removed.
    pub fn down(mut self) -> Result<(), Error> {
        self.take_down()
    }

    /// Removes all remains of the lab with this name. Returns whether there were any.
    ///
    /// # Errors
    /// Returns an error like [`Lab::down`].
    pub fn down_by_name(name: &str) -> Result<bool, Error> {
        check_name(name)?;
        root_only()?;
        let lock = Lock::of_lab(name)?;
        let found = teardown::remove(name)?;
        lock.remove().map(|()| found)
    }

    /// Wraps the lab in a value that removes it when it goes out of scope, even if a test panics.
    #[must_use]
    pub fn scoped(self) -> ScopedLab {
        ScopedLab(self)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.plan.name
    }

    /// The folder of its files: keys, kubeconfig, each node's folders and logs.
    #[must_use]
    pub fn dir(&self) -> &Utf8Path {
        &self.state.plan.dir
    }

    /// Its version of Kubernetes.
    #[must_use]
    pub fn kubernetes(&self) -> Kubernetes {
        self.state.plan.kubernetes
    }

    /// The containerd version of its nodes.
    #[must_use]
    pub fn containerd(&self) -> Containerd {
        self.state.plan.containerd
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> Utf8PathBuf {
        self.dir().join("kubeconfig")
    }

    /// A file for `ssh -F`: every node by name and by address, with the key and the host keys.
    #[must_use]
    pub fn ssh_config(&self) -> Utf8PathBuf {
        self.dir().join("ssh_config")
    }

    /// The nodes' host keys.
    #[must_use]
    pub fn known_hosts(&self) -> Utf8PathBuf {
        self.dir().join("known_hosts")
    }

    /// The operator's private key, which every node accepts for root and for [`crate::ORDINARY_USER`].
    #[must_use]
    pub fn ssh_key(&self) -> Utf8PathBuf {
        self.dir().join("ssh_key")
    }

    /// This machine's own address in the lab, which nodes see as the operator's.
    #[must_use]
    pub fn operator_address(&self) -> Ipv4Addr {
        self.state.plan.operator_address()
    }

    /// All nodes, the control-plane node first.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.state.plan.nodes
    }

    /// The workers, `worker1` first.
    #[must_use]
    pub fn workers(&self) -> &[Node] {
        &self.state.plan.nodes[1..]
    }

    /// The control-plane node.
    #[must_use]
    pub fn control_plane(&self) -> &Node {
        self.state.plan.control_plane()
    }

    /// Returns the node with this name.
    ///
    /// # Errors
    /// Returns [`Error::NoSuchNode`] with the existing nodes.
    pub fn node(&self, name: &str) -> Result<&Node, Error> {
        self.nodes().iter().find(|node| node.name == name).ok_or_else(|| {
            let nodes: Vec<&str> = self.nodes().iter().map(|node| node.name.as_str()).collect();
            Error::NoSuchNode { lab: self.name().to_owned(), node: name.to_owned(), nodes: nodes.join(", ") }
        })
    }

    /// All daemons of the lab; [`crate::Process::is_alive`] of its process tells whether it runs.
    #[must_use]
    pub fn daemons(&self) -> &[Daemon] {
        &self.state.daemons
    }

    /// Runs the cluster's own kubectl as its administrator. Returns its stdout.
    ///
    /// # Errors
    /// Returns [`Error::Command`] with kubectl's output if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, Error> {
        self.kubectl_with(arguments, "")
    }

    /// Like [`Lab::kubectl`], with `input` on stdin, for `-f -`.
    ///
    /// # Errors
    /// Returns an error like [`Lab::kubectl`].
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String, Error> {
        bringup::kubectl(&self.state, arguments, input.as_bytes())?.success(format!("kubectl {}", arguments.join(" ")))
    }

    /// Runs a program as root on a node, until it ends or `limit` has passed.
    ///
    /// # Errors
    /// Returns an error if there is no such node, or if the program cannot be started. The result contains its exit
    /// status.
    pub fn exec(&self, node: &str, program: &[&str], limit: Duration) -> Result<Finished, Error> {
        run(&mut self.command(node, program)?, b"", limit)
    }

    /// Returns a command that runs a program as root on a node, with a clean environment, for callers that need its
    /// streams.
    ///
    /// # Errors
    /// Returns an error if there is no such node.
    pub fn command<S: AsRef<str>>(&self, node: &str, program: &[S]) -> Result<Command, Error> {
        Ok(node::enter(self.node(node)?, &self.cgroups, false, program))
    }

    /// Kills the API server and starts it again. Returns once it is started; it answers some seconds later.
    ///
    /// # Errors
    /// Returns an error if it does not run, does not end in time, or cannot be started.
    pub fn restart_api_server(&mut self) -> Result<(), Error> {
        let node = self.state.plan.control_plane();
        let component = components::api_server(node);
        let daemon = self.state.daemons.iter_mut().find(|daemon| daemon.component == component.name);
        let missing =
            || Error::Ended { component: component.name.to_owned(), node: node.name.clone(), tail: String::new() };
        let daemon = daemon.ok_or_else(missing)?;
        // The daemon's own process enters the node, and waits for the server there.
        node::only_child(daemon.process.pid).ok_or_else(missing)?.signal(Signal::KILL);
        let waited = patience(30);
        let deadline = Instant::now() + waited;
        while daemon.process.is_alive() {
            if Instant::now() > deadline {
                let (what, seconds) = ("the end of the API server".to_owned(), waited.as_secs());
                let (component, tail) = (component.name.to_owned(), String::new());
                return Err(Error::Timeout { what, seconds, detail: "it still runs".to_owned(), component, tail });
            }
            thread::sleep(TICK);
        }
        let (child, started) = bringup::start_daemon(node, &self.cgroups, &component)?;
        *daemon = started;
        self.children.push(child);
        self.state.write()
    }

    fn take_down(&mut self) -> Result<(), Error> {
        Self::down_by_name(&self.state.plan.name)?;
        bury(&mut self.children);
        Ok(())
    }
}

/// A lab that is removed when it goes out of scope.
#[derive(Debug)]
pub struct ScopedLab(Lab);

impl Deref for ScopedLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl DerefMut for ScopedLab {
    fn deref_mut(&mut self) -> &mut Lab {
        &mut self.0
    }
}

impl Drop for ScopedLab {
    fn drop(&mut self) {
        if let Err(error) = self.0.take_down() {
            vcterminal::say(format_args!("error: {error}"));
        }
    }
}

fn bring_up(bringup: &mut Bringup<'_>, told: &mut dyn FnMut(&str)) -> Result<(), Error> {
    bringup.prepare()?;
    told("keys, certificates and network");
    bringup.boot()?;
    told("nodes with sshd and containerd");
    bringup.load_images()?;
    told("pause image on every node");
    bringup.start_cluster()?;
    told("API server");
    bringup.settle()?;
    told("nodes Ready, DNS answers");
    bringup.state.complete = true;
    bringup.state.write()
}

fn root_only() -> Result<(), Error> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}

/// Waits for children that have ended, so that none remains a zombie.
fn bury(children: &mut Vec<Child>) {
    for mut child in children.drain(..) {
        let _ = child.wait();
    }
}
