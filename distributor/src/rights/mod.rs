//! The rights that vcdist needs in a cluster: those on the objects that it applies, derived from these very objects, and those for
//! the other requests of each command. Uses constants of [`crate::detect`], [`crate::lock`], [`crate::rollout`],
//! [`crate::uninstall`] and [`crate::verify`].

mod calls;
mod manifest;

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::rbac::v1::PolicyRule;
use vcmanifests::Object;

pub use manifest::{Subject, manifest};

/// The commands that need a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// deploy, diff, history, rollback, and status of what is rolled out.
    Deploy,
    /// verify.
    Verify,
    /// push, plan, status and validate: which nodes there are.
    Nodes,
    /// detect and clusterversion.
    Detect,
    /// validate: what admission would say.
    Validate,
    /// prune, and rollback and uninstall with images: what the cluster uses.
    Prune,
    /// uninstall, with its tenants.
    Uninstall,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Deploy, Self::Verify, Self::Nodes, Self::Detect, Self::Validate, Self::Prune, Self::Uninstall];
}

/// One right, as a request of the Kubernetes API needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The API group; empty for the core.
    pub group: String,
    /// The plural of the kind, with its subresource: `pods/log`.
    pub resource: String,
    /// The verb.
    pub verb: String,
    /// The namespace; none for kinds without one, and for all namespaces.
    pub namespace: Option<String>,
    /// The object's name; none for any.
    pub name: Option<String>,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, "/{name}")?;
        }
        if let Some(namespace) = &self.namespace {
            write!(f, " in {namespace}")?;
        }
        Ok(())
    }
}

/// The rights that `tasks` need for an installation of `objects` in `namespace`, without those that its roles grant.
#[must_use]
pub fn required(objects: &[Object], namespace: &str, tasks: &[Task]) -> BTreeSet<Right> {
    tasks.iter().flat_map(|task| calls::of(*task, objects, namespace)).collect()
}

/// A rule that a role of an installation grants, and where. Nobody may create a role that grants what they lack.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The role: `clusterrole/vc-manager-role`.
    pub role: String,
    /// Whose rule it is: a namespace's, or the whole cluster's.
    pub namespace: Option<String>,
    /// The rule.
    pub rule: PolicyRule,
}

impl Grant {
    /// The rule as single rights.
    #[must_use]
    pub fn rights(&self) -> Vec<Right> {
        let none = || vec![None];
        let names = self.rule.resource_names.as_ref().filter(|names| !names.is_empty());
        let names: Vec<Option<String>> = names.map_or_else(none, |names| names.iter().cloned().map(Some).collect());
        let mut rights = Vec::new();
        for group in self.rule.api_groups.iter().flatten() {
            for resource in self.rule.resources.iter().flatten() {
                for verb in &self.rule.verbs {
                    rights.extend(names.iter().map(|name| Right {
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        namespace: self.namespace.clone(),
                        name: name.clone(),
                    }));
                }
            }
        }
        rights
    }
}

/// The rules that the roles among `objects` grant.
#[must_use]
pub fn granted(objects: &[Object]) -> Vec<Grant> {
    let mut grants = Vec::new();
    for object in objects {
        let rules = match object {
            Object::ClusterRole(role) => &role.rules,
            Object::Role(role) => &role.rules,
            _ => continue,
        };
        let namespace = object.namespace().map(str::to_owned);
        let role = crate::rollout::title(object);
        grants.extend(rules.iter().flatten().map(|rule| Grant {
            role: role.clone(),
            namespace: namespace.clone(),
            rule: rule.clone(),
        }));
    }
    grants
}

#[cfg(test)]
mod tests {
    use vcmanifests::{Component, ImageReference, Images, Parameters};

    use super::{Task, granted, required};

    fn objects() -> Vec<vcmanifests::Object> {
        let digest = format!("sha256:{}", "0".repeat(64));
        let image = |component: Component| ImageReference::new(&format!("docker.io/a/{component}:1"), &digest).unwrap();
        let [manager, syncer, vn_agent] = Component::ALL.map(image);
        vcmanifests::objects(&Parameters::new(Images { manager, syncer, vn_agent }))
    }

    #[test]
    fn every_object_that_is_applied_needs_its_rights_by_name() {
        let all: Vec<String> =
            required(&objects(), "vc-manager", &[Task::Deploy]).iter().map(ToString::to_string).collect();
        for object in &objects() {
            let at = object.namespace().map(|namespace| format!(" in {namespace}")).unwrap_or_default();
            let found = all.iter().filter(|right| right.ends_with(&format!("/{}{at}", object.name()))).count();
            assert!(found >= 3, "get, create and patch of {}: {all:#?}", object.name());
        }
        assert!(all.contains(&"watch daemonsets.apps/vn-agent in vc-manager".to_owned()), "{all:#?}");
        let deletes_ours = |right: &String| right.starts_with("delete clusterroles") && right.contains("-role");
        assert!(!all.iter().any(deletes_ours), "only an uninstallation deletes them");
    }

    #[test]
    fn what_roles_grant_is_read_from_them() {
        let grants = granted(&objects());
        let right = |text: &str| grants.iter().flat_map(super::Grant::rights).any(|right| right.to_string() == text);
        assert!(right("deletecollection pods") && right("update leases.coordination.k8s.io in vc-manager"));
        assert!(right("approve signers.certificates.k8s.io/kubernetes.io/legacy-unknown"));
        assert!(!right("update leases.coordination.k8s.io in kube-system"));
    }
}
