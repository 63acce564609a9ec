//! The options that determine the inputs of images, shared by the commands that build images and that lock their inputs.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use vcnetwork::Network;
use vcstore::Platform;

use super::allow::AllowOptions;
use super::debian::DebianOptions;
use super::{ProjectFiles, parse_platform};
use crate::base::{self, DEFAULT_REFERENCE};
use crate::lock::Policy;
use crate::offline_inputs::InputsDir;
use crate::project::{Component, Kind, Project, SourceTable};
use crate::request::{Request, UNSTAMPED, platforms};
use crate::source::{OUT, Source, SourceSpec, is_source, real_path};
use crate::{Error, go_names, lock, platform};

/// Where the code is, what it is stacked on and compiled with.
#[derive(Debug, Args)]
pub(super) struct Inputs {
    /// The source folder [default: the project's, else the current one]
    #[arg(long, value_name = "DIR", help_heading = "Source")]
    pub(super) source_dir: Option<Utf8PathBuf>,

    /// Clone the source from this git repository
    ///
    /// vcbuild uses the installed git, with your configuration and logins.
    #[arg(long, value_name = "URL", conflicts_with = "source_dir", help_heading = "Source")]
    source_repo: Option<String>,

    /// The branch, tag or commit of the repository
    ///
    /// It is also the version that the binaries are stamped with.
    #[arg(long, value_name = "REV", conflicts_with = "source_dir", help_heading = "Source")]
    source_version: Option<String>,

    /// The folder within the source that has the go.mod or Cargo.toml
    #[arg(long, value_name = "DIR", help_heading = "Source")]
    source_subdir: Option<Utf8PathBuf>,

    /// Compile with this Go: 1.26.3, or 1.26.x for the newest
    ///
    /// vcbuild fetches, verifies and pins it. By default it uses the project's `go`, else the installed Go.
    #[arg(long, value_name = "VERSION", value_parser = go_names::parse_version, help_heading = "Source")]
    go: Option<String>,

    #[command(flatten, next_help_heading = "Source")]
    pub(super) files: ProjectFiles,

    /// Do not make this edit of the project, such as one of the preset
    ///
    /// Its `name` in [[edits]]. May be given several times.
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    without_edit: Vec<String>,

    #[command(flatten, next_help_heading = "Source")]
    pub(super) allow: AllowOptions,

    /// The base: debian, static, scratch, or a reference [default: registry]
    ///
    /// `debian` is assembled from Debian's signed packages, `static` has certificates, zone data and accounts for
    /// static programs, `scratch` is empty, `registry` is debian:bookworm-slim. Others are an image reference,
    /// `oci:PATH` and `docker-archive:PATH` [default: the project's, else `registry`]
    #[arg(long, help_heading = "Images")]
    base: Option<String>,

    #[command(flatten)]
    pub(super) debian: DebianOptions,

    /// Build for linux/amd64, linux/arm64, linux/arm/v7 [default: amd64]
    ///
    /// By default, vcbuild builds for the project's platforms, else for linux/amd64.
    #[arg(long, value_name = "PLATFORMS", value_delimiter = ',', value_parser = parse_platform, help_heading = "Images")]
    pub(super) platform: Vec<Platform>,
}

/// The options that allow or forbid changes of the lock file.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Lock and network")]
pub(super) struct LockedArgs {
    /// Fail if the lock file would change [default if CI is set]
    ///
    /// The error names the missing or changed input.
    #[arg(long, conflicts_with = "no_locked")]
    locked: bool,

    /// Let the lock file change although CI is set
    #[arg(long)]
    no_locked: bool,
}

/// The options that control resolving and fetching inputs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lock and network")]
pub(super) struct ResolveArgs {
    #[command(flatten)]
    pub(super) locked_args: LockedArgs,

    /// Open no connection: fail if the store lacks an input
    #[arg(long)]
    pub(super) offline: bool,

    /// Take inputs from a folder of `vcbuild fetch`, without a network
    ///
    /// vcbuild reads the inputs that the store lacks from this folder, and fails if the folder lacks one.
    #[arg(long, value_name = "DIR")]
    pub(super) inputs: Option<Utf8PathBuf>,
}

impl Inputs {
    /// The project to build, without the edits that are not wanted.
    pub(super) fn project(&self) -> Result<Project, Error> {
        let mut project = self.files.project(self.source_dir.as_ref())?;
        project.leave_out_edits(&self.without_edit)?;
        Ok(project)
    }

