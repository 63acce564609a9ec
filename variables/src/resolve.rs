//! The values of a host's variables, each worked out when it is asked for, and why one has none.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::error::Error;
use crate::inventory::ALL;
use crate::layers::Layers;
use crate::repository::{Repository, tag};
use crate::template::{Budget, Fail, Names, render};
use crate::value::{Key, Map, Value};
use crate::yaml::{Content, Node};

/// More variables that lead from one to the next than any file has.
const LONGEST: usize = 40;

/// Variables of Ansible's own that say how a host is reached, and are there only when somebody sets them.
const CONNECTION: [&str; 12] = [
    "ansible_user",
    "ansible_host",
    "ansible_port",
    "ansible_connection",
    "ansible_password",
    "ansible_become",
    "ansible_become_user",
    "ansible_become_method",
    "ansible_become_password",
    "ansible_python_interpreter",
    "ansible_home_dir",
    "ansible_private_key_file",
];

/// Names that mean something only while Ansible runs a play.
const OF_A_RUN: [&str; 13] = [
    "ansible_facts",
    "omit",
    "playbook_dir",
    "role_path",
    "role_name",
    "play_hosts",
    "environment",
    "hostvars",
    "vars",
    "item",
    "inventory_dir",
    "inventory_file",
    "undef",
];

/// Resolves the variables of one host.
pub struct Resolver<'r> {
    repository: &'r Repository,
    host: String,
    layers: Layers,
    known: RefCell<BTreeMap<String, Value>>,
    reached: RefCell<BTreeSet<String>>,
    others: RefCell<BTreeMap<String, Rc<Resolver<'r>>>>,
    shared: Rc<Shared>,
}

/// What the resolvers of several hosts share while they work out one variable.
struct Shared {
    budget: Budget,
    /// The variables on the way, with their hosts and places.
    way: RefCell<Vec<(String, String, String)>>,
    environment: fn(&str) -> Option<String>,
}

impl<'r> Resolver<'r> {
    /// The variables of a host. `environment` gives variables of the environment, for `lookup('env', …)`.
    ///
    /// # Errors
    /// When a file of variables cannot be read.
    pub fn new(repository: &'r Repository, host: &str, environment: fn(&str) -> Option<String>) -> Result<Self, Error> {
        let (budget, way) = (Budget::default(), RefCell::default());
        Self::sharing(repository, host, Rc::new(Shared { budget, way, environment }))
    }

