//! The requests of each command, as rights. `distributor/tests/vcdist/rights.rs` compares them with what the commands send.

use vcmanifests::{Object, Stage};

use super::{Right, Task};
use crate::detect;
use crate::lock;
use crate::rollout::{PREDECESSORS, WORKLOADS};
use crate::uninstall::{NAMESPACE_KINDS, WEBHOOK_SERVICE, WEBHOOKS};
use crate::verify;

/// The group of VirtualCluster's API.
const TENANCY: &str = "tenancy.x-k8s.io";

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    namespace: Option<&'a str>,
    name: Option<&'a str>,
}

const ANYWHERE: Place<'static> = Place { namespace: None, name: None };

/// The rights of a task.
pub(super) fn of(task: Task, objects: &[Object], namespace: &str) -> Vec<Right> {
    let here = Place { namespace: Some(namespace), name: None };
    match task {
        Task::Deploy => deploy(objects, here),
        Task::Verify => verify(objects, here),
        Task::Nodes => rights("", "nodes", &["list", "watch"], ANYWHERE),
        Task::Detect => detect(),
        Task::Validate => validate(here),
        Task::Prune => prune(),
        Task::Uninstall => uninstall(objects, here),
    }
}

fn deploy(objects: &[Object], here: Place<'_>) -> Vec<Right> {
    let mut all = on_each(objects, |_| vec!["get", "create", "patch"]);
    all.extend(lock());
    // A binding to a role that is not there yet, as in a dry run, needs this right; the role itself cannot grant more than its
    // creator holds.
    all.extend(on_each(objects, |object| match object {
        Object::ClusterRole(_) | Object::Role(_) => vec!["bind"],
        _ => Vec::new(),
    }));
    // Objects that have a state are waited for.
    all.extend(on_each(objects, |object| match object.stage() {
        Stage::Access => Vec::new(),
        _ => vec!["list", "watch"],
    }));
    all.extend(rights("apps", "controllerrevisions", &["list", "create", "patch", "delete"], here));
    // Why a rollout does not come to an end; pods and controllers that are stuck.
    all.extend(rights("", "pods", &["list", "delete"], here));
    all.extend(rights("", "pods/log", &["get"], here));
    all.extend(rights("", "events", &["list"], here));
    all.extend(rights("apps", "replicasets", &["list", "patch"], here));
    all.extend(takeover());
    // Whether tenants' objects survive a change of their definitions.
    for resource in ["virtualclusters", "clusterversions"] {
        all.extend(rights(TENANCY, resource, &["list"], ANYWHERE));
    }
    all
}

/// The roles of an installation of another tool, which ours replace, and who else is bound to them.
fn takeover() -> Vec<Right> {
    const RBAC: &str = "rbac.authorization.k8s.io";
    let mut all = Vec::new();
    for name in PREDECESSORS {
        let place = Place { namespace: None, name: Some(name) };
        for resource in ["clusterroles", "clusterrolebindings"] {
            all.extend(rights(RBAC, resource, &["get", "delete"], place));
        }
    }
    for resource in ["clusterrolebindings", "rolebindings"] {
        all.extend(rights(RBAC, resource, &["list"], ANYWHERE));
    }
    all
}

/// The Lease that keeps two commands from changing the cluster at once. It is created by a request without its name.
fn lock() -> Vec<Right> {
    let place = Place { namespace: Some(lock::NAMESPACE), name: None };
    let mut all = rights("coordination.k8s.io", "leases", &["create"], place);
    let place = Place { name: Some(lock::NAME), ..place };
    all.extend(rights("coordination.k8s.io", "leases", &["get", "update", "delete"], place));
    all
}

