//! Filters of texts.

use super::arguments::Arguments;
use super::{Budget, Fail};
use crate::value::Value;

/// What a filter of texts makes of a value; nothing when it is none.
pub(super) fn apply(name: &str, value: &Value, arguments: &Arguments, budget: &Budget) -> Option<Result<Value, Fail>> {
    let text = || value.to_string();
    let none = || arguments.only(0, &[]);
    Some(match name {
        "lower" => none().map(|()| Value::text(text().to_lowercase())),
        "upper" => none().map(|()| Value::text(text().to_uppercase())),
        "capitalize" => none().map(|()| Value::text(capitalized(&text()))),
        "trim" => trim(&text(), arguments),
        "replace" => replace(&text(), arguments, budget),
        "split" => split(value, arguments),
        "quote" => shlex::try_quote(&text()).map(Value::text).map_err(|_| Fail::wrong("a null byte cannot be quoted")),
        "basename" => Ok(Value::text(text().rsplit('/').next().unwrap_or_default())),
        "dirname" => Ok(Value::text(folder(&text()))),
        _ => return None,
    })
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().collect::<String>() + &chars.as_str().to_lowercase())
        .unwrap_or_default()
}

fn trim(text: &str, arguments: &Arguments) -> Result<Value, Fail> {
    arguments.only(1, &["chars"])?;
    Ok(Value::text(match arguments.get(0, "chars") {
        None | Some(Value::Null) => text.trim().to_owned(),
        Some(chars) => {
            let chars = chars.to_string();
            text.trim_matches(|c| chars.contains(c)).to_owned()
        }
    }))
}

pub(super) fn replace(text: &str, arguments: &Arguments, budget: &Budget) -> Result<Value, Fail> {
    arguments.only(3, &["old", "new", "count"])?;
    let (old, new) = (arguments.text(0, "old")?, arguments.text(1, "new")?);
    let count = match arguments.get(2, "count") {
        Some(Value::Int(count)) => usize::try_from(*count).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let found = text.matches(&old).take(count).count() as u64;
    budget.spend((text.len() as u64).saturating_add(found.saturating_mul(new.len() as u64)))?;
    Ok(Value::text(text.replacen(&old, &new, count)))
}

/// Python's `str.split()`.
pub(super) fn split(value: &Value, arguments: &Arguments) -> Result<Value, Fail> {
    arguments.only(2, &["sep", "maxsplit"])?;
    let Some(text) = value.as_str() else { return Err(Fail::wrong(format!("{} cannot be split", value.kind()))) };
    let most = match arguments.get(1, "maxsplit") {
        Some(Value::Int(most)) => usize::try_from(*most).ok(),
        _ => None,
    };
    let separator = arguments.get(0, "sep").filter(|value| **value != Value::Null).map(Value::to_string);
    let parts: Vec<Value> = match (separator, most) {
        (Some(separator), _) if separator.is_empty() => return Err(Fail::wrong("the separator is empty")),
        (Some(separator), Some(most)) => text.splitn(most.saturating_add(1), &separator).map(Value::text).collect(),
        (Some(separator), None) => text.split(&separator).map(Value::text).collect(),
        (None, Some(_)) => return Err(Fail::refused("split with a number of parts and without a separator")),
        (None, None) => text.split_whitespace().map(Value::text).collect(),
    };
    Ok(Value::list(parts))
}

/// Python's `os.path.dirname()`.
fn folder(path: &str) -> String {
    let (folder, _) = path.rsplit_once('/').map_or(("", path), |(folder, _)| (&path[..=folder.len()], ""));
    let trimmed = folder.trim_end_matches('/');
    if trimmed.is_empty() { folder.to_owned() } else { trimmed.to_owned() }
}
