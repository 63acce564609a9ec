//! A Deployment is ready when its controller has seen it as it is, and as many replicas as it asks for are up to date
//! and available, with no old one left.

use k8s_openapi::api::apps::v1::Deployment;

use super::{Readiness, seen};

/// The rule for Deployments.
#[must_use]
pub fn deployment(deployment: &Deployment) -> Readiness {
    let status = deployment.status.clone().unwrap_or_default();
    if !seen(deployment.metadata.generation, status.observed_generation) {
        return Readiness::Waiting("its controller has not seen it yet".to_owned());
    }
    let stalled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "Progressing" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    });
    if let Some(stalled) = stalled {
        return Readiness::Failed(stalled.message.clone().unwrap_or_else(|| "it makes no progress".to_owned()));
    }
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let (all, updated, available) =
        (status.replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    if updated < wanted {
        Readiness::Waiting(format!("{updated} of {wanted} replicas are up to date"))
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

    use super::{Readiness, deployment};

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
    fn a_deployment_that_its_controller_gave_up_is_not_waited_for() {
        let conditions = json!([{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
            "message": "ReplicaSet \"x\" has timed out progressing." }]);
        assert_eq!(
            with(1, &json!({ "observedGeneration": 1, "conditions": conditions })),
            Readiness::Failed("ReplicaSet \"x\" has timed out progressing.".to_owned())
        );
    }
}
