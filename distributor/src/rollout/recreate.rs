//! Objects that have to be deleted and made anew: a field would change that never can, or somebody has deleted them and they are
//! still on their way out. A rollout that is ended in between finds the object gone or going, and makes it.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::core::Status;
use tokio::time::sleep;
use vcmanifests::{Object, Stage};

use super::plan::{Change, Step, api, title};
use super::{Error, error};
use crate::cluster::{Cluster, is_absent};

/// How often it is asked whether an object is gone.
const LOOK: Duration = Duration::from_millis(500);

/// What the API server says of fields that never change.
const FINAL: [&str; 9] = [
    "is immutable",
    "cannot change roleRef",
    "may not change once set",
    "can not be unset",
    "may not be changed in an update",
    "updates to statefulset spec for fields other than",
    "pod updates may not change fields other than",
    "updates to parameters are forbidden",
    "updates to provisioner are forbidden",
];

/// The fields that a refusal says can never be changed.
pub(super) fn immutable_fields(status: &Status) -> Vec<String> {
    let is_final = |text: &str| FINAL.iter().any(|words| text.contains(words));
    if status.code != 422 || !is_final(&status.message) {
        return Vec::new();
    }
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let fields: Vec<String> =
        causes.filter(|cause| is_final(&cause.message)).map(|cause| cause.field.clone()).collect();
    if fields.is_empty() { vec!["a field".to_owned()] } else { fields }
}

/// Why an object is never deleted to be made anew; none where it may be.
pub(super) fn too_precious(object: &Object) -> Option<&'static str> {
    match (object.stage(), object.kind()) {
        (Stage::Namespace, _) => Some("everything in it would go with it"),
        (Stage::Definitions, _) => Some("all objects of its kind would go with it"),
        (Stage::Custom, _) => Some("its controller would remove everything that belongs to it"),
        (_, "PersistentVolumeClaim" | "PersistentVolume") => Some("the data in it would go with it"),
        _ => None,
    }
}

/// Refuses a plan that recreates objects without having been told to.
///
/// # Errors
/// With the objects, the fields, and what that ends.
pub(super) fn refuse(steps: &[Step]) -> Result<(), Error> {
    let recreated: Vec<error::Recreation> = steps
        .iter()
        .filter_map(|step| match &step.change {
            Change::Recreated(fields) => Some(error::Recreation {
                object: title(&step.object),
                fields: fields.iter().map(|field| field.field.clone()).collect(),
                ends: ends(&step.object),
            }),
            _ => None,
        })
        .collect();
    if recreated.is_empty() { Ok(()) } else { Err(Error::Recreate(error::Recreations(recreated))) }
}

/// What making an object anew ends.
fn ends(object: &Object) -> &'static str {
    match object.kind() {
        "StatefulSet" => "its pods keep running, and are replaced one by one",
        "Job" => "its pods end, and it runs again",
        _ if object.stage() == Stage::Workloads => "its pods end, and others are made",
        _ => "it is away for a moment",
    }
}

/// Deletes the object of this UID, and waits until it is gone. The pods of a StatefulSet stay, and belong to the next one.
pub(super) async fn delete(cluster: &Cluster, object: &Object, uid: &str, until: Instant) -> Result<(), Error> {
    let failed = |error| Error::from(cluster.failed(format!("deleting {}", title(object)), error));
    let policy = match object.kind() {
        "StatefulSet" => PropagationPolicy::Orphan,
        _ if object.stage() == Stage::Workloads => PropagationPolicy::Foreground,
        _ => PropagationPolicy::Background,
    };
    let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let parameters = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default().preconditions(only) };
    match api(cluster, object).delete(object.name(), &parameters).await {
        Ok(_) => {}
        Err(error) if is_absent(&error) => {}
        // Another one is there already.
        Err(kube::Error::Api(status)) if status.is_conflict() => {}
        Err(error) => return Err(failed(error)),
    }
    loop {
        let found = api(cluster, object).get_opt(object.name()).await.map_err(failed)?;
        let Some(found) = found.filter(|found| found.metadata.uid.as_deref() == Some(uid)) else { return Ok(()) };
        if Instant::now() >= until {
            let finalizers = found.metadata.finalizers.unwrap_or_default().join(", ");
            return Err(Error::StillThere { object: title(object), finalizers });
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;
    use vcmanifests::Object;

    use super::{immutable_fields, too_precious};

    #[test]
    fn what_can_never_be_changed_is_named() {
        let refused = |field: &str, why: &str| -> Vec<String> {
            let status: Status = serde_json::from_value(json!({
                "status": "Failure", "code": 422, "reason": "Invalid", "message": format!("x is invalid: {field}: {why}"),
                "details": { "causes": [{ "reason": "FieldValueInvalid", "field": field, "message": why }] },
            }))
            .unwrap();
            immutable_fields(&status)
        };
        assert_eq!(refused("spec.selector", "Invalid value: {\"app\":\"x\"}: field is immutable"), ["spec.selector"]);
        assert_eq!(refused("roleRef", "Invalid value: {}: cannot change roleRef"), ["roleRef"]);
        assert_eq!(
            refused("spec.clusterIPs[0]", "Invalid value: [\"10.0.0.2\"]: may not change once set"),
            ["spec.clusterIPs[0]"]
        );
        assert_eq!(
            refused("spec", "Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden"),
            ["spec"]
        );
        assert!(refused("spec.replicas", "must be at least 0").is_empty());
    }

    #[test]
    fn what_holds_others_is_never_deleted() {
        let of = |api_version: &str, kind: &str| {
            let object = json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": "x" } });
            let known = Object::from_value(&object).unwrap();
            too_precious(&known.unwrap_or_else(|| Object::other(object, "things"))).is_some()
        };
        assert!(of("db.example.com/v1", "Database"));
        assert!(of("v1", "Namespace"));
        assert!(!of("v1", "ServiceAccount"));
    }
}
