//! The nodes that a command works on, and how each is reached. They are read from the Kubernetes API or from an Ansible
//! inventory, or are given on the command line. Uses `crate::cluster` alone.

pub mod ansible;
mod api;
mod choice;
mod local;
mod machine;
mod reach;
mod selector;
#[cfg(test)]
mod tests;

use miette::Diagnostic;
use thiserror::Error;

use crate::cluster;
pub use api::from_api;
pub(crate) use api::meant;
pub use choice::Choice;
pub(crate) use choice::{Role, role};
pub use machine::Machine;
pub use reach::{Address, Reach};

/// A Kubernetes node as a push sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name: the API's, the inventory's, or the host as it was given.
    pub name: String,
    /// How commands get there.
    pub reach: Reach,
    /// Whether the API calls it Ready; unknown for a host given by hand.
    pub ready: Option<bool>,
    /// Which machine it is, where the API says it.
    pub machine: Machine,
    /// Its processor as OCI names it, where the API says it.
    pub architecture: Option<String>,
    /// Its container runtime, where the API says it.
    pub runtime: Option<Runtime>,
}

/// A container runtime, from a node's status (`containerd://1.6.20`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// `containerd`, `cri-o`, `docker`.
    pub name: String,
    /// Its version as it says it.
    pub version: String,
}

/// Why there are no nodes to push to.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The API does not list its nodes.
    #[error(transparent)]
    #[diagnostic(transparent)]
    List(#[from] cluster::Error),
    /// The inventory cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Inventory(#[from] ansible::Error),
    /// No node has a given name.
    #[error("there is no node {}", missing.join(", "))]
    #[diagnostic(help("there are {}", known.join(", ")))]
    Missing {
        /// The names given.
        missing: Vec<String>,
        /// The names there are.
        known: Vec<String>,
    },
    /// A node was named that the selector leaves out.
    #[error("{} {} not match {selector}", names.join(", "), if names.len() == 1 { "does" } else { "do" })]
    #[diagnostic(help("with --nodes and --selector a node must satisfy both: see `kubectl get nodes --show-labels`"))]
    Unselected {
        /// The nodes.
        names: Vec<String>,
        /// The selector.
        selector: String,
    },
    /// A node was named that our images do not run on.
    #[error("{name} {why}")]
    #[diagnostic(help("leave it out of --nodes"))]
    Foreign {
        /// The node.
        name: String,
        /// Why they do not.
        why: String,
    },
    /// A label selector that is none.
    #[error("reading the selector {selector:?}: {why}")]
    #[diagnostic(help("write it as for `kubectl get nodes -l`"))]
    Selector {
        /// What was given.
        selector: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing is left to push to.
    #[error("no worker {}", match selector {
        Some(selector) => format!("matches {selector}"),
        None => "is left".to_owned(),
    })]
    #[diagnostic(help(
        "nodes of the control plane are left out unless --include-control-plane is given or they are named with \
         --nodes, nodes that run etcd alone unless they are named, and virtual nodes and those that do not run linux always; \
         --exclude leaves out more"
    ))]
    NoWorker {
        /// The selector that was asked for.
        selector: Option<String>,
    },
    /// A host that ssh would take for something else.
    #[error("{host:?} is not a valid host")]
    #[diagnostic(help(
        "give an address or a name that ssh knows, as [USER@]HOST[:PORT]; an IPv6 address with a port as [::1]:22"
    ))]
    BadHost {
        /// What was given.
        host: String,
    },
}

/// Notes by what name a node's host keys are known.
fn know(node: &mut Node, choice: &Choice) {
    if let Reach::Ssh(address) = &mut node.reach {
        address.key_alias = choice.keys_by_name.then(|| node.name.clone());
    }
}

/// Notes whether a node is the machine this runs on.
fn place(node: &mut Node) {
    if local::is_this_node(node) {
        tracing::info!("{} is this machine", node.name);
        node.reach = Reach::Local;
    }
}

/// The nodes behind hosts given by hand; a host that is given twice is one. Those that differ by port or user alone are named with
/// these, so that no two have the same name. `bare` says that nothing else was said about how to reach hosts: only then does a
/// loopback address mean this machine, for it may as well be a forwarded port.
///
/// # Errors
/// When ssh would not take one for a host.
pub fn from_hosts(hosts: &[String], bare: bool) -> Result<Vec<Node>, Error> {
    let mut addresses: Vec<Address> = Vec::new();
    for host in hosts {
        let address = Address::parse(host).ok_or_else(|| Error::BadHost { host: host.clone() })?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let names: Vec<[String; 3]> = addresses.iter().map(Address::names).collect();
    let name_of = |names_of_one: &[String; 3]| {
        let alone = |level: &usize| names.iter().filter(|other| other[*level] == names_of_one[*level]).count() == 1;
        let level = (0..names_of_one.len()).find(alone).unwrap_or(names_of_one.len() - 1);
        names_of_one[level].clone()
    };
    Ok(addresses
        .iter()
        .zip(&names)
        .map(|(address, names)| from_address(name_of(names), address.clone(), bare))
        .collect())
}

/// The nodes of an inventory: those hosts that were chosen when it was read. `choice` says by what their host keys are known.
///
/// # Errors
/// When there are none.
pub fn from_inventory(hosts: Vec<ansible::Host>, choice: &Choice) -> Result<Vec<Node>, Error> {
    let mut nodes: Vec<Node> = hosts
        .into_iter()
        .map(|host| match host.reach {
            Reach::Ssh(address) => from_address(host.name, address, false),
            Reach::Local => by_hand(host.name, Reach::Local),
        })
        .collect();
    nodes.iter_mut().for_each(|node| know(node, choice));
    if nodes.is_empty() { Err(Error::NoWorker { selector: None }) } else { Ok(nodes) }
}

fn from_address(name: String, address: Address, bare: bool) -> Node {
    let here = local::is_this_machine(&address, bare);
    by_hand(name, if here { Reach::Local } else { Reach::Ssh(address) })
}

fn by_hand(name: String, reach: Reach) -> Node {
    Node { name, reach, ready: None, machine: Machine::default(), architecture: None, runtime: None }
}
