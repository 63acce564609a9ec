//! What applying the objects would do, asked of the API server before anything is done.
//! Each object is applied in a dry run; refusals and conflicts show here, while nothing has changed.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, Status};
use serde::Serialize;
use serde_json::Value;
use vcmanifests::{Object, RELEASE, Stage};

use super::defined::{DefinedKinds, is_refusal};
use super::diff::{FieldChange, diff};
use super::error::{Conflict, Conflicts};
use super::predecessors::predecessors;
use super::ready::{self, Readiness};
use super::superseded::{Kept, Removal, superseded};
use super::{
    Error, FIELD_MANAGER, RecordedObject, Release, Revision, definitions, owner, recreate, release, revision, takeover,
};
use crate::cluster::{self, Cluster};

/// Requests under way at once: enough to hide a long way to the API server, too few to be throttled.
const AT_ONCE: usize = 8;

/// What applying an object does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "change", content = "fields")]
pub enum Change {
    /// It is not there yet.
    Created,
    /// It is there and differs in these fields.
    Configured(Vec<FieldChange>),
    /// It is there, as it should be.
    Unchanged,
    /// It is there, only earlier revisions had it, and it goes.
    Removed,
    /// It is there and has to be deleted first, for these fields can never be changed. Only a rollout that may does that.
    Recreated(Vec<FieldChange>),
}

/// What is to be done about one object.
#[derive(Debug, Clone)]
pub struct Step {
    /// The object.
    pub object: Object,
    /// What applying it does.
    pub change: Change,
    /// Whether applying can be left out: nothing would change, not even who owns which field.
    pub settled: bool,
    /// Whether `kubectl apply` made the object, and its fields become ours first.
    pub taken_over: bool,
    /// The UID of the object that has to be gone first; none where it is changed in place.
    pub(super) replaces: Option<String>,
}

impl Step {
    fn new(object: Object, change: Change) -> Self {
        Self { object, settled: change == Change::Unchanged, change, taken_over: false, replaces: None }
    }
}

/// One step for every object, in dependency order, and what goes after them.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What earlier revisions had and this one lacks, workloads first.
    pub removals: Vec<Removal>,
    /// What earlier revisions had, this one lacks, and stays.
    pub kept: Vec<Kept>,
    /// The Secrets of the revision that a rollback goes to: they stay as they are, and are recorded again, each in its place.
    pub(super) withheld: Vec<(usize, RecordedObject)>,
}

impl Plan {
    /// Refuses a plan that deletes objects and makes them anew, before anything is changed.
    ///
    /// # Errors
    /// When it has such objects: with each, the fields that can never be changed, and what that ends.
    pub fn refuse_recreation(&self) -> Result<(), Error> {
        recreate::refuse(&self.steps)
    }
}

/// What a plan may do beside applying its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions {
    /// Take over fields of other managers.
    pub force_conflicts: bool,
    /// Remove namespaces and definitions that only earlier revisions had.
    pub prune_definitions: bool,
}

/// Asks what applying `objects` would do, and what of the namespace's revisions would go.
///
/// # Errors
/// When the API server cannot be asked, refuses an object, or another manager owns a field that would change.
pub async fn plan(cluster: &Cluster, objects: Vec<Object>, permissions: Permissions) -> Result<Plan, Error> {
    planned(cluster, objects, Vec::new(), permissions).await
}

/// Asks what going back to a revision would do.
///
/// # Errors
/// As [`plan()`]; when this version does not know all objects of the revision.
pub async fn plan_back(cluster: &Cluster, to: &Revision, permissions: Permissions) -> Result<Plan, Error> {
    planned(cluster, to.to_apply()?, to.withheld(), permissions).await
}

async fn planned(
    cluster: &Cluster,
    objects: Vec<Object>,
    withheld: Vec<(usize, RecordedObject)>,
    permissions: Permissions,
) -> Result<Plan, Error> {
    let absent = absent_namespaces(cluster, &objects).await?;
    let (removals, kept) = removals(cluster, &objects, &withheld, &absent, permissions.prune_definitions).await?;
    let (mut steps, mut conflicts) = (Vec::new(), Vec::new());
    let (first, of_defined_kinds): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| object.stage() < Stage::Custom);
    for objects in [first, of_defined_kinds] {
        let defined = DefinedKinds::changed(&steps);
        let answers: Vec<Result<Step, Error>> = stream::iter(objects)
            .map(|object| step(cluster, object, permissions.force_conflicts, &absent, &defined))
            .buffered(AT_ONCE)
            .collect()
            .await;
        for answer in answers {
            match answer {
                Ok(step) => steps.push(step),
                Err(Error::Conflict(found)) => conflicts.extend(found.0),
                Err(other) => return Err(other),
            }
        }
    }
    if !conflicts.is_empty() {
        return Err(Error::Conflict(Conflicts(conflicts)));
    }
    definitions::check(cluster, &steps).await?;
    Ok(Plan { steps, removals, kept, withheld })
}

