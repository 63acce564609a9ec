//! A Cargo workspace: its binaries, and the crates that its `Cargo.lock` pins, fetched before the sandboxed build.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use cargo_metadata::{Metadata, TargetKind};
use serde::Deserialize;
use vcsandbox::plain;
use vcsandbox::process;
use vcstore::Store;
use vcstore::utf8;

use super::toolchain::{Toolchain, apart};
use crate::build_context::{BuildContext, BuildTarget};
use crate::error::CargoError;
use crate::lock::PinnedCrate;
use crate::project::CargoProgram;
use crate::source::{FileHash, Source};

const METADATA_LIMIT: Duration = Duration::from_secs(120);
const FETCH_LIMIT: Duration = Duration::from_secs(60 * 60);

/// The manifest of a workspace or package.
pub(super) const MANIFEST: &str = "Cargo.toml";

/// The file that pins the dependencies of a workspace.
const LOCK: &str = "Cargo.lock";

/// A Cargo workspace.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Cargo's default output folder, which is not part of the source.
    pub(super) target_dir: Utf8PathBuf,
    /// The binaries, as package and name.
    binaries: Vec<(String, String)>,
    /// The names of the packages.
    pub(super) packages: Vec<String>,
    /// A placeholder for the root file of each target, by its path relative to the workspace.
    pub(super) stubs: BTreeMap<Utf8PathBuf, &'static str>,
}

/// The dependencies of a workspace, vendored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crates {
    /// The folder of the crates.
    pub(super) dir: Utf8PathBuf,
    /// The Cargo settings that make Cargo use this folder, with [`PLACE`] for its path.
    pub(super) config: String,
}

/// The placeholder for the folder of the crates in the settings.
pub(super) const PLACE: &str = "{crates}";

/// The name of the settings file, next to the folder of the crates.
const CONFIG: &str = "config.toml";

impl Workspace {
    /// Reads the manifests of the workspace in `dir`. All its crates must be below `top`. Runs no code of the workspace
    /// and fetches nothing.
    pub(super) fn read(toolchain: &Toolchain, dir: &Utf8Path, top: &Utf8Path) -> Result<Self, CargoError> {
        Self::told(&mut toolchain.cargo(), dir, Some(top))
    }

    /// Returns the binaries of the workspace in `dir`, as package and name, according to the installed Cargo.
    pub(super) fn binaries(dir: &Utf8Path) -> Result<Vec<(String, String)>, CargoError> {
        // Cargo reports paths without symbolic links.
        let dir = dir.canonicalize_utf8().unwrap_or_else(|_| dir.to_owned());
        match Self::told(apart(&mut Command::new("cargo")), &dir, None) {
            Err(CargoError::Metadata { source, .. }) if source.is_missing_program() => Err(CargoError::NoRust),
            told => Ok(told?.binaries),
        }
    }

    fn told(command: &mut Command, dir: &Utf8Path, top: Option<&Utf8Path>) -> Result<Self, CargoError> {
        let failed = |failure| CargoError::Metadata { dir: dir.to_owned(), source: Box::new(failure) };
        command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
        command.arg("--manifest-path").arg(dir.join(MANIFEST));
        let output = process::run(command, METADATA_LIMIT).map_err(failed)?;
        let metadata: Metadata = serde_json::from_slice(&output)
            .map_err(|why| failed(process::Failure::Other(format!("the output of Cargo cannot be parsed: {why}"))))?;
        if metadata.workspace_root != dir {
            return Err(CargoError::InnerFolder { dir: dir.to_owned(), root: metadata.workspace_root });
        }
        if let Some(top) = top {
            check_places(&metadata, dir, top)?;
        }
        let binaries = metadata.packages.iter().flat_map(|package| {
            let binaries = package.targets.iter().filter(|target| target.kind.contains(&TargetKind::Bin));
            binaries.map(|target| (package.name.to_string(), target.name.clone()))
        });
        let binaries = binaries.collect();
        let packages = metadata.packages.iter().map(|package| package.name.to_string()).collect();
        let targets = metadata.packages.iter().flat_map(|package| &package.targets);
        let stub = |target: &cargo_metadata::Target| {
            let is_library = target.kind.iter().any(|kind| !matches!(kind, TargetKind::Bin | TargetKind::CustomBuild));
            let path = target.src_path.strip_prefix(dir).ok()?.to_owned();
            Some((path, if is_library { "" } else { "fn main() {}\n" }))
        };
        let stubs = targets.filter_map(stub).collect();
        Ok(Self { target_dir: metadata.target_directory, binaries, packages, stubs })
    }

