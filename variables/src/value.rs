//! Values as Python has them: what a variable of Ansible's comes to, and how Python writes it as text.

use std::fmt::{self, Write};
use std::sync::Arc;

use indexmap::IndexMap;

/// A mapping, in the order in which its keys were written.
pub type Map = IndexMap<Key, Value>;

/// A value. Copies are cheap: they share what they hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Python's `None`.
    Null,
    /// `True` or `False`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Str(Arc<str>),
    /// A list.
    List(Arc<Vec<Value>>),
    /// A mapping.
    Map(Arc<Map>),
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// `None`.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number, by its bits.
    Float(u64),
    /// Text.
    Str(Arc<str>),
}

impl Key {
    /// The key as a value.
    #[must_use]
    pub fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::Bool(*bool),
            Self::Int(int) => Value::Int(*int),
            Self::Float(bits) => Value::Float(f64::from_bits(*bits)),
            Self::Str(text) => Value::Str(Arc::clone(text)),
        }
    }

    /// The key of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self::Str(text.into())
    }

    /// The text of the key, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }
}

impl Value {
    /// The value of a text.
    #[must_use]
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Str(text.as_ref().into())
    }

    /// The value of a list.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }

    /// The value of a mapping.
    #[must_use]
    pub fn map(map: Map) -> Self {
        Self::Map(Arc::new(map))
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }

    /// Whether Python takes it for true.
    #[must_use]
    pub fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(bool) => *bool,
            Self::Int(int) => *int != 0,
            Self::Float(float) => *float != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.is_empty(),
        }
    }

    /// The value as a key; nothing for lists and mappings, which are none.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        Some(match self {
            Self::Null => Key::Null,
            Self::Bool(bool) => Key::Bool(*bool),
            Self::Int(int) => Key::Int(*int),
            Self::Float(float) => Key::Float(float.to_bits()),
            Self::Str(text) => Key::Str(Arc::clone(text)),
            Self::List(_) | Self::Map(_) => return None,
        })
    }

    /// The name of its type, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Str(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    /// Whether two values are equal in Python, where `True == 1` and `1 == 1.0`.
    #[must_use]
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(one), Self::List(two)) => {
                one.len() == two.len() && one.iter().zip(two.iter()).all(|(one, two)| one.equals(two))
            }
            (Self::Map(one), Self::Map(two)) => {
                one.len() == two.len()
                    && one.iter().all(|(key, value)| two.get(key).is_some_and(|other| value.equals(other)))
            }
            _ => match (self.number(), other.number()) {
                (Some(one), Some(two)) => one == two,
                _ => self == other,
            },
        }
    }

    /// Its value as a number, if Python can count with it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "as Python compares an integer with a floating-point number")]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Bool(bool) => Some(f64::from(u8::from(*bool))),
            Self::Int(int) => Some(*int as f64),
            Self::Float(float) => Some(*float),
            Self::Null | Self::Str(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// How many values and bytes of text it would have if it were written out, counted no further than `most`.
    #[must_use]
    pub fn size(&self, most: u64) -> u64 {
        let mut left = most;
        self.count(&mut left);
        most - left
    }

    fn count(&self, left: &mut u64) {
        let own = 1 + self.as_str().map_or(0, |text| text.len() as u64);
        *left = left.saturating_sub(own);
        match self {
            Self::List(items) => {
                for item in items.iter() {
                    if *left == 0 {
                        break;
                    }
                    item.count(left);
                }
            }
            Self::Map(map) => {
                let keys: u64 = map.keys().map(|key| key.as_str().map_or(1, |text| text.len() as u64 + 1)).sum();
                *left = left.saturating_sub(keys);
                for item in map.values() {
                    if *left == 0 {
                        break;
                    }
                    item.count(left);
                }
            }
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Str(_) => {}
        }
    }

    /// The value as a JSON document; the keys as Python's `json` writes them.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Null => Json::Null,
            Self::Bool(bool) => Json::Bool(*bool),
            Self::Int(int) => Json::from(*int),
            Self::Float(float) => serde_json::Number::from_f64(*float).map_or(Json::Null, Json::Number),
            Self::Str(text) => Json::String((**text).to_owned()),
            Self::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(map) => {
                let key = |key: &Key| match key {
                    Key::Null => "null".to_owned(),
                    Key::Bool(bool) => bool.to_string(),
                    other => other.value().to_string(),
                };
                Json::Object(map.iter().map(|(name, value)| (key(name), value.to_json())).collect())
            }
        }
    }

    /// The value of a JSON document.
    #[must_use]
    pub fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Null,
            Json::Bool(bool) => Self::Bool(*bool),
            Json::Number(number) => {
                number.as_i64().map_or_else(|| Self::Float(number.as_f64().unwrap_or(f64::NAN)), Self::Int)
            }
            Json::String(text) => Self::text(text),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            Json::Object(map) => {
                Self::map(map.iter().map(|(key, value)| (Key::of(key), Self::from_json(value))).collect())
            }
        }
    }

    /// Python's `repr()`: as the value is written inside a list.
    fn repr(&self, out: &mut impl Write) -> fmt::Result {
        match self {
            Self::Str(text) => quoted(text, out),
            Self::List(items) => {
                out.write_char('[')?;
                for (at, item) in items.iter().enumerate() {
                    out.write_str(if at > 0 { ", " } else { "" })?;
                    item.repr(out)?;
                }
                out.write_char(']')
            }
            Self::Map(map) => {
                out.write_char('{')?;
                for (at, (key, value)) in map.iter().enumerate() {
                    out.write_str(if at > 0 { ", " } else { "" })?;
                    key.value().repr(out)?;
                    out.write_str(": ")?;
                    value.repr(out)?;
                }
                out.write_char('}')
            }
            Self::Null => out.write_str("None"),
            Self::Bool(true) => out.write_str("True"),
            Self::Bool(false) => out.write_str("False"),
            Self::Int(int) => write!(out, "{int}"),
            Self::Float(float) => out.write_str(&number(*float)),
        }
    }
}

