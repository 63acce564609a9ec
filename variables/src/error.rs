//! Why variables cannot be read or used.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use miette::Diagnostic;
use thiserror::Error;

use crate::inventory;

/// Why variables cannot be read or used. Each is a matter of what people wrote.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("reading the variables in {path}")]
    #[diagnostic(help("give --vars a file of variables, or the folder of a repository of playbooks"))]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file is not YAML.
    #[error("reading the variables in {path}, line {line}: {why}")]
    #[diagnostic(help("correct the file; `ansible-inventory --list` shows what Ansible reads"))]
    Yaml {
        /// The file.
        path: Utf8PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A file holds something other than variables.
    #[error("reading the variables in {path}: it is not a mapping of names to values")]
    #[diagnostic(help("write one variable on each line, as NAME: VALUE"))]
    NoVariables {
        /// The file.
        path: Utf8PathBuf,
    },
    /// A folder is not one of a repository.
    #[error("the folder {path} has no variables: none of group_vars, host_vars, vars, roles and inventory is in it")]
    #[diagnostic(help("give --vars the folder of the repository that the playbooks are in, or a file"))]
    NoRepository {
        /// The folder.
        path: Utf8PathBuf,
    },
    /// The inventory cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Inventory(#[from] inventory::Error),
    /// The inventory has no such host.
    #[error("there is no host {name} in the inventory or in host_vars")]
    #[diagnostic(help("there are {}", known.join(", ")))]
    NoHost {
        /// The name given.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// No host of the control plane is known.
    #[error(
        "there are several hosts, and none is in the group k8s_ctrl_plane, k8s_ctrlplane or k8s_management of the inventory"
    )]
    #[diagnostic(help("name the host whose variables are meant with --host: {}", known.join(", ")))]
    NoControlPlane {
        /// The hosts there are.
        known: Vec<String>,
    },
    /// A variable has no value.
    #[error("resolving {name}{}: {why}", chain_words(chain))]
    #[diagnostic(help("{}", help.clone().unwrap_or_else(|| "correct the variable that is named last".to_owned())))]
    Unresolved {
        /// The variable that was asked for.
        name: String,
        /// The variables that led to the fault, each with its place, the one asked for first.
        chain: Vec<String>,
        /// What is wrong.
        why: String,
        /// What to do.
        help: Option<String>,
    },
    /// A variable has a value that the role does not take.
    #[error("{name} ({place}) is {found}, and must be {expected}")]
    #[diagnostic(help("correct it there; `vcdist vars --explain {name}` shows where it comes from"))]
    Kind {
        /// The variable, or the part of it.
        name: String,
        /// The file and line.
        place: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// An older name and the new one are given, with different values.
    #[error("{older} ({older_place}) and {name} ({place}) are two names of one variable and have different values")]
    #[diagnostic(help("keep {name} and delete {older}"))]
    Conflict {
        /// The new name.
        name: String,
        /// Where it is set.
        place: String,
        /// The older name.
        older: String,
        /// Where that is set.
        older_place: String,
    },
}

impl Error {
    /// A file that cannot be read.
    pub(crate) fn read(path: &Utf8Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}

/// How the variables led to each other.
fn chain_words(chain: &[String]) -> String {
    match chain {
        [] => String::new(),
        [only] if !only.contains(" → ") => only.find(" (").map(|at| only[at..].to_owned()).unwrap_or_default(),
        several => {
            let first = several[0].find(" (").map(|at| several[0][at..].to_owned()).unwrap_or_default();
            several[1..].iter().fold(first, |words, next| format!("{words} → {next}"))
        }
    }
}
