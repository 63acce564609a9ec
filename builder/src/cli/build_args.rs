//! The options that determine the content of images and how they are built, shared by the commands that build.

use std::num::NonZeroUsize;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use vcsandbox::{Mode, Sandbox, Settings};
use vcstore::{Compression, Store};

use super::Common;
use super::caches::CacheOptions;
use super::inputs::{Inputs, ResolveArgs, archive_names};
use super::sandbox::SandboxOptions;
use crate::base::{self, DEFAULT_REFERENCE};
use crate::config::Config;
use crate::error::ProvenanceError;
use crate::image::About;
use crate::lock::{self, Lock};
use crate::progress::Progress;
use crate::project::{Project, SourceTable, VersionTable};
use crate::provenance::Provenance;
use crate::request::{Request, platforms, stamps};
use crate::source::{Source, SourceSpec};
use crate::{Error, checkout};

/// Everything but which components, and where archives go.
#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    #[command(flatten)]
    inputs: Inputs,

    /// Stamp the binaries with version=…, commit=… or date=…
    ///
    /// By default, stamps come from the project, else from the revision of the repository.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_stamp, help_heading = "Source")]
    stamp: Vec<(Stamp, String)>,

    /// Compress layers with zstd, gzip or none [default: zstd]
    ///
    /// By default as the project says, else zstd, which containerd 1.5, Docker 23.0 and newer read.
    #[arg(long, value_name = "FORMAT", help_heading = "Images")]
    compression: Option<Compression>,

    /// Build so many components at once [default: the number of processors]
    ///
    /// Also the number of compilers within each.
    #[arg(short, long, value_name = "N", help_heading = "Images")]
    jobs: Option<NonZeroUsize>,

    /// Resolve all inputs again, and update the lock file
    ///
    /// Without this option, vcbuild uses the versions in the lock file.
    #[arg(long, help_heading = "Lock and network")]
    update: bool,

    #[command(flatten)]
    resolve_args: ResolveArgs,

    #[command(flatten, next_help_heading = "Sandbox")]
    sandbox: SandboxOptions,

    #[command(flatten, next_help_heading = "Caches")]
    caches: CacheOptions,

    #[command(flatten, next_help_heading = "Store and output")]
    pub(super) common: Common,
}

/// A value that stamps use.
#[derive(Debug, Clone, Copy)]
enum Stamp {
    Version,
    Commit,
    Date,
}

impl BuildArgs {
    /// The project to build.
    pub(super) fn project(&self) -> Result<Project, Error> {
        self.inputs.project()
    }

