//! Which nodes a push goes to, and how each is reached: read from the Kubernetes API, from an inventory of Ansible's, or
//! given by hand. Choosing among them is a function of what was read alone.

pub mod ansible;
mod here;
mod machine;
mod reach;
mod selector;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node as ApiNode, NodeAddress};
use kube::api::{Api, ListParams};
use miette::Diagnostic;
use thiserror::Error;
use vcmanifests::Placement;
use vcmanifests::workloads::{CONTROL_PLANE_LABELS, ETCD_LABEL, OS_LABEL, VIRTUAL_NODE_LABEL};
use vcremote::destination;

use crate::cluster::{self, Cluster};
pub use machine::Machine;
pub use reach::{Address, Reach};

/// The addresses a node is reached at, best first.
const ADDRESS_TYPES: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];

/// The taint of virtual kubelets.
const VIRTUAL_NODE_TAINT: &str = "virtual-kubelet.io/provider";

/// The operating system our images are for.
const LINUX: &str = "linux";

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

/// Which of the nodes are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// These only, whatever their role; all workers when empty.
    pub names: Vec<String>,
    /// Not these.
    pub exclude: Vec<String>,
    /// Those a label selector of Kubernetes picks.
    pub selector: Option<String>,
    /// The control plane's nodes too.
    pub include_control_plane: bool,
    /// Host keys are known by the nodes' names, and not by their addresses.
    pub keys_by_name: bool,
}

/// What a node is to VirtualCluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// Our images and workloads go there.
    Worker,
    /// Marked as one of the control plane.
    ControlPlane,
    /// It runs etcd and nothing else, as RKE's and RKE2's dedicated nodes do.
    Etcd,
    /// There is no machine behind it: a virtual kubelet hands its pods to something else.
    Virtual,
    /// It runs this operating system, for which there are no images of ours.
    Foreign(String),
}

