//! The files that people give: variables, repositories of playbooks, inventories; and what they say of a host.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::Error;
use crate::inventory::{self, Groups, files};
use crate::layers::{Layers, Level};
use crate::source::Source;
use crate::table::{self, ROLES};
use crate::yaml::{self, Content, Document, Node};

/// The groups whose first host is meant: the control plane, by its name in inventories and in the role's default, else the hosts
/// that the play is for.
pub const CONTROL_PLANE: [&str; 3] = ["k8s_ctrl_plane", "k8s_ctrlplane", "k8s_management"];

/// The files of `vars/` that the role includes, the weakest first. Of the first two Ansible takes the one of the machine's
/// distribution, which is not known here.
const INCLUDED: [&str; 6] =
    ["packages-rhel", "packages-ubuntu", "cross-distro", "k8s-config-common", "all-config", "k8s-api-address"];

/// How an encrypted file begins.
const VAULT: &str = "$ANSIBLE_VAULT";

/// What is given.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Files of variables, which win over all else, the later over the earlier; and folders of repositories.
    pub vars: Vec<Utf8PathBuf>,
    /// The inventory, a file or a folder; else that of a repository, if it has one.
    pub inventory: Option<Utf8PathBuf>,
}

/// All that was given, read as far as it is needed.
pub struct Repository {
    groups: Groups,
    inventory: Option<Utf8PathBuf>,
    /// The folders that may have `group_vars` and `host_vars`: the inventory's, then those of repositories.
    bases: Vec<Utf8PathBuf>,
    folders: Vec<Utf8PathBuf>,
    given: Vec<Utf8PathBuf>,
    files: RefCell<BTreeMap<Utf8PathBuf, Option<Arc<Document>>>>,
}

impl Repository {
    /// Reads the inventory, and looks which files there are.
    ///
    /// # Errors
    /// When something that is named is not there, or an inventory cannot be read.
    pub fn open(given: &Given) -> Result<Self, Error> {
        let (mut folders, mut single) = (Vec::new(), Vec::new());
        for path in &given.vars {
            if path.is_dir() {
                let parts = ["group_vars", "host_vars", "vars", "roles", "inventory"];
                if !parts.iter().any(|part| path.join(part).is_dir()) {
                    return Err(Error::NoRepository { path: path.clone() });
                }
                folders.push(path.clone());
            } else {
                single.push(path.clone());
            }
        }
        let own = || folders.iter().flat_map(|folder| ["inventory/hosts", "hosts"].map(|name| folder.join(name)));
        let inventory = given.inventory.clone().or_else(|| own().find(|path| path.is_file()));
        let groups = inventory.as_deref().map(inventory::read).transpose()?.unwrap_or_default();
        let beside = inventory.as_deref().map(|path| if path.is_dir() { path } else { parent(path) });
        let mut bases: Vec<Utf8PathBuf> = beside.into_iter().map(Utf8Path::to_owned).collect();
        bases.extend(folders.iter().filter(|folder| Some(folder.as_path()) != beside).cloned());
        let files = RefCell::default();
        let mut repository = Self { groups, inventory, bases, folders, given: single, files };
        // An inventory without hosts is one that nobody has filled in yet.
        if repository.groups.members(inventory::ALL).is_none_or(|hosts| hosts.is_empty()) {
            repository.hosts_of_files()?;
        }
        Ok(repository)
    }

