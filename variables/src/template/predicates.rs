//! Tests of values: `is none`, `is match('…')`. Those of what need not be defined are worked out before.

use minijinja::machinery::ast::CompareOpKind;

use super::arguments::Arguments;
use super::operators::compare;
use super::{Budget, Fail, regexes};
use crate::value::Value;

/// Whether a test holds of a value.
pub(super) fn holds(name: &str, value: &Value, arguments: &Arguments, budget: &Budget) -> Result<bool, Fail> {
    let other = |op| compare(op, value, arguments.need(0, "other")?);
    Ok(match name.strip_prefix("ansible.builtin.").unwrap_or(name) {
        "defined" => true,
        "undefined" => false,
        "none" => *value == Value::Null,
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => *value == Value::Bool(true),
        "false" => *value == Value::Bool(false),
        "string" => matches!(value, Value::Str(_)),
        // Python's booleans are integers, but not to this test.
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.number().is_some(),
        "mapping" => matches!(value, Value::Map(_)),
        "sequence" | "iterable" => matches!(value, Value::List(_) | Value::Map(_) | Value::Str(_)),
        "truthy" => value.is_true(),
        "falsy" => !value.is_true(),
        "eq" | "equalto" | "==" => other(CompareOpKind::Eq)?,
        "ne" | "!=" => other(CompareOpKind::Ne)?,
        "lt" | "lessthan" | "<" => other(CompareOpKind::Lt)?,
        "le" | "<=" => other(CompareOpKind::Lte)?,
        "gt" | "greaterthan" | ">" => other(CompareOpKind::Gt)?,
        "ge" | ">=" => other(CompareOpKind::Gte)?,
        "in" => other(CompareOpKind::In)?,
        "contains" => compare(CompareOpKind::In, arguments.need(0, "value")?, value)?,
        "lower" => {
            value.to_string() == value.to_string().to_lowercase() && value.to_string().contains(char::is_lowercase)
        }
        "upper" => {
            value.to_string() == value.to_string().to_uppercase() && value.to_string().contains(char::is_uppercase)
        }
        "match" | "search" | "regex" => regexes::is_match(name, value, arguments, budget)?,
        "even" => matches!(value, Value::Int(int) if int % 2 == 0),
        "odd" => matches!(value, Value::Int(int) if int % 2 != 0),
        other => return Err(Fail::refused(format!("the test {other}, which vcdist does not support"))),
    })
}
