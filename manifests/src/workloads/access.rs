//! Permissions: an account, a role and a binding for each component. They grant at least what upstream grants;
//! additional permissions are marked.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::workloads::{labels, metadata};
use crate::{Component, Object, Parameters};

const READ: [&str; 3] = ["get", "list", "watch"];
const MANAGE: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];
const MANAGE_MANY: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
const STATUS: [&str; 3] = ["get", "update", "patch"];

/// Returns the accounts, roles and bindings of the three components.
#[must_use]
pub fn access(parameters: &Parameters) -> Vec<Object> {
    let mut objects = Vec::new();
    for component in Component::ALL {
        objects.push(Object::ServiceAccount(ServiceAccount {
            metadata: metadata(parameters, component, component.workload()),
            ..ServiceAccount::default()
        }));
        objects.extend(cluster_access(parameters, component));
    }
    objects.extend(syncer_lease(parameters));
    objects
}

fn cluster_access(parameters: &Parameters, component: Component) -> [Object; 2] {
    let role = format!("{}-role", component.workload());
    let rules = match component {
        Component::Manager => manager_rules(),
        Component::Syncer => syncer_rules(),
        Component::VnAgent => vn_agent_rules(),
    };
    [
        Object::ClusterRole(ClusterRole {
            metadata: cluster_metadata(component, &role),
            rules: Some(rules),
            aggregation_rule: None,
        }),
        Object::ClusterRoleBinding(ClusterRoleBinding {
            metadata: cluster_metadata(component, &format!("{role}binding")),
            role_ref: role_ref("ClusterRole", &role),
            subjects: Some(vec![subject(parameters, component)]),
        }),
    ]
}

/// Beyond upstream: the leader election lease of vc-syncer, only in its own namespace.
fn syncer_lease(parameters: &Parameters) -> [Object; 2] {
    let name = "vc-syncer-leader-election";
    [
        Object::Role(Role {
            metadata: metadata(parameters, Component::Syncer, name),
            rules: Some(vec![rule(["coordination.k8s.io"], ["leases"], MANAGE)]),
        }),
        Object::RoleBinding(RoleBinding {
            metadata: metadata(parameters, Component::Syncer, name),
            role_ref: role_ref("Role", name),
            subjects: Some(vec![subject(parameters, Component::Syncer)]),
        }),
    ]
}

fn manager_rules() -> Vec<PolicyRule> {
    vec![
        rule(["tenancy.x-k8s.io"], ["virtualclusters", "clusterversions"], MANAGE),
        rule(["tenancy.x-k8s.io"], ["virtualclusters/status", "clusterversions/status"], STATUS),
        rule(["apps"], ["statefulsets"], MANAGE),
        rule(["apps"], ["statefulsets/status"], STATUS),
        rule([""], ["services", "events", "secrets", "configmaps", "namespaces"], MANAGE),
        rule([""], ["services/status", "secrets/status", "configmaps/status"], STATUS),
        rule(
            ["admissionregistration.k8s.io"],
            ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
            MANAGE,
        ),
        rule(["coordination.k8s.io"], ["leases"], MANAGE),
        rule(["certificates.k8s.io"], ["certificatesigningrequests", "certificatesigningrequests/approval"], MANAGE),
        PolicyRule {
            resource_names: Some(vec!["kubernetes.io/legacy-unknown".to_owned()]),
            ..rule(["certificates.k8s.io"], ["signers"], ["approve"])
        },
    ]
}

fn syncer_rules() -> Vec<PolicyRule> {
    vec![
        rule(
            [""],
            [
                "configmaps",
                "endpoints",
                "namespaces",
                "pods",
                "secrets",
                "services",
                "serviceaccounts",
                "persistentvolumeclaims",
            ],
            MANAGE_MANY,
        ),
        // Beyond upstream: its code uses networking.k8s.io, which replaced extensions.
        rule(["extensions", "networking.k8s.io"], ["ingresses"], MANAGE_MANY),
        rule(["scheduling.k8s.io"], ["priorityclasses"], MANAGE),
        rule(["", "storage.k8s.io"], ["events", "nodes", "persistentvolumes", "storageclasses"], READ),
        rule(["", "storage.k8s.io"], ["events"], ["create", "patch"]),
        rule(
            [""],
            [
                "namespaces/status",
                "pods/status",
                "services/status",
                "nodes/status",
                "persistentvolumes/status",
                "persistentvolumeclaims/status",
            ],
            ["get"],
        ),
        rule(["tenancy.x-k8s.io"], ["virtualclusters"], READ),
        rule(["tenancy.x-k8s.io"], ["virtualclusters/status"], ["get"]),
    ]
}

fn vn_agent_rules() -> Vec<PolicyRule> {
    vec![
        rule([""], ["pods", "pods/log", "pods/exec", "pods/portforward", "nodes/proxy"], ["get", "list", "create"]),
        // Beyond upstream: vn-agent verifies a tenant's certificate against the root CA of that tenant, if it was built with
        // vcbuild's edit `vn-agent-client-certificate`.
        rule([""], ["namespaces"], ["get"]),
        PolicyRule { resource_names: Some(vec!["root-ca".to_owned()]), ..rule([""], ["secrets"], ["get"]) },
    ]
}

fn rule<const G: usize, const R: usize, const V: usize>(
    groups: [&str; G],
    resources: [&str; R],
    verbs: [&str; V],
) -> PolicyRule {
    PolicyRule {
        api_groups: Some(groups.map(str::to_owned).to_vec()),
        resources: Some(resources.map(str::to_owned).to_vec()),
        verbs: verbs.map(str::to_owned).to_vec(),
        ..PolicyRule::default()
    }
}

fn cluster_metadata(component: Component, name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), labels: Some(labels(Some(component))), ..ObjectMeta::default() }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: "rbac.authorization.k8s.io".to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}

fn subject(parameters: &Parameters, component: Component) -> Subject {
    Subject {
        kind: "ServiceAccount".to_owned(),
        name: component.workload().to_owned(),
        namespace: Some(parameters.namespace.to_string()),
        api_group: None,
    }
}
