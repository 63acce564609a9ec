//! Inventories in YAML format: groups with `hosts`, `vars` and `children`.

use camino::Utf8Path;
use serde_json::{Map, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

use super::Error;
use super::groups::{Groups, Vars};
use super::ranges::expand;

/// The maximum nesting of groups: deeper than any inventory. It bounds a file that is not an inventory.
const DEEPEST: usize = 64;

/// Parses an inventory. Returns `None` if the file is the configuration of an inventory plugin.
pub(super) fn parse(path: &Utf8Path, text: &str) -> Result<Option<Groups>, Error> {
    let wrong = |why| Error::Yaml { path: path.to_owned(), why };
    let document = document(text).map_err(wrong)?;
    let Value::Object(top) = document else { return Err(wrong("it has no groups".into())) };
    if top.get("plugin").is_some_and(Value::is_string) {
        return Ok(None);
    }
    let mut groups = Groups::default();
    for (name, group) in &top {
        take(&mut groups, name, group, 0).map_err(wrong)?;
    }
    Ok(Some(groups))
}

/// Parses a YAML document as Ansible does: of duplicate keys, the last wins.
pub(super) fn document(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

/// Returns the variables of a YAML mapping in the textual form of an INI file. Leaves out values that are not scalars,
/// because no variable that is needed here is one.
pub(super) fn vars(map: &Map<String, Value>) -> Vars {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    map.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

fn take(groups: &mut Groups, name: &str, group: &Value, depth: usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("its groups are nested more than {DEEPEST} deep"));
    }
    groups.declare(name);
    for (key, value) in &mapping(name, group)? {
        match key.as_str() {
            "hosts" => {
                for (pattern, vars) in &mapping("hosts", value)? {
                    let (names, port) = expand(pattern)?;
                    let mut vars = self::vars(&mapping(pattern, vars)?);
                    if let Some(port) = port {
                        vars.entry("ansible_port".into()).or_insert_with(|| port.to_string());
                    }
                    for host in names {
                        groups.add_host(name, &host, vars.clone())?;
                    }
                }
            }
            "vars" => {
                for (key, value) in vars(&mapping("vars", value)?) {
                    groups.set(name, &key, value);
                }
            }
            "children" => {
                for (child, group) in &mapping("children", value)? {
                    groups.add_child(name, child);
                    take(groups, child, group, depth + 1)?;
                }
            }
            other => return Err(format!("{name} has {other:?}, which is none of hosts, vars and children")),
        }
    }
    Ok(())
}

/// Returns a mapping; null is an empty one.
fn mapping(what: &str, value: &Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(map) => Ok(map.clone()),
        Value::Null => Ok(Map::new()),
        _ => Err(format!("{what} is no mapping")),
    }
}
