//! A pod of its own is ready when it is Running with every container ready, or has ended well.

use k8s_openapi::api::core::v1::Pod;

use super::Readiness;
use crate::rollout::pods;

/// The rule for pods.
#[must_use]
pub fn pod(pod: &Pod) -> Readiness {
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Succeeded") => Readiness::Ready("Succeeded".to_owned()),
        Some("Failed") => Readiness::Failed(pods::describe(pod)),
        _ if pods::is_ready(pod) => Readiness::Ready("Running".to_owned()),
        _ => Readiness::Waiting(pods::describe(pod)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Readiness, pod};
    use crate::rollout::pods::tests::{pod as a_pod, ready};

    #[test]
    fn a_pod_runs_or_ended_well() {
        let with = |status| pod(&a_pod("a", "p", "w1", &status));
        assert!(with(ready("2024-01-01T00:00:00Z")).is_ready());
        assert!(with(json!({ "phase": "Succeeded" })).is_ready());
        assert!(
            matches!(with(json!({ "phase": "Failed", "reason": "Evicted" })), Readiness::Failed(why) if why.contains("Evicted"))
        );
        assert!(matches!(with(json!({ "phase": "Running" })), Readiness::Waiting(_)));
    }
}