impl Role {
    /// Why our images have no place on a node of this role, if they have none.
    fn obstacle(&self) -> Option<String> {
        match self {
            Self::Worker | Self::ControlPlane | Self::Etcd => None,
            Self::Virtual => Some("is a virtual node, behind which there is no machine".to_owned()),
            Self::Foreign(os) => Some(format!("runs {os}, and the images are for linux")),
        }
    }
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
    /// A name was given that there is no node of.
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

/// Asks the API for the nodes that `choice` means.
///
/// # Errors
/// When the API does not answer, a name is unknown, or no node is left.
pub async fn from_api(cluster: &Cluster, choice: &Choice) -> Result<Vec<Node>, Error> {
    let api: Api<ApiNode> = Api::all(cluster.client());
    let failed = |error| cluster.failed("listing the cluster's nodes", error);
    // All of them, whatever is selected: a node that is named and not selected is there nonetheless.
    let all = api.list(&ListParams::default()).await.map_err(failed)?;
    let selected = match &choice.selector {
        Some(selector) => {
            let list = api.list(&ListParams::default().labels(selector)).await.map_err(failed)?;
            Some(list.items.iter().map(name).collect())
        }
        None => None,
    };
    let mut nodes = choose(&all.items, selected.as_ref(), choice)?;
    nodes.iter_mut().for_each(place);
    Ok(nodes)
}

/// The node that the API tells of, where `choice` means it; its selector is not looked at.
pub(crate) fn meant(api: &ApiNode, choice: &Choice) -> Option<Node> {
    let role = role(api);
    let chosen = role.obstacle().is_none() && !choice.exclude.contains(&name(api)) && means(choice, api, &role);
    let mut node = chosen.then(|| read(api))?.ok()?;
    know(&mut node, choice);
    place(&mut node);
    Some(node)
}

/// Notes by what name a node's host keys are known.
fn know(node: &mut Node, choice: &Choice) {
    if let Reach::Ssh(address) = &mut node.reach {
        address.key_alias = choice.keys_by_name.then(|| node.name.clone());
    }
}

/// Notes whether a node is the machine this runs on.
fn place(node: &mut Node) {
    if here::is_this_node(node) {
        tracing::info!("{} is this machine", node.name);
        node.reach = Reach::Local;
    }
}

/// Whether a node for our images is one of those that are named, or else of the role that is meant.
fn means(choice: &Choice, node: &ApiNode, role: &Role) -> bool {
    if choice.names.is_empty() {
        *role == Role::Worker || (*role == Role::ControlPlane && choice.include_control_plane)
    } else {
        choice.names.contains(&name(node))
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
    let here = here::is_this_machine(&address, bare);
    by_hand(name, if here { Reach::Local } else { Reach::Ssh(address) })
}

fn by_hand(name: String, reach: Reach) -> Node {
    Node { name, reach, ready: None, machine: Machine::default(), architecture: None, runtime: None }
}

fn choose(items: &[ApiNode], selected: Option<&BTreeSet<String>>, choice: &Choice) -> Result<Vec<Node>, Error> {
    let known: BTreeSet<String> = items.iter().map(name).collect();
    check_names(&known, choice)?;
    if let (Some(selected), Some(selector)) = (selected, &choice.selector) {
        let names: Vec<String> = choice.names.iter().filter(|name| !selected.contains(*name)).cloned().collect();
        if !names.is_empty() {
            return Err(Error::Unselected { names, selector: selector.clone() });
        }
    }
    let mut nodes = Vec::new();
    for item in items.iter().filter(|item| !choice.exclude.contains(&name(item))) {
        let named = choice.names.contains(&name(item));
        let role = role(item);
        let meant = match role.obstacle() {
            Some(why) if named => return Err(Error::Foreign { name: name(item), why }),
            Some(_) => false,
            None => means(choice, item, &role),
        };
        if meant && selected.is_none_or(|selected| selected.contains(&name(item))) {
            let mut node = read_among(items, item)?;
            know(&mut node, choice);
            nodes.push(node);
        }
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    if nodes.is_empty() { Err(Error::NoWorker { selector: choice.selector.clone() }) } else { Ok(nodes) }
}

fn check_names(known: &BTreeSet<String>, choice: &Choice) -> Result<(), Error> {
    let missing = choice.missing(known);
    if missing.is_empty() { Ok(()) } else { Err(Error::Missing { missing, known: known.iter().cloned().collect() }) }
}

impl Choice {
    /// The names it has that are none of those known.
    fn missing(&self, known: &BTreeSet<String>) -> Vec<String> {
        let named = self.names.iter().chain(&self.exclude);
        named.filter(|name| !known.contains(*name)).cloned().collect()
    }

    /// Whether a node of the API is meant, by its name, role and labels; its selector is a valid one.
    pub(crate) fn covers(&self, node: &ApiNode) -> bool {
        let (role, labels) = (role(node), node.metadata.labels.clone().unwrap_or_default());
        let required =
            self.selector.as_deref().map(selector::requirements).transpose().ok().flatten().unwrap_or_default();
        role.obstacle().is_none()
            && !self.exclude.contains(&name(node))
            && means(self, node, &role)
            && required.iter().all(|one| selector::meets(&labels, one))
    }

    /// Checks it against all nodes of a cluster.
    ///
    /// # Errors
    /// When its selector is not valid, or it names a node that there is not.
    pub(crate) fn check(&self, all: &[ApiNode]) -> Result<(), Error> {
        self.placement()?;
        check_names(&all.iter().map(name).collect(), self)
    }

    /// The same choice for what is rolled out.
    ///
    /// # Errors
    /// When its selector is none.
    pub(crate) fn placement(&self) -> Result<Placement, Error> {
        let read = |selector: &String| {
            selector::requirements(selector).map_err(|why| Error::Selector { selector: selector.clone(), why })
        };
        Ok(Placement {
            names: self.names.clone(),
            exclude: self.exclude.clone(),
            requirements: self.selector.as_ref().map(read).transpose()?.unwrap_or_default(),
            include_control_plane: self.include_control_plane,
        })
    }

    /// Whether it means a host of which only the name is known.
    fn means(&self, name: &str) -> bool {
        let is = |one: &String| one == name;
        (self.names.is_empty() || self.names.iter().any(is)) && !self.exclude.iter().any(is)
    }
}

/// What a node is to us, by its labels, its taints (today's, or those before Kubernetes 1.24) and its operating system.
pub(crate) fn role(node: &ApiNode) -> Role {
    let label = node.metadata.labels.iter().flatten().find(|(key, _)| *key == OS_LABEL).map(|(_, os)| os.as_str());
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    let os = label.or(info.map(|info| info.operating_system.as_str())).filter(|os| !os.is_empty());
    if let Some(os) = os.filter(|os| *os != LINUX) {
        return Role::Foreign(os.to_owned());
    }
    let labels = node.metadata.labels.iter().flatten();
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).map(|taint| taint.key.as_str());
    let marks: BTreeSet<&str> = labels.clone().map(|(key, _)| key.as_str()).chain(taints).collect();
    let (label, value) = VIRTUAL_NODE_LABEL;
    if labels.into_iter().any(|(key, has)| key == label && has == value) || marks.contains(VIRTUAL_NODE_TAINT) {
        Role::Virtual
    } else if CONTROL_PLANE_LABELS.iter().any(|mark| marks.contains(mark)) {
        Role::ControlPlane
    } else if marks.contains(ETCD_LABEL) {
        Role::Etcd
    } else {
        Role::Worker
    }
}

/// A node with an address that no other of the cluster's nodes reports. Virtual machines of one make often have the same address
/// each, on a network of their own: whoever answered there would be taken for all of them. The address of a node that is not ready
/// may be another's by now.
fn read_among(all: &[ApiNode], node: &ApiNode) -> Result<Node, Error> {
    let mut read = read(node)?;
    let addresses =
        |node: &ApiNode| node.status.iter().flat_map(|status| status.addresses.iter().flatten().cloned()).collect();
    let others: BTreeSet<String> = all
        .iter()
        .filter(|other| name(other) != read.name && is_ready(other))
        .flat_map(|other| -> Vec<NodeAddress> { addresses(other) })
        .map(|address| address.address)
        .collect();
    let Reach::Ssh(first) = &read.reach else { return Ok(read) };
    if others.contains(&first.host) {
        let own: Vec<NodeAddress> =
            addresses(node).into_iter().filter(|one: &NodeAddress| !others.contains(&one.address)).collect();
        let host = address(&read.name, &own).unwrap_or_else(|| read.name.clone());
        tracing::warn!("{} shares the address {} with another node; it is reached as {host}", read.name, first.host);
        read.reach = Reach::Ssh(Address::of(host));
    }
    Ok(read)
}

fn read(node: &ApiNode) -> Result<Node, Error> {
    let name = name(node);
    if !destination::is_address_or_dns_name(&name) {
        return Err(Error::BadHost { host: name });
    }
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let info = status.and_then(|status| status.node_info.as_ref());
    Ok(Node {
        reach: Reach::Ssh(Address::of(address(&name, addresses).unwrap_or_else(|| name.clone()))),
        ready: Some(is_ready(node)),
        machine: info
            .map(|info| Machine { machine_id: info.machine_id.clone(), boot_id: info.boot_id.clone() })
            .unwrap_or_default(),
        architecture: info.map(|info| info.architecture.clone()),
        runtime: info
            .and_then(|info| info.container_runtime_version.split_once("://"))
            .map(|(name, version)| Runtime { name: name.into(), version: version.into() }),
        name,
    })
}

fn name(node: &ApiNode) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

fn is_ready(node: &ApiNode) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The best of a node's addresses. What a node says of itself is no user, port or option of ssh's: anything but an address or a
/// name is passed over.
fn address(name: &str, addresses: &[NodeAddress]) -> Option<String> {
    let best_first = ADDRESS_TYPES.iter().flat_map(|kind| addresses.iter().filter(move |one| one.type_ == *kind));
    let (sound, bad): (Vec<_>, Vec<_>) = best_first.partition(|one| destination::is_address_or_dns_name(&one.address));
    for NodeAddress { address, type_ } in bad {
        tracing::warn!("{name}: its {type_} {address:?} is neither an address nor a name, and is passed over");
    }
    sound.first().map(|one| one.address.clone())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node as ApiNode;
    use serde_json::{Value, json};

    use super::{Choice, Error, Node, Reach, choose, from_hosts};

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

    fn host(node: &Node) -> &str {
        match &node.reach {
            Reach::Ssh(address) => &address.host,
            Reach::Local => "here",
        }
    }

    fn all(items: &[ApiNode], choice: &Choice) -> Result<Vec<String>, Error> {
        choose(items, None, choice).map(|nodes| nodes.into_iter().map(|node| node.name).collect())
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn workers_are_the_nodes_without_the_control_planes_labels_and_taints() {
        let nodes = choose(&cluster(), None, &Choice::default()).expect("workers");
        let seen: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), host(node))).collect();
        assert_eq!(seen, [("w1", "8.8.4.4"), ("w2", "10.0.0.3")]);
        let runtime = nodes[0].runtime.clone().expect("runtime");
        assert_eq!((runtime.name.as_str(), runtime.version.as_str()), ("containerd", "1.6.20~ds1"));
        assert_eq!(nodes[0].ready, Some(true));
    }

