//! When an object does what it was applied for: one rule a kind, each a function of the object alone.

mod apiservice;
mod conditions;
mod crd;
mod daemonset;
mod deployment;
mod job;
mod namespace;
mod pod;
mod pvc;
mod replicaset;
mod service;
mod statefulset;
mod virtual_cluster;
pub(super) mod webhook;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;

pub use apiservice::apiservice;
pub use conditions::conditions;
pub use crd::crd;
pub use daemonset::daemonset;
pub(crate) use deployment::POD_SECURITY;
pub use deployment::{deployment, deployment_since};
pub use job::job;
pub use namespace::namespace;
pub use pod::pod;
pub use pvc::pvc;
pub use replicaset::replicaset;
pub use service::{ready_endpoints, service};
pub use statefulset::statefulset;
pub use virtual_cluster::virtual_cluster;

/// Kinds that are ready by being there, in the groups of Kubernetes itself. Objects of other groups may have conditions.
const BY_BEING_THERE: [&str; 23] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "ControllerRevision",
    "CronJob",
    "EndpointSlice",
    "Endpoints",
    "HorizontalPodAutoscaler",
    "Ingress",
    "IngressClass",
    "Lease",
    "LimitRange",
    "NetworkPolicy",
    "PersistentVolume",
    "PodDisruptionBudget",
    "PriorityClass",
    "ResourceQuota",
    "Role",
    "RoleBinding",
    "RuntimeClass",
    "Secret",
    "ServiceAccount",
    "StorageClass",
];

/// How far an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does what it was applied for; the text says in figures.
    Ready(String),
    /// Not yet; the text says what is awaited.
    Waiting(String),
    /// Not before somebody does what the object asks of people; the text says what. It is waited for.
    Held(String),
    /// Not before somebody takes back what keeps it from changing; the text says what. It is not waited for.
    Stopped(String),
    /// It will not, unless somebody changes something; the text says why.
    Failed(String),
}

impl Readiness {
    /// Whether nothing more is awaited.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    /// What it says.
    #[must_use]
    pub fn text(&self) -> &str {
        let (Self::Ready(text) | Self::Waiting(text) | Self::Held(text) | Self::Stopped(text) | Self::Failed(text)) =
            self;
        text
    }

    /// Whether more time alone does not help.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Stopped(_) | Self::Failed(_))
    }
}

/// Whether an object of this kind is ready by being there, so that there is nothing to wait for.
#[must_use]
pub fn by_being_there(api_version: &str, kind: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let is_of_kubernetes = !group.contains('.') || group.ends_with(".k8s.io");
    is_of_kubernetes && BY_BEING_THERE.contains(&kind)
}

/// How far an object of any kind is. `begun` is when its rollout began, by the API server's clock: what the object says of an
/// earlier one does not count.
#[must_use]
pub fn of(object: &DynamicObject, begun: Option<Timestamp>) -> Readiness {
    let (api_version, kind) =
        object.types.as_ref().map_or(("", ""), |types| (types.api_version.as_str(), types.kind.as_str()));
    match (api_version.split_once('/').map_or("", |(group, _)| group), kind) {
        ("", "Namespace") => typed(object, namespace),
        ("", "Pod") => typed(object, pod),
        ("", "Service") => typed(object, service),
        ("", "PersistentVolumeClaim") => typed(object, |claim| pvc(claim, None)),
        ("apps", "Deployment") => typed(object, |found| deployment_since(found, begun)),
        ("apps", "DaemonSet") => typed(object, daemonset),
        ("apps", "StatefulSet") => typed(object, statefulset),
        ("apps", "ReplicaSet") => typed(object, replicaset),
        ("batch", "Job") => typed(object, job),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => typed(object, crd),
        ("apiregistration.k8s.io", "APIService") => apiservice(object),
        ("tenancy.x-k8s.io", "VirtualCluster") => virtual_cluster(object),
        _ if by_being_there(api_version, kind) => Readiness::Ready("there".to_owned()),
        _ => conditions(object),
    }
}

/// A rule for objects of a known kind, for one whose kind is only known now.
fn typed<K: DeserializeOwned>(object: &DynamicObject, rule: impl Fn(&K) -> Readiness) -> Readiness {
    let read = serde_json::to_value(object).and_then(serde_json::from_value);
    read.map_or_else(|error| Readiness::Waiting(format!("its status cannot be read: {error}")), |read| rule(&read))
}

/// The options of `kubectl` for an object: its namespace, where it has one.
fn within(metadata: &ObjectMeta) -> String {
    metadata.namespace.as_ref().map(|namespace| format!(" --namespace {namespace}")).unwrap_or_default()
}

/// Whether the controller has seen the object as it is now: its status speaks of an older one otherwise.
fn seen(generation: Option<i64>, observed: Option<i64>) -> bool {
    observed.unwrap_or(0) >= generation.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Readiness, by_being_there, of};

    fn state(api_version: &str, kind: &str, rest: Value) -> Readiness {
        let mut object =
            json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": "x", "generation": 1 } });
        if let Value::Object(rest) = rest {
            object.as_object_mut().unwrap().extend(rest);
        }
        of(&serde_json::from_value(object).unwrap(), None)
    }

    #[test]
    fn each_kind_has_its_rule_and_others_tell_by_conditions() {
        let waits = |api_version: &str, kind: &str, rest: Value| {
            assert!(!state(api_version, kind, rest.clone()).is_ready(), "{kind}: {rest}");
        };
        waits("v1", "Namespace", json!({}));
        waits("v1", "Pod", json!({ "status": { "phase": "Pending" } }));
        waits("v1", "Service", json!({ "spec": { "type": "LoadBalancer" } }));
        waits("v1", "PersistentVolumeClaim", json!({ "status": { "phase": "Pending" } }));
        for kind in ["Deployment", "DaemonSet", "StatefulSet", "ReplicaSet"] {
            waits("apps/v1", kind, json!({ "spec": { "selector": {}, "serviceName": "s", "template": {} } }));
        }
        waits("batch/v1", "Job", json!({ "spec": { "template": {} } }));
        waits("apiregistration.k8s.io/v1", "APIService", json!({}));
        waits("tenancy.x-k8s.io/v1alpha1", "VirtualCluster", json!({}));
        waits(
            "example.com/v1",
            "Lease",
            json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }),
        );
        assert!(state("coordination.k8s.io/v1", "Lease", json!({})).is_ready());
        assert!(state("example.com/v1", "Widget", json!({})).is_ready());
        assert!(by_being_there("policy/v1", "PodDisruptionBudget") && !by_being_there("example.com/v1", "Role"));
    }
}
