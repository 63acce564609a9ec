//! Which definitions a variable has for a host, in Ansible's order of precedence.

use std::collections::BTreeMap;
use std::fmt;

use crate::yaml::Node;

/// Where a definition comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Level {
    /// The role's default, as this program knows it.
    Default,
    /// `defaults/main.yml` of a role in the repository.
    RoleDefaults,
    /// A group of the inventory.
    Group(String),
    /// `group_vars` of a group.
    GroupVars(String),
    /// The host in the inventory.
    Host,
    /// `host_vars` of the host.
    HostVars,
    /// `vars/main.yml` of a role, which overrides the variables of hosts.
    RoleVars,
    /// A file of `vars/` that the role includes.
    Included,
    /// A file that is named on the command line, as with Ansible's `-e @FILE`.
    Given,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the role's default"),
            Self::RoleDefaults => f.write_str("the role's defaults"),
            Self::Group(group) => write!(f, "the group {group} in the inventory"),
            Self::GroupVars(group) => write!(f, "group_vars of {group}"),
            Self::Host => f.write_str("the host in the inventory"),
            Self::HostVars => f.write_str("host_vars"),
            Self::RoleVars => f.write_str("the role's own variables"),
            Self::Included => f.write_str("a file that the role includes"),
            Self::Given => f.write_str("a file given with --vars"),
        }
    }
}

/// One definition of a variable.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Where it comes from.
    pub level: Level,
    /// What it says, and in which line of which file.
    pub node: Node,
    /// The older name by which it was set, if it was.
    pub older_name: Option<String>,
}

/// The definitions of all variables of a host; of each variable the weakest first, and at least one.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    by_name: BTreeMap<String, Vec<Definition>>,
}

impl Layers {
    /// Adds a definition, which wins over those that are there.
    pub(crate) fn add(&mut self, name: &str, level: Level, node: Node) {
        self.by_name.entry(name.to_owned()).or_default().push(Definition { level, node, older_name: None });
    }

    /// Has definitions of an older name count for the new one.
    pub(crate) fn adopt(&mut self, name: &str, older: &str) {
        let adopted: Vec<Definition> = self.said(older).cloned().collect();
        let adopted = adopted.into_iter().map(|one| Definition { older_name: Some(older.to_owned()), ..one });
        self.by_name.entry(name.to_owned()).or_default().extend(adopted);
    }

    /// All definitions of a variable, the weakest first.
    #[must_use]
    pub fn of(&self, name: &str) -> &[Definition] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The definition that counts.
    #[must_use]
    pub fn winner(&self, name: &str) -> Option<&Definition> {
        self.of(name).last()
    }

    /// What people said of a variable, without the roles' defaults.
    pub fn said(&self, name: &str) -> impl Iterator<Item = &Definition> {
        self.of(name).iter().filter(|one| !matches!(one.level, Level::Default | Level::RoleDefaults))
    }

    /// The names of all variables.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}
