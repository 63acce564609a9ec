//! What to build: the request that a command makes and a build carries out.

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
use crate::project::{Component, Edit, Project, SourceTable, VersionTable};
use crate::source::{OUT, Source};

/// What to build, every choice made.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) components: Vec<&'a Component>,
    pub(crate) source: Arc<Source>,
    /// The version of Go to compile with; the installed one when nothing is said.
    pub(crate) go: Option<String>,
    /// What stamps say.
    pub(crate) version: VersionTable,
    pub(crate) base: Spec,
    pub(crate) platforms: Vec<Platform>,
    pub(crate) compression: Compression,
    /// The folder of the archives.
    pub(crate) out: Utf8PathBuf,
    /// Folders that are no part of the source, besides those that are written to.
    pub(crate) outside: Vec<Utf8PathBuf>,
    /// Where files that are added to images come from.
    pub(crate) project_dir: Utf8PathBuf,
    /// What images say of what they were made from.
    pub(crate) about: About,
    /// What archives say of how their images were made, as far as it is known.
    pub(crate) recipe: Recipe,
    /// The time in everything that is made, in seconds since 1970.
    pub(crate) epoch: u64,
    /// How many components are worked on at once.
    pub(crate) jobs: usize,
    /// Where programs run that make files.
    pub(crate) sandbox: Sandbox,
}

impl<'a> Request<'a> {
    /// The request for these components of `project` and its opened `source`, where nothing but the project decides: images
    /// say nothing of their source, and time is 1970. `place` names the source.
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
            source: Arc::new(source),
            base,
            platforms: platforms(&[], project),
            compression: project.compression.unwrap_or_default(),
            out: OUT.into(),
            outside: Vec::new(),
            project_dir: project.dir().map_or_else(Utf8PathBuf::new, ToOwned::to_owned),
            about: About::default(),
            recipe: Recipe::of(project, place)?,
            epoch: 0,
            jobs: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            sandbox: Sandbox::find(Mode::default(), Limits::default()),
        })
    }

    /// The same, to be built in another store than `store`, in another environment and by one compiler at a time; archives go
    /// to the folder `out`.
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

/// The values of stamps unless the command line sets them: the project's, else those of the fetched revision. A folder's
/// stamps are fixed: its binaries depend on its files alone, wherever and whenever it is built, with or without a `.git`.
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

/// The platforms to build for: the requested ones, else the project's, else linux/amd64.
pub(crate) fn platforms(asked: &[Platform], project: &Project) -> Vec<Platform> {
    let mut platforms = if asked.is_empty() { project.platforms.clone() } else { asked.to_vec() };
    platforms.sort();
    platforms.dedup();
    if platforms.is_empty() { vec![Platform::default()] } else { platforms }
}
/// The part of the provenance that is known before the build.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// The project file, without what is of this machine.
    pub(crate) project: Value,
    /// The patches that its edits name.
    pub(crate) patches: BTreeMap<String, String>,
    /// Where the source is from; empty for a folder.
    pub(crate) source: SourceTable,
}

impl Recipe {
    /// What `project`, read with the choices of a command line, is built by.
    ///
    /// # Errors
    /// When a patch cannot be read.
    pub(crate) fn of(project: &Project, place: &SourceTable) -> Result<Self, Error> {
        let mut table = project.table.clone();
        // Neither where things are on this machine, nor how it builds.
        if let Some(table) = table.as_object_mut() {
            for name in ["source", "caches", "sandbox"] {
                table.remove(name);
            }
        }
        let mut patches = BTreeMap::new();
        for (number, edit) in project.edits.iter().enumerate() {
            if let Edit::Patch(path) = edit {
                let name = format!("{number}.patch");
                patches.insert(name.clone(), text::read(path).map_err(Error::unreadable("patch", path))?);
                table["edits"][number] = json!({ "patch": name });
            }
        }
        let source = SourceTable { dir: None, ..place.clone() };
        Ok(Self { project: table, patches, source })
    }
}
