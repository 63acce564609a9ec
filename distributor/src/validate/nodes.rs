//! The checks of nodes over SSH, all nodes together: a check for each thing, with the findings of every node.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use super::on_node::{Common, Found};
use super::ports::{self, NodePort};
use super::{Check, Finding, OnNodes, Validation};
use crate::cluster::Cluster;
use crate::nodes::{self, Node};
use crate::push::report::one_line;

/// The names of the checks.
const NAMES: [&str; 6] = ["ssh", "sudo", "runtime", "disk", "ports", "node-clocks"];

pub(super) async fn check(cluster: &Cluster, answers: bool, validation: &Validation<'_>) -> Vec<Check> {
    let skipped = |why: &str| NAMES.map(|name| Check::skipped(name, why)).to_vec();
    let Some(access) = &validation.on_nodes else { return skipped("--no-ssh") };
    let nodes = match &access.nodes {
        Some(nodes) => nodes.clone(),
        None if !answers => return skipped("the API server does not answer, and says which nodes there are"),
        None => match nodes::from_api(cluster, validation.choice).await {
            Ok(nodes) => nodes,
            Err(error) => return skipped(&one_line(&error)),
        },
    };
    let needed = ports::needed(validation.objects);
    let pods = if answers { pods(cluster, validation).await } else { BTreeSet::new() };
    let common = Common { access, ports: &needed, pods: &pods };
    let found: Vec<(Node, Found)> = stream::iter(nodes)
        .map(|node| async {
            let found = common.check(&node).await;
            (node, found)
        })
        .buffered(access.parallel.max(1))
        .collect()
        .await;
    report(&found, &needed, access)
}

/// The UIDs of the installation's pods, which may hold its ports. Without the right to list pods, none is known.
async fn pods(cluster: &Cluster, validation: &Validation<'_>) -> BTreeSet<String> {
    let api: Api<Pod> = Api::namespaced(cluster.client(), validation.namespace.as_str());
    match api.list(&ListParams::default()).await {
        Ok(found) => found.items.into_iter().filter_map(|pod| pod.metadata.uid).collect(),
        Err(error) => {
            tracing::debug!("listing pods in {}: {error}", validation.namespace);
            BTreeSet::new()
        }
    }
}

fn report(found: &[(Node, Found)], ports: &BTreeSet<NodePort>, access: &OnNodes<'_>) -> Vec<Check> {
    let logins = found.iter().flat_map(|(_, one)| one.login.clone()).collect();
    let one = |name: &'static str, of: fn(&Found) -> Option<&Vec<Finding>>, detail: &str, why: &str| {
        let made: Vec<&Vec<Finding>> = found.iter().filter_map(|(_, found)| of(found)).collect();
        if made.is_empty() {
            return Check::skipped(name, why);
        }
        let on = if made.len() == found.len() {
            String::new()
        } else {
            format!(", on {} of {} nodes", made.len(), found.len())
        };
        Check::of(name, format!("{detail}{on}"), made.into_iter().flatten().cloned().collect())
    };
    let away = "no node could be logged in to";
    let groups: BTreeSet<u8> = found.iter().filter_map(|(_, one)| one.cgroup).collect();
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let ports: Vec<String> = ports.iter().map(|port| port.number.to_string()).collect();
    let names: Vec<&str> = found.iter().map(|(node, _)| node.name.as_str()).collect();
    let disk = if access.push.is_some() { away } else { "the store does not have the images yet" };
    vec![
        Check::of("ssh", format!("login to {}", names.join(", ")), logins),
        one("sudo", |found| found.sudo.as_ref(), "programs run as root", away),
        one(
            "runtime",
            |found| found.runtime.as_ref(),
            &format!("it answers; control groups version {}", groups.join(" and ")),
            away,
        ),
        one("disk", |found| found.disk.as_ref(), "room for the images, packed and unpacked", disk),
        one("ports", |found| found.ports.as_ref(), &format!("TCP {} are free or ours", ports.join(", ")), away),
        one("node-clocks", |found| found.clock.as_ref(), "compared with this machine's", away),
    ]
}
