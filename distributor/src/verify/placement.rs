//! Checks that vn-agent runs on every selected node, and on no other. By default, the workers are selected: nodes that
//! run Linux on a real machine and do not have the label or taint of a control plane.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Taint};
use vcmanifests::Component;
use vcmanifests::workloads::ARCHITECTURE_LABEL;

use super::snapshot::pods_of;
use super::{Check, Snapshot};
use crate::nodes::{Choice, Role, role};
use crate::rollout::pods;

pub(super) fn check(snapshot: &Snapshot, choice: &Choice) -> Check {
    let (mut wrong, mut found) = (Vec::new(), Vec::new());
    let mut agents: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for pod in pods_of(snapshot, Component::VnAgent).filter(|pod| pods::is_current(pod)) {
        if let Some(node) = pods::node(pod) {
            agents.entry(node).or_default().push(pods::name(pod).to_owned());
        }
    }
    let architectures = architectures(snapshot);
    let unsuited = |node: &Node| -> Option<String> {
        let architecture = architecture(node)?;
        let suits = architectures.is_empty() || architectures.iter().any(|one| one == architecture);
        (!suits).then(|| format!("runs on {architecture}, and vn-agent's image is for {}", architectures.join(", ")))
    };
    let (meant, others): (Vec<&Node>, Vec<&Node>) = snapshot.nodes.iter().partition(|node| choice.covers(node));
    if meant.is_empty() {
        wrong.push(match choice == &Choice::default() {
            true => "the cluster has no worker: no node runs linux without the label or taint of a control plane; \
                     deploy and verify with --include-control-plane to serve those"
                .to_owned(),
            false => "the cluster has none of the nodes that are meant".to_owned(),
        });
    }
    for node in &meant {
        let what = what(node);
        match (agents.get(name(node)).map(Vec::as_slice), unsuited(node)) {
            (Some([one]), _) => found.push(format!("{what} has {one}")),
            (Some(several), _) => wrong.push(format!("{what} has {} pods of vn-agent", several.len())),
            (None, Some(why)) => found.push(format!("{what} has none: it {why}")),
            (None, None) => wrong.push(format!("{what} has no vn-agent{}", obstacle(node))),
        }
    }
    let mut may_be_meant = false;
    for node in others {
        let what = what(node);
        match agents.get(name(node)) {
            Some(there) => {
                wrong.push(format!("{what} has {}", there.join(", ")));
                may_be_meant |= !matches!(role(node), Role::Virtual | Role::Foreign(_));
            }
            None => found.push(format!("{what} has none")),
        }
    }
    if may_be_meant {
        wrong.push(
            "where these nodes are meant, verify with the --nodes, --exclude, --selector and --include-control-plane that \
             deploy was given"
                .to_owned(),
        );
    }
    let known: BTreeSet<&str> = snapshot.nodes.iter().map(name).collect();
    for (node, there) in agents.iter().filter(|(node, _)| !known.contains(**node)) {
        wrong.push(format!("{}, and the cluster has no node {node}", there.join(", ")));
    }
    Check::of(
        "placement",
        wrong,
        found,
        "run `vcdist deploy` with the options for nodes (--nodes, --exclude, --selector, --tolerate) that are meant",
    )
}

/// Describes a node by its role and name.
fn what(node: &Node) -> String {
    let name = name(node);
    match role(node) {
        Role::Worker => format!("worker {name}"),
        Role::ControlPlane => format!("control-plane node {name}"),
        Role::Etcd => format!("etcd node {name}"),
        Role::Virtual => format!("virtual node {name}"),
        Role::Foreign(os) => format!("{os} node {name}"),
    }
}

/// Returns the architectures to which vn-agent's DaemonSet is restricted; empty if there is no restriction.
fn architectures(snapshot: &Snapshot) -> Vec<String> {
    let agent =
        snapshot.daemonsets.iter().find(|one| one.metadata.name.as_deref() == Some(Component::VnAgent.workload()));
    let affinity = agent
        .and_then(|agent| agent.spec.as_ref()?.template.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref())
        .and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = affinity.iter().flat_map(|selector| &selector.node_selector_terms);
    let named: BTreeSet<&String> = terms
        .flat_map(|term| term.match_expressions.iter().flatten())
        .filter(|one| one.key == ARCHITECTURE_LABEL && one.operator == "In")
        .flat_map(|one| one.values.iter().flatten())
        .collect();
    named.into_iter().cloned().collect()
}

fn architecture(node: &Node) -> Option<&str> {
    node.metadata.labels.as_ref()?.get(ARCHITECTURE_LABEL).map(String::as_str)
}

/// Describes the taints of a worker that may keep vn-agent away.
fn obstacle(node: &Node) -> String {
    // The DaemonSet controller tolerates the taints that Kubernetes sets itself.
    let foreign = taints(node).iter().filter(|taint| !taint.key.starts_with("node.kubernetes.io/"));
    let taints: Vec<String> = foreign
        .filter(|taint| taint.effect != "PreferNoSchedule")
        .map(|taint| match taint.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
            None => format!("{}:{}", taint.key, taint.effect),
        })
        .collect();
    if taints.is_empty() {
        String::new()
    } else {
        format!("; it is tainted {}: deploy with --tolerate to serve it", taints.join(", "))
    }
}

fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}
