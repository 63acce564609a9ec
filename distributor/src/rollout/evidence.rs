//! Why something is not ready, as the cluster reports it: pods, the last lines of their logs, recent Warning events.
//! Looked for every few seconds of a wait, and gathered when it has failed; bounded, for evidence must not take longer than the
//! reader's patience.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, LogParams};
use tokio::time::timeout;

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

/// Why an object is not ready, as it is seen while it is waited for.
#[derive(Debug, Clone, Default)]
pub(super) struct Cause {
    /// What tells it from other causes: the object, and what sort of cause it is.
    pub(super) key: String,
    /// The object, `deployment/vc-manager`.
    pub(super) object: String,
    /// The cause in one line.
    pub(super) text: String,
    /// A pod that fails and has output to show.
    pub(super) pod: Option<Box<Pod>>,
}

/// What a look at things that are not ready shows.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Whether something will not get ready by itself.
    pub(super) is_hopeless: bool,
    /// Why they are not ready, as far as that is known.
    pub(super) causes: Vec<Cause>,
}

/// Looks at the pods of what is not ready, and at what its controllers say.
pub(super) async fn look(cluster: &Cluster, unready: &[(&WaitTarget<'_>, Readiness)]) -> Result<Look, Error> {
    let mut look = Look::default();
    let with_pods: Vec<&WaitTarget<'_>> =
        unready.iter().filter(|(target, _)| selector(target.object).is_some()).map(|(target, _)| *target).collect();
    let mut of_namespace: BTreeMap<&str, Vec<Event>> = BTreeMap::new();
    for target in &with_pods {
        let namespace = target.object.namespace().unwrap_or_default();
        if !of_namespace.contains_key(namespace) {
            of_namespace.insert(namespace, warning_events(cluster, namespace).await.unwrap_or_default());
        }
        let (object, now) = (title(target.object), Timestamp::now());
        let found = pods_of(cluster, target).await;
        let found = found.map_err(|error| cluster.failed(format!("listing the pods of {object}"), error))?;
        let events = recent(&of_namespace[namespace], &[target], &found, now);
        look.is_hopeless |= found.iter().any(|pod| pods::hopeless(pod).is_some());
        look.is_hopeless |= target.object.kind() == "DaemonSet" && events.iter().any(|event| forbids(event));
        look.causes.extend(causes_in_pods(&object, &found));
        look.causes.extend(causes_in_events(&object, &events));
    }
    Ok(look)
}

/// Whether an event says that pods may not be made in their namespace. A Deployment's status reports that itself.
fn forbids(event: &Event) -> bool {
    event.reason.as_deref() == Some("FailedCreate")
        && event.message.as_deref().is_some_and(|it| it.contains(POD_SECURITY))
}

/// One cause for each sort of trouble that an object's pods have.
fn causes_in_pods(object: &str, found: &[Pod]) -> Vec<Cause> {
    let mut sorts: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in found.iter().filter(|pod| !pods::is_ready(pod)) {
        if let Some(sort) = pods::trouble(pod) {
            sorts.entry(sort).or_default().push(pod);
        }
    }
    let cause = |(sort, pods): (&str, Vec<&Pod>)| {
        let further = match pods.len() - 1 {
            0 => String::new(),
            n => format!(" (and {n} more pods)"),
        };
        Cause {
            key: format!("{object} {sort}"),
            object: object.to_owned(),
            text: format!("{}{further}", pods::describe(pods[0])),
            pod: (sort == pods::CRASHES).then(|| Box::new(pods[0].clone())),
        }
    };
    sorts.into_iter().map(cause).collect()
}

/// One cause for each reason of events about an object, its controllers and its pods.
fn causes_in_events(object: &str, recent: &[&Event]) -> Vec<Cause> {
    let mut reasons: BTreeMap<&str, &Event> = BTreeMap::new();
    // That a pod does not fit anywhere, and that a probe fails, is seen in the pod.
    let is_cause = |reason: &str| reason.starts_with("Failed") && reason != "FailedScheduling";
    for event in recent {
        if let Some(reason) = event.reason.as_deref().filter(|reason| is_cause(reason)) {
            reasons.insert(reason, event);
        }
    }
    let cause = |(reason, event): (&str, &Event)| Cause {
        key: format!("{object} {reason}"),
        object: object.to_owned(),
        text: events::describe(event),
        pod: None,
    };
    reasons.into_iter().map(cause).collect()
}

/// A cause with the last line that the program which fails has written.
pub(super) async fn in_full(cluster: &Cluster, cause: &Cause) -> String {
    let Some(pod) = &cause.pod else { return cause.text.clone() };
    match log_of(cluster, pod).await {
        Some(Ok(log)) => match log.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => format!("{}; its last output: {line}", cause.text),
            None => cause.text.clone(),
        },
        _ => cause.text.clone(),
    }
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
    match log_of(cluster, pod).await {
        Some(Ok(log)) => lines.extend(log.lines().map(|line| format!("    | {}", line.trim_end()))),
        Some(Err(why)) => lines.push(format!("    its log cannot be read: {why}")),
        None => {}
    }
    lines
}

/// The end of the log of the container that keeps a pod from being ready; none where it has written none.
async fn log_of(cluster: &Cluster, pod: &Pod) -> Option<Result<String, String>> {
    let (container, previous) = pods::talkative(pod)?;
    let api: Api<Pod> = Api::namespaced(cluster.client(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let parameters = LogParams {
        container: Some(container.to_owned()),
        previous,
        tail_lines: Some(LOG_LINES),
        limit_bytes: Some(LOG_BYTES),
        ..LogParams::default()
    };
    Some(match timeout(PATIENCE, api.logs(pods::name(pod), &parameters)).await {
        Ok(Ok(log)) => Ok(log),
        Ok(Err(error)) => Err(error_text(&error)),
        Err(_) => Err("its node does not answer".to_owned()),
    })
}

async fn warnings(cluster: &Cluster, namespace: &str, targets: &[&WaitTarget<'_>], pods: &[Pod]) -> Vec<String> {
    match warning_events(cluster, namespace).await {
        Ok(found) => recent_warnings(&found, targets, pods, Timestamp::now()),
        Err(why) => vec![format!("events cannot be listed: {why}")],
    }
}

/// The Warning events of a namespace; none where the API server does not answer soon.
async fn warning_events(cluster: &Cluster, namespace: &str) -> Result<Vec<Event>, String> {
    let api: Api<Event> = Api::namespaced(cluster.client(), namespace);
    match timeout(PATIENCE, api.list(&ListParams::default().fields("type=Warning"))).await {
        Ok(Ok(found)) => Ok(found.items),
        Ok(Err(error)) => Err(error_text(&error)),
        Err(_) => Ok(Vec::new()),
    }
}

/// The latest of those events, in words.
fn recent_warnings(found: &[Event], targets: &[&WaitTarget<'_>], pods: &[Pod], now: Timestamp) -> Vec<String> {
    let recent = recent(found, targets, pods, now);
    let surplus = recent.len().saturating_sub(EVENTS);
    recent.iter().skip(surplus).map(|event| events::describe(event)).collect()
}

/// The Warning events about these pods and, since the rollout began, about the objects and their ReplicaSets, which share their
/// names' beginning, latest last. What befell the pods of an earlier attempt is none of it.
fn recent<'a>(found: &'a [Event], targets: &[&WaitTarget<'_>], pods: &[Pod], now: Timestamp) -> Vec<&'a Event> {
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
    let ours = found.iter().filter(|event| ours(event));
    let mut recent: Vec<(Timestamp, &Event)> =
        ours.filter_map(|event| Some((events::last_seen(event)?, event))).collect();
    recent.sort_by_key(|(seen, _)| *seen);
    recent.into_iter().map(|(_, event)| event).collect()
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

    use super::{WaitTarget, advice, causes_in_events, causes_in_pods, recent_warnings};
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
            recent_warnings(&events(), &[&WaitTarget { object: manager, since: None, begun }], &pods, now)
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

    #[test]
    fn each_sort_of_trouble_is_one_cause_however_many_pods_have_it() {
        let waiting = |reason: &str| {
            json!({ "phase": "Pending", "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": false,
                "restartCount": 1, "state": { "waiting": { "reason": reason } } }] })
        };
        let unscheduled = json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/2 nodes: 1 node(s) didn't have free ports" }] });
        let pods = [
            pod("a", "p1", "w1", &waiting("ErrImageNeverPull")),
            pod("a", "p2", "w2", &waiting("ErrImageNeverPull")),
            pod("a", "p3", "w3", &waiting("CrashLoopBackOff")),
            pod("a", "p4", "w4", &waiting("ContainerCreating")),
            pod("a", "p5", "", &unscheduled),
        ];
        let causes = causes_in_pods("daemonset/a", &pods);
        let texts: Vec<&str> = causes.iter().map(|cause| cause.text.as_str()).collect();
        assert_eq!(causes.len(), 3, "{texts:?}");
        assert!(texts.iter().any(|text| text.contains("p1 on w1") && text.ends_with("(and 1 more pods)")), "{texts:?}");
        assert!(texts.iter().any(|text| text.contains("free ports")), "{texts:?}");
        assert!(causes.iter().any(|cause| cause.pod.is_some() && cause.text.contains("p3")), "its output is shown");
    }

    #[test]
    fn what_controllers_could_not_do_is_a_cause() {
        let event = |reason: &str, message: &str| -> Event {
            serde_json::from_value(json!({ "metadata": {}, "reason": reason, "message": message,
                "involvedObject": { "kind": "ReplicaSet", "name": "a-1" } }))
            .unwrap()
        };
        let events = [
            event("FailedCreate", "forbidden: exceeded quota: small"),
            event("FailedCreate", "forbidden: exceeded quota: small, again"),
            event("FailedMount", "secret \"x\" not found"),
            event("Unhealthy", "probe"),
        ];
        let causes = causes_in_events("deployment/a", &events.iter().collect::<Vec<_>>());
        let texts: Vec<&str> = causes.iter().map(|cause| cause.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "FailedCreate of replicaset/a-1: forbidden: exceeded quota: small, again",
                "FailedMount of replicaset/a-1: secret \"x\" not found"
            ]
        );
    }
}
