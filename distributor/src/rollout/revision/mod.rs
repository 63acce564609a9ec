//! Revisions: the objects that each rollout applied, kept in the namespace for whoever asks later or returns to them. They are
//! ControllerRevisions, Kubernetes' own record of an earlier state. The last ten stay, and the last that got ready.

mod recorded;

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use vcmanifests::Object;

use super::Error;
use super::references::references;
use super::{FIELD_MANAGER, Release, release};
use crate::cluster::Cluster;

pub use recorded::RecordedObject;

/// What tells our revisions from those of DaemonSets and StatefulSets.
const LABELS: [(&str, &str); 2] =
    [("app.kubernetes.io/managed-by", FIELD_MANAGER), ("app.kubernetes.io/component", "revision")];

/// The form of the data: 1 has objects. Data without a form has images alone, as vcdist wrote it before.
const FORM: i64 = 1;

/// The annotation that says when all objects of a revision were ready. The data of a revision cannot be changed.
const READY_AT: &str = "vcdist.virtualcluster.io/ready-at";

/// How many stay.
const KEPT: usize = 10;

/// How often the next number is tried while others take it.
const ATTEMPTS: usize = 5;

/// A rollout as it was recorded.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Its number.
    pub number: i64,
    /// When it was recorded, by the API server's clock.
    pub recorded_at: Option<Timestamp>,
    /// When all of it was ready; none where that never was, or an older vcdist recorded it, which did not say.
    pub ready_at: Option<Timestamp>,
    /// The images that its objects name.
    pub images: BTreeSet<String>,
    /// The version of vcdist that recorded it, where it says.
    pub version: Option<String>,
    /// Whom the API server took its caller for, where it says.
    pub user: Option<String>,
    /// The revision that this one went back to.
    pub rollback_to: Option<i64>,
    /// Its objects, or why they cannot be read.
    pub objects: Result<Vec<RecordedObject>, String>,
}

impl Revision {
    /// Whether it is known never to have got ready.
    #[must_use]
    pub fn never_ready(&self) -> bool {
        self.version.is_some() && self.ready_at.is_none()
    }

    /// The objects that going back to this revision applies: all but Secrets whose values are not recorded.
    ///
    /// # Errors
    /// When the revision has no objects, or some that this version does not know.
    pub fn to_apply(&self) -> Result<Vec<Object>, Error> {
        let recorded = self.objects_as_recorded()?.iter();
        recorded.filter(|recorded| recorded.withheld().is_none()).map(|recorded| self.known(recorded)).collect()
    }

    /// The Secrets whose values are not recorded, each with its place among the objects. Going back to this revision leaves
    /// them as they are.
    pub(super) fn withheld(&self) -> Vec<(usize, RecordedObject)> {
        let recorded = self.objects.iter().flatten().enumerate();
        let withheld = recorded.filter(|(_, recorded)| recorded.withheld().is_some());
        withheld.map(|(place, recorded)| (place, recorded.clone())).collect()
    }

    /// The objects, of Secrets with values without these.
    ///
    /// # Errors
    /// As [`Self::to_apply()`].
    pub fn known_objects(&self) -> Result<Vec<Object>, Error> {
        self.objects_as_recorded()?.iter().map(|recorded| self.known(recorded)).collect()
    }

    /// The objects as they are recorded.
    ///
    /// # Errors
    /// When the revision has none.
    pub fn objects_as_recorded(&self) -> Result<&[RecordedObject], Error> {
        self.objects.as_deref().map_err(|why| self.unreadable(why.clone()))
    }

    fn known(&self, recorded: &RecordedObject) -> Result<Object, Error> {
        let newer = || {
            let title = recorded.title();
            self.unreadable(format!("this version of vcdist does not know {title}, or a field of it"))
        };
        recorded.object().ok_or_else(newer)
    }

    fn unreadable(&self, why: String) -> Error {
        let images: String = self.images.iter().map(|image| format!(" {image}")).collect();
        let help = match &self.version {
            Some(version) => format!("use vcdist {version}, which recorded it"),
            None => format!("deploy its images: --image COMPONENT=NAME@DIGEST with each of{images}"),
        };
        Error::NoObjects { number: self.number, why, help }
    }

