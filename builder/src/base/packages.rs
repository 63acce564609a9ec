//! The Debian packages of an image, as its own dpkg status says.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde::Serialize;
use vcstore::{Layer, Store};

use crate::Error;
use crate::contents::texts;

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) architecture: String,
}

const STATUS: &str = "var/lib/dpkg/status";

/// Where images without dpkg say what they have files of: a file for each package.
const STATUS_FOLDER: &str = "var/lib/dpkg/status.d/";

/// The status of some thousands of packages is a few megabytes.
const STATUS_LIMIT: u64 = 64 << 20;

/// The packages that the uppermost layer with a dpkg status lists, sorted by name; for an image that has no dpkg those whose
/// files it says to have, if any.
///
/// # Errors
/// When a layer cannot be read.
pub(crate) fn packages(store: &Store, layers: &[Layer]) -> Result<Vec<Package>, Error> {
    let mut of_files = BTreeMap::new();
    for layer in layers.iter().rev() {
        let wanted = |path: &str| path == STATUS || path.starts_with(STATUS_FOLDER);
        let found = texts(store, layer, STATUS_LIMIT, wanted)?;
        let unreadable = |error| Error::io("reading layer", store.blob_path(&layer.digest))(error);
        if let Some(status) = found.get(STATUS) {
            return parse(status.as_slice()).map_err(unreadable);
        }
        for status in found.values() {
            for package in parse(status.as_slice()).map_err(unreadable)? {
                of_files.entry(package.name.clone()).or_insert(package);
            }
        }
    }
    Ok(of_files.into_values().collect())
}

/// Reads the few fields that are asked for; dpkg writes each on a line of its own, and a blank line after each package.
fn parse(status: impl BufRead) -> std::io::Result<Vec<Package>> {
    let mut packages = Vec::new();
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for line in status.lines().chain([Ok(String::new())]) {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) if !line.starts_with(' ') => {
                fields.insert(name.to_owned(), value.to_owned());
            }
            _ if line.is_empty() => {
                let mut field = |name| fields.remove(name).unwrap_or_default();
                let (name, version, architecture) = (field("Package"), field("Version"), field("Architecture"));
                if !name.is_empty() && field("Status").ends_with(" installed") {
                    packages.push(Package { name, version, architecture });
                }
                fields.clear();
            }
            _ => {}
        }
    }
    packages.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn installed_packages_are_listed_by_name() {
        let status = "Package: tar\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.34+dfsg-1.2\n\
                      Description: GNU tar\n Version: of a text\n\nPackage: gone\nStatus: deinstall ok config-files\n\
                      Version: 1\n\nPackage: base-files\nStatus: install ok installed\nVersion: 12.4\n";
        let packages = parse(status.as_bytes()).unwrap();
        let seen: Vec<_> = packages.iter().map(|package| (package.name.as_str(), package.version.as_str())).collect();
        assert_eq!(seen, [("base-files", "12.4"), ("tar", "1.34+dfsg-1.2")]);
    }
}
