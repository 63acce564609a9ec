//! ClusterVersion: the template from which tenants' control planes are created. It contains a StatefulSet and a Service
//! for each of etcd, API server and controller manager.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceValidation, JSONSchemaProps,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{CustomResource, CustomResourceExt};
use serde::{Deserialize, Serialize};

/// The parts of a control plane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "tenancy.x-k8s.io",
    version = "v1alpha1",
    kind = "ClusterVersion",
    plural = "clusterversions",
    singular = "clusterversion",
    shortname = "cv",
    schema = "disabled",
    derive = "PartialEq",
    doc = "The recipe that tenants' control planes are made from."
)]
pub struct ClusterVersionSpec {
    /// etcd, whose objects must be named `etcd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Bundle>,

    /// The API server, whose objects must be named `apiserver`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_server: Option<Bundle>,

    /// The controller manager, whose objects must be named `controller-manager`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller_manager: Option<Bundle>,
}

/// A StatefulSet and the Service that exposes it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// The part's name and labels.
    #[serde(default)]
    pub metadata: ObjectMeta,

    /// The StatefulSet that runs the part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statefulset: Option<StatefulSet>,

    /// The Service that exposes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
}

/// Returns the definition of ClusterVersion.
///
/// Its schema accepts any object and preserves every field, like upstream's: the objects contain whole StatefulSets of
/// any Kubernetes version.
#[must_use]
pub fn cluster_version_definition() -> CustomResourceDefinition {
    let mut definition = ClusterVersion::crd();
    for version in &mut definition.spec.versions {
        version.schema = Some(CustomResourceValidation {
            open_api_v3_schema: Some(JSONSchemaProps {
                description: Some("The recipe that tenants' control planes are made from.".to_owned()),
                type_: Some("object".to_owned()),
                x_kubernetes_preserve_unknown_fields: Some(true),
                ..JSONSchemaProps::default()
            }),
        });
    }
    definition.metadata.labels = Some(crate::workloads::labels(None));
    definition
}
