//! What an operator requests of a relay, and the events that the relay sends meanwhile. Both ends are the same program, found by its
//! content, so plain JSON will do.

use std::num::NonZeroUsize;
use std::time::Duration;

use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

use crate::nodes::{Address, Machine, Node, Reach, Runtime};

use crate::push::report::{NodePlan, NodeReport};
use crate::runtime::{Rate, UseHelper};
use crate::transport::{Client, HostKeys, Keyring, SshOptions};

/// A push as a relay carries it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The images by full name, in the order they are sent.
    pub(crate) images: Vec<NamedImage>,
    pub(crate) nodes: Vec<Target>,
    pub(crate) ssh: Hop,
    pub(crate) containerd_namespace: String,
    pub(crate) containerd_address: Option<String>,
    pub(crate) parallel: usize,
    pub(crate) retries: u32,
    pub(crate) helper: UseHelper,
    pub(crate) rate: Option<Rate>,
    pub(crate) rate_per_node: Option<Rate>,
    pub(crate) connections: Option<NonZeroUsize>,
    /// When the push began, by the operator's clock.
    pub(crate) at: String,
    pub(crate) dry_run: bool,
    /// How many bytes the relay's cache may have in the end, in which the images of this push count and stay.
    pub(crate) cache_limit: u64,
}

/// An image by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NamedImage {
    pub(crate) name: String,
    pub(crate) target: Descriptor,
}

/// A node as the relay reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    name: String,
    user: Option<String>,
    host: String,
    port: Option<u16>,
    key_alias: Option<String>,
    ready: Option<bool>,
    machine: Machine,
    architecture: Option<String>,
    runtime: Option<(String, String)>,
}

/// How SSH gets from the relay to the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hop {
    pub(crate) client: Client,
    pub(crate) user: Option<String>,
    pub(crate) options: Vec<String>,
    pub(crate) host_keys: HostKeys,
    pub(crate) connect_timeout: Duration,
    pub(crate) stall_timeout: Duration,
}

/// What happens on a node, by its place in the order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeEvent {
    pub(crate) node: usize,
    #[serde(rename = "what")]
    pub(crate) kind: NodeEventKind,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeEventKind {
    Sending {
        blobs: usize,
        bytes: u64,
        total: u64,
    },
    /// Bytes sent to the node so far.
    Sent(u64),
    WithoutHelper {
        why: String,
    },
    Retrying {
        why: String,
        pause: Duration,
    },
    Finished {
        image: String,
        unpacked: u32,
    },
    Ended {
        succeeded: bool,
    },
    /// How it went, once all is over.
    Outcome(Box<Outcome>),
}

/// How it went on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) report: NodeReport,
    pub(crate) plan: NodePlan,
    pub(crate) blobs_sent: u64,
    pub(crate) elapsed: Duration,
    /// Why it failed, and what to do.
    pub(crate) error: Option<(String, Option<String>)>,
}

impl Target {
    /// The node, unless it is this machine, or is reached in a way of this machine's alone: why not.
    pub(crate) fn of(node: &Node) -> Result<Self, &'static str> {
        let Reach::Ssh(Address { user, host, port, identity, arguments, key_alias }) = &node.reach else {
            return Err("it is this machine, which needs no relay");
        };
        if identity.is_some() || !arguments.is_empty() {
            return Err("the inventory names a key or arguments of ssh's for it, which are this machine's");
        }
        let runtime = node.runtime.clone().map(|Runtime { name, version }| (name, version));
        Ok(Self {
            name: node.name.clone(),
            user: user.clone(),
            host: host.clone(),
            port: *port,
            key_alias: key_alias.clone(),
            ready: node.ready,
            machine: node.machine.clone(),
            architecture: node.architecture.clone(),
            runtime,
        })
    }

    /// The node again.
    pub(crate) fn node(self) -> Node {
        let address = Address { user: self.user, port: self.port, key_alias: self.key_alias, ..Address::of(self.host) };
        Node {
            name: self.name,
            reach: Reach::Ssh(address),
            ready: self.ready,
            machine: self.machine,
            architecture: self.architecture,
            runtime: self.runtime.map(|(name, version)| Runtime { name, version }),
        }
    }
}

impl Hop {
    /// What the user says of SSH, as far as it holds on the relay too: files are this machine's and stay here.
    pub(crate) fn of(options: &SshOptions, further: &[String]) -> Self {
        Self {
            client: Client::Auto,
            user: options.user.clone(),
            options: further.to_vec(),
            host_keys: options.host_keys,
            connect_timeout: options.connect_timeout,
            stall_timeout: options.stall_timeout,
        }
    }

    /// What it comes to on the relay.
    pub(crate) fn options(self) -> SshOptions {
        SshOptions {
            client: self.client,
            user: self.user,
            options: self.options,
            config: None,
            host_keys: self.host_keys,
            connect_timeout: self.connect_timeout,
            stall_timeout: self.stall_timeout,
            keyring: Keyring::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Target;
    use crate::nodes::{Address, Machine, Node, Reach};

    fn node(reach: Reach) -> Node {
        let machine = Machine { machine_id: "0a".repeat(16), boot_id: "1b".repeat(16) };
        let architecture = Some("amd64".into());
        Node { name: "w1".into(), reach, ready: Some(true), machine, architecture, runtime: None }
    }

    #[test]
    fn a_node_comes_out_as_it_went_in() {
        let there = node(Reach::Ssh(Address::parse("ops@10.0.0.5:2222").expect("a host")));
        let text = serde_json::to_string(&Target::of(&there).expect("a target")).expect("JSON");
        assert_eq!(serde_json::from_str::<Target>(&text).expect("a target").node(), there);
    }

    #[test]
    fn what_only_this_machine_reaches_is_refused() {
        assert!(Target::of(&node(Reach::Local)).expect_err("local").contains("this machine"));
        let keyed = Address { identity: Some("/keys/site".into()), ..Address::of("w1".into()) };
        assert!(Target::of(&node(Reach::Ssh(keyed))).expect_err("a key").contains("a key"));
    }
}
