//! Lists and removes the images that were pushed to this node. A removal changes nothing that another client has named
//! or created a container from.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use containerd_client::services::v1::snapshots::{Kind, ListSnapshotsRequest, UsageRequest};
use containerd_client::services::v1::{
    DeleteImageRequest, Image, ListContentRequest, ListImagesRequest, UpdateImageRequest,
};
use prost_types::FieldMask;
use tonic::{Code, Status};

use super::containerd::{Containerd, found, refused};
use super::containers;
use super::probe::{self, Facts, PINNED};
use crate::agent::gc_refs::{GcRefs, ImageState};
use crate::agent::removal_plan::{ImageRecord, plan_removal};
use crate::images::push_label::NAME;
use crate::protocol::proto::{PushedImage, PushesResponse, RemoveRequest, RemoveResponse};

/// Lists the images that were pushed to the node.
pub(super) async fn pushes(containerd: &Containerd, facts: &Facts) -> Result<PushesResponse, Status> {
    let refs = everything(containerd, facts.snapshotter()).await?;
    let ours = images(containerd).await?.into_iter().filter(is_ours);
    let images = ours.map(|image| {
        let ImageState { complete, unpacked, config, chain } = refs.image_state(target(&image));
        PushedImage { record: Some(probe::record(image)), complete, unpacked, config, chain_id: chain }
    });
    Ok(PushesResponse { images: images.collect() })
}

/// Removes these records and runs garbage collection; in a dry run, computes what would be freed.
pub(super) async fn remove(
    containerd: &Containerd,
    facts: &Facts,
    asked: &RemoveRequest,
) -> Result<RemoveResponse, Status> {
    let refs = everything(containerd, facts.snapshotter()).await?;
    let mut containers = containers::list(containerd).await?.containers;
    let ended: Vec<String> = containers.iter().filter(|it| !it.running).map(|it| it.chain_id.clone()).collect();
    containers.retain(|container| container.running || !asked.running_only);
    let mut images: BTreeMap<String, Image> =
        images(containerd).await?.into_iter().map(|image| (image.name.clone(), image)).collect();
    let named = images.values().map(|image| ImageRecord {
        name: image.name.clone(),
        target: target(image).to_owned(),
        ours: is_ours(image),
    });
    let going = plan_removal(named.collect(), &asked.names, &containers, &ended, &refs);
    let snapshot_bytes = sizes(containerd, facts.snapshotter(), &going.frees.snapshots).await?;
    let mut answer =
        RemoveResponse { removed: going.ours().map(|record| record.name.clone()).collect(), ..Default::default() };
    let records: Vec<Image> = going.records.iter().filter_map(|record| images.remove(&record.name)).collect();
    answer.refused = going.refused;
    let mut freed = going.frees;
    if !asked.dry_run && !records.is_empty() {
        for image in &records {
            unpin(containerd, image).await?;
        }
        for (index, image) in records.iter().enumerate() {
            delete(containerd, image, index + 1 == records.len()).await?;
        }
        // A lease or another namespace may keep content that nothing in this namespace refers to.
        let left = everything(containerd, facts.snapshotter()).await?;
        freed.blobs.retain(|digest| !left.has_blob(digest));
        freed.snapshots.retain(|name| !left.has_snapshot(name));
    }
    answer.blobs = freed.blobs.len() as u64;
    answer.blob_bytes = refs.bytes(&freed.blobs);
    answer.snapshots = freed.snapshots.len() as u64;
    answer.snapshot_bytes = freed.snapshots.iter().filter_map(|name| snapshot_bytes.get(name)).sum();
    Ok(answer)
}

/// Returns all blobs and snapshots of containerd in the namespace.
async fn everything(containerd: &Containerd, snapshotter: &str) -> Result<GcRefs, Status> {
    let mut refs = GcRefs::default();
    let asking = async {
        let mut answers = containerd.content().list(ListContentRequest::default()).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            for info in answer.info {
                refs.blob(info.digest, u64::try_from(info.size).unwrap_or(0), info.labels, snapshotter);
            }
        }
        let request = ListSnapshotsRequest { snapshotter: snapshotter.into(), ..Default::default() };
        let mut answers = containerd.snapshots().list(request).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            for info in answer.info {
                let committed = info.kind() == Kind::Committed;
                refs.snapshot(info.name, info.parent, committed, &info.labels);
            }
        }
        Ok::<_, Status>(())
    };
    asking.await.map_err(refused("listing what the node has"))?;
    Ok(refs)
}

async fn images(containerd: &Containerd) -> Result<Vec<Image>, Status> {
    let answer = containerd.images().list(ListImagesRequest { filters: Vec::new() }).await;
    Ok(answer.map_err(refused("listing images"))?.into_inner().images)
}

fn is_ours(image: &Image) -> bool {
    image.labels.contains_key(NAME)
}

fn target(image: &Image) -> &str {
    image.target.as_ref().map_or("", |target| target.digest.as_str())
}

/// Returns the sizes of these snapshots, in bytes.
async fn sizes(
    containerd: &Containerd,
    snapshotter: &str,
    names: &BTreeSet<String>,
) -> Result<BTreeMap<String, u64>, Status> {
    let mut sizes = BTreeMap::new();
    for name in names {
        let request = UsageRequest { snapshotter: snapshotter.into(), key: name.clone() };
        let answer = found(containerd.snapshots().usage(request).await);
        let answer = answer.map_err(refused(format_args!("asking for the size of snapshot {name}")))?;
        sizes.extend(answer.map(|usage| (name.clone(), u64::try_from(usage.get_ref().size).unwrap_or(0))));
    }
    Ok(sizes)
}

/// Unpins an image, so that the kubelet's garbage collection can remove it if its removal is interrupted.
async fn unpin(containerd: &Containerd, image: &Image) -> Result<(), Status> {
    if !image.labels.contains_key(PINNED.0) {
        return Ok(());
    }
    // containerd removes a label whose value is empty.
    let labels = HashMap::from([(PINNED.0.to_owned(), String::new())]);
    let request = UpdateImageRequest {
        image: Some(Image { labels, target: image.target.clone(), name: image.name.clone(), ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec![format!("labels.{}", PINNED.0)] }),
        source_date_epoch: None,
    };
    let answer = found(containerd.images().update(request).await);
    answer.map_err(refused(format_args!("unpinning image {}", image.name))).map(drop)
}

/// Deletes a record; the last one waits for garbage collection.
async fn delete(containerd: &Containerd, image: &Image, last: bool) -> Result<(), Status> {
    // If the record meanwhile refers to another image, containerd 2 does not delete it.
    let request = DeleteImageRequest { name: image.name.clone(), sync: last, target: image.target.clone() };
    match containerd.images().delete(request).await {
        Err(status) if status.code() != Code::NotFound => {
            Err(refused(format_args!("removing image {}", image.name))(status))
        }
        _ => Ok(()),
    }
}
