//! Which images a cluster needs on its nodes: those that its workloads name, and those of the revisions one may return to.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::Resource;
use kube::api::{Api, ListParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vcmanifests::api::ClusterVersion;
use vcstore::Digest;

use super::revision;
use crate::cluster::{self, Cluster};
use crate::wanted::full_name;

/// Objects asked for at once.
const PAGE: u32 = 200;

/// Images, and by what each is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    digests: BTreeMap<Digest, String>,
    names: BTreeMap<String, String>,
}

impl Used {
    /// What the cluster's pods, workloads and ClusterVersions name, in all namespaces, and what the last `revisions` rollouts
    /// named in each.
    ///
    /// # Errors
    /// When the API server does not tell: then nothing is known to be unused.
    pub async fn by(cluster: &Cluster, revisions: usize) -> Result<Self, cluster::Error> {
        let mut used = Self::default();
        used.add_all::<Pod>(cluster, "pods", |_| true).await?;
        used.add_all::<Deployment>(cluster, "deployments", |_| true).await?;
        used.add_all::<StatefulSet>(cluster, "statefulsets", |_| true).await?;
        used.add_all::<DaemonSet>(cluster, "daemonsets", |_| true).await?;
        used.add_all::<Job>(cluster, "jobs", |_| true).await?;
        used.add_all::<CronJob>(cluster, "cronjobs", |_| true).await?;
        used.add_all::<ReplicationController>(cluster, "replicationcontrollers", |_| true).await?;
        // Those without pods are a Deployment's history; ours are the revisions.
        let at_work = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1) > 0;
        used.add_all::<ReplicaSet>(cluster, "replicasets", at_work).await?;
        used.add_all::<ClusterVersion>(cluster, "clusterversions", |_| true).await?;
        used.add_revisions(cluster, revisions).await?;
        Ok(used)
    }

    /// What uses the image of this digest.
    pub(crate) fn digest(&self, digest: &Digest) -> Option<&str> {
        self.digests.get(digest).map(String::as_str)
    }

    /// What uses whatever has this name.
    pub(crate) fn name(&self, name: &str) -> Option<&str> {
        self.names.get(name).map(String::as_str)
    }

    /// Notes that `user` names this image.
    pub(crate) fn add(&mut self, reference: &str, user: &str) {
        match reference.split_once('@').and_then(|(_, digest)| digest.parse().ok()) {
            Some(digest) => self.digests.entry(digest).or_insert_with(|| user.to_owned()),
            None => self.names.entry(full_name(reference)).or_insert_with(|| user.to_owned()),
        };
    }

    async fn add_all<K>(
        &mut self,
        cluster: &Cluster,
        kind: &str,
        counts: impl Fn(&K) -> bool,
    ) -> Result<(), cluster::Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        each(cluster, kind, |object: K| {
            if counts(&object) {
                let name = object.meta().name.clone().unwrap_or_default();
                let within = object.meta().namespace.as_ref().map(|namespace| format!("{namespace}/"));
                let user = format!("{} {}{name}", K::kind(&()).to_lowercase(), within.unwrap_or_default());
                let object = serde_json::to_value(&object).unwrap_or_default();
                references(&object).for_each(|reference| self.add(reference, &user));
            }
        })
        .await
    }

    async fn add_revisions(&mut self, cluster: &Cluster, count: usize) -> Result<(), cluster::Error> {
        let mut revisions: BTreeMap<String, BTreeMap<i64, Vec<String>>> = BTreeMap::new();
        each(cluster, "controllerrevisions", |object: ControllerRevision| {
            if let Some((number, images)) = revision::read(&object) {
                let namespace = object.metadata.namespace.unwrap_or_default();
                revisions.entry(namespace).or_default().insert(number, images.into_iter().collect());
            }
        })
        .await?;
        for (namespace, revisions) in &revisions {
            for (number, images) in revisions.iter().rev().take(count) {
                images.iter().for_each(|image| self.add(image, &format!("revision {number} in {namespace}")));
            }
        }
        Ok(())
    }
}

/// Every image that an object names, wherever it does.
pub(super) fn references(object: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match object {
        Value::Object(fields) => Box::new(fields.iter().flat_map(|(key, value)| match value {
            Value::String(reference) if key == "image" => Box::new(std::iter::once(reference.as_str())),
            value => references(value),
        })),
        Value::Array(items) => Box::new(items.iter().flat_map(references)),
        _ => Box::new(std::iter::empty()),
    }
}

/// Hands over every object of a kind, a page at a time; none where the cluster does not know the kind.
async fn each<K>(cluster: &Cluster, kind: &str, mut take: impl FnMut(K)) -> Result<(), cluster::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(cluster.client());
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = match api.list(&page).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            listed => listed.map_err(|error| cluster.failed(format!("listing {kind} in all namespaces"), error))?,
        };
        listed.items.into_iter().for_each(&mut take);
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Used, references};

    #[test]
    fn images_are_found_wherever_an_object_names_them() {
        let pod = json!({
            "metadata": {"annotations": {"note": "image"}},
            "spec": {"containers": [{"image": "a@sha256:1"}], "initContainers": [{"image": "b"}], "volumes": [{"image": {"reference": "c"}}]},
            "status": {"containerStatuses": [{"image": "docker.io/library/b:latest", "imageID": "x"}]},
        });
        let mut found: Vec<&str> = references(&pod).collect();
        found.sort_unstable();
        assert_eq!(found, ["a@sha256:1", "b", "docker.io/library/b:latest"]);
    }

    #[test]
    fn an_image_is_used_by_digest_or_by_the_name_that_runtimes_make_of_it() {
        let digest = vcstore::Digest::of(b"image");
        let mut used = Used::default();
        used.add(&format!("docker.io/vc/manager@{digest}"), "pod a/b");
        used.add(&format!("docker.io/vc/manager@{digest}"), "pod later");
        for name in ["busybox", "vc/syncer:v1", "localhost/x", "registry:5000/y"] {
            used.add(name, name);
        }
        assert_eq!(used.digest(&digest), Some("pod a/b"));
        for name in [
            "docker.io/library/busybox:latest",
            "docker.io/vc/syncer:v1",
            "localhost/x:latest",
            "registry:5000/y:latest",
        ] {
            assert!(used.name(name).is_some(), "{name}");
        }
        assert_eq!(used.name("docker.io/vc/manager:latest"), None);
    }
}
