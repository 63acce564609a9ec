//! Checks the last log lines of all pods for what only shows there: permissions that the API server denied, and Services
//! that the syncer could not create because of their addresses.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use vcmanifests::Component;

use super::snapshot::pods_of;
use super::{Check, Snapshot};
use crate::rollout::pods;

/// How many of the last lines of a pod's log are read.
pub(super) const LINES: i64 = 300;

/// The maximum number of displayed lines of one pod.
const SHOWN: usize = 3;

/// The log of a pod: its last lines, each with its time, or why they could not be read.
pub type PodLog = Result<Vec<(Timestamp, String)>, String>;

pub(super) fn check(snapshot: &Snapshot, since: Duration) -> Check {
    let begin = SignedDuration::try_from(since).ok().and_then(|since| snapshot.now.checked_sub(since).ok());
    let begin = begin.unwrap_or(Timestamp::MIN);
    let (mut wrong, mut found) = (Vec::new(), Vec::new());
    let mut read = 0;
    for component in Component::ALL {
        for pod in pods_of(snapshot, component).map(pods::name) {
            match snapshot.logs.get(pod) {
                None => {}
                Some(Err(why)) => wrong.push(format!("the log of {pod} cannot be read: {why}")),
                Some(Ok(lines)) => {
                    read += 1;
                    let bad: Vec<&(Timestamp, String)> =
                        lines.iter().filter(|(time, line)| *time >= begin && is_of_concern(component, line)).collect();
                    let hidden = bad.len().saturating_sub(SHOWN);
                    wrong.extend(
                        bad.iter().skip(hidden).map(|(time, line)| format!("{time:.0} {pod}: {}", short(line))),
                    );
                    if hidden > 0 {
                        wrong.push(format!("{pod}: {hidden} earlier ones"));
                    }
                }
            }
        }
    }
    if wrong.is_empty() {
        found.push(format!("no denied permission and no refused clusterIPs in the last {LINES} lines of {read} pods"));
    }
    Check::of(
        "logs",
        wrong,
        found,
        "denied permissions: `vcdist deploy` applies the roles; clusterIPs: build vc-syncer with the edit \
         service-cluster-ips of vcbuild, push and deploy it. Then verify with a shorter --since",
    )
}

/// Parses a log with the times that the API server puts before each line.
pub(super) fn lines(text: &str) -> Vec<(Timestamp, String)> {
    let line = |line: &str| {
        let (time, rest) = line.split_once(' ')?;
        Some((time.parse().ok()?, rest.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// Returns whether a line says that RBAC denied a permission, or, in the syncer's log, that addresses of a Service were
/// refused.
fn is_of_concern(component: Component, line: &str) -> bool {
    let denied = line.contains("forbidden: User ") || line.contains("forbidden: User \\\"");
    let addresses = component == Component::Syncer
        && (line.contains("clusterIPs") || line.contains("failed reconcile service default/kubernetes"));
    denied || addresses
}

fn short(line: &str) -> String {
    let mut text: String = line.chars().take(300).collect();
    if text.len() < line.len() {
        text.push('…');
    }
    text
}
