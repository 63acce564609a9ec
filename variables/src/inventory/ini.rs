//! Inventories in INI format: `[group]`, `[group:vars]`, `[group:children]`, and hosts with variables on the same line.

use std::sync::Arc;

use super::groups::{Groups, Vars};
use super::literal::value_of;
use super::ranges::expand;
use crate::source::{Place, Source};
use crate::value::Value;
use crate::yaml::Node;

/// The kind of the lines below a section header.
enum Section {
    Hosts(String),
    Vars(String),
    Children(String),
}

/// Reads an inventory. `is_host` says which names of hosts are sound.
///
/// # Errors
/// The number of the line that cannot be read, and why.
pub fn parse(source: &Arc<Source>, is_host: fn(&str) -> bool) -> Result<Groups, (usize, String)> {
    let mut groups = Groups::default();
    let mut section = Section::Hosts("ungrouped".to_owned());
    for (number, line) in source.text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let wrong = |why| (number + 1, why);
        match header(line).map_err(wrong)? {
            Some(next) => {
                if let Section::Hosts(name) | Section::Children(name) = &next {
                    groups.declare(name);
                }
                section = next;
            }
            None => {
                let place = Place::new(source, number + 1);
                take(&mut groups, &section, line, &place, is_host).map_err(wrong)?;
            }
        }
    }
    Ok(groups)
}

/// Parses `[GROUP]` or `[GROUP:KIND]`. Returns `None` for any other line.
fn header(line: &str) -> Result<Option<Section>, String> {
    let Some(inner) = line.strip_prefix('[') else { return Ok(None) };
    // A host that begins with a bracket (an IPv6 address or a range) continues after the closing bracket.
    let Some((inner, rest)) = inner.split_once(']') else { return Err("a section needs its closing bracket".into()) };
    let rest = rest.trim_start();
    if !rest.is_empty() && !rest.starts_with('#') {
        return Ok(None);
    }
    match inner.rsplit_once(':') {
        None => Ok(Some(Section::Hosts(inner.to_owned()))),
        Some((group, "vars")) => Ok(Some(Section::Vars(group.to_owned()))),
        Some((group, "children")) => Ok(Some(Section::Children(group.to_owned()))),
        Some((group, "hosts")) => Ok(Some(Section::Hosts(group.to_owned()))),
        Some((_, kind)) => Err(format!("{kind:?} is none of hosts, vars and children")),
    }
}

fn take(
    groups: &mut Groups,
    section: &Section,
    line: &str,
    place: &Place,
    is_host: fn(&str) -> bool,
) -> Result<(), String> {
    match section {
        Section::Hosts(group) => {
            let words = shlex::split(line).ok_or("a quote is not closed")?;
            let [pattern, assignments @ ..] = words.as_slice() else { return Ok(()) };
            let (names, port) = expand(pattern, is_host)?;
            let port = port.map(|port| ("ansible_port".to_owned(), Node::of(Value::Int(port.into()), place.clone())));
            let mut vars: Vars = port.into_iter().collect();
            for word in assignments {
                let (name, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is no KEY=VALUE"))?;
                vars.push((name.to_owned(), Node::of(value_of(value), place.clone())));
            }
            for name in names {
                groups.add_host(group, &name, vars.clone())?;
            }
        }
        Section::Vars(group) => {
            let (name, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is no KEY=VALUE"))?;
            groups.declare(group);
            groups.set(group, name.trim(), Node::of(value_of(value.trim()), place.clone()));
        }
        Section::Children(group) => {
            let child = line.split(['#', ' ', '\t']).next().unwrap_or(line);
            groups.add_child(group, child);
        }
    }
    Ok(())
}
