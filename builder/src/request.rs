//! The build request that a command creates and a build executes.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use camino::Utf8PathBuf;
use serde_json::{Value, json};
use vcsandbox::{Environment, Limits, Mode, Sandbox};
use vcstore::text;
use vcstore::{Compression, Platform, Store};

use crate::Error;
use crate::base::Spec;
use crate::image::About;
use crate::project::{Change, Component, Project, SourceTable, VersionTable};
use crate::source::{OUT, Source};

/// A build request with all choices resolved.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) components: Vec<&'a Component>,
    pub(crate) source: Arc<Source>,
    /// The version of Go to compile with; the installed Go if `None`.
    pub(crate) go: Option<String>,
    /// The values of stamps.
    pub(crate) version: VersionTable,
    pub(crate) base: Spec,
    pub(crate) platforms: Vec<Platform>,
    pub(crate) compression: Compression,
    /// The output folder for archives.
    pub(crate) out: Utf8PathBuf,
    /// Folders that are not part of the source, in addition to those that vcbuild writes.
    pub(crate) outside: Vec<Utf8PathBuf>,
    /// The folder of the project file, from which files are added to images.
    pub(crate) project_dir: Utf8PathBuf,
    /// The origin of the source, for the annotations of images.
    pub(crate) about: About,
    /// The build instructions for the provenance of archives.
    pub(crate) recipe: Recipe,
    /// The time stamp of all outputs, in seconds since 1970.
    pub(crate) epoch: u64,
    /// The maximum number of components that are built in parallel.
    pub(crate) jobs: usize,
    /// The sandbox or build host that runs build programs.
    pub(crate) sandbox: Sandbox,
}

impl<'a> Request<'a> {
    /// Creates a request for these components of `project` and its opened `source`, with the project's settings and
    /// defaults: images have no annotations about their source, and the time stamp is 1970. `place` is the location of
    /// the source.
    ///
    /// # Errors
    /// When a patch of the project cannot be read.
    pub(crate) fn of(
        project: &'a Project,
        components: Vec<&'a Component>,
        base: Spec,
        source: Source,
        place: &SourceTable,
    ) -> Result<Self, Error> {
        Ok(Self {
            components,
            go: project.go.clone(),
            version: stamps(project, &source),
            recipe: Recipe::of(project, place, &source)?,
            source: Arc::new(source),
            base,
            platforms: platforms(&[], project),
            compression: project.compression.unwrap_or_default(),
            out: OUT.into(),
            outside: Vec::new(),
            project_dir: project.dir().map_or_else(Utf8PathBuf::new, ToOwned::to_owned),
            about: About::default(),
            epoch: 0,
            jobs: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            sandbox: Sandbox::find(Mode::default(), Limits::default()),
        })
    }

    /// Returns the same request for a build in another environment, with one compiler at a time, and with archives in
    /// the folder `out`. Excludes `store`, the first build's store, from the source.
    pub(crate) fn elsewhere(&self, store: &Store, environment: Environment, out: Utf8PathBuf) -> Self {
        Self {
            out,
            // The store may be in the folder of the source, but is not part of it.
            outside: vec![store.path().to_owned()],
            jobs: 1,
            sandbox: self.sandbox.elsewhere(environment),
            ..self.clone()
        }
    }
}

/// The default version stamp of a source folder.
pub(crate) const UNSTAMPED: &str = "v0.0.0";

/// Returns the values of stamps unless the command line sets them: the project's, or else those of the fetched
/// revision. The stamps of a folder are fixed: its binaries depend only on its files, whenever and wherever it is
/// built, with or without a `.git`.
pub(crate) fn stamps(project: &Project, source: &Source) -> VersionTable {
    let (known, revision) = (&project.version, source.revision.as_ref());
    let version = || revision.map_or_else(|| UNSTAMPED.to_owned(), |revision| revision.version.clone());
    let commit = || revision.and_then(|revision| revision.commit.clone()).unwrap_or_else(|| "unknown".to_owned());
    VersionTable {
        version: Some(known.version.clone().unwrap_or_else(version)),
        commit: Some(known.commit.clone().unwrap_or_else(commit)),
        date: Some(known.date.clone().unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())),
    }
}

/// Returns the platforms to build for: the requested ones, or else the project's, or else linux/amd64.
pub(crate) fn platforms(asked: &[Platform], project: &Project) -> Vec<Platform> {
    let mut platforms = if asked.is_empty() { project.platforms.clone() } else { asked.to_vec() };
    platforms.sort();
    platforms.dedup();
    if platforms.is_empty() { vec![Platform::default()] } else { platforms }
}
/// The part of the provenance that is known before the build.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// The project file without settings of this machine.
    pub(crate) project: Value,
    /// The patches that its edits refer to, by name.
    pub(crate) patches: BTreeMap<String, String>,
    /// The origin of the source; empty for a folder.
    pub(crate) source: SourceTable,
}

impl Recipe {
    /// Creates the recipe of `project`, which includes the options of the command line, without the edits that do not
    /// apply to `source`.
    ///
    /// # Errors
    /// When a patch cannot be read.
    pub(crate) fn of(project: &Project, place: &SourceTable, source: &Source) -> Result<Self, Error> {
        let mut project = project.clone();
        project.keep_edits(|name| !source.skipped_edits.contains_key(name));
        let mut table = project.table;
        // Neither locations on this machine, nor its build settings.
        if let Some(table) = table.as_object_mut() {
            for name in ["source", "caches", "sandbox"] {
                table.remove(name);
            }
        }
        let mut patches = BTreeMap::new();
        for (number, edit) in project.edits.iter().enumerate() {
            if let Change::Patch(path) = &edit.change {
                let name = format!("{number}.patch");
                patches.insert(name.clone(), text::read(path).map_err(Error::unreadable("patch", path))?);
                table["edits"][number] = json!({ "patch": name });
            }
        }
        let source = SourceTable { dir: None, ..place.clone() };
        Ok(Self { project: table, patches, source })
    }
}