/// Python's `str()`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(text) => f.write_str(text),
            other => other.repr(f),
        }
    }
}

/// A string as Python quotes it.
fn quoted(text: &str, out: &mut impl Write) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            c if c == quote => write!(out, "\\{c}")?,
            c if c.is_control() && u32::from(c) < 0x100 => write!(out, "\\x{:02x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char(quote)
}

/// A floating-point number as Python writes it: with an exponent below -4 and from 16.
fn number(float: f64) -> String {
    if float.is_nan() {
        return "nan".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{float:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ if float.fract() == 0.0 => format!("{float:.1}"),
        _ => format!("{float}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Map, Value};

    #[test]
    fn values_are_written_as_python_writes_them() {
        let cases = [
            (Value::Null, "None"),
            (Value::Bool(true), "True"),
            (Value::Float(1.0), "1.0"),
            (Value::Float(1e16), "1e+16"),
            (Value::Float(1e15), "1000000000000000.0"),
            (Value::Float(0.0001), "0.0001"),
            (Value::Float(0.00001), "1e-05"),
            (Value::Float(-2.5), "-2.5"),
            (Value::text("it's"), "it's"),
        ];
        for (value, text) in cases {
            assert_eq!(value.to_string(), text);
        }
        let map: Map = [(Key::of("a"), Value::text("it's")), (Key::Int(1), Value::text("\n\\"))].into_iter().collect();
        let list = Value::list(vec![Value::map(map), Value::Bool(false), Value::text("'\"")]);
        assert_eq!(list.to_string(), r#"[{'a': "it's", 1: '\n\\'}, False, '\'"']"#);
    }

    #[test]
    fn numbers_and_booleans_are_equal_as_in_python() {
        assert!(Value::Bool(true).equals(&Value::Int(1)) && Value::Int(1).equals(&Value::Float(1.0)));
        assert!(!Value::text("1").equals(&Value::Int(1)) && Value::Null.equals(&Value::Null));
        assert!(Value::list(vec![Value::Int(0)]).equals(&Value::list(vec![Value::Bool(false)])));
    }

    #[test]
    fn the_size_of_a_value_that_shares_its_parts_is_counted_to_a_limit() {
        let mut value = Value::text("x");
        for _ in 0..200 {
            value = Value::list(vec![value.clone(), value]);
        }
        assert_eq!(value.size(1000), 1000);
    }
}
