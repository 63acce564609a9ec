//! JSON as Python's `json` module writes it.

use std::fmt::Write;

use super::Fail;
use crate::value::{Key, Value};

/// The document of a value: a space behind commas and colons, and only ASCII.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    put(value, &mut out);
    out
}

/// The value of a document.
pub(super) fn read(value: &Value) -> Result<Value, Fail> {
    let Some(text) = value.as_str() else { return Err(Fail::wrong(format!("{} is not JSON", value.kind()))) };
    serde_json::from_str(text)
        .map(|json| Value::from_json(&json))
        .map_err(|error| Fail::wrong(format!("it is not JSON: {error}")))
}

fn put(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::Int(_) | Value::Float(_) => out.push_str(&value.to_string()),
        Value::Str(text) => string(text, out),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                put(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (at, (key, item)) in map.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                match key {
                    Key::Null => out.push_str("\"null\""),
                    Key::Bool(bool) => out.push_str(if *bool { "\"true\"" } else { "\"false\"" }),
                    other => string(&other.value().to_string(), out),
                }
                out.push_str(": ");
                put(item, out);
            }
            out.push('}');
        }
    }
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // Writing to a text does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}
