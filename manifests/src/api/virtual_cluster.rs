//! VirtualCluster: one tenant's control plane. The fields are upstream's; everything that upstream's controllers write
//! must be accepted, so only the phase is required.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, CustomResourceExt};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What a tenant asks for.
#[expect(clippy::duplicated_attributes, reason = "each column names its own type and path")]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "tenancy.x-k8s.io",
    version = "v1alpha1",
    kind = "VirtualCluster",
    plural = "virtualclusters",
    singular = "virtualcluster",
    shortname = "vc",
    namespaced,
    status = "VirtualClusterStatus",
    derive = "PartialEq",
    doc = "A tenant's own control plane, run in the cluster that hosts it.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "ClusterVersion", type_ = "string", json_path = ".spec.clusterVersionName"),
    printcolumn(name = "ClusterNamespace", type_ = "string", json_path = ".status.clusterNamespace", priority = 1)
)]
pub struct VirtualClusterSpec {
    /// The ClusterVersion that the control plane is made from.
    pub cluster_version_name: String,

    /// The DNS domain of the tenant's cluster: a pod is found at POD.NAMESPACE.svc.DOMAIN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_domain: Option<String>,

    /// Days until the tenant's certificates expire; ten years when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pki_expire_days: Option<i64>,

    /// The range that the tenant's Services take their addresses from (CIDR).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_cidr: Option<String>,

    /// Prefixes of the labels and annotations that the host cluster sets and the tenant shall see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transparent_meta_prefixes: Option<Vec<String>>,

    /// Prefixes of the labels and annotations that stay in the host cluster, unseen by the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opaque_meta_prefixes: Option<Vec<String>>,
}

/// What vc-manager has made of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualClusterStatus {
    /// Where the control plane is in its life.
    pub phase: Phase,

    /// The namespace that the control plane's pods run in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_namespace: Option<String>,

    /// Why the phase is what it is, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// Why the phase is what it is, in one CamelCase word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// How the phase came about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

/// The phase of a control plane. Upstream's definition takes any string, so an unknown one is kept as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// vc-manager works on it; not all parts are ready.
    #[default]
    Pending,
    /// Every part is ready.
    Running,
    /// Its parts are being replaced.
    Updating,
    /// It cannot be made, as vc-manager says it.
    Error,
    /// It cannot be made, as tools beside vc-manager say it.
    Failed,
    /// Anything else that a controller wrote.
    #[serde(untagged)]
    Other(String),
}

impl JsonSchema for Phase {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Phase".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// One step of a control plane's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// True, False or Unknown.
    pub status: String,

    /// When the status last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_transition_time: Option<Time>,

    /// Why it changed, in one CamelCase word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// Why it changed, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Returns the definition of VirtualCluster.
///
/// It has no status subresource: upstream's vc-manager writes the status together with the object, and a subresource
/// would discard it. `spec` is not required, as in upstream's definition.
#[must_use]
pub fn virtual_cluster_definition() -> CustomResourceDefinition {
    let mut definition = VirtualCluster::crd();
    for version in &mut definition.spec.versions {
        version.subresources = None;
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            schema.required = None;
        }
    }
    definition.metadata.labels = Some(crate::workloads::labels(None));
    definition
}
