//! Finds the inputs of a program: exactly the source files and modules that its package requires.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use vcinspect::graph::{IMPORTS, Imports};
use vcnetwork::Permit;
use vcsandbox::plain;
use vcsandbox::process;
use vcstore::{Action, Outputs, Platform, Store};

use super::{Go, Module};
use crate::Error;
use crate::lock::PinnedModule;
use crate::offline_inputs::InputsDir;
use crate::progress::Progress;
use crate::source::Tree;

/// The time limits for listing packages and for fetching modules.
const LIST_LIMIT: Duration = Duration::from_secs(10 * 60);
const FETCH_LIMIT: Duration = Duration::from_secs(60 * 60);

/// The inputs of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closure {
    /// The source files, relative to the module's top; without `go.sum`.
    pub(super) files: BTreeSet<Utf8PathBuf>,
    /// The headers among them, by the assembly file that includes them. Go does not list them: they are found after
    /// each scan.
    #[serde(skip)]
    pub(super) headers: BTreeMap<Utf8PathBuf, BTreeSet<Utf8PathBuf>>,
    /// The import paths of the required packages, without Go's own and the `main` package.
    pub(super) packages: BTreeSet<String>,
    /// The required modules, without those of the source.
    pub(super) modules: BTreeSet<Needed>,
}

/// A required module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Needed {
    pub(super) path: String,
    pub(super) version: String,
    /// The checksum in `go.sum`; older versions of Go do not report it.
    pub(super) sum: Option<String>,
    /// The folder relative to the module cache; `None` if the module is vendored.
    pub(super) dir: Option<Utf8PathBuf>,
}

/// The properties that all closures of a scan share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope {
    pub(crate) platform: Platform,
    pub(crate) tags: Vec<String>,
    /// The packages to scan, such as `./cmd/manager`.
    pub(crate) packages: BTreeSet<String>,
}

/// The version of the closure's content. Increment it when that changes; it is part of every action key.
const RECIPE: u32 = 2;

/// Returns the closure of each package of `scope`.
///
/// # Errors
/// When a package is missing, cannot be read, or requires a module that cannot be fetched; the error contains Go's
/// messages.
pub(crate) fn scan(
    go: &Go,
    store: &Store,
    module: &Module,
    tree: &Tree,
    scope: &Scope,
    progress: &Progress,
) -> Result<BTreeMap<String, Closure>, Error> {
    let action = Action::new("scan", scope.platform.to_string())
        .input("recipe", RECIPE)?
        .input("source", tree.hash(&module.top))?
        .input("module", module.dir.strip_prefix(&module.top).unwrap_or(&module.dir))?
        .input("toolchain", go.toolchain.identity())?
        .input("platform", &scope.platform)?
        .input("tags", &scope.tags)?
        .input("packages", &scope.packages)?;
    let action = match &module.work {
        Some(work) => action.input("workspace", (module.go_work(Utf8Path::new("")), tree.hash_of(&work.file)?))?,
        None => action,
    };
    let outputs = progress.realise(store, &action, || {
        let listing = list_or_fetch(go, store, module, scope, progress)?;
        let imports = listing.imports(module, scope);
        let mut outputs = Outputs::new().with_blob(IMPORTS, store.put_document(&imports)?);
        for package in &scope.packages {
            let closure = listing.closure(go, module, package)?;
            outputs = outputs.with_blob(package, store.put_document(&closure)?);
        }
        Ok(outputs)
    })?;
    let read = |package: &String| {
        let blob = outputs.blob(package).ok_or_else(|| Error::Internal(format!("the scan left out {package}")))?;
        Ok((package.clone(), store.document(&blob.digest)?))
    };
    scope.packages.iter().map(read).collect()
}

/// Fetches the modules of `scope` if any module of `closure` is missing from the cache, which the user may empty.
///
/// # Errors
/// When a module cannot be fetched.
pub(super) fn ensure_modules(
    go: &Go,
    store: &Store,
    module: &Module,
    scope: &Scope,
    closure: &Closure,
    progress: &Progress,
) -> Result<(), Error> {
    let there = |dir: &Utf8PathBuf| go.modules.join(dir).is_dir();
    if closure.modules.iter().filter_map(|module| module.dir.as_ref()).all(there) {
        return Ok(());
    }
    fetch(go, store, module, scope, progress).map(|_| ())
}

fn list_or_fetch(
    go: &Go,
    store: &Store,
    module: &Module,
    scope: &Scope,
    progress: &Progress,
) -> Result<Listing, Error> {
    let attempt = format!("reading the packages of {}", module.named);
    match list(go, store, module, scope, Modules::Missing) {
        // Go's message for a module that is not in the cache.
        Err(failure) if failure.stderr().is_some_and(|stderr| stderr.contains("GOPROXY=off")) && !module.vendored => {
            fetch(go, store, module, scope, progress)
        }
        result => result.map_err(|failure| Error::go(&attempt)(module.explain(failure))),
    }
}