/// What goes once `objects` are there: what earlier revisions had, and what an installation of another tool had under other
/// names; and what of earlier revisions stays.
pub(super) async fn removals(
    cluster: &Cluster,
    objects: &[Object],
    withheld: &[(usize, RecordedObject)],
    absent_namespaces: &BTreeSet<String>,
    with_definitions: bool,
) -> Result<(Vec<Removal>, Vec<Kept>), Error> {
    let release = Release::of(objects).filter(|release| !absent_namespaces.contains(&release.namespace));
    let Some(release) = release else { return Ok((Vec::new(), Vec::new())) };
    let revisions = revision::list(cluster, &release).await?;
    let stays: Vec<Object> =
        objects.iter().cloned().chain(withheld.iter().filter_map(|(_, secret)| secret.object())).collect();
    let (mut removals, kept) = superseded(cluster, &revisions, &stays, with_definitions).await?;
    if release.name.is_none() {
        removals.extend(predecessors(cluster, &release.namespace, objects).await?);
    }
    Ok((removals, kept))
}

/// Applies one object for real, or in a dry run, and returns what the API server makes of it.
pub(super) async fn apply(
    cluster: &Cluster,
    object: &Object,
    force: bool,
    dry_run: bool,
) -> Result<DynamicObject, Error> {
    let mut parameters = PatchParams::apply(FIELD_MANAGER).validation_strict();
    parameters.force = force;
    parameters.dry_run = dry_run;
    let result = api(cluster, object).patch(object.name(), &parameters, &Patch::Apply(object)).await;
    result.map_err(|error| match &error {
        kube::Error::Api(status) if status.is_conflict() && !conflicts(object, status).is_empty() => {
            Error::Conflict(Conflicts(conflicts(object, status)))
        }
        kube::Error::Api(status) if !recreate::immutable_fields(status).is_empty() => Error::Immutable {
            object: title(object),
            fields: recreate::immutable_fields(status),
            why: recreate::too_precious(object).unwrap_or("vcdist deletes it only where the plan says so"),
            command: deletion(object),
            message: status.message.clone(),
        },
        _ => cluster.failed(format!("applying {}", title(object)), error).into(),
    })
}

/// When our own fields of an object last changed, by the API server's clock.
pub(super) fn changed_at(object: &DynamicObject) -> Option<Time> {
    ours(object)?.time.clone()
}

/// `deployment/vc-manager`.
#[must_use]
pub fn title(object: &Object) -> String {
    format!("{}/{}", object.kind().to_lowercase(), object.name())
}

/// The namespaces among the objects that are not there yet.
pub(super) async fn absent_namespaces(cluster: &Cluster, objects: &[Object]) -> Result<BTreeSet<String>, Error> {
    let api: Api<Namespace> = Api::all(cluster.client());
    let mut absent = BTreeSet::new();
    for ours in objects.iter().filter(|object| object.stage() == Stage::Namespace) {
        let found = api.get_opt(ours.name()).await;
        let found = found.map_err(|error| cluster.failed(format!("reading {}", title(ours)), error))?;
        if let Some(Readiness::Failed(why)) = found.as_ref().map(ready::namespace) {
            return Err(Error::Unusable { object: title(ours), why });
        }
        if found.is_none() {
            absent.insert(ours.name().to_owned());
        }
    }
    Ok(absent)
}

