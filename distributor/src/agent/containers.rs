//! The node's containers and the images they were created from: the response to Containers. Read-only.

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

/// The label that distinguishes a container from its pod's sandbox, and its value for the sandbox.
pub(crate) const SANDBOX: (&str, &str) = ("io.cri-containerd.kind", "sandbox");

/// The name of the container extension in which the CRI stores its metadata.
pub(crate) const METADATA: &str = "io.cri-containerd.container.metadata";

/// The part of the CRI's metadata of a container that is needed here.
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

/// Lists the containers and the images they were created from.
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

/// Returns the parent of a container's snapshot: the top layer of its image, regardless of the image's present name.
async fn below(containerd: &Containerd, made: &Made) -> Result<String, Status> {
    if made.snapshot_key.is_empty() {
        return Ok(String::new());
    }
    let request = StatSnapshotRequest { snapshotter: made.snapshotter.clone(), key: made.snapshot_key.clone() };
    let answer = found(containerd.snapshots().stat(request).await);
    let answer = answer.map_err(refused(format_args!("looking for the snapshot of container {}", made.id)))?;
    Ok(answer.and_then(|answer| answer.into_inner().info).map(|info| info.parent).unwrap_or_default())
}

/// Returns the image that the CRI's metadata contain, or an empty string if they cannot be parsed.
pub(crate) fn config(metadata: &[u8]) -> String {
    serde_json::from_slice(metadata).map(|known: Versioned| known.metadata.image).unwrap_or_default()
}

/// Returns the pod for which the CRI created a container, as `NAMESPACE/NAME`.
pub(crate) fn pod(labels: &HashMap<String, String>) -> String {
    let label = |name: &str| labels.get(&format!("io.kubernetes.pod.{name}"));
    label("namespace").zip(label("name")).map(|(namespace, name)| format!("{namespace}/{name}")).unwrap_or_default()
}
