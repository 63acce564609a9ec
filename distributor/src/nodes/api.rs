//! Reads the nodes that a choice selects from the Kubernetes API, with the address at which each is reached.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node as ApiNode, NodeAddress};
use kube::api::{Api, ListParams};
use vcremote::destination;

use super::choice::{check_names, means, name, role};
use super::{Address, Choice, Error, Machine, Node, Reach, Runtime, know, place};
use crate::cluster::Cluster;

/// The types of node addresses, in order of preference.
const ADDRESS_TYPES: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];

/// Queries the API for the nodes that `choice` selects.
///
/// # Errors
/// Returns an error if the API does not answer, a name is unknown, or no node is left.
pub async fn from_api(cluster: &Cluster, choice: &Choice) -> Result<Vec<Node>, Error> {
    let api: Api<ApiNode> = Api::all(cluster.client());
    let failed = |error| cluster.failed("listing the cluster's nodes", error);
    // Lists all nodes regardless of the selector, to distinguish a named node that is not selected from one that does
    // not exist.
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

/// Returns the node if `choice` selects it; ignores the selector.
pub(crate) fn meant(api: &ApiNode, choice: &Choice) -> Option<Node> {
    let role = role(api);
    let chosen = role.obstacle().is_none() && !choice.exclude.contains(&name(api)) && means(choice, api, &role);
    let mut node = chosen.then(|| read(api))?.ok()?;
    know(&mut node, choice);
    place(&mut node);
    Some(node)
}

pub(super) fn choose(
    items: &[ApiNode],
    selected: Option<&BTreeSet<String>>,
    choice: &Choice,
) -> Result<Vec<Node>, Error> {
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

/// Reads a node, with an address that no other node of the cluster reports. Virtual machines from the same template
/// often have the same address on a private network, and the machine that answers there would be mistaken for all of
/// them. Addresses of nodes that are not ready are ignored, because they may since have been reassigned.
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

fn is_ready(node: &ApiNode) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Returns the best of a node's addresses. Skips anything but an IP address or a DNS name, so that a node's report
/// cannot inject a user, port or option into the ssh command.
fn address(name: &str, addresses: &[NodeAddress]) -> Option<String> {
    let best_first = ADDRESS_TYPES.iter().flat_map(|kind| addresses.iter().filter(move |one| one.type_ == *kind));
    let (sound, bad): (Vec<_>, Vec<_>) = best_first.partition(|one| destination::is_address_or_dns_name(&one.address));
    for NodeAddress { address, type_ } in bad {
        tracing::warn!("{name}: its {type_} {address:?} is neither an address nor a name, and is passed over");
    }
    sound.first().map(|one| one.address.clone())
}
