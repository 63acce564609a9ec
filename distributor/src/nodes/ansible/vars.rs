//! The variables of files beside an inventory: `group_vars/GROUP` and `host_vars/HOST`, each a YAML file or a folder
//! of YAML files.

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::groups::{Groups, Vars};
use super::{Error, yaml};

/// The first bytes of an encrypted file. Such files are skipped: no variable about reaching a host is secret.
const VAULT: &str = "$ANSIBLE_VAULT";

/// Adds the variables of these hosts and of their groups from the files beside the inventory at `path`.
pub(super) fn read_beside(path: &Utf8Path, groups: &mut Groups, hosts: &[String]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Utf8Path::new(""));
    for group in groups.with(hosts) {
        for file in files(&folder.join("group_vars"), &group)? {
            let vars = read(&file)?;
            groups.beside_group(&group, vars);
        }
    }
    for host in hosts {
        for file in files(&folder.join("host_vars"), host)? {
            let vars = read(&file)?;
            groups.beside_host(host, vars);
        }
    }
    Ok(())
}

/// Returns the files with variables of `name`, in Ansible's order.
fn files(folder: &Utf8Path, name: &str) -> Result<Vec<Utf8PathBuf>, Error> {
    let mut found = Vec::new();
    // A name must not lead out of the folder.
    if name.contains('/') || name.starts_with('.') {
        return Ok(found);
    }
    for candidate in [name.to_owned(), format!("{name}.yml"), format!("{name}.yaml"), format!("{name}.json")] {
        let path = folder.join(candidate);
        if path.is_file() {
            found.push(path);
        } else if path.is_dir() {
            let failed = |source| Error::Read { path: path.clone(), source };
            let mut inside = Vec::new();
            for entry in path.read_dir_utf8().map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let read = matches!(entry.path().extension(), None | Some("yml" | "yaml" | "json"));
                let hidden = entry.file_name().starts_with('.') || entry.file_name().ends_with('~');
                if read && !hidden && entry.path().is_file() {
                    inside.push(entry.into_path());
                }
            }
            inside.sort();
            found.extend(inside);
        }
    }
    Ok(found)
}

fn read(path: &Utf8Path) -> Result<Vars, Error> {
    let text = super::text(path)?;
    if text.starts_with(VAULT) {
        tracing::info!("{path} is encrypted and passed over");
        return Ok(Vars::new());
    }
    let document = yaml::document(&text).map_err(|why| Error::Yaml { path: path.to_owned(), why })?;
    match document {
        Value::Object(map) => Ok(yaml::vars(&map)),
        Value::Null => Ok(Vars::new()),
        _ => Err(Error::Yaml { path: path.to_owned(), why: "it is no mapping of variables".into() }),
    }
}
