//! Objects of any other kind, by the conditions that controllers commonly set (Kubernetes API conventions, "Typical status
//! properties"). An object without conditions is ready by being there: nothing says otherwise.

use kube::api::DynamicObject;
use serde_json::Value;

use super::Readiness;

/// Conditions that say, when they are false, that an object is not ready yet: the first that an object has counts.
const AWAITED: [&str; 4] = ["Ready", "Available", "Established", "Accepted"];

/// Conditions that say, when they are true, that it will not get ready by itself.
const LOST: [&str; 2] = ["Stalled", "Failed"];

/// One condition of an object.
pub(super) struct Condition<'a>(&'a Value);

impl Condition<'_> {
    /// Whether its status is True.
    pub(super) fn is_true(&self) -> bool {
        self.0["status"] == "True"
    }

    /// Its reason and its message.
    pub(super) fn words(&self) -> String {
        let words = ["reason", "message"].into_iter().filter_map(|key| self.0[key].as_str());
        let words: Vec<&str> = words.filter(|words| !words.is_empty()).collect();
        if words.is_empty() { "no reason is given".to_owned() } else { words.join(": ") }
    }
}

/// The condition of this type that an object has, unless it speaks of an older state of the object.
pub(super) fn condition<'a>(object: &'a DynamicObject, type_: &str) -> Option<Condition<'a>> {
    let found = object.data["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)?;
    let is_of_now = found["observedGeneration"].as_i64().is_none_or(|observed| observed >= generation(object));
    is_of_now.then_some(Condition(found))
}

/// The rule for objects that have no rule of their own.
#[must_use]
pub fn conditions(object: &DynamicObject) -> Readiness {
    if object.metadata.deletion_timestamp.is_some() {
        return Readiness::Failed("it is being deleted".to_owned());
    }
    let status = &object.data["status"];
    if status["observedGeneration"].as_i64().is_some_and(|observed| observed < generation(object)) {
        return Readiness::Waiting("its controller has not seen it yet".to_owned());
    }
    for type_ in LOST {
        if let Some(found) = condition(object, type_).filter(Condition::is_true) {
            return Readiness::Failed(format!("its condition {type_} is True: {}", found.words()));
        }
    }
    if let Some(found) = condition(object, "Reconciling").filter(Condition::is_true) {
        return Readiness::Waiting(format!("its controller is at work: {}", found.words()));
    }
    for type_ in AWAITED {
        let has_any = status["conditions"].as_array().into_iter().flatten().any(|one| one["type"] == type_);
        match condition(object, type_) {
            Some(found) if found.is_true() => return Readiness::Ready(type_.to_owned()),
            Some(found) => {
                return Readiness::Waiting(format!("its condition {type_} is not True: {}", found.words()));
            }
            None if has_any => return Readiness::Waiting(format!("its condition {type_} is of an older state")),
            None => {}
        }
    }
    Readiness::Ready("there".to_owned())
}

fn generation(object: &DynamicObject) -> i64 {
    object.metadata.generation.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Readiness, conditions};

    fn with(status: Value) -> Readiness {
        let mut object = json!({ "metadata": { "generation": 2 } });
        object["status"] = status;
        conditions(&serde_json::from_value(object).unwrap())
    }

    fn one(type_: &str, status: &str, observed: i64) -> Value {
        json!({ "conditions": [{ "type": type_, "status": status, "reason": "R", "message": "m", "observedGeneration": observed }] })
    }

    #[test]
    fn the_first_usual_condition_tells() {
        assert_eq!(with(json!({})), Readiness::Ready("there".to_owned()));
        assert_eq!(with(one("Ready", "True", 2)), Readiness::Ready("Ready".to_owned()));
        assert_eq!(
            with(one("Available", "Unknown", 2)),
            Readiness::Waiting("its condition Available is not True: R: m".to_owned())
        );
        assert!(with(one("Sunny", "False", 2)).is_ready(), "an unknown condition does not count");
        let both = json!({ "conditions": [{ "type": "Ready", "status": "False" }, { "type": "Available", "status": "True" }] });
        assert!(matches!(with(both), Readiness::Waiting(_)));
    }

    #[test]
    fn what_speaks_of_an_older_state_does_not_count() {
        assert_eq!(
            with(json!({ "observedGeneration": 1, "conditions": [{ "type": "Ready", "status": "True" }] })),
            Readiness::Waiting("its controller has not seen it yet".to_owned())
        );
        assert_eq!(
            with(one("Ready", "True", 1)),
            Readiness::Waiting("its condition Ready is of an older state".to_owned())
        );
        assert!(with(one("Stalled", "True", 1)).is_ready(), "it failed as it was before");
    }

    #[test]
    fn what_is_stalled_or_deleted_is_not_waited_for() {
        assert_eq!(
            with(one("Stalled", "True", 2)),
            Readiness::Failed("its condition Stalled is True: R: m".to_owned())
        );
        assert!(matches!(with(one("Failed", "True", 2)), Readiness::Failed(_)));
        assert!(matches!(with(one("Reconciling", "True", 2)), Readiness::Waiting(_)));
        let deleted = json!({ "metadata": { "deletionTimestamp": "2024-01-01T00:00:00Z" } });
        assert!(matches!(conditions(&serde_json::from_value(deleted).unwrap()), Readiness::Failed(_)));
    }
}
