//! Objects that an earlier revision had and the one to come lacks: what is still ours of them goes at the end of a rollout.
//! Ours is what a revision recorded, what has our label, and what we are still a manager of.

use std::collections::BTreeSet;

use kube::api::{DeleteParams, DynamicObject, Preconditions};
use serde::Serialize;
use vcmanifests::{Object, RELEASE, Stage};

use super::plan::{api, ours, title};
use super::revision::Revision;
use super::{Error, FIELD_MANAGER, release};
use crate::cluster::{Cluster, is_absent};

/// The label of everything that vcdist applies.
const LABEL: &str = "app.kubernetes.io/managed-by";

/// Why what holds objects or data of others stays.
pub(crate) const SHARED_STAY: &str = "namespaces, definitions and volumes are removed only with --prune-definitions";

/// An object that goes.
#[derive(Debug, Clone)]
pub struct Removal {
    /// What was applied.
    pub object: Object,
    /// The very object that goes: one of the same name that comes after it is another's.
    uid: Option<String>,
}

impl Removal {
    /// The removal of the object of this UID.
    pub(super) fn new(object: Object, uid: Option<String>) -> Self {
        Self { object, uid }
    }
}

/// An object that vcdist does not remove: one that only earlier revisions had, or one of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Why it stays.
    pub why: String,
}

/// What goes once the objects `wanted` are there, workloads first, and what stays though no revision needs it any more.
/// Namespaces and definitions go only `with_definitions`.
pub(super) async fn superseded(
    cluster: &Cluster,
    revisions: &[Revision],
    wanted: &[Object],
    with_definitions: bool,
) -> Result<(Vec<Removal>, Vec<Kept>), Error> {
    let (mut removals, mut kept) = (Vec::new(), Vec::new());
    for object in candidates(revisions, wanted) {
        let attempt = format!("reading {}", title(&object));
        let found = api(cluster, &object).get_opt(object.name()).await;
        let found = match found {
            Err(error) if is_absent(&error) => None,
            found => found.map_err(|error| cluster.failed(attempt, error))?,
        };
        let Some(found) = found.filter(|found| found.metadata.deletion_timestamp.is_none()) else { continue };
        let why = match not_ours_as(&object, &found) {
            None if is_shared(&object) && !with_definitions => SHARED_STAY.to_owned(),
            None => {
                removals.push(Removal { object, uid: found.metadata.uid });
                continue;
            }
            Some(why) => why,
        };
        kept.push(Kept {
            kind: object.kind().to_owned(),
            name: object.name().to_owned(),
            namespace: object.namespace().map(str::to_owned),
            why,
        });
    }
    Ok((removals, kept))
}

/// Removes one object, unless it is another one by now.
pub(super) async fn remove(cluster: &Cluster, removal: &Removal) -> Result<(), Error> {
    let only = Preconditions { uid: removal.uid.clone(), resource_version: None };
    let deleted = api(cluster, &removal.object)
        .delete(removal.object.name(), &DeleteParams::background().preconditions(only))
        .await;
    match deleted {
        Ok(_) => Ok(()),
        Err(error) if is_absent(&error) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        Err(error) => Err(cluster.failed(format!("removing {}", title(&removal.object)), error).into()),
    }
}

/// Why an object that a revision had is not ours to remove: of a release with a name, its mark says whose it is.
pub(crate) fn not_ours_as(recorded: &Object, found: &DynamicObject) -> Option<String> {
    let Some(release) = recorded.annotation(RELEASE) else { return not_ours(found) };
    match release::mark(found) {
        Some(mark) if mark == release => taken_over(found).or_else(|| release::shared_with(found)),
        Some(other) => Some(format!("it belongs to the release {other}")),
        None => Some(format!("it has no annotation {RELEASE}={release}")),
    }
}

/// Why an object is not ours to remove; none where it is.
pub(crate) fn not_ours(found: &DynamicObject) -> Option<String> {
    if let Some(release) = release::mark(found) {
        return Some(format!("it belongs to the release {release}"));
    }
    let label = found.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL));
    if label.is_none_or(|label| label != FIELD_MANAGER) {
        return Some(format!("it has no label {LABEL}={FIELD_MANAGER}"));
    }
    if let Some(why) = taken_over(found) {
        return Some(why);
    }
    let holds = |key: &str| {
        found.data[key].as_object().is_some_and(|data| data.values().any(|value| value.as_str() != Some("")))
    };
    let is_secret = found.types.as_ref().is_some_and(|types| types.kind == "Secret");
    (is_secret && holds("data")).then(|| "somebody has put values into it".to_owned())
}

/// Who else an object belongs to by now.
fn taken_over(found: &DynamicObject) -> Option<String> {
    if let Some(owner) = found.metadata.owner_references.iter().flatten().next() {
        return Some(format!("{} {} owns it", owner.kind, owner.name));
    }
    if ours(found).is_none() {
        let others = found.metadata.managed_fields.iter().flatten().filter_map(|entry| entry.manager.as_deref());
        let others: BTreeSet<&str> = others.collect();
        let others = others.into_iter().collect::<Vec<_>>().join(", ");
        return Some(format!("{FIELD_MANAGER} manages none of its fields; {others} does"));
    }
    None
}

/// Whether objects or data of others go with an object.
pub(crate) fn is_shared(object: &Object) -> bool {
    matches!(object.stage(), Stage::Namespace | Stage::Definitions)
        || matches!(object.kind(), "PersistentVolume" | "PersistentVolumeClaim")
}

