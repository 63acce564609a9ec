//! Explains why a Debian package is in an image: the chain of dependencies from a package that is installed for its own
//! sake.

use std::collections::{BTreeMap, BTreeSet};

use super::chain::shortest;

/// The packages of an image, from its dpkg status.
#[derive(Debug, Default)]
pub(crate) struct InstalledPackages {
    packages: BTreeMap<String, Paragraph>,
    /// The packages that provide a name, including the package of that name.
    providers: BTreeMap<String, Vec<String>>,
}

/// The relevant fields of a package's paragraph.
#[derive(Debug, Default)]
struct Paragraph {
    version: String,
    architecture: String,
    essential: bool,
    required: bool,
    depends: Vec<String>,
}

/// A package of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainPackage {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// The reason why the first package of a chain is installed.
    pub why: Option<&'static str>,
}

impl InstalledPackages {
    /// Parses `var/lib/dpkg/status`.
    pub(crate) fn read(status: &str) -> Self {
        let mut installed = Self::default();
        for paragraph in status.split("\n\n") {
            let fields = fields(paragraph);
            let field = |name: &str| fields.get(name).map_or("", String::as_str);
            let name = field("Package").to_owned();
            // A file without Status fields lists only installed packages.
            if name.is_empty() || !(field("Status").is_empty() || field("Status").ends_with(" installed")) {
                continue;
            }
            for provided in [&name].into_iter().cloned().chain(alternatives(field("Provides")).flatten()) {
                installed.providers.entry(provided).or_default().push(name.clone());
            }
            let relations = [field("Pre-Depends"), field("Depends")];
            let package = Paragraph {
                version: field("Version").to_owned(),
                architecture: field("Architecture").to_owned(),
                essential: field("Essential") == "yes",
                required: field("Priority") == "required",
                depends: relations.iter().flat_map(|text| alternatives(text)).flatten().collect(),
            };
            installed.packages.insert(name, package);
        }
        installed
    }

    /// Returns whether a package is installed.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.packages.contains_key(name)
    }

    /// Returns the shortest chain of dependencies from a package that is installed for its own sake to `name`.
    pub(crate) fn chain(&self, name: &str) -> Option<Vec<ChainPackage>> {
        let own_sake = |name: &str| self.packages.get(name).and_then(|package| self.own_sake(name, package));
        let roots = self.packages.keys().map(String::as_str).filter(|name| own_sake(name).is_some());
        let chain = shortest(roots, |name| self.needs(name), |known| known == name)?;
        let needed = |(place, name): (usize, &str)| {
            let package = self.packages.get(name)?;
            Some(ChainPackage {
                name: name.to_owned(),
                version: package.version.clone(),
                architecture: package.architecture.clone(),
                why: (place == 0).then(|| own_sake(name)).flatten(),
            })
        };
        chain.into_iter().enumerate().map(needed).collect()
    }

    fn own_sake(&self, name: &str, package: &Paragraph) -> Option<&'static str> {
        if package.essential {
            Some("essential")
        } else if package.required {
            Some("required")
        } else {
            let needed = self.packages.keys().any(|other| other != name && self.needs(other).contains(&name));
            (!needed).then_some("asked for: no other package depends on it")
        }
    }

    fn needs(&self, name: &str) -> Vec<&str> {
        let depends = self.packages.get(name).map_or(&[][..], |package| &package.depends);
        depends.iter().filter_map(|wanted| self.providers.get(wanted)).flatten().map(String::as_str).collect()
    }
}

/// Parses the fields of a paragraph, with continuation lines joined.
fn fields(paragraph: &str) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in paragraph.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some(value) = fields.get_mut(&last) {
                *value += line;
            }
        } else if let Some((name, value)) = line.split_once(':') {
            last = name.to_owned();
            fields.insert(last.clone(), value.trim().to_owned());
        }
    }
    fields
}

/// Returns the alternatives of each relation in a field, without versions and architectures. Names suffice, because the
/// relations of installed packages are satisfied.
fn alternatives(field: &str) -> impl Iterator<Item = BTreeSet<String>> {
    let name = |text: &str| {
        let end = text.find(['(', '[', '<', ':', ' ']).unwrap_or(text.len());
        text[..end].trim().to_owned()
    };
    field.split(',').map(move |relation| {
        relation.split('|').map(|text| name(text.trim())).filter(|name| !name.is_empty()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::InstalledPackages;

    const STATUS: &str = "Package: bash\nStatus: install ok installed\nEssential: yes\nVersion: 5.2\nArchitecture: amd64\n\
        Pre-Depends: libc6 (>= 2.36), libtinfo6 (>= 6)\n\nPackage: libc6\nStatus: install ok installed\nVersion: 2.36\n\
        Depends: libgcc-s1\n\nPackage: libgcc-s1\nStatus: install ok installed\nDepends: libc6 (>= 2.14),\n gcc-12-base (= 12)\n\n\
        Package: gcc-12-base\nStatus: install ok installed\nVersion: 12\n\nPackage: libtinfo6\nStatus: install ok installed\n\n\
        Package: mawk\nStatus: install ok installed\nProvides: awk\n\nPackage: base-files\nStatus: install ok installed\n\
        Priority: required\nDepends: gawk | awk:any\n\nPackage: gone\nStatus: deinstall ok config-files\nDepends: nothing\n\n\
        Package: htop\nStatus: install ok installed\nDepends: libc6\n";

    #[test]
    fn a_package_is_there_for_the_sake_of_another_or_its_own() {
        let installed = InstalledPackages::read(STATUS);
        let chain = |name: &str| {
            let chain = installed.chain(name)?;
            Some(
                chain
                    .iter()
                    .map(|one| format!("{}{}", one.name, one.why.map_or(String::new(), |why| format!(" ({why})"))))
                    .collect::<Vec<_>>()
                    .join(" > "),
            )
        };
        assert_eq!(chain("gcc-12-base").unwrap(), "bash (essential) > libc6 > libgcc-s1 > gcc-12-base");
        assert_eq!(chain("mawk").unwrap(), "base-files (required) > mawk");
        assert_eq!(chain("htop").unwrap(), "htop (asked for: no other package depends on it)");
        assert_eq!(chain("bash").unwrap(), "bash (essential)");
        assert!(!installed.has("gone") && chain("gone").is_none());
    }
}
