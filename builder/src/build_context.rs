//! What every kind of builder is given to build with, and what it gives back.

use camino::Utf8PathBuf;
use vcsandbox::Sandbox;
use vcstore::{Action, Blob, Outputs, Platform, Store};

use crate::Error;
use crate::lock::Lock;
use crate::progress::Progress;
use crate::project::{Component, VersionTable};
use crate::source::Source;

/// Where building takes place.
pub(crate) struct BuildContext<'a> {
    pub(crate) source: &'a Source,
    /// The version of Go to compile with; the installed one when nothing is said.
    pub(crate) go: Option<&'a str>,
    /// What stamps say.
    pub(crate) version: &'a VersionTable,
    pub(crate) store: &'a Store,
    /// What inputs are pinned to, and whether the network may be used for them.
    pub(crate) lock: &'a Lock,
    /// Files and folders that vcbuild writes meanwhile, wherever they are: they are no part of the source. Absolute.
    pub(crate) outside: Vec<Utf8PathBuf>,
    /// How many compilers may be at work at once.
    pub(crate) jobs: usize,
    /// Where programs run that make files.
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) progress: &'a Progress,
}

impl BuildContext<'_> {
    /// The outputs of an action that runs a program in the sandbox: of a run that was confined, where this one would be.
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

    /// Whether such an action must run for its outputs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn must_run(&self, action: &Action) -> Result<bool, Error> {
        Ok(self.store.recall_if(&action.key()?, |outputs| self.sandbox.takes(outputs))?.is_none())
    }
}

/// A component whose files are wanted for a platform; `program` is what its kind says of it.
pub(crate) struct BuildTarget<'a, Program> {
    pub(crate) component: &'a Component,
    pub(crate) platform: &'a Platform,
    pub(crate) program: &'a Program,
}

/// The files of a component for a platform: outputs of actions, in the store.
pub(crate) struct BuiltFiles<'a> {
    pub(crate) component: &'a Component,
    pub(crate) platform: &'a Platform,
    pub(crate) files: Vec<BuiltFile>,
}

/// A file that was made for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuiltFile {
    /// Where it is in the image; absolute.
    pub(crate) path: String,
    /// Its permissions.
    pub(crate) mode: u32,
    pub(crate) content: Blob,
}
