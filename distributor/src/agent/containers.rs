//! What the node's containers were made from: the answer to Containers. Nothing here changes anything.

use std::collections::{BTreeSet, HashMap};

use containerd_client::services::v1::snapshots::StatSnapshotRequest;
use containerd_client::services::v1::{Container as Made, ListContainersRequest, ListTasksRequest};
use containerd_client::types::v1::Status as TaskStatus;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tonic::Status;

use super::containerd::{Containerd, found, refused};
use super::probe::AT_ONCE;
use crate::protocol::proto::{Container, ContainersResponse};

/// The label that tells a container from the sandbox around it, and its value for the latter.
pub(crate) const SANDBOX: (&str, &str) = ("io.cri-containerd.kind", "sandbox");

/// Under this name the CRI keeps what it knows of a container.
pub(crate) const METADATA: &str = "io.cri-containerd.container.metadata";

/// What the CRI keeps of a container, as far as it is of use here.
#[derive(Debug, Deserialize)]
struct Versioned {
    #[serde(rename = "Metadata")]
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    /// The digest of the image's configuration.
    #[serde(rename = "ImageRef")]
    image: String,
}

/// Says which containers there are, and what they were made from.
pub(super) async fn list(containerd: &Containerd) -> Result<ContainersResponse, Status> {
    let listed = containerd.containers().list(ListContainersRequest { filters: Vec::new() }).await;
    let listed = listed.map_err(refused("listing containers"))?.into_inner().containers;
    let tasks = containerd.tasks().list(ListTasksRequest { filter: String::new() }).await;
    let tasks = tasks.map_err(refused("listing what runs"))?.into_inner().tasks;
    let ended = |status: TaskStatus| matches!(status, TaskStatus::Stopped | TaskStatus::Unknown);
    let running: BTreeSet<String> =
        tasks.into_iter().filter(|task| !ended(task.status())).map(|task| task.id).collect();
    let is_sandbox = |made: &Made| made.labels.get(SANDBOX.0).is_some_and(|kind| kind == SANDBOX.1);
    let containers = stream::iter(listed.into_iter().filter(|made| !is_sandbox(made)))
        .map(|made| async { container(containerd, made, &running).await })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(ContainersResponse { containers })
}

async fn container(containerd: &Containerd, made: Made, running: &BTreeSet<String>) -> Result<Container, Status> {
    Ok(Container {
        chain_id: below(containerd, &made).await?,
        config: made.extensions.get(METADATA).map(|data| config(&data.value)).unwrap_or_default(),
        pod: pod(&made.labels),
        running: running.contains(&made.id),
        id: made.id,
        image: made.image,
    })
}

/// The snapshot that a container's own stands on: its image's, whatever that image is called by now.
async fn below(containerd: &Containerd, made: &Made) -> Result<String, Status> {
    if made.snapshot_key.is_empty() {
        return Ok(String::new());
    }
    let request = StatSnapshotRequest { snapshotter: made.snapshotter.clone(), key: made.snapshot_key.clone() };
    let answer = found(containerd.snapshots().stat(request).await);
    let answer = answer.map_err(refused(format_args!("looking for the snapshot of container {}", made.id)))?;
    Ok(answer.and_then(|answer| answer.into_inner().info).map(|info| info.parent).unwrap_or_default())
}

/// The image that the CRI has noted; nothing where it has noted none in a way that is understood.
pub(crate) fn config(metadata: &[u8]) -> String {
    serde_json::from_slice(metadata).map(|known: Versioned| known.metadata.image).unwrap_or_default()
}

/// The pod that the CRI made a container for.
pub(crate) fn pod(labels: &HashMap<String, String>) -> String {
    let label = |name: &str| labels.get(&format!("io.kubernetes.pod.{name}"));
    label("namespace").zip(label("name")).map(|(namespace, name)| format!("{namespace}/{name}")).unwrap_or_default()
}
