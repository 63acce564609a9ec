//! Python's operators.

use minijinja::machinery::ast::{BinOpKind, CompareOpKind};

use super::{Budget, Fail};
use crate::value::Value;

/// A value with its sign changed.
pub(super) fn negative(value: &Value) -> Result<Value, Fail> {
    match value {
        Value::Int(int) => int.checked_neg().map(Value::Int).ok_or_else(too_large),
        Value::Float(float) => Ok(Value::Float(-float)),
        other => Err(Fail::wrong(format!("{} has no sign", other.kind()))),
    }
}

/// An operation of two values; `and`, `or` and `~` are not among them.
pub(super) fn binary(op: BinOpKind, left: &Value, right: &Value, budget: &Budget) -> Result<Value, Fail> {
    let comparison = |op| compare(op, left, right).map(Value::Bool);
    match op {
        BinOpKind::Eq => comparison(CompareOpKind::Eq),
        BinOpKind::Ne => comparison(CompareOpKind::Ne),
        BinOpKind::Lt => comparison(CompareOpKind::Lt),
        BinOpKind::Lte => comparison(CompareOpKind::Lte),
        BinOpKind::Gt => comparison(CompareOpKind::Gt),
        BinOpKind::Gte => comparison(CompareOpKind::Gte),
        BinOpKind::In => comparison(CompareOpKind::In),
        BinOpKind::Add => add(left, right, budget),
        BinOpKind::Mul => multiply(left, right, budget),
        BinOpKind::Rem if left.as_str().is_some() => Err(Fail::refused("formatting with %")),
        BinOpKind::ScAnd | BinOpKind::ScOr | BinOpKind::Concat => Err(Fail::wrong("it is not valid Jinja")),
        _ => arithmetic(op, left, right),
    }
}

/// Whether a comparison holds.
pub(super) fn compare(op: CompareOpKind, left: &Value, right: &Value) -> Result<bool, Fail> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    Ok(match op {
        CompareOpKind::Eq => left.equals(right),
        CompareOpKind::Ne => !left.equals(right),
        CompareOpKind::In => contains(right, left)?,
        CompareOpKind::NotIn => !contains(right, left)?,
        CompareOpKind::Lt => order(left, right)? == Some(Less),
        CompareOpKind::Gt => order(left, right)? == Some(Greater),
        CompareOpKind::Lte => matches!(order(left, right)?, Some(Less | Equal)),
        CompareOpKind::Gte => matches!(order(left, right)?, Some(Greater | Equal)),
    })
}

/// How two values are ordered; nothing where one is not a number that can be compared.
pub(super) fn order(left: &Value, right: &Value) -> Result<Option<std::cmp::Ordering>, Fail> {
    match (left, right) {
        (Value::Str(one), Value::Str(two)) => Ok(Some(one.cmp(two))),
        (Value::Int(one), Value::Int(two)) => Ok(Some(one.cmp(two))),
        (Value::List(one), Value::List(two)) => {
            for (one, two) in one.iter().zip(two.iter()) {
                if !one.equals(two) {
                    return order(one, two);
                }
            }
            Ok(Some(one.len().cmp(&two.len())))
        }
        _ => match (left.number(), right.number()) {
            (Some(one), Some(two)) => Ok(one.partial_cmp(&two)),
            _ => Err(Fail::wrong(format!("{} and {} have no order", left.kind(), right.kind()))),
        },
    }
}

/// Whether a text, list or mapping has something in it.
pub(super) fn contains(whole: &Value, part: &Value) -> Result<bool, Fail> {
    match (whole, part) {
        (Value::Str(whole), Value::Str(part)) => Ok(whole.contains(&**part)),
        (Value::List(items), part) => Ok(items.iter().any(|item| item.equals(part))),
        (Value::Map(map), part) => Ok(part.key().is_some_and(|key| map.contains_key(&key))),
        (whole, part) => Err(Fail::wrong(format!("{} cannot have {} in it", whole.kind(), part.kind()))),
    }
}

fn add(left: &Value, right: &Value, budget: &Budget) -> Result<Value, Fail> {
    match (left, right) {
        (Value::Str(one), Value::Str(two)) => {
            budget.spend((one.len() + two.len()) as u64)?;
            Ok(Value::text(format!("{one}{two}")))
        }
        (Value::List(one), Value::List(two)) => {
            budget.spend((one.len() + two.len()) as u64)?;
            Ok(Value::list(one.iter().chain(two.iter()).cloned().collect()))
        }
        _ => arithmetic(BinOpKind::Add, left, right),
    }
}

