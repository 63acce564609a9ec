//! Finds how to reach the hosts of an Ansible inventory, which `vcvariables` reads, with the `group_vars` and `host_vars`
//! beside it. Reports settings that vcdist does not support.

mod login;
mod vars;

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use miette::Diagnostic;
use thiserror::Error;
use vcvariables::inventory::{self, Invalid};
#[cfg(any(test, fuzzing))]
use vcvariables::inventory::{ini, yaml};
use vcvariables::source::Source;

use super::{Address, Choice, Reach};
use vars::Beside;

/// A host of an inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name in the inventory.
    pub name: String,
    /// How it is reached.
    pub reach: Reach,
}

/// The requested hosts, and one sentence for each setting of the inventory that is not supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// In the order of the file.
    pub hosts: Vec<Host>,
    /// Sentences for the user.
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
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The inventory is a program or the configuration of a plugin.
    #[error("the inventory {path} is {what}, which only Ansible can run")]
    #[diagnostic(help(
        "let it do so once: `ansible-inventory -i {path} --list --yaml --output hosts.yml`, then give hosts.yml"
    ))]
    Dynamic {
        /// The file.
        path: Utf8PathBuf,
        /// A description of it.
        what: &'static str,
    },
    /// A line of an INI file is invalid.
    #[error("reading the inventory {path}, line {line}: {why}")]
    #[diagnostic(help("`ansible-inventory -i {path} --list` shows what Ansible makes of it"))]
    Line {
        /// The file.
        path: Utf8PathBuf,
        /// Its number, from 1.
        line: usize,
        /// The reason.
        why: String,
    },
    /// A YAML file is invalid.
    #[error("reading the inventory {path}: {why}")]
    #[diagnostic(help("`ansible-inventory -i {path} --list` shows what Ansible makes of it"))]
    Yaml {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        why: String,
    },
    /// The groups are inconsistent.
    #[error("reading the inventory {path}: {why}")]
    #[diagnostic(help("groups are declared in the file, and none is a child of its own"))]
    Groups {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        why: String,
    },
    /// `--group` names a group that does not exist.
    #[error("the inventory {path} has no group {group}")]
    #[diagnostic(help("it has {}", known.join(", ")))]
    NoGroup {
        /// The file.
        path: Utf8PathBuf,
        /// The requested group.
        group: String,
        /// The existing groups.
        known: Vec<String>,
    },
    /// The group has no hosts.
    #[error("the inventory {path} has no host in {group}")]
    #[diagnostic(help("name another group with --group"))]
    Empty {
        /// The file.
        path: Utf8PathBuf,
        /// The requested group.
        group: String,
    },
    /// A requested name is not a host of the group.
    #[error("the inventory {path} has no host {} in {group}", missing.join(", "))]
    #[diagnostic(help("it has {}", known.join(", ")))]
    NoHost {
        /// The file.
        path: Utf8PathBuf,
        /// The requested group.
        group: String,
        /// The names that are missing.
        missing: Vec<String>,
        /// The names of the group's hosts.
        known: Vec<String>,
    },
    /// A host cannot be reached over SSH.
    #[error("the inventory says of {host}: {variable}={value}, {why}")]
    #[diagnostic(help("{help}"))]
    Host {
        /// The host.
        host: String,
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
        /// The reason.
        why: &'static str,
        /// The help text.
        help: &'static str,
    },
}

/// Reads the inventory at `path` and returns the hosts of `group` (`all` is every host) that `choice` selects by name;
/// an inventory has no roles and labels. Ignores how the other hosts are reached.
///
/// # Errors
/// Returns an error if the file cannot be read or parsed, has no such group or no host of a requested name, or if a
/// host cannot be reached over SSH.
pub fn read(path: &Utf8Path, group: &str, choice: &Choice) -> Result<Hosts, Error> {
    let source = source(path)?;
    let groups = inventory::parse(&source, is_host).map_err(|invalid| match invalid {
        Invalid::Dynamic(what) => Error::Dynamic { path: path.to_owned(), what },
        Invalid::Line(line, why) => Error::Line { path: path.to_owned(), line, why },
        Invalid::Yaml(why) => Error::Yaml { path: path.to_owned(), why },
    })?;
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
    let beside = Beside::read(path, &groups, &meant)?;
    let (mut hosts, mut notes) = (Vec::new(), login::Notes::default());
    let ranks = groups.ranks();
    for name in meant {
        let reach = login::reach(&name, &beside.vars_of(&groups, &name, &ranks), &mut notes)?;
        hosts.push(Host { name, reach });
    }
    Ok(Hosts { hosts, notes: notes.sentences() })
}

/// Reads a file up to the size limit.
fn source(path: &Utf8Path) -> Result<Arc<Source>, Error> {
    Source::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Returns whether ssh accepts a name as a host.
fn is_host(name: &str) -> bool {
    Address::of(name.to_owned()).is_sound()
}

/// Parses an inventory in each format, and the way to reach each of its hosts.
#[cfg(any(test, fuzzing))]
pub fn hostile(bytes: &[u8]) {
    let source = Source::new("hosts", String::from_utf8_lossy(bytes));
    let read = [ini::parse(&source, is_host).ok(), yaml::parse(&source, is_host).ok().flatten()];
    for groups in read.into_iter().flatten().filter(|groups| groups.check().is_ok()) {
        let (mut notes, ranks) = (login::Notes::default(), groups.ranks());
        for name in groups.members("all").unwrap_or_default() {
            let _ = login::reach(&name, &Beside::default().vars_of(&groups, &name, &ranks), &mut notes);
        }
        let _ = notes.sentences();
    }
}

#[cfg(test)]
mod tests;