pub(super) async fn step(
    cluster: &Cluster,
    object: Object,
    force: bool,
    absent_namespaces: &BTreeSet<String>,
    defined: &DefinedKinds,
) -> Result<Step, Error> {
    // Nothing can be in a namespace that is not there, nor be asked about: the server would only say so.
    if object.namespace().is_some_and(|namespace| absent_namespaces.contains(namespace)) {
        return Ok(Step::new(object, Change::Created));
    }
    let Some(before) = read(cluster, &object).await? else {
        return match apply(cluster, &object, force, true).await {
            Err(error) if !(defined.has(&object) && is_refusal(&error)) => Err(error),
            _ => Ok(Step::new(object, Change::Created)),
        };
    };
    release::check(&object, &before, force)?;
    if let Object::ClusterRoleBinding(binding) = &object {
        owner::check(cluster, binding, &before).await?;
    }
    if holds_secrets(&object, &before) {
        return Ok(Step::new(object, Change::Unchanged));
    }
    let goes_anyway = object.stage() == Stage::Custom || recreate::too_precious(&object).is_none();
    if before.metadata.deletion_timestamp.is_some() && goes_anyway {
        return Ok(Step { replaces: before.metadata.uid, ..Step::new(object, Change::Created) });
    }
    let taken_over = takeover::is_of_client(&before);
    let after = match apply(cluster, &object, force, true).await {
        Err(Error::Conflict(found)) if taken_over => {
            let (_, of_others): (Vec<_>, Vec<_>) =
                found.0.into_iter().partition(|one| one.manager == takeover::CLIENT_SIDE);
            if !of_others.is_empty() {
                return Err(Error::Conflict(Conflicts(of_others)));
            }
            apply(cluster, &object, true, true).await
        }
        result => result,
    };
    let after = match after {
        Err(error) if defined.has(&object) && is_refusal(&error) => {
            return Ok(Step::new(object, Change::Configured(Vec::new())));
        }
        Err(Error::Immutable { fields, .. }) if recreate::too_precious(&object).is_none() => {
            let fields = fields.iter().map(|field| at(field, &before, &object)).collect();
            return Ok(Step { replaces: before.metadata.uid, ..Step::new(object, Change::Recreated(fields)) });
        }
        Err(error @ Error::Cluster(cluster::Error::Refused { .. })) if taken_over => {
            let Some(anew) = takeover::made_anew(cluster, &object).await else { return Err(error) };
            let mut fields = diff(&value(&object, &before)?, &value(&object, &anew)?);
            fields.retain(|field| !field.field.starts_with("metadata.annotations"));
            return Ok(Step { taken_over, ..Step::new(object, Change::Configured(fields)) });
        }
        after => after?,
    };
    let mut fields = diff(&value(&object, &before)?, &value(&object, &after)?);
    if taken_over {
        let mut dropped = takeover::dropped(&before, &after);
        dropped.retain(|one| !fields.iter().any(|known| one.field.starts_with(&known.field)));
        // The client owns defaults too, which the API server sets again.
        if !dropped.is_empty()
            && let Some(anew) = takeover::made_anew(cluster, &object).await
        {
            let lasting = diff(&value(&object, &before)?, &value(&object, &anew)?);
            let is_within = |a: &FieldChange, b: &FieldChange| a.field.starts_with(&b.field);
            dropped.retain(|one| lasting.iter().any(|field| is_within(one, field) || is_within(field, one)));
        }
        fields.extend(dropped);
    }
    let settled = fields.is_empty() && owned(&before) == owned(&after) && !taken_over;
    let change = if fields.is_empty() { Change::Unchanged } else { Change::Configured(fields) };
    Ok(Step { settled, taken_over, ..Step::new(object, change) })
}

pub(super) async fn read(cluster: &Cluster, object: &Object) -> Result<Option<DynamicObject>, Error> {
    match api(cluster, object).get(object.name()).await {
        Ok(found) => Ok(Some(found)),
        // Of a kind that a definition of the same rollout makes there is nothing yet, which is said in plain text.
        Err(error) if cluster::is_absent(&error) => Ok(None),
        Err(error) => Err(cluster.failed(format!("reading {}", title(object)), error).into()),
    }
}

/// A field that cannot be changed, as it is and as it would be, where the server's path leads to it.
fn at(field: &str, before: &DynamicObject, object: &Object) -> FieldChange {
    let pointer = format!("/{}", field.replace('.', "/"));
    let value = |object: Value| {
        object.pointer(&pointer).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let [from, to] = [serde_json::to_value(before), serde_json::to_value(object)].map(Result::unwrap_or_default);
    FieldChange { field: field.to_owned(), from: value(from), to: value(to) }
}

/// Whether an object is a Secret into which somebody has put what ours only has room for: a real certificate is never taken away.
fn holds_secrets(object: &Object, before: &DynamicObject) -> bool {
    let Object::Secret(secret) = object else { return false };
    if object.annotation(RELEASE).is_some() {
        return false;
    }
    let is_held = |key: &String| before.data["data"][key].as_str().is_some_and(|value| !value.is_empty());
    secret.data.iter().flatten().any(|(key, _)| is_held(key))
}

/// The API of an object's kind, in its namespace.
pub(super) fn api(cluster: &Cluster, object: &Object) -> Api<DynamicObject> {
    let resource = resource(object);
    match object.namespace() {
        Some(namespace) => Api::namespaced_with(cluster.client(), namespace, &resource),
        None => Api::all_with(cluster.client(), &resource),
    }
}

fn resource(object: &Object) -> ApiResource {
    let (group, version) = object.api_version().split_once('/').unwrap_or(("", object.api_version()));
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, object.kind()), object.plural())
}

