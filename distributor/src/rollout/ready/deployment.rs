//! A Deployment is ready when its controller has seen it as it is, and as many replicas as it asks for are up to date
//! and available, with no old one left.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::Timestamp;

use super::{Readiness, seen, within};

/// What the API server says of a pod that a namespace's level of Pod Security forbids.
pub(crate) const POD_SECURITY: &str = "violates PodSecurity";

/// The rule for Deployments.
#[must_use]
pub fn deployment(deployment: &Deployment) -> Readiness {
    deployment_since(deployment, None)
}

/// The rule for Deployments during a rollout that began at `begun`: that an earlier one made no progress does not count.
#[must_use]
pub fn deployment_since(deployment: &Deployment, begun: Option<Timestamp>) -> Readiness {
    let status = deployment.status.clone().unwrap_or_default();
    if !seen(deployment.metadata.generation, status.observed_generation) {
        return Readiness::Waiting("its controller has not seen it yet".to_owned());
    }
    let spec = deployment.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let (all, updated, available) =
        (status.replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    if spec.and_then(|spec| spec.paused) == Some(true) && (updated < wanted || all > updated) {
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        let within = within(&deployment.metadata);
        return Readiness::Stopped(format!(
            "it is paused, and its pods stay as they were until `kubectl rollout resume deployment/{name}{within}`"
        ));
    }
    // Pods that cannot be made: a quota may have room again when old ones are gone, a level of Pod Security stays.
    let cannot = status.conditions.iter().flatten().find(|it| it.type_ == "ReplicaFailure" && it.status == "True");
    let cannot = cannot.and_then(|condition| condition.message.as_deref());
    if let Some(message) = cannot.filter(|message| message.contains(POD_SECURITY)) {
        return Readiness::Failed(message.to_owned());
    }
    let stalled = status.conditions.iter().flatten().find(|condition| {
        let is_older = begun
            .zip(condition.last_update_time.as_ref())
            .is_some_and(|(begun, updated)| updated.0.as_second() < begun.as_second());
        condition.type_ == "Progressing" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded") && !is_older
    });
    if let Some(stalled) = stalled {
        return Readiness::Failed(stalled.message.clone().unwrap_or_else(|| "it makes no progress".to_owned()));
    }
    if updated < wanted {
        let why = cannot.map(|message| format!(": {message}")).unwrap_or_default();
        Readiness::Waiting(format!("{updated} of {wanted} replicas are up to date{why}"))
    } else if all > updated {
        Readiness::Waiting(format!("{} old replicas are still there", all - updated))
    } else if available < updated {
        Readiness::Waiting(format!("{available} of {wanted} replicas are available"))
    } else {
        Readiness::Ready(format!("{available}/{wanted}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Readiness, deployment, deployment_since};

    fn with(generation: i64, status: &Value) -> Readiness {
        let object = json!({
            "metadata": { "generation": generation },
            "spec": { "replicas": 2, "selector": {}, "template": {} },
            "status": status,
        });
        deployment(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn it_is_ready_when_all_replicas_are_new_and_available() {
        let waits = |status: &Value, text: &str| assert_eq!(with(2, status), Readiness::Waiting(text.to_owned()));
        waits(&json!({}), "its controller has not seen it yet");
        waits(
            &json!({ "observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 }),
            "its controller has not seen it yet",
        );
        waits(
            &json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 1 }),
            "1 of 2 replicas are up to date",
        );
        waits(
            &json!({ "observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3 }),
            "1 old replicas are still there",
        );
        waits(
            &json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1 }),
            "1 of 2 replicas are available",
        );
        assert_eq!(
            with(2, &json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 })),
            Readiness::Ready("2/2".to_owned())
        );
    }

    #[test]
    fn a_paused_deployment_is_not_waited_for_unless_its_pods_are_new_already() {
        let paused = |status: &Value| {
            let object = json!({ "metadata": { "name": "vc-manager", "namespace": "vc", "generation": 1 },
                "spec": { "replicas": 1, "paused": true, "selector": {}, "template": {} }, "status": status });
            deployment(&serde_json::from_value(object).unwrap())
        };
        let stalled = json!([{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded" }]);
        let old = json!({ "observedGeneration": 1, "replicas": 1, "conditions": stalled });
        assert_eq!(
            paused(&old),
            Readiness::Stopped(
                "it is paused, and its pods stay as they were until `kubectl rollout resume deployment/vc-manager --namespace vc`"
                    .to_owned()
            )
        );
        assert!(
            paused(&json!({ "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 }))
                .is_ready()
        );
        let starting = paused(&json!({ "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1 }));
        assert!(matches!(starting, Readiness::Waiting(_)));
    }

    #[test]
    fn pods_that_may_not_be_made_are_said_and_what_no_time_changes_is_not_waited_for() {
        let with_failure = |message: &str| {
            let conditions =
                json!([{ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message }]);
            with(1, &json!({ "observedGeneration": 1, "conditions": conditions }))
        };
        let quota = "pods \"x\" is forbidden: exceeded quota: small";
        assert_eq!(with_failure(quota), Readiness::Waiting(format!("0 of 2 replicas are up to date: {quota}")));
        let security = "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces";
        assert_eq!(with_failure(security), Readiness::Failed(security.to_owned()));
    }

    #[test]
    fn a_deployment_that_its_controller_gave_up_is_not_waited_for() {
        let conditions = json!([{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
            "message": "ReplicaSet \"x\" has timed out progressing." }]);
        assert_eq!(
            with(1, &json!({ "observedGeneration": 1, "conditions": conditions })),
            Readiness::Failed("ReplicaSet \"x\" has timed out progressing.".to_owned())
        );
    }

    #[test]
    fn that_an_earlier_rollout_made_no_progress_does_not_fail_this_one() {
        let conditions = json!([{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
            "message": "too slow", "lastUpdateTime": "2024-01-01T00:05:00Z" }]);
        let object = json!({ "metadata": { "generation": 1 }, "spec": { "selector": {}, "template": {} },
            "status": { "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "conditions": conditions } });
        let found = serde_json::from_value(object).unwrap();
        let at = |begun: &str| deployment_since(&found, begun.parse().ok());
        assert_eq!(deployment(&found), Readiness::Failed("too slow".to_owned()));
        assert_eq!(at("2024-01-01T00:05:00.7Z"), Readiness::Failed("too slow".to_owned()), "conditions have seconds");
        assert!(matches!(at("2024-01-01T00:06:00Z"), Readiness::Waiting(_)));
    }

    #[test]
    fn one_that_recreates_its_pods_waits_while_none_is_there() {
        let with = |status: &Value| {
            let object = json!({ "metadata": { "generation": 2 }, "status": status,
                "spec": { "replicas": 1, "strategy": { "type": "Recreate" }, "selector": {}, "template": {} } });
            deployment(&serde_json::from_value(object).unwrap())
        };
        assert!(matches!(
            with(&json!({ "observedGeneration": 2, "replicas": 1, "availableReplicas": 1 })),
            Readiness::Waiting(_)
        ));
        assert!(matches!(with(&json!({ "observedGeneration": 2 })), Readiness::Waiting(_)), "the old ones are gone");
        assert!(
            with(&json!({ "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 }))
                .is_ready()
        );
    }
}
