//! What runs on the node: the answer to Containers. Nothing here changes anything.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use containerd_client::services::v1::{ListContainersRequest, ListTasksRequest};
use containerd_client::types::v1::Status as TaskStatus;
use tonic::Status;

use super::containerd::{Containerd, refused};
use super::probe;
use crate::protocol::proto::{Container, ContainersResponse};

/// The label that tells a container from the sandbox around it, and its value for the latter.
const SANDBOX: (&str, &str) = ("io.cri-containerd.kind", "sandbox");

/// Says which containers run, and what they were made from.
pub(super) async fn containers(containerd: &Containerd) -> Result<ContainersResponse, Status> {
    let listed = containerd.containers().list(ListContainersRequest { filters: Vec::new() }).await;
    let listed = listed.map_err(refused("listing containers"))?.into_inner().containers;
    let tasks = containerd.tasks().list(ListTasksRequest { filter: String::new() }).await;
    let tasks = tasks.map_err(refused("listing what runs"))?.into_inner().tasks;
    let ended = |status: TaskStatus| matches!(status, TaskStatus::Stopped | TaskStatus::Unknown);
    let running: BTreeSet<String> =
        tasks.into_iter().filter(|task| !ended(task.status())).map(|task| task.id).collect();
    let mut targets: BTreeMap<String, String> = BTreeMap::new();
    let mut containers = Vec::new();
    for container in listed {
        let is_sandbox = container.labels.get(SANDBOX.0).is_some_and(|kind| kind == SANDBOX.1);
        if is_sandbox || !running.contains(&container.id) {
            continue;
        }
        if !targets.contains_key(&container.image) {
            let record = probe::image(containerd, &container.image).await?.map(probe::record);
            targets.insert(container.image.clone(), record.map(|record| record.target).unwrap_or_default());
        }
        containers.push(Container {
            target: targets.get(&container.image).cloned().unwrap_or_default(),
            pod: pod(&container.labels),
            id: container.id,
            image: container.image,
        });
    }
    Ok(ContainersResponse { containers })
}

/// The pod that the CRI made a container for.
fn pod(labels: &HashMap<String, String>) -> String {
    let label = |name: &str| labels.get(&format!("io.kubernetes.pod.{name}"));
    label("namespace").zip(label("name")).map(|(namespace, name)| format!("{namespace}/{name}")).unwrap_or_default()
}
