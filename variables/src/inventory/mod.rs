//! Inventories of Ansible's, read as they are: INI or YAML, groups, hosts and their variables.

mod beside;
mod groups;
pub mod ini;
mod literal;
mod ranges;
pub mod yaml;

use std::io;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use miette::Diagnostic;
use thiserror::Error;

pub use beside::files;
pub use groups::{ALL, Groups, Ranks, Vars, word};

use crate::source::Source;

/// Names in a folder of inventories that Ansible passes over.
const PASSED_OVER: [&str; 9] = ["~", ".orig", ".bak", ".ini", ".cfg", ".retry", ".pyc", ".pyo", ".swp"];

/// Why an inventory cannot be used.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("reading the inventory {path}")]
    #[diagnostic(help("give --inventory a file of Ansible's, in INI or YAML, or a folder of them"))]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
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
    /// A file cannot be understood.
    #[error("reading the inventory {path}: {why}")]
    #[diagnostic(help("`ansible-inventory -i {path} --list` shows what Ansible reads"))]
    Wrong {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        why: String,
    },
}

/// Reads an inventory, or each one in a folder.
///
/// # Errors
/// When a file cannot be read or understood, or the groups do not fit together.
pub fn read(path: &Utf8Path) -> Result<Groups, Error> {
    let mut groups = Groups::default();
    for file in inventories(path)? {
        let failed = |source| Error::Read { path: file.clone(), source };
        let text = Source::read(&file).map_err(failed)?;
        let wrong = |why| Error::Wrong { path: file.clone(), why };
        groups.merge(read_one(&text)?).map_err(wrong)?;
    }
    groups.check().map_err(|why| Error::Wrong { path: path.to_owned(), why })?;
    Ok(groups)
}

/// The files of an inventory.
fn inventories(path: &Utf8Path) -> Result<Vec<Utf8PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut found = Vec::new();
    for entry in path.read_dir_utf8().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let is_read = !name.starts_with('.') && !PASSED_OVER.iter().any(|end| name.ends_with(end));
        if is_read && entry.path().is_file() {
            found.push(entry.into_path());
        }
    }
    found.sort();
    Ok(found)
}

/// Reads an inventory for the variables of its hosts.
fn read_one(source: &Arc<Source>) -> Result<Groups, Error> {
    let path = source.path.clone();
    parse(source, is_host).map_err(|invalid| match invalid {
        Invalid::Dynamic(what) => Error::Dynamic { path, what },
        Invalid::Line(line, why) => Error::Wrong { path, why: format!("line {line}: {why}") },
        Invalid::Yaml(why) => Error::Wrong { path, why },
    })
}

/// The reason why a file is not an inventory that can be read.
#[derive(Debug)]
pub enum Invalid {
    /// Only Ansible can run it; the text describes it.
    Dynamic(&'static str),
    /// A line of an INI file is invalid: its number, from 1, and the reason.
    Line(usize, String),
    /// A YAML file is invalid.
    Yaml(String),
}

/// Parses an inventory. Like Ansible, recognizes a YAML file by its extension. `is_host` accepts the names of hosts.
///
/// # Errors
/// Returns an error if the file is a program or the configuration of a plugin, or if it is invalid.
pub fn parse(source: &Arc<Source>, is_host: fn(&str) -> bool) -> Result<Groups, Invalid> {
    if source.text.starts_with("#!") {
        return Err(Invalid::Dynamic("a program"));
    }
    match source.path.extension() {
        Some("yml" | "yaml" | "json") => {
            yaml::parse(source, is_host).map_err(Invalid::Yaml)?.ok_or(Invalid::Dynamic("a plugin's configuration"))
        }
        _ => ini::parse(source, is_host).map_err(|(line, why)| Invalid::Line(line, why)),
    }
}

/// Whether a name can be a host's: nothing that a command would take for an option, and no space.
#[must_use]
pub fn is_host(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('-') && !name.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Reads an inventory in each form.
#[cfg(any(test, fuzzing))]
pub(crate) fn hostile(text: &str) -> Vec<Groups> {
    let source = Source::new("hosts", text);
    let read = [ini::parse(&source, is_host).ok(), yaml::parse(&source, is_host).ok().flatten()];
    read.into_iter().flatten().filter(|groups| groups.check().is_ok()).collect()
}
