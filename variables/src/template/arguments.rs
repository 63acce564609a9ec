//! The arguments of a filter, test or call, by place or by name.

use super::Fail;
use crate::value::Value;

/// Arguments.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) by_place: Vec<Value>,
    pub(super) by_name: Vec<(String, Value)>,
}

impl Arguments {
    /// The argument at a place, or of a name.
    pub(super) fn get(&self, place: usize, name: &str) -> Option<&Value> {
        let named = || self.by_name.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        self.by_place.get(place).or_else(named)
    }

    /// The argument, which must be there.
    pub(super) fn need(&self, place: usize, name: &str) -> Result<&Value, Fail> {
        self.get(place, name).ok_or_else(|| Fail::wrong(format!("the argument {name} is missing")))
    }

    /// The text of an argument, which must be there.
    pub(super) fn text(&self, place: usize, name: &str) -> Result<String, Fail> {
        self.need(place, name).map(Value::to_string)
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, place: usize, name: &str) -> bool {
        self.get(place, name).is_some_and(Value::is_true)
    }

    /// Refuses arguments by name that are not among those known.
    pub(super) fn only(&self, most: usize, names: &[&str]) -> Result<(), Fail> {
        if self.by_place.len() > most {
            return Err(Fail::wrong("it has too many arguments"));
        }
        match self.by_name.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            Some((name, _)) => Err(Fail::refused(format!("the argument {name}, which vcdist does not support"))),
            None => Ok(()),
        }
    }

    /// The arguments after the first.
    pub(super) fn rest(&self) -> Self {
        Self { by_place: self.by_place.iter().skip(1).cloned().collect(), by_name: self.by_name.clone() }
    }
}