/// Lists the packages and fetches missing modules: over the network, from a folder of offline inputs, or offline from
/// the user's module cache.
fn fetch(go: &Go, store: &Store, module: &Module, scope: &Scope, progress: &Progress) -> Result<Listing, Error> {
    if let Some(folder) = InputsDir::of(&go.network) {
        let proxy = folder.go_proxy()?;
        return list(go, store, module, scope, Modules::Inputs(&proxy))
            .map_err(|why| folder.modules_failed(module.explain(why)));
    }
    match go.network.permit(format!("fetching the Go modules of {}", module.path)) {
        Ok(permit) => {
            progress.say("fetching Go modules");
            let listed = list(go, store, module, scope, Modules::Fetched(permit));
            listed.map_err(|failure| Error::fetch_modules(module.explain(failure)))
        }
        Err(offline) => list(go, store, module, scope, Modules::Copied).map_err(|failure| {
            tracing::info!("trying the module cache of the user's Go: {failure}");
            offline.into()
        }),
    }
}

/// The origin of modules that are missing from the store's module cache.
#[derive(Debug, Clone, Copy)]
enum Modules<'a> {
    /// None: missing modules are an error.
    Missing,
    /// A module proxy in a folder of offline inputs.
    Inputs(&'a str),
    /// The module cache of the user's Go.
    Copied,
    /// The module cache of the user's Go, then its configured proxies.
    Fetched(Permit),
}

/// The requested fields of a package: those of [`Package`].
const FIELDS: &str = "Dir,ImportPath,Name,Standard,DepOnly,Module,Imports,Deps,GoFiles,CFiles,CXXFiles,MFiles,HFiles,FFiles,\
                      SFiles,SwigFiles,SwigCXXFiles,SysoFiles,EmbedFiles";

/// A package in the output of `go list -json`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Package {
    dir: Utf8PathBuf,
    import_path: String,
    name: String,
    standard: bool,
    dep_only: bool,
    module: Option<ListedModule>,
    imports: Vec<String>,
    deps: Vec<String>,
    go_files: Vec<String>,
    c_files: Vec<String>,
    #[serde(rename = "CXXFiles")]
    cxx_files: Vec<String>,
    m_files: Vec<String>,
    h_files: Vec<String>,
    f_files: Vec<String>,
    s_files: Vec<String>,
    swig_files: Vec<String>,
    #[serde(rename = "SwigCXXFiles")]
    swig_cxx_files: Vec<String>,
    syso_files: Vec<String>,
    embed_files: Vec<String>,
}

/// The module of a package in the output of `go list -json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedModule {
    path: String,
    #[serde(default)]
    version: String,
    dir: Option<Utf8PathBuf>,
    sum: Option<String>,
    replace: Option<Box<ListedModule>>,
}

/// All packages of a scope by import path, and the import paths of the requested ones by folder.
struct Listing {
    packages: BTreeMap<String, Package>,
    asked: BTreeMap<Utf8PathBuf, String>,
}

fn list(
    go: &Go,
    store: &Store,
    module: &Module,
    scope: &Scope,
    modules: Modules<'_>,
) -> Result<Listing, process::Failure> {
    let home = go.home(store).map_err(|why| process::Failure::Other(why.to_string()))?;
    let mut command = go.command_for(&home.path, &scope.platform);
    match modules {
        Modules::Missing => {}
        Modules::Inputs(proxy) => drop(command.env("GOPROXY", proxy)),
        Modules::Copied => go.toolchain.let_copy(&mut command),
        Modules::Fetched(permit) => go.toolchain.let_fetch(&mut command, permit),
    }
    command.env("GOWORK", module.go_work(&module.top));
    command.current_dir(&module.dir).args(["list", "-deps", "-buildvcs=false", "-modcacherw", module.mod_option()]);
    command.arg(format!("-json={FIELDS}")).arg(format!("-tags={}", scope.tags.join(","))).arg("--");
    command.args(&scope.packages);
    let output =
        process::run(&mut command, if matches!(modules, Modules::Missing) { LIST_LIMIT } else { FETCH_LIMIT })?;
    let mut listing = Listing { packages: BTreeMap::new(), asked: BTreeMap::new() };
    for package in serde_json::Deserializer::from_slice(&output).into_iter::<Package>() {
        let package =
            package.map_err(|why| process::Failure::Other(format!("the output of go list cannot be parsed: {why}")))?;
        if !package.dep_only {
            listing.asked.insert(package.dir.clone(), package.import_path.clone());
        }
        listing.packages.insert(package.import_path.clone(), package);
    }
    Ok(listing)
}

impl Listing {
    fn asked(&self, module: &Module, asked: &str) -> Option<&Package> {
        let dir: Utf8PathBuf = module.dir.join(asked).components().filter(|part| part.as_str() != ".").collect();
        self.asked.get(&dir).and_then(|path| self.packages.get(path))
    }

