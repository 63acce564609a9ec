//! Makes an image usable once its blobs are present: sets labels, creates snapshots, then image records, and then
//! checks everything. The records are created last, so that no name refers to an incomplete image.

use std::collections::HashMap;

use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
};
use containerd_client::services::v1::{
    ApplyRequest, CreateImageRequest, Image, Info, UpdateImageRequest, UpdateRequest,
};
use containerd_client::types;
use prost_types::FieldMask;
use tonic::{Code, Status};

use super::containerd::{Containerd, found, refused};
use super::lease::Lease;
use super::probe::{self, Facts, PINNED};
use super::repair;
use crate::images::image_name::may_be_noted;
use crate::images::push_label;
use crate::protocol::proto::{Blob, Descriptor, FinishRequest, FinishResponse, Layer, Pushed};
use crate::protocol::{failure, retry_from_start};

/// The maximum number of leftover folders that are removed for one snapshot.
const LEFTOVERS: usize = 8;

/// Finishes the image on this node.
pub(super) async fn finish(lease: &Lease, facts: &Facts, image: &FinishRequest) -> Result<FinishResponse, Status> {
    let (containerd, snapshotter) = (&lease.containerd, facts.snapshotter());
    let target = image.target.as_ref().ok_or_else(|| Status::invalid_argument("an image needs a target"))?;
    for blob in &image.blobs {
        check_blob(containerd, blob).await?;
        label(containerd, &blob.digest, blob.labels.clone()).await?;
    }
    let unpacked = unpack(lease, facts, &image.layers).await?;
    if let Some(top) = image.layers.last() {
        let key = format!("containerd.io/gc.ref.snapshot.{snapshotter}");
        label(containerd, &image.config, [(key, top.chain_id.clone())].into()).await?;
    }
    for name in &image.names {
        set_record(containerd, name, target, image.pushed.as_ref()).await?;
    }
    check(containerd, snapshotter, image, target).await?;
    Ok(FinishResponse { unpacked })
}

async fn check_blob(containerd: &Containerd, blob: &Blob) -> Result<Info, Status> {
    let again = "push again; if it comes back, look for what removes content on the node";
    match probe::blob(containerd, &blob.digest).await? {
        Some(info) if u64::try_from(info.size) == Ok(blob.size) => Ok(info),
        Some(info) => Err(failure(
            Code::DataLoss,
            format!("blob {} has {} bytes on the node and should have {}", blob.digest, info.size, blob.size),
            format!(
                "the node's content store is damaged: remove it there (`ctr -n k8s.io content rm {}`)",
                blob.digest
            ),
        )),
        None => Err(failure(Code::NotFound, format!("blob {} is not on the node", blob.digest), again)),
    }
}

/// Adds labels to a blob and keeps its other labels.
async fn label(containerd: &Containerd, digest: &str, labels: HashMap<String, String>) -> Result<(), Status> {
    if labels.is_empty() {
        return Ok(());
    }
    let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
    let info = Some(Info { digest: digest.into(), labels, ..Default::default() });
    let request = UpdateRequest { info, update_mask: Some(FieldMask { paths }) };
    containerd.content().update(request).await.map_err(refused(format_args!("labelling blob {digest}")))?;
    Ok(())
}

/// Unpacks the layers whose snapshots are missing. Returns their number.
async fn unpack(lease: &Lease, facts: &Facts, layers: &[Layer]) -> Result<u32, Status> {
    let snapshotter = facts.snapshotter();
    // The snapshot of a layer includes all layers below it, so unpacking begins above the highest one that is present.
    let mut begin = layers.len();
    while begin > 0 && !probe::has_snapshot(&lease.containerd, snapshotter, &layers[begin - 1].chain_id).await? {
        begin -= 1;
    }
    let mut unpacked = 0;
    for index in begin..layers.len() {
        let parent = index.checked_sub(1).map_or("", |below| layers[below].chain_id.as_str());
        unpack_layer(lease, facts, parent, &layers[index]).await?;
        unpacked += 1;
    }
    Ok(unpacked)
}

async fn unpack_layer(lease: &Lease, facts: &Facts, parent: &str, layer: &Layer) -> Result<(), Status> {
    let snapshotter = facts.snapshotter();
    let key = format!("{} {}", lease.id(), layer.chain_id);
    let result = fill_snapshot(lease, snapshotter, parent, layer, &key).await;
    let result = match result {
        // Another client, such as the kubelet's runtime, unpacked the same layer meanwhile.
        Err(status) if status.code() == Code::AlreadyExists => {
            remove(&lease.containerd, snapshotter, &key).await;
            return Ok(());
        }
        other => other,
    };
    let Err(why) = result else { return Ok(()) };
    remove(&lease.containerd, snapshotter, &key).await;
    let blob = layer.descriptor.as_ref().map(|descriptor| descriptor.digest.as_str()).unwrap_or_default();
    // A layer that cannot be unpacked may have been damaged on the node's disk.
    if repair::is_sound(&lease.containerd, blob).await? {
        return Err(why);
    }
    repair::drop(&lease.containerd, facts, &[blob.to_owned()]).await?;
    Err(retry_from_start(format!("layer {blob} was damaged on the node")))
}

