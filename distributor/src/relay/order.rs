//! The order that an operator sends to a relay, and the events that the relay reports. Both ends are the same program,
//! identified by its content, so plain JSON without versioning is sufficient.

use std::num::NonZeroUsize;
use std::time::Duration;

use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

use crate::nodes::{Address, Machine, Node, Reach, Runtime};

use crate::push::report::{NodePlan, NodeReport};
use crate::runtime::{Rate, UseHelper};
use crate::transport::{Client, HostKeys, Keyring, SshOptions};

/// A push for a relay to carry out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The images by full name, in the order in which they are sent.
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
    /// The start time of the push by the operator's clock.
    pub(crate) at: String,
    pub(crate) dry_run: bool,
    /// The maximum size of the relay's cache in bytes. The images of this push count but are never evicted.
    pub(crate) cache_limit: u64,
}

/// An image by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NamedImage {
    pub(crate) name: String,
    pub(crate) target: Descriptor,
}

/// A node and how the relay reaches it.
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

/// The SSH settings for connections from the relay to the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hop {
    pub(crate) client: Client,
    pub(crate) user: Option<String>,
    pub(crate) options: Vec<String>,
    pub(crate) host_keys: HostKeys,
    pub(crate) connect_timeout: Duration,
    pub(crate) stall_timeout: Duration,
}

/// An event of a node, which is identified by its index in the order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeEvent {
    pub(crate) node: usize,
    #[serde(rename = "what")]
    pub(crate) kind: NodeEventKind,
}

/// The kind of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeEventKind {
    Sending {
        blobs: usize,
        bytes: u64,
        total: u64,
    },
    /// The number of bytes sent to the node so far.
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
    /// The result, once the push has ended.
    Outcome(Box<Outcome>),
}

/// The result for one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) report: NodeReport,
    pub(crate) plan: NodePlan,
    pub(crate) blobs_sent: u64,
    pub(crate) elapsed: Duration,
    /// The error message and its help text.
    pub(crate) error: Option<(String, Option<String>)>,
}

impl Target {
    /// Converts a node. Returns the reason if the node is this machine, or if only this machine can reach it.
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

    /// Converts back to a node.
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
    /// Returns the SSH options that also apply on the relay. Options that name files refer to this machine and are left
    /// out.
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

    /// Converts to SSH options on the relay.
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
