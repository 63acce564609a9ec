//! A namespace is ready when it is active; one that is being deleted takes nothing new.

use k8s_openapi::api::core::v1::Namespace;

use super::Readiness;

/// The rule for namespaces.
#[must_use]
pub fn namespace(namespace: &Namespace) -> Readiness {
    match namespace.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Active") => Readiness::Ready("Active".to_owned()),
        Some("Terminating") => Readiness::Failed("it is being deleted".to_owned()),
        _ => Readiness::Waiting("it is not active yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Readiness, namespace};

    #[test]
    fn a_namespace_that_is_being_deleted_is_not_waited_for() {
        let with = |phase: &str| namespace(&serde_json::from_value(json!({ "status": { "phase": phase } })).unwrap());
        assert_eq!(with("Active"), Readiness::Ready("Active".to_owned()));
        assert_eq!(with("Terminating"), Readiness::Failed("it is being deleted".to_owned()));
        assert!(matches!(namespace(&serde_json::from_value(json!({})).unwrap()), Readiness::Waiting(_)));
    }
}