    /// Reads a revision of ours; nothing for another's.
    fn read(revision: &ControllerRevision) -> Option<Self> {
        let labels = revision.metadata.labels.as_ref()?;
        if !LABELS.iter().all(|(key, value)| labels.get(*key).is_some_and(|has| has == value)) {
            return None;
        }
        let empty = Value::Null;
        let data = revision.data.as_ref().map_or(&empty, |data| &data.0);
        let text = |key: &str| data[key].as_str().map(str::to_owned);
        let ready_at = revision.metadata.annotations.as_ref().and_then(|all| all.get(READY_AT));
        Some(Self {
            number: revision.revision,
            recorded_at: revision.metadata.creation_timestamp.as_ref().map(|time| time.0),
            ready_at: ready_at.and_then(|time| time.parse().ok()),
            images: data["images"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            version: text("version"),
            user: text("user"),
            rollback_to: data["rollbackTo"].as_i64(),
            objects: objects(data),
        })
    }
}

/// The objects of a revision's data.
fn objects(data: &Value) -> Result<Vec<RecordedObject>, String> {
    match (data["form"].as_i64(), data["objects"].as_str()) {
        (None, _) => Err("an older vcdist recorded it, which recorded only images".to_owned()),
        (Some(FORM), Some(text)) => recorded::decode(text).map_err(|why| format!("the record is damaged: {why}")),
        (Some(FORM), None) => Err("the record is damaged: it has no objects".to_owned()),
        (Some(form), _) => Err(format!("it is recorded in form {form}, and this version of vcdist reads form {FORM}")),
    }
}

/// The revisions of a release, the oldest first; none where there is no such namespace.
///
/// # Errors
/// When the API server does not tell.
pub async fn revisions(cluster: &Cluster, release: &Release) -> Result<Vec<Revision>, Error> {
    list(cluster, release).await
}

/// What selects our revisions.
pub(crate) fn selector() -> String {
    LABELS.map(|(key, value)| format!("{key}={value}")).join(",")
}

/// As [`revisions()`].
pub(crate) async fn list(cluster: &Cluster, release: &Release) -> Result<Vec<Revision>, Error> {
    let listed = api(cluster, release).list(&ListParams::default().labels(&selector())).await;
    let attempt = || format!("listing revisions in {}", release.namespace);
    let listed = listed.map_err(|error| cluster.failed(attempt(), error))?;
    let ours = listed.items.iter().filter(|revision| release.has(revision.metadata.labels.as_ref()));
    let mut revisions: Vec<Revision> = ours.filter_map(Revision::read).collect();
    revisions.sort_by_key(|revision| revision.number);
    Ok(revisions)
}

/// Records that a rollout applies these objects, unless the last revision says just that. Its number.
pub(super) async fn record(
    cluster: &Cluster,
    release: &Release,
    objects: Vec<RecordedObject>,
    rollback_to: Option<i64>,
) -> Result<i64, Error> {
    let images: BTreeSet<&str> = objects.iter().flat_map(|object| references(object.value())).collect();
    let mut attempts = 0;
    let mut data = None;
    loop {
        let revisions = list(cluster, release).await?;
        if let Some(last) = revisions.last()
            && last.objects.as_ref() == Ok(&objects)
        {
            return Ok(last.number);
        }
        let number = revisions.last().map_or(1, |last| last.number + 1);
        if data.is_none() {
            let (text, user) = (encoded(number, &objects)?, user(cluster).await);
            data =
                Some(json!({ "form": FORM, "images": &images, "objects": text, "version": env!("CARGO_PKG_VERSION"),
                "user": user, "rollbackTo": rollback_to }));
        }
        let revision = ControllerRevision {
            metadata: metadata(release, number),
            data: data.clone().map(RawExtension),
            revision: number,
        };
        match api(cluster, release).create(&PostParams::default(), &revision).await {
            Ok(_) => {
                for old in superfluous(&revisions) {
                    forget(cluster, release, old).await?;
                }
                return Ok(number);
            }
            // Another operator rolls out at the same time.
            Err(kube::Error::Api(status)) if status.is_already_exists() && attempts < ATTEMPTS => attempts += 1,
            Err(error) => return Err(cluster.failed(format!("recording revision {number}"), error).into()),
        }
    }
}

/// Notes that all of a revision is ready, unless it says so already.
pub(super) async fn mark_ready(cluster: &Cluster, release: &Release, number: i64) -> Result<(), Error> {
    let revisions = list(cluster, release).await?;
    if revisions.iter().any(|revision| revision.number == number && revision.ready_at.is_some()) {
        return Ok(());
    }
    let now = cluster.clock().unwrap_or_else(Timestamp::now);
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { READY_AT: now } } }));
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api(cluster, release).patch(&release.revision(number), &parameters, &patch).await {
        // What was rolled out runs all the same.
        Err(kube::Error::Api(status)) if status.code == 403 => {
            tracing::warn!("revision {number} is not marked as ready, for that is forbidden: {}", status.message);
            Ok(())
        }
        Err(error) if !crate::cluster::is_absent(&error) => {
            Err(cluster.failed(format!("noting that revision {number} is ready"), error).into())
        }
        _ => Ok(()),
    }
}

/// The images of a revision of the installation, and its number; nothing for another's. All images of the revisions of other
/// releases are in use.
pub(super) fn read(revision: &ControllerRevision) -> Option<(i64, BTreeSet<String>)> {
    if revision.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(release::LABEL)) {
        return None;
    }
    Revision::read(revision).map(|revision| (revision.number, revision.images))
}

