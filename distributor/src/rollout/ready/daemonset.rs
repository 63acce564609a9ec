//! A DaemonSet is ready when its controller has seen it as it is, and every node that it wants has an up-to-date pod
//! that is available.

use k8s_openapi::api::apps::v1::DaemonSet;

use super::{Readiness, seen};

/// The rule for DaemonSets. None wanted is ready: that it should be wanted somewhere is verification's question.
#[must_use]
pub fn daemonset(daemonset: &DaemonSet) -> Readiness {
    let status = daemonset.status.clone().unwrap_or_default();
    if !seen(daemonset.metadata.generation, status.observed_generation) {
        return Readiness::Waiting("its controller has not seen it yet".to_owned());
    }
    let wanted = status.desired_number_scheduled;
    let updated = status.updated_number_scheduled.unwrap_or(0);
    let available = status.number_available.unwrap_or(0);
    if updated < wanted {
        Readiness::Waiting(format!("{updated} of {wanted} nodes have an up-to-date pod"))
    } else if available < wanted {
        Readiness::Waiting(format!("{available} of {wanted} pods are available"))
    } else {
        Readiness::Ready(format!("{available}/{wanted}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Readiness, daemonset};

    fn with(status: &Value) -> Readiness {
        let mut status = status.clone();
        for required in ["currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"] {
            if status.get(required).is_none() {
                status[required] = json!(0);
            }
        }
        let object =
            json!({ "metadata": { "generation": 1 }, "spec": { "selector": {}, "template": {} }, "status": status });
        daemonset(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn it_is_ready_when_every_wanted_node_has_a_new_available_pod() {
        let waits = |status: &Value, text: &str| assert_eq!(with(status), Readiness::Waiting(text.to_owned()));
        waits(&json!({ "desiredNumberScheduled": 2 }), "its controller has not seen it yet");
        waits(
            &json!({ "observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 1, "numberAvailable": 2 }),
            "1 of 2 nodes have an up-to-date pod",
        );
        waits(
            &json!({ "observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 1 }),
            "1 of 2 pods are available",
        );
        assert_eq!(
            with(
                &json!({ "observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2 })
            ),
            Readiness::Ready("2/2".to_owned())
        );
        assert_eq!(with(&json!({ "observedGeneration": 1 })), Readiness::Ready("0/0".to_owned()));
    }
}
