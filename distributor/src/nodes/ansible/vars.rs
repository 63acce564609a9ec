//! The variables of a host, in words: those of the inventory, and of files beside it.

use std::collections::BTreeMap;

use camino::Utf8Path;
use vcvariables::inventory::{Groups, Ranks, Vars, files, word};
use vcvariables::yaml;

use super::{Error, source};

/// Variables by name, in the words that they have in an INI file; those that are no scalars are left out, for none that matters
/// here is one.
pub(super) type Words = BTreeMap<String, String>;

/// The first bytes of an encrypted file. Such files are skipped: no variable about reaching a host is secret.
const VAULT: &str = "$ANSIBLE_VAULT";

/// What files beside the inventory say of groups and hosts, which wins over the inventory's own variables.
#[derive(Debug, Default)]
pub(super) struct Beside {
    groups: BTreeMap<String, Vars>,
    hosts: BTreeMap<String, Vars>,
}

impl Beside {
    /// What the files beside the inventory at `path` say of these hosts and of the groups that they are in.
    pub(super) fn read(path: &Utf8Path, groups: &Groups, hosts: &[String]) -> Result<Self, Error> {
        let folder = path.parent().unwrap_or(Utf8Path::new(""));
        let of = |folder: &str, name: &str| -> Result<Vars, Error> {
            let failed = |(path, source)| Error::Read { path, source };
            let mut vars = Vars::new();
            for file in files(Utf8Path::new(folder), name).map_err(failed)? {
                vars.extend(read(&file)?);
            }
            Ok(vars)
        };
        let mut beside = Self::default();
        for group in groups.with(hosts) {
            let vars = of(folder.join("group_vars").as_str(), &group)?;
            beside.groups.insert(group, vars);
        }
        for host in hosts {
            beside.hosts.insert(host.clone(), of(folder.join("host_vars").as_str(), host)?);
        }
        Ok(beside)
    }

    /// What holds for a host: files beside the inventory win over it, the host over its groups.
    pub(super) fn vars_of(&self, groups: &Groups, host: &str, ranks: &Ranks<'_>) -> Words {
        let order = groups.order_of(host, ranks);
        let inside = order.iter().flat_map(|group| groups.vars_of_group(group));
        let beside = order.iter().filter_map(|group| self.groups.get(*group)).flatten();
        let own = groups.vars_of_host(host).iter().chain(self.hosts.get(host).into_iter().flatten());
        let all = inside.chain(beside).chain(own);
        all.filter_map(|(name, node)| Some((name.clone(), word(node)?))).collect()
    }
}

fn read(path: &Utf8Path) -> Result<Vars, Error> {
    let source = source(path)?;
    if source.text.starts_with(VAULT) {
        tracing::info!("{path} is encrypted and passed over");
        return Ok(Vars::new());
    }
    let wrong = |why| Error::Yaml { path: path.to_owned(), why };
    let document = yaml::read(&source).map_err(|(line, why)| wrong(format!("line {line}: {why}")))?;
    let map = document.root.mapping().ok_or_else(|| wrong("it is not a mapping of variables".into()))?;
    Ok(map.iter().map(|(name, node)| (name.value().to_string(), node.clone())).collect())
}
