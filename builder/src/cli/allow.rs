//! The option that allows a project to read private files.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;

use crate::Error;
use crate::allowed::Allowed;
use crate::config::Config;
use crate::project::Project;

#[derive(Debug, Args)]
pub(super) struct AllowOptions {
    /// Let the project read this file or folder although it is private
    ///
    /// A check of an archive reads no other files of this machine than those.
    #[arg(long, value_name = "PATH")]
    allow_path: Vec<Utf8PathBuf>,
}

impl AllowOptions {
    /// What the command line allows, and `more`.
    ///
    /// # Errors
    /// When a path cannot be resolved.
    pub(super) fn named(&self, more: Option<&Utf8Path>) -> Result<Allowed, Error> {
        let paths = self.allow_path.iter().map(Utf8PathBuf::as_path).chain(more);
        { paths }.try_fold(Allowed::default(), Allowed::and)
    }

    /// What `project` may read: what is in its own folder, and what the user allows, who names `more`.
    ///
    /// # Errors
    /// When a path cannot be resolved, or the user's settings cannot be read.
    pub(super) fn of(&self, project: &Project, more: Option<&Utf8Path>) -> Result<Allowed, Error> {
        let settings = Config::of_user()?;
        let paths = settings.allow_paths.iter().map(Utf8PathBuf::as_path);
        let allowed = { paths }.try_fold(self.named(more)?, Allowed::and)?;
        match project.dir() {
            Some(dir) => allowed.and_project(dir, home().as_deref()),
            None => Ok(allowed),
        }
    }
}

/// The home folder of this user, who may have none.
fn home() -> Option<Utf8PathBuf> {
    std::env::home_dir().and_then(|home| Utf8PathBuf::try_from(home).ok())
}
