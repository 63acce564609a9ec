//! A StatefulSet is ready when its controller has seen it as it is, and as many replicas as it asks for are available, those
//! above its partition up to date.

use k8s_openapi::api::apps::v1::StatefulSet;

use super::{Readiness, seen, within};

/// The rule for StatefulSets.
#[must_use]
pub fn statefulset(set: &StatefulSet) -> Readiness {
    let status = set.status.clone().unwrap_or_default();
    if !seen(set.metadata.generation, status.observed_generation) {
        return Readiness::Waiting("its controller has not seen it yet".to_owned());
    }
    let spec = set.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
    let partition = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition).unwrap_or(0).max(0);
    let is_updated = status.update_revision.is_none() || status.update_revision == status.current_revision;
    // Once a rollout is complete, the controller counts every replica as current, and none as updated.
    let updated = if is_updated { status.replicas } else { status.updated_replicas.unwrap_or(0) };
    let ready = status.ready_replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    if status.replicas > wanted {
        return Readiness::Waiting(format!("{} surplus replicas are still there", status.replicas - wanted));
    }
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        if updated < wanted && status.replicas >= wanted {
            return Readiness::Held(format!(
                "it is OnDelete, and {} of {wanted} pods stay as they were until somebody deletes them (`kubectl delete pod{} \
                 NAME`)",
                wanted - updated,
                within(&set.metadata)
            ));
        }
    } else if updated < wanted - partition.min(wanted) {
        return Readiness::Waiting(format!("{updated} of {} replicas are up to date", wanted - partition.min(wanted)));
    }
    if ready < wanted {
        Readiness::Waiting(format!("{ready} of {wanted} replicas are ready"))
    } else if available < wanted {
        Readiness::Waiting(format!("{available} of {wanted} replicas are available"))
    } else if updated < wanted {
        Readiness::Ready(format!("{available}/{wanted}, {updated} up to date above the partition {partition}"))
    } else {
        Readiness::Ready(format!("{available}/{wanted}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Readiness, statefulset};

    fn with(strategy: &Value, status: &Value) -> Readiness {
        let mut status = status.clone();
        status["observedGeneration"] = status.get("observedGeneration").cloned().unwrap_or(json!(2));
        let object = json!({ "metadata": { "generation": 2, "namespace": "n" }, "status": status,
            "spec": { "replicas": 3, "selector": {}, "serviceName": "s", "template": {}, "updateStrategy": strategy } });
        statefulset(&serde_json::from_value(object).unwrap())
    }

    fn counts(replicas: i32, updated: i32, ready: i32) -> Value {
        json!({ "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": ready,
            "currentRevision": "s-1", "updateRevision": "s-2" })
    }

    #[test]
    fn every_replica_is_to_be_new_and_available() {
        let rolling = json!({ "type": "RollingUpdate" });
        let waits =
            |status: &Value, text: &str| assert_eq!(with(&rolling, status), Readiness::Waiting(text.to_owned()));
        waits(&json!({ "observedGeneration": 1, "replicas": 3 }), "its controller has not seen it yet");
        waits(&counts(3, 1, 3), "1 of 3 replicas are up to date");
        waits(&counts(3, 3, 2), "2 of 3 replicas are ready");
        waits(&counts(4, 3, 3), "1 surplus replicas are still there");
        let mut slow = counts(3, 3, 3);
        slow["availableReplicas"] = json!(2);
        waits(&slow, "2 of 3 replicas are available");
        let mut complete = counts(3, 0, 3);
        complete["currentRevision"] = json!("s-2");
        assert_eq!(with(&rolling, &complete), Readiness::Ready("3/3".to_owned()));
    }

    #[test]
    fn replicas_below_the_partition_stay_as_they_were() {
        let partition = |at: i32| json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": at } });
        assert!(matches!(with(&partition(1), &counts(3, 1, 3)), Readiness::Waiting(_)));
        let text = "3/3, 2 up to date above the partition 1";
        assert_eq!(with(&partition(1), &counts(3, 2, 3)), Readiness::Ready(text.to_owned()));
        assert!(with(&partition(9), &counts(3, 0, 3)).is_ready());
    }

    #[test]
    fn replicas_that_people_replace_are_said() {
        let by_hand = json!({ "type": "OnDelete" });
        let held = with(&by_hand, &counts(3, 1, 3));
        assert!(matches!(&held, Readiness::Held(why) if why.contains("2 of 3 pods") && why.contains("--namespace n")));
        assert!(with(&by_hand, &counts(3, 3, 3)).is_ready());
        assert!(matches!(with(&by_hand, &counts(2, 2, 2)), Readiness::Waiting(_)));
    }
}