    fn sharing(repository: &'r Repository, host: &str, shared: Rc<Shared>) -> Result<Self, Error> {
        Ok(Self {
            repository,
            host: host.to_owned(),
            layers: repository.layers(host)?,
            known: RefCell::default(),
            reached: RefCell::default(),
            others: RefCell::default(),
            shared,
        })
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What is said of the host's variables.
    #[must_use]
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Whether a variable was needed for those asked for until now.
    #[must_use]
    pub fn is_reached(&self, name: &str) -> bool {
        self.reached.borrow().contains(name)
    }

    /// The value of a variable.
    ///
    /// # Errors
    /// When it has none: with the variables that lead to the fault.
    pub fn value(&self, name: &str) -> Result<Value, Error> {
        self.shared.budget.refill();
        let result = self.lookup(name).and_then(|value| {
            // Whoever writes it out must come to an end.
            self.shared.budget.spend_on(&value)?;
            Ok(value)
        });
        result.map_err(|fail| self.error(name, fail))
    }

    fn error(&self, name: &str, fail: Fail) -> Error {
        let (why, chain, help) = match fail {
            Fail::Undefined(what, chain) => (format!("{what} is not defined"), chain, self.undefined_help()),
            Fail::Refused(what, chain) => (
                format!("it needs {what}"),
                chain,
                Some("write the value itself, in a file given with --vars or in place of this one".to_owned()),
            ),
            Fail::Wrong(why, chain) => (why, chain, None),
        };
        Error::Unresolved { name: name.to_owned(), chain, why, help }
    }

    fn undefined_help(&self) -> Option<String> {
        let encrypted = self.repository.encrypted();
        Some(match encrypted.as_slice() {
            [] => "define it, or give the file or repository that does with --vars, and the inventory with --inventory"
                .into(),
            files => {
                let names: Vec<&str> = files.iter().map(|path| path.as_str()).collect();
                format!(
                    "define it in a file given with --vars; these files are encrypted and were not read: {}",
                    names.join(", ")
                )
            }
        })
    }

    /// The variables on the way, as messages have them.
    fn chain(&self) -> Vec<String> {
        self.shared.way.borrow().iter().map(|(_, name, place)| format!("{name} ({place})")).collect()
    }

    fn defined(&self, name: &str) -> Option<Result<Value, Fail>> {
        let winner = self.layers.winner(name)?;
        self.reached.borrow_mut().insert(name.to_owned());
        if let Some(value) = self.known.borrow().get(name) {
            return Some(Ok(value.clone()));
        }
        let result = self.on_the_way(name, &winner.node);
        if let Ok(value) = &result {
            self.known.borrow_mut().insert(name.to_owned(), value.clone());
        }
        Some(result)
    }

    /// The value of a variable or a part of it, which others may not need that it needs.
    fn on_the_way(&self, path: &str, node: &Node) -> Result<Value, Fail> {
        let step = (self.host.clone(), path.to_owned(), node.place.to_string());
        let way = &self.shared.way;
        let is_circle = way.borrow().iter().any(|(host, known, _)| *host == step.0 && *known == step.1);
        let is_long = way.borrow().len() >= LONGEST;
        way.borrow_mut().push(step);
        let result = if is_circle {
            Err(Fail::wrong("the variables refer to each other in a circle"))
        } else if is_long {
            Err(Fail::wrong(format!("more than {LONGEST} variables lead from one to the next")))
        } else {
            self.render(node)
        };
        let result = result.map_err(|fail| fail.through(|| self.chain()));
        way.borrow_mut().pop();
        result
    }

    fn render(&self, node: &Node) -> Result<Value, Fail> {
        self.shared.budget.deeper(|| match &node.content {
            Content::Value(value) => Ok(value.clone()),
            Content::Template(text) => render(text, self),
            Content::List(items) => {
                items.iter().map(|item| self.render(item)).collect::<Result<_, _>>().map(Value::list)
            }
            Content::Map(map) => {
                let items = map.iter().map(|(key, item)| Ok((key.clone(), self.render(item)?)));
                items.collect::<Result<Map, Fail>>().map(Value::map)
            }
            Content::Tagged(_) => {
                let what = match tag(node) {
                    Some("!vault") => "an encrypted value (!vault), which only Ansible can read".to_owned(),
                    tag => format!("a value with the tag {}, which is not known", tag.unwrap_or_default()),
                };
                Err(Fail::refused(what))
            }
        })
    }

    /// What Ansible itself defines.
    fn magic(&self, name: &str) -> Option<Value> {
        let groups = self.repository.groups();
        let names = |names: Vec<String>| Value::list(names.iter().map(Value::text).collect());
        Some(match name {
            "inventory_hostname" => Value::text(&self.host),
            "inventory_hostname_short" => Value::text(self.host.split('.').next().unwrap_or_default()),
            "group_names" => {
                let ranks = groups.ranks();
                let of = groups.order_of(&self.host, &ranks).into_iter().filter(|group| *group != ALL);
                let mut of: Vec<String> = of.map(str::to_owned).collect();
                of.sort();
                names(of)
            }
            "groups" => {
                let members = |group: &String| groups.members(group).unwrap_or_default();
                let entries = groups.names().into_iter().map(|group| (Key::of(&group), names(members(&group))));
                Value::map(entries.collect::<Map>())
            }
            "inventory_dir" | "inventory_file" => {
                let path = self.repository.inventory()?;
                let folder = if path.is_dir() { Some(path) } else { path.parent() };
                Value::text(if name == "inventory_file" { path.as_str() } else { folder?.as_str() })
            }
            _ => return None,
        })
    }

    fn absent(&self, name: &str) -> Fail {
        let is_fact = name.starts_with("ansible_") && !CONNECTION.contains(&name) && !name.starts_with("ansible_ssh_");
        let fail = if OF_A_RUN.contains(&name) || is_fact {
            Fail::refused(format!("{name}, which only Ansible knows while it runs"))
        } else {
            Fail::undefined(format!("the variable {name}"))
        };
        fail.through(|| self.chain())
    }
}

impl Names for Resolver<'_> {
    fn lookup(&self, name: &str) -> Result<Value, Fail> {
        if let Some(result) = self.defined(name) {
            return result;
        }
        if let Some(value) = self.known.borrow().get(name) {
            return Ok(value.clone());
        }
        let value = self.magic(name).ok_or_else(|| self.absent(name))?;
        self.known.borrow_mut().insert(name.to_owned(), value.clone());
        Ok(value)
    }

    fn container(&self, name: &str) -> Option<Node> {
        let node = &self.layers.winner(name)?.node;
        let is_container = matches!(node.content, Content::List(_) | Content::Map(_));
        // Where it is on the way already, the circle is found by the name.
        let is_new = !self.shared.way.borrow().iter().any(|(host, known, _)| *host == self.host && known == name);
        (is_container && is_new).then(|| {
            self.reached.borrow_mut().insert(name.to_owned());
            node.clone()
        })
    }

    fn part(&self, path: &str, node: &Node) -> Result<Value, Fail> {
        self.on_the_way(path, node)
    }

    fn of_host(&self, host: &str, name: &str) -> Result<Value, Fail> {
        if host == self.host {
            return self.lookup(name);
        }
        let known = self.others.borrow().get(host).cloned();
        let other = match known {
            Some(other) => other,
            None => {
                let is_host = self.repository.groups().members(ALL).unwrap_or_default().iter().any(|one| one == host);
                if !is_host {
                    return Err(Fail::undefined(format!("the host {host}")).through(|| self.chain()));
                }
                // Each has files of its own.
                self.shared.budget.spend(1000)?;
                let other = Resolver::sharing(self.repository, host, Rc::clone(&self.shared))
                    .map_err(|error| Fail::wrong(error.to_string()).through(|| self.chain()))?;
                let other = Rc::new(other);
                self.others.borrow_mut().insert(host.to_owned(), Rc::clone(&other));
                other
            }
        };
        other.lookup(name)
    }

    fn environment(&self, name: &str) -> String {
        (self.shared.environment)(name).unwrap_or_default()
    }

    fn budget(&self) -> &Budget {
        &self.shared.budget
    }
}
