//! Filters of lists and mappings.

use std::cmp::Ordering;

use super::arguments::Arguments;
use super::evaluate::{index, member};
use super::operators::order;
use super::statements::Renderer;
use super::{Budget, Fail, filters, predicates};
use crate::value::{Key, Map, Value};

impl Renderer<'_> {
    /// The items that a loop goes over.
    pub(super) fn items(&self, value: &Value) -> Result<Vec<Value>, Fail> {
        let items = items(value)?;
        self.names.budget().spend(items.len() as u64)?;
        Ok(items)
    }
}

/// The items of what Python can go over.
fn items(value: &Value) -> Result<Vec<Value>, Fail> {
    match value {
        Value::List(items) => Ok(items.to_vec()),
        Value::Map(map) => Ok(map.keys().map(Key::value).collect()),
        Value::Str(text) => Ok(text.chars().map(|c| Value::text(c.to_string())).collect()),
        other => Err(Fail::wrong(format!("{} is not a list", other.kind()))),
    }
}

/// What a filter of lists makes of a value; nothing when it is none.
pub(super) fn apply(name: &str, value: &Value, arguments: &Arguments, budget: &Budget) -> Option<Result<Value, Fail>> {
    Some(match name {
        "length" | "count" => length(value),
        "first" => end(value, 0),
        "last" => end(value, -1),
        "list" => items(value).map(Value::list),
        "map" => map(value, arguments, budget),
        "select" | "reject" => choose(name == "select", value, arguments, budget),
        "selectattr" | "rejectattr" => choose_by(name == "selectattr", value, arguments, budget),
        "unique" => arguments
            .only(1, &["case_sensitive"])
            .and_then(|()| unique(value, arguments.is_on(0, "case_sensitive"), budget)),
        "join" => join(value, arguments, budget),
        "sort" => sort(value, arguments),
        "reverse" => reversed(value),
        "min" => extreme(value, Ordering::Less),
        "max" => extreme(value, Ordering::Greater),
        "flatten" => flatten(value).map(Value::list),
        "union" | "difference" | "intersect" => combined(name, value, arguments, budget),
        "combine" => combine(value, arguments),
        "dict2items" => pairs(value),
        "items2dict" => from_pairs(value),
        _ => return None,
    })
}

/// `range()`.
pub(super) fn range(arguments: &Arguments, budget: &Budget) -> Result<Value, Fail> {
    arguments.only(3, &[])?;
    let number = |value: &Value| match value {
        Value::Int(int) => Ok(*int),
        other => Err(Fail::wrong(format!("{} is not a bound of range()", other.kind()))),
    };
    let numbers: Vec<i64> = arguments.by_place.iter().map(number).collect::<Result<_, _>>()?;
    let (start, stop, step) = match numbers.as_slice() {
        [stop] => (0, *stop, 1),
        [start, stop] => (*start, *stop, 1),
        [start, stop, step] if *step != 0 => (*start, *stop, *step),
        _ => return Err(Fail::wrong("range() needs an end, or a beginning, an end and a step")),
    };
    let mut found = Vec::new();
    let mut at = start;
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        budget.spend(1)?;
        found.push(Value::Int(at));
        at = at.saturating_add(step);
    }
    Ok(Value::list(found))
}

