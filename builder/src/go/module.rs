//! The main module of a source, and the folders beside it that its `go.mod` puts in the place of other modules.

use std::collections::BTreeSet;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use vcstore::Store;

use super::Go;
use crate::source::{LeftOut, Reader, Source};
use crate::{Error, process, text};

const LIMIT: Duration = Duration::from_secs(60);

/// A source's main module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// Its path, as `example.org/virtualcluster`.
    pub(crate) path: String,
    /// Its folder; absolute.
    pub(crate) dir: Utf8PathBuf,
    /// The folders of modules that are replaced by folders, outermost only, with the module's own.
    pub(crate) dirs: Vec<Utf8PathBuf>,
    /// The innermost folder that holds all of them.
    pub(crate) top: Utf8PathBuf,
    /// The `go.mod` files of all of them.
    pub(super) go_mods: Vec<Utf8PathBuf>,
    /// Whether the modules it needs are in its `vendor` folder.
    pub(super) vendored: bool,
    /// Its folder as its user names it.
    pub(super) named: Utf8PathBuf,
    /// What is beside it and none of the source.
    left_out: LeftOut,
}

/// What `go mod edit -json` tells of a `go.mod`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoMod {
    module: Option<Named>,
    go: Option<String>,
    #[serde(default)]
    replace: Option<Vec<Replace>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Replace {
    new: Named,
}

impl Module {
    /// Reads the `go.mod` of a source.
    ///
    /// # Errors
    /// When Go cannot read it, or it leads to folders that cannot be part of a source.
    pub(crate) fn read(go: &Go, store: &Store, source: &Source) -> Result<Self, Error> {
        let Source { dir, named, left_out, .. } = source;
        let attempt = format!("reading {named}/go.mod");
        let home = go.home(store)?;
        let mut command = go.command(&home.path);
        command.current_dir(dir).args(["mod", "edit", "-json"]);
        let output = process::run(&mut command, LIMIT).map_err(Error::go(&attempt))?;
        let other = |why: String| Error::go(&attempt)(process::Failure::Other(why));
        let go_mod: GoMod = serde_json::from_slice(&output).map_err(|why| other(why.to_string()))?;
        let path = go_mod.module.ok_or_else(|| other("it names no module".to_owned()))?.path;
        let mut all = vec![dir.to_owned()];
        for replace in go_mod.replace.unwrap_or_default() {
            let folder = replace.new.path;
            if folder.starts_with('/') {
                return Err(other(format!("it replaces a module by {folder}: such a path means nothing elsewhere")));
            }
            if folder.starts_with("./") || folder.starts_with("../") || folder == ".." {
                let folder = dir.join(folder);
                all.push(folder.canonicalize_utf8().map_err(Error::io("finding", &folder))?);
            }
        }
        all.sort();
        all.dedup();
        let go_mods = all.iter().map(|folder| folder.join("go.mod")).collect();
        // Sorted, so a folder comes after those that hold it.
        let mut dirs: Vec<Utf8PathBuf> = Vec::new();
        for folder in all {
            if !dirs.iter().any(|outer| folder.starts_with(outer)) {
                dirs.push(folder);
            }
        }
        let holds_all = |top: &&Utf8Path| dirs.iter().all(|folder| folder.starts_with(top));
        let top = dir.ancestors().find(holds_all).unwrap_or(Utf8Path::new("/")).to_owned();
        let vendored = dir.join("vendor/modules.txt").is_file() && go_mod.go.as_deref().is_some_and(vendors);
        let (named, left_out) = (named.clone(), left_out.clone());
        Ok(Self { path, dir: dir.clone(), dirs, top, go_mods, vendored, named, left_out })
    }

    /// The option that fixes where modules come from: never from a changed `go.mod`.
    pub(super) fn mod_option(&self) -> &'static str {
        if self.vendored { "-mod=vendor" } else { "-mod=readonly" }
    }

    /// What Go said, and what it may have missed: code that is there, but is none of the source.
    pub(super) fn explain(&self, failure: process::Failure) -> process::Failure {
        self.left_out.explain(failure, Reader::Go)
    }
}

/// The folders outside of `top` that the `go.mod` in `dir` puts in the place of modules, as far as they are there; `top` is
/// the source's own.
pub(crate) fn folders_beside(dir: &Utf8Path, top: &Utf8Path) -> BTreeSet<Utf8PathBuf> {
    let text = text::of_source(&dir.join("go.mod")).unwrap_or_default();
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let replacements = code.filter_map(|line| line.split_once("=>")?.1.split_whitespace().next());
    let folders = replacements.map(|folder| folder.trim_matches('"')).filter(|folder| folder.starts_with('.'));
    let real = folders.filter_map(|folder| dir.join(folder).canonicalize_utf8().ok());
    real.filter(|folder| !folder.starts_with(top)).collect()
}

/// Whether a module of this Go version uses its `vendor` folder without being asked to (since 1.14).
fn vendors(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(1), Some(14))
}

#[cfg(test)]
mod tests {
    #[test]
    fn vendor_folders_count_since_go_1_14() {
        assert!(super::vendors("1.14") && super::vendors("1.26.3") && super::vendors("2.0"));
        assert!(!super::vendors("1.13") && !super::vendors("1"));
    }
}