fn verify(objects: &[Object], here: Place<'_>) -> Vec<Right> {
    let mut all = on_each(objects, |object| match object.stage() {
        Stage::Namespace | Stage::Definitions => vec!["get"],
        _ => Vec::new(),
    });
    for (group, resource) in [("", "pods"), ("", "events"), ("apps", "deployments"), ("apps", "daemonsets")] {
        all.extend(rights(group, resource, &["list"], here));
    }
    all.extend(rights("", "nodes", &["list"], ANYWHERE));
    all.extend(rights("", "pods/log", &["get"], here));
    all.extend(rights("coordination.k8s.io", "leases", &["list"], here));
    let webhook = Place { namespace: None, name: Some(verify::WEBHOOK) };
    all.extend(rights("admissionregistration.k8s.io", "validatingwebhookconfigurations", &["get"], webhook));
    // In a dry run, for which the API server calls the webhook.
    all.extend(rights(TENANCY, "virtualclusters", &["create"], here));
    all
}

fn detect() -> Vec<Right> {
    let place = Place { namespace: Some(detect::NAMESPACE), name: None };
    let mut all = rights("", "pods", &["list"], place);
    // A ClusterVersion has the name of a version.
    all.extend(rights(TENANCY, "clusterversions", &["create", "patch"], ANYWHERE));
    all
}

fn validate(here: Place<'_>) -> Vec<Right> {
    let namespace = Place { namespace: None, name: here.namespace };
    let mut all = rights("", "namespaces", &["get"], namespace);
    // In a dry run, to hear whether they would be admitted; and whose ports are taken.
    all.extend(rights("", "pods", &["create", "list"], here));
    for resource in ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"] {
        all.extend(rights("admissionregistration.k8s.io", resource, &["list"], ANYWHERE));
    }
    all.extend(rights("discovery.k8s.io", "endpointslices", &["list"], ANYWHERE));
    all
}

fn prune() -> Vec<Right> {
    let mut all = Vec::new();
    for (group, _, _, plural) in WORKLOADS {
        all.extend(rights(group, plural, &["list"], ANYWHERE));
    }
    all.extend(rights("", "pods", &["list"], ANYWHERE));
    all.extend(rights("apps", "controllerrevisions", &["list"], ANYWHERE));
    all.extend(rights("apiextensions.k8s.io", "customresourcedefinitions", &["list"], ANYWHERE));
    all.extend(rights(TENANCY, "virtualclusters", &["list"], ANYWHERE));
    all.extend(rights(TENANCY, "clusterversions", &["list"], ANYWHERE));
    all
}

fn uninstall(objects: &[Object], here: Place<'_>) -> Vec<Right> {
    let mut all = on_each(objects, |_| vec!["get", "delete"]);
    all.extend(lock());
    for (group, _, _, plural) in NAMESPACE_KINDS {
        all.extend(rights(group, plural, &["list"], here));
    }
    all.extend(rights("apps", "controllerrevisions", &["get", "list", "delete"], here));
    let service = Place { name: Some(WEBHOOK_SERVICE), ..here };
    all.extend(rights("", "services", &["get", "delete"], service));
    for (_, plural, name) in WEBHOOKS {
        let webhook = Place { namespace: None, name: Some(name) };
        all.extend(rights("admissionregistration.k8s.io", plural, &["get", "delete"], webhook));
    }
    // Tenants, their namespaces, which have any name, and their finalizers.
    for resource in ["virtualclusters", "clusterversions"] {
        all.extend(rights(TENANCY, resource, &["get", "list", "patch", "delete"], ANYWHERE));
    }
    all.extend(rights("", "namespaces", &["get", "list", "delete"], ANYWHERE));
    all
}

/// Rights on each object by its name.
fn on_each(objects: &[Object], verbs: impl Fn(&Object) -> Vec<&'static str>) -> Vec<Right> {
    let of = |object: &Object| {
        let group = object.api_version().split_once('/').map_or("", |(group, _)| group);
        let place = Place { namespace: object.namespace(), name: Some(object.name()) };
        rights(group, object.plural(), &verbs(object), place)
    };
    objects.iter().flat_map(of).collect()
}

fn rights(group: &str, resource: &str, verbs: &[&str], place: Place<'_>) -> Vec<Right> {
    let right = |verb: &&str| Right {
        group: group.to_owned(),
        resource: resource.to_owned(),
        verb: (*verb).to_owned(),
        namespace: place.namespace.map(str::to_owned),
        name: place.name.map(str::to_owned),
    };
    verbs.iter().map(right).collect()
}
