//! Methods of Python's values, as far as templates call them: `text.split('.')`, `map.get('key')`.

use super::arguments::Arguments;
use super::{Budget, Fail, texts};
use crate::value::{Key, Value};

/// What a method returns.
pub(super) fn call(value: &Value, name: &str, arguments: &Arguments, budget: &Budget) -> Result<Value, Fail> {
    budget.spend_on(value)?;
    let found = match value {
        Value::Str(text) => of_text(text, value, name, arguments, budget)?,
        Value::Map(map) => match name {
            "keys" => Some(Value::list(map.keys().map(Key::value).collect())),
            "values" => Some(Value::list(map.values().cloned().collect())),
            "items" => Some(Value::list(
                map.iter().map(|(key, value)| Value::list(vec![key.value(), value.clone()])).collect(),
            )),
            "get" => {
                let default = arguments.get(1, "default").cloned().unwrap_or(Value::Null);
                let key = arguments.need(0, "key")?.key();
                Some(key.and_then(|key| map.get(&key)).cloned().unwrap_or(default))
            }
            _ => None,
        },
        _ => None,
    };
    found.ok_or_else(|| Fail::refused(format!("the method {name} of {}, which vcdist does not support", value.kind())))
}

fn of_text(
    text: &str,
    value: &Value,
    name: &str,
    arguments: &Arguments,
    budget: &Budget,
) -> Result<Option<Value>, Fail> {
    let chars = |name| arguments.get(0, name).filter(|value| **value != Value::Null).map(Value::to_string);
    let ends = |is_end: fn(&str, &str) -> bool| {
        let word = arguments.need(0, "prefix")?;
        Ok::<_, Fail>(match word {
            Value::List(words) => words.iter().any(|word| is_end(text, &word.to_string())),
            word => is_end(text, &word.to_string()),
        })
    };
    Ok(Some(match name {
        "lower" => Value::text(text.to_lowercase()),
        "upper" => Value::text(text.to_uppercase()),
        "strip" => chars("chars")
            .map_or_else(|| Value::text(text.trim()), |of| Value::text(text.trim_matches(|c| of.contains(c)))),
        "lstrip" => chars("chars").map_or_else(
            || Value::text(text.trim_start()),
            |of| Value::text(text.trim_start_matches(|c| of.contains(c))),
        ),
        "rstrip" => chars("chars")
            .map_or_else(|| Value::text(text.trim_end()), |of| Value::text(text.trim_end_matches(|c| of.contains(c)))),
        "startswith" => Value::Bool(ends(|text, word| text.starts_with(word))?),
        "endswith" => Value::Bool(ends(|text, word| text.ends_with(word))?),
        "split" => texts::split(value, arguments)?,
        "splitlines" => Value::list(text.lines().map(Value::text).collect()),
        "replace" => texts::replace(text, arguments, budget)?,
        _ => return Ok(None),
    }))
}
