//! The Debian packages of an image, from its dpkg status.

use std::collections::BTreeMap;

use serde::Serialize;
use vcstore::{Layer, Store};

use crate::Error;
use crate::image_fs::texts;

/// A Debian package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Package {
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
    /// Debian's name of the architecture.
    pub architecture: String,
}

const STATUS: &str = "var/lib/dpkg/status";

/// The folder in which images without dpkg describe their packages: a file for each package.
const STATUS_FOLDER: &str = "var/lib/dpkg/status.d/";

/// The size limit of the status in bytes. That of some thousand packages has a few megabytes.
const STATUS_LIMIT: u64 = 64 << 20;

/// Returns the packages of an image, sorted by name.
///
/// # Errors
/// When a layer cannot be read.
pub fn packages(store: &Store, layers: &[Layer]) -> Result<Vec<Package>, Error> {
    Ok(parse(&status(store, layers)?))
}

/// Returns the dpkg status of the uppermost layer that has one, a paragraph for each package. For an image without
/// dpkg, returns the descriptions of the packages whose files it contains, if any.
///
/// # Errors
/// When a layer cannot be read.
pub fn status(store: &Store, layers: &[Layer]) -> Result<String, Error> {
    let mut of_files: BTreeMap<String, String> = BTreeMap::new();
    for layer in layers.iter().rev() {
        let wanted = |path: &str| path == STATUS || path.starts_with(STATUS_FOLDER);
        let found = texts(store, layer, STATUS_LIMIT, wanted)?;
        if let Some(status) = found.get(STATUS) {
            return Ok(String::from_utf8_lossy(status).into_owned());
        }
        for (path, text) in found {
            of_files.entry(path).or_insert_with(|| String::from_utf8_lossy(&text).trim_end().to_owned() + "\n\n");
        }
    }
    Ok(of_files.into_values().collect())
}

/// Returns the path of the file that describes a package in an image without dpkg.
pub fn described_in(package: &str) -> String {
    format!("{STATUS_FOLDER}{package}")
}

/// Parses the required fields; dpkg writes each on its own line, and a blank line after each package.
fn parse(status: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
    for line in status.lines().chain([""]) {
        match line.split_once(": ") {
            Some((name, value)) if !line.starts_with(' ') => drop(fields.insert(name, value)),
            _ if line.is_empty() => {
                let field = |name| fields.get(name).copied().unwrap_or_default().to_owned();
                let (name, version, architecture) = (field("Package"), field("Version"), field("Architecture"));
                // A package without a Status field is installed: the image has no dpkg.
                if !name.is_empty() && fields.get("Status").is_none_or(|state| state.ends_with(" installed")) {
                    packages.push(Package { name, version, architecture });
                }
                fields.clear();
            }
            _ => {}
        }
    }
    packages.sort_by(|one, other| one.name.cmp(&other.name));
    packages
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn packages_that_are_there_are_listed_by_name() {
        let status = "Package: tar\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.34+dfsg-1.2\n\
                      Description: GNU tar\n Version: of a text\n\nPackage: gone\nStatus: deinstall ok config-files\n\
                      Version: 1\n\nPackage: base-files\nVersion: 12.4\n";
        let packages = parse(status);
        let seen: Vec<_> = packages.iter().map(|package| (package.name.as_str(), package.version.as_str())).collect();
        assert_eq!(seen, [("base-files", "12.4"), ("tar", "1.34+dfsg-1.2")]);
    }
}