fn length(value: &Value) -> Result<Value, Fail> {
    let length = match value {
        Value::Str(text) => text.chars().count(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.len(),
        other => return Err(Fail::wrong(format!("{} has no length", other.kind()))),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn end(value: &Value, at: i64) -> Result<Value, Fail> {
    let items = items(value)?;
    let found = index(items.len(), at).and_then(|at| items.get(at).cloned());
    found.ok_or_else(|| Fail::undefined("an item of an empty list"))
}

/// An attribute of several parts, as filters take them.
fn attribute(value: &Value, path: &str) -> Result<Value, Fail> {
    path.split('.').try_fold(value.clone(), |value, part| {
        let key = part.parse().map_or_else(|_| Value::text(part), Value::Int);
        member(&value, &key)
    })
}

fn map(value: &Value, arguments: &Arguments, budget: &Budget) -> Result<Value, Fail> {
    let mapped = items(value)?.into_iter().map(|item| {
        if let Some(path) = arguments.get(usize::MAX, "attribute") {
            arguments.only(0, &["attribute", "default"])?;
            return match (attribute(&item, &path.to_string()), arguments.get(usize::MAX, "default")) {
                (Err(Fail::Undefined(..)), Some(default)) => Ok(default.clone()),
                (result, _) => result,
            };
        }
        let name = arguments.text(0, "filter")?;
        match name.strip_prefix("ansible.builtin.").unwrap_or(&name) {
            "default" | "d" | "ternary" | "map" => Err(Fail::refused(format!("the filter {name} within map"))),
            name => filters::apply(name, &item, &arguments.rest(), budget),
        }
    });
    mapped.collect::<Result<_, _>>().map(Value::list)
}

fn choose(keep: bool, value: &Value, arguments: &Arguments, budget: &Budget) -> Result<Value, Fail> {
    let mut kept = Vec::new();
    for item in items(value)? {
        let holds = match arguments.by_place.first() {
            None => item.is_true(),
            Some(test) => predicates::holds(&test.to_string(), &item, &arguments.rest(), budget)?,
        };
        kept.extend((holds == keep).then_some(item));
    }
    Ok(Value::list(kept))
}

fn choose_by(keep: bool, value: &Value, arguments: &Arguments, budget: &Budget) -> Result<Value, Fail> {
    let (path, after) = (arguments.text(0, "attribute")?, arguments.rest());
    let mut kept = Vec::new();
    for item in items(value)? {
        let of = attribute(&item, &path);
        let holds = match (after.by_place.first().map(Value::to_string).as_deref(), of) {
            (Some("defined"), of) => !matches!(of, Err(Fail::Undefined(..))),
            (Some("undefined"), of) => matches!(of, Err(Fail::Undefined(..))),
            (None, of) => of?.is_true(),
            (Some(test), of) => predicates::holds(test, &of?, &after.rest(), budget)?,
        };
        kept.extend((holds == keep).then_some(item));
    }
    Ok(Value::list(kept))
}

/// Texts that differ by their case alone are one, unless it is asked otherwise.
fn folded(value: &Value, case_sensitive: bool) -> Value {
    match value {
        Value::Str(text) if !case_sensitive => Value::text(text.to_lowercase()),
        other => other.clone(),
    }
}

fn unique(value: &Value, case_sensitive: bool, budget: &Budget) -> Result<Value, Fail> {
    let mut seen: Vec<Value> = Vec::new();
    let mut kept = Vec::new();
    for item in items(value)? {
        let form = folded(&item, case_sensitive);
        budget.spend(seen.len() as u64)?;
        if !seen.iter().any(|known| known.equals(&form)) {
            seen.push(form);
            kept.push(item);
        }
    }
    Ok(Value::list(kept))
}

fn join(value: &Value, arguments: &Arguments, budget: &Budget) -> Result<Value, Fail> {
    arguments.only(2, &["d", "attribute"])?;
    let separator = arguments.get(0, "d").map(Value::to_string).unwrap_or_default();
    let path = arguments.get(1, "attribute").map(Value::to_string);
    let of = |item: Value| path.as_ref().map_or_else(|| Ok(item.clone()), |path| attribute(&item, path));
    let parts: Vec<String> =
        items(value)?.into_iter().map(|item| of(item).map(|item| item.to_string())).collect::<Result<_, _>>()?;
    budget.spend((separator.len() as u64).saturating_mul(parts.len() as u64))?;
    Ok(Value::text(parts.join(&separator)))
}

fn sort(value: &Value, arguments: &Arguments) -> Result<Value, Fail> {
    arguments.only(3, &["reverse", "case_sensitive", "attribute"])?;
    let case_sensitive = arguments.is_on(1, "case_sensitive");
    let path = arguments.get(2, "attribute").map(Value::to_string);
    let mut keyed = Vec::new();
    for item in items(value)? {
        let by = path.as_ref().map_or_else(|| Ok(item.clone()), |path| attribute(&item, path))?;
        keyed.push((folded(&by, case_sensitive), item));
    }
    for pair in keyed.windows(2) {
        order(&pair[0].0, &pair[1].0)?;
    }
    let by = |one: &Value, two: &Value| order(one, two).ok().flatten().unwrap_or(Ordering::Equal);
    if arguments.is_on(0, "reverse") {
        keyed.sort_by(|one, two| by(&two.0, &one.0));
    } else {
        keyed.sort_by(|one, two| by(&one.0, &two.0));
    }
    Ok(Value::list(keyed.into_iter().map(|(_, item)| item).collect()))
}

fn reversed(value: &Value) -> Result<Value, Fail> {
    if let Some(text) = value.as_str() {
        return Ok(Value::text(text.chars().rev().collect::<String>()));
    }
    items(value).map(|items| Value::list(items.into_iter().rev().collect()))
}

fn extreme(value: &Value, which: Ordering) -> Result<Value, Fail> {
    let mut found: Option<Value> = None;
    for item in items(value)? {
        let better = match &found {
            None => true,
            Some(best) => order(&folded(&item, false), &folded(best, false))? == Some(which),
        };
        found = if better { Some(item) } else { found };
    }
    found.ok_or_else(|| Fail::undefined("an item of an empty list"))
}

fn flatten(value: &Value) -> Result<Vec<Value>, Fail> {
    let mut flat = Vec::new();
    for item in items(value)? {
        match item {
            Value::List(_) => flat.extend(flatten(&item)?),
            Value::Null => {}
            other => flat.push(other),
        }
    }
    Ok(flat)
}

fn combined(name: &str, value: &Value, arguments: &Arguments, budget: &Budget) -> Result<Value, Fail> {
    let (one, two) = (items(value)?, items(arguments.need(0, "b")?)?);
    budget.spend((one.len() as u64).saturating_mul(two.len() as u64))?;
    let is_in = |items: &[Value], item: &Value| items.iter().any(|known| known.equals(item));
    let list = match name {
        "union" => one.into_iter().chain(two).collect(),
        "difference" => one.into_iter().filter(|item| !is_in(&two, item)).collect(),
        _ => one.into_iter().filter(|item| is_in(&two, item)).collect(),
    };
    unique(&Value::list(list), true, budget)
}

fn combine(value: &Value, arguments: &Arguments) -> Result<Value, Fail> {
    arguments.only(usize::MAX, &[])?;
    let mut whole = Map::new();
    for part in std::iter::once(value).chain(&arguments.by_place) {
        let Value::Map(part) = part else {
            return Err(Fail::wrong(format!("combine takes mappings, and one is {}", part.kind())));
        };
        whole.extend(part.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    Ok(Value::map(whole))
}

fn pairs(value: &Value) -> Result<Value, Fail> {
    let Value::Map(map) = value else { return Err(Fail::wrong(format!("{} is not a mapping", value.kind()))) };
    let pair = |(key, value): (&Key, &Value)| {
        Value::map([(Key::of("key"), key.value()), (Key::of("value"), value.clone())].into_iter().collect())
    };
    Ok(Value::list(map.iter().map(pair).collect()))
}

fn from_pairs(value: &Value) -> Result<Value, Fail> {
    let mut map = Map::new();
    for item in items(value)? {
        let key = member(&item, &Value::text("key"))?;
        let key = key.key().ok_or_else(|| Fail::wrong(format!("{} cannot be a key", key.kind())))?;
        map.insert(key, member(&item, &Value::text("value"))?);
    }
    Ok(Value::map(map))
}