    #[test]
    fn what_a_node_says_of_its_address_is_an_address_or_a_name_and_nothing_else() {
        let reached = |addresses: serde_json::Value| {
            let nodes = choose(&[node("w1", &addresses, &json!({}))], None, &Choice::default()).expect("a worker");
            let Reach::Ssh(address) = &nodes[0].reach else { panic!("{nodes:?}") };
            assert_eq!((&address.user, address.port, address.is_sound()), (&None, None, true));
            address.host.clone()
        };
        for bad in [
            "root@10.0.0.5",
            "-oProxyCommand=reboot",
            "10.0.0.5:22",
            "[fd00::5]",
            "fe80::1%eth0",
            "ssh://root@w2",
            "a b",
            "",
            "w2;x",
            "w2\n",
            "\u{1b}[2Jw2",
            "*",
        ] {
            let one = |kind: &str, address: &str| json!({"type": kind, "address": address});
            assert_eq!(reached(json!([one("InternalIP", bad), one("ExternalIP", "8.8.4.4")])), "8.8.4.4", "{bad:?}");
            assert_eq!(reached(json!([one("InternalIP", bad), one("InternalIP", "10.0.0.7")])), "10.0.0.7", "{bad:?}");
            assert_eq!(reached(json!([one("Hostname", bad)])), "w1", "{bad:?}");
        }
        assert_eq!(reached(json!([{"type": "InternalIP", "address": "fd00::5"}])), "fd00::5");
        for bad in ["-v", "root@w1", "a b", ""] {
            let nodes = choose(&[node(bad, &json!([]), &json!({}))], None, &Choice::default());
            assert!(matches!(nodes, Err(Error::BadHost { .. })), "{bad:?}: {nodes:?}");
        }
    }

