//! A VirtualCluster is ready when its control plane runs. One that its manager gave up stays so: the manager does not try again.

use kube::api::DynamicObject;

use super::Readiness;

/// The rule for VirtualClusters.
#[must_use]
pub fn virtual_cluster(tenant: &DynamicObject) -> Readiness {
    let status = &tenant.data["status"];
    let text = |key: &str| status[key].as_str().filter(|text| !text.is_empty());
    let words: Vec<&str> = ["reason", "message"].into_iter().filter_map(text).collect();
    let words = if words.is_empty() { String::new() } else { format!(": {}", words.join(": ")) };
    match text("phase") {
        Some("Running") => Readiness::Ready("Running".to_owned()),
        Some(phase @ ("Error" | "Failed")) => Readiness::Failed(format!("its phase is {phase}{words}")),
        Some(phase) => Readiness::Waiting(format!("its phase is {phase}{words}")),
        None => Readiness::Waiting("vc-manager has not seen it yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Readiness, virtual_cluster};

    #[test]
    fn its_phase_tells() {
        let with = |status: Value| {
            virtual_cluster(&serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap())
        };
        assert!(with(json!({ "phase": "Running" })).is_ready());
        assert!(matches!(with(json!({})), Readiness::Waiting(_)));
        assert_eq!(with(json!({ "phase": "Pending" })), Readiness::Waiting("its phase is Pending".to_owned()));
        let failed = json!({ "phase": "Error", "reason": "TenantControlPlane", "message": "etcd timed out" });
        assert_eq!(
            with(failed),
            Readiness::Failed("its phase is Error: TenantControlPlane: etcd timed out".to_owned())
        );
        assert!(matches!(with(json!({ "phase": "Failed" })), Readiness::Failed(_)));
    }
}
