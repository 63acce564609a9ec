//! Controllers that could not make pods and wait for their own next try, which may be a quarter of an hour away: woken. Whoever has
//! mended what forbade the pods and deploys again should not wait for that.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet};
use kube::Resource;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vcmanifests::Object;

use super::plan::title;
use super::stuck_pods::selector;
use super::{Error, FIELD_MANAGER};
use crate::cluster::Cluster;

/// The annotation by which an object is changed for a moment: a change is what a controller looks at without delay.
const ANNOTATION: &str = "vcdist.virtualcluster.io/try-again";

/// Wakes the controller of a workload that lacks pods which it should have made. Whether it did.
pub(super) async fn requeue(cluster: &Cluster, object: &Object) -> Result<bool, Error> {
    let (Some(namespace), Some(selector)) = (object.namespace(), selector(object)) else { return Ok(false) };
    let client = cluster.client();
    let failed = |error| Error::from(cluster.failed(format!("waking the controller of {}", title(object)), error));
    match object {
        Object::DaemonSet(_) => {
            let api: Api<DaemonSet> = Api::namespaced(client, namespace);
            let found = api.get_opt(object.name()).await.map_err(failed)?;
            if !found.as_ref().is_some_and(lacks_pods) {
                return Ok(false);
            }
            touch(&api, object.name()).await.map_err(failed)?;
            Ok(true)
        }
        Object::Deployment(_) => {
            let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
            if !api.get_opt(object.name()).await.map_err(failed)?.as_ref().is_some_and(cannot_make_pods) {
                return Ok(false);
            }
            let sets: Api<ReplicaSet> = Api::namespaced(client, namespace);
            let mut is_requeued = false;
            for set in sets.list(&ListParams::default().labels(&selector)).await.map_err(failed)?.items {
                if is_short(&set) {
                    touch(&sets, set.metadata.name.as_deref().unwrap_or_default()).await.map_err(failed)?;
                    is_requeued = true;
                }
            }
            Ok(is_requeued)
        }
        _ => Ok(false),
    }
}

/// Changes an object and takes the change back.
async fn touch<K: Resource + Clone + DeserializeOwned + std::fmt::Debug>(
    api: &Api<K>,
    name: &str,
) -> Result<(), kube::Error> {
    let parameters = PatchParams { field_manager: Some(format!("{FIELD_MANAGER}-wake")), ..PatchParams::default() };
    for value in [json!("now"), Value::Null] {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { ANNOTATION: value } } }));
        match api.patch(name, &parameters, &patch).await {
            Ok(_) => {}
            // It has gone meanwhile.
            Err(error) if crate::cluster::is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a DaemonSet's controller has seen it as it is, and some nodes lack its pod.
fn lacks_pods(daemonset: &DaemonSet) -> bool {
    daemonset.status.as_ref().is_some_and(|status| {
        status.observed_generation >= daemonset.metadata.generation
            && status.current_number_scheduled < status.desired_number_scheduled
    })
}

fn cannot_make_pods(deployment: &Deployment) -> bool {
    let mut conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")
}

fn is_short(set: &ReplicaSet) -> bool {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    set.status.as_ref().is_none_or(|status| status.replicas < wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{cannot_make_pods, is_short, lacks_pods};

    #[test]
    fn only_what_lacks_pods_that_its_controller_has_to_make_is_woken() {
        let daemonset = |observed: i64, scheduled: i32| {
            lacks_pods(
                &serde_json::from_value(json!({ "metadata": { "generation": 2 }, "status": { "observedGeneration": observed,
                    "currentNumberScheduled": scheduled, "desiredNumberScheduled": 2, "numberMisscheduled": 0, "numberReady": 0 } }))
                .unwrap(),
            )
        };
        assert_eq!([daemonset(2, 1), daemonset(2, 2), daemonset(1, 1)], [true, false, false]);
        let deployment = |status: &str| {
            let condition = json!({ "type": "ReplicaFailure", "status": status });
            let object = json!({ "metadata": {}, "spec": { "selector": {}, "template": {} }, "status": { "conditions": [condition] } });
            cannot_make_pods(&serde_json::from_value(object).unwrap())
        };
        assert_eq!([deployment("True"), deployment("False")], [true, false]);
        let set = |wanted: i32, there: i32| {
            let set = json!({ "metadata": {}, "spec": { "replicas": wanted, "selector": {} }, "status": { "replicas": there } });
            is_short(&serde_json::from_value(set).unwrap())
        };
        assert_eq!([set(1, 0), set(1, 1), set(0, 0)], [true, false, false]);
    }
}
