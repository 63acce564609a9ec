//! The filters: what each is called, and where it is.

use super::arguments::Arguments;
use super::{Budget, Fail, json, lists, regexes, texts};
use crate::value::Value;

/// What a filter makes of a value.
pub(super) fn apply(name: &str, value: &Value, arguments: &Arguments, budget: &Budget) -> Result<Value, Fail> {
    // Whatever a filter reads of a value, it reads once.
    budget.spend_on(value)?;
    match name {
        "bool" => Ok(boolean(value)),
        "string" => Ok(Value::text(value.to_string())),
        "int" => integer(value, arguments),
        "float" => Ok(Value::Float(float(value).unwrap_or(0.0))),
        "abs" => absolute(value),
        "mandatory" => Ok(value.clone()),
        "to_json" => {
            arguments.only(0, &[])?;
            Ok(Value::text(json::write(value)))
        }
        "from_json" => json::read(value),
        "regex_replace" | "regex_search" | "regex_findall" | "regex_escape" => {
            regexes::apply(name, value, arguments, budget)
        }
        "password_hash" => Err(Fail::refused(
            "the filter password_hash, whose result differs at each run (write the hash, or leave the variable to Ansible)",
        )),
        _ => {
            match texts::apply(name, value, arguments, budget).or_else(|| lists::apply(name, value, arguments, budget))
            {
                Some(result) => result,
                None => Err(Fail::refused(format!("the filter {name}, which vcdist does not support"))),
            }
        }
    }
}

/// What Ansible takes for true; null stays null.
pub(super) fn boolean(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Str(text) => Value::Bool(matches!(text.to_lowercase().as_str(), "yes" | "on" | "1" | "true")),
        other => Value::Bool(other.number() == Some(1.0)),
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Str(text) => {
            let text = text.trim().replace('_', "");
            // Rust reads more words as numbers than Python does.
            text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)).then(|| text.parse().ok()).flatten()
        }
        other => other.number(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "Python's int() cuts the fraction off; what is out of range is refused"
)]
fn integer(value: &Value, arguments: &Arguments) -> Result<Value, Fail> {
    arguments.only(2, &["default", "base"])?;
    let default = arguments.get(0, "default").cloned().unwrap_or(Value::Int(0));
    let base = match arguments.get(1, "base") {
        None => 10,
        Some(Value::Int(base @ 2..=36)) => u32::try_from(*base).unwrap_or(10),
        Some(_) => return Err(Fail::wrong("the base of int is not one from 2 to 36")),
    };
    let whole = match value {
        Value::Int(int) => Some(*int),
        Value::Bool(bool) => Some(i64::from(*bool)),
        Value::Str(text) => {
            let text = text.trim().replace('_', "");
            let digits = match base {
                16 => text.trim_start_matches("0x"),
                8 => text.trim_start_matches("0o"),
                2 => text.trim_start_matches("0b"),
                _ => &text,
            };
            i64::from_str_radix(digits, base).ok()
        }
        Value::Null | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
    };
    let cut = || float(value).map(f64::trunc).filter(|float| float.abs() < 9e18).map(|float| float as i64);
    Ok(whole.or_else(cut).map_or(default, Value::Int))
}

fn absolute(value: &Value) -> Result<Value, Fail> {
    match value {
        Value::Int(int) => int.checked_abs().map(Value::Int).ok_or_else(|| Fail::wrong("a number is out of range")),
        Value::Float(float) => Ok(Value::Float(float.abs())),
        other => Err(Fail::wrong(format!("{} has no absolute value", other.kind()))),
    }
}
