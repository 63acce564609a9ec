//! The interface of component kinds: the context and targets that they build with, and the files that they return.

use camino::Utf8PathBuf;
use vcsandbox::Sandbox;
use vcstore::{Action, Blob, Outputs, Platform, Store};

use crate::Error;
use crate::lock::Lock;
use crate::progress::Progress;
use crate::project::{Component, VersionTable};
use crate::source::Source;

/// The inputs and services of a build that all kinds share.
pub(crate) struct BuildContext<'a> {
    pub(crate) source: &'a Source,
    /// The version of Go to compile with; the installed Go if `None`.
    pub(crate) go: Option<&'a str>,
    /// The values that binaries are stamped with.
    pub(crate) version: &'a VersionTable,
    pub(crate) store: &'a Store,
    /// The pinned inputs, and whether the network may be used to resolve them.
    pub(crate) lock: &'a Lock,
    /// Files and folders that vcbuild writes during the build, which are not part of the source; absolute paths.
    pub(crate) outside: Vec<Utf8PathBuf>,
    /// The maximum number of compilers that run in parallel.
    pub(crate) jobs: usize,
    /// The sandbox or build host that runs the programs.
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) progress: &'a Progress,
}

impl BuildContext<'_> {
    /// Realises an action that runs a program in the sandbox. Reuses outputs only if their run was as confined as this one
    /// would be.
    ///
    /// # Errors
    /// As [`Progress::realise`].
    pub(crate) fn realise(
        &self,
        action: &Action,
        run: impl FnOnce() -> Result<Outputs, Error>,
    ) -> Result<Outputs, Error> {
        self.progress.realise_if(self.store, action, |outputs| self.sandbox.takes(outputs), run)
    }

    /// Returns whether such an action must run because the store has no usable outputs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn must_run(&self, action: &Action) -> Result<bool, Error> {
        Ok(self.store.recall_if(&action.key()?, |outputs| self.sandbox.takes(outputs))?.is_none())
    }
}

/// A component to build for a platform; `program` has the settings of its kind.
pub(crate) struct BuildTarget<'a, Program> {
    pub(crate) component: &'a Component,
    pub(crate) platform: &'a Platform,
    pub(crate) program: &'a Program,
}

/// The built files of a component for a platform: outputs of actions, in the store.
pub(crate) struct BuiltFiles<'a> {
    pub(crate) component: &'a Component,
    pub(crate) platform: &'a Platform,
    pub(crate) files: Vec<BuiltFile>,
}

/// A built file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuiltFile {
    /// The absolute path in the image.
    pub(crate) path: String,
    /// The permission bits.
    pub(crate) mode: u32,
    pub(crate) content: Blob,
}
