//! A DaemonSet is ready when its controller has seen it as it is, and every node that it wants has an up-to-date pod
//! that is available.

use k8s_openapi::api::apps::v1::DaemonSet;

use super::{Readiness, seen, within};

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
    let by_hand =
        daemonset.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()?.type_.as_deref()) == Some("OnDelete");
    if by_hand && updated < wanted && status.current_number_scheduled >= wanted {
        let within = within(&daemonset.metadata);
        Readiness::Held(format!(
            "it is OnDelete, and {} of {wanted} pods stay as they were until somebody deletes them (`kubectl delete pod{within} \
             NAME`)",
            wanted - updated
        ))
    } else if updated < wanted {
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
    fn one_whose_pods_are_replaced_by_hand_says_that_it_waits_for_a_hand() {
        let of = |strategy: &str, scheduled: i32| {
            let object = json!({ "metadata": { "generation": 1, "namespace": "vc" },
                "spec": { "selector": {}, "template": {}, "updateStrategy": { "type": strategy } },
                "status": { "observedGeneration": 1, "currentNumberScheduled": scheduled, "desiredNumberScheduled": 2,
                    "numberMisscheduled": 0, "numberReady": 2, "updatedNumberScheduled": 1, "numberAvailable": 2 } });
            daemonset(&serde_json::from_value(object).unwrap())
        };
        let held = "it is OnDelete, and 1 of 2 pods stay as they were until somebody deletes them (`kubectl delete pod \
                    --namespace vc NAME`)";
        assert_eq!(of("OnDelete", 2), Readiness::Held(held.to_owned()));
        assert!(matches!(of("OnDelete", 1), Readiness::Waiting(_)), "its controller is to make the other one");
        assert!(matches!(of("RollingUpdate", 2), Readiness::Waiting(_)));
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