    fn imports(&self, module: &Module, scope: &Scope) -> Imports {
        let program = |asked: &String| Some((asked.clone(), self.asked(module, asked)?.import_path.clone()));
        let ours = |path: &&String| self.packages.get(*path).is_some_and(|package| !package.standard);
        let imports = |package: &Package| package.imports.iter().filter(ours).cloned().collect();
        let packages = self.packages.values().filter(|package| !package.standard);
        Imports {
            programs: scope.packages.iter().filter_map(program).collect(),
            imports: packages.map(|package| (package.import_path.clone(), imports(package))).collect(),
        }
    }

    /// Returns the closure of a requested package.
    fn closure(&self, go: &Go, module: &Module, asked: &str) -> Result<Closure, Error> {
        let main = self.asked(module, asked).filter(|package| package.name == "main").ok_or_else(|| {
            let why = format!("{asked} is not a program: its package name is not main");
            Error::go(&format!("reading the packages of {}", module.named))(process::Failure::Other(why))
        })?;
        let (files, packages, modules) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut closure = Closure { files, headers: BTreeMap::new(), packages, modules };
        for path in &module.go_mods {
            closure.add_file(module, path)?;
        }
        if let Some(dir) = module.vendor_dir() {
            closure.add_file(module, &dir.join("vendor/modules.txt"))?;
        }
        // Go uses this profile for optimisation if it exists.
        let profile = main.dir.join("default.pgo");
        if profile.is_file() {
            closure.add_file(module, &profile)?;
        }
        let deps = main.deps.iter().filter_map(|path| self.packages.get(path)).filter(|package| !package.standard);
        for package in deps {
            closure.packages.insert(package.import_path.clone());
            closure.add_package(go, module, package)?;
        }
        closure.add_package(go, module, main)?;
        Ok(closure)
    }
}

impl Closure {
    /// Returns the required modules as the lock pins them, except vendored modules, which are part of the source.
    ///
    /// # Errors
    /// When the checksum of a module is missing.
    pub(crate) fn pins(&self, module: &Module) -> Result<Vec<PinnedModule>, Error> {
        // Older versions of Go do not report a checksum for each module.
        let read = |path: Utf8PathBuf| plain::read_text(&path).unwrap_or_default();
        let sums = LazyCell::new(|| module.sums().into_iter().map(read).collect::<Vec<_>>().join("\n"));
        let listed = |one: &Needed| {
            let line = format!("{} {} ", one.path, one.version);
            sums.lines().find_map(|text| text.strip_prefix(&line)).map(str::to_owned)
        };
        let pin = |one: &Needed| {
            let sum = one.sum.clone().or_else(|| listed(one)).ok_or_else(|| {
                let why = format!("go.sum has no checksum for {} {}: run `go mod tidy`", one.path, one.version);
                Error::go(&format!("reading {}/go.sum", module.named))(process::Failure::Other(why))
            })?;
            Ok(PinnedModule { path: one.path.clone(), version: one.version.clone(), sum })
        };
        self.modules.iter().filter(|one| one.dir.is_some()).map(pin).collect()
    }

    /// Adds the headers that assembly files include.
    pub(super) fn add_headers(&mut self, headers: BTreeMap<Utf8PathBuf, BTreeSet<Utf8PathBuf>>) {
        self.files.extend(headers.values().flatten().cloned());
        self.headers = headers;
    }

    fn add_package(&mut self, go: &Go, module: &Module, package: &Package) -> Result<(), Error> {
        let in_source = !package.dir.starts_with(&go.modules) && package.dir.starts_with(&module.top);
        if in_source {
            for name in package.files() {
                self.add_file(module, &package.dir.join(name))?;
            }
        }
        let listed = package.module.as_ref().map(|listed| listed.replace.as_deref().unwrap_or(listed));
        if let Some(listed) = listed.filter(|listed| !listed.version.is_empty()) {
            let dir = listed.dir.as_deref().and_then(|dir| dir.strip_prefix(&go.modules).ok());
            self.modules.insert(Needed {
                path: listed.path.clone(),
                version: listed.version.clone(),
                sum: listed.sum.clone(),
                dir: dir.map(Utf8Path::to_owned),
            });
        } else if !in_source {
            let why = format!("package {} is in {}, outside the source", package.import_path, package.dir);
            return Err(Error::go(&format!("reading the packages of {}", module.named))(process::Failure::Other(why)));
        }
        Ok(())
    }

    fn add_file(&mut self, module: &Module, path: &Utf8Path) -> Result<(), Error> {
        let below = path.strip_prefix(&module.top);
        let below = below.map_err(|_| Error::Internal(format!("{path} is not below {}", module.top)))?;
        self.files.insert(below.to_owned());
        Ok(())
    }
}

impl Package {
    /// Returns the names of all files that the compiler may read.
    fn files(&self) -> impl Iterator<Item = &String> {
        let code = [&self.go_files, &self.c_files, &self.cxx_files, &self.m_files, &self.h_files, &self.f_files];
        let more = [&self.s_files, &self.swig_files, &self.swig_cxx_files, &self.syso_files, &self.embed_files];
        code.into_iter().chain(more).flatten()
    }
}
