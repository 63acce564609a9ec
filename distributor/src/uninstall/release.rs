//! What is there of a release with a name, step by step: what its revisions recorded and its mark is on. Namespaces, definitions
//! and volumes stay unless it is said, and what its StatefulSets keep always does.

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use serde_json::Value;
use vcmanifests::{Object, Stage};

use super::Error;
use super::find::{Found, get, list};
use super::item::{Item, Step, resource, resource_of};
use super::namespace::foreign_to;
use crate::cluster::Cluster;
use crate::rollout::{Kept, Release, SHARED_STAY, is_shared, mark, not_ours_as, revision_selector, revisions_in};

/// What goes in a step, and what stays.
pub(super) async fn find(
    cluster: &Cluster,
    release: &Release,
    with_definitions: bool,
    step: Step,
) -> Result<Found, Error> {
    let stage = match step {
        Step::Webhooks => Stage::Webhooks,
        Step::Custom => Stage::Custom,
        Step::Definitions => Stage::Definitions,
        Step::Workloads => Stage::Workloads,
        Step::Access => Stage::Access,
        Step::OtherNamespaces => Stage::Namespace,
        Step::Revisions => return recorded(cluster, release).await,
        Step::Namespace => return own_namespace(cluster, release, with_definitions).await,
        Step::Tenants | Step::TenantNamespaces | Step::ClusterVersions => return Ok(Found::default()),
    };
    let (mut items, mut kept) = Found::default();
    let mut bound = Vec::new();
    let objects = objects(cluster, release).await?;
    for object in objects.iter().filter(|object| object.stage() == stage) {
        if step == Step::OtherNamespaces && object.name() == release.namespace {
            continue;
        }
        let kind = resource_of(object);
        let Some(found) = get(cluster, &kind, object.namespace(), object.name()).await? else { continue };
        let item = Item::new(step, &kind, &found);
        match not_ours_as(object, &found) {
            Some(why) => kept.push(item.kept(why)),
            None if is_shared(object) && !with_definitions => kept.push(item.kept(SHARED_STAY.to_owned())),
            None if step == Step::OtherNamespaces => unless_used(cluster, release, item, &mut items, &mut kept).await?,
            None if object.kind() == "PersistentVolume" && found.data["status"]["phase"] == "Bound" => {
                bound.push((item, claim_of(&found)));
            }
            None => items.push(item),
        }
    }
    for (volume, (namespace, name)) in bound {
        let is_its_claim = |item: &&Item| item.namespace.as_deref() == Some(&namespace) && item.name == name;
        if items.iter().filter(|item| item.kind == "PersistentVolumeClaim").any(|item| is_its_claim(&item)) {
            items.push(volume);
        } else {
            kept.push(volume.kept(format!("persistentvolumeclaim/{name} in {namespace} uses it, and stays")));
        }
    }
    if step == Step::Access {
        kept.extend(claims(cluster, &objects).await?);
    }
    Ok((items, kept))
}

/// Every object that some revision recorded, each once, in the reverse order of a rollout.
///
/// # Errors
/// When a revision cannot be read: only revisions list the objects.
pub(super) async fn objects(cluster: &Cluster, release: &Release) -> Result<Vec<Object>, Error> {
    let mut seen = BTreeSet::new();
    let mut objects = Vec::new();
    for revision in revisions_in(cluster, release).await?.iter().rev() {
        for object in revision.known_objects()?.into_iter().rev() {
            let id = (object.kind().to_owned(), object.namespace().map(str::to_owned), object.name().to_owned());
            if seen.insert(id) {
                objects.push(object);
            }
        }
    }
    Ok(objects)
}

async fn recorded(cluster: &Cluster, release: &Release) -> Result<Found, Error> {
    let kind = resource("apps", "v1", "ControllerRevision", "controllerrevisions");
    let found = list(cluster, &kind, Some(&release.namespace), &revision_selector()).await?;
    let found = found.iter().filter(|revision| release.has(revision.metadata.labels.as_ref()));
    Ok((found.map(|object| Item::new(Step::Revisions, &kind, object)).collect(), Vec::new()))
}

/// The namespace of the revisions, which goes after them. Its mark alone tells that it is the release's.
async fn own_namespace(cluster: &Cluster, release: &Release, with_definitions: bool) -> Result<Found, Error> {
    let kind = resource("", "v1", "Namespace", "namespaces");
    let (mut items, mut kept) = Found::default();
    let found = get(cluster, &kind, None, &release.namespace).await?;
    let Some(found) = found.filter(|found| mark(found) == Some(release.to_string().as_str())) else {
        return Ok((items, kept));
    };
    let item = Item::new(Step::Namespace, &kind, &found);
    if !with_definitions {
        kept.push(item.kept(SHARED_STAY.to_owned()));
    } else if found.metadata.deletion_timestamp.is_some() {
        items.push(item);
    } else {
        unless_used(cluster, release, item, &mut items, &mut kept).await?;
    }
    Ok((items, kept))
}

/// A namespace goes unless others have something in it.
async fn unless_used(
    cluster: &Cluster,
    release: &Release,
    item: Item,
    items: &mut Vec<Item>,
    kept: &mut Vec<Kept>,
) -> Result<(), Error> {
    let foreign = foreign_to(cluster, &item.name, release).await?;
    if foreign.is_empty() {
        items.push(item);
    } else {
        kept.push(item.kept(format!("others have objects in it: {}", foreign.join(", "))));
    }
    Ok(())
}

/// The claim that a volume is bound to: its namespace and name. The volume does not go before it.
fn claim_of(volume: &DynamicObject) -> (String, String) {
    let claim = &volume.data["spec"]["claimRef"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&claim["namespace"]), text(&claim["name"]))
}

/// The claims that StatefulSets have made for their data.
async fn claims(cluster: &Cluster, objects: &[Object]) -> Result<Vec<Kept>, Error> {
    let kind = resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims");
    let mut kept = Vec::new();
    for set in objects.iter().filter(|object| object.kind() == "StatefulSet") {
        let prefixes = prefixes(&serde_json::to_value(set).unwrap_or_default());
        if prefixes.is_empty() {
            continue;
        }
        for claim in list(cluster, &kind, set.namespace(), "").await? {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            // One with an owner goes with it.
            if claim.metadata.owner_references.is_none() && prefixes.iter().any(|prefix| is_numbered(name, prefix)) {
                let why = format!(
                    "it holds data of statefulset/{}; if nobody needs them, remove it with `kubectl delete`",
                    set.name()
                );
                kept.push(Item::new(Step::Access, &kind, &claim).kept(why));
            }
        }
    }
    Ok(kept)
}

/// What the names of a StatefulSet's claims begin with.
fn prefixes(set: &Value) -> Vec<String> {
    let name = set["metadata"]["name"].as_str().unwrap_or_default();
    let templates = set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
    templates.filter_map(|one| Some(format!("{}-{name}-", one["metadata"]["name"].as_str()?))).collect()
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{is_numbered, prefixes};

    #[test]
    fn claims_of_a_statefulset_are_told_from_others_of_similar_names() {
        let set = json!({ "metadata": { "name": "db" }, "spec": { "volumeClaimTemplates": [
            { "metadata": { "name": "data" } }, { "metadata": { "name": "log" } }] } });
        assert_eq!(prefixes(&set), ["data-db-", "log-db-"]);
        assert!(is_numbered("data-db-0", "data-db-") && is_numbered("data-db-12", "data-db-"));
        for other in ["data-db-", "data-db-a", "data-db-0-old", "data-dbs-0"] {
            assert!(!is_numbered(other, "data-db-"), "{other}");
        }
    }
}
