//! The nodes that a command works on, and how each is reached. They are read from the Kubernetes API or from an Ansible
//! inventory, or are given on the command line. Uses only `crate::cluster`.

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

/// A Kubernetes node as a push uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name in the API or in the inventory, or the host from the command line.
    pub name: String,
    /// How it is reached.
    pub reach: Reach,
    /// Whether the API reports it as Ready; `None` for a host that does not come from the API.
    pub ready: Option<bool>,
    /// Its identity, if the API reports it.
    pub machine: Machine,
    /// Its architecture in the form of OCI, if the API reports it.
    pub architecture: Option<String>,
    /// Its container runtime, if the API reports it.
    pub runtime: Option<Runtime>,
}

/// A container runtime, from a node's status (`containerd://1.6.20`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// `containerd`, `cri-o`, `docker`.
    pub name: String,
    /// Its version as reported.
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
    /// There is no node with a requested name.
    #[error("there is no node {}", missing.join(", "))]
    #[diagnostic(help("there are {}", known.join(", ")))]
    Missing {
        /// The names that are missing.
        missing: Vec<String>,
        /// The names that exist.
        known: Vec<String>,
    },
    /// The selector excludes a requested node.
    #[error("{} {} not match {selector}", names.join(", "), if names.len() == 1 { "does" } else { "do" })]
    #[diagnostic(help("with --nodes and --selector a node must satisfy both: see `kubectl get nodes --show-labels`"))]
    Unselected {
        /// The nodes.
        names: Vec<String>,
        /// The selector.
        selector: String,
    },
    /// The images cannot run on a requested node.
    #[error("{name} {why}")]
    #[diagnostic(help("leave it out of --nodes"))]
    Foreign {
        /// The node.
        name: String,
        /// The reason.
        why: String,
    },
    /// The label selector is invalid.
    #[error("reading the selector {selector:?}: {why}")]
    #[diagnostic(help("write it as for `kubectl get nodes -l`"))]
    Selector {
        /// The selector.
        selector: String,
        /// The reason.
        why: String,
    },
    /// No node is left to push to.
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
        /// The requested selector.
        selector: Option<String>,
    },
    /// ssh would not interpret the host as one.
    #[error("{host:?} is not a valid host")]
    #[diagnostic(help(
        "give an address or a name that ssh knows, as [USER@]HOST[:PORT]; an IPv6 address with a port as [::1]:22"
    ))]
    BadHost {
        /// The host.
        host: String,
    },
}

/// Sets the name under which a node's host keys are looked up.
fn know(node: &mut Node, choice: &Choice) {
    if let Reach::Ssh(address) = &mut node.reach {
        address.key_alias = choice.keys_by_name.then(|| node.name.clone());
    }
}

/// Marks a node as local if it is the machine on which this program runs.
fn place(node: &mut Node) {
    if local::is_this_node(node) {
        tracing::info!("{} is this machine", node.name);
        node.reach = Reach::Local;
    }
}

/// Returns the nodes for hosts from the command line, without duplicates. Hosts that differ only in port or user are
/// named with these, so that names are unique. `bare` means that no other option about reaching hosts is given: only
/// then does a loopback address mean this machine, because otherwise it may be a forwarded port.
///
/// # Errors
/// Returns an error if ssh would not interpret a host as one.
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

/// Returns the nodes for the hosts of an inventory, which were selected when it was read. `choice` determines the name
/// under which their host keys are looked up.
///
/// # Errors
/// Returns an error if there are none.
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
