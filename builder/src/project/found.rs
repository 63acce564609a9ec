//! Finds the programs in a folder, for a new `vcbuild.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};

use camino::{Utf8Path, Utf8PathBuf};
use vcsandbox::plain;
use walkdir::WalkDir;

use crate::Error;

/// The Go module of a folder and its programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundPrograms {
    /// The module path.
    pub(crate) module: String,
    /// The folders of the programs, such as `./cmd/manager`, by component.
    pub(crate) programs: BTreeMap<String, String>,
}

/// Finds the programs of the Go module in `dir`, without Go; returns `None` if there is no `go.mod`.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn find(dir: &Utf8Path) -> Result<Option<FoundPrograms>, Error> {
    let go_mod = dir.join("go.mod");
    let text = match plain::read_text(&go_mod) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("reading", &go_mod)(error)),
    };
    let named = text.lines().find_map(|line| line.trim().strip_prefix("module "));
    let module = named.map_or("", |name| name.split("//").next().unwrap_or_default().trim().trim_matches('"'));
    let mut folders = Vec::new();
    // Go ignores these folders, and a folder with a go.mod is another module.
    let skipped = |entry: &walkdir::DirEntry| {
        let name = entry.file_name().to_string_lossy();
        let other = matches!(&*name, "vendor" | "testdata") || name.starts_with(['.', '_']);
        entry.depth() > 0 && entry.file_type().is_dir() && (other || entry.path().join("go.mod").exists())
    };
    for entry in WalkDir::new(dir).sort_by_file_name().into_iter().filter_entry(|entry| !skipped(entry)) {
        let entry = entry.map_err(|error| Error::io("reading", dir)(error.into()))?;
        let Some(path) = Utf8Path::from_path(entry.path()) else { continue };
        let code = path.extension() == Some("go") && !path.as_str().ends_with("_test.go");
        let Some(folder) =
            path.parent().filter(|folder| code && folders.last().map(Utf8PathBuf::as_path) != Some(*folder))
        else {
            continue;
        };
        if entry.file_type().is_file() && is_program(path)? {
            folders.push(folder.to_owned());
        }
    }
    folders.sort();
    folders.dedup();
    let mut programs = BTreeMap::new();
    for folder in folders {
        let below = folder.strip_prefix(dir).unwrap_or(&folder);
        let whole = below.as_str().replace('/', "-");
        let last = below.file_name().or_else(|| module.rsplit('/').next()).unwrap_or("main").to_owned();
        let name = if programs.contains_key(&last) { whole } else { last };
        let package = if below.as_str().is_empty() { ".".to_owned() } else { format!("./{below}") };
        programs.insert(component(&name), package);
    }
    Ok(Some(FoundPrograms { module: module.to_owned(), programs }))
}

/// Returns whether a Go file is part of a program: in package main, and not excluded from every build.
fn is_program(path: &Utf8Path) -> Result<bool, Error> {
    let file = fs::File::open(path).map_err(Error::io("reading", path))?;
    for line in BufReader::new(file).lines() {
        // A binary file is not Go source.
        let Ok(line) = line else { return Ok(false) };
        if line.starts_with("//go:build") && line.contains("ignore") {
            return Ok(false);
        }
        if let Some(name) = line.strip_prefix("package ") {
            return Ok(name.split_whitespace().next() == Some("main"));
        }
    }
    Ok(false)
}

/// Converts a name to a valid component name.
fn component(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = name.to_lowercase().chars().map(plain).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "main".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;

    use super::find;

    #[test]
    fn programs_are_found_as_go_finds_them() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        assert_eq!(find(&dir).unwrap(), None);
        let files = [
            ("go.mod", "// a module\nmodule example.org/Tool // the path\n\ngo 1.21\n"),
            ("main.go", "// Command tool.\npackage main\n"),
            ("gen.go", "//go:build ignore\n\npackage main\n"),
            ("cmd/one/main.go", "package main // one\n"),
            ("cmd/one/more.go", "package main\n"),
            ("cmd/gen/gen.go", "//go:build ignore\n\npackage main\n"),
            ("cmd/tested/a_test.go", "package main\n"),
            ("tools/one/main.go", "package main\n"),
            ("pkg/lib/lib.go", "package lib\n"),
            ("vendor/x/main.go", "package main\n"),
            ("other/go.mod", "module other\n"),
            ("other/main.go", "package main\n"),
            ("_old/main.go", "package main\n"),
        ];
        for (path, text) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = find(&dir).unwrap().unwrap();
        assert_eq!(found.module, "example.org/Tool");
        let programs: Vec<_> = found.programs.iter().map(|(name, package)| format!("{name} {package}")).collect();
        assert_eq!(programs, ["one ./cmd/one", "tool .", "tools-one ./tools/one"]);
    }
}
