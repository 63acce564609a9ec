//! From values to typed ones, with the file and line in each complaint.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::Error;
use crate::resolve::Resolver;
use crate::table::{self, Kind};
use crate::value::{Key, Map, Value};

/// Reads variables one after another, and gathers what is wrong with them.
pub(super) struct Reader<'a, 'r> {
    resolver: &'a Resolver<'r>,
    pub(super) errors: Vec<Error>,
    pub(super) warnings: Vec<String>,
}

/// Where a value is: the variable or a part of it, and its file and line.
pub(super) struct At<'a> {
    name: String,
    place: String,
    kind: Kind,
    warnings: &'a mut Vec<String>,
}

/// A type that a variable is read as.
pub(super) trait Setting: Sized {
    /// What stands for a variable that nobody defined.
    fn absent() -> Option<Self> {
        None
    }

    /// Reads a value.
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error>;
}

impl<'a, 'r> Reader<'a, 'r> {
    pub(super) fn new(resolver: &'a Resolver<'r>) -> Self {
        Self { resolver, errors: Vec::new(), warnings: Vec::new() }
    }

    /// The value of a variable; nothing where it is wrong, which is noted.
    pub(super) fn take<T: Setting>(&mut self, name: &str) -> Option<T> {
        let Some(winner) = self.resolver.layers().winner(name) else { return T::absent() };
        let name = winner.older_name.as_deref().unwrap_or(name);
        let kind = table::find(name).or(table::find_older(name)).map_or(Kind::Text, |row| row.kind);
        let place = winner.node.place.to_string();
        let read = self.resolver.value(name).and_then(|value| {
            T::read(&value, &mut At { name: name.to_owned(), place, kind, warnings: &mut self.warnings })
        });
        read.map_err(|error| self.errors.push(error)).ok()
    }
}

impl At<'_> {
    /// The complaint that something else is needed.
    pub(super) fn wrong(&self, expected: impl Into<String>, found: &Value) -> Error {
        let found = match found {
            Value::Str(text) => format!("the text {text:?}"),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => found.to_string(),
            other => other.kind().to_owned(),
        };
        Error::Kind { name: self.name.clone(), place: self.place.clone(), expected: expected.into(), found }
    }

    /// The place of a part.
    fn part(&mut self, part: impl std::fmt::Display) -> At<'_> {
        At {
            name: format!("{}{part}", self.name),
            place: self.place.clone(),
            kind: Kind::Text,
            warnings: self.warnings,
        }
    }
}

/// The entries of a mapping.
pub(super) struct Entries<'a, 'w> {
    map: &'a Map,
    at: &'a mut At<'w>,
}

impl<'a, 'w> Entries<'a, 'w> {
    /// The entries of a value. Keys that are not among those known are warned about.
    pub(super) fn of(value: &'a Value, at: &'a mut At<'w>, known: &[&str]) -> Result<Self, Error> {
        let Value::Map(map) = value else { return Err(at.wrong("a mapping", value)) };
        for key in map.keys().map(|key| key.value().to_string()).filter(|key| !known.contains(&key.as_str())) {
            at.warnings.push(format!(
                "{}.{key} ({}) has no effect: the role reads {}",
                at.name,
                at.place,
                known.join(", ")
            ));
        }
        Ok(Self { map, at })
    }

    /// Whether an entry is there and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.map.get(&Key::of(name)).is_some_and(|value| *value != Value::Null)
    }

    /// An entry that may be absent.
    pub(super) fn get<T: Setting>(&mut self, name: &str) -> Result<Option<T>, Error> {
        match self.map.get(&Key::of(name)).filter(|value| **value != Value::Null) {
            Some(value) => T::read(value, &mut self.at.part(format_args!(".{name}"))).map(Some),
            None => Ok(None),
        }
    }

    /// An entry that must be there.
    pub(super) fn need<T: Setting>(&mut self, name: &str) -> Result<T, Error> {
        let found = self.get(name)?;
        found.ok_or_else(|| self.at.part(format_args!(".{name}")).wrong("there", &Value::Null))
    }

    /// Notes that the whole mapping is passed over, as the role does.
    pub(super) fn pass_over(&mut self, why: &str) {
        self.at.warnings.push(format!("{} ({}) is passed over, as by the role: {why}", self.at.name, self.at.place));
    }
}

impl Setting for bool {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        match value {
            Value::Bool(bool) => Ok(*bool),
            other if at.kind == Kind::Boolean => Err(at.wrong("a boolean: true or false, without quotes", other)),
            Value::Int(0) => Ok(false),
            Value::Int(1) => Ok(true),
            Value::Str(text) => match text.to_lowercase().as_str() {
                "yes" | "on" | "1" | "true" => Ok(true),
                "no" | "off" | "0" | "false" => Ok(false),
                _ => Err(at.wrong("true or false", value)),
            },
            other => Err(at.wrong("true or false", other)),
        }
    }
}

impl Setting for String {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        match value {
            Value::Str(text) => Ok((**text).to_owned()),
            Value::Int(_) | Value::Float(_) => Ok(value.to_string()),
            other => Err(at.wrong("text", other)),
        }
    }
}

impl Setting for u32 {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        let number = match value {
            Value::Int(int) => Self::try_from(*int).ok(),
            Value::Str(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| at.wrong("a whole number, not below zero", value))
    }
}

impl Setting for u16 {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        let port = u32::read(value, at).ok().and_then(|number| Self::try_from(number).ok());
        port.filter(|port| *port > 0).ok_or_else(|| at.wrong("a port: a number from 1 to 65535", value))
    }
}

impl Setting for Duration {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        match u32::read(value, at) {
            Ok(seconds) => Ok(Self::from_secs(seconds.into())),
            Err(_) => Err(at.wrong("a whole number of seconds", value)),
        }
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        let Value::List(items) = value else { return Err(at.wrong("a list", value)) };
        items.iter().enumerate().map(|(place, item)| T::read(item, &mut at.part(format_args!("[{place}]")))).collect()
    }
}

impl Setting for BTreeMap<String, String> {
    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        let Value::Map(map) = value else { return Err(at.wrong("a mapping", value)) };
        map.iter()
            .map(|(key, value)| {
                let key = key.value().to_string();
                let value = String::read(value, &mut at.part(format_args!(".{key}")))?;
                Ok((key, value))
            })
            .collect()
    }
}

impl<T: Setting> Setting for Option<T> {
    fn absent() -> Option<Self> {
        Some(None)
    }

    fn read(value: &Value, at: &mut At<'_>) -> Result<Self, Error> {
        if *value == Value::Null { Ok(None) } else { T::read(value, at).map(Some) }
    }
}
