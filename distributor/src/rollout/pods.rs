//! What a pod's status says, in the terms that a person needs: where it runs, what it waits for, how it died.
//! All functions of the pod alone, shared by the rollout's evidence and by verification.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Restarts after which a crashing container is given up: the third comes about half a minute after the first, which is
/// longer than any component takes to find what it depends on.
const PATIENCE: i32 = 3;

/// Waiting reasons that no amount of waiting changes. An image that cannot be pulled is among them: images are put on
/// nodes before a rollout, so a pull is only tried where the push was forgotten.
const HOPELESS: [&str; 6] = [
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// Why a node pulls an image that it may have.
pub(super) const ALWAYS: &str = "imagePullPolicy is Always";

/// Waiting reasons that mean: the image is not on the node, or is pulled all the same.
pub(super) const NO_IMAGE: [&str; 3] = ["ErrImageNeverPull", "ImagePullBackOff", "ErrImagePull"];

/// The pod's name.
#[must_use]
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The node the pod was given to.
#[must_use]
pub fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// The images the pod was asked to run.
#[must_use]
pub fn images(pod: &Pod) -> Vec<&str> {
    pod.spec.iter().flat_map(|spec| &spec.containers).filter_map(|container| container.image.as_deref()).collect()
}

/// Whether the pod is one that counts: not being deleted, and not ended (an evicted pod stays as a record).
#[must_use]
pub fn is_current(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase(pod), "Failed" | "Succeeded")
}

/// Whether the pod is Running with every container ready.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    phase(pod) == "Running" && ready_since(pod).is_some()
}

/// Since when the pod has been ready, without a break.
#[must_use]
pub fn ready_since(pod: &Pod) -> Option<&Time> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    ready.last_transition_time.as_ref()
}

/// How often the pod's containers were restarted.
#[must_use]
pub fn restarts(pod: &Pod) -> i32 {
    containers(pod).map(|container| container.restart_count).sum()
}

/// When a container of the pod last ended and was started again.
#[must_use]
pub fn last_restart(pod: &Pod) -> Option<&Time> {
    containers(pod)
        .filter(|container| container.restart_count > 0)
        .filter_map(|container| container.last_state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
        .max()
}

/// The pod in one line: `vc-manager-x on worker1: RunningCommand and ready`, or what it lacks.
#[must_use]
pub fn describe(pod: &Pod) -> String {
    let place = node(pod).map_or_else(|| "on no node".to_owned(), |node| format!("on {node}"));
    let restarts = match restarts(pod) {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        n => format!(", restarted {n} times"),
    };
    format!("{} {place}: {}{restarts}", name(pod), state(pod))
}

/// What the pod does, or what it waits for.
fn state(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "being deleted".to_owned();
    }
    if is_ready(pod) {
        return "Running and ready".to_owned();
    }
    let waiting = containers(pod).find_map(|container| {
        let state = container.state.as_ref()?;
        let text = if let Some(waiting) = &state.waiting {
            let (reason, message) = (waiting.reason.as_deref().unwrap_or("waiting"), waiting.message.as_deref());
            missing_image(pod, &container.name, reason, message).unwrap_or_else(|| with_message(reason, message))
        } else {
            // An init container that ended well is done.
            let ended = state.terminated.as_ref().filter(|ended| ended.exit_code != 0 || !is_init(pod, container))?;
            with_message(&format!("ended with exit code {}", ended.exit_code), ended.message.as_deref())
        };
        Some(format!("{}{text}", which(pod, container)))
    });
    let unscheduled = || {
        let condition = unscheduled(pod)?;
        Some(with_message(condition.reason.as_deref().unwrap_or("not scheduled"), condition.message.as_deref()))
    };
    let why = || {
        let status = pod.status.as_ref()?;
        Some(with_message(status.reason.as_deref()?, status.message.as_deref()))
    };
    waiting.or_else(unscheduled).or_else(why).unwrap_or_else(|| format!("{}, not ready", phase(pod)))
}

/// The trouble of a container that ends again and again.
pub(super) const CRASHES: &str = "crash";