    /// Returns the package that contains the requested binary.
    pub(super) fn package(&self, wanted: &BuildTarget<'_, CargoProgram>) -> Result<&str, CargoError> {
        let CargoProgram { package, bin, .. } = wanted.program;
        let fits = |of: &str| package.as_ref().is_none_or(|package| package == of);
        let found: Vec<_> = self.binaries.iter().filter(|(of, name)| name == bin && fits(of)).collect();
        let list = |binaries: &mut dyn Iterator<Item = &(String, String)>| {
            binaries.map(|(package, bin)| format!("{package}/{bin}")).collect::<Vec<_>>()
        };
        let (component, bin) = (wanted.component.name.clone(), bin.clone());
        match found.as_slice() {
            [(package, _)] => Ok(package),
            [] => Err(CargoError::NoBinary { component, bin, known: list(&mut self.binaries.iter()) }),
            many => Err(CargoError::ManyBinaries { component, bin, known: list(&mut many.iter().copied()) }),
        }
    }
}

/// Checks that the workspace's packages and path dependencies are below `top`.
fn check_places(metadata: &Metadata, dir: &Utf8Path, top: &Utf8Path) -> Result<(), CargoError> {
    for package in &metadata.packages {
        let own = package.manifest_path.parent().map(|folder| (package.name.to_string(), folder));
        let others = package.dependencies.iter().filter_map(|one| Some((one.name.clone(), one.path.as_deref()?)));
        for (name, folder) in own.into_iter().chain(others) {
            if !folder.starts_with(top) {
                return Err(CargoError::Outside { dir: dir.to_owned(), name, folder: from(dir, folder) });
            }
        }
    }
    Ok(())
}

/// Returns the path of `folder` relative to `dir`.
fn from(dir: &Utf8Path, folder: &Utf8Path) -> Utf8PathBuf {
    let common = dir.ancestors().find(|above| folder.starts_with(above)).unwrap_or(Utf8Path::new("/"));
    let up = dir.strip_prefix(common).map_or(0, |below| below.components().count());
    let down = folder.strip_prefix(common).unwrap_or(folder);
    std::iter::repeat_n(Utf8Path::new(".."), up).chain([down]).collect()
}

/// Checks that the workspace has a `Cargo.lock`.
///
/// # Errors
/// When it has none, or is a member of a workspace that has one.
pub(super) fn must_have_lock(source: &Source) -> Result<(), crate::Error> {
    let has = |folder: &Utf8Path| folder.join(LOCK).is_file() && folder.join(MANIFEST).is_file();
    let root = source.dir.ancestors().take_while(|folder| folder.starts_with(&source.top)).find(|folder| has(folder));
    match root {
        Some(root) if root != source.dir && source.dir.join(MANIFEST).is_file() => {
            Err(CargoError::InnerFolder { dir: source.dir.clone(), root: root.to_owned() }.into())
        }
        _ => source.must_have(LOCK),
    }
}

impl Crates {
    /// Returns the crates that the `Cargo.lock` of the workspace in `dir` pins, from the cache or fetched and verified
    /// by Cargo with the user's settings. Returns `None` if the workspace needs none.
    pub(super) fn of(
        toolchain: &Toolchain,
        dir: &Utf8Path,
        context: &BuildContext<'_>,
    ) -> Result<Option<Self>, crate::Error> {
        let path = dir.join(LOCK);
        let lock = plain::read_text(&path).map_err(crate::Error::io("reading", &path))?;
        // A package of the workspace itself has no source.
        if !lock.lines().any(|line| line.starts_with("source = ")) {
            return Ok(None);
        }
        let home = context.store.cache_dir("crates")?;
        let known = home.join(FileHash::of(lock.as_bytes()).to_string());
        let guard_path = home.join("lock");
        let guard = File::options().create(true).append(true).open(&guard_path);
        let guard = guard.map_err(crate::Error::io("opening", &guard_path))?;
        guard.lock().map_err(crate::Error::io("locking", &guard_path))?;
        if !known.join(CONFIG).is_file() {
            context.lock.network().permit(format!("fetching the crates of {dir}"))?;
            let _step = context.progress.step("fetching crates");
            fetch(toolchain, dir, context.store, &known)?;
        }
        let config = known.join(CONFIG);
        let config = fs::read_to_string(&config).map_err(crate::Error::io("reading", &config))?;
        Ok(Some(Self { dir: known.join("crates"), config }))
    }
}

