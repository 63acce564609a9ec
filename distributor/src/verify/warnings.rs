//! Checks that there was no recent problem that still persists.
//!
//! A Warning event counts if it was last seen within the requested window, unless it is over:
//! - An event about a pod is over if the pod is gone, or has been ready ever since without a restart in the window.
//! - Any other event is over if all pods are ready, and the last of them became ready after it.
//!
//! So the check ignores the noise of a rollout that ended well, and fails for a pod that keeps crashing between moments
//! of readiness. Events that are over are marked as such.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Check, Snapshot};
use crate::rollout::{events, pods};

/// The maximum number of displayed events that are over.
const SHOWN: usize = 5;

pub(super) fn check(snapshot: &Snapshot, since: Duration) -> Check {
    let begin = SignedDuration::try_from(since).ok().and_then(|since| snapshot.now.checked_sub(since).ok());
    let begin = begin.unwrap_or(Timestamp::MIN);
    let mut recent: Vec<(Timestamp, &Event)> = snapshot
        .warnings
        .iter()
        .filter_map(|event| Some((events::last_seen(event)?, event)))
        .filter(|(seen, _)| *seen >= begin)
        .collect();
    recent.sort_by_key(|(seen, _)| *seen);
    let (over, lasting): (Vec<_>, Vec<_>) =
        recent.into_iter().partition(|(seen, event)| is_over(snapshot, event, *seen, begin));

    let line = |(seen, event): &(Timestamp, &Event)| format!("{seen:.0} {}", events::describe(event));
    let wrong: Vec<String> = lasting.iter().map(line).collect();
    let window = format!("{:#}", SignedDuration::try_from(since).unwrap_or(SignedDuration::MAX));
    let mut found = Vec::new();
    if wrong.is_empty() {
        found.push(format!("no Warning event of the last {window} is still of concern"));
    }
    let hidden = over.len().saturating_sub(SHOWN);
    found.extend(over.iter().skip(hidden).map(|event| format!("over: {}", line(event))));
    if hidden > 0 {
        found.push(format!("over: {hidden} earlier ones"));
    }
    Check::of(
        "events",
        wrong,
        found,
        "remove the cause that the events name; they stop counting once their pod is ready, or after --since",
    )
}

fn is_over(snapshot: &Snapshot, event: &Event, seen: Timestamp, begin: Timestamp) -> bool {
    let object = &event.involved_object;
    if object.kind.as_deref() == Some("Pod") {
        let pod = snapshot.pods.iter().find(|pod| match (&object.uid, &pod.metadata.uid) {
            (Some(of_event), Some(of_pod)) => of_event == of_pod,
            _ => object.name == pod.metadata.name,
        });
        return pod.is_none_or(|pod| {
            // An evicted or finished pod remains as a record: other pods have replaced it, or else the `pods` check
            // fails.
            !pods::is_current(pod) || (ready_after(pod, seen) && !restarted_after(pod, begin))
        });
    }
    let mut current = snapshot.pods.iter().filter(|pod| pods::is_current(pod)).peekable();
    if current.peek().is_none() {
        return false;
    }
    let mut last = None;
    for pod in current {
        match pods::ready_since(pod) {
            Some(since) if pods::is_ready(pod) => last = last.max(Some(since.0)),
            _ => return false,
        }
    }
    last.is_some_and(|last| last >= seen)
}

fn ready_after(pod: &Pod, seen: Timestamp) -> bool {
    pods::is_ready(pod) && pods::ready_since(pod).is_some_and(|since| since.0 >= seen)
}

fn restarted_after(pod: &Pod, begin: Timestamp) -> bool {
    pods::last_restart(pod).is_some_and(|restart| restart.0 >= begin)
}
