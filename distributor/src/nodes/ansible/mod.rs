//! Inventories of Ansible's, read as they are: INI or YAML, groups and their variables, `group_vars` and `host_vars` beside
//! the file. What vcdist does not honour is reported.

mod groups;
mod ini;
mod login;
mod ranges;
mod vars;
mod yaml;

use std::io::Read;

use camino::{Utf8Path, Utf8PathBuf};
use miette::Diagnostic;
use thiserror::Error;

use super::{Choice, Reach};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// A host of an inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name in the inventory.
    pub name: String,
    /// How commands get there.
    pub reach: Reach,
}

/// The hosts that were asked for, and what of the inventory cannot be honoured, one sentence each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// In the order of an INI file; those of a YAML file by group and name.
    pub hosts: Vec<Host>,
    /// For a person to read.
    pub notes: Vec<String>,
}

/// Why an inventory cannot be used.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("reading the inventory {path}")]
    #[diagnostic(help("give --inventory a file of Ansible's, in INI or YAML"))]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The inventory is a program or a plugin's configuration.
    #[error("the inventory {path} is {what}, which only Ansible can run")]
    #[diagnostic(help(
        "let it do so once: `ansible-inventory -i {path} --list --yaml --output hosts.yml`, then give hosts.yml"
    ))]
    Dynamic {
        /// The file.
        path: Utf8PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A line of an INI file.
    #[error("reading the inventory {path}, line {line}: {why}")]
    #[diagnostic(help("`ansible-inventory -i {path} --list` shows what Ansible makes of it"))]
    Line {
        /// The file.
        path: Utf8PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A YAML file.
    #[error("reading the inventory {path}: {why}")]
    #[diagnostic(help("`ansible-inventory -i {path} --list` shows what Ansible makes of it"))]
    Yaml {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Groups that do not fit together.
    #[error("reading the inventory {path}: {why}")]
    #[diagnostic(help("groups are declared in the file, and none is a child of its own"))]
    Groups {
        /// The file.
        path: Utf8PathBuf,
        /// What does not fit.
        why: String,
    },
    /// `--group` names none.
    #[error("the inventory {path} has no group {group}")]
    #[diagnostic(help("it has {}", known.join(", ")))]
    NoGroup {
        /// The file.
        path: Utf8PathBuf,
        /// The group asked for.
        group: String,
        /// The groups there are.
        known: Vec<String>,
    },
    /// A group without hosts.
    #[error("the inventory {path} has no host in {group}")]
    #[diagnostic(help("name another group with --group"))]
    Empty {
        /// The file.
        path: Utf8PathBuf,
        /// The group asked for.
        group: String,
    },
    /// The group has no host of a given name.
    #[error("the inventory {path} has no host {} in {group}", missing.join(", "))]
    #[diagnostic(help("it has {}", known.join(", ")))]
    NoHost {
        /// The file.
        path: Utf8PathBuf,
        /// The group asked for.
        group: String,
        /// The names given.
        missing: Vec<String>,
        /// The names there are.
        known: Vec<String>,
    },
    /// A host that cannot be reached over SSH.
    #[error("the inventory says of {host}: {variable}={value}, {why}")]
    #[diagnostic(help("{help}"))]
    Host {
        /// The host.
        host: String,
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
        /// Why that cannot be.
        why: &'static str,
        /// What to do.
        help: &'static str,
    },
}

/// Reads those hosts of `group` (`all` is every one) of the inventory at `path` that `choice` means, by its names alone: an inventory
/// says nothing of roles and labels. How the others are reached does not matter.
///
/// # Errors
/// When the file cannot be read or understood, has no such group or no host of a name, or a host cannot be reached over SSH.
pub fn read(path: &Utf8Path, group: &str, choice: &Choice) -> Result<Hosts, Error> {
    let text = text(path)?;
    let dynamic = |what| Err(Error::Dynamic { path: path.to_owned(), what });
    if text.starts_with("#!") {
        return dynamic("a program");
    }
    // Ansible too takes a file for YAML by its name.
    let mut groups = match path.extension() {
        Some("yml" | "yaml" | "json") => match yaml::parse(path, &text)? {
            Some(groups) => groups,
            None => return dynamic("a plugin's configuration"),
        },
        _ => ini::parse(path, &text)?,
    };
    groups.check().map_err(|why| Error::Groups { path: path.to_owned(), why })?;
    let names = groups.members(group).ok_or_else(|| Error::NoGroup {
        path: path.to_owned(),
        group: group.to_owned(),
        known: groups.names(),
    })?;
    if names.is_empty() {
        return Err(Error::Empty { path: path.to_owned(), group: group.to_owned() });
    }
    let missing = choice.missing(&names.iter().cloned().collect());
    if !missing.is_empty() {
        return Err(Error::NoHost { path: path.to_owned(), group: group.to_owned(), missing, known: names });
    }
    let meant: Vec<String> = names.into_iter().filter(|name| choice.means(name)).collect();
    vars::read_beside(path, &mut groups, &meant)?;
    let (mut hosts, mut notes) = (Vec::new(), login::Notes::default());
    let ranks = groups.ranks();
    for name in meant {
        let reach = login::reach(&name, &groups.vars_of(&name, &ranks), &mut notes)?;
        hosts.push(Host { name, reach });
    }
    Ok(Hosts { hosts, notes: notes.sentences() })
}

/// The text of a file, which must have an end.
fn text(path: &Utf8Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST {
        return Err(failed(std::io::Error::other(format!("it has more than {} MiB", LARGEST >> 20))));
    }
    Ok(text)
}

/// Reads an inventory in each form, and how each of its hosts is reached.
#[cfg(any(test, fuzzing))]
pub fn hostile(bytes: &[u8]) {
    let (text, path) = (String::from_utf8_lossy(bytes), Utf8Path::new("hosts"));
    let read = [ini::parse(path, &text).ok(), yaml::parse(path, &text).ok().flatten()];
    for groups in read.into_iter().flatten().filter(|groups| groups.check().is_ok()) {
        let (mut notes, ranks) = (login::Notes::default(), groups.ranks());
        for name in groups.members("all").unwrap_or_default() {
            let _ = login::reach(&name, &groups.vars_of(&name, &ranks), &mut notes);
        }
        let _ = notes.sentences();
    }
}

#[cfg(test)]
mod tests;
