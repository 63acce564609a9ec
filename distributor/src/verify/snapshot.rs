//! The input of verification, fetched from the API server in one step. The checks use nothing else, so that they can be
//! tested on any state of a cluster.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, Resource};
use serde::de::DeserializeOwned;
use vcmanifests::{Component, NamespaceName};

use crate::cluster::{self, Cluster};

/// The state of a cluster, as far as verification needs it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The name of the installation's namespace.
    pub name: String,
    /// The namespace, if it exists.
    pub namespace: Option<Namespace>,
    /// The definitions of VirtualCluster's API that exist.
    pub definitions: Vec<CustomResourceDefinition>,
    /// The Deployments of the namespace.
    pub deployments: Vec<Deployment>,
    /// The DaemonSets of the namespace.
    pub daemonsets: Vec<DaemonSet>,
    /// The pods of the namespace.
    pub pods: Vec<Pod>,
    /// All nodes of the cluster.
    pub nodes: Vec<Node>,
    /// The Warning events of the namespace.
    pub warnings: Vec<Event>,
    /// The time of the snapshot by this machine's clock.
    pub now: Timestamp,
}

/// Fetches the input of verification.
///
/// # Errors
/// Returns an error if the API server cannot be reached or rejects a request.
pub async fn fetch(cluster: &Cluster, namespace: &NamespaceName) -> Result<Snapshot, cluster::Error> {
    let name = namespace.as_str();
    let all = ListParams::default();
    let warnings = ListParams::default().fields("type=Warning");
    let client = || cluster.client();
    let (namespace, [versions, clusters], deployments, daemonsets, pods, nodes, warnings) = tokio::try_join!(
        get::<Namespace>(cluster, name),
        both_definitions(cluster),
        list(cluster, "Deployments", Api::<Deployment>::namespaced(client(), name), &all),
        list(cluster, "DaemonSets", Api::<DaemonSet>::namespaced(client(), name), &all),
        list(cluster, "pods", Api::<Pod>::namespaced(client(), name), &all),
        list(cluster, "nodes", Api::<Node>::all(client()), &all),
        list(cluster, "events", Api::<Event>::namespaced(client(), name), &warnings),
    )?;
    Ok(Snapshot {
        name: name.to_owned(),
        namespace,
        definitions: [versions, clusters].into_iter().flatten().collect(),
        deployments,
        daemonsets,
        pods,
        nodes,
        warnings,
        now: Timestamp::now(),
    })
}

/// Returns the pods of a component: the name of its Deployment or DaemonSet equals the value of its pods' label.
pub(super) fn pods_of(snapshot: &Snapshot, component: Component) -> impl Iterator<Item = &Pod> {
    snapshot.pods.iter().filter(move |pod| {
        pod.metadata.labels.iter().flatten().any(|(key, value)| key == "app" && value == component.workload())
    })
}

async fn both_definitions(cluster: &Cluster) -> Result<[Option<CustomResourceDefinition>; 2], cluster::Error> {
    let [versions, clusters] = super::definitions::NAMES;
    let (versions, clusters) = tokio::try_join!(get(cluster, versions), get(cluster, clusters))?;
    Ok([versions, clusters])
}

async fn get<K>(cluster: &Cluster, name: &str) -> Result<Option<K>, cluster::Error>
where
    K: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + k8s_openapi::Resource,
{
    let found = Api::<K>::all(cluster.client()).get_opt(name).await;
    found.map_err(|error| {
        cluster.failed(format!("reading {}/{name}", <K as k8s_openapi::Resource>::KIND.to_lowercase()), error)
    })
}

async fn list<K>(cluster: &Cluster, what: &str, api: Api<K>, query: &ListParams) -> Result<Vec<K>, cluster::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let listed = api.list(query).await.map_err(|error| cluster.failed(format!("listing {what}"), error))?;
    Ok(listed.items)
}
