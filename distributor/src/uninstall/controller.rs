//! Whether vc-manager runs, which takes VirtualClusters and ClusterVersions apart and answers for the webhooks.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use vcmanifests::Component;

use super::Error;
use crate::cluster::{Cluster, is_absent as is_not_there};

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    /// It runs.
    Runs,
    /// It should run and does not, or not yet.
    Unavailable,
    /// Nothing would have it run.
    Absent,
}

/// Asks for it.
pub(super) async fn ask(cluster: &Cluster, namespace: &str) -> Result<Controller, Error> {
    let name = Component::Manager.workload();
    let api: Api<Deployment> = Api::namespaced(cluster.client(), namespace);
    match api.get(name).await {
        Ok(found) => Ok(judge(&found)),
        Err(error) if is_not_there(&error) => Ok(Controller::Absent),
        Err(error) => Err(cluster.failed(format!("reading deployment/{name}"), error).into()),
    }
}

/// Whether nothing would have it run.
pub(super) async fn is_absent(cluster: &Cluster, namespace: &str) -> Result<bool, Error> {
    Ok(ask(cluster, namespace).await? == Controller::Absent)
}

fn judge(deployment: &Deployment) -> Controller {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let available = deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
    match (wanted, available) {
        _ if deployment.metadata.deletion_timestamp.is_some() => Controller::Absent,
        (0, _) => Controller::Absent,
        (_, 0) => Controller::Unavailable,
        _ => Controller::Runs,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Controller, judge};

    #[test]
    fn a_controller_that_is_scaled_to_nothing_is_not_waited_for() {
        let with = |metadata: Value, replicas: i32, available: i32| {
            let deployment = json!({ "metadata": metadata, "spec": { "replicas": replicas, "selector": {}, "template": {} },
                "status": { "availableReplicas": available } });
            judge(&serde_json::from_value(deployment).unwrap())
        };
        assert_eq!(with(json!({}), 1, 1), Controller::Runs);
        assert_eq!(with(json!({}), 1, 0), Controller::Unavailable);
        assert_eq!(with(json!({}), 0, 0), Controller::Absent);
        assert_eq!(with(json!({ "deletionTimestamp": "2024-01-01T00:00:00Z" }), 1, 1), Controller::Absent);
    }
}
