//! Which nodes a push goes to, and how each is reached: read from the Kubernetes API, or given by hand.
//! Choosing among them is a function of the API's answer alone.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node as ApiNode, NodeAddress};
use kube::api::{Api, ListParams};
use miette::Diagnostic;
use thiserror::Error;
use vcmanifests::workloads::CONTROL_PLANE_LABELS;

use crate::cluster::{self, Cluster};

/// The addresses a node is reached at, best first.
const ADDRESS_TYPES: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];

/// A Kubernetes node as a push sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name: the API's, or the host as it was given.
    pub name: String,
    /// What ssh is given: an address, or `[USER@]HOST`.
    pub host: String,
    /// Whether the API calls it Ready; unknown for a host given by hand.
    pub ready: Option<bool>,
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

/// Which of a cluster's nodes are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// These only, whatever their role; all workers when empty.
    pub names: Vec<String>,
    /// Those a label selector of Kubernetes picks.
    pub selector: Option<String>,
}

/// Why there are no nodes to push to.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The API does not list its nodes.
    #[error(transparent)]
    #[diagnostic(transparent)]
    List(#[from] cluster::Error),
    /// A name was given that the cluster lacks.
    #[error("the cluster has no node {}", missing.join(", "))]
    #[diagnostic(help("it has {}", known.join(", ")))]
    Missing {
        /// The names given.
        missing: Vec<String>,
        /// The names there are.
        known: Vec<String>,
    },
    /// Nothing is left to push to.
    #[error("no worker {}", match selector {
        Some(selector) => format!("matches {selector}"),
        None => "in this cluster".to_owned(),
    })]
    #[diagnostic(help("control-plane nodes are left out: name them with --nodes if they are meant"))]
    NoWorker {
        /// The selector that was asked for.
        selector: Option<String>,
    },
    /// A host that ssh would take for something else.
    #[error("{host:?} is no host")]
    #[diagnostic(help("give an address or a name that ssh knows, as HOST or USER@HOST"))]
    BadHost {
        /// What was given.
        host: String,
    },
}

/// Asks the API for the nodes that `choice` means.
///
/// # Errors
/// When the API does not answer, a name is unknown, or no node is left.
pub async fn from_api(cluster: &Cluster, choice: &Choice) -> Result<Vec<Node>, Error> {
    let api: Api<ApiNode> = Api::all(cluster.client());
    let mut query = ListParams::default();
    if let Some(selector) = &choice.selector {
        query = query.labels(selector);
    }
    let list = api.list(&query).await.map_err(|error| cluster.failed("listing the cluster's nodes", error))?;
    choose(&list.items, choice)
}

/// The node behind a host given by hand.
///
/// # Errors
/// When ssh would not take it for a host.
pub fn from_host(host: &str) -> Result<Node, Error> {
    let bare = host.rsplit_once('@').map_or(host, |(_, bare)| bare);
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if bare.is_empty() || host.starts_with(['-', '@']) || bare.starts_with('-') || host.contains(odd) {
        return Err(Error::BadHost { host: host.into() });
    }
    Ok(Node { name: bare.into(), host: host.into(), ready: None, architecture: None, runtime: None })
}

fn choose(items: &[ApiNode], choice: &Choice) -> Result<Vec<Node>, Error> {
    let name = |node: &ApiNode| node.metadata.name.clone().unwrap_or_default();
    let known: BTreeSet<String> = items.iter().map(name).collect();
    let missing: Vec<String> = choice.names.iter().filter(|name| !known.contains(*name)).cloned().collect();
    if !missing.is_empty() {
        return Err(Error::Missing { missing, known: known.into_iter().collect() });
    }
    let meant = |node: &&ApiNode| match choice.names.as_slice() {
        [] => !is_control_plane(node),
        names => names.contains(&name(node)),
    };
    let mut nodes: Vec<Node> = items.iter().filter(meant).map(read).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    if nodes.is_empty() { Err(Error::NoWorker { selector: choice.selector.clone() }) } else { Ok(nodes) }
}

/// Whether a node is one of the control plane, by its labels or its taints: today's, or those before Kubernetes 1.24.
pub(crate) fn is_control_plane(node: &ApiNode) -> bool {
    let labelled = node.metadata.labels.iter().flatten().any(|(key, _)| CONTROL_PLANE_LABELS.contains(&key.as_str()));
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    labelled || taints.into_iter().any(|taint| CONTROL_PLANE_LABELS.contains(&taint.key.as_str()))
}

