//! What stands around the workloads: volumes, a disruption budget, and policies and monitors where asked for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::workloads::{labels, manager, metadata, selector, syncer};
use crate::{Component, LocalVolume, Object, Parameters};

/// Returns the objects around the workloads that the parameters ask for.
#[must_use]
pub fn surroundings(parameters: &Parameters) -> Vec<Object> {
    let mut objects: Vec<Object> = parameters.volumes.iter().map(volume).collect();
    // With one replica a budget would either allow everything or block the draining of the node.
    if parameters.syncer_replicas > 1 {
        objects.push(disruption_budget(parameters));
    }
    if parameters.network_policies {
        // vn-agent uses its node's network, to which no NetworkPolicy applies.
        objects.push(network_policy(parameters, Component::Manager, manager::WEBHOOK_PORT));
        objects.push(network_policy(parameters, Component::Syncer, syncer::METRICS_PORT));
    }
    if parameters.service_monitors {
        objects.extend(monitors(parameters));
    }
    objects
}

fn volume(volume: &LocalVolume) -> Object {
    let mut all = labels(None);
    all.extend(volume.labels.clone());
    let here = json!([{ "key": "kubernetes.io/hostname", "operator": "In", "values": [volume.node] }]);
    let object = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": volume.name, "labels": all },
        "spec": {
            "accessModes": volume.access_modes,
            "capacity": { "storage": volume.capacity },
            "local": { "path": volume.path },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": here }] } },
            "persistentVolumeReclaimPolicy": volume.reclaim_policy,
            "storageClassName": volume.storage_class,
            "volumeMode": "Filesystem",
        },
    });
    Object::other(object, "persistentvolumes")
}

fn disruption_budget(parameters: &Parameters) -> Object {
    let budget = json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(parameters, Component::Syncer, Component::Syncer.workload()),
        "spec": { "maxUnavailable": 1, "selector": { "matchLabels": selector(Component::Syncer) } },
    });
    Object::other(budget, "poddisruptionbudgets")
}

/// Opens one port of a component's pods and closes the others: the syncer's profiles at 6060, the manager's metrics. Probes
/// come from the node, which always reaches its pods.
fn network_policy(parameters: &Parameters, component: Component, port: i32) -> Object {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(parameters, component, component.workload()),
        "spec": {
            "ingress": [{ "ports": [{ "port": port, "protocol": "TCP" }] }],
            "podSelector": { "matchLabels": selector(component) },
            "policyTypes": ["Ingress"],
        },
    });
    Object::other(policy, "networkpolicies")
}

/// A Service for the metrics of the syncer and one for vn-agent's, and the ServiceMonitor that finds both.
fn monitors(parameters: &Parameters) -> Vec<Object> {
    let named = |component: Component| format!("{}-metrics", component.workload());
    let ports =
        [(Component::Syncer, syncer::METRICS_PORT), (Component::VnAgent, parameters.vn_agent_metrics_port.into())];
    let service = |(component, port): (Component, i32)| {
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": monitored(metadata(parameters, component, &named(component))),
            "spec": {
                "clusterIP": "None",
                "ports": [{ "name": "metrics", "port": port, "protocol": "TCP", "targetPort": "metrics" }],
                "selector": selector(component),
            },
        });
        Object::other(service, "services")
    };
    let mut objects: Vec<Object> = ports.into_iter().map(service).collect();
    let monitor = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": metadata(parameters, Component::Syncer, "virtualcluster"),
        "spec": { "endpoints": [{ "port": "metrics" }], "selector": { "matchLabels": { MONITORED: "true" } } },
    });
    objects.push(Object::other(monitor, "servicemonitors"));
    objects
}

/// The label by which the ServiceMonitor finds the Services.
const MONITORED: &str = "vcdist.virtualcluster.io/metrics";

fn monitored(mut metadata: ObjectMeta) -> Value {
    metadata.labels.get_or_insert_default().insert(MONITORED.to_owned(), "true".to_owned());
    json!(metadata)
}
