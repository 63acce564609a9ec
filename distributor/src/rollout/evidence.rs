//! Why something is not ready, as the cluster reports it: pods, the last lines of their logs, recent Warning events.
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
use super::ready::{POD_SECURITY, Readiness};
use super::stuck_pods::selector;
use super::wait::WaitTarget;
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
pub(super) async fn any_hopeless(cluster: &Cluster, unready: &[(&WaitTarget<'_>, Readiness)]) -> Result<bool, Error> {
    for (targets, _) in unready {
        let found = pods_of(cluster, targets)
            .await
            .map_err(|error| cluster.failed(format!("listing the pods of {}", title(targets.object)), error))?;
        if found.iter().any(|pod| pods::hopeless(pod).is_some()) || is_forbidden(cluster, targets).await {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a DaemonSet's pods may not be made in its namespace. A Deployment's status reports it.
async fn is_forbidden(cluster: &Cluster, targets: &WaitTarget<'_>) -> bool {
    let (Object::DaemonSet(_), Some(namespace)) = (targets.object, targets.object.namespace()) else { return false };
    let api: Api<Event> = Api::namespaced(cluster.client(), namespace);
    let fields = format!("involvedObject.name={},reason=FailedCreate", targets.object.name());
    let Ok(Ok(found)) = timeout(PATIENCE, api.list(&ListParams::default().fields(&fields))).await else { return false };
    let forbids = |event: &Event| {
        let error_text = event.message.as_deref().unwrap_or_default();
        error_text.contains(POD_SECURITY) && is_since(event, targets.begun, Timestamp::now())
    };
    found.items.iter().any(forbids)
}

/// The error that says what is not ready and why.
pub(super) async fn not_ready(cluster: &Cluster, unready: &[(&WaitTarget<'_>, Readiness)], outcome: Outcome) -> Error {
    let mut lines = Vec::new();
    let mut all_pods = Vec::new();
    for (targets, state) in unready {
        lines.push(format!("{}: {}", title(targets.object), state.text()));
        match pods_of(cluster, targets).await {
            Ok(found) => {
                let unready: Vec<&Pod> = found.iter().filter(|pod| !pods::is_ready(pod)).collect();
                lines.extend(join_all(unready.iter().map(|pod| about_pod(cluster, pod))).await.concat());
                all_pods.extend(found);
            }
            Err(error) => lines.push(format!("  its pods cannot be listed: {error}")),
        }
    }
    let namespace = unready.iter().find_map(|(targets, _)| targets.object.namespace());
    if let Some(namespace) = namespace {
        let targets: Vec<&WaitTarget<'_>> = unready.iter().map(|(targets, _)| *targets).collect();
        lines.extend(warnings(cluster, namespace, &targets, &all_pods).await);
    }
    let objects = unready.iter().map(|(targets, _)| title(targets.object)).collect();
    let help = advice(&lines, namespace.unwrap_or_default());
    Error::NotReady { objects, outcome, help, source: Evidence(lines) }
}

/// The pods that the change in question made; all of the workload's where nothing changed.
async fn pods_of(cluster: &Cluster, targets: &WaitTarget<'_>) -> Result<Vec<Pod>, kube::Error> {
    let (Some(namespace), Some(selector)) = (targets.object.namespace(), selector(targets.object)) else {
        return Ok(Vec::new());
    };
    let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let listed = timeout(PATIENCE, api.list(&ListParams::default().labels(&selector))).await;
    let Ok(listed) = listed else { return Ok(Vec::new()) };
    let young = |pod: &Pod| match (&targets.since, &pod.metadata.creation_timestamp) {
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
        Ok(Err(error)) => lines.push(format!("    its log cannot be read: {}", error_text(&error))),
        Err(_) => lines.push("    its log cannot be read: its node does not answer".to_owned()),
    }
    lines
}

async fn warnings(cluster: &Cluster, namespace: &str, targets: &[&WaitTarget<'_>], pods: &[Pod]) -> Vec<String> {
    let api: Api<Event> = Api::namespaced(cluster.client(), namespace);
    let listed = timeout(PATIENCE, api.list(&ListParams::default().fields("type=Warning"))).await;
    match listed {
        Ok(Ok(found)) => recent_warnings(found.items, targets, pods, Timestamp::now()),
        Ok(Err(error)) => vec![format!("events cannot be listed: {}", error_text(&error))],
        Err(_) => Vec::new(),
    }
}

/// The latest Warning events about these pods and, since the rollout began, about the objects and their ReplicaSets, which
/// share their names' beginning. What befell the pods of an earlier attempt is none of it.
fn recent_warnings(found: Vec<Event>, targets: &[&WaitTarget<'_>], pods: &[Pod], now: Timestamp) -> Vec<String> {
    let ours = |event: &Event| {
        if matches!(event.reason.as_deref(), Some("Failed" | "BackOff")) {
            return false; // The pod's own line says the same.
        }
        let about = &event.involved_object;
        if about.kind.as_deref() == Some("Pod") {
            return about.uid.is_some() && pods.iter().any(|pod| pod.metadata.uid == about.uid);
        }
        let name = about.name.as_deref().unwrap_or_default();
        targets.iter().any(|targets| {
            let rest = name.strip_prefix(targets.object.name());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) && is_since(event, targets.begun, now)
        })
    };
    let mut recent: Vec<(Timestamp, Event)> =
        found.into_iter().filter(ours).filter_map(|event| Some((events::last_seen(&event)?, event))).collect();
    recent.sort_by_key(|(seen, _)| *seen);
    let surplus = recent.len().saturating_sub(EVENTS);
    recent.iter().skip(surplus).map(|(_, event)| events::describe(event)).collect()
}

/// Whether an event was seen since `begun`, both by the cluster's clock; where that is not known, lately by ours.
fn is_since(event: &Event, begun: Option<Timestamp>, now: Timestamp) -> bool {
    events::last_seen(event).is_some_and(|seen| match begun {
        Some(begun) => seen >= begun,
        None => now.duration_since(seen).unsigned_abs() <= RECENT,
    })
}

fn advice(lines: &[String], namespace: &str) -> String {
    let any = |error_text: &[&str]| lines.iter().any(|line| error_text.iter().any(|word| line.contains(word)));
    if any(&[pods::ALWAYS]) {
        "the objects ask for IfNotPresent, so an admission policy of the cluster (such as AlwaysPullImages) sets \
         imagePullPolicy: Always: exempt the namespace from it, or let the nodes pull the images, then deploy again"
            .to_owned()
    } else if any(&pods::NO_IMAGE) {
        "an image is not on its node: send the images with `vcdist push`, then deploy again".to_owned()
    } else if any(&[POD_SECURITY]) {
        format!(
            "vn-agent needs the network of its node: allow it with `kubectl label --overwrite namespace {namespace} \
             pod-security.kubernetes.io/enforce=privileged`, then deploy again"
        )
    } else if any(&["exceeded quota", "failed quota"]) {
        format!(
            "a ResourceQuota leaves the pods no room (`kubectl describe resourcequota --namespace {namespace}`): raise it, then \
             deploy again"
        )
    } else if any(&["is forbidden", "denied the request"]) {
        "an admission policy of the cluster forbids the pods, in its own words above: change it, then deploy again"
            .to_owned()
    } else if any(&["it is paused"]) {
        "the objects stay applied, and take effect when it is resumed".to_owned()
    } else if any(&["CrashLoopBackOff"]) {
        "the objects stay applied; the program's own words are above: mend the cause, then deploy again".to_owned()
    } else if any(&["Unschedulable", "0 of 0"]) {
        "the objects stay applied; give the pods a worker that they fit on (room, free ports, tolerated taints)"
            .to_owned()
    } else {
        "the objects stay applied: see `vcdist verify`, or give it more time with --timeout".to_owned()
    }
}

fn error_text(error: &kube::Error) -> String {
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

    use super::{WaitTarget, advice, recent_warnings};
    use crate::rollout::pods::tests::pod;

    fn objects() -> Vec<Object> {
        let image = |name: &str| format!("docker.io/a/{name}@sha256:{}", "0".repeat(64)).parse().unwrap();
        vcmanifests::objects(&Parameters::new(Images {
            manager: image("manager"),
            syncer: image("syncer"),
            vn_agent: image("vn-agent"),
        }))
    }

    #[test]
    fn only_events_about_these_pods_and_of_this_rollout_are_evidence() {
        let event = |reason: &str, kind: &str, name: &str, seen: &str| -> Event {
            serde_json::from_value(json!({ "metadata": {}, "reason": reason, "message": name, "lastTimestamp": seen,
                "involvedObject": { "kind": kind, "name": name, "uid": format!("uid-{name}") } }))
            .unwrap()
        };
        let objects = objects();
        let manager = objects.iter().find(|o| o.kind() == "Deployment" && o.name() == "vc-manager").unwrap();
        let events = || {
            vec![
                event("FailedMount", "Pod", "vc-manager-1-b", "2024-01-01T00:09:00Z"),
                event("FailedMount", "Pod", "vc-manager-0-a", "2024-01-01T00:09:00Z"),
                event("FailedCreate", "ReplicaSet", "vc-managerial", "2024-01-01T00:09:00Z"),
                event("FailedCreate", "ReplicaSet", "vc-syncer-1", "2024-01-01T00:09:00Z"),
                event("FailedCreate", "ReplicaSet", "vc-manager-0", "2024-01-01T00:04:59Z"),
                event("FailedCreate", "ReplicaSet", "vc-manager-1", "2024-01-01T00:08:00Z"),
                event("BackOff", "Pod", "vc-manager-1-b", "2024-01-01T00:10:00Z"),
            ]
        };
        let pods = [pod("vc-manager", "vc-manager-1-b", "w1", &json!({}))];
        let now = "2024-01-01T00:10:30Z".parse().unwrap();
        let said = |begun: Option<&str>| {
            let begun = begun.map(|begun| begun.parse().unwrap());
            recent_warnings(events(), &[&WaitTarget { object: manager, since: None, begun }], &pods, now)
        };
        let of_this = [
            "FailedCreate of replicaset/vc-manager-1: vc-manager-1",
            "FailedMount of pod/vc-manager-1-b: vc-manager-1-b",
        ];
        assert_eq!(said(Some("2024-01-01T00:05:00Z")), of_this);
        assert_eq!(said(None).len(), 3, "without the server's time, the last minutes count");
    }

    #[test]
    fn advice_can_be_followed() {
        let of = |line: &str| advice(&[line.to_owned()], "vc");
        assert!(of("  p on w1: ErrImageNeverPull: not present").contains("vcdist push"));
        let always = of("  p on w1: ErrImagePull: imagePullPolicy is Always, and pulling x fails");
        assert!(always.contains("AlwaysPullImages") && !always.contains("vcdist push"), "{always}");
        assert!(of("  p on w1: CrashLoopBackOff: back-off").contains("own words"));
        assert!(of("  p on no node: Unschedulable: 0/2").contains("tolerated taints"));
        for (line, error_text) in [
            ("violates PodSecurity \"baseline:latest\"", "label --overwrite namespace vc pod-security"),
            ("pods \"x\" is forbidden: exceeded quota: small", "--namespace vc"),
            ("admission webhook \"x\" denied the request: no", "admission policy"),
            ("deployment/vc-manager: it is paused", "resumed"),
        ] {
            assert!(of(line).contains(error_text) && !of(line).contains("--timeout"), "{line}: {}", of(line));
        }
        assert!(advice(&[], "vc").contains("--timeout"));
    }
}