    /// What to build of `project`, with its source opened, where and with which lock. Archives go to the folder `out`.
    pub(super) fn request<'a>(
        &self,
        project: &'a Project,
        components: &[String],
        out: &Utf8Path,
        progress: &Progress,
    ) -> Result<(Request<'a>, Store, Lock), Error> {
        let inputs = &self.inputs;
        let components = project.select(components)?;
        inputs.check_components(project, &components)?;
        let base = inputs.base(project)?;
        let mut source = inputs.source(project, out)?;
        if let Some(version) = self.stamp(|stamp| matches!(stamp, Stamp::Version)) {
            source.archives.extend(archive_names(project, &version));
        }
        let epoch = epoch()?;
        let store = self.caches.attach(self.common.store()?, project, &self.resolve_args.network()?)?;
        let update = self.update.then_some(&[][..]);
        let lock = inputs.files.lock(project, &self.resolve_args, update)?;
        let opened = checkout::open(&source, &store, &lock, progress)?;
        super::built_in::check(project, &components, &opened)?;
        lock.check()?;
        let about = self.about(project, &opened, &source.table);
        let version = self.version(project, &opened);
        let request = Request {
            about,
            version,
            go: inputs.go(project),
            platforms: platforms(&inputs.platform, project),
            compression: self.compression.or(project.compression).unwrap_or_default(),
            out: out.to_owned(),
            epoch,
            jobs: self.jobs(),
            sandbox: self.sandbox_for(project.sandbox)?,
            ..Request::of(project, components, base, opened, &source.table)?
        };
        Ok((request, store, lock))
    }

    /// Refuses files of this machine that `archive` requests and the user did not allow. Relative paths of its `project` are in
    /// the folder of the project's file or of the source, which the user names, and so are in `folder` where there is neither.
    ///
    /// # Errors
    /// When there is something of the kind.
    pub(super) fn allow_again(
        &self,
        archive: &Utf8Path,
        claimed: &Provenance,
        project: &mut Project,
        folder: &Utf8Path,
    ) -> Result<(), Error> {
        let beside = self.inputs.beside_again();
        project.look_in(beside.as_deref().unwrap_or(folder));
        let allowed = self.inputs.allow.named(beside.as_deref())?;
        let base = project.base.as_deref().unwrap_or(DEFAULT_REFERENCE).parse::<base::Spec>()?;
        let source = if self.inputs.source_dir.is_some() { None } else { claimed.source.host_path() };
        let paths = project.host_paths().map(Utf8PathBuf::as_path).chain(base.host_path()).chain(source.as_deref());
        let mut refused = Vec::new();
        for path in paths {
            if !allowed.holds(path)? {
                refused.push(path.to_string());
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        Err(ProvenanceError::HostPaths { archive: archive.to_string(), paths: refused }.into())
    }

    /// What to build to make the images of `archive` again, as it claims that they were made; `project` is what it says of
    /// that, and `folder` one for what is written meanwhile.
    ///
    /// Whoever made the archive may have it run any command: without the user's word that is done in a sandbox alone.
    pub(super) fn again<'a>(
        &self,
        archive: &Utf8Path,
        claimed: &Provenance,
        project: &'a Project,
        folder: &Utf8Path,
        progress: &Progress,
    ) -> Result<(Request<'a>, Store, Lock), Error> {
        if let Some(option) = self.decisive() {
            return Err(Error::Usage(format!(
                "checking {archive}: {option} cannot be set, because the archive determines it"
            )));
        }
        let no_folder = || ProvenanceError::NoFolder { archive: archive.to_string() };
        let source = self.inputs.source_again(&claimed.source).ok_or_else(no_folder)?;
        let source = SourceSpec { edits: project.edits.clone(), go: project.go.clone(), ..source };
        let base = project.base.as_deref().unwrap_or(DEFAULT_REFERENCE).parse::<base::Spec>()?;
        let store = self.common.store()?;
        let lock = claimed.lock(archive, &folder.join(lock::FILE_NAME), self.resolve_args.network()?)?;
        let opened = checkout::open(&source, &store, &lock, progress)?;
        let beside = self.inputs.beside_again();
        let user = Settings { mode: Some(Mode::Required), ..Config::of_user()?.sandbox()? };
        // What the build that is repeated may have left beside the source.
        let outside =
            [opened.outside.clone(), vec![store.path().to_owned(), opened.dir.join(lock::FILE_NAME)]].concat();
        let base = base.with_debian(self.inputs.debian.over(&project.debian)?)?;
        let request = Request {
            project_dir: beside.unwrap_or_else(|| folder.to_owned()),
            about: claimed.about.clone(),
            version: project.version.clone(),
            outside,
            out: folder.join("again"),
            epoch: claimed.epoch,
            jobs: self.jobs(),
            sandbox: self.sandbox.settings().with(user, Settings::default()).0.sandbox(),
            ..Request::of(project, project.select(&[])?, base, opened, &source.table)?
        };
        Ok((request, store, lock))
    }

    /// The sandbox for a project that asks for this. What it asks for in vain is said, and so is that nothing confines it.
    fn sandbox_for(&self, project: Settings) -> Result<Sandbox, Error> {
        let (settings, refused) = self.sandbox.settings().with(Config::of_user()?.sandbox()?, project);
        for one in refused {
            tracing::warn!("{one}");
        }
        if settings.mode == Some(Mode::Off) {
            tracing::warn!("running programs without a sandbox, as --sandbox or the user's settings specify");
        }
        Ok(settings.sandbox())
    }

    /// An option that says what images are made of, if any was given: of an archive that is made again, it says so itself.
    fn decisive(&self) -> Option<&'static str> {
        let given = [
            ("--stamp", !self.stamp.is_empty()),
            ("--compression", self.compression.is_some()),
            ("--update", self.update),
        ];
        let given = given.into_iter().find_map(|(name, given)| given.then_some(name));
        given.or(self.inputs.decisive()).or(self.resolve_args.decisive()).or(self.caches.decisive())
    }

    fn jobs(&self) -> usize {
        self.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
    }

    /// What images say of their source: nothing that is not known.
    fn about(&self, project: &Project, source: &Source, asked: &SourceTable) -> About {
        let revision = source.revision.as_ref();
        let cloned = revision.map(|revision| revision.version.clone()).filter(|version| version != "HEAD");
        let commit = revision.and_then(|revision| revision.commit.clone());
        let known = &project.version;
        About {
            source: asked.repo.as_deref().and_then(About::address),
            revision: self.stamp(|stamp| matches!(stamp, Stamp::Commit)).or_else(|| known.commit.clone()).or(commit),
            version: self.stamp(|stamp| matches!(stamp, Stamp::Version)).or_else(|| known.version.clone()).or(cloned),
        }
    }

    /// What the command line stamps with; the last word counts.
    fn stamp(&self, wanted: fn(Stamp) -> bool) -> Option<String> {
        self.stamp.iter().rev().find(|(stamp, _)| wanted(*stamp)).map(|(_, value)| value.clone())
    }

    /// What stamps say: as the command line has it, else what is known without it.
    fn version(&self, project: &Project, source: &Source) -> VersionTable {
        let known = stamps(project, source);
        VersionTable {
            version: self.stamp(|stamp| matches!(stamp, Stamp::Version)).or(known.version),
            commit: self.stamp(|stamp| matches!(stamp, Stamp::Commit)).or(known.commit),
            date: self.stamp(|stamp| matches!(stamp, Stamp::Date)).or(known.date),
        }
    }
}

