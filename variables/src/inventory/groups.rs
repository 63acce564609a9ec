//! Groups with their hosts, children and variables, and the precedence of variables.

use std::collections::{BTreeMap, BTreeSet};

use crate::value::Value;
use crate::yaml::{Content, Node};

/// Variables in the order in which they were set: of two of one name, the later counts.
pub type Vars = Vec<(String, Node)>;

/// The implicit group of all hosts.
pub const ALL: &str = "all";

/// The implicit group of hosts that are in no other group.
const UNGROUPED: &str = "ungrouped";

/// The maximum number of hosts: more than any site has. It bounds a file that is mistaken or malicious.
const MOST: usize = 100_000;

/// The variable that sets the priority among groups of the same depth.
const PRIORITY: &str = "ansible_group_priority";

/// An inventory's groups and hosts.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    groups: BTreeMap<String, Group>,
    /// Every host, in the order of the file.
    hosts: Vec<String>,
    /// The variables of each host in the inventory file.
    host_vars: BTreeMap<String, Vars>,
}

#[derive(Debug, Clone, Default)]
struct Group {
    hosts: BTreeSet<String>,
    children: Vec<String>,
    vars: Vars,
    /// Whether it has a section of its own, and is not only listed as another group's child.
    declared: bool,
}

impl Groups {
    /// Declares a group, which may exist already.
    pub(super) fn declare(&mut self, group: &str) {
        self.group(group).declared = true;
    }

    /// Adds a host to a group.
    ///
    /// # Errors
    /// When there are too many hosts.
    pub fn add_host(
        &mut self,
        group: &str,
        host: &str,
        vars: impl IntoIterator<Item = (String, Node)>,
    ) -> Result<(), String> {
        self.host(host)?;
        self.group(group).hosts.insert(host.to_owned());
        self.host_vars.entry(host.to_owned()).or_default().extend(vars);
        Ok(())
    }

    /// Makes a group the child of another.
    pub(super) fn add_child(&mut self, group: &str, child: &str) {
        self.group(child);
        self.group(group).children.push(child.to_owned());
    }

    /// Sets a variable of a group.
    pub(super) fn set(&mut self, group: &str, name: &str, value: Node) {
        self.group(group).vars.push((name.to_owned(), value));
    }

    /// Whether the groups fit together.
    ///
    /// # Errors
    /// When a group is a child of its own, or one is named among children alone.
    pub fn check(&self) -> Result<(), String> {
        if let Some((name, _)) = self.groups.iter().find(|(name, group)| !group.declared && *name != ALL) {
            return Err(format!("the group {name} is named among children and declared nowhere"));
        }
        // A group in a cycle never has all its parents ranked.
        let depths = self.ranks().depths;
        let stuck = self.groups.keys().filter(|name| *name != ALL && !depths.contains_key(name.as_str()));
        for name in stuck.chain(self.groups.get_key_value(ALL).map(|(name, _)| name)) {
            if self.below(name).skip(1).any(|below| below == name) {
                return Err(format!("the group {name} is a child of its own"));
            }
        }
        Ok(())
    }

    /// The names of all groups.
    pub fn names(&self) -> Vec<String> {
        let every = self.groups.keys().cloned().chain([ALL.to_owned()]);
        every.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Returns the names of the groups that contain one of these hosts, directly or through their children.
    pub fn with(&self, hosts: &[String]) -> Vec<String> {
        let ranks = self.ranks();
        let of: BTreeSet<&str> = hosts.iter().flat_map(|host| ranks.groups_of(host)).chain([ALL]).collect();
        of.into_iter().map(str::to_owned).collect()
    }

    /// Returns the hosts of a group and of its children, in the order of the file, or `None` if there is no such group.
    pub fn members(&self, group: &str) -> Option<Vec<String>> {
        if group == ALL {
            return Some(self.hosts.clone());
        }
        if !self.groups.contains_key(group) {
            return None;
        }
        let below: BTreeSet<&str> = self.below(group).collect();
        let is_in = |host: &&String| {
            below.iter().any(|name| self.groups[*name].hosts.contains(*host))
                && (group != UNGROUPED || self.is_alone(host))
        };
        Some(self.hosts.iter().filter(is_in).cloned().collect())
    }

    /// The groups of a host in the order in which their variables are set, `all` first. The further from `all` a group is, the later
    /// it speaks; among those equally far, the one of the higher priority, then of the later name.
    #[must_use]
    pub fn order_of<'a>(&'a self, host: &str, ranks: &Ranks<'a>) -> Vec<&'a str> {
        let rank = |name: &'a str| {
            let said = self.vars_of_group(name).iter().rev().find(|(name, _)| name == PRIORITY);
            let priority = said.and_then(|(_, node)| word(node)?.trim().parse().ok()).unwrap_or(1);
            (ranks.depths.get(name).copied().unwrap_or(0), priority, name)
        };
        let mut of: Vec<(usize, i64, &str)> = ranks.groups_of(host).into_iter().map(rank).collect();
        of.sort_unstable();
        [ALL].into_iter().chain(of.into_iter().map(|(_, _, name)| name)).collect()
    }

    /// What the inventory itself says of a group.
    #[must_use]
    pub fn vars_of_group(&self, group: &str) -> &[(String, Node)] {
        self.groups.get(group).map_or(&[], |group| &group.vars)
    }

