//! A Job is ready when it is complete. One that failed stays failed. One that its manifest suspends is ready, for nothing is to
//! happen.

use k8s_openapi::api::batch::v1::Job;

use super::Readiness;

/// The rule for Jobs.
#[must_use]
pub fn job(job: &Job) -> Readiness {
    let status = job.status.clone().unwrap_or_default();
    let condition = |type_: &str| {
        status.conditions.iter().flatten().find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    if condition("Complete").is_some() {
        return Readiness::Ready("complete".to_owned());
    }
    if let Some(failed) = condition("Failed").or_else(|| condition("FailureTarget")) {
        let words = [failed.reason.as_deref(), failed.message.as_deref()];
        return Readiness::Failed(format!("it failed: {}", words.into_iter().flatten().collect::<Vec<_>>().join(": ")));
    }
    let spec = job.spec.as_ref();
    if spec.and_then(|spec| spec.suspend) == Some(true) {
        return Readiness::Ready("suspended, as its manifest says".to_owned());
    }
    let wanted = spec.and_then(|spec| spec.completions).unwrap_or(1);
    let failures = match status.failed.unwrap_or(0) {
        0 => String::new(),
        n => format!(", {n} failed"),
    };
    Readiness::Waiting(format!("{} of {wanted} pods are complete{failures}", status.succeeded.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Readiness, job};

    #[test]
    fn a_job_is_complete_or_failed_or_runs() {
        let with = |status: Value, suspend: bool| {
            job(&serde_json::from_value(
                json!({ "spec": { "completions": 2, "suspend": suspend, "template": {} }, "status": status }),
            )
            .unwrap())
        };
        let condition = |type_: &str| json!({ "conditions": [{ "type": type_, "status": "True", "reason": "BackoffLimitExceeded", "message": "too often" }] });
        assert_eq!(with(condition("Complete"), false), Readiness::Ready("complete".to_owned()));
        assert_eq!(
            with(condition("Failed"), false),
            Readiness::Failed("it failed: BackoffLimitExceeded: too often".to_owned())
        );
        assert_eq!(
            with(json!({ "succeeded": 1, "failed": 3 }), false),
            Readiness::Waiting("1 of 2 pods are complete, 3 failed".to_owned())
        );
        assert!(with(json!({}), true).is_ready());
    }
}
