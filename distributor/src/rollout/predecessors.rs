//! The cluster-wide roles of an installation that an Ansible role made by `kubectl apply`, under names that vcdist does not use.
//! They go once ours bind the same accounts. Only what is recognised by its name, its last applied configuration and its
//! account goes.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{Api, ListParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vcmanifests::Object;

use super::Error;
use super::superseded::Removal;
use super::takeover::LAST_APPLIED;
use crate::cluster::Cluster;

/// The names of its roles, which are those of its bindings and of its accounts.
pub(crate) const NAMES: [&str; 4] = ["vc-manager", "vc-syncer", "syncer", "vn-agent"];

/// The roles and bindings of such an installation in `namespace` that the objects `wanted` replace: roles first, for a role is
/// recognised by its binding.
pub(super) async fn predecessors(cluster: &Cluster, namespace: &str, wanted: &[Object]) -> Result<Vec<Removal>, Error> {
    let replaced: Vec<&str> = NAMES.into_iter().filter(|name| is_replaced(name, namespace, wanted)).collect();
    let (mut roles, mut bindings) = (Vec::new(), Vec::new());
    for name in replaced {
        let Some(binding) = get::<ClusterRoleBinding>(cluster, name).await? else { continue };
        if !is_of_client(&binding.metadata) || !binds(&binding, name, namespace) {
            continue;
        }
        if let Some(role) = get::<ClusterRole>(cluster, name).await?
            && is_of_client(&role.metadata)
            && !is_bound_elsewhere(cluster, name).await?
        {
            roles.extend(removal(&role, role.metadata.uid.clone()));
        }
        bindings.extend(removal(&binding, binding.metadata.uid.clone()));
    }
    roles.extend(bindings);
    Ok(roles)
}

/// Whether a binding that is applied gives the account of this name rights, and none of this name itself is.
fn is_replaced(name: &str, namespace: &str, wanted: &[Object]) -> bool {
    let account = if name == "syncer" { "vc-syncer" } else { name };
    let mut bindings = wanted.iter().filter_map(|object| match object {
        Object::ClusterRoleBinding(binding) => Some(binding),
        _ => None,
    });
    let is_named = wanted.iter().any(|object| object.kind().starts_with("ClusterRole") && object.name() == name);
    let is_bound = bindings.any(|binding| {
        let mut subjects = binding.subjects.iter().flatten();
        subjects.any(|subject| subject.name == account && subject.namespace.as_deref() == Some(namespace))
    });
    is_bound && !is_named
}

/// Whether a binding gives the role of this name to the account of this name, and to nobody else.
fn binds(binding: &ClusterRoleBinding, name: &str, namespace: &str) -> bool {
    let subjects = binding.subjects.as_deref().unwrap_or_default();
    let is_account = |subject: &k8s_openapi::api::rbac::v1::Subject| {
        subject.kind == "ServiceAccount"
            && NAMES.contains(&subject.name.as_str())
            && subject.namespace.as_deref() == Some(namespace)
    };
    binding.role_ref.kind == "ClusterRole"
        && binding.role_ref.name == name
        && !subjects.is_empty()
        && subjects.iter().all(is_account)
}

/// Whether any other binding gives the role of this name.
async fn is_bound_elsewhere(cluster: &Cluster, name: &str) -> Result<bool, Error> {
    let failed = |what: &str, error| Error::from(cluster.failed(format!("listing {what}"), error));
    let all = ListParams::default();
    let cluster_wide = Api::<ClusterRoleBinding>::all(cluster.client()).list(&all).await;
    let cluster_wide = cluster_wide.map_err(|error| failed("clusterrolebindings", error))?;
    let within = Api::<RoleBinding>::all(cluster.client()).list(&all).await;
    let within = within.map_err(|error| failed("rolebindings", error))?;
    let is_other =
        |binding: &ClusterRoleBinding| binding.role_ref.name == name && binding.metadata.name.as_deref() != Some(name);
    let is_given = |binding: &RoleBinding| binding.role_ref.kind == "ClusterRole" && binding.role_ref.name == name;
    Ok(cluster_wide.items.iter().any(is_other) || within.items.iter().any(is_given))
}

fn is_of_client(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> bool {
    metadata.deletion_timestamp.is_none()
        && metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LAST_APPLIED))
        && metadata.owner_references.iter().flatten().next().is_none()
}

async fn get<K>(cluster: &Cluster, name: &str) -> Result<Option<K>, Error>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
        + k8s_openapi::Resource
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let found = match Api::<K>::all(cluster.client()).get_opt(name).await {
        // Whoever may not look there takes nothing over.
        Err(kube::Error::Api(status)) if status.code == 403 => {
            tracing::debug!("reading {}/{name}: {}", K::KIND.to_lowercase(), status.message);
            return Ok(None);
        }
        found => found,
    };
    found.map_err(|error| cluster.failed(format!("reading {}/{name}", K::KIND.to_lowercase()), error).into())
}

fn removal<K: Serialize>(object: &K, uid: Option<String>) -> Option<Removal> {
    let value = serde_json::to_value(object).ok()?;
    Some(Removal::new(Object::from_value(&value).ok()??, uid))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use vcmanifests::{Images, Parameters};

    use super::{NAMES, binds, is_of_client, is_replaced};

    #[test]
    fn a_binding_is_recognised_by_its_role_and_by_all_its_accounts() {
        let with = |role: &str, subjects: Value| {
            let binding = json!({ "metadata": { "name": "vc-manager" }, "subjects": subjects,
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role } });
            binds(&serde_json::from_value(binding).unwrap(), "vc-manager", "vc")
        };
        let account =
            |namespace: &str| json!({ "kind": "ServiceAccount", "name": "vc-manager", "namespace": namespace });
        assert!(with("vc-manager", json!([account("vc")])));
        assert!(!with("admin", json!([account("vc")])));
        assert!(!with("vc-manager", json!([account("vc"), account("other")])));
        assert!(!with("vc-manager", json!([account("vc"), { "kind": "User", "name": "jane" }])));
        assert!(!with("vc-manager", json!([])));
    }

    #[test]
    fn ours_replace_all_four_and_what_kubectl_did_not_apply_stays() {
        let image = |name: &str| format!("docker.io/a/{name}@sha256:{}", "0".repeat(64)).parse().unwrap();
        let images = Images { manager: image("manager"), syncer: image("syncer"), vn_agent: image("vn-agent") };
        let objects = vcmanifests::objects(&Parameters::new(images));
        assert!(NAMES.iter().all(|name| is_replaced(name, "vc-manager", &objects)));
        assert!(NAMES.iter().all(|name| !is_replaced(name, "elsewhere", &objects)));
        let metadata = |annotations: Value| {
            is_of_client(&serde_json::from_value(json!({ "name": "vc-manager", "annotations": annotations })).unwrap())
        };
        assert!(metadata(json!({ "kubectl.kubernetes.io/last-applied-configuration": "{}" })));
        assert!(!metadata(json!({})));
    }
}