    #[test]
    fn host_keys_are_known_by_addresses_unless_asked_otherwise() {
        let aliases = |keys_by_name| {
            let nodes = choose(&cluster(), None, &Choice { keys_by_name, ..Choice::default() }).expect("workers");
            nodes.into_iter().map(|node| match node.reach {
                Reach::Ssh(address) => address.key_alias,
                Reach::Local => None,
            })
        };
        assert!(aliases(false).all(|alias| alias.is_none()));
        assert_eq!(aliases(true).flatten().collect::<Vec<_>>(), ["w1", "w2"]);
    }

    #[test]
    fn a_node_that_is_named_is_meant_whatever_its_role() {
        let names = |names: &[&str]| Choice { names: strings(names), ..Choice::default() };
        assert_eq!(all(&cluster(), &names(&["cp"])).expect("the control plane"), ["cp"]);
        match all(&cluster(), &names(&["w1", "w7"])) {
            Err(Error::Missing { missing, known }) => assert_eq!((missing.len(), known.len()), (1, 5)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(all(&cluster()[2..], &Choice::default()), Err(Error::NoWorker { .. })));
    }

    #[test]
    fn nodes_are_left_out_and_the_control_plane_is_taken_in_on_request() {
        let exclude = Choice { exclude: strings(&["w1"]), ..Choice::default() };
        assert_eq!(all(&cluster(), &exclude).expect("workers"), ["w2"]);
        let every = Choice { include_control_plane: true, ..exclude.clone() };
        assert_eq!(all(&cluster(), &every).expect("nodes"), ["cp", "hidden", "old", "w2"]);
        let unknown = all(&cluster(), &Choice { exclude: strings(&["w7"]), ..Choice::default() });
        assert_eq!(unknown.expect_err("unknown").to_string(), "there is no node w7");
        let none = all(&cluster(), &Choice { exclude: strings(&["w1", "w2"]), ..Choice::default() });
        assert_eq!(none.expect_err("none").to_string(), "no worker is left");
    }

    #[test]
    fn a_named_node_that_the_selector_leaves_out_is_said_to_be_so_and_not_absent() {
        let selected = strings(&["w2", "cp"]).into_iter().collect();
        let choice =
            |names: &[&str]| Choice { names: strings(names), selector: Some("a=b".into()), ..Choice::default() };
        let names = |nodes: Vec<Node>| nodes.into_iter().map(|node| node.name).collect::<Vec<_>>();
        assert_eq!(names(choose(&cluster(), Some(&selected), &choice(&[])).expect("one")), ["w2"]);
        assert_eq!(names(choose(&cluster(), Some(&selected), &choice(&["cp"])).expect("one")), ["cp"]);
        let error = choose(&cluster(), Some(&selected), &choice(&["w1", "w2"])).expect_err("w1 is not selected");
        assert_eq!(error.to_string(), "w1 does not match a=b");
        let nowhere = std::collections::BTreeSet::new();
        let error = choose(&cluster(), Some(&nowhere), &choice(&[])).expect_err("none");
        assert_eq!(error.to_string(), "no worker matches a=b");
    }

    #[test]
    fn nodes_that_run_windows_are_no_workers() {
        let mut nodes = cluster();
        nodes.push(node("win", &json!([]), &json!({"labels": {"kubernetes.io/os": "windows"}})));
        let mut unlabelled = node("win2", &json!([]), &json!({}));
        unlabelled.status.as_mut().and_then(|status| status.node_info.as_mut()).expect("info").operating_system =
            "windows".into();
        nodes.push(unlabelled);
        let every = Choice { include_control_plane: true, ..Choice::default() };
        assert_eq!(all(&nodes, &Choice::default()).expect("workers"), ["w1", "w2"]);
        assert_eq!(all(&nodes, &every).expect("nodes").len(), 5);
        let named = all(&nodes, &Choice { names: strings(&["win2"]), ..Choice::default() });
        assert_eq!(named.expect_err("windows").to_string(), "win2 runs windows, and the images are for linux");
    }

    #[test]
    fn nodes_that_are_nobodys_workers_are_left_out() {
        let ip = |ip: &str| json!([{"type": "InternalIP", "address": ip}]);
        let taint = |key: &str| json!({"taints": [{"key": key, "effect": "NoSchedule"}]});
        let nodes = [
            node("w", &ip("10.0.0.1"), &json!({})),
            node("etcd", &ip("10.0.0.2"), &json!({"labels": {"node-role.kubernetes.io/etcd": "true"}})),
            node("etcd2", &ip("10.0.0.3"), &taint("node-role.kubernetes.io/etcd")),
            node("rke1", &ip("10.0.0.4"), &json!({"labels": {"node-role.kubernetes.io/controlplane": "true"}})),
            node(
                "server",
                &ip("10.0.0.5"),
                &json!({"labels": {"node-role.kubernetes.io/etcd": "true", "node-role.kubernetes.io/master": "true"}}),
            ),
            node("vk", &ip("10.0.0.6"), &json!({"labels": {"type": "virtual-kubelet"}})),
            node("vk2", &ip("10.0.0.7"), &taint("virtual-kubelet.io/provider")),
        ];
        assert_eq!(all(&nodes, &Choice::default()).expect("a worker"), ["w"]);
        let every = Choice { include_control_plane: true, ..Choice::default() };
        assert_eq!(all(&nodes, &every).expect("nodes"), ["rke1", "server", "w"]);
        let named = |name: &str| all(&nodes, &Choice { names: strings(&[name]), ..Choice::default() });
        assert_eq!(named("etcd").expect("by name"), ["etcd"]);
        let why = named("vk").expect_err("no machine").to_string();
        assert_eq!(why, "vk is a virtual node, behind which there is no machine");
        for (item, covered) in nodes.iter().zip([true, false, false, false, false, false, false]) {
            assert_eq!(Choice::default().covers(item), covered, "{:?}", item.metadata.name);
        }
    }

    #[test]
    fn an_address_that_several_nodes_report_is_not_used() {
        let vagrant = |name: &str, extra: &Value| {
            let mut addresses =
                json!([{"type": "InternalIP", "address": "10.0.2.15"}, {"type": "Hostname", "address": name}]);
            addresses.as_array_mut().expect("a list").extend(extra.as_array().expect("a list").iter().cloned());
            node(name, &addresses, &json!({}))
        };
        let outer = json!([{"type": "ExternalIP", "address": "192.168.56.11"}]);
        let nodes = [
            vagrant("w1", &json!([])),
            vagrant("w2", &outer),
            node("w3", &json!([{"type": "InternalIP", "address": "10.0.2.15"}]), &json!({})),
            node("cp", &json!([{"type": "InternalIP", "address": "10.0.2.16"}]), &json!({})),
        ];
        let chosen = choose(&nodes, None, &Choice::default()).expect("workers");
        let seen: Vec<_> = chosen.iter().map(host).collect();
        assert_eq!(seen, ["10.0.2.16", "w1", "192.168.56.11", "w3"]);
        // Also where only one of them is meant.
        let w1 = Choice { names: strings(&["w1"]), ..Choice::default() };
        assert_eq!(host(&choose(&nodes, None, &w1).expect("one")[0]), "w1");
        // A machine that joined anew, under another name: the Node that it was before does not take its address away.
        let mut gone = nodes[2].clone();
        gone.status.as_mut().expect("a status").conditions = None;
        assert_eq!(host(&choose(&[nodes[0].clone(), gone], None, &w1).expect("one")[0]), "10.0.2.15");
    }

    #[test]
    fn no_two_hosts_have_one_name() {
        let names = |hosts: &[&str]| {
            let nodes = from_hosts(&strings(hosts), true).expect("hosts");
            nodes.into_iter().map(|node| node.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&["root@127.0.0.1:22011", "root@127.0.0.1:22012"]), ["127.0.0.1:22011", "127.0.0.1:22012"]);
        assert_eq!(names(&["w1", "w2:22", "w1"]), ["w1", "w2"]);
        assert_eq!(names(&["w1", "w1:2222", "w2"]), ["w1", "w1:2222", "w2"]);
        assert_eq!(names(&["w1", "w1:22"]), ["w1", "w1:22"], "ssh may have another port for the first");
        assert_eq!(names(&["a@w1", "b@w1", "w1"]), ["a@w1", "b@w1", "w1"]);
        assert_eq!(names(&["[fd00::5]:1", "[fd00::5]:2", "fd00::6"]), ["[fd00::5]:1", "[fd00::5]:2", "fd00::6"]);
    }

    #[test]
    fn a_node_without_addresses_is_reached_by_its_name() {
        let nodes = choose(&[node("alone", &json!([]), &json!({}))], None, &Choice::default()).expect("a worker");
        assert_eq!(host(&nodes[0]), "alone");
    }

    #[test]
    fn hosts_that_ssh_would_read_as_options_are_refused() {
        for bad in ["", "-oProxyCommand=x", "ops@-x", "@host", "ops@", "a b", "host:", "host:x", "host:0", "[::1]x"] {
            assert!(matches!(from_hosts(&strings(&["w1", bad]), true), Err(Error::BadHost { .. })), "{bad}");
        }
        let node = from_hosts(&strings(&["ops@192.0.2.5:2222"]), true).expect("a host").remove(0);
        assert_eq!(node.name, "192.0.2.5");
        let Reach::Ssh(address) = node.reach else { panic!("far away") };
        assert_eq!((address.destination(None), address.port), ("ops@192.0.2.5".to_owned(), Some(2222)));
    }
}
