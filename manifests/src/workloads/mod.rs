//! The workloads and what they need: namespace, access, Secret, two Deployments and a DaemonSet. Names and selectors
//! are upstream's (selectors are immutable), so that an upstream installation can be taken over.

mod access;
mod manager;
mod pod;
mod surroundings;
mod syncer;
mod vn_agent;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::{Component, Parameters};

pub use access::access;
pub use manager::manager;
pub use pod::{ARCHITECTURE_LABEL, CONTROL_PLANE_LABELS, ETCD_LABEL, OS_LABEL, VIRTUAL_NODE_LABEL};
pub use surroundings::surroundings;
pub use syncer::syncer;
pub use vn_agent::{kubelet_client_secret, vn_agent};

/// Returns the namespace of every namespaced object.
#[must_use]
pub fn namespace(parameters: &Parameters) -> Namespace {
    let mut labels = labels(None);
    // vn-agent uses its node's network, which every other level forbids; the cluster's default for all namespaces may
    // be another level.
    labels.insert("pod-security.kubernetes.io/enforce".to_owned(), "privileged".to_owned());
    Namespace {
        metadata: ObjectMeta {
            name: Some(parameters.namespace.to_string()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// Returns the recommended labels of all objects, with the component's if there is one.
pub(crate) fn labels(component: Option<Component>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "virtualcluster".to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), "vcdist".to_owned()),
    ]);
    if let Some(component) = component {
        labels.insert("app.kubernetes.io/component".to_owned(), component.name().to_owned());
    }
    labels
}

/// Returns upstream's label that selects a component's pods.
fn selector(component: Component) -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), component.workload().to_owned())])
}

fn label_selector(component: Component) -> LabelSelector {
    LabelSelector { match_labels: Some(selector(component)), match_expressions: None }
}

/// Returns the metadata of a component's namespaced object with this name.
fn metadata(parameters: &Parameters, component: Component, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(parameters.namespace.to_string()),
        labels: Some(labels(Some(component))),
        ..ObjectMeta::default()
    }
}

/// Returns the metadata of a component's workload: with upstream's label in addition.
fn workload_metadata(parameters: &Parameters, component: Component) -> ObjectMeta {
    let mut metadata = metadata(parameters, component, component.workload());
    metadata.labels.get_or_insert_default().extend(selector(component));
    metadata
}
