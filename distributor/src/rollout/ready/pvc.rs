//! A PersistentVolumeClaim is ready when it is bound. One whose storage class binds at the first use is ready before, for what
//! uses it may come later.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::Readiness;

/// The binding mode of a storage class that waits for a pod.
const AT_FIRST_USE: &str = "WaitForFirstConsumer";

/// The rule for claims; `binding` is the binding mode of the claim's storage class, where that is known.
#[must_use]
pub fn pvc(claim: &PersistentVolumeClaim, binding: Option<&str>) -> Readiness {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
    match phase {
        "Bound" => Readiness::Ready("Bound".to_owned()),
        "Lost" => Readiness::Failed("its volume is gone (phase Lost)".to_owned()),
        _ if binding == Some(AT_FIRST_USE) => Readiness::Ready("bound when a pod uses it".to_owned()),
        _ if class.is_empty() => Readiness::Waiting("no volume fits it, and it names no storage class".to_owned()),
        _ => Readiness::Waiting(format!("the storage class {class} has not given it a volume yet")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Readiness, pvc};

    #[test]
    fn a_claim_is_bound_or_waits_for_its_first_pod() {
        let with = |phase: &str, class: Option<&str>, binding| {
            let object = json!({ "spec": { "storageClassName": class }, "status": { "phase": phase } });
            pvc(&serde_json::from_value(object).unwrap(), binding)
        };
        assert!(with("Bound", None, None).is_ready());
        assert!(with("Pending", Some("local"), Some("WaitForFirstConsumer")).is_ready());
        let waits = |text: &str| Readiness::Waiting(text.to_owned());
        assert_eq!(
            with("Pending", Some("nfs"), Some("Immediate")),
            waits("the storage class nfs has not given it a volume yet")
        );
        assert_eq!(with("Pending", None, None), waits("no volume fits it, and it names no storage class"));
        assert!(matches!(with("Lost", Some("local"), Some("WaitForFirstConsumer")), Readiness::Failed(_)));
    }
}