    /// What stands for files that are not on a disk: one of variables, and an inventory.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn in_memory(groups: Groups, source: &Arc<Source>) -> Option<Self> {
        let path = source.path.clone();
        let document = yaml::read(source).ok().map(Arc::new)?;
        Some(Self {
            groups,
            inventory: Some("hosts".into()),
            bases: Vec::new(),
            folders: Vec::new(),
            given: vec![path.clone()],
            files: RefCell::new(BTreeMap::from([(path, Some(document))])),
        })
    }

    /// Without hosts in an inventory, they are those that there are variables of.
    fn hosts_of_files(&mut self) -> Result<(), Error> {
        let mut names = BTreeSet::new();
        for folder in self.bases.iter().map(|base| base.join("host_vars")).filter(|folder| folder.is_dir()) {
            for entry in folder.read_dir_utf8().map_err(Error::read(&folder))? {
                let path = entry.map_err(Error::read(&folder))?.into_path();
                let is_document = matches!(path.extension(), Some("yml" | "yaml" | "json"));
                let name = if is_document { path.file_stem() } else { path.file_name() };
                names.extend(name.filter(|name| !name.starts_with('.') && !name.ends_with('~')).map(str::to_owned));
            }
        }
        for name in names {
            // There are far fewer than an inventory may have.
            let _ = self.groups.add_host("ungrouped", &name, []);
        }
        Ok(())
    }

    /// The groups and hosts.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The host whose variables are meant: the one of this name, else the first of the control plane, else the only one.
    ///
    /// # Errors
    /// When there is no such host, or none of the control plane among several.
    pub fn choose(&self, name: Option<&str>) -> Result<String, Error> {
        let known = self.groups.members(inventory::ALL).unwrap_or_default();
        if let Some(name) = name {
            // Where no hosts are known any name will do.
            let is_known = known.is_empty() || known.iter().any(|host| host == name);
            return if is_known { Ok(name.to_owned()) } else { Err(Error::NoHost { name: name.to_owned(), known }) };
        }
        let first = CONTROL_PLANE.iter().find_map(|group| self.groups.members(group)?.into_iter().next());
        match (first, known.as_slice()) {
            (Some(host), _) => Ok(host),
            (None, [only]) => Ok(only.clone()),
            (None, []) => Ok("localhost".to_owned()),
            (None, _) => Err(Error::NoControlPlane { known }),
        }
    }

    /// What is said of a host's variables, with the roles' defaults.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn layers(&self, host: &str) -> Result<Layers, Error> {
        let mut layers = Layers::default();
        for (name, node) in table::defaults() {
            layers.add(name, Level::Default, node);
        }
        self.of_roles(&mut layers, "defaults", &Level::RoleDefaults)?;
        let ranks = self.groups.ranks();
        let order = self.groups.order_of(host, &ranks);
        for group in &order {
            for (name, node) in self.groups.vars_of_group(group) {
                layers.add(name, Level::Group((*group).to_owned()), node.clone());
            }
        }
        // What is beside the inventory and the playbooks: of `all` first, then of the other groups.
        let (all, others) = order.split_at(1);
        for groups in [all, others] {
            for base in &self.bases {
                for group in groups {
                    self.beside(&mut layers, &base.join("group_vars"), group, &Level::GroupVars((*group).to_owned()))?;
                }
            }
        }
        for (name, node) in self.groups.vars_of_host(host) {
            layers.add(name, Level::Host, node.clone());
        }
        for base in &self.bases {
            self.beside(&mut layers, &base.join("host_vars"), host, &Level::HostVars)?;
        }
        for (name, node) in table::constants() {
            layers.add(name, Level::RoleVars, node);
        }
        self.of_roles(&mut layers, "vars", &Level::RoleVars)?;
        for folder in &self.folders {
            for name in INCLUDED {
                for extension in ["yml", "yaml"] {
                    self.file(
                        &mut layers,
                        &folder.join("vars").join(format!("{name}.{extension}")),
                        &Level::Included,
                        false,
                    )?;
                }
            }
        }
        for path in &self.given {
            self.file(&mut layers, path, &Level::Given, true)?;
        }
        table::adopt_older(&mut layers);
        Ok(layers)
    }

    /// The files that were passed over because they are encrypted.
    #[must_use]
    pub fn encrypted(&self) -> Vec<Utf8PathBuf> {
        self.files.borrow().iter().filter(|(_, read)| read.is_none()).map(|(path, _)| path.clone()).collect()
    }

    /// The folder of the inventory.
    pub(crate) fn inventory(&self) -> Option<&Utf8Path> {
        self.inventory.as_deref()
    }

    fn of_roles(&self, layers: &mut Layers, folder: &str, level: &Level) -> Result<(), Error> {
        for repository in &self.folders {
            for role in ROLES {
                let folder = repository.join("roles").join(role.name()).join(folder);
                for name in ["main.yml", "main.yaml"] {
                    self.file(layers, &folder.join(name), level, false)?;
                }
            }
        }
        Ok(())
    }

    fn beside(&self, layers: &mut Layers, folder: &Utf8Path, name: &str, level: &Level) -> Result<(), Error> {
        for path in files(folder, name).map_err(|(path, source)| Error::Read { path, source })? {
            self.file(layers, &path, level, true)?;
        }
        Ok(())
    }

    /// Adds what a file says; one that need not be there may be absent.
    fn file(&self, layers: &mut Layers, path: &Utf8Path, level: &Level, is_needed: bool) -> Result<(), Error> {
        if !is_needed && !path.is_file() {
            return Ok(());
        }
        let Some(document) = self.read(path)? else { return Ok(()) };
        let wrong = || Error::NoVariables { path: path.to_owned() };
        let map = document.root.mapping().ok_or_else(wrong)?;
        let replaced = document.replaced.iter().map(|(key, node)| (key, node));
        for (key, node) in replaced.chain(map.iter()) {
            if let Some(name) = key.as_str() {
                layers.add(name, level.clone(), node.clone());
            }
        }
        Ok(())
    }

    fn read(&self, path: &Utf8Path) -> Result<Option<Arc<Document>>, Error> {
        if let Some(known) = self.files.borrow().get(path) {
            return Ok(known.clone());
        }
        let source = Source::read(path).map_err(Error::read(path))?;
        let document = if source.text.starts_with(VAULT) {
            None
        } else {
            let wrong = |(line, why)| Error::Yaml { path: path.to_owned(), line, why };
            Some(Arc::new(yaml::read(&source).map_err(wrong)?))
        };
        self.files.borrow_mut().insert(path.to_owned(), document.clone());
        Ok(document)
    }
}

fn parent(path: &Utf8Path) -> &Utf8Path {
    path.parent().unwrap_or(Utf8Path::new(""))
}

/// Whether a node is one that only Ansible can read.
pub(crate) fn tag(node: &Node) -> Option<&str> {
    if let Content::Tagged(tag) = &node.content { Some(tag) } else { None }
}