/// Returns the external crates that the `Cargo.lock` of the workspace in `dir` pins.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn pins(dir: &Utf8Path) -> Result<BTreeSet<PinnedCrate>, crate::Error> {
    /// The relevant part of `Cargo.lock`.
    #[derive(Deserialize)]
    struct Locked {
        #[serde(default)]
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        source: Option<String>,
        checksum: Option<String>,
    }
    let path = dir.join(LOCK);
    let text = plain::read_text(&path).map_err(crate::Error::io("reading", &path))?;
    let locked: Locked = toml::from_str(&text).map_err(|why| CargoError::Lock { path, source: Box::new(why) })?;
    let pin = |Package { name, version, source, checksum }| {
        // A package of the workspace itself has no source; one from a git repository has no checksum, but its source
        // names the commit.
        let content = checksum
            .map(|sum| format!("sha256:{sum}"))
            .or_else(|| source.map(|source| vcterminal::masked(&source).into_owned()))?;
        Some(PinnedCrate { name, version, content })
    };
    Ok(locked.package.into_iter().filter_map(pin).collect())
}

/// Makes Cargo vendor all crates of the lock into the folder `to`, with the settings to use them. Creates the folder
/// atomically.
fn fetch(toolchain: &Toolchain, dir: &Utf8Path, store: &Store, to: &Utf8Path) -> Result<(), crate::Error> {
    let temporary = store.temp_dir()?;
    let folder = utf8("reading", &temporary.path().join("fetched"))?;
    let crates = folder.join("crates");
    fs::create_dir_all(&crates).map_err(crate::Error::io("making", &crates))?;
    let mut command = toolchain.cargo();
    // With --quiet, Cargo would not print the settings. --respect-source-config refers to the user's settings: Cargo
    // does not run in the source's folder, so it does not read the source's own.
    command.args(["vendor", "--locked", "--versioned-dirs", "--respect-source-config"]).arg(&crates);
    command.arg("--manifest-path").arg(dir.join(MANIFEST));
    let config = process::run(&mut command, FETCH_LIMIT)
        .map_err(|failure| CargoError::Fetch { dir: dir.to_owned(), source: Box::new(failure) })?;
    let config = String::from_utf8_lossy(&config).replace(crates.as_str(), PLACE);
    fs::write(folder.join(CONFIG), config).map_err(crate::Error::io("writing", folder.join(CONFIG)))?;
    fs::rename(&folder, to).map_err(crate::Error::io("writing", to))
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::pins;

    #[test]
    fn crates_from_elsewhere_are_pinned_by_content() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(folder.path()).unwrap();
        std::fs::write(
            dir.join("Cargo.lock"),
            "version = 4\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n\
             [[package]]\nname = \"a\"\nversion = \"1.2.0\"\nsource = \"registry+https://r.example/i\"\nchecksum = \"12ab\"\n\
             [[package]]\nname = \"b\"\nversion = \"0.3.0\"\nsource = \"git+https://g.example/b#77\"\n\
             [[package]]\nname = \"c\"\nversion = \"0.4.0\"\nsource = \"git+https://me:s3cret@g.example/c?token=s3cret#78\"\n",
        )
        .unwrap();
        let shown: Vec<String> = pins(dir).unwrap().into_iter().map(Into::into).collect();
        assert_eq!(
            shown,
            [
                "a 1.2.0 sha256:12ab",
                "b 0.3.0 git+https://g.example/b#77",
                "c 0.4.0 git+https://***@g.example/c?token=***#78"
            ]
        );
        std::fs::write(dir.join("Cargo.lock"), "package = 1").unwrap();
        let error = pins(dir).unwrap_err().to_string();
        assert!(error.starts_with("reading ") && error.ends_with("Cargo.lock"), "{error}");
    }
}
