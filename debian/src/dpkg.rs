//! dpkg's database (`/var/lib/dpkg`), so that `dpkg`, `apt` and scanners recognize the packages as installed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use vcstore::{Content, Tree};

use super::Error;
use super::deb::Package;

/// The order of the fields in dpkg's status file. Other fields follow in their original order.
const FIELDS: [&str; 25] = [
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
    "Description",
];

/// Writes the database of the packages, which are given by name.
pub(crate) fn database(tree: &mut Tree, packages: &BTreeMap<&str, Package>) -> Result<(), Error> {
    let mut status = String::new();
    let mut triggers: BTreeMap<String, String> = BTreeMap::new();
    for (&name, package) in packages {
        let (control, fields) = control(name, package)?;
        status += &paragraph(control, &fields, package);
        let same = fields.get("Multi-Arch").is_some_and(|value| value.trim() == "same");
        let architecture = fields.get("Architecture").map_or("", |value| value.trim());
        let stem = if same { format!("{name}:{architecture}") } else { name.to_owned() };
        info(tree, &stem, package)?;
        interests(name, package, &mut triggers)?;
    }
    let mut file = |path: &str, text: String| tree.file(path, 0o644, Content::Bytes(text.into_bytes()));
    file("var/lib/dpkg/status", status)?;
    file("var/lib/dpkg/info/format", "1\n".to_owned())?;
    for (name, text) in triggers {
        file(&format!("var/lib/dpkg/triggers/{name}"), text)?;
    }
    // No trigger is pending: ldconfig's cache would only index the standard folders, and the shells are already
    // listed.
    file("var/lib/dpkg/triggers/Unincorp", String::new())?;
    for folder in ["alternatives", "parts", "updates"] {
        tree.dir(&format!("var/lib/dpkg/{folder}"), 0o755)?;
    }
    Ok(())
}

/// Returns a package's paragraph in the status file.
pub(crate) fn described(name: &str, package: &Package) -> Result<String, Error> {
    let (control, fields) = control(name, package)?;
    Ok(paragraph(control, &fields, package))
}

/// Returns the control file of the package `name`, and its fields.
fn control<'a>(name: &str, package: &'a Package) -> Result<(&'a str, BTreeMap<&'a str, &'a str>), Error> {
    let control = package.control.get("control").ok_or_else(|| Error::package(name, "it has no control file"))?;
    let control =
        std::str::from_utf8(&control.content).map_err(|_| Error::package(name, "its control file is not UTF-8"))?;
    let fields = fields(control);
    if fields.get("Package").map(|value| value.trim()) != Some(name) {
        return Err(Error::package(name, "its control file names a different package"));
    }
    Ok((control, fields))
}

/// Parses the fields of a control file, each value with its continuation lines.
fn fields(control: &str) -> BTreeMap<&str, &str> {
    let mut fields = BTreeMap::new();
    let mut rest = control;
    while let Some((name, value)) = rest.split_once(':') {
        let more = value.match_indices('\n').find(|(at, _)| !value[at + 1..].starts_with([' ', '\t']));
        let end = more.map_or(value.len(), |(at, _)| at);
        fields.insert(name.trim(), value[..end].trim_start_matches([' ', '\t']));
        rest = value[end..].trim_start_matches('\n');
    }
    fields
}

/// Formats a package's paragraph in the status file.
fn paragraph(control: &str, fields: &BTreeMap<&str, &str>, package: &Package) -> String {
    let conffiles = conffiles(package);
    let mut text = String::new();
    let mut put = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = match value.strip_prefix('\n') {
            Some(lines) => writeln!(text, "{name}:\n{lines}"),
            None => writeln!(text, "{name}: {value}"),
        };
    };
    for name in FIELDS {
        match (name, fields.get(name)) {
            ("Status", _) => put(name, "install ok installed"),
            ("Conffiles", _) if !conffiles.is_empty() => put(name, &conffiles),
            (_, Some(value)) => put(name, value),
            (_, None) => {}
        }
    }
    let others =
        control.lines().filter(|line| !line.starts_with([' ', '\t'])).filter_map(|line| line.split(':').next());
    for name in others.filter(|name| !FIELDS.contains(name)) {
        if let Some(value) = fields.get(name) {
            put(name, value);
        }
    }
    text.push('\n');
    text
}

/// Returns the configuration files with their hashes, one per line, in the package's order.
fn conffiles(package: &Package) -> String {
    let names = package.control.get("conffiles").map(|file| String::from_utf8_lossy(&file.content)).unwrap_or_default();
    let lines = names.lines().map(str::trim_end).filter(|line| line.starts_with('/'));
    lines.fold(String::new(), |mut text, path| {
        // dpkg's placeholder for a file that the package lists but does not contain.
        let hash = package.conffiles.get(path.trim_start_matches('/')).map_or("newconffile", String::as_str);
        let _ = write!(text, "\n {path} {hash}");
        text
    })
}

