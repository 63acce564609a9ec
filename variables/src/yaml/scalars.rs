//! What a plain scalar means in YAML 1.1, by the rules of PyYAML's resolver.

use std::sync::LazyLock;

use regex::Regex;

use crate::value::Value;

static INT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^(?:[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$",
    )
    .ok()
});

static FLOAT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
    )
    .ok()
});

/// The value of a plain scalar. Dates stay text, as Ansible prints them.
#[must_use]
pub fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Value::Bool(false),
        _ => {}
    }
    let is = |pattern: &LazyLock<Option<Regex>>| (**pattern).as_ref().is_some_and(|pattern| pattern.is_match(text));
    // Longer numbers than any that has a meaning here stay text.
    let value = if !text.starts_with(['-', '+', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        None
    } else if is(&INT) {
        integer(text).map(Value::Int)
    } else if is(&FLOAT) {
        float(text).map(Value::Float)
    } else {
        None
    };
    value.unwrap_or_else(|| Value::text(text))
}

fn integer(text: &str) -> Option<i64> {
    let text = text.replace('_', "");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(&text)),
    };
    let value = if digits == "0" {
        0
    } else if let Some(binary) = digits.strip_prefix("0b") {
        i64::from_str_radix(binary, 2).ok()?
    } else if let Some(hex) = digits.strip_prefix("0x") {
        i64::from_str_radix(hex, 16).ok()?
    } else if digits.starts_with('0') {
        i64::from_str_radix(digits, 8).ok()?
    } else if digits.contains(':') {
        digits.split(':').try_fold(0_i64, |sum, part| sum.checked_mul(60)?.checked_add(part.parse().ok()?))?
    } else {
        digits.parse().ok()?
    };
    Some(sign * value)
}

fn float(text: &str) -> Option<f64> {
    let text = text.replace('_', "").to_lowercase();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(&text)),
    };
    let value = match digits {
        ".inf" => f64::INFINITY,
        ".nan" => f64::NAN,
        _ if digits.contains(':') => {
            digits.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))?
        }
        _ => digits.parse().ok()?,
    };
    Some(sign * value)
}

#[cfg(test)]
mod tests {
    use super::{Value, plain};

    #[test]
    fn plain_scalars_are_those_of_yaml_1_1() {
        let int = Value::Int;
        let cases = [
            ("0755", int(0o755)),
            ("0o755", Value::text("0o755")),
            ("08", Value::text("08")),
            ("0x1F", int(31)),
            ("0b101", int(5)),
            ("1_000", int(1000)),
            ("1:30", int(90)),
            ("190:20:30", int(685_230)),
            ("-7", int(-7)),
            ("0", int(0)),
            ("1.5", Value::Float(1.5)),
            ("1.", Value::Float(1.0)),
            ("1e5", Value::text("1e5")),
            ("1.5e3", Value::text("1.5e3")),
            ("1.5e+3", Value::Float(1500.0)),
            ("-.inf", Value::Float(f64::NEG_INFINITY)),
            ("yes", Value::Bool(true)),
            ("Off", Value::Bool(false)),
            ("y", Value::text("y")),
            ("tRue", Value::text("tRue")),
            ("~", Value::Null),
            ("1.31", Value::Float(1.31)),
            ("1.31.0", Value::text("1.31.0")),
            ("99999999999999999999", Value::text("99999999999999999999")),
            ("2026-01-02", Value::text("2026-01-02")),
            ("10Gi", Value::text("10Gi")),
        ];
        for (text, value) in cases {
            assert_eq!(plain(text), value, "{text}");
        }
        assert!(matches!(plain(".nan"), Value::Float(float) if float.is_nan()));
    }
}
