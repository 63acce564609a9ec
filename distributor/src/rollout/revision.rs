//! Revisions: which images each rollout had its objects run, kept in the namespace for whoever asks later. They are
//! ControllerRevisions, Kubernetes' own record of an earlier state, and the last ten of them stay.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use super::Error;
use super::FIELD_MANAGER;
use super::references::references;
use crate::cluster::Cluster;

/// What tells our revisions from those of DaemonSets and StatefulSets.
pub(super) const LABELS: [(&str, &str); 2] =
    [("app.kubernetes.io/managed-by", FIELD_MANAGER), ("app.kubernetes.io/component", "revision")];

/// How many stay.
const KEPT: usize = 10;

/// How often the next number is tried while others take it.
const ATTEMPTS: usize = 5;

/// Records that a rollout runs the images which `objects` name, unless the last revision says just that. Its number.
pub(super) async fn record(cluster: &Cluster, namespace: &str, objects: &[Value]) -> Result<i64, Error> {
    let images: BTreeSet<String> = objects.iter().flat_map(references).map(str::to_owned).collect();
    let api: Api<ControllerRevision> = Api::namespaced(cluster.client(), namespace);
    let mut attempts = 0;
    loop {
        let mut revisions = list(cluster, &api).await?;
        if let Some(last) = revisions.last()
            && of(last) == images
        {
            return Ok(last.revision);
        }
        let number = revisions.last().map_or(1, |last| last.revision + 1);
        let data = RawExtension(json!({ "images": &images }));
        let revision = ControllerRevision { metadata: metadata(number), data: Some(data), revision: number };
        match api.create(&PostParams::default(), &revision).await {
            Ok(_) => {
                let superfluous = (revisions.len() + 1).saturating_sub(KEPT);
                for old in revisions.drain(..superfluous) {
                    forget(cluster, &api, &old).await?;
                }
                return Ok(number);
            }
            // Another operator rolls out at the same time.
            Err(kube::Error::Api(status)) if status.is_already_exists() && attempts < ATTEMPTS => attempts += 1,
            Err(error) => return Err(cluster.failed(format!("recording revision {number}"), error).into()),
        }
    }
}

/// The images that a revision of ours names.
fn of(revision: &ControllerRevision) -> BTreeSet<String> {
    let images = revision.data.iter().flat_map(|data| data.0["images"].as_array()).flatten();
    images.filter_map(|image| image.as_str().map(str::to_owned)).collect()
}

/// The images of a revision of ours, and its number; nothing for another's.
pub(super) fn read(revision: &ControllerRevision) -> Option<(i64, BTreeSet<String>)> {
    let label =
        |(key, value): &(&str, &str)| revision.metadata.labels.iter().flatten().any(|(k, v)| k == key && v == value);
    LABELS.iter().all(label).then(|| (revision.revision, of(revision)))
}

/// Ours, the oldest first.
async fn list(cluster: &Cluster, api: &Api<ControllerRevision>) -> Result<Vec<ControllerRevision>, Error> {
    let selector = LABELS.map(|(key, value)| format!("{key}={value}")).join(",");
    let listed = api.list(&ListParams::default().labels(&selector)).await;
    let mut revisions = listed.map_err(|error| cluster.failed("listing revisions", error))?.items;
    revisions.sort_by_key(|revision| revision.revision);
    Ok(revisions)
}

async fn forget(cluster: &Cluster, api: &Api<ControllerRevision>, old: &ControllerRevision) -> Result<(), Error> {
    let name = old.metadata.name.clone().unwrap_or_default();
    match api.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(cluster.failed(format!("removing {name}"), error).into()),
        Ok(_) => Ok(()),
    }
}

fn metadata(number: i64) -> ObjectMeta {
    let labels = LABELS.map(|(key, value)| (key.to_owned(), value.to_owned()));
    ObjectMeta { name: Some(format!("vcdist-{number}")), labels: Some(labels.into()), ..ObjectMeta::default() }
}