/// Writes the list of installed files and the control files of a package.
fn info(tree: &mut Tree, stem: &str, package: &Package) -> Result<(), Error> {
    let mut list = "/.\n".to_owned();
    for (path, _) in &package.files {
        let _ = writeln!(list, "/{path}");
    }
    tree.file(&format!("var/lib/dpkg/info/{stem}.list"), 0o644, Content::Bytes(list.into_bytes()))?;
    for (name, file) in package.control.iter().filter(|(name, _)| *name != "control") {
        let path = format!("var/lib/dpkg/info/{stem}.{name}");
        tree.file(&path, file.mode, Content::Bytes(file.content.clone()))?;
    }
    Ok(())
}

/// Records which packages are interested in which triggers (`deb-triggers(5)`): paths in the file `File`, other
/// triggers in a file each.
fn interests(name: &str, package: &Package, triggers: &mut BTreeMap<String, String>) -> Result<(), Error> {
    let text = package.control.get("triggers").map(|file| String::from_utf8_lossy(&file.content)).unwrap_or_default();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let Some((directive, trigger)) = line.trim().split_once(char::is_whitespace) else { continue };
        let waits = match directive {
            "interest" | "interest-await" => name.to_owned(),
            "interest-noawait" => format!("{name}/noawait"),
            _ => continue,
        };
        let trigger = trigger.trim();
        let (file, line) = match trigger.strip_prefix('/') {
            Some(_) => ("File", format!("{trigger} {waits}\n")),
            None if trigger.contains('/') || trigger.starts_with('.') || trigger == "File" => {
                return Err(Error::package(name, format!("it awaits the trigger {trigger:?}")));
            }
            None => (trigger, format!("{waits}\n")),
        };
        *triggers.entry(file.to_owned()).or_default() += &line;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vcstore::{Content, Kind, Tree};

    use super::database;
    use crate::Error;
    use crate::deb::{ControlFile, Package};

    const CONTROL: &str = "Package: bash\nVersion: 5.2\nArchitecture: amd64\nMulti-Arch: same\nX-Mine: a: b\n\
        Depends: base-files (>= 2.1.12),\n debianutils\nDescription: a shell\n It is long.\n .\n  - indented\nHomepage: http://x\n";

    fn package(control: &[(&str, &str)]) -> Package {
        let file = |text: &str| ControlFile { mode: 0o644, content: text.as_bytes().to_vec() };
        Package {
            control: control.iter().map(|(name, text)| ((*name).to_owned(), file(text))).collect(),
            files: vec![("etc".to_owned(), None), ("etc/bash.bashrc".to_owned(), None)],
            conffiles: BTreeMap::from([("etc/bash.bashrc".to_owned(), "0123".to_owned())]),
        }
    }

    fn written(control: &[(&str, &str)]) -> Result<Tree, Error> {
        let mut tree = Tree::new();
        database(&mut tree, &BTreeMap::from([("bash", package(control))])).map(|()| tree)
    }

    fn text(tree: &Tree, path: &str) -> String {
        match tree.get(path).map(|entry| &entry.kind) {
            Some(Kind::File(Content::Bytes(bytes))) => String::from_utf8(bytes.clone()).unwrap(),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn the_status_has_dpkgs_fields_in_dpkgs_order() {
        let tree =
            written(&[("control", CONTROL), ("conffiles", "/etc/bash.bashrc\nremove-on-upgrade /etc/old\n")]).unwrap();
        let expected = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 5.2\n\
            Depends: base-files (>= 2.1.12),\n debianutils\nConffiles:\n /etc/bash.bashrc 0123\n\
            Description: a shell\n It is long.\n .\n  - indented\nX-Mine: a: b\nHomepage: http://x\n\n";
        assert_eq!(text(&tree, "var/lib/dpkg/status"), expected);
        assert_eq!(text(&tree, "var/lib/dpkg/info/bash:amd64.list"), "/.\n/etc\n/etc/bash.bashrc\n");
        assert!(tree.get("var/lib/dpkg/info/bash:amd64.conffiles").is_some());
        assert!(tree.get("var/lib/dpkg/info/bash:amd64.control").is_none());
    }

    #[test]
    fn triggers_are_registered() {
        let triggers = "# a comment\ninterest-noawait /usr/share/shells.d\ninterest-await ldconfig # why\nactivate-noawait other\n";
        let tree = written(&[("control", CONTROL), ("triggers", triggers)]).unwrap();
        assert_eq!(text(&tree, "var/lib/dpkg/triggers/File"), "/usr/share/shells.d bash/noawait\n");
        assert_eq!(text(&tree, "var/lib/dpkg/triggers/ldconfig"), "bash\n");
        let hostile = written(&[("control", CONTROL), ("triggers", "interest ../../status\n")]);
        assert!(matches!(hostile, Err(Error::Package { .. })));
    }

    #[test]
    fn a_package_that_is_another_is_refused() {
        let error = written(&[("control", "Package: dash\n")]).unwrap_err();
        assert_eq!(error.to_string(), "unpacking bash: its control file names a different package");
    }
}