fn value(object: &Object, found: &DynamicObject) -> Result<Value, Error> {
    serde_json::to_value(found).map_err(|source| Error::Prepare { object: title(object), source })
}

/// The fields of an object that are ours.
fn owned(object: &DynamicObject) -> Option<&Value> {
    ours(object)?.fields_v1.as_ref().map(|fields| &fields.0)
}

/// What we own of an object; none where we never applied it.
pub(super) fn ours(object: &DynamicObject) -> Option<&ManagedFieldsEntry> {
    object
        .metadata
        .managed_fields
        .iter()
        .flatten()
        .find(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply"))
}

/// Reads the causes of a conflict: `conflict with "kubectl-client-side-apply" using apps/v1` at `.spec.replicas`.
fn conflicts(object: &Object, status: &Status) -> Vec<Conflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| Conflict {
            object: title(object),
            manager: cause.message.split('"').nth(1).unwrap_or(cause.message.as_str()).to_owned(),
            field: cause.field.clone(),
        })
        .collect()
}

/// The command that deletes an object.
fn deletion(object: &Object) -> String {
    let within = object.namespace().map(|namespace| format!(" --namespace {namespace}")).unwrap_or_default();
    format!("kubectl delete {}{within}", title(object))
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use kube::core::Status;
    use serde_json::json;
    use vcmanifests::Object;

    use super::{Change, at, conflicts, deletion, holds_secrets};
    use crate::rollout::diff::FieldChange;
    use crate::rollout::error::Conflict;

    #[test]
    fn a_conflicts_owner_and_field_are_read_from_the_servers_status() {
        let status: Status = serde_json::from_value(json!({
            "status": "Failure", "code": 409, "reason": "Conflict",
            "message": "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas",
            "details": { "causes": [{ "reason": "FieldManagerConflict", "field": ".spec.replicas",
                "message": "conflict with \"kubectl-client-side-apply\" using apps/v1" }] },
        }))
        .unwrap();
        let object =
            Object::Namespace(serde_json::from_value(json!({ "metadata": { "name": "vc-manager" } })).unwrap());
        let expected = Conflict {
            object: "namespace/vc-manager".to_owned(),
            manager: "kubectl-client-side-apply".to_owned(),
            field: ".spec.replicas".to_owned(),
        };
        assert_eq!(conflicts(&object, &status), [expected]);
    }

    #[test]
    fn a_field_that_can_never_change_is_shown_as_it_is_and_as_it_would_be() {
        let binding = |role: &str| {
            json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": "b", "namespace": "n" }, "roleRef": { "apiGroup": "", "kind": "Role", "name": role } })
        };
        let object = Object::from_value(&binding("new")).unwrap().unwrap();
        let before = serde_json::from_value(binding("old")).unwrap();
        let change = at("roleRef.name", &before, &object);
        assert_eq!((change.from.as_deref(), change.to.as_deref()), (Some("old"), Some("new")));
        let unknown = at("spec.x[0]", &before, &object);
        assert_eq!((unknown.from, unknown.to), (None, None));
        assert_eq!(deletion(&object), "kubectl delete rolebinding/b --namespace n");
    }

    #[test]
    fn a_certificate_in_the_secret_is_left_alone_and_an_empty_one_is_ours() {
        let secret = json!({ "metadata": { "name": "s" }, "data": { "client.crt": "", "client.key": "" } });
        let ours = Object::Secret(serde_json::from_value(secret).unwrap());
        let holds = |data: serde_json::Value| {
            let before: DynamicObject = serde_json::from_value(json!({ "metadata": {}, "data": data })).unwrap();
            holds_secrets(&ours, &before)
        };
        assert!(holds(json!({ "client.crt": "eA==", "client.key": "" })));
        assert!(!holds(json!({ "client.crt": "", "client.key": "" })));
        assert!(!holds(json!({ "other": "eA==" })));
    }

    #[test]
    fn changes_have_stable_words() {
        let field = FieldChange { field: "spec.replicas".to_owned(), from: Some("1".to_owned()), to: None };
        let json = |change: &Change| serde_json::to_string(change).unwrap();
        assert_eq!(json(&Change::Created), r#"{"change":"created"}"#);
        assert_eq!(
            json(&Change::Configured(vec![field])),
            r#"{"change":"configured","fields":[{"field":"spec.replicas","from":"1","to":null}]}"#
        );
    }
}