    /// An option that says what goes into images, other than where the source is, if any was given.
    pub(super) fn decisive(&self) -> Option<&'static str> {
        let given = [
            ("--source-repo", self.source_repo.is_some()),
            ("--source-version", self.source_version.is_some()),
            ("--go", self.go.is_some()),
            ("--lock", self.files.lock.is_some()),
            ("--without-edit", !self.without_edit.is_empty()),
            ("--base", self.base.is_some()),
            ("--platform", !self.platform.is_empty()),
        ];
        given.into_iter().find_map(|(name, given)| given.then_some(name)).or(self.debian.decisive())
    }

    /// The source that `claimed` names, or the folder that the command line does; none when neither names any.
    pub(super) fn source_again(&self, claimed: &SourceTable) -> Option<SourceSpec> {
        let subdir = self.source_subdir.clone().or_else(|| claimed.subdir.clone());
        let table = match &self.source_dir {
            Some(dir) => SourceTable { dir: Some(dir.clone()), subdir, ..SourceTable::default() },
            None if claimed.is_nowhere() => return None,
            None => SourceTable { subdir, ..claimed.clone() },
        };
        // What the build that is repeated may have left there.
        let folders =
            table.dir.iter().flat_map(|dir| [Some(dir.clone()), table.subdir.as_ref().map(|sub| dir.join(sub))]);
        let left = folders.flatten().flat_map(|dir| [dir.join(lock::FILE_NAME), dir.join(OUT)]);
        Some(SourceSpec { outside: left.collect(), table, ..SourceSpec::default() })
    }

    /// The folder that the files are in that an archive's project adds: that of the project's file, else of the source.
    pub(super) fn beside_again(&self) -> Option<Utf8PathBuf> {
        let project = self.files.project.as_ref().and_then(|file| file.parent());
        project.or(self.source_dir.as_deref()).map(ToOwned::to_owned)
    }

    /// The base that is asked for.
    pub(super) fn base(&self, project: &Project) -> Result<base::Spec, Error> {
        let base = self.base.as_ref().or(project.base.as_ref()).map_or(DEFAULT_REFERENCE, String::as_str);
        let spec: base::Spec = base.parse()?;
        if !spec.is_of_packages() {
            let project = || (self.base.is_none() && project.says_debian()).then_some("[debian] of the project");
            if let Some(said) = self.debian.given().or_else(project) {
                return Err(Error::Usage(format!(
                    "{said} applies to the bases debian and static, but the base is {base}: remove it, or use --base debian"
                )));
            }
        }
        spec.with_debian(self.debian.over(&project.debian)?)
    }

    /// Checks that the components' inputs are files and folders that the project may have read.
    ///
    /// # Errors
    /// When one is private.
    pub(super) fn check_components(&self, project: &Project, components: &[&Component]) -> Result<(), Error> {
        // A folder that the command line names as the source is its user's word for what is in it.
        let allowed = self.allow.of(project, self.source_dir.as_deref())?;
        for component in components {
            for path in component.kind.host_paths() {
                allowed.check(|| format!("building {}: its input", component.name), path, |_| true)?;
            }
        }
        Ok(())
    }

    /// The version of Go that is asked for.
    pub(super) fn go(&self, project: &Project) -> Option<String> {
        self.go.clone().or_else(|| project.go.clone())
    }

    /// Checks that a version of Go is asked for only where Go is run: to compile a program, or to fetch the source.
    fn check_go(&self, project: &Project, source: &SourceTable) -> Result<(), Error> {
        let is_go = |component: &Component| matches!(component.kind, Kind::Go(_));
        if source.module.is_some() || project.components.values().any(is_go) {
            return Ok(());
        }
        let said = self.go.as_ref().map(|_| "--go").or(project.go.as_ref().map(|_| "`go` of the project"));
        let why = |said| format!("{said} applies to Go programs, but the project has none: remove it");
        said.map_or(Ok(()), |said| Err(Error::Usage(why(said))))
    }

    /// The source that is asked for; archives in the folder `out` are no part of it, nor is the lock.
    pub(super) fn source(&self, project: &Project, out: &Utf8Path) -> Result<SourceSpec, Error> {
        let table = self.place(project)?;
        self.check_go(project, &table)?;
        let out = if out.as_str().is_empty() { Utf8Path::new(".") } else { out };
        let outside = vec![self.files.lock_path(project), out.to_owned()];
        if let Some(dir) = table.dir.as_ref().filter(|_| self.source_dir.is_none()) {
            let without = outside.iter().map(|path| real_path(path)).collect::<Result<Vec<_>, _>>()?;
            let allowed = self.allow.of(project, None)?;
            allowed.check(|| "the project's [source] dir".to_owned(), dir, |entry| is_source(entry, &without))?;
        }
        let archives = archive_names(project, project.version.version.as_deref().unwrap_or(UNSTAMPED)).collect();
        Ok(SourceSpec { table, edits: project.edits.clone(), go: self.go(project), outside, archives })
    }

    /// A request for all components that is only to say what they are made of.
    pub(super) fn request<'a>(
        &self,
        project: &'a Project,
        asked: &SourceSpec,
        source: Source,
    ) -> Result<Request<'a>, Error> {
        let components = project.select(&[])?;
        super::built_in::check(project, &components, &source)?;
        let request = Request::of(project, components, self.base(project)?, source, &asked.table)?;
        Ok(Request { go: self.go(project), platforms: platforms(&self.platform, project), ..request })
    }

    /// Where the source is: as the command line says, else the project, else the project's own folder.
    fn place(&self, project: &Project) -> Result<SourceTable, Error> {
        let subdir = self.source_subdir.clone();
        if self.source_dir.is_some() {
            return Ok(SourceTable { dir: self.source_dir.clone(), subdir, ..SourceTable::default() });
        }
        if self.source_repo.is_some() {
            let (repo, version) = (self.source_repo.clone(), self.source_version.clone());
            return Ok(SourceTable { repo, version, subdir, ..SourceTable::default() });
        }
        let mut source = project.source.clone();
        if self.source_version.is_some() {
            if source.repo.is_none() {
                return Err(Error::Usage("--source-version requires a repository: add --source-repo".to_owned()));
            }
            source.version.clone_from(&self.source_version);
        }
        if source.is_nowhere() {
            source.dir = project.dir().map(ToOwned::to_owned);
        }
        source.subdir = subdir.or(source.subdir);
        Ok(source)
    }
}