fn multiply(left: &Value, right: &Value, budget: &Budget) -> Result<Value, Fail> {
    let (many, times) = match (left, right) {
        (many @ (Value::Str(_) | Value::List(_)), Value::Int(times))
        | (Value::Int(times), many @ (Value::Str(_) | Value::List(_))) => (many, usize::try_from(*times).unwrap_or(0)),
        _ => return arithmetic(BinOpKind::Mul, left, right),
    };
    let length = if let Value::List(items) = many { items.len() } else { many.as_str().map_or(0, str::len) };
    budget.spend((length.max(1) as u64).saturating_mul(times as u64))?;
    Ok(match many {
        Value::List(items) => Value::list((0..times).flat_map(|_| items.iter().cloned()).collect()),
        text => Value::text(text.to_string().repeat(times)),
    })
}

fn arithmetic(op: BinOpKind, left: &Value, right: &Value) -> Result<Value, Fail> {
    let integer = |value: &Value| match value {
        Value::Int(int) => Some(*int),
        Value::Bool(bool) => Some(i64::from(*bool)),
        _ => None,
    };
    let (Some(one), Some(two)) = (left.number(), right.number()) else {
        return Err(Fail::wrong(format!("there is no such operation of {} and {}", left.kind(), right.kind())));
    };
    if two == 0.0 && matches!(op, BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem) {
        return Err(Fail::wrong("it divides by zero"));
    }
    if let (Some(one), Some(two)) = (integer(left), integer(right)) {
        let whole = match op {
            BinOpKind::Add => one.checked_add(two),
            BinOpKind::Sub => one.checked_sub(two),
            BinOpKind::Mul => one.checked_mul(two),
            BinOpKind::FloorDiv => floor_div(one, two),
            BinOpKind::Rem => floor_div(one, two).and_then(|by| one.checked_sub(by.checked_mul(two)?)),
            BinOpKind::Pow if two >= 0 => u32::try_from(two).ok().and_then(|two| one.checked_pow(two)),
            _ => return Ok(Value::Float(float(op, left.number().unwrap_or(0.0), right.number().unwrap_or(0.0)))),
        };
        return whole.map(Value::Int).ok_or_else(too_large);
    }
    Ok(Value::Float(float(op, one, two)))
}

fn float(op: BinOpKind, one: f64, two: f64) -> f64 {
    match op {
        BinOpKind::Add => one + two,
        BinOpKind::Sub => one - two,
        BinOpKind::Mul => one * two,
        BinOpKind::Div => one / two,
        BinOpKind::FloorDiv => (one / two).floor(),
        BinOpKind::Rem => one - two * (one / two).floor(),
        BinOpKind::Pow => one.powf(two),
        _ => f64::NAN,
    }
}

/// Python rounds down.
fn floor_div(one: i64, two: i64) -> Option<i64> {
    let by = one.checked_div(two)?;
    if one % two != 0 && (one < 0) != (two < 0) { by.checked_sub(1) } else { Some(by) }
}

fn too_large() -> Fail {
    Fail::wrong("a number is larger than 64 bits hold")
}

/// Python's `value[start:stop:step]`.
pub(super) fn slice(value: &Value, start: Option<i64>, stop: Option<i64>, step: Option<i64>) -> Result<Value, Fail> {
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Fail::wrong("the step of a slice is zero"));
    }
    let places = |length: usize| {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let bound = |at: Option<i64>, absent: i64| match at {
            None => absent,
            Some(at) if at < 0 => at.saturating_add(length).clamp(low, high),
            Some(at) => at.clamp(low, high),
        };
        let (first, last) =
            if step > 0 { (bound(start, 0), bound(stop, length)) } else { (bound(start, length - 1), bound(stop, -1)) };
        let mut places = Vec::new();
        let mut at = first;
        while (step > 0 && at < last) || (step < 0 && at > last) {
            places.extend(usize::try_from(at).ok());
            at = at.saturating_add(step);
        }
        places
    };
    match value {
        Value::List(items) => {
            Ok(Value::list(places(items.len()).into_iter().filter_map(|at| items.get(at).cloned()).collect()))
        }
        Value::Str(text) => {
            let chars: Vec<char> = text.chars().collect();
            Ok(Value::text(places(chars.len()).into_iter().filter_map(|at| chars.get(at)).collect::<String>()))
        }
        other => Err(Fail::wrong(format!("{} has no parts", other.kind()))),
    }
}
