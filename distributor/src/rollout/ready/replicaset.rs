//! A ReplicaSet is ready when its controller has seen it as it is, and all its replicas are available.

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::{Readiness, seen};

/// The rule for ReplicaSets.
#[must_use]
pub fn replicaset(set: &ReplicaSet) -> Readiness {
    let status = set.status.clone().unwrap_or_default();
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let available = status.available_replicas.unwrap_or(0);
    let failure = status.conditions.iter().flatten().find(|it| it.type_ == "ReplicaFailure" && it.status == "True");
    if !seen(set.metadata.generation, status.observed_generation) {
        Readiness::Waiting("its controller has not seen it yet".to_owned())
    } else if available < wanted {
        let why = failure.and_then(|it| it.message.as_ref()).map(|message| format!(": {message}")).unwrap_or_default();
        Readiness::Waiting(format!("{available} of {wanted} replicas are available{why}"))
    } else if status.replicas > wanted {
        Readiness::Waiting(format!("{} surplus replicas are still there", status.replicas - wanted))
    } else {
        Readiness::Ready(format!("{available}/{wanted}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Readiness, replicaset};

    #[test]
    fn all_replicas_are_to_be_available() {
        let with = |status: Value| {
            let object =
                json!({ "metadata": { "generation": 1 }, "spec": { "replicas": 2, "selector": {} }, "status": status });
            replicaset(&serde_json::from_value(object).unwrap())
        };
        assert!(matches!(with(json!({ "replicas": 2, "availableReplicas": 2 })), Readiness::Waiting(_)), "not seen");
        let failure = json!([{ "type": "ReplicaFailure", "status": "True", "message": "exceeded quota" }]);
        assert_eq!(
            with(json!({ "observedGeneration": 1, "replicas": 1, "availableReplicas": 1, "conditions": failure })),
            Readiness::Waiting("1 of 2 replicas are available: exceeded quota".to_owned())
        );
        assert!(!with(json!({ "observedGeneration": 1, "replicas": 3, "availableReplicas": 3 })).is_ready());
        assert!(with(json!({ "observedGeneration": 1, "replicas": 2, "availableReplicas": 2 })).is_ready());
    }
}
