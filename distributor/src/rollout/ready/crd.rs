//! A definition is ready when it is established: the API server then serves its objects.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::Readiness;

/// The rule for custom resource definitions.
#[must_use]
pub fn crd(definition: &CustomResourceDefinition) -> Readiness {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let find = |type_: &str, status: &str| {
        conditions.iter().find(|condition| condition.type_ == type_ && condition.status == status)
    };
    if find("Terminating", "True").is_some() {
        return Readiness::Failed("it is being deleted, and all its objects with it".to_owned());
    }
    if let Some(conflict) = find("NamesAccepted", "False") {
        return Readiness::Failed(format!(
            "its names are taken: {}",
            conflict.message.as_deref().unwrap_or("no reason given")
        ));
    }
    if find("Established", "True").is_some() {
        Readiness::Ready("Established".to_owned())
    } else {
        Readiness::Waiting("it is not established yet".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Readiness, crd};

    fn with(conditions: &[(&str, &str)]) -> Readiness {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(type_, status)| json!({ "type": type_, "status": status, "message": "because" }))
            .collect();
        let definition = json!({
            "spec": { "group": "", "names": { "kind": "", "plural": "" }, "scope": "", "versions": [] },
            "status": { "conditions": conditions },
        });
        crd(&serde_json::from_value(definition).unwrap())
    }

    #[test]
    fn established_is_ready_unless_it_is_being_deleted() {
        let established = ("Established", "True");
        assert!(with(&[("NamesAccepted", "True"), established]).is_ready());
        assert!(matches!(with(&[established, ("Terminating", "True")]), Readiness::Failed(_)));
        assert!(matches!(with(&[("Established", "False")]), Readiness::Waiting(_)));
        assert_eq!(with(&[("NamesAccepted", "False")]), Readiness::Failed("its names are taken: because".to_owned()));
    }
}
