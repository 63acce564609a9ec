//! The input of verification, fetched from the API server in one step. The checks use nothing else, so that they can be
//! tested on any state of a cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::iter;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, LogParams, Resource};
use serde::de::DeserializeOwned;
use vcmanifests::{Component, NamespaceName};

use super::leaders;
use super::logs::{self, PodLog};
use super::probe::{self, Answer, Probe};
use super::webhook::{self, Call};
use crate::cluster::{self, Cluster};
use crate::rollout::pods;

/// The port of vn-agent, unless its arguments name another.
const AGENT_PORT: u16 = 10550;

/// How long an election may take: the Lease of a leader that was killed lasts 15 seconds.
const ELECTION: Duration = Duration::from_secs(20);

/// How many logs are read, and vn-agents asked, at the same time.
const AT_ONCE: usize = 16;

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
    /// The Leases of the namespace.
    pub leases: Vec<Lease>,
    /// The configuration of vc-manager's webhook, if it exists.
    pub webhook: Option<ValidatingWebhookConfiguration>,
    /// What became of a call of the webhook.
    pub webhook_call: Call,
    /// The last lines of the logs of the ready pods of the components, by pod.
    pub logs: BTreeMap<String, PodLog>,
    /// What the ready vn-agents answered to a client with a self-signed certificate.
    pub probes: Vec<Probe>,
    /// The time of the snapshot by the API server's clock.
    pub now: Timestamp,
}

/// Fetches the input of verification: asks the API server, and connects to each vn-agent. Waits for an election of a leader
/// that is under way.
///
/// # Errors
/// Returns an error if the API server cannot be reached or rejects a request.
pub async fn fetch(cluster: &Cluster, namespace: &NamespaceName) -> Result<Snapshot, cluster::Error> {
    let name = namespace.as_str();
    let all = ListParams::default();
    let warnings = ListParams::default().fields("type=Warning");
    let client = || cluster.client();
    let leases = || Api::<Lease>::namespaced(client(), name);
    let (namespace, [versions, clusters], deployments, daemonsets, pods, nodes, warnings, held, webhook) = tokio::try_join!(
        get::<Namespace>(cluster, name),
        both_definitions(cluster),
        list(cluster, "Deployments", Api::<Deployment>::namespaced(client(), name), &all),
        list(cluster, "DaemonSets", Api::<DaemonSet>::namespaced(client(), name), &all),
        list(cluster, "pods", Api::<Pod>::namespaced(client(), name), &all),
        list(cluster, "nodes", Api::<Node>::all(client()), &all),
        list(cluster, "events", Api::<Event>::namespaced(client(), name), &warnings),
        list(cluster, "leases", leases(), &all),
        webhook::configuration(cluster),
    )?;
    let mut snapshot = Snapshot {
        name: name.to_owned(),
        namespace,
        definitions: [versions, clusters].into_iter().flatten().collect(),
        deployments,
        daemonsets,
        pods,
        nodes,
        warnings,
        leases: held,
        webhook_call: if webhook.is_some() { webhook::call(cluster, name).await } else { Call::None },
        webhook,
        logs: BTreeMap::new(),
        probes: Vec::new(),
        now: Timestamp::now(),
    };
    snapshot.logs = read_logs(cluster, &snapshot).await;
    snapshot.probes = ask_agents(&snapshot).await;
    snapshot.now = cluster.clock().unwrap_or_else(Timestamp::now);
    let deadline = Instant::now() + ELECTION;
    while leaders::is_pending(&snapshot) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_secs(1)).await;
        snapshot.leases = list(cluster, "leases", leases(), &all).await?;
        snapshot.now = cluster.clock().unwrap_or_else(Timestamp::now);
    }
    Ok(snapshot)
}

/// Reads the last lines of the logs of the components' ready pods.
async fn read_logs(cluster: &Cluster, snapshot: &Snapshot) -> BTreeMap<String, PodLog> {
    let api = Api::<Pod>::namespaced(cluster.client_without_retries(), &snapshot.name);
    let ready = Component::ALL.into_iter().flat_map(|component| pods_of(snapshot, component)).filter(|pod| is_up(pod));
    let read = |pod: Pod| {
        let api = api.clone();
        async move {
            let container = pod.spec.as_ref().and_then(|spec| Some(spec.containers.first()?.name.clone()));
            let last = LogParams { container, tail_lines: Some(logs::LINES), timestamps: true, ..LogParams::default() };
            let text = api.logs(pods::name(&pod), &last).await;
            (pods::name(&pod).to_owned(), text.map(|text| logs::lines(&text)).map_err(|error| error.to_string()))
        }
    };
    iter(ready.cloned()).map(read).buffer_unordered(AT_ONCE).collect().await
}

/// Connects to each ready vn-agent.
async fn ask_agents(snapshot: &Snapshot) -> Vec<Probe> {
    let ready = pods_of(snapshot, Component::VnAgent).filter(|pod| is_up(pod));
    let ask = |pod: Pod| async move {
        let host = pod.status.as_ref().and_then(|status| status.host_ip.clone()).unwrap_or_default();
        let node = pods::node(&pod).unwrap_or_default().to_owned();
        let port = agent_port(&pod);
        let Ok(ip) = host.parse() else {
            let answer = Answer::Unreachable("its pod has no address of a node yet".to_owned());
            return Probe { node, address: format!("{host}:{port}"), answer };
        };
        let address = SocketAddr::new(ip, port);
        let asked = tokio::task::spawn_blocking(move || probe::ask(address)).await;
        let answer = asked.unwrap_or_else(|error| Answer::Unreachable(error.to_string()));
        Probe { node, address: address.to_string(), answer }
    };
    let mut probes: Vec<Probe> = iter(ready.cloned()).map(ask).buffer_unordered(AT_ONCE).collect().await;
    probes.sort_by(|one, other| one.node.cmp(&other.node));
    probes
}

fn agent_port(pod: &Pod) -> u16 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut arguments = containers.flat_map(|container| container.args.iter().flatten());
    arguments.find_map(|argument| argument.strip_prefix("--port=")?.parse().ok()).unwrap_or(AGENT_PORT)
}

fn is_up(pod: &Pod) -> bool {
    pods::is_current(pod) && pods::is_ready(pod)
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

pub(super) async fn get<K>(cluster: &Cluster, name: &str) -> Result<Option<K>, cluster::Error>
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
