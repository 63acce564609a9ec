//! What differs between an object as it is and as it would be: the fields people set, by path, old and new.
//! Fields that the server keeps for itself are left out, and a Secret's values are never shown.

use serde::Serialize;
use serde_json::Value;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Where: `spec.template.spec.containers[vc-manager].image`.
    pub field: String,
    /// What it is, as JSON; none where it is absent.
    pub from: Option<String>,
    /// What it would be, as JSON; none where it would be absent.
    pub to: Option<String>,
}

/// Metadata that changes by itself.
const BOOKKEEPING: [&str; 6] =
    ["managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"];

/// Annotations in which the server and its controllers count.
const COUNTERS: [&str; 2] = ["deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation"];

/// The fields in which `new` differs from `old`, both as the server returns them.
#[must_use]
pub(super) fn diff(old: &Value, new: &Value) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    compare("", &stripped(old), &stripped(new), &mut changes);
    if old["kind"] == "Secret" || new["kind"] == "Secret" {
        for change in changes.iter_mut().filter(|change| change.field.starts_with("data")) {
            for value in [&mut change.from, &mut change.to].into_iter().flatten() {
                "(hidden)".clone_into(value);
            }
        }
    }
    changes
}

fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|name, _| !BOOKKEEPING.contains(&name.as_str()));
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.retain(|name, _| !COUNTERS.contains(&name.as_str()));
            }
        }
    }
    object
}

fn compare(path: &str, old: &Value, new: &Value, changes: &mut Vec<FieldChange>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                let path = join(path, key);
                compare(&path, old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null), changes);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            match (by_name(old), by_name(new)) {
                (Some(old), Some(new)) => {
                    let find = |list: &[(&str, &Value)], name: &str| {
                        list.iter().find(|(other, _)| *other == name).map_or(Value::Null, |(_, value)| (*value).clone())
                    };
                    for name in old.iter().map(|(name, _)| *name).chain(
                        new.iter().map(|(name, _)| *name).filter(|name| !old.iter().any(|(other, _)| other == name)),
                    ) {
                        compare(&format!("{path}[{name}]"), &find(&old, name), &find(&new, name), changes);
                    }
                }
                _ => compare_items(path, old, new, changes),
            }
        }
        _ => changes.push(change(path, old, new)),
    }
}

/// A list of plain words, as arguments are, by what left it and what came; any other as a whole.
fn compare_items(path: &str, old: &[Value], new: &[Value], changes: &mut Vec<FieldChange>) {
    let plain = |list: &[Value]| list.iter().all(|item| !item.is_object() && !item.is_array());
    let gone: Vec<&Value> = old.iter().filter(|item| !new.contains(item)).collect();
    let come: Vec<&Value> = new.iter().filter(|item| !old.contains(item)).collect();
    if !plain(old) || !plain(new) || (gone.is_empty() && come.is_empty()) {
        changes.push(change(path, &Value::Array(old.to_vec()), &Value::Array(new.to_vec())));
        return;
    }
    let path = format!("{path}[]");
    changes.extend(gone.into_iter().map(|item| change(&path, item, &Value::Null)));
    changes.extend(come.into_iter().map(|item| change(&path, &Value::Null, item)));
}

/// A list whose items each have a name of their own, as containers and volumes do, by those names.
fn by_name(list: &[Value]) -> Option<Vec<(&str, &Value)>> {
    let named: Option<Vec<_>> = list.iter().map(|item| Some((item.get("name")?.as_str()?, item))).collect();
    named.filter(|named| {
        let mut names: Vec<_> = named.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.windows(2).all(|pair| pair[0] != pair[1])
    })
}

fn change(path: &str, old: &Value, new: &Value) -> FieldChange {
    FieldChange { field: path.to_owned(), from: text(old), to: text(new) }
}

/// A value as people read it; none for one that is absent.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Keys that hold dots or slashes, as labels do, are put in brackets.
pub(super) fn join(path: &str, key: &str) -> String {
    if key.contains(['.', '/']) {
        format!("{path}[{key}]")
    } else if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::diff;

    #[test]
    fn fields_are_found_by_name_and_bookkeeping_is_passed_over() {
        let old = json!({
            "metadata": { "name": "x", "resourceVersion": "1", "labels": { "app": "a", "example.com/b": "1" } },
            "spec": { "containers": [{ "name": "a", "image": "i:1" }, { "name": "b" }], "args": ["x", "z"], "order": [1, 2] },
            "status": { "replicas": 1 },
        });
        let new = json!({
            "metadata": { "name": "x", "resourceVersion": "2", "labels": { "app": "a" } },
            "spec": { "containers": [{ "name": "a", "image": "i:2" }], "args": ["y", "z"], "order": [2, 1], "replicas": 2 },
            "status": { "replicas": 2 },
        });
        let changes: Vec<String> = diff(&old, &new)
            .iter()
            .map(|change| format!("{}: {:?} -> {:?}", change.field, change.from.as_deref(), change.to.as_deref()))
            .collect();
        assert_eq!(
            changes,
            [
                r#"metadata.labels[example.com/b]: Some("1") -> None"#,
                r#"spec.args[]: Some("x") -> None"#,
                r#"spec.args[]: None -> Some("y")"#,
                r#"spec.containers[a].image: Some("i:1") -> Some("i:2")"#,
                r#"spec.containers[b]: Some("{\"name\":\"b\"}") -> None"#,
                r#"spec.order: Some("[1,2]") -> Some("[2,1]")"#,
                r#"spec.replicas: None -> Some("2")"#,
            ]
        );
        assert_eq!(diff(&old, &old), []);
    }

    #[test]
    fn secrets_stay_secret() {
        let secret = |value: &str| json!({ "kind": "Secret", "data": { "client.key": value } });
        let changes = diff(&secret("b2xk"), &secret("bmV3"));
        assert_eq!(changes[0].field, "data[client.key]");
        assert_eq!((changes[0].from.as_deref(), changes[0].to.as_deref()), (Some("(hidden)"), Some("(hidden)")));
    }
}
