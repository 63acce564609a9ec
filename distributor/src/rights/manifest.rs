//! The roles that hold the rights, and their bindings, as Kubernetes objects.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject as RbacSubject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use vcmanifests::Object;

use super::{Right, Task, granted, required};

/// The name of the roles and bindings.
const NAME: &str = "vcdist";

/// The API group of roles.
const RBAC: &str = "rbac.authorization.k8s.io";

/// Who gets the rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A user, by name.
    User(String),
    /// A group of users, by name.
    Group(String),
    /// A service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// The roles with what `tasks` need for an installation of `objects` in `namespace`, and their bindings to `subjects`; before
/// them the namespace, without which there can be no role in it.
#[must_use]
pub fn manifest(objects: &[Object], namespace: &str, tasks: &[Task], subjects: &[Subject]) -> Vec<Object> {
    // By namespace; of the whole cluster first.
    let mut rights: BTreeMap<Option<String>, Vec<Right>> = BTreeMap::new();
    for right in required(objects, namespace, tasks) {
        rights.entry(right.namespace.clone()).or_default().push(right);
    }
    let mut roles: BTreeMap<Option<String>, Vec<PolicyRule>> =
        rights.into_iter().map(|(namespace, rights)| (namespace, rules(rights))).collect();
    if tasks.contains(&Task::Deploy) {
        for grant in granted(objects) {
            let rules = roles.entry(grant.namespace).or_default();
            if !rules.contains(&grant.rule) {
                rules.push(grant.rule);
            }
        }
    }
    let subjects: Vec<RbacSubject> = subjects.iter().map(subject).collect();
    let mut manifest = Vec::new();
    if roles.contains_key(&Some(namespace.to_owned())) {
        let metadata = ObjectMeta { name: Some(namespace.to_owned()), ..ObjectMeta::default() };
        manifest.push(Object::Namespace(Namespace { metadata, ..Namespace::default() }));
    }
    for (namespace, rules) in roles {
        manifest.extend(role(namespace, rules, &subjects));
    }
    manifest
}

/// A role in a namespace or the whole cluster, and its binding if there are subjects.
fn role(namespace: Option<String>, rules: Vec<PolicyRule>, subjects: &[RbacSubject]) -> Vec<Object> {
    let (is_namespaced, rules) = (namespace.is_some(), Some(rules));
    let metadata = ObjectMeta { name: Some(NAME.to_owned()), namespace, ..ObjectMeta::default() };
    let kind = if is_namespaced { "Role" } else { "ClusterRole" };
    let role_ref = RoleRef { api_group: RBAC.to_owned(), kind: kind.to_owned(), name: NAME.to_owned() };
    let bound = (!subjects.is_empty()).then(|| subjects.to_vec());
    let (metadata_of_binding, subjects) = (metadata.clone(), bound.clone());
    let (role, binding) = if is_namespaced {
        let binding = RoleBinding { metadata: metadata_of_binding, role_ref, subjects };
        (Object::Role(Role { metadata, rules }), Object::RoleBinding(binding))
    } else {
        let binding = ClusterRoleBinding { metadata: metadata_of_binding, role_ref, subjects };
        (
            Object::ClusterRole(ClusterRole { metadata, rules, aggregation_rule: None }),
            Object::ClusterRoleBinding(binding),
        )
    };
    [role].into_iter().chain(bound.map(|_| binding)).collect()
}

fn subject(subject: &Subject) -> RbacSubject {
    let (kind, name, namespace) = match subject {
        Subject::User(name) => ("User", name, None),
        Subject::Group(name) => ("Group", name, None),
        Subject::ServiceAccount { namespace, name } => ("ServiceAccount", name, Some(namespace.clone())),
    };
    let api_group = namespace.is_none().then(|| RBAC.to_owned());
    RbacSubject { kind: kind.to_owned(), name: name.clone(), namespace, api_group }
}

/// The rights as rules: a rule for each group, set of verbs, and either set of names of one kind or set of kinds.
fn rules(rights: Vec<Right>) -> Vec<PolicyRule> {
    // Verbs on any object of a kind are not repeated for single ones.
    let any: BTreeSet<(String, String, String)> = rights
        .iter()
        .filter(|right| right.name.is_none())
        .map(|right| (right.group.clone(), right.resource.clone(), right.verb.clone()))
        .collect();
    let mut verbs: BTreeMap<(String, String, Option<String>), BTreeSet<String>> = BTreeMap::new();
    for Right { group, resource, verb, name, .. } in rights {
        if name.is_none() || !any.contains(&(group.clone(), resource.clone(), verb.clone())) {
            verbs.entry((group, resource, name)).or_default().insert(verb);
        }
    }
    let mut names: BTreeMap<(String, String, BTreeSet<String>), Vec<String>> = BTreeMap::new();
    let mut kinds: BTreeMap<(String, BTreeSet<String>), Vec<String>> = BTreeMap::new();
    for ((group, resource, name), verbs) in verbs {
        match name {
            Some(name) => names.entry((group, resource, verbs)).or_default().push(name),
            None => kinds.entry((group, verbs)).or_default().push(resource),
        }
    }
    let rule =
        |group: String, resources: Vec<String>, names: Option<Vec<String>>, verbs: BTreeSet<String>| PolicyRule {
            api_groups: Some(vec![group]),
            resources: Some(resources),
            resource_names: names,
            verbs: verbs.into_iter().collect(),
            ..PolicyRule::default()
        };
    let of_kinds = kinds.into_iter().map(|((group, verbs), resources)| rule(group, resources, None, verbs));
    let of_names =
        names.into_iter().map(|((group, resource, verbs), names)| rule(group, vec![resource], Some(names), verbs));
    of_kinds.chain(of_names).collect()
}

#[cfg(test)]
mod tests {
    use super::{Right, rules};

    #[test]
    fn rights_are_put_together_without_repetition() {
        let right = |resource: &str, verb: &str, name: Option<&str>| Right {
            group: "apps".to_owned(),
            resource: resource.to_owned(),
            verb: verb.to_owned(),
            namespace: None,
            name: name.map(str::to_owned),
        };
        let all = rules(vec![
            right("deployments", "get", Some("a")),
            right("deployments", "get", Some("b")),
            right("deployments", "list", None),
            right("deployments", "list", Some("a")),
            right("daemonsets", "list", None),
        ]);
        let all: Vec<String> = all.iter().map(|rule| serde_json::to_string(rule).unwrap()).collect();
        assert_eq!(
            all,
            [
                r#"{"apiGroups":["apps"],"resources":["daemonsets","deployments"],"verbs":["list"]}"#,
                r#"{"apiGroups":["apps"],"resourceNames":["a","b"],"resources":["deployments"],"verbs":["get"]}"#
            ]
        );
    }
}
