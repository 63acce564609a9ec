//! The main module of a source, and the local folders by which its `go.mod` replaces other modules.

use std::collections::BTreeSet;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use vcsandbox::plain;
use vcsandbox::process;
use vcstore::Store;

use super::work::{self, Work};
use super::{Go, cgo};
use crate::Error;
use crate::source::{ExcludedFiles, Reader, Source};

pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// The main module of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// The module path, such as `example.org/virtualcluster`.
    pub(crate) path: String,
    /// The folder of the module; absolute.
    pub(crate) dir: Utf8PathBuf,
    /// The folders of the module, its workspace and local replacements, without nested ones.
    pub(crate) dirs: Vec<Utf8PathBuf>,
    /// The innermost folder that contains all of them.
    pub(crate) top: Utf8PathBuf,
    /// The `go.mod` files of all of them, and the `go.work`.
    pub(super) go_mods: Vec<Utf8PathBuf>,
    /// The workspace of the module.
    pub(super) work: Option<Work>,
    /// Whether the required modules are in a `vendor` folder.
    pub(super) vendored: bool,
    /// The folder of the module as the user named it.
    pub(super) named: Utf8PathBuf,
    /// The files next to the module that are not part of the source.
    excluded: ExcludedFiles,
    /// A message that names an unused `go.work` and the reason.
    passed_over: Option<String>,
    /// The folder of fetched modules.
    modules: Utf8PathBuf,
}

/// The output of `go mod edit -json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoMod {
    module: Option<ModulePath>,
    go: Option<String>,
    #[serde(default)]
    replace: Option<Vec<Replace>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ModulePath {
    path: String,
}

/// A `replace` directive of a `go.mod` or `go.work`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Replace {
    new: ModulePath,
}

impl Module {
    /// Reads the `go.mod` of a source, and those of its workspace and local replacements.
    ///
    /// # Errors
    /// When Go cannot read a file, or a replacement is a folder that cannot be part of a source.
    pub(crate) fn read(go: &Go, store: &Store, source: &Source) -> Result<Self, Error> {
        let Source { dir, top, named, excluded, .. } = source;
        let attempt = format!("reading {named}/go.mod");
        let go_mod = GoMod::read(go, store, dir, &attempt)?;
        let other = |why: String| Error::go(&attempt)(process::Failure::Other(why));
        let path = go_mod.module.as_ref().ok_or_else(|| other("it names no module".to_owned()))?.path.clone();
        // A fetched module comes without the other modules of its workspace.
        let is_fetched = source.revision.as_ref().is_some_and(|revision| revision.commit.is_none());
        let work = if is_fetched { None } else { Work::find(go, store, dir, top)? };
        let mut all = go_mod.replaced(dir, &attempt)?;
        all.push(dir.to_owned());
        for used in work.iter().flat_map(|work| &work.uses).filter(|used| *used != dir) {
            let attempt = format!("reading {}/go.mod", used.strip_prefix(top).unwrap_or(used));
            all.extend(GoMod::read(go, store, used, &attempt)?.replaced(used, &attempt)?);
            all.push(used.clone());
        }
        all.extend(work.iter().flat_map(|work| work.replaced.clone()));
        all.sort();
        all.dedup();
        let go_mods = all.iter().map(|folder| folder.join("go.mod"));
        let go_mods = go_mods.chain(work.as_ref().map(|work| work.file.clone())).collect();
        let vendored = match &work {
            Some(work) => work.vendored,
            None => dir.join("vendor/modules.txt").is_file() && go_mod.go.as_deref().is_some_and(|go| at_least(go, 14)),
        };
        all.extend(work.as_ref().filter(|_| vendored).map(|work| work.dir().join("vendor")));
        all.sort();
        // The list is sorted, so a folder comes after the folders that contain it.
        let mut dirs: Vec<Utf8PathBuf> = Vec::new();
        for folder in all {
            if !dirs.iter().any(|outer| folder.starts_with(outer)) {
                dirs.push(folder);
            }
        }
        let held = || dirs.iter().map(Utf8PathBuf::as_path).chain(work.as_ref().map(Work::dir));
        let holds_all = |top: &&Utf8Path| held().all(|folder| folder.starts_with(top));
        let top = dir.ancestors().find(holds_all).unwrap_or(Utf8Path::new("/")).to_owned();
        let passed_over = if work.is_some() {
            None
        } else {
            source.real_dirs().and_then(|(real, top)| work::passed_over(&real, &top))
        };
        let (dir, named, excluded, modules) = (dir.clone(), named.clone(), excluded.clone(), go.modules.clone());
        Ok(Self { path, dir, dirs, top, go_mods, work, vendored, named, excluded, passed_over, modules })
    }

    /// Returns the paths of the files with the checksums of required modules.
    pub(super) fn sums(&self) -> Vec<Utf8PathBuf> {
        match &self.work {
            None => vec![self.dir.join("go.sum")],
            Some(work) => {
                let uses = work.uses.iter().map(|used| used.join("go.sum"));
                uses.chain([work.dir().join("go.work.sum")]).collect()
            }
        }
    }

