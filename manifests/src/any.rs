//! An object of a kind that has no type here. It is kept as JSON, beside what a request for it needs: the plural name of its
//! kind, which only the API server or the kind's definition tells.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::Stage;

/// The groups of the kinds that an API server has without definitions.
const BUILT_IN: [&str; 22] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// An object of any kind.
#[derive(Debug, Clone, PartialEq)]
pub struct AnyObject {
    api_version: String,
    kind: String,
    plural: String,
    /// The name, the namespace and the annotations alone.
    metadata: ObjectMeta,
    value: Value,
}

impl AnyObject {
    /// An object as JSON, and the plural name of its kind, such as `ingresses`.
    #[must_use]
    pub fn new(value: Value, plural: &str) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            api_version: text(&value["apiVersion"]).unwrap_or_default(),
            kind: text(&value["kind"]).unwrap_or_default(),
            plural: plural.to_owned(),
            metadata: ObjectMeta {
                name: text(&value["metadata"]["name"]),
                namespace: text(&value["metadata"]["namespace"]),
                annotations: serde_json::from_value(value["metadata"]["annotations"].clone()).ok().flatten(),
                ..ObjectMeta::default()
            },
            value,
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// The plural name of its kind.
    #[must_use]
    pub fn plural(&self) -> &str {
        &self.plural
    }

    /// The object as JSON.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    pub(crate) fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    /// The stage of a rollout that applies it. Objects of defined kinds come after the workloads, for the operator among these
    /// may have to check or convert them; what the API server calls comes last, when somebody answers.
    pub(crate) fn stage(&self) -> Stage {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        match (group, self.kind.as_str()) {
            ("", "Namespace") => Stage::Namespace,
            ("apiextensions.k8s.io", _) => Stage::Definitions,
            ("admissionregistration.k8s.io" | "apiregistration.k8s.io", _) => Stage::Webhooks,
            ("apps" | "batch", _) | ("", "Pod" | "ReplicationController") => Stage::Workloads,
            (group, _) if BUILT_IN.contains(&group) => Stage::Access,
            _ => Stage::Custom,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::AnyObject;
    use crate::Stage;

    #[test]
    fn an_object_comes_after_what_it_needs() {
        let stage = |api_version: &str, kind: &str| {
            AnyObject::new(json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": "a" } }), "x").stage()
        };
        assert_eq!(stage("v1", "Namespace"), Stage::Namespace);
        assert_eq!(stage("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"), Stage::Definitions);
        for (api_version, kind) in [
            ("v1", "Service"),
            ("v1", "PersistentVolumeClaim"),
            ("networking.k8s.io/v1", "Ingress"),
            ("policy/v1", "PodDisruptionBudget"),
        ] {
            assert_eq!(stage(api_version, kind), Stage::Access, "{kind}");
        }
        for (api_version, kind) in [("apps/v1", "StatefulSet"), ("batch/v1", "Job"), ("v1", "Pod")] {
            assert_eq!(stage(api_version, kind), Stage::Workloads, "{kind}");
        }
        assert_eq!(stage("gateway.networking.k8s.io/v1", "Gateway"), Stage::Custom);
        assert_eq!(stage("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"), Stage::Webhooks);
        assert_eq!(stage("apiregistration.k8s.io/v1", "APIService"), Stage::Webhooks);
    }
}
