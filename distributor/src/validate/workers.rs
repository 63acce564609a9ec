//! Whether the workers can take an installation, by what the API says of them.

use k8s_openapi::api::core::v1::Node as ApiNode;
use kube::api::{Api, ListParams};

use super::{Check, Finding};
use crate::cluster::Cluster;
use crate::nodes::Choice;
use crate::push::report::one_line;

const NAME: &str = "workers";

/// The runtimes that images can be pushed to.
const RUNTIMES: [&str; 3] = ["containerd", "docker", "cri-o"];

/// The conditions that evict pods or keep them away.
const PRESSURES: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];

pub(super) async fn check(cluster: &Cluster, choice: &Choice) -> Check {
    let api: Api<ApiNode> = Api::all(cluster.client());
    let all = match api.list(&ListParams::default()).await {
        Ok(all) => all.items,
        Err(error) => return Check::skipped(NAME, one_line(&cluster.failed("listing nodes", error))),
    };
    if let Err(error) = choice.check(&all) {
        let finding =
            Finding::error("the choice of nodes", one_line(&error), "no node is served", "correct the options");
        return Check::of(NAME, format!("{} nodes", all.len()), vec![finding]);
    }
    let workers: Vec<&ApiNode> = all.iter().filter(|node| choice.covers(node)).collect();
    let mut findings: Vec<Finding> = workers.iter().flat_map(|node| about(node)).collect();
    if workers.is_empty() {
        findings.push(Finding::error(
            "the cluster",
            format!("none of its {} nodes is a worker that is chosen", all.len()),
            "there is no node to push to, and no pod finds a node",
            "join a worker to the cluster, or choose others: --nodes, --selector, --include-control-plane",
        ));
    }
    let described = |node: &&ApiNode| match runtime(node) {
        runtime if runtime.is_empty() => name(node).to_owned(),
        runtime => format!("{} ({runtime})", name(node)),
    };
    let described: Vec<String> = workers.iter().map(described).collect();
    Check::of(NAME, described.join(", "), findings)
}

fn about(node: &ApiNode) -> Vec<Finding> {
    let mut findings = Vec::new();
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_true = |kind: &str| conditions.clone().any(|one| one.type_ == kind && one.status == "True");
    if !is_true("Ready") {
        let why = conditions.clone().find(|one| one.type_ == "Ready").and_then(|one| one.message.clone());
        findings.push(Finding::error(
            name(node),
            format!("it is not Ready{}", why.map(|why| format!(": {why}")).unwrap_or_default()),
            "vn-agent does not start on it, and deploy waits until its time is over",
            format!("`kubectl describe node {}`; repair it, or leave it out with --exclude {0}", name(node)),
        ));
    }
    for pressure in PRESSURES.into_iter().filter(|kind| is_true(kind)) {
        findings.push(
            Finding::error(
                name(node),
                format!("its condition {pressure} is true"),
                "pods may be evicted from it or not be scheduled to it",
                format!("`kubectl describe node {}`", name(node)),
            )
            .warning(),
        );
    }
    let runtime = runtime(node);
    let its = runtime.split_once("://").map_or(runtime.as_str(), |(name, _)| name);
    if !its.is_empty() && !RUNTIMES.contains(&its) {
        findings.push(Finding::error(
            name(node),
            format!("its container runtime is {runtime}"),
            "vcdist cannot push images to it",
            format!("use one of {}, or leave the node out with --exclude {}", RUNTIMES.join(", "), name(node)),
        ));
    }
    findings
}

fn name(node: &ApiNode) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

fn runtime(node: &ApiNode) -> String {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.map(|info| info.container_runtime_version.clone()).unwrap_or_default()
}
