//! What applying the objects would do, asked of the API server before anything is done.
//! Each object is applied in a dry run; refusals and conflicts show here, while nothing has changed.

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, Status};
use serde::Serialize;
use serde_json::Value;
use vcmanifests::{Object, Stage};

use super::diff::{FieldChange, diff};
use super::error::{Conflict, Conflicts};
use super::owner;
use super::ready::{self, Readiness};
use super::superseded::{Kept, Removal, superseded};
use super::{Error, FIELD_MANAGER, revision};
use crate::cluster::Cluster;

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
    /// It is there and has to be deleted first, for these fields can never be changed. No rollout does that.
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
    let namespace_exists = namespace_exists(cluster, &objects).await?;
    let (removals, kept) = if namespace_exists {
        let namespace = objects.iter().find(|object| object.stage() == Stage::Namespace);
        let revisions = match namespace {
            Some(namespace) => revision::list(cluster, namespace.name()).await?,
            None => Vec::new(),
        };
        superseded(cluster, &revisions, &objects, permissions.prune_definitions).await?
    } else {
        (Vec::new(), Vec::new())
    };
    let answers: Vec<Result<Step, Error>> = stream::iter(objects)
        .map(|object| step(cluster, object, permissions.force_conflicts, namespace_exists))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let (mut steps, mut conflicts) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(step) => steps.push(step),
            Err(Error::Conflict(found)) => conflicts.extend(found.0),
            Err(other) => return Err(other),
        }
    }
    if conflicts.is_empty() { Ok(Plan { steps, removals, kept }) } else { Err(Error::Conflict(Conflicts(conflicts))) }
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
        kube::Error::Api(status) if !immutable(status).is_empty() => Error::Immutable {
            object: title(object),
            fields: immutable(status).join(", "),
            command: deletion(object),
            ends: if object.stage() == Stage::Workloads { "; its pods end until then" } else { "" },
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

pub(super) async fn namespace_exists(cluster: &Cluster, objects: &[Object]) -> Result<bool, Error> {
    let Some(ours) = objects.iter().find(|object| object.stage() == Stage::Namespace) else { return Ok(true) };
    let api: Api<Namespace> = Api::all(cluster.client());
    let found = api.get_opt(ours.name()).await;
    let found = found.map_err(|error| cluster.failed(format!("reading {}", title(ours)), error))?;
    if let Some(Readiness::Failed(why)) = found.as_ref().map(ready::namespace) {
        return Err(Error::Unusable { object: title(ours), why });
    }
    Ok(found.is_some())
}

pub(super) async fn step(
    cluster: &Cluster,
    object: Object,
    force: bool,
    namespace_exists: bool,
) -> Result<Step, Error> {
    // Nothing can be in a namespace that is not there, nor be asked about: the server would only say so.
    if object.namespace().is_some() && !namespace_exists {
        return Ok(Step { object, change: Change::Created, settled: false });
    }
    let attempt = format!("reading {}", title(&object));
    let before = api(cluster, &object).get_opt(object.name()).await.map_err(|error| cluster.failed(attempt, error))?;
    if let (Object::ClusterRoleBinding(binding), Some(before)) = (&object, &before) {
        owner::check(cluster, binding, before).await?;
    }
    if before.as_ref().is_some_and(|before| holds_secrets(&object, before)) {
        return Ok(Step { object, change: Change::Unchanged, settled: true });
    }
    let after = apply(cluster, &object, force, true).await?;
    let Some(before) = before else { return Ok(Step { object, change: Change::Created, settled: false }) };
    let fields = diff(&value(&object, &before)?, &value(&object, &after)?);
    let settled = fields.is_empty() && owned(&before) == owned(&after);
    let change = if fields.is_empty() { Change::Unchanged } else { Change::Configured(fields) };
    Ok(Step { object, change, settled })
}

/// Whether an object is a Secret into which somebody has put what ours only has room for: a real certificate is never taken away.
fn holds_secrets(object: &Object, before: &DynamicObject) -> bool {
    let Object::Secret(secret) = object else { return false };
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

/// The fields that a refusal says can never be changed.
fn immutable(status: &Status) -> Vec<String> {
    let is_final = |json: &str| json.contains("is immutable") || json.contains("cannot change roleRef");
    if status.code != 422 || !is_final(&status.message) {
        return Vec::new();
    }
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let fields: Vec<String> =
        causes.filter(|cause| is_final(&cause.message)).map(|cause| cause.field.clone()).collect();
    if fields.is_empty() { vec!["a field".to_owned()] } else { fields }
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

    use super::{Change, conflicts, deletion, holds_secrets, immutable};
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
    fn what_can_never_be_changed_is_named_and_how_to_delete_the_object() {
        let refused = |field: &str, why: &str| -> Status {
            serde_json::from_value(json!({
                "status": "Failure", "code": 422, "reason": "Invalid", "message": format!("x is invalid: {field}: {why}"),
                "details": { "causes": [{ "reason": "FieldValueInvalid", "field": field, "message": why }] },
            }))
            .unwrap()
        };
        let selector = refused("spec.selector", "Invalid value: {\"app\":\"x\"}: field is immutable");
        assert_eq!(immutable(&selector), ["spec.selector"]);
        assert_eq!(immutable(&refused("roleRef", "Invalid value: {}: cannot change roleRef")), ["roleRef"]);
        assert!(immutable(&refused("spec.replicas", "must be at least 0")).is_empty());
        let binding = json!({ "metadata": { "name": "b", "namespace": "n" }, "roleRef": { "apiGroup": "", "kind": "Role", "name": "r" } });
        let binding = Object::RoleBinding(serde_json::from_value(binding).unwrap());
        assert_eq!(deletion(&binding), "kubectl delete rolebinding/b --namespace n");
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
