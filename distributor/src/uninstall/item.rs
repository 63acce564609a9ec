//! One object that a removal is about, and the step that it goes in.

use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde::Serialize;
use vcmanifests::Object;

use crate::cluster::Cluster;
use crate::rollout::Kept;

/// A step of the removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// VirtualClusters, which their controller takes apart.
    Tenants,
    /// The namespaces that tenants had in this cluster.
    TenantNamespaces,
    /// ClusterVersions, which VirtualClusters need.
    ClusterVersions,
    /// The webhook configurations that vc-manager makes, and their Service.
    Webhooks,
    /// Objects of kinds that definitions of a release define, which their controller takes apart.
    Custom,
    /// What runs.
    Workloads,
    /// Accounts, roles and Secrets.
    Access,
    /// Custom resource definitions.
    Definitions,
    /// The namespaces of a release but for that of its revisions.
    OtherNamespaces,
    /// Revisions, which say what there was to remove.
    Revisions,
    /// The namespace.
    Namespace,
}

impl Step {
    /// Those of an installation, in order.
    pub const OF_INSTALLATION: [Self; 9] = [
        Self::Tenants,
        Self::TenantNamespaces,
        Self::ClusterVersions,
        Self::Webhooks,
        Self::Workloads,
        Self::Access,
        Self::Definitions,
        Self::Revisions,
        Self::Namespace,
    ];

    /// Those of a release with a name, in order: what asks a controller goes first, and what one takes apart while it runs.
    pub const OF_RELEASE: [Self; 8] = [
        Self::Webhooks,
        Self::Custom,
        Self::Definitions,
        Self::Workloads,
        Self::Access,
        Self::OtherNamespaces,
        Self::Revisions,
        Self::Namespace,
    ];
}

/// An object that goes.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// The step that it goes in.
    #[serde(skip)]
    pub step: Step,
    /// How to ask for its kind.
    #[serde(skip)]
    pub(super) resource: ApiResource,
    /// The very object: one of the same name that comes after it is another's.
    #[serde(skip)]
    pub(super) uid: Option<String>,
}

impl Item {
    pub(super) fn new(step: Step, resource: &ApiResource, found: &DynamicObject) -> Self {
        Self {
            kind: resource.kind.clone(),
            name: found.metadata.name.clone().unwrap_or_default(),
            namespace: found.metadata.namespace.clone(),
            step,
            resource: resource.clone(),
            uid: found.metadata.uid.clone(),
        }
    }

    /// `virtualcluster/a in tenants`.
    #[must_use]
    pub fn title(&self) -> String {
        let within = self.namespace.as_ref().map(|namespace| format!(" in {namespace}")).unwrap_or_default();
        format!("{}/{}{within}", self.kind.to_lowercase(), self.name)
    }

    pub(super) fn api(&self, cluster: &Cluster) -> Api<DynamicObject> {
        api(cluster, &self.resource, self.namespace.as_deref())
    }

    /// As something that stays.
    pub(super) fn kept(self, why: String) -> Kept {
        Kept { kind: self.kind, name: self.name, namespace: self.namespace, why }
    }
}

/// The API of a kind, in a namespace or in all.
pub(super) fn api(cluster: &Cluster, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client(), namespace, resource),
        None => Api::all_with(cluster.client(), resource),
    }
}

/// How to ask for a kind.
pub(super) fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// How to ask for the kind of an object of ours.
pub(super) fn resource_of(object: &Object) -> ApiResource {
    let (group, version) = object.api_version().split_once('/').unwrap_or(("", object.api_version()));
    resource(group, version, object.kind(), object.plural())
}
