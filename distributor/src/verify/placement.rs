//! Does vn-agent run on every worker, and on nothing else?
//! A worker is a node that runs Linux and has neither the label nor the taint of a control plane.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Taint};
use vcmanifests::Component;

use super::snapshot::pods_of;
use super::{Check, Snapshot};
use crate::nodes::{Role, role};
use crate::rollout::pods;

pub(super) fn check(snapshot: &Snapshot) -> Check {
    let (mut wrong, mut found) = (Vec::new(), Vec::new());
    let mut agents: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for pod in pods_of(snapshot, Component::VnAgent).filter(|pod| pods::is_current(pod)) {
        if let Some(node) = pods::node(pod) {
            agents.entry(node).or_default().push(pods::name(pod).to_owned());
        }
    }
    if !snapshot.nodes.iter().any(|node| role(node) == Role::Worker) {
        wrong.push(
            "the cluster has no worker: no node runs linux without the label or taint of a control plane".to_owned(),
        );
    }
    for worker in snapshot.nodes.iter().filter(|node| role(node) == Role::Worker) {
        let name = name(worker);
        match agents.get(name).map(Vec::as_slice) {
            Some([one]) => found.push(format!("worker {name} has {one}")),
            Some(several) => wrong.push(format!("worker {name} has {} pods of vn-agent", several.len())),
            None => wrong.push(format!("worker {name} has no vn-agent{}", obstacle(worker))),
        }
    }
    for node in &snapshot.nodes {
        let what = match role(node) {
            Role::Worker => continue,
            Role::ControlPlane => format!("control-plane node {}", name(node)),
            Role::Foreign(os) => format!("{os} node {}", name(node)),
        };
        match agents.get(name(node)) {
            Some(there) => wrong.push(format!("{what} has {}", there.join(", "))),
            None => found.push(format!("{what} has none")),
        }
    }
    let known: BTreeSet<&str> = snapshot.nodes.iter().map(name).collect();
    for (node, there) in agents.iter().filter(|(node, _)| !known.contains(**node)) {
        wrong.push(format!("{}, and the cluster has no node {node}", there.join(", ")));
    }
    Check::of("placement", wrong, found)
}

/// Taints of a worker that vn-agent may not tolerate, as the reason why it is not there.
fn obstacle(node: &Node) -> String {
    // The DaemonSet controller tolerates those that Kubernetes sets itself.
    let foreign = taints(node).iter().filter(|taint| !taint.key.starts_with("node.kubernetes.io/"));
    let words: Vec<String> = foreign
        .filter(|taint| taint.effect != "PreferNoSchedule")
        .map(|taint| match taint.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
            None => format!("{}:{}", taint.key, taint.effect),
        })
        .collect();
    if words.is_empty() {
        String::new()
    } else {
        format!("; it is tainted {}: deploy with --tolerate to serve it", words.join(", "))
    }
}

fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}