    /// What the inventory itself says of a host.
    #[must_use]
    pub fn vars_of_host(&self, host: &str) -> &[(String, Node)] {
        self.host_vars.get(host).map_or(&[], Vec::as_slice)
    }

    /// Adds the groups, hosts and variables of another inventory, which is read after this one.
    ///
    /// # Errors
    /// When there are too many hosts.
    pub fn merge(&mut self, other: Self) -> Result<(), String> {
        for host in &other.hosts {
            self.host(host)?;
        }
        for (host, vars) in other.host_vars {
            self.host_vars.entry(host).or_default().extend(vars);
        }
        for (name, group) in other.groups {
            let own = self.group(&name);
            own.hosts.extend(group.hosts);
            own.children.extend(group.children);
            own.vars.extend(group.vars);
            own.declared |= group.declared;
        }
        Ok(())
    }

    /// Whether a host is in no group that anybody named.
    fn is_alone(&self, host: &str) -> bool {
        self.groups.iter().all(|(name, group)| name == ALL || name == UNGROUPED || !group.hosts.contains(host))
    }

    /// Returns the relations between the groups. Visits each group once, regardless of the number of paths to it.
    pub fn ranks(&self) -> Ranks<'_> {
        let named = || self.groups.iter().filter(|(name, _)| *name != ALL).map(|(name, group)| (name.as_str(), group));
        let (mut parents, mut groups) = (BTreeMap::<&str, BTreeSet<&str>>::new(), BTreeMap::<&str, Vec<&str>>::new());
        for (name, group) in named() {
            for child in &group.children {
                parents.entry(child).or_default().insert(name);
            }
            for host in &group.hosts {
                groups.entry(host).or_default().push(name);
            }
        }
        for of in groups.values_mut().filter(|of| of.len() > 1) {
            of.retain(|name| *name != UNGROUPED);
        }
        // A group is ranked after all its parents; its depth is the number of groups on the longest path between it and
        // `all`.
        let mut left: BTreeMap<&str, usize> = parents.iter().map(|(child, of)| (*child, of.len())).collect();
        let (mut depths, mut known) = (BTreeMap::new(), BTreeMap::<&str, usize>::new());
        let mut next: Vec<&str> = named().map(|(name, _)| name).filter(|name| !left.contains_key(name)).collect();
        while let Some(name) = next.pop() {
            let depth: usize = known.get(name).copied().unwrap_or(0);
            depths.insert(name, depth);
            let children: BTreeSet<&str> =
                self.groups.get(name).into_iter().flat_map(|group| &group.children).map(String::as_str).collect();
            for child in children {
                let most = known.entry(child).or_default();
                *most = (depth + 1).max(*most);
                if let Some(left) = left.get_mut(child) {
                    *left -= 1;
                    if *left == 0 {
                        next.push(child);
                    }
                }
            }
        }
        Ranks { depths, parents, groups }
    }

    fn host(&mut self, host: &str) -> Result<(), String> {
        if !self.host_vars.contains_key(host) {
            if self.hosts.len() >= MOST {
                return Err(format!("it has more than {MOST} hosts"));
            }
            self.hosts.push(host.to_owned());
            self.host_vars.insert(host.to_owned(), Vars::new());
        }
        Ok(())
    }

    fn group(&mut self, name: &str) -> &mut Group {
        // These two groups exist without being declared.
        let group = self.groups.entry(name.to_owned()).or_default();
        group.declared |= name == ALL || name == UNGROUPED;
        group
    }

    /// Returns the group itself, then every group below it. A group that is its own descendant is returned again at the
    /// end.
    fn below<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a str> {
        let (mut seen, mut queue, mut found) = (BTreeSet::new(), vec![group], vec![group]);
        while let Some(name) = queue.pop() {
            for child in self.groups.get(name).iter().flat_map(|group| &group.children) {
                if seen.insert(child.as_str()) {
                    queue.push(child);
                    found.push(child);
                }
            }
        }
        found.into_iter()
    }
}

/// The relations between groups, without `all`.
pub struct Ranks<'a> {
    /// The depth of each group below `all`. Groups in a cycle or below one are missing.
    depths: BTreeMap<&'a str, usize>,
    /// The parents of each group.
    parents: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// The groups that list a host.
    groups: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Ranks<'a> {
    /// Returns the groups that contain a host, directly or through their children.
    fn groups_of(&self, host: &str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut next = self.groups.get(host).cloned().unwrap_or_default();
        while let Some(name) = next.pop() {
            if found.insert(name) {
                next.extend(self.parents.get(name).into_iter().flatten());
            }
        }
        found.remove(ALL);
        found
    }
}

/// A scalar in the words that it would have in an INI file; nothing for what is none.
#[must_use]
pub fn word(node: &Node) -> Option<String> {
    match &node.content {
        Content::Value(Value::Str(text)) | Content::Template(text) => Some((**text).to_owned()),
        Content::Value(Value::Bool(bool)) => Some(bool.to_string()),
        Content::Value(number @ (Value::Int(_) | Value::Float(_))) => Some(number.to_string()),
        Content::Value(_) | Content::List(_) | Content::Map(_) | Content::Tagged(_) => None,
    }
}