/// Those that go once one more is recorded: all but the newest, and the newest that got ready.
fn superfluous(revisions: &[Revision]) -> impl Iterator<Item = i64> + '_ {
    let ready = revisions.iter().rev().find(|revision| revision.ready_at.is_some()).map(|revision| revision.number);
    let count = (revisions.len() + 1).saturating_sub(KEPT);
    revisions[..count].iter().map(|revision| revision.number).filter(move |number| Some(*number) != ready)
}

fn encoded(number: i64, objects: &[RecordedObject]) -> Result<String, Error> {
    let failed = |why: String| Error::Record { number, why };
    let text = recorded::encode(objects).map_err(|error| failed(error.to_string()))?;
    if text.len() > recorded::LONGEST_WRITTEN {
        return Err(failed(format!("the objects come to {}", vcterminal::bytes(text.len() as u64))));
    }
    Ok(text)
}

/// Whom the API server takes us for. Older ones do not say.
async fn user(cluster: &Cluster) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(cluster.client());
    let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let review =
        review.inspect_err(|error| tracing::debug!("asking the API server for the user name: {error}")).ok()?;
    review.status?.user_info?.username
}

async fn forget(cluster: &Cluster, release: &Release, number: i64) -> Result<(), Error> {
    match api(cluster, release).delete(&release.revision(number), &DeleteParams::default()).await {
        Err(error) if !crate::cluster::is_absent(&error) => {
            Err(cluster.failed(format!("removing revision {number}"), error).into())
        }
        _ => Ok(()),
    }
}

fn api(cluster: &Cluster, release: &Release) -> Api<ControllerRevision> {
    Api::namespaced(cluster.client(), &release.namespace)
}

fn metadata(release: &Release, number: i64) -> ObjectMeta {
    let labels = LABELS.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter();
    let labels = labels.chain(release.name.iter().map(|name| (release::LABEL.to_owned(), name.clone())));
    ObjectMeta { name: Some(release.revision(number)), labels: Some(labels.collect()), ..ObjectMeta::default() }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::{KEPT, RecordedObject, Revision, superfluous};

    /// A revision that never got ready.
    pub(in crate::rollout) fn revision(number: i64, objects: &[Value]) -> Revision {
        Revision {
            number,
            recorded_at: None,
            ready_at: None,
            images: ["docker.io/a/manager@sha256:1".to_owned()].into(),
            version: Some("1.0.0".to_owned()),
            user: None,
            rollback_to: None,
            objects: Ok(objects.iter().map(RecordedObject::new).collect()),
        }
    }

    /// One that did.
    pub(in crate::rollout) fn ready(number: i64, objects: &[Value]) -> Revision {
        Revision { ready_at: "2024-01-01T00:00:00Z".parse().ok(), ..revision(number, objects) }
    }

    fn read(data: &Value) -> Revision {
        let labels = json!({ "app.kubernetes.io/managed-by": "vcdist", "app.kubernetes.io/component": "revision" });
        let revision = json!({ "metadata": { "name": "vcdist-3", "labels": labels }, "revision": 3, "data": data });
        Revision::read(&serde_json::from_value(revision).unwrap()).unwrap()
    }

    #[test]
    fn older_damaged_and_newer_records_still_tell_their_images_and_why_there_is_no_more() {
        let images = json!(["docker.io/a/manager@sha256:1"]);
        for (data, why) in [
            (json!({ "images": images }), "recorded only images"),
            (json!({ "images": images, "form": 1 }), "it has no objects"),
            (json!({ "images": images, "form": 1, "objects": "?", "version": "2.0.0" }), "the record is damaged"),
            (json!({ "images": images, "form": 2, "objects": "AAAA", "version": "2.0.0" }), "recorded in form 2"),
        ] {
            let revision = read(&data);
            assert_eq!(revision.images.iter().collect::<Vec<_>>(), ["docker.io/a/manager@sha256:1"]);
            let error = revision.to_apply().unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(!read(&json!({ "images": images })).never_ready(), "an older vcdist did not say");
    }

    #[test]
    fn ten_stay_and_the_last_that_got_ready() {
        let going = |ready_one: i64, count: i64| {
            let all: Vec<_> =
                (1..=count).map(|n| if n == ready_one { ready(n, &[]) } else { revision(n, &[]) }).collect();
            superfluous(&all).collect::<Vec<_>>()
        };
        assert_eq!(going(0, 9), [0i64; 0]);
        assert_eq!(going(0, i64::try_from(KEPT).unwrap()), [1]);
        assert_eq!(going(1, 11), [2]);
        assert_eq!(going(11, 12), [1, 2, 3]);
    }
}
