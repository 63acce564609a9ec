//! Which kinds the API server serves: those of Kubernetes that tests roll out, and those that definitions define.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Kinds by version: the kind, its plural, whether it is in namespaces.
const KINDS: [(&str, &str, &str, bool); 10] = [
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Namespace", "namespaces", false),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("v1", "Secret", "secrets", true),
    ("v1", "Service", "services", true),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", false),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "StatefulSet", "statefulsets", true),
    ("networking.k8s.io/v1", "Ingress", "ingresses", true),
];

/// The list of a version's kinds, where a path asks for it.
pub(super) fn kinds(path: &str, objects: &BTreeMap<String, Value>) -> Option<Value> {
    let version = path.strip_prefix("/apis/").or_else(|| path.strip_prefix("/api/"))?;
    let is_version = if path.starts_with("/api/") { !version.contains('/') } else { version.matches('/').count() == 1 };
    if !is_version {
        return None;
    }
    let entry = |kind: &str, plural: &str, is_namespaced: bool| json!({ "name": plural, "singularName": "", "namespaced": is_namespaced, "kind": kind, "verbs": ["get", "patch"] });
    let served = KINDS.iter().filter(|(of, ..)| *of == version);
    let mut resources: Vec<Value> =
        served.map(|(_, kind, plural, namespaced)| entry(kind, plural, *namespaced)).collect();
    for (_, definition) in objects.iter().filter(|(path, _)| path.contains("/customresourcedefinitions/")) {
        let (spec, text) = (&definition["spec"], |value: &Value| value.as_str().unwrap_or_default().to_owned());
        for served in spec["versions"].as_array().into_iter().flatten() {
            if format!("{}/{}", text(&spec["group"]), text(&served["name"])) == version {
                let (kind, plural) = (text(&spec["names"]["kind"]), text(&spec["names"]["plural"]));
                resources.push(entry(&kind, &plural, spec["scope"] != "Cluster"));
            }
        }
    }
    Some(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources }))
}