fn parse_stamp(text: &str) -> Result<(Stamp, String), String> {
    let stamp = match text.split_once('=') {
        Some(("version", value)) => (Stamp::Version, value),
        Some(("commit", value)) => (Stamp::Commit, value),
        Some(("date", value)) => (Stamp::Date, value),
        _ => return Err("use version=VALUE, commit=VALUE or date=VALUE".to_owned()),
    };
    Ok((stamp.0, stamp.1.to_owned()))
}

/// The last second of the year 9999: beyond it others cannot read the time in an image's configuration.
const LATEST: u64 = 253_402_300_799;

/// The time recorded in outputs: `SOURCE_DATE_EPOCH` (reproducible-builds.org) if set, else 1970.
fn epoch() -> Result<u64, Error> {
    match std::env::var_os("SOURCE_DATE_EPOCH") {
        Some(text) if !text.is_empty() => parse_epoch(&text.to_string_lossy()).map_err(Error::Usage),
        _ => Ok(0),
    }
}

fn parse_epoch(text: &str) -> Result<u64, String> {
    let refuse = |why: &str| Err(format!("SOURCE_DATE_EPOCH is {text:?}, and {why}"));
    if text.strip_prefix('-').is_some_and(|rest| rest.parse::<u64>().is_ok()) {
        return refuse("times before 1970 are not portable between image tools: set it to 0 or more");
    }
    match text.parse::<u64>() {
        Ok(seconds) if seconds <= LATEST && !text.starts_with('+') => Ok(seconds),
        _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            refuse(&format!("times after the year 9999 ({LATEST}) are not portable between image tools"))
        }
        _ => refuse("it must be a whole number of seconds since 1970, as `date +%s` prints it"),
    }
}

#[cfg(test)]
mod tests {
    use super::{LATEST, parse_epoch};

    #[test]
    fn a_time_is_a_number_of_seconds_that_others_can_read() {
        for (text, seconds) in [("0", 0), ("1700000000", 1_700_000_000), ("253402300799", LATEST)] {
            assert_eq!(parse_epoch(text).unwrap(), seconds);
        }
        let cases = [
            ("-1", "times before 1970"),
            ("253402300800", "after the year 9999"),
            ("18446744073709551616", "after the year 9999"),
            ("1700000000.5", "whole number"),
            (" 1", "whole number"),
            ("1\n", "whole number"),
            ("+5", "whole number"),
            ("0x10", "whole number"),
            ("--1", "whole number"),
            ("-", "whole number"),
        ];
        for (text, why) in cases {
            let said = parse_epoch(text).unwrap_err();
            assert!(said.contains(why), "{text:?} gave {said:?}");
        }
    }
}
