//! The JSON Schema of `vcbuild.toml`, generated from the types that parse it.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::file::File;

/// How layers are compressed.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "a schema is made of the names alone")]
pub(super) enum Compression {
    /// Read by containerd 1.5, Docker 23.0 and newer.
    Zstd,
    /// Read by everything.
    Gzip,
    /// As they are.
    None,
}

/// Returns the schema, draft 2020-12. It covers names and types; parsing validates the rest.
pub(crate) fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(without_null));
    let mut schema = settings.into_generator().into_root_schema_for::<File>();
    schema.insert("title".to_owned(), Value::from("vcbuild.toml"));
    schema
}

/// Removes null from the schema: TOML has none, and omits unset values.
fn without_null(schema: &mut Schema) {
    let Some(fields) = schema.as_object_mut() else { return };
    if fields.get("default") == Some(&Value::Null) {
        fields.remove("default");
    }
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            fields.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(any)) = fields.get_mut("anyOf") {
        any.retain(|kind| kind.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(one)] = any.as_slice() {
            let one = one.clone();
            fields.remove("anyOf");
            fields.extend(one);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_key_is_described_and_null_is_nowhere() {
        let schema = super::schema().to_value();
        let text = schema.to_string();
        assert!(!text.contains("\"null\"") && !text.contains(":null"), "{text}");
        let tables = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        for table in tables.filter(|table| table["type"] == "object") {
            assert_eq!(table["additionalProperties"], false, "a key that is misspelt is told: {table}");
            for (key, value) in table["properties"].as_object().unwrap() {
                assert!(value["description"].is_string(), "{key} is not described: {value}");
            }
        }
    }
}
