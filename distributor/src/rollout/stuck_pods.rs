//! Pods of an earlier attempt that wait for the kubelet's next try: deleted, so that the try comes now.
//! The kubelet waits up to five minutes between tries. Whoever sends a missing image and deploys again should not.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use serde_json::Value;
use vcmanifests::Object;

use super::plan::title;
use super::{Error, pods};
use crate::cluster::Cluster;

/// Deletes the workload's pods that will not get ready as they are; its controller makes others.
/// Returns what they were stuck in.
pub(super) async fn delete_stuck_pods(cluster: &Cluster, object: &Object) -> Result<Vec<String>, Error> {
    // A Job counts the pods that fail: one that is deleted is none that failed.
    if object.kind() == "Job" {
        return Ok(Vec::new());
    }
    let (Some(namespace), Some(selector)) = (object.namespace(), selector(object)) else { return Ok(Vec::new()) };
    let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let found = api.list(&ListParams::default().labels(&selector)).await;
    let found = found.map_err(|error| cluster.failed(format!("listing the pods of {}", title(object)), error))?;
    let mut restarted = Vec::new();
    for pod in found.items.iter().filter(|pod| pods::is_current(pod)) {
        let Some(why) = pods::hopeless(pod) else { continue };
        // Only this very pod: one of the same name that came after it is none of ours to judge.
        let only = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let deleted = api.delete(pods::name(pod), &DeleteParams::default().preconditions(only)).await;
        match deleted {
            Ok(_) => restarted.push(why),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
            Err(error) => {
                return Err(cluster.failed(format!("restarting pod/{}", pods::name(pod)), error).into());
            }
        }
    }
    Ok(restarted)
}

/// The label selector of a workload's pods; none for what has no pods.
pub(super) fn selector(object: &Object) -> Option<String> {
    let object = serde_json::to_value(object).ok()?;
    let spec = object.get("spec").filter(|spec| spec["template"].is_object())?;
    if object["kind"] == "Job" {
        return Some(format!("job-name={}", object["metadata"]["name"].as_str()?));
    }
    let labels = spec["selector"]["matchLabels"].as_object().into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let expressions = spec["selector"]["matchExpressions"].as_array().into_iter().flatten();
    let terms: Vec<String> = labels.chain(expressions.filter_map(expression)).collect();
    (!terms.is_empty()).then(|| terms.join(","))
}

/// An expression of a label selector, as requests have it.
fn expression(expression: &Value) -> Option<String> {
    let key = expression["key"].as_str()?;
    let values: Vec<&str> = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let values = values.join(",");
    match expression["operator"].as_str()? {
        "In" => Some(format!("{key} in ({values})")),
        "NotIn" => Some(format!("{key} notin ({values})")),
        "Exists" => Some(key.to_owned()),
        "DoesNotExist" => Some(format!("!{key}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vcmanifests::{Images, Parameters};

    use super::{expression, selector};

    #[test]
    fn workloads_are_asked_for_their_pods_and_nothing_else_is() {
        let image = |name: &str| format!("docker.io/a/{name}@sha256:{}", "0".repeat(64)).parse().unwrap();
        let images = Images { manager: image("manager"), syncer: image("syncer"), vn_agent: image("vn-agent") };
        let selectors: Vec<_> = vcmanifests::objects(&Parameters::new(images)).iter().filter_map(selector).collect();
        assert_eq!(selectors, ["app=vc-manager", "app=vc-syncer", "app=vn-agent"]);
    }

    #[test]
    fn expressions_are_written_as_requests_have_them() {
        let of = |operator: &str| expression(&json!({ "key": "a/b", "operator": operator, "values": ["x", "y"] }));
        let text = |operator| of(operator).unwrap_or_default();
        assert_eq!([text("In"), text("NotIn")], ["a/b in (x,y)", "a/b notin (x,y)"]);
        assert_eq!([text("Exists"), text("DoesNotExist"), text("?")], ["a/b", "!a/b", ""]);
    }
}
