//! The values of a chart with their defaults, and the JSON schema by which Helm refuses every other value: a misspelt one would
//! change nothing.

use serde_json::{Map, Value, json};

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Text,
    Tag,
    Digest,
    Count,
    Switch,
    Texts,
    Objects,
    Mapping,
    PullPolicy,
}

/// Values and their schema.
#[derive(Debug)]
pub(super) struct Defaults {
    values: Value,
    schema: Value,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { values: json!({}), schema: mapping() }
    }
}

impl Defaults {
    /// Adds a value, and returns the expression that gives it in a template.
    pub(super) fn add(&mut self, path: &[String], default: Value, shape: Shape) -> String {
        let (mut values, mut schema) = (&mut self.values, &mut self.schema);
        for key in path {
            if values.is_null() {
                *values = json!({});
                *schema = mapping();
            }
            values = &mut values[key.as_str()];
            schema = &mut schema["properties"][key.as_str()];
        }
        *values = default;
        *schema = shape.schema();
        expression(path)
    }

    /// `values.yaml` without its comments.
    pub(super) fn values(&self) -> &Value {
        &self.values
    }

    /// `values.schema.json`.
    pub(super) fn schema(&self) -> Value {
        let mut schema = self.schema.clone();
        schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
        // Helm adds it to the values of a chart that is a dependency of another.
        schema["properties"]["global"] = json!({ "type": "object" });
        schema
    }
}

impl Shape {
    fn schema(self) -> Value {
        match self {
            Self::Text => json!({ "type": "string" }),
            // `helm --set` makes a number of `2`.
            Self::Tag => json!({ "type": ["string", "integer"] }),
            Self::Digest => json!({ "type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$" }),
            Self::Count => json!({ "type": "integer", "minimum": 0 }),
            Self::Switch => json!({ "type": "boolean" }),
            Self::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Self::Objects => json!({ "type": "array", "items": { "type": "object" } }),
            Self::Mapping => json!({ "type": "object" }),
            Self::PullPolicy => json!({ "enum": ["Always", "IfNotPresent", "Never"] }),
        }
    }
}

/// The expression for a value: `.Values.a.b`, or with `index` where a key is not an identifier.
pub(super) fn expression(path: &[String]) -> String {
    let is_identifier = |key: &String| {
        !key.starts_with(|first: char| first.is_ascii_digit())
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if path.iter().all(is_identifier) {
        return format!(".Values.{}", path.join("."));
    }
    let keys: Vec<String> = path.iter().map(|key| format!(" {key:?}")).collect();
    format!("(index .Values{})", keys.concat())
}

fn mapping() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": Map::new() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Defaults, Shape};

    #[test]
    fn values_nest_and_nothing_else_is_valid() {
        let mut defaults = Defaults::default();
        let path = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(defaults.add(&path(&["a", "n"]), json!(1), Shape::Count), ".Values.a.n");
        assert_eq!(defaults.add(&path(&["a", "b-c"]), json!(true), Shape::Switch), "(index .Values \"a\" \"b-c\")");
        assert_eq!(*defaults.values(), json!({ "a": { "n": 1, "b-c": true } }));
        let inner = &defaults.schema()["properties"]["a"];
        assert_eq!(
            (&inner["additionalProperties"], &inner["properties"]["n"]["type"]),
            (&json!(false), &json!("integer"))
        );
    }
}
