//! Fields of an object that people and programs other than vcdist have set beside its own, read from its managed fields
//! (Kubernetes, "Server-Side Apply"). The cluster's own controllers do not count.

use kube::api::DynamicObject;
use serde_json::Value;

use super::FIELD_MANAGER;
use super::diff::{FieldChange, join, text};

/// What a cluster runs itself.
const CONTROLLERS: [&str; 4] = ["kube-controller-manager", "kube-apiserver", "kube-scheduler", "kubelet"];

/// Where people's fields are: what is left out changes by itself.
const PLACES: [&str; 6] = ["f:spec", "f:rules", "f:subjects", "f:roleRef", "f:data", "f:metadata"];

/// Fields that are set beside an object's own and say nothing of it.
const HARMLESS: [&str; 2] = ["kubernetes.io/metadata.name", "kubectl.kubernetes.io/restartedAt"];

/// The fields that others own and vcdist does not, each with what it is.
pub(super) fn foreign_fields(object: &DynamicObject) -> Vec<FieldChange> {
    let entries = || object.metadata.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
    let is_ours = |manager: &str| manager == FIELD_MANAGER || manager.starts_with("vcdist-");
    let ours: Vec<&Value> = entries()
        .filter(|entry| entry.manager.as_deref().is_some_and(is_ours))
        .filter_map(|entry| entry.fields_v1.as_ref().map(|fields| &fields.0))
        .collect();
    let live = serde_json::to_value(object).unwrap_or_default();
    let mut found: Vec<FieldChange> = Vec::new();
    for entry in entries() {
        let manager = entry.manager.as_deref().unwrap_or_default();
        let Some(fields) = entry.fields_v1.as_ref().filter(|_| !is_ours(manager) && !CONTROLLERS.contains(&manager))
        else {
            continue;
        };
        found.extend(fields_left(&fields.0, &ours, &live));
    }
    found.sort_by(|a, b| a.field.cmp(&b.field));
    found.dedup();
    found
}

/// The fields of the managed fields `theirs` that none of `ours` has, as they are in the object `live`.
pub(super) fn fields_left(theirs: &Value, ours: &[&Value], live: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    for place in PLACES {
        let Some(theirs) = theirs.get(place) else { continue };
        // Of metadata, labels alone: annotations are where everybody notes things.
        let (theirs, place) = match place {
            "f:metadata" => (theirs.get("f:labels").unwrap_or(&Value::Null), &["f:metadata", "f:labels"][..]),
            _ => (theirs, std::slice::from_ref(&place)),
        };
        let ours: Vec<&Value> =
            ours.iter().filter_map(|ours| place.iter().try_fold(*ours, |it, key| it.get(key))).collect();
        let names = || place.iter().map(|key| &key[2..]);
        let path = names().collect::<Vec<_>>().join(".");
        let value = names().try_fold(live, |it, name| it.get(name));
        walk(theirs, &ours, value.unwrap_or(&Value::Null), &path, &mut found);
    }
    found
}

fn walk(theirs: &Value, ours: &[&Value], live: &Value, path: &str, found: &mut Vec<FieldChange>) {
    for (key, below) in theirs.as_object().into_iter().flatten() {
        let Some((kind, name)) = key.split_once(':') else { continue };
        let (path, value) = match kind {
            "f" if !HARMLESS.contains(&name) => (join(path, name), live.get(name).cloned()),
            "k" => {
                let keys: Value = serde_json::from_str(name).unwrap_or_default();
                let label = keys["name"].as_str().map_or_else(|| name.to_owned(), str::to_owned);
                (format!("{path}[{label}]"), item(live, &keys).cloned())
            }
            "v" => (format!("{path}[]"), serde_json::from_str(name).ok()),
            _ => continue,
        };
        let Some(value) = value else { continue };
        let ours: Vec<&Value> = ours.iter().filter_map(|ours| ours.get(key)).collect();
        let is_whole =
            below.as_object().is_none_or(serde_json::Map::is_empty) || (kind == "k" && below.get(".").is_some());
        if is_whole && ours.is_empty() {
            found.push(FieldChange { field: path, from: text(&value), to: None });
        } else {
            walk(below, &ours, &value, &path, found);
        }
    }
}

/// The item of a list that has these keys.
fn item<'a>(list: &'a Value, keys: &Value) -> Option<&'a Value> {
    let keys = keys.as_object()?;
    list.as_array()?.iter().find(|item| keys.iter().all(|(key, value)| item.get(key) == Some(value)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::foreign_fields;

    fn found(managers: &[(&str, Value)]) -> Vec<String> {
        let entries: Vec<Value> = managers
            .iter()
            .map(|(manager, fields)| json!({ "manager": manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields }))
            .collect();
        let object = json!({ "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "d", "labels": { "a.b/c": "x" }, "managedFields": entries },
            "spec": { "paused": true, "replicas": 2, "template": { "spec": { "containers": [
                { "name": "c", "image": "i", "env": [{ "name": "E", "value": "1" }], "args": ["-v"] }] } } } });
        let fields = foreign_fields(&serde_json::from_value(object).unwrap());
        fields.iter().map(|one| format!("{}={}", one.field, one.from.as_deref().unwrap_or("?"))).collect()
    }

    fn container(fields: &Value) -> Value {
        json!({ "f:spec": { "f:template": { "f:spec": { "f:containers": { "k:{\"name\":\"c\"}": fields } } } } })
    }

    #[test]
    fn what_somebody_added_is_found_down_to_an_item_of_a_list() {
        let ours = container(&json!({ ".": {}, "f:name": {}, "f:image": {} }));
        let edit = container(
            &json!({ "f:image": {}, "f:env": { ".": {}, "k:{\"name\":\"E\"}": { ".": {}, "f:name": {}, "f:value": {} } } }),
        );
        assert_eq!(
            found(&[("vcdist", ours.clone()), ("kubectl-edit", edit)]),
            [r#"spec.template.spec.containers[c].env[E]={"name":"E","value":"1"}"#]
        );
        let set = json!({ "f:metadata": { "f:labels": { "f:a.b/c": {} }, "f:annotations": { "f:x": {} } }, "f:spec": { "f:paused": {} } });
        assert_eq!(found(&[("vcdist", ours), ("kubectl", set)]), ["metadata.labels[a.b/c]=x", "spec.paused=true"]);
    }

    #[test]
    fn what_the_cluster_itself_sets_and_what_is_ours_too_and_what_is_gone_is_no_drift() {
        let replicas = json!({ "f:spec": { "f:replicas": {} } });
        assert!(found(&[("kube-controller-manager", replicas.clone())]).is_empty());
        assert!(found(&[("vcdist", replicas.clone()), ("kubectl", replicas)]).is_empty());
        assert!(
            found(&[("kubectl", json!({ "f:spec": { "f:gone": {} }, "f:status": { "f:replicas": {} } }))]).is_empty()
        );
        assert!(found(&[("kubectl", json!("odd")), ("x", json!({ "f:spec": { "odd": {}, "k:?": {} } }))]).is_empty());
    }
}
