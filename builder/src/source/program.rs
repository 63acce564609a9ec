//! Runs git so that the files of a source depend only on its commit: the user's settings determine how a repository is
//! accessed, but not its content.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use vcnetwork::http;
use vcstore::Store;

use crate::Error;
use crate::source::FileHash;

/// The settings that replace the user's. The owner of a repository does not matter, because git runs nothing from it.
const SETTINGS: &str = "[safe]\n\tdirectory = *\n";

/// The variables that select git's repository, and how git stores and serves it. git sets them for its hooks (`git
/// rev-parse --local-env-vars`, without those of settings), but a build in a hook uses other repositories.
const OF_A_REPOSITORY: [&str; 25] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ATTR_SOURCE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DEFAULT_HASH",
    "GIT_DEFAULT_REF_FORMAT",
    "GIT_DIR",
    "GIT_GLOB_PATHSPECS",
    "GIT_GRAFT_FILE",
    "GIT_ICASE_PATHSPECS",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_LITERAL_PATHSPECS",
    "GIT_NAMESPACE",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_TEMPLATE_DIR",
    "GIT_WORK_TREE",
];

/// The installed git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Git {
    /// A folder that replaces the user's home and contains [`SETTINGS`].
    home: Utf8PathBuf,
}

impl Git {
    /// Writes the settings to the store.
    ///
    /// # Errors
    /// When the settings cannot be written.
    pub(crate) fn new(store: &Store) -> Result<Self, Error> {
        let home = store.cache_dir("git")?.join("home");
        let home = camino::absolute_utf8(&home).map_err(Error::io("finding", &home))?;
        write(&home.join(".gitconfig"), SETTINGS)?;
        Ok(Self { home })
    }

    /// Returns git without the settings of the user and the machine, for all commands that read or write files.
    pub(crate) fn isolated(&self) -> Command {
        let mut git = git();
        // Remove all variables, except the path of git's own programs and the trace settings.
        let kept = |name: &str| name == "GIT_EXEC_PATH" || name.starts_with("GIT_TRACE");
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("GIT_") && !kept(name)) {
                git.env_remove(name);
            }
        }
        git.env("HOME", &self.home).env("XDG_CONFIG_HOME", &self.home);
        git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_ATTR_NOSYSTEM", "1");
        git.args([
            "-c",
            "core.attributesFile=/dev/null",
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.fsmonitor=false",
        ]);
        git
    }

    /// Returns git with the user's settings, for fetching and for queries of the user's view. Settings for access to
    /// repositories (credentials, addresses, proxies, keys) apply; hooks do not.
    ///
    /// # Errors
    /// When the settings cannot be written.
    pub(crate) fn of_user(&self) -> Result<Command, Error> {
        let mut settings = String::new();
        if std::env::var_os("GIT_SSH").is_none() {
            // The user's own ssh command is included later, and overrides this one.
            let arguments = vcremote::options::arguments(vcremote::options::NOTHING_LENT).collect::<Vec<_>>().join(" ");
            settings += &format!("[core]\n\tsshCommand = ssh {arguments}\n");
        }
        for path in user_settings() {
            let Some(path) = path.to_str() else { continue };
            let quoted = path.replace('\\', "\\\\").replace('"', "\\\"");
            settings += &format!("[include]\n\tpath = \"{quoted}\"\n");
        }
        settings += SETTINGS;
        let path = self.home.join(format!("user-{}", FileHash::of(settings.as_bytes())));
        write(&path, &settings)?;
        let mut git = git();
        for name in OF_A_REPOSITORY {
            git.env_remove(name);
        }
        http::of_programs(&mut git).env("GIT_CONFIG_GLOBAL", path).args(["-c", "core.hooksPath=/dev/null"]);
        Ok(git)
    }
}

fn git() -> Command {
    let mut git = Command::new("git");
    // A password prompt would block forever.
    git.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    git
}

/// Returns the paths of the user's settings files, as git finds them. git ignores missing ones.
fn user_settings() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = std::env::var_os("GIT_CONFIG_GLOBAL") {
        return if path == OsStr::new("") { Vec::new() } else { std::path::absolute(path).into_iter().collect() };
    }
    let home = set("HOME");
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    let found = [config.map(|folder| folder.join("git/config")), home.map(|home| home.join(".gitconfig"))];
    found.into_iter().flatten().collect()
}

/// Writes a file, unless it has this content: other processes may be reading it.
fn write(path: &Utf8Path, content: &str) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|known| known == content.as_bytes()) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(Error::io("making", folder))?;
    vcstore::atomic::replace(path, content.as_bytes()).map_err(Error::io("writing", path))
}