/// What sort of trouble keeps a pod from getting ready; none while nothing says that it will not.
#[must_use]
pub(super) fn trouble(pod: &Pod) -> Option<&'static str> {
    let of_container = containers(pod).find_map(|container| {
        let state = container.state.as_ref()?;
        if let Some(waiting) = &state.waiting {
            return match waiting.reason.as_deref()? {
                reason if NO_IMAGE.contains(&reason) || reason == "InvalidImageName" => Some("image"),
                "CrashLoopBackOff" => Some(CRASHES),
                reason if HOPELESS.contains(&reason) => Some("configuration"),
                _ => None,
            };
        }
        state.terminated.as_ref().filter(|ended| ended.exit_code != 0).map(|_| CRASHES)
    });
    of_container.or_else(|| unscheduled(pod).map(|_| "place"))
}

/// The condition that says that no node takes the pod.
fn unscheduled(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
}

/// Which container of a pod it is, where the pod has several.
fn which(pod: &Pod, container: &ContainerStatus) -> String {
    let count = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    if is_init(pod, container) {
        format!("init container {}: ", container.name)
    } else if count > 1 {
        format!("container {}: ", container.name)
    } else {
        String::new()
    }
}

fn is_init(pod: &Pod, container: &ContainerStatus) -> bool {
    let mut init = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    init.any(|one| one.name == container.name)
}

/// Why the pod will not become ready, as far as that can be known.
#[must_use]
pub fn hopeless(pod: &Pod) -> Option<String> {
    containers(pod).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        let crashing = reason == "CrashLoopBackOff" && container.restart_count >= PATIENCE;
        (HOPELESS.contains(&reason) || crashing).then(|| describe(pod))
    })
}

/// The container that keeps the pod from being ready and has output to show, and whether that output is the previous
/// run's.
#[must_use]
pub fn talkative(pod: &Pod) -> Option<(&str, bool)> {
    containers(pod).filter(|container| !container.ready).find_map(|container| {
        let state = container.state.as_ref()?;
        if state.running.is_some() || state.terminated.is_some() {
            return Some((container.name.as_str(), false));
        }
        (container.restart_count > 0).then_some((container.name.as_str(), true))
    })
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Unknown")
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    })
}

/// Of a failed pull, the runtime's message names the image four times over; its last clause is the cause.
fn missing_image(pod: &Pod, container: &str, reason: &str, message: Option<&str>) -> Option<String> {
    if !NO_IMAGE.contains(&reason) {
        return None;
    }
    let spec = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let asked = spec.clone().find(|asked| asked.name == container).or_else(|| spec.clone().next());
    let image = asked.and_then(|asked| asked.image.as_deref()).unwrap_or("its image");
    let cause = message.and_then(|message| message.rsplit(": ").next()).filter(|cause| !cause.contains(image));
    // The image may well be there: the node asks the registry all the same.
    if asked.and_then(|asked| asked.image_pull_policy.as_deref()) == Some("Always") {
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        return Some(format!("{reason}: {ALWAYS}, and pulling {image} fails{cause}"));
    }
    let cause = if reason == "ErrImageNeverPull" { None } else { cause };
    let pull = cause.map(|cause| format!(", and pulling it fails: {cause}")).unwrap_or_default();
    Some(format!("{reason}: {image} is not on the node{pull}"))
}

