//! Inventories in YAML format: groups with `hosts`, `vars` and `children`.

use std::sync::Arc;

use indexmap::IndexMap;

use super::groups::{Groups, Vars};
use super::ranges::expand;
use crate::source::Source;
use crate::value::{Key, Value};
use crate::yaml::{Content, Node, read};

/// The maximum nesting of groups: deeper than any inventory. It bounds a file that is not an inventory.
const DEEPEST: usize = 64;

/// Reads an inventory; nothing when the file configures a plugin that would make one. `is_host` says which names of hosts are sound.
///
/// # Errors
/// What cannot be read.
pub fn parse(source: &Arc<Source>, is_host: fn(&str) -> bool) -> Result<Option<Groups>, String> {
    let root = read(source).map_err(|(line, why)| format!("line {line}: {why}"))?.root;
    let Content::Map(top) = &root.content else { return Err("it has no groups".into()) };
    if matches!(top.get(&Key::of("plugin")).map(|node| &node.content), Some(Content::Value(Value::Str(_)))) {
        return Ok(None);
    }
    let mut reader = Reader { groups: Groups::default(), is_host };
    for (name, group) in top.iter() {
        reader.take(&text(name), group, 0)?;
    }
    Ok(Some(reader.groups))
}

struct Reader {
    groups: Groups,
    is_host: fn(&str) -> bool,
}

impl Reader {
    fn take(&mut self, name: &str, group: &Node, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("its groups are nested more than {DEEPEST} deep"));
        }
        self.groups.declare(name);
        for (key, value) in mapping(name, group)?.iter() {
            match text(key).as_str() {
                "hosts" => {
                    for (pattern, vars) in mapping("hosts", value)?.iter() {
                        let pattern = text(pattern);
                        let (names, port) = expand(&pattern, self.is_host)?;
                        let mut of: Vars = port
                            .map(|port| ("ansible_port".into(), Node::of(Value::Int(port.into()), vars.place.clone())))
                            .into_iter()
                            .collect();
                        of.extend(variables(mapping(&pattern, vars)?.as_ref()));
                        for host in names {
                            self.groups.add_host(name, &host, of.clone())?;
                        }
                    }
                }
                "vars" => {
                    for (key, value) in variables(mapping("vars", value)?.as_ref()) {
                        self.groups.set(name, &key, value);
                    }
                }
                "children" => {
                    for (child, group) in mapping("children", value)?.iter() {
                        let child = text(child);
                        self.groups.add_child(name, &child);
                        self.take(&child, group, depth + 1)?;
                    }
                }
                other => return Err(format!("{name} has {other:?}, which is none of hosts, vars and children")),
            }
        }
        Ok(())
    }
}

/// The variables of a mapping.
pub(super) fn variables(map: &IndexMap<Key, Node>) -> Vars {
    map.iter().map(|(name, node)| (text(name), node.clone())).collect()
}

fn text(key: &Key) -> String {
    key.value().to_string()
}

/// Returns a mapping; null is an empty one.
fn mapping(what: &str, node: &Node) -> Result<Arc<IndexMap<Key, Node>>, String> {
    node.mapping().ok_or_else(|| format!("{what} is no mapping"))
}
