//! What an API server keeps, and how it changes: server-side apply, merge patches, and deletions with finalizers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{not_found, refusal, status_of};

/// The objects of a server by their paths.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(super) all: BTreeMap<String, Value>,
    made: u64,
}

impl Stored {
    pub(super) fn put(&mut self, path: &str, object: Value) {
        self.all.insert(path.to_owned(), object);
    }

    /// Whether a definition says that this group and version is there.
    pub(super) fn defines(&self, group: &str) -> bool {
        let definitions = self.all.iter().filter(|(path, _)| path.contains("/customresourcedefinitions/"));
        definitions.map(|(_, object)| &object["spec"]).any(|spec| {
            let versions = spec["versions"].as_array().into_iter().flatten();
            versions.map(|version| (&spec["group"], &version["name"])).any(|(name, version)| {
                name.as_str().zip(version.as_str()).is_some_and(|(name, version)| group == format!("{name}/{version}"))
            })
        })
    }

    /// Server-side apply: what this manager applied before and does not apply now goes.
    pub(super) fn apply(&mut self, path: &str, query: &str, applied: &Value) -> (u16, String) {
        let manager = query.split('&').find_map(|one| one.strip_prefix("fieldManager=")).unwrap_or_default().to_owned();
        let mut object = self.all.get(path).cloned().unwrap_or_else(|| self.given_metadata());
        if !object["roleRef"].is_null() && object["roleRef"] != applied["roleRef"] {
            let (code, text) = refusal(422, "Invalid", "roleRef: Invalid value: cannot change roleRef");
            let mut status: Value = serde_json::from_str(&text).expect("JSON");
            let cause =
                json!({ "reason": "FieldValueInvalid", "field": "roleRef", "message": "cannot change roleRef" });
            status["details"] = json!({ "causes": [cause] });
            return (code, status.to_string());
        }
        let managers = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let (own, others): (Vec<&Value>, Vec<&Value>) = managers.iter().partition(|it| it["manager"] == *manager);
        let conflicts: Vec<Value> =
            others.iter().flat_map(|other| conflicts(other, &other["fieldsV1"], &object, applied, "")).collect();
        if !conflicts.is_empty() && !query.contains("force=true") {
            let (code, text) = refusal(409, "Conflict", "Apply failed");
            let mut status: Value = serde_json::from_str(&text).expect("JSON");
            status["details"] = json!({ "causes": conflicts });
            return (code, status.to_string());
        }
        for own in own {
            withdraw(&mut object, &own["fieldsV1"], applied, &others);
        }
        merge(&mut object, applied);
        if let Some(status) = status_of(&object) {
            object["status"] = status;
        }
        let mut managers: Vec<Value> = managers.into_iter().filter(|entry| entry["manager"] != *manager).collect();
        managers.push(
            json!({ "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields(applied) }),
        );
        object["metadata"]["managedFields"] = json!(managers);
        if !query.contains("dryRun") {
            self.all.insert(path.to_owned(), object.clone());
        }
        (200, object.to_string())
    }

    pub(super) fn patch(&mut self, path: &str, patch: &Value) -> (u16, String) {
        // A webhook that fails closed, and that nobody answers for.
        if path.contains("/tenancy.x-k8s.io/")
            && self.all.keys().any(|path| path.contains("/validatingwebhookconfigurations/"))
        {
            return refusal(500, "InternalError", "failed calling webhook: no endpoints available");
        }
        let Some(object) = self.all.get_mut(path) else { return not_found() };
        patch_merge(object, patch);
        let object = object.clone();
        self.collect(path);
        (200, object.to_string())
    }

    pub(super) fn create(&mut self, path: &str, query: &str, mut object: Value) -> (u16, String) {
        let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
        if self.all.contains_key(&path) {
            return refusal(409, "AlreadyExists", "it already exists");
        }
        merge(&mut object, &self.given_metadata());
        let parts: Vec<&str> = path.split('/').collect();
        if let Some(at) = parts.iter().position(|part| *part == "namespaces").filter(|at| at + 2 < parts.len()) {
            object["metadata"]["namespace"] = json!(parts[at + 1]);
        }
        if !query.contains("dryRun") {
            self.all.insert(path, object.clone());
        }
        (201, object.to_string())
    }

    /// Replaces an object, unless it is another by now than the one that was read.
    pub(super) fn replace(&mut self, path: &str, mut object: Value) -> (u16, String) {
        let Some(before) = self.all.get(path) else { return not_found() };
        if object["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
            return refusal(409, "Conflict", "the object has been modified");
        }
        self.made += 1;
        object["metadata"]["resourceVersion"] = json!(self.made.to_string());
        self.all.insert(path.to_owned(), object.clone());
        (200, object.to_string())
    }

    pub(super) fn delete(&mut self, path: &str, options: &Value) -> (u16, String) {
        let Some(object) = self.all.get_mut(path) else { return not_found() };
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && *uid != object["metadata"]["uid"] {
            return refusal(409, "Conflict", "another uid");
        }
        object["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
        if path.starts_with("/api/v1/namespaces/") && path.split('/').count() == 5 {
            object["status"] = json!({ "phase": "Terminating" });
        }
        for below in self.below(path) {
            self.delete(&below, &Value::Null);
        }
        self.collect(path);
        (200, json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" }).to_string())
    }

    /// What goes with an object: all of a namespace, all of a definition.
    fn below(&self, path: &str) -> Vec<String> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_below = |other: &str| {
            if path.starts_with("/api/v1/namespaces/") && path.split('/').count() == 5 {
                other.contains(&format!("/namespaces/{name}/"))
            } else if path.contains("/customresourcedefinitions/") {
                let (plural, group) = name.split_once('.').unwrap_or_default();
                other.starts_with(&format!("/apis/{group}/")) && other.contains(&format!("/{plural}/"))
            } else {
                false
            }
        };
        self.all.keys().filter(|other| is_below(other)).cloned().collect()
    }

    /// Takes away what is deleted and waits for nothing any more.
    fn collect(&mut self, path: &str) {
        let Some(object) = self.all.get(path) else { return };
        let is_held = object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
        if object["metadata"]["deletionTimestamp"].is_null() || is_held || !self.below(path).is_empty() {
            return;
        }
        self.all.remove(path);
        let waiting: Vec<String> = self.all.keys().cloned().collect();
        let is_parent =
            |other: &String| other.contains("/customresourcedefinitions/") || other.starts_with("/api/v1/namespaces/");
        for parent in waiting.iter().filter(|other| is_parent(other)) {
            self.collect(parent);
        }
    }

    /// What a server gives to each new object.
    fn given_metadata(&mut self) -> Value {
        self.made += 1;
        json!({ "metadata": { "uid": format!("uid-{}", self.made), "resourceVersion": self.made.to_string(),
            "creationTimestamp": "2024-01-01T00:00:00Z" } })
    }
}

/// Lays what is applied over what is there.
fn merge(object: &mut Value, applied: &Value) {
    match (object, applied) {
        (Value::Object(object), Value::Object(applied)) => {
            applied.iter().for_each(|(key, value)| merge(object.entry(key).or_insert(Value::Null), value));
        }
        (object, applied) => *object = applied.clone(),
    }
}

/// As [`merge()`], where null takes away.
fn patch_merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    object.remove(key);
                } else {
                    patch_merge(object.entry(key).or_insert_with(|| json!({})), value);
                }
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

/// Takes away the fields that a manager had and does not apply any more, unless another one has them.
fn withdraw(object: &mut Value, had: &Value, now: &Value, others: &[&Value]) {
    withdraw_below(object, had, now, &others.iter().map(|other| &other["fieldsV1"]).collect::<Vec<_>>());
}

fn withdraw_below(object: &mut Value, had: &Value, now: &Value, others: &[&Value]) {
    let (Value::Object(object), Value::Object(had)) = (object, had) else { return };
    for (field, below) in had {
        let key = field.strip_prefix("f:").unwrap_or(field);
        let others: Vec<&Value> = others.iter().filter_map(|other| other.get(field)).collect();
        match now.get(key) {
            None if others.is_empty() => drop(object.remove(key)),
            now => {
                if let Some(object) = object.get_mut(key) {
                    withdraw_below(object, below, now.unwrap_or(&Value::Null), &others);
                }
            }
        }
    }
}

/// The fields of another manager that would change, as a server names them.
fn conflicts(manager: &Value, fields: &Value, object: &Value, applied: &Value, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for (field, below) in fields.as_object().into_iter().flatten() {
        let key = field.strip_prefix("f:").unwrap_or(field);
        let (Some(is), Some(would)) = (object.get(key), applied.get(key)) else { continue };
        let path = format!("{path}.{key}");
        if below.as_object().is_some_and(|below| !below.is_empty()) {
            found.extend(conflicts(manager, below, is, would, &path));
        } else if is != would {
            let message = format!("conflict with \"{}\" using v1", manager["manager"].as_str().unwrap_or_default());
            found.push(json!({ "reason": "FieldManagerConflict", "field": path, "message": message }));
        }
    }
    found
}

/// The fields of what is applied, as managed fields have them.
fn fields(applied: &Value) -> Value {
    let mut found = Map::new();
    for (key, value) in applied.as_object().into_iter().flatten() {
        found.insert(format!("f:{key}"), fields(value));
    }
    Value::Object(found)
}
