//! Whether an object fits the schema of a definition (Kubernetes, "Structural schemas"): types, required fields, enumerations,
//! patterns and limits. The API server itself cannot be asked about a schema that it does not have yet. Rules in CEL are not
//! evaluated.

use regex::Regex;
use serde_json::{Map, Value};

/// What of an object does not fit a schema, each with its path: `spec.size: 5 is above the maximum 3`.
pub(super) fn violations(schema: &Value, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut schema = schema.clone();
    // The API server's own rules hold for these, whatever the schema says.
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.retain(|name, _| !["apiVersion", "kind", "metadata"].contains(&name.as_str()));
    }
    check(&schema, object, "", &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let place = if path.is_empty() { "the object" } else { path };
    if value.is_null() {
        // A null in a field that may not be null is dropped, as one that is absent.
        return;
    }
    if !has_type(schema, value) {
        let wanted = schema["type"].as_str().unwrap_or("integer or string");
        found.push(format!("{place}: {} is not of the type {wanted}", short(value)));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        found.push(format!("{place}: {} is not one of {}", short(value), allowed.join(", ")));
    }
    match value {
        Value::Object(fields) => check_object(schema, fields, path, found),
        Value::Array(items) => {
            limit(schema, "Items", items.len(), "items", place, found);
            for (i, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{i}]"), found);
            }
        }
        Value::String(text) => {
            limit(schema, "Length", text.chars().count(), "characters", place, found);
            if let Some(pattern) = schema["pattern"].as_str()
                && Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
            {
                found.push(format!("{place}: {} does not match {pattern}", short(value)));
            }
        }
        Value::Number(number) => check_number(schema, number.as_f64().unwrap_or_default(), value, place, found),
        _ => {}
    }
    check_alternatives(schema, value, path, found);
}

fn check_object(schema: &Value, fields: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    let place = if path.is_empty() { "the object" } else { path };
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let has_default = !schema["properties"][required]["default"].is_null();
        if fields.get(required).is_none_or(Value::is_null) && !has_default {
            found.push(format!("{}: it is required", join(path, required)));
        }
    }
    limit(schema, "Properties", fields.len(), "fields", place, found);
    for (name, value) in fields {
        match &schema["properties"][name] {
            Value::Null if schema["additionalProperties"].is_object() => {
                check(&schema["additionalProperties"], value, &join(path, name), found);
            }
            // A field that the schema does not have is dropped, and refused by nobody.
            Value::Null => {}
            property => check(property, value, &join(path, name), found),
        }
    }
}

fn check_number(schema: &Value, number: f64, value: &Value, place: &str, found: &mut Vec<String>) {
    if let Some(least) = schema["minimum"].as_f64() {
        let is_exclusive = schema["exclusiveMinimum"] == true;
        if number < least || (is_exclusive && number <= least) {
            found.push(format!("{place}: {value} is below the minimum {}", schema["minimum"]));
        }
    }
    if let Some(most) = schema["maximum"].as_f64() {
        let is_exclusive = schema["exclusiveMaximum"] == true;
        if number > most || (is_exclusive && number >= most) {
            found.push(format!("{place}: {value} is above the maximum {}", schema["maximum"]));
        }
    }
}

fn check_alternatives(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let place = if path.is_empty() { "the object" } else { path };
    let alternatives = |key: &str| schema[key].as_array().cloned().unwrap_or_default();
    let fits = |schema: &Value| {
        let mut found = Vec::new();
        check(schema, value, path, &mut found);
        found.is_empty()
    };
    alternatives("allOf").iter().for_each(|one| check(one, value, path, found));
    let any = alternatives("anyOf");
    if !any.is_empty() && !any.iter().any(fits) {
        found.push(format!("{place}: {} fits none of anyOf", short(value)));
    }
    let one = alternatives("oneOf");
    let count = one.iter().filter(|one| fits(one)).count();
    if !one.is_empty() && count != 1 {
        found.push(format!("{place}: {} fits {count} of oneOf", short(value)));
    }
    if schema["not"].is_object() && fits(&schema["not"]) {
        found.push(format!("{place}: {} is excluded", short(value)));
    }
}