fn with_message(reason: &str, message: Option<&str>) -> String {
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::{describe, hopeless, is_current, last_restart, talkative, trouble};

    /// A pod of `app` called `name` on `node`, with this status.
    pub(crate) fn pod(app: &str, name: &str, node: &str, status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "vc-manager", "uid": format!("uid-{name}"), "labels": { "app": app } },
            "spec": { "nodeName": node, "containers": [{ "name": app, "image": "docker.io/a/b@sha256:01" }] },
            "status": status,
        }))
        .unwrap()
    }

    /// The status of a pod that has been ready since `since`.
    pub(crate) fn ready(since: &str) -> Value {
        json!({
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": since }],
            "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": { "running": {} } }],
        })
    }

    fn waiting(reason: &str, restarts: i32) -> Pod {
        let status = json!({
            "phase": "Pending",
            "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
                "state": { "waiting": { "reason": reason, "message": "the image is not there" } },
                "lastState": { "terminated": { "exitCode": 2, "finishedAt": "2024-01-01T00:00:00Z" } } }],
        });
        pod("vc-manager", "vc-manager-1", "w1", &status)
    }

    #[test]
    fn a_missing_image_is_hopeless_at_once_and_a_crash_after_some_patience() {
        assert_eq!(
            hopeless(&waiting("ErrImageNeverPull", 0)).unwrap(),
            "vc-manager-1 on w1: ErrImageNeverPull: docker.io/a/b@sha256:01 is not on the node"
        );
        let mut pull = waiting("ImagePullBackOff", 0);
        let containers = pull.status.as_mut().unwrap().container_statuses.as_mut().unwrap();
        containers[0].state.as_mut().unwrap().waiting.as_mut().unwrap().message = Some(
            "Back-off pulling image \"docker.io/a/b@sha256:01\": ErrImagePull: dial tcp: connection refused".to_owned(),
        );
        assert_eq!(
            hopeless(&pull).unwrap(),
            "vc-manager-1 on w1: ImagePullBackOff: docker.io/a/b@sha256:01 is not on the node, and pulling it fails: \
             connection refused"
        );
        pull.spec.as_mut().unwrap().containers[0].image_pull_policy = Some("Always".to_owned());
        assert_eq!(
            hopeless(&pull).unwrap(),
            "vc-manager-1 on w1: ImagePullBackOff: imagePullPolicy is Always, and pulling docker.io/a/b@sha256:01 fails: \
             connection refused"
        );
        assert_eq!(hopeless(&waiting("ContainerCreating", 0)), None);
        assert_eq!(hopeless(&waiting("ErrImagePull", 0)), None, "the kubelet tries once more");
        assert_eq!(hopeless(&waiting("CrashLoopBackOff", 2)), None);
        assert!(hopeless(&waiting("CrashLoopBackOff", 3)).unwrap().ends_with(", restarted 3 times"));
    }

    #[test]
    fn a_pod_says_what_it_lacks() {
        assert_eq!(describe(&pod("a", "p", "w1", &ready("2024-01-01T00:00:00Z"))), "p on w1: Running and ready");
        let unscheduled = json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/2 nodes are available" }] });
        let mut pending = pod("a", "p", "", &unscheduled);
        pending.spec.as_mut().unwrap().node_name = None;
        assert_eq!(describe(&pending), "p on no node: Unschedulable: 0/2 nodes are available");
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "disk pressure" });
        let evicted = pod("a", "p", "w1", &evicted);
        assert_eq!(describe(&evicted), "p on w1: Evicted: disk pressure");
        assert!(!is_current(&evicted));
    }

    #[test]
    fn logs_come_from_the_run_that_failed() {
        assert_eq!(talkative(&waiting("CrashLoopBackOff", 1)), Some(("c", true)));
        assert_eq!(talkative(&waiting("ErrImageNeverPull", 0)), None);
        assert_eq!(talkative(&pod("a", "p", "w1", &ready("2024-01-01T00:00:00Z"))), None);
        assert_eq!(last_restart(&waiting("CrashLoopBackOff", 1)).unwrap().0.to_string(), "2024-01-01T00:00:00Z");
        assert_eq!(last_restart(&waiting("ContainerCreating", 0)), None);
    }

    #[test]
    fn an_init_container_is_named_and_one_that_is_done_is_passed_over() {
        let with = |init: &Value| {
            let container = |name: &str, state: &Value| json!({ "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": state });
            let status = json!({ "phase": "Pending", "initContainerStatuses": [container("setup", init)],
                "containerStatuses": [container("main", &json!({ "waiting": { "reason": "CreateContainerConfigError", "message": "secret \"x\" not found" } }))] });
            pod("a", "p", "w1", &status)
        };
        let crashed = with(&json!({ "terminated": { "exitCode": 2 } }));
        assert_eq!(describe(&crashed), "p on w1: init container setup: ended with exit code 2, restarted 2 times");
        assert_eq!(trouble(&crashed), Some("crash"));
        assert_eq!(talkative(&crashed), Some(("setup", false)));
        let done = with(&json!({ "terminated": { "exitCode": 0 } }));
        assert_eq!(describe(&done), "p on w1: CreateContainerConfigError: secret \"x\" not found, restarted 2 times");
        assert_eq!(trouble(&done), Some("configuration"));
    }
}