fn read(node: &ApiNode) -> Node {
    let name = node.metadata.name.clone().unwrap_or_default();
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let info = status.and_then(|status| status.node_info.as_ref());
    Node {
        host: address(addresses).unwrap_or_else(|| name.clone()),
        ready: Some(conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")),
        architecture: info.map(|info| info.architecture.clone()),
        runtime: info
            .and_then(|info| info.container_runtime_version.split_once("://"))
            .map(|(name, version)| Runtime { name: name.into(), version: version.into() }),
        name,
    }
}

fn address(addresses: &[NodeAddress]) -> Option<String> {
    ADDRESS_TYPES.iter().find_map(|kind| addresses.iter().find(|a| a.type_ == *kind)).map(|a| a.address.clone())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node as ApiNode;
    use serde_json::{Value, json};

    use super::{Choice, Error, choose, from_host};

    fn node(name: &str, addresses: &Value, extra: &Value) -> ApiNode {
        let mut node = json!({
            "metadata": {"name": name},
            "status": {
                "addresses": addresses,
                "conditions": [{"type": "Ready", "status": "True"}],
                "nodeInfo": {
                    "architecture": "amd64", "containerRuntimeVersion": "containerd://1.6.20~ds1", "bootID": "",
                    "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "",
                    "operatingSystem": "linux", "osImage": "", "systemUUID": "",
                },
            },
        });
        for (key, value) in extra.as_object().expect("an object") {
            node["metadata"][key] = value.clone();
            if key == "taints" {
                node["spec"]["taints"] = value.clone();
            }
        }
        serde_json::from_value(node).expect("a node")
    }

    fn cluster() -> Vec<ApiNode> {
        let ip = |ip: &str| json!([{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": ip}]);
        vec![
            node("w2", &ip("10.0.0.3"), &json!({})),
            node(
                "w1",
                &json!([{"type": "Hostname", "address": "w1.lan"}, {"type": "ExternalIP", "address": "8.8.4.4"}]),
                &json!({}),
            ),
            node("cp", &ip("10.0.0.1"), &json!({"labels": {"node-role.kubernetes.io/control-plane": ""}})),
            node("old", &ip("10.0.0.9"), &json!({"labels": {"node-role.kubernetes.io/master": ""}})),
            node(
                "hidden",
                &ip("10.0.0.8"),
                &json!({"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}),
            ),
        ]
    }

    #[test]
    fn workers_are_the_nodes_without_the_control_planes_labels_and_taints() {
        let nodes = choose(&cluster(), &Choice::default()).expect("workers");
        let seen: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.host.as_str())).collect();
        assert_eq!(seen, [("w1", "8.8.4.4"), ("w2", "10.0.0.3")]);
        let runtime = nodes[0].runtime.clone().expect("runtime");
        assert_eq!((runtime.name.as_str(), runtime.version.as_str()), ("containerd", "1.6.20~ds1"));
        assert_eq!(nodes[0].ready, Some(true));
    }

    #[test]
    fn a_node_that_is_named_is_meant_whatever_its_role() {
        let names = |names: &[&str]| Choice { names: names.iter().map(ToString::to_string).collect(), selector: None };
        let nodes = choose(&cluster(), &names(&["cp"])).expect("the control plane");
        assert_eq!(nodes[0].host, "10.0.0.1");
        match choose(&cluster(), &names(&["w1", "w7"])) {
            Err(Error::Missing { missing, known }) => assert_eq!((missing.len(), known.len()), (1, 5)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(choose(&cluster()[2..], &Choice::default()), Err(Error::NoWorker { .. })));
    }

    #[test]
    fn a_node_without_addresses_is_reached_by_its_name() {
        let nodes = choose(&[node("alone", &json!([]), &json!({}))], &Choice::default()).expect("a worker");
        assert_eq!(nodes[0].host, "alone");
    }

    #[test]
    fn hosts_that_ssh_would_read_as_options_are_refused() {
        for bad in ["", "-oProxyCommand=x", "ops@-x", "@host", "ops@", "a b"] {
            assert!(matches!(from_host(bad), Err(Error::BadHost { .. })), "{bad}");
        }
        let node = from_host("ops@10.0.0.5").expect("a host");
        assert_eq!((node.name.as_str(), node.host.as_str()), ("10.0.0.5", "ops@10.0.0.5"));
    }
}
