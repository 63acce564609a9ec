//! Why something is not ready, as the cluster tells it: pods, their last words, recent Warning events.
//! Gathered only when a wait has failed, and bounded: evidence must not take longer than the reader's patience.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, LogParams};
use tokio::time::timeout;
use vcmanifests::Object;

use super::error::{Error, Evidence, Outcome};
use super::plan::title;
use super::ready::Readiness;
use super::unstick::selector;
use super::wait::Awaited;
use super::{events, pods};
use crate::cluster::Cluster;

/// Log lines shown of each container that fails.
const LOG_LINES: i64 = 8;
/// Log bytes read of each container that fails: a line may be long.
const LOG_BYTES: i64 = 8192;
/// Warning events shown in all.
const EVENTS: usize = 6;
/// How old a Warning event may be to be shown.
const RECENT: Duration = Duration::from_secs(600);
/// How long one question may take: a log comes from a kubelet that may itself be the trouble.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a pod of something that is not ready will not get ready.
pub(super) async fn any_hopeless(cluster: &Cluster, unready: &[(&Awaited<'_>, Readiness)]) -> Result<bool, Error> {
    for (awaited, _) in unready {
        let found = pods_of(cluster, awaited)
            .await
            .map_err(|error| cluster.failed(format!("listing the pods of {}", title(awaited.object)), error))?;
        if found.iter().any(|pod| pods::hopeless(pod).is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The error that says what is not ready and why.
pub(super) async fn not_ready(cluster: &Cluster, unready: &[(&Awaited<'_>, Readiness)], outcome: Outcome) -> Error {
    let mut lines = Vec::new();
    for (awaited, state) in unready {
        let (Readiness::Ready(text) | Readiness::Waiting(text) | Readiness::Failed(text)) = state;
        lines.push(format!("{}: {text}", title(awaited.object)));
        match pods_of(cluster, awaited).await {
            Ok(found) => {
                let unready: Vec<&Pod> = found.iter().filter(|pod| !pods::is_ready(pod)).collect();
                lines.extend(join_all(unready.iter().map(|pod| about_pod(cluster, pod))).await.concat());
            }
            Err(error) => lines.push(format!("  its pods cannot be listed: {error}")),
        }
    }
    let namespace = unready.iter().find_map(|(awaited, _)| awaited.object.namespace());
    if let Some(namespace) = namespace {
        lines.extend(
            warnings(cluster, namespace, &unready.iter().map(|(awaited, _)| awaited.object).collect::<Vec<_>>()).await,
        );
    }
    let objects = unready.iter().map(|(awaited, _)| title(awaited.object)).collect();
    Error::NotReady { objects, outcome, help: advice(&lines).to_owned(), source: Evidence(lines) }
}

/// The pods that the change in question made; all of the workload's where nothing changed.
async fn pods_of(cluster: &Cluster, awaited: &Awaited<'_>) -> Result<Vec<Pod>, kube::Error> {
    let (Some(namespace), Some(selector)) = (awaited.object.namespace(), selector(awaited.object)) else {
        return Ok(Vec::new());
    };
    let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let listed = timeout(PATIENCE, api.list(&ListParams::default().labels(&selector))).await;
    let Ok(listed) = listed else { return Ok(Vec::new()) };
    let young = |pod: &Pod| match (&awaited.since, &pod.metadata.creation_timestamp) {
        (Some(since), Some(created)) => created >= since,
        _ => true,
    };
    Ok(listed?.items.into_iter().filter(|pod| pods::is_current(pod) && young(pod)).collect())
}

async fn about_pod(cluster: &Cluster, pod: &Pod) -> Vec<String> {
    let mut lines = vec![format!("  {}", pods::describe(pod))];
    let Some((container, previous)) = pods::talkative(pod) else { return lines };
    let api: Api<Pod> = Api::namespaced(cluster.client(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let parameters = LogParams {
        container: Some(container.to_owned()),
        previous,
        tail_lines: Some(LOG_LINES),
        limit_bytes: Some(LOG_BYTES),
        ..LogParams::default()
    };
    match timeout(PATIENCE, api.logs(pods::name(pod), &parameters)).await {
        Ok(Ok(log)) => lines.extend(log.lines().map(|line| format!("    | {}", line.trim_end()))),
        Ok(Err(error)) => lines.push(format!("    its log cannot be read: {}", words(&error))),
        Err(_) => lines.push("    its log cannot be read: its node does not answer".to_owned()),
    }
    lines
}

async fn warnings(cluster: &Cluster, namespace: &str, objects: &[&Object]) -> Vec<String> {
    let api: Api<Event> = Api::namespaced(cluster.client(), namespace);
    let listed = timeout(PATIENCE, api.list(&ListParams::default().fields("type=Warning"))).await;
    match listed {
        Ok(Ok(found)) => recent_warnings(found.items, objects, Timestamp::now()),
        Ok(Err(error)) => vec![format!("events cannot be listed: {}", words(&error))],
        Err(_) => Vec::new(),
    }
}

/// The latest Warning events about the objects, their ReplicaSets and their pods, which share their names' beginning.
fn recent_warnings(found: Vec<Event>, objects: &[&Object], now: Timestamp) -> Vec<String> {
    let ours = |event: &Event| {
        if matches!(event.reason.as_deref(), Some("Failed" | "BackOff")) {
            return false; // The pod's own line says the same.
        }
        let name = event.involved_object.name.as_deref().unwrap_or_default();
        objects
            .iter()
            .any(|object| name.strip_prefix(object.name()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
    };
    let mut recent: Vec<(Timestamp, Event)> = found
        .into_iter()
        .filter(ours)
        .filter_map(|event| Some((events::last_seen(&event)?, event)))
        .filter(|(seen, _)| now.duration_since(*seen).unsigned_abs() <= RECENT)
        .collect();
    recent.sort_by_key(|(seen, _)| *seen);
    let surplus = recent.len().saturating_sub(EVENTS);
    recent.iter().skip(surplus).map(|(_, event)| events::describe(event)).collect()
}

fn advice(lines: &[String]) -> &'static str {
    let any = |words: &[&str]| lines.iter().any(|line| words.iter().any(|word| line.contains(word)));
    if any(&pods::NO_IMAGE) {
        "an image is not on its node: send the images with `vcdist push`, then deploy again"
    } else if any(&["CrashLoopBackOff"]) {
        "the objects stay applied; the program's own words are above: mend the cause, then deploy again"
    } else if any(&["Unschedulable", "0 of 0"]) {
        "the objects stay applied; give the pods a worker that they fit on (room, free ports, tolerated taints)"
    } else {
        "the objects stay applied: see `vcdist verify`, or give it more time with --timeout"
    }
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Event;
    use serde_json::json;
    use vcmanifests::{Images, Object, Parameters};

    use super::{advice, recent_warnings};

    fn objects() -> Vec<Object> {
        let image = |name: &str| format!("docker.io/a/{name}@sha256:{}", "0".repeat(64)).parse().unwrap();
        vcmanifests::objects(&Parameters::new(Images {
            manager: image("manager"),
            syncer: image("syncer"),
            vn_agent: image("vn-agent"),
        }))
    }

    #[test]
    fn only_recent_events_about_the_objects_are_evidence() {
        let event = |reason: &str, name: &str, seen: &str| -> Event {
            serde_json::from_value(json!({ "metadata": {}, "involvedObject": { "kind": "Pod", "name": name },
                "reason": reason, "message": name, "lastTimestamp": seen }))
            .unwrap()
        };
        let objects = objects();
        let manager: Vec<&Object> =
            objects.iter().filter(|o| o.kind() == "Deployment" && o.name() == "vc-manager").collect();
        let events = vec![
            event("FailedMount", "vc-manager-1-b", "2024-01-01T00:09:00Z"),
            event("FailedMount", "vc-managerial", "2024-01-01T00:09:00Z"),
            event("FailedMount", "vc-syncer-1-a", "2024-01-01T00:09:00Z"),
            event("FailedMount", "vc-manager-0-a", "2024-01-01T00:00:00Z"),
            event("FailedMount", "vc-manager", "2024-01-01T00:08:00Z"),
            event("BackOff", "vc-manager-1-b", "2024-01-01T00:10:00Z"),
        ];
        let now = "2024-01-01T00:10:30Z".parse().unwrap();
        assert_eq!(
            recent_warnings(events, &manager, now),
            ["FailedMount of pod/vc-manager: vc-manager", "FailedMount of pod/vc-manager-1-b: vc-manager-1-b"]
        );
    }

    #[test]
    fn a_missing_image_asks_for_a_push() {
        let lines = ["  p on w1: ErrImageNeverPull: not present".to_owned()];
        assert!(advice(&lines).contains("vcdist push"));
        assert!(advice(&["  p on w1: CrashLoopBackOff: back-off".to_owned()]).contains("own words"));
        assert!(advice(&["  p on no node: Unschedulable: 0/2".to_owned()]).contains("tolerated taints"));
        assert!(advice(&[]).contains("--timeout"));
    }
}