async fn fill_snapshot(lease: &Lease, snapshotter: &str, parent: &str, layer: &Layer, key: &str) -> Result<(), Status> {
    let containerd = &lease.containerd;
    let descriptor = layer.descriptor.as_ref().ok_or_else(|| Status::invalid_argument("a layer needs a blob"))?;
    let request = PrepareSnapshotRequest {
        snapshotter: snapshotter.into(),
        key: key.into(),
        parent: parent.into(),
        ..Default::default()
    };
    let mut prepared = containerd.snapshots().prepare(request.clone()).await;
    for _ in 0..LEFTOVERS {
        if !prepared.as_ref().is_err_and(|status| status.message().ends_with(": file exists")) {
            break;
        }
        // A containerd that was killed left a folder behind; the failed attempt has removed it.
        prepared = containerd.snapshots().prepare(request.clone()).await;
    }
    let mounts = prepared.map_err(refused(format_args!("preparing a snapshot for {}", layer.chain_id)))?;
    let request =
        ApplyRequest { diff: Some(wire(descriptor)), mounts: mounts.into_inner().mounts, ..Default::default() };
    let applied = containerd.diff().apply(request).await;
    let applied = applied.map_err(refused(format_args!("unpacking layer {}", descriptor.digest)))?.into_inner();
    let diff_id = applied.applied.map(|applied| applied.digest).unwrap_or_default();
    if diff_id != layer.diff_id {
        return Err(failure(
            Code::DataLoss,
            format!("layer {} unpacks to {diff_id} and its image says {}", descriptor.digest, layer.diff_id),
            "the image is wrong in itself: build it again",
        ));
    }
    let request = CommitSnapshotRequest {
        snapshotter: snapshotter.into(),
        name: layer.chain_id.clone(),
        key: key.into(),
        ..Default::default()
    };
    let committed = containerd.snapshots().commit(request).await;
    committed.map_err(refused(format_args!("committing snapshot {}", layer.chain_id)))?;
    Ok(())
}

/// Removes an unfinished snapshot. If that fails, garbage collection removes it once the lease is gone.
async fn remove(containerd: &Containerd, snapshotter: &str, key: &str) {
    let request = RemoveSnapshotRequest { snapshotter: snapshotter.into(), key: key.into() };
    if let Err(status) = found(containerd.snapshots().remove(request).await) {
        tracing::warn!("leaving snapshot {key} to garbage collection: {}", status.message());
    }
}

/// Points a name at the image, pins it and sets the labels of the push. Other labels of an existing record, such as the
/// CRI's own, are kept.
async fn set_record(
    containerd: &Containerd,
    name: &str,
    target: &Descriptor,
    pushed: Option<&Pushed>,
) -> Result<(), Status> {
    let mut labels = HashMap::from([(PINNED.0.to_owned(), PINNED.1.to_owned())]);
    if let Some(pushed) = pushed {
        let said =
            [(push_label::NAME, &pushed.name), (push_label::DIGEST, &pushed.digest), (push_label::AT, &pushed.at)];
        labels.extend(said.map(|(key, value)| (key.to_owned(), value.clone())));
    }
    let paths: Vec<String> = labels.keys().map(|key| format!("labels.{key}")).chain(["target".into()]).collect();
    let image = Image { name: name.into(), target: Some(wire(target)), labels, ..Default::default() };
    let mut images = containerd.images();
    let create = CreateImageRequest { image: Some(image.clone()), source_date_epoch: None };
    match images.create(create).await {
        Err(status) if status.code() == Code::AlreadyExists => {
            let update = UpdateImageRequest {
                image: Some(image),
                update_mask: Some(FieldMask { paths }),
                source_date_epoch: None,
            };
            images.update(update).await.map(drop)
        }
        other => other.map(drop),
    }
    .map_err(refused(format_args!("recording image {name}")))
}

/// Checks everything once more from the stored state.
async fn check(
    containerd: &Containerd,
    snapshotter: &str,
    image: &FinishRequest,
    target: &Descriptor,
) -> Result<(), Status> {
    let changed = |what: String| failure(Code::Aborted, what, "something else changes images on this node: push again");
    for blob in &image.blobs {
        let info = check_blob(containerd, blob).await?;
        if blob.labels.iter().any(|(key, value)| info.labels.get(key) != Some(value)) {
            return Err(changed(format!("blob {} lost its labels", blob.digest)));
        }
    }
    if let Some(top) = image.layers.last()
        && !probe::has_snapshot(containerd, snapshotter, &top.chain_id).await?
    {
        return Err(changed(format!("snapshot {} is gone", top.chain_id)));
    }
    for name in &image.names {
        let record = probe::image(containerd, name).await?.map(probe::record);
        // Another push of the same image may have written its own time and, on the record by digest, its own tag.
        let is_noted = |found: &Option<Pushed>| match (found, &image.pushed) {
            (Some(found), Some(meant)) => found.digest == meant.digest && may_be_noted(name, &found.name),
            (found, meant) => found.is_none() && meant.is_none(),
        };
        if !record.is_some_and(|record| record.target == target.digest && record.pinned && is_noted(&record.pushed)) {
            return Err(changed(format!("image {name} is not the one that was recorded")));
        }
    }
    Ok(())
}

/// Converts a descriptor to containerd's message.
fn wire(descriptor: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.clone(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        ..Default::default()
    }
}
