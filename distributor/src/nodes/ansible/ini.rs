//! Inventories in INI format: `[group]`, `[group:vars]`, `[group:children]`, and hosts with variables on the same line.

use camino::Utf8Path;

use super::Error;
use super::groups::Groups;
use super::ranges::expand;

/// The kind of the lines below a section header.
enum Section {
    Hosts(String),
    Vars(String),
    Children(String),
}

/// Parses an inventory.
pub(super) fn parse(path: &Utf8Path, text: &str) -> Result<Groups, Error> {
    let mut groups = Groups::default();
    let mut section = Section::Hosts("ungrouped".to_owned());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let wrong = |why| Error::Line { path: path.to_owned(), line: number + 1, why };
        match header(line).map_err(wrong)? {
            Some(next) => {
                if let Section::Hosts(name) | Section::Children(name) = &next {
                    groups.declare(name);
                }
                section = next;
            }
            None => take(&mut groups, &section, line).map_err(wrong)?,
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

fn take(groups: &mut Groups, section: &Section, line: &str) -> Result<(), String> {
    match section {
        Section::Hosts(group) => {
            let words = shlex::split(line).ok_or("a quote is not closed")?;
            let [pattern, assignments @ ..] = words.as_slice() else { return Ok(()) };
            let (names, port) = expand(pattern)?;
            let port = port.map(|port| ("ansible_port".to_owned(), port.to_string()));
            let mut vars: Vec<(String, String)> = port.into_iter().collect();
            for word in assignments {
                let (name, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is no KEY=VALUE"))?;
                vars.push((name.to_owned(), value.to_owned()));
            }
            for name in names {
                groups.add_host(group, &name, vars.clone())?;
            }
        }
        Section::Vars(group) => {
            let (name, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is no KEY=VALUE"))?;
            groups.declare(group);
            groups.set(group, name.trim(), value_of(value.trim()));
        }
        Section::Children(group) => {
            let child = line.split(['#', ' ', '\t']).next().unwrap_or(line);
            groups.add_child(group, child);
        }
    }
    Ok(())
}

/// Returns a value of a `vars` section: a Python literal with an optional comment after it, or the whole line.
fn value_of(text: &str) -> String {
    let literal = |text: &str, quote: char| {
        let (inner, rest) = text.strip_prefix(quote)?.split_once(quote)?;
        let rest = rest.trim_start();
        (rest.is_empty() || rest.starts_with('#')).then(|| inner.to_owned())
    };
    let number = || {
        let (word, rest) = text.split_once('#')?;
        let word = word.trim();
        (!rest.is_empty() && word.parse::<i64>().is_ok()).then(|| word.to_owned())
    };
    literal(text, '"').or_else(|| literal(text, '\'')).or_else(number).unwrap_or_else(|| text.to_owned())
}