/// What some revision had and `wanted` lacks, each once, in the reverse order of a rollout.
fn candidates(revisions: &[Revision], wanted: &[Object]) -> Vec<Object> {
    let id =
        |object: &Object| (object.kind().to_owned(), object.namespace().map(str::to_owned), object.name().to_owned());
    let mut seen: BTreeSet<_> = wanted.iter().map(id).collect();
    let recorded = revisions.iter().rev().filter_map(|revision| revision.objects.as_ref().ok()).flatten();
    let mut candidates = Vec::new();
    for object in recorded {
        match object.object() {
            Some(object) if seen.insert(id(&object)) => candidates.push(object),
            Some(_) => {}
            None => tracing::debug!("{} is not known to this version, and stays", object.title()),
        }
    }
    candidates.sort_by_key(|object| std::cmp::Reverse(object.stage()));
    candidates
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::{Value, json};
    use vcmanifests::{Object, RELEASE};

    use super::{candidates, not_ours, not_ours_as};
    use crate::rollout::FIELD_MANAGER;
    use crate::rollout::revision::tests::revision;
    use crate::rollout::title;

    fn account(name: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": "vc" } })
    }

    #[test]
    fn what_another_tool_applies_too_is_not_removed_with_a_release() {
        let recorded = Object::other(
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "namespace": "n",
                "annotations": { RELEASE: "n/shop" } } }),
            "configmaps",
        );
        let why = |helm: bool, other: &str| {
            let mut annotations = json!({ RELEASE: "n/shop" });
            if helm {
                annotations["meta.helm.sh/release-name"] = json!("web");
            }
            let managers = [FIELD_MANAGER, other].map(|manager| json!({ "manager": manager, "operation": "Apply" }));
            let metadata = json!({ "name": "a", "annotations": annotations, "managedFields": managers });
            not_ours_as(&recorded, &serde_json::from_value(json!({ "metadata": metadata })).unwrap())
        };
        assert_eq!(why(false, FIELD_MANAGER), None);
        assert!(why(true, FIELD_MANAGER).unwrap().contains("Helm release web"));
        assert!(why(false, "argocd-controller").unwrap().contains("argocd-controller"));
        assert_eq!(why(false, "shop-operator"), None, "the operator of a release fills in its own webhook");
    }

    #[test]
    fn what_any_revision_had_and_is_not_wanted_goes_once_and_workloads_go_first() {
        let daemonset = json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "d", "namespace": "vc" },
            "spec": { "selector": {}, "template": {} } });
        let mut unread = revision(3, &[]);
        unread.objects = Err("an older vcdist".to_owned());
        let revisions = [
            revision(1, &[account("old"), daemonset.clone()]),
            revision(2, &[account("old"), account("kept")]),
            unread,
        ];
        let wanted = [Object::from_value(&account("kept")).unwrap().unwrap()];
        let titles: Vec<String> = candidates(&revisions, &wanted).iter().map(title).collect();
        assert_eq!(titles, ["daemonset/d", "serviceaccount/old"]);
    }

    #[test]
    fn of_a_release_goes_what_has_its_mark_alone() {
        let object = |release: &str| {
            let metadata = json!({ "name": "s", "namespace": "n", "annotations": { vcmanifests::RELEASE: release },
                "managedFields": [{ "manager": "vcdist", "operation": "Apply" }] });
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": { "key": "eA==" } })
        };
        let recorded = Object::other(object("n/shop"), "secrets");
        let why = |found: Value| not_ours_as(&recorded, &serde_json::from_value::<DynamicObject>(found).unwrap());
        assert_eq!(why(object("n/shop")), None, "its values are the release's");
        assert!(why(object("n/other")).unwrap().contains("n/other"));
        let mut changed = object("n/shop");
        changed["metadata"]["managedFields"][0]["manager"] = json!("helm");
        assert!(why(changed.clone()).unwrap().contains("helm"));
        changed["metadata"]["annotations"] = json!({});
        assert!(why(changed).unwrap().contains("no annotation"));
        let found: DynamicObject = serde_json::from_value(object("n/shop")).unwrap();
        assert!(not_ours(&found).unwrap().contains("n/shop"), "no part of an installation");
    }

    #[test]
    fn only_what_has_our_label_and_our_fields_and_no_owner_is_ours() {
        let object = |change: &dyn Fn(&mut Value)| {
            let mut object = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s",
                "labels": { "app.kubernetes.io/managed-by": "vcdist" },
                "managedFields": [{ "manager": "vcdist", "operation": "Apply" }, { "manager": "kubectl-edit", "operation": "Update" }] },
                "data": { "client.key": "" } });
            change(&mut object);
            not_ours(&serde_json::from_value::<DynamicObject>(object).unwrap())
        };
        assert_eq!(object(&|_| {}), None);
        let why = |change: &dyn Fn(&mut Value)| object(change).unwrap();
        assert!(why(&|it| it["metadata"]["labels"] = json!({})).contains("no label"));
        assert!(
            why(&|it| it["metadata"]["labels"] = json!({ "app.kubernetes.io/managed-by": "Helm" }))
                .contains("no label")
        );
        assert!(
            why(&|it| it["metadata"]["managedFields"] = json!([{ "manager": "helm", "operation": "Update" }]))
                .contains("helm does")
        );
        assert!(
            why(&|it| it["metadata"]["managedFields"] = json!([{ "manager": "vcdist", "operation": "Update" }]))
                .contains("manages none")
        );
        let owner = json!([{ "apiVersion": "v1", "kind": "Operator", "name": "o", "uid": "1" }]);
        assert!(why(&|it| it["metadata"]["ownerReferences"] = owner.clone()).contains("Operator o owns it"));
        assert!(why(&|it| it["data"]["client.key"] = json!("eA==")).contains("values"));
    }
}
