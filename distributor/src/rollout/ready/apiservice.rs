//! An APIService is ready when the API server reaches what serves it.

use kube::api::DynamicObject;

use super::Readiness;
use super::conditions::condition;

/// The rule for APIServices.
#[must_use]
pub fn apiservice(service: &DynamicObject) -> Readiness {
    match condition(service, "Available") {
        Some(found) if found.is_true() => Readiness::Ready("Available".to_owned()),
        Some(found) => Readiness::Waiting(format!("the API server does not reach it: {}", found.words())),
        None => Readiness::Waiting("the API server has not tried it yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Readiness, apiservice};

    #[test]
    fn what_serves_it_is_to_be_reached() {
        let with = |conditions: Value| {
            apiservice(
                &serde_json::from_value(json!({ "metadata": {}, "status": { "conditions": conditions } })).unwrap(),
            )
        };
        assert!(matches!(with(json!([])), Readiness::Waiting(_)));
        assert!(with(json!([{ "type": "Available", "status": "True" }])).is_ready());
        let missing =
            json!([{ "type": "Available", "status": "False", "reason": "MissingEndpoints", "message": "none" }]);
        assert_eq!(
            with(missing),
            Readiness::Waiting("the API server does not reach it: MissingEndpoints: none".to_owned())
        );
    }
}