    /// Returns the folder that contains the used `vendor` folder, if there is one.
    pub(super) fn vendor_dir(&self) -> Option<&Utf8Path> {
        let dir = self.work.as_ref().map_or(self.dir.as_path(), Work::dir);
        self.vendored.then_some(dir)
    }

    /// Returns the value of `GOWORK`, for a module whose `top` is at this path.
    pub(super) fn go_work(&self, top: &Utf8Path) -> String {
        let below = self.work.as_ref().and_then(|work| work.file.strip_prefix(&self.top).ok());
        below.map_or_else(|| "off".to_owned(), |below| top.join(below).into_string())
    }

    /// Returns the option that fixes where modules come from, and forbids changes of `go.mod`.
    pub(super) fn mod_option(&self) -> &'static str {
        if self.vendored { "-mod=vendor" } else { "-mod=readonly" }
    }

    /// Adds possible causes to Go's messages: code that is not part of the source, an unused `go.work`, cgo.
    pub(super) fn explain(&self, failure: process::Failure) -> process::Failure {
        self.excluded.explain(failure, Reader::Go).map_stderr(|stderr| {
            let cgo = cgo::explain(&stderr, &self.path, &self.dir, &self.modules);
            let more: Vec<_> = self.passed_over.clone().into_iter().chain(cgo).collect();
            if more.is_empty() { stderr } else { format!("{}\n{}", stderr.trim_end(), more.join("\n")) }
        })
    }
}

impl GoMod {
    /// Reads the `go.mod` in `dir`.
    fn read(go: &Go, store: &Store, dir: &Utf8Path, attempt: &str) -> Result<Self, Error> {
        let home = go.home(store)?;
        let mut command = go.command(&home.path);
        command.current_dir(dir).args(["mod", "edit", "-json"]);
        let output = process::run(&mut command, LIMIT).map_err(Error::go(attempt))?;
        let other = |why: serde_json::Error| Error::go(attempt)(process::Failure::Other(why.to_string()));
        serde_json::from_slice(&output).map_err(other)
    }

    /// Returns the folders that replace modules.
    fn replaced(&self, dir: &Utf8Path, attempt: &str) -> Result<Vec<Utf8PathBuf>, Error> {
        let folders = self.replace.iter().flatten().map(|replace| folder(replace, dir));
        let folders: Vec<_> = folders.collect::<Result<_, _>>().map_err(Error::go(attempt))?;
        Ok(folders.into_iter().flatten().collect())
    }
}

/// Returns the folder by which a `replace` directive of a file in `beside` replaces a module; `None` if the replacement
/// is not a folder.
pub(super) fn folder(replace: &Replace, beside: &Utf8Path) -> Result<Option<Utf8PathBuf>, process::Failure> {
    let folder = &replace.new.path;
    if folder.starts_with('/') {
        let why = format!("it replaces a module by {folder}, an absolute path, which is valid on this machine only");
        return Err(process::Failure::Other(why));
    }
    if !(folder.starts_with("./") || folder.starts_with("../") || folder == "..") {
        return Ok(None);
    }
    let found = beside.join(folder).canonicalize_utf8();
    let missing =
        |why| process::Failure::Other(format!("it replaces a module by {folder}, which cannot be found: {why}"));
    found.map(Some).map_err(missing)
}

/// Returns the existing folders outside of `top` that belong to the module in `dir`: local replacements in its `go.mod`
/// or workspace, and other modules of the workspace. `top` is the folder of the source.
pub(crate) fn folders_beside(dir: &Utf8Path, top: &Utf8Path) -> BTreeSet<Utf8PathBuf> {
    let (work, uses) = work::used(dir, top).unzip();
    let uses = uses.unwrap_or_default();
    let mut folders: BTreeSet<_> = uses.iter().cloned().collect();
    let go_mods = uses.iter().map(Utf8PathBuf::as_path).chain([dir]).map(|module| module.join("go.mod"));
    for file in go_mods.chain(work) {
        let text = plain::read_text(&file).unwrap_or_default();
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let replacements = code.filter_map(|line| line.split_once("=>")?.1.split_whitespace().next());
        let named = replacements.map(|folder| folder.trim_matches('"')).filter(|folder| folder.starts_with('.'));
        let beside = file.parent().unwrap_or(dir);
        folders.extend(named.filter_map(|folder| beside.join(folder).canonicalize_utf8().ok()));
    }
    folders.retain(|folder| !folder.starts_with(top));
    folders
}

/// Returns whether a Go version is at least 1.`minor`.
pub(super) fn at_least(version: &str, minor: u32) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(1), Some(minor))
}

#[cfg(test)]
mod tests {
    use super::at_least;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(at_least("1.14", 14) && at_least("1.26.3", 14) && at_least("2.0", 14));
        assert!(!at_least("1.13", 14) && !at_least("1", 14) && !at_least("1.9", 22));
    }
}
