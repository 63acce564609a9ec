//! Whose the cluster's own roles are. A cluster has one installation: the bindings of its cluster roles are no namespace's, and
//! name the accounts of one. A second installation would take them from the first, whose pods would lose their rights.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, DynamicObject};

use super::Error;
use crate::cluster::{Cluster, is_absent};

/// Refuses to change a binding that another installation lives by. One whose account or namespace is gone is nobody's, and is
/// taken over.
pub(super) async fn check(
    cluster: &Cluster,
    binding: &ClusterRoleBinding,
    before: &DynamicObject,
) -> Result<(), Error> {
    for (namespace, account) in elsewhere(binding, before) {
        let api: Api<ServiceAccount> = Api::namespaced(cluster.client(), &namespace);
        match api.get(&account).await {
            Err(error) if is_absent(&error) => {}
            // Whoever may not look there does not know that nobody needs it.
            Ok(_) => return Err(installed(binding, namespace)),
            Err(kube::Error::Api(status)) if status.code == 403 => return Err(installed(binding, namespace)),
            Err(error) => {
                let attempt = format!("reading serviceaccount/{account} in {namespace}");
                return Err(cluster.failed(attempt, error).into());
            }
        }
    }
    Ok(())
}

fn installed(binding: &ClusterRoleBinding, other: String) -> Error {
    let ours = subjects(binding).next().and_then(|subject| subject.namespace.clone());
    let name = binding.metadata.name.clone().unwrap_or_default();
    Error::Installed { namespace: ours.unwrap_or_default(), other, binding: format!("clusterrolebinding/{name}") }
}

/// The accounts of the same names in other namespaces that a binding has as it is: namespace and name.
fn elsewhere(binding: &ClusterRoleBinding, before: &DynamicObject) -> Vec<(String, String)> {
    let bound = before.data["subjects"].as_array().into_iter().flatten();
    let accounts = bound.filter(|subject| subject["kind"] == "ServiceAccount");
    let named = accounts.filter_map(|subject| Some((subject["namespace"].as_str()?, subject["name"].as_str()?)));
    let is_other = |(namespace, name): &(&str, &str)| {
        subjects(binding).any(|ours| ours.name == *name && ours.namespace.as_deref() != Some(namespace))
    };
    named.filter(is_other).map(|(namespace, name)| (namespace.to_owned(), name.to_owned())).collect()
}

fn subjects(binding: &ClusterRoleBinding) -> impl Iterator<Item = &k8s_openapi::api::rbac::v1::Subject> {
    binding.subjects.iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::elsewhere;

    #[test]
    fn accounts_of_the_same_name_elsewhere_are_another_installations() {
        let subject =
            |namespace: &str, name: &str| json!({"kind": "ServiceAccount", "namespace": namespace, "name": name});
        let found = |subjects: Value| {
            let binding = json!({"metadata": {"name": "vc-manager-rolebinding"}, "subjects": [subject("second", "vc-manager")],
                "roleRef": {"apiGroup": "", "kind": "ClusterRole", "name": "r"}});
            let before = json!({"metadata": {}, "subjects": subjects});
            elsewhere(&serde_json::from_value(binding).unwrap(), &serde_json::from_value(before).unwrap())
        };
        let first = ("first".to_owned(), "vc-manager".to_owned());
        assert_eq!(found(json!([subject("first", "vc-manager")])), std::slice::from_ref(&first));
        assert_eq!(found(json!([subject("second", "vc-manager"), subject("first", "vc-manager")])), [first]);
        assert_eq!(found(json!([subject("second", "vc-manager")])), []);
        assert_eq!(found(json!([{"kind": "Group", "name": "vc-manager"}, subject("other", "theirs")])), []);
        assert_eq!(found(Value::Null), []);
    }
}
