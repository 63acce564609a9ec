//! The options that say where the variables of the Ansible role are, and of which host. Vars and run take the same.

use camino::Utf8PathBuf;
use clap::Args;
use vcvariables::{Given, Report, Repository, Resolver};

/// The files, the inventory, the host.
#[derive(Debug, Args)]
pub(super) struct RoleArgs {
    /// A file of variables, or a repository of playbooks
    ///
    /// A file overrides everything else, as with Ansible's `-e @FILE`. A repository is a folder with group_vars, host_vars, vars
    /// and roles. Repeatable.
    #[arg(long, value_name = "PATH")]
    vars: Vec<Utf8PathBuf>,

    /// Ansible's inventory, INI or YAML [default: inventory/hosts]
    ///
    /// A file or a folder. The default is the repository's inventory/hosts, else hosts.
    #[arg(long, value_name = "PATH")]
    inventory: Option<Utf8PathBuf>,

    /// The host [default: the first control-plane host]
    ///
    /// The default is the first host of the group k8s_ctrl_plane, else k8s_ctrlplane, else k8s_management.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

impl RoleArgs {
    /// Whether any variables are named.
    pub(super) fn is_given(&self) -> bool {
        !self.vars.is_empty() || self.inventory.is_some()
    }

    /// Reads the variables of the host; only one of them, if `explain` names it.
    pub(super) fn report(&self, explain: Option<&str>) -> Result<Report, vcvariables::Error> {
        let repository = Repository::open(&Given { vars: self.vars.clone(), inventory: self.inventory.clone() })?;
        let host = repository.choose(self.host.as_deref())?;
        let resolver = Resolver::new(&repository, &host, |name| std::env::var(name).ok())?;
        Ok(Report::of(&repository, &resolver, explain))
    }
}
