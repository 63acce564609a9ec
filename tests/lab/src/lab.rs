//! The lab as its users have it: up, load, use, down.

use std::net::Ipv4Addr;
use std::ops::Deref;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};

use crate::binaries::{Binaries, Containerd};
use crate::bringup::{self, Bringup};
use crate::cgroups::Cgroups;
use crate::error::Error;
use crate::node;
use crate::packages;
use crate::plan::{Node, Options, check_name};
use crate::process::{Finished, run};
use crate::state::{self, Daemon, Lock, State};
use crate::teardown;

/// A cluster that is up.
#[derive(Debug)]
pub struct Lab {
    state: State,
    cgroups: Cgroups,
    /// The daemons that this very process started: it has to bury them.
    children: Vec<Child>,
}

impl Lab {
    /// Brings a lab up: nodes Ready, pods can be scheduled, names resolve. What an earlier lab of the same name left is
    /// removed first. When it fails, everything is removed again.
    ///
    /// # Errors
    /// Not root, missing packages or programs that do not compile; a component that ends or does not answer in time,
    /// with the end of its log.
    pub fn up(options: &Options) -> Result<Self, Error> {
        Self::up_telling(options, &mut |_, _| ())
    }

    /// [`Lab::up`] that tells each step when it is done and how long it took.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up_telling(options: &Options, tell: &mut dyn FnMut(&str, Duration)) -> Result<Self, Error> {
        options.check()?;
        root_only()?;
        let mut clock = Instant::now();
        let mut told = |step: &str| tell(step, std::mem::replace(&mut clock, Instant::now()).elapsed());
        packages::ensure(&packages::for_lab(options.containerd))?;
        let binaries = Binaries::ensure(options.containerd)?;
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
                // The error says why the lab is not up; what hinders its removal is met again by the next up or down.
                let _ = teardown::remove(&options.name).map(|_| bury(&mut bringup.children));
                let _ = lock.remove();
                Err(error)
            }
        }
    }

    /// The lab of that name, brought up by this or another process.
    ///
    /// # Errors
    /// [`Error::NoSuchLab`] when there is none, or none that came up completely.
    pub fn load(name: &str) -> Result<Self, Error> {
        check_name(name)?;
        match State::read(name)?.filter(|state| state.complete) {
            Some(state) => Ok(Self { state, cgroups: Cgroups::detect()?, children: Vec::new() }),
            None => Err(Error::NoSuchLab { name: name.to_owned() }),
        }
    }

    /// The names of the labs recorded on this machine, complete or not.
    ///
    /// # Errors
    /// When the folder of records cannot be read.
    pub fn names() -> Result<Vec<String>, Error> {
        state::names()
    }

    /// Takes the lab down: when it returns, none of its processes, namespaces, mounts, cgroups and files exist.
    ///
    /// # Errors
    /// [`Error::Leftover`] names what could not be removed.
    pub fn down(mut self) -> Result<(), Error> {
        self.take_down()
    }

    /// Takes down whatever exists of the lab of that name; true when there was something.
    ///
    /// # Errors
    /// As [`Lab::down`].
    pub fn down_by_name(name: &str) -> Result<bool, Error> {
        check_name(name)?;
        root_only()?;
        let lock = Lock::of_lab(name)?;
        let found = teardown::remove(name)?;
        lock.remove().map(|()| found)
    }

    /// The lab as a value that takes it down when it goes out of scope, also when a test panics.
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

    /// Which containerd its nodes run.
    #[must_use]
    pub fn containerd(&self) -> Containerd {
        self.state.plan.containerd
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> Utf8PathBuf {
        self.dir().join("kubeconfig")
    }

    /// A file for `ssh -F`: every node by name and by address, its key, its host key.
    #[must_use]
    pub fn ssh_config(&self) -> Utf8PathBuf {
        self.dir().join("ssh_config")
    }

    /// The nodes' host keys.
    #[must_use]
    pub fn known_hosts(&self) -> Utf8PathBuf {
        self.dir().join("known_hosts")
    }

    /// The operator's private key, which every node lets in as root and as [`crate::ORDINARY_USER`].
    #[must_use]
    pub fn ssh_key(&self) -> Utf8PathBuf {
        self.dir().join("ssh_key")
    }

    /// This machine's own address in the lab: where nodes see the operator come from.
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

    /// The node of that name.
    ///
    /// # Errors
    /// [`Error::NoSuchNode`] lists those there are.
    pub fn node(&self, name: &str) -> Result<&Node, Error> {
        self.nodes().iter().find(|node| node.name == name).ok_or_else(|| {
            let nodes: Vec<&str> = self.nodes().iter().map(|node| node.name.as_str()).collect();
            Error::NoSuchNode { lab: self.name().to_owned(), node: name.to_owned(), nodes: nodes.join(", ") }
        })
    }

    /// Every daemon of the lab; [`crate::Process::is_alive`] of its process says whether it runs.
    #[must_use]
    pub fn daemons(&self) -> &[Daemon] {
        &self.state.daemons
    }

    /// Runs the cluster's own kubectl as its administrator and returns what it printed.
    ///
    /// # Errors
    /// [`Error::Command`] with kubectl's stderr when it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, Error> {
        self.kubectl_with(arguments, "")
    }

    /// [`Lab::kubectl`] with something on stdin, for `-f -`.
    ///
    /// # Errors
    /// As [`Lab::kubectl`].
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String, Error> {
        bringup::kubectl(&self.state, arguments, input.as_bytes())?.success(format!("kubectl {}", arguments.join(" ")))
    }

    /// Runs a program on a node, as its root, to its end or until `limit` has passed.
    ///
    /// # Errors
    /// When there is no such node or the program cannot be started; how it ended is in the result.
    pub fn exec(&self, node: &str, program: &[&str], limit: Duration) -> Result<Finished, Error> {
        run(&mut self.command(node, program)?, b"", limit)
    }

    /// A command that runs a program on a node as its root, with a clean environment: for a caller who wants its
    /// streams.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn command<S: AsRef<str>>(&self, node: &str, program: &[S]) -> Result<Command, Error> {
        Ok(node::enter(self.node(node)?, &self.cgroups, false, program))
    }

    fn take_down(&mut self) -> Result<(), Error> {
        Self::down_by_name(&self.state.plan.name)?;
        bury(&mut self.children);
        Ok(())
    }
}

/// A lab that is taken down when it goes out of scope.
#[derive(Debug)]
pub struct ScopedLab(Lab);

impl Deref for ScopedLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
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

/// Waits for children that have been ended, so that none stays a zombie.
fn bury(children: &mut Vec<Child>) {
    for mut child in children.drain(..) {
        let _ = child.wait();
    }
}