impl ResolveArgs {
    /// An option that says what the lock may be, if any was given.
    pub(super) fn decisive(&self) -> Option<&'static str> {
        let given = [("--locked", self.locked_args.locked), ("--no-locked", self.locked_args.no_locked)];
        given.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    /// The policy of the lock file; `update` selects the inputs to resolve again: none, all (no name), or some.
    pub(super) fn policy(&self, update: Option<&[String]>) -> Result<Policy, Error> {
        let asked = |flag: &str| Err(Error::Usage(format!("--update changes the lock file, which {flag} forbids")));
        match update {
            Some(_) if self.locked_args.locked => asked("--locked"),
            Some(_) if self.offline => asked("--offline, which forbids network access,"),
            Some(_) if self.inputs.is_some() => asked("--inputs, which contains only pinned inputs,"),
            Some([]) => Ok(Policy::Update),
            Some(names) => Ok(Policy::UpdateNamed(BTreeSet::from_iter(names.iter().cloned()))),
            None if self.locked_args.locked || (is_ci() && !self.locked_args.no_locked) => Ok(Policy::Locked),
            None => Ok(Policy::Fill),
        }
    }

    /// The network of this run.
    pub(super) fn network(&self) -> Result<Network, Error> {
        match &self.inputs {
            Some(path) => {
                InputsDir::at(path).check()?;
                Ok(Network::Inputs(path.clone()))
            }
            None if self.offline => Ok(Network::Offline),
            None => Ok(Network::Open),
        }
    }
}

/// The names that archives of a project may have, for any platform.
pub(super) fn archive_names(project: &Project, version: &str) -> impl Iterator<Item = String> {
    let components = project.components.values();
    components.flat_map(move |component| {
        let name = |arch| component.archive.fill(&[("arch", arch), ("version", version)]);
        platform::architectures().map(name)
    })
}

/// Whether this runs in CI, where no user would see changes of the lock file.
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

impl ProjectFiles {
    /// Opens the lock of a project.
    pub(super) fn lock(
        &self,
        project: &Project,
        resolve_args: &ResolveArgs,
        update: Option<&[String]>,
    ) -> Result<lock::Lock, Error> {
        lock::Lock::open(&self.lock_path(project), resolve_args.policy(update)?, resolve_args.network()?)
    }

    fn lock_path(&self, project: &Project) -> Utf8PathBuf {
        let beside = || project.dir().map_or_else(Utf8PathBuf::new, ToOwned::to_owned).join(lock::FILE_NAME);
        self.lock.clone().unwrap_or_else(beside)
    }
}