fn has_type(schema: &Value, value: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        return value.is_i64() || value.is_u64() || value.is_string();
    }
    match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|it| it.fract() == 0.0),
        _ => true,
    }
}

/// `minLength` and `maxLength`, and the like.
fn limit(schema: &Value, what: &str, count: usize, unit: &str, place: &str, found: &mut Vec<String>) {
    let count = count as u64;
    if let Some(least) = schema[format!("min{what}")].as_u64().filter(|least| count < *least) {
        found.push(format!("{place}: {count} {unit} are less than {least}"));
    }
    if let Some(most) = schema[format!("max{what}")].as_u64().filter(|most| count > *most) {
        found.push(format!("{place}: {count} {unit} are more than {most}"));
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::violations;

    fn of(spec: Value, value: Value) -> Vec<String> {
        let mut schema = json!({ "type": "object", "properties": { "metadata": { "type": "string" } } });
        schema["properties"]["spec"] = spec;
        let mut object = json!({ "metadata": { "name": "x" } });
        object["spec"] = value;
        violations(&schema, &object)
    }

    #[test]
    fn types_enumerations_patterns_and_limits_are_checked() {
        let spec = json!({ "type": "object", "required": ["name", "mode"], "maxProperties": 6, "properties": {
            "name": { "type": "string", "pattern": "^[a-z]+$", "maxLength": 4 },
            "mode": { "type": "string", "enum": ["a", "b"], "default": "a" },
            "size": { "type": "integer", "minimum": 1, "maximum": 3 },
            "port": { "x-kubernetes-int-or-string": true },
            "list": { "type": "array", "minItems": 1, "items": { "type": "string" } },
            "map": { "type": "object", "additionalProperties": { "type": "boolean" } } } });
        assert!(
            of(
                spec.clone(),
                json!({ "name": "abc", "size": 3, "port": "http", "list": ["x"], "map": { "k": true }, "other": 1 })
            )
            .is_empty()
        );
        assert_eq!(
            of(spec.clone(), json!({ "mode": "c", "size": 5, "port": 1.5, "list": [], "map": { "k": "yes" } })),
            [
                "spec.name: it is required",
                "spec.list: 0 items are less than 1",
                "spec.map.k: \"yes\" is not of the type boolean",
                "spec.mode: \"c\" is not one of \"a\", \"b\"",
                "spec.port: 1.5 is not of the type integer or string",
                "spec.size: 5 is above the maximum 3",
            ]
        );
        assert_eq!(
            of(spec, json!({ "name": "ABCDE", "list": [1] })),
            [
                "spec.list[0]: 1 is not of the type string",
                "spec.name: 5 characters are more than 4",
                "spec.name: \"ABCDE\" does not match ^[a-z]+$",
            ]
        );
    }

    #[test]
    fn alternatives_and_limits_that_exclude_their_bound_are_checked() {
        let number = json!({ "type": "number", "minimum": 0, "exclusiveMinimum": true });
        assert_eq!(of(number.clone(), json!(0)), ["spec: 0 is below the minimum 0"]);
        assert!(of(number, json!(0.5)).is_empty());
        let any = json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }] });
        assert!(of(any.clone(), json!("x")).is_empty());
        assert_eq!(of(any, json!(true)), ["spec: true fits none of anyOf"]);
        let one = json!({ "type": "object", "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] });
        assert!(of(one.clone(), json!({ "a": 1 })).is_empty());
        assert_eq!(of(one, json!({ "a": 1, "b": 1 })).len(), 1);
        assert_eq!(of(json!({ "not": { "type": "string" } }), json!("x")), ["spec: \"x\" is excluded"]);
        let all = json!({ "allOf": [{ "maximum": 3 }] });
        assert_eq!(of(all, json!(4)), ["spec: 4 is above the maximum 3"]);
    }

    #[test]
    fn what_may_be_anything_and_what_is_null_fits() {
        let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        assert!(of(open, json!({ "a": { "b": [1] } })).is_empty());
        assert!(of(json!({ "type": "string" }), Value::Null).is_empty());
    }
}
