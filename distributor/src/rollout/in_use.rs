//! Which images a cluster needs on its nodes: those that its workloads and custom resources name, and those of the
//! revisions one may return to.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use serde_json::Value;
use vcmanifests::Component;
use vcstore::Digest;

use super::references::mentions;
use super::revision;
use crate::cluster::{self, Cluster};
use crate::images::image_name::full_name;

/// Objects asked for at once.
const PAGE: u32 = 200;

/// Kinds asked for at once.
const AT_ONCE: usize = 8;

/// What runs images, or holds the form of what will: group, version, kind, plural. Read as the server has them, so that fields
/// which this program does not know count too.
pub(crate) const WORKLOADS: [(&str, &str, &str, &str); 8] = [
    ("", "v1", "PodTemplate", "podtemplates"),
    ("", "v1", "ReplicationController", "replicationcontrollers"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("apps", "v1", "DaemonSet", "daemonsets"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("batch", "v1", "Job", "jobs"),
    ("batch", "v1", "CronJob", "cronjobs"),
];

/// Images, and by what each is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImagesInUse {
    digests: BTreeMap<Digest, String>,
    names: BTreeMap<String, String>,
    /// The pods that the cluster knows, `NAMESPACE/NAME`.
    pods: BTreeSet<String>,
}

/// Our own revisions: which images each names, by namespace and number.
type Revisions = BTreeMap<String, BTreeMap<i64, Vec<String>>>;

impl ImagesInUse {
    /// What the cluster's pods, workloads, their history and custom resources name, in all namespaces, and what the last
    /// `revisions` rollouts named in each.
    ///
    /// # Errors
    /// When the API server does not answer: then nothing is known to be unused.
    pub async fn by(cluster: &Cluster, revisions: usize) -> Result<Self, cluster::Error> {
        let mut used = Self::default();
        let mut ours = Revisions::new();
        let mut history = Vec::new();
        let kind = resource(("apps", "v1", "ControllerRevision", "controllerrevisions"));
        each(cluster, &kind, |object| {
            match object.clone().try_parse::<ControllerRevision>().ok().as_ref().and_then(revision::read) {
                Some((number, images)) => {
                    let namespace = object.metadata.namespace.unwrap_or_default();
                    ours.entry(namespace).or_default().insert(number, images.into_iter().collect());
                }
                None => history.push(object),
            }
        })
        .await?;
        each(cluster, &resource(("", "v1", "Pod", "pods")), |object| used.add_pod(&object)).await?;
        let mut kinds: Vec<ApiResource> = WORKLOADS.into_iter().map(resource).collect();
        let definitions =
            resource(("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"));
        each(cluster, &definitions, |definition| kinds.extend(served(&definition))).await?;
        let named: Vec<Self> =
            stream::iter(kinds).map(|kind| Self::by_kind(cluster, kind, &ours)).buffered(AT_ONCE).try_collect().await?;
        named.into_iter().for_each(|other| used.extend(other));
        for object in history.iter().filter(|object| !is_of_our_history(object, &ours)) {
            used.add_object(object, "controllerrevision");
        }
        used.add_revisions(&ours, revisions);
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

    /// Whether the cluster knows this pod, `NAMESPACE/NAME`: what such a pod needs, it names.
    pub(crate) fn knows_pod(&self, pod: &str) -> bool {
        self.pods.contains(pod)
    }

    /// Notes that `user` names this image.
    pub(crate) fn add(&mut self, reference: &str, user: &str) {
        let digest = reference.split_once('@').map_or(reference, |(_, digest)| digest);
        match digest.parse() {
            Ok(digest) => self.digests.entry(digest).or_insert_with(|| user.to_owned()),
            Err(_) => self.names.entry(full_name(reference)).or_insert_with(|| user.to_owned()),
        };
    }

    pub(crate) fn add_pod(&mut self, pod: &DynamicObject) {
        self.add_object(pod, "pod");
        let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
        self.pods.insert(format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default()));
    }

    fn add_object(&mut self, object: &DynamicObject, kind: &str) {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let within = object.metadata.namespace.as_ref().map(|namespace| format!("{namespace}/"));
        let user = format!("{kind} {}{name}", within.unwrap_or_default());
        mentions(&serde_json::to_value(object).unwrap_or_default(), &mut |reference| self.add(reference, &user));
    }

    /// What the objects of one kind name.
    async fn by_kind(cluster: &Cluster, kind: ApiResource, ours: &Revisions) -> Result<Self, cluster::Error> {
        let mut used = Self::default();
        let word = kind.kind.to_lowercase();
        let past = |object: &DynamicObject| word == "replicaset" && is_past(object) && is_of_our_history(object, ours);
        each(cluster, &kind, |object| {
            if !past(&object) {
                used.add_object(&object, &word);
            }
        })
        .await?;
        Ok(used)
    }

    fn extend(&mut self, other: Self) {
        for (digest, user) in other.digests {
            self.digests.entry(digest).or_insert(user);
        }
        for (name, user) in other.names {
            self.names.entry(name).or_insert(user);
        }
    }

    fn add_revisions(&mut self, ours: &Revisions, count: usize) {
        for (namespace, revisions) in ours {
            for (number, images) in revisions.iter().rev().take(count) {
                images.iter().for_each(|image| self.add(image, &format!("revision {number} in {namespace}")));
            }
        }
    }
}

fn resource((group, version, kind, plural): (&str, &str, &str, &str)) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// The kind that a definition defines, in a version that is served.
fn served(definition: &DynamicObject) -> Option<ApiResource> {
    let spec = &definition.data["spec"];
    let versions = spec["versions"].as_array()?;
    let served = || versions.iter().filter(|version| version["served"] == true);
    let version = served().find(|version| version["storage"] == true).or_else(|| served().next())?;
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    let (group, version) = (text(&spec["group"]), text(&version["name"]));
    let (kind, plural) = (text(&spec["names"]["kind"]), text(&spec["names"]["plural"]));
    Some(resource((&group, &version, &kind, &plural)))
}

/// Whether a ReplicaSet is a Deployment's history: it has no pods.
fn is_past(replica_set: &DynamicObject) -> bool {
    replica_set.data["spec"]["replicas"].as_i64() == Some(0)
}

/// Whether an object is the history of a workload of ours whose past our own revisions tell.
fn is_of_our_history(object: &DynamicObject, ours: &Revisions) -> bool {
    let is_workload = |name: &str| Component::ALL.iter().any(|component| component.workload() == name);
    let mut owners = object.metadata.owner_references.iter().flatten();
    object.metadata.namespace.as_ref().is_some_and(|namespace| ours.contains_key(namespace))
        && owners.any(|owner| owner.controller == Some(true) && is_workload(&owner.name))
}

/// Hands over every object of a kind, a page at a time; none where the cluster does not know the kind.
async fn each(
    cluster: &Cluster,
    kind: &ApiResource,
    mut take: impl FnMut(DynamicObject),
) -> Result<(), cluster::Error> {
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), kind);
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = match api.list(&page).await {
            Err(error) if cluster::is_absent(&error) => return Ok(()),
            // The list has expired: from its start again. What was noted stays noted.
            Err(kube::Error::Api(status)) if status.code == 410 && page.continue_token.is_some() => {
                page = ListParams::default().limit(PAGE);
                continue;
            }
            listed => {
                listed.map_err(|error| cluster.failed(format!("listing {} in all namespaces", kind.plural), error))?
            }
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
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::{ImagesInUse, Revisions, is_of_our_history, is_past, served};

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_image_is_used_by_digest_or_by_the_name_that_runtimes_make_of_it() {
        let digest = vcstore::Digest::of(b"image");
        let mut used = ImagesInUse::default();
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

    #[test]
    fn a_pods_image_volume_is_used_and_the_pod_is_known() {
        let digest = vcstore::Digest::of(b"model");
        let mut used = ImagesInUse::default();
        used.add_pod(&object(json!({
            "metadata": {"namespace": "a", "name": "b"},
            "spec": {"containers": [], "volumes": [{"name": "v", "image": {"reference": format!("docker.io/m/model@{digest}")}}]},
            "status": {"containerStatuses": [{"imageID": "sha256:0000000000000000000000000000000000000000000000000000000000000001"}]},
        })));
        assert_eq!(used.digest(&digest), Some("pod a/b"));
        let ran = "sha256:0000000000000000000000000000000000000000000000000000000000000001".parse().unwrap();
        assert_eq!(used.digest(&ran), Some("pod a/b"), "what a pod has run, by the image's own digest");
        assert!(used.knows_pod("a/b") && !used.knows_pod("a/c"));
    }

    #[test]
    fn only_our_own_workloads_history_is_left_to_our_revisions() {
        let owned = |namespace: &str, owner: &str| {
            object(json!({
                "metadata": {"namespace": namespace, "name": "x", "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": owner, "uid": "1", "controller": true}]},
                "spec": {"replicas": 0},
            }))
        };
        let ours = Revisions::from([("vc-manager".to_owned(), [(1, vec![])].into())]);
        assert!(
            is_past(&owned("vc-manager", "vc-syncer")) && is_of_our_history(&owned("vc-manager", "vc-syncer"), &ours)
        );
        for (namespace, owner) in [("vc-manager", "web"), ("shop", "vc-syncer")] {
            assert!(!is_of_our_history(&owned(namespace, owner), &ours), "{namespace}/{owner}");
        }
        assert!(!is_past(&object(json!({"metadata": {}, "spec": {"replicas": 1}}))));
    }

    #[test]
    fn a_kind_is_asked_for_in_a_version_that_is_served() {
        let definition = |versions: Value| {
            let definition = json!({"metadata": {}, "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"kind": "Foo", "plural": "foos"}, "versions": versions}});
            served(&object(definition)).map(|kind| kind.api_version)
        };
        let version =
            |name: &str, served: bool, storage: bool| json!({"name": name, "served": served, "storage": storage});
        assert_eq!(
            definition(json!([version("v1", true, false), version("v2", true, true)])).unwrap(),
            "example.com/v2"
        );
        assert_eq!(
            definition(json!([version("v1", true, false), version("v2", false, true)])).unwrap(),
            "example.com/v1"
        );
        assert_eq!(definition(json!([version("v1", false, true)])), None);
    }
}
