//! What others have in the namespace of an installation: it would go with the namespace.

use std::collections::BTreeSet;

use kube::api::DynamicObject;

use super::Error;
use super::find::list;
use super::item::resource;
use crate::cluster::Cluster;
use crate::rollout::{Release, mark, revision_selector};

/// The kinds that are looked at: group, version, kind, plural. What else there may be, somebody has made by one of these.
pub(crate) const KINDS: [(&str, &str, &str, &str); 16] = [
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "Service", "services"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "ResourceQuota", "resourcequotas"),
    ("", "v1", "LimitRange", "limitranges"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "DaemonSet", "daemonsets"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("batch", "v1", "Job", "jobs"),
    ("batch", "v1", "CronJob", "cronjobs"),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
];

/// What every namespace has.
const USUAL: [(&str, &str); 2] = [("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")];

/// The annotation of what a leader holds, which a controller leaves behind.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// The label of everything that vcdist applies.
const LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "vcdist");

/// What is in the namespace and is neither `known`, nor the cluster's own.
pub(super) async fn foreign(
    cluster: &Cluster,
    namespace: &str,
    known: &BTreeSet<(String, String)>,
) -> Result<Vec<String>, Error> {
    let mut foreign = Vec::new();
    for (group, version, kind, plural) in KINDS {
        let resource = resource(group, version, kind, plural);
        for object in list(cluster, &resource, Some(namespace), "").await? {
            if is_foreign(kind, &object, known) {
                foreign.push(format!("{}/{}", kind.to_lowercase(), object.metadata.name.unwrap_or_default()));
            }
        }
    }
    Ok(foreign)
}

/// What is in the namespace and is neither of this release, nor the cluster's own.
pub(super) async fn foreign_to(cluster: &Cluster, namespace: &str, release: &Release) -> Result<Vec<String>, Error> {
    let mut foreign = Vec::new();
    let title = |kind: &str, object: DynamicObject| {
        format!("{}/{}", kind.to_lowercase(), object.metadata.name.unwrap_or_default())
    };
    let ours = release.to_string();
    for (group, version, kind, plural) in KINDS {
        for object in list(cluster, &resource(group, version, kind, plural), Some(namespace), "").await? {
            if !is_usual(kind, &object) && mark(&object) != Some(ours.as_str()) {
                foreign.push(title(kind, object));
            }
        }
    }
    let kind = resource("apps", "v1", "ControllerRevision", "controllerrevisions");
    for object in list(cluster, &kind, Some(namespace), &revision_selector()).await? {
        if namespace != release.namespace || !release.has(object.metadata.labels.as_ref()) {
            foreign.push(title(&kind.kind, object));
        }
    }
    Ok(foreign)
}

/// Whether every namespace has such an object, or a controller has made it.
fn is_usual(kind: &str, object: &DynamicObject) -> bool {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let is_owned = object.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
    let is_token = kind == "Secret" && object.data["type"] == "kubernetes.io/service-account-token";
    let is_lock = object.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(LEADER));
    USUAL.contains(&(kind, name)) || is_owned || is_token || is_lock
}

fn is_foreign(kind: &str, object: &DynamicObject, known: &BTreeSet<(String, String)>) -> bool {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let labels = object.metadata.labels.as_ref();
    let is_ours = labels.and_then(|labels| labels.get(LABEL.0)).is_some_and(|by| by == LABEL.1)
        && known.contains(&(kind.to_owned(), name.to_owned()));
    let is_webhooks = kind == "Service" && known.contains(&(kind.to_owned(), name.to_owned()));
    let holds_values = || object.data["data"].as_object().is_some_and(|data| data.values().any(|value| value != ""));
    !is_usual(kind, object) && !is_webhooks && (!is_ours || (kind == "Secret" && holds_values()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::is_foreign;

    #[test]
    fn what_others_put_there_is_told_from_what_is_ours_or_the_clusters() {
        let known = [("Secret".to_owned(), "s".to_owned())].into();
        let foreign = |kind: &str, object: Value| is_foreign(kind, &serde_json::from_value(object).unwrap(), &known);
        assert!(foreign("ConfigMap", json!({ "metadata": { "name": "theirs" } })));
        assert!(!foreign("ConfigMap", json!({ "metadata": { "name": "kube-root-ca.crt" } })));
        let lock =
            json!({ "metadata": { "name": "l", "annotations": { "control-plane.alpha.kubernetes.io/leader": "{}" } } });
        assert!(!foreign("ConfigMap", lock));
        let owned = json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1" }]);
        assert!(!foreign("Pod", json!({ "metadata": { "name": "p", "ownerReferences": owned } })));
        let labels = json!({ "app.kubernetes.io/managed-by": "vcdist" });
        let secret =
            |name: &str, value: &str| json!({ "metadata": { "name": name, "labels": labels }, "data": { "k": value } });
        assert!(!foreign("Secret", secret("s", "")));
        assert!(foreign("Secret", secret("s", "eA==")), "somebody has put a value into it");
        assert!(foreign("Secret", secret("other", "")), "the label alone is not enough");
        assert!(!foreign(
            "Secret",
            json!({ "metadata": { "name": "t" }, "type": "kubernetes.io/service-account-token" })
        ));
    }
}
