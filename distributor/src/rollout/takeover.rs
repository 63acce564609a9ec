//! Objects that `kubectl apply` made: their fields become ours before the first rollout over them, as `kubectl apply
//! --server-side` does it. Otherwise each field would be in conflict, and one that we do not have would stay for ever.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};
use vcmanifests::Object;

use super::diff::FieldChange;
use super::foreign::fields_left;
use super::plan::{api, ours, title};
use super::{Error, FIELD_MANAGER};
use crate::cluster::{Cluster, is_absent};

/// The manager of fields that were applied by the client.
pub(super) const CLIENT_SIDE: &str = "kubectl-client-side-apply";

/// The annotation in which the client keeps what it applied.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How often the change of managers is tried while others change the object.
const ATTEMPTS: usize = 5;

/// Whether an object is of `kubectl apply`, and never was ours. One that is ours already and that somebody applies by the client
/// too has two owners: that is a conflict.
pub(super) fn is_of_client(object: &DynamicObject) -> bool {
    let annotations = object.metadata.annotations.as_ref();
    ours(object).is_none()
        && annotations.is_some_and(|all| all.contains_key(LAST_APPLIED))
        && object.metadata.managed_fields.iter().flatten().any(is_client_side)
}

/// Fields that the client applied and that go with the takeover: `after` is what the dry run makes of the object.
pub(super) fn dropped(before: &DynamicObject, after: &DynamicObject) -> Vec<FieldChange> {
    let theirs = before.metadata.managed_fields.iter().flatten().filter(|entry| is_client_side(entry));
    let theirs = theirs.filter_map(|entry| entry.fields_v1.as_ref().map(|fields| &fields.0));
    let kept: Vec<&Value> = after
        .metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| !is_client_side(entry))
        .filter_map(|entry| entry.fields_v1.as_ref().map(|fields| &fields.0))
        .collect();
    let live = serde_json::to_value(before).unwrap_or_default();
    theirs.flat_map(|theirs| fields_left(theirs, &kept, &live)).collect()
}

/// The object as it would be if it were made now, in a dry run under another name; none where the API server refuses that. Beside
/// fields of the client that go with the takeover, ours may not be allowed, and no dry run can take these away first.
pub(super) async fn made_anew(cluster: &Cluster, object: &Object) -> Option<DynamicObject> {
    let mut anew: DynamicObject = serde_json::from_value(serde_json::to_value(object).ok()?).ok()?;
    anew.metadata.name = Some(format!("{}-{FIELD_MANAGER}-dry-run", object.name()));
    let parameters = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()) };
    let made = api(cluster, object).create(&parameters, &anew).await;
    let mut made = made.inspect_err(|error| tracing::debug!("making {} in a dry run: {error}", title(object))).ok()?;
    made.metadata.name = Some(object.name().to_owned());
    // What others note on the object stays.
    made.metadata.annotations = None;
    Some(made)
}

/// Makes the fields of the client ours, unless it has none any more. Only this object: one that comes after it is another.
pub(super) async fn take_over(cluster: &Cluster, object: &Object) -> Result<(), Error> {
    let failed = |error| Error::from(cluster.failed(format!("taking over {}", title(object)), error));
    for attempt in 1..=ATTEMPTS {
        let Some(found) = api(cluster, object).get_opt(object.name()).await.map_err(failed)? else { return Ok(()) };
        if !is_of_client(&found) {
            return Ok(());
        }
        let metadata = json!({ "managedFields": migrated(&found), "resourceVersion": found.metadata.resource_version,
            "uid": found.metadata.uid });
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        match api(cluster, object).patch(object.name(), &parameters, &patch).await {
            Ok(_) => return Ok(()),
            Err(error) if is_absent(&error) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() && attempt < ATTEMPTS => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// The managers of an object, with ours in the place of the client.
fn migrated(object: &DynamicObject) -> Vec<ManagedFieldsEntry> {
    let entries: Vec<&ManagedFieldsEntry> = object.metadata.managed_fields.iter().flatten().collect();
    let of_client = entries.iter().filter(|entry| is_client_side(entry));
    let mut fields = Map::new();
    of_client
        .clone()
        .filter_map(|entry| entry.fields_v1.as_ref()?.0.as_object())
        .for_each(|more| unite(&mut fields, more));
    let newest = of_client.max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    let mut managers: Vec<ManagedFieldsEntry> =
        entries.iter().filter(|entry| !is_client_side(entry)).map(|entry| (*entry).clone()).collect();
    managers.push(ManagedFieldsEntry {
        manager: Some(FIELD_MANAGER.to_owned()),
        operation: Some("Apply".to_owned()),
        fields_v1: Some(FieldsV1(Value::Object(fields))),
        api_version: newest.and_then(|entry| entry.api_version.clone()),
        fields_type: Some("FieldsV1".to_owned()),
        time: newest.and_then(|entry| entry.time.clone()),
        subresource: None,
    });
    managers
}

fn is_client_side(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(CLIENT_SIDE)
        && entry.operation.as_deref() == Some("Update")
        && entry.subresource.is_none()
}

/// The union of two sets of fields.
fn unite(fields: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (key, below) in more {
        let own = fields.entry(key).or_insert_with(|| json!({}));
        if let (Value::Object(own), Value::Object(below)) = (own, below) {
            unite(own, below);
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::{dropped, is_of_client, migrated};

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({ "manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields })
    }

    fn object(managers: &[Value]) -> DynamicObject {
        serde_json::from_value(json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d",
            "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}" }, "managedFields": managers },
            "spec": { "replicas": 2, "paused": true, "minReadySeconds": 3 } }))
        .unwrap()
    }

    #[test]
    fn only_what_the_client_applied_and_we_never_did_is_taken_over() {
        let client = entry("kubectl-client-side-apply", "Update", &json!({}));
        assert!(is_of_client(&object(std::slice::from_ref(&client))));
        assert!(!is_of_client(&object(&[client.clone(), entry("vcdist", "Apply", &json!({}))])));
        assert!(!is_of_client(&object(&[entry("helm", "Update", &json!({}))])));
        let mut without = object(&[client]);
        without.metadata.annotations = None;
        assert!(!is_of_client(&without));
    }

    #[test]
    fn the_clients_fields_become_ours_and_those_of_others_stay_theirs() {
        let of_client = json!({ "f:spec": { "f:replicas": {}, "f:paused": {} } });
        let theirs = entry("kubectl-edit", "Update", &json!({ "f:spec": { "f:minReadySeconds": {} } }));
        let before = object(&[entry("kubectl-client-side-apply", "Update", &of_client), theirs.clone()]);
        let after = serde_json::to_value(migrated(&before)).unwrap();
        assert_eq!(after, json!([theirs, entry("vcdist", "Apply", &of_client)]));
    }

    #[test]
    fn fields_that_we_lack_go_and_are_shown() {
        let of_client = json!({ "f:spec": { "f:replicas": {}, "f:paused": {}, "f:minReadySeconds": {} } });
        let client = entry("kubectl-client-side-apply", "Update", &of_client);
        let edit = entry("kubectl-edit", "Update", &json!({ "f:spec": { "f:minReadySeconds": {} } }));
        let before = object(&[client.clone(), edit.clone()]);
        let after = object(&[client, edit, entry("vcdist", "Apply", &json!({ "f:spec": { "f:replicas": {} } }))]);
        let fields: Vec<String> = dropped(&before, &after).into_iter().map(|change| change.field).collect();
        assert_eq!(fields, ["spec.paused"]);
    }
}
